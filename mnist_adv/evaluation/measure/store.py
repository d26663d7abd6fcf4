"""The folder of an evaluation: a manifest and one result file per chunk, each complete or absent.

Files are written under a temporary name, flushed to the disk and renamed, and hold the same bytes
for the same content: npz members carry no clock, JSON is sorted where order means nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mnist_adv import files
from mnist_adv.evaluation.plan import Chunk, Plan

MANIFEST, CHUNKS, TIMING = "manifest.json", "chunks", "timing.json"
_SEAL = 2 + 64
_NO_COMMENT = b"\0\0"  # ends a zip archive: the length of its comment
# Attack, or "ensemble/part" -> "images" attacked over all budgets, seconds in the "attack", and in
# "all", which is with rounding and verification.
Timing = dict[str, dict[str, float]]


class Store:
    """The results of one plan, on disk; one process at a time, see `files.alone`.

    Args:
        folder: made if missing. If it is there it must be empty, of the same plan, of one that
            differs in the number of images alone, or without any result.
        plan: what is measured.

    Attributes:
        notes: what became of an evaluation that was there, one line each.
        damaged: the result files that `missing` found damaged.

    Raises:
        ValueError: the folder belongs to other settings (they are named), or to something else.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: str | os.PathLike[str], plan: Plan) -> None:
        self.folder = pathlib.Path(folder)
        self.plan = plan
        self.notes: list[str] = []
        self.damaged: list[pathlib.Path] = []
        manifest = self.folder / MANIFEST
        if manifest.exists():
            self._take_over(manifest)
        else:
            self._begin(manifest)
        (self.folder / CHUNKS).mkdir(exist_ok=True)

    def _begin(self, manifest: pathlib.Path) -> None:
        if self.folder.exists() and any(
            not path.name.startswith(files.TEMPORARY) for path in self.folder.iterdir()
        ):
            raise ValueError(f"{self.folder} holds something else; choose another --name")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(manifest)

    def _write(self, manifest: pathlib.Path) -> None:
        content = {"digest": self.plan.digest, "settings": self.plan.settings()}
        files.write(manifest, json_bytes(content))

    def _take_over(self, manifest: pathlib.Path) -> None:
        """Go on with a folder of the same settings, or of other ones that left no result."""
        there, digest = _read_manifest(manifest)
        here = json.loads(json.dumps(self.plan.settings()))
        different = [
            f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
            for name in {**here, **there}
            if there.get(name) != here.get(name)
        ]
        count = there.get("num_images")
        if not different and digest == self.plan.digest:
            return
        if len(different) == 1 and count != self.plan.num_images:
            self.notes.append(
                f"{self.folder}: its report of {count} images becomes one of "
                f"{self.plan.num_images}; what is measured is kept"
            )
        elif any((self.folder / CHUNKS).glob("*.npz")):
            raise ValueError(
                f"{self.folder} belongs to other settings: "
                f"{'; '.join(different) or 'its digest differs'}; choose another --name"
            )
        self._write(manifest)

    def path(self, chunk: Chunk) -> pathlib.Path:
        """Name a chunk's result file.

        Args:
            chunk: any of the plan.

        Returns:
            The path, whether the file is there or not.
        """
        return self.folder / CHUNKS / f"{self._stem(chunk)}.npz"

    def _stem(self, chunk: Chunk) -> str:
        # A last chunk that is shorter stands beside the whole one of a longer evaluation.
        count = chunk.end - chunk.first
        part = "" if count == self.plan.chunk_size else f"-{count}"
        return f"{chunk.number:06d}{part}"

    def missing(self) -> list[Chunk]:
        """List the chunks that have no intact result file of this plan.

        Returns:
            The chunks in order.
        """
        missing = [chunk for chunk in self.plan.chunks() if not self._intact(chunk)]
        self.damaged = [path for path in map(self.path, missing) if path.exists()]
        return missing

    def put(self, chunk: Chunk, content: bytes, timing: Timing | None = None) -> None:
        """Write a chunk's result file, and its time into `timing.json`.

        Args:
            chunk: which.
            content: from `pack`.
            timing: how long each attack took, if known.
        """
        files.write(self.path(chunk), content)
        if timing is not None:
            kept = {**self._kept_times(), self._stem(chunk): timing}
            files.write(self.folder / TIMING, json_bytes(dict(sorted(kept.items()))))

    def timing(self) -> list[Timing]:
        """List how long chunks took.

        Returns:
            One entry per chunk whose time is known.
        """
        kept = self._kept_times()
        stems = map(self._stem, self.plan.chunks())
        return [kept[stem] for stem in stems if stem in kept]

    def _kept_times(self) -> dict[str, Timing]:
        try:
            kept = json.loads((self.folder / TIMING).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}  # times are no result
        known = kept if isinstance(kept, dict) else {}
        return {stem: timing for stem, timing in known.items() if _is_timing(timing)}

    def read(self, names: tuple[str, ...] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Read the result files in order, one in memory at a time.

        Args:
            names: which arrays, of those that are there; None: all.

        Yields:
            name -> array.
        """
        for chunk in self.plan.chunks():
            yield self.read_chunk(chunk, names)

    def read_chunk(
        self, chunk: Chunk, names: tuple[str, ...] | None = None
    ) -> dict[str, np.ndarray]:
        """Read one chunk's result file.

        Args:
            chunk: which.
            names: which arrays, of those that are there; None: all.

        Returns:
            name -> array.
        """
        with np.load(self.path(chunk), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names or arrays.files if name in arrays.files}

    def sweep(self) -> None:
        """Remove the temporary files of killed runs."""
        for folder in (self.folder, self.folder / CHUNKS):
            files.sweep(folder)

    def _intact(self, chunk: Chunk) -> bool:
        try:
            content = self.path(chunk).read_bytes()
        except OSError:
            return False
        return content == _sealed(content[:-_SEAL], self.plan.chunk_digest(chunk))


def pack(arrays: Mapping[str, np.ndarray], digest: str) -> bytes:
    """Encode arrays as npz, always in the same bytes.

    Args:
        arrays: name -> array, of no object dtype.
        digest: of the plan that they belong to.

    Returns:
        What `np.load(..., allow_pickle=False)` reads, with a checksum over all of it as the zip
        archive's comment: those of its members guard neither their names nor the directory.
    """
    content = io.BytesIO()
    # NumPy's own function compresses three times as long, for a tenth less.
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
    without_comment = content.getvalue()[: -len(_NO_COMMENT)]
    return _sealed(without_comment, digest)


def _sealed(archive: bytes, digest: str) -> bytes:
    """Complete an archive that lacks the length of its comment, which ends it."""
    return archive + _seal(hashlib.sha256(digest.encode() + archive).hexdigest().encode())


def _seal(comment: bytes) -> bytes:
    return len(comment).to_bytes(len(_NO_COMMENT), "little") + comment


def _is_timing(timing: Any) -> bool:
    """Tell times that can be divided by; a damaged file may say anything."""
    return isinstance(timing, dict) and all(
        isinstance(kept, dict)
        and {"images", "attack", "all"} <= set(kept)
        and all(
            isinstance(value, float | int) and math.isfinite(value) and value > 0
            for value in kept.values()
        )
        for kept in timing.values()
    )


def json_bytes(content: Any) -> bytes:
    """Encode as JSON.

    Args:
        content: lists, dicts, strings, numbers, None.

    Returns:
        Indented UTF-8.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _read_manifest(manifest: pathlib.Path) -> tuple[dict[str, Any], str]:
    try:
        there = json.loads(manifest.read_text())
        return dict(there["settings"]), str(there["digest"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{manifest} is damaged: {error!r}; choose another --name") from error
