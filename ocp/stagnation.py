"""Whether a minimisation still gets anywhere: a filter of violation and cost with wide margins.

An iterate with violation v and cost f is notable if, compared with every notable iterate j before
it,

    v < LESS_VIOLATION v_j    or    f < f_j - LESS_COST max(|f|, |f_j|)

so that small improvements count once they add up. It is progress if besides v <= NEAR v_k for the
least violation so far: a cheaper point far from feasible is notable, but an exchange of one for the
other may go on for ever. A run stagnates when a window of iterations brings nothing notable, or
a wide one no progress, and no notable fall of the optimality error either: the cost of a run that
converges slowly no longer changes, its error does.

Source of the filter: Fletcher and Leyffer, Math. Program. 91 (2002), 239-269; as in IPOPT, but with
margins that tell progress from crawling, where IPOPT's tell descent from rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ocp.nlp import Array

WINDOW = 500  # iterations; of runs that ended well the longest went 300 without progress
WIDE = 2  # windows
LESS_VIOLATION = 0.5
LESS_COST = 1e-2  # relative
LESS_ERROR = 0.5  # of the optimality error
NEAR = 1e3  # times the least violation


class Stagnation:
    """Follows the iterates of one run.

    Args:
        window: iterations without a notable one after which the run stagnates.
        tolerance: violation that is as good as none.
    """

    def __init__(self, window: int = WINDOW, tolerance: float = 0.0) -> None:
        self.window, self.tolerance = window, tolerance
        self.number = 0
        self.last_notable = self.last_progress = 0
        self._violations = np.zeros(0)
        self._costs = np.zeros(0)
        self._least_violation = np.inf

    def is_reached(self, violation: float, cost: float, errors: Callable[[], Array]) -> bool:
        """Whether the run stagnates with this iterate, the next one.

        Args:
            violation: of the constraints, >= 0.
            cost: f.
            errors: asked only at the end of a window: the optimality error, one for each iterate so
                far, in which violations are contained.
        """
        number, self.number = self.number, self.number + 1
        violation = max(violation, self.tolerance)
        if self._is_notable(violation, cost):
            self.last_notable = number
            self._least_violation = min(self._least_violation, violation)
            if violation <= NEAR * self._least_violation:
                self.last_progress = number
        is_idle = number - self.last_notable >= self.window
        if not is_idle and number - self.last_progress < WIDE * self.window:
            return False
        history, split = errors(), self.last_notable if is_idle else self.last_progress
        before, since = history[: split + 1], history[split + 1 :]
        self.last_notable = self.last_progress = number
        return not np.nanmin(since, initial=np.inf) <= LESS_ERROR * np.nanmin(before)

    def _is_notable(self, violation: float, cost: float) -> bool:
        """Whether no notable iterate so far is nearly as good; those that are worse are dropped."""
        if not (np.isfinite(violation) and np.isfinite(cost)):
            return False
        margin = LESS_COST * np.maximum(np.abs(self._costs), abs(cost))
        is_near = (violation >= LESS_VIOLATION * self._violations) & (cost >= self._costs - margin)
        if is_near.any():
            return False
        kept = (self._violations < violation) | (self._costs < cost)
        self._violations = np.append(self._violations[kept], violation)
        self._costs = np.append(self._costs[kept], cost)
        return True
