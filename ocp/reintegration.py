"""How far a solution on a grid is from the differential equation: an independent integration.

Every step is integrated again (`ocp.exact_steps`), to near rounding, from the step's own first
state with the solution's control as a function of time. What the step missed is its defect

    d_k = x(t_{k+1}; x_k) - x_{k+1},    q_k = Int_{step} L dt - what the scheme made of it.

To first order, the optimum of the same controls with exact steps differs by

    sum_k costate^{k+1} . d_k + q_k.

Source of the idea of weighting defects by costates: Becker and Rannacher, Acta Numerica 10 (2001),
1-102.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ocp.exact_steps import integrate
from ocp.inner_extrema import mixed_violations, overshoots, state_violations
from ocp.path import Model, Path
from ocp.stages import Array

COARSE = 1e-2  # relative defect or violation that makes a solution one of another problem


@dataclass(frozen=True, eq=False)
class ErrorEstimate:
    """Defects of every step against an adaptive integration.

    Args:
        times: (steps,) where each begins.
        lengths: (steps,) of each.
        defects: (steps, N, n), in units of the state.
        relative: (steps,) largest of each step, relative to the component's largest value in the
            whole solution; a component that is zero throughout counts as 1.
        running_cost: (steps,) what the quadrature of the running cost missed, in units of the cost.
        objective: change of the objective to first order that exact steps would make.
        violation: (steps,) largest violation, anywhere in the step, of a hard path constraint or a
            bound of the state alone, relative to the bound, at least 1.
        mixed_violation: (steps,) the same of constraints with the control in them.
        overshoot: (steps,) largest excess of the control's polynomial over its bounds, likewise.
        violated: what is violated most, by how much in its own unit, and when; None if nothing is.
    """

    times: Array
    lengths: Array
    defects: Array
    relative: Array
    running_cost: Array
    objective: float
    violation: Array
    mixed_violation: Array
    overshoot: Array
    violated: tuple[str, float, float] | None

    @property
    def largest(self) -> float:
        """The largest relative defect."""
        return float(self.relative.max())

    @property
    def is_coarse(self) -> bool:
        """Whether the solution is far from the differential equation, or from its constraints.

        What the control violates counts for the share of the horizon in which it does.
        """
        shares = self.lengths / self.lengths.sum()
        of_control = float((shares * self.mixed_violation).max())
        return not max(self.largest, float(self.violation.max()), of_control) <= COARSE

    def __str__(self) -> str:
        worst = int(np.argmax(self.relative))
        words = (
            f"largest relative defect {self.largest:.1e} at t = {self.times[worst]:.4g}; "
            f"exact steps would change the objective by {self.objective:+.1e}"
        )
        if self.violated is not None:
            name, amount, time = self.violated
            words += f"; between the nodes {name} is violated by {amount:.1e} at t = {time:.4g}"
        return words


def estimate_error(path: Path, costates: Array) -> ErrorEstimate:
    """Integrate every step of a solution again.

    Args:
        path: the solution as functions of time.
        costates: (K+1, N, n) at the nodes.
    """
    model, parameters = Model(path.problem), path.trajectory.parameters
    steps = len(path.order)
    members, n = path.trajectory.states[0].shape
    defects, missed = np.zeros((steps, members, n)), np.zeros(steps)
    sizes = np.abs(np.stack(path.trajectory.states)).max(axis=(0, 1))
    sizes = np.where(sizes > 0, sizes, 1.0)
    for g, group in enumerate(path.groups):
        ends, costs = integrate(group, path.problem, parameters, sizes)
        quadrature = np.zeros(len(group.start))
        for i in np.flatnonzero(group.tableau.b):
            time = group.start + group.tableau.c[i] * group.length
            density = model(time, group.points[:, i], group.controls[:, i], parameters)[1]
            quadrature += group.tableau.b[i] * group.length * density.sum(axis=1)
        mine = np.flatnonzero(path.order[:, 0] == g)
        position = path.order[mine, 1]
        defects[mine] = (ends - group.after)[position]
        missed[mine] = (costs - quadrature)[position]
    relative = np.abs(defects / sizes).max(axis=(1, 2), initial=0.0)
    assert path.trajectory.times is not None
    ends_of_steps = np.append(path.starts[1:], path.trajectory.times[-1])
    weights = interpolate_rows(path.trajectory.times, costates, ends_of_steps)
    change = float((weights * defects).sum() + missed.sum())
    of_state, of_control = state_violations(path), mixed_violations(path)
    worst = max(of_state, of_control, key=lambda found: found.largest).worst
    return ErrorEstimate(
        *(path.starts, np.diff(ends_of_steps, prepend=path.starts[0]), defects, relative, missed),
        *(change, of_state.sizes, of_control.sizes, overshoots(path).sizes, worst),
    )


def interpolate_rows(nodes: Array, values: Array, times: Array) -> Array:
    """Values (K+1, ...) at the nodes, linearly interpolated at times (Q,): (Q, ...)."""
    k = np.clip(np.searchsorted(nodes, times, side="right") - 1, 0, nodes.size - 2)
    theta = (times - nodes[k]) / (nodes[k + 1] - nodes[k])
    theta = theta.reshape(-1, *([1] * (values.ndim - 1)))
    return np.asarray((1 - theta) * values[k] + theta * values[k + 1])
