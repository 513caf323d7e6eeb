"""The oracle itself, held against complex steps, closed forms and identities."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import (
    ACTIVATIONS,
    CHOICES,
    COMPLEX_STEP,
    Array,
    Network,
    Readout,
    control_energy,
    control_penalty,
    costates,
    forward,
    hessian,
    load_network,
    minimize,
    objective,
    objective_and_gradient,
    pack,
    random_start,
    refined_training_error,
    running_error,
    stationarity,
    training_error,
    unpack,
)
from scipy.integrate import quad  # type: ignore[import-untyped,unused-ignore]
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped,unused-ignore]

ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}


def small_network(**choices: Any) -> Network:
    """Four samples, two inputs, three states, two outputs; targets suited to the loss."""
    random = np.random.default_rng(0)
    inputs = random.uniform(0.2, 1.0, (4, 2)) * [[1], [-1], [1], [-1]]
    targets = np.eye(2)[[0, 1, 1, 0]]
    if choices.get("loss") in ("logistic", "hinge"):
        targets = 2 * targets - 1
    elif choices.get("loss") != "cross-entropy":
        targets = random.standard_normal((4, 2))
    defaults = {"width": 3, "hidden": 2, "layers": 3, "horizon": 1.3, "decay": 0.03}
    return Network(inputs, targets, **(defaults | choices))


def steps(size: int) -> Array:
    return COMPLEX_STEP * 1j * np.eye(size)


def complex_step_gradient(network: Network, vector: Array) -> Array:
    perturbed = [unpack(network, vector + step) for step in steps(len(vector))]
    return np.array([objective(network, *point).imag for point in perturbed]) / COMPLEX_STEP


# Every pair of field and activation, field and scheme, loss and read-out, penalty and field
VARIANTS = (
    [{"field": f, "activation": a} for f in CHOICES["field"] for a in CHOICES["activation"]]
    + [
        {"field": f, "scheme": s, "substeps": substeps, "beta": 0.7}
        for f in CHOICES["field"]
        for s in CHOICES["scheme"]
        for substeps in (1, 2)
    ]
    + [
        {
            "loss": loss,
            "readout": r,
            "readout_decay": 0.2,
            "beta": 0.7,
            "alpha": 0.4,
            "scheme": "heun",
        }
        for loss in CHOICES["loss"]
        for r in CHOICES["readout"]
    ]
    + [{"penalty": p, "field": f} for p in CHOICES["penalty"] for f in CHOICES["field"]]
)


@pytest.mark.parametrize("choices", VARIANTS, ids=lambda c: "-".join(str(v) for v in c.values()))
def test_gradient_is_the_complex_step_derivative_of_the_objective(choices: dict[str, Any]) -> None:
    network = small_network(**choices)
    vector = random_start(network, seed=1, scale=0.8)
    value, gradient = objective_and_gradient(network, vector)
    assert value == objective(network, *unpack(network, vector))
    np.testing.assert_allclose(
        gradient, complex_step_gradient(network, vector), rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize("loss", CHOICES["loss"])
@pytest.mark.parametrize("field", CHOICES["field"])
def test_gradient_is_the_limit_of_real_central_differences(field: str, loss: str) -> None:
    """Rules out an error that complex arithmetic could share with the gradient."""
    network = small_network(field=field, loss=loss, activation="gelu", scheme="rk4", beta=0.5)
    vector = random_start(network, seed=2, scale=0.8)
    direction = random_start(network, seed=3)
    size = 1e-5  # error size^2 = 1e-10 from truncation, 1e-16 / size = 1e-11 from rounding
    ahead, behind = (
        objective(network, *unpack(network, vector + sign * size * direction)) for sign in (1, -1)
    )
    slope = objective_and_gradient(network, vector)[1] @ direction
    assert (ahead - behind) / (2 * size) == pytest.approx(slope, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_match_their_textbook_definitions(activation: str) -> None:
    x = np.linspace(-6, 6, 24)  # no node at the kink
    expected = {
        "tanh": (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
        "relu": np.maximum(x, 0),
        "leaky-relu": np.maximum(x, 0.01 * x),
        "softplus": np.logaddexp(0, x),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "gelu": 0.5 * x * (1 + np.array([erf(value) for value in x / np.sqrt(2)])),
        "sin": np.sin(x),
    }[activation]
    np.testing.assert_allclose(ACTIVATIONS[activation][0](x), expected, rtol=1e-13, atol=1e-15)


def test_losses_match_their_definitions_on_one_sample() -> None:
    z, y = np.array([[0.3, -1.2]]), np.array([[1.0, -1.0]])
    r = z[0] - y[0]
    expected = {
        "squared": r @ r,
        "distance": np.linalg.norm(r),
        "l1": np.abs(r).sum(),
        "logistic": np.log(1 + np.exp(-0.3)) + np.log(1 + np.exp(-1.2)),
        "hinge": 0.7,
    }
    for loss, value in expected.items():
        assert training_error(Network(z, y, loss=loss), z) == pytest.approx(value, rel=1e-14)
    one_hot = Network(z, np.array([[0.0, 1.0]]), loss="cross-entropy")
    probability = np.exp(-1.2) / (np.exp(0.3) + np.exp(-1.2))
    assert training_error(one_hot, z) == pytest.approx(-np.log(probability), rel=1e-14)


def test_one_euler_layer_moves_each_sample_by_its_field() -> None:
    fields: dict[str, Callable[..., Array]] = {
        "inside": lambda x, w, b: w @ np.tanh(x) + b,
        "outside": lambda x, w, b: np.tanh(w @ x + b),
        "bottleneck": lambda x, w1, b1, w2, b2: w2 @ np.tanh(w1 @ x + b1) + b2,
    }
    for field, formula in fields.items():
        network = small_network(field=field, layers=1)
        controls, _ = unpack(network, random_start(network, seed=19))
        u = [array[0] for array in controls.values()]
        start, end = forward(network, controls)
        for before, after, given in zip(start, end, network.inputs, strict=True):
            assert np.array_equal(before, [*given, 0.0])
            moved = before + network.step * formula(before, *u)
            np.testing.assert_allclose(after, moved, rtol=1e-14, atol=1e-15)


def test_objective_weighs_its_four_parts() -> None:
    network = small_network(readout="trained", readout_decay=0.2, alpha=0.4, beta=0.7)
    controls, q = unpack(network, random_start(network, seed=20))
    end = forward(network, controls)[-1] @ q.weight.T + q.bias
    expected = (
        0.4 * ((end - network.targets) ** 2).sum() / 4
        + 0.7 * running_error(network, controls, q)
        + network.decay * control_energy(network, controls)
        + 0.2 * (np.sum(q.weight**2) + np.sum(q.bias**2))
    )
    assert objective(network, controls, q) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("readout", CHOICES["readout"])
@pytest.mark.parametrize("field", CHOICES["field"])
def test_packing_inverts_unpacking(field: str, readout: str) -> None:
    network = small_network(field=field, readout=readout)
    vector = random_start(network, seed=4)
    assert np.array_equal(pack(network, *unpack(network, vector)), vector)


@pytest.mark.parametrize("field", CHOICES["field"])
def test_samples_may_be_permuted(field: str) -> None:
    network = small_network(field=field, beta=0.5, scheme="rk4")
    vector = random_start(network, seed=5)
    order = np.array([2, 0, 3, 1])
    permuted = replace(network, inputs=network.inputs[order], targets=network.targets[order])
    value, gradient = objective_and_gradient(network, vector)
    other_value, other_gradient = objective_and_gradient(permuted, vector)
    assert other_value == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-12, atol=1e-14)
    controls, _ = unpack(network, vector)
    assert np.array_equal(forward(permuted, controls), forward(network, controls)[:, order])


def test_hidden_neurons_may_be_permuted() -> None:
    network = small_network(field="bottleneck", hidden=3)
    u, _ = unpack(network, random_start(network, seed=6))
    order = np.array([2, 0, 1])
    permuted = {"w1": u["w1"][:, order], "b1": u["b1"][:, order], "w2": u["w2"][:, :, order]}
    assert objective(network, u | permuted) == pytest.approx(objective(network, u), rel=1e-14)


@pytest.mark.parametrize("field", CHOICES["field"])
@pytest.mark.parametrize("scheme", CHOICES["scheme"])
def test_forward_pass_converges_at_the_order_of_the_scheme(scheme: str, field: str) -> None:
    network = small_network(field=field, scheme=scheme, layers=2)
    controls, _ = unpack(network, random_start(network, seed=7))
    refinements = np.array([32, 64, 128] if scheme != "rk4" else [8, 16, 32])
    exact = refined_training_error(network, controls)
    fine = running_error(replace(network, scheme="rk4", substeps=100), controls)
    refined = [replace(network, substeps=int(substeps)) for substeps in refinements]
    terminal = [training_error(n, forward(n, controls)[-1]) - exact for n in refined]
    running = [running_error(n, controls) - fine for n in refined]
    for errors in (terminal, running):
        slope = np.polyfit(np.log(refinements), np.log(np.abs(errors)), 1)[0]
        assert -slope == pytest.approx(ORDERS[scheme], abs=0.15)


@pytest.mark.parametrize("scheme", CHOICES["scheme"])
def test_scalar_linear_equation_follows_the_stability_function_and_the_exponential(
    scheme: str,
) -> None:
    """With ReLU and x > 0, x' = w x: each step multiplies by the Taylor polynomial of exp."""
    w, horizon, layers, start = 0.8, 1.5, 4, 0.5
    network = Network(
        np.array([[start]]),
        np.array([[0.0]]),
        activation="relu",
        scheme=scheme,
        layers=layers,
        horizon=horizon,
    )
    controls = {"w": np.full((layers, 1, 1), w), "b": np.zeros((layers, 1))}
    z = w * horizon / layers
    factor = sum(z**j / np.prod(np.arange(1.0, j + 1)) for j in range(ORDERS[scheme] + 1))
    end = start * factor**layers
    assert forward(network, controls)[-1, 0, 0] == pytest.approx(end, rel=1e-14)
    exact = (start * np.exp(w * horizon)) ** 2
    assert refined_training_error(network, controls) == pytest.approx(exact, rel=1e-10)


def test_running_error_of_resting_states_is_the_horizon_times_the_error() -> None:
    for scheme in CHOICES["scheme"]:
        network = small_network(scheme=scheme, substeps=3)
        controls, _ = unpack(network, random_start(network, seed=0, scale=0.0))
        error = training_error(network, forward(network, controls)[0])
        assert running_error(network, controls) == pytest.approx(network.horizon * error, rel=1e-14)


def test_running_error_under_euler_is_the_left_endpoint_sum() -> None:
    network = small_network()
    controls, _ = unpack(network, random_start(network, seed=8))
    errors = [training_error(network, x) for x in forward(network, controls)[:-1]]
    left = network.step * sum(errors)
    assert running_error(network, controls) == pytest.approx(left, rel=1e-14)


def test_control_penalty_of_a_ramp_is_its_sum() -> None:
    """b = c k in one component: R is h sum (c k)^2, h sum |c k|, the former + (K-1) c^2/h."""
    network = small_network(layers=4, width=2)
    controls, _ = unpack(network, random_start(network, seed=0, scale=0.0))
    controls["b"][:, 1] = -0.5 * np.arange(4)
    h = network.step
    assert control_energy(network, controls) == pytest.approx(h * 0.25 * 14, rel=1e-14)
    for penalty, expected in {
        "l2": h * 0.25 * 14,
        "l1": h * 0.5 * 6,
        "h1": h * 0.25 * 14 + 3 * 0.25 / h,
    }.items():
        value = control_penalty(replace(network, penalty=penalty), controls)
        assert value == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("scheme", CHOICES["scheme"])
@pytest.mark.parametrize(
    ("field", "activation"),
    [("inside", "tanh"), ("inside", "softplus"), ("outside", "relu"), ("outside", "leaky-relu")],
)
def test_horizon_and_penalty_scale_as_one_number_for_homogeneous_fields(
    field: str, activation: str, scheme: str
) -> None:
    """J_{lambda,T}(u) = E(x_v(1)) + (lambda/T) ||v||^2 with v = T u."""
    network = small_network(field=field, activation=activation, scheme=scheme, horizon=3.7)
    u, _ = unpack(network, random_start(network, seed=9, scale=0.3))
    v = {name: network.horizon * array for name, array in u.items()}
    unit = replace(network, horizon=1.0)
    error = training_error(unit, forward(unit, v)[-1])
    scaled = error + network.decay / network.horizon * control_energy(unit, v)
    assert objective(network, u) == pytest.approx(scaled, rel=1e-13)


@pytest.mark.parametrize("readout", CHOICES["readout"])
@pytest.mark.parametrize("scheme", CHOICES["scheme"])
@pytest.mark.parametrize("field", CHOICES["field"])
def test_costates_are_derivatives_of_the_cost_of_the_remaining_layers(
    field: str, scheme: str, readout: str
) -> None:
    network = small_network(field=field, scheme=scheme, readout=readout, beta=0.6, alpha=0.8)
    controls, q = unpack(network, random_start(network, seed=10))
    states, p = forward(network, controls), costates(network, controls, q)
    for k in range(network.layers):
        rest = {name: array[k:] for name, array in controls.items()}
        left = network.layers - k
        tail = replace(network, inputs=states[k], layers=left, horizon=left * network.step)
        perturbed = [states[k] + step.reshape(states[k].shape) for step in steps(states[k].size)]
        slopes = [objective(replace(tail, inputs=x), rest, q).imag for x in perturbed]
        expected = np.reshape(slopes, states[k].shape) / COMPLEX_STEP
        np.testing.assert_allclose(p[k], expected, rtol=1e-11, atol=1e-14)
    terminal = replace(network, beta=0.0)
    np.testing.assert_array_equal(p[-1], costates(terminal, controls, q)[-1])


def test_one_euler_layer_is_ridge_regression() -> None:
    """J = |a + h Phi u - y|^2 / N + lambda h |u|^2 with features Phi = (tanh a, 1)."""
    network = small_network(width=2, layers=1, decay=0.1)
    h, count = network.step, len(network.inputs)
    features = np.column_stack([np.tanh(network.inputs), np.ones(count)])
    normal = h * features.T @ features / count + network.decay * np.eye(3)
    weights = np.linalg.solve(normal, features.T @ (network.targets - network.inputs) / count)
    found = minimize(network, random_start(network, seed=11))
    assert found.is_converged
    np.testing.assert_allclose(found.controls["w"][0], weights[:2].T, rtol=1e-11)
    np.testing.assert_allclose(found.controls["b"][0], weights[2], rtol=1e-11)
    eigenvalue = 2 * h * np.linalg.eigvalsh(normal)[0]
    assert found.smallest_eigenvalue == pytest.approx(eigenvalue, rel=1e-11)


@pytest.mark.parametrize("target", [2.0, 0.1, -3.0])
@pytest.mark.parametrize("bound", [None, 0.7])
def test_one_layer_from_the_origin_is_soft_thresholding_within_the_bound(
    target: float, bound: float | None
) -> None:
    """tanh(0) = 0, so J = (h b - y)^2 + lambda h (|w| + |b|)."""
    network = Network(
        np.zeros((1, 1)),
        np.array([[target]]),
        layers=1,
        horizon=1.5,
        decay=0.4,
        penalty="l1",
        bound=bound,
    )
    found = minimize(network, random_start(network, seed=12))
    shrunk = np.sign(target) * max(abs(target) - network.decay / 2, 0) / network.step
    limit = np.inf if bound is None else bound
    assert found.is_converged
    assert found.controls["w"][0, 0, 0] == 0
    assert found.controls["b"][0, 0] == pytest.approx(np.clip(shrunk, -limit, limit), abs=1e-12)


def test_scalar_optimum_converges_to_the_geodesic_distance_at_order_two() -> None:
    """One sample in R: the least Int |u|^2 on [0, T] from a to z is D(z)^2/T,

        D(z) = Int_a^z dx / sqrt(1 + s(x)^2),

    as the speed |x'| is at most |u| sqrt(1 + s(x)^2), with equality along (s(x), 1). Hence
    min J = min_z (z - y)^2 + (lambda/T) D(z)^2. The midpoint rule with a control held constant
    on each layer has order two.
    """
    start, target, decay, horizon = -0.4, 1.7, 0.3, 2.0

    def cost(z: float) -> float:
        distance = quad(lambda x: 1 / np.sqrt(1 + np.sin(x) ** 2), start, z, epsabs=1e-13)[0]
        return float((z - target) ** 2 + decay / horizon * distance**2)

    exact = minimize_scalar(cost, bracket=(0, 2), tol=1e-10).fun
    depths = np.array([5, 10, 20])
    errors = []
    for layers in depths:
        network = Network(
            np.array([[start]]),
            np.array([[target]]),
            activation="sin",
            horizon=horizon,
            layers=int(layers),
            scheme="midpoint",
            decay=decay,
        )
        found = minimize(network, random_start(network, seed=13, scale=0.1))
        assert found.is_converged
        assert found.smallest_eigenvalue > 0
        errors.append(abs(found.objective - exact))
    slope = np.polyfit(np.log(depths), np.log(errors), 1)[0]
    assert -slope == pytest.approx(2, abs=0.15)


def test_optimal_weights_are_outer_products_of_costates_and_activations() -> None:
    """Stationarity, "inside", Euler: w^k = -(1/(2 lambda)) sum_i p_i^{k+1} s(x_i^k)^T."""
    network = small_network(layers=4, beta=0.5)
    found = minimize(network, random_start(network, seed=14))
    assert found.is_converged
    assert found.smallest_eigenvalue > 0
    p, x = costates(network, found.controls)[1:], forward(network, found.controls)[:-1]
    w = -np.einsum("kid,kie->kde", p, np.tanh(x)) / (2 * network.decay)
    np.testing.assert_allclose(found.controls["w"], w, atol=1e-11)
    np.testing.assert_allclose(found.controls["b"], -p.sum(1) / (2 * network.decay), atol=1e-11)


@pytest.mark.parametrize(
    "choices",
    [
        {"field": "bottleneck", "scheme": "heun"},
        {"loss": "cross-entropy", "readout": "trained", "readout_decay": 0.05},
        {"loss": "logistic", "penalty": "h1"},
        {"penalty": "l1", "beta": 1.0},
        {"bound": 0.5, "field": "outside"},
        {"penalty": "l1", "bound": 0.6, "beta": 1.0},
    ],
    ids=lambda c: "-".join(str(v) for v in c.values()),
)
def test_no_nearby_point_is_better_than_a_minimum(choices: dict[str, Any]) -> None:
    network = small_network(**choices)
    found = minimize(network, random_start(network, seed=15, scale=0.3))
    assert found.is_converged
    assert found.smallest_eigenvalue > 0
    assert stationarity(network, found.vector) == found.stationarity
    limit = network.bound or np.inf
    assert all(np.abs(u).max() <= limit for u in found.controls.values())
    for seed in range(20):
        nearby = found.vector + random_start(network, seed, scale=1e-3)
        controls, readout = unpack(network, nearby)
        controls = {name: np.clip(u, -limit, limit) for name, u in controls.items()}
        assert objective(network, controls, readout) > found.objective


def test_hessian_of_h1_energy_is_that_of_a_second_difference() -> None:
    """With alpha = beta = 0 the Hessian is 2 lambda (h I + L / h), L the path's Laplacian."""
    network = small_network(alpha=0.0, penalty="h1", layers=5, width=2)
    matrix = hessian(network, random_start(network, seed=16))
    modes = 2 - 2 * np.cos(np.pi * np.arange(5) / 5)
    values = 2 * network.decay * (network.step + modes / network.step)
    expected = np.sort(np.concatenate([np.tile(values, 6)]))
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), expected, rtol=1e-12)


def saved_arrays(network: Network, vector: Array, **options: Any) -> dict[str, Any]:
    """A solution file of the contract, as another program would write it."""
    controls, readout = unpack(network, vector)
    chosen = {
        "field": network.field,
        "activation": network.activation,
        "width": None,
        "hidden": network.hidden,
        "horizon": network.horizon,
        "layers": network.layers,
        "scheme": network.scheme,
        "substeps": network.substeps,
        "loss": network.loss,
        "terminal": network.alpha,
        "tracking": network.beta,
        "weight_decay": network.decay,
        "penalty": network.penalty,
        "bound": None,
        "readout": network.readout,
    }
    metadata = {"format_version": 1, "options": chosen | options, "result": {"status": "solved"}}
    return {
        "times": np.linspace(0, network.horizon, network.layers + 1),
        "states": forward(network, controls),
        "costates": costates(network, controls, readout),
        "inputs": network.inputs,
        "targets": network.targets,
        **controls,
        "readout_weight": readout.weight,
        "readout_bias": readout.bias,
        "metadata": json.dumps(metadata),
    }


@pytest.mark.parametrize("readout", CHOICES["readout"])
@pytest.mark.parametrize("field", CHOICES["field"])
def test_saved_solution_is_read_with_its_problem(tmp_path: Path, field: str, readout: str) -> None:
    network = small_network(field=field, readout=readout, readout_decay=0.1, beta=0.2)
    vector = random_start(network, seed=17)
    path = tmp_path / "solution.npz"
    np.savez(path, **saved_arrays(network, vector, readout_decay=0.1))
    saved = load_network(path)
    assert isinstance(saved.readout, Readout)
    assert saved.result == {"status": "solved"}
    assert np.array_equal(pack(saved.network, saved.controls, saved.readout), vector)
    assert np.array_equal(forward(saved.network, saved.controls), saved.states)
    expected = objective(network, *unpack(network, vector))
    assert objective(saved.network, saved.controls, saved.readout) == expected


def test_a_file_that_does_not_state_its_problem_is_refused(tmp_path: Path) -> None:
    network = small_network(readout="trained")
    arrays = saved_arrays(network, random_start(network, seed=18))
    path = tmp_path / "solution.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="readout_decay"):
        load_network(path)
    assert load_network(path, readout_decay=0.3).network.readout_decay == 0.3
    np.savez(path, **(arrays | {"times": arrays["times"] ** 2}))
    with pytest.raises(ValueError, match="unequal layers"):
        load_network(path, readout_decay=0.3)


def test_unknown_names_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scheme is 'rk5', expected one of euler, .*rk4"):
        small_network(scheme="rk5")
    with pytest.raises(ValueError, match="at least 2"):
        small_network(width=1)
    with pytest.raises(ValueError, match="hidden"):
        small_network(field="bottleneck", hidden=None)
