"""What is wrong with a point, by name: values that are not finite, and violated constraints.

Places are written as `name[layer k, sample i]`, or `name[layer k]` where there is one member only;
layers (intervals), samples (members) and unnamed components count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocp.condensing import Linearization, StageValues
from ocp.stages import Array, StagedProblem
from ocp.trajectory import decision_bounds


@dataclass(frozen=True)
class Offender:
    """A group of constraints and its largest violation.

    Args:
        kind: "row", "bound" or "defect".
        name: of the group: a constraint, or a component of state, control or parameter.
        place: where, by name.
        size: of the violation, relative to its bound, or the component's largest value, at least 1.
        amount: of the violation, in the unit of what is violated.
    """

    kind: str
    name: str
    place: str
    size: float
    amount: float

    def __str__(self) -> str:
        return f"{self.place} by {self.amount:.2e}"


def not_finite(linearization: Linearization) -> str | None:
    """Where the model returns a value that is not a finite number, or None."""
    # A sum is finite only if all its terms are, and quicker to look at; overflow is looked into.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(sum(float(array.sum()) for array in linearization.arrays)):
            return None
    staged = linearization.staged
    for k, values in enumerate(linearization.stages):
        for i in np.flatnonzero(~_is_finite(values)).tolist():
            return f"{_not_finite_output(staged, values, i)}{_place(staged, k, i)}"
    for term, values in zip(staged.shared, linearization.shared, strict=True):
        if not _is_finite(values).all():
            layers = ", ".join(map(str, term.stages)) or "none"
            return f"{term.name} {_not_finite_output(staged, values, 0)}[layer {layers}]"
    return None


def _place(staged: StagedProblem, k: int, i: int, component: str = "") -> str:
    parts = [f"layer {k}"]
    if staged.members > 1:
        parts.append(f"sample {i}")
    if component:
        parts.append(component)
    return f"[{', '.join(parts)}]"


def _is_finite(values: StageValues) -> np.ndarray:
    """Of every member, whether all outputs and their derivatives are finite."""
    parts = (values.successor, values.rows, values.jacobian, values.gradient)
    finite = np.isfinite(values.cost)
    for part in parts:
        finite = finite & np.isfinite(part).all(axis=tuple(range(1, part.ndim)))
    return finite


def _not_finite_output(staged: StagedProblem, values: StageValues, i: int) -> str:
    """Which output of member i is not finite, the values before their derivatives."""
    for j in np.flatnonzero(~np.isfinite(values.successor[i])).tolist():
        return f"dynamics of {staged.names.state(j)}"
    if not np.isfinite(values.cost[i]):
        return "cost"
    for j in np.flatnonzero(~np.isfinite(values.rows[i])).tolist():
        return f"constraint {values.bounds.names[j]}"
    n = values.successor.shape[1]
    for j in np.flatnonzero(~np.isfinite(values.jacobian[i]).all(axis=1)).tolist():
        name = staged.names.state(j)
        what = f"dynamics of {name}" if j < n else f"constraint {values.bounds.names[j - n]}"
        return f"derivative of the {what}"
    return "derivative of the cost"


def component_sizes(states: Sequence[Array]) -> list[Array]:
    """Largest absolute value of every component of the state, at least 1; of every stage.

    Over all stages where the state keeps its size, over each by itself otherwise.
    """
    sizes = [np.abs(state).max(axis=0, initial=1.0) for state in states]
    if len({size.shape for size in sizes}) == 1:
        sizes = [np.max(sizes, axis=0)] * len(sizes)
    return sizes


def offenders(linearization: Linearization) -> list[Offender]:
    """Violated hard rows, bounds and defects, one of each group, the largest first."""
    staged, trajectory = linearization.staged, linearization.trajectory
    found: dict[tuple[str, str], Offender] = {}

    def add(kind: str, name: str, place: str, size: float, amount: float) -> None:
        if size > 0 and ((kind, name) not in found or size > found[kind, name].size):
            found[kind, name] = Offender(kind, name, place, float(size), float(amount))

    def add_rows(values: StageValues, layers: str) -> None:
        bounds = values.bounds
        if not bounds.weight.size:
            return
        scale = np.maximum(1.0, np.maximum(_finite(bounds.lower), _finite(bounds.upper)))
        for r in np.flatnonzero(np.isinf(bounds.weight)):
            amounts = np.abs(values.violation[:, r])
            i = int(np.argmax(amounts))
            sample = f", sample {i}" if len(amounts) > 1 else ""
            place = f"{bounds.names[r]}[layer {layers}{sample}]"
            add("row", bounds.names[r], place, amounts[i] / scale[r], amounts[i])

    for k, values in enumerate(linearization.stages):
        add_rows(values, str(k))
    for term, values in zip(staged.shared, linearization.shared, strict=True):
        add_rows(values, ", ".join(map(str, term.stages)))
    for k, stage in enumerate(staged.stages[1:], start=1):
        if not stage.has_state_bounds:
            continue
        lower, upper = stage.state_bounds
        amounts = np.maximum(trajectory.states[k] - upper, lower - trajectory.states[k])
        sizes = bound_violation(trajectory.states[k], lower, upper)
        for j in np.flatnonzero(sizes.any(axis=0)).tolist():
            i, name = int(np.argmax(sizes[:, j])), staged.names.state(j)
            add("bound", name, f"bound{_place(staged, k, i, name)}", sizes[i, j], amounts[i, j])
    lower, upper = decision_bounds(staged)
    decisions = trajectory.decisions
    sizes = bound_violation(decisions, lower, upper)
    for j in np.flatnonzero(sizes).tolist():
        name, place = _decision(staged, j)
        add("bound", name, place, sizes[j], max(decisions[j] - upper[j], lower[j] - decisions[j]))
    for j, (k, i, size, amount) in _largest_defects(linearization).items():
        name = staged.names.state(j)
        add("defect", name, f"defect{_place(staged, k, i, name)}", size, amount)
    return sorted(found.values(), key=lambda offender: -offender.size)


def _largest_defects(linearization: Linearization) -> dict[int, tuple[int, int, float, float]]:
    """Of every component, if there is one: stage, member, relative size and size."""
    states = linearization.trajectory.states
    scales, found = component_sizes(states), dict[int, tuple[int, int, float, float]]()
    largest = np.zeros(max(state.shape[1] for state in states))
    for k, values in enumerate(linearization.stages[:-1]):
        amounts = np.abs(np.subtract(values.successor.T, states[k + 1].T, order="C"))
        sizes = amounts.max(axis=1, initial=0.0) / scales[k + 1]
        for j in np.flatnonzero(sizes > largest[: sizes.size]).tolist():
            i = int(np.argmax(amounts[j]))
            found[j] = k, i, float(sizes[j]), float(amounts[j, i])
            largest[j] = sizes[j]
    return found


def initial_offenders(staged: StagedProblem, tolerance: float) -> list[Offender]:
    """Given components of the initial state that are outside the bounds of the first stage."""
    lower, upper = staged.stages[0].state_bounds
    states = staged.initial_state
    sizes = bound_violation(states, lower, upper)
    found = []
    for j in np.flatnonzero((sizes > tolerance).any(axis=0)).tolist():
        i, name = int(np.argmax(sizes[:, j])), staged.names.state(j)
        amount = max(states[i, j] - upper[j], lower[j] - states[i, j])
        place = f"bound{_place(staged, 0, i, name)}"
        found.append(Offender("bound", name, place, float(sizes[i, j]), float(amount)))
    return found


def _decision(staged: StagedProblem, j: int) -> tuple[str, str]:
    """Name and place of a decision's bound."""
    own = staged.parameter_slice
    if j >= own.start:
        name = staged.names.parameter(j - own.start)
        return name, f"bound[parameter {name}]"
    k = next(k for k, s in enumerate(staged.control_slices) if s.start <= j < s.stop)
    name = staged.names.control(j - staged.control_slices[k].start)
    return name, f"bound[layer {k}, {name}]"


def bound_violation(values: Array, lower: Array, upper: Array) -> Array:
    """Violation of bounds, relative to the bound (at least 1)."""
    scale = np.maximum(1.0, np.maximum(_finite(lower), _finite(upper)))
    return np.maximum(np.maximum(values - upper, lower - values), 0.0) / scale


def _finite(bound: Array) -> Array:
    return np.abs(np.where(np.isfinite(bound), bound, 0.0))
