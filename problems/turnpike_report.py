"""The turnpike report of a solution: verdict, predicted and fitted rates, depth that is needed.

predicted   from the kernel at the point where the trajectory ends (`problems.turnpike_rates`)
fitted      on a window chosen by rule (`problems.turnpike_fit`)
verdict     with its reason (`problems.turnpike_verdict`)
depth       at which the network can be cut (`problems.cropping`)
conserved   lambda |u|^2 - beta E, where the field is linear in the control and the grid stays
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ocp.analysis import LineFit
from problems.cropping import find_crop
from problems.switching import switching
from problems.training import LearningSolution
from problems.turnpike_fit import (
    Decay,
    Window,
    find_window,
    fit_both,
    fit_control,
    fit_error,
    measure,
)
from problems.turnpike_verdict import Verdict, arrival_time, distinct, judge


def turnpike_report(solution: LearningSolution) -> dict[str, Any]:
    """Everything about the turnpike of a solution that is a number or a word.

    Raises:
        ValueError: the cost has no running error.
    """
    problem = solution.problem
    if problem.tracking == 0 or problem.interpolation:
        raise ValueError("a turnpike needs a running error; make tracking positive.")
    decay = measure(solution)
    has_rates = problem.penalty.square * problem.weight_decay > 0 and problem.loss.has_minimum
    switches, depth = switching(solution), find_crop(solution)
    off = None if switches is None else switches.off_time
    window = find_window(decay, off or 0.0) if has_rates and not problem.loss_has_kinks else None
    judgement = judge(decay, window, switches, solution.smoothing)
    reason = judgement.reason
    if not solution.solution.is_solved:
        reason = f"on a point that is not solved ({solution.status.value}): {reason}"
    result: dict[str, Any] = {
        "verdict": judgement.verdict.value,
        "reason": reason,
        "advice": list(judgement.advice),
        **_rates(decay, window),
        **_fits(decay, window, judgement.verdict),
        "conserved_drift": _number(conserved_drift(decay)),
        "arrival_time": arrival_time(decay, solution.smoothing) if problem.loss_has_kinks else None,
        "switch_off_time": None if switches is None else switches.off_time,
        "predicted_switch_off_time": None if switches is None else switches.predicted_off_time,
        "predicted_remaining_error": None if switches is None else switches.remaining_error,
        "needed_depth": depth.depth,
        "needed_layers": depth.layers,
        "crop_tolerance": depth.tolerance,
        "crop_change": _number(depth.change),
        "crop_change_predicted": _number(depth.predicted_change),
    }
    return result


def conserved_drift(decay: Decay) -> float | None:
    """Variation of lambda |u|^2 - beta E relative to its terms; None where it is not conserved.

    The error of a layer is the mean of its two ends.
    """
    problem = decay.problem
    square = problem.weight_decay * problem.penalty.square
    if not problem.field.is_linear_in_control or problem.penalty.rate > 0 or square == 0:
        return None
    if not problem.is_still:
        return None
    error = problem.tracking * (decay.errors[:-1] + decay.errors[1:]) / 2
    control = square * decay.control**2
    scale = float((error + control).max())
    return float(np.ptp(control - error)) / scale if scale > 0 else 0.0


def _rates(decay: Decay, window: Window | None) -> dict[str, Any]:
    if window is None or not decay.rates.kernel.is_at_rest:
        return {
            "predicted_rates": [],
            "predicted_discrete_rate": None,
            "singular_values": [],
            "rank": None,
            "residuals": None,
            "unmoved_share": None,
        }
    rates, rank = decay.rates, decay.rates.kernel.rank
    return {
        "predicted_rates": distinct(rates.continuous[:rank])[::-1],
        "predicted_discrete_rate": float(rates.discrete[window.mode]) if rank else None,
        "singular_values": [float(value) for value in rates.kernel.singular_values],
        "rank": rank,
        "residuals": rates.kernel.residuals,
        "unmoved_share": float(decay.unmoved[-1]),
    }


def _fits(decay: Decay, window: Window | None, verdict: Verdict) -> dict[str, Any]:
    main = control = error = None
    shown = verdict in (Verdict.EXPONENTIAL, Verdict.PLATEAU)
    if shown and window is not None and window.reason is None:
        main = control = fit_control(decay, window)
        if verdict is Verdict.EXPONENTIAL:
            error, main = fit_error(decay, window), fit_both(decay, window)
    times = decay.times
    return {
        **_fit("fitted_rate", main),
        "fitted_constant": None if main is None else math.exp(main.intercept),
        **_fit("fitted_control_rate", control),
        **_fit("fitted_error_rate", error),
        "window": None
        if window is None or window.reason is not None
        else [float(times[window.first]), float(times[window.end - 1])],
        "entry_time": None
        if window is None or window.first >= window.end
        else float(times[window.first]),
    }


def _fit(name: str, line: LineFit | None) -> dict[str, Any]:
    if line is None:
        return {name: None, f"{name}_interval": None}
    interval = None if line.interval is None else [-line.interval[1], -line.interval[0]]
    return {name: -line.slope, f"{name}_interval": interval}


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
