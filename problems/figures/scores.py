"""Scores of several models over the same splits of several data sets.

Every dot is the score of one split, the bar the mean, whose value stands above it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from problems.figures.page import COLOURS, INK, check_figure_path, plain, save_page, styled

SPREAD = 0.32  # of the dots of one model across its place, which is 1 wide

Scores = Mapping[str, Mapping[str, Sequence[float]]]  # by data set, then by model


def save_score_figure(scores: Scores, path: str | os.PathLike[str], label: str) -> None:
    """Save the page as .png, .pdf or .svg.

    Args:
        scores: of every split, by data set and model.
        path: of the figure.
        label: what the scores are.

    Raises:
        ValueError: as `check_figure_path`, or the system refused to write.
    """
    check_figure_path(path, still=True)
    save_page(lambda: score_page(scores, label), Path(path))


def score_page(scores: Scores, label: str) -> Figure:
    """One panel for every data set, one column of dots for every model."""
    with styled():
        figure = Figure(figsize=(1.2 + 2.8 * len(scores), 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(scores), squeeze=False, sharey=True)[0]
        for axes, (data, models) in zip(panels, scores.items(), strict=True):
            _draw(axes, models)
            axes.set_title(plain(data, 40), pad=18)
        panels[0].set_ylabel(label)
    return figure


def _draw(axes: Axes, models: Mapping[str, Sequence[float]]) -> None:
    for place, values in enumerate(models.values()):
        # Equal scores stand side by side, in the order of the splits.
        across = place + SPREAD * np.linspace(-1, 1, len(values)) if len(values) > 1 else [place]
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(across, values, "o", color=colour, ms=4, alpha=0.6, mew=0, clip_on=False)
        mean = float(np.mean(values))
        axes.plot([place - SPREAD, place + SPREAD], [mean, mean], color=INK, lw=1.2)
        above = axes.get_xaxis_transform()  # the mean stands over its column
        axes.text(place, 1.02, f"{mean:.3f}", transform=above, ha="center", color=INK)
    axes.set_xticks(
        range(len(models)), [plain(name, 24) for name in models], rotation=30, ha="right"
    )
    axes.set_xlim(-0.6, len(models) - 0.4)
