"""The trust-region step: the minimiser of a quadratic model within a ball.

    minimise g . s + s . H s / 2   subject to   |s| <= radius

The solution satisfies (H + shift I) s = -g with shift >= 0, H + shift I positive semidefinite, and
shift (radius - |s|) = 0. The shift is found by Newton's method on 1/|s| = 1/radius, each step
one Cholesky factorisation; at the edge of definiteness (the hard case) the direction of least
curvature fills the step up.

Source: Moré and Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983), 553-572.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from ocp.stages import Array

WITHIN = 0.1  # of the radius: a step this close to the boundary is on it
HARD = 1e-3  # relative gap between a shift that is too small and one whose step is too short
MOST_SHIFTS = 30  # factorisations in one step
DENSE_EIGENVECTOR = 600  # up to this size from all eigenvectors, beyond it by Lanczos
LANCZOS_ACCURACY = 1e-4  # relative; any direction of clearly negative curvature will do

Solver = Callable[[Array], Array]


class Model(Protocol):
    """A symmetric matrix H that a step in a trust region can be found for."""

    def step(self, gradient: Array, radius: float, convex_only: bool) -> Step | None:
        """Minimiser of the model; None if only a convex one is wanted and it is not."""

    def inverse(self) -> Solver | None:
        """Product with the inverse, if H is positive definite and that costs few gradients."""

    def is_positive(self) -> bool:
        """Whether H is positive definite, as far as that can be told."""

    def product(self, vector: Array) -> Array:
        """H times a vector."""


class Curvature(Protocol):
    """A symmetric matrix H, in whatever form it can be factorised and multiplied."""

    @property
    def bound(self) -> float:
        """At least the largest eigenvalue in size."""

    @property
    def least_diagonal(self) -> float:
        """Smallest diagonal entry, or an upper bound of the smallest eigenvalue."""

    def factorize(self, shift: float) -> Solver | None:
        """Right-hand side -> solution of (H + shift I) s = b; None unless positive definite."""

    def product(self, vector: Array) -> Array:
        """H times a vector."""

    def least_curvature(self) -> Array:
        """Unit vector of about the smallest curvature."""


@dataclass(frozen=True, eq=False)
class DenseCurvature:
    """A matrix of numbers."""

    matrix: Array

    @property
    def bound(self) -> float:
        """The largest sum of absolute values in a row."""
        return float(np.abs(self.matrix).sum(axis=1).max(initial=0.0))

    @property
    def least_diagonal(self) -> float:
        """The smallest diagonal entry."""
        return float(np.diag(self.matrix).min(initial=np.inf))

    def factorize(self, shift: float) -> Solver | None:
        """By Cholesky."""
        shifted = np.array(self.matrix, order="F")
        shifted[np.diag_indices_from(shifted)] += shift
        try:
            factor = cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        return lambda b: np.asarray(cho_solve(factor, b, check_finite=False))

    def step(self, gradient: Array, radius: float, convex_only: bool) -> Step | None:
        """By factorisations."""
        return trust_region_step(self, gradient, radius, convex_only)

    def inverse(self) -> Solver | None:
        """By Cholesky."""
        return self.factorize(0.0)

    def is_positive(self) -> bool:
        """By Cholesky."""
        return self.factorize(0.0) is not None

    def product(self, vector: Array) -> Array:
        """H times a vector."""
        return np.asarray(self.matrix @ vector)

    def least_curvature(self) -> Array:
        """By all eigenvectors, or by Lanczos if there are many."""
        if len(self.matrix) > DENSE_EIGENVECTOR:
            return lanczos(self.product, len(self.matrix))
        return np.asarray(eigh(self.matrix, subset_by_index=[0, 0])[1][:, 0], dtype=float)


def lanczos(product: Solver, size: int) -> Array:
    """Unit vector of about the smallest curvature of a matrix known by its products.

    The best vector so far is taken where a cluster of eigenvalues keeps Lanczos from converging.
    """
    operator = LinearOperator((size, size), matvec=product, dtype=float)
    start = np.random.default_rng(0).standard_normal(size)
    try:
        vectors = eigsh(operator, k=1, which="SA", v0=start, tol=LANCZOS_ACCURACY)[1]
    except ArpackNoConvergence as partial:
        vectors = partial.eigenvectors
    except ArpackError:
        # The products vanish: no direction is curved, so that any will do.
        vectors = np.zeros((size, 0))
    found = np.asarray(vectors[:, 0] if vectors.size else start, dtype=float)
    return found / float(np.linalg.norm(found))


@dataclass(frozen=True, eq=False)
class Step:
    """A step and what the model expects of it.

    Args:
        step: s.
        reduction: -(g . s + s . H s / 2) >= 0.
        shift: of the Hessian; 0 inside the ball.
        is_convex: whether the Hessian itself was seen to be positive definite.
    """

    step: Array
    reduction: float
    shift: float
    is_convex: bool


def trust_region_step(
    curvature: Curvature, gradient: Array, radius: float, convex_only: bool = False
) -> Step | None:
    """The step of the module's docstring; None if only a convex model is wanted and it is not."""
    solver = curvature.factorize(0.0)
    count, is_convex = 1, solver is not None
    if solver is None and convex_only:
        return None
    low, high = 0.0, np.inf
    inner: Array | None = None  # the longest step found inside the ball
    indefinite = -np.inf  # the largest shift found too small
    shift = 0.0
    if solver is None:
        bound = curvature.bound
        low = max(0.0, -curvature.least_diagonal)
        high = float(np.linalg.norm(gradient)) / radius + bound
        shift = max(1.001 * low, 1e-3 * high)
    while count < MOST_SHIFTS:
        if solver is None and shift > 0.0:
            solver = curvature.factorize(shift)
            count += 1
        if solver is None:
            low = indefinite = shift
            shift = max(np.sqrt(low * high), low + 1e-2 * (high - low))
        else:
            step = -solver(gradient)
            length = float(np.linalg.norm(step))
            inside = shift == 0.0 and length <= (1 + WITHIN) * radius
            if inside or abs(length - radius) <= WITHIN * radius:
                # By (H + shift I) s = -g.
                reduction = 0.5 * (shift * length**2 - float(gradient @ step))
                return Step(step, reduction, shift, is_convex)
            slope = float(step @ solver(step))
            change = length**2 / slope * (length - radius) / radius if slope > 0 else -shift
            if length < radius:
                high, inner = shift, step
            else:
                low = shift
            shift = shift + change
            if not low < shift < high:
                top = high if np.isfinite(high) else 10.0 * (low + curvature.bound)
                shift = max(np.sqrt(low * top), low + 1e-2 * (top - low))
            solver = None
        if inner is not None and high - indefinite <= HARD * high:
            break
    step = _fill(curvature, gradient, np.zeros_like(gradient) if inner is None else inner, radius)
    return Step(step, _reduction(curvature, gradient, step), shift, is_convex)


def to_boundary(step: Array, direction: Array, radius: float) -> float:
    """The t >= 0 with |step + t direction| = radius."""
    a, b = float(direction @ direction), float(step @ direction)
    c = float(step @ step) - radius**2
    return float((-b + np.sqrt(max(b * b - a * c, 0.0))) / a)


def _reduction(curvature: Curvature, gradient: Array, step: Array) -> float:
    return -float(gradient @ step + 0.5 * (step @ curvature.product(step)))


def _fill(curvature: Curvature, gradient: Array, step: Array, radius: float) -> Array:
    """The step prolonged to the boundary along the direction of least curvature."""
    direction = curvature.least_curvature()
    along, rest = float(step @ direction), radius**2 - float(step @ step)
    root = np.sqrt(max(along**2 + rest, 0.0))
    ends = (step + (root - along) * direction, step - (root + along) * direction)
    return max(ends, key=lambda end: _reduction(curvature, gradient, end))
