"""Expressions that differ in their numbers alone: one structure, and numbers to put into it.

    e(x) = E(x, c),    c = all numbers that occur in e,

so that a thousand measurements (x - y_i)^2 are one function of x and y. Two expressions have the
same structure if they do the same operations on the same inputs in the same order, whatever their
numbers; each number counts as often as it is used, and exponents belong to the structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import casadi as ca
import numpy as np

from ocp.stages import Array

POWERS = (ca.OP_POW, ca.OP_CONSTPOW)  # whose exponent decides on derivatives and domain

# What CasADi makes of 2 x and of 1 / x: the operation with a number that it stands for.
SHORTHANDS = {ca.OP_TWICE: (ca.OP_MUL, 2.0), ca.OP_INV: (ca.OP_DIV, 1.0)}

# An operand: ("input", i, j), ("value", node), ("number",) or ("exponent", number).
Operand = tuple
Step = tuple[int, tuple[Operand, ...]]


@dataclass(frozen=True)
class Structure:
    """The operations of an expression, without its numbers.

    Args:
        steps: operation and operands of every node, in the order of evaluation.
        outputs: an operand for every component.
    """

    steps: tuple[Step, ...]
    outputs: tuple[Operand, ...]

    def expression(self, arguments: Sequence[ca.SX], numbers: ca.SX) -> ca.SX:
        """The column again.

        Args:
            arguments: what stands for the inputs that the structure was found with.
            numbers: as many as there were, numbers or symbols, in the same order.
        """
        nodes: list[ca.SX] = []
        taken = 0

        def value(operand: Operand) -> ca.SX:
            nonlocal taken
            kind, *where = operand
            if kind == "input":
                return arguments[where[0]][where[1]]
            if kind == "value":
                return nodes[where[0]]
            if kind == "exponent":
                return ca.SX(where[0])
            taken += 1
            return numbers[taken - 1]

        for operation, operands in self.steps:
            values = [value(operand) for operand in operands]
            combine = ca.SX.unary if len(values) == 1 else ca.SX.binary
            nodes.append(combine(operation, *values))
        return ca.vertcat(*[value(operand) for operand in self.outputs])


def structure_of(arguments: Sequence[ca.SX], expression: ca.SX) -> tuple[Structure, Array] | None:
    """The structure of a column of expressions, and the numbers in it.

    Args:
        arguments: symbols, in columns, that the expression is made of.
        expression: column.

    Returns:
        A structure, equal for expressions that differ in their numbers, and those numbers (c,), so
        that `structure.expression(arguments, numbers)` is the expression again. None for one that
        calls functions.
    """
    function = ca.Function("expression", list(arguments), [ca.densify(ca.vec(expression))])
    where: dict[int, Operand] = {}  # what is in the work vector
    constants: dict[int, float] = {}
    steps: list[Step] = []
    numbers: list[float] = []
    outputs: dict[int, tuple[Operand, float | None]] = {}

    def operand(place: int) -> Operand:
        if place in constants:
            numbers.append(constants[place])
            return ("number",)
        return where[place]

    for i in range(function.n_instructions()):
        operation = function.instruction_id(i)
        takes, gives = function.instruction_input(i), function.instruction_output(i)
        if operation == ca.OP_OUTPUT:
            place = takes[0]
            number = constants.get(place)
            outputs[gives[1]] = (where[place], None) if number is None else (("number",), number)
            continue
        if len(gives) != 1 or len(takes) > 2:
            return None  # a call of a function
        place = gives[0]
        if operation == ca.OP_CONST:
            constants[place] = function.instruction_constant(i)
            where.pop(place, None)
            continue
        if operation == ca.OP_INPUT:
            found: Operand = ("input", takes[0], takes[1])
        else:
            exponent = constants.get(takes[-1]) if operation in POWERS else None
            first = takes if exponent is None else takes[:-1]
            operands = tuple(operand(taken) for taken in first)
            if operation in SHORTHANDS:
                operation, number = SHORTHANDS[operation]
                numbers.append(number)
                operands = (("number",), *operands)
            if exponent is not None:
                operands = (*operands, ("exponent", exponent))
            found = ("value", len(steps))
            steps.append((operation, operands))
        where[place] = found
        constants.pop(place, None)
    ordered = [outputs[j] for j in range(len(outputs))]
    numbers += [number for _, number in ordered if number is not None]
    found_structure = Structure(tuple(steps), tuple(operand for operand, _ in ordered))
    return found_structure, np.array(numbers, dtype=float)
