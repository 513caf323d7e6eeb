"""From continuous time to stages, by Runge-Kutta methods.

On the interval [t_k, t_k + h] the state moves by one or several steps of a tableau,

    X_i = x + h sum_j a_ij f(t + c_j h, X_j, u_j),    x^+ = x + h sum_i b_i f(t + c_i h, X_i, u_i),

and the running cost is integrated by the same weights. The control is constant on the interval,
u_i = u^k (a layer of a network), or free at every Runge-Kutta stage. The stages of an explicit
method are substituted; those of an implicit one are local unknowns of the interval, so direct
collocation is the same code with one step of a collocation method per interval.

A free end time is a parameter T that scales a grid on [0, 1], a free start one that shifts it; a
free component of the initial state is a further parameter; to maximise is to minimise the negative.

Source of the orders with one control per stage, and of why every weight must then differ from
zero: Hager, Numer. Math. 87 (2000), 247-282.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import casadi as ca
import numpy as np

from ocp.grid import TimeGrid
from ocp.problem import Constraint, InteriorPoint, OptimalControlProblem
from ocp.runge_kutta import ButcherTableau, combine
from ocp.stages import (
    Array,
    ComponentNames,
    Rows,
    SharedTerm,
    Stage,
    StagedProblem,
    StageFunction,
)
from ocp.structure import Structure, structure_of
from ocp.trajectory import Trajectory, rollout

BOUND_ROW = "bound of "  # what the rows of a state's bound inside an interval are called, with it
SAME_TIME = 1e-9  # of the horizon, between two times that count as one


def discretize(
    problem: OptimalControlProblem,
    grid: TimeGrid,
    tableau: ButcherTableau | Sequence[ButcherTableau],
    substeps: int = 1,
    *,
    control_per_stage: bool = False,
) -> StagedProblem:
    """One stage per interval of the grid; see `Transcription` for arguments and errors."""
    tableaux = (tableau,) * grid.intervals if isinstance(tableau, ButcherTableau) else tableau
    return Transcription(problem, grid, tuple(tableaux), substeps, control_per_stage).staged()


def uniform_grid(problem: OptimalControlProblem, intervals: int) -> TimeGrid:
    """Equal intervals on the problem's horizon, with further nodes at its interior points."""
    first, last = problem.grid_ends
    grid = TimeGrid.uniform(intervals, last - first, first)
    return grid.including([point.time for point in problem.interior_points])


@dataclass(frozen=True)
class RowBlock:
    """The rows of one constraint at one time.

    Args:
        constraint: whose rows they are.
        time: in units of the grid.
        share: of the time line that the rows stand for, in units of the grid: a multiplier divided
            by it is the density of the continuous problem's multiplier. None for a constraint at
            a point, whose multiplier is that of the continuous problem, and for inner ones.
        is_inner: whether the rows repeat, inside an interval, what holds at the nodes. Their
            multipliers are added to those of the interval's two nodes, by linear weights, since
            along an arc on the limit only the sum is determined.
        component: of the state, if the row is its bound inside an interval; None otherwise.
        stage: index among the interval's Runge-Kutta stages at whose state the rows are taken;
            None at a node and at the end of a substep.
    """

    constraint: Constraint
    time: float
    share: float | None
    is_inner: bool = False
    component: int | None = None
    stage: int | None = None


@dataclass(frozen=True)
class InnerPoint:
    """A time inside an interval at which constraints of the state alone are imposed.

    Args:
        time: in units of the grid.
        stage: index among the interval's Runge-Kutta stages whose value is the state there; None
            at the end of a substep.
        substep: the substep that it belongs to, or that ends there.
        has_equalities: whether equations hold there too; there are as many such points as the
            control has values to satisfy them.
    """

    time: float
    stage: int | None
    substep: int
    has_equalities: bool


@dataclass(frozen=True, eq=False)
class Transcription:
    """How a problem in continuous time becomes a staged problem.

    Interior points whose cost and constraints differ in their numbers alone share one stage
    function, and the numbers are constants of their stages.

    The squared derivative of the control becomes sum_k |u^{k+1} - u^k|^2 / ((h_k + h_{k+1}) / 2).

    Args:
        problem: the problem in continuous time.
        grid: its K intervals, spanning [start, start + horizon]; [0, horizon] if the start is free,
            [0, 1] if the end time is free.
        tableaux: the method of one step, for every interval.
        substeps: equal steps on every interval.
        control_per_stage: one control for each stage of each step, instead of one per interval;
            u^k then stacks them.

    Raises:
        ValueError: fewer than one substep; not one tableau for every interval; a grid of another
            start or horizon, or without a node at an interior point; soft path constraints with a
            free end time; a control per stage with a zero weight, which would leave that control
            undetermined, or with a penalty on the control's derivative.
    """

    problem: OptimalControlProblem
    grid: TimeGrid
    tableaux: tuple[ButcherTableau, ...]
    substeps: int = 1
    control_per_stage: bool = False

    def __post_init__(self) -> None:
        problem, grid = self.problem, self.grid
        if self.substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {self.substeps}.")
        if len(self.tableaux) != grid.intervals:
            raise ValueError(
                f"{len(self.tableaux)} tableaux were given, expected {grid.intervals}, one for "
                "every interval of the grid, or a single one for all."
            )
        first, last = problem.grid_ends
        if not np.isclose(grid.horizon, last - first, rtol=1e-12, atol=0.0):
            raise ValueError(
                f"the grid spans {grid.horizon:g}, expected {last - first:g}: the problem's "
                "horizon, or 1 if the end time is free."
            )
        is_given = problem.start is not None
        if is_given and abs(grid.nodes[0] - first) > SAME_TIME * grid.horizon:
            raise ValueError(
                f"the grid begins at {grid.nodes[0]:g}, expected {first:g}: the problem's start, "
                "or 0 if the start or the end time is free; say at what time the problem begins "
                "with start=..., or shift the grid."
            )
        for tableau in self.tableaux:
            if self.control_per_stage and not tableau.b.all():
                raise ValueError(
                    f"tableau {tableau.name!r} has a zero weight, which leaves the control of that "
                    "stage undetermined; choose one without, or one control per interval."
                )
        if self.control_per_stage and problem.control_rate_weight > 0:
            raise ValueError(
                "a penalty on the control's derivative needs one control per interval."
            )
        rows = (*problem.path_constraints, *problem.control_constraints)
        if problem.has_free_horizon and any(c.is_soft and not c.by_horizon for c in rows):
            raise ValueError(
                "soft path constraints need a fixed horizon, or rows that are multiplied by it, as "
                "pose writes them."
            )
        of_state = ca.vertcat(problem.state, problem.time)
        if not self.control_per_stage and ca.depends_on(ca.sum1(problem.slacks), of_state):
            names = problem.control_names[-problem.slacks.numel() :]
            raise ValueError(
                f"{', '.join(names)} in an integral, along a state or the time, varies within an "
                "interval; solve with control_per_stage=True."
            )
        for point, node in zip(problem.interior_points, self._nearest, strict=True):
            if not abs(grid.nodes[node] - point.time) <= SAME_TIME * grid.horizon:
                raise ValueError(
                    f"the grid has no node at the interior point t = {point.time:g}; "
                    "make one with grid.including([...])."
                )

    @property
    def sign(self) -> float:
        """What turns the problem's cost into one to be minimised."""
        return -1.0 if self.problem.maximize else 1.0

    @property
    def _scale(self) -> ca.SX | float:
        """What turns lengths on the grid into lengths of the problem's time."""
        return self.problem.clock[1]

    def _in_time(self, time: ca.SX) -> ca.SX:
        """A time of the grid in the problem's time."""
        origin, unit = self.problem.clock
        return origin + unit * time

    def points(self, k: int) -> int:
        """Number of Runge-Kutta stages on interval k."""
        return self.substeps * self.tableaux[k].stages

    def copies(self, k: int) -> int:
        """Number of controls on interval k."""
        return self.points(k) if self.control_per_stage else 1

    def stage_points(self, k: int) -> tuple[Array, Array]:
        """Times of the Runge-Kutta stages of interval k and their weights, in units of the grid."""
        step = self.grid.steps[k] / self.substeps
        starts = self.grid.nodes[k] + step * np.arange(self.substeps)
        times = (starts[:, None] + step * self.tableaux[k].c).ravel()
        return times, step * np.tile(self.tableaux[k].b, self.substeps)

    @property
    def unknowns(self) -> int:
        """Number of unknowns of the nonlinear program but for slacks: states, stages, controls."""
        problem, intervals = self.problem, range(self.grid.intervals)
        implicit = sum(self.points(k) for k in intervals if not self.tableaux[k].is_explicit)
        states = problem.members * problem.state.numel() * (self.grid.intervals + implicit)
        controls = problem.control.numel() * sum(self.copies(k) for k in intervals)
        free = problem.parameter.numel() + int(problem.free_initial.sum())
        return states + controls + free

    @cached_property
    def _nearest(self) -> list[int]:
        """The node of the grid that is nearest to each interior point."""
        nodes, times = self.grid.nodes, [point.time for point in self.problem.interior_points]
        middles = (nodes[:-1] + nodes[1:]) / 2
        return np.searchsorted(middles, np.array(times, dtype=float)).tolist()

    @cached_property
    def _interior(self) -> dict[int, InteriorPoint]:
        """Interior points by the node of the grid; several at one node are joined."""
        found: dict[int, InteriorPoint] = {}
        for point, k in zip(self.problem.interior_points, self._nearest, strict=True):
            if k in found:
                constraints = (*found[k].constraints, *point.constraints)
                point = InteriorPoint(point.time, found[k].cost + point.cost, constraints)
            found[k] = point
        return found

    @cached_property
    def _path_constraints(self) -> tuple[list[Constraint], list[Constraint], list[Constraint]]:
        """Hard ones of the state alone, hard ones with the control in them, and soft ones."""
        problem = self.problem
        hard = [c for c in problem.path_constraints if not c.is_soft]
        soft = [c for c in problem.path_constraints if c.is_soft]
        mixed = [c for c in hard if ca.depends_on(c.expression, problem.control)]
        return [c for c in hard if c not in mixed], mixed, soft

    @cached_property
    def _state_rows(self) -> tuple[list[tuple[Constraint, int | None]], ...]:
        """Of an inner point: all hard constraints and bounds of the state, and inequalities alone.

        With the component that a bound belongs to.
        """
        lower, upper = (np.asarray(b, dtype=float) for b in self.problem.state_bounds)
        state, names = self.problem.state, self.problem.state_names
        rows: list[tuple[Constraint, int | None]] = [(c, None) for c in self._path_constraints[0]]
        for j in np.flatnonzero(np.isfinite(lower) | np.isfinite(upper)).tolist():
            name = f"{BOUND_ROW}{names[j]}"
            rows.append((Constraint(name, state[j], lower[j], upper[j]), j))
        inequalities = [
            row for row in rows if (np.asarray(row[0].lower) < np.asarray(row[0].upper)).all()
        ]
        return rows, inequalities

    def inner_points(self, k: int) -> list[InnerPoint]:
        """Where constraints of the state alone are imposed inside interval k, in their order.

        At the stages of an implicit method, whose values are the state, but for those that are
        nodes; at those of an explicit one with one control per stage, which would otherwise move
        the rates beyond the limit; and at the ends of substeps. Equations would be too many with
        one control per interval, and one too many with one per stage where no stage is a node:
        there they leave out the last stage. Those of an explicit method are left to the nodes.
        """
        tableau, intervals = self.tableaux[k], self.grid.intervals
        if k == intervals or not self._state_rows[0]:
            return []
        step = float(self.grid.steps[k]) / self.substeps
        if tableau.is_explicit:
            inside = list(range(1, tableau.stages)) if self.control_per_stage else []
        else:
            inside = [i for i, c in enumerate(tableau.c) if 0.0 < c < 1.0]
        for_equations = self.control_per_stage and not tableau.is_explicit
        has_node = bool((tableau.c == 1.0).any())
        points = []
        for s in range(self.substeps):
            start = float(self.grid.nodes[k]) + s * step
            for i in inside:
                enough = for_equations and (has_node or i != inside[-1])
                time = start + float(tableau.c[i]) * step
                points.append(InnerPoint(time, s * tableau.stages + i, s, enough))
            if s < self.substeps - 1:
                points.append(InnerPoint(start + step, None, s, self.control_per_stage))
        return points

    def _inner_rows(self, point: InnerPoint) -> list[tuple[Constraint, int | None]]:
        """The constraints of the state at an inner point."""
        return self._state_rows[0 if point.has_equalities else 1]

    @property
    def node_shares(self) -> Array:
        """(K+1,) parts of the time line, in units of the grid, that are nearest to each node."""
        halves = self.grid.steps / 2
        return np.append(halves, 0.0) + np.append(0.0, halves)

    def row_blocks(self, k: int) -> list[RowBlock]:
        """The rows of stage k, in their order; K is the end."""
        problem = self.problem
        has_rows = problem.path_constraints or problem.terminal_constraints or self._interior
        if not (has_rows or self._state_rows[0]):
            return []
        at_nodes, mixed, soft = self._path_constraints
        node = float(self.grid.nodes[k])
        here = [RowBlock(c, node, float(self.node_shares[k])) for c in at_nodes]
        if k == self.grid.intervals:
            return [RowBlock(c, node, None) for c in self.problem.terminal_constraints] + here
        blocks = here
        if k in self._interior:
            blocks += [RowBlock(c, node, None) for c in self._interior[k].constraints]
        if not self.control_per_stage:
            blocks += [RowBlock(c, node, float(self.grid.steps[k])) for c in mixed]
        for point in self.inner_points(k):
            rows = self._inner_rows(point)
            blocks += [RowBlock(c, point.time, None, True, j, point.stage) for c, j in rows]
        for i, (time, weight) in enumerate(zip(*self.stage_points(k), strict=True)):
            own = mixed if self.control_per_stage else []
            if weight != 0.0:
                own = [*own, *soft]
            blocks += [RowBlock(c, float(time), float(weight), stage=i) for c in own]
        return blocks

    def control_row_blocks(self, k: int) -> list[RowBlock]:
        """The rows of the constraints of the control alone, of interval k."""
        if not self.problem.control_constraints:
            return []
        node, step = float(self.grid.nodes[k]), float(self.grid.steps[k])
        points = (
            zip(*self.stage_points(k), strict=True) if self.control_per_stage else [(node, step)]
        )
        constraints = self.problem.control_constraints
        return [RowBlock(c, float(t), float(w)) for t, w in points for c in constraints]

    def row_units(self, state: Array) -> list[Array]:
        """Units of the rows of every stage, then of every shared term.

        Args:
            state: (n,) units of the state, which are those of its bounds.
        """
        intervals = self.grid.intervals
        blocks = [self.row_blocks(k) for k in range(intervals + 1)]
        for term in self._shared():
            blocks.append(self.control_row_blocks(term.stages[0]) if term.name == "control" else [])

        def unit(block: RowBlock) -> Array:
            own = block.constraint.unit if block.component is None else state[[block.component]]
            return np.asarray(own)

        return [np.concatenate([np.zeros(0), *map(unit, group)]) for group in blocks]

    def staged(self) -> StagedProblem:
        """The staged problem."""
        problem, grid = self.problem, self.grid
        n, none = problem.state.numel(), (np.zeros(0), np.zeros(0))
        functions: dict[tuple, StageFunction] = {}
        stages = []
        for k, (time, step) in enumerate(zip(grid.nodes[:-1], grid.steps, strict=True)):
            point = self._interior.get(k)
            at_start = k == 0 and bool(problem.free_initial.any())
            shared = None if point is None else self._structure(point)
            structure, numbers = (None, np.zeros(0)) if shared is None else shared
            # Points that differ in their numbers alone, such as measurements, share a function.
            own = k if point is not None and structure is None else None
            key = (id(self.tableaux[k]), at_start, structure, own)
            if key not in functions:
                given = ca.SX.sym("number", numbers.size)
                at_point = None if point is None else self._at_point(point)
                if structure is not None:
                    at_point = structure.expression(self._arguments, given)
                functions[key] = self._interval(k, at_point, at_start, given)
            low, high = (np.tile(b, self.copies(k)) for b in problem.control_bounds)
            stages.append(
                Stage(
                    functions[key],
                    n,
                    self.copies(k) * problem.control.numel(),
                    np.concatenate([[time, step], numbers]),
                    Rows.join([_rows(block) for block in self.row_blocks(k)]),
                    self._state_bounds(k),
                    (low, high),
                )
            )
        stages.append(
            Stage(
                self._terminal(),
                n,
                0,
                np.array([grid.nodes[-1], 0.0]),
                Rows.join([_rows(block) for block in self.row_blocks(grid.intervals)]),
                self._state_bounds(grid.intervals),
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
            problem.parameter.numel() + int(problem.free_initial.sum()),
            self._parameter_bounds(),
            grid.nodes,
            problem.is_autonomous,
            self._names(),
        )

    def rollout(self, trajectory: Trajectory) -> Trajectory:
        """The states that a trajectory's controls, parameters and initial values lead to."""
        staged = self.staged()
        decisions = embed(self.problem, trajectory).decisions
        return extract(self.problem, self.grid, rollout(staged, decisions))

    def _names(self) -> ComponentNames:
        """What states, controls and parameters are called; controls per stage in one cycle."""
        problem = self.problem
        initial = np.array(problem.state_names, dtype=object)[problem.free_initial]
        return ComponentNames(
            problem.state_names,
            problem.control_names,
            (*problem.parameter_names, *(f"{name}(0)" for name in initial)),
        )

    def _state_bounds(self, k: int) -> tuple[Array, Array]:
        """Of stage k; those of free initial values are bounds of parameters."""
        lower, upper = (np.array(b, dtype=float) for b in self.problem.state_bounds)
        if k == 0:
            free = self.problem.free_initial
            lower[free], upper[free] = -np.inf, np.inf
        return lower, upper

    def _parameter_bounds(self) -> tuple[Array, Array]:
        """Of the parameters, then of the free components of the initial state."""
        problem, free = self.problem, self.problem.free_initial
        lower, upper = (
            np.concatenate([np.asarray(own, dtype=float), np.asarray(state, dtype=float)[free]])
            for own, state in zip(problem.parameter_bounds, problem.state_bounds, strict=True)
        )
        return lower, upper

    def _symbols(self) -> tuple[ca.SX, ca.SX, ca.SX, ca.SX]:
        """Stage parameters, initial state in terms of them, given numbers, and (time, step).

        The last components of the parameters are the free initial values.
        """
        problem = self.problem
        extra = ca.SX.sym("x0", int(problem.free_initial.sum()))
        start = ca.SX.sym("start", problem.initial.numel())
        data = ca.vertcat(problem.data, start)
        initial = start
        if start.numel() and extra.numel():
            initial = start + self._selector() @ extra
        return ca.vertcat(problem.parameter, extra), initial, data, ca.SX.sym("c", 2)

    def _selector(self) -> ca.DM:
        """(n, free) matrix that puts free initial values in their places."""
        free = self.problem.free_initial
        return ca.DM(np.eye(free.size)[:, free])

    @property
    def _arguments(self) -> list[ca.SX]:
        """The symbols of the problem that may occur along the path."""
        problem = self.problem
        return [problem.state, problem.control, problem.parameter, problem.data, problem.time]

    def _at_point(self, point: InteriorPoint) -> ca.SX:
        """Cost, to be minimised, and constraints of an interior point in one column."""
        cost = -point.cost if self.problem.maximize else ca.SX(point.cost)
        rows = [constraint.expression for constraint in point.constraints]
        return ca.vertcat(cost, *rows) if rows else cost

    def _structure(self, point: InteriorPoint) -> tuple[Structure, Array] | None:
        return structure_of(self._arguments, self._at_point(point))

    def _interval(
        self, k: int, at_point: ca.SX | None, at_start: bool, given: ca.SX
    ) -> StageFunction:
        """What happens on interval k, the same for every interval of its tableau.

        Args:
            k: the interval.
            at_point: cost and constraints at its start in the problem's symbols and `given`.
            at_start: whether it is the first one, with free initial values.
            given: symbols of the numbers of the point, constants of the stage after (time, step).
        """
        problem, tableau, points = self.problem, self.tableaux[k], self.points(k)
        at_nodes, mixed, soft = self._path_constraints
        p, _, data, c = self._symbols()
        x = ca.SX.sym("x", problem.state.numel())
        u = ca.SX.sym("u", problem.control.numel(), points if self.control_per_stage else 1)
        z = ca.SX.sym("z", x.numel(), 0 if tableau.is_explicit else points)
        own = p[: problem.parameter.numel()]
        arguments = self._arguments
        blocks = [at_nodes, mixed, soft]
        expressions = [ca.vertcat(*[row.expression for row in block]) for block in blocks]
        model = ca.Function(
            "model", arguments, [problem.dynamics, self.sign * problem.running_cost]
        )
        node_rows, mixed_rows, soft_rows = (
            ca.Function("rows", arguments, [expression])
            if expression.numel()
            else lambda *point: ca.SX(0, 1)
            for expression in expressions
        )
        state = x + self._selector() @ p[own.numel() :] if at_start else x
        step, start = self._scale * c[1] / self.substeps, self._in_time(c[0])
        here = (state, u[:, 0], own, problem.data, start)
        rows = [node_rows(*here)]
        cost, equations = ca.SX(0), []
        if at_point is not None:
            at_node = ca.Function("interior", [*arguments, given], [at_point])(*here, given)
            cost += at_node[0]
            rows.append(at_node[1:, :])
        if not self.control_per_stage:
            rows.append(mixed_rows(*here))
        along: list[ca.SX] = []  # rows of the stages, which follow those of the inner points
        ends: list[tuple] = []  # of the substeps
        reached: list[tuple] = []  # points at the stages
        for s in range(self.substeps):
            offset = s * tableau.stages
            times = [start + (s + float(node)) * step for node in tableau.c]
            values: list[ca.SX] = []
            rates: list[ca.SX] = []
            for i in range(tableau.stages):
                if tableau.is_explicit:
                    point = combine(state, step, tableau.a[i, :i], rates)
                else:
                    point = z[:, offset + i]
                control = u[:, offset + i] if self.control_per_stage else u
                there = (point, control, own, problem.data, times[i])
                rate, density = model(*there)
                rates.append(rate)
                values.append(point)
                reached.append(there)
                if self.control_per_stage:
                    along.append(mixed_rows(*there))
                if tableau.b[i] != 0.0:
                    cost += float(tableau.b[i]) * step * density
                    along.append(soft_rows(*there))
            if not tableau.is_explicit:
                for i, point in enumerate(values):
                    equations.append(combine(state, step, tableau.a[i], rates) - point)
            state = combine(state, step, tableau.b, rates)
            ends.append((state, u[:, 0], own, problem.data, start + (s + 1) * step))
        for place in self.inner_points(k):
            there = ends[place.substep] if place.stage is None else reached[place.stage]
            expression = ca.vertcat(*[row.expression for row, _ in self._inner_rows(place)])
            if expression.numel():
                rows.append(ca.Function("inner_rows", arguments, [expression])(*there))
        unknowns = [x, ca.vec(z), ca.vec(u), p]
        rows += along
        return StageFunction.of(
            "interval",
            unknowns,
            [data, c, given],
            state,
            cost,
            ca.vertcat(*rows),
            ca.vertcat(*equations),
        )

    def _terminal(self) -> StageFunction:
        problem = self.problem
        p, initial, data, c = self._symbols()
        constraints = [
            block.constraint.expression for block in self.row_blocks(self.grid.intervals)
        ]
        arguments = [problem.state, problem.initial, problem.parameter, problem.data, problem.time]
        expressions = [self.sign * problem.terminal_cost, ca.vertcat(*constraints)]
        model = ca.Function("terminal", arguments, expressions)
        own = p[: problem.parameter.numel()]
        cost, rows = model(problem.state, initial, own, problem.data, self._in_time(c[0]))
        return StageFunction.of("terminal", [problem.state, p], [data, c], ca.SX(0, 1), cost, rows)

    def _shared(self) -> tuple[SharedTerm, ...]:
        problem, grid, none = self.problem, self.grid, ca.SX(0, 1)
        p = self._symbols()[0]
        own = p[: problem.parameter.numel()]
        terms = []
        if problem.control_constraints or not problem.control_cost.is_zero():
            functions: dict[int, StageFunction] = {}
            for k, (time, step) in enumerate(zip(grid.nodes[:-1], grid.steps, strict=True)):
                tableau = self.tableaux[k]
                if id(tableau) not in functions:
                    functions[id(tableau)] = self._control_term(tableau)
                rows = Rows.join([_rows(block) for block in self.control_row_blocks(k)])
                constants = np.array([time, step])
                terms.append(SharedTerm("control", functions[id(tableau)], (k,), constants, rows))
        if problem.control_rate_weight > 0:
            u, after = (
                ca.SX.sym("u", problem.control.numel()),
                ca.SX.sym("v", problem.control.numel()),
            )
            weight = ca.SX.sym("w")
            cost = self.sign * weight * ca.sumsqr(after - u) / self._scale
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

    def _control_term(self, tableau: ButcherTableau) -> StageFunction:
        """Cost and constraints of the control of one interval."""
        problem = self.problem
        p, _, _, c = self._symbols()
        own = p[: problem.parameter.numel()]
        expressions = [constraint.expression for constraint in problem.control_constraints]
        model = ca.Function(
            "control",
            [problem.control, problem.parameter, problem.time],
            [self.sign * problem.control_cost, ca.vertcat(*expressions)],
        )
        start, step = self._in_time(c[0]), self._scale * c[1]
        if not self.control_per_stage:
            cost, rows = model(problem.control, own, start)
            return StageFunction.of(
                "control", [problem.control, p], [c], ca.SX(0, 1), step * cost, rows
            )
        u = ca.SX.sym("u", problem.control.numel(), self.substeps * tableau.stages)
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


def _rows(block: RowBlock) -> Rows:
    """Names and bounds of a block's rows; the price of a soft one times its share."""
    constraint = block.constraint
    lower, upper = np.asarray(constraint.lower), np.asarray(constraint.upper)
    share = 1.0 if block.share is None else block.share
    weight = constraint.weight * share if constraint.is_soft else np.inf
    return Rows(constraint.row_names, lower, upper, np.full(lower.size, weight))


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
    """The inverse of `embed`, with the times of a free start or horizon."""
    free, own = problem.free_initial, problem.parameter.numel()
    start = trajectory.states[0].copy()
    start[:, free] = trajectory.parameters[own:]
    parameters = trajectory.parameters[:own]
    times = problem.times_of(grid.nodes, parameters)
    states = (start, *trajectory.states[1:])
    return replace(trajectory, states=states, parameters=parameters, times=times)
