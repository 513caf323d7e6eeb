"""From the options --widths, --grid, --domain and --transfer to the grids that they ask for.

Without --grid, inputs are features of no place: widths count them, layers keep the features that
they have in common, and new ones start from 0. With --grid, inputs are the values of a function at
the nodes of a rule on the unit interval or square, and every layer has the rule of its width.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from problems.arguments import GRID_OPTIONS, RequestError
from problems.datasets import Dataset
from problems.moving_grid import moving_grid, spread
from problems.space_time import moments
from problems.spatial_grid import RULES, SpatialGrid, index_grid, square
from problems.transfer import TRANSFERS


def asked_grid(options: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    """Width, grid and read-out, by the names that `LearningProblem` has for them."""
    if all(getattr(options, name) is None for name in GRID_OPTIONS):
        return {"width": options.width}
    if options.width is not None:
        given = next(name for name in GRID_OPTIONS if getattr(options, name) is not None)
        raise RequestError(f"--width came with --{given}; give --widths instead, or leave it out.")
    if options.grid is None:
        if options.domain is not None:
            raise RequestError("--domain is the domain of a grid; give --grid, or leave it out.")
        if options.transfer is not None and options.widths is None:
            raise RequestError("--transfer is for layers of several widths; give --widths.")
    inputs = dataset.inputs.shape[1]
    widths = options.widths or (inputs,)
    if len(set(spread(widths, options.layers))) == 1 and options.grid is None:
        return {"width": widths[0]}
    rule = index_grid
    if options.grid is not None:
        rule = RULES[options.grid]
        if options.domain == "square":
            rule = partial(square, rule)
    transfer = None if options.transfer is None else TRANSFERS[options.transfer]
    grid = moving_grid(widths, options.layers, rule, transfer)
    asked: dict[str, Any] = {"width": None, "moving_grid": grid}
    if options.grid is not None and options.readout == "first":
        asked["fixed_readout"] = _moments(grid.grid(options.layers), dataset.targets.shape[1])
    return asked


def _moments(grid: SpatialGrid, outputs: int) -> Any:
    if grid.size < outputs:
        raise RequestError(
            f"the read-out takes the first {outputs} moments of a function on {grid.size} nodes; "
            "use a last width of at least as many, or --readout trained."
        )
    return moments(grid, outputs)
