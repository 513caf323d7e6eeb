"""The dense Hessian of the Lagrangian in the decisions, states eliminated.

A sum over members, taken in blocks whose arrays fit into the cache, and the shared terms. Narrow
states of layers of one size take blocks of layers that are doubled (`doubling`), others a sweep
backwards with a product of matrices for each member (`member_sweep`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ocp.condensing import Linearization, Multipliers
from ocp.doubling import add_by_doubling, has_equal_layers
from ocp.member_block import MemberBlock
from ocp.member_sweep import add_by_members, controls_by_component
from ocp.stages import Array

# Numbers in the largest array, small enough for the cache to help.
DOUBLING_ENTRIES, SWEEP_ENTRIES = 60_000, 240_000
LEAST_BLOCK = 16  # members in a block
MIRROR_BLOCK = 64  # rows
NARROW = 3  # size of the state up to which layers are doubled


def reduced_hessian(
    linearization: Linearization, costates: Sequence[Array], multipliers: Multipliers
) -> Array:
    """Hessian of the Lagrangian in (u^0, ..., u^{K-1}, p), symmetric, (decisions, decisions).

    Memory does not grow with the number of members.
    """
    staged = linearization.staged
    size = staged.decision_size
    upper = np.zeros((size, size))  # of the Hessian; the lower triangle is left alone
    widest = max(stage.state_size for stage in staged.stages)
    doubles = widest <= NARROW and has_equal_layers(staged)
    most = DOUBLING_ENTRIES if doubles else SWEEP_ENTRIES
    count = max(most // max(widest * size, 1), LEAST_BLOCK)
    is_explicit = not any(stage.function.local_size for stage in staged.stages)
    direct = controls_by_component(staged) if is_explicit and not doubles else None
    for start in range(0, staged.members, count):
        members = slice(start, min(start + count, staged.members))
        block = MemberBlock(linearization, costates, multipliers, members)
        if doubles:
            add_by_doubling(upper, block)
        else:
            add_by_members(upper, block, direct)
    seconds = shared_hessians(linearization, multipliers)
    for term, second in zip(staged.shared, seconds, strict=True):
        index = staged.shared_index(term)
        # The unknowns of a term stand in increasing order among the decisions.
        i, j = term.function.patterns[2]
        upper[index[i], index[j]] += second[i, j]
    _mirror(upper)
    return upper


def _mirror(matrix: Array) -> None:
    """Copy the upper triangle to the lower one, by blocks that fit into the cache."""
    for start in range(0, len(matrix), MIRROR_BLOCK):
        stop = start + MIRROR_BLOCK
        own = matrix[start:stop, start:stop]
        own[...] = np.triu(own) + np.triu(own, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T


def shared_hessians(linearization: Linearization, multipliers: Multipliers) -> list[Array]:
    """Second derivatives of the Lagrangian of every shared term in its unknowns, (nv, nv)."""
    first = len(linearization.staged.stages)
    groups: dict[int, list[int]] = {}
    for s, values in enumerate(linearization.shared):
        groups.setdefault(id(values.function), []).append(s)
    found: dict[int, Array] = {}
    for indices in groups.values():
        terms = [linearization.shared[s] for s in indices]
        v = np.hstack([values.unknowns for values in terms])
        g = np.hstack([values.given for values in terms])
        y = np.hstack([multipliers[first + s].T for s in indices])
        found.update(zip(indices, terms[0].function.hessians(v, g, y), strict=True))
    return [found[s] for s in range(len(linearization.shared))]
