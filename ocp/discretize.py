"""From continuous time to stages, by Runge-Kutta methods.

On the interval [t_k, t_k + h] the state moves by one or several steps of a tableau,

    X_i = x + h sum_j a_ij f(t + c_j h, X_j, u_j),    x^+ = x + h sum_i b_i f(t + c_i h, X_i, u_i),

and the running cost is integrated by the same weights. The control is constant on the interval,
u_i = u^k (a layer of a network), or free at every Runge-Kutta stage. The stages of an explicit
method are substituted; those of an implicit one are local unknowns of the interval, so direct
collocation is the same code with one step of a collocation method per interval.

A free end time is a parameter T that scales a grid on [0, 1]; a free component of the initial
state is a further parameter; to maximise is to minimise the negative.

Source of the orders with one control per stage, and of why every weight must then differ from
zero: Hager, Numer. Math. 87 (2000), 247-282.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import casadi as ca
import numpy as np

from ocp.grid import TimeGrid
from ocp.problem import Constraint, OptimalControlProblem
from ocp.runge_kutta import ButcherTableau, combine
from ocp.stages import Array, Rows, SharedTerm, Stage, StagedProblem, StageFunction
from ocp.trajectory import Trajectory


def discretize(
    problem: OptimalControlProblem,
    grid: TimeGrid,
    tableau: ButcherTableau,
    substeps: int = 1,
    *,
    control_per_stage: bool = False,
) -> StagedProblem:
    """One stage per interval of the grid.

    The squared derivative of the control becomes sum_k |u^{k+1} - u^k|^2 / ((h_k + h_{k+1}) / 2).

    Args:
        problem: the problem in continuous time.
        grid: its K intervals, spanning the horizon, or [0, 1] if the end time is free.
        tableau: the method of one step.
        substeps: equal steps on every interval.
        control_per_stage: one control for each stage of each step, instead of one per interval;
            u^k then stacks them.

    Raises:
        ValueError: fewer than one substep; a grid of another horizon; soft path constraints with a
            free end time; a control per stage with a zero weight, which would leave that control
            undetermined, or with a penalty on the control's derivative.
    """
    if substeps < 1:
        raise ValueError(f"substeps must be at least 1, got {substeps}.")
    span = 1.0 if problem.has_free_horizon else float(problem.horizon)
    if not np.isclose(grid.horizon, span, rtol=1e-12, atol=0.0):
        raise ValueError(
            f"the grid spans {grid.horizon:g}, expected {span:g}: the problem's horizon, "
            "or 1 if the end time is free."
        )
    if control_per_stage and not tableau.b.all():
        raise ValueError(
            f"tableau {tableau.name!r} has a zero weight, which leaves the control of that stage "
            "undetermined; choose one without, or one control per interval."
        )
    if control_per_stage and problem.control_rate_weight > 0:
        raise ValueError("a penalty on the control's derivative needs one control per interval.")
    return _Transcription(problem, grid, tableau, substeps, control_per_stage).staged()


@dataclass(frozen=True, eq=False)
class _Transcription:
    """The parts of a staged problem, made one by one."""

    problem: OptimalControlProblem
    grid: TimeGrid
    tableau: ButcherTableau
    substeps: int
    control_per_stage: bool

    @property
    def sign(self) -> float:
        return -1.0 if self.problem.maximize else 1.0

    @property
    def scale(self) -> ca.SX | float:
        """What turns times of the grid into times of the problem."""
        return self.problem.horizon if self.problem.has_free_horizon else 1.0

    @property
    def points(self) -> int:
        """Number of Runge-Kutta stages on an interval."""
        return self.substeps * self.tableau.stages

    @property
    def free(self) -> np.ndarray:
        """Components of the initial state that are free."""
        return self.problem.free_initial

    def staged(self) -> StagedProblem:
        problem, grid = self.problem, self.grid
        n, copies = problem.state.numel(), self.points if self.control_per_stage else 1
        hard = [c for c in problem.path_constraints if not c.is_soft]
        soft = [c for c in problem.path_constraints if c.is_soft]
        if soft and problem.has_free_horizon:
            raise ValueError("soft path constraints need a fixed horizon; add them to the cost.")
        inner = self._interval(hard, soft, at_start=False)
        first = self._interval(hard, soft, at_start=True) if self.free.any() else inner
        control_bounds = tuple(np.tile(b, copies) for b in problem.control_bounds)
        stages = []
        for k, (time, step) in enumerate(zip(grid.nodes[:-1], grid.steps, strict=True)):
            blocks = [_rows(hard)]
            for weight in np.tile(self.tableau.b, self.substeps):
                if weight != 0.0:
                    blocks.append(_rows(soft, float(weight) * step / self.substeps))
            stages.append(
                Stage(
                    inner if k else first,
                    n,
                    copies * problem.control.numel(),
                    np.array([time, step]),
                    Rows.join(blocks),
                    problem.state_bounds,  # type: ignore[arg-type]
                    control_bounds,  # type: ignore[arg-type]
                )
            )
        none = (np.zeros(0), np.zeros(0))
        stages.append(
            Stage(
                self._terminal(),
                n,
                0,
                np.array([grid.nodes[-1], 0.0]),
                _rows(problem.terminal_constraints),
                problem.state_bounds,  # type: ignore[arg-type]
                none,
            )
        )
        initial = np.where(np.isnan(problem.initial_state), 0.0, problem.initial_state)
        data: Array = np.asarray(problem.member_data, dtype=float)
        if problem.initial.numel():
            data = np.hstack([data, initial])
        return StagedProblem(
            tuple(stages),
            self._shared(),
            initial,
            data,
            problem.parameter.numel() + int(self.free.sum()),
            self._parameter_bounds(),
            None if problem.has_free_horizon else grid.nodes,
            problem.is_autonomous and not problem.has_free_horizon and not self.free.any(),
        )

    def _parameter_bounds(self) -> tuple[Array, Array]:
        problem = self.problem
        sides = zip(problem.parameter_bounds, problem.state_bounds, strict=True)
        lower, upper = (np.concatenate([p, np.asarray(x)[self.free]]) for p, x in sides)
        return lower, upper

    def _symbols(self) -> tuple[ca.SX, ca.SX, ca.SX, ca.SX]:
        """Parameters with the free initial values, the initial state, the data and (tau, h)."""
        problem = self.problem
        extra = ca.SX.sym("x0", int(self.free.sum()))
        start = ca.SX.sym("start", problem.initial.numel())
        data = ca.vertcat(problem.data, start)
        initial = start
        if start.numel():
            initial = start + self._selector() @ extra
        return ca.vertcat(problem.parameter, extra), initial, data, ca.SX.sym("c", 2)

    def _selector(self) -> ca.DM:
        """(n, free) matrix that puts free initial values in their places."""
        return ca.DM(np.eye(self.free.size)[:, self.free])

    def _interval(
        self, hard: Sequence[Constraint], soft: Sequence[Constraint], at_start: bool
    ) -> StageFunction:
        problem, tableau = self.problem, self.tableau
        p, _, data, c = self._symbols()
        x = ca.SX.sym("x", problem.state.numel())
        u = ca.SX.sym("u", problem.control.numel(), self.points if self.control_per_stage else 1)
        z = ca.SX.sym("z", x.numel(), 0 if tableau.is_explicit else self.points)
        own = p[: problem.parameter.numel()]
        arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
        running = self.sign * problem.running_cost
        expressions = [problem.dynamics, running, ca.vertcat(*[s.expression for s in soft])]
        model = ca.Function("model", arguments, expressions)
        hard_rows = ca.Function("hard", arguments, [ca.vertcat(*[c.expression for c in hard])])
        state = x + self._selector() @ p[own.numel() :] if at_start else x
        step = self.scale * c[1] / self.substeps
        rows = [hard_rows(state, u[:, 0], own, problem.data, self.scale * c[0])]
        cost, equations = ca.SX(0), []
        for s in range(self.substeps):
            offset = s * tableau.stages
            times = [self.scale * c[0] + (s + float(node)) * step for node in tableau.c]
            values: list[ca.SX] = []
            rates: list[ca.SX] = []
            for i in range(tableau.stages):
                if tableau.is_explicit:
                    point = combine(state, step, tableau.a[i, :i], rates)
                else:
                    point = z[:, offset + i]
                control = u[:, offset + i] if self.control_per_stage else u
                rate, density, penalty = model(point, control, own, problem.data, times[i])
                rates.append(rate)
                values.append(point)
                if tableau.b[i] != 0.0:
                    cost += float(tableau.b[i]) * step * density
                    rows.append(penalty)
            if not tableau.is_explicit:
                for i, point in enumerate(values):
                    equations.append(combine(state, step, tableau.a[i], rates) - point)
            state = combine(state, step, tableau.b, rates)
        unknowns = [x, ca.vec(z), ca.vec(u), p]
        return StageFunction.of(
            "interval", unknowns, [data, c], state, cost, ca.vertcat(*rows), ca.vertcat(*equations)
        )

    def _terminal(self) -> StageFunction:
        problem = self.problem
        p, initial, data, c = self._symbols()
        constraints = [constraint.expression for constraint in problem.terminal_constraints]
        arguments = [problem.state, problem.initial, problem.parameter, problem.data, problem.time]
        expressions = [self.sign * problem.terminal_cost, ca.vertcat(*constraints)]
        model = ca.Function("terminal", arguments, expressions)
        own = p[: problem.parameter.numel()]
        cost, rows = model(problem.state, initial, own, problem.data, self.scale * c[0])
        return StageFunction.of("terminal", [problem.state, p], [data, c], ca.SX(0, 1), cost, rows)

    def _shared(self) -> tuple[SharedTerm, ...]:
        problem, grid, none = self.problem, self.grid, ca.SX(0, 1)
        p = self._symbols()[0]
        own = p[: problem.parameter.numel()]
        terms = []
        constraints = problem.control_constraints
        if constraints or not problem.control_cost.is_zero():
            function = self._control_term()
            for k, (time, step) in enumerate(zip(grid.nodes[:-1], grid.steps, strict=True)):
                weights = np.tile(self.tableau.b, self.substeps) / self.substeps
                shares = step * weights if self.control_per_stage else [step]
                rows = Rows.join([_rows(constraints, float(share)) for share in shares])
                terms.append(SharedTerm("control", function, (k,), np.array([time, step]), rows))
        if problem.control_rate_weight > 0:
            u, after = (
                ca.SX.sym("u", problem.control.numel()),
                ca.SX.sym("v", problem.control.numel()),
            )
            weight = ca.SX.sym("w")
            cost = self.sign * weight * ca.sumsqr(after - u) / self.scale
            function = StageFunction.of("control_rate", [u, after, p], [weight], none, cost, none)
            midsteps = (grid.steps[:-1] + grid.steps[1:]) / 2
            for k, midstep in enumerate(midsteps):
                constants = np.array([problem.control_rate_weight / midstep])
                stages = (k, k + 1)
                terms.append(SharedTerm("control rate", function, stages, constants, Rows.none()))
        if not problem.parameter_cost.is_zero():
            model = ca.Function("q", [problem.parameter], [self.sign * problem.parameter_cost])
            function = StageFunction.of("parameter", [p], [], none, model(own), none)
            terms.append(SharedTerm("parameter", function, (), np.zeros(0), Rows.none()))
        return tuple(terms)

    def _control_term(self) -> StageFunction:
        """Cost and constraints of the control of one interval."""
        problem, tableau = self.problem, self.tableau
        p, _, _, c = self._symbols()
        own = p[: problem.parameter.numel()]
        expressions = [constraint.expression for constraint in problem.control_constraints]
        model = ca.Function(
            "control",
            [problem.control, problem.parameter, problem.time],
            [self.sign * problem.control_cost, ca.vertcat(*expressions)],
        )
        start, step = self.scale * c[0], self.scale * c[1]
        if not self.control_per_stage:
            cost, rows = model(problem.control, own, start)
            return StageFunction.of(
                "control", [problem.control, p], [c], ca.SX(0, 1), step * cost, rows
            )
        u = ca.SX.sym("u", problem.control.numel(), self.points)
        total, blocks = ca.SX(0), []
        for s in range(self.substeps):
            for i, (weight, node) in enumerate(zip(tableau.b, tableau.c, strict=True)):
                time = start + (s + float(node)) * step / self.substeps
                cost, rows = model(u[:, s * tableau.stages + i], own, time)
                total += float(weight) * step / self.substeps * cost
                blocks.append(rows)
        return StageFunction.of(
            "control", [ca.vec(u), p], [c], ca.SX(0, 1), total, ca.vertcat(*blocks)
        )


def _rows(constraints: Sequence[Constraint], share: float = 1.0) -> Rows:
    """Bounds of the constraints' rows, their prices times `share`."""
    blocks = []
    for constraint in constraints:
        size = constraint.expression.numel()
        names = [constraint.name] if size == 1 else [f"{constraint.name}[{j}]" for j in range(size)]
        lower, upper = np.asarray(constraint.lower), np.asarray(constraint.upper)
        blocks.append(Rows(tuple(names), lower, upper, np.full(size, constraint.weight * share)))
    return Rows.join(blocks)


def embed(problem: OptimalControlProblem, trajectory: Trajectory) -> Trajectory:
    """A trajectory of the problem as one of its stages: free initial values become parameters."""
    free = problem.free_initial
    if not free.any():
        return trajectory
    start = trajectory.states[0].copy()
    parameters = np.concatenate([trajectory.parameters, start[0, free]])
    start[:, free] = 0.0
    states = (start, *trajectory.states[1:])
    return replace(trajectory, states=states, parameters=parameters)


def extract(problem: OptimalControlProblem, grid: TimeGrid, trajectory: Trajectory) -> Trajectory:
    """The inverse of `embed`, with the times of a free horizon."""
    free, own = problem.free_initial, problem.parameter.numel()
    start = trajectory.states[0].copy()
    start[:, free] = trajectory.parameters[own:]
    parameters = trajectory.parameters[:own]
    times = grid.nodes
    if problem.has_free_horizon:
        horizon = ca.Function("T", [problem.parameter], [ca.SX(problem.horizon)])
        times = grid.nodes * float(horizon(parameters))
    states = (start, *trajectory.states[1:])
    return replace(trajectory, states=states, parameters=parameters, times=times)
