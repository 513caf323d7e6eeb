"""How far two networks are apart when symmetries of their cost do not count.

    d(u, v) = min_g ( Int |u - g v|^2 dt + |q - g r|^2 )^(1/2)

with g in the group of what leaves every J of `problems.learning` as it is:

- permutations of the coordinates of the state that are neither inputs nor outputs, the same in all
  layers, and changes of their sign where f allows it (an odd activation, or any in a bottleneck);
- permutations of the hidden units of a bottleneck, in every layer its own (the same in all of them
  under the H1 penalty), and changes of their sign under an odd activation.

Few coordinates are permuted in all ways; for many, exchanges and changes of sign are tried until
none helps, and the distance is only a bound from above. Hidden units are assigned exactly. On a
grid, or where widths vary, no symmetry is looked for, and the distance is a bound as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import casadi as ca
import numpy as np
from scipy.optimize import linear_sum_assignment

from problems.learning import Array, LearningProblem
from problems.vector_fields import BOTTLENECK, INSIDE, OUTSIDE, Activation

MOST_WAYS = 4000  # of permuting and changing signs, up to which all are tried
ODD_AT = (0.3, 1.1, 2.7)  # where s(-x) = -s(x) is tested


@dataclass(frozen=True)
class Distance:
    """Between two networks modulo symmetries.

    Args:
        value: in units of the control times the root of time.
        relative: to the size of the second network.
        plain: relative, without the symmetries.
        is_exact: whether all symmetries were tried.
    """

    value: float
    relative: float
    plain: float
    is_exact: bool


@dataclass(frozen=True, eq=False)
class _Signed:
    """x_j -> sign_j x_{order_j}."""

    order: tuple[int, ...]
    sign: tuple[float, ...]

    def rows(self, array: Array, axis: int) -> Array:
        """Along one axis of an array."""
        shape = [1] * array.ndim
        shape[axis] = -1
        taken = np.take(array, self.order, axis=axis)
        return np.asarray(taken * np.array(self.sign).reshape(shape))


def distance(problem: LearningProblem, decisions: Array, reference: Array) -> Distance:
    """Distance between two networks of a problem.

    Args:
        problem: whose cost the symmetries leave as it is.
        decisions: controls and parameters in one vector.
        reference: likewise; what the distance is relative to.
    """
    if problem.moving_grid is not None:
        return _without_symmetries(problem, decisions, reference)
    here, there = _parts(problem, decisions), _parts(problem, reference)
    size = math.sqrt(sum(_squares(problem, n, part) for n, part in there.items())) or 1.0
    identity = tuple(range(problem.state_size))
    plain = sum(_squares(problem, n, here[n] - there[n]) for n in here)
    free = _free_coordinates(problem)
    signs = _is_odd(problem.activation) or problem.field is BOTTLENECK
    ways = math.factorial(len(free)) * (2 ** len(free) if signs else 1)

    def apart(way: _Signed) -> float:
        return _apart(problem, here, _moved(problem, there, way))

    known = problem.field in (INSIDE, OUTSIDE, BOTTLENECK)
    start = _Signed(identity, (1.0,) * len(identity))
    if not known:
        least = plain
    elif ways <= MOST_WAYS:
        least = min(apart(way) for way in _all_ways(identity, free, signs))
    else:
        least = _descend(apart, start, free, signs)
    return Distance(
        math.sqrt(least),
        math.sqrt(least) / size,
        math.sqrt(plain) / size,
        known and ways <= MOST_WAYS,
    )


def _without_symmetries(problem: LearningProblem, decisions: Array, reference: Array) -> Distance:
    weights = np.full(reference.size, problem.horizon / problem.layers)
    weights[problem.staged.parameter_slice] = 1.0
    size = math.sqrt(float(weights @ reference**2)) or 1.0
    value = math.sqrt(float(weights @ (decisions - reference) ** 2))
    return Distance(value, value / size, value / size, False)


def _parts(problem: LearningProblem, decisions: Array) -> dict[str, Array]:
    controls = decisions[: decisions.size - problem.staged.parameter_size]
    table = controls.reshape(problem.layers, -1)
    parts = problem.field.split_arrays(table, problem.state_size, problem.hidden_size)
    if problem.trained_readout:
        weight, bias = problem.readout(decisions[controls.size :])
        parts |= {"readout_weight": weight, "readout_bias": bias}
    return parts


def _squares(problem: LearningProblem, name: str, part: Array) -> float:
    weight = 1.0 if name.startswith("readout") else problem.horizon / problem.layers
    return weight * float(np.sum(part**2))


def _free_coordinates(problem: LearningProblem) -> list[int]:
    fixed = problem.dataset.inputs.shape[1]
    if not problem.trained_readout:
        fixed = max(fixed, problem.outputs)
    return list(range(fixed, problem.state_size))


def _is_odd(activation: Activation) -> bool:
    x = ca.SX.sym("x")
    function = ca.Function("s", [x], [activation.function(x, 0.0)])
    return all(abs(float(function(a)) + float(function(-a))) <= 1e-12 for a in ODD_AT)


def _all_ways(identity: tuple[int, ...], free: list[int], signs: bool) -> Iterator[_Signed]:
    choices = (
        list(itertools.product((1.0, -1.0), repeat=len(free))) if signs else [(1.0,) * len(free)]
    )
    for moved in itertools.permutations(free):
        for chosen in choices:
            order, sign = list(identity), [1.0] * len(identity)
            for j, source, s in zip(free, moved, chosen, strict=True):
                order[j], sign[j] = source, s
            yield _Signed(tuple(order), tuple(sign))


def _descend(
    apart: Callable[[_Signed], float], start: _Signed, free: list[int], signs: bool
) -> float:
    """Exchange two coordinates or change one sign, as long as that brings the networks nearer."""
    at, least = start, apart(start)
    while True:
        near = [_exchanged(at, i, j) for i, j in itertools.combinations(free, 2)]
        near += [_flipped(at, j) for j in free] if signs else []
        values = [apart(way) for way in near]
        if not values or min(values) >= least:
            return least
        least, at = min(values), near[int(np.argmin(values))]


def _exchanged(way: _Signed, i: int, j: int) -> _Signed:
    order, sign = list(way.order), list(way.sign)
    order[i], order[j], sign[i], sign[j] = order[j], order[i], sign[j], sign[i]
    return _Signed(tuple(order), tuple(sign))


def _flipped(way: _Signed, j: int) -> _Signed:
    sign = list(way.sign)
    sign[j] = -sign[j]
    return _Signed(way.order, tuple(sign))


# Axes of the controls that are coordinates of the state, the layers being axis 0
_STATE_AXES = {
    "w": (1, 2),
    "b": (1,),
    "w1": (2,),
    "b1": (),
    "w2": (1,),
    "b2": (1,),
    "readout_weight": (1,),
    "readout_bias": (),
}


def _moved(problem: LearningProblem, parts: dict[str, Array], way: _Signed) -> dict[str, Array]:
    moved = {}
    for name, part in parts.items():
        for axis in _STATE_AXES[name]:
            part = way.rows(part, axis)
        moved[name] = part
    return moved


def _apart(problem: LearningProblem, here: dict[str, Array], there: dict[str, Array]) -> float:
    """Squared distance, with hidden units assigned to each other."""
    names = [name for name in here if name not in ("w1", "b1", "w2")]
    total = sum(_squares(problem, name, here[name] - there[name]) for name in names)
    if problem.field is not BOTTLENECK:
        return total
    signs = _is_odd(problem.activation)
    a, b = (
        np.concatenate([p["w1"], p["b1"][:, :, None], p["w2"].transpose(0, 2, 1)], axis=2)
        for p in (here, there)
    )
    products = np.einsum("kif,kjf->kij", a, b)
    squares = (a**2).sum(axis=2)[:, :, None] + (b**2).sum(axis=2)[:, None, :]
    if problem.penalty.rate > 0:  # one assignment for all layers, and one sign
        products, squares = products.sum(axis=0)[None], squares.sum(axis=0)[None]
        a, b = (units.transpose(1, 0, 2).reshape(1, units.shape[1], -1) for units in (a, b))
    for k, product in enumerate(products):
        rows, columns = linear_sum_assignment(
            squares[k] - 2 * (np.abs(product) if signs else product)
        )
        is_negative = (product[rows, columns] < 0) & signs
        sign = np.where(is_negative, -1.0, 1.0)[:, None]
        total += _squares(problem, "hidden units", a[k, rows] - sign * b[k, columns])
    return total
