"""What a user is told of the data: how the targets were read, and what looks odd about them.

target y: number        target kind: 3 classes a, b, c        target p: number; target q: number
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from problems.datasets import Dataset
from problems.tables import shortened

# Largest over smallest input column, by their largest entries, from which a note says so. At three
# orders of magnitude the weights of the small column must be 1000 times the others' to count as
# much, which a penalty on their squares charges a million times over.
WIDE_RANGE = 1e3
# Classes from which a target that has more of them than half its samples is noted: so many words
# for so few samples rather tell them apart than say what they have in common.
MANY_CLASSES = 20
SHOWN_CLASSES = 12
UNCLEAR = frozenset(",;'\"\n\r\t")  # in a label: it is shown in quotes


@dataclass(frozen=True)
class _Target:
    """A target as it was handed in: its name, and its labels; none for a number.

    A class for every column has no name of its own.
    """

    name: str
    labels: tuple[str, ...]


def target_reading(dataset: Dataset) -> str:
    """How the targets were read: "target y: 3 classes a, b, c", "target y: number".

    Several targets are joined by semicolons, and classes after the twelfth are left out.
    """
    return "; ".join(
        f"target {target.name}: {_classes(target.labels) if target.labels else 'number'}"
        for target in _targets(dataset)
    )


def data_notes(dataset: Dataset) -> list[str]:
    """What was done to the data as they were read, and what may not be meant so; a sentence each.

    That is a target with about as many classes as samples, and input columns whose sizes, their
    largest entries, differ by `WIDE_RANGE` or more. Inputs that are standardized never do so.
    """
    notes = list(dataset.notes)
    samples = len(dataset.inputs)
    for target in _targets(dataset):
        count = len(target.labels)
        if count >= MANY_CLASSES and 2 * count > samples:
            notes.append(
                f"target column {target.name!r} has {count} classes in {samples} samples; "
                "is it the one you meant?"
            )
    sizes = np.abs(dataset.inputs).max(axis=0)
    sized = np.flatnonzero(sizes > 0)  # a column of zeros has no size
    if sized.size:
        small, large = (int(sized[find(sizes[sized])]) for find in (np.argmin, np.argmax))
        orders = np.log10(sizes[large]) - np.log10(sizes[small])
        if orders >= np.log10(WIDE_RANGE):
            names = dataset.input_names
            notes.append(
                f"input columns differ by {orders:.0f} orders of magnitude (at most "
                f"{sizes[large]:.3g} in {names[large]!r}, {sizes[small]:.3g} in {names[small]!r}); "
                "consider --standardize."
            )
    return notes


def _targets(dataset: Dataset) -> list[_Target]:
    """The targets that the columns of the data set were made of by `problems.datasets.encode`."""
    found: list[_Target] = []
    for name, labels in zip(dataset.target_names, dataset.classes, strict=True):
        if len(labels) != 1:
            found.append(_Target(name, labels))
            continue
        # A class column of more than two labels is spread over columns called name=label.
        is_spread = name.endswith(f"={labels[0]}")
        base = name.removesuffix(f"={labels[0]}") if is_spread else "columns"
        last = found[-1] if found else None
        if last is not None and last.name == base and len(last.labels) > 0:
            found[-1] = _Target(base, last.labels + labels)
        else:
            found.append(_Target(base, labels))
    return found


def _classes(labels: Sequence[str]) -> str:
    """Number and names of classes; in quotes where they could not be told apart without."""
    words = [
        shortened(label) if UNCLEAR & set(label) or label != label.strip() else label
        for label in labels[:SHOWN_CLASSES]
    ]
    more = ", ..." if len(labels) > SHOWN_CLASSES else ""
    return f"{len(labels)} classes {', '.join(words)}{more}"
