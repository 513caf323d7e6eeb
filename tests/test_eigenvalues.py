"""The smallest eigenvalue of matrices that iterations stumble over, and the inertia of KKT ones."""

import numpy as np
import pytest

from ocp.eigenvalues import DENSE_LIMIT, smallest_eigenvalue
from ocp.full_space import _negative_eigenvalues
from ocp.trust_region import DENSE_EIGENVECTOR, lanczos

SIZES = (1, 2, DENSE_LIMIT, DENSE_LIMIT + 1, 2 * DENSE_LIMIT)


def half(low: float, high: float, size: int) -> np.ndarray:
    return np.diag(np.r_[np.full(size - size // 2, low), np.full(size // 2, high)])


@pytest.mark.parametrize("size", SIZES)
def test_the_smallest_eigenvalue_of_zero_is_zero(size):
    assert smallest_eigenvalue(np.zeros((size, size))) == 0.0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda n: np.eye(n), 1.0),
        (lambda n: -np.eye(n), -1.0),
        (lambda n: half(0.0, 1.0, n), 0.0),
        (lambda n: half(-1.0, 1.0, n), -1.0),
        (lambda n: half(-1e-3, 0.0, n), -1e-3),
        (lambda n: half(2.0, 1e8, n), 2.0),
    ],
    ids=["one", "minus one", "half 0", "half -1", "half -1e-3", "2 and 1e8"],
)
@pytest.mark.parametrize("unit", [1e-300, 1.0, 1e300])
def test_a_cluster_of_any_unit_has_the_eigenvalue_that_its_diagonal_says(
    size, make, expected, unit
):
    matrix = unit * (make(size) / max(1.0, np.abs(make(size)).max()))
    scale = unit / max(1.0, np.abs(make(size)).max())
    assert smallest_eigenvalue(matrix) == pytest.approx(
        scale * expected, rel=1e-6, abs=1e-14 * unit
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_matrix_of_rank_one_has_its_norm_or_zero(size):
    vector = np.ones((size, 1))
    expected = 0.0 if size > 1 else 1.0
    assert smallest_eigenvalue(vector @ vector.T) == pytest.approx(expected, abs=1e-9 * size)
    assert smallest_eigenvalue(-vector @ vector.T) == pytest.approx(-size, rel=1e-10)


@pytest.mark.parametrize("size", [1, DENSE_LIMIT, DENSE_LIMIT + 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_has_no_eigenvalue(size, value):
    matrix = np.eye(size)
    matrix[-1, -1] = value
    with pytest.raises(FloatingPointError, match="not finite"):
        smallest_eigenvalue(matrix)


def test_a_direction_of_least_curvature_exists_where_nothing_is_curved():
    size = DENSE_EIGENVECTOR + 1
    found = lanczos(lambda vector: np.zeros_like(vector), size)
    assert float(np.linalg.norm(found)) == pytest.approx(1.0)


@pytest.mark.parametrize("unit", [1e-5, 1.0, 1e5])
def test_the_inertia_is_the_number_of_negative_eigenvalues(unit):
    generator = np.random.default_rng(1)
    for _ in range(100):
        unknowns, rows = generator.integers(0, 12), generator.integers(0, 6)
        hessian = generator.standard_normal((unknowns, unknowns))
        hessian = (hessian + hessian.T) * generator.integers(0, 2, unknowns)[:, None]
        hessian = hessian + hessian.T
        jacobian = generator.standard_normal((rows, unknowns))
        matrix = np.block([[hessian, jacobian.T], [jacobian, np.zeros((rows, rows))]]) * unit
        values = np.linalg.eigvalsh(matrix) if matrix.size else np.zeros(0)
        expected = int((values < -1e-11 * np.abs(values).max(initial=0.0)).sum())
        assert _negative_eigenvalues(matrix.copy()) == expected
