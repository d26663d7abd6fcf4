"""Names of classes: read from a file, and found by what a person types."""

from __future__ import annotations

import ast
import difflib
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from mnist_adv.arguments import shown

# ImageNet's lists begin each line with the number of a WordNet entry.
_SYNSET = re.compile(r"^n\d{8}\s+")
_MOST_LISTED = 12


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the names of classes.

    Args:
        path: a text with one name a line, or JSON (or Python's notation of a dictionary): a list
            of names, or number -> name or list of names, the last of which counts, as
            `imagenet_class_index.json` of `keras.applications` has it.

    Returns:
        The names in label order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text, or holds something else; or two names at least are missing.
    """
    try:
        text = pathlib.Path(path).read_text("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text of class names ({error.reason})") from error
    if text.lstrip()[:1] in ("{", "["):
        names = _listed(_parsed(text, path), path)
    else:
        names = [_SYNSET.sub("", line).strip() for line in text.splitlines() if line.strip()]
    if len(names) < 2 or not all(name.isprintable() for name in names):
        raise ValueError(
            f"{path} must hold at least two names of classes, in printable characters. "
            f"Received: {len(names)}"
        )
    return tuple(names)


def _parsed(text: str, path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"{path} is no JSON of class names ({error})") from error


def _listed(found: Any, path: str | os.PathLike[str]) -> list[str]:
    if isinstance(found, dict):
        keys = {str(key): value for key, value in found.items()}
        wanted = [str(number) for number in range(len(keys))]
        if set(keys) != set(wanted):
            raise ValueError(f"{path} must name the classes 0 to {len(keys) - 1}, each once")
        found = [keys[key] for key in wanted]
    last = [one[-1] if isinstance(one, list | tuple) and one else one for one in found]
    if not all(isinstance(name, str) for name in last):
        raise ValueError(f"{path} must hold a name for each class, or lists that end in one")
    return last


def fit_class_names(names: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Give every class of a model a name.

    Args:
        names: in label order.
        num_classes: of the model.

    Returns:
        The first names; classes beyond them are called by their number.

    Raises:
        ValueError: no list of texts.
    """
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class names must be a list of texts. Received: {shown(names)}")
    return (*names[:num_classes], *map(str, range(len(names), num_classes)))


def find_class(text: str, class_names: Sequence[str]) -> int:
    """Find the class that a person means.

    Args:
        text: its number, its name, or one of its names where there are several with commas; the
            case of letters, and _ for a space, make no difference.
        class_names: in label order.

    Returns:
        The class; a number as it is, in range or not.

    Raises:
        ValueError: no class has that name, or several have.
    """
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    wanted = _plain(text)
    whole = [k for k, name in enumerate(class_names) if _plain(name) == wanted]
    found = whole or [
        k for k, name in enumerate(class_names) if wanted in map(_plain, name.split(","))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{text!r} is the name of the classes {', '.join(map(str, found))}; give the number"
        )
    known = {_plain(part): name for name in class_names for part in (name, *name.split(","))}
    near = [known[name] for name in difflib.get_close_matches(wanted, known, 3)]
    first = ", ".join(class_names[:_MOST_LISTED])
    more = len(class_names) - _MOST_LISTED
    raise ValueError(
        f"no class is called {text!r}; "
        + (f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "")
        + ("" if near else f"there are {first}{f' and {more} more' if more > 0 else ''}")
    )


def _plain(name: str) -> str:
    return name.strip().replace("_", " ").casefold()
