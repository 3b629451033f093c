"""Where the history to train on comes from: a CSV, with a file of labels or without, or the database."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
from sqlalchemy import Engine

from fraudstream.known_outcomes import last_words
from fraudstream.labels import LabelFileError, read_labels, read_truth, without_transaction
from fraudstream.offline import usable_transactions
from fraudstream.store.training_data import read_training_data
from fraudstream.training import History, labelled, rows_sha256, unlabelled


@dataclass(frozen=True)
class FoundHistory:
    """A history, what it was read from in words, and what of the labels could not be used, a line each."""

    history: History
    source: str
    warnings: tuple[str, ...] = ()


def from_csv(
    data: Path,
    labels: Path | None,
    *,
    label_delay_s: int,
    zone: ZoneInfo,
    now: datetime,
) -> FoundHistory:
    """The usable transactions of `data`, in the file's order, with what `labels` says of them.

    `now`: local time in `zone`. Raises CsvError, LabelFileError, and TrainingError when no label is of one
    of the transactions.
    """
    found, warnings = (None, []) if labels is None else _read_label_file(labels, zone, now)
    transactions = usable_transactions(data, zone)
    with data.open("rb") as file:
        data_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    history, unused = _joined(transactions, found, label_delay_s, data_sha256)
    source = f"{data}, labels {labels}" if labels else str(data)
    return FoundHistory(history, source, (*warnings, *unused))


def from_database(engine: Engine, *, label_delay_s: int, use_labels: bool = True) -> FoundHistory:
    """The stored transactions, in order of arrival, with what the labels table says of them.

    Of several sources the word that became known last counts. An empty table is no labels. Raises
    DBAPIError, and TrainingError when there are labels and none is of a stored transaction.
    """
    transactions, said = read_training_data(engine)
    found = last_words(said).rename(columns={"fraud": "is_fraud"}) if use_labels and len(said) else None
    history, unused = _joined(transactions, found, label_delay_s, rows_sha256(transactions))
    return FoundHistory(history, f"the database {engine.url.database}", unused)


def _joined(
    transactions: pa.Table, labels: pd.DataFrame | None, label_delay_s: int, data_sha256: str
) -> tuple[History, tuple[str, ...]]:
    if labels is None:
        return unlabelled(transactions, data_sha256=data_sha256), ()
    history = labelled(transactions, labels, label_delay_s=label_delay_s, data_sha256=data_sha256)
    strangers = without_transaction(labels, transactions["TransactionID"])
    if not strangers:
        return history, ()
    unused = (
        f"{len(strangers):,} of {len(labels):,} labels are left out, because their transactions are not in "
        f"the data, such as {strangers[0]!r}"
    )
    return history, (unused,)


def _read_label_file(path: Path, zone: ZoneInfo, now: datetime) -> tuple[pd.DataFrame, list[str]]:
    """(TransactionID, is_fraud, known_at_s: missing where the file does not say), and the rows left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            header = {cell.strip() for cell in next((cells for cells in csv.reader(lines) if cells), [])}
            lines.seek(0)
            if header.isdisjoint({"is_fraud", "label"}):
                raise LabelFileError(
                    "line 1: the header must name TransactionID and is_fraud, or TransactionID, label and "
                    f"known_at; it has {', '.join(sorted(header)) or 'nothing'}"
                )
            if "label" not in header:
                return read_truth(lines).assign(known_at_s=np.nan), []
            read = read_labels(lines, zone, now)
    except UnicodeDecodeError as error:
        raise LabelFileError(f"{path} is not UTF-8 text: {error}") from None
    except (csv.Error, LabelFileError) as error:
        raise LabelFileError(f"{path}, {error}") from None
    said = pd.DataFrame(
        {
            "TransactionID": pd.Series([each.transaction_id for each in read.labels], dtype=object),
            "is_fraud": pd.Series([each.outcome == "fraud" for each in read.labels], dtype=bool),
            "known_at_s": np.array([each.known_at for each in read.labels], "datetime64[s]").astype(np.int64),
        }
    )
    if not read.bad_rows:
        return said, []
    first, number = read.bad_rows[0], len(read.bad_rows)
    left_out = f"{path}: {number:,} rows are left out, the first in line {first.line}: {first.problem}"
    if said.empty:
        raise LabelFileError(f"{left_out}; no row is left")
    return said, [left_out]
