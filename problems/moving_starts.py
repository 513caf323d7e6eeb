"""Problems with a free end time whose start is in motion, mostly away from the target.

For a linear system x' = A x + b u, |u| <= 1, a control with values -1 and 1 that obeys Pontryagin's
principle arrives first; its durations follow from the arrival,

    x_{k+1} = e^{A d_k} x_k + s_k Int_0^{d_k} e^{A r} b dr,    x_M = 0,

and the other optima from quadratures. All quantities are dimensionless but those of the
brachistochrone. Every problem is to be solved without a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import casadi as ca
import numpy as np
from scipy.linalg import expm
from scipy.optimize import brentq, fsolve

from ocp.expressions import Condition, HorizonExpression, along_path, at_end, at_start, integral
from ocp.pose import pose
from ocp.problem import OptimalControlProblem
from ocp.runge_kutta import GAUSS_LEGENDRE_4
from problems.classic import EXACT, SMOOTH, Array, ClassicProblem, Recipe

ROOT = 1e-11  # relative accuracy of roots found by iteration
PONTRYAGIN = "Pontryagin, Boltyanskii, Gamkrelidze and Mishchenko (1962), chapter 3"
GRAVITY = 9.80665  # m/s^2


def double_integrator(position: float, velocity: float) -> ClassicProblem:
    """Minimal time of x'' = u, |u| <= 1, to rest at 0.

    It is v + 2 sqrt(v^2/2 + q) where q + v |v| / 2 > 0, and mirrored elsewhere.
    """
    side = 1.0 if position + velocity * abs(velocity) / 2 > 0 else -1.0
    root = math.sqrt(velocity**2 / 2 + side * position)
    durations = [side * velocity + root, root]
    return _to_rest(
        f"double integrator from ({position:g}, {velocity:g})",
        [[0.0, 1.0], [0.0, 0.0]],
        [position, velocity],
        durations,
        EXACT,
    )


def oscillator(velocity: float = 1.0) -> ClassicProblem:
    """Minimal time of x'' = -x + u from (0, v): two arcs of circles around (-1, 0) and (1, 0)."""
    x = velocity**2 / 4
    y = math.sqrt(1.0 - (x - 1.0) ** 2)
    durations = [math.atan2(velocity, 1.0) + math.atan2(y, x + 1.0), math.atan2(y, 1.0 - x)]
    return _to_rest("oscillator", [[0.0, 1.0], [-1.0, 0.0]], [0.0, velocity], durations, EXACT)


def damped_oscillator(velocity: float = 1.5, damping: float = 0.3) -> ClassicProblem:
    """Minimal time of x'' = -x - 2 c x' + u from (0, v)."""
    matrix = [[0.0, 1.0], [-1.0, -2.0 * damping]]
    start = [0.0, velocity]
    return _to_rest("damped oscillator", matrix, start, _durations(matrix, start, [1.2, 0.8]))


def friction(velocity: float = 2.0) -> ClassicProblem:
    """Minimal time of x'' = -x' + u from (0, v)."""
    matrix, start = [[0.0, 1.0], [0.0, -1.0]], [0.0, velocity]
    return _to_rest("friction", matrix, start, _durations(matrix, start, [2.0, 0.6]))


def triple_integrator(velocity: float = 1.0) -> ClassicProblem:
    """Minimal time of x''' = u from (0, v, 0)."""
    matrix = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    start = [0.0, velocity, 0.0]
    return _to_rest("triple integrator", matrix, start, _durations(matrix, start, [1.6, 2.2, 0.6]))


def arrival_in_motion() -> ClassicProblem:
    """Minimal time of x'' = u, |u| <= 1, from (0, 2) to (0, 1): 3 + sqrt(10).

    The control -1 until the velocity is -a, then 1; (4 - a^2) / 2 + (1 - a^2) / 2 = 0.
    """
    a = math.sqrt(2.5)
    x, u, horizon = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("T")
    problem = _posed(x, u, [x[1], u], horizon, at_end(horizon), [0, 2], at_end(x) == [0, 1])
    switch = (2.0 + a) / (3.0 + 2.0 * a)
    return _classic("arrival in motion", problem, 3.0 + 2.0 * a, switches=(switch,))


def planar() -> ClassicProblem:
    """Two double integrators with a bound each: the slower one, from (1, 2), says when."""
    x, u, horizon = ca.SX.sym("x", 4), ca.SX.sym("u", 2), ca.SX.sym("T")
    rates = [x[2], x[3], u[0], u[1]]
    problem = _posed(x, u, rates, horizon, at_end(horizon), [1, -0.5, 2, 1], at_end(x) == 0)
    slow = double_integrator(1.0, 2.0)
    return _classic("planar double integrator", problem, slow.optimum, slow.recipe.switches)


def effort_and_time(velocity: float = 2.0) -> ClassicProblem:
    """The cost T + 1/2 Int u^2, x'' = u from (0, v) to rest at 0: 2 sqrt(2) v at T = sqrt(2) v.

    With T fixed the effort is 2 v^2 / T.
    """
    x, u, horizon = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("T")
    cost = at_end(horizon) + integral(u**2 / 2)
    start = [0, velocity]
    problem = _posed(x, u, [x[1], u], horizon, cost, start, at_end(x) == 0, bound=math.inf)
    optimum = 2.0 * math.sqrt(2.0) * velocity
    return _classic("effort and time", problem, optimum, recipe=SMOOTH, horizon=optimum / 2)


def rising_rocket(height: float = 0.5, velocity: float = 0.5) -> ClassicProblem:
    """The lunar landing of `problems.classic` from a rocket that still rises: it falls, then burns.

    With full thrust F from mass 1 at speed v: v(t) = v - t - c log m, m = 1 - F t / c.
    """
    thrust, exhaust = 1.227, 2.349
    h, v, m, force, horizon = (ca.SX.sym(name) for name in ("h", "v", "m", "F", "T"))
    x = ca.vertcat(h, v, m)

    def arrival(durations: Array) -> list[float]:
        fall, burn = durations
        mass = 1.0 - thrust * burn / exhaust
        speed = velocity - fall
        place = height + velocity * fall - fall**2 / 2
        ratio = exhaust / thrust
        burnt = ratio * exhaust * (mass * math.log(mass) - mass + 1.0)  # Int -c log m dt
        return [
            speed - burn - exhaust * math.log(mass),
            place + speed * burn - burn**2 / 2 + burnt,
        ]

    fall, burn = fsolve(arrival, [1.0, 1.0], xtol=1e-14)
    problem = pose(
        state=x,
        control=force,
        dynamics=[v, -1 + force / m, -force / exhaust],
        horizon=horizon,
        maximize=at_end(m),
        subject_to=[
            at_start(x) == [height, velocity, 1],
            at_end(ca.vertcat(h, v)) == 0,
            along_path(force).within(0, thrust),
        ],
    )
    optimum, time = 1.0 - thrust * burn / exhaust, fall + burn
    source = "Meditch, IEEE Trans. Autom. Control 9 (1964), 477-484"
    recipe = Recipe(40, GAUSS_LEGENDRE_4, switches=(fall / time,))
    return _classic("rising rocket", problem, optimum, recipe=recipe, horizon=time, source=source)


def brachistochrone(speed: float = 3.0, right: float = 4.0, down: float = 0.5) -> ClassicProblem:
    """From a given speed: a cycloid that starts v^2 / (2 g) below its cusp."""
    x, y, v, slope, horizon = (ca.SX.sym(name) for name in ("x", "y", "v", "a", "T"))
    state = ca.vertcat(x, y, v)
    above = speed**2 / (2 * GRAVITY)

    def angles(radius: float) -> tuple[float, float]:
        """Down to the lowest point and up again."""
        return math.acos(1 - above / radius), 2 * math.pi - math.acos(1 - (above + down) / radius)

    def reach(radius: float) -> float:
        first, last = angles(radius)
        return radius * (last - math.sin(last) - first + math.sin(first)) - right

    radius = brentq(reach, (above + down) / 2 * (1 + 1e-12), 10.0, xtol=1e-15)
    first, last = angles(radius)
    problem = pose(
        state=state,
        control=slope,
        dynamics=[v * ca.sin(slope), v * ca.cos(slope), GRAVITY * ca.cos(slope)],
        horizon=horizon,
        minimize=at_end(horizon),
        subject_to=[
            at_start(state) == [0, 0, speed],
            at_end(ca.vertcat(x, y)) == [right, down],
            along_path(slope).within(0, math.pi),
        ],
    )
    optimum = math.sqrt(radius / GRAVITY) * (last - first)
    return _classic(
        "brachistochrone with initial speed", problem, optimum, recipe=SMOOTH, source="Bernoulli"
    )


def dubins(right: float = -3.0, up: float = 1.0) -> ClassicProblem:
    """A car that looks away from its target: x' = cos a, y' = sin a, a' = u, |u| <= 1.

    To a place, with any heading at the end: a turn, then a straight line. The turn to the left has
    its centre at (0, 1); the line is the tangent through the target.
    """
    x, y, heading, u, horizon = (ca.SX.sym(name) for name in ("x", "y", "a", "u", "T"))
    state = ca.vertcat(x, y, heading)
    distance = math.hypot(right, up - 1.0)
    line = math.sqrt(distance**2 - 1.0)
    to_target = math.atan2(up - 1.0, right)
    # The radius to the point of contact is at acos(1 / distance) to the right of the target.
    turn = (to_target - math.acos(1.0 / distance) + math.pi / 2) % (2 * math.pi)
    problem = pose(
        state=state,
        control=u,
        dynamics=[ca.cos(heading), ca.sin(heading), u],
        horizon=horizon,
        minimize=at_end(horizon),
        subject_to=[
            at_start(state) == 0,
            at_end(ca.vertcat(x, y)) == [right, up],
            along_path(u).within(-1, 1),
        ],
    )
    time = turn + line
    source = "Dubins, Amer. J. Math. 79 (1957), 497-516"
    return _classic("Dubins car", problem, time, (turn / time,), source=source)


def zermelo(right: float = -2.0, up: float = 1.0) -> ClassicProblem:
    """A boat of speed 1 on a current w that carries it away: |d - w T| = T."""
    x, y, heading, horizon = (ca.SX.sym(name) for name in ("x", "y", "a", "T"))
    state, current, way = ca.vertcat(x, y), np.array([0.6, 0.3]), np.array([right, up])
    problem = pose(
        state=state,
        control=heading,
        dynamics=[ca.cos(heading) + current[0], ca.sin(heading) + current[1]],
        horizon=horizon,
        minimize=at_end(horizon),
        subject_to=[at_start(state) == 0, at_end(state) == way.tolist()],
    )
    a, b, c = 1.0 - current @ current, current @ way, -(way @ way)
    optimum = (-b + math.sqrt(b**2 - a * c)) / a
    source = "Zermelo, Z. Angew. Math. Mech. 11 (1931), 114-124"
    return _classic("Zermelo", problem, optimum, source=source)


def _to_rest(
    name: str,
    matrix: Sequence[Sequence[float]],
    start: Sequence[float],
    durations: Sequence[float],
    accuracy: float = ROOT,
) -> ClassicProblem:
    """Minimal time of x' = A x + e_n u to 0, with the durations of its arcs."""
    x, u, horizon = ca.SX.sym("x", len(start)), ca.SX.sym("u"), ca.SX.sym("T")
    rates = ca.mtimes(ca.DM(matrix), x)
    rates[-1] += u
    problem = _posed(x, u, rates, horizon, at_end(horizon), start, at_end(x) == 0)
    time = math.fsum(durations)
    switches = tuple((np.cumsum(durations)[:-1] / time).tolist())
    return _classic(name, problem, time, switches, accuracy=accuracy)


def _durations(
    matrix: Sequence[Sequence[float]], start: Sequence[float], guess: Sequence[float]
) -> list[float]:
    """Of arcs with controls -1, 1, -1, ... that lead from the start to 0."""
    n = len(start)
    augmented = np.zeros((n + 1, n + 1))
    augmented[:n, :n] = matrix

    def arrival(durations: Array) -> Array:
        x, sign = np.append(start, 1.0), -1.0
        for duration in durations:
            augmented[n - 1, n] = sign
            x, sign = expm(augmented * duration) @ x, -sign
        return np.asarray(x[:n])

    found, _, code, words = fsolve(arrival, guess, xtol=1e-14, full_output=True)
    assert code == 1 or np.abs(arrival(found)).max() < ROOT, words
    assert (found > 0).all(), f"durations {found} of no trajectory"
    return [float(duration) for duration in found]


def _posed(
    state: ca.SX,
    control: ca.SX,
    rates: Sequence[ca.SX] | ca.SX,
    horizon: ca.SX,
    cost: HorizonExpression,
    start: Sequence[float],
    end: Condition,
    bound: float = 1.0,
) -> OptimalControlProblem:
    conditions = [at_start(state) == start, end, along_path(control).within(-bound, bound)]
    return pose(
        state=state,
        control=control,
        dynamics=rates,
        horizon=horizon,
        minimize=cost,
        subject_to=conditions,
    )


def _classic(
    name: str,
    problem: OptimalControlProblem,
    optimum: float,
    switches: tuple[float, ...] = (),
    recipe: Recipe | None = None,
    horizon: float | None = None,
    source: str = PONTRYAGIN,
    accuracy: float = ROOT,
) -> ClassicProblem:
    return ClassicProblem(
        name=name,
        problem=problem,
        optimum=float(optimum),
        accuracy=accuracy,
        source=source,
        purpose="free end time with a start in motion",
        horizon=float(optimum if horizon is None else horizon),
        recipe=recipe or Recipe(40, GAUSS_LEGENDRE_4, switches=switches),
    )


MOVING_STARTS = (
    double_integrator(1.0, 2.0),
    double_integrator(0.0, 2.0),
    double_integrator(-0.5, -1.5),
    oscillator(),
    damped_oscillator(),
    friction(),
    triple_integrator(),
    arrival_in_motion(),
    planar(),
    effort_and_time(),
    rising_rocket(),
    brachistochrone(),
    dubins(),
    zermelo(),
)
