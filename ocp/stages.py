"""Staged problems: optimal control in discrete time, the form that every solver here consumes.

    minimise    sum_i sum_{k=0..K} l_k(x_i^k, u^k, p; g_i^k) + sum_s l_s(u, p; g_s)
    subject to  x_i^{k+1} = Phi_k(x_i^k, u^k, p; g_i^k),   k = 0, ..., K-1,   x_i^0 given
                lower <= r_k(x_i^k, u^k, p; g_i^k) <= upper   (hard, or soft at a price)

Every member i walks through the same stages k with its own given numbers g_i^k = (d_i, c_k):
its data and the stage's constants. Stage K has neither control nor successor. Terms that concern
the control alone are *shared*: counted once, not once per member. The sizes of state and control
may change from stage to stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.grid import TimeGrid
from ocp.problem import Constraint, OptimalControlProblem
from ocp.runge_kutta import ButcherTableau

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StageFunction:
    """What happens in one stage to one member: (v, g) -> (successor, cost, rows).

    v = (x, u, p) stacks the unknowns, g the given numbers. First derivatives are taken of the
    outputs (successor, rows) and of the cost; second derivatives of the Lagrangian

        sigma * cost + costate . successor + multiplier . rows.

    All are evaluated for M columns at once.

    Args:
        function: CasADi function (v, g) -> (successor, cost, rows), dense columns.
    """

    function: ca.Function
    _mapped: dict[tuple[str, int], ca.Function] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        name: str,
        unknowns: Sequence[ca.SX],
        given: Sequence[ca.SX],
        successor: ca.SX,
        cost: ca.SX,
        rows: ca.SX,
    ) -> StageFunction:
        """Make one from CasADi expressions."""
        outputs = [ca.densify(ca.vec(e)) for e in (successor, cost, rows)]
        return cls(ca.Function(name, [ca.vertcat(*unknowns), ca.vertcat(*given)], outputs))

    def __getstate__(self) -> dict:
        return {"function": self.function, "_mapped": {}}

    @property
    def unknowns(self) -> int:
        """Size of v."""
        return int(self.function.size1_in(0))

    @property
    def successor_size(self) -> int:
        """Size of the successor state."""
        return int(self.function.size1_out(0))

    @property
    def row_count(self) -> int:
        """Number of constraint rows."""
        return int(self.function.size1_out(2))

    def _symbols(self) -> tuple[ca.SX, ca.SX]:
        return ca.SX.sym("v", self.unknowns), ca.SX.sym("g", self.function.size1_in(1))

    @cached_property
    def first(self) -> ca.Function:
        """(v, g) -> (nonzeros of d(successor, rows)/dv, nonzeros of d cost/dv)."""
        v, g = self._symbols()
        successor, cost, rows = self.function(v, g)
        jacobian = ca.jacobian(ca.vertcat(successor, rows), v)
        gradient = ca.jacobian(cost, v)
        return ca.Function("first", [v, g], [_nonzeros(jacobian), _nonzeros(gradient)])

    @cached_property
    def second(self) -> ca.Function:
        """(v, g, sigma, multipliers) -> nonzeros of the Lagrangian's Hessian, upper triangle."""
        v, g = self._symbols()
        successor, cost, rows = self.function(v, g)
        outputs = ca.vertcat(successor, rows)
        sigma, multipliers = ca.SX.sym("sigma"), ca.SX.sym("lam", outputs.numel())
        hessian = ca.triu(ca.hessian(sigma * cost + ca.dot(multipliers, outputs), v)[0])
        return ca.Function("second", [v, g, sigma, multipliers], [_nonzeros(hessian)])

    @cached_property
    def patterns(self) -> tuple[tuple[NDArray, NDArray], NDArray, tuple[NDArray, NDArray]]:
        """Places of the nonzeros: of the Jacobian, of the gradient, of the Hessian."""
        v, g = self._symbols()
        successor, cost, rows = self.function(v, g)
        outputs = ca.vertcat(successor, rows)
        lagrangian = cost + ca.dot(ca.SX.sym("lam", outputs.numel()), outputs)
        hessian = ca.triu(ca.hessian(lagrangian, v)[0])
        return (
            _triplet(ca.jacobian(outputs, v)),
            _triplet(ca.jacobian(cost, v))[1],
            _triplet(hessian),
        )

    def mapped(self, kind: str, columns: int) -> ca.Function:
        """`function`, `first` or `second` for that many columns at once."""
        key = (kind, columns)
        if key not in self._mapped:
            self._mapped[key] = getattr(self, kind).map(columns)
        return self._mapped[key]

    def values(self, v: Array, g: Array) -> tuple[Array, Array, Array]:
        """Successors (n+, M), costs (M,) and rows (r, M) for columns v and g."""
        successor, cost, rows = self.mapped("function", v.shape[1])(v, g)
        return successor.full(), cost.full().ravel(), rows.full()

    def derivatives(self, v: Array, g: Array) -> tuple[Array, Array]:
        """Jacobians of (successor, rows), (M, n+ + r, nv), and gradients of the cost, (M, nv)."""
        jacobian_values, gradient_values = self.mapped("first", v.shape[1])(v, g)
        (i, j), gj, _ = self.patterns
        jacobian = np.zeros((v.shape[1], self.successor_size + self.row_count, self.unknowns))
        jacobian[:, i, j] = jacobian_values.full().T
        gradient = np.zeros((v.shape[1], self.unknowns))
        gradient[:, gj] = gradient_values.full().T
        return jacobian, gradient

    def hessians(self, v: Array, g: Array, multipliers: Array) -> Array:
        """Hessians of cost + multipliers . (successor, rows), (M, nv, nv), symmetric."""
        columns = v.shape[1]
        values = self.mapped("second", columns)(v, g, np.ones((1, columns)), multipliers)
        i, j = self.patterns[2]
        hessian = np.zeros((columns, self.unknowns, self.unknowns))
        hessian[:, i, j] = values.full().T
        hessian[:, j, i] = hessian[:, i, j]
        return hessian


def _nonzeros(matrix: ca.SX) -> ca.SX:
    return ca.reshape(ca.densify(matrix.nz[:]), matrix.nnz(), 1)


def _triplet(matrix: ca.SX) -> tuple[NDArray, NDArray]:
    rows, columns = matrix.sparsity().get_triplet()
    return np.array(rows, dtype=int), np.array(columns, dtype=int)


@dataclass(frozen=True, eq=False)
class Rows:
    """Names, bounds and prices of a stage's constraint rows, each (r,); price inf means hard."""

    names: tuple[str, ...]
    lower: Array
    upper: Array
    weight: Array

    @classmethod
    def none(cls) -> Rows:
        """No rows."""
        return cls((), np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage, the same for every member but for the members' data.

    Args:
        function: v = (x, u, p), g = (member's data, constants).
        state_size, control_size: n_k and m_k; the control of the last stage has size 0.
        constants: (c,) numbers of this stage, such as its time and its step.
        rows: bounds of the constraint rows of `function`.
        state_bounds, control_bounds: (lower, upper), each one per component.
    """

    function: StageFunction
    state_size: int
    control_size: int
    constants: Array
    rows: Rows
    state_bounds: tuple[Array, Array]
    control_bounds: tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class SharedTerm:
    """Costs and constraints of the control and the parameters alone, counted once.

    Args:
        name: what the term is called among the costs.
        function: v = (u of each of `stages`, p), g = constants; no successor.
        stages: whose controls it takes.
        constants: (c,) given numbers.
        rows: bounds of its constraint rows.
    """

    name: str
    function: StageFunction
    stages: tuple[int, ...]
    constants: Array
    rows: Rows


@dataclass(frozen=True, eq=False)
class StagedProblem:
    """A problem in discrete time; see the module's equation.

    Args:
        stages: K+1 stages; the last one has no control and no successor.
        shared: terms of the control alone.
        initial_state: (N, n_0).
        data: (N, number of data).
        parameter_size: number of parameters p.
        parameter_bounds: (lower, upper).
        times: (K+1,) of the nodes, or None if there is no time behind the stages.
        is_autonomous: whether the stages come from an autonomous problem, whose Hamiltonian is
            conserved.

    Raises:
        ValueError: sizes of neighbouring stages that do not fit.
    """

    stages: tuple[Stage, ...]
    shared: tuple[SharedTerm, ...]
    initial_state: Array
    data: Array
    parameter_size: int
    parameter_bounds: tuple[Array, Array]
    times: Array | None = None
    is_autonomous: bool = False

    def __post_init__(self) -> None:
        if len(self.stages) < 2 or self.stages[-1].control_size:
            raise ValueError(
                "a staged problem needs at least two stages, the last one without control."
            )
        for k, stage in enumerate(self.stages):
            expected = self.stages[k + 1].state_size if k < self.intervals else 0
            if stage.function.successor_size != expected:
                raise ValueError(
                    f"stage {k} leads to a state of size {stage.function.successor_size}, "
                    f"but the next one expects {expected}."
                )
            unknowns = stage.state_size + stage.control_size + self.parameter_size
            if stage.function.unknowns != unknowns:
                raise ValueError(
                    f"stage {k} has a function of {stage.function.unknowns} unknowns, expected "
                    f"{unknowns}: state, control and parameters."
                )

    @property
    def intervals(self) -> int:
        """Number of intervals (layers) K."""
        return len(self.stages) - 1

    @property
    def members(self) -> int:
        """Number of members N."""
        return len(self.initial_state)

    @cached_property
    def control_slices(self) -> tuple[slice, ...]:
        """Where u^k stands among the decisions (u^0, ..., u^{K-1}, p)."""
        ends = np.cumsum([0] + [stage.control_size for stage in self.stages])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    @property
    def parameter_slice(self) -> slice:
        """Where p stands among the decisions."""
        return slice(self.decision_size - self.parameter_size, self.decision_size)

    @property
    def decision_size(self) -> int:
        """Number of decisions: all controls and the parameters."""
        return sum(stage.control_size for stage in self.stages) + self.parameter_size

    def shared_index(self, term: SharedTerm) -> NDArray:
        """Positions of a shared term's unknowns among the decisions."""
        everything = np.arange(self.decision_size)
        parts = [everything[self.control_slices[k]] for k in term.stages]
        return np.concatenate([*parts, everything[self.parameter_slice]])

    def given(self, k: int) -> Array:
        """Given numbers of stage k, one column per member."""
        constants = np.tile(self.stages[k].constants[:, None], (1, self.members))
        return np.vstack([self.data.T, constants])

    def batches(self) -> Iterator[list[int]]:
        """Stages grouped by their function, so that each group is evaluated in one call."""
        groups: dict[int, list[int]] = {}
        for k, stage in enumerate(self.stages):
            groups.setdefault(id(stage.function), []).append(k)
        yield from groups.values()


def discretize(
    problem: OptimalControlProblem,
    grid: TimeGrid,
    tableau: ButcherTableau,
    substeps: int = 1,
) -> StagedProblem:
    """One stage per interval of the grid, one control on each, by an explicit Runge-Kutta method.

    The running cost is integrated by the same tableau. The squared derivative of the control
    becomes sum_k |u^{k+1} - u^k|^2 / ((h_k + h_{k+1}) / 2).

    Args:
        problem: the problem in continuous time.
        grid: its K intervals; the horizon must be the problem's.
        tableau: an explicit method.
        substeps: equal Runge-Kutta steps on every interval.

    Raises:
        ValueError: an implicit tableau, fewer than one substep, or a grid of another horizon.
    """
    if not tableau.is_explicit:
        raise ValueError(f"tableau {tableau.name!r} is implicit; choose an explicit one.")
    if substeps < 1:
        raise ValueError(f"substeps must be at least 1, got {substeps}.")
    if not np.isclose(grid.horizon, problem.horizon, rtol=1e-12, atol=0.0):
        raise ValueError(
            f"the grid spans {grid.horizon:g}, the problem's horizon is {problem.horizon:g}; "
            "make the grid with the problem's horizon."
        )
    hard = [c for c in problem.path_constraints if not c.is_soft]
    soft = [c for c in problem.path_constraints if c.is_soft]
    function, soft_weights = _interval_function(problem, tableau, substeps, hard, soft)
    x, p, d = problem.state, problem.parameter, problem.data
    t, h = problem.time, ca.SX.sym("h")

    stages = []
    for time, step in zip(grid.nodes[:-1], grid.steps, strict=True):
        rows = _rows(hard)
        for weight in soft_weights:
            rows = _append(rows, _rows(soft, weight * step))
        stages.append(
            Stage(
                function,
                x.numel(),
                problem.control.numel(),
                np.array([time, step]),
                rows,
                problem.state_bounds,  # type: ignore[arg-type]
                problem.control_bounds,  # type: ignore[arg-type]
            )
        )
    terminal = problem.terminal_constraints
    end = StageFunction.of(
        "terminal",
        [x, p],
        [d, t, h],
        ca.SX(0, 1),
        problem.terminal_cost,
        ca.vertcat(*[c.expression for c in terminal]),
    )
    none = (np.zeros(0), np.zeros(0))
    stages.append(
        Stage(
            end,
            x.numel(),
            0,
            np.array([grid.nodes[-1], 0.0]),
            _rows(terminal),
            problem.state_bounds,  # type: ignore[arg-type]
            none,
        )
    )
    return StagedProblem(
        tuple(stages),
        _shared_terms(problem, grid),
        problem.initial_state,  # type: ignore[arg-type]
        problem.member_data,  # type: ignore[arg-type]
        p.numel(),
        problem.parameter_bounds,  # type: ignore[arg-type]
        grid.nodes,
        problem.is_autonomous,
    )


def _interval_function(
    problem: OptimalControlProblem,
    tableau: ButcherTableau,
    substeps: int,
    hard: Sequence[Constraint],
    soft: Sequence[Constraint],
) -> tuple[StageFunction, list[float]]:
    """The stage function of an interval, and the share of h that weighs each block of soft rows."""
    x, u, p, d, t = (
        problem.state,
        problem.control,
        problem.parameter,
        problem.data,
        problem.time,
    )
    h = ca.SX.sym("h")
    arguments = [x, u, p, d, t]
    field_ = ca.Function("f", arguments, [problem.dynamics])
    cost_ = ca.Function("l", arguments, [problem.running_cost])
    soft_ = ca.Function("r", arguments, [ca.vertcat(*[c.expression for c in soft])])

    def rate(state: ca.SX, time: ca.SX) -> ca.SX:
        return field_(state, u, p, d, time)

    state, cost = x, ca.SX(0)
    rows, soft_weights = [c.expression for c in hard], []
    for s in range(substeps):
        start = t + s * (h / substeps)
        successor, points = tableau.step(rate, state, start, h / substeps)
        for point, weight, node in zip(points, tableau.b, tableau.c, strict=True):
            if weight != 0.0:
                at = start + float(node) * (h / substeps)
                cost += (h / substeps) * float(weight) * cost_(point, u, p, d, at)
                if soft:
                    rows.append(soft_(point, u, p, d, at))
                    soft_weights.append(float(weight) / substeps)
        state = successor
    function = StageFunction.of("interval", [x, u, p], [d, t, h], state, cost, ca.vertcat(*rows))
    return function, soft_weights


def _shared_terms(problem: OptimalControlProblem, grid: TimeGrid) -> tuple[SharedTerm, ...]:
    u, p, t = problem.control, problem.parameter, problem.time
    h, none = ca.SX.sym("h"), ca.SX(0, 1)
    constraints = problem.control_constraints
    expressions = ca.vertcat(*[c.expression for c in constraints])
    terms = []
    if constraints or not ca.SX(problem.control_cost).is_zero():
        function = StageFunction.of(
            "control", [u, p], [t, h], none, h * problem.control_cost, expressions
        )
        for k, (time, step) in enumerate(zip(grid.nodes[:-1], grid.steps, strict=True)):
            constants = np.array([time, step])
            terms.append(SharedTerm("control", function, (k,), constants, _rows(constraints, step)))
    if problem.control_rate_weight > 0:
        after, weight = ca.SX.sym("u_next", u.numel()), ca.SX.sym("w")
        function = StageFunction.of(
            "control_rate", [u, after, p], [weight], none, weight * ca.sumsqr(after - u), none
        )
        midsteps = (grid.steps[:-1] + grid.steps[1:]) / 2
        for k, midstep in enumerate(midsteps):
            constants = np.array([problem.control_rate_weight / midstep])
            terms.append(SharedTerm("control rate", function, (k, k + 1), constants, Rows.none()))
    if not ca.SX(problem.parameter_cost).is_zero():
        function = StageFunction.of("parameter", [p], [], none, problem.parameter_cost, none)
        terms.append(SharedTerm("parameter", function, (), np.zeros(0), Rows.none()))
    return tuple(terms)


def _rows(constraints: Sequence[Constraint], share: float = 1.0) -> Rows:
    """Bounds of the constraints' rows, their prices times `share`."""
    names: list[str] = []
    for constraint in constraints:
        size = constraint.expression.numel()
        names += (
            [constraint.name] if size == 1 else [f"{constraint.name}[{j}]" for j in range(size)]
        )
    return Rows(
        tuple(names),
        np.concatenate([np.zeros(0), *[np.asarray(c.lower) for c in constraints]]),
        np.concatenate([np.zeros(0), *[np.asarray(c.upper) for c in constraints]]),
        np.concatenate(
            [np.zeros(0), *[np.full(c.expression.numel(), c.weight * share) for c in constraints]]
        ),
    )


def _append(first: Rows, second: Rows) -> Rows:
    return Rows(
        first.names + second.names,
        np.concatenate([first.lower, second.lower]),
        np.concatenate([first.upper, second.upper]),
        np.concatenate([first.weight, second.weight]),
    )
