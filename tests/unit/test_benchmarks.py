"""What the bench sends is what the producer would send, and what it computes is what it says."""

from __future__ import annotations

import platform
import subprocess
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import psutil
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console

from benchmarks.bench import Findings, Sizes, _measure_catch_up, _processor, as_document
from benchmarks.load import Load
from benchmarks.phases import (
    CatchUp,
    Paced,
    _batch_rates,
    _committed_per_s,
    _costs,
    _cpu_us_per_tx,
    _Look,
    _Spent,
    _us_a_record,
)
from benchmarks.pipeline import Pipeline, Site
from benchmarks.population import Population
from benchmarks.report import Document, _draw_cost_by_users, _draw_costs, show, value_of
from benchmarks.watch import Commits, ProcessorTime
from fraudstream.config import load_settings
from fraudstream.publisher.delivery import message
from fraudstream.schema import FIELD_NAMES
from fraudstream.stack import Addresses


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

    assert set(ProcessorTime(lambda: {"job": [Root()]}).look()) == {"driver"}


@dataclass(eq=False)
class Worked:
    """A process that says in turn what processor time it has taken so far."""

    seconds: list[float]
    pid: int = 0
    running: list[Any] = field(default_factory=list)

    def children(self, recursive: bool) -> list[Any]:
        assert recursive
        return self.running

    def name(self) -> str:
        return "python"

    def cpu_times(self) -> Any:
        return SimpleNamespace(user=self.seconds.pop(0), system=0.0)


def test_the_processor_time_of_a_process_that_has_ended_stays_counted() -> None:
    worker = Worked([5.0], pid=2)
    job: Any = Worked([1.0, 2.0], pid=1, running=[worker])
    spent = ProcessorTime(lambda: {"job": [job]})
    assert spent.look() == {"driver": 1.0, "workers": 5.0}
    job.running = [Worked([0.5], pid=2)]  # another one, under the same number
    assert spent.look() == {"driver": 2.0, "workers": 5.5}


def test_processor_time_is_divided_by_the_records_committed_meanwhile() -> None:
    database = Worked([1.0, 3.0])

    def await_committed(_site: Any, records: int, **_: Any) -> int:
        return {250: 300, 500: 500}[records]  # the last batch began below 250 and ended above it

    pipeline: Any = SimpleNamespace(processes=lambda: {"mysql": [database]}, await_committed=await_committed)
    site: Any = None
    assert _cpu_us_per_tx(pipeline, site, 250, 500) == {"mysql": 10_000.0}


def paced(lag: list[int]) -> Paced:
    return Paced(1000, committed_per_s=0.0, commit_ms={}, mail_ms={}, lag=lag, cost_us=[], cpu_us_per_tx={})


def test_the_cost_of_a_record_is_told_by_time_and_by_process() -> None:
    spent = [
        _Spent(1_000, {"mysql": 1.0}),
        _Spent(2_000, {"mysql": 1.25, "jvm": 0.05}),
        _Spent(2_000, {"mysql": 1.5, "jvm": 0.05}),  # nothing was committed meanwhile
        _Spent(6_000, {"mysql": 2.5, "jvm": 0.25}),
    ]
    assert _costs(spent) == [300.0, 300.0]
    assert _us_a_record(spent[0], spent[-1]) == {"mysql": 300.0, "jvm": 50.0}
    assert _us_a_record(spent[1], spent[2]) == {}


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


class SlowProducer:
    """Fake: in place of librdkafka where it cannot keep up, which a broker cannot be made to show."""

    def __init__(self) -> None:
        self.produced = 0

    def produce(self, *_: object, timestamp: int) -> None:
        time.sleep(0.01)
        self.produced += 1

    def poll(self, _timeout: float) -> None:
        pass

    def flush(self, _timeout: float) -> int:
        return 0


def test_a_sender_that_is_late_is_told_what_was_due(population: Population) -> None:
    load, producer = Load("", "t", population, sent=1000), SlowProducer()
    load.__dict__["_steady"] = producer
    told: list[tuple[float, int, int]] = []
    load.send_paced(200, 1.5, lambda over_s, due: told.append((over_s, due, producer.produced)))
    for over_s, due, produced in told:
        assert due == min(1300, 1000 + int(200 * over_s) + 1)
        assert produced <= due - 1000
    assert any(produced < due - 1000 - 20 for _, due, produced in told)
    assert told[-1][1:] == (1300, 300)
    assert told[-1][0] >= 300 * 0.01


def test_a_steady_rate_and_its_lag_are_of_what_was_due_while_records_came() -> None:
    looks = [_Look(1.0, 1_100, 1_000), _Look(4.0, 1_400, 1_360)]
    assert _committed_per_s(looks, before=1_000) == 90.0
    assert [look.lag for look in looks] == [100, 40]


def test_the_open_page_has_the_account_of_its_own_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, str] = {}

    def open_dashboard(environment: dict[str, str], *_: object) -> Any:
        given.update(environment)
        return nullcontext()

    monkeypatch.setattr("benchmarks.pipeline.open_dashboard", open_dashboard)
    monkeypatch.setenv("DASHBOARD_MYSQL_USER", "of-another-stack")
    monkeypatch.setenv("DASHBOARD_MYSQL_PASSWORD", "another")
    server = "127.0.0.1:9/fraudstream"
    addresses = Addresses(
        kafka="127.0.0.1:9",
        mysql=f"mysql+mysqlconnector://pipeline:a@{server}",
        dashboard_mysql=f"mysql+mysqlconnector://dashboard:b@{server}",
        smtp="127.0.0.1:9",
        inbox="http://127.0.0.1:9",
        dashboard="http://127.0.0.1:9",
    )
    nothing: Any = None
    with Pipeline(nothing, addresses, tmp_path).dashboard(Site("the database", "t", "id", nothing)):
        account = given["DASHBOARD_MYSQL_USER"], given["DASHBOARD_MYSQL_PASSWORD"]
    assert (given["MYSQL_URL"], account) == ("the database", ("dashboard", "b"))


def test_the_rate_of_a_small_last_batch_is_left_out() -> None:
    at, totals = np.array([0.0, 1.0, 3.0, 3.1]), np.array([500, 1500, 2500, 2501])
    assert _batch_rates(at, totals) == [(1500, 1000.0), (2500, 500.0)]


def test_figures_are_found_by_their_dotted_keys() -> None:
    document = {"latency": {"1000": {"commit_ms": {"p95": 7.5}}}, "sustained": {"lag_grew": False}}
    assert value_of(document, "latency.1000.commit_ms.p95") == 7.5
    assert value_of(document, "latency.5000.commit_ms.p95") is None


def shown(document: Document, old: Document | None) -> list[str]:
    """The lines of the comparison."""
    with (console := Console(width=120)).capture() as captured:
        show(document, old, console)
    return captured.get().splitlines()


def figures(lines: list[str]) -> dict[str, list[str]]:
    """The table's rows: name -> the cells behind it."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    return {name: cells for name, *cells in rows}


def test_each_stage_is_a_line_beside_that_of_an_older_run() -> None:
    document = {"stages": {"ms_per_1000": {"parse": 4.8, "mail": 40.0}}}
    lines = shown(document, {"stages": {"ms_per_1000": {"parse": 2.4, "tidy": 0.0}}})
    stage = "stage alone, ms for 1,000 records: "
    assert figures(lines) == {
        f"{stage}parse": ["4.8", "2.4", "2.00"],
        f"{stage}mail": ["40.0", "", ""],
        f"{stage}tidy": ["", "0.0", ""],
    }


def test_figures_that_only_the_older_run_has_are_shown() -> None:
    old = {
        "start_s": 14.0,
        "catch_up": {"tx_per_s": 9_000.0, "100000 users": {"tx_per_s": 8_000.0}},
        "latency": {"5000": {"commit_ms": {"p95": 500.0}}},
    }
    assert figures(shown({"start_s": 7.0}, old)) == {
        "catch-up, transactions a second": ["", "9,000", ""],
        "job start to first commit, s": ["7.0", "14.0", "0.50"],
        "catch-up, 100000 users": ["", "8,000", ""],
        "at 5000 a second, committed, p95, ms": ["", "500", ""],
    }


def test_without_an_older_run_there_is_nothing_beside_the_figures() -> None:
    lines = shown({"start_s": 7.0, "sizes": {"backlog": 1}, "ratio": {"catch_up_to_naive": 0.52}}, None)
    assert figures(lines) == {
        "job start to first commit, s": ["7.0"],
        "catch-up as a multiple of the naive way": ["0.52"],
    }
    assert not [line for line in lines if "older" in line or "differs" in line]


def test_whether_the_lag_grew_is_told_of_both_runs() -> None:
    lines = shown({"sustained": {"lag_grew": False}}, {"sustained": {"lag_grew": True}})
    assert lines[-2:] == [
        "The lag did not grow: the rate was sustained.",
        "The older run's lag grew: the rate was not sustained.",
    ]


def test_each_difference_between_what_two_runs_were_measured_on_is_a_line() -> None:
    document = {
        "machine": {"cores": 2, "processor": "AMD EPYC [virtual]", "load_before": 0.1},
        "settings": {"spark_driver_memory": "640m", "partitions": 4},
        "sizes": {"backlog": 500_000, "users": [5_000]},
        "measured_at": "now",
    }
    old = {
        "machine": {"cores": 2, "processor": "x86_64", "load_before": 7.5},
        "versions": {"java": "17"},
        "settings": {"spark_driver_memory": "640m"},
        "sizes": {"backlog": 120_000, "users": [5_000]},
        "measured_at": "then",
    }
    assert [line for line in shown(document, old) if line.startswith("differs")] == [
        "differs: machine.processor AMD EPYC [virtual], before x86_64",
        "differs: settings.partitions 4, before not recorded",
        "differs: sizes.backlog 500000, before 120000",
        "differs: versions.java not recorded, before 17",
    ]


@pytest.mark.parametrize("old", [{}, {"stages": 5, "catch_up": [], "latency": {"5000": 3}, "sizes": None}])
def test_what_an_older_run_lacks_stays_blank(old: Document) -> None:
    assert figures(shown({"start_s": 7.0}, old)) == {"job start to first commit, s": ["7.0", "", ""]}


def test_sizes_written_and_read_again_do_not_differ() -> None:
    document = as_document(Findings(), Sizes.full(), load_settings())
    read_again = orjson.loads(orjson.dumps(document))
    assert not [line for line in shown(document, read_again) if line.startswith("differs")]


def caught_up(tx_per_s: float, **read_ms: float) -> CatchUp:
    return CatchUp(tx_per_s, 3.0, [], {}, read_ms)


def test_a_catch_up_beside_stored_rows_is_told_as_a_multiple_of_the_one_without() -> None:
    names = ("5000 users", "100000 users", "10000000 stored")
    found = Findings(catch_up=dict(zip(names, map(caught_up, (16_000, 10_000, 15_200)), strict=True)))
    ratio = as_document(found, Sizes.full(), load_settings())["ratio"]
    assert (ratio["stored_to_empty"], ratio["stored_to_empty_random_ids"]) == (0.95, None)
    found.catch_up["5000 users, random ids"] = caught_up(12_000)
    found.catch_up["10000000 stored, random ids"] = caught_up(6_000)
    document = as_document(found, Sizes.full(), load_settings())
    assert document["ratio"]["stored_to_empty_random_ids"] == 0.5
    shown_ratios = figures(shown(document, None))
    assert shown_ratios["catch-up beside stored rows, as a multiple of that without"] == ["0.95"]
    assert shown_ratios["the same with random ids"] == ["0.50"]


def test_the_slowest_read_is_that_beside_the_stored_rows_of_ascending_ids() -> None:
    found = Findings(catch_up={"5000 users": caught_up(9_000, days=12.0)})
    slowest = [as_document(found, Sizes.full(), load_settings())["dashboard"]["read_ms"]["max"]]
    for name, ms in (("10000000 stored", 250.0), ("10000000 stored, random ids", 900.0)):
        found.catch_up[name] = caught_up(7_000, days=ms, names=5.0)
        document = as_document(found, Sizes.full(), load_settings())
        slowest.append(document["dashboard"]["read_ms"]["max"])
    assert slowest == [12.0, 250.0, 250.0]
    assert figures(shown(document, None))[
        "the dashboard's slowest read after it, ms: 10000000 stored, random ids"
    ] == ["900"]


def test_how_often_the_open_page_could_not_read_is_told() -> None:
    document = as_document(Findings(start_s=7.0, page_problems=["x"] * 3), Sizes.full(), load_settings())
    assert figures(shown(document, None))["times that its open page could not read the database"] == ["3"]


def test_the_catch_ups_that_are_compared_are_those_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names are made in one place and looked up in another."""
    rates = iter([10_000, 12_000, 9_000, 6_000])
    monkeypatch.setattr("benchmarks.phases.catch_up", lambda *_, **__: caught_up(next(rates)))
    monkeypatch.setattr("benchmarks.phases.populated_site", lambda *_: nullcontext((None, None)))
    monkeypatch.setattr("benchmarks.phases.store_more", lambda *_: None)
    steady = replace(paced([0]), rate=7_500, cpu_us_per_tx={"mysql": 50.0, "jvm": 30.0})
    monkeypatch.setattr("benchmarks.bench._steady", lambda *_: steady)
    sizes, found = replace(Sizes.full(), users=(50,), stored=1_000), Findings()
    pipeline: Any = None
    for population in (Population(50), Population(50, random_ids=True)):
        _measure_catch_up(pipeline, population, sizes, 100, found, lambda _: None)
    document = as_document(found, sizes, load_settings())
    ratio = document["ratio"]
    assert (ratio["stored_to_empty"], ratio["stored_to_empty_random_ids"]) == (1.2, 0.67)
    assert costs_drawn(document)["50 users, 7,500 a second"] == 80.0
    assert costs_by_users_drawn(document)["at 7,500 a second"] == [(50, 80.0)]
    assert [users for users, _ in costs_by_users_drawn(document)["a backlog"]] == [50]


def costs_drawn(document: dict[str, Any]) -> dict[str, float]:
    """The names of the bars, and how long they are."""
    axes = Figure().subplots()
    _draw_costs(axes, document)
    names = [each.get_text() for each in axes.get_yticklabels()]
    ends = dict.fromkeys(names, 0.0)
    for bar in axes.patches:
        assert isinstance(bar, Rectangle)
        name = names[round(bar.get_y() + bar.get_height() / 2)]
        ends[name] = max(ends[name], bar.get_x() + bar.get_width())
    return ends


def costs_by_users_drawn(document: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """The names of the lines, and their points."""
    axes = Figure().subplots()
    _draw_cost_by_users(axes, document)
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in axes.get_lines()
    }


@pytest.mark.parametrize(
    ("cpuinfo", "processor"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nmodel name\t: another\n", "AMD EPYC 7B13"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", platform.processor() or platform.machine()),
        (None, platform.processor() or platform.machine()),
    ],
)
def test_the_processor_is_told_by_its_model_where_there_is_one(
    tmp_path: Path, cpuinfo: str | None, processor: str
) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert _processor(tmp_path / "cpuinfo") == processor != ""


def test_a_document_says_what_was_measured_on_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_MASTER", "local[1]")
    found = Findings(load_before=0.123, versions={"database": "8.4.3", "java": "17"})
    document = as_document(found, Sizes.quick(), load_settings())
    assert document["machine"]["load_before"] == 0.12
    assert (document["versions"]["database"], document["versions"]["java"]) == ("8.4.3", "17")
    told = document["settings"]
    assert (told["spark_master"], told["partitions"], told["alert_cooldown_seconds"]) == ("local[1]", 4, 0.0)


def test_a_document_of_nothing_measured_has_all_keys_and_can_be_shown() -> None:
    document = as_document(Findings(), Sizes.quick(), load_settings())
    assert (document["sustained"], document["latency"]) == ({}, {"lone": {"commit_ms": {}}})
    assert document["catch_up"] == {"tx_per_s": None}
    assert figures(shown(document, None)) == {}
