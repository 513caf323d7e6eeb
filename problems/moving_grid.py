"""A moving grid: one grid per layer boundary, and the interpolation from each to the next.

    z^{k+1} = Pi_k z^k + h ( w^k diag(om^k) s(z^k) + b^k ),      w^k in R^{d_{k+1} x d_k}

The widths d_0, ..., d_K of a network are the numbers of nodes. One grid for all layers is the case
Pi_k = 1. Features without a grid stand on index grids: om = 1, and Pi_k drops or adds features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from problems.spatial_grid import Array, SpatialGrid, index_grid
from problems.transfer import NEAREST, PROJECTION, Transfer


@dataclass(frozen=True, eq=False)
class MovingGrid:
    """Grids 0, ..., K, or a single one for any number of layers.

    Args:
        grids: K + 1 grids, or one.
        transfers: K matrices Pi_k (d_{k+1}, d_k); none for a single grid.
        transfer: name of what made them, "given" for others.

    Raises:
        ValueError: matrices that do not fit the grids.
    """

    grids: tuple[SpatialGrid, ...]
    transfers: tuple[Array, ...] = ()
    transfer: str = "given"

    def __post_init__(self) -> None:
        if not self.grids:
            raise ValueError("a moving grid needs at least one grid.")
        if len(self.transfers) != len(self.grids) - 1:
            raise ValueError(
                f"{len(self.grids)} grids need {len(self.grids) - 1} matrices between them, got "
                f"{len(self.transfers)}."
            )
        for k, matrix in enumerate(self.transfers):
            expected = (self.grids[k + 1].size, self.grids[k].size)
            if matrix.shape != expected or not np.isfinite(matrix).all():
                raise ValueError(
                    f"the interpolation of layer {k} has shape {matrix.shape}, expected finite "
                    f"numbers of shape {expected}."
                )

    @classmethod
    def through(cls, grids: Sequence[SpatialGrid], transfer: Transfer = PROJECTION) -> MovingGrid:
        """From grid to grid by one transfer."""
        matrices = [transfer(a, b) for a, b in pairwise(grids)]
        return cls(tuple(grids), tuple(matrices), transfer.name)

    def grid(self, k: int) -> SpatialGrid:
        """Grid of the state before layer k."""
        return self.grids[k] if len(self.grids) > 1 else self.grids[0]

    def weights(self, k: int) -> Array | None:
        """Weights om^k; None if all are 1."""
        weights = self.grid(k).weights
        return weights if (weights != 1.0).any() else None

    def between(self, k: int) -> Array | None:
        """Pi_k; None if it is the identity."""
        return self._moves[k] if self._moves else None

    @cached_property
    def _moves(self) -> tuple[Array | None, ...]:
        same = [
            self.grids[k].equals(self.grids[k + 1]) and np.array_equal(m, np.eye(len(m)))
            for k, m in enumerate(self.transfers)
        ]
        return tuple(
            None if is_same else m for is_same, m in zip(same, self.transfers, strict=True)
        )

    @property
    def is_still(self) -> bool:
        """Whether all layers share one grid."""
        return all(matrix is None for matrix in self._moves)

    def widths(self, layers: int) -> tuple[int, ...]:
        """Widths d_0, ..., d_K.

        Raises:
            ValueError: grids for another number of layers.
        """
        if len(self.grids) not in (1, layers + 1):
            raise ValueError(
                f"there are {len(self.grids)} grids for {layers} layers, expected {layers + 1}, "
                "one before each layer and one at the end; spread a shorter list."
            )
        return tuple(self.grid(k).size for k in range(layers + 1))


def spread(widths: Sequence[int], layers: int) -> tuple[int, ...]:
    """Widths d_0, ..., d_K from a list that may be shorter: equal shares of the depth for each.

    Raises:
        ValueError: no widths, more than K + 1, or one that is not positive.
    """
    if not 1 <= len(widths) <= layers + 1:
        raise ValueError(
            f"there are {len(widths)} widths for {layers} layers, expected at most {layers + 1}, "
            "one before each layer and one at the end; use more layers, or fewer widths."
        )
    if min(widths) < 1:
        raise ValueError(f"widths must be at least 1, got {min(widths)}.")
    return tuple(widths[k * len(widths) // (layers + 1)] for k in range(layers + 1))


def moving_grid(
    widths: Sequence[int],
    layers: int,
    rule: Callable[[int], SpatialGrid] = index_grid,
    transfer: Transfer | None = None,
) -> MovingGrid:
    """Grids of given sizes made by one rule.

    Args:
        widths: d_0, ..., d_K; a shorter list is spread evenly.
        layers: K.
        rule: size -> grid; features without a grid by default.
        transfer: between grids; by default the projection, nearest for features without a
            grid and for scattered nodes.
    """
    made = {width: rule(width) for width in set(widths)}
    grids = [made[width] for width in spread(widths, layers)]
    if len(made) == 1:
        return MovingGrid(tuple(grids[:1]))
    if transfer is None:
        is_product = all(grid.factors for grid in grids) and not grids[0].is_index
        transfer = PROJECTION if is_product else NEAREST
    return MovingGrid.through(grids, transfer)
