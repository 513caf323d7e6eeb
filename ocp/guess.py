"""Initial guesses: constants, lines between boundary values, arrays, functions of time, noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike

from ocp.discretize import Transcription
from ocp.problem import OptimalControlProblem
from ocp.stages import Array
from ocp.trajectory import Trajectory

FAR = 30.0  # an end time within this factor of 1 is guessed to be 1
TRIED = 20  # controls, to estimate how fast the state can move
ROOM = 0.1  # of the size of |e|, by which what bounds it is guessed larger, to be inside
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
        control: by default zero, or the middle of its bounds if zero is not inside them.
        parameter: one value per parameter; by default 1, or the middle of its bounds if 1 is not
            inside them; for an unbounded end time of another magnitude, the time that the way
            between the boundary values takes. Some of them can be given by name, as a mapping.
        noise: standard deviation of what is added to every control and parameter, relative to the
            size of its value, at least 1.
        seed: of the noise.
        simulate: whether the states follow from the control, by the scheme, instead.
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

    def on(self, transcription: Transcription) -> Trajectory:
        """The guess on the grid of a transcription.

        Raises:
            ValueError: values that do not fit the problem's sizes, or are not finite.
        """
        problem, grid = transcription.problem, transcription.grid
        generator = np.random.default_rng(self.seed)
        parameters = self._parameters(problem)
        parameters = self._with_noise(generator, parameters, problem.parameter_bounds)
        first, last = problem.times_of(grid.nodes[[0, -1]], parameters)
        span = last - first
        fractions = (grid.nodes - grid.nodes[0]) / grid.horizon

        def sample(name: str, values: Values, where: Array, size: int) -> Array:
            return _sample(name, values, where, first + span * where, size)

        controls, inner = [], []
        n, m = problem.state.numel(), problem.control.numel()
        default = _inside(problem.control_bounds, 0.0)[: m - problem.slacks.numel()]
        control = default if self.control is None else self.control
        state = self.state
        has_slacks = not problem.slacks.numel() or (
            self.control is not None and _width(self.control, first) == m
        )
        for k, (node, step) in enumerate(zip(grid.nodes[:-1], grid.steps, strict=True)):
            times = transcription.stage_points(k)[0]
            points = (times - grid.nodes[0]) / grid.horizon
            middle = np.array([(node + step / 2 - grid.nodes[0]) / grid.horizon])
            where = points if transcription.control_per_stage else middle
            own = m if has_slacks else m - problem.slacks.numel()
            values = sample("control", control, where, own)
            values = np.hstack([values, np.zeros((len(values), m - own))])
            controls.append(self._with_noise(generator, values, problem.control_bounds).ravel())
            inner.append(points[:0] if transcription.tableaux[k].is_explicit else points)
        if state is None:
            ends = terminal_values(problem)
            states = [boundary_lines(problem, fraction, ends) for fraction in fractions]
            locals_ = [[boundary_lines(problem, p, ends) for p in points] for points in inner]
        else:

            def sample_states(where: Array) -> list[Array]:
                """Of every member; integrals that pose the problem keep their own lines."""
                width = n if _width(state, first) == n else n - problem.integrals
                own = sample("state", state, where, width)
                lines = [boundary_lines(problem, fraction) for fraction in where]
                return [
                    np.hstack([np.tile(row, (problem.members, 1)), line[:, own.shape[1] :]])
                    for row, line in zip(own, lines, strict=True)
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

    def _parameters(self, problem: OptimalControlProblem) -> Array:
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


def other_guesses(problem: OptimalControlProblem) -> Iterator[Guess]:
    """To be tried where the default ends at a point of local infeasibility: longer, and noisy."""
    lower, upper = problem.parameter_bounds
    longer = np.clip(LONGER * default_parameters(problem), lower, upper)
    if problem.has_free_horizon:
        yield Guess(parameter=longer)
    yield Guess(noise=1.0, seed=0)
    if problem.has_free_horizon:
        yield Guess(parameter=longer, noise=1.0, seed=0)


def default_parameters(problem: OptimalControlProblem) -> Array:
    """1, or the middle of bounds that do not contain it; a free end time of the right magnitude.

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
    time = _travel_time(problem, values)
    if np.isfinite(time) and not 1 / FAR <= time <= FAR:
        values[j] = max(time, lower)
    return values


def _travel_time(problem: OptimalControlProblem, parameters: Array) -> float:
    """Time in which the fastest of a few controls covers the way between the boundary values."""
    arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
    rate = ca.Function("f", arguments, [problem.dynamics])
    start, end = boundary_lines(problem, 0.0)[0], boundary_lines(problem, 1.0)[0]
    lower, upper = (np.asarray(b, dtype=float) for b in problem.control_bounds)
    low, high = np.where(np.isfinite(lower), lower, -1.0), np.where(np.isfinite(upper), upper, 1.0)
    generator = np.random.default_rng(0)
    speed = np.zeros(start.size)
    for _ in range(TRIED):
        control = low + (high - low) * generator.random(low.size)
        data = np.asarray(problem.member_data, dtype=float)[0]
        point = ((start + end) / 2, control, parameters, data, problem.span(parameters)[0])
        found = np.abs(rate(*point).full().ravel())
        speed = np.fmax(speed, np.where(np.isfinite(found), found, 0.0))
    way = np.abs(end - start)
    moves = (way > 0) & (speed > 0)
    return float((way[moves] / speed[moves]).max()) if moves.any() else np.nan


def _inside(bounds: tuple, value: float) -> Array:
    """The value where it lies within the bounds, otherwise their middle, or the near one."""
    lower, upper = (np.asarray(b, dtype=float) for b in bounds)
    bounded = np.isfinite(lower) & np.isfinite(upper)
    middle = np.where(
        bounded, np.where(bounded, lower, 0.0) / 2 + np.where(bounded, upper, 0.0) / 2, value
    )
    inside = (lower < value) & (value < upper)
    return np.asarray(np.clip(np.where(inside, value, middle), lower, upper), dtype=float)


def boundary_lines(
    problem: OptimalControlProblem, fraction: float, ends: Array | None = None
) -> Array:
    """States (N, n) on straight lines between the values that the problem fixes at the ends.

    Where it fixes none, the value of the other end, or what is nearest to zero within the bounds.
    The terminal values are looked up unless they are given as `ends`.
    """
    lower, upper = (np.asarray(b, dtype=float) for b in problem.state_bounds)
    start = np.asarray(problem.initial_state, dtype=float)
    end = np.tile(terminal_values(problem) if ends is None else ends, (len(start), 1))
    start = np.where(np.isnan(start), end, start)
    start = np.where(np.isnan(start), np.clip(0.0, lower, upper), start)
    end = np.where(np.isnan(end), start, end)
    line = (1.0 - fraction) * start + fraction * end
    return line if fraction == 0.0 else np.clip(line, lower, upper)


def terminal_values(problem: OptimalControlProblem) -> Array:
    """Values (n,) at which terminal constraints hold components of the state; NaN elsewhere."""
    values = np.full(problem.state.numel(), np.nan)
    places = {s.element_hash(): j for j, s in enumerate(ca.symvar(problem.state))}
    for constraint in problem.terminal_constraints:
        lower, upper = np.asarray(constraint.lower), np.asarray(constraint.upper)
        for r in np.flatnonzero(lower == upper).tolist():
            entry = constraint.expression[r]
            if entry.is_symbolic() and entry.element_hash() in places:
                values[places[entry.element_hash()]] = lower[r]
    return values


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
