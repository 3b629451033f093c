"""Confirmed outcomes of transactions as a CSV brings them: what a row says, or what is wrong with it.

There are two kinds of file: labels that became known at some time, which are imported (`read_labels`), and
the truth about data from the past, for training and evaluation (`read_truth`).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraudstream.schema import EARLIEST_TIME, MAX_LENGTH

Outcome = Literal["fraud", "legitimate"]
OUTCOMES: tuple[Outcome, ...] = ("fraud", "legitimate")
COLUMNS = ("TransactionID", "label", "known_at")
TRUTH_COLUMNS = ("TransactionID", "is_fraud")

_IS_FRAUD = {"0": False, "1": True, "false": False, "true": True}

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?", re.ASCII)


class LabelFileError(Exception):
    """The file cannot be read as a CSV of labels at all; the text names the line and what must be there."""


@dataclass(frozen=True)
class Label:
    """What became known of a transaction; `known_at` is local time in TZ, in whole seconds."""

    transaction_id: str
    outcome: Outcome
    known_at: datetime


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, by the line of the file on which it ends; the first is 1."""

    line: int
    problem: str


@dataclass(frozen=True)
class LabelFile:
    """`labels` has one for each TransactionID: of several, the one that became known last."""

    labels: tuple[Label, ...]
    bad_rows: tuple[BadRow, ...]


def read_labels(lines: Iterable[str], zone: tzinfo, now: datetime) -> LabelFile:
    """Read a CSV with the columns COLUMNS, in any order and among others.

    A time with an offset is converted to `zone`, fractions of a second are cut; `now` is the local time
    there, and nothing can be known later. Raises LabelFileError without a fitting header, and where the
    text is no CSV from some line on.
    """
    newest: dict[str, tuple[Label, int]] = {}
    bad_rows: list[BadRow] = []
    for line, cells in _rows(csv.reader(lines, strict=True), COLUMNS):
        try:
            label = _label(cells, zone, now)
            earlier, earlier_line = newest.get(label.transaction_id, (None, 0))
            if earlier is not None and earlier.known_at == label.known_at and earlier != label:
                raise ValueError(f"line {earlier_line} says {earlier.outcome!r} as of the same time")
        except ValueError as error:
            bad_rows.append(BadRow(line, str(error)))
            continue
        if earlier is None or earlier.known_at < label.known_at:
            newest[label.transaction_id] = label, line
    return LabelFile(tuple(label for label, _ in newest.values()), tuple(bad_rows))


def read_truth(lines: Iterable[str]) -> pd.DataFrame:
    """Read a CSV with the columns TRUTH_COLUMNS and, where it names them, `scenario`, among others.

    One row for each TransactionID, in the file's order: TransactionID (str), is_fraud (bool; in the file 0 or
    1, or true or false in any case), scenario (str, None where there is none). A row may be repeated. Raises
    LabelFileError at the first row that says something else, or contradicts an earlier one of its
    TransactionID, with the line and what must be there.
    """
    said: dict[str, tuple[bool, str | None]] = {}
    kinds: dict[tuple[bool, str | None], tuple[bool, str | None]] = {}
    for line, cells in _rows(csv.reader(lines, strict=True), TRUTH_COLUMNS, optional=("scenario",)):
        try:
            transaction_id, is_fraud, scenario = _truth(cells)
            # Millions of rows are of few kinds: one object of each is kept.
            kind = is_fraud, scenario or None
            said_now = kinds.setdefault(kind, kind)
            if said.setdefault(transaction_id, said_now) != said_now:
                raise ValueError(
                    f"{_shown(transaction_id)} contradicts an earlier line; each TransactionID must have one "
                    "is_fraud and scenario"
                )
        except ValueError as error:
            raise LabelFileError(f"line {line}: {error}") from None
    return pd.DataFrame(
        {
            "TransactionID": pd.Series(list(said), dtype=object),
            "is_fraud": np.fromiter((is_fraud for is_fraud, _ in said.values()), bool, len(said)),
            "scenario": pd.Series([scenario for _, scenario in said.values()], dtype=object),
        }
    )


def outcomes_of(truth: pd.DataFrame, transaction_ids: pa.ChunkedArray) -> NDArray[np.int8]:
    """model.FRAUD, LEGITIMATE or UNKNOWN for each transaction, in their order; `truth` as of `read_truth`."""
    # The dashboard reads this module, too, and has no use for scikit-learn.
    from fraudstream.model import FRAUD, LEGITIMATE, UNKNOWN

    place = _places(truth, transaction_ids)
    codes = np.append(np.where(truth["is_fraud"].to_numpy(dtype=bool), FRAUD, LEGITIMATE), UNKNOWN)
    return codes[place].astype(np.int8)


def scenarios_of(truth: pd.DataFrame, transaction_ids: pa.ChunkedArray) -> NDArray[np.object_]:
    """The scenario of each transaction, in their order; None where none is named."""
    scenarios = np.array([*truth["scenario"], None], dtype=object)
    return scenarios[_places(truth, transaction_ids)]


def without_transaction(truth: pd.DataFrame, transaction_ids: pa.ChunkedArray) -> list[str]:
    """The labelled TransactionIDs that are not among `transaction_ids`, in the order of `truth`."""
    labelled = pa.array(truth["TransactionID"], pa.string())
    return labelled.filter(pc.invert(pc.is_in(labelled, value_set=_joined(transaction_ids)))).to_pylist()


def _places(truth: pd.DataFrame, transaction_ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """The row of `truth` for each transaction; -1 where it has none."""
    labelled = pa.array(truth["TransactionID"], pa.string())
    found = pc.index_in(_joined(transaction_ids), value_set=labelled)
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _joined(transaction_ids: pa.ChunkedArray) -> pa.Array:
    return pa.chunked_array(transaction_ids).combine_chunks()


def _rows(
    reader: Iterator[list[str]], columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str] | list[str]]]:
    """(line, cells by column) of each row under the header; plain cells where their number is another."""
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            line = reader.line_num  # type: ignore[attr-defined]  # typeshed hides the reader's class
            raise LabelFileError(f"line {line}: not a CSV from here on ({error})") from None
        if cells is None:
            break
        if not cells:
            continue
        if header is None:
            header = _checked_header(cells, reader.line_num, columns, optional)  # type: ignore[attr-defined]
            continue
        fitting = len(cells) == len(header)
        yield reader.line_num, dict(zip(header, cells, strict=True)) if fitting else cells  # type: ignore[attr-defined]
    if header is None:
        raise LabelFileError(f"the file is empty; it must begin with {','.join(columns)}")


def _checked_header(
    cells: Sequence[str], line: int, columns: Sequence[str], optional: Sequence[str]
) -> list[str]:
    header = [name.strip() for name in cells]
    for name in (*columns, *optional):
        if header.count(name) > 1 or (name in columns and name not in header):
            problem = "is named twice" if name in header else "is missing"
            raise LabelFileError(f"line {line}: column {name} {problem}; the header has {', '.join(header)}")
    return header


def _label(cells: dict[str, str] | list[str], zone: tzinfo, now: datetime) -> Label:
    """Raises ValueError with what is wrong with the row."""
    transaction_id, outcome, known_at = _transaction_and(cells, "label", "known_at")
    if outcome.lower() not in OUTCOMES:
        raise ValueError(f"label {_shown(outcome)} is neither fraud nor legitimate")
    return Label(transaction_id, cast(Outcome, outcome.lower()), _known_at(known_at, zone, now))


def _truth(cells: dict[str, str] | list[str]) -> tuple[str, bool, str]:
    """Raises ValueError with what is wrong with the row."""
    transaction_id, is_fraud, scenario = _transaction_and(cells, "is_fraud", "scenario")
    if is_fraud.lower() not in _IS_FRAUD:
        raise ValueError(f"is_fraud {_shown(is_fraud)} is neither 0 nor 1 (or false, true)")
    return transaction_id, _IS_FRAUD[is_fraud.lower()], scenario


def _transaction_and(cells: dict[str, str] | list[str], *columns: str) -> tuple[str, ...]:
    """The row's TransactionID and what `columns` have, "" where the file has no such column."""
    if isinstance(cells, list):
        raise ValueError(f"the row has {len(cells)} cells, another number than the header")
    transaction_id = cells["TransactionID"].strip()
    if not transaction_id:
        raise ValueError("TransactionID is missing")
    if len(transaction_id) > MAX_LENGTH["TransactionID"]:
        raise ValueError(f"TransactionID has more than {MAX_LENGTH['TransactionID']} characters")
    return transaction_id, *(cells.get(name, "").strip() for name in columns)


def _known_at(text: str, zone: tzinfo, now: datetime) -> datetime:
    if not _TIME.fullmatch(text):
        raise ValueError(f"known_at {_shown(text)} is not YYYY-MM-DD HH:MM:SS")
    try:
        time = datetime.fromisoformat(text)
        local = (time.astimezone(zone) if time.tzinfo else time).replace(tzinfo=None, microsecond=0)
    except (ValueError, OverflowError):
        raise ValueError(f"known_at {_shown(text)} is no date that there is") from None
    if local < EARLIEST_TIME:
        raise ValueError(f"known_at {local} is before {EARLIEST_TIME:%Y-%m-%d}")
    if local > now:
        raise ValueError(f"known_at {local} lies in the future")
    return local


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
