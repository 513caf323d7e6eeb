"""Control problems whose optimum meets a constraint of the state, or switches, with exact optima.

The solutions consist of arcs inside the limit and arcs along it, and every optimum is a formula,
or follows from scalar equations. Conventions are those of `problems.classic`. All quantities are
dimensionless.
"""

from __future__ import annotations

import math
from dataclasses import replace

import casadi as ca
import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq

from ocp.guess import Guess
from ocp.problem import Constraint, OptimalControlProblem
from ocp.runge_kutta import GAUSS_LEGENDRE_6
from problems.classic import EXACT, SMOOTH, ClassicProblem, Recipe


def gentlest_transfer(limit: float = 1.2) -> ClassicProblem:
    """Move a unit mass by a unit length in unit time, from rest to rest, no faster than V.

        x1' = x2, x2' = u, (-1, 0) to (0, 0), x2 <= V;   min 1/2 Int u^2 = 4 V^2 / (3 tau)

    The speed rises along a parabola up to V at tau = 3/2 (1 - 1/V), and falls likewise.

    Args:
        limit: V, between 1, which is needed, and 3/2, beyond which it is not felt.

    Raises:
        ValueError: a limit outside that interval.
    """
    if not 1.0 < limit <= 1.5:
        raise ValueError(f"the limit of the speed must be above 1 and at most 1.5, got {limit}.")
    tau = 1.5 * (1.0 - 1.0 / limit)

    def control(t: float) -> np.ndarray:
        rising = max(0.0, 1.0 - min(t, 1.0 - t) / tau)
        return np.array([2 * limit / tau * math.copysign(rising, 0.5 - t)])

    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=1.0,
        initial_state=[-1.0, 0.0],
        control_cost=u**2 / 2,
        state_bounds=([-np.inf, -np.inf], [np.inf, limit]),
        terminal_constraints=[Constraint("rest", x)],
    )
    return ClassicProblem(
        name=f"gentlest transfer, v <= {limit:g}",
        problem=problem,
        optimum=4 * limit**2 / (3 * tau),
        accuracy=EXACT,
        source="closed form, see the docstring",
        purpose="a test of a bound on the state that is entered smoothly",
        control=control,
        recipe=replace(SMOOTH, switches=(tau, 1.0 - tau)),
    )


def fastest_transfer(
    up: float = 1.0, down: float = 1.0, distance: float = 6.0, limit: float = 2.0
) -> ClassicProblem:
    """Move a unit mass over a distance from rest to rest as fast as thrust and brake allow.

        x1' = x2, x2' = u, (0, 0) to (d, 0), -b <= u <= a, x2 <= V;   min T

    With r = V (1/a + 1/b), the time for speeding up and braking, in which r V / 2 is gone,
    T = r + (d - r V / 2) / V; where that way is longer than d, T = sqrt(2 d (a + b) / (a b)).

    Args:
        up: a, the largest thrust.
        down: b, the hardest brake.
        distance: d.
        limit: V; infinite for none.
    """
    ramps = limit * (1 / up + 1 / down)
    if ramps * limit / 2 < distance:
        horizon = ramps + (distance - ramps * limit / 2) / limit
        switches: tuple[float, ...] = (limit / up / horizon, 1 - limit / down / horizon)
    else:
        horizon = math.sqrt(2 * distance * (up + down) / (up * down))
        switches = (down / (up + down),)
    bounded = math.isfinite(limit)
    x, u, T = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("T")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=T,
        initial_state=[0.0, 0.0],
        parameter=T,
        parameter_bounds=(0.0, np.inf),
        parameter_cost=T,
        control_bounds=(-down, up),
        state_bounds=([-np.inf, -np.inf], [np.inf, limit]),
        terminal_constraints=[Constraint("arrive", x, [distance, 0.0], [distance, 0.0])],
    )
    return ClassicProblem(
        name=f"fastest transfer, {up:g}, {down:g}, {distance:g}"
        + (f", v <= {limit:g}" if bounded else ""),
        problem=problem,
        optimum=horizon,
        accuracy=EXACT,
        source="closed form, see the docstring",
        purpose="a test of switches, and of a bound on the state between them",
        horizon=horizon,
        recipe=Recipe(20, GAUSS_LEGENDRE_6, switches=switches),
    )


def around_a_disc(radius: float = 0.5) -> ClassicProblem:
    """Go around a disc at the origin, from (-1, 0) to (1, 0) in unit time.

        x' = u in the plane, |x| >= r;   min 1/2 Int |u|^2 = L^2 / 2,

    with L = 2 sqrt(1 - r^2) + 2 r asin r, the length of two tangents and the arc between them.

    Args:
        radius: r < 1.
    """
    tangent, angle = math.sqrt(1 - radius**2), math.asin(radius)
    length = 2 * (tangent + radius * angle)
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u", 2)
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u,
        horizon=1.0,
        initial_state=[-1.0, 0.0],
        control_cost=ca.sumsqr(u) / 2,
        path_constraints=[Constraint("disc", ca.sumsqr(x), radius**2, np.inf)],
        terminal_constraints=[Constraint("arrive", x, [1.0, 0.0], [1.0, 0.0])],
    )
    return ClassicProblem(
        name=f"around a disc of radius {radius:g}",
        problem=problem,
        optimum=length**2 / 2,
        accuracy=EXACT,
        source="closed form, see the docstring",
        purpose="a test of a curved limit of the state",
        recipe=Recipe(
            20,
            GAUSS_LEGENDRE_6,
            control_per_stage=True,
            switches=(tangent / length, 1 - tangent / length),
        ),
        guess=Guess(state=[[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
    )


def over_a_wall(width: float = 0.05, place: float = 0.3) -> ClassicProblem:
    """Pass over a narrow wall, from 0 to 0 in unit time.

        x' = u, x(0) = x(1) = 0, x(t) >= g(t) = exp(-((t - c) / w)^2);   min Int u^2

    along the tangents to g from (0, 0) and (1, 0), and along g between the points of contact.

    Args:
        width: w.
        place: c.
    """

    def height(t: float) -> float:
        return math.exp(-(((t - place) / width) ** 2))

    def slope(t: float) -> float:
        return -2 * (t - place) / width**2 * height(t)

    steepest = width / math.sqrt(2.0)
    left = float(brentq(lambda t: height(t) - t * slope(t), place - steepest, place, xtol=1e-15))
    right = float(
        brentq(lambda t: height(t) + (1 - t) * slope(t), place, place + steepest, xtol=1e-15)
    )
    top = float(quad(lambda t: slope(t) ** 2, left, right, epsabs=1e-13, epsrel=1e-13)[0])
    x, u, t = ca.SX.sym("x"), ca.SX.sym("u"), ca.SX.sym("t")
    wall = ca.exp(-(((t - place) / width) ** 2))
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u,
        horizon=1.0,
        initial_state=[0.0],
        control_cost=u**2,
        path_constraints=[Constraint("wall", x - wall, 0.0, np.inf)],
        terminal_constraints=[Constraint("return", x)],
        time=t,
    )
    return ClassicProblem(
        name=f"over a wall of width {width:g}",
        problem=problem,
        optimum=left * slope(left) ** 2 + (1 - right) * slope(right) ** 2 + top,
        accuracy=1e-12,
        source="two tangents by scalar equations, and a quadrature to 13 digits",
        purpose="a test of a limit of the state that moves with time",
        control=lambda s: np.array([slope(min(max(s, left), right))]),
        # Several intervals along the wall, where it bends most.
        recipe=replace(SMOOTH, switches=tuple(np.linspace(left, right, 6).tolist())),
    )


CONSTRAINED = (
    gentlest_transfer(),
    gentlest_transfer(1.3),
    fastest_transfer(),
    fastest_transfer(3.0, 0.7, 5.0, math.inf),
    around_a_disc(),
    over_a_wall(),
)
