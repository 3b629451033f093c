"""Connections to a real server: one that stops answering, and what the driver makes of a statement."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from fraudstream.store.engine import make_engine


@pytest.mark.parametrize("pure_python", [False, True])
def test_a_server_that_says_nothing_for_too_long_is_given_up(database: str, *, pure_python: bool) -> None:
    engine = make_engine(make_url(database), pooled=False, answer_within_s=1, pure_python=pure_python)
    with engine.connect() as connection:
        connection.execute(text("SELECT SLEEP(0.5)"))
        began = time.monotonic()
        with pytest.raises(DBAPIError) as lost:
            connection.execute(text("SELECT SLEEP(30)"))
        assert time.monotonic() - began < 10
        assert lost.value.connection_invalidated


@pytest.mark.parametrize("pure_python", [False, True])
@pytest.mark.parametrize(
    "late",
    ["SELECT SLEEP(3)", "SELECT REPEAT('x', 100000) UNION ALL SELECT SLEEP(3)"],
    ids=["the answer", "its second row"],
)
def test_what_comes_too_late_is_no_answer_to_the_next_statement(
    database: str, late: str, *, pure_python: bool
) -> None:
    engine = make_engine(make_url(database), answer_within_s=1, pure_python=pure_python)
    with pytest.raises(DBAPIError) as lost, engine.connect() as connection:
        connection.execute(text(late)).all()
    assert lost.value.connection_invalidated
    for number in range(3):
        with engine.connect() as connection:
            assert connection.scalar(text(f"SELECT {number}")) == number


def test_a_statement_may_take_any_time_where_nobody_says_how_long(database: str) -> None:
    with make_engine(make_url(database), pooled=False).connect() as connection:
        assert connection.scalar(text("SELECT SLEEP(2)")) == 0


def test_a_connection_that_ends_under_a_transaction_is_lost_as_any_other(database: str) -> None:
    engine = make_engine(make_url(database))
    with pytest.raises(DBAPIError, match=r"killed|interrupted") as lost, engine.connect() as connection:
        connection.execute(text("KILL CONNECTION_ID()"))
    assert lost.value.connection_invalidated
    with engine.connect() as connection:
        doomed = connection.scalar(text("SELECT CONNECTION_ID()"))
        with engine.connect() as other:
            other.execute(text(f"KILL {doomed}"))
        with pytest.raises(DBAPIError) as lost:
            connection.commit()
    assert lost.value.connection_invalidated


@pytest.mark.parametrize("pure_python", [False, True])
@pytest.mark.parametrize("words", ["delimiter x\ny", "DELIMITER ;;\nDROP TABLE clean_data;;\n"])
def test_a_text_about_delimiters_is_a_text(database: str, *, pure_python: bool, words: str) -> None:
    with make_engine(make_url(database), pure_python=pure_python).connect() as connection:
        assert connection.scalar(text("SELECT :words"), {"words": words}) == words


@pytest.mark.parametrize("pure_python", [False, True])
def test_many_texts_about_delimiters_take_no_longer_than_others(database: str, *, pure_python: bool) -> None:
    words = "delimiter x " * 20_000
    with make_engine(make_url(database), pure_python=pure_python).connect() as connection:
        began = time.monotonic()
        assert connection.scalar(text("SELECT :words"), {"words": words}) == words
        assert time.monotonic() - began < 5
