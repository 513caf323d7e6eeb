"""Solve: a problem is discretised, laid out by multiple shooting, minimised and certified.

The verdict is ours: "solved" means that the certificate, computed from the stages and the
trajectory, is within the tolerance to first order and positive to second order, whatever the
optimiser says of itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from ocp.certificate import Certificate, certify
from ocp.condensing import linearize
from ocp.grid import TimeGrid
from ocp.ipopt import IpoptOptions, minimize
from ocp.nlp import Progress, Status
from ocp.problem import OptimalControlProblem
from ocp.runge_kutta import RK4, ButcherTableau
from ocp.shooting import Shooting
from ocp.solution import Solution, costs_by_term
from ocp.stages import StagedProblem, discretize
from ocp.trajectory import Trajectory, constant_guess, decision_bounds, rollout

# The optimiser is asked for more than the certificate, whose residuals are scaled differently.
TOLERANCE_RATIO = 1e-2
SMALLEST_TOLERANCE = 1e-12  # of the optimiser, above rounding


@dataclass(frozen=True)
class SolveOptions:
    """How to solve.

    Args:
        tolerance: of the certificate's first-order residuals.
        max_iterations: limit of the optimiser's iterations.
        time_limit: wall time of the optimiser, s.
        objective_scale: factor on the objective inside the optimiser; None chooses one that
            brings the largest curvature of the control's cost to 1.
        ipopt: further options of the optimiser, by their own names.

    Raises:
        ValueError: a tolerance outside (0, 1), or limits that are not positive.
    """

    tolerance: float = 1e-8
    max_iterations: int = 3000
    time_limit: float = float("inf")
    objective_scale: float | None = None
    ipopt: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"the tolerance must be between 0 and 1, got {self.tolerance}.")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {self.max_iterations}.")
        if not self.time_limit > 0:
            raise ValueError(f"the time limit must be positive, got {self.time_limit} s.")


def solve(
    problem: OptimalControlProblem,
    grid: TimeGrid,
    tableau: ButcherTableau = RK4,
    *,
    substeps: int = 1,
    guess: Trajectory | None = None,
    options: SolveOptions = SolveOptions(),
    progress: Progress | None = None,
) -> Solution:
    """Minimise a problem in continuous time on a grid, the control constant on each interval.

    Args:
        problem: what to minimise.
        grid: intervals of the control.
        tableau: Runge-Kutta method on every interval.
        substeps: equal steps of the method on every interval.
        guess: where to start; by default zero controls and states held at their initial values.
        options: tolerance and limits.
        progress: called with every iteration.
    """
    staged = discretize(problem, grid, tableau, substeps)
    return solve_staged(staged, guess, options, progress)


def solve_staged(
    staged: StagedProblem,
    guess: Trajectory | None = None,
    options: SolveOptions = SolveOptions(),
    progress: Progress | None = None,
) -> Solution:
    """Minimise a staged problem by multiple shooting, and certify where it ended."""
    begin = time.perf_counter()
    guess = constant_guess(staged) if guess is None else guess
    shooting = Shooting(staged)
    program, start = shooting.program, shooting.pack(guess)
    scale = options.objective_scale or objective_scale(staged, guess)
    built = time.perf_counter()
    result = minimize(
        program,
        start,
        IpoptOptions(
            tolerance=max(TOLERANCE_RATIO * options.tolerance, SMALLEST_TOLERANCE),
            max_iterations=options.max_iterations,
            time_limit=options.time_limit,
            objective_scale=scale,
            extra=options.ipopt,
        ),
        progress,
    )
    trajectory = shooting.unpack(result.point)
    certificate = certify(staged, trajectory)
    status = verdict(certificate, result.status, options.tolerance)
    if status not in (Status.SOLVED, Status.NOT_A_MINIMUM) and _is_free(staged):
        trajectory = _best_rollout(staged, trajectory, guess)
        certificate = certify(staged, trajectory)
    linearization = linearize(staged, trajectory)
    return Solution(
        trajectory=trajectory,
        costates=shooting.costates(result),
        objective=linearization.objective,
        costs=costs_by_term(linearization),
        status=status,
        message=message(status, certificate),
        backend_status=result.backend_status,
        certificate=certificate,
        iterations=result.iterations,
        build_seconds=built - begin + result.build_seconds,
        solve_seconds=time.perf_counter() - built - result.build_seconds,
    )


def verdict(certificate: Certificate, backend: Status, tolerance: float) -> Status:
    """What the certificate says; the optimiser is asked only why it stopped short."""
    if certificate.is_stationary(tolerance) and certificate.is_minimum is not None:
        return Status.SOLVED if certificate.is_minimum else Status.NOT_A_MINIMUM
    return Status.INACCURATE if backend is Status.SOLVED else backend


def message(status: Status, certificate: Certificate) -> str:
    """A sentence on the status, with the culprit if there is one."""
    sentence = status.sentence
    if status is Status.INACCURATE and certificate.is_minimum is None:
        sentence = "There are too many controls for the second-order conditions to be tested."
    if status is Status.INFEASIBLE and certificate.worst:
        sentence += f" Most violated: {certificate.worst}, by {certificate.constraints:.2e}."
    return sentence


def objective_scale(staged: StagedProblem, guess: Trajectory) -> float:
    """Factor that brings the largest curvature (or price) of the control's own cost to 1."""
    linearization = linearize(staged, guess)
    curvature, price = 0.0, 0.0
    for values in linearization.shared:
        multipliers = np.zeros((values.bounds.weight.size, 1))
        second = values.function.hessians(values.unknowns, values.given, multipliers)
        curvature = max(curvature, float(np.abs(second).max(initial=0.0)))
        weights = values.bounds.weight
        price = max(price, float(weights[np.isfinite(weights)].max(initial=0.0)))
    size = curvature or price
    return 1.0 / size if np.isfinite(size) and size > 0 else 1.0


def _is_free(staged: StagedProblem) -> bool:
    """Whether any controls within their bounds are feasible."""
    rows = [stage.rows for stage in staged.stages] + [term.rows for term in staged.shared]
    bounds = [np.concatenate(stage.state_bounds) for stage in staged.stages]
    return all(np.isfinite(r.weight).all() for r in rows) and not any(
        np.isfinite(b).any() for b in bounds
    )


def _best_rollout(staged: StagedProblem, *candidates: Trajectory) -> Trajectory:
    """Of the candidates' controls the ones of least cost, with the states that they lead to."""
    lower, upper = decision_bounds(staged)
    rollouts = [rollout(staged, np.clip(c.decisions, lower, upper)) for c in candidates]
    costs = [linearize(staged, r).objective for r in rollouts]
    return rollouts[int(np.argmin(np.where(np.isfinite(costs), costs, np.inf)))]
