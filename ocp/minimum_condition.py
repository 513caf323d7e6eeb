"""The minimum condition of the Hamiltonian between the points at which a solution imposes it.

Along an optimum the control minimises, at every time, among the controls v that its bounds and
constraints admit,

    H(t, x, v, p) = R(t, v) + sum_i [L(t, x_i, v) + p_i . f(t, x_i, v)].

A solution on a grid satisfies that at its Runge-Kutta stages, or on the average over an interval
with one control. What is left between them is the excess of a step,

    e_k = Int_{step} H(t, x, u, p) - min_v H(t, x, v, p) dt >= 0,

and the sum of the e_k is, to first order, what the objective loses by the grid of the control: a
control constant on intervals of length h loses sum_k e_k = O(h^2) to a free one, and a switch
inside an interval shows as the excess of that interval.

Where the optimum enters or leaves an arc along a constraint of the state, a grid is best if the
Hamiltonian is continuous at its nodes: its jump is the derivative of the objective in the node's
time. A junction between a node and the nearest stage at a distance d, which no stage sees, costs at
most

    g_k = |H(t_k^+) - H(t_k^-)| d / 2.

Source: Pontryagin et al., The Mathematical Theory of Optimal Processes (1962).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import casadi as ca
import numpy as np

from ocp.costate_path import CostatePath, costate_path
from ocp.discretize import RowBlock, Transcription
from ocp.path import Path, Steps, member_columns
from ocp.problem import Constraint, OptimalControlProblem
from ocp.stages import Array

POINTS = 10  # Gauss-Legendre points in a step, for the integral of the excess
NEWTON_STEPS = 8  # towards the minimum of the Hamiltonian
CORNERS = 6  # bounded components of a control, all of whose corners are tried
FEASIBLE = 1e-9  # violation, relative to the limit, by which one control may exceed another's
MOST_EVALUATIONS = 20_000_000  # numbers, of states at all points and candidates
FLAT = 1e-12  # curvature, relative to the largest, in which a Newton step does not go
TINY = np.finfo(float).tiny


@dataclass(frozen=True, eq=False)
class MinimumCondition:
    """What is left of the minimum condition.

    Args:
        excess: (steps,) e_k, in units of the cost, in the order of time.
        junctions: (K+1,) g_k, likewise, of the nodes.
        unknown: why the excess is not known, and NaN; empty if it is.
    """

    excess: Array
    junctions: Array
    unknown: str = ""

    @classmethod
    def none(cls, steps: int, nodes: int, reason: str) -> MinimumCondition:
        """Nothing is known, for a reason."""
        return cls(np.full(steps, np.nan), np.full(nodes, np.nan), reason)

    @property
    def total(self) -> float:
        """What a control free at every time would gain, to first order."""
        return float(self.excess.sum())

    def __str__(self) -> str:
        if self.unknown:
            return f"what the grid of the control costs is not known: {self.unknown}"
        return f"the grid of the control costs about {self.total:.1e}"


def minimum_condition(
    path: Path,
    transcription: Transcription,
    costates: Array,
    multipliers: Iterable[tuple[int, RowBlock, Array]],
) -> MinimumCondition:
    """Look for better controls at points between the stages.

    Args:
        path: the solution as functions of time.
        transcription: how it was made discrete.
        costates: (K+1, N, n) at the nodes, for a cost to be minimised.
        multipliers: of all rows with their interval, each (N, rows), likewise.

    Returns:
        An unknown one where the condition does not hold pointwise, because the derivative of the
        control has a cost, or where looking would take too many evaluations.
    """
    problem = transcription.problem
    n, m = problem.state.numel(), problem.control.numel()
    candidates = 2**CORNERS + max(tableau.stages for tableau in transcription.tableaux)
    size = len(path.order) * POINTS * problem.members * (n * candidates + m**2)
    nodes, steps = transcription.grid.intervals + 1, len(path.order)
    if problem.control_rate_weight > 0:
        return MinimumCondition.none(steps, nodes, "the derivative of the control has a cost")
    if size > MOST_EVALUATIONS:
        return MinimumCondition.none(steps, nodes, f"it would take {size:.1e} numbers")
    blocks = list(multipliers)
    if not problem.control.numel():
        return MinimumCondition(np.zeros(steps), np.zeros(nodes))
    theta, weights = np.polynomial.legendre.leggauss(POINTS)
    theta, weights = (theta + 1) / 2, weights / 2
    hamiltonian = _Hamiltonian(problem, -1.0 if problem.maximize else 1.0)
    adjoint = costate_path(path, transcription, costates, blocks)
    excess = np.zeros(len(path.order))
    for g, group in enumerate(path.groups):
        count = len(group.start)
        own = np.repeat(np.arange(count), POINTS)
        fractions = np.tile(theta, count)
        point = _Point(
            group.start[own] + fractions * group.length[own],
            group.states(own, fractions),
            adjoint.groups[g](own, fractions),
            path.trajectory.parameters,
        )
        control = group.controls_at(own, fractions)
        gain = hamiltonian.gain(point, control, _candidates(group, own, problem))
        of_step = (gain.reshape(count, POINTS) @ weights) * group.length
        mine = np.flatnonzero(path.order[:, 0] == g)
        excess[mine] = of_step[path.order[mine, 1]]
    junctions = _junctions(path, transcription, hamiltonian, costates, adjoint, blocks)
    return MinimumCondition(excess, junctions)


def _junctions(
    path: Path,
    transcription: Transcription,
    hamiltonian: _Hamiltonian,
    costates: Array,
    adjoint: CostatePath,
    multipliers: Iterable[tuple[int, RowBlock, Array]],
) -> Array:
    """What moving each node could gain, (K+1,).

    Only where the costate jumps, because a constraint of the state holds: elsewhere the excess
    tells. No node at a given time is moved.
    """
    grid, substeps, problem = transcription.grid, transcription.substeps, transcription.problem
    nodes = np.arange(1, grid.intervals)
    if not nodes.size:
        return np.zeros(2)
    times = path.trajectory.times
    assert times is not None
    parameters = path.trajectory.parameters
    sides = []
    for steps, fraction, values in (
        (nodes * substeps - 1, 1.0, costates[1:-1]),
        (nodes * substeps, 0.0, adjoint.after[1:]),
    ):
        states, controls = path.at_fractions(steps, np.full(nodes.size, fraction))
        point = _Point(times[1:-1], states, values, parameters)
        sides.append(hamiltonian(point, controls)[0])
    jumps = np.zeros(grid.intervals + 1)
    jumps[1:-1] = np.where(adjoint.has_jump[1:-1], sides[1] - sides[0], 0.0)
    for k, block, y in multipliers:
        # A constraint that moves with time takes part in the change of the Hamiltonian.
        is_at_node = block.stage is None and not block.is_inner and block.share is not None
        if is_at_node and 0 < k < grid.intervals and adjoint.has_jump[k]:
            rate = ca.jacobian(block.constraint.expression, problem.time)
            if not rate.nnz():
                continue
            states, controls = path.at_fractions(np.array([k * substeps]), np.zeros(1))
            columns = member_columns(problem, times[[k]], states, controls, parameters)
            symbols = [problem.state, problem.control, problem.parameter, problem.data]
            function = ca.Function("rate", [*symbols, problem.time], [_column(rate)])
            slope = function.map(states.shape[1])(*columns).full().T
            jumps[k] -= float((slope * y).sum())
    for point_ in problem.interior_points:
        jumps[np.isclose(times, point_.time, rtol=0.0, atol=1e-9 * (times[-1] - times[0]))] = 0.0
    lengths = np.diff(times) / substeps
    first = np.array([_distance(tableau.c) for tableau in transcription.tableaux])
    last = np.array([_distance(1.0 - tableau.c) for tableau in transcription.tableaux])
    unseen = np.zeros(grid.intervals + 1)
    unseen[1:-1] = np.maximum((last * lengths)[:-1], (first * lengths)[1:])
    return np.asarray(np.nan_to_num(np.abs(jumps)) * unseen / 2)


def _distance(fractions: Array) -> float:
    """Of the nearest stage from the node, in steps."""
    return float(fractions[fractions > 0.0].min(initial=1.0))


def _candidates(group: Steps, steps: np.ndarray, problem: OptimalControlProblem) -> list[Array]:
    """Controls (Q, m) to be tried: those of the step's stages, and corners of the bounds."""
    found = [group.controls[steps, i] for i in range(group.tableau.stages)]
    lower, upper = (np.asarray(b, dtype=float) for b in problem.control_bounds)
    bounded = np.flatnonzero(np.isfinite(lower) & np.isfinite(upper))
    if 0 < bounded.size <= CORNERS:
        for corner in product((0, 1), repeat=bounded.size):
            moved = found[0].copy()
            moved[:, bounded] = np.where(corner, upper[bounded], lower[bounded])
            found.append(moved)
    return found


@dataclass(frozen=True, eq=False)
class _Point:
    """Times (Q,), states and costates (Q, N, n), and parameters."""

    times: Array
    states: Array
    costates: Array
    parameters: Array


class _Hamiltonian:
    """H with its derivatives in the control, summed over the members, for many points at once."""

    def __init__(self, problem: OptimalControlProblem, sign: float) -> None:
        self.problem = problem
        x, u, p, t = problem.state, problem.control, problem.parameter, problem.time
        costate = ca.SX.sym("costate", x.numel())
        arguments = [x, u, p, problem.data, t]
        soft = [c for c in problem.path_constraints if c.is_soft]
        penalty = sum((_penalty(c, problem) for c in soft), ca.SX(0))
        value = sign * problem.running_cost + penalty + ca.dot(costate, problem.dynamics)
        own = sign * problem.control_cost
        own += sum(
            (_penalty(c, problem) for c in problem.control_constraints if c.is_soft), ca.SX(0)
        )
        hard = [c for c in problem.path_constraints if not c.is_soft]
        hard = [c for c in hard if ca.depends_on(c.expression, u)]
        hard += [c for c in problem.control_constraints if not c.is_soft]
        self.lower = np.concatenate([np.zeros(0), *(np.asarray(c.lower) for c in hard)])
        self.upper = np.concatenate([np.zeros(0), *(np.asarray(c.upper) for c in hard)])
        rows = ca.vertcat(*(c.expression for c in hard))
        of_member = [value, ca.gradient(value, u), ca.hessian(value, u)[0]]
        shared = [own, ca.gradient(own, u), ca.hessian(own, u)[0]]
        self._member = ca.Function("h", [*arguments, costate], [*map(_column, of_member)])
        self._shared = ca.Function("r", [u, p, t], [*map(_column, shared)])
        self._rows = ca.Function("g", arguments, [_column(rows)]) if hard else None

    def _columns(self, point: _Point, controls: Array) -> list[Array]:
        """Arguments of a member's functions, one column per point and member."""
        return member_columns(self.problem, point.times, point.states, controls, point.parameters)

    def __call__(self, point: _Point, controls: Array) -> tuple[Array, Array, Array]:
        """Values (Q,), gradients (Q, m) and Hessians (Q, m, m) in the control."""
        count, members, n = point.states.shape
        m = controls.shape[1]
        costates = point.costates.reshape(-1, n).T
        found = self._member.map(count * members)(*self._columns(point, controls), costates)
        sums = [part.full().T.reshape(count, members, -1).sum(axis=1) for part in found]
        parameters = np.tile(point.parameters[:, None], (1, count))
        shared = self._shared.map(count)(controls.T, parameters, point.times[None])
        value, gradient, hessian = (
            a + b.full().T.reshape(count, -1) for a, b in zip(sums, shared, strict=True)
        )
        return value[:, 0], gradient, hessian.reshape(count, m, m)

    def violation(self, point: _Point, controls: Array) -> Array:
        """Largest violation (Q,) of the hard constraints with the control in them, relative."""
        count, members, _ = point.states.shape
        if self._rows is None:
            return np.zeros(count)
        values = self._rows.map(count * members)(*self._columns(point, controls)).full().T
        finite = [np.where(np.isfinite(b), np.abs(b), 0.0) for b in (self.lower, self.upper)]
        unit = np.maximum(1.0, np.maximum(*finite))
        excess = np.maximum(np.maximum(values - self.upper, self.lower - values), 0.0) / unit
        return np.asarray(excess.reshape(count, -1).max(axis=1))

    def gain(self, point: _Point, control: Array, candidates: list[Array]) -> Array:
        """What the best control that is found lowers H by at every point, (Q,)."""
        value = self(point, control)[0]
        allowed = self.violation(point, control) + FEASIBLE
        best, least = control.copy(), value.copy()

        def consider(tried: Array, values: Array) -> np.ndarray:
            better = (values < least) & (self.violation(point, tried) <= allowed)
            best[better], least[better] = tried[better], values[better]
            return np.asarray(better)

        for candidate in candidates:
            consider(candidate, self(point, candidate)[0])
        lower, upper = (np.asarray(b, dtype=float) for b in self.problem.control_bounds)
        for _ in range(NEWTON_STEPS):
            _, gradient, hessian = self(point, best)
            moved = np.clip(
                best + _newton_step(best, gradient, hessian, lower, upper), lower, upper
            )
            if not consider(moved, self(point, moved)[0]).any():
                break
        return np.asarray(np.where(np.isfinite(value), value - least, 0.0))


def _newton_step(
    control: Array, gradient: Array, hessian: Array, lower: Array, upper: Array
) -> Array:
    """Towards the minimum of a quadratic model, components held by their bounds left out.

    A direction in which the model is flat or bends down is left to the candidates.
    """
    held = ((control <= lower) & (gradient > 0)) | ((control >= upper) & (gradient < 0))
    matrix = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    slope = np.where(held, 0.0, gradient)
    finite = np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(slope).all(axis=1)
    matrix[~finite], slope[~finite] = 0.0, 0.0
    values, vectors = np.linalg.eigh(matrix)
    flat = values <= FLAT * np.maximum(values.max(axis=1, keepdims=True, initial=0.0), TINY)
    along = np.einsum("qij,qi->qj", vectors, slope)
    scaled = np.where(flat, 0.0, -along / np.where(flat, 1.0, values))
    return np.asarray(np.einsum("qij,qj->qi", vectors, scaled))


def _column(expression: ca.SX) -> ca.SX:
    return ca.densify(ca.vec(expression))


def _penalty(constraint: Constraint, problem: OptimalControlProblem) -> ca.SX:
    """Cost per unit of time of violating a soft constraint."""
    total, expression = ca.SX(0), constraint.expression
    for r, (low, high) in enumerate(
        zip(np.asarray(constraint.lower), np.asarray(constraint.upper), strict=True)
    ):
        if np.isfinite(low):
            total += ca.fmax(low - expression[r], 0)
        if np.isfinite(high):
            total += ca.fmax(expression[r] - high, 0)
    # One that is multiplied by the horizon is integrated over fractions of it.
    unit = problem.horizon if constraint.by_horizon else 1.0
    return constraint.weight * total / unit
