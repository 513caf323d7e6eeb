"""Discretisation by implicit methods, with free ends, and by one control per stage."""

from dataclasses import replace
from functools import cache

import casadi as ca
import numpy as np
import pytest
from scipy.optimize import minimize as descend

from ocp import (
    EULER,
    FREE,
    GAUSS_LEGENDRE_2,
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    HEUN,
    MIDPOINT,
    RADAU_IIA_1,
    RADAU_IIA_3,
    RADAU_IIA_5,
    RK4,
    ButcherTableau,
    Constraint,
    OptimalControlProblem,
    Solution,
    SolveOptions,
    StagedProblem,
    Status,
    TimeGrid,
    discretize,
    random_guess,
    rollout,
    solve,
)
from ocp.condensing import adjoint, linearize, reduced_gradient
from ocp.discretize import embed, extract
from ocp.reduced_hessian import reduced_hessian
from ocp.runge_kutta import order_residuals
from problems.classic import (
    SMOOTH,
    ClassicProblem,
    Recipe,
    free_time_bolza,
    hypersensitive,
    linear_network,
    lunar_landing,
    solve_classic,
    van_der_pol,
)
from problems.literature import dido, hager, linear_tangent_steering, periodic_tracking, zermelo

OPTIONS = SolveOptions(ipopt={"tol": 1e-12})  # far below the smallest error measured here
IMPLICIT = (
    *(GAUSS_LEGENDRE_2, GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6),
    *(RADAU_IIA_1, RADAU_IIA_3, RADAU_IIA_5),
)


def name(item: object) -> str:
    if isinstance(item, Recipe):
        return f"{item.intervals}-{item.tableau.name}"
    return str(getattr(item, "name", item))


every_implicit_tableau = pytest.mark.parametrize("tableau", IMPLICIT, ids=name)


def minimum(classic: ClassicProblem, *recipe: object, **more: object) -> Solution:
    solution = solve_classic(classic, Recipe(*recipe, **more), OPTIONS)
    assert solution.is_solved, solution.message
    return solution


def observed_order(intervals: tuple[int, ...], errors: list[float]) -> float:
    return -float(np.polyfit(np.log(intervals), np.log(np.abs(errors)), 1)[0])


# Tableaux


@every_implicit_tableau
def test_an_implicit_tableau_has_its_claimed_order_and_not_the_next(tableau):
    assert np.abs(order_residuals(tableau, tableau.order)).max() < 1e-13
    assert np.abs(order_residuals(tableau, tableau.order + 1)).max() > 1e-4
    assert not tableau.is_explicit
    assert (tableau.b > 0).all()


@pytest.mark.parametrize(
    "tableau", [GAUSS_LEGENDRE_2, GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6], ids=name
)
def test_gauss_methods_are_symplectic_and_symmetric(tableau):
    a, b, c = tableau.a, tableau.b, tableau.c
    np.testing.assert_allclose(b[:, None] * a + (b[:, None] * a).T, np.outer(b, b), atol=1e-15)
    np.testing.assert_allclose(c + c[::-1], 1.0, atol=1e-15)
    np.testing.assert_allclose(a + a[::-1, ::-1], np.tile(b, (len(b), 1)), atol=1e-15)


@pytest.mark.parametrize("tableau", [RADAU_IIA_1, RADAU_IIA_3, RADAU_IIA_5], ids=name)
def test_the_last_stage_of_radau_iia_is_the_next_state(tableau):
    np.testing.assert_allclose(tableau.a[-1], tableau.b, atol=1e-15)
    assert tableau.c[-1] == pytest.approx(1.0, abs=1e-15)


def test_the_named_implicit_tableaux_have_the_published_coefficients():
    """Hairer and Wanner, Solving Ordinary Differential Equations II (1996), section IV.5."""
    np.testing.assert_allclose(RADAU_IIA_3.a, [[5 / 12, -1 / 12], [3 / 4, 1 / 4]], atol=1e-15)
    root = np.sqrt(3) / 6
    np.testing.assert_allclose(
        GAUSS_LEGENDRE_4.a, [[1 / 4, 1 / 4 - root], [1 / 4 + root, 1 / 4]], atol=1e-15
    )
    nodes = [(4 - np.sqrt(6)) / 10, (4 + np.sqrt(6)) / 10, 1.0]
    np.testing.assert_allclose(RADAU_IIA_5.c, nodes, atol=1e-14)


# Orders of the optimum

ORDERS = (
    (HEUN, 2, (20, 40, 80)),
    (RADAU_IIA_1, 1, (20, 40, 80)),
    (RADAU_IIA_3, 3, (20, 40, 80)),
    (RADAU_IIA_5, 5, (16, 24, 32)),
    (RK4, 4, (24, 36, 54)),
    (GAUSS_LEGENDRE_2, 2, (20, 40, 80)),
    (GAUSS_LEGENDRE_4, 4, (16, 32, 64)),
    (GAUSS_LEGENDRE_6, 6, (6, 8, 12)),
)
VAN_DER_POL = van_der_pol()
SHORT_HYPERSENSITIVE = hypersensitive(horizon=2.0)  # its layers are resolved by few intervals


@pytest.mark.parametrize(("tableau", "order", "grids"), ORDERS, ids=name)
@pytest.mark.parametrize("classic", [VAN_DER_POL, SHORT_HYPERSENSITIVE, hager()], ids=name)
def test_with_one_control_per_stage_the_optimum_has_the_order_of_the_method(
    classic, tableau, order, grids
):
    errors = [
        minimum(classic, N, tableau, control_per_stage=True).objective - classic.optimum
        for N in grids
    ]
    assert min(map(abs, errors)) > 10 * classic.accuracy * classic.optimum
    assert observed_order(grids, errors) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("tableau", [GAUSS_LEGENDRE_4, RADAU_IIA_3, RADAU_IIA_5], ids=name)
@pytest.mark.parametrize("classic", [VAN_DER_POL, SHORT_HYPERSENSITIVE], ids=name)
def test_one_control_per_interval_caps_the_order_at_two_however_good_the_method(classic, tableau):
    grids = (20, 40, 80)
    errors = [minimum(classic, N, tableau).objective - classic.optimum for N in grids]
    assert observed_order(grids, errors) == pytest.approx(2, abs=0.15)


def test_a_control_per_stage_is_refused_where_a_weight_is_zero():
    grid = TimeGrid.uniform(4, 2.0)
    with pytest.raises(ValueError, match=r"'midpoint' has a zero weight.*one control per interval"):
        discretize(VAN_DER_POL.problem, grid, MIDPOINT, control_per_stage=True)
    assert discretize(VAN_DER_POL.problem, grid, MIDPOINT).intervals == 4


@pytest.mark.parametrize("tableau", [RK4, RADAU_IIA_3, GAUSS_LEGENDRE_4], ids=name)
def test_with_a_control_per_stage_substeps_are_intervals(tableau):
    fine = minimum(VAN_DER_POL, 8, tableau, control_per_stage=True)
    coarse = minimum(VAN_DER_POL, 4, tableau, 2, control_per_stage=True)
    assert coarse.objective == pytest.approx(fine.objective, rel=1e-12)
    np.testing.assert_allclose(
        coarse.trajectory.control_array.ravel(), fine.trajectory.control_array.ravel(), atol=1e-8
    )
    np.testing.assert_allclose(
        coarse.trajectory.state_array, fine.trajectory.state_array[::2], atol=1e-9
    )


# Local unknowns


def pendulums(members: int = 3) -> OptimalControlProblem:
    """Pendulums of different lengths and starts, pushed by one control and one parameter."""
    x, u, p, d, t = (ca.SX.sym(s, n) for s, n in zip("xupdt", (2, 1, 1, 1, 1), strict=True))
    starts = np.random.default_rng(3).normal(size=(members, 2))
    return OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], -d * ca.sin(x[0]) - p * x[1] + u * ca.cos(t)),
        horizon=1.5,
        initial_state=starts,
        running_cost=ca.sumsqr(x) * (1 + p**2) / members,
        terminal_cost=x[0] ** 4,
        control_cost=u**2,
        parameter=p,
        parameter_cost=(p - 0.3) ** 2,
        data=d,
        member_data=np.linspace(0.5, 2.0, members)[:, None],
        time=t,
    )


def staged_pendulums(tableau: ButcherTableau, per_stage: bool, members: int = 3) -> StagedProblem:
    grid = TimeGrid(np.array([0.0, 0.4, 0.9, 1.5]))
    return discretize(pendulums(members), grid, tableau, control_per_stage=per_stage)


def rolled_out_cost(staged: StagedProblem, decisions: np.ndarray) -> float:
    return linearize(staged, rollout(staged, decisions)).objective


def gradient_at(staged: StagedProblem, decisions: np.ndarray) -> np.ndarray:
    linearization = linearize(staged, rollout(staged, decisions))
    none = tuple(np.zeros_like(v.rows) for v in (*linearization.stages, *linearization.shared))
    return reduced_gradient(linearization, adjoint(linearization, none), none).value


def slopes(function, point: np.ndarray, increment: float = 1e-3) -> np.ndarray:
    """Central differences of order 4, one row per component of the point."""
    rows = []
    for unit in np.eye(point.size):
        near, far = (
            (function(point + s * increment * unit) - function(point - s * increment * unit)) / s
            for s in (1, 2)
        )
        rows.append((4 * near - far) / (6 * increment))
    return np.array(rows)


@every_implicit_tableau
@pytest.mark.parametrize("per_stage", [False, True])
def test_a_rollout_satisfies_the_equations_of_the_stages(tableau, per_stage):
    staged = staged_pendulums(tableau, per_stage)
    linearization = linearize(staged, random_guess(staged, 1))
    for values in linearization.stages:
        assert np.abs(values.equations).max(initial=0.0) < 1e-13


@every_implicit_tableau
@pytest.mark.parametrize("per_stage", [False, True])
def test_with_local_unknowns_eliminated_derivatives_are_limits_of_differences(tableau, per_stage):
    staged = staged_pendulums(tableau, per_stage)
    decisions = random_guess(staged, 2, scale=0.3).decisions
    linearization = linearize(staged, rollout(staged, decisions))
    none = tuple(np.zeros_like(v.rows) for v in (*linearization.stages, *linearization.shared))
    hessian = reduced_hessian(linearization, adjoint(linearization, none), none)
    # Increments of 1e-3: truncation and rounding both leave about 1e-11.
    np.testing.assert_allclose(
        gradient_at(staged, decisions),
        slopes(lambda v: rolled_out_cost(staged, v), decisions),
        atol=1e-8,
    )
    differences = slopes(lambda v: gradient_at(staged, v), decisions)
    np.testing.assert_allclose(hessian, differences, atol=1e-8)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)


@pytest.mark.parametrize("tableau", [RADAU_IIA_3, GAUSS_LEGENDRE_4], ids=name)
@pytest.mark.parametrize("per_stage", [False, True])
def test_descent_in_the_decisions_alone_ends_at_the_optimum_of_multiple_shooting(
    tableau, per_stage
):
    staged = staged_pendulums(tableau, per_stage)
    grid = TimeGrid(np.array([0.0, 0.4, 0.9, 1.5]))
    found = solve(pendulums(), grid, tableau, control_per_stage=per_stage, options=OPTIONS)
    assert found.is_solved
    start = np.zeros(staged.decision_size)
    descent = descend(
        lambda v: rolled_out_cost(staged, v),
        start,
        jac=lambda v: gradient_at(staged, v),
        options={"gtol": 1e-9},
    )
    assert descent.fun == pytest.approx(found.objective, rel=1e-12)
    np.testing.assert_allclose(descent.x, found.trajectory.decisions, atol=1e-7)
    assert rolled_out_cost(staged, found.trajectory.decisions) == pytest.approx(found.objective)


@pytest.mark.parametrize("tableau", [RADAU_IIA_5, GAUSS_LEGENDRE_6], ids=name)
def test_an_ensemble_may_take_implicit_steps(tableau):
    classic = linear_network([[2.0, 0.5], [0.5, 1.0]])
    solution = minimum(classic, 16, tableau)
    assert solution.objective == pytest.approx(classic.optimum, rel=1e-8)
    assert solution.trajectory.locals[0].shape == (2, 2 * tableau.stages)


@pytest.mark.parametrize("tableau", [RADAU_IIA_3, GAUSS_LEGENDRE_4], ids=name)
def test_permuting_members_with_implicit_steps_permutes_states_and_costates(tableau):
    grid, problem, order = TimeGrid.uniform(4, 1.5), pendulums(), [2, 0, 1]
    permuted = replace(
        problem,
        initial_state=np.array(problem.initial_state)[order],
        member_data=np.array(problem.member_data)[order],
    )
    before, after = (solve(p, grid, tableau, options=OPTIONS) for p in (problem, permuted))
    assert after.objective == pytest.approx(before.objective, rel=1e-12)
    np.testing.assert_allclose(
        after.trajectory.state_array, before.trajectory.state_array[:, order], atol=1e-8
    )
    np.testing.assert_allclose(
        np.array(after.costates), np.array(before.costates)[:, order], atol=1e-8
    )


def test_an_implicit_step_of_a_stiff_equation_is_stable_where_an_explicit_one_explodes():
    """x' = -1000 (x - u), h = 0.1: |R(-100)| < 1 for Radau IIA, 4e6 for RK4."""
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=-1000 * (x - u),
        horizon=1.0,
        initial_state=[1.0],
        running_cost=(x - 0.5) ** 2,
        control_cost=u**2,
    )
    grid = TimeGrid.uniform(10)
    states = {
        tableau.name: rollout(discretize(problem, grid, tableau), np.full(10, 0.3)).states[-1]
        for tableau in (RADAU_IIA_3, RK4)
    }
    assert states["radau-iia-3"] == pytest.approx(0.3, abs=1e-9)
    assert abs(states["rk4"]) > 1e20
    # The layer at the start is passed in one step, which is off by a fourth.
    options = SolveOptions(discretization_tolerance=np.inf)
    assert solve(problem, grid, RADAU_IIA_3).status is Status.INACCURATE
    solution = solve(problem, grid, RADAU_IIA_3, options=options)
    # In the limit x = u: min (x - 1/2)^2 + x^2 = 1/8; the layer at the start costs about 1e-3.
    assert solution.is_solved
    assert solution.objective == pytest.approx(1 / 8, abs=2e-2)
    assert solution.trajectory.control_array[2:-3] == pytest.approx(0.25, abs=1e-5)


# Free ends


def unhurried_transfer(horizon: float | ca.SX) -> OptimalControlProblem:
    """From rest to rest over a unit length, min T + 1/2 Int u^2."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    free = isinstance(horizon, ca.SX)
    return OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=horizon,
        initial_state=[-1.0, 0.0],
        terminal_cost=horizon,
        control_cost=u**2 / 2,
        terminal_constraints=[Constraint("rest", x)],
        parameter=horizon if free else ca.SX(0, 1),
        parameter_bounds=(0.1, 10.0) if free else (-np.inf, np.inf),
    )


@pytest.mark.parametrize("tableau", [RK4, RADAU_IIA_3, GAUSS_LEGENDRE_4], ids=name)
def test_the_free_end_time_is_the_best_of_the_fixed_ones(tableau):
    """min over T of T + 6 c / T^3, c = 1 / (1 - 1/N^2) with a control per interval."""
    N = 8
    factor = 1 / (1 - 1 / N**2)
    free = solve(unhurried_transfer(ca.SX.sym("T")), TimeGrid.uniform(N), tableau, options=OPTIONS)
    assert free.is_solved
    horizon = float(free.trajectory.parameters[0])
    assert horizon == pytest.approx((18 * factor) ** 0.25, rel=1e-8)
    assert free.trajectory.times[-1] == pytest.approx(horizon, rel=1e-14)
    for change in (1.0, 0.99, 1.01):
        T = change * horizon
        problem = unhurried_transfer(T)
        fixed = solve(problem, TimeGrid.uniform(N, T), tableau, options=OPTIONS)
        assert fixed.objective == pytest.approx(T + 6 * factor / T**3, rel=1e-10)
        if change == 1.0:
            decisions = free.trajectory.control_array
            np.testing.assert_allclose(fixed.trajectory.control_array, decisions, atol=1e-8)
            np.testing.assert_allclose(fixed.costates, free.costates, atol=1e-8)
        else:
            assert fixed.objective > free.objective + 1e-5


@pytest.mark.parametrize("tableau", [EULER, RADAU_IIA_3, GAUSS_LEGENDRE_4], ids=name)
def test_of_the_bolza_problem_free_and_fixed_end_times_share_their_controls(tableau):
    """Its dynamics are T u, here with the optimal T in place of the symbol."""
    classic = free_time_bolza()
    free = minimum(classic, 6, tableau, control_per_stage=True)
    x, u = classic.problem.state, classic.problem.control
    horizon = float(free.trajectory.parameters[0])
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=horizon * u,
        horizon=horizon,
        initial_state=[0.0],
        control_cost=u**2 / 2,
        terminal_constraints=classic.problem.terminal_constraints,
    )
    grid = TimeGrid.uniform(6, horizon)
    fixed = solve(problem, grid, tableau, control_per_stage=True, options=OPTIONS)
    assert fixed.objective + horizon == pytest.approx(free.objective, rel=1e-12)
    np.testing.assert_allclose(
        fixed.trajectory.control_array, free.trajectory.control_array, rtol=1e-9
    )
    np.testing.assert_allclose(np.array(fixed.costates), np.array(free.costates), rtol=1e-9)


@pytest.mark.parametrize(
    ("classic", "recipe"),
    [
        (lunar_landing(), replace(lunar_landing().recipe, intervals=20)),
        (dido(), replace(SMOOTH, intervals=8)),
    ],
    ids=name,
)
def test_the_maximum_is_the_negative_of_the_minimum_of_the_negative(classic, recipe):
    problem = classic.problem
    negated = replace(
        problem,
        running_cost=-problem.running_cost,
        terminal_cost=-problem.terminal_cost,
        maximize=False,
    )
    most = solve_classic(classic, recipe, OPTIONS)
    least = solve_classic(replace(classic, problem=negated), recipe, OPTIONS)
    assert most.is_solved
    assert most.objective == -least.objective
    np.testing.assert_array_equal(most.trajectory.decisions, least.trajectory.decisions)
    np.testing.assert_array_equal(np.array(most.costates), -np.array(least.costates))


def smoothing(shift: float = 0.0) -> ClassicProblem:
    """Track a cosine with both ends coupled."""
    classic = periodic_tracking()
    time = classic.problem.time
    running_cost = ca.substitute(classic.problem.running_cost, time, time + shift)
    return replace(classic, problem=replace(classic.problem, running_cost=running_cost))


@pytest.mark.parametrize("tableau", [RK4, RADAU_IIA_5, GAUSS_LEGENDRE_6], ids=name)
def test_a_periodic_optimum_closes_and_may_start_at_any_phase(tableau):
    found = [minimum(smoothing(shift), 24, tableau, control_per_stage=True) for shift in (0.0, 1.3)]
    for solution, shift in zip(found, (0.0, 1.3), strict=True):
        states = solution.trajectory.state_array[:, 0, 0]
        assert states[0] == pytest.approx(states[-1], abs=1e-12)
        # 24 intervals of a cosine: 1e-4 by RK4, less by the others.
        exact = np.cos(solution.trajectory.times + shift) / 2
        np.testing.assert_allclose(states, exact, atol=2e-4)
        assert solution.objective == pytest.approx(np.pi / 4, rel=2e-4)


def test_a_free_initial_state_is_the_best_of_the_given_ones():
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    start = ca.SX.sym("start", 2)
    problem = replace(
        VAN_DER_POL.problem,
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], (1 - x[0] ** 2) * x[1] - x[0] + u),
        running_cost=ca.sumsqr(x) / 2,
        control_cost=u**2 / 2,
        terminal_cost=5 * ca.sumsqr(x - 1) + (start[1] - 2) ** 2,
        initial_state=[0.5, FREE],
        initial=start,
    )
    grid = TimeGrid.uniform(10, 2.0)

    def optimum(value: float) -> Solution:
        solution = solve(
            replace(problem, initial_state=[0.5, value]), grid, RADAU_IIA_3, options=OPTIONS
        )
        assert solution.is_solved
        return solution

    free = solve(problem, grid, RADAU_IIA_3, options=OPTIONS)
    assert free.is_solved
    best = free.trajectory.states[0][0, 1]
    assert free.trajectory.states[0][0, 0] == 0.5
    assert optimum(best).objective == pytest.approx(free.objective, rel=1e-10)
    for change in (-1e-3, 1e-3):
        assert optimum(best + change).objective > free.objective + 1e-8
    fixed = optimum(best)
    np.testing.assert_allclose(
        fixed.trajectory.control_array, free.trajectory.control_array, atol=1e-7
    )
    # The costate balances the derivative of the cost in the start: p + 2 (x2(0) - 2) = 0.
    slope = fixed.certificate.costates[0][0, 1]
    assert slope == pytest.approx(-2 * (best - 2), abs=1e-7)


def test_a_bound_of_the_state_holds_for_its_free_initial_value():
    problem = replace(periodic_tracking().problem, state_bounds=(-np.inf, 0.2))
    solution = solve(problem, TimeGrid.uniform(24, 2 * np.pi), RK4, options=OPTIONS)
    assert solution.is_solved
    assert solution.trajectory.state_array.max() == pytest.approx(0.2, abs=1e-8)
    assert solution.trajectory.states[0][0, 0] == pytest.approx(0.2, abs=1e-8)


@pytest.mark.parametrize("free", [(), (1,), (0, 2), (0, 1, 2)])
def test_extract_is_the_inverse_of_embed(free):
    x, u, T = ca.SX.sym("x", 3), ca.SX.sym("u"), ca.SX.sym("T")
    initial = np.array([1.0, -2.0, 0.5])
    initial[list(free)] = FREE
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u * x,
        horizon=T**2,
        initial_state=initial,
        parameter=T,
        parameter_bounds=(0.1, 3.0),
        control_cost=u**2,
    )
    grid = TimeGrid.uniform(4)
    staged = discretize(problem, grid, GAUSS_LEGENDRE_4)
    inner = random_guess(staged, 5)
    outer = extract(problem, grid, inner)
    again = embed(problem, outer)
    np.testing.assert_array_equal(again.parameters, inner.parameters)
    np.testing.assert_array_equal(again.decisions, inner.decisions)
    for ours, theirs in zip(again.states, inner.states, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert outer.parameters.size == 1
    np.testing.assert_allclose(outer.times, grid.nodes * outer.parameters[0] ** 2)
    np.testing.assert_array_equal(outer.states[0][0, list(free)], inner.parameters[1:])


# Costates


@cache
def optimum_from(classic: ClassicProblem, recipe: Recipe, start: tuple[float, ...]) -> Solution:
    moved = replace(classic, problem=replace(classic.problem, initial_state=start))
    solution = solve_classic(moved, recipe, OPTIONS)
    assert solution.is_solved, solution.message
    return solution


@pytest.mark.parametrize(
    ("classic", "recipe"),
    [
        (VAN_DER_POL, Recipe(6, RADAU_IIA_3, control_per_stage=True)),
        (VAN_DER_POL, Recipe(6, GAUSS_LEGENDRE_4)),
        (dido(), Recipe(6, GAUSS_LEGENDRE_4, control_per_stage=True)),
        (zermelo(), Recipe(8, GAUSS_LEGENDRE_6, control_per_stage=True)),
        (linear_tangent_steering(), Recipe(6, RK4)),
        (lunar_landing(), Recipe(20)),  # the switch lies within an interval: no kink
    ],
    ids=name,
)
def test_the_first_costate_is_the_derivative_of_the_optimum_in_the_initial_state(classic, recipe):
    """Of a maximum too, and with a free end time."""
    start = np.asarray(classic.problem.initial_state, dtype=float)[0]
    found = optimum_from(classic, recipe, tuple(start))
    costate = found.certificate.costates[0][0]
    np.testing.assert_allclose(
        np.array(found.certificate.costates[1:]), np.array(found.costates), atol=1e-6
    )

    def optimum(point: np.ndarray) -> float:
        return optimum_from(classic, recipe, tuple(point)).objective

    np.testing.assert_allclose(costate, slopes(optimum, start), rtol=1e-6, atol=1e-6)
