"""One layer of a network between two grids.

    z^+ = Pi z + h f(z, u),     f(z, u) = w diag(om) s(z) + b     ("inside"; the others likewise)

The kernel w and the bias b are functions on the grids. The optimiser sees the coordinates

    W_jl = sqrt(om^+_j om_l) w_jl,     B_j = sqrt(om^+_j) b_j,

in which the penalty Int Int w^2 + Int b^2 is |W|^2 + |B|^2 and the operator's norm in L2 is |W|: so
whatever is said of |u| elsewhere is said of functions. In f stand the matrices A = w diag(om) =
diag(om^+)^{-1/2} W diag(om)^{1/2}. With weights 1 the three are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import casadi as ca
import numpy as np

from problems.spatial_grid import Array
from problems.vector_fields import Activation, VectorField

BEFORE, AFTER, HIDDEN = "before", "after", "hidden"  # axes of the controls


@dataclass(frozen=True, eq=False)
class Layer:
    """Sizes, weights and interpolation of one layer.

    Args:
        field, activation: f.
        before, after: numbers of nodes d and d^+.
        hidden: H, for fields that need it.
        weights_before, weights_after: om (d,) and om^+ (d^+,); None where all are 1.
        transfer: Pi (d^+, d); None for the identity.

    Raises:
        ValueError: a field that cannot stand between two grids.
    """

    field: VectorField
    activation: Activation
    before: int
    after: int
    hidden: int
    weights_before: Array | None = None
    weights_after: Array | None = None
    transfer: Array | None = None

    def __post_init__(self) -> None:
        if self.field.axes is None and not self._is_plain:
            raise ValueError(
                f"the field {self.field.name!r} does not say which axes its controls have, so it "
                "has no form between grids; give its `axes`, or use one width without weights."
            )

    @property
    def _is_plain(self) -> bool:
        return self.before == self.after and self._is_unweighted

    @property
    def _is_unweighted(self) -> bool:
        return self.weights_before is None and self.weights_after is None

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the controls by name."""
        if self.field.axes is None:
            return self.field.shapes(self.before, self.hidden)
        sizes = {BEFORE: self.before, AFTER: self.after, HIDDEN: self.hidden}
        return {name: tuple(sizes[axis] for axis in axes) for name, axes in self.field.axes.items()}

    @cached_property
    def size(self) -> int:
        """Number of controls m."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each of the controls stands in u; matrices are stored row by row."""
        ends = np.cumsum([0] + [int(np.prod(shape)) for shape in self.shapes.values()]).tolist()
        return {
            name: slice(a, b) for name, a, b in zip(self.shapes, ends[:-1], ends[1:], strict=True)
        }

    def _factors(self, name: str, column_power: float) -> Array:
        """Shape of a control: om^+^(-1/2) along "after", om^power along "before"."""
        assert self.field.axes is not None
        factor = np.ones(())
        for axis in self.field.axes[name]:
            along = np.ones(self.shapes[name][factor.ndim])
            if axis == AFTER and self.weights_after is not None:
                along = self.weights_after**-0.5
            elif axis == BEFORE and self.weights_before is not None:
                along = self.weights_before**column_power
            factor = np.multiply.outer(factor, along)
        return factor

    @cached_property
    def measure(self) -> Array:
        """sqrt(om^+_j om_l) for every control, (m,): what turns kernels into coordinates."""
        if self._is_unweighted:
            return np.ones(self.size)
        return np.concatenate([1 / self._factors(name, -0.5).ravel() for name in self.shapes])

    def effective_symbols(self, control: ca.SX) -> dict[str, ca.SX]:
        """The matrices that stand in f, by name."""
        parts = {}
        for name, shape in self.shapes.items():
            part = control[self.slices[name]]
            if len(shape) == 2:
                part = ca.reshape(part, shape[1], shape[0]).T
            if not self._is_unweighted:
                part = ca.DM(self._factors(name, 0.5)) * part
            parts[name] = part
        return parts

    def rate(self, state: ca.SX, control: ca.SX, delta: ca.SX | float) -> ca.SX:
        """f(z, u), its kinks rounded off at width delta."""
        controls = self.effective_symbols(control)
        return self.field.rate(state, controls, lambda z: self.activation.function(z, delta))

    def advance(self, state: ca.SX, control: ca.SX, step: ca.SX, delta: ca.SX | float) -> ca.SX:
        """z^+."""
        moved = state if self.transfer is None else _sparse(self.transfer) @ state
        return moved + step * self.rate(state, control, delta)

    def coordinates(self, control: Array) -> dict[str, Array]:
        """W, B, ... by name, out of u (m,)."""
        return {name: control[self.slices[name]].reshape(s) for name, s in self.shapes.items()}

    def kernels(self, control: Array) -> dict[str, Array]:
        """w, b, ... by name: functions at the nodes."""
        return self._scaled(control, -0.5)

    def effective(self, control: Array) -> dict[str, Array]:
        """A, b, ... by name: the matrices that stand in f."""
        return self._scaled(control, 0.5)

    def _scaled(self, control: Array, power: float) -> dict[str, Array]:
        parts = self.coordinates(control)
        if self._is_unweighted:
            return parts
        return {name: part * self._factors(name, power) for name, part in parts.items()}

    def join(self, kernels: Mapping[str, Array]) -> Array:
        """The inverse of `kernels`: u (m,)."""
        return np.concatenate([kernels[name].ravel() for name in self.shapes]) * self.measure

    def lipschitz(self, control: Array) -> float:
        """Of f in z, in the norm of L2 on both grids."""
        return self.field.lipschitz(self.coordinates(control), self.activation.lipschitz)


def _sparse(matrix: Array) -> ca.DM:
    return ca.sparsify(ca.DM(matrix))
