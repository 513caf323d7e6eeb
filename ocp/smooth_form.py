"""The smooth form of absolute values, norms and maxima in a problem as it is written down.

What increases with |e| may have any s >= |e| in its place, since a minimum presses s down to |e|:

    min w |e|             w >= 0:  the exact l1 penalty of e = 0 with the weight w
    c |e| + r <= U        c >= 0:  c e + r <= U and -c e + r <= U
    c |e|_2 <= R                :  c^2 e.e <= R^2
    anything else increasing    :  a control or parameter s with s >= e, s >= -e,
                                   or in the second-order cone  s - r.r / s >= 0, s >= 0, r = e
    largest(e)                  :  a parameter s with e <= s

Where that is not so, in an equality or under a negative weight, these forms would have another
optimum, and the problem is refused. Monotony is proved by interval arithmetic.

Source of the cone's form, whose slopes stay bounded at its tip: Benson and Vanderbei, Math.
Program. 95 (2003), 279-302.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import casadi as ca
import numpy as np

from ocp.convex import Term, terms_of
from ocp.expressions import (
    Atom,
    Condition,
    HorizonExpression,
    Kind,
    along_path,
    at_end,
    stacked,
    take,
)
from ocp.intervals import ANYTHING, Range, range_of
from ocp.rewriting import (
    at_one_place,
    component,
    has_terms,
    is_plain,
    parts_of,
    pruned,
    substituted,
    taken_like,
    with_terms,
    with_value,
    written_out,
)

FAMILIES = {True: "norm(...)", False: "absolute(...)"}
NOT_NEGATIVE: Range = (0.0, np.inf)


@dataclass(eq=False)
class SmoothForm:
    """A problem in which terms that bend are replaced, and what was added for them.

    Args:
        ranges: of symbols, by their element hash, as far as bounds are known.
        is_maximum: whether the cost is to be maximised.
        controls: symbols of further controls, each at least the value in `values`.
        values: what the further controls are at an optimum, in the problem's symbols.
        known: the further controls, by whether they are norms and what of.
        parameters: symbols of further parameters.
        conditions: that the added symbols obey.
    """

    ranges: Mapping[int, Range]
    is_maximum: bool
    controls: list[ca.SX] = field(default_factory=list)
    values: list[ca.SX] = field(default_factory=list)
    known: dict[tuple[bool, str], ca.SX] = field(default_factory=dict)
    parameters: list[ca.SX] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)

    def cost(self, cost: HorizonExpression) -> HorizonExpression:
        """The cost without such terms.

        Raises:
            ValueError: the cost gains by a larger term.
        """
        if cost.is_path or cost.value.numel() != 1:
            return cost  # refused later, as any such cost
        value, terms = terms_of(cost.value)
        atoms = list(cost.atoms)
        for term in terms:
            self._check_cost(value, atoms, term.symbol, NOT_NEGATIVE, f"{term} in the cost")
            inner = pruned(HorizonExpression(parts_of(term), cost.atoms))
            bound = self._parameter(term, inner)
            value = ca.substitute(value, term.symbol, bound.value)
            atoms += bound.atoms
        for atom in list(atoms):
            if atom.of is not None:
                self._check_cost(value, atoms, atom.symbol, ANYTHING, f"{atom} in the cost")
                bound = self._largest(atom.of)
                value = ca.substitute(value, atom.symbol, bound.value)
                atoms = [other for other in atoms if other is not atom] + list(bound.atoms)
        for atom in list(atoms):
            smooth = self._cost_atom(value, atoms, atom)
            atoms = [smooth if other is atom else other for other in atoms]
        return HorizonExpression(ca.SX(value), tuple(atoms))

    def condition(self, given: Condition) -> list[Condition]:
        """A condition without such terms; the given one if it has none.

        Raises:
            ValueError: it is not a limit from above on what increases with a term.
        """
        whole = given.expression
        if not any(atom.of is not None for atom in whole.atoms) and not has_terms(whole):
            return [given]
        size = whole.value.numel()
        lower, upper = (np.asarray(side, dtype=float) for side in (given.lower, given.upper))
        of = whole.atoms[0].of
        is_alone = of is not None and whole.value.is_symbolic() and given.weight == np.inf
        if of is not None and is_alone and lower[0] == -np.inf:
            limits = np.full(of.value.numel(), upper[0])
            return self.condition(replace(given, expression=of, lower=-np.inf, upper=limits))
        given = replace(given, expression=at_one_place(whole))
        within = self._as_limits(given)
        if within is not None:
            return [within]
        rows: list[tuple[HorizonExpression, float, float]] = []
        for j in range(size):
            row = component(given.expression, j)
            rows += self._rows(row, float(lower[j]), float(upper[j]), given)
        lines, low, high = zip(*rows, strict=True)
        return [
            replace(given, expression=stacked(lines), lower=np.array(low), upper=np.array(high))
        ]

    def _as_limits(self, given: Condition) -> Condition | None:
        """The condition as limits of e or e.e, if it is c |e| + r <= U with numbers c > 0, r, U."""
        value = given.expression
        if given.weight != np.inf or any(a.of is not None for a in value.atoms):
            return None
        if len(value.atoms) != 1 or value.atoms[0].kind is Kind.INTEGRAL:
            return None
        inner, low, high = [], [], []
        whole = written_out(value)
        rows, terms = terms_of(whole)
        for j in range(rows.numel()):
            own = [t for t in terms if ca.depends_on(rows[j], t.symbol)]
            if len(own) != 1 or terms_of(own[0].inner)[1]:
                return None
            factor, rest = ca.jacobian(rows[j], own[0].symbol), ca.SX(rows[j])
            rest = ca.substitute(rest, own[0].symbol, ca.SX(0))
            if ca.symvar(factor) or ca.symvar(rest) or float(factor) <= 0:
                return None
            bounds = [float(np.ravel(side)[j]) for side in (given.lower, given.upper)]
            limits = [(bound - float(rest)) / float(factor) for bound in bounds]
            if limits[0] > 0 or not np.isfinite(limits[1]):
                return None
            if limits[1] < 0 or (limits[1] == 0 and own[0].is_norm):
                raise ValueError(
                    f"condition {given.name!r} asks that {own[0]} be at most {limits[1]:g}; "
                    "write the components == 0, if that is meant."
                )
            inner.append(own[0].inner)
            low.append(-np.inf if own[0].is_norm else -limits[1])
            high.append(limits[1] ** 2 if own[0].is_norm else limits[1])
        atom = value.atoms[0]
        expression = take(atom.kind, ca.vertcat(*inner), atom.time)
        return replace(given, expression=expression, lower=np.array(low), upper=np.array(high))

    def _rows(
        self, row: HorizonExpression, low: float, high: float, given: Condition
    ) -> list[tuple[HorizonExpression, float, float]]:
        """One row of a condition as rows without terms, with their bounds.

        One term is replaced at a time; what is left comes back here with its terms written out.
        """
        value, terms = terms_of(row.value)
        found: list[tuple[Atom | None, Term]] = [(None, term) for term in terms]
        atoms = []
        for atom in row.atoms:
            inside = replace(atom)
            if atom.of is None:
                expression, own = terms_of(atom.expression)
                inside = replace(atom, expression=expression)
                found += [(inside, term) for term in own]
            atoms.append(inside)
        plain = HorizonExpression(ca.SX(value), tuple(atoms))
        largest = next((atom for atom in atoms if atom.of is not None), None)
        if not found and largest is None:
            return [(row, low, high)]
        whole, ranges = written_out(plain), self._ranges_with([t for _, t in found], plain)
        reached = range_of(whole, ranges)
        # A limit that holds whatever the terms are asks nothing of them.
        low = -np.inf if reached[0] >= low else low
        high = np.inf if reached[1] <= high else high
        if largest is not None:
            assert largest.of is not None
            self._check_row(whole, largest.symbol, ranges, (low, high), str(largest), given)
            replaced = with_value(plain, largest.symbol, self._largest(largest.of))
            return self._rows(with_terms(replaced, found), low, high, given)
        inside_of, term = found[0]
        others = found[1:]
        kind = Kind.END if inside_of is None else inside_of.kind
        anything = {**ranges, term.symbol.element_hash(): ANYTHING}
        has_sides = not term.is_norm and kind is not Kind.INTEGRAL and given.weight == np.inf
        if has_sides and self._is_monotone(whole, term.symbol, anything, (low, high)):
            sides = [substituted(plain, term.symbol, side) for side in (term.inner, -term.inner)]
            return [
                line
                for side in sides
                for line in self._rows(with_terms(side, others), low, high, given)
            ]
        self._check_row(whole, term.symbol, ranges, (low, high), str(term), given)
        if inside_of is None:
            inner = pruned(HorizonExpression(parts_of(term), row.atoms))
            replaced = with_value(plain, term.symbol, self._parameter(term, inner))
        else:
            replaced = substituted(plain, term.symbol, self._slack(term, inside_of))
        return self._rows(with_terms(replaced, others), low, high, given)

    def _ranges_with(self, terms: Sequence[Term], value: HorizonExpression) -> dict[int, Range]:
        """Ranges of symbols, of terms, and of integrals of what is not negative."""
        ranges = {**self.ranges, **{t.symbol.element_hash(): NOT_NEGATIVE for t in terms}}
        for atom in value.atoms:
            if atom.kind is Kind.INTEGRAL:
                for j in range(atom.symbol.numel()):
                    if range_of(atom.expression[j], ranges)[0] >= 0.0:
                        ranges[atom.symbol[j].element_hash()] = NOT_NEGATIVE
        return ranges

    def _is_monotone(
        self, row: ca.SX, symbol: ca.SX, ranges: Mapping[int, Range], bounds: tuple[float, float]
    ) -> bool:
        """Whether the bounds hold the row on the side to which the symbol moves it."""
        slope = range_of(ca.jacobian(row, symbol), ranges)
        rises = slope[0] >= 0.0 or bounds[1] == np.inf
        falls = slope[1] <= 0.0 or bounds[0] == -np.inf
        return rises and falls

    def _check_row(
        self,
        row: ca.SX,
        symbol: ca.SX,
        ranges: Mapping[int, Range],
        bounds: tuple[float, float],
        what: str,
        given: Condition,
    ) -> None:
        if not self._is_monotone(row, symbol, ranges, bounds):
            raise _inexact(f"{what} in condition {given.name!r}")

    def _check_cost(
        self, value: ca.SX, atoms: Sequence[Atom], symbol: ca.SX, reach: Range, what: str
    ) -> None:
        plain = HorizonExpression(ca.SX(value), tuple(atoms))
        whole = written_out(plain)
        ranges = {**self._ranges_with([], plain), symbol.element_hash(): reach}
        slope = range_of(ca.jacobian(whole, symbol), ranges)
        if not (slope[1] <= 0.0 if self.is_maximum else slope[0] >= 0.0):
            raise _inexact(what)

    def _cost_atom(self, value: ca.SX, atoms: Sequence[Atom], atom: Atom) -> Atom:
        """One atom of the cost without terms: penalties and further symbols take their place."""
        expression, terms = terms_of(atom.expression)
        for term in terms:
            smooth = replace(atom, expression=expression)
            present = [smooth if other is atom else other for other in atoms]
            what = f"{term} in the cost"
            self._check_cost(value, present, term.symbol, NOT_NEGATIVE, what)
            slope = ca.jacobian(value, atom.symbol)
            weight = ca.mtimes(slope, ca.jacobian(expression, term.symbol))
            weight = -weight if self.is_maximum else weight
            symbols = ca.vertcat(*(other.symbol for other in atoms), *(t.symbol for t in terms))
            if term.is_norm or ca.depends_on(ca.vertcat(ca.vec(slope), weight), symbols):
                expression = ca.substitute(expression, term.symbol, self._slack(term, atom))
                continue
            expression = ca.substitute(expression, term.symbol, ca.SX(0))
            price, density = (1.0, weight * term.inner)
            if weight.is_constant():
                price, density = float(weight), term.inner
            if price == 0.0:
                continue
            kind = Kind.PATH if atom.kind is Kind.INTEGRAL else atom.kind
            rows = take(kind, density, atom.time)
            penalty = Condition(rows, 0.0, 0.0, str(term), price)
            self.conditions += self.condition(penalty)
        return replace(atom, expression=expression)

    def _slack(self, term: Term, atom: Atom) -> ca.SX:
        """A further symbol that is at least the term: a control along a path, else a parameter."""
        if atom.kind not in (Kind.INTEGRAL, Kind.PATH):
            value = self._parameter(term, take(atom.kind, parts_of(term), atom.time))
            return value.atoms[0].expression
        known = (term.is_norm, str(term.inner))
        if known not in self.known:
            symbol = self._control(str(term), term.value)
            self.known[known] = symbol
            inner = along_path(parts_of(term))
            if term.is_norm and not is_plain(inner):
                # Rounding in e would show in e / s near the tip; variables of their own have none.
                parts = [self._control(f"part of {term}", part) for part in term.components]
                rows = along_path(ca.vertcat(*parts)) - inner
                self.conditions += self.condition(Condition(rows, 0.0, 0.0, f"parts of {term}"))
                inner = along_path(ca.vertcat(*parts))
            self._bind(along_path(symbol), inner, str(term), is_norm=term.is_norm)
        return self.known[known]

    def _parameter(self, term: Term, inner: HorizonExpression) -> HorizonExpression:
        """A further parameter that is at least the term of a value over the horizon."""
        name = f"{'norm' if term.is_norm else 'absolute'}({inner})"
        value = taken_like(inner, self._added(name))
        if term.is_norm and not is_plain(inner):
            parts = [self._added(f"part of {name}") for _ in range(inner.value.numel())]
            rows = taken_like(inner, ca.vertcat(*parts)) - inner
            self.conditions += self.condition(Condition(rows, 0.0, 0.0, f"parts of {name}"))
            inner = taken_like(inner, ca.vertcat(*parts))
        self._bind(value, inner, name, is_norm=term.is_norm)
        return value

    def _control(self, name: str, value: ca.SX) -> ca.SX:
        """A further control of this value."""
        count = sum(symbol.name().startswith(name) for symbol in self.controls)
        self.controls.append(ca.SX.sym(name if not count else f"{name} ({count + 1})"))
        self.values.append(value)
        return self.controls[-1]

    def _added(self, name: str) -> ca.SX:
        """A further parameter."""
        self.parameters.append(ca.SX.sym(f"{name} ({len(self.parameters) + 1})"))
        return self.parameters[-1]

    def _bind(
        self, symbol: HorizonExpression, inner: HorizonExpression, name: str, *, is_norm: bool
    ) -> None:
        """The conditions s >= |e|, or s in the cone over the components of e."""
        if is_norm:
            rows, bound = symbol - inner.apply(ca.sumsqr) / symbol, symbol
            self.conditions.append(Condition(bound, 0.0, np.inf, f"{name} >= 0"))
        else:
            rows = stacked([symbol - inner, symbol + inner])
        self.conditions += self.condition(Condition(rows, 0.0, np.inf, name))

    def _largest(self, of: HorizonExpression) -> HorizonExpression:
        """A further parameter that is at least every component of a value, or of a path."""
        symbol = self._added("largest")
        rows = of - taken_like(of, symbol)
        self.conditions += self.condition(Condition(rows, -np.inf, 0.0, f"largest({of})"))
        return at_end(symbol)


def _inexact(what: str) -> ValueError:
    return ValueError(
        f"{what} may gain by being larger: it stands in an equality, in a limit from below or "
        "under a weight that is not known to be positive, where its smooth form has another "
        "optimum; bound the weight, pose each sign alone, or write ca.sqrt(e**2 + eps**2)."
    )
