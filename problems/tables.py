"""Tables as a user hands them in: labels and numbers, not yet encoded for a loss.

A table is N samples (a_i, y_i): real inputs a_i in R^{d0}, and target columns that hold numbers or
the names of classes. What a class becomes depends on the loss, so that is left to
`problems.datasets.encode`. Everything here is dimensionless, or in the units of the file.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class DataError(ValueError):
    """Data that cannot be used; one line says what was expected, what came and what to do."""


@dataclass(frozen=True, eq=False)
class RawData:
    """N samples as they were read, before any encoding.

    Attributes:
        name: the data set's name, or the file's.
        inputs: (N, d0), finite, read-only.
        targets: one (N,) array per target column: text (dtype kind U), integers, or float64.
        input_names: d0 names; x1, x2, ... when left out.
        target_names: one name per target column; y1, y2, ... when left out.
        is_regression: the targets are measurements, never classes, even if all are whole numbers.
        notes: what there is to say about how they were read, a sentence each.

    Raises:
        DataError: no rows, unequal row counts, a value that is not finite, or a column that holds
            neither text nor real numbers. Rows are counted from 1.
    """

    name: str
    inputs: NDArray[np.float64]
    targets: tuple[NDArray[Any], ...]
    input_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    is_regression: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate, and take read-only copies."""
        inputs, input_names = checked_matrix(
            self.inputs, f"{self.name}: inputs", "x", self.input_names
        )
        if not self.targets:
            raise DataError(f"{self.name}: no target column came, expected at least one.")
        target_names = checked_names(
            f"{self.name}: targets", "y", self.target_names, len(self.targets)
        )
        targets = tuple(
            _checked_column(column, f"{self.name}: targets", name, len(inputs))
            for column, name in zip(self.targets, target_names, strict=True)
        )
        for field, value in (
            ("inputs", inputs),
            ("targets", targets),
            ("input_names", input_names),
            ("target_names", target_names),
        ):
            object.__setattr__(self, field, value)


def checked_matrix(
    values: ArrayLike, what: str, letter: str, names: Sequence[str]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Validate real samples, one row each, and name their columns.

    Args:
        values: (N, columns), real and finite, N >= 1, at least one column.
        what: the words that open an error message.
        letter: names are this letter with 1, 2, ... when `names` is empty.
        names: one per column, or empty.

    Returns:
        A read-only float64 copy, and the names.

    Raises:
        DataError: wrong shape, type or number of names, or NaN or infinity (its row, from 1, and
            its column are named).
    """
    array = np.asarray(values)
    if array.ndim != 2:
        raise DataError(
            f"{what}: shape {array.shape} came, expected (N, columns), one row per sample; "
            "reshape a single column with reshape(-1, 1)."
        )
    if 0 in array.shape:
        raise DataError(
            f"{what}: shape {array.shape} has no {'rows' if len(array) == 0 else 'columns'}, "
            "expected (N, columns) with at least one of each."
        )
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what}: type {array.dtype} came, expected real numbers; convert them.")
    matrix = np.array(array, dtype=np.float64, order="C")
    names = checked_names(what, letter, names, matrix.shape[1])
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise DataError(
            f"{what}: row {row + 1}, column {names[column]!r} is {matrix[row, column]}, "
            "expected a finite number; repair or remove that row."
        )
    matrix.setflags(write=False)
    return matrix, names


def checked_names(what: str, letter: str, names: Sequence[str], columns: int) -> tuple[str, ...]:
    """The names of the columns, or the letter with 1, 2, ... when there are none.

    Raises:
        DataError: there are names, but not one per column.
    """
    if not names:
        return tuple(f"{letter}{column + 1}" for column in range(columns))
    if len(names) != columns:
        raise DataError(
            f"{what}: {len(names)} names came for {columns} columns, expected one each."
        )
    return tuple(names)


def listed(names: Iterable[str], limit: int = 12) -> str:
    """The names in quotes on one line, cut after `limit` of them."""
    quoted = [repr(str(name)) for name in names]
    more = f", ... ({len(quoted)} in all)" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more if quoted else "none"


def nearest(word: str, names: Iterable[str]) -> str:
    """The question "did you mean 'name'? ", or nothing where no name is near."""
    by_folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f"did you mean {by_folded[found[0]]!r}? " if found else ""


def _checked_column(values: ArrayLike, what: str, name: str, samples: int) -> NDArray[Any]:
    """A read-only copy of one target column: text, 64-bit integers or finite float64."""
    column = np.asarray(values)
    if column.shape != (samples,):
        raise DataError(
            f"{what}: column {name!r} has shape {column.shape}, expected {(samples,)}; "
            "give one target per row of the inputs."
        )
    if column.dtype.kind == "S":
        column = np.char.decode(column, "utf-8", "backslashreplace")
    elif all(isinstance(value, str) for value in column):
        column = column.astype(str)
    if column.dtype.kind == "U":
        if "" in column:
            row = column.tolist().index("") + 1
            raise DataError(
                f"{what}: row {row}, column {name!r} is empty; name its class or remove that row."
            )
        checked = column.copy()
    else:
        checked_matrix(column[:, np.newaxis], what, "y", (name,))
        # Integers stay integers: as float64, labels beyond 2^53 would run into each other.
        integer_types = {"b": np.int64, "i": np.int64, "u": np.uint64}
        checked = column.astype(integer_types.get(column.dtype.kind, np.float64))
    checked.setflags(write=False)
    return checked


def quoted(path: Path) -> str:
    """A path in quotes, on one line."""
    return repr(str(path))


def shortened(cell: str, limit: int = 40) -> str:
    """A cell in quotes, on one line, cut after so many characters."""
    return repr(cell if len(cell) <= limit else cell[: limit - 3] + "...")


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the system does not let be read."""
    return DataError(f"{quoted(path)} cannot be read ({error.strerror or 'input/output error'}).")
