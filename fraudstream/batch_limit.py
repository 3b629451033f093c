"""How many records a batch may have: fewer after one that failed, which may have been too large in bytes."""

from __future__ import annotations


class BatchLimit:
    """`records` is what the next query takes at once, from 1 to `most`.

    Spark bounds a batch in records alone, and nothing tells beforehand how many bytes they have.
    """

    def __init__(self, most: int) -> None:
        self._most = self.records = most

    @property
    def is_lowered(self) -> bool:
        return self.records < self._most

    def halve(self, waiting: int | None) -> None:
        """After a batch that failed; it had no more records than were `waiting`, where that is known."""
        tried = min(self.records, waiting or self.records)
        self.records = max(1, tried // 2)

    def double(self) -> None:
        """After batches that succeeded."""
        self.records = min(self._most, 2 * self.records)
