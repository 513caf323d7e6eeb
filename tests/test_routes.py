"""All ways of solving end at the same optimum, and say which of them was taken, and why."""

from dataclasses import replace

import numpy as np
import pytest

from ocp import Method, SolveOptions, Status, rollout, solve_staged
from ocp.method import TYPICAL, Machine, choose
from ocp.newton import sample_sizes
from problems.datasets import encode, load, standardize
from problems.interpolation import minimal_norm
from problems.learning import LearningProblem
from problems.losses import CROSS_ENTROPY, HINGE, LOGISTIC, SQUARED
from problems.regularizers import H1, L1_PENALTY
from problems.training import random_controls
from problems.vector_fields import BOTTLENECK, GELU, OUTSIDE, SINE

REDUCED = (Method.CONDENSED, Method.RICCATI, Method.MATRIX_FREE)
SAME = 1e-8  # relative, of costs
PROBLEMS = {
    "plain": {},
    "wide": {"width": 3},
    "outside": {"field": OUTSIDE, "activation": SINE},
    "bottleneck": {"field": BOTTLENECK, "activation": GELU, "hidden": 3},
    "logistic, trained": {"loss": LOGISTIC, "trained_readout": True},
    "cross-entropy, trained": {"loss": CROSS_ENTROPY, "trained_readout": True},
    "tracking": {"tracking": 1.0},
    "bounds": {"bound": 1.5},
    "h1": {"penalty": H1},
}


def learning_problem(samples: int = 12, layers: int = 6, **options) -> LearningProblem:
    loss = options.get("loss", SQUARED)
    data = standardize(encode(load("moons", samples=samples), loss.name)).dataset
    return LearningProblem(data, layers=layers, **{"weight_decay": 1e-2, **options})


def start_of(problem: LearningProblem, seed: int = 0):
    return rollout(problem.staged, random_controls(problem.staged, seed, 1.0))


def by(method: Method) -> SolveOptions:
    return SolveOptions(method=method)


@pytest.mark.parametrize("method", REDUCED, ids=lambda method: method.value)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_optimum_is_one_of_multiple_shooting_too(name, method):
    """Other ways may lead to other minima, so shooting starts where the other route ended."""
    problem = learning_problem(**PROBLEMS[name])
    if choose(problem.staged, method).method is Method.SHOOTING:
        assert (name, method) in {
            ("bounds", Method.RICCATI),
            ("h1", Method.RICCATI),
        }
        return
    found = solve_staged(problem.staged, start_of(problem), by(method))
    assert found.status is Status.SOLVED
    assert found.method is not None
    assert found.method.method is method
    reference = solve_staged(problem.staged, found.trajectory, by(Method.SHOOTING))
    assert reference.status is Status.SOLVED
    assert found.objective == pytest.approx(reference.objective, rel=SAME)
    difference = found.trajectory.decisions - reference.trajectory.decisions
    assert np.abs(difference).max() <= 1e-5 * np.abs(reference.trajectory.decisions).max()


@pytest.mark.parametrize("method", [Method.SHOOTING, *REDUCED], ids=lambda method: method.value)
def test_a_solved_problem_is_solved_again_in_two_second_order_steps(method):
    problem = learning_problem(samples=20)
    first = solve_staged(problem.staged, start_of(problem), by(method))
    again = solve_staged(problem.staged, first, by(method))
    assert again.status is Status.SOLVED
    assert again.iterations is not None
    assert again.iterations <= 2
    assert again.objective == pytest.approx(first.objective, rel=1e-12)


def test_a_solved_problem_is_solved_again_by_another_route():
    problem = learning_problem(samples=20)
    first = solve_staged(problem.staged, start_of(problem), by(Method.SHOOTING))
    for method in REDUCED:
        again = solve_staged(problem.staged, first, by(method))
        assert again.status is Status.SOLVED
        assert again.iterations is not None
        assert again.iterations <= 2


@pytest.mark.parametrize("options", [{}, {"trained_readout": True}, {"penalty": H1}], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_the_interpolant_is_one_of_multiple_shooting_too(options, seed):
    problem = minimal_norm(learning_problem(samples=6, layers=8, **options))
    found = solve_staged(problem.staged, start_of(problem, seed), by(Method.CONDENSED))
    assert found.status is Status.SOLVED
    assert found.certificate.constraints <= 1e-9
    reference = solve_staged(problem.staged, found.trajectory, by(Method.SHOOTING))
    assert found.objective == pytest.approx(reference.objective, rel=SAME)
    again = solve_staged(problem.staged, found, by(Method.CONDENSED))
    assert again.iterations is not None
    assert again.iterations <= 2


@pytest.mark.parametrize("method", [Method.SHOOTING, Method.CONDENSED], ids=lambda m: m.value)
def test_decisions_alone_are_a_guess_for_the_states_that_they_lead_to(method):
    problem = learning_problem()
    start = start_of(problem)
    found = solve_staged(problem.staged, start.decisions, by(method))
    assert found.objective == solve_staged(problem.staged, start, by(method)).objective
    with pytest.raises(ValueError, match=r"shape \(35,\), expected \(36,\)"):
        solve_staged(problem.staged, start.decisions[:-1], by(method))


def test_many_members_are_solved_by_way_of_a_part_of_them():
    problem = learning_problem(samples=9000, layers=4)
    found = solve_staged(problem.staged, start_of(problem), by(Method.CONDENSED))
    assert found.status is Status.SOLVED
    reference = solve_staged(problem.staged, found.trajectory, by(Method.SHOOTING))
    assert found.objective == pytest.approx(reference.objective, rel=SAME)


def test_samples_of_the_members_are_no_smaller_than_the_number_of_decisions():
    assert sample_sizes(10_000, 120) == [156, 1250, 10_000]
    assert sample_sizes(1000, 120) == [125, 1000]
    assert sample_sizes(1000, 130) == [1000]
    assert sample_sizes(800, 10) == [100, 800]


def test_a_start_near_a_minimum_is_not_led_away_by_a_part_of_the_members(monkeypatch):
    problem = learning_problem(samples=800, layers=4)
    first = solve_staged(problem.staged, start_of(problem), by(Method.CONDENSED))
    near = first.trajectory.decisions * 1.001
    monkeypatch.setattr("ocp.newton.subsample", None)
    found = solve_staged(problem.staged, rollout(problem.staged, near), by(Method.CONDENSED))
    assert found.status is Status.SOLVED
    assert found.objective == pytest.approx(first.objective, rel=SAME)


@pytest.mark.parametrize("options", [{"loss": HINGE}, {"penalty": L1_PENALTY}], ids=str)
def test_kinks_take_a_program_with_a_dense_hessian_and_say_so(options):
    small = learning_problem(**options).staged
    large = learning_problem(samples=200, layers=20, **options).staged
    assert choose(small).method is Method.SHOOTING
    assert choose(small, Method.CONDENSED).method is Method.CONDENSED
    assert choose(large).method is Method.CONDENSED
    for choice in (choose(small), choose(large), choose(large, Method.RICCATI)):
        assert "soft rows" in choice.reason
    for method in (Method.RICCATI, Method.MATRIX_FREE):
        assert choose(large, method).method is Method.SHOOTING


def test_few_samples_or_many_rows_along_the_way_keep_their_states():
    few = minimal_norm(learning_problem(samples=10, layers=10, width=8, bound=20.0)).staged
    many = minimal_norm(learning_problem(samples=40, layers=5, width=8, bound=20.0)).staged
    along = learning_problem(samples=200, layers=20, loss=HINGE, tracking=1.0).staged
    assert choose(few).method is Method.SHOOTING
    assert choose(along).method is Method.SHOOTING
    assert choose(many).method is Method.CONDENSED


def test_derivatives_that_would_not_fit_are_left_to_multiple_shooting_with_the_reason():
    staged = learning_problem(samples=6000, layers=200, loss=HINGE, tracking=1.0).staged
    for method in (Method.AUTO, Method.CONDENSED):
        choice = choose(staged, method)
        assert choice.method is Method.SHOOTING
        assert "would not fit" in choice.reason


def test_one_member_is_left_to_multiple_shooting_unless_asked_for():
    staged = learning_problem().staged
    one = replace(staged, initial_state=staged.initial_state[:1], data=staged.data[:1])
    assert choose(one).method is Method.SHOOTING
    assert choose(one, Method.CONDENSED).method is Method.CONDENSED


def test_few_states_are_eliminated_where_the_layers_are_wide():
    narrow, wide = (learning_problem(samples=4, layers=4, width=w).staged for w in (3, 16))
    assert choose(narrow).method is Method.SHOOTING
    assert choose(wide).method is not Method.SHOOTING


def test_the_choice_follows_the_flop_model():
    small = choose(learning_problem(samples=20, layers=20).staged)
    assert small.method is Method.SHOOTING
    assert "800 states" in small.reason
    middling = choose(learning_problem(samples=150, layers=20).staged)
    assert middling.method is Method.CONDENSED
    few_controls = choose(learning_problem(samples=2000, layers=10).staged)
    assert few_controls.method is Method.CONDENSED
    many_layers = choose(learning_problem(samples=2, layers=3000).staged)
    assert many_layers.method is Method.RICCATI
    for choice in (few_controls, many_layers):
        assert choice.method.value in choice.reason


@pytest.mark.parametrize(
    ("rate", "method"),
    [
        (1 / 64, Method.MATRIX_FREE),
        (0.5, Method.CONDENSED),
        (2.0, Method.CONDENSED),
        (64.0, Method.CONDENSED),
    ],
)
def test_the_choice_follows_the_machine_but_not_its_noise(monkeypatch, rate, method):
    found = Machine(rate * TYPICAL.flops, TYPICAL.call)
    monkeypatch.setattr(Machine, "measured", lambda: found)
    counted = rate if abs(np.log2(rate)) > 1 else 1.0
    assert Machine.calibrated().flops == pytest.approx(counted * TYPICAL.flops)
    loaded = Machine(found.flops / 3, found.call * 3)
    monkeypatch.setattr(Machine, "measured", lambda: loaded)
    assert Machine.calibrated().flops == pytest.approx(counted * TYPICAL.flops)
    staged = learning_problem(samples=200, width=8, layers=20).staged
    assert choose(staged).method is method


def test_the_sweeps_backwards_give_the_derivative_of_the_sweep_forwards():
    """For few members by chains of stages, for many by whole rows, with shared parameters."""
    from ocp.condensing import adjoint, linearize, reduced_gradient
    from ocp.reduced import Reduced

    for samples in (3, 400):
        staged = learning_problem(
            samples=samples, loss=LOGISTIC, trained_readout=True, tracking=0.5
        ).staged
        decisions = random_controls(staged, 0, 1.0)
        linearization = linearize(staged, rollout(staged, decisions))
        blocks = (*linearization.stages, *linearization.shared)
        multipliers = tuple(np.zeros_like(values.rows) for values in blocks)
        exact = reduced_gradient(linearization, adjoint(linearization, multipliers), multipliers)
        cost, gradient = Reduced(staged).cost_and_gradient(decisions)
        assert cost == pytest.approx(linearization.objective, rel=1e-13)
        np.testing.assert_allclose(gradient, exact.value, rtol=0, atol=1e-13)
