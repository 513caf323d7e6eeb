"""Limits of rows, states and decisions: which of them hold, and what their multipliers may be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ocp.stages import Array

ACTIVITY = 1e-6  # a row or bound this close to its limit, relative to its size, counts as active
NEARLY_ACTIVE = 1e-3  # a limit farther off than this, relative to its size, is not active


@dataclass(frozen=True, eq=False)
class Limits:
    """Values with limits, (N, r): which of them are active, and what multipliers may be there.

    Args:
        is_active: whether the limit holds the value.
        low, high: the interval in which the multiplier of an active limit may lie, relative to
            what is settled; it is 0 where nothing is active.
        touches: whether the value is at a limit, up to rounding.
        below, above: distance to the lower and to the upper limit, negative beyond it.
        weight: the price of violation, infinite for a hard limit.
        exist: whether there is any limit; where there is none, nothing has to be looked at.
    """

    is_active: np.ndarray
    low: Array
    high: Array
    touches: np.ndarray
    below: Array
    above: Array
    weight: Array
    exist: bool = True

    @classmethod
    @cache
    def none(cls, shape: tuple[int, ...]) -> Limits:
        """No limit at all, without memory."""
        never, zero, infinite = (np.broadcast_to(value, shape) for value in (False, 0.0, np.inf))
        return cls(never, zero, zero, never, infinite, infinite, infinite, False)

    def clip(self, multipliers: Array) -> Array:
        """Multipliers made to have the right sign, and no more than the price."""
        if not self.exist:
            return np.broadcast_to(0.0, multipliers.shape)
        low = np.where(np.isfinite(self.below), -self.weight, 0.0)
        high = np.where(np.isfinite(self.above), self.weight, 0.0)
        return np.clip(multipliers, low, high)

    def complementarity(self, multipliers: Array) -> float:
        """Largest product of a multiplier and the distance from the limit that it belongs to.

        Of a violated soft limit: of what is missing to the price, and the violation. What touches
        its limit counts as being there.
        """
        worst = 0.0
        if not self.exist:
            return worst
        for y, distance in ((multipliers, self.above), (-multipliers, self.below)):
            held = (y > 0) & (distance > 0) & ~self.touches
            worst = max(worst, float((y[held] * distance[held]).max(initial=0.0)))
            violated = (distance < 0) & np.isfinite(self.weight) & ~self.touches
            missing = (self.weight - y)[violated] * -distance[violated]
            worst = max(worst, float(missing.max(initial=0.0)))
        return worst


def limits_of(
    values: Array,
    lower: Array,
    upper: Array,
    weight: Array | float,
    proposal: Array | None,
    cost_scale: float,
) -> Limits:
    """Limits of values (N, r).

    A limit is active where the value touches it, or is beyond a hard one (the violation is
    reported apart), or where the proposed multiplier tells so by outweighing the distance.
    """
    if not (values.size and (np.isfinite(lower).any() or np.isfinite(upper).any())):
        return Limits.none(values.shape)
    lower, upper = np.broadcast_to(lower, values.shape), np.broadcast_to(upper, values.shape)
    weight = np.broadcast_to(np.asarray(weight, dtype=float), values.shape)
    hard = np.isinf(weight)
    touches = touches_limit(values, lower) | touches_limit(values, upper)
    at_lower = touches_limit(values, lower) | (hard & (values < lower))
    at_upper = touches_limit(values, upper) | (hard & (values > upper))
    if proposal is not None and cost_scale > 0:
        for sign, limit, found in ((-1.0, lower, at_lower), (1.0, upper, at_upper)):
            finite = np.where(np.isfinite(limit), limit, 0.0)
            size = 1.0 + np.abs(finite)
            distance = np.where(np.isfinite(limit), np.abs(values - finite), np.inf) / size
            price = sign * proposal * size / cost_scale
            found |= (price > distance) & (distance < NEARLY_ACTIVE) & hard
    low = np.where(at_lower, -weight, 0.0)
    high = np.where(at_upper, weight, 0.0)
    active = at_lower | at_upper
    return Limits(active, low, high, touches, values - lower, upper - values, weight)


def touches_limit(values: Array, limit: Array) -> np.ndarray:
    """Whether values are at a limit, up to rounding; never where there is none."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(limit) & (np.abs(values - limit) <= ACTIVITY * (1.0 + np.abs(limit)))
