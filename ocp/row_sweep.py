"""The sweep backwards for the Hessian, by operations on rows of members.

The array that is carried has the components of x^{k+1} and, for each of them, a column for every
unknown that the cost-to-go depends on, with a number of every member:

    [ ..., P_{k+1}, W_{k+1} in columns u^{k+1}, ..., u^{K-1}, p ]

Before its columns those of u^k come next, and before them those of x^k, where P_{k+1} stood:

    T_k = P_{k+1} [A, B, F] + W_{k+1},        [P_k, W_k] = A^T T_k + L_xv.

Every entry of A, B and F that is not zero is one operation on rows of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocp.condensing import CALL_COLUMNS, Linearization, Multipliers
from ocp.stages import Array, StagedProblem, StageFunction


@dataclass(frozen=True, eq=False)
class Block:
    """Some members of a linearised problem, with all that their Lagrangian takes.

    Args:
        linearization: stages along the trajectory.
        costates: of all stages.
        multipliers: of all rows.
        members: which of them.
    """

    linearization: Linearization
    costates: Sequence[Array]
    multipliers: Multipliers
    members: slice

    @property
    def staged(self) -> StagedProblem:
        """The problem."""
        return self.linearization.staged

    @property
    def count(self) -> int:
        """Number of these members, M."""
        return int(self.members.stop - self.members.start)

    def lagrangian(self, k: int) -> Array:
        """Multipliers of the successor and of the rows of stage k, (n+ + r, M)."""
        rows = self.multipliers[k][self.members].T
        if k == self.staged.intervals:
            return rows
        return np.vstack([self.costates[k + 1][self.members].T, rows])


@dataclass(frozen=True, eq=False)
class Entries:
    """The derivatives of a stage that are not zero by its form.

    Args:
        rows, columns: of the entries of [A, B, F], by columns of (x, u, p).
        rounds: entries of [A, B] in groups that have no more than one in each column.
        transition: for every component of the state before, the entries of its column of A.
        by_control, by_parameter: for every component of the successor, its entries of B, and of F.
        upper: rows and columns of the second derivatives in (x, u, p), upper triangle.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    rounds: tuple[NDArray[np.intp], ...]
    transition: tuple[NDArray[np.intp], ...]
    by_control: tuple[NDArray[np.intp], ...]
    by_parameter: tuple[NDArray[np.intp], ...]
    upper: tuple[NDArray[np.intp], NDArray[np.intp]]

    @classmethod
    def of(cls, function: StageFunction, n: int, m: int) -> Entries:
        """For a state of size n and a control of size m."""
        (i, j), _, upper = function.patterns
        rows, columns = i[i < function.successor_size], j[i < function.successor_size]
        number = np.arange(rows.size)
        inner = number[columns < n + m]
        nth = (number - np.searchsorted(columns, columns))[inner]  # in its column; these are sorted
        is_control = (columns >= n) & (columns < n + m)
        after = range(function.successor_size)
        return cls(
            rows,
            columns,
            tuple(inner[nth == r] for r in range(int(nth.max(initial=-1)) + 1)),
            tuple(number[columns == b] for b in range(n)),
            tuple(number[is_control & (rows == a)] for a in after),
            tuple(number[(columns >= n + m) & (rows == a)] for a in after),
            upper,
        )


def entries_of(staged: StagedProblem) -> list[Entries]:
    """Of every stage; none of them may have local unknowns."""
    known: dict[tuple[int, int], Entries] = {}
    for stage in staged.stages:
        key = (id(stage.function), stage.state_size)
        if key not in known:
            known[key] = Entries.of(stage.function, stage.state_size, stage.control_size)
    return [known[id(stage.function), stage.state_size] for stage in staged.stages]


@dataclass(frozen=True)
class _Columns:
    """Where the unknowns (x, u, p) of a stage stand.

    Args:
        pad: columns of the carried array before those of the decisions.
        n, m: sizes of the state and of the control.
        own, parameters: the control and the parameters among the decisions.
    """

    pad: int
    n: int
    m: int
    own: slice
    parameters: slice

    @property
    def head(self) -> slice:
        """Columns of x and u in the carried array."""
        return slice(self.pad + self.own.start - self.n, self.pad + self.own.stop)

    def decision(self, unknowns: NDArray[np.intp]) -> NDArray[np.intp]:
        """Their places among the decisions; components of the state come before those of u."""
        inner = self.n + self.m
        last = self.parameters.start + unknowns - inner
        return np.where(unknowns < inner, self.own.start + unknowns - self.n, last)


def add_by_rows(upper: Array, block: Block, entries: list[Entries]) -> None:
    """Add what some members contribute to the upper triangle of the Hessian."""
    staged, count, stages = block.staged, block.count, block.linearization.stages
    seconds = _second_derivatives(block)
    pad = max(stage.state_size for stage in staged.stages)
    width = pad + staged.decision_size
    memory = [np.empty(pad * width * count) for _ in range(2)]
    spare = np.empty(width * count)
    after = np.zeros((0, width, count))
    for k in range(staged.intervals, -1, -1):
        stage, entry = staged.stages[k], entries[k]
        n, own = stage.state_size, staged.control_slices[k]
        at = _Columns(pad, n, stage.control_size, own, staged.parameter_slice)
        slopes = stages[k].jacobian[block.members][:, entry.rows, entry.columns].T
        _extend(upper, after, slopes, entry, at)
        for a, which in enumerate(entry.by_control):
            if which.size:
                j = at.decision(entry.columns[which])
                upper[j, own.start :] += slopes[which] @ after[a, pad + own.start :].T
        _add_second(upper, seconds[k], entry, at)
        if k == 0:
            break
        before = memory[k % 2][: n * width * count].reshape(n, width, count)
        _carry_back(after, before, slopes, entry, at, spare)
        _add_mixed(before, seconds[k], entry, at)
        after = before


def _second_derivatives(block: Block) -> list[Array]:
    """Entries of the upper triangle of every stage's Hessian, each (entries, M)."""
    staged, stages, found = block.staged, block.linearization.stages, dict[int, Array]()
    together = max(CALL_COLUMNS // max(block.count, 1), 1)
    for group in staged.batches():
        for start in range(0, len(group), together):
            part = group[start : start + together]
            seconds = stages[part[0]].function.vectorized("second")(
                np.hstack([stages[k].unknowns[:, block.members] for k in part]),
                np.hstack([stages[k].given[:, block.members] for k in part]),
                np.ones((1, 1)),
                np.hstack([block.lagrangian(k) for k in part]),
            )[0]
            parts = seconds.reshape(len(seconds), len(part), block.count).transpose(1, 0, 2)
            found.update(zip(part, parts, strict=True))
    return [found[k] for k in range(len(staged.stages))]


def _extend(upper: Array, after: Array, slopes: Array, entry: Entries, at: _Columns) -> None:
    """T_k from [P, W]; what the parameters have in common with later decisions is added on the way.

    H[., p] += W^T F, and among the parameters its transpose and F^T P F as well.
    """
    curvature = after[:, at.head.stop - len(after) : at.head.stop].copy()
    head = after[:, at.head]
    head[...] = 0.0
    for which in entry.rounds:
        head[:, entry.columns[which]] += curvature[:, entry.rows[which]] * slopes[which]
    parameters = [(a, which) for a, which in enumerate(entry.by_parameter) if which.size]
    for a, which in parameters:
        j = at.decision(entry.columns[which])
        upper[at.own.stop :, j] += after[a, at.head.stop :] @ slopes[which].T
    for a, which in parameters:
        for e, j in zip(which, at.decision(entry.columns[which]), strict=True):
            after[:, at.pad + j] += curvature[:, a] * slopes[e]
    for a, which in parameters:
        j = at.decision(entry.columns[which])
        upper[j, at.parameters] += slopes[which] @ after[a, at.pad + at.parameters.start :].T


def _carry_back(
    after: Array, before: Array, slopes: Array, entry: Entries, at: _Columns, spare: Array
) -> None:
    """A^T T_k, written into `before`."""
    for b, which in enumerate(entry.transition):
        target = before[b, at.head.start :]
        part = spare[: target.size].reshape(target.shape)
        if not which.size:
            target[...] = 0.0
        for c, e in enumerate(which):
            source = after[entry.rows[e], at.head.start :]
            np.multiply(source, slopes[e], out=part if c else target)
            if c:
                target += part


def _add_second(upper: Array, second: Array, entry: Entries, at: _Columns) -> None:
    """L_ww, in w = (u, p), summed over the members."""
    i, j = entry.upper
    own = i >= at.n
    upper[at.decision(i[own]), at.decision(j[own])] += second[own].sum(axis=1)


def _add_mixed(before: Array, second: Array, entry: Entries, at: _Columns) -> None:
    """L_xv, of which the upper triangle is given."""
    i, j = entry.upper
    mixed = i < at.n
    before[i[mixed], at.pad + at.decision(j[mixed])] += second[mixed]
    mirrored = (j < at.n) & (i != j)
    before[j[mirrored], at.pad + at.decision(i[mirrored])] += second[mirrored]
