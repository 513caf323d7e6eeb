"""Default guesses moved off points at which the model is singular.

    x(s) + d_x b(s),    u + d_u,    b(s) = 4 s (1 - s),  s,  1 - s  or  1,      s in [0, 1]

where b is 0 at those ends of the horizon that hold the component, and d is a tenth of its size. A
guess is singular if the dynamics, running cost, path constraints or their derivatives are not
finite on it, or if a control that occurs in the dynamics has no influence on them anywhere: at rest
with the slope at 0, the brachistochrone's slope changes nothing to first order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import casadi as ca
import numpy as np

from ocp.problem import OptimalControlProblem
from ocp.stages import Array

SHARE = 0.1  # of its size by which a component moves; well above what counts as badly scaled
MEMBERS = 10  # of an ensemble that are looked at
DRAWS = 8  # of signs at random, after all signs alike
VANISHING = 1e-12  # derivative in a control, relative to the largest there is


@dataclass(frozen=True, eq=False)
class Shift:
    """What is added to a default guess.

    Args:
        state: (n,) d_x.
        control: (m,) d_u.
    """

    state: Array
    control: Array


def shift_from_singular(
    problem: OptimalControlProblem,
    lines: Array,
    control: Array,
    parameters: Array,
    fractions: Array,
    times: Array,
) -> Shift | None:
    """The first shift that makes a guess regular; None if it is, or if no shift does.

    Args:
        problem: whose dynamics, running cost and path constraints are looked at.
        lines: (Q, N, n) states of the guess at fractions of the horizon, the ends left out.
        control: (m,) of the guess.
        parameters: of the guess.
        fractions: (Q,) in (0, 1).
        times: (Q,).
    """
    model = _Model(problem, parameters, times)
    lines = lines[:, :MEMBERS]
    if model.is_regular(lines, control):
        return None
    for shift in _shifts(problem, lines, control):
        states = shifted_states(problem, lines, shift, fractions)
        if model.is_regular(states, shifted_control(problem, control, shift)):
            return shift
    return None


def shifted_states(
    problem: OptimalControlProblem, lines: Array, shift: Shift, fractions: Array
) -> Array:
    """States (Q, N, n) of a guess, shifted where no end holds them, and strictly inside bounds."""
    at_start, at_end = held_ends(problem)
    s = fractions[:, None]
    rise, fall = np.where(at_start, s, 1.0), np.where(at_end, 1.0 - s, 1.0)
    bump = np.where(at_start & at_end, 4.0, 1.0) * rise * fall
    return _inside(lines, (shift.state * bump)[:, None], problem.state_bounds)


def shifted_control(problem: OptimalControlProblem, control: Array, shift: Shift) -> Array:
    """Control (m,) of a guess, shifted strictly inside its bounds."""
    return _inside(control, shift.control, problem.control_bounds)


def held_ends(problem: OptimalControlProblem) -> tuple[np.ndarray, np.ndarray]:
    """Which components (n,) of the state the start holds, and which the end."""
    return ~problem.free_initial, ~np.isnan(terminal_values(problem))


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


def _shifts(problem: OptimalControlProblem, lines: Array, control: Array) -> Iterator[Shift]:
    """Components that an end leaves free first, then all; up, down, and with signs at random."""
    at_start, at_end = held_ends(problem)
    largest = np.abs(lines).max(axis=(0, 1))
    state = SHARE * np.where(largest > 0, largest, 1.0)
    control = SHARE * np.maximum(1.0, np.abs(control))
    for amount in (np.where(at_start & at_end, 0.0, state), state):
        for sign in (1.0, -1.0):
            yield Shift(sign * amount, sign * control)
    generator = np.random.default_rng(0)
    for _ in range(DRAWS):
        signs = [generator.choice((-1.0, 1.0), size=part.shape) for part in (state, control)]
        yield Shift(signs[0] * state, signs[1] * control)


def _inside(values: Array, shift: Array, bounds: tuple) -> Array:
    """Values moved by a shift, by half the way to a bound at most; back from one they are at."""
    lower, upper = (np.asarray(b, dtype=float) for b in bounds)
    room = np.where(shift > 0, upper - values, values - lower)
    shift = np.where(room > 0, shift, -shift)
    room = np.where(shift > 0, upper - values, values - lower)
    return np.asarray(values + np.sign(shift) * np.minimum(np.abs(shift), np.maximum(room, 0) / 2))


class _Model:
    """The model's values and derivatives at points of a guess."""

    def __init__(self, problem: OptimalControlProblem, parameters: Array, times: Array) -> None:
        self.problem, self.parameters, self.times = problem, parameters, times
        self.members = np.asarray(problem.member_data, dtype=float)[:MEMBERS]
        expressions = [problem.dynamics, problem.running_cost, problem.control_cost]
        expressions += [row.expression for row in problem.path_constraints]
        values = ca.vertcat(*expressions)
        arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
        influence = ca.jacobian(problem.dynamics, problem.control)
        everything = ca.vertcat(
            ca.vec(values),
            ca.densify(ca.vec(ca.jacobian(values, ca.vertcat(problem.state, problem.control)))),
        )
        self.function = ca.Function("at_guess", arguments, [everything, ca.densify(influence)])
        rows, columns = influence.sparsity().get_triplet()
        del rows
        self.occurring = np.isin(np.arange(problem.control.numel()), columns)

    def is_regular(self, states: Array, control: Array) -> bool:
        """Whether all is finite, and each control has an influence somewhere."""
        points, members, n = states.shape
        columns = points * members
        values, influence = self.function.map(columns)(
            states.reshape(columns, n).T,
            np.tile(control[:, None], (1, columns)),
            np.tile(self.parameters[:, None], (1, columns)),
            np.tile(self.members.T, (1, points)),
            np.repeat(self.times, members)[None],
        )
        if not np.isfinite(values.full()).all():
            return False
        m = control.size
        slopes = np.abs(influence.full()).reshape(n, columns, m).max(axis=(0, 1), initial=0.0)
        vanishes = slopes <= VANISHING * slopes.max(initial=0.0)
        return not (vanishes & self.occurring).any()
