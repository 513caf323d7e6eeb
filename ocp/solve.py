"""Solve: a problem is discretised, laid out as a program, minimised and certified.

The verdict is ours: "solved" means that the certificate, computed from the stages and the
trajectory, is within the tolerance to first order and positive to second order, whatever the
optimiser says of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ocp.blas_threads import threads_for
from ocp.certificate import Certificate, certify, certify_linearized
from ocp.condensing import Linearization, adjoint, linearize, reduced_gradient
from ocp.continuous import ContinuousSolution, in_continuous_time, judged_by_its_error
from ocp.deadline import NEVER, Deadline
from ocp.diagnosis import initial_offenders, not_finite
from ocp.discretize import Transcription, embed, uniform_grid
from ocp.explanation import explain, message
from ocp.first_phase import has_collapsed
from ocp.grid import TimeGrid
from ocp.guess import Guess
from ocp.interrupt import interruptible
from ocp.ipopt import IpoptOptions
from ocp.linear_solvers import LinearSolver
from ocp.method import Choice, Method, choose, kinks_or_limits
from ocp.newton import Limits
from ocp.nlp import NLPResult, Progress, Status
from ocp.nlp_solvers import NLPSolver, minimize
from ocp.other_starts import from_other_starts, is_failure, leaves_room
from ocp.problem import OptimalControlProblem
from ocp.reduced import Reduced
from ocp.reduced_program import ReducedProgram
from ocp.reduction import minimize_reduced
from ocp.remarks import with_remarks
from ocp.runge_kutta import GAUSS_LEGENDRE_4, ButcherTableau
from ocp.scaling import Scaling, automatic_scaling, scaled, scaled_rows, to_scaled
from ocp.shooting import Shooting
from ocp.solution import Solution, costs_by_term
from ocp.stages import Array, StagedProblem
from ocp.stagnation import WINDOW
from ocp.timings import spent_on, timed
from ocp.trajectory import (
    Trajectory,
    checked_decisions,
    constant_guess,
    decision_bounds,
    rollout,
)

# The optimiser is asked for more than the certificate, whose residuals are scaled differently.
TOLERANCE_RATIO = 1e-2
RETRIES = 2  # of a solve that ends short of the certificate's tolerance
RETRY_SCALE = 1e4  # factor on the objective in each
GIVEN_UP: tuple[Status, ...] = (
    Status.INACCURATE,
    Status.INFEASIBLE,
    Status.FAILED,
)  # without states: shooting is tried
ASTRAY: tuple[Status, ...] = (*GIVEN_UP, Status.INVALID_NUMBER)  # the same, of a program with rows
FEASIBLE = 1e-4  # relative violation beyond which a point that is called solved is infeasible
SMALLEST_TOLERANCE = 1e-12  # of the optimiser, above rounding
FIRST_PHASE_ITERATIONS = 300  # at one horizon; one that needs more is left for the next


@dataclass(frozen=True)
class SolveOptions:
    """How to solve.

    Args:
        tolerance: of the certificate's first-order residuals.
        discretization_tolerance: of what `solve` finds on its grid against the differential
            equation, dimensionless: the largest relative defect of a step, violation of a path
            constraint between the nodes, or residual there of a relation that holds a control.
            Beyond it the status is INACCURATE; infinite to take the grid as it is. By default
            1e-2: of the textbook problems of `problems.classic` and `problems.literature` on 50
            intervals none is beyond 2e-3, of relations held at the nodes alone none below 1e-2.
        max_iterations: limit of the optimiser's iterations; those of a quasi-Newton descent are
            cheap, and a wide network may need thousands.
        time_limit: wall time of a whole call, s: of all starts and retries together, and of what
            comes after them; what it leaves no time for is left out, and the message says so.
        idle_iterations: without notable progress in violation, cost or optimality error
            (`ocp.stagnation`) after which IPOPT is stopped.
        objective_scale: factor on the objective inside the optimiser; None chooses one.
        method: how to solve; AUTO chooses by size and expected time, see `ocp.method`.
        ipopt: further options of IPOPT, by their own names.
        linear_solver: of IPOPT; one that does not work here is refused when the solve begins.
        nlp_solver: the optimiser; the verdict is ours, whichever it is.

    Raises:
        ValueError: a tolerance outside (0, 1), or limits that are not positive.
    """

    tolerance: float = 1e-8
    discretization_tolerance: float = 1e-2
    max_iterations: int = 10_000
    time_limit: float = float("inf")
    idle_iterations: int = WINDOW
    objective_scale: float | None = None
    ipopt: dict[str, object] = field(default_factory=dict)
    method: Method = Method.AUTO
    linear_solver: LinearSolver = LinearSolver.MUMPS
    nlp_solver: NLPSolver = NLPSolver.IPOPT

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"the tolerance must be between 0 and 1, got {self.tolerance}.")
        if not self.discretization_tolerance > 0:
            raise ValueError(
                "the discretization tolerance must be positive, or infinite for none, got "
                f"{self.discretization_tolerance}."
            )
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {self.max_iterations}.")
        if self.idle_iterations < 1:
            raise ValueError(f"idle_iterations must be at least 1, got {self.idle_iterations}.")
        if not self.time_limit > 0:
            raise ValueError(f"the time limit must be positive, got {self.time_limit} s.")


def solve(
    problem: OptimalControlProblem,
    grid: TimeGrid | int = 50,
    tableau: ButcherTableau | Sequence[ButcherTableau] = GAUSS_LEGENDRE_4,
    *,
    substeps: int = 1,
    control_per_stage: bool = False,
    guess: Guess | Trajectory | Solution | None = None,
    scaling: Scaling | None = None,
    options: SolveOptions = SolveOptions(),
    progress: Progress | None = None,
    deadline: Deadline | None = None,
) -> ContinuousSolution:
    """Solve a problem in continuous time on a grid.

    Args:
        problem: what to minimise, or maximise.
        grid: intervals, or their number if they are equal; a given grid spans the problem's
            times; it counts from the start if that is free, and spans [0, 1] if the end time is.
        tableau: Runge-Kutta method on every interval, or one for each of them; an implicit one,
            with its stages among the unknowns, copes best with bad guesses and stiff dynamics.
        substeps: equal steps of the method on every interval.
        control_per_stage: one control for each Runge-Kutta stage, for high order, instead of one
            per interval.
        guess: where to start: a guess, a trajectory on this very grid, or an earlier solution on
            any grid, method or horizon; one of the same shape also lends its multipliers. See
            `Guess` for the default; if that fails, a few others are tried (`ocp.other_starts`), as
            they are after a guess of the parameters alone if the end time is free.
        scaling: sizes of the variables; by default those of an earlier solution, or powers of ten
            from bounds and guess.
        options: tolerance and limits.
        progress: called with every iteration.
        deadline: shared with other calls; the earlier of it and of the options' time limit counts.

    Returns:
        The solution in the problem's own terms and units: of the cost to be maximised if that was
        asked, with free initial values in the first state and times on a free horizon.
    """
    deadline = (deadline or NEVER).within(options.time_limit)
    if not isinstance(grid, TimeGrid):
        grid = uniform_grid(problem, grid)
    tableaux = (
        (tableau,) * grid.intervals if isinstance(tableau, ButcherTableau) else tuple(tableau)
    )
    with timed() as watch, interruptible() as request:
        transcription = Transcription(problem, grid, tableaux, substeps, control_per_stage)
        found = _solve_from(guess, transcription, scaling, options, progress, deadline)
        if _may_try_others(found, guess, transcription, options):
            run = partial(
                _run, scaling=scaling, options=options, progress=progress, deadline=deadline
            )
            start = guess if isinstance(guess, Guess) else Guess()
            with spent_on("search"):
                found = from_other_starts(found, start, transcription, run, deadline, request)
        found = with_remarks(_judged(found, options, deadline))
    return found.changed(timings=watch.timings())


def _may_try_others(
    found: ContinuousSolution,
    guess: Guess | Trajectory | Solution | None,
    transcription: Transcription,
    options: SolveOptions,
) -> bool:
    """Whether other starts may do better, and are safe to try.

    Fatrop may loop for ever, deaf to all limits, once a slope of the model is not finite.
    """
    is_stuck = found.status is Status.INVALID_NUMBER and options.nlp_solver is NLPSolver.FATROP
    is_open = leaves_room(guess, transcription)
    return is_failure(found, options.tolerance) and is_open and not is_stuck


def _judged(
    found: ContinuousSolution, options: SolveOptions, deadline: Deadline
) -> ContinuousSolution:
    """With what its error says of the grid that it was solved on, if there is time to look."""
    if found.is_solved and deadline.has_passed:
        words = "The time limit left no time to see whether the grid is fine enough."
        return found.changed(message=f"{found.message} {words}")
    return judged_by_its_error(found, options.discretization_tolerance)


def _run(
    guess: Guess | Trajectory,
    transcription: Transcription,
    is_first_phase: bool,
    scaling: Scaling | None,
    options: SolveOptions,
    progress: Progress | None,
    deadline: Deadline,
) -> ContinuousSolution:
    """Solve from another guess; of a first phase nothing but its trajectory is wanted."""
    arguments = (guess, transcription, scaling)
    if not is_first_phase:
        return _solve_from(*arguments, options, progress, deadline, is_explained=False)
    options = replace(options, max_iterations=min(options.max_iterations, FIRST_PHASE_ITERATIONS))
    return _minimized_from(*arguments, options, progress, deadline, is_explained=False)


def _solve_from(
    guess: Guess | Trajectory | Solution | None,
    transcription: Transcription,
    scaling: Scaling | None,
    options: SolveOptions,
    progress: Progress | None,
    deadline: Deadline,
    is_explained: bool = True,
) -> ContinuousSolution:
    """Solve a transcribed problem from one guess; an end time that is no time is a failure."""
    found = _minimized_from(
        guess, transcription, scaling, options, progress, deadline, is_explained
    )
    if not has_collapsed(transcription.problem, found.horizon):
        return found
    words = (
        f"The end time has collapsed to {found.horizon:.1e}; bound it from below, bound the "
        "controls, or guess the time."
    )
    status = Status.FAILED if found.is_solved else found.status
    words = words if found.is_solved else f"{found.message} {words}"
    return found.changed(status=status, message=words)


def _minimized_from(
    guess: Guess | Trajectory | Solution | None,
    transcription: Transcription,
    scaling: Scaling | None,
    options: SolveOptions,
    progress: Progress | None,
    deadline: Deadline,
    is_explained: bool,
) -> ContinuousSolution:
    """Solve a transcribed problem from one guess, in scaled variables."""
    problem, grid = transcription.problem, transcription.grid
    start, warm = _start(guess, transcription)
    if scaling is None and isinstance(guess, ContinuousSolution):
        scaling = guess.scaling
    scaling = (automatic_scaling(problem, start) if scaling is None else scaling).of(problem)
    inner = scaled_rows(scaled(problem, scaling), to_scaled(start, scaling))
    inner_grid = grid
    if not problem.has_free_horizon and scaling.time != 1.0:
        inner_grid = TimeGrid(grid.nodes / scaling.time)
    inner_transcription = replace(transcription, problem=inner, grid=inner_grid)
    if scaling.cost is not None and options.objective_scale is None:
        options = replace(options, objective_scale=1.0 / scaling.cost)
    first = embed(inner, to_scaled(start, scaling))
    staged = inner_transcription.staged()
    with threads_for(staged.decision_size):
        solution = _solve_staged(staged, first, options, progress, warm, deadline, is_explained)
    return in_continuous_time(solution, transcription, inner_transcription, scaling)


def _start(
    guess: Guess | Trajectory | Solution | None, transcription: Transcription
) -> tuple[Trajectory, NLPResult | None]:
    """The guess on the grid, and an earlier result that lends its multipliers."""
    if isinstance(guess, ContinuousSolution):
        earlier = guess.transcription
        assert earlier is not None
        same = (earlier.tableaux, earlier.substeps, earlier.control_per_stage) == (
            transcription.tableaux,
            transcription.substeps,
            transcription.control_per_stage,
        )
        if same and np.array_equal(earlier.grid.nodes, transcription.grid.nodes):
            return guess.trajectory, guess.result
        return guess.path.on(transcription), guess.result if same else None
    if isinstance(guess, Solution):
        return guess.trajectory, guess.result
    if isinstance(guess, Trajectory):
        return guess, None
    return (Guess() if guess is None else guess).on(transcription), None


def solve_staged(
    staged: StagedProblem,
    guess: Trajectory | Solution | Array | None = None,
    options: SolveOptions = SolveOptions(),
    progress: Progress | None = None,
    warm: NLPResult | None = None,
    deadline: Deadline | None = None,
) -> Solution:
    """Minimise a staged problem by the method that suits it, and certify where it ended.

    A guess may be decisions (u^0, ..., u^{K-1}, p) alone, for the states that they lead to. A
    solution as guess also lends its multipliers, as does an earlier result given as `warm`, if
    it is of a problem of the same shape, so that a solved problem is re-solved in a few iterations.
    The earlier of a deadline, shared with other calls, and of the options' time limit counts.
    """
    deadline = (deadline or NEVER).within(options.time_limit)
    with timed() as watch, threads_for(staged.decision_size):
        found = _solve_staged(staged, guess, options, progress, warm, deadline, is_explained=True)
    return replace(found, timings=watch.timings())


def _solve_staged(
    staged: StagedProblem,
    guess: Trajectory | Solution | Array | None,
    options: SolveOptions,
    progress: Progress | None,
    warm: NLPResult | None,
    deadline: Deadline,
    is_explained: bool,
) -> Solution:
    earlier = guess if isinstance(guess, Solution) else None
    if isinstance(guess, Solution):
        warm = guess.result
        guess = guess.trajectory
    guess = constant_guess(staged) if guess is None else guess
    if isinstance(guess, Trajectory):
        Shooting(staged).check(guess)
        decisions = guess.decisions
    else:
        decisions = checked_decisions(staged, guess)
    outside = initial_offenders(staged, options.tolerance)
    if outside:
        why = f"The initial state is given outside its bounds: {', '.join(map(str, outside))}."
        return _refused(linearize(staged, _rolled(staged, guess)), Status.INFEASIBLE, why)
    choice = _method(staged, options)
    if deadline.has_passed:
        why = "It was over before the optimiser could begin. Raise the limit."
        at_guess = linearize(staged, _rolled(staged, guess))
        return replace(_refused(at_guess, Status.TIME_LIMIT, why), method=choice)
    if choice.method is not Method.SHOOTING:
        if kinks_or_limits(staged) is None:
            given_up = GIVEN_UP
            solution = _without_states(staged, choice, decisions, options, progress, deadline)
        else:
            given_up, layout = ASTRAY, ReducedProgram(staged)
            rolled, own = rollout(staged, decisions), warm
            if earlier is not None and not (warm is not None and layout.fits(warm)):
                own = layout.claimed(rolled, earlier.certificate.multipliers)
            solution = _by_program(
                layout, choice, rolled, options, progress, own, deadline, is_explained
            )
        if solution.status not in given_up or options.method is not Method.AUTO:
            return solution
        if deadline.has_passed:
            words = "The time limit left no time for multiple shooting."
            return replace(solution, message=f"{solution.message} {words}")
        choice = Choice(Method.SHOOTING, f"Multiple shooting, after {choice.method.value} gave up.")
    guess = _rolled(staged, guess)
    shooting = Shooting(staged)
    return _by_program(shooting, choice, guess, options, progress, warm, deadline, is_explained)


def _by_program(
    layout: Shooting | ReducedProgram,
    choice: Choice,
    guess: Trajectory,
    options: SolveOptions,
    progress: Progress | None,
    warm: NLPResult | None,
    deadline: Deadline,
    is_explained: bool,
) -> Solution:
    """Minimise the nonlinear program of a problem from a guess, and certify where it ended."""
    staged = layout.staged
    at_guess = linearize(staged, guess)
    culprit = not_finite(at_guess)
    if culprit is not None:
        return _refused(at_guess, Status.INVALID_NUMBER, _at_the_guess(culprit))
    program, start = layout.program, layout.pack(guess)
    shape = (start.size, program.constraint_lower.size)
    if warm is not None and (warm.point.size, warm.multipliers.size) != shape:
        warm = None
    scale = options.objective_scale or objective_scale(at_guess)
    settings = IpoptOptions(
        tolerance=max(TOLERANCE_RATIO * options.tolerance, SMALLEST_TOLERANCE),
        max_iterations=options.max_iterations,
        deadline=deadline,
        idle_iterations=options.idle_iterations,
        objective_scale=scale,
        linear_solver=options.linear_solver,
        extra=options.ipopt,
    )
    found = _sharpened(layout, start, settings, options, progress, warm)
    result, trajectory, certificate, status = found
    if status not in (Status.SOLVED, Status.NOT_A_MINIMUM) and _is_free(staged):
        trajectory = _best_rollout(staged, trajectory, guess)
        certificate = certify(staged, trajectory)
    linearization = linearize(staged, trajectory)
    without_conflict = None if is_explained else ""
    if deadline.has_passed:
        without_conflict = "The time limit left no time to find what conflicts."
    return Solution(
        trajectory=trajectory,
        costates=layout.costates(result),
        objective=linearization.objective,
        costs=costs_by_term(linearization),
        status=status,
        message=_explained(
            layout, result, certificate, status, options.tolerance, without_conflict
        ),
        backend_status=result.backend_status,
        certificate=certificate,
        iterations=result.iterations,
        result=result,
        method=choice,
    )


def _rolled(staged: StagedProblem, guess: Trajectory | Array) -> Trajectory:
    """A guess with its states."""
    return guess if isinstance(guess, Trajectory) else rollout(staged, guess)


def _explained(
    layout: Shooting | ReducedProgram,
    result: NLPResult,
    certificate: Certificate,
    status: Status,
    tolerance: float,
    without_conflict: str | None,
) -> str:
    """What the status means; where the states were kept, what is wrong and what to do as well."""
    if isinstance(layout, Shooting):
        with spent_on("certificate"):
            return explain(layout, result, certificate, status, tolerance, without_conflict)
    return message(status, certificate, tolerance)


def _method(staged: StagedProblem, options: SolveOptions) -> Choice:
    """The method asked for, or chosen; options of an optimiser ask for one that has them."""
    special = (
        options.ipopt
        or options.linear_solver is not LinearSolver.MUMPS
        or options.nlp_solver is not NLPSolver.IPOPT
    )
    if special and options.method is Method.AUTO:
        return Choice(Method.SHOOTING, "Multiple shooting, which the options given belong to.")
    choice = choose(staged, options.method)
    needs_ipopt = choice.method is not Method.SHOOTING and kinks_or_limits(staged) is not None
    if needs_ipopt and options.nlp_solver is not NLPSolver.IPOPT:
        return Choice(
            Method.SHOOTING,
            f"The problem was solved by shooting, not by {choice.method.value}: "
            f"{options.nlp_solver.value} takes programs of shooting alone.",
        )
    return choice


def _without_states(
    staged: StagedProblem,
    choice: Choice,
    start: Array,
    options: SolveOptions,
    progress: Progress | None,
    deadline: Deadline,
) -> Solution:
    """Minimise in the decisions alone, and certify where it ended."""
    limits = Limits(
        max(TOLERANCE_RATIO * options.tolerance, SMALLEST_TOLERANCE),
        options.max_iterations,
        deadline,
    )
    reduced = Reduced(staged)
    with spent_on("solve"):
        result = minimize_reduced(reduced, choice.method, start, limits, progress)
    if result.status is Status.INVALID_NUMBER:
        at_guess = linearize(staged, rollout(staged, start))
        why = _at_the_guess(not_finite(at_guess))
        return _refused(at_guess, Status.INVALID_NUMBER, why)
    linearization, certificate, status = _certified(reduced, result, options.tolerance)
    if status is Status.NOT_A_MINIMUM and not deadline.has_passed:
        with spent_on("solve"):
            start = result.point
            again = minimize_reduced(reduced, choice.method, start, limits, progress, leave=True)
        result = again.after(result)
        linearization, certificate, status = _certified(reduced, result, options.tolerance)
    return Solution(
        trajectory=linearization.trajectory,
        costates=certificate.costates[1:],
        objective=linearization.objective,
        costs=costs_by_term(linearization),
        status=status,
        message=message(status, certificate),
        backend_status=result.backend_status,
        certificate=certificate,
        iterations=result.iterations,
        result=result,
        method=choice,
    )


def _certified(
    reduced: Reduced, result: NLPResult, tolerance: float
) -> tuple[Linearization, Certificate, Status]:
    """The decisions where an optimiser stopped, their certificate and the verdict."""
    linearization = linearize(reduced.staged, reduced.trajectory(result.point))
    certificate = certify_linearized(linearization, tolerance=tolerance)
    return linearization, certificate, verdict(certificate, result.status, tolerance)


def _sharpened(
    layout: Shooting | ReducedProgram,
    start: Array,
    settings: IpoptOptions,
    options: SolveOptions,
    progress: Progress | None,
    warm: NLPResult | None,
) -> tuple[NLPResult, Trajectory, Certificate, Status]:
    """Minimise, and go on with a magnified cost where that ends short of the certificate."""
    with spent_on("solve"):
        result = minimize(options.nlp_solver, layout, start, settings, progress, warm)
    trajectory, certificate, status = _judge(layout, result, options.tolerance)
    sharp = TOLERANCE_RATIO * options.tolerance
    for _ in range(RETRIES):
        loose = status is Status.NOT_A_MINIMUM and certificate.stationarity > sharp
        if not (status is Status.INACCURATE or loose) or not certificate.can_be_tested:
            break
        if settings.deadline.has_passed:
            break
        # The cost is nearly flat in units of the optimiser's tolerance: magnify it, and go on.
        settings = replace(settings, objective_scale=RETRY_SCALE * settings.objective_scale)
        with spent_on("solve"):
            again = minimize(options.nlp_solver, layout, result.point, settings, progress, result)
        found = _judge(layout, again, options.tolerance)
        if found[1].stationarity < certificate.stationarity:
            result = again.after(result)
            trajectory, certificate, status = found
    return result, trajectory, certificate, status


def _judge(
    layout: Shooting | ReducedProgram, result: NLPResult, tolerance: float
) -> tuple[Trajectory, Certificate, Status]:
    """The trajectory where the optimiser stopped, its certificate and the verdict."""
    trajectory = layout.unpack(result.point)
    certificate = certify(layout.staged, trajectory, layout.multipliers(result), tolerance)
    return trajectory, certificate, verdict(certificate, result.status, tolerance)


def verdict(certificate: Certificate, backend: Status, tolerance: float) -> Status:
    """What the certificate says; the optimiser is asked only why it stopped short."""
    if certificate.is_stationary(tolerance) and certificate.is_minimum is not None:
        return Status.SOLVED if certificate.is_minimum else Status.NOT_A_MINIMUM
    if backend is Status.SOLVED:
        is_feasible = max(certificate.dynamics, certificate.constraints) <= FEASIBLE
        return Status.INACCURATE if is_feasible else Status.INFEASIBLE
    return backend


def _at_the_guess(culprit: str | None) -> str:
    return f"At the guess: {culprit}; start elsewhere."


def _refused(at_guess: Linearization, status: Status, why: str) -> Solution:
    """Of a guess at which no optimiser can start, or a start that no point can repair."""
    certificate = certify_linearized(at_guess)
    return Solution(
        trajectory=at_guess.trajectory,
        costates=certificate.costates[1:],
        objective=at_guess.objective,
        costs=costs_by_term(at_guess),
        status=status,
        message=f"{status.sentence} {why}",
        backend_status="not run",
        certificate=certificate,
        iterations=0,
    )


def objective_scale(linearization: Linearization) -> float:
    """Factor that brings the control's own cost, or else the gradient in the control, to size 1.

    That is the largest curvature of the control's cost, or its largest price, or the largest
    component of the reduced gradient at the guess, whichever is there first; the last is no more
    than the largest derivative of the cost itself, however unstable the dynamics.
    """
    curvature, price = 0.0, 0.0
    for values in linearization.shared:
        none = np.zeros((values.bounds.weight.size, 1))
        second = values.function.hessians(values.unknowns, values.given, none)
        curvature = max(curvature, float(np.abs(second).max(initial=0.0)))
        weights = values.bounds.weight
        price = max(price, float(weights[np.isfinite(weights)].max(initial=0.0)))
    multipliers = tuple(
        np.zeros_like(v.rows) for v in (*linearization.stages, *linearization.shared)
    )
    gradient = reduced_gradient(linearization, adjoint(linearization, multipliers), multipliers)
    everything = (*linearization.stages, *linearization.shared)
    local = max(float(np.abs(values.gradient).max(initial=0.0)) for values in everything)
    size = curvature or price or min(float(np.abs(gradient.value).max(initial=0.0)), local)
    return 1.0 / size if np.isfinite(size) and size > 0 else 1.0


def _is_free(staged: StagedProblem) -> bool:
    """Whether any controls within their bounds are feasible."""
    rows = [stage.rows for stage in staged.stages] + [term.rows for term in staged.shared]
    are_soft = all(np.isfinite(block.weight).all() for block in rows)
    return are_soft and not any(stage.has_state_bounds for stage in staged.stages)


def _best_rollout(staged: StagedProblem, *candidates: Trajectory) -> Trajectory:
    """Of the candidates' controls the ones of least cost, with the states that they lead to."""
    lower, upper = decision_bounds(staged)
    rollouts = [rollout(staged, np.clip(c.decisions, lower, upper)) for c in candidates]
    costs = [linearize(staged, r).objective for r in rollouts]
    return rollouts[int(np.argmin(np.where(np.isfinite(costs), costs, np.inf)))]
