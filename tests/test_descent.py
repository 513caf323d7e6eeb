"""The quasi-Newton descent: its recursions are those of BFGS."""

import numpy as np
import pytest

from ocp.descent import MEMORY, Pairs, QuasiNewton

SIZE = 12


def pairs_of_a_quadratic(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((SIZE, SIZE))
    hessian = root @ root.T + np.eye(SIZE)
    steps = rng.standard_normal((count, SIZE))
    return [(step, hessian @ step) for step in steps]


def updated(inverse: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Nocedal and Wright (2006), equation 6.17, pair by pair."""
    for s, y in pairs:
        left = np.eye(SIZE) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    return inverse


@pytest.mark.parametrize("count", [1, 5, MEMORY, MEMORY + 7])
@pytest.mark.parametrize("has_metric", [False, True])
def test_products_are_those_of_the_bfgs_matrix_of_the_last_pairs(count, has_metric):
    kept, pairs = Pairs(SIZE), pairs_of_a_quadratic(count)
    for step, change in pairs:
        kept.add(step, change)
    diagonal = np.linspace(1.0, 2.0, SIZE)
    s, y = pairs[-1]
    start = np.diag(diagonal) if has_metric else np.eye(SIZE) * (s @ y) / (y @ y)
    vector = np.sin(np.arange(SIZE))
    product = kept.product(vector, (lambda v: diagonal * v) if has_metric else None)
    expected = updated(start, pairs[-MEMORY:]) @ vector
    np.testing.assert_allclose(product, expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())


def test_without_pairs_a_vector_is_multiplied_by_the_metric_alone():
    kept, vector = Pairs(3), np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(kept.product(vector, None), vector)
    np.testing.assert_array_equal(kept.product(vector, lambda v: 2.0 * v), 2.0 * vector)
    kept.add(vector, vector)
    kept.clear()
    np.testing.assert_array_equal(kept.product(vector, None), vector)


def test_in_the_metric_of_its_hessian_a_quadratic_takes_one_step():
    weights = np.array([1.0, 10.0, 1e4])

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.5 * float(weights @ x**2), weights * x

    descent = QuasiNewton.start(evaluate, np.ones(3))
    descent.metric = lambda v: v / weights
    assert descent.iterate()
    np.testing.assert_allclose(descent.point, 0.0, atol=1e-15)
    assert descent.evaluations == 2
