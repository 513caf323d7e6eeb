"""What a cell of a table says: a number, nothing, a date, or a word.

A column of cells is read by what most of its cells are, those that say nothing left out:

    numbers   more than MOSTLY of them are numbers, or look like numbers; dates likewise
    words     otherwise, unless a measured number (one with a fraction) is among them

so that one slip in a column of numbers is a cell to be repaired, and never makes the numbers names
of classes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

# The share of a column's cells above which they decide how the column is read. A majority: where
# there are as many words as numbers, the numbers are as likely labels (1, 2, 3a, 3b) as the words.
MOSTLY = 0.5

# Written for a value that is not there, whatever the column; in any case of letters
MISSING = frozenset(
    ("", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "-nan", "+nan", "null", "?")
)
# The same among numbers only: among words they may be labels, as "+" and "-" are in public data
MISSING_AMONG_NUMBERS = frozenset(("-", "--", ".", "..", "none", "nil", "missing"))

_CURRENCY = "[$€£¥]"
_SPACE = "[ \u00a0\u202f]"
_AMOUNT = (
    r"(?:\d{1,3}(?P<mark>[,.'\u2019_\u00a0\u202f ])\d{3}(?:(?P=mark)\d{3})*(?:[.,]\d+)?"  # 1,200.50
    r"|\d+(?:_\d+)+|\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?"
)
_DECORATED = re.compile(
    rf"\(?[+\-\u2212]?{_SPACE}?{_CURRENCY}?{_SPACE}?[+\-\u2212]?{_AMOUNT}"
    rf"{_SPACE}?(?:{_CURRENCY}|[%‰])?\)?"
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]m)?"
_DAY = (
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(?:\d{2}|\d{4})"
    r"|\d{4}[-/]\d{2}|\d{1,2}/\d{4}"
    rf"|\d{{1,2}}[ -]{_MONTH}[ ,-]*\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}|{_MONTH}[ -]\d{{2,4}}"
)
_DATE = re.compile(rf"(?:{_DAY})(?:[T ]+{_CLOCK})?(?: ?Z| ?[+-]\d{{2}}:?\d{{2}})?|{_CLOCK}", re.I)
_COMMA_NUMBER = re.compile(r"[+-]?(\d*),(\d+)(?:[eE][+-]?\d+)?")
_POINT_NUMBER = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?")


class Kind(Enum):
    """What a cell says."""

    NUMBER = "number"
    LIKE_NUMBER = "like a number"  # with thousands separators, a currency, a percent sign
    MISSING = "missing"
    DATE = "date"
    WORD = "word"


def number(cell: str, decimal: str = ".") -> float | None:
    """The number that a cell is, infinite ones included; None if it is none.

    Args:
        cell: stripped text.
        decimal: the decimal mark, a point or a comma.
    """
    if decimal != ".":
        if "." in cell:
            return None
        cell = cell.replace(decimal, ".")
    try:
        # float() reads 1_000, which is Python and no table.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def kind(cell: str, decimal: str = ".") -> Kind:
    """What a stripped cell says, taken by itself."""
    if cell.casefold() in MISSING:
        return Kind.MISSING
    if number(cell, decimal) is not None:
        return Kind.NUMBER
    if _DECORATED.fullmatch(cell):
        return Kind.LIKE_NUMBER
    return Kind.DATE if _DATE.fullmatch(cell) else Kind.WORD


def kinds(cells: Iterable[str], decimal: str = ".") -> dict[str, Kind]:
    """What every distinct cell says."""
    return {cell: kind(cell, decimal) for cell in set(cells)}


def is_measured(cell: str, decimal: str = ".") -> bool:
    """Whether a cell is a finite number with a fraction, which no label is."""
    value = number(cell, decimal)
    return value is not None and math.isfinite(value) and value % 1 != 0


def column_kind(
    cells: Sequence[str], said: Mapping[str, Kind], decimal: str = ".", slips: bool = True
) -> Kind:
    """How a column is read: as NUMBER, DATE or WORD; MISSING if no cell says anything.

    Args:
        cells: (N,) stripped.
        said: what each of them says, by `kinds`.
        decimal: the decimal mark.
        slips: whether a measured number among words makes them slips in a column of numbers.
    """
    counts = Counter(said[cell] for cell in cells)
    weak = sum(
        said[cell] is Kind.WORD and cell.casefold() in MISSING_AMONG_NUMBERS for cell in cells
    )
    numbers = counts[Kind.NUMBER] + counts[Kind.LIKE_NUMBER]
    full = len(cells) - counts[Kind.MISSING]
    if full == 0:
        return Kind.MISSING
    # A dash says nothing among numbers, so it takes no part in the vote on whether they are.
    if numbers > MOSTLY * (full - weak):
        return Kind.NUMBER
    if counts[Kind.DATE] > MOSTLY * full:
        return Kind.DATE
    if slips and numbers and any(is_measured(cell, decimal) for cell in set(cells)):
        return Kind.NUMBER
    return Kind.WORD


def decimal_mark(cells: Iterable[str]) -> str | None:
    """The decimal mark of a table whose cells are not separated by commas.

    Returns:
        "," where numbers have commas and none has a point; "." where none has a comma, or where
        there are both, so that neither is taken for granted; None where every comma stands before
        three digits, as in 1,200, which may be a thousands separator as well.
    """
    commas = [found for cell in set(cells) if (found := _COMMA_NUMBER.fullmatch(cell))]
    if not commas or any(_POINT_NUMBER.fullmatch(cell) for cell in set(cells)):
        return "."
    if any(
        len(found[2]) != 3 or len(found[1]) > 3 or found[1].startswith("0") or not found[1]
        for found in commas
    ):
        return ","
    return None


def may_have_comma(cell: str) -> bool:
    """Whether a cell is a number with one comma, such as 1,5 or 1,200."""
    return _COMMA_NUMBER.fullmatch(cell) is not None
