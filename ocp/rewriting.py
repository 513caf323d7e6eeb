"""Values over the horizon rewritten: symbols replaced inside, parts taken, terms found.

A value is an expression of symbols, each for an expression of the problem taken in one way; to
replace a symbol in what is taken makes a new atom, since others may share the old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import casadi as ca
import numpy as np

from ocp.convex import Term, terms_of
from ocp.expressions import Atom, Condition, HorizonExpression, Kind, along_path, at_end, take
from ocp.intervals import ANYTHING, Range


def known_ranges(conditions: Sequence[Condition], clock: ca.SX, times: Range) -> dict[int, Range]:
    """Ranges of symbols that conditions on them alone bound along the path, and of the time.

    Args:
        conditions: of the problem.
        clock: symbol of the time.
        times: first and last, as far as they are fixed.
    """
    ranges: dict[int, Range] = {clock.element_hash(): times}
    for condition in conditions:
        atoms = condition.expression.atoms
        if len(atoms) != 1 or condition.weight != np.inf or atoms[0].of is not None:
            continue
        if not condition.expression.value.is_valid_input() or atoms[0].kind is not Kind.PATH:
            continue
        expression = written_out(condition.expression)
        for j in range(expression.numel()):
            if expression[j].is_symbolic():
                key = expression[j].element_hash()
                low, high = ranges.get(key, ANYTHING)
                lower, upper = (float(np.ravel(b)[j]) for b in (condition.lower, condition.upper))
                ranges[key] = (max(low, lower), min(high, upper))
    return ranges


def written_out(value: HorizonExpression) -> ca.SX:
    """The value with its atoms' expressions in place, whichever times they are taken at.

    An integral is its symbol plus its density, so that slopes in what the density is made of have
    the right sign; what a largest value is made of does not show.
    """
    expression = value.value
    for atom in value.atoms:
        if atom.kind is not Kind.LARGEST:
            inner = atom.expression
            inner = atom.symbol + inner if atom.kind is Kind.INTEGRAL else inner
            expression = ca.substitute(expression, atom.symbol, inner)
    return ca.SX(expression)


def at_one_place(value: HorizonExpression) -> HorizonExpression:
    """The value as one expression, if all of it is taken along the path or at one time."""
    places = {(atom.kind, atom.time) for atom in value.atoms}
    kind, time = next(iter(places))
    if len(places) > 1 or kind in (Kind.INTEGRAL, Kind.LARGEST):
        return value
    return take(kind, written_out(value), time)


def taken_like(value: HorizonExpression, symbol: ca.SX) -> HorizonExpression:
    """A parameter, taken where it can be compared with a value: on a path, at a point or end."""
    kinds = {atom.kind for atom in value.atoms}
    times = {atom.time for atom in value.atoms}
    if kinds == {Kind.PATH}:
        return along_path(symbol)
    if kinds == {Kind.POINT} and len(times) == 1:
        return take(Kind.POINT, symbol, times.pop())
    return at_end(symbol)


def parts_of(term: Term) -> ca.SX:
    """E of |e|, a column for a norm."""
    return ca.vertcat(*term.components) if term.is_norm else term.inner


def is_plain(value: HorizonExpression) -> bool:
    """Whether a value consists of unknowns of the program, which are exact to their last digit."""
    if len(value.atoms) != 1 or not value.value.is_valid_input():
        return False
    expression = written_out(value)
    return all(expression[j].is_symbolic() for j in range(expression.numel()))


def pruned(value: HorizonExpression) -> HorizonExpression:
    """The value without atoms that do not occur in it."""
    occur = tuple(a for a in value.atoms if ca.depends_on(value.value, a.symbol))
    return replace(value, atoms=occur)


def component(value: HorizonExpression, j: int) -> HorizonExpression:
    """One component of a value, with the components of atoms that occur in it alone."""
    row, atoms = ca.SX(value.value[j]), []
    for atom in value.atoms:
        for i in range(atom.symbol.numel()):
            if not ca.depends_on(row, atom.symbol[i]):
                continue
            if atom.of is not None:
                atoms.append(atom)
                continue
            symbol = ca.SX.sym(atom.kind.value)
            atoms.append(replace(atom, expression=atom.expression[i], symbol=symbol))
            row = ca.substitute(row, atom.symbol[i], symbol)
    return HorizonExpression(row, tuple(atoms))


def has_terms(value: HorizonExpression) -> bool:
    """Whether absolute values or norms occur in it."""
    return bool(terms_of(value.value)[1]) or any(
        bool(terms_of(atom.expression)[1]) for atom in value.atoms
    )


def substituted(value: HorizonExpression, symbol: ca.SX, replacement: ca.SX) -> HorizonExpression:
    """A value with a symbol of its atoms, or of itself, replaced; changed atoms are new ones."""
    expression = ca.substitute(value.value, symbol, replacement)
    atoms = []
    for atom in value.atoms:
        if atom.of is None and ca.depends_on(atom.expression, symbol):
            new = ca.SX.sym(atom.kind.value, atom.symbol.numel())
            inner = ca.substitute(atom.expression, symbol, replacement)
            expression = ca.substitute(expression, atom.symbol, new)
            atom = replace(atom, expression=inner, symbol=new)
        atoms.append(atom)
    return HorizonExpression(ca.SX(expression), tuple(atoms))


def with_terms(
    value: HorizonExpression, terms: Sequence[tuple[Atom | None, Term]]
) -> HorizonExpression:
    """A value with its terms written out again, to be found in the next round."""
    for _, term in terms:
        marked = ca.copysign(term.value, 1.0)
        value = substituted(value, term.symbol, marked)
    return value


def with_value(
    value: HorizonExpression, symbol: ca.SX, bound: HorizonExpression
) -> HorizonExpression:
    """A value with another one in place of a symbol."""
    expression = ca.substitute(value.value, symbol, bound.value)
    atoms = (*(a for a in value.atoms if a.of is None or a.symbol is not symbol), *bound.atoms)
    return HorizonExpression(ca.SX(expression), atoms)
