"""States eliminated: cost, gradient, Hessian and constraint Jacobian in the decisions alone.

With A, B, F the derivatives of a stage's successor in (x, u, p), costates by the adjoint recursion

    lambda_i^k = A^T lambda_i^{k+1} + d l_k/dx + (d r_k/dx)^T y_i^k

give the gradient; the Hessian in (u^0, ..., u^{K-1}, p) comes from one backward sweep. With P_k the
second derivative of a member's cost-to-go in its state and W_k its mixed derivative in the state
and the later decisions,

    T_k = W_{k+1} + P_{k+1} [B in columns u^k, F in columns p]
    H[u^k, .] = sum_i B^T T_k + L_uv,    W_k = A^T T_k + L_xv,    P_k = A^T P_{k+1} A + L_xx

where L is the stage's Lagrangian. The sum over members is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocp.stages import Array, Rows, StagedProblem, StageFunction
from ocp.trajectory import Trajectory, local_values, stage_unknowns

# Numbers in the largest array of a sweep for the Hessian, small enough for the cache to help.
BLOCK_ENTRIES = 120_000
CALL_COLUMNS = 20_000  # of one call of a stage function, where stages are evaluated together
LEAST_BLOCK = 16  # members in a block
SMALL_PRODUCT = 4  # entries of a transition up to which products are added up column by column

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
        jacobian: (M, n+ + r, unknowns) of (successor, rows), local unknowns eliminated.
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
    """

    staged: StagedProblem
    trajectory: Trajectory
    stages: tuple[StageValues, ...]
    shared: tuple[StageValues, ...]

    @property
    def objective(self) -> float:
        """Total cost, penalties of soft rows included."""
        return float(sum(v.cost.sum() + v.penalty for v in (*self.stages, *self.shared)))


def linearize(staged: StagedProblem, trajectory: Trajectory) -> Linearization:
    """Evaluate all stages and shared terms with first derivatives.

    Stages of one function are evaluated together, as many as CALL_COLUMNS members in all.
    """
    stages: dict[int, StageValues] = {}
    together = max(CALL_COLUMNS // max(staged.members, 1), 1)
    groups_of_stages = [
        group[start : start + together]
        for group in staged.batches()
        for start in range(0, len(group), together)
    ]
    for group in groups_of_stages:
        v = np.hstack([_unknowns(staged, trajectory, k) for k in group])
        g = np.hstack([staged.given(k) for k in group])
        bounds = [staged.stages[k].rows for k in group]
        parts = _evaluate(staged.stages[group[0]].function, v, g, bounds, staged.members)
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
        parts = _evaluate(terms[0].function, v, g, [term.rows for term in terms], 1)
        shared.update(zip(indices, parts, strict=True))
    return Linearization(
        staged,
        trajectory,
        tuple(stages[k] for k in range(len(staged.stages))),
        tuple(shared[s] for s in range(len(staged.shared))),
    )


def _unknowns(staged: StagedProblem, trajectory: Trajectory, k: int) -> Array:
    control = trajectory.controls[k] if k < staged.intervals else np.zeros(0)
    local = local_values(staged, trajectory, k)
    return stage_unknowns(trajectory.states[k], local, control, trajectory.parameters)


def _evaluate(
    function: StageFunction, v: Array, g: Array, bounds: Sequence[Rows], columns: int
) -> list[StageValues]:
    """Values of neighbouring groups of that many columns."""
    successor, cost, rows, equations = function.values(v, g)
    jacobian, gradient = function.derivatives(v, g)
    slices = [slice(b * columns, (b + 1) * columns) for b in range(len(bounds))]
    return [
        StageValues(
            function,
            v[:, s],
            g[:, s],
            successor.T[s],
            cost[s],
            rows.T[s],
            equations.T[s],
            jacobian[s],
            gradient[s],
            bounds[b],
        )
        for b, s in enumerate(slices)
    ]


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
    costate = np.zeros((staged.members, 0))
    for k in range(staged.intervals, -1, -1):
        values, n = linearization.stages[k], staged.stages[k].state_size
        lagrangian = np.hstack([costate, multipliers[k]])
        costate = values.gradient[:, :n] + _contract(lagrangian, values.jacobian[:, :, :n])
        if bound_multipliers is not None:
            costate = costate + bound_multipliers[k]
        costates.append(costate)
    return tuple(reversed(costates))


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
    for k, values in enumerate(linearization.stages):
        n, m = staged.stages[k].state_size, staged.stages[k].control_size
        after = costates[k + 1] if k < staged.intervals else np.zeros((staged.members, 0))
        lagrangian = np.hstack([after, multipliers[k]])
        own = values.gradient[:, n:].sum(axis=0)
        columns = values.jacobian[:, :, n:].transpose(1, 0, 2)
        through = np.matmul(lagrangian.T[:, None, :], columns)[:, 0, :]
        for total, part in (
            (value, own + through.sum(axis=0)),
            (terms, np.abs(own) + np.abs(through).sum(axis=0)),
        ):
            total[staged.control_slices[k]] += part[:m]
            total[staged.parameter_slice] += part[m:]
    for s, (term, values) in enumerate(zip(staged.shared, linearization.shared, strict=True)):
        y = multipliers[len(staged.stages) + s]
        part = values.gradient[0] + _contract(y, values.row_jacobian)[0]
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


def reduced_hessian(
    linearization: Linearization, costates: Sequence[Array], multipliers: Multipliers
) -> Array:
    """Hessian of the Lagrangian in (u^0, ..., u^{K-1}, p), symmetric, (decisions, decisions).

    Members are taken in blocks whose sweep fits into BLOCK_ENTRIES numbers, so that memory does
    not grow with their number.
    """
    staged = linearization.staged
    size = staged.decision_size
    upper = np.zeros((size, size))  # of the Hessian; the lower triangle is left alone
    widest = max(stage.state_size for stage in staged.stages)
    block = max(BLOCK_ENTRIES // max(widest * size, 1), LEAST_BLOCK)
    for start in range(0, staged.members, block):
        members = slice(start, min(start + block, staged.members))
        _add_members(upper, linearization, costates, multipliers, members)
    seconds = shared_hessians(linearization, multipliers)
    for term, second in zip(staged.shared, seconds, strict=True):
        index = staged.shared_index(term)
        # The unknowns of a term stand in increasing order among the decisions.
        upper[np.ix_(index, index)] += np.triu(second)
    return np.triu(upper) + np.triu(upper, 1).T


def shared_hessians(linearization: Linearization, multipliers: Multipliers) -> list[Array]:
    """Second derivatives of the Lagrangian of every shared term in its unknowns, (nv, nv)."""
    first = len(linearization.staged.stages)
    groups: dict[int, list[int]] = {}
    for s, values in enumerate(linearization.shared):
        groups.setdefault(id(values.function), []).append(s)
    found: dict[int, Array] = {}
    for indices in groups.values():
        terms = [linearization.shared[s] for s in indices]
        v = np.hstack([values.unknowns for values in terms])
        g = np.hstack([values.given for values in terms])
        y = np.hstack([multipliers[first + s].T for s in indices])
        found.update(zip(indices, terms[0].function.hessians(v, g, y), strict=True))
    return [found[s] for s in range(len(linearization.shared))]


def _add_members(
    upper: Array,
    linearization: Linearization,
    costates: Sequence[Array],
    multipliers: Multipliers,
    members: slice,
) -> None:
    """Add what some members contribute to the upper triangle of the Hessian."""
    staged = linearization.staged
    size, parameters = staged.decision_size, staged.parameter_slice
    count = members.stop - members.start
    n, free = staged.stages[-1].state_size, slice(parameters.start, size)
    curvature = np.zeros((count, 0, 0))
    through = np.zeros((count, 0, size - free.start))  # T_k in columns (u^k, ..., u^{K-1}, p)
    spare = np.zeros(0)
    for k in range(staged.intervals, -1, -1):
        stage, values = staged.stages[k], linearization.stages[k]
        n, m = stage.state_size, stage.control_size
        own = staged.control_slices[k]
        width = size - own.start
        after = costates[k + 1][members] if k < staged.intervals else np.zeros((count, 0))
        lagrangian = np.hstack([after, multipliers[k][members]])
        l_xx, l_xw, l_ww = values.function.hessian_blocks(
            values.unknowns[:, members], values.given[:, members], lagrangian.T, n
        )
        transition = values.transition[members]
        a, bf = transition[:, :, :n], transition[:, :, n:]
        b, f = bf[:, :, :m], bf[:, :, m:]
        # `through` holds W_{k+1} in the columns of the later decisions; those of u^k are empty.
        if f.shape[2]:
            upper[own.stop : parameters.start, parameters] += _gram(
                through[:, :, m : width - f.shape[2]], f
            )
            upper[parameters, parameters] += _gram(through[:, :, width - f.shape[2] :], f)
            through[:, :, width - f.shape[2] :] += curvature @ f
        np.matmul(curvature, b, out=through[:, :, :m])
        upper[own, own.start :] += _gram(b, through)
        if f.shape[2]:
            upper[parameters, parameters] += _gram(f, through[:, :, width - f.shape[2] :])
        upper[own, own] += l_ww[:m, :m]
        upper[own, parameters] += l_ww[:m, m:]
        upper[parameters, parameters] += l_ww[m:, m:]
        if k == 0:
            break
        # W_k, with room in front for the columns of u^{k-1}.
        room = staged.control_slices[k - 1].stop - staged.control_slices[k - 1].start
        needed = count * n * (width + room)
        if spare.size < needed:
            spare = np.empty(count * n * size)
        mixed = spare[:needed].reshape(count, n, width + room)
        spare = _whole(through)
        _transport(a, through, mixed[:, :, room:])
        mixed[:, :, room : room + m] += l_xw[:, :, :m]
        mixed[:, :, width + room - l_xw.shape[2] + m :] += l_xw[:, :, m:]
        curvature = a.transpose(0, 2, 1) @ curvature @ a + l_xx
        through = mixed


def _whole(array: Array) -> Array:
    """The flat memory that an array is the beginning of."""
    base = array.base if array.base is not None else array
    return base.reshape(-1)


def _transport(transition: Array, later: Array, result: Array) -> None:
    """result_i = transition_i^T later_i, written into `result`.

    Products of small matrices one by one are slow; then whole columns of them are added up.
    """
    after, before = transition.shape[1:]
    if before * after > SMALL_PRODUCT or not after:
        np.matmul(transition.transpose(0, 2, 1), later, out=result)
        return
    for to in range(before):
        np.multiply(transition[:, 0, to, None], later[:, 0], out=result[:, to])
        for by in range(1, after):
            result[:, to] += transition[:, by, to, None] * later[:, by]


def _gram(left: Array, right: Array) -> Array:
    """sum_i left_i^T right_i as one matrix product."""
    rows = left.shape[0] * left.shape[1]
    return left.reshape(rows, left.shape[2]).T @ right.reshape(rows, right.shape[2])
