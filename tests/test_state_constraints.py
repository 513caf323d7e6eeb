"""Constraints of the state hold inside the intervals too."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    RADAU_IIA_5,
    RK4,
    Guess,
    Status,
    TimeGrid,
    along_path,
    at_end,
    at_start,
    discretize,
    integral,
    pose,
    refine,
    solve,
)

X, U, T = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("T")
MASS = {"state": X, "control": U, "dynamics": ca.vertcat(X[1], U)}
FORCE = ca.SX.sym("f", 2)
PLANE = {"state": X, "control": FORCE, "dynamics": FORCE}


def fastest(limit, distance=6.0):
    """Least time over a distance from rest to rest, |u| <= 1, v <= limit."""
    return pose(
        **MASS,
        horizon=T,
        minimize=at_end(T),
        subject_to=[
            at_start(X) == 0,
            at_end(X) == [distance, 0],
            along_path(U).within(-1, 1),
            along_path(X[1]) <= limit,
        ],
    )


def gentlest(limit):
    """Least energy over a unit length from rest to rest in unit time, v <= limit.

    v rises along a parabola to the limit V at time tau = 3/2 (1 - 1/V): J = 4 V^2 / (3 tau).
    """
    problem = pose(
        **MASS,
        horizon=1.0,
        minimize=integral(U**2) / 2,
        subject_to=[at_start(X) == [-1, 0], at_end(X) == 0, along_path(X[1]) <= limit],
    )
    return problem, 4 * limit**2 / (4.5 * (1 - 1 / limit))


@pytest.mark.parametrize("control_per_stage", [False, True], ids=["interval", "stage"])
@pytest.mark.parametrize("intervals", [5, 20, 50])
def test_a_speed_limit_of_2_makes_the_least_time_over_6_exactly_5(intervals, control_per_stage):
    solution = solve(fastest(2.0), intervals, control_per_stage=control_per_stage)
    assert solution.is_solved
    assert solution.objective == pytest.approx(5.0, rel=1e-8)
    assert solution.error.violation.max() < 1e-8


@pytest.mark.parametrize(("limit", "distance"), [(0.5, 1.0), (1.0, 3.0), (1.5, 4.5)])
def test_the_least_time_under_a_speed_limit_is_limit_plus_distance_over_limit(limit, distance):
    """With 2 V for speeding up and braking, on a grid with nodes at both junctions."""
    exact = limit + distance / limit
    junctions = np.array([limit, exact - limit]) / exact
    grid = TimeGrid.uniform(4).including(junctions)
    solution = solve(fastest(limit, distance), grid, control_per_stage=True)
    assert solution.is_solved
    assert solution.objective == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("limit", [1.2, 1.1, 1.3, 1.4])
def test_refinement_meets_its_tolerance_under_a_speed_limit(limit):
    problem, exact = gentlest(limit)
    assert limit != 1.2 or exact == pytest.approx(7.68, rel=1e-14)
    found = refine(problem, 1e-6)
    assert found.is_met
    assert found.solution.objective == pytest.approx(exact, rel=1e-6)
    assert found.rounds[-1].unknowns < 1000


@pytest.mark.parametrize("radius", [0.2, 0.5, 0.8])
def test_the_way_around_a_disc_is_two_tangents_and_an_arc(radius):
    """min 1/2 Int |x'|^2 = L^2 / 2, L = 2 sqrt(1 - r^2) + 2 r asin r, from (-1, 0) to (1, 0)."""
    length = 2 * math.sqrt(1 - radius**2) + 2 * radius * math.asin(radius)
    problem = pose(
        **PLANE,
        horizon=1.0,
        minimize=integral(ca.sumsqr(FORCE)) / 2,
        subject_to=[
            at_start(X) == [-1, 0],
            at_end(X) == [1, 0],
            along_path(ca.sumsqr(X)) >= radius**2,
        ],
    )
    found = refine(problem, 1e-5, guess=Guess(state=[[-1, 0], [0, 1], [1, 0]]))
    assert found.is_met
    assert found.solution.objective == pytest.approx(length**2 / 2, rel=1e-5)
    assert found.solution.error.violation.max() < 1e-5


@pytest.mark.parametrize("tableau", [GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6, RADAU_IIA_5])
def test_an_equation_of_the_state_holds_along_the_path_with_a_control_per_stage(tableau):
    """On the unit circle from angle 0 to 1 in unit time, at least energy: J = 1/2."""
    problem = pose(
        **PLANE,
        horizon=1.0,
        minimize=integral(ca.sumsqr(FORCE)) / 2,
        subject_to=[
            at_start(X) == [1, 0],
            at_end(X[1]) == math.sin(1.0),
            (along_path(ca.sumsqr(X)) == 1).named("circle"),
        ],
    )
    guess = Guess(state=[[1, 0], [math.cos(0.5), math.sin(0.5)], [math.cos(1), math.sin(1)]])
    errors = []
    for intervals in (3, 6):
        solution = solve(problem, intervals, tableau, control_per_stage=True, guess=guess)
        assert solution.is_solved
        errors.append(max(abs(solution.objective - 0.5), solution.error.violation.max()))
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 4


def test_an_explicit_method_with_a_control_per_stage_holds_the_state_at_its_stages():
    solution = solve(fastest(2.0), 20, RK4, control_per_stage=True)
    assert solution.is_solved
    assert solution.objective == pytest.approx(5.0, rel=1e-6)


def test_bounds_hold_at_the_ends_of_substeps():
    """x = u sin(6 pi t) / (6 pi) is 0 at both nodes and largest after 1 of 12 substeps.

    There RK4 makes it u (1/12) (1 + 4 cos(pi/4) + 0) / 6, by Simpson's rule.
    """
    x, u, t = ca.SX.sym("x"), ca.SX.sym("u"), ca.SX.sym("t")
    problem = pose(
        state=x,
        control=u,
        dynamics=u * ca.cos(6 * math.pi * t),
        horizon=1.0,
        time=t,
        minimize=integral((u - 5) ** 2),
        subject_to=[at_start(x) == 0, along_path(x) <= 0.1],
    )
    solution = solve(problem, 1, RK4, substeps=12)
    assert solution.is_solved
    assert solution.control(0.0)[0, 0] == pytest.approx(7.2 / (1 + 2 * math.sqrt(2)), rel=1e-6)


def test_a_bound_inside_an_interval_is_named_where_it_cannot_hold():
    """From v = 0 to v = 0 the length 1 cannot be gone at v <= 0.9 in unit time."""
    problem, _ = gentlest(0.9)
    solution = solve(problem, 5, control_per_stage=True)
    assert solution.status is Status.INFEASIBLE
    assert "x1" in solution.message


def test_rows_inside_an_interval_are_those_of_the_stages_that_are_no_nodes():
    """Two of each: Gauss-Legendre of order 4 has two stages, Radau IIA of order 5 ends in one."""
    problem, _ = gentlest(1.2)
    grid = TimeGrid.uniform(2)
    for tableau in (GAUSS_LEGENDRE_4, RADAU_IIA_5):
        staged = discretize(problem, grid, tableau, control_per_stage=True)
        assert staged.stages[0].rows.names == ("bound of x1", "bound of x1")
        assert staged.stages[1].rows.names == ("bound of x1", "bound of x1")
