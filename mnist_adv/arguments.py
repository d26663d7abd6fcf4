"""What users give, brought into one form or refused in one line that says what is allowed."""

from __future__ import annotations

import difflib
import enum
import math
import os
import reprlib
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import numpy as np

from mnist_adv.errors import first_line

INT32 = 2**31 - 1
UINT32 = 2**32 - 1
FLOAT32 = float(np.finfo(np.float32).max)
# The smallest number above 0 that float32 holds with all its digits.
ABOVE_0 = float(np.finfo(np.float32).tiny)

Choice = TypeVar("Choice", bound=enum.Enum)


class _ChoiceType(enum.EnumMeta):
    """Looks members up by `choose`, which says what is allowed."""

    def __call__(cls, value: Any, *names: Any, **settings: Any) -> Any:
        if names or settings:
            return super().__call__(value, *names, **settings)
        return choose(cast(type[enum.Enum], cls), value, cls.__name__)


class NamedChoice(enum.Enum, metaclass=_ChoiceType):
    """An enumeration of texts, of which another text or value is refused with those allowed."""


def shown(value: Any) -> str:
    """Show a value in a message: in one short line, whatever it is.

    Args:
        value: any.

    Returns:
        The line.
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of {value.dtype}, shape {list(value.shape)}"
    try:
        text = " ".join(reprlib.repr(value).split())
    except Exception:  # a user's `__repr__` raises what it likes, and so does an int of 5000 digits
        return type(value).__name__
    return text


def near(value: Any, allowed: Iterable[str]) -> str:
    """Ask whether one of the allowed names was meant, for the end of a message.

    Args:
        value: what was given.
        allowed: the names.

    Returns:
        "; did you mean ...?", or nothing.
    """
    names = difflib.get_close_matches(value.lower(), allowed, 3) if isinstance(value, str) else []
    return f"; did you mean {' or '.join(names)}?" if names else ""


def as_array(value: Any, name: str, allowed: str) -> np.ndarray:
    """Make an array of what a user gave.

    Args:
        value: a number, lists of them, an array of any library.
        name: the argument's.
        allowed: what it must be, for the message.

    Returns:
        The array; the same one if it was one.

    Raises:
        ValueError: lists of unequal lengths; an array with masked entries; anything else of which
            NumPy makes no array.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{name} must be {allowed}. Received: an array with masked entries")
    try:
        return np.asarray(value)
    except Exception as error:  # what other libraries' arrays raise
        raise ValueError(
            f"{name} must be {allowed}. Received: {shown(value)} ({first_line(error)})"
        ) from error


def whole(
    value: Any, name: str, least: int = 1, most: int = INT32, count: int | None = None
) -> np.ndarray:
    """Check a whole number, or one for each image.

    Args:
        value: a number, or `[count]`.
        name: the argument's.
        least: the smallest allowed.
        most: the largest allowed; inside int64.
        count: how many images there are; None: one number alone is allowed.

    Returns:
        `[]` or `[count]` int64.

    Raises:
        ValueError: not whole numbers, another number of them, or out of range.
    """
    allowed = f"an integer in {least}..{most}"
    values = as_array(value, name, allowed)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be {allowed}. Received: {shown(value)}")
    _check_shape(values, name, count)
    _check_range(values, (values >= least) & (values <= most), name, allowed)
    return values.astype(np.int64)


def real(
    value: Any,
    name: str,
    least: float = -FLOAT32,
    most: float = FLOAT32,
    count: int | None = None,
    *,
    infinite: bool = False,
) -> np.ndarray:
    """Check a number that float32 holds, or one for each image.

    Args:
        value: a number, or `[count]`.
        name: the argument's.
        least: the smallest allowed; `ABOVE_0` for numbers above 0.
        most: the largest allowed.
        count: how many images there are; None: one number alone is allowed.
        infinite: whether infinity is allowed too.

    Returns:
        `[]` or `[count]` float64.

    Raises:
        ValueError: no real numbers, another number of them, NaN, or out of range.
    """
    allowed = _range(least, most) + (" or infinite" if infinite else "")
    values = as_array(value, name, allowed)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be {allowed}. Received: {shown(value)}")
    _check_shape(values, name, count)
    values = values.astype(np.float64)
    inside = (values >= least) & (values <= most)
    _check_range(values, inside | (infinite & (values == math.inf)), name, allowed)
    return values


def real_array(values: Any, name: str) -> np.ndarray:
    """Check an array of numbers, of any shape.

    Args:
        values: numbers, or lists of them.
        name: the argument's.

    Returns:
        The array.

    Raises:
        ValueError: no real numbers.
    """
    array = as_array(values, name, "numbers")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be numbers. Received: {shown(values)}")
    return array


def choose(kind: type[Choice], value: Any, name: str) -> Choice:
    """Find a member of an enumeration by its value.

    Args:
        kind: the enumeration, of texts.
        value: the text, or the member itself.
        name: the argument's.

    Returns:
        The member.

    Raises:
        ValueError: there is none.
    """
    if isinstance(value, kind):
        return value
    for member in kind:
        if isinstance(value, str) and member.value == value:
            return member
    names = ", ".join(str(member.value) for member in kind)
    close = near(value, [str(member.value) for member in kind])
    raise ValueError(f"{name} must be one of {names}. Received: {shown(value)}{close}")


def yes_or_no(value: Any, name: str) -> bool:
    """Check a truth value.

    Args:
        value: True or False.
        name: the argument's.

    Returns:
        The same.

    Raises:
        ValueError: anything else, which Python would take for one of them.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False. Received: {shown(value)}")
    return bool(value)


def as_text(value: Any, name: str) -> str | None:
    """Check a text that may be left out.

    Args:
        value: a text or None.
        name: the argument's.

    Returns:
        The same.

    Raises:
        ValueError: anything else.
    """
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be a text. Received: {shown(value)}")
    return value


def as_path(value: Any, name: str) -> str:
    """Check what names a file or a folder.

    Args:
        value: a text or a path.
        name: the argument's.

    Returns:
        The text.

    Raises:
        ValueError: neither; or it is empty or has a null character, as no path has.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{name} must be a path. Received: {shown(value)}")
    return text


def as_folder_name(value: Any, name: str) -> str:
    """Check what names a folder inside another.

    Args:
        value: a text.
        name: the argument's.

    Returns:
        The same.

    Raises:
        ValueError: it is no text in UTF-8, is empty, or leads elsewhere.
    """
    text = as_path(value, name)
    if text in (".", "..") or os.path.basename(text) != text:
        raise ValueError(f"{name} must be a plain folder name. Received: {shown(value)}")
    return as_utf8(text, name)


def as_utf8(value: str, name: str) -> str:
    """Check a text that TensorFlow is given, for which it must be one.

    Args:
        value: the text.
        name: the argument's.

    Returns:
        The same.

    Raises:
        ValueError: bytes in it are no UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text in UTF-8. Received: {shown(value)}") from None
    return value


def _range(least: float, most: float) -> str:
    if most < FLOAT32:
        return f"a number in {'(0' if least == ABOVE_0 else f'[{least:g}'}, {most:g}]"
    ends = {0: ", at least 0,", ABOVE_0: " above 0", -FLOAT32: ""}
    return f"a finite number{ends.get(least, f', at least {least:g},')} in float32"


def _check_shape(values: np.ndarray, name: str, count: int | None) -> None:
    if values.shape not in ((), (count,)):
        each = "" if count is None else f" or one for each of the {count} images"
        raise ValueError(f"{name} must be one number{each}. Received: shape {list(values.shape)}")


def _check_range(values: np.ndarray, inside: np.ndarray, name: str, allowed: str) -> None:
    if not inside.all():
        wrong = values[~inside].flat[0]
        raise ValueError(f"{name} must be {allowed}. Received: {wrong}")
