"""Interpolation between grids: matrices Pi with (Pi z)(x'_j) for values z at the nodes x_l.

| transfer | exact on | error for a smooth z, spacing h | conserves | its adjoint |
|---|---|---|---|---|
| projection | affine functions | O(h^2) | the integral of the linear pieces | O(h^2) inside |
| linear | affine functions | O(h^2) | the integral, if the new grid contains the old | O(1) |
| nearest | constants | O(h) | the range of the values | O(1) |

Linear interpolation goes on linearly beyond the outermost nodes. The projection is that of L2: Pi z
is the piecewise linear function on the new nodes that is nearest to the one on the old nodes, so
that it never adds to the norm either.

The adjoint om^{-1} Pi^T om' is what carries costates, and with them optimal controls. Where it does
not reproduce a smooth function, because some old nodes count for more than others, the optimum
exploits that, and converges under refinement to something else than the optimum of the equation.
Only the projection has an adjoint like itself, on grids that include the ends (O(h) at those).

On index grids only `nearest` has a meaning: feature j stays feature j, those that have no place
any more are dropped, and new ones are 0.

On products of grids, Pi is the Kronecker product of those of the factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from problems.spatial_grid import Array, SpatialGrid

GAUSS_2 = 1 / np.sqrt(3)  # nodes +-1/sqrt 3 integrate cubics exactly on [-1, 1]


@dataclass(frozen=True)
class Transfer:
    """A way to interpolate; `matrix` takes two grids on one interval to Pi (d', d)."""

    name: str
    matrix: Callable[[SpatialGrid, SpatialGrid], Array]

    def __call__(self, source: SpatialGrid, target: SpatialGrid) -> Array:
        """Pi (d', d) from a grid to another.

        Raises:
            ValueError: grids on different domains, or nodes that this transfer cannot use.
        """
        if source.domain != target.domain:
            raise ValueError(
                f"grids on different domains, {list(source.domain)} and {list(target.domain)}, "
                "have no interpolation between them; use one domain for all layers."
            )
        if source.equals(target):
            return np.eye(source.size)
        if source.is_index:
            if self is not NEAREST:
                raise ValueError(
                    f"features without a grid have no {self.name} interpolation; use nearest, or "
                    "give the grid that the features are values on."
                )
            return np.eye(target.size, source.size)
        if self is NEAREST:
            return _nearest(source, target)
        if not (source.factors and target.factors):
            raise ValueError(
                f"scattered nodes have no {self.name} interpolation; use nearest, or a product "
                "of two grids."
            )
        matrices = [self.matrix(*pair) for pair in zip(source.factors, target.factors, strict=True)]
        return np.asarray(matrices[0] if len(matrices) == 1 else np.kron(*matrices))


def _interpolation(nodes: Array, points: Array) -> Array:
    """Piecewise linear interpolation (points, nodes), linear beyond the ends."""
    if nodes.size == 1:
        return np.ones((points.size, 1))
    left = np.clip(np.searchsorted(nodes, points, side="right") - 1, 0, nodes.size - 2)
    share = (points - nodes[left]) / (nodes[left + 1] - nodes[left])
    matrix = np.zeros((points.size, nodes.size))
    rows = np.arange(points.size)
    matrix[rows, left], matrix[rows, left + 1] = 1 - share, share
    return matrix


def _linear(source: SpatialGrid, target: SpatialGrid) -> Array:
    return _interpolation(source.nodes[:, 0], target.nodes[:, 0])


def _project(source: SpatialGrid, target: SpatialGrid) -> Array:
    old, new = source.nodes[:, 0], target.nodes[:, 0]
    breaks = np.unique(np.concatenate([source.domain[0], old[1:-1], new[1:-1]]))
    middle, half = (breaks[1:] + breaks[:-1]) / 2, np.diff(breaks) / 2
    points = np.concatenate([middle - GAUSS_2 * half, middle + GAUSS_2 * half])
    root = np.sqrt(np.tile(half, 2))[:, None]
    # Least squares on these points is the L2 projection: products of linear functions are exact.
    onto, of = root * _interpolation(new, points), root * _interpolation(old, points)
    return np.asarray(np.linalg.lstsq(onto, of, rcond=None)[0])


def _nearest(source: SpatialGrid, target: SpatialGrid) -> Array:
    distance = np.linalg.norm(target.nodes[:, None] - source.nodes[None], axis=2)
    return np.eye(source.size)[distance.argmin(axis=1)]


LINEAR = Transfer("linear", _linear)
PROJECTION = Transfer("projection", _project)
NEAREST = Transfer("nearest", _nearest)
TRANSFERS = {transfer.name: transfer for transfer in (LINEAR, PROJECTION, NEAREST)}
