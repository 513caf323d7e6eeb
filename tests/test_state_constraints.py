"""Constraints of the state hold inside the intervals too."""

import math

import casadi as ca
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    RADAU_IIA_5,
    RK4,
    Guess,
    SolveOptions,
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
from problems.constrained import around_a_disc, fastest_transfer, gentlest_transfer


@pytest.mark.parametrize("control_per_stage", [False, True], ids=["interval", "stage"])
@pytest.mark.parametrize("intervals", [5, 20, 50])
def test_a_speed_limit_of_2_makes_the_least_time_over_6_exactly_5(intervals, control_per_stage):
    solution = solve(fastest_transfer().problem, intervals, control_per_stage=control_per_stage)
    assert solution.is_solved
    assert solution.objective == pytest.approx(5.0, rel=1e-8)
    assert solution.error.violation.max() < 1e-8


@pytest.mark.parametrize(("limit", "distance"), [(0.5, 1.0), (1.0, 3.0), (1.5, 4.5)])
def test_the_least_time_under_a_speed_limit_is_limit_plus_distance_over_limit(limit, distance):
    classic = fastest_transfer(distance=distance, limit=limit)
    assert classic.optimum == pytest.approx(limit + distance / limit, rel=1e-14)
    solution = solve(classic.problem, classic.recipe.grid(classic.problem), control_per_stage=True)
    assert solution.is_solved
    assert solution.objective == pytest.approx(classic.optimum, rel=1e-8)


@pytest.mark.parametrize("limit", [1.2, 1.1, 1.3, 1.4])
def test_refinement_meets_its_tolerance_under_a_speed_limit(limit):
    classic = gentlest_transfer(limit)
    assert limit != 1.2 or classic.optimum == pytest.approx(7.68, rel=1e-14)
    found = refine(classic.problem, 1e-6)
    assert found.is_met
    assert found.solution.objective == pytest.approx(classic.optimum, rel=1e-6)
    assert found.rounds[-1].unknowns < 1000


@pytest.mark.parametrize("radius", [0.2, 0.5, 0.8])
def test_refinement_meets_its_tolerance_around_a_disc(radius):
    classic = around_a_disc(radius)
    found = refine(classic.problem, 1e-5, guess=classic.guess)
    assert found.is_met
    assert found.solution.objective == pytest.approx(classic.optimum, rel=1e-5)
    assert found.solution.error.violation.max() < 1e-5


@pytest.mark.parametrize("tableau", [GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6, RADAU_IIA_5])
def test_an_equation_of_the_state_holds_along_the_path_with_a_control_per_stage(tableau):
    """On the unit circle from angle 0 to 1 in unit time, at least energy: J = 1/2."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 2)
    problem = pose(
        state=x,
        control=u,
        dynamics=u,
        horizon=1.0,
        minimize=integral(ca.sumsqr(u)) / 2,
        subject_to=[
            at_start(x) == [1, 0],
            at_end(x[1]) == math.sin(1.0),
            (along_path(ca.sumsqr(x)) == 1).named("circle"),
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
    solution = solve(fastest_transfer().problem, 20, RK4, control_per_stage=True)
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
    # Substeps of a quarter of the oscillation's half are coarse, and said to be.
    coarse = SolveOptions(discretization_tolerance=0.1)
    solution = solve(problem, 1, RK4, substeps=12, options=coarse)
    assert solution.is_solved
    assert solution.control(0.0)[0, 0] == pytest.approx(7.2 / (1 + 2 * math.sqrt(2)), rel=1e-6)


def test_a_bound_inside_an_interval_is_named_where_it_cannot_hold():
    """From v = 0 to v = 0 the length 1 cannot be gone at v <= 0.9 in unit time."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = pose(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=1.0,
        minimize=integral(u**2),
        subject_to=[at_start(x) == [-1, 0], at_end(x) == 0, along_path(x[1]) <= 0.9],
    )
    solution = solve(problem, 5, control_per_stage=True)
    assert solution.status is Status.INFEASIBLE
    assert "x1" in solution.message


def test_rows_inside_an_interval_are_those_of_the_stages_that_are_no_nodes():
    """Two of each: Gauss-Legendre of order 4 has two stages, Radau IIA of order 5 ends in one."""
    problem = gentlest_transfer().problem
    grid = TimeGrid.uniform(2)
    for tableau in (GAUSS_LEGENDRE_4, RADAU_IIA_5):
        staged = discretize(problem, grid, tableau, control_per_stage=True)
        assert staged.stages[0].rows.names == ("bound of x1", "bound of x1")
        assert staged.stages[1].rows.names == ("bound of x1", "bound of x1")
