"""Penalties R(u) on the control of a learning problem.

l2   |u|^2                 (no factor 1/2)
l1   sum_j |u_j|           as exact l1 penalties on the soft rows u = 0
h1   |u|^2 + |u'|^2        the derivative as sum_k |u^{k+1} - u^k|^2 / h

A control that stands for a function at the nodes of a grid, u_j = measure_j w_j, has the l1 norm
sum_j measure_j |u_j| (see `problems.layer`).
"""

from __future__ import annotations

from dataclasses import dataclass

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp import Constraint


@dataclass(frozen=True)
class Penalty:
    """Weights of the parts of R(u) = square |u|^2 + rate |u'|^2 + absolute |u|_1."""

    name: str
    square: float = 0.0
    rate: float = 0.0
    absolute: float = 0.0

    def cost(self, control: ca.SX) -> ca.SX:
        """The smooth part that needs no derivative of the control."""
        return self.square * ca.sumsqr(control)

    def constraints(
        self, control: ca.SX, weight: float, measure: NDArray | None = None
    ) -> list[Constraint]:
        """Soft rows whose violation costs weight * absolute * |u|_1."""
        if self.absolute * weight == 0.0:
            return []
        if measure is not None and (measure != 1.0).any():
            control = ca.DM(measure) * control
        return [Constraint("l1 penalty", control, weight=weight * self.absolute)]

    def integral(self, controls: NDArray, steps: NDArray, measures: NDArray | float = 1.0) -> float:
        """Int R(u) dt of a control that is constant on every layer.

        Args:
            controls: (K, m).
            steps: (K,).
            measures: of the controls, (K, m).
        """
        rate = np.sum(np.diff(controls, axis=0) ** 2, axis=1) / ((steps[1:] + steps[:-1]) / 2)
        density = self.square * np.sum(controls**2, axis=1)
        density += self.absolute * np.sum(measures * np.abs(controls), axis=1)
        return float(density @ steps + self.rate * rate.sum())


L2 = Penalty("l2", square=1.0)
L1_PENALTY = Penalty("l1", absolute=1.0)
H1 = Penalty("h1", square=1.0, rate=1.0)
PENALTIES = {penalty.name: penalty for penalty in (L2, L1_PENALTY, H1)}
