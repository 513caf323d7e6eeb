"""Ranges of expressions by interval arithmetic: what an expression cannot leave.

    [a, b] + [c, d] = [a + c, b + d],   [a, b] [c, d] = [min of the products, max of the products]

and so on through the graph. The range found contains every value, and may be wider: enough to prove
that a weight is not negative, never to disprove it.

Source: Moore, Kearfott and Cloud, Introduction to Interval Analysis, SIAM 2009, ch. 2 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import casadi as ca
import numpy as np

Range = tuple[float, float]
ANYTHING: Range = (-math.inf, math.inf)


def range_of(expression: ca.SX, ranges: Mapping[int, Range]) -> Range:
    """Lower and upper bound of a scalar expression.

    Args:
        expression: a scalar.
        ranges: of symbols, by their element hash; the others can be anything.
    """
    expression = ca.SX(expression)
    symbols = ca.symvar(expression)
    function = ca.Function("e", [ca.vertcat(ca.SX(0, 1), *symbols)], [ca.densify(expression)])
    work: dict[int, Range] = {}
    for k in range(function.n_instructions()):
        operation, places = function.instruction_id(k), function.instruction_input(k)
        if operation == ca.OP_OUTPUT:
            return work[places[0]]
        if operation == ca.OP_INPUT:
            found = ranges.get(symbols[places[1]].element_hash(), ANYTHING)
        elif operation == ca.OP_CONST:
            found = (function.instruction_constant(k),) * 2
        else:
            rule = RULES.get(operation)
            found = ANYTHING if rule is None else rule(*(work[place] for place in places))
        work[function.instruction_output(k)[0]] = found
    return (0.0, 0.0)


def _product(a: float, b: float) -> float:
    """With 0 times infinity as 0: an end that is reached times one that is not."""
    return 0.0 if a == 0.0 or b == 0.0 else a * b


def _times(a: Range, b: Range) -> Range:
    ends = [_product(x, y) for x in a for y in b]
    return min(ends), max(ends)


def _inverse(a: Range) -> Range:
    if a[0] < 0.0 < a[1]:
        return ANYTHING
    upper = math.inf if a[0] == 0.0 else 1.0 / a[0]
    lower = -math.inf if a[1] == 0.0 else 1.0 / a[1]
    return (lower, upper) if a != (0.0, 0.0) else ANYTHING


def _square(a: Range) -> Range:
    ends = (a[0] * a[0], a[1] * a[1])
    return (0.0 if a[0] <= 0.0 <= a[1] else min(ends)), max(ends)


def _absolute(a: Range) -> Range:
    ends = (abs(a[0]), abs(a[1]))
    return (0.0 if a[0] <= 0.0 <= a[1] else min(ends)), max(ends)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700.0 else math.inf


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else -math.inf


def _rising(function: Callable[[float], float]) -> Callable[[Range], Range]:
    return lambda a: (function(a[0]), function(a[1]))


def _power(a: Range, b: Range) -> Range:
    """Of a base that is not negative, or a square; exponents are numbers."""
    exponent = b[0]
    if b[0] != b[1]:
        return (0.0, math.inf) if a[0] >= 0.0 else ANYTHING
    if exponent == 2.0:
        return _square(a)
    if a[0] < 0.0:
        is_even = exponent % 2.0 == 0.0
        return (0.0, math.inf) if is_even else ANYTHING
    if exponent <= 0.0:
        return (0.0, math.inf)
    with np.errstate(over="ignore"):
        low, high = np.power(np.array(a), exponent).tolist()
    return low, high


def _minus(a: Range) -> Range:
    return -a[1], -a[0]


RULES: dict[int, Callable[..., Range]] = {
    ca.OP_ADD: lambda a, b: (a[0] + b[0], a[1] + b[1]),
    ca.OP_SUB: lambda a, b: (a[0] - b[1], a[1] - b[0]),
    ca.OP_MUL: _times,
    ca.OP_DIV: lambda a, b: _times(a, _inverse(b)),
    ca.OP_NEG: _minus,
    ca.OP_INV: _inverse,
    ca.OP_TWICE: lambda a: (2.0 * a[0], 2.0 * a[1]),
    ca.OP_SQ: _square,
    ca.OP_FABS: _absolute,
    ca.OP_COPYSIGN: lambda a, b: _absolute(a) if b[0] > 0.0 else ANYTHING,
    ca.OP_SQRT: _rising(lambda a: math.sqrt(max(a, 0.0))),
    ca.OP_EXP: _rising(_exp),
    ca.OP_LOG: _rising(_log),
    ca.OP_TANH: _rising(math.tanh),
    ca.OP_ATAN: _rising(math.atan),
    ca.OP_SIN: lambda _: (-1.0, 1.0),
    ca.OP_COS: lambda _: (-1.0, 1.0),
    ca.OP_SIGN: lambda a: (float(a[0] > 0) - float(a[0] < 0), float(a[1] > 0) - float(a[1] < 0)),
    ca.OP_FMAX: lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    ca.OP_FMIN: lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    ca.OP_POW: _power,
    ca.OP_CONSTPOW: _power,
    **dict.fromkeys((ca.OP_LT, ca.OP_LE, ca.OP_EQ, ca.OP_NE, ca.OP_NOT), lambda *_: (0.0, 1.0)),
    **dict.fromkeys((ca.OP_AND, ca.OP_OR), lambda *_: (0.0, 1.0)),
    ca.OP_IF_ELSE_ZERO: lambda _, a: (min(a[0], 0.0), max(a[1], 0.0)),
}
