"""Steps integrated again: stiff or not, of one member or many, they agree with exponentials."""

import casadi as ca
import numpy as np
import pytest
from scipy.linalg import expm

from ocp import GAUSS_LEGENDRE_4, RADAU_IIA_3, OptimalControlProblem, solve
from ocp.exact_steps import STIFF, RateJacobian, _stiffness

HORIZON, INTERVALS = 0.2, 4


def heat(n: int) -> tuple[np.ndarray, np.ndarray]:
    """x_t = x_zz on [0, 1] by lines: the control at the left end, no flux at the right one."""
    a = (np.diag(np.full(n - 1, 1.0), -1) - 2 * np.eye(n) + np.diag(np.full(n - 1, 1.0), 1)) * n**2
    a[-1, -1] = -(n**2)
    return a, np.r_[n**2, np.zeros(n - 1)].astype(float)


def transport(n: int) -> tuple[np.ndarray, np.ndarray]:
    """x_t = -x_z by lines, with the control flowing in."""
    return n * (np.eye(n, k=-1) - np.eye(n)), np.r_[n, np.zeros(n - 1)].astype(float)


def circuit(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Oscillators of which one is damped 10,000 times as fast as the others turn."""
    a = np.zeros((n, n))
    for i in range(0, n - 1, 2):
        a[i, i + 1], a[i + 1, i] = 1.0 + i, -1.0 - i
    a[-1, -1] = a[-1, 0] = -1e4
    return a, np.ones(n)


def flow(a: np.ndarray, b: np.ndarray, members: int) -> OptimalControlProblem:
    """x' = d (A x + b u) with u = 1 and a running cost c . x, for members of different d."""
    n = len(b)
    x, u, d = ca.SX.sym("x", n), ca.SX.sym("u"), ca.SX.sym("d")
    return OptimalControlProblem(
        state=x,
        control=u,
        dynamics=d * (ca.mtimes(ca.sparsify(ca.DM(a)), x) + ca.DM(b) * u),
        horizon=HORIZON,
        initial_state=np.random.default_rng(0).standard_normal((members, n)),
        running_cost=ca.dot(ca.DM(cost_weights(n)), x),
        control_bounds=(1.0, 1.0),
        data=d,
        member_data=np.linspace(1.0, 0.5, members)[:, None],
    )


def cost_weights(n: int) -> np.ndarray:
    return np.cos(np.arange(n))


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(
    ("system", "n", "is_stiff"),
    [(heat, 30, True), (circuit, 7, True), (transport, 30, False)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_linear_steps_end_where_the_exponential_says(system, n, is_stiff, members):
    a, b = system(n)
    problem = flow(a, b, members)
    solution = solve(problem, INTERVALS, RADAU_IIA_3)
    (group,) = solution.path.groups
    sizes = np.abs(np.stack(solution.trajectory.states)).max(axis=(0, 1))
    stiffness = _stiffness(group, RateJacobian.of(problem), solution.trajectory.parameters, sizes)
    assert ((stiffness > STIFF) == is_stiff).all()
    x, h = solution.trajectory.state_array, HORIZON / INTERVALS
    error, missed = solution.error, np.zeros(INTERVALS)
    for i in range(members):
        augmented = np.zeros((n + 2, n + 2))  # of the state, its cost, and the control
        rate = np.asarray(problem.member_data)[i, 0]
        augmented[:n, :n], augmented[:n, -1], augmented[n, :n] = rate * a, rate * b, cost_weights(n)
        start = np.c_[x[:-1, i], np.zeros(INTERVALS), np.ones(INTERVALS)]
        ends = start @ expm(h * augmented).T
        np.testing.assert_allclose(error.defects[:, i] + x[1:, i], ends[:, :n], atol=1e-8)
        missed += ends[:, n]
    weights, states = solution.path.quadrature()[1:3]
    scheme = (weights[:, None] * (states @ cost_weights(n))).reshape(-1, INTERVALS, members)
    np.testing.assert_allclose(error.running_cost, missed - scheme.sum(axis=(0, 2)), atol=1e-8)


@pytest.mark.parametrize("members", [1, 2])
def test_the_sparse_derivative_is_that_of_dynamics_and_running_cost(members):
    x, u, p, d, t = (ca.SX.sym(name) for name in "xupdt")
    state = ca.vertcat(x, ca.SX.sym("y"), ca.SX.sym("z"))
    problem = OptimalControlProblem(
        state=state,
        control=u,
        dynamics=ca.vertcat(ca.sin(x) * u, p * state[1] * t, d * x * state[1] + u),
        horizon=1.0,
        initial_state=np.ones((members, 3)),
        running_cost=state[1] ** 2 * u,
        parameter=p,
        data=d,
        member_data=np.arange(1.0, members + 1)[:, None],
        time=t,
    )
    found = RateJacobian.of(problem)
    assert set(zip(found.row.tolist(), found.column.tolist(), strict=True)) == {
        *((0, 0), (1, 1), (2, 0), (2, 1), (3, 1)),
    }
    states = np.random.default_rng(0).standard_normal((4, members, 3))
    times, controls = np.arange(4.0), np.linspace(1, 2, 4)[:, None]
    values = found(times, states, controls, np.array([3.0]))
    dense = np.zeros((4, 3, 4, members))
    dense[found.row, found.column] = values
    d_value = np.arange(1.0, members + 1)
    x0, x1, u0 = states[..., 0], states[..., 1], controls
    np.testing.assert_allclose(dense[0, 0], np.cos(x0) * u0)
    np.testing.assert_allclose(dense[1, 1], 3.0 * times[:, None] * np.ones_like(x0))
    np.testing.assert_allclose(dense[2, 0], d_value * x1)
    np.testing.assert_allclose(dense[2, 1], d_value * x0)
    np.testing.assert_allclose(dense[3, 1], 2 * x1 * u0)


def test_a_cost_and_a_rate_without_states_have_no_derivative():
    u = ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=ca.SX.sym("x"),
        control=u,
        dynamics=u,
        horizon=1.0,
        initial_state=[0.0],
        running_cost=u**2,
        terminal_cost=ca.SX(0),
    )
    assert solve(problem, 3, GAUSS_LEGENDRE_4).error.largest < 1e-12
