"""One statement about an evaluation, and whether it holds."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Check:
    """One statement, whether it holds, and by how much.

    Attributes:
        statement: what ought to be true.
        holds: whether it is.
        detail: what was measured.
        remedy: what to do if it does not hold.
        decisive: whether results mean nothing if it does not hold; else attacks may be weak.
    """

    statement: str
    holds: bool
    detail: str
    remedy: str = ""
    decisive: bool = True

    @property
    def verdict(self) -> str:
        """In a word: "holds", "FAILS" or "look"."""
        return "holds" if self.holds else "FAILS" if self.decisive else "look"

    @property
    def told(self) -> str:
        """What was measured, and the remedy if one is needed."""
        return self.detail if self.holds or not self.remedy else f"{self.detail}: {self.remedy}"
