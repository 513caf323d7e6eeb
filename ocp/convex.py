"""Absolute values, norms and maxima that state themselves smoothly.

    absolute(e) = |e|        norm(e) = sqrt(sum_j e_j^2)        largest(e) = max_t max_j e_j(t)

bend where optimal solutions like to be: at |u| = 0, at the peak of e. In a problem that `pose` is
given they are replaced by smooth terms with the same optimum (`ocp.smooth_form`); anywhere else, in
`solution.value` as well, they are plain values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

import casadi as ca

from ocp.expressions import (
    LONGEST_NAME,
    Atom,
    HorizonExpression,
    Kind,
    along_path,
    as_expression,
    names_of,
    written,
)


@overload
def absolute(expression: ca.SX) -> ca.SX: ...
@overload
def absolute(expression: HorizonExpression) -> HorizonExpression: ...
def absolute(expression: ca.SX | HorizonExpression) -> ca.SX | HorizonExpression:
    """|e|, component by component, of an expression or of a value over the horizon.

    Such as `integral(absolute(u))`, `along_path(absolute(x)) <= 1`, `absolute(at_end(x) - 1)`.
    Costs get the exact l1 penalty, w |e| = min s with s >= w e, s >= -w e; limits hold on
    both sides.

    Raises:
        ValueError: by `pose`, where a larger |e| would help: a weight that is not known to be
            positive in a cost to be minimised, an equality, a limit from below.
    """
    if isinstance(expression, HorizonExpression):
        return expression.apply(absolute)
    return _marked(ca.fabs(as_expression("absolute(...)", expression)))


@overload
def norm(expression: ca.SX) -> ca.SX: ...
@overload
def norm(expression: HorizonExpression) -> HorizonExpression: ...
def norm(expression: ca.SX | HorizonExpression) -> ca.SX | HorizonExpression:
    """Euclidean length of a column, of an expression or of a value over the horizon: a scalar.

    `at_end(norm(x)) <= 0.1` is |x|^2 <= 0.01. In a cost it is a variable s >= 0 in the second-order
    cone, s - |r|^2 / s >= 0 with r = e: at the optimum s = |e|, since the cost increases with s.

    Raises:
        ValueError: by `pose`, as for `absolute`.
    """
    if isinstance(expression, HorizonExpression):
        return expression.apply(norm)
    column = ca.vec(as_expression("norm(...)", expression))
    if column.is_scalar():
        return absolute(column)
    return _marked(ca.sqrt(ca.sumsqr(column)))


def largest(expression: ca.SX | HorizonExpression) -> HorizonExpression:
    """The largest value: over the path, and over the components of a column; a number.

    `minimize=largest(along_path(x))` is a parameter s to be minimised with `along_path(x) <= s`. An
    expression of symbols is taken along the path. The smallest value is `-largest(-e)`.

    Raises:
        ValueError: by `pose`, where a larger value would help, as for `absolute`.
    """
    of = expression if isinstance(expression, HorizonExpression) else along_path(expression)
    inner = ca.vertcat(*[atom.expression for atom in of.atoms])
    symbol = ca.SX.sym(Kind.LARGEST.value)
    return HorizonExpression(symbol, (Atom(Kind.LARGEST, inner, symbol, of=of),))


def _marked(value: ca.SX) -> ca.SX:
    """A value that is not negative, as an operation that only this module writes."""
    return ca.copysign(value, 1.0)


@dataclass(frozen=True, eq=False)
class Term:
    """An absolute value or a norm inside an expression.

    Args:
        symbol: what stands for it.
        inner: e of |e|; |e|^2 of a norm.
        is_norm: which of the two it is.
    """

    symbol: ca.SX
    inner: ca.SX
    is_norm: bool

    @property
    def components(self) -> list[ca.SX]:
        """The components of e, of a norm."""
        return _roots(self.inner)

    @property
    def value(self) -> ca.SX:
        """What it is."""
        return ca.sqrt(self.inner) if self.is_norm else ca.fabs(self.inner)

    def __str__(self) -> str:
        symbols = ", ".join(names_of(ca.symvar(self.inner)))
        if self.is_norm:
            return f"norm of {symbols}"
        text = f"absolute({written(self.inner)})"
        return text if len(text) <= LONGEST_NAME else f"absolute value of {symbols}"


def _roots(square: ca.SX) -> list[ca.SX]:
    """Components whose squares add up to an expression, which is read as a sum."""
    if square.is_leaf():
        return [ca.sqrt(square)]
    operation = square.op()
    if operation == ca.OP_ADD:
        return _roots(square.dep(0)) + _roots(square.dep(1))
    if operation == ca.OP_SQ:
        return [square.dep(0)]
    if operation == ca.OP_TWICE:
        return [math.sqrt(2.0) * root for root in _roots(square.dep(0))]
    return [ca.sqrt(square)]


def terms_of(expression: ca.SX) -> tuple[ca.SX, list[Term]]:
    """An expression with symbols in place of its outermost absolute values and norms, and these."""
    column = ca.vec(ca.SX(expression))
    symbols = ca.symvar(column)
    function = ca.Function("e", [ca.vertcat(ca.SX(0, 1), *symbols)], [ca.densify(column)])
    operations = [function.instruction_id(k) for k in range(function.n_instructions())]
    if ca.OP_COPYSIGN not in operations:
        return column, []
    plain: dict[int, ca.SX] = {}
    replaced: dict[int, ca.SX] = {}
    made_by: dict[int, tuple[int, list[ca.SX]]] = {}
    terms: list[Term] = []
    rows = [ca.SX(0)] * column.numel()
    for k, operation in enumerate(operations):
        places = function.instruction_input(k)
        result = function.instruction_output(k)
        if operation == ca.OP_OUTPUT:
            rows[result[1]] = replaced[places[0]]
            continue
        operands = [] if operation in (ca.OP_INPUT, ca.OP_CONST) else [plain[p] for p in places]
        if operation == ca.OP_INPUT:
            value = other = symbols[places[1]]
        elif operation == ca.OP_CONST:
            value = other = ca.SX(function.instruction_constant(k))
        else:
            build = ca.SX.unary if len(operands) == 1 else ca.SX.binary
            value = build(operation, *operands)
            other = build(operation, *(replaced[place] for place in places))
            term = _term(operation, operands, made_by.get(places[0]))
            if term is not None:
                terms.append(term)
                other = term.symbol
        plain[result[0]], replaced[result[0]] = value, other
        made_by[result[0]] = (operation, operands)
    whole = ca.vertcat(*rows)
    hashes = {symbol.element_hash() for symbol in ca.symvar(whole)}
    return whole, [term for term in terms if term.symbol.element_hash() in hashes]


def _term(
    operation: int, operands: list[ca.SX], source: tuple[int, list[ca.SX]] | None
) -> Term | None:
    """The term that an operation marks, None if it marks none."""
    if operation != ca.OP_COPYSIGN or source is None:
        return None
    if not (operands[1].is_constant() and float(operands[1]) == 1.0):
        return None
    made_by, inner = source
    if made_by not in (ca.OP_FABS, ca.OP_SQRT):
        return None
    return Term(ca.SX.sym("term"), inner[0], made_by == ca.OP_SQRT)
