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

from dataclasses import dataclass, field

import numpy as np

from ocp.exact_steps import integrate
from ocp.inner_extrema import mixed_violations, overshoots, state_violations
from ocp.path import Model, Path
from ocp.relations import RelationResiduals, relation_residuals
from ocp.stages import Array


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
        mixed_violation: (steps,) the same of inequalities with the control in them; relations are
            apart.
        overshoot: (steps,) largest excess of the control's polynomial over its bounds, likewise.
        violated: what is violated most, by how much in its own unit, and when; None if nothing is.
        relations: residuals between the nodes of equalities with a control in them.
        unknown: why there is no estimate, and all its numbers are NaN; empty if there is one.
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
    relations: RelationResiduals = field(default_factory=lambda: RelationResiduals(np.zeros(1)))
    unknown: str = ""

    @classmethod
    def none(cls, times: Array, reason: str) -> ErrorEstimate:
        """No estimate, for a reason, of steps that begin at these times."""
        nothing = np.full(len(times), np.nan)
        relations = RelationResiduals(nothing)
        defects = nothing.reshape(-1, 1, 1)
        parts = (nothing, nothing, np.nan, nothing, nothing, nothing)
        return cls(times, nothing, defects, *parts, None, relations, reason)

    @property
    def largest(self) -> float:
        """The largest relative defect."""
        return float(self.relative.max())

    @property
    def discretization(self) -> float:
        """The largest relative defect of a step, violation or residual of a relation inside it.

        What the control violates counts for the share of the horizon in which it does. Not a number
        where a step cannot be integrated, or where there is no estimate.
        """
        shares = self.lengths / self.lengths.sum()
        of_control = shares * self.mixed_violation
        sizes = (self.relative, self.violation, of_control, self.relations.relative)
        return float(max((float(size.max()) for size in sizes), key=lambda x: (np.isnan(x), x)))

    def is_within(self, tolerance: float) -> bool:
        """Whether no defect, violation or residual exceeds it; without an estimate none is seen."""
        return bool(self.unknown) or self.discretization <= tolerance

    def __str__(self) -> str:
        if self.unknown:
            return f"no error estimate: {self.unknown}"
        worst = int(np.argmax(self.relative))
        words = (
            f"largest relative defect {self.largest:.1e} at t = {self.times[worst]:.4g}; "
            f"exact steps would change the objective by {self.objective:+.1e}"
        )
        if self.violated is not None:
            name, amount, time = self.violated
            words += f"; between the nodes {name} is violated by {amount:.1e} at t = {time:.4g}"
        if str(self.relations):
            words += f"; between the collocation points {self.relations}"
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
    # At the nodes alone a component may be zero that is not so in between.
    sizes = np.abs(np.stack(path.trajectory.states)).max(axis=(0, 1))
    for group in path.groups:
        sizes = np.fmax(sizes, np.abs(group.after).max(axis=(0, 1)))
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
        relation_residuals(path),
    )


def interpolate_rows(nodes: Array, values: Array, times: Array) -> Array:
    """Values (K+1, ...) at the nodes, linearly interpolated at times (Q,): (Q, ...)."""
    k = np.clip(np.searchsorted(nodes, times, side="right") - 1, 0, nodes.size - 2)
    theta = (times - nodes[k]) / (nodes[k + 1] - nodes[k])
    theta = theta.reshape(-1, *([1] * (values.ndim - 1)))
    return np.asarray((1 - theta) * values[k] + theta * values[k + 1])
