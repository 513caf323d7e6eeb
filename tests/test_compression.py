"""The compressed Hessian of wide stages is the Hessian."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocp import Method, SolveOptions, Status, certify, rollout, solve_staged
from ocp.compression import compress, directions
from ocp.condensing import adjoint, linearize
from ocp.method import choose
from ocp.reduced_hessian import reduced_hessian
from problems.datasets import Dataset
from problems.learning import LearningProblem
from problems.moving_grid import MovingGrid
from problems.regularizers import H1
from problems.spatial_grid import gauss_legendre, trapezoid
from problems.training import random_controls
from problems.vector_fields import BOTTLENECK, OUTSIDE


def wide(samples=2, width=12, **choices):
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((samples, width))
    data = Dataset("wide", inputs, generator.standard_normal((samples, 1)))
    return LearningProblem(data, **({"layers": 3, "weight_decay": 0.05} | choices))


def at(problem, seed=0):
    """Linearisation, costates and multipliers at random decisions."""
    controls = random_controls(problem.staged, seed, 1.0)
    found = linearize(problem.staged, rollout(problem.staged, controls))
    rows = tuple(np.zeros_like(values.rows) for values in (*found.stages, *found.shared))
    return found, adjoint(found, rows), rows


MOVING = MovingGrid.through([gauss_legendre(12), trapezoid(9), gauss_legendre(14), trapezoid(7)])


@settings(derandomize=True, deadline=None, max_examples=8)
@given(
    st.integers(0, 1000),
    st.sampled_from([{}, {"trained_readout": True, "tracking": 0.5}, {"moving_grid": MOVING}]),
)
def test_products_solutions_and_eigenvalues_are_those_of_the_whole_hessian(seed, choices):
    point = at(wide(**choices), seed)
    compressed, whole = compress(*point), reduced_hessian(*point)
    assert compressed.size < len(whole) / 2
    vector = np.random.default_rng(seed).standard_normal(len(whole))
    scale = np.abs(whole).max()
    np.testing.assert_allclose(compressed.product(vector), whole @ vector, atol=1e-11 * scale)
    least = np.linalg.eigvalsh(whole)[0]
    assert compressed.smallest_eigenvalue() == pytest.approx(least, rel=1e-9, abs=1e-12 * scale)
    shift = max(0.0, -2 * least) + 0.1
    solved = compressed.factorize(shift)(vector)
    np.testing.assert_allclose(whole @ solved + shift * solved, vector, atol=1e-9)
    flat = compressed.least_curvature()
    assert np.linalg.norm(flat) == pytest.approx(1.0)
    assert flat @ whole @ flat == pytest.approx(least, rel=1e-6, abs=1e-9)
    assert (compressed.factorize(0.0) is None) == (least <= 0)


@pytest.mark.parametrize(
    "choices",
    [{"field": OUTSIDE}, {"field": BOTTLENECK}, {"penalty": H1}, {"width": 13, "samples": 9}],
    ids=["not affine", "bilinear", "controls coupled", "many samples"],
)
def test_problems_of_another_form_are_left_alone(choices):
    problem = wide(**choices)
    assert directions(problem.staged) is None
    assert compress(*at(problem)) is None


def test_a_wide_network_is_solved_through_the_compressed_hessian_with_the_same_optimum():
    problem = wide(width=24)
    assert choose(problem.staged).method is Method.CONDENSED
    start = rollout(problem.staged, random_controls(problem.staged, 0, 1.0))
    found = {
        method: solve_staged(problem.staged, start, SolveOptions(tolerance=1e-10, method=method))
        for method in (Method.CONDENSED, Method.MATRIX_FREE)
    }
    for solution in found.values():
        assert solution.status is Status.SOLVED
        assert solution.objective == pytest.approx(found[Method.MATRIX_FREE].objective, rel=1e-11)
    certificate = certify(problem.staged, found[Method.CONDENSED].trajectory)
    point = linearize(problem.staged, found[Method.CONDENSED].trajectory)
    rows = certificate.multipliers.rows
    whole = reduced_hessian(point, certificate.costates, rows)
    assert certificate.min_reduced_hessian_eigenvalue == pytest.approx(
        np.linalg.eigvalsh(whole)[0], rel=1e-8
    )
