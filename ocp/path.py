"""The functions of time behind a solution on a grid: state and control between the nodes.

Within one step of a collocation method the state is the polynomial that it integrates,

    x(t_k + theta h) = x_k + h sum_i F_i Int_0^theta l_i,    F_i = f(X_i, u_i),

with l_i the Lagrange polynomials of its nodes; within a step of another method it is the cubic
through states and rates at both ends. The control is constant on the interval, or the polynomial
through the values at the step's nodes, within its bounds. At a jump the value is that on the right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocp.discretize import Transcription
from ocp.problem import OptimalControlProblem
from ocp.runge_kutta import ButcherTableau
from ocp.stages import Array
from ocp.trajectory import Trajectory

UNLIMITED = (np.array(-np.inf), np.array(np.inf))
WITHIN = 1e-9  # of an interval, to stay inside it
AVERAGED = 4  # Gauss nodes for the mean of a control over an interval


def member_columns(
    problem: OptimalControlProblem,
    times: Array,
    states: Array,
    controls: Array,
    parameters: Array,
) -> list[Array]:
    """Arguments (x, u, p, d, t) of a function of the problem's symbols, for `Function.map`.

    Args:
        problem: whose members' data are taken.
        times: (Q,).
        states: (Q, N, n).
        controls: (Q, m), shared by the members.
        parameters: (number of parameters,).

    Returns:
        One column for each of the Q N pairs of a time and a member, members first.
    """
    count, members, n = states.shape
    return [
        states.reshape(count * members, n).T,
        np.repeat(controls, members, axis=0).T,
        np.tile(parameters[:, None], (1, count * members)),
        np.tile(np.asarray(problem.member_data, dtype=float).T, (1, count)),
        np.repeat(times, members)[None],
    ]


class Model:
    """Dynamics and running cost for many columns (time, state, control) at once."""

    def __init__(self, problem: OptimalControlProblem) -> None:
        arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
        outputs = [problem.dynamics, problem.running_cost]
        self._function = ca.Function("model", arguments, [ca.densify(e) for e in outputs])
        self._problem = problem
        self._mapped: dict[int, ca.Function] = {}

    def __call__(
        self, times: Array, states: Array, controls: Array, parameters: Array
    ) -> tuple[Array, Array]:
        """Rates (Q, N, n) and running costs (Q, N) at times (Q,), states (Q, N, n), controls."""
        count, members, _ = states.shape
        columns = count * members
        if columns not in self._mapped:
            self._mapped[columns] = self._function.map(columns)
        arguments = member_columns(self._problem, times, states, controls, parameters)
        rates, costs = self._mapped[columns](*arguments)
        return rates.full().T.reshape(states.shape), costs.full().reshape(count, members)


@dataclass(frozen=True, eq=False)
class Steps:
    """All steps of a solution that were made by one tableau.

    Args:
        tableau: the method.
        start, length: (G,) of each step, in the problem's unit of time.
        before, after: (G, N, n) states at its ends.
        points: (G, s, N, n) stage values X_i.
        rates: (G, s, N, n) of the state at the stages.
        end_rates: (2, G, N, n) of the state at both ends.
        controls: (G, s, m) at the stages.
        bounds: of the control, (lower, upper).
    """

    tableau: ButcherTableau
    start: Array
    length: Array
    before: Array
    after: Array
    points: Array
    rates: Array
    end_rates: Array
    controls: Array
    bounds: tuple[Array, Array]

    def states(self, step: NDArray[np.intp], theta: Array) -> Array:
        """(Q, N, n) at the fractions theta (Q,) of the given steps (Q,)."""
        h = self.length[step][:, None, None]
        if not self.tableau.is_explicit:
            weights = integrated_lagrange(self.tableau.c, theta)
            return self.before[step] + h * np.einsum("qi,qian->qan", weights, self.rates[step])
        t = theta[:, None, None]
        first, last = self.end_rates[0][step], self.end_rates[1][step]
        change = self.after[step] - self.before[step]
        bend = (1 - 2 * t) * change + h * ((t - 1) * first + t * last)
        return self.before[step] + t * change + t * (t - 1) * bend

    def controls_at(
        self, step: NDArray[np.intp], theta: Array, *, within_bounds: bool = True
    ) -> Array:
        """(Q, m) at the fractions theta of the given steps."""
        bounds = self.bounds if within_bounds else UNLIMITED
        return interpolate_controls(self.tableau, self.controls[step], theta, bounds)


def interpolate_controls(
    tableau: ButcherTableau, controls: Array, theta: Array, bounds: tuple[Array, Array]
) -> Array:
    """The polynomial through controls (Q, s, m) at the tableau's nodes, at theta (Q,).

    Stages at the same node count by their weights.
    """
    if (controls == controls[:, :1]).all():
        return controls[:, 0]
    nodes, place = np.unique(tableau.c, return_inverse=True)
    merge = np.zeros((nodes.size, tableau.stages))
    merge[place, np.arange(tableau.stages)] = tableau.b
    merge /= merge.sum(axis=1, keepdims=True)
    values = np.einsum("ji,qim->qjm", merge, controls)
    return np.clip(np.einsum("qj,qjm->qm", lagrange(nodes, theta), values), *bounds)


def lagrange(nodes: Array, theta: Array) -> Array:
    """Lagrange polynomials of the nodes at theta, (Q, nodes)."""
    powers = np.arange(nodes.size)
    coefficients = np.linalg.inv(nodes[:, None] ** powers)
    return np.asarray(theta[:, None] ** powers @ coefficients)


def integrated_lagrange(nodes: Array, theta: Array) -> Array:
    """Their integrals from 0 to theta, (Q, nodes)."""
    powers = np.arange(nodes.size)
    coefficients = np.linalg.inv(nodes[:, None] ** powers)
    return np.asarray(theta[:, None] ** (powers + 1) / (powers + 1) @ coefficients)


@dataclass(frozen=True, eq=False)
class Path:
    """State and control as functions of time.

    Args:
        problem: the problem in continuous time.
        trajectory: the solution on the grid, in the problem's own terms.
        groups: the steps, by tableau.
        order: of every step in time: its group and its position there, (steps, 2).
    """

    problem: OptimalControlProblem
    trajectory: Trajectory
    groups: tuple[Steps, ...]
    order: NDArray[np.intp]

    @classmethod
    def of(cls, transcription: Transcription, trajectory: Trajectory) -> Path:
        """Evaluate all stages of a trajectory of the transcribed problem."""
        problem = transcription.problem
        assert trajectory.times is not None
        model = Model(problem)
        kinds: dict[int, list[int]] = {}
        for k, tableau in enumerate(transcription.tableaux):
            kinds.setdefault(id(tableau), []).append(k)
        substeps = transcription.substeps
        order = np.zeros((len(transcription.tableaux) * substeps, 2), dtype=int)
        groups = []
        for g, intervals in enumerate(kinds.values()):
            groups.append(_steps(transcription, trajectory, model, intervals))
            for i, k in enumerate(intervals):
                for s in range(substeps):
                    order[k * substeps + s] = g, s * len(intervals) + i
        return cls(problem, trajectory, tuple(groups), order)

    @cached_property
    def starts(self) -> Array:
        """Start of every step, in increasing order."""
        return np.array([self.groups[g].start[i] for g, i in self.order])

    @property
    def horizon(self) -> tuple[float, float]:
        """First and last time."""
        assert self.trajectory.times is not None
        return float(self.trajectory.times[0]), float(self.trajectory.times[-1])

    def _locate(self, times: ArrayLike) -> list[tuple[Steps, np.ndarray, NDArray[np.intp], Array]]:
        """Of every group: which of the times are its, in which of its steps, at which fraction."""
        first, last = self.horizon
        times = np.atleast_1d(np.asarray(times, dtype=float))
        slack = 1e-9 * (last - first)
        if not ((times >= first - slack) & (times <= last + slack)).all():
            raise ValueError(
                f"times reach from {times.min():g} to {times.max():g}, expected them within the "
                f"horizon, [{first:g}, {last:g}]."
            )
        step = np.clip(np.searchsorted(self.starts, times, side="right") - 1, 0, None)
        found = []
        for g, group in enumerate(self.groups):
            mine = self.order[step, 0] == g
            position = self.order[step[mine], 1]
            theta = (times[mine] - group.start[position]) / group.length[position]
            found.append((group, mine, position, np.clip(theta, 0.0, 1.0)))
        return found

    def state(self, times: ArrayLike) -> Array:
        """(Q, N, n) at times (Q,)."""
        count = np.atleast_1d(np.asarray(times)).size
        result = np.zeros((count, *self.trajectory.states[0].shape))
        for group, mine, position, theta in self._locate(times):
            result[mine] = group.states(position, theta)
        return result

    def control(self, times: ArrayLike, *, within_bounds: bool = True) -> Array:
        """(Q, m) at times (Q,); the polynomial itself if it need not be within its bounds."""
        count = np.atleast_1d(np.asarray(times)).size
        result = np.zeros((count, self.problem.control.numel()))
        for group, mine, position, theta in self._locate(times):
            result[mine] = group.controls_at(position, theta, within_bounds=within_bounds)
        return result

    def at_fractions(
        self, steps: NDArray[np.intp], theta: Array, *, within_bounds: bool = True
    ) -> tuple[Array, Array]:
        """States (Q, N, n) and controls (Q, m) at fractions theta (Q,) of steps (Q,) in time.

        At a fraction of 1 they are those of the step itself, on the left of a jump.
        """
        states = np.zeros((steps.size, *self.trajectory.states[0].shape))
        controls = np.zeros((steps.size, self.problem.control.numel()))
        places = self.order[steps]
        for g, group in enumerate(self.groups):
            mine = places[:, 0] == g
            position = places[mine, 1]
            states[mine] = group.states(position, theta[mine])
            controls[mine] = group.controls_at(position, theta[mine], within_bounds=within_bounds)
        return states, controls

    def quadrature(self) -> tuple[Array, Array, Array, Array]:
        """Times (Q,), weights (Q,), states (Q, N, n) and controls (Q, m) of the scheme's stages."""
        times, weights, states, controls = [], [], [], []
        for group in self.groups:
            for i in np.flatnonzero(group.tableau.b):
                times.append(group.start + group.tableau.c[i] * group.length)
                weights.append(group.tableau.b[i] * group.length)
                states.append(group.points[:, i])
                controls.append(group.controls[:, i])
        parts = (times, weights, states, controls)
        t, w, x, u = (np.concatenate(part) for part in parts)
        return t, w, x, u

    def on(self, transcription: Transcription) -> Trajectory:
        """Resampled for another transcription: a guess on another grid, method or horizon.

        Times are mapped by the fraction of the horizon. A control that is constant on an interval
        becomes the mean over it.
        """
        first, last = self.horizon
        grid = transcription.grid
        to_time = (last - first) / grid.horizon

        def times(grid_times: Array) -> Array:
            return np.clip(first + to_time * (grid_times - grid.nodes[0]), first, last)

        controls, inner = [], []
        nodes, weights = np.polynomial.legendre.leggauss(AVERAGED)
        for k, (node, step) in enumerate(zip(grid.nodes[:-1], grid.steps, strict=True)):
            # A stage at the end of an interval has a control of that interval.
            inside = np.minimum(transcription.stage_points(k)[0], node + (1.0 - WITHIN) * step)
            points = times(inside)
            if transcription.control_per_stage:
                controls.append(self.control(points).ravel())
            else:
                average = weights @ self.control(times(node + step * (nodes + 1) / 2)) / 2
                controls.append(average)
            explicit = transcription.tableaux[k].is_explicit
            values = self.state(points[:0] if explicit else points)
            inner.append(values.transpose(1, 0, 2).reshape(values.shape[1], -1))
        has_locals = any(values.shape[1] for values in inner)
        inner.append(np.zeros((len(inner[0]), 0)))
        return Trajectory(
            tuple(self.state(times(grid.nodes))),
            tuple(controls),
            self.trajectory.parameters,
            times(grid.nodes),
            tuple(inner) if has_locals else (),
        )


def _steps(
    transcription: Transcription, trajectory: Trajectory, model: Model, intervals: list[int]
) -> Steps:
    """The steps of the given intervals, substep after substep."""
    problem, tableau = transcription.problem, transcription.tableaux[intervals[0]]
    assert trajectory.times is not None
    bounds: tuple[Array, Array] = problem.control_bounds  # type: ignore[assignment]
    parameters, m, stages = trajectory.parameters, problem.control.numel(), tableau.stages
    length = np.diff(trajectory.times)[intervals] / transcription.substeps
    state = np.stack([trajectory.states[k] for k in intervals])
    parts: list[tuple[Array, ...]] = []
    for s in range(transcription.substeps):
        start = trajectory.times[intervals] + s * length
        columns = slice(s * stages, (s + 1) * stages) if transcription.control_per_stage else [0]
        copies = transcription.copies(intervals[0])
        controls = np.stack([trajectory.controls[k].reshape(copies, m)[columns] for k in intervals])
        controls = np.broadcast_to(controls, (len(intervals), stages, m))
        points: list[Array] = []
        rates: list[Array] = []
        for i in range(stages):
            if tableau.is_explicit:
                point = state
                for j in range(i):
                    point = point + length[:, None, None] * tableau.a[i, j] * rates[j]
            else:
                n = state.shape[2]
                inner = [trajectory.locals[k].reshape(len(state[0]), -1, n) for k in intervals]
                point = np.stack([values[:, s * stages + i] for values in inner])
            points.append(point)
            time = start + tableau.c[i] * length
            rates.append(model(time, point, controls[:, i], parameters)[0])
        after = state
        for i in range(stages):
            after = after + length[:, None, None] * tableau.b[i] * rates[i]
        if s == transcription.substeps - 1:
            after = np.stack([trajectory.states[k + 1] for k in intervals])
        ends = []
        for theta, point in ((0.0, state), (1.0, after)):
            fraction = np.full(len(intervals), theta)
            control = interpolate_controls(tableau, controls, fraction, bounds)
            ends.append(model(start + theta * length, point, control, parameters)[0])
        stacked = (np.stack(points, axis=1), np.stack(rates, axis=1), np.stack(ends, axis=1))
        parts.append((start, length, state, after, *stacked, controls))
        state = after
    start, length, before, after, points_, rates_, ends_, controls = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return Steps(
        tableau,
        start,
        length,
        before,
        after,
        points_,
        rates_,
        ends_.transpose(1, 0, 2, 3),
        controls,
        bounds,
    )
