"""Defects of steps against exact flows, and what they say of the optimum."""

import math

import casadi as ca
import numpy as np
import pytest
from scipy.linalg import expm

from ocp import (
    EULER,
    GAUSS_LEGENDRE_2,
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    HEUN,
    MIDPOINT,
    RADAU_IIA_1,
    RADAU_IIA_3,
    RADAU_IIA_5,
    RK4,
    OptimalControlProblem,
    Scaling,
    SolveOptions,
    TimeGrid,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)

X, U, T, CLOCK = ca.SX.sym("X", 2), ca.SX.sym("u"), ca.SX.sym("T"), ca.SX.sym("t")
SCALAR = ca.SX.sym("x")
A, B = np.array([[-0.5, 2.0], [-1.5, -0.3]]), np.array([0.4, 1.0])
START = [1.0, -0.5]
TIGHT = SolveOptions(ipopt={"tol": 1e-13})  # far below the smallest defect


def tableau_name(item: object) -> str:
    return str(getattr(item, "name", item))


def linear_flow(**changes):
    """x' = A x + B u with u = 1 prescribed; min Int |x|^2."""
    arguments = {
        "state": X,
        "control": U,
        "dynamics": ca.mtimes(ca.DM(A), X) + ca.DM(B) * U,
        "horizon": 2.0,
        "initial_state": START,
        "running_cost": ca.sumsqr(X),
        "control_bounds": (1.0, 1.0),
    }
    return OptimalControlProblem(**{**arguments, **changes})


def exact_step(state, step, control):
    """By the exponential of the augmented matrix."""
    augmented = np.zeros((3, 3))
    augmented[:2, :2], augmented[:2, 2] = A, B * control
    return (expm(step * augmented) @ np.append(state, 1.0))[:2]


ORDERS = {
    EULER: 1,
    HEUN: 2,
    MIDPOINT: 2,
    RK4: 4,
    GAUSS_LEGENDRE_2: 2,
    GAUSS_LEGENDRE_4: 4,
    RADAU_IIA_1: 1,
    RADAU_IIA_3: 3,
    RADAU_IIA_5: 5,
}


@pytest.mark.parametrize(("tableau", "order"), ORDERS.items(), ids=map(tableau_name, ORDERS))
def test_the_defect_of_a_step_is_of_one_order_more_than_the_method(tableau, order):
    grids = (8, 16, 32) if order >= 4 else (32, 64, 128)
    defects = []
    for intervals in grids:
        solution = solve(linear_flow(), intervals, tableau, options=TIGHT)
        error = solution.error
        x = solution.trajectory.state_array[:, 0]
        h = solution.times[1]
        exact = np.array([exact_step(x[k], h, 1.0) - x[k + 1] for k in range(intervals)])
        np.testing.assert_allclose(error.defects[:, 0], exact, atol=2e-11)
        sizes = np.abs(x).max(axis=0)
        expected = np.abs(exact / sizes).max(axis=1)
        np.testing.assert_allclose(error.relative, expected, atol=2e-11)
        assert error.largest == error.relative.max()
        defects.append(error.largest)
    slope = -np.polyfit(np.log(grids), np.log(defects), 1)[0]
    assert slope == pytest.approx(order + 1, abs=0.15)


def test_the_quadrature_of_the_running_cost_misses_what_it_does_exactly():
    """x' = -x by Euler: Int_0^h x_k^2 exp(-2 s) ds - h x_k^2."""
    problem = OptimalControlProblem(
        state=SCALAR,
        control=U,
        dynamics=-SCALAR,
        horizon=1.0,
        initial_state=[2.0],
        running_cost=SCALAR**2,
        control_cost=U**2,
    )
    grid = TimeGrid(np.array([0, 0.1, 0.4, 1.0]))
    solution = solve(problem, grid, EULER)
    x, h = solution.trajectory.state_array[:-1, 0, 0], grid.steps
    missed = x**2 * ((1 - np.exp(-2 * h)) / 2 - h)
    np.testing.assert_allclose(solution.error.running_cost, missed, rtol=1e-9)
    np.testing.assert_allclose(solution.error.times, grid.nodes[:-1], atol=1e-15)
    np.testing.assert_allclose(solution.error.defects[:, 0, 0], x * (np.exp(-h) - 1 + h), rtol=1e-9)


@pytest.mark.parametrize("substeps", [1, 3])
def test_every_step_has_its_own_defect(substeps):
    grid = TimeGrid(np.array([0, 0.5, 0.8, 2.0]))
    solution = solve(linear_flow(), grid, HEUN, substeps=substeps)
    error = solution.error
    assert error.defects.shape == (3 * substeps, 1, 2)
    state, expected = np.array(START), []
    for h in np.repeat(grid.steps / substeps, substeps):
        after = HEUN.step(lambda x, t: A @ x + B, state, 0.0, h)[0]
        expected.append(exact_step(state, h, 1.0) - after)
        state = after
    np.testing.assert_allclose(error.defects[:, 0], expected, atol=1e-9)


def test_the_defects_of_mixed_methods_stand_in_the_order_of_time():
    tableaux = [EULER, GAUSS_LEGENDRE_6, EULER, RK4, GAUSS_LEGENDRE_6, EULER]
    error = solve(linear_flow(), 6, tableaux).error
    assert (np.diff(error.times) > 0).all()
    is_euler = np.array([tableau is EULER for tableau in tableaux])
    assert error.relative[is_euler].min() > 1e-2
    assert error.relative[~is_euler].max() < 2e-3


@pytest.mark.parametrize("tableau", [GAUSS_LEGENDRE_6, RADAU_IIA_5, RK4], ids=tableau_name)
def test_a_linear_control_through_its_stages_moves_a_mass_without_a_defect(tableau):
    problem = pose(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], U),
        horizon=1.0,
        minimize=integral(U**2 / 2),
        subject_to=[at_start(X) == [-1, 0], at_end(X) == 0],
    )
    solution = solve(problem, 5, tableau, control_per_stage=True)
    assert solution.error.largest < 1e-8
    assert abs(solution.error.objective) < 1e-7


def test_time_enters_the_integration():
    """x' = cos t by Euler."""
    problem = pose(
        state=SCALAR,
        control=ca.SX(0, 1),
        dynamics=ca.cos(CLOCK),
        horizon=2.0,
        time=CLOCK,
        subject_to=[at_start(SCALAR) == 0],
    )
    solution = solve(problem, 5, EULER)
    t = solution.times
    exact = np.diff(np.sin(t)) - np.diff(t) * np.cos(t[:-1])
    np.testing.assert_allclose(solution.error.defects[:, 0, 0], exact, atol=1e-11)


def van_der_pol(sign: float = 1.0, horizon: float = 2.0, **changes):
    cost = sign * integral(ca.sumsqr(X) / 2 + U**2 / 2)
    return pose(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], (1 - X[0] ** 2) * X[1] - X[0] + U),
        horizon=horizon,
        subject_to=[at_start(X) == [1, 0], *changes.pop("conditions", [])],
        **{"minimize" if sign > 0 else "maximize": cost},
    )


def with_exact_steps(problem, intervals):
    """The same controls to choose from, constant on each interval."""
    return solve(problem, intervals, GAUSS_LEGENDRE_6, substeps=4).objective


@pytest.mark.parametrize(
    ("tableau", "order", "bound"),
    [(EULER, 1, 0.5), (MIDPOINT, 2, 0.1), (HEUN, 2, 0.1)],
    ids=tableau_name,
)
def test_the_estimate_predicts_the_optimum_with_exact_steps(tableau, order, bound):
    """With an error of the order of the method: what it leaves is the square."""
    disagreement, grids = [], (20, 40, 80)
    for intervals in grids:
        solution = solve(van_der_pol(), intervals, tableau)
        change = with_exact_steps(van_der_pol(), intervals) - solution.objective
        disagreement.append(abs(solution.error.objective / change - 1))
    assert disagreement[0] < bound
    ratios = np.array(disagreement[:-1]) / disagreement[1:]
    assert ratios.min() > 2**order * 0.75, disagreement


def test_the_estimate_has_the_sign_of_the_cost_to_be_maximised():
    low = solve(van_der_pol(), 20, EULER).error.objective
    high = solve(van_der_pol(-1.0), 20, EULER).error.objective
    assert high == pytest.approx(-low, rel=1e-6)


def test_the_estimate_predicts_the_optimum_under_limits_at_the_end_and_of_the_control():
    conditions = [at_end(X[0]) == 0, along_path(U) >= -0.4]
    problem = van_der_pol(conditions=conditions)
    disagreement = []
    for intervals in (40, 80):
        solution = solve(problem, intervals, MIDPOINT)
        change = with_exact_steps(problem, intervals) - solution.objective
        disagreement.append(abs(solution.error.objective / change - 1))
    assert disagreement[0] < 0.05
    assert disagreement[1] < disagreement[0] / 2


def test_the_estimate_predicts_the_least_time():
    """A rocket against quadratic drag: x'' = u - v^2 / 2, |u| <= 1, by Heun on a free horizon."""
    problem = pose(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], U - X[1] * ca.fabs(X[1]) / 2),
        horizon=T,
        minimize=at_end(T),
        subject_to=[
            at_start(X) == 0,
            at_end(X) == [1, 0],
            along_path(U).within(-1, 1),
            at_end(T).within(0.5, 5),
        ],
    )
    solution = solve(problem, 10, HEUN)
    change = with_exact_steps(problem, 10) - solution.objective
    assert solution.is_solved
    assert solution.error.objective == pytest.approx(change, rel=0.1)


def test_scaling_does_not_change_the_defects():
    plain = solve(van_der_pol(), 10, HEUN, scaling=Scaling()).error
    other = solve(van_der_pol(), 10, HEUN, scaling=Scaling([10, 0.1], 3.0, time=7.0)).error
    np.testing.assert_allclose(other.defects, plain.defects, atol=1e-8)
    assert other.objective == pytest.approx(plain.objective, rel=1e-5)


@pytest.mark.parametrize(
    ("tableau", "rate"), [(RADAU_IIA_3, 1e5), (GAUSS_LEGENDRE_4, 1e3)], ids=tableau_name
)
def test_a_stiff_step_agrees_with_the_exact_exponential(tableau, rate):
    """x' = -l (x - 1), with h l from 100 on: the step leads to 1 + (x_k - 1) exp(-l h)."""
    problem = OptimalControlProblem(
        state=SCALAR,
        control=U,
        dynamics=-rate * (SCALAR - U),
        horizon=0.1,
        initial_state=[3.0],
        control_bounds=(1.0, 1.0),
    )
    solution = solve(problem, 1, tableau)
    x = solution.trajectory.state_array[:, 0, 0]
    exact = 1 + (x[:-1] - 1) * np.exp(-rate * 0.1)
    np.testing.assert_allclose(solution.error.defects[:, 0, 0], exact - x[1:], atol=1e-9)


def test_members_are_integrated_each_by_itself():
    starts = np.array([[1.0, -0.5], [0.2, 2.0], [-1.0, 0.0]])
    together = solve(linear_flow(initial_state=starts), 6, HEUN).error
    assert together.defects.shape == (6, 3, 2)
    apart = [solve(linear_flow(initial_state=start), 6, HEUN).error for start in starts]
    for i, error in enumerate(apart):
        np.testing.assert_allclose(together.defects[:, i], error.defects[:, 0], atol=1e-9)
    missed = sum(error.running_cost for error in apart)
    np.testing.assert_allclose(together.running_cost, missed, atol=1e-9)
    change = sum(error.objective for error in apart)
    assert together.objective == pytest.approx(change, rel=1e-7)


def test_members_with_data_of_their_own_have_their_own_defects():
    rate = ca.SX.sym("d")
    rates = np.array([0.5, 2.0])
    problem = OptimalControlProblem(
        state=SCALAR,
        control=U,
        dynamics=-rate * SCALAR,
        horizon=1.0,
        initial_state=[[1.0], [1.0]],
        control_cost=U**2,
        data=rate,
        member_data=rates[:, None],
    )
    solution = solve(problem, 4, EULER)
    x = solution.trajectory.state_array[:, :, 0]
    exact = x[:-1] * np.exp(-rates / 4) - x[1:]
    np.testing.assert_allclose(solution.error.defects[:, :, 0], exact, atol=1e-10)


def test_a_solution_that_blows_up_within_a_step_has_no_number_for_its_defect():
    """x' = x^2 from 1 is infinite at t = 1; one step of Euler goes to 3."""
    problem = pose(
        state=SCALAR,
        control=ca.SX(0, 1),
        dynamics=SCALAR**2,
        horizon=2.0,
        subject_to=[at_start(SCALAR) == 1],
    )
    solution = solve(problem, 1, EULER)
    assert math.isnan(solution.error.largest)


def test_the_report_names_the_worst_step():
    solution = solve(linear_flow(), TimeGrid(np.array([0, 0.1, 0.2, 1.9, 2.0])), HEUN)
    assert "at t = 0.2;" in str(solution.error)
    assert "exact steps would change the objective by" in str(solution.error)
