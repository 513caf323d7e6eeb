"""Activations and vector fields: the right-hand sides x' = f(x, u) of neural ODEs.

    inside       f = w s(x) + b
    outside      f = s(w x + b)
    bottleneck   f = w2 s(w1 x + b1) + b2

A field is homogeneous when f(x, c u) = c f(x, u) for c > 0; then the horizon T and the weight
decay lambda count only through lambda / T. All quantities are dimensionless.

The named ones are pickled and copied by name, so that a copy of a problem holds the very same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import casadi as ca
import numpy as np
from numpy.typing import NDArray

LINEAR_FROM = 36.0  # log(1 + exp(-36)) = 2e-16
LEAK = 0.01  # slope of leaky ReLU for negative arguments, the usual default
# max of d/dx [x Phi(x)], reached at x = sqrt 2: Phi(sqrt 2) + sqrt 2 phi(sqrt 2)
GELU_LIPSCHITZ = (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi)
GELU_MINIMUM = -0.17  # x Phi(x) >= -0.16998, rounded down


@dataclass(frozen=True)
class Activation:
    """A scalar function s applied to every component.

    Args:
        name: as on the command line.
        function: (argument, smoothing width delta >= 0) -> value, elementwise on CasADi
            expressions; exact for delta = 0.
        lipschitz: its Lipschitz constant.
        range: (infimum, supremum) of its values.
        attains: whether each of them is a value.
        is_smooth: twice continuously differentiable; if not, delta rounds off its kinks.
        is_homogeneous: s(c x) = c s(x) for c > 0.
    """

    name: str
    function: Callable[[ca.SX, ca.SX | float], ca.SX]
    lipschitz: float
    range: tuple[float, float] = (-np.inf, np.inf)
    attains: tuple[bool, bool] = (False, False)
    is_smooth: bool = True
    is_homogeneous: bool = False

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return reduced(self, globals(), protocol)


def _positive_part(x: ca.SX, delta: ca.SX | float) -> ca.SX:
    """max(0, x), its kink rounded off: (x + sqrt(x^2 + delta^2)) / 2, at most delta / 2 above."""
    return ca.if_else(delta > 0, (x + ca.sqrt(x**2 + delta**2 + (delta <= 0))) / 2, ca.fmax(x, 0))


def softplus(x: ca.SX) -> ca.SX:
    """The function log(1 + exp(x)), linear beyond LINEAR_FROM, where they agree to rounding."""
    return ca.log1p(ca.exp(ca.fmin(x, LINEAR_FROM))) + ca.fmax(x - LINEAR_FROM, 0)


TANH = Activation("tanh", lambda x, delta: ca.tanh(x), 1.0, (-1.0, 1.0))
RELU = Activation(
    "relu",
    _positive_part,
    1.0,
    (0.0, np.inf),
    (True, False),
    is_smooth=False,
    is_homogeneous=True,
)
LEAKY_RELU = Activation(
    "leaky-relu",
    lambda x, delta: LEAK * x + (1 - LEAK) * _positive_part(x, delta),
    1.0,
    is_smooth=False,
    is_homogeneous=True,
)
SOFTPLUS = Activation("softplus", lambda x, delta: softplus(x), 1.0, (0.0, np.inf))
# 1 / (1 + exp(-x)), written so that neither it nor its derivatives overflow
SIGMOID = Activation("sigmoid", lambda x, delta: (1 + ca.tanh(x / 2)) / 2, 0.25, (0.0, 1.0))
GELU = Activation(
    "gelu",
    lambda x, delta: x * (1 + ca.erf(x / np.sqrt(2))) / 2,
    GELU_LIPSCHITZ,
    (GELU_MINIMUM, np.inf),
    (True, False),
)
SINE = Activation("sin", lambda x, delta: ca.sin(x), 1.0, (-1.0, 1.0), (True, True))
ACTIVATIONS = {a.name: a for a in (TANH, RELU, LEAKY_RELU, SOFTPLUS, SIGMOID, GELU, SINE)}

Weights = Mapping[str, ca.SX]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class VectorField:
    """The right-hand side of a neural ODE.

    Args:
        name: as on the command line.
        shapes: (width D, hidden H) -> shapes of the controls by name, in their order in u.
        rate: (state, controls by name, s) -> x', on CasADi expressions, s elementwise.
        lipschitz: (controls by name as arrays of one layer, Lip(s)) -> Lipschitz constant in x.
        needs_hidden: whether H must be given.
        is_linear_in_control: whether f(x, .) is linear, so that any activation is homogeneous.
        axes: "before", "after" or "hidden" for every axis of the controls by name: what they run
            over in a layer between two grids; None if the field is for one width only.
    """

    name: str
    shapes: Callable[[int, int], Shapes]
    rate: Callable[[ca.SX, Weights, Callable[[ca.SX], ca.SX]], ca.SX]
    lipschitz: Callable[[Mapping[str, NDArray], float], float]
    needs_hidden: bool = False
    is_linear_in_control: bool = False
    axes: Mapping[str, tuple[str, ...]] | None = field(default=None, hash=False)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return reduced(self, globals(), protocol)

    def size(self, width: int, hidden: int) -> int:
        """Number of controls of one layer."""
        return sum(int(np.prod(shape)) for shape in self.shapes(width, hidden).values())

    def split_symbols(self, control: ca.SX, width: int, hidden: int) -> dict[str, ca.SX]:
        """Controls by name, out of the symbols of one layer; matrices are stored row by row."""
        parts, start = {}, 0
        for name, shape in self.shapes(width, hidden).items():
            size = int(np.prod(shape))
            part = control[start : start + size]
            parts[name] = ca.reshape(part, shape[1], shape[0]).T if len(shape) == 2 else part
            start += size
        return parts

    def split_arrays(self, controls: NDArray, width: int, hidden: int) -> dict[str, NDArray]:
        """Controls by name, each (K, *shape), out of the array (K, m)."""
        parts, start = {}, 0
        for name, shape in self.shapes(width, hidden).items():
            size = int(np.prod(shape))
            parts[name] = controls[:, start : start + size].reshape(len(controls), *shape)
            start += size
        return parts


def reduced(
    thing: object, names: Mapping[str, object], protocol: SupportsIndex
) -> str | tuple[Any, ...]:
    """How to pickle a thing: by its name in its module if it has one there, else by its parts.

    A function without a name, such as those inside the named things, cannot be pickled.
    """
    known = (name for name, value in names.items() if value is thing)
    return next(known, None) or object.__reduce_ex__(thing, protocol)


def join_arrays(weights: Mapping[str, NDArray]) -> NDArray:
    """The inverse of `VectorField.split_arrays`: (K, m)."""
    return np.hstack([part.reshape(len(part), -1) for part in weights.values()])


def _norm(matrix: NDArray) -> float:
    return float(np.linalg.norm(matrix, 2))


def _one_matrix(width: int, hidden: int) -> Shapes:
    return {"w": (width, width), "b": (width,)}


ONE_MATRIX = {"w": ("after", "before"), "b": ("after",)}
TWO_MATRICES = {
    "w1": ("hidden", "before"),
    "b1": ("hidden",),
    "w2": ("after", "hidden"),
    "b2": ("after",),
}


INSIDE = VectorField(
    "inside",
    _one_matrix,
    lambda x, u, s: u["w"] @ s(x) + u["b"],
    lambda u, slope: _norm(u["w"]) * slope,
    is_linear_in_control=True,
    axes=ONE_MATRIX,
)
OUTSIDE = VectorField(
    "outside",
    _one_matrix,
    lambda x, u, s: s(u["w"] @ x + u["b"]),
    lambda u, slope: _norm(u["w"]) * slope,
    axes=ONE_MATRIX,
)
BOTTLENECK = VectorField(
    "bottleneck",
    lambda width, hidden: {
        "w1": (hidden, width),
        "b1": (hidden,),
        "w2": (width, hidden),
        "b2": (width,),
    },
    lambda x, u, s: u["w2"] @ s(u["w1"] @ x + u["b1"]) + u["b2"],
    lambda u, slope: _norm(u["w2"]) * _norm(u["w1"]) * slope,
    needs_hidden=True,
    axes=TWO_MATRICES,
)
FIELDS = {f.name: f for f in (INSIDE, OUTSIDE, BOTTLENECK)}
