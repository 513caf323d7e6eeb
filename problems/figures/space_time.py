"""Pictures of networks on grids: functions z(t, x), kernels w(t, x, xi), widths along depth.

A value at a node is drawn on the part of the domain nearest to it, so that every grid fills the
domain; the nodes are drawn over it, so that one sees the grid move. Features without a grid are
drawn at their numbers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator
from PIL import Image

from problems.figures.network import draw_errors
from problems.figures.page import (
    ALERT,
    FAINT,
    INK,
    Array,
    check_figure_path,
    counted,
    finite,
    number,
    plain,
    replacing,
    save_page,
    styled,
    symbol,
)
from problems.figures.samples import scale
from problems.figures.turnpike import draw_decay
from problems.spatial_grid import SpatialGrid

if TYPE_CHECKING:
    from problems.training import LearningSolution

MOST_SAMPLES, MOST_TIMES, MOST_KERNELS = 4, 6, 3  # on one page
MOST_NODES = 2000  # drawn over an image
FRAME_TIME, HOLD_TIME = 150, 1500  # of a frame, and of the last, in milliseconds
COLOURS = "RdBu_r"


def grid_page(solution: LearningSolution) -> Figure:
    """One page: states of a few samples, kernels of a few layers, errors, and widths along depth.

    On an interval, or for features without a grid, z(t, x) is one image per sample; on a rectangle,
    it is one image per sample and time.
    """
    problem, report = solution.problem, solution.report
    is_planar = problem.moving_grid is not None and problem.moving_grid.grids[0].dimension == 2
    status = report.get("status", "unknown")
    with styled():
        figure = Figure(figsize=(12.4, 8.2), layout="constrained", facecolor="white")
        rows = figure.add_gridspec(2, 1, height_ratios=(1.35 if is_planar else 1, 1), hspace=0.06)
        (_draw_images if is_planar else _draw_strips)(solution, figure, rows[0])
        chosen = _spread(problem.layers, MOST_KERNELS)
        shares = [*[1.0] * len(chosen), 1.5, 1.0]
        lower = rows[1].subgridspec(1, len(shares), width_ratios=shares, wspace=0.1)
        kernels = [_kernel(solution, k) for k in chosen]
        norm = _normed([values for _, values in kernels])  # one scale, or rounding looks like much
        for column, k in enumerate(chosen):
            draw_kernel(solution, k, figure.add_subplot(lower[0, column]), norm)
        has_turnpike = "turnpike" in report
        draw = draw_decay if has_turnpike else draw_errors
        draw(solution, figure.add_subplot(lower[0, -2]))
        draw_widths(solution, figure.add_subplot(lower[0, -1]))
        figure.suptitle(
            f"{plain(problem.dataset.name, 60)}: {counted(problem.samples, 'sample')}, "
            f"field {plain(problem.field.name)} with {plain(problem.activation.name)}, "
            f"widths {_ends(problem.widths)}, {counted(problem.layers, 'layer')}, "
            f"T = {number(problem.horizon)}\n"
            f"{plain(status)}:   J = {number(report.get('objective'))}     "
            f"E(x(T)) = {number(report.get('training_error'))}",
            color=INK if status == "solved" else ALERT,
            fontsize=11,
            linespacing=1.5,
        )
    return figure


def _ends(widths: tuple[int, ...]) -> str:
    """The widths where they change, few of them."""
    changes = [w for k, w in enumerate(widths) if k == 0 or w != widths[k - 1]]
    shown = [str(w) for w in changes]
    return ", ".join(shown if len(shown) <= 7 else [*shown[:3], "...", *shown[-3:]])


def _spread(count: int, most: int) -> list[int]:
    """At most so many of 0, ..., count - 1, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _grid(solution: LearningSolution, k: int) -> SpatialGrid:
    moving = solution.problem.moving_grid
    assert moving is not None
    return moving.grid(k)


def _edges(grid: SpatialGrid) -> Array:
    """Edges (d + 1,) of the cells nearest to the nodes; of width 1 around numbered features."""
    nodes = grid.nodes[:, 0]
    low, high = grid.domain[0]
    if grid.is_index:
        low, high = nodes[0] - 0.5, nodes[-1] + 0.5
    return np.concatenate([[low], (nodes[1:] + nodes[:-1]) / 2, [high]])


def _normed(values: list[Array]) -> Normalize:
    largest = max(float(np.nanmax(np.abs(finite(v)), initial=0.0)) for v in values)
    return Normalize(-(largest or 1.0), largest or 1.0)


def _label(solution: LearningSolution, sample: int) -> str:
    """What a sample is: its class, or its first target."""
    dataset = solution.problem.dataset
    row, labels = dataset.targets[sample], dataset.classes
    if len(labels) == 1 and len(labels[0]) == 2:
        return plain(labels[0][int(row[0] > 0)])
    if all(len(names) == 1 for names in labels):
        return plain(labels[int(row.argmax())][0])
    return f"target {number(row[0])}" + (", ..." if row.size > 1 else "")


def _chosen_samples(solution: LearningSolution) -> list[int]:
    """A few samples, one of each class or target first."""
    _, first = np.unique(solution.problem.dataset.targets, axis=0, return_index=True)
    order = [*first.tolist(), *(i for i in range(solution.problem.samples) if i not in first)]
    if len(first) > MOST_SAMPLES:
        order = [order[j] for j in _spread(len(first), MOST_SAMPLES)]
    return order[:MOST_SAMPLES]


def _draw_strips(solution: LearningSolution, figure: Figure, place: SubplotSpec) -> None:
    samples = _chosen_samples(solution)
    panels = place.subgridspec(1, len(samples), wspace=0.06)
    norm = _normed([state[samples] for state in solution.trajectory.states])
    drawn = []
    for column, sample in enumerate(samples):
        axes = figure.add_subplot(panels[0, column])
        draw_space_time(solution, sample, axes, norm)
        drawn.append(axes)
        if column:
            axes.set_ylabel("")
    _bar(figure, drawn)


def _bar(figure: Figure, panels: list[Axes]) -> None:
    """One bar of colours for several panels of the same scale."""
    bar = figure.colorbar(panels[0].collections[0], ax=panels, pad=0.01, aspect=28)
    bar.outline.set_visible(False)


def draw_space_time(
    solution: LearningSolution, sample: int, axes: Axes, norm: Normalize | None = None
) -> None:
    """Draw z(t, x) of a sample on an interval, x upwards, with the moving grid over it.

    The state z^k is drawn around t_k, half a layer to each side.
    """
    problem, states = solution.problem, solution.trajectory.states
    times = solution.times
    norm = norm or _normed([state[sample] for state in states])
    middles = np.concatenate([[times[0]], (times[1:] + times[:-1]) / 2, [times[-1]]])
    for k, state in enumerate(states):
        grid = _grid(solution, k)
        axes.pcolormesh(
            middles[k : k + 2],
            _edges(grid),
            finite(state[sample])[:, np.newaxis],
            cmap=COLOURS,
            norm=norm,
        )
    if sum(problem.widths) <= MOST_NODES:
        size = float(np.clip(60 / max(*problem.widths, len(states)), 1.0, 3.0))
        for k in range(len(states)):
            nodes = _grid(solution, k).nodes[:, 0]
            axes.plot(np.full(nodes.size, times[k]), nodes, ".", color=INK, ms=size, clip_on=False)
    is_index = _grid(solution, 0).is_index
    if is_index:
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(xlabel="t", ylabel="feature" if is_index else "x", xlim=times[[0, -1]])
    axes.set_title(f"z(t, x) of sample {sample + 1}: {_label(solution, sample)}")


def _draw_images(solution: LearningSolution, figure: Figure, place: SubplotSpec) -> None:
    samples = _chosen_samples(solution)[:3]
    times = _spread(solution.problem.layers + 1, MOST_TIMES)
    panels = place.subgridspec(len(samples), len(times), wspace=0.02, hspace=0.02)
    states = solution.trajectory.states
    norm = _normed([states[k][samples] for k in times])
    drawn = []
    for row, sample in enumerate(samples):
        for column, k in enumerate(times):
            axes = figure.add_subplot(panels[row, column])
            draw_image(_grid(solution, k), states[k][sample], axes, norm)
            if row == 0:
                axes.set_title(f"t = {number(solution.times[k])}, {_grid(solution, k).size} nodes")
            if column == 0:
                axes.set_ylabel(f"sample {sample + 1}\n{_label(solution, sample)}")
            drawn.append(axes)
    _bar(figure, drawn)


def draw_image(grid: SpatialGrid, values: Array, axes: Axes, norm: Normalize | None = None) -> None:
    """Draw a function on a rectangle, as an image lies: the first coordinate downwards.

    Values at scattered nodes are drawn as dots.
    """
    norm = norm or _normed([values])
    if grid.factors:
        down, across = grid.factors
        table = finite(values).reshape(grid.shape)
        axes.pcolormesh(_edges(across), _edges(down), table, cmap=COLOURS, norm=norm)
        if grid.size <= MOST_NODES:
            size = float(np.clip(20 / max(grid.shape), 0.8, 2.5))
            axes.plot(grid.nodes[:, 1], grid.nodes[:, 0], ".", color=FAINT, ms=size)
    else:
        axes.scatter(grid.nodes[:, 1], grid.nodes[:, 0], c=finite(values), cmap=COLOURS, norm=norm)
    (top, bottom), (left, right) = grid.domain
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.set_aspect("equal")
    axes.spines[:].set_visible(True)


def _kernel(solution: LearningSolution, k: int) -> tuple[str, Array]:
    """The first matrix among the controls of a layer; nothing where there is none."""
    kernels = solution.layer_weights[k]
    found = ((name, finite(part)) for name, part in kernels.items() if part.ndim == 2)
    return next(found, ("", np.zeros((0, 0))))


def draw_kernel(
    solution: LearningSolution, k: int, axes: Axes, norm: Normalize | None = None
) -> None:
    """Draw the kernel w(t_k, x, xi) of a layer, xi to the right and x upwards.

    On a rectangle, and for hidden features, the axes count nodes.
    """
    name, values = _kernel(solution, k)
    if not name:
        axes.set_axis_off()
        return
    field_axes = solution.problem.field.axes or {}
    edges, words = [], []
    for axis, kind in enumerate(field_axes.get(name, ("after", "before"))):
        grid = None if kind == "hidden" else _grid(solution, k + (kind == "after"))
        is_interval = grid is not None and grid.dimension == 1 and not grid.is_index
        if is_interval:
            assert grid is not None
            edges.append(_edges(grid))
        else:
            edges.append(np.arange(values.shape[axis] + 1) + 0.5)
        place = "hidden feature" if grid is None else "feature" if grid.is_index else "node"
        words.append(("x" if axis == 0 else r"$\xi$") if is_interval else place)
        if not is_interval:
            (axes.xaxis if axis else axes.yaxis).set_major_locator(MaxNLocator(6, integer=True))
    image = axes.pcolormesh(
        edges[1], edges[0], values, cmap=COLOURS, norm=norm or _normed([values])
    )
    axes.set(xlabel=words[1], ylabel=words[0])
    shape = " x ".join(map(str, values.shape))
    axes.set_title(f"{symbol(name)} at t = {number(solution.times[k])} ({shape})")
    scale(axes, image)


def draw_widths(solution: LearningSolution, axes: Axes) -> None:
    """Draw the number of nodes of every state along depth."""
    widths = solution.problem.widths
    layers = np.arange(len(widths))
    axes.bar(layers, widths, width=0.8, color=FAINT)
    for k, width in enumerate(widths):
        if len(widths) <= 12 or k in (0, len(widths) - 1):
            axes.annotate(str(width), (k, width), ha="center", va="bottom", fontsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set(xlabel="layer", title="Widths along depth", ylim=(0, 1.1 * max(widths)))


def save_reconstructions(
    solution: LearningSolution, path: str | os.PathLike[str], columns: int = 8
) -> None:
    """Draw images, their codes in the narrowest layer, and what becomes of them at the end.

    Args:
        solution: of a network whose first and last grids are the same, on a rectangle.
        path: of the figure.
        columns: how many samples.

    Raises:
        ValueError: as `check_figure_path`.
    """
    check_figure_path(path, still=True)
    problem, states = solution.problem, solution.trajectory.states
    narrowest = int(np.argmin(problem.widths))
    shown = [(0, "image"), (narrowest, "code"), (problem.layers, "reconstruction")]
    samples = _spread(problem.samples, columns)

    def page() -> Figure:
        figure = Figure((1.15 * len(samples), 3.9), layout="constrained", facecolor="white")
        panels = figure.subplots(len(shown), len(samples), squeeze=False)
        for row, (k, word) in enumerate(shown):
            norm = _normed([states[k]] if k == narrowest else [states[0]])
            for axes, sample in zip(panels[row], samples, strict=True):
                draw_image(_grid(solution, k), states[k][sample], axes, norm)
            panels[row, 0].set_ylabel(f"{word}\n{counted(problem.widths[k], 'node')}")
        error = number(float(solution.errors[-1]))
        figure.suptitle(f"widths {_ends(problem.widths)}: E = {error}", fontsize=10)
        return figure

    save_page(page, Path(path))


def grid_animation(solution: LearningSolution, path: str | os.PathLike[str]) -> None:
    """Save an animated GIF of a few samples' states, layer by layer.

    Raises:
        ValueError: the system refused to write.
    """
    samples = _chosen_samples(solution)
    states = solution.trajectory.states
    norm = _normed([state[samples] for state in states])
    is_planar = _grid(solution, 0).dimension == 2
    frames = []
    with styled():
        for k, state in enumerate(states):
            figure = Figure((8.4, 2.9), dpi=100, layout="constrained", facecolor="white")
            panels = figure.subplots(1, len(samples), squeeze=False)[0]
            for axes, sample in zip(panels, samples, strict=True):
                if is_planar:
                    draw_image(_grid(solution, k), state[sample], axes, norm)
                else:
                    _draw_curve(_grid(solution, k), solution, state[sample], axes, norm)
                axes.set_title(_label(solution, sample))
            time = f"t = {solution.times[k]:.2f} of {number(solution.times[-1])}"
            figure.suptitle(f"{time}, {counted(len(state[0]), 'node')}", fontsize=10)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    # One palette for all frames, or their colours would flicker.
    sheet = Image.fromarray(np.vstack([np.asarray(frame) for frame in frames]))
    palette = sheet.quantize(method=Image.Quantize.FASTOCTREE)
    first, *others = (f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    durations = [FRAME_TIME] * len(others) + [HOLD_TIME]
    with replacing(Path(path)) as draft:
        first.save(draft, save_all=True, append_images=others, duration=durations, loop=0)


def _draw_curve(
    grid: SpatialGrid, solution: LearningSolution, values: Array, axes: Axes, norm: Normalize
) -> None:
    """A function on an interval, or features, as a curve through the nodes."""
    nodes = grid.nodes[:, 0]
    axes.plot(nodes, finite(values), color=INK, lw=1.2, marker="o", ms=3)
    low, high = grid.domain[0]
    if grid.is_index:
        low, high = 0.5, max(solution.problem.widths) + 0.5
    assert norm.vmax is not None
    axes.set(xlim=(low, high), ylim=(-1.05 * norm.vmax, 1.05 * norm.vmax))
    axes.axhline(0, color=FAINT, lw=0.6)
    axes.set_xlabel("feature" if grid.is_index else "x")
