"""Commands killed at any moment, two at once, and on a disk that is too small."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import shutil
import signal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_adv.commands import cli
from mnist_adv.models import checkpoints
from mnist_adv.models.formats.open import open_model
from tests.evaluation.support import contents
from tests.faults import command_flags, processes
from tests.faults.campaign import Campaign, Ended, Outcome

_COMMANDS = ("train", "attack", "convert", "evaluate")
_KINDS = ("model.ckpt", "model.npz", "ours")
_FOLDER, _OLD, _NEW = "work", "old", "new"
_DATA = "--dataset=../digits"
_SMALLEST, _LARGEST = 4096, 400_000  # bytes


class _Wrong(Exception):
    """What must not be, and which outcome it is."""

    def __init__(self, outcome: Outcome, description: str) -> None:
        super().__init__(description)
        self.outcome = outcome


def _arguments(name: str, version: str, kind: str = _KINDS[0]) -> list[str]:
    """The old run of a command in a folder, or the new one, which replaces what that left."""
    new = version == _NEW
    seed = f"--seed={int(new)}"
    ours = "--checkpoint_dir=../checkpoints"
    return {
        "train": [
            *(_DATA, "--checkpoint_dir=checkpoints", "--logdir=logs", seed),
            *("--num_epochs=2", "--batch_size=20", "--learning_rate=0.5"),
        ],
        "attack": [_DATA, ours, "--num_steps=5", f"--index={int(new)}", "--name=mine"],
        "convert": [
            *(f"--source=../{version}.npz", f"--destination=made/{kind}", _DATA, "--overwrite"),
            *(["--format=checkpoint"] if kind == "ours" else []),
        ],
        "evaluate": [
            *(_DATA, ours, "--num_images=6", "--chunk_size=2", "--num_steps=2", "--name=run"),
            *("--epsilons=0,0.1", "--attack=pgd,fgsm", "--certify", seed),
        ],
    }[name]


def _prepare(made: pathlib.Path) -> None:
    """Make a model, and weights to convert."""
    command_flags.CAMPAIGN.prepare(made)
    for version in (_OLD, _NEW):
        weights = np.random.default_rng(len(version)).normal(0, 1, (64, 3)).astype(np.float32)
        np.savez(made / f"{version}.npz", W=weights + (version == _NEW), b=np.ones(3, np.float32))


@functools.cache
def _unbroken(made: pathlib.Path, name: str, kind: str) -> processes.Ran:
    """Make, when a trial first needs them, the old result of a command and the new one over it."""
    folder = made / f"{name}-{kind}"
    (folder / _OLD).mkdir(parents=True)
    if name != "evaluate":  # whose folder no other settings replace
        _require_done(_run(name, folder / _OLD, made, _arguments(name, _OLD, kind)))
    shutil.copytree(folder / _OLD, folder / _NEW)
    ran = _run(name, folder / _NEW, made, _arguments(name, _NEW, kind))
    _require_done(ran)
    return ran


def _cases() -> list[tuple[str, str]]:
    return [(name, kind) for name in _COMMANDS for kind in (_KINDS if name == "convert" else ("",))]


def _run(
    name: str, folder: pathlib.Path, made: pathlib.Path, arguments: Sequence[str], **how: int
) -> processes.Ran:
    _link(made, folder.parent)
    return processes.run(name, folder, arguments, **how)


def _require_done(ran: processes.Ran) -> None:
    # Few images of noise: an evaluation's checks and an attack may fail, which is status 1.
    if ran.status not in (cli.DONE, cli.NOT_REACHED):
        raise _Wrong(Outcome.TRACEBACK, f"status {ran.status}: {ran.errors[-400:]}")


def _digest_of(path: pathlib.Path) -> str:
    if path.name == "ours" or path.name == "checkpoints":
        return checkpoints.load(path).digest
    return open_model(path, shape=(8, 8, 1)).digest


def _result(folder: pathlib.Path, name: str, kind: str) -> Any:
    """Read what a command left, as its users would; None if there is nothing yet."""
    if name == "train":
        return _digest_of(folder / "checkpoints")
    if name == "convert":
        return _digest_of(folder / "made" / kind)
    if name == "attack":
        found = contents(folder / "results" / "mine")
        record = json.loads(found["result.json"])
        return {**found, "result.json": record}
    run = folder / "results" / "run"
    return contents(run) if (run / "report.html").exists() else None


def _allowed(made: pathlib.Path, name: str, kind: str) -> list[Any]:
    """What a reader may find while the new run replaces the old."""
    folder = made / f"{name}-{kind}"
    found = [_result(folder / _NEW, name, kind)]
    if name == "evaluate":
        return [None, *found]
    if name == "train":  # and what is saved after each epoch
        found += map(_trained, sorted((folder / _NEW / "checkpoints").glob("*.index")))
    return [*found, _result(folder / _OLD, name, kind)]


def _trained(index: pathlib.Path) -> str:
    return open_model(str(index.with_suffix("")), shape=(8, 8, 1)).digest


def _check_between(work: pathlib.Path, made: pathlib.Path, name: str, kind: str) -> None:
    """Require the old or the new."""
    try:
        found = _result(work, name, kind)
    except (OSError, ValueError, KeyError) as error:
        raise _Wrong(Outcome.LOST, f"afterwards: {type(error).__name__}: {error}") from error
    if found not in _allowed(made, name, kind):
        raise _Wrong(Outcome.LOST, "afterwards neither the old nor the new result is there")


def _check_end(work: pathlib.Path, made: pathlib.Path, name: str, kind: str) -> None:
    """Require what the unbroken run left, and nothing else."""
    _check_between(work, made, name, kind)
    if _result(work, name, kind) != _result(made / f"{name}-{kind}" / _NEW, name, kind):
        raise _Wrong(Outcome.SILENT, "the end differs from that of the unbroken run")
    _require_nothing_left(work)
    if name == "train":
        files = [set(os.listdir(place / "checkpoints")) for place in (work, made / "train-" / _NEW)]
        if files[0] != files[1]:
            raise _Wrong(Outcome.SILENT, f"{sorted(files[0])} in place of {sorted(files[1])}")
    for path in (work / "logs").rglob("*.tfevents.*") if name in ("attack", "evaluate") else ():
        if not sum(1 for _ in tf.data.TFRecordDataset(str(path))):
            raise _Wrong(Outcome.LOST, f"an empty file of TensorBoard's, {path}")


def _again(work: pathlib.Path, made: pathlib.Path, name: str, kind: str) -> None:
    arguments = _arguments(name, _NEW, kind)
    if name == "train":
        newest = checkpoints.load(work / "checkpoints").config
        if newest["training"]["seed"] == 1:
            arguments = [*(each for each in arguments if "dataset" not in each), "--resume"]
    _require_done(_run(name, work, made, arguments))
    _check_end(work, made, name, kind)


def _begin(number: int, made: pathlib.Path, work: pathlib.Path) -> tuple[str, str, pathlib.Path]:
    cases = _cases()
    name, kind = cases[number % len(cases)]
    _unbroken(made, name, kind)
    folder = work / _FOLDER
    shutil.copytree(made / f"{name}-{kind}" / _OLD, folder)
    return name, kind, folder


def _judged(fault: str, check: Callable[[], Outcome]) -> Ended:
    try:
        return Ended(check(), fault)
    except _Wrong as wrong:
        return Ended(wrong.outcome, f"{fault}: {wrong}")


def _kill(number: int, made: pathlib.Path, work: pathlib.Path) -> Ended:
    name, kind, folder = _begin(number, made, work)
    unbroken = _unbroken(made, name, kind)
    turn = number // len(_cases())
    arguments = _arguments(name, _NEW, kind)
    if turn % 4 == 3:  # at a random moment
        share = float(np.random.default_rng([17, number]).uniform(0, 1.05))
        fault = f"{name} {kind}, killed after {share:.3f} of its time"
        _link(made, work)
        processes.start(name, folder, arguments)(share * unbroken.seconds)
    else:
        change = 1 + (turn - turn // 4) % unbroken.changes
        fault = f"{name} {kind}, killed before change {change} of {unbroken.changes}"
        ran = _run(name, folder, made, arguments, stop=change)
        if ran.status != -signal.SIGKILL:
            raise RuntimeError(f"{fault}: status {ran.status}: {ran.errors[-400:]}")

    def check() -> Outcome:
        _check_between(folder, made, name, kind)
        _again(folder, made, name, kind)
        return Outcome.UNHARMED

    return _judged(fault, check)


def _small_disk(number: int, made: pathlib.Path, work: pathlib.Path) -> Ended:
    name, kind, folder = _begin(number, made, work)
    share = np.random.default_rng([19, number]).uniform()
    limit = int(_SMALLEST * (_LARGEST / _SMALLEST) ** share)
    ran = _run(name, folder, made, _arguments(name, _NEW, kind), limit=limit)
    told = ran.errors.strip().splitlines()[-1:] or [""]
    fault = f"{name} {kind}, no file above {limit} bytes: status {ran.status}: {told[0][:300]}"

    def check() -> Outcome:
        if ran.status in (cli.DONE, cli.NOT_REACHED):
            _check_end(folder, made, name, kind)
            return Outcome.UNHARMED
        if not ran.is_refusal() or "Traceback" in ran.errors:
            raise _Wrong(Outcome.TRACEBACK, ran.errors[-400:])
        if not any(part in told[0] for part in ("results", "checkpoints", "logs", "made")):
            raise _Wrong(Outcome.SILENT, "no file is named")
        _check_between(folder, made, name, kind)
        _require_nothing_left(folder)
        _again(folder, made, name, kind)
        return Outcome.REFUSED

    return _judged(fault, check)


def _two(number: int, made: pathlib.Path, work: pathlib.Path) -> Ended:
    name, kind, folder = _begin(number, made, work)
    _link(made, work)
    versions = (_NEW, _NEW) if number // len(_cases()) % 2 else (_OLD, _NEW)
    waits = [processes.start(name, folder, _arguments(name, each, kind)) for each in versions]
    both = [wait(120) for wait in waits]
    fault = f"two of {name} {kind}, {' and '.join(versions)}: statuses {[r.status for r in both]}"

    def check() -> Outcome:
        done = [each for each, ran in zip(versions, both) if not ran.is_refusal()]
        for ran in both:
            if not ran.is_refusal():
                _require_done(ran)
        if not done:
            raise _Wrong(Outcome.LOST, f"both were refused: {both[0].errors[-200:]}")
        found = _result(folder, name, kind)
        if name == "evaluate":
            alone = work / "alone"
            alone.mkdir()
            _require_done(_run(name, alone, made, _arguments(name, done[0], kind)))
            allowed = [_result(alone, name, kind)]
        else:
            allowed = [_result(made / f"{name}-{kind}" / each, name, kind) for each in done]
        if found not in allowed:
            raise _Wrong(Outcome.SILENT, "the end is of neither process")
        _require_nothing_left(folder)
        return Outcome.REFUSED if len(done) == 1 else Outcome.UNHARMED

    return _judged(fault, check)


def _require_nothing_left(folder: pathlib.Path) -> None:
    left = [str(path.relative_to(folder)) for path in processes.left_over(folder)]
    if left:
        raise _Wrong(Outcome.LOST, f"left over: {', '.join(left)}")


def _link(made: pathlib.Path, work: pathlib.Path) -> None:
    """Let the folder of a trial find what all read."""
    for name in ("digits", "checkpoints", "old.npz", "new.npz"):
        if not (work / name).exists():
            os.symlink(made / name, work / name)


CAMPAIGNS = (
    Campaign(
        name="kills of commands",
        promise="A reader finds the old result or the new; run again, it ends as if unbroken.",
        count=408,
        prepare=_prepare,
        trial=_kill,
        quick=2,
    ),
    Campaign(
        name="disks too small",
        promise="The file is named, nothing half-written is kept, and the old result is there.",
        count=120,
        prepare=_prepare,
        trial=_small_disk,
        quick=0,
    ),
    Campaign(
        name="two processes on one folder",
        promise="Both end whole, or one is refused in one line.",
        count=60,
        prepare=_prepare,
        trial=_two,
        quick=0,
    ),
)
