"""Rates of the turnpike, predicted at the point where a trajectory ends.

Where the error E = |r|^2 / N of the residual r = P x - y is integrated over the horizon, and the
field is at rest without control, f(x, 0) = 0, the motion near the targets is

    r' = G u,   G = P df/du(x_i, 0) stacked over samples and outputs, (N M, m),

so that beta |r|^2 / N + lambda |u|^2 splits into the singular values sigma_j of G ("inside" field:
of the matrix of features s(x_i) and 1, once for every output), each with its own rate,

    mu_j = sigma_j sqrt(beta / (N lambda)),   r_j and u_j ~ exp(-mu_j t).

One layer of length h holds its control, and integrates |r|^2 with weights b and nodes c. With
q = 2 - z - 1/z for r_j(t_k) = z^k, stationarity of the sum over all layers reads

    1 + (m_2 - m_1 + 1 / (mu h)^2) q + rho q^2 / (mu^2 h^4) = 0,   m_i = sum_j b_j c_j^i,

rho the weight of |u'|^2 beside |u|^2. Without it, q = -4 sinh^2(mu_h h / 2) gives the discrete rate

    mu_h = (2 / h) asinh(1 / (2 sqrt(1 / (mu h)^2 + m_2 - m_1))),

which is (2 / h) asinh(mu h / 2) for Euler and for Heun. A terminal error alpha E(x(T)) and the free
end make r_j(t) proportional to cosh(mu (T - t)) + (alpha / beta) mu sinh(mu (T - t)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ocp.runge_kutta import EULER, ButcherTableau
from ocp.trajectory import stage_unknowns
from problems.learning import Array, LearningProblem

RANK = 1e-8  # singular values below this share of the largest are zero
AT_REST = 1e-10  # |f(x, 0)| below this share of |df/du| counts as zero


def discrete_rate(
    rate: float,
    step: float,
    tableau: ButcherTableau = EULER,
    substeps: int = 1,
    rate_weight: float = 0.0,
) -> float:
    """Rate mu_h of the discrete optimum where the continuous one has the rate mu.

    Args:
        rate: mu >= 0, per unit of time.
        step: h > 0, length of a layer.
        tableau: method of one step.
        substeps: its steps on every layer.
        rate_weight: rho, weight of |u'|^2 in units of that of |u|^2.

    Returns:
        -log|z| / h of the slowest decaying solution; where z is negative, its sign alternates.
    """
    if rate == 0.0:
        return 0.0
    nodes = (np.arange(substeps)[:, None] + tableau.c).ravel() / substeps
    weights = np.tile(tableau.b, substeps) / substeps
    linear = float(weights @ nodes**2 - weights @ nodes) + 1 / (rate * step) ** 2
    squares = np.roots([rate_weight / (rate**2 * step**4), linear, 1.0])
    halves = np.arcsinh(np.sqrt(-squares.astype(complex)) / 2)  # q = -4 sinh^2, also where complex
    return 2 * float(np.abs(halves.real).min()) / step


@dataclass(frozen=True, eq=False)
class TangentKernel:
    """How the residuals of all samples respond to a small control, at given states.

    Args:
        response: G, (N M, m), residuals in the order (sample, output).
        drift: |f(x, 0)| of the fastest sample; a turnpike at u = 0 needs 0.
    """

    response: Array
    drift: float

    @cached_property
    def _decomposition(self) -> tuple[Array, Array]:
        left, values, _ = np.linalg.svd(self.response, full_matrices=False)
        return left, values

    @property
    def singular_values(self) -> Array:
        """sigma_j, the largest first, (min(N M, m),)."""
        return self._decomposition[1]

    @property
    def directions(self) -> Array:
        """Left singular vectors, (N M, min(N M, m)), in the order of the singular values."""
        return self._decomposition[0]

    @property
    def rank(self) -> int:
        """Number of singular values that are not zero."""
        values = self.singular_values
        return int((values > RANK * values.max(initial=0.0)).sum())

    @property
    def residuals(self) -> int:
        """Number of residuals N M."""
        return len(self.response)

    def along(self, direction: Array) -> float:
        """|G^T v| of a unit vector v of residuals; a singular value if v is its direction."""
        return float(np.linalg.norm(direction @ self.response))

    @property
    def has_full_rank(self) -> bool:
        """Whether every residual can be moved on its own."""
        return self.rank == self.residuals

    @property
    def is_at_rest(self) -> bool:
        """Whether the states stay where they are without control."""
        return self.drift <= AT_REST * max(1.0, float(self.singular_values.max(initial=0.0)))


def tangent_kernel(
    problem: LearningProblem,
    states: Array,
    parameters: Array,
    control: Array | None = None,
    layer: int = -1,
) -> TangentKernel:
    """Derivative of the read-out's speed in the control of a layer.

    Args:
        problem: whose layer is taken.
        states: (N, D) of all samples, before that layer.
        parameters: of the read-out.
        control: where, (m,); 0 by default. A field that is homogeneous in the control but has a
            kink at 0 has a derivative along the ray of a control only.
        layer: position k, or minus it from the end.
    """
    k = layer % problem.layers
    stage, step = problem.staged.stages[k], float(problem.grid.steps[k])
    n, m, after = stage.state_size, stage.control_size, problem.widths[k + 1]
    given, no_locals = problem.staged.given(k), np.zeros((len(states), 0))
    rest = stage_unknowns(states, no_locals, np.zeros(m), parameters)
    moved = stage.function.values(rest, given)[0].T
    drift = (problem.carried(moved, k + 1) - problem.carried(states, k)) / step
    at = rest if control is None else stage_unknowns(states, no_locals, control, parameters)
    by_control = stage.function.derivatives(at, given)[0][:, :after, n : n + m]
    weight = problem.readout(parameters)[0] @ problem.carried(np.eye(after), k + 1).T
    response = (weight @ by_control / step).reshape(-1, m)
    return TangentKernel(response, float(np.linalg.norm(drift, axis=1).max(initial=0.0)))


@dataclass(frozen=True, eq=False)
class Rates:
    """Predicted rates of all modes, in the order of the kernel's singular values.

    Args:
        kernel: where the trajectory ends.
        continuous: mu_j.
        discrete: mu_j as the scheme has it.
    """

    kernel: TangentKernel
    continuous: Array
    discrete: Array


def predicted_rates(problem: LearningProblem, kernel: TangentKernel) -> Rates:
    """The rates that follow from a kernel.

    Raises:
        ValueError: no running error, or no quadratic penalty, so that there are no rates.
    """
    square = problem.weight_decay * problem.penalty.square
    if problem.tracking == 0 or square == 0:
        raise ValueError(
            "rates need a running error (tracking > 0) and a quadratic penalty on the control "
            f"(weight-decay > 0), got tracking {problem.tracking:g}, penalty "
            f"{problem.penalty.name} and weight-decay {problem.weight_decay:g}."
        )
    scale = float(np.sqrt(problem.tracking / (problem.samples * square)))
    continuous = kernel.singular_values * scale
    step = float(problem.grid.steps[-1])
    rate_weight = problem.penalty.rate / problem.penalty.square
    discrete = np.array(
        [
            discrete_rate(float(rate), step, problem.scheme, problem.substeps, rate_weight)
            for rate in continuous
        ]
    )
    return Rates(kernel, continuous, discrete)


def on_target(problem: LearningProblem, states: Array, parameters: Array, k: int) -> Array:
    """The nearest states whose read-out is the target, (N, D), for states of position k."""
    weight, bias = problem.readout(parameters)
    residual = problem.carried(states, k) @ weight.T + bias - problem.dataset.targets
    through = weight @ problem.carried(np.eye(states.shape[1]), k).T
    return states - residual @ np.linalg.pinv(through).T
