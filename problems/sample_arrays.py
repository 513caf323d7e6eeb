"""Samples that are arrays already: lists, NumPy arrays, data frames, and files of arrays.

    X (N, d0) or (N,)    y (N,) or (N, M)

Names are kept where there are any. Columns of text are read by their cells, as those of a file are;
columns of a categorical type are labels, whatever they say. Data frames are recognised by what they
have, so that pandas is needed by nobody who does not use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from problems.columns import Column, Columns, raw_data
from problems.reading import Reading
from problems.tables import DataError, RawData, listed, quoted, unreadable

# Names of inputs and targets in files of arrays, in any case of letters. The first is our own.
PAIRS = (
    ("inputs", "targets"),
    ("x", "y"),
    ("data", "target"),
    ("data", "targets"),
    ("data", "labels"),
    ("features", "labels"),
    ("features", "targets"),
    ("x_train", "y_train"),
    ("train_x", "train_y"),
)

NUMBERS = (bool, int, float, np.number, np.bool_)  # among objects


def read_arrays(
    X: Any,
    y: Any,
    *,
    name: str = "the arrays",
    missing: str = "fail",
    categorical: str = "fail",
) -> RawData:
    """Samples from arrays in memory.

    Args:
        X: (N, d0) or (N,), one row per sample: a list, an array, a data frame or a series.
        y: (N,) or (N, M), likewise.
        name: of the data, for errors and files.
        missing: as in `problems.reading.Reading`; NaN and None are missing.
        categorical: as there.

    Raises:
        DataError: a wrong shape or type, unequal lengths, rows in different orders, or a cell that
            cannot be used (its row, from 1, and its column are named).
    """
    reading = Reading(missing=missing, categorical=categorical)
    if isinstance(y, str):
        raise DataError(
            f"{name}: targets: the text {y!r} came, expected one target per sample; for a column "
            f"of a data frame give X.drop(columns={y!r}) and X[{y!r}]."
        )
    inputs, targets = _columns(X, name, "inputs"), _columns(y, name, "targets")
    rows = len(inputs[0].values)
    for column in targets:
        if len(column.values) != rows:
            raise DataError(
                f"{name}: targets: column {column.name!r} has shape {column.values.shape}, "
                f"expected {(rows,)}; give one target per row of the inputs."
            )
    _check_order(X, y, name)

    def place(row: int, column: Column) -> str:
        return f"{name}: {column.role}, row {row + 1}, column {column.name!r}"

    return raw_data(Columns(name, inputs, targets, place), reading.missing, reading.categorical)


def read_npz(path: Path, reading: Reading | None = None) -> RawData:
    """Read inputs, (N, d0) or (N,), and targets, (N, M) or (N,), from the arrays of a file.

    The arrays have one of the pairs of names in `PAIRS`; targets are real numbers or strings.
    Nothing is ever unpickled.

    Args:
        path: the file.
        reading: how to treat gaps (NaN) and inputs of text.

    Raises:
        DataError: a missing array, several pairs, a wrong shape or type, or a truncated or foreign
            file.
    """
    reading = Reading() if reading is None else reading
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = list(archive.files)
            chosen = _pairs(names)
            for name in chosen[0] if len(chosen) == 1 else ():
                arrays[name] = archive[name]
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception:  # on foreign bytes NumPy, zipfile and zlib raise a dozen different types
        raise DataError(
            f"{quoted(path)} is not a .npz file of plain arrays (truncated, foreign, or with "
            "pickled objects); write it again with numpy.savez(path, inputs=..., targets=...)."
        ) from None
    inputs, targets = _one_pair(path, names, chosen)
    raw = read_arrays(
        arrays[inputs],
        arrays[targets],
        name=path.name,
        missing=reading.missing,
        categorical=reading.categorical,
    )
    others = [name for name in names if name not in (inputs, targets)]
    if (inputs, targets) == PAIRS[0] or not others:
        return raw
    note = f"the arrays {inputs!r} and {targets!r} were read, {listed(others)} were not."
    return replace(raw, notes=(*raw.notes, note))


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of names that are there; our own goes before all others."""
    by_folded: dict[str, list[str]] = {}
    for name in names:
        by_folded.setdefault(name.casefold(), []).append(name)
    found = [
        (first, second)
        for one, other in PAIRS
        for first in by_folded.get(one, [])
        for second in by_folded.get(other, [])
    ]
    return found[:1] if PAIRS[0] in found else found


def _one_pair(
    path: Path, names: Sequence[str], found: Sequence[tuple[str, str]]
) -> tuple[str, str]:
    if len(found) == 1:
        return found[0]
    if found:
        pairs = "; ".join(listed(pair) for pair in found)
        raise DataError(
            f"{quoted(path)} has several pairs of inputs and targets ({pairs}), expected one; "
            "write the one you mean with numpy.savez(path, inputs=..., targets=...)."
        )
    folded = {name.casefold() for name in names}
    half = next((pair for pair in PAIRS if folded & set(pair)), PAIRS[0])
    missing = next(name for name in half if name not in folded)
    known = ", ".join("/".join(pair) for pair in PAIRS)
    raise DataError(
        f"{quoted(path)} has no array {missing!r}, only {listed(names)}; write it with "
        f"numpy.savez(path, inputs=..., targets=...), or with one of the names {known}."
    )


def _columns(values: Any, name: str, role: str) -> tuple[Column, ...]:
    """The columns of a data frame, a series or anything that NumPy makes an array of."""
    letter = "x" if role == "inputs" else "y"
    if hasattr(values, "iloc"):  # of pandas
        if hasattr(values, "columns"):
            series = [values.iloc[:, j] for j in range(values.shape[1])]
            names = [str(column) for column in values.columns]
        else:
            series = [values]
            names = [f"{letter}1" if values.name is None else str(values.name)]
        _check_shape((len(values), len(series)), name, role)
        return tuple(
            _series(one, label, name, role) for one, label in zip(series, names, strict=True)
        )
    array = np.asarray(_plain(values, name, role))
    _check_shape(array.shape, name, role)
    matrix = array[:, np.newaxis] if array.ndim == 1 else array
    return tuple(
        Column(f"{letter}{j + 1}", _values(column, f"{letter}{j + 1}", name, role), role)
        for j, column in enumerate(matrix.T)
    )


def _plain(values: Any, name: str, role: str) -> Any:
    """Nested lists with words and numbers as objects, which NumPy would make text of."""
    if hasattr(values, "__array__") or hasattr(values, "toarray"):
        return values
    try:
        return np.array(values, dtype=object)
    except ValueError:
        raise DataError(
            f"{name}: {role} have rows of different lengths, expected (N, columns); "
            "give every sample as many values."
        ) from None


def _check_shape(shape: tuple[int, ...], name: str, role: str) -> None:
    if len(shape) not in (1, 2):
        raise DataError(
            f"{name}: {role} has shape {shape}, expected (N, columns) or (N,); reshape it."
        )
    if 0 in shape:
        raise DataError(
            f"{name}: {role}: shape {shape} has no {'rows' if shape[0] == 0 else 'columns'}, "
            "expected (N, columns) with at least one of each."
        )


def _series(series: Any, label: str, name: str, role: str) -> Column:
    """One column of a data frame."""
    if hasattr(series, "cat"):
        words = ["" if gap else str(v) for v, gap in zip(series, series.isna(), strict=True)]
        return Column(label, np.array(words, dtype=str), role, is_labels=True)
    if getattr(series.dtype, "kind", "") in "mM":
        raise _is_date(label, name, role)
    if getattr(series.dtype, "kind", "") in "biuf" and not isinstance(series.dtype, np.dtype):
        # A type of pandas' own, with a marker for what is missing
        has_gaps = bool(series.isna().any())
        series = series.astype(np.float64) if has_gaps else series.astype(series.dtype.numpy_dtype)
    return Column(label, _values(series.to_numpy(), label, name, role), role)


def _values(column: NDArray[Any], label: str, name: str, role: str) -> NDArray[Any]:
    """Numbers, or stripped text, of one column."""
    kind = column.dtype.kind
    if kind in "mM":
        raise _is_date(label, name, role)
    if kind == "b":
        return column.astype(np.int64)
    if kind == "u":
        # Integers stay integers: as float64, labels beyond 2^53 would run into each other.
        return column.astype(np.uint64)
    if kind in "if":
        return column.astype(np.int64 if kind == "i" else np.float64)
    if kind == "c":
        raise DataError(
            f"{name}: {role}, column {label!r}: type {column.dtype} came, expected real numbers; "
            "convert them."
        )
    if kind == "S":
        column = np.char.decode(column, "utf-8", "backslashreplace")
    if kind == "O" and all(isinstance(value, NUMBERS) for value in column):
        return _values(np.array(column.tolist()), label, name, role)
    if kind not in "OSUT":
        raise DataError(
            f"{name}: {role}, column {label!r}: type {column.dtype} came, expected real numbers or "
            "text; convert it."
        )
    return np.array([_cell(value, label, name, role) for value in column], dtype=str)


def _cell(value: Any, label: str, name: str, role: str) -> str:
    """A value as it would stand in a file."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").strip()
    if value is None or str(value) in ("<NA>", "NaT", "nan"):
        return ""
    if np.ndim(value) or isinstance(value, dict | set):
        raise DataError(
            f"{name}: {role}, column {label!r}: a {type(value).__name__} came in place of one "
            "value, expected real numbers or text; give every sample as many values."
        )
    return str(value)


def _is_date(label: str, name: str, role: str) -> DataError:
    return DataError(
        f"{name}: {role}, column {label!r} holds dates or times, expected numbers"
        f"{' or labels' if role == 'targets' else ''}; write such a column as numbers, for example "
        "as days since the first."
    )


def _check_order(X: Any, y: Any, name: str) -> None:
    """Refuse data frames whose rows have the same labels in another order."""
    if not (hasattr(X, "iloc") and hasattr(y, "iloc")) or X.index.equals(y.index):
        return
    if X.index.is_unique and y.index.is_unique and X.index.isin(y.index).all():
        raise DataError(
            f"{name}: inputs and targets have the same row labels in different orders, expected "
            "one order; give y.loc[X.index]."
        )
