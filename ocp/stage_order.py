"""The program of multiple shooting, rearranged stage by stage.

    x = (s_0, c_0, s_1, c_1, ..., s_K, c_K)
    s_{k+1} - F_k(s_k, c_k) = 0,   then lower <= r_k(s_k, c_k) <= upper,     k = 0, ..., K

s_k are the states of all members at stage k and a copy p_k of the parameters, c_k the control, the
local unknowns of the stage and the slacks of its soft rows. The dynamics have the opposite sign of
the program's defects, p_{k+1} - p_k = 0 stands among them, and rows without bounds are left out.

Functions are evaluated at p_0. The columns of p in the rows of stage k belong to p_k, second
derivatives in p alone to p_0; where the copies are equal, which their linear equations keep as
they are after every full step, this is the same program to second order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.nlp import Array, NonlinearProgram
from ocp.shooting import Shooting

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Block:
    """Positions in z and g of what belongs to one stage; the defects lead to the next one."""

    states: Index
    controls: Index
    defects: Index
    rows: Index


@dataclass(frozen=True, eq=False)
class StageOrder:
    """Where the unknowns z and the constraints g of a shooting program stand, stage by stage.

    Raises:
        ValueError: a shared term couples the controls of several stages.
    """

    shooting: Shooting

    def __post_init__(self) -> None:
        for term in self.shooting.staged.shared:
            if len(term.stages) > 1:
                raise ValueError(
                    f"the term {term.name!r} couples the controls of stages "
                    f"{', '.join(map(str, term.stages))}, but the problem must split into stages "
                    "that are coupled by the dynamics alone; leave the term out, make the "
                    "control a state and its rate the control, or use NLPSolver.IPOPT."
                )

    @cached_property
    def _parameters(self) -> Index:
        """Positions of p in z."""
        staged = self.shooting.staged
        first = self._local_end + staged.decision_size - staged.parameter_size
        return np.arange(first, first + staged.parameter_size)

    @cached_property
    def _local_end(self) -> int:
        """Number of states and local unknowns, which precede the controls in z."""
        staged = self.shooting.staged
        return staged.members * sum(s.state_size + s.function.local_size for s in staged.stages)

    @cached_property
    def _blocks(self) -> list[_Block]:
        staged, batches = self.shooting.staged, self.shooting.batches
        empty: list[list[list[Index]]] = [[[] for _ in staged.stages] for _ in range(4)]
        states, controls, defects, rows = empty
        stage_batches = list(staged.batches())
        for batch, stages in zip(batches, stage_batches, strict=False):
            for number, k in enumerate(stages):
                stage, columns = staged.stages[k], np.arange(staged.members)
                columns = columns + number * staged.members
                end = stage.state_size + stage.function.local_size + stage.control_size
                own, outputs = batch.unknowns[:end, columns], batch.outputs[:, columns]
                states[k].append(own[: stage.state_size])
                controls[k].append(own[stage.state_size :])
                defects[k].append(outputs[: stage.function.successor_size])
                rows[k].append(outputs[stage.function.successor_size :])
        stage_of = np.zeros(self.shooting.size, dtype=int)
        for k, parts in enumerate(controls):
            for part in parts:
                stage_of[part] = k
        for batch in batches[len(stage_batches) :]:
            # A term of the parameters alone has stage 0, where they are free.
            stages_of = stage_of[batch.unknowns].max(axis=0, initial=0)
            for column, k in enumerate(stages_of):
                rows[k].append(batch.outputs[:, column])
        row_stage = np.zeros(self._row_count, dtype=int)
        for k, parts in enumerate(rows):
            for part in parts:
                row_stage[part] = k
        pattern = self.shooting.program.jacobian.sparsity_out(0)
        starts, places = np.array(pattern.colind()), np.array(pattern.row(), dtype=int)
        slacks = np.arange(self._local_end + staged.decision_size, self.shooting.size)
        for slack in slacks:
            controls[row_stage[places[starts[slack]]]].append(np.array([slack]))
        bounded = self._bounded
        return [
            _Block(_join(s), _join(c), _join(d), _join([r[bounded[r]] for r in map(np.ravel, e)]))
            for s, c, d, e in zip(states, controls, defects, rows, strict=True)
        ]

    @property
    def _row_count(self) -> int:
        return int(self.shooting.program.constraint_lower.size)

    @cached_property
    def _bounded(self) -> NDArray[np.bool_]:
        program = self.shooting.program
        lower, upper = program.constraint_lower, program.constraint_upper
        return np.isfinite(lower) | np.isfinite(upper)

    @property
    def state_sizes(self) -> list[int]:
        """Sizes of s_0, ..., s_K."""
        return [block.states.size + self._parameters.size for block in self._blocks]

    @property
    def control_sizes(self) -> list[int]:
        """Sizes of c_0, ..., c_K."""
        return [block.controls.size for block in self._blocks]

    @property
    def row_sizes(self) -> list[int]:
        """Number of rows of each stage, without the dynamics."""
        return [block.rows.size for block in self._blocks]

    @property
    def size(self) -> int:
        """Number of unknowns x."""
        return sum(self.state_sizes) + sum(self.control_sizes)

    @cached_property
    def _layout(self) -> tuple[Index, Index, Index, Index, Index]:
        """Positions of everything in x and among the constraints.

        Of z and of the copies (K+1, p) in x; of g (-1: left out) and of the copies' equations
        (K, p) among the constraints; and the stage of every row of g.
        """
        p, last = self._parameters.size, len(self._blocks) - 1
        places = np.empty(self.shooting.size, dtype=int)
        copies = np.empty((last + 1, p), dtype=int)
        row_places = np.full(self._row_count, -1)
        copy_rows = np.empty((last, p), dtype=int)
        row_stage = np.zeros(self._row_count, dtype=int)
        column = row = 0
        for k, block in enumerate(self._blocks):
            places[block.states] = column + np.arange(block.states.size)
            copies[k] = column + block.states.size + np.arange(p)
            column += block.states.size + p
            places[block.controls] = column + np.arange(block.controls.size)
            column += block.controls.size
            row_places[block.defects] = row + np.arange(block.defects.size)
            row += block.defects.size
            if k < last:
                copy_rows[k] = row + np.arange(p)
                row += p
            row_places[block.rows] = row + np.arange(block.rows.size)
            row += block.rows.size
            row_stage[block.defects] = row_stage[block.rows] = k
        places[self._parameters] = copies[0]
        return places, copies, row_places, copy_rows, row_stage

    @property
    def places(self) -> Index:
        """Where each entry of z stands in x; parameters in their first copy."""
        return self._layout[0]

    @cached_property
    def _signs(self) -> Array:
        """Of every constraint g in this order: -1 for defects."""
        signs = np.ones(self._row_count)
        signs[np.concatenate([block.defects for block in self._blocks])] = -1.0
        return signs

    def spread(self, z: Array) -> Array:
        """The unknowns x of z."""
        x = np.empty(self.size)
        x[self.places] = z
        x[self._layout[1]] = z[self._parameters]
        return x

    def gather_multipliers(self, multipliers: Array) -> Array:
        """Multipliers of g out of those of the constraints in this order."""
        row_places = self._layout[2]
        kept = row_places >= 0
        result = np.zeros(self._row_count)
        result[kept] = self._signs[kept] * multipliers[row_places[kept]]
        return result

    @cached_property
    def program(self) -> NonlinearProgram:
        """The program in x, with the constraints in this order."""
        given = self.shooting.program
        places, copies, row_places, copy_rows, row_stage = self._layout
        kept = np.flatnonzero(row_places >= 0)
        count = kept.size + copy_rows.size
        number = np.full(self.shooting.size, -1)
        number[self._parameters] = np.arange(self._parameters.size)

        x = ca.MX.sym("x", self.size)
        z = x[places.tolist()]
        select = _sparse(row_places[kept], kept, self._signs[kept], (count, self._row_count))
        ones = np.ones(copy_rows.size)
        following = (np.tile(copy_rows.ravel(), 2), np.concatenate([copies[1:], copies[:-1]]))
        copy_values = np.concatenate([ones, -ones])
        link = _sparse(following[0], following[1].ravel(), copy_values, (count, self.size))
        constraints = ca.mtimes(select, given.constraints(z)) + ca.mtimes(link, x)

        gather = _sparse(
            places, np.arange(places.size), np.ones(places.size), (self.size, z.numel())
        )
        gradient = ca.densify(ca.mtimes(gather, given.gradient(z)))

        rows, columns = _triplet(given.jacobian.sparsity_out(0))
        own = np.flatnonzero(row_places[rows] >= 0)
        rows, columns = rows[own], columns[own]
        new_columns = places[columns]
        shared = number[columns] >= 0
        new_columns[shared] = copies[row_stage[rows[shared]], number[columns[shared]]]
        jacobian_values = ca.DM(self._signs[rows]) * given.jacobian(z).nz[own.tolist()]
        jacobian = _matrix(
            ca.vertcat(jacobian_values, ca.DM(copy_values)),
            np.concatenate([row_places[rows], following[0]]),
            np.concatenate([new_columns, following[1].ravel()]),
            (count, self.size),
        )

        sigma, multipliers = ca.MX.sym("sigma"), ca.MX.sym("lam", count)
        back = ca.mtimes(select.T, multipliers)
        pairs = np.stack(_triplet(given.hessian.sparsity_out(0)))
        stage = np.zeros(self.shooting.size, dtype=int)
        for k, block in enumerate(self._blocks):
            stage[block.states] = stage[block.controls] = k
        of_pair = stage[pairs].max(axis=0)  # parameters have stage 0, the other one decides
        new = places[pairs]
        shared = number[pairs] >= 0
        new[shared] = copies[np.broadcast_to(of_pair, pairs.shape)[shared], number[pairs[shared]]]
        hessian = _matrix(
            given.hessian(z, sigma, back).nz[:], new.min(axis=0), new.max(axis=0), (self.size,) * 2
        )

        lower, upper = np.full(self.size, -np.inf), np.full(self.size, np.inf)
        lower[places], upper[places] = given.lower, given.upper
        row_lower, row_upper = np.zeros(count), np.zeros(count)
        rows_only = kept[self._signs[kept] > 0]  # the dynamics are zero, whatever their sign
        row_lower[row_places[rows_only]] = given.constraint_lower[rows_only]
        row_upper[row_places[rows_only]] = given.constraint_upper[rows_only]
        return NonlinearProgram(
            objective=ca.Function("f", [x], [given.objective(z)]),
            gradient=ca.Function("df", [x], [gradient]),
            constraints=ca.Function("g", [x], [ca.densify(constraints)]),
            jacobian=ca.Function("dg", [x], [jacobian]),
            hessian=ca.Function("hessian", [x, sigma, multipliers], [hessian]),
            lower=lower,
            upper=upper,
            constraint_lower=row_lower,
            constraint_upper=row_upper,
        )


def _join(parts: list[Index]) -> Index:
    """All positions once, in increasing order, in which states and defects correspond.

    The control of a stage is among the unknowns of every member.
    """
    return np.unique(np.concatenate([np.zeros(0, dtype=int), *map(np.ravel, parts)]))


def _triplet(pattern: ca.Sparsity) -> tuple[Index, Index]:
    rows, columns = pattern.get_triplet()
    return np.array(rows, dtype=int), np.array(columns, dtype=int)


def _pattern(rows: Index, columns: Index, shape: tuple[int, int]) -> tuple[ca.Sparsity, Index]:
    """Pattern of entries, no two of them at the same place, and their order in it."""
    order = np.lexsort((rows, columns))
    starts = np.searchsorted(columns[order], np.arange(shape[1] + 1))
    return ca.Sparsity(*shape, starts.tolist(), rows[order].tolist()), order


def _sparse(rows: Index, columns: Index, values: Array, shape: tuple[int, int]) -> ca.DM:
    pattern, order = _pattern(rows, columns, shape)
    return ca.DM(pattern, values[order])


def _matrix(values: ca.MX, rows: Index, columns: Index, shape: tuple[int, int]) -> ca.MX:
    pattern, order = _pattern(rows, columns, shape)
    return ca.MX(pattern, values[order.tolist()])
