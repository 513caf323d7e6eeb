"""Switching functions: when a control that is off stays off, read from the costates.

With an l1 penalty and box bounds |u_j| <= U the Hamiltonian is linear in the control near 0, so

    S_j(t) = |sum_i p_i . df/du_j(x_i, 0)| / lambda;  u_j = 0 where S_j < 1, |u_j| = U where S_j > 1

(fields that are linear in the control; S_j = 1 in between). The bottleneck w2 s(w1 x + b1) + b2
with a quadratic penalty switches as well: near u = 0 it is bilinear, w2 and (w1, b1) cost least for
a given product A = s'(0) w2 (w1, b1) at equal size, and then 2 |A|_* / s'(0) in the nuclear norm,
which is not quadratic. So they are off where

    S(t) = s'(0) |sum_i p_i (x_i, 1)^T|_2 / (2 lambda) < 1,        if s(0) = s''(0) = 0

(an activation that bends at 0 may pay at a finite size where it does not pay at a small one), and
since u = 0 holds the states, p_i(t) falls linearly to the end: what is off stays off. What the
remaining residual r = P x - y is follows from S(t_0) = 1 with p_i = 2 beta (T - t_0) r_i / N:

    |r| = lambda N / (beta (T - t_0) s'(0) |sum_i r_i/|r| (x_i, 1)^T|_2),   so E ~ T^-2.

Sources: Esteve-Yague and Geshkovski, Systems & Control Letters (2023), for l1; the bottleneck was
derived for this project. All quantities are dimensionless.
"""

from __future__ import annotations

from dataclasses import dataclass

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.trajectory import stage_unknowns
from problems.learning import Array, LearningProblem
from problems.losses import SQUARED
from problems.training import LearningSolution
from problems.vector_fields import BOTTLENECK

OFF = 1e-6  # a control below this share of the largest is off
SINGULAR = 1e-6  # a switching function this close to 1 is at 1, where the control may be on


@dataclass(frozen=True, eq=False)
class Switching:
    """Which controls can be off, and when they are.

    Args:
        names: of the controls that switch.
        functions: S at every layer, (K, switching functions); off where below 1.
        is_off: whether all switching controls of a layer are off, (K,).
        times: of the nodes, (K+1,).
        remaining_error: predicted E at the end from S = 1 at the moment of switching off; None
            where nothing is predicted.
    """

    names: tuple[str, ...]
    functions: Array
    is_off: NDArray[np.bool_]
    times: Array
    remaining_error: float | None

    @property
    def off_time(self) -> float | None:
        """Time after which every switching control is off; None if the last layer's is not."""
        return _last_false(self.is_off, self.times)

    @property
    def predicted_off_time(self) -> float | None:
        """Time after which every switching function is below 1; None if the last one is not."""
        return _last_false(self.functions.max(axis=1) < 1 - SINGULAR, self.times)


def _last_false(holds: NDArray[np.bool_], times: Array) -> float | None:
    fails = np.flatnonzero(~holds)
    if not fails.size:
        return float(times[0])
    last = int(fails[-1]) + 1
    return None if last == len(holds) else float(times[last])


def switching(solution: LearningSolution) -> Switching | None:
    """Switching functions of a solution; None if none of its controls switches."""
    problem = solution.problem
    if problem.weight_decay == 0 or problem.interpolation:
        return None
    if problem.penalty.absolute > 0 and problem.penalty.square == 0:
        return _with_l1(solution)
    slope = odd_slope(problem)
    is_plain = problem.moving_grid is None
    if problem.field is BOTTLENECK and problem.penalty.rate == 0 and slope is not None and is_plain:
        return _bilinear(solution, slope)
    return None


def odd_slope(problem: LearningProblem) -> float | None:
    """s'(0) of a smooth activation with s(0) = s''(0) = 0; None for others."""
    if not problem.activation.is_smooth:
        return None
    z = ca.SX.sym("z")
    value = problem.activation.function(z, 0.0)
    slope = ca.jacobian(value, z)
    at_zero = ca.Function("s", [z], [value, slope, ca.jacobian(slope, z)])(0.0)
    level, rise, curvature = (float(number) for number in at_zero)
    return rise if level == curvature == 0.0 else None


def _with_l1(solution: LearningSolution) -> Switching:
    problem, trajectory = solution.problem, solution.trajectory
    layers = problem.layers
    controls = np.abs(trajectory.padded_controls)
    functions = np.zeros_like(controls)
    for k in range(layers):
        stage, x = problem.staged.stages[k], trajectory.states[k]
        n, m = stage.state_size, stage.control_size
        rest = stage_unknowns(x, np.zeros((len(x), 0)), np.zeros(m), trajectory.parameters)
        jacobian = stage.function.derivatives(rest, problem.staged.given(k))[0]
        after = solution.certificate.costates[k + 1]
        through = np.einsum("in,inm->m", after, jacobian[:, : after.shape[1], n : n + m])
        price = problem.weight_decay * problem.grid.steps[k] * problem.layer(k).measure
        functions[k, :m] = np.abs(through) / price
    is_off = controls.max(axis=1) <= OFF * controls.max()
    names = tuple(problem.layer(0).shapes)
    return Switching(names, functions / problem.penalty.absolute, is_off, solution.times, None)


def _bilinear(solution: LearningSolution, slope: float) -> Switching:
    problem, decay = solution.problem, solution.problem.weight_decay
    ends = np.ones((problem.samples, 1))
    functions = np.array(
        [
            slope * np.linalg.norm(p.T @ np.hstack([x, ends]), 2) / (2 * decay)
            for x, p in zip(solution.states[:-1], solution.costates[1:], strict=True)
        ]
    )[:, None]
    sizes = np.hstack(
        [np.abs(solution.weights[name].reshape(problem.layers, -1)) for name in ("w1", "b1", "w2")]
    )
    is_off = sizes.max(axis=1) <= OFF * sizes.max()
    found = Switching(("w1", "b1", "w2"), functions, is_off, solution.times, None)
    remaining = _remaining_error(solution, slope, found.off_time)
    return Switching(found.names, functions, is_off, solution.times, remaining)


def _remaining_error(
    solution: LearningSolution, slope: float, off_time: float | None
) -> float | None:
    """E of the module's formula; the direction of the residual is that of the end."""
    problem = solution.problem
    weight, bias = solution.readout_weight, solution.readout_bias
    x = solution.states[-1]
    residual = x @ weight.T + bias - problem.dataset.targets
    size = float(np.linalg.norm(residual))
    if off_time is None or problem.loss is not SQUARED or problem.terminal > 0 or size == 0:
        return None
    left = (problem.horizon - off_time) * problem.tracking
    pull = (residual / size @ weight).T @ np.hstack([x, np.ones((problem.samples, 1))])
    expected = problem.weight_decay * problem.samples / (left * slope * np.linalg.norm(pull, 2))
    return float(expected**2 / problem.samples)
