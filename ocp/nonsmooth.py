"""Jumps and kinks, found in the expressions of a problem.

A comparison, a sign or a floor makes an expression jump where its switching function is zero,

    if_else(a < b, ..., ...):  g = a - b,        sign(a):  g = a,        floor(a):  g = sin(pi a),

and |a|, max(a, b), the root of a or a norm make it bend there. Newton's method, the schemes and
the optimality conditions hold on one side of g = 0 at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import casadi as ca

from ocp.expressions import names_of, written
from ocp.problem import OptimalControlProblem

LONGEST_TEXT = 40  # characters of an operand that is written out
COMPARISONS = {ca.OP_LT: "<", ca.OP_LE: "<=", ca.OP_EQ: "==", ca.OP_NE: "!="}
MIRRORED = {"<": ">", "<=": ">=", "==": "==", "!=": "!="}
LOGIC = (ca.OP_NOT, ca.OP_AND, ca.OP_OR)


@dataclass(frozen=True, eq=False)
class Break:
    """Where an expression of the problem jumps or bends.

    Args:
        switch: g, a scalar; the expression is smooth on either side of g = 0.
        text: the operation as a person would write it.
        where: what the expression is.
        expression: in which it occurs, a column.
        place: "path", "end", "parameters", or a time inside the horizon.
        can_jump: whether the operation is a jump; one of its own value may still be continuous.
        cure: what to write instead.
    """

    switch: ca.SX
    text: str
    where: str
    expression: ca.SX
    place: str | float
    can_jump: bool
    cure: str


def breaks(problem: OptimalControlProblem) -> list[Break]:
    """All jumps and kinks of a problem, each operation once with all expressions it occurs in."""
    found: dict[tuple[str, str | float], Break] = {}
    for where, expression, place in _expressions(problem):
        for switch, text, can_jump, cure in _breaks_of(expression):
            known = found.get((text, place))
            if known is None:
                item = Break(switch, text, where, expression, place, can_jump, cure)
            else:
                item = replace(
                    known,
                    where=f"{known.where} and {where}",
                    expression=ca.vertcat(known.expression, expression),
                )
            found[text, place] = item
    return list(found.values())


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


def _breaks_of(expression: ca.SX) -> Iterator[tuple[ca.SX, str, bool, str]]:
    """(switching function, text, whether it jumps, cure) of every operation that is not smooth."""
    expression = ca.SX(expression)
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
                    yield found
            build = ca.SX.unary if len(operands) == 1 else ca.SX.binary
            value = build(operation, *operands)
        work[result[0]] = value
        truths.discard(result[0])
        if operation in COMPARISONS or operation in LOGIC:
            truths.add(result[0])


def _operation(
    operation: int, operands: list[ca.SX], of_truths: list[bool]
) -> Iterator[tuple[ca.SX, str, bool, str]]:
    """The jumps or the kink of one operation."""
    first = operands[0]
    if operation in COMPARISONS:
        yield first - operands[1], _comparison(COMPARISONS[operation], *operands), True, ""
    elif operation in LOGIC or operation == ca.OP_IF_ELSE_ZERO:
        tested = operands[:1] if operation == ca.OP_IF_ELSE_ZERO else operands
        for operand, is_truth in zip(tested, of_truths, strict=False):
            if not is_truth:
                yield operand, _comparison("!=", operand, ca.SX(0)), True, ""
    elif operation in STEPS:
        switch, text = STEPS[operation](*operands)
        yield switch, text, True, ""
    elif operation in KINKS:
        switch, text, cure = KINKS[operation](*operands)
        yield switch, text, False, cure
    elif operation in (ca.OP_POW, ca.OP_CONSTPOW):
        exponent = operands[1]
        if exponent.is_constant() and 0 < float(exponent) < 1:
            cure = f"keep {readable(first)} above 0 by a bound, or add a small number to it"
            yield first, f"({readable(first)})**{float(exponent):g}", False, cure


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


def _absolute(a: ca.SX) -> tuple[ca.SX, str, str]:
    return a, f"|{readable(a)}|", f"write absolute({readable(a)}) from ocp"


def _extreme(name: str) -> Callable[[ca.SX, ca.SX], tuple[ca.SX, str, str]]:
    def describe(a: ca.SX, b: ca.SX) -> tuple[ca.SX, str, str]:
        text = f"{name}({readable(a)}, {readable(b)})"
        word, sign = ("above", ">=") if name == "max" else ("below", "<=")
        cure = (
            f"write largest(...) from ocp for the largest value along the path, or bound it from "
            f"{word} by a control or parameter s with s {sign} {readable(a)} and "
            f"s {sign} {readable(b)}"
        )
        return a - b, text, cure

    return describe


def _root(a: ca.SX) -> tuple[ca.SX, str, str]:
    cure = "write norm(...) from ocp for the length of a vector, or keep it above 0 by a bound"
    return a, f"sqrt({readable(a)})", cure


def _end_of_range(name: str) -> Callable[[ca.SX], tuple[ca.SX, str, str]]:
    def describe(a: ca.SX) -> tuple[ca.SX, str, str]:
        return 1 - a**2, f"{name}({readable(a)})", f"keep {readable(a)} inside (-1, 1) by a bound"

    return describe


STEPS: dict[int, Callable[..., tuple[ca.SX, str]]] = {
    ca.OP_SIGN: lambda a: (a, f"sign({readable(a)})"),
    ca.OP_FLOOR: lambda a: (ca.sin(ca.pi * a), f"floor({readable(a)})"),
    ca.OP_CEIL: lambda a: (ca.sin(ca.pi * a), f"ceil({readable(a)})"),
    ca.OP_FMOD: lambda a, b: (ca.sin(ca.pi * a / b), f"fmod({readable(a)}, {readable(b)})"),
    ca.OP_REMAINDER: lambda a, b: (
        ca.cos(ca.pi * a / b),
        f"remainder({readable(a)}, {readable(b)})",
    ),
    ca.OP_COPYSIGN: lambda a, b: (b, f"copysign({readable(a)}, {readable(b)})"),
}
KINKS: dict[int, Callable[..., tuple[ca.SX, str, str]]] = {
    ca.OP_FABS: _absolute,
    ca.OP_FMAX: _extreme("max"),
    ca.OP_FMIN: _extreme("min"),
    ca.OP_SQRT: _root,
    ca.OP_HYPOT: lambda a, b: (
        a**2 + b**2,
        f"hypot({readable(a)}, {readable(b)})",
        "write norm(...) from ocp",
    ),
    ca.OP_ASIN: _end_of_range("asin"),
    ca.OP_ACOS: _end_of_range("acos"),
}
NOT_SMOOTH = {
    *(*COMPARISONS, *LOGIC, *STEPS, *KINKS),
    *(ca.OP_IF_ELSE_ZERO, ca.OP_POW, ca.OP_CONSTPOW),
}
