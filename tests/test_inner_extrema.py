"""The largest violation inside a step is that of the polynomial, wherever it lies."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    RK4,
    Guess,
    OptimalControlProblem,
    SolveOptions,
    TimeGrid,
    Trajectory,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)
from ocp.discretize import Transcription
from ocp.inner_extrema import mixed_violations, overshoots, state_violations
from ocp.path import Path

X, U = ca.SX.sym("x"), ca.SX.sym("u")
T = ca.SX.sym("t")


def parabola(limit):
    """A path with x = 4 t (1 - t) on one interval, with x <= limit; from a guess, not a solve."""
    x = ca.SX.sym("x", 2)
    problem = pose(
        state=x,
        control=U,
        dynamics=ca.vertcat(x[1], U),
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[at_start(x) == [0, 4], along_path(x[0]) <= limit],
    )
    transcription = Transcription(problem, TimeGrid.uniform(1), (RK4,))
    trajectory = Trajectory(
        (np.array([[0.0, 4.0]]), np.array([[0.0, -4.0]])),
        (np.array([-8.0]),),
        np.zeros(0),
        np.array([0.0, 1.0]),
        (),
    )
    return Path.of(transcription, trajectory)


@pytest.mark.parametrize("limit", [0.5, 0.9, 1.0 - 1e-6])
def test_a_parabola_exceeds_its_limit_by_what_its_vertex_does(limit):
    found = state_violations(parabola(limit))
    name, amount, time = found.worst
    assert name == "x0"
    assert amount == pytest.approx(1.0 - limit, rel=1e-6)
    assert time == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(found.sizes, [1.0 - limit], rtol=1e-6)


def test_a_limit_above_the_vertex_is_not_violated():
    found = state_violations(parabola(1.0 + 1e-9))
    assert found.worst is None
    assert found.largest == 0.0


@pytest.mark.parametrize("place", [0.003, 0.06, 0.11, 0.31, 0.5, 0.77, 0.96, 0.999])
def test_a_narrow_peak_is_found_in_every_part_of_a_step(place):
    """x = 0 under a limit that dips to -0.1 at the given fraction of a step, with width 1/10."""
    limit = 1 - 1.1 * ca.exp(-(((T - place) / 0.1) ** 2))
    problem = pose(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        time=T,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0, (along_path(X - limit) <= 0).named("dip")],
    )
    transcription = Transcription(problem, TimeGrid.uniform(1), (RK4,))
    path = Path.of(transcription, Guess(state=0.0).on(transcription))
    name, amount, time = state_violations(path).worst
    assert name == "dip"
    assert amount == pytest.approx(0.1, rel=1e-4)
    assert time == pytest.approx(place, abs=1e-3)


def test_a_wall_pierced_between_the_nodes_by_a_percent_is_reported():
    """From 0 to 0 over a wall at t = 0.3, on a grid whose nodes and stages all miss its top."""
    wall = ca.exp(-(((T - 0.3) / 0.02) ** 2))
    problem = pose(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        time=T,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0, at_end(X) == 0, (along_path(X) >= wall).named("wall")],
    )
    solution = solve(problem, 41, options=SolveOptions(discretization_tolerance=0.1))
    assert solution.is_solved
    times = np.linspace(0, 1, 200_001)
    depth = (np.exp(-(((times - 0.3) / 0.02) ** 2)) - solution.state(times)[:, 0]).max()
    assert 0 < depth < 0.02
    assert solution.error.violated[0] == "wall"
    assert solution.error.violated[1] == pytest.approx(depth, rel=1e-3)


def test_controls_and_mixed_rows_are_looked_at_by_themselves():
    """u through 1 and -1 at the two stages of a step is sqrt 3 and -sqrt 3 at its ends."""
    problem = pose(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[
            at_start(X) == 0,
            along_path(U).within(-1, 1),
            (along_path(U + X) >= -0.5).named("mixed"),
        ],
    )
    transcription = Transcription(
        problem, TimeGrid.uniform(1), (GAUSS_LEGENDRE_4,), control_per_stage=True
    )
    guess = Guess().on(transcription)
    stages = Trajectory(
        guess.states, (np.array([1.0, -1.0]),), guess.parameters, guess.times, guess.locals
    )
    path = Path.of(transcription, stages)
    assert overshoots(path).largest == pytest.approx(math.sqrt(3) - 1, rel=1e-9)
    # Rows see the control as it is returned, within its bounds.
    assert mixed_violations(path).worst[:2] == ("mixed", pytest.approx(0.5, rel=1e-9))
    assert state_violations(path).worst is None


def test_every_member_of_an_ensemble_is_looked_at():
    x, u, d = ca.SX.sym("x"), ca.SX.sym("u"), ca.SX.sym("d")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=d * u,
        horizon=1.0,
        initial_state=[[0.0], [0.0]],
        control_cost=(u - 1) ** 2,
        data=d,
        member_data=[[1.0], [2.0]],
        state_bounds=(-np.inf, 1.5),
    )
    transcription = Transcription(problem, TimeGrid.uniform(2), (GAUSS_LEGENDRE_4,) * 2)
    path = Path.of(transcription, Guess(control=1.0, simulate=True).on(transcription))
    found = state_violations(path)
    assert found.sizes[0] == 0.0
    assert found.worst == ("x", pytest.approx(0.5), pytest.approx(1.0))
