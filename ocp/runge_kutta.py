"""Runge-Kutta methods as data.

    X_i = x_k + h sum_j a_ij f(t_k + c_j h, X_j),    x_{k+1} = x_k + h sum_i b_i f(t_k + c_i h, X_i)

with c_i = sum_j a_ij. A tableau claims an order; `order_residuals` checks the claim, up to order 4
against the order conditions, beyond by Butcher's simplifying assumptions

    B(p): sum_i b_i c_i^{k-1} = 1/k,   k <= p
    C(q): sum_j a_ij c_j^{k-1} = c_i^k / k,   k <= q
    D(r): sum_i b_i c_i^{k-1} a_ij = b_j (1 - c_j^k) / k,   k <= r

of which B(p), C(q), D(r) with p <= q + r + 1 and p <= 2q + 2 imply order p.

Source of the order conditions: Hairer, Norsett and Wanner, Solving Ordinary Differential
Equations I, 2nd ed. (1993), sections II.2 and II.7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Vector = TypeVar("Vector")

ORDER_TOLERANCE = 1e-12  # rounding in sums of a handful of rational coefficients


@dataclass(frozen=True, eq=False)
class ButcherTableau:
    """Coefficients of an s-stage Runge-Kutta method.

    Args:
        name: the method's usual name.
        a: (s, s) coefficients of the stages.
        b: (s,) weights.
        order: classical order of consistency.
        source: where the coefficients come from.

    Raises:
        ValueError: shapes that do not fit, or coefficients that miss the claimed order.
    """

    name: str
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    order: int
    source: str

    def __post_init__(self) -> None:
        a = np.array(self.a, dtype=np.float64)
        b = np.array(self.b, dtype=np.float64)
        if b.ndim != 1 or a.shape != (b.size, b.size):
            raise ValueError(
                f"tableau {self.name!r} has a of shape {a.shape} and b of shape {b.shape}, "
                "expected (s, s) and (s,)."
            )
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "b", b)
        worst = max(abs(residual) for residual in order_residuals(self, self.order))
        if worst > ORDER_TOLERANCE:
            raise ValueError(
                f"tableau {self.name!r} claims order {self.order} but misses an order condition "
                f"by {worst:.1e}; correct its coefficients or lower the claim."
            )

    @property
    def c(self) -> NDArray[np.float64]:
        """Nodes c_i, (s,), as fractions of the step."""
        return self.a.sum(axis=1)

    @property
    def stages(self) -> int:
        """Number of stages s."""
        return self.b.size

    @property
    def is_explicit(self) -> bool:
        """Whether every stage depends on earlier stages only."""
        return not np.triu(self.a).any()

    def step(
        self,
        rate: Callable[[Vector, Any], Vector],
        state: Vector,
        time: Any,
        step: Any,
    ) -> tuple[Vector, list[Vector]]:
        """One explicit step of `state' = rate(state, time)`: the next state and the stages X_i.

        Works on anything with + and * (NumPy arrays, CasADi expressions).

        Raises:
            ValueError: the tableau is implicit.
        """
        if not self.is_explicit:
            raise ValueError(f"tableau {self.name!r} is implicit; it has no explicit step.")
        stages: list[Vector] = []
        rates: list[Vector] = []
        for i in range(self.stages):
            stage = combine(state, step, self.a[i, :i], rates)
            stages.append(stage)
            rates.append(rate(stage, time + step * float(self.c[i])))
        return combine(state, step, self.b, rates), stages


def combine(state: Vector, step: Any, weights: NDArray[np.float64], rates: list) -> Vector:
    """The sum state + step sum_i weights_i rates_i, without the terms of zero weight."""
    result = state
    for weight, rate in zip(weights, rates, strict=True):
        if weight != 0.0:
            result = result + (step * float(weight)) * rate
    return result


def order_residuals(tableau: ButcherTableau, order: int) -> list[float]:
    """Left minus right sides of conditions that imply the order.

    Raises:
        ValueError: order below 1.
    """
    if order < 1:
        raise ValueError(f"the order of a method is at least 1, asked for {order}.")
    a, b = tableau.a, tableau.b
    c = a.sum(axis=1)
    if order > 4:
        return _simplifying_residuals(a, b, c, order)
    conditions = [
        (1, b.sum(), 1.0),
        (2, b @ c, 1 / 2),
        (3, b @ c**2, 1 / 3),
        (3, b @ a @ c, 1 / 6),
        (4, b @ c**3, 1 / 4),
        (4, (b * c) @ a @ c, 1 / 8),
        (4, b @ a @ c**2, 1 / 12),
        (4, b @ a @ a @ c, 1 / 24),
    ]
    return [float(left - right) for p, left, right in conditions if p <= order]


def _simplifying_residuals(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], order: int
) -> list[float]:
    """Residuals of B(order), C(q) and D(r) with q + r + 1 = order, q = s or as large as needed."""
    q = min(b.size, order - 1)
    q, r = (q, order - q - 1) if order <= 2 * q + 2 else (order, order)
    found = [b @ c ** (k - 1) - 1 / k for k in range(1, order + 1)]
    for k in range(1, q + 1):
        found += list(a @ c ** (k - 1) - c**k / k)
    for k in range(1, r + 1):
        found += list((b * c ** (k - 1)) @ a - b * (1 - c**k) / k)
    return [float(residual) for residual in found]


def collocation(name: str, nodes: NDArray[np.float64], order: int, source: str) -> ButcherTableau:
    """The collocation method with the given nodes c_i in [0, 1], all different.

    a_ij and b_j are the integrals of the Lagrange polynomials over [0, c_i] and [0, 1], taken in
    the basis of Legendre polynomials, which is well conditioned.
    """
    legendre, degrees = np.polynomial.legendre.legvander, np.arange(1, nodes.size)
    # Between -1 and x, P_j has the integral (P_{j+1} - P_{j-1}) / (2 j + 1).
    values = legendre(2 * nodes - 1, nodes.size)
    integrals = np.column_stack([nodes, (values[:, 2:] - values[:, :-2]) / (2 * (2 * degrees + 1))])
    a = np.linalg.solve(values[:, :-1].T, integrals.T).T
    b = np.linalg.solve(values[:, :-1].T, np.eye(nodes.size)[0])
    return ButcherTableau(name, np.asarray(a, float), np.asarray(b, float), order, source)


def _gauss_nodes(stages: int) -> NDArray[np.float64]:
    """Zeros of the Legendre polynomial, shifted to [0, 1]."""
    return (np.polynomial.legendre.leggauss(stages)[0] + 1) / 2


def _radau_nodes(stages: int) -> NDArray[np.float64]:
    """Zeros of P_s - P_{s-1}, shifted to [0, 1]; the last one is 1."""
    coefficients = np.zeros(stages + 1)
    coefficients[stages], coefficients[stages - 1] = 1.0, -1.0
    roots = np.sort(np.polynomial.legendre.legroots(coefficients).real)
    return np.append((roots[:-1] + 1) / 2, 1.0)


def _tableau(
    name: str, a: list[list[float]], b: list[float], order: int, source: str
) -> ButcherTableau:
    return ButcherTableau(name, np.array(a), np.array(b), order, source)


EULER = _tableau("euler", [[0.0]], [1.0], 1, "Euler, Institutiones calculi integralis I (1768)")
MIDPOINT = _tableau(
    "midpoint", [[0.0, 0.0], [0.5, 0.0]], [0.0, 1.0], 2, "Runge, Math. Ann. 46 (1895), 167-178"
)
HEUN = _tableau(
    "heun", [[0.0, 0.0], [1.0, 0.0]], [0.5, 0.5], 2, "Heun, Z. Math. Phys. 45 (1900), 23-38"
)
RK4 = _tableau(
    "rk4",
    [[0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
    [1 / 6, 1 / 3, 1 / 3, 1 / 6],
    4,
    "Kutta, Z. Math. Phys. 46 (1901), 435-453",
)

_GAUSS = "Butcher, Math. Comp. 18 (1964), 50-64"
_RADAU = "Ehle, Research Report CSRR 2010, University of Waterloo (1969)"
MOST_STAGES = 9  # of a collocation method whose order conditions hold to rounding


@cache
def gauss_legendre(stages: int) -> ButcherTableau:
    """The Gauss-Legendre method of s stages, of order 2s; the same object for the same s.

    Raises:
        ValueError: fewer than 1 or more than MOST_STAGES stages.
    """
    _check_stages(stages)
    name = f"gauss-legendre-{2 * stages}"
    return collocation(name, _gauss_nodes(stages), 2 * stages, _GAUSS)


@cache
def radau_iia(stages: int) -> ButcherTableau:
    """The Radau IIA method of s stages, of order 2s - 1; the same object for the same s.

    Raises:
        ValueError: fewer than 1 or more than MOST_STAGES stages.
    """
    _check_stages(stages)
    name = f"radau-iia-{2 * stages - 1}"
    return collocation(name, _radau_nodes(stages), 2 * stages - 1, _RADAU)


def _check_stages(stages: int) -> None:
    if not 1 <= stages <= MOST_STAGES:
        raise ValueError(f"a collocation method has 1 to {MOST_STAGES} stages here, got {stages}.")


GAUSS_LEGENDRE_2 = gauss_legendre(1)
GAUSS_LEGENDRE_4 = gauss_legendre(2)
GAUSS_LEGENDRE_6 = gauss_legendre(3)
RADAU_IIA_1 = radau_iia(1)
RADAU_IIA_3 = radau_iia(2)
RADAU_IIA_5 = radau_iia(3)
