"""What a sample looks like in every panel: its colour, its marker, its line, and its legend.

A sample keeps its colour from panel to panel: a colour of Okabe and Ito and a marker for each
class, or a scale for a numeric target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import ListedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from problems.datasets import Dataset
from problems.figures.page import COLOURS, HUGE, INK, Array, counted, plain

Indices = NDArray[np.intp]


MARKERS = "o^sDvPX<>pd"  # eleven: no two of the first 110 classes share both colour and marker


# Viridis without its palest end, which would not show on white.
VALUES = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, 256)), "values")


MOST_TRAJECTORIES = 300


MOST_LABELS = 12


MARKS = {"input": "white", "end state": INK}  # legend entries for hollow and filled markers


@dataclass(frozen=True, eq=False)
class Colouring:
    """The look of N samples, by class or by a numeric target; prints as what is drawn of them.

    Attributes:
        names: of the C classes; empty for regression.
        anchors: (C, m), each class as values of the m class columns of the targets.
        columns: which these are.
        codes: (N,), each sample's class; 0 for regression.
        colours: (N, 4).
        drawn: the samples whose trajectories are drawn, evenly over classes or target values.
        norm: of the target's colour scale.
        label: of that scale.
    """

    names: tuple[str, ...]
    anchors: Array
    columns: Indices
    codes: Indices
    colours: Array
    drawn: Indices
    norm: Normalize
    label: str = ""

    def __str__(self) -> str:
        samples = counted(len(self.codes), "sample")
        return samples if len(self.drawn) == len(self.codes) else f"{len(self.drawn)} of {samples}"

    def margins(self, outputs: Array) -> Array:
        """(P, C): by how much each class is nearer to the outputs (P, M) than any other is.

        The nearest is the sign for a column of -1/+1, and the largest output for one-hot columns.
        """
        with np.errstate(all="ignore"):  # |z - a|^2 = |z|^2 - 2 (z . a - |a|^2 / 2)
            scores = outputs[:, self.columns] @ self.anchors.T - 0.5 * (self.anchors**2).sum(axis=1)
            order = np.sort(scores, axis=1)
            rivals = np.where(scores == order[:, -1:], order[:, -2:-1], order[:, -1:])
            return np.clip(np.nan_to_num(scores - rivals), -HUGE, HUGE)


def colouring_of(dataset: Dataset) -> Colouring:
    """Read the classes off the class columns; without any, colour by the first target.

    Class columns that are not the one-hot columns of one class count by the first alone.
    """
    columns = np.flatnonzero([bool(labels) for labels in dataset.classes])
    if not columns.size:
        values = dataset.targets[:, 0]
        low, high = values.min(), values.max()
        norm = Normalize(low, high) if low < high else Normalize(low - 0.5, high + 0.5)
        codes = np.zeros(len(values), dtype=np.intp)
        label = f"target {plain(dataset.target_names[0])}"
        colours = VALUES(norm(values))
        return Colouring((), np.empty(0), columns, codes, colours, _spread(values), norm, label)
    first, targets = dataset.classes[columns[0]], dataset.targets[:, columns]
    low = -1.0 if len(first) == 2 or targets.min() < 0 else 0.0
    if len(first) == 1 and len(columns) > 1 and ((targets > 0).sum(axis=1) == 1).all():
        names = tuple(dataset.classes[column][0] for column in columns)
        anchors, codes = np.where(np.eye(len(names)) == 1, 1.0, low), targets.argmax(axis=1)
    else:
        names = first if len(first) == 2 else (f"not {first[0]}", first[0])
        anchors, codes = np.array([[low], [1.0]]), (targets[:, 0] > 0).astype(np.intp)
        columns = columns[:1]
    colours = np.array([to_rgba(colour_of(code)) for code in codes.tolist()])
    return Colouring(names, anchors, columns, codes, colours, _spread(codes), Normalize())


def _spread(values: NDArray[Any]) -> Indices:
    """At most `MOST_TRAJECTORIES` indices, evenly spaced in the order of the values."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(order) - 1, min(len(order), MOST_TRAJECTORIES))
    return np.sort(order[places.round().astype(np.intp)])


def colour_of(code: int) -> str:
    """Of a class."""
    return COLOURS[code % len(COLOURS)]


def _marker(code: int) -> str:
    return MARKERS[code % len(MARKERS)]


def paler(colours: Any, strength: float) -> Array:
    """Colours, RGBA along the last axis, made paler."""
    return 1 + strength * (np.asarray(colours, dtype=float) - 1)


def handles_of(colouring: Colouring, marks: Mapping[str, str] | None = None) -> list[Line2D]:
    """Legend entries: the classes, then the marks."""
    looks = [
        (name, colour_of(code), colour_of(code), _marker(code))
        for code, name in enumerate(colouring.names[:MOST_LABELS])
    ]
    if len(colouring.names) > MOST_LABELS:
        looks.append((f"and {len(colouring.names) - MOST_LABELS} more", "none", "none", ""))
    looks += [(mark, face, INK, "o") for mark, face in (marks or {}).items()]
    return [
        Line2D([], [], ls="none", marker=marker, ms=6, mfc=face, mec=edge, label=plain(label))
        for label, face, edge, marker in looks
    ]


def legend_below(figure: Figure, handles: list[Line2D], letters: int) -> None:
    """A legend in rows of about so many letters, if there is anything to explain."""
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        rows = -(-len(handles) // max(letters // (longest + 6), 1))
        columns = -(-len(handles) // rows)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def scale(axes: Axes, mappable: Any, label: str = "") -> None:
    """A bar of colours beside a panel."""
    bar = axes.figure.colorbar(mappable, ax=axes, pad=0.015, aspect=28, label=label)
    bar.outline.set_visible(False)


def lines_of(colouring: Colouring, curves: Array) -> LineCollection:
    """Thin lines in the colours of the drawn samples, from points (K+1, n, 2)."""
    width = float(np.clip(40 / len(colouring.drawn), 0.4, 1.0))
    colours = colouring.colours[colouring.drawn]
    return LineCollection(
        list(curves.swapaxes(0, 1)), colors=colours, linewidth=width, alpha=0.6, zorder=2
    )


def scatter(
    axes: Axes,
    colouring: Colouring,
    points: Array,
    samples: Indices,
    *,
    is_hollow: bool = False,
    ringed: NDArray[np.bool_] | None = None,
) -> list[tuple[Indices, PathCollection]]:
    """Draw the finite points (n, 2) of the samples, by class; which rows each artist holds."""
    diameter = float(np.clip(40 / np.sqrt(len(samples)), 3.0, 5.2))
    artists = []
    codes = np.where(np.isfinite(points).all(axis=1), colouring.codes[samples], -1)
    for code in np.unique(codes[codes >= 0]):
        rows = np.flatnonzero(codes == code)
        colours = colouring.colours[samples[rows]]
        rings = np.zeros(len(rows), dtype=bool) if ringed is None else ringed[samples[rows]]
        look: dict[str, Any] = {
            "s": diameter**2,
            "facecolors": colours,
            "edgecolors": np.where(rings[:, np.newaxis], to_rgba(INK), np.ones(4)),
            "linewidths": diameter * (0.08 + 0.12 * rings),
            "zorder": 4,
        }
        if is_hollow:
            look |= {"facecolors": "white", "edgecolors": colours, "linewidths": 0.7, "zorder": 3}
        x, y = points[rows].T
        artist = axes.scatter(x, y, marker=_marker(int(code)), **look)
        artists.append((rows, artist))
    return artists
