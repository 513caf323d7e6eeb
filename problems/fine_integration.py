"""The differential equation behind a network, integrated finely for every sample by itself.

    x_i'(t) = f(x_i(t), u^k),   t_k <= t <= t_{k+1},   k = 0, ..., K-1

by the explicit Runge-Kutta pairs of Dormand and Prince, with the control held on every layer: of
order 8(5,3) for a smooth field, of order 5(4) for one with kinks, at which no order helps. Each
sample has steps of its own. A step h across a kink is wrong by O(h^2), so the error estimate
rejects it until the kink is passed within the tolerance: a kink is located by the steps of the one
sample that meets it, and costs the others nothing.

Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I (1993), section II.5.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import DOP853, RK45

Array = NDArray[np.float64]
Rate = Callable[[Array, Array], Array]  # (states (D, P), control (m,)) -> rates (D, P)

SAFETY, LEAST_FACTOR, LARGEST_FACTOR = 0.9, 0.2, 10.0  # of a step, after its error; the usual ones


class Untested(ArithmeticError):
    """A diagnosis has no value; the words say why, as part of a sentence."""


@dataclass(frozen=True, eq=False)
class Pair:
    """An explicit Runge-Kutta method with an estimate of its error, the last stage at the end.

    Args:
        a: coefficients of the stages, (s, s).
        b: weights, (s,).
        error: (stages (s+1, D, P)) -> error of a step of every sample per unit of time, (P,).
        order: power of the length that the error of a step falls with.
    """

    a: Array
    b: Array
    error: Callable[[Array], Array]
    order: int


def _combined(stages: Array) -> Array:
    """The two estimates of order 5 and 3, which together are of order 7 per unit of time."""
    fifth = np.abs(np.tensordot(DOP853.E5, stages, axes=1)).max(axis=0)
    third = np.abs(np.tensordot(DOP853.E3, stages, axes=1)).max(axis=0)
    both = np.sqrt(fifth**2 + 0.01 * third**2)  # eq. (10.17) of the source
    return np.asarray(fifth**2 / np.where(both > 0, both, 1.0))


def _embedded(stages: Array) -> Array:
    return np.asarray(np.abs(np.tensordot(RK45.E, stages, axes=1)).max(axis=0))


ORDER_8 = Pair(DOP853.A, DOP853.B, _combined, 8)
ORDER_5 = Pair(RK45.A, RK45.B, _embedded, 5)


@dataclass(frozen=True)
class FineIntegration:
    """How finely to integrate, and how much work that may be.

    Args:
        tolerance: of the error of one step of one sample, relative to the largest component of its
            state (at least 1). Over a few hundred steps of a smooth field 1e-12 leaves the 1e-10 to
            which the numbers of a file are compared.
        pair: the Runge-Kutta method.
        most_operations: additions and multiplications of the rates, two per control, sample and
            evaluation. Chosen so that it takes a few seconds of one processor.
    """

    tolerance: float = 1e-12
    pair: Pair = ORDER_8
    most_operations: float = 3e9

    def end(
        self,
        rate: Rate,
        states: Array,
        controls: Sequence[Array],
        lengths: Array,
        seconds: float = math.inf,
    ) -> Array:
        """States (D, N) at the end of the last layer.

        Args:
            rate: the right-hand side f, for P samples at a time.
            states: at the beginning, (D, N).
            controls: of the K layers, each (m,).
            lengths: of the layers in time, (K,).
            seconds: wall time after which nothing more is begun.

        Raises:
            Untested: it takes more operations or time than that, or the states run off.
        """
        budget = _Budget(self.most_operations, time.monotonic() + seconds, seconds)
        states, steps = states.copy(), np.full(states.shape[1], float(lengths[0]))
        for control, length in zip(controls, lengths, strict=True):
            states, steps = self._layer(rate, states, control, float(length), steps, budget)
        return states

    def _layer(
        self,
        rate: Rate,
        states: Array,
        control: Array,
        length: float,
        steps: Array,
        budget: _Budget,
    ) -> tuple[Array, Array]:
        """States after one layer, and the steps that suit every sample there."""
        states, left = states.copy(), np.full(states.shape[1], length)
        budget.spend(2.0 * control.size * states.shape[1])
        slopes = np.array(rate(states, control))  # the next call may write into the same memory
        steps = np.minimum(steps, length)
        # Of samples whose last step in the layer is cut short the length before is kept.
        kept, active = steps.copy(), np.arange(states.shape[1])
        while active.size:
            budget.spend(2.0 * control.size * active.size * self.pair.b.size)
            h = np.minimum(kept[active], left[active])
            after, slopes_after, errors = _step(
                self.pair, rate, states[:, active], slopes[:, active], control, h
            )
            sizes = np.maximum(1.0, np.abs(states[:, active]).max(axis=0))
            relative = errors / (self.tolerance * sizes)
            with np.errstate(divide="ignore"):
                factors = np.clip(
                    SAFETY * relative ** (-1 / self.pair.order), LEAST_FACTOR, LARGEST_FACTOR
                )
            # A step into values that are not finite is halved like one whose error is too large.
            is_finite = np.isfinite(relative)
            passed = is_finite & (relative <= 1.0)
            factors = np.where(is_finite, factors, LEAST_FACTOR)
            if (h < np.spacing(length)).any():
                raise Untested("the states of the differential equation run off to infinity")
            done = active[passed]
            states[:, done], slopes[:, done] = after[:, passed], slopes_after[:, passed]
            is_last = h >= left[active]
            left[done] = np.where(is_last[passed], 0.0, left[done] - h[passed])
            grown = np.where(passed & is_last, np.maximum(kept[active], factors * h), factors * h)
            kept[active] = np.where(passed, grown, np.minimum(factors, 1.0) * h)
            active = active[left[active] > 0.0]
        return states, kept


class _Budget:
    """Operations and time that are left."""

    def __init__(self, operations: float, deadline: float, seconds: float) -> None:
        self.most, self.left = operations, operations
        self.deadline, self.seconds = deadline, seconds

    def spend(self, operations: float) -> None:
        """Take so many operations, before they are begun."""
        self.left -= operations
        if self.left < 0:
            raise Untested(f"it takes more than {self.most:.0e} operations")
        if time.monotonic() >= self.deadline:
            raise Untested("the time limit passed before it was computed")


# At kinks every digit takes further steps. What 1e-8 leaves in the mean over samples is below 1e-7,
# far less than the distance between a network and its differential equation.
SMOOTH = FineIntegration()
KINKED = FineIntegration(tolerance=1e-8, pair=ORDER_5)


def _step(
    pair: Pair, rate: Rate, states: Array, slopes: Array, control: Array, h: Array
) -> tuple[Array, Array, Array]:
    """States and slopes (D, P) after a step of every sample, and its error (P,)."""
    count = pair.b.size
    stages = np.empty((count + 1, *states.shape))
    stages[0] = slopes
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(1, count):
            inner = np.tensordot(pair.a[i, :i], stages[:i], axes=1)
            stages[i] = rate(states + h * inner, control)
        after = states + h * np.tensordot(pair.b, stages[:-1], axes=1)
        stages[-1] = rate(after, control)
        return after, stages[-1], h * pair.error(stages)
