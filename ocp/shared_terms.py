"""Terms of the controls alone, as a function of all decisions.

    sum_s l_s(u, p; g_s),     its gradient and the diagonal of its Hessian in (u^0, ..., u^{K-1}, p)

Terms of one function are evaluated together, and those that are sums of multiples of squares, such
as the weight decay of all layers, as one product of vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.stages import Array, SharedTerm, StagedProblem, StageFunction
from ocp.vectorize import Vectorized


@dataclass(frozen=True, eq=False)
class _Group:
    """Terms of one function.

    Args:
        function: (v, g) -> cost, of all M terms.
        index: (nv, M) positions of their unknowns among the decisions.
        constants: (ng, M).
        is_disjoint: whether no decision enters two of them.
    """

    function: StageFunction
    index: NDArray[np.intp]
    constants: Array
    is_disjoint: bool

    @classmethod
    def of(cls, staged: StagedProblem, terms: list[SharedTerm]) -> _Group:
        """Of terms of a problem."""
        index = np.column_stack([staged.shared_index(term) for term in terms])
        constants = np.column_stack([term.constants for term in terms])
        return cls(terms[0].function, index, constants, np.unique(index).size == index.size)

    @property
    def is_separable(self) -> bool:
        """Whether no term mixes decisions, so that its Hessian is diagonal."""
        return not np.diff(self.function.patterns[2], axis=0).any()

    def squares(self) -> Array | None:
        """The c of terms c . v^2 / 2, (nv, M); None if they are not of this form."""
        if not (self.is_separable and _has_constant_curvature(self.function)):
            return None
        zero = np.zeros(self.index.shape)
        cost, slopes = _slopes(self.function)(zero, self.constants)
        return None if cost.any() or slopes.any() else self.curvature(zero)

    def curvature(self, unknowns: Array) -> Array:
        """Diagonals of the Hessians, (nv, M)."""
        none = np.zeros((self.function.row_count, self.index.shape[1]))
        second = self.function.hessians(unknowns, self.constants, none)
        return np.diagonal(second, axis1=1, axis2=2).T

    def add(self, total: Array, parts: Array) -> None:
        """Add (nv, M) numbers of the unknowns to those of the decisions."""
        if self.is_disjoint:
            total[self.index] += parts
        else:
            np.add.at(total, self.index, parts)


class SharedTerms:
    """The shared terms of a staged problem; soft and hard rows do not count here.

    Args:
        staged: the problem.

    Attributes:
        are_separable: whether no term mixes decisions, so that the Hessian is diagonal.
    """

    def __init__(self, staged: StagedProblem) -> None:
        groups: dict[int, list[SharedTerm]] = {}
        for term in staged.shared:
            groups.setdefault(id(term.function), []).append(term)
        self._size = staged.decision_size
        self._squares = np.zeros(self._size)  # c of the terms c . u^2 / 2
        self._groups = []  # of the others
        self.are_separable = True
        for terms in groups.values():
            group = _Group.of(staged, terms)
            squares = group.squares()
            if squares is None:
                self._groups.append(group)
                self.are_separable &= group.is_separable
            else:
                group.add(self._squares, squares)

    def cost(self, decisions: Array) -> float:
        """Of all terms."""
        total = 0.5 * float(decisions @ (self._squares * decisions))
        for group in self._groups:
            total += group.function.values(decisions[group.index], group.constants)[1].sum()
        return float(total)

    def cost_and_gradient(self, decisions: Array) -> tuple[float, Array]:
        """Of all terms, the gradient in all decisions."""
        gradient = self._squares * decisions
        total = 0.5 * float(decisions @ gradient)
        for group in self._groups:
            cost, slopes = _slopes(group.function)(decisions[group.index], group.constants)
            total += float(cost.sum())
            group.add(gradient, slopes)
        return total, gradient

    def curvature(self, decisions: Array) -> Array:
        """Diagonal of the Hessian, (decisions,)."""
        diagonal = self._squares.copy()
        for group in self._groups:
            group.add(diagonal, group.curvature(decisions[group.index]))
        return diagonal


def _slopes(function: StageFunction) -> Vectorized:
    """(v, g) -> (cost, its derivatives in v)."""

    def make() -> Vectorized:
        f = function.function
        v, g = ca.SX.sym("v", f.size1_in(0)), ca.SX.sym("g", f.size1_in(1))
        cost = f(v, g)[1]
        outputs = [cost, ca.densify(ca.gradient(cost, v))]
        return Vectorized(ca.Function("slopes", [v, g], outputs))

    return function.kept("slopes", make)


def _has_constant_curvature(function: StageFunction) -> bool:
    """Whether the second derivatives of the cost do not depend on v."""

    def find() -> bool:
        f = function.function
        v, g = ca.SX.sym("v", f.size1_in(0)), ca.SX.sym("g", f.size1_in(1))
        return not ca.depends_on(ca.hessian(f(v, g)[1], v)[0], v)

    return function.kept("constant curvature", find)
