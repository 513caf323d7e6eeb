"""Stages of learning problems that differ in their samples alone, built once.

The samples enter a staged problem as initial states and data; its functions, and whatever is
derived from them on the way to a solution, depend on the network, the cost and the numbers of
samples, inputs and outputs. Building them takes longer than to solve a small problem.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace

from numpy.typing import NDArray

from ocp import StagedProblem

MOST_KEPT = 32  # structures, of which the one used longest ago is dropped first

_kept: OrderedDict[Hashable, StagedProblem] = OrderedDict()


def with_known_stages(
    structure: Hashable, initial_state: NDArray, data: NDArray, build: Callable[[], StagedProblem]
) -> StagedProblem:
    """The staged problem of some samples.

    Args:
        structure: of the problem, all but the values of its samples.
        initial_state: (N, n), of the samples.
        data: (N, number of data), of the samples.
        build: makes the problem, if none of this structure is known.
    """
    if structure in _kept:
        _kept.move_to_end(structure)
    else:
        built = build()
        _kept[structure] = replace(built, initial_state=built.initial_state[:0], data=data[:0])
        if len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    return replace(_kept[structure], initial_state=initial_state, data=data)


def forget() -> None:
    """Forget all stages, so that the next problem is built from the beginning."""
    _kept.clear()
