"""The discrete learning problem, evaluated at given controls and held against the oracle."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    Array,
    Network,
    Readout,
    control_energy,
    costates,
    forward,
    objective,
    pack,
    refined_training_error,
    running_error,
    training_error,
    unpack,
)
from scipy.linalg import expm  # type: ignore[import-untyped,unused-ignore]

from ocp import EULER, HEUN, MIDPOINT, RK4, rollout
from ocp.condensing import linearize
from problems.datasets import Dataset
from problems.known_stages import forget
from problems.learning import LearningProblem
from problems.losses import (
    CROSS_ENTROPY,
    DISTANCE,
    DISTANCE_ON_THE_LINE,
    HINGE,
    LOGISTIC,
    LOSSES,
    SQUARED,
    Loss,
)
from problems.regularizers import H1, PENALTIES, Penalty
from problems.training import LearningSolution, assess, random_controls
from problems.vector_fields import (
    ACTIVATIONS,
    BOTTLENECK,
    FIELDS,
    INSIDE,
    LEAKY_RELU,
    OUTSIDE,
    RELU,
    Activation,
)

SCHEMES = (EULER, MIDPOINT, HEUN, RK4)
SMOOTH_ACTIVATIONS = [a for a in ACTIVATIONS.values() if a.is_smooth]
SMOOTH_LOSSES = (SQUARED, LOGISTIC, CROSS_ENTROPY)
IDENTITY = Activation("identity", lambda x, delta: x, 1.0, is_homogeneous=True)


def random_dataset(
    loss: Loss, samples: int = 4, inputs: int = 2, outputs: int = 2, seed: int = 0
) -> Dataset:
    """Normal inputs, and targets as the loss needs them; distinct classes where it has classes."""
    generator = np.random.default_rng(seed)
    points = generator.standard_normal((samples, inputs))
    if loss.is_one_hot:
        targets = np.eye(outputs)[generator.permutation(np.arange(samples) % outputs)]
    elif loss.is_classification:
        targets = generator.choice([-1.0, 1.0], (samples, outputs))
    else:
        targets = generator.standard_normal((samples, outputs))
    return Dataset("random", points, targets)


def small_problem(**choices: Any) -> LearningProblem:
    """Four samples, two inputs, three states, two outputs, three layers."""
    dataset = random_dataset(choices.get("loss", SQUARED))
    defaults = {"dataset": dataset, "width": 3, "hidden": 2, "layers": 3, "horizon": 1.3}
    return LearningProblem(**(defaults | {"weight_decay": 0.03} | choices))


def any_problem(
    choose: Callable[[Sequence[Any]], Any],
    samples: int = 1,
    layers: int = 1,
    **options: Sequence[Any],
) -> LearningProblem:
    """A problem of any kind, with at least so many samples and layers.

    Args:
        choose: picks one of the options that it is given.
        samples, layers: smallest numbers of them.
        options: fields of the problem, to be chosen among these alone.
    """

    def pick(name: str, values: Sequence[Any]) -> Any:
        return choose(options.get(name, values))

    loss = pick("loss", [*LOSSES.values()])
    inputs = choose([1, 2, 3])
    outputs = choose([2, 3] if loss.is_one_hot else [1, 2])
    trained = pick("trained_readout", [False, True])
    needed = inputs if trained else max(inputs, outputs)
    return LearningProblem(
        random_dataset(loss, choose(range(samples, 9)), inputs, outputs, choose(range(2**16))),
        field=pick("field", [*FIELDS.values()]),
        activation=pick("activation", [*ACTIVATIONS.values()]),
        width=choose(range(needed, 4)),
        hidden=pick("hidden", [1, 2, 3]),
        horizon=pick("horizon", [0.5, 1.0, 2.3]),
        layers=choose(range(layers, 7)),
        scheme=pick("scheme", SCHEMES),
        substeps=pick("substeps", [1, 1, 2]),
        loss=loss,
        terminal=pick("terminal", [1.0, 0.4]),
        tracking=pick("tracking", [0.0, 0.7, 1.0]),
        weight_decay=pick("weight_decay", [0.01, 0.1]),
        penalty=pick("penalty", [*PENALTIES.values()]),
        bound=pick("bound", [None]),
        trained_readout=trained,
        readout_decay=pick("readout_decay", [None, 0.3]),
    )


@st.composite
def learning_problems(draw: st.DrawFn, **options: Any) -> LearningProblem:
    """Problems of all kinds that hypothesis can shrink; arguments as of `any_problem`."""
    return any_problem(lambda values: draw(st.sampled_from(values)), **options)


def seeded_problem(seed: int, **options: Any) -> LearningProblem:
    """A problem of any kind drawn at random: no shrinking, but no near-repetitions either."""
    generator = np.random.default_rng(seed)
    return any_problem(lambda values: values[generator.integers(len(values))], **options)


def network_of(problem: LearningProblem) -> Network:
    """The same problem for the oracle."""
    return Network(
        problem.dataset.inputs,
        problem.dataset.targets,
        field=problem.field.name,
        activation=problem.activation.name,
        width=problem.state_size,
        hidden=problem.hidden_size,
        horizon=problem.horizon,
        layers=problem.layers,
        scheme=problem.scheme.name,
        substeps=problem.substeps,
        loss=problem.loss.name,
        alpha=problem.terminal,
        beta=problem.tracking,
        decay=problem.weight_decay,
        penalty=problem.penalty.name,
        bound=problem.bound,
        readout="trained" if problem.trained_readout else "first",
        readout_decay=problem.readout_weight_decay,
    )


def evaluated(problem: LearningProblem, decisions: Array) -> LearningSolution:
    """Everything that is reported about given controls, optimal or not."""
    trajectory = rollout(problem.staged, decisions)
    return LearningSolution(problem, assess(problem.staged, trajectory, 0.0, 1e-8), 0.0, None)


def at_random(problem: LearningProblem, seed: int = 0) -> LearningSolution:
    """The same for random controls."""
    return evaluated(problem, random_controls(problem.staged, seed, 1.0 / problem.horizon))


def unknowns_of(solution: LearningSolution) -> tuple[dict[str, Array], Readout]:
    """Controls and read-out, for the oracle."""
    return solution.weights, Readout(solution.readout_weight, solution.readout_bias)


def vector_of(solution: LearningSolution) -> Array:
    """The same in the oracle's vector of unknowns."""
    return pack(network_of(solution.problem), *unknowns_of(solution))


def decisions_of(problem: LearningProblem, vector: Array) -> Array:
    """The oracle's vector of unknowns as the package takes it."""
    controls, readout = unpack(network_of(problem), vector)
    return problem.decisions(controls, *readout)


@settings(max_examples=80)
@given(problem=learning_problems(), seed=st.integers(0, 2**16))
def test_states_errors_costs_and_costates_are_the_oracles(
    problem: LearningProblem, seed: int
) -> None:
    """Rounding only: a handful of layers of a few units amplifies 1e-16 by less than 1e4."""
    network, solution = network_of(problem), at_random(problem, seed)
    controls, readout = unknowns_of(solution)
    x = forward(network, controls)
    scale = max(1.0, float(np.abs(x).max()))
    np.testing.assert_allclose(solution.states, x, rtol=0, atol=1e-12 * scale)
    expected = {
        "errors": [training_error(network, states, readout) for states in x],
        "energy": control_energy(network, controls),
        "running error": running_error(network, controls, readout),
        "objective": objective(network, controls, readout),
        "sum of terms": objective(network, controls, readout),
    }
    found = {
        "errors": solution.errors,
        "energy": solution.control_energy,
        "running error": problem.running_error(solution.trajectory),
        "objective": solution.solution.objective,
        "sum of terms": sum(solution.solution.costs.values()),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-14, err_msg=name)
    p, q = solution.costates.copy(), costates(network, controls, readout)
    if problem.field is INSIDE and not problem.activation.is_smooth:
        # Padded states start at the kink, where the derivative is a matter of convention.
        padded = problem.dataset.inputs.shape[1]
        p[0, :, padded:] = q[0, :, padded:]
    np.testing.assert_allclose(p, q, rtol=0, atol=1e-12 * max(1.0, float(np.abs(q).max())))


@settings(max_examples=15)
@given(problem=learning_problems(), seed=st.integers(0, 2**16))
def test_controls_by_name_and_decisions_are_inverse_to_each_other(
    problem: LearningProblem, seed: int
) -> None:
    solution = at_random(problem, seed)
    decisions = solution.trajectory.decisions
    assert np.array_equal(problem.decisions(*_parts(solution)), decisions)
    assert np.array_equal(decisions_of(problem, vector_of(solution)), decisions)
    shapes = problem.field.shapes(problem.state_size, problem.hidden_size)
    for name, array in solution.weights.items():
        assert array.shape == (problem.layers, *shapes[name])


def _parts(solution: LearningSolution) -> tuple[dict[str, Array], Array, Array]:
    return solution.weights, solution.readout_weight, solution.readout_bias


@settings(max_examples=15)
@given(problem=learning_problems(), seed=st.integers(0, 2**16))
def test_new_inputs_follow_the_same_network(problem: LearningProblem, seed: int) -> None:
    """The samples' own inputs end at their own states, any others where the oracle has them."""
    solution = at_random(problem, seed)
    assert np.array_equal(solution.propagate(problem.dataset.inputs), solution.states)
    others = np.random.default_rng(seed).standard_normal((3, problem.dataset.inputs.shape[1]))
    controls, readout = unknowns_of(solution)
    network = replace(network_of(problem), inputs=others, targets=np.ones((3, problem.outputs)))
    x = forward(network, controls)
    scale = max(1.0, float(np.abs(x).max()))
    np.testing.assert_allclose(solution.propagate(others), x, rtol=0, atol=1e-12 * scale)
    outputs = x[-1] @ readout.weight.T + readout.bias
    size = max(1.0, float(np.abs(outputs).max())) * scale
    np.testing.assert_allclose(solution.outputs(others), outputs, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda f: f.name)
def test_samples_may_be_permuted(field: Any) -> None:
    problem = small_problem(field=field, tracking=0.5, scheme=RK4)
    order = np.array([2, 0, 3, 1])
    data = problem.dataset
    other = replace(problem, dataset=Dataset("permuted", data.inputs[order], data.targets[order]))
    one, two = at_random(problem), at_random(other)
    assert np.array_equal(two.states, one.states[:, order])
    assert two.solution.objective == pytest.approx(one.solution.objective, rel=1e-14)
    np.testing.assert_allclose(two.costates, one.costates[:, order], rtol=1e-12, atol=1e-15)


def test_hidden_neurons_may_be_permuted() -> None:
    problem = small_problem(field=BOTTLENECK, hidden=3)
    solution = at_random(problem)
    order, u = np.array([2, 0, 1]), solution.weights
    permuted = u | {"w1": u["w1"][:, order], "b1": u["b1"][:, order], "w2": u["w2"][:, :, order]}
    decisions = problem.decisions(permuted, solution.readout_weight, solution.readout_bias)
    other = evaluated(problem, decisions)
    assert not np.array_equal(decisions, solution.trajectory.decisions)
    assert other.solution.objective == pytest.approx(solution.solution.objective, rel=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
@pytest.mark.parametrize(
    ("field", "activation"),
    [(INSIDE, a) for a in ACTIVATIONS.values()] + [(OUTSIDE, RELU), (OUTSIDE, LEAKY_RELU)],
    ids=lambda part: part.name,
)
def test_horizon_and_weight_decay_count_only_through_their_ratio(
    field: Any, activation: Activation, scheme: Any
) -> None:
    """J_{lambda,T}(u) = E(x_v(1)) + (lambda/T) |v|^2 with v = T u."""
    horizon, decay = 3.7, 0.2
    long = small_problem(
        field=field, activation=activation, scheme=scheme, horizon=horizon, weight_decay=decay
    )
    unit = replace(long, horizon=1.0, weight_decay=decay / horizon)
    solution = at_random(long)
    other = evaluated(unit, horizon * solution.trajectory.decisions)
    assert other.solution.objective == pytest.approx(solution.solution.objective, rel=1e-13)
    assert other.control_energy == pytest.approx(horizon * solution.control_energy, rel=1e-13)


def test_derivative_penalty_scales_with_the_square_of_the_horizon() -> None:
    """With v = T u, lambda Int |u|^2 + rho |u'|^2 = (lambda/T) Int |v|^2 + (rho/T^2) |v'|^2."""
    horizon, decay = 3.7, 0.2
    long = small_problem(penalty=H1, horizon=horizon, weight_decay=decay)
    weaker = Penalty("weaker h1", square=1.0, rate=1 / horizon**2)
    unit = replace(long, horizon=1.0, weight_decay=decay / horizon, penalty=weaker)
    solution = at_random(long)
    other = evaluated(unit, horizon * solution.trajectory.decisions)
    assert other.solution.objective == pytest.approx(solution.solution.objective, rel=1e-13)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=lambda loss: loss.name)
def test_resting_states_have_the_horizon_times_the_error_as_running_error(loss: Loss) -> None:
    for scheme in SCHEMES:
        problem = small_problem(loss=loss, scheme=scheme, substeps=3, tracking=0.2)
        solution = evaluated(problem, np.zeros(problem.staged.decision_size))
        expected = problem.horizon * solution.errors[0]
        assert problem.running_error(solution.trajectory) == pytest.approx(expected, rel=1e-13)


def test_running_error_under_euler_is_the_left_endpoint_sum_even_of_an_interpolation_problem() -> (
    None
):
    for interpolation in (False, True):
        solution = at_random(small_problem(interpolation=interpolation))
        left = solution.problem.grid.steps @ solution.errors[:-1]
        found = solution.problem.running_error(solution.trajectory)
        assert found == pytest.approx(left, rel=1e-13)


def test_interpolation_counts_the_penalty_alone() -> None:
    problem = small_problem(interpolation=True, terminal=0.0, weight_decay=17.0)
    solution = at_random(problem)
    assert solution.solution.objective == pytest.approx(solution.control_energy, rel=1e-14)
    trained = small_problem(interpolation=True, trained_readout=True, readout_decay=17.0)
    solution = at_random(trained)
    expected = solution.control_energy + np.sum(solution.trajectory.parameters**2)
    assert solution.solution.objective == pytest.approx(expected, rel=1e-14)


def test_full_state_targets_measure_the_whole_state() -> None:
    """M = D: E = (1/N) sum_i |x_i - xbar_i|^2 over all coordinates."""
    problem = small_problem(dataset=random_dataset(SQUARED, 4, 3, 3), width=3)
    solution = at_random(problem)
    distances = ((solution.states - problem.dataset.targets) ** 2).sum(axis=2)
    np.testing.assert_allclose(solution.errors, distances.mean(axis=1), rtol=1e-14)


# Integration of a kinked field settles algebraically, hence smooth activations only.
@settings(max_examples=12)
@given(
    problem=learning_problems(activation=SMOOTH_ACTIVATIONS),
    seed=st.integers(0, 2**16),
)
def test_error_after_fine_integration_is_that_of_an_adaptive_integrator(
    problem: LearningProblem, seed: int
) -> None:
    """The package steps every sample by itself, the oracle runs DOP853 on all of them at 1e-12."""
    solution = at_random(problem, seed)
    expected = refined_training_error(network_of(problem), *unknowns_of(solution))
    assert solution.refined_error == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_error_after_fine_integration_copes_with_kinks() -> None:
    """Steps at kinks are tested at 1e-8, which leaves 1e-7 of the error."""
    solution = at_random(small_problem(activation=RELU))
    expected = refined_training_error(network_of(solution.problem), *unknowns_of(solution))
    assert solution.refined_error == pytest.approx(expected, rel=1e-7)


def test_linear_network_has_the_matrix_exponential_as_fine_limit() -> None:
    """x' = w x + b with constant (w, b): x(T) from the exponential of ((w, b), (0, 0)) T."""
    problem = LearningProblem(
        random_dataset(SQUARED), activation=IDENTITY, layers=4, horizon=1.7, scheme=HEUN
    )
    w, b = np.array([[0.3, -0.8], [0.5, 0.1]]), np.array([0.2, -0.4])
    controls = {"w": np.tile(w, (4, 1, 1)), "b": np.tile(b, (4, 1))}
    solution = evaluated(problem, problem.decisions(controls, np.zeros((0, 2)), np.zeros(0)))
    flow = expm(1.7 * np.block([[w, b[:, None]], [np.zeros((1, 3))]]))
    end = problem.dataset.inputs @ flow[:2, :2].T + flow[:2, 2]
    expected = ((end - problem.dataset.targets) ** 2).sum(axis=1).mean()
    assert solution.refined_error == pytest.approx(expected, rel=1e-9)
    z = 1.7 / 4 * np.block([[w, b[:, None]], [np.zeros((1, 3))]])
    step = np.linalg.matrix_power(np.eye(3) + z + z @ z / 2, 4)
    end = problem.dataset.inputs @ step[:2, :2].T + step[:2, 2]
    np.testing.assert_allclose(solution.states[-1], end, rtol=1e-13)


@settings(max_examples=15)
@given(problem=learning_problems(), seed=st.integers(0, 2**16))
def test_step_times_lipschitz_is_the_largest_spectral_norm_times_step_and_slope(
    problem: LearningProblem, seed: int
) -> None:
    """The spectral norm by the eigenvalues of w^T w, to half the digits where it vanishes."""
    solution = at_random(problem, seed)
    norms = np.ones(problem.layers)
    for name, array in solution.weights.items():
        if name.startswith("w"):
            gram = np.einsum("kij,kil->kjl", array, array)
            norms = norms * np.sqrt(np.linalg.eigvalsh(gram)[:, -1])
    slope = {"sigmoid": 0.25, "gelu": 1.1289}.get(problem.activation.name, 1.0)
    expected = problem.horizon / problem.layers * norms.max() * slope
    # the largest slope of GELU is given above to five digits
    found = problem.step_times_lipschitz(solution.trajectory)
    assert found == pytest.approx(
        expected, rel=1e-4 if problem.activation.name == "gelu" else 1e-10
    )


def test_padding_appends_zeros_and_a_single_input_is_a_row() -> None:
    problem = small_problem(width=4)
    assert np.array_equal(problem.pad([[1.0, 2.0], [3.0, 4.0]]), [[1, 2, 0, 0], [3, 4, 0, 0]])
    assert np.array_equal(problem.pad([1.0, 2.0]), [[1, 2, 0, 0]])


def test_sizes_that_are_left_out_follow_from_the_data() -> None:
    problem = LearningProblem(random_dataset(SQUARED, 5, 3, 2), weight_decay=0.7)
    assert (problem.samples, problem.outputs) == (5, 2)
    assert (problem.state_size, problem.hidden_size) == (3, 3)
    assert problem.readout_weight_decay == 0.7
    assert replace(problem, width=4).hidden_size == 4
    assert replace(problem, weight_decay=0.1).readout_weight_decay == 0.1


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 3), (3, 1), (2, 5)])
@pytest.mark.parametrize("trained", [False, True])
def test_the_state_has_room_for_inputs_and_targets(inputs, outputs, trained) -> None:
    dataset = random_dataset(SQUARED, 4, inputs, outputs)
    problem = LearningProblem(dataset, trained_readout=trained)
    assert problem.state_size == max(inputs, outputs)
    readout = np.ones((outputs, inputs))  # one that is given says how much it reads
    assert LearningProblem(dataset, fixed_readout=readout).state_size == inputs


def test_distance_of_one_output_is_posed_without_smoothing() -> None:
    line = small_problem(dataset=random_dataset(DISTANCE, outputs=1), loss=DISTANCE)
    assert line.posed_loss is DISTANCE_ON_THE_LINE
    plane = small_problem(dataset=random_dataset(DISTANCE, outputs=2), loss=DISTANCE)
    assert plane.posed_loss is DISTANCE


def test_distance_measures_all_outputs_when_the_data_are_replaced() -> None:
    line = small_problem(dataset=random_dataset(DISTANCE, outputs=1), loss=DISTANCE)
    solution = at_random(replace(line, dataset=random_dataset(DISTANCE, outputs=2)))
    expected = objective(network_of(solution.problem), *unknowns_of(solution))
    assert solution.solution.objective == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("inputs", [[[1.0]], [[1.0, 2.0, 3.0, 4.0]]], ids=str)
def test_inputs_of_another_size_are_refused_with_the_size_expected(inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"expected \(points, 2\)"):
        at_random(small_problem()).propagate(inputs)


def test_only_kinked_activations_and_tips_of_distances_need_smoothing() -> None:
    for loss in LOSSES.values():
        for activation in ACTIVATIONS.values():
            problem = small_problem(loss=loss, activation=activation)
            expected = activation not in (RELU, LEAKY_RELU) and loss is not DISTANCE
            assert problem.is_smooth == expected
    assert small_problem(loss=DISTANCE, interpolation=True).is_smooth


WRONG = [
    ({"width": 1}, "width must be at least the number of inputs, 2, got 1"),
    ({"dataset": random_dataset(SQUARED, outputs=4)}, "first 4 coordinates.*width 3.*trained"),
    ({"layers": 0}, "layers must be at least 1, got 0"),
    ({"substeps": 0}, "substeps must be at least 1, got 0"),
    ({"hidden": 0}, "hidden must be at least 1, got 0"),
    ({"horizon": 0.0}, "horizon must be positive, got 0"),
    ({"horizon": -1.0}, "horizon must be positive, got -1"),
    ({"horizon": np.inf}, "horizon must be positive, got inf"),
    ({"bound": 0.0}, "bound must be positive, got 0"),
    ({"bound": np.nan}, "bound must be positive, got nan"),
    ({"terminal": -0.5}, "terminal must be zero or positive, got -0.5"),
    ({"tracking": np.nan}, "tracking must be zero or positive, got nan"),
    ({"weight_decay": -1e-3}, "weight-decay must be zero or positive, got -0.001"),
    ({"readout_decay": -1.0}, "readout-decay must be zero or positive, got -1"),
    ({"terminal": 0.0}, "data do not enter the cost.*positive"),
    ({"dataset": random_dataset(SQUARED), "loss": CROSS_ENTROPY}, "one-hot targets"),
    ({"dataset": random_dataset(LOGISTIC), "loss": CROSS_ENTROPY}, "one-hot targets"),
    ({"dataset": random_dataset(SQUARED), "loss": LOGISTIC}, r"logistic needs targets -1 and \+1"),
    ({"dataset": random_dataset(CROSS_ENTROPY), "loss": HINGE}, r"hinge needs targets -1 and \+1"),
]


@pytest.mark.parametrize(("choices", "words"), WRONG, ids=lambda part: str(part)[:40])
def test_values_out_of_range_are_refused_with_the_reason(
    choices: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        small_problem(**choices)


def test_two_ones_in_a_row_are_not_one_hot() -> None:
    dataset = Dataset("two", np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="one class per row"):
        LearningProblem(dataset, loss=CROSS_ENTROPY)


def test_problems_that_differ_in_their_samples_alone_share_their_stages():
    first = LearningProblem(random_dataset(SQUARED, seed=0), layers=3)
    second = LearningProblem(random_dataset(SQUARED, seed=1), layers=3)
    assert first.staged.stages is second.staged.stages
    np.testing.assert_array_equal(second.staged.initial_state, second.dataset.inputs)
    np.testing.assert_array_equal(second.staged.data, second.member_data)
    u = np.random.default_rng(0).standard_normal(second.staged.decision_size)
    forget()
    alone = LearningProblem(second.dataset, layers=3)
    assert alone.staged.stages is not second.staged.stages
    costs = [linearize(p.staged, rollout(p.staged, u)).objective for p in (second, alone)]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    "change",
    [
        {"weight_decay": 0.5},
        {"activation": RELU},
        {"scheme": HEUN},
        {"horizon": 2.0},
        {"loss": DISTANCE},
        {"dataset": random_dataset(SQUARED, samples=5)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_problems_that_differ_in_more_have_stages_of_their_own(change):
    first = LearningProblem(random_dataset(SQUARED), layers=3)
    second = replace(first, **change)
    assert first.staged.stages is not second.staged.stages
