"""What exceptions and files have to say, in one line that a terminal only shows."""

from __future__ import annotations

import re


def first_line(error: BaseException) -> str:
    """Shorten an exception to the first line of its message.

    Args:
        error: any.

    Returns:
        The line without its full stop; the exception's name if it says nothing.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def printable(text: str) -> str:
    """Escape what a terminal would obey instead of showing it, such as in names from files.

    Args:
        text: any.

    Returns:
        The text, with the escapes of Python's literals for control characters, line ends, marks
        that turn the direction of writing, and bytes that are no text.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def shortened(text: str, most_in_word: int = 200, most: int = 1500) -> str:
    """Leave out the middle of long words, and of a long text.

    Args:
        text: any.
        most_in_word: characters kept of a word.
        most: characters kept in all.

    Returns:
        The text, with "..." for what was left out.
    """
    words = re.sub(rf"\S{{{most_in_word},}}", lambda found: _ends(found[0], most_in_word), text)
    return words if len(words) <= most else _ends(words, most)


def _ends(text: str, most: int) -> str:
    return f"{text[: most // 2]}...{text[-most // 4 :]}"
