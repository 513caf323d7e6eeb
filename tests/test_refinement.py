"""Refinement: exponential for smooth solutions, around the jump for others."""

import math

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
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    refine,
    solve,
)
from problems.classic import brachistochrone, hypersensitive, minimal_time, van_der_pol

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


def test_a_settled_objective_is_asked_for_even_where_there_is_no_defect():
    """x' = u is exact for any polynomial control, so only the objective tells."""
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
