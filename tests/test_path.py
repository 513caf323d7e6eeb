"""Between the nodes: interpolation orders, jumps, quadrature, resampling."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    EULER,
    GAUSS_LEGENDRE_2,
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    HEUN,
    MIDPOINT,
    RADAU_IIA_3,
    RADAU_IIA_5,
    RK4,
    OptimalControlProblem,
    SolveOptions,
    TimeGrid,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)
from ocp.discretize import Transcription

X, U, T, CLOCK = ca.SX.sym("x"), ca.SX.sym("u"), ca.SX.sym("T"), ca.SX.sym("t")
PLANE = ca.SX.sym("X", 2)
NONE = ca.SX(0, 1)
TIGHT = SolveOptions(ipopt={"tol": 1e-13})  # far below the smallest error of the orders


def tableau_name(item: object) -> str:
    return str(getattr(item, "name", item))


def transcribed(problem, grid, tableau, substeps=1, control_per_stage=False) -> Transcription:
    tableaux = (tableau,) * grid.intervals
    return Transcription(problem, grid, tableaux, substeps, control_per_stage)


def decay():
    """x' = -x^3 / 2 from 1: x = (1 + t)^(-1/2)."""
    return pose(
        state=X, control=NONE, dynamics=-(X**3) / 2, horizon=2.0, subject_to=[at_start(X) == 1]
    )


def double_integrator():
    """x = -1 + 3 t^2 - 2 t^3, u = 6 - 12 t."""
    return pose(
        state=PLANE,
        control=U,
        dynamics=ca.vertcat(PLANE[1], U),
        horizon=1.0,
        minimize=integral(U**2 / 2),
        subject_to=[at_start(PLANE) == [-1, 0], at_end(PLANE) == 0],
    )


def curved(free_time: bool = False):
    """Nonlinear, with an active bound on the control."""
    conditions = [at_start(X) == 1, along_path(U) >= -0.5]
    return pose(
        state=X,
        control=U,
        dynamics=U - ca.sin(X) * X,
        horizon=T if free_time else 0.7,
        minimize=integral(U**2 + U * X + X**2),
        subject_to=[*conditions, at_end(T).within(0.7, 0.9)] if free_time else conditions,
    )


def bang_bang(intervals: int = 4):
    """x'' = u, |u| <= 1, rest to rest in least time 2: u = 1, then -1."""
    problem = pose(
        state=PLANE,
        control=U,
        dynamics=ca.vertcat(PLANE[1], U),
        horizon=T,
        minimize=at_end(T),
        subject_to=[
            at_start(PLANE) == 0,
            at_end(PLANE) == [1, 0],
            along_path(U).within(-1, 1),
            at_end(T) >= 0.1,
        ],
    )
    solution = solve(problem, intervals, RK4)
    assert solution.is_solved, solution.message
    return solution


def slope(intervals, errors) -> float:
    return -float(np.polyfit(np.log(intervals), np.log(errors), 1)[0])


# Collocation with s stages: s + 1 between the nodes, if the nodes are that good; the cubic: 4.
INTERIOR_ORDERS = {
    EULER: 1,
    HEUN: 2,
    MIDPOINT: 2,
    RK4: 4,
    GAUSS_LEGENDRE_2: 2,
    GAUSS_LEGENDRE_4: 3,
    GAUSS_LEGENDRE_6: 4,
    RADAU_IIA_3: 3,
    RADAU_IIA_5: 4,
}


@pytest.mark.parametrize(
    ("tableau", "order"), INTERIOR_ORDERS.items(), ids=map(tableau_name, INTERIOR_ORDERS)
)
def test_between_the_nodes_the_state_has_the_order_of_its_interpolant(tableau, order):
    times, errors, grids = np.linspace(0, 2, 997), [], (16, 32, 64)
    for intervals in grids:
        solution = solve(decay(), intervals, tableau, options=TIGHT)
        errors.append(np.abs(solution.state(times)[:, 0] - (1 + times) ** -0.5).max())
    assert slope(grids, errors) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    ("tableau", "order"), [(EULER, 1), (GAUSS_LEGENDRE_4, 4), (RADAU_IIA_3, 3)], ids=tableau_name
)
def test_at_the_nodes_the_state_has_the_order_of_the_method(tableau, order):
    errors, grids = [], (64, 128, 256) if tableau is EULER else (8, 16, 32)
    for intervals in grids:
        solution = solve(decay(), intervals, tableau, options=TIGHT)
        errors.append(np.abs(solution.state()[:, 0] - (1 + solution.times) ** -0.5).max())
    assert slope(grids, errors) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("tableau", [RK4, GAUSS_LEGENDRE_6, RADAU_IIA_5], ids=tableau_name)
@pytest.mark.parametrize("substeps", [1, 3])
def test_a_cubic_path_with_a_linear_control_is_met_everywhere(tableau, substeps):
    grid = TimeGrid(np.array([0, 0.2, 0.3, 0.7, 1.0]))
    solution = solve(double_integrator(), grid, tableau, substeps=substeps, control_per_stage=True)
    t = np.linspace(0, 1, 41)
    np.testing.assert_allclose(solution.control(t)[:, 0], 6 - 12 * t, atol=1e-7)
    exact = np.column_stack([-1 + 3 * t**2 - 2 * t**3, 6 * t - 6 * t**2])
    np.testing.assert_allclose(solution.state(t), exact, atol=1e-8)


@pytest.mark.parametrize("tableau", [EULER, RK4, GAUSS_LEGENDRE_4, RADAU_IIA_3], ids=tableau_name)
@pytest.mark.parametrize("substeps", [1, 2])
@pytest.mark.parametrize("free_time", [False, True])
def test_at_the_nodes_the_path_is_the_trajectory_and_continuous(tableau, substeps, free_time):
    solution = solve(curved(free_time), 6, tableau, substeps=substeps)
    np.testing.assert_allclose(
        solution.path.state(solution.times), solution.trajectory.state_array, atol=1e-10
    )
    steps = np.linspace(solution.times[0], solution.times[-1], 6 * substeps + 1)[1:-1]
    tiny = 1e-9
    np.testing.assert_allclose(solution.state(steps - tiny), solution.state(steps), atol=1e-7)


def test_a_control_that_jumps_takes_its_value_on_the_right():
    solution = bang_bang()
    nodes = solution.times
    values = solution.trajectory.control_array[:, 0]
    np.testing.assert_array_equal(solution.control()[:-1, 0], values)
    assert solution.control()[-1, 0] == values[-1]
    np.testing.assert_array_equal(solution.control(nodes[1:-1] - 1e-6)[:, 0], values[:-1])
    np.testing.assert_allclose(solution.control([0.999999, 1.0000001])[:, 0], [1, -1], atol=1e-6)


@pytest.mark.parametrize("tableau", [HEUN, RK4, GAUSS_LEGENDRE_6, RADAU_IIA_5], ids=tableau_name)
def test_between_the_stages_the_control_keeps_its_bounds(tableau):
    solution = solve(curved(), 5, tableau, control_per_stage=True)
    controls = solution.control(np.linspace(0, 0.7, 201))
    assert controls.min() >= -0.5
    assert controls.min() == pytest.approx(-0.5, abs=1e-7)


@pytest.mark.parametrize(
    ("tableau", "control_per_stage"),
    [
        *((tableau, False) for tableau in (EULER, MIDPOINT, RK4, GAUSS_LEGENDRE_4, RADAU_IIA_5)),
        *((tableau, True) for tableau in (EULER, RK4, GAUSS_LEGENDRE_4, RADAU_IIA_5)),
    ],
    ids=tableau_name,
)
@pytest.mark.parametrize("substeps", [1, 3])
@pytest.mark.parametrize("free_time", [False, True])
def test_the_quadrature_reproduces_the_running_cost(
    tableau, substeps, control_per_stage, free_time
):
    solution = solve(
        curved(free_time), 5, tableau, substeps=substeps, control_per_stage=control_per_stage
    )
    times, weights, states, controls = solution.path.quadrature()
    assert weights.sum() == pytest.approx(solution.horizon, rel=1e-12)
    assert times.min() >= 0
    assert times.max() <= solution.horizon * (1 + 1e-12)
    x, u = states[:, 0, 0], controls[:, 0]
    assert weights @ (u**2 + u * x + x**2) == pytest.approx(solution.objective, rel=1e-9)


def test_methods_may_change_from_interval_to_interval():
    tableaux = [RK4, GAUSS_LEGENDRE_6, RK4, RADAU_IIA_5, GAUSS_LEGENDRE_6, RK4]
    solution = solve(double_integrator(), 6, tableaux, substeps=2, control_per_stage=True)
    t = np.linspace(0, 1, 31)
    assert solution.objective == pytest.approx(6, rel=1e-9)
    np.testing.assert_allclose(solution.state(t)[:, 1], 6 * t - 6 * t**2, atol=1e-7)
    np.testing.assert_array_equal(solution.path.starts, np.sort(solution.path.starts))
    assert solution.value(integral(U**2 / 2)) == pytest.approx(6, rel=1e-9)


SAME_GRID = [
    *((tableau, False) for tableau in (EULER, RK4, GAUSS_LEGENDRE_4, RADAU_IIA_5)),
    *((tableau, True) for tableau in (GAUSS_LEGENDRE_2, GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6)),
]


@pytest.mark.parametrize(("tableau", "control_per_stage"), SAME_GRID, ids=tableau_name)
@pytest.mark.parametrize("substeps", [1, 2])
@pytest.mark.parametrize("free_time", [False, True])
def test_resampling_onto_the_same_grid_is_the_identity(
    tableau, control_per_stage, substeps, free_time
):
    grid = TimeGrid.graded(np.array([1, 2, 1, 4]) / 8 * (1.0 if free_time else 0.7))
    solution = solve(
        curved(free_time), grid, tableau, substeps=substeps, control_per_stage=control_per_stage
    )
    own, found = solution.trajectory, solution.path.on(solution.transcription)
    np.testing.assert_allclose(found.state_array, own.state_array, atol=1e-10)
    np.testing.assert_allclose(found.control_array, own.control_array, atol=1e-12)
    np.testing.assert_allclose(found.times, own.times, rtol=1e-14)
    assert len(found.locals) == len(own.locals)
    for ours, theirs in zip(found.locals, own.locals, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)


@pytest.mark.parametrize(
    ("tableau", "control_per_stage", "substeps"),
    [(GAUSS_LEGENDRE_4, True, 1), (RADAU_IIA_3, True, 2), (RK4, False, 1), (RK4, True, 3)],
    ids=tableau_name,
)
def test_resampling_keeps_cubic_states_and_linear_controls(tableau, control_per_stage, substeps):
    solution = solve(double_integrator(), 5, GAUSS_LEGENDRE_6, control_per_stage=True)
    grid = TimeGrid(np.array([0, 0.15, 0.5, 0.6, 1.0]))
    other = transcribed(solution.problem, grid, tableau, substeps, control_per_stage)
    found = solution.path.on(other)
    t = grid.nodes
    exact = np.column_stack([-1 + 3 * t**2 - 2 * t**3, 6 * t - 6 * t**2])
    np.testing.assert_allclose(found.state_array[:, 0], exact, atol=1e-8)
    for k in range(grid.intervals):
        times = other.stage_points(k)[0] if control_per_stage else (t[k] + t[k + 1]) / 2
        expected = np.atleast_1d(6 - 12 * times)  # the mean of a line is its middle
        np.testing.assert_allclose(found.controls[k], expected, atol=1e-7)
        if not tableau.is_explicit:
            inner = found.locals[k].reshape(-1, 2)[:, 0]
            np.testing.assert_allclose(inner, -1 + 3 * times**2 - 2 * times**3, atol=1e-8)


def test_resampling_onto_halved_intervals_keeps_a_constant_control():
    """Means over two halves of an interval are the value on it."""
    solution = bang_bang(6)
    fine = transcribed(solution.problem, TimeGrid.uniform(12), RK4)
    found = solution.path.on(fine).control_array[:, 0]
    np.testing.assert_allclose(found, np.repeat(solution.trajectory.control_array[:, 0], 2))


def test_another_horizon_is_met_by_the_share_of_time():
    solution = solve(double_integrator(), 4, GAUSS_LEGENDRE_6, control_per_stage=True)
    long = pose(
        state=PLANE,
        control=U,
        dynamics=ca.vertcat(PLANE[1], U),
        horizon=3.0,
        minimize=integral(U**2 / 2),
        subject_to=[at_start(PLANE) == [-1, 0], at_end(PLANE) == 0],
    )
    found = solution.path.on(transcribed(long, TimeGrid.uniform(6, 3.0), RK4))
    s = np.linspace(0, 1, 7)
    np.testing.assert_allclose(found.state_array[:, 0, 0], -1 + 3 * s**2 - 2 * s**3, atol=1e-8)
    again = solve(long, 6, guess=solution)
    assert again.is_solved
    assert again.times[-1] == 3.0


def test_a_time_outside_the_horizon_is_refused():
    solution = bang_bang()
    for times in ([-0.1], [0.5, 2.5]):
        with pytest.raises(ValueError, match=r"expected them within the horizon, \[0, 2\]"):
            solution.state(times)


def test_the_states_of_an_ensemble_have_a_member_in_between():
    starts = np.array([[1.0], [2.0], [-0.5]])
    problem = OptimalControlProblem(
        state=X, control=U, dynamics=-X, horizon=1.0, initial_state=starts, control_cost=U**2
    )
    solution = solve(problem, 8, GAUSS_LEGENDRE_6)
    t = np.linspace(0, 1, 5)
    assert solution.state(t).shape == (5, 3, 1)
    np.testing.assert_allclose(solution.state(t), np.exp(-t)[:, None, None] * starts, rtol=1e-6)
    assert solution.control(t).shape == (5, 1)
    assert solution.sample(X**2, t).shape == (5, 3)
    assert solution.value(at_end(X)) == pytest.approx(starts.sum() / math.e, rel=1e-8)


def test_time_enters_the_rates_at_both_ends_of_a_step():
    """x' = 3 t^2 is integrated exactly by RK4, and t^3 is its own cubic."""
    problem = pose(
        state=X,
        control=NONE,
        dynamics=3 * CLOCK**2,
        horizon=2.0,
        time=CLOCK,
        subject_to=[at_start(X) == 0],
    )
    t = np.linspace(0, 2, 9)
    np.testing.assert_allclose(solve(problem, 3, RK4).state(t)[:, 0], t**3, atol=1e-12)
