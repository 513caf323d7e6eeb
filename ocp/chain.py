"""Few members through many like stages in one call: the sweeps of `reduced` without Python inside.

Where stages s, ..., e-1 share one function and members are few, the time of a sweep is that of its
calls, not of its arithmetic. CasADi then runs the whole chain, forwards to the states and backwards
to the costates, on arrays that are bound once.
"""

from __future__ import annotations

from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STATE, CONTROL, PARAMETER, DATA, CONSTANT, COSTATE = range(6)  # arguments of a stage


class Chain:
    """Neighbouring stages of one function, for a fixed number of members.

    Args:
        step: (x, u, p, data, constants) -> (successor, cost), of one member.
        pull: (x, u, p, data, constants, costate) -> derivatives in x and in (u, p).
        data: (N, number of data).
        constants: (L, number of constants).
    """

    def __init__(self, step: ca.Function, pull: ca.Function, data: Array, constants: Array) -> None:
        self.members, self.length = len(data), len(constants)
        shared = [CONTROL, PARAMETER, CONSTANT]
        many = (self.members, self.length)
        self._data = np.tile(data, (self.length, 1))
        forward = step.map("forward", "serial", self.members, shared, [])
        backward = pull.map("backward", "serial", self.members, shared, [])
        self._forward = _Bound(forward.mapaccum("states", self.length, [STATE], [0]), STATE, many)
        self._backward = _Bound(
            backward.mapaccum("costates", self.length, [COSTATE], [0]), COSTATE, many
        )
        # Neither the data nor the constants change; backwards, stages come in reverse order.
        for bound, order in ((self._forward, 1), (self._backward, -1)):
            bound.into[DATA][...] = self._data
            bound.into[CONSTANT][...] = constants[::order]

    def states(self, start: Array, controls: Array, parameters: Array) -> tuple[Array, float]:
        """States after every stage, (L, N, n), and the cost, for a start (N, n)."""
        into = self._forward.into
        into[STATE][...], into[CONTROL][...], into[PARAMETER][...] = start, controls, parameters
        self._forward.evaluate()
        after, cost = self._forward.out_of
        return after.reshape(self.length, self.members, -1), float(cost.sum())

    def costates(
        self, states: Array, controls: Array, parameters: Array, costate: Array
    ) -> tuple[Array, Array]:
        """Costate (N, n) before the chain, and slopes in (u, p) of every stage, (L, m + p).

        Args:
            states: before every stage, (L, N, n).
            controls: (L, m).
            parameters: (p,).
            costate: after the chain, (N, n).
        """
        into = self._backward.into
        into[STATE].reshape(states.shape)[...] = states[::-1]
        into[CONTROL][...], into[PARAMETER][...] = controls[::-1], parameters
        into[COSTATE][...] = costate
        self._backward.evaluate()
        before, slopes = self._backward.out_of
        sums = slopes.reshape(self.length, self.members, -1).sum(axis=1)
        return before[-self.members :], sums[::-1]


class _Bound:
    """A chain of calls on arrays of its own; the accumulated argument is given once."""

    def __init__(self, function: ca.Function, accumulated: int, many: tuple[int, int]) -> None:
        members, length = many
        self.into = []
        for i in range(function.n_in()):
            rows, columns = function.size_in(i)
            self.into.append(np.zeros((columns, rows)))
        self.out_of = [np.zeros((members * length, function.size1_out(o))) for o in range(2)]
        self._function = function
        buffer: Any
        buffer, self.evaluate = function.buffer()
        self._buffer = buffer
        assert self.into[accumulated].shape[0] == members
        for i, array in enumerate(self.into):
            if array.size:
                buffer.set_arg(i, array.data)
        for o, array in enumerate(self.out_of):
            if array.size:
                buffer.set_res(o, array.data)
