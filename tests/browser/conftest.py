"""Dashboards as processes of their own, and a database for them to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.browsing import running_dashboard


@pytest.fixture(scope="module")
def start_dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """A function that starts a dashboard with these environment variables and returns its address."""
    with ExitStack() as running:
        yield lambda **environment: running.enter_context(
            running_dashboard(tmp_path_factory.mktemp("dashboard") / "log", TZ="Africa/Cairo", **environment)
        )
