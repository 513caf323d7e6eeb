"""Steps of a solution integrated again, adaptively and to near rounding.

    y' = h f(t + theta h, y, u(theta)),    0 <= theta <= 1,    y(0) = x_k,

for all steps of one method at once, each with its own h. The method is Dormand and Prince's DOP853
(Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I); stiff steps are left to
Radau IIA of high order (`ocp.stiff_steps`), which is given the sparse derivative of f, one block
for every member in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import casadi as ca
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.sparse import csc_matrix

from ocp.path import Model, Steps
from ocp.problem import OptimalControlProblem
from ocp.stages import Array
from ocp.stiff_steps import integrate_stiff

ACCURACY = 1e-12  # relative, of the adaptive integration
STIFF_ACCURACY = 1e-10  # where every digit costs more steps
STIFF = 50.0  # a step times the growth of its rate beyond this is stiff
MOST_EVALUATIONS = 10_000  # of the rate of a batch of steps


@dataclass(frozen=True, eq=False)
class RateJacobian:
    """Derivatives of dynamics and running cost in the state, sparse as they are.

    Args:
        row, column: (nonzeros,) of the entries; row n is that of the running cost.
        function: (state, control, parameter, data, time) -> (nonzeros,).
        data: (N, number of data) of the members.
    """

    row: NDArray[np.intp]
    column: NDArray[np.intp]
    function: ca.Function
    data: Array

    @classmethod
    def of(cls, problem: OptimalControlProblem) -> RateJacobian:
        """By CasADi's differentiation."""
        arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
        matrix = ca.jacobian(ca.vertcat(problem.dynamics, problem.running_cost), problem.state)
        row, column = matrix.sparsity().get_triplet()
        nonzeros = ca.reshape(ca.densify(matrix.nz[:]), matrix.nnz(), 1)
        function = ca.Function("rate_jacobian", arguments, [nonzeros])
        data: Array = np.asarray(problem.member_data, dtype=float)
        return cls(np.array(row, dtype=np.intp), np.array(column, dtype=np.intp), function, data)

    def __call__(self, times: Array, states: Array, controls: Array, parameters: Array) -> Array:
        """(nonzeros, Q, N) at times (Q,), states (Q, N, n), controls (Q, m)."""
        count, members, n = states.shape
        columns = count * members
        values = self.function.map(columns)(
            states.reshape(columns, n).T,
            np.repeat(controls, members, axis=0).T,
            np.tile(parameters[:, None], (1, columns)),
            np.tile(self.data.T, (1, count)),
            np.repeat(times, members)[None],
        )
        return np.asarray(values.full().reshape(-1, count, members))


def integrate(
    group: Steps, problem: OptimalControlProblem, parameters: Array, sizes: Array
) -> tuple[Array, Array]:
    """States (G, N, n) at the ends of the steps, and running costs (G,) over them.

    Not a number where an integration breaks down.

    Args:
        group: G steps of one method.
        problem: whose dynamics and running cost they integrate.
        parameters: p.
        sizes: (n,) of the components of the state, to measure accuracy in.
    """
    ends, costs = np.zeros_like(group.before), np.zeros(len(group.before))
    jacobian = RateJacobian.of(problem)
    stiff = _stiffness(group, jacobian, parameters, sizes) > STIFF
    for is_stiff in (False, True):
        batch = np.flatnonzero(stiff == is_stiff)
        if not batch.size:
            continue
        system = _System(group, batch, Model(problem), jacobian, parameters, sizes)
        ends[batch], costs[batch] = system.solved(is_stiff=is_stiff)
    return ends, costs


def _stiffness(group: Steps, jacobian: RateJacobian, parameters: Array, sizes: Array) -> Array:
    """Of every step, its length times the growth of the rate with the state."""
    slopes = np.abs(jacobian(group.start, group.before, group.controls[:, 0], parameters))
    of_rates = jacobian.row < sizes.size
    i, j = jacobian.row[of_rates], jacobian.column[of_rates]
    relative = slopes[of_rates] * (sizes[j] / sizes[i])[:, None, None]
    return np.asarray(group.length * relative.max(axis=(0, 2), initial=0.0))


class _System:
    """Steps of a batch as one system over [0, 1], the states in units of their sizes.

    The state y stacks the states of all steps and members, then a running cost for every step.
    """

    def __init__(
        self,
        group: Steps,
        batch: NDArray[np.intp],
        model: Model,
        jacobian: RateJacobian,
        parameters: Array,
        sizes: Array,
    ) -> None:
        self.group, self.batch, self.model, self.slopes = group, batch, model, jacobian
        self.parameters, self.sizes = parameters, sizes
        self.start, self.length = group.start[batch], group.length[batch]
        self.before = group.before[batch]
        density = model(self.start, self.before, group.controls[batch, 0], parameters)[1]
        largest = float(np.abs(self.length * density.sum(axis=1)).max())
        self.cost_size = max(largest, np.finfo(float).tiny)

    def solved(self, *, is_stiff: bool) -> tuple[Array, Array]:
        """States (G, N, n) and running costs (G,) at the ends of the steps."""
        count = len(self.batch)
        initial = np.concatenate([(self.before / self.sizes).ravel(), np.zeros(count)])
        if is_stiff:
            with np.errstate(all="ignore"):
                jacobian = self._sparse_jacobian()
                arguments = (initial, STIFF_ACCURACY, MOST_EVALUATIONS)
                y = integrate_stiff(self.rates, jacobian, *arguments)
        else:
            y = _adaptive(lambda theta, y: self.rates(np.array([theta]), y[None])[0], initial)
        return y[:-count].reshape(self.before.shape) * self.sizes, y[-count:] * self.cost_size

    def _at(self, theta: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """Times, states, controls and parameters of all steps, at one theta after the other."""
        count = len(self.batch)
        states = y[:, :-count].reshape(-1, *self.before.shape[1:]) * self.sizes
        where, fractions = np.tile(self.batch, theta.size), np.repeat(theta, count)
        controls = self.group.controls_at(where, fractions, within_bounds=False)
        times = (self.start + theta[:, None] * self.length).ravel()
        return times, states, controls, self.parameters

    def rates(self, theta: Array, y: Array) -> Array:
        """Derivatives (q, size) of y (q, size) of all steps, at theta (q,)."""
        rates, running = self.model(*self._at(theta, y))
        shape = (theta.size, *self.before.shape)
        scaled = self.length[:, None, None] * rates.reshape(shape) / self.sizes
        costs = self.length * running.sum(axis=1).reshape(shape[:2]) / self.cost_size
        return np.hstack([scaled.reshape(theta.size, -1), costs])

    def _sparse_jacobian(self) -> Callable[[float, Array], csc_matrix]:
        """Derivative of the rate in y: a block for every member in every step, and its cost."""
        steps, members, n = self.before.shape
        row, column = self.slopes.row, self.slopes.column
        blocks = np.arange(steps * members).reshape(steps, members) * n
        of_cost = row == n
        costs = np.broadcast_to(steps * members * n + np.arange(steps)[:, None], (steps, members))
        rows = np.where(of_cost[:, None, None], costs, blocks + row[:, None, None])
        columns = blocks + column[:, None, None]
        units = np.append(self.sizes, self.cost_size)
        factor = (self.sizes[column] / units[row])[:, None, None] * self.length[:, None]
        size = steps * members * n + steps
        entries = np.arange(rows.size)
        places = csc_matrix((entries, (rows.ravel(), columns.ravel())), shape=(size, size))

        def jacobian(theta: float, y: Array) -> csc_matrix:
            slopes = self.slopes(*self._at(np.array([theta]), y[None]))
            values = (slopes * factor).ravel()
            return csc_matrix((values[places.data], places.indices, places.indptr), (size, size))

        return jacobian


def _adaptive(rate: Callable[[float, Array], Array], initial: Array) -> Array:
    """The state at 1; not a number where the integration breaks down."""
    left = MOST_EVALUATIONS

    def counted(theta: float, y: Array) -> Array:
        nonlocal left
        left -= 1
        if left < 0:
            raise _BrokenDownError
        return rate(theta, y)

    with np.errstate(all="ignore"):
        try:
            found = solve_ivp(
                *(counted, (0.0, 1.0), initial),
                t_eval=[1.0],
                method="DOP853",
                rtol=ACCURACY,
                atol=ACCURACY,
            )
        except _BrokenDownError:
            return np.full_like(initial, np.nan)
    return np.full_like(initial, np.nan) if found.status else np.asarray(found.y[:, -1])


class _BrokenDownError(Exception):
    """The integration takes more evaluations than any solution of interest."""
