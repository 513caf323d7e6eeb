"""Staged problems: optimal control in discrete time, the form that every solver here consumes.

    minimise    sum_i sum_{k=0..K} l_k(x_i^k, u^k, p; g_i^k) + sum_s l_s(u, p; g_s)
    subject to  x_i^{k+1} = Phi_k(x_i^k, u^k, p; g_i^k),   k = 0, ..., K-1,   x_i^0 given
                lower <= r_k(x_i^k, u^k, p; g_i^k) <= upper   (hard, or soft at a price)

Every member i walks through the same stages k with its own given numbers g_i^k = (d_i, c_k):
its data and the stage's constants. Stage K has neither control nor successor. Terms that concern
the control alone are *shared*: counted once, not once per member. The sizes of state and control
may change from stage to stage.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.vectorize import Vectorized

Array = NDArray[np.float64]
T = TypeVar("T")

NEWTON_STEPS = 50  # most steps for the local unknowns of a stage
NEWTON_TOLERANCE = 1e-14  # relative size of the last step


@dataclass(frozen=True)
class _Derived:
    """Expressions of a stage function.

    Args:
        point, weights: symbols (v, g) and (sigma, multipliers).
        outputs: successor, cost, rows and equations.
        jacobian: of (successor, rows, equations).
        slopes: gradient of the cost, a row.
        hessian: of the Lagrangian, upper triangle.
    """

    point: tuple[ca.SX, ca.SX]
    weights: tuple[ca.SX, ca.SX]
    outputs: tuple[ca.SX, ca.SX, ca.SX, ca.SX]
    jacobian: ca.SX
    slopes: ca.SX
    hessian: ca.SX


@dataclass(frozen=True, eq=False)
class StageFunction:
    """What happens in one stage to one member: (v, g) -> (successor, cost, rows, equations).

    v = (x, z, u, p) stacks the unknowns, g the given numbers. The local unknowns z, such as the
    stage values of an implicit Runge-Kutta method, belong to one member and one stage, and are
    determined by as many equations e(x, z, u, p) = 0. Multiple shooting keeps them among its
    unknowns; everything else sees them eliminated,

        dz = -e_z^{-1} (e_x dx + e_u du + e_p dp).

    First derivatives are taken of (successor, rows) and of the cost; second derivatives of

        sigma * cost + multipliers . (successor, rows, equations).

    All are evaluated for M columns at once.

    Args:
        function: CasADi function (v, g) -> (successor, cost, rows, equations), dense columns.
        local: where z stands in v.
    """

    function: ca.Function
    local: slice = field(default_factory=lambda: slice(0, 0))
    _mapped: dict[tuple[str, int], ca.Function] = field(default_factory=dict, repr=False)
    _vectorized: dict[str, Vectorized] = field(default_factory=dict, repr=False)
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        name: str,
        unknowns: Sequence[ca.SX],
        given: Sequence[ca.SX],
        successor: ca.SX,
        cost: ca.SX,
        rows: ca.SX,
        equations: ca.SX | None = None,
    ) -> StageFunction:
        """Make one from CasADi expressions.

        With equations, the unknowns are (x, z, ...): the second of them is z.
        """
        equations = ca.SX(0, 1) if equations is None else equations
        expressions = (successor, cost, rows, equations)
        outputs = [ca.densify(ca.vec(e)) for e in expressions]
        start = unknowns[0].numel() if unknowns else 0
        function = ca.Function(name, [ca.vertcat(*unknowns), ca.vertcat(*given)], outputs)
        return cls(function, slice(start, start + equations.numel()))

    def __getstate__(self) -> dict:
        empty: dict = {"_mapped": {}, "_vectorized": {}, "_kept": {}}
        return {"function": self.function, "local": self.local, **empty}

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What somebody made of this function before, for as long as the function lives.

        Args:
            key: who asks, and for what.
            make: makes it the first time.
        """
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    @property
    def size(self) -> int:
        """Size of v, local unknowns included."""
        return int(self.function.size1_in(0))

    @property
    def local_size(self) -> int:
        """Number of local unknowns z."""
        return self.local.stop - self.local.start

    @property
    def unknowns(self) -> int:
        """Size of (x, u, p), the unknowns that stay when z is eliminated."""
        return self.size - self.local_size

    @property
    def successor_size(self) -> int:
        """Size of the successor state."""
        return int(self.function.size1_out(0))

    @property
    def row_count(self) -> int:
        """Number of constraint rows."""
        return int(self.function.size1_out(2))

    @cached_property
    def _derived(self) -> _Derived:
        """Symbols, and expressions of derivatives."""
        v, g = ca.SX.sym("v", self.size), ca.SX.sym("g", self.function.size1_in(1))
        successor, cost, rows, equations = self.function(v, g)
        outputs = ca.vertcat(successor, rows, equations)
        sigma, multipliers = ca.SX.sym("sigma"), ca.SX.sym("lam", outputs.numel())
        hessian, _ = ca.hessian(sigma * cost + ca.dot(multipliers, outputs), v)
        return _Derived(
            (v, g),
            (sigma, multipliers),
            (successor, cost, rows, equations),
            ca.jacobian(outputs, v),
            ca.jacobian(cost, v),
            ca.triu(hessian),
        )

    @cached_property
    def first(self) -> ca.Function:
        """(v, g) -> (nonzeros of d(successor, rows, equations)/dv, nonzeros of d cost/dv)."""
        made = self._derived
        return ca.Function("first", made.point, [_nonzeros(made.jacobian), _nonzeros(made.slopes)])

    @cached_property
    def whole(self) -> ca.Function:
        """(v, g) -> outputs of `function`, then those of `first`."""
        made = self._derived
        derivatives = [_nonzeros(made.jacobian), _nonzeros(made.slopes)]
        return ca.Function("whole", made.point, [*made.outputs, *derivatives])

    @cached_property
    def second(self) -> ca.Function:
        """(v, g, sigma, multipliers) -> nonzeros of the Lagrangian's Hessian, upper triangle."""
        made = self._derived
        return ca.Function("second", [*made.point, *made.weights], [_nonzeros(made.hessian)])

    @cached_property
    def patterns(self) -> tuple[tuple[NDArray, NDArray], NDArray, tuple[NDArray, NDArray]]:
        """Places of the nonzeros: of the Jacobian, of the gradient, of the Hessian."""
        made = self._derived
        return _triplet(made.jacobian), _triplet(made.slopes)[1], _triplet(made.hessian)

    def mapped(self, kind: str, columns: int) -> ca.Function:
        """`function`, `first`, `whole` or `second` for that many columns at once."""
        key = (kind, columns)
        if key not in self._mapped:
            self._mapped[key] = getattr(self, kind).map(columns)
        return self._mapped[key]

    def vectorized(self, kind: str) -> Vectorized:
        """`function`, `first`, `whole` or `second`, called on arrays of any number of columns."""
        if kind not in self._vectorized:
            self._vectorized[kind] = Vectorized(getattr(self, kind))
        return self._vectorized[kind]

    def values(self, v: Array, g: Array) -> tuple[Array, Array, Array, Array]:
        """Successors (n+, M), costs (M,), rows (r, M) and equations (z, M) for columns v, g."""
        successor, cost, rows, equations = self.vectorized("function")(v, g)
        return successor, cost[0], rows, equations

    def linearized(self, v: Array, g: Array) -> tuple[Array, ...]:
        """What `values` returns, then what `derivatives` does, in one call if it can be."""
        if self.local_size:
            return (*self.values(v, g), *self.derivatives(v, g))
        *outputs, jacobian, gradient = self.vectorized("whole")(v, g)
        successor, cost, rows, equations = outputs
        return (successor, cost[0], rows, equations, *self._dense(jacobian, gradient))

    def _full_derivatives(self, v: Array, g: Array) -> tuple[Array, Array]:
        """Jacobians (M, n+ + r + z, size) and gradients (M, size), local unknowns included."""
        return self._dense(*self.vectorized("first")(v, g))

    def _dense(self, jacobian_values: Array, gradient_values: Array) -> tuple[Array, Array]:
        """The same from their nonzeros; views of arrays that have the members last."""
        (i, j), gj, _ = self.patterns
        columns = jacobian_values.shape[1]
        outputs = self.successor_size + self.row_count + self.local_size
        jacobian = np.zeros((outputs, self.size, columns))
        jacobian[i, j] = jacobian_values
        if not gj.size:  # no memory for zeros of many columns
            gradient = np.broadcast_to(np.zeros((self.size, 1)), (self.size, columns))
        else:
            gradient = np.zeros((self.size, columns))
            gradient[gj] = gradient_values
        return jacobian.transpose(2, 0, 1), gradient.T

    def _split(self, derivative: Array) -> tuple[Array, Array]:
        """Columns of (x, u, p), and columns of z."""
        kept = np.delete(derivative, np.arange(self.size)[self.local], axis=-1)
        return kept, derivative[..., self.local]

    def derivatives(self, v: Array, g: Array) -> tuple[Array, Array]:
        """Jacobians of (successor, rows), (M, n+ + r, unknowns), gradients, (M, unknowns)."""
        jacobian, gradient = self._full_derivatives(v, g)
        if not self.local_size:
            return jacobian, gradient
        outputs = self.successor_size + self.row_count
        kept, by_local = self._split(jacobian)
        response = -np.linalg.solve(by_local[:, outputs:], kept[:, outputs:])
        gradient_kept, gradient_local = self._split(gradient)
        return (
            kept[:, :outputs] + by_local[:, :outputs] @ response,
            gradient_kept + (gradient_local[:, None, :] @ response)[:, 0],
        )

    def hessian_blocks(
        self, v: Array, g: Array, multipliers: Array, n: int
    ) -> tuple[Array, Array, Array]:
        """The same Hessians in blocks of a state of size n and of the rest w = (u, p).

        Returns:
            L_xx (M, n, n), L_xw (M, n, w), and L_ww summed over the columns, (w, w).
        """
        if self.local_size:
            full = self.hessians(v, g, multipliers)
            return full[:, :n, :n], full[:, :n, n:], full[:, n:, n:].sum(axis=0)
        values = self.vectorized("second")(v, g, np.ones((1, 1)), multipliers)[0]
        i, j = self.patterns[2]
        columns, rest = v.shape[1], self.size - n
        in_x, mixed = j < n, (i < n) & (j >= n)
        l_xx, l_xw = np.zeros((columns, n, n)), np.zeros((columns, n, rest))
        l_xx[:, i[in_x], j[in_x]] = l_xx[:, j[in_x], i[in_x]] = values[in_x].T
        l_xw[:, i[mixed], j[mixed] - n] = values[mixed].T
        l_ww = np.zeros((rest, rest))
        in_w = i >= n
        sums = values[in_w].sum(axis=1)
        l_ww[i[in_w] - n, j[in_w] - n] = sums
        l_ww[j[in_w] - n, i[in_w] - n] = sums
        return l_xx, l_xw, l_ww

    def hessians(self, v: Array, g: Array, multipliers: Array) -> Array:
        """Hessians of cost + multipliers . (successor, rows), (M, unknowns, unknowns)."""
        columns = v.shape[1]
        if self.local_size:
            jacobian, gradient = self._full_derivatives(v, g)
            outputs = self.successor_size + self.row_count
            kept, by_local = self._split(jacobian)
            slope = self._split(gradient)[1]
            slope = slope + (multipliers.T[:, None, :] @ by_local[:, :outputs])[:, 0]
            own = -np.linalg.solve(by_local[:, outputs:].transpose(0, 2, 1), slope[:, :, None])
            multipliers = np.vstack([multipliers, own[:, :, 0].T])
        values = self.vectorized("second")(v, g, np.ones((1, 1)), multipliers)[0]
        i, j = self.patterns[2]
        hessian = np.zeros((columns, self.size, self.size))
        hessian[:, i, j] = values.T
        hessian[:, j, i] = hessian[:, i, j]
        if not self.local_size:
            return hessian
        response = -np.linalg.solve(by_local[:, outputs:], kept[:, outputs:])
        basis = np.zeros((columns, self.size, self.unknowns))
        others = np.delete(np.arange(self.size), np.arange(self.size)[self.local])
        basis[:, others, np.arange(self.unknowns)] = 1.0
        basis[:, self.local] = response
        return basis.transpose(0, 2, 1) @ hessian @ basis

    def solve_equations(self, v: Array, g: Array) -> Array:
        """The columns v with local unknowns z that satisfy the equations, by Newton's method.

        Where the equations are singular, z is not a number.
        """
        v = v.copy()
        outputs = self.successor_size + self.row_count
        for _ in range(NEWTON_STEPS if self.local_size else 0):
            residual = self.values(v, g)[3]
            by_local = self._split(self._full_derivatives(v, g)[0])[1][:, outputs:]
            try:
                step = np.linalg.solve(by_local, residual.T[:, :, None])[:, :, 0].T
            except np.linalg.LinAlgError:
                step = np.full((self.local_size, v.shape[1]), np.nan)
            v[self.local] -= step
            if np.abs(step).max(initial=0.0) <= NEWTON_TOLERANCE * (1.0 + np.abs(v).max()):
                break
        return v


def _nonzeros(matrix: ca.SX) -> ca.SX:
    return ca.reshape(ca.densify(matrix.nz[:]), matrix.nnz(), 1)


def _triplet(matrix: ca.SX) -> tuple[NDArray, NDArray]:
    rows, columns = matrix.sparsity().get_triplet()
    return np.array(rows, dtype=int), np.array(columns, dtype=int)


@dataclass(frozen=True, eq=False)
class Rows:
    """Names, bounds and prices of a stage's constraint rows, each (r,); price inf means hard."""

    names: tuple[str, ...]
    lower: Array
    upper: Array
    weight: Array

    @classmethod
    def none(cls) -> Rows:
        """No rows."""
        return cls((), np.zeros(0), np.zeros(0), np.zeros(0))

    @classmethod
    def join(cls, blocks: Sequence[Rows]) -> Rows:
        """Blocks of rows one after the other."""
        if not blocks:
            return cls.none()
        return cls(
            tuple(name for block in blocks for name in block.names),
            np.concatenate([block.lower for block in blocks]),
            np.concatenate([block.upper for block in blocks]),
            np.concatenate([block.weight for block in blocks]),
        )


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage, the same for every member but for the members' data.

    Args:
        function: v = (x, z, u, p), g = (member's data, constants).
        state_size, control_size: n_k and m_k; the control of the last stage has size 0.
        constants: (c,) numbers of this stage, such as its time and its step.
        rows: bounds of the constraint rows of `function`.
        state_bounds, control_bounds: (lower, upper), each one per component.
    """

    function: StageFunction
    state_size: int
    control_size: int
    constants: Array
    rows: Rows
    state_bounds: tuple[Array, Array]
    control_bounds: tuple[Array, Array]

    @cached_property
    def has_state_bounds(self) -> bool:
        """Whether a component of the state has a bound."""
        return any(bool(np.isfinite(bound).any()) for bound in self.state_bounds)


@dataclass(frozen=True, eq=False)
class SharedTerm:
    """Costs and constraints of the control and the parameters alone, counted once.

    Args:
        name: what the term is called among the costs.
        function: v = (u of each of `stages`, p), g = constants; no successor.
        stages: whose controls it takes.
        constants: (c,) given numbers.
        rows: bounds of its constraint rows.
    """

    name: str
    function: StageFunction
    stages: tuple[int, ...]
    constants: Array
    rows: Rows


@dataclass(frozen=True)
class ComponentNames:
    """What the components of states, controls and parameters are called in reports.

    Where there are no names, or more controls than names because u^k stacks several controls,
    components are x0, x1, ..., u0, u1, ..., p0, p1, ... or repeat the names in a cycle.
    """

    states: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()

    def state(self, j: int) -> str:
        """Of component j of a state."""
        return self.states[j] if j < len(self.states) else f"x{j}"

    def control(self, j: int) -> str:
        """Of component j of a control."""
        return self.controls[j % len(self.controls)] if self.controls else f"u{j}"

    def parameter(self, j: int) -> str:
        """Of parameter j."""
        return self.parameters[j] if j < len(self.parameters) else f"p{j}"


@dataclass(frozen=True, eq=False)
class StagedProblem:
    """A problem in discrete time; see the module's equation.

    Args:
        stages: K+1 stages; the last one has no control and no successor.
        shared: terms of the control alone.
        initial_state: (N, n_0).
        data: (N, number of data).
        parameter_size: number of parameters p.
        parameter_bounds: (lower, upper).
        times: (K+1,) of the nodes, or None if there is no time behind the stages.
        is_autonomous: whether the stages come from an autonomous problem, whose Hamiltonian is
            conserved.
        names: of the components, for reports.

    Raises:
        ValueError: sizes of neighbouring stages that do not fit.
    """

    stages: tuple[Stage, ...]
    shared: tuple[SharedTerm, ...]
    initial_state: Array
    data: Array
    parameter_size: int
    parameter_bounds: tuple[Array, Array]
    times: Array | None = None
    is_autonomous: bool = False
    names: ComponentNames = ComponentNames()

    def __post_init__(self) -> None:
        if len(self.stages) < 2 or self.stages[-1].control_size:
            raise ValueError(
                "a staged problem needs at least two stages, the last one without control."
            )
        for k, stage in enumerate(self.stages):
            expected = self.stages[k + 1].state_size if k < self.intervals else 0
            if stage.function.successor_size != expected:
                raise ValueError(
                    f"stage {k} leads to a state of size {stage.function.successor_size}, "
                    f"but the next one expects {expected}."
                )
            unknowns = stage.state_size + stage.control_size + self.parameter_size
            if stage.function.unknowns != unknowns:
                raise ValueError(
                    f"stage {k} has a function of {stage.function.unknowns} unknowns, expected "
                    f"{unknowns}: state, control and parameters."
                )

        for term in self.shared:
            if list(term.stages) != sorted(set(term.stages)):
                raise ValueError(
                    f"the shared term {term.name!r} has stages {term.stages}, expected them in "
                    "increasing order."
                )

    @property
    def intervals(self) -> int:
        """Number of intervals (layers) K."""
        return len(self.stages) - 1

    @property
    def members(self) -> int:
        """Number of members N."""
        return len(self.initial_state)

    @cached_property
    def control_slices(self) -> tuple[slice, ...]:
        """Where u^k stands among the decisions (u^0, ..., u^{K-1}, p)."""
        ends = np.cumsum([0] + [stage.control_size for stage in self.stages])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    @cached_property
    def parameter_slice(self) -> slice:
        """Where p stands among the decisions."""
        return slice(self.decision_size - self.parameter_size, self.decision_size)

    @cached_property
    def decision_size(self) -> int:
        """Number of decisions: all controls and the parameters."""
        return sum(stage.control_size for stage in self.stages) + self.parameter_size

    def shared_index(self, term: SharedTerm) -> NDArray:
        """Positions of a shared term's unknowns among the decisions."""
        found = self._shared_indices.get(term.stages)
        if found is None:
            slices = [self.control_slices[k] for k in term.stages] + [self.parameter_slice]
            found = np.concatenate([np.arange(part.start, part.stop) for part in slices])
            self._shared_indices[term.stages] = found
        return found

    @cached_property
    def _shared_indices(self) -> dict[tuple[int, ...], NDArray]:
        return {}

    def given(self, k: int) -> Array:
        """Given numbers of stage k, one column per member."""
        data, constants = self.data.T, self.stages[k].constants
        columns = np.empty((len(data) + constants.size, self.members))
        columns[: len(data)], columns[len(data) :] = data, constants[:, None]
        return columns

    def batches(self, most: int | None = None) -> Iterator[list[int]]:
        """Stages grouped by their function, so that each group is evaluated in one call.

        Args:
            most: stages in a group, taken as 1 if it is less; all by default.
        """
        groups: dict[int, list[int]] = {}
        for k, stage in enumerate(self.stages):
            groups.setdefault(id(stage.function), []).append(k)
        for group in groups.values():
            together = len(group) if most is None else max(most, 1)
            for start in range(0, len(group), together):
                yield group[start : start + together]
