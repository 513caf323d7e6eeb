"""Layers with features of one component each, and where the values of such a layer stand.

A stage  successor = R x + W^T phi(x)  has this form if R is constant, every feature phi_e depends
on one component of the state, or on none, and no component enters two of them. Factors of a feature
that depend on the stage's constants alone, such as its step, are its gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.vectorize import Grouped, Vectorized, rows_of

Array = NDArray[np.float64]

BEFORE, AFTER, LAYER = 0, 1, 2  # when a step is run: once, after a sweep forwards, in every layer


@dataclass(frozen=True, eq=False)
class ChainForm:
    """A stage of this form.

    Args:
        program: (x, data, constants) -> features that depend on the state, in the order of its
            components, their derivatives, the cost and its derivatives in x.
        position: (q,) where each feature stands; the constant ones, which are 1, at the end.
        gains: constants -> factors of the features, in that order.
        linear: R, None for the identity.
        sizes: of the state and of the successor.
        has_cost: whether the stage's cost is not zero.
    """

    program: Grouped
    position: NDArray[np.intp]
    gains: Vectorized
    linear: Array | None
    sizes: tuple[int, int]
    has_cost: bool

    @classmethod
    def of(cls, inputs: list[ca.SX], rest: ca.SX, phi: ca.SX, cost: ca.SX) -> ChainForm | None:
        """From expressions in (x, data, constants); None for a stage of another form."""
        x, data, constants = inputs
        n, q = x.numel(), phi.numel()
        linear = ca.jacobian(rest, x)
        if ca.depends_on(linear, ca.vertcat(*inputs)):
            return None
        parts = [_factor(phi[e], ca.vertcat(x, data)) for e in range(q)]
        varying = [e for e in range(q) if ca.depends_on(parts[e][1], ca.vertcat(x, data))]
        if len(varying) != n:
            return None
        slopes = ca.jacobian(ca.vertcat(*(parts[e][1] for e in varying)), x)
        rows, columns = slopes.sparsity().get_triplet()
        if sorted(rows) != list(range(n)) or sorted(columns) != list(range(n)):
            return None
        component = dict(zip(rows, columns, strict=True))
        order = sorted(range(n), key=lambda row: component[row])
        order = [varying[row] for row in order] + [e for e in range(q) if e not in varying]
        psi = ca.vertcat(*(parts[e][1] for e in order[:n]))
        gains = ca.vertcat(*(parts[e][0] for e in order))
        if not ca.simplify(ca.substitute(rest, x, ca.SX.zeros(n))).is_zero():
            return None
        matrix = np.asarray(ca.evalf(ca.densify(linear)).full(), dtype=float)
        outputs = [psi, ca.diag(ca.jacobian(psi, x)), cost, ca.gradient(cost, x)]
        program = Vectorized(
            ca.Function("chain", inputs, [ca.densify(e) for e in outputs], {"cse": True})
        )
        grouped = program.grouped((False, False, True))
        if grouped is None:
            return None
        position = np.empty(q, dtype=int)
        position[order] = np.arange(q)
        return cls(
            grouped,
            position,
            Vectorized(ca.Function("gains", [constants], [ca.densify(gains)])),
            None if np.array_equal(matrix, np.eye(len(matrix))) else matrix,
            (n, rest.numel()),
            not ca.densify(cost).is_zero(),
        )


def _factor(feature: ca.SX, variables: ca.SX) -> tuple[ca.SX, ca.SX]:
    """A factor that does not depend on the variables, and the rest; 1 if nothing is left."""
    if not ca.depends_on(feature, variables):
        return feature, ca.SX(1)
    gain = ca.SX(1)
    while feature.op() == ca.OP_MUL:
        left, right = feature.dep(0), feature.dep(1)
        if ca.depends_on(left, variables) and ca.depends_on(right, variables):
            break
        constant, feature = (right, left) if ca.depends_on(left, variables) else (left, right)
        gain = gain * constant
    return gain, feature


@dataclass(frozen=True, eq=False)
class Layout:
    """The rows of a layer: features first, then whatever leads to them and follows from them.

    Args:
        rows: of a layer, each with a value of every member.
        shared_rows: with one value for all members.
        state, slopes, cost, cost_slopes: which rows they are.
        inputs: (input, kind, its rows, our rows) of data and constants.
        constants: numbers and the shared rows that they stand in.
        steps: operations on our rows, and when they are run.
    """

    rows: int
    shared_rows: int
    state: Any
    slopes: Any
    cost: Any
    cost_slopes: Any
    inputs: tuple[tuple[int, int, Any, Any], ...]
    constants: tuple[NDArray[np.intp], Array]
    steps: tuple[tuple[tuple, int], ...]

    @classmethod
    def of(cls, grouped: Grouped, n: int, q: int, has_cost: bool) -> Layout:
        """From the program of a `ChainForm` with n components, and q features of any kind."""
        place: dict[int, int] = {}  # of the program's rows in ours
        rows = q
        (states,) = ((which, rows_) for i, _, which, rows_ in grouped.inputs if i == 0)
        of_component = dict(zip(_numbers(states[0]), _numbers(states[1]), strict=True))
        outputs: dict[int, list[tuple[int, int]]] = {}  # kind and program row of every output row
        for o, kind, which, slots in grouped.outputs:
            pairs = outputs.setdefault(o, [(0, 0)] * (n if o != 2 else 1))
            for row, slot in zip(_numbers(which), _numbers(slots), strict=True):
                pairs[row] = (kind, slot)
        copies: list[tuple[tuple, int]] = []

        def give(pairs: list[tuple[int, int]], first: int, when: int) -> Any:
            """Rows from `first` on, as the place of these values or of copies of them."""
            slots = [slot for _, slot in pairs]
            target = slice(first, first + len(pairs))
            taken = {*place, *of_component.values()} if first < rows else set(place)
            if any(kind for kind, _ in pairs) or len(set(slots)) < len(slots) or taken & set(slots):
                pending.append((pairs, target, when))
            else:
                place.update(zip(slots, range(target.start, target.stop), strict=True))
            return target

        pending: list[tuple[list[tuple[int, int]], slice, int]] = []
        give(outputs[0], 0, LAYER)
        for component in range(n):
            place[of_component[component]] = rows + component
        state = slice(rows, rows + n)
        rows += n
        found = []
        for o, size in ((1, n), (2, 1), (3, n)) if has_cost else ((1, n),):
            found.append(give(outputs[o], rows, AFTER))
            rows += size
        for slot in range(grouped.rows[0]):
            if slot not in place:
                place[slot] = rows
                rows += 1
        for pairs, target, when in pending:
            for row, (kind, slot) in enumerate(pairs, target.start):
                source = slot if kind else place[slot]
                step = (
                    np.positive,
                    0,
                    slice(row, row + 1),
                    (kind, slice(source, source + 1)),
                    None,
                )
                copies.append((step, when))

        def moved(kind: int, which: Any) -> Any:
            return which if kind else rows_of([place[slot] for slot in _numbers(which)])

        needed = {slot for kind, slot in outputs[0] if not kind}
        times = []
        for _, kind, target, left, right in reversed(grouped.steps):
            targets = set(_numbers(target))
            is_needed = not kind and bool(targets & needed)
            if is_needed:
                for operand in (left, right):
                    if operand is not None and not operand[0]:
                        needed.update(_numbers(operand[1]))
            times.append(BEFORE if kind else LAYER if is_needed else AFTER)
        steps = []
        for (operation, kind, target, left, right), when in zip(
            grouped.steps, reversed(times), strict=True
        ):
            operands = [None if part is None else (part[0], moved(*part)) for part in (left, right)]
            steps.append(((operation, kind, moved(kind, target), *operands), when))
        slopes, cost, cost_slopes = (*found, None, None)[:3]
        return cls(
            rows,
            grouped.rows[1],
            state,
            slopes,
            cost,
            cost_slopes,
            tuple((i, kind, which, moved(kind, to)) for i, kind, which, to in grouped.inputs if i),
            grouped.constants,
            (*steps, *copies),
        )


def _numbers(which: Any) -> list[int]:
    """Of a slice or an array of rows."""
    return list(range(which.start, which.stop)) if isinstance(which, slice) else which.tolist()
