"""Losses against the oracle's, and the parts in which they are handed to the optimiser."""

import copy
import pickle
from typing import Any

import casadi as ca
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle import loss_and_slope
from test_learning import random_dataset

from problems.losses import (
    CROSS_ENTROPY,
    DISTANCE,
    DISTANCE_ON_THE_LINE,
    HINGE,
    L1,
    LOGISTIC,
    LOSSES,
    SQUARED,
    Loss,
)

Array = NDArray[Any]

EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES.values(), ids=lambda loss: loss.name)


def samples(loss: Loss, seed: int, outputs: int = 3, scale: float = 2.0) -> tuple[Array, Array]:
    """Five outputs and targets that suit the loss."""
    targets = random_dataset(loss, 5, 1, outputs, seed).targets
    return scale * np.random.default_rng(seed + 1).standard_normal(targets.shape), targets


def smooth_part(loss: Loss, z: Array, y: Array, width: float = 0.0) -> tuple[Array, ...]:
    """Values (N,), gradients (N, M) and Hessians (N, M, M) of the smooth part, by CasADi."""
    zs, ys = ca.SX.sym("z", z.shape[1]), ca.SX.sym("y", z.shape[1])
    value = loss.smooth(zs, ys, width)
    hessian, gradient = ca.hessian(value, zs)
    function = ca.Function("l", [zs, ys], [value, gradient, hessian])
    outputs = [function(*row) for row in zip(z, y, strict=True)]
    return tuple(np.array([output[j].full().squeeze() for output in outputs]) for j in range(3))


def violation(loss: Loss, z: Array, y: Array) -> Array:
    """What the soft rows add to the loss, (N,)."""
    if loss.kinks is None:
        return np.zeros(len(z))
    zs, ys = ca.SX.sym("z", z.shape[1]), ca.SX.sym("y", z.shape[1])
    expression, lower, upper = loss.kinks(zs, ys)
    function = ca.Function("r", [zs, ys], [expression])
    rows = np.array([function(*row).full().ravel() for row in zip(z, y, strict=True)])
    return (np.maximum(rows - upper, 0) + np.maximum(lower - rows, 0)).sum(axis=1)


def test_names_are_keys() -> None:
    assert all(name == loss.name for name, loss in LOSSES.items())
    assert DISTANCE_ON_THE_LINE.name == DISTANCE.name


@EVERY_LOSS
@settings(max_examples=25)
@given(seed=st.integers(0, 2**16), outputs=st.integers(1, 4), scale=st.sampled_from([0.1, 2, 30]))
def test_value_is_the_oracles(loss: Loss, seed: int, outputs: int, scale: float) -> None:
    z, y = samples(loss, seed, outputs, scale)
    expected = loss_and_slope(loss.name, z, y)[0]
    # cross-entropy is a difference of terms of the size of the outputs
    np.testing.assert_allclose(loss.value(z, y), expected, rtol=1e-13, atol=1e-15 * scale * 10)


@pytest.mark.parametrize(
    "loss", [*LOSSES.values(), DISTANCE_ON_THE_LINE], ids=lambda loss: loss.name
)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_smooth_part_and_violated_soft_rows_add_up_to_the_value(loss: Loss, seed: int) -> None:
    z, y = samples(loss, seed, outputs=1 if loss is DISTANCE_ON_THE_LINE else 3)
    parts = smooth_part(loss, z, y)[0] + violation(loss, z, y)
    np.testing.assert_allclose(parts, loss.value(z, y), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC, CROSS_ENTROPY], ids=lambda loss: loss.name)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_gradient_of_a_smooth_loss_is_the_oracles_and_its_hessian_is_not_negative(
    loss: Loss, seed: int
) -> None:
    z, y = samples(loss, seed)
    _, gradient, hessian = smooth_part(loss, z, y)
    expected = loss_and_slope(loss.name, z, y)[1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)
    assert np.linalg.eigvalsh(hessian).min() >= -1e-14


@pytest.mark.parametrize("width", [1e-8, 1e-3, 0.1])
def test_rounded_tip_of_the_distance_is_below_by_its_width_at_most(width: float) -> None:
    """sqrt(r^2 + delta^2) - delta: equal at the tip, delta below far away, convex throughout."""
    y = np.zeros((8, 2))
    z = np.outer([0, 1e-9, 1e-6, 1e-3, 0.1, 1, 10, 1000.0], [0.6, 0.8])
    value, gradient, hessian = smooth_part(DISTANCE, z, y, width)
    missing = DISTANCE.value(z, y) - value
    # rounding of numbers up to 1000
    assert (missing >= -2e-13).all()
    assert (missing <= width + 2e-13).all()
    assert value[0] == 0
    assert missing[-1] == pytest.approx(width, rel=1e-3, abs=2e-13)
    assert (np.linalg.norm(gradient, axis=1) <= 1 + 1e-15).all()
    np.testing.assert_allclose(hessian[0], np.eye(2) / width, rtol=1e-14)
    assert np.linalg.eigvalsh(hessian).min() >= -1e-9 / width


@EVERY_LOSS
def test_only_a_loss_that_needs_smoothing_depends_on_its_width(loss: Loss) -> None:
    z, y = samples(loss, 0)
    exact, rounded = (smooth_part(loss, z, y, width)[0] for width in (0.0, 0.1))
    assert np.array_equal(exact, rounded) == (not loss.needs_smoothing)
    assert loss.needs_smoothing == (loss is DISTANCE)
    assert (loss.kinks is not None) == (loss in (L1, HINGE))


def test_distance_on_the_line_is_the_absolute_value_and_the_distance() -> None:
    z, y = samples(DISTANCE_ON_THE_LINE, 0, outputs=1)
    expected = np.abs(z - y)[:, 0]
    for loss in (DISTANCE, DISTANCE_ON_THE_LINE, L1):
        np.testing.assert_allclose(loss.value(z, y), expected, rtol=1e-15)
    np.testing.assert_allclose(violation(DISTANCE_ON_THE_LINE, z, y), expected, rtol=1e-15)


@EVERY_LOSS
def test_losses_without_a_minimum_are_positive_and_vanish_at_infinity(loss: Loss) -> None:
    y = random_dataset(loss, 5, 1, 3).targets
    direction = 2 * y - 1 if loss.is_one_hot else y
    if loss.has_minimum:
        assert not loss.value(y, y).any()
    else:
        values = np.array([loss.value(scale * direction, y) for scale in (1, 4, 14)])
        assert (values > 0).all()
        assert (np.diff(values, axis=0) < 0).all()
        # 2 exp(-28) and 3 exp(-14)
        assert values[-1].max() < 3e-6
    assert loss.is_classification == (loss in (LOGISTIC, HINGE, CROSS_ENTROPY))


def test_cross_entropy_ignores_a_shift_of_all_logits_and_two_classes_are_logistic() -> None:
    z, y = samples(CROSS_ENTROPY, 0)
    shifted = CROSS_ENTROPY.value(z + 7.0, y)
    np.testing.assert_allclose(shifted, CROSS_ENTROPY.value(z, y), rtol=1e-13)
    z, y = samples(CROSS_ENTROPY, 1, outputs=2)
    margin, sign = z[:, :1] - z[:, 1:], 2 * y[:, :1] - 1
    np.testing.assert_allclose(CROSS_ENTROPY.value(z, y), LOGISTIC.value(margin, sign), rtol=1e-13)


def test_cross_entropy_is_differentiable_where_its_largest_logits_tie() -> None:
    z, y = np.array([[1.0, 1.0, -2.0], [0.5, 0.5, 0.5]]), np.eye(3)[[0, 2]]
    _, gradient, hessian = smooth_part(CROSS_ENTROPY, z, y)
    probability = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, probability - y, rtol=1e-14, atol=1e-15)
    for p, h in zip(probability, hessian, strict=True):
        np.testing.assert_allclose(h, np.diag(p) - np.outer(p, p), atol=1e-15)


@EVERY_LOSS
@pytest.mark.parametrize("size", [300.0, 1000.0, 1e5])
def test_values_and_derivatives_are_finite_far_away(loss: Loss, size: float) -> None:
    """The exponential of 710 is no number any more."""
    y = random_dataset(loss, 4, 1, 2).targets
    z = size * np.array([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])
    for part in (loss.value(z, y), *smooth_part(loss, z, y)):
        assert np.isfinite(part).all()


@EVERY_LOSS
def test_a_copy_of_a_loss_is_the_very_same(loss):
    assert pickle.loads(pickle.dumps(loss)) is loss
    assert copy.deepcopy(loss) is loss
