"""Radau IIA of high order with a sparse Jacobian, for stiff systems over [0, 1].

    Z_i = h sum_j a_ij F(theta + c_j h, y + Z_j),    i = 1, ..., s,    y^+ = y + Z_s,

by a simplified Newton method. With A^{-1} = T diag(lambda) T^{-1} its system falls apart into one
of the size of y for every eigenvalue, complex ones in conjugate pairs,

    (lambda_k / h - J) dW_k = (T^{-1} R)_k,    Z = T W,    R = F - A^{-1} Z / h.

The step follows the difference to an embedded formula of order s, filtered by the real eigenvalue.
Where each digit is dear at order 5, seven stages, of order 13, take a tenth of the steps.

Source: Hairer and Wanner, J. Comput. Appl. Math. 111 (1999), 93-111, and Solving Ordinary
Differential Equations II, section IV.8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.sparse import csc_matrix, identity
from scipy.sparse.linalg import splu

from ocp.runge_kutta import radau_iia
from ocp.stages import Array

STAGES = 7
MOST_ITERATIONS = 10  # of Newton's method in one step
SAFETY = 0.8  # on a new step
SMALLEST_FACTOR, LARGEST_FACTOR = 0.1, 10.0  # of a new step
SMALLEST_STEP = 1e-13  # of the unit interval, below which the integration has broken down

Rates = Callable[[Array, Array], Array]  # theta (q,), y (q, size) -> F (q, size)
Jacobian = Callable[[float, Array], csc_matrix]


@dataclass(frozen=True, eq=False)
class _Method:
    """Coefficients of the method, and of the difference to the embedded formula.

    Args:
        nodes: c, (s,).
        inverse: A^{-1}, (s, s).
        eigenvalues: of A^{-1}, the real one, then one of each pair of complex ones.
        into, back: rows of T^{-1} and columns of T of these; a pair counts twice its real part.
        first: weight of h F(theta, y) in the error.
        others: weights of Z in the error, (s,).
    """

    nodes: Array
    inverse: Array
    eigenvalues: np.ndarray
    into: np.ndarray
    back: np.ndarray
    first: float
    others: Array

    @classmethod
    @cache
    def of(cls, stages: int) -> _Method:
        """With an odd number of stages, so that A^{-1} has one real eigenvalue."""
        tableau = radau_iia(stages)
        inverse: Array = np.linalg.inv(tableau.a).astype(float)
        values, vectors = np.linalg.eig(inverse)
        into = np.linalg.inv(vectors)
        real = int(np.argmin(np.abs(values.imag)))
        kept = [real, *np.flatnonzero(values.imag > 1e-8 * np.abs(values)).tolist()]
        weights = np.where(np.arange(len(kept)) == 0, 1.0, 2.0)
        first = 1.0 / float(values[real].real)
        powers = np.arange(stages)
        moments = 1.0 / (powers + 1.0)
        moments[0] -= first
        embedded = np.linalg.solve(tableau.c ** powers[:, None], moments)
        others = (embedded - tableau.b) @ inverse
        back = vectors[:, kept] * weights
        return cls(tableau.c, inverse, values[kept], into[kept], back, first, others)


def integrate_stiff(
    rates: Rates, jacobian: Jacobian, initial: Array, accuracy: float, most_evaluations: int
) -> Array:
    """The state at 1; not a number where the integration breaks down.

    Args:
        rates: F at several points at once.
        jacobian: dF/dy, sparse.
        initial: y at 0, (size,), in units in which 1 is large.
        accuracy: of a step, relative to 1 + |y|, in the largest component.
        most_evaluations: of F, after which the integration counts as broken down.
    """
    method, failed = _Method.of(STAGES), np.full_like(initial, np.nan)
    y, theta, left = initial, 0.0, most_evaluations
    unit = identity(initial.size, format="csc")
    newton_accuracy = max(10 * np.finfo(float).eps / accuracy, accuracy**0.5)
    slope = rates(np.array([theta]), y[None])[0]
    scale = accuracy * (1.0 + np.abs(y))
    steepness = float(np.abs(slope / (1.0 + np.abs(y))).max(initial=0.0))
    step = min(1.0, 0.01 / steepness if steepness > 0 else 1.0)
    slopes = jacobian(theta, y)
    while theta < 1.0:
        step = min(step, 1.0 - theta)
        if not (step > SMALLEST_STEP and left > 0 and np.isfinite(slopes.data).all()):
            return failed
        last = theta + step >= 1.0
        try:
            shifts = [float(method.eigenvalues[0].real), *method.eigenvalues[1:]]
            solvers = [splu((shift / step * unit - slopes).tocsc()) for shift in shifts]
        except RuntimeError:  # exactly singular for this step
            step *= 0.5
            continue
        found, iterations = _newton(rates, method, solvers, theta, y, step, scale, newton_accuracy)
        left -= STAGES * iterations
        if found is None:
            step *= 0.5
            continue
        rest = method.others @ found / (method.first * step)
        error = np.asarray(solvers[0].solve(slope + rest))
        size = float(np.abs(error / scale).max(initial=0.0))
        if size > 1.0:  # once more, for components that are stiff
            again = rates(np.array([theta]), (y + error)[None])[0]
            left -= 1
            error = np.asarray(solvers[0].solve(again + rest))
            size = float(np.abs(error / scale).max(initial=0.0))
        factor = SAFETY * size ** (-1.0 / (STAGES + 1)) if size > 0 else LARGEST_FACTOR
        factor = min(max(factor, SMALLEST_FACTOR), LARGEST_FACTOR)
        if not size <= 1.0:
            step *= factor if np.isfinite(size) else SMALLEST_FACTOR
            continue
        theta, y = 1.0 if last else theta + step, y + found[-1]
        step *= factor
        if not last:
            slope, slopes = rates(np.array([theta]), y[None])[0], jacobian(theta, y)
            scale, left = accuracy * (1.0 + np.abs(y)), left - 1
    return y


def _newton(
    rates: Rates,
    method: _Method,
    solvers: list,
    theta: float,
    y: Array,
    step: float,
    scale: Array,
    accuracy: float,
) -> tuple[Array | None, int]:
    """Z of one step, or None where the iteration does not converge, and how many it took."""
    found, before = np.zeros((STAGES, y.size)), np.inf
    for iteration in range(1, MOST_ITERATIONS + 1):
        residual = rates(theta + step * method.nodes, y + found) - method.inverse @ found / step
        if not np.isfinite(residual).all():
            return None, iteration
        transformed = method.into @ residual
        parts = [solvers[0].solve(transformed[0].real).astype(complex)]
        parts += [s.solve(part) for s, part in zip(solvers[1:], transformed[1:], strict=True)]
        change = (method.back @ np.array(parts)).real
        found += change
        size = float(np.abs(change / scale).max(initial=0.0))
        ratio = size / before if np.isfinite(before) else 0.0
        if ratio >= 1.0 and size > accuracy:
            return None, iteration
        # What is still to come, if the changes go on falling at this ratio.
        left = ratio / (1.0 - ratio) * size if iteration > 1 and ratio < 1.0 else size
        if min(left, size) <= accuracy:
            return found, iteration
        before = size
    return None, MOST_ITERATIONS
