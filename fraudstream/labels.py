"""Confirmed outcomes of transactions as a CSV brings them: what a row says, or what is wrong with it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal, cast

from fraudstream.schema import EARLIEST_TIME, MAX_LENGTH

Outcome = Literal["fraud", "legitimate"]
OUTCOMES: tuple[Outcome, ...] = ("fraud", "legitimate")
COLUMNS = ("TransactionID", "label", "known_at")

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
    for line, cells in _rows(csv.reader(lines, strict=True)):
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


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, dict[str, str] | list[str]]]:
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
            header = _checked_header(cells, reader.line_num)  # type: ignore[attr-defined]
            continue
        fitting = len(cells) == len(header)
        yield reader.line_num, dict(zip(header, cells, strict=True)) if fitting else cells  # type: ignore[attr-defined]
    if header is None:
        raise LabelFileError(f"the file is empty; it must begin with {','.join(COLUMNS)}")


def _checked_header(cells: Sequence[str], line: int) -> list[str]:
    header = [name.strip() for name in cells]
    for name in COLUMNS:
        if header.count(name) != 1:
            problem = "is named twice" if name in header else "is missing"
            raise LabelFileError(f"line {line}: column {name} {problem}; the header has {', '.join(header)}")
    return header


def _label(cells: dict[str, str] | list[str], zone: tzinfo, now: datetime) -> Label:
    """Raises ValueError with what is wrong with the row."""
    if isinstance(cells, list):
        raise ValueError(f"the row has {len(cells)} cells, another number than the header")
    transaction_id, outcome, known_at = (cells[name].strip() for name in COLUMNS)
    if not transaction_id:
        raise ValueError("TransactionID is missing")
    if len(transaction_id) > MAX_LENGTH["TransactionID"]:
        raise ValueError(f"TransactionID has more than {MAX_LENGTH['TransactionID']} characters")
    if outcome.lower() not in OUTCOMES:
        raise ValueError(f"label {_shown(outcome)} is neither fraud nor legitimate")
    return Label(transaction_id, cast(Outcome, outcome.lower()), _known_at(known_at, zone, now))


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
