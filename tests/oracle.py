"""An independent oracle for the discrete learning problem, in plain NumPy and SciPy.

It shares no code with the package, so that agreement between the two is evidence. Everything is
dimensionless. With K layers of h = T/K, S substeps of tau = h/S, and an explicit tableau (A, b),

    X_i = x + tau sum_{j<i} A_ij f(X_j, u^k),    x_next = x + tau sum_i b_i f(X_i, u^k)
    J   = alpha E(x^K) + beta sum tau b_i E(X_i) + lambda R(u) + lambda_q (|W|^2 + |c|^2)
    E   = (1/N) sum_i loss(W x_i + c, y_i)
    R   = sum_k h |u^k|^2  (l2)   or   sum_k h |u^k|_1  (l1)
          or   sum_k h |u^k|^2 + sum_{k<K-1} |u^{k+1} - u^k|^2 / h  (h1)

where |u|^2 sums over weights and biases, and lambda_q counts only for a trained read-out.

Arrays hold samples in rows: states (K+1, N, D). Controls are a dictionary of arrays stacked over
layers, named and shaped as in a solution file. All formulas are complex-analytic wherever they are
smooth, so that one complex step differentiates the objective to rounding error, and the gradient
likewise into an exact Hessian.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import integrate, linalg, optimize, special  # type: ignore[import-untyped,unused-ignore]

Array = npt.NDArray[Any]
Controls = dict[str, Array]

COMPLEX_STEP = 1e-30  # squared it is far below rounding, yet far above underflow

# Attributes of Network whose key in metadata["options"] of a solution file is another one
OPTION_KEYS = {"alpha": "terminal", "beta": "tracking", "decay": "weight_decay"}

TABLEAUX: dict[str, tuple[Array, Array]] = {
    "euler": (np.zeros((1, 1)), np.ones(1)),
    "midpoint": (np.array([[0, 0], [0.5, 0]]), np.array([0.0, 1.0])),
    "heun": (np.array([[0, 0], [1.0, 0]]), np.array([0.5, 0.5])),
    "rk4": (np.diag([0.5, 0.5, 1.0], -1), np.array([1, 2, 2, 1]) / 6),
}


def _sigmoid(x: Array) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _softplus(x: Array) -> Any:
    sign = np.where(x.real > 0, 1.0, -1.0)
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(-sign * x))


def _normal_cdf(x: Array) -> Any:
    return 0.5 * (1 + special.erf(x / np.sqrt(2)))


def _leaky(slope: float) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    return lambda x: np.where(x.real > 0, x, slope * x), lambda x: np.where(x.real > 0, 1.0, slope)


# Value and derivative; at a kink, the derivative from the left.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "relu": _leaky(0.0),
    "leaky-relu": _leaky(0.01),
    "softplus": (_softplus, _sigmoid),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x))),
    "gelu": (
        lambda x: x * _normal_cdf(x),
        lambda x: _normal_cdf(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi),
    ),
    "sin": (np.sin, np.cos),
}


def loss_and_slope(name: str, z: Array, y: Array) -> tuple[Array, Array]:
    """Losses (N,) of outputs z against targets y (N, M), and their derivative in z (N, M).

    At a kink the derivative is that of the flat side, and zero for the norms.
    """
    if name == "squared":
        return ((z - y) ** 2).sum(1), 2 * (z - y)
    if name == "distance":
        norm = np.sqrt(((z - y) ** 2).sum(1))
        return norm, (z - y) / np.where(norm == 0, 1, norm)[:, None]
    if name == "l1":
        sign = np.sign((z - y).real)
        return (sign * (z - y)).sum(1), sign
    if name == "logistic":
        return _softplus(-y * z).sum(1), -y * _sigmoid(-y * z)
    if name == "hinge":
        violated = (1 - y * z).real > 0
        return np.where(violated, 1 - y * z, 0).sum(1), np.where(violated, -y, 0)
    largest = z.real.max(1, keepdims=True)
    exponentials = np.exp(z - largest)
    total = exponentials.sum(1, keepdims=True)
    return (np.log(total) + largest)[:, 0] - (y * z).sum(1), exponentials / total - y


CHOICES = {
    "field": ("inside", "outside", "bottleneck"),
    "activation": tuple(ACTIVATIONS),
    "scheme": tuple(TABLEAUX),
    "loss": ("squared", "distance", "l1", "logistic", "hinge", "cross-entropy"),
    "penalty": ("l2", "l1", "h1"),
    "readout": ("first", "trained"),
}


class Readout(NamedTuple):
    """Affine map x -> W x + c from states to outputs."""

    weight: Array  # (M, D)
    bias: Array  # (M,)


@dataclass(frozen=True, eq=False)
class Network:
    """A discrete learning problem: data, field, discretisation and cost.

    Inputs (N, d0); targets (N, M), encoded as the loss needs them. `width` None means d0. `bound`
    limits every control to [-bound, bound], but not the read-out.
    """

    inputs: Array
    targets: Array
    field: str = "inside"
    activation: str = "tanh"
    width: int | None = None
    hidden: int | None = None
    horizon: float = 1.0
    layers: int = 20
    scheme: str = "euler"
    substeps: int = 1
    loss: str = "squared"
    alpha: float = 1.0
    beta: float = 0.0
    decay: float = 1e-2  # lambda
    penalty: str = "l2"
    bound: float | None = None
    readout: str = "first"
    readout_decay: float = 0.0  # lambda_q

    def __post_init__(self) -> None:
        """Refuse unknown names and sizes that do not fit."""
        for name, known in CHOICES.items():
            if (given := getattr(self, name)) not in known:
                raise ValueError(f"{name} is {given!r}, expected one of {', '.join(known)}.")
        if self.field == "bottleneck" and not self.hidden:
            raise ValueError("field 'bottleneck' needs hidden, a positive number of neurons.")
        outputs = self.targets.shape[1] if self.readout == "first" else 0
        if self.state_size < (needed := max(self.inputs.shape[1], outputs)):
            raise ValueError(f"the width is {self.width}, expected at least {needed}; widen it.")

    @property
    def state_size(self) -> int:
        """D, the number of states of a sample."""
        return int(self.inputs.shape[1]) if self.width is None else self.width

    @property
    def step(self) -> float:
        """h, the length of a layer."""
        return self.horizon / self.layers

    @property
    def control_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the stacked controls, in the order of the vector of unknowns."""
        k, d, h = self.layers, self.state_size, self.hidden or 0
        if self.field == "bottleneck":
            return {"w1": (k, h, d), "b1": (k, h), "w2": (k, d, h), "b2": (k, d)}
        return {"w": (k, d, d), "b": (k, d)}

    @property
    def first_coordinates(self) -> Readout:
        """The read-out that takes the first M states."""
        outputs = self.targets.shape[1]
        return Readout(np.eye(outputs, self.state_size), np.zeros(outputs))


def pack(network: Network, controls: Controls, readout: Readout | None = None) -> Array:
    """One vector: controls in the order of `control_shapes`, then W and c if they are trained."""
    parts = [controls[name] for name in network.control_shapes]
    if network.readout == "trained":
        parts += network.first_coordinates if readout is None else readout
    return np.concatenate([part.ravel() for part in parts])


def unpack(network: Network, vector: Array) -> tuple[Controls, Readout]:
    """The inverse of `pack`; a read-out that is not trained takes the first M coordinates."""
    controls, start = {}, 0
    for name, shape in network.control_shapes.items():
        size = math.prod(shape)
        controls[name] = vector[start : start + size].reshape(shape)
        start += size
    if network.readout == "first":
        return controls, network.first_coordinates
    outputs = network.targets.shape[1]
    return controls, Readout(vector[start:-outputs].reshape(outputs, -1), vector[-outputs:])


def random_start(network: Network, seed: int, scale: float = 1.0) -> Array:
    """Normally distributed unknowns with standard deviation `scale`, cut at the bound."""
    bound = _limits(network)[1]
    vector = scale * np.random.default_rng(seed).standard_normal(len(bound))
    return np.clip(vector, -bound, bound)


def velocity(network: Network, x: Array, u: Controls) -> Array:
    """f(x, u) for all samples, x (N, D), with the controls u of one layer."""
    s = ACTIVATIONS[network.activation][0]
    if network.field == "inside":
        return s(x) @ u["w"].T + u["b"]
    if network.field == "outside":
        return s(x @ u["w"].T + u["b"])
    return s(x @ u["w1"].T + u["b1"]) @ u["w2"].T + u["b2"]


def _pull_back(network: Network, x: Array, u: Controls, g: Array) -> tuple[Array, Controls]:
    """Derivatives of sum_i g_i . f(x_i, u) in x (N, D), and in u."""
    s, slope = ACTIVATIONS[network.activation]
    if network.field == "inside":
        return (g @ u["w"]) * slope(x), {"w": g.T @ s(x), "b": g.sum(0)}
    if network.field == "outside":
        dz = g * slope(x @ u["w"].T + u["b"])
        return dz @ u["w"], {"w": dz.T @ x, "b": dz.sum(0)}
    z = x @ u["w1"].T + u["b1"]
    dz = (g @ u["w2"]) * slope(z)
    return dz @ u["w1"], {"w1": dz.T @ x, "b1": dz.sum(0), "w2": g.T @ s(z), "b2": g.sum(0)}


def _propagate(network: Network, controls: Controls) -> tuple[Array, Array]:
    """States (K+1, N, D) at the layers, and all stages X (K, S, s, N, D)."""
    a, b = TABLEAUX[network.scheme]
    tau = network.step / network.substeps
    samples, d0 = network.inputs.shape
    dtype = np.result_type(float, network.inputs, *controls.values())
    x = np.zeros((samples, network.state_size), dtype)
    x[:, :d0] = network.inputs
    states = np.empty((network.layers + 1, *x.shape), dtype)
    stages = np.empty((network.layers, network.substeps, len(b), *x.shape), dtype)
    states[0] = x
    for k in range(network.layers):
        u = {name: array[k] for name, array in controls.items()}
        for substep in range(network.substeps):
            velocities = np.zeros((len(b), *x.shape), dtype)
            for i in range(len(b)):
                stages[k, substep, i] = x + tau * np.tensordot(a[i, :i], velocities[:i], 1)
                velocities[i] = velocity(network, stages[k, substep, i], u)
            x = x + tau * np.tensordot(b, velocities, 1)
        states[k + 1] = x
    return states, stages


def forward(network: Network, controls: Controls) -> Array:
    """States (K+1, N, D) at the ends of the layers, the zero-padded inputs first."""
    return _propagate(network, controls)[0]


def training_error(network: Network, states: Array, readout: Readout | None = None) -> Any:
    """E of the states (N, D) at one time; the default read-out takes the first M coordinates."""
    weight, bias = readout or network.first_coordinates
    return loss_and_slope(network.loss, states @ weight.T + bias, network.targets)[0].mean()


def _error_gradient(network: Network, states: Array, readout: Readout) -> tuple[Array, Readout]:
    """Derivatives of E in the states (N, D), and in the read-out."""
    outputs = states @ readout.weight.T + readout.bias
    dz = loss_and_slope(network.loss, outputs, network.targets)[1] / len(states)
    return dz @ readout.weight, Readout(dz.T @ states, dz.sum(0))


def running_error(network: Network, controls: Controls, readout: Readout | None = None) -> Any:
    """Int E dt by the tableau, sum tau b_i E(X_i); without beta."""
    b = TABLEAUX[network.scheme][1]
    errors = [
        [[training_error(network, x, readout) for x in stages] for stages in substeps]
        for substeps in _propagate(network, controls)[1]
    ]
    return network.step / network.substeps * (np.array(errors) @ b).sum()


def control_energy(network: Network, controls: Controls) -> Any:
    """Int |u|^2 dt = sum_k h |u^k|^2, whatever the penalty is."""
    return network.step * sum((array**2).sum() for array in controls.values())


def control_penalty(network: Network, controls: Controls) -> Any:
    """R(u) integrated over the horizon, without lambda."""
    if network.penalty == "l1":
        return network.step * sum((np.sign(u.real) * u).sum() for u in controls.values())
    energy = control_energy(network, controls)
    if network.penalty == "h1":
        energy += sum((np.diff(u, axis=0) ** 2).sum() for u in controls.values()) / network.step
    return energy


def objective(network: Network, controls: Controls, readout: Readout | None = None) -> Any:
    """J, with the read-out's own penalty if it is trained."""
    readout = readout or network.first_coordinates
    value = network.decay * control_penalty(network, controls)
    value += network.alpha * training_error(network, forward(network, controls)[-1], readout)
    if network.beta:
        value += network.beta * running_error(network, controls, readout)
    if network.readout == "trained":
        value += network.readout_decay * ((readout.weight**2).sum() + (readout.bias**2).sum())
    return value


def _sweep_back(
    network: Network, controls: Controls, readout: Readout
) -> tuple[Array, Controls, Readout]:
    """Costates (K+1, N, D); derivatives of alpha E + beta Int E in the controls, in the read-out.

    The adjoint of a Runge-Kutta step, with v_i the derivative in the velocity f(X_i, u):

        v_i = tau b_i p + tau sum_{j>i} A_ji q_j    for i = s, ..., 1
        q_i = f_x(X_i)^T v_i + beta tau b_i E'(X_i),    p <- p + sum_i q_i
    """
    a, b = TABLEAUX[network.scheme]
    tau = network.step / network.substeps
    states, stages = _propagate(network, controls)
    dtype = np.result_type(states, *readout)
    costates = np.empty(states.shape, dtype)
    gradient = {name: np.zeros(u.shape, dtype) for name, u in controls.items()}
    slope, dq = _error_gradient(network, states[-1], readout)
    p = network.alpha * slope
    weight, bias = network.alpha * dq.weight, network.alpha * dq.bias
    costates[-1] = p
    for k in reversed(range(network.layers)):
        u = {name: array[k] for name, array in controls.items()}
        for substep in reversed(range(network.substeps)):
            q = np.zeros((len(b), *p.shape), dtype)
            for i in reversed(range(len(b))):
                v = tau * (b[i] * p + np.tensordot(a[i + 1 :, i], q[i + 1 :], 1))
                q[i], du = _pull_back(network, stages[k, substep, i], u, v)
                for name, part in du.items():
                    gradient[name][k] += part
                if network.beta and b[i]:
                    rate = network.beta * tau * b[i]
                    slope, dq = _error_gradient(network, stages[k, substep, i], readout)
                    q[i] += rate * slope
                    weight, bias = weight + rate * dq.weight, bias + rate * dq.bias
            p = p + q.sum(0)
        costates[k] = p
    return costates, gradient, Readout(weight, bias)


def costates(network: Network, controls: Controls, readout: Readout | None = None) -> Array:
    """dJ/dx_i^k, (K+1, N, D), the controls held; the last is +alpha dE/dx."""
    return _sweep_back(network, controls, readout or network.first_coordinates)[0]


def objective_and_gradient(network: Network, vector: Array) -> tuple[Any, Array]:
    """J and its gradient in the vector of unknowns; an l1 penalty has the derivative sign(u)."""
    controls, readout = unpack(network, vector)
    _, gradient, dq = _sweep_back(network, controls, readout)
    h = network.step
    for name, u in controls.items():
        if network.penalty == "l1":
            gradient[name] += network.decay * h * np.sign(u.real)
            continue
        gradient[name] += 2 * network.decay * h * u
        if network.penalty == "h1":
            difference = 2 * network.decay * np.diff(u, axis=0) / h
            gradient[name][1:] += difference
            gradient[name][:-1] -= difference
    rate = 2 * network.readout_decay
    dq = Readout(dq.weight + rate * readout.weight, dq.bias + rate * readout.bias)
    return objective(network, controls, readout), pack(network, gradient, dq)


def hessian(network: Network, vector: Array) -> Array:
    """Hessian of J in the unknowns, states eliminated, by complex steps through the gradient."""
    steps = COMPLEX_STEP * 1j * np.eye(len(vector))
    columns: Array = np.array(
        [objective_and_gradient(network, vector + step)[1].imag for step in steps]
    )
    return np.add(columns, columns.T) / (2 * COMPLEX_STEP)


def _limits(network: Network) -> tuple[Array, Array]:
    """Per unknown: the weight of its absolute value in J, and the bound on it."""
    controls = {name: np.ones(shape) for name, shape in network.control_shapes.items()}
    nothing = Readout(*(np.zeros_like(part) for part in network.first_coordinates))
    is_control = pack(network, controls, nothing)
    threshold = network.decay * network.step * is_control * (network.penalty == "l1")
    return threshold, np.where(is_control, network.bound or np.inf, np.inf)


def stationarity(network: Network, vector: Array) -> float:
    """Max-norm of v - clip(soft(v - g, t)), g the gradient without l1 terms of weight t.

    Without an l1 penalty and bounds this is the max-norm of the gradient.
    """
    threshold, bound = _limits(network)
    smooth = objective_and_gradient(network, vector)[1] - threshold * np.sign(vector)
    # v - soft(v - g, t) = g + clip(v - g, -t, t) does not lose the small g to cancellation
    residual = smooth + np.clip(vector - smooth, -threshold, threshold)
    return float(np.abs(np.clip(residual, vector - bound, vector + bound)).max())


class Minimum(NamedTuple):
    """What `minimize` found; check `is_converged` before trusting it."""

    vector: Array
    controls: Controls
    readout: Readout
    objective: float
    stationarity: float  # see the function of that name
    smallest_eigenvalue: float  # of the Hessian, unknowns at a bound or held at 0 by l1 removed
    is_converged: bool


def minimize(network: Network, start: Array, tolerance: float = 1e-12) -> Minimum:
    """A local minimum of J: L-BFGS-B, a trust region where J is smooth, then Newton steps.

    For small problems, as it forms the Hessian. With an l1 penalty, L-BFGS-B sees each unknown as
    the difference of two non-negative parts. At a kink of the loss (the distance, where it is zero)
    or of the activation it does not converge, and says so.

    Args:
        start: vector of unknowns, see `pack`.
        tolerance: on the stationarity, relative to the gradient at zero controls.
    """
    threshold, bound = _limits(network)
    zero = {name: np.zeros(shape) for name, shape in network.control_shapes.items()}
    scale = float(np.abs(objective_and_gradient(network, pack(network, zero))[1]).max()) or 1.0

    signs = np.array([1.0, -1.0]) if threshold.any() else np.array([1.0])
    weights, upper = np.tile(threshold, len(signs)), np.tile(bound, len(signs))
    lower = np.zeros_like(upper) if threshold.any() else -upper

    def value_of_parts(parts: Array) -> tuple[Any, Array]:
        vector = signs @ parts.reshape(len(signs), -1)
        value, gradient = objective_and_gradient(network, vector)
        smooth = gradient - threshold * np.sign(vector)
        value += weights @ parts - threshold @ np.abs(vector)
        return value, np.outer(signs, smooth).ravel() + weights

    found = optimize.minimize(
        value_of_parts,
        np.clip(np.outer(signs, start).ravel(), lower, upper),
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(lower, upper),
        options={"maxiter": 20000, "maxfun": 20000, "maxcor": 30, "ftol": 0, "gtol": 1e-9 * scale},
    )
    if not threshold.any() and network.bound is None:
        found = optimize.minimize(
            lambda v: objective_and_gradient(network, v),
            found.x,
            jac=True,
            hess=lambda v: hessian(network, v),
            method="trust-exact",
            options={"gtol": 1e-9 * scale, "maxiter": 100},
        )
    vector = signs @ found.x.reshape(len(signs), -1)

    def free_hessian() -> Array:
        return hessian(network, vector)[np.ix_(free, free)]

    residual = stationarity(network, vector)
    while True:
        free = ((threshold == 0) | (vector != 0)) & (np.abs(vector) < bound)
        if residual <= 1e-3 * tolerance * scale or not free.any():
            break
        gradient, trial = objective_and_gradient(network, vector)[1], vector.copy()
        trial[free] -= linalg.lstsq(free_hessian(), gradient[free])[0]
        trial = np.where((threshold > 0) & (trial * vector < 0), 0, np.clip(trial, -bound, bound))
        if (next_residual := stationarity(network, trial)) >= residual:
            break
        vector, residual = trial, next_residual
    curvature = float(np.linalg.eigvalsh(free_hessian())[0]) if free.any() else np.inf
    controls, readout = unpack(network, vector)
    value = float(objective(network, controls, readout))
    return Minimum(
        vector, controls, readout, value, residual, curvature, residual <= tolerance * scale
    )


def refined_training_error(
    network: Network, controls: Controls, readout: Readout | None = None, tolerance: float = 1e-12
) -> float:
    """E(x(T)) of the differential equation: DOP853, layer by layer as the control jumps."""
    x = forward(network, controls)[0]
    shape = x.shape
    for k in range(network.layers):
        u = {name: array[k] for name, array in controls.items()}

        def rate(_: float, flat: Array, u: Controls = u) -> Array:
            return velocity(network, flat.reshape(shape), u).ravel()

        solution = integrate.solve_ivp(
            rate, (0, network.step), x.ravel(), "DOP853", rtol=tolerance, atol=tolerance
        )
        if not solution.success:
            raise ArithmeticError(f"integration failed in layer {k}: {solution.message}")
        x = solution.y[:, -1].reshape(shape)
    return float(training_error(network, x, readout))


class SavedSolution(NamedTuple):
    """A solution file, read with NumPy alone."""

    network: Network
    controls: Controls
    readout: Readout
    states: Array  # (K+1, N, D)
    costates: Array  # (K+1, N, D)
    times: Array  # (K+1,)
    options: dict[str, Any]
    result: dict[str, Any]


def load_network(path: str | Path, readout_decay: float | None = None) -> SavedSolution:
    """Read a solution file of constant width and uniform layers.

    Args:
        readout_decay: lambda_q of a trained read-out, by default the option of that name.

    Raises:
        ValueError: the layers are not uniform, or no lambda_q is known for a trained read-out.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    metadata = json.loads(arrays["metadata"].item())
    options = metadata["options"]
    names = {field.name for field in fields(Network)} - {"inputs", "targets", "readout_decay"}
    chosen = {name: options[OPTION_KEYS.get(name, name)] for name in names}
    chosen["width"] = arrays["states"].shape[2]
    chosen["hidden"] = arrays["w1"].shape[1] if "w1" in arrays else None
    if chosen["readout"] == "trained":
        decay = options.get("readout_decay") if readout_decay is None else readout_decay
        if decay is None:
            raise ValueError("the options lack 'readout_decay'; pass it, the read-out's penalty.")
        chosen["readout_decay"] = decay
    network = Network(inputs=arrays["inputs"], targets=arrays["targets"], **chosen)
    if not np.allclose(arrays["times"], np.linspace(0, network.horizon, network.layers + 1)):
        raise ValueError("unequal layers; this oracle expects times = linspace(0, T, K+1).")
    return SavedSolution(
        network,
        {name: arrays[name] for name in network.control_shapes},
        Readout(arrays["readout_weight"], arrays["readout_bias"]),
        arrays["states"],
        arrays["costates"],
        arrays["times"],
        options,
        metadata["result"],
    )
