"""A reference optimum, PyTorch's optimisers on the same cost, and what polishing makes of them.

    gap = (J - J*) / J*

J* is the least certified cost known: of random starts, of the second-order solver from the very
initial networks that the optimisers start from, and of their results *polished*, that is, handed to
the second-order solver. A polished result that is lower than the reference was, by more than
minima are told apart with, takes its place, and all gaps are against the new one; so does a result
that is lower and could not be certified, whose status then says so.

Every optimiser is given each rate of its grid and each seed. Its best rate is the one of the least
median cost over the seeds; the results at that rate are polished, and any that beat the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ocp import SolveOptions, rollout
from ocp.continuation import DISTINCT, multi_start
from ocp.interrupt import Request, interruptible
from ocp.nlp import Progress
from problems.appraisal import Appraisal, appraise, costs_by_term
from problems.comparison_files import ComparisonFolder
from problems.ladder import Solved, solver
from problems.learning import Array, LearningProblem
from problems.report import report
from problems.torch_optimizers import LBFGS, OPTIMIZERS, Optimizer
from problems.torch_training import Outcome, Run, Training, initial_network, run, training
from problems.training import LearningSolution, assess, train

REFERENCE = "reference"  # name of the solve from random starts


@dataclass(frozen=True, eq=False)
class Plan:
    """What is compared.

    Args:
        problem: data, network and cost.
        optimizers: with their grids of rates.
        seeds: of the initial networks, which all optimisers and the second-order solver share.
        evaluations: budget of a run.
        scale: factor on the initial networks' parameters.
        starts: random starts of the reference.
        seed: of the first of them.
        options: of every second-order solve; its time limit holds for runs as well.

    Raises:
        ValueError: nothing to compare, or a problem that PyTorch cannot train.
    """

    problem: LearningProblem
    optimizers: tuple[Optimizer, ...] = tuple(OPTIMIZERS.values())
    seeds: tuple[int, ...] = (0, 1, 2)
    evaluations: int = 500
    scale: float = 1.0
    starts: int = 1
    seed: int = 0
    options: SolveOptions = field(default_factory=SolveOptions)

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different, and at least one, got {self.seeds}.")
        self.trainings()

    def trainings(self) -> list[Training]:
        """Every optimiser with every rate and seed; L-BFGS only where no bound forbids it."""
        return [
            training(
                self.problem,
                optimizer,
                rate,
                seed,
                evaluations=self.evaluations,
                scale=self.scale,
                time_limit=self.options.time_limit,
            )
            for optimizer in self.applicable
            for rate in (optimizer.rates[:1] if optimizer.searches_steps else optimizer.rates)
            for seed in self.seeds
        ]

    @property
    def applicable(self) -> tuple[Optimizer, ...]:
        """The optimisers that can train this problem."""
        bounded = self.problem.bound is not None
        return tuple(o for o in self.optimizers if not (o.searches_steps and bounded))

    def initial(self, seed: int) -> Array:
        """Decisions of an initial network."""
        asked = training(self.problem, OPTIMIZERS["adam"], 1.0, seed, scale=self.scale)
        return initial_network(asked).decisions()


@dataclass(frozen=True, eq=False)
class Found:
    """A point of the second-order solver, and where it came from.

    Args:
        origin: in words.
        solved: its solution and JSON object.
    """

    origin: str
    solved: Solved

    @property
    def objective(self) -> float:
        """J."""
        return self.solved.solution.solution.objective

    @property
    def is_solved(self) -> bool:
        """Whether its certificate holds."""
        return self.solved.solution.solution.is_solved


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was found.

    Args:
        plan: what was asked.
        first: the reference before any optimiser ran.
        reference: the best that is known now; the same object if no optimiser beat it.
        random: from random starts.
        starts: by seed, from the initial networks.
        runs: all runs of all optimisers.
        polished: by the names of the runs.
        is_complete: whether no interrupt cut it short.
    """

    plan: Plan
    first: Found
    reference: Found
    random: Found
    starts: Mapping[int, Found]
    runs: tuple[Run, ...]
    polished: Mapping[str, Found]
    is_complete: bool

    @property
    def is_beaten(self) -> bool:
        """Whether an optimiser led to a better point than the reference was."""
        return self.reference is not self.first

    @property
    def optimum(self) -> float:
        """J*."""
        return self.reference.objective

    def gap(self, objective: float) -> float:
        """(J - J*) / J*; J itself where J* is zero to rounding."""
        return (objective - self.optimum) / gap_scale(self.optimum)

    def level(self, gap: float) -> float:
        """The cost at a gap."""
        return self.optimum + gap * gap_scale(self.optimum)

    def runs_of(self, optimizer: str, rate: float | None = None) -> list[Run]:
        """Of one optimiser, at one rate or at all."""
        return [
            r for r in self.runs if r.optimizer == optimizer and (rate is None or r.rate == rate)
        ]


def gap_scale(optimum: float) -> float:
    """What gaps are relative to."""
    return abs(optimum) if abs(optimum) > np.finfo(float).eps else 1.0


def is_lower(value: float, than: float) -> bool:
    """Whether a cost is of a better minimum, and not of the same one."""
    return value < than - DISTINCT * max(abs(than), abs(value))


def best_rates(runs: Iterable[Run]) -> dict[str, float]:
    """The rate of the least median cost over the seeds, of every optimiser; diverged runs lose."""
    grouped: dict[str, dict[float, list[float]]] = {}
    for made in runs:
        is_lost = made.outcome is Outcome.DIVERGED or math.isnan(made.objective)
        value = math.inf if is_lost else made.objective
        grouped.setdefault(made.optimizer, {}).setdefault(made.rate, []).append(value)
    return {
        name: min(rates, key=lambda rate: (float(np.median(rates[rate])), rate))
        for name, rates in grouped.items()
    }


def compare(
    plan: Plan,
    *,
    folder: ComparisonFolder | None = None,
    executor: Executor | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    reached: Callable[[str], None] | None = None,
) -> Comparison:
    """Find the reference, train with every optimiser, polish, and settle what is best.

    Args:
        plan: what to compare.
        folder: where finished solves and runs are kept, and read instead of made again.
        executor: where they are made; in this process by default.
        workers: how many at a time.
        progress: called with every iteration of a solve in this process.
        reached: called with a name after every solve and run.

    Raises:
        KeyboardInterrupt: an interrupt before there was any reference.
    """
    with interruptible() as request:
        work = _Work(plan, folder, executor, workers, progress, reached, request)
        try:
            work.find_reference()
            work.train()
            work.polish()
            is_complete = True
        except (_Stopped, KeyboardInterrupt):
            is_complete = False
    if work.random is None:
        raise KeyboardInterrupt
    return Comparison(
        plan,
        work.first,
        work.best_known(),
        work.random,
        work.starts,
        tuple(work.runs),
        work.polished,
        is_complete,
    )


def with_model(comparison: Comparison, model: Any) -> tuple[Comparison, Appraisal]:
    """A user's model beside the reference, which gives way to a better minimum near the model.

    Args:
        comparison: with the reference.
        model: in any form that `problems.model_arrays` knows.

    Raises:
        ValueError, ImportError: as `problems.appraisal.appraise`.
    """
    plan, reference = comparison.plan, comparison.reference
    found = appraise(
        plan.problem, model, reference.solved.solution, seed=plan.seed, options=plan.options
    )
    best = min((found.in_full.objective, "polished"), (found.objective, "as it is"))
    if not is_lower(best[0], reference.objective):
        return comparison, found
    own = found.model.trajectory.decisions
    decisions = found.in_full.decisions if best[1] == "polished" else own
    better = Found(f"the model, {best[1]}", _assessed(plan, decisions))
    found = replace(
        found,
        reference=better.solved.solution,
        reference_costs=costs_by_term(plan.problem, better.solved.solution.trajectory),
    )
    return replace(comparison, reference=better), found


class _Stopped(Exception):
    """An interrupt; what is finished is kept."""


@dataclass(frozen=True, eq=False)
class _Trainings:
    """Runs by their position, for a series of them in other processes."""

    asked: tuple[Training, ...]

    def __call__(self, position: int) -> Run:
        return run(self.asked[position])


class _Work:
    """The comparison in the making."""

    def __init__(
        self,
        plan: Plan,
        folder: ComparisonFolder | None,
        executor: Executor | None,
        workers: int,
        progress: Progress | None,
        reached: Callable[[str], None] | None,
        request: Request,
    ) -> None:
        self._plan, self._folder, self._request = plan, folder, request
        self._executor, self._workers = executor, workers
        self._progress, self._reached = progress, reached
        self.random: Found | None = None
        self.starts: dict[int, Found] = {}
        self.runs: list[Run] = []
        self.polished: dict[str, Found] = {}
        self._uncertified: list[Found] = []

    @property
    def first(self) -> Found:
        """The best of all starts."""
        assert self.random is not None
        return _best([self.random, *self.starts.values()])

    def find_reference(self) -> None:
        """From random starts and from the initial networks."""
        plan = self._plan
        solve = solver(
            seed=plan.seed,
            options=plan.options,
            executor=self._executor,
            progress=self._progress,
        )
        if self._folder is not None:
            solve = self._folder.solves.stored(solve)
        solved = solve(REFERENCE, plan.problem, (), plan.starts)
        self.random = Found("random starts", solved)
        if not solved.is_complete or self._request.is_pending:
            raise _Stopped
        self._tell(REFERENCE)
        names = {f"start-seed-{seed}": seed for seed in plan.seeds}
        guesses = {name: plan.initial(seed) for name, seed in names.items()}
        for name, found in self._solves(guesses):
            origin = f"the initial network of seed {names[name]}"
            self.starts[names[name]] = Found(origin, found)

    def train(self) -> None:
        """Every run that is not kept already."""
        asked = self._plan.trainings()
        kept = {} if self._folder is None else self._folder.kept_runs(asked)
        missing = tuple(one for one in asked if one.name not in kept)

        def finished(made: Run) -> None:
            if made.outcome is not Outcome.INTERRUPTED:
                kept[made.name] = made
                if self._folder is not None:
                    self._folder.keep_run(made, self._plan.problem)
                self._tell(made.name)

        is_complete = True
        if missing:
            seeds = range(len(missing))
            series = multi_start(_Trainings(missing), seeds, self._executor, finished)
            is_complete = series.is_complete
        self.runs = [kept[one.name] for one in asked if one.name in kept]
        if not is_complete or self._request.is_pending:
            raise _Stopped

    def polish(self) -> None:
        """Results at the best rates, and whatever beats the reference."""
        rates, reference = best_rates(self.runs), self.first.objective
        chosen = {
            made.name: made
            for made in self.runs
            if math.isfinite(made.objective)
            and (made.rate == rates[made.optimizer] or is_lower(made.objective, reference))
        }
        guesses = {f"polished-{name}": made.decisions for name, made in chosen.items()}
        for name, found in self._solves(guesses):
            made = chosen[name.removeprefix("polished-")]
            self.polished[made.name] = Found(f"{_described(made)}, polished", found)

    def best_known(self) -> Found:
        """The least certified point; or a run that is lower still, with its own status."""
        best = _best([self.first, *self.polished.values()])
        is_news = best.is_solved and not self.first.is_solved
        if not (is_news or is_lower(best.objective, self.first.objective)):
            best = self.first
        lower = [made for made in self.runs if is_lower(made.objective, best.objective)]
        if not lower:
            return best
        lowest = min(lower, key=lambda made: made.objective)
        return Found(_described(lowest), _assessed(self._plan, lowest.decisions))

    def _solves(self, guesses: Mapping[str, Array]) -> Iterable[tuple[str, Solved]]:
        """The second-order solver from every guess, as many at a time as there are workers."""
        problem, folder = self._plan.problem, self._folder
        missing: list[str] = []
        for name in guesses:
            kept = None if folder is None else folder.solves.kept(name, problem)
            if kept is None:
                missing.append(name)
            else:
                yield name, kept
        for start in range(0, len(missing), self._workers):
            names = missing[start : start + self._workers]
            found = train(
                problem,
                starts=0,
                guesses=[guesses[name] for name in names],
                options=self._plan.options,
                executor=self._executor,
                progress=self._progress,
            )
            assert found.starts is not None
            if not found.starts.is_complete or self._request.is_pending:
                raise _Stopped
            for name, smoothed in zip(names, found.starts.solutions, strict=True):
                solution = LearningSolution(problem, smoothed.solution, smoothed.smoothing, None)
                solved = Solved(solution, report(solution))
                yield name, solved if folder is None else folder.solves.keep(name, solved, 0)
                self._tell(name)

    def _tell(self, name: str) -> None:
        if self._reached is not None:
            self._reached(name)


def _best(found: Sequence[Found]) -> Found:
    """The least solved point, or the least of all if none is solved; the first of equals."""
    solved = [one for one in found if one.is_solved]
    return min(solved or found, key=lambda one: nan_last(one.objective))


def nan_last(value: float) -> float:
    """The value, or infinity where it is not a number."""
    return value if value == value else math.inf


def _described(made: Run) -> str:
    rate = "" if made.optimizer == LBFGS.name else f" at rate {made.rate:g}"
    return f"{made.optimizer}{rate} from seed {made.seed}"


def _assessed(plan: Plan, decisions: Array) -> Solved:
    """A point that no solver has certified, as a solution with its own certificate."""
    problem = plan.problem
    trajectory = rollout(problem.staged, decisions)
    found = assess(problem.staged, trajectory, 0.0, plan.options.tolerance, pinned=problem.pinned)
    solution = LearningSolution(problem, found, 0.0, None)
    return Solved(solution, report(solution))
