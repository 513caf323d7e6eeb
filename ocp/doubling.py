"""The dense Hessian by blocks of layers that are doubled, for narrow states.

For a block of layers s, ..., t - 1 and the controls u inside it, let

    E = dx^t / du,      R = d/du of the derivative of the cost-to-go in x^s,      Phi = dx^t / dx^s.

Of one layer these are B, L_xu + A^T P B and A, with P the second derivative of the cost-to-go in
the next state. Two neighbouring blocks meet in one product of matrices, a sum over members,

    H[left, right] = sum_i E_left^T R_right,

and make a block of twice the length,

    E = (Phi_right E_left, E_right),   R = (R_left, Phi_left^T R_right),   Phi = Phi_right Phi_left,

so that a column is carried log2 K times, not K times. Columns of the parameters, which are in all
layers, are those of a tangent sweep forwards and its adjoint,

    X^{k+1} = A X^k + F,      Y^k = A^T Y^{k+1} + L_xx X^k + L_xp,
    H[u^k, p] = sum_i B^T Y^{k+1} + L_ux X^k + L_up,
    H[p, p] = sum_ik F^T Y^{k+1} + L_px X^k + L_pp.

Arrays of derivatives have (layer, column, component of the state, member) for axes, and operations
run over all layers at once where they can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ocp.member_block import MemberBlock
from ocp.stages import Array, StagedProblem


def has_equal_layers(staged: StagedProblem) -> bool:
    """Whether all layers have states and controls of one size, and no local unknowns."""
    *layers, last = staged.stages
    sizes = {(stage.state_size, stage.control_size) for stage in layers}
    has_locals = any(stage.function.local_size for stage in staged.stages)
    return len(sizes) == 1 and last.state_size == layers[0].state_size and not has_locals


def add_by_doubling(upper: Array, block: MemberBlock) -> None:
    """Add what some members contribute to the upper triangle of the Hessian."""
    layers = _Layers.of(block)
    intervals, m, n, _ = layers.b.shape
    after = _cost_to_go(layers)
    through = _pull(after, layers.b)
    own = _gram(layers.b, through) + layers.uu
    for k in range(intervals):
        at = slice(k * m, (k + 1) * m)
        upper[at, at] += own[k]
    starts = layers.xu + _pull(layers.a, through)
    shape = (intervals * m, n, block.count)
    _meet(upper, layers.b.reshape(shape), starts.reshape(shape), layers.a)
    if layers.pp.size:
        _add_parameters(upper, layers)


@dataclass(frozen=True, eq=False)
class _Layers:
    """Derivatives of K layers with states of size n, controls of size m and q parameters.

    Args:
        a, b, f: of the successor in x (K, n, n, M), in u (K, m, n, M), in p (K, q, n, M).
        xx, xu, xp: of the Lagrangian in x and x (K + 1, n, n, M), in u and x (K, m, n, M), in p and
            x (K + 1, q, n, M).
        uu, up, pp: summed over members, (K, m, m), (K, m, q), and over layers, (q, q).
    """

    a: Array
    b: Array
    f: Array
    xx: Array
    xu: Array
    xp: Array
    uu: Array
    up: Array
    pp: Array

    @classmethod
    def of(cls, block: MemberBlock) -> _Layers:
        """Of some members of a linearised problem."""
        staged, count, intervals = block.staged, block.count, block.staged.intervals
        n, m = staged.stages[0].state_size, staged.stages[0].control_size
        inner, size = n + m, n + m + staged.parameter_size
        first = np.empty((intervals, size, n, count))
        for k, values in enumerate(block.linearization.stages[:-1]):
            first[k] = values.transition[block.members].transpose(2, 1, 0)
        second = np.zeros((intervals + 1, size, n, count))
        summed = np.zeros((intervals + 1, size, size))
        for stages, (rows, columns), entries in block.second_derivatives():
            shift = 0 if stages[0] < intervals else m  # the last stage has no control
            at = _as_slice(stages)
            for i, j, entry in zip(rows.tolist(), columns.tolist(), entries, strict=True):
                if i < n:
                    second[at, j if j < n else j + shift, i] = entry
                    if j < n:
                        second[at, i, j] = entry
                else:
                    i, j, total = i + shift, j + shift, entry.sum(axis=1)
                    summed[at, i, j] = summed[at, j, i] = total
        return cls(
            a=first[:, :n],
            b=first[:, n:inner],
            f=first[:, inner:],
            xx=second[:, :n],
            xu=second[:intervals, n:inner],
            xp=second[:, inner:],
            uu=summed[:intervals, n:inner, n:inner],
            up=summed[:intervals, n:inner, inner:],
            pp=summed[:, inner:, inner:].sum(axis=0),
        )


def _as_slice(stages: list[int]) -> slice | list[int]:
    """Stages that follow each other, as a slice."""
    first, last = stages[0], stages[-1]
    return slice(first, last + 1) if stages == list(range(first, last + 1)) else stages


def _push(phi: Array, columns: Array) -> Array:
    """Columns at the start of blocks as columns at their end, (K, columns, n, M)."""
    return np.asarray(np.einsum("kcam,kjcm->kjam", phi, columns))


def _pull(phi: Array, columns: Array) -> Array:
    """Slopes in the state at the end of blocks as slopes in that at their start."""
    return np.asarray(np.einsum("kbam,kjam->kjbm", phi, columns))


def _gram(left: Array, right: Array) -> Array:
    """Products of columns, summed over components and members, (K, left, right)."""
    rows, columns = (part.reshape(*part.shape[:2], -1) for part in (left, right))
    return np.matmul(rows, columns.swapaxes(1, 2))


def _cost_to_go(layers: _Layers) -> Array:
    """P of the states 1, ..., K, (K, n, n, M)."""
    after = np.empty_like(layers.xx[1:])
    after[-1] = layers.xx[-1]
    for k in range(len(after) - 1, 0, -1):
        a = layers.a[k : k + 1]
        after[k - 1] = _pull(a, _pull(after[k : k + 1], a))[0] + layers.xx[k]
    return after


def _meet(upper: Array, ends: Array, starts: Array, phi: Array) -> None:
    """Add the products of all blocks that meet; E and R, (columns, n, M), are used up.

    Blocks have the same number of columns, but for a rest that stands at the end, from column
    `rest` on. Nothing comes after it, so that its R is all that it takes.
    """
    total, length = len(ends), len(ends) // len(phi)
    rest = total
    while len(phi) > 1 or (len(phi) and rest < total):
        if len(phi) % 2:
            left, right = slice(rest - length, rest), slice(rest, total)
            if rest < total:
                upper[left, right] += _gram(ends[None, left], starts[None, right])[0]
                starts[right] = _pull(phi[-1:], starts[None, right])[0]
            rest = left.start
        pairs, width = len(phi) // 2, 2 * length
        if not pairs:
            break
        shape = (pairs, width, *ends.shape[1:])
        earlier = ends[: pairs * width].reshape(shape)[:, :length]
        later = starts[: pairs * width].reshape(shape)[:, length:]
        for pair, product in enumerate(_gram(earlier, later)):
            begin, middle = pair * width, pair * width + length
            upper[begin:middle, middle : begin + width] += product
        before, after = phi[0 : 2 * pairs : 2], phi[1 : 2 * pairs : 2]
        if pairs > 1 or rest < total:
            earlier[...], later[...] = _push(after, earlier), _pull(before, later)
        phi, length = _push(after, before), width


def _add_parameters(upper: Array, layers: _Layers) -> None:
    """Add the columns of the parameters, by a tangent sweep and its adjoint."""
    intervals, m, _, _ = layers.b.shape
    controls = intervals * m
    tangents = [np.zeros_like(layers.f[:1])]
    for k in range(intervals):
        tangents.append(_push(layers.a[k : k + 1], tangents[-1]) + layers.f[k : k + 1])
    x = np.concatenate(tangents)
    own = _pull(layers.xx, x) + layers.xp
    y = own[intervals:]
    upper[controls:, controls:] += layers.pp + _gram(layers.xp, x).sum(axis=0)
    for k in range(intervals - 1, -1, -1):
        at = slice(k * m, (k + 1) * m)
        upper[controls:, controls:] += _gram(layers.f[k : k + 1], y)[0]
        upper[at, controls:] += _gram(layers.b[k : k + 1], y)[0]
        upper[at, controls:] += _gram(layers.xu[k : k + 1], x[k : k + 1])[0] + layers.up[k]
        y = _pull(layers.a[k : k + 1], y) + own[k : k + 1]
