"""A nonlinear program of functions in NumPy: the numbers that CasADi asks for, without a copy.

    z -> f, df/dz, g, dg/dz        (z, sigma, y) -> d^2 (sigma f + y . g) / dz^2

An exception within a function ends an optimiser with words of its own; `Functions.failure` keeps
what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.nlp import Array, NonlinearProgram


@dataclass(frozen=True, eq=False)
class Pattern:
    """Places of the entries of a sparse matrix, column by column and from above in each.

    Args:
        rows, columns: of the entries.
        shape: of the matrix.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    shape: tuple[int, int]

    @property
    def sparsity(self) -> ca.Sparsity:
        """The same for CasADi."""
        starts = np.searchsorted(self.columns, np.arange(self.shape[1] + 1))
        return ca.Sparsity(*self.shape, starts.tolist(), self.rows.tolist())


@dataclass(frozen=True, eq=False)
class Functions:
    """What a program is made of.

    Args:
        objective, gradient, constraints: of z.
        jacobian: of z, the entries of its pattern.
        hessian: of (z, sigma, y), the entries of its pattern, an upper triangle.
        jacobian_pattern, hessian_pattern: places of the entries.
        failure: the first exception that a function raised, if any.
    """

    objective: Callable[[Array], float]
    gradient: Callable[[Array], Array]
    constraints: Callable[[Array], Array]
    jacobian: Callable[[Array], Array]
    hessian: Callable[[Array, float, Array], Array]
    jacobian_pattern: Pattern
    hessian_pattern: Pattern
    failure: list[BaseException] = field(default_factory=list)

    def program(
        self, lower: Array, upper: Array, constraint_lower: Array, constraint_upper: Array
    ) -> NonlinearProgram:
        """The program, between these bounds."""
        size, rows = lower.size, constraint_lower.size

        def wrapped(
            name: str, evaluate: Callable, output: ca.Sparsity, *inputs: int
        ) -> _Evaluation:
            return _Evaluation(name, evaluate, inputs, output, self.failure)

        dense = ca.Sparsity.dense
        return NonlinearProgram(
            objective=wrapped("f", self.objective, dense(1, 1), size),
            gradient=wrapped("df", self.gradient, dense(size, 1), size),
            constraints=wrapped("g", self.constraints, dense(rows, 1), size),
            jacobian=wrapped("dg", self.jacobian, self.jacobian_pattern.sparsity, size),
            hessian=wrapped("hessian", self._scaled, self.hessian_pattern.sparsity, size, 1, rows),
            lower=lower,
            upper=upper,
            constraint_lower=constraint_lower,
            constraint_upper=constraint_upper,
        )

    def _scaled(self, z: Array, sigma: Array, multipliers: Array) -> Array:
        return self.hessian(z, float(sigma[0]), multipliers)


class _Evaluation(ca.Callback):
    """A function of dense columns; its one output has the given pattern."""

    def __init__(
        self,
        name: str,
        evaluate: Callable,
        inputs: Sequence[int],
        output: ca.Sparsity,
        failure: list[BaseException],
    ) -> None:
        ca.Callback.__init__(self)
        self.evaluate, self.inputs, self.output = evaluate, tuple(inputs), output
        self.failure = failure
        self.construct(name, {})

    def get_n_in(self) -> int:
        return len(self.inputs)

    def get_n_out(self) -> int:
        return 1

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        return ca.Sparsity.dense(self.inputs[i], 1)

    def get_sparsity_out(self, i: int) -> ca.Sparsity:
        return self.output

    def has_eval_buffer(self) -> bool:
        return True

    def eval_buffer(self, arguments: Sequence[memoryview], results: Sequence[memoryview]) -> int:
        if self.failure:  # nothing is worth evaluating any more
            return 1
        columns = [np.frombuffer(argument, dtype=float) for argument in arguments]
        try:
            with np.errstate(all="ignore"):  # the optimiser sees values that are not finite
                np.frombuffer(results[0], dtype=float)[...] = self.evaluate(*columns)
        except BaseException as error:  # raised again when the optimiser has returned
            self.failure.append(error)
            return 1
        return 0
