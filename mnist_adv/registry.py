"""Tables of named rows: what is added to one is found by name, in flags and in `--list`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, TypeVar, cast

from mnist_adv.arguments import near, shown


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


class Registry(Mapping[str, Row]):
    """Rows by name, in the order in which they were added.

    Args:
        kind: what a row is called in messages: "loss", "method", ...
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._rows: dict[str, Row] = {}

    def __getitem__(self, name: str) -> Row:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row) -> Row:
        """Add a row under its name.

        Args:
            row: with a name that no other row has.

        Returns:
            The same row.

        Raises:
            ValueError: the name is taken.
        """
        if row.name in self._rows:
            raise ValueError(f"{self._kind} {row.name!r} is there already")
        self._rows[row.name] = row
        return row

    def find(self, name: str | Row) -> Row:
        """Look a row up.

        Args:
            name: of a row; or a row, which is its own answer, added or not.

        Returns:
            The row.

        Raises:
            ValueError: no row has that name.
        """
        if isinstance(name, str) and name in self._rows:
            return self._rows[name]
        if not isinstance(name, tuple({type(row) for row in self._rows.values()})):
            raise ValueError(
                f"{self._kind} must be one of {', '.join(self._rows)}. Received: {shown(name)}"
                f"{near(name, self._rows)}"
            )
        return cast(Row, name)
