"""Second-order steps by Hessian-vector products, where neither K m nor N n is small.

A product takes one tangent sweep forwards and its adjoint backwards,

    dx^{k+1} = A dx + B du + F dp,
    dlambda^k = A^T dlambda^{k+1} + L_xx dx + L_xu du + L_xp dp,
    (H w)[u^k] = sum_i B^T dlambda^{k+1} + L_ux dx + L_uu du + L_up dp,

on second derivatives that are taken once for all products at a point. The step in the trust region
comes from conjugate gradients, cut off at the boundary, at negative curvature, and once the
residual is small beside the gradient.

Source: Steihaug, SIAM J. Numer. Anal. 20 (1983), 626-637.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ocp.condensing import Linearization, Multipliers
from ocp.reduced_hessian import shared_hessians
from ocp.stages import Array
from ocp.trust_region import Solver, Step, to_boundary

FORCING = 1e-3  # residual, relative to the gradient, at which conjugate gradients stop
MOST_PRODUCTS = 2000  # in one step


@dataclass(frozen=True, eq=False)
class ProductCurvature:
    """The reduced Hessian in the free decisions, known by its products.

    Args:
        linearization: stages along the trajectory.
        costates: of all stages.
        multipliers: of all rows.
        free: (decisions,) mask; the others are held.
    """

    linearization: Linearization
    costates: Sequence[Array]
    multipliers: Multipliers
    free: NDArray[np.bool_]

    @cached_property
    def _seconds(self) -> list[tuple[Array, Array, Array]]:
        """Of every stage L_xx (N, n, n), L_xw (N, n, w) and L_ww (w, w)."""
        staged, found = self.linearization.staged, []
        for k, values in enumerate(self.linearization.stages):
            last = k == staged.intervals
            after = np.zeros((staged.members, 0)) if last else self.costates[k + 1]
            lagrangian = np.hstack([after, self.multipliers[k]])
            found.append(
                values.function.hessian_blocks(
                    values.unknowns, values.given, lagrangian.T, staged.stages[k].state_size
                )
            )
        return found

    @cached_property
    def _shared(self) -> list[tuple[NDArray, Array]]:
        """Positions among the decisions and second derivatives of every shared term."""
        staged = self.linearization.staged
        indices = [staged.shared_index(term) for term in staged.shared]
        seconds = shared_hessians(self.linearization, self.multipliers)
        return list(zip(indices, seconds, strict=True))

    def product(self, vector: Array) -> Array:
        """H times a vector of the free decisions."""
        staged, stages = self.linearization.staged, self.linearization.stages
        whole = np.zeros(staged.decision_size)
        whole[self.free] = vector
        parameters = whole[staged.parameter_slice]
        tangent = np.zeros((staged.members, staged.stages[0].state_size))
        tangents = []
        for k, values in enumerate(stages):
            w = np.concatenate([whole[staged.control_slices[k]], parameters])
            tangents.append((tangent, w))
            n = tangent.shape[1]
            jacobian = values.transition
            tangent = np.matmul(jacobian[:, :, :n], tangent[:, :, None])[:, :, 0]
            tangent += jacobian[:, :, n:] @ w
        result = np.zeros_like(whole)
        costate = np.zeros((staged.members, 0))
        for k in range(staged.intervals, -1, -1):
            (tangent, w), (l_xx, l_xw, l_ww) = tangents[k], self._seconds[k]
            jacobian, n = stages[k].transition, tangent.shape[1]
            m = staged.stages[k].control_size
            slopes = l_ww @ w + np.tensordot(tangent, l_xw, axes=2)
            slopes += np.tensordot(costate, jacobian[:, :, n:], axes=2)
            result[staged.control_slices[k]] += slopes[:m]
            result[staged.parameter_slice] += slopes[m:]
            costate = np.matmul(costate[:, None, :], jacobian[:, :, :n])[:, 0]
            costate = costate + np.matmul(l_xx, tangent[:, :, None])[:, :, 0] + l_xw @ w
        for index, second in self._shared:
            result[index] += second @ whole[index]
        return result[self.free]

    def inverse(self) -> Solver | None:
        """None: it would take a sequence of products."""
        return None

    def is_positive(self) -> bool:
        """Not known without a factorisation; the certificate tests it."""
        return True

    def step(self, gradient: Array, radius: float, convex_only: bool) -> Step | None:
        """By conjugate gradients."""
        step, residual = np.zeros_like(gradient), gradient.copy()
        direction, square = -gradient, float(gradient @ gradient)
        goal = FORCING * np.sqrt(square)
        image = np.zeros_like(gradient)  # H times the step
        for _ in range(MOST_PRODUCTS):
            product = self.product(direction)
            curvature = float(direction @ product)
            if curvature <= 0.0 and convex_only:
                return None
            length = square / curvature if curvature > 0 else np.inf
            inside = curvature > 0 and float(np.linalg.norm(step + length * direction)) < radius
            if not inside:
                length = to_boundary(step, direction, radius)
            step, image = step + length * direction, image + length * product
            if not inside:
                return Step(step, _reduction(gradient, step, image), 1.0, curvature > 0)
            residual = residual + length * product
            before, square = square, float(residual @ residual)
            if np.sqrt(square) <= goal:
                break
            direction = square / before * direction - residual
        return Step(step, _reduction(gradient, step, image), 0.0, True)


def _reduction(gradient: Array, step: Array, image: Array) -> float:
    return -float(gradient @ step + 0.5 * (step @ image))
