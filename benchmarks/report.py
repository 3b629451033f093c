"""The findings as a table, against an older run, and as a picture. All from the JSON document of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

matplotlib.use("agg")

Document = dict[str, Any]

# Key in the document -> what it says, with its unit.
_FIGURES: dict[str, str] = {
    "catch_up.tx_per_s": "catch-up, transactions a second",
    "sustained.rate": "a steady rate, transactions a second",
    "sustained.tx_per_s": "of these committed, transactions a second",
    "sustained.lag.largest": "its largest lag, records",
    "sustained.commit_ms.p95": "its produced to committed, p95, ms",
    "sustained.mail_ms.p95": "its produced to mailed, p95, ms",
    "latency.lone.commit_ms.p50": "a lone record, produced to committed, p50, ms",
    "latency.lone.commit_ms.p95": "a lone record, produced to committed, p95, ms",
    "producer.msg_per_s": "producer, messages a second",
    "plain_consumer.tx_per_s": "plain consumer without features, transactions a second",
    "naive.tx_per_s": "naive way, transactions a second",
    "ratio.catch_up_to_plain_consumer": "catch-up as a multiple of the plain consumer",
    "ratio.catch_up_to_naive": "catch-up as a multiple of the naive way",
    "ratio.stored_to_empty": "catch-up beside stored rows, as a multiple of that without",
    "ratio.stored_to_empty_random_ids": "the same with random ids",
    "dashboard.read_ms.max": "the dashboard's slowest read, ms",
    "dashboard.page_problems": "times that its open page could not read the database",
    "memory_mib.peak": "memory at the highest, MiB",
    "start_s": "job start to first commit, s",
}
_GREW = {
    True: "grew: the rate was not sustained.",
    False: "did not grow: the rate was sustained.",
    None: "cannot be judged: less than a minute was looked at.",
}
_PERCENTILES = ("p50", "p95", "p99")
# What two runs must have in common for their figures to be comparable.
_CONDITIONS = ("machine", "versions", "settings", "sizes")
_VARIES = "machine.load_before"


def value_of(document: Document, key: str) -> float | None:
    """The number under a dotted key; None where the run has none."""
    found = _found(document, key)
    return found if isinstance(found, (int, float)) else None


def _found(document: Document, key: str) -> Any:
    found: Any = document
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found


def show(document: Document, old: Document | None, console: Console) -> None:
    """Print all figures; with an older run, its figures and the ratio beside them, and what else differs."""
    table = Table("", "this run", *(["older run", "ratio"] if old is not None else []))
    for key, name in _figures(document, old or {}).items():
        now, before = value_of(document, key), value_of(old or {}, key)
        if now is not None or before is not None:
            table.add_row(name, *_cells(key, now, before)[: 1 if old is None else 3])
    console.print(table)
    for line in [*_lags(document, old or {}), *([] if old is None else _differences(document, old))]:
        console.print(line, markup=False, soft_wrap=True)


def _cells(key: str, now: float | None, before: float | None) -> tuple[str, str, str]:
    ratio = f"{now / before:.2f}" if now is not None and before else ""
    return _number(key, now), _number(key, before), ratio


def _number(key: str, value: float | None) -> str:
    if value is None:
        return ""
    if key.startswith("ratio."):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def _lags(document: Document, old: Document) -> Iterator[str]:
    for whose, each in (("The lag", document), ("The older run's lag", old)):
        if "lag_grew" in (sustained := _part(each, "sustained")):
            yield f"{whose} {_GREW[sustained['lag_grew']]}"


def _differences(document: Document, old: Document) -> Iterator[str]:
    now, before = _conditions(document), _conditions(old)
    for key in now | before:
        if key != _VARIES and now.get(key) != before.get(key):
            yield f"differs: {key} {_told(now.get(key))}, before {_told(before.get(key))}"


def _conditions(document: Document) -> dict[str, Any]:
    return {f"{part}.{name}": value for part in _CONDITIONS for name, value in _part(document, part).items()}


def _told(value: Any) -> str:
    return "not recorded" if value is None else str(value)


def _part(document: Document, key: str) -> dict[str, Any]:
    """What is under a dotted key; empty where the run is of before there was such a key."""
    found = _found(document, key)
    return found if isinstance(found, dict) else {}


def _figures(document: Document, old: Document) -> dict[str, str]:
    """Those of either run."""
    names = dict(_FIGURES)
    for named in (_catch_ups, _latencies, _stages):
        names |= named(document) | named(old)
    return names


def _stages(document: Document) -> dict[str, str]:
    return {
        f"stages.ms_per_1000.{stage}": f"stage alone, ms for 1,000 records: {stage}"
        for stage in _part(_part(document, "stages"), "ms_per_1000")
    }


def _catch_ups(document: Document) -> dict[str, str]:
    done = _caught_up(document)
    return {f"catch_up.{name}.tx_per_s": f"catch-up, {name}" for name in done} | {
        f"catch_up.{name}.read_ms.max": f"the dashboard's slowest read after it, ms: {name}" for name in done
    }


def _latencies(document: Document) -> dict[str, str]:
    return {
        f"latency.{rate}.{kind}.{percentile}": f"at {rate} a second, {words}, {percentile}, ms"
        for rate in _part(document, "latency")
        if rate != "lone"
        for kind, words in (("commit_ms", "committed"), ("mail_ms", "mailed"))
        for percentile in _PERCENTILES
    }


def draw(document: Document, file: Path) -> None:
    """A PNG: rates and costs by what is stored, by users and by time, lag, latencies, stages and memory.

    What was not measured stays empty.
    """
    figure, grid = pyplot.subplots(4, 2, figsize=(14, 22), layout="constrained")
    for axes, (part, panel) in zip(grid.flat, _PANELS, strict=True):
        if _part(document, part):
            panel(axes, document)
        else:
            axes.set_axis_off()
    figure.savefig(file, dpi=80)
    pyplot.close(figure)


def _draw_rates(axes: Axes, document: Document) -> None:
    axes.set_title("Catch-up: transactions a second of each batch")
    axes.set_xlabel("records committed")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for name, each in _caught_up(document).items():
        committed, rates = [batch[0] for batch in each["batches"]], [batch[1] for batch in each["batches"]]
        axes.plot(committed, rates, "o-", label=name)
    _from_zero(axes)


def _draw_costs(axes: Axes, document: Document) -> None:
    axes.set_title("Processor time by process, us a transaction")
    costs = {name: each["cpu_us_per_tx"] for name, each in _caught_up(document).items()}
    for name, each in _part(document, "steady").items():
        costs[f"{name}, {each['rate']:,.0f} a second"] = each["cpu_us_per_tx"]
    below = [0.0] * len(costs)
    for part in dict.fromkeys(part for parts in costs.values() for part in parts):
        us = [parts.get(part, 0.0) for parts in costs.values()]
        axes.barh(list(costs), us, left=below, label=part)
        below = [start + width for start, width in zip(below, us, strict=True)]
    axes.invert_yaxis()
    _name_lines(axes)


def _draw_cost_by_users(axes: Axes, document: Document) -> None:
    axes.set_title("Processor time by users, us a transaction")
    axes.set_xlabel("users")
    axes.set_xscale("log")
    backlog = _by_users(_caught_up(document))
    steady = _by_users(_part(document, "steady"))
    rate = document["sizes"]["sustained_rate"]
    for name, points in {"a backlog": backlog, f"at {rate:,.0f} a second": steady}.items():
        if points:
            costs = [sum(each["cpu_us_per_tx"].values()) for each in points.values()]
            axes.plot(list(points), costs, "o-", label=name)
    axes.set_xticks(list(backlog), [f"{users:,}" for users in backlog])
    axes.set_xticks([], minor=True)
    _from_zero(axes)


def _draw_cost_over_time(axes: Axes, document: Document) -> None:
    sustained, seconds = document["sustained"], document["sizes"]["sustained_s"]
    axes.set_title("Processor time over time, us a transaction")
    axes.set_xlabel("seconds")
    costs = sustained["cost_us_per_tx"]
    ends = [seconds * (number + 1) / len(costs) for number in range(len(costs))]
    axes.plot(ends, costs, "o-", label=f"at {sustained['rate']:,.0f} a second")
    _from_zero(axes)


def _draw_latencies(axes: Axes, document: Document) -> None:
    axes.set_title("Produced to committed, ms")
    axes.set_xlabel("transactions a second")
    by_rate = {rate: each["commit_ms"] for rate, each in document["latency"].items() if rate != "lone"}
    for percentile in _PERCENTILES:
        axes.plot(list(by_rate), [each[percentile] for each in by_rate.values()], "o-", label=percentile)
    _from_zero(axes)


def _draw_lag(axes: Axes, document: Document) -> None:
    sustained = document["sustained"]
    axes.set_title(f"Lag at {sustained['rate']:,.0f} transactions a second")
    axes.set_xlabel("seconds")
    axes.plot(sustained["lag"]["each_second"], label="records")
    _from_zero(axes)


def _draw_stages(axes: Axes, document: Document) -> None:
    stages = document["stages"]["ms_per_1000"]
    axes.set_title("Each stage alone, ms for 1,000 records")
    axes.barh(list(stages), list(stages.values()))
    axes.invert_yaxis()


def _draw_memory(axes: Axes, document: Document) -> None:
    memory = document["memory_mib"]
    axes.set_title(f"Memory at the highest, {memory['peak']:,.0f} MiB together")
    axes.barh(list(memory["at_peak"]), list(memory["at_peak"].values()))
    axes.invert_yaxis()


# Each with the part of the document that it draws.
_PANELS = (
    ("catch_up", _draw_rates),
    ("catch_up", _draw_costs),
    ("catch_up", _draw_cost_by_users),
    ("sustained", _draw_cost_over_time),
    ("sustained", _draw_lag),
    ("latency", _draw_latencies),
    ("stages", _draw_stages),
    ("memory_mib.at_peak", _draw_memory),
)


def _caught_up(document: Document) -> Document:
    return {name: each for name, each in _part(document, "catch_up").items() if isinstance(each, dict)}


def _by_users(parts: Document) -> dict[int, Document]:
    """Those of ascending ids in an empty database, by their number of users."""
    return {int(name.removesuffix(" users")): each for name, each in parts.items() if name.endswith(" users")}


def _from_zero(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    _name_lines(axes)


def _name_lines(axes: Axes) -> None:
    """Below the panel, where the names cover nothing."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)
