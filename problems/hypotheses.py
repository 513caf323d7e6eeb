"""What the theorem of classical regularised risk minimisation asks for, tested and not assumed.

    f(x, c u) = c^k f(x, u),   c > 0        (the field is homogeneous of degree k in the control)

With v(s) = T^(1/k) u(T s) on [0, 1] and r the degree of the penalty R (2 for |u|^2, 1 for |u|_1),

    alpha E(x(T)) + lambda Int_0^T R(u) dt = alpha E(x_v(1)) + eps Int_0^1 R(v) ds,
    eps = lambda T^(1 - r / k).

So k = 1 with |u|^2 gives eps = lambda / T, the case of the theorem; k = 2 with |u|^2 (a ReLU
bottleneck without biases) gives eps = lambda: the cost does not depend on T and nothing converges.
A ladder in lambda at fixed T needs no homogeneity. Everything is dimensionless.

Source: Esteve, Geshkovski, Pighin and Zuazua, Large-time asymptotics in deep learning,
arXiv 2008.02491.
"""

from __future__ import annotations

from dataclasses import dataclass

import casadi as ca
import numpy as np

from problems.interpolation import unreachable
from problems.learning import LearningProblem
from problems.vector_fields import OUTSIDE

SEED = 0  # of the points of the test
POINTS = 64
FACTORS = (0.5, 2.0, 3.0)  # c
EXACT = 1e-10  # relative deviation that is rounding


@dataclass(frozen=True)
class Homogeneity:
    """Outcome of the numerical test.

    Args:
        degree: k, a whole number; None if there is none.
        deviation: largest |f(x, c u) - c^k f(x, u)| relative to the larger of the two, with k = 1
            where there is no degree.
    """

    degree: int | None
    deviation: float

    @property
    def sentence(self) -> str:
        """The result in words."""
        if self.degree is None:
            return (
                "f(x, c u) is no power of c times f(x, u): "
                f"it differs from c f(x, u) by up to {self.deviation:.1%}"
            )
        power = "c" if self.degree == 1 else f"c^{self.degree}"
        return f"f(x, c u) = {power} f(x, u) within {self.deviation:.0e}"


def homogeneity(problem: LearningProblem, seed: int = SEED) -> Homogeneity:
    """Test f(x, c u) = c^k f(x, u) at random states and controls, of any field.

    States are spread over the size of the data, controls are normal of sizes 0.1 to 10.
    """
    layer = problem.layer(0)
    x, u = ca.SX.sym("x", layer.before), ca.SX.sym("u", layer.size)
    f = ca.Function("f", [x, u], [ca.densify(layer.rate(x, u, 0.0))])
    generator = np.random.default_rng(seed)
    spread = max(1.0, float(np.abs(problem.dataset.inputs).max()))
    states = spread * generator.standard_normal((x.numel(), POINTS))
    sizes = 10.0 ** generator.uniform(-1, 1, POINTS)
    controls = sizes * generator.standard_normal((u.numel(), POINTS))
    values = np.array(f(states, controls))
    scaled = {c: np.array(f(states, c * controls)) for c in FACTORS}

    def deviation(degree: int) -> float:
        worst = 0.0
        for c, at in scaled.items():
            expected = c**degree * values
            size = np.maximum(np.abs(expected).max(axis=0), np.abs(at).max(axis=0))
            size = np.maximum(size, np.finfo(float).tiny)
            worst = max(worst, float((np.abs(at - expected).max(axis=0) / size).max()))
        return worst

    logs = [
        np.log(np.linalg.norm(at) / np.linalg.norm(values)) / np.log(c) for c, at in scaled.items()
    ]
    degree = max(1, round(float(np.median(logs))))
    if deviation(degree) <= EXACT:
        return Homogeneity(degree, deviation(degree))
    return Homogeneity(None, deviation(1))


@dataclass(frozen=True)
class Applicability:
    """Whether the theorem speaks about a ladder, and what holds in any case.

    Args:
        applies: whether all hypotheses that can be tested beforehand hold.
        reasons: why not, one sentence each.
        statement: what is claimed for this ladder.
    """

    applies: bool
    reasons: tuple[str, ...]
    statement: str


def applicability(
    problem: LearningProblem, tested: Homogeneity, in_horizon: bool, no_interpolant: str | None
) -> Applicability:
    """What the theorem says on a ladder, or why it does not apply.

    Args:
        problem: of any rung; the last one speaks for bounded fields.
        tested: outcome of `homogeneity`.
        in_horizon: whether T grows; otherwise lambda falls at fixed T.
        no_interpolant: why the data cannot be interpolated, None if they can.
    """
    reasons = []
    if not problem.loss.has_minimum:
        reasons.append(
            f"the infimum of the {problem.loss.name} loss is not attained: the norm grows without "
            "bound and there is no minimal-norm limit; look at margin and normalised margin"
        )
    if problem.tracking > 0:
        reasons.append("the cost has a running error (beta > 0); the turnpike theorem is about it")
    if in_horizon:
        if problem.penalty.rate > 0:
            reasons.append("the penalty has a derivative, whose weight would have to scale as T^2")
        elif problem.penalty.square == 0:
            reasons.append(
                "an l1 penalty costs the same on every horizon, so T does not act at all; "
                "use a ladder in the weight decay"
            )
        if tested.degree is None:
            reasons.append(f"the field is not homogeneous in the control: {tested.sentence}")
        elif tested.degree != 1:
            reasons.append(
                f"the field is homogeneous of degree {tested.degree}, not 1: {tested.sentence}"
            )
        if problem.trained_readout:
            reasons.append("the penalty of the trained read-out does not fade as T grows")
    if no_interpolant is not None and not reasons:
        reasons.append(no_interpolant.rstrip("."))
    return Applicability(
        not reasons, tuple(reasons), _statement(problem, tested, in_horizon, not reasons)
    )


def _statement(
    problem: LearningProblem, tested: Homogeneity, in_horizon: bool, applies: bool
) -> str:
    if applies:
        small, gap = ("lambda / T", "1 / T") if in_horizon else ("lambda", "lambda")
        return (
            f"E <= {small} (|v*|^2 - |v|^2), so E = O({gap}), and v converges to a "
            "minimal-norm interpolant v* (along subsequences)"
        )
    if problem.tracking > 0:
        return (
            "E and |u| <= C exp(-mu t) with C and mu independent of T, where every residual can be "
            "moved on its own; the rungs are checked against each other"
        )
    if in_horizon and tested.degree is not None and problem.penalty.square > 0:
        power = 1 - 2 / tested.degree
        if tested.degree == 2 and problem.penalty.rate == 0:
            return "the optimal cost is the same for every T: T^(1/2) u(T s) does not change"
        if tested.degree > 2 and problem.penalty.rate == 0:
            return f"T acts as a weight decay lambda T^{power:.3g}, which grows with T"
    if problem.field is OUTSIDE and np.isfinite(problem.activation.range).all():
        reason = unreachable(problem)
        low, high = problem.activation.range
        speed = f"each coordinate moves at a speed between {low:g} and {high:g}"
        return f"{speed}; {reason}" if reason else f"{speed}, which is enough for these targets"
    return "no limit is claimed"
