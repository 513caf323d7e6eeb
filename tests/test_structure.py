"""Points that differ in their numbers alone share one function; others have their own."""

import time

import casadi as ca
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import least_squares

from ocp import (
    EULER,
    GAUSS_LEGENDRE_4,
    Constraint,
    Guess,
    InteriorPoint,
    OptimalControlProblem,
    Status,
    TimeGrid,
    at,
    at_end,
    at_start,
    discretize,
    integral,
    pose,
    rollout,
    solve,
)
from ocp.structure import structure_of

X, P, T, U = ca.SX.sym("x", 2), ca.SX.sym("p"), ca.SX.sym("t"), ca.SX.sym("u")
A, B = ca.SX.sym("a"), ca.SX.sym("b")
ARGUMENTS = [X, P, T]

# Expressions with two sets of numbers each, all of them general.
PAIRS = {
    "residual": (lambda a, b, c: (X[0] - a) ** 2, (1.5, 0, 0), (-0.3, 0, 0)),
    "weighted": (lambda a, b, c: c * (X[0] - a) ** 2, (1.5, 0, 3.0), (0.1, 0, 7.5)),
    "vector": (lambda a, b, c: ca.sumsqr(X - ca.DM([a, b])), (1.5, 2.5, 0), (0.3, 0.7, 0)),
    "equal numbers": (lambda a, b, c: ca.sumsqr(X - ca.DM([a, b])), (1.5, 1.5, 0), (0.3, 0.7, 0)),
    "functions": (lambda a, b, c: ca.exp(a * X[0]) / (b + P * T), (1.5, 3, 0), (0.3, 5, 0)),
    "two and one": (lambda a, b, c: a * ca.exp(X[0]) + b / X[1], (2.0, 1.0, 0), (0.3, 5, 0)),
    "branch": (lambda a, b, c: ca.if_else(X[0] > a, b * P, X[1]), (1.5, 3, 0), (0.3, 5, 0)),
    "column": (lambda a, b, c: ca.vertcat(X[0] - a, b, X[1] * c), (1.5, 3, 5), (0.3, 5, 9)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_expressions_with_other_numbers_have_one_structure_and_give_themselves_back(name):
    make, first, second = PAIRS[name]
    structures = []
    point = (np.array([0.4, -1.2]), 0.7, 0.2)
    for numbers in (first, second):
        expression = ca.SX(make(*numbers))
        structure, values = structure_of(ARGUMENTS, expression)
        structures.append(structure)
        again = structure.expression(ARGUMENTS, ca.SX(ca.DM(values)))
        original, rebuilt = (ca.Function("f", ARGUMENTS, [e]) for e in (expression, again))
        np.testing.assert_allclose(rebuilt(*point).full(), original(*point).full(), rtol=1e-15)
    assert structures[0] == structures[1]
    assert hash(structures[0]) == hash(structures[1])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (X[0] - 1.5, X[1] - 1.5),
        (X[0] - 1.5, X[0] * 1.5),
        (X[0] - 1.5, 1.5 - X[0]),
        (ca.fabs(X[0]) ** 1.5, ca.fabs(X[0]) ** 2.5),
        (X[0] * P, X[0] * T),
        (ca.vertcat(X[0], 2.0), ca.vertcat(2.0, X[0])),
        (ca.vertcat(X[0], 2.0), ca.SX(X[0])),
        (ca.sin(X[0]), ca.cos(X[0])),
    ],
)
def test_other_operations_inputs_and_exponents_are_other_structures(first, second):
    assert structure_of(ARGUMENTS, first)[0] != structure_of(ARGUMENTS, second)[0]


# Fits


TIMES = np.linspace(0.0, 4.0, 41)


def data(seed: int = 0) -> np.ndarray:
    """x'' = -x - 0.3 x' from (1, 0), with noise, at TIMES."""
    exact = np.array([expm(t * np.array([[0, 1], [-1, -0.3]]))[:, 0] for t in TIMES])
    return exact + 0.01 * np.random.default_rng(seed).standard_normal(exact.shape)


def fit(terms, *conditions):
    """Of x'' = -a x - b x' to terms, a function of time and measurement each."""
    return pose(
        state=X,
        control=ca.SX(0, 1),
        dynamics=ca.vertcat(X[1], -A * X[0] - B * X[1]),
        horizon=4.0,
        minimize=sum(term for term in terms),
        subject_to=[at_start(X) == [1, 0], *conditions],
    )


def by_least_squares(residuals) -> np.ndarray:
    """Of a and b, with the matrix exponential and without any of the code under test."""

    def all_residuals(p):
        a, b = p
        states = [expm(t * np.array([[0, 1], [-a, -b]]))[:, 0] for t in TIMES]
        return np.concatenate([np.atleast_1d(r) for r in residuals(states)])

    return least_squares(all_residuals, [1.2, 0.1], xtol=1e-14, ftol=1e-14, gtol=1e-14).x


def points(form):
    measured = data()
    return [at(TIMES[k], form(k, measured[k])) for k in range(1, len(TIMES) - 1)]


WEIGHTS = 1.0 + np.arange(len(TIMES)) / 7
FITS = {
    "scalar": (
        lambda k, y: (X[0] - y[0]) ** 2,
        lambda k, x, y: x[0] - y[0],
        1,
    ),
    "vector": (
        lambda k, y: ca.sumsqr(X - ca.DM(y)),
        lambda k, x, y: x - y,
        1,
    ),
    "weighted": (
        lambda k, y: WEIGHTS[k] * (X[0] - y[0]) ** 2,
        lambda k, x, y: np.sqrt(WEIGHTS[k]) * (x[0] - y[0]),
        1,
    ),
    "two structures": (
        lambda k, y: (X[k % 2] - y[k % 2]) ** 2,
        lambda k, x, y: x[k % 2] - y[k % 2],
        2,
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_has_a_function_for_every_structure_and_finds_what_least_squares_find(name):
    form, residual, structures = FITS[name]
    problem = fit(points(form))
    grid = TimeGrid(TIMES)
    staged = discretize(problem, grid, GAUSS_LEGENDRE_4)
    functions = {id(stage.function) for stage in staged.stages}
    assert len(functions) == structures + 2  # the first interval and the end have no measurement
    found = solve(problem, grid, guess=Guess(parameter=[1.2, 0.1]))
    assert found.status is Status.SOLVED
    measured = data()
    expected = by_least_squares(
        lambda states: [residual(k, states[k], measured[k]) for k in range(1, len(TIMES) - 1)]
    )
    np.testing.assert_allclose(list(found.parameters.values()), expected, rtol=1e-5)


def test_data_that_are_zero_or_one_change_nothing():
    """Where CasADi simplifies a number away, the structure is another one, and the cost is not."""
    measured = np.round(data()[:, 0])
    assert {0.0, 1.0, -1.0} <= set(measured)
    terms = [at(t, (X[0] - y) ** 2) for t, y in zip(TIMES[1:-1], measured[1:-1], strict=True)]
    found = solve(fit(terms), TimeGrid(TIMES), guess=Guess(parameter=[1.2, 0.1]))
    expected = by_least_squares(
        lambda s: [x[0] - y for x, y in zip(s, measured, strict=True)][1:-1]
    )
    np.testing.assert_allclose(list(found.parameters.values()), expected, rtol=1e-5)


def test_constraints_at_points_share_a_function_and_keep_their_own_limits_and_duals():
    """A mass through gates: equalities, ranges and slopes, all of one form."""
    gates = [(0.25, 0.9), (0.5, 1.1), (0.75, 1.2)]
    conditions = [
        (at(t, X[0] / width).within(0.4 * t / width, 0.5 * t / width)).named(f"gate {t:g}")
        for t, width in gates
    ]
    problem = pose(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], U),
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0, at_end(X) == [1, 0], *conditions],
    )
    staged = discretize(problem, TimeGrid.uniform(20), EULER)
    assert len({id(stage.function) for stage in staged.stages}) == 3
    found = solve(problem, 20)
    assert found.is_solved
    for t, width in gates:
        state = found.state([t])[0, 0]
        assert 0.4 * t - 1e-7 <= state <= 0.5 * t + 1e-7
        assert found.sample(X[0] / width, [t])[0] == pytest.approx(state / width)
    held = found.dual("gate 0.75").values
    assert held.shape == (1, 1)
    assert held[0, 0] > 0  # at its upper limit, 0.375, from which x = 1 is far


def test_costs_and_constraints_of_shared_points_are_those_of_each_point():
    """Of random points, against the expressions themselves, for members with data of their own."""
    generator = np.random.default_rng(0)
    d, members = ca.SX.sym("d"), 3
    interior = []
    for k in range(1, 6):
        a, b, c = generator.standard_normal(3)
        row = Constraint(
            f"row {k}", ca.vertcat(X[0] * a - d, X[1] + b), [-(c**2), b], [c**2, b + 1]
        )
        interior.append(InteriorPoint(0.5 * k, cost=c * (X[0] - b * d) ** 2, constraints=[row]))
    problem = OptimalControlProblem(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], U - d * X[0]),
        horizon=3.0,
        initial_state=generator.standard_normal((members, 2)),
        interior_points=interior,
        data=d,
        member_data=generator.standard_normal((members, 1)),
        maximize=True,
    )
    staged = discretize(problem, TimeGrid.uniform(6, 3.0), EULER)
    assert len({id(stage.function) for stage in staged.stages}) == 3
    path = rollout(staged, generator.standard_normal(6))
    for k, point in enumerate(interior, start=1):
        own = ca.Function("own", [X, d], [point.cost, point.constraints[0].expression])
        v = np.vstack([path.states[k].T, np.full((1, members), path.controls[k][0])])
        _, cost, rows, _ = staged.stages[k].function.values(v, staged.given(k))
        for i in range(members):
            expected = own(path.states[k][i], problem.member_data[i])
            assert cost[i] == pytest.approx(-float(expected[0]), rel=1e-12)
            np.testing.assert_allclose(rows[:, i], expected[1].full().ravel(), rtol=1e-12)
        np.testing.assert_array_equal(staged.stages[k].rows.lower, point.constraints[0].lower)


def test_two_hundred_measurements_are_built_in_a_share_of_the_time_of_as_many_functions():
    times = np.linspace(0, 4, 201)
    measured = dict(zip(times[1:-1], np.cos(times[1:-1]), strict=True))
    terms = [at(t, (X[0] - y) ** 2) for t, y in measured.items()]
    problem, grid = fit(terms), TimeGrid(times)
    begin = time.process_time()
    staged = discretize(problem, grid, GAUSS_LEGENDRE_4)
    shared = time.process_time() - begin
    assert len({id(stage.function) for stage in staged.stages}) == 3
    others = [at(t, ca.fabs(X[0] - y) ** (2 + y / 7)) for t, y in measured.items()]
    problem = fit(others)
    begin = time.process_time()
    staged = discretize(problem, grid, GAUSS_LEGENDRE_4)
    apart = time.process_time() - begin
    assert len({id(stage.function) for stage in staged.stages}) > 150
    assert shared < apart / 2
