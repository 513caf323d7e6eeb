"""Penalties on the control, against the oracle's sums and what the stages count."""

from typing import Any

import casadi as ca
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import control_penalty
from test_learning import evaluated, network_of, small_problem

from ocp import EULER, TimeGrid, certify, discretize, rollout, solve_staged
from problems.regularizers import H1, L1_PENALTY, L2, PENALTIES, Penalty
from problems.training import assess, random_controls
from problems.vector_fields import BOTTLENECK

EVERY_PENALTY = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=lambda p: p.name)
ELASTIC = Penalty("elastic", square=0.5, rate=0.2, absolute=0.3)


def random_control(layers: int, size: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((layers, size))


def test_names_are_keys() -> None:
    assert all(name == penalty.name for name, penalty in PENALTIES.items())


@EVERY_PENALTY
@settings(max_examples=20)
@given(layers=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_integral_is_the_oracles_sum(penalty: Penalty, layers: int, seed: int) -> None:
    problem = small_problem(field=BOTTLENECK, penalty=penalty, layers=layers)
    solution = evaluated(problem, random_controls(problem.staged, seed, 1.0))
    found = penalty.integral(solution.trajectory.control_array, problem.grid.steps)
    expected = control_penalty(network_of(problem), solution.weights)
    assert found == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("penalty", [*PENALTIES.values(), ELASTIC], ids=lambda p: p.name)
@pytest.mark.parametrize("steps", [[0.5, 0.5, 0.5], [0.2, 0.7, 0.4], [1.3]], ids=str)
def test_stages_count_weight_decay_times_the_integral_on_any_grid(
    penalty: Penalty, steps: list[float]
) -> None:
    problem = small_problem(penalty=penalty, horizon=sum(steps), layers=len(steps))
    staged = discretize(problem.control_problem(), TimeGrid.graded(steps), EULER)
    trajectory = rollout(staged, random_controls(staged, 0, 1.0))
    error = problem.error(trajectory.states[-1], *problem.readout(trajectory.parameters))
    decay = assess(staged, trajectory, 0.0, 1e-8).objective - error
    expected = penalty.integral(trajectory.control_array, np.array(steps))
    assert decay == pytest.approx(problem.weight_decay * expected, rel=1e-12)


@EVERY_PENALTY
def test_density_and_soft_rows_are_the_penalty_of_one_layer(penalty: Penalty) -> None:
    u = ca.SX.sym("u", 3)
    value, weight = np.array([[0.3, -1.2, 0.5]]), 0.7
    density = weight * float(ca.Function("c", [u], [penalty.cost(u)])(value[0]))
    for row in penalty.constraints(u, weight):
        assert np.array_equal(row.lower, row.upper)
        size = np.abs(ca.Function("r", [u], [row.expression])(value[0]).full().ravel() - row.lower)
        density += row.weight * float(size.sum())
    assert density == pytest.approx(weight * penalty.integral(value, np.ones(1)), rel=1e-14)


def test_penalties_of_a_ramp_are_known_sums() -> None:
    """u_k = c k on K = 4 layers of h = 1/2: sums of k^2 are 14, of k are 6, of squared steps 3."""
    ramp, steps = -0.5 * np.arange(4.0)[:, None], np.full(4, 0.5)
    assert L2.integral(ramp, steps) == pytest.approx(0.5 * 0.25 * 14, rel=1e-15)
    assert L1_PENALTY.integral(ramp, steps) == pytest.approx(0.5 * 0.5 * 6, rel=1e-15)
    assert H1.integral(ramp, steps) == pytest.approx(0.5 * 0.25 * 14 + 3 * 0.25 / 0.5, rel=1e-15)


def test_derivative_of_a_smooth_control_is_integrated_at_second_order() -> None:
    """u = sin(pi t) at mid-layers on [0, 1]: Int u^2 + u'^2 = (1 + pi^2) / 2.

    The squared derivative is summed over the K - 1 inner nodes, which leaves out two half layers:
    order 1 in all, with the constant h pi^2, and order 2 with them.
    """
    depths, errors = np.array([20, 40, 80]), []
    for layers in depths:
        steps = np.full(layers, 1 / layers)
        control = np.sin(np.pi * (np.arange(layers) + 0.5) / layers)[:, None]
        ends = np.pi**2 / layers
        errors.append(H1.integral(control, steps) + ends - (1 + np.pi**2) / 2)
    slope = np.polyfit(np.log(depths), np.log(np.abs(errors)), 1)[0]
    assert -slope == pytest.approx(2, abs=0.15)


@EVERY_PENALTY
@settings(max_examples=20)
@given(
    layers=st.integers(1, 5), size=st.integers(1, 4), seed=st.integers(0, 99), c=st.floats(-5, 5)
)
def test_penalties_scale_as_norms_do(
    penalty: Penalty, layers: int, size: int, seed: int, c: float
) -> None:
    control, steps = random_control(layers, size, seed), np.full(layers, 0.3)
    power = 1 if penalty is L1_PENALTY else 2
    expected = abs(c) ** power * penalty.integral(control, steps)
    assert penalty.integral(c * control, steps) == pytest.approx(expected, rel=1e-13)
    assert penalty.integral(control[:, ::-1], steps) == pytest.approx(
        penalty.integral(control, steps), rel=1e-13
    )


def test_constant_control_has_no_derivative_to_pay_for() -> None:
    control, steps = np.tile(random_control(1, 4, 0), (5, 1)), np.full(5, 0.3)
    assert H1.integral(control, steps) == pytest.approx(L2.integral(control, steps), rel=1e-15)


def test_penalty_without_weight_has_no_rows() -> None:
    u = ca.SX.sym("u", 2)
    assert L1_PENALTY.constraints(u, 0.0) == []
    assert L2.constraints(u, 1.0) == []
    assert len(L1_PENALTY.constraints(u, 1.0)) == 1


def test_zero_weight_decay_leaves_the_error_alone() -> None:
    for penalty in PENALTIES.values():
        problem = small_problem(penalty=penalty, weight_decay=0.0)
        solution = evaluated(problem, random_controls(problem.staged, 0, 1.0))
        assert solution.solution.objective == pytest.approx(solution.errors[-1], rel=1e-14)


def test_mixed_penalty_is_minimised_like_any_other() -> None:
    """0 is in dE/du + lambda h (2 square u + absolute sign u), control by control.

    The derivative of the error is a central difference of step 1e-6, good to 1e-9.
    """
    elastic = Penalty("elastic net", square=0.5, absolute=0.3)
    problem = small_problem(penalty=elastic, weight_decay=0.1)
    solution = solve_staged(
        problem.staged, rollout(problem.staged, random_controls(problem.staged, 3, 1.0))
    )
    assert solution.is_solved
    u = solution.trajectory.decisions
    bare = small_problem(penalty=elastic, weight_decay=0.0)
    step, slope = 1e-6, 0.1 * problem.horizon / problem.layers
    for j in range(u.size):
        values = []
        for sign in (1, -1):
            shifted = u + sign * step * (np.arange(u.size) == j)
            values.append(evaluated(bare, shifted).solution.objective)
        rest = (values[0] - values[1]) / (2 * step) + slope * u[j]
        if abs(u[j]) > 1e-6:
            assert rest + 0.3 * slope * np.sign(u[j]) == pytest.approx(0, abs=1e-8)
        else:
            assert abs(rest) <= 0.3 * slope + 1e-8
    assert certify(problem.staged, solution.trajectory).is_stationary(1e-8)
