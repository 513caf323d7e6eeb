"""Stages that are affine in their control, by matrix products over the members.

    successor_a = c_a(x, g) + sum_j B_aj(x, g) u_j

In a layer of a network few of the entries of B differ from each other: they are the features that
the weights multiply. With the different ones phi_1, ..., phi_q, and W_ea the sum of those u_j for
which B_aj = phi_e,

    successor = c + W^T phi,      d/du_j = sum over its places (e, a) of (sum_i phi_e costate_a),

so that both sweeps cost a matrix product and a few operations for each feature, instead of one for
each entry of B.
"""

from __future__ import annotations

from dataclasses import dataclass

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.affine_chain import AffineChain
from ocp.chain_form import ChainForm
from ocp.vectorize import Vectorized

Array = NDArray[np.float64]

NO_COST = np.zeros((1, 1))


@dataclass(frozen=True, eq=False)
class AffineStage:
    """A stage in features.

    Args:
        forward: (x, data, constants) -> (phi, c, cost); phi alone if it is a plain residual stage,
            c = x without a cost.
        backward: (x, data, constants, costate, slopes of phi) -> derivative in x of
            cost + costate . c + slopes . phi.
        sizes: number of features, of states of the successor, of controls.
        places: (entries,) of the entries of B in the flattened W.
        controls: (entries,) which control stands there.
        chain: for sweeps through many stages with all arrays in place, where the features allow it.
    """

    forward: Vectorized
    backward: Vectorized
    sizes: tuple[int, int, int]
    places: NDArray[np.intp]
    controls: NDArray[np.intp]
    chain: ChainForm | None

    @classmethod
    def of(cls, step: ca.Function) -> AffineStage | None:
        """From (x, u, p, data, constants) -> (successor, cost); None if it is of another form."""
        x, u, p, d, c = (ca.SX.sym(f"v{i}", step.size1_in(i)) for i in range(5))
        successor, cost = step(x, u, p, d, c)
        slopes = ca.jacobian(successor, u)
        entries = ca.reshape(ca.densify(slopes.nz[:]), slopes.nnz(), 1)
        decisions = ca.vertcat(u, p)
        if not slopes.nnz() or ca.depends_on(ca.vertcat(entries, cost), decisions):
            return None
        rest = ca.substitute(successor, u, ca.SX.zeros(u.numel()))
        if ca.depends_on(rest, p):
            return None
        feature_of, features = _different(ca.Function("B", [x, d, c], [ca.cse(entries)]))
        phi = entries[features]
        costate = ca.SX.sym("costate", successor.numel())
        weights = ca.SX.sym("w", len(features))
        total = cost + ca.dot(costate, rest) + ca.dot(weights, phi)
        pulled = ca.densify(ca.gradient(total, x))
        is_same = rest.numel() == x.numel() and ca.is_equal(rest, x, 1)
        is_plain = is_same and ca.densify(cost).is_zero()
        outputs = [ca.densify(e) for e in ((phi,) if is_plain else (phi, rest, cost))]
        rows, columns = (np.array(part, dtype=int) for part in slopes.sparsity().get_triplet())
        return cls(
            Vectorized(ca.Function("forward", [x, d, c], outputs, {"cse": True})),
            Vectorized(
                ca.Function("backward", [x, d, c, costate, weights], [pulled], {"cse": True})
            ),
            (len(features), successor.numel(), u.numel()),
            np.asarray(feature_of) * successor.numel() + rows,
            columns,
            ChainForm.of([x, d, c], rest, phi, cost),
        )

    @property
    def operations(self) -> int:
        """Number of elementary operations of both sweeps."""
        return sum(f.function.n_instructions() for f in (self.forward, self.backward))

    def weights(self, control: Array) -> Array:
        """The matrix W, (features, states)."""
        features, states, _ = self.sizes
        flat = np.bincount(self.places, control[self.controls], features * states)
        return np.asarray(flat, dtype=float).reshape(features, states)

    def chained(self, constants: Array, members: int) -> AffineChain:
        """Stages of this form with these constants, (L, c), to be swept through together."""
        assert self.chain is not None
        size = self.sizes[2]
        return AffineChain(self.chain, self.places, self.controls, size, constants, members)

    def step(self, x: Array, weights: Array, data: Array, constants: Array) -> tuple:
        """Successor (n+, M), features (q, M) and cost, (1, M) or a zero."""
        phi, *others = self.forward(x, data, constants)
        rest, cost = others or (x, NO_COST)
        successor = weights.T @ phi
        successor += rest
        return successor, phi, cost

    def pull(
        self, x: Array, phi: Array, weights: Array, data: Array, constants: Array, costate: Array
    ) -> tuple[Array, Array]:
        """Costate before, (n, M), and slopes in the control summed over the members, (m,)."""
        before = self.backward(x, data, constants, costate, weights @ costate)[0]
        products = (phi @ costate.T).ravel()
        slopes = np.bincount(self.controls, products[self.places], self.sizes[2])
        return before, np.asarray(slopes, dtype=float)


def _different(entries: ca.Function) -> tuple[list[int], list[int]]:
    """Of every output row its feature, and of every feature the first row that has it.

    Rows with the same operations on the same operands are the same, up to commutation.
    """
    known: dict[tuple, int] = {}
    value: dict[int, int] = {}  # number of the expression in a slot of the work vector
    feature_of: dict[int, int] = {}
    features: list[int] = []
    found: dict[int, int] = {}
    for k in range(entries.n_instructions()):
        code = entries.instruction_id(k)
        if code == ca.OP_OUTPUT:
            row = entries.instruction_output(k)[1]
            expression = value[entries.instruction_input(k)[0]]
            if expression not in found:
                found[expression] = len(features)
                features.append(row)
            feature_of[row] = found[expression]
            continue
        if code == ca.OP_CONST:
            key: tuple = (code, entries.instruction_constant(k))
        elif code == ca.OP_INPUT:
            key = (code, *entries.instruction_input(k))
        else:
            operands = [value[slot] for slot in entries.instruction_input(k)]
            if code in (ca.OP_ADD, ca.OP_MUL):
                operands.sort()
            key = (code, *operands)
        value[entries.instruction_output(k)[0]] = known.setdefault(key, len(known))
    return [feature_of[row] for row in range(len(feature_of))], features
