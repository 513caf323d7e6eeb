"""What a status means for the problem at hand: the culprits by name, and advice that fits.

At a point where no constraint violation can be lowered, the violations of the constraints and the
limits that hold them back are in balance,

    sum_violated sign(g_r) grad g_r + sum_held s_r grad g_r + bounds = 0,    |s_r| <= 1,

so what takes part in this sum is what conflicts, and the size of what is left of it tells a point
of local infeasibility from one at which the optimiser merely gave up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear
from scipy.sparse import csc_matrix, hstack, identity

from ocp.attempts import Attempts
from ocp.certificate import NOT_STATIONARY, Certificate
from ocp.condensing import linearize
from ocp.diagnosis import not_finite
from ocp.nlp import Array, NLPResult, Status
from ocp.shooting import Shooting
from ocp.stages import StagedProblem
from ocp.trajectory import Trajectory, decision_bounds

BALANCED = 1e-3  # relative remainder of the sum above at a point of local infeasibility
TAKES_PART = 1e-2  # share of the largest term that makes a group one of those that conflict
LARGEST_PROGRAM = 20_000  # unknowns, of a program whose conflict is looked for
RUN_OFF = 1e8  # size of decisions that tells of a cost without a minimum
NEAR = 1e-6  # distance from a limit, relative, that counts as being held by it
MOST_NAMED = 3


def message(status: Status, certificate: Certificate, tolerance: float = 0.0) -> str:
    """A sentence on the status, with the culprits if there are any beyond the tolerance."""
    sentence, untested = status.sentence, dict(certificate.untested)
    if status is Status.INACCURATE and not certificate.can_be_tested:
        reason = untested.pop("is_minimum", "")
        sentence = f"The second-order conditions could not be tested: {reason}."
    if untested.get("is_minimum") == NOT_STATIONARY:
        del untested["is_minimum"]  # the status says as much
    culprits = [offender for offender in certificate.worst if offender.size > tolerance]
    if status is Status.INFEASIBLE and culprits:
        sentence += f" Most violated: {', '.join(map(str, culprits[:MOST_NAMED]))}."
    if status is not Status.INVALID_NUMBER and untested:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in untested.items())
        sentence += f" Not tested: {reasons}."
    return sentence


def explain(
    shooting: Shooting,
    result: NLPResult,
    certificate: Certificate,
    status: Status,
    tolerance: float,
    without_conflict: str | None = None,
) -> str:
    """A sentence on the status, and for a solve that failed what is wrong and what to do.

    The constraints that conflict are found by least squares, which may take longer than the solve;
    words given in their place leave that out.
    """
    sentence = message(status, certificate, tolerance)
    if status in (Status.SOLVED, Status.INTERRUPTED, Status.NOT_A_MINIMUM):
        return sentence
    attempts = Attempts()
    none: list[str] = []
    parts = attempts.compute(
        "explanation",
        lambda: _causes(shooting, result, status, tolerance, attempts, without_conflict),
        none,
    )
    reasons = [f"No {part} was found: {reason}." for part, reason in attempts.reasons.items()]
    return " ".join([sentence, *parts, *reasons])


def _causes(
    shooting: Shooting,
    result: NLPResult,
    status: Status,
    tolerance: float,
    attempts: Attempts,
    without_conflict: str | None,
) -> list[str]:
    """Sentences on what is wrong with a solve that failed, and what to do."""
    staged, parts = shooting.staged, list[str]()
    trajectory = shooting.unpack(result.point)
    culprit = not_finite(linearize(staged, trajectory))
    if culprit is not None:
        parts.append(
            f"At the last point: {culprit}; keep the states away from there by a bound, or start "
            "elsewhere."
        )
    elif _has_run_off(staged, trajectory):
        parts.append(
            f"The controls or parameters have run off to {np.abs(trajectory.decisions).max():.0e}: "
            "the cost seems to have no minimum; bound them or give them a cost."
        )
    elif status is Status.INFEASIBLE and without_conflict is not None:
        parts.append(without_conflict)
    elif status is Status.INFEASIBLE:
        found = attempts.compute(
            "conflict", lambda: conflict(shooting, result.point, tolerance), None
        )
        if found is not None:
            parts.append(found.sentence)
    rows, free = degrees_of_freedom(staged)
    if rows > free:
        parts.append(
            f"There are too few degrees of freedom: {rows} equality rows for {free} free controls "
            "and parameters; take more intervals, free the end time, or drop constraints."
        )
    elif status is Status.FAILED and not parts:
        parts.append(
            "Look for states at which the model is singular and bound them away from there, scale "
            "the problem, or start from a better guess."
        )
    elif status in (Status.ITERATION_LIMIT, Status.TIME_LIMIT):
        parts.append("Raise the limit, or start from this solution or from a better guess.")
    return list(filter(None, parts))


def _has_run_off(staged: StagedProblem, trajectory: Trajectory) -> bool:
    lower, upper = decision_bounds(staged)
    bounds = np.where(np.isfinite(lower), np.abs(lower), 0.0)
    bounds = np.maximum(bounds, np.where(np.isfinite(upper), np.abs(upper), 0.0))
    return bool((np.abs(trajectory.decisions) > RUN_OFF * np.maximum(1.0, bounds)).any())


def degrees_of_freedom(staged: StagedProblem) -> tuple[int, int]:
    """Number of hard equality rows, and of decisions that their bounds do not fix."""
    lower, upper = decision_bounds(staged)
    blocks = [(stage.rows, staged.members) for stage in staged.stages]
    blocks += [(term.rows, 1) for term in staged.shared]
    rows = sum(
        copies * int((np.isinf(rows.weight) & (rows.lower == rows.upper)).sum())
        for rows, copies in blocks
    )
    return rows, int((lower < upper).sum())


@dataclass(frozen=True)
class Conflict:
    """What cannot be satisfied together.

    Args:
        groups: names of constraints, bounds and dynamics in the balance, the largest first.
        is_local_minimum: whether the violation cannot be lowered nearby.
    """

    groups: tuple[str, ...]
    is_local_minimum: bool

    @property
    def sentence(self) -> str:
        """What it says, with advice."""
        names = " and ".join(self.groups)
        if not self.is_local_minimum:
            return "The optimiser stopped before it could tell why; start from a better guess."
        if len(self.groups) == 1:
            return f"Nearby, {names} cannot be satisfied any better; start elsewhere, or relax it."
        return f"Nearby, {names} cannot hold together; relax one of them, or start elsewhere."


def conflict(shooting: Shooting, point: Array, tolerance: float) -> Conflict | None:
    """Which groups conflict at a point that violates constraints; None if that is too much work."""
    program = shooting.program
    if point.size > LARGEST_PROGRAM or not np.isfinite(point).all():
        return None
    values = program.constraints(point).full().ravel()
    lower, upper = program.constraint_lower, program.constraint_upper
    size = _size(lower, upper)
    violation = np.maximum(values - upper, 0.0) - np.maximum(lower - values, 0.0)
    violated = np.abs(violation) > max(tolerance, NEAR) * size
    if not violated.any():
        return None
    held = ~violated & ((values >= upper - NEAR * size) | (values <= lower + NEAR * size))
    sparse = program.jacobian(point).sparse()
    jacobian = csc_matrix(sparse)
    signs = np.sign(violation) * violated
    pull = np.asarray(jacobian.T @ signs).ravel()
    reach = NEAR * _size(program.lower, program.upper)
    at_lower = point <= program.lower + reach
    at_upper = point >= program.upper - reach
    bounds = np.flatnonzero(at_lower | at_upper)
    rows = np.flatnonzero(held)
    matrix = hstack([jacobian.T[:, rows], identity(point.size, format="csc")[:, bounds]]).tocsc()
    if matrix.shape[1]:
        one_sided = lower[rows] < upper[rows]
        below = one_sided & (values[rows] <= lower[rows] + NEAR * size[rows])
        above = one_sided & ~below
        low = np.concatenate([np.where(above, 0.0, -1.0), np.where(at_lower[bounds], -np.inf, 0.0)])
        high = np.concatenate([np.where(below, 0.0, 1.0), np.where(at_upper[bounds], np.inf, 0.0)])
        found = lsq_linear(matrix, -pull, (low - 1e-12, high + 1e-12), lsq_solver="lsmr").x
        remainder = pull + matrix @ found
    else:
        found, remainder = np.zeros(0), pull
    weights: dict[str, float] = {}
    terms = [(int(r), 1.0) for r in np.flatnonzero(violated)]
    terms += [(int(r), abs(float(s))) for r, s in zip(rows, found[: rows.size], strict=True)]
    for r, weight in terms:
        name = shooting.constraint_group(r)
        weights[name] = max(weights.get(name, 0.0), weight)
    for j, weight in zip(bounds, np.abs(found[rows.size :]), strict=True):
        name = shooting.unknown_group(int(j))
        if name:
            name = f"the bounds of {name}"
            weights[name] = max(weights.get(name, 0.0), float(weight))
    balanced = float(np.abs(remainder).max()) <= BALANCED * max(1.0, float(np.abs(pull).max()))
    return Conflict(_largest(weights.items()), balanced)


def _size(lower: Array, upper: Array) -> Array:
    """One more than the nearer of two limits, where there is one."""
    nearer = np.minimum(np.abs(lower), np.abs(upper))
    return np.asarray(1.0 + np.where(np.isfinite(nearer), nearer, 0.0))


def _largest(weights: Iterable[tuple[str, float]]) -> tuple[str, ...]:
    """Names of the notable groups; the dynamics, which take part in everything, come last."""
    ordered = sorted(weights, key=lambda pair: -pair[1])
    largest = ordered[0][1]
    names = [name for name, weight in ordered if weight >= TAKES_PART * largest]
    others = [name for name in names if name != "the dynamics"]
    return tuple(others or names)
