"""Further control problems from the literature, with their known solutions.

Most are solved by formulas, which are evaluated here rather than quoted; the docstring of each
says how. The rest carry digits, found by collocation with two methods on several grids that agree.
Conventions are those of `problems.classic`. All quantities are dimensionless.
"""

from __future__ import annotations

import math

import casadi as ca
import numpy as np
from scipy.linalg import expm
from scipy.optimize import brentq

from ocp.guess import Guess
from ocp.problem import FREE, Constraint, OptimalControlProblem
from ocp.runge_kutta import GAUSS_LEGENDRE_6, RK4
from problems.classic import EXACT, SMOOTH, Array, ClassicProblem, Recipe

# Linear-quadratic problems


def hager() -> ClassicProblem:
    """The example by which Hager shows that a zero weight ruins a method.

    x' = x / 2 + u, x(0) = 1;   min 1/2 Int_0^1 2 x^2 + u^2

    x = (2 e^{3t} + e^3) / (e^{3t/2} (2 + e^3)),  u = 2 (e^{3t} - e^3) / (e^{3t/2} (2 + e^3)),
    p = -u,   J = p(0) x(0) / 2 = (e^3 - 1) / (e^3 + 2)
    """
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=x / 2 + u,
        horizon=1.0,
        initial_state=[1.0],
        running_cost=x**2,
        control_cost=u**2 / 2,
    )
    cube = math.exp(3.0)

    def control(t: float) -> Array:
        scale = math.exp(1.5 * t) * (2 + cube)
        return np.array([2 * (math.exp(3 * t) - cube) / scale])

    return ClassicProblem(
        name="Hager",
        problem=problem,
        optimum=(cube - 1) / (cube + 2),
        accuracy=EXACT,
        source="Hager, Numer. Math. 87 (2000), 247-282",
        purpose="a test of the order with one control per stage",
        recipe=SMOOTH,
        costate=lambda t: -control(t)[None, :],
        control=control,
    )


def regulator(horizon: float = 5.0) -> ClassicProblem:
    """Bring a double integrator to rest at a quadratic cost.

        x1' = x2, x2' = u, x(0) = (1, 0);   min 1/2 Int x1^2 + u^2 = 1/2 x(0)^T P x(0)

    State and costate follow the linear Hamiltonian system; p(T) = 0 gives P. On N equal intervals
    with constant controls the discrete Riccati recursion, with matrices by Van Loan's method, gives
    the table.

    Args:
        horizon: T.
    """
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    start = np.array([1.0, 0.0])
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=horizon,
        initial_state=start,
        running_cost=x[0] ** 2 / 2,
        control_cost=u**2 / 2,
    )
    A, B = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0], [1.0]])
    Q, R = np.diag([1.0, 0.0]), np.eye(1)
    hamiltonian = np.block([[A, -B @ B.T], [-Q, -A.T]])
    flow = expm(horizon * hamiltonian)
    first = -np.linalg.solve(flow[2:, 2:], flow[2:, :2]) @ start

    def costate(t: float) -> Array:
        return (expm(t * hamiltonian) @ np.concatenate([start, first]))[None, 2:]

    return ClassicProblem(
        name="regulator",
        problem=problem,
        optimum=float(first @ start) / 2,
        accuracy=EXACT,
        source="Kalman, Bol. Soc. Mat. Mex. 5 (1960), 102-119; Van Loan (1978)",
        purpose="a test of the Riccati equation, continuous and discrete",
        table={N: sampled_regulator_cost(A, B, Q, R, start, horizon, N) for N in (5, 10, 20)},
        recipe=SMOOTH,
        costate=costate,
        control=lambda t: -costate(t)[0, 1:],
    )


def sampled_regulator_cost(
    A: Array, B: Array, Q: Array, R: Array, start: Array, horizon: float, intervals: int
) -> float:
    """Minimum of 1/2 Int x^T Q x + u^T R u for x' = A x + B u, u constant on equal intervals.

    With z = (x, u) and z' = G z on an interval, Int e^{G^T t} C e^{G t} dt by a block exponential.
    Source: Van Loan, IEEE Trans. Autom. Control 23 (1978), 395-404.
    """
    n, m = B.shape
    G = np.block([[A, B], [np.zeros((m, n + m))]])
    C = np.block([[Q, np.zeros((n, m))], [np.zeros((m, n)), R]])
    block = expm(horizon / intervals * np.block([[-G.T, C], [np.zeros_like(C), G]]))
    flow = block[n + m :, n + m :]
    cost = flow.T @ block[: n + m, n + m :]
    value = np.zeros((n, n))
    for _ in range(intervals):
        total = cost + flow[:n].T @ value @ flow[:n]
        gain = np.linalg.solve(total[n:, n:], total[n:, :n])
        value = total[:n, :n] - total[:n, n:] @ gain
    return float(start @ value @ start) / 2


def periodic_tracking() -> ClassicProblem:
    """Follow a cosine at a price on the velocity, coming back to where one chose to start.

        x' = u, x(0) = x(2 pi) free;   min 1/2 Int_0^{2 pi} (x - cos t)^2 + u^2 = pi / 4

    The periodic solution of x'' = x - cos t is x = cos(t) / 2.
    """
    x, u, start, t = (ca.SX.sym(name) for name in ("x", "u", "start", "t"))
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u,
        horizon=2 * math.pi,
        initial_state=[FREE],
        running_cost=(x - ca.cos(t)) ** 2 / 2,
        control_cost=u**2 / 2,
        terminal_constraints=[Constraint("periodic", x - start)],
        time=t,
        initial=start,
    )
    return ClassicProblem(
        name="periodic tracking",
        problem=problem,
        optimum=math.pi / 4,
        accuracy=EXACT,
        source="closed form, see the docstring",
        purpose="a test of a free initial state, coupled to the end, in a problem with time",
        recipe=SMOOTH,
        costate=lambda t: np.array([[math.sin(t) / 2]]),
        control=lambda t: np.array([-math.sin(t) / 2]),
    )


def triple_integrator(limit: float = 0.23) -> ClassicProblem:
    """A bound on the state of order three, which is touched but never followed.

        x''' = u, (0, 1, -2) to (0, -1, -2) in unit time, x <= l;   min 1/2 Int u^2

    Without the bound u = 0 and x = t - t^2, up to 1/4. For l a little below, the bound acts at the
    midpoint only. The three conditions at the end and x(1/2) = l are functionals Int k_i u = d_i,
    so that u = sum_i y_i k_i and J = 1/2 d^T G^{-1} d with the Gram matrix G = (Int k_i k_j).

    Args:
        limit: l, from 0.2 to 1/4.

    Raises:
        ValueError: a limit outside, where the solution has another shape.
    """
    if not 0.2 <= limit <= 0.25:
        raise ValueError(f"the limit must be between 0.2 and 0.25, got {limit}.")
    x, u = ca.SX.sym("x", 3), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], x[2], u),
        horizon=1.0,
        initial_state=[0.0, 1.0, -2.0],
        control_cost=u**2 / 2,
        terminal_constraints=[Constraint("reversal", x, [0.0, -1.0, -2.0], [0.0, -1.0, -2.0])],
        state_bounds=(-np.inf, [limit, np.inf, np.inf]),
    )

    def kernels(t: Array) -> Array:
        late = np.maximum(0.5 - t, 0.0)
        return np.array([(1 - t) ** 2 / 2, 1 - t, np.ones_like(t), late**2 / 2])

    nodes, weights = np.polynomial.legendre.leggauss(6)  # exact for the products, degree 4
    points = np.concatenate([(nodes + 1) / 4, (nodes + 3) / 4])
    values = kernels(points)
    gram = (values * np.tile(weights / 4, 2)) @ values.T
    target = np.array([0.0, 0.0, 0.0, limit - 0.25])
    multipliers = np.linalg.solve(gram, target)
    return ClassicProblem(
        name="triple integrator",
        problem=problem,
        optimum=float(target @ multipliers) / 2,
        accuracy=1e-11,  # the Gram matrix has a condition of 1e5
        source="after Jacobson, Lele and Speyer, J. Math. Anal. Appl. 35 (1971), 255-284",
        purpose="a test of a bound on the state of order three, with a touch point",
        control=lambda t: multipliers @ kernels(np.array([t])),
        recipe=Recipe(30, GAUSS_LEGENDRE_6, control_per_stage=True, switches=(0.5,)),
    )


# Nonlinear problems solved by quadrature


def cubic_hypersensitive(
    horizon: float = 20.0, initial: float = 1.5, terminal: float = 1.0
) -> ClassicProblem:
    """Nonlinear turnpike: layers at both ends of a long rest at 0.

        x' = -x^3 + u, x(0) and x(T) given;   min 1/2 Int x^2 + u^2

    In the limit of long horizons the Hamiltonian is 0: x^2 / 2 - x^3 p - p^2 / 2 = 0. The two roots
    p = -x^3 +- x sqrt(x^4 + 1) are the slopes of the costs to enter and, negated, to leave rest,

        J = W(x(0)^2) - x(0)^4 / 4 + W(x(T)^2) + x(T)^4 / 4,

    with 4 W(y) = y sqrt(y^2 + 1) + arsinh y, up to e^{-2T}, below rounding from T = 20 on.

    Args:
        horizon: T.
        initial: x(0).
        terminal: x(T).

    Raises:
        ValueError: a horizon below 20.
    """
    if horizon < 20:
        raise ValueError(f"the formula needs a horizon of at least 20, got {horizon}.")
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=-(x**3) + u,
        horizon=horizon,
        initial_state=[initial],
        running_cost=x**2 / 2,
        control_cost=u**2 / 2,
        terminal_constraints=[Constraint("end", x, terminal, terminal)],
    )

    def half(y: float) -> float:
        return (y * math.hypot(y, 1) + math.asinh(y)) / 4

    return ClassicProblem(
        name="cubic hypersensitive",
        problem=problem,
        optimum=half(initial**2) - initial**4 / 4 + half(terminal**2) + terminal**4 / 4,
        accuracy=EXACT,
        source="Rao and Mease, Automatica 35 (1999), 633-642; by the Hamilton-Jacobi equation",
        purpose="a test of nonlinear boundary layers, hopeless for single shooting",
        recipe=Recipe(160, GAUSS_LEGENDRE_6, control_per_stage=True),
    )


def hanging_chain(length: float = 4.0, left: float = 1.0, right: float = 3.0) -> ClassicProblem:
    """The shape of a chain of given length between two points, of least potential energy.

        x' = u, x(0) = a, x(1) = b, Int sqrt(1 + u^2) = L;   min Int x sqrt(1 + u^2)

    The catenary x = l + c cosh((t - t0) / c) with sqrt(L^2 - (b - a)^2) = 2 c sinh(1 / (2 c)).

    Args:
        length: L.
        left: a.
        right: b.

    Raises:
        ValueError: a chain that does not reach.
    """
    rise = right - left
    if not length > math.hypot(1.0, rise):
        raise ValueError(f"the length must exceed {math.hypot(1.0, rise):g}, got {length}.")
    slack = math.sqrt(length**2 - rise**2)

    def excess(s: float) -> float:
        return math.sinh(s) / s - slack  # s = 1 / (2 c)

    c = 1 / (2 * float(brentq(excess, 1e-6, 50.0, xtol=1e-15)))
    middle = 0.5 - c * math.asinh(rise / slack)
    offset = left - c * math.cosh(middle / c)
    swing = math.sinh(2 * (1 - middle) / c) + math.sinh(2 * middle / c)
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    arc = ca.sqrt(1 + u**2)
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(u, arc),
        horizon=1.0,
        initial_state=[left, 0.0],
        running_cost=x[0] * arc,
        terminal_constraints=[Constraint("end", x, [right, length], [right, length])],
    )
    return ClassicProblem(
        name="hanging chain",
        problem=problem,
        optimum=offset * length + c / 2 + c**2 / 4 * swing,
        accuracy=EXACT,
        source="COPS 3.0 (Dolan, More and Munson, ANL/MCS-273, 2004); by the catenary",
        purpose="a test of an integral constraint",
        control=lambda t: np.array([math.sinh((t - middle) / c)]),
        recipe=SMOOTH,
        guess=Guess(
            state=lambda t: [left + 2 * rise * t * (t - 0.5), length * t],
            control=lambda t: 2 * rise * (2 * t - 0.5),
        ),
    )


def dido(length: float = 1.2) -> ClassicProblem:
    """The largest area between a rope of given length and a straight shore of unit length.

        x' = cos a, y' = sin a, 0 to (1, 0) along the length L;   max Int y cos a

    An arc of a circle of radius r, 2 r sin(L / (2 r)) = 1, of area r^2 (L / r - sin(L / r)) / 2.

    Args:
        length: L, between 1 and pi / 2.

    Raises:
        ValueError: a length outside.
    """
    if not 1 < length <= math.pi / 2:
        raise ValueError(f"the length must be above 1 and at most pi / 2, got {length}.")
    angle = 2 * float(brentq(lambda s: math.sin(s) / s - 1 / length, 1e-6, 2.0, xtol=1e-15))
    radius = length / angle
    x, a = ca.SX.sym("x", 2), ca.SX.sym("a")
    problem = OptimalControlProblem(
        state=x,
        control=a,
        dynamics=ca.vertcat(ca.cos(a), ca.sin(a)),
        horizon=length,
        initial_state=[0.0, 0.0],
        running_cost=x[1] * ca.cos(a),
        control_bounds=(-math.pi, math.pi),
        terminal_constraints=[Constraint("shore", x, [1.0, 0.0], [1.0, 0.0])],
        maximize=True,
    )
    return ClassicProblem(
        name="Dido",
        problem=problem,
        optimum=radius**2 * (angle - math.sin(angle)) / 2,
        accuracy=EXACT,
        source="the isoperimetric problem; Bryson and Ho (1975)",
        purpose="a test of a running gain to be maximised",
        control=lambda t: np.array([angle / 2 - t / radius]),
        recipe=SMOOTH,
        guess=Guess(state=lambda t: [t, 0.3 * t * (1 - t)], control=[[1.0], [-1.0]]),
    )


def linear_tangent_steering() -> ClassicProblem:
    """Lift a particle of constant thrust to a height with a given horizontal velocity.

        y' = w, v' = a cos b, w' = a sin b, a = 100, from rest to y = 5, v = 45, w = 0;   min T

    tan b falls linearly, here from S to -S. With y and v as functions of tan b,

        a T arsinh(S) / S = 45,   a T^2 [S sqrt(1 + S^2) - arsinh S] / (4 S^2) = 5
    """
    thrust, height, speed = 100.0, 5.0, 45.0

    def duration(S: float) -> float:
        return speed * S / (thrust * math.asinh(S))

    def final_height(S: float) -> float:
        return thrust * (duration(S) / (2 * S)) ** 2 * (S * math.hypot(1, S) - math.asinh(S))

    slope = float(brentq(lambda S: final_height(S) - height, 0.1, 10.0, xtol=1e-15))
    optimum = duration(slope)
    x, b, T = ca.SX.sym("x", 3), ca.SX.sym("b"), ca.SX.sym("T")
    target = [height, speed, 0.0]
    problem = OptimalControlProblem(
        state=x,
        control=b,
        dynamics=ca.vertcat(x[2], thrust * ca.cos(b), thrust * ca.sin(b)),
        horizon=T,
        initial_state=[0.0, 0.0, 0.0],
        parameter=T,
        parameter_bounds=(0.1, 10.0),
        parameter_cost=T,
        control_bounds=(-math.pi / 2, math.pi / 2),
        terminal_constraints=[Constraint("orbit", x, target, target)],
    )
    return ClassicProblem(
        name="linear tangent steering",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="Bryson and Ho (1975); COPS 3.0, particle steering; Betts (2010): 0.55457088",
        purpose="a test of a free end time with a smooth control",
        control=lambda t: np.array([math.atan(slope * (1 - 2 * t / optimum))]),
        horizon=optimum,
        recipe=SMOOTH,
        guess=Guess(
            state=lambda t: [height * t, speed * t, 10 * t * (1 - t)],
            control=[[1.0], [-1.0]],
            parameter=1.0,
        ),
    )


def zermelo() -> ClassicProblem:
    """Cross a current that grows with the distance from the shore as fast as possible.

        x' = cos a - y, y' = sin a, (3.66, -1.86) to 0;   min T

    tan a = s grows at unit rate, from c to d, while cos a < 0. With r(s) = sqrt(1 + s^2) the way
    across is y = r(d) - r(s), and the end is at 0 if

        r(c) = r(d) - y(0),   x(0) = Int_c^d 1 / r + r(d) - r ds,   T = d - c
    """
    start = (3.66, -1.86)

    def first(d: float) -> float:
        return -math.sqrt((math.hypot(1, d) - start[1]) ** 2 - 1)

    def integral(s: float) -> float:
        return (math.asinh(s) - s * math.hypot(1, s)) / 2  # of 1 / r - r

    def end(d: float) -> float:
        c = first(d)
        return start[0] - integral(d) + integral(c) - (d - c) * math.hypot(1, d)

    last = float(brentq(end, 1.0, 3.0, xtol=1e-15))
    optimum = last - first(last)
    x, a, T = ca.SX.sym("x", 2), ca.SX.sym("a"), ca.SX.sym("T")
    problem = OptimalControlProblem(
        state=x,
        control=a,
        dynamics=ca.vertcat(ca.cos(a) - x[1], ca.sin(a)),
        horizon=T,
        initial_state=start,
        parameter=T,
        parameter_bounds=(0.1, 20.0),
        parameter_cost=T,
        control_bounds=(0.0, 2 * math.pi),
        terminal_constraints=[Constraint("harbour", x)],
    )
    return ClassicProblem(
        name="Zermelo",
        problem=problem,
        optimum=optimum,
        accuracy=EXACT,
        source="Zermelo (1931); Bryson and Ho (1975): 5.46",
        purpose="a test of navigation in a current",
        control=lambda t: np.array([math.pi + math.atan(first(last) + t)]),
        horizon=optimum,
        recipe=SMOOTH,
        guess=Guess(state=[start, (0.0, 0.0)], control=[[2.0], [4.0]], parameter=5.0),
    )


# Problems whose control switches


def minimal_fuel() -> ClassicProblem:
    """Move a unit mass by a unit length, from rest to rest, with least impulse.

        x1' = x2, x2' = u, |u| <= 1, (0, 0) to (1, 0), T = 5/2;   min Int |u| = 1

    Full thrust for a time s at both ends, s (T - s) = 1, coasting in between: s = 1/2, J = 2 s.
    """
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=2.5,
        initial_state=[0.0, 0.0],
        control_bounds=(-1.0, 1.0),
        terminal_constraints=[Constraint("arrive", x, [1.0, 0.0], [1.0, 0.0])],
        control_constraints=[Constraint("fuel", u, weight=1.0)],
    )
    return ClassicProblem(
        name="minimal fuel",
        problem=problem,
        optimum=1.0,
        accuracy=EXACT,
        source="Athans and Falb, Optimal Control (1966)",
        purpose="a test of an exact l1 penalty and of a control that rests",
        table=dict.fromkeys((5, 10, 20), 1.0),
        control=lambda t: np.array([1.0 if t < 0.5 else -1.0 if t > 2.0 else 0.0]),
        recipe=Recipe(25, RK4, switches=(0.2, 0.8)),
    )


def singular_regulator(horizon: float = 5.0) -> ClassicProblem:
    """A regulator whose control costs nothing: full thrust, then a singular arc.

        x1' = x2, x2' = u, |u| <= 1, x(0) = (0, 1);   min 1/2 Int x1^2 + x2^2

    u = -1 up to s, then u = x1 with x1 = A cosh(T - t), x2 = -A sinh(T - t), since p2 = 0 and
    p1 = -x2 there and p1(T) = 0. Both are continuous at s.

    Args:
        horizon: T, from 2 on.
    """

    def jump(s: float) -> float:
        return (s - s**2 / 2) * math.tanh(horizon - s) - (s - 1)

    switch = float(brentq(jump, 1.0, 1.9, xtol=1e-15))
    left = horizon - switch
    amplitude = (switch - switch**2 / 2) / math.cosh(left)
    squares = switch**3 / 3 - switch**4 / 4 + switch**5 / 20 + (1 - (1 - switch) ** 3) / 3
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=horizon,
        initial_state=[0.0, 1.0],
        running_cost=ca.sumsqr(x) / 2,
        control_bounds=(-1.0, 1.0),
    )

    def control(t: float) -> Array:
        return np.array([-1.0 if t < switch else amplitude * math.cosh(horizon - t)])

    return ClassicProblem(
        name="singular regulator",
        problem=problem,
        optimum=squares / 2 + amplitude**2 * math.sinh(2 * left) / 4,
        accuracy=EXACT,
        source="Jacobson, Gershwin and Lele, IEEE Trans. Autom. Control 15 (1970), 67-73",
        purpose="a test of a singular arc",
        control=control,
        recipe=Recipe(100, RK4, switches=(switch / horizon,)),
    )


def catalyst_mixing() -> ClassicProblem:
    """The mixture of two catalysts along a reactor that yields most of the end product.

        x1' = u (10 x2 - x1), x2' = u (x1 - 10 x2) - (1 - u) x2, x(0) = (1, 0), T = 1, 0 <= u <= 1;
        max 1 - x1(T) - x2(T)

    u = 1, then a singular arc, then u = 0. With f = A x + u B x, on the arc B x and [A, B] x are
    parallel, a quadratic equation for r = x1 / x2, which is constant there, and that gives u. The
    first switch is where r is reached. On the last piece p = -(1, e^{-(T-t)}), and p . B x = 0 at
    its start gives e^{-(T-t)} = (10 - r) / (9 - r).
    """
    A = np.array([[0.0, 0.0], [0.0, -1.0]])
    B = np.array([[-1.0, 10.0], [1.0, -9.0]])
    bracket = B @ A - A @ B

    def parallel(r: float) -> float:
        x = np.array([r, 1.0])
        return float(np.linalg.det(np.column_stack([B @ x, bracket @ x])))

    ratio = float(brentq(parallel, 10.0, 20.0, xtol=1e-14))
    on_arc = np.array([ratio, 1.0])

    def turning(matrix: Array) -> float:
        return float((matrix @ on_arc)[0] - ratio * (matrix @ on_arc)[1])

    mixture = -turning(A) / turning(B)

    def off_ratio(t: float) -> float:
        x = expm((A + B) * t)[:, 0]
        return float(x[0] - ratio * x[1])

    first = float(brentq(off_ratio, 0.01, 0.5, xtol=1e-15))
    last = 1 + math.log((ratio - 10) / (ratio - 9))
    end = (
        expm(A * (1 - last))
        @ expm((A + mixture * B) * (last - first))
        @ expm((A + B) * first)[:, 0]
    )
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.DM(A) @ x + u * (ca.DM(B) @ x),
        horizon=1.0,
        initial_state=[1.0, 0.0],
        terminal_cost=1 - ca.sum1(x),
        control_bounds=(0.0, 1.0),
        maximize=True,
    )

    def control(t: float) -> Array:
        return np.array([1.0 if t < first else mixture if t < last else 0.0])

    return ClassicProblem(
        name="catalyst mixing",
        problem=problem,
        optimum=1 - float(end.sum()),
        accuracy=EXACT,
        source="Jackson, J. Optim. Theory Appl. 2 (1968); COPS 3.0; by two scalar equations",
        purpose="a test of a bilinear singular arc between two bounds",
        control=control,
        recipe=Recipe(60, GAUSS_LEGENDRE_6, switches=(first, last)),
        guess=Guess(state=[[1.0, 0.08], [0.9, 0.08]], control=0.5),
    )


# Problems without a formula


def rayleigh() -> ClassicProblem:
    """An electric oscillator with negative damping at small currents.

    x1' = x2, x2' = -x1 + (1.4 - 0.14 x2^2) x2 + 4 u, x(0) = (-5, -5), T = 5/2;
    min Int x1^2 + u^2
    """
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], -x[0] + (1.4 - 0.14 * x[1] ** 2) * x[1] + 4 * u),
        horizon=2.5,
        initial_state=[-5.0, -5.0],
        running_cost=x[0] ** 2,
        control_cost=u**2,
    )
    return ClassicProblem(
        name="Rayleigh",
        problem=problem,
        optimum=29.3760796556,
        accuracy=2e-12,
        source="Tun and Dillon (1978); PROPT manual: 29.376079656; 12 digits by two methods",
        purpose="a test of nonlinear damping",
        recipe=Recipe(60, GAUSS_LEGENDRE_6, control_per_stage=True),
    )


def orbit_raising() -> ClassicProblem:
    """From one circular orbit to the largest one that a constant thrust reaches in a given time.

    r' = u, u' = v^2 / r - 1 / r^2 + F sin a / m, v' = -u v / r + F cos a / m,
    m = 1 - 0.0749 t, F = 0.1405, (1, 0, 1) to u = 0, v^2 r = 1, T = 3.32;   max r(T)
    """
    x, a, t = ca.SX.sym("x", 3), ca.SX.sym("a"), ca.SX.sym("t")
    r, u, v = x[0], x[1], x[2]
    acceleration = 0.1405 / (1 - 0.0749 * t)
    radial = v**2 / r - 1 / r**2 + acceleration * ca.sin(a)
    along = -u * v / r + acceleration * ca.cos(a)
    problem = OptimalControlProblem(
        state=x,
        control=a,
        dynamics=ca.vertcat(u, radial, along),
        horizon=3.32,
        initial_state=[1.0, 0.0, 1.0],
        terminal_cost=r,
        state_bounds=([0.5, -2.0, 0.1], [3.0, 2.0, 3.0]),
        terminal_constraints=[Constraint("circular", ca.vertcat(u, v**2 * r - 1))],
        time=t,
        maximize=True,
    )
    return ClassicProblem(
        name="orbit raising",
        problem=problem,
        optimum=1.525277700649,
        accuracy=1e-12,
        source="Moyer and Pinkham (1964); Bryson and Ho (1975): 1.525; 13 digits by two methods",
        purpose="a test of time in the dynamics and of a steep turn of the control",
        recipe=Recipe(40, GAUSS_LEGENDRE_6, control_per_stage=True),
        guess=Guess(
            state=[[1.0, 0.0, 1.0], [1.25, 0.05, 0.9], [1.5, 0.0, 0.8]], control=[[0.5], [5.5]]
        ),
    )


LITERATURE = (
    hager(),
    regulator(),
    periodic_tracking(),
    triple_integrator(),
    cubic_hypersensitive(),
    hanging_chain(),
    dido(),
    linear_tangent_steering(),
    zermelo(),
    minimal_fuel(),
    singular_regulator(),
    catalyst_mixing(),
    rayleigh(),
    orbit_raising(),
)
