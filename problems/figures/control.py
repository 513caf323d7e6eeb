"""A solved control problem: states, costates, controls and constraints against time."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ocp.continuous import ContinuousSolution
from problems.figures.page import COLOURS, FAINT, Array, plain, styled


def plot_solution(solution: ContinuousSolution, points: int = 400) -> Figure:
    """States, costates, controls and constraints of a control problem against time.

    Bounds are dashed where they are near. A control that is constant on intervals is drawn in
    steps. Several members share a panel.

    Args:
        solution: of `ocp.solve` or `ocp.refine`.
        points: times at which curves are drawn, besides the nodes.
    """
    problem = solution.problem
    assert solution.transcription is not None
    dense = np.linspace(solution.times[0], solution.times[-1], points)
    times = np.union1d(dense, solution.times)
    constraints = [*problem.path_constraints, *problem.control_constraints]
    rows = max(problem.state.numel(), len(problem.control_names) + len(constraints))
    with styled():
        figure = Figure(figsize=(11.0, 0.9 + 1.7 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, 3, squeeze=False, sharex=True)
        used = np.zeros(axes.shape, dtype=bool)

        def panel(row: int, column: int, title: str, curves: Array, bounds: tuple) -> Axes:
            used[row, column] = True
            place = axes[row, column]
            place.plot(times, curves.reshape(len(times), -1), color=COLOURS[column], lw=1.3)
            place.set_title(title)
            _draw_bounds(place, *bounds)
            return place

        lower, upper = (np.asarray(b, dtype=float) for b in problem.state_bounds)
        values, costates = solution.state(times), solution.costate(times=times)
        for j, name in enumerate(problem.state_names[: values.shape[-1]]):
            panel(j, 0, name, values[..., j], (lower[j], upper[j]))
            panel(j, 1, f"costate of {name}", costates[..., j], (-np.inf, np.inf))
        lower, upper = (np.asarray(b, dtype=float) for b in problem.control_bounds)
        controls, row = solution.control(times), 0
        for j, name in enumerate(problem.control_names[: controls.shape[1]]):
            place = panel(row, 2, name, controls[:, j], (lower[j], upper[j]))
            if not solution.transcription.control_per_stage:
                place.lines[0].remove()
                place.stairs(
                    [u[j] for u in solution.trajectory.controls],
                    solution.times,
                    baseline=None,
                    color=COLOURS[2],
                    lw=1.3,
                )
            row += 1
        for constraint in constraints:
            curves = solution.sample(constraint.expression, times)
            bounds = np.asarray(constraint.lower), np.asarray(constraint.upper)
            panel(row, 2, plain(constraint.name), curves, bounds)
            row += 1
        for place, is_used in zip(axes.ravel(), used.ravel(), strict=True):
            place.set_visible(bool(is_used))
        for column in range(3):
            last = int(np.flatnonzero(used[:, column])[-1]) if used[:, column].any() else 0
            axes[last, column].set_xlabel("time")
            axes[last, column].tick_params(labelbottom=True)
        figure.suptitle(f"{solution.status.value}, objective {solution.objective:.8g}")
    return figure


def _draw_bounds(axes: Axes, lower: Array, upper: Array) -> None:
    """Dashed lines at finite bounds within or near what is drawn, and room for flat curves."""
    bottom, top = axes.get_ylim()
    span = top - bottom
    middle = (bottom + top) / 2
    if span < 1e-6 * max(abs(middle), 1e-12):
        span = 0.2 * max(abs(middle), 1e-12)
        axes.set_ylim(middle - span / 2, middle + span / 2)
        bottom, top = axes.get_ylim()
    for value in np.unique(np.concatenate([np.ravel(lower), np.ravel(upper)])):
        if np.isfinite(value) and bottom - span <= value <= top + span:
            axes.axhline(value, color=FAINT, lw=0.9, ls="--")
