"""Terms of the controls alone, summed over all decisions."""

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest

from ocp.shared_terms import SharedTerms
from ocp.stages import Rows, SharedTerm, StageFunction
from problems.datasets import encode, load
from problems.learning import LearningProblem
from problems.regularizers import H1, L2

LAYERS, STEP = 5, 0.2


def terms_of(**options) -> tuple[SharedTerms, np.ndarray]:
    data = encode(load("xor", samples=4), "squared")
    problem = LearningProblem(data, layers=LAYERS, weight_decay=0.3, **options)
    staged = problem.staged
    decisions = np.random.default_rng(1).standard_normal(staged.decision_size)
    return SharedTerms(staged), decisions


def test_weight_decay_is_lambda_times_the_integral_of_the_squared_control():
    terms, u = terms_of(penalty=L2)
    cost, gradient = terms.cost_and_gradient(u)
    assert cost == pytest.approx(0.3 * STEP * (u @ u), rel=1e-14)
    assert terms.cost(u) == cost
    np.testing.assert_allclose(gradient, 0.6 * STEP * u, rtol=1e-14)
    np.testing.assert_allclose(terms.curvature(u), np.full(u.size, 0.6 * STEP), rtol=1e-14)
    assert terms.are_separable


def test_terms_that_share_a_control_add_their_derivatives():
    terms, u = terms_of(penalty=H1)
    assert not terms.are_separable
    _, gradient = terms.cost_and_gradient(u)
    for j in range(0, u.size, 7):
        unit = np.zeros(u.size)
        unit[j] = 1e-5
        slope = (terms.cost(u + unit) - terms.cost(u - unit)) / 2e-5
        assert gradient[j] == pytest.approx(slope, rel=1e-7, abs=1e-8)
        ahead, behind = (terms.cost_and_gradient(u + sign * unit)[1] for sign in (1, -1))
        second = (ahead - behind)[j] / 2e-5
        assert terms.curvature(u)[j] == pytest.approx(second, rel=1e-7)


@pytest.mark.parametrize(
    "cost_of",
    [
        lambda u: 2.0 * ca.sumsqr(u - 1.0),
        lambda u: 2.0 * ca.sumsqr(u) + 3.0,
        lambda u: ca.sum1(u**4),
        lambda u: u[0] * u[1] + ca.sumsqr(u),
    ],
    ids=["shifted squares", "squares and a constant", "fourth powers", "mixed"],
)
def test_terms_other_than_multiples_of_squares_are_evaluated_as_they_are(cost_of):
    staged = LearningProblem(encode(load("xor", samples=4), "squared"), layers=LAYERS).staged
    size, nothing = staged.stages[0].control_size, ca.SX(0, 1)
    v = ca.SX.sym("v", size)
    function = StageFunction.of("term", [v], [ca.SX.sym("g")], nothing, cost_of(v), nothing)
    terms = SharedTerms(
        replace(
            staged,
            shared=tuple(
                SharedTerm("term", function, (k,), np.ones(1), Rows.none()) for k in range(LAYERS)
            ),
        )
    )
    u = np.random.default_rng(1).standard_normal(staged.decision_size)
    evaluate = ca.Function("f", [v], [cost_of(v), ca.gradient(cost_of(v), v)])
    expected = [evaluate(part) for part in u.reshape(LAYERS, size)]
    cost, gradient = terms.cost_and_gradient(u)
    assert cost == pytest.approx(sum(float(value) for value, _ in expected), rel=1e-13)
    assert terms.cost(u) == pytest.approx(cost, rel=1e-15)
    slopes = np.concatenate([np.asarray(slope).ravel() for _, slope in expected])
    np.testing.assert_allclose(gradient, slopes, rtol=1e-13, atol=1e-13)
