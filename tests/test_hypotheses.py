"""The hypotheses of the theorem, tested on the field and not assumed."""

from dataclasses import replace

import pytest

from problems.datasets import encode, load
from problems.hypotheses import applicability, homogeneity
from problems.learning import LearningProblem
from problems.losses import CROSS_ENTROPY, LOGISTIC
from problems.regularizers import H1, L1_PENALTY
from problems.vector_fields import (
    ACTIVATIONS,
    BOTTLENECK,
    FIELDS,
    INSIDE,
    OUTSIDE,
    RELU,
    TANH,
    VectorField,
)


def problem(loss: str = "squared", **changes) -> LearningProblem:
    data = encode(load("moons", samples=6, seed=0), loss)
    return LearningProblem(data, layers=3, **changes)


NO_BIASES = replace(
    BOTTLENECK,
    name="bottleneck without biases",
    shapes=lambda width, hidden: {"w1": (hidden, width), "w2": (width, hidden)},
    rate=lambda x, u, s: u["w2"] @ s(u["w1"] @ x),
)
CUBIC = VectorField(
    "a user's",
    lambda width, hidden: {"w": (width, width)},
    lambda x, u, s: (u["w"] @ x) * (u["w"] @ s(x)) * (u["w"] @ x),
    lambda u, slope: 1.0,
)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda a: a.name)
@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda f: f.name)
def test_the_tested_degree_is_the_one_of_the_table_of_fields(field, activation):
    found = homogeneity(problem(field=field, activation=activation))
    is_one = field is INSIDE or (field is OUTSIDE and activation.is_homogeneous)
    assert found.degree == (1 if is_one else None)
    assert (found.deviation < 1e-12) == is_one


@pytest.mark.parametrize(("field", "degree"), [(NO_BIASES, 2), (CUBIC, 3)])
def test_a_users_field_gets_its_own_degree(field, degree):
    assert homogeneity(problem(field=field, activation=RELU)).degree == degree


def says(in_horizon: bool = True, no_interpolant: str | None = None, **changes) -> str:
    asked = problem(**changes)
    found = applicability(asked, homogeneity(asked), in_horizon, no_interpolant)
    assert found.applies == (not found.reasons)
    return " | ".join([*found.reasons, found.statement])


def test_the_theorem_applies_to_the_inside_field_and_claims_its_bound():
    assert says().startswith("E <= lambda / T (|v*|^2 - |v|^2)")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"field": OUTSIDE, "activation": TANH}, "not homogeneous"),
        ({"field": OUTSIDE, "activation": TANH}, "speed between -1 and 1"),
        ({"field": OUTSIDE, "activation": TANH, "horizon": 5.0}, "enough for these targets"),
        ({"field": NO_BIASES, "activation": RELU}, "the same for every T"),
        ({"field": NO_BIASES, "activation": RELU}, "degree 2, not 1"),
        ({"field": CUBIC, "activation": RELU}, "grows with T"),
        ({"field": BOTTLENECK, "activation": RELU}, "no limit is claimed"),
        ({"loss": "logistic"}, "not attained"),
        ({"loss": "cross-entropy"}, "not attained"),
        ({"penalty": H1}, "T^2"),
        ({"penalty": L1_PENALTY}, "every horizon"),
        ({"tracking": 1.0}, "turnpike theorem"),
        ({"trained_readout": True}, "does not fade"),
        ({"no_interpolant": "rows 1 and 2 have equal inputs."}, "rows 1 and 2"),
    ],
)
def test_a_problem_outside_the_theorem_is_told_why(changes, words):
    if "loss" in changes:
        data = encode(load("moons", samples=6, seed=0), changes["loss"])
        loss = {"logistic": LOGISTIC, "cross-entropy": CROSS_ENTROPY}[changes["loss"]]
        asked = LearningProblem(data, loss=loss, layers=3)
        found = applicability(asked, homogeneity(asked), True, None)
        assert not found.applies
        assert words in " | ".join(found.reasons)
        return
    assert words in says(**changes)


def test_a_ladder_in_lambda_needs_no_homogeneity():
    text = says(in_horizon=False, field=OUTSIDE, activation=TANH, horizon=5.0)
    assert text.startswith("E <= lambda (|v*|^2 - |v|^2)")
