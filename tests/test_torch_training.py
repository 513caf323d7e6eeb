"""Training by PyTorch's optimisers: the same cost, every step by the book, and honest endings."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ocp import rollout
from ocp.condensing import linearize
from problems.datasets import encode, load
from problems.learning import LearningProblem
from problems.losses import HINGE
from problems.regularizers import L1_PENALTY
from problems.training import train

torch = pytest.importorskip("torch")

from problems.torch_costs import cost_of, tensors  # noqa: E402
from problems.torch_optimizers import (  # noqa: E402
    ADAM,
    ADAMW,
    GRADIENT_DESCENT,
    LBFGS,
    MOMENTUM,
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    Method,
    Optimizer,
)
from problems.torch_training import (  # noqa: E402
    Outcome,
    initial_network,
    run,
    training,
)


@pytest.fixture(scope="module")
def problem():
    data = encode(load("moons", samples=8, seed=0), "squared")
    return LearningProblem(data, layers=4, weight_decay=1e-2)


@pytest.fixture(scope="module")
def optimum(problem):
    return train(problem, starts=2).solution.objective


def gradient(problem, network):
    cost = cost_of(problem)(network, *tensors(problem))
    network.zero_grad()
    cost.backward()
    return network.gradient()


def test_a_step_of_gradient_descent_goes_down_the_gradient_by_its_rate(problem):
    asked = training(problem, GRADIENT_DESCENT, 0.2, seed=3, evaluations=1)
    network = initial_network(asked)
    start = network.decisions()
    learning_rate = 0.2 / (problem.horizon * problem.horizon / problem.layers)
    expected = start - learning_rate * gradient(problem, network)
    made = run(asked)
    assert made.learning_rate == pytest.approx(learning_rate)
    assert made.history.evaluations.tolist() == [0, 1]
    assert np.abs(made.decisions - expected).max() <= 1e-14


def test_a_history_is_of_the_cost_and_its_best_point(problem):
    made = run(training(problem, ADAM, 0.1, seed=0, evaluations=60))
    trajectory = rollout(problem.staged, made.decisions)
    assert linearize(problem.staged, trajectory).objective == pytest.approx(
        made.objective, rel=1e-12
    )
    weight, bias = problem.readout(trajectory.parameters)
    error = problem.error(trajectory.states[-1], weight, bias)
    energy = np.sum(trajectory.control_array**2) * problem.horizon / problem.layers
    history, best = made.history, made.best
    assert history.error[best] == pytest.approx(error, rel=1e-12)
    assert history.control_energy[best] == pytest.approx(energy, rel=1e-12)
    total = error + problem.weight_decay * energy
    assert history.objective[best] == pytest.approx(total, rel=1e-12)
    assert history.evaluations[-1] == 60
    assert made.outcome is Outcome.SPENT
    for column in (history.evaluations, history.seconds):
        assert (np.diff(column) > 0).all()


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM, LBFGS], ids=lambda o: o.name)
def test_a_good_optimizer_gets_to_the_certified_minimum(problem, optimum, optimizer):
    rate = {"momentum": 0.3, "adam": 0.1, "l-bfgs": 1.0}[optimizer.name]
    made = run(training(problem, optimizer, rate, seed=0, evaluations=3000))
    assert made.objective == pytest.approx(optimum, rel=1e-8)
    assert made.objective >= optimum * (1 - 1e-12)
    # where J is within 1e-8 of its minimum, |dJ| is within about its root, 1e-4, of zero
    assert made.history.gradient_norm[-1] <= 1e-3 * made.history.gradient_norm[0]


def test_decoupled_decay_ends_beside_the_minimum_and_is_no_different_without_decay(
    problem, optimum
):
    decoupled = run(training(problem, ADAMW, 0.03, seed=0, evaluations=600))
    assert decoupled.objective > optimum * 1.01
    free = replace(problem, weight_decay=0.0)
    for optimizer in (ADAM, ADAMW):
        made = run(training(free, optimizer, 0.03, seed=0, evaluations=20))
        reference = made.decisions if optimizer is ADAM else reference  # noqa: F821
    assert (made.decisions == reference).all()


def test_runs_are_reproduced_bit_by_bit_and_seeds_differ(problem):
    asked = training(problem, SGD, 0.01, seed=5, evaluations=12)
    first, second = run(asked), run(asked)
    assert (first.decisions == second.decisions).all()
    assert (first.history.objective == second.history.objective).all()
    other = run(training(problem, SGD, 0.01, seed=6, evaluations=12))
    assert not np.allclose(other.decisions, first.decisions)


def test_minibatches_make_a_pass_and_their_gradients_average_to_that_of_all(problem):
    still = Optimizer("still", Method.SGD, (1e-30,), minibatches=4)
    made = run(training(problem, still, 1e-30, seed=0, evaluations=3))
    assert made.history.evaluations.tolist() == [0, 1, 2, 3]
    network = initial_network(training(problem, still, 1e-30, seed=0))
    inputs, targets = tensors(problem)
    parts = torch.randperm(8, generator=torch.Generator().manual_seed(0)).tensor_split(4)
    cost = cost_of(problem)
    mean = sum(cost(network, inputs[rows], targets[rows]) for rows in parts) / 4
    assert mean.item() == pytest.approx(made.history.objective[0], rel=1e-12)


def test_a_diverging_run_is_a_result(problem):
    made = run(training(problem, GRADIENT_DESCENT, 1e4, seed=0, evaluations=200))
    assert made.outcome is Outcome.DIVERGED
    assert made.history.evaluations[-1] < 200
    assert np.isfinite(made.objective)
    assert np.isfinite(made.decisions).all()


def test_a_start_that_is_no_number_is_a_result_too(problem):
    made = run(training(problem, ADAM, 0.1, seed=0, scale=1e200, evaluations=5))
    assert made.outcome is Outcome.DIVERGED
    assert np.isnan(made.objective)


def test_steps_are_projected_onto_the_bounds(problem):
    bounded = replace(problem, bound=0.5)
    made = run(training(bounded, MOMENTUM, 0.3, seed=0, evaluations=500))
    assert np.abs(made.decisions).max() == 0.5
    reference = train(bounded)
    assert made.objective == pytest.approx(reference.solution.objective, rel=1e-6)
    with pytest.raises(ValueError, match="knows no bounds"):
        training(bounded, LBFGS, 1.0, seed=0)


def test_kinks_are_trained_by_subgradients(problem):
    kinked = replace(problem, loss=HINGE, penalty=L1_PENALTY, tracking=0.3)
    made = run(training(kinked, ADAM, 0.03, seed=0, evaluations=200))
    exact = linearize(kinked.staged, rollout(kinked.staged, made.decisions)).objective
    assert made.objective == pytest.approx(exact, rel=1e-12)
    assert made.objective < 0.9 * made.history.objective[0]
    polished = train(kinked, starts=0, guesses=[made.decisions])
    assert polished.solution.is_solved
    assert polished.solution.objective <= made.objective


def test_a_time_limit_ends_a_run(problem):
    made = run(training(problem, ADAM, 0.01, seed=0, evaluations=10**7, time_limit=0.05))
    assert made.outcome is Outcome.TIME_LIMIT
    assert 0.05 <= made.history.seconds[-1] < 5


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_starts_at_one_and_never_rises(name):
    factors = [SCHEDULES[name](share) for share in np.linspace(0, 1.2, 25)]
    assert factors[0] == 1
    assert all(a >= b >= 0 for a, b in pairwise(factors))


def test_settings_that_make_no_sense_are_refused(problem):
    with pytest.raises(ValueError, match="unknown schedule 'linear', expected one of constant"):
        replace(SGD, schedule="linear")
    with pytest.raises(ValueError, match="rates must be positive"):
        replace(ADAM, rates=(0.1, -1.0))
    with pytest.raises(ValueError, match="minibatches must be exactly 1"):
        replace(LBFGS, minibatches=2)
    with pytest.raises(ValueError, match="evaluations must be at least 1"):
        training(problem, ADAM, 0.1, seed=0, evaluations=0)
    assert len({o.description for o in OPTIMIZERS.values()}) == len(OPTIMIZERS) - 1
