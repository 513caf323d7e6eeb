"""Costs whose least value is known: zero to rounding, or an infimum that is not attained."""

from __future__ import annotations

import numpy as np
import pytest

from ocp import SolveOptions, Status, rollout
from problems.datasets import Dataset
from problems.learning import LearningProblem
from problems.least_cost import AT_ZERO, zero_cost
from problems.losses import CROSS_ENTROPY, DISTANCE, HINGE, L1, LOGISTIC, SQUARED
from problems.solution_file import differences, load_solution, save_solution
from problems.training import train
from problems.vector_fields import BOTTLENECK, RELU

INPUTS = np.array([[0.5, 1.0], [-1.0, 0.2], [0.1, -0.8]])
NUMBERS = np.array([[0.3], [-0.6], [0.1]])
SIGNS = np.array([[1.0], [-1.0], [1.0]])
SMALL = {"weight_decay": 1e-4}
LIMITED = SolveOptions(max_iterations=300)


def dataset(targets: np.ndarray, inputs: np.ndarray = INPUTS) -> Dataset:
    names = tuple(f"y{j}" for j in range(targets.shape[1]))
    return Dataset("few", inputs, targets, ((),) * len(names), ("a", "b"), names)


@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        (NUMBERS, {}),
        (1e3 * NUMBERS, {}),
        (1e-3 * NUMBERS, {}),
        (NUMBERS, {"field": BOTTLENECK, "hidden": 3}),
        (NUMBERS, {"trained_readout": True}),
        (NUMBERS, {"activation": RELU, "width": 4}),
        (NUMBERS, {"loss": DISTANCE}),
        (NUMBERS, {"loss": L1}),
        (np.hstack([NUMBERS, -NUMBERS[::-1]]), {"loss": SQUARED, "width": 4}),
        (SIGNS, {"loss": HINGE}),
    ],
)
def test_a_perfect_fit_without_decay_is_a_global_minimum(tmp_path, targets, settings) -> None:
    problem = LearningProblem(dataset(targets), layers=5, weight_decay=0.0, **settings)
    found = train(problem, options=LIMITED)
    assert found.status is Status.SOLVED, found.solution.message
    assert found.solution.objective <= 1e-7 * np.abs(targets).max()
    save_solution(tmp_path / "x.npz", found)
    assert not differences(load_solution(tmp_path / "x.npz"))


def test_the_message_of_a_perfect_fit_says_that_its_cost_is_zero() -> None:
    found = train(LearningProblem(dataset(NUMBERS), layers=5, weight_decay=0.0))
    assert found.solution.message == AT_ZERO
    assert 0 <= found.solution.objective <= zero_cost(found.problem) < 1e-20


def test_one_eps_in_the_weights_moves_outputs_by_more_than_what_is_left_of_the_residual() -> None:
    """So no neighbouring weights are known to fit any better: what is left is rounding."""
    problem = LearningProblem(dataset(1e3 * NUMBERS), layers=5, weight_decay=0.0)
    found = train(problem, options=LIMITED)
    ends = found.states[-1][:, :1]
    generator, eps = np.random.default_rng(0), np.finfo(float).eps
    moves = []
    for _ in range(20):
        signs = generator.choice([-1.0, 1.0], found.trajectory.decisions.size)
        moved = rollout(problem.staged, found.trajectory.decisions * (1 + eps * signs))
        moves.append(np.abs(moved.states[-1][:, :1] - ends).max())
    assert np.abs(ends - problem.dataset.targets).max() < max(moves)


def test_equal_inputs_with_unequal_targets_are_no_perfect_fit() -> None:
    """The least squared error is the variance of the targets, 1; its minimum is certified."""
    data = dataset(np.array([[1.0], [-1.0]]), np.ones((2, 2)))
    found = train(LearningProblem(data, layers=3, weight_decay=0.0), options=LIMITED)
    assert AT_ZERO not in found.solution.message
    assert found.solution.objective == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        (SIGNS, {"loss": LOGISTIC}),
        (SIGNS, {"loss": LOGISTIC, "field": BOTTLENECK, "hidden": 3}),
        (SIGNS, {"loss": LOGISTIC, "trained_readout": True}),
        (
            SIGNS,
            {"loss": LOGISTIC, "trained_readout": True, "readout_decay": 0.0, "weight_decay": 1e-4},
        ),
        (np.eye(3), {"loss": CROSS_ENTROPY, "width": 3}),
        (np.eye(3), {"loss": CROSS_ENTROPY, "width": 3, "trained_readout": True}),
    ],
)
def test_separable_data_without_decay_have_no_minimum(tmp_path, targets, settings) -> None:
    settings = {"weight_decay": 0.0, **settings}
    found = train(LearningProblem(dataset(targets), layers=5, **settings), options=LIMITED)
    assert found.status in (Status.INACCURATE, Status.ITERATION_LIMIT)
    assert "not attained on separable data" in found.solution.message
    assert "add a" in found.solution.message
    save_solution(tmp_path / "x.npz", found)
    assert not differences(load_solution(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("inputs", "targets", "decay"),
    [
        (INPUTS, SIGNS, 1e-2),  # a decay makes the infimum a minimum
        (np.ones((2, 2)), np.array([[1.0], [-1.0]]), 0.0),  # equal inputs in both classes
        (np.ones((3, 2)), SIGNS, 0.0),
    ],
)
def test_nothing_is_said_of_data_that_have_a_minimum(inputs, targets, decay) -> None:
    problem = LearningProblem(dataset(targets, inputs), loss=LOGISTIC, layers=3, weight_decay=decay)
    found = train(problem, options=LIMITED)
    assert "No minimum" not in found.solution.message
