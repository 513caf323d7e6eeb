"""The learning problem as ensemble optimal control: N samples share one control.

    x_i'(t) = f(x_i(t), u(t)),   x_i(0) = (a_i, 0, ..., 0)

    J(u, q) = alpha E(x(T)) + beta Int_0^T E(x) dt + lambda Int_0^T R(u) dt + lambda_q |q|^2
    E(x)    = (1/N) sum_i loss(P x_i, y_i)

The read-out P takes the first M coordinates, or is affine and trained: P x = W x + c, q = (W, c).
As an interpolation problem the data are a hard constraint instead:

    minimise Int_0^T R(u) dt (+ |q|^2)   subject to   P x_i(T) = y_i for all i.

One layer is one step of the time grid with a constant control, so explicit Euler is the ResNet
x^{k+1} = x^k + h f(x^k, u^k). On a moving grid (`problems.moving_grid`) the state is a function of
space and the width may change from layer to layer, x^{k+1} = Pi_k x^k + h f_k(x^k, u^k); E(x^k) is
then the error of the state carried to the last grid, as layers without control would carry it.
Everything is dimensionless.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocp import (
    EULER,
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
from ocp.vectorize import Vectorized
from problems.datasets import Dataset, encode, read_arrays
from problems.datasets import standardize as with_standardized_inputs
from problems.fine_integration import KINKED, SMOOTH, FineIntegration, Rate, Untested
from problems.known_stages import with_known_stages
from problems.layer import Layer
from problems.losses import DISTANCE, DISTANCE_ON_THE_LINE, LOSSES, SQUARED, Loss
from problems.moving_grid import MovingGrid
from problems.regularizers import L2, Penalty
from problems.variable_width import stage_network
from problems.vector_fields import FIELDS, INSIDE, TANH, Activation, VectorField

Array = NDArray[np.float64]

PIN_WEIGHT = 2.0  # price of leaving a tip, in units of the loss's own slope there


@dataclass(frozen=True, eq=False)
class LearningProblem:
    """A data set, a network and a cost.

    Args:
        dataset: inputs (N, d0) and targets (N, M). With M = width and the fixed read-out the
            targets are full states.
        field, activation: the right-hand side f.
        width: D >= d0, the size of the state; by default max(d0, M), so that the state has room for
            the targets (with a read-out that is given, as many as it reads).
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
        moving_grid: where the states live, in place of `width`; None for features without a grid
            and one width.
        fixed_readout: P as a matrix (M, D) on the last grid, such as integrals against given
            functions; None for the first M coordinates.

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
    moving_grid: MovingGrid | None = None
    fixed_readout: Array | None = None

    def __post_init__(self) -> None:
        inputs, targets = self.dataset.inputs.shape[1], self.dataset.targets.shape[1]
        for name, value in (("layers", self.layers), ("substeps", self.substeps)):
            if operator.index(value) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if self.moving_grid is not None:
            self._check_grid(self.moving_grid)
        elif self.state_size < inputs:
            raise ValueError(
                f"the width must be at least the number of inputs, {inputs}, got {self.width}."
            )
        last = self.widths[-1]
        if self.fixed_readout is not None:
            if self.trained_readout:
                raise ValueError("a read-out is fixed or trained; leave one of them out.")
            if self.fixed_readout.shape != (targets, last):
                raise ValueError(
                    f"the fixed read-out has shape {self.fixed_readout.shape}, expected "
                    f"({targets}, {last}): outputs and width of the last layer."
                )
        elif last < targets and not self.trained_readout:
            raise ValueError(
                f"the read-out takes the first {targets} coordinates of a state of width "
                f"{last}; use a width of at least {targets}, or a trained read-out."
            )
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

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        y: Any,
        *,
        name: str = "the arrays",
        missing: str = "fail",
        categorical: str = "fail",
        standardize: bool = False,
        **options: Any,
    ) -> LearningProblem:
        """The problem on samples in memory, whose targets are read as on the command line.

        Args:
            X: inputs (N, d0) or (N,): lists, an array, a data frame or a series.
            y: targets (N,) or (N, M), likewise; numbers, or labels, which are classes.
            name: of the data.
            missing: fail, drop (the samples) or mean (of the inputs), for NaN, None and the like.
            categorical: fail or one-hot, for inputs of text.
            standardize: whether inputs are shifted and scaled to mean 0 and deviation 1.
            options: all others of `LearningProblem`.

        Raises:
            ValueError: samples that cannot be used, or an option out of its range.
        """
        raw = read_arrays(X, y, name=name, missing=missing, categorical=categorical)
        dataset = encode(raw, _encoding(options.get("loss", SQUARED)))
        if standardize:
            dataset = with_standardized_inputs(dataset).dataset
        return cls(dataset, **options)

    def _check_grid(self, grid: MovingGrid) -> None:
        inputs, first = self.dataset.inputs.shape[1], grid.grid(0)
        widths = grid.widths(self.layers)
        if self.width not in (None, widths[0]):
            raise ValueError(f"width {self.width} came with a grid of {widths[0]} nodes.")
        if first.is_index and first.size < inputs:
            raise ValueError(
                f"the first width must be at least the number of inputs, {inputs}, "
                f"got {first.size}."
            )
        if not first.is_index and first.size != inputs:
            raise ValueError(
                f"the samples are not on the grid: they have {inputs} values each, the first grid "
                f"has {first.size} nodes; expected one value per node."
            )
        if not grid.is_still:
            if self.scheme is not EULER or self.substeps != 1:
                raise ValueError(
                    f"a layer that changes the grid is one step of the Euler scheme, got "
                    f"{self.scheme.name} with {self.substeps} sub-steps; use euler and 1, or one "
                    "grid for all layers."
                )
            if self.penalty.rate > 0 and len(set(widths)) > 1:
                raise ValueError(
                    f"the {self.penalty.name} penalty compares the controls of neighbouring "
                    "layers, whose sizes differ here; use another penalty, or one width."
                )
        for k in range(self.layers):
            self.layer(k)

    @property
    def state_size(self) -> int:
        """Width D, of the first layer where widths vary."""
        if self.moving_grid is not None:
            return self.moving_grid.grid(0).size
        if self.width is not None:
            return self.width
        if self.fixed_readout is not None:
            return int(np.shape(self.fixed_readout)[-1])
        return max(self.dataset.inputs.shape[1], self.outputs)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Widths of the states 0, ..., K."""
        if self.moving_grid is not None:
            return self.moving_grid.widths(self.layers)
        return (self.state_size,) * (self.layers + 1)

    @property
    def has_one_width(self) -> bool:
        """Whether all states have the same size, so that they fit into one array."""
        return len(set(self.widths)) == 1

    @property
    def is_still(self) -> bool:
        """Whether the grid stays, so that a layer is a step of an ODE."""
        return self.moving_grid is None or self.moving_grid.is_still

    def layer(self, k: int) -> Layer:
        """Layer k, 0 <= k < K; layers between the same grids are the same object."""
        key = self._layer_keys[k]
        if key not in self._layers:
            grid = self.moving_grid
            self._layers[key] = Layer(
                self.field,
                self.activation,
                self.widths[k],
                self.widths[k + 1],
                self.hidden_size,
                None if grid is None else grid.weights(k),
                None if grid is None else grid.weights(k + 1),
                None if grid is None else grid.between(k),
            )
        return self._layers[key]

    @cached_property
    def _layers(self) -> dict[tuple, Layer]:
        return {}

    @cached_property
    def _layer_keys(self) -> list[tuple]:
        grid = self.moving_grid
        if grid is None:
            return [()] * self.layers
        ids = [(id(grid.grid(k)), id(grid.grid(k + 1))) for k in range(self.layers)]
        # Between the same two grids, two layers may still interpolate differently.
        moves = [grid.between(k) for k in range(self.layers)]
        return [
            (*pair, None if move is None else move.tobytes())
            for pair, move in zip(ids, moves, strict=True)
        ]

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
    def loss_has_kinks(self) -> bool:
        """Whether the loss attains its minimum at a kink, as a distance does."""
        return self.loss.has_minimum and self.loss is not SQUARED

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

    @cached_property
    def _carriers(self) -> list[Array | None]:
        """Pi_{K-1} ... Pi_k for k = 0, ..., K; None for the identity."""
        carriers: list[Array | None] = [None]
        for k in reversed(range(self.layers)):
            move, after = self.layer(k).transfer, carriers[0]
            if move is None or after is None:
                carriers.insert(0, after if move is None else move)
            else:
                carriers.insert(0, after @ move)
        return carriers

    def carried(self, states: Array, k: int) -> Array:
        """States (N, d_k) of layer k as layers without control carry them to the end, (N, D)."""
        carrier = self._carriers[k]
        return states if carrier is None else states @ carrier.T

    def control_problem(self, pins: bool = False) -> OptimalControlProblem:
        """The problem in continuous time; a member's data are (y, smoothing width).

        With pins, a member whose width is negative has soft rows r = 0 at the end in place of its
        loss, at the price PIN_WEIGHT alpha / N, which is more than its loss could gain.
        """
        x, u = ca.SX.sym("x", self.state_size), ca.SX.sym("u", self._control_size)
        y, delta = ca.SX.sym("y", self.outputs), ca.SX.sym("delta")
        q = ca.SX.sym("q", self.readout_size)
        layer, limits = self.layer(0), self.control_limits(0)
        running_cost, path = self.running_terms(x, q, y, delta, self.layers)
        terminal_cost, terminal = self.terminal_terms(x, q, y, delta, pins)
        return OptimalControlProblem(
            state=x,
            control=u,
            dynamics=layer.rate(x, u, delta),
            horizon=self.horizon,
            initial_state=self.pad(self.dataset.inputs),
            running_cost=running_cost,
            terminal_cost=terminal_cost,
            control_cost=self.control_decay * self.penalty.cost(u),
            control_rate_weight=self.control_decay * self.penalty.rate,
            parameter_cost=self.parameter_decay * ca.sumsqr(q),
            path_constraints=path,
            terminal_constraints=terminal,
            control_constraints=self.penalty.constraints(u, self.control_decay, layer.measure),
            control_bounds=(-limits, limits),
            parameter=q,
            data=ca.vertcat(y, delta),
            member_data=self.member_data,
        )

    @property
    def control_decay(self) -> float:
        """What the penalty is multiplied by; 1 where there is nothing else to minimise."""
        return 1.0 if self.interpolation else self.weight_decay

    @property
    def parameter_decay(self) -> float:
        """The same for the read-out's penalty."""
        return 1.0 if self.interpolation else self.readout_weight_decay

    @property
    def member_data(self) -> Array:
        """Targets and smoothing width 0 of every sample, (N, M + 1)."""
        return np.column_stack([self.dataset.targets, np.zeros(self.samples)])

    def control_limits(self, k: int) -> Array:
        """Upper bounds of the controls of layer k, (m,); the lower ones are their negatives."""
        bound = np.inf if self.bound is None else self.bound
        return bound * self.layer(k).measure

    def running_terms(
        self, x: ca.SX, q: ca.SX, y: ca.SX, delta: ca.SX, k: int
    ) -> tuple[ca.SX, list[Constraint]]:
        """The density beta E of one sample at the state of layer k, and its soft rows."""
        if self.interpolation:
            return ca.SX(0), []
        z = self.read(x, q, k)
        error = self.posed_loss.smooth(z, y, delta) / self.samples
        return self.tracking * error, self._soft_rows(z, y, self.tracking)

    def terminal_terms(
        self, x: ca.SX, q: ca.SX, y: ca.SX, delta: ca.SX, pins: bool
    ) -> tuple[ca.SX, list[Constraint]]:
        """The cost alpha E of one sample at the end, and its rows; see `control_problem`."""
        z = self.read(x, q, self.layers)
        if self.interpolation:
            return ca.SX(0), [Constraint("interpolation", z - y)]
        rows = self._soft_rows(z, y, self.terminal)
        if pins and self.posed_loss.pins is not None:
            weight = PIN_WEIGHT * self.terminal / self.samples
            rows.append(Constraint("pinned", self.posed_loss.pins(z, y, delta), weight=weight))
        return self.terminal * self.posed_loss.smooth(z, y, delta) / self.samples, rows

    def _soft_rows(self, z: ca.SX, y: ca.SX, weight: float) -> list[Constraint]:
        kinks = self.posed_loss.kinks
        if kinks is None or weight == 0.0:
            return []
        expression, lower, upper = kinks(z, y)
        return [Constraint(self.loss.name, expression, lower, upper, weight / self.samples)]

    @property
    def _control_size(self) -> int:
        return self.layer(0).size

    @property
    def readout_size(self) -> int:
        """Number of parameters q."""
        return self.outputs * (self.widths[-1] + 1) if self.trained_readout else 0

    @property
    def readout_scale(self) -> Array:
        """sqrt(om_j) of the last grid: a trained function g is q_j = sqrt(om_j) g_j."""
        weights = None if self.moving_grid is None else self.moving_grid.weights(self.layers)
        return np.ones(self.widths[-1]) if weights is None else np.sqrt(weights)

    def read(self, x: ca.SX, q: ca.SX, k: int) -> ca.SX:
        """P x of a state of layer k, carried to the last grid."""
        carrier = self._carriers[k]
        if carrier is not None:
            x = ca.sparsify(ca.DM(carrier)) @ x
        if self.fixed_readout is not None:
            return ca.DM(self.fixed_readout) @ x
        if not self.trained_readout:
            return x[: self.outputs]
        width = self.widths[-1]
        split = self.outputs * width
        if (self.readout_scale != 1.0).any():
            x = ca.DM(self.readout_scale) * x
        return ca.reshape(q[:split], width, self.outputs).T @ x + q[split:]

    def _stages(self, pins: bool) -> StagedProblem:
        if not self.is_still:
            return stage_network(self, pins)

        def build() -> StagedProblem:
            return discretize(self.control_problem(pins), self.grid, self.scheme, self.substeps)

        if self.fixed_readout is not None:
            return build()
        settings = (getattr(self, part.name) for part in fields(self) if part.name != "dataset")
        structure = (*settings, *self.dataset.inputs.shape, self.outputs, pins)
        start = self.pad(self.dataset.inputs)
        return with_known_stages(structure, start, self.member_data, build)

    @cached_property
    def staged(self) -> StagedProblem:
        """The discrete problem of the exact network."""
        return self._stages(pins=False)

    @cached_property
    def pinned(self) -> StagedProblem | None:
        """The discrete problem with rows for pinned samples; None if no tip can be pinned."""
        has_tip = self.posed_loss.pins is not None and not self.interpolation
        if not has_tip or self.tracking > 0 or self.terminal == 0:
            return None
        return self._stages(pins=True)

    def readout(self, parameters: Array) -> tuple[Array, Array]:
        """Weight (M, D) and bias (M,) of the read-out."""
        if self.fixed_readout is not None:
            return self.fixed_readout, np.zeros(self.outputs)
        width = self.widths[-1]
        if not self.trained_readout:
            return np.eye(self.outputs, width), np.zeros(self.outputs)
        split = self.outputs * width
        functions = parameters[:split].reshape(self.outputs, width)
        return functions * self.readout_scale, parameters[split:]

    def decisions(
        self,
        weights: Mapping[str, Array] | Sequence[Mapping[str, Array]],
        weight: Array,
        bias: Array,
    ) -> Array:
        """Controls by name and the read-out in one vector, as `rollout` takes it.

        Args:
            weights: as `weights` gives them, each (K, *shape), or as `layer_weights` does.
            weight: of the read-out, (M, D).
            bias: of the read-out, (M,).
        """
        if isinstance(weights, Mapping):
            weights = [
                {name: part[k] for name, part in weights.items()} for k in range(self.layers)
            ]
        controls = [self.layer(k).join(kernels) for k, kernels in enumerate(weights)]
        return np.concatenate([*controls, self.parameters(weight, bias)])

    def parameters(self, weight: Array, bias: Array) -> Array:
        """The inverse of `readout`: q, empty for a fixed read-out."""
        if not self.trained_readout:
            return np.zeros(0)
        return np.concatenate([(weight / self.readout_scale).ravel(), bias])

    def layer_weights(self, trajectory: Trajectory) -> list[dict[str, Array]]:
        """Controls of every layer by name: kernels at the nodes of the grid, if there is one."""
        return [self.layer(k).kernels(u) for k, u in enumerate(trajectory.controls)]

    def weights(self, trajectory: Trajectory) -> dict[str, Array]:
        """Controls by name, each (K, *shape).

        Raises:
            ValueError: the widths vary; use `layer_weights`.
        """
        if not self.has_one_width:
            raise ValueError("the widths vary along depth; use layer_weights, one dict per layer.")
        layers = self.layer_weights(trajectory)
        return {name: np.stack([part[name] for part in layers]) for name in layers[0]}

    def propagate(self, inputs: ArrayLike, decisions: Array) -> Array:
        """States (K+1, P, D) of new inputs (P, d0) under given controls; for one width."""
        return self.run(inputs, decisions).state_array

    def run(self, inputs: ArrayLike, decisions: Array) -> Trajectory:
        """The trajectory of new inputs (P, d0) under given controls."""
        points = self.pad(inputs)
        data = np.zeros((len(points), self.staged.data.shape[1]))
        staged = replace(self.staged, initial_state=points, data=data)
        return rollout(staged, decisions)

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

    def refined_error(
        self,
        trajectory: Trajectory,
        seconds: float = np.inf,
        method: FineIntegration | None = None,
    ) -> float:
        """E(x(T)) after integrating the same control finely, every sample by itself.

        Args:
            trajectory: whose controls and read-out are taken.
            seconds: wall time after which it is given up.
            method: tolerance and most operations of the integration; by default SMOOTH, or
                KINKED where the activation has kinks.

        Raises:
            Untested: the grid moves, the states run off, or it takes too many operations or too
                much time.
        """
        if not self.is_still:
            raise Untested("the grid moves, and between grids there is no differential equation")
        if method is None:
            method = SMOOTH if self.activation.is_smooth else KINKED
        weight, bias = self.readout(trajectory.parameters)
        end = method.end(
            self._fine_rate,
            self.pad(self.dataset.inputs).T,
            trajectory.controls,
            self.grid.steps,
            seconds,
        )
        return self.error(end.T, weight, bias)

    @cached_property
    def _fine_rate(self) -> Rate:
        """(states (D, P), control (m,)) -> f, (D, P), of the exact network, by NumPy.

        The named fields are matrix products, which NumPy does as they stand; others may use
        anything that CasADi has.
        """
        layer = self.layer(0)
        if self.field in FIELDS.values():
            z = ca.SX.sym("z")
            each = Vectorized(ca.Function("activation", [z], [self.activation.function(z, 0.0)]))

            def activate(x: Array) -> Array:
                return np.asarray(each(x.reshape(1, -1))[0]).reshape(x.shape)

            def rate(states: Array, control: Array) -> Array:
                parts = layer.effective(control)
                matrices: Any = {
                    name: part if part.ndim == 2 else part[:, None] for name, part in parts.items()
                }
                field: Any = self.field.rate
                return np.asarray(field(states, matrices, activate))

            return rate
        x, u = ca.SX.sym("x", self.state_size), ca.SX.sym("u", self._control_size)
        together = Vectorized(ca.Function("rate", [x, u], [ca.densify(layer.rate(x, u, 0.0))]))
        return lambda states, control: np.array(together(states, control[:, None])[0])

    def step_times_lipschitz(self, trajectory: Trajectory) -> float:
        """max_k h_k Lip f(., u^k), in the norm of L2 on a grid.

        Below 1 every Euler layer of one width is invertible.
        """
        slopes = [self.layer(k).lipschitz(u) for k, u in enumerate(trajectory.controls)]
        return float(np.max(self.grid.steps * np.array(slopes)))


def _encoding(loss: Loss) -> str:
    """The loss whose encoding of classes suits this one, which may be its author's own."""
    if loss.name in LOSSES:
        return loss.name
    if loss.is_one_hot:
        return "cross-entropy"
    return "logistic" if loss.is_classification else "squared"
