"""Data for the learning problem: named data sets, user files, and the encoding for a loss.

A data set is N samples (a_i, y_i), a_i in R^{d0}, y_i in R^M, the data of

    E(x) = (1/N) Sum_i loss(P x_i, y_i).

Labels stay labels until the loss is known: `load` and `read_arrays` give `RawData`, `encode` makes
it a `Dataset`. A class column with two classes becomes one column of -1/+1, in sorted order (two
one-hot columns under cross-entropy); with more classes it becomes one-hot columns of 0/1 (of -1/+1
under logistic and hinge). Everything is dimensionless, except real data, which keep the units of
their source.
"""

import operator
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from problems.point_clouds import GENERATORS
from problems.reading import Reading
from problems.sample_arrays import read_arrays, read_npz
from problems.tables import DataError, RawData, checked_matrix, listed, nearest
from problems.text_tables import TEXT_SUFFIXES, read_text

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "DatasetDescription",
    "RawData",
    "Reading",
    "Standardized",
    "class_columns",
    "encode",
    "load",
    "read_arrays",
    "shift_and_scale",
    "standardize",
    "train_test_split",
]

REGRESSION_LOSSES = ("squared", "distance", "l1")
SIGN_LOSSES = ("logistic", "hinge")  # classes are -1/+1
LOSSES = (*REGRESSION_LOSSES, *SIGN_LOSSES, "cross-entropy")

FILES = f"{', '.join(TEXT_SUFFIXES)} (each also with .gz) or .npz"


@dataclass(frozen=True, eq=False)
class Dataset:
    """N samples as real arrays, one row each, ready for a loss.

    Attributes:
        name: the data set's name, or the file's.
        inputs: (N, d0), finite, read-only.
        targets: (N, M), finite, read-only.
        classes: per target column the label names behind it: two for a column of -1/+1 (the first
            is -1), one for a one-hot column, none for a number.
        input_names: d0 names; x1, x2, ... when left out.
        target_names: M names; y1, y2, ... when left out.
        notes: what there is to say about how the data were read, a sentence each.

    Raises:
        DataError: no rows or columns, unequal row counts, a wrong number of names, or a value that
            is not finite (row from 1, and column named).
    """

    name: str
    inputs: NDArray[np.float64]
    targets: NDArray[np.float64]
    classes: tuple[tuple[str, ...], ...] = ()
    input_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate, and take read-only copies."""
        inputs, input_names = checked_matrix(
            self.inputs, f"{self.name}: inputs", "x", self.input_names
        )
        targets, target_names = checked_matrix(
            self.targets, f"{self.name}: targets", "y", self.target_names
        )
        if len(inputs) != len(targets):
            raise DataError(
                f"{self.name}: {len(inputs)} rows of inputs and {len(targets)} rows of targets, "
                "expected as many of each; give one target row per sample."
            )
        classes = tuple(tuple(labels) for labels in self.classes) or ((),) * targets.shape[1]
        if len(classes) != targets.shape[1]:
            raise DataError(
                f"{self.name}: classes has {len(classes)} entries, expected {targets.shape[1]}; "
                "give one tuple per target column, an empty one for numbers."
            )
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "input_names", input_names)
        object.__setattr__(self, "target_names", target_names)


@dataclass(frozen=True)
class DatasetDescription:
    """What `turnpike datasets` says about a name.

    Attributes:
        name: what the user types.
        description: one line.
        inputs: d0.
        classes: the labels in sorted order; empty for regression.
        samples: how many samples come when no number is asked for.
        extra: the optional dependency that it needs, or None.
    """

    name: str
    description: str
    inputs: int
    classes: tuple[str, ...]
    samples: int = 50
    extra: str | None = None

    @property
    def task(self) -> str:
        """Either "regression" or the number of classes, "3 classes"."""
        return f"{len(self.classes)} classes" if self.classes else "regression"


_DESCRIPTIONS = (
    DatasetDescription("moons", "two interleaved half circles, noisy", 2, ("lower", "upper")),
    DatasetDescription("circles", "two circles, radius 0.5 and 1, noisy", 2, ("inner", "outer")),
    DatasetDescription("spirals", "two spirals, 1.4 turns each, noisy", 2, ("first", "second")),
    DatasetDescription("spheres", "a disc inside an annulus", 2, ("inner", "outer")),
    DatasetDescription("chess2", "checkerboard of 2 x 2 squares", 2, ("black", "white")),
    DatasetDescription("chess3", "checkerboard of 3 x 3 squares", 2, ("black", "white")),
    DatasetDescription("rings", "three circles, noisy", 2, ("inner", "middle", "outer")),
    DatasetDescription("gaussians", "three Gaussian clouds", 2, ("first", "second", "third")),
    DatasetDescription("xor", "clouds at (+-1, +-1), by their signs", 2, ("equal", "opposite")),
    DatasetDescription("sine", "y = sin x on [-pi, pi]", 1, ()),
    DatasetDescription(
        "iris", "Fisher's iris flowers", 4, ("setosa", "versicolor", "virginica"), 150, "data"
    ),
    DatasetDescription(
        "wine", "chemistry of three wines", 13, ("class_0", "class_1", "class_2"), 178, "data"
    ),
    DatasetDescription(
        "breast-cancer", "Wisconsin diagnoses", 30, ("benign", "malignant"), 569, "data"
    ),
    DatasetDescription(
        "digits", "handwritten, 8 x 8 pixels", 64, tuple("0123456789"), 1797, "data"
    ),
    DatasetDescription("diabetes", "its progression within a year", 10, (), 442, "data"),
)

DATASETS: Mapping[str, DatasetDescription] = MappingProxyType(
    {described.name: described for described in _DESCRIPTIONS}
)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    samples: int | None = None,
    seed: int = 0,
    target_columns: Sequence[str] | str | None = None,
    reading: Reading | None = None,
) -> RawData:
    """Load a named data set, or samples from a file of text or a .npz file.

    Args:
        name_or_path: a key of `DATASETS`, or a file's path; a name goes before a file of that name.
        samples: N, for named data sets only, at least 2. By default 50 generated samples, or a real
            data set in full; given N, a random subset of a real one, stratified by class.
        seed: of everything random.
        target_columns: names of the target columns, for files of text only; by default the last. A
            single text is a name, or several separated by commas.
        reading: how a file is read; for .npz files only what it says of gaps and inputs of text.

    Raises:
        DataError: an unknown name, an option that does not apply, scikit-learn missing, or a file
            that is not found or cannot be used.
    """
    path, reading = Path(name_or_path), Reading() if reading is None else reading
    if isinstance(name_or_path, str) and name_or_path in DATASETS:
        if target_columns is not None:
            raise DataError(
                f"target columns came for the named data set {name_or_path!r}, "
                "expected only with a .csv file; leave them out."
            )
        if reading.asked:
            raise DataError(
                f"{reading.asked[0]} came for the named data set {name_or_path!r}, expected only "
                "with a file; leave it out."
            )
        return _named(DATASETS[name_or_path], samples, seed)
    suffix = Path(path.stem if path.suffix.lower() == ".gz" else path).suffix.lower()
    is_text = suffix in TEXT_SUFFIXES
    if not is_text and path.suffix.lower() != ".npz":
        if os.path.isfile(path):
            raise DataError(
                f"file {str(path)!r} is of no known kind, expected {FILES}; "
                "rename it, or convert it to one of them."
            )
        word = str(name_or_path)
        raise DataError(
            f"unknown data set {word!r}; {nearest(word, DATASETS)}"
            f"Expected a .csv or .npz file, or one of {', '.join(DATASETS)}."
        )
    if not os.path.exists(path):  # Path.exists raises where a folder is forbidden
        raise DataError(f"file {str(path)!r} not found; check the path.")
    if samples is not None:
        raise DataError(
            f"samples = {samples} came with the file {str(path)!r}, expected only with a named "
            "data set; leave it out, a file is used in full."
        )
    if is_text:
        return read_text(path, target_columns, reading)
    if target_columns is not None:
        raise DataError(
            f"target columns came with {str(path)!r}, expected only with a .csv file; "
            "leave them out, a .npz file has its targets in the array 'targets'."
        )
    if reading.asked_of_text:
        raise DataError(
            f"{reading.asked_of_text[0]} came with {str(path)!r}, expected only with a file of "
            "text; leave it out."
        )
    return read_npz(path, reading)


def encode(raw: RawData, loss_name: str) -> Dataset:
    """Turn labels into the real targets that a loss asks for.

    A target column of text, or of whole numbers under logistic, hinge and cross-entropy, is a class
    column, encoded as the module says; numbers sort as numbers, text as text. Any other target is a
    number, used as it is. Under cross-entropy, several numeric columns must be one-hot rows
    already, and are used as they are.

    Args:
        raw: N samples with labels.
        loss_name: squared, distance, l1, logistic, hinge or cross-entropy.

    Raises:
        DataError: an unknown loss; a class column with one class; real-valued targets where the
            loss needs classes; several class columns under cross-entropy, whose rows would not sum
            to 1.
    """
    if loss_name not in LOSSES:
        raise DataError(
            f"unknown loss {loss_name!r}; {nearest(loss_name, LOSSES)}"
            f"Expected one of {', '.join(LOSSES)}."
        )
    if loss_name == "cross-entropy" and len(raw.targets) > 1:
        if not _is_one_hot(raw.targets):
            raise DataError(
                f"{raw.name}: the target columns {listed(raw.target_names)} are not one-hot rows "
                "of 0 and 1; under loss 'cross-entropy' give one class column, or one-hot columns."
            )
        classes = tuple((name,) for name in raw.target_names)
        columns = np.column_stack(raw.targets)
        return Dataset(
            raw.name, raw.inputs, columns, classes, raw.input_names, raw.target_names, raw.notes
        )
    encoded = [
        _encoded_column(raw, column, name, loss_name)
        for column, name in zip(raw.targets, raw.target_names, strict=True)
    ]
    return Dataset(
        raw.name,
        raw.inputs,
        np.column_stack([values for values, _, _ in encoded]),
        tuple(labels for _, classes, _ in encoded for labels in classes),
        raw.input_names,
        tuple(name for _, _, names in encoded for name in names),
        raw.notes,
    )


def class_columns(index: NDArray[np.integer], classes: int, loss_name: str) -> NDArray[np.float64]:
    """The target columns (N, m) of classes 0, 1, ..., encoded as the module says.

    Args:
        index: (N,) the class of every sample.
        classes: how many there are, at least two.
        loss_name: of the loss that asks for them.
    """
    if classes == 2 and loss_name != "cross-entropy":
        return np.where(index == 1, 1.0, -1.0)[:, np.newaxis]
    hot = index[:, np.newaxis] == np.arange(classes)
    return np.where(hot, 1.0, -1.0 if loss_name in SIGN_LOSSES else 0.0)


class Standardized(NamedTuple):
    """A data set with standardized inputs, and their mean and scale, (d0,) each, in their units.

    Other inputs, test data for one, are transformed alike by `(inputs - mean) / scale`.
    """

    dataset: Dataset
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


def standardize(dataset: Dataset) -> Standardized:
    """Shift and scale every input column to mean 0 and population standard deviation 1.

        a_ij -> (a_ij - mean_j) / scale_j,    scale_j^2 = (1/N) Sum_i (a_ij - mean_j)^2

    A constant column has no deviation to be scaled by; it is shifted to 0, which a note says.

    Raises:
        DataError: a column is too wide for its deviation to be a float64.
    """
    inputs = dataset.inputs
    mean, scale = shift_and_scale(inputs, f"{dataset.name}: inputs", dataset.input_names)
    constant = (inputs == inputs[0]).all(axis=0)
    notes = dataset.notes
    if constant.any():
        names = [name for name, flag in zip(dataset.input_names, constant, strict=True) if flag]
        notes = (*notes, f"constant input columns were shifted to 0, not scaled: {listed(names)}.")
    moved = replace(dataset, inputs=(inputs - mean) / scale, notes=notes)
    return Standardized(moved, mean, scale)


def shift_and_scale(
    columns: NDArray[np.float64], what: str, names: Sequence[str] = ()
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population standard deviation (d,) of every column; of constant ones value and 1.

    Args:
        columns: (N, d), finite.
        what: the words that open an error message.
        names: of the columns; by their number from 1 when left out.

    Raises:
        DataError: a column is too wide for its deviation to be a float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = columns.mean(axis=0), columns.std(axis=0)
    # Rounding may leave a constant column with a tiny deviation, so its values are compared.
    constant = (columns == columns[0]).all(axis=0)
    mean[constant], scale[constant | (scale == 0)] = columns[0, constant], 1.0
    if not np.isfinite(scale).all():
        column = int(np.argmin(np.isfinite(scale)))
        name = repr(names[column]) if names else str(column + 1)
        raise DataError(
            f"{what}: column {name} is too large to be standardized in float64; change its unit."
        )
    return mean, scale


def train_test_split(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split the samples at random into a training and a test part, each class in proportion.

    Args:
        dataset: N samples; those with numbers for targets are split without strata.
        fraction: of the samples, between 0 and 1, that goes to the training part.
        seed: of the random choice; the samples of each part stay in order.

    Returns:
        Training part and test part, which together are the data set.

    Raises:
        DataError: the fraction is not between 0 and 1, or leaves a part empty.
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction is {fraction}, expected between 0 and 1, both excluded.")
    samples = len(dataset.inputs)
    size = round(fraction * samples)
    if size in (0, samples):
        raise DataError(
            f"{dataset.name}: fraction {fraction} of {samples} samples leaves the "
            f"{'test' if size else 'training'} part empty; change the fraction or add samples."
        )
    labels = dataset.targets[:, [bool(names) for names in dataset.classes]]
    strata = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    chosen = np.zeros(samples, dtype=bool)
    chosen[_stratified_rows(strata, size, _generator(seed))] = True
    training, test = (
        replace(dataset, inputs=dataset.inputs[rows], targets=dataset.targets[rows])
        for rows in (chosen, ~chosen)
    )
    return training, test


def _encoded_column(
    raw: RawData, column: NDArray[Any], name: str, loss_name: str
) -> tuple[NDArray[np.float64], list[tuple[str, ...]], list[str]]:
    """The encoded columns (N, m) of one target column, and for each its labels and its name."""
    is_text = column.dtype.kind == "U"
    if not is_text and loss_name in REGRESSION_LOSSES:
        return column.astype(np.float64)[:, np.newaxis], [()], [name]
    is_float = column.dtype.kind == "f"
    whole = column == np.rint(column) if is_float else np.ones(len(column), dtype=bool)
    if raw.is_regression or not whole.all():
        row = 0 if raw.is_regression else int(np.argmin(whole))
        expected = "-1/+1, integers or text" if loss_name in SIGN_LOSSES else "integers or text"
        raise DataError(
            f"{raw.name}: target column {name!r} is real-valued ({column[row]} in row {row + 1}), "
            f"but loss {loss_name!r} needs classes ({expected}); "
            f"use one of the losses {', '.join(REGRESSION_LOSSES)}."
        )
    values, index = np.unique(column, return_inverse=True)
    labels = [str(value) if is_text else str(int(value)) for value in values]
    if len(labels) == 1:
        raise DataError(
            f"{raw.name}: target column {name!r} is constant ({labels[0]!r} in every row), "
            "expected at least two classes; add samples of another class or choose another target."
        )
    columns = class_columns(index, len(labels), loss_name)
    if columns.shape[1] == 1:
        return columns, [(labels[0], labels[1])], [name]
    return columns, [(label,) for label in labels], [f"{name}={label}" for label in labels]


def _is_one_hot(columns: Sequence[NDArray[Any]]) -> bool:
    if any(column.dtype.kind == "U" for column in columns):
        return False
    rows = np.column_stack(columns)
    return bool(np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) == 1).all())


def _named(described: DatasetDescription, samples: int | None, seed: int) -> RawData:
    if samples is not None:
        samples = _whole_number(samples, "samples", 2)
    rng = _generator(seed)
    if described.extra is not None:
        return _from_scikit_learn(described, samples, rng)
    # The classes take turns, so that they are balanced for every N.
    kind = np.arange(described.samples if samples is None else samples)
    kind %= max(len(described.classes), 1)
    inputs = GENERATORS[described.name](kind, rng)
    if described.classes:
        return RawData(
            described.name, inputs, (np.array(described.classes)[kind],), target_names=("class",)
        )
    return RawData(described.name, inputs, (np.sin(inputs[:, 0]),), is_regression=True)


def _from_scikit_learn(
    described: DatasetDescription, samples: int | None, rng: np.random.Generator
) -> RawData:
    try:
        module = import_module("sklearn.datasets")
    except ImportError:
        raise DataError(
            f"data set {described.name!r} needs scikit-learn, which is not installed; "
            f'run: pip install "turnpike[{described.extra}]".'
        ) from None
    loader, target_name = _SCIKIT_LEARN[described.name]
    bunch = getattr(module, loader)()
    available = len(bunch.target)
    chosen = np.arange(available)
    if samples is not None:
        least = max(len(described.classes), 2)
        if not least <= samples <= available:
            raise DataError(
                f"samples is {samples}, expected {least} to {available} for {described.name!r}; "
                "leave it out to use all of them."
            )
        strata = bunch.target if described.classes else np.zeros(available, dtype=np.intp)
        chosen = _stratified_rows(strata, samples, rng)
    column = bunch.target[chosen]
    if described.classes:
        column = np.array([str(label) for label in bunch.target_names])[column]
    return RawData(
        described.name,
        bunch.data[chosen],
        (column,),
        tuple(str(name) for name in bunch.feature_names),
        (target_name,),
        is_regression=not described.classes,
    )


_SCIKIT_LEARN: Mapping[str, tuple[str, str]] = {  # loader in sklearn.datasets, name of the target
    "iris": ("load_iris", "species"),
    "wine": ("load_wine", "cultivar"),
    "breast-cancer": ("load_breast_cancer", "diagnosis"),
    "digits": ("load_digits", "digit"),
    "diabetes": ("load_diabetes", "progression"),
}


def _stratified_rows(
    strata: NDArray[np.intp], size: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Sorted indices of `size` rows, each stratum 0, 1, ... in proportion by largest remainders.

    Of the strata that are rounded, those that would come away with nothing go first.
    """
    counts = np.bincount(strata)
    shares, remainders = np.divmod(counts * size, len(strata))
    rounded_up = np.lexsort((-remainders, shares > 0))[: size - shares.sum()]
    shares[rounded_up] += 1
    rows = [
        rng.choice(np.flatnonzero(strata == stratum), share, replace=False)
        for stratum, share in enumerate(shares)
    ]
    return np.sort(np.concatenate(rows))


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(_whole_number(seed, "seed", 0))


def _whole_number(value: int, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise DataError(f"{name} is {value!r}, expected a whole number, at least {least}.")
    return number
