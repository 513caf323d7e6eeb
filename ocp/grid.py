"""Time grids: the nodes t_0 < t_1 < ... < t_K on which a problem is transcribed.

    h_k = t_{k+1} - t_k,    k = 0, ..., K-1

In a learning problem the K intervals are the layers of the network and t is its depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class TimeGrid:
    """Nodes of a time grid.

    Args:
        nodes: (K+1,) strictly increasing times, in the problem's unit of time.

    Raises:
        ValueError: fewer than two nodes, a non-finite node, or nodes that do not increase.
    """

    nodes: NDArray[np.float64]

    def __post_init__(self) -> None:
        nodes = np.array(self.nodes, dtype=np.float64)
        if nodes.ndim != 1 or nodes.size < 2:
            raise ValueError(
                f"grid nodes have shape {nodes.shape}, expected (K+1,) with K >= 1; "
                "give at least a start and an end time."
            )
        if not np.isfinite(nodes).all():
            raise ValueError("grid nodes must be finite; remove NaN and infinite times.")
        if not (np.diff(nodes) > 0).all():
            k = int(np.argmin(np.diff(nodes)))
            raise ValueError(
                f"grid nodes must increase, but t[{k}] = {nodes[k]:g} is followed by "
                f"t[{k + 1}] = {nodes[k + 1]:g}; sort them and remove repeated times."
            )
        nodes.setflags(write=False)
        object.__setattr__(self, "nodes", nodes)

    @classmethod
    def uniform(cls, intervals: int, horizon: float = 1.0, start: float = 0.0) -> TimeGrid:
        """K equal intervals on [start, start + horizon].

        Raises:
            ValueError: fewer than one interval, or a horizon that is not positive and finite.
        """
        if intervals < 1:
            raise ValueError(f"a grid needs at least 1 interval, got {intervals}.")
        if not (np.isfinite(horizon) and horizon > 0):
            raise ValueError(f"the horizon must be positive and finite, got {horizon}.")
        return cls(start + horizon * np.arange(intervals + 1) / intervals)

    @classmethod
    def graded(cls, steps: ArrayLike, start: float = 0.0) -> TimeGrid:
        """Intervals of the given lengths (K,), one after the other from start."""
        return cls(start + np.concatenate([[0.0], np.cumsum(np.asarray(steps, dtype=float))]))

    def including(self, times: ArrayLike) -> TimeGrid:
        """The grid with nodes at the given times too; those that it has already stay single."""
        times = np.ravel(np.asarray(times, dtype=float))
        near = np.abs(times[:, None] - self.nodes).min(axis=1) <= 1e-9 * self.horizon
        return TimeGrid(np.unique(np.concatenate([self.nodes, times[~near]])))

    @cached_property
    def steps(self) -> NDArray[np.float64]:
        """Interval lengths h_k, (K,), read-only."""
        steps = np.diff(self.nodes)
        steps.setflags(write=False)
        return steps

    @property
    def intervals(self) -> int:
        """Number of intervals K."""
        return self.nodes.size - 1

    @property
    def horizon(self) -> float:
        """Total length t_K - t_0."""
        return float(self.nodes[-1] - self.nodes[0])
