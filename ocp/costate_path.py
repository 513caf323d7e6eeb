"""The costate of a solution on a grid as a function of time, inside the steps too.

With a_ij, b_i of a collocation method, and q_j = L_x + f_x^T P_j + (multipliers per time) g_x at
its stages, the adjoint method that belongs to it is

    P_i = p^{k+1} + h sum_j (a_ji b_j / b_i) q_j,
    p(t_k + theta h) = p^{k+1} + h sum_j q_j Int_theta^1 l_j.

On an arc along a constraint of the state the multipliers are those of single points, at which the
costate of the grid jumps, while that of the problem is continuous. There p is the polynomial
through the P_i alone, at which the conditions of the grid hold.

Source: Hager, Numer. Math. 87 (2000), 247-282.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.discretize import RowBlock, Transcription
from ocp.path import Path, Steps, integrated_lagrange, lagrange, member_columns
from ocp.reintegration import interpolate_rows
from ocp.stages import Array

MOST_UNKNOWNS = 400  # of the adjoint method in one step; more are interpolated between the nodes
JUMP = 1e-6  # of the costate at a node, relative to its largest value, that is more than rounding

Costates = Callable[[np.ndarray, Array], Array]  # steps (Q,) of a group, fractions (Q,): (Q, N, n)


@dataclass(frozen=True, eq=False)
class CostatePath:
    """The costate as a function of time.

    Args:
        groups: of every group of steps of the `Path`, its function.
        after: (K, N, n) on the right of the nodes at which the intervals begin; at the nodes
            themselves costates are those on the left.
        has_jump: (K+1,) at which nodes the two differ.
    """

    groups: tuple[Costates, ...]
    after: Array
    has_jump: NDArray[np.bool_]


def costate_path(
    path: Path,
    transcription: Transcription,
    costates: Array,
    multipliers: Iterable[tuple[int, RowBlock, Array]],
) -> CostatePath:
    """The costate inside the steps, by the adjoint method.

    Args:
        path: the solution as functions of time.
        transcription: how it was made discrete.
        costates: (K+1, N, n) at the nodes, for a cost to be minimised.
        multipliers: of all rows with their interval, each (N, rows), likewise.
    """
    kinds: dict[int, list[int]] = {}
    for k, tableau in enumerate(transcription.tableaux):
        kinds.setdefault(id(tableau), []).append(k)
    rows: dict[int, list[tuple[RowBlock, Array]]] = {}
    for k, block, y in multipliers:
        if block.stage is not None or block.is_inner:
            rows.setdefault(k, []).append((block, y))
    adjoints: list[_Adjoint | None] = []
    start = costates[:-1].copy()
    for group, intervals in zip(path.groups, kinds.values(), strict=True):
        unknowns = group.tableau.stages * costates.shape[2]
        if group.tableau.is_explicit or not group.tableau.b.all() or unknowns > MOST_UNKNOWNS:
            adjoints.append(None)
            continue
        terms = _Terms.of(path, group)
        placed = [(i, block, y) for i, k in enumerate(intervals) for block, y in rows.get(k, [])]
        terms.add_rows(placed, transcription, intervals)
        after = np.stack([costates[k + 1] for k in intervals])
        own = _Adjoint.of(group, terms, after, transcription.substeps)
        adjoints.append(own)
        start[intervals] = own.start
    jumps = np.abs(start - costates[:-1]).max(axis=(1, 2), initial=0.0)
    has_jump = np.append(jumps > JUMP * float(np.abs(costates).max(initial=0.0)), False)
    beside = has_jump[:-1] | has_jump[1:]
    functions = [
        _linear(path, group, costates)
        if own is None
        else own.path(np.tile(beside[intervals], transcription.substeps))
        for group, intervals, own in zip(path.groups, kinds.values(), adjoints, strict=True)
    ]
    return CostatePath(tuple(functions), start, has_jump)


def _linear(path: Path, group: Steps, costates: Array) -> Costates:
    """Between the nodes, for methods whose stages are no points of the solution."""
    nodes = path.trajectory.times
    assert nodes is not None

    def evaluate(steps: np.ndarray, theta: Array) -> Array:
        return interpolate_rows(nodes, costates, group.start[steps] + theta * group.length[steps])

    return evaluate


@dataclass(frozen=True, eq=False)
class _Terms:
    """Terms of the adjoint method in all G steps of a group, whose substeps follow one another.

    Args:
        path: the solution.
        group: the steps.
        jacobian: (G, s, N, n, n) of the dynamics in the state.
        slope: (G, s, N, n) of the running cost, and of rows by their multipliers per time.
        jumps: (G, N, n) of the costate at the ends of the steps, by rows that are taken there.
    """

    path: Path
    group: Steps
    jacobian: Array
    slope: Array
    jumps: Array

    @classmethod
    def of(cls, path: Path, group: Steps) -> _Terms:
        """Those of dynamics and running cost."""
        problem = path.problem
        count, s, members, n = group.points.shape
        cost = (-1.0 if problem.maximize else 1.0) * problem.running_cost
        expressions = [
            ca.jacobian(problem.dynamics, problem.state),
            ca.gradient(cost, problem.state),
        ]
        steps, stages = (part.ravel() for part in np.indices((count, s)))
        jacobian, slope = _evaluate(path, group, expressions, steps, stages)
        return cls(
            path,
            group,
            jacobian.reshape(count, s, members, n, n),
            slope.reshape(count, s, members, n),
            np.zeros((count, members, n)),
        )

    def add_rows(
        self,
        rows: list[tuple[int, RowBlock, Array]],
        transcription: Transcription,
        intervals: list[int],
    ) -> None:
        """Add rows that are taken at stages, or at the ends of substeps inside an interval.

        Args:
            rows: with the position of their interval, and multipliers (N, rows).
            transcription: whose rows they are.
            intervals: of the group.
        """
        tableau, group, count = self.group.tableau, self.group, len(intervals)
        kinds: dict[tuple[int, bool], list[tuple[int, int, Array]]] = {}
        expressions: dict[int, ca.SX] = {}
        for i, block, y in rows:
            sub, stage = _place(transcription, intervals[i], block)
            expressions[id(block.constraint)] = block.constraint.expression
            own = kinds.setdefault((id(block.constraint), stage is None), [])
            own.append((sub * count + i, 0 if stage is None else stage, y))
        for (key, at_end), own in kinds.items():
            steps, stages = (np.array([entry[j] for entry in own]) for j in (0, 1))
            y = np.stack([entry[2] for entry in own])
            jacobian = ca.jacobian(expressions[key], self.path.problem.state)
            slopes = _evaluate(self.path, group, [jacobian], steps, None if at_end else stages)[0]
            terms = np.einsum("qirn,qir->qin", slopes, y)
            if at_end:
                np.add.at(self.jumps, steps, terms)
            else:
                per_time = tableau.b[stages] * group.length[steps]
                np.add.at(self.slope, (steps, stages), terms / per_time[:, None, None])


def _evaluate(
    path: Path,
    group: Steps,
    matrices: list[ca.SX],
    steps: np.ndarray,
    stages: np.ndarray | None,
) -> list[Array]:
    """Matrices of the problem's symbols, each (Q, N, rows, columns), at stages of steps (Q,).

    Without stages, at the ends of the steps, with the control of the last stage.
    """
    problem = path.problem
    symbols = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
    function = ca.Function("terms", symbols, [ca.densify(ca.vec(m)) for m in matrices])
    if stages is None:
        times, states = group.start[steps] + group.length[steps], group.after[steps]
        controls = group.controls[steps, -1]
    else:
        times = group.start[steps] + group.tableau.c[stages] * group.length[steps]
        states, controls = group.points[steps, stages], group.controls[steps, stages]
    count, members, _ = states.shape
    columns = member_columns(problem, times, states, controls, path.trajectory.parameters)
    found = function.map(count * members).call(columns)
    return [
        part.full().T.reshape(count, members, m.size2(), m.size1()).transpose(0, 1, 3, 2)
        for part, m in zip(found, matrices, strict=True)
    ]


def _place(transcription: Transcription, k: int, block: RowBlock) -> tuple[int, int | None]:
    """Substep of interval k, and the stage in it, at which rows are taken; None at its end."""
    if block.stage is not None:
        return divmod(block.stage, transcription.tableaux[k].stages)
    step = transcription.grid.steps[k] / transcription.substeps
    return round((block.time - transcription.grid.nodes[k]) / step) - 1, None


@dataclass(frozen=True, eq=False)
class _Adjoint:
    """The adjoint method in all G steps of a group.

    Args:
        group: the steps.
        ends: (G, N, n) costates at their ends.
        rates: (G, s, N, n) the q_j.
        stages: (G, s, N, n) the P_i.
        start: (intervals, N, n) costates right after the nodes at which the intervals begin.
    """

    group: Steps
    ends: Array
    rates: Array
    stages: Array
    start: Array

    @classmethod
    def of(cls, group: Steps, terms: _Terms, after: Array, substeps: int) -> _Adjoint:
        """From the last substep of every interval to the first.

        Args:
            group: all steps.
            terms: of the method.
            after: (intervals, N, n) costates at the ends of the intervals.
            substeps: of every interval.
        """
        tableau, count = group.tableau, len(after)
        weights = tableau.a.T * tableau.b / tableau.b[:, None]  # a_ji b_j / b_i
        ends, rates = np.zeros_like(terms.jumps), np.zeros_like(terms.slope)
        for sub in reversed(range(substeps)):
            own = slice(sub * count, (sub + 1) * count)
            length = group.length[own]
            ends[own] = after + terms.jumps[own]
            rates[own] = _adjoint_rates(
                weights, length, terms.jacobian[own], terms.slope[own], ends[own]
            )
            moved = np.einsum("j,gjin->gin", tableau.b, rates[own])
            after = ends[own] + length[:, None, None] * moved
        moved = np.einsum("ij,gjkn->gikn", weights, rates)
        stages = ends[:, None] + group.length[:, None, None, None] * moved
        return cls(group, ends, rates, stages, after)

    def path(self, has_jumps: NDArray[np.bool_]) -> Costates:
        """The costate as a function of time; (G,) tells which steps are beside a jump."""
        nodes, lengths = self.group.tableau.c, self.group.length[:, None, None]
        whole = integrated_lagrange(nodes, np.ones(1))

        def evaluate(steps: np.ndarray, theta: Array) -> Array:
            left = whole - integrated_lagrange(nodes, theta)
            moved = np.einsum("qj,qjin->qin", left, self.rates[steps])
            smooth = self.ends[steps] + lengths[steps] * moved
            through = np.einsum("qj,qjin->qin", lagrange(nodes, theta), self.stages[steps])
            return np.where(has_jumps[steps][:, None, None], through, smooth)

        return evaluate


def _adjoint_rates(
    weights: Array, lengths: Array, jacobian: Array, slope: Array, ends: Array
) -> Array:
    """The q_j (G, s, N, n) of the adjoint method: q_i = L_x + f_x^T (p + h sum_j w_ij q_j)."""
    count, s, members, n = slope.shape
    transposed = jacobian.transpose(0, 2, 1, 4, 3)  # (G, N, s, n, n), f_x^T of every stage
    matrix = -lengths[:, None, None, None, None, None] * np.einsum(
        "ij,gkiab->gkiajb", weights, transposed
    )
    matrix = matrix.reshape(count, members, s * n, s * n) + np.eye(s * n)
    right = slope.transpose(0, 2, 1, 3) + np.einsum("gkiab,gkb->gkia", transposed, ends)
    found = np.linalg.solve(matrix, right.reshape(count, members, s * n, 1))
    return np.asarray(found.reshape(count, members, s, n).transpose(0, 2, 1, 3))
