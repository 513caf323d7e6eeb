"""The problem of some of its members, whose optimum is near that of all if these represent them.

    sum_{i in S} J_i(u) + |S| / N sum_s l_s(u)

in units of |S| / N times the cost of all N members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import casadi as ca
import numpy as np

from ocp.stages import Array, Rows, StagedProblem, StageFunction


def subsample(staged: StagedProblem, members: Sequence[int] | Array) -> StagedProblem:
    """The problem of these members, shared terms scaled by their share of all."""
    chosen = np.asarray(members, dtype=int)
    share = chosen.size / staged.members
    terms = []
    for term in staged.shared:
        rows = Rows(term.rows.names, term.rows.lower, term.rows.upper, share * term.rows.weight)
        terms.append(replace(term, function=_scaled(term.function, share), rows=rows))
    return replace(
        staged,
        shared=tuple(terms),
        initial_state=staged.initial_state[chosen],
        data=staged.data[chosen],
    )


def _scaled(function: StageFunction, factor: float) -> StageFunction:
    """The function with its cost times a factor."""

    def make() -> StageFunction:
        f = function.function
        v, g = ca.SX.sym("v", f.size1_in(0)), ca.SX.sym("g", f.size1_in(1))
        successor, cost, rows, equations = f(v, g)
        scaled = [ca.densify(e) for e in (successor, factor * cost, rows, equations)]
        return StageFunction(ca.Function(f.name(), [v, g], scaled), function.local)

    return function.kept(("scaled", factor), make)
