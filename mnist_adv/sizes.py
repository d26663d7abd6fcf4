"""Hold what a file asks for to the bytes that are in it, before memory is taken."""

from __future__ import annotations

# An array larger than this must have a hundredth of its bytes in the file.
_SMALL = 2**20
_COMPRESSED = 100


def require_bytes(wanted: int, stored: int, name: str, path: str) -> None:
    """Refuse what unpacks to more than a hundred times its size.

    Args:
        wanted: bytes, as it says.
        stored: bytes in the file.
        name: of it, for the message.
        path: of the file, for the message.

    Raises:
        ValueError: it does, and is larger than a mebibyte.
    """
    if wanted > max(_SMALL, _COMPRESSED * stored):
        raise ValueError(f"{path} asks for {wanted:,} bytes for {name}, and holds {stored:,}")
