"""Ladders in the horizon and in the weight decay: identities, repairs and limits."""

from dataclasses import replace

import numpy as np
import pytest

from ocp import SolveOptions, Status
from ocp.analysis import l2_distance
from problems.datasets import Dataset, encode, load
from problems.ladder import climb, solver
from problems.ladder_checks import check, fits
from problems.ladder_plan import horizon_ladder, split_cost, transferred, weight_decay_ladder
from problems.learning import LearningProblem
from problems.losses import DISTANCE, L1, LOGISTIC
from problems.predictions import at_strength, predictions
from problems.regularizers import H1, L1_PENALTY
from problems.training import random_controls, train
from problems.vector_fields import BOTTLENECK, OUTSIDE, RELU, VectorField


def points(samples: int = 4, loss: str = "squared", name: str = "xor") -> Dataset:
    return encode(load(name, samples=samples, seed=0), loss)


def problem(**changes) -> LearningProblem:
    return LearningProblem(
        **{"dataset": points(), "layers": 6, "weight_decay": 0.1, **changes},
    )


def test_lambda_over_t_is_all_that_matters_of_lambda_and_t():
    base = problem()
    in_horizon = horizon_ladder(base, [1.0, 10.0, 100.0])
    in_decay = weight_decay_ladder(base, [0.1, 0.01, 0.001])
    options = SolveOptions(tolerance=1e-10)
    ladders = [climb(plan, solver(options=options)) for plan in (in_horizon, in_decay)]
    assert all(rung.solution.status is Status.SOLVED for lad in ladders for rung in lad.rungs)
    for a, b in zip(ladders[0].rungs, ladders[1].rungs, strict=True):
        assert a.cost.strength == pytest.approx(b.cost.strength, rel=1e-15)
        assert a.cost.total == pytest.approx(b.cost.total, rel=1e-10)
        v, w = ladders[0].rescaled(a), ladders[1].rescaled(b)
        assert l2_distance(v, w) <= 1e-8 * max(1.0, np.abs(v).max())


@pytest.fixture(scope="module")
def ladder():
    plan = horizon_ladder(problem(), [10.0**j for j in range(7)])
    return climb(plan, solver(), starts=4)


def test_the_error_tends_to_the_predicted_constant_over_t_squared(ladder):
    predicted = predictions(ladder)
    ratios = [r.error / predicted.error(r.cost.strength) for r in ladder.rungs]
    assert all(abs(ratio - 1) < 0.01 for ratio in ratios[3:])


def test_the_norm_and_the_controls_approach_their_limits_like_one_over_t(ladder):
    found = fits(ladder, predictions(ladder), 1e-8)
    for name in ("norm_gap", "control_distance"):
        assert found[name].predicted == -1.0
        assert found[name].line.slope == pytest.approx(-1, abs=0.05)
    assert found["training_error"].line.slope == pytest.approx(-2, abs=0.05)


def test_the_error_bound_holds_on_every_rung(ladder):
    predicted = predictions(ladder)
    checked = check(ladder, predicted)
    assert checked.is_consistent
    assert checked.error_bound_holds == (True,) * 7
    for rung in ladder.rungs:
        assert rung.error <= predicted.error_bound(rung.cost.strength, rung.cost.size, 1.0)


def test_the_value_function_is_concave_and_its_slope_is_the_norm(ladder):
    checked = check(ladder, predictions(ladder))
    assert checked.is_concave
    assert checked.is_error_monotone
    assert checked.is_norm_monotone
    sizes = [rung.cost.size for rung in ladder.rungs]
    for low, slope, high in zip(sizes, checked.slopes, sizes[1:], strict=False):
        assert low <= slope <= high


def test_the_slope_of_the_value_function_is_the_norm_squared():
    base = replace(problem(), weight_decay=0.02)
    options = SolveOptions(tolerance=1e-10)
    middle = train(base, starts=2, options=options)
    step = 1e-4 * base.weight_decay
    around = [
        train(
            replace(base, weight_decay=base.weight_decay + sign * step),
            starts=0,
            guesses=[middle.trajectory.decisions],
            options=options,
        ).solution.objective
        for sign in (-1, 1)
    ]
    # central differences of relative step 1e-4: their own error is its square
    assert (around[1] - around[0]) / (2 * step) == pytest.approx(middle.control_energy, rel=1e-6)


@pytest.mark.parametrize("keep", ["layers", "step"])
def test_a_transferred_control_drives_a_homogeneous_network_to_the_same_states(keep):
    plan = horizon_ladder(problem(), [1.0, 3.0], keep)
    first, second = plan.problems
    assert second.layers == (6 if keep == "layers" else 18)
    decisions = random_controls(first.staged, 0, 1.0)
    carried = transferred(plan, first, decisions, second)
    one, other = (
        split_cost(plan, p, u) for p, u in zip(plan.problems, (decisions, carried), strict=True)
    )
    assert one.size == pytest.approx(other.size, rel=1e-14)
    if keep == "layers":
        assert one.rest == pytest.approx(other.rest, rel=1e-13)
        assert one.at(other.strength) == pytest.approx(other.total, rel=1e-13)


def no_biases() -> VectorField:
    return replace(
        BOTTLENECK,
        name="no biases",
        shapes=lambda width, hidden: {"w1": (hidden, width), "w2": (width, hidden)},
        rate=lambda x, u, s: u["w2"] @ s(u["w1"] @ x),
        lipschitz=lambda u, slope: 1.0,
    )


def test_the_cost_of_a_relu_bottleneck_without_biases_does_not_depend_on_the_horizon():
    base = problem(field=no_biases(), activation=RELU, hidden=4, width=3)
    plan = horizon_ladder(base, [1.0, 4.0, 16.0])
    assert plan.degree == 2
    decisions = random_controls(plan.problems[0].staged, 3, 1.0)
    costs = [
        split_cost(plan, p, transferred(plan, plan.problems[0], decisions, p))
        for p in plan.problems
    ]
    assert len({cost.strength for cost in costs}) == 1
    for cost in costs[1:]:
        assert cost.total == pytest.approx(costs[0].total, rel=1e-12)
    assert climb(plan, solver()).no_interpolant.startswith("the field is not homogeneous of degree")


def test_a_bad_branch_is_found_out_and_left():
    base = problem(layers=8)
    horizons = [10.0, 100.0, 1000.0, 10000.0]
    plan = horizon_ladder(base, horizons)
    # of four points at the corners of a square, seed 5 leads to a dear interpolant, seed 0 to the
    # cheapest one known
    bad = transferred(
        plan,
        replace(base, horizon=1.0),
        random_controls(replace(base, horizon=1.0).staged, BAD_SEED, 1.0),
        plan.problems[0],
    )
    stuck = climb(plan, solver(), guess=bad, starts=6, repair=False)
    found_out = check(stuck, predictions(stuck))
    assert not found_out.is_consistent
    assert any("costs" in sentence for sentence in found_out.violations)
    repaired = climb(plan, solver(), guess=bad, starts=6)
    assert repaired.repairs
    assert all(repair.is_repaired for repair in repaired.repairs)
    assert check(repaired, predictions(repaired)).is_consistent
    for before, after in zip(stuck.rungs, repaired.rungs, strict=True):
        assert after.cost.total <= before.cost.total * (1 + 1e-12)  # up to rounding


BAD_SEED = 5


@pytest.mark.parametrize(("loss", "order"), [(L1, np.inf), (DISTANCE, 2)])
def test_distances_are_zero_beyond_the_critical_horizon_and_positive_before(loss, order):
    base = problem(dataset=points(6, name="moons"), loss=loss, layers=10)
    guide = climb(horizon_ladder(base, [1e3]), solver(), starts=4)
    predicted = predictions(guide)
    critical = at_strength(guide.plan, predicted.critical_strength)
    largest = np.linalg.norm(predicted.multipliers, order, axis=1).max()
    assert critical == pytest.approx(0.1 * 6 * largest, rel=1e-14)
    errors = []
    for factor in (0.99, 1.01):  # on the branch of the interpolant, so started from it
        rung = replace(base, horizon=factor * critical)
        start = transferred(
            guide.plan, guide.interpolant.problem, guide.interpolant.solved.decisions, rung
        )
        found = train(rung, starts=0, guesses=[start], options=SolveOptions(tolerance=1e-10))
        assert found.status is Status.SOLVED
        errors.append(found.errors[-1])
    assert errors[0] > 1e-6
    assert errors[1] < 1e-10


def test_no_limit_is_claimed_where_the_loss_has_no_minimum():
    base = LearningProblem(points(loss="logistic"), loss=LOGISTIC, layers=4, weight_decay=0.1)
    grown = climb(horizon_ladder(base, [1.0, 10.0, 100.0, 1000.0]), solver())
    assert grown.interpolant is None
    assert "not attained" in grown.no_interpolant
    sizes = [rung.cost.size for rung in grown.rungs]
    assert sizes == sorted(sizes)
    assert fits(grown, None, 1e-8)["norm_growth"].line.slope > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"penalty": H1}, "does not scale"),
        ({"penalty": L1_PENALTY}, "does not scale"),
        ({"bound": 5.0}, "bound on the controls"),
        ({"trained_readout": True}, "does not fade"),
        ({"tracking": 1.0}, "running error"),
        ({"field": OUTSIDE}, "not homogeneous"),
    ],
)
def test_there_is_no_interpolant_to_converge_to_where_t_does_not_scale(changes, words):
    short = climb(horizon_ladder(problem(layers=3, **changes), [1.0, 2.0]), solver())
    assert short.interpolant is None
    assert words in short.no_interpolant
    assert len(short.rungs) == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: horizon_ladder(problem(), []), "at least one"),
        (lambda: horizon_ladder(problem(), [1.0, 1.0]), "all be different"),
        (lambda: horizon_ladder(problem(), [1.0, -1.0]), "positive"),
        (lambda: horizon_ladder(problem(), [1.0, 1.55], "step"), "no whole number of layers"),
        (lambda: horizon_ladder(problem(weight_decay=0.0), [1.0]), "positive weight-decay"),
        (lambda: weight_decay_ladder(problem(), [0.0, 1.0]), "positive"),
    ],
)
def test_ladders_that_make_no_sense_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
