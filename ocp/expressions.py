"""Expressions over the horizon: they pose a problem, and are read off its solution.

    integral(e)     Int_0^T e dt          at_start(e)    e at t = 0
    along_path(e)   e at every t          at_end(e)      e at t = T
                                          at(time, e)    e at a time in between

with e a CasADi expression of the problem's symbols. They can be added, multiplied and compared:
`at_end(x) - at_start(x) == 0`, `along_path(v) <= 3`, `along_path(u).within(-1, 1)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike

LONGEST_NAME = 40  # characters of an expression that stands for a missing name


class Kind(Enum):
    """Where an expression is taken; the value is how it is written."""

    INTEGRAL = "integral"
    START = "at_start"
    END = "at_end"
    POINT = "at"
    PATH = "along_path"


@dataclass(frozen=True, eq=False)
class Atom:
    """One expression of the problem's symbols, taken in one way.

    Args:
        kind: in which way.
        expression: of the problem's symbols.
        symbol: what stands for its value in a `HorizonExpression`.
        time: of a point inside the horizon, None otherwise.
    """

    kind: Kind
    expression: ca.SX
    symbol: ca.SX
    time: float | None = None

    def __str__(self) -> str:
        arguments = str(self.expression)
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

    __array_priority__ = 1e4  # NumPy arrays on the left leave the arithmetic to this class
    __array_ufunc__ = None

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
            return _atom(atom.kind, other, atom.time)
        value = other if isinstance(other, ca.SX) else ca.SX(np.asarray(other, dtype=float))
        return HorizonExpression(value, ())

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

    def within(self, lower: ArrayLike, upper: ArrayLike) -> Condition:
        """`lower <= expression <= upper`, numbers or one for each component."""
        return Condition(self, lower, upper, _short_name(self))


@dataclass(frozen=True, eq=False)
class Condition:
    """A constraint as it is written down: `lower <= expression <= upper`.

    Args:
        expression: of values over the horizon.
        lower, upper: numbers, or one for each component.
        name: how it is called in reports and when its multiplier is asked for.
        weight: price of one unit of violation; infinite for a hard constraint.
    """

    expression: HorizonExpression
    lower: ArrayLike
    upper: ArrayLike
    name: str
    weight: float = np.inf

    def __post_init__(self) -> None:
        size = self.expression.value.numel()
        for side in ("lower", "upper"):
            bound = np.asarray(getattr(self, side), dtype=float).ravel()
            if bound.size not in (1, size):
                raise ValueError(
                    f"{self.name} has {size} components but {bound.size} values to compare with; "
                    f"give one number, or {size}."
                )
            if np.isnan(bound).any():
                raise ValueError(f"{self.name} is compared with NaN; give numbers.")
            object.__setattr__(self, side, np.broadcast_to(bound, (size,)).copy())

    @classmethod
    def of(cls, left: HorizonExpression, right: object, low: float, high: float) -> Condition:
        """`low <= left - right <= high`; a number on the right moves to the bounds."""
        if isinstance(right, (HorizonExpression, ca.SX)):
            difference = left - right
            return cls(difference, low, high, _short_name(difference))
        value = np.asarray(right, dtype=float)
        return cls(left, low + value, high + value, _short_name(left))

    def named(self, name: str) -> Condition:
        """The same constraint under a name of its own."""
        return replace(self, name=name)

    def soft(self, weight: float) -> Condition:
        """The same constraint, to be violated at this price per unit: an exact penalty."""
        return replace(self, weight=weight)

    def __bool__(self) -> bool:
        raise TypeError(
            "a constraint is neither true nor false; for two bounds on one expression write "
            "expression.within(lower, upper) instead of a chained comparison."
        )


def _short_name(expression: HorizonExpression) -> str:
    name = str(expression)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."


def _atom(kind: Kind, expression: ca.SX, time: float | None = None) -> HorizonExpression:
    column = ca.vec(ca.SX(expression))
    symbol = ca.SX.sym(kind.value, column.numel())
    return HorizonExpression(symbol, (Atom(kind, column, symbol, time),))


def integral(expression: ca.SX) -> HorizonExpression:
    """Int_0^T expression dt, by the scheme's own quadrature."""
    return _atom(Kind.INTEGRAL, expression)


def at_start(expression: ca.SX) -> HorizonExpression:
    """The expression at the start of the horizon."""
    return _atom(Kind.START, expression)


def at_end(expression: ca.SX) -> HorizonExpression:
    """The expression at the end of the horizon."""
    return _atom(Kind.END, expression)


def at(time: float, expression: ca.SX) -> HorizonExpression:
    """The expression at a time inside a fixed horizon."""
    return _atom(Kind.POINT, expression, float(time))


def along_path(expression: ca.SX) -> HorizonExpression:
    """The expression as a function of time."""
    return _atom(Kind.PATH, expression)


def symbols_of(expressions: Iterable[ca.SX]) -> list[ca.SX]:
    """All symbols that occur, each once, in the order of their first occurrence."""
    found: dict[int, ca.SX] = {}
    for expression in expressions:
        for symbol in ca.symvar(expression):
            found.setdefault(symbol.element_hash(), symbol)
    return list(found.values())
