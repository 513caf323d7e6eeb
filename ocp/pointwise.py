"""The sweep backwards through layers whose features are functions of one component each.

In a stage  successor = R x + W^T phi(x)  with a constant R, where every feature phi_e depends on at
most one component of the state and every component enters at most one of them,

    costate before = R^T costate + phi'(x) * (W costate) + slope of the stage's own cost:

an elementwise product. The phi' of all stages, and the products that give the slopes in the
controls, are taken at once; what is left of a stage is one matrix product and one elementwise one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.vectorize import Vectorized

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pointwise:
    """Derivatives of such a stage.

    Args:
        slopes: (x, data, constants) -> the phi' that are not zero, and the cost's slope in x.
        features, components: which feature and which component each phi' belongs to.
        linear: R, None for the identity.
        has_cost: whether the stage's cost depends on its state.
    """

    slopes: Vectorized
    features: Any
    components: Any
    linear: Array | None
    has_cost: bool

    @classmethod
    def of(cls, inputs: list[ca.SX], rest: ca.SX, phi: ca.SX, cost: ca.SX) -> Pointwise | None:
        """From expressions in (x, data, constants); None for a stage of another form."""
        x = inputs[0]
        slopes, linear = ca.jacobian(phi, x), ca.jacobian(rest, x)
        rows, columns = (np.array(p, dtype=int) for p in slopes.sparsity().get_triplet())
        is_pointwise = np.unique(rows).size == rows.size and np.unique(columns).size == columns.size
        if not rows.size or not is_pointwise or ca.depends_on(linear, ca.vertcat(*inputs)):
            return None
        matrix = np.asarray(ca.evalf(ca.densify(linear)).full(), dtype=float)
        is_identity = np.array_equal(matrix, np.eye(len(matrix)))
        outputs = [
            ca.reshape(ca.densify(slopes.nz[:]), rows.size, 1),
            ca.densify(ca.gradient(cost, x)),
        ]
        return cls(
            Vectorized(ca.Function("slopes", inputs, outputs, {"cse": True})),
            _index(rows),
            _index(columns),
            None if is_identity else matrix,
            bool(ca.depends_on(cost, x)),
        )

    def pull(
        self, states: Array, weights: Array, data: Array, constants: Array, costate: Array
    ) -> tuple[Array, Array]:
        """Costate before the first stage, (n, c M), and after every one, (L, n+, c M).

        Args:
            states: before every stage, (L, n, M).
            weights: W of every stage, (L, q, n+).
            data: (data, M).
            constants: (L, constants).
            costate: after the last stage, (n+, c M): one or several of all members.
        """
        stages, n, members = states.shape
        slopes, own = self.slopes(
            states.transpose(1, 0, 2).reshape(n, stages * members),
            np.tile(data, (1, stages)),
            np.repeat(constants.T, members, axis=1),
        )
        slopes = slopes.reshape(-1, stages, members).transpose(1, 0, 2)
        own = own.reshape(n, stages, members).transpose(1, 0, 2)
        several = costate.shape[1] // members
        if several > 1:
            slopes, own = np.tile(slopes, several), np.tile(own, several)
        after = np.empty((stages, *costate.shape))
        for k in range(stages - 1, -1, -1):
            after[k] = costate
            through = (weights[k] @ costate)[self.features]
            through *= slopes[k]
            costate = costate.copy() if self.linear is None else self.linear.T @ costate
            costate[self.components] += through
            if self.has_cost:
                costate += own[k]
        return costate, after


def _index(places: NDArray[np.intp]) -> Any:
    """A slice where places follow each other, the places themselves elsewhere."""
    first = int(places[0])
    if np.array_equal(places, np.arange(first, first + places.size)):
        return slice(first, first + places.size)
    return places
