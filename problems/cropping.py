"""Cropping: a network cut after the depth that its error needs.

u = 0 holds every state, so layers at the end of a turnpike do next to nothing. The depth needed for
a tolerance is the first node from which on the error stays near that of the whole network,

    t_k = min { t_k : |E(x^j) - E(x^K)| <= tolerance for all j >= k },

and cutting there changes E by E(x^k) - E(x^K), which the states say exactly. Where lambda |u|^2 -
beta E is conserved (fields linear in the control, penalty |u|^2), the controls alone predict it:

    E(t) - E(T) = (lambda / beta) (|u(t)|^2 - |u(T)|^2)      up to the scheme's order.

The cropped network has the first k layers with their controls, on the horizon t_k.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ocp import rollout
from problems.learning import Array
from problems.training import LearningSolution, assess

TOLERANCE = 1e-3  # of the error, relative to that of the untrained network, E(x(0))


@dataclass(frozen=True)
class Crop:
    """Where a network can be cut.

    Args:
        layers: k, that are kept; 0 if none is needed.
        depth: t_k, in units of the horizon.
        tolerance: of the error, absolute.
        change: E(x^k) - E(x^K), from the states.
        predicted_change: the same from the controls alone; None where nothing is conserved.
    """

    layers: int
    depth: float
    tolerance: float
    change: float
    predicted_change: float | None


def find_crop(solution: LearningSolution, tolerance: float | None = None) -> Crop:
    """The least depth at which the error is within a tolerance of the whole network's.

    Args:
        solution: of any problem.
        tolerance: of E, absolute, >= 0; TOLERANCE E(x(0)) by default.

    Raises:
        ValueError: a negative tolerance, or one that is no number.
    """
    errors = solution.errors
    if tolerance is None:
        tolerance = TOLERANCE * float(errors[0])
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"the tolerance of the error must be zero or positive, got {tolerance:g}.")
    apart = np.flatnonzero(np.abs(errors - errors[-1]) > tolerance)
    layers = int(apart[-1]) + 1 if apart.size else 0
    return Crop(
        layers,
        float(solution.times[layers]),
        float(tolerance),
        float(errors[layers] - errors[-1]),
        _predicted_change(solution, layers),
    )


def _predicted_change(solution: LearningSolution, layers: int) -> float | None:
    problem = solution.problem
    conserved = problem.field.is_linear_in_control and problem.penalty.rate == 0
    if not conserved or problem.penalty.square == 0 or problem.tracking == 0:
        return None
    if layers == problem.layers:
        return 0.0
    sizes = solution.control_norms
    # At a node a decaying control is the geometric mean of its neighbours, zero if one of them is.
    at_cut = sizes[max(layers - 1, 0)] * sizes[layers]
    price = problem.weight_decay * problem.penalty.square / problem.tracking
    return float(price * (at_cut - sizes[-1] ** 2))


def crop(solution: LearningSolution, layers: int) -> LearningSolution:
    """The network of the first layers, with costs and certificate on its shorter horizon.

    Its status is that of these controls on the shorter horizon, where they are not optimal: an
    optimum there would spend the same on less time.

    Args:
        solution: the whole network.
        layers: k >= 1, at most K.

    Raises:
        ValueError: another number of layers.
    """
    problem = solution.problem
    if not 1 <= layers <= problem.layers:
        raise ValueError(
            f"a network of {problem.layers} layers can be cut to 1 to {problem.layers} layers, "
            f"got {layers}."
        )
    shorter = replace(problem, layers=layers, horizon=float(problem.grid.nodes[layers]))
    controls: list[Array] = list(solution.trajectory.controls[:layers])
    decisions = np.concatenate([*controls, solution.trajectory.parameters])
    found = assess(
        shorter.staged,
        rollout(shorter.staged, decisions),
        solution.smoothing,
        1e-8,
        pinned=shorter.pinned,
    )
    found = replace(found, backend_status="cropped", iterations=0)
    return LearningSolution(shorter, found, solution.smoothing, None)
