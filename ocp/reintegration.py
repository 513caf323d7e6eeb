"""How far a solution on a grid is from the differential equation: an independent integration.

Every step is integrated again by SciPy, adaptively and to near rounding, from the step's own first
state with the solution's control as a function of time. What the step missed is its defect

    d_k = x(t_{k+1}; x_k) - x_{k+1},    q_k = Int_{step} L dt - what the scheme made of it.

To first order, the optimum of the same controls with exact steps differs by

    sum_k costate^{k+1} . d_k + q_k.

Source of the idea of weighting defects by costates: Becker and Rannacher, Acta Numerica 10 (2001),
1-102. Of the adaptive method: Dormand and Prince's DOP853; stiff steps are left to Radau IIA
(Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I and II).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.sparse import csc_matrix, hstack, identity, kron, vstack

from ocp.inner_extrema import mixed_violations, overshoots, state_violations
from ocp.path import Model, Path, Steps
from ocp.stages import Array

ACCURACY = 1e-12  # relative, of the adaptive integration
STIFF_ACCURACY = 1e-10  # where every digit costs more steps
STIFF = 50.0  # a step times the growth of its rate beyond this is stiff
COARSE = 1e-2  # relative defect or violation that makes a solution one of another problem
MOST_EVALUATIONS = 10_000  # of the rate of a batch of steps
PERTURBATION = 1e-6  # of the state, relative, to see how the rate grows


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
        ends, costs = _integrate(group, model, parameters, sizes)
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


def _integrate(group: Steps, model: Model, parameters: Array, sizes: Array) -> tuple[Array, Array]:
    """States (G, N, n) at the ends of the steps, and running costs (G,) over them."""
    ends, costs = np.zeros_like(group.before), np.zeros(len(group.before))
    stiff = _stiffness(group, model, parameters, sizes) > STIFF
    for is_stiff in (False, True):
        batch = np.flatnonzero(stiff == is_stiff)
        if not batch.size:
            continue
        x, cost = _solve(group, model, parameters, sizes, batch, is_stiff=is_stiff)
        ends[batch], costs[batch] = x, cost
    return ends, costs


def _stiffness(group: Steps, model: Model, parameters: Array, sizes: Array) -> Array:
    """Of every step, its length times the growth of the rate with the state."""
    control = group.controls[:, 0]
    rate = model(group.start, group.before, control, parameters)[0]
    growth = np.zeros(len(group.start))
    for j in range(sizes.size):
        moved = group.before.copy()
        moved[:, :, j] += PERTURBATION * sizes[j]
        after = model(group.start, moved, control, parameters)[0]
        change = np.abs((after - rate) / sizes).max(axis=(1, 2)) / PERTURBATION
        growth = np.maximum(growth, change)
    return np.asarray(group.length * growth)


def _solve(
    group: Steps,
    model: Model,
    parameters: Array,
    sizes: Array,
    batch: np.ndarray,
    *,
    is_stiff: bool,
) -> tuple[Array, Array]:
    """All steps of a batch as one system over [0, 1]; the states in units of their sizes."""
    start, length = group.start[batch], group.length[batch]
    shape = group.before[batch].shape
    density = model(start, group.before[batch], group.controls[batch, 0], parameters)[1]
    cost_size = max(float(np.abs(length * density.sum(axis=1)).max()), np.finfo(float).tiny)

    def rate(theta: float, y: Array) -> Array:
        x = y[: -len(batch)].reshape(shape) * sizes
        control = group.controls_at(batch, np.full(len(batch), theta), within_bounds=False)
        rates, running = model(start + theta * length, x, control, parameters)
        scaled = length[:, None, None] * rates / sizes
        return np.concatenate([scaled.ravel(), length * running.sum(axis=1) / cost_size])

    initial = np.concatenate([(group.before[batch] / sizes).ravel(), np.zeros(len(batch))])
    pattern = _pattern(shape) if is_stiff else None
    y = _adaptive(rate, initial, pattern)
    return y[: -len(batch)].reshape(shape) * sizes, y[-len(batch) :] * cost_size


def _pattern(shape: tuple[int, ...]) -> csc_matrix:
    """Which components of the system depend on which: those of one member in one step, and costs.

    With it, the implicit method needs no more rates for many steps than for one.
    """
    steps, members, n = shape
    states = kron(identity(steps * members), np.ones((n, n)))
    costs = kron(identity(steps), np.ones((1, members * n)))
    none = csc_matrix((states.shape[0] + steps, steps))
    return csc_matrix(hstack([vstack([states, costs]), none]))


def _adaptive(
    rate: Callable[[float, Array], Array], initial: Array, pattern: csc_matrix | None
) -> Array:
    """The state at 1; not a number where the integration breaks down."""
    left = MOST_EVALUATIONS

    def counted(theta: float, y: Array) -> Array:
        nonlocal left
        left -= 1
        if left < 0:
            raise _BrokenDownError
        return rate(theta, y)

    settings: dict[str, Any] = {"method": "DOP853", "rtol": ACCURACY, "atol": ACCURACY}
    if pattern is not None:
        accuracy = {"rtol": STIFF_ACCURACY, "atol": STIFF_ACCURACY}
        settings = {"method": "Radau", "jac_sparsity": pattern, **accuracy}
    with np.errstate(all="ignore"):
        try:
            found = solve_ivp(
                *(counted, (0.0, 1.0), initial),
                t_eval=[1.0],
                **settings,
            )
        except _BrokenDownError:
            return np.full_like(initial, np.nan)
    return np.full_like(initial, np.nan) if found.status else np.asarray(found.y[:, -1])


class _BrokenDownError(Exception):
    """The integration takes more evaluations than any solution of interest."""
