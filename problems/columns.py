"""From columns as they were read to samples: numbers, labels, and what to do about gaps.

    inputs    numbers; labels become columns of 0 and 1 where that is asked for
    targets   numbers, or labels, which are classes
    gaps      refused, or their rows are dropped, or the mean of the column takes their place

A column of text is read by its cells (`problems.cells`); one that holds numbers already is used as
it is, NaN standing for a gap. The same for files and for arrays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from problems.cells import (
    MISSING_AMONG_NUMBERS,
    Kind,
    column_kind,
    is_measured,
    kinds,
    may_have_comma,
    number,
)
from problems.tables import DataError, RawData, listed, shortened


@dataclass(frozen=True, eq=False)
class Column:
    """One column as it was read.

    Attributes:
        name: of the column.
        values: (N,), stripped text (dtype kind U), or integers, or float64 with NaN for gaps.
        role: "inputs" or "targets".
        is_labels: the text is labels whatever it says, as in a categorical column.
    """

    name: str
    values: NDArray[Any]
    role: str
    is_labels: bool = False


@dataclass(frozen=True, eq=False)
class Columns:
    """All columns of N samples.

    Attributes:
        name: the file's, or that of the arrays.
        inputs, targets: at least one of each.
        place: (row from 0, column) -> where that cell stands, in words.
        decimal: the decimal mark of text.
        notes: what there is to say about the reading, a sentence each.
    """

    name: str
    inputs: tuple[Column, ...]
    targets: tuple[Column, ...]
    place: Callable[[int, Column], str]
    decimal: str = "."
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, eq=False)
class _Read:
    """A column with its values read: text for labels; gaps hold what does not matter."""

    column: Column
    values: NDArray[Any]
    gaps: NDArray[np.bool_]

    @property
    def is_labels(self) -> bool:
        return self.values.dtype.kind == "U"

    def only(self, rows: NDArray[np.bool_]) -> _Read:
        return _Read(self.column, self.values[rows], self.gaps[rows])


def raw_data(columns: Columns, missing: str = "fail", categorical: str = "fail") -> RawData:
    """Read every column, and deal with gaps and with inputs of text.

    Args:
        columns: as they came.
        missing: fail, drop or mean, as in `problems.reading.Reading`.
        categorical: fail or one-hot, as in `problems.reading.Reading`.

    Raises:
        DataError: a cell that cannot be used, with its place; a gap that was not to be there, or
            for which there is no mean; no sample left.
    """
    inputs = [_read(columns, column) for column in columns.inputs]
    targets = [_read(columns, column) for column in columns.targets]
    for one in inputs:
        if one.is_labels and categorical == "fail":
            # Of labels such as 1, 2, red, the one that shows what they are
            cells = one.values.tolist()
            row = min(
                np.flatnonzero(~one.gaps).tolist(),
                key=lambda row: number(cells[row], columns.decimal) is not None,
            )
            raise DataError(
                f"{columns.place(row, one.column)}: {shortened(cells[row])} is not a number, and "
                "inputs must be real numbers; repair the cell, name the column as a target, or "
                "give --categorical one-hot for a column of 0 and 1 per label."
            )
    notes = list(columns.notes)
    inputs, targets = _filled(columns, inputs, targets, missing, notes)
    matrix, names = _matrix(inputs, notes)
    return RawData(
        columns.name,
        matrix,
        tuple(one.values for one in targets),
        names,
        tuple(one.column.name for one in targets),
        notes=tuple(notes),
    )


def _read(columns: Columns, column: Column) -> _Read:
    values = column.values
    if values.dtype.kind == "U":
        return _read_labels(column) if column.is_labels else _read_text(columns, column)
    if values.dtype.kind == "c":
        raise DataError(
            f"{columns.place(0, column)}: type {values.dtype} came, expected real numbers; "
            "convert them."
        )
    gaps = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
    _check_finite(columns, column, values, gaps)
    return _Read(column, values, gaps)


def _read_labels(column: Column) -> _Read:
    return _Read(column, column.values, column.values == "")


def _read_text(columns: Columns, column: Column) -> _Read:
    """A column of text by what its cells say."""
    cells, decimal = column.values.tolist(), columns.decimal
    whole = _all_numbers(cells, decimal)  # by far the most columns, and read at once
    if whole is not None and not np.isnan(whole).any():
        gaps = np.zeros(len(whole), dtype=bool)
        _check_finite(columns, column, whole, gaps)
        return _Read(column, whole, gaps)
    said = kinds(cells, decimal)
    read_as = column_kind(cells, said, decimal)
    gaps = np.array([said[cell] is Kind.MISSING for cell in cells], dtype=bool)
    if read_as is Kind.MISSING:
        return _Read(column, np.zeros(len(cells)), gaps)
    if read_as is Kind.DATE:
        row = next(i for i, cell in enumerate(cells) if said[cell] is Kind.DATE)
        raise DataError(
            f"{columns.place(row, column)}: {cells[row]!r} is a date or a time, expected numbers"
            f"{' or labels' if column.role == 'targets' else ''}; write such a column as numbers, "
            "for example as days since the first."
        )
    if read_as is Kind.WORD:
        return _Read(column, column.values, gaps)
    for row, cell in enumerate(cells):
        if said[cell] is Kind.WORD and cell.casefold() in MISSING_AMONG_NUMBERS:
            gaps[row] = True
        elif said[cell] not in (Kind.NUMBER, Kind.MISSING):
            _refuse_cell(columns, column, row, said[cell], cells, gaps)
    values = _all_numbers(
        ["0" if gap else cell for cell, gap in zip(cells, gaps, strict=True)], decimal
    )
    assert values is not None
    _check_finite(columns, column, values, gaps)
    return _Read(column, values, gaps)


def _refuse_cell(
    columns: Columns,
    column: Column,
    row: int,
    says: Kind,
    cells: Sequence[str],
    gaps: NDArray[np.bool_],
) -> NoReturn:
    """One clear error about a cell that is no number in a column of numbers."""
    cell = cells[row]
    if says is Kind.LIKE_NUMBER:
        comma = may_have_comma(cell) and columns.decimal == "."
        raise DataError(
            f"{columns.place(row, column)}: {shortened(cell)} is not a number as it is written, "
            "expected one such as 1200 or 12.5; write it without thousands separators, currency "
            f"and percent sign{', or give --decimal , if that is a decimal comma' * comma}."
        )
    kinds_of = kinds(cells, columns.decimal)
    full = sum(kinds_of[other] is not Kind.MISSING for other in cells)
    numbers = sum(kinds_of[other] in (Kind.NUMBER, Kind.LIKE_NUMBER) for other in cells)
    remedy = "repair the cell, or leave it empty and give --missing drop"
    if column.role == "targets":
        remedy += ", or, if these are labels, write every one as a word (c1 for 1)"
    role = "target " * (column.role == "targets")
    measured = "measured " * any(is_measured(other, columns.decimal) for other in kinds_of)
    raise DataError(
        f"{columns.place(row, column)}: {shortened(cell)} came in a {role}column of {measured}"
        f"numbers ({numbers} of {full} cells), but is not a number; {remedy}."
    )


def _all_numbers(cells: Sequence[str], decimal: str) -> NDArray[Any] | None:
    """A column of numbers only; None if a cell is none.

    They are integers where all are written so and fit into 64 bits, otherwise float64.
    """
    together = "".join(cells)
    # int() and float() read 1_000, which is Python and no table.
    if "_" in together or (decimal != "." and "." in together):
        return None
    if decimal != ".":
        cells = [cell.replace(decimal, ".") for cell in cells]
    for read, dtype in ((int, np.int64), (float, np.float64)):
        try:
            return np.array([read(cell) for cell in cells], dtype=dtype)
        except (ValueError, OverflowError):
            continue
    return None


def _check_finite(
    columns: Columns, column: Column, values: NDArray[Any], gaps: NDArray[np.bool_]
) -> None:
    wrong = ~np.isfinite(values) & ~gaps
    if wrong.any():
        row = int(np.argmax(wrong))
        came = repr(str(column.values[row]))
        raise DataError(
            f"{columns.place(row, column)}: {came} came, expected a finite number; repair it."
        )


def _filled(
    columns: Columns, inputs: list[_Read], targets: list[_Read], missing: str, notes: list[str]
) -> tuple[list[_Read], list[_Read]]:
    """The columns without gaps, and a note of how many there were."""
    everything = [*inputs, *targets]
    gaps = np.column_stack([one.gaps for one in everything])
    if not gaps.any():
        return inputs, targets
    if missing == "fail":
        row, at = (int(i) for i in np.argwhere(gaps)[0])
        _refuse_gap(columns, everything[at], row)
    counts = [(one.column.name, int(one.gaps.sum())) for one in everything if one.gaps.any()]
    by_column = ", ".join(f"{name!r} {count}" for name, count in counts)
    if missing == "drop":
        whole: NDArray[np.bool_] = np.asarray(~gaps.any(axis=1))
        if not whole.any():
            raise DataError(
                f"{columns.name}: every row misses a value (by column: {by_column}), so none is "
                "left; fill them in, or give --missing mean."
            )
        notes.append(
            f"{np.sum(~whole)} of {len(whole)} rows dropped, as a value is missing "
            f"(by column: {by_column})."
        )
        return [one.only(whole) for one in inputs], [one.only(whole) for one in targets]
    for one in everything:
        if one.gaps.any() and (one.is_labels or one.column.role == "targets"):
            row = int(np.argmax(one.gaps))
            what = "a target" if one.column.role == "targets" else "a label"
            raise DataError(
                f"{columns.place(row, one.column)}: the value is missing, and {what} has no mean; "
                "fill it in, or give --missing drop."
            )
    notes.append(
        f"{gaps.sum()} of {gaps.size} cells missing and replaced by the mean of their column "
        f"(by column: {by_column})."
    )
    return [_with_means(one) for one in inputs], targets


def _with_means(one: _Read) -> _Read:
    if not one.gaps.any():
        return one
    if one.gaps.all():
        raise DataError(f"column {one.column.name!r} has no values, and so no mean; fill them in.")
    values = one.values.astype(np.float64)
    values[one.gaps] = values[~one.gaps].mean()
    return _Read(one.column, values, np.zeros_like(one.gaps))


def _refuse_gap(columns: Columns, one: _Read, row: int) -> NoReturn:
    cell = str(one.column.values[row])
    expected = "a label" if one.is_labels else "a finite number"
    ways = "drop or mean"
    if one.is_labels or one.column.role == "targets":  # which have no mean
        ways = "drop"
    came = f"{cell!r} stands for a missing value" if cell else "the cell is empty"
    raise DataError(
        f"{columns.place(row, one.column)}: {came}, expected {expected}; fill it in, or give "
        f"--missing {ways}."
    )


def _matrix(inputs: Sequence[_Read], notes: list[str]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Inputs as (N, d0) numbers, labels as columns of 0 and 1, and the names of the columns."""
    parts: list[NDArray[np.float64]] = []
    names: list[str] = []
    for one in inputs:
        if not one.is_labels:
            parts.append(one.values.astype(np.float64)[:, np.newaxis])
            names.append(one.column.name)
            continue
        labels, index = np.unique(one.values, return_inverse=True)
        parts.append((index[:, np.newaxis] == np.arange(len(labels))).astype(np.float64))
        names += [f"{one.column.name}={label}" for label in labels]
        notes.append(
            f"input {one.column.name!r} was spread over a column of 0 and 1 for each of its "
            f"{len(labels)} labels: {listed(labels)}."
        )
    return np.hstack(parts), tuple(names)
