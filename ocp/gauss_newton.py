"""Newton's method far from a minimum, where the cost of the members is one of their last state.

With G_i G_i^T the positive part of the second derivative of member i's cost in (x_i^K, p), and J
the derivatives of all G_i^T (x_i^K, p) in the decisions, the Hessian is close to

    M = R + J^T J,        R the (diagonal) Hessian of the shared terms,

of low rank but for R where members are few. What M leaves out is the curvature of the dynamics
times the costates; conjugate gradients preconditioned by M see it in a few products of the
Hessian, each a difference of two gradients, cut off at the boundary of a trust region.

When the weight of R is small the cost is a narrow curved valley: along it the controls shrink, and
across it the members' last states stand still. A straight step s leaves it by the curvature

    e_i = G_i^T [(x_i^K, p)(u + s) - (x_i^K, p)(u)] - (J s)_i,

and -M^{-1} J^T e leads back at the price of one sweep forwards, so that steps along the valley may
be many times as long.

Source: Steihaug, SIAM J. Numer. Anal. 20 (1983), 626-637 (conjugate gradients in a trust region);
Conn, Gould and Toint, Trust-Region Methods (2000), section 15.3.2.3 (second-order corrections).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor
from scipy.linalg.lapack import dpotrs

from ocp.reduced import Reduced
from ocp.stages import Array
from ocp.trust_region import to_boundary

DIFFERENCE = 1e-6  # length of the difference of two gradients, relative to the point
MOST_PRODUCTS = 30  # of the Hessian, in one step
LEAST_FORCING = 0.1  # residual, relative to the gradient in the norm of M^{-1}, to stop at
CORRECTIONS = 2  # of one step
GOOD = 0.9  # ratio of actual to expected reduction that needs no correction
ACCEPT, SHRINK, EXPAND = 1e-4, 0.25, 0.75  # ratios
NARROWED, WIDENED = 0.25, 2.0  # radius after a poor and after a good step
SMALLEST_RADIUS = 1e-10  # relative to the point
LEAST_RANK = 1e-14  # of a member's second derivatives, relative to the largest
MOST_ENTRIES = 10_000_000  # of J
MOST_GRADIENTS = 10.0  # whose operations M may cost to form


@dataclass(frozen=True, eq=False)
class GaussNewtonMatrix:
    """The matrix M at a point.

    Args:
        jacobian: J^T, (decisions, q).
        weights: diagonal of R, (decisions,).
        factor: of I + J R^{-1} J^T, or of M where that is smaller.
    """

    jacobian: Array
    weights: Array
    factor: tuple

    @classmethod
    def of(cls, jacobian: Array, weights: Array) -> GaussNewtonMatrix:
        """With its factor.

        Raises:
            LinAlgError: values that are not finite.
        """
        decisions, rows = jacobian.shape
        if rows < decisions:
            matrix = jacobian.T @ (jacobian / weights[:, None])
            matrix[np.diag_indices(rows)] += 1.0
        else:
            matrix = jacobian @ jacobian.T
            matrix[np.diag_indices(decisions)] += weights
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        return cls(jacobian, weights, factor)

    def solve(self, vector: Array) -> Array:
        """M^{-1} times a vector, by the Woodbury identity where members are few."""
        (decisions, rows), (factor, lower) = self.jacobian.shape, self.factor
        if rows >= decisions:
            return np.asarray(dpotrs(factor, vector, lower)[0])
        scaled = vector / self.weights
        inner = dpotrs(factor, self.jacobian.T @ scaled, lower)[0]
        return np.asarray(scaled - (self.jacobian @ inner) / self.weights)


@dataclass(frozen=True, eq=False)
class _Point:
    """A point, the last states (n, N) that it leads to, and the cost."""

    decisions: Array
    ends: Array
    cost: float


@dataclass(frozen=True, eq=False)
class _Expansion:
    """A point with what a step from it needs.

    Args:
        point: the point, and where it leads.
        factors: G, (a, c, N), of those a components of (x^K, p) that the members' cost depends on.
        model: M.
        gradient: of the cost.
        relative: its largest component, in units of the terms that cancel in it.
    """

    point: _Point
    factors: Array
    model: GaussNewtonMatrix
    gradient: Array
    relative: float


@dataclass(frozen=True, eq=False)
class _Steps:
    """The path of conjugate gradients: points s and H s, from zero on.

    Args:
        points, images: s and H s.
        is_complete: whether the last one is a step of Newton's method, not of the boundary.
    """

    points: list[Array]
    images: list[Array]
    is_complete: bool

    def within(self, radius: float) -> tuple[Array, Array, bool]:
        """Where the path leaves the ball, or its end; and whether it leaves it."""
        for k in range(1, len(self.points)):
            if np.linalg.norm(self.points[k]) > radius:
                step = self.points[k] - self.points[k - 1]
                share = to_boundary(self.points[k - 1], step, radius)
                image = self.images[k] - self.images[k - 1]
                return (
                    self.points[k - 1] + share * step,
                    self.images[k - 1] + share * image,
                    True,
                )
        return self.points[-1], self.images[-1], not self.is_complete


class GaussNewton:
    """A descent that can be left and taken up again, one accepted step an iteration.

    Args:
        reduced: the problem.
        point: where to start.

    Raises:
        LinAlgError: at a point, derivatives that are not finite; also of every other method that
            goes to one.
    """

    def __init__(self, reduced: Reduced, point: Array) -> None:
        self.reduced = reduced
        self.iterations = self.evaluations = 0
        last = reduced.staged.stages[-1]
        self._components = np.unique(np.concatenate(last.function.patterns[2]))
        self._here = self._expand(self._at(point))
        self._radius = max(1.0, float(np.linalg.norm(point)))

    @staticmethod
    def suits(reduced: Reduced) -> bool:
        """Whether the problem has the form of the module's docstring, and M costs little."""
        staged = reduced.staged
        if any(stage.function.patterns[1].size for stage in staged.stages[:-1]):
            return False
        if not reduced.shared.are_separable:
            return False
        rank = np.unique(np.concatenate(staged.stages[-1].function.patterns[2])).size
        if not rank or (rank + 1) * staged.members * reduced.size > MOST_ENTRIES:
            return False
        if (reduced.shared.curvature(np.zeros(reduced.size)) <= 0.0).any():
            return False
        small, large = sorted((rank * staged.members, reduced.size))
        gradient = sum(
            16.0 * staged.members * (s.state_size + 1) * (s.state_size + s.control_size)
            for s in staged.stages
        )
        return 2.0 * small**2 * large <= MOST_GRADIENTS * gradient

    @property
    def point(self) -> Array:
        """Where it stands."""
        return self._here.point.decisions

    @property
    def cost(self) -> float:
        """Of the point."""
        return self._here.point.cost

    @property
    def gradient(self) -> Array:
        """Of the cost."""
        return self._here.gradient

    @property
    def relative(self) -> float:
        """Largest component of the gradient, in units of the terms that cancel in it."""
        return self._here.relative

    def metric(self) -> Callable[[Array], Array]:
        """Product with M^{-1} at the point."""
        return self._here.model.solve

    def moved(self, point: Array) -> None:
        """Go on from another point."""
        self._here = self._expand(self._at(point))

    def iterate(self) -> bool:
        """One step; False if none lowers the cost any more."""
        self.iterations += 1
        here, steps = self._here, self._conjugate_gradients()
        least = SMALLEST_RADIUS * max(1.0, float(np.linalg.norm(self.point)))
        while self._radius > least:
            step, image, at_boundary = steps.within(self._radius)
            length = float(np.linalg.norm(step))
            expected = -float(here.gradient @ step + 0.5 * (step @ image))
            point, ratio = self._corrected(step, expected)
            if ratio < SHRINK:
                self._radius = NARROWED * length
            elif ratio > EXPAND and at_boundary:
                self._radius = max(self._radius, WIDENED * length)
            if ratio > ACCEPT:
                self._here = self._expand(point)
                return True
        return False

    def _corrected(self, step: Array, expected: float) -> tuple[_Point, float]:
        """The best point that a step with its corrections leads to; actual / expected reduction."""
        here = self._here
        best, ratio = None, -np.inf
        before = self._unknowns(here.point)[self._components]
        for count in range(CORRECTIONS + 1):
            point = self._at(here.point.decisions + step)
            found = (here.point.cost - point.cost) / expected if expected > 0 else -np.inf
            self.evaluations += 1
            improved = best is None or found > ratio
            if improved:
                best, ratio = point, found
            if count == CORRECTIONS or ratio > GOOD or not improved:
                break
            change = self._unknowns(point)[self._components] - before
            bent = (here.factors * change[:, None]).sum(axis=0).ravel()
            bent -= here.model.jacobian.T @ step
            if not np.isfinite(bent).all():
                break
            step = step - here.model.solve(here.model.jacobian @ bent)
        assert best is not None
        return best, ratio if np.isfinite(ratio) else -np.inf

    def _at(self, decisions: Array) -> _Point:
        return _Point(decisions, *self.reduced.ends(decisions))

    def _unknowns(self, point: _Point) -> Array:
        """(x^K, p) of every member, (n + p, N)."""
        parameters = point.decisions[self.reduced.staged.parameter_slice]
        repeated = np.repeat(parameters[:, None], point.ends.shape[1], axis=1)
        return np.vstack([point.ends, repeated])

    def _expand(self, point: _Point) -> _Expansion:
        """Gradient and M at a point, from one sweep backwards."""
        self.evaluations += 1
        staged, decisions = self.reduced.staged, point.decisions
        last, members = staged.stages[-1], staged.members
        v = self._unknowns(point)
        g = staged.given(staged.intervals)
        slopes = last.function.derivatives(v, g)[1].T
        factors = self._factors(v, g)
        seeds = np.zeros((len(v), factors.shape[1] + 1, members))
        seeds[self._components, :-1] = factors
        seeds[:, -1] = slopes
        pulled = self.reduced.pull_back(decisions, seeds)
        gradient = pulled[:, -1].sum(axis=1) + self.reduced.shared.cost_and_gradient(decisions)[1]
        jacobian = pulled[:, :-1].reshape(len(gradient), -1)
        return _Expansion(
            point,
            factors,
            GaussNewtonMatrix.of(jacobian, self.reduced.shared.curvature(decisions)),
            gradient,
            float(np.abs(gradient).max()) / self.reduced.gradient_scale(decisions, gradient),
        )

    def _factors(self, v: Array, g: Array) -> Array:
        """G of every member, (a, c, N)."""
        function = self.reduced.staged.stages[-1].function
        full = function.hessians(v, g, np.zeros((function.row_count, v.shape[1])))
        second = full[:, self._components[:, None], self._components]
        if len(self._components) == 1:
            return np.sqrt(np.maximum(second, 0.0)).transpose(1, 2, 0)
        values, vectors = np.linalg.eigh(second)
        values = np.maximum(values, 0.0)
        counts = values.max(axis=0, initial=0.0) > LEAST_RANK * values.max(initial=0.0)
        factors = vectors * np.sqrt(values)[:, None]
        return np.ascontiguousarray(factors[:, :, counts].transpose(1, 2, 0))

    def _product(self, vector: Array) -> Array:
        """The Hessian times a vector, by a difference of gradients."""
        here, size = self._here, max(1.0, float(np.linalg.norm(self.point)))
        length = DIFFERENCE * size / float(np.linalg.norm(vector))
        self.evaluations += 1
        moved = self.reduced.cost_and_gradient(self.point + length * vector)[1]
        return np.asarray((moved - here.gradient) / length)

    def _conjugate_gradients(self) -> _Steps:
        """The path, beyond the radius only by its last segment."""
        here, model = self._here, self._here.model
        step, image = np.zeros_like(here.gradient), np.zeros_like(here.gradient)
        residual = here.gradient.copy()
        solved = model.solve(residual)
        direction, square = -solved, float(residual @ solved)
        goal = min(LEAST_FORCING**2, here.relative) * square
        points, images = [step], [image]
        for _ in range(MOST_PRODUCTS):
            product = self._product(direction)
            curvature = float(direction @ product)
            is_convex = curvature > 0.0
            length = square / curvature if is_convex else np.inf
            if not is_convex or np.linalg.norm(step + length * direction) > self._radius:
                length = 2.0 * to_boundary(step, direction, self._radius)
                points.append(step + length * direction)
                images.append(image + length * product)
                return _Steps(points, images, False)
            step, image = step + length * direction, image + length * product
            points.append(step)
            images.append(image)
            residual = residual + length * product
            solved = model.solve(residual)
            before, square = square, float(residual @ solved)
            if square <= goal:
                break
            direction = square / before * direction - solved
        return _Steps(points, images, True)
