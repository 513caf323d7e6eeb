"""Rates from data: straight lines through logarithms, with confidence intervals, and norms.

    power law     y ~ C x^p              fitted as  log y = log C + p log x
    exponential   y ~ C exp(-rate t)     fitted as  log y = log C - rate t

A slope's interval is Student's, for independent errors of equal variance. Where the deviations are
those of a curve that has not settled yet, it says how straight the line is, not how far off the
limit may be; so `settled` fits only the end of a sequence. Piecewise constant functions of time are
compared in L2, on any two grids. Units are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]

CONFIDENCE = 0.95  # of the intervals, unless asked otherwise


@dataclass(frozen=True)
class LineFit:
    """A straight line fitted by least squares.

    Args:
        slope, intercept: of y = intercept + slope x.
        interval: of the slope at `confidence`; None with two points, which leave no deviation.
        confidence: of the interval.
        points: how many were used.
        deviation: root mean square of what is left, in units of y.
    """

    slope: float
    intercept: float
    interval: tuple[float, float] | None
    confidence: float
    points: int
    deviation: float


def fit_line(x: ArrayLike, y: ArrayLike, confidence: float = CONFIDENCE) -> LineFit:
    """Least-squares line through points, with Student's interval of its slope.

    Args:
        x: (n,) abscissas, n >= 2, finite, not all equal.
        y: (n,) ordinates, finite.
        confidence: between 0 and 1.

    Raises:
        ValueError: unequal or too few points, values that are not finite, or x all equal.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or x.size < 2:
        raise ValueError(
            f"a line needs x and y of equal length, at least 2, got shapes {x.shape} and {y.shape}."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a line needs finite points; leave out those that are not.")
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence must be between 0 and 1, got {confidence}.")
    centred = x - x.mean()
    spread = float(centred @ centred)
    if spread == 0.0:
        raise ValueError(f"a line needs two different abscissas, got {x[0]:g} only.")
    slope = float(centred @ (y - y.mean())) / spread
    intercept = float(y.mean() - slope * x.mean())
    left = y - intercept - slope * x
    freedom = x.size - 2
    interval = None
    if freedom > 0:
        error = float(np.sqrt(left @ left / freedom / spread))
        half = float(student.ppf((1 + confidence) / 2, freedom)) * error
        interval = (slope - half, slope + half)
    deviation = float(np.sqrt(np.mean(left**2)))
    return LineFit(slope, intercept, interval, confidence, x.size, deviation)


def fit_power(x: ArrayLike, y: ArrayLike, confidence: float = CONFIDENCE) -> LineFit:
    """Exponent of y ~ C x^p: the slope of log y against log x.

    Raises:
        ValueError: a value that is not positive, or what `fit_line` refuses.
    """
    return fit_line(_logarithm(x, "x"), _logarithm(y, "y"), confidence)


def fit_exponential(t: ArrayLike, y: ArrayLike, confidence: float = CONFIDENCE) -> LineFit:
    """Rate of y ~ C exp(-rate t): the slope of log y against t is -rate.

    Raises:
        ValueError: a value that is not positive, or what `fit_line` refuses.
    """
    return fit_line(t, _logarithm(y, "y"), confidence)


def settled(count: int, share: float = 0.5, least: int = 3) -> slice:
    """The end of a sequence of `count` points: that share of it, but at least `least` points."""
    return slice(max(0, count - max(least, round(share * count))), count)


def _logarithm(values: ArrayLike, name: str) -> Array:
    array = np.asarray(values, dtype=float)
    if not (array > 0).all():
        raise ValueError(
            f"a fit to the logarithm needs positive {name}, got {float(array.min()):g}; "
            "leave out values that have reached zero."
        )
    return np.log(array)


def l2_norm(values: Array, steps: Array) -> float:
    """(Int |u|^2 dt)^(1/2) of a piecewise constant function with values (K, m) on steps (K,)."""
    return float(np.sqrt(np.sum(values**2, axis=1) @ steps))


def l2_distance(first: Array, second: Array, length: float = 1.0) -> float:
    """L2 distance of two functions on [0, length], constant on K and on K' equal intervals.

    Args:
        first: values (K, m).
        second: values (K', m).
        length: of the interval.

    Raises:
        ValueError: different numbers of components.
    """
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"functions of shapes {first.shape} and {second.shape} differ in their components."
        )
    # Breakpoints counted in units of 1 / (K K'), where all of them are whole numbers.
    k, other = len(first), len(second)
    breaks = np.unique(np.concatenate([np.arange(k + 1) * other, np.arange(other + 1) * k]))
    left, steps = breaks[:-1], np.diff(breaks) / (k * other)
    return l2_norm(first[left // other] - second[left // k], length * steps)


def resample(values: Array, intervals: int) -> Array:
    """Means on another number of equal intervals: the nearest such function in L2, (intervals, m).

    Exact where every interval is cut into equal parts; the norm never grows.
    """
    count = len(values)
    if count == intervals:
        return values.copy()
    # Integral up to breakpoints in units of 1 / (count * intervals) of the whole.
    total = np.vstack([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    position = np.arange(intervals + 1) * count
    whole, part = position // intervals, (position % intervals) / intervals
    padded = np.vstack([values, np.zeros_like(values[:1])])
    integral = total[whole] + part[:, None] * padded[whole]
    if intervals % count == 0:
        return np.repeat(values, intervals // count, axis=0)
    return np.diff(integral, axis=0) * intervals / count
