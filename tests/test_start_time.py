"""Problems that do not begin at t = 0: everything that evaluates time agrees on the time."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    RK4,
    Guess,
    OptimalControlProblem,
    Scaling,
    TimeGrid,
    along_path,
    at,
    at_end,
    at_start,
    integral,
    pose,
    refine,
    solve,
)

X, U, T, BEGIN, LENGTH = (ca.SX.sym(name) for name in ("x", "u", "t", "begin", "length"))
LINE = {"state": X, "control": U, "dynamics": U, "time": T}
ENERGY = integral(U**2)
GAUSS = {"grid": 8, "tableau": GAUSS_LEGENDRE_6, "control_per_stage": True}
OFFSETS = [*np.random.default_rng(0).uniform(-20, 20, 3).tolist(), 1.0]
WAVE = 2 * math.pi


def line(cost, *conditions, **changes):
    arguments = {**LINE, "horizon": 2.0, "start": 1.0, "minimize": cost, "subject_to": conditions}
    return pose(**{**arguments, **changes})


# Name: cost, conditions, further arguments, optimum. On [1, 3] unless they say otherwise.
KNOWN = {
    # x(1) = a: (1 - a)^2 / 2 + a is least at a = 0.
    "time at the start in the cost": (ENERGY + at_start(X * T), [at_end(X) == 1], {}, 0.5),
    # x(1) = 1 and x(3) = 3.
    "time at both ends": (ENERGY, [at_start(X - T) == 0, at_end(X - T) == 0], {}, 2.0),
    # From 1 over 3 at the middle back to 1: slopes 2 and -2.
    "a point inside": (ENERGY, [at_start(X) == 1, at(2.0, X) == 3, at_end(X) == 1], {}, 8.0),
    "a cost at a point inside": (
        ENERGY + at(2.0, (X - T) ** 2),
        [at_start(X) == 1, at_end(X) == 3],
        {},
        2.0,
    ),
    # x >= (t - 1)^2 + 1 from x(1) = 1 to x(3) = 5: a line of slope 2 above the parabola.
    "time along the path": (
        ENERGY,
        [at_start(X) == 1, along_path(X - (T - 1) ** 2) >= 1],
        {},
        8.0,
    ),
    # u = cos t costs nothing wherever the horizon begins.
    "time in a running cost": (integral((U - ca.cos(T)) ** 2 + (X - ca.sin(T)) ** 2), [], {}, 0.0),
    # u = a t with a Int t^2 = a 26/3 = 8: the energy is 8 a = 192/26.
    "an integral condition": (ENERGY, [integral(T * U) == 8], {"dynamics": 0 * U}, 96 / 13),
    # The start is 1 / length + 4 length at its best, 1/2 before the end at 2.
    "a free start": (
        ENERGY + at_end(4 * (2 - BEGIN)),
        [at_start(X) == 0, at_end(X) == 1],
        {"start": BEGIN, "horizon": 2 - BEGIN},
        4.0,
    ),
    "a free end after a late start": (
        ENERGY + at_end(4 * LENGTH),
        [at_start(X) == 0, at_end(X) == 1],
        {"start": 5.0, "horizon": LENGTH},
        4.0,
    ),
    # u = t reaches 3 from 0 in time 2 where its mean is 3/2: the start is 1/2.
    "a start chosen by the dynamics": (
        integral((U - T) ** 2),
        [at_start(X) == 0, at_end(X) == 3],
        {"start": BEGIN},
        0.0,
    ),
}


@pytest.mark.parametrize("scaling", [None, Scaling(time=10.0, state=3.0)], ids=["own", "scaled"])
@pytest.mark.parametrize("name", KNOWN)
def test_the_value_of_the_cost_is_the_objective_and_the_known_optimum(name, scaling):
    cost, conditions, changes, optimum = KNOWN[name]
    solution = solve(line(cost, *conditions, **changes), **GAUSS, scaling=scaling)
    assert solution.is_solved, solution.message
    assert solution.objective == pytest.approx(optimum, rel=1e-7, abs=1e-9)
    assert solution.value(cost) == pytest.approx(solution.objective, rel=1e-7, abs=1e-9)


def test_free_starts_are_read_off_the_parameters_and_the_times():
    cost, conditions, changes, _ = KNOWN["a free start"]
    solution = solve(line(cost, *conditions, **changes), **GAUSS)
    assert solution.parameters["begin"] == pytest.approx(1.5, rel=1e-6)
    np.testing.assert_allclose(solution.times[[0, -1]], [1.5, 2.0], rtol=1e-6)
    assert solution.value(at_start(T)) == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize("offset", OFFSETS)
def test_shifting_the_time_shifts_the_solution_and_leaves_the_optimum(offset):
    """A bent path with a waypoint, whose times are all moved by the same offset."""
    state = ca.SX.sym("z", 2)

    def shifted(by: float):
        z, clock = state, T - by
        return solve(
            pose(
                state=z,
                control=U,
                dynamics=ca.vertcat(z[1], U - z[0] + ca.sin(clock)),
                time=T,
                horizon=2.0,
                start=by,
                minimize=integral(U**2 + (z[0] - ca.cos(clock)) ** 2) + at_end(z[1] * clock),
                subject_to=[
                    at_start(z) == [0, 1],
                    (at(by + 0.5, z[0] * clock) == 0.4).named("waypoint"),
                    (along_path(U + clock) <= 3).named("limit"),
                ],
            ),
            **GAUSS,
        )

    here, there = shifted(0.0), shifted(offset)
    assert here.is_solved
    assert there.is_solved
    assert there.objective == pytest.approx(here.objective, rel=1e-8)
    np.testing.assert_allclose(there.times, here.times + offset, atol=1e-12)
    sampled = np.linspace(0, 2, 7)
    np.testing.assert_allclose(
        there.state(sampled + offset), here.state(sampled), rtol=1e-6, atol=1e-6
    )
    for name in ("waypoint", "limit"):
        np.testing.assert_allclose(
            there.dual(name).times, here.dual(name).times + offset, atol=1e-9
        )
        np.testing.assert_allclose(there.dual(name).values, here.dual(name).values, atol=1e-5)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("tableau", [RK4, GAUSS_LEGENDRE_4], ids=["RK4", "Gauss"])
def test_the_value_of_the_cost_is_the_objective_from_any_start(offset, tableau):
    cost = (
        integral(U**2 + ca.sin(T) * X**2)
        + at_start(X * ca.cos(T))
        + at(offset + 0.5, (X - T) ** 2)
        + at_end(X**2 / (1 + T**2))
    )
    problem = line(cost, at_start(X**2) <= 1, start=offset, horizon=1.5)
    solution = solve(problem, 6, tableau)
    assert solution.is_solved, solution.message
    assert solution.value(cost) == pytest.approx(solution.objective, rel=1e-7, abs=1e-8)


def test_guesses_are_functions_of_the_problems_time():
    """u = cos t is the optimum: started there, the solve has nothing to do."""
    cost, conditions, changes, _ = KNOWN["time in a running cost"]
    seen = []

    def control(t: float) -> float:
        seen.append(t)
        return math.cos(t)

    guess = Guess(state=math.sin, control=control)
    solution = solve(line(cost, *conditions, **changes), **GAUSS, guess=guess)
    assert 1.0 <= min(seen) < max(seen) <= 3.0
    assert solution.iterations <= 2


def test_refinement_begins_where_the_problem_does():
    cost, conditions, changes, optimum = KNOWN["a point inside"]
    found = refine(line(cost, *conditions, **changes), 1e-6)
    assert found.is_met
    assert found.solution.objective == pytest.approx(optimum, rel=1e-6)
    np.testing.assert_allclose(found.solution.times[[0, -1]], [1.0, 3.0])


def test_the_gradient_in_the_start_vanishes_at_a_free_start():
    """The optimum over fixed starts near a free one is a parabola with its top there."""
    cost = integral(U**2 + (X - ca.cos(WAVE * T / 4)) ** 2)
    free = solve(line(cost, at_start(X) == 0.5, start=BEGIN, horizon=1.0), **GAUSS)
    assert free.is_solved, free.message
    best = free.parameters["begin"]
    around = [
        solve(line(cost, at_start(X) == 0.5, start=best + d, horizon=1.0), **GAUSS).objective
        for d in (-0.01, 0.0, 0.01)
    ]
    assert around[1] == pytest.approx(free.objective, rel=1e-8)
    assert min(around[0], around[2]) > around[1]
    assert abs(around[2] - around[0]) < 0.1 * (around[0] + around[2] - 2 * around[1])


def test_a_problem_in_the_solvers_own_form_has_a_start_too():
    problem = OptimalControlProblem(
        X, U, U + T, 1.0, [0.0], running_cost=(U + T) ** 2, terminal_cost=X * T, time=T, start=4.0
    )
    solution = solve(problem, **GAUSS)
    # y = u + t is constant: y^2 + 5 y.
    assert solution.objective == pytest.approx(-25 / 4)
    assert solution.times[0] == 4.0


REFUSED = {
    "a grid that begins elsewhere": (
        lambda: solve(line(ENERGY, start=0.0), TimeGrid.uniform(4, 2.0, start=1.0)),
        r"the grid begins at 1, expected 0.*start=",
    ),
    "a grid from 0 for a later start": (
        lambda: solve(line(ENERGY), TimeGrid.uniform(4, 2.0)),
        "the grid begins at 0, expected 1",
    ),
    "a grid of another length": (
        lambda: solve(line(ENERGY), TimeGrid.uniform(4, 3.0)),
        "the grid spans 3, expected 2",
    ),
    "a shifted grid for a free start": (
        lambda: solve(line(ENERGY, start=BEGIN), TimeGrid.uniform(4, 2.0, start=1.0)),
        "the grid begins at 1, expected 0",
    ),
    "a point before the start": (
        lambda: line(ENERGY, at(0.5, X) == 0),
        r"t = 0\.5, expected a time inside \(1, 3\)",
    ),
    "a point after the end": (lambda: line(ENERGY, at(3.5, X) == 0), r"inside \(1, 3\)"),
    "a point and a free start": (
        lambda: line(ENERGY, at(1.5, X) == 0, start=BEGIN),
        "fixed horizon and a fixed start",
    ),
    "a start that is not finite": (lambda: line(ENERGY, start=math.inf), "finite time, got inf"),
    "a start that is a state": (lambda: line(ENERGY, start=X), "start depends on x"),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=list(REFUSED))
def test_times_that_do_not_fit_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
