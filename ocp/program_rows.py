"""The rows of a program without states, and where their derivatives stand.

    g = (r_0 and bounded x^0, ..., r_K and bounded x^K of all members, rows of shared terms)

A row of stage k depends on u^0, ..., u^{k-1} and p through x^k, on u^k and p by itself; one of a
shared term on the controls that it takes. Slacks of soft rows come last among the columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocp.numpy_program import Pattern
from ocp.stages import Array, StagedProblem


@dataclass(frozen=True, eq=False)
class ProgramRows:
    """The rows g of the program, after one another.

    Stage by stage the constraint rows of all members, then their states that have bounds; at last
    the rows of the shared terms.

    Args:
        lower, upper, weight: of every row; weight inf means hard.
        offsets: where the rows of every stage, its bounded states (in turns), and the rows of every
            shared term begin, and the end.
        bounded: for every stage, the components of the state with a bound.
    """

    lower: Array
    upper: Array
    weight: Array
    offsets: NDArray[np.intp]
    bounded: tuple[NDArray[np.intp], ...]

    @classmethod
    def of(cls, staged: StagedProblem) -> ProgramRows:
        """Of a problem; the bounds of the given initial states are no rows."""
        parts, bounded = [], []
        for k, stage in enumerate(staged.stages):
            lower, upper = stage.state_bounds
            held = np.flatnonzero((np.isfinite(lower) | np.isfinite(upper)) & (k > 0))
            bounded.append(held)
            parts.append((stage.rows.lower, stage.rows.upper, stage.rows.weight, staged.members))
            hard = np.full(held.size, np.inf)
            parts.append((lower[held], upper[held], hard, staged.members))
        parts += [(t.rows.lower, t.rows.upper, t.rows.weight, 1) for t in staged.shared]
        columns = [np.concatenate([np.tile(part[c], part[3]) for part in parts]) for c in range(3)]
        sizes = [part[0].size * part[3] for part in parts]
        return cls(columns[0], columns[1], columns[2], np.cumsum([0, *sizes]), tuple(bounded))

    def split(self, values: Array) -> list[Array]:
        """Of values of all rows, those of every block."""
        return np.split(values, self.offsets[1:-1])


@dataclass(frozen=True, eq=False)
class JacobianPlaces:
    """Where the entries of dg/dz stand.

    Args:
        rows, columns: of the entries in the rows of stages.
        order: from those, then those of the shared terms, then of slacks, to the pattern's order.
        pattern: of all.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    order: NDArray[np.intp]
    pattern: Pattern

    @classmethod
    def of(
        cls, staged: StagedProblem, rows: ProgramRows, slack_rows: NDArray[np.intp], signs: Array
    ) -> JacobianPlaces:
        """Of a problem with slacks in these rows."""
        found_rows, found_columns = [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)]
        for k in range(len(staged.stages)):
            depends = _dependence(staged, k)
            held = np.zeros((rows.bounded[k].size, staged.decision_size), dtype=bool)
            held[:, : staged.control_slices[k].start] = True
            held[:, staged.parameter_slice] = True
            for block, mask in ((2 * k, depends), (2 * k + 1, held)):
                i, j = np.nonzero(mask)
                copies = np.arange(staged.members)[:, None] * len(mask)
                found_rows.append((rows.offsets[block] + copies + i).ravel())
                found_columns.append(np.tile(j, staged.members))
        of_stages = np.concatenate(found_rows), np.concatenate(found_columns)
        first = 2 * len(staged.stages)
        for s, term in enumerate(staged.shared):
            (i, j), _, _ = term.function.patterns
            found_rows.append(rows.offsets[first + s] + i)
            found_columns.append(staged.shared_index(term)[j])
        found_rows.append(slack_rows)
        found_columns.append(staged.decision_size + np.arange(slack_rows.size))
        i, j = np.concatenate(found_rows), np.concatenate(found_columns)
        order = np.lexsort((i, j))
        shape = (int(rows.offsets[-1]), staged.decision_size + slack_rows.size)
        return cls(*of_stages, order, Pattern(i[order], j[order], shape))


def _dependence(staged: StagedProblem, k: int) -> NDArray[np.bool_]:
    """Which decisions a member's rows of stage k depend on, (r_k, decisions)."""
    stage = staged.stages[k]
    (i, j), _, _ = stage.function.patterns
    is_row = i >= stage.function.successor_size
    i, j = i[is_row] - stage.function.successor_size, j[is_row]
    own = staged.control_slices[k]
    mask = np.zeros((stage.function.row_count, staged.decision_size), dtype=bool)
    by_state = np.unique(i[j < stage.state_size])
    if k:  # the initial state is given
        mask[by_state, : own.start] = True
        mask[by_state, staged.parameter_slice] = True
    inner = stage.state_size + stage.control_size
    of_control = (j >= stage.state_size) & (j < inner)
    mask[i[of_control], own.start + j[of_control] - stage.state_size] = True
    mask[i[j >= inner], staged.parameter_slice.start + j[j >= inner] - inner] = True
    return mask
