"""The learning problem as ensemble optimal control: N samples share one control.

    x_i'(t) = f(x_i(t), u(t)),   x_i(0) = (a_i, 0, ..., 0)

    J(u, q) = alpha E(x(T)) + beta Int_0^T E(x) dt + lambda Int_0^T R(u) dt + lambda_q |q|^2
    E(x)    = (1/N) sum_i loss(P x_i, y_i)

The read-out P takes the first M coordinates, or is affine and trained: P x = W x + c, q = (W, c).
As an interpolation problem the data are a hard constraint instead:

    minimise Int_0^T R(u) dt (+ |q|^2)   subject to   P x_i(T) = y_i for all i.

One layer is one step of the time grid with a constant control, so explicit Euler is the ResNet
x^{k+1} = x^k + h f(x^k, u^k). Everything is dimensionless.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocp import (
    EULER,
    RK4,
    ButcherTableau,
    Constraint,
    OptimalControlProblem,
    StagedProblem,
    TimeGrid,
    Trajectory,
    discretize,
    rollout,
)
from ocp.condensing import linearize
from ocp.runge_kutta import combine
from problems.datasets import Dataset
from problems.losses import DISTANCE, DISTANCE_ON_THE_LINE, SQUARED, Loss
from problems.regularizers import L2, Penalty
from problems.vector_fields import INSIDE, TANH, Activation, VectorField, join_arrays

Array = NDArray[np.float64]

PIN_WEIGHT = 2.0  # price of leaving a tip, in units of the loss's own slope there
REFINEMENT_TOLERANCE = 1e-10  # of the error after re-integration, relative, between two refinements
REFINEMENT_STEPS = 5_000  # most Runge-Kutta steps of a re-integration


@dataclass(frozen=True, eq=False)
class LearningProblem:
    """A data set, a network and a cost.

    Args:
        dataset: inputs (N, d0) and targets (N, M). With M = width and the fixed read-out the
            targets are full states.
        field, activation: the right-hand side f.
        width: D >= d0, the size of the state; d0 by default.
        hidden: H, for fields that need it; D by default.
        horizon: T > 0.
        layers: K >= 1.
        scheme: explicit Runge-Kutta method of one layer.
        substeps: its steps on every layer.
        loss: of one sample.
        terminal, tracking: alpha and beta, >= 0.
        weight_decay: lambda >= 0.
        penalty: R.
        bound: |u_j| <= bound for every control; None for no bound.
        trained_readout: whether q is optimised too.
        readout_decay: lambda_q >= 0; lambda by default.
        interpolation: whether the data are a hard constraint.

    Raises:
        ValueError: a value outside its range, or targets that do not fit the loss.
    """

    dataset: Dataset
    field: VectorField = INSIDE
    activation: Activation = TANH
    width: int | None = None
    hidden: int | None = None
    horizon: float = 1.0
    layers: int = 20
    scheme: ButcherTableau = EULER
    substeps: int = 1
    loss: Loss = SQUARED
    terminal: float = 1.0
    tracking: float = 0.0
    weight_decay: float = 1e-2
    penalty: Penalty = L2
    bound: float | None = None
    trained_readout: bool = False
    readout_decay: float | None = None
    interpolation: bool = False

    def __post_init__(self) -> None:
        inputs, targets = self.dataset.inputs.shape[1], self.dataset.targets.shape[1]
        if self.state_size < inputs:
            raise ValueError(
                f"the width must be at least the number of inputs, {inputs}, got {self.width}."
            )
        if self.state_size < targets and not self.trained_readout:
            raise ValueError(
                f"the read-out takes the first {targets} coordinates of a state of width "
                f"{self.state_size}; use a width of at least {targets}, or a trained read-out."
            )
        for name, value in (("layers", self.layers), ("substeps", self.substeps)):
            if operator.index(value) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if self.hidden_size < 1:
            raise ValueError(f"hidden must be at least 1, got {self.hidden}.")
        for name, low in (
            ("horizon", 1),
            ("bound", 1),
            ("terminal", 0),
            ("tracking", 0),
            ("weight_decay", 0),
            ("readout_decay", 0),
        ):
            value = getattr(self, name)
            if value is None and name in ("bound", "readout_decay"):
                continue
            if not (np.isfinite(value) and value >= 0 and (value > 0 or low == 0)):
                kind = "positive" if low else "zero or positive"
                raise ValueError(f"{name.replace('_', '-')} must be {kind}, got {value:g}.")
        if self.terminal == self.tracking == 0 and not self.interpolation:
            raise ValueError(
                "terminal and tracking are both 0, so the data do not enter the cost; "
                "make one of them positive."
            )
        if self.loss.is_one_hot:
            classes = np.isin(self.dataset.targets, (0, 1)).all()
            if not (classes and (self.dataset.targets.sum(axis=1) == 1).all()):
                raise ValueError(f"{self.loss.name} needs one-hot targets, one class per row.")
        elif self.loss.is_classification and not np.isin(self.dataset.targets, (-1, 1)).all():
            raise ValueError(f"{self.loss.name} needs targets -1 and +1.")

    @property
    def state_size(self) -> int:
        """Width D."""
        return self.dataset.inputs.shape[1] if self.width is None else self.width

    @property
    def hidden_size(self) -> int:
        """Hidden width H."""
        return self.state_size if self.hidden is None else self.hidden

    @property
    def readout_weight_decay(self) -> float:
        """Weight lambda_q of the read-out's penalty."""
        return self.weight_decay if self.readout_decay is None else self.readout_decay

    @property
    def samples(self) -> int:
        """Number of samples N."""
        return len(self.dataset.inputs)

    @property
    def outputs(self) -> int:
        """Number of outputs M."""
        return int(self.dataset.targets.shape[1])

    @property
    def posed_loss(self) -> Loss:
        """The loss in the form that suits its number of outputs."""
        return DISTANCE_ON_THE_LINE if self.loss is DISTANCE and self.outputs == 1 else self.loss

    @property
    def is_smooth(self) -> bool:
        """Whether the discrete problem is twice differentiable up to its soft rows."""
        return self.activation.is_smooth and not (
            self.posed_loss.needs_smoothing and not self.interpolation
        )

    @property
    def kink_scale(self) -> float:
        """Size of what the activation's kinks are rounded off in, at most 1.

        That is the state in fields that are linear in the control, and elsewhere the control, which
        is small like 1 / T on long horizons.
        """
        if self.field.is_linear_in_control or self.activation.is_smooth:
            return 1.0
        return min(1.0, 1.0 / self.horizon)

    @cached_property
    def grid(self) -> TimeGrid:
        """Layers of equal length."""
        return TimeGrid.uniform(self.layers, self.horizon)

    def pad(self, inputs: ArrayLike) -> Array:
        """Initial states (P, D) of inputs (P, d0): the inputs, then zeros.

        Raises:
            ValueError: inputs of another number of columns.
        """
        inputs = np.atleast_2d(np.asarray(inputs, dtype=float))
        expected = self.dataset.inputs.shape[1]
        if inputs.ndim != 2 or inputs.shape[1] != expected:
            raise ValueError(f"inputs have shape {inputs.shape}, expected (points, {expected}).")
        return np.pad(inputs, ((0, 0), (0, self.state_size - inputs.shape[1])))

    def control_problem(self, pins: bool = False) -> OptimalControlProblem:
        """The problem in continuous time; a member's data are (y, smoothing width).

        With pins, a member whose width is negative has soft rows r = 0 at the end in place of its
        loss, at the price PIN_WEIGHT alpha / N, which is more than its loss could gain.
        """
        x, u = ca.SX.sym("x", self.state_size), ca.SX.sym("u", self._control_size)
        y, delta = ca.SX.sym("y", self.outputs), ca.SX.sym("delta")
        q = ca.SX.sym("q", self._readout_size)
        controls = self.field.split_symbols(u, self.state_size, self.hidden_size)
        rate = self.field.rate(x, controls, lambda z: self.activation.function(z, delta))
        z = self._read(x, q)
        decay, readout_decay = self.weight_decay, self.readout_weight_decay
        terminal: list[Constraint] = []
        path: list[Constraint] = []
        if self.interpolation:
            decay = readout_decay = 1.0
            terminal = [Constraint("interpolation", z - y)]
            alpha = beta = 0.0
        else:
            alpha, beta = self.terminal, self.tracking
            terminal, path = self._soft_rows(z, y, alpha), self._soft_rows(z, y, beta)
            if pins and self.posed_loss.pins is not None:
                weight = PIN_WEIGHT * alpha / self.samples
                rows = self.posed_loss.pins(z, y, delta)
                terminal.append(Constraint("pinned", rows, weight=weight))
        error = self.posed_loss.smooth(z, y, delta) / self.samples
        bound = np.inf if self.bound is None else self.bound
        return OptimalControlProblem(
            state=x,
            control=u,
            dynamics=rate,
            horizon=self.horizon,
            initial_state=self.pad(self.dataset.inputs),
            running_cost=beta * error,
            terminal_cost=alpha * error,
            control_cost=decay * self.penalty.cost(u),
            control_rate_weight=decay * self.penalty.rate,
            parameter_cost=readout_decay * ca.sumsqr(q),
            path_constraints=path,
            terminal_constraints=terminal,
            control_constraints=self.penalty.constraints(u, decay),
            control_bounds=(-bound, bound),
            parameter=q,
            data=ca.vertcat(y, delta),
            member_data=np.column_stack([self.dataset.targets, np.zeros(self.samples)]),
        )

    def _soft_rows(self, z: ca.SX, y: ca.SX, weight: float) -> list[Constraint]:
        kinks = self.posed_loss.kinks
        if kinks is None or weight == 0.0:
            return []
        expression, lower, upper = kinks(z, y)
        return [Constraint(self.loss.name, expression, lower, upper, weight / self.samples)]

    @property
    def _control_size(self) -> int:
        return self.field.size(self.state_size, self.hidden_size)

    @property
    def _readout_size(self) -> int:
        return self.outputs * (self.state_size + 1) if self.trained_readout else 0

    def _read(self, x: ca.SX, q: ca.SX) -> ca.SX:
        if not self.trained_readout:
            return x[: self.outputs]
        split = self.outputs * self.state_size
        return ca.reshape(q[:split], self.state_size, self.outputs).T @ x + q[split:]

    @cached_property
    def staged(self) -> StagedProblem:
        """The discrete problem of the exact network."""
        return discretize(self.control_problem(), self.grid, self.scheme, self.substeps)

    @cached_property
    def pinned(self) -> StagedProblem | None:
        """The discrete problem with rows for pinned samples; None if no tip can be pinned."""
        has_tip = self.posed_loss.pins is not None and not self.interpolation
        if not has_tip or self.tracking > 0 or self.terminal == 0:
            return None
        return discretize(self.control_problem(pins=True), self.grid, self.scheme, self.substeps)

    def readout(self, parameters: Array) -> tuple[Array, Array]:
        """Weight (M, D) and bias (M,) of the read-out."""
        if not self.trained_readout:
            return np.eye(self.outputs, self.state_size), np.zeros(self.outputs)
        split = self.outputs * self.state_size
        return parameters[:split].reshape(self.outputs, self.state_size), parameters[split:]

    def decisions(self, weights: Mapping[str, Array], weight: Array, bias: Array) -> Array:
        """Controls by name and the read-out in one vector, as `rollout` takes it."""
        parameters = np.concatenate([weight.ravel(), bias]) if self.trained_readout else np.zeros(0)
        return np.concatenate([join_arrays(weights).ravel(), parameters])

    def weights(self, trajectory: Trajectory) -> dict[str, Array]:
        """Controls by name, each (K, *shape)."""
        return self.field.split_arrays(trajectory.control_array, self.state_size, self.hidden_size)

    def propagate(self, inputs: ArrayLike, decisions: Array) -> Array:
        """States (K+1, P, D) of new inputs (P, d0) under given controls."""
        points = self.pad(inputs)
        data = np.zeros((len(points), self.staged.data.shape[1]))
        staged = replace(self.staged, initial_state=points, data=data)
        return rollout(staged, decisions).state_array

    def error(self, states: Array, weight: Array, bias: Array) -> float:
        """E of states (N, D) of the samples under a read-out, exact."""
        outputs = states @ weight.T + bias
        return float(self.loss.value(outputs, self.dataset.targets).mean())

    def running_error(self, trajectory: Trajectory) -> float:
        """Int_0^T E dt, integrated by the scheme itself."""
        if self.tracking == 1.0 and not self.interpolation:
            staged = self.staged
        else:
            unit = replace(self, terminal=0.0, tracking=1.0, interpolation=False)
            staged = unit.staged
        *layers, _ = linearize(staged, trajectory).stages
        return float(sum(values.cost.sum() + values.penalty for values in layers))

    def refined_error(self, trajectory: Trajectory) -> float:
        """E(x(T)) after integrating the same control finely, with RK4.

        Steps are halved until the error settles within REFINEMENT_TOLERANCE, or their number
        reaches REFINEMENT_STEPS.
        """
        weight, bias = self.readout(trajectory.parameters)
        start, controls = self.pad(self.dataset.inputs).T, trajectory.control_array
        previous, steps = np.inf, 8
        while True:
            states, length = start, self.horizon / self.layers / steps
            for control in controls:
                for _ in range(steps):
                    states = np.array(self._fine_step(states, control, length))
            error = self.error(states.T, weight, bias)
            settled = abs(error - previous) <= REFINEMENT_TOLERANCE * max(1.0, abs(error))
            if settled or 2 * steps * self.layers > REFINEMENT_STEPS:
                return error
            previous, steps = error, 2 * steps

    @cached_property
    def _fine_step(self) -> ca.Function:
        """(states (D, N), control, h) -> states after one step of RK4."""
        x, u, h = (
            ca.SX.sym("x", self.state_size),
            ca.SX.sym("u", self._control_size),
            ca.SX.sym("h"),
        )
        controls = self.field.split_symbols(u, self.state_size, self.hidden_size)

        def rate(at: ca.SX) -> ca.SX:
            return self.field.rate(at, controls, lambda z: self.activation.function(z, 0.0))

        slopes: list[ca.SX] = []
        for row in RK4.a:
            slopes.append(rate(combine(x, h, row[: len(slopes)], slopes)))
        after = combine(x, h, RK4.b, slopes)
        return ca.Function("fine_step", [x, u, h], [ca.densify(after)]).map(self.samples)

    def step_times_lipschitz(self, trajectory: Trajectory) -> float:
        """max_k h_k Lip f(., u^k); below 1 every Euler layer is invertible."""
        weights = self.weights(trajectory)
        layers = [{name: part[k] for name, part in weights.items()} for k in range(self.layers)]
        slopes = [self.field.lipschitz(layer, self.activation.lipschitz) for layer in layers]
        return float(np.max(self.grid.steps * np.array(slopes)))
