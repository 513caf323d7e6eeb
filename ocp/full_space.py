"""Conditions of a minimum with the states kept, for dynamics too unstable to eliminate them.

Where states grow by a factor G over the horizon, derivatives with the states eliminated carry
errors of G times rounding, and a residual relative to terms of size G says nothing. With the
states kept, every equation concerns neighbouring stages only. For given costates,

    costate^k = d l_k/dx + A_k^T costate^{k+1} + (d r_k/dx)^T y_k + bounds      (adjoint)
    0 = d L/du                                                                  (control)

are tested as they stand, and the second order by the inertia of the KKT matrix

    [ H  J^T ]
    [ J   0  ]     in states, controls, parameters, and multipliers of defects and active rows:

at a strict minimum it has as many positive eigenvalues as unknowns, and as many negative ones as
rows in J.

Source: Nocedal and Wright, Numerical Optimization, 2nd ed. (2006), theorem 16.3.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dsytrf, dsytrf_lwork

from ocp.condensing import Linearization, reduced_gradient
from ocp.multipliers import KKTMultipliers
from ocp.stages import Array

GROWTH = 1e8  # of derivatives over the horizon, beyond which the states are not eliminated
SIZE_LIMIT = 4000  # rows of the KKT matrix, whose factorisation takes 2e10 operations
SMALLEST_PIVOT = 1e-13  # relative to the largest; a smaller one is neither positive nor negative


def growth(linearization: Linearization) -> float:
    """How much a derivative is magnified on its way back over the stages, of any member."""
    staged, generator = linearization.staged, np.random.default_rng(0)
    largest = 1.0
    carried = np.zeros((staged.members, staged.stages[-1].state_size))
    for k in range(staged.intervals - 1, -1, -1):
        n = staged.stages[k].state_size
        # Whatever enters at a later stage has size 1 there, in a direction of no importance.
        entering = generator.choice([-1.0, 1.0], carried.shape)
        carried = np.where(np.abs(carried) < 1.0, entering, carried)
        carried = np.matmul(carried[:, None, :], linearization.stages[k].transition[:, :, :n])[:, 0]
        largest = max(largest, float(np.abs(carried).max(initial=0.0)))
        if largest > GROWTH:
            break
    return largest


def adjoint_terms(linearization: Linearization, multipliers: KKTMultipliers) -> list[tuple]:
    """Of every stage the right side of the adjoint equation, and the size of its terms."""
    staged, costates = linearization.staged, multipliers.costates
    found = []
    for k, values in enumerate(linearization.stages):
        n = staged.stages[k].state_size
        after = costates[k + 1] if k < staged.intervals else np.zeros((staged.members, 0))
        weights = np.hstack([after, multipliers.rows[k]])
        terms = weights[:, :, None] * values.jacobian[:, :, :n]
        bounds = multipliers.state_bounds[k]
        value = values.gradient[:, :n] + terms.sum(axis=1) + bounds
        size = np.abs(values.gradient[:, :n]) + np.abs(terms).sum(axis=1) + np.abs(bounds)
        found.append((value, size))
    return found


def stationarity(linearization: Linearization, multipliers: KKTMultipliers) -> float:
    """Largest residual of the adjoint and control equations, relative to their largest terms."""
    adjoints = adjoint_terms(linearization, multipliers)
    residual = [
        np.abs(value - multipliers.costates[k]).max(initial=0.0)
        for k, (value, _) in enumerate(adjoints)
        if k > 0
    ]
    size = max(float(terms.max(initial=0.0)) for _, terms in adjoints)
    gradient = reduced_gradient(linearization, multipliers.costates, multipliers.rows)
    of_controls = np.abs(gradient.value + multipliers.decision_bounds).max(initial=0.0)
    terms = max(
        float(gradient.terms.max(initial=0.0)),
        float(np.abs(multipliers.decision_bounds).max(initial=0.0)),
    )
    adjoint = max(residual, default=0.0) / size if size > 0 else 0.0
    control = of_controls / terms if terms > 0 else 0.0
    return float(max(adjoint, control))


def is_minimum(
    linearization: Linearization,
    multipliers: KKTMultipliers,
    held_rows: list[np.ndarray],
    held_states: list[np.ndarray],
    held_decisions: np.ndarray,
) -> bool | None:
    """Whether the KKT matrix has the inertia of a strict minimum; None if it is too large.

    Args:
        linearization: stages along the trajectory.
        multipliers: with costates.
        held_rows: masks of the rows that hold, of every stage (N, r), then of shared terms.
        held_states: masks of the states at a bound, of every stage (N, n).
        held_decisions: mask of the decisions at a bound.
    """
    staged = linearization.staged
    sizes = [0, *[staged.members * stage.state_size for stage in staged.stages[1:]]]
    offsets = np.cumsum(sizes)  # of the states of stage k + 1
    unknowns = int(offsets[-1]) + staged.decision_size
    rows = int(offsets[-1]) + sum(int(mask.sum()) for mask in held_rows)
    if unknowns + rows > SIZE_LIMIT:
        return None
    hessian, jacobian = np.zeros((unknowns, unknowns)), np.zeros((rows, unknowns))
    decisions = offsets[-1] + np.arange(staged.decision_size)
    position = int(offsets[-1])

    def place(k: int, i: int) -> np.ndarray:
        """Unknowns of member i at stage k; -1 for given states."""
        n = staged.stages[k].state_size
        own = np.full(n, -1) if k == 0 else offsets[k - 1] + n * i + np.arange(n)
        own_control = decisions[staged.control_slices[k]]
        return np.concatenate([own, own_control, decisions[staged.parameter_slice]])

    for k, values in enumerate(linearization.stages):
        last = k == staged.intervals
        after = np.zeros((staged.members, 0)) if last else multipliers.costates[k + 1]
        weights = np.hstack([after, multipliers.rows[k]])
        second = values.function.hessians(values.unknowns, values.given, weights.T)
        for i in range(staged.members):
            index = place(k, i)
            known = index >= 0
            own = index[known]
            hessian[np.ix_(own, own)] += second[i][np.ix_(known, known)]
            if not last:
                n = staged.stages[k + 1].state_size
                target = offsets[k] + n * i + np.arange(n)
                jacobian[np.ix_(target, own)] += values.transition[i][:, known]
                jacobian[target, target] -= 1.0
            for r in np.flatnonzero(held_rows[k][i]):
                jacobian[position, own] = values.row_jacobian[i, r][known]
                position += 1
    for s, (term, values) in enumerate(zip(staged.shared, linearization.shared, strict=True)):
        block = len(staged.stages) + s
        y = multipliers.rows[block]
        own = decisions[staged.shared_index(term)]
        second = values.function.hessians(values.unknowns, values.given, y.T)[0]
        hessian[np.ix_(own, own)] += second
        for r in np.flatnonzero(held_rows[block][0]):
            jacobian[position, own] = values.row_jacobian[0, r]
            position += 1
    states = [mask.ravel() for mask in held_states[1:]]
    free = ~np.concatenate([*states, held_decisions])
    used = jacobian[:, free].any(axis=1)
    kept = jacobian[np.ix_(used, free)]
    size = int(free.sum()) + len(kept)
    matrix = np.zeros((size, size))
    matrix[: int(free.sum()), : int(free.sum())] = hessian[np.ix_(free, free)]
    matrix[int(free.sum()) :, : int(free.sum())] = kept
    matrix[: int(free.sum()), int(free.sum()) :] = kept.T
    return _negative_eigenvalues(matrix) == len(kept)


def _negative_eigenvalues(matrix: Array) -> int:
    """How many, by a block factorisation (Sylvester's law of inertia); the matrix is overwritten.

    The factors are not formed: the blocks of order one and two that LAPACK leaves behind tell.
    """
    if not np.isfinite(matrix).all():
        raise FloatingPointError("the KKT matrix has entries that are not finite")
    sizes = np.sqrt(np.maximum(np.abs(matrix).max(axis=1, initial=0.0), np.finfo(float).tiny))
    matrix /= sizes[:, None]
    matrix /= sizes
    # A symmetric matrix is its transpose, whose order LAPACK takes without a copy.
    work = int(dsytrf_lwork(max(len(matrix), 1))[0])
    factors, pivots, _ = dsytrf(matrix.T, lower=1, lwork=work, overwrite_a=1)
    values = np.diag(factors).copy()
    first = np.flatnonzero(pivots < 0)[::2]  # of both rows of a block of order two
    below = factors[first + 1, first]
    mean, half = (values[first] + values[first + 1]) / 2, (values[first] - values[first + 1]) / 2
    radius = np.hypot(half, below)
    values[first], values[first + 1] = mean - radius, mean + radius
    largest = float(np.abs(values).max(initial=0.0))
    return int((values < -SMALLEST_PIVOT * largest).sum())
