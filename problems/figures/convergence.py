"""Errors under refinement, beside the slope that is predicted for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from problems.figures.page import COLOURS, FAINT, Array, check_figure_path, save_page
from problems.figures.samples import MARKERS


def save_convergence(
    curves: Mapping[str, tuple[Array, Array]],
    path: str | os.PathLike[str],
    label: str,
    order: float,
) -> None:
    """Draw errors against what is refined, both logarithmic, and a line of the predicted order.

    Args:
        curves: by name, abscissas and errors.
        path: of the figure.
        label: of the abscissa.
        order: predicted exponent.

    Raises:
        ValueError: as `check_figure_path`.
    """
    check_figure_path(path, still=True)

    def page() -> Figure:
        figure = Figure(figsize=(6.6, 4.6), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for number, (name, (x, y)) in enumerate(curves.items()):
            look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % 8]}
            axes.loglog(x, y, lw=1.2, ms=4, label=name, **look)
        x = np.unique(np.concatenate([x for x, _ in curves.values()]))
        top = max(float(y.max()) for _, y in curves.values())
        line = 2 * top * (x / x[0]) ** order
        axes.loglog(x, line, "--", color=FAINT, lw=1, label=f"predicted slope {order:g}")
        axes.set(xlabel=label, ylabel="error", title="Errors under refinement")
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        return figure

    save_page(page, Path(path))
