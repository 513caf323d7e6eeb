"""The Riccati recursion agrees with the eigenvalues of the reduced Hessian."""

import numpy as np
import pytest

from ocp import rollout
from ocp.condensing import adjoint, linearize
from ocp.reduced_hessian import reduced_hessian
from ocp.riccati import is_positive_definite, is_separable
from problems.datasets import encode, load
from problems.learning import LearningProblem
from problems.regularizers import H1
from problems.training import random_controls, train


def both_tests(staged, trajectory, free):
    """Whether the Hessian on the free decisions is positive definite: by pivots, by eigenvalues."""
    linearization = linearize(staged, trajectory)
    blocks = (*linearization.stages, *linearization.shared)
    multipliers = tuple(np.zeros_like(values.rows) for values in blocks)
    costates = adjoint(linearization, multipliers)
    hessian = reduced_hessian(linearization, costates, multipliers)[np.ix_(free, free)]
    pivots = is_positive_definite(linearization, costates, multipliers, free)
    return pivots, bool(np.linalg.eigvalsh(hessian)[0] > 0)


def problem(**options):
    data = encode(load("moons", samples=6), "squared")
    return LearningProblem(data, layers=6, weight_decay=1e-2, **options)


@pytest.mark.parametrize("trained", [False, True])
def test_an_optimum_is_positive_definite_by_both_tests(trained):
    solution = train(problem(trained_readout=trained))
    staged = solution.problem.staged
    free = np.ones(staged.decision_size, dtype=bool)
    assert both_tests(staged, solution.trajectory, free) == (True, True)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_both_tests_agree_at_random_points_and_on_random_subsets(trained, scale):
    staged = problem(trained_readout=trained).staged
    verdicts = set()
    for seed in range(20):
        trajectory = rollout(staged, random_controls(staged, seed, scale))
        free = np.random.default_rng(seed).uniform(size=staged.decision_size) < 0.3 + 0.7 * (
            seed % 2
        )
        pivots, eigenvalues = both_tests(staged, trajectory, free)
        assert pivots == eigenvalues
        verdicts.add(pivots)
    assert False in verdicts


def test_a_penalty_that_couples_neighbouring_controls_is_not_separable():
    staged = problem(penalty=H1).staged
    trajectory = rollout(staged, random_controls(staged, 0, 1.0))
    assert not is_separable(linearize(staged, trajectory))
