"""Second-order steps by Hessian-vector products, where neither K m nor N n is small.

A product takes one tangent sweep forwards and its adjoint backwards,

    dx^{k+1} = A dx + B du + F dp,
    dlambda^k = A^T dlambda^{k+1} + L_xx dx + L_xu du + L_xp dp,
    (H w)[u^k] = sum_i B^T dlambda^{k+1} + L_ux dx + L_uu du + L_up dp,

on derivatives that are taken once for all products at a point. A weight moves one component of a
state, so the derivatives of a stage are kept as two sparse matrices, which act on the states of
all members and on what these share.

The step in the trust region comes from conjugate gradients, cut off at the boundary, at negative
curvature, and once the residual is small beside the gradient.

Source: Steihaug, SIAM J. Numer. Anal. 20 (1983), 626-637.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array, csr_array

from ocp.condensing import Linearization, Multipliers
from ocp.reduced_hessian import shared_hessians
from ocp.stages import Array, StageFunction
from ocp.trust_region import Solver, Step, to_boundary

FORCING = 1e-3  # residual, relative to the gradient, at which conjugate gradients stop
MOST_PRODUCTS = 2000  # in one step


@dataclass(frozen=True, eq=False)
class _Places:
    """Of the entries of a sparse matrix, and which number becomes which entry."""

    order: NDArray
    indices: NDArray
    starts: NDArray
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: NDArray, columns: NDArray, shape: tuple[int, int]) -> _Places:
        """For entries in any order, no two of them in one place."""
        numbers = coo_array((np.arange(rows.size), (rows, columns)), shape=shape).tocsr()
        return cls(numbers.data, numbers.indices, numbers.indptr, shape)

    def matrix(self, values: Array) -> csr_array:
        """With these entries."""
        return csr_array((values[self.order], self.indices, self.starts), shape=self.shape)


@dataclass(frozen=True, eq=False)
class _Pattern:
    """Of the derivatives of a stage in (x, w): x of all members, by component, and w = (u, p).

    Args:
        first: (row, column) in one member's Jacobian of the entries of the successor's.
        jacobian: the same for all members, entry by entry.
        second: (row, column) in one member's Hessian, upper triangle.
        with_state: entries of it that concern the state; the others are summed over the members.
        hessian: the same for all members, entry by entry, first those that concern the state.
    """

    first: tuple[NDArray, NDArray]
    jacobian: _Places
    second: tuple[NDArray, NDArray]
    with_state: NDArray[np.bool_]
    hessian: _Places

    @classmethod
    def of(cls, function: StageFunction, n: int, members: int) -> _Pattern:
        """For a state of size n, and no local unknowns."""
        everyone, shift = np.arange(members), n * (members - 1)
        size, after = function.size + shift, function.successor_size

        def places(component: NDArray) -> NDArray:
            """Of components of (x, w), (entries, members)."""
            own = component[:, None]
            return np.where(own < n, own * members + everyone, own + shift)

        (i, j), _, second = function.patterns
        first = i[i < after], j[i < after]
        rows = first[0][:, None] * members + everyone
        jacobian = _Places.of(rows.ravel(), places(first[1]).ravel(), (after * members, size))
        i, j = second
        with_state = i < n
        rows = np.concatenate([places(i[with_state]).ravel(), i[~with_state] + shift])
        columns = np.concatenate([places(j[with_state]).ravel(), j[~with_state] + shift])
        return cls(first, jacobian, second, with_state, _Places.of(rows, columns, (size, size)))

    def halved(self, values: Array) -> csr_array:
        """U with Hessian U + U^T, from its entries (entries, members)."""
        i, j = self.second
        values = values * np.where(i == j, 0.5, 1.0)[:, None]
        parts = values[self.with_state].ravel(), values[~self.with_state].sum(axis=1)
        return self.hessian.matrix(np.concatenate(parts))


@dataclass(frozen=True, eq=False)
class _Stage:
    """Derivatives of the successors of all members, and the halves of the Hessian, in (x, w)."""

    jacobian: csr_array
    upper: csr_array
    adjoint: csc_array
    lower: csc_array

    @classmethod
    def of(cls, jacobian: csr_array, upper: csr_array) -> _Stage:
        """With the transposes, which share their numbers."""
        return cls(jacobian, upper, jacobian.T, upper.T)


@dataclass(frozen=True, eq=False)
class ProductCurvature:
    """The reduced Hessian in the free decisions, known by its products.

    Args:
        linearization: stages along the trajectory, without local unknowns.
        costates: of all stages.
        multipliers: of all rows.
        free: (decisions,) mask; the others are held.
    """

    linearization: Linearization
    costates: Sequence[Array]
    multipliers: Multipliers
    free: NDArray[np.bool_]

    @cached_property
    def _stages(self) -> list[_Stage]:
        staged, found = self.linearization.staged, []
        for k, values in enumerate(self.linearization.stages):
            function, n = values.function, staged.stages[k].state_size
            make = partial(_Pattern.of, function, n, staged.members)
            pattern = function.kept(("sparse", n, staged.members), make)
            after = self.costates[k + 1] if k < staged.intervals else np.zeros((staged.members, 0))
            lagrangian = np.hstack([after, self.multipliers[k]]).T
            arguments = values.unknowns, values.given, np.ones((1, 1)), lagrangian
            seconds = function.vectorized("second")(*arguments)[0]
            firsts = values.jacobian.transpose(1, 2, 0)[pattern.first]
            jacobian = pattern.jacobian.matrix(firsts.ravel())
            found.append(_Stage.of(jacobian, pattern.halved(seconds)))
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
        staged = self.linearization.staged
        whole = np.zeros(staged.decision_size)
        whole[self.free] = vector
        parameters = whole[staged.parameter_slice]
        tangent = np.zeros(staged.members * staged.stages[0].state_size)
        tangents = []
        for k, stage in enumerate(self._stages):
            control = whole[staged.control_slices[k]]
            tangents.append(np.concatenate([tangent, control, parameters]))
            tangent = stage.jacobian @ tangents[k]
        result, costate = np.zeros_like(whole), np.zeros(0)  # the last stage has no successor
        for k in range(staged.intervals, -1, -1):
            stage, tangent = self._stages[k], tangents[k]
            slopes = stage.adjoint @ costate + stage.upper @ tangent + stage.lower @ tangent
            costate, rest = np.split(slopes, [staged.members * staged.stages[k].state_size])
            m = staged.stages[k].control_size
            result[staged.control_slices[k]] = rest[:m]
            result[staged.parameter_slice] += rest[m:]
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
