"""Second-order steps and tests by the Riccati recursion, for many stages and few states.

Backwards over the stages, with V the second derivative of the cost-to-go in v = (x, p), where x
stacks the states of all members, and Q that of the stage's Lagrangian plus the cost-to-go of its
successor,

    Q_vv = L_vv + A^T V A,   Q_uv = L_uv + B^T V A,   Q_uu = L_uu + B^T V B
    V <- Q_vv - Q_vu Q_uu^{-1} Q_uv

Eliminating the controls one stage after the other is a block factorisation of the Hessian reduced
to the controls, so that Hessian is positive definite if and only if every pivot Q_uu is, and what
remains for p in the end. The work grows linearly with the number of stages.

Source: Rao, Wright and Rawlings, J. Optim. Theory Appl. 99 (1998), 723-757.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from ocp.condensing import Linearization, Multipliers
from ocp.reduced_hessian import shared_hessians
from ocp.stages import Array
from ocp.trust_region import Solver, Step, lanczos, trust_region_step

POWER_STEPS = 4  # of the power iteration that estimates the largest eigenvalue
MARGIN = 2.0  # factor on its estimate


def is_separable(linearization: Linearization) -> bool:
    """Whether every shared term concerns the control of one stage, as the recursion needs."""
    return all(len(term.stages) <= 1 for term in linearization.staged.shared)


def is_positive_definite(
    linearization: Linearization,
    costates: Sequence[Array],
    multipliers: Multipliers,
    free: np.ndarray,
) -> bool:
    """Whether the Lagrangian's Hessian reduced to the free decisions is positive definite.

    Args:
        linearization: stages along the trajectory, with separable shared terms.
        costates: of all stages.
        multipliers: of all rows.
        free: (decisions,) mask; the other decisions are held.
    """
    return RiccatiCurvature(linearization, costates, multipliers).pivots(0.0, free) is not None


@dataclass(frozen=True, eq=False)
class _Stage:
    """Derivatives of one stage: of the successor in (x, u, p), and second ones."""

    a: Array  # (N, n+, n)
    b: Array  # (N n+, m)
    f: Array  # (N n+, p)
    l_xx: Array  # (N, n, n)
    l_xu: Array  # (N n, m)
    l_xp: Array  # (N n, p)
    l_ww: Array  # (m + p, m + p), of all members and the shared terms


@dataclass(frozen=True, eq=False)
class _Pivot:
    """What the elimination of one control leaves behind."""

    factor: Array  # Cholesky factor of Q_uu
    q_uv: Array  # (m, N n + p)
    gain: Array  # Q_uu^{-1} Q_uv


@dataclass(frozen=True, eq=False)
class RiccatiCurvature:
    """The reduced Hessian as stages, with factorisations and products linear in their number.

    Args:
        linearization: stages along the trajectory, with separable shared terms.
        costates: of all stages.
        multipliers: of all rows.
    """

    linearization: Linearization
    costates: Sequence[Array]
    multipliers: Multipliers

    @cached_property
    def _shared(self) -> list[Array]:
        assert is_separable(self.linearization)
        return _shared_hessians(self.linearization, self.multipliers)

    @cached_property
    def _stages(self) -> list[_Stage]:
        staged, found = self.linearization.staged, []
        for k, values in enumerate(self.linearization.stages):
            n, m = staged.stages[k].state_size, staged.stages[k].control_size
            last = k == staged.intervals
            after = np.zeros((staged.members, 0)) if last else self.costates[k + 1]
            lagrangian = np.hstack([after, self.multipliers[k]])
            l_xx, l_xw, l_ww = values.function.hessian_blocks(
                values.unknowns, values.given, lagrangian.T, n
            )
            rows, transition = staged.members * n, np.ascontiguousarray(values.transition)
            width = transition.shape[2] - n
            bf = transition[:, :, n:].reshape(staged.members * transition.shape[1], width)
            mixed = l_xw.reshape(rows, width)
            found.append(
                _Stage(
                    transition[:, :, :n],
                    bf[:, :m],
                    bf[:, m:],
                    l_xx,
                    mixed[:, :m],
                    mixed[:, m:],
                    l_ww + self._shared[k],
                )
            )
        return found

    def pivots(self, shift: float, free: np.ndarray | None = None) -> list[_Pivot] | None:
        """Factors of H + shift I on the free decisions, the last of p; None if not positive."""
        staged = self.linearization.staged
        p, members = staged.parameter_size, staged.members
        v = np.zeros((p, p))  # of (x^{k+1}, p)
        v += self._shared[-1]
        pivots: list[_Pivot] = []
        for k in range(staged.intervals, -1, -1):
            stage = self._stages[k]
            n, after = stage.a.shape[2], stage.a.shape[1]
            m, size = stage.b.shape[1], members * n + p
            through = np.zeros((members * after + p, size))
            _blocks(through, stage.a)
            through[: members * after, members * n :] = stage.f
            through[members * after :, members * n :] = np.eye(p)
            onward = v @ through
            q_vv = through.T @ onward
            _add_blocks(q_vv, stage.l_xx)
            if p:
                q_vv[: members * n, members * n :] += stage.l_xp
                q_vv[members * n :, : members * n] += stage.l_xp.T
                q_vv[members * n :, members * n :] += stage.l_ww[m:, m:]
            if k < staged.intervals:
                b = stage.b if not p else np.vstack([stage.b, np.zeros((p, m))])
                q_uv = b.T @ onward
                q_uv[:, : members * n] += stage.l_xu.T
                q_uv[:, members * n :] += stage.l_ww[:m, m:]
                q_uu = b.T @ (v @ b) + stage.l_ww[:m, :m]
                q_uu.ravel()[:: m + 1] += shift
                if free is not None:
                    own = free[staged.control_slices[k]]
                    q_uv, q_uu = q_uv[own], q_uu[np.ix_(own, own)]
                pivot = _eliminate(q_uu, q_uv)
                if pivot is None:
                    return None
                pivots.append(pivot)
                q_vv -= q_uv.T @ pivot.gain
            v = q_vv
        remaining = v[len(v) - p :, len(v) - p :] + shift * np.eye(p)
        if free is not None:
            own = free[staged.parameter_slice]
            remaining = remaining[np.ix_(own, own)]
        pivot = _eliminate(remaining, np.zeros((len(remaining), 0)))
        if pivot is None:
            return None
        return [*pivots, pivot]

    def step(self, gradient: Array, radius: float, convex_only: bool) -> Step | None:
        """By factorisations."""
        return trust_region_step(self, gradient, radius, convex_only)

    def inverse(self) -> Solver | None:
        """By the recursion."""
        return self.factorize(0.0)

    def is_positive(self) -> bool:
        """By the pivots."""
        return self.pivots(0.0) is not None

    def factorize(self, shift: float) -> Solver | None:
        """By the recursion; each solution takes one sweep backwards and one forwards."""
        pivots = self.pivots(shift)
        return None if pivots is None else lambda b: self._solve(pivots, b)

    def _solve(self, pivots: list[_Pivot], b: Array) -> Array:
        staged = self.linearization.staged
        p, solution = staged.parameter_size, np.zeros_like(b)
        slope = np.zeros(p)  # of the cost-to-go in (x^{k+1}, p), of a problem with cost -b . w
        feed: list[Array] = []
        for k in range(staged.intervals, -1, -1):
            stage = self._stages[k]
            in_x, in_p = slope[: len(slope) - p], slope[len(slope) - p :]
            q_v = _pull(stage.a, in_x)
            if p:
                q_v = np.concatenate([q_v, in_p + stage.f.T @ in_x])
            if k < staged.intervals:
                pivot = pivots[staged.intervals - 1 - k]
                q_u = stage.b.T @ in_x - b[staged.control_slices[k]]
                feed.append(_back(pivot.factor, -q_u))
                q_v = q_v + pivot.q_uv.T @ feed[-1]
            slope = q_v
        state = np.zeros(slope.size)
        if p:
            own = staged.parameter_slice
            right = b[own] - slope[slope.size - p :]
            solution[own] = state[slope.size - p :] = _back(pivots[-1].factor, right)
        for k in range(staged.intervals):
            stage = self._stages[k]
            control = feed[-1 - k] - pivots[staged.intervals - 1 - k].gain @ state
            solution[staged.control_slices[k]] = control
            parameters = state[state.size - p :]
            after = _push(stage.a, state[: state.size - p]) + stage.b @ control
            state = after if not p else np.concatenate([after + stage.f @ parameters, parameters])
        return solution

    def product(self, vector: Array) -> Array:
        """H times a vector: the tangent forwards, its costates backwards."""
        staged = self.linearization.staged
        parameters = vector[staged.parameter_slice]
        state = np.zeros(staged.members * staged.stages[0].state_size)
        tangents = []
        for k, stage in enumerate(self._stages):
            control = vector[staged.control_slices[k]] if k < staged.intervals else vector[:0]
            tangents.append((state, np.concatenate([control, parameters])))
            state = _push(stage.a, state) + stage.b @ control + stage.f @ parameters
        result, costate = np.zeros_like(vector), np.zeros(0)
        own_p = staged.parameter_slice
        for k in range(staged.intervals, -1, -1):
            stage, (state, w) = self._stages[k], tangents[k]
            m = stage.b.shape[1]
            direct = stage.l_ww @ w
            in_u = direct[:m] + stage.l_xu.T @ state + stage.b.T @ costate
            result[own_p] += direct[m:] + stage.l_xp.T @ state + stage.f.T @ costate
            if k < staged.intervals:
                result[staged.control_slices[k]] = in_u
            costate = (
                _pull(stage.a, costate)
                + _push(stage.l_xx, state)
                + stage.l_xu @ w[:m]
                + stage.l_xp @ w[m:]
            )
        result[own_p] += self._shared[-1] @ parameters
        return result

    @cached_property
    def bound(self) -> float:
        """An estimate of the largest eigenvalue in size, by power iteration, with a margin."""
        vector = np.random.default_rng(0).standard_normal(self.linearization.staged.decision_size)
        length = 1.0
        for _ in range(POWER_STEPS):
            vector = self.product(vector / float(np.linalg.norm(vector)))
            length = float(np.linalg.norm(vector))
        return MARGIN * length

    @property
    def least_diagonal(self) -> float:
        """No bound is known."""
        return np.inf

    def least_curvature(self) -> Array:
        """By Lanczos."""
        return lanczos(self.product, self.linearization.staged.decision_size)


def _eliminate(q_uu: Array, q_uv: Array) -> _Pivot | None:
    if not q_uu.size:
        return _Pivot(q_uu, q_uv, q_uv)
    factor, failure = dpotrf(q_uu, lower=1)
    if failure or not np.isfinite(factor[-1, -1]):
        return None
    gain = dpotrs(factor, q_uv, lower=1)[0] if q_uv.size else q_uv
    return _Pivot(factor, q_uv, gain)


def _back(factor: Array, right: Array) -> Array:
    """Solution by a Cholesky factor."""
    return np.asarray(dpotrs(factor, right, lower=1)[0]) if right.size else right


def _blocks(target: Array, blocks: Array) -> None:
    """Write blocks (N, a, b) along the diagonal of the upper left corner."""
    members, a, b = blocks.shape
    for i in range(members):
        target[i * a : (i + 1) * a, i * b : (i + 1) * b] = blocks[i]


def _add_blocks(target: Array, blocks: Array) -> None:
    members, a, b = blocks.shape
    for i in range(members):
        target[i * a : (i + 1) * a, i * b : (i + 1) * b] += blocks[i]


def _push(blocks: Array, stacked: Array) -> Array:
    """Block diagonal times a vector."""
    members, _, b = blocks.shape
    return np.matmul(blocks, stacked.reshape(members, b, 1)).ravel()


def _pull(blocks: Array, stacked: Array) -> Array:
    """Block diagonal transposed times a vector."""
    members, a, _ = blocks.shape
    return np.matmul(stacked.reshape(members, 1, a), blocks).ravel()


def _shared_hessians(linearization: Linearization, multipliers: Multipliers) -> list[Array]:
    """Second derivatives of the shared terms in (u^k, p) of every stage, and in p alone last."""
    staged = linearization.staged
    p = staged.parameter_size
    sizes = [stage.control_size + p for stage in staged.stages]
    found = [np.zeros((size, size)) for size in [*sizes, p]]
    seconds = shared_hessians(linearization, multipliers)
    for term, second in zip(staged.shared, seconds, strict=True):
        place = term.stages[0] if term.stages else -1
        found[place] += second
    return found
