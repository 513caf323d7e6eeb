"""Activations and vector fields against formulas, and the constants that they claim."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from math import erf, pi
from typing import Any

import casadi as ca
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from problems.vector_fields import (
    ACTIVATIONS,
    BOTTLENECK,
    FIELDS,
    GELU,
    INSIDE,
    LEAK,
    LEAKY_RELU,
    OUTSIDE,
    RELU,
    SINE,
    TANH,
    Activation,
    VectorField,
    join_arrays,
)

Array = NDArray[Any]

FORMULAS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky-relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "softplus": lambda x: np.logaddexp(0, x),
    "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
    "gelu": lambda x: x * (1 + np.array([erf(value) for value in x / np.sqrt(2)])) / 2,
    "sin": np.sin,
}
EVERY_ACTIVATION = pytest.mark.parametrize(
    "activation", ACTIVATIONS.values(), ids=lambda activation: activation.name
)
EVERY_FIELD = pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
WIDTHS = (0.0, 1e-8, 1e-3, 0.1)


def derivatives(activation: Activation, points: Any, width: float = 0.0) -> tuple[Array, ...]:
    """s, s' and s'' at the points, by CasADi as the solver takes them."""
    x = ca.SX.sym("x")
    value = activation.function(x, width)
    slope = ca.gradient(value, x)
    function = ca.Function("s", [x], [value, slope, ca.gradient(slope, x)])
    points = np.atleast_1d(np.asarray(points, dtype=float))
    return tuple(output.full().ravel() for output in function.map(points.size)(points))


def test_names_are_keys() -> None:
    assert ACTIVATIONS.keys() == FORMULAS.keys()
    for table in (ACTIVATIONS, FIELDS):
        assert all(name == entry.name for name, entry in table.items())  # type: ignore[attr-defined]


@EVERY_ACTIVATION
def test_activation_matches_its_formula(activation: Activation) -> None:
    points = np.concatenate([np.linspace(-8, 8, 161), [-300, 300]])
    expected = FORMULAS[activation.name](points)
    # A sum of terms of size 1 may be small, as in 1 + tanh: hence the absolute part.
    values = derivatives(activation, points)[0]
    np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-15)


@EVERY_ACTIVATION
def test_lipschitz_constant_is_the_largest_slope(activation: Activation) -> None:
    points = np.linspace(-40, 40, 80_001)
    slopes = np.abs(derivatives(activation, points)[1])
    assert slopes.max() <= activation.lipschitz * (1 + 1e-14)
    # The nearest node is at most 5e-4 away from the largest slope, whose own slope vanishes.
    assert slopes.max() == pytest.approx(activation.lipschitz, rel=1e-6)
    generator = np.random.default_rng(0)
    x, y = generator.normal(0, 3, (2, 10_000))
    rise = np.abs(derivatives(activation, x)[0] - derivatives(activation, y)[0])
    assert (rise <= activation.lipschitz * np.abs(x - y) + 1e-15).all()


@EVERY_ACTIVATION
def test_values_fill_the_range_and_do_not_leave_it(activation: Activation) -> None:
    values = derivatives(activation, np.linspace(-300, 300, 600_001))[0]
    low, high = activation.range
    assert values.min() >= low
    assert values.max() <= high
    for bound, found in ((low, values.min()), (high, values.max())):
        # -0.17 stands for the minimum of GELU, -0.16997
        assert abs(found) >= 2.9 if np.isinf(bound) else abs(found - bound) < 5e-5


@EVERY_ACTIVATION
@settings(max_examples=50)
@given(x=st.floats(-10, 10, allow_subnormal=False), c=st.floats(0.01, 100))
def test_homogeneous_activations_scale(activation: Activation, x: float, c: float) -> None:
    if activation.is_homogeneous:
        scaled, value = (derivatives(activation, point)[0][0] for point in (c * x, x))
        assert scaled == pytest.approx(c * value, rel=1e-14, abs=0)


@EVERY_ACTIVATION
def test_other_activations_do_not_scale(activation: Activation) -> None:
    points = np.linspace(0.5, 3, 6)
    values, scaled = (derivatives(activation, c * points)[0] for c in (1, 2))
    assert np.allclose(scaled, 2 * values, rtol=1e-3) == activation.is_homogeneous


@EVERY_ACTIVATION
@pytest.mark.parametrize("width", WIDTHS)
def test_smoothing_is_above_by_half_its_width_at_most(activation: Activation, width: float) -> None:
    """Half of it at the kink itself, where leaky ReLU bends by 1 - LEAK; the rest do not move."""
    points = np.concatenate([np.linspace(-2, 2, 401), 10.0 ** np.arange(-12, 3)])
    points = np.concatenate([points, -points])
    error = derivatives(activation, points, width)[0] - derivatives(activation, points)[0]
    bend = {"relu": 1.0, "leaky-relu": 1 - LEAK}.get(activation.name, 0.0)
    # rounding of values up to 100
    assert (error >= -2e-14).all()
    assert (error <= bend * width / 2 + 2e-14).all()
    at_kink = derivatives(activation, 0.0, width)[0] - derivatives(activation, 0.0)[0]
    assert at_kink[0] == pytest.approx(bend * width / 2, rel=1e-12)


@EVERY_ACTIVATION
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("distance", [1.0, 300.0, 800.0, 1e4])
def test_derivatives_are_finite_at_the_kink_and_far_away(
    activation: Activation, width: float, distance: float
) -> None:
    """The exponential of 710 is no number any more."""
    for values in derivatives(activation, [-distance, 0.0, distance], width):
        assert np.isfinite(values).all()


@EVERY_ACTIVATION
@pytest.mark.parametrize("width", [0.0, 0.1])
def test_derivatives_are_limits_of_differences(activation: Activation, width: float) -> None:
    """Central differences of step 1e-5: truncation 1e-10 times derivatives up to 1e4, rounding."""
    points, step = np.linspace(-3.95, 3.95, 80), 1e-5
    ahead, behind = (derivatives(activation, points + sign * step, width) for sign in (1, -1))
    _, slope, curvature = derivatives(activation, points, width)
    np.testing.assert_allclose((ahead[0] - behind[0]) / (2 * step), slope, atol=1e-6)
    np.testing.assert_allclose((ahead[1] - behind[1]) / (2 * step), curvature, atol=1e-4)


def rate(field: VectorField, activation: Activation, x: Array, u: dict[str, Array]) -> Array:
    """f(x, u) by CasADi."""
    symbols = {name: ca.SX.sym(name, *array.shape) for name, array in u.items()}
    state = ca.SX.sym("x", x.size)
    velocity = field.rate(state, symbols, lambda z: activation.function(z, 0.0))
    return ca.Function("f", [state, *symbols.values()], [velocity])(x, *u.values()).full().ravel()


def random_layer(field: VectorField, width: int, hidden: int, seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    shapes = field.shapes(width, hidden)
    return {name: generator.standard_normal(shape) for name, shape in shapes.items()}


SIZES = {"width": st.integers(1, 4), "hidden": st.integers(1, 4), "seed": st.integers(0, 2**16)}


@EVERY_FIELD
@EVERY_ACTIVATION
def test_field_matches_its_formula(field: VectorField, activation: Activation) -> None:
    u, x = random_layer(field, 3, 2, 0), np.array([0.3, -1.2, 0.7])
    s = FORMULAS[activation.name]
    expected = {
        "inside": lambda w, b: w @ s(x) + b,
        "outside": lambda w, b: s(w @ x + b),
        "bottleneck": lambda w1, b1, w2, b2: w2 @ s(w1 @ x + b1) + b2,
    }[field.name](**u)
    np.testing.assert_allclose(rate(field, activation, x, u), expected, rtol=1e-13, atol=1e-14)


@EVERY_FIELD
@EVERY_ACTIVATION
def test_field_is_homogeneous_where_the_theory_says_so(
    field: VectorField, activation: Activation
) -> None:
    """f(x, c u) = c f(x, u): inside always, outside with a homogeneous activation, no other."""
    expected = field.is_linear_in_control or (field is OUTSIDE and activation.is_homogeneous)
    assert field.is_linear_in_control == (field is INSIDE)
    generator = np.random.default_rng(1)
    holds = []
    for seed, c in enumerate(generator.uniform(0.1, 5, 5)):
        u, x = random_layer(field, 3, 2, seed), generator.standard_normal(3)
        scaled = rate(field, activation, x, {name: c * part for name, part in u.items()})
        target = c * rate(field, activation, x, u)
        holds.append(np.allclose(scaled, target, rtol=1e-13, atol=1e-14))
    # Where all ReLUs are off, any field is homogeneous by chance.
    assert all(holds) == expected


@pytest.mark.parametrize("activation", [RELU, LEAKY_RELU], ids=lambda a: a.name)
def test_bottleneck_without_biases_is_homogeneous_of_degree_two(activation: Activation) -> None:
    u = random_layer(BOTTLENECK, 3, 2, 0)
    u = {name: part if name.startswith("w") else 0 * part for name, part in u.items()}
    x = np.array([0.3, -1.2, 0.7])
    scaled = rate(BOTTLENECK, activation, x, {name: 3 * part for name, part in u.items()})
    np.testing.assert_allclose(scaled, 9 * rate(BOTTLENECK, activation, x, u), rtol=1e-13)


@EVERY_FIELD
@given(**SIZES)
@settings(max_examples=20)
def test_controls_are_split_row_by_row_and_joined_again(
    field: VectorField, width: int, hidden: int, seed: int
) -> None:
    size = field.size(width, hidden)
    assert (
        size
        == {
            "inside": width**2 + width,
            "outside": width**2 + width,
            "bottleneck": 2 * width * hidden + hidden + width,
        }[field.name]
    )
    controls = np.random.default_rng(seed).standard_normal((2, size))
    parts = field.split_arrays(controls, width, hidden)
    assert np.array_equal(join_arrays(parts), controls)
    shapes = field.shapes(width, hidden)
    assert [part.shape for part in parts.values()] == [(2, *shape) for shape in shapes.values()]
    matrix = parts["w1" if field is BOTTLENECK else "w"]
    assert np.array_equal(matrix[1].ravel(), controls[1, : matrix[1].size])
    u = ca.SX.sym("u", size)
    symbols = field.split_symbols(u, width, hidden)
    values = ca.Function("split", [u], [*symbols.values()])(controls[1])
    for (name, part), value in zip(parts.items(), values, strict=True):
        assert np.array_equal(value.full().reshape(part[1].shape), part[1]), name


@EVERY_FIELD
@EVERY_ACTIVATION
@given(**SIZES)
@settings(max_examples=10)
def test_lipschitz_constant_is_never_exceeded(
    field: VectorField, activation: Activation, width: int, hidden: int, seed: int
) -> None:
    u = random_layer(field, width, hidden, seed)
    constant = field.lipschitz(u, activation.lipschitz)
    x, y = np.random.default_rng(seed).normal(0, 2, (2, width))
    for distance in (1.0, 1e-3):
        near = x + distance * (y - x)
        rise = np.linalg.norm(rate(field, activation, near, u) - rate(field, activation, x, u))
        # a difference of values of size 100 keeps an error of 1e-14
        assert rise <= constant * np.linalg.norm(near - x) * (1 + 1e-12) + 1e-13


@pytest.mark.parametrize("activation", [TANH, SINE], ids=lambda a: a.name)
@pytest.mark.parametrize("field", [INSIDE, OUTSIDE], ids=lambda f: f.name)
def test_lipschitz_constant_is_attained_along_the_first_singular_vector(
    field: VectorField, activation: Activation
) -> None:
    u = random_layer(field, 3, 1, 0)
    u["b"] = np.zeros(3)
    step = 1e-6 * np.linalg.svd(u["w"])[2][0]
    rise = np.linalg.norm(rate(field, activation, step, u)) / 1e-6
    assert rise == pytest.approx(field.lipschitz(u, activation.lipschitz), rel=1e-9)


def test_largest_slope_of_gelu_is_at_the_root_of_two() -> None:
    """(x Phi(x))'' = (2 - x^2) phi(x) vanishes there."""
    _, slope, curvature = derivatives(GELU, np.sqrt(2))
    assert slope[0] == pytest.approx(GELU.lipschitz, rel=1e-14)
    assert curvature[0] == pytest.approx(0, abs=1e-15)
    density = np.exp(-0.5) / np.sqrt(2 * pi)
    assert derivatives(GELU, 1.0)[2][0] == pytest.approx(density, rel=1e-13)


@pytest.mark.parametrize("named", [*FIELDS.values(), *ACTIVATIONS.values()], ids=lambda x: x.name)
def test_a_copy_of_a_named_field_or_activation_is_the_very_same(named):
    assert pickle.loads(pickle.dumps(named)) is named
    assert copy.deepcopy(named) is named


def cubed(x, delta):
    return x**3


def test_an_activation_of_ones_own_is_copied_by_its_parts():
    own = Activation("cube", cubed, 3.0, is_smooth=False)
    assert pickle.loads(pickle.dumps(own)) == own
    assert copy.deepcopy(replace(TANH, name="mine")).name == "mine"
