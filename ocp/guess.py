"""Initial guesses: constants, lines between boundary values, arrays, functions of time, noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike

from ocp.discretize import Transcription
from ocp.problem import OptimalControlProblem
from ocp.regularity import (
    Shift,
    shift_from_singular,
    shifted_control,
    shifted_states,
    terminal_values,
)
from ocp.stages import Array
from ocp.trajectory import Trajectory

FAR = 30.0  # an end time within this factor of 1 is guessed to be 1
TRIED = 20  # controls, to estimate how fast the state can move
ROOM = 0.1  # of the size of |e|, by which what bounds it is guessed larger, to be inside
INSIDE = 0.1  # of the size of a single bound, at least 1; small, but not badly scaled
LONGER = 8.0  # factor on the parameters, a free end time among them, of another guess
Values = ArrayLike | Callable[[float], ArrayLike]


@dataclass(frozen=True, eq=False)
class Guess:
    """Where to start, in the problem's own units, on whatever grid.

    State and control are each a number or one value per component, constant in time; an array of
    several rows (rows, components), equally spaced over the horizon, so that two rows make a line;
    or a function of time.

    Args:
        state: of the components that were declared, or of integrals in conditions as well; by
            default lines between the values that the problem fixes at the ends, or else
            held at the initial values; clipped to the bounds.
        control: by default zero, or if zero is not strictly inside its bounds their middle, or a
            little inside of the only one.
        parameter: one value per parameter; by default 1, with bounds likewise; for an unbounded end
            time of another magnitude, the time that the way between the boundary values takes.
            Some of them can be given by name, as a mapping.
        noise: standard deviation of what is added to every control and parameter, relative to the
            size of its value, at least 1.
        seed: of the noise.
        simulate: whether the states follow from the control, by the scheme, instead.

    Where neither state nor control is given and the model is singular at their defaults, both are
    moved a little (`ocp.regularity`).
    """

    state: Values | None = None
    control: Values | None = None
    parameter: ArrayLike | Mapping[str, float] | None = None
    noise: float = 0.0
    seed: int = 0
    simulate: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"guess.noise must be >= 0 and finite, got {self.noise}.")

    @property
    def is_open(self) -> bool:
        """Whether states and controls are left to their defaults."""
        given = self.state is not None or self.control is not None
        return not (given or self.noise or self.simulate)

    def on(self, transcription: Transcription) -> Trajectory:
        """The guess on the grid of a transcription.

        Raises:
            ValueError: values that do not fit the problem's sizes, or are not finite.
        """
        problem, grid = transcription.problem, transcription.grid
        generator = np.random.default_rng(self.seed)
        parameters = self.parameters_of(problem)
        parameters = self._with_noise(generator, parameters, problem.parameter_bounds)
        first, last = problem.times_of(grid.nodes[[0, -1]], parameters)
        span = last - first
        fractions = (grid.nodes - grid.nodes[0]) / grid.horizon

        def sample(name: str, values: Values, where: Array, size: int) -> Array:
            return _sample(name, values, where, first + span * where, size)

        controls, inner = [], []
        n, m = problem.state.numel(), problem.control.numel()
        declared, default = m - problem.slacks.numel(), default_control(problem)
        control = default[:declared] if self.control is None else self.control
        state = self.state
        has_slacks = declared == m or (
            self.control is not None and _width(self.control, first) == m
        )
        lines = boundary_lines(problem)
        if state is None and self.control is None:
            inside = np.unique(np.append(fractions[1:-1], (fractions[1:] + fractions[:-1]) / 2))
            shift = shift_from_singular(
                problem, lines(inside), default, parameters, inside, first + span * inside
            )
            if shift is not None:
                control = shifted_control(problem, default, shift)[:declared]
                lines = partial(_shifted_lines, problem, lines, shift)
        for k, (node, step) in enumerate(zip(grid.nodes[:-1], grid.steps, strict=True)):
            times = transcription.stage_points(k)[0]
            points = (times - grid.nodes[0]) / grid.horizon
            middle = np.array([(node + step / 2 - grid.nodes[0]) / grid.horizon])
            where = points if transcription.control_per_stage else middle
            own = m if has_slacks else declared
            values = sample("control", control, where, own)
            values = np.hstack([values, np.zeros((len(values), m - own))])
            controls.append(self._with_noise(generator, values, problem.control_bounds).ravel())
            inner.append(points[:0] if transcription.tableaux[k].is_explicit else points)
        if state is None:
            states = list(lines(fractions))
            locals_ = [list(lines(points)) for points in inner]
        else:

            def sample_states(where: Array) -> list[Array]:
                """Of every member; integrals that pose the problem keep their own lines."""
                width = n if _width(state, first) == n else n - problem.integrals
                own = sample("state", state, where, width)
                return [
                    np.hstack([np.tile(row, (problem.members, 1)), line[:, own.shape[1] :]])
                    for row, line in zip(own, lines(where), strict=True)
                ]

            states = sample_states(fractions)
            states[0] = _start(problem, states[0])
            locals_ = [sample_states(points) for points in inner]
        flat = [np.hstack([np.zeros((problem.members, 0)), *values]) for values in locals_]
        if not has_slacks:
            controls = _with_slacks(problem, states, controls, parameters, first + span * fractions)
        has_locals = any(values.shape[1] for values in flat)
        flat.append(np.zeros((problem.members, 0)))
        trajectory = Trajectory(
            tuple(states),
            tuple(controls),
            parameters,
            first + span * fractions,
            tuple(flat) if has_locals else (),
        )
        return transcription.rollout(trajectory) if self.simulate else trajectory

    def parameters_of(self, problem: OptimalControlProblem) -> Array:
        """Values of the problem's parameters, without noise.

        Raises:
            ValueError: values that do not fit the problem's parameters, or are not finite.
        """
        size = problem.parameter.numel()
        if self.parameter is None:
            return default_parameters(problem)
        if isinstance(self.parameter, Mapping):
            return self._by_name(problem, self.parameter)
        values = np.atleast_1d(np.asarray(self.parameter, dtype=float))
        own = size - problem.slack_parameters
        if values.shape == (own,):
            values = np.concatenate([values, default_parameters(problem)[own:]])
        if values.shape != (size,) or not np.isfinite(values).all():
            names = ", ".join(problem.parameter_names)
            raise ValueError(
                f"guess.parameter is {values.tolist()}, expected {size} finite values: {names}."
            )
        return values

    @staticmethod
    def _by_name(problem: OptimalControlProblem, given: Mapping[str, float]) -> Array:
        names = problem.parameter_names
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ValueError(
                f"guess.parameter names {', '.join(unknown)}, expected some of {', '.join(names)}."
            )
        values = default_parameters(problem)
        for name, value in given.items():
            values[names.index(name)] = value
        return values

    def _with_noise(self, generator: np.random.Generator, values: Array, bounds: tuple) -> Array:
        if self.noise:
            size = np.maximum(1.0, np.abs(values))
            values = values + self.noise * size * generator.standard_normal(values.shape)
        return np.clip(values, *bounds)


def other_guesses(problem: OptimalControlProblem, guess: Guess = Guess()) -> Iterator[Guess]:
    """To be tried where a default one fails: longer, and noisy.

    Args:
        problem: to be solved.
        guess: the one that failed, whose parameters are kept as far as they are given.
    """
    lower, upper = problem.parameter_bounds
    longer = replace(guess, parameter=np.clip(LONGER * guess.parameters_of(problem), lower, upper))
    if problem.has_free_horizon:
        yield longer
    yield replace(guess, noise=1.0, seed=0)
    if problem.has_free_horizon:
        yield replace(longer, noise=1.0, seed=0)


def default_control(problem: OptimalControlProblem) -> Array:
    """Zero, or what is strictly inside the bounds (m,) where zero is not."""
    return _inside(problem.control_bounds, 0.0)


def default_parameters(problem: OptimalControlProblem) -> Array:
    """1, or what is strictly inside the bounds; a free end time of the right magnitude.

    A free start is guessed at 0 likewise.
    """
    values = _inside(problem.parameter_bounds, 1.0)
    hashes = [s.element_hash() for s in ca.symvar(problem.parameter)]
    if isinstance(problem.start, ca.SX) and problem.start.is_symbolic():
        # A start is as well before 0 as after it, and should not coincide with an end at 1.
        j = hashes.index(problem.start.element_hash())
        values[j] = _inside(problem.parameter_bounds, 0.0)[j]
    if not (problem.has_free_horizon and ca.SX(problem.horizon).is_symbolic()):
        return values
    j = hashes.index(ca.SX(problem.horizon).element_hash())
    lower, upper = (np.asarray(b, dtype=float)[j] for b in problem.parameter_bounds)
    if np.isfinite(upper) or values[j] != 1.0:
        return values
    time = travel_time(problem, values)
    if np.isfinite(time) and not 1 / FAR <= time <= FAR:
        values[j] = max(time, lower)
    return values


def travel_time(
    problem: OptimalControlProblem, parameters: Array, along: Sequence[float] = (0.5,)
) -> float:
    """Time in which the fastest of a few controls covers the way between the boundary values.

    Args:
        problem: in its own units.
        parameters: of the problem.
        along: fractions of the way at which speeds are looked at.

    Returns:
        The time; not a number if the boundary values are alike, or nothing moves.
    """
    arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
    rate = ca.Function("f", arguments, [problem.dynamics])
    start, end = boundary_lines(problem)(np.array([0.0, 1.0]))[:, 0]
    lower, upper = (np.asarray(b, dtype=float) for b in problem.control_bounds)
    low, high = np.where(np.isfinite(lower), lower, -1.0), np.where(np.isfinite(upper), upper, 1.0)
    generator = np.random.default_rng(0)
    speed = np.zeros(start.size)
    data = np.asarray(problem.member_data, dtype=float)[0]
    first, length = problem.span(parameters)
    for _ in range(TRIED):
        control = low + (high - low) * generator.random(low.size)
        for fraction in along:
            place = (1.0 - fraction) * start + fraction * end
            time = first + fraction * length
            found = np.abs(rate(place, control, parameters, data, time).full().ravel())
            speed = np.fmax(speed, np.where(np.isfinite(found), found, 0.0))
    way = np.abs(end - start)
    moves = (way > 0) & (speed > 0)
    return float((way[moves] / speed[moves]).max()) if moves.any() else np.nan


def _inside(bounds: tuple, value: float) -> Array:
    """The value where it is strictly inside the bounds, otherwise their middle.

    Inside a single bound, by INSIDE of its size: where the model ends at the bound, as the
    logarithm does, so do its derivatives.
    """
    lower, upper = (np.asarray(b, dtype=float) for b in bounds)
    low, high = np.where(np.isfinite(lower), lower, 0.0), np.where(np.isfinite(upper), upper, 0.0)
    above = low + INSIDE * np.maximum(1.0, np.abs(low))
    below = high - INSIDE * np.maximum(1.0, np.abs(high))
    one_sided = np.where(np.isfinite(lower), above, below)
    middle = np.where(np.isfinite(lower) & np.isfinite(upper), low / 2 + high / 2, one_sided)
    is_inside = (lower < value) & (value < upper)
    return np.asarray(np.where(is_inside, value, middle), dtype=float)


def boundary_lines(problem: OptimalControlProblem) -> Callable[[Array], Array]:
    """States on straight lines between the values that the problem fixes at the ends.

    Where it fixes none, the value of the other end, or zero, or what is strictly inside the bounds.

    Returns:
        Fractions (Q,) of the horizon -> states (Q, N, n).
    """
    lower, upper = (np.asarray(b, dtype=float) for b in problem.state_bounds)
    start = np.asarray(problem.initial_state, dtype=float)
    end = np.tile(terminal_values(problem), (len(start), 1))
    start = np.where(np.isnan(start), end, start)
    start = np.where(np.isnan(start), _inside((lower, upper), 0.0), start)
    end = np.where(np.isnan(end), start, end)

    def lines(fractions: Array) -> Array:
        s = fractions[:, None, None]
        states = (1.0 - s) * start + s * end
        # A given start counts, be it outside the bounds.
        return np.where(s == 0.0, states, np.clip(states, lower, upper))

    return lines


def _shifted_lines(
    problem: OptimalControlProblem,
    lines: Callable[[Array], Array],
    shift: Shift,
    fractions: Array,
) -> Array:
    """The states of `boundary_lines`, moved off a singular point."""
    return shifted_states(problem, lines(fractions), shift, fractions)


def _with_slacks(
    problem: OptimalControlProblem,
    states: Sequence[Array],
    controls: Sequence[Array],
    parameters: Array,
    times: Array,
) -> list[Array]:
    """Controls whose last components are somewhat larger than the values that they bound."""
    arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
    function = ca.Function("slacks", arguments, [ca.densify(problem.slacks)])
    data = np.asarray(problem.member_data, dtype=float)[0]
    m, added = problem.control.numel(), problem.slacks.numel()
    values = []
    for k, control in enumerate(controls):
        rows = [
            function(states[k][0], row, parameters, data, times[k]).full().ravel()
            for row in control.reshape(-1, m)
        ]
        values.append(np.array(rows))
    size = np.max([np.abs(value).max(axis=0) for value in values], axis=0)
    size = np.where(size > 0, size, 1.0)
    found = []
    for control, value in zip(controls, values, strict=True):
        table = control.reshape(-1, m).copy()
        table[:, m - added :] = value + ROOM * size
        found.append(table.ravel())
    return found


def _width(values: Values, time: float) -> int:
    """Number of components that values of any form have, those of a function at a time."""
    sample = values(time) if callable(values) else values
    return int(np.atleast_1d(np.asarray(sample, dtype=float)).shape[-1])


def _start(problem: OptimalControlProblem, guess: Array) -> Array:
    given = np.asarray(problem.initial_state, dtype=float)
    return np.where(np.isnan(given), guess, given)


def _sample(name: str, values: Values, fractions: Array, times: Array, size: int) -> Array:
    """Rows (Q, size) at fractions of the horizon, or at times."""
    if callable(values):
        rows = [np.atleast_1d(np.asarray(values(float(t)), dtype=float)) for t in times]
        for row in rows:
            if row.shape != (size,):
                raise ValueError(
                    f"guess.{name} returned {row.tolist()}, expected {size} values at each time."
                )
        table = np.array(rows, dtype=float).reshape(len(times), size)
    else:
        array = np.asarray(values, dtype=float)
        if size == 1 and array.ndim == 1:
            array = array[:, None]
        if array.ndim <= 1:
            array = np.broadcast_to(array, (1, size)) if array.size in (1, size) else array
        if array.ndim != 2 or array.shape[1] != size or not len(array):
            raise ValueError(
                f"guess.{name} has shape {np.shape(values)}, expected a number, ({size},), or "
                f"(rows, {size}) with rows equally spaced over the horizon."
            )
        nodes = np.linspace(0.0, 1.0, len(array)) if len(array) > 1 else np.zeros(1)
        columns = [np.interp(fractions, nodes, array[:, j]) for j in range(size)]
        table = np.column_stack([*columns, np.zeros((len(fractions), 0))])
    if not np.isfinite(table).all():
        raise ValueError(f"guess.{name} has a value that is not finite; give finite numbers.")
    return table
