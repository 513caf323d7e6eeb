"""Optimal control problems in continuous time, for one state or an ensemble sharing a control.

    minimise    sum_i [ Phi(x_i(T), x_i(0), p, d_i) + Int_0^T L(t, x_i, u, p, d_i) dt ]
                + Int_0^T R(t, u, p) dt + rho Int_0^T |u'|^2 dt + Q(p)
    subject to  x_i'(t) = f(t, x_i(t), u(t), p, d_i),   x_i(0) given,   i = 1, ..., N
                lower <= g(t, x_i, u, p, d_i) <= upper  along the path and at the end, and bounds

The N members differ in their initial state and in their data d_i; the control u and the
parameters p are common to all. An ordinary problem has one member and no data.
"""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocp.expressions import VECTOR_COMPONENT

Bounds = tuple[ArrayLike, ArrayLike]
UNBOUNDED: Bounds = (-np.inf, np.inf)
FREE = math.nan  # a component of the initial state that is not given


def _empty() -> ca.SX:
    return ca.SX(0, 1)


def _zero() -> ca.SX:
    return ca.SX(0)


@dataclass(frozen=True, eq=False)
class Constraint:
    """`lower <= expression <= upper`, hard, or soft with an exact l1 penalty.

    With a finite weight w the constraint may be violated at the cost w per unit of violation,
    summed over components: w |r| is the soft equality r = 0, and w max(0, r) the soft
    inequality r <= 0. Its multipliers then lie in [-w, w]. Along a path the cost is integrated.

    Args:
        name: how the constraint is called in reports.
        expression: CasADi column of the problem's symbols.
        lower, upper: bounds, scalars or one per component; equal for an equality.
        weight: cost of one unit of violation; infinite for a hard constraint.
        unit: what the expression and its bounds have been divided by, to bring them to size 1.
        by_horizon: whether a soft constraint along the path is multiplied by a free horizon, so
            that its penalty over the grid on [0, 1] is an integral over time.

    Raises:
        ValueError: lower above upper, a NaN bound, or a weight that is not positive.
    """

    name: str
    expression: ca.SX
    lower: ArrayLike = 0.0
    upper: ArrayLike = 0.0
    weight: float = math.inf
    unit: ArrayLike = 1.0
    by_horizon: bool = False

    def __post_init__(self) -> None:
        size = self.expression.numel()
        lower = np.broadcast_to(np.asarray(self.lower, dtype=float), (size,)).copy()
        upper = np.broadcast_to(np.asarray(self.upper, dtype=float), (size,)).copy()
        if not (lower <= upper).all():
            raise ValueError(
                f"constraint {self.name!r} needs lower <= upper in every component, "
                f"got lower {lower.tolist()} and upper {upper.tolist()}."
            )
        if not self.weight > 0:
            raise ValueError(
                f"constraint {self.name!r} needs a positive weight, got {self.weight}; "
                "leave it out for a hard constraint."
            )
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        object.__setattr__(self, "unit", np.broadcast_to(self.unit, (size,)).copy())

    @property
    def is_soft(self) -> bool:
        """Whether violation is allowed at a cost."""
        return math.isfinite(self.weight)

    @property
    def row_names(self) -> tuple[str, ...]:
        """The name, with the component where there are several."""
        size = self.expression.numel()
        return (self.name,) if size == 1 else tuple(f"{self.name}[{j}]" for j in range(size))


@dataclass(frozen=True, eq=False)
class InteriorPoint:
    """Costs and constraints at one time inside the horizon, such as a measurement or a waypoint.

    Args:
        time: 0 < time < horizon; the grid must have a node there.
        cost: at every member's state at that time.
        constraints: hard or soft, of that state.
    """

    time: float
    cost: ca.SX = field(default_factory=_zero)
    constraints: Sequence[Constraint] = ()


@dataclass(frozen=True, eq=False)
class OptimalControlProblem:
    """A problem posed with CasADi symbols: declare them, then write expressions in them.

    Args:
        state: (n,) symbols x.
        control: (m,) symbols u.
        dynamics: (n,) expression of x', in the state's unit per unit of time.
        horizon: T > 0, or an expression of the parameters if the end time is free.
        initial_state: (n,), or (N, n) with one row per member; FREE (not a number) for components
            that are free within the state's bounds, in a problem of one member.
        running_cost: L, integrated along every member's path by the scheme and summed.
        terminal_cost: Phi, at every member's end state, summed; `initial` may occur in it.
        control_cost: R(t, u, p), counted once; exact where the control is constant.
        control_rate_weight: rho, weight of the squared derivative of the control.
        parameter_cost: Q(p), counted once.
        path_constraints: soft ones are integrated by the scheme. Hard ones of the state alone, and
            the state's bounds, hold at every node of the grid and inside the intervals: at the
            stages of an implicit method, those of an explicit one with a control for each, and the
            ends of substeps; equations as far as there are controls to satisfy them. Hard ones
            with the control in them hold at the start of every interval, or, with one control per
            Runge-Kutta stage, at every stage.
        terminal_constraints: at every member's end state; `initial` may occur in them.
        control_constraints: of t, u, p only, counted once for each interval.
        interior_points: costs and constraints at times inside a fixed horizon.
        state_bounds, control_bounds, parameter_bounds: (lower, upper), each a scalar or one value
            per component.
        parameter: symbols p.
        data: symbols d of a member's own data.
        member_data: (N, number of data), one row per member.
        time: symbol t.
        initial: (n,) symbols of a member's initial state, to couple start and end.
        maximize: whether the cost is to be maximised; exact penalties still count against it.
        integrals: how many of the last components of the state are integrals that start at 0 and
            were added to pose the problem.
        bound_names: further names for the bounds of states, controls or parameters, with their
            symbols.
        start: t_0, a finite number, or an expression of the parameters if it is free: the problem
            lives on [t_0, t_0 + T], and a grid that begins elsewhere is refused. None for a
            problem that begins wherever its grid does.
        slacks: (k,) values that the last k controls bound from above; these controls were added to
            pose the problem, and equal the values where that matters.
        slack_parameters: how many of the last parameters were added likewise.
        notes: sentences about how the problem was read, for the message of every solution.

    Raises:
        ValueError: sizes that do not fit, a value that is not finite, or an expression with
            symbols that were not declared.
    """

    state: ca.SX
    control: ca.SX
    dynamics: ca.SX
    horizon: float | ca.SX
    initial_state: ArrayLike
    running_cost: ca.SX = field(default_factory=_zero)
    terminal_cost: ca.SX = field(default_factory=_zero)
    control_cost: ca.SX = field(default_factory=_zero)
    control_rate_weight: float = 0.0
    parameter_cost: ca.SX = field(default_factory=_zero)
    path_constraints: Sequence[Constraint] = ()
    terminal_constraints: Sequence[Constraint] = ()
    control_constraints: Sequence[Constraint] = ()
    interior_points: Sequence[InteriorPoint] = ()
    state_bounds: Bounds = UNBOUNDED
    control_bounds: Bounds = UNBOUNDED
    parameter_bounds: Bounds = UNBOUNDED
    parameter: ca.SX = field(default_factory=_empty)
    data: ca.SX = field(default_factory=_empty)
    member_data: ArrayLike | None = None
    time: ca.SX = field(default_factory=lambda: ca.SX.sym("t"))
    initial: ca.SX = field(default_factory=_empty)
    maximize: bool = False
    bound_names: Mapping[str, ca.SX] = field(default_factory=dict)
    integrals: int = 0
    start: float | ca.SX | None = None
    notes: tuple[str, ...] = ()
    slacks: ca.SX = field(default_factory=_empty)
    slack_parameters: int = 0

    def __post_init__(self) -> None:
        n = self.state.numel()
        for name in ("state", "control", "parameter", "data", "initial"):
            symbols = getattr(self, name)
            if not (isinstance(symbols, ca.SX) and symbols.is_valid_input()):
                raise ValueError(
                    f"{name} must be CasADi symbols made by ca.SX.sym, or vertcat of them, got "
                    f"{symbols}, a {type(symbols).__name__}."
                )
        if self.dynamics.numel() != n:
            raise ValueError(
                f"dynamics has {self.dynamics.numel()} components, expected {n}, one per state."
            )
        for name in ("horizon", "start"):
            value = getattr(self, name)
            if isinstance(value, ca.SX) and not ca.symvar(value):
                object.__setattr__(self, name, float(value))
        if not self.has_free_horizon and not 0 < float(self.horizon) < np.inf:
            raise ValueError(f"the horizon must be positive and finite, got {self.horizon}.")
        if not self.has_free_start and not np.isfinite(self._first):
            raise ValueError(f"the start must be a finite time, got {self.start}.")
        if self.initial.numel() not in (0, n):
            raise ValueError(f"initial has {self.initial.numel()} symbols, expected {n} or none.")
        initial = np.atleast_2d(np.array(self.initial_state, dtype=float))
        if initial.ndim != 2 or initial.shape[1] != n:
            raise ValueError(
                f"initial_state has shape {np.shape(self.initial_state)}, expected ({n},) "
                f"or (members, {n})."
            )
        data = np.zeros((len(initial), 0)) if self.member_data is None else self.member_data
        data = np.array(data, dtype=float)
        if data.shape != (len(initial), self.data.numel()):
            raise ValueError(
                f"member_data has shape {data.shape}, expected "
                f"{(len(initial), self.data.numel())}: one row per row of initial_state, "
                "one column per data symbol."
            )
        if np.isnan(initial).any() and len(initial) > 1:
            raise ValueError(
                "initial_state has free components, which only a problem of one member may have; "
                f"this one has {len(initial)} members."
            )
        fixed = np.where(np.isnan(initial), 0.0, initial)
        for name, values in (("initial_state", fixed), ("member_data", data)):
            if not np.isfinite(values).all():
                row, column = np.argwhere(~np.isfinite(values))[0]
                raise ValueError(
                    f"{name}[{row}, {column}] is {values[row, column]}; every entry must be finite."
                )
        object.__setattr__(self, "initial_state", initial)
        object.__setattr__(self, "member_data", data)
        for name, size in (
            ("state", n),
            ("control", self.control.numel()),
            ("parameter", self.parameter.numel()),
        ):
            bounds = as_bounds(f"{name}_bounds", getattr(self, f"{name}_bounds"), size)
            object.__setattr__(self, f"{name}_bounds", bounds)
        for name in ("running_cost", "terminal_cost", "control_cost", "parameter_cost"):
            cost = ca.SX(getattr(self, name))
            if cost.numel() != 1:
                raise ValueError(f"{name} has shape {cost.shape}, expected a scalar.")
            object.__setattr__(self, name, cost)
        if not (np.isfinite(self.control_rate_weight) and self.control_rate_weight >= 0):
            raise ValueError(
                f"control_rate_weight must be >= 0 and finite, got {self.control_rate_weight}."
            )
        for point in self.interior_points:
            if self.has_free_horizon or self.has_free_start:
                raise ValueError(
                    "interior points need a fixed horizon and a fixed start; here one is free."
                )
            first, last = self._first, self._first + float(self.horizon)
            if not first < point.time < last:
                raise ValueError(
                    f"an interior point lies at t = {point.time:g}, expected a time inside "
                    f"({first:g}, {last:g}); use the terminal cost and constraints at the end."
                )
        check_names({k: getattr(self, k) for k in ("state", "control", "parameter", "data")})
        self._check_symbols()

    def _check_symbols(self) -> None:
        everything = [self.state, self.control, self.parameter, self.data, self.time]
        at_end = [self.state, self.initial, self.parameter, self.data, self.time]
        of_control = [self.control, self.parameter, self.time]
        allowed: list[tuple[str, ca.SX, list[ca.SX]]] = [
            ("dynamics", self.dynamics, everything),
            ("running_cost", self.running_cost, everything),
            ("terminal_cost", self.terminal_cost, at_end),
            ("control_cost", self.control_cost, of_control),
            ("parameter_cost", self.parameter_cost, [self.parameter]),
            ("slacks", self.slacks, everything),
        ]
        for name in ("horizon", "start"):
            if isinstance(getattr(self, name), ca.SX):
                allowed.append((name, getattr(self, name), [self.parameter]))
        of_state = [self.state, self.parameter, self.data, self.time]
        for point in self.interior_points:
            label = f"the interior point at t = {point.time:g}"
            allowed.append((f"cost of {label}", ca.SX(point.cost), of_state))
            for constraint in point.constraints:
                name = f"constraint {constraint.name!r} of {label}"
                allowed.append((name, constraint.expression, of_state))
        for kind, symbols in (("path", everything), ("terminal", at_end), ("control", of_control)):
            for constraint in getattr(self, f"{kind}_constraints"):
                label = f"{kind} constraint {constraint.name!r}"
                allowed.append((label, constraint.expression, symbols))
        declared: dict[int, set[int]] = {}
        for label, expression, symbols in allowed:
            if expression.is_constant():
                continue
            for group in symbols:
                if id(group) not in declared:
                    declared[id(group)] = {s.__hash__() for s in ca.symvar(group)}
            known = set().union(*(declared[id(group)] for group in symbols))
            unknown = [s.name() for s in ca.symvar(expression) if s.__hash__() not in known]
            if unknown:
                raise ValueError(
                    f"{label} depends on {', '.join(unknown)}, which it may not; use only the "
                    "symbols declared for it as state, control, parameter, data or time."
                )

    def __getstate__(self) -> dict:
        with ca.global_pickle_context():
            return {"pickled": pickle.dumps(self.__dict__)}

    def __setstate__(self, state: dict) -> None:
        """The symbols of the copy are new ones: use those of the copy."""
        with ca.global_unpickle_context():
            self.__dict__.update(pickle.loads(state["pickled"]))

    @property
    def has_free_horizon(self) -> bool:
        """Whether the end time depends on the parameters."""
        return isinstance(self.horizon, ca.SX)

    @property
    def has_free_start(self) -> bool:
        """Whether the start time depends on the parameters."""
        return isinstance(self.start, ca.SX)

    @property
    def _first(self) -> float:
        """A start that is fixed; 0 for one that the grid decides."""
        return 0.0 if self.start is None else float(self.start)

    @property
    def grid_ends(self) -> tuple[float, float]:
        """First and last node of a grid for this problem.

        A grid holds the times themselves where they are fixed; it counts from the start where that
        is free, and in fractions of the horizon where that is free.
        """
        if self.has_free_horizon:
            return 0.0, 1.0
        first = 0.0 if self.has_free_start else self._first
        return first, first + float(self.horizon)

    @property
    def clock(self) -> tuple[ca.SX | float, ca.SX | float]:
        """(origin, unit) that turn a grid's time s into the problem's time origin + unit s."""
        unit = self.horizon if self.has_free_horizon else 1.0
        is_free = self.has_free_horizon or self.has_free_start
        origin = 0.0 if self.start is None or not is_free else self.start
        return origin, unit

    def span(self, parameters: ArrayLike) -> tuple[float, float]:
        """Start and length of the horizon for given values (number of parameters,)."""
        start = self.start if isinstance(self.start, ca.SX) else self._first
        ends = ca.vertcat(ca.SX(start), ca.SX(self.horizon))
        values = np.asarray(parameters, dtype=float)
        first, length = ca.Function("span", [self.parameter], [ends])(values).full().ravel()
        return float(first), float(length)

    def times_of(self, nodes: NDArray, parameters: ArrayLike) -> NDArray:
        """Times of a grid's nodes (K+1,) for given parameters."""
        if not (self.has_free_horizon or self.has_free_start):
            return nodes
        first, length = self.span(parameters)
        return first + nodes * (length if self.has_free_horizon else 1.0)

    @property
    def free_initial(self) -> NDArray[np.bool_]:
        """Which components of the initial state are free, (n,)."""
        return np.isnan(np.asarray(self.initial_state, dtype=float)[0])

    @property
    def is_autonomous(self) -> bool:
        """Whether the Hamiltonian is conserved along an optimum.

        Time must not occur, nor an interior point, nor a penalty on the derivative of the control,
        nor a hard path constraint or state bound.
        """
        constraints = [*self.path_constraints, *self.control_constraints]
        expressions = [c.expression for c in constraints]
        expressions += [self.dynamics, self.running_cost, self.control_cost]
        lower, upper = self.state_bounds
        return (
            not ca.depends_on(ca.vertcat(*expressions), self.time)
            and self.control_rate_weight == 0.0
            and not self.interior_points
            and all(c.is_soft for c in self.path_constraints)
            and not (np.isfinite(lower).any() or np.isfinite(upper).any())
        )

    @property
    def state_names(self) -> tuple[str, ...]:
        """Of the components of the state."""
        return component_names(self.state)

    @property
    def control_names(self) -> tuple[str, ...]:
        """Of the components of the control."""
        return component_names(self.control)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return component_names(self.parameter)

    @property
    def members(self) -> int:
        """Number of members N."""
        return len(self.initial_state)  # type: ignore[arg-type]


def check_names(symbols: Mapping[str, ca.SX]) -> None:
    """Refuse a symbol that occurs twice, and two symbols of one name.

    Args:
        symbols: columns of them, by what they are.

    Raises:
        ValueError: one that occurs twice, or a name that two of them have.
    """
    named = []
    for kind, column in symbols.items():
        names = component_names(column)
        if len(names) < column.numel():
            raise ValueError(f"a symbol occurs twice in the {kind}: {column}; take it once.")
        named += [(kind, name) for name in names]
    count = Counter(name for _, name in named)
    twice = next((name for _, name in named if count[name] > 1), None)
    if twice is None:
        return
    first, second = [kind for kind, name in named if name == twice][:2]
    whose = f"two components of the {first}" if first == second else f"a {first} and a {second}"
    raise ValueError(
        f"{whose} are called {twice}; make a symbol once, with a name of its own, and use "
        "that very symbol wherever it occurs."
    )


def component_names(symbols: ca.SX) -> tuple[str, ...]:
    """The symbols' own names; x0, x1, ... for the components of a vector x."""
    return tuple(VECTOR_COMPONENT.sub(r"\1\2", s.name()) for s in ca.symvar(symbols))


def as_bounds(name: str, bounds: Bounds, size: int) -> tuple[NDArray, NDArray]:
    """(lower, upper) as two arrays of `size` components.

    Raises:
        ValueError: a shape that does not fit, or lower above upper.
    """
    try:
        lower, upper = (np.broadcast_to(np.asarray(b, dtype=float), (size,)).copy() for b in bounds)
    except ValueError as error:
        raise ValueError(
            f"{name} must be (lower, upper), each a scalar or {size} values, got {bounds!r}."
        ) from error
    if not (lower <= upper).all():
        j = int(np.argmin(upper - lower))
        raise ValueError(
            f"{name}: component {j} has lower bound {lower[j]:g} above upper bound {upper[j]:g}."
        )
    return lower, upper
