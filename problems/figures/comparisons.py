"""Gap against gradient evaluations and against time, of optimisers beside a certified optimum.

Lines are medians over the seeds at each optimiser's best rate, of the least cost so far; bands
reach from the least to the largest. Points are the second-order solver's, one per initial network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from problems.figures.page import COLOURS, INK, Array, check_figure_path, plain, save_page, styled

if TYPE_CHECKING:
    from problems.comparison import Comparison
    from problems.torch_training import Run

FLOOR = 1e-13  # gaps below this are drawn on it: they are rounding
POINTS = 200  # of a curve


def save_comparison_figure(
    comparisons: Comparison | Mapping[str, Comparison], path: str | os.PathLike[str]
) -> None:
    """Save the page of one comparison, or of several by name, as .png, .pdf or .svg.

    Raises:
        ValueError: as `check_figure_path`, or the system refused to write.
    """
    check_figure_path(path, still=True)
    several = comparisons if isinstance(comparisons, Mapping) else {"": comparisons}
    save_page(lambda: comparison_page(several), Path(path))


def comparison_page(comparisons: Mapping[str, Comparison]) -> Figure:
    """One row for every comparison: gap against gradient evaluations, and against seconds."""
    with styled():
        figure = Figure(figsize=(9.5, 0.7 + 3.0 * len(comparisons)), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(len(comparisons), 2, squeeze=False, sharey="row")
        for (left, right), (name, comparison) in zip(rows, comparisons.items(), strict=True):
            _draw(left, comparison, "evaluations")
            _draw(right, comparison, "seconds")
            title = plain(name or comparison.plan.problem.dataset.name, 60)
            left.set_title(f"{title}: $J^*$ = {comparison.optimum:.6g}")
            left.set_ylabel("gap $(J-J^*)/J^*$")
        for axes, label in zip(rows[-1], ("gradient evaluations", "seconds"), strict=True):
            axes.set_xlabel(label)
        handles = {
            str(handle.get_label()): handle for axes in rows.ravel() for handle in axes.get_lines()
        }
        shown = {label: handle for label, handle in handles.items() if not label.startswith("_")}
        if shown:
            columns = min(len(shown), 7)
            figure.legend(
                handles=list(shown.values()),
                loc="outside lower center",
                ncols=columns,
                frameon=False,
            )
    return figure


def _draw(axes: Axes, comparison: Comparison, against: str) -> None:
    from problems.comparison import best_rates  # needs PyTorch, and so does who calls this

    rates, least = best_rates(comparison.runs), 1.0
    for number, optimizer in enumerate(comparison.plan.optimizers):
        runs = comparison.runs_of(optimizer.name, rates.get(optimizer.name))
        if optimizer.name not in rates:
            continue
        x, curves = _curves(comparison, runs, against)
        colour, least = COLOURS[number % len(COLOURS)], min(least, float(curves.min()))
        axes.plot(x, np.median(curves, axis=0), color=colour, lw=1.3, label=optimizer.name)
        axes.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12, lw=0)
    if against == "seconds":
        found = comparison.starts.values()
        seconds = [one.solved.result["seconds"] for one in found]
        gaps = [max(comparison.gap(one.objective), FLOOR) for one in found]
        least = min(least, *gaps)
        axes.plot(seconds, gaps, "*", color=INK, ms=8, label="turnpike, certified", clip_on=False)
    axes.set(xscale="log", yscale="log")
    axes.set_ylim(bottom=min(axes.get_ylim()[0], least / 3))


def _curves(comparison: Comparison, runs: Sequence[Run], against: str) -> tuple[Array, Array]:
    """Common abscissae (P,) and the least gap of every run up to them (S, P)."""
    places = [np.asarray(getattr(run.history, against)) for run in runs]
    first = min(float(p[p > 0].min(initial=np.inf)) for p in places)
    last = max(float(p[-1]) for p in places)
    x = np.geomspace(min(first, last) or 1e-6, max(last, 1e-6), POINTS)
    curves = []
    for run, place in zip(runs, places, strict=True):
        costs = np.minimum.accumulate(np.nan_to_num(run.history.objective, nan=np.inf))
        index = np.clip(np.searchsorted(place, x, side="right") - 1, 0, None)
        scale = comparison.gap(comparison.optimum + 1.0)  # of a gap in J
        curves.append(np.maximum((costs[index] - comparison.optimum) * scale, FLOOR))
    return x, np.array(curves)
