"""Default guesses keep off points at which the model is singular; those of the user are kept."""

from collections.abc import Callable

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
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
from ocp.discretize import Transcription

X, Y, V, U, W, T = (ca.SX.sym(name) for name in ("x", "y", "v", "u", "w", "t"))
GRAVITY = 9.80665


def line(*conditions, dynamics=U, **changes) -> OptimalControlProblem:
    """x' = u on [0, 1], unless told otherwise."""
    arguments = {"horizon": 1.0} | changes
    return pose(state=X, control=U, dynamics=dynamics, subject_to=conditions, **arguments)


def consumption(rate: float = 0.05, discount: float = 0.1, horizon: float = 10.0) -> tuple:
    """max Int e^{-rho t} log c, k' = r k - c, from 1 to 0: c = c0 e^{(r - rho) t}."""
    first = discount / (1.0 - np.exp(-discount * horizon))
    t = np.polynomial.legendre.leggauss(20)
    time, weight = horizon * (t[0] + 1) / 2, horizon * t[1] / 2
    utility = np.exp(-discount * time) * (np.log(first) + (rate - discount) * time)
    problem = pose(
        state=X,
        control=U,
        dynamics=rate * X - U,
        horizon=horizon,
        time=T,
        maximize=integral(ca.exp(-discount * T) * ca.log(U)),
        subject_to=[at_start(X) == 1, at_end(X) == 0, along_path(U) >= 0],
    )
    return problem, float(weight @ utility)


ENDS = (at_start(X) == 0, at_end(X) == 1)
SINGULAR: dict[str, Callable[[], tuple[OptimalControlProblem, float]]] = {
    "log of a control >= 0": consumption,
    "sqrt of a control >= 0": lambda: (
        line(
            at_start(X) == 1,
            at_end(X) == 0,
            along_path(U) >= 0,
            dynamics=-U,
            maximize=integral(ca.sqrt(U)),
        ),
        1.0,
    ),
    "u log u of a control >= 0": lambda: (
        line(*ENDS, along_path(U) >= 0, minimize=integral(U * ca.log(U))),
        0.0,
    ),
    "log of a control <= 0": lambda: (
        line(at_start(X) == 1, at_end(X) == 0, along_path(U) <= 0, minimize=-integral(ca.log(-U))),
        0.0,
    ),
    "log of a state >= 0": lambda: (
        line(along_path(X) >= 0, minimize=integral(X - ca.log(X) + U**2), horizon=2.0),
        2.0,
    ),
    "log of a parameter >= 1": lambda: (
        line(
            *(*ENDS, at_end(T) >= 1),
            minimize=integral(U**2) + at_end(T - ca.log(T - 1)),
            parameters=[T],
        ),
        3.0,
    ),
    "a control without influence at 0": lambda: (
        line(*ENDS, dynamics=U**2, minimize=integral(U**2)),
        1.0,
    ),
}


@pytest.mark.parametrize("make", SINGULAR.values(), ids=list(SINGULAR))
def test_a_problem_that_is_singular_at_zero_is_solved_without_a_guess(make):
    problem, optimum = make()
    solution = solve(problem, 20, control_per_stage=True)
    assert solution.is_solved, solution.message
    assert abs(solution.objective - optimum) < 1e-6


def test_a_root_of_the_distance_on_the_way_does_not_stop_the_default_guess():
    """Shortest way around a disc in unit time: two tangents and an arc, by Pythagoras."""
    radius = 0.3
    distance = along_path(ca.sqrt(X**2 + Y**2))
    ends = [at_start(ca.vertcat(X, Y)) == [-1, 0], at_end(ca.vertcat(X, Y)) == [1, 0]]
    problem = pose(
        state=ca.vertcat(X, Y),
        control=ca.vertcat(U, W),
        dynamics=[U, W],
        horizon=1.0,
        minimize=integral(U**2 + W**2),
        subject_to=[*ends, distance >= radius],
    )
    solution = solve(problem)
    way = 2 * (np.sqrt(1 - radius**2) + radius * (np.pi / 2 - np.arccos(radius)))
    assert solution.is_solved
    # The disc is kept out at the nodes, so that the way between them cuts it a little.
    assert abs(solution.objective - way**2) < 1e-2


def test_a_brachistochrone_with_a_root_for_its_speed_leaves_rest():
    """x' = sqrt(2 g y) sin a, y' = sqrt(2 g y) cos a to x = 1 at any height: sqrt(pi / g)."""
    horizon, speed = ca.SX.sym("T"), ca.sqrt(2 * GRAVITY * Y)
    problem = pose(
        state=ca.vertcat(X, Y),
        control=U,
        dynamics=[speed * ca.sin(U), speed * ca.cos(U)],
        horizon=horizon,
        minimize=at_end(horizon),
        subject_to=[at_start(ca.vertcat(X, Y)) == 0, at_end(X) == 1],
    )
    # At y = 0 the slope of the root is infinite, so that no integration gets out of the first step.
    assert solve(problem).status is Status.INACCURATE
    assert "cannot be integrated" in solve(problem).message
    solution = solve(problem, options=SolveOptions(discretization_tolerance=np.inf))
    assert solution.is_solved
    # One control for each of 50 intervals costs 4e-5 of the time.
    assert abs(solution.objective / np.sqrt(np.pi / GRAVITY) - 1) < 1e-4


def on_grid(problem: OptimalControlProblem, guess: Guess = Guess()):
    grid = TimeGrid.uniform(10)
    return guess.on(Transcription(problem, grid, (GAUSS_LEGENDRE_4,) * 10))


def test_a_shifted_guess_keeps_the_ends_and_the_bounds():
    conditions = [along_path(X).within(0, 2), at_start(X) == 0, at_end(X) == 0]
    problem = line(*conditions, dynamics=ca.sqrt(X) + U, minimize=integral(U**2))
    states = on_grid(problem).state_array.ravel()
    assert states[0] == 0
    assert states[-1] == 0
    assert (states[1:-1] > 0).all()
    assert (states < 2).all()


def test_a_regular_default_stays_on_its_line():
    problem = line(*ENDS, minimize=integral(U**2))
    np.testing.assert_allclose(on_grid(problem).state_array.ravel(), np.linspace(0, 1, 11))


@pytest.mark.parametrize("guess", [Guess(state=0.0), Guess(control=0.0, state=0.0)])
def test_a_singular_guess_of_the_user_is_kept_and_named(guess):
    problem = line(at_start(X) == 0, dynamics=ca.sqrt(X) + U, minimize=integral(U**2))
    np.testing.assert_array_equal(on_grid(problem, guess).state_array, 0.0)
    solution = solve(problem, guess=guess)
    assert solution.status is Status.INVALID_NUMBER
    assert "derivative of the dynamics of x[layer 0]" in solution.message
