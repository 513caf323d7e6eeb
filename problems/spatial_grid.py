"""Grids on a domain as data: nodes, and weights that integrate.

    Int_Omega f(x) dx  ~  Sum_j om_j f(x_j),      <f, g> ~ Sum_j om_j f(x_j) g(x_j)

Omega is an interval or a rectangle. The rules differ in how fast the sum converges for a smooth f
on n nodes:

    trapezoid        n^-2, ends included                 midpoint   n^-2, cell centres (pixels)
    gauss-legendre   faster than every power of n; exact for polynomials of degree 2 n - 1
    clenshaw-curtis  faster than every power of n; exact for degree n - 1, ends included

Features that are merely numbered, as columns of a table are, stand on an index grid: node j is the
number j, weights are 1, and the domain has no end. Lengths are in the caller's unit.

Sources: Trefethen, Is Gauss quadrature better than Clenshaw-Curtis?, SIAM Review 50 (2008), 67-87.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float]

UNIT: Interval = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class SpatialGrid:
    """Nodes and weights on an interval, a rectangle or, without an end, on an index.

    Args:
        nodes: (d, 1) or (d, 2); (d,) stands for one column.
        weights: om (d,), positive.
        domain: one interval per column; infinite for an index.
        factors: the grids on intervals whose product this one is; (self,) in one dimension, empty
            for scattered nodes.
        rule: what made it, in a word.

    Raises:
        ValueError: nodes that leave the domain, repeated nodes, values that are not finite, or
            weights that are not positive or not one per node.
    """

    nodes: Array
    weights: Array
    domain: tuple[Interval, ...] = (UNIT,)
    factors: tuple[SpatialGrid, ...] = ()
    rule: str = "given"

    def __post_init__(self) -> None:
        nodes = np.array(self.nodes, dtype=float)
        nodes = nodes[:, None] if nodes.ndim == 1 else nodes
        weights = np.array(self.weights, dtype=float)
        if nodes.ndim != 2 or not len(nodes) or nodes.shape[1] != len(self.domain):
            raise ValueError(
                f"nodes have shape {np.shape(self.nodes)}, expected (nodes, {len(self.domain)}) "
                "for this domain, at least one."
            )
        if not np.isfinite(nodes).all():
            raise ValueError("a node of the grid is not finite; give finite numbers.")
        for axis, (low, high) in enumerate(self.domain):
            if not low < high:
                raise ValueError(f"the domain [{low:g}, {high:g}] is empty; give low < high.")
            outside = np.flatnonzero((nodes[:, axis] < low) | (nodes[:, axis] > high))
            if outside.size:
                j = outside[0]
                raise ValueError(
                    f"node {j + 1} of the grid, {nodes[j, axis]:g}, leaves the domain "
                    f"[{low:g}, {high:g}]; move it inside, or enlarge the domain."
                )
        _, first, counts = np.unique(nodes, axis=0, return_index=True, return_counts=True)
        if (counts > 1).any():
            repeated = nodes[first[np.argmax(counts > 1)]]
            where = ", ".join(f"{x:g}" for x in repeated)
            raise ValueError(f"the grid has the node {where} twice; leave one of them out.")
        if weights.shape != (len(nodes),):
            raise ValueError(
                f"weights have shape {weights.shape}, expected ({len(nodes)},): one per node."
            )
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError(
                f"weights must be positive, got {float(np.min(weights)):g}; they are areas."
            )
        if nodes.shape[1] == 1 and (np.diff(nodes[:, 0]) < 0).any():
            raise ValueError("the nodes of a grid on an interval must increase; sort them.")
        nodes.setflags(write=False)
        weights.setflags(write=False)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "weights", weights)
        if nodes.shape[1] == 1:
            object.__setattr__(self, "factors", (self,))

    @property
    def size(self) -> int:
        """Number of nodes d."""
        return len(self.nodes)

    @property
    def dimension(self) -> int:
        """Of the domain, 1 or 2."""
        return len(self.domain)

    @property
    def is_index(self) -> bool:
        """Whether the nodes are mere numbers of features."""
        return not np.isfinite(self.domain).all()

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of nodes along each factor; (d,) for scattered nodes."""
        return tuple(factor.size for factor in self.factors) or (self.size,)

    def equals(self, other: SpatialGrid) -> bool:
        """Whether nodes, weights and domain are the same numbers."""
        return (
            self.domain == other.domain
            and np.array_equal(self.nodes, other.nodes)
            and np.array_equal(self.weights, other.weights)
        )

    def integral(self, values: ArrayLike) -> Array:
        """Sum_j om_j f(x_j) of values (..., d)."""
        return np.asarray(np.asarray(values, dtype=float) @ self.weights)

    def sample(self, function: Callable[..., ArrayLike]) -> Array:
        """Values (d,) of a function of x, or of (x, y), called with arrays.

        Raises:
            ValueError: the function returns another number of values.
        """
        values = np.asarray(function(*self.nodes.T), dtype=float)
        if values.shape not in ((), (self.size,)):
            raise ValueError(
                f"a function on the grid returned shape {values.shape}, expected ({self.size},): "
                "one value per node."
            )
        return np.broadcast_to(values, (self.size,)).copy()


def index_grid(size: int) -> SpatialGrid:
    """Features 1, ..., size, each of weight 1."""
    size = _count(size)
    return SpatialGrid(np.arange(1.0, size + 1), np.ones(size), ((-np.inf, np.inf),), rule="index")


def trapezoid(size: int, domain: Interval = UNIT) -> SpatialGrid:
    """Equidistant nodes, ends included; the middle for one node."""
    size = _count(size)
    if size == 1:
        return _named(midpoint(1, domain), "trapezoid")
    return _named(grid_on(np.linspace(*domain, size), domain), "trapezoid")


def midpoint(size: int, domain: Interval = UNIT) -> SpatialGrid:
    """Centres of equal cells, such as the pixels of an image."""
    size = _count(size)
    low, high = domain
    cell = (high - low) / size
    nodes = low + cell * (np.arange(float(size)) + 0.5)
    return SpatialGrid(nodes, np.full(size, cell), (domain,), rule="midpoint")


def gauss_legendre(size: int, domain: Interval = UNIT) -> SpatialGrid:
    """Zeros of the Legendre polynomial of degree `size`."""
    nodes, weights = np.polynomial.legendre.leggauss(_count(size))
    return _mapped(np.asarray(nodes), np.asarray(weights), domain, "gauss-legendre")


def clenshaw_curtis(size: int, domain: Interval = UNIT) -> SpatialGrid:
    """Extrema of a Chebyshev polynomial, ends included; the middle for one node."""
    size = _count(size)
    if size == 1:
        return _named(midpoint(1, domain), "clenshaw-curtis")
    # The weights integrate the Chebyshev polynomials T_0, ..., T_{n-1} exactly.
    angles = np.pi * np.arange(size) / (size - 1)
    degrees = np.arange(size)
    moments = np.where(degrees % 2 == 0, 2.0 / (1.0 - degrees.astype(float) ** 2 + degrees % 2), 0)
    weights = np.linalg.solve(np.cos(np.outer(degrees, angles)), moments)
    nodes = np.cos(angles)
    nodes[0], nodes[-1] = 1.0, -1.0
    return _mapped(nodes[::-1], weights[::-1], domain, "clenshaw-curtis")


def grid_on(nodes: ArrayLike, domain: Interval = UNIT) -> SpatialGrid:
    """Any increasing nodes, each weighted by the part of the domain that is nearest to it.

    With both ends among the nodes this is the trapezoid rule. Two nodes that nearly touch have
    little weight, and none if they are equal.
    """
    points = np.asarray(nodes, dtype=float).ravel()
    edges = np.concatenate([[domain[0]], (points[1:] + points[:-1]) / 2, [domain[1]]])
    # Whatever is wrong with the nodes is better said of them than of their weights.
    weights = np.maximum(np.nan_to_num(np.diff(edges)), np.finfo(float).tiny)
    return SpatialGrid(points, weights, (domain,))


def tensor_product(first: SpatialGrid, second: SpatialGrid) -> SpatialGrid:
    """All pairs of nodes, the second counting fastest, as the pixels of an image row by row.

    Raises:
        ValueError: a factor that is not on an interval.
    """
    for factor in (first, second):
        if factor.dimension != 1 or factor.is_index:
            raise ValueError("a tensor product is made of two grids on intervals.")
    nodes = np.column_stack(
        [np.repeat(first.nodes[:, 0], second.size), np.tile(second.nodes[:, 0], first.size)]
    )
    rule = first.rule if first.rule == second.rule else "given"
    weights = np.outer(first.weights, second.weights).ravel()
    return SpatialGrid(nodes, weights, (*first.domain, *second.domain), (first, second), rule)


RULES: dict[str, Callable[..., SpatialGrid]] = {
    "trapezoid": trapezoid,
    "midpoint": midpoint,
    "gauss-legendre": gauss_legendre,
    "clenshaw-curtis": clenshaw_curtis,
}


def square(rule: Callable[[int], SpatialGrid], size: int) -> SpatialGrid:
    """A rule's product with itself on the unit square, with `size` nodes in all.

    Raises:
        ValueError: `size` is no square number.
    """
    side = round(float(size) ** 0.5)
    if side**2 != size:
        raise ValueError(
            f"a grid on the square has a square number of nodes, got {size}; "
            f"take {max(side, 1) ** 2} or {(side + 1) ** 2}."
        )
    return tensor_product(rule(side), rule(side))


def sampled(samples: Sequence[Callable[..., ArrayLike]] | ArrayLike, grid: SpatialGrid) -> Array:
    """Samples (N, d) on a grid, from functions, or from arrays of values at its nodes.

    Args:
        samples: N functions of x, or of (x, y); or an array (N, d), or (N, rows, columns) of
            images on a product of two grids.
        grid: where.

    Raises:
        ValueError: arrays that do not have one value per node.
    """
    if isinstance(samples, Sequence) and all(callable(sample) for sample in samples):
        return np.array([grid.sample(sample) for sample in samples if callable(sample)])
    values = np.asarray(samples, dtype=float)
    if values.shape[1:] not in ((grid.size,), grid.shape):
        wanted = f"(samples, {grid.size})"
        if len(grid.shape) > 1:
            wanted += f" or (samples, {', '.join(map(str, grid.shape))})"
        raise ValueError(
            f"the samples are not on the grid: they have shape {values.shape}, expected {wanted}; "
            "sample them at its nodes, or give functions."
        )
    return values.reshape(len(values), grid.size)


def _count(size: int) -> int:
    if size < 1:
        raise ValueError(f"a grid needs at least one node, got {size}.")
    return size


def _mapped(nodes: Array, weights: Array, domain: Interval, rule: str) -> SpatialGrid:
    """From [-1, 1] to the domain."""
    low, high = domain
    half = (high - low) / 2
    # 1 + x is exact where x is an end, so that ends stay in the domain.
    there = np.where(nodes < 0, low + half * (1 + nodes), high - half * (1 - nodes))
    scaled = np.asarray(half * weights, dtype=float)
    return SpatialGrid(np.asarray(there, dtype=float), scaled, (domain,), rule=rule)


def _named(grid: SpatialGrid, rule: str) -> SpatialGrid:
    return SpatialGrid(grid.nodes, grid.weights, grid.domain, rule=rule)
