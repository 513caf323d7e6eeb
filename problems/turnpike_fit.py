"""The decay of a trajectory, measured: its window is chosen by rule, its rate fitted.

    |u(t)|, sqrt(E(t)) and their sum ~ exp(-rate t)   on a window [t_a, t_b]

The window ends a few 1 / mu before the horizon, where the free end begins to bend the decay, or
where the control comes within FLOOR of its uncertainty |dL/du| / (2 lambda h), which is what is
left of stationarity in units of the control. Split r into the modes of `problems.turnpike_rates`;
the governing mode is the slowest that is excited. The window begins after the entry arc, from where
on other modes, states and control bend the slope by no more than a share of it: with several modes
the slope of sqrt(E) is sum_j mu_j r_j^2 / sum_j r_j^2, and sigma_j depends on state and control.
The strictest of RULES that leaves a window long enough is used. All of them look at the states and
at the prediction's shape; none looks at the fitted slope.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ocp import Trajectory
from ocp.analysis import LineFit, fit_exponential
from ocp.condensing import linearize, reduced_gradient
from problems.learning import Array, LearningProblem
from problems.training import LearningSolution
from problems.turnpike_rates import (
    Rates,
    TangentKernel,
    on_target,
    predicted_rates,
    tangent_kernel,
)

# Relative bend of the slope that counts as straight, and time left out before the horizon in units
# of 1 / mu, after which the slope mu tanh(mu (T - t)) of sqrt(E) is off by 0.5, 1.8, 5 %.
RULES = ((0.01, 3.0), (0.03, 2.3), (0.1, 1.8))
FLOOR = 100.0  # least size of a control in the window, in units of its uncertainty
ROUNDING = 1e-13  # least residual in the window, relative to the largest
EXCITED = 1e-4  # share of a mode in |r|^2 at the end, from which it counts
AT_BOUND = 1e-6  # relative distance at which a control counts as at its bound
LEAST_LAYERS = 5  # in a window
LEAST_DECAY = 1.0  # mu (t_b - t_a) of a window


@dataclass(frozen=True, eq=False)
class Decay:
    """Error, control and residuals along a trajectory.

    Args:
        problem: what was solved.
        trajectory: where to.
        errors: E at every node, (K+1,).
        control: |u| on every layer, (K,).
        uncertainty: of |u|, from what is left of stationarity.
    """

    problem: LearningProblem
    trajectory: Trajectory
    errors: Array
    control: Array
    uncertainty: float

    @property
    def times(self) -> Array:
        """(K+1,)."""
        return self.problem.grid.nodes

    @cached_property
    def residuals(self) -> Array:
        """Residuals r at every node, (K+1, N M)."""
        weight, bias = self.problem.readout(self.trajectory.parameters)
        targets = self.problem.dataset.targets
        ends = [self.problem.carried(x, k) for k, x in enumerate(self.trajectory.states)]
        return np.stack([(x @ weight.T + bias - targets).ravel() for x in ends])

    def kernel_at(self, states: Array, layer: int, control: Array | None = None) -> TangentKernel:
        """How the residuals respond to a change of a layer's control, at given states, (N, D).

        Around 0 by default; along the ray of a late control if the field has a kink there.
        """
        problem = self.problem
        if problem.field.is_linear_in_control:
            control = None
        elif control is None and not problem.activation.is_smooth:
            control = self.trajectory.controls[problem.layers // 2]
        return tangent_kernel(problem, states, self.trajectory.parameters, control, layer)

    @property
    def _end(self) -> int:
        """Position of the last state that the last layer can start from."""
        layers, widths = self.problem.layers, self.problem.widths
        return layers if widths[layers] == widths[layers - 1] else layers - 1

    @cached_property
    def kernel(self) -> TangentKernel:
        """At the states at the horizon."""
        return self.kernel_at(self.trajectory.states[self._end], self.problem.layers - 1)

    @cached_property
    def rates(self) -> Rates:
        """Predicted from the states at the horizon."""
        return predicted_rates(self.problem, self.kernel)

    @cached_property
    def limit(self) -> TangentKernel:
        """The kernel at those states moved onto the targets, where the residual is zero."""
        end, parameters = self.trajectory.states[self._end], self.trajectory.parameters
        states = on_target(self.problem, end, parameters, self._end)
        return self.kernel_at(states, self.problem.layers - 1)

    @cached_property
    def amplitudes(self) -> Array:
        """Residuals in the modes of the kernel at the horizon, (K+1, modes)."""
        return self.residuals @ self.rates.kernel.directions

    @cached_property
    def unmoved(self) -> Array:
        """Share of |r|^2 that no control moves, at every node, (K+1,)."""
        moved = np.sum(self.amplitudes[:, : self.rates.kernel.rank] ** 2, axis=1)
        whole = np.sum(self.residuals**2, axis=1)
        return np.clip(1 - np.divide(moved, whole, out=np.ones_like(whole), where=whole > 0), 0, 1)

    @cached_property
    def last_above_floor(self) -> int:
        """Last layer up to which every control stands out from its uncertainty."""
        largest = float(np.abs(self.residuals).max(initial=0.0))
        floor = max(FLOOR * self.uncertainty, 0.0)
        moved = np.linalg.norm(self.amplitudes, axis=1)[:-1]
        below = np.flatnonzero((self.control <= floor) | (moved <= ROUNDING * largest))
        return int(below[0]) - 1 if below.size else len(self.control) - 1


def measure(solution: LearningSolution) -> Decay:
    """Error and control of a solution, with the uncertainty that its certificate leaves."""
    problem, trajectory = solution.problem, solution.trajectory
    certificate = solution.certificate
    found = reduced_gradient(
        linearize(problem.staged, trajectory), certificate.costates, certificate.multipliers.rows
    )
    controls = found.value[: problem.staged.decision_size - problem.staged.parameter_size]
    if problem.bound is not None:  # what is held by its bound has a slope
        free = np.abs(np.concatenate(trajectory.controls)) < (1 - AT_BOUND) * problem.bound
        controls = controls[free]
    curvature = 2 * problem.weight_decay * float(problem.grid.steps.min())
    uncertainty = float(np.abs(controls).max(initial=0.0)) / curvature if curvature > 0 else np.inf
    return Decay(problem, trajectory, solution.errors, solution.control_norms, uncertainty)


@dataclass(frozen=True, eq=False)
class Window:
    """Layers that are fitted: first <= k < end; the mode that governs them.

    Args:
        first, end: positions among the layers.
        mode: position among the singular values.
        bend: of the slope, that the rule allows.
        reason: why nothing can be fitted; None if it can.
    """

    first: int
    end: int
    mode: int
    bend: float
    reason: str | None


def find_window(decay: Decay, after: float = 0.0) -> Window:
    """The window by the strictest of the rules that leaves one; see the module's docstring.

    Args:
        decay: what is fitted.
        after: time before which other controls are on than those of the kernel.
    """
    if decay.rates.kernel.rank == 0 or decay.last_above_floor < 0:
        return Window(0, 0, 0, 0.0, "no control stands out from the solver's tolerance")
    mode = slowest_excited(decay)
    bends = np.where(decay.times[:-1] >= after, _bend(decay, mode), np.inf)
    windows = [_after_entry(decay, mode, bends, *rule) for rule in RULES]
    return next((window for window in windows if window.reason is None), windows[-1])


def slowest_excited(decay: Decay) -> int:
    """The slowest mode with a share of at least EXCITED in |r|^2 at the end, or at the floor."""
    squares = decay.amplitudes[max(decay.last_above_floor, 0), : decay.rates.kernel.rank] ** 2
    return int(np.flatnonzero(squares >= EXCITED * squares.sum())[-1])


def _after_entry(decay: Decay, mode: int, bends: Array, bend: float, left_out: float) -> Window:
    before_end = decay.problem.horizon - left_out / decay.rates.discrete[mode]
    stop = min(decay.last_above_floor + 1, int((decay.times[:-1] <= before_end).sum()))
    is_bent = np.flatnonzero(bends[:stop] > bend)
    first = int(is_bent[-1]) + 1 if is_bent.size else 0
    length = decay.times[stop - 1] - decay.times[first] if first < stop else 0.0
    reason = None
    if stop - first < LEAST_LAYERS or decay.rates.discrete[mode] * length < LEAST_DECAY:
        reason = (
            "between the entry arc and the free end the slowest mode decays by less than "
            f"exp(-{LEAST_DECAY:g}); take a longer horizon"
        )
    return Window(first, stop, mode, bend, reason)


def _bend(decay: Decay, mode: int) -> Array:
    """Relative deviation of the predicted slope from that of one mode, at every layer, (K,)."""
    states = decay.trajectory.states[:-1]
    rates, rank = decay.rates, decay.rates.kernel.rank
    discrete = rates.discrete[:rank]
    weights = decay.amplitudes[:-1, :rank] ** 2
    total = weights.sum(axis=1)
    weights = np.divide(
        weights, total[:, None], out=np.zeros_like(weights), where=total[:, None] > 0
    )
    from_modes = weights @ np.abs(discrete / discrete[mode] - 1)
    direction = rates.kernel.directions[:, mode]
    kernels = [
        decay.kernel_at(x, k, u)
        for k, (x, u) in enumerate(zip(states, decay.trajectory.controls, strict=True))
    ]
    response = np.array([kernel.along(direction) for kernel in kernels])
    from_states = np.abs(response / rates.kernel.singular_values[mode] - 1)
    return from_modes + from_states


def fit_control(decay: Decay, window: Window) -> LineFit:
    """Rate of |u|: minus the slope."""
    return _fit(decay, window, decay.control)


def fit_error(decay: Decay, window: Window) -> LineFit:
    """Rate of sqrt(E): minus the slope."""
    return _fit(decay, window, np.sqrt(decay.errors[:-1]))


def fit_both(decay: Decay, window: Window) -> LineFit:
    """Rate of sqrt(beta E) + sqrt(lambda) |u|: minus the slope.

    The free end bends the two terms, cosh(mu (T - t)) and sinh(mu (T - t)), in opposite ways; their
    sum is straight.
    """
    problem = decay.problem
    error = np.sqrt(problem.tracking * decay.errors[:-1])
    control = np.sqrt(problem.weight_decay * problem.penalty.square) * decay.control
    return _fit(decay, window, error + control)


def _fit(decay: Decay, window: Window, values: Array) -> LineFit:
    layers = slice(window.first, window.end)
    return fit_exponential(decay.times[layers], values[layers])
