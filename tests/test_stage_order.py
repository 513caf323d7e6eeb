"""Facts about the stage order: it is the program of multiple shooting, rearranged."""

from dataclasses import replace

import numpy as np
import pytest
from ensembles import ensemble_problem, random_trajectory, varying_problem

from ocp import GAUSS_LEGENDRE_4, HEUN, StagedProblem, TimeGrid, discretize
from ocp.shooting import Shooting
from ocp.stage_order import StageOrder

GRID = TimeGrid.graded([0.4, 0.6, 0.5])


def separable(staged: StagedProblem) -> StagedProblem:
    """Without the terms that couple the controls of several stages."""
    return replace(staged, shared=tuple(t for t in staged.shared if len(t.stages) < 2))


PROBLEMS = {
    "ensemble": lambda: discretize(ensemble_problem(), GRID, HEUN, substeps=2),
    "collocation": lambda: discretize(ensemble_problem(), GRID, GAUSS_LEGENDRE_4),
    "varying sizes": varying_problem,
    "local unknowns": lambda: varying_problem(lifted=True),
}


@pytest.fixture(params=PROBLEMS)
def order(request) -> StageOrder:
    return StageOrder(Shooting(separable(PROBLEMS[request.param]())))


@pytest.fixture
def point(order: StageOrder) -> np.ndarray:
    return order.shooting.pack(random_trajectory(order.shooting.staged, 0))


def spreading(order: StageOrder) -> np.ndarray:
    """Matrix of the linear map from z to x."""
    return np.column_stack([order.spread(e) for e in np.eye(order.shooting.size)])


def test_every_unknown_has_one_place_and_parameters_one_in_every_stage(order):
    staged = order.shooting.staged
    copies = staged.parameter_size * staged.intervals
    assert order.size == order.shooting.size + copies
    assert np.unique(order.places).size == order.shooting.size
    z = np.arange(1.0, order.shooting.size + 1)
    np.testing.assert_array_equal(order.spread(z)[order.places], z)


def test_constraints_touch_one_stage_and_dynamics_the_next_one_by_an_identity(order, point):
    jacobian = order.program.jacobian(order.spread(point)).sparse().toarray()
    row = column = 0
    for k, (states, controls, rows) in enumerate(
        zip(order.state_sizes, order.control_sizes, order.row_sizes, strict=True)
    ):
        end = column + states + controls
        following = order.state_sizes[k + 1] if k < len(order.state_sizes) - 1 else 0
        block = jacobian[row : row + following + rows].copy()
        block[:, column:end] = 0.0
        np.testing.assert_array_equal(block[:following, end : end + following], np.eye(following))
        block[:following, end : end + following] = 0.0
        assert not block.any()
        row, column = row + following + rows, end
    assert (row, column) == jacobian.shape


def test_costs_constraints_and_derivatives_are_those_of_the_program(order, point):
    """With x = S z: f'(S z) = f(z), S^T grad f' = grad f, g' = A g, J' S = A J, S^T H' S = H."""
    ours, given, x = order.program, order.shooting.program, order.spread(point)
    spread = spreading(order)
    np.testing.assert_allclose(float(ours.objective(x)), float(given.objective(point)), rtol=1e-14)
    np.testing.assert_allclose(
        spread.T @ ours.gradient(x).full().ravel(), given.gradient(point).full().ravel(), atol=1e-13
    )
    multipliers = np.random.default_rng(0).standard_normal(ours.constraint_lower.size)
    back = order.gather_multipliers(multipliers)
    np.testing.assert_allclose(
        multipliers @ ours.constraints(x).full().ravel(),
        back @ given.constraints(point).full().ravel(),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        multipliers @ ours.jacobian(x).full() @ spread,
        back @ given.jacobian(point).full(),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        spread.T @ symmetric(ours.hessian(x, 0.7, multipliers)) @ spread,
        symmetric(given.hessian(point, 0.7, back)),
        atol=1e-12,
    )


def symmetric(upper) -> np.ndarray:
    values = upper.full()
    return values + np.triu(values, 1).T


def test_a_term_that_couples_neighbouring_stages_is_refused_by_name():
    staged = discretize(ensemble_problem(), GRID, HEUN)
    with pytest.raises(ValueError, match=r"'control rate'.*stages 0, 1.*NLPSolver\.IPOPT"):
        StageOrder(Shooting(staged))
