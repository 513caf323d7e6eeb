"""Relations that hold a control to an equality, looked at between the points of the scheme.

An algebraic variable z with g(t, x, z) = 0 is posed as a control with a path constraint. A control
that is constant on an interval meets that at its start alone, however small the defect of the step
is, so that the residual between the points says how far the solution is from one of the relation.
It is measured against what cancels in g,

    |g| / max_t ( |g - sum_j (dg/dv_j) v_j| + sum_j |dg/dv_j| |v_j| ),    v = (x, u, p),

whatever the unit in which the relation is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import casadi as ca
import numpy as np

from ocp.path import Path, member_columns
from ocp.problem import Constraint, OptimalControlProblem
from ocp.stages import Array

LOOKED_AT = 7  # Gauss points of a step, which come close to both of its ends
NEGLIGIBLE = 1e-6  # relative residual that is not worth a word


@dataclass(frozen=True, eq=False)
class RelationResiduals:
    """How far equalities with a control in them are from holding inside the steps.

    Args:
        relative: (steps,) largest residual, relative to the terms that cancel in the relation.
        worst: name, relative residual and time of the largest one; None if there is none.
    """

    relative: Array
    worst: tuple[str, float, float] | None = None

    def __str__(self) -> str:
        if self.worst is None or self.worst[1] <= NEGLIGIBLE:
            return ""
        name, size, time = self.worst
        return f"{name} is off by {size:.1e} of its terms at t = {time:.4g}"


def is_relation(problem: OptimalControlProblem, constraint: Constraint) -> bool:
    """Whether every row is a hard equality with a control in it, to be measured by its terms."""
    lower, upper = np.asarray(constraint.lower), np.asarray(constraint.upper)
    rows = [constraint.expression[j] for j in range(lower.size)]
    is_equality = not constraint.is_soft and bool((lower == upper).all())
    return is_equality and all(ca.depends_on(row, problem.control) for row in rows)


def relation_residuals(path: Path) -> RelationResiduals:
    """Of all relations along the path."""
    problem, steps = path.problem, len(path.order)
    everything = (*problem.path_constraints, *problem.control_constraints)
    found = [constraint for constraint in everything if is_relation(problem, constraint)]
    if not found:
        return RelationResiduals(np.zeros(steps))
    names = [name for constraint in found for name in constraint.row_names]
    rows = ca.vertcat(*[c.expression - ca.DM(np.asarray(c.lower)) for c in found])
    variables = ca.vertcat(problem.state, problem.control, problem.parameter)
    slopes = ca.jacobian(rows, variables)
    rest = ca.fabs(rows - ca.mtimes(slopes, variables))
    terms = rest + ca.mtimes(ca.fabs(slopes), ca.fabs(variables))
    arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
    function = ca.Function("relations", arguments, [ca.densify(ca.vertcat(rows, terms))])
    times = _gauss_times(path)
    states, controls = path.state(times), path.control(times)
    count, members, _ = states.shape
    columns = member_columns(problem, times, states, controls, path.trajectory.parameters)
    values = function.map(count * members)(*columns)
    residuals, sizes = np.abs(np.split(values.full(), 2))
    largest = sizes.max(axis=1, keepdims=True)
    relative = (residuals / np.where(largest > 0, largest, 1.0)).reshape(len(names), steps, -1)
    row, step, point = np.unravel_index(int(np.argmax(relative)), relative.shape)
    time = times[int(step) * LOOKED_AT + int(point) // members]
    worst = names[int(row)], float(relative[row, step, point]), float(time)
    return RelationResiduals(relative.max(axis=(0, 2)), worst)


def _gauss_times(path: Path) -> Array:
    """(steps * LOOKED_AT,) points inside the steps."""
    assert path.trajectory.times is not None
    ends = np.append(path.starts[1:], path.trajectory.times[-1])
    theta = (np.polynomial.legendre.leggauss(LOOKED_AT)[0] + 1.0) / 2.0
    return np.asarray((path.starts[:, None] + theta * (ends - path.starts)[:, None]).ravel())
