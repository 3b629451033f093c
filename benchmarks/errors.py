"""Why the bench could not measure."""

from __future__ import annotations


class BenchFailed(Exception):
    """A phase could not be measured; the text says why."""
