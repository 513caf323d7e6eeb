"""The turnpike on a ladder: constant and rate on every rung, and common starts.

Statement. With a running error, E(x_T(t)) + |u_T(t)| <= C exp(-mu t) with C and mu independent of
T, and no final arc, since u = 0 holds every state. So on two horizons T < T' with layers of one
length the optima of one branch agree on their common start,

    max over t <= T/2 of |x_T(t) - x_T'(t)| <= START exp(-mu T / 2) max |x_T'|.

Source: Esteve, Geshkovski, Pighin and Zuazua, Large-time asymptotics in deep learning,
arXiv 2008.02491. C is that of sqrt(beta E) + sqrt(lambda) |u| = C exp(-mu t) on the fitted window.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from problems.ladder import Ladder, Rung
from problems.report import number

KEYS = (
    *("verdict", "predicted_discrete_rate", "fitted_rate", "fitted_rate_interval"),
    *("fitted_constant", "needed_depth"),
)
START = 10.0  # factor of the bound on the difference of two starts
EQUAL_STEPS = 1e-9  # relative difference of lengths of layers that is rounding


def turnpike_ladder(ladder: Ladder) -> dict[str, Any] | None:
    """What the rungs say about the turnpike; None without a running error."""
    problem = ladder.plan.problems[0]
    if problem.tracking == 0 or problem.interpolation or not ladder.rungs:
        return None
    starts = [
        found
        for pair in pairwise(ladder.rungs)
        if ladder.plan.in_horizon
        for found in [_common_start(*pair)]
        if found is not None
    ]
    return {
        "rungs": [_rung(rung) for rung in ladder.rungs],
        "common_starts": starts,
        "starts_agree": all(start["holds"] for start in starts) if starts else None,
        "no_final_arc": all(_has_no_final_arc(rung) for rung in ladder.rungs),
    }


def _rung(rung: Rung) -> dict[str, Any]:
    found = rung.solved.result["turnpike"]
    return {
        "horizon": rung.problem.horizon,
        "weight_decay": rung.problem.weight_decay,
        **{key: found[key] for key in KEYS},
        "training_error": number(rung.error),
    }


def _common_start(short: Rung, long: Rung) -> dict[str, Any] | None:
    """Difference of two optima on the first half of the shorter horizon, beside its bound."""
    rate = long.solved.result["turnpike"]["predicted_discrete_rate"]
    exponential = all(
        r.solved.result["turnpike"]["verdict"] == "exponential" for r in (short, long)
    )
    steps = [r.problem.horizon / r.problem.layers for r in (short, long)]
    if not exponential or rate is None or abs(steps[0] / steps[1] - 1) > EQUAL_STEPS:
        return None
    half = short.problem.layers // 2 + 1
    pairs = zip(
        short.solution.trajectory.states[:half],
        long.solution.trajectory.states[:half],
        strict=True,
    )
    gap = max(float(np.abs(a - b).max()) for a, b in pairs)
    size = max(float(np.abs(x).max()) for x in long.solution.trajectory.states[:half])
    bound = START * float(np.exp(-rate * short.problem.horizon / 2))
    return {
        "horizons": [short.problem.horizon, long.problem.horizon],
        "relative_difference": number(gap / size),
        "bound": number(bound),
        "holds": gap <= bound * size,
    }


def _has_no_final_arc(rung: Rung) -> bool:
    """Whether the last layer's control is not above that of the middle of the horizon."""
    sizes = rung.solution.control_norms
    return bool(sizes[-1] <= sizes[len(sizes) // 2])


def turnpike_lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = ["turnpike, from the kernel at the end of each rung and fitted on its window:"]
    for rung in found["rungs"]:
        parts = [f"T = {rung['horizon']:g}, lambda = {rung['weight_decay']:g}: {rung['verdict']}"]
        for key, name in (
            ("predicted_discrete_rate", "predicted rate"),
            ("fitted_rate", "fitted"),
            ("fitted_constant", "constant"),
        ):
            if rung[key] is not None:
                parts.append(f"{name} {rung[key]:.6g}")
        parts.append(f"depth needed {rung['needed_depth']:g}")
        lines.append("  " + ", ".join(parts))
    for start in found["common_starts"]:
        short, long = start["horizons"]
        holds = "holds" if start["holds"] else "FAILS: another branch, or too short a horizon"
        lines.append(
            f"  first half of T = {short:g} beside T = {long:g}: relative difference "
            f"{start['relative_difference']:.2e}, at most {start['bound']:.2e} {holds}"
        )
    lines.append(f"  no final arc: {'yes' if found['no_final_arc'] else 'NO'}")
    return lines
