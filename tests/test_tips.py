"""The Euclidean distance in several outputs: samples at its tip are pinned, and certified there."""

from dataclasses import replace

import numpy as np
import pytest

from ocp import SolveOptions, Status, rollout
from problems.datasets import Dataset, encode, load
from problems.ladder import climb, solver
from problems.ladder_plan import horizon_ladder, transferred
from problems.learning import LearningProblem
from problems.losses import DISTANCE
from problems.predictions import at_strength, predictions
from problems.solution_file import differences, load_solution, save_solution
from problems.training import assess, tip_multipliers, train


def problem(**changes) -> LearningProblem:
    data = encode(load("rings", samples=6, seed=0), "distance")
    return LearningProblem(
        **{"dataset": data, "width": 3, "layers": 6, "loss": DISTANCE, **changes},
    )


def two_points(weight_decay: float) -> LearningProblem:
    """One layer and no weights that could help: x + h b, one sample at 0, two targets."""
    data = Dataset("points", np.zeros((2, 2)), np.array([[3.0, 4.0], [3.0, 4.0]]))
    return LearningProblem(data, layers=1, loss=DISTANCE, weight_decay=weight_decay)


@pytest.mark.parametrize(
    ("decay", "factor"), [(0.2, 0.5), (0.05, 1.0), (0.09, 1.0), (0.11, 10 / 11)]
)
def test_a_shift_by_5_is_paid_in_full_exactly_while_its_marginal_price_is_below_one(decay, factor):
    # min 5 - |b| + lambda |b|^2 over 0 <= |b| <= 5: |b| = 1 / (2 lambda), at most 5
    found = train(two_points(decay))
    assert found.status is Status.SOLVED
    assert found.smoothing == 0.0
    shift = np.linalg.norm(found.states[-1][0])
    assert shift == pytest.approx(5 * factor, rel=1e-7)
    samples, multiplier = found.tips
    assert samples == (2 if factor == 1.0 else 0)
    if samples:  # |p| summed over both samples is 2 lambda |b|, each has the radius 1 / 2
        assert found.errors[-1] < 1e-11
        assert multiplier <= 1
        total = np.linalg.norm(found.multipliers.sum(axis=0))
        assert total == pytest.approx(2 * decay * 5, rel=1e-6)


def test_samples_end_at_their_tips_exactly_with_multipliers_in_the_ball():
    found = train(problem(weight_decay=1e-2), starts=2)
    samples, largest = found.tips
    assert found.status is Status.SOLVED
    assert found.smoothing == 0.0
    assert samples > 0
    assert largest <= 1
    residual = np.linalg.norm(found.states[-1][:, :3] - found.problem.dataset.targets, axis=1)
    assert np.count_nonzero(residual < 1e-10) == samples
    assert found.report["certificate"]["samples_at_tip"] == samples


def test_a_point_pinned_by_a_multiplier_outside_the_ball_is_not_solved():
    # the minimal-norm interpolant, held where lambda N |p| > alpha
    at = problem(weight_decay=1.0)
    guide = climb(horizon_ladder(problem(), [1e3]), solver(), starts=3)
    decisions = guide.interpolant.solved.decisions
    found = assess(at.staged, rollout(at.staged, decisions), 0.0, 1e-6, pinned=at.pinned)
    assert found.status is not Status.SOLVED
    assert tip_multipliers(at.pinned, found.certificate).max() > 1


def test_the_error_vanishes_exactly_beyond_the_critical_horizon_of_the_euclidean_norm():
    data = encode(load("gaussians", samples=6, seed=0), "distance")
    base = problem(dataset=data, weight_decay=0.1)
    guide = climb(horizon_ladder(base, [1e3]), solver(), starts=4)
    predicted = predictions(guide)
    critical = at_strength(guide.plan, predicted.critical_strength)
    largest = np.linalg.norm(predicted.multipliers, axis=1).max()
    assert critical == pytest.approx(0.1 * 6 * largest, rel=1e-14)
    errors = []
    for factor in (0.99, 1.01):  # on the branch of the interpolant, so started from it
        rung = replace(base, horizon=factor * critical)
        start = transferred(
            guide.plan, guide.interpolant.problem, guide.interpolant.solved.decisions, rung
        )
        found = train(rung, starts=0, guesses=[start], options=SolveOptions(tolerance=1e-9))
        assert found.status is Status.SOLVED
        assert found.smoothing == 0.0
        errors.append(found.errors[-1])
    assert errors[0] > 1e-6
    assert errors[1] < 1e-10


def test_the_file_of_a_pinned_solution_bears_out_its_certificate(tmp_path):
    found = train(problem(weight_decay=1e-2))
    save_solution(tmp_path / "x.npz", found)
    saved = load_solution(tmp_path / "x.npz")
    assert saved.solution.status is Status.SOLVED
    assert saved.solution.tips == found.tips
    assert differences(saved) == []


def test_nothing_is_pinned_where_the_running_error_has_tips_as_well():
    assert problem(tracking=1.0).pinned is None
    assert problem(dataset=encode(load("xor", samples=4), "distance")).pinned is None
