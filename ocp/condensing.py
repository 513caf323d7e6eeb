"""States eliminated: cost, gradient and constraint Jacobian in the decisions alone.

With A, B, F the derivatives of a stage's successor in (x, u, p), costates by the adjoint recursion

    lambda_i^k = A^T lambda_i^{k+1} + d l_k/dx + (d r_k/dx)^T y_i^k

give the gradient in (u^0, ..., u^{K-1}, p); `reduced_hessian` has the second derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ocp.stages import Array, Rows, StagedProblem, StageFunction
from ocp.trajectory import Trajectory, local_values

CALL_COLUMNS = 20_000  # of one call of a stage function, where stages are evaluated together

Multipliers = tuple[Array, ...]  # of every stage (N, r_k), then of every shared term (1, r)


@dataclass(frozen=True, eq=False)
class StageValues:
    """A stage (or a shared term) evaluated and linearised for all its members.

    Args:
        function: what was evaluated.
        unknowns: (nv, M) columns v.
        given: (ng, M) columns g.
        successor: (M, n+).
        cost: (M,).
        rows: (M, r).
        equations: (M, z), zero where the local unknowns are right.
        jacobian: (M, n+ + r, unknowns) of (successor, rows), local unknowns eliminated; a view of
            an array that has the members last, where there are none.
        gradient: (M, unknowns) of the cost, likewise.
        bounds: of the rows.
    """

    function: StageFunction
    unknowns: Array
    given: Array
    successor: Array
    cost: Array
    rows: Array
    equations: Array
    jacobian: Array
    gradient: Array
    bounds: Rows

    @property
    def transition(self) -> Array:
        """Jacobian of the successor, (M, n+, nv)."""
        return self.jacobian[:, : self.successor.shape[1]]

    @property
    def row_jacobian(self) -> Array:
        """Jacobian of the rows, (M, r, nv)."""
        return self.jacobian[:, self.successor.shape[1] :]

    @property
    def violation(self) -> Array:
        """Signed violation of the rows' bounds, (M, r); positive above the upper bound."""
        above = np.maximum(self.rows - self.bounds.upper, 0.0)
        below = np.maximum(self.bounds.lower - self.rows, 0.0)
        return above - below

    @property
    def penalty(self) -> float:
        """Cost of violating the soft rows."""
        if not self.bounds.weight.size:
            return 0.0
        soft = np.isfinite(self.bounds.weight)
        return float((np.abs(self.violation[:, soft]) * self.bounds.weight[soft]).sum())


@dataclass(frozen=True, eq=False)
class Linearization:
    """A staged problem evaluated along a trajectory.

    Args:
        staged: the problem.
        trajectory: where; its states need not follow from its controls.
        stages: values of the K+1 stages.
        shared: values of the shared terms, each of one column.
        arrays: values and derivatives as they were evaluated, of several stages each.
    """

    staged: StagedProblem
    trajectory: Trajectory
    stages: tuple[StageValues, ...]
    shared: tuple[StageValues, ...]
    arrays: tuple[Array, ...]

    @cached_property
    def objective(self) -> float:
        """Total cost, penalties of soft rows included."""
        return float(sum(v.cost.sum() + v.penalty for v in (*self.stages, *self.shared)))


def linearize(staged: StagedProblem, trajectory: Trajectory) -> Linearization:
    """Evaluate all stages and shared terms with first derivatives.

    Stages of one function are evaluated together, as many as CALL_COLUMNS members in all.
    """
    stages: dict[int, StageValues] = {}
    arrays: list[Array] = []
    for group in staged.batches(CALL_COLUMNS // max(staged.members, 1)):
        v, g = _columns(staged, trajectory, group)
        bounds = [staged.stages[k].rows for k in group]
        function, members = staged.stages[group[0]].function, staged.members
        parts, evaluated = _evaluate(function, v, g, bounds, members)
        arrays += evaluated
        stages.update(zip(group, parts, strict=True))
    shared: dict[int, StageValues] = {}
    groups: dict[int, list[int]] = {}
    for s, term in enumerate(staged.shared):
        groups.setdefault(id(term.function), []).append(s)
    decisions = trajectory.decisions
    for indices in groups.values():
        terms = [staged.shared[s] for s in indices]
        v = np.column_stack([decisions[staged.shared_index(term)] for term in terms])
        g = np.column_stack([term.constants for term in terms])
        parts, evaluated = _evaluate(terms[0].function, v, g, [term.rows for term in terms], 1)
        arrays += evaluated
        shared.update(zip(indices, parts, strict=True))
    return Linearization(
        staged,
        trajectory,
        tuple(stages[k] for k in range(len(staged.stages))),
        tuple(shared[s] for s in range(len(staged.shared))),
        tuple(arrays),
    )


def _columns(
    staged: StagedProblem, trajectory: Trajectory, stages: list[int]
) -> tuple[Array, Array]:
    """Unknowns v = (x, z, u, p) and given numbers g of stages of one function, stage by stage."""
    function, members = staged.stages[stages[0]].function, staged.members
    v = np.empty((function.size, len(stages), members))
    g = np.empty((function.function.size1_in(1), len(stages), members))
    data, n = staged.data.shape[1], staged.stages[stages[0]].state_size
    inner = n + function.local_size
    g[:data] = staged.data.T[:, None]
    for i, k in enumerate(stages):
        shared = trajectory.parameters
        if k < staged.intervals:
            shared = np.concatenate([trajectory.controls[k], shared])
        v[:n, i] = trajectory.states[k].T
        v[n:inner, i] = local_values(staged, trajectory, k).T
        v[inner:, i] = shared[:, None]
        g[data:, i] = staged.stages[k].constants[:, None]
    return v.reshape(function.size, -1), g.reshape(len(g), -1)


def _evaluate(
    function: StageFunction, v: Array, g: Array, bounds: Sequence[Rows], columns: int
) -> tuple[list[StageValues], tuple[Array, ...]]:
    """Values of neighbouring groups of that many columns, and the arrays that they are parts of."""
    evaluated = function.linearized(v, g)
    successor, cost, rows, equations, jacobian, gradient = evaluated
    found = []
    for b, own in enumerate(bounds):
        s = slice(b * columns, (b + 1) * columns)
        parts = (successor.T[s], cost[s], rows.T[s], equations.T[s], jacobian[s], gradient[s])
        found.append(StageValues(function, v[:, s], g[:, s], *parts, own))
    return found, evaluated


def adjoint(
    linearization: Linearization,
    multipliers: Multipliers,
    bound_multipliers: Sequence[Array] | None = None,
) -> tuple[Array, ...]:
    """Costates of all stages, each (N, n_k), by the backward recursion of the module's equation.

    Args:
        linearization: stages along the trajectory.
        multipliers: y of the rows.
        bound_multipliers: of the bounds of the states, each (N, n_k); none by default.
    """
    staged = linearization.staged
    costates: list[Array] = []
    costate = np.zeros((0, staged.members))
    for k in range(staged.intervals, -1, -1):
        values, n = linearization.stages[k], staged.stages[k].state_size
        through = _lagrangian(costate, multipliers[k]), values.jacobian[:, :, :n]
        costate = values.gradient[:, :n].T + np.einsum("am,mab->bm", *through)
        if bound_multipliers is not None:
            costate += bound_multipliers[k].T
        costates.append(costate.T)
    return tuple(reversed(costates))


def _lagrangian(costate: Array, multipliers: Array) -> Array:
    """Multipliers of the successor (n+, N) and of the rows (N, r) in one array, (n+ + r, N)."""
    return np.vstack([costate, multipliers.T]) if multipliers.size else costate


def _contract(left: Array, matrices: Array) -> Array:
    """sum_a left[i, a] matrices[i, a, :]."""
    return np.matmul(left[:, None, :], matrices)[:, 0, :]


@dataclass(frozen=True, eq=False)
class ReducedGradient:
    """Gradient of the Lagrangian in the decisions, and how large the terms are that cancel in it.

    Args:
        value: (decisions,).
        terms: (decisions,) sum of the absolute values of what comes through each component of the
            state and each row, of the members' own cost, and of the shared terms.
    """

    value: Array
    terms: Array


def reduced_gradient(
    linearization: Linearization, costates: Sequence[Array], multipliers: Multipliers
) -> ReducedGradient:
    """Gradient of the Lagrangian in (u^0, ..., u^{K-1}, p), for costates of the stages."""
    staged = linearization.staged
    value, terms, shared = (np.zeros(staged.decision_size) for _ in range(3))
    parameters = staged.parameter_slice
    for k, values in enumerate(linearization.stages):
        n, m = staged.stages[k].state_size, staged.stages[k].control_size
        after = costates[k + 1].T if k < staged.intervals else np.zeros((0, staged.members))
        lagrangian = _lagrangian(after, multipliers[k])
        through = np.einsum("am,mab->ab", lagrangian, values.jacobian[:, :, n:])
        own = values.gradient[:, n:].sum(axis=0)
        for total, part in (
            (value, own + through.sum(axis=0)),
            (terms, np.abs(own) + np.abs(through).sum(axis=0)),
        ):
            total[staged.control_slices[k]] += part[:m]
            total[parameters] += part[m:]
    for s, (term, values) in enumerate(zip(staged.shared, linearization.shared, strict=True)):
        part, y = values.gradient[0], multipliers[len(staged.stages) + s]
        if y.size:
            part = part + _contract(y, values.row_jacobian)[0]
        shared[staged.shared_index(term)] += part
    return ReducedGradient(value + shared, terms + np.abs(shared))


def reduced_jacobian(
    linearization: Linearization,
    seeds: Sequence[tuple[np.ndarray, Array]],
) -> Array:
    """Derivatives of functions of single members' states and decisions, in the decisions alone.

    Args:
        linearization: stages along the trajectory.
        seeds: for every stage k, the members (q_k,) and the derivatives (q_k, nv) in v = (x, u, p).

    Returns:
        (q_0 + q_1 + ..., decisions), in the order of the seeds.
    """
    staged = linearization.staged
    counts = [members.size for members, _ in seeds]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    result = np.zeros((starts[-1], staged.decision_size))
    carried = np.zeros((0, staged.stages[-1].state_size))
    carried_members = np.zeros(0, dtype=int)
    for k in range(staged.intervals, -1, -1):
        n, m = staged.stages[k].state_size, staged.stages[k].control_size
        later = slice(starts[k + 1], None)
        if k < staged.intervals and carried_members.size:
            rows = _contract(carried, linearization.stages[k].transition[carried_members])
            result[later, staged.control_slices[k]] += rows[:, n : n + m]
            result[later, staged.parameter_slice] += rows[:, n + m :]
            carried = rows[:, :n]
        else:
            carried = np.zeros((0, n))
        members, own = seeds[k]
        here = slice(starts[k], starts[k + 1])
        result[here, staged.control_slices[k]] += own[:, n : n + m]
        result[here, staged.parameter_slice] += own[:, n + m :]
        carried = np.vstack([own[:, :n], carried])
        carried_members = np.concatenate([members, carried_members])
    return result
