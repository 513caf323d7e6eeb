"""Quadrature rules and interpolation between grids, by what they integrate and reproduce."""

import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocp.analysis import fit_power
from problems.moving_grid import MovingGrid, moving_grid, spread
from problems.spatial_grid import (
    RULES,
    SpatialGrid,
    clenshaw_curtis,
    gauss_legendre,
    grid_on,
    index_grid,
    midpoint,
    sampled,
    square,
    tensor_product,
    trapezoid,
)
from problems.transfer import LINEAR, NEAREST, PROJECTION, TRANSFERS

EXACT_DEGREES = {  # of polynomials that n nodes integrate exactly
    "trapezoid": lambda n: 1,
    "midpoint": lambda n: 1,
    "gauss-legendre": lambda n: 2 * n - 1,
    "clenshaw-curtis": lambda n: n - 1,
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("size", [2, 3, 6, 9])
def test_a_rule_integrates_polynomials_of_its_degree_exactly(name, size):
    grid = RULES[name](size, (-1.0, 2.0))
    for degree in range(EXACT_DEGREES[name](size) + 1):
        exact = (2.0 ** (degree + 1) - (-1.0) ** (degree + 1)) / (degree + 1)
        assert grid.integral(grid.nodes[:, 0] ** degree) == pytest.approx(
            exact, rel=1e-12, abs=1e-12
        )


@pytest.mark.parametrize("rule", [trapezoid, midpoint])
def test_the_equidistant_rules_are_of_second_order(rule):
    sizes = np.array([16, 32, 64])
    steps = 1 / (sizes - (rule is trapezoid))
    errors = [abs(rule(n).integral(np.exp(rule(n).nodes[:, 0])) - (np.e - 1)) for n in sizes]
    assert fit_power(steps, errors).slope == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("rule", [gauss_legendre, clenshaw_curtis])
def test_the_spectral_rules_reach_rounding_on_a_smooth_function(rule):
    grid = rule(16)
    assert grid.integral(np.exp(grid.nodes[:, 0])) == pytest.approx(np.e - 1, abs=1e-14)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8))
def test_the_cells_of_any_nodes_fill_the_domain(gaps):
    nodes = np.cumsum(gaps) / (sum(gaps) + 0.5)
    assert grid_on(nodes).integral(np.ones(len(gaps))) == pytest.approx(1.0)


def test_nodes_with_both_ends_have_the_weights_of_the_trapezoid_rule():
    nodes = np.array([0.0, 0.1, 0.4, 1.0])
    values = np.array([3.0, -1.0, 2.0, 5.0])
    assert grid_on(nodes).integral(values) == pytest.approx(np.trapezoid(values, nodes))


def test_a_product_integrates_products_and_counts_as_an_image_does():
    grid = tensor_product(gauss_legendre(3), gauss_legendre(4, (0.0, 2.0)))
    assert grid.integral(grid.sample(lambda x, y: x**2 * y**3)) == pytest.approx(4.0 / 3.0)
    image = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(sampled([image], grid)[0], image.ravel())
    assert grid.nodes[1].tolist() == [grid.nodes[0, 0], grid.nodes[1, 1]]


def test_functions_and_their_values_are_the_same_samples():
    grid = clenshaw_curtis(5)
    values = sampled([np.sin, lambda x: 2.0], grid)
    assert np.array_equal(values, sampled(values, grid))
    assert np.array_equal(values[1], np.full(5, 2.0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: grid_on([0.2, 1.2]), "node 2 of the grid, 1.2, leaves the domain [0, 1]"),
        (lambda: grid_on([0.2, 0.2, 0.7]), "has the node 0.2 twice"),
        (lambda: grid_on([0.5, 0.2]), "must increase"),
        (lambda: grid_on([0.5, np.nan]), "not finite"),
        (lambda: SpatialGrid(np.array([0.1, 0.2]), np.ones(3)), "(3,), expected (2,)"),
        (lambda: SpatialGrid(np.array([0.1, 0.2]), np.array([1.0, 0.0])), "must be positive"),
        (lambda: midpoint(0), "at least one node, got 0"),
        (lambda: midpoint(3, (1.0, 1.0)), "is empty"),
        (lambda: square(midpoint, 8), "square number of nodes, got 8; take 9 or 16"),
        (lambda: sampled(np.ones((2, 5)), midpoint(4)), "not on the grid"),
        (lambda: sampled(np.ones((2, 4, 3)), square(midpoint, 16)), "(samples, 4, 4)"),
        (lambda: sampled([lambda x: x[:2]], midpoint(4)), "returned shape (2,), expected (4,)"),
        (lambda: tensor_product(index_grid(2), midpoint(2)), "two grids on intervals"),
    ],
)
def test_a_wrong_grid_is_refused_in_words(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


def test_clenshaw_curtis_rounds_no_node_out_of_its_domain():
    for size in range(1, 40):
        grid = clenshaw_curtis(size, (0.1, 0.7))
        assert 0.1 <= grid.nodes.min() <= grid.nodes.max() <= 0.7


# Interpolation between grids


GRIDS = [
    trapezoid(5),
    trapezoid(9),
    midpoint(6),
    gauss_legendre(7),
    clenshaw_curtis(4),
    grid_on([0.05, 0.1, 0.35, 0.6, 0.9]),
]
PAIRS = [(a, b) for a in GRIDS for b in GRIDS]


@pytest.mark.parametrize("transfer", TRANSFERS.values(), ids=str)
def test_every_transfer_keeps_constants_and_does_nothing_on_one_grid(transfer):
    for a, b in PAIRS:
        assert transfer(a, b) @ np.ones(a.size) == pytest.approx(np.ones(b.size))
    for a in GRIDS:
        assert np.array_equal(transfer(a, a), np.eye(a.size))


@pytest.mark.parametrize("transfer", [LINEAR, PROJECTION], ids=str)
def test_linear_and_projection_keep_affine_functions(transfer):
    for a, b in PAIRS:
        there = transfer(a, b) @ (2 - 3 * a.nodes[:, 0])
        assert there == pytest.approx(2 - 3 * b.nodes[:, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("transfer", "order"), [(LINEAR, 2.0), (PROJECTION, 2.0), (NEAREST, 1.0)], ids=str
)
def test_the_error_of_a_transfer_falls_at_its_order(transfer, order):
    # Refined from n to 3 n / 2 nodes, so that grids are not nested; the largest error on the domain
    sizes = np.array([32, 64, 128, 256])
    errors = []
    for n in sizes:
        a, b = gauss_legendre(n), trapezoid(3 * n // 2)
        difference = transfer(a, b) @ a.sample(lambda x: np.sin(5 * x))
        difference = difference - b.sample(lambda x: np.sin(5 * x))
        errors.append(np.sqrt(b.integral(difference**2)))
    assert fit_power(1 / sizes, errors).slope == pytest.approx(order, abs=0.15)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12))
def test_the_projection_conserves_integrals_and_never_adds_to_the_norm(seed, n, m):
    generator = np.random.default_rng(seed)
    a, b = (
        grid_on([0.0, *np.sort(generator.uniform(0.01, 0.99, k)), 1.0]) for k in (n, m)
    )  # with both ends, the weights integrate piecewise linear functions exactly
    z = generator.standard_normal(a.size)
    there = PROJECTION(a, b) @ z
    assert b.integral(there) == pytest.approx(a.integral(z), abs=1e-8)

    def norm(grid, values):
        """Of the piecewise linear function, exactly, by Simpson's rule on each piece."""
        left, right = values[:-1], values[1:]
        squares = (left**2 + left * right + right**2) / 3
        return np.sqrt(np.diff(grid.nodes[:, 0]) @ squares)

    assert norm(b, there) <= norm(a, z) * (1 + 1e-10)


def adjoint(transfer, a, b):
    """Of values on b, to a: in the inner products of the weights."""
    return transfer(a, b).T @ np.diag(b.weights) / a.weights[:, None]


def test_the_adjoint_of_the_projection_is_as_accurate_as_itself_inside_and_others_are_not():
    errors = {transfer: [] for transfer in (PROJECTION, LINEAR, NEAREST)}
    # At the ends it is of first order, which fades within a few cells; they are left out.
    sizes = np.array([32, 64, 128, 256])
    for n in sizes:
        a, b = trapezoid(n + 1), trapezoid(3 * n // 4 + 1)
        wanted, given_ = (grid.sample(lambda x: np.sin(5 * x)) for grid in (a, b))
        for transfer, found in errors.items():
            difference = (adjoint(transfer, a, b) @ given_ - wanted)[n // 4 : -n // 4]
            found.append(np.abs(difference).max())
    assert fit_power(1 / sizes, errors[PROJECTION]).slope == pytest.approx(2.0, abs=0.15)
    for transfer in (LINEAR, NEAREST):
        assert errors[transfer][-1] > 0.5 * errors[transfer][0]


def test_linear_interpolation_conserves_integrals_on_a_grid_that_contains_the_old_one():
    a, b = trapezoid(5), trapezoid(17)
    z = np.random.default_rng(0).standard_normal(5)
    assert b.integral(LINEAR(a, b) @ z) == pytest.approx(a.integral(z))
    assert LINEAR(b, a) @ LINEAR(a, b) == pytest.approx(np.eye(5))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_nearest_keeps_the_range_of_the_values(seed):
    generator = np.random.default_rng(seed)
    a, b = midpoint(generator.integers(1, 9)), gauss_legendre(generator.integers(1, 9))
    z = generator.standard_normal(a.size)
    there = NEAREST(a, b) @ z
    assert set(there) <= set(z)


def test_index_like_features_keep_their_number_and_new_ones_are_zero():
    narrow = NEAREST(index_grid(4), index_grid(2))
    wide = NEAREST(index_grid(2), index_grid(4))
    z = np.array([1.0, 2.0, 3.0, 4.0])
    assert (narrow @ z).tolist() == [1.0, 2.0]
    assert (wide @ narrow @ z).tolist() == [1.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("transfer", TRANSFERS.values(), ids=str)
def test_on_products_of_grids_functions_of_both_coordinates_are_transferred(transfer):
    a, b = square(gauss_legendre, 16), square(partial(trapezoid), 9)
    first, second = transfer(a.factors[0], b.factors[0]), transfer(a.factors[1], b.factors[1])
    f, g = np.random.default_rng(1).standard_normal((2, 4))
    there = transfer(a, b) @ np.outer(f, g).ravel()
    assert there == pytest.approx(np.outer(first @ f, second @ g).ravel())


def test_scattered_nodes_have_nearest_neighbours_only():
    points = np.array([[0.1, 0.2], [0.8, 0.9], [0.4, 0.1]])
    scattered = SpatialGrid(points, np.full(3, 1 / 3), ((0.0, 1.0), (0.0, 1.0)))
    assert (NEAREST(square(midpoint, 4), scattered) @ np.arange(4.0)).tolist() == [0.0, 3.0, 0.0]
    with pytest.raises(ValueError, match="scattered nodes have no linear interpolation"):
        LINEAR(square(midpoint, 4), scattered)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LINEAR(midpoint(3), midpoint(3, (0.0, 2.0))), "different domains"),
        (lambda: LINEAR(index_grid(3), index_grid(2)), "use nearest"),
        (lambda: MovingGrid((midpoint(3), midpoint(2)), (np.eye(3),)), "expected finite numbers"),
        (lambda: MovingGrid((midpoint(3), midpoint(2))), "2 grids need 1 matrices"),
        (lambda: MovingGrid(()), "at least one grid"),
        (lambda: spread([3, 2, 1], 1), "3 widths for 1 layers, expected at most 2"),
        (lambda: spread([], 1), "0 widths"),
        (lambda: spread([3, 0], 1), "at least 1, got 0"),
        (lambda: moving_grid([3, 2], 1).widths(2), "2 grids for 2 layers, expected 3"),
    ],
)
def test_grids_that_do_not_fit_are_refused_in_words(make, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


def test_a_list_of_widths_is_spread_evenly_along_depth():
    assert spread([8, 4, 2], 2) == (8, 4, 2)
    assert spread([8, 4, 2], 8) == (8, 8, 8, 4, 4, 4, 2, 2, 2)
    assert spread([8], 3) == (8, 8, 8, 8)
    assert spread([64, 32, 16, 8], 5) == (64, 64, 32, 16, 16, 8)


def test_one_width_is_a_grid_that_stays():
    assert moving_grid([4, 4], 3, midpoint).is_still
    assert not moving_grid([4, 3], 3, midpoint).is_still
    # One width on two kinds of nodes is a grid that moves.
    assert not MovingGrid.through([midpoint(4), trapezoid(4)]).is_still
