"""Ladders: the same learning problem on growing horizons, or with a falling weight decay.

    J = rest + eps S,   with eps and S as in `problems.ladder_plan`

Every rung starts from the one before, transferred by u -> u (T / T')^(1/k); then the rungs are
checked against each other: any control, transferred, bounds the optimal cost of every other rung
from above. A rung whose cost exceeds such a bound is proved not to be a global minimum, and is
restarted from the control that beats it, until none is beaten. The minimal-norm interpolant takes
part in this, and is itself continued from the last rung. Where all rungs are one problem in eps,
this is the concavity of the value function V(eps) and its line bounds (`problems.ladder_checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ocp import SolveOptions
from ocp.interrupt import Request, interruptible
from ocp.nlp import Progress
from problems.ladder_plan import (
    Plan,
    SplitCost,
    interpolation_problem,
    label,
    nan_to_infinity,
    split_cost,
    transferred,
)
from problems.learning import Array, LearningProblem
from problems.report import report
from problems.training import LearningSolution, SmoothedSolution, train

BEATEN = 1e-9  # a cost this much lower, relatively, is lower
STEPS = 4  # between two rungs, where one step leads to another branch
INTERPOLANT_STRENGTH = 1e-3  # from which the interpolant is followed, relative to the rung's
KINK_SLOPE = 100.0  # of the cost in a smoothing width, relative to the cost
ROUNDING = 1e-14  # costs closer than this are equal


@dataclass(frozen=True, eq=False)
class Solved:
    """What a solve hands over: a solution, and its JSON object, which survives being stored."""

    solution: LearningSolution
    result: dict[str, Any]

    @property
    def is_complete(self) -> bool:
        """Whether no interrupt cut it short."""
        return self.solution.starts is None or self.solution.starts.is_complete

    @property
    def decisions(self) -> Array:
        """Controls and parameters."""
        return self.solution.trajectory.decisions


# (name, problem, guesses, random starts) -> solved
Solve = Callable[[str, LearningProblem, Sequence[Array], int], Solved]


@dataclass(frozen=True, eq=False)
class Rung:
    """One solve of the ladder that was kept.

    Args:
        solved: its solution and JSON object.
        cost: of the exact network, split.
        origin: what its controls descend from.
    """

    solved: Solved
    cost: SplitCost
    origin: str

    @property
    def problem(self) -> LearningProblem:
        """What was solved."""
        return self.solved.solution.problem

    @property
    def solution(self) -> LearningSolution:
        """Its optimum."""
        return self.solved.solution

    @property
    def error(self) -> float:
        """E(x(T))."""
        return float(self.solution.errors[-1])


@dataclass(frozen=True)
class Repair:
    """A rung that was beaten, and what a restart from the better control came to.

    Args:
        rung: its position.
        beaten_by: the other rung, or the interpolant, in words.
        before: its cost.
        bound: cost of the other control, transferred.
        after: cost after the restart.
        status: how the restart ended.
        is_repaired: whether the restart was solved and ended no higher than the bound.
    """

    rung: int
    beaten_by: str
    before: float
    bound: float
    after: float
    status: str
    is_repaired: bool


@dataclass(frozen=True, eq=False)
class Ladder:
    """All rungs, and what was done to make them consistent.

    Args:
        plan: what was asked.
        rungs: those that were finished, in the order of the plan.
        repairs: in the order in which they were made, failed ones included.
        interpolant: the best minimal-norm interpolant known, on the last rung's network.
        branch: the one that the last rung leads to; the same object if it is as good.
        no_interpolant: why there is none; None if there is one, or if it was not reached.
        is_complete: whether no interrupt cut the ladder short.
    """

    plan: Plan
    rungs: tuple[Rung, ...]
    repairs: tuple[Repair, ...]
    interpolant: Rung | None
    branch: Rung | None
    no_interpolant: str | None
    is_complete: bool

    def label(self, position: int) -> str:
        """What a rung is called."""
        return label(self.plan, position)

    def rescaled(self, rung: Rung) -> Array:
        """Controls v(s) = T^(1/k) u(T s), (K, m); padded by zeros where sizes vary."""
        power = 1 / (self.plan.degree or 1)
        return rung.solution.trajectory.padded_controls * rung.problem.horizon**power

    def norm_squared(self, rung: Rung) -> float:
        """Int_0^1 |v|^2 ds."""
        return float(np.sum(self.rescaled(rung) ** 2) / rung.problem.layers)


def solver(
    *,
    seed: int = 0,
    options: SolveOptions = SolveOptions(),
    executor: Executor | None = None,
    progress: Progress | None = None,
    finished: Callable[[SmoothedSolution], None] | None = None,
) -> Solve:
    """A `Solve` that runs `train` with these arguments."""

    def solve(name: str, problem: LearningProblem, guesses: Sequence[Array], starts: int) -> Solved:
        solution = train(
            problem,
            seed=seed,
            starts=starts,
            guesses=guesses,
            options=options,
            executor=executor,
            progress=progress,
            finished=finished,
        )
        return Solved(solution, report(solution))

    return solve


def climb(
    plan: Plan,
    solve: Solve,
    *,
    starts: int = 1,
    guess: Array | None = None,
    interpolate: bool = True,
    repair: bool = True,
    reached: Callable[[str], None] | None = None,
) -> Ladder:
    """Solve all rungs, then check and repair the ladder.

    Args:
        plan: the problems.
        solve: how one of them is solved; see `solver`.
        starts: random starts of the first rung; with more than one, of every rung and of the
            interpolation problem, beside the warm start.
        guess: decisions to start the first rung from instead of random starts.
        interpolate: whether the minimal-norm problem is solved as well.
        repair: whether beaten rungs are restarted; if not, `problems.ladder_checks` still says so.
        reached: called with a name after every solve.

    Raises:
        KeyboardInterrupt: an interrupt before any rung was finished.
    """
    with interruptible() as request:
        work = _Climb(plan, solve, starts, guess, request, reached)
        try:
            work.rungs_in_order()
            posed: LearningProblem | str = "the interpolation problem was not asked for"
            if interpolate:
                posed = interpolation_problem(plan)
            work.interpolation(posed)
            if repair:
                work.repair(posed)
            is_complete = True
        except (_Stopped, KeyboardInterrupt):
            if not work.rungs:
                raise KeyboardInterrupt from None
            is_complete = False
    return Ladder(
        plan,
        tuple(work.rungs),
        tuple(work.repairs),
        work.interpolant,
        work.branch,
        work.no_interpolant,
        is_complete,
    )


class _Stopped(Exception):
    """An interrupt; what is finished is kept."""


class _Climb:
    """The ladder in the making."""

    def __init__(
        self,
        plan: Plan,
        solve: Solve,
        starts: int,
        guess: Array | None,
        request: Request,
        reached: Callable[[str], None] | None,
    ) -> None:
        self._plan, self._solve, self._starts, self._guess = plan, solve, starts, guess
        self._request, self._reached = request, reached
        self.rungs: list[Rung] = []
        self.repairs: list[Repair] = []
        self.interpolant: Rung | None = None
        self.branch: Rung | None = None
        self.no_interpolant: str | None = None
        self._continued: list[tuple[Rung, Rung]] = []  # last rungs, and where each of them led

    def _run(
        self,
        name: str,
        problem: LearningProblem,
        guesses: Sequence[Array],
        starts: int,
        origin: str,
    ) -> Rung:
        if self._request.is_pending:
            raise _Stopped
        solved = self._solve(name, problem, guesses, starts)
        if not solved.is_complete:
            raise _Stopped
        if self._reached is not None:
            self._reached(name)
        return Rung(solved, split_cost(self._plan, problem, solved.decisions), origin)

    def _carry(self, rung: Rung, to: LearningProblem) -> Array:
        return transferred(self._plan, rung.problem, rung.solved.decisions, to)

    def rungs_in_order(self) -> None:
        """Each from the one before, and from random starts if asked."""
        for i, problem in enumerate(self._plan.problems):
            if i == 0:
                guesses = [] if self._guess is None else [self._guess]
                starts = self._starts if self._guess is None else 0
                origin = "random starts" if self._guess is None else "the given guess"
            else:
                guesses = [self._carry(self.rungs[-1], problem)]
                starts = self._starts if self._starts > 1 else 0
                origin = label(self._plan, i - 1)
                origin = f"{origin} and random starts" if starts else origin
            self.rungs.append(self._run(f"rung-{i:02d}", problem, guesses, starts, origin))

    def interpolation(self, posed: LearningProblem | str) -> None:
        """The minimal-norm problem from random starts, and continued from the last rung."""
        if isinstance(posed, str):
            self.no_interpolant = posed
            return
        found = self._run("interpolation", posed, (), self._starts, "random starts")
        if found.solution.solution.is_solved:
            self.interpolant = found
        self._continue_branch(posed)
        if self.interpolant is None:
            self.no_interpolant = (
                "no interpolant was found, so it is not known whether there is one; "
                f"the solve ended as {found.solution.status.value}"
            )

    def _continue_branch(self, posed: LearningProblem) -> bool:
        """Continue the last rung to the interpolation problem; whether a better one was found."""
        last = self.rungs[-1]
        known = [there for here, there in self._continued if here is last]
        if known:
            there = known[0]
        else:
            name = f"interpolation-branch-{len(self._continued):02d}"
            origin = label(self._plan, len(self.rungs) - 1)
            there = self._run(name, posed, [self._carry(last, posed)], 0, origin)
            self._continued.append((last, there))
        if not there.solution.solution.is_solved:
            self.branch = None
            return False
        best = self.interpolant
        is_better = best is None or _is_lower(there.cost.size, best.cost.size)
        if best is None or not _is_lower(best.cost.size, there.cost.size):
            self.interpolant = there  # of equals, the one that the controls converge to
        self.branch = there
        return is_better

    def repair(self, posed: LearningProblem | str) -> None:
        """Restart beaten rungs until none is beaten that a restart could mend."""
        given_up: list[tuple[Rung, Rung]] = []
        while True:
            while self._repair_one(given_up):
                pass
            if isinstance(posed, str) or not self._continue_branch(posed):
                return
            self.no_interpolant = None

    def _repair_one(self, given_up: list[tuple[Rung, Rung]]) -> bool:
        """Restart the first rung that is beaten; whether there was one."""
        for i, rung in enumerate(self.rungs):
            for source, least in beating(self._plan, self.rungs, self.interpolant, i):
                if any(a is rung and b is source for a, b in given_up):
                    continue
                given_up.append((rung, source))
                self._restart(i, source, least)
                return True
        return False

    def _restart(self, position: int, source: Rung, least: float) -> None:
        """Solve a rung again from the control that beats it, if need be in small steps."""
        rung, by = self.rungs[position], _name(self._plan, self.rungs, source)
        name = f"restart-{len(self.repairs):02d}-of-rung-{position:02d}"
        found = self._run(name, rung.problem, [self._carry(source, rung.problem)], 0, by)
        if not _is_as_low(found, least) and self._plan.is_one_family:
            at = source
            for step, problem in enumerate(self._between(source, rung.problem)):
                guess = [self._carry(at, problem)]
                at = self._run(f"{name}-step-{step}", problem, guess, 0, by)
            walked = self._run(
                f"{name}-again", rung.problem, [self._carry(at, rung.problem)], 0, by
            )
            if _is_as_low(walked, least) or walked.cost.total < found.cost.total:
                found = walked
        if found.solution.solution.is_solved and _is_lower(found.cost.total, rung.cost.total):
            self.rungs[position] = found
        status = found.solution.status.value
        before, after = rung.cost.total, found.cost.total
        is_repaired = _is_as_low(found, least)
        self.repairs.append(Repair(position, by, before, least, after, status, is_repaired))

    def _between(self, source: Rung, to: LearningProblem) -> list[LearningProblem]:
        """Problems of strengths between those of the source and of the rung, in equal ratios."""
        strength = self._plan.strength(to)
        start = source.cost.strength
        if source.solution.problem.interpolation:
            start = strength * INTERPOLANT_STRENGTH
        ratios = [(start / strength) ** (1 - j / (STEPS + 1)) for j in range(1, STEPS + 1)]
        return [replace(to, weight_decay=to.weight_decay * ratio) for ratio in ratios]


def _is_as_low(rung: Rung, least: float) -> bool:
    """Whether a rung is solved and costs no more than that."""
    return rung.solution.solution.is_solved and not _is_lower(least, rung.cost.total)


def beating(
    plan: Plan, rungs: Sequence[Rung], interpolant: Rung | None, position: int
) -> list[tuple[Rung, float]]:
    """Controls that beat a rung, and what they cost there; the cheapest first."""
    rung = rungs[position]
    others = [other for i, other in enumerate(rungs) if i != position]
    if interpolant is not None:
        others.append(interpolant)
    bounds = [(other, nan_to_infinity(bound(plan, other, rung))) for other in others]
    return sorted(
        (
            (other, value)
            for other, value in bounds
            if _is_lower(value, rung.cost.total, smoothing_error(rung, other))
        ),
        key=lambda pair: pair[1],
    )


def bound(plan: Plan, source: Rung, rung: Rung) -> float:
    """Cost of another rung's control on this one: a straight line in eps in one family."""
    if plan.is_one_family:
        return source.cost.at(rung.cost.strength)
    decisions = transferred(plan, source.problem, source.solved.decisions, rung.problem)
    return split_cost(plan, rung.problem, decisions).total


def smoothing_error(*rungs: Rung) -> float:
    """How far costs may be from a minimum of the exact problem by the smoothing of kinks.

    A kink of the network rounded off at width delta moves the states by about delta, and the cost
    by delta times the costates, which are of the size of the cost; the tip of a loss moves it by
    delta itself.
    """
    errors = []
    for rung in rungs:
        width = rung.solution.smoothing / rung.problem.kink_scale
        slope = KINK_SLOPE * abs(rung.cost.total)
        has_tip = rung.problem.posed_loss.needs_smoothing and not rung.problem.interpolation
        errors.append(width * (slope + (1.0 if has_tip else 0.0)))
    return max(errors)


def _is_lower(value: float, than: float, slack: float = 0.0) -> bool:
    return value < than - max(BEATEN * abs(than), ROUNDING, slack)


def _name(plan: Plan, rungs: Iterable[Rung], source: Rung) -> str:
    for i, rung in enumerate(rungs):
        if rung is source:
            return label(plan, i)
    return "the interpolant"
