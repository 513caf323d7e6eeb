"""NumPy's evaluation of CasADi functions agrees with CasADi's own, operation by operation."""

import casadi as ca
import numpy as np
import pytest

from ocp.vectorize import BLOCK, Vectorized

X, Y = ca.SX.sym("x"), ca.SX.sym("y")
UNARY = {
    name: getattr(ca, name)
    for name in (
        *("exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "floor", "ceil"),
        *("fabs", "sign", "erf", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
        *("log1p", "expm1"),
    )
}
BINARY = {
    "add": X + Y,
    "subtract": X - Y,
    "multiply": X * Y,
    "divide": X / Y,
    "power": X**Y,
    "constant power": X**2.5,
    "square and twice": X**2 + 2 * Y,
    "less": X < Y,
    "less or equal": X <= Y,
    "equal": X == Y,
    "not equal": X != Y,
    "and, or, not": ca.logic_or(ca.logic_and(X, Y), ca.logic_not(X)),
    "fmod": ca.fmod(X, Y),
    "copysign": ca.copysign(X, Y),
    "if else": ca.if_else(X > Y, X, ca.log(Y)),
    "fmin, fmax": ca.fmin(X, Y) + 3 * ca.fmax(X, Y),
    "atan2": ca.atan2(X, Y),
    "hypot": ca.hypot(X, Y),
    "constant": ca.SX(2.5),
}


def compare(expression, columns):
    function = ca.Function("f", [X, Y], [expression])
    points = np.random.default_rng(0).uniform(-2, 2, (2, columns))
    points[:, :3] = [[0.0, 1.0, 1.0], [0.0, 1.0, -1.0]]
    x, y = points[:1], points[1:]
    expected = function.map(columns)(x, y).full()
    evaluate = Vectorized(function)
    rows = [np.zeros((1, columns))]
    with np.errstate(all="ignore"):
        evaluate._pass(evaluate._program, slice(0, columns), (x, y), rows)
    ways = (evaluate(x, y), evaluate._grouped(columns, (x, y)), rows)
    for found in ways:
        np.testing.assert_allclose(found[0], expected, rtol=1e-14, atol=1e-15, equal_nan=True)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number_agree_with_casadi_where_defined_and_where_not(name):
    compare(UNARY[name](X), 1000)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_numbers_agree_with_casadi(name):
    compare(BINARY[name], 1000)


@pytest.mark.parametrize("columns", [1, 2, 50, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_an_input_of_one_column_is_shared_by_all_columns(columns):
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 3)
    function = ca.Function("f", [x, u], [ca.vertcat(ca.tanh(x[0]) * u[0], x[1] + u[1]), u[2] * 2])
    generator = np.random.default_rng(1)
    points, control = generator.standard_normal((2, columns)), generator.standard_normal((3, 1))
    first, second = Vectorized(function)(points, control)
    np.testing.assert_allclose(first[0], np.tanh(points[0]) * control[0], rtol=1e-14)
    np.testing.assert_allclose(first[1], points[1] + control[1], rtol=1e-14)
    assert second.shape == (1, columns)
    assert (second == 2 * control[2]).all()


def test_an_operation_that_numpy_does_not_have_is_left_to_casadi():
    function = ca.Function("f", [X, Y], [ca.remainder(X, Y)])
    points = np.random.default_rng(0).uniform(-2, 2, (2, 500))
    found = Vectorized(function)(points[:1], points[1:])[0]
    np.testing.assert_array_equal(found, function.map(500)(points[:1], points[1:]).full())
