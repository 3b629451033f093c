"""Which rows a replay sends and when, what their messages are, and how progress is saved."""

from __future__ import annotations

import itertools
import json
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fraudstream.publisher.csv_source import CsvError
from fraudstream.publisher.delivery import Tally, message
from fraudstream.publisher.progress import ProgressError, ProgressFile
from fraudstream.publisher.replay import (
    START,
    Clock,
    Position,
    Row,
    at_once,
    at_rate,
    at_speed,
    one_round,
    paced,
    rounds,
    rows_ahead,
    schedule,
)

HEADER = "TransactionID,UserID,Amount,Location,Time,Device,Merchant"
CLOCK = Clock(ZoneInfo("Africa/Cairo"), lambda: datetime(2025, 1, 20))  # noqa: DTZ001


def cells(transaction_id: str = "T1", time: str = "2025-01-01 10:00:00", **fields: str) -> list[str]:
    values = {
        "UserID": "U1",
        "Amount": "5",
        "Location": "Cairo",
        "Device": "iOS",
        "Merchant": "Noon",
    } | fields
    return [{"TransactionID": transaction_id, "Time": time, **values}[name] for name in HEADER.split(",")]


def csv_of(path: Path, *rows: list[str]) -> Path:
    path.write_text("\n".join([HEADER, *(",".join(row) for row in rows)]))
    return path


@pytest.fixture
def three_rows(tmp_path) -> Path:
    return csv_of(
        tmp_path / "rows.csv",
        cells("A", "2025-01-01 10:00:00"),
        cells("B ", "2025-01-03T23:00:00+02:00"),
        cells("", "soon"),
    )


def test_a_round_starts_where_it_is_told(three_rows):
    assert [row.position for row in one_round(three_rows, START)] == [(1, 1), (1, 2), (1, 3)]
    assert [row.cells[0] for row in one_round(three_rows, Position(1, 2))] == [""]
    assert list(one_round(three_rows, Position(1, 3))) == []
    assert list(one_round(three_rows, Position(2, 0))) == []


def test_rounds_have_fresh_ids_and_later_times_until_the_next_would_lie_in_the_future(three_rows):
    said: list[str] = []
    rows = list(rounds(three_rows, START, CLOCK, said.append))
    # The file spans 2 days and 13 hours, so a round is three days; the sixth would end on 2025-01-18.
    assert [row.cells[0] for row in rows[:6]] == ["A", "B ", "", "A-r2", "B-r2 ", ""]
    assert [row.cells[4] for row in rows[3:6]] == ["2025-01-04 10:00:00", "2025-01-06T23:00:00+02:00", "soon"]
    assert rows[-3].cells[4] == "2025-01-16 10:00:00"
    assert [row.position for row in rows[2:5]] == [(1, 3), (2, 1), (2, 2)]
    assert said == ["Stopped before round 7: its times would lie in the future."]


def test_rounds_go_on_in_the_middle_of_a_later_one(three_rows):
    all_rows = list(rounds(three_rows, START, CLOCK, lambda text: None))
    for position in (Position(1, 2), Position(1, 3), Position(2, 0), Position(2, 1), Position(3, 2)):
        done = (position.round - 1) * 3 + position.rows
        assert list(rounds(three_rows, position, CLOCK, lambda text: None)) == all_rows[done:]


def test_a_file_without_any_time_cannot_be_looped(tmp_path):
    rows = rounds(csv_of(tmp_path / "rows.csv", cells(time="soon")), START, CLOCK, lambda text: None)
    assert next(rows).cells[0] == "T1"
    with pytest.raises(CsvError, match="column Time: no time that could be moved on"):
        next(rows)


def test_absurd_times_do_not_stretch_the_rounds(tmp_path):
    path = csv_of(
        tmp_path / "rows.csv", cells("A"), cells("B", "9999-12-31 00:00:00"), cells("C", "0001-01-01")
    )
    rows = rounds(path, START, CLOCK, lambda text: None)
    fourth = next(itertools.islice(rows, 3, None))
    assert (fourth.cells[0], fourth.cells[4]) == ("A-r2", "2025-01-02 10:00:00")


def test_rows_ahead_are_those_behind_the_position_up_to_the_limit(three_rows):
    assert rows_ahead(three_rows, START, None) == 3
    assert rows_ahead(three_rows, Position(1, 2), 5) == 1
    assert rows_ahead(three_rows, START, 2) == 2


def rows_at(*times: str) -> list[Row]:
    return [Row(Position(1, number), cells(time=time)) for number, time in enumerate(times, start=1)]


def test_a_rate_gives_every_row_its_share_of_a_second():
    due = at_rate(50)
    assert [due(row) for row in rows_at("x", "y", "z")] == [0, 0.02, 0.04]


def test_a_speed_follows_the_events_and_never_waits_for_late_or_timeless_rows():
    due = at_speed(60, CLOCK)
    times = [
        "2025-01-01 10:00:00",
        "2025-01-01 10:01:00",
        "2025-01-01 09:00:00",
        "?",
        "2025-01-01 08:03:00+00:00",
    ]
    assert [due(row) for row in rows_at(*times)] == [0, 1, 1, 1, 3]


def test_the_schedule_is_what_the_options_say():
    row, later = rows_at("2025-01-01 10:00:00", "2025-01-01 10:00:30")
    assert schedule(0, None, CLOCK) is at_once
    by_rate, by_speed = schedule(4, None, CLOCK), schedule(50, 10, CLOCK)
    assert (by_rate(row), by_rate(later)) == (0, 0.25)
    assert (by_speed(row), by_speed(later)) == (0, 3)


def test_paced_rows_come_when_due_without_drift_and_idle_is_called_meanwhile():
    idles: list[float] = []
    started = time.monotonic()
    came = []
    for _ in paced(rows_at(*"abcdef"), at_rate(10), lambda: False, lambda: idles.append(time.monotonic())):
        came.append(time.monotonic() - started)
        time.sleep(0.03)
    assert came == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=0.06)
    assert idles


def test_paced_rows_end_when_stopped_even_in_a_long_wait():
    asked = iter([False, False, False, True, True, True])
    rows = paced(rows_at("a", "b"), at_rate(0.001), lambda: next(asked), lambda: None)
    assert len(list(rows)) == 1


@pytest.mark.parametrize(
    ("amount", "sent"),
    [
        ("2000.00", b"2000.00"),
        ("-0.5e3", b"-0.5e3"),
        ("12345678901234567890.10", b"12345678901234567890.10"),
        ("1,200", b'"1,200"'),
        (" 5", b'" 5"'),
        ("007", b'"007"'),
        (".5", b'".5"'),
        ("NaN", b'"NaN"'),
        ("٣", '"٣"'.encode()),
        ("", b"null"),
    ],
)
def test_an_amount_is_a_number_exactly_as_written_or_the_cell_s_text(amount, sent):
    _, value = message(cells(Amount=amount))
    assert b'"Amount":' + sent + b"," in value


def test_a_message_has_the_seven_fields_as_written_and_null_for_an_empty_cell():
    key, value = message([" T1", "\u3000U1\t", "5", "", "", 'a"b\\', " "])
    assert key == b"U1"
    assert json.loads(value) == {
        "TransactionID": " T1", "UserID": "\u3000U1\t", "Amount": 5, "Location": None, "Time": None,
        "Device": 'a"b\\', "Merchant": " ",
    }  # fmt: skip


@pytest.mark.parametrize("user", ["", " ", "\t\u2003"])
def test_a_row_without_a_user_has_no_key(user):
    assert message(cells(UserID=user))[0] is None


def test_progress_is_found_again_for_the_same_file_and_topic_only(tmp_path, three_rows):
    def saved(topic: str = "t", topic_id: str = "id") -> ProgressFile:
        return ProgressFile(tmp_path / "state", three_rows, topic, topic_id)

    assert saved().load(looping=False)[0] == START
    saved().record(Tally(sent=5, acknowledged=4, position=None))
    assert "No progress" in saved().load(looping=False)[1]
    saved().record(Tally(sent=5, acknowledged=4, position=Position(1, 4)))
    assert saved().load(looping=False) == (Position(1, 4), "Going on after row 4 of round 1.")
    assert saved(topic="other").load(looping=False)[0] == START
    position, why = saved(topic_id="new").load(looping=False)
    assert (position, "created anew" in why) == (START, True)
    three_rows.write_text(three_rows.read_text() + "\n")
    position, why = saved().load(looping=False)
    assert (position, "has changed" in why) == (START, True)


def test_progress_in_a_later_round_needs_loop(tmp_path, three_rows):
    progress = ProgressFile(tmp_path, three_rows, "t", "id")
    progress.save(Position(3, 1))
    assert progress.load(looping=True)[0] == Position(3, 1)
    with pytest.raises(ProgressError, match="round 3: add --loop"):
        progress.load(looping=False)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"round": 1}'])
def test_unreadable_progress_is_an_error_that_names_the_file(tmp_path, three_rows, content):
    progress = ProgressFile(tmp_path / "state", three_rows, "t", "id")
    progress.save(Position(1, 1))
    [path] = (tmp_path / "state").iterdir()
    path.write_bytes(content)
    with pytest.raises(ProgressError, match=path.name):
        progress.load(looping=False)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, three_rows):
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(ProgressError, match=r"cannot be saved to .*/state/.*XDG_STATE_HOME"):
        ProgressFile(tmp_path / "state", three_rows, "t", "id").save(Position(1, 1))
