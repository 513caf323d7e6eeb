"""Certificates: how well a trajectory satisfies the conditions of a minimum.

Computed from the stages and the trajectory alone. With the states eliminated, a trajectory is a
point in the decisions (u^0, ..., u^{K-1}, p); at a minimum there are multipliers y of the active
rows and bounds, with the right signs, such that

    dJ/du + G^T y = 0                                         (first order)
    z^T (d^2 L/du^2) z >= 0   for all z with G z = 0          (second order)

where G is the derivative of the active rows. A soft row of weight w is a kink of the cost: away
from its bounds its multiplier is 0 or +-w, at a bound it may be anything in between. The
multipliers are found here by bounded least squares; nothing is taken from an optimiser.

For an autonomous problem the Hamiltonian is constant along an optimum, up to the scheme's order:

    H_k = [l_k + (costate^k + costate^{k+1}) / 2 . (x^{k+1} - x^k)] / h_k

Source: Nocedal and Wright, Numerical Optimization, 2nd ed. (2006), sections 12.3 to 12.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh, null_space
from scipy.optimize import lsq_linear
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ocp.condensing import (
    Linearization,
    Multipliers,
    ReducedGradient,
    StageValues,
    adjoint,
    linearize,
    reduced_gradient,
    reduced_hessian,
    reduced_jacobian,
)
from ocp.diagnosis import Offender, not_finite, offenders
from ocp.method import Machine, Method, Sizes
from ocp.riccati import RiccatiCurvature, is_positive_definite, is_separable
from ocp.stages import Array, StagedProblem
from ocp.trajectory import Trajectory, decision_bounds
from ocp.trust_region import Solver

ACTIVITY = 1e-6  # a row or bound this close to its limit, relative to its size, counts as active
CURVATURE = 1e-9  # negative curvature below this share of the largest is rounding
KINK_MARGIN = 1e-6  # of a multiplier's interval, within which it counts as at the end
MOST_OFFENDERS = 5  # named in a certificate
DENSE_LIMIT = 300  # up to this size all eigenvalues are computed, beyond it one by Lanczos
SIZE_LIMIT = 6000  # largest reduced Hessian that is formed
EIGENVALUE_ACCURACY = 1e-10  # relative, of Lanczos
LANCZOS_STEPS = 10  # of the recursion's time, for its solutions in Lanczos
STACKED_LIMIT = 1000  # largest stacked state of all members for the Riccati recursion


@dataclass(frozen=True, eq=False)
class Certificate:
    """Residuals of the optimality conditions, dimensionless unless said otherwise.

    Args:
        stationarity: largest component of the Lagrangian's gradient in the decisions, relative to
            the largest sum of the absolute values of the terms that cancel in it, or to the
            smallest eigenvalue below times the largest decision (at least 1) if that is larger:
            then it bounds the relative error of the decisions to first order.
        dynamics: largest defect Phi_k(x^k) - x^{k+1}, relative to the largest state (at least 1).
        constraints: largest violation of a hard row or a bound, relative to the bound (at least 1).
        min_reduced_hessian_eigenvalue: smallest eigenvalue of the Hessian of the Lagrangian in the
            decisions, on the null space of the active rows, in units of the cost per unit of
            control squared; None if no direction is left free, or there are too many.
        is_minimum: whether that Hessian has no negative eigenvalue beyond rounding, or, where it
            is too large to form, is positive definite by the Riccati recursion; None if neither
            could be tested.
        energy_drift: max - min of the Hamiltonian, relative to the largest sum of the absolute
            values of its two terms; None if it is not conserved.
        directions: number of free directions that the second-order test looked at.
        costates: of all stages, each (N, n_k).
        multipliers: of the rows of every stage (N, r_k), then of every shared term (1, r).
        worst: the most violated groups of constraints and defects, the largest first.
    """

    stationarity: float
    dynamics: float
    constraints: float
    min_reduced_hessian_eigenvalue: float | None
    is_minimum: bool | None
    energy_drift: float | None
    directions: int
    costates: tuple[Array, ...]
    multipliers: Multipliers
    worst: tuple[Offender, ...]

    def is_stationary(self, tolerance: float) -> bool:
        """Whether all first-order residuals are within the tolerance."""
        residuals = (self.stationarity, self.dynamics, self.constraints)
        return all(residual <= tolerance for residual in residuals)


def certify(staged: StagedProblem, trajectory: Trajectory) -> Certificate:
    """Test a trajectory against the conditions of the module's docstring."""
    linearization = linearize(staged, trajectory)
    if not_finite(linearization) is not None:
        return _invalid(linearization)
    conditions = _Conditions(linearization)
    curvature = conditions.curvature
    found = offenders(linearization)
    violations = [offender.size for offender in found if offender.kind != "defect"]
    return Certificate(
        stationarity=conditions.stationarity,
        dynamics=dynamics_residual(linearization),
        constraints=max(violations, default=0.0),
        min_reduced_hessian_eigenvalue=curvature.eigenvalue,
        is_minimum=curvature.is_minimum,
        energy_drift=energy_drift(linearization, conditions.costates),
        directions=curvature.directions,
        costates=conditions.costates,
        multipliers=conditions.multipliers,
        worst=tuple(found[:MOST_OFFENDERS]),
    )


def _invalid(linearization: Linearization) -> Certificate:
    """Of a point at which the model returns values that are not finite."""
    staged, infinite = linearization.staged, float("inf")
    blocks = (*linearization.stages, *linearization.shared)
    return Certificate(
        stationarity=infinite,
        dynamics=infinite,
        constraints=infinite,
        min_reduced_hessian_eigenvalue=None,
        is_minimum=None,
        energy_drift=None,
        directions=staged.decision_size,
        costates=tuple(np.full_like(state, np.nan) for state in linearization.trajectory.states),
        multipliers=tuple(np.full_like(values.rows, np.nan) for values in blocks),
        worst=(),
    )


def dynamics_residual(linearization: Linearization) -> float:
    """Largest defect or residual of a stage's equations, relative to the largest state or 1."""
    states = linearization.trajectory.states
    scale = max(1.0, max(float(np.abs(x).max(initial=0.0)) for x in states))
    defects = [
        float(np.abs(values.successor - states[k + 1]).max(initial=0.0))
        for k, values in enumerate(linearization.stages[:-1])
    ]
    equations = [float(np.abs(v.equations).max(initial=0.0)) for v in linearization.stages]
    return max(*defects, *equations) / scale


def energy_drift(linearization: Linearization, costates: tuple[Array, ...]) -> float | None:
    """Variation of the Hamiltonian relative to the sizes of its terms; None if not conserved."""
    staged = linearization.staged
    sizes = {stage.state_size for stage in staged.stages}
    if not staged.is_autonomous or staged.times is None or len(sizes) > 1:
        return None
    states = linearization.trajectory.states
    motion = np.array(
        [
            np.sum((costates[k] + costates[k + 1]) / 2 * (states[k + 1] - states[k]))
            for k in range(staged.intervals)
        ]
    )
    cost = np.array([v.cost.sum() + v.penalty for v in linearization.stages[:-1]])
    for term, values in zip(staged.shared, linearization.shared, strict=True):
        if len(term.stages) == 1:
            cost[term.stages[0]] += values.cost[0] + values.penalty
    steps = np.diff(staged.times)
    scale = float(((np.abs(cost) + np.abs(motion)) / steps).max())
    return float(np.ptp((cost + motion) / steps)) / scale if scale > 0 else 0.0


@dataclass(frozen=True, eq=False)
class _ActiveRows:
    """Rows at a limit: their derivatives and the intervals that their multipliers may lie in."""

    jacobian: Array  # (q, decisions)
    lower: Array
    upper: Array


@dataclass(frozen=True)
class _Curvature:
    """Smallest eigenvalue on the free directions, what it means, and how many there are."""

    eigenvalue: float | None
    is_minimum: bool | None
    directions: int


class _Conditions:
    """Multipliers of the active rows, and what is left of the gradient."""

    def __init__(self, linearization: Linearization) -> None:
        self.linearization = linearization
        self.staged = linearization.staged
        blocks = (*linearization.stages, *linearization.shared)
        self._active = [_active(values) for values in blocks]
        self._base = tuple(_settled_multipliers(values) for values in blocks)

    @cached_property
    def _state_bounds(self) -> list[tuple[np.ndarray, np.ndarray, Array, Array]]:
        """Of every stage: members, components and intervals of the states at a bound."""
        found = []
        for k, stage in enumerate(self.staged.stages):
            x = self.linearization.trajectory.states[k]
            lower, upper = (np.broadcast_to(b, x.shape) for b in stage.state_bounds)
            at_lower, at_upper = _touches(x, lower), _touches(x, upper)
            i, j = np.nonzero((at_lower | at_upper) & (k > 0))
            intervals = _intervals(at_lower[i, j], at_upper[i, j], np.inf)
            found.append((i, j, *intervals))
        return found

    @cached_property
    def rows(self) -> _ActiveRows:
        """All active rows: of stages, state bounds, shared terms, then bounds of decisions."""
        staged, linearization = self.staged, self.linearization
        seeds, lower, upper = [], [], []
        for k, values in enumerate(linearization.stages):
            i, r, low, high = self._active[k]
            members, components, state_low, state_high = self._state_bounds[k]
            unit = np.zeros((members.size, values.function.unknowns))
            unit[np.arange(members.size), components] = 1.0
            derivative = np.vstack([values.row_jacobian[i, r], unit])
            seeds.append((np.concatenate([i, members]), derivative))
            lower += [low, state_low]
            upper += [high, state_high]
        parts = [reduced_jacobian(linearization, seeds)]
        for s, (term, values) in enumerate(zip(staged.shared, linearization.shared, strict=True)):
            _, r, low, high = self._active[len(staged.stages) + s]
            part = np.zeros((r.size, staged.decision_size))
            part[:, staged.shared_index(term)] = values.row_jacobian[0, r]
            parts.append(part)
            lower.append(low)
            upper.append(high)
        decisions = linearization.trajectory.decisions
        bound_lower, bound_upper = decision_bounds(staged)
        at_lower, at_upper = _touches(decisions, bound_lower), _touches(decisions, bound_upper)
        at_bound = np.flatnonzero(at_lower | at_upper)
        low, high = _intervals(at_lower[at_bound], at_upper[at_bound], np.inf)
        unit = np.zeros((at_bound.size, staged.decision_size))
        unit[np.arange(at_bound.size), at_bound] = 1.0
        parts.append(unit)
        lower.append(low)
        upper.append(high)
        return _ActiveRows(np.vstack(parts), np.concatenate(lower), np.concatenate(upper))

    @cached_property
    def _row_values(self) -> Array:
        """Multipliers of `rows`, by bounded least squares."""
        rows = self.rows
        if not rows.lower.size:
            return np.zeros(0)
        costates = adjoint(self.linearization, self._base)
        gradient = reduced_gradient(self.linearization, costates, self._base).value
        values = np.asarray(np.linalg.lstsq(rows.jacobian.T, -gradient, rcond=None)[0], dtype=float)
        if ((values >= rows.lower) & (values <= rows.upper)).all():
            return values
        fixed = rows.upper <= rows.lower
        result = np.where(fixed, rows.lower, 0.0)
        free = ~fixed
        target = -gradient - rows.jacobian[fixed].T @ result[fixed]
        bounds = (rows.lower[free], rows.upper[free])
        result[free] = lsq_linear(rows.jacobian[free].T, target, bounds, method="bvls").x
        return result

    @cached_property
    def _distributed(self) -> tuple[Multipliers, list[Array], Array]:
        """Multipliers of rows, of state bounds, and of the decisions' bounds, in full shape."""
        staged, values, position = self.staged, self._row_values, 0
        multipliers = [base.copy() for base in self._base]
        bounds = [np.zeros((staged.members, stage.state_size)) for stage in staged.stages]
        for b in range(len(multipliers)):
            i, r, _, _ = self._active[b]
            multipliers[b][i, r] += values[position : position + i.size]
            position += i.size
            if b < len(staged.stages):
                members, components, _, _ = self._state_bounds[b]
                bounds[b][members, components] = values[position : position + members.size]
                position += members.size
        return tuple(multipliers), bounds, self.rows.jacobian[position:].T @ values[position:]

    @property
    def multipliers(self) -> Multipliers:
        """Of the rows of every stage and shared term."""
        return self._distributed[0]

    @cached_property
    def costates(self) -> tuple[Array, ...]:
        """By the adjoint recursion with these multipliers."""
        return adjoint(self.linearization, self.multipliers, self._distributed[1])

    @cached_property
    def _gradient(self) -> ReducedGradient:
        return reduced_gradient(self.linearization, self.costates, self.multipliers)

    @cached_property
    def _gradient_scale(self) -> float:
        """Largest of the terms that cancel in the gradient; active rows are among them."""
        base = reduced_gradient(
            self.linearization, adjoint(self.linearization, self._base), self._base
        )
        return float(np.maximum(self._gradient.terms, base.terms).max(initial=0.0))

    @cached_property
    def stationarity(self) -> float:
        """Relative residual of the gradient of the Lagrangian."""
        at_bounds = self._distributed[2]
        residual = float(np.abs(self._gradient.value + at_bounds).max(initial=0.0))
        scale = self._gradient_scale
        if not np.isfinite(residual):
            return np.inf
        eigenvalue = self.curvature.eigenvalue
        if eigenvalue is not None and eigenvalue > 0:
            decisions = self.linearization.trajectory.decisions
            scale = max(scale, eigenvalue * max(1.0, float(np.abs(decisions).max())))
        return residual / scale if scale > 0 else 0.0

    @cached_property
    def curvature(self) -> _Curvature:
        """The second-order test on the directions that the active rows leave free."""
        size = self.staged.decision_size
        rows, values = self.rows, self._row_values
        # A row whose multiplier is at the end of its interval can be left to one side at no cost
        # to first order, so it holds no direction.
        spread = rows.upper - rows.lower
        sizes = np.abs(rows.jacobian).max(axis=1, initial=0.0)
        slack = self._gradient_scale / np.where(sizes > 0, sizes, 1.0)
        margin = KINK_MARGIN * np.where(np.isfinite(spread), spread, slack)
        inner = (values >= rows.lower + margin) & (values <= rows.upper - margin)
        jacobian = rows.jacobian[inner]
        single = np.count_nonzero(jacobian, axis=1) == 1
        free = ~np.any(jacobian[single] != 0.0, axis=0)
        others = jacobian[~single][:, free]
        if not free.any():
            return _Curvature(None, True, 0)
        if size > SIZE_LIMIT or (
            size > DENSE_LIMIT and self._has_cheaper_pivots(free, len(others))
        ):
            return self._pivots(free, len(others))
        hessian = reduced_hessian(self.linearization, self.costates, self.multipliers)
        if not np.isfinite(hessian).all():
            return _Curvature(None, None, int(free.sum()))
        reduced = hessian[np.ix_(free, free)]
        if others.size:
            basis = null_space(others)
            reduced = basis.T @ reduced @ basis
        if not reduced.size:
            return _Curvature(None, True, 0)
        eigenvalue = smallest_eigenvalue(reduced)
        is_minimum = eigenvalue >= -CURVATURE * float(np.abs(hessian).max())
        return _Curvature(eigenvalue, is_minimum, len(reduced))

    def _pivots(self, free: np.ndarray, other_rows: int) -> _Curvature:
        """By the Riccati recursion, where there are too many decisions for their Hessian."""
        stacked = self.staged.members * max(stage.state_size for stage in self.staged.stages)
        directions = int(free.sum()) - other_rows
        if other_rows or stacked > STACKED_LIMIT or not is_separable(self.linearization):
            return _Curvature(None, None, directions)
        if not free.all() or free.size > SIZE_LIMIT:
            positive = is_positive_definite(
                self.linearization, self.costates, self.multipliers, free
            )
            return _Curvature(None, positive, directions)
        stages = RiccatiCurvature(self.linearization, self.costates, self.multipliers)
        inverse = stages.factorize(0.0)
        eigenvalue = smallest_by_inverse(inverse, free.size) if inverse is not None else None
        return _Curvature(eigenvalue, inverse is not None, directions)

    def _has_cheaper_pivots(self, free: np.ndarray, other_rows: int) -> bool:
        """Whether the recursion can do the test, in less time than the whole Hessian would take."""
        staged = self.staged
        if other_rows or not free.all() or not is_separable(self.linearization):
            return False
        sizes, machine = Sizes.of(staged), Machine.measured()
        stacked = sizes.members * sizes.state
        recursion = LANCZOS_STEPS * sizes.seconds(Method.RICCATI, machine)
        return stacked <= STACKED_LIMIT and recursion < sizes.seconds(Method.CONDENSED, machine)


def _touches(values: Array, limit: Array) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.isfinite(limit) & (np.abs(values - limit) <= ACTIVITY * (1.0 + np.abs(limit)))


def _intervals(at_lower: np.ndarray, at_upper: np.ndarray, weight: Array | float) -> tuple:
    """Multipliers are <= 0 at a lower limit, >= 0 at an upper one, at most `weight` in size."""
    low = np.where(at_lower, -np.asarray(weight), 0.0)
    high = np.where(at_upper, np.asarray(weight), 0.0)
    return low, high


def _active(values: StageValues) -> tuple[np.ndarray, np.ndarray, Array, Array]:
    """Members, rows and multiplier intervals of the rows at a limit."""
    bounds, rows = values.bounds, values.rows
    hard = np.isinf(bounds.weight)
    # A violated hard row is active too: its violation is reported apart.
    at_lower = _touches(rows, bounds.lower) | (hard & (rows < bounds.lower))
    at_upper = _touches(rows, bounds.upper) | (hard & (rows > bounds.upper))
    i, r = np.nonzero(at_lower | at_upper)
    return i, r, *_intervals(at_lower[i, r], at_upper[i, r], bounds.weight[r])


def _settled_multipliers(values: StageValues) -> Array:
    """+-w where a soft row is clearly violated, 0 elsewhere."""
    bounds = values.bounds
    result = np.where(np.isfinite(bounds.weight), np.sign(values.violation) * 1.0, 0.0)
    result = result * np.where(np.isfinite(bounds.weight), bounds.weight, 0.0)
    touching = _touches(values.rows, bounds.lower) | _touches(values.rows, bounds.upper)
    return np.where(touching, 0.0, result)


def smallest_eigenvalue(matrix: Array) -> float:
    """Smallest eigenvalue of a symmetric matrix.

    Beyond DENSE_LIMIT rows: Lanczos on the inverse if a Cholesky factorisation proves the matrix
    positive definite, Lanczos on the matrix itself otherwise.
    """
    size = len(matrix)
    if size <= DENSE_LIMIT:
        return float(eigh(matrix, eigvals_only=True, subset_by_index=[0, 0])[0])
    start = np.random.default_rng(0).standard_normal(size)
    try:
        factor = cho_factor(matrix, lower=True)
    except LinAlgError:
        try:
            return float(eigsh(matrix, k=1, which="SA", v0=start, return_eigenvectors=False)[0])
        except ArpackNoConvergence:  # a cluster at the end of the spectrum
            return float(eigh(matrix, eigvals_only=True, subset_by_index=[0, 0])[0])
    return smallest_by_inverse(lambda x: np.asarray(cho_solve(factor, x)), size)


def smallest_by_inverse(inverse: Solver, size: int) -> float:
    """Smallest eigenvalue of a positive definite matrix, by Lanczos on its inverse."""
    start = np.random.default_rng(0).standard_normal(size)
    operator = LinearOperator((size, size), matvec=inverse, dtype=float)
    return 1.0 / float(
        eigsh(operator, k=1, v0=start, tol=EIGENVALUE_ACCURACY, return_eigenvectors=False)[0]
    )
