"""Second-order test by the Riccati recursion, for many stages and few states.

Backwards over the stages, with P the second derivative of the cost-to-go in the stacked state of
all members and in p, and Q that of the stage's Lagrangian plus the cost-to-go of its successor,

    P_k = Q_vv - Q_vu Q_uu^{-1} Q_uv,    v = (x, p).

Eliminating the controls one stage after the other is a block factorisation of the Hessian reduced
to the controls, so that Hessian is positive definite if and only if every pivot Q_uu is, and what
remains for p in the end. The work grows linearly with the number of stages.

Source: Rao, Wright and Rawlings, J. Optim. Theory Appl. 99 (1998), 723-757.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import LinAlgError, block_diag, cho_factor, cho_solve

from ocp.condensing import Linearization, Multipliers
from ocp.stages import Array


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
    staged = linearization.staged
    assert is_separable(linearization)
    shared = _shared_hessians(linearization, multipliers)
    parameters = staged.parameter_size
    p_xx, p_xp, p_pp = np.zeros((0, 0)), np.zeros((0, parameters)), shared[-1]
    for k in range(staged.intervals, -1, -1):
        stage, values = staged.stages[k], linearization.stages[k]
        n, m = stage.state_size, stage.control_size
        after = costates[k + 1] if k < staged.intervals else np.zeros((staged.members, 0))
        second = values.function.hessians(
            values.unknowns, values.given, np.hstack([after, multipliers[k]]).T
        )
        a, b, f = np.split(values.transition, [n, n + m], axis=2)
        rows_before, rows_after = staged.members * n, staged.members * a.shape[1]
        stacked = block_diag(*a).reshape(rows_after, rows_before)
        b, f = b.reshape(rows_after, m), f.reshape(rows_after, parameters)
        through_p = p_xx @ f + p_xp
        q_xx = block_diag(*second[:, :n, :n]) + stacked.T @ p_xx @ stacked
        q_xu = second[:, :n, n : n + m].reshape(rows_before, m) + stacked.T @ p_xx @ b
        q_xp = second[:, :n, n + m :].reshape(rows_before, parameters) + stacked.T @ through_p
        direct = second[:, n:, n:].sum(axis=0) + shared[k]
        q_uu = direct[:m, :m] + b.T @ p_xx @ b
        q_up = direct[:m, m:] + b.T @ through_p
        q_pp = p_pp + direct[m:, m:] + f.T @ through_p + p_xp.T @ f
        own = free[staged.control_slices[k]]
        q_uv = np.hstack([q_xu.T, q_up])[own]
        try:
            factor = cho_factor(q_uu[np.ix_(own, own)], lower=True)
        except LinAlgError:
            return False
        correction = q_uv.T @ cho_solve(factor, q_uv) if own.any() else 0.0
        v = np.block([[q_xx, q_xp], [q_xp.T, q_pp]]) - correction
        size = len(q_xx)
        p_xx, p_xp, p_pp = v[:size, :size], v[:size, size:], v[size:, size:]
    remaining = p_pp[np.ix_(free[staged.parameter_slice], free[staged.parameter_slice])]
    return not remaining.size or bool(np.linalg.eigvalsh(remaining)[0] > 0.0)


def _shared_hessians(linearization: Linearization, multipliers: Multipliers) -> list[Array]:
    """Second derivatives of the shared terms in (u^k, p) of every stage, and in p alone last."""
    staged = linearization.staged
    p = staged.parameter_size
    sizes = [stage.control_size + p for stage in staged.stages]
    found = [np.zeros((size, size)) for size in [*sizes, p]]
    for s, (term, values) in enumerate(zip(staged.shared, linearization.shared, strict=True)):
        y = multipliers[len(staged.stages) + s]
        place = term.stages[0] if term.stages else -1
        found[place] += values.function.hessians(values.unknowns, values.given, y.T)[0]
    return found
