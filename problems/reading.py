"""How samples are to be read: what is known of the file, and what to do about gaps and words."""

from __future__ import annotations

from dataclasses import dataclass

from problems.tables import DataError, nearest

MISSING_WAYS = ("fail", "drop", "mean")
CATEGORICAL_WAYS = ("fail", "one-hot")


@dataclass(frozen=True)
class Reading:
    """How a file or arrays are read; what is None is found out from the file.

    Attributes:
        separator: of cells, one character; a space stands for any run of spaces and tabs.
        decimal: the decimal mark, "." or ",".
        comment: lines that begin with it are left out; "" if there are none of that kind.
        has_header: whether the first line holds names; without, columns are x1, x2, ...
        missing: fail, drop (leave out the samples) or mean (of the column; for inputs that are
            numbers, taken over all samples that were read).
        categorical: fail or one-hot (a column of 0 and 1 for every label), for inputs of text.

    Raises:
        DataError: a value that is none of these.
    """

    separator: str | None = None
    decimal: str | None = None
    comment: str | None = None
    has_header: bool = True
    missing: str = "fail"
    categorical: str = "fail"

    def __post_init__(self) -> None:
        """Validate."""
        for name, value, known in (
            ("missing", self.missing, MISSING_WAYS),
            ("categorical", self.categorical, CATEGORICAL_WAYS),
        ):
            if value not in known:
                raise DataError(
                    f"{name} is {value!r}; {nearest(str(value), known)}"
                    f"Expected one of {', '.join(known)}."
                )
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise DataError(
                f"separator is {self.separator!r}, expected one character such as ; or a tab."
            )
        if self.decimal not in (None, ".", ","):
            raise DataError(f"decimal is {self.decimal!r}, expected a point or a comma.")
        if self.decimal == "," and self.separator == ",":
            raise DataError(
                "separator and decimal are both a comma, so that numbers cannot be told from "
                "cells; give another one of them."
            )
        if self.comment is not None and (len(self.comment) > 1 or self.comment in ('"', "\n")):
            raise DataError(
                f"comment is {self.comment!r}, expected one character such as #, or '' for none."
            )

    @property
    def asked_of_text(self) -> tuple[str, ...]:
        """The options given that are about files of text only, as the command line names them."""
        given = {
            "--separator": self.separator is not None,
            "--decimal": self.decimal is not None,
            "--comment": self.comment is not None,
            "--no-header": not self.has_header,
        }
        return tuple(name for name, is_given in given.items() if is_given)

    @property
    def asked(self) -> tuple[str, ...]:
        """All options given, as the command line names them."""
        given = {"--missing": self.missing != "fail", "--categorical": self.categorical != "fail"}
        return self.asked_of_text + tuple(name for name, is_given in given.items() if is_given)
