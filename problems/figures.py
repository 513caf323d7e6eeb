"""Figures of a solved learning problem: a page of panels, or an animation of the flow.

    x_i'(t) = f(x_i(t), u(t)),    E(x) = (1/N) Sum_i loss(P x_i, y_i),    J as in problems.learning

Shown are the samples x_i and what the read-out P makes of them, E(x(t)) and |u(t)|, all parameters
of all layers, and the costates |p_i(t)|. A sample keeps its colour from panel to panel: a colour of
Okabe and Ito and a marker for each class, or a scale for a numeric target. All quantities are
dimensionless. `plot_solution` draws any other control problem, in its own units. Only this file
imports Matplotlib: without pyplot, and with the user's settings back in place after each call.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import ListedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image

from ocp.continuous import ContinuousSolution
from ocp.storage import check_writable
from problems.datasets import Dataset

if TYPE_CHECKING:
    from problems.training import LearningSolution

__all__ = [
    "check_figure_path",
    "draw_controls",
    "draw_costates",
    "draw_decision_region",
    "draw_errors",
    "draw_flow",
    "flow_animation",
    "ladder_page",
    "overview",
    "plot_solution",
    "save_figure",
    "save_ladder_figure",
]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

# Okabe and Ito, Color Universal Design (2008), then two more, for data of ten classes.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"]
COLOURS += ["#999999", "#882255"]
MARKERS = "o^sDvPX<>pd"  # eleven: no two of the first 110 classes share both colour and marker
INK, FAINT, ALERT = "#222222", "#8A8A8A", "#C04F00"
# Viridis without its palest end, which would not show on white.
VALUES = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, 256)), "values")
MOST_TRAJECTORIES = 300
MOST_LABELS = 12
HUGE = 1e100  # what a diverged network reaches; drawn as if it were not finite
RESOLUTION = 200  # points along each side of a shaded plane
FRAME_TIME, HOLD_TIME = 50, 1500  # of a frame, and of the last, in milliseconds
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "pdf.fonttype": 42,
    "svg.hashsalt": "turnpike",
}


def check_figure_path(path: str | os.PathLike[str], still: bool = False) -> None:
    """Refuse a path that `save_figure` could not write to, before anything is solved.

    Args:
        path: of the figure.
        still: whether there is nothing to animate.

    Raises:
        ValueError: the suffix is not .png, .pdf, .svg or .gif, the folder is missing or closed to
            writing, or the path is itself a folder.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".html":
        raise ValueError(
            f"{str(path)!r}: pages arrive with a later version; use .png, .pdf, .svg or .gif."
        )
    if still and suffix == ".gif":
        raise ValueError(f"{str(path)!r}: a ladder has no animation; use .png, .pdf or .svg.")
    if suffix not in (".png", ".pdf", ".svg", ".gif"):
        raise ValueError(
            f"{str(path)!r} ends in {suffix or 'no suffix'}, expected a figure's name ending in "
            ".png, .pdf or .svg, or an animation's in .gif; change the suffix."
        )
    check_writable(path)


def save_figure(solution: LearningSolution, path: str | os.PathLike[str]) -> None:
    """Save the overview as .png, .pdf or .svg, or the animation as .gif: whole or not at all.

    Raises:
        ValueError: as `check_figure_path`, or the system refused to write.
    """
    check_figure_path(path)
    path = Path(path)
    if path.suffix.lower() == ".gif":
        flow_animation(solution, path)
        return
    _save_page(lambda: overview(solution), path)


def _save_page(page: Callable[[], Figure], path: Path) -> None:
    suffix = path.suffix.lower()
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}  # equal data, equal files
    with _styled(), _replacing(path) as draft:
        page().savefig(draft, format=suffix[1:], dpi=170, metadata=undated.get(suffix))


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
    _save_page(lambda: ladder_page(several), Path(path))


def ladder_page(results: Sequence[Mapping[str, Any]]) -> Figure:
    """Error, distance from the limit, norm, and generalisation against T or 1 / lambda.

    Without a limit its panel shows Lipschitz constants. Lines are medians over the ladders and
    bands reach from the least to the largest; what is predicted is drawn without markers.
    """
    with _styled():
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
        _set_logarithmic(axes, np.concatenate(drawn))


def _rung_value(result: Mapping[str, Any], rung: Mapping[str, Any], key: str) -> float:
    """A number of a rung; not a number where there is none."""
    if key == "norm_gap":
        found = result["interpolation"]
        return found["penalty_size"] - rung["penalty_size"] if found else np.nan
    value = rung.get(key)
    return np.nan if value is None else float(value)


def overview(solution: LearningSolution) -> Figure:
    """One page: flow, decision region, errors and controls, parameters, costates.

    The decision region needs one or two inputs; with more, the flow takes its place as well.
    """
    report, problem = solution.report, solution.problem
    nodes, samples, width = solution.states.shape
    status = report.get("status", "unknown")
    stationarity = (report.get("certificate") or {}).get("stationarity")
    with _styled():
        figure = Figure(figsize=(12.4, 7.6), layout="constrained", facecolor="white")
        grid = figure.add_gridspec(2, 3, height_ratios=(1.25, 1), wspace=0.06, hspace=0.06)
        is_planar = problem.dataset.inputs.shape[1] <= 2
        flow = grid[0, 0] if is_planar else grid[0, :2]
        draw_flow(solution, figure.add_subplot(flow), legend=False)
        if is_planar:
            draw_decision_region(solution, figure.add_subplot(grid[0, 1]))
        draw_errors(solution, figure.add_subplot(grid[0, 2]))
        draw_controls(solution, figure.add_subplot(grid[1, :2]))
        draw_costates(solution, figure.add_subplot(grid[1, 2]))
        _legend_below(figure, _handles(_colouring(problem.dataset), MARKS), letters=150)
        figure.suptitle(
            f"{_plain(problem.dataset.name, 60)}: {_counted(samples, 'sample')}, "
            f"field {_plain(problem.field.name)} with {_plain(problem.activation.name)}, "
            f"width {width}, {_counted(nodes - 1, 'layer')}, T = {_number(solution.times[-1])}\n"
            f"{_plain(status)}:   J = {_number(report.get('objective'))}     "
            f"E(x(T)) = {_number(report.get('training_error'))}     "
            f"stationarity {_number(stationarity)}",
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
    colouring = _colouring(solution.problem.dataset)
    positions = _plane(solution, colouring, axes)
    axes.add_collection(_lines(colouring, positions), autolim=False)
    _scatter(axes, colouring, positions[0], colouring.drawn, is_hollow=True)
    _scatter(axes, colouring, positions[-1], colouring.drawn)
    axes.set_title(f"Flow of {colouring}")
    if legend:
        axes.legend(handles=_handles(colouring, MARKS), fontsize="small")


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
    colouring = _colouring(dataset)
    output = _plain(dataset.target_names[0])
    wrong = np.zeros(samples, dtype=bool)
    axes.set_title(f"Output {output}")
    if colouring.names:
        margins = colouring.margins(_readout(solution, solution.states[-1]))
        wrong = ~(margins[np.arange(samples), colouring.codes] > 0)
        note = " (ringed)" if wrong.any() else ""
        axes.set_title(f"Decisions, {wrong.sum()} of {_counted(samples, 'sample')} wrong{note}")
    axes.set_xlabel(_plain(dataset.input_names[0]))
    if dimension == 2:
        points = inputs
        axes.set_ylabel(_plain(dataset.input_names[1]))
        _set_limits(axes, points, is_shaded=True)
        _shade(axes, colouring, lambda points: _outputs(solution, points))
    else:
        points = np.column_stack([inputs, targets[:, 0]])
        line = np.linspace(*_interval(inputs), 2 * RESOLUTION)
        curve = _outputs(solution, line[:, np.newaxis])[:, 0]
        axes.plot(line, curve, color=INK, linewidth=1.2, zorder=2)
        axes.set(ylabel=output, xlim=line[[0, -1]], ylim=_interval(np.append(curve, points[:, 1])))
        if colouring.names:
            _shade(axes, colouring, lambda points: _outputs(solution, points[:, :1]))
    _scatter(axes, colouring, points, np.arange(samples), ringed=wrong)


def draw_errors(solution: LearningSolution, axes: Axes) -> None:
    """Draw E(x(t_k)) at the layers, and |u(t)|, constant on each, on one logarithmic axis.

    On one axis the slopes compare: where |u| ~ exp(-mu t), E ~ exp(-2 mu t). A zero falls off it.
    """
    times, errors, norms = solution.times, solution.errors, solution.control_norms
    throughout = ["" if values.any() else ": 0 throughout" for values in (errors, norms)]
    label = f"training error E(x(t)), {_plain(solution.problem.loss.name)}{throughout[0]}"
    marker = "o" if len(norms) <= 40 else None
    axes.plot(times, errors, color=INK, linewidth=1.4, marker=marker, markersize=3, label=label)
    label = f"control |u(t)|{throughout[1]}"
    axes.stairs(norms, times, baseline=None, color=FAINT, linewidth=1.4, label=label)
    _set_logarithmic(axes, np.concatenate([errors, norms]), headroom=0.18)
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
        labels.append(f"{_symbol(name)} ({' x '.join(map(str, values.shape[1:]))})")
        if end < len(table):
            axes.axhline(end, color=INK, linewidth=0.9)
    axes.set_yticks(middles, labels)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.spines[:].set_visible(True)
    axes.set(xlabel="layer", title=f"Parameters, {len(table)} in each layer")
    _scale(axes, image)


def draw_costates(solution: LearningSolution, axes: Axes) -> None:
    """Draw |p_i(t)| of the samples on a logarithmic axis, in their colours; a zero falls off it."""
    colouring = _colouring(solution.problem.dataset)
    times = solution.times
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(solution.costates[:, colouring.drawn], axis=2)
    curves = np.stack(np.broadcast_arrays(times[:, np.newaxis], norms), axis=2)
    axes.add_collection(_lines(colouring, curves), autolim=False)
    _set_logarithmic(axes, norms)
    axes.set(xlabel="t", ylabel="|p(t)|", xlim=times[[0, -1]])
    axes.set_title(f"Costates of {colouring}{'' if norms.any() else ': 0 throughout'}")


def flow_animation(
    solution: LearningSolution, path: str | os.PathLike[str], frames: int = 60
) -> None:
    """Save an animated GIF of the samples on their way, in the plane that `draw_flow` takes.

    Between layers, positions are interpolated linearly. With two states, the lines of a lattice in
    the space of inputs are carried along, which shows how the flow deforms it.

    Args:
        solution: what to draw.
        path: of the file, ending in .gif.
        frames: from t = 0 to t = T, at least 2; the last stands still for a while.

    Raises:
        ValueError: too few frames, another suffix, or as `save_figure`.
    """
    check_figure_path(path)
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"{str(path)!r} is an animation's path, expected one ending in .gif.")
    if frames < 2:
        raise ValueError(f"frames is {frames}, expected at least 2.")
    colouring = _colouring(solution.problem.dataset)
    times = solution.times
    with _styled():
        figure = Figure((6.4, 6.6), dpi=100, layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        positions = _plane(solution, colouring, axes)
        lattice = _lattice(solution)
        threads = LineCollection([], colors=FAINT, linewidth=0.6, alpha=0.7, zorder=1)
        trails = _lines(colouring, positions)
        for collection in (threads, trails):
            axes.add_collection(collection, autolim=False)
        heads = _scatter(axes, colouring, positions[0], colouring.drawn)
        _legend_below(figure, _handles(colouring), letters=70)
        title = axes.set_title(" ")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the first frame's layout holds for all
        canvas = FigureCanvasAgg(figure)
        images = []
        for time in np.linspace(times[0], times[-1], frames):
            past = int(np.clip(np.searchsorted(times, time), 1, len(times) - 1))
            theta = (time - times[past - 1]) / (times[past] - times[past - 1])
            now, woven = (
                (1 - theta) * moving[past - 1] + theta * moving[past]
                for moving in (positions, lattice)
            )
            trail = np.concatenate([positions[:past], now[np.newaxis]])
            trails.set_segments(list(trail.swapaxes(0, 1)))
            threads.set_segments(list(woven))
            for rows, head in heads:
                head.set_offsets(now[rows])
            title.set_text(f"Flow of {colouring}, t = {time:.2f} of {times[-1]:.4g}")
            canvas.draw()
            images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
        # One palette for all frames, or their colours would flicker; this method keeps white.
        palette = images[-1].quantize(method=Image.Quantize.FASTOCTREE)
        first, *others = (
            image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images
        )
        durations = [FRAME_TIME] * len(others) + [HOLD_TIME]
        with _replacing(path) as draft:
            first.save(draft, save_all=True, append_images=others, duration=durations, loop=0)


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
    with _styled():
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
        for j, name in enumerate(problem.state_names):
            panel(j, 0, name, values[..., j], (lower[j], upper[j]))
            panel(j, 1, f"costate of {name}", costates[..., j], (-np.inf, np.inf))
        lower, upper = (np.asarray(b, dtype=float) for b in problem.control_bounds)
        controls, row = solution.control(times), 0
        for j, name in enumerate(problem.control_names):
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
            panel(row, 2, _plain(constraint.name), curves, bounds)
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


# What a sample looks like in every panel.


@dataclass(frozen=True, eq=False)
class _Colouring:
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
        samples = _counted(len(self.codes), "sample")
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


def _colouring(dataset: Dataset) -> _Colouring:
    """Read the classes off the class columns; without any, colour by the first target.

    Class columns that are not the one-hot columns of one class count by the first alone.
    """
    columns = np.flatnonzero([bool(labels) for labels in dataset.classes])
    if not columns.size:
        values = dataset.targets[:, 0]
        low, high = values.min(), values.max()
        norm = Normalize(low, high) if low < high else Normalize(low - 0.5, high + 0.5)
        codes = np.zeros(len(values), dtype=np.intp)
        label = f"target {_plain(dataset.target_names[0])}"
        colours = VALUES(norm(values))
        return _Colouring((), np.empty(0), columns, codes, colours, _spread(values), norm, label)
    first, targets = dataset.classes[columns[0]], dataset.targets[:, columns]
    low = -1.0 if len(first) == 2 or targets.min() < 0 else 0.0
    if len(first) == 1 and len(columns) > 1 and ((targets > 0).sum(axis=1) == 1).all():
        names = tuple(dataset.classes[column][0] for column in columns)
        anchors, codes = np.where(np.eye(len(names)) == 1, 1.0, low), targets.argmax(axis=1)
    else:
        names = first if len(first) == 2 else (f"not {first[0]}", first[0])
        anchors, codes = np.array([[low], [1.0]]), (targets[:, 0] > 0).astype(np.intp)
        columns = columns[:1]
    colours = np.array([to_rgba(_colour(code)) for code in codes.tolist()])
    return _Colouring(names, anchors, columns, codes, colours, _spread(codes), Normalize())


def _spread(values: NDArray[Any]) -> Indices:
    """At most `MOST_TRAJECTORIES` indices, evenly spaced in the order of the values."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(order) - 1, min(len(order), MOST_TRAJECTORIES))
    return np.sort(order[places.round().astype(np.intp)])


def _colour(code: int) -> str:
    return COLOURS[code % len(COLOURS)]


def _marker(code: int) -> str:
    return MARKERS[code % len(MARKERS)]


def _tint(colours: Any, strength: float) -> Array:
    """Colours, RGBA along the last axis, made paler."""
    return 1 + strength * (np.asarray(colours, dtype=float) - 1)


MARKS = {"input": "white", "end state": INK}  # legend entries for hollow and filled markers


def _handles(colouring: _Colouring, marks: Mapping[str, str] | None = None) -> list[Line2D]:
    """Legend entries: the classes, then the marks."""
    looks = [
        (name, _colour(code), _colour(code), _marker(code))
        for code, name in enumerate(colouring.names[:MOST_LABELS])
    ]
    if len(colouring.names) > MOST_LABELS:
        looks.append((f"and {len(colouring.names) - MOST_LABELS} more", "none", "none", ""))
    looks += [(mark, face, INK, "o") for mark, face in (marks or {}).items()]
    return [
        Line2D([], [], ls="none", marker=marker, ms=6, mfc=face, mec=edge, label=_plain(label))
        for label, face, edge, marker in looks
    ]


def _legend_below(figure: Figure, handles: list[Line2D], letters: int) -> None:
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        rows = -(-len(handles) // max(letters // (longest + 6), 1))
        columns = -(-len(handles) // rows)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def _scale(axes: Axes, mappable: Any, label: str = "") -> None:
    bar = axes.figure.colorbar(mappable, ax=axes, pad=0.015, aspect=28, label=label)
    bar.outline.set_visible(False)


def _lines(colouring: _Colouring, curves: Array) -> LineCollection:
    """Thin lines in the colours of the drawn samples, from points (K+1, n, 2)."""
    width = float(np.clip(40 / len(colouring.drawn), 0.4, 1.0))
    colours = colouring.colours[colouring.drawn]
    return LineCollection(
        list(curves.swapaxes(0, 1)), colors=colours, linewidth=width, alpha=0.6, zorder=2
    )


def _scatter(
    axes: Axes,
    colouring: _Colouring,
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


# Where things are drawn.


def _plane(solution: LearningSolution, colouring: _Colouring, axes: Axes) -> Array:
    """Prepare the axes of a flow; positions (K+1, n, 2) of the drawn samples in them."""
    drawn = _finite(solution.states[:, colouring.drawn])
    width = drawn.shape[2]
    if width == 1:
        times = np.broadcast_to(solution.times[:, np.newaxis, np.newaxis], drawn.shape)
        drawn = np.concatenate([times, drawn], axis=2)
        axes.set(xlabel="t", ylabel="x(t)")
    elif width == 2:
        axes.set(xlabel="$x_1$", ylabel="$x_2$")
    else:
        mean, leading, shares = _principal_plane(solution.states)
        drawn = (drawn - mean) @ leading
        first, second = (
            f"principal component {rank} ({100 * share:.0f} % of the variance)"
            for rank, share in enumerate(shares, start=1)
        )
        axes.set(xlabel=first, ylabel=second)
    _set_limits(axes, drawn, is_shaded=width <= 2, is_plane=width > 1)
    if width <= 2:
        _shade(axes, colouring, lambda points: _readout(solution, points[:, -width:]))
    if not colouring.names:
        _scale(axes, ScalarMappable(colouring.norm, VALUES), colouring.label)
    return drawn


def _principal_plane(states: Array) -> tuple[Array, Array, Array]:
    """Mean (D,) of all states, two orthonormal columns (D, 2), their parts of the variance (2,)."""

    def layers() -> Iterator[Array]:  # one at a time, for all of them at once may be large
        return (layer[(np.abs(layer) < HUGE).all(axis=1)] for layer in states)

    mean = sum(layer.sum(axis=0) for layer in layers()) / max(sum(map(len, layers())), 1)
    scatter = np.asarray(sum((layer - mean).T @ (layer - mean) for layer in layers()))
    variances, directions = np.linalg.eigh(scatter)
    leading = directions[:, [-1, -2]]
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), [0, 1]])
    return mean, leading * signs, np.abs(variances[[-1, -2]]) / (np.trace(scatter) or 1.0)


def _lattice(solution: LearningSolution, lines: int = 15, points: int = 41) -> Array:
    """States (K+1, L, S, 2) of L lines of S inputs each; none unless D = 2."""
    inputs = solution.problem.dataset.inputs
    nodes, _, width = solution.states.shape
    if width != 2:
        return np.zeros((nodes, 0, 1, 2))
    if inputs.shape[1] == 1:
        mesh = np.linspace(*_interval(inputs), 4 * points)[np.newaxis, :, np.newaxis]
    else:
        across, upward = (_interval(column) for column in inputs.T)
        few = np.meshgrid(np.linspace(*across, lines), np.linspace(*upward, points))
        many = np.meshgrid(np.linspace(*across, points), np.linspace(*upward, lines))
        mesh = np.concatenate([np.stack(few, axis=2).swapaxes(0, 1), np.stack(many, axis=2)])
    with np.errstate(all="ignore"):
        states = solution.propagate(mesh.reshape(-1, inputs.shape[1]))
    return _finite(states).reshape(nodes, *mesh.shape[:2], 2)


def _finite(values: Array) -> Array:
    return np.where(np.abs(values) < HUGE, values, np.nan)


def _interval(values: Array, margin: float = 0.08) -> tuple[float, float]:
    """The range of the finite values, widened; never empty."""
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    space = margin * (high - low) or 0.5 * max(abs(low), 1.0)
    return low - space, high + space


def _set_limits(axes: Axes, points: Array, *, is_shaded: bool, is_plane: bool = True) -> None:
    """Show all points (..., 2), with equal scales in a plane unless that wastes the room."""
    if not is_shaded:
        flat = points.reshape(-1, 2)
        axes.update_datalim(flat[np.isfinite(flat).all(axis=1)])
        axes.set_aspect("equal", adjustable="datalim")
        return
    # Shading needs limits that stay, so the panel is made a square.
    (left, right) = _interval(points[..., 0], 0.08 if is_plane else 0.03)
    (low, high) = _interval(points[..., 1])
    if is_plane and 0.4 < (right - left) / (high - low) < 2.5:
        half = max(right - left, high - low) / 2
        left, right = (left + right) / 2 - half, (left + right) / 2 + half
        low, high = (low + high) / 2 - half, (low + high) / 2 + half
        axes.set_aspect("equal")
    axes.set(xlim=(left, right), ylim=(low, high))


def _set_logarithmic(axes: Axes, values: Array, headroom: float = 0.05) -> None:
    """A logarithmic y-axis over the positive values, 16 decades at most; linear without any."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        axes.set_ylim(0, 1)
        return
    top = np.log10(positive.max())
    bottom = max(np.log10(positive.min()), top - 16)
    slack = max(0.5 - (top - bottom), 0) / 2
    top, bottom = top + slack, bottom - slack
    axes.set_yscale("log", nonpositive="clip")
    if top - bottom < 2:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(10 ** (bottom - 0.05 * (top - bottom)), 10 ** (top + headroom * (top - bottom)))


def _shade(axes: Axes, colouring: _Colouring, outputs: Callable[[Array], Array]) -> None:
    """Shade the panel by the outputs, (P, 2) -> (P, M), at its points: by class, or by value."""
    across = np.linspace(*axes.get_xlim(), RESOLUTION)
    upward = np.linspace(*axes.get_ylim(), RESOLUTION)
    mesh = np.stack(np.meshgrid(across, upward), axis=2)
    values = outputs(mesh.reshape(-1, 2))
    if not colouring.names:
        assert colouring.norm.vmin is not None
        assert colouring.norm.vmax is not None
        axes.contourf(
            across,
            upward,
            np.clip(np.nan_to_num(values[:, 0]), -HUGE, HUGE).reshape(mesh.shape[:2]),
            np.linspace(colouring.norm.vmin, colouring.norm.vmax, 16),
            cmap=ListedColormap(_tint(VALUES.colors, 0.3)),
            norm=colouring.norm,
            extend="both",
            zorder=0,
        )
        return
    for code, margin in enumerate(colouring.margins(values).T):
        if margin.max() > 0:
            area = margin.reshape(mesh.shape[:2])
            tint = tuple(_tint(to_rgba(_colour(code)), 0.22))
            axes.contourf(across, upward, area, [0, margin.max()], colors=[tint], zorder=0)
            if margin.min() < 0:
                axes.contour(across, upward, area, [0], colors=FAINT, linewidths=0.6, zorder=1)


# Evaluation, words and files.


def _readout(solution: LearningSolution, states: Array) -> Array:
    with np.errstate(all="ignore"):
        return states @ solution.readout_weight.T + solution.readout_bias


def _outputs(solution: LearningSolution, points: Array) -> Array:
    """The network's outputs (P, M), some points at a time: all layers of all would be large."""
    nodes, _, width = solution.states.shape
    parts = -(-len(points) * nodes * width // 2_000_000)
    with np.errstate(all="ignore"):
        return np.concatenate([solution.outputs(some) for some in np.array_split(points, parts)])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _number(value: float | None) -> str:
    """Four digits, in powers of ten where that is shorter; what is not known is a question mark."""
    if value is None:
        return "?"
    mantissa, _, exponent = f"{value:.4g}".partition("e")
    factor = "" if mantissa == "1" else rf"{mantissa}\times "
    return f"${factor}10^{{{int(exponent)}}}$" if exponent else mantissa


def _symbol(name: str) -> str:
    """The letter of a formula for a parameter's name, such as w with index 1 for w1."""
    found = re.fullmatch(r"([A-Za-z])(\d*)", name)
    return f"${found[1]}_{{{found[2]}}}$" if found else _plain(name)


def _plain(text: str, most: int = 28) -> str:
    """A user's word as a label: short, no formula, and not hidden by a leading underscore."""
    text = " ".join(text.split())
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return (f" {text}" if text.startswith("_") else text).replace("$", r"\$")


@contextmanager
def _styled() -> Iterator[None]:
    """This file's look, whatever the user's settings, which return afterwards.

    A label may have letters that the font lacks; they become boxes, which needs no warning.
    """
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write beside the path, which takes the path's place once it is complete.

    Raises:
        ValueError: the system refused.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".turnpike-", dir=path.parent) as folder:
            draft = Path(folder, path.name)
            yield draft
            os.replace(draft, path)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"cannot write {str(path)!r}: {reason}; choose another folder or name."
        ) from None
