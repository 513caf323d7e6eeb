"""The networks of learning problems as PyTorch modules, with the same numbers.

    X_i = x + tau sum_{j<i} a_ij f(X_j, u^k),   Phi_k(x, u^k) = x + tau sum_i b_i f(X_i, u^k)

is one Runge-Kutta step on layer k, repeated `substeps` times with tau = h / substeps, and the
outputs are z = P x^K. In float64 states, outputs and their derivatives are those of
`problems.learning` to rounding.

Parameters and buffers are named and shaped as the arrays of a solution file: controls stacked over
the layers, `w` (K, D, D) and `b` (K, D) or `w1`, `b1`, `w2`, `b2`, then `readout_weight` (M, D)
and `readout_bias` (M,), which are buffers where the read-out is fixed. So a `state_dict` and
`numpy.load` of a solution file speak of the same things.
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
from problems.training import LearningSolution, assess
from problems.vector_fields import BOTTLENECK, INSIDE, LEAK, OUTSIDE, Shapes

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


@dataclass(frozen=True)
class Architecture:
    """What a network computes, but for its parameters; in plain values, so that it travels.

    Args:
        field, activation: keys of RATES and ACTIVATIONS.
        inputs, outputs, width, hidden: d0, M, D and H.
        shapes: of the controls of one layer by name, in their order in u.
        layers, substeps: K and S.
        horizon: T.
        a, b: coefficients of the explicit Runge-Kutta scheme.
        trained_readout: whether the read-out has parameters.

    Raises:
        ValueError: a field or an activation that has no counterpart in PyTorch here.
    """

    field: str
    activation: str
    inputs: int
    outputs: int
    width: int
    hidden: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    layers: int
    substeps: int
    horizon: float
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    trained_readout: bool

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
        return self.horizon / self.layers

    @property
    def control_shapes(self) -> Shapes:
        """Shapes of the controls of one layer by name."""
        return dict(self.shapes)


def architecture_of(problem: LearningProblem) -> Architecture:
    """The network of a learning problem.

    Raises:
        ValueError: a network on a grid or of varying width.
    """
    if problem.moving_grid is not None or problem.fixed_readout is not None:
        raise ValueError(
            "networks on a grid or of varying width have no PyTorch twin here; compare one width."
        )
    shapes = problem.field.shapes(problem.state_size, problem.hidden_size)
    return Architecture(
        field=problem.field.name,
        activation=problem.activation.name,
        inputs=int(problem.dataset.inputs.shape[1]),
        outputs=problem.outputs,
        width=problem.state_size,
        hidden=problem.hidden_size,
        shapes=tuple(shapes.items()),
        layers=problem.layers,
        substeps=problem.substeps,
        horizon=float(problem.horizon),
        a=tuple(tuple(map(float, row)) for row in problem.scheme.a),
        b=tuple(map(float, problem.scheme.b)),
        trained_readout=problem.trained_readout,
    )


class Network(torch.nn.Module):
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

        def draw(shape: tuple[int, ...], fan_in: int) -> Tensor:
            # drawn in float64, so that both precisions start at the same point
            numbers = torch.rand(shape, generator=generator, dtype=torch.float64)
            return ((2 * numbers - 1) / math.sqrt(fan_in)).to(dtype)

        fan_in = 1
        for name, shape in architecture.shapes:
            fan_in = shape[-1] if len(shape) == 2 else fan_in  # a bias has that of its matrix
            drawn = draw((architecture.layers, *shape), fan_in)
            value = scale / architecture.horizon * drawn
            self.register_parameter(name, torch.nn.Parameter(value))
        width, outputs = architecture.width, architecture.outputs
        if architecture.trained_readout:
            self.readout_weight = torch.nn.Parameter(draw((outputs, width), width))
            self.readout_bias = torch.nn.Parameter(draw((outputs,), width))
        else:
            self.register_buffer("readout_weight", torch.eye(outputs, width, dtype=dtype))
            self.register_buffer("readout_bias", torch.zeros(outputs, dtype=dtype))

    @property
    def controls(self) -> dict[str, Tensor]:
        """Parameters of the layers by name, each (K, *shape)."""
        return {name: self.get_parameter(name) for name, _ in self.architecture.shapes}

    @property
    def readout_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters of the read-out; none if it is fixed."""
        names = ("readout_weight", "readout_bias") if self.architecture.trained_readout else ()
        return [self.get_parameter(name) for name in names]

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (P, M)."""
        return self.read(self.flow(inputs)[-1])

    def read(self, states: Tensor) -> Tensor:
        """Outputs (P, M) of states (P, D)."""
        return _linear(states, self.readout_weight, self.readout_bias)

    def flow(self, inputs: Tensor, observe: Observer | None = None) -> list[Tensor]:
        """States (P, D) at all K+1 nodes.

        Args:
            inputs: (P, d0).
            observe: called with the states at every stage of the scheme and the weight tau b_i
                that it has in an integral over the horizon.
        """
        form = self.architecture
        x = torch.nn.functional.pad(inputs, (0, form.width - form.inputs))
        parts = [value.unbind(0) for value in self.controls.values()]
        names = [name for name, _ in form.shapes]
        states = [x]
        for layer in zip(*parts, strict=True):
            x = self._layer(x, dict(zip(names, layer, strict=True)), observe)
            states.append(x)
        return states

    def _layer(self, x: Tensor, controls: Weights, observe: Observer | None) -> Tensor:
        form = self.architecture
        rate, s = RATES[form.field], ACTIVATIONS[form.activation]
        tau = form.step / form.substeps
        for _ in range(form.substeps):
            slopes: list[Tensor] = []
            for row, weight in zip(form.a, form.b, strict=True):
                stage = _combine(x, tau, row[: len(slopes)], slopes)
                if observe is not None and weight != 0.0:
                    observe(stage, tau * weight)
                slopes.append(rate(stage, controls, s))
            x = _combine(x, tau, form.b, slopes)
        return x

    def trajectory(self, inputs: Tensor) -> Tensor:
        """States (K+1, P, D)."""
        return torch.stack(self.flow(inputs))

    def decisions(self) -> Array:
        """Controls, layer by layer, then the read-out if it is trained, in one vector."""
        return decisions_of(self, {n: p.detach().cpu().numpy() for n, p in self.named_parameters()})

    def set_decisions(self, decisions: Array) -> None:
        """The inverse of `decisions`.

        Raises:
            ValueError: a vector of another size.
        """
        form = self.architecture
        sizes = [int(np.prod(shape)) for _, shape in form.shapes]
        total = form.layers * sum(sizes)
        readout = [parameter.numel() for parameter in self.readout_parameters]
        if decisions.shape != (total + sum(readout),):
            raise ValueError(
                f"decisions have shape {decisions.shape}, expected ({total + sum(readout)},): "
                "all controls, layer by layer, then the read-out if it is trained."
            )
        table = decisions[:total].reshape(form.layers, sum(sizes))
        ends = np.cumsum(sizes)
        parts = np.split(table, ends[:-1], axis=1)
        parts += np.split(decisions[total:], np.cumsum(readout)[:-1]) if readout else []
        with torch.no_grad():
            everything = [*self.controls.values(), *self.readout_parameters]
            for parameter, part in zip(everything, parts, strict=True):
                parameter.copy_(torch.from_numpy(part.reshape(parameter.shape).copy()))


def decisions_of(network: Network, parameters: Mapping[str, NDArray]) -> Array:
    """Parameters by name as one vector: a gradient, or the parameters themselves."""
    form = network.architecture
    rows = [np.asarray(parameters[name]).reshape(form.layers, -1) for name, _ in form.shapes]
    names = ("readout_weight", "readout_bias") if form.trained_readout else ()
    readout = [np.asarray(parameters[name]).ravel() for name in names]
    return np.concatenate([np.hstack(rows).ravel(), *readout]).astype(np.float64)


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
