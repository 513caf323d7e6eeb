"""Direct multiple shooting: the states of all stages are unknowns, the dynamics constraints.

    z = (x^0, ..., x^K, local unknowns, u^0, ..., u^{K-1}, p, slacks)
    d_i^k = Phi_k(x_i^k, z_i^k, u^k, p) - x_i^{k+1} = 0,   e_k(x_i^k, z_i^k, u^k, p) = 0

With this sign the multiplier of d_i^k is the costate of member i at stage k+1. A soft row
`lower <= r <= upper` of weight w gets slacks s+, s- >= 0: lower <= r - s+ + s- <= upper, at the
cost w (s+ + s-).

One stage function is mapped over members and stages, its derivatives are scattered into the
sparse matrices of the program by index arrays, so that building costs little more than writing
down the nonzeros.

Source: Bock and Plitt, IFAC Proc. Vol. 17 (1984), 1603-1608.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.multipliers import KKTMultipliers
from ocp.nlp import Array, NLPResult, NonlinearProgram
from ocp.stages import Rows, StagedProblem, StageFunction
from ocp.trajectory import Trajectory, decision_bounds, local_values, split_decisions


@dataclass(frozen=True, eq=False)
class Batch:
    """Columns that one stage function is mapped over.

    Args:
        function: the stage function.
        given: (ng, M).
        unknowns: (nv, M) positions in z.
        outputs: (n+ + r + z, M) positions in g of the successors' defects, of the rows and of
            the equations of the local unknowns.
    """

    function: StageFunction
    given: Array
    unknowns: NDArray[np.intp]
    outputs: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Shooting:
    """A staged problem laid out as a nonlinear program."""

    staged: StagedProblem

    @cached_property
    def _state_offsets(self) -> NDArray[np.intp]:
        sizes = [stage.state_size * self.staged.members for stage in self.staged.stages]
        return np.cumsum([0, *sizes])

    @cached_property
    def _local_offsets(self) -> NDArray[np.intp]:
        sizes = [stage.function.local_size * self.staged.members for stage in self.staged.stages]
        return self._state_offsets[-1] + np.cumsum([0, *sizes])

    @cached_property
    def _row_blocks(self) -> list[tuple[Rows, int]]:
        """Rows of every stage, then of every shared term, and how many times each occurs."""
        members = [(stage.rows, self.staged.members) for stage in self.staged.stages]
        return members + [(term.rows, 1) for term in self.staged.shared]

    @cached_property
    def _row_offsets(self) -> NDArray[np.intp]:
        equations = int(self._local_offsets[-1] - self._state_offsets[1])  # defects among them
        sizes = [len(rows.names) * copies for rows, copies in self._row_blocks]
        return equations + np.cumsum([0, *sizes])

    @cached_property
    def _row_data(self) -> tuple[Array, Array, Array]:
        """Lower bound, upper bound and weight of every row after the defects."""
        columns = []
        for name in ("lower", "upper", "weight"):
            parts = [np.tile(getattr(rows, name), copies) for rows, copies in self._row_blocks]
            columns.append(np.concatenate([np.zeros(0), *parts]))
        return columns[0], columns[1], columns[2]

    @cached_property
    def _slacks(self) -> tuple[NDArray[np.intp], Array, Array]:
        """Rows in g of the slacks, their signs (-1 for s+, +1 for s-) and their weights."""
        lower, upper, weight = self._row_data
        soft = np.isfinite(weight)
        above, below = (
            np.flatnonzero(soft & np.isfinite(upper)),
            np.flatnonzero(soft & np.isfinite(lower)),
        )
        rows = np.concatenate([above, below])
        signs = np.concatenate([-np.ones(above.size), np.ones(below.size)])
        return rows + self._row_offsets[0], signs, weight[rows]

    @property
    def _decision_offset(self) -> int:
        return int(self._local_offsets[-1])

    @property
    def _slack_offset(self) -> int:
        return self._decision_offset + self.staged.decision_size

    @property
    def size(self) -> int:
        """Number of unknowns z."""
        return self._slack_offset + self._slacks[0].size

    def _state_index(self, k: int) -> NDArray[np.intp]:
        """(n_k, N) positions of the states of stage k in z."""
        n, members = self.staged.stages[k].state_size, self.staged.members
        return self._state_offsets[k] + np.arange(n)[:, None] + n * np.arange(members)[None, :]

    def _local_index(self, k: int) -> NDArray[np.intp]:
        """(z_k, N) positions of the local unknowns of stage k in z."""
        size, members = self.staged.stages[k].function.local_size, self.staged.members
        return self._local_offsets[k] + np.arange(size)[:, None] + size * np.arange(members)

    def _row_index(self, block: int, copies: int) -> NDArray[np.intp]:
        r = len(self._row_blocks[block][0].names)
        return self._row_offsets[block] + np.arange(r)[:, None] + r * np.arange(copies)[None, :]

    @cached_property
    def batches(self) -> list[Batch]:
        """All columns of the program, grouped by stage function."""
        staged = self.staged
        everything = self._decision_offset + np.arange(staged.decision_size)
        batches = []
        for stages in staged.batches():
            unknowns, outputs, given = [], [], []
            for k in stages:
                shared = np.concatenate(
                    [everything[staged.control_slices[k]], everything[staged.parameter_slice]]
                )
                repeated = np.tile(shared[:, None], (1, staged.members))
                own = np.vstack([self._state_index(k), self._local_index(k)])
                unknowns.append(np.vstack([own, repeated]))
                # Defects and equations stand in g as the unknowns they determine stand in z,
                # without the first state.
                parts = [self._row_index(k, staged.members), self._local_index(k)]
                parts[1] = parts[1] - self._state_offsets[1]
                if k < staged.intervals:
                    parts.insert(0, self._state_index(k + 1) - self._state_offsets[1])
                outputs.append(np.vstack(parts))
                given.append(staged.given(k))
            batches.append(
                Batch(
                    staged.stages[stages[0]].function,
                    np.hstack(given),
                    np.hstack(unknowns),
                    np.hstack(outputs),
                )
            )
        groups: dict[int, list[int]] = {}
        for s, term in enumerate(staged.shared):
            groups.setdefault(id(term.function), []).append(s)
        for indices in groups.values():
            terms = [staged.shared[s] for s in indices]
            first = len(staged.stages)
            batches.append(
                Batch(
                    terms[0].function,
                    np.column_stack([term.constants for term in terms]),
                    np.column_stack([everything[staged.shared_index(term)] for term in terms]),
                    np.hstack([self._row_index(first + s, 1) for s in indices]),
                )
            )
        return batches

    @cached_property
    def program(self) -> NonlinearProgram:
        """The nonlinear program."""
        rows = int(self._row_offsets[-1])
        z = ca.MX.sym("z", self.size)
        slack_rows, signs, weights = self._slacks
        slack_columns = self._slack_offset + np.arange(slack_rows.size)
        equations = int(self._row_offsets[0])
        defects = np.arange(int(self._state_offsets[-1] - self._state_offsets[1]))
        linear_rows = np.concatenate([defects, slack_rows])
        linear_columns = np.concatenate([defects + self._state_offsets[1], slack_columns])
        linear_values = np.concatenate([-np.ones(defects.size), signs])
        linear = _sparse(linear_rows, linear_columns, linear_values, (rows, self.size))

        objective = ca.dot(ca.DM(weights), z[self._slack_offset :])
        gradients = [ca.MX(ca.DM(weights))]
        gradient_places = [slack_columns]
        outputs, output_places = [], []
        jacobian_values, jacobian_rows, jacobian_columns = [], [], []
        for batch in self.batches:
            v, g = _columns(z, batch.unknowns), ca.DM(batch.given)
            columns = batch.unknowns.shape[1]
            successor, cost, row, equation = batch.function.mapped("function", columns)(v, g)
            objective += ca.sum2(cost)
            outputs.append(ca.vec(ca.vertcat(successor, row, equation)))
            output_places.append(batch.outputs.ravel(order="F"))
            values, gradient = batch.function.mapped("first", columns)(v, g)
            (i, j), gj, _ = batch.function.patterns
            jacobian_values.append(ca.vec(values))
            jacobian_rows.append(batch.outputs[i].ravel(order="F"))
            jacobian_columns.append(batch.unknowns[j].ravel(order="F"))
            gradients.append(ca.vec(gradient))
            gradient_places.append(batch.unknowns[gj].ravel(order="F"))
        constraints = _scatter(outputs, output_places, rows) + ca.mtimes(linear, z)
        jacobian = _assemble(
            [*jacobian_values, ca.MX(ca.DM(linear_values))],
            np.concatenate([*jacobian_rows, linear_rows]),
            np.concatenate([*jacobian_columns, linear_columns]),
            (rows, self.size),
        )
        lower, upper = self._bounds()
        row_lower, row_upper, _ = self._row_data
        zeros = np.zeros(equations)
        return NonlinearProgram(
            objective=ca.Function("f", [z], [objective]),
            gradient=ca.Function("df", [z], [_scatter(gradients, gradient_places, self.size)]),
            constraints=ca.Function("g", [z], [constraints]),
            jacobian=ca.Function("dg", [z], [jacobian]),
            hessian=self._hessian(),
            lower=lower,
            upper=upper,
            constraint_lower=np.concatenate([zeros, row_lower]),
            constraint_upper=np.concatenate([zeros, row_upper]),
        )

    def _hessian(self) -> ca.Function:
        z = ca.MX.sym("z", self.size)
        sigma, multipliers = ca.MX.sym("sigma"), ca.MX.sym("lam", int(self._row_offsets[-1]))
        values, rows, columns = [], [], []
        for batch in self.batches:
            m = batch.unknowns.shape[1]
            block = batch.function.mapped("second", m)(
                _columns(z, batch.unknowns),
                ca.DM(batch.given),
                ca.repmat(sigma, 1, m),
                _columns(multipliers, batch.outputs),
            )
            i, j = batch.function.patterns[2]
            a, b = batch.unknowns[i].ravel(order="F"), batch.unknowns[j].ravel(order="F")
            values.append(ca.vec(block))
            rows.append(np.minimum(a, b))
            columns.append(np.maximum(a, b))
        matrix = _assemble(
            values, np.concatenate(rows), np.concatenate(columns), (self.size, self.size)
        )
        return ca.Function("hessian", [z, sigma, multipliers], [matrix])

    def _bounds(self) -> tuple[Array, Array]:
        staged = self.staged
        initial = staged.initial_state.ravel()
        inner = [
            [np.tile(stage.state_bounds[side], staged.members) for stage in staged.stages[1:]]
            for side in (0, 1)
        ]
        decision_lower, decision_upper = decision_bounds(staged)
        slacks = self._slacks[0].size
        free = np.full(int(self._local_offsets[-1] - self._local_offsets[0]), np.inf)
        lower = np.concatenate([initial, *inner[0], -free, decision_lower, np.zeros(slacks)])
        upper = np.concatenate([initial, *inner[1], free, decision_upper, np.full(slacks, np.inf)])
        return lower, upper

    def pack(self, trajectory: Trajectory) -> Array:
        """A trajectory as a starting point z; slacks take up what its soft rows violate.

        Raises:
            ValueError: the trajectory's sizes are not the problem's.
        """
        self.check(trajectory)
        inner = [local_values(self.staged, trajectory, k) for k in range(len(trajectory.states))]
        parts = [part.ravel() for part in (*trajectory.states, *inner)]
        z = np.concatenate([*parts, trajectory.decisions])
        slack_rows, signs, _ = self._slacks
        if not slack_rows.size:
            return z
        z = np.concatenate([z, np.zeros(slack_rows.size)])
        values = self.program.constraints(z).full().ravel()[slack_rows]
        bound = np.where(
            signs < 0,
            self.program.constraint_upper[slack_rows],
            self.program.constraint_lower[slack_rows],
        )
        z[self._slack_offset :] = np.maximum(signs * (bound - values), 0.0)
        return z

    def check(self, trajectory: Trajectory) -> None:
        """Refuse a trajectory whose sizes are not the problem's.

        Raises:
            ValueError: that is so, or a value is not finite.
        """
        staged = self.staged
        expected = [(staged.members, stage.state_size) for stage in staged.stages]
        found = [state.shape for state in trajectory.states]
        if found != expected:
            raise ValueError(
                f"the guess has states of shapes {_short(found)}, expected {_short(expected)} "
                "(members, states), one for each of the stages."
            )
        controls = [control.shape for control in trajectory.controls]
        wanted = [(stage.control_size,) for stage in staged.stages[:-1]]
        if controls != wanted or trajectory.parameters.shape != (staged.parameter_size,):
            raise ValueError(
                f"the guess has {trajectory.decisions.size} controls and parameters, expected "
                f"{staged.decision_size}: controls of shapes {_short(wanted)} and "
                f"{staged.parameter_size} parameters."
            )
        for name, parts in (("states", trajectory.states), ("controls", trajectory.controls)):
            for k, part in enumerate(parts):
                if not np.isfinite(part).all():
                    raise ValueError(
                        f"the guess has {name}[{k}] with a value that is not finite; "
                        "give finite numbers."
                    )

    def unpack(self, point: Array) -> Trajectory:
        """The trajectory that stands in z."""
        staged = self.staged

        def parts(offsets: NDArray[np.intp]) -> tuple[Array, ...]:
            return tuple(
                point[start:stop].reshape(staged.members, -1).copy()
                for start, stop in pairwise(offsets)
            )

        inner = parts(self._local_offsets)
        has_locals = any(values.shape[1] for values in inner)
        decisions = point[self._decision_offset : self._slack_offset]
        return Trajectory(
            parts(self._state_offsets),
            *split_decisions(staged, decisions),
            staged.times,
            inner if has_locals else (),
        )

    def costates(self, result: NLPResult) -> tuple[Array, ...]:
        """Costates of stages 1, ..., K from the multipliers of the defects, each (N, n_k)."""
        offsets = self._state_offsets - self._state_offsets[1]
        return tuple(
            result.multipliers[offsets[k] : offsets[k + 1]].reshape(self.staged.members, -1).copy()
            for k in range(1, len(self.staged.stages))
        )

    def multipliers(self, result: NLPResult) -> KKTMultipliers:
        """Multipliers of rows, bounds and dynamics, without those of slacks and given states."""
        states = [
            result.bound_multipliers[start:stop].reshape(self.staged.members, -1).copy()
            for start, stop in pairwise(self._state_offsets)
        ]
        states[0][:] = 0.0
        decisions = result.bound_multipliers[self._decision_offset : self._slack_offset]
        start = np.zeros((self.staged.members, self.staged.stages[0].state_size))
        return KKTMultipliers(
            self.rows_of(result.multipliers),
            tuple(states),
            decisions.copy(),
            (start, *self.costates(result)),
        )

    def constraint_group(self, row: int) -> str:
        """What row of g is called: the dynamics, or a constraint by its name."""
        offset = int(self._row_offsets[0])
        if row < offset:
            return "the dynamics"
        block = int(np.searchsorted(self._row_offsets, row, side="right")) - 1
        names = self._row_blocks[block][0].names
        return names[(row - int(self._row_offsets[block])) % len(names)]

    def unknown_group(self, position: int) -> str:
        """What state, control or parameter an unknown is; empty for given states and slacks."""
        staged = self.staged
        if position < self._state_offsets[1] or position >= self._slack_offset:
            return ""
        if position < self._state_offsets[-1]:
            k = int(np.searchsorted(self._state_offsets, position, side="right")) - 1
            own = position - int(self._state_offsets[k])
            return staged.names.state(own % staged.stages[k].state_size)
        if position < self._decision_offset:
            return ""
        j = position - self._decision_offset
        if j >= staged.parameter_slice.start:
            return staged.names.parameter(j - staged.parameter_slice.start)
        control = next(s for s in staged.control_slices if s.start <= j < s.stop)
        return staged.names.control(j - control.start)

    def rows_of(self, values: Array) -> tuple[Array, ...]:
        """Of values of g, or of its multipliers, the rows of every stage, then of shared terms."""
        return tuple(
            values[self._row_offsets[b] : self._row_offsets[b + 1]]
            .reshape(copies, len(rows.names))
            .copy()
            for b, (rows, copies) in enumerate(self._row_blocks)
        )


def _short(shapes: Sequence[tuple[int, ...]]) -> str:
    return f"{len(shapes)} x {shapes[0]}" if len(set(shapes)) == 1 else str(shapes)


def _columns(z: ca.MX, places: NDArray[np.intp]) -> ca.MX:
    """Entries of z at the given places, in a matrix of their shape."""
    return ca.reshape(z[places.ravel(order="F").tolist()], *places.shape)


def _scatter(parts: list[ca.MX], places: list[NDArray[np.intp]], size: int) -> ca.MX:
    """Dense vector with the parts added up at their places."""
    target = np.concatenate([np.zeros(0, dtype=int), *places])
    adder = _sparse(target, np.arange(target.size), np.ones(target.size), (size, target.size))
    return ca.densify(ca.mtimes(adder, ca.vertcat(*parts)))


def _assemble(
    parts: list[ca.MX], rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int]
) -> ca.MX:
    """Sparse matrix with the parts' entries added up at their rows and columns."""
    keys, inverse = np.unique(columns * shape[0] + rows, return_inverse=True)
    starts = np.searchsorted(keys // shape[0], np.arange(shape[1] + 1))
    pattern = ca.Sparsity(*shape, starts.tolist(), (keys % shape[0]).tolist())
    return ca.MX(pattern, _scatter(parts, [inverse], keys.size))


def _sparse(
    rows: NDArray[np.intp], columns: NDArray[np.intp], values: Array, shape: tuple[int, int]
) -> ca.DM:
    """Sparse constant; no two entries may share a place."""
    order = np.lexsort((rows, columns))
    starts = np.searchsorted(columns[order], np.arange(shape[1] + 1))
    pattern = ca.Sparsity(*shape, starts.tolist(), rows[order].tolist())
    return ca.DM(pattern, values[order])
