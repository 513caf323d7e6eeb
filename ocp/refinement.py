"""Refinement: solve on a coarse grid, look where the solution is wrong, and spend unknowns there.

Every interval is one step of a Gauss-Legendre method with one control per stage. It has an error if

    the step misses an adaptive integration (the defect, and the quadrature of the cost),
    a constraint is violated anywhere in it (`ocp.inner_extrema`), or
    the control is not the one that minimises the Hamiltonian (`ocp.minimum_condition`).

Where that is above the tolerance, the interval gets more stages as long as that pays, since the
error of a smooth solution falls exponentially with them; where it does not, because the control
jumps or bends, the interval is split, around the jump if one is seen.

Small errors do not prove that the optimum of the grid is that of the problem. So the tolerance is
met only when a solve with every interval split in two confirms the objective and the constraints.

Source of the idea of choosing between more stages and more intervals: Darby, Hager and Rao,
Optim. Control Appl. Meth. 32 (2011), 476-502.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from ocp.continuous import ContinuousSolution, judged_by_its_error
from ocp.deadline import Deadline
from ocp.discretize import uniform_grid
from ocp.grid import TimeGrid
from ocp.guess import Guess
from ocp.nlp import Status
from ocp.problem import OptimalControlProblem
from ocp.remarks import with_remarks
from ocp.runge_kutta import gauss_legendre
from ocp.scaling import Scaling
from ocp.solution import Solution
from ocp.solve import SolveOptions, solve
from ocp.stages import Array
from ocp.timings import timed
from ocp.trajectory import Trajectory

FIRST = 3  # intervals
FEWEST_STAGES = 3
MORE_STAGES = 2  # added to an interval at a time
MOST_STAGES = 9
DOUBLINGS = 3  # of the first grid, while there is no feasible point on it
PAYS = 0.1  # more stages go on paying while each addition leaves at most this share of the error
JUMP = 0.5  # share of a control's range in an interval that lies between two neighbouring stages
COMPARED = 5  # points in an interval at which two solutions are compared
NOTABLE = 0.1  # of the largest change of an interval's state between two solutions


@dataclass(frozen=True)
class Round:
    """One solve of a refinement.

    Args:
        intervals: K.
        unknowns: of the nonlinear program.
        error: the largest relative defect, violation, or share of the cost that the quadrature
            misses or that better controls would save.
        objective: total cost.
        status: how the solve ended.
        iterations: of the optimiser.
        is_confirmation: whether every interval of the round before was split, to confirm it.
    """

    intervals: int
    unknowns: int
    error: float
    objective: float
    status: Status
    iterations: int | None
    is_confirmation: bool = False


@dataclass(frozen=True, eq=False)
class Refinement:
    """A refined solution and how it was reached.

    Args:
        solution: the last one that was solved, or the first one if none was.
        rounds: every solve.
        is_met: whether all errors are below the tolerance, and a grid with every interval split
            confirmed the objective and the constraints.
        reason: why it is met, or not.
    """

    solution: ContinuousSolution
    rounds: tuple[Round, ...]
    is_met: bool
    reason: str

    def __str__(self) -> str:
        lines = ["intervals unknowns     error            objective  iterations  status"]
        lines += [
            f"{r.intervals:9d} {r.unknowns:8d} {r.error:9.1e} {r.objective:20.14g} "
            f"{r.iterations if r.iterations is not None else '-':>11}  {r.status.value}"
            f"{', every interval split' if r.is_confirmation else ''}"
            for r in self.rounds
        ]
        verdict = "tolerance met" if self.is_met else "tolerance not met"
        return "\n".join([*lines, f"{verdict}: {self.reason}"])


@dataclass(frozen=True)
class _Interval:
    """An interval, its number of stages, and its error when it had fewer."""

    start: float
    end: float
    stages: int
    error_before: float | None = None

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2

    @property
    def halves(self) -> list[_Interval]:
        """The two halves, with as many stages each."""
        first = replace(self, end=self.middle, error_before=None)
        return [first, replace(first, start=self.middle, end=self.end)]

    def pieces(self, cuts: list[float]) -> list[_Interval]:
        ends = [self.start, *cuts, self.end]
        return [_Interval(a, b, FEWEST_STAGES) for a, b in pairwise(ends)]


def refine(
    problem: OptimalControlProblem,
    tolerance: float = 1e-8,
    *,
    grid: TimeGrid | int | None = None,
    guess: Guess | Trajectory | Solution | None = None,
    scaling: Scaling | None = None,
    options: SolveOptions = SolveOptions(),
    max_rounds: int = 30,
    finished: Callable[[Round], None] | None = None,
) -> Refinement:
    """Solve to a tolerance of the differential equation, the constraints and the objective.

    Args:
        problem: what to minimise, or maximise.
        tolerance: of the relative defect of every step, of relative violations anywhere in a step,
            and, relative to the cost, of what better controls between the stages would save and of
            the change of the objective when every interval is split.
        grid: to begin with, or the number of its intervals if they are equal; doubled a few times
            while no feasible point is found on it. By default that of a solution as guess, or 3.
        guess: where the first solve starts; each further one starts from the one before.
        scaling: as in `solve`.
        options: as in `solve`; the time limit is that of all rounds together.
        max_rounds: most solves.
        finished: called with every round.

    Raises:
        ValueError: a tolerance outside (0, 1), or no round.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"the tolerance must be between 0 and 1, got {tolerance}.")
    if max_rounds < 1:
        raise ValueError(f"max_rounds must be at least 1, got {max_rounds}.")
    run = _Run(problem, tolerance, scaling, options, finished)
    with timed() as watch:
        found = _refined_by(run, _first_intervals(problem, grid, guess), guess, max_rounds)
    return replace(found, solution=found.solution.changed(timings=watch.timings()))


def _refined_by(
    run: _Run,
    intervals: list[_Interval],
    guess: Guess | Trajectory | Solution | None,
    max_rounds: int,
) -> Refinement:
    """The rounds of `refine`."""
    tolerance = run.tolerance
    start: Guess | Trajectory | Solution | None = guess
    best: ContinuousSolution | None = None
    confirmed = False  # whether the last round was a confirmation
    while len(run.rounds) < max_rounds:
        found, errors = run.solve(intervals, start, is_confirmation=confirmed)
        if not found.is_solved:
            is_first = best is None and len(run.rounds) <= DOUBLINGS
            if is_first and found.status is Status.INFEASIBLE:
                # Perhaps no trajectory of so few steps arrives.
                intervals = [piece for i in intervals for piece in i.halves]
                continue
            why = f"the solve on {len(intervals)} intervals ended {found.status.value}."
            return run.result(best or found, why)
        before, best, start = best, found, found
        if run.deadline.has_passed:
            return run.result(found, "the time limit left no time for more rounds.")
        within = (errors <= tolerance).all() and run.total(found) <= tolerance
        if confirmed and before is not None:
            change = abs(found.objective - before.objective) / (_cost_size(found) or 1.0)
            if within and change <= tolerance:
                why = f"with every interval split, the objective changes by {change:.1e}, relative."
                return run.result(found, why, is_met=True)
            intervals = _unsplit(before, found, intervals, errors, tolerance)
            confirmed = False
            continue
        confirmed = bool(within)
        if within:
            intervals = [half for interval in intervals for half in interval.halves]
            continue
        flagged = errors > tolerance
        if not flagged.any():  # many small ones
            flagged = errors >= NOTABLE * errors.max()
        intervals = [
            piece
            for k, interval in enumerate(intervals)
            for piece in (_refined(interval, errors[k], found, k) if flagged[k] else [interval])
        ]
    assert best is not None
    why = f"the largest error was {run.rounds[-1].error:.1e} after {max_rounds} rounds."
    return run.result(best, why)


@dataclass(eq=False)
class _Run:
    """The solves of a refinement."""

    problem: OptimalControlProblem
    tolerance: float
    scaling: Scaling | None
    options: SolveOptions
    finished: Callable[[Round], None] | None
    rounds: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline = Deadline.after(self.options.time_limit)

    def solve(
        self,
        intervals: list[_Interval],
        start: Guess | Trajectory | Solution | None,
        *,
        is_confirmation: bool,
    ) -> tuple[ContinuousSolution, Array]:
        """The solution on the intervals, and the error of each.

        It is infinite if the solve failed, or left no time to estimate it.
        """
        nodes = [interval.start for interval in intervals] + [intervals[-1].end]
        found = solve(
            self.problem,
            TimeGrid(np.array(nodes)),
            [gauss_legendre(interval.stages) for interval in intervals],
            control_per_stage=True,
            guess=start,
            scaling=self.scaling,
            # Errors on the way are what refinement is about; they are judged at its end.
            options=replace(self.options, discretization_tolerance=np.inf),
            deadline=self.deadline,
        )
        assert found.transcription is not None
        is_known = found.is_solved and not self.deadline.has_passed
        errors = _errors(found) if is_known else np.full(len(intervals), np.inf)
        total = self.total(found) if is_known else np.inf
        entry = Round(
            len(intervals),
            found.transcription.unknowns,
            max(float(errors.max()), total),
            found.objective,
            found.status,
            found.iterations,
            is_confirmation,
        )
        self.rounds.append(entry)
        if self.finished is not None:
            self.finished(entry)
        return found, errors

    def result(self, found: ContinuousSolution, reason: str, *, is_met: bool = False) -> Refinement:
        """The refinement that ends with a solution."""
        judged = found
        if not self.deadline.has_passed:
            judged = judged_by_its_error(found, self.options.discretization_tolerance)
        if judged is not found:
            judged = with_remarks(judged)
        return Refinement(judged, tuple(self.rounds), is_met, reason)

    @staticmethod
    def total(found: ContinuousSolution) -> float:
        """What better controls would save of the cost, over the whole horizon."""
        condition = found.minimum_condition
        if condition.unknown:
            return 0.0
        gain = condition.total + float(condition.junctions.sum())
        return gain / (_cost_size(found) or 1.0)


def _first_intervals(
    problem: OptimalControlProblem,
    grid: TimeGrid | int | None,
    guess: Guess | Trajectory | Solution | None,
) -> list[_Interval]:
    if grid is None and isinstance(guess, ContinuousSolution):
        assert guess.transcription is not None
        own, (first, last) = guess.transcription.grid, problem.grid_ends
        nodes = first + (own.nodes - own.nodes[0]) * ((last - first) / own.horizon)
        grid = TimeGrid(nodes).including([point.time for point in problem.interior_points])
    elif not isinstance(grid, TimeGrid):
        grid = uniform_grid(problem, FIRST if grid is None else grid)
    return [_Interval(a, b, FEWEST_STAGES) for a, b in pairwise(grid.nodes.tolist())]


def _cost_size(solution: ContinuousSolution) -> float:
    return max(abs(cost) for cost in (solution.objective, *solution.costs.values()))


def _errors(solution: ContinuousSolution) -> Array:
    """Of every interval: the largest of its errors, relative.

    What a control violates counts for the share of the horizon in which it does.
    """
    length = np.diff(solution.times) / solution.horizon
    size = _cost_size(solution) or 1.0
    error, condition = solution.error, solution.minimum_condition
    missed = np.abs(error.running_cost) / size
    parts = [
        np.nan_to_num(error.relative, nan=np.inf),
        np.nan_to_num(missed),
        error.violation,
        error.relations.relative,
        length * error.mixed_violation,
        length * error.overshoot,
    ]
    if not condition.unknown:
        at_nodes = condition.junctions / size
        parts += [condition.excess / size, at_nodes[:-1], at_nodes[1:]]
    return np.asarray(np.maximum.reduce(parts))


def _unsplit(
    before: ContinuousSolution,
    found: ContinuousSolution,
    halves: list[_Interval],
    errors: Array,
    tolerance: float,
) -> list[_Interval]:
    """The intervals that were split, whole again where that changed nothing of note."""
    steps = np.asarray(_changes(before, found)).reshape(-1, 2).max(axis=1)
    bad = (errors > tolerance).reshape(-1, 2).any(axis=1)
    split = bad | (steps >= NOTABLE * steps.max())
    pairs = list(zip(halves[::2], halves[1::2], strict=True))
    intervals: list[_Interval] = []
    for (left, right), is_split in zip(pairs, split.tolist(), strict=True):
        intervals += [left, right] if is_split else [replace(left, end=right.end)]
    return intervals


def _changes(before: ContinuousSolution, found: ContinuousSolution) -> Array:
    """Of every interval of the second solution, how far its state is from the first one's."""
    theta = (np.arange(COMPARED) + 0.5) / COMPARED
    starts, ends = found.times[:-1, None], found.times[1:, None]
    times = (starts + theta * (ends - starts)).ravel()
    ratio = before.horizon / found.horizon
    earlier = before.times[0] + ratio * (times - found.times[0])
    there = np.clip(earlier, before.times[0], before.times[-1])
    new, old = found.path.state(times), before.path.state(there)
    size = np.maximum(np.abs(new).max(axis=(0, 1)), np.finfo(float).tiny)
    change = (np.abs(new - old) / size).max(axis=(1, 2)).reshape(-1, COMPARED)
    return np.asarray(change.max(axis=1))


def _refined(
    interval: _Interval, error: float, found: ContinuousSolution, k: int
) -> list[_Interval]:
    """More stages where they pay, pieces elsewhere."""
    pays = interval.error_before is None or error <= PAYS * interval.error_before
    if pays and interval.stages < MOST_STAGES:
        stages = min(interval.stages + MORE_STAGES, MOST_STAGES)
        return [_Interval(interval.start, interval.end, stages, error)]
    bracket = _jump(interval, found, k)
    return interval.pieces([interval.middle] if bracket is None else list(bracket))


def _jump(interval: _Interval, found: ContinuousSolution, k: int) -> tuple[float, float] | None:
    """Two neighbouring stages between which a control moves by most of its range there."""
    m = found.problem.control.numel()
    if not m:
        return None
    values = found.trajectory.controls[k].reshape(-1, m)
    steps = np.abs(np.diff(values, axis=0))
    ranges = np.ptp(values, axis=0)
    shares = np.where(ranges > 0, steps / np.where(ranges > 0, ranges, 1.0), 0.0)
    i, j = divmod(int(np.argmax(shares)), m)
    if shares[i, j] < JUMP:
        return None
    nodes = gauss_legendre(interval.stages).c
    length = interval.end - interval.start
    return interval.start + length * float(nodes[i]), interval.start + length * float(nodes[i + 1])
