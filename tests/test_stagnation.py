"""Runs that get nowhere are stopped, runs that get somewhere slowly are not."""

import casadi as ca
import numpy as np
import pytest

from ocp import Guess, SolveOptions, Status, along_path, at_end, at_start, integral, pose, solve
from ocp.stagnation import WINDOW, Stagnation

LONG = 20 * WINDOW


def end(violations, costs, errors=None, tolerance=0.0):
    """The iterate with which a run stagnates; None if it does not."""
    violations, costs = np.broadcast_to(violations, LONG), np.broadcast_to(costs, LONG)
    errors = np.ones(LONG) if errors is None else errors
    watch = Stagnation(WINDOW, tolerance)
    for k, (violation, cost) in enumerate(zip(violations, costs, strict=True)):
        if watch.is_reached(float(violation), float(cost), lambda k=k: errors[: k + 1]):
            return k
    return None


K = np.arange(LONG, dtype=float)
GETS_THERE = {
    "a violation that is halved every 400 iterations": (0.5 ** (K / 400), 1.0),
    "a cost that falls by a percent every 400 iterations": (0.0, 0.99 ** (K / 400)),
    "a negative cost that does": (0.0, -(1.01 ** (K / 400))),
    "a cost that falls along violated constraints": (1e-4 * (2 + np.sin(K)), 0.99 ** (K / 100)),
    "a cost that first has to rise": (0.5 ** (K / 100), K),
    "a restart from a violation far above": (np.where(K % 600 < 300, 1.0, 0.5 ** (K / 200)), 1.0),
}


@pytest.mark.parametrize(("violations", "costs"), GETS_THERE.values(), ids=list(GETS_THERE))
def test_notable_progress_within_every_window_is_not_stopped(violations, costs):
    assert end(violations, costs) is None


GETS_NOWHERE = {
    "nothing changes": (0.1, 1.0),
    "the violation crawls": (0.1 * 0.5 ** (K / 3500), 1.0),
    "the cost creeps up": (0.1, K),
    "the cost crawls": (0.0, 0.99 ** (K / 3500)),
    "back and forth": (0.1 + 0.09 * np.sin(K), np.cos(K)),
    "not a number": (0.1, np.nan),
}


@pytest.mark.parametrize(("violations", "costs"), GETS_NOWHERE.values(), ids=list(GETS_NOWHERE))
def test_a_window_without_notable_progress_is(violations, costs):
    assert end(violations, costs) <= 2 * WINDOW


def test_an_exchange_of_violation_for_cost_ends_after_a_wide_window():
    """Every 300 iterations a point that is cheaper, and farther from feasible."""
    steps = np.maximum.accumulate(np.floor(K / 300))
    found = end(np.where(K == 0, 1e-6, 1.0 + steps), np.where(K == 0, 1e3, 100.0 * 0.9**steps))
    assert found is not None
    assert found <= 3 * WINDOW


def test_slow_convergence_shows_in_the_optimality_error_alone():
    """A cost that no longer changes, and an error that is halved every 400 iterations."""
    assert end(0.0, 1.0, 0.5 ** (K / 400)) is None
    assert end(0.0, 1.0, 0.9 ** (K / 400)) == WINDOW


def test_violations_within_the_tolerance_are_as_good_as_none():
    assert end(1e-9 * 0.5 ** (K / 100), 1.0, tolerance=1e-8) == WINDOW


X, Y, V, Z, U, W = (ca.SX.sym(name) for name in ("x", "y", "v", "z", "u", "w"))


def cart_around_a_disc():
    """From (-1, 0) to (1, 0), at rest, around a disc at the origin: the guess goes through it."""
    state = ca.vertcat(X, Y, V, Z)
    return pose(
        state=state,
        control=ca.vertcat(U, W),
        dynamics=[V, Z, U, W],
        horizon=1.0,
        minimize=integral(U**2 + W**2),
        subject_to=[
            at_start(state) == [-1, 0, 0, 0],
            at_end(state) == [1, 0, 0, 0],
            along_path(X**2 + Y**2) >= 0.09,
        ],
    )


def boat_around_a_disc():
    place = ca.vertcat(X, Y)
    return pose(
        state=place,
        control=ca.vertcat(U, W),
        dynamics=[U, W],
        horizon=1.0,
        minimize=integral(U**2 + W**2),
        subject_to=[
            at_start(place) == [-1, 0],
            at_end(place) == [1, 0],
            along_path(X**2 + Y**2) >= 0.09,
        ],
    )


def between_two_discs():
    """The straight line meets both; the guess is symmetric in y."""
    place = ca.vertcat(X, Y)
    return pose(
        state=place,
        control=ca.vertcat(U, W),
        dynamics=[U, W],
        horizon=1.0,
        minimize=integral(U**2 + W**2),
        subject_to=[
            at_start(place) == [-1, 0],
            at_end(place) == [1, 0],
            along_path((X + 0.4) ** 2 + Y**2) >= 0.04,
            along_path((X - 0.4) ** 2 + Y**2) >= 0.04,
        ],
    )


OBSTACLES = (cart_around_a_disc, boat_around_a_disc, between_two_discs)


def watched(problem, **arguments):
    """A solution, and all iterations that led to it."""
    numbers = []
    found = solve(problem, progress=lambda iteration: numbers.append(iteration.number), **arguments)
    return found, len(numbers)


@pytest.mark.parametrize("make", OBSTACLES)
def test_a_symmetric_guess_around_an_obstacle_is_left_for_another_one(make):
    """As good as from a guess that is not symmetric, long before 10,000 iterations."""
    found, iterations = watched(make(), grid=30)
    aside = solve(make(), 30, guess=Guess(noise=0.1))
    assert found.is_solved, found.message
    assert aside.is_solved
    assert found.objective <= aside.objective * (1 + 1e-6)
    assert iterations < SolveOptions().max_iterations / 2


def test_points_on_the_line_that_are_to_change_order_end_soon_without_a_claim():
    """A flow on the line keeps the order of its points."""
    points = ca.SX.sym("x", 2)
    problem = pose(
        state=points,
        control=ca.vertcat(U, W),
        dynamics=U * ca.tanh(points) + W,
        horizon=1.0,
        minimize=integral(U**2 + W**2),
        subject_to=[at_start(points) == [-1, 1], at_end(points) == [1, -1]],
    )
    found, iterations = watched(problem, grid=10)
    assert not found.is_solved or found.error.is_coarse
    assert iterations < 5000


def test_a_run_that_is_stopped_says_that_it_made_no_progress():
    options = SolveOptions(idle_iterations=40)
    found = solve(
        cart_around_a_disc(), guess=Guess(state=[[-1, 0, 0, 0], [1, 0, 0, 0]]), options=options
    )
    assert found.status in (Status.INFEASIBLE, Status.FAILED)
    assert "no progress" in found.backend_status
    assert found.iterations < 1000


def test_a_window_of_no_iterations_is_refused():
    with pytest.raises(ValueError, match="idle_iterations must be at least 1, got 0"):
        SolveOptions(idle_iterations=0)
