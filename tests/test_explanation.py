"""Deliberately broken problems: each ends in its own status and names the culprit."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import casadi as ca
import numpy as np
import pytest

from ocp import (
    Constraint,
    ContinuousSolution,
    Guess,
    OptimalControlProblem,
    SolveOptions,
    Status,
    TimeGrid,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)
from ocp.explanation import degrees_of_freedom
from ocp.runge_kutta import RK4

X = ca.SX.sym("x", 2)
Y, U, T = ca.SX.sym("y"), ca.SX.sym("u"), ca.SX.sym("T")
ENERGY = integral(U**2)


def scalar(rate: ca.SX, *conditions, **changes) -> OptimalControlProblem:
    """y' = rate on [0, 1] with least energy, unless told otherwise."""
    arguments = {"horizon": 1.0, "minimize": ENERGY} | changes
    return pose(state=Y, control=U, dynamics=rate, subject_to=conditions, **arguments)


def mass(*conditions, **changes) -> OptimalControlProblem:
    """x0'' = u on [0, 1] with least energy, unless told otherwise."""
    arguments = {"horizon": 1.0, "minimize": ENERGY} | changes
    rate = ca.vertcat(X[1], U)
    return pose(state=X, control=U, dynamics=rate, subject_to=conditions, **arguments)


@dataclass(frozen=True)
class Broken:
    """A problem, and what must be said of it.

    Args:
        make: solves it.
        status: how that must end.
        words: patterns that must all be found in the message.
    """

    make: Callable[[], ContinuousSolution]
    status: Status
    words: tuple[str, ...]


START = at_start(X) == [0, 0]
ARRIVE = (at_end(X) == [1, 0]).named("arrive")
AT_ZERO = Guess(state=0.0)  # of the user's; the default would not stay there
BROKEN = {
    "a logarithm of a negative start": Broken(
        lambda: solve(scalar(ca.log(Y) + U, at_start(Y) == -1)),
        Status.INVALID_NUMBER,
        (r"dynamics of y\[layer 0\]", "start elsewhere"),
    ),
    "a cost that divides by zero": Broken(
        lambda: solve(scalar(U, at_start(Y) == 0, minimize=integral(1 / Y + U**2)), guess=AT_ZERO),
        Status.INVALID_NUMBER,
        (r"cost\[layer 0\]",),
    ),
    "a singular start, where the derivative of a root is infinite": Broken(
        lambda: solve(scalar(ca.sqrt(Y) + U, at_start(Y) == 0), guess=AT_ZERO),
        Status.INVALID_NUMBER,
        (r"derivative of the dynamics of y\[layer 0\]",),
    ),
    "a state that is driven to a singularity": Broken(
        lambda: solve(
            scalar(U * ca.sqrt(Y), at_start(Y) == 1, minimize=at_end((Y + 1) ** 2) + 1e-3 * ENERGY),
            tableau=RK4,
        ),
        Status.INVALID_NUMBER,
        ("last point", r"derivative of the dynamics of y\[layer \d+\]", "by a bound"),
    ),
    "a start outside its own bounds": Broken(
        lambda: solve(mass(at_start(X) == [-1, 0], along_path(X[0]) >= 0)),
        Status.INFEASIBLE,
        (r"initial state .* bound\[layer 0, x0\] by 1\.00e\+00",),
    ),
    "a start outside a path constraint": Broken(
        lambda: solve(mass(at_start(X) == [2, 0], (along_path(ca.sumsqr(X)) <= 1).named("ball"))),
        Status.INFEASIBLE,
        (r"ball\[layer 0\] by 3\.00e\+00",),
    ),
    "an end outside the state's bounds": Broken(
        lambda: solve(
            mass(
                at_start(X) == [1, 0],
                (at_end(X[0]) == -1).named("finish"),
                along_path(X[0]) >= 0,
            )
        ),
        Status.INFEASIBLE,
        (r"finish\[layer 50\]", "finish and the bounds of x0 cannot hold together"),
    ),
    "too little time": Broken(
        lambda: solve(mass(START, ARRIVE, along_path(U).within(-1, 1), horizon=1.9)),
        Status.INFEASIBLE,
        (r"arrive", "the bounds of u cannot hold together"),
    ),
    "two path constraints that exclude each other": Broken(
        lambda: solve(
            mass(
                START,
                (along_path(X[0] + U) >= 1).named("high"),
                (along_path(X[0] + U) <= 0).named("low"),
            )
        ),
        Status.INFEASIBLE,
        ("high and low cannot hold together|low and high cannot hold together",),
    ),
    "two ends at once": Broken(
        lambda: solve(
            mass(START, (at_end(X[0]) == 1).named("here"), (at_end(2 * X[0]) == 3).named("there"))
        ),
        Status.INFEASIBLE,
        ("here", "there", "cannot hold together"),
    ),
    "a square that is to be negative": Broken(
        lambda: solve(scalar(U, at_start(Y) == 0, (at_end(Y**2) == -1).named("imaginary"))),
        Status.INFEASIBLE,
        ("imaginary cannot be satisfied any better",),
    ),
    "fewer controls than conditions": Broken(
        lambda: solve(mass(START, ARRIVE), 1),
        Status.INFEASIBLE,
        ("arrive", "too few degrees of freedom: 2 equality rows for 1 free control"),
    ),
    "a cost without a minimum": Broken(
        lambda: solve(scalar(U, at_start(Y) == 0, minimize=at_end(Y))),
        Status.FAILED,
        ("run off", "no minimum"),
    ),
    "a saddle": Broken(
        lambda: solve(
            scalar(
                U,
                at_start(Y) == 0,
                at_end(Y) == 0,
                horizon=3.15,
                minimize=integral(U**2 - Y**2),
            ),
            20,
        ),
        Status.NOT_A_MINIMUM,
        ("saddle", "other controls"),
    ),
    "too few iterations": Broken(
        lambda: solve(
            mass(
                START,
                ARRIVE,
                along_path(U).within(-1, 1),
                at_end(T) >= 0.1,
                horizon=T,
                minimize=at_end(T),
            ),
            options=SolveOptions(max_iterations=2),
        ),
        Status.ITERATION_LIMIT,
        ("limit", "better guess"),
    ),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_problem_ends_in_its_own_status_and_names_the_culprit(case):
    solution = case.make()
    assert solution.status is case.status
    for pattern in case.words:
        assert re.search(pattern, solution.message), solution.message


CONFLICTS = {
    "bounds the wrong way round": (lambda: mass(along_path(U).within(1, -1)), "conflict"),
    "two bounds that exclude each other": (
        lambda: mass(along_path(U) >= 1, along_path(U) <= -1),
        r"along_path\(u\).*conflict",
    ),
    "two initial values": (
        lambda: scalar(U, at_start(Y) == 1, at_start(Y) == 2),
        r"at_start\(y\).*conflict",
    ),
    "a guess of the wrong size": (
        lambda: solve(mass(START), guess=Guess(state=[1, 2, 3])),
        r"guess\.state has shape \(3,\)",
    ),
}


@pytest.mark.parametrize(("make", "words"), CONFLICTS.values(), ids=list(CONFLICTS))
def test_a_conflict_in_the_statement_is_refused_before_anything_is_solved(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_sample_that_meets_a_pole_is_named():
    x, u, d = ca.SX.sym("x"), ca.SX.sym("u"), ca.SX.sym("d")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u + ca.log(d),
        horizon=1.0,
        initial_state=np.zeros((4, 1)),
        control_cost=u**2,
        data=d,
        member_data=[[1.0], [2.0], [-1.0], [3.0]],
    )
    solution = solve(problem, TimeGrid.uniform(5), RK4)
    assert solution.status is Status.INVALID_NUMBER
    assert "dynamics of x[layer 0, sample 2]" in solution.message


def test_the_sample_that_cannot_arrive_is_named_with_its_layer():
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u,
        horizon=1.0,
        initial_state=[[0.0], [0.0], [5.0]],
        control_cost=u**2,
        terminal_constraints=[Constraint("near", x, -1.0, 1.0)],
    )
    solution = solve(problem, 4)
    assert solution.status is Status.INFEASIBLE
    assert re.search(r"near\[layer 4, sample [0-2]\]", solution.message)


def test_redundant_conditions_are_no_conflict():
    problem = mass(START, at_end(X[0]) == 1, at_end(2 * X[0]) == 2)
    assert solve(problem).status is Status.SOLVED


def test_degrees_of_freedom_count_equality_rows_and_controls_that_can_move():
    solution = solve(mass(START, ARRIVE, along_path(X[0]) <= 2), 10)
    assert solution.transcription is not None
    assert degrees_of_freedom(solution.transcription.staged()) == (2, 10)
