"""Wide stages with few members: the Hessian on the few directions that it bends.

Where stages are affine in their control, and the control costs c_k |u^k|^2 / 2, the Hessian in the
decisions, states eliminated, is

    H = diag(c_k) + F,

and F sees of the control of stage k only the span of the rows of B_k = dPhi_k / du and of
S_k = d^2 L_k / dx du of all members, N (n_k + n_{k+1}) directions at most. With an orthonormal
basis Q_k of them (at the start, where the state is given, the rows of B_0 are enough), exactly

    H = Q (Q^T H Q) Q^T + sum_k c_k (1 - Q_k Q_k^T),

so that a matrix as small as Q^T H Q is all that is formed, factored, and searched for its smallest
eigenvalue. In a layer w s(x) + b of a network, these directions are those in which optimal weights
of rank N and their changes lie; m_k = n_{k+1} (n_k + 1), so this pays once 2 N is well below n.

Q^T H Q is summed forwards: with X_k the derivative of the state of stage k in the coordinates,

    Q^T H Q = diag(c) + sum_k sum_i ( X^T L_xx X + X^T [S Q, L_xp] + [S Q, L_xp]^T X + L_pp ).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ocp.condensing import Linearization, Multipliers
from ocp.eigenvalues import smallest_eigenvalue
from ocp.stages import Array, SharedTerm, StagedProblem
from ocp.trust_region import DenseCurvature, Solver, Step, trust_region_step

PAYS = 0.5  # share of the decisions that the directions may be
EQUAL = 1e-12  # relative difference of curvatures that are one c_k


def directions(staged: StagedProblem) -> int | None:
    """At most how many directions H bends; None if it is not of this form, or too many.

    Told from the structure alone; `compress` may still find that the costs c_k differ.
    """
    members, total = staged.members, staged.parameter_size
    for k, stage in enumerate(staged.stages[:-1]):
        i, j = stage.function.patterns[2]
        n, m = stage.state_size, stage.control_size
        after = staged.stages[k + 1].state_size
        in_control = (j >= n) & (j < n + m) & (i >= n) | (i >= n) & (i < n + m)
        if stage.function.local_size or in_control.any():
            return None
        total += min(members * (after if k == 0 else n + after), m)
    if not all(_is_diagonal(term) for term in staged.shared):
        return None
    return total if total <= PAYS * staged.decision_size else None


def _is_diagonal(term: SharedTerm) -> bool:
    i, j = term.function.patterns[2]
    return bool((i == j).all()) and not term.rows.weight.size


def compress(
    linearization: Linearization, costates: Sequence[Array], multipliers: Multipliers
) -> CompressedCurvature | None:
    """The Hessian at a point; None where it is not of this form, or would be as large."""
    staged = linearization.staged
    if directions(staged) is None:
        return None
    diagonal = _shared_diagonal(linearization, multipliers)
    rests = [diagonal[own] for own in staged.control_slices[:-1]]
    if any(np.ptp(c) > EQUAL * np.abs(c).max() for c in rests):
        return None
    bases, mixed, blocks = [], [], []
    for k, values in enumerate(linearization.stages):
        n, m = staged.stages[k].state_size, staged.stages[k].control_size
        after = costates[k + 1] if k < staged.intervals else np.zeros((staged.members, 0))
        lagrangian = np.hstack([after, multipliers[k]])
        l_xx, l_xw, l_ww = values.function.hessian_blocks(
            values.unknowns, values.given, lagrangian.T, n
        )
        blocks.append((l_xx, l_xw[:, :, m:], l_ww[m:, m:]))
        if k < staged.intervals:
            by_control = np.ascontiguousarray(values.transition[:, :, n : n + m])
            rows = by_control.reshape(-1, m)
            if k > 0:
                rows = np.vstack([rows, l_xw[:, :, :m].reshape(-1, m)])
            rows = rows[np.abs(rows).max(axis=1, initial=0.0) > 0]
            basis = np.linalg.qr(rows.T)[0]
            bases.append(basis)
            mixed.append((by_control @ basis, l_xw[:, :, :m] @ basis))
    sizes = [basis.shape[1] for basis in bases]
    ends = np.cumsum([0, *sizes]).tolist()
    parameters = slice(ends[-1], ends[-1] + staged.parameter_size)
    matrix = np.zeros((parameters.stop, parameters.stop))
    state = np.zeros((staged.members, staged.stages[0].state_size, parameters.stop))
    for k, (l_xx, l_xp, l_pp) in enumerate(blocks):
        flat = state.reshape(-1, parameters.stop)
        matrix += flat.T @ (l_xx @ state).reshape(-1, parameters.stop)
        beside = np.zeros_like(state)
        beside[:, :, parameters] = l_xp
        if k < staged.intervals:
            own = slice(ends[k], ends[k + 1])
            beside[:, :, own] = mixed[k][1]
        cross = flat.T @ beside.reshape(-1, parameters.stop)
        matrix += cross + cross.T
        matrix[parameters, parameters] += l_pp
        if k < staged.intervals:
            n, m = staged.stages[k].state_size, staged.stages[k].control_size
            transition = np.ascontiguousarray(linearization.stages[k].transition)
            state = transition[:, :, :n] @ state
            state[:, :, own] += mixed[k][0]
            state[:, :, parameters] += transition[:, :, n + m :]
    own_costs = [np.full(size, c[0]) for size, c in zip(sizes, rests, strict=True)]
    matrix[np.diag_indices_from(matrix)] += np.concatenate(
        [*own_costs, diagonal[staged.parameter_slice]]
    )
    return CompressedCurvature(
        staged, DenseCurvature((matrix + matrix.T) / 2), tuple(bases), tuple(c[0] for c in rests)
    )


def _shared_diagonal(linearization: Linearization, multipliers: Multipliers) -> Array:
    """Second derivatives of the shared terms, all of them on the diagonal, (decisions,)."""
    staged = linearization.staged
    diagonal = np.zeros(staged.decision_size)
    for s, (term, values) in enumerate(zip(staged.shared, linearization.shared, strict=True)):
        i, _ = values.function.patterns[2]
        y = multipliers[len(staged.stages) + s].T
        second = values.function.vectorized("second")(
            values.unknowns, values.given, np.ones((1, 1)), y
        )[0]
        diagonal[staged.shared_index(term)[i]] += second[:, 0]
    return diagonal


@dataclass(frozen=True, eq=False)
class CompressedCurvature:
    """H = Q inner Q^T + sum_k c_k (1 - Q_k Q_k^T).

    Args:
        staged: whose decisions they are.
        inner: Q^T H Q.
        bases: Q_k (m_k, q_k) of the intervals.
        rests: c_k.
    """

    staged: StagedProblem
    inner: DenseCurvature
    bases: tuple[Array, ...]
    rests: tuple[float, ...]
    _spare: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        # Curvatures of the directions that are left: none where the basis is complete.
        spare = [c for q, c in zip(self.bases, self.rests, strict=True) if q.shape[1] < q.shape[0]]
        object.__setattr__(self, "_spare", tuple(spare))

    def _inside(self, vector: Array) -> Array:
        """Q^T v."""
        slices = self.staged.control_slices
        parts = [q.T @ vector[s] for q, s in zip(self.bases, slices, strict=False)]
        return np.concatenate([*parts, vector[self.staged.parameter_slice]])

    def _combined(self, inside: Array, vector: Array, factors: Sequence[float]) -> Array:
        """Q a + sum_k factor_k (1 - Q_k Q_k^T) v."""
        result, start = np.empty_like(vector), 0
        slices = self.staged.control_slices
        for q, own, factor in zip(self.bases, slices, factors, strict=False):
            part = inside[start : start + q.shape[1]]
            rest = vector[own] - q @ (q.T @ vector[own])
            result[own] = q @ part + factor * rest
            start += q.shape[1]
        result[self.staged.parameter_slice] = inside[start:]
        return result

    @property
    def size(self) -> int:
        """Number of directions of Q."""
        return len(self.inner.matrix)

    @property
    def bound(self) -> float:
        """An upper bound of the eigenvalues' sizes."""
        return max(self.inner.bound, *(abs(c) for c in self._spare), 0.0)

    @property
    def least_diagonal(self) -> float:
        """The smallest u . H u of some unit vectors."""
        return min(self.inner.least_diagonal, *self._spare, np.inf)

    def factorize(self, shift: float) -> Solver | None:
        """By Cholesky of Q^T H Q + shift."""
        if any(c + shift <= 0 for c in self._spare):
            return None
        solve = self.inner.factorize(shift)
        if solve is None:
            return None
        factors = [1 / (c + shift) if c + shift > 0 else 0.0 for c in self.rests]
        return lambda b: self._combined(solve(self._inside(b)), b, factors)

    def step(self, gradient: Array, radius: float, convex_only: bool) -> Step | None:
        """By factorisations."""
        return trust_region_step(self, gradient, radius, convex_only)

    def inverse(self) -> Solver | None:
        """By Cholesky."""
        return self.factorize(0.0)

    def is_positive(self) -> bool:
        """By Cholesky."""
        return self.factorize(0.0) is not None

    def product(self, vector: Array) -> Array:
        """H times a vector."""
        return self._combined(self.inner.product(self._inside(vector)), vector, self.rests)

    def least_curvature(self) -> Array:
        """Of Q^T H Q, or outside of it where that curves less."""
        inside = self.inner.least_curvature()
        zero = np.zeros(self.staged.decision_size)
        vector = self._combined(inside, zero, self.rests)
        least = min(self._spare, default=np.inf)
        if float(inside @ self.inner.product(inside)) <= least:
            return vector
        k = self.rests.index(least)
        outside, own = zero.copy(), self.staged.control_slices[k]
        part = np.random.default_rng(0).standard_normal(len(self.bases[k]))
        part -= self.bases[k] @ (self.bases[k].T @ part)
        outside[own] = part / np.linalg.norm(part)
        return outside

    def smallest_eigenvalue(self) -> float:
        """Of H."""
        return min(smallest_eigenvalue(self.inner.matrix), *self._spare, np.inf)
