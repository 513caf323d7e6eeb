"""Certificates: how well a trajectory satisfies the conditions of a minimum.

Computed from the stages and the trajectory alone. With the states eliminated, a trajectory is a
point in the decisions (u^0, ..., u^{K-1}, p); at a minimum there are multipliers y of the active
rows and bounds, with the right signs, such that

    dJ/du + G^T y = 0                                         (first order)
    z^T (d^2 L/du^2) z >= 0   for all z with G z = 0          (second order)

where G is the derivative of the active rows. A soft row of weight w is a kink of the cost: away
from its bounds its multiplier is 0 or +-w, at a bound it may be anything in between. Whoever claims
a minimum may propose multipliers: that these satisfy the conditions is proved here, whatever their
origin. Where there is no proposal, or it does not hold, bounded least squares look for others.

No part of this raises an error or takes another part with it: what fails, or would take too many
operations for its size, has no value, and `untested` says why.

For an autonomous problem the Hamiltonian is constant along an optimum, up to the scheme's order:

    H_k = [l_k + (costate^k + costate^{k+1}) / 2 . (x^{k+1} - x^k)] / h_k

Source: Nocedal and Wright, Numerical Optimization, 2nd ed. (2006), sections 12.3 to 12.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import lsq_linear

from ocp.attempts import Attempts
from ocp.blas_threads import threads_for
from ocp.compression import compress
from ocp.condensing import (
    CALL_COLUMNS,
    Linearization,
    ReducedGradient,
    StageValues,
    adjoint,
    linearize,
    reduced_gradient,
    reduced_jacobian,
)
from ocp.diagnosis import Offender, component_sizes, not_finite, offenders
from ocp.eigenvalues import DENSE_LIMIT, smallest_by_inverse, smallest_eigenvalue
from ocp.full_space import GROWTH, adjoint_terms, growth, is_minimum
from ocp.full_space import stationarity as full_space_stationarity
from ocp.limits import Limits, limits_of, touches_limit
from ocp.matrix_free import ProductCurvature
from ocp.method import Method, Sizes
from ocp.multipliers import KKTMultipliers
from ocp.reduced_hessian import reduced_hessian
from ocp.riccati import RiccatiCurvature, is_positive_definite, is_separable
from ocp.stages import Array, StagedProblem
from ocp.timings import spent_on
from ocp.trajectory import Trajectory, decision_bounds

CURVATURE = 1e-9  # negative curvature below this share of the largest is rounding
PROPOSAL = 1e-10  # multipliers that leave at most this relative residual are not improved on
KINK_MARGIN = 1e-6  # of a multiplier's interval, within which it counts as at the end
MOST_OFFENDERS = 5  # named in a certificate
LEAST_SQUARES = 5_000_000_000  # operations for bounded multipliers, some seconds
SIZE_LIMIT = 6000  # largest reduced Hessian that is formed
LANCZOS_STEPS = 10  # of the recursion's time, for its solutions in Lanczos
STACKED_LIMIT = 1000  # largest stacked state of all members for the Riccati recursion
NOT_STATIONARY = "the point is not stationary, and the second order decides nothing there"
TOO_MANY = "there are too many controls"


@dataclass(frozen=True, eq=False)
class Certificate:
    """Residuals of the optimality conditions, dimensionless unless said otherwise.

    Args:
        stationarity: largest component of the Lagrangian's gradient in the decisions, relative to
            the largest sum of the absolute values of the terms that cancel in it, or to the
            size of the smallest eigenvalue below (a negative one capped by that of the cost) times
            the largest decision (at least 1) if that is larger: at a minimum it then bounds the
            relative error of the decisions to first order. Products of a
            multiplier and the distance to its limit count as well, relative likewise.
        dynamics: largest defect Phi_k(x^k) - x^{k+1}, relative to the largest value of that
            component of the state (at least 1).
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
        multipliers: of rows and bounds.
        worst: the most violated groups of constraints and defects, the largest first.
        untested: why a field has no value, or infinity for a residual, by the name of the field:
            an error in computing it, too many controls, or a point that is not stationary. Where
            multipliers failed, those are taken that were proposed, or 0.
    """

    stationarity: float
    dynamics: float
    constraints: float
    min_reduced_hessian_eigenvalue: float | None
    is_minimum: bool | None
    energy_drift: float | None
    directions: int
    costates: tuple[Array, ...]
    multipliers: KKTMultipliers
    worst: tuple[Offender, ...]
    untested: Mapping[str, str] = field(default_factory=dict)

    @property
    def can_be_tested(self) -> bool:
        """Whether the second order is tested here, or would be at a stationary point."""
        return self.is_minimum is not None or self.untested.get("is_minimum") == NOT_STATIONARY

    def is_stationary(self, tolerance: float) -> bool:
        """Whether all first-order residuals are within the tolerance."""
        residuals = (self.stationarity, self.dynamics, self.constraints)
        return all(residual <= tolerance for residual in residuals)


def certify(
    staged: StagedProblem,
    trajectory: Trajectory,
    proposal: KKTMultipliers | None = None,
    tolerance: float = np.inf,
) -> Certificate:
    """Test a trajectory against the conditions of the module's docstring.

    Args:
        staged: the problem.
        trajectory: states, controls and parameters.
        proposal: multipliers that are claimed to satisfy the conditions, such as an optimiser's.
        tolerance: where dynamics, constraints or stationarity are beyond it, the last whatever the
            smallest eigenvalue may be, the second order decides nothing, and is not tested if there
            are more than DENSE_LIMIT decisions.
    """
    with spent_on("certificate"), threads_for(staged.decision_size):
        return certify_linearized(linearize(staged, trajectory), proposal, tolerance)


def certify_linearized(
    linearization: Linearization,
    proposal: KKTMultipliers | None = None,
    tolerance: float = np.inf,
) -> Certificate:
    """The same for a trajectory along which the stages are linearised already."""
    with spent_on("certificate"):
        return _certificate(linearization, proposal, tolerance)


def _certificate(
    linearization: Linearization, proposal: KKTMultipliers | None, tolerance: float
) -> Certificate:
    culprit = not_finite(linearization)
    if culprit is not None:
        return _invalid(linearization, f"not a finite number: {culprit}")
    attempts, infinite = Attempts(), float("inf")
    found = attempts.compute("worst", lambda: offenders(linearization), None)
    dynamics = constraints = infinite
    if found is not None:
        dynamics = dynamics_residual(linearization, found)
        violations = [offender.size for offender in found if offender.kind != "defect"]
        constraints = max(violations, default=0.0)
    conditions = _Conditions(linearization, proposal, attempts)
    if attempts.compute("stationarity", lambda: conditions.first_order, None) is None:
        return _invalid(linearization, attempts.reasons["stationarity"])
    decides = linearization.staged.decision_size <= DENSE_LIMIT or (
        max(dynamics, constraints) <= tolerance
        and attempts.compute(
            "is_minimum", lambda: conditions.may_be_stationary(tolerance), otherwise=True
        )
    )
    conditions.test_second_order(decides)
    return Certificate(
        stationarity=attempts.compute("stationarity", lambda: conditions.stationarity, infinite),
        dynamics=dynamics,
        constraints=constraints,
        min_reduced_hessian_eigenvalue=conditions.curvature.eigenvalue,
        is_minimum=conditions.curvature.is_minimum,
        energy_drift=attempts.compute(
            "energy_drift", lambda: energy_drift(linearization, conditions.costates), None
        ),
        directions=conditions.curvature.directions,
        costates=conditions.costates,
        multipliers=conditions.multipliers,
        worst=tuple((found or [])[:MOST_OFFENDERS]),
        untested=attempts.reasons,
    )


def _invalid(linearization: Linearization, reason: str) -> Certificate:
    """Of a point at which there are no costates, such as one with values that are not finite."""
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
        multipliers=KKTMultipliers(
            tuple(np.full_like(values.rows, np.nan) for values in blocks),
            tuple(np.full_like(state, np.nan) for state in linearization.trajectory.states),
            np.full(staged.decision_size, np.nan),
        ),
        worst=(),
        untested={"stationarity": reason, "is_minimum": reason},
    )


def dynamics_residual(
    linearization: Linearization, found: Sequence[Offender] | None = None
) -> float:
    """Largest defect or residual of a stage's equations, relative to its component or 1.

    Args:
        linearization: stages along the trajectory.
        found: its `offenders`, if they are known.
    """
    found = offenders(linearization) if found is None else found
    residuals = [0.0, *(offender.size for offender in found if offender.kind == "defect")]
    with_equations = [k for k, v in enumerate(linearization.stages) if v.equations.size]
    sizes = component_sizes(linearization.trajectory.states) if with_equations else []
    for k in with_equations:
        equations = linearization.stages[k].equations
        # The local unknowns of a stage are copies of its state: stage values.
        repeats = -(-equations.shape[1] // sizes[k].size)
        residuals.append(float((np.abs(equations) / np.tile(sizes[k], repeats)).max()))
    return max(residuals)


def energy_drift(linearization: Linearization, costates: tuple[Array, ...]) -> float | None:
    """Variation of the Hamiltonian relative to the sizes of its terms; None if not conserved."""
    staged = linearization.staged
    sizes = {stage.state_size for stage in staged.stages}
    if not staged.is_autonomous or staged.times is None or len(sizes) > 1:
        return None
    states, motion = linearization.trajectory.states, np.empty(staged.intervals)
    together = max(CALL_COLUMNS // staged.members, 1)
    for start in range(0, staged.intervals, together):
        part = slice(start, start + together + 1)
        x, adjoints = np.stack(states[part]), np.stack(costates[part])
        means = (adjoints[:-1] + adjoints[1:]) / 2
        motion[start : start + together] = np.einsum("kij,kij->k", means, np.diff(x, axis=0))
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
    """Smallest eigenvalue on the free directions, what it means, and how many there are.

    Where the test says nothing, `reason` says why.
    """

    eigenvalue: float | None
    is_minimum: bool | None
    directions: int
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _FirstOrder:
    """Multipliers with what follows from them.

    Args:
        multipliers: of rows and bounds.
        costates: of all stages, by the adjoint recursion with these multipliers.
        gradient: of the Lagrangian in the decisions, bounds of the decisions left out.
        residual: largest component of the Lagrangian's gradient.
        complementarity: largest product of a multiplier and the distance to its limit.
    """

    multipliers: KKTMultipliers
    costates: tuple[Array, ...]
    gradient: ReducedGradient
    residual: float
    complementarity: float


class _Conditions:
    """The best multipliers at hand, and what is left of the gradient."""

    def __init__(
        self, linearization: Linearization, proposal: KKTMultipliers | None, attempts: Attempts
    ) -> None:
        self.attempts = attempts
        self.curvature = _Curvature(None, None, linearization.staged.decision_size)
        self.linearization = linearization
        self.staged = linearization.staged
        self.proposal = proposal
        self._blocks = (*linearization.stages, *linearization.shared)
        self._base = tuple(_settled_multipliers(values) for values in self._blocks)

    @cached_property
    def _base_gradient(self) -> ReducedGradient:
        """With no multipliers but those of clearly violated soft rows."""
        return reduced_gradient(self.linearization, self._base_costates, self._base)

    @cached_property
    def _base_costates(self) -> tuple[Array, ...]:
        """With the same multipliers."""
        return adjoint(self.linearization, self._base)

    @cached_property
    def is_unstable(self) -> bool:
        """Whether the states are to be kept, and there are costates to test."""
        proposed = self.proposal is not None and bool(self.proposal.costates)
        return proposed and growth(self.linearization) > GROWTH

    @cached_property
    def _cost_scale(self) -> float:
        """What a change of the decisions by their own size changes in the cost, to first order."""
        decisions = self.linearization.trajectory.decisions
        size = max(1.0, float(np.abs(decisions).max(initial=0.0)))
        return float(self._base_gradient.terms.max(initial=0.0)) * size

    @cached_property
    def _limits(self) -> tuple[list[Limits], list[Limits], Limits]:
        """Of the rows of every block, of the bounds of states, and of the decisions' bounds."""
        staged, trajectory = self.staged, self.linearization.trajectory
        proposal, scale = self.proposal, self._cost_scale
        rows, states = [], []
        for b, values in enumerate(self._blocks):
            bounds = values.bounds
            y = None if proposal is None else proposal.rows[b]
            rows.append(limits_of(values.rows, bounds.lower, bounds.upper, bounds.weight, y, scale))
        for k, stage in enumerate(staged.stages):
            y = None if proposal is None else proposal.state_bounds[k]
            state = trajectory.states[k]
            if k and stage.has_state_bounds:
                states.append(limits_of(state, *stage.state_bounds, np.inf, y, scale))
            else:
                states.append(Limits.none(state.shape))
        y = None if proposal is None else proposal.decision_bounds[None]
        bounds_of_decisions = decision_bounds(staged)
        return (
            rows,
            states,
            limits_of(trajectory.decisions[None], *bounds_of_decisions, np.inf, y, scale),
        )

    @cached_property
    def rows(self) -> _ActiveRows:
        """All active rows: of stages, state bounds, shared terms, then bounds of decisions."""
        staged, linearization = self.staged, self.linearization
        of_rows, of_states, of_decisions = self._limits
        if not any(limits.exist for limits in (*of_rows, *of_states, of_decisions)):
            return _ActiveRows(np.zeros((0, staged.decision_size)), np.zeros(0), np.zeros(0))
        seeds, lower, upper = [], [], []
        for k, values in enumerate(linearization.stages):
            i, r = np.nonzero(of_rows[k].is_active)
            members, components = np.nonzero(of_states[k].is_active)
            unit = np.zeros((members.size, values.function.unknowns))
            unit[np.arange(members.size), components] = 1.0
            derivative = np.vstack([values.row_jacobian[i, r], unit])
            seeds.append((np.concatenate([i, members]), derivative))
            lower += [of_rows[k].low[i, r], of_states[k].low[members, components]]
            upper += [of_rows[k].high[i, r], of_states[k].high[members, components]]
        parts = [reduced_jacobian(linearization, seeds)]
        for s, (term, values) in enumerate(zip(staged.shared, linearization.shared, strict=True)):
            limits = of_rows[len(staged.stages) + s]
            _, r = np.nonzero(limits.is_active)
            part = np.zeros((r.size, staged.decision_size))
            part[:, staged.shared_index(term)] = values.row_jacobian[0, r]
            parts.append(part)
            lower.append(limits.low[0, r])
            upper.append(limits.high[0, r])
        _, at_bound = np.nonzero(of_decisions.is_active)
        unit = np.zeros((at_bound.size, staged.decision_size))
        unit[np.arange(at_bound.size), at_bound] = 1.0
        parts.append(unit)
        lower.append(of_decisions.low[0, at_bound])
        upper.append(of_decisions.high[0, at_bound])
        return _ActiveRows(np.vstack(parts), np.concatenate(lower), np.concatenate(upper))

    def _gather(self, multipliers: KKTMultipliers) -> Array:
        """The active rows' multipliers, less what is settled, in the order of `rows`."""
        of_rows, of_states, of_decisions = self._limits
        rows = [y - base for y, base in zip(multipliers.rows, self._base, strict=True)]
        parts = []
        for k in range(len(self.staged.stages)):
            parts.append(rows[k][of_rows[k].is_active])
            parts.append(multipliers.state_bounds[k][of_states[k].is_active])
        for b in range(len(self.staged.stages), len(rows)):
            parts.append(rows[b][of_rows[b].is_active])
        parts.append(multipliers.decision_bounds[of_decisions.is_active[0]])
        return np.concatenate(parts)

    def _scatter(self, values: Array) -> KKTMultipliers:
        """The inverse of `_gather`, zero where nothing is active."""
        of_rows, of_states, of_decisions = self._limits
        position = 0

        def take(limits: Limits, target: Array) -> None:
            nonlocal position
            if not limits.exist:
                return
            count = int(limits.is_active.sum())
            target[limits.is_active] += values[position : position + count]
            position += count

        rows = [base.copy() for base in self._base]
        bounds = [np.zeros_like(x.low) if x.exist else x.low for x in of_states]
        decisions = np.zeros((1, self.staged.decision_size))
        for k in range(len(self.staged.stages)):
            take(of_rows[k], rows[k])
            take(of_states[k], bounds[k])
        for b in range(len(self.staged.stages), len(rows)):
            take(of_rows[b], rows[b])
        take(of_decisions, decisions)
        return KKTMultipliers(tuple(rows), tuple(bounds), decisions[0])

    def _follow(self, multipliers: KKTMultipliers) -> _FirstOrder:
        """What follows from multipliers."""
        linearization = self.linearization
        of_rows, of_states, of_decisions = self._limits
        if self.is_unstable:
            start = adjoint_terms(linearization, multipliers)[0][0]
            costates = (start, *multipliers.costates[1:])
            multipliers = replace(multipliers, costates=costates)
            gradient = reduced_gradient(linearization, costates, multipliers.rows)
        elif not any(limits.exist for limits in (*of_rows, *of_states)):
            costates, gradient = self._base_costates, self._base_gradient
        else:
            costates = adjoint(linearization, multipliers.rows, multipliers.state_bounds)
            gradient = reduced_gradient(linearization, costates, multipliers.rows)
        residual = np.abs(gradient.value + multipliers.decision_bounds).max(initial=0.0)
        products = [
            *map(Limits.complementarity, of_rows, multipliers.rows),
            *map(Limits.complementarity, of_states, multipliers.state_bounds),
            of_decisions.complementarity(multipliers.decision_bounds[None]),
        ]
        return _FirstOrder(multipliers, costates, gradient, float(residual), max(products))

    @property
    def _active_count(self) -> int:
        """How many rows are active, as many as `rows` has."""
        of_rows, of_states, of_decisions = self._limits
        everything = (*of_rows, *of_states, of_decisions)
        return sum(int(limits.is_active.sum()) for limits in everything if limits.exist)

    @cached_property
    def first_order(self) -> _FirstOrder:
        """The proposal if it holds, otherwise the better of it and least squares."""
        candidates = []
        if self.proposal is not None:
            of_rows, of_states, of_decisions = self._limits
            rows = tuple(map(Limits.clip, of_rows, self.proposal.rows))
            states = tuple(map(Limits.clip, of_states, self.proposal.state_bounds))
            decisions = of_decisions.clip(self.proposal.decision_bounds[None])[0]
            costates = self.proposal.costates
            proposed = KKTMultipliers(rows, states, decisions, costates)
            candidates.append(self._follow(proposed))
            if self.is_unstable or self._error(candidates[0]) <= PROPOSAL:
                return candidates[0]
        values = self.attempts.compute("multipliers", self._least_squares, None)
        if values is not None or not candidates:
            values = np.zeros(self._active_count) if values is None else values
            candidates.append(self._follow(self._scatter(values)))
        return min(candidates, key=self._error)

    def _error(self, found: _FirstOrder) -> float:
        """Residual and complementarity, relative to what cancels in the gradient."""
        scale = self._gradient_scale(found)
        if not np.isfinite(found.residual):
            return np.inf
        cost_scale = max(scale, self._cost_scale)
        if self.is_unstable:
            decisions = self.linearization.trajectory.decisions
            cost_scale = scale * max(1.0, float(np.abs(decisions).max(initial=0.0)))
        parts = ((found.residual, scale), (found.complementarity, cost_scale))
        return max(part / size if size > 0 else (np.inf if part else 0.0) for part, size in parts)

    def _gradient_scale(self, found: _FirstOrder) -> float:
        """Largest of the terms that cancel in the gradient; active rows are among them."""
        if self.is_unstable:
            return float(found.gradient.terms.max(initial=0.0))
        terms = np.maximum(found.gradient.terms, self._base_gradient.terms)
        return float(terms.max(initial=0.0))

    def _least_squares(self) -> Array:
        """Multipliers of `rows`, by bounded least squares."""
        rows, gradient = self.rows, self._base_gradient.value
        if not rows.lower.size:
            return np.zeros(0)
        values = np.asarray(np.linalg.lstsq(rows.jacobian.T, -gradient, rcond=None)[0], dtype=float)
        if ((values >= rows.lower) & (values <= rows.upper)).all():
            return values
        fixed = rows.upper <= rows.lower
        result = np.where(fixed, rows.lower, 0.0)
        free = ~fixed
        target = -gradient - rows.jacobian[fixed].T @ result[fixed]
        bounds, matrix = (rows.lower[free], rows.upper[free]), rows.jacobian[free].T
        # Each iteration is a least-squares problem of its own, and what it has come to is valid.
        most = LEAST_SQUARES // max(matrix.shape[0] * matrix.shape[1] ** 2, 1)
        most = int(np.clip(most, 1, max(matrix.shape[1], 1)))
        result[free] = lsq_linear(matrix, target, bounds, method="bvls", max_iter=most).x
        return result

    @property
    def multipliers(self) -> KKTMultipliers:
        """Of rows and bounds."""
        return self.first_order.multipliers

    @property
    def costates(self) -> tuple[Array, ...]:
        """By the adjoint recursion with these multipliers."""
        return self.first_order.costates

    @cached_property
    def stationarity(self) -> float:
        """Relative residual of the gradient of the Lagrangian, complementarity included."""
        found, decisions = self.first_order, self.linearization.trajectory.decisions
        if not np.isfinite(found.residual):
            return np.inf
        if self.is_unstable:
            return max(
                self._error(found), full_space_stationarity(self.linearization, found.multipliers)
            )
        scale = self._gradient_scale(found)
        eigenvalue = self.curvature.eigenvalue
        if eigenvalue is not None:
            # Where the cost falls without end, its curvature may be infinite and tells nothing.
            limit = np.inf if eigenvalue > 0 else max(1.0, abs(self.linearization.objective))
            curvature = min(abs(eigenvalue), limit)
            scale = max(scale, curvature * max(1.0, float(np.abs(decisions).max(initial=0.0))))
        cost_scale = max(scale, self._cost_scale)
        residual = found.residual / scale if scale > 0 else 0.0
        product = found.complementarity / cost_scale if cost_scale > 0 else 0.0
        return max(residual, product)

    def may_be_stationary(self, tolerance: float) -> bool:
        """Whether `stationarity` is within the tolerance for some value of the smallest eigenvalue.

        That is at most v^T H v for every unit vector v where nothing is active, so one product of
        the Hessian with the gradient spares the whole of it at a point that is not stationary.
        """
        found = self.first_order
        gradient = found.gradient.value
        if not np.isfinite(tolerance) or self.is_unstable or self._active_count:
            return True
        if self.staged.decision_size > SIZE_LIMIT:
            return True  # the Hessian is not formed there, so there is nothing to be spared
        if any(stage.function.local_size for stage in self.staged.stages):
            return True  # products are for stages without local unknowns
        decisions = self.linearization.trajectory.decisions
        size = max(1.0, float(np.abs(decisions).max(initial=0.0)))
        # A negative eigenvalue counts up to this in `stationarity`.
        limit = max(1.0, abs(self.linearization.objective))
        scale = max(self._gradient_scale(found), limit * size)
        if not found.residual > tolerance * scale:
            return True
        free = np.ones(self.staged.decision_size, dtype=bool)
        hessian = ProductCurvature(self.linearization, found.costates, found.multipliers.rows, free)
        direction = gradient / np.linalg.norm(gradient)
        largest = float(direction @ hessian.product(direction))
        return not found.residual > tolerance * max(scale, largest * size)

    def test_second_order(self, decides: bool) -> None:
        """Look at the curvature on the directions that the active rows leave free.

        Args:
            decides: whether the point may be a minimum; if not, the test is left out.
        """
        nothing = self.curvature
        if decides:
            found = self.attempts.compute("is_minimum", self._second_order, nothing)
        else:
            found = replace(nothing, reason=NOT_STATIONARY)
        if found.is_minimum is None and found.reason:
            self.attempts.reasons["is_minimum"] = found.reason
        self.curvature = found

    def _second_order(self) -> _Curvature:
        """The second-order test on the directions that the active rows leave free."""
        if self.is_unstable:
            return self._inertia()
        size = self.staged.decision_size
        rows, values = self.rows, self._gather(self.multipliers)
        # A row whose multiplier is at the end of its interval can be left to one side at no cost
        # to first order, so it holds no direction.
        spread = rows.upper - rows.lower
        sizes = np.abs(rows.jacobian).max(axis=1, initial=0.0)
        slack = self._gradient_scale(self.first_order) / np.where(sizes > 0, sizes, 1.0)
        margin = KINK_MARGIN * np.where(np.isfinite(spread), spread, slack)
        inner = (values >= rows.lower + margin) & (values <= rows.upper - margin)
        jacobian = rows.jacobian[inner]
        single = np.count_nonzero(jacobian, axis=1) == 1
        free = ~np.any(jacobian[single] != 0.0, axis=0)
        others = jacobian[~single][:, free]
        if not free.any():
            return _Curvature(None, True, 0)
        if size > DENSE_LIMIT and free.all() and not others.size:
            found = compress(self.linearization, self.costates, self.multipliers.rows)
            if found is not None:
                eigenvalue = found.smallest_eigenvalue()
                largest = float(np.abs(found.inner.matrix).max())
                return _Curvature(eigenvalue, eigenvalue >= -CURVATURE * largest, size)
        if size > SIZE_LIMIT or (
            size > DENSE_LIMIT and self._has_cheaper_pivots(free, len(others))
        ):
            return self._pivots(free, len(others))
        hessian = reduced_hessian(self.linearization, self.costates, self.multipliers.rows)
        if not np.isfinite(hessian).all():
            raise FloatingPointError("second derivatives are not finite")
        reduced = hessian if free.all() else hessian[np.ix_(free, free)]
        if others.size:
            basis = null_space(others)
            reduced = basis.T @ reduced @ basis
        if not reduced.size:
            return _Curvature(None, True, 0)
        eigenvalue = smallest_eigenvalue(reduced)
        is_minimum = eigenvalue >= -CURVATURE * float(np.abs(hessian).max())
        return _Curvature(eigenvalue, is_minimum, len(reduced))

    def _inertia(self) -> _Curvature:
        """Of the KKT matrix with the states kept."""
        of_rows, of_states, of_decisions = self._limits
        y, scale = self.multipliers, self._gradient_scale(self.first_order)
        rows = [
            limits.is_active
            & (np.isinf(limits.weight) & (limits.low == -limits.high) | (np.abs(part) > 0))
            for limits, part in zip(of_rows, y.rows, strict=True)
        ]
        states = [
            limits.is_active & (np.abs(part) > KINK_MARGIN * scale)
            for limits, part in zip(of_states, y.state_bounds, strict=True)
        ]
        decisions = of_decisions.is_active[0] & (np.abs(y.decision_bounds) > KINK_MARGIN * scale)
        found = is_minimum(self.linearization, y, rows, states, decisions)
        return _Curvature(None, found, int((~decisions).sum()), TOO_MANY)

    def _pivots(self, free: np.ndarray, other_rows: int) -> _Curvature:
        """By the Riccati recursion, where there are too many decisions for their Hessian."""
        stacked = self.staged.members * max(stage.state_size for stage in self.staged.stages)
        directions = int(free.sum()) - other_rows
        if other_rows or stacked > STACKED_LIMIT or not is_separable(self.linearization):
            return _Curvature(None, None, directions, TOO_MANY)
        y = self.multipliers.rows
        if not free.all() or free.size > SIZE_LIMIT:
            positive = is_positive_definite(self.linearization, self.costates, y, free)
            return _Curvature(None, positive, directions)
        stages = RiccatiCurvature(self.linearization, self.costates, y)
        inverse = stages.factorize(0.0)
        eigenvalue = smallest_by_inverse(inverse, free.size) if inverse is not None else None
        return _Curvature(eigenvalue, inverse is not None, directions)

    def _has_cheaper_pivots(self, free: np.ndarray, other_rows: int) -> bool:
        """Whether the recursion can do the test, in less time than the whole Hessian would take."""
        staged = self.staged
        if other_rows or not free.all() or not is_separable(self.linearization):
            return False
        sizes = Sizes.of(staged)
        stacked = sizes.members * sizes.state
        # Of a typical machine: what this one is capable of must not change a certificate.
        recursion = LANCZOS_STEPS * sizes.seconds(Method.RICCATI)
        return stacked <= STACKED_LIMIT and recursion < sizes.seconds(Method.CONDENSED)


def _settled_multipliers(values: StageValues) -> Array:
    """+-w where a soft row is clearly violated, 0 elsewhere."""
    bounds = values.bounds
    if not (bounds.weight.size and np.isfinite(bounds.weight).any()):
        return np.zeros_like(values.rows)
    result = np.where(np.isfinite(bounds.weight), np.sign(values.violation) * 1.0, 0.0)
    result = result * np.where(np.isfinite(bounds.weight), bounds.weight, 0.0)
    touching = touches_limit(values.rows, bounds.lower) | touches_limit(values.rows, bounds.upper)
    return np.where(touching, 0.0, result)
