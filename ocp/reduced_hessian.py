"""The dense Hessian of the Lagrangian in the decisions, by one sweep backwards.

With A, B, F the derivatives of a stage's successor in (x, u, p), P_k the second derivative of a
member's cost-to-go in its state, and W_k its mixed derivative in the state and the later decisions,

    T_k = P_{k+1} [A, B, 0, F] + [0, 0, W_{k+1}]       in columns x^k, u^k, ..., u^{K-1}, p
    H[u^k, .] = sum_i B^T T_k + L_uv,        [P_k, W_k] = A^T T_k + L_xv

where L is the stage's Lagrangian. The sum over members is a product of matrices. It takes the
entries of B that are not zero alone: a weight of a layer moves one component of the state, so that
this saves a factor of the width.

Narrow states are carried back by operations on whole rows of members, wide ones by a product of
matrices for each member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocp.condensing import CALL_COLUMNS, Linearization, Multipliers
from ocp.stages import Array, StagedProblem, StageFunction

# Numbers in the largest array of a sweep, small enough for the cache to help.
BLOCK_ENTRIES = 240_000
LEAST_BLOCK = 16  # members in a block
MIRROR_BLOCK = 64  # rows
NARROW = 3  # size of the state up to which operations are on rows of members


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
    is_explicit = not any(stage.function.local_size for stage in staged.stages)
    entries = _entries(staged) if is_explicit else []
    add = _add_narrow if widest <= NARROW and is_explicit else _add_wide
    for start in range(0, staged.members, block):
        members = slice(start, min(start + block, staged.members))
        add(upper, linearization, costates, multipliers, members, entries)
    seconds = shared_hessians(linearization, multipliers)
    for term, second in zip(staged.shared, seconds, strict=True):
        index = staged.shared_index(term)
        # The unknowns of a term stand in increasing order among the decisions.
        i, j = term.function.patterns[2]
        upper[index[i], index[j]] += second[i, j]
    _mirror(upper)
    return upper


def _mirror(matrix: Array) -> None:
    """Copy the upper triangle to the lower one, by blocks that fit into the cache."""
    for start in range(0, len(matrix), MIRROR_BLOCK):
        stop = start + MIRROR_BLOCK
        own = matrix[start:stop, start:stop]
        own[...] = np.triu(own) + np.triu(own, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T


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


@dataclass(frozen=True, eq=False)
class _Entries:
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
    def of(cls, function: StageFunction, n: int, m: int) -> _Entries:
        """For a state of size n and a control of size m; no local unknowns."""
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


def _entries(staged: StagedProblem) -> list[_Entries]:
    """Of every stage."""
    known: dict[tuple[int, int], _Entries] = {}
    for stage in staged.stages:
        key = (id(stage.function), stage.state_size)
        if key not in known:
            known[key] = _Entries.of(stage.function, stage.state_size, stage.control_size)
    return [known[id(stage.function), stage.state_size] for stage in staged.stages]


def _second_derivatives(
    linearization: Linearization,
    costates: Sequence[Array],
    multipliers: Multipliers,
    members: slice,
) -> list[Array]:
    """Entries of the upper triangle of every stage's Hessian, each (entries, members)."""
    staged, found = linearization.staged, dict[int, Array]()
    count = members.stop - members.start
    together = max(CALL_COLUMNS // max(count, 1), 1)
    for group in staged.batches():
        for start in range(0, len(group), together):
            part = group[start : start + together]
            values = [linearization.stages[k] for k in part]
            lagrangian = [multipliers[k][members].T for k in part]
            if part[-1] < staged.intervals:
                after = [costates[k + 1][members].T for k in part]
                lagrangian = [np.vstack(both) for both in zip(after, lagrangian, strict=True)]
            seconds = values[0].function.vectorized("second")(
                np.hstack([v.unknowns[:, members] for v in values]),
                np.hstack([v.given[:, members] for v in values]),
                np.ones((1, 1)),
                np.hstack(lagrangian),
            )[0]
            parts = seconds.reshape(len(seconds), len(part), count).transpose(1, 0, 2)
            found.update(zip(part, parts, strict=True))
    return [found[k] for k in range(len(staged.stages))]


def _add_narrow(
    upper: Array,
    linearization: Linearization,
    costates: Sequence[Array],
    multipliers: Multipliers,
    members: slice,
    entries: list[_Entries],
) -> None:
    """Add what some members contribute to the upper triangle, by rows of members.

    The columns of P_{k+1} stand before those of u^{k+1}, where those of u^k come next.
    """
    staged, stages = linearization.staged, linearization.stages
    size, parameters = staged.decision_size, staged.parameter_slice
    count = members.stop - members.start
    seconds = _second_derivatives(linearization, costates, multipliers, members)
    pad = max(stage.state_size for stage in staged.stages)
    memory = [np.empty(pad * (pad + size) * count) for _ in range(2)]
    spare = np.empty((pad + size) * count)

    def columns(k: int) -> Array:
        """The array that is carried, in components of x^k."""
        n = staged.stages[k].state_size
        return memory[k % 2][: n * (pad + size) * count].reshape(n, pad + size, count)

    after, p = np.zeros((0, pad + size, count)), slice(pad + parameters.start, pad + size)
    for k in range(staged.intervals, -1, -1):
        stage, entry, second = staged.stages[k], entries[k], seconds[k]
        n, m, own = stage.state_size, stage.control_size, staged.control_slices[k]
        first, stop = pad + own.start - n, pad + own.stop
        slopes = stages[k].jacobian[members][:, entry.rows, entry.columns].T
        curvature = after[:, stop - len(after) : stop].copy()
        head = after[:, first:stop]  # columns of x^k and u^k
        covered = entry.rounds[0] if entry.rounds else np.zeros(0, dtype=int)
        if covered.size < n + m:
            head[...] = 0.0
        for r, which in enumerate(entry.rounds):
            products = curvature[:, entry.rows[which]] * slopes[which]
            if r:
                head[:, entry.columns[which]] += products
            else:
                head[:, entry.columns[which]] = products
        for a, which in enumerate(entry.by_parameter):
            if which.size:
                j = parameters.start + entry.columns[which] - n - m
                # W F, its transpose among the parameters, and then F (W + P F).
                later = after[a, pad + own.stop :] @ slopes[which].T
                upper[own.stop :, j] += later
        for a, which in enumerate(entry.by_parameter):
            for e in which:
                after[:, pad + parameters.start + entry.columns[e] - n - m] += (
                    curvature[:, a] * slopes[e]
                )
        for a, which in enumerate(entry.by_parameter):
            if which.size:
                j = parameters.start + entry.columns[which] - n - m
                upper[j, parameters] += slopes[which] @ after[a, p].T
        for a, which in enumerate(entry.by_control):
            if which.size:
                j = own.start + entry.columns[which] - n
                upper[j, own.start :] += slopes[which] @ after[a, pad + own.start :].T
        i, j = entry.upper
        at = np.where(j < n + m, own.start + j - n, parameters.start + j - n - m)
        in_w = i >= n
        row = np.where(i < n + m, own.start + i - n, parameters.start + i - n - m)
        upper[row[in_w], at[in_w]] += second[in_w].sum(axis=1)
        if k == 0:
            break
        before = columns(k)
        for b, which in enumerate(entry.transition):
            target = before[b, first:]
            if not which.size:
                target[...] = 0.0
            for c, e in enumerate(which):
                source = after[entry.rows[e], first:]
                if not c:
                    np.multiply(source, slopes[e], out=target)
                else:
                    part = spare[: target.size].reshape(target.shape)
                    np.multiply(source, slopes[e], out=part)
                    target += part
        mixed = i < n
        before[i[mixed], pad + at[mixed]] += second[mixed]
        mirrored = mixed & (j < n) & (i != j)
        before[j[mirrored], first + i[mirrored]] += second[mirrored]
        after = before


def _add_wide(
    upper: Array,
    linearization: Linearization,
    costates: Sequence[Array],
    multipliers: Multipliers,
    members: slice,
    entries: list[_Entries],
) -> None:
    """The same by a product of matrices for each member."""
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
        for a_row, which in enumerate(entries[k].by_control if entries else ()):
            j = own.start + entries[k].columns[which] - n
            upper[j, own.start :] += b[:, a_row, j - own.start].T @ through[:, a_row]
        if not entries:
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
        np.matmul(a.transpose(0, 2, 1), through, out=mixed[:, :, room:])
        mixed[:, :, room : room + m] += l_xw[:, :, :m]
        mixed[:, :, width + room - l_xw.shape[2] + m :] += l_xw[:, :, m:]
        curvature = a.transpose(0, 2, 1) @ curvature @ a + l_xx
        through = mixed


def _whole(array: Array) -> Array:
    """The flat memory that an array is the beginning of."""
    base = array.base if array.base is not None else array
    return base.reshape(-1)


def _gram(left: Array, right: Array) -> Array:
    """sum_i left_i^T right_i as one matrix product."""
    rows = left.shape[0] * left.shape[1]
    return left.reshape(rows, left.shape[2]).T @ right.reshape(rows, right.shape[2])
