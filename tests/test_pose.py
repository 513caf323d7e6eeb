"""Textbook problems, written as textbooks write them, against their known optima."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import casadi as ca
import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, least_squares

from ocp import (
    FREE,
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    RK4,
    Guess,
    TimeGrid,
    along_path,
    at,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)

X, U, V, T, P, CLOCK = (ca.SX.sym(name) for name in "xuvTpt")
PLANE = ca.SX.sym("X", 2)
MASS = {"state": PLANE, "control": U, "dynamics": ca.vertcat(PLANE[1], U)}
LINE = {"state": X, "control": U, "dynamics": U}
GAUSS = {"grid": 10, "tableau": GAUSS_LEGENDRE_4, "control_per_stage": True}
FINE = {"grid": 30, "tableau": GAUSS_LEGENDRE_6, "control_per_stage": True}
CONSTANT = {"grid": 10, "tableau": RK4}
ENERGY = integral(U**2 / 2)


@dataclass(frozen=True)
class Case:
    """Arguments of `pose` and of `solve`, the optimum, and facts about the solution."""

    statement: dict[str, Any]
    optimum: float
    method: dict[str, Any] = field(default_factory=lambda: GAUSS)
    accuracy: float = 1e-8  # the tolerance of a solve; more only where the comment says why
    check: Callable[..., None] = lambda _solution: None

    @property
    def cost(self):
        return self.statement.get("minimize", self.statement.get("maximize"))


def close(expected: float, tolerance: float = 1e-6):
    return pytest.approx(expected, rel=tolerance, abs=tolerance)


def double_integrator() -> Case:
    def check(solution):
        t = np.linspace(0, 1, 7)
        np.testing.assert_allclose(solution.control(t)[:, 0], 6 - 12 * t, atol=1e-6)

    ends = [at_start(PLANE) == [-1, 0], at_end(PLANE) == 0]
    return Case({**MASS, "horizon": 1.0, "minimize": ENERGY, "subject_to": ends}, 6.0, check=check)


def minimal_time() -> Case:
    """The switch at half the time is a node."""
    conditions = [
        at_start(PLANE) == 0,
        at_end(PLANE) == [1, 0],
        along_path(U).within(-1, 1),
        at_end(T) >= 0.1,
    ]

    def check(solution):
        assert solution.parameters["T"] == close(2.0)
        assert solution.horizon == close(2.0)
        np.testing.assert_allclose(solution.control([0.5, 1.5])[:, 0], [1, -1], atol=1e-6)

    statement = {**MASS, "horizon": T, "minimize": at_end(T), "subject_to": conditions}
    return Case(statement, 2.0, CONSTANT, check=check)


def bryson_denham(limit: float, as_expression: bool) -> Case:
    """Multipliers are impulses where the bound is entered and left: nodes at 1/3, 1/2 and 2/3."""
    bound = (
        along_path(3 * PLANE[0]) <= 3 * limit if as_expression else along_path(PLANE[0]) <= limit
    )
    conditions = [at_start(PLANE) == [0, 1], at_end(PLANE) == [0, -1], bound]
    optimum = 4 / (9 * limit) if limit <= 1 / 6 else 2 + 6 * (1 - 4 * limit) ** 2

    def check(solution):
        assert bool(solution.problem.path_constraints) is as_expression

    statement = {**MASS, "horizon": 1.0, "minimize": ENERGY, "subject_to": conditions}
    # The position is a cubic of time, which a step of three stages holds to the bound inside, too.
    method = {**GAUSS, "grid": 12, "tableau": GAUSS_LEGENDRE_6}
    return Case(statement, optimum, method, check=check)


def brachistochrone() -> Case:
    """A cycloid r (s - sin s, 1 - cos s) of time s sqrt(r / g)."""
    x, g = ca.SX.sym("z", 3), 9.80665
    angle = brentq(lambda s: (s - math.sin(s)) / (1 - math.cos(s)) - 2, 1, 6, xtol=1e-14)
    optimum = angle * math.sqrt(5 / (1 - math.cos(angle)) / g)
    assert optimum == pytest.approx(1.80160312245, rel=1e-11)
    conditions = [at_start(x) == 0, at_end(x[:2]) == [10, 5], at_end(T).within(0.1, 10)]
    dynamics = ca.vertcat(x[2] * ca.sin(U), x[2] * ca.cos(U), g * ca.cos(U))
    guess = Guess(state=[[0, 0, 0], [10, 5, 9]], control=[[0.1], [1.5]], parameter=2.0)
    return Case(
        {
            "state": x,
            "control": U,
            "dynamics": dynamics,
            "horizon": T,
            "minimize": at_end(T),
            "subject_to": conditions,
        },
        optimum,
        {**FINE, "grid": 12, "guess": guess},
    )


def free_time_bolza() -> Case:
    conditions = [at_start(X) == 0, at_end(X) == 1, at_end(T) >= 0.1]
    cost = at_end(T) + ENERGY
    best = (3 / 2) ** (1 / 4)

    def check(solution):
        assert solution.parameters["T"] == close(best)

    statement = {**LINE, "dynamics": T * U, "horizon": T, "minimize": cost}
    return Case({**statement, "subject_to": conditions}, 4 / 3 * best, CONSTANT, check=check)


def hypersensitive() -> Case:
    statement = {
        **LINE,
        "dynamics": -X + U,
        "horizon": 10.0,
        "minimize": integral((X**2 + U**2) / 2),
        "subject_to": [at_start(X) == 1.5, at_end(X) == 1],
    }
    s, c = (
        math.sqrt(2),
        np.linalg.solve([[1, 1], [math.exp(10 * 2**0.5), math.exp(-(200**0.5))]], [1.5, 1]),
    )
    grown, decayed = math.expm1(20 * s), math.expm1(-20 * s)
    optimum = (c[0] ** 2 * (1 + s) * grown + c[1] ** 2 * (1 - s) * decayed) / 2
    assert optimum == pytest.approx(1.6730939784, rel=1e-10)
    return Case(statement, optimum, FINE)


def lunar_landing() -> Case:
    """The switch, at a known share of the time, is a node."""
    x, end, switch = ca.SX.sym("z", 3), 1.39680808911, 0.23925910863
    share = switch / end
    conditions = [
        at_start(x) == [1, -0.783, 1],
        at_end(x[:2]) == 0,
        along_path(U).within(0, 1.227),
        at_end(T).within(0.1, 10),
    ]
    grid = TimeGrid.graded([share / 2] * 2 + [(1 - share) / 8] * 8)
    guess = Guess(state=[[1, -0.783, 1], [0, 0, 0.4]], control=1.0, parameter=1.4)

    def check(solution):
        assert solution.horizon == close(end)

    statement = {
        "state": x,
        "control": U,
        "dynamics": ca.vertcat(x[1], -1 + U / x[2], -U / 2.349),
        "horizon": T,
        "maximize": at_end(x[2]),
        "subject_to": conditions,
    }
    method = {"grid": grid, "tableau": GAUSS_LEGENDRE_6, "guess": guess}
    return Case(statement, 0.39535436396, method, check=check)


def hanging_chain() -> Case:
    """x(0) = 1, x(1) = 3, length 4: a catenary."""
    slack = math.sqrt(4**2 - 2**2)
    c = 1 / (2 * brentq(lambda s: math.sinh(s) / s - slack, 1e-6, 50, xtol=1e-15))
    middle = 0.5 - c * math.asinh(2 / slack)
    offset = 1 - c * math.cosh(middle / c)
    swing = math.sinh(2 * (1 - middle) / c) + math.sinh(2 * middle / c)
    arc = ca.sqrt(1 + U**2)
    guess = Guess(state=lambda t: [1 + 4 * t * (t - 0.5), 4 * t], control=lambda t: 8 * t - 2)

    def check(solution):
        assert solution.problem.state.numel() == 2
        assert solution.value(integral(arc)) == close(4.0)

    statement = {
        **LINE,
        "horizon": 1.0,
        "minimize": integral(X * arc),
        "subject_to": [at_start(X) == 1, at_end(X) == 3, integral(arc) == 4],
    }
    optimum = offset * 4 + c / 2 + c**2 / 4 * swing
    return Case(statement, optimum, {**FINE, "guess": guess}, check=check)


def periodic() -> Case:
    """Int (x - cos w t)^2 + u^2: x = cos(w t) / (1 + w^2)."""
    w = 2 * math.pi

    def check(solution):
        assert solution.value(at_start(X)) == close(1 / (1 + w**2))
        assert solution.costate()[0, 0] == close(solution.costate()[-1, 0])

    statement = {
        **LINE,
        "horizon": 1.0,
        "time": CLOCK,
        "minimize": integral((X - ca.cos(w * CLOCK)) ** 2 + U**2),
        "subject_to": [at_end(X) - at_start(X) == 0],
    }
    return Case(statement, w**2 / (2 * (1 + w**2)), {**FINE, "grid": 16}, check=check)


def root_of_an_integral() -> Case:
    """sqrt(1 + a^2) - 0.6 a for constant u = a: a = 3/4."""
    cost = (1 + integral(U**2)).apply(ca.sqrt) - 0.6 * at_end(X)
    statement = {**LINE, "horizon": 1.0, "minimize": cost, "subject_to": [at_start(X) == 0]}
    return Case(statement, 0.8, CONSTANT)


def rayleigh_quotient() -> Case:
    """x(0) = 0, scaled by x(1) = 1: x = sin(pi t / 2)."""
    statement = {
        **LINE,
        "horizon": 1.0,
        "minimize": integral(U**2) / integral(X**2),
        "subject_to": [at_start(X) == 0, at_end(X) == 1],
    }
    return Case(
        statement, math.pi**2 / 4, {**FINE, "grid": 12, "guess": Guess(control=1.0, simulate=True)}
    )


def waypoint() -> Case:
    """The least bending through points is the cubic spline's."""
    spline = CubicSpline([0, 0.25, 1], [0, 1, 0], bc_type="clamped")
    bend = spline.derivative(2)
    # Its square is quadratic on each piece: Simpson's rule is exact.
    ends = np.array([0, 0.25, 1])
    before = bend([0, 0.125, 0.25 - 1e-15])
    after = bend([0.25, 0.625, 1])
    weights = np.array([1, 4, 1]) / 6
    optimum = (ends[1] * weights @ before**2 + (1 - ends[1]) * weights @ after**2) / 2
    conditions = [at_start(PLANE) == 0, at_end(PLANE) == 0, at(0.25, PLANE[0]) == 1]

    def check(solution):
        t = np.linspace(0, 1, 9)
        np.testing.assert_allclose(solution.state(t)[:, 0], spline(t), atol=1e-6)
        assert solution.value(at(0.25, PLANE[0])) == close(1.0)

    statement = {**MASS, "horizon": 1.0, "minimize": ENERGY, "subject_to": conditions}
    return Case(statement, optimum, {**FINE, "grid": 6}, check=check)


def known_decay() -> Case:
    """x' = -p x through exact values of 2 exp(-0.7 t): rate and start are found, no control."""
    cost = at(0.5, (X - 2 * math.exp(-0.35)) ** 2) + at(1.5, (X - 2 * math.exp(-1.05)) ** 2)

    def check(solution):
        assert solution.parameters["p"] == close(0.7)
        assert solution.value(at_start(X)) == close(2.0)

    statement = {
        "state": X,
        "control": ca.SX(0, 1),
        "dynamics": -P * X,
        "horizon": 2.0,
        "minimize": cost,
    }
    return Case(statement, 0.0, {"grid": 16, "tableau": GAUSS_LEGENDRE_6}, check=check)


def soft_end(weight: float) -> Case:
    """Int u^2 + w |x(1) - 1|: constant u = w / 2, until that arrives."""
    speed = min(weight / 2, 1.0)
    conditions = [at_start(X) == 0, (at_end(X) == 1).soft(weight)]
    optimum = speed**2 + weight * (1 - speed)

    def check(solution):
        assert solution.value(at_end(X)) == close(speed)

    statement = {**LINE, "horizon": 1.0, "minimize": integral(U**2), "subject_to": conditions}
    return Case(statement, optimum, CONSTANT, check=check)


CASES = {
    "double integrator": double_integrator(),
    "minimal time": minimal_time(),
    "Bryson-Denham, arc, bound": bryson_denham(1 / 9, as_expression=False),
    "Bryson-Denham, arc, expression": bryson_denham(1 / 9, as_expression=True),
    "Bryson-Denham, touching, bound": bryson_denham(1 / 5, as_expression=False),
    "Bryson-Denham, touching, expression": bryson_denham(1 / 5, as_expression=True),
    "brachistochrone": brachistochrone(),
    "free-time Bolza": free_time_bolza(),
    "hypersensitive": hypersensitive(),
    "lunar landing": lunar_landing(),
    "hanging chain": hanging_chain(),
    "periodic boundary": periodic(),
    "root of an integral": root_of_an_integral(),
    "Rayleigh quotient": rayleigh_quotient(),
    "waypoint": waypoint(),
    "decay": known_decay(),
    "soft end, left short": soft_end(0.5),
    "soft end, reached": soft_end(3.0),
}
SOLUTIONS: dict[str, Any] = {}


def solved(name: str):
    if name not in SOLUTIONS:
        case = CASES[name]
        solution = solve(pose(**case.statement), **case.method)
        assert solution.is_solved, solution.message
        SOLUTIONS[name] = solution
    return SOLUTIONS[name]


@pytest.mark.parametrize("name", CASES)
def test_the_optimum_of_a_textbook_problem_is_the_known_one(name):
    case, solution = CASES[name], solved(name)
    assert solution.objective == pytest.approx(case.optimum, rel=case.accuracy, abs=1e-10)
    case.check(solution)


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("soft")])
def test_the_value_of_the_cost_is_the_objective(name):
    solution = solved(name)
    # Lifted integrals enter the objective as states, equal up to the defects.
    assert solution.value(CASES[name].cost) == pytest.approx(solution.objective, rel=1e-8, abs=1e-9)


def test_least_squares_finds_the_parameters_that_scipy_finds():
    """x' = -p x + q with scattered values; exactly x = q/p + (x0 - q/p) exp(-p t)."""
    q, times = ca.SX.sym("q"), np.array([0.25, 0.5, 1.0, 1.5, 1.75])
    values = np.array([1.7, 1.45, 1.12, 0.81, 0.83])
    cost = sum(at(t, (X - y) ** 2) for t, y in zip(times, values, strict=True))
    problem = pose(
        state=X,
        control=ca.SX(0, 1),
        dynamics=-P * X + q,
        horizon=2.0,
        minimize=cost,
        subject_to=[at_start(X) == 2, at_end(P).within(0.01, 10)],
    )
    solution = solve(problem, 8, GAUSS_LEGENDRE_6, guess=Guess(parameter=[1.0, 0.5]))
    assert solution.is_solved, solution.message

    def residuals(z):
        rate, rest = z[0], z[1] / z[0]
        return rest + (2 - rest) * np.exp(-rate * times) - values

    found = least_squares(residuals, [1.0, 0.5], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert solution.objective == pytest.approx(2 * found.cost, rel=1e-8)
    assert solution.parameters["p"] == pytest.approx(found.x[0], rel=1e-6)
    assert solution.parameters["q"] == pytest.approx(found.x[1], rel=1e-6)


def line(*conditions, **changes):
    arguments = {**LINE, "horizon": 1.0, "minimize": ENERGY, "subject_to": conditions}
    return pose(**{**arguments, **changes})


def test_a_path_condition_on_symbols_is_a_bound_and_several_intersect():
    problem = line(along_path(U) <= 3, along_path(U).within(-5, 4), along_path(X) >= 0)
    assert not problem.path_constraints
    assert not problem.control_constraints
    np.testing.assert_array_equal(np.ravel(problem.control_bounds), [-5, 3])
    np.testing.assert_array_equal(np.ravel(problem.state_bounds), [0, math.inf])


@pytest.mark.parametrize("take", [at_end, at_start, along_path])
def test_a_condition_on_a_parameter_is_its_bound_wherever_it_is_taken(take):
    problem = line(take(P).within(1, 2), at_end(X) == P)
    np.testing.assert_array_equal(np.ravel(problem.parameter_bounds), [1, 2])
    assert [c.name for c in problem.terminal_constraints] == ["at_end(x) and at_end(p)"]


def test_a_start_that_is_given_is_data_and_any_other_is_free():
    problem = pose(
        **MASS,
        horizon=1.0,
        minimize=ENERGY,
        subject_to=[at_start(PLANE[1]) == 2, at_start(PLANE[0]) >= 0],
    )
    np.testing.assert_array_equal(problem.initial_state, [[FREE, 2.0]])
    assert [c.name for c in problem.terminal_constraints] == ["at_start(X_0)"]


def test_a_point_at_an_end_of_the_horizon_is_that_end():
    problem = line(at(0.0, X) == 2, at(1.0, X) == 3)
    np.testing.assert_array_equal(problem.initial_state, [[2.0]])
    assert [c.name for c in problem.terminal_constraints] == ["at(1, x)"]
    assert not problem.interior_points


def test_a_condition_on_the_control_alone_is_one_of_the_control():
    problem = line(along_path(U**2) <= 1, along_path(U + X) <= 1)
    assert [c.name for c in problem.control_constraints] == ["along_path(sq(u))"]
    assert [c.name for c in problem.path_constraints] == ["along_path((u+x))"]


def test_an_integral_in_a_condition_is_a_further_state_and_one_in_the_cost_is_not():
    assert line(integral(X) >= 0.5).state.numel() == 2
    assert line().state.numel() == 1
    assert line(minimize=integral(X) * integral(U)).state.numel() == 3


def test_without_a_cost_any_feasible_point_is_optimal():
    solution = solve(line(at_start(X) == 0, at_end(X) == 1, minimize=None), 5)
    assert solution.is_solved
    assert solution.objective == 0.0
    assert solution.value(at_end(X)) == close(1.0)


def test_to_maximise_is_to_minimise_the_negative():
    conditions = [at_start(X) == 0, along_path(U).within(-1, 1)]
    cost = at_end(X) - integral(X**2)
    low = solve(line(*conditions, minimize=-cost), 10)
    high = solve(line(*conditions, minimize=None, maximize=cost), 10)
    assert high.objective == pytest.approx(-low.objective, rel=1e-9)
    np.testing.assert_allclose(high.costate(), -low.costate(), atol=1e-7)


REFUSED = {
    "both costs": (lambda: line(maximize=ENERGY), "one cost.*not both"),
    "a plain expression as cost": (
        lambda: line(minimize=U**2),
        r"the cost is.*wrap it in integral",
    ),
    "a number as cost": (lambda: line(minimize=1.0), r"the cost is 1\.0"),
    "a plain expression as condition": (lambda: line(U <= 1), r"subject_to contains.*along_path"),
    "a cost that is a function of time": (
        lambda: line(minimize=along_path(U**2)),
        "not a single number; integrate it",
    ),
    "a cost of two components": (
        lambda: line(minimize=integral(ca.vertcat(U, X))),
        "not a single number",
    ),
    "conflicting bounds": (
        lambda: line(along_path(U) >= 1, along_path(U) <= 0),
        r"along_path\(u\).*\[-inf, 0\].*\[1, inf\].*conflict",
    ),
    "conflicting initial values": (
        lambda: line(at_start(X) == 1, at_start(X) == 0),
        r"at_start\(x\).*fixes an initial value at 0.*fixes at 1.*conflict",
    ),
    "the control at the end": (lambda: line(at_end(U) == 0), "control at one end.*along_path"),
    "the control at the start": (
        lambda: line(at_start(U) >= 0),
        "control at one end.*along_path",
    ),
    "the control fixed at the start": (
        lambda: line(at_start(U) == 0),
        "something that is not a state",
    ),
    "the control at the end in the cost": (
        lambda: line(minimize=at_end(U**2)),
        "'the cost' takes the control at one end",
    ),
    "the control at a point": (lambda: line(at(0.5, U) == 0), r"at\(0\.5, u\).*depends on u"),
    "a point after the end": (lambda: line(at(1.5, X) == 0), r"t = 1\.5, expected a time inside"),
    "a point before the start": (lambda: line(at(-0.5, X) == 0), "expected a time inside"),
    "a point in a free horizon": (lambda: line(at(0.5, X) == 0, horizon=T), "need a fixed horizon"),
    "two points in one condition": (
        lambda: line(at(0.25, X) == at(0.75, X)),
        "couples 2 times.*further state",
    ),
    "a point coupled with the end": (
        lambda: line(at(0.25, X) == at_end(X)),
        "single times inside the horizon.*further state",
    ),
    "a state that is no symbol": (lambda: line(state=X + 1), "state must be CasADi symbols"),
    "a control that is no symbol": (lambda: line(control=2 * U), "control must be CasADi symbols"),
    "dynamics of another size": (
        lambda: line(dynamics=ca.vertcat(U, U)),
        "dynamics has 2 components, expected 1",
    ),
    "a horizon that depends on the state": (lambda: line(horizon=X), "horizon depends on x"),
    "a horizon that is not positive": (lambda: line(horizon=0.0), "horizon must be positive"),
    "a limit that is not a number": (lambda: line(at_end(X) <= math.nan), "compared with NaN"),
    "a price of zero": (lambda: line((at_end(X) == 0).soft(0.0)), "positive weight"),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=list(REFUSED))
def test_a_wrong_statement_is_refused_with_what_to_do(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_value_that_occurs_twice_counts_as_often_as_it_is_written():
    """min 2 Int u^2 with x from 0 to 1 in unit time is 2."""
    energy = integral(U**2)
    go = [at_start(X) == 0, at_end(X) == 1]
    problem = pose(**LINE, horizon=1.0, minimize=energy + energy, subject_to=go)
    assert solve(problem, **GAUSS).objective == close(2.0)
    halved = energy + 2 * at_end(X) - 0.5 * energy  # min u^2 / 2 + 2 u = -2
    problem = pose(**LINE, horizon=1.0, minimize=halved, subject_to=[at_start(X) == 0])
    assert solve(problem, **GAUSS).objective == close(-2.0)
    squared = pose(**LINE, horizon=1.0, minimize=energy * energy, subject_to=go)
    assert squared.integrals == 1
    solution = solve(squared, guess=Guess(control=1.0), **GAUSS)
    assert solution.objective == close(1.0)
    assert solution.value(energy * energy) == close(1.0)
    path = along_path(X)
    np.testing.assert_allclose(solution.sample(path * path), solution.state()[:, 0] ** 2)


def test_an_integral_of_a_parameter_is_no_bound_of_it():
    """min Int u^2 + p^2 with Int_0^4 p dt >= 2: p = 1/2."""
    problem = pose(
        **LINE,
        horizon=4.0,
        minimize=integral(U**2) + at_end(P**2),
        subject_to=[at_start(X) == 0, integral(P) >= 2],
    )
    assert solve(problem, **GAUSS).parameters["p"] == close(0.5)


def test_states_that_pose_an_integral_are_not_the_users():
    problem = pose(
        **LINE,
        horizon=1.0,
        minimize=integral(X**2),
        subject_to=[at_start(X) == 0, integral(U**2) <= 1, at_end(X) == 0.5],
    )
    guess = Guess(state=[[0.0], [0.5]], control=0.5)
    solution = solve(problem, guess=guess, **GAUSS)
    assert solution.is_solved
    assert solution.state().shape == solution.costate().shape == (11, 1)


def test_a_condition_on_time_alone_is_no_bound():
    conditions = [at_start(X) == 0, along_path(CLOCK) <= 1]
    problem = pose(**LINE, horizon=1.0, minimize=ENERGY, subject_to=conditions, time=CLOCK)
    assert solve(problem, **GAUSS).is_solved


def test_a_column_of_casadi_numbers_is_a_value_to_compare_with():
    problem = pose(
        **MASS, horizon=1.0, minimize=ENERGY, subject_to=[at_start(PLANE) == ca.DM([-1, 0])]
    )
    np.testing.assert_array_equal(problem.initial_state, [[-1, 0]])
    with pytest.raises(ValueError, match="2 components but 3 values"):
        at_start(PLANE) == [1, 2, 3]  # noqa: B015


def test_points_at_the_ends_are_the_ends():
    conditions = [at(0.0, X) == 1, at(1.0, X) == 3]
    problem = pose(**LINE, horizon=1.0, minimize=integral(U**2), subject_to=conditions)
    assert solve(problem, **GAUSS).objective == close(4.0)


def test_parameters_of_one_vector_stand_in_its_order():
    k = ca.SX.sym("k", 3)
    problem = pose(
        state=X,
        control=U,
        dynamics=[k[2] * U + k[0]],
        horizon=1.0,
        minimize=integral(U**2) + at_end(ca.sumsqr(k - 1)),
        subject_to=[at_start(X) == 0],
    )
    assert problem.parameter_names == ("k0", "k1", "k2")


def test_an_end_time_of_any_magnitude_is_found_from_the_default_guess():
    """x' = u with |u| <= 10 m/s over 3600 km: 3.6e5 s; in units of 1e-6 m, 3.6e-7 s."""
    for way in (3.6e6, 3.6e-6):
        conditions = [at_start(X) == 0, at_end(X) == way, along_path(U).within(-10, 10)]
        problem = pose(**LINE, horizon=T, minimize=at_end(T), subject_to=conditions)
        solution = solve(problem, 10)
        assert solution.is_solved
        assert solution.objective == pytest.approx(way / 10, rel=1e-6)
