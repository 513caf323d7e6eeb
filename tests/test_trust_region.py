"""Steps in a trust region and descents: the facts that they are minimisers of what they model."""

import numpy as np
import pytest

from ocp import rollout
from ocp.condensing import adjoint, linearize
from ocp.descent import QuasiNewton
from ocp.matrix_free import ProductCurvature
from ocp.reduced_hessian import reduced_hessian
from ocp.riccati import RiccatiCurvature
from ocp.trust_region import DenseCurvature, trust_region_step
from problems.datasets import encode, load
from problems.learning import LearningProblem
from problems.regularizers import H1
from problems.training import random_controls


def symmetric(eigenvalues, seed):
    """A matrix with these eigenvalues, and its eigenvectors."""
    generator = np.random.default_rng(seed)
    vectors = np.linalg.qr(generator.standard_normal((len(eigenvalues),) * 2))[0]
    return vectors @ np.diag(eigenvalues) @ vectors.T, vectors


def model(matrix, gradient, step):
    return gradient @ step + 0.5 * step @ matrix @ step


@pytest.mark.parametrize("radius", [1e-3, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("lowest", [-3.0, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_a_step_satisfies_the_conditions_of_the_global_minimum_in_the_ball(seed, lowest, radius):
    """(H + shift I) s = -g, H + shift I >= 0, and shift > 0 only near the boundary."""
    matrix, _ = symmetric([lowest, 1.0, 2.0, 5.0, 40.0], seed)
    gradient = np.random.default_rng(seed + 100).standard_normal(5)
    step = trust_region_step(DenseCurvature(matrix), gradient, radius)
    assert step is not None
    residual = (matrix + step.shift * np.eye(5)) @ step.step + gradient
    assert np.abs(residual).max() <= 1e-9 * np.abs(gradient).max()
    assert lowest + step.shift > 0
    length = np.linalg.norm(step.step)
    assert length <= 1.1 * radius * (1 + 1e-12)
    assert step.shift == 0.0 or length >= 0.9 * radius
    assert step.is_convex == (lowest > 0)
    assert step.reduction == pytest.approx(-model(matrix, gradient, step.step), rel=1e-9)


@pytest.mark.parametrize("size", [6, 700])  # all eigenvectors, or Lanczos
def test_in_the_hard_case_the_step_goes_to_the_boundary_along_the_least_curvature(size):
    """The gradient has no part in the direction of negative curvature, and a short step."""
    matrix, vectors = symmetric([-2.0, *np.linspace(1.0, 3.0, size - 1)], 0)
    gradient = 0.1 * vectors[:, 1]
    step = trust_region_step(DenseCurvature(matrix), gradient, 2.0)
    assert step is not None
    assert np.linalg.norm(step.step) == pytest.approx(2.0, rel=0.11)
    assert abs(vectors[:, 0] @ step.step) >= 0.99 * np.linalg.norm(step.step) * 0.99
    assert step.reduction >= 0.8 * 0.5 * 2.0 * 2.0**2


def test_at_a_saddle_the_step_follows_the_negative_curvature():
    matrix, vectors = symmetric([-1.0, 2.0, 3.0], 3)
    step = trust_region_step(DenseCurvature(matrix), np.zeros(3), 0.5)
    assert step is not None
    assert abs(vectors[:, 0] @ step.step) == pytest.approx(0.5, rel=0.11)
    assert trust_region_step(DenseCurvature(matrix), np.zeros(3), 0.5, convex_only=True) is None


def rosenbrock(x):
    a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    gradient = np.zeros_like(x)
    gradient[1:] += 200 * a
    gradient[:-1] += -400 * a * x[:-1] - 2 * b
    return float(100 * a @ a + b @ b), gradient


def test_the_descent_finds_the_minimum_of_a_curved_valley_with_falling_costs():
    quasi = QuasiNewton.start(rosenbrock, np.linspace(-1.5, 1.5, 10))
    costs = [quasi.cost]
    while np.abs(quasi.gradient).max() > 1e-9 and quasi.iterate():
        costs.append(quasi.cost)
    assert (np.diff(costs) <= 0).all()
    assert np.abs(quasi.gradient).max() <= 1e-9
    assert quasi.iterations < 300


def test_the_descent_goes_round_points_where_the_cost_is_not_finite():
    def barrier(x):
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.sum(x - np.log(x))), 1 - 1 / x

    quasi = QuasiNewton.start(barrier, np.array([20.0, 0.1]))
    while np.abs(quasi.gradient).max() > 1e-9 and quasi.iterate():
        pass
    assert quasi.point == pytest.approx([1.0, 1.0], abs=1e-8)


@pytest.mark.parametrize(
    "options", [{}, {"trained_readout": True, "tracking": 1.0}, {"width": 5}], ids=str
)
@pytest.mark.parametrize("seed", range(3))
def test_recursion_and_products_are_the_dense_hessian_in_other_words(seed, options):
    data = encode(load("moons", samples=5), "squared")
    staged = LearningProblem(data, layers=6, weight_decay=1e-2, **options).staged
    linearization = linearize(staged, rollout(staged, random_controls(staged, seed, 1.0)))
    blocks = (*linearization.stages, *linearization.shared)
    multipliers = tuple(np.zeros_like(values.rows) for values in blocks)
    costates = adjoint(linearization, multipliers)
    hessian = reduced_hessian(linearization, costates, multipliers)
    eigenvalues = np.linalg.eigvalsh(hessian)
    vector = np.random.default_rng(seed).standard_normal(len(hessian))
    close = {"rtol": 0.0, "atol": 1e-12 * np.abs(eigenvalues).max()}
    stages = RiccatiCurvature(linearization, costates, multipliers)
    np.testing.assert_allclose(stages.product(vector), hessian @ vector, **close)
    free = np.random.default_rng(seed + 1).uniform(size=len(hessian)) < 0.7
    products = ProductCurvature(linearization, costates, multipliers, free)
    expected = hessian[np.ix_(free, free)] @ vector[free]
    np.testing.assert_allclose(products.product(vector[free]), expected, **close)
    assert stages.bound >= 0.5 * np.abs(eigenvalues).max()
    for above in (1e-3, 1.0):
        shift = above - eigenvalues[0]
        solve = stages.factorize(shift)
        assert solve is not None
        residual = hessian @ solve(vector) + shift * solve(vector) - vector
        assert np.abs(residual).max() <= 1e-10 / above
    if eigenvalues[0] < 0:
        assert stages.factorize(-0.99 * eigenvalues[0]) is None


def test_products_take_terms_of_several_controls_too():
    data = encode(load("moons", samples=5), "squared")
    staged = LearningProblem(data, layers=5, weight_decay=1e-2, penalty=H1).staged
    linearization = linearize(staged, rollout(staged, random_controls(staged, 0, 1.0)))
    blocks = (*linearization.stages, *linearization.shared)
    multipliers = tuple(np.zeros_like(values.rows) for values in blocks)
    costates = adjoint(linearization, multipliers)
    hessian = reduced_hessian(linearization, costates, multipliers)
    everything = np.ones(len(hessian), dtype=bool)
    products = ProductCurvature(linearization, costates, multipliers, everything)
    vector = np.random.default_rng(0).standard_normal(len(hessian))
    np.testing.assert_allclose(products.product(vector), hessian @ vector, rtol=0, atol=1e-12)
