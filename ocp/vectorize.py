"""CasADi functions evaluated for many columns at once by NumPy.

A scalar CasADi function is a list of elementary operations. Carried out on whole rows of columns
they run at the speed of NumPy's vector loops, several times faster than CasADi's own loop over
columns, and without a conversion between the two. For few columns like operations are carried out
together; for very few the loop of CasADi, which has no overhead per operation, is the fastest.
Both write into buffers that are bound once.

An input of one column is shared by all columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[np.float64]
Call = tuple[Callable, tuple]  # a function and its arguments, the last one being the result

BLOCK = 2048  # columns in one pass over the operations, so that its rows stay in the cache
GROUPED = 400  # columns up to which operations are grouped
# What decides between the three ways of few columns; measured, in ns.
LOOP_NS, SHARED_NS = 3.0, 10_000.0  # an operation in CasADi's loop; what shared inputs cost there
GROUPED_NS, GROUP_NS, COPIED_NS = 1500.0, 1400.0, 1.1  # a call, a group, an operation by groups
ROWS_NS, CALL_NS, VECTOR_NS = 2000.0, 320.0, 0.4  # a call, a row, an operation row by row
MOST_BUFFERS = 16  # bound at a time, of different numbers of columns


def _if_else_zero(condition: Array, value: Array) -> Array:
    return np.where(condition != 0.0, value, 0.0)


_UNARY: dict[int, Callable[[Array], Array]] = {
    ca.OP_ASSIGN: lambda x: x,
    ca.OP_NEG: np.negative,
    ca.OP_EXP: np.exp,
    ca.OP_LOG: np.log,
    ca.OP_SQRT: np.sqrt,
    ca.OP_SQ: np.square,
    ca.OP_TWICE: lambda x: x + x,
    ca.OP_SIN: np.sin,
    ca.OP_COS: np.cos,
    ca.OP_TAN: np.tan,
    ca.OP_ASIN: np.arcsin,
    ca.OP_ACOS: np.arccos,
    ca.OP_ATAN: np.arctan,
    ca.OP_NOT: np.logical_not,
    ca.OP_FLOOR: np.floor,
    ca.OP_CEIL: np.ceil,
    ca.OP_FABS: np.abs,
    ca.OP_SIGN: np.sign,
    ca.OP_ERF: erf,
    ca.OP_INV: np.reciprocal,
    ca.OP_SINH: np.sinh,
    ca.OP_COSH: np.cosh,
    ca.OP_TANH: np.tanh,
    ca.OP_ASINH: np.arcsinh,
    ca.OP_ACOSH: np.arccosh,
    ca.OP_ATANH: np.arctanh,
    ca.OP_LOG1P: np.log1p,
    ca.OP_EXPM1: np.expm1,
}
_BINARY: dict[int, Callable[[Array, Array], Array]] = {
    ca.OP_ADD: np.add,
    ca.OP_SUB: np.subtract,
    ca.OP_MUL: np.multiply,
    ca.OP_DIV: np.divide,
    ca.OP_POW: np.power,
    ca.OP_CONSTPOW: np.power,
    ca.OP_LT: np.less,
    ca.OP_LE: np.less_equal,
    ca.OP_EQ: np.equal,
    ca.OP_NE: np.not_equal,
    ca.OP_AND: np.logical_and,
    ca.OP_OR: np.logical_or,
    ca.OP_FMOD: np.fmod,
    ca.OP_COPYSIGN: np.copysign,
    ca.OP_IF_ELSE_ZERO: _if_else_zero,
    ca.OP_FMIN: np.fmin,
    ca.OP_FMAX: np.fmax,
    ca.OP_ATAN2: np.arctan2,
    ca.OP_HYPOT: np.hypot,
}
_LOGICAL = {ca.OP_LT, ca.OP_LE, ca.OP_EQ, ca.OP_NE, ca.OP_NOT, ca.OP_AND, ca.OP_OR}


def _as_number(operation: Callable) -> Callable:
    return lambda *arguments: operation(*arguments).astype(float)


@dataclass(frozen=True)
class _Program:
    """Operations on numbered work rows: `steps` are (operation, result, left, right or -1)."""

    size: int
    inputs: tuple[tuple[int, int, int], ...]  # input, row, work row
    constants: tuple[tuple[float, int], ...]
    steps: tuple[tuple[Callable, int, int, int], ...]
    outputs: tuple[tuple[int, int, int], ...]  # output, row, work row


@dataclass(frozen=True)
class Grouped:
    """The operations grouped: of one level, one kind, on operands of one kind each.

    Rows of kind 0 have all columns, rows of kind 1 have one, which all columns share.
    """

    rows: tuple[int, int]
    inputs: tuple[tuple[int, int, Any, Any], ...]  # input, kind, its rows, work rows
    constants: tuple[NDArray[np.intp], Array]
    steps: tuple[tuple[Callable, int, Any, Any, Any], ...]
    outputs: tuple[tuple[int, int, Any, Any], ...]

    @classmethod
    def of(cls, program: _Program, shares: tuple[bool, ...]) -> Grouped:
        """For inputs of which some are shared by all columns."""
        level, kind = [0] * program.size, [1] * program.size
        slot, rows = [0] * program.size, [0, 0]

        def place(work_row: int) -> None:
            slot[work_row] = rows[kind[work_row]]
            rows[kind[work_row]] += 1

        by_input: dict[int, list[tuple[int, int]]] = {}
        for i, row, work_row in program.inputs:
            kind[work_row] = int(shares[i])
            place(work_row)
            by_input.setdefault(i, []).append((row, work_row))
        for _, work_row in program.constants:
            place(work_row)
        groups: dict[tuple, list[tuple[int, int, int]]] = {}
        for operation, work_row, left, right in program.steps:
            operands: tuple[int, ...] = (left,) if right < 0 else (left, right)
            level[work_row] = 1 + max(level[operand] for operand in operands)
            kind[work_row] = min(kind[operand] for operand in operands)
            kinds = tuple(kind[operand] for operand in operands)
            key = (level[work_row], kind[work_row], kinds, id(operation))
            groups.setdefault(key, []).append((work_row, left, right))
        operations = {id(operation): operation for operation, *_ in program.steps}
        steps = []
        for key in sorted(groups, key=lambda key: key[0]):
            members = sorted(groups[key], key=lambda m: (slot[m[1]], slot[max(m[2], 0)]))
            for work_row, _, _ in members:
                place(work_row)
            target = rows_of([slot[m[0]] for m in members])
            first = (key[2][0], rows_of([slot[m[1]] for m in members]))
            second = None
            if len(key[2]) == 2:
                second = (key[2][1], rows_of([slot[m[2]] for m in members]))
            steps.append((operations[key[3]], key[1], target, first, second))
        outputs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for o, row, work_row in program.outputs:
            outputs.setdefault((o, kind[work_row]), []).append((row, slot[work_row]))
        return cls(
            (rows[0], rows[1]),
            tuple(
                (
                    i,
                    int(shares[i]),
                    rows_of([r for r, _ in pairs]),
                    rows_of([slot[w] for _, w in pairs]),
                )
                for i, pairs in by_input.items()
            ),
            (
                np.array([slot[w] for _, w in program.constants], dtype=int),
                np.array([value for value, _ in program.constants], dtype=float),
            ),
            tuple(steps),
            tuple(
                (o, k, rows_of([r for r, _ in pairs]), rows_of([w for _, w in pairs]))
                for (o, k), pairs in outputs.items()
            ),
        )


def rows_of(places: list[int]) -> Any:
    """Rows as a slice where they follow each other, as an array of numbers elsewhere."""
    first = places[0]
    if places == list(range(first, first + len(places))):
        return slice(first, first + len(places))
    return np.array(places, dtype=int)


def bound(step: tuple, arrays: tuple[Array, Array]) -> Call:
    """A step of `Grouped` as a call on rows of the arrays of both kinds, (..., rows, columns)."""
    operation, kind, target, *operands = step
    given = [part for part in operands if part is not None]
    places = [(arrays[part[0]], _broadcast(part[1])) for part in given]
    is_simple = all(isinstance(rows, slice) for _, rows in [*places, (None, target)])
    if is_simple and isinstance(operation, np.ufunc):
        views = [array[..., rows, :] for array, rows in places]
        return operation, (*views, arrays[kind][..., target, :])
    return _assign, (operation, places, arrays[kind], target)


def _broadcast(rows: Any) -> Any:
    """A row that is taken several times as one that is broadcast."""
    if isinstance(rows, np.ndarray) and (rows == rows[0]).all():
        return slice(int(rows[0]), int(rows[0]) + 1)
    return rows


def _assign(
    operation: Callable, places: list[tuple[Array, Any]], array: Array, target: Any
) -> None:
    array[..., target, :] = operation(*(values[..., rows, :] for values, rows in places))


def run(calls: list[Call]) -> None:
    """One after the other; what is not a number is left to whoever looks at the results."""
    with np.errstate(all="ignore"):
        for function, arguments in calls:
            function(*arguments)


@dataclass(frozen=True, eq=False)
class Vectorized:
    """A CasADi function of dense columns, called on arrays (rows, M).

    Args:
        function: of scalar expressions (SX).
    """

    function: ca.Function
    _buffers: dict[tuple, tuple] = field(default_factory=dict, repr=False)
    _groups: dict[tuple, Grouped] = field(default_factory=dict, repr=False)
    _ways: dict[tuple[int, bool], str] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict:
        return {"function": self.function, "_buffers": {}, "_groups": {}, "_ways": {}}

    @cached_property
    def _row_counts(self) -> tuple[int, ...]:
        return tuple(int(self.function.size1_out(o)) for o in range(self.function.n_out()))

    @cached_property
    def _program(self) -> _Program | None:
        """The operations, each result in a row of its own; None if NumPy has no such operation."""
        f = self.function
        place: dict[int, int] = {}  # of CasADi's work vector, which is written over, in ours
        inputs, constants, steps, outputs, size = [], [], [], [], 0
        for k in range(f.n_instructions()):
            code = f.instruction_id(k)
            if code == ca.OP_OUTPUT:
                o, row = f.instruction_output(k)
                outputs.append((o, row, place[f.instruction_input(k)[0]]))
                continue
            if code == ca.OP_INPUT:
                i, row = f.instruction_input(k)
                inputs.append((i, row, size))
            elif code == ca.OP_CONST:
                constants.append((f.instruction_constant(k), size))
            else:
                operands = [place[slot] for slot in f.instruction_input(k)]
                table = _UNARY if code in _UNARY else _BINARY
                if code not in table:
                    return None
                operation = table[code]
                if code in _LOGICAL:
                    operation = _as_number(operation)
                if table is _UNARY:
                    operands = [operands[0], -1]
                steps.append((operation, size, operands[0], operands[1]))
            place[f.instruction_output(k)[0]] = size
            size += 1
        return _Program(size, tuple(inputs), tuple(constants), tuple(steps), tuple(outputs))

    def __call__(self, *inputs: Array) -> list[Array]:
        """Outputs, each (rows, M), for inputs of M columns, or of one that is shared by all."""
        widths = [argument.shape[1] for argument in inputs]
        columns = max(widths)
        program = self._program
        if program is None:
            return self._loop(columns, inputs)
        if columns <= GROUPED:
            shares = 1 in widths and columns > 1
            key = (columns, shares)
            way = self._ways.get(key)
            if way is None:
                way = self._ways[key] = self._fastest(columns, shares)
            if way == "loop":
                return self._loop(columns, inputs)
            if way == "groups":
                return self._grouped(columns, inputs)
        outputs = [np.zeros((rows, columns)) for rows in self._row_counts]
        with np.errstate(all="ignore"):
            for start in range(0, columns, BLOCK):
                self._pass(program, slice(start, start + BLOCK), inputs, outputs)
        return outputs

    def grouped(self, shares: tuple[bool, ...]) -> Grouped | None:
        """The operations in groups, some inputs being shared; None if NumPy lacks one of them."""
        if self._program is None:
            return None
        if shares not in self._groups:
            self._groups[shares] = Grouped.of(self._program, shares)
        return self._groups[shares]

    @cached_property
    def _levels(self) -> int:
        """Number of groups, if nothing is shared."""
        grouped = self.grouped((False,) * self.function.n_in())
        assert grouped is not None
        return len(grouped.steps)

    def _fastest(self, columns: int, shares: bool) -> str:
        """Which of "loop", "groups" and "rows" is expected to take the least time."""
        assert self._program is not None
        size = len(self._program.steps) + len(self._program.outputs)
        nanoseconds = {
            "loop": (SHARED_NS if shares else 0.0) + LOOP_NS * size * columns,
            "groups": GROUPED_NS + GROUP_NS * self._levels + COPIED_NS * size * columns,
            "rows": ROWS_NS + CALL_NS * size + VECTOR_NS * size * columns,
        }
        return min(nanoseconds, key=lambda way: nanoseconds[way])

    def _pass(
        self, program: _Program, block: slice, inputs: tuple[Array, ...], outputs: list[Array]
    ) -> None:
        cut = [a if a.shape[1] == 1 else a[:, block] for a in inputs]
        work: list[Array] = [None] * program.size  # type: ignore[list-item]
        for i, row, place in program.inputs:
            work[place] = cut[i][row]
        for value, place in program.constants:
            work[place] = np.float64(value)  # type: ignore[call-overload]
        for operation, place, left, right in program.steps:
            work[place] = operation(work[left]) if right < 0 else operation(work[left], work[right])
        for o, row, place in program.outputs:
            outputs[o][row, block] = work[place]

    def _grouped(self, columns: int, inputs: tuple[Array, ...]) -> list[Array]:
        """By groups of like operations, each on all its rows at once."""
        shares = tuple(argument.shape[1] == 1 and columns > 1 for argument in inputs)
        grouped, work, calls = self._kept(("groups", columns, shares), self._bind_groups)
        for i, kind, rows, places in grouped.inputs:
            work[kind][places] = inputs[i][rows]
        run(calls)
        outputs = [np.zeros((rows, columns)) for rows in self._row_counts]
        for o, kind, rows, places in grouped.outputs:
            outputs[o][rows] = work[kind][places]
        return outputs

    def _loop(self, columns: int, inputs: tuple[Array, ...]) -> list[Array]:
        """By CasADi's loop over the columns."""
        shared = tuple(i for i, a in enumerate(inputs) if a.shape[1] == 1 and columns > 1)
        evaluate, into, out_of, _ = self._kept(("loop", columns, shared), self._bind_loop)
        for buffer, argument in zip(into, inputs, strict=True):
            buffer[...] = argument.T
        evaluate()
        return [buffer.T.copy() for buffer in out_of]

    def _kept(self, key: tuple, bind: Callable[[int, tuple], tuple]) -> tuple:
        """Buffers of a way, for so many columns and these shared inputs; the oldest are dropped."""
        if key not in self._buffers:
            if len(self._buffers) >= MOST_BUFFERS:
                self._buffers.pop(next(iter(self._buffers)))
            self._buffers[key] = bind(*key[1:])
        return self._buffers[key]

    def _bind_groups(self, columns: int, shares: tuple[bool, ...]) -> tuple:
        grouped = self.grouped(shares)
        assert grouped is not None
        work = np.empty((grouped.rows[0], columns)), np.empty((grouped.rows[1], 1))
        work[1][grouped.constants[0], 0] = grouped.constants[1]
        return grouped, work, [bound(step, work) for step in grouped.steps]

    def _bind_loop(self, columns: int, shared: tuple[int, ...]) -> tuple:
        mapped = self.function
        if columns > 1:
            mapped = mapped.map("mapped", "serial", columns, list(shared), [])
        buffer: Any
        buffer, evaluate = mapped.buffer()
        into = [
            np.zeros((1 if i in shared else columns, self.function.size1_in(i)))
            for i in range(self.function.n_in())
        ]
        out_of = [np.zeros((columns, rows)) for rows in self._row_counts]
        for i, array in enumerate(into):
            if array.size:
                buffer.set_arg(i, array.data)
        for o, array in enumerate(out_of):
            if array.size:
                buffer.set_res(o, array.data)
        return evaluate, into, out_of, (mapped, buffer)
