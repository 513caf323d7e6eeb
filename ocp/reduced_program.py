"""States eliminated, with rows and bounds of every kind: a nonlinear program in the decisions.

    z = (u^0, ..., u^{K-1}, p, slacks),        x^{k+1} = Phi_k(x^k, u^k, p) by a sweep forwards

    minimise    J(u, p) + sum of weight * slack
    subject to  lower <= r_k(x^k, u^k, p) - s+ + s- <= upper,    s+, s- >= 0 for soft rows alone
                lower <= x^k <= upper where states have bounds,    bounds of u and p

A row of stage k depends on u^0, ..., u^k and p alone, one of a shared term on the controls that it
takes. The multipliers y of the rows give the costates by the adjoint recursion, and those the
Hessian of the Lagrangian: sigma H(y / sigma), dense in the decisions, none in the slacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ocp.condensing import (
    Linearization,
    adjoint,
    linearize,
    reduced_gradient,
    reduced_jacobian,
)
from ocp.multipliers import KKTMultipliers
from ocp.nlp import Array, NLPResult, NonlinearProgram, Status
from ocp.numpy_program import Functions, Pattern
from ocp.program_rows import JacobianPlaces, ProgramRows
from ocp.reduced import Reduced
from ocp.reduced_hessian import reduced_hessian
from ocp.stages import StagedProblem
from ocp.trajectory import Trajectory, decision_bounds

# Of MUMPS: the pivots of dense rows, -1/curvature of their slacks, are small beside the rows. To
# put them off couples all rows with each other: 2000 rows then cost 26 s in place of 10.6 s.
PIVOT_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class _Point:
    """The problem at decisions, with everything that does not depend on multipliers."""

    decisions: Array
    linearization: Linearization

    @cached_property
    def cost(self) -> float:
        """J without the price of the soft rows."""
        blocks = (*self.linearization.stages, *self.linearization.shared)
        return float(sum(values.cost.sum() for values in blocks))

    @cached_property
    def gradient(self) -> Array:
        """dJ/d(u, p)."""
        blocks = (*self.linearization.stages, *self.linearization.shared)
        zero = tuple(np.zeros_like(values.rows) for values in blocks)
        costates = adjoint(self.linearization, zero)
        return reduced_gradient(self.linearization, costates, zero).value


@dataclass
class _Latest:
    """The last point that was asked for, which all functions of the program share."""

    point: _Point | None = None


@dataclass(frozen=True, eq=False)
class ReducedProgram:
    """A staged problem without local unknowns, laid out in its decisions and slacks.

    Args:
        staged: the problem.
    """

    staged: StagedProblem
    _latest: _Latest = field(default_factory=_Latest, init=False, repr=False)

    @cached_property
    def _rows(self) -> ProgramRows:
        return ProgramRows.of(self.staged)

    @cached_property
    def _reduced(self) -> Reduced:
        return Reduced(self.staged)

    @cached_property
    def _slacks(self) -> tuple[NDArray[np.intp], Array]:
        """Rows in g of the slacks, and their signs: -1 for s+, +1 for s-."""
        rows = self._rows
        soft = np.isfinite(rows.weight)
        above = np.flatnonzero(soft & np.isfinite(rows.upper))
        below = np.flatnonzero(soft & np.isfinite(rows.lower))
        signs = np.concatenate([-np.ones(above.size), np.ones(below.size)])
        return np.concatenate([above, below]), signs

    @property
    def size(self) -> int:
        """Number of unknowns z."""
        return self.staged.decision_size + self._slacks[0].size

    def _at(self, z: Array) -> _Point:
        decisions, latest = z[: self.staged.decision_size], self._latest
        point = latest.point
        if point is None or not np.array_equal(point.decisions, decisions):
            with np.errstate(all="ignore"):  # values that are not finite are seen by the optimiser
                trajectory = self._reduced.trajectory(decisions.copy())
                point = latest.point = _Point(decisions.copy(), linearize(self.staged, trajectory))
        return point

    @cached_property
    def functions(self) -> Functions:
        """What the program is made of, in NumPy."""
        size = self.staged.decision_size
        columns, rows = np.tril_indices(size)  # the upper triangle, column by column
        return Functions(
            objective=self._objective,
            gradient=self._gradient,
            constraints=self._constraints,
            jacobian=self._jacobian,
            hessian=self._hessian,
            jacobian_pattern=self._jacobian_places.pattern,
            hessian_pattern=Pattern(rows, columns, (self.size, self.size)),
        )

    @cached_property
    def program(self) -> NonlinearProgram:
        """The nonlinear program."""
        lower, upper = decision_bounds(self.staged)
        slacks = self._slacks[0].size
        return self.functions.program(
            np.concatenate([lower, np.zeros(slacks)]),
            np.concatenate([upper, np.full(slacks, np.inf)]),
            self._rows.lower,
            self._rows.upper,
        )

    @property
    def _prices(self) -> Array:
        return self._rows.weight[self._slacks[0]]

    def _objective(self, z: Array) -> float:
        return self._at(z).cost + float(self._prices @ z[self.staged.decision_size :])

    def _gradient(self, z: Array) -> Array:
        return np.concatenate([self._at(z).gradient, self._prices])

    def _constraints(self, z: Array) -> Array:
        linearization, rows = self._at(z).linearization, self._rows
        parts = []
        for values, state, held in zip(
            linearization.stages, linearization.trajectory.states, rows.bounded, strict=True
        ):
            parts += [values.rows.ravel(), state[:, held].ravel()]
        parts += [values.rows.ravel() for values in linearization.shared]
        result = np.concatenate(parts)
        slack_rows, signs = self._slacks
        np.add.at(result, slack_rows, signs * z[self.staged.decision_size :])
        return result

    @cached_property
    def _jacobian_places(self) -> JacobianPlaces:
        return JacobianPlaces.of(self.staged, self._rows, *self._slacks)

    def _jacobian(self, z: Array) -> Array:
        linearization, places = self._at(z).linearization, self._jacobian_places
        parts = [np.zeros(0)]
        if places.rows.size:
            seeds = []
            for values, held in zip(linearization.stages, self._rows.bounded, strict=True):
                members = np.arange(self.staged.members)
                unit = np.eye(values.function.unknowns)[held]
                own = values.row_jacobian.reshape(-1, values.function.unknowns)
                which = [np.repeat(members, values.rows.shape[1]), np.repeat(members, held.size)]
                slopes = np.vstack([own, np.tile(unit, (members.size, 1))])
                seeds.append((np.concatenate(which), slopes))
            parts = [reduced_jacobian(linearization, seeds)[places.rows, places.columns]]
        for values in linearization.shared:
            (i, j), _, _ = values.function.patterns
            parts.append(values.row_jacobian[0, i, j])
        return np.concatenate([*parts, self._slacks[1]])[places.order]

    def _hessian(self, z: Array, sigma: float, multipliers: Array) -> Array:
        if sigma == 0.0:  # where only feasibility is sought
            whole, cost = (self._lagrangian_hessian(z, y) for y in (multipliers, 0 * multipliers))
            whole -= cost
        else:
            whole = sigma * self._lagrangian_hessian(z, multipliers / sigma)
        return whole[self._triangle]

    @cached_property
    def _triangle(self) -> NDArray[np.bool_]:
        """The lower triangle, whose rows are the columns of the upper one."""
        size = self.staged.decision_size
        return np.tri(size, dtype=bool)

    def _lagrangian_hessian(self, z: Array, multipliers: Array) -> Array:
        linearization = self._at(z).linearization
        y = self._kkt(multipliers, np.zeros(self.staged.decision_size))
        costates = adjoint(linearization, y.rows, y.state_bounds)
        return reduced_hessian(linearization, costates, y.rows)

    def _kkt(self, multipliers: Array, decision_bounds: Array) -> KKTMultipliers:
        """Multipliers of g and of the bounds of the decisions, by what they belong to."""
        staged, parts = self.staged, self._rows.split(multipliers)
        rows, states = [], []
        for k, stage in enumerate(staged.stages):
            rows.append(parts[2 * k].reshape(staged.members, -1))
            bounds = np.zeros((staged.members, stage.state_size))
            bounds[:, self._rows.bounded[k]] = parts[2 * k + 1].reshape(staged.members, -1)
            states.append(bounds)
        rows += [part[None] for part in parts[2 * len(staged.stages) :]]
        return KKTMultipliers(tuple(rows), tuple(states), decision_bounds)

    def pack(self, trajectory: Trajectory) -> Array:
        """The decisions of a trajectory, and by how much its soft rows are violated there."""
        slack_rows, signs = self._slacks
        z = np.concatenate([trajectory.decisions, np.zeros(slack_rows.size)])
        limits = np.where(signs < 0, self._rows.upper[slack_rows], self._rows.lower[slack_rows])
        missing = signs * (limits - self._constraints(z)[slack_rows])
        z[self.staged.decision_size :] = np.maximum(missing, 0.0)
        return z

    def unpack(self, point: Array) -> Trajectory:
        """The trajectory that the decisions in z lead to."""
        return self._at(point).linearization.trajectory

    def multipliers(self, result: NLPResult) -> KKTMultipliers:
        """Multipliers of rows, bounds and dynamics, without those of slacks."""
        bounds = result.bound_multipliers[: self.staged.decision_size].copy()
        found = self._kkt(result.multipliers, bounds)
        linearization = self._at(result.point).linearization
        costates = adjoint(linearization, found.rows, found.state_bounds)
        return KKTMultipliers(found.rows, found.state_bounds, bounds, costates)

    def fits(self, result: NLPResult) -> bool:
        """Whether a result is of a program of this shape."""
        shape = (result.point.size, result.multipliers.size)
        return shape == (self.size, self._rows.lower.size)

    def claimed(self, trajectory: Trajectory, multipliers: KKTMultipliers) -> NLPResult | None:
        """A result that says what another way of solving has found; None if it does not fit.

        A slack of price w in a row of multiplier y has the multiplier -(w -+ y) at its bound 0.
        """
        staged, held = self.staged, self._rows.bounded
        parts = []
        for k, (y, bounds) in enumerate(
            zip(multipliers.rows, multipliers.state_bounds, strict=False)
        ):
            parts += [y.ravel(), bounds[:, held[k]].ravel()]
        parts += [y.ravel() for y in multipliers.rows[len(staged.stages) :]]
        y = np.concatenate(parts)
        if y.size != self._rows.lower.size or not np.isfinite(y).all():
            return None
        slack_rows, signs = self._slacks
        of_slacks = -np.maximum(self._prices + signs * y[slack_rows], 0.0)
        return NLPResult(
            status=Status.SOLVED,
            backend_status="claimed",
            point=self.pack(trajectory),
            multipliers=y,
            bound_multipliers=np.concatenate([multipliers.decision_bounds, of_slacks]),
            iterations=None,
            build_seconds=0.0,
            solve_seconds=0.0,
        )

    def costates(self, result: NLPResult) -> tuple[Array, ...]:
        """Costates of stages 1, ..., K, each (N, n_k)."""
        return self.multipliers(result).costates[1:]
