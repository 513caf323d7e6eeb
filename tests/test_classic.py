"""Textbook problems against their known solutions, and the identities that every optimum obeys."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import casadi as ca
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from ocp import (
    EULER,
    GAUSS_LEGENDRE_6,
    HEUN,
    MIDPOINT,
    RADAU_IIA_5,
    RK4,
    ButcherTableau,
    Constraint,
    OptimalControlProblem,
    Solution,
    SolveOptions,
    Status,
    TimeGrid,
    solve,
)
from problems.classic import (
    ANY_INTERVALS,
    CLASSICS,
    ClassicProblem,
    Recipe,
    batch_reactor,
    brachistochrone,
    bryson_denham,
    conjugate_point,
    double_integrator,
    goddard,
    hypersensitive,
    linear_network,
    lunar_landing,
    minimal_time,
    minimal_time_too_short,
    scalar_flow,
    soft_scalar_flow,
    solve_classic,
    van_der_pol,
)
from problems.constrained import CONSTRAINED
from problems.literature import (
    LITERATURE,
    cubic_hypersensitive,
    dido,
    hager,
    hanging_chain,
    linear_tangent_steering,
    orbit_raising,
    rayleigh,
    singular_regulator,
    triple_integrator,
    zermelo,
)

# Far below the smallest error measured here; the certificate keeps its own tolerance.
# Coarse grids are meant: what they converge to, and how fast, is what is tested.
OPTIONS = SolveOptions(ipopt={"tol": 1e-12}, discretization_tolerance=math.inf)
TABLEAUX = (EULER, MIDPOINT, HEUN, RK4)
# Multiples of 6: the arc of Bryson-Denham begins at t = 3 l = 1/3, the touching point is 1/2.
THREE_GRIDS = (36, 72, 144)

EVERY = (*CLASSICS, *LITERATURE, *CONSTRAINED)
# Of fixed horizon, without a control that switches.
SMOOTH_CLASSICS = CLASSICS[:10]
DOUBLE_INTEGRATOR, VAN_DER_POL = double_integrator(), van_der_pol()
SHORT_HYPERSENSITIVE = hypersensitive(horizon=2.0)  # its layers are resolved by few intervals


def name(item: object) -> str:
    return str(getattr(item, "name", item))


def cases(*classics: ClassicProblem) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("classic", classics, ids=name)


every_tableau = pytest.mark.parametrize("tableau", TABLEAUX, ids=name)


def minimum(
    problem: OptimalControlProblem,
    intervals: int,
    tableau: ButcherTableau = RK4,
    substeps: int = 1,
    start: float = 0.0,
) -> Solution:
    grid = TimeGrid.uniform(intervals, problem.horizon, start)
    solution = solve(problem, grid, tableau, substeps=substeps, options=OPTIONS)
    assert solution.is_solved, solution.message
    return solution


@cache
def exact_states_minimum(classic: ClassicProblem, intervals: int) -> Solution:
    """The control constant on each interval, the states exact to about 1e-11."""
    return minimum(classic.problem, intervals, RK4, substeps=4)


def extrapolate(values: list) -> np.ndarray:
    """Limit of v + c_2 h^2 + c_4 h^4 + ... from three grids, each halving the steps."""
    coarse, middle, fine = map(np.asarray, values)
    first, second = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
    return (16 * second - first) / 15


def observed_order(intervals: tuple[int, ...], errors: list[float]) -> float:
    """Slope over the last three grids."""
    slope = np.polyfit(np.log(intervals[-3:]), np.log(np.abs(errors[-3:])), 1)[0]
    return -float(slope)


# Optima


@cases(*SMOOTH_CLASSICS)
def test_the_optimum_is_the_known_one_in_the_limit_of_fine_grids(classic):
    optima = [exact_states_minimum(classic, N).objective for N in THREE_GRIDS]
    # What h^6 leaves of the layers of the hypersensitive problem is 2e-9.
    tolerance = max(classic.accuracy, 1e-8)
    assert extrapolate(optima) == pytest.approx(classic.optimum, rel=tolerance, abs=1e-12)


@pytest.mark.parametrize(
    ("classic", "intervals"),
    [(classic, intervals) for classic in EVERY for intervals in classic.table],
    ids=name,
)
def test_a_control_constant_on_each_interval_costs_what_the_table_says(classic, intervals):
    substeps = 2 + 20 // intervals  # at least 20 of order 6 in all: states exact to 1e-10
    solution = solve_classic(classic, Recipe(intervals, GAUSS_LEGENDRE_6, substeps), OPTIONS)
    assert solution.is_solved, solution.message
    tolerance = max(classic.table_accuracy, 1e-9)
    expected = classic.table[intervals]
    assert solution.objective == pytest.approx(expected, rel=tolerance, abs=1e-12)


@pytest.mark.parametrize("horizon", [0.5, 7.0])
def test_interpolation_costs_the_squared_norm_of_the_logarithm_over_the_horizon(horizon):
    for classic in (
        scalar_flow(horizon, target=0.3),
        linear_network(np.array([[1.5, 0.2, 0.0], [0.2, 1.0, -0.3], [0.0, -0.3, 0.7]]), horizon),
    ):
        # |log M| < 2, over 64 steps of RK4: relative error below 1e-8.
        optimum = minimum(classic.problem, 4, RK4, substeps=16).objective
        assert optimum == pytest.approx(classic.optimum, rel=1e-8)


def test_the_known_digits_of_the_soft_flow_and_of_the_network_are_those_of_their_formulas():
    assert soft_scalar_flow().optimum == pytest.approx(0.0468535915, abs=5e-11)
    assert linear_network().optimum == pytest.approx(0.680616158208, abs=5e-13)
    assert hypersensitive().optimum == pytest.approx(1.6730939784, abs=5e-11)


@cases(*EVERY)
def test_the_optimum_is_the_known_one_by_the_problems_own_recipe(classic):
    """And the error falls, or is rounding already, from half as many intervals on."""
    half = replace(classic.recipe, intervals=max(classic.recipe.intervals // 2, 2))
    errors = []
    for recipe in (half, classic.recipe):
        solution = solve_classic(classic, recipe)
        assert solution.is_solved, solution.message
        errors.append(abs(solution.objective - classic.optimum) / (abs(classic.optimum) or 1.0))
    assert errors[1] <= 1e-6
    assert errors[1] <= max(errors[0], 2e-9)  # the tolerance leaves 1e-9 of the bang-bang ones
    if classic.horizon is not None:
        assert solution.trajectory.times[-1] == pytest.approx(classic.horizon, rel=1e-5)


@cases(VAN_DER_POL, rayleigh(), orbit_raising(), goddard())
def test_the_digits_without_a_formula_come_out_by_two_methods_on_two_grids(classic):
    intervals = classic.recipe.intervals
    for tableau, N in ((GAUSS_LEGENDRE_6, 2 * intervals), (RADAU_IIA_5, 3 * intervals)):
        recipe = replace(classic.recipe, tableau=tableau, intervals=N)
        if not recipe.control_per_stage:  # the Goddard rocket, whose recipe is fine already
            recipe = replace(recipe, intervals=N // 3)
        found = solve_classic(classic, recipe, OPTIONS)
        assert found.is_solved
        assert found.objective == pytest.approx(classic.optimum, rel=1e-8)


def known_path(classic: ClassicProblem) -> tuple[float, np.ndarray, float]:
    """Cost, end state and largest excess over the state's bounds under the known control."""
    problem = classic.problem
    parameters = [] if classic.horizon is None else [classic.horizon]
    symbols = [problem.state, problem.control, problem.parameter, problem.time]
    cost = problem.running_cost + problem.control_cost
    cost += sum(
        c.weight * ca.sum1(ca.fabs(c.expression))
        for c in (*problem.path_constraints, *problem.control_constraints)
        if c.is_soft
    )
    rate = ca.Function("rate", symbols, [ca.vertcat(problem.dynamics, cost)])
    beyond = [c.expression - ca.DM(c.upper) for c in problem.path_constraints if not c.is_soft]
    beyond += [ca.DM(c.lower) - c.expression for c in problem.path_constraints if not c.is_soft]
    rows = ca.Function("rows", symbols, [ca.vertcat(-ca.inf, *beyond)])
    horizon = classic.horizon or problem.horizon
    state = np.append(np.asarray(problem.initial_state, dtype=float)[0], 0.0)
    upper, excess = problem.state_bounds[1], -np.inf
    ends = horizon * np.array([0.0, *classic.recipe.switches, 1.0])
    for start, stop in pairwise(ends):

        def slope(t, y, start=start, stop=stop):
            inside = min(max(t, start + 1e-12), stop - 1e-12)
            return rate(y[:-1], classic.control(inside), parameters, t).full().ravel()

        path = solve_ivp(slope, (start, stop), state, "DOP853", rtol=1e-12, atol=1e-12)
        state = path.y[:, -1]
        excess = max(excess, (path.y[:-1] - upper[:, None]).max())
        for t, y in zip(path.t, path.y.T, strict=True):
            inside = min(max(t, start + 1e-12), stop - 1e-12)
            there = rows(y[:-1], classic.control(inside), parameters, t).full()
            excess = max(excess, there.max())
    ending = ca.Function(
        "ending",
        [problem.state, problem.parameter],
        [
            problem.terminal_cost + problem.parameter_cost,
            ca.vertcat(*[c.expression - ca.DM(c.upper) for c in problem.terminal_constraints]),
        ],
    )
    end_cost, gaps = ending(state[:-1], parameters)
    return float(end_cost) + state[-1], gaps.full().ravel(), float(excess)


@cases(
    *[c for c in EVERY if c.control and c.problem.members == 1 and not c.problem.initial.numel()]
)
def test_the_known_control_is_feasible_and_costs_the_known_optimum(classic):
    """By an integrator of order 8, which knows nothing of our transcriptions."""
    cost, gaps, excess = known_path(classic)
    assert cost == pytest.approx(classic.optimum, rel=1e-9, abs=1e-10)
    np.testing.assert_allclose(gaps, 0.0, atol=1e-9)
    assert excess < 1e-9


@cases(*[c for c in (*CLASSICS[10:], *LITERATURE, *CONSTRAINED) if c.control])
def test_the_control_found_is_the_known_one(classic):
    recipe = classic.recipe
    solution = solve_classic(classic, recipe)
    nodes = solution.trajectory.times
    m = classic.problem.control.numel()
    offsets = np.tile(recipe.tableau.c, recipe.substeps) if recipe.control_per_stage else [0.5]
    errors = [
        np.abs(u[i * m : (i + 1) * m] - classic.control(start + offset * (stop - start))).max()
        for start, stop, u in zip(nodes[:-1], nodes[1:], solution.trajectory.controls, strict=True)
        for i, offset in enumerate(offsets)
    ]
    # Singular and switching ones are found to 1e-3 only.
    assert np.mean(errors) < 1e-3 * max(1.0, np.abs(solution.trajectory.control_array).max())


@cases(*[c for c in (*CLASSICS[10:], *LITERATURE) if c.costate and c.name != "minimal time"])
def test_the_costates_found_are_the_known_ones(classic):
    solution = solve_classic(classic, options=OPTIONS)
    times = solution.trajectory.times
    exact = np.array([classic.costate(t) for t in times[1:]])
    np.testing.assert_allclose(np.array(solution.costates), exact, atol=1e-6)


def test_the_known_digits_are_those_of_the_formulas():
    known = [
        (brachistochrone(), 1.80160312245, 5e-12),
        (lunar_landing(), 0.39535436396, 5e-12),
        (batch_reactor(), 0.573545057523, 5e-11),
        (linear_tangent_steering(), 0.5545708, 1e-7),
        (hanging_chain(), 5.06848, 1e-6),
        (zermelo(), 5.46, 5e-3),
        (singular_regulator(), 0.75398 / 2, 5e-6),
        (cubic_hypersensitive(), 1.3308, 1e-5),
    ]
    for classic, digits, tolerance in known:
        assert classic.optimum == pytest.approx(digits, abs=tolerance)
    assert lunar_landing().horizon == pytest.approx(1.39680808911, abs=5e-12)
    fall = lunar_landing().recipe.switches[0] * lunar_landing().horizon
    assert fall == pytest.approx(0.23925910863, abs=5e-12)


@pytest.mark.parametrize("intervals", [10, 21])
def test_what_is_too_short_is_infeasible_and_names_the_terminal_condition(intervals):
    classic = minimal_time_too_short()
    solution = solve_classic(classic, Recipe(intervals))
    assert classic.optimum == math.inf
    assert solution.status is Status.INFEASIBLE
    assert "arrive" in solution.message


def test_an_odd_number_of_intervals_misses_the_switch_of_the_minimal_time():
    even, odd = (solve_classic(minimal_time(), Recipe(N)).objective for N in (8, 9))
    assert even == pytest.approx(2.0, rel=1e-8)
    # Full thrust on all intervals but the middle one, which rests: 1 = T^2 (1/4 - 1/324).
    assert odd == pytest.approx(1 / math.sqrt(1 / 4 - 1 / 324), rel=1e-8)


# Orders


@every_tableau
@cases(VAN_DER_POL, SHORT_HYPERSENSITIVE)
def test_a_control_constant_on_each_interval_caps_the_order_of_the_optimum_at_two(classic, tableau):
    grids = (40, 80, 160)
    errors = [minimum(classic.problem, N, tableau).objective - classic.optimum for N in grids]
    assert observed_order(grids, errors) == pytest.approx(min(tableau.order, 2), abs=0.15)


@every_tableau
@cases(scalar_flow(), soft_scalar_flow(), linear_network())
def test_the_optimum_has_the_order_of_the_method_where_the_optimal_control_is_constant(
    classic, tableau
):
    grids = (8, 16, 32)
    errors = [minimum(classic.problem, N, tableau).objective - classic.optimum for N in grids]
    assert observed_order(grids, errors) == pytest.approx(tableau.order, abs=0.15)


@every_tableau
def test_with_the_control_held_fixed_the_substeps_converge_at_the_order_of_the_method(tableau):
    # RK4 stops at 4 substeps, where its error is still far above that of the table.
    substeps = {1: (16, 32, 64), 2: (4, 8, 16), 4: (1, 2, 4)}[tableau.order]
    errors = [
        minimum(VAN_DER_POL.problem, 10, tableau, s).objective - VAN_DER_POL.table[10]
        for s in substeps
    ]
    assert min(map(abs, errors)) > 50 * VAN_DER_POL.table_accuracy
    assert observed_order(substeps, errors) == pytest.approx(tableau.order, abs=0.15)


@every_tableau
@cases(DOUBLE_INTEGRATOR, SHORT_HYPERSENSITIVE)
def test_costates_converge_at_the_order_of_the_optimum(classic, tableau):
    grids, errors = (40, 80, 160), []
    for N in grids:
        solution = minimum(classic.problem, N, tableau)
        times = solution.trajectory.times
        exact = np.array([classic.costate(t) for t in times])
        multipliers, recursion = (
            np.array(solution.costates),
            np.array(solution.certificate.costates),
        )
        assert multipliers == pytest.approx(recursion[1:], rel=1e-9, abs=1e-9)
        errors.append(np.abs(recursion - exact).max())
    assert observed_order(grids, errors) == pytest.approx(min(tableau.order, 2), abs=0.15)


# Costates and controls


@cases(*[c for c in SMOOTH_CLASSICS if c.costate])
def test_costates_are_the_known_ones_in_the_limit_of_fine_grids(classic):
    coarse = THREE_GRIDS[0]
    on_coarse_nodes = [
        np.array(exact_states_minimum(classic, N).certificate.costates)[:: N // coarse]
        for N in THREE_GRIDS
    ]
    times = classic.problem.horizon * np.arange(coarse + 1) / coarse
    exact = np.array([classic.costate(t) for t in times])
    assert extrapolate(on_coarse_nodes) == pytest.approx(exact, rel=1e-6, abs=1e-6)


@cases(*[c for c in SMOOTH_CLASSICS if c.control])
def test_controls_are_the_known_ones_at_the_middle_of_each_interval_to_second_order(classic):
    errors = []
    for N in THREE_GRIDS:
        middles = classic.problem.horizon * (np.arange(N) + 0.5) / N
        exact = np.array([classic.control(t) for t in middles])
        controls = exact_states_minimum(classic, N).trajectory.control_array
        errors.append(np.abs(controls - exact).max())
    # A constant or idle control leaves no error to measure.
    is_found = max(errors) < 1e-9
    # The layers of the long hypersensitive problem settle last, at 1.92 on the last two grids.
    assert is_found or observed_order(THREE_GRIDS, errors) == pytest.approx(2, abs=0.15)


@cases(DOUBLE_INTEGRATOR, SHORT_HYPERSENSITIVE, VAN_DER_POL, soft_scalar_flow(), linear_network())
def test_the_costate_is_the_derivative_of_the_optimal_cost_in_the_initial_state(classic):
    intervals, increment = 12, 1e-4
    problem = classic.problem
    costate = minimum(problem, intervals).certificate.costates[0]
    for place in np.ndindex(costate.shape):
        optima = []
        for sign in (1.0, -1.0):
            initial = np.array(problem.initial_state)
            initial[place] += sign * increment
            optima.append(minimum(replace(problem, initial_state=initial), intervals).objective)
        # The central difference leaves increment^2 times a third derivative of order 1 to 100.
        slope = (optima[0] - optima[1]) / (2 * increment)
        assert slope == pytest.approx(costate[place], rel=1e-6, abs=1e-6)


# Identities of optima


@every_tableau
@cases(DOUBLE_INTEGRATOR, hypersensitive(), VAN_DER_POL, linear_network(), bryson_denham(1 / 5))
def test_the_tail_of_an_optimum_solves_the_tail_problem(classic, tableau):
    intervals, passed = 24, 8
    problem = classic.problem
    whole = minimum(problem, intervals, tableau).trajectory
    start = whole.times[passed]
    tail_problem = replace(
        problem, initial_state=whole.states[passed], horizon=problem.horizon - start
    )
    tail = minimum(tail_problem, intervals - passed, tableau, start=start).trajectory
    assert tail.control_array == pytest.approx(whole.control_array[passed:], rel=1e-7, abs=1e-7)
    assert tail.state_array == pytest.approx(whole.state_array[passed:], rel=1e-7, abs=1e-7)


def interpolation_by_tanh(horizon: float) -> OptimalControlProblem:
    """Two points of the plane carried to two others by x' = W tanh(x), linear in W."""
    x, W, y = ca.SX.sym("x", 2), ca.SX.sym("W", 2, 2), ca.SX.sym("y", 2)
    return OptimalControlProblem(
        state=x,
        control=ca.vec(W),
        dynamics=W @ ca.tanh(x),
        horizon=horizon,
        initial_state=[[1.0, 0.5], [-0.5, 1.0]],
        control_cost=ca.sumsqr(W),
        terminal_constraints=[Constraint("target", x - y)],
        data=y,
        member_data=[[0.8, 1.0], [-1.0, 0.6]],
    )


@every_tableau
@settings(max_examples=10)
@given(horizon=st.floats(0.05, 50.0))
def test_for_a_field_linear_in_the_control_the_minimal_cost_is_that_of_unit_time_over_the_horizon(
    tableau, horizon
):
    """Every explicit Runge-Kutta step depends on h and W through h W alone."""
    layers = 5
    unit = minimum(interpolation_by_tanh(1.0), layers, tableau)
    scaled = minimum(interpolation_by_tanh(horizon), layers, tableau)
    assert scaled.objective == pytest.approx(unit.objective / horizon, rel=1e-9)
    controls = unit.trajectory.control_array
    assert horizon * scaled.trajectory.control_array == pytest.approx(controls, rel=1e-6, abs=1e-6)


@every_tableau
@cases(VAN_DER_POL)
def test_the_hamiltonian_is_constant_to_the_order_of_the_optimum(classic, tableau):
    """H(x^k, p^k, u^k) = L + p . f at the nodes, of an autonomous problem."""
    problem, grids, drifts = classic.problem, (40, 80, 160), []
    p = ca.SX.sym("p", problem.state.numel())
    energy = problem.running_cost + problem.control_cost + ca.dot(p, problem.dynamics)
    hamiltonian = ca.Function("H", [problem.state, p, problem.control], [energy])
    for N in grids:
        solution = minimum(problem, N, tableau)
        costates = np.array(solution.certificate.costates)[:-1, 0]
        states = solution.trajectory.state_array[:-1, 0]
        values = hamiltonian(states.T, costates.T, solution.trajectory.control_array.T)
        drifts.append(np.ptp(values.full()))
    assert observed_order(grids, drifts) == pytest.approx(min(tableau.order, 2), abs=0.15)


@every_tableau
@cases(VAN_DER_POL)
def test_the_energy_drift_of_the_certificate_vanishes_at_least_at_the_order_of_the_optimum(
    classic, tableau
):
    grids = (40, 80, 160)
    drifts = [minimum(classic.problem, N, tableau).certificate.energy_drift for N in grids]
    assert observed_order(grids, drifts) > min(tableau.order, 2) - 0.15


# The second-order conditions


def stationary_point(horizon: float, intervals: int) -> Solution:
    problem = conjugate_point(horizon).problem
    return solve(problem, TimeGrid.uniform(intervals, horizon), RK4)


def test_the_rest_point_is_accepted_before_the_conjugate_point():
    solution = stationary_point(3.141, 20)
    assert solution.status is Status.SOLVED
    assert solution.objective == 0.0
    assert solution.certificate.min_reduced_hessian_eigenvalue > 0


def test_the_rest_point_is_refused_beyond_the_conjugate_point():
    solution = stationary_point(3.15, 20)
    assert conjugate_point(3.15).optimum == -math.inf
    assert solution.status is Status.NOT_A_MINIMUM
    assert solution.certificate.is_stationary(1e-12)
    assert solution.certificate.min_reduced_hessian_eigenvalue < 0


@pytest.mark.parametrize("intervals", [2, 5, 20])
def test_the_curvature_changes_sign_at_the_conjugate_point_of_piecewise_linear_states(intervals):
    """At h^2 = 6 (1 - cos theta) / (2 + cos theta), theta = pi / N.

    There the first mode x_k = sin(k theta) of linear finite elements has Int x'^2 = Int x^2. RK4
    integrates the squares of piecewise linear states exactly.
    """
    cosine = math.cos(math.pi / intervals)
    conjugate = intervals * math.sqrt(6 * (1 - cosine) / (2 + cosine))
    assert stationary_point(conjugate * (1 - 1e-6), intervals).status is Status.SOLVED
    assert stationary_point(conjugate * (1 + 1e-6), intervals).status is Status.NOT_A_MINIMUM


# The catalogue


def test_the_formulas_of_bryson_denham_meet_where_the_regimes_do():
    for limit in (1 / 6, 1 / 4):
        below, above = bryson_denham(limit * (1 - 1e-12)), bryson_denham(limit * (1 + 1e-12))
        assert below.optimum == pytest.approx(above.optimum, rel=1e-10)
        for t in (0.1, 0.5, 0.8):
            assert below.control(t) == pytest.approx(above.control(t), abs=1e-10)


@cases(*[c for c in SMOOTH_CLASSICS if c.control and c.costate], hager())
def test_known_controls_make_the_hamiltonian_stationary(classic):
    """dR/du + sum_i [dL/du + p_i . df/du] = 0, the states integrated from the known control."""
    problem = classic.problem
    p = ca.SX.sym("p", problem.state.numel())
    arguments = [problem.state, problem.control, p, problem.data]
    member = ca.gradient(problem.running_cost + ca.dot(p, problem.dynamics), problem.control)
    of_member = ca.Function("Hu", arguments, [member])
    shared = ca.gradient(problem.control_cost, problem.control)
    of_control = ca.Function("Ru", [problem.control], [shared])
    rate = ca.Function("f", [problem.state, problem.control, problem.data], [problem.dynamics])
    steps = 200
    h = problem.horizon / steps
    states = np.array(problem.initial_state)
    for k in range(steps + 1):
        t = k * h
        u, costates = classic.control(t), classic.costate(t)
        residual = of_control(u).full().ravel()
        for x, q, d in zip(states, costates, problem.member_data, strict=True):
            residual = residual + of_member(x, u, q, d).full().ravel()
        # RK4 with 200 steps leaves 1e-7 in the states.
        assert residual == pytest.approx(np.zeros_like(u), abs=1e-6)
        states = np.array(
            [
                RK4.step(lambda y, s, d=d: rate(y, classic.control(s), d).full().ravel(), x, t, h)[
                    0
                ]
                for x, d in zip(states, problem.member_data, strict=True)
            ]
        )


def test_every_classic_names_its_source_and_its_purpose_once():
    assert len({classic.name for classic in EVERY}) == len(EVERY)
    for classic in EVERY:
        assert classic.source
        assert classic.purpose.startswith("a test of ")
    assert set(linear_network().table) == set(ANY_INTERVALS)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: scalar_flow(target=-1.0), "target must be positive"),
        (lambda: bryson_denham(0.0), "limit must be positive"),
        (lambda: linear_network([[1.0, 2.0], [0.0, 1.0]]), "must be a symmetric matrix"),
        (lambda: linear_network([[1.0, 2.0], [2.0, 1.0]]), "smallest eigenvalue is -1"),
        (lambda: hypersensitive(horizon=0.0), "horizon must be positive"),
        (lambda: cubic_hypersensitive(horizon=10.0), "horizon of at least 20"),
        (lambda: triple_integrator(0.1), "limit must be between"),
        (lambda: hanging_chain(length=2.0), "length must exceed 2.23607"),
        (lambda: dido(length=2.0), "length must be above 1"),
    ],
)
def test_parameters_without_a_solution_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
