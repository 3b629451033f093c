"""Connections to a real server that stops answering."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from fraudstream.store.engine import make_engine


def test_a_server_that_says_nothing_for_too_long_is_given_up(database: str) -> None:
    engine = make_engine(make_url(database), pooled=False, answer_within_s=1)
    with engine.connect() as connection:
        connection.execute(text("SELECT SLEEP(0.5)"))
        began = time.monotonic()
        with pytest.raises(DBAPIError) as lost:
            connection.execute(text("SELECT SLEEP(30)"))
        assert time.monotonic() - began < 10
        assert lost.value.connection_invalidated


def test_a_statement_may_take_any_time_where_nobody_says_how_long(database: str) -> None:
    with make_engine(make_url(database), pooled=False).connect() as connection:
        assert connection.scalar(text("SELECT SLEEP(2)")) == 0
