"""Duals of the continuous problem: analytic ones, and derivatives of the optimal value."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    RADAU_IIA_3,
    RADAU_IIA_5,
    RK4,
    Constraint,
    OptimalControlProblem,
    SolveOptions,
    TimeGrid,
    along_path,
    at,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)

X, V, U, P, T = (ca.SX.sym(name) for name in ("x", "v", "u", "p", "T"))
PLANE = ca.vertcat(X, V)
# Duals of the problem on the grid, however coarse that is.
TIGHT = SolveOptions(ipopt={"tol": 1e-13}, discretization_tolerance=math.inf)
MASS = {"state": PLANE, "control": U, "dynamics": ca.vertcat(V, U)}
LINE = {"state": X, "control": U, "dynamics": U}


def tableau_name(item: object) -> str:
    return str(getattr(item, "name", item))


def graded(intervals: int, horizon: float) -> TimeGrid:
    """Steps that grow smoothly by a factor of 7."""
    s = np.linspace(0, 1, intervals + 1)
    return TimeGrid(horizon * (s + 3 * s**2) / 4)


GRIDS = {"uniform": TimeGrid.uniform, "graded": graded}
every_grid = pytest.mark.parametrize("make_grid", GRIDS.values(), ids=list(GRIDS))


# Costates


@every_grid
@pytest.mark.parametrize("tableau", [GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6, RK4], ids=tableau_name)
def test_the_costates_of_the_double_integrator_are_lines(make_grid, tableau):
    problem = pose(
        **MASS,
        horizon=1.0,
        minimize=integral(U**2 / 2),
        subject_to=[at_start(PLANE) == [-1, 0], at_end(PLANE) == 0],
    )
    solution = solve(problem, make_grid(6, 1.0), tableau, control_per_stage=True)
    t = np.linspace(0, 1, 17)
    expected = np.column_stack([np.full_like(t, -12), 12 * t - 6])
    np.testing.assert_allclose(solution.costate(times=t), expected, atol=1e-6)
    np.testing.assert_allclose(solution.costate("v", t), expected[:, 1], atol=1e-6)
    np.testing.assert_allclose(solution.costate(X, t), expected[:, 0], atol=1e-6)
    # A unit more of the way costs 12, a unit of final speed saves 6: minus the derivatives.
    dual = solution.dual("at_end([x, v])")
    np.testing.assert_allclose(dual.times, [1.0])
    np.testing.assert_allclose(dual.values, [[-12, 6]], atol=1e-6)


def hypersensitive(horizon=2.0, start=1.5, end=1.0):
    """x' = -x + u, min 1/2 Int x^2 + u^2: x = c1 e^{st} + c2 e^{-st}, p = -u = -(x + x')."""
    s = math.sqrt(2)
    c1, c2 = np.linalg.solve(
        [[1, 1], [math.exp(s * horizon), math.exp(-s * horizon)]], [start, end]
    )
    problem = pose(
        **{**LINE, "dynamics": U - X},
        horizon=horizon,
        minimize=integral((X**2 + U**2) / 2),
        subject_to=[at_start(X) == start, at_end(X) == end],
    )

    def costate(t):
        return -((1 + s) * c1 * np.exp(s * t) + (1 - s) * c2 * np.exp(-s * t))

    return problem, costate


@every_grid
@pytest.mark.parametrize(
    ("tableau", "control_per_stage", "order"),
    [
        (GAUSS_LEGENDRE_4, True, 4),
        (RK4, True, 4),
        (RADAU_IIA_3, True, 3),
        (RK4, False, 2),
    ],
    ids=tableau_name,
)
def test_costates_converge_at_both_ends_with_the_order_of_the_scheme(
    make_grid, tableau, control_per_stage, order
):
    problem, exact = hypersensitive()
    grids, errors = (16, 32, 64) if order > 2 else (32, 64, 128), []
    for intervals in grids:
        solution = solve(
            problem,
            make_grid(intervals, 2.0),
            tableau,
            control_per_stage=control_per_stage,
            options=TIGHT,
        )
        error = np.abs(solution.costate("x") - exact(solution.times))
        errors.append([error[0], error[-1], error.max()])
    slopes = -np.polyfit(np.log(grids), np.log(errors), 1)[0]
    np.testing.assert_allclose(slopes, order, atol=0.15)


def test_the_dual_of_the_end_is_the_costate_there():
    problem, exact = hypersensitive()
    solution = solve(problem, 30, GAUSS_LEGENDRE_6, control_per_stage=True)
    assert solution.dual("at_end(x)").values[0, 0] == pytest.approx(exact(2.0), rel=1e-6)


def test_the_costate_at_a_free_start_is_zero_and_at_a_free_end_the_slope_of_its_cost():
    problem = pose(
        **{**LINE, "dynamics": U - X},
        horizon=1.0,
        minimize=integral(U**2 + (X - 1) ** 2) + at_end(3 * X),
    )
    costate = solve(problem, 20, GAUSS_LEGENDRE_4, control_per_stage=True).costate("x")
    assert costate[0] == pytest.approx(0, abs=1e-7)
    assert costate[-1] == pytest.approx(3, rel=1e-7)


def test_the_costate_of_a_maximum_is_the_slope_of_the_maximum():
    problem = pose(
        **LINE,
        horizon=1.0,
        maximize=at_end(5 * X) - integral(U**2),
        subject_to=[at_start(X) == 0],
    )
    solution = solve(problem, 4)
    np.testing.assert_allclose(solution.costate("x"), 5, rtol=1e-7)
    assert solution.objective == pytest.approx(25 / 4, rel=1e-8)


def test_a_costate_jumps_at_a_waypoint_by_its_dual():
    """x' = u through 1 at t = 1/4 and back to 0: speeds 4 and -4/3, p = -u."""
    problem = pose(
        **LINE,
        horizon=1.0,
        minimize=integral(U**2 / 2),
        subject_to=[at_start(X) == 0, at(0.25, X) == 1, at_end(X) == 0],
    )
    solution = solve(problem, 8)
    dual = solution.dual("at(0.25, x)")
    np.testing.assert_allclose(dual.times, [0.25])
    np.testing.assert_allclose(dual.values, [[-16 / 3]], rtol=1e-6)
    costate = solution.costate("x")
    np.testing.assert_allclose(costate[solution.times < 0.25], -4, rtol=1e-6)
    np.testing.assert_allclose(costate[solution.times > 0.25], 4 / 3, rtol=1e-6)


# Densities along the path


def random_grid(intervals, horizon):
    """Steps that differ by factors of up to 4, without any smoothness."""
    steps = np.random.default_rng(5).uniform(1, 4, intervals)
    return TimeGrid.graded(horizon * steps / steps.sum())


irregular = pytest.mark.parametrize(
    "make_grid", [TimeGrid.uniform, graded, random_grid], ids=["uniform", "graded", "random"]
)


@irregular
@pytest.mark.parametrize("sign", [1, -1], ids=["minimise", "maximise"])
@pytest.mark.parametrize("as_condition", [False, True], ids=["bound", "condition"])
def test_the_dual_of_a_bound_on_a_bang_control_is_minus_the_costate(make_grid, sign, as_condition):
    """min Int x, |u| <= 1: p = 1 - t, and the dual of u >= -1 is -p, its mean on an interval."""
    limit = (along_path(2 * U) / 2 if as_condition else along_path(U)).within(-1, 1)
    cost = {"minimize": integral(X)} if sign > 0 else {"maximize": integral(-X)}
    problem = pose(**LINE, horizon=1.0, subject_to=[at_start(X) == 0, limit.named("limit")], **cost)
    solution = solve(problem, make_grid(9, 1.0))
    dual, t = solution.dual("limit"), solution.times
    np.testing.assert_allclose(dual.times, t[:-1], atol=1e-15)
    middles = (t[:-1] + t[1:]) / 2
    np.testing.assert_allclose(dual.values[:, 0], -sign * (1 - middles), atol=1e-6)
    np.testing.assert_allclose(solution.costate("x"), sign * (1 - t), atol=1e-6)


@irregular
def test_the_density_of_a_mixed_constraint_converges_on_any_grid(make_grid):
    """min Int x with u >= -x, x(0) = 1: x = e^-t, p = 1 - e^(t-1), and the dual is -p."""
    problem = pose(
        **LINE,
        horizon=1.0,
        minimize=integral(X),
        subject_to=[at_start(X) == 1, (along_path(U + X) >= 0).named("floor")],
    )
    for tableau, control_per_stage, bound in ((GAUSS_LEGENDRE_4, True, 2e-4), (RK4, False, 0.08)):
        errors = []
        for intervals in (10, 40):
            solution = solve(
                problem,
                make_grid(intervals, 1.0),
                tableau,
                control_per_stage=control_per_stage,
            )
            dual = solution.dual("floor")
            expected = -(1 - np.exp(dual.times - 1))
            errors.append(np.abs(dual.values[:, 0] - expected).max())
        assert errors[0] < bound * 4
        assert errors[1] < errors[0] / 3


@irregular
@pytest.mark.parametrize("factor", [1.0, -2.0], ids=["bound", "condition"])
def test_the_density_of_a_state_constraint_is_one_where_it_holds_and_zero_elsewhere(
    make_grid, factor
):
    """min Int u^2 / 2 + x with x >= 0, x(0) = 1: lands at t = sqrt 2, then p = 0, p' = -1 - dual.

    As f x, the constraint's dual is that of the bound over f.
    """
    floor = along_path(X) >= 0 if factor == 1.0 else along_path(factor * X) <= 0
    problem = pose(
        **LINE,
        horizon=3.0,
        minimize=integral(U**2 / 2 + X),
        subject_to=[at_start(X) == 1, floor.named("floor")],
    )
    solution = solve(problem, make_grid(30, 3.0))
    dual = solution.dual("floor")
    landing, width = math.sqrt(2), np.diff(solution.times).max()
    values, t = dual.values[:, 0], dual.times
    np.testing.assert_allclose(t, solution.times, atol=1e-14)
    np.testing.assert_allclose(values[t < landing - width], 0, atol=1e-6)
    np.testing.assert_allclose(values[t > landing + width], -1 / factor, rtol=1e-5)
    # The last step of the flight and the first on the ground share what is in between.
    assert solution.objective == pytest.approx(2 * landing / 3, rel=0.02)


def test_densities_are_per_unit_of_the_problems_own_time():
    """Least time 2 sqrt(1 / a) at |u| <= a: -dT/da = a^{-3/2} = Int |dual|, on a free horizon."""
    for limit in (1.0, 4.0):
        problem = pose(
            **MASS,
            horizon=T,
            minimize=at_end(T),
            subject_to=[
                at_start(PLANE) == 0,
                at_end(PLANE) == [1, 0],
                along_path(U).within(-limit, limit),
                at_end(T).within(0.1, 10),
            ],
        )
        solution = solve(problem, 6)
        dual = solution.dual("u")
        np.testing.assert_allclose(dual.times, solution.times[:-1], rtol=1e-12)
        total = np.abs(dual.values[:, 0]) @ np.diff(solution.times)
        assert total == pytest.approx(limit**-1.5, rel=1e-5)


# Duals as derivatives of the optimal value


def integrated(solution, name):
    """Sum of a dual over its times, with the weights of the transcription."""
    dual, t = solution.dual(name), solution.times
    if dual.times.size == 1:
        return dual.values.sum(axis=0)
    steps = np.diff(t)
    halves = np.concatenate([[0], steps / 2]) + np.concatenate([steps / 2, [0]])
    weights = steps if dual.times.size == steps.size else halves
    return weights @ dual.values


NAMED = {
    "end": lambda b: at_end(X) >= b,
    "end, expression": lambda b: at_end(X**2) == b,
    "start": lambda b: at_start(X**2) == b,
    "both ends": lambda b: at_end(V) - at_start(V) == b,
    "point": lambda b: at(0.5, X) >= b,
    "path": lambda b: along_path(V**2) <= b,
    "mixed": lambda b: along_path(U + X) <= b,
    "control bound": lambda b: along_path(U) <= b,
    "state bound": lambda b: along_path(V) <= b,
    "control": lambda b: along_path(U**2) <= b,
    "integral": lambda b: integral(X) >= b,
    "parameter": lambda b: at_end(P) <= b,
}
GIVEN_START, GIVEN_END = at_start(PLANE) == 0, at_end(PLANE) == [1, 0]
# Limit and further conditions, such that the limit is felt.
LIMITS = {
    "end": (0.7, [GIVEN_START, at_end(V) == 0]),
    "end, expression": (0.49, [GIVEN_START, at_end(V) == 0, at_end(X) >= 0]),
    "start": (0.09, [at_start(V) == 0, at_start(X) >= 0, GIVEN_END]),
    "both ends": (0.5, [at_start(X) == 0, at_end(X) == 1]),
    "point": (0.6, [GIVEN_START, GIVEN_END]),
    "path": (1.5, [GIVEN_START, GIVEN_END]),
    "mixed": (5.0, [GIVEN_START, GIVEN_END]),
    "control bound": (4.7, [GIVEN_START, GIVEN_END]),
    "state bound": (1.3, [GIVEN_START, GIVEN_END]),
    "control": (21.0, [GIVEN_START, GIVEN_END]),
    "integral": (0.62, [GIVEN_START, GIVEN_END]),
    "parameter": (0.4, [GIVEN_START, at_end(X) + at_end(P) == 1, at_end(V) == 0]),
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("sign", [1, -1], ids=["minimise", "maximise"])
@pytest.mark.parametrize("control_per_stage", [False, True], ids=["interval", "stage"])
def test_a_dual_is_minus_the_derivative_of_the_optimal_value_in_the_limit(
    name, sign, control_per_stage
):
    limit, others = LIMITS[name]
    if control_per_stage and name in ("mixed", "control bound", "control"):
        weights = "of the stages"
    else:
        weights = "of the nodes"

    def solved(b):
        cost = integral(U**2 / 2) + at_end(X**2) / 4
        goal = {"minimize": cost} if sign > 0 else {"maximize": -cost}
        conditions = [*others, NAMED[name](b).named("limit")]
        problem = pose(**MASS, horizon=1.0, subject_to=conditions, **goal)
        tableau = GAUSS_LEGENDRE_4 if control_per_stage else RK4
        solution = solve(problem, 6, tableau, control_per_stage=control_per_stage, options=TIGHT)
        assert solution.is_solved, solution.message
        return solution

    # Small, so that the active set is the same on both sides.
    shift = 1e-4 * limit
    slope = (solved(limit + shift).objective - solved(limit - shift).objective) / (2 * shift)
    solution = solved(limit)
    if weights == "of the stages":
        transcription, dual = solution.transcription, solution.dual("limit")
        points = [transcription.stage_points(k) for k in range(6)]
        np.testing.assert_allclose(dual.times, np.concatenate([p[0] for p in points]), atol=1e-14)
        total = np.concatenate([p[1] for p in points]) @ dual.values
    else:
        total = integrated(solution, "limit")
    assert abs(slope) > 1e-2
    np.testing.assert_allclose(total, [-slope], rtol=1e-4)


def test_a_dual_at_an_upper_limit_is_positive_for_a_minimum_and_negative_for_a_maximum():
    for goal, sign in (("minimize", 1), ("maximize", -1)):
        problem = pose(
            **LINE,
            horizon=1.0,
            subject_to=[at_start(X) == 0, (along_path(U) <= 1).named("limit")],
            **{goal: -sign * at_end(X)},
        )
        dual = solve(problem, 5).dual("limit")
        np.testing.assert_allclose(dual.values, sign, rtol=1e-6)


def test_the_dual_of_a_soft_condition_that_is_violated_is_its_price():
    problem = pose(
        **LINE,
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0, (at_end(X) == 1).soft(0.5).named("goal")],
    )
    np.testing.assert_allclose(solve(problem, 5).dual("goal").values, [[-0.5]], rtol=1e-6)


# Reading


def test_a_bound_is_read_by_condition_symbol_or_name():
    problem = pose(
        **MASS,
        horizon=1.0,
        minimize=integral(X),
        subject_to=[at_start(PLANE) == 0, along_path(U).within(-1, 1).named("thrust")],
    )
    solution = solve(problem, 5)
    readings = [solution.dual(key).values for key in ("thrust", "u", U)]
    np.testing.assert_array_equal(readings[0], readings[1])
    np.testing.assert_array_equal(readings[0], readings[2])
    assert solution.dual("x").values.shape == (6, 1)
    np.testing.assert_array_equal(solution.dual(PLANE).values, np.zeros((6, 2)))


def test_a_dual_of_another_name_is_refused_with_the_names_that_there_are():
    problem = pose(
        **LINE,
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0, at_end(X) == 1, (along_path(U) <= 3).named("thrust")],
    )
    solution = solve(problem, 3)
    for wanted in ("at_start(x)", ca.SX.sym("z")):
        with pytest.raises(ValueError, match=r"no constraint.*at_end\(x\), thrust, x, u"):
            solution.dual(wanted)
    for wanted in ("z", U):
        with pytest.raises(ValueError, match="is no component of the state: x"):
            solution.costate(wanted)


def test_duals_and_costates_of_an_ensemble_have_a_member():
    """Two masses apart by 1 under one control, each to be at most at its own limit."""
    problem = OptimalControlProblem(
        **{**LINE, "dynamics": U},
        horizon=1.0,
        initial_state=[[0.0], [1.0]],
        control_cost=U**2,
        terminal_constraints=[Constraint("far", X, 1.5, np.inf)],
    )
    solution = solve(problem, 4)
    assert solution.costate().shape == (5, 2, 1)
    assert solution.costate("x").shape == (5, 2)
    dual = solution.dual("far")
    assert dual.values.shape == (1, 2, 1)
    # min Int u^2 with Int u >= 3/2: 9/4, of slope 3 in the limit of the first.
    np.testing.assert_allclose(dual.values[0, :, 0], [-3, 0], atol=1e-6)
    np.testing.assert_allclose(solution.costate("x"), np.tile([-3.0, 0.0], (5, 1)), atol=1e-6)


def test_a_solution_tells_its_horizon_parameters_and_residuals():
    problem = pose(
        **LINE,
        horizon=T,
        minimize=at_end(T) + integral(U**2),
        subject_to=[at_start(X) == 0, at_end(X) == 1, at_end(T).within(0.1, 10)],
    )
    solution = solve(problem, 5)
    assert solution.horizon == pytest.approx(1, rel=1e-6)
    assert solution.parameters == {"T": pytest.approx(1, rel=1e-6)}
    assert solution.times[-1] == solution.horizon
    for words in (
        "solved:",
        "objective 2",
        "horizon 1",
        "T = ",
        "stationarity",
        "largest relative",
    ):
        assert words in str(solution)


@pytest.mark.parametrize("intervals", [12, 7])
def test_a_solution_is_a_guess_for_its_own_and_for_another_grid(intervals):
    problem, _ = hypersensitive()
    first = solve(problem, 12)
    again = solve(problem, intervals, GAUSS_LEGENDRE_4, control_per_stage=True, guess=first)
    assert again.is_solved
    if intervals == 12:
        same = solve(problem, 12, guess=first)
        assert same.iterations <= 2
        assert same.objective == pytest.approx(first.objective, rel=1e-10)


def test_the_dual_of_a_bound_at_a_free_start_is_among_its_values():
    """min 2 x(0) + Int u^2 - x(1) with x >= b: x(0) = b, so the value rises by 1 with b."""
    problem = pose(
        **LINE,
        horizon=1.0,
        minimize=2 * at_start(X) + integral(U**2) - at_end(X),
        subject_to=[along_path(X) >= 0.3],
    )
    solution = solve(problem, 10)
    times, values = solution.dual(X)
    shares = np.gradient(times)
    shares[[0, -1]] /= 2
    assert float((np.abs(values[:, 0]) * shares).sum()) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("tableau", [RADAU_IIA_3, RADAU_IIA_5], ids=lambda t: t.name)
def test_resampling_on_its_own_grid_changes_no_control_at_the_end_of_a_step(tableau):
    problem = pose(
        state=X,
        control=U,
        dynamics=U - X**2,
        horizon=1.0,
        minimize=integral(U**2 + X**2),
        subject_to=[at_start(X) == 1],
    )
    solution = solve(problem, 6, tableau, control_per_stage=True)
    again = solution.path.on(solution.transcription)
    np.testing.assert_allclose(
        again.control_array, solution.trajectory.control_array, rtol=0, atol=1e-7
    )


def test_a_constraint_violated_between_the_nodes_is_named_with_its_time():
    """The state is to stay above a peak that stands between two nodes."""
    t = ca.SX.sym("t")
    peak = 2 * ca.exp(-400 * (t - 0.45) ** 2)
    problem = pose(
        **LINE,
        horizon=1.0,
        time=t,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0, (along_path(X - peak) >= -0.1).named("peak")],
    )
    solution = solve(problem, 5, RK4)
    name, amount, time = solution.error.violated
    assert name == "peak"
    assert 0.4 < time < 0.5
    assert amount > 0.5
    assert "too coarse" in solution.message
    assert "peak is violated" in str(solution)
