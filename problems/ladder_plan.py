"""The rungs of a ladder, before any is solved: problems, strengths and costs split in two.

    J = rest + eps S,   S = Int_0^1 R(v) ds,   v(s) = T^(1/k) u(T s),   eps = lambda T^(1 - r / k)

for a field that is homogeneous of degree k in u and a penalty R of degree r, so that eps is
lambda / T for k = 1 and R = |v|^2. On a ladder in lambda the same is true of every field, with
k = 1, since T is fixed; `rest` is the error, and whatever else eps does not multiply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ocp import rollout
from ocp.analysis import resample
from problems.hypotheses import Homogeneity, homogeneity
from problems.interpolation import minimal_norm, unreachable
from problems.learning import Array, LearningProblem

HORIZON, WEIGHT_DECAY = "horizon", "weight-decay"  # what a ladder climbs in
LAYERS, STEP = "layers", "step"  # what it keeps while T grows
WHOLE = 1e-9  # relative distance from a whole number of layers that is rounding


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
    if keep == STEP and not problem.is_still:
        raise ValueError(
            "a ladder that keeps the step adds layers, whose widths are not given; keep the number "
            "of layers."
        )
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
    if source.horizon == to.horizon and source.layers == to.layers:
        return decisions.copy()
    split = decisions.size - source.readout_size
    own, parameters = decisions[:split], decisions[split:]
    # Layers of several sizes are as many on every rung, and need no other time grid.
    controls = own.reshape(source.layers if source.is_still else 1, -1)
    layers = to.layers if to.is_still else 1
    ratio = source.horizon / to.horizon
    if plan.degree is not None and to.tracking == 0:
        ways = [resample(controls * ratio ** (1 / plan.degree), layers)]
    else:
        ways = [resample(controls * ratio, layers), resample(controls, layers)]
    if to.tracking > 0 and to.is_still:
        ways.append(_extended(controls, source.grid.nodes, to.grid.nodes))
    limits = np.concatenate([to.control_limits(k) for k in range(to.layers)])
    found = [np.concatenate([np.clip(w.ravel(), -limits, limits), parameters]) for w in ways]
    return min(found, key=lambda way: nan_to_infinity(split_cost(plan, to, way).total))


def _extended(controls: Array, nodes: Array, new_nodes: Array) -> Array:
    """Means over new intervals of a control that is zero after its horizon, (K', m)."""
    integral = np.vstack([np.zeros_like(controls[:1]), np.cumsum(controls.T * np.diff(nodes), 1).T])
    up_to = np.column_stack([np.interp(new_nodes, nodes, column) for column in integral.T])
    return np.diff(up_to, axis=0) / np.diff(new_nodes)[:, None]


def nan_to_infinity(value: float) -> float:
    """The value, or infinity where it is not a number: a diverged network beats nothing."""
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
    controls = trajectory.padded_controls
    measures = np.zeros_like(controls)
    for k in range(problem.layers):
        measures[k, : problem.layer(k).size] = problem.layer(k).measure
    size = problem.penalty.integral(controls, problem.grid.steps, measures)
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


def label(plan: Plan, position: int) -> str:
    """What a rung is called."""
    problem = plan.problems[position]
    if plan.in_horizon:
        return f"horizon {problem.horizon:g}"
    return f"weight-decay {problem.weight_decay:g}"


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
