"""Constants of the long-time limit, computed from the minimal-norm problem before any comparison.

With eps = lambda / T, S = |v|^2 in L2(0, 1), v* the minimal-norm interpolant, p_i the multipliers
of its constraints P x_i(1) = y_i, and alpha the weight of the error E:

    bound            alpha E <= eps (S* - S)                               every eps
    squared loss     E = (eps / alpha)^2 N Sum_i |p_i|^2 / 4 + O(eps^3)
    distance losses  E = 0 as soon as eps <= alpha / (N max_i |p_i|)       |p_i| in the dual norm
    value function   V'(eps) = S

The bound holds because v* costs eps S*. On the squared loss, stationarity of the regularised
problem, (2 / N) r_i dz_i + eps dS = 0, beside that of the interpolation problem, p_i dz_i + dS = 0,
gives r_i = eps N p_i / 2 to first order. The distance losses are exact penalties of weight
alpha / N. The last two hold on the branch of v*, near enough to eps = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems.ladder import Ladder, Rung
from problems.ladder_plan import Plan
from problems.learning import Array
from problems.losses import DISTANCE, L1, SQUARED


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the interpolation problem says about the ladder.

    Args:
        size: S*, the least norm squared (or other penalty) of an interpolant on [0, 1].
        multipliers: p_i of the problem on [0, 1], (N, M).
        error_constant: limit of E / eps^2; None for other losses than the squared distance.
        critical_strength: eps below which E = 0; None for other losses than distances.
    """

    size: float
    multipliers: Array
    error_constant: float | None
    critical_strength: float | None

    def error(self, strength: float) -> float | None:
        """Leading term of E at a strength eps; None where nothing is predicted."""
        if self.error_constant is not None:
            return self.error_constant * strength**2
        if self.critical_strength is not None and strength < self.critical_strength:
            return 0.0
        return None

    def error_bound(self, strength: float, size: float, terminal: float) -> float:
        """Upper bound of E from the bound of fact 2.2."""
        return strength * (self.size - size) / terminal


def predict(plan: Plan, interpolant: Rung) -> Predictions:
    """The constants that follow from an interpolant."""
    problem = interpolant.problem
    # Those of min S; the solved problem counts the penalty on its own horizon.
    multipliers = interpolant.solution.multipliers * plan.unit(problem)
    samples, alpha = problem.samples, problem.terminal
    constant = critical = None
    if problem.loss is SQUARED:
        constant = samples * float(np.sum(multipliers**2)) / 4 / alpha**2
    elif problem.loss in (DISTANCE, L1):
        order = 2 if problem.loss is DISTANCE else np.inf
        largest = float(np.linalg.norm(multipliers, order, axis=1).max())
        critical = alpha / (samples * largest) if largest > 0 else np.inf
    return Predictions(interpolant.cost.size, multipliers, constant, critical)


def predictions(ladder: Ladder) -> Predictions | None:
    """Of the best interpolant known; None if there is none."""
    return None if ladder.interpolant is None else predict(ladder.plan, ladder.interpolant)


def at_strength(plan: Plan, strength: float) -> float:
    """Horizon, or weight decay, of the rung that would have this strength eps, for k = 1.

    Raises:
        ValueError: the horizon cannot be scaled away as lambda / T.
    """
    problem = plan.problems[0]
    if not plan.in_horizon:
        return strength * problem.horizon
    if plan.degree != 1 or problem.penalty.square == 0:
        raise ValueError("only a field of degree 1 with the penalty |u|^2 has eps = lambda / T.")
    return problem.weight_decay / strength
