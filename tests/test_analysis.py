"""Fits of rates, their confidence intervals, and norms of piecewise constant functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from ocp.analysis import (
    fit_exponential,
    fit_line,
    fit_power,
    l2_distance,
    l2_norm,
    resample,
    settled,
)

NUMBERS = st.floats(-3, 3)


@given(NUMBERS, NUMBERS)
@settings(derandomize=True, max_examples=30)
def test_a_straight_line_is_found_exactly(slope, intercept):
    x = np.array([0.0, 1.0, 2.5, 4.0])
    fit = fit_line(x, intercept + slope * x)
    assert abs(fit.slope - slope) < 1e-12
    assert abs(fit.intercept - intercept) < 1e-12
    assert fit.deviation < 1e-12
    assert fit.interval is not None
    assert fit.interval[0] <= fit.slope <= fit.interval[1]


def test_the_interval_is_that_of_students_distribution():
    generator = np.random.default_rng(1)
    x = np.linspace(0, 1, 9)
    y = 2 - 3 * x + 0.1 * generator.standard_normal(9)
    fit, reference = fit_line(x, y), linregress(x, y)
    quantile = 2.364624251592784  # Student, 97.5 %, 7 degrees of freedom
    assert fit.slope == pytest.approx(reference.slope, rel=1e-12)
    half = (fit.interval[1] - fit.interval[0]) / 2
    assert half == pytest.approx(quantile * reference.stderr, rel=1e-10)


def test_nineteen_of_twenty_intervals_hold_the_true_slope():
    x = np.linspace(0, 1, 6)
    hits = 0
    for seed in range(400):
        y = x + np.random.default_rng(seed).standard_normal(6)
        low, high = fit_line(x, y).interval
        hits += low <= 1.0 <= high
    assert abs(hits / 400 - 0.95) < 0.035  # three standard deviations of 400 trials


def test_a_power_law_has_its_exponent_and_an_exponential_its_rate():
    t = np.array([1.0, 2.0, 5.0, 9.0])
    assert fit_power(t, 3 * t**-1.5).slope == pytest.approx(-1.5, abs=1e-12)
    assert fit_exponential(t, 3 * np.exp(-0.7 * t)).slope == pytest.approx(-0.7, abs=1e-12)


def test_two_points_have_a_slope_but_no_interval():
    fit = fit_line([0, 1], [1, 3])
    assert fit.slope == pytest.approx(2)
    assert fit.interval is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit_line([1.0], [1.0]), "at least 2"),
        (lambda: fit_line([1.0, 1.0], [0.0, 1.0]), "different abscissas"),
        (lambda: fit_line([0.0, np.nan], [0.0, 1.0]), "finite"),
        (lambda: fit_line([0.0, 1.0], [0.0, 1.0], 95), "between 0 and 1"),
        (lambda: fit_power([1.0, 2.0], [1.0, 0.0]), "positive y"),
        (lambda: l2_distance(np.ones((2, 1)), np.ones((2, 3))), "differ in their components"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_settled_part_is_the_second_half_but_three_points_at_least():
    assert list(range(10)[settled(10)]) == [5, 6, 7, 8, 9]
    assert list(range(4)[settled(4)]) == [1, 2, 3]
    assert list(range(2)[settled(2)]) == [0, 1]


def test_the_distance_does_not_depend_on_how_the_intervals_are_cut():
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((4, 2)), generator.standard_normal((6, 2))
    fine_a, fine_b = np.repeat(a, 6, axis=0), np.repeat(b, 4, axis=0)
    expected = l2_norm(fine_a - fine_b, np.full(24, 1 / 24))
    assert l2_distance(a, b) == pytest.approx(expected, rel=1e-13)
    assert l2_distance(a, a) == 0.0
    assert l2_distance(a, b, 4.0) == pytest.approx(2 * expected, rel=1e-13)


@pytest.mark.parametrize("intervals", [1, 2, 3, 4, 6, 8, 20])
def test_resampling_keeps_the_integral_and_never_raises_the_norm(intervals):
    values = np.random.default_rng(0).standard_normal((4, 3))
    again = resample(values, intervals)
    assert again.shape == (intervals, 3)
    assert np.allclose(again.mean(axis=0), values.mean(axis=0), atol=1e-14)
    norm = l2_norm(values, np.full(4, 0.25))
    assert l2_norm(again, np.full(intervals, 1 / intervals)) <= norm * (1 + 1e-14)
    if intervals % 4 == 0:
        assert l2_distance(again, values) == 0.0
