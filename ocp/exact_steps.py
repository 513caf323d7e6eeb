"""Steps of a solution integrated again, adaptively and to near rounding.

    y' = h f(t + theta h, y, u(theta)),    0 <= theta <= 1,    y(0) = x_k,

for all steps of one method at once, each with its own h. Of the adaptive methods: Dormand and
Prince's DOP853; stiff steps are left to Radau IIA (Hairer, Norsett and Wanner, Solving Ordinary
Differential Equations I and II).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.sparse import csc_matrix, hstack, identity, kron, vstack

from ocp.path import Model, Steps
from ocp.stages import Array

ACCURACY = 1e-12  # relative, of the adaptive integration
STIFF_ACCURACY = 1e-10  # where every digit costs more steps
STIFF = 50.0  # a step times the growth of its rate beyond this is stiff
MOST_EVALUATIONS = 10_000  # of the rate of a batch of steps
PERTURBATION = 1e-6  # of the state, relative, to see how the rate grows


def integrate(group: Steps, model: Model, parameters: Array, sizes: Array) -> tuple[Array, Array]:
    """States (G, N, n) at the ends of the steps, and running costs (G,) over them."""
    ends, costs = np.zeros_like(group.before), np.zeros(len(group.before))
    stiff = _stiffness(group, model, parameters, sizes) > STIFF
    for is_stiff in (False, True):
        batch = np.flatnonzero(stiff == is_stiff)
        if not batch.size:
            continue
        x, cost = _solve(group, model, parameters, sizes, batch, is_stiff=is_stiff)
        ends[batch], costs[batch] = x, cost
    return ends, costs


def _stiffness(group: Steps, model: Model, parameters: Array, sizes: Array) -> Array:
    """Of every step, its length times the growth of the rate with the state."""
    control = group.controls[:, 0]
    rate = model(group.start, group.before, control, parameters)[0]
    growth = np.zeros(len(group.start))
    for j in range(sizes.size):
        moved = group.before.copy()
        moved[:, :, j] += PERTURBATION * sizes[j]
        after = model(group.start, moved, control, parameters)[0]
        change = np.abs((after - rate) / sizes).max(axis=(1, 2)) / PERTURBATION
        growth = np.maximum(growth, change)
    return np.asarray(group.length * growth)


def _solve(
    group: Steps,
    model: Model,
    parameters: Array,
    sizes: Array,
    batch: np.ndarray,
    *,
    is_stiff: bool,
) -> tuple[Array, Array]:
    """All steps of a batch as one system over [0, 1]; the states in units of their sizes."""
    start, length = group.start[batch], group.length[batch]
    shape = group.before[batch].shape
    density = model(start, group.before[batch], group.controls[batch, 0], parameters)[1]
    cost_size = max(float(np.abs(length * density.sum(axis=1)).max()), np.finfo(float).tiny)

    def rate(theta: float, y: Array) -> Array:
        x = y[: -len(batch)].reshape(shape) * sizes
        control = group.controls_at(batch, np.full(len(batch), theta), within_bounds=False)
        rates, running = model(start + theta * length, x, control, parameters)
        scaled = length[:, None, None] * rates / sizes
        return np.concatenate([scaled.ravel(), length * running.sum(axis=1) / cost_size])

    initial = np.concatenate([(group.before[batch] / sizes).ravel(), np.zeros(len(batch))])
    pattern = _pattern(shape) if is_stiff else None
    y = _adaptive(rate, initial, pattern)
    return y[: -len(batch)].reshape(shape) * sizes, y[-len(batch) :] * cost_size


def _pattern(shape: tuple[int, ...]) -> csc_matrix:
    """Which components of the system depend on which: those of one member in one step, and costs.

    With it, the implicit method needs no more rates for many steps than for one.
    """
    steps, members, n = shape
    states = kron(identity(steps * members), np.ones((n, n)))
    costs = kron(identity(steps), np.ones((1, members * n)))
    none = csc_matrix((states.shape[0] + steps, steps))
    return csc_matrix(hstack([vstack([states, costs]), none]))


def _adaptive(
    rate: Callable[[float, Array], Array], initial: Array, pattern: csc_matrix | None
) -> Array:
    """The state at 1; not a number where the integration breaks down."""
    left = MOST_EVALUATIONS

    def counted(theta: float, y: Array) -> Array:
        nonlocal left
        left -= 1
        if left < 0:
            raise _BrokenDownError
        return rate(theta, y)

    settings: dict[str, Any] = {"method": "DOP853", "rtol": ACCURACY, "atol": ACCURACY}
    if pattern is not None:
        accuracy = {"rtol": STIFF_ACCURACY, "atol": STIFF_ACCURACY}
        settings = {"method": "Radau", "jac_sparsity": pattern, **accuracy}
    with np.errstate(all="ignore"):
        try:
            found = solve_ivp(
                *(counted, (0.0, 1.0), initial),
                t_eval=[1.0],
                **settings,
            )
        except _BrokenDownError:
            return np.full_like(initial, np.nan)
    return np.full_like(initial, np.nan) if found.status else np.asarray(found.y[:, -1])


class _BrokenDownError(Exception):
    """The integration takes more evaluations than any solution of interest."""
