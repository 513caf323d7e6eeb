"""Checks of a ladder's rungs against each other, and rates of its convergence.

In one family J = rest + eps S, the value function V(eps) = min J is concave with V' = S, `rest`
falls and S grows as eps falls, and every control found anywhere bounds V from above at every eps by
its straight line. With eps_i > eps_{i+1}, minimality of both rungs means

    S_i <= (V_i - V_{i+1}) / (eps_i - eps_{i+1}) <= S_{i+1},

from which concavity and both monotonicities follow. Where the rungs are different problems only
the transferred controls are compared. A violation proves that a rung is no global minimum; no
violation proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ocp.analysis import LineFit, fit_line, fit_power, l2_distance, settled
from problems.ladder import Ladder, Rung, beating, smoothing_error
from problems.ladder_plan import label
from problems.predictions import Predictions

AGREEMENT = 1e-7  # relative, between quantities that the tolerance of the solves leaves open
FLOOR = 1e3  # differences below this many tolerances, relatively, are not fitted


@dataclass(frozen=True)
class Checks:
    """What the rungs say about each other; None where a check does not apply.

    Args:
        is_consistent: no rung is beaten, and no check below fails.
        is_concave: V is, on the rungs.
        is_error_monotone: `rest` does not grow as eps falls.
        is_norm_monotone: S does not fall as eps falls.
        slopes: (V_i - V_{i+1}) / (eps_i - eps_{i+1}), to lie between S_i and S_{i+1}.
        error_bound_holds: of fact 2.2, for each rung; None without an interpolant.
        is_branch_best: whether the last rung leads to the best interpolant known.
        not_applicable: why the checks of one family do not apply; None if they do.
        violations: one sentence for each.
    """

    is_consistent: bool
    is_concave: bool | None
    is_error_monotone: bool | None
    is_norm_monotone: bool | None
    slopes: tuple[float, ...]
    error_bound_holds: tuple[bool, ...] | None
    is_branch_best: bool | None
    not_applicable: str | None
    violations: tuple[str, ...]


def check(ladder: Ladder, predicted: Predictions | None) -> Checks:
    """Check the rungs that are there."""
    plan, rungs = ladder.plan, ladder.rungs
    violations = []
    for i, rung in enumerate(rungs):
        for source, least in beating(plan, rungs, ladder.interpolant, i)[:1]:
            names = [label(plan, j) for j, other in enumerate(rungs) if other is source]
            violations.append(
                f"{label(plan, i)} costs {rung.cost.total:.10g}, but the control of "
                f"{names[0] if names else 'the interpolant'} costs {least:.10g} there"
            )
        if not rung.solution.solution.is_solved:
            violations.append(f"{label(plan, i)} ended as {rung.solution.status.value}")
    concave = errors = norms = None
    slopes: tuple[float, ...] = ()
    if plan.is_one_family:
        strengths = np.array([rung.cost.strength for rung in rungs])
        distinct = bool(np.all(np.diff(strengths) < 0))
        rest = [rung.cost.rest for rung in rungs]
        sizes = [rung.cost.size for rung in rungs]
        if distinct:
            slopes = tuple(
                (a.cost.total - b.cost.total) / (a.cost.strength - b.cost.strength)
                for a, b in pairwise(rungs)
            )
            errors = not any(_exceeds(b, a) for a, b in pairwise(rest))
            norms = not any(_exceeds(a, b) for a, b in pairwise(sizes))
            brackets = zip(pairwise(sizes), slopes, strict=True)
            within = [not _exceeds(a, s) and not _exceeds(s, b) for (a, b), s in brackets]
            concave = not any(_exceeds(a, b) for a, b in pairwise(slopes)) and all(within)
        for holds, sentence in (
            (errors, "the error grows along the ladder"),
            (norms, "the norm falls along the ladder"),
            (concave, "the value function is not concave"),
        ):
            if holds is False:
                violations.append(sentence)
    bounds = None
    if predicted is not None:
        bounds = tuple(_obeys(rung, predicted) for rung in rungs)
        violations += [
            f"{label(plan, i)} exceeds the bound (S* - S) eps of its error"
            for i, holds in enumerate(bounds)
            if not holds
        ]
    best = None
    if ladder.interpolant is not None:
        best = ladder.branch is ladder.interpolant
    return Checks(
        not violations,
        concave,
        errors,
        norms,
        slopes,
        bounds,
        best,
        plan.unscalable,
        tuple(violations),
    )


def _exceeds(value: float, limit: float) -> bool:
    return value > limit + AGREEMENT * abs(limit)


def _obeys(rung: Rung, predicted: Predictions) -> bool:
    """Whether rest <= eps (S* - S), up to what the smoothing of kinks leaves open."""
    slack = AGREEMENT * abs(rung.cost.total) + smoothing_error(rung)
    return rung.cost.total <= rung.cost.strength * predicted.size + slack


@dataclass(frozen=True)
class Fit:
    """A fitted exponent beside the predicted one.

    Args:
        quantity: what was fitted.
        against: the variable it is a power of, or whose logarithm it is a line in.
        line: the fit; None if too few rungs are above the tolerance.
        predicted: exponent; None where none is claimed.
    """

    quantity: str
    against: str
    line: LineFit | None
    predicted: float | None


def fits(ladder: Ladder, predicted: Predictions | None, tolerance: float) -> dict[str, Fit]:
    """Exponents in 1 / eps over the settled end of the ladder.

    Args:
        ladder: its rungs.
        predicted: from the interpolant, if there is one.
        tolerance: of the solves; differences near it are left out.
    """
    plan = ladder.plan
    against = "1 / weight decay" if not plan.in_horizon else "horizon"
    # eps = lambda / T has the exponent -1 in T; other ladders are fitted in 1 / eps itself
    if plan.in_horizon and (plan.degree != 1 or plan.problems[0].penalty.square == 0):
        against = "horizon"
    x = np.array(
        [
            rung.problem.horizon if plan.in_horizon else 1 / rung.problem.weight_decay
            for rung in ladder.rungs
        ]
    )
    found: dict[str, Fit] = {}
    error = np.array([rung.error for rung in ladder.rungs])
    squared = predicted is not None and predicted.error_constant is not None
    exact = predicted is not None and predicted.critical_strength is not None
    if not exact:  # of a distance loss the error is zero, not a power
        found["training_error"] = _power(
            "training error", against, x, error, 1e-14, -2.0 if squared else None
        )
    sizes = np.array([rung.cost.size for rung in ladder.rungs])
    if predicted is not None and ladder.interpolant is not None:
        noise = FLOOR * tolerance
        goal = ladder.rescaled(ladder.interpolant)
        distance = np.array([l2_distance(ladder.rescaled(r), goal) for r in ladder.rungs])
        norm = float(np.sqrt(ladder.norm_squared(ladder.interpolant)))
        slope = -1.0 if squared else None
        found["norm_gap"] = _power(
            "S* - S", against, x, predicted.size - sizes, noise * predicted.size, slope
        )
        found["control_distance"] = _power("|v - v*|", against, x, distance, noise * norm, slope)
    elif not plan.problems[0].loss.has_minimum and len(x) >= 2:
        end = settled(len(x))
        line = fit_line(np.log(x[end]), sizes[end])
        found["norm_growth"] = Fit("S", f"log {against}", line, None)
    return found


def _power(
    quantity: str,
    against: str,
    x: np.ndarray,
    values: np.ndarray,
    floor: float,
    predicted: float | None,
) -> Fit:
    usable = np.flatnonzero(values > floor)
    usable = usable[settled(usable.size)]
    line = fit_power(x[usable], values[usable]) if usable.size >= 3 else None
    return Fit(quantity, against, line, predicted)
