"""The networks of learning problems as PyTorch modules, with the same numbers.

    X_i = x + tau sum_{j<i} a_ij f(X_j, u^k),   Phi_k(x, u^k) = x + tau sum_i b_i f(X_i, u^k)

is one Runge-Kutta step on layer k, repeated `substeps` times with tau = h / substeps, and the
outputs are z = P x^K. A layer between two grids starts from Pi_k x (`problems.layer`). In float64
states, outputs and their derivatives are those of `problems.learning` to rounding.

Parameters and buffers are named and shaped as the arrays of a solution file: controls stacked over
the layers, `w` (K, D, D) and `b` (K, D) or `w1`, `b1`, `w2`, `b2`, or `w_0`, `b_0`, ... where the
widths vary; then `readout_weight` (M, D) and `readout_bias` (M,), buffers where the read-out is
fixed. So a `state_dict` and `numpy.load` of a solution file speak of the same things. On a grid
with quadrature weights the parameters are not the kernels w but the coordinates W of
`problems.layer`, in which the penalty is |W|^2, and they are called `scaled_w` and so on.

Functional calls, parametrizations and pruning are `problems.torch_parameters`: outputs, cost and
decisions are of the parameters as they act.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ocp import rollout
from problems.learning import Array, LearningProblem
from problems.pytorch import torch
from problems.torch_parameters import ActingParameters
from problems.training import LearningSolution, assess
from problems.vector_fields import BOTTLENECK, INSIDE, LEAK, OUTSIDE

Tensor = torch.Tensor
Weights = Mapping[str, Tensor]
Elementwise = Callable[[Tensor], Tensor]
Rate = Callable[[Tensor, Weights, Elementwise], Tensor]
Observer = Callable[[Tensor, float], None]

_linear = torch.nn.functional.linear

# By the names of `problems.vector_fields`; a field or an activation of one's own is added here.
ACTIVATIONS: dict[str, Elementwise] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky-relu": partial(torch.nn.functional.leaky_relu, negative_slope=LEAK),
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "sigmoid": torch.sigmoid,
    "gelu": torch.nn.functional.gelu,
    "sin": torch.sin,
}
RATES: dict[str, Rate] = {
    INSIDE.name: lambda x, u, s: _linear(s(x), u["w"], u["b"]),
    OUTSIDE.name: lambda x, u, s: s(_linear(x, u["w"], u["b"])),
    BOTTLENECK.name: lambda x, u, s: _linear(s(_linear(x, u["w1"], u["b1"])), u["w2"], u["b2"]),
}


Nested = tuple  # of numbers, or of such: an array in plain values


@dataclass(frozen=True)
class LayerForm:
    """One layer but for its parameters.

    Args:
        shapes: of its controls by name, in their order in u.
        factors: what they are multiplied by where they stand in f; empty where that is 1.
        measure: what |u_j| counts in the l1 penalty and in bounds, (m,); empty where that is 1.
        transfer: Pi_k; None for the identity.
        carrier: Pi_{K-1} ... Pi_k, for the running error; None for the identity.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    factors: tuple[Nested, ...] = ()
    measure: Nested = ()
    transfer: Nested | None = None
    carrier: Nested | None = None

    @property
    def size(self) -> int:
        """Number of controls."""
        return sum(math.prod(shape) for _, shape in self.shapes)


@dataclass(frozen=True)
class Architecture:
    """What a network computes, but for its parameters; in plain values, so that it travels.

    Args:
        field, activation: keys of RATES and ACTIVATIONS.
        inputs, outputs: d0 and M.
        widths: D of the states 0, ..., K.
        layers: of equal length.
        substeps: S.
        horizon: T.
        a, b: coefficients of the explicit Runge-Kutta scheme.
        trained_readout: whether the read-out has parameters.
        readout_weight: P where it is fixed; None for the first M coordinates.
        readout_scale: what a trained weight is multiplied by, (D,); empty where that is 1.

    Raises:
        ValueError: a field or an activation that has no counterpart in PyTorch here.
    """

    field: str
    activation: str
    inputs: int
    outputs: int
    widths: tuple[int, ...]
    layers: tuple[LayerForm, ...]
    substeps: int
    horizon: float
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    trained_readout: bool
    readout_weight: Nested | None = None
    readout_scale: Nested = ()

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("field", self.field, RATES),
            ("activation", self.activation, ACTIVATIONS),
        ):
            if name not in known:
                raise ValueError(
                    f"the {kind} {name!r} has no counterpart in PyTorch, expected one of "
                    f"{', '.join(known)}; add it to those of problems.torch_models."
                )

    @property
    def step(self) -> float:
        """Length h of a layer."""
        return self.horizon / len(self.layers)

    @property
    def is_stacked(self) -> bool:
        """Whether all layers have controls of the same shapes, so that they fit into one array."""
        return len({layer.shapes for layer in self.layers}) == 1

    @property
    def is_scaled(self) -> bool:
        """Whether parameters are coordinates, and not the kernels themselves."""
        return any(layer.factors for layer in self.layers)


def architecture_of(problem: LearningProblem) -> Architecture:
    """The network of a learning problem."""
    scale = problem.readout_scale
    fixed = problem.fixed_readout
    made: dict[tuple[int, bytes | None], LayerForm] = {}
    layers = []
    for k in range(problem.layers):
        layer = problem.layer(k)
        carrier = problem.carried(np.eye(problem.widths[k]), k).T if not problem.is_still else None
        key = (id(layer), None if carrier is None else carrier.tobytes())
        if key not in made:
            ones = layer.effective(np.ones(layer.size))
            is_scaled = bool((layer.measure != 1.0).any())
            made[key] = LayerForm(
                shapes=tuple(layer.shapes.items()),
                factors=tuple(_nested(part) for part in ones.values()) if is_scaled else (),
                measure=_nested(layer.measure) if is_scaled else (),
                transfer=None if layer.transfer is None else _nested(layer.transfer),
                carrier=None if carrier is None else _nested(carrier),
            )
        layers.append(made[key])
    return Architecture(
        field=problem.field.name,
        activation=problem.activation.name,
        inputs=int(problem.dataset.inputs.shape[1]),
        outputs=problem.outputs,
        widths=problem.widths,
        layers=tuple(layers),
        substeps=problem.substeps,
        horizon=float(problem.horizon),
        a=tuple(tuple(map(float, row)) for row in problem.scheme.a),
        b=tuple(map(float, problem.scheme.b)),
        trained_readout=problem.trained_readout,
        readout_weight=None if fixed is None else _nested(fixed),
        readout_scale=_nested(scale) if problem.trained_readout and (scale != 1.0).any() else (),
    )


def _nested(array: NDArray) -> Nested:
    """An array in plain values."""
    if array.ndim == 1:
        return tuple(array.tolist())
    return tuple(_nested(row) for row in array)


class Network(ActingParameters):
    """Inputs (P, d0) -> outputs (P, M), any number P of points at once.

    Parameters start as those of `torch.nn.Linear` do, uniform in +-1 / sqrt(fan in), those of the
    layers divided by the horizon, so that a network of a field that is homogeneous in the control
    starts as the same function on every horizon.

    Args:
        architecture: what it computes.
        seed: of the initial parameters.
        scale: factor on those of the layers.
        dtype: of parameters and inputs.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        seed: int = 0,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        generator = torch.Generator().manual_seed(seed)
        size = scale / architecture.horizon
        drawn = [_drawn(layer, generator, size) for layer in architecture.layers]
        prefix = "scaled_" if architecture.is_scaled else ""
        self._names: list[list[str]] = []  # of the parameters, by control, then by layer
        for name, _ in architecture.layers[0].shapes:
            values = [layer[name] for layer in drawn]
            if architecture.is_stacked:
                values, names = [torch.stack(values)], [f"{prefix}{name}"]
            else:
                names = [f"{prefix}{name}_{k}" for k in range(len(values))]
            for called, value in zip(names, values, strict=True):
                self.register_parameter(called, torch.nn.Parameter(value.to(dtype)))
            self._names.append(names)
        self._register_grid(dtype)
        width, outputs = architecture.widths[-1], architecture.outputs
        if architecture.trained_readout:
            weight = _uniform((outputs, width), width, generator)
            self.readout_weight = torch.nn.Parameter(weight.to(dtype))
            bias = _uniform((outputs,), width, generator)
            self.readout_bias = torch.nn.Parameter(bias.to(dtype))
        else:
            fixed = torch.eye(outputs, width, dtype=dtype)
            if architecture.readout_weight is not None:
                fixed = torch.tensor(architecture.readout_weight, dtype=dtype)
            self.register_buffer("readout_weight", fixed)
            self.register_buffer("readout_bias", torch.zeros(outputs, dtype=dtype))

    def _register_grid(self, dtype: torch.dtype) -> None:
        """What is no part of a state_dict: factors, interpolations, and the read-out's scale."""

        def keep(name: str, value: Nested | None) -> None:
            if value:  # torch.export cannot have buffers that are None
                self.register_buffer(name, torch.tensor(value, dtype=dtype), persistent=False)

        form = self.architecture
        for k, layer in enumerate(form.layers):
            for j, factor in enumerate(layer.factors):
                keep(f"factor_{j}_{k}", factor)
            keep(f"measure_{k}", layer.measure)
            keep(f"transfer_{k}", layer.transfer)
            keep(f"carrier_{k}", layer.carrier)
        keep("readout_scale", form.readout_scale)

    @property
    def controls(self) -> dict[str, Tensor]:
        """Parameters of the layers by name: each (K, *shape), or one per layer."""
        return {name: self.acting(name) for names in self._names for name in names}

    @property
    def readout_parameters(self) -> list[Tensor]:
        """Parameters of the read-out; none if it is fixed."""
        return [self.acting(name) for name in self._readout_names]

    @property
    def _readout_names(self) -> tuple[str, ...]:
        return ("readout_weight", "readout_bias") if self.architecture.trained_readout else ()

    def by_layer(self) -> list[list[Tensor]]:
        """Controls of every layer, in their order in u."""
        if self.architecture.is_stacked:
            parts = [self.acting(names[0]).unbind(0) for names in self._names]
        else:
            parts = [tuple(self.acting(n) for n in names) for names in self._names]
        return [list(layer) for layer in zip(*parts, strict=True)]

    def measures(self) -> list[Tensor | None]:
        """Of every layer, (m,): what |u_j| counts; None where that is 1."""
        layers = enumerate(self.architecture.layers)
        return [self.get_buffer(f"measure_{k}") if form.measure else None for k, form in layers]

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (P, M)."""
        return self.read(self.flow(inputs)[-1])

    def read(self, states: Tensor) -> Tensor:
        """Outputs (P, M) of states (P, D) on the last grid."""
        if self.architecture.readout_scale:
            states = states * self.get_buffer("readout_scale")
        weight, bias = self.acting("readout_weight"), self.acting("readout_bias")
        return _linear(states, weight, bias)

    def flow(self, inputs: Tensor, observe: Observer | None = None) -> list[Tensor]:
        """States (P, D) at all K+1 nodes.

        Args:
            inputs: (P, d0).
            observe: called with the states at every stage of the scheme, carried to the last grid,
                and the weight tau b_i that they have in an integral over the horizon.
        """
        form = self.architecture
        x = torch.nn.functional.pad(inputs, (0, form.widths[0] - form.inputs))
        states = [x]
        for k, parts in enumerate(self.by_layer()):
            x = self._layer(k, x, parts, observe)
            states.append(x)
        return states

    def _layer(self, k: int, x: Tensor, parts: list[Tensor], observe: Observer | None) -> Tensor:
        form = self.architecture
        layer = form.layers[k]
        if layer.factors:
            parts = [self.get_buffer(f"factor_{j}_{k}") * part for j, part in enumerate(parts)]
        controls = {name: part for (name, _), part in zip(layer.shapes, parts, strict=True)}
        rate, s = RATES[form.field], ACTIVATIONS[form.activation]
        transfer, carrier = (
            None if value is None else self.get_buffer(f"{name}_{k}")
            for name, value in (("transfer", layer.transfer), ("carrier", layer.carrier))
        )
        tau = form.step / form.substeps
        for _ in range(form.substeps):
            slopes: list[Tensor] = []
            for row, weight in zip(form.a, form.b, strict=True):
                stage = _combine(x, tau, row[: len(slopes)], slopes)
                if observe is not None and weight != 0.0:
                    observe(stage if carrier is None else _linear(stage, carrier), tau * weight)
                slopes.append(rate(stage, controls, s))
            x = _combine(x if transfer is None else _linear(x, transfer), tau, form.b, slopes)
        return x

    def trajectory(self, inputs: Tensor) -> Tensor:
        """States (K+1, P, D), of one width; see `flow` for others."""
        return torch.stack(self.flow(inputs))

    def decisions(self) -> Array:
        """Controls, layer by layer, then the read-out if it is trained, in one vector."""
        with torch.no_grad(), self.standing():
            return self._joined(self.acting)

    def gradient(self) -> Array:
        """The same of what `backward` left; zero where it left nothing, and where it is pruned.

        Raises:
            ValueError: a parametrization, whose own parameters have the gradient.
        """
        return self._joined(self.gradient_of)

    def _joined(self, of: Callable[[str], Tensor]) -> Array:
        parts: list[Tensor] = []
        if self.architecture.is_stacked:
            rows = [of(names[0]).flatten(1) for names in self._names]
            parts.append(torch.cat(rows, dim=1).flatten())
        else:
            for layer in zip(*self._names, strict=True):
                parts += [of(name).flatten() for name in layer]
        parts += [of(name).flatten() for name in self._readout_names]
        return torch.cat(parts).detach().cpu().double().numpy()

    def set_decisions(self, decisions: Array) -> None:
        """The inverse of `decisions`.

        Args:
            decisions: as they act in the network: parametrizations are given the value that has
                them for an image, and pruned entries are zero.

        Raises:
            ValueError: a vector of another size, or decisions that a parametrization or a pruning
                mask does not allow; the network is then as it was.
        """
        names = [name for group in self._names for name in group] + list(self._readout_names)
        with torch.no_grad(), self.standing():
            like = {name: self.acting(name) for name in names}
        expected = (sum(tensor.numel() for tensor in like.values()),)
        if decisions.shape != expected:
            raise ValueError(
                f"decisions have shape {decisions.shape}, expected {expected}: "
                "all controls, layer by layer, then the read-out if it is trained."
            )
        self.assign(self._split(decisions, like))

    def _split(self, decisions: Array, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Decisions by the names of the parameters, each of the type of its parameter."""
        values = {name: torch.empty_like(tensor) for name, tensor in like.items()}
        if self.architecture.is_stacked:
            layers = [
                list(parts) for parts in zip(*(values[n[0]] for n in self._names), strict=True)
            ]
        else:
            layers = [[values[name] for name in group] for group in zip(*self._names, strict=True)]
        start = 0
        targets = [part for layer in layers for part in layer]
        for target in (*targets, *(values[name] for name in self._readout_names)):
            part = decisions[start : start + target.numel()].reshape(target.shape)
            target.copy_(torch.from_numpy(part.copy()))
            start += target.numel()
        return values


def _drawn(layer: LayerForm, generator: torch.Generator, size: float) -> dict[str, Tensor]:
    """Initial controls of a layer; a bias has the fan in of its matrix."""
    drawn, fan_in = {}, 1
    for name, shape in layer.shapes:
        fan_in = shape[-1] if len(shape) == 2 else fan_in
        drawn[name] = size * _uniform(shape, fan_in, generator)
    return drawn


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> Tensor:
    # in float64 whatever the network's, so that both precisions start at the same point
    numbers = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (2 * numbers - 1) / math.sqrt(fan_in)


def _combine(x: Tensor, tau: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        if weight != 0.0:
            x = torch.add(x, slope, alpha=tau * weight)
    return x


def from_solution(solution: LearningSolution, *, dtype: torch.dtype = torch.float64) -> Network:
    """The network of a solution.

    Raises:
        ValueError: a field or an activation that has no counterpart in PyTorch here.
    """
    network = Network(architecture_of(solution.problem), dtype=dtype)
    network.set_decisions(solution.trajectory.decisions)
    return network


def to_solution(
    network: Network, problem: LearningProblem, *, tolerance: float = 1e-8
) -> LearningSolution:
    """A trained network as a solution of a learning problem, with its certificate.

    Its states are those of the float64 network with these parameters.

    Args:
        network: of the problem's architecture.
        problem: data and cost.
        tolerance: of the certificate's first-order residuals.

    Raises:
        ValueError: a network of another architecture.
    """
    expected = architecture_of(problem)
    if network.architecture != expected:
        names = [
            name
            for name in vars(expected)
            if vars(expected)[name] != vars(network.architecture)[name]
        ]
        raise ValueError(
            f"the network is another one than the problem's: {names[0]} is "
            f"{vars(network.architecture)[names[0]]}, expected {vars(expected)[names[0]]}."
        )
    trajectory = rollout(problem.staged, network.decisions())
    solution = assess(problem.staged, trajectory, 0.0, tolerance, pinned=problem.pinned)
    return LearningSolution(problem, solution, 0.0, None)
