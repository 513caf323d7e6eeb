"""Continuous space-time networks: the state of a sample is a function on a domain.

    d/dt z(t, x) = Int_Omega w(t, x, xi) s(z(t, xi)) d xi + b(t, x)           ("inside")
    d/dt z(t, x) = s( Int_Omega w(t, x, xi) z(t, xi) d xi + b(t, x) )         ("outside")
    penalty      Int_0^T ( Int Int w^2 + Int b^2 ) dt
    read-out     P z = ( Int_Omega g_m(x) z(T, x) dx )_m,   g_m given, or trained with Int g^2

On a grid with weights om_j the integrals become sums, in the penalty too; so optimum, read-out and
error converge under refinement at the order of the quadrature.

Source: Esteve, Geshkovski, Pighin and Zuazua, Large-time asymptotics in deep learning,
arXiv 2008.02491.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ocp import Trajectory
from problems.datasets import Dataset
from problems.layer import AFTER, HIDDEN
from problems.learning import LearningProblem
from problems.moving_grid import MovingGrid
from problems.spatial_grid import Array, SpatialGrid, sampled
from problems.transfer import LINEAR

Function = Callable[..., ArrayLike]  # of x, or of (x, y)


def space_time_problem(
    samples: Sequence[Function] | ArrayLike,
    targets: ArrayLike,
    grid: SpatialGrid | MovingGrid,
    *,
    readout: Sequence[Function] | None = None,
    name: str = "functions",
    classes: tuple[tuple[str, ...], ...] = (),
    **choices: Any,
) -> LearningProblem:
    """The learning problem of samples that are functions.

    Args:
        samples: N functions, or their values (N, d) at the nodes of the first grid; images as
            (N, rows, columns).
        targets: (N, M); or N functions, which are then to be the states at the end.
        grid: of all layers, or one for each.
        readout: M functions g_m to integrate the end state against; None to train them, or, with
            functions as targets, to compare the end state itself.
        name: of the data.
        classes: of the targets, as `Dataset` has them.
        choices: everything else that `LearningProblem` takes, such as horizon and layers.

    Raises:
        ValueError: samples that are not on the grid, or what `LearningProblem` refuses.
    """
    moving = MovingGrid((grid,)) if isinstance(grid, SpatialGrid) else grid
    first, last = moving.grids[0], moving.grids[-1]
    inputs = sampled(samples, first)
    if isinstance(targets, Sequence) and all(callable(target) for target in targets):
        values, is_state = sampled(targets, last), True
    else:
        values, is_state = np.asarray(targets, dtype=float), False
        values = values[:, None] if values.ndim == 1 else values
    names = tuple(f"z({', '.join(f'{x:.3g}' for x in node)})" for node in first.nodes)
    dataset = Dataset(name, inputs, values, classes, names)
    return LearningProblem(
        dataset,
        moving_grid=moving,
        fixed_readout=None if readout is None else integrals(last, readout),
        trained_readout=readout is None and not is_state,
        **choices,
    )


def integrals(grid: SpatialGrid, functions: Sequence[Function]) -> Array:
    """The read-out z -> (Int g_m z)_m as a matrix (M, d) on the values at the nodes."""
    return np.array([grid.weights * grid.sample(g) for g in functions])


def moments(grid: SpatialGrid, count: int) -> Array:
    """Integrals against the first orthonormal Legendre polynomials on the domain, (count, d).

    In two dimensions these are products, in the order of their total degree. They are the first
    coordinates of a function, as columns are of a vector.
    """
    choices = product(range(count), repeat=grid.dimension)
    rows = []
    for orders in sorted(choices, key=lambda orders: (sum(orders), orders[::-1]))[:count]:
        values = np.ones(grid.size)
        for axis, (order, (low, high)) in enumerate(zip(orders, grid.domain, strict=True)):
            x = (2 * grid.nodes[:, axis] - low - high) / (high - low)
            unit = np.sqrt((2 * order + 1) / (high - low))
            values = values * unit * np.polynomial.Legendre.basis(order)(x)
        rows.append(grid.weights * values)
    return np.array(rows)


def resampled(problem: LearningProblem, trajectory: Trajectory, onto: LearningProblem) -> Array:
    """Decisions of a network interpolated to other grids: a start for refinement.

    Kernels become Pi^+ w Pi^T, with Pi of the grids before and Pi^+ of those after the layer.

    Args:
        problem: that was solved.
        trajectory: its solution.
        onto: the same network, with as many layers, on other grids of the same domain.

    Raises:
        ValueError: problems without grids, or with different numbers of layers.
    """
    old, new = problem.moving_grid, onto.moving_grid
    if old is None or new is None or problem.layers != onto.layers:
        raise ValueError("only networks on grids with as many layers are resampled.")
    moves = [LINEAR(old.grid(k), new.grid(k)) for k in range(problem.layers + 1)]
    weights = []
    for k, kernels in enumerate(problem.layer_weights(trajectory)):
        axes = problem.field.axes
        assert axes is not None
        there = {}
        for name, part in kernels.items():
            for axis, kind in enumerate(axes[name]):
                if kind != HIDDEN:
                    move = moves[k + 1] if kind == AFTER else moves[k]
                    part = np.moveaxis(np.tensordot(move, part, (1, axis)), 0, axis)
            there[name] = part
        weights.append(there)
    _, bias = problem.readout(trajectory.parameters)
    functions = readout_functions(problem, trajectory.parameters) @ moves[-1].T
    return onto.decisions(weights, functions * new.grid(onto.layers).weights, bias)


def readout_functions(problem: LearningProblem, parameters: Array) -> Array:
    """The functions g_m of a read-out at the nodes of the last grid, (M, D)."""
    weight = problem.readout(parameters)[0]
    if problem.moving_grid is None:
        return weight
    return weight / problem.moving_grid.grid(problem.layers).weights
