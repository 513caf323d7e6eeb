"""Minimal-norm interpolation: the cheapest control that fits the data exactly.

    minimise Int_0^T R(u) dt   subject to   P x_i(T) = y_i,   i = 1, ..., N

Some data cannot be interpolated by any flow. What can be proved beforehand is checked here:
trajectories never meet, so equal inputs need equal targets; a flow on the line keeps the order
of its points; and a field with bounded speed reaches only so far in the time T.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from problems.learning import LearningProblem
from problems.vector_fields import OUTSIDE


def minimal_norm(problem: LearningProblem) -> LearningProblem:
    """The interpolation problem with this problem's data, network and penalty.

    Raises:
        ValueError: equal inputs with different targets, or an order of points on the line that
            would have to change.
    """
    _check_equal_inputs(problem)
    _check_order(problem)
    return replace(problem, interpolation=True, tracking=0.0)


def _check_equal_inputs(problem: LearningProblem) -> None:
    inputs, targets = problem.dataset.inputs, problem.dataset.targets
    _, group = np.unique(inputs, axis=0, return_inverse=True)
    group = group.ravel()
    for label in np.flatnonzero(np.bincount(group) > 1):
        rows = np.flatnonzero(group == label)
        different = np.flatnonzero((targets[rows] != targets[rows[0]]).any(axis=1))
        if different.size:
            raise ValueError(
                f"interpolation is infeasible: rows {rows[0] + 1} and {rows[different[0]] + 1} "
                "have equal inputs but different targets; remove one of them, or use solve."
            )


def _check_order(problem: LearningProblem) -> None:
    if set(problem.widths) != {1} or problem.trained_readout or problem.fixed_readout is not None:
        return
    a, y = problem.dataset.inputs[:, 0], problem.dataset.targets[:, 0]
    order = np.lexsort((y, a))
    for i, j in pairwise(order):
        if a[i] < a[j] and y[i] >= y[j]:
            raise ValueError(
                f"interpolation is infeasible: a flow on the line keeps the order of its points, "
                f"but rows {i + 1} and {j + 1} have inputs {a[i]:g} < {a[j]:g} and targets "
                f"{y[i]:g} >= {y[j]:g}; give the state a second dimension (width 2)."
            )


def unreachable(problem: LearningProblem) -> str | None:
    """Why the targets are out of reach of a field of bounded speed, or None if nothing is known.

    With x' = s(w x + b), each read-out coordinate moves at a speed between inf s and sup s, so
    that  T inf s < y - a < T sup s,  or <= where the speed is a value of s.
    """
    if problem.field is not OUTSIDE or problem.trained_readout:
        return None
    if problem.moving_grid is not None or problem.fixed_readout is not None:
        return None
    start = problem.pad(problem.dataset.inputs)[:, : problem.outputs]
    distance = problem.dataset.targets - start
    low, high = (problem.horizon * speed for speed in problem.activation.range)
    reaches_low, reaches_high = problem.activation.attains
    out = (distance > high) | (distance < low)
    if not reaches_high:
        out |= distance == high
    if not reaches_low:
        out |= distance == low
    if not out.any():
        return None
    missing = np.where(out, np.maximum(distance - high, low - distance), -np.inf)
    i, j = np.unravel_index(int(np.argmax(missing)), missing.shape)
    speed = problem.activation.range[1 if distance[i, j] > 0 else 0]
    if speed == 0:
        remedy = "another activation or field"
    else:
        remedy = f"a horizon above {distance[i, j] / speed:g}, or another field"
    return (
        f"interpolation is infeasible: row {i + 1} must move by {distance[i, j]:g} in output "
        f"{j + 1}, but x' = s(w x + b) with {problem.activation.name} moves it by more than "
        f"{low:g} and less than {high:g} in the horizon {problem.horizon:g}; use {remedy}."
    )
