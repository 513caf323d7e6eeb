"""Neighbouring layers with features of one component each, swept through with all arrays in place.

In a stage  successor = R x + W^T phi(x)  with a constant R, where feature phi_e depends on one
component of the state, or on none, and no component enters two of them,

    costate before = R^T costate + phi'(x) * (W costate) + slope of the stage's own cost:

an elementwise product. Layers of few samples cost the calls, not the arithmetic, so the calls are
few: the sweep forwards is two of them a layer (phi, the successor), and the one backwards three;
the derivatives of phi, the costs and the slopes in the controls are taken for all layers at once.
The calls write into arrays that are laid out once: every layer has a row for each value that is
computed on the way to its features, and its successor is written where the next one reads it. The
state's rows follow those of the features, so that (W^T, R) (phi, x) is one product. Factors of
features that depend on a layer's constants alone, such as its step, go into W.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocp.chain_form import AFTER, BEFORE, LAYER, ChainForm, Layout
from ocp.vectorize import Call, bound, run

Array = NDArray[np.float64]


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
        layout = Layout.of(form.program, n, q, form.has_cost)
        gains = form.gains(constants.T)[0].T
        features, rows = form.position[places // after], places % after
        self._gains = gains[:, features]
        self._features, self._rows = features, rows
        stages = np.arange(self.length)[:, None]
        self._targets = (controls + size * stages).ravel()
        self._weight_places = (features * after + rows + q * after * stages).ravel()
        # One more stage, so that the last successor has its place too.
        self._work = np.zeros((self.length + 1, layout.rows, members))
        self._work[:, n:q] = 1.0
        self._single = np.zeros((self.length, layout.shared_rows, 1))
        self._weights = np.zeros((self.length, q + n, after))
        self._weights[:, q:] = np.eye(n) if form.linear is None else form.linear.T
        self._last = self._work[-1, layout.state] if after == n else np.zeros((after, members))
        self._single[:, layout.constants[0], 0] = layout.constants[1]
        self._load(layout, 2, constants)
        self._layout, self._slopes = layout, self._work[:-1, layout.slopes]
        self.states = self._work[:-1, layout.state]  # (L, n, M), of the last sweep forwards
        own, batches = self._steps()
        run(batches[BEFORE])
        self._after, self._forward = batches[AFTER], self._bind_forward(own)
        self._backward: dict[int, tuple[Array, Array, list[Call]]] = {}

    def _steps(self) -> tuple[list[list[Call]], tuple[list[Call], list[Call]]]:
        """The calls of the program: those of every layer, and those of all layers at once."""
        batches: tuple[list[Call], list[Call]] = ([], [])
        own: list[list[Call]] = [[] for _ in range(self.length)]
        for step, when in self._layout.steps:
            if when == LAYER:
                for k in range(self.length):
                    own[k].append(bound(step, (self._work[k], self._single[k])))
            else:
                batches[when].append(bound(step, (self._work[:-1], self._single)))
        return own, batches

    def _bind_forward(self, own: list[list[Call]]) -> list[Call]:
        """The calls of a sweep forwards, with those that lead to the features of every layer."""
        state, calls = self._layout.state, []
        for k in range(self.length):
            following = self._work[k + 1, state] if k + 1 < self.length else self._last
            calls += own[k]
            calls.append((np.dot, (self._weights[k].T, self._work[k, : state.stop], following)))
        return calls

    def _load(self, layout: Layout, which: int, values: Array) -> None:
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
        layout, length, q = self._layout, self.length, self.form.position.size
        after = self._weights.shape[2]
        self._load(layout, 1, data)
        entries = controls[:, self._entry_controls] * self._gains
        flat = np.bincount(self._weight_places, entries.ravel(), length * q * after)
        self._weights[:, :q] = flat.reshape(length, q, after)
        self.states[0] = start
        run(self._forward)
        cost = 0.0
        if self.form.has_cost:
            run(self._after)
            cost = float(self._work[:-1, layout.cost].sum())
        return self._last.copy(), cost

    def backward(self, costate: Array) -> tuple[Array, Array]:
        """Costate before the first stage, (n, c M), and after every one, (L, n+, c M).

        Args:
            costate: after the last stage, (n+, c M): one or several of all members.
        """
        several = costate.shape[1] // self.members
        if several not in self._backward:
            self._backward[several] = self._bind_backward(several)
        before, after, calls = self._backward[several]
        after[-1] = costate
        run(calls)
        return before, after

    def _bind_backward(self, several: int) -> tuple[Array, Array, list[Call]]:
        """The calls of a sweep backwards with so many costates of all members."""
        layout, form, (n, size) = self._layout, self.form, self.form.sizes
        before = np.empty((n, several * self.members))
        after = np.empty((self.length, size, several * self.members))
        through = np.empty_like(before)
        calls: list[Call] = [] if form.has_cost else list(self._after)
        apart = through.reshape(n, several, self.members)
        for k in range(self.length - 1, -1, -1):
            target = after[k - 1] if k else before
            calls.append((np.dot, (self._weights[k, :n], after[k], through)))
            calls.append((np.multiply, (apart, self._slopes[k][:, None], apart)))
            if form.linear is None:
                calls.append((np.add, (after[k], through, target)))
            else:
                calls.append((np.dot, (form.linear.T, after[k], target)))
                calls.append((np.add, (target, through, target)))
            if form.has_cost:
                own = self._work[k, layout.cost_slopes][:, None]
                whole = target.reshape(n, several, self.members)
                calls.append((np.add, (whole, own, whole)))
        return before, after, calls

    def control_slopes(self, after: Array) -> Array:
        """Slopes in the controls, (L, m), summed over the members, for costates (L, n+, M)."""
        length, q = self.length, self.form.position.size
        products = np.matmul(self._work[:-1, :q], after.transpose(0, 2, 1))
        entries = products[:, self._features, self._rows] * self._gains
        sums = np.bincount(self._targets, entries.ravel(), self.size * length)
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
