"""Terms of the controls alone, as a function of all decisions.

    sum_s l_s(u, p; g_s),     its gradient and the diagonal of its Hessian in (u^0, ..., u^{K-1}, p)

Terms of one function, such as the weight decay of all layers, are evaluated together.
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
    """

    def __init__(self, staged: StagedProblem) -> None:
        groups: dict[int, list[SharedTerm]] = {}
        for term in staged.shared:
            groups.setdefault(id(term.function), []).append(term)
        self._groups = [_Group.of(staged, terms) for terms in groups.values()]
        self._size = staged.decision_size

    @property
    def are_separable(self) -> bool:
        """Whether no term mixes decisions, so that its Hessian is diagonal."""
        return not any(np.diff(g.function.patterns[2], axis=0).any() for g in self._groups)

    def cost(self, decisions: Array) -> float:
        """Of all terms."""
        values = (g.function.values(decisions[g.index], g.constants)[1] for g in self._groups)
        return float(sum(cost.sum() for cost in values))

    def cost_and_gradient(self, decisions: Array) -> tuple[float, Array]:
        """Of all terms, the gradient in all decisions."""
        total, gradient = 0.0, np.zeros(self._size)
        for group in self._groups:
            cost, slopes = _slopes(group.function)(decisions[group.index], group.constants)
            total += float(cost.sum())
            group.add(gradient, slopes)
        return total, gradient

    def curvature(self, decisions: Array) -> Array:
        """Diagonal of the Hessian, (decisions,)."""
        diagonal = np.zeros(self._size)
        for group in self._groups:
            function, index = group.function, group.index
            none = np.zeros((function.row_count, index.shape[1]))
            second = function.hessians(decisions[index], group.constants, none)
            group.add(diagonal, np.diagonal(second, axis1=1, axis2=2).T)
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
