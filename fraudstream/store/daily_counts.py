"""What each batch adds to the counts by day of event time: reasons of flagged rows, scores of all rows."""

from __future__ import annotations

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from fraudstream.schema import SCORE_BINS
from fraudstream.store.bulk import add_to_counters
from fraudstream.store.tables import CODES_LENGTH, REASON_CODE_LENGTH, rule_daily, score_daily


def add_to_daily_counts(connection: Connection, stored: pa.Table, model_version: str | None) -> None:
    """Count stored rows (columns Time, score, reasons) in the caller's transaction.

    Without a model a score is only a rule's verdict, and is not counted.
    """
    add_to_counters(connection, rule_daily, reasons_by_day(stored))
    if model_version is not None:
        scores = scores_by_day(stored)
        version = pa.repeat(pa.scalar(model_version), len(scores))
        add_to_counters(connection, score_daily, scores.append_column("model_version", version))


def joined_codes(reasons: str) -> str:
    """The codes of a row's reasons as `alerts.codes` has them."""
    return " ".join(_codes(reasons))[:CODES_LENGTH]


def _codes(reasons: str) -> list[str]:
    return [str(reason["code"])[:REASON_CODE_LENGTH] for reason in orjson.loads(reasons)]


def reasons_by_day(stored: pa.Table) -> pa.Table:
    """Columns day, code, flagged: how many rows of the day name the reason."""
    flagged = stored.filter(pc.is_valid(stored["reasons"]))
    days, codes = [], []
    for day, reasons in zip(_days(flagged).to_pylist(), flagged["reasons"].to_pylist(), strict=True):
        for code in set(_codes(reasons)):
            days.append(day)
            codes.append(code)
    named = pa.table({"day": pa.array(days, pa.date32()), "code": pa.array(codes, pa.string())})
    return _counted(named, "flagged")


def scores_by_day(stored: pa.Table) -> pa.Table:
    """Columns day, bin, transactions; SCORE_BINS bins of equal width from 0 to 1."""
    bins = pc.min_element_wise(pc.floor(pc.multiply(stored["score"], SCORE_BINS)), SCORE_BINS - 1)
    return _counted(pa.table({"day": _days(stored), "bin": bins.cast(pa.int16())}), "transactions")


def _days(stored: pa.Table) -> pa.ChunkedArray:
    return stored["Time"].cast(pa.timestamp("s")).cast(pa.date32())


def _counted(rows: pa.Table, name: str) -> pa.Table:
    key = rows.column_names
    return rows.group_by(key).aggregate([([], "count_all")]).rename_columns([*key, name])
