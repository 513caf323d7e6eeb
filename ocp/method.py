"""Which way of solving a problem suits it: its size, and a flop model.

With N members, n states, m controls in each of K intervals, one second-order step takes about

    Riccati recursion on the stacked state    4 K (N n + m)^3
    states eliminated, dense Hessian          N n (m K)^2 + (m K)^3 / 3
    Hessian-vector products                   PRODUCTS products of 8 N K (n + 1) (n + m) each
    multiple shooting, sparse factorisation   as the dense Hessian, SPARSE times as slow

floating-point operations, and CALLS calls of NumPy for every interval. With soft rows, hard rows
along the way or bounds of states, the states eliminated leave a program for IPOPT, whose step was
fitted to measurements, as was one of shooting beside it; with D decisions and R rows of stages,

    states eliminated     FIXED + INTERVAL K + DENSE D^2 + PER_ENTRY N K n D + ROW R D + PAIR R^2 D
    multiple shooting     the less of FILL N n D^1.5 and STACKED K (N n)^2 (N n + m)     seconds.

The rate of operations, in units of that of calls, is measured once in a process, and rounded to a
power of CALIBRATION times that of a typical machine: neither noise nor load, which slow both down,
change the way that a request takes. What is counted in gradients, or was fitted to measurements, is
that of a typical machine.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np

from ocp.blas_threads import threads_for
from ocp.compression import directions
from ocp.stages import StagedProblem
from ocp.trajectory import decision_bounds

PRODUCTS = 60  # Hessian-vector products of a truncated step, typical
SPARSE = 15.0  # how much slower a sparse factorisation is than matrix products, typical
CALLS = {"condensed": 30, "riccati": 60, "matrix-free": 3000}  # NumPy calls for one interval
FEWEST_STATES = 5_000  # of all members and layers, from which eliminating them pays for sure
MOST_SPARSE = 100  # controls of one interval, whose dense blocks a sparse factorisation fills in
GRADIENT_CALLS, STEP_CALLS = 25, 250  # NumPy calls for one interval of a gradient, of a step
SLOWED = 6.0  # how much slower matrix products run on blocks of a few rows
PER_ENTRY = 4e-9  # s, to carry one mixed derivative back by one interval
EVALUATION = 4.0  # of a step with its evaluations, relative to its linear algebra
MOST_BYTES = 6e9  # of the dense Hessian with its factor and two copies
BYTES = 100.0  # for an entry of a program's derivatives: values, indices, and those of the factor
FIXED, INTERVAL, DENSE, ROW, PAIR = 3e-3, 4e-4, 1.6e-7, 1.5e-7, 6e-10  # s, of a program's step
FILL, STACKED = 1.5e-7, 7e-10  # s, of a step of shooting: many members, few of them
CALIBRATION = 8.0  # steps in which the rate of operations of this machine counts
SEPARABLE_RATIO = 0.5  # the recursion must promise this share of the dense step's time


class Method(Enum):
    """A way of solving; the value is its word on the command line."""

    AUTO = "auto"
    SHOOTING = "shooting"
    CONDENSED = "condensed"
    RICCATI = "riccati"
    MATRIX_FREE = "matrix-free"


@dataclass(frozen=True)
class Machine:
    """How fast this machine is.

    Args:
        flops: matrix products, 1/s.
        call: one small NumPy operation, s.
    """

    flops: float
    call: float

    @classmethod
    @cache
    def measured(cls) -> Machine:
        """This one, with the BLAS on one thread; measured once, in some 6 ms."""
        size, products, calls = 200, [], []
        matrix, small = np.ones((size, size)), np.ones((4, 4))
        with threads_for(0):
            for _ in range(8):
                begin = time.perf_counter()
                matrix @ matrix
                products.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                for _ in range(100):
                    small @ small
                calls.append((time.perf_counter() - begin) / 100)
        return cls(2 * size**3 / min(products), min(calls))

    @classmethod
    def calibrated(cls) -> Machine:
        """The typical one, or one whose operations are slower or faster, as this one's are."""
        measured = cls.measured()
        share = measured.flops * measured.call / (TYPICAL.flops * TYPICAL.call)
        power = round(math.log(share, CALIBRATION))
        return cls(TYPICAL.flops * CALIBRATION**power, TYPICAL.call)


TYPICAL = Machine(6.8e10, 7.6e-7)  # two cores of 2026, one of them at work


@dataclass(frozen=True)
class Choice:
    """A method, and the sentence that says why."""

    method: Method
    reason: str


@dataclass(frozen=True)
class Sizes:
    """Sizes of a problem; the largest where they vary.

    Args:
        members, state, control, intervals, decisions: their numbers.
        dense: rows of the dense Hessian, which is compressed in wide stages.
    """

    members: int
    state: int
    control: int
    intervals: int
    decisions: int
    dense: int

    @classmethod
    def of(cls, staged: StagedProblem) -> Sizes:
        """Sizes of a staged problem."""
        control = max(stage.control_size for stage in staged.stages)
        compressed = directions(staged) if control > MOST_SPARSE else None
        return cls(
            staged.members,
            max(stage.state_size for stage in staged.stages),
            control,
            staged.intervals,
            staged.decision_size,
            staged.decision_size if compressed is None else compressed,
        )

    def seconds(self, method: Method, machine: Machine = TYPICAL) -> float:
        """Expected time of one second-order step."""
        stacked = self.members * self.state
        if method is Method.RICCATI:
            flops = 4.0 * self.intervals * (stacked + self.control) ** 3
        elif method is Method.MATRIX_FREE:
            product = 8.0 * self.intervals * self.members * (self.state + 1)
            flops = PRODUCTS * product * (self.state + self.control)
        else:
            size = float(self.dense if method is Method.CONDENSED else self.decisions)
            flops = stacked * size**2 + size**3 / 3
        if method is Method.SHOOTING:
            return SPARSE * flops / machine.flops
        calls = CALLS[method.value] * self.intervals
        return flops / machine.flops + calls * machine.call

    def program_seconds(self, rows: int) -> float:
        """Expected time of a step of IPOPT without states, with so many rows of stages."""
        size = float(self.decisions)
        carried = PER_ENTRY * self.members * self.intervals * self.state * size
        own = FIXED + INTERVAL * self.intervals + DENSE * size**2
        return own + carried + (ROW * rows + PAIR * float(rows) ** 2) * size

    def shooting_seconds(self) -> float:
        """Expected time of a step of IPOPT with the states, to be held against the same."""
        stacked = float(self.members * self.state)
        few = STACKED * self.intervals * stacked**2 * (stacked + self.control)
        return min(FILL * stacked * float(self.decisions) ** 1.5, few)

    def gradients_per_step(self, method: Method) -> float:
        """Expected cost of a second-order step, in gradients.

        Beside matrix products at full rate there are sweeps through memory: the factors below were
        fitted to both on problems of 20 to 10,000 members and 2 to 8 states.
        """
        calls = self.intervals * TYPICAL.call
        products = 16.0 * self.intervals * self.members * (self.state + 1)
        products *= self.state + self.control
        gradient = GRADIENT_CALLS * calls + SLOWED * products / TYPICAL.flops
        if method is not Method.CONDENSED:
            return max(1.0, EVALUATION * self.seconds(method) / gradient)
        stacked, size = self.members * self.state, float(self.dense)
        flops = stacked * size**2 + size**3 / 3
        memory = stacked * self.intervals * size * PER_ENTRY
        return (STEP_CALLS * calls + SLOWED * flops / TYPICAL.flops + memory) / gradient


def obstacle(staged: StagedProblem) -> str | None:
    """Why the states cannot be eliminated here; None if they can."""
    if any(stage.function.local_size for stage in staged.stages):
        return "its implicit stages have unknowns of their own"
    if kinks_or_limits(staged) is not None and program_bytes(staged) > MOST_BYTES:
        return "the derivatives of its rows in the controls would not fit"
    return None


def kinks_or_limits(staged: StagedProblem) -> str | None:
    """What makes a problem without its states a program of `ocp.reduced_program`; None if nothing.

    Problems with nothing, with bounds alone, and with equations at the end alone have minimisers
    of their own.
    """
    if any(stage.has_state_bounds for stage in staged.stages):
        return "its states have bounds"
    rows = [(k, stage.rows) for k, stage in enumerate(staged.stages)]
    rows += [(-1, term.rows) for term in staged.shared]
    for k, block in rows:
        if not block.weight.size:
            continue
        if np.isfinite(block.weight).any():
            return "its soft rows are kinks of the cost"
        if k < staged.intervals or (block.lower < block.upper).any():
            return "it has hard rows that are not equations at the end"
    if has_rows(staged) and has_bounds(staged):
        return "it has equations at the end as well as bounds"
    return None


def program_bytes(staged: StagedProblem) -> float:
    """Memory of the program's derivatives: rows times decisions, and the dense Hessian."""
    decisions = staged.decision_size
    return float(BYTES * (_dense_rows(staged) + decisions) * decisions)


def _dense_rows(staged: StagedProblem) -> int:
    """Rows of stages, bounded states among them; those of shared terms are sparse."""
    rows = 0
    for k, stage in enumerate(staged.stages):
        lower, upper = stage.state_bounds
        bounded = int((np.isfinite(lower) | np.isfinite(upper)).sum()) if k else 0
        rows += staged.members * (stage.rows.weight.size + bounded)
    return rows


def has_bounds(staged: StagedProblem) -> bool:
    """Whether a decision has a bound."""
    return bool(any(np.isfinite(bound).any() for bound in decision_bounds(staged)))


def has_rows(staged: StagedProblem) -> bool:
    """Whether there are constraint rows."""
    blocks = [stage.rows for stage in staged.stages] + [term.rows for term in staged.shared]
    return any(block.weight.size for block in blocks)


def restriction(staged: StagedProblem, method: Method) -> str | None:
    """Why a method cannot solve this problem; None if it can."""
    if method in (Method.AUTO, Method.SHOOTING):
        return None
    return obstacle(staged) or _restriction_of(staged, method)


def _restriction_of(staged: StagedProblem, method: Method) -> str | None:
    """The same where the states can be eliminated."""
    if method is Method.CONDENSED:
        return None
    found = kinks_or_limits(staged)
    if found is not None:
        return found
    if has_rows(staged):
        return "it has equations at the end, which need a dense Hessian"
    if method is Method.RICCATI and has_bounds(staged):
        return "its decisions have bounds, which need a dense Hessian"
    if method is Method.RICCATI and any(len(term.stages) > 1 for term in staged.shared):
        return "its cost couples the controls of several intervals"
    return None


def choose(staged: StagedProblem, wanted: Method = Method.AUTO) -> Choice:
    """The method to use, and why.

    A method that was asked for is used if it can solve the problem, and multiple shooting if it
    cannot.
    """
    why_not = restriction(staged, wanted)
    if why_not is not None:
        sentence = f"The problem was solved by shooting, not by {wanted.value}: {why_not}."
        return Choice(Method.SHOOTING, sentence)
    if wanted is not Method.AUTO:
        return Choice(wanted, f"The method {wanted.value} was asked for.")
    why_not = restriction(staged, Method.CONDENSED)
    if why_not is not None:
        return Choice(Method.SHOOTING, f"Multiple shooting, as the problem needs it: {why_not}.")
    if staged.members == 1:
        return Choice(
            Method.SHOOTING,
            "Multiple shooting: with one member its equations are banded, and cost little.",
        )
    rows = kinks_or_limits(staged)
    if rows is not None:
        return _choose_program(staged, rows)
    sizes = Sizes.of(staged)
    states = sizes.members * sizes.state * sizes.intervals
    if states < FEWEST_STATES and sizes.control <= MOST_SPARSE:
        return Choice(
            Method.SHOOTING, f"Multiple shooting: its program is small, with {states} states."
        )
    candidates = [
        method
        for method in (Method.CONDENSED, Method.RICCATI, Method.MATRIX_FREE)
        if _restriction_of(staged, method) is None
        and (method is not Method.CONDENSED or 32.0 * sizes.dense**2 <= MOST_BYTES)
    ]
    if not candidates:
        return Choice(Method.SHOOTING, "Multiple shooting: the dense Hessian would not fit.")
    machine = Machine.calibrated()
    seconds = {method: sizes.seconds(method, machine) for method in candidates}
    best = min(candidates, key=lambda method: seconds[method])
    if (
        best is not Method.CONDENSED
        and seconds.get(Method.CONDENSED, np.inf) * SEPARABLE_RATIO <= seconds[best]
    ):
        best = Method.CONDENSED
    others = " and ".join(method.value for method in candidates if method is not best)
    against = f" than {others}" if others else ""
    return Choice(
        best, f"Method {best.value}: its second-order steps are expected to cost less{against}."
    )


def _choose_program(staged: StagedProblem, why: str) -> Choice:
    """With the states or without them, for a problem that needs a program for IPOPT."""
    sizes = Sizes.of(staged)
    without, with_states = sizes.program_seconds(_dense_rows(staged)), sizes.shooting_seconds()
    if without < with_states:
        return Choice(
            Method.CONDENSED,
            "Method condensed, as a program in the controls and slacks for IPOPT "
            f"({why}): its steps are expected to cost less than those of shooting.",
        )
    return Choice(
        Method.SHOOTING,
        f"Multiple shooting: its steps are expected to cost less than those of condensed ({why}).",
    )
