"""Verdicts, rates and depths of turnpikes, against what theory says about generated problems."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ocp import EULER, HEUN, MIDPOINT, RK4, SolveOptions, Status, TimeGrid, Trajectory
from problems.cropping import crop, find_crop, recomputed_change
from problems.datasets import Dataset, encode, load
from problems.learning import LearningProblem
from problems.losses import LOSSES
from problems.regularizers import L1_PENALTY
from problems.switching import switching
from problems.training import train
from problems.turnpike_fit import Decay, find_window, fit_both, fit_control, fit_error
from problems.turnpike_report import conserved_drift, measure, turnpike_report
from problems.turnpike_verdict import Verdict, judge
from problems.vector_fields import (
    BOTTLENECK,
    FIELDS,
    GELU,
    OUTSIDE,
    SIGMOID,
    SINE,
    TANH,
    VectorField,
)

TURNPIKE = {"terminal": 0.0, "tracking": 1.0, "weight_decay": 0.1}
ONLY_BIAS = VectorField(
    "bias",
    lambda width, hidden: {"b": (width,)},
    lambda x, u, s: u["b"],
    lambda u, slope: 0.0,
    is_linear_in_control=True,
)


def posed(data, samples, seed=0, loss="squared", **others):
    dataset = encode(load(data, samples=samples, seed=seed), loss)
    width = max(2, samples - 1, dataset.targets.shape[1])
    settings = {"width": width, "horizon": 20.0, "layers": 100, **TURNPIKE, **others}
    return LearningProblem(dataset, loss=LOSSES[loss], **settings)


def collapsing(data, samples, seed, targets):
    """Every class has one target state, in order of the labels."""
    found = encode(load(data, samples=samples, seed=seed), "cross-entropy")
    states = found.targets @ np.asarray(targets, dtype=float)
    return Dataset(data, found.inputs, states)


TWO_TARGETS = ((-1.0, 0.0), (1.0, 0.0))


@cache
def line_to_zero():
    """One sample on the line, x' = w tanh(x) + b, from 1.5 to 0.5: sigma^2 = tanh(0.5)^2 + 1."""
    data = Dataset("line", np.array([[1.5]]), np.array([[0.5]]))
    problem = LearningProblem(data, horizon=12.0, layers=240, **TURNPIKE)
    return train(problem, options=SolveOptions(tolerance=1e-11))


def test_one_sample_on_the_line_decays_at_the_rate_of_the_formula():
    rate = np.sqrt((np.tanh(0.5) ** 2 + 1) / 0.1)
    expected = 2 / 0.05 * np.arcsinh(rate * 0.05 / 2)
    found = turnpike_report(line_to_zero())
    assert found["verdict"] == "exponential"
    assert found["predicted_rates"] == pytest.approx([rate], rel=1e-9)
    assert found["predicted_discrete_rate"] == pytest.approx(expected, rel=1e-9)
    assert found["fitted_rate"] == pytest.approx(expected, rel=1e-4)
    for name in ("fitted_control_rate", "fitted_error_rate"):
        assert found[name] == pytest.approx(expected, rel=1e-3)
        low, high = found[f"{name}_interval"]
        assert low < found[name] < high


def made_of(errors, control, problem, residuals):
    """A decay whose states have the given residuals in their first coordinate, (K+1, N)."""
    states = np.zeros((*residuals.shape, problem.state_size))
    states[:] = problem.dataset.targets[:, :1] if problem.outputs == 1 else 0.0
    states[..., 0] = residuals + problem.dataset.targets[:, 0]
    controls = np.zeros((problem.layers, 6))
    trajectory = Trajectory(tuple(states), tuple(controls), np.zeros(0), problem.grid.nodes)
    return Decay(problem, trajectory, errors, control, 0.0)


def test_the_window_leaves_out_the_free_end_and_the_solvers_noise():
    data = Dataset("line", np.array([[1.0, 0.0]]), np.array([[0.5]]))
    problem = LearningProblem(data, width=2, horizon=40.0, layers=400, **TURNPIKE)
    states_rate = np.sqrt((1 + 2 * np.tanh(0.5) ** 2) / 0.1)
    rate = 2 / 0.1 * np.arcsinh(states_rate * 0.1 / 2)
    residual = np.exp(-rate * problem.grid.nodes)[:, None]
    control = np.exp(-rate * problem.grid.nodes[:-1])
    decay = replace(made_of(residual[:, 0] ** 2, control, problem, residual), uncertainty=1e-9)
    window = find_window(decay)
    assert window.reason is None
    assert (decay.control[: window.end] > 100 * 1e-9).all()
    assert decay.control[window.end] <= 100 * 1e-9
    assert -fit_control(decay, window).slope == pytest.approx(rate, rel=1e-10)
    assert -fit_error(decay, window).slope == pytest.approx(rate, rel=1e-10)


def judged(targets, residuals):
    """Verdict on made-up states on the line whose residuals these are, (K+1, N)."""
    targets = np.array(targets)[:, None]
    data = Dataset("made up", targets, targets)
    problem = LearningProblem(data, horizon=40.0, layers=400, **TURNPIKE)
    errors, control = np.mean(residuals**2, axis=1), np.exp(-problem.grid.nodes[:-1])
    decay = made_of(errors, control, problem, residuals)
    return judge(decay, find_window(decay), None, 0.0)


def test_an_error_that_rises_again_is_no_turnpike():
    times = np.linspace(0, 40, 401)
    falls = np.exp(-times)[:, None]
    assert judged([0.5], falls).verdict is Verdict.EXPONENTIAL
    found = judged([0.5], falls + np.exp(0.5 * (times - 50))[:, None])
    assert found.verdict is Verdict.NONE
    assert "rises again" in found.reason


def test_a_residual_that_falls_though_no_control_moves_it_is_no_plateau():
    times, targets = np.linspace(0, 40, 401), [-2.0, -1.0, 0.3, 1.0]
    features = np.vstack([np.tanh(targets), np.ones(4)])
    stuck = 0.01 * np.linalg.svd(features)[2][-1:]  # no control moves this residual
    found = judged(targets, stuck + np.exp(-times)[:, None])
    assert found.verdict is Verdict.PLATEAU
    found = judged(targets, stuck / (1 + times)[:, None])
    assert found.verdict is Verdict.NONE
    assert "longer" in found.reason or "take T" in found.reason


def test_a_horizon_of_less_than_one_decay_is_not_fitted_and_says_so():
    problem = replace(line_to_zero().problem, horizon=0.2, layers=40)
    found = turnpike_report(train(problem))
    assert found["verdict"] == "none"
    assert "too short" in found["reason"]
    assert found["fitted_rate"] is None
    assert found["window"] is None


EXPONENTIAL = [
    (data, samples, field, activation)
    for data, samples in (("moons", 3), ("xor", 4), ("circles", 3), ("spirals", 3), ("rings", 3))
    for field in ("inside", "outside")
    for activation in (TANH, SINE, GELU)
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "samples", "field", "activation"),
    EXPONENTIAL,
    ids=lambda v: getattr(v, "name", str(v)),
)
def test_few_samples_decay_exponentially_at_the_predicted_rate(data, samples, field, activation):
    problem = posed(data, samples, field=FIELDS[field], activation=activation, horizon=30.0)
    solution = train(problem, options=SolveOptions(tolerance=1e-10))
    assert solution.status is Status.SOLVED
    found = turnpike_report(solution)
    assert found["verdict"] == "exponential", found["reason"]
    if found["window"] is not None:
        assert found["fitted_rate"] == pytest.approx(found["predicted_discrete_rate"], rel=0.05)
        assert found["fitted_control_rate"] == pytest.approx(found["fitted_error_rate"], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("weight_decay", [1.0, 0.3, 0.1, 0.03, 0.01])
def test_the_rate_is_sigma_over_the_root_of_samples_times_weight_decay(weight_decay):
    horizon = 30.0 * np.sqrt(weight_decay / 0.1)
    problem = posed("moons", 3, horizon=horizon, layers=200, weight_decay=weight_decay)
    solution = train(problem, options=SolveOptions(tolerance=1e-10))
    found = turnpike_report(solution)
    features = np.vstack([np.tanh(solution.states[-1]).T, np.ones(3)])
    rate = np.linalg.svd(features, compute_uv=False).min() / np.sqrt(3 * weight_decay)
    step = horizon / 200
    expected = 2 / step * np.arcsinh(rate * step / 2)
    assert found["fitted_rate"] == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["moons", "circles", "spheres", "xor", "chess2"])
@pytest.mark.parametrize("seed", [0, 1])
def test_two_classes_that_collapse_onto_two_states_decay_algebraically(data, seed):
    dataset = collapsing(data, 9, seed, TWO_TARGETS)
    problem = LearningProblem(dataset, horizon=20.0, layers=100, **TURNPIKE)
    found = turnpike_report(train(problem))
    assert found["verdict"] == "algebraic", found["reason"]
    assert found["fitted_rate"] is None
    assert found["advice"]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["moons", "circles", "xor", "chess2", "spirals"])
@pytest.mark.parametrize("seed", [1, 2])
def test_more_samples_than_features_end_on_a_plateau(data, seed):
    problem = posed(data, 12, seed, width=2)
    solution = train(problem)
    found = turnpike_report(solution)
    assert found["verdict"] == "plateau", found["reason"]
    late, last = solution.errors[75], solution.errors[-1]
    assert last > 1e-4
    assert late == pytest.approx(last, rel=1e-2)
    assert solution.control_norms[-10] < 1e-3 * solution.control_norms[0]
    assert "--width 11" in found["advice"][0]


@pytest.mark.parametrize("loss", ["logistic", "cross-entropy"])
def test_a_loss_without_a_minimum_decays_algebraically(loss):
    solution = train(posed("moons", 4, loss=loss, horizon=40.0))
    found = turnpike_report(solution)
    assert found["verdict"] == "algebraic"
    assert "not attained" in found["reason"]
    # E ~ 1 / cos^2: E(T/2) / E(T) tends to 2, and u falls like 1 / t before the free end bends it.
    assert solution.errors[50] / solution.errors[-1] == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize("loss", ["distance", "l1", "hinge"])
@pytest.mark.parametrize("terminal", [0.0, 1.0])
def test_a_loss_with_a_kink_is_zero_from_a_finite_time_on(loss, terminal):
    solution = train(posed("moons", 3, loss=loss, terminal=terminal))
    assert solution.status is Status.SOLVED
    found = turnpike_report(solution)
    assert found["verdict"] == "finite-time", found["reason"]
    after = solution.times >= found["arrival_time"]
    assert 0 < found["arrival_time"] < 3
    assert (solution.errors[after] <= 1e-8 * solution.errors[0]).all()
    assert solution.control_norms[after[:-1]].max() <= 1e-6 * solution.control_norms[0]


@pytest.mark.parametrize(("layers", "tolerance"), [(100, 0.1), (1000, 0.018)])
def test_the_distance_on_the_line_arrives_after_two_roots_of_lambda_x0(layers, tolerance):
    # min Int |x| + lambda u^2, x' = u: t0 = 2 sqrt(lambda x0). One layer is 0.1 or 0.01.
    data = Dataset("line", np.array([[0.81]]), np.array([[0.0]]))
    problem = LearningProblem(
        data,
        field=ONLY_BIAS,
        horizon=10.0,
        layers=layers,
        loss=LOSSES["distance"],
        terminal=0.0,
        tracking=1.0,
        weight_decay=1.0,
    )
    solution = train(problem)
    assert solution.status is Status.SOLVED
    found = turnpike_report(solution)
    assert found["verdict"] == "finite-time"
    assert found["arrival_time"] == pytest.approx(2 * np.sqrt(0.81), abs=tolerance)


@pytest.mark.parametrize("activation", [TANH, SINE], ids=lambda a: a.name)
def test_a_bottleneck_switches_off_and_leaves_the_predicted_error(activation):
    errors = []
    for horizon in (10.0, 20.0, 40.0):
        problem = posed(
            *("moons", 3),
            field=BOTTLENECK,
            activation=activation,
            hidden=2,
            horizon=horizon,
            layers=round(10 * horizon),
        )
        solution = train(problem)
        found = turnpike_report(solution)
        assert found["verdict"] == "plateau"
        assert "bilinear" in found["reason"]
        assert found["switch_off_time"] == pytest.approx(found["predicted_switch_off_time"])
        assert found["predicted_remaining_error"] == pytest.approx(solution.errors[-1], rel=0.02)
        # What is on for good is b2, whose kernel has the single value sqrt(N).
        rate = np.sqrt(1 / 0.1)
        expected = 2 / 0.1 * np.arcsinh(rate * 0.1 / 2)
        assert found["fitted_rate"] == pytest.approx(expected, rel=1e-6)
        errors.append(solution.errors[-1])
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.1)


def test_an_l1_penalty_switches_off_at_a_time_that_does_not_grow_with_the_horizon():
    times = []
    for horizon in (10.0, 20.0, 40.0):
        problem = posed(
            *("moons", 3),
            penalty=L1_PENALTY,
            bound=2.0,
            horizon=horizon,
            layers=round(5 * horizon),
        )
        solution = train(problem)
        assert solution.status is Status.SOLVED
        found = turnpike_report(solution)
        assert found["verdict"] == "finite-time", found["reason"]
        assert found["predicted_switch_off_time"] == pytest.approx(found["switch_off_time"])
        switches = switching(solution)
        controls = np.abs(solution.trajectory.control_array)
        assert (controls[switches.functions < 1 - 1e-6] <= 2e-6).all()
        assert controls[switches.functions > 1 + 1e-6] == pytest.approx(2.0, abs=2e-6)
        times.append(found["switch_off_time"])
    assert np.ptp(times) <= 0.2 + 1e-12


def test_the_window_begins_where_the_control_is_small_enough_for_the_linearised_field():
    # GELU outside moves down at 0.17 at most: the entry arc is long, and bends until u is small.
    data = Dataset("far", np.array([[0.3, -0.5, 0.8]]), np.array([[-1.2]]))
    settings = {"horizon": 20.0, "layers": 200, **TURNPIKE}
    solution = train(LearningProblem(data, field=OUTSIDE, activation=GELU, **settings))
    found = turnpike_report(solution)
    assert found["entry_time"] > 5
    assert found["fitted_rate"] == pytest.approx(found["predicted_discrete_rate"], rel=0.01)


def test_controls_held_by_their_bound_do_not_hide_the_decay_after_them():
    solution = train(posed("moons", 4, bound=0.5, width=3))
    assert np.abs(solution.trajectory.control_array).max() == pytest.approx(0.5)
    found = turnpike_report(solution)
    assert found["verdict"] == "exponential"
    assert found["fitted_rate"] == pytest.approx(found["predicted_discrete_rate"], rel=0.02)


@pytest.mark.slow
def test_a_distance_decays_algebraically_where_classes_collapse():
    dataset = collapsing("moons", 7, 0, TWO_TARGETS)
    settings = {"loss": LOSSES["distance"], "horizon": 20.0, "layers": 60, **TURNPIKE}
    solution = train(LearningProblem(dataset, **settings))
    found = turnpike_report(solution)
    assert found["verdict"] == "algebraic", found["reason"]
    assert found["arrival_time"] is None


def test_an_error_that_still_falls_is_no_plateau():
    solution = train(posed("moons", 40, horizon=2.0, layers=20, width=2))
    assert solution.errors[10] > 1.05 * solution.errors[-1]
    found = turnpike_report(solution)
    assert found["verdict"] == "none"
    assert "too short" in found["reason"]


@pytest.mark.slow
def test_a_wider_state_leaves_less():
    errors = [train(posed("moons", 8, seed=1, width=width)).errors[-1] for width in (2, 7)]
    assert errors[1] < 0.5 * errors[0]


def test_u_zero_that_does_not_hold_the_states_has_no_turnpike():
    found = turnpike_report(train(posed("moons", 3, field=OUTSIDE, activation=SIGMOID)))
    assert found["verdict"] == "none"
    assert "does not hold the states" in found["reason"]
    assert found["predicted_rates"] == []


def test_data_that_start_on_their_targets_have_nothing_to_decay():
    data = Dataset("still", np.array([[0.2, 0.1], [0.4, -0.3]]), np.array([[0.2], [0.4]]))
    found = turnpike_report(train(LearningProblem(data, **TURNPIKE)))
    assert found["verdict"] == "none"
    assert "zero from the start" in found["reason"]


def test_without_a_running_error_there_is_no_report():
    problem = replace(line_to_zero().problem, terminal=1.0, tracking=0.0)
    with pytest.raises(ValueError, match="make tracking positive"):
        turnpike_report(train(problem))


@pytest.mark.parametrize(
    ("scheme", "order"), [(EULER, 1), (MIDPOINT, 2), (HEUN, 2), (RK4, 2)], ids=lambda v: str(v)[:6]
)
def test_the_conserved_quantity_drifts_by_the_order_of_the_scheme(scheme, order):
    drifts = []
    for layers in (80, 160):
        problem = posed("moons", 3, scheme=scheme, layers=layers, horizon=4.0)
        solution = train(problem, options=SolveOptions(tolerance=1e-11))
        drifts.append(conserved_drift(measure(solution)))
    assert np.log2(drifts[0] / drifts[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.slow
def test_constant_and_rate_do_not_depend_on_the_horizon_and_starts_agree():
    solutions = {}
    for horizon in (10.0, 20.0, 40.0):
        problem = posed("moons", 3, horizon=horizon, layers=round(10 * horizon))
        guess = [] if not solutions else [extended(solutions[horizon / 2], problem)]
        options = SolveOptions(tolerance=1e-11)
        solutions[horizon] = train(
            problem, starts=0 if guess else 1, guesses=guess, options=options
        )
    rates, constants = [], []
    for horizon in (20.0, 40.0):
        decay = measure(solutions[horizon])
        line = fit_both(decay, find_window(decay))
        rates.append(-line.slope)
        constants.append(np.exp(line.intercept))
    assert rates[0] == pytest.approx(rates[1], rel=1e-3)
    assert constants[0] == pytest.approx(constants[1], rel=1e-2)
    for horizon in (10.0, 20.0):
        short, long = solutions[horizon], solutions[2 * horizon]
        half = short.problem.layers // 2 + 1
        gap = np.abs(short.states[:half] - long.states[:half]).max()
        size = np.abs(long.states[:half]).max()
        assert gap <= 10 * np.exp(-rates[1] * horizon / 2) * size
        # No final arc: nothing moves at the end, which is nearer the target than the middle.
        assert long.control_norms[-1] <= long.control_norms[long.problem.layers // 2]


def extended(solution, problem):
    """The same controls, then none."""
    controls = solution.trajectory.control_array
    rest = np.zeros((problem.layers - len(controls), controls.shape[1]))
    return np.vstack([controls, rest]).ravel()


CROPPED = [
    ("moons", 3, {}),
    ("moons", 12, {"width": 2}),
    ("moons", 3, {"loss": "distance"}),
    ("moons", 4, {"loss": "logistic"}),
    ("moons", 3, {"field": BOTTLENECK, "hidden": 2}),
    ("moons", 3, {"penalty": L1_PENALTY, "bound": 2.0}),
]


@pytest.mark.parametrize(("data", "samples", "settings"), CROPPED)
def test_cutting_at_the_needed_depth_changes_the_error_as_reported(data, samples, settings):
    solution = train(posed(data, samples, **settings))
    found = find_crop(solution)
    shorter = crop(solution, found.layers)
    assert shorter.problem.layers == found.layers < solution.problem.layers
    assert shorter.problem.horizon == pytest.approx(found.depth)
    change = shorter.errors[-1] - solution.errors[-1]
    assert abs(change) <= found.tolerance
    assert change == pytest.approx(found.change, abs=1e-13)
    assert recomputed_change(solution, found) == (pytest.approx(change, abs=1e-13), True)
    beyond = replace(found, change=found.change + 1e-9, tolerance=found.tolerance + 1.0)
    assert not recomputed_change(solution, beyond)[1]
    earlier = solution.errors[found.layers - 1] - solution.errors[-1]
    assert abs(earlier) > found.tolerance
    if found.predicted_change is not None:
        slack = 1e-9 * solution.errors[0]
        assert found.predicted_change == pytest.approx(found.change, rel=0.1, abs=slack)


def test_a_tolerance_of_the_whole_error_needs_no_layer_and_of_nothing_needs_all_that_act():
    solution = line_to_zero()
    assert find_crop(solution, 10.0).layers == 0
    assert find_crop(solution, 0.0).change == 0.0
    with pytest.raises(ValueError, match="zero or positive"):
        find_crop(solution, -1.0)


@pytest.mark.parametrize("layers", [0, 241])
def test_a_network_is_cut_to_some_of_its_layers(layers):
    with pytest.raises(ValueError, match="1 to 240 layers"):
        crop(line_to_zero(), layers)


def test_every_verdict_is_one_of_the_contract():
    names = {"exponential", "algebraic", "plateau", "finite-time", "none"}
    assert {verdict.value for verdict in Verdict} == names


def test_the_grid_of_a_cropped_network_is_the_start_of_the_whole_one():
    shorter = crop(line_to_zero(), 7)
    expected = TimeGrid.uniform(240, 12.0).nodes[:8]
    assert shorter.problem.grid.nodes == pytest.approx(expected)
