"""Margins, accuracies and Lipschitz constants of solved networks."""

import numpy as np
import pytest

from ocp import rollout
from problems.datasets import encode, load
from problems.generalization import (
    generalization,
    lipschitz_bound,
    lipschitz_sampled,
    margins,
)
from problems.learning import LearningProblem
from problems.solution_file import SCHEMES
from problems.training import LearningSolution, assess, random_controls
from problems.vector_fields import FIELDS


def solution(seed: int = 0, scale: float = 1.0, **changes) -> LearningSolution:
    data = encode(load("moons", samples=12, seed=0), "squared")
    problem = LearningProblem(data, layers=4, **changes)
    point = rollout(problem.staged, random_controls(problem.staged, seed, scale))
    return LearningSolution(problem, assess(problem.staged, point, 0.0, 1e-8), 0.0, None)


def test_margins_are_positive_exactly_where_the_class_is_right():
    signs = margins(np.array([[2.0], [-1.0]]), np.array([[1.0], [1.0]]))
    assert signs.tolist() == [2.0, -1.0]
    outputs = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    one_hot = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert margins(outputs, one_hot).tolist() == [1.0, -1.0]


@pytest.mark.parametrize("substeps", [1, 3])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda s: s.name)
@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda f: f.name)
def test_the_sampled_lipschitz_constant_is_below_the_bound(field, scheme, substeps):
    found = solution(field=field, scheme=scheme, substeps=substeps)
    grid = np.random.default_rng(0).uniform(-2, 2, (50, 2))
    assert 0 < lipschitz_sampled(found, grid) <= lipschitz_bound(found)


def test_without_weights_both_lipschitz_constants_are_one():
    found = solution(scale=0.0)
    assert lipschitz_bound(found) == pytest.approx(1.0, abs=1e-14)
    assert lipschitz_sampled(found, found.problem.dataset.inputs) == pytest.approx(1.0, abs=1e-9)


def test_held_out_training_data_score_as_in_training():
    found = solution()
    measured = generalization(found, 2.0, found.problem.dataset)
    assert measured.held_out_error == pytest.approx(found.errors[-1], rel=1e-12)
    assert measured.held_out_accuracy == measured.training_accuracy
    assert measured.normalized_margin == measured.margin / 2.0


def test_a_regression_has_neither_margin_nor_accuracy():
    data = encode(load("sine", samples=5, seed=0), "squared")
    problem = LearningProblem(data, layers=2)
    point = rollout(problem.staged, np.zeros(problem.staged.decision_size))
    found = LearningSolution(problem, assess(problem.staged, point, 0.0, 1e-8), 0.0, None)
    measured = generalization(found, 0.0)
    assert measured.margin is measured.training_accuracy is measured.held_out_error is None
