"""Tables as a user hands them in: labels and numbers, not yet encoded for a loss.

A table is N samples (a_i, y_i): real inputs a_i in R^{d0}, and target columns that hold numbers or
the names of classes. What a class becomes depends on the loss, so that is left to
`problems.datasets.encode`. Everything here is dimensionless, or in the units of the file.
"""

import csv
import difflib
import io
import math
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


def read_csv(path: Path, target_columns: Sequence[str] | None = None) -> RawData:
    """Read a table with a header row; cells are separated by commas, the text is UTF-8.

    A target column whose every cell is a number is numeric, any other is text. Blank lines are
    skipped.

    Args:
        path: the file.
        target_columns: names of the target columns; by default the last. The others are inputs.

    Raises:
        DataError: anything that is not such a table; the message names the line (from 1, the header
            included) and the column.
    """
    (_, header), *rows = _records(path)
    _check_header(path, header)
    if not rows:
        raise DataError(f"{_quoted(path)} has a header but no rows; add one line per sample.")
    for line, cells in rows:
        if len(cells) != len(header):
            raise DataError(
                f"{_quoted(path)}, line {line}: {len(cells)} cells found, {len(header)} expected "
                "(one per column of the header); repair that line."
            )
        if "" in cells:
            column = header[cells.index("")]
            raise DataError(
                f"{_quoted(path)}, line {line}, column {column!r}: the cell is empty; "
                "fill it in or remove the line."
            )
    target_names = _target_names(path, header, target_columns)
    input_names = tuple(name for name in header if name not in target_names)
    lines = [line for line, _ in rows]
    columns = dict(zip(header, zip(*(cells for _, cells in rows), strict=True), strict=True))

    def place(row: int, name: str) -> str:
        return f"{_quoted(path)}, line {lines[row]} (row {row + 1}), column {name!r}"

    numbers: dict[str, NDArray[Any]] = {}
    for name in header:
        values = [_number(cell) for cell in columns[name]]
        if None not in values:
            numbers[name] = _numeric_column(columns[name])
            finite = np.isfinite(numbers[name])
            if not finite.all():
                row = int(np.argmin(finite))
                raise DataError(
                    f"{place(row, name)}: {columns[name][row]!r} came, expected a finite number; "
                    "repair or remove the line."
                )
        elif name in input_names:
            row = values.index(None)
            raise DataError(
                f"{place(row, name)}: {_shortened(columns[name][row])} is not a number, and inputs "
                "must be; repair the cell, remove the column, or name it as a target."
            )
        elif any(value is not None and math.isfinite(value) and value % 1 for value in values):
            row = values.index(None)
            raise DataError(
                f"{place(row, name)}: {_shortened(columns[name][row])} came in a target column of "
                "measured numbers; repair the cell, or write every label as text."
            )
    return RawData(
        path.name,
        np.column_stack([numbers[name].astype(np.float64) for name in input_names]),
        tuple(
            numbers[name] if name in numbers else np.array(columns[name]) for name in target_names
        ),
        input_names,
        target_names,
    )


def read_npz(path: Path) -> RawData:
    """Read the arrays `inputs`, (N, d0) or (N,), and `targets`, (N, M) or (N,).

    Targets are real numbers or strings. Nothing is ever unpickled.

    Raises:
        DataError: a missing array, a wrong shape or type, or a truncated or foreign file.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = list(archive.files)
            for name in {"inputs", "targets"}.intersection(names):
                arrays[name] = archive[name]
    except OSError as error:
        raise _unreadable(path, error) from None
    except Exception:  # on foreign bytes NumPy, zipfile and zlib raise a dozen different types
        raise DataError(
            f"{_quoted(path)} is not a .npz file of plain arrays (truncated, foreign, or with "
            "pickled objects); write it again with numpy.savez(path, inputs=..., targets=...)."
        ) from None
    for name in ("inputs", "targets"):
        if name not in arrays:
            raise DataError(
                f"{_quoted(path)} has no array {name!r}, only {listed(names)}; "
                "write it with numpy.savez(path, inputs=..., targets=...)."
            )
        if arrays[name].ndim not in (1, 2):
            raise DataError(
                f"{_quoted(path)}: {name} has shape {arrays[name].shape}, "
                "expected (N, columns) or (N,); reshape it."
            )
    inputs, targets = (
        array[:, np.newaxis] if array.ndim == 1 else array
        for array in (arrays["inputs"], arrays["targets"])
    )
    return RawData(path.name, inputs, tuple(targets.T))


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


def _records(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, as (number of the first line, stripped cells); at least one."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{_quoted(path)} is not UTF-8 text (byte {error.start + 1}), expected a CSV file; "
            "export it as CSV with UTF-8 encoding."
        ) from None
    if "\0" in text:
        raise DataError(
            f"{_quoted(path)} is a binary file (it holds NUL bytes), expected a CSV file; "
            "export it as CSV with UTF-8 encoding."
        )
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    records: list[tuple[int, list[str]]] = []
    last_line = 0
    try:
        for cells in reader:
            line, last_line = last_line + 1, reader.line_num
            stripped = [cell.strip() for cell in cells]
            if stripped not in ([], [""]):
                records.append((line, stripped))
    except csv.Error as error:
        raise DataError(
            f"{_quoted(path)}, line {last_line + 1}: not a CSV record ({error}); "
            "check the quotes there."
        ) from None
    if not records:
        raise DataError(f"{_quoted(path)} is empty; expected a header row and one line per sample.")
    return records


def _check_header(path: Path, header: list[str]) -> None:
    if all(_number(cell) is not None for cell in header):
        raise DataError(
            f"{_quoted(path)}: the first row is all numbers, so the header row is missing; "
            "put a line with the column names on top."
        )
    if len(header) < 2:
        raise DataError(
            f"{_quoted(path)} has one column, {_shortened(header[0])}, expected at least an input "
            "and a target; separate the columns by commas."
        )
    if "" in header:
        raise DataError(
            f"{_quoted(path)}: column {header.index('') + 1} has no name in the header; "
            "name it, or remove it if it only counts the rows."
        )
    doubled = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if doubled:
        raise DataError(
            f"{_quoted(path)}: the header has a name more than once ({listed(doubled)}); "
            "rename or remove the duplicate columns."
        )


def _target_names(
    path: Path, header: list[str], target_columns: Sequence[str] | None
) -> tuple[str, ...]:
    if target_columns is None:
        return (header[-1],)
    # A single name is a sequence of letters, which nobody means.
    wanted = (target_columns,) if isinstance(target_columns, str) else tuple(target_columns)
    if not wanted:
        raise DataError(f"no target column came, expected one of {listed(header)}.")
    for name in wanted:
        if name not in header:
            raise DataError(
                f"{_quoted(path)} has no column {name!r}; {nearest(name, header)}"
                f"The columns are {listed(header)}."
            )
        if wanted.count(name) > 1:
            raise DataError(
                f"target column {name!r} came {wanted.count(name)} times; name it once."
            )
    if len(wanted) == len(header):
        raise DataError(
            f"{_quoted(path)}: all {len(header)} columns are targets; "
            "leave at least one as an input."
        )
    return wanted


def _number(cell: str) -> float | None:
    try:
        # float() reads 1_000, which is Python and no CSV.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _numeric_column(cells: Sequence[str]) -> NDArray[Any]:
    """Integers where all are written so and fit into 64 bits, otherwise float64."""
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array([float(cell) for cell in cells])


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


def _quoted(path: Path) -> str:
    return repr(str(path))


def _shortened(cell: str, limit: int = 40) -> str:
    return repr(cell if len(cell) <= limit else cell[: limit - 3] + "...")


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{_quoted(path)} cannot be read ({error.strerror or 'input/output error'}).")
