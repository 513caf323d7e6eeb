"""Pose a problem in expressions over the horizon, as a textbook writes it.

    minimise J   subject to   x' = f(t, x, u, p),   conditions

The pieces go where the solver makes most of them: a condition on one symbol becomes a bound, an
integral in the cost stays an integral, one in a condition becomes a state that starts at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import casadi as ca
import numpy as np

from ocp.convex import terms_of
from ocp.discretize import SAME_TIME
from ocp.expressions import (
    Atom,
    Condition,
    HorizonExpression,
    Kind,
    as_expression,
    names_of,
    symbols_of,
)
from ocp.problem import (
    FREE,
    Constraint,
    InteriorPoint,
    OptimalControlProblem,
    check_names,
)
from ocp.rewriting import known_ranges
from ocp.smooth_form import SmoothForm
from ocp.stages import Array
from ocp.symbols import Symbols


def pose(
    *,
    state: ca.SX,
    control: ca.SX,
    dynamics: ca.SX | Sequence[ca.SX],
    horizon: float | ca.SX,
    minimize: HorizonExpression | None = None,
    maximize: HorizonExpression | None = None,
    subject_to: Sequence[Condition] = (),
    time: ca.SX | None = None,
    start: float | ca.SX = 0.0,
    parameters: ca.SX | Sequence[ca.SX] | None = None,
) -> OptimalControlProblem:
    """A problem of one member in terms of `integral`, `at_start`, `at_end`, `at`, `along_path`.

    Symbols that are neither state, control nor time are free parameters; a free end time is one
    of them, given as `horizon`. Those that are not declared are named in the message of every
    solution; once `parameters` are declared, any other symbol is refused. Initial values that no
    condition fixes are free. An integral that occurs in a condition, or in a cost that is not
    linear in it, becomes a further state after the given ones.

    Args:
        state: (n,) symbols x, or a list of them.
        control: (m,) symbols u, or a list of them; `[]` for none.
        dynamics: (n,) expression of x', or a list of them.
        horizon: T, a number or an expression of parameters, which is kept >= 0.
        minimize: the cost; without any, the first feasible point will do.
        maximize: the cost, if it is to be maximised.
        subject_to: conditions; path conditions on states, controls or parameters alone are bounds.
        time: symbol t, if it occurs.
        start: t_0 at which the horizon begins, a number or an expression of parameters; the times
            of `at`, of grids, guesses and solutions are absolute, in [start, start + horizon].
        parameters: symbols of all free parameters, in the order that guesses and solutions have;
            those in `horizon` and `start` need not be repeated.

    Raises:
        ValueError: two costs; a cost that is a function of time; a control where there is none; a
            point outside the horizon; MX symbols; a symbol that is not declared where parameters
            are, or that looks like the time; another symbol of a name that is taken; and whatever
            `OptimalControlProblem` refuses.
    """
    if minimize is not None and maximize is not None:
        raise ValueError("a problem has one cost; give minimize or maximize, not both.")
    cost = minimize if maximize is None else maximize
    if cost is not None and not isinstance(cost, HorizonExpression):
        raise ValueError(
            f"the cost is {cost}, expected a value over the horizon; wrap it in integral(...), "
            "at_end(...) or at_start(...)."
        )
    for condition in subject_to:
        if not isinstance(condition, Condition):
            raise ValueError(
                f"subject_to contains {condition!r}, expected conditions such as at_end(x) == 0 or "
                "along_path(u).within(-1, 1)."
            )
    builder = _Builder(
        as_expression("state", state),
        as_expression("control", control),
        as_expression("dynamics", dynamics),
        _time_or_symbol("horizon", horizon),
        None if time is None else as_expression("time", time),
        _time_or_symbol("start", start),
    )
    builder.find_parameters(cost, subject_to, parameters)
    smooth = builder.smooth_form(subject_to, maximize is not None)
    if cost is not None:
        cost = smooth.cost(cost)
    conditions = [row for condition in subject_to for row in smooth.condition(condition)]
    builder.extend(smooth)
    for condition in (*conditions, *smooth.conditions):
        builder.add(condition)
    if cost is not None:
        builder.add_cost(cost)
    return builder.problem(maximize is not None)


def _against_zero(expression: ca.SX, lower: Array, upper: Array) -> tuple[ca.SX, Array, Array]:
    """Rows of a soft constraint with zero as their bound, whose violations scale with the rows."""
    rows, low, high = [], [], []
    for j in range(expression.numel()):
        if lower[j] == upper[j]:
            sides = [(lower[j], 0.0, 0.0)]
        else:
            sides = [(lower[j], 0.0, np.inf), (upper[j], -np.inf, 0.0)]
        for bound, below, above in sides:
            if np.isfinite(bound):
                rows.append(expression[j] - float(bound))
                low.append(below)
                high.append(above)
    return ca.vertcat(ca.SX(0, 1), *rows), np.array(low), np.array(high)


def _time_or_symbol(name: str, value: object) -> float | ca.SX:
    expression = as_expression(name, value)
    return expression if ca.symvar(expression) else float(expression)


@dataclass(eq=False)
class _Builder:
    """The parts of a problem, collected condition by condition."""

    state: ca.SX
    control: ca.SX
    dynamics: ca.SX
    horizon: float | ca.SX
    time: ca.SX | None
    begin: float | ca.SX = 0.0
    parameter: ca.SX = field(default_factory=lambda: ca.SX(0, 1))
    initial_value: dict[int, float] = field(default_factory=dict)
    bounds: dict[int, tuple[float, float]] = field(default_factory=dict)
    boundary: list[Constraint] = field(default_factory=list)
    path: list[Constraint] = field(default_factory=list)
    of_control: list[Constraint] = field(default_factory=list)
    points: list[InteriorPoint] = field(default_factory=list)
    lifted: list[tuple[ca.SX, ca.SX]] = field(default_factory=list)
    names: dict[str, tuple[int, ...]] = field(default_factory=dict)
    taken: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    slacks: ca.SX = field(default_factory=lambda: ca.SX(0, 1))
    slack_parameters: int = 0
    running: ca.SX = field(default_factory=lambda: ca.SX(0))
    terminal: ca.SX = field(default_factory=lambda: ca.SX(0))

    def __post_init__(self) -> None:
        self.clock = ca.SX.sym("t") if self.time is None else self.time
        self._clock_hash = self.clock.element_hash()
        self.start = ca.SX.sym("start", self.state.numel())
        for name, symbols in (("state", self.state), ("control", self.control)):
            if not symbols.is_valid_input():
                raise ValueError(f"{name} must be CasADi symbols, or vertcat of them.")
        clock = {} if self.time is None else {"time": self.time}
        check_names({"state": self.state, "control": self.control, **clock})

    def find_parameters(
        self,
        cost: HorizonExpression | None,
        conditions: Sequence[Condition],
        declared: ca.SX | Sequence[ca.SX] | None,
    ) -> None:
        """Those declared, and otherwise every symbol that is neither state, control nor time."""
        ends = [end for end in (self.begin, self.horizon) if isinstance(end, ca.SX)]
        symbols = Symbols(self.state, self.control, self.clock, self.time is not None, ends)
        found = symbols.parameters(self._occurrences(cost, conditions), declared)
        self.parameter, self.notes = found

    def smooth_form(self, conditions: Sequence[Condition], is_maximum: bool) -> SmoothForm:
        """What replaces absolute values, norms and maxima.

        Raises:
            ValueError: one of them in the dynamics.
        """
        terms = terms_of(self.dynamics)[1]
        if terms:
            raise ValueError(
                f"{terms[0]} stands in the dynamics, where it has no smooth form; write ca.fabs or "
                "ca.norm_2 for the value itself, or ca.sqrt(e**2 + eps**2)."
            )
        first, last = -np.inf, np.inf
        if not isinstance(self.begin, ca.SX):
            first = float(self.begin)
            last = np.inf if isinstance(self.horizon, ca.SX) else first + float(self.horizon)
        return SmoothForm(known_ranges(conditions, self.clock, (first, last)), is_maximum)

    def extend(self, smooth: SmoothForm) -> None:
        """Take in the controls and parameters of a smooth form."""
        self.control = ca.vertcat(self.control, *smooth.controls)
        self.parameter = ca.vertcat(self.parameter, *smooth.parameters)
        self.slacks = ca.vertcat(ca.SX(0, 1), *smooth.values)
        self.slack_parameters = len(smooth.parameters)

    def _occurrences(
        self, cost: HorizonExpression | None, conditions: Sequence[Condition]
    ) -> list[tuple[str, ca.SX]]:
        """Everything that symbols occur in but the ends of the horizon, with what it is."""
        names = names_of(ca.symvar(self.state)) if self.dynamics.numel() > 1 else []
        found = [("the dynamics", self.dynamics)]
        if len(names) == self.dynamics.numel():
            found = [(f"the dynamics of {n}", self.dynamics[j]) for j, n in enumerate(names)]
        for condition in conditions:
            label = f"condition {condition.name!r}"
            found += [(label, atom.expression) for atom in condition.expression.atoms]
        if cost is not None:
            found += [("the cost", atom.expression) for atom in cost.atoms]
        return found

    def _named(self, condition: Condition, what: object) -> Condition:
        """The condition under a name of its own, unless the name was given.

        Args:
            condition: to be named.
            what: the name stands for; bounds of the same symbols share one.
        """
        name, count = condition.name, 1
        if condition.is_named:
            self.taken[name] = what
            return condition
        while self.taken.get(name, what) != what:
            count += 1
            name = f"{condition.name} ({count})"
        self.taken[name] = what
        return replace(condition, name=name)

    def add(self, condition: Condition) -> None:
        """Put a condition where it belongs."""
        value = self._with_ends(condition.expression)
        condition = replace(condition, expression=value)
        size = value.value.numel()
        lower = np.broadcast_to(np.asarray(condition.lower, dtype=float), (size,))
        upper = np.broadcast_to(np.asarray(condition.upper, dtype=float), (size,))
        kinds = {atom.kind for atom in value.atoms}
        plain = self._plain(value) if np.isinf(condition.weight) else None
        is_fixed = kinds == {Kind.START} and plain is not None and bool((lower == upper).all())
        as_bound = kinds == {Kind.PATH} or self._is_parameter(value)
        shared = plain is not None and (as_bound or is_fixed)
        condition = self._named(condition, tuple(plain) if shared and plain else object())
        if plain is not None and as_bound:
            self._bound(condition.name, plain, lower, upper)
        elif plain is not None and is_fixed:
            self._fix(condition.name, plain, lower)
        elif kinds == {Kind.PATH}:
            expression = self._along_path(value)
            is_soft = np.isfinite(condition.weight)
            by_horizon = is_soft and isinstance(self.horizon, ca.SX)
            if by_horizon:
                expression, lower, upper = _against_zero(expression, lower, upper)
                expression = self.horizon * expression
            constraint = Constraint(
                condition.name,
                expression,
                lower,
                upper,
                condition.weight,
                by_horizon=by_horizon,
            )
            # A penalty is integrated: one control is the same all over its interval, time is not.
            moves = ca.vertcat(self.state, self.clock) if is_soft else self.state
            alone = not ca.depends_on(expression, moves)
            (self.of_control if alone else self.path).append(constraint)
        elif kinds == {Kind.POINT}:
            self._add_point(condition, lower, upper)
        else:
            expression = self._at_boundary(value, condition.name)
            constraint = Constraint(condition.name, expression, lower, upper, condition.weight)
            self.boundary.append(constraint)

    def _with_ends(self, value: HorizonExpression) -> HorizonExpression:
        """Points at the ends of a fixed horizon are the ends."""
        if ca.symvar(ca.vertcat(ca.SX(self.begin), self.horizon)):
            return value
        first, length = float(self.begin), float(self.horizon)
        ends = {Kind.START: first, Kind.END: first + length}

        def place(atom: Atom) -> Atom:
            for kind, end in ends.items():
                if atom.time is not None and abs(atom.time - end) <= SAME_TIME * length:
                    return replace(atom, kind=kind, time=None)
            return atom

        return replace(value, atoms=tuple(place(atom) for atom in value.atoms))

    def _plain(self, value: HorizonExpression) -> list[int] | None:
        """The symbols that the value consists of, if it is nothing but symbols."""
        if len(value.atoms) != 1 or not value.value.is_valid_input():
            return None
        expression = self._substituted(value, lambda atom: atom.expression)
        entries = [expression[j] for j in range(expression.numel())]
        if not all(entry.is_symbolic() for entry in entries):
            return None
        hashes = [entry.element_hash() for entry in entries]
        return None if self._clock_hash in hashes or len(set(hashes)) < len(hashes) else hashes

    def _is_parameter(self, value: HorizonExpression) -> bool:
        if any(atom.kind is Kind.INTEGRAL for atom in value.atoms):
            return False
        expressions = ca.vertcat(*[atom.expression for atom in value.atoms])
        return not ca.depends_on(expressions, ca.vertcat(self.state, self.control, self.clock))

    def _bound(self, name: str, symbols: list[int], lower: Array, upper: Array) -> None:
        for symbol, low, high in zip(symbols, lower, upper, strict=True):
            before = self.bounds.get(symbol, (-np.inf, np.inf))
            bounds = (max(before[0], float(low)), min(before[1], float(high)))
            if bounds[0] > bounds[1]:
                raise ValueError(
                    f"condition {name!r} asks for [{low:g}, {high:g}] where "
                    f"[{before[0]:g}, {before[1]:g}] was asked before; these bounds conflict."
                )
            self.bounds[symbol] = bounds
        self.names[name] = tuple(symbols)

    def _fix(self, name: str, symbols: list[int], values: Array) -> None:
        known = {s.element_hash() for s in ca.symvar(self.state)}
        for symbol, value in zip(symbols, values, strict=True):
            if symbol not in known:
                raise ValueError(
                    f"condition {name!r} fixes the start of something that is not a state; the "
                    "control has no value of its own there."
                )
            before = self.initial_value.setdefault(symbol, float(value))
            if before != float(value):
                raise ValueError(
                    f"condition {name!r} fixes an initial value at {value:g} that another one "
                    f"fixes at {before:g}; these conditions conflict."
                )

    def _add_point(self, condition: Condition, lower: Array, upper: Array) -> None:
        times = {atom.time for atom in condition.expression.atoms}
        if len(times) != 1:
            raise ValueError(
                f"condition {condition.name!r} couples {len(times)} times inside the horizon, "
                "expected one; carry the earlier value along as a further state."
            )
        expression = self._substituted(condition.expression, lambda atom: atom.expression)
        constraint = Constraint(condition.name, expression, lower, upper, condition.weight)
        self.points.append(InteriorPoint(float(times.pop() or 0.0), constraints=[constraint]))

    def _substituted(self, value: HorizonExpression, replacement: object) -> ca.SX:
        assert callable(replacement)
        expression = value.value
        for atom in value.atoms:
            expression = ca.substitute(expression, atom.symbol, replacement(atom))
        return ca.SX(expression)

    def _along_path(self, value: HorizonExpression) -> ca.SX:
        return self._substituted(value, lambda atom: atom.expression)

    def _at_boundary(self, value: HorizonExpression, name: str) -> ca.SX:
        """In terms of the end state, the initial state and lifted integrals."""

        def place(atom: Atom) -> ca.SX:
            if atom.kind is Kind.INTEGRAL:
                return self._lift(atom.expression)
            if atom.kind is Kind.POINT:
                raise ValueError(
                    f"{name} is not a sum of terms at single times inside the horizon; write a "
                    "function of one time inside, as in at(t, (x - 1)**2), and carry an earlier "
                    "value along as a further state."
                )
            if ca.depends_on(atom.expression, self.control):
                raise ValueError(
                    f"{name!r} takes the control at one end of the horizon, where it has no value "
                    "of its own; use along_path(...), or make the control a state."
                )
            if atom.kind is Kind.START:
                expression = ca.substitute(atom.expression, self.state, self.start)
                return ca.substitute(expression, self.clock, ca.SX(self.begin))
            return atom.expression

        return self._substituted(value, place)

    def _lift(self, density: ca.SX) -> ca.SX:
        symbols = []
        for j in range(density.numel()):
            symbols.append(ca.SX.sym(f"integral {len(self.lifted)}"))
            self.lifted.append((symbols[-1], density[j]))
        return ca.vertcat(*symbols)

    def add_cost(self, cost: HorizonExpression) -> None:
        """Split the cost into what is integrated, what is taken at points, and what is at ends."""
        if cost.is_path or cost.value.numel() != 1:
            raise ValueError(
                f"the cost {cost} is not a single number; integrate it over the horizon, or take "
                "it at an end."
            )
        cost = self._with_ends(cost)
        separate = [a for a in cost.atoms if a.kind in (Kind.INTEGRAL, Kind.POINT)]
        # One derivative for all of them, since a fit has a term for every measurement.
        all_slopes = ca.jacobian(cost.value, ca.vertcat(*[atom.symbol for atom in separate]))
        ends = np.cumsum([0, *[atom.symbol.numel() for atom in separate]]).tolist()
        linear: list[Atom] = []
        for atom, start, stop in zip(separate, ends[:-1], ends[1:], strict=True):
            slopes = all_slopes[:, start:stop]
            if ca.symvar(slopes):
                continue  # not linear: an integral is lifted, a point refused
            linear.append(atom)
            term = ca.mtimes(slopes, atom.expression)
            if atom.kind is Kind.INTEGRAL:
                self.running += term
            else:
                self.points.append(InteriorPoint(float(atom.time or 0.0), cost=term))
        symbols = ca.vertcat(*[atom.symbol for atom in linear])
        rest = ca.substitute(ca.SX(cost.value), symbols, ca.SX.zeros(symbols.numel()))
        separated = {id(atom) for atom in linear}
        kept = tuple(atom for atom in cost.atoms if id(atom) not in separated)
        self.terminal = self._at_boundary(HorizonExpression(rest, kept), "the cost")

    def problem(self, is_maximum: bool) -> OptimalControlProblem:
        """The parts put together."""
        self._with_positive_horizon()
        extra = ca.vertcat(*[symbol for symbol, _ in self.lifted])
        start = ca.vertcat(self.start, ca.SX.sym("start", len(self.lifted)))
        hashes = [s.element_hash() for s in ca.symvar(self.state)]
        initial = [self.initial_value.get(h, FREE) for h in hashes] + [0.0] * len(self.lifted)
        used = any(ca.depends_on(c.expression, self.start) for c in self.boundary)
        used |= bool(ca.depends_on(self.terminal, self.start))
        of_control = not ca.depends_on(self.running, ca.vertcat(self.state, self.clock))
        state = ca.vertcat(self.state, extra)
        return OptimalControlProblem(
            state=state,
            control=self.control,
            dynamics=ca.vertcat(self.dynamics, *[density for _, density in self.lifted]),
            horizon=self.horizon,
            start=self.begin,
            initial_state=initial,
            running_cost=ca.SX(0) if of_control else self.running,
            control_cost=self.running if of_control else ca.SX(0),
            terminal_cost=self.terminal,
            path_constraints=self.path,
            terminal_constraints=self.boundary,
            control_constraints=self.of_control,
            interior_points=self.points,
            state_bounds=self._bounds_of(state),
            control_bounds=self._bounds_of(self.control),
            parameter_bounds=self._bounds_of(self.parameter),
            parameter=self.parameter,
            time=self.clock,
            initial=start if used else ca.SX(0, 1),
            maximize=is_maximum,
            bound_names=self._bound_names(state),
            notes=self.notes,
            slacks=self.slacks,
            slack_parameters=self.slack_parameters,
            integrals=len(self.lifted),
        )

    def _with_positive_horizon(self) -> None:
        """A free horizon is not negative: a bound of a parameter, or else a condition."""
        if not isinstance(self.horizon, ca.SX) or not ca.symvar(self.horizon):
            return
        if not self.horizon.is_symbolic():
            self.boundary.append(Constraint("horizon", self.horizon, 0.0, np.inf))
        else:
            symbol = self.horizon.element_hash()
            low, high = self.bounds.get(symbol, (-np.inf, np.inf))
            self.bounds[symbol] = (max(low, 0.0), high)

    def _bounds_of(self, symbols: ca.SX) -> tuple[Array, Array]:
        hashes = [symbols[j].element_hash() for j in range(symbols.numel())]
        bounds = [self.bounds.get(h, (-np.inf, np.inf)) for h in hashes]
        array = np.array(bounds, dtype=float).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    def _bound_names(self, state: ca.SX) -> dict[str, ca.SX]:
        everything = {
            s.element_hash(): s for s in symbols_of([state, self.control, self.parameter])
        }
        return {name: ca.vertcat(*[everything[h] for h in own]) for name, own in self.names.items()}
