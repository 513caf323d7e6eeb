"""Absolute values, norms and largest values: the optima of problems that bend, and their twins."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    Guess,
    Scaling,
    TimeGrid,
    absolute,
    along_path,
    at,
    at_end,
    at_start,
    integral,
    largest,
    norm,
    pose,
    refine,
    solve,
)
from ocp.intervals import range_of
from problems.figures.control import plot_solution

NAMES = ("x", "v", "y", "w", "u", "b", "p", "t", "T")
X, V, Y, W, U, B, P, T, END = (ca.SX.sym(name) for name in NAMES)
PLANE = ca.vertcat(X, V)
MASS = {"state": PLANE, "control": U, "dynamics": [V, U], "horizon": 1.0}
LINE = {"state": X, "control": U, "dynamics": U, "horizon": 1.0, "time": T}
PAIR = {"state": [X, Y], "control": [U, B], "dynamics": [U, B], "horizon": 1.0}
REST = [at_start(PLANE) == [-1, 0], at_end(PLANE) == 0]
FORCE = along_path(U).within(-8, 8)
ENERGY = integral(U**2)
GAUSS = {"grid": 10, "tableau": GAUSS_LEGENDRE_6, "control_per_stage": True}
BURN = (1 - math.sqrt(1 / 2)) / 2  # 8 BURN (1 - BURN) = 1: full thrust, nothing, full thrust


def burning(share: float) -> TimeGrid:
    """Nodes at both ends of the arc without thrust."""
    return TimeGrid.graded([share / 2] * 2 + [(1 - 2 * share) / 4] * 4 + [share / 2] * 2)


def line(cost, *conditions, **changes):
    arguments = {**LINE, "minimize": cost, "subject_to": [at_start(X) == 0, *conditions]}
    return pose(**{**arguments, **changes})


def fuel_in_the_plane():
    """The same burn along (3, 4) / 5: the norm of the thrust is at its tip on the arc between."""
    state, thrust = ca.vertcat(X, Y, V, W), ca.vertcat(U, B)
    cost = integral(norm(thrust))
    conditions = [
        at_start(state) == [-0.6, -0.8, 0, 0],
        at_end(state) == 0,
        along_path(norm(thrust)) <= 8,
    ]
    arguments = {"state": state, "control": thrust, "dynamics": [V, W, U, B], "horizon": 1.0}
    return cost, pose(**arguments, minimize=cost, subject_to=conditions)


def goal(weight: float):
    """min Int |u|^2 + w |x(1) - c|: to c along a line, by w / 2, until that arrives."""
    cost = integral(U**2 + B**2) + weight * at_end(norm(ca.vertcat(X - 3, Y - 4)))
    start = at_start(ca.vertcat(X, Y)) == 0
    return cost, pose(**PAIR, minimize=cost, subject_to=[start])


FUEL = integral(absolute(U))
SLOWEST = largest(along_path(V))
TIMED = FUEL + at_end(END)
# T^2 = 81 / 34 minimises 9 T - 8 sqrt(T^2 - 1/2); the burns last (T - sqrt(T^2 - 1/2)) / 2.
BEST_TIME = math.sqrt(81 / 34)
BEST_BURN = (1 - math.sqrt(1 - 0.5 / BEST_TIME**2)) / 2

# Name: (cost, problem), optimum, method.
KNOWN = {
    "least fuel": (
        (FUEL, pose(**MASS, minimize=FUEL, subject_to=[*REST, FORCE])),
        8 * (1 - math.sqrt(1 / 2)),
        {"grid": burning(BURN)},
    ),
    "least fuel, maximised": (
        (-FUEL, pose(**MASS, maximize=-FUEL, subject_to=[*REST, FORCE])),
        -8 * (1 - math.sqrt(1 / 2)),
        {"grid": burning(BURN), "control_per_stage": True},
    ),
    "least fuel in the plane": (
        fuel_in_the_plane(),
        8 * (1 - math.sqrt(1 / 2)),
        {"grid": burning(BURN)},
    ),
    "least fuel and time": (
        (
            TIMED,
            pose(**{**MASS, "horizon": END}, minimize=TIMED, subject_to=[*REST, FORCE]),
        ),
        math.sqrt(17 / 2),
        {"grid": burning(BEST_BURN), "guess": Guess(parameter=1.5)},
    ),
    # V (1 - V / 8) = 1.
    "least largest speed": (
        (SLOWEST, pose(**MASS, minimize=SLOWEST, subject_to=[*REST, FORCE])),
        4 - 2 * math.sqrt(2),
        {"grid": burning(BURN)},
    ),
    "least largest force": (
        (largest(absolute(U)), pose(**MASS, minimize=largest(absolute(U)), subject_to=REST)),
        4.0,
        {"grid": 10},
    ),
    "a weight that decays": (
        (
            cost := ENERGY - 2 * at_end(X) + integral(ca.exp(-T) * absolute(U)),
            line(cost),
        ),
        -math.exp(-1) - (1 - math.exp(-2)) / 8,
        GAUSS,
    ),
    # u = 1 - p / 2, p = 2/3.
    "a weight that is a parameter": (
        (
            cost := ENERGY - 2 * at_end(X) + integral(P * absolute(U)) + at_end((P - 1) ** 2),
            line(cost, along_path(P) >= 0, parameters=[P]),
        ),
        -1 / 3,
        GAUSS,
    ),
    "a goal left short": (goal(4.0), 16.0, GAUSS),
    "a goal reached, at the tip": (goal(16.0), 25.0, GAUSS),
    # |u - (3, 4)| on the whole path: the weight 16 is more than the slope 10 of the energy.
    "a tip along the path": (
        (
            cost := integral(U**2 + B**2) + integral(16 * norm(ca.vertcat(U - 3, B - 4))),
            pose(**PAIR, minimize=cost, subject_to=[at_start(ca.vertcat(X, Y)) == 0]),
        ),
        25.0,
        GAUSS,
    ),
    "a norm of an integral": (
        (
            cost := integral(U**2 + B**2) + 4 * norm(integral(ca.vertcat(U, B)) - [3, 4]),
            pose(**PAIR, minimize=cost, subject_to=[at_start(ca.vertcat(X, Y)) == 0]),
        ),
        16.0,
        GAUSS,
    ),
    # Half of the way to (3, 4) would take |u|^2 / 2 at speed |u|: 4 (5 - s / 2) + s^2 / 2, s = 2.
    "a norm at a point": (
        (
            cost := integral(U**2 + B**2) + 4 * at(0.5, norm(ca.vertcat(X - 3, Y - 4))),
            pose(**PAIR, minimize=cost, subject_to=[at_start(ca.vertcat(X, Y)) == 0]),
        ),
        18.0,
        GAUSS,
    ),
    # u = 3/2 is w / 2.
    "an end left short": (
        (cost := ENERGY + 3 * at_end(absolute(X - 2)), line(cost)),
        3 * 2 - 9 / 4,
        GAUSS,
    ),
    "an end reached": ((cost := ENERGY + 9 * absolute(at_end(X) - 2), line(cost)), 4.0, GAUSS),
    "a start": (
        (
            cost := ENERGY + 0.5 * at_start(absolute(X)),
            line(cost, at_end(X) == 1, subject_to=[at_end(X) == 1]),
        ),
        1 / 16 + 3 / 8,
        GAUSS,
    ),
    # (x - 1/10) at t = 1/2, slopes a and b: a^2 / 2 + b^2 / 2 - a - b + 5 |a / 2 - 1 / 10|.
    "a point": (
        (cost := ENERGY - 2 * at_end(X) + 5 * at(0.5, absolute(X - 0.1)), line(cost)),
        0.02 + 0.5 - 0.2 - 1,
        GAUSS,
    ),
    "a difference of ends": (
        (cost := ENERGY - 2 * at_end(X), line(cost, absolute(at_end(X) - at_start(X)) <= 0.3)),
        0.09 - 0.6,
        GAUSS,
    ),
    "a limit from above": (
        (cost := ENERGY - 2 * at_end(X), line(cost, along_path(absolute(X)) <= 0.5)),
        -0.75,
        GAUSS,
    ),
    "a limit from above, turned over": (
        (cost := ENERGY - 2 * at_end(X), line(cost, 1 - along_path(absolute(X)) >= 0.5)),
        -0.75,
        GAUSS,
    ),
    "a largest value limited": (
        (cost := ENERGY - 2 * at_end(X), line(cost, largest(absolute(X)) <= 0.5)),
        -0.75,
        GAUSS,
    ),
    "a largest value limited by a parameter": (
        (
            cost := ENERGY - 2 * at_end(X) + at_end(P**2),
            line(cost, largest(absolute(X)) <= at_end(P), parameters=[P]),
        ),
        -0.5,
        GAUSS,
    ),
    "a lower limit that always holds": (
        (cost := ENERGY - 2 * at_end(X), line(cost, at_end(absolute(X)).within(0, 0.4))),
        0.16 - 0.8,
        GAUSS,
    ),
    "a sum of two": (
        (
            cost := ENERGY,
            line(cost, along_path(absolute(X) + absolute(U)) <= 1, at_end(X) == 0.5),
        ),
        0.25,
        GAUSS,
    ),
    # |x(1)| <= 1/2 in the direction of (3, 4).
    "a norm limited": (
        (
            cost := integral(U**2 + B**2) - at_end(6 * X + 8 * Y),
            pose(
                **PAIR,
                minimize=cost,
                subject_to=[
                    at_start(ca.vertcat(X, Y)) == 0,
                    2 * at_end(norm(ca.vertcat(X, Y))) + 1 <= 2,
                ],
            ),
        ),
        0.25 - 5.0,
        GAUSS,
    ),
    "a power": ((cost := integral(absolute(U) ** 1.5), line(cost, at_end(X) == 1)), 1.0, GAUSS),
    "the least smallest value": (
        (
            cost := -largest(-along_path(X)) - ENERGY,
            pose(
                **{**LINE, "dynamics": U - 1},
                maximize=cost,
                subject_to=[at_start(X) == 1, along_path(U) >= 0],
            ),
        ),
        0.25,
        GAUSS,
    ),
    "the largest of two at the end": (
        (
            cost := largest(at_end(ca.vertcat(X, 1 - X))) + 0.1 * ENERGY,
            line(cost),
        ),
        0.5 + 0.025,
        GAUSS,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_optimum_of_a_problem_that_bends_is_the_known_one(name):
    (cost, problem), optimum, method = KNOWN[name]
    solution = solve(problem, **method)
    assert solution.is_solved, solution.message
    assert solution.objective == pytest.approx(optimum, rel=2e-7, abs=1e-8)
    assert solution.value(cost) == pytest.approx(optimum, rel=2e-6, abs=1e-6)


def test_least_fuel_of_any_grid_is_above_the_optimum_and_comes_down_to_it():
    """8 (1 - sqrt(1/2)); with |u| as it is the solve failed at 3.09."""
    problem = pose(**MASS, minimize=FUEL, subject_to=[*REST, FORCE])
    errors = []
    for grid in (10, 20, 40, 80):
        solution = solve(problem, grid)
        assert solution.is_solved, solution.message
        errors.append(solution.objective - 8 * (1 - math.sqrt(1 / 2)))
    assert all(error > -1e-9 for error in errors)
    assert errors[-1] < 1e-3
    refined = refine(problem, 1e-6)
    assert refined.is_met
    assert refined.solution.objective == pytest.approx(8 * (1 - math.sqrt(1 / 2)), rel=1e-6)


def test_terms_of_states_agree_with_bounds_that_are_controls():
    """Int |x| + Int u^2 and a twin in which a control of its own is above x and -x."""
    s = ca.SX.sym("s")
    cost = ENERGY + integral(30 * absolute(X))
    ours = solve(pose(**MASS, minimize=cost, subject_to=REST), **GAUSS)
    twin = pose(
        **{**MASS, "control": ca.vertcat(U, s)},
        minimize=ENERGY + integral(30 * s),
        subject_to=[*REST, along_path(s - X) >= 0, along_path(s + X) >= 0],
    )
    theirs = solve(twin, **GAUSS)
    assert ours.is_solved
    assert theirs.is_solved
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-7)
    assert ours.value(cost) == pytest.approx(ours.objective, rel=1e-6)


@pytest.mark.parametrize("budget", [4.2, 3.0])
def test_a_budget_of_fuel_agrees_with_thrust_in_two_parts(budget):
    """u = a - b with a, b >= 0 and Int a + b limited; 4 is what the least energy takes."""
    a, b = ca.SX.sym("forward"), ca.SX.sym("back")
    problem = pose(**MASS, minimize=ENERGY, subject_to=[*REST, integral(absolute(U)) <= budget])
    ours = solve(problem, 20)
    twin = pose(
        **{**MASS, "control": ca.vertcat(a, b), "dynamics": [V, a - b]},
        minimize=integral((a - b) ** 2),
        subject_to=[
            *REST,
            integral(a + b) <= budget,
            along_path(ca.vertcat(a, b)) >= 0,
        ],
    )
    theirs = solve(twin, 20)
    assert ours.is_solved, ours.message
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-6)
    assert ours.value(integral(absolute(U))) <= budget + 1e-6


def test_what_was_added_to_pose_a_problem_does_not_show():
    problem = pose(
        **MASS,
        minimize=ENERGY + largest(along_path(V)),
        subject_to=[*REST, (integral(absolute(U)) <= 3.2).named("budget")],
    )
    guess = Guess(control=[[3.0], [-3.0]], parameter=[])
    solution = solve(problem, 10, guess=guess, scaling=Scaling(control=[2.0]))
    assert solution.is_solved, solution.message
    assert solution.control().shape == (11, 1)
    assert solution.parameters == {}
    assert "largest (" not in str(solution)
    again = solve(problem, 14, GAUSS_LEGENDRE_4, control_per_stage=True, guess=solution)
    assert again.is_solved, again.message
    assert len(solution.dual("budget").times) == 1
    assert solution.sample(U * V, [0.2]).shape == (1,)
    assert solution.value(largest(absolute(U))) == pytest.approx(np.abs(solution.control()).max())
    assert solution.value(at_end(U)) == pytest.approx(solution.control([1.0])[0, 0])
    assert plot_solution(solution) is not None


def test_limits_of_one_absolute_value_keep_their_rows_and_their_dual():
    """x(1) = 1/2 is held by |x(1)| <= 1/2 with the multiplier 2 - 2 / 2."""
    problem = line(ENERGY - 2 * at_end(X), at_end(absolute(X)) <= 0.5)
    solution = solve(problem, **GAUSS)
    assert solution.dual("at_end(absolute(x))").values.ravel() == pytest.approx([1.0], rel=1e-6)
    bounded = line(ENERGY, along_path(absolute(U)) <= 2)
    np.testing.assert_array_equal(np.ravel(bounded.control_bounds), [-2, 2])


def test_values_are_the_true_ones_wherever_they_are_read():
    """x = t - t^2 and u = 1 - 2 t: x is largest at 1/2, between the nodes of three intervals."""
    problem = line(integral((U - 1 + 2 * T) ** 2))
    solution = solve(problem, 3, GAUSS_LEGENDRE_6, control_per_stage=True)
    np.testing.assert_allclose(solution.sample(absolute(U), [0.0, 1.0]), [1.0, 1.0], atol=1e-6)
    read = [
        (largest(along_path(X)), 0.25),
        (largest(ca.vertcat(X, -U)), 1.0),
        (-largest(-along_path(U)), -1.0),
        (absolute(at_end(X) - 2), 2.0),
        (at_end(norm(ca.vertcat(X - 3, 4))), 5.0),
        (norm(integral(ca.vertcat(X, 0 * U))), 1 / 6),
    ]
    for expression, expected in read:
        assert solution.value(expression) == pytest.approx(expected, abs=1e-6)


def test_soft_limits_along_a_free_horizon_cost_what_they_cost_along_the_same_fixed_one():
    """min T + Int w max(0, v - 1): with T fixed at its optimum the rest is the same."""
    limits = [*REST, along_path(U).within(-8, 8), (along_path(V) <= 1.0).soft(0.5)]
    free = solve(
        pose(**{**MASS, "horizon": END}, minimize=at_end(END), subject_to=limits),
        30,
        guess=Guess(parameter=1.2),
    )
    assert free.is_solved, free.message
    length = free.parameters["T"]
    fixed = solve(pose(**{**MASS, "horizon": length}, subject_to=limits), 30)
    assert fixed.is_solved, fixed.message
    assert free.objective == pytest.approx(length + fixed.objective, rel=1e-6)
    scaled = solve(free.problem, 30, guess=Guess(parameter=1.2), scaling=Scaling(time=5.0))
    assert scaled.objective == pytest.approx(free.objective, rel=1e-7)
    excess = free.value(integral(ca.fmax(V - 1, 0)))
    assert excess > 0.01
    assert free.objective == pytest.approx(length + 0.5 * excess, rel=1e-6)
    # Where the limit is broken its multiplier is the price, per unit of time.
    for solution in (free, fixed):
        assert solution.dual("along_path(v)").values.max() == pytest.approx(0.5, rel=1e-5)


REFUSED = {
    "a negative weight": lambda: line(ENERGY - integral(absolute(U))),
    "a maximum": lambda: line(None, maximize=integral(absolute(U)) - ENERGY),
    "a weight of either sign": lambda: line(ENERGY + integral(ca.cos(9 * T) * absolute(U))),
    "an unbounded weight": lambda: line(ENERGY + integral(P * absolute(U)), parameters=[P]),
    "an equality": lambda: line(ENERGY, integral(absolute(U)) == 1),
    "a limit from below": lambda: line(ENERGY, along_path(absolute(U)) >= 0.1),
    "a limit from below, turned over": lambda: line(ENERGY, 1 - at_end(absolute(X)) <= 0.1),
    "both limits": lambda: line(ENERGY, at_end(absolute(X)).within(0.2, 0.4)),
    "an absolute value less one": lambda: line(ENERGY + integral(absolute(absolute(X) - 1))),
    "a norm in a product": lambda: line(ENERGY + at_end(X * norm(ca.vertcat(X, 1)))),
    "a largest value to be maximised": lambda: line(None, maximize=largest(X) - ENERGY),
    "a largest value that is given": lambda: line(ENERGY, largest(X) == 1),
    "a difference of largest values": lambda: line(largest(X) - largest(U)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_terms_whose_smooth_form_has_another_optimum_are_refused(name):
    with pytest.raises(ValueError, match=r"may gain by being larger.*sqrt\(e\*\*2") as caught:
        REFUSED[name]()
    assert "\n" not in str(caught.value)


MISPLACED = {
    "in the dynamics": (lambda: line(ENERGY, dynamics=absolute(U)), "stands in the dynamics"),
    "a norm of nothing": (
        lambda: line(ENERGY, at_end(norm(ca.vertcat(X, U * 0 + 1))) <= 0),
        "be at most 0; write the components == 0",
    ),
    "a negative limit": (lambda: line(ENERGY, at_end(absolute(X)) <= -1), "be at most -1"),
    "a largest value under an integral": (
        lambda: integral(largest(X)),
        "a value over the horizon",
    ),
    "a state's term in a budget, with one control per interval": (
        lambda: solve(line(ENERGY, integral(absolute(X)) <= 1), 5),
        r"absolute\(x\).*control_per_stage=True",
    ),
    "an MX": (lambda: absolute(ca.MX.sym("m")), r"absolute\(\.\.\.\) is a casadi\.MX"),
}


@pytest.mark.parametrize(("make", "words"), MISPLACED.values(), ids=list(MISPLACED))
def test_a_term_in_the_wrong_place_is_refused_in_one_line(make, words):
    with pytest.raises(ValueError, match=words):
        make()


EXPRESSIONS = {
    "a polynomial": X**2 - 3 * X * Y + Y**3,
    "a quotient": X / (Y**2 + 1) - 1 / (Y - 5),
    "waves": ca.sin(X) * ca.cos(Y) + ca.tanh(X * Y),
    "exponentials": ca.exp(-X) * ca.sqrt(Y**2) + ca.log(X**2 + 1),
    "kinks": ca.fabs(X - Y) + ca.fmax(X, Y) - ca.fmin(X, 1) + ca.sign(X),
    "a choice": ca.if_else(X < Y, X, Y**2) + absolute(X) ** 1.5,
    "powers": (X**2 + 1) ** P + ca.fabs(Y) ** 0.3 + X**4 + ca.atan(Y),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_range_contains_every_value(name):
    """On boxes and at points drawn with a fixed seed."""
    expression = EXPRESSIONS[name]
    function = ca.Function("e", [X, Y, P], [expression])
    generator = np.random.default_rng(0)
    for _ in range(20):
        ends = np.sort(generator.uniform(-3, 3, (3, 2)), axis=1)
        ranges = {s.element_hash(): tuple(e) for s, e in zip((X, Y, P), ends, strict=True)}
        low, high = range_of(expression, ranges)
        for _ in range(20):
            value = float(function(*generator.uniform(ends[:, 0], ends[:, 1])))
            assert low - 1e-9 <= value <= high + 1e-9


def test_ranges_prove_signs_that_weights_have():
    positive = [ca.exp(-T), X**2, 1 + ca.sin(T), ca.sqrt(X), ca.exp(X) / (1 + X**2), absolute(X)]
    assert all(range_of(e, {})[0] >= 0 for e in positive)
    assert range_of(X - X**2, {}) == (-math.inf, math.inf)
    assert range_of(ca.SX(2), {}) == (2.0, 2.0)
