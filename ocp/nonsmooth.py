"""Jumps and kinks, found in the expressions of a problem.

A comparison, a sign or a floor makes an expression jump where its switching function is zero,

    if_else(a < b, ..., ...):  g = a - b,        sign(a):  g = a,        floor(a):  g = sin(pi a),

and |a|, max(a, b), the root of a or a norm make it bend there. Newton's method, the schemes and
the optimality conditions hold on one side of g = 0 at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import casadi as ca

from ocp.expressions import names_of, written
from ocp.problem import OptimalControlProblem

LONGEST_TEXT = 40  # characters of an operand that is written out
COMPARISONS = {ca.OP_LT: "<", ca.OP_LE: "<=", ca.OP_EQ: "==", ca.OP_NE: "!="}
MIRRORED = {"<": ">", "<=": ">=", "==": "==", "!=": "!="}
Found = tuple[ca.SX, bool, Callable[[], tuple[str, str]]]
LOGIC = (ca.OP_NOT, ca.OP_AND, ca.OP_OR)


@dataclass(frozen=True, eq=False)
class Break:
    """Where an expression of the problem jumps or bends.

    Args:
        switch: g, a scalar; the expression is smooth on either side of g = 0.
        describe: makes the operation as a person would write it, and what to write instead.
        where: what the expression is.
        expression: in which it occurs, a column.
        place: "path", "end", "parameters", or a time inside the horizon.
        can_jump: whether the operation is a jump; one of its own value may still be continuous.
    """

    switch: ca.SX
    describe: Callable[[], tuple[str, str]]
    where: str
    expression: ca.SX
    place: str | float
    can_jump: bool

    @cached_property
    def text(self) -> str:
        """The operation as a person would write it."""
        return self.describe()[0]

    @cached_property
    def cure(self) -> str:
        """What to write instead; empty for a jump."""
        return self.describe()[1]


def breaks(problem: OptimalControlProblem) -> list[Break]:
    """All jumps and kinks of a problem, each operation once with all expressions it occurs in."""
    parts = [(where, ca.SX(e), place) for where, e, place in _expressions(problem)]
    if not NOT_SMOOTH.intersection(_operations(ca.vertcat(*(ca.vec(e) for _, e, _ in parts)))):
        return []
    found: dict[tuple[int, str, str | float], Break] = {}
    for where, expression, place in parts:
        for operation, (switch, can_jump, describe) in _breaks_of(expression):
            key = (operation, str(switch), place)
            known = found.get(key)
            if known is None:
                item = Break(switch, describe, where, expression, place, can_jump)
            elif known.where.endswith(where):
                continue
            else:
                item = replace(
                    known,
                    where=f"{known.where} and {where}",
                    expression=ca.vertcat(known.expression, expression),
                )
            found[key] = item
    return list(found.values())


def _operations(expression: ca.SX) -> list[int]:
    """All operations of an expression."""
    symbols = ca.vertcat(ca.SX(0, 1), *ca.symvar(expression))
    function = ca.Function("e", [symbols], [expression])
    return [function.instruction_id(k) for k in range(function.n_instructions())]


def _expressions(problem: OptimalControlProblem) -> Iterator[tuple[str, ca.SX, str | float]]:
    """What the problem consists of: (what it is, expression, where it is taken)."""
    for j, name in enumerate(problem.state_names):
        yield f"the dynamics of {name}", problem.dynamics[j], "path"
    yield "the running cost", problem.running_cost, "path"
    yield "the running cost", problem.control_cost, "path"
    yield "the terminal cost", problem.terminal_cost, "end"
    yield "the cost of the parameters", problem.parameter_cost, "parameters"
    for constraint in (*problem.path_constraints, *problem.control_constraints):
        yield f"condition {constraint.name!r}", constraint.expression, "path"
    for constraint in problem.terminal_constraints:
        yield f"condition {constraint.name!r}", constraint.expression, "end"
    for point in problem.interior_points:
        yield f"the cost at t = {point.time:g}", point.cost, point.time
        for constraint in point.constraints:
            yield f"condition {constraint.name!r}", constraint.expression, point.time


def _breaks_of(expression: ca.SX) -> Iterator[tuple[int, Found]]:
    """Every operation that is not smooth: which, switching function, whether it jumps, words."""
    symbols = ca.symvar(expression)
    if not symbols:
        return
    function = ca.Function("e", [ca.vertcat(*symbols)], [expression])
    operations = [function.instruction_id(k) for k in range(function.n_instructions())]
    if not NOT_SMOOTH.intersection(operations):
        return
    work: dict[int, ca.SX] = {}
    truths: set[int] = set()  # places in the work vector that hold 0 or 1
    for k, operation in enumerate(operations):
        places = function.instruction_input(k)
        result = function.instruction_output(k)
        if operation == ca.OP_INPUT:
            value = symbols[places[1]]
        elif operation == ca.OP_CONST:
            value = ca.SX(function.instruction_constant(k))
        elif operation == ca.OP_OUTPUT:
            continue
        else:
            operands = [work[place] for place in places]
            of_truths = [place in truths for place in places]
            for found in _operation(operation, operands, of_truths):
                if ca.symvar(found[0]):
                    yield operation, found
            build = ca.SX.unary if len(operands) == 1 else ca.SX.binary
            value = build(operation, *operands)
        work[result[0]] = value
        truths.discard(result[0])
        if operation in COMPARISONS or operation in LOGIC:
            truths.add(result[0])


def _operation(operation: int, operands: list[ca.SX], of_truths: list[bool]) -> Iterator[Found]:
    """The jumps or the kink of one operation."""
    first = operands[0]
    if operation in COMPARISONS:
        sign = COMPARISONS[operation]
        yield first - operands[1], True, lambda: (_comparison(sign, *operands), "")
    elif operation in LOGIC or operation == ca.OP_IF_ELSE_ZERO:
        tested = operands[:1] if operation == ca.OP_IF_ELSE_ZERO else operands
        for operand, is_truth in zip(tested, of_truths, strict=False):
            if not is_truth:
                yield operand, True, partial(_not_zero, operand)
    elif operation in STEPS:
        switch, describe = STEPS[operation]
        yield switch(*operands), True, lambda: (describe(*map(readable, operands)), "")
    elif operation in KINKS:
        switch, words = KINKS[operation]
        yield switch(*operands), False, lambda: words(*map(readable, operands))
    elif operation in (ca.OP_POW, ca.OP_CONSTPOW):
        exponent = operands[1]
        if exponent.is_constant() and 0 < float(exponent) < 1:
            yield first, False, lambda: _power(readable(first), float(exponent))


def readable(expression: ca.SX) -> str:
    """An expression as a person would write it; of what it is, where that is too long."""
    text = written(expression)
    if len(text) > LONGEST_TEXT:
        return f"f({', '.join(names_of(ca.symvar(expression)))})"
    is_wrapped = text.startswith("(") and text.endswith(")") and _closes_last(text)
    return text[1:-1] if is_wrapped else text


def _closes_last(text: str) -> bool:
    """Whether the first bracket is closed by the last."""
    depth = 0
    for j, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return j == len(text) - 1
    return False


def _comparison(sign: str, left: ca.SX, right: ca.SX) -> str:
    """With the number on the right."""
    if left.is_constant():
        left, right, sign = right, left, MIRRORED[sign]
    return f"{readable(left)} {sign} {readable(right)}"


def _not_zero(operand: ca.SX) -> tuple[str, str]:
    return f"{readable(operand)} != 0", ""


def _power(base: str, exponent: float) -> tuple[str, str]:
    cure = f"keep {base} above 0 by a bound, or add a small number to it"
    return f"({base})**{exponent:g}", cure


def _absolute(a: str) -> tuple[str, str]:
    return f"|{a}|", f"write absolute({a}) from ocp"


def _maximum(a: str, b: str) -> tuple[str, str]:
    cure = (
        "write largest(...) from ocp for the largest value along the path, or bound it from above "
        f"by a control or parameter s with s >= {a} and s >= {b}"
    )
    return f"max({a}, {b})", cure


def _minimum(a: str, b: str) -> tuple[str, str]:
    cure = (
        "write -largest(-...) from ocp for the smallest value along the path, or bound it from "
        f"below by a control or parameter s with s <= {a} and s <= {b}"
    )
    return f"min({a}, {b})", cure


def _root(a: str) -> tuple[str, str]:
    cure = "write norm(...) from ocp for the length of a vector, or keep it above 0 by a bound"
    return f"sqrt({a})", cure


def _wave(a: ca.SX) -> ca.SX:
    """It changes sign at every whole number."""
    return ca.sin(ca.pi * a)


Words = Callable[..., tuple[str, str]]
STEPS: dict[int, tuple[Callable[..., ca.SX], Callable[..., str]]] = {
    ca.OP_SIGN: (lambda a: a, lambda a: f"sign({a})"),
    ca.OP_FLOOR: (_wave, lambda a: f"floor({a})"),
    ca.OP_CEIL: (_wave, lambda a: f"ceil({a})"),
    ca.OP_FMOD: (lambda a, b: _wave(a / b), lambda a, b: f"fmod({a}, {b})"),
    ca.OP_REMAINDER: (
        lambda a, b: ca.cos(ca.pi * a / b),
        lambda a, b: f"remainder({a}, {b})",
    ),
    ca.OP_COPYSIGN: (lambda _, b: b, lambda a, b: f"copysign({a}, {b})"),
}
KINKS: dict[int, tuple[Callable[..., ca.SX], Words]] = {
    ca.OP_FABS: (lambda a: a, _absolute),
    ca.OP_FMAX: (lambda a, b: a - b, _maximum),
    ca.OP_FMIN: (lambda a, b: a - b, _minimum),
    ca.OP_SQRT: (lambda a: a, _root),
    ca.OP_HYPOT: (
        lambda a, b: a**2 + b**2,
        lambda a, b: (f"hypot({a}, {b})", "write norm(...) from ocp"),
    ),
    ca.OP_ASIN: (
        lambda a: 1 - a**2,
        lambda a: (f"asin({a})", f"keep {a} inside (-1, 1) by a bound"),
    ),
    ca.OP_ACOS: (
        lambda a: 1 - a**2,
        lambda a: (f"acos({a})", f"keep {a} inside (-1, 1) by a bound"),
    ),
}
NOT_SMOOTH = {
    *(*COMPARISONS, *LOGIC, *STEPS, *KINKS),
    *(ca.OP_IF_ELSE_ZERO, ca.OP_POW, ca.OP_CONSTPOW),
}
