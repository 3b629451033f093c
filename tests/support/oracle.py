"""What the pipeline must make of a file, said a second time, in plain Python and pandas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
from sqlalchemy import Engine, text

from fraudstream.schema import FIELD_NAMES, TRANSACTION_ARROW

Row = tuple[str, str, Decimal, str | None, datetime, str | None, str | None]


@dataclass(frozen=True)
class Expected:
    """`rows` by TransactionID; `rejected` has the reasons of dead letters, one for each."""

    rows: dict[str, Row]
    duplicates: int
    rejected: list[str]


def expected_of_csv(path: Path) -> Expected:
    """The oracle for a file in the form of the shipped one: known spellings, times in one format."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False).map(str.strip)
    rows: dict[str, Row] = {}
    duplicates, rejected = 0, []
    for record in frame.to_dict("records"):
        missing = [name for name in ("TransactionID", "UserID", "Amount", "Time") if record[name] == ""]
        if missing:
            rejected.append(f"missing {missing[0]}")
            continue
        row = (
            record["TransactionID"],
            record["UserID"],
            Decimal(record["Amount"]).quantize(Decimal("0.01"), ROUND_HALF_UP),
            record["Location"] or None,
            datetime.fromisoformat(record["Time"]),
            record["Device"] or None,
            record["Merchant"] or None,
        )
        if row[0] in rows:
            assert rows[row[0]] == row, "the shipped file has exact duplicates only"
            duplicates += 1
        rows[row[0]] = row
    return Expected(rows, duplicates, sorted(rejected))


def usable_transactions(arrivals: pd.DataFrame) -> pa.Table:
    """TRANSACTION_ARROW rows of text as a CSV has it, in order of arrival, by plain pandas: nothing
    required is missing, and each id counts once."""
    present = arrivals[(arrivals[["Amount", "Time"]] != "").all(axis=1)].drop_duplicates("TransactionID")
    columns = {name: pa.array(present[name].replace("", None), pa.string()) for name in FIELD_NAMES}
    columns["Time"] = pa.array(pd.to_datetime(present["Time"]), pa.timestamp("us"))
    return pa.table(columns).cast(TRANSACTION_ARROW)


def stored_rows(engine: Engine) -> dict[str, Row]:
    """What `clean_data` holds, in the form of `Expected.rows`."""
    columns = ", ".join(f"`{name}`" for name in FIELD_NAMES)
    with engine.connect() as connection:
        return {row[0]: tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM clean_data"))}
