"""Minimal-norm interpolation, its multipliers, and what they predict of training."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracle import Array, forward, objective_and_gradient, unpack
from scipy import optimize  # type: ignore[import-untyped,unused-ignore]
from test_learning import (
    IDENTITY,
    SMOOTH_ACTIVATIONS,
    network_of,
    small_problem,
    vector_of,
)
from test_training import solve_from

from ocp import EULER, HEUN, RK4, SolveOptions, Status
from problems.datasets import Dataset
from problems.interpolation import minimal_norm, unreachable
from problems.learning import LearningProblem
from problems.losses import DISTANCE, SQUARED
from problems.regularizers import H1, L1_PENALTY
from problems.training import LearningSolution, train
from problems.vector_fields import (
    ACTIVATIONS,
    BOTTLENECK,
    GELU,
    INSIDE,
    LEAKY_RELU,
    OUTSIDE,
    RELU,
    SIGMOID,
    SINE,
    SOFTPLUS,
    TANH,
)

PRECISE = SolveOptions(tolerance=1e-10)


def three_points(outputs: int = 1, **choices: Any) -> LearningProblem:
    """Interpolation of three points of the plane, well apart, by four Euler layers."""
    targets = np.array([[0.6, -0.3], [-0.4, 0.5], [0.2, 0.9]])[:, :outputs]
    dataset = Dataset("three", [[0.5, 0.2], [-0.7, 0.4], [0.1, -0.6]], targets)
    return minimal_norm(LearningProblem(dataset, **({"layers": 4} | choices)))


def retargeted(problem: LearningProblem, targets: Array) -> LearningProblem:
    data = problem.dataset
    return replace(problem, dataset=Dataset(data.name, data.inputs, targets))


def solved(problem: LearningProblem, seed: int = 0, starts: int = 1) -> LearningSolution:
    solution = train(problem, seed=seed, starts=starts, options=PRECISE)
    assert solution.status is Status.SOLVED
    return solution


def outputs_and_slopes(solution: LearningSolution) -> tuple[Array, Array]:
    """The oracle's outputs z (N M,) and their derivatives in its unknowns, by complex steps."""
    network, vector, step = network_of(solution.problem), vector_of(solution), 1e-30

    def outputs(point: Array) -> Array:
        controls, readout = unpack(network, point)
        return (forward(network, controls)[-1] @ readout.weight.T + readout.bias).ravel()

    perturbed = vector + 1j * step * np.eye(vector.size)
    return outputs(vector), np.array([outputs(row).imag for row in perturbed]).T / step


@pytest.mark.parametrize(
    "choices",
    [{"activation": a} for a in SMOOTH_ACTIVATIONS]
    + [
        {"outputs": 2, "scheme": HEUN},
        {"field": OUTSIDE, "horizon": 2.0},
        {"field": BOTTLENECK, "hidden": 3, "scheme": RK4},
        {"penalty": H1, "substeps": 2},
        {"trained_readout": True},
        {"width": 3},
    ],
    ids=lambda c: "-".join(getattr(v, "name", str(v)) for v in c.values()),
)
def test_optimum_interpolates_and_satisfies_the_conditions_of_lagrange(
    choices: dict[str, Any],
) -> None:
    """d/du [R(u) + |q|^2 + sum_i p_i . (P x_i - y_i)] = 0, by the oracle's derivatives."""
    problem = three_points(**choices)
    solution = solved(problem)
    z, slopes = outputs_and_slopes(solution)
    np.testing.assert_allclose(z, problem.dataset.targets.ravel(), rtol=0, atol=1e-9)
    network = replace(network_of(problem), alpha=0.0, beta=0.0, decay=1.0, readout_decay=1.0)
    value, gradient = objective_and_gradient(network, vector_of(solution))
    assert solution.solution.objective == pytest.approx(value, rel=1e-12)
    residual = gradient + solution.multipliers.ravel() @ slopes
    assert np.abs(residual).max() <= 1e-8 * np.abs(gradient).max()
    p = solution.multipliers @ solution.readout_weight
    np.testing.assert_allclose(solution.costates[-1], p, rtol=0, atol=1e-12 * np.abs(p).max())


@pytest.mark.parametrize("field", [INSIDE, BOTTLENECK], ids=lambda f: f.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_optimum_is_the_one_found_with_the_states_eliminated(field: Any, seed: int) -> None:
    """Sequential quadratic programming from the reported optimum, slightly perturbed."""
    problem = three_points(field=field, layers=3)
    solution = solved(problem, seed)
    network, y = network_of(problem), problem.dataset.targets.ravel()
    energy = replace(network, alpha=0.0, beta=0.0, decay=1.0)

    def outputs(vector: Array) -> Array:
        states = forward(network, unpack(network, vector)[0])[-1]
        return states[:, : problem.outputs].ravel()

    def slopes(vector: Array) -> Array:
        perturbed = vector + 1e-30j * np.eye(vector.size)
        return np.array([outputs(row).imag for row in perturbed]).T / 1e-30

    vector = vector_of(solution)
    found = optimize.minimize(
        lambda v: objective_and_gradient(energy, v),
        vector + 1e-3 * np.random.default_rng(seed).standard_normal(vector.size),
        jac=True,
        method="SLSQP",
        constraints={"type": "eq", "fun": lambda v: outputs(v) - y, "jac": slopes},
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert np.abs(outputs(found.x) - y).max() < 1e-9
    assert found.fun == pytest.approx(solution.solution.objective, rel=1e-9)


@pytest.mark.parametrize("outputs", [1, 2])
def test_multipliers_are_the_sensitivities_of_the_minimal_norm(outputs: int) -> None:
    """d(min |v|^2)/dy_i = -p_i with L = |v|^2 + sum_i p_i . (P x_i - y_i), by differences."""
    problem = three_points(outputs)
    solution = solved(problem)
    y, step = problem.dataset.targets, 1e-4
    for index in np.ndindex(*y.shape):
        values = []
        for sign in (1, -1):
            shifted = y.copy()
            shifted[index] += sign * step
            again = solve_from(retargeted(problem, shifted), solution.trajectory.decisions, PRECISE)
            assert again.status is Status.SOLVED
            values.append(again.solution.objective)
        slope = (values[0] - values[1]) / (2 * step)
        # The truncation error is of the order of step^2, the rounding error 1e-10 / step at most.
        assert slope == pytest.approx(-solution.multipliers[index], rel=1e-5, abs=1e-6)


def test_optimal_weights_are_outer_products_of_costates_and_activations() -> None:
    """w^k = -(1/2) sum_i p_i^{k+1} tanh(x_i^k)^T: rank at most N however wide the network."""
    solution = solved(three_points(width=5))
    p, x = solution.costates[1:], solution.states[:-1]
    w = -np.einsum("kid,kie->kde", p, np.tanh(x)) / 2
    np.testing.assert_allclose(solution.weights["w"], w, rtol=0, atol=1e-8)
    np.testing.assert_allclose(solution.weights["b"], -p.sum(axis=1) / 2, rtol=0, atol=1e-8)
    assert np.linalg.matrix_rank(solution.weights["w"], tol=1e-6).max() <= 3


@pytest.mark.parametrize("scheme", [EULER, RK4], ids=lambda s: s.name)
def test_minimal_norm_is_inversely_proportional_to_the_horizon(scheme: Any) -> None:
    """With v = T u the constraint is that of the horizon 1, and Int |u|^2 = |v|^2 / T."""
    unit = solved(three_points(scheme=scheme))
    for horizon in (0.25, 3.0):
        problem = three_points(scheme=scheme, horizon=horizon)
        start = unit.trajectory.decisions / horizon
        solution = solve_from(problem, start + 1e-3 / horizon, PRECISE)
        assert solution.status is Status.SOLVED
        scaled = horizon * solution.solution.objective
        assert scaled == pytest.approx(unit.solution.objective, rel=1e-10)
        np.testing.assert_allclose(
            horizon * solution.trajectory.decisions, unit.trajectory.decisions, atol=1e-7
        )


def test_linear_flow_to_a_positive_matrix_costs_the_norm_of_its_logarithm() -> None:
    """x' = W x + b from (0, e1, e2) to (0, M e1, M e2).

    The differences to the first sample obey X' = W X, X(0) = I, X(1) = M, whose least
    Int |W|^2 is |log M|^2, for M symmetric positive definite and W constant; b = 0 is then best.
    K Euler layers: every factor is I + W/K = M^(1/K). RK4 is off by its fourth order.
    """
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    eigenvalues, vectors = np.linalg.eigh(matrix)
    points = np.vstack([np.zeros(2), np.eye(2)])
    dataset = Dataset("matrix", points, points @ matrix.T)
    for layers in (1, 3, 6):
        problem = minimal_norm(LearningProblem(dataset, activation=IDENTITY, layers=layers))
        solution = solved(problem)
        rates = layers * (eigenvalues ** (1 / layers) - 1)
        weights = vectors @ np.diag(rates) @ vectors.T
        np.testing.assert_allclose(solution.weights["w"], [weights] * layers, atol=1e-8)
        np.testing.assert_allclose(solution.weights["b"], 0, atol=1e-8)
        assert solution.solution.objective == pytest.approx((rates**2).sum(), rel=1e-10)
    problem = minimal_norm(
        LearningProblem(dataset, activation=IDENTITY, layers=4, scheme=RK4, substeps=8)
    )
    exact = (np.log(eigenvalues) ** 2).sum()
    # (log 2 / 32)^4 = 2e-7 relative, over 120, and twice as the cost is a square
    assert solved(problem).solution.objective == pytest.approx(exact, rel=1e-8)


def test_error_of_the_squared_loss_falls_as_the_square_of_the_ratio_with_its_constant() -> None:
    """E_T T^2 -> lambda^2 N sum_i |p_i|^2 / 4, with an error of the order of 1/T."""
    problem = three_points(2)
    solution = solved(problem, starts=4)
    decay = 0.1
    limit = decay**2 * 3 * (solution.multipliers**2).sum() / 4
    horizons, constants = [50.0, 100.0, 200.0, 400.0], []
    decisions = solution.trajectory.decisions / horizons[0]
    for horizon in horizons:
        training = replace(
            problem, interpolation=False, horizon=horizon, weight_decay=decay, loss=SQUARED
        )
        rung = solve_from(training, decisions, PRECISE)
        assert rung.status is Status.SOLVED
        constants.append(rung.errors[-1] * horizon**2)
        decisions = rung.trajectory.decisions / 2
    misses = np.abs(np.array(constants) / limit - 1)
    slope = np.polyfit(np.log(horizons[1:]), np.log(misses[1:]), 1)[0]
    assert -slope == pytest.approx(1, abs=0.15)
    # Without the term of order 1/T, a tenth of the miss at the most is left.
    assert 2 * constants[-1] - constants[-2] == pytest.approx(limit, rel=0.1 * misses[-1])


@pytest.mark.parametrize("outputs", [1, 2])
def test_distance_is_an_exact_penalty_above_the_dual_norm_of_the_multipliers(
    outputs: int,
) -> None:
    """E_T = 0 once 1/(lambda N) > max_i |p_i| for T = 1, and only then.

    In two dimensions the tip of the distance is rounded off by 1e-6, and so is the error.
    """
    problem = three_points(outputs)
    solution = solved(problem)
    largest = np.linalg.norm(solution.multipliers, axis=1).max()
    for factor, is_exact in ((0.8, True), (1.2, False)):
        decay = factor / (3 * largest)
        training = replace(problem, interpolation=False, loss=DISTANCE, weight_decay=decay)
        found = solve_from(training, solution.trajectory.decisions)
        assert found.status is Status.SOLVED
        assert found.smoothing <= 1e-6
        if is_exact:
            assert found.errors[-1] <= 1e-5
            norm = decay * solution.solution.objective
            assert found.solution.objective == pytest.approx(norm, abs=1e-5)
        else:
            assert found.errors[-1] > 1e-3


def test_tight_bound_makes_interpolation_infeasible_and_a_wide_one_does_not_matter() -> None:
    free = solved(three_points())
    largest = np.abs(free.trajectory.control_array).max()
    wide = solved(three_points(bound=2 * largest))
    assert wide.solution.objective == pytest.approx(free.solution.objective, rel=1e-8)
    tight = train(three_points(bound=1e-2))
    assert tight.status is Status.INFEASIBLE
    assert "interpolation" in tight.solution.message


def test_l1_penalty_interpolates_with_the_least_absolute_control() -> None:
    """No more costly in Int |u|_1 than the control of least energy, and as exact."""
    sparse = train(three_points(penalty=L1_PENALTY), starts=3)
    assert sparse.status is Status.SOLVED
    z, _ = outputs_and_slopes(sparse)
    np.testing.assert_allclose(z, sparse.problem.dataset.targets.ravel(), atol=1e-8)
    energetic = solved(three_points(), starts=3)
    h = energetic.problem.horizon / energetic.problem.layers
    absolute = h * np.abs(energetic.trajectory.control_array).sum()
    assert sparse.solution.objective < absolute
    assert sparse.solution.objective == pytest.approx(
        h * np.abs(sparse.trajectory.control_array).sum(), rel=1e-9
    )


def test_equal_inputs_need_equal_targets() -> None:
    points = [[0.0, 1.0], [2.0, 3.0], [0.0, 1.0]]
    different = Dataset("different", points, [[1.0], [0.0], [2.0]])
    with pytest.raises(ValueError, match="rows 1 and 3 have equal inputs but different targets"):
        minimal_norm(LearningProblem(different))
    with pytest.raises(ValueError, match="equal inputs"):
        minimal_norm(LearningProblem(different, width=3, trained_readout=True))
    equal = Dataset("equal", points, [[1.0], [0.0], [1.0]])
    assert minimal_norm(LearningProblem(equal)).interpolation


def test_flow_on_the_line_keeps_the_order_of_its_points() -> None:
    inputs = [[0.5], [-1.0], [2.0]]
    crossing = Dataset("crossing", inputs, [[1.0], [1.5], [3.0]])
    words = r"rows 2 and 1 have inputs -1 < 0.5 and targets 1.5 >= 1; .*width 2"
    with pytest.raises(ValueError, match=words):
        minimal_norm(LearningProblem(crossing))
    meeting = Dataset("meeting", inputs, [[1.0], [1.0], [3.0]])
    with pytest.raises(ValueError, match="order"):
        minimal_norm(LearningProblem(meeting))
    assert minimal_norm(LearningProblem(crossing, width=2)).interpolation
    assert minimal_norm(LearningProblem(crossing, trained_readout=True)).interpolation
    ordered = Dataset("ordered", inputs, [[1.0], [-7.0], [1.5]])
    solution = solved(minimal_norm(LearningProblem(ordered)), starts=3)
    assert (np.diff(solution.states[:, [1, 0, 2], 0], axis=1) > 0).all()


def test_minimal_norm_keeps_the_network_and_drops_the_costs_of_the_error() -> None:
    problem = small_problem(tracking=0.5, terminal=0.3, penalty=H1, bound=3.0)
    posed = minimal_norm(problem)
    assert posed.interpolation
    assert posed.tracking == 0.0
    assert (posed.penalty, posed.bound, posed.width) == (H1, 3.0, 3)
    assert posed.dataset is problem.dataset


def moving_by(distance: float, **choices: Any) -> LearningProblem:
    """One sample on the line that must move by so much."""
    dataset = Dataset("moving", [[0.3]], [[0.3 + distance]])
    return LearningProblem(dataset, **({"field": OUTSIDE, "interpolation": True} | choices))


# activation, distance in a unit of time that is just within reach, and one that is just beyond it
REACH = [
    (TANH, 0.999, 1.001),
    (TANH, -0.999, -1.001),
    (SIGMOID, 0.999, 1.001),
    (SIGMOID, 1e-3, -1e-3),
    (SINE, 0.999, 1.001),
    (SINE, -0.999, -1.001),
    (SOFTPLUS, 1e-3, -1e-3),
    (SOFTPLUS, 100.0, 0.0),
    (RELU, 1e-3, -1e-3),
    (GELU, -0.1699, -0.1701),
]


@pytest.mark.parametrize(
    ("activation", "within", "beyond"), REACH, ids=lambda part: getattr(part, "name", str(part))
)
@pytest.mark.parametrize("horizon", [0.5, 3.0])
def test_field_of_bounded_speed_reaches_only_so_far(
    activation: Any, within: float, beyond: float, horizon: float
) -> None:
    near = moving_by(horizon * within, activation=activation, horizon=horizon)
    assert unreachable(near) is None
    far = moving_by(horizon * beyond, activation=activation, horizon=horizon)
    message = unreachable(far)
    assert message is not None
    assert "row 1" in message
    assert activation.name in message


def test_horizon_that_the_message_asks_for_is_sharp() -> None:
    """x' = tanh(w x + b) moves by less than T: 1.2 needs more than T = 1.2."""
    message = unreachable(moving_by(1.2, activation=TANH))
    assert message is not None
    assert "a horizon above 1.2" in message
    enough = moving_by(1.2, activation=TANH, horizon=1.2001, layers=5)
    assert unreachable(enough) is None
    # atanh(1.2 / 1.2001) = 5 still is a moderate control
    solution = train(enough)
    assert solution.status is Status.SOLVED
    assert solution.errors[-1] < 1e-15
    short = train(moving_by(1.2, activation=TANH, horizon=1.1, layers=5))
    assert short.status is Status.INFEASIBLE
    assert "interpolation" in short.solution.message


def test_speed_that_never_has_the_sign_needs_another_field() -> None:
    message = unreachable(moving_by(-0.5, activation=SIGMOID))
    assert message is not None
    assert "another activation or field" in message


def test_nothing_is_known_beforehand_of_unbounded_speeds_and_trained_readouts() -> None:
    for activation in ACTIVATIONS.values():
        assert unreachable(moving_by(-100.0, activation=activation, field=INSIDE)) is None
        assert unreachable(moving_by(-100.0, activation=activation, trained_readout=True)) is None
    assert unreachable(moving_by(-100.0, activation=LEAKY_RELU)) is None


@pytest.mark.parametrize(("activation", "distance"), [(RELU, 0.0), (SINE, 1.0)])
def test_speed_that_is_attained_may_be_kept(activation: Any, distance: float) -> None:
    """w = 0 with b = -1 rests under ReLU; with b = pi/2 it moves at speed 1 under the sine."""
    problem = moving_by(distance, activation=activation)
    bias = -1.0 if activation is RELU else np.pi / 2
    k = problem.layers
    controls = {"w": np.zeros((k, 1, 1)), "b": np.full((k, 1), bias)}
    decisions = problem.decisions(controls, np.zeros((0, 1)), np.zeros(0))
    end = problem.propagate(problem.dataset.inputs, decisions)[-1]
    np.testing.assert_allclose(end, problem.dataset.targets, rtol=1e-14)
    assert unreachable(problem) is None
