"""The sweep backwards for the Hessian, by a product of matrices for each member.

With A, B, F the derivatives of a stage's successor in (x, u, p), P_k the second derivative of a
member's cost-to-go in its state, and W_k its mixed derivative in the state and the later decisions,

    T_k = P_{k+1} [A, B, 0, F] + [0, 0, W_{k+1}]       in columns x^k, u^k, ..., u^{K-1}, p
    H[u^k, .] = sum_i B^T T_k + L_uv,        [P_k, W_k] = A^T T_k + L_xv

where L is the stage's Lagrangian. The sum over members is a product of matrices. It takes the
entries of B that are not zero alone: a weight of a layer moves one component of the state, so that
this saves a factor of the width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocp.member_block import MemberBlock
from ocp.stages import Array, StagedProblem

ByComponent = tuple[NDArray[np.intp], ...]  # for every component of the successor, its controls


def controls_by_component(staged: StagedProblem) -> list[ByComponent]:
    """Of every stage, the controls that each component of the successor depends on directly."""
    known: dict[tuple[int, int], ByComponent] = {}
    for stage in staged.stages:
        function, n, m = stage.function, stage.state_size, stage.control_size
        key = (id(function), n)
        if key not in known:
            (i, j), _, _ = function.patterns
            is_control = (j >= n) & (j < n + m)
            known[key] = tuple(j[is_control & (i == a)] - n for a in range(function.successor_size))
    return [known[id(stage.function), stage.state_size] for stage in staged.stages]


def add_by_members(upper: Array, block: MemberBlock, direct: list[ByComponent] | None) -> None:
    """Add what some members contribute to the upper triangle, by a product for each member.

    Args:
        upper: (decisions, decisions).
        block: the members.
        direct: of every stage, see `controls_by_component`; None if all of B counts.
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
        transition = np.ascontiguousarray(values.transition[members])
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
        if direct is None:
            upper[own, own.start :] += _gram(b, through)
        else:
            for row, j in enumerate(direct[k]):
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
