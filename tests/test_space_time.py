"""Space-time networks: functions as samples, integrals as read-outs, refinement of the grid."""

import numpy as np
import pytest

from ocp import SolveOptions, Status
from problems.moving_grid import moving_grid
from problems.space_time import (
    integrals,
    moments,
    readout_functions,
    resampled,
    space_time_problem,
)
from problems.spatial_grid import clenshaw_curtis, gauss_legendre, midpoint, square, trapezoid
from problems.training import train
from problems.vector_fields import BOTTLENECK

SAMPLES = [lambda x, f=f: np.sin(f * np.pi * x) + 0.3 * f for f in (0.3, 0.6, 1.0)]
TARGETS = [[1.0], [-1.0], [0.5]]


def on(grid, **choices):
    defaults = {"readout": [np.cos], "layers": 3, "weight_decay": 0.05}
    return space_time_problem(SAMPLES, TARGETS, grid, **(defaults | choices))


def test_integrals_are_those_of_the_product():
    grid = gauss_legendre(12)
    z = grid.sample(lambda x: x**2)
    assert integrals(grid, [np.exp]) @ z == pytest.approx([np.e - 2])


@pytest.mark.parametrize("grid", [gauss_legendre(8, (-2.0, 1.0)), square(gauss_legendre, 64)])
def test_moments_are_coefficients_in_an_orthonormal_basis(grid):
    read = moments(grid, 6)
    basis = read / grid.weights
    np.testing.assert_allclose(read @ basis.T, np.eye(6), atol=1e-12)


def test_moments_on_the_square_come_in_the_order_of_their_degree():
    grid = square(gauss_legendre, 16)
    basis = moments(grid, 3) / grid.weights
    x, y = grid.nodes.T
    np.testing.assert_allclose(basis[0], 1.0)
    np.testing.assert_allclose(basis[1], np.sqrt(3) * (2 * x - 1), atol=1e-13)
    np.testing.assert_allclose(basis[2], np.sqrt(3) * (2 * y - 1), atol=1e-13)


def refined(grids, **choices):
    """Optima on grids, each from the one before."""
    options = SolveOptions(tolerance=1e-11)
    found = [train(on(grids[0], **choices), options=options)]
    for grid in grids[1:]:
        problem, last = on(grid, **choices), found[-1]
        start = resampled(last.problem, last.trajectory, problem)
        found.append(train(problem, starts=0, guesses=[start], options=options))
    assert all(solution.status is Status.SOLVED for solution in found)
    return found


def test_two_spectral_rules_have_the_same_optimum_to_many_digits():
    # Geometric convergence: tanh(z) is analytic near the domain only.
    found = refined([*map(gauss_legendre, (4, 8, 12, 16, 20)), clenshaw_curtis(20)])
    values = np.array([solution.solution.objective for solution in found])
    errors = np.abs(values[:4] - values[4])
    assert (errors <= errors[0] / 4.0 ** np.arange(4)).all()
    assert values[5] == pytest.approx(values[4], rel=1e-7)


def test_a_trained_read_out_converges_as_a_function():
    found = refined([gauss_legendre(n) for n in (4, 8, 12, 16)], readout=None)
    read = np.array(
        [
            moments(s.problem.moving_grid.grid(0), 3)
            @ readout_functions(s.problem, s.trajectory.parameters)[0]
            for s in found
        ]
    )
    errors = np.abs(read[:3] - read[3]).max(axis=1)
    assert (errors <= errors[0] / 4.0 ** np.arange(3)).all()


def test_a_network_resampled_onto_its_own_grids_is_itself():
    problem = on(moving_grid([6, 4], 3, midpoint), readout=None, field=BOTTLENECK, hidden=2)
    found = train(problem)
    there = resampled(problem, found.trajectory, problem)
    np.testing.assert_allclose(there, found.trajectory.decisions, atol=1e-13)
    with pytest.raises(ValueError, match="as many layers"):
        resampled(problem, found.trajectory, on(midpoint(6), layers=2))


def test_functions_may_be_the_targets():
    grid = moving_grid([6, 4, 5], 2, trapezoid)
    problem = space_time_problem(SAMPLES, SAMPLES[::-1], grid, layers=2)
    assert problem.outputs == 5
    assert not problem.trained_readout
    found = train(problem)
    assert found.status is Status.SOLVED
    expected = grid.grid(2).sample(SAMPLES[0])
    assert np.array_equal(problem.dataset.targets[2], expected)


def test_images_are_functions_on_the_square():
    images = np.random.default_rng(0).uniform(size=(3, 4, 4))
    problem = space_time_problem(images, TARGETS, square(midpoint, 16), layers=2)
    assert problem.dataset.input_names[1] == "z(0.125, 0.375)"
    assert np.array_equal(problem.dataset.inputs[0], images[0].ravel())
    assert train(problem).status is Status.SOLVED


def test_samples_must_be_on_the_grid():
    with pytest.raises(ValueError, match="the samples are not on the grid"):
        space_time_problem(np.ones((3, 5)), TARGETS, midpoint(4))
