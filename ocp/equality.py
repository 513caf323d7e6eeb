"""Minimise with the states eliminated and equations at the end: sequential quadratic programming.

    minimise f(w)   subject to   c(w) = 0,      w = (u^0, ..., u^{K-1}, p)

With G = dc/dw, H the Hessian of f + y . c and the columns of Z a basis of the null space of G, a
step in a trust region is composed of a normal part, which lowers |c + G s|, and of a tangential
part Z t, which minimises the quadratic model. The merit function is f + penalty |c|; a
step that it refuses is tried once more with the curvature of c corrected.

Source: Byrd and Omojokun; Nocedal and Wright, Numerical Optimization, 2nd ed. (2006), section 18.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr

from ocp.condensing import (
    Linearization,
    Multipliers,
    adjoint,
    linearize,
    reduced_gradient,
    reduced_jacobian,
)
from ocp.diagnosis import not_finite
from ocp.interrupt import interruptible
from ocp.newton import Effort, Limits, Stop, Watch
from ocp.nlp import NLPResult, Progress, Status
from ocp.reduced import Reduced
from ocp.reduced_hessian import reduced_hessian
from ocp.stages import Array, StagedProblem
from ocp.trajectory import rollout
from ocp.trust_region import DenseCurvature, trust_region_step

NORMAL_SHARE = 0.8  # of the trust region, for the normal part
PENALTY_SHARE = 0.3  # of the expected reduction that must come from the violation
PRICE = 1.2  # of the violation, in units of the multipliers: above 1 the merit is exact
ACCEPT, SHRINK, EXPAND = 1e-6, 0.25, 0.75  # ratios of actual to expected reduction
FEASIBLE = 1e-10  # violation, relative to the bound (at least 1)
STUCK = 1e-9  # gradient of |c| / 2, relative to its factors: no step lowers a violation any more
RANK = 1e-13  # of the Jacobian, relative to its largest pivot
ROUNDING = 1e-14  # of the merit, relative
SMALLEST_RADIUS = 1e-14  # relative to the decisions


@dataclass(frozen=True, eq=False)
class _Point:
    """The problem linearised at a point, with least-squares multipliers."""

    decisions: Array
    linearization: Linearization
    cost: float
    violation: Array  # c
    gradient: Array
    jacobian: Array  # G
    normal: Array  # minimum-norm solution of G s = -c
    basis: Array  # Z
    multipliers: Multipliers
    costates: tuple[Array, ...]
    residual: float  # of the Lagrangian's gradient, relative to its terms


def minimize_with_equations(
    staged: StagedProblem,
    start: Array,
    limits: Limits = Limits(),
    progress: Progress | None = None,
) -> NLPResult:
    """Minimise from `start`; arguments and result as for `ocp.newton.minimize`.

    Args:
        staged: a problem whose only rows are equations of the last stage, without bounds.
        start: decisions (u^0, ..., u^{K-1}, p).
        limits: tolerance, iterations and time.
        progress: called with every iteration.
    """
    with interruptible() as request:
        watch = Watch(limits, progress, Effort(), request)
        at_start = linearize(staged, rollout(staged, start))
        if not_finite(at_start) is not None:
            return watch.result(start, Status.INVALID_NUMBER)
        run = _Run(at_start, watch)
        try:
            status = run.solve(limits.tolerance)
        except Stop as stop:
            status = stop.status
    return watch.result(run.here.decisions, status)


class _Run:
    def __init__(self, at_start: Linearization, watch: Watch) -> None:
        self.staged, self.watch = at_start.staged, watch
        self.reduced = Reduced(self.staged)
        rows = self.staged.stages[-1].rows
        self.target, self.size = rows.lower, np.maximum(1.0, np.abs(rows.lower))
        self.penalty = 1.0
        self.here = self._point(at_start)

    def solve(self, tolerance: float) -> Status:
        """Steps until the conditions of a minimum hold; why it ended."""
        radius = max(1.0, float(np.linalg.norm(self.here.decisions)))
        self.watch.check(self.here.cost, self._largest(self.here.violation))
        while True:
            here = self.here
            feasible = self._largest(here.violation) <= FEASIBLE
            hessian = reduced_hessian(here.linearization, here.costates, here.multipliers)
            curvature = DenseCurvature(here.basis.T @ hessian @ here.basis)
            if feasible and here.residual <= tolerance:
                is_convex = not here.basis.shape[1] or curvature.factorize(0.0) is not None
                if is_convex:
                    return Status.SOLVED
            if not feasible and self._is_stuck(here):
                return Status.INFEASIBLE
            normal, tangential = self._step(here, hessian, curvature, radius)
            step = normal + tangential
            self.watch.effort.newton_steps += 1
            expected = self._expected(here, hessian, step)
            noise = ROUNDING * (abs(here.cost) + self.penalty * float(np.abs(here.violation).sum()))
            actual, point = self._actual(here, step)
            if actual < SHRINK * expected:
                # The violation at the new point is of second order in the step: take it back.
                violation = self._violation(point)
                if np.isfinite(violation).all():
                    correction = _least_norm(here.jacobian, violation)
                    other, corrected = self._actual(here, step + correction)
                    if other > actual:
                        actual, point = other, corrected
            length = float(np.linalg.norm(step))
            ratio = (actual + noise) / (expected + noise)
            if ratio > ACCEPT:
                trajectory = self.reduced.trajectory(point)
                self.here = self._point(linearize(self.staged, trajectory))
            self.watch.check(self.here.cost, self._largest(self.here.violation))
            if ratio < SHRINK:
                radius = SHRINK * length
            elif ratio > EXPAND:
                radius = max(radius, 2.0 * length)
            if radius <= SMALLEST_RADIUS * (1.0 + float(np.linalg.norm(here.decisions))):
                return Status.INACCURATE if feasible else Status.INFEASIBLE

    def _largest(self, violation: Array) -> float:
        """Largest violation, relative to the bound (at least 1)."""
        return float((np.abs(violation.reshape(-1, self.size.size)) / self.size).max(initial=0.0))

    @staticmethod
    def _is_stuck(here: _Point) -> bool:
        slope = float(np.linalg.norm(here.jacobian.T @ here.violation))
        factors = np.linalg.norm(here.jacobian) * np.linalg.norm(here.violation)
        return slope <= STUCK * float(factors)

    def _step(
        self, here: _Point, hessian: Array, curvature: DenseCurvature, radius: float
    ) -> tuple[Array, Array]:
        length = float(np.linalg.norm(here.normal))
        normal = here.normal * min(1.0, NORMAL_SHARE * radius / length if length > 0 else 1.0)
        if not here.basis.shape[1]:
            return normal, np.zeros_like(normal)
        room = float(np.sqrt(max(radius**2 - float(normal @ normal), 0.0)))
        slope = here.basis.T @ (here.gradient + hessian @ normal)
        found = trust_region_step(curvature, slope, room)
        assert found is not None
        return normal, here.basis @ found.step

    def _expected(self, here: _Point, hessian: Array, step: Array) -> float:
        """Reduction of the merit by the model, the penalty being raised so that it is positive."""
        left = float(np.linalg.norm(here.violation + here.jacobian @ step))
        gain = float(np.linalg.norm(here.violation)) - left
        model = float(here.gradient @ step + 0.5 * (step @ (hessian @ step)))
        price = PRICE * float(np.linalg.norm(here.multipliers[self.staged.intervals]))
        needed = 0.0
        if gain > ROUNDING * float(np.linalg.norm(self.target) + 1.0):
            needed = model / ((1.0 - PENALTY_SHARE) * gain)
        self.penalty = max(price, needed)
        return self.penalty * gain - model

    def _actual(self, here: _Point, step: Array) -> tuple[float, Array]:
        point = here.decisions + step
        violation = self._violation(point)
        merit = self.reduced.cost(point) + self.penalty * float(np.linalg.norm(violation))
        if not np.isfinite(merit):
            return -np.inf, point
        return here.cost + self.penalty * float(np.linalg.norm(here.violation)) - merit, point

    def _violation(self, decisions: Array) -> Array:
        """Values of c at a point, (N r,)."""
        staged, trajectory = self.staged, self.reduced.trajectory(decisions)
        v = np.vstack(
            [
                trajectory.states[-1].T,
                np.tile(trajectory.parameters[:, None], (1, staged.members)),
            ]
        )
        rows = staged.stages[-1].function.values(v, staged.given(staged.intervals))[2]
        return np.asarray((rows.T - self.target).ravel())

    def _point(self, linearization: Linearization) -> _Point:
        staged = self.staged
        zero = tuple(np.zeros_like(v.rows) for v in (*linearization.stages, *linearization.shared))
        gradient = reduced_gradient(linearization, adjoint(linearization, zero), zero)
        last = linearization.stages[-1]
        violation = (last.rows - self.target).ravel()
        rows = last.rows.shape[1]
        seeds = [
            (np.zeros(0, dtype=int), np.zeros((0, values.function.unknowns)))
            for values in linearization.stages[:-1]
        ]
        derivative = last.row_jacobian.reshape(-1, last.function.unknowns)
        seeds.append((np.repeat(np.arange(staged.members), rows), derivative))
        jacobian = reduced_jacobian(linearization, seeds)
        orthogonal, triangle, _ = qr(jacobian.T, pivoting=True)
        pivots = np.abs(np.diag(triangle))
        rank = int((pivots > RANK * pivots.max(initial=0.0)).sum())
        basis = np.asarray(orthogonal[:, rank:])
        y = np.linalg.lstsq(jacobian.T, -gradient.value, rcond=None)[0]
        multipliers: list[Array] = list(zero)
        multipliers[staged.intervals] = np.asarray(y, dtype=float).reshape(last.rows.shape)
        costates = adjoint(linearization, tuple(multipliers))
        lagrangian = reduced_gradient(linearization, costates, tuple(multipliers))
        scale = float(np.maximum(gradient.terms, lagrangian.terms).max(initial=0.0)) or 1.0
        return _Point(
            linearization.trajectory.decisions,
            linearization,
            linearization.objective,
            violation,
            gradient.value,
            jacobian,
            _least_norm(jacobian, violation),
            basis,
            tuple(multipliers),
            costates,
            float(np.abs(lagrangian.value).max(initial=0.0)) / scale,
        )


def _least_norm(jacobian: Array, violation: Array) -> Array:
    """Smallest s with G s = -c, in the sense of least squares."""
    return np.asarray(np.linalg.lstsq(jacobian, -violation, rcond=None)[0], dtype=float)
