"""Solutions of problems in continuous time: functions of time, duals by name, error estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from ocp.attempts import Attempts
from ocp.certificate import Certificate
from ocp.diagnosis import Offender
from ocp.discretize import BOUND_ROW, RowBlock, Transcription, embed, extract
from ocp.expressions import Atom, HorizonExpression, Kind, as_expression, at_end
from ocp.minimum_condition import MinimumCondition, minimum_condition
from ocp.nlp import Status
from ocp.path import Path, member_columns
from ocp.problem import OptimalControlProblem
from ocp.reintegration import ErrorEstimate, estimate_error, interpolate_rows
from ocp.scaling import Scaling, multipliers_in_own_units, to_own_units
from ocp.solution import Solution
from ocp.stages import Array
from ocp.timings import spent_on

SEARCHED = 17  # points of an interval at which a largest value is looked for
BEFORE_THE_END = 1 - 1e-9  # of an interval, where its own control still holds


class Dual(NamedTuple):
    """Multiplier of a constraint of the continuous problem.

    Args:
        times: (Q,) where it is known; along a path the points at which the constraint was imposed.
        values: (Q, rows) for one member, (Q, N, rows) for several, in units of the cost per unit
            of the constraint, and along a path per unit of time.
    """

    times: Array
    values: Array


@dataclass(frozen=True, eq=False)
class ContinuousSolution(Solution):
    """A solution that can be read between the nodes, in the problem's own units.

    Args:
        transcription: how the problem was made discrete.
        scaling: the units that it was solved in; the certificate's smallest eigenvalue and
            `result` are in them.
    """

    transcription: Transcription | None = None
    scaling: Scaling = field(default_factory=Scaling)

    @property
    def problem(self) -> OptimalControlProblem:
        """The problem in continuous time."""
        assert self.transcription is not None
        return self.transcription.problem

    @property
    def times(self) -> Array:
        """(K+1,) of the nodes."""
        assert self.trajectory.times is not None
        return self.trajectory.times

    @property
    def horizon(self) -> float:
        """Length of the horizon."""
        return float(self.times[-1] - self.times[0])

    @property
    def parameters(self) -> dict[str, float]:
        """Values of the parameters, by name."""
        count = self.problem.parameter.numel() - self.problem.slack_parameters
        names, values = self.problem.parameter_names[:count], self.trajectory.parameters[:count]
        return dict(zip(names, values.tolist(), strict=True))

    @cached_property
    def path(self) -> Path:
        """State and control as functions of time."""
        assert self.transcription is not None
        return Path.of(self.transcription, self.trajectory)

    @cached_property
    def error(self) -> ErrorEstimate:
        """Defects against an independent adaptive integration."""
        attempts = Attempts()
        with spent_on("error_estimate"):
            found = attempts.compute(
                "error_estimate",
                lambda: estimate_error(self.path, np.stack(self.certificate.costates)),
                None,
            )
        if found is None:
            return ErrorEstimate.none(self.times[:-1], attempts.reasons["error_estimate"])
        return found

    def changed(self, **fields: Any) -> ContinuousSolution:
        """The same trajectory with other fields; what is known of its path and error is kept."""
        found = replace(self, **fields)
        for name in ("path", "error", "minimum_condition"):
            if name in self.__dict__:
                found.__dict__[name] = self.__dict__[name]
        return found

    @cached_property
    def minimum_condition(self) -> MinimumCondition:
        """What a control free at every time would gain."""
        assert self.transcription is not None
        attempts, transcription = Attempts(), self.transcription
        sign = -1.0 if self.problem.maximize else 1.0
        blocks = ((k, block, sign * y) for k, block, y in self._blocks())
        with spent_on("error_estimate"):
            found = attempts.compute(
                "minimum_condition",
                lambda: minimum_condition(
                    self.path, transcription, sign * np.stack(self.certificate.costates), blocks
                ),
                None,
            )
        if found is None:
            reason = attempts.reasons["minimum_condition"]
            return MinimumCondition.none(len(self.path.order), self.times.size, reason)
        return found

    def state(self, times: ArrayLike | None = None) -> Array:
        """(Q, n) for one member, (Q, N, n) for several; at the nodes by default."""
        values = self.path.state(self.times if times is None else times)
        return self._squeeze(values[:, :, : self._declared])

    def control(self, times: ArrayLike | None = None) -> Array:
        """(Q, m); at the nodes by default, at a jump from the right."""
        values = self.path.control(self.times if times is None else times)
        return values[:, : values.shape[1] - self.problem.slacks.numel()]

    def costate(
        self, component: str | ca.SX | None = None, times: ArrayLike | None = None
    ) -> Array:
        """Derivative of the optimal cost in the state, linear between the nodes.

        Args:
            component: a component of the state, by its symbol or name; all by default.
            times: (Q,), the nodes by default.

        Returns:
            (Q, n), or (Q,) of one component; with the member before it where there are several.
        """
        where = self.times if times is None else np.atleast_1d(np.asarray(times, dtype=float))
        values = interpolate_rows(self.times, np.stack(self.certificate.costates), where)
        values = self._squeeze(values)
        if component is None:
            return values[..., : self._declared]
        return values[..., self._component(component)]

    @property
    def _declared(self) -> int:
        """Components of the state that the user gave; integrals of conditions come after them."""
        return self.problem.state.numel() - self.problem.integrals

    def _component(self, component: str | ca.SX) -> int:
        names = self.problem.state_names
        if isinstance(component, ca.SX):
            hashes = [s.element_hash() for s in ca.symvar(self.problem.state)]
            if component.is_scalar() and component.element_hash() in hashes:
                return hashes.index(component.element_hash())
        elif component in names:
            return names.index(component)
        raise ValueError(f"{component} is no component of the state: {', '.join(names)}.")

    def _squeeze(self, values: Array) -> Array:
        """Without the members' axis where there is one member."""
        return values[:, 0] if self.problem.members == 1 else values

    def sample(
        self, expression: ca.SX | HorizonExpression, times: ArrayLike | None = None
    ) -> Array:
        """An expression of the problem's symbols along the solution.

        Args:
            expression: of state, control, parameters and time, or made by `along_path`.
            times: (Q,), the nodes by default.

        Returns:
            (Q,) for a scalar, (Q, rows) for a column; with the member before the rows where there
            are several.
        """
        where = self.times if times is None else np.atleast_1d(np.asarray(times, dtype=float))
        if not isinstance(expression, HorizonExpression):
            column = ca.vec(as_expression("the sample", expression))
            values = self._evaluate_at(column, where)
        elif expression.is_path:
            columns = [self._evaluate_at(atom.expression, where) for atom in expression.atoms]
            symbols = [atom.symbol for atom in expression.atoms]
            function = ca.Function("value", symbols, [ca.vec(expression.value)])
            shape = (*columns[0].shape[:2], expression.value.numel())
            arguments = [c.reshape(-1, c.shape[2]).T for c in columns]
            mapped = function.map(shape[0] * shape[1])(*arguments)
            values = mapped.full().T.reshape(shape)
        else:
            raise ValueError(f"{expression} is a number, not a function of time; use value(...).")
        values = self._squeeze(values)
        return values[..., 0] if values.shape[-1] == 1 else values

    def value(self, expression: HorizonExpression | ca.SX | float) -> float | Array:
        """A value over the horizon: integrals by the scheme's quadrature, ends, points.

        Args:
            expression: made by `integral`, `at_start`, `at_end` or `at`; or of parameters alone.

        Returns:
            A number for a scalar, (rows,) for a column; integrals and ends of an ensemble are
            summed over its members.

        Raises:
            ValueError: a function of time, or symbols that are not the problem's.
        """
        if not isinstance(expression, HorizonExpression):
            expression = self._of_parameters(as_expression("the value", expression))
        if expression.is_path:
            raise ValueError(f"{expression} is a function of time; use sample(...).")
        arguments = [self._atom(atom) for atom in expression.atoms]
        symbols = [atom.symbol for atom in expression.atoms]
        function = ca.Function("value", symbols, [ca.vec(expression.value)])
        found = np.asarray(function(*arguments).full()).ravel()
        return float(found[0]) if found.size == 1 else found

    def _of_parameters(self, expression: ca.SX) -> HorizonExpression:
        """An expression that is the same at every time, taken at the end."""
        problem = self.problem
        if ca.depends_on(expression, ca.vertcat(problem.state, problem.control, problem.time)):
            raise ValueError(
                f"{expression} is a function of time; write value(at_end({expression})) or "
                f"value(at(time, {expression})), or take sample({expression}, times)."
            )
        return at_end(expression)

    def _atom(self, atom: Atom) -> Array | float:
        if atom.of is not None:
            return self._largest(atom.of)
        if atom.kind is Kind.INTEGRAL:
            times, weights, states, controls = self.path.quadrature()
            values = self._evaluate(atom.expression, times, states, controls)
            return np.asarray(np.einsum("q,qir->r", weights, values))
        place = {Kind.START: self.times[0], Kind.END: self.times[-1], Kind.POINT: atom.time}
        where = np.array([place[atom.kind]], dtype=float)
        values = self._evaluate_at(atom.expression, where)
        return np.asarray(values[0].sum(axis=0))

    def _largest(self, of: HorizonExpression) -> float:
        """The largest component, over the whole path if it is one, between the nodes as well."""
        if not of.is_path:
            return float(np.max(self.value(of)))

        def highest(times: Array) -> Array:
            return self.sample(of, times).reshape(times.size, -1).max(axis=1)

        fractions = np.linspace(0.0, BEFORE_THE_END, SEARCHED)
        lengths = np.diff(self.times)[:, None]
        times = np.append((self.times[:-1, None] + fractions * lengths).ravel(), self.times[-1])
        values = highest(times)
        k = int(np.argmax(values))
        around = (times[max(k - 1, 0)], times[min(k + 1, times.size - 1)])
        peak = minimize_scalar(
            lambda t: -float(highest(np.array([t]))[0]), bounds=around, method="bounded"
        )
        return max(float(values[k]), -float(peak.fun))

    def _evaluate_at(self, expression: ca.SX, times: Array) -> Array:
        """(Q, N, rows) at times (Q,) of the solution."""
        return self._evaluate(expression, times, self.path.state(times), self.path.control(times))

    def _evaluate(self, expression: ca.SX, times: Array, states: Array, controls: Array) -> Array:
        """(Q, N, rows) at times (Q,), states (Q, N, n) and controls (Q, m)."""
        problem = self.problem
        arguments = [problem.state, problem.control, problem.parameter, problem.data, problem.time]
        try:
            function = ca.Function("expression", arguments, [ca.densify(expression)])
        except RuntimeError as error:
            raise ValueError(
                f"{expression} has symbols that are not the problem's; use the symbols of "
                "solution.problem."
            ) from error
        count, members, _ = states.shape
        parameters = self.trajectory.parameters
        columns = member_columns(problem, times, states, controls, parameters)
        values = function.map(count * members)(*columns)
        return np.asarray(values.full().T.reshape(count, members, expression.numel()))

    def dual(self, constraint: str | ca.SX) -> Dual:
        """Multiplier of a constraint by its name, or of the bounds of a state, control, parameter.

        The Lagrangian adds it times the expression to the cost (`ocp.multipliers`): minus the
        derivative of the optimal cost in the bound that holds. State constraints of higher order
        have impulses, which show as values that grow like one over the step.

        Args:
            constraint: a constraint's name, a symbol or a symbol's name, or the name that `pose`
                was given for a bound.

        Raises:
            ValueError: nothing of that name.
        """
        names = self.problem.bound_names
        if isinstance(constraint, str) and constraint not in names:
            found = self._row_dual(constraint)
            if found is not None:
                return found
        named = names.get(constraint, constraint) if isinstance(constraint, str) else constraint
        wanted = (
            {named}
            if isinstance(named, str)
            else {named[j].element_hash() for j in range(named.numel())}
        )
        for kind in ("state", "control", "parameter"):
            own = ca.symvar(getattr(self.problem, kind))
            labels = getattr(self.problem, f"{kind}_names")
            keys = zip(own, labels, strict=True)
            places = [j for j, (s, label) in enumerate(keys) if {s.element_hash(), label} & wanted]
            if places:
                return self._bound_dual(kind, places)
        raise ValueError(
            f"there is no constraint {constraint!r}; there are {', '.join(self._known())}."
        )

    def _known(self) -> list[str]:
        problem = self.problem
        constraints = [
            *problem.path_constraints,
            *problem.terminal_constraints,
            *problem.control_constraints,
            *(c for point in problem.interior_points for c in point.constraints),
        ]
        symbols = (*problem.state_names, *problem.control_names, *problem.parameter_names)
        return list(dict.fromkeys([*(c.name for c in constraints), *problem.bound_names, *symbols]))

    def _row_dual(self, name: str) -> Dual | None:
        """Of the rows of that name, in the order of time."""
        unit = self._time_unit
        times: list[float] = []
        values: list[Array] = []
        first: dict[int, int] = {}  # where the values at the nodes begin, by constraint
        inner: dict[int, list[tuple[float, Array]]] = {}
        for _, block, y in self._blocks():
            if block.constraint.name != name or block.component is not None:
                continue
            key = id(block.constraint)
            if block.is_inner:
                inner.setdefault(key, []).append((block.time, y))
            else:
                first.setdefault(key, len(times))
                # Rows that are multiplied by the horizon carry the unit of time themselves.
                per_time = 1.0 if block.constraint.by_horizon else unit
                times.append(block.time)
                values.append(y / (1.0 if block.share is None else block.share * per_time))
        if not times:
            return None
        stacked = np.stack(values)
        for key, own in inner.items():
            lumped = self._at_nodes(own) / unit
            stacked[first[key] : first[key] + len(lumped)] += lumped
        order = np.argsort(times, kind="stable")
        one = stacked.shape[1] == 1
        stacked = stacked[order]
        where = self._in_time(np.asarray(times)[order])
        return Dual(where, stacked[:, 0] if one else stacked)

    def _blocks(self) -> Iterator[tuple[int, RowBlock, Array]]:
        """All blocks of rows with their interval, or K at the end, and multipliers (N, rows)."""
        transcription, multipliers = self.transcription, self.certificate.multipliers.rows
        assert transcription is not None
        intervals = transcription.grid.intervals
        groups = [(k, transcription.row_blocks(k)) for k in range(intervals + 1)]
        if self.problem.control_constraints:
            groups += [(k, transcription.control_row_blocks(k)) for k in range(intervals)]
        for (k, blocks), y in zip(groups, multipliers, strict=False):
            position = 0
            for block in blocks:
                size = block.constraint.expression.numel()
                yield k, block, y[:, position : position + size]
                position += size

    def _at_nodes(self, inner: Sequence[tuple[float, Array]]) -> Array:
        """Multipliers at times inside the intervals as densities at the nodes, (K+1, N, rows).

        The measure of the continuous problem keeps its integrals against functions that are linear
        on every interval.
        """
        assert self.transcription is not None
        nodes = self.transcription.grid.nodes
        found = np.zeros((nodes.size, *inner[0][1].shape))
        for time, y in inner:
            k = int(np.clip(np.searchsorted(nodes, time) - 1, 0, nodes.size - 2))
            theta = (time - nodes[k]) / (nodes[k + 1] - nodes[k])
            found[k] += (1 - theta) * y
            found[k + 1] += theta * y
        return found / self.transcription.node_shares[:, None, None]

    @property
    def _time_unit(self) -> float:
        """Of the grid, in the problem's unit of time."""
        assert self.transcription is not None
        return self.horizon / self.transcription.grid.horizon

    def _in_time(self, grid_times: Array) -> Array:
        """Times of the grid in the problem's time."""
        return self.problem.times_of(grid_times, self.trajectory.parameters)

    def _bound_dual(self, kind: str, places: list[int]) -> Dual:
        transcription, multipliers = self.transcription, self.certificate.multipliers
        assert transcription is not None
        grid, unit = transcription.grid, self._time_unit
        count = self.problem.parameter.numel() + int(self.problem.free_initial.sum())
        decisions = multipliers.decision_bounds
        if kind == "parameter":
            own = decisions[decisions.size - count :]
            return Dual(self.times[-1:], own[None, places])
        if kind == "state":
            return self._state_bound_dual(places)
        m, position = self.problem.control.numel(), 0
        times, found = [], []
        for k in range(grid.intervals):
            size = transcription.copies(k) * m
            own = decisions[position : position + size].reshape(transcription.copies(k), m)
            position += size
            at, shares = np.array([grid.nodes[k]]), np.array([grid.steps[k]])
            if transcription.control_per_stage:
                at, shares = transcription.stage_points(k)
            times.append(self._in_time(at))
            found.append(own[:, places] / (shares * unit)[:, None])
        return Dual(np.concatenate(times), np.concatenate(found))

    def _state_bound_dual(self, places: list[int]) -> Dual:
        """At the nodes, those of the bounds inside the intervals added."""
        transcription, multipliers = self.transcription, self.certificate.multipliers
        assert transcription is not None
        decisions, free = multipliers.decision_bounds, self.problem.free_initial
        values = np.stack(multipliers.state_bounds)
        values[0][:, free] += decisions[decisions.size - int(free.sum()) :]
        values = values / transcription.node_shares[:, None, None]
        for j in places:
            inner = [(b.time, y) for _, b, y in self._blocks() if b.is_inner and b.component == j]
            if inner:
                values[:, :, j] += self._at_nodes(inner)[:, :, 0]
        return Dual(self.times, self._squeeze(values)[..., places] / self._time_unit)

    def __str__(self) -> str:
        found = self.certificate
        lines = [
            f"{self.status.value}: {self.message}",
            f"objective {self.objective:.12g}, horizon {self.horizon:.10g}, "
            f"{self.iterations} iterations",
            str(self.timings),
            f"stationarity {found.stationarity:.1e}, dynamics {found.dynamics:.1e}, "
            f"constraints {found.constraints:.1e}",
        ]
        lines += [f"{name} = {value:.10g}" for name, value in self.parameters.items()]
        return "\n".join([*lines, f"{self.error}; {self.minimum_condition}"])


def _beyond(error: ErrorEstimate, tolerance: float) -> str:
    """What an error has against a grid."""
    if np.isnan(error.discretization):
        step = int(np.argmax(np.isnan(error.relative)))
        return (
            f"the step from t = {error.times[step]:.4g} cannot be integrated, so that its error is "
            "not known: the model may be singular there"
        )
    return (
        f"that is too coarse for the problem in continuous time: its error is "
        f"{error.discretization:.1e}, beyond the discretization tolerance of {tolerance:g} "
        f"({error})"
    )


def judged_by_its_error(found: ContinuousSolution, tolerance: float) -> ContinuousSolution:
    """A solution whose error against the differential equation exceeds a tolerance is inaccurate.

    Args:
        found: of a problem on a grid.
        tolerance: of the largest relative defect, violation or residual between the nodes.

    Returns:
        The solution, with its status and message changed if it was solved and is not within the
        tolerance.
    """
    if not found.is_solved or np.isinf(tolerance):
        return found
    error = found.error
    if error.unknown:
        return found.changed(message=f"{found.message} There is {error}.")
    if error.is_within(tolerance):
        return found
    assert found.transcription is not None
    relation = float(error.relations.relative.max())
    advice = "take more intervals, or refine()"
    if relation > tolerance and not found.transcription.control_per_stage:
        advice = (
            "control_per_stage=True makes a relation that holds a control hold at every "
            f"collocation point; or {advice}"
        )
    return found.changed(
        status=Status.INACCURATE,
        message=(
            "The point satisfies the conditions of a minimum on this grid, but "
            f"{_beyond(error, tolerance)}. What helps: {advice}."
        ),
    )


def in_continuous_time(
    solution: Solution, transcription: Transcription, inner: Transcription, scaling: Scaling
) -> ContinuousSolution:
    """A solution of the stages in the problem's own terms and units.

    Args:
        solution: of the stages of `inner`.
        transcription: of the problem in its own units.
        inner: of the scaled problem.
        scaling: the units of `solution`.
    """
    problem, own = transcription.problem, problem_sizes(inner.problem, scaling)
    rows = row_sizes(inner.problem) | {f"{BOUND_ROW}{name}": own[name] for name in own}
    free = problem.free_initial
    trajectory = solution.trajectory
    scaled_free = replace(
        trajectory,
        states=(
            _with_free(trajectory.states[0], trajectory.parameters, free),
            *trajectory.states[1:],
        ),
        parameters=trajectory.parameters[: problem.parameter.numel()],
    )
    in_units = extract(
        problem, transcription.grid, embed(problem, to_own_units(scaled_free, scaling))
    )
    state = np.asarray(scaling.state)
    found = solution.certificate
    certificate: Certificate = replace(
        found,
        costates=tuple(p / state for p in found.costates),
        multipliers=multipliers_in_own_units(
            found.multipliers, scaling, free, inner.row_units(state)
        ),
        worst=tuple(_in_own_units(offender, own, rows) for offender in found.worst),
    )
    values = {name: getattr(solution, name) for name in Solution.__dataclass_fields__}
    values |= {
        "trajectory": in_units,
        "costates": tuple(p / state for p in solution.costates),
        "certificate": certificate,
    }
    result = ContinuousSolution(**values, transcription=transcription, scaling=scaling)
    return result.negated() if problem.maximize else result  # type: ignore[return-value]


def _with_free(start: Array, parameters: Array, free: np.ndarray) -> Array:
    start = start.copy()
    start[:, free] = parameters[parameters.size - int(free.sum()) :]
    return start


def problem_sizes(problem: OptimalControlProblem, scaling: Scaling) -> dict[str, float]:
    """Sizes by the name of the component."""
    found: dict[str, float] = {}
    for kind in ("state", "control", "parameter"):
        names = getattr(problem, f"{kind}_names")
        found |= dict(zip(names, np.asarray(getattr(scaling, kind)).tolist(), strict=True))
    return found


def row_sizes(problem: OptimalControlProblem) -> dict[str, float]:
    """Units of the constraints' rows, by their names."""
    constraints = [*problem.path_constraints, *problem.terminal_constraints]
    constraints += problem.control_constraints
    for point in problem.interior_points:
        constraints += point.constraints
    found: dict[str, float] = {}
    for constraint in constraints:
        found |= dict(zip(constraint.row_names, np.asarray(constraint.unit).tolist(), strict=True))
    return found


def _in_own_units(offender: Offender, sizes: dict[str, float], rows: dict[str, float]) -> Offender:
    if offender.kind == "row":
        return replace(offender, amount=offender.amount * rows[offender.name])
    return replace(offender, amount=offender.amount * sizes[offender.name.removesuffix("(0)")])
