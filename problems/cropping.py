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
from typing import Any

import numpy as np

from ocp import SolveOptions, rollout
from problems.learning import LearningProblem
from problems.training import LearningSolution, assess

TOLERANCE = 1e-3  # of the error, relative to that of the untrained network, E(x(0))
ROUNDING = 1e-12  # of E(x(0)), between two runs of the same layers


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


def recomputed_change(solution: LearningSolution, found: Crop) -> tuple[float, bool]:
    """E(x^k) - E(x^K) of the cut network, run again from its inputs, and whether it is as promised.

    Promised is that it is within the tolerance, and the change that was reported up to rounding.
    """
    end, rounding = float(solution.errors[-1]), ROUNDING * float(solution.errors[0])
    cut = solution if found.layers == 0 else crop(solution, found.layers)
    change = float(cut.errors[min(found.layers, cut.problem.layers)]) - end
    as_reported = abs(change - found.change) <= rounding
    return change, as_reported and abs(change) <= found.tolerance + rounding


def crop(solution: LearningSolution, layers: int) -> LearningSolution:
    """The network of the first layers, with costs and certificate on its shorter horizon.

    Its status is that of these controls on the shorter horizon, where they are not optimal: an
    optimum there would spend the same on less time.

    Args:
        solution: the whole network.
        layers: k >= 1, at most K.

    Raises:
        ValueError: another number of layers, or a trained read-out on a grid that moves.
    """
    problem = solution.problem
    if not 1 <= layers <= problem.layers:
        raise ValueError(
            f"a network of {problem.layers} layers can be cut to 1 to {problem.layers} layers, "
            f"got {layers}."
        )
    shorter = _shorter(problem, layers)
    parameters = solution.trajectory.parameters if shorter.trained_readout else np.zeros(0)
    decisions = np.concatenate([*solution.trajectory.controls[:layers], parameters])
    found = assess(
        shorter.staged,
        rollout(shorter.staged, decisions),
        solution.smoothing,
        SolveOptions().tolerance,
        pinned=shorter.pinned,
    )
    found = replace(found, backend_status="cropped", iterations=0)
    return LearningSolution(shorter, found, solution.smoothing, None)


def _shorter(problem: LearningProblem, layers: int) -> LearningProblem:
    horizon, grid = float(problem.grid.nodes[layers]), problem.moving_grid
    if grid is None or len(grid.grids) == 1 or layers == problem.layers:
        return replace(problem, layers=layers, horizon=horizon)
    if problem.trained_readout:
        raise ValueError(
            "a trained read-out belongs to the last grid, so a network with it is cut only where "
            "the grid stays; use the first read-out."
        )
    weight, _ = problem.readout(np.zeros(0))
    carried = problem.carried(np.eye(problem.widths[layers]), layers).T
    return replace(
        problem,
        layers=layers,
        horizon=horizon,
        moving_grid=replace(
            grid, grids=grid.grids[: layers + 1], transfers=grid.transfers[:layers]
        ),
        fixed_readout=weight @ carried,
    )


def crop_report(
    whole: LearningSolution, shorter: LearningSolution, tolerance: float
) -> dict[str, Any]:
    """The JSON object of `turnpike crop`: both networks, and what the cut does to the error."""
    layers = shorter.problem.layers
    return {
        "layers": layers,
        "layers_before": whole.problem.layers,
        "depth": shorter.problem.horizon,
        "depth_before": whole.problem.horizon,
        "training_error": float(shorter.errors[-1]),
        "training_error_before": float(whole.errors[-1]),
        "change": float(shorter.errors[-1] - whole.errors[-1]),
        "predicted_change": _predicted_change(whole, layers),
        "tolerance": tolerance,
    }


def crop_sentence(result: dict[str, Any]) -> str:
    """The same for people."""
    predicted = result["predicted_change"]
    says = "" if predicted is None else f" (the controls predict {predicted:.3g})"
    return (
        f"kept {result['layers']} of {result['layers_before']} layers, depth {result['depth']:g} "
        f"of {result['depth_before']:g}: E changes by {result['change']:.3g}{says}, "
        f"from {result['training_error_before']:.6g} to {result['training_error']:.6g}"
    )
