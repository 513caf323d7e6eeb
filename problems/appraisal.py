"""How far a model is from a reference optimum, in which term, in which layer, and what would help.

    gap = J(model) - J*  =  sum over the terms of J;   residual = the part of dL/du^k that is left

and how much of the gap each of these takes away, all by evaluating J of the discrete network:

    time-rescaling   u(t) -> theta'(t) u(theta(t)), theta' >= 0: the same control at other speeds
    time-shift       u(t) -> u(t + s), zero where there is none: the same control, sooner or later
    read-out         the best q for the model's own control
    in full          the second-order solver, from the model and from the best of those

A new control of a layer is the mean over it. For a driftless field that is homogeneous in the
control, x' = f(x, u), the first two keep the paths of the flow and change only when they are run.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from ocp import Method, SolveOptions, Trajectory, rollout
from ocp.condensing import adjoint, linearize, reduced_gradient
from ocp.trajectory import split_decisions
from problems.learning import Array, LearningProblem
from problems.model_arrays import ModelReading, read_model
from problems.training import (
    AT_TIP,
    LearningSolution,
    Start,
    assess,
    pinned_at,
    tip_distances,
    train,
)

IMPROVABLE = 1e-6  # of J: a smaller improvement is not worth a sentence
SPEEDS = (0.5, 1.0, 2.0)  # constant ones that the search for time-rescalings starts from
REFERENCE_STARTS = 10  # of a reference that was not given
TERMS = ("terminal", "tracking", "control", "readout")


@dataclass(frozen=True, eq=False)
class Improvement:
    """What a change of the model comes to.

    Args:
        objective: J after it; that of the model if no such change helps.
        decisions: of the changed model.
        shift: s, for a time-shift: positive if the control is to come sooner.
        status: of the solve, where there was one.
    """

    objective: float
    decisions: Array
    shift: float | None = None
    status: str | None = None


@dataclass(frozen=True)
class Residual:
    """The largest part of the gradient that is left.

    Args:
        layer: counted from 0; None for the read-out.
        name: of the control, with its place, such as w[0, 1].
        value: of the derivative of the Lagrangian in it.
    """

    layer: int | None
    name: str
    value: float


@dataclass(frozen=True, eq=False)
class Appraisal:
    """A model beside a reference.

    Args:
        model: with its certificate, which is that of a point, optimal or not.
        reference: what it is compared with.
        costs, reference_costs: J by term.
        layers: largest residual of every layer, (K,).
        readout: that of the read-out; None if it is fixed.
        worst: the largest of all.
        time_rescaling, time_shift: what would help; None where layers differ from each other.
        refitted: the same for the read-out; None if it is fixed.
        in_full: the same for the second-order solver.
        reading: from which arrays the model was read, and whether its own forward is the same.
    """

    model: LearningSolution
    reference: LearningSolution
    costs: Mapping[str, float]
    reference_costs: Mapping[str, float]
    layers: Array
    readout: float | None
    worst: Residual
    time_rescaling: Improvement | None
    time_shift: Improvement | None
    refitted: Improvement | None
    in_full: Improvement
    reading: ModelReading

    @property
    def objective(self) -> float:
        """J of the model."""
        return self.model.solution.objective

    @property
    def gap(self) -> float:
        """J - J*."""
        return self.objective - self.reference.solution.objective

    @property
    def improvements(self) -> dict[str, Improvement]:
        """All that were tried, by name."""
        found = {
            "time-rescaling": self.time_rescaling,
            "time-shift": self.time_shift,
            "read-out": self.refitted,
            "in full": self.in_full,
        }
        return {name: one for name, one in found.items() if one is not None}

    def is_improvable(self, name: str) -> bool:
        """Whether a change takes away more than IMPROVABLE of J."""
        least = self.objective - IMPROVABLE * max(abs(self.objective), np.finfo(float).eps)
        return self.improvements[name].objective < least


def appraise(
    problem: LearningProblem,
    model: Any,
    reference: LearningSolution | None = None,
    *,
    seed: int = 0,
    options: SolveOptions = SolveOptions(),
) -> Appraisal:
    """Hold a trained model against a reference optimum.

    A UserWarning says where a module's own forward is not that of the problem's network.

    Args:
        problem: data, network and cost.
        model: a module, a state_dict, arrays by name, a vector, a file, or a `ModelReading` of one
            of these: see `problems.model_arrays`.
        reference: an optimum of this problem; by default the best of REFERENCE_STARTS random starts
            and of the solver from the model itself.
        seed: of the random starts.
        options: of the solves.

    Raises:
        ValueError: a model that does not fit, one at which J is not finite, or an interpolation
            problem.
        ImportError: a file whose package, PyTorch or safetensors, is missing.
    """
    if problem.interpolation:
        raise ValueError("a model is held against a cost; an interpolation problem has none.")
    reading = read_model(model, problem)
    if reading.note is not None:
        warnings.warn(reading.note, stacklevel=2)
    decisions = reading.decisions
    solution = _at(problem, decisions, options)
    if not np.isfinite(solution.solution.objective):
        raise ValueError("the cost of the model is not finite: its states overflow; scale it down.")
    changes = []
    if problem.has_one_width and problem.is_still:
        changes = [time_rescaling(problem, decisions), time_shift(problem, decisions)]
    refitted = _refitted(problem, decisions, options) if problem.trained_readout else None
    guesses = [decisions]
    for change in sorted([*changes, *filter(None, [refitted])], key=lambda c: c.objective)[:1]:
        if change.objective < solution.solution.objective:
            guesses.append(change.decisions)
    polished = train(problem, starts=0, guesses=guesses, options=options)
    if reference is None:
        found = train(problem, seed=seed, starts=REFERENCE_STARTS, options=options)
        both = sorted(
            (found, polished), key=lambda s: (not s.solution.is_solved, s.solution.objective)
        )
        reference = both[0]
    layers, readout, worst = _residuals(problem, solution)
    return Appraisal(
        model=solution,
        reference=reference,
        costs=costs_by_term(problem, solution.trajectory),
        reference_costs=costs_by_term(problem, reference.trajectory),
        layers=layers,
        readout=readout,
        worst=worst,
        time_rescaling=changes[0] if changes else None,
        time_shift=changes[1] if changes else None,
        refitted=refitted,
        in_full=_improvement(
            problem, decisions, polished.trajectory.decisions, status=polished.status.value
        ),
        reading=reading,
    )


def costs_by_term(problem: LearningProblem, trajectory: Trajectory) -> dict[str, float]:
    """J by what it is made of, weighted."""
    weight, bias = problem.readout(trajectory.parameters)
    squares = float(trajectory.parameters @ trajectory.parameters)
    integral = sum(
        problem.penalty.integral(u[None], problem.grid.steps[k : k + 1], problem.layer(k).measure)
        for k, u in enumerate(trajectory.controls)
    )
    if problem.penalty.rate > 0:  # which takes controls of one size
        controls = trajectory.control_array
        integral = problem.penalty.integral(controls, problem.grid.steps)
    found = {
        "terminal": problem.terminal * problem.error(trajectory.states[-1], weight, bias),
        "tracking": 0.0,
        "control": problem.weight_decay * integral,
        "readout": problem.readout_weight_decay * squares if problem.trained_readout else 0.0,
    }
    if problem.tracking > 0:
        found["tracking"] = problem.tracking * problem.running_error(trajectory)
    return found


def cost(problem: LearningProblem, decisions: Array) -> float:
    """J of the discrete network; infinite where its states overflow."""
    value = linearize(problem.staged, rollout(problem.staged, decisions)).objective
    return value if np.isfinite(value) else np.inf


def replayed(problem: LearningProblem, decisions: Array, clock: Array) -> Array:
    """The same control by another clock: layer k takes what theta runs over from t_k to t_{k+1}.

    Args:
        problem: of the decisions.
        decisions: controls and parameters.
        clock: theta at the nodes, (K+1,), not decreasing; there is no control outside [0, T].
    """
    nodes = problem.grid.nodes
    controls, parameters = split_decisions(problem.staged, decisions)
    table = np.stack(controls)
    integral = np.vstack(
        [np.zeros_like(table[:1]), np.cumsum(table * problem.grid.steps[:, None], 0)]
    )
    up_to = np.column_stack([np.interp(clock, nodes, column) for column in integral.T])
    moved = np.diff(up_to, axis=0) / problem.grid.steps[:, None]
    return np.concatenate([_within(problem, moved).ravel(), parameters])


def _within(problem: LearningProblem, controls: Array) -> Array:
    limit = np.inf if problem.bound is None else problem.bound
    return np.asarray(np.clip(controls, -limit, limit))


def time_shift(problem: LearningProblem, decisions: Array) -> Improvement:
    """The best shift: of all by whole layers, then of all between the neighbours of that."""
    step, layers = problem.horizon / problem.layers, problem.layers

    def shifted(shift: float) -> Array:
        return replayed(problem, decisions, problem.grid.nodes + shift)

    whole = [step * j for j in range(1 - layers, layers)]
    costs = [cost(problem, shifted(s)) if s else cost(problem, decisions) for s in whole]
    best = whole[int(np.argmin(costs))]
    fine = minimize_scalar(
        lambda s: cost(problem, shifted(s)),
        bounds=(best - step, best + step),
        method="bounded",
        options={"xatol": 1e-6 * step},
    )
    shift = float(fine.x) if fine.fun < min(costs) else best
    if shift == 0.0:
        return _improvement(problem, decisions, decisions, shift=0.0)
    return _improvement(problem, decisions, shifted(shift), shift=shift)


def time_rescaling(problem: LearningProblem, decisions: Array) -> Improvement:
    """The best clock theta, by quasi-Newton descent in its increments, which are not negative."""
    steps, nodes = problem.grid.steps, problem.grid.nodes
    controls, _ = split_decisions(problem.staged, decisions)
    table = np.vstack([np.stack(controls), np.zeros_like(controls[0])])

    def evaluate(increments: Array) -> tuple[float, Array]:
        clock = np.concatenate([[0.0], np.cumsum(increments)])
        moved = replayed(problem, decisions, clock)
        value, gradient = _cost_and_slope(problem, moved)
        if not np.isfinite(value):
            return 1e300, np.zeros_like(increments)
        slopes = gradient[: len(controls) * controls[0].size].reshape(len(controls), -1)
        layer = np.searchsorted(nodes[1:], clock[1:], side="right")  # where each clock stands
        at = table[np.minimum(layer, len(controls))]
        # theta_{k+1} ends layer k and begins layer k+1
        after = np.vstack([slopes[1:] / steps[1:, None], np.zeros_like(slopes[:1])])
        by_clock = ((slopes / steps[:, None] - after) * at).sum(axis=1)
        return value, np.cumsum(by_clock[::-1])[::-1]

    best = decisions
    for speed in SPEEDS:
        found = minimize(
            evaluate,
            speed * steps,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, None)] * len(steps),
        )
        moved = replayed(problem, decisions, np.concatenate([[0.0], np.cumsum(found.x)]))
        if cost(problem, moved) < cost(problem, best):
            best = moved
    return _improvement(problem, decisions, best)


def _cost_and_slope(problem: LearningProblem, decisions: Array) -> tuple[float, Array]:
    """J and a subgradient of it: the multiplier of a soft row is that of the side it is on."""
    linearization = linearize(problem.staged, rollout(problem.staged, decisions))
    multipliers = tuple(
        np.where(values.violation == 0, 0.0, np.sign(values.violation) * values.bounds.weight)
        for values in (*linearization.stages, *linearization.shared)
    )
    costates = adjoint(linearization, multipliers)
    slope = reduced_gradient(linearization, costates, multipliers).value
    return linearization.objective, np.nan_to_num(slope)


def _improvement(
    problem: LearningProblem,
    decisions: Array,
    changed: Array,
    *,
    shift: float | None = None,
    status: str | None = None,
) -> Improvement:
    before, after = cost(problem, decisions), cost(problem, changed)
    if after < before:
        return Improvement(after, changed, shift, status)
    return Improvement(before, decisions, None if shift is None else 0.0, status)


def _refitted(problem: LearningProblem, decisions: Array, options: SolveOptions) -> Improvement:
    """The best read-out: the problem with all controls held where they are."""
    controls, _ = split_decisions(problem.staged, decisions)

    def held(staged: Any) -> Any:
        stages = [
            replace(stage, control_bounds=(control, control))
            for stage, control in zip(staged.stages, controls, strict=False)
        ]
        return replace(staged, stages=(*stages, staged.stages[-1]))

    run = Start(
        exact=held(problem.staged),
        is_smooth=problem.is_smooth,
        can_sharpen=not problem.posed_loss.needs_smoothing,
        guess_scale=1.0 / problem.horizon,
        pinned=None if problem.pinned is None else held(problem.pinned),
        kink_scale=problem.kink_scale,
        options=replace(options, method=Method.SHOOTING),
    )
    found = run.from_guess(decisions, is_near=True)
    fitted = np.concatenate(
        [*controls, found.solution.trajectory.decisions[problem.staged.parameter_slice]]
    )
    return _improvement(problem, decisions, fitted, status=found.status.value)


def _at(problem: LearningProblem, decisions: Array, options: SolveOptions) -> LearningSolution:
    trajectory = rollout(problem.staged, decisions)
    found = assess(problem.staged, trajectory, 0.0, options.tolerance, pinned=problem.pinned)
    return LearningSolution(problem, found, 0.0, None)


def _residuals(
    problem: LearningProblem, solution: LearningSolution
) -> tuple[Array, float | None, Residual]:
    """What is left of the Lagrangian's gradient: by layer, in the read-out, and where most."""
    staged, certificate = problem.staged, solution.certificate
    if problem.pinned is not None:
        held = tip_distances(problem.pinned, solution.trajectory) <= AT_TIP
        staged = pinned_at(problem.pinned, held)
    linearization = linearize(staged, rollout(staged, solution.trajectory.decisions))
    multipliers = certificate.multipliers
    left = reduced_gradient(linearization, certificate.costates, multipliers.rows).value
    left = left + multipliers.decision_bounds
    layers = [left[own] for own in staged.control_slices[:-1]]
    largest_of = np.array([float(np.abs(own).max()) for own in layers])
    layer = int(largest_of.argmax())
    place = int(np.abs(layers[layer]).argmax())
    name = _control_name(problem, layer, place)
    worst = Residual(layer, name, float(layers[layer][place]))
    parameters = left[staged.parameter_slice]
    readout = None
    if problem.trained_readout:
        largest = int(np.abs(parameters).argmax())
        readout = abs(float(parameters[largest]))
        if readout > abs(worst.value):
            worst = Residual(None, _readout_name(problem, largest), float(parameters[largest]))
    return largest_of, readout, worst


def _readout_name(problem: LearningProblem, place: int) -> str:
    width = problem.widths[-1]
    row, column = divmod(place, width)
    if row < problem.outputs:
        return f"readout_weight[{row}, {column}]"
    return f"readout_bias[{place - problem.outputs * width}]"


def _control_name(problem: LearningProblem, layer: int, place: int) -> str:
    for name, shape in problem.layer(layer).shapes.items():
        size = int(np.prod(shape))
        if place < size:
            return f"{name}[{', '.join(str(i) for i in np.unravel_index(place, shape))}]"
        place -= size
    raise AssertionError
