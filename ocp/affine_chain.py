"""Neighbouring layers with features of one component each, swept through with all arrays in place.

In a stage  successor = R x + W^T phi(x)  with a constant R, where feature phi_e depends on one
component of the state, or on none, and no component enters two of them,

    costate before = R^T costate + phi'(x) * (W costate) + slope of the stage's own cost:

an elementwise product. Layers of few samples cost the calls, not the arithmetic, so the calls are
few: the sweep forwards is three of them a layer (phi, W^T phi, the sum), and so is the one
backwards; the derivatives of phi, the costs and the slopes in the controls are taken for all layers
at once. The calls write into arrays that are laid out once: every layer has a row for each value
that is computed on the way to its features, and its successor is written where the next one reads
it. Factors of features that depend on a layer's constants alone, such as its step, go into W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.vectorize import Grouped, Vectorized, rows_of

Array = NDArray[np.float64]
Call = tuple[Callable, tuple]  # a function and its arguments, the last one being the result


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


class AffineChain:
    """Neighbouring stages of one such form, for a fixed number of members.

    Sweeps backwards belong to the sweep forwards before them.

    Args:
        form: of the stages; those of more than one lead from n components to n.
        places: (entries,) of the entries of the slopes in the control in the flattened W.
        controls: (entries,) which control stands there.
        size: number of controls of a stage.
        constants: (L, constants).
        members: M.
    """

    def __init__(
        self,
        form: ChainForm,
        places: NDArray[np.intp],
        controls: NDArray[np.intp],
        size: int,
        constants: Array,
        members: int,
    ) -> None:
        self.form, self.members, self.length, self.size = form, members, len(constants), size
        self._entry_controls = controls
        (n, after), q = form.sizes, form.position.size
        layout = _Layout.of(form.program, n, q, form.has_cost)
        gains = form.gains(constants.T)[0].T
        features, rows = form.position[places // after], places % after
        self._gains = gains[:, features]
        self._features, self._rows = features, rows
        stages = np.arange(self.length)[:, None]
        self._weight_places = (features * after + rows + q * after * stages).ravel()
        # One more stage, so that the last successor has its place too.
        self._work = np.zeros((self.length + 1, layout.rows, members))
        self._work[:, n:q] = 1.0
        self._single = np.zeros((self.length, layout.shared_rows, 1))
        self._weights = np.zeros((self.length, q, after))
        self._last = self._work[-1, layout.state] if after == n else np.zeros((after, members))
        self._single[:, layout.constants[0], 0] = layout.constants[1]
        self._load(layout, 2, constants)
        self._layout, self._slopes = layout, self._work[:-1, layout.slopes]
        self.states = self._work[:-1, layout.state]  # (L, n, M), of the last sweep forwards
        batches: list[list[Call]] = [[], []]
        arrays = (self._work[:-1], self._single)
        layers = [(self._work[k], self._single[k]) for k in range(self.length)]
        own: list[list[Call]] = [[] for _ in range(self.length)]
        for step, kind in layout.steps:
            if kind == LAYER:
                for k in range(self.length):
                    own[k].append(_bound(step, layers[k]))
            else:
                batches[kind].append(_bound(step, arrays))
        _run(batches[BEFORE])
        self._after = batches[AFTER]
        self._forward: list[Call] = []
        for k in range(self.length):
            state, psi = self._work[k, layout.state], self._work[k, :q]
            following = self._work[k + 1, layout.state] if k + 1 < self.length else self._last
            self._forward += own[k]
            self._forward.append((np.matmul, (self._weights[k].T, psi, following)))
            if form.linear is not None:
                moved = np.empty_like(following)
                self._forward.append((np.matmul, (form.linear, state, moved)))
                state = moved
            self._forward.append((np.add, (following, state, following)))
        self._backward: dict[int, tuple[Array, Array, list[Call]]] = {}

    def _load(self, layout: _Layout, which: int, values: Array) -> None:
        """Put an input into its rows: the state's are filled by the sweep."""
        for i, kind, rows, places in layout.inputs:
            if i == which:
                target = self._single if kind else self._work[:-1]
                target[:, places] = values[:, rows, None] if kind else values[rows]

    def forward(self, start: Array, data: Array, controls: Array) -> tuple[Array, float]:
        """The successor of the last stage, (n+, M), and the cost.

        Args:
            start: (n, M).
            data: (data, M).
            controls: (L, m).
        """
        layout, (length, q, after) = self._layout, self._weights.shape
        self._load(layout, 1, data)
        entries = controls[:, self._entry_controls] * self._gains
        flat = np.bincount(self._weight_places, entries.ravel(), length * q * after)
        self._weights[...] = flat.reshape(length, q, after)
        self.states[0] = start
        _run(self._forward)
        cost = 0.0
        if self.form.has_cost:
            _run(self._after)
            cost = float(self._work[:-1, layout.cost].sum())
        return self._last.copy(), cost

    def backward(self, costate: Array) -> tuple[Array, Array]:
        """Costate before the first stage, (n, c M), and after every one, (L, n+, c M).

        Args:
            costate: after the last stage, (n+, c M): one or several of all members.
        """
        if not self.form.has_cost:
            _run(self._after)
        several = costate.shape[1] // self.members
        if several not in self._backward:
            self._backward[several] = self._bind(several)
        before, after, calls = self._backward[several]
        after[-1] = costate
        _run(calls)
        return before, after

    def _bind(self, several: int) -> tuple[Array, Array, list[Call]]:
        """The calls of a sweep backwards with so many costates of all members."""
        layout, form, (n, size) = self._layout, self.form, self.form.sizes
        before = np.empty((n, several * self.members))
        after = np.empty((self.length, size, several * self.members))
        through = np.empty_like(before)
        calls: list[Call] = []
        apart = through.reshape(n, several, self.members)
        for k in range(self.length - 1, -1, -1):
            target = after[k - 1] if k else before
            calls.append((np.matmul, (self._weights[k, :n], after[k], through)))
            calls.append((np.multiply, (apart, self._slopes[k][:, None], apart)))
            if form.linear is None:
                calls.append((np.add, (after[k], through, target)))
            else:
                calls.append((np.matmul, (form.linear.T, after[k], target)))
                calls.append((np.add, (target, through, target)))
            if form.has_cost:
                own = self._work[k, layout.cost_slopes][:, None]
                whole = target.reshape(n, several, self.members)
                calls.append((np.add, (whole, own, whole)))
        return before, after, calls

    def control_slopes(self, after: Array) -> Array:
        """Slopes in the controls, (L, m), summed over the members, for costates (L, n+, M)."""
        length, q, _ = self._weights.shape
        products = np.matmul(self._work[:-1, :q], after.transpose(0, 2, 1))
        entries = products[:, self._features, self._rows] * self._gains
        targets = self._entry_controls + self.size * np.arange(length)[:, None]
        sums = np.bincount(targets.ravel(), entries.ravel(), self.size * length)
        return np.asarray(sums, dtype=float).reshape(length, self.size)

    def member_slopes(self, after: Array) -> Array:
        """The same of every member and costate apart, (L, m, c, M), for costates (L, n+, c M)."""
        length, size, _ = after.shape
        after = after.reshape(length, size, -1, self.members)
        gains = self._gains[:, :, None, None]
        entries = self._work[:-1, self._features][:, :, None] * after[:, self._rows] * gains
        if np.array_equal(self._entry_controls, np.arange(self.size)):
            return np.asarray(entries)
        slopes = np.zeros((length, self.size, *after.shape[2:]))
        for place, control in enumerate(self._entry_controls):
            slopes[:, control] += entries[:, place]
        return slopes


BEFORE, AFTER, LAYER = 0, 1, 2  # when a step is run: once, after a sweep forwards, in every layer


@dataclass(frozen=True, eq=False)
class _Layout:
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
    def of(cls, grouped: Grouped, n: int, q: int, has_cost: bool) -> _Layout:
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


def _bound(step: tuple, arrays: tuple[Array, Array]) -> Call:
    """A call of the operation on rows of the arrays of both kinds, (..., rows, columns)."""
    operation, kind, target, *operands = step
    given = [part for part in operands if part is not None]
    places = [(arrays[part[0]], part[1]) for part in given]
    is_simple = all(isinstance(rows, slice) for _, rows in [*places, (None, target)])
    if is_simple and isinstance(operation, np.ufunc):
        views = [array[..., rows, :] for array, rows in places]
        return operation, (*views, arrays[kind][..., target, :])
    return _assign, (operation, places, arrays[kind], target)


def _assign(
    operation: Callable, places: list[tuple[Array, Any]], array: Array, target: Any
) -> None:
    array[..., target, :] = operation(*(values[..., rows, :] for values, rows in places))


def _run(calls: list[Call]) -> None:
    with np.errstate(all="ignore"):
        for function, arguments in calls:
            function(*arguments)
