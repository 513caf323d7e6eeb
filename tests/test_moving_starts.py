"""Free end times with a start in motion: the optimum without a guess, and with one of the time."""

import casadi as ca
import numpy as np
import pytest
from scipy.optimize import linprog  # type: ignore[import-untyped,unused-ignore]

from ocp import Guess, Status, along_path, at_end, at_start, integral, pose, solve
from ocp.first_phase import at_horizon, horizons
from problems.classic import solve_classic
from problems.moving_starts import MOVING_STARTS, double_integrator

INTERVALS = 20
Q, V, U, T, P = (ca.SX.sym(name) for name in ("q", "v", "u", "T", "p"))
STATE = ca.vertcat(Q, V)


@pytest.mark.parametrize("classic", MOVING_STARTS, ids=lambda c: c.name.replace(" ", "_"))
def test_an_optimum_from_a_start_in_motion_is_found_without_a_guess(classic):
    """On a grid with nodes at the switches; the rest is the scheme's error on the rocket."""
    solution = solve_classic(classic)
    assert solution.is_solved, solution.message
    assert abs(solution.objective / classic.optimum - 1) < 1e-6
    assert abs(solution.horizon / classic.horizon - 1) < 1e-5


def minimal_time(position: float, velocity: float, intervals: int) -> float:
    """Of x'' = u with u constant on equal intervals: bisection of linear programs.

    With h = T / K the arrival at rest is linear in u,

        v + h sum u_k = 0,    q + T v + h^2 sum (K - k - 1/2) u_k = 0,

    and max |u_k| is to be at most 1.
    """
    numbers = np.arange(intervals)
    bounds = np.vstack([np.eye(intervals), -np.eye(intervals)])
    bounds = np.hstack([bounds, -np.ones((2 * intervals, 1))])

    def is_enough(time: float) -> bool:
        h = time / intervals
        rows = np.array([[h] * intervals + [0], [*(h * h * (intervals - numbers - 0.5)), 0]])
        found = linprog(
            np.append(np.zeros(intervals), 1.0),
            A_ub=bounds,
            b_ub=np.zeros(2 * intervals),
            A_eq=rows,
            b_eq=[-velocity, -position - time * velocity],
            bounds=[(None, None)] * intervals + [(0, None)],
        )
        return bool(found.fun <= 1)

    low = double_integrator(position, velocity).optimum
    high = 1.2 * low
    assert is_enough(high)
    while high - low > 1e-9 * low:
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_guessed", [False, True])
def test_from_a_random_start_the_time_is_the_least_of_equal_intervals(seed, is_guessed):
    generator = np.random.default_rng(seed)
    position, velocity = generator.uniform(-3, 3, 2)
    guess = Guess(parameter=generator.uniform(0.5, 10)) if is_guessed else None
    solution = solve(double_integrator(position, velocity).problem, INTERVALS, guess=guess)
    assert solution.is_solved, solution.message
    assert abs(solution.objective / minimal_time(position, velocity, INTERVALS) - 1) < 1e-6


def away(horizon, *conditions, **changes):
    """From (1, 2) to rest at 0, which takes 2 + 2 sqrt(3) with |u| <= 1."""
    arguments = {"minimize": at_end(horizon)} | changes
    return pose(
        state=STATE,
        control=U,
        dynamics=[V, U],
        horizon=horizon,
        subject_to=[
            at_start(STATE) == [1, 2],
            at_end(STATE) == 0,
            along_path(U).within(-1, 1),
            *conditions,
        ],
        **arguments,
    )


WAYS_TO_STATE_THE_TIME = {
    "twice a parameter": lambda: away(2 * P),
    "a power": lambda: away(ca.exp(P)),
    "a time with a lower bound": lambda: away(T, at_end(T) >= 0.1),
    "a time within bounds": lambda: away(T, at_end(T).within(0.1, 40)),
    "the time in another unit": lambda: away(T, minimize=100 * at_end(T)),
    "the time to be maximised, negative": lambda: away(T, minimize=None, maximize=-at_end(T)),
}


@pytest.mark.parametrize("make", WAYS_TO_STATE_THE_TIME.values(), ids=list(WAYS_TO_STATE_THE_TIME))
def test_the_time_may_be_stated_in_any_way(make):
    solution = solve(make(), INTERVALS)
    assert solution.is_solved, solution.message
    assert abs(solution.horizon / minimal_time(1.0, 2.0, INTERVALS) - 1) < 1e-6


def effort(*conditions):
    """x'' = u from (0, 2) to rest at 0: 1/2 Int u^2 is 2 v^2 / T, the less the more time."""
    return pose(
        state=STATE,
        control=U,
        dynamics=[V, U],
        horizon=T,
        minimize=integral(U**2) / 2,
        subject_to=[at_start(STATE) == [0, 2], at_end(STATE) == 0, *conditions],
    )


@pytest.mark.parametrize("guess", [None, Guess(parameter=3.0)])
@pytest.mark.parametrize("is_per_stage", [False, True])
def test_an_effort_that_falls_with_time_uses_all_that_it_is_given(is_per_stage, guess):
    """Not the time 0, at which every gradient vanishes beside its infinite terms."""
    problem = effort(at_end(T) <= 10)
    solution = solve(problem, INTERVALS, control_per_stage=is_per_stage, guess=guess)
    assert solution.is_solved
    assert abs(solution.horizon - 10) < 1e-6
    # With u constant on K intervals v^2 / (2 T) (1 + 3 K^2 / (K^2 - 1)), by least squares.
    exact = 0.8 if is_per_stage else 0.2 * (1 + 3 / (1 - INTERVALS**-2))
    assert abs(solution.objective - exact) < 1e-6


def test_a_time_that_collapses_from_a_guess_of_states_is_not_called_solved():
    found = solve(effort(at_end(T) <= 10), guess=Guess(state=[[0, 2], [0, 0]], parameter=1.0))
    assert found.status is Status.FAILED
    assert "end time has collapsed" in found.message


def test_no_time_at_all_is_an_optimum_where_there_is_no_way_to_go():
    """min T + Int u^2 from 0 to 0."""
    problem = pose(
        state=Q,
        control=U,
        dynamics=U,
        horizon=T,
        minimize=at_end(T) + integral(U**2),
        subject_to=[at_start(Q) == 0, at_end(Q) == 0],
    )
    solution = solve(problem, INTERVALS)
    assert solution.is_solved, solution.message
    assert abs(solution.objective) < 1e-6


def test_too_short_a_bound_on_the_time_is_infeasible_still():
    solution = solve(away(T, at_end(T) <= 5), INTERVALS)
    assert solution.status is Status.INFEASIBLE
    assert "Other starts ended no better." in solution.message


def test_a_guess_of_states_is_used_as_it_is():
    """No other start is made from what is not ours."""
    guess = Guess(state=[[1, 2], [0, 0]], parameter=1.0)
    solution = solve(double_integrator(1.0, 2.0).problem, 50, guess=guess)
    assert not solution.is_solved
    assert "Other starts" not in solution.message


def test_the_horizons_of_the_first_phase_start_from_the_time_of_travel_or_of_the_guess():
    """At speed 2 the way 1 takes 1/2, at rate 1 the way from speed 2 to rest takes 2."""
    problem = away(T)
    assert horizons(problem, Guess())[:4] == pytest.approx([2.0, 4.0, 8.0, 16.0], rel=0.1)
    assert horizons(problem, Guess(parameter=3.0))[:4] == [3.0, 6.0, 12.0, 24.0]
    bounded = away(T, at_end(T) <= 5)
    assert horizons(bounded, Guess(parameter=3.0))[:3] == [3.0, 5.0, 1.5]


@pytest.mark.parametrize("horizon", [T, 2 * P])
def test_the_first_phase_is_the_least_effort_in_its_time(horizon):
    """From (1, 2) to rest: 12 q^2 / T^3 + 12 q v / T^2 + 4 v^2 / T, the control in units of 1."""
    problem, guess = at_horizon(away(horizon), 20.0, Guess())
    solution = solve(problem, INTERVALS, control_per_stage=True, guess=guess)
    assert solution.is_solved
    assert solution.horizon == pytest.approx(20.0, abs=1e-9)
    effort = 12 / 20**3 + 24 / 20**2 + 16 / 20
    assert solution.value(integral(U**2)) == pytest.approx(effort, rel=1e-6)
