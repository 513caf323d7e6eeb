"""Sweeps through many stages with all arrays in place give what the stages give one by one."""

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
    if kind == "identity":
        features = x
    if kind == "composed":
        features = x * ca.exp(-x * x) + ca.tanh(d) * ca.sin(x) / (1 + x**2)
    if kind == "half":
        features = ca.vertcat(ca.tanh(x[:2]), d)
    if kind == "shifted rest":
        rest = x + d
    if kind == "shared weights":
        weight = ca.reshape(u[[0, 1, 2, 1, 3, 4, 2, 4, 5]], n, n)
    if kind == "mixed":
        features = ca.tanh(x + x[::-1])
    if kind == "nonlinear rest":
        rest = ca.sin(x)
    successor = rest + c * (weight @ features + bias)
    found = AffineStage.of(ca.Function("step", [x, u, p, d, c], [successor, ca.densify(cost)]))
    assert found is not None
    return found


KINDS = ["plain", "decay and cost", "permuted", "identity", "composed", "shared weights"]


@pytest.mark.parametrize("several", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_gives_what_its_stages_give_one_by_one(kind: str, several: int) -> None:
    affine, generator = stage(kind), np.random.default_rng(0)
    data = generator.standard_normal((1, MEMBERS))
    constants = generator.uniform(0.1, 0.3, (STAGES, 1))
    controls = generator.standard_normal((STAGES, affine.sizes[2]))
    chain = affine.chained(constants, MEMBERS)
    for _ in range(2):  # the second sweep writes over the first
        start = generator.standard_normal((3, MEMBERS))
        after, cost = chain.forward(start, data, controls)
        x, states, features, expected = start, [], [], 0.0
        weights = [affine.weights(control) for control in controls]
        for k in range(STAGES):
            states.append(x)
            x, phi, own = affine.step(x, weights[k], data, constants[k][:, None])
            features.append(phi)
            expected += float(np.sum(own))
        np.testing.assert_allclose(after, x, rtol=0, atol=1e-13)
        np.testing.assert_allclose(chain.states, states, rtol=0, atol=1e-13)
        assert cost == pytest.approx(expected, rel=1e-13, abs=1e-13)
        last = generator.standard_normal((3, several, MEMBERS))
        before, costates = chain.backward(last.reshape(3, -1))
        slopes = chain.member_slopes(costates)
        for c in range(several):
            costate = last[:, c]
            apart = costates.reshape(STAGES, 3, several, MEMBERS)[:, :, c]
            for k in range(STAGES - 1, -1, -1):
                np.testing.assert_allclose(apart[k], costate, rtol=0, atol=1e-13)
                known = (features[k], weights[k], data, constants[k][:, None])
                costate, own = affine.pull(states[k], *known, costate)
                np.testing.assert_allclose(slopes[k, :, c].sum(axis=1), own, rtol=0, atol=1e-12)
            found = before.reshape(3, several, MEMBERS)[:, c]
            np.testing.assert_allclose(found, costate, rtol=0, atol=1e-13)
        if several == 1:
            sums = chain.control_slopes(costates)
            np.testing.assert_allclose(sums, slopes.sum(axis=(2, 3)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["mixed", "nonlinear rest", "shifted rest", "half"])
def test_other_stages_are_not_taken_for_such(kind: str) -> None:
    assert stage(kind).chain is None


@pytest.mark.parametrize("block", [17, 60])
@pytest.mark.parametrize("tracking", [0.0, 0.5])
@pytest.mark.parametrize("field", [INSIDE, OUTSIDE], ids=lambda field: field.name)
def test_the_gradient_does_not_depend_on_how_many_members_are_taken_together(
    field, tracking, block, monkeypatch
) -> None:
    monkeypatch.setattr(ocp.reduced, "MEMBER_BLOCK", block)
    data = encode(load("moons", samples=60), SQUARED.name)
    problem = LearningProblem(data, field=field, layers=12, weight_decay=1e-2, tracking=tracking)
    staged = problem.staged
    decisions = random_controls(staged, 1, 1.0)
    linearization = linearize(staged, rollout(staged, decisions))
    blocks = (*linearization.stages, *linearization.shared)
    none = tuple(np.zeros_like(values.rows) for values in blocks)
    exact = reduced_gradient(linearization, adjoint(linearization, none), none)
    reduced = Reduced(staged)
    cost, gradient = reduced.cost_and_gradient(decisions)
    assert cost == pytest.approx(linearization.objective, rel=1e-13)
    assert reduced.cost(decisions) == pytest.approx(cost, rel=1e-14)
    for found, expected in zip(
        reduced.trajectory(decisions).states, linearization.trajectory.states, strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(gradient, exact.value, rtol=0, atol=1e-12)


def test_a_stage_that_changes_the_width_is_a_chain_of_its_own() -> None:
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u", 6)
    nothing = [ca.SX.sym(name, 0) for name in "pdc"]
    successor = x[:2] + ca.reshape(u, 2, 3) @ ca.tanh(x)
    affine = AffineStage.of(ca.Function("step", [x, u, *nothing], [successor, ca.SX(1, 1)]))
    assert affine is not None
    generator = np.random.default_rng(0)
    state, control = generator.standard_normal((3, MEMBERS)), np.arange(6.0)
    weights, costate = affine.weights(control), generator.standard_normal((2, MEMBERS))
    none, no_constants = np.zeros((0, MEMBERS)), np.zeros((0, 1))
    chain = affine.chained(np.zeros((1, 0)), MEMBERS)
    successors, phi, _ = affine.step(state, weights, none, no_constants)
    np.testing.assert_allclose(chain.forward(state, none, control[None])[0], successors, atol=1e-13)
    before, slopes = affine.pull(state, phi, weights, none, no_constants, costate)
    found, after = chain.backward(costate)
    np.testing.assert_allclose(found, before, rtol=0, atol=1e-13)
    np.testing.assert_allclose(chain.control_slopes(after)[0], slopes, rtol=0, atol=1e-12)
