"""Sweeps backwards through many stages at once give what the stages give one by one."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

import ocp.reduced
from ocp import rollout
from ocp.affine import AffineStage
from ocp.condensing import adjoint, linearize, reduced_gradient
from ocp.reduced import Reduced
from problems.datasets import encode, load
from problems.learning import LearningProblem
from problems.losses import SQUARED
from problems.training import random_controls
from problems.vector_fields import INSIDE, OUTSIDE

MEMBERS, STAGES = 7, 5


def stage(kind: str, n: int = 3) -> AffineStage:
    """A stage of size n with weights, a bias, a datum, and a constant step."""
    x, u = ca.SX.sym("x", n), ca.SX.sym("u", n * n + n)
    p, d, c = ca.SX.sym("p", 0), ca.SX.sym("d"), ca.SX.sym("c")
    weight, bias = ca.reshape(u[: n * n], n, n), u[n * n :]
    rest, cost, features = x, ca.SX(0), ca.tanh(d * x)
    if kind == "decay and cost":
        rest, cost = 0.5 * x + x[::-1], ca.sumsqr(x - d) * c
    if kind == "permuted":
        features = ca.sin(x[::-1])
    if kind == "mixed":
        features = ca.tanh(x + x[::-1])
    if kind == "nonlinear rest":
        rest = ca.sin(x)
    successor = rest + c * (weight @ features + bias)
    found = AffineStage.of(ca.Function("step", [x, u, p, d, c], [successor, ca.densify(cost)]))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["plain", "decay and cost", "permuted"])
def test_all_stages_at_once_give_what_they_give_one_by_one(kind: str) -> None:
    affine, generator = stage(kind), np.random.default_rng(0)
    assert affine.pointwise is not None
    data = generator.standard_normal((1, MEMBERS))
    constants = generator.uniform(0.1, 0.3, (STAGES, 1))
    weights = [affine.weights(generator.standard_normal(12)) for _ in range(STAGES)]
    x, states, features = generator.standard_normal((3, MEMBERS)), [], []
    for k in range(STAGES):
        states.append(x)
        x, phi, _ = affine.step(x, weights[k], data, constants[k][:, None])
        features.append(phi)
    last = generator.standard_normal((3, MEMBERS))
    before, after = affine.pointwise.pull(
        np.stack(states), np.stack(weights), data, constants, last
    )
    slopes = affine.control_slopes(np.stack(features), after)
    costate = last
    for k in range(STAGES - 1, -1, -1):
        np.testing.assert_allclose(after[k], costate, rtol=0, atol=1e-13)
        known = (features[k], weights[k], data, constants[k][:, None])
        costate, own = affine.pull(states[k], *known, costate)
        np.testing.assert_allclose(slopes[k], own, rtol=0, atol=1e-13)
    np.testing.assert_allclose(before, costate, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["mixed", "nonlinear rest"])
def test_other_stages_are_not_taken_for_pointwise_ones(kind: str) -> None:
    assert stage(kind).pointwise is None


@pytest.mark.parametrize("together", [0, 500, 60_000])
@pytest.mark.parametrize("field", [INSIDE, OUTSIDE], ids=lambda field: field.name)
def test_the_gradient_does_not_depend_on_how_many_stages_are_taken_together(
    field, together, monkeypatch
) -> None:
    monkeypatch.setattr(ocp.reduced, "TOGETHER", together)
    data = encode(load("moons", samples=60), SQUARED.name)
    problem = LearningProblem(data, field=field, layers=12, weight_decay=1e-2, tracking=0.5)
    staged = problem.staged
    decisions = random_controls(staged, 1, 1.0)
    linearization = linearize(staged, rollout(staged, decisions))
    blocks = (*linearization.stages, *linearization.shared)
    none = tuple(np.zeros_like(values.rows) for values in blocks)
    exact = reduced_gradient(linearization, adjoint(linearization, none), none)
    cost, gradient = Reduced(staged).cost_and_gradient(decisions)
    assert cost == pytest.approx(linearization.objective, rel=1e-13)
    np.testing.assert_allclose(gradient, exact.value, rtol=0, atol=1e-12)


def test_a_stage_that_changes_the_width_is_swept_back_by_its_rectangle() -> None:
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u", 6)
    nothing = [ca.SX.sym(name, 0) for name in "pdc"]
    successor = x[:2] + ca.reshape(u, 2, 3) @ ca.tanh(x)
    affine = AffineStage.of(ca.Function("step", [x, u, *nothing], [successor, ca.SX(1, 1)]))
    assert affine is not None
    assert affine.pointwise is not None
    generator = np.random.default_rng(0)
    state, weights = generator.standard_normal((3, MEMBERS)), affine.weights(np.arange(6.0))
    costate, none = generator.standard_normal((2, MEMBERS)), np.zeros((0, MEMBERS))
    _, phi, _ = affine.step(state, weights, none, np.zeros((0, 1)))
    before, _ = affine.pull(state, phi, weights, none, np.zeros((0, 1)), costate)
    together, _ = affine.pointwise.pull(state[None], weights[None], none, np.zeros((1, 0)), costate)
    np.testing.assert_allclose(together, before, rtol=0, atol=1e-13)
