"""Panels of a solved learning problem, and all of them on one page.

    x_i'(t) = f(x_i(t), u(t)),    E(x) = (1/N) Sum_i loss(P x_i, y_i),    J as in problems.learning

Shown are the samples x_i and what the read-out P makes of them, E(x(t)) and |u(t)|, all parameters
of all layers, and the costates |p_i(t)|. All quantities are dimensionless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from problems.figures.page import (
    ALERT,
    FAINT,
    INK,
    counted,
    interval,
    number,
    plain,
    set_logarithmic,
    styled,
    symbol,
)
from problems.figures.plane import RESOLUTION, outputs_of, plane_of, read, set_limits, shade
from problems.figures.samples import (
    MARKS,
    colouring_of,
    handles_of,
    legend_below,
    lines_of,
    scale,
    scatter,
)
from problems.figures.turnpike import draw_decay

if TYPE_CHECKING:
    from problems.training import LearningSolution


def overview(solution: LearningSolution) -> Figure:
    """One page: flow, decision region, errors and controls, parameters, costates.

    The decision region needs one or two inputs; with more, the flow takes its place as well. With a
    running error, errors and controls are drawn as a turnpike.
    """
    report, problem = solution.report, solution.problem
    nodes, samples, width = solution.states.shape
    status = report.get("status", "unknown")
    stationarity = (report.get("certificate") or {}).get("stationarity")
    with styled():
        figure = Figure(figsize=(12.4, 7.6), layout="constrained", facecolor="white")
        grid = figure.add_gridspec(2, 3, height_ratios=(1.25, 1), wspace=0.06, hspace=0.06)
        is_planar = problem.dataset.inputs.shape[1] <= 2
        flow = grid[0, 0] if is_planar else grid[0, :2]
        draw_flow(solution, figure.add_subplot(flow), legend=False)
        if is_planar:
            draw_decision_region(solution, figure.add_subplot(grid[0, 1]))
        has_turnpike = "turnpike" in report
        (draw_decay if has_turnpike else draw_errors)(solution, figure.add_subplot(grid[0, 2]))
        draw_controls(solution, figure.add_subplot(grid[1, :2]))
        draw_costates(solution, figure.add_subplot(grid[1, 2]))
        legend_below(figure, handles_of(colouring_of(problem.dataset), MARKS), letters=150)
        figure.suptitle(
            f"{plain(problem.dataset.name, 60)}: {counted(samples, 'sample')}, "
            f"field {plain(problem.field.name)} with {plain(problem.activation.name)}, "
            f"width {width}, {counted(nodes - 1, 'layer')}, T = {number(solution.times[-1])}\n"
            f"{plain(status)}:   J = {number(report.get('objective'))}     "
            f"E(x(T)) = {number(report.get('training_error'))}     "
            f"stationarity {number(stationarity)}",
            color=INK if status == "solved" else ALERT,
            fontsize=11,
            linespacing=1.5,
        )
    return figure


def draw_flow(solution: LearningSolution, axes: Axes, *, legend: bool = True) -> None:
    """Draw the samples' paths from the input (hollow) to the end state (filled).

    One state is drawn against t, two in their plane, more in the plane of the two leading principal
    components of all x_i(t_k). One or two states have the plane shaded by the read-out: the class
    (or first output) that a state has there. Of many samples, `MOST_TRAJECTORIES` are drawn.
    """
    colouring = colouring_of(solution.problem.dataset)
    positions = plane_of(solution, colouring, axes)
    axes.add_collection(lines_of(colouring, positions), autolim=False)
    scatter(axes, colouring, positions[0], colouring.drawn, is_hollow=True)
    scatter(axes, colouring, positions[-1], colouring.drawn)
    axes.set_title(f"Flow of {colouring}")
    if legend:
        axes.legend(handles=handles_of(colouring, MARKS), fontsize="small")


def draw_decision_region(solution: LearningSolution, axes: Axes) -> None:
    """Draw what the network makes of every input, with all samples; wrong ones have a dark ring.

    Two inputs: their plane, shaded by the class, or by the first output. One input: the first
    output against it.

    Raises:
        ValueError: more than two inputs, which have no plane to draw.
    """
    dataset = solution.problem.dataset
    inputs, targets = dataset.inputs, dataset.targets
    samples, dimension = inputs.shape
    if dimension > 2:
        raise ValueError(
            f"{dataset.name} has {dimension} inputs, expected one or two for a decision region; "
            "draw the flow instead."
        )
    colouring = colouring_of(dataset)
    output = plain(dataset.target_names[0])
    wrong = np.zeros(samples, dtype=bool)
    axes.set_title(f"Output {output}")
    if colouring.names:
        margins = colouring.margins(read(solution, solution.states[-1]))
        wrong = ~(margins[np.arange(samples), colouring.codes] > 0)
        note = " (ringed)" if wrong.any() else ""
        axes.set_title(f"Decisions, {wrong.sum()} of {counted(samples, 'sample')} wrong{note}")
    axes.set_xlabel(plain(dataset.input_names[0]))
    if dimension == 2:
        points = inputs
        axes.set_ylabel(plain(dataset.input_names[1]))
        set_limits(axes, points, is_shaded=True)
        shade(axes, colouring, lambda points: outputs_of(solution, points))
    else:
        points = np.column_stack([inputs, targets[:, 0]])
        line = np.linspace(*interval(inputs), 2 * RESOLUTION)
        curve = outputs_of(solution, line[:, np.newaxis])[:, 0]
        axes.plot(line, curve, color=INK, linewidth=1.2, zorder=2)
        axes.set(ylabel=output, xlim=line[[0, -1]], ylim=interval(np.append(curve, points[:, 1])))
        if colouring.names:
            shade(axes, colouring, lambda points: outputs_of(solution, points[:, :1]))
    scatter(axes, colouring, points, np.arange(samples), ringed=wrong)


def draw_errors(solution: LearningSolution, axes: Axes) -> None:
    """Draw E(x(t_k)) at the layers, and |u(t)|, constant on each, on one logarithmic axis.

    On one axis the slopes compare: where |u| ~ exp(-mu t), E ~ exp(-2 mu t). A zero falls off it.
    """
    times, errors, norms = solution.times, solution.errors, solution.control_norms
    throughout = ["" if values.any() else ": 0 throughout" for values in (errors, norms)]
    label = f"training error E(x(t)), {plain(solution.problem.loss.name)}{throughout[0]}"
    marker = "o" if len(norms) <= 40 else None
    axes.plot(times, errors, color=INK, linewidth=1.4, marker=marker, markersize=3, label=label)
    label = f"control |u(t)|{throughout[1]}"
    axes.stairs(norms, times, baseline=None, color=FAINT, linewidth=1.4, label=label)
    set_logarithmic(axes, np.concatenate([errors, norms]), headroom=0.18)
    axes.set(xlabel="t", xlim=times[[0, -1]], title="Training error and control")
    axes.legend(loc="upper right", frameon=False, fontsize="small")


def draw_controls(solution: LearningSolution, axes: Axes) -> None:
    """Draw every parameter (row; a matrix row by row) in every layer (column); 0 is white."""
    weights = solution.weights
    layers = len(solution.times) - 1
    table = np.hstack([values.reshape(layers, -1) for values in weights.values()]).T
    largest = float(np.max(np.abs(table), where=np.isfinite(table), initial=0.0)) or 1.0
    image = axes.imshow(
        table,
        cmap="RdBu_r",
        norm=Normalize(-largest, largest),
        aspect="auto",
        extent=(0.5, layers + 0.5, len(table), 0),
        interpolation="nearest" if max(table.shape) <= 150 else "auto",
    )
    labels, middles, end = [], [], 0
    for name, values in weights.items():
        start, end = end, end + values[0].size
        middles.append((start + end) / 2)
        labels.append(f"{symbol(name)} ({' x '.join(map(str, values.shape[1:]))})")
        if end < len(table):
            axes.axhline(end, color=INK, linewidth=0.9)
    axes.set_yticks(middles, labels)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.spines[:].set_visible(True)
    axes.set(xlabel="layer", title=f"Parameters, {len(table)} in each layer")
    scale(axes, image)


def draw_costates(solution: LearningSolution, axes: Axes) -> None:
    """Draw |p_i(t)| of the samples on a logarithmic axis, in their colours; a zero falls off it."""
    colouring = colouring_of(solution.problem.dataset)
    times = solution.times
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(solution.costates[:, colouring.drawn], axis=2)
    curves = np.stack(np.broadcast_arrays(times[:, np.newaxis], norms), axis=2)
    axes.add_collection(lines_of(colouring, curves), autolim=False)
    set_logarithmic(axes, norms)
    axes.set(xlabel="t", ylabel="|p(t)|", xlim=times[[0, -1]])
    axes.set_title(f"Costates of {colouring}{'' if norms.any() else ': 0 throughout'}")
