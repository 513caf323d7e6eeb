"""Expressions over the horizon: they pose a problem, and are read off its solution.

    integral(e)     Int_0^T e dt          at_start(e)    e at t = 0
    along_path(e)   e at every t          at_end(e)      e at t = T
                                          at(time, e)    e at a time in between

with e a CasADi expression of the problem's symbols. They can be added, multiplied and compared:
`at_end(x) - at_start(x) == 0`, `along_path(v) <= 3`, `along_path(u).within(-1, 1)`. Functions go
inside, `along_path(ca.sin(x))`, or are NumPy's, `np.sin(at_end(x))`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

LONGEST_NAME = 40  # characters of an expression that a person would type as its name
MARK = "copysign("  # how CasADi writes what `ocp.convex` marks
LONGEST_TEXT = 200  # characters of an expression that is written out at all
VECTOR_COMPONENT = re.compile(r"^(.*)_(\d+)$")  # how CasADi names the components of a vector

ARITHMETIC: dict[np.ufunc, Callable] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: operator.truediv,
    np.power: operator.pow,
}
MIRRORED: dict[np.ufunc, Callable] = {
    np.less_equal: operator.ge,
    np.greater_equal: operator.le,
    np.equal: operator.eq,
}
FUNCTIONS: dict[np.ufunc, Callable] = {
    getattr(np, name): getattr(ca, {"absolute": "fabs"}.get(name, name.replace("arc", "a")))
    for name in (
        *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
        *("arcsinh", "arccosh", "arctanh", "exp", "log", "log10", "sqrt", "absolute", "sign"),
    )
}


Limit: TypeAlias = "ArrayLike | ca.SX | HorizonExpression | Sequence[ca.SX]"


class Kind(Enum):
    """Where an expression is taken; the value is how it is written."""

    INTEGRAL = "integral"
    START = "at_start"
    END = "at_end"
    POINT = "at"
    PATH = "along_path"
    LARGEST = "largest"


@dataclass(frozen=True, eq=False)
class Atom:
    """One expression of the problem's symbols, taken in one way.

    Args:
        kind: in which way.
        expression: of the problem's symbols.
        symbol: what stands for its value in a `HorizonExpression`.
        time: of a point inside the horizon, None otherwise.
        of: the value over the horizon whose largest component it is, None for other kinds.
    """

    kind: Kind
    expression: ca.SX
    symbol: ca.SX
    time: float | None = None
    of: HorizonExpression | None = None

    @property
    def place(self) -> str:
        """Where it is taken, in words."""
        return self.kind.value if self.time is None else f"at({self.time:g})"

    def __str__(self) -> str:
        if self.of is not None:
            return f"{self.kind.value}({self.of})"
        arguments = written(self.expression)
        if self.time is not None:
            arguments = f"{self.time:g}, {arguments}"
        return f"{self.kind.value}({arguments})"


@dataclass(frozen=True, eq=False)
class HorizonExpression:
    """A value built of expressions over the horizon.

    Args:
        value: column of the atoms' symbols.
        atoms: what they stand for.
    """

    value: ca.SX
    atoms: tuple[Atom, ...]

    __array_priority__ = 1e4  # CasADi's and NumPy's values on the left leave arithmetic to this

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object) -> object:
        """NumPy's functions of the value, and arithmetic with NumPy's numbers on the left."""
        first = inputs[0]
        if method == "__call__" and ufunc in FUNCTIONS:
            return self.apply(FUNCTIONS[ufunc])
        if method == "__call__" and ufunc in ARITHMETIC and len(inputs) == 2:
            left = first if isinstance(first, HorizonExpression) else self._lift(first)
            return ARITHMETIC[ufunc](left, inputs[1])
        if method == "__call__" and ufunc in MIRRORED and first is not self:
            return MIRRORED[ufunc](self, first)
        raise ValueError(
            f"numpy.{ufunc.__name__} does not know {self}; apply a function to the expression "
            "inside, or write (...).apply(function)."
        )

    def __MX__(self) -> ca.MX:
        """CasADi asks for this when one of its functions gets the value; it has no answer."""
        kind = self.atoms[0].kind.value if self.atoms else "at_end"
        raise ValueError(
            f"a CasADi function is applied to {self}; apply it inside, as in {kind}(ca.sin(...)), "
            "or write (...).apply(ca.sin)."
        )

    @property
    def is_path(self) -> bool:
        """Whether it is a function of time rather than a number."""
        return any(atom.kind is Kind.PATH for atom in self.atoms)

    def __str__(self) -> str:
        if len(self.atoms) == 1 and self.value.is_valid_input():
            return str(self.atoms[0])
        return " and ".join(map(str, self.atoms)) or str(self.value)

    def _with(self, other: object, combine: Callable[[ca.SX, ca.SX], ca.SX]) -> HorizonExpression:
        right = self._lift(other)
        atoms = tuple({id(atom): atom for atom in (*self.atoms, *right.atoms)}.values())
        kinds = {atom.kind for atom in atoms}
        if Kind.PATH in kinds and len(kinds) > 1:
            raise ValueError(
                "along_path cannot be combined with the values of other expressions over the "
                "horizon; introduce a parameter for them and constrain it."
            )
        return HorizonExpression(ca.SX(combine(self.value, right.value)), atoms)

    def _lift(self, other: object) -> HorizonExpression:
        """Numbers, and expressions of parameters, which are the same all over the horizon."""
        if isinstance(other, HorizonExpression):
            return other
        if isinstance(other, ca.SX) and ca.symvar(other):
            atom = self.atoms[0]
            if atom.kind is Kind.INTEGRAL:
                raise ValueError(
                    f"integral(...) is combined with {other}; write at_end({other}) for a "
                    "parameter."
                )
            kind = Kind.END if atom.kind is Kind.LARGEST else atom.kind
            return take(kind, other, atom.time)
        return HorizonExpression(as_expression(f"what is combined with {self}", other), ())

    def __add__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: a + b)

    def __radd__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: b + a)

    def __sub__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: a * b)

    def __rmul__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: b * a)

    def __truediv__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: a / b)

    def __rtruediv__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: b / a)

    def __pow__(self, other: object) -> HorizonExpression:
        return self._with(other, lambda a, b: a**b)

    def __neg__(self) -> HorizonExpression:
        return replace(self, value=-self.value)

    def __getitem__(self, index: int | slice) -> HorizonExpression:
        return replace(self, value=self.value[index])

    def apply(self, function: Callable[[ca.SX], ca.SX]) -> HorizonExpression:
        """A CasADi function of the value: `integral(u**2).apply(ca.sqrt)`."""
        return replace(self, value=ca.SX(function(self.value)))

    def __le__(self, other: object) -> Condition:
        return Condition.of(self, other, -np.inf, 0.0)

    def __ge__(self, other: object) -> Condition:
        return Condition.of(self, other, 0.0, np.inf)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return Condition.of(self, other, 0.0, 0.0)

    __hash__ = None  # type: ignore[assignment]

    def within(self, lower: Limit, upper: Limit) -> Condition:
        """`lower <= expression <= upper`, the same for all components or one for each.

        Limits are numbers, expressions of parameters, or values over the horizon; the latter two
        make rows of their own: after those with numbers `expression - limit`, first of the lower.
        """
        size = self.value.numel()
        rows: list[HorizonExpression] = []
        bounds = [np.full(size, -np.inf), np.full(size, np.inf)]
        ends = []
        for j, (limit, end) in enumerate(((lower, (0.0, np.inf)), (upper, (-np.inf, 0.0)))):
            if not _is_symbolic(limit):
                bounds[j] = self._checked(limit)
                continue
            value: object = limit
            if not isinstance(limit, HorizonExpression):
                value = as_expression(f"a limit of {self}", limit)
            rows.append(self - value)
            ends.append(np.tile(np.array(end)[:, None], rows[-1].value.numel()))
        if np.isfinite(bounds).any() or not rows:
            rows.insert(0, self)
            ends.insert(0, np.stack(bounds))
        low, high = np.hstack(ends)
        return Condition(stacked(rows), low, high, _short_name(self))

    def _checked(self, limit: object) -> NDArray[np.float64]:
        """Numbers to compare with, one for each component.

        Raises:
            ValueError: another number of them, NaN, or what is no number.
        """
        size = self.value.numel()
        numbers = ca.DM(limit).full() if isinstance(limit, ca.SX) else limit
        try:
            bound = np.asarray(numbers, dtype=float).ravel()
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self} is compared with {limit!r}; give a number, or one for each component."
            ) from error
        if bound.size not in (1, size):
            raise ValueError(
                f"{_short_name(self)} has {size} components but {bound.size} values to compare "
                f"with; give one number, or {size}."
            )
        if np.isnan(bound).any():
            raise ValueError(f"{_short_name(self)} is compared with NaN; give numbers.")
        return np.broadcast_to(bound, (size,)).copy()


@dataclass(frozen=True, eq=False)
class Condition:
    """A constraint as it is written down: `lower <= expression <= upper`.

    Args:
        expression: of values over the horizon.
        lower, upper: numbers, or one for each component.
        name: how it is called in reports and when its multiplier is asked for.
        weight: price of one unit of violation; infinite for a hard constraint.
        is_named: whether the name was given rather than made of the expression.
    """

    expression: HorizonExpression
    lower: ArrayLike
    upper: ArrayLike
    name: str
    weight: float = np.inf
    is_named: bool = False

    def __post_init__(self) -> None:
        for side in ("lower", "upper"):
            bound = self.expression._checked(getattr(self, side))
            object.__setattr__(self, side, bound)

    @classmethod
    def of(cls, left: HorizonExpression, right: object, low: float, high: float) -> Condition:
        """`low <= left - right <= high`; a number on the right moves to the bounds."""
        if isinstance(right, (HorizonExpression, ca.SX)):
            difference = left - right
            return cls(difference, low, high, _short_name(difference))
        if _is_symbolic(right):
            return cls.of(left, as_expression(f"what {left} is compared with", right), low, high)
        value = left._checked(right)
        return cls(left, low + value, high + value, _short_name(left))

    def named(self, name: str) -> Condition:
        """The same constraint under a name of its own."""
        return replace(self, name=name, is_named=True)

    def soft(self, weight: float) -> Condition:
        """The same constraint, to be violated at this price per unit: an exact penalty."""
        return replace(self, weight=weight)

    def __bool__(self) -> bool:
        raise TypeError(
            "a constraint is neither true nor false; for two bounds on one expression write "
            "expression.within(lower, upper) instead of a chained comparison."
        )


def _short_name(expression: HorizonExpression) -> str:
    """The expression as written if a person would type that; else of what it is, and where."""
    name = str(expression)
    if len(name) <= LONGEST_NAME:
        return name
    kinds = " and ".join(dict.fromkeys(atom.place for atom in expression.atoms))
    symbols = names_of(symbols_of(atom.expression for atom in expression.atoms))
    for shown in range(len(symbols), 0, -1):
        more = "" if shown == len(symbols) else " and more"
        name = f"{kinds} of {', '.join(symbols[:shown])}{more}"
        if len(name) <= LONGEST_NAME:
            return name
    return kinds if len(kinds) <= LONGEST_NAME else "several values over the horizon"


def _is_symbolic(value: object) -> bool:
    """Whether a limit has symbols in it, alone or in a list."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    return any(
        isinstance(entry, (HorizonExpression, ca.MX))
        or (isinstance(entry, ca.SX) and bool(ca.symvar(entry)))
        for entry in entries
    )


def stacked(rows: Sequence[HorizonExpression]) -> HorizonExpression:
    """Values over the horizon as one column."""
    atoms = {id(atom): atom for row in rows for atom in row.atoms}
    values = ca.vertcat(*[ca.vec(row.value) for row in rows])
    return HorizonExpression(values, tuple(atoms.values()))


def as_expression(name: str, value: object) -> ca.SX:
    """A number, a CasADi expression, or a list of them, as one SX; columns of lists.

    Args:
        name: what the value is, for the message.
        value: SX, DM, number, array, or a list of such.

    Raises:
        ValueError: an MX, a value over the horizon, or what is no expression at all.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    entries: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    for entry in entries:
        if isinstance(entry, ca.MX):
            raise ValueError(
                f"{name} is a casadi.MX; problems are posed in casadi.SX: make every symbol with "
                "ca.SX.sym, and turn an MX function into SX by function.expand()."
            )
        if isinstance(entry, HorizonExpression):
            raise ValueError(
                f"{name} contains {entry}, a value over the horizon, expected an expression of the "
                "problem's symbols; take it after the arithmetic, as in at_end(x - 1)."
            )
    try:
        column = ca.vertcat(*entries) if isinstance(value, (list, tuple)) else entries[0]
        return ca.SX(column)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name} is {value!r}, expected a CasADi expression (SX) or numbers."
        ) from error


def take(kind: Kind, expression: object, time: float | None = None) -> HorizonExpression:
    """An expression of the problem's symbols, taken in one way."""
    column = ca.vec(as_expression(f"{kind.value}(...)", expression))
    symbol = ca.SX.sym(kind.value, column.numel())
    return HorizonExpression(symbol, (Atom(kind, column, symbol, time),))


def integral(expression: ca.SX) -> HorizonExpression:
    """Int_0^T expression dt, by the scheme's own quadrature."""
    return take(Kind.INTEGRAL, expression)


def at_start(expression: ca.SX) -> HorizonExpression:
    """The expression at the start of the horizon."""
    return take(Kind.START, expression)


def at_end(expression: ca.SX) -> HorizonExpression:
    """The expression at the end of the horizon."""
    return take(Kind.END, expression)


def at(time: float, expression: ca.SX) -> HorizonExpression:
    """The expression at a time inside a fixed horizon.

    Raises:
        ValueError: a time that is not a number.
    """
    if not isinstance(time, (int, float, np.number)) or not np.isfinite(time):
        raise ValueError(
            f"at({time}, ...) needs a number as its time; use at_start or at_end at a free end."
        )
    return take(Kind.POINT, expression, float(time))


def along_path(expression: ca.SX) -> HorizonExpression:
    """The expression as a function of time."""
    return take(Kind.PATH, expression)


def symbols_of(expressions: Iterable[ca.SX]) -> list[ca.SX]:
    """All symbols that occur, each once, in the order of their first occurrence."""
    found: dict[int, ca.SX] = {}
    for expression in expressions:
        for symbol in ca.symvar(expression):
            found.setdefault(symbol.element_hash(), symbol)
    return list(found.values())


def written(expression: ca.SX) -> str:
    """An expression as CasADi writes it, but with every part where it occurs.

    CasADi abbreviates what occurs twice as "@1=...", which nobody would type. What gets longer than
    a person would read is left as CasADi has it.
    """
    column = ca.SX(expression)
    symbols = ca.symvar(column)
    if not ("@" in str(column) or MARK in str(column)) or not symbols:
        return str(column)
    function = ca.Function("e", [ca.vertcat(*symbols)], [column])
    work: dict[int, str] = {}
    entries = ["0"] * column.numel()
    for k in range(function.n_instructions()):
        operation, places = function.instruction_id(k), function.instruction_input(k)
        if operation == ca.OP_OUTPUT:
            entries[function.instruction_output(k)[1]] = work[places[0]]
            continue
        if operation == ca.OP_INPUT:
            text = symbols[places[1]].name()
        elif operation == ca.OP_CONST:
            text = str(ca.SX(function.instruction_constant(k)))
        else:
            operands = [ca.SX.sym(work[place]) for place in places]
            build = ca.SX.unary if len(operands) == 1 else ca.SX.binary
            text = str(build(operation, *operands))
            if text.startswith(MARK) and work[places[-1]] == "1":
                text = work[places[0]].replace("fabs", "absolute", 1)
        if len(text) > LONGEST_TEXT:
            return str(column)
        work[function.instruction_output(k)[0]] = text
    return entries[0] if column.is_scalar() else f"[{', '.join(entries)}]"


def names_of(symbols: Iterable[ca.SX]) -> list[str]:
    """Names of symbols, each once; the components of a vector by the vector's name."""
    names = [symbol.name() for symbol in symbols]
    return list(dict.fromkeys(VECTOR_COMPONENT.sub(r"\1", name) for name in names))
