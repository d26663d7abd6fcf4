"""What other libraries' exceptions have to say, in one line."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Shorten an exception to the first line of its message.

    Args:
        error: any.

    Returns:
        The line without its full stop; the exception's name if it says nothing.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
