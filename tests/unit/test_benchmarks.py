"""What the bench sends is what the producer would send, and what it computes is what it says."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import psutil
import pytest
from rich.console import Console

from benchmarks.phases import Paced, _batch_rates, _costs, _cpu_s, _cpu_us_per_tx
from benchmarks.population import Population
from benchmarks.report import show, value_of
from benchmarks.watch import Commits
from fraudstream.publisher.delivery import message
from fraudstream.schema import FIELD_NAMES


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(users=50)


def cells(value: bytes) -> tuple[str, ...]:
    """The row of a CSV that a message came from."""
    fields = orjson.loads(value.replace(b'"Amount":', b'"Amount":"').replace(b',"Location"', b'","Location"'))
    fields["Amount"] = fields["Amount"].replace("null", "")
    return tuple(fields[name] or "" for name in FIELD_NAMES)


def test_messages_have_the_producers_form(population: Population) -> None:
    messages = population.messages(0, population.month_rows)
    for key, value in zip(messages.keys, messages.values, strict=True):
        assert message(cells(value)) == (key, value)
    assert any(b":null" in value for value in messages.values)


def test_any_cut_gives_the_same_messages_across_months(population: Population) -> None:
    whole = population.messages(0, 2 * population.month_rows + 10)
    cuts = [0, 7, population.month_rows - 1, population.month_rows + 3, len(whole)]
    parts = [population.messages(start, end - start) for start, end in pairwise(cuts)]
    assert [value for part in parts for value in part.values] == whole.values


def test_months_repeat_with_other_identifiers_and_later_times(population: Population) -> None:
    rows = population.month_rows
    first, second = (list(map(orjson.loads, population.messages(start, rows).values)) for start in (0, rows))
    assert {row["TransactionID"] for row in first}.isdisjoint(row["TransactionID"] for row in second)
    assert [row["UserID"] for row in first] == [row["UserID"] for row in second]
    days = {
        np.datetime64(later["Time"]) - np.datetime64(earlier["Time"])
        for earlier, later in zip(first, second, strict=True)
        if earlier["Time"]
    }
    assert days == {np.timedelta64(30, "D")}


def test_a_large_population_is_copies_of_a_small_one() -> None:
    population = Population(users=10_000)
    users = set(population.messages(0, 2_000).keys)
    assert {key[:2] for key in users} == {b"0-", b"1-"}
    assert {key[2:] for key in users if key[:1] == b"0"} == {key[2:] for key in users if key[:1] == b"1"}
    with pytest.raises(ValueError, match="multiples"):
        Population(users=7_001)


def test_the_past_is_usable_and_older_than_the_first_message(population: Population) -> None:
    past = next(population.past())
    first = orjson.loads(population.messages(0, 1).values[0])
    assert past["Time"].to_pylist()[-1].isoformat(" ") < first["Time"]
    assert past["rejection"].null_count == len(past)


def test_a_record_is_visible_with_the_first_commit_behind_it() -> None:
    commits = Commits([(10.0, {0: 5}), (11.0, {0: 5, 1: 2}), (12.0, {0: 9, 1: 3})])
    assert commits.visible_at(0, np.array([0, 4, 5, 8])).tolist() == [10.0, 10.0, 12.0, 12.0]
    assert commits.visible_at(1, np.array([1, 2])).tolist() == [11.0, 12.0]
    assert commits.totals()[1].tolist() == [5, 7, 12]


def test_the_offsets_that_a_job_notes_as_it_starts_are_not_its_first_batch() -> None:
    commits = Commits([(10.0, {0: 4, 1: 3}), (13.0, {0: 5, 1: 3}), (14.0, {0: 5, 1: 4})])
    assert commits.first_behind(7) == 13.0


def test_a_process_that_ends_while_its_time_is_asked_for_is_left_out() -> None:
    started = subprocess.Popen(["sleep", "60"])
    ended = psutil.Process(started.pid)

    class Root(psutil.Process):
        def children(self, recursive: bool = False) -> list[psutil.Process]:
            started.kill()
            started.wait()
            return [ended]

    pipeline: Any = SimpleNamespace(processes=lambda: {"job": [Root()]})
    assert set(_cpu_s(pipeline)) == {"driver"}


def test_processor_time_is_divided_by_the_records_committed_meanwhile() -> None:
    spent_s = iter([1.0, 3.0])

    def processes() -> dict[str, list[Any]]:
        times = SimpleNamespace(user=next(spent_s), system=0.0)
        return {"mysql": [SimpleNamespace(children=lambda **_: [], cpu_times=lambda: times)]}

    def await_committed(_site: Any, records: int, **_: Any) -> int:
        return {250: 300, 500: 500}[records]  # the last batch began below 250 and ended above it

    pipeline: Any = SimpleNamespace(processes=processes, await_committed=await_committed)
    site: Any = None
    assert _cpu_us_per_tx(pipeline, site, 250, 500) == {"mysql": 10_000.0}


def paced(lag: list[int]) -> Paced:
    return Paced(1000, committed_per_s=0.0, commit_ms={}, mail_ms={}, lag=lag, cost_us=[])


@pytest.mark.parametrize(
    ("lag", "grew"),
    [
        ([9000, *([100, 120, 110, 90] * 15)], False),
        ([100 * second for second in range(60)], True),
        ([60 * second for second in range(60)], True),
        ([5000 * second for second in range(10)], None),  # too short to tell
    ],
)
def test_a_lag_that_grows_is_told_from_one_that_only_starts_high(lag: list[int], grew: bool | None) -> None:
    assert paced(lag).lag_grew is grew


def test_what_a_record_costs_is_told_for_each_part_of_the_time() -> None:
    assert _costs([(0, 1.0), (1000, 1.1), (1000, 1.2), (3000, 1.5)]) == [100.0, 150.0]


def test_the_rate_of_a_small_last_batch_is_left_out() -> None:
    at, totals = np.array([0.0, 1.0, 3.0, 3.1]), np.array([500, 1500, 2500, 2501])
    assert _batch_rates(at, totals) == [(1500, 1000.0), (2500, 500.0)]


def test_figures_are_found_by_their_dotted_keys() -> None:
    document = {"latency": {"1000": {"commit_ms": {"p95": 7.5}}}, "sustained": {"lag_grew": False}}
    assert value_of(document, "latency.1000.commit_ms.p95") == 7.5
    assert value_of(document, "latency.5000.commit_ms.p95") is None


def test_each_stage_is_a_line_beside_that_of_an_older_run() -> None:
    document: Any = {"catch_up": {}, "latency": {}, "stages": {"ms_per_1000": {"parse": 4.8, "mail": 40.0}}}
    old: Any = {**document, "stages": {"ms_per_1000": {"parse": 2.4}}}
    with (console := Console(width=120)).capture() as shown:
        show(document, old, console)
    lines = [line for line in shown.get().splitlines() if "1,000 records" in line]
    cells = [[cell.strip() for cell in line.split("│")[2:5]] for line in lines]
    assert cells == [["4.8", "2.4", "2.00"], ["40.0", "", ""]]
