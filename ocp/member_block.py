"""Some members of a linearised problem, with all that their Lagrangian takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocp.condensing import CALL_COLUMNS, Linearization, Multipliers
from ocp.stages import Array, StagedProblem


@dataclass(frozen=True, eq=False)
class MemberBlock:
    """Members of a problem along a trajectory.

    Args:
        linearization: stages along the trajectory.
        costates: of all stages.
        multipliers: of all rows.
        members: which of them.
    """

    linearization: Linearization
    costates: Sequence[Array]
    multipliers: Multipliers
    members: slice

    @property
    def staged(self) -> StagedProblem:
        """The problem."""
        return self.linearization.staged

    @property
    def count(self) -> int:
        """Number of these members, M."""
        return int(self.members.stop - self.members.start)

    def lagrangian(self, k: int) -> Array:
        """Multipliers of the successor and of the rows of stage k, (n+ + r, M)."""
        rows = self.multipliers[k][self.members].T
        if k == self.staged.intervals:
            return rows
        return np.vstack([self.costates[k + 1][self.members].T, rows])

    def second_derivatives(
        self,
    ) -> Iterator[tuple[list[int], tuple[NDArray[np.intp], NDArray[np.intp]], Array]]:
        """Of the Lagrangian of stages without local unknowns, those of one function together.

        Yields:
            Stages, rows and columns of entries of the upper triangle, values (entries, stages, M).
        """
        stages = self.linearization.stages
        for group in self.staged.batches(CALL_COLUMNS // max(self.count, 1)):
            function = stages[group[0]].function
            values = function.vectorized("second")(
                np.hstack([stages[k].unknowns[:, self.members] for k in group]),
                np.hstack([stages[k].given[:, self.members] for k in group]),
                np.ones((1, 1)),
                np.hstack([self.lagrangian(k) for k in group]),
            )[0]
            shape = (len(values), len(group), self.count)
            yield group, function.patterns[2], values.reshape(shape)
