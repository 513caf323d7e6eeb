"""Multipliers, and the one convention for their signs and units.

The Lagrangian adds every multiplier times its expression to the cost,

    L = J + sum_k costate^{k+1} . (Phi_k(x^k) - x^{k+1}) + sum rows . r + sum bounds . z,

and is stationary at an optimum, of a minimisation and of a maximisation alike. Hence

    costate^k   = d J*/d x^k, the derivative of the optimal cost in the state,
    multiplier  = -d J*/d b, for b the limit (lower, upper or both) that holds the expression.

To be minimised, J has multipliers >= 0 at upper and <= 0 at lower limits; to be maximised, the
other way round. The multiplier of a constraint along a path is, in the continuous problem, a
density: the discrete multiplier divided by the length of time that its row stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

from ocp.stages import Array


@dataclass(frozen=True, eq=False)
class KKTMultipliers:
    """Multipliers of everything but the dynamics, <= 0 at lower and >= 0 at upper limits.

    Args:
        rows: of the rows of every stage (N, r_k), then of every shared term (1, r).
        state_bounds: of the bounds of the states of all stages, each (N, n_k); none at stage 0.
        decision_bounds: of the bounds of (u^0, ..., u^{K-1}, p), (decisions,).
        costates: of all stages, each (N, n_k); empty where they follow from the adjoint recursion.
    """

    rows: tuple[Array, ...]
    state_bounds: tuple[Array, ...]
    decision_bounds: Array
    costates: tuple[Array, ...] = ()

    def negated(self) -> KKTMultipliers:
        """Those of the problem with the opposite cost."""
        rows, states = tuple(-y for y in self.rows), tuple(-y for y in self.state_bounds)
        costates = tuple(-p for p in self.costates)
        return KKTMultipliers(rows, states, -self.decision_bounds, costates)
