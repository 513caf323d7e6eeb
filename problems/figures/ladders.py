"""The page of a ladder of horizons or weight decays, or of ladders of several seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from problems.figures.page import (
    COLOURS,
    INK,
    check_figure_path,
    save_page,
    set_logarithmic,
    styled,
)


def save_ladder_figure(
    results: Mapping[str, Any] | Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
    """Save the page of one ladder, or of ladders of several seeds, as .png, .pdf or .svg.

    Args:
        results: JSON objects of `problems.ladder_report.ladder_report`, all with the same rungs.
        path: of the figure.

    Raises:
        ValueError: as `check_figure_path`, or the system refused to write.
    """
    check_figure_path(path, still=True)
    several = [results] if isinstance(results, Mapping) else list(results)
    save_page(lambda: ladder_page(several), Path(path))


def ladder_page(results: Sequence[Mapping[str, Any]]) -> Figure:
    """Error, distance from the limit, norm, and generalisation against T or 1 / lambda.

    Without a limit its panel shows Lipschitz constants. Lines are medians over the ladders and
    bands reach from the least to the largest; what is predicted is drawn without markers.
    """
    with styled():
        figure = Figure(figsize=(9.5, 6.8), layout="constrained")
        FigureCanvasAgg(figure)
        (errors, gaps), (norms, measures) = figure.subplots(2, 2)
        in_horizon = results[0]["ladder"] == "horizon"
        label = "horizon $T$" if in_horizon else r"$1/\lambda$"
        _ladder_lines(
            errors,
            results,
            {
                "training_error": ("$E(x(T))$", "o-"),
                "predicted_error": ("predicted leading term", "-"),
                "error_bound": (r"bound $\varepsilon\,(|v^*|^2-|v|^2)$", "--"),
            },
        )
        errors.set(title="training error", xscale="log", xlabel=label)
        if any(r["interpolation"] for r in results):
            title = "distance from the minimal-norm limit"
            lines = {
                "norm_gap": (r"$|v^*|^2-|v|^2$", "o-"),
                "distance_to_interpolant": (r"$|v-v^*|$", "s-"),
            }
        else:
            title = "Lipschitz constant of the network"
            lines = {"lipschitz_bound": ("bound", "--"), "lipschitz_sampled": ("sampled", "o-")}
        _ladder_lines(gaps, results, lines)
        gaps.set(title=title, xscale="log", xlabel=label)
        _ladder_lines(norms, results, {"rescaled_norm_squared": ("$|v|^2$", "o-")}, log=False)
        limits = [r["interpolation"]["control_energy"] for r in results if r["interpolation"]]
        if limits:
            norms.axhline(float(np.median(limits)), color=INK, lw=1, ls="--", label=r"$|v^*|^2$")
        norms.set(title="norm of the rescaled control", xscale="log", xlabel=label)
        _ladder_lines(
            measures,
            results,
            {
                "held_out_accuracy": ("held-out accuracy", "o-"),
                "held_out_error": ("held-out error", "s-"),
                "margin": ("margin", "^-"),
                "normalized_margin": ("margin / $|v|$", "v-"),
            },
            log=False,
        )
        measures.set(title="beyond the training data", xscale="log", xlabel=label)
        for axes in (errors, gaps, norms, measures):
            if axes.lines:
                axes.legend(frameon=False)
            else:
                axes.set_axis_off()
        title = f"fixed: {results[0]['held_fixed']}"
        if len(results) > 1:
            title += f"; median and range of {len(results)} ladders"
        figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return figure


def _ladder_lines(
    axes: Axes,
    results: Sequence[Mapping[str, Any]],
    lines: Mapping[str, tuple[str, str]],
    *,
    log: bool = True,
) -> None:
    """One line per quantity against the ladder's variable, with its range over the ladders."""
    drawn = []
    for number, (key, (label, style)) in enumerate(lines.items()):
        table = np.array([[_rung_value(r, rung, key) for rung in r["rungs"]] for r in results])
        if log:
            table = np.where(table > 0, table, np.nan)
        shown = np.isfinite(table).all(axis=0)
        if not shown.any():
            continue
        first = results[0]["rungs"]
        x = np.array(
            [
                rung["horizon"] if results[0]["ladder"] == "horizon" else 1 / rung["weight_decay"]
                for rung in first
            ]
        )[shown]
        values = table[:, shown]
        colour = COLOURS[number]
        axes.plot(x, np.median(values, axis=0), style, color=colour, ms=4, lw=1.2, label=label)
        if len(results) > 1:
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        drawn.append(values.ravel())
    if log and drawn:
        set_logarithmic(axes, np.concatenate(drawn))


def _rung_value(result: Mapping[str, Any], rung: Mapping[str, Any], key: str) -> float:
    """A number of a rung; not a number where there is none."""
    if key == "norm_gap":
        found = result["interpolation"]
        return found["penalty_size"] - rung["penalty_size"] if found else np.nan
    value = rung.get(key)
    return np.nan if value is None else float(value)
