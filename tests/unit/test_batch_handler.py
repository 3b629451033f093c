"""What is left of a query that failed: Spark keeps its handler and the exception, and nothing by them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from fraudstream.streaming import _BatchHandler


class Heavy:
    """Stands for what a batch works with: connections, tables, and the batch itself."""


def test_a_failed_query_keeps_nothing_of_what_its_batches_worked_with() -> None:
    resources, batch = Heavy(), Heavy()
    kept = [weakref.ref(resources), weakref.ref(batch)]

    def handle(_batch: Any, resources: Heavy = resources) -> bool:
        return False

    handler = _BatchHandler(handle)
    with pytest.raises(RuntimeError, match="the batch failed") as raised:
        handler(batch, 1)  # type: ignore[arg-type]
    handler.let_go()
    error = raised.value
    del raised, resources, batch, handle
    gc.collect()
    assert [each() for each in kept] == [None, None]
    assert error.__traceback__ is not None


def test_what_comes_after_the_end_is_not_handled() -> None:
    seen: list[Any] = []
    handler = _BatchHandler(lambda batch: not seen.append(batch))
    handler("first", 1)  # type: ignore[arg-type]
    handler.let_go()
    handler("second", 2)  # type: ignore[arg-type]
    assert seen == ["first"]
