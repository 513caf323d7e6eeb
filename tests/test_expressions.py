"""Expressions over the horizon: their algebra, their values on a known path, their refusals."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import RK4, along_path, at, at_end, at_start, integral, pose, solve

X, U, P, T = (ca.SX.sym(name) for name in "xupt")
PAIR = ca.SX.sym("X", 2)
TOLERANCE = 1e-7  # of values that a solve to 1e-8 leaves


@pytest.fixture(scope="module")
def ramp():
    """x' = u, x(0) = 1/2, x(1) = 3/2, min Int u^2 + (p - 2)^2: x = 1/2 + t, u = 1, p = 2."""
    problem = pose(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        minimize=integral(U**2) + at_end((P - 2) ** 2),
        subject_to=[at_start(X) == 0.5, at_end(X) == 1.5],
        time=T,
    )
    solution = solve(problem, 4, RK4)
    assert solution.is_solved, solution.message
    return solution


VALUES = {
    "integral of the state": (lambda: integral(X), 1.0),
    "integral of a column": (lambda: integral(ca.vertcat(X, X**2, T)), [1.0, 13 / 12, 0.5]),
    "integral of a number": (lambda: integral(3), 3.0),
    "integral of a parameter": (lambda: integral(P * T), 1.0),
    "start": (lambda: at_start(X), 0.5),
    "time at the start": (lambda: at_start(T), 0.0),
    "end": (lambda: at_end(X * T), 1.5),
    "point in between": (lambda: at(0.3, X + T), 1.1),
    "parameter": (lambda: at_end(P), 2.0),
    "control at the end": (lambda: at_end(U), 1.0),
    "sum": (lambda: integral(X) + at_end(X) + 1, 3.5),
    "reflected sum": (lambda: 1 + at_end(X), 2.5),
    "difference": (lambda: at_end(X) - at_start(X), 1.0),
    "reflected difference": (lambda: 1 - at_end(X), -0.5),
    "product": (lambda: integral(X) * at_end(X) * 2, 3.0),
    "reflected product": (lambda: 2 * at_end(X), 3.0),
    "quotient": (lambda: integral(X) / at_start(X), 2.0),
    "reflected quotient": (lambda: 3 / at_end(X), 2.0),
    "power": (lambda: at_end(X) ** 2, 2.25),
    "negative": (lambda: -at_end(X), -1.5),
    "function": (lambda: at_end(X - 0.5).apply(ca.exp), math.e),
    "component": (lambda: integral(ca.vertcat(X, X**2))[1], 13 / 12),
    "NumPy array on the left": (lambda: np.array([1.0, 2.0]) * at_end(X), [1.5, 3.0]),
    "parameter on the left": (lambda: P * at_end(X), 3.0),
    "CasADi number on the left": (lambda: ca.DM(2) - at_end(X), 0.5),
}


@pytest.mark.parametrize(("make", "expected"), VALUES.values(), ids=list(VALUES))
def test_values_over_the_horizon_of_a_known_path(ramp, make, expected):
    np.testing.assert_allclose(ramp.value(make()), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_scalar_value_is_a_number_and_a_column_an_array(ramp):
    assert isinstance(ramp.value(at_end(X)), float)
    assert ramp.value(at_end(ca.vertcat(X, U))).shape == (2,)


@pytest.mark.parametrize("times", [None, [0.1], np.linspace(0, 1, 11)], ids=["nodes", "one", "any"])
def test_samples_of_a_known_path(ramp, times):
    t = ramp.times if times is None else np.asarray(times)
    x = 0.5 + t
    cases = [
        (X**2 + U * T, x**2 + t),
        (along_path(X**2) + along_path(U * T), x**2 + t),
        (along_path(X) * P - 1, 2 * x - 1),
        (along_path(X).apply(ca.log), np.log(x)),
        (ca.vertcat(X, U, P), np.column_stack([x, np.ones_like(t), 2 * np.ones_like(t)])),
    ]
    for expression, expected in cases:
        found = ramp.sample(expression, times)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_sample_on_the_nodes_is_the_state_there(ramp):
    np.testing.assert_array_equal(ramp.sample(X), ramp.state()[:, 0])


REFUSED_READINGS = {
    "a number as a function of time": (lambda s: s.sample(at_end(X)), "is a number.*value"),
    "a function of time as a number": (
        lambda s: s.value(along_path(X)),
        "function of time.*sample",
    ),
    "another problem's symbol": (lambda s: s.sample(ca.SX.sym("z")), "not the problem's"),
    "another problem's symbol at the end": (
        lambda s: s.value(at_end(ca.SX.sym("z"))),
        "not the problem's",
    ),
    "a time after the end": (lambda s: s.sample(X, [0.5, 1.2]), r"1\.2.*horizon, \[0, 1\]"),
    "a point after the end": (lambda s: s.value(at(2.0, X)), r"horizon, \[0, 1\]"),
}


@pytest.mark.parametrize(("read", "words"), REFUSED_READINGS.values(), ids=list(REFUSED_READINGS))
def test_a_wrong_reading_says_what_to_do(ramp, read, words):
    with pytest.raises(ValueError, match=words):
        read(ramp)


CONDITIONS = {
    "<=": (lambda: at_end(X) <= 1, -math.inf, 1),
    ">=": (lambda: at_end(X) >= 1, 1, math.inf),
    "==": (lambda: at_end(X) == 1, 1, 1),
    "number <=": (lambda: 1 <= at_end(X), 1, math.inf),  # noqa: SIM300
    "NumPy number >=": (lambda: np.float64(1) >= at_end(X), -math.inf, 1),
    "NumPy array ==": (lambda: np.array([1, 2]) == at_end(PAIR), [1, 2], [1, 2]),
    "within": (lambda: along_path(U).within(-1, 2), -1, 2),
    "within arrays": (lambda: along_path(PAIR).within([0, 1], [2, 3]), [0, 1], [2, 3]),
    "<= expression": (lambda: at_start(X) <= at_end(X), -math.inf, 0),
    "== parameter": (lambda: at_end(X) == P, 0, 0),
    "parameter <=": (lambda: P <= at_end(X), 0, math.inf),  # noqa: SIM300
}


@pytest.mark.parametrize(("make", "lower", "upper"), CONDITIONS.values(), ids=list(CONDITIONS))
def test_a_comparison_is_a_condition_with_its_bounds(make, lower, upper):
    condition = make()
    np.testing.assert_array_equal(condition.lower, lower)
    np.testing.assert_array_equal(condition.upper, upper)
    assert condition.weight == math.inf


def test_a_condition_is_called_as_it_is_written_unless_it_is_named():
    assert (at_end(X) == 1).name == "at_end(x)"
    assert (at(0.25, X) == 1).name == "at(0.25, x)"
    assert along_path(U).within(0, 1).named("thrust").name == "thrust"


LONG = ca.sin(X) * ca.cos(X) * ca.exp(X) * ca.tanh(X) * ca.sqrt(X)
NAMES = {
    "long": (lambda: at_end(LONG) == 1, "at_end of x"),
    "of several symbols": (lambda: along_path(LONG * U + P) <= 1, "along_path of x, u, p"),
    "of a vector": (lambda: at_end(LONG * ca.sumsqr(PAIR)) == 1, "at_end of x, X"),
    "with a part that occurs twice": (
        lambda: at_end((X + P) ** 3) == 1,
        "at_end(((x+p)*sq((x+p))))",
    ),
    "at a point": (lambda: at(0.25, LONG) == 1, "at(0.25) of x"),
    "at both ends": (lambda: at_end(LONG) - at_start(LONG) == 1, "at_end and at_start of x"),
    "of many symbols": (
        lambda: at_end(sum(ca.SX.sym(f"parameter{j}") for j in range(9))) == 1,
        "at_end of parameter0 and more",
    ),
}


@pytest.mark.parametrize(("make", "name"), NAMES.values(), ids=list(NAMES))
def test_a_condition_too_long_to_type_is_called_by_what_it_is_of(make, name):
    assert make().name == name


def test_a_soft_condition_keeps_its_name_and_carries_its_price():
    condition = (at_end(X) == 1).named("goal").soft(2.5)
    assert (condition.name, condition.weight) == ("goal", 2.5)


@pytest.mark.parametrize(
    "compare",
    [lambda: -1 <= along_path(U) <= 1, lambda: 0 == at_end(X) == at_start(X)],
    ids=["inequalities", "equations"],
)
def test_a_chained_comparison_is_refused(compare):
    with pytest.raises(TypeError, match=r"within\(lower, upper\).*chained"):
        compare()


@pytest.mark.parametrize(
    "combine",
    [
        lambda: along_path(X) - at_end(X),
        lambda: along_path(X) <= at_start(X),
        lambda: integral(X) * along_path(X),
        lambda: at(0.5, X) == along_path(X),
    ],
)
def test_a_function_of_time_does_not_mix_with_numbers_over_the_horizon(combine):
    with pytest.raises(ValueError, match=r"along_path cannot be combined.*parameter"):
        combine()


@pytest.mark.parametrize("combine", [lambda: integral(X) + P, lambda: integral(X) <= P])
def test_an_integral_asks_where_a_parameter_is_taken(combine):
    with pytest.raises(ValueError, match=r"integral.*write at_end\(p\)"):
        combine()


def test_only_functions_of_time_are_paths():
    assert along_path(X).is_path
    assert (along_path(X) * P).is_path
    assert not any(e.is_path for e in (integral(X), at_start(X), at_end(X), at(0.5, X)))
