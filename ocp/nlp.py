"""Nonlinear programs, the waist between transcription and optimiser.

    minimise f(z)   subject to   lower <= z <= upper,   constraint_lower <= g(z) <= constraint_upper

with the Lagrangian sigma f + multipliers . g. Nothing here knows of control or of an optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import casadi as ca
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Status(Enum):
    """How a solve ended; the value is the word used in files and on the command line."""

    SOLVED = "solved"
    NOT_A_MINIMUM = "not-a-minimum"
    INACCURATE = "inaccurate"
    INFEASIBLE = "infeasible"
    ITERATION_LIMIT = "iteration-limit"
    TIME_LIMIT = "time-limit"
    INVALID_NUMBER = "invalid-number"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        """What it means, for the reader."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.SOLVED: "The point satisfies the first- and second-order conditions of a minimum.",
    Status.NOT_A_MINIMUM: (
        "The point is stationary, but the cost falls in some direction: a saddle or a maximum. "
        "Start from other controls."
    ),
    Status.INACCURATE: (
        "The optimiser stopped near a stationary point, short of the tolerance asked for."
    ),
    Status.INFEASIBLE: "No point that satisfies the constraints was found.",
    Status.ITERATION_LIMIT: "The iteration limit was reached before the tolerance.",
    Status.TIME_LIMIT: "The time limit was reached before the tolerance.",
    Status.INVALID_NUMBER: "The model returned a value that is not a finite number.",
    Status.INTERRUPTED: "The solve was interrupted; this is the best point so far.",
    Status.FAILED: "The optimiser gave up; its own words say why.",
}


@dataclass(frozen=True, eq=False)
class NonlinearProgram:
    """A sparse program with exact first and second derivatives.

    Args:
        objective: z -> f.
        gradient: z -> df/dz, dense.
        constraints: z -> g.
        jacobian: z -> dg/dz, sparse.
        hessian: (z, sigma, multipliers) -> upper triangle of the Lagrangian's Hessian, sparse.
        lower, upper: bounds of z.
        constraint_lower, constraint_upper: bounds of g.
    """

    objective: ca.Function
    gradient: ca.Function
    constraints: ca.Function
    jacobian: ca.Function
    hessian: ca.Function
    lower: Array
    upper: Array
    constraint_lower: Array
    constraint_upper: Array


@dataclass(frozen=True)
class Iteration:
    """What a progress report says of one iteration."""

    number: int
    objective: float
    infeasibility: float


Progress = Callable[[Iteration], None]


@dataclass(frozen=True, eq=False)
class NLPResult:
    """Where an optimiser stopped.

    Args:
        status: our reading of its return code.
        backend_status: its own words.
        point: z.
        multipliers: of g.
        bound_multipliers: of the bounds of z, negative at a lower and positive at an upper bound.
        iterations: how many, or None if it did not say.
        build_seconds, solve_seconds: wall time to prepare and to run the optimiser.
    """

    status: Status
    backend_status: str
    point: Array
    multipliers: Array
    bound_multipliers: Array
    iterations: int | None
    build_seconds: float
    solve_seconds: float

    def after(self, earlier: NLPResult) -> NLPResult:
        """This result with the effort of an earlier run that led to it."""
        return replace(
            self,
            iterations=(self.iterations or 0) + (earlier.iterations or 0),
            build_seconds=self.build_seconds + earlier.build_seconds,
            solve_seconds=self.solve_seconds + earlier.solve_seconds,
        )
