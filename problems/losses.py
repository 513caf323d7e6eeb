"""Losses between read-out z and target y, both of M components; E is their mean over samples.

    squared        |z - y|^2
    distance       |z - y|                      (Euclidean)
    l1             sum |z - y|
    logistic       sum log(1 + exp(-y z))       y = -1/+1
    hinge          sum max(0, 1 - y z)          y = -1/+1
    cross-entropy  log sum exp z - y . z        y one-hot, z the logits

A loss with kinks is posed as exact l1 penalties on soft rows where that is possible (l1, hinge,
and the distance in one dimension); the Euclidean distance in more dimensions is rounded off at
its tip to sqrt(|r|^2 + delta^2) - delta, which is at most delta below it. A sample that ends at the
tip is then pinned there: r = 0 as a constraint, whose multiplier must lie in the Euclidean ball of
the weight of |r| in the cost. A smoothing width delta < 0 says that a sample is pinned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsIndex

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from problems.vector_fields import reduced, softplus

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """A loss of one sample.

    Args:
        name: as on the command line.
        smooth: (z, y, smoothing width delta) -> twice differentiable part.
        kinks: (z, y) -> expression, lower and upper limit of the soft rows whose violation is
            the rest of the loss; None if there is no rest.
        value: (z (N, M), y (N, M)) -> exact loss of every sample, (N,).
        is_classification: whether the targets are classes.
        is_one_hot: whether a row of targets is one class out of M.
        pins: (z, y, delta) -> rows that hold a pinned sample at its tip, zero for others; None if
            there is no tip.
        needs_smoothing: whether `smooth` depends on delta.
        has_minimum: whether the infimum is attained.
    """

    name: str
    smooth: Callable[[ca.SX, ca.SX, ca.SX | float], ca.SX]
    value: Callable[[Array, Array], Array]
    kinks: Callable[[ca.SX, ca.SX], tuple[ca.SX, float, float]] | None = None
    pins: Callable[[ca.SX, ca.SX, ca.SX], ca.SX] | None = None
    is_classification: bool = False
    is_one_hot: bool = False
    needs_smoothing: bool = False
    has_minimum: bool = True

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return reduced(self, globals(), protocol)


def _nothing(z: ca.SX, y: ca.SX, delta: ca.SX | float) -> ca.SX:
    return ca.SX(0)


def _tip(z: ca.SX, y: ca.SX, delta: ca.SX | float) -> ca.SX:
    free = ca.SX(delta) >= 0
    return free * (ca.sqrt(ca.sumsqr(z - y) + delta**2) - delta)


def _pins(z: ca.SX, y: ca.SX, delta: ca.SX) -> ca.SX:
    return (delta < 0) * (z - y)


def _log_sum_exp(z: ca.SX) -> ca.SX:
    largest = ca.mmax(z)
    return largest + ca.log(ca.sum1(ca.exp(z - largest)))


def _cross_entropy(z: Array, y: Array) -> Array:
    largest = z.max(axis=1, keepdims=True)
    return largest[:, 0] + np.log(np.exp(z - largest).sum(axis=1)) - (y * z).sum(axis=1)


SQUARED = Loss(
    "squared",
    lambda z, y, delta: ca.sumsqr(z - y),
    lambda z, y: ((z - y) ** 2).sum(axis=1),
)
L1 = Loss(
    "l1",
    _nothing,
    lambda z, y: np.abs(z - y).sum(axis=1),
    kinks=lambda z, y: (z - y, 0.0, 0.0),
)
DISTANCE = Loss(
    "distance",
    _tip,
    lambda z, y: np.sqrt(((z - y) ** 2).sum(axis=1)),
    pins=_pins,
    needs_smoothing=True,
)
# In one dimension the Euclidean distance is the l1 distance, kinks and all.
DISTANCE_ON_THE_LINE = Loss("distance", _nothing, DISTANCE.value, kinks=L1.kinks)
LOGISTIC = Loss(
    "logistic",
    lambda z, y, delta: ca.sum1(softplus(-y * z)),
    lambda z, y: np.logaddexp(0.0, -y * z).sum(axis=1),
    is_classification=True,
    has_minimum=False,
)
HINGE = Loss(
    "hinge",
    _nothing,
    lambda z, y: np.maximum(0.0, 1.0 - y * z).sum(axis=1),
    kinks=lambda z, y: (1 - y * z, -np.inf, 0.0),
    is_classification=True,
)
CROSS_ENTROPY = Loss(
    "cross-entropy",
    lambda z, y, delta: _log_sum_exp(z) - ca.dot(y, z),
    _cross_entropy,
    is_classification=True,
    is_one_hot=True,
    has_minimum=False,
)
LOSSES = {loss.name: loss for loss in (SQUARED, DISTANCE, L1, LOGISTIC, CROSS_ENTROPY, HINGE)}
