"""The first line of a table: names of the columns, or the first sample, and the targets by name.

A first line is a sample where it looks like the lines below it: a number over a column of numbers,
or words that come again. Where it may be either, it is refused, or taken for names with a note.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from numpy.typing import NDArray

from problems.cells import Kind, column_kind, is_measured, kind, kinds
from problems.tables import DataError, listed, nearest, shortened

LOOKED_AT = 1000  # lines below the first, by which it is judged


class First(Enum):
    """What the first line of a table is."""

    NAMES = "names"
    COUNTED = "names that are 0, 1, 2, ... or 1, 2, ..."
    SAMPLE = "sample"


def check_first_line(
    where: str, cells: NDArray[Any], line: int, decimal: str, remarks: Mapping[int, str]
) -> str | None:
    """Refuse a first line that is a sample; a note on one that might be.

    Args:
        where: the file, as errors name it.
        cells: (rows, columns), stripped text; the first row is to hold the names.
        line: its number in the file, from 1.
        decimal: the decimal mark.
        remarks: lines above it that were left out and may hold the names, by number.

    Raises:
        DataError: a sample in the place of the names, or nothing below them.
    """
    first = cells[0].tolist()
    shown = shortened(", ".join(first), 60)
    numbers = [cell for cell in first if kind(cell, decimal) is Kind.NUMBER]
    if len(cells) == 1:
        doubt = "; if that line is a sample, give --no-header" if numbers else ""
        raise DataError(f"{where} has a header but no rows; add one line per sample{doubt}.")
    is_first = first_line_is(first, cells[1 : LOOKED_AT + 1].T.tolist(), decimal)
    if is_first is First.SAMPLE or (is_first is First.COUNTED and remarks):
        hint = "if it holds names after all, write them as words"
        for number, text in remarks.items():
            hint = (
                f"if line {number}, {shortened(text)}, has the names, give --comment '' to read it"
            )
        raise DataError(
            f"{where}, line {line}: {shown} looks like the lines below it, so it is a sample and "
            "the header row is missing; give --no-header, which keeps it and calls the columns "
            f"x1, ..., x{len(first)} ({hint})."
        )
    if not numbers:
        return None
    return (
        f"line {line}, {shown}, was taken for the names of the columns; if it is a sample, give "
        "--no-header."
    )


def check_names(where: str, header: Sequence[str]) -> None:
    """Refuse names that do not tell the columns apart.

    Raises:
        DataError: a column without a name, or two of one name.
    """
    if "" in header:
        raise DataError(
            f"{where}: column {header.index('') + 1} has no name in the header; name it. If it "
            "only counts the rows, write the file without it (in pandas by index=False)."
        )
    doubled = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if doubled:
        places = [str(j + 1) for j, name in enumerate(header) if name == doubled[0]]
        raise DataError(
            f"{where}: the header has a name more than once ({listed(doubled)}), {doubled[0]!r} in "
            f"columns {' and '.join(places)}; rename them, so that every column has its own."
        )


def target_names(
    where: str, header: Sequence[str], wanted: Sequence[str] | str | None
) -> tuple[str, ...]:
    """The names of the target columns, as they were asked for.

    Args:
        where: the file, as errors name it.
        header: all names.
        wanted: names; None for the last column. A single text is a name as it stands, or else a
            list of them, separated by commas, with quotes around names that hold commas.

    Raises:
        DataError: no such column, a column twice, or none left as an input.
    """
    if wanted is None:
        return (header[-1],)
    is_list = isinstance(wanted, str) and wanted not in header
    if isinstance(wanted, str):
        names = _listed_names(wanted) if is_list else (wanted,)
    else:
        names = tuple(wanted)
    if not names:
        raise DataError(f"no target column came, expected one of {listed(header)}.")
    for name in names:
        if name not in header:
            commas = [one for one in header if "," in one and name and name in one]
            quotes = (
                f"a name that holds commas stands in double quotes, such as '\"{commas[0]}\"'. "
                if is_list and commas
                else ""
            )
            raise DataError(
                f"{where} has no column {name!r}; {nearest(name, header)}{quotes}"
                f"The columns are {listed(header)}."
            )
        if names.count(name) > 1:
            raise DataError(f"target column {name!r} came {names.count(name)} times; name it once.")
    if len(names) == len(header):
        raise DataError(
            f"{where}: all {len(header)} columns are targets; leave at least one as an input."
        )
    return names


def _listed_names(text: str) -> tuple[str, ...]:
    try:
        (names,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise DataError(
            f"target columns {text!r} are no list of names; check the quotes."
        ) from None
    return tuple(name.strip() for name in names)


def first_line_is(first: Sequence[str], columns: Sequence[Sequence[str]], decimal: str) -> First:
    """What the first line is, by the cells below it.

    It is a sample where it has a number below which there are numbers, or, in a table of words
    only, where most of its words come again below; a word over a column of numbers says that it is
    names, unless more of its cells are measured numbers. Whole numbers in order are names.

    Args:
        first: cells of the first line.
        columns: cells below each of them; no column is empty.
        decimal: the decimal mark.
    """
    of_first = [kind(cell, decimal) for cell in first]
    below = [column_kind(cells, kinds(cells, decimal), decimal) for cells in columns]
    again = [
        cell != "" and of_first[j] is not Kind.NUMBER and cell in columns[j]
        for j, cell in enumerate(first)
    ]
    if _is_counted(first, of_first) and not any(again):
        return First.COUNTED
    valued = [j for j, says in enumerate(below) if says in (Kind.NUMBER, Kind.DATE)]
    if not valued:
        words = [j for j, says in enumerate(of_first) if says is not Kind.MISSING]
        return First.SAMPLE if words and 2 * sum(again) >= len(words) else First.NAMES
    # A word that begins as a number does, 1O for 10, is rather a slip than a name.
    names = sum(of_first[j] is Kind.WORD and first[j][0] not in "+-.0123456789" for j in valued)
    alike = [j for j in valued if of_first[j] in (Kind.NUMBER, Kind.LIKE_NUMBER, Kind.DATE)]
    measured = sum(is_measured(first[j], decimal) for j in alike)
    if not alike or (names and names >= measured):
        return First.NAMES
    return First.SAMPLE


def _is_counted(first: Sequence[str], of_first: Sequence[Kind]) -> bool:
    """Whether the numbers of a line are 0, 1, 2, ... or 1, 2, ... in order."""
    counted = [cell for cell, says in zip(first, of_first, strict=True) if says is Kind.NUMBER]
    for start in (0, 1):
        if counted == [str(i) for i in range(start, start + len(counted))]:
            return len(counted) > start  # a single 1 among words is as likely a value
    return False
