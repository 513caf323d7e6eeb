"""Ladders: the same learning problem on growing horizons, or with a falling weight decay.

    J = rest + eps S,   S = Int_0^1 R(v) ds,   v(s) = T^(1/k) u(T s),   eps = lambda T^(1 - r / k)

for a field that is homogeneous of degree k in u and a penalty R of degree r, so that eps is
lambda / T for k = 1 and R = |v|^2. On a ladder in lambda the same is true of every field, with
k = 1, since T is fixed; `rest` is the error, and whatever else eps does not multiply.

Every rung starts from the one before, transferred by u -> u (T / T')^(1/k); then the rungs are
checked against each other: any control, transferred, bounds the optimal cost of every other rung
from above. A rung whose cost exceeds such a bound is proved not to be a global minimum, and is
restarted from the control that beats it, until none is beaten. The minimal-norm interpolant takes
part in this, and is itself continued from the last rung. Where all rungs are one problem in eps,
this is the concavity of the value function V(eps) and its line bounds (`problems.ladder_checks`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ocp import SolveOptions, rollout
from ocp.analysis import resample
from ocp.interrupt import Request, interruptible
from ocp.nlp import Progress
from problems.hypotheses import Homogeneity, homogeneity
from problems.interpolation import minimal_norm, unreachable
from problems.learning import Array, LearningProblem
from problems.report import report
from problems.training import LearningSolution, SmoothedSolution, train

HORIZON, WEIGHT_DECAY = "horizon", "weight-decay"  # what a ladder climbs in
LAYERS, STEP = "layers", "step"  # what it keeps while T grows
WHOLE = 1e-9  # relative distance from a whole number of layers that is rounding
BEATEN = 1e-9  # a cost this much lower, relatively, is lower
STEPS = 4  # between two rungs, where one step leads to another branch
INTERPOLANT_STRENGTH = 1e-3  # from which the interpolant is followed, relative to the rung's
KINK_SLOPE = 100.0  # of the cost in a smoothing width, relative to the cost
ROUNDING = 1e-14  # costs closer than this are equal


@dataclass(frozen=True, eq=False)
class Plan:
    """The problems of a ladder, from the largest strength eps of the penalty to the smallest.

    Args:
        variable: HORIZON or WEIGHT_DECAY.
        keep: LAYERS or STEP.
        problems: one per rung.
        homogeneity: of the field, tested.
    """

    variable: str
    keep: str
    problems: tuple[LearningProblem, ...]
    homogeneity: Homogeneity

    @property
    def in_horizon(self) -> bool:
        """Whether T grows; otherwise lambda falls."""
        return self.variable == HORIZON

    @property
    def degree(self) -> int | None:
        """Degree k in v(s) = T^(1/k) u(T s); None if T cannot be scaled away."""
        return self.homogeneity.degree if self.in_horizon else 1

    @cached_property
    def is_one_family(self) -> bool:
        """Whether the rungs differ in eps alone, so that bounds by straight lines are exact."""
        if not self.in_horizon:
            return True
        problem = self.problems[0]
        return (
            self.degree is not None
            and problem.tracking == 0
            and problem.penalty.rate == 0
            and problem.bound is None
            and len({p.layers for p in self.problems}) == 1
        )

    @property
    def unscalable(self) -> str | None:
        """Why the rungs are not one problem in eps; None if they are."""
        if self.is_one_family:
            return None
        problem = self.problems[0]
        if self.degree is None:
            return "the field is not homogeneous in the control"
        if problem.tracking > 0:
            return "the running error is integrated over a growing horizon"
        if problem.penalty.rate > 0:
            return "the penalty has a derivative, which scales differently"
        if problem.bound is not None:
            return "the bound on the controls is another one on every horizon"
        return "the number of layers grows, so every rung is another network"

    def unit(self, problem: LearningProblem) -> float:
        """S = unit * Int_0^T R(u) dt, that is T^(r/k - 1); T where T cannot be scaled away."""
        if not self.in_horizon or self.degree is None:
            return problem.horizon
        power = 2 if problem.penalty.square > 0 else 1
        return problem.horizon ** (power / self.degree - 1)

    def strength(self, problem: LearningProblem) -> float:
        """The weight eps of S."""
        return problem.weight_decay / self.unit(problem)


def horizon_ladder(problem: LearningProblem, horizons: Sequence[float], keep: str = LAYERS) -> Plan:
    """One rung per horizon, in increasing order.

    Args:
        problem: everything else; its number of layers is that of the smallest horizon.
        horizons: T > 0, all different.
        keep: LAYERS for the same number of layers on every horizon, STEP for the same length of a
            layer, so that every horizon must be a whole number of them.

    Raises:
        ValueError: no horizons, equal ones, no weight decay, or no whole number of layers.
    """
    values = _checked("horizons", horizons, problem)
    if keep not in (LAYERS, STEP):
        raise ValueError(f"keep must be {LAYERS} or {STEP}, got {keep!r}.")
    problems = []
    for horizon in values:
        layers = problem.layers
        if keep == STEP:
            step = values[0] / problem.layers
            layers = round(horizon / step)
            if abs(horizon / step - layers) > WHOLE * layers:
                raise ValueError(
                    f"horizon {horizon:g} is no whole number of layers of length {step:g} (the "
                    f"smallest horizon, {values[0]:g}, in {problem.layers} layers); choose "
                    "multiples of that, or keep the number of layers."
                )
        problems.append(replace(problem, horizon=horizon, layers=layers))
    return Plan(HORIZON, keep, tuple(problems), homogeneity(problem))


def weight_decay_ladder(problem: LearningProblem, weight_decays: Sequence[float]) -> Plan:
    """One rung per weight decay lambda at fixed T, in decreasing order.

    Raises:
        ValueError: no weight decays, equal ones, or one that is not positive.
    """
    values = _checked("weight-decays", weight_decays, problem)
    problems = tuple(replace(problem, weight_decay=value) for value in reversed(values))
    return Plan(WEIGHT_DECAY, LAYERS, problems, homogeneity(problem))


def _checked(name: str, values: Sequence[float], problem: LearningProblem) -> list[float]:
    found = sorted(float(value) for value in values)
    if not found or not all(math.isfinite(value) and value > 0 for value in found):
        raise ValueError(f"{name} must be positive numbers, at least one, got {list(values)}.")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must all be different, got {', '.join(f'{v:g}' for v in found)}.")
    if problem.weight_decay == 0 and name == "horizons":
        raise ValueError("a ladder in the horizon needs a positive weight-decay, got 0.")
    if problem.interpolation:
        raise ValueError("a ladder needs a problem with a training error, not an interpolation.")
    return found


def transferred(
    plan: Plan, source: LearningProblem, decisions: Array, to: LearningProblem
) -> Array:
    """Controls of one rung carried over to another: u -> u (T / T')^(1/k), read-out unchanged.

    On another number of layers each takes the mean over its share of the time. Where T cannot be
    scaled away, the cheapest of several ways: k = 1, the same controls on stretched time, and with
    a running error the same controls at the same time, then none.
    """
    split = source.layers * source.staged.stages[0].control_size
    controls, parameters = decisions[:split].reshape(source.layers, -1), decisions[split:]
    if source.horizon == to.horizon and source.layers == to.layers:
        return decisions.copy()
    ratio = source.horizon / to.horizon
    if plan.degree is not None and to.tracking == 0:
        ways = [resample(controls * ratio ** (1 / plan.degree), to.layers)]
    else:
        ways = [resample(controls * ratio, to.layers), resample(controls, to.layers)]
    if to.tracking > 0:
        ways.append(_extended(controls, source.grid.nodes, to.grid.nodes))
    limit = np.inf if to.bound is None else to.bound
    found = [np.concatenate([np.clip(way, -limit, limit).ravel(), parameters]) for way in ways]
    return min(found, key=lambda way: _or_infinity(split_cost(plan, to, way).total))


def _extended(controls: Array, nodes: Array, new_nodes: Array) -> Array:
    """Means over new intervals of a control that is zero after its horizon, (K', m)."""
    integral = np.vstack([np.zeros_like(controls[:1]), np.cumsum(controls.T * np.diff(nodes), 1).T])
    up_to = np.column_stack([np.interp(new_nodes, nodes, column) for column in integral.T])
    return np.diff(up_to, axis=0) / np.diff(new_nodes)[:, None]


def _or_infinity(value: float) -> float:
    return value if value == value else math.inf


@dataclass(frozen=True)
class SplitCost:
    """A cost J = rest + strength * size."""

    rest: float
    strength: float
    size: float

    @property
    def total(self) -> float:
        """J."""
        return self.rest + self.strength * self.size

    def at(self, strength: float) -> float:
        """The straight line that bounds the value function from above."""
        return self.rest + strength * self.size


def split_cost(plan: Plan, problem: LearningProblem, decisions: Array) -> SplitCost:
    """Cost of the exact network under given decisions, split into what eps multiplies and the rest.

    For an interpolation problem the rest is zero, as its constraints ask.
    """
    trajectory = rollout(problem.staged, decisions)
    size = problem.penalty.integral(trajectory.control_array, problem.grid.steps)
    squares = float(trajectory.parameters @ trajectory.parameters)
    rest, shared = 0.0, not plan.in_horizon and problem.readout_decay is None
    if shared:
        size += squares
    if not problem.interpolation:
        weight, bias = problem.readout(trajectory.parameters)
        rest = problem.terminal * problem.error(trajectory.states[-1], weight, bias)
        if problem.tracking > 0:
            rest += problem.tracking * problem.running_error(trajectory)
        if not shared:
            rest += problem.readout_weight_decay * squares
    return SplitCost(rest, plan.strength(problem), plan.unit(problem) * size)


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
        """Controls v(s) = T^(1/k) u(T s), (K, m)."""
        power = 1 / (self.plan.degree or 1)
        return rung.solution.trajectory.control_array * rung.problem.horizon**power

    def norm_squared(self, rung: Rung) -> float:
        """Int_0^1 |v|^2 ds."""
        return float(np.sum(self.rescaled(rung) ** 2) / rung.problem.layers)


def label(plan: Plan, position: int) -> str:
    """What a rung is called."""
    problem = plan.problems[position]
    if plan.in_horizon:
        return f"horizon {problem.horizon:g}"
    return f"weight-decay {problem.weight_decay:g}"


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
    bounds = [(other, _or_infinity(bound(plan, other, rung))) for other in others]
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


def interpolation_problem(plan: Plan) -> LearningProblem | str:
    """The minimal-norm problem that the ladder leads to, or why there is none."""
    last = plan.problems[-1]
    if not last.loss.has_minimum:
        return f"the infimum of the {last.loss.name} loss is not attained"
    if last.loss.is_classification:
        return (
            f"the {last.loss.name} loss is zero beyond a margin, so its minimal-norm limit is not "
            "an interpolation of the targets"
        )
    if last.terminal == 0 or last.tracking > 0:
        return "the cost has a running error, so its limit is not a minimal-norm interpolant"
    if plan.in_horizon:
        if plan.degree != 1:
            return "the field is not homogeneous of degree 1 in the control"
        if last.penalty.rate > 0 or last.penalty.square == 0:
            return f"the {last.penalty.name} penalty does not scale with the horizon as |u|^2 does"
        if last.bound is not None:
            return "the bound on the controls is another one on every horizon"
        if last.trained_readout:
            return "the penalty of the trained read-out does not fade as T grows"
        last = replace(last, horizon=1.0)
    elif last.trained_readout and last.readout_decay is not None:
        return "the penalty of the trained read-out does not fade as lambda falls"
    try:
        posed = minimal_norm(last)
    except ValueError as error:
        return str(error)
    return unreachable(posed) or posed
