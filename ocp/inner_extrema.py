"""The largest violation of constraints and bounds inside the steps of a solution.

Within a step the state is a polynomial (`ocp.path`), so that a constraint is a smooth function of
time, whose extremum may lie anywhere between the points at which it was imposed. It is bracketed
by Chebyshev points, both ends of the step among them, and found by narrowing the bracket:

    max_theta r(t_k + theta h, x(.), u(.)) - upper,    0 <= theta <= 1,

and likewise for the lower limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import casadi as ca
import numpy as np

from ocp.path import Path, member_columns
from ocp.problem import Constraint
from ocp.relations import is_relation
from ocp.stages import Array

POINTS = 17  # Chebyshev points at first, for polynomials of degree 9 and functions of them
NARROWED = 5  # times, each to a quarter
PIECES = 8  # that a bracket is divided into each time
NEGLIGIBLE = 1e-9  # relative violation between the nodes that is not worth a word


@dataclass(frozen=True, eq=False)
class Violations:
    """Of every step in the order of time, the largest violation relative to the limit, at least 1.

    Args:
        sizes: (steps,).
        worst: what is violated most, by how much in its own unit, and when; None if nothing is.
    """

    sizes: Array
    worst: tuple[str, float, float] | None

    @property
    def largest(self) -> float:
        """Of all steps."""
        return float(self.sizes.max(initial=0.0))


def state_violations(path: Path) -> Violations:
    """Of hard path constraints of the state alone, and of the state's bounds."""
    problem = path.problem
    lower, upper = (np.asarray(b, dtype=float) for b in problem.state_bounds)
    own = [
        Constraint(name, problem.state[j], lower[j], upper[j])
        for j, name in enumerate(problem.state_names)
        if np.isfinite(lower[j]) or np.isfinite(upper[j])
    ]
    rows = [c for c in problem.path_constraints if not c.is_soft and not _has_control(path, c)]
    return _violations(path, [*own, *rows], within_bounds=True)


def mixed_violations(path: Path) -> Violations:
    """Of hard inequalities along the path with the control in them, or of the control alone.

    Equations that hold a control are measured by their terms (`ocp.relations`).
    """
    problem = path.problem
    rows = [c for c in problem.path_constraints if not c.is_soft and _has_control(path, c)]
    rows += [c for c in problem.control_constraints if not c.is_soft]
    rows = [c for c in rows if not is_relation(problem, c)]
    return _violations(path, rows, within_bounds=True)


def overshoots(path: Path) -> Violations:
    """Of the control's bounds, by the polynomial through its values at the stages."""
    problem = path.problem
    lower, upper = (np.asarray(b, dtype=float) for b in problem.control_bounds)
    own = [
        Constraint(name, problem.control[j], lower[j], upper[j])
        for j, name in enumerate(problem.control_names)
        if np.isfinite(lower[j]) or np.isfinite(upper[j])
    ]
    return _violations(path, own, within_bounds=False)


def _has_control(path: Path, constraint: Constraint) -> bool:
    return bool(ca.depends_on(constraint.expression, path.problem.control))


def _violations(path: Path, rows: Sequence[Constraint], *, within_bounds: bool) -> Violations:
    """Of the given constraints."""
    sizes = np.zeros(len(path.order))
    if not rows:
        return Violations(sizes, None)
    names = [name for row in rows for name in row.row_names]
    lower = np.concatenate([np.asarray(row.lower) for row in rows])
    upper = np.concatenate([np.asarray(row.upper) for row in rows])
    finite = [np.where(np.isfinite(b), np.abs(b), 0.0) for b in (lower, upper)]
    unit = np.maximum(1.0, np.maximum(*finite))
    expression = ca.vertcat(*(row.expression for row in rows))
    excess = _Excess(path, expression, lower, upper, unit, within_bounds)
    places = (1 - np.cos(np.pi * np.arange(POINTS) / (POINTS - 1))) / 2
    theta = np.tile(places, (sizes.size, 1))
    steps = np.repeat(np.arange(sizes.size), POINTS)
    values = excess(steps, theta.ravel()).reshape(sizes.size, POINTS, -1)
    found, where = _peaks(excess, theta, values)
    sizes = np.maximum(found.max(axis=1), 0.0)
    worst = None
    if sizes.max() > NEGLIGIBLE:
        k, column = np.unravel_index(int(np.argmax(found)), found.shape)
        r = int(column) % lower.size
        time = float(excess.starts[k] + where[k, column] * excess.lengths[k])
        worst = (names[r], float(found[k, column] * unit[r]), time)
    return Violations(sizes, worst)


class _Excess:
    """How far rows are beyond their limits, relative, at fractions theta (Q,) of steps (Q,)."""

    def __init__(
        self,
        path: Path,
        expression: ca.SX,
        lower: Array,
        upper: Array,
        unit: Array,
        within_bounds: bool,
    ) -> None:
        problem = path.problem
        arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
        self.path, self.within_bounds = path, within_bounds
        self.lower, self.upper, self.unit = lower, upper, unit
        self.function = ca.Function("rows", arguments, [ca.densify(expression)])
        assert path.trajectory.times is not None
        self.starts = path.starts
        self.lengths = np.diff(np.append(path.starts, path.trajectory.times[-1]))

    def __call__(self, steps: np.ndarray, theta: Array) -> Array:
        """(Q, members * rows)."""
        states, controls = self.path.at_fractions(steps, theta, within_bounds=self.within_bounds)
        count, members, _ = states.shape
        times = self.starts[steps] + theta * self.lengths[steps]
        parameters = self.path.trajectory.parameters
        arguments = member_columns(self.path.problem, times, states, controls, parameters)
        table = self.function.map(count * members)(*arguments).full().T
        with np.errstate(invalid="ignore"):
            excess = np.maximum(table - self.upper, self.lower - table) / self.unit
        return np.asarray(np.nan_to_num(excess, nan=np.inf, posinf=np.inf).reshape(count, -1))


def _peaks(excess: _Excess, theta: Array, values: Array) -> tuple[Array, Array]:
    """Largest excess of every step and column, and the fraction at which it is reached.

    Args:
        excess: the function.
        theta: (steps, points) fractions, increasing.
        values: (steps, points, columns) of the function.
    """
    best = values.argmax(axis=1)
    found = np.take_along_axis(values, best[:, None], axis=1)[:, 0]
    where = np.take_along_axis(theta, best, axis=1)
    left = np.take_along_axis(theta, np.maximum(best - 1, 0), axis=1)
    right = np.take_along_axis(theta, np.minimum(best + 1, theta.shape[1] - 1), axis=1)
    beside = [
        np.take_along_axis(values, np.clip(best + shift, 0, theta.shape[1] - 1)[:, None], axis=1)
        for shift in (-1, 1)
    ]
    bend = found - np.minimum(beside[0][:, 0], beside[1][:, 0])
    # A parabola exceeds the middle one of three points by no more than it falls beside it.
    steps, columns = np.nonzero(found + bend > 0.0)
    low, high = left[steps, columns], right[steps, columns]
    fractions = np.arange(PIECES + 1) / PIECES
    for _ in range(NARROWED if steps.size else 0):
        points = low[:, None] + (high - low)[:, None] * fractions
        table = excess(np.repeat(steps, PIECES + 1), points.ravel())
        own = table.reshape(steps.size, PIECES + 1, -1)[np.arange(steps.size), :, columns]
        top = own.argmax(axis=1)
        rows = np.arange(steps.size)
        better = own[rows, top] > found[steps, columns]
        found[steps[better], columns[better]] = own[rows, top][better]
        where[steps[better], columns[better]] = points[rows, top][better]
        low = points[rows, np.maximum(top - 1, 0)]
        high = points[rows, np.minimum(top + 1, PIECES)]
    return found, where
