"""Control problems that carry their known solutions: the catalogue of classics.

Every problem is posed as `ocp` poses it, min J subject to x' = f(x, u), and brings its optimum,
as a formula where there is one, with the source. The costates p are derivatives of the optimal
cost in the state (minimum convention):

    H = L + p . f,    p' = -dH/dx,    dH/du = 0 along a minimum.

The costates of a problem to be maximised are derivatives of its maximum. All quantities are
dimensionless but those of the brachistochrone. Further problems are in `problems.literature`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import casadi as ca
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import expm
from scipy.optimize import brentq

from ocp.grid import TimeGrid
from ocp.guess import Guess
from ocp.problem import Constraint, OptimalControlProblem
from ocp.runge_kutta import GAUSS_LEGENDRE_6, RK4, ButcherTableau
from ocp.solution import Solution
from ocp.solve import SolveOptions, solve

Array = NDArray[np.float64]

EXACT = 1e-13  # relative accuracy of a formula evaluated in double precision
ANY_INTERVALS = (1, 2, 5, 10)  # for optima that do not depend on the number of intervals


@dataclass(frozen=True, eq=False)
class Recipe:
    """A transcription that resolves a problem.

    Args:
        intervals: about how many; equal between the switches.
        tableau: method of a step.
        substeps: steps on every interval.
        control_per_stage: one control for each Runge-Kutta stage instead of one per interval.
        switches: where the optimal control or its derivative jumps, as fractions of the horizon.
            There the grid has nodes, so that the order is that of a smooth problem.
    """

    intervals: int = 50
    tableau: ButcherTableau = RK4
    substeps: int = 1
    control_per_stage: bool = False
    switches: tuple[float, ...] = ()

    def grid(self, problem: OptimalControlProblem) -> TimeGrid:
        """The grid on the problem's horizon, or on [0, 1] if the end time is free."""
        horizon = 1.0 if problem.has_free_horizon else float(problem.horizon)
        steps: list[float] = []
        for start, stop in pairwise((0.0, *self.switches, 1.0)):
            count = max(1, round(self.intervals * (stop - start)))
            steps += [horizon * (stop - start) / count] * count
        return TimeGrid.graded(steps)


SMOOTH = Recipe(30, GAUSS_LEGENDRE_6, control_per_stage=True)  # of order 6


@dataclass(frozen=True, eq=False)
class ClassicProblem:
    """A problem and what is known of its solution.

    Args:
        name: how it is called in reports.
        problem: the problem in continuous time.
        optimum: its minimal cost, or its maximum if that is asked; -inf where it is unbounded
            below, inf where no control is feasible.
        accuracy: relative error of `optimum`: EXACT for a formula, half a unit of the last digit
            for a number from a table.
        source: who posed or solved it.
        purpose: what it is a test of.
        table: intervals N -> minimal cost with the control constant on N equal intervals and the
            states exact.
        table_accuracy: relative error of the numbers in `table`.
        costate: t -> (members, n) costates.
        control: t -> (m,) control.
        horizon: the optimal end time, where it is free.
        recipe: a transcription that resolves it.
        guess: where to start if the default, lines between the boundary values, does not do.
    """

    name: str
    problem: OptimalControlProblem
    optimum: float
    accuracy: float
    source: str
    purpose: str
    table: Mapping[int, float] = field(default_factory=dict)
    table_accuracy: float = EXACT
    costate: Callable[[float], Array] | None = None
    control: Callable[[float], Array] | None = None
    horizon: float | None = None
    recipe: Recipe = Recipe()
    guess: Guess | None = None


def solve_classic(
    classic: ClassicProblem, recipe: Recipe | None = None, options: SolveOptions = SolveOptions()
) -> Solution:
    """Solve a problem by its own recipe, or by another one, from its own guess."""
    recipe = classic.recipe if recipe is None else recipe
    return solve(
        classic.problem,
        recipe.grid(classic.problem),
        recipe.tableau,
        substeps=recipe.substeps,
        control_per_stage=recipe.control_per_stage,
        guess=classic.guess,
        options=options,
    )


def double_integrator() -> ClassicProblem:
    """Move a unit mass by a unit length in unit time, from rest to rest, with least energy.

        x1' = x2, x2' = u, (-1, 0) to (0, 0), T = 1;   min 1/2 Int u^2 = 6,   u = 6 - 12 t

    A control constant on N equal intervals must match Int u = 0 and Int (1 - t) u = 1. The least
    one is u_k = 6 (1 - 2 t) / (1 - 1/N^2) at the intervals' midpoints, of cost 6 / (1 - 1/N^2).
    """
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=1.0,
        initial_state=[-1.0, 0.0],
        control_cost=u**2 / 2,
        terminal_constraints=[Constraint("rest", x)],
    )
    return ClassicProblem(
        name="double integrator",
        problem=problem,
        optimum=6.0,
        accuracy=EXACT,
        source="Bryson and Ho, Applied Optimal Control (1975)",
        purpose="a test of linear-quadratic transfer between two states",
        table={N: 6.0 / (1.0 - 1.0 / N**2) for N in (2, 5, 20)},
        recipe=SMOOTH,
        costate=lambda t: np.array([[-12.0, 12.0 * t - 6.0]]),
        control=lambda t: np.array([6.0 - 12.0 * t]),
    )


def hypersensitive(
    horizon: float = 10.0, initial: float = 1.5, terminal: float = 1.0
) -> ClassicProblem:
    """Linear-quadratic turnpike: the state stays near 0 but for layers at both ends.

        x' = -x + u, x(0) and x(T) given;   min 1/2 Int x^2 + u^2

    With s = sqrt 2 the minimum is x = c1 e^{s(t-T)} + c2 e^{-st}, u = x + x', and

        J = 1/2 (1 - e^{-2sT}) [c1^2 (s + 1) + c2^2 (s - 1)].

    Args:
        horizon: T.
        initial: x(0).
        terminal: x(T).
    """
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=-x + u,
        horizon=horizon,
        initial_state=[initial],
        running_cost=(x**2 + u**2) / 2,
        terminal_constraints=[Constraint("end", x, terminal, terminal)],
    )
    s = math.sqrt(2.0)
    decay = math.exp(-s * horizon)
    c1 = (terminal - initial * decay) / (1.0 - decay**2)
    c2 = (initial - terminal * decay) / (1.0 - decay**2)

    def control(t: float) -> Array:
        growing, decaying = c1 * math.exp(s * (t - horizon)), c2 * math.exp(-s * t)
        return np.array([(1.0 + s) * growing + (1.0 - s) * decaying])

    return ClassicProblem(
        name="linear hypersensitive",
        problem=problem,
        optimum=(1.0 - decay**2) * (c1**2 * (s + 1.0) + c2**2 * (s - 1.0)) / 2,
        accuracy=EXACT,
        source="after Rao and Mease, Automatica 35 (1999), 633-642; solved by its linear equations",
        purpose="a test of boundary layers, which decay at the rate sqrt 2 at both ends",
        recipe=SMOOTH,
        costate=lambda t: -control(t)[None, :],
        control=control,
    )


def van_der_pol() -> ClassicProblem:
    """Calm a Van der Pol oscillator.

    x1' = x2, x2' = (1 - x1^2) x2 - x1 + u, x(0) = (1, 0), T = 2;
    min 1/2 Int x1^2 + x2^2 + u^2
    """
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], (1 - x[0] ** 2) * x[1] - x[0] + u),
        horizon=2.0,
        initial_state=[1.0, 0.0],
        running_cost=ca.sumsqr(x) / 2,
        control_cost=u**2 / 2,
    )
    return ClassicProblem(
        name="Van der Pol",
        problem=problem,
        optimum=1.04780690822,
        accuracy=5e-12,
        source="12 digits by collocation on several meshes that agree; not proven global",
        purpose="a test of nonlinear dynamics with a free end",
        table={10: 1.050146692071, 20: 1.048392751967, 50: 1.047900683140},
        table_accuracy=1e-12,
        recipe=SMOOTH,
    )


def scalar_flow(horizon: float = 1.0, target: float = 2.0) -> ClassicProblem:
    """Carry 1 to a target y > 0 by a linear flow.

        x' = w x, x(0) = 1, x(T) = y;   min Int w^2 = (ln y)^2 / T,   w = ln y / T

    The constraint is Int w = ln y, so that by Cauchy-Schwarz a constant w is best.

    Args:
        horizon: T.
        target: y.

    Raises:
        ValueError: a target that is not positive, which no flow reaches.
    """
    if not target > 0:
        raise ValueError(f"the target must be positive, as the flow is, got {target}.")
    x, w = ca.SX.sym("x"), ca.SX.sym("w")
    problem = OptimalControlProblem(
        state=x,
        control=w,
        dynamics=w * x,
        horizon=horizon,
        initial_state=[1.0],
        control_cost=w**2,
        terminal_constraints=[Constraint("target", x, target, target)],
    )
    optimum = math.log(target) ** 2 / horizon
    return ClassicProblem(
        name="scalar linear flow",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="closed form, see the docstring",
        purpose="a test of interpolation, whose cost is 1/T",
        table=dict.fromkeys(ANY_INTERVALS, optimum),
        costate=_constant_rate_costate(math.log(target) / horizon),
        control=lambda t: np.array([math.log(target) / horizon]),
    )


def soft_scalar_flow(horizon: float = 10.0) -> ClassicProblem:
    """The same flow with the target 2 in the cost.

        x' = w x, x(0) = 1;   min Int w^2 + (x(T) - 2)^2 = min_a a^2 / T + (e^a - 2)^2

    with a = Int w; the constant w = a / T is best for every a. The derivative in a,
    2 [a / T + (e^a - 2) e^a], is negative for a <= 0 and increases beyond, so that its root is
    the global minimum.

    Args:
        horizon: T.
    """
    x, w = ca.SX.sym("x"), ca.SX.sym("w")
    target = 2.0
    problem = OptimalControlProblem(
        state=x,
        control=w,
        dynamics=w * x,
        horizon=horizon,
        initial_state=[1.0],
        control_cost=w**2,
        terminal_cost=(x - target) ** 2,
    )

    def slope(a: float) -> float:
        return a / horizon + (math.exp(a) - target) * math.exp(a)

    exponent = float(brentq(slope, 0.0, math.log(target), xtol=1e-15, rtol=1e-15))
    optimum = exponent**2 / horizon + (math.exp(exponent) - target) ** 2
    return ClassicProblem(
        name="soft scalar linear flow",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="a scalar equation, see the docstring",
        purpose="a test of a terminal cost in place of a constraint",
        table=dict.fromkeys(ANY_INTERVALS, optimum),
        costate=_constant_rate_costate(exponent / horizon),
        control=lambda t: np.array([exponent / horizon]),
    )


def _constant_rate_costate(w: float) -> Callable[[float], Array]:
    """Costate p = -2 w / x of x' = w x, x(0) = 1, from dH/dw = 2 w + p x = 0."""
    return lambda t: np.array([[-2.0 * w * math.exp(-w * t)]])


def linear_network(
    target: ArrayLike = ((2.0, 0.5), (0.5, 1.0)), horizon: float = 1.0
) -> ClassicProblem:
    """Carry the columns of the identity to those of a matrix M by one linear flow.

        X' = W X, X(0) = I, X(T) = M;   min Int |W|_F^2 = |log M|_F^2 / T,   W = log M / T

    The columns are members that share the control W, stacked column by column. A W constant in
    time is optimal, so that the cost is the same for every number of layers.

    Args:
        target: M, symmetric positive definite.
        horizon: T.

    Raises:
        ValueError: M is not symmetric positive definite.
    """
    M = np.array(target, dtype=float)
    if M.ndim != 2 or M.shape[0] != M.shape[1] or not np.array_equal(M, M.T):
        raise ValueError(f"the target must be a symmetric matrix, got {M.tolist()}.")
    eigenvalues, vectors = np.linalg.eigh(M)
    if not eigenvalues[0] > 0:
        raise ValueError(
            f"the target must be positive definite, its smallest eigenvalue is {eigenvalues[0]:g}."
        )
    d = len(M)
    x, W, y = ca.SX.sym("x", d), ca.SX.sym("W", d, d), ca.SX.sym("y", d)
    problem = OptimalControlProblem(
        state=x,
        control=ca.vec(W),
        dynamics=W @ x,
        horizon=horizon,
        initial_state=np.eye(d),
        control_cost=ca.sumsqr(W),
        terminal_constraints=[Constraint("target", x - y)],
        data=y,
        member_data=M.T,
    )
    optimum = float((np.log(eigenvalues) ** 2).sum()) / horizon
    weights = vectors @ np.diag(np.log(eigenvalues)) @ vectors.T / horizon

    def costate(t: float) -> Array:
        # dH/dW = 2 W + P X^T = 0, one column of P per member; all of these matrices commute.
        return -2.0 * weights @ expm(-t * weights)

    return ClassicProblem(
        name="linear network",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="closed form for symmetric positive definite M, global",
        purpose="a test of an ensemble that shares its control",
        table=dict.fromkeys(ANY_INTERVALS, optimum),
        costate=costate,
        control=lambda t: weights.ravel(order="F"),
    )


def conjugate_point(horizon: float = 3.0) -> ClassicProblem:
    """A point that satisfies the first-order conditions for every T, but is a minimum for T < pi.

        x' = u, x(0) = x(T) = 0;   min 1/2 Int u^2 - x^2 = 0 for T <= pi, -inf for T > pi

    by Wirtinger's inequality: pi^2 Int x^2 <= T^2 Int x'^2.

    Args:
        horizon: T.
    """
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u,
        horizon=horizon,
        initial_state=[0.0],
        running_cost=(u**2 - x**2) / 2,
        terminal_constraints=[Constraint("return", x)],
    )
    is_minimum = horizon <= math.pi
    return ClassicProblem(
        name="conjugate point",
        problem=problem,
        optimum=0.0 if is_minimum else -math.inf,
        accuracy=EXACT,
        source="Gelfand and Fomin, Calculus of Variations (1963), on conjugate points",
        purpose="a test of the second-order conditions",
        table=dict.fromkeys((10, 20), 0.0) if is_minimum else {},
        costate=(lambda t: np.zeros((1, 1))) if is_minimum else None,
        control=(lambda t: np.zeros(1)) if is_minimum else None,
    )


def bryson_denham(limit: float = 1.0 / 9.0) -> ClassicProblem:
    """Reverse a unit velocity in unit time without going further than a limit l.

        x' = v, v' = u, (0, 1) to (0, -1), x <= l;   min 1/2 Int u^2

        J = 4 / (9 l)              l <= 1/6, x rests at l on an arc
        J = 2 + 6 (1 - 4 l)^2      1/6 <= l <= 1/4, x touches l at t = 1/2
        J = 2                      1/4 <= l, the limit is idle

    With N equal intervals, N even, the touching parabola costs 2 + 6 (1 - 4 l)^2 / (1 - 4/N^2), as
    for the double integrator on each half, and the idle one 2.

    Args:
        limit: l > 0.

    Raises:
        ValueError: a limit that is not positive, which the initial velocity passes at once.
    """
    if not limit > 0:
        raise ValueError(f"the limit must be positive, got {limit}.")
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=1.0,
        initial_state=[0.0, 1.0],
        control_cost=u**2 / 2,
        terminal_constraints=[Constraint("reversal", x, [0.0, -1.0], [0.0, -1.0])],
        state_bounds=([-np.inf, -np.inf], [limit, np.inf]),
    )
    switches: tuple[float, ...] = ()
    if limit >= 1 / 4:
        regime, optimum, table = "idle", 2.0, dict.fromkeys((2, 5, 10), 2.0)
    elif limit >= 1 / 6:
        regime, optimum = "touching", 2.0 + 6.0 * (1.0 - 4.0 * limit) ** 2
        switches = (0.5,)
        table = {N: 2.0 + 6.0 * (1.0 - 4.0 * limit) ** 2 / (1.0 - 4.0 / N**2) for N in (4, 10)}
    else:
        regime, optimum, table = "resting", 4.0 / (9.0 * limit), {}
        switches = (3.0 * limit, 1.0 - 3.0 * limit)

    def control(t: float) -> Array:
        t = min(t, 1.0 - t)
        if limit >= 1 / 4:
            return np.array([-2.0])
        if limit >= 1 / 6:
            return np.array([-2.0 - 6.0 * (1.0 - 4.0 * limit) * (1.0 - 4.0 * t)])
        return np.array([-2.0 / (3.0 * limit) * max(0.0, 1.0 - t / (3.0 * limit))])

    return ClassicProblem(
        name=f"Bryson-Denham, {regime}",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="Bryson, Denham and Dreyfus, AIAA J. 1 (1963), 2544-2550",
        purpose=f"a test of a bound on the state, {regime}",
        table=table,
        recipe=replace(SMOOTH, switches=switches),
        control=control,
    )


def minimal_time() -> ClassicProblem:
    """Move a unit mass by a unit length, from rest to rest, as fast as a unit force allows.

    x1' = x2, x2' = u, (0, 0) to (1, 0), |u| <= 1;   min T = 2,   u = 1, then -1 from t = 1

    A control constant on N equal intervals reaches this optimum if N is even.
    """
    x, u, T = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("T")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=T,
        initial_state=[0.0, 0.0],
        parameter=T,
        parameter_bounds=(0.1, 10.0),
        parameter_cost=T,
        control_bounds=(-1.0, 1.0),
        terminal_constraints=[Constraint("arrive", x, [1.0, 0.0], [1.0, 0.0])],
    )
    return ClassicProblem(
        name="minimal time",
        problem=problem,
        optimum=2.0,
        accuracy=EXACT,
        source="Bryson and Ho, Applied Optimal Control (1975)",
        purpose="a test of a free end time and of a control that switches between its bounds",
        table=dict.fromkeys((2, 10, 20), 2.0),
        # The last t with H = 1 + p1 x2 + p2 u = 0 and p2 zero at the switch.
        costate=lambda t: np.array([[-1.0, t - 1.0]]),
        control=lambda t: np.array([1.0 if t < 1.0 else -1.0]),
        horizon=2.0,
        recipe=Recipe(50, RK4, switches=(0.5,)),
    )


def minimal_time_too_short() -> ClassicProblem:
    """The same transfer in a time of 1.9, which no control achieves."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=1.9,
        initial_state=[0.0, 0.0],
        control_bounds=(-1.0, 1.0),
        terminal_constraints=[Constraint("arrive", x, [1.0, 0.0], [1.0, 0.0])],
    )
    return ClassicProblem(
        name="minimal time, too short",
        problem=problem,
        optimum=math.inf,
        accuracy=EXACT,
        source="the minimal time is 2",
        purpose="a test of an infeasible status that names the terminal condition",
    )


def brachistochrone(width: float = 10.0, drop: float = 5.0) -> ClassicProblem:
    """The curve of fastest descent from rest, a cycloid; in metres and seconds.

        x' = v sin a, y' = v cos a, v' = g cos a, from rest at 0 to (width, drop);   min T

        x = r (theta - sin theta), y = r (1 - cos theta), T = theta sqrt(r / g), a = theta(t) / 2

    Args:
        width: x(T) > 0, m.
        drop: y(T) > 0, m, downwards.
    """
    g = 9.80665  # standard gravity, m/s^2
    theta = float(
        brentq(
            lambda s: (s - math.sin(s)) * drop - (1 - math.cos(s)) * width,
            *(1e-3, 2 * math.pi),
            xtol=1e-15,
        )
    )
    radius = drop / (1 - math.cos(theta))
    optimum = theta * math.sqrt(radius / g)
    x, a, T = ca.SX.sym("x", 3), ca.SX.sym("a"), ca.SX.sym("T")
    problem = OptimalControlProblem(
        state=x,
        control=a,
        dynamics=ca.vertcat(x[2] * ca.sin(a), x[2] * ca.cos(a), g * ca.cos(a)),
        horizon=T,
        initial_state=[0.0, 0.0, 0.0],
        parameter=T,
        parameter_bounds=(0.1, 10.0),
        parameter_cost=T,
        control_bounds=(-math.pi, math.pi),
        terminal_constraints=[Constraint("arrive", x[:2], [width, drop], [width, drop])],
    )
    speed = math.sqrt(2 * g * drop)
    return ClassicProblem(
        name="brachistochrone",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="Johann Bernoulli, Acta Eruditorum (1696)",
        purpose="a test of a free end time with a smooth control, singular at the start",
        control=lambda t: np.array([theta * t / optimum / 2]),
        horizon=optimum,
        recipe=SMOOTH,
        guess=Guess(
            state=[[0.0, 0.0, 0.0], [width, drop, speed]],
            control=math.atan2(width, drop),
            parameter=2 * math.hypot(width, drop) / speed,
        ),
    )


def free_time_bolza() -> ClassicProblem:
    """A longer way is cheaper but takes longer.

    x' = T u on [0, T], x(0) = 0, x(T) = 1;   min T + 1/2 Int u^2 = (4/3) (3/2)^(1/4)

    A constant u = 1 / T^2 is best, and leaves T + 1 / (2 T^3), least at T = (3/2)^(1/4).
    """
    x, u, T = ca.SX.sym("x"), ca.SX.sym("u"), ca.SX.sym("T")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=T * u,
        horizon=T,
        initial_state=[0.0],
        parameter=T,
        parameter_bounds=(0.1, 10.0),
        parameter_cost=T,
        control_cost=u**2 / 2,
        terminal_constraints=[Constraint("arrive", x, 1.0, 1.0)],
    )
    horizon = 1.5**0.25
    optimum = 4 / 3 * horizon
    return ClassicProblem(
        name="free-time Bolza",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="closed form, see the docstring",
        purpose="a test of an end time that occurs in the dynamics too",
        table=dict.fromkeys(ANY_INTERVALS, optimum),
        costate=lambda t: np.array([[-1.0 / horizon**3]]),  # dH/du = u + p T = 0
        control=lambda t: np.array([1.0 / horizon**2]),
        horizon=horizon,
    )


def lunar_landing() -> ClassicProblem:
    """Land softly with as much fuel left as possible: free fall, then full thrust.

        h' = v, v' = -1 + F / m, m' = -F / c, 0 <= F <= 1.227, (1, -0.783, 1) to h = v = 0;
        max m(T)

    Thrust for a time s from mass 1, with k = F / c, changes the velocity by -s - c log(1 - k s)
    and the height by v s - s^2 / 2 + c [(1 - k s) log(1 - k s) + k s] / k. Zero velocity at the
    end gives the switch for every s, zero height then gives s.
    """
    height, velocity, thrust, exhaust = 1.0, -0.783, 1.227, 2.349
    k = thrust / exhaust

    def switch(s: float) -> float:
        return velocity - s - exhaust * math.log(1 - k * s)

    def final_height(s: float) -> float:
        fall, left = switch(s), 1 - k * s
        braked = (velocity - fall) * s - s**2 / 2 + exhaust * (left * math.log(left) + k * s) / k
        return height + velocity * fall - fall**2 / 2 + braked

    burn = float(brentq(final_height, 1.0, 1.5, xtol=1e-15))
    fall = switch(burn)
    optimum, horizon = 1 - k * burn, fall + burn
    x, F, T = ca.SX.sym("x", 3), ca.SX.sym("F"), ca.SX.sym("T")
    problem = OptimalControlProblem(
        state=x,
        control=F,
        dynamics=ca.vertcat(x[1], -1 + F / x[2], -F / exhaust),
        horizon=T,
        initial_state=[height, velocity, 1.0],
        terminal_cost=x[2],
        parameter=T,
        parameter_bounds=(0.1, 10.0),
        control_bounds=(0.0, thrust),
        terminal_constraints=[Constraint("landed", x[:2])],
        maximize=True,
    )
    return ClassicProblem(
        name="lunar landing",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="Meditch, IEEE Trans. Autom. Control 9 (1964), 477-484; a scalar equation",
        purpose="a test of a free end time with one switch, to be maximised",
        control=lambda t: np.array([0.0 if t < fall else thrust]),
        horizon=horizon,
        recipe=Recipe(50, RK4, switches=(fall / horizon,)),
        guess=Guess(
            state=[[1.0, velocity, 1.0], [0.0, 0.0, 0.4]], control=thrust / 2, parameter=1.5
        ),
    )


def batch_reactor() -> ClassicProblem:
    """Make as much as possible of an intermediate product, by the temperature u.

        x1' = -(u + u^2 / 2) x1, x2' = u x1, x(0) = (1, 0), T = 1, 0 <= u <= 5;   max x2(1) = p(0)

    with the costate p of x1: p' = (u + u^2 / 2) p - u, p(1) = 0, and u = min(5, 1 / p - 1) where
    the Hamiltonian is largest. On the bound p = 2/7 (1 - e^{-35/2 (1-t)}), up to 1/6; before that
    p' = -(1 - p)^2 / (2 p), so that 2 / (1 - p) + 2 log(1 - p) falls at unit rate.
    """

    def clock(p: float) -> float:
        return 2 / (1 - p) + 2 * math.log(1 - p)

    junction = 1.0 - math.log(12 / 5) / 17.5

    def price(t: float) -> float:
        if t >= junction:
            return 2 / 7 * (1 - math.exp(-17.5 * (1 - t)))
        elapsed = clock(1 / 6) + junction - t
        return float(brentq(lambda p: clock(p) - elapsed, 1 / 6, 0.9, xtol=1e-15))

    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(-(u + u**2 / 2) * x[0], u * x[0]),
        horizon=1.0,
        initial_state=[1.0, 0.0],
        terminal_cost=x[1],
        control_bounds=(0.0, 5.0),
        maximize=True,
    )
    return ClassicProblem(
        name="batch reactor",
        problem=problem,
        optimum=price(0.0),
        accuracy=EXACT,
        source="Ray, Advanced Process Control (1981); by a scalar equation",
        purpose="a test of a maximum with a control that ends on its bound",
        table={10: 0.572242065818, 20: 0.573297629276},
        table_accuracy=2e-12,
        costate=lambda t: np.array([[price(t), 1.0]]),
        control=lambda t: np.array([min(5.0, 1 / max(price(t), 1e-9) - 1)]),
        recipe=replace(SMOOTH, switches=(junction,)),
        guess=Guess(state=[[1.0, 0.0], [0.0, 0.5]], control=[[1.0], [2.0]]),
    )


def goddard() -> ClassicProblem:
    """Carry a sounding rocket as high as possible: full thrust, a singular arc, coasting.

        h' = v, v' = (F - D) / m - 1 / h^2, m' = -2 F, D = 310 v^2 exp(-500 (h - 1)),
        0 <= F <= 3.5, h >= 1, v >= 0, (1, 0, 1) to m = 0.6;   max h(T)

    A control free at every collocation point overshoots on the singular arc; one per interval
    does not.
    """
    x, F, T = ca.SX.sym("x", 3), ca.SX.sym("F"), ca.SX.sym("T")
    h, v, m = x[0], x[1], x[2]
    drag = 310 * v**2 * ca.exp(-500 * (h - 1))
    problem = OptimalControlProblem(
        state=x,
        control=F,
        dynamics=ca.vertcat(v, (F - drag) / m - 1 / h**2, -2 * F),
        horizon=T,
        initial_state=[1.0, 0.0, 1.0],
        terminal_cost=h,
        parameter=T,
        parameter_bounds=(0.02, 1.0),
        control_bounds=(0.0, 3.5),
        state_bounds=([1.0, 0.0, 0.6], [2.0, 1.0, 1.0]),
        terminal_constraints=[Constraint("burnt out", m, 0.6, 0.6)],
        maximize=True,
    )
    horizon = 0.198856
    return ClassicProblem(
        name="Goddard rocket",
        problem=problem,
        optimum=1.0128369183,
        accuracy=1e-10,
        source="Goddard (1919); 11 digits by collocation on several meshes; not proven global",
        purpose="a test of a singular arc between full thrust and coasting",
        horizon=horizon,
        recipe=Recipe(100, GAUSS_LEGENDRE_6, switches=(0.0235097 / horizon, 0.0726707 / horizon)),
        guess=Guess(
            state=[[1.0, 0.0, 1.0], [1.005, 0.05, 0.8], [1.01, 0.0, 0.6]],
            control=1.0,
            parameter=0.2,
        ),
    )


CLASSICS = (
    double_integrator(),
    hypersensitive(),
    van_der_pol(),
    scalar_flow(),
    soft_scalar_flow(),
    linear_network(),
    conjugate_point(),
    bryson_denham(),
    bryson_denham(1.0 / 5.0),
    bryson_denham(3.0 / 10.0),
    minimal_time(),
    brachistochrone(),
    free_time_bolza(),
    lunar_landing(),
    batch_reactor(),
    goddard(),
)
