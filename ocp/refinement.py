"""Refinement: solve on a coarse grid, look where the solution is wrong, and spend unknowns there.

Every interval is one step of a Gauss-Legendre method with one control per stage. Where the defect
against an adaptive integration, or the violation of a path constraint between the nodes, is above
the tolerance, the interval gets more stages as long as
that pays, since the error of a smooth solution falls exponentially with them; where it does not,
because the control jumps or bends, the interval is split, around the jump if one is seen.

A small defect says that the differential equation holds, not that the control is the best; so the
objective must also have settled from one round to the next.

Source of the idea of choosing between more stages and more intervals: Darby, Hager and Rao,
Optim. Control Appl. Meth. 32 (2011), 476-502.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ocp.continuous import ContinuousSolution
from ocp.grid import TimeGrid
from ocp.guess import Guess
from ocp.nlp import Status
from ocp.problem import OptimalControlProblem
from ocp.runge_kutta import gauss_legendre
from ocp.scaling import Scaling
from ocp.solution import Solution
from ocp.solve import SolveOptions, solve
from ocp.stages import Array
from ocp.trajectory import Trajectory

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
        error: the largest relative defect, violation, or share of the quadrature's error.
        objective: total cost.
        status: how the solve ended.
        iterations: of the optimiser.
    """

    intervals: int
    unknowns: int
    error: float
    objective: float
    status: Status
    iterations: int | None


@dataclass(frozen=True, eq=False)
class Refinement:
    """A refined solution and how it was reached.

    Args:
        solution: the last one that was solved, or the first one if none was.
        rounds: every solve.
        is_met: whether defects are below the tolerance and the objective has settled within it.
    """

    solution: ContinuousSolution
    rounds: tuple[Round, ...]
    is_met: bool

    def __str__(self) -> str:
        lines = ["intervals unknowns     error            objective  iterations  status"]
        lines += [
            f"{r.intervals:9d} {r.unknowns:8d} {r.error:9.1e} {r.objective:20.14g} "
            f"{r.iterations if r.iterations is not None else '-':>11}  {r.status.value}"
            for r in self.rounds
        ]
        return "\n".join([*lines, "tolerance met" if self.is_met else "tolerance not met"])


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

    def pieces(self, cuts: list[float]) -> list[_Interval]:
        ends = [self.start, *cuts, self.end]
        return [_Interval(a, b, FEWEST_STAGES) for a, b in pairwise(ends)]


def refine(
    problem: OptimalControlProblem,
    tolerance: float = 1e-8,
    *,
    grid: TimeGrid | int = 3,
    guess: Guess | Trajectory | Solution | None = None,
    scaling: Scaling | None = None,
    options: SolveOptions = SolveOptions(),
    max_rounds: int = 20,
    finished: Callable[[Round], None] | None = None,
) -> Refinement:
    """Solve to a tolerance of the differential equation and of the objective.

    Args:
        problem: what to minimise, or maximise.
        tolerance: of the relative defect of every step, of relative violations between the nodes,
            and of the objective's relative change.
        grid: to begin with, or the number of its intervals if they are equal; doubled a few times
            while no feasible point is found on it.
        guess: where the first solve starts; each further one starts from the one before.
        scaling: as in `solve`.
        options: as in `solve`; their tolerance is lowered to this one.
        max_rounds: most solves.
        finished: called with every round.

    Raises:
        ValueError: a tolerance outside (0, 1), or no round.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"the tolerance must be between 0 and 1, got {tolerance}.")
    if max_rounds < 1:
        raise ValueError(f"max_rounds must be at least 1, got {max_rounds}.")
    intervals = _first_intervals(problem, grid)
    rounds: list[Round] = []
    best: ContinuousSolution | None = None
    start: Guess | Trajectory | Solution | None = guess
    while len(rounds) < max_rounds:
        nodes = [interval.start for interval in intervals] + [intervals[-1].end]
        found = solve(
            problem,
            TimeGrid(np.array(nodes)),
            [gauss_legendre(interval.stages) for interval in intervals],
            control_per_stage=True,
            guess=start,
            scaling=scaling,
            options=options,
        )
        assert found.transcription is not None
        errors = _errors(found) if found.is_solved else np.full(len(intervals), np.inf)
        rounds.append(
            Round(
                len(intervals),
                found.transcription.unknowns,
                float(errors.max()),
                found.objective,
                found.status,
                found.iterations,
            )
        )
        if finished is not None:
            finished(rounds[-1])
        if not found.is_solved:
            if best is None and len(rounds) <= DOUBLINGS and found.status is Status.INFEASIBLE:
                # Perhaps no trajectory of so few steps arrives.
                intervals = [piece for i in intervals for piece in i.pieces([i.middle])]
                continue
            return Refinement(best or found, tuple(rounds), False)
        before, best = best, found
        settled = before is not None and _is_settled(before, found, tolerance)
        if settled and (errors <= tolerance).all():
            return Refinement(found, tuple(rounds), True)
        flagged = errors > tolerance
        if not flagged.any():
            flagged = _changed(before, found, intervals)
        intervals = [
            piece
            for k, interval in enumerate(intervals)
            for piece in (_refined(interval, errors[k], found, k) if flagged[k] else [interval])
        ]
        start = found
    assert best is not None
    return Refinement(best, tuple(rounds), False)


def _first_intervals(problem: OptimalControlProblem, grid: TimeGrid | int) -> list[_Interval]:
    if not isinstance(grid, TimeGrid):
        span = 1.0 if problem.has_free_horizon else float(problem.horizon)
        grid = TimeGrid.uniform(grid, span).including([p.time for p in problem.interior_points])
    nodes = grid.nodes.tolist()
    return [_Interval(a, b, FEWEST_STAGES) for a, b in pairwise(nodes)]


def _cost_size(solution: ContinuousSolution) -> float:
    return max(abs(cost) for cost in (solution.objective, *solution.costs.values()))


def _errors(solution: ContinuousSolution) -> Array:
    """Of every interval: relative defect, share of the quadrature's error, or violation inside.

    What a control exceeds its bounds by counts for the share of the horizon that it does so.
    """
    length = np.diff(solution.times) / solution.horizon
    size = _cost_size(solution)
    error = solution.error
    missed = np.abs(error.running_cost) / size if size > 0 else np.abs(error.running_cost)
    defects = np.nan_to_num(error.relative, nan=np.inf)
    return np.asarray(
        np.maximum.reduce(
            [defects, np.nan_to_num(missed), error.violation, length * error.overshoot]
        )
    )


def _is_settled(before: ContinuousSolution, found: ContinuousSolution, tolerance: float) -> bool:
    return abs(found.objective - before.objective) <= tolerance * _cost_size(found)


def _changed(
    before: ContinuousSolution | None, found: ContinuousSolution, intervals: list[_Interval]
) -> np.ndarray:
    """Intervals in which the state moved notably since the solution before; all, if none was."""
    if before is None:
        return np.ones(len(intervals), dtype=bool)
    theta = (np.arange(COMPARED) + 0.5) / COMPARED
    starts, ends = found.times[:-1, None], found.times[1:, None]
    times = (starts + theta * (ends - starts)).ravel()
    ratio = before.horizon / found.horizon
    earlier = before.times[0] + ratio * (times - found.times[0])
    there = np.clip(earlier, before.times[0], before.times[-1])
    new, old = found.path.state(times), before.path.state(there)
    size = np.maximum(np.abs(new).max(axis=(0, 1)), np.finfo(float).tiny)
    change = (np.abs(new - old) / size).max(axis=(1, 2)).reshape(len(intervals), COMPARED)
    largest = change.max(axis=1)
    return np.asarray(largest >= NOTABLE * largest.max())


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
