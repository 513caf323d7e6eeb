"""Tables in files of text: comma-separated values and their relatives, plain or compressed by gzip.

    bytes -> lines -> how they are written (`problems.dialect`) -> cells, read by pandas as text
          -> names and columns -> samples (`problems.columns`)

Pandas takes the cells apart; what they mean is decided here, cell by cell, so that nothing is read
as something else without a word. Every error names the line, from 1, as an editor counts it.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from problems.cells import Kind, column_kind, decimal_mark, kinds
from problems.columns import Column, Columns, raw_data
from problems.dialect import Dialect, blanks_to_one, find_dialect, split
from problems.headers import check_first_line, check_names, target_names
from problems.reading import Reading
from problems.tables import DataError, RawData, quoted, shortened, unreadable

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".data", ".dat", ".txt")
GZIP = b"\x1f\x8b"  # how such a file begins


@dataclass(frozen=True, eq=False)
class _Table:
    """The cells of a file: (rows, columns) of stripped text, and the line of every row."""

    where: str
    cells: NDArray[Any]
    lines: NDArray[np.intp]


def read_text(
    path: Path, target_columns: Sequence[str] | str | None = None, reading: Reading | None = None
) -> RawData:
    """Read a table; the text is UTF-8, blank lines are skipped.

    A column whose cells are mostly numbers (`problems.cells.MOSTLY`) is numeric, and a cell of it
    that is no number is refused; any other is text.

    Args:
        path: the file; gzip is recognised by its first bytes.
        target_columns: names of the target columns; by default the last. The others are inputs. A
            single text is a name, or several separated by commas, in quotes where they hold some.
        reading: what is known of how it is written, and how to treat gaps and inputs of text.

    Raises:
        DataError: anything that is not such a table; the message names the line (from 1, the header
            included) and the column.
    """
    reading = Reading() if reading is None else reading
    where = quoted(path)
    lines = list(io.StringIO(_text(path), newline=""))
    dialect = find_dialect(where, lines, reading.separator, reading.comment)
    table = _table(where, dialect)
    decimal = _decimal(table, dialect, reading)
    notes: list[str] = []
    if reading.has_header:
        first = int(table.lines[0])
        remarks = {
            line: text for line, text in _full_remarks(table, dialect, lines) if line < first
        }
        note = check_first_line(where, table.cells, first, decimal, remarks)
        notes += [note] if note else []
        header, start = table.cells[0].tolist(), 1
    else:
        header, start = [f"x{j + 1}" for j in range(table.cells.shape[1])], 0
    _check_remarks(table, dialect, decimal, lines, reading, start)
    check_names(where, header)
    chosen = target_names(where, header, target_columns)
    columns = [
        Column(name, table.cells[start:, j].astype(str), "targets" if name in chosen else "inputs")
        for j, name in enumerate(header)
    ]

    def place(row: int, column: Column) -> str:
        line = table.lines[start + row]
        return f"{where}, line {line} (row {row + 1}), column {column.name!r}"

    by_name = {column.name: column for column in columns}
    return raw_data(
        Columns(
            path.name,
            tuple(column for column in columns if column.role == "inputs"),
            tuple(by_name[name] for name in chosen),
            place,
            decimal,
            tuple(notes),
        ),
        reading.missing,
        reading.categorical,
    )


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise DataError(
            f"{quoted(path)} is no whole gzip file (truncated or damaged); compress it again."
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{quoted(path)} is not UTF-8 text (byte {error.start + 1}), expected a CSV file; "
            "export it as CSV with UTF-8 encoding."
        ) from None
    if "\0" in text:
        raise DataError(
            f"{quoted(path)} is a binary file (it holds NUL bytes), expected a CSV file; "
            "export it as CSV with UTF-8 encoding."
        )
    return text


def _table(where: str, dialect: Dialect) -> _Table:
    """All cells by pandas, every line with as many as most have."""
    import pandas

    lines, count = dialect.lines, dialect.cells
    if dialect.separator == " ":
        lines = tuple(blanks_to_one(line) for line in lines)
    text = "".join(lines)
    try:
        # One column more than expected: what is in it belongs to a line that is too long.
        frame = pandas.read_csv(
            io.StringIO(text, newline=""),
            sep=dialect.separator,
            header=None,
            names=range(count + 1),
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            engine="python",  # the one that tells a cell that is empty from one that is not there
        )
    except pandas.errors.ParserError as error:
        raise _broken(where, text, dialect, str(error)) from None
    cells = frame.to_numpy(dtype=object)
    is_there = ~frame.isna().to_numpy()
    first_lines = _first_lines(cells) if '"' in text else np.arange(1, len(cells) + 1)
    cells[~is_there] = ""
    cells = np.frompyfunc(str.strip, 1, 1)(cells)
    # A line of blanks has one cell, which is empty.
    full = is_there.any(axis=1) & ((cells != "").any(axis=1) | is_there[:, 1:].any(axis=1))
    cells, is_there, first_lines = cells[full], is_there[full], first_lines[full]
    lengths = is_there.sum(axis=1)
    wrong = np.flatnonzero(lengths != count)
    if wrong.size:
        at = int(wrong[0])
        raise _wrong_length(where, int(first_lines[at]), int(lengths[at]), count, at == 0)
    cells = cells[:, :count]
    # A separator at the end of every line makes a column of nothing.
    if count > 2 and not (cells[:, -1] != "").any():
        cells = cells[:, :-1]
    return _Table(where, cells, first_lines)


def _first_lines(cells: NDArray[Any]) -> NDArray[np.intp]:
    """The number, from 1, of the line in which every row begins; quoted cells may hold several."""
    ends = [
        sum(
            cell.count("\n") + cell.count("\r") - cell.count("\r\n")
            for cell in row
            if isinstance(cell, str)
        )
        for row in cells
    ]
    before = np.concatenate([[0], np.cumsum(ends)[:-1]]).astype(np.intp)
    return np.arange(1, len(cells) + 1) + before


def _wrong_length(where: str, line: int, length: int, count: int, is_first: bool) -> DataError:
    advice = "repair that line"
    if is_first and length < count:
        advice += (
            "; if it names the columns, give every one a name, and if it is a title above the "
            "names, put a # before it"
        )
    return DataError(
        f"{where}, line {line}: {length} cells found, {count} expected (as many as in most lines, "
        f"the header included); {advice}."
    )


def _broken(where: str, text: str, dialect: Dialect, reason: str) -> DataError:
    """The error for the first line of a text that pandas does not read."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.separator,
        skipinitialspace=True,
        strict=True,
    )
    line, is_first = 1, True
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) != dialect.cells:
                    return _wrong_length(where, line, len(cells), dialect.cells, is_first)
                is_first = False
            line = reader.line_num + 1
    except csv.Error as error:
        reason = str(error)
    return DataError(
        f"{where}, line {line}: not a CSV record ({reason.strip().rstrip('.')}); "
        "check the quotes there."
    )


def _decimal(table: _Table, dialect: Dialect, reading: Reading) -> str:
    if reading.decimal is not None:
        return reading.decimal
    if dialect.separator == ",":
        return "."
    found = decimal_mark(table.cells.ravel().tolist())
    if found is None:
        row, column = next(
            at for at, cell in np.ndenumerate(table.cells) if decimal_mark([cell]) != "."
        )
        raise DataError(
            f"{table.where}, line {table.lines[row]}, column {column + 1}: the comma in "
            f"{table.cells[row, column]!r} may be a decimal mark or separate thousands; "
            "give --decimal , for the first, or write the numbers without it."
        )
    return found


def _check_remarks(
    table: _Table,
    dialect: Dialect,
    decimal: str,
    lines: Sequence[str],
    reading: Reading,
    start: int,
) -> None:
    """Refuse lines with # that may be samples, unless it was said that they are not.

    A sample may begin with # only where the first column holds words.
    """
    if reading.comment is not None or len(table.cells) == start:
        return
    first_column = table.cells[start:, 0].tolist()
    if column_kind(first_column, kinds(first_column, decimal), decimal) is not Kind.WORD:
        return
    for line, text in _full_remarks(table, dialect, lines):
        if line > table.lines[0]:
            raise DataError(
                f"{table.where}, line {line}: {shortened(text)} begins with # and has as many "
                "cells as the others, so it may be a remark or a sample; give --comment '#' to "
                "leave such lines out, or --comment '' to keep them."
            )


def _full_remarks(
    table: _Table, dialect: Dialect, lines: Sequence[str]
) -> Iterator[tuple[int, str]]:
    """Number and text of the remarks that have as many cells as the rows."""
    for line in dialect.remarks:
        text = lines[line - 1].strip()
        if len(split(text, dialect.separator)) == table.cells.shape[1]:
            yield line, text
