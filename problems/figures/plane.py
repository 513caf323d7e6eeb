"""The planes in which samples move and are decided on, shaded by what the read-out says there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, to_rgba

from problems.figures.page import FAINT, HUGE, Array, finite, interval
from problems.figures.samples import VALUES, Colouring, colour_of, paler, scale

if TYPE_CHECKING:
    from problems.training import LearningSolution

RESOLUTION = 200  # points along each side of a shaded plane


def plane_of(solution: LearningSolution, colouring: Colouring, axes: Axes) -> Array:
    """Prepare the axes of a flow; positions (K+1, n, 2) of the drawn samples in them."""
    drawn = finite(solution.states[:, colouring.drawn])
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
    set_limits(axes, drawn, is_shaded=width <= 2, is_plane=width > 1)
    if width <= 2:
        shade(axes, colouring, lambda points: read(solution, points[:, -width:]))
    if not colouring.names:
        scale(axes, ScalarMappable(colouring.norm, VALUES), colouring.label)
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


def lattice_of(solution: LearningSolution, lines: int = 15, points: int = 41) -> Array:
    """States (K+1, L, S, 2) of L lines of S inputs each; none unless D = 2."""
    inputs = solution.problem.dataset.inputs
    nodes, _, width = solution.states.shape
    if width != 2:
        return np.zeros((nodes, 0, 1, 2))
    if inputs.shape[1] == 1:
        mesh = np.linspace(*interval(inputs), 4 * points)[np.newaxis, :, np.newaxis]
    else:
        across, upward = (interval(column) for column in inputs.T)
        few = np.meshgrid(np.linspace(*across, lines), np.linspace(*upward, points))
        many = np.meshgrid(np.linspace(*across, points), np.linspace(*upward, lines))
        mesh = np.concatenate([np.stack(few, axis=2).swapaxes(0, 1), np.stack(many, axis=2)])
    with np.errstate(all="ignore"):
        states = solution.propagate(mesh.reshape(-1, inputs.shape[1]))
    return finite(states).reshape(nodes, *mesh.shape[:2], 2)


def set_limits(axes: Axes, points: Array, *, is_shaded: bool, is_plane: bool = True) -> None:
    """Show all points (..., 2), with equal scales in a plane unless that wastes the room."""
    if not is_shaded:
        flat = points.reshape(-1, 2)
        axes.update_datalim(flat[np.isfinite(flat).all(axis=1)])
        axes.set_aspect("equal", adjustable="datalim")
        return
    # Shading needs limits that stay, so the panel is made a square.
    (left, right) = interval(points[..., 0], 0.08 if is_plane else 0.03)
    (low, high) = interval(points[..., 1])
    if is_plane and 0.4 < (right - left) / (high - low) < 2.5:
        half = max(right - left, high - low) / 2
        left, right = (left + right) / 2 - half, (left + right) / 2 + half
        low, high = (low + high) / 2 - half, (low + high) / 2 + half
        axes.set_aspect("equal")
    axes.set(xlim=(left, right), ylim=(low, high))


def shade(axes: Axes, colouring: Colouring, outputs: Callable[[Array], Array]) -> None:
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
            cmap=ListedColormap(paler(VALUES.colors, 0.3)),
            norm=colouring.norm,
            extend="both",
            zorder=0,
        )
        return
    for code, margin in enumerate(colouring.margins(values).T):
        if margin.max() > 0:
            area = margin.reshape(mesh.shape[:2])
            tint = tuple(paler(to_rgba(colour_of(code)), 0.22))
            axes.contourf(across, upward, area, [0, margin.max()], colors=[tint], zorder=0)
            if margin.min() < 0:
                axes.contour(across, upward, area, [0], colors=FAINT, linewidths=0.6, zorder=1)


def read(solution: LearningSolution, states: Array) -> Array:
    """Outputs (P, M) of states (P, D)."""
    with np.errstate(all="ignore"):
        return states @ solution.readout_weight.T + solution.readout_bias


def outputs_of(solution: LearningSolution, points: Array) -> Array:
    """The network's outputs (P, M), some points at a time: all layers of all would be large."""
    nodes, _, width = solution.states.shape
    parts = -(-len(points) * nodes * width // 2_000_000)
    with np.errstate(all="ignore"):
        return np.concatenate([solution.outputs(some) for some in np.array_split(points, parts)])
