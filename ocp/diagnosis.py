"""What is wrong with a point, by name: values that are not finite, and violated constraints.

Places are written as `name[layer k, sample i]`; layers, samples and components count from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ocp.condensing import Linearization, StageValues
from ocp.stages import Array
from ocp.trajectory import decision_bounds


@dataclass(frozen=True)
class Offender:
    """A group of constraints and its largest violation, relative to its bound (at least 1).

    Args:
        kind: "row", "bound" or "defect".
        place: where, by name.
        size: of the violation.
    """

    kind: str
    place: str
    size: float

    def __str__(self) -> str:
        return f"{self.place} by {self.size:.2e}"


def not_finite(linearization: Linearization) -> str | None:
    """Where the model returns a value that is not a finite number, or None."""
    for k, values in enumerate(linearization.stages):
        for i in np.flatnonzero(~_is_finite(values)).tolist():
            return f"{_not_finite_output(values, i)}[layer {k}, sample {i}]"
    for term, values in zip(linearization.staged.shared, linearization.shared, strict=True):
        if not _is_finite(values).all():
            layers = ", ".join(map(str, term.stages)) or "none"
            return f"{term.name} {_not_finite_output(values, 0)}[layer {layers}]"
    return None


def _is_finite(values: StageValues) -> np.ndarray:
    """Of every member, whether all outputs and their derivatives are finite."""
    parts = (values.successor, values.rows, values.jacobian, values.gradient)
    finite = np.isfinite(values.cost)
    for part in parts:
        finite = finite & np.isfinite(part).all(axis=tuple(range(1, part.ndim)))
    return finite


def _not_finite_output(values: StageValues, i: int) -> str:
    """Which output of member i is not finite, the values before their derivatives."""
    for j in np.flatnonzero(~np.isfinite(values.successor[i])):
        return f"dynamics of x{j}"
    if not np.isfinite(values.cost[i]):
        return "cost"
    for j in np.flatnonzero(~np.isfinite(values.rows[i])):
        return f"constraint {values.bounds.names[j]}"
    n = values.successor.shape[1]
    for j in np.flatnonzero(~np.isfinite(values.jacobian[i]).all(axis=1)):
        what = f"dynamics of x{j}" if j < n else f"constraint {values.bounds.names[j - n]}"
        return f"derivative of the {what}"
    return "derivative of the cost"


def offenders(linearization: Linearization) -> list[Offender]:
    """Violated hard rows, bounds and defects, one of each group, the largest first."""
    staged, trajectory = linearization.staged, linearization.trajectory
    found: dict[tuple[str, str], Offender] = {}

    def add(kind: str, group: str, place: str, size: float) -> None:
        if size > 0 and ((kind, group) not in found or size > found[kind, group].size):
            found[kind, group] = Offender(kind, place, size)

    blocks = [(f"layer {k}", values) for k, values in enumerate(linearization.stages)]
    for term, values in zip(staged.shared, linearization.shared, strict=True):
        blocks.append((f"layer {', '.join(map(str, term.stages))}", values))
    for label, values in blocks:
        bounds = values.bounds
        scale = np.maximum(1.0, np.maximum(_finite(bounds.lower), _finite(bounds.upper)))
        for r in np.flatnonzero(np.isinf(bounds.weight)):
            sizes = np.abs(values.violation[:, r]) / scale[r]
            i = int(np.argmax(sizes))
            add("row", bounds.names[r], f"{bounds.names[r]}[{label}, sample {i}]", float(sizes[i]))
    for k, stage in enumerate(staged.stages[1:], start=1):
        sizes = bound_violation(trajectory.states[k], *stage.state_bounds)
        if sizes.size:
            i, j = divmod(int(np.argmax(sizes)), sizes.shape[1])
            add("bound", "state", f"bound[layer {k}, sample {i}, x{j}]", float(sizes[i, j]))
    sizes = bound_violation(trajectory.decisions, *decision_bounds(staged))
    if sizes.size:
        j = int(np.argmax(sizes))
        add("bound", "decision", f"bound[decision {j}]", float(sizes[j]))
    for k, values in enumerate(linearization.stages[:-1]):
        after = trajectory.states[k + 1]
        sizes = np.abs(values.successor - after) / max(1.0, float(np.abs(after).max(initial=0.0)))
        if sizes.size:
            i, j = divmod(int(np.argmax(sizes)), sizes.shape[1])
            add("defect", "", f"defect[layer {k}, sample {i}, x{j}]", float(sizes[i, j]))
    return sorted(found.values(), key=lambda offender: -offender.size)


def bound_violation(values: Array, lower: Array, upper: Array) -> Array:
    """Violation of bounds, relative to the bound (at least 1)."""
    scale = np.maximum(1.0, np.maximum(_finite(lower), _finite(upper)))
    return np.maximum(np.maximum(values - upper, lower - values), 0.0) / scale


def _finite(bound: Array) -> Array:
    return np.abs(np.where(np.isfinite(bound), bound, 0.0))
