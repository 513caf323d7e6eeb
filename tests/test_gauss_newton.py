"""Facts about the descent by conjugate gradients preconditioned by the Gauss-Newton matrix."""

from __future__ import annotations

from typing import Any

import casadi as ca
import numpy as np
import pytest

from ocp import (
    EULER,
    HEUN,
    Method,
    OptimalControlProblem,
    SolveOptions,
    Status,
    TimeGrid,
    certify,
    discretize,
    rollout,
    solve_staged,
)
from ocp.condensing import adjoint, linearize, reduced_gradient, reduced_jacobian
from ocp.descent import QuasiNewton
from ocp.gauss_newton import GaussNewton
from ocp.reduced import Reduced
from ocp.reduced_hessian import reduced_hessian
from problems.datasets import Dataset, encode, load, standardize
from problems.learning import LearningProblem
from problems.losses import CROSS_ENTROPY, LOGISTIC, SQUARED
from problems.regularizers import H1
from problems.training import random_controls
from problems.vector_fields import BOTTLENECK, GELU, OUTSIDE, SINE

PROBLEMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "many layers": {"layers": 30},
    "wide": {"width": 4, "activation": GELU},
    "outside": {"field": OUTSIDE, "activation": SINE},
    "bottleneck": {"field": BOTTLENECK, "activation": GELU, "hidden": 3},
    "Heun": {"scheme": HEUN},
    "many samples": {"samples": 170},
    "cross-entropy": {"loss": CROSS_ENTROPY},
    "logistic, trained": {"loss": LOGISTIC, "trained_readout": True},
    "cross-entropy, trained": {"loss": CROSS_ENTROPY, "trained_readout": True},
}


def learning_problem(samples: int = 12, **options: Any) -> LearningProblem:
    loss = options.get("loss", SQUARED)
    data = standardize(encode(load("moons", samples=samples), loss.name)).dataset
    return LearningProblem(data, **{"layers": 5, "weight_decay": 1e-3, **options})


def reduced_of(name: str, seed: int = 0) -> tuple[Reduced, np.ndarray]:
    staged = learning_problem(**PROBLEMS[name]).staged
    return Reduced(staged), random_controls(staged, seed, 1.0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_functions_of_the_last_state_are_pulled_back_to_the_decisions(name: str) -> None:
    reduced, decisions = reduced_of(name)
    staged, members = reduced.staged, reduced.staged.members
    size = staged.stages[-1].state_size + staged.parameter_size
    slopes = np.random.default_rng(0).standard_normal((size, 2, members))
    found = reduced.pull_back(decisions, slopes)
    nothing = [(np.zeros(0, dtype=int), np.zeros((0, s.function.unknowns))) for s in staged.stages]
    seeds = (np.repeat(np.arange(members), 2), slopes.transpose(2, 1, 0).reshape(-1, size))
    expected = reduced_jacobian(
        linearize(staged, rollout(staged, decisions)), [*nothing[:-1], seeds]
    )
    expected = expected.reshape(members, 2, -1).transpose(2, 1, 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_gradient_is_that_of_the_linearisation(name: str) -> None:
    reduced, decisions = reduced_of(name)
    along = linearize(reduced.staged, rollout(reduced.staged, decisions))
    none = tuple(np.zeros_like(v.rows) for v in (*along.stages, *along.shared))
    expected = reduced_gradient(along, adjoint(along, none), none).value
    found = GaussNewton(reduced, decisions)
    np.testing.assert_allclose(
        found.gradient, expected, rtol=0, atol=1e-12 * np.abs(expected).max()
    )
    assert found.cost == pytest.approx(along.objective, rel=1e-13)


@pytest.mark.parametrize("samples", [3, 40])
@pytest.mark.parametrize("loss", [SQUARED, CROSS_ENTROPY], ids=lambda loss: loss.name)
def test_the_matrix_is_the_hessian_where_the_last_state_is_affine_in_the_decisions(
    samples: int, loss: Any
) -> None:
    """In one layer it is; fewer and more rows than decisions are solved for in different ways."""
    staged = learning_problem(samples=samples, loss=loss, layers=1).staged
    decisions = random_controls(staged, 0, 1.0)
    along = linearize(staged, rollout(staged, decisions))
    none = tuple(np.zeros_like(v.rows) for v in (*along.stages, *along.shared))
    hessian = reduced_hessian(along, adjoint(along, none), none)
    model = GaussNewton(Reduced(staged), decisions)._here.model
    inverse = np.column_stack([model.solve(column) for column in np.eye(len(hessian))])
    np.testing.assert_allclose(inverse @ hessian, np.eye(len(hessian)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_iteration_lowers_the_cost_until_the_gradient_vanishes(name: str) -> None:
    reduced, decisions = reduced_of(name)
    descent = GaussNewton(reduced, decisions)
    first, costs = np.abs(descent.gradient).max(), [descent.cost]
    while np.abs(descent.gradient).max() > 1e-6 * first and descent.iterate():
        costs.append(descent.cost)
    assert np.abs(descent.gradient).max() <= 1e-6 * first
    assert (np.diff(costs) <= 0).all()


def test_a_curved_valley_takes_fewer_evaluations_than_a_quasi_newton_descent() -> None:
    """Over several starts, as these lead to different minima."""
    staged = learning_problem(samples=30, width=6, layers=10).staged
    reduced, spent = Reduced(staged), np.zeros(2)
    for seed in range(4):
        start = random_controls(staged, seed, 1.0)
        descents = (
            GaussNewton(reduced, start),
            QuasiNewton.start(reduced.cost_and_gradient, start),
        )
        target = 1e-5 * np.abs(descents[0].gradient).max()
        for descent in descents:
            while np.abs(descent.gradient).max() > target:
                assert descent.iterate()
        spent += [descent.evaluations for descent in descents]
    assert spent[0] < 0.6 * spent[1]


@pytest.mark.parametrize("method", [Method.CONDENSED, Method.RICCATI], ids=lambda m: m.value)
def test_a_saddle_is_left_though_no_gradient_leads_away_from_it(method: Method) -> None:
    """Of x' = u, x(0) = 0, with |u|^2 - 2 x(1)^2 + x(1)^4, whose minimum is at x(1)^2 = 1/2."""
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u,
        horizon=1.0,
        initial_state=[0.0],
        terminal_cost=-2 * x**2 + x**4,
        control_cost=u**2,
    )
    staged = discretize(problem, TimeGrid.uniform(4), EULER)
    rest = rollout(staged, np.zeros(4))
    assert certify(staged, rest).is_minimum is False
    found = solve_staged(staged, rest, SolveOptions(method=method))
    assert found.status is Status.SOLVED
    assert found.objective == pytest.approx(-0.25, rel=1e-12)


@pytest.mark.parametrize("options", [{"tracking": 1.0}, {"penalty": H1}, {"weight_decay": 0.0}])
def test_other_forms_are_left_to_the_quasi_newton_descent(options: dict) -> None:
    assert not GaussNewton.suits(Reduced(learning_problem(**options).staged))


@pytest.mark.parametrize("members", [40, 9000])
def test_a_good_metric_takes_the_descent_to_the_tolerance_without_second_derivatives(
    members: int,
) -> None:
    staged = learning_problem(samples=members, weight_decay=1e-2).staged
    start = rollout(staged, random_controls(staged, 0, 1.0))
    found = solve_staged(staged, start, SolveOptions(method=Method.CONDENSED))
    assert found.status is Status.SOLVED
    assert found.certificate.stationarity <= 1e-9
    assert " 0 second-order steps" in found.backend_status


def test_data_that_are_fitted_at_rest_take_a_few_iterations() -> None:
    """The cost and its gradient vanish at rest, and nothing is left to be relative to."""
    data = np.random.default_rng(0).standard_normal((10, 4))
    problem = LearningProblem(Dataset("fitted", data, data[:, :1]), layers=4, weight_decay=1e-2)
    start = rollout(problem.staged, random_controls(problem.staged, 0, 1.0))
    found = solve_staged(problem.staged, start, SolveOptions(method=Method.CONDENSED))
    assert found.status is Status.SOLVED
    assert found.objective <= 1e-15
    assert found.iterations is not None
    assert found.iterations < 200


def test_the_same_optimum_as_by_multiple_shooting_is_certified() -> None:
    staged = learning_problem(samples=20, width=3, layers=20).staged
    start = rollout(staged, random_controls(staged, 0, 1.0))
    found = solve_staged(staged, start, SolveOptions(method=Method.CONDENSED))
    reference = solve_staged(staged, found.trajectory, SolveOptions(method=Method.SHOOTING))
    assert (found.status, reference.status) == (Status.SOLVED, Status.SOLVED)
    assert found.objective == pytest.approx(reference.objective, rel=1e-10)
