"""What the grid of the control costs, from the Hamiltonian between the stages."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    EULER,
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    RADAU_IIA_3,
    RK4,
    OptimalControlProblem,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)
from ocp.costate_path import costate_path
from problems.classic import (
    CLASSICS,
    bryson_denham,
    double_integrator,
    hypersensitive,
    linear_network,
)
from problems.literature import LITERATURE

X, U = ca.SX.sym("x"), ca.SX.sym("u")
SMOOTH = [
    c
    for c in (*CLASSICS, *LITERATURE)
    if c.name
    in (
        *("double integrator", "Van der Pol", "brachistochrone", "batch reactor", "Hager"),
        *("regulator", "hanging chain", "Dido", "Zermelo", "orbit raising", "lunar landing"),
        *("linear tangent steering", "Bryson-Denham, resting", "Bryson-Denham, touching"),
    )
]


@pytest.mark.parametrize("intervals", [5, 20])
def test_the_excess_of_a_constant_control_is_that_of_a_step_to_a_line(intervals):
    """On the grid u is 6 / (1 - 1/N^2) (1 - 2 t) at the midpoints, and p2 the line through -u.

    Int (u + p2)^2 / 2 is then 6 / N^2 / (1 - 1/N^2)^2, where the optimum is 6 / N^2 / (1 - 1/N^2)
    above that of a free control.
    """
    condition = solve(double_integrator().problem, intervals).minimum_condition
    exact = 6 / intervals**2 / (1 - 1 / intervals**2) ** 2
    assert condition.total == pytest.approx(exact, rel=1e-7)
    np.testing.assert_allclose(condition.excess, exact / intervals, rtol=1e-6)


@pytest.mark.parametrize("classic", SMOOTH, ids=lambda c: c.name)
def test_what_the_grid_of_the_control_costs_is_the_distance_to_the_optimum(classic):
    """With one control on each of 50 intervals; the steps themselves are exact to many digits."""
    solution = solve(classic.problem, guess=classic.guess)
    sign = -1.0 if classic.problem.maximize else 1.0
    lost = sign * (solution.objective + solution.error.objective - classic.optimum)
    assert solution.minimum_condition.total == pytest.approx(lost, rel=0.03)
    assert "the grid of the control costs about" in str(solution)


@pytest.mark.parametrize("tableau", [GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6, RADAU_IIA_3, RK4, EULER])
def test_it_costs_a_quarter_on_twice_as_many_intervals(tableau):
    problem = hypersensitive(2.0).problem
    totals = [solve(problem, n, tableau).minimum_condition.total for n in (40, 80)]
    assert totals[0] / totals[1] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(
    ("control_per_stage", "order"), [(False, 2), (True, 3)], ids=["interval", "stage"]
)
@pytest.mark.parametrize("substeps", [1, 3])
def test_the_costate_between_the_nodes_converges_to_the_analytic_one(
    substeps, control_per_stage, order
):
    classic = hypersensitive(2.0)
    errors = []
    for intervals in (10, 20):
        solution = solve(
            classic.problem, intervals, substeps=substeps, control_per_stage=control_per_stage
        )
        costates = np.stack(solution.certificate.costates)
        found = costate_path(solution.path, solution.transcription, costates, solution._blocks())
        group = solution.path.groups[0]
        steps = np.repeat(np.arange(group.start.size), 5)
        theta = np.tile(np.linspace(0, 1, 5), group.start.size)
        times = group.start[steps] + theta * group.length[steps]
        exact = np.array([classic.costate(t)[0] for t in times])
        errors.append(np.abs(found.groups[0](steps, theta)[:, 0] - exact).max())
    assert errors[1] < 1e-2
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4)


def test_a_switch_inside_an_interval_shows_as_the_excess_of_that_interval():
    """x' = u in [-1, 1], min Int (t - 0.43) u: p is constant 0, so u switches at t = 0.43."""
    t = ca.SX.sym("t")
    problem = pose(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        time=t,
        minimize=integral((t - 0.43) * U),
        subject_to=[at_start(X) == 0, along_path(U).within(-1, 1)],
    )
    solution = solve(problem, 5)
    excess = solution.minimum_condition.excess
    assert excess[2] == pytest.approx(0.03**2, rel=0.2)  # 2 Int_0.40^0.43 (0.43 - t) dt
    np.testing.assert_allclose(np.delete(excess, 2), 0.0, atol=1e-12)
    exact = -(0.43**2 + 0.57**2) / 2
    assert solution.objective - excess.sum() == pytest.approx(exact, rel=1e-3)


def test_controls_that_a_mixed_constraint_forbids_are_not_counted():
    """min Int u^2 - 4 u over u <= 1 + x with x = 0: u = 1, where the Hamiltonian would want 2."""
    problem = pose(
        state=X,
        control=U,
        dynamics=0 * U,
        horizon=1.0,
        minimize=integral(U**2 - 4 * U),
        subject_to=[at_start(X) == 0, along_path(U - X) <= 1],
    )
    solution = solve(problem, 4, control_per_stage=True)
    assert solution.objective == pytest.approx(-3.0, rel=1e-7)
    assert solution.minimum_condition.total == pytest.approx(0.0, abs=1e-7)
    free = pose(
        state=X,
        control=U,
        dynamics=0 * U,
        horizon=1.0,
        minimize=integral(U**2 - 4 * U),
        subject_to=[at_start(X) == 0],
    )
    held = solve(free, 4)
    np.testing.assert_allclose(held.control()[:, 0], 2.0, rtol=1e-7)


def test_members_of_an_ensemble_share_the_hamiltonian():
    solution = solve(linear_network().problem, 5)
    assert solution.minimum_condition.total == pytest.approx(0.0, abs=1e-9)


def test_a_junction_between_a_node_and_the_nearest_stage_shows_as_a_jump_of_the_hamiltonian():
    """v <= 1.3: the arc begins at t = 9/26, just after the node at 1/3, which no stage sees."""
    x = ca.SX.sym("x", 2)
    problem = pose(
        state=x,
        control=U,
        dynamics=ca.vertcat(x[1], U),
        horizon=1.0,
        minimize=integral(U**2) / 2,
        subject_to=[at_start(x) == [-1, 0], at_end(x) == 0, along_path(x[1]) <= 1.3],
    )
    tau = 1.5 * (1 - 1 / 1.3)
    exact = 4 * 1.3**2 / (3 * tau)
    solution = solve(problem, 3, GAUSS_LEGENDRE_6, control_per_stage=True)
    lost = solution.objective - exact
    assert lost > 1e-4
    condition = solution.minimum_condition
    assert condition.total < lost / 10
    assert condition.junctions.sum() > lost


def test_a_cost_of_the_derivative_leaves_no_condition_at_single_times():
    problem = OptimalControlProblem(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        initial_state=[1.0],
        running_cost=X**2,
        control_rate_weight=1.0,
        control_cost=U**2,
    )
    solution = solve(problem, 5)
    assert solution.is_solved
    assert "derivative of the control" in solution.minimum_condition.unknown
    assert math.isnan(solution.minimum_condition.total)
    assert "grid of the control costs is not known" in str(solution)


def test_a_failure_of_the_condition_leaves_the_solution_as_it_is(monkeypatch):
    def fail(*arguments):
        raise np.linalg.LinAlgError("singular matrix")

    monkeypatch.setattr("ocp.continuous.minimum_condition", fail)
    solution = solve(double_integrator().problem, 5)
    assert solution.is_solved
    assert "singular matrix" in solution.minimum_condition.unknown
    assert "singular matrix" in str(solution)


def test_where_the_state_rests_on_its_bound_nothing_is_lost():
    classic = bryson_denham(1 / 9)
    solution = solve(classic.problem, 6, GAUSS_LEGENDRE_6, control_per_stage=True)
    assert solution.objective == pytest.approx(classic.optimum, rel=1e-8)
    assert solution.minimum_condition.total == pytest.approx(0.0, abs=1e-6)
    assert math.isclose(solution.minimum_condition.junctions.sum(), 0.0, abs_tol=1e-6)


def test_a_free_horizon_counts_in_units_of_the_problems_time():
    """T = 2 sqrt(1/a) for |u| <= a; an odd number of intervals cannot switch in the middle."""
    x, T = ca.SX.sym("x", 2), ca.SX.sym("T")
    for limit in (1.0, 9.0):
        problem = pose(
            state=x,
            control=U,
            dynamics=ca.vertcat(x[1], U),
            horizon=T,
            minimize=at_end(T),
            subject_to=[
                at_start(x) == 0,
                at_end(x) == [1, 0],
                along_path(U).within(-limit, limit),
            ],
        )
        solution = solve(problem, 11)
        lost = solution.objective - 2 / math.sqrt(limit)
        assert solution.minimum_condition.total == pytest.approx(lost, rel=0.1)
