"""Distances between networks do not count what leaves the cost as it is, and count all else."""

import numpy as np
import pytest

from ocp import rollout
from ocp.condensing import linearize
from problems.datasets import Dataset
from problems.learning import LearningProblem
from problems.regularizers import H1
from problems.symmetries import distance
from problems.vector_fields import BOTTLENECK, INSIDE, OUTSIDE, RELU, TANH


def problem_of(field, activation=TANH, **options):
    rng = np.random.default_rng(0)
    data = Dataset("points", rng.standard_normal((4, 1)), rng.standard_normal((4, 1)))
    hidden = 3 if field is BOTTLENECK else None
    return LearningProblem(
        data, field=field, activation=activation, width=4, hidden=hidden, layers=3, **options
    )


def parts_of(problem, decisions):
    size = decisions.size - problem.staged.parameter_size
    table = decisions[:size].reshape(problem.layers, -1)
    return problem.field.split_arrays(table, problem.state_size, problem.hidden_size), size


def moved(problem, decisions, matrix):
    """The network whose states are matrix @ x, for a signed permutation of the free coordinates."""
    parts, size = parts_of(problem, decisions)
    if problem.field is BOTTLENECK:
        parts = {
            "w1": parts["w1"] @ matrix.T,
            "b1": parts["b1"],
            "w2": matrix @ parts["w2"],
            "b2": parts["b2"] @ matrix.T,
        }
    else:
        parts = {"w": matrix @ parts["w"] @ matrix.T, "b": parts["b"] @ matrix.T}
    readout = decisions[size:]
    if readout.size:
        weight, bias = problem.readout(readout)
        readout = np.concatenate([(weight @ matrix.T).ravel(), bias])
    return np.concatenate([problem.decisions(parts, np.zeros((1, 4)), np.zeros(1))[:size], readout])


def cost(problem, decisions):
    return linearize(problem.staged, rollout(problem.staged, decisions)).objective


def signed_permutation(order, signs):
    return np.diag(np.array(signs, float)) @ np.eye(4)[list(order)]


@pytest.mark.parametrize("field", [INSIDE, OUTSIDE, BOTTLENECK])
@pytest.mark.parametrize("trained", [False, True])
def test_moved_coordinates_of_the_state_are_no_distance(field, trained):
    problem = problem_of(field, trained_readout=trained)
    decisions = np.random.default_rng(1).standard_normal(problem.staged.decision_size)
    other = moved(problem, decisions, signed_permutation([0, 3, 1, 2], [1, -1, 1, -1]))
    assert cost(problem, other) == pytest.approx(cost(problem, decisions), rel=1e-12)
    found = distance(problem, decisions, other)
    assert found.is_exact
    assert found.relative <= 1e-12
    assert found.plain > 0.1


def test_an_input_that_changes_its_sign_is_a_distance():
    problem = problem_of(INSIDE)
    decisions = np.random.default_rng(1).standard_normal(problem.staged.decision_size)
    other = moved(problem, decisions, signed_permutation([0, 1, 2, 3], [-1, 1, 1, 1]))
    assert abs(cost(problem, other) - cost(problem, decisions)) > 1e-3
    assert distance(problem, decisions, other).relative > 0.1


def test_a_sign_counts_where_the_activation_is_not_odd():
    problem = problem_of(INSIDE, RELU)
    decisions = np.random.default_rng(1).standard_normal(problem.staged.decision_size)
    flipped = moved(problem, decisions, signed_permutation([0, 1, 2, 3], [1, -1, 1, 1]))
    assert distance(problem, decisions, flipped).relative > 0.1
    permuted = moved(problem, decisions, signed_permutation([0, 2, 1, 3], [1, 1, 1, 1]))
    assert distance(problem, decisions, permuted).relative <= 1e-12


@pytest.mark.parametrize(("options", "is_free"), [({}, True), ({"penalty": H1}, False)])
def test_hidden_units_are_permuted_layer_by_layer_unless_their_changes_cost(options, is_free):
    problem = problem_of(BOTTLENECK, **options)
    decisions = np.random.default_rng(2).standard_normal(problem.staged.decision_size)
    parts, _ = parts_of(problem, decisions)
    parts = {name: part.copy() for name, part in parts.items()}
    parts["w1"][1] = parts["w1"][1][[2, 0, 1]] * [[1], [-1], [1]]
    parts["b1"][1] = parts["b1"][1][[2, 0, 1]] * [1, -1, 1]
    parts["w2"][1] = parts["w2"][1][:, [2, 0, 1]] * [1, -1, 1]
    other = problem.decisions(parts, np.zeros((1, 4)), np.zeros(1))
    same = cost(problem, other) == pytest.approx(cost(problem, decisions), rel=1e-12)
    assert same is is_free
    assert (distance(problem, decisions, other).relative <= 1e-12) is is_free


def test_the_distance_is_that_of_the_controls_where_nothing_is_free():
    rng = np.random.default_rng(0)
    data = Dataset("points", rng.standard_normal((4, 2)), rng.standard_normal((4, 1)))
    problem = LearningProblem(data, layers=5, horizon=2.0)
    a, b = rng.standard_normal((2, problem.staged.decision_size))
    found = distance(problem, a, b)
    assert found.value == pytest.approx(np.sqrt(np.sum((a - b) ** 2) * 2 / 5), rel=1e-12)
    assert found.relative == found.plain
    assert found.relative == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b), rel=1e-12)
