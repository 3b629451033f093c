"""The CSV of transactions, read row by row: its shape is checked, its cells are left as they are."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fraudstream.schema import FIELD_NAMES

Cells = Sequence[str]

# Escaped as JSON, such a row still fits into one Kafka record (1 MB by default).
MAX_ROW_CHARACTERS = 131_072
_OTHER_DELIMITERS = (";", "\t", "|")


class CsvError(Exception):
    """The file is not a CSV of transactions; the text names file, line and, where known, column."""

    def __init__(self, path: Path, problem: str, *, line: int | None = None, column: str = "") -> None:
        place = [str(path)]
        if line is not None:
            place.append(f"line {line}")
        if column:
            place.append(f"column {column}")
        super().__init__(f"{', '.join(place)}: {problem}")


def read_rows(path: Path) -> Iterator[Cells]:
    """The cells of each row in the order of FIELD_NAMES, text as in the file; blank lines are no rows.

    The file is UTF-8 (a byte-order mark is fine), comma-separated, with a header that names at least
    FIELD_NAMES in any order. One row is held at a time. Raises CsvError at the first row that is
    not readable, and when there is none at all.
    """
    try:
        with path.open("rb") as file:
            if file.peek(3).startswith(codecs.BOM_UTF8):
                file.read(3)
            # Decoded line by line, so that an error knows its line.
            yield from _checked_rows(path, csv.reader(map(bytes.decode, file), strict=True))
    except OSError as error:
        raise CsvError(path, error.strerror or str(error)) from error


def check_head(path: Path) -> None:
    """Raises CsvError unless the file has a fitting header and a readable first row."""
    next(read_rows(path))


def count_rows(path: Path) -> int:
    """How many rows the file has, taken from its line ends: a few too many if cells hold line ends."""
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        ends, last = 0, b"\n"
        for block in blocks:
            ends, last = ends + block.count(b"\n"), block[-1:]
    return max(ends + (last != b"\n") - 1, 0)


def _checked_rows(path: Path, reader: Iterator[list[str]]) -> Iterator[Cells]:
    header: list[str] = []
    pick: Callable[[list[str]], Cells] | None = None
    rows = 0
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]  # typeshed hides the reader's class
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise CsvError(path, _explain(error), line=line) from None
        except UnicodeDecodeError as error:
            raise _not_utf8(path, line, header, error) from None
        if cells is None:
            break
        if not cells:
            continue
        if pick is None:
            header = [name.strip() for name in cells]
            pick = _picker(path, line, header)
            continue
        if len(cells) != len(header):
            raise _ragged(path, line, header, cells)
        if sum(map(len, cells)) > MAX_ROW_CHARACTERS:
            raise CsvError(path, f"the row has more than {MAX_ROW_CHARACTERS:,} characters", line=line)
        rows += 1
        yield pick(cells)
    if pick is None:
        raise CsvError(path, f"the file is empty; it must begin with {','.join(FIELD_NAMES)}", line=1)
    if rows == 0:
        raise CsvError(path, "no rows after the header", line=line)


def _picker(path: Path, line: int, header: list[str]) -> Callable[[list[str]], Cells]:
    """What takes the seven fields, in order, out of a row under this header."""
    for name in FIELD_NAMES:
        if header.count(name) > 1:
            raise CsvError(path, "named twice in the header", line=line, column=name)
        if name not in header:
            raise CsvError(path, _why_missing(header), line=line, column=name)
    if tuple(header) == FIELD_NAMES:
        return lambda cells: cells
    positions = [header.index(name) for name in FIELD_NAMES]
    return lambda cells: [cells[position] for position in positions]


def _why_missing(header: list[str]) -> str:
    for delimiter in _OTHER_DELIMITERS:
        if any(delimiter in name for name in header):
            return f"not found; the columns seem to be separated by {delimiter!r}, they must be by ','"
    return f"not in the header, which has {', '.join(header)}"


def _ragged(path: Path, line: int, header: list[str], cells: list[str]) -> CsvError:
    if len(cells) < len(header):
        problem = f"no cell; the row has {len(cells)} of {len(header)}"
        return CsvError(path, problem, line=line, column=header[len(cells)])
    problem = f"one cell too many; the header has {len(header)} (a comma within a cell needs quotation marks)"
    return CsvError(path, problem, line=line, column=str(len(header) + 1))


def _not_utf8(path: Path, line: int, header: list[str], error: UnicodeDecodeError) -> CsvError:
    before = error.object[: error.start].decode()
    position = max(len(next(csv.reader([before]))) - 1, 0)
    column = header[position] if position < len(header) else str(position + 1)
    byte = error.object[error.start]
    return CsvError(path, f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8", line=line, column=column)


def _explain(error: csv.Error) -> str:
    if str(error) == "unexpected end of data":
        return "a quotation mark that is never closed"
    return str(error)
