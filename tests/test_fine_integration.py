"""The differential equation behind a network: exact flows, kinks, budgets, files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ocp import RK4, Method, SolveOptions, Status, certificate, certify, rollout
from problems import training
from problems.datasets import Dataset, encode, load
from problems.fine_integration import KINKED, SMOOTH, FineIntegration, Untested
from problems.learning import LearningProblem
from problems.report import completed, report
from problems.solution_file import differences, load_solution, save_solution
from problems.training import train
from problems.vector_fields import (
    BOTTLENECK,
    INSIDE,
    LEAKY_RELU,
    OUTSIDE,
    RELU,
    TANH,
    Activation,
    VectorField,
)

ELSEWHERE = VectorField(  # the same as INSIDE, but none of the named ones
    "of its author", INSIDE.shapes, INSIDE.rate, INSIDE.lipschitz, is_linear_in_control=True
)


def regression(samples: int = 40, inputs: int = 3, size: float = 1.0) -> Dataset:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((samples, inputs))
    names = tuple(f"x{i}" for i in range(inputs))
    return Dataset("waves", x, size * np.sin(x[:, :1]), ((),), names, ("y",))


def trajectory(problem: LearningProblem, size: float = 1.0):
    generator = np.random.default_rng(1)
    return rollout(problem.staged, size * generator.standard_normal(problem.staged.decision_size))


@pytest.mark.parametrize("slope", [2.0, 0.5, -3.0])
def test_a_kink_is_passed_to_within_the_tolerance_of_the_steps(slope: float) -> None:
    """x' = 1 below 0 and 1 + slope x above, from -0.3: x(1) = (e^(0.7 slope) - 1) / slope."""

    def rate(x, u):
        return 1.0 + u[0] * np.maximum(x, 0.0)

    start = np.array([[-0.3, -1.5, 0.2]])  # meets the kink, never does, is beyond it already
    found = FineIntegration().end(rate, start, [np.array([slope])], np.array([1.0]))
    beyond = (0.2 + 1 / slope) * np.exp(slope) - 1 / slope
    expected = [np.expm1(0.7 * slope) / slope, -0.5, beyond]
    np.testing.assert_allclose(found[0], expected, rtol=1e-11)


@pytest.mark.parametrize("activation", [TANH, RELU, LEAKY_RELU])
@pytest.mark.parametrize("field", [INSIDE, OUTSIDE, BOTTLENECK, ELSEWHERE])
def test_every_field_is_the_limit_of_its_own_steps(
    field: VectorField, activation: Activation
) -> None:
    """RK4 with many steps, which the network itself takes, tends to the same error."""
    problem = LearningProblem(
        regression(12, 2), width=3, field=field, activation=activation, layers=4
    )
    rest = 1e-9 if activation.is_smooth else 1e-4  # a kink costs RK4 its order
    many = replace(problem, scheme=RK4, substeps=40)
    point = trajectory(problem)
    expected = many.error(
        rollout(many.staged, point.decisions).states[-1], *many.readout(np.zeros(0))
    )
    assert problem.refined_error(point) == pytest.approx(expected, rel=rest)


@pytest.mark.parametrize("activation", [TANH, RELU])
@pytest.mark.parametrize("width", [16, 40])
def test_hundreds_of_samples_with_large_targets_fit_into_the_operations(
    width: int, activation: Activation
) -> None:
    problem = LearningProblem(regression(200, 4, 100.0), width=width, activation=activation)
    point = trajectory(problem, 0.3)
    method = SMOOTH if activation.is_smooth else KINKED
    coarser = replace(method, tolerance=100 * method.tolerance)
    expected = pytest.approx(problem.refined_error(point, method=coarser), rel=1e-6)
    assert problem.refined_error(point) == expected


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"method": FineIntegration(most_operations=1e4)}, "more than 1e[+]04 operations"),
        ({"seconds": 0.0}, "the time limit passed"),
    ],
)
def test_a_budget_that_is_spent_is_named(limits: dict, reason: str) -> None:
    problem = LearningProblem(regression())
    with pytest.raises(Untested, match=reason):
        problem.refined_error(trajectory(problem), **limits)


def test_a_flow_that_runs_off_in_finite_time_is_named() -> None:
    """x' = x^2 from 2 is infinite at t = 1/2."""
    with pytest.raises(Untested, match="run off to infinity"):
        FineIntegration().end(lambda x, u: x**2, np.array([[2.0]]), [np.zeros(1)], np.array([1.0]))


def test_after_the_time_limit_the_error_is_none_for_a_reason_that_the_file_keeps(tmp_path) -> None:
    problem = LearningProblem(regression(60, 3, 100.0), width=8)
    found = train(problem, options=SolveOptions(time_limit=0.05))
    assert found.status is Status.TIME_LIMIT
    certificate = found.report["certificate"]
    assert certificate["refined_training_error"] is None
    assert "time limit" in certificate["untested"]["refined_training_error"]
    save_solution(tmp_path / "x.npz", found)
    assert not differences(load_solution(tmp_path / "x.npz"))


@pytest.mark.parametrize("tracking", [0.0, 1.0])
def test_a_file_is_there_whatever_happens_in_the_diagnosis(
    tmp_path, monkeypatch, tracking: float
) -> None:
    found = train(LearningProblem(regression(5, 2), layers=3, tracking=tracking))

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LearningProblem, "refined_error", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_solution(tmp_path / "x.npz", found)
    saved = load_solution(tmp_path / "x.npz")
    assert saved.result["status"] == "solved"
    assert (
        "before it was computed"
        in saved.result["certificate"]["untested"]["refined_training_error"]
    )
    assert not differences(saved)
    save_solution(tmp_path / "x.npz", found)
    saved = load_solution(tmp_path / "x.npz")
    assert saved.result == json.loads(json.dumps(found.report))
    assert saved.result["certificate"]["untested"] == {}


@pytest.mark.parametrize("field", [INSIDE, OUTSIDE, BOTTLENECK])
@pytest.mark.parametrize("width", [2, 24])
def test_a_smooth_problem_is_not_certified_again_after_its_solve(
    monkeypatch, field: VectorField, width: int
) -> None:
    """States that the solve has eliminated are those of its controls, up to rounding."""
    data = regression(6, 2)
    problem = LearningProblem(data, field=field, layers=3, weight_decay=1.0, width=width, hidden=3)

    def again(*arguments, **named):
        pytest.fail("the point was certified twice")

    monkeypatch.setattr(training, "certify", again)
    found = train(problem, options=SolveOptions(method=Method.CONDENSED))
    assert found.status is Status.SOLVED
    monkeypatch.undo()
    alone = certify(problem.staged, found.trajectory)
    assert alone.stationarity == found.certificate.stationarity
    rolled = rollout(problem.staged, found.trajectory.decisions)
    np.testing.assert_allclose(found.states, rolled.state_array, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("width", [5, 8])
def test_far_from_stationary_no_hessian_is_formed_and_the_verdict_is_the_same(
    monkeypatch, size: float, width: int
) -> None:
    """The smallest eigenvalue is at most v^T H v, whatever it is."""
    problem = LearningProblem(regression(10, 3), width=width)
    point = trajectory(problem, size)
    whole = certify(problem.staged, point)
    assert whole.min_reduced_hessian_eigenvalue is not None
    assert not whole.is_stationary(1e-8)

    def formed(*arguments):
        pytest.fail("the Hessian was formed")

    monkeypatch.setattr(certificate, "reduced_hessian", formed)
    monkeypatch.setattr(certificate, "compress", formed)
    found = certify(problem.staged, point, tolerance=1e-8)
    assert found.is_minimum is None
    assert found.untested["is_minimum"] == certificate.NOT_STATIONARY
    assert not found.is_stationary(1e-8)


@pytest.mark.parametrize("tracking", [0.0, 1.0])
def test_a_report_that_was_written_before_the_diagnosis_is_completed(tracking):
    """As a file is left by a process that ended in between."""
    dataset = encode(load("moons", samples=4, seed=0), "squared")
    solution = train(LearningProblem(dataset, layers=3, tracking=tracking), seed=0)
    early = report(solution, is_diagnosed=False)
    assert early["certificate"]["refined_training_error"] is None
    found, whole = completed(early, solution), report(solution)
    for result in (found, whole):
        del result["seconds"], result["timings"]
    assert found == whole
    assert completed(whole, solution) == whole
