"""The dense Hessian of the Lagrangian in the decisions, by one sweep backwards.

With A, B, F the derivatives of a stage's successor in (x, u, p), P_k the second derivative of a
member's cost-to-go in its state, and W_k its mixed derivative in the state and the later decisions,

    T_k = P_{k+1} [A, B, 0, F] + [0, 0, W_{k+1}]       in columns x^k, u^k, ..., u^{K-1}, p
    H[u^k, .] = sum_i B^T T_k + L_uv,        [P_k, W_k] = A^T T_k + L_xv

where L is the stage's Lagrangian. The sum over members is a product of matrices. It takes the
entries of B that are not zero alone: a weight of a layer moves one component of the state, so that
this saves a factor of the width.

Narrow states are carried back by operations on whole rows of members (`row_sweep`), wide ones by a
product of matrices for each member.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ocp.condensing import Linearization, Multipliers
from ocp.row_sweep import Block, Entries, add_by_rows, entries_of
from ocp.stages import Array

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
    count = max(BLOCK_ENTRIES // max(widest * size, 1), LEAST_BLOCK)
    is_explicit = not any(stage.function.local_size for stage in staged.stages)
    entries = entries_of(staged) if is_explicit else None
    for start in range(0, staged.members, count):
        members = slice(start, min(start + count, staged.members))
        block = Block(linearization, costates, multipliers, members)
        if entries is not None and widest <= NARROW:
            add_by_rows(upper, block, entries)
        else:
            _add_by_members(upper, block, entries)
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


def _add_by_members(upper: Array, block: Block, entries: list[Entries] | None) -> None:
    """Add what some members contribute to the upper triangle, by a product for each member.

    Without entries, all of B counts.
    """
    staged, linearization, members = block.staged, block.linearization, block.members
    size, parameters = staged.decision_size, staged.parameter_slice
    count = block.count
    n, free = staged.stages[-1].state_size, slice(parameters.start, size)
    curvature = np.zeros((count, 0, 0))
    through = np.zeros((count, 0, size - free.start))  # T_k in columns (u^k, ..., u^{K-1}, p)
    spare = np.zeros(0)
    for k in range(staged.intervals, -1, -1):
        stage, values = staged.stages[k], linearization.stages[k]
        n, m = stage.state_size, stage.control_size
        own = staged.control_slices[k]
        width = size - own.start
        l_xx, l_xw, l_ww = values.function.hessian_blocks(
            values.unknowns[:, members], values.given[:, members], block.lagrangian(k), n
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
        if entries is None:
            upper[own, own.start :] += _gram(b, through)
        else:
            for row, which in enumerate(entries[k].by_control):
                j = entries[k].columns[which] - n
                upper[own.start + j, own.start :] += b[:, row, j].T @ through[:, row]
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
