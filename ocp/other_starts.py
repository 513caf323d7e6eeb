"""What is tried where the default guess fails: feasible trajectories of fixed horizons, and noise.

    the default guess  ->  [T fixed to T_k  ->  T free from there], k = 0, 1, ...  ->  noise

Any end but a solution counts as a failure: infeasible, stagnating, not a number, a saddle. The
first start that ends solved is the answer; where none does, the answer is the best of the failures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from ocp.continuous import ContinuousSolution
from ocp.deadline import Deadline
from ocp.discretize import Transcription
from ocp.first_phase import at_horizon, horizons
from ocp.guess import Guess, other_guesses
from ocp.interrupt import Request
from ocp.nlp import Status
from ocp.trajectory import Trajectory

FEASIBLE = 1e-4  # relative violation up to which a point of the first phase is one to start from
FIRST_PHASES = 2  # feasible horizons from which the end time is set free
STRUGGLES = 2  # first phases at their limit of iterations: it is not for the time that they fail
NOT_RETRIED = (Status.SOLVED, Status.INTERRUPTED, Status.TIME_LIMIT)


class Run(Protocol):
    """Solves a transcribed problem from a guess."""

    def __call__(
        self, guess: Guess | Trajectory, transcription: Transcription, is_first_phase: bool
    ) -> ContinuousSolution:
        """A first phase needs no more than a feasible trajectory."""


def leaves_room(guess: object, transcription: Transcription) -> bool:
    """Whether a guess says nothing of states and controls, so that others may be tried.

    One that gives parameters only does so if the end time is free: it sets the scale of horizons.
    """
    if guess is None:
        return True
    if not isinstance(guess, Guess) or not guess.is_open:
        return False
    return guess.parameter is None or transcription.problem.has_free_horizon


def is_failure(found: ContinuousSolution, tolerance: float) -> bool:
    """Whether another start may do better.

    A point that is stationary within the tolerance, but inaccurate for another reason, such as a
    second-order test that was too large, would be so from other starts as well.
    """
    if found.status is Status.INACCURATE and found.certificate.is_stationary(tolerance):
        return False
    return found.status not in NOT_RETRIED


def from_other_starts(
    found: ContinuousSolution,
    guess: Guess,
    transcription: Transcription,
    run: Run,
    deadline: Deadline,
    request: Request,
) -> ContinuousSolution:
    """Solve from other guesses until one of them is solved.

    Args:
        found: how the solve from the default guess ended.
        guess: the default one, perhaps with parameters of the user's.
        transcription: of the problem.
        run: what to solve with.
        deadline: after which no start is begun.
        request: whether an interrupt was asked for, after which none is begun either.

    Returns:
        The first solution that is solved, or else the best of all with a word on the others.
    """
    best = found
    for start in _starts(guess, transcription, run):
        if request.is_pending or deadline.has_passed:
            break
        if start is None:
            continue
        again = run(start, transcription, is_first_phase=False)
        if again.is_solved:
            return again
        best = min(best, again, key=_shortfall)
    if request.is_pending:
        status = Status.INTERRUPTED
        return best.changed(status=status, message=status.sentence)
    words = "Other starts ended no better."
    if deadline.has_passed:
        words = "The time limit left no time for other starts, or for all of them."
    return best.changed(message=f"{best.message} {words}")


def _starts(
    guess: Guess, transcription: Transcription, run: Run
) -> Iterator[Guess | Trajectory | None]:
    """Trajectories of the first phase, None for a horizon without one, then the guesses."""
    problem, feasible, struggles = transcription.problem, 0, 0
    for horizon in horizons(problem, guess) if problem.has_free_horizon else ():
        fixed, start = at_horizon(problem, horizon, guess)
        phase = run(start, replace(transcription, problem=fixed), is_first_phase=True)
        is_feasible = _is_feasible(phase)
        yield phase.trajectory if is_feasible else None
        feasible += is_feasible
        struggles += phase.status is Status.ITERATION_LIMIT
        if feasible == FIRST_PHASES or struggles == STRUGGLES:
            break
    yield from other_guesses(problem, guess)


def _is_feasible(found: ContinuousSolution) -> bool:
    certificate = found.certificate
    return max(certificate.dynamics, certificate.constraints) <= FEASIBLE


def _shortfall(found: ContinuousSolution) -> int:
    """0 of a solution, more the less there is to a failure; the earlier of equals is kept."""
    if found.is_solved:
        return 0
    if not _is_feasible(found):
        return 3
    return 1 if found.status in (Status.NOT_A_MINIMUM, Status.INACCURATE) else 2
