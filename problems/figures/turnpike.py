"""The turnpike of a solution: decay of error and control, prediction, fit, verdict, where to cut.

    |u(t)| and sqrt(E(x(t))) ~ exp(-mu_h t)

on one logarithmic axis, so that both have the same slope. On the shaded window the predicted rate
is a broad line and the fitted one a dashed line on it, both through the middle of the curve; the
numbers are those of `problems.turnpike_report`. The switching functions S_j of a penalty that
switches are drawn above the controls that they govern. All quantities are dimensionless.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from problems.figures.page import (
    ALERT,
    COLOURS,
    FAINT,
    INK,
    Array,
    check_figure_path,
    number,
    plain,
    save_page,
    set_logarithmic,
    styled,
)

if TYPE_CHECKING:
    from problems.switching import Switching
    from problems.training import LearningSolution

PREDICTED, FITTED, SHADE = COLOURS[1], COLOURS[0], "#DCE9F2"
LETTERS = 100  # of the reason, in a line below one panel
MOST_SWITCHES = 60  # switching functions with lines of their own
ROUNDING = 1e-15  # of the largest value, below which nothing is drawn: the last control is 0


def save_turnpike_figure(
    solutions: LearningSolution | Mapping[str, LearningSolution], path: str | os.PathLike[str]
) -> None:
    """Save the figure of one solution, or of several by name, as .png, .pdf or .svg.

    Raises:
        ValueError: as `check_figure_path` and `turnpike_figure`, or the system refused to write.
    """
    check_figure_path(path, still=True)
    save_page(lambda: turnpike_figure(solutions), Path(path))


def turnpike_figure(solutions: LearningSolution | Mapping[str, LearningSolution]) -> Figure:
    """One panel for every solution, with its verdict for a title.

    Args:
        solutions: one, whose reason is written below, or several by name.

    Raises:
        ValueError: a solution without a running error.
    """
    several = solutions if isinstance(solutions, Mapping) else {"": solutions}
    columns = min(len(several), 3)
    rows = -(-len(several) // columns)
    width = 7.4 if columns == 1 else 5.2 * columns
    with styled():
        figure = Figure(figsize=(width, 4.6 if rows == 1 else 3.7 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, solution) in zip(panels, several.items(), strict=False):
            draw_decay(solution, axes)
            if name:
                axes.set_title(f"{plain(name, 40)}\n{axes.get_title(loc='left')}")
        for axes in panels[len(several) :]:
            axes.set_axis_off()
        if not isinstance(solutions, Mapping):
            reason = f"because {report_of(solutions)['reason']}".replace("$", r"\$")
            figure.supxlabel(textwrap.fill(reason, LETTERS), fontsize=8, color=INK)
    return figure


def report_of(solution: LearningSolution) -> dict[str, Any]:
    """The turnpike report of a solution.

    Raises:
        ValueError: there is none, for want of a running error.
    """
    found = solution.report.get("turnpike")
    if found is None:
        raise ValueError(
            "a turnpike needs a running error, and this solution has none; "
            "make tracking positive (--tracking 1)."
        )
    return dict(found)


def draw_decay(solution: LearningSolution, axes: Axes) -> None:
    """Draw sqrt(E) and |u| with predicted and fitted lines, the window and where to cut."""
    found = report_of(solution)
    times = solution.times
    errors, norms = np.sqrt(solution.errors), solution.control_norms
    axes.plot(times, errors, color=INK, linewidth=1.4, label=r"$\sqrt{E(x(t))}$")
    axes.stairs(norms, times, baseline=None, color=FAINT, linewidth=1.4, label="$|u(t)|$")
    set_logarithmic(axes, _above_rounding(errors, norms), headroom=0.45)
    if found["window"] is not None:
        axes.axvspan(*found["window"], color=SHADE, linewidth=0, zorder=0)
        for values, rate in ((errors[:-1], "fitted_error_rate"), (norms, "fitted_control_rate")):
            if found[rate] is not None:
                _lines(axes, found, times[:-1], values)
    for name, label in (("arrival_time", "E = 0 from"), ("switch_off_time", "controls off after")):
        if found[name] is not None:
            text = f"{label} $t$ = {number(found[name])}"
            axes.axvline(found[name], color=COLOURS[2], linewidth=1.2, label=text)
    if 0 < found["needed_layers"] < len(norms):
        text = f"cut here: $E$ changes by {number(found['crop_change'])}"
        axes.axvline(found["needed_depth"], color=COLOURS[3], linewidth=1.0, ls="-.", label=text)
    axes.set(xlabel="t", xlim=times[[0, -1]])
    axes.set_title(_title(found))
    axes.legend(loc="upper right", frameon=False, fontsize="small")


def _lines(axes: Axes, found: dict[str, Any], times: Array, values: Array) -> None:
    """Predicted and fitted line through the middle of a curve on the window."""
    first, last = found["window"]
    inside = (times >= first) & (times <= last) & (values > 0)
    at, middle = times[inside], float(times[inside].mean())
    level = float(np.exp(np.log(values[inside]).mean()))
    rates = (
        (found["predicted_discrete_rate"], "predicted", PREDICTED, "-", 4.5),
        (found["fitted_rate"], "fitted", FITTED, "--", 1.4),
    )
    known = set(axes.get_legend_handles_labels()[1])
    for rate, word, colour, style, width in rates:
        if rate is None:
            continue
        label = f"{word} rate {rate:.4g}"
        line = level * np.exp(-rate * (at - middle))
        shown = None if label in known else label
        alpha = 0.45 if style == "-" else 1.0
        axes.plot(
            *(at, line, style), color=colour, alpha=alpha, linewidth=width, label=shown, zorder=3
        )


def _above_rounding(*several: Array) -> Array:
    values = np.concatenate(several)
    return values[values > ROUNDING * values.max(initial=0.0)]


def _title(found: dict[str, Any]) -> str:
    words = f"turnpike: {found['verdict']}"
    if found["fitted_rate"] is not None and found["predicted_discrete_rate"]:
        off = found["fitted_rate"] / found["predicted_discrete_rate"] - 1
        words += f", rate {100 * off:+.2g} %"
    return words


def draw_switching(found: Switching, controls: Array, axes: Axes, below: Axes) -> None:
    """Draw the switching functions S_j(t), and the controls u_j(t) that they switch, below.

    Args:
        found: of a solution.
        controls: those that switch, (K, m).
        axes: for the functions.
        below: for the controls.
    """
    functions, count = found.functions, found.functions.shape[1]
    for j in range(min(count, MOST_SWITCHES)):
        colour = INK if count == 1 else COLOURS[j % len(COLOURS)]
        axes.plot(found.times[:-1], functions[:, j], color=colour, linewidth=1.0)
    for j in range(min(controls.shape[1], MOST_SWITCHES)):
        colour = COLOURS[j % len(COLOURS)]
        below.stairs(controls[:, j], found.times, baseline=None, color=colour, linewidth=1.2)
    axes.axhline(1.0, color=INK, linewidth=0.8, ls="--")
    for time, panel in ((found.predicted_off_time, axes), (found.off_time, below)):
        if time is not None:
            panel.axvline(time, color=ALERT, linewidth=1.0)
    said = "never below 1" if found.predicted_off_time is None else number(found.predicted_off_time)
    was = "never" if found.off_time is None else number(found.off_time)
    axes.set_title(f"switching functions $S_j$, below 1 for good after {said}")
    below.set_title(f"controls $u_j$, off for good after {was}")
    for panel in (axes, below):
        panel.set(xlabel="t", xlim=found.times[[0, -1]])


def draw_horizons(solutions: Sequence[LearningSolution], axes: Axes) -> None:
    """Draw sqrt(E) (lines) and |u| (stairs) of the same problem on several horizons."""
    values = []
    for j, solution in enumerate(solutions):
        colour, errors = COLOURS[j % len(COLOURS)], np.sqrt(solution.errors)
        label = f"$T$ = {number(solution.problem.horizon)}"
        width = 1.2 + 1.6 * (len(solutions) - 1 - j)  # the shortest is the broadest, and below
        axes.plot(solution.times, errors, color=colour, linewidth=width, label=label, zorder=2 + j)
        axes.stairs(
            *(solution.control_norms, solution.times),
            baseline=None,
            color=colour,
            linewidth=width / 2,
            zorder=2 + j,
        )
        values += [errors, solution.control_norms]
    set_logarithmic(axes, _above_rounding(*values))
    axes.set(xlabel="t", ylabel=r"$\sqrt{E}$ (thick), $|u|$ (thin)")
    axes.legend(frameon=False, fontsize="small")
