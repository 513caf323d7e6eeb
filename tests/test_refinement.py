"""Refinement: exponential for smooth solutions, around the jump for others."""

import math
import time

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    Guess,
    Scaling,
    SolveOptions,
    Status,
    TimeGrid,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    refine,
    solve,
)
from problems.classic import brachistochrone, goddard, hypersensitive, minimal_time, van_der_pol
from problems.constrained import fastest_transfer, gentlest_transfer, over_a_wall

TOLERANCE = 1e-8


def rest_to_rest():
    """x'' = u with |u| <= 1 from (0, 0) to (1, 0) in least time, 2; u = 1, then -1 from t = 1."""
    x, u, T = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("T")
    conditions = [at_start(x) == 0, at_end(x) == [1, 0], along_path(u).within(-1, 1)]
    return pose(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=T,
        minimize=at_end(T),
        subject_to=[*conditions, at_end(T) >= 0.1],
    )


@pytest.mark.parametrize(
    "classic",
    [van_der_pol(), brachistochrone(), hypersensitive(), minimal_time()],
    ids=lambda c: c.name,
)
def test_the_optimum_is_met_within_the_tolerance(classic):
    found = refine(classic.problem, TOLERANCE, guess=classic.guess)
    assert found.is_met
    assert found.solution.is_solved
    assert found.solution.error.largest <= TOLERANCE
    assert found.solution.objective == pytest.approx(classic.optimum, rel=TOLERANCE)


def test_the_costate_of_a_refined_solution_is_the_analytic_one():
    classic = hypersensitive()
    found = refine(classic.problem, TOLERANCE).solution
    assert classic.costate is not None
    exact = [float(classic.costate(t)[0, 0]) for t in found.times]
    np.testing.assert_allclose(found.costate()[:, 0], exact, atol=1e-6)


def test_it_takes_fewer_than_half_the_unknowns_of_a_uniform_grid():
    classic = van_der_pol()
    found = refine(classic.problem, TOLERANCE)
    count = found.rounds[-1].unknowns
    intervals = 2 * count // 8  # a step of two stages has 2 + 4 states and 2 controls
    uniform = solve(classic.problem, intervals, GAUSS_LEGENDRE_4, control_per_stage=True)
    assert uniform.transcription is not None
    assert uniform.transcription.unknowns == 8 * intervals
    assert abs(uniform.objective / classic.optimum - 1) > TOLERANCE


def test_unknowns_are_spent_in_the_boundary_layers():
    found = refine(hypersensitive(40.0).problem, TOLERANCE)
    assert found.is_met
    steps, T = np.diff(found.solution.times), 40.0
    middle = (found.solution.times[:-1] > T / 4) & (found.solution.times[1:] < 3 * T / 4)
    assert steps[~middle].min() < steps[middle].min(initial=T / 2) / 2


def test_a_jump_of_the_control_is_closed_in_on():
    """The initial speed makes the switch an irrational share of the time."""
    start = 1.7
    x, u, T = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("T")
    problem = pose(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=T,
        minimize=at_end(T),
        subject_to=[
            at_start(x) == [-1, start],
            at_end(x) == 0,
            along_path(u).within(-1, 1),
            at_end(T).within(0.1, 10),
        ],
    )
    found = refine(problem, 1e-6)
    # It overshoots: u = -1 until it has come back half the way, then +1: T = v + 2 sqrt(v^2/2 - 1)
    exact = start + 2 * math.sqrt(start**2 / 2 - 1)
    assert found.solution.objective == pytest.approx(exact, rel=1e-6)


def test_a_control_that_is_not_the_best_is_refined_even_where_there_is_no_defect():
    """x' = u is exact for any polynomial control: only the Hamiltonian and the objective tell."""
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = pose(
        state=x,
        control=u,
        dynamics=u,
        horizon=8.0,
        minimize=integral(x**2 + u**2),
        subject_to=[at_start(x) == 1],
    )
    found = refine(problem, TOLERANCE)
    first = solve(problem, 3, GAUSS_LEGENDRE_6, control_per_stage=True)
    assert first.error.largest <= 1e-12
    assert first.objective != pytest.approx(math.tanh(8.0), rel=TOLERANCE)
    assert len(found.rounds) > 1
    assert found.solution.objective == pytest.approx(math.tanh(8.0), rel=TOLERANCE)


@pytest.mark.parametrize(
    "classic",
    [
        fastest_transfer(2, 1, 1, math.inf),
        fastest_transfer(1, 0.3, 2, math.inf),
        fastest_transfer(3, 0.7, 5, math.inf),
        fastest_transfer(),
        fastest_transfer(2, 1, 6, 2),
        over_a_wall(),
        over_a_wall(0.02),
        gentlest_transfer(1.3),  # the arc begins at 9/26, just after the first grid's node at 1/3
    ],
    ids=lambda c: c.name,
)
def test_a_tolerance_that_is_met_holds_for_switches_and_limits_inside_an_interval(classic):
    found = refine(classic.problem, 1e-5)
    assert found.is_met
    assert found.solution.objective == pytest.approx(classic.optimum, rel=1e-5)
    assert found.solution.error.violation.max() <= 1e-5


def test_a_tolerance_is_met_only_after_a_round_with_every_interval_split():
    found = refine(van_der_pol().problem, TOLERANCE)
    *others, last = found.rounds
    assert last.is_confirmation
    assert not any(r.is_confirmation for r in others)
    assert last.intervals == 2 * others[-1].intervals
    assert "every interval split" in str(found)
    assert "every interval split" in found.reason


def test_the_grid_of_a_solution_as_guess_is_where_refinement_begins():
    problem = van_der_pol().problem
    graded = TimeGrid.graded([0.1, 0.2, 0.3, 0.4, 1.0])
    for grid, intervals in ((graded, 5), (TimeGrid.uniform(8, 2.0), 8)):
        earlier = solve(problem, grid)
        found = refine(problem, 1e-6, guess=earlier)
        assert found.rounds[0].intervals == intervals
        assert found.is_met
    assert refine(problem, 1e-6, guess=earlier, grid=4).rounds[0].intervals == 4
    free = rest_to_rest()
    earlier = solve(free, 6)
    assert refine(free, 1e-3, guess=earlier).rounds[0].intervals == 6


def test_the_time_limit_is_that_of_all_rounds():
    """Goddard's singular arc takes dozens of rounds."""
    classic = goddard()
    limit, begin = 2.0, time.perf_counter()
    found = refine(classic.problem, guess=classic.guess, options=SolveOptions(time_limit=limit))
    assert time.perf_counter() - begin < 3 * limit  # a round that is under way is ended, not cut
    assert not found.is_met
    assert found.solution.is_solved
    assert found.solution.objective == pytest.approx(classic.optimum, rel=1e-2)
    assert found.reason


def test_each_round_starts_from_the_one_before():
    found = refine(van_der_pol().problem, TOLERANCE)
    iterations = [r.iterations for r in found.rounds]
    assert iterations[-1] < iterations[0]


def test_too_few_rounds_are_reported_with_the_best_solution():
    seen = []
    found = refine(van_der_pol().problem, TOLERANCE, max_rounds=1, finished=seen.append)
    assert not found.is_met
    assert found.solution.is_solved
    assert list(found.rounds) == seen
    assert "tolerance not met" in str(found)


def test_a_solve_that_fails_ends_the_refinement():
    problem = rest_to_rest()
    found = refine(problem, TOLERANCE, options=SolveOptions(max_iterations=1))
    assert not found.is_met
    assert found.solution.status is Status.ITERATION_LIMIT
    assert len(found.rounds) == 1


def test_guess_and_scaling_are_those_of_solve():
    found = refine(
        brachistochrone().problem,
        1e-6,
        guess=Guess(state=[[0, 0, 0], [10, 5, 9]], control=1.0, parameter=2.0),
        scaling=Scaling(state=10.0),
    )
    assert found.is_met
    np.testing.assert_array_equal(found.solution.scaling.state, [10.0, 10.0, 10.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"tolerance": 0.0}, "between 0 and 1"), ({"max_rounds": 0}, "at least 1")],
)
def test_a_wrong_request_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        refine(van_der_pol().problem, **changes)
