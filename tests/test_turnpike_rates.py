"""Predicted rates against a linear-quadratic problem solved densely, and kernels by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocp import EULER, HEUN, MIDPOINT, RK4, rollout
from ocp.trajectory import random_guess
from problems.datasets import Dataset
from problems.learning import LearningProblem
from problems.losses import DISTANCE
from problems.regularizers import H1, L1_PENALTY
from problems.turnpike_rates import discrete_rate, on_target, predicted_rates, tangent_kernel
from problems.vector_fields import BOTTLENECK, OUTSIDE, RELU, SIGMOID, TANH

SCHEMES = (EULER, MIDPOINT, HEUN, RK4)


def decay_of_one_mode(rate, step, tableau, substeps, rate_weight, layers):
    """Minimise Int r^2 + |v|^2 / rate^2 (+ rate_weight |v'|^2 / rate^2), r' = v, r(0) = 1."""
    nodes = (np.arange(substeps)[:, None] + tableau.c).ravel() / substeps
    weights = np.tile(tableau.b, substeps) / substeps
    hessian = np.zeros((layers + 1, layers + 1))

    def add(first, coefficients, weight):
        row = np.zeros(layers + 1)
        row[first : first + len(coefficients)] = coefficients
        hessian[:] += weight * np.outer(row, row)

    for k in range(layers):
        for b, c in zip(weights, nodes, strict=True):
            add(k, [1 - c, c], b * step)
        add(k, [-1 / step, 1 / step], step / rate**2)
        if k + 1 < layers:
            add(k, np.array([1, -2, 1]) / step**2, rate_weight * step / rate**2)
    found = np.ones(layers + 1)
    found[1:] = np.linalg.solve(hessian[1:, 1:], -hessian[1:, 0])
    return found


@pytest.mark.parametrize("tableau", SCHEMES, ids=lambda t: t.name)
@pytest.mark.parametrize("substeps", [1, 3])
def test_the_discrete_rate_is_that_of_the_discrete_optimum(tableau, substeps):
    rate, step = 0.9, 0.3
    found = decay_of_one_mode(rate, step, tableau, substeps, 0.0, 300)
    measured = -np.log(found[40] / found[10]) / (30 * step)
    assert discrete_rate(rate, step, tableau, substeps) == pytest.approx(measured, rel=1e-10)


def test_the_discrete_rate_with_a_penalty_on_the_derivative_is_that_of_the_discrete_optimum():
    rate, step = 0.3, 0.25
    found = decay_of_one_mode(rate, step, EULER, 1, 0.5, 400)
    measured = -np.log(found[200] / found[150]) / (50 * step)
    assert discrete_rate(rate, step, rate_weight=0.5) == pytest.approx(measured, rel=1e-8)


@given(st.floats(0.01, 10.0), st.floats(0.01, 0.5))
def test_euler_has_its_closed_formula(rate, step):
    expected = 2 / step * np.arcsinh(rate * step / 2)
    assert discrete_rate(rate, step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("tableau", SCHEMES, ids=lambda t: t.name)
def test_the_discrete_rate_tends_to_the_continuous_one_at_second_order(tableau):
    gaps = [abs(discrete_rate(1.0, h, tableau) - 1.0) for h in (0.1, 0.05, 0.025)]
    assert np.log2(gaps[1] / gaps[2]) == pytest.approx(2.0, abs=0.01)


def test_a_mode_that_nothing_moves_has_rate_zero():
    assert discrete_rate(0.0, 0.1) == 0.0


def problem(samples=3, width=2, outputs=1, **others):
    generator = np.random.default_rng(samples + 10 * width)
    data = Dataset(
        "made", generator.normal(size=(samples, 2)), generator.normal(size=(samples, outputs))
    )
    settings = {"terminal": 0.0, "tracking": 2.0, "weight_decay": 0.1, "layers": 4}
    return LearningProblem(data, width=width, **{**settings, **others})


def states_of(posed, seed=0):
    return np.random.default_rng(seed).normal(size=(posed.samples, posed.state_size))


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_kernel_of_the_inside_field_is_the_feature_matrix_once_per_output(outputs):
    posed = problem(samples=5, width=3, outputs=outputs)
    x = states_of(posed)
    features = np.vstack([np.tanh(x).T, np.ones(5)])
    expected = np.sort(np.repeat(np.linalg.svd(features, compute_uv=False), outputs))[::-1]
    found = tangent_kernel(posed, x, np.zeros(0))
    assert found.singular_values[: expected.size] == pytest.approx(expected, rel=1e-12)
    assert found.rank == 4 * outputs
    assert found.residuals == 5 * outputs
    assert not found.has_full_rank


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda t: t.name)
def test_the_kernel_does_not_depend_on_the_scheme(scheme):
    posed = problem(scheme=scheme, substeps=2)
    x = states_of(posed)
    expected = tangent_kernel(problem(), x, np.zeros(0)).response
    assert tangent_kernel(posed, x, np.zeros(0)).response == pytest.approx(expected, abs=1e-14)


def test_the_kernel_of_the_outside_field_has_states_for_features():
    posed = problem(field=OUTSIDE)
    x = states_of(posed)
    expected = np.linalg.svd(np.vstack([x.T, np.ones(3)]), compute_uv=False)
    found = tangent_kernel(posed, x, np.zeros(0))
    assert found.singular_values == pytest.approx(expected, rel=1e-12)
    assert found.is_at_rest


def test_u_zero_does_not_hold_the_states_of_a_sigmoid_outside():
    posed = problem(field=OUTSIDE, activation=SIGMOID)
    found = tangent_kernel(posed, states_of(posed), np.zeros(0))
    assert found.drift == pytest.approx(0.5 * np.sqrt(2))
    assert not found.is_at_rest


def test_the_linearised_bottleneck_moves_the_mean_residual_only():
    posed = problem(samples=4, outputs=2, field=BOTTLENECK, hidden=3, activation=TANH)
    found = tangent_kernel(posed, states_of(posed), np.zeros(0))
    assert found.rank == 2
    mean = np.tile([1.0, 0.0], 4) / 2
    assert found.along(mean) == pytest.approx(2.0)
    difference = np.array([1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert found.along(difference) == pytest.approx(0.0, abs=1e-14)


def test_a_relu_outside_responds_along_the_ray_of_a_control():
    posed = problem(field=OUTSIDE, activation=RELU)
    x, control = states_of(posed), np.ones(6)
    active = (x.sum(axis=1) + 1 > 0).astype(float)
    expected = np.linalg.svd(active * np.vstack([x.T, np.ones(3)]), compute_uv=False)
    found = tangent_kernel(posed, x, np.zeros(0), 1e-6 * control)
    assert found.singular_values[: expected.size] == pytest.approx(expected, abs=1e-12)


def test_rates_scale_with_tracking_samples_and_weight_decay():
    posed = problem()
    kernel = tangent_kernel(posed, states_of(posed), np.zeros(0))
    rates = predicted_rates(posed, kernel)
    assert rates.continuous == pytest.approx(kernel.singular_values * np.sqrt(2.0 / (3 * 0.1)))
    assert (rates.discrete < rates.continuous).all()


def test_rates_with_a_trained_readout_are_those_of_its_outputs():
    posed = problem(width=3, outputs=1, trained_readout=True)
    x, weight = states_of(posed), np.array([1.0, -2.0, 0.5])
    expected = np.linalg.norm(weight) * np.linalg.svd(
        np.vstack([np.tanh(x).T, np.ones(3)]), compute_uv=False
    )
    found = tangent_kernel(posed, x, np.append(weight, 0.3))
    assert found.singular_values == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("penalty", [L1_PENALTY, H1], ids=lambda p: p.name)
def test_an_l1_penalty_has_no_rate_but_h1_has(penalty):
    posed = problem(penalty=penalty)
    kernel = tangent_kernel(posed, states_of(posed), np.zeros(0))
    if penalty is H1:
        assert (predicted_rates(posed, kernel).discrete > 0).all()
    else:
        with pytest.raises(ValueError, match="quadratic penalty"):
            predicted_rates(posed, kernel)


def test_states_moved_onto_the_targets_have_no_residual_and_keep_what_is_not_read():
    posed = problem(width=3, outputs=2, loss=DISTANCE)
    x = states_of(posed)
    moved = on_target(posed, x, np.zeros(0), posed.layers)
    assert moved[:, :2] == pytest.approx(posed.dataset.targets)
    assert moved[:, 2] == pytest.approx(x[:, 2])


def test_the_kernel_is_the_derivative_of_the_readout_by_finite_differences():
    posed = problem(samples=4, width=3, outputs=2, field=BOTTLENECK, hidden=2)
    start = random_guess(posed.staged, 0, 0.5)
    x, step = start.states[-1], posed.horizon / posed.layers
    kernel = tangent_kernel(posed, x, np.zeros(0))
    one = LearningProblem(
        Dataset("made", x, posed.dataset.targets),
        field=BOTTLENECK,
        hidden=2,
        layers=1,
        horizon=step,
        weight_decay=0.1,
    )
    for j in range(0, kernel.response.shape[1], 5):
        unit = np.zeros(kernel.response.shape[1])
        unit[j] = 1e-6
        plus, minus = (rollout(one.staged, sign * unit).states[-1] for sign in (1, -1))
        slope = (plus - minus)[:, :2].ravel() / (2e-6 * step)
        assert kernel.response[:, j] == pytest.approx(slope, abs=1e-8)
