"""Limited-memory BFGS: a descent by gradients alone, for the way to where Newton's method is fast.

The step is -H g with the inverse Hessian H built from the last MEMORY pairs s = change of the
point, y = change of the gradient, in the compact form, and a line search for the strong Wolfe
conditions. H begins as a multiple of the identity, or as a given matrix that is close to the
inverse Hessian near a minimum. Where a step is expected to change the cost by little more than its
rounding, slopes alone decide (the approximate Wolfe conditions).

Source: Nocedal and Wright, Numerical Optimization, 2nd ed. (2006), algorithms 3.5, 3.6 and 7.5;
Hager and Zhang, SIAM J. Optim. 16 (2005), 170-192.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg.lapack import dtrtrs

from ocp.stages import Array

MEMORY = 20  # pairs
SUFFICIENT_DECREASE, CURVATURE = 1e-4, 0.9  # of the Wolfe conditions
MOST_TRIALS = 25  # in one line search
ROUNDING = 1e-15  # of the cost, relative: a change below this is none
FLAT = 1e-10  # of the cost, relative: of a smaller expected change the slopes tell more

Evaluation = Callable[[Array], tuple[float, Array]]


@dataclass
class Pairs:
    """Steps s_i and changes y_i of the gradient, the oldest first, and their products s_i . y_j.

    With R the upper triangle of the products and D its diagonal, both recursions of algorithm 7.4,
    which are sums over the pairs one after the other, are triangular systems:

        R a = S d,    r = H_0 (d - Y^T a),    R^T c = D a - Y r,    H d = r + S^T c.

    Args:
        size: of the point.
    """

    size: int
    count: int = 0
    _steps: Array = field(init=False)
    _changes: Array = field(init=False)
    _products: Array = field(init=False)

    def __post_init__(self) -> None:
        self._steps, self._changes = np.empty((2, MEMORY, self.size))
        self._products = np.zeros((MEMORY, MEMORY))

    def add(self, step: Array, change: Array) -> None:
        """Remember one more pair, in place of the oldest one if there are MEMORY."""
        if self.count == MEMORY:
            for kept in (self._steps, self._changes):
                kept[:-1] = kept[1:]
            self._products[:-1, :-1] = self._products[1:, 1:]
            self.count -= 1
        last, self.count = self.count, self.count + 1
        self._steps[last], self._changes[last] = step, change
        self._products[: self.count, last] = self._steps[: self.count] @ change

    def clear(self) -> None:
        """Forget all pairs."""
        self.count = 0

    def product(self, vector: Array, metric: Callable[[Array], Array] | None) -> Array:
        """H times a vector, for the metric H_0, or for the last pair's multiple of the identity."""
        if not self.count:
            return vector if metric is None else metric(vector)
        steps, changes = self._steps[: self.count], self._changes[: self.count]
        products = self._products[: self.count, : self.count]
        weights = dtrtrs(products, steps @ vector)[0]
        rest = vector - weights @ changes
        if metric is None:
            rest *= products[-1, -1] / float(changes[-1] @ changes[-1])
        else:
            rest = metric(rest)
        right = np.diagonal(products) * weights - changes @ rest
        return np.asarray(rest + dtrtrs(products, right, trans=1)[0] @ steps)


@dataclass
class QuasiNewton:
    """A descent that can be left and taken up again.

    Args:
        evaluate: point -> (cost, gradient).
        point, cost, gradient: where it stands.
        metric: product with the matrix that H begins as.
        iterations, evaluations: how many so far.
    """

    evaluate: Evaluation
    point: Array
    cost: float
    gradient: Array
    metric: Callable[[Array], Array] | None = None
    iterations: int = 0
    evaluations: int = 0
    _pairs: Pairs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._pairs = Pairs(self.point.size)

    @classmethod
    def start(cls, evaluate: Evaluation, point: Array) -> QuasiNewton:
        """At a point."""
        cost, gradient = evaluate(point)
        return cls(evaluate, point, cost, gradient, evaluations=1)

    def moved(self, point: Array, cost: float, gradient: Array) -> None:
        """Go on from another point; what is known of the curvature is kept."""
        self.point, self.cost, self.gradient = point, cost, gradient

    def iterate(self) -> bool:
        """One step; False if none lowers the cost any more."""
        direction = -self._pairs.product(self.gradient, self.metric)
        slope = float(self.gradient @ direction)
        if not slope < 0:
            self._pairs.clear()
            direction = -self._pairs.product(self.gradient, self.metric)
            slope = float(self.gradient @ direction)
        if not self._pairs.count and self.metric is None:
            direction = direction / max(1.0, float(np.linalg.norm(self.gradient)))
            slope = float(self.gradient @ direction)
        found = self._search(direction, slope)
        self.iterations += 1
        if found is None:
            if not self._pairs.count:
                return False
            self._pairs.clear()
            return True
        length, cost, gradient = found
        step, change = length * direction, gradient - self.gradient
        if step @ change > 1e-12 * float(change @ change) ** 0.5 * float(step @ step) ** 0.5:
            self._pairs.add(step, change)
        self.point, self.cost, self.gradient = self.point + step, cost, gradient
        return True

    def _search(self, direction: Array, slope: float) -> tuple[float, float, Array] | None:
        """Step length, cost and gradient that satisfy the Wolfe conditions, or None.

        By bisection with cubic interpolation between a length that is too short and one that is
        too long.
        """
        short, long = 0.0, np.inf
        at_short, slope_at_short = self.cost, slope
        length, best = 1.0, None
        noise = (FLAT if -slope <= FLAT * abs(self.cost) else ROUNDING) * abs(self.cost)
        for _ in range(MOST_TRIALS):
            cost, gradient = self.evaluate(self.point + length * direction)
            self.evaluations += 1
            finite = np.isfinite(cost) and np.isfinite(gradient).all()
            slope_here = float(gradient @ direction) if finite else np.nan
            enough = cost <= self.cost + SUFFICIENT_DECREASE * length * slope + noise
            if not finite or not enough or (cost > at_short + noise):
                long = length
                at_long, slope_at_long = (cost, slope_here) if finite else (np.inf, np.nan)
            else:
                best = (length, cost, gradient)
                if abs(slope_here) <= -CURVATURE * slope:
                    return best
                if slope_here > 0:
                    long, at_long, slope_at_long = length, cost, slope_here
                else:
                    short, at_short, slope_at_short = length, cost, slope_here
            if not np.isfinite(long):
                length = 4.0 * length
                continue
            length = _cubic(short, at_short, slope_at_short, long, at_long, slope_at_long)
            if long - short <= 1e-14 * max(1.0, long):
                break
        return best


def _cubic(a: float, fa: float, da: float, b: float, fb: float, db: float) -> float:
    """Minimiser of the cubic through two points with slopes, kept inside; else the middle."""
    middle, width = (a + b) / 2, b - a
    if not (np.isfinite(fb) and np.isfinite(db)):
        return a + 0.1 * width
    d1 = da + db - 3 * (fa - fb) / (a - b)
    square = d1 * d1 - da * db
    if square < 0:
        return middle
    d2 = np.sqrt(square)
    below = db - da + 2 * d2
    if below == 0:
        return middle
    found = b - width * (db + d2 - d1) / below
    return float(min(max(found, a + 0.1 * width), b - 0.1 * width))
