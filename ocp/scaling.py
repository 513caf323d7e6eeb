"""Scaling: the solver's variables in units in which they are of size 1.

    x = S_x x^,  u = S_u u^,  p = S_p p^,  t = S_t t^

A problem in x, u, p, t becomes one in the scaled variables by substitution; everything downstream,
tolerances included, sees numbers of size 1, and the solution is turned back at the end. The cost
keeps its unit: the optimiser multiplies it by a factor of its own (`SolveOptions.objective_scale`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike

from ocp.multipliers import KKTMultipliers
from ocp.problem import Constraint, InteriorPoint, OptimalControlProblem
from ocp.stages import Array
from ocp.trajectory import Trajectory

SAMPLED = 10  # nodes of a guess at which slopes of constraints are taken
WELL_SCALED = 30.0  # sizes between this and its inverse are left alone


@dataclass(frozen=True, eq=False)
class Scaling:
    """Sizes of the variables, in the problem's own units.

    Args:
        state: (n,), or one number for all.
        control: (m,), likewise.
        parameter: (number of parameters,), likewise.
        time: of the time; only rates change by it. A free end time is a parameter: scale it there.
        cost: of the cost; None lets the solver choose.

    Raises:
        ValueError: a size that is not positive and finite.
    """

    state: ArrayLike = 1.0
    control: ArrayLike = 1.0
    parameter: ArrayLike = 1.0
    time: float = 1.0
    cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("state", "control", "parameter", "time", "cost"):
            value = getattr(self, name)
            if value is None:
                continue
            sizes = np.asarray(value, dtype=float)
            if not (np.isfinite(sizes).all() and (sizes > 0).all()):
                raise ValueError(f"scaling.{name} must be positive and finite, got {value}.")

    def of(self, problem: OptimalControlProblem) -> Scaling:
        """With one size for every component of the problem.

        Raises:
            ValueError: sizes for another number of components, or different sizes of controls
                under a penalty on their derivative.
        """
        parts = {}
        for name in ("state", "control", "parameter"):
            count = getattr(problem, name).numel()
            value = np.asarray(getattr(self, name), dtype=float)
            added = {"control": problem.slacks.numel(), "parameter": problem.slack_parameters}
            own = count - added.get(name, 0)
            if own < count and value.size == own:
                value = np.concatenate([value.ravel(), np.ones(count - own)])
            if value.size not in (1, count) and count:
                raise ValueError(f"scaling.{name} has {value.size} sizes, expected one or {count}.")
            parts[name] = np.broadcast_to(value.ravel() if count else 1.0, (count,)).copy()
        if problem.control_rate_weight > 0 and np.ptp(parts["control"]) > 0:
            raise ValueError(
                "a penalty on the control's derivative needs one size for all controls."
            )
        return replace(
            self,
            state=parts["state"],
            control=parts["control"],
            parameter=parts["parameter"],
        )

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        parts = (self.state, self.control, self.parameter, self.time)
        return all((np.asarray(part) == 1.0).all() for part in parts)


def automatic_scaling(problem: OptimalControlProblem, guess: Trajectory) -> Scaling:
    """Sizes from a guess in the problem's own terms, the given initial values and the bounds.

    A state that is 0 in the guess and has no bounds gets the size that its rate over the horizon
    would lead to. Sizes are powers of ten; what is between 1/30 and 30 counts as 1.
    """
    state = [np.abs(part).max(axis=0) for part in guess.states]
    state.append(np.abs(np.nan_to_num(np.asarray(problem.initial_state, dtype=float))).max(axis=0))
    lower, upper = (np.asarray(b, dtype=float) for b in problem.state_bounds)
    unknown = (np.max(state, axis=0) == 0.0) & ~np.isfinite(lower) & ~np.isfinite(upper)
    if unknown.any():
        state.append(np.where(unknown, _reach(problem, guess), 0.0))
    m = problem.control.numel()
    control = [
        np.abs(part.reshape(part.size // max(m, 1), m)).max(axis=0, initial=0.0)
        for part in guess.controls
    ]
    penalised = problem.control_rate_weight > 0
    return Scaling(
        _sizes(state, problem.state_bounds),
        np.ones(m) if penalised else _sizes(control, problem.control_bounds),
        _sizes([np.abs(guess.parameters)], problem.parameter_bounds),
    )


def _points(problem: OptimalControlProblem, guess: Trajectory) -> list[tuple]:
    """(x, u, p, d, t) of the first member at a few nodes of a guess."""
    m, last = problem.control.numel(), len(guess.states) - 1
    data = np.asarray(problem.member_data, dtype=float)[0]
    times = np.zeros(last + 1) if guess.times is None else guess.times
    return [
        (guess.states[k][0], guess.controls[min(k, last - 1)][:m], guess.parameters, data, times[k])
        for k in range(0, last + 1, max(1, last // SAMPLED))
    ]


def _reach(problem: OptimalControlProblem, guess: Trajectory) -> Array:
    """Of every component of the state, its largest rate along the guess times the horizon."""
    arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
    rate = ca.Function("f", arguments, [ca.densify(problem.dynamics)])
    values = [rate(*point).full() for point in _points(problem, guess)]
    rates = np.abs(np.hstack(values)).max(axis=1)
    horizon = 0.0 if guess.times is None else float(guess.times[-1] - guess.times[0])
    return np.asarray(np.nan_to_num(rates * horizon, posinf=0.0))


def _sizes(values: Sequence[Array], bounds: tuple) -> Array:
    """Of every component the largest value, or if that is 0 the nearest bound, as a power of ten.

    A bound may be far beyond all values of interest, so values come first.
    """
    limits = np.abs(np.stack([np.broadcast_to(b, values[0].shape) for b in bounds]))
    nearest = np.where(np.isfinite(limits) & (limits > 0), limits, np.inf).min(axis=0)
    largest = np.max(values, axis=0)
    sizes = np.where(largest > 0, largest, np.where(np.isfinite(nearest), nearest, 1.0))
    return _power_of_ten(sizes)


def _power_of_ten(sizes: Array) -> Array:
    """The nearest one; 1 for what is well scaled, zero or not finite."""
    known = np.isfinite(sizes) & (sizes > 0)
    sizes = np.where(known, sizes, 1.0)
    far = (sizes > WELL_SCALED) | (sizes < 1 / WELL_SCALED)
    return np.where(far, 10.0 ** np.round(np.log10(sizes)), 1.0)


def scaled(problem: OptimalControlProblem, scaling: Scaling) -> OptimalControlProblem:
    """The problem in scaled variables.

    Args:
        problem: in its own units.
        scaling: made for it by `Scaling.of`.
    """
    if scaling.is_identity:
        return problem
    sizes = {name: ca.DM(getattr(scaling, name)) for name in ("state", "control", "parameter")}
    old = [problem.state, problem.control, problem.parameter, problem.time]
    new = [
        problem.state * sizes["state"],
        problem.control * sizes["control"],
        problem.parameter * sizes["parameter"],
        problem.time * scaling.time,
    ]
    if problem.initial.numel():
        old.append(problem.initial)
        new.append(problem.initial * sizes["state"])

    def convert(expression: ca.SX) -> ca.SX:
        return ca.substitute([ca.SX(expression)], old, new)[0]

    def convert_rows(constraints: Sequence[Constraint], rate: float = 1.0) -> list[Constraint]:
        return [
            replace(
                c,
                expression=convert(c.expression),
                weight=c.weight * (1.0 if c.by_horizon else rate),
            )
            for c in constraints
        ]

    def convert_bounds(name: str) -> tuple[Array, Array]:
        size = np.asarray(getattr(scaling, name))
        lower, upper = getattr(problem, f"{name}_bounds")
        return lower / size, upper / size

    points = [
        InteriorPoint(p.time / scaling.time, convert(p.cost), convert_rows(p.constraints))
        for p in problem.interior_points
    ]
    horizon = problem.horizon
    horizon = convert(horizon) / scaling.time if isinstance(horizon, ca.SX) else horizon
    start = problem.start
    if start is not None:
        start = convert(ca.SX(start)) / scaling.time
    return replace(
        problem,
        dynamics=convert(problem.dynamics) * scaling.time / sizes["state"],
        horizon=horizon if isinstance(horizon, ca.SX) else float(horizon) / scaling.time,
        start=start,
        initial_state=np.asarray(problem.initial_state) / np.asarray(scaling.state),
        running_cost=convert(problem.running_cost) * scaling.time,
        terminal_cost=convert(problem.terminal_cost),
        control_cost=convert(problem.control_cost) * scaling.time,
        control_rate_weight=problem.control_rate_weight
        * float(np.max(scaling.control, initial=0.0)) ** 2
        / scaling.time,
        parameter_cost=convert(problem.parameter_cost),
        slacks=convert(problem.slacks) / ca.DM(_added(problem, scaling)),
        path_constraints=convert_rows(problem.path_constraints, scaling.time),
        terminal_constraints=convert_rows(problem.terminal_constraints),
        control_constraints=convert_rows(problem.control_constraints, scaling.time),
        interior_points=points,
        state_bounds=convert_bounds("state"),
        control_bounds=convert_bounds("control"),
        parameter_bounds=convert_bounds("parameter"),
    )


def _added(problem: OptimalControlProblem, scaling: Scaling) -> Array:
    """Sizes of the controls that were added to pose the problem."""
    return np.asarray(scaling.control)[problem.control.numel() - problem.slacks.numel() :]


def scaled_rows(problem: OptimalControlProblem, guess: Trajectory) -> OptimalControlProblem:
    """The problem with hard constraints whose slopes at a guess are far from 1 divided by them.

    Args:
        problem: in scaled variables.
        guess: likewise; slopes are taken at its nodes.
    """
    variables = ca.vertcat(problem.state, problem.control, problem.parameter)
    arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
    if problem.initial.numel():
        arguments.append(problem.initial)
        variables = ca.vertcat(variables, problem.initial)
    points = _points(problem, guess)
    if problem.initial.numel():
        points = [(*point, guess.states[0][0]) for point in points]

    def convert(constraints: Sequence[Constraint]) -> list[Constraint]:
        converted = []
        for constraint in constraints:
            slopes = ca.Function("s", arguments, [ca.jacobian(constraint.expression, variables)])
            found = np.max([np.abs(slopes(*point).full()).max(axis=1) for point in points], axis=0)
            limits = np.abs([np.asarray(constraint.lower), np.asarray(constraint.upper)])
            nearest = np.where(np.isfinite(limits) & (limits > 0), limits, np.inf).min(axis=0)
            found = np.where(found > 0, found, nearest)  # flat at the guess
            size = np.ones_like(found) if constraint.is_soft else _power_of_ten(found)
            converted.append(
                replace(
                    constraint,
                    expression=constraint.expression / ca.DM(size),
                    lower=np.asarray(constraint.lower) / size,
                    upper=np.asarray(constraint.upper) / size,
                    unit=np.asarray(constraint.unit) * size,
                )
            )
        return converted

    interior = [replace(p, constraints=convert(p.constraints)) for p in problem.interior_points]
    return replace(
        problem,
        path_constraints=convert(problem.path_constraints),
        terminal_constraints=convert(problem.terminal_constraints),
        control_constraints=convert(problem.control_constraints),
        interior_points=interior,
    )


def to_scaled(trajectory: Trajectory, scaling: Scaling) -> Trajectory:
    """A trajectory in the problem's own units in scaled variables."""
    return _convert(trajectory, scaling, -1.0)


def to_own_units(trajectory: Trajectory, scaling: Scaling) -> Trajectory:
    """The inverse of `to_scaled`."""
    return _convert(trajectory, scaling, 1.0)


def _convert(trajectory: Trajectory, scaling: Scaling, power: float) -> Trajectory:
    state, control, parameter = (
        np.asarray(sizes) ** power for sizes in (scaling.state, scaling.control, scaling.parameter)
    )
    times = trajectory.times

    def tiled(values: Array, size: Array) -> Array:
        repeats = values.shape[-1] // max(size.size, 1)
        return values * np.tile(size, repeats) if size.size else values

    return Trajectory(
        tuple(x * state for x in trajectory.states),
        tuple(tiled(u, control) for u in trajectory.controls),
        trajectory.parameters * parameter,
        None if times is None else times * scaling.time**power,
        tuple(tiled(z, state) for z in trajectory.locals),
    )


def multipliers_in_own_units(
    multipliers: KKTMultipliers,
    scaling: Scaling,
    free_initial: np.ndarray,
    row_units: Sequence[Array],
) -> KKTMultipliers:
    """Multipliers per unit of the problem's own.

    Args:
        multipliers: in scaled variables.
        scaling: of the problem.
        free_initial: (n,) which components of the initial state are among the parameters.
        row_units: of the rows of every stage, then of every shared term.
    """
    state = np.asarray(scaling.state)
    parameter = np.concatenate([np.asarray(scaling.parameter), state[free_initial]])
    control = np.asarray(scaling.control)
    count = multipliers.decision_bounds.size - parameter.size
    repeats = count // max(control.size, 1)
    sizes = np.concatenate([np.tile(control, repeats), parameter])
    bounds = tuple(y / state for y in multipliers.state_bounds)
    costates = tuple(p / state for p in multipliers.costates)
    rows = tuple(y / unit for y, unit in zip(multipliers.rows, row_units, strict=True))
    return KKTMultipliers(rows, bounds, multipliers.decision_bounds / sizes, costates)
