"""How a trajectory ends: exponential, algebraic, plateau, finite-time, or none; and why.

    exponential   every residual can be moved on its own, or those that cannot are small beside the
                  others: E and |u| decay at the predicted rate
    algebraic     the residuals that are left collapse the features that would move them (samples
                  of one class meet at one target), so their rate falls with them: with |u| ~
                  sqrt(E) by conservation, E' ~ -E |u| and E ~ t^-2, for the squared loss and for
                  distances; the same for losses whose infimum is not attained
    plateau       E stays above 0 while u -> 0: what is left of the residual moves with no control
    finite-time   E = 0, or every control is off, from some t_0 on: losses and penalties with kinks
    none          the horizon is too short, E rises again, or u = 0 does not hold the states

Two kernels tell the first three apart, that of the states at the horizon and that of the same
states moved onto the targets: where they collapse, the second has the lower rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from problems.learning import LearningProblem
from problems.switching import Switching
from problems.turnpike_fit import Decay, Window

SETTLED = 0.5  # a mode keeps this share of its response on the targets, or it collapses
UNMOVED = 0.5  # share of the residual, squared, that no control moves, from which E has a plateau
DECAYED = 1e-2  # of E(x(0)), below which a trajectory has reached its turnpike
HALVED = 1.0  # E(T/2) / E(T) - 1, from which it is on its way there
FALLS = 1e-3  # relative fall of E over the second half, above which it is seen to fall
STALLED = 0.05  # likewise, below which it has stalled on what no control moves
RISES = 2.0  # times its least value so far: an error that ends above has left its turnpike
ZERO = 1e-8  # of E(x(0)), below which an error with a kink is 0
WIDTHS = 10.0  # likewise, in units of the width at which the kinks are rounded off
LAST = 0.95  # of the horizon; what arrives later has not been kept
NEEDED = 5.0  # mu T of a horizon that shows the rate


class Verdict(Enum):
    """How the error and the control of a trajectory end."""

    EXPONENTIAL = "exponential"
    ALGEBRAIC = "algebraic"
    PLATEAU = "plateau"
    FINITE_TIME = "finite-time"
    NONE = "none"


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason.

    Args:
        verdict: how it ends.
        reason: why, with the numbers that decided.
        advice: what helps where an error is left, one sentence each.
    """

    verdict: Verdict
    reason: str
    advice: tuple[str, ...] = ()


def judge(
    decay: Decay, window: Window | None, switching: Switching | None, smoothing: float
) -> Judgement:
    """The verdict on a trajectory.

    Args:
        decay: error, control and kernels along it.
        window: governed by the mode that decides; None where there are no rates.
        switching: of its controls, if any switches.
        smoothing: width at which its kinks were rounded off.
    """
    problem, errors = decay.problem, decay.errors
    if errors[0] <= 0.0:
        return Judgement(Verdict.NONE, "the error is zero from the start, so nothing decays")
    if problem.weight_decay == 0:
        return Judgement(
            Verdict.NONE, "controls cost nothing (weight-decay 0), so nothing holds them back"
        )
    if problem.loss_has_kinks:
        return _with_kinked_loss(decay, smoothing)
    if problem.penalty.square == 0:
        return _with_kinked_penalty(decay, switching)
    if not problem.loss.has_minimum:
        return _without_minimum(decay)
    assert window is not None
    return _smooth(decay, window, switching)


def arrival_time(decay: Decay, smoothing: float) -> float | None:
    """Time from which on the error is zero; None if it is not before the end."""
    zero = max(ZERO * decay.errors[0], WIDTHS * smoothing)
    positive = np.flatnonzero(decay.errors > zero)
    first = int(positive[-1]) + 1 if positive.size else 0
    if first == len(decay.errors) or decay.times[first] > LAST * decay.problem.horizon:
        return None
    return float(decay.times[first])


def _fall(decay: Decay) -> float:
    """E(T/2) / E(T) - 1."""
    middle, last = decay.errors[len(decay.errors) // 2], decay.errors[-1]
    return float(middle / last - 1) if last > 0 else np.inf


def _with_kinked_loss(decay: Decay, smoothing: float) -> Judgement:
    name, arrival = decay.problem.loss.name, arrival_time(decay, smoothing)
    if arrival is not None:
        return Judgement(
            Verdict.FINITE_TIME,
            f"the {name} loss pulls at full strength up to its zero, so the error is 0 from "
            f"t = {arrival:.6g} on and is kept",
        )
    left, fall = float(decay.errors[-1]), _fall(decay)
    if fall <= FALLS:
        return Judgement(
            Verdict.PLATEAU,
            f"the error has stalled at {left:.3g} before the end; the {name} loss is zero only for "
            "the samples that arrived",
            _advice(decay),
        )
    falls = (
        f"the error still falls, from {left * (1 + fall):.3g} to {left:.3g} over the second half"
    )
    kernel = decay.kernel
    if decay.limit.rank < kernel.rank:
        return Judgement(
            Verdict.ALGEBRAIC,
            f"{falls}: the residuals that are left collapse the features that move them, of rank "
            f"{kernel.rank} at the end and {decay.limit.rank} on the targets, so their speed falls "
            "with them and E ~ t^-2",
            _advice(decay),
        )
    return Judgement(Verdict.NONE, f"{falls}; take a longer horizon", _advice(decay))


def _with_kinked_penalty(decay: Decay, switching: Switching | None) -> Judgement:
    assert switching is not None
    off, left, start = switching.off_time, float(decay.errors[-1]), float(decay.errors[0])
    if off is None or off > LAST * decay.problem.horizon:
        return Judgement(
            Verdict.NONE, "some control is on until the end of the horizon; take a longer one"
        )
    expected = switching.predicted_off_time
    says = (
        f"the switching functions say {expected:.6g}"
        if expected is not None
        else ("a switching function stays at 1")
    )
    reason = f"every control is off for good after t = {off:.6g} ({says}), E = {left:.3g} is left"
    if left > DECAYED * start:
        return Judgement(Verdict.PLATEAU, reason, _advice(decay))
    return Judgement(Verdict.FINITE_TIME, reason)


def _without_minimum(decay: Decay) -> Judgement:
    name, fall = decay.problem.loss.name, _fall(decay)
    if fall > FALLS:
        return Judgement(
            Verdict.ALGEBRAIC,
            f"the infimum of the {name} loss is not attained: its slope falls with E, so E ~ t^-2 "
            f"and |u| ~ 1/t; E(T/2) / E(T) = {1 + fall:.3g}",
        )
    return Judgement(
        Verdict.PLATEAU,
        f"the error has stalled at {decay.errors[-1]:.3g}: the data are not separated by what the "
        "network reaches from here",
        _advice(decay),
    )


def _smooth(decay: Decay, window: Window, switching: Switching | None) -> Judgement:
    kernel, limit, problem = decay.rates.kernel, decay.limit, decay.problem
    if not kernel.is_at_rest:
        return Judgement(
            Verdict.NONE,
            f"u = 0 does not hold the states: |f(x, 0)| = {kernel.drift:.3g} at the end, so there "
            "is no turnpike at u = 0",
        )
    size = _kernel_in_words(decay)
    if kernel.rank == 0:
        return Judgement(
            Verdict.PLATEAU, f"no small control moves any residual: {size}", _advice(decay)
        )
    unmoved, fall = float(decay.unmoved[-1]), _fall(decay)
    direction = kernel.directions[:, window.mode]
    response = kernel.singular_values[window.mode]
    is_settled = limit.along(direction) >= SETTLED * response
    if window.mode >= limit.rank and fall > FALLS:
        return Judgement(
            Verdict.ALGEBRAIC,
            f"the slowest residual collapses the feature that moves it: its singular value is "
            f"{response:.3g} at the end, but on the targets the rank is {limit.rank} only; so its "
            f"rate falls with it, E ~ t^-2; E(T/2) / E(T) = {1 + fall:.3g}; {size}",
            _advice(decay),
        )
    left, least = float(decay.errors[-1]), float(decay.errors.min())
    if left > RISES * least and left > ZERO * decay.errors[0]:
        return Judgement(
            Verdict.NONE,
            f"E rises again at the end, from {least:.3g} to {left:.3g}, which costs more than to "
            "stay where it was: a local minimum, or layers too long for the field; take more "
            f"starts, or shorter layers; {size}",
        )
    if unmoved >= UNMOVED and fall <= STALLED:
        return Judgement(
            Verdict.PLATEAU, _why_plateau(decay, unmoved, fall, switching), _advice(decay)
        )
    start = float(decay.errors[0])
    rate = float(decay.rates.discrete[window.mode])
    is_moved = kernel.has_full_rank or (unmoved < UNMOVED and window.reason is None)
    if is_settled and is_moved and (left <= DECAYED * start or fall >= HALVED):
        shown = "" if window.reason is None else f"; not fitted: {window.reason}"
        fits = (
            "every residual can be moved on its own"
            if kernel.has_full_rank
            else f"the residual that no control moves is {unmoved:.1e} of what is left, squared"
        )
        return Judgement(
            Verdict.EXPONENTIAL, f"{fits}: {size}; slowest excited rate {rate:.5g}{shown}"
        )
    needed = max(NEEDED / rate, 2 * problem.horizon)
    return Judgement(
        Verdict.NONE,
        f"the horizon is too short: E has fallen to {left / start:.2g} of its start, E(T/2) / E(T) "
        f"= {1 + fall:.3g}, and the slowest mode at its end has mu T = "
        f"{rate * problem.horizon:.3g}; take T of about {needed:.3g}; {size}",
        _advice(decay) if unmoved >= UNMOVED else (),
    )


def _kernel_in_words(decay: Decay) -> str:
    kernel = decay.rates.kernel
    values = distinct(kernel.singular_values[: kernel.rank])
    shown = ", ".join(f"{value:.4g}" for value in values[:4]) + (", ..." if len(values) > 4 else "")
    return f"rank {kernel.rank} of {kernel.residuals} residuals, singular values {shown or 'none'}"


def distinct(values: np.ndarray) -> list[float]:
    """Values in their order, without those that repeat the one before to rounding."""
    found: list[float] = []
    for value in values:
        if not found or abs(value - found[-1]) > 1e-9 * abs(found[-1]):
            found.append(float(value))
    return found


def _why_plateau(decay: Decay, unmoved: float, fall: float, switching: Switching | None) -> str:
    left, size = float(decay.errors[-1]), _kernel_in_words(decay)
    stalled = f"E = {left:.4g} is left, E(T/2) / E(T) - 1 = {fall:.1e}"
    if switching is not None:
        off = switching.off_time
        when = "are not yet off" if off is None else f"are off for good after t = {off:.6g}"
        expected = switching.predicted_off_time
        says = "" if expected is None else f" (the switching function says {expected:.6g})"
        error = switching.remaining_error
        level = "" if error is None else f"; the error then left is predicted as {error:.4g}"
        return (
            f"the bottleneck is bilinear at u = 0, its linearisation moves the means of the "
            f"residuals only: w1, b1 and w2 {when}{says}{level}, and falls like T^-2; {stalled}; "
            f"{size}"
        )
    return f"{unmoved:.1%} of the squared residual moves with no control: {stalled}; {size}"


def _advice(decay: Decay) -> tuple[str, ...]:
    problem = decay.problem
    found = []
    wider = _enough_width(problem)
    if wider is not None:
        found.append(
            f"a wider state, which leaves less: up to {wider} + 1 features can be independent for "
            f"{problem.samples} samples (--width {wider})"
        )
    if problem.field.is_linear_in_control:
        found.append("a bottleneck field, whose features move (--field bottleneck --hidden H)")
    found.append("more starts, which may find a lower minimum (--starts)")
    found.append(f"a longer horizon (--horizon {2 * problem.horizon:g}), with as long layers")
    return tuple(found)


def _enough_width(problem: LearningProblem) -> int | None:
    """The least width whose features can be independent; None if it is not the width that lacks."""
    wider = problem.samples - 1
    return wider if wider > problem.state_size else None
