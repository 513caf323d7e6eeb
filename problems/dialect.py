"""How a table is written: what separates its cells, and which lines are remarks.

Every separator is tried on the first lines. Of those that give every line as many cells, or of all
if none does, the one is taken under which

    (share of cells that are numbers,  share of lines with as many cells as most)

is largest, in this order; a run of blanks, which words hold too, only if no other is as good. What
is left open by that is asked for, never guessed.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from problems.cells import number
from problems.tables import DataError, shortened

SEPARATORS = (",", ";", "\t", "|", " ")
SAMPLE_LINES = 1000  # that a separator is tried on; the others are checked when they are read

_DECLARED = re.compile(r"sep=(.)\s*")  # the first line of files that spreadsheets write
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        separator: of cells; a space stands for any run of blanks.
        cells: how many most lines have.
        lines: of the file, with remarks made blank, so that they keep their numbers.
        remarks: numbers, from 1, of the lines that were made blank.
    """

    separator: str
    cells: int
    lines: tuple[str, ...]
    remarks: tuple[int, ...]


def find_dialect(
    where: str, lines: Sequence[str], separator: str | None, comment: str | None
) -> Dialect:
    """Find what separates the cells, and blank the remarks.

    Args:
        where: the file, as errors name it.
        lines: with their ends.
        separator: if it is known; a first line "sep=;" says it, too.
        comment: what remarks begin with; None for "#", "" for nothing.

    Raises:
        DataError: nothing but blank lines; one column only; separators that are equally good.
    """
    kept = list(lines)
    declared = _DECLARED.fullmatch(kept[0]) if kept else None
    if declared:
        separator, kept[0] = separator or declared[1], "\n"
    mark = "#" if comment is None else comment
    remarks = tuple(_remarks(kept, mark)) if mark else ()
    for line in remarks:
        kept[line - 1] = "\n"
    sample = [line for line in kept if line.strip()][:SAMPLE_LINES]
    if not sample:
        raise DataError(f"{where} is empty; expected a header row and one line per sample.")
    tried = (separator,) if separator else SEPARATORS
    found = {mark: _rate(sample, mark) for mark in tried}
    usable = {mark: rated for mark, rated in found.items() if rated is not None}
    if not usable:
        raise DataError(
            f"{where} has one column, {shortened(sample[0].strip())}, expected at least an input "
            "and a target; separate the columns by commas, or name what separates them by "
            "--separator."
        )
    usable = {mark: rated for mark, rated in usable.items() if rated[1] == 1.0} or usable
    best = max(usable, key=lambda mark: (*usable[mark][:2], mark != " "))
    rivals = [
        mark
        for mark, rated in usable.items()
        if rated[:2] == usable[best][:2] and " " not in (mark, best)
    ]
    if len(rivals) > 1:
        words = " or ".join(repr(mark) for mark in rivals)
        raise DataError(
            f"{where}: cells may be separated by {words}, both give a table; "
            "say which one by --separator."
        )
    return Dialect(best, usable[best][2], tuple(kept), remarks)


def split(line: str, separator: str) -> list[str]:
    """The stripped cells of one line."""
    return _split([line], separator)[0]


def blanks_to_one(line: str) -> str:
    """A line whose cells are separated by runs of blanks, with spaces only and none at its ends."""
    return line.replace("\t", " ").strip() + "\n"


def _split(lines: Iterable[str], separator: str) -> list[list[str]]:
    if separator == " ":
        lines = [blanks_to_one(line) for line in lines]
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    return [[cell.strip() for cell in cells] for cells in reader if cells]


def _rate(sample: Sequence[str], separator: str) -> tuple[float, float, int] | None:
    """Shares of numbers and of equal lines, and cells per line; None where it separates nothing."""
    try:
        records = _split(sample, separator)
    except csv.Error:  # a broken quote; the reading of the whole file says where
        return None
    ((cells, equal),) = Counter(len(record) for record in records).most_common(1)
    if cells < 2:
        return None
    # Cells that end in a separator are separated by that, and the blanks beside it.
    if separator == " " and any(
        cell.endswith((",", ";", "|")) for record in records for cell in record
    ):
        return None
    body = [cell for record in records[1:] for cell in record if cell] or records[0]
    numbers = sum(_is_number(cell, separator) for cell in body)
    return numbers / len(body), equal / len(records), cells


def _is_number(cell: str, separator: str) -> bool:
    if number(cell) is not None:
        return True
    return separator != "," and _DECIMAL_COMMA.fullmatch(cell) is not None


def _remarks(lines: Iterable[str], mark: str) -> Iterable[int]:
    """Numbers of the lines that begin with the mark, outside quotes."""
    is_quoted = False
    for i, line in enumerate(lines, start=1):
        if not is_quoted and line.lstrip().startswith(mark):
            yield i
        elif line.count('"') % 2:
            is_quoted = not is_quoted
