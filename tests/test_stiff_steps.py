"""Radau IIA of order 13: it ends where exponentials and other integrators say, in few steps."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.sparse import csc_matrix

from ocp.stiff_steps import STAGES, _Method, integrate_stiff


class Counted:
    """A system y' = F(theta, y) with its Jacobian, and how often F was evaluated."""

    def __init__(self, rate, jacobian):
        self.rate, self.slopes, self.evaluations = rate, jacobian, 0

    def rates(self, theta, y):
        self.evaluations += theta.size
        return np.array([self.rate(t, row) for t, row in zip(theta, y, strict=True)])

    def jacobian(self, theta, y):
        return csc_matrix(self.slopes(theta, y))

    def end(self, initial, accuracy=1e-10, most=10_000):
        with np.errstate(all="ignore"):
            arguments = (np.array(initial, dtype=float), accuracy, most)
            return integrate_stiff(self.rates, self.jacobian, *arguments)


def linear(a: np.ndarray) -> Counted:
    return Counted(lambda t, y: a @ y, lambda t, y: a)


def follower(rate: float) -> Counted:
    """y' = -rate (y - cos t) - sin t: y = cos t + (y(0) - 1) exp(-rate t)."""
    return Counted(
        lambda t, y: -rate * (y - np.cos(t)) - np.sin(t), lambda t, y: np.array([[-rate]])
    )


def van_der_pol(time: float, mu: float) -> Counted:
    """Of the unit interval for `time` units."""

    def rate(t, y):
        return time * np.array([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])

    def slopes(t, y):
        return time * np.array([[0, 1], [-2 * mu * y[0] * y[1] - 1, mu * (1 - y[0] ** 2)]])

    return Counted(rate, slopes)


@pytest.mark.parametrize("rate", [0.0, 1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("start", [1.0, 3.0])
def test_a_stiff_follower_ends_on_its_exact_curve(rate, start):
    system = follower(rate)
    exact = np.cos(1.0) + (start - 1.0) * np.exp(-rate)
    assert system.end([start])[0] == pytest.approx(exact, abs=1e-9)
    assert system.evaluations < 1500


@pytest.mark.parametrize("seed", range(5))
def test_a_linear_system_ends_at_its_exponential(seed):
    generator = np.random.default_rng(seed)
    q = np.linalg.qr(generator.standard_normal((6, 6)))[0]
    damped = np.diag([-1.0, -10.0, -1e3, -1e5, 0.0, 0.5])
    turned = np.zeros((6, 6))
    turned[0, 1], turned[1, 0] = 30.0, -30.0
    a = q @ (damped + turned) @ q.T
    start = generator.standard_normal(6)
    np.testing.assert_allclose(linear(a).end(start), expm(a) @ start, atol=1e-8)


@pytest.mark.parametrize(("time", "mu"), [(2.0, 1.0), (3.0, 20.0), (12.0, 10.0), (0.5, 1e4)])
def test_an_oscillator_ends_where_another_integrator_does(time, mu):
    system = van_der_pol(time, mu)
    reference = solve_ivp(
        *(system.rate, (0.0, 1.0), [2.0, 0.0]),
        method="Radau",
        jac=lambda t, y: system.slopes(t, y),
        rtol=1e-10,
        atol=1e-10,
    ).y[:, -1]
    np.testing.assert_allclose(system.end([2.0, 0.0], most=50_000), reference, rtol=1e-6, atol=1e-8)


def test_a_tighter_accuracy_is_met():
    """With 10^(6/8) = 6 times the steps for six digits more, where order 5 takes 10^(6/4) = 30."""
    errors, evaluations = [], []
    for accuracy in (1e-4, 1e-6, 1e-8, 1e-10):
        system = van_der_pol(3.0, 20.0)
        exact = van_der_pol(3.0, 20.0).end([2.0, 0.0], 1e-12)
        errors.append(float(np.abs(system.end([2.0, 0.0], accuracy) - exact).max()))
        evaluations.append(system.evaluations)
        assert errors[-1] < 10 * accuracy
    assert evaluations[-1] < 9 * evaluations[0]


def test_what_blows_up_has_no_end():
    """y' = 2 y^2 from 1 is infinite at 1/2."""
    system = Counted(lambda t, y: 2 * y**2, lambda t, y: np.array([[4 * y[0]]]))
    assert np.isnan(system.end([1.0])).all()


def test_too_many_evaluations_end_without_a_number():
    system = van_der_pol(1500.0, 1000.0)
    assert np.isnan(system.end([2.0, 0.0], most=100)).all()
    assert system.evaluations < 300


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rates_that_are_not_finite_have_no_end(value):
    system = Counted(lambda t, y: y * value, lambda t, y: np.array([[value]]))
    assert np.isnan(system.end([1.0])).all()


def test_a_system_at_rest_stays_there():
    system = linear(np.zeros((3, 3)))
    np.testing.assert_array_equal(system.end([1.0, -2.0, 0.0]), [1.0, -2.0, 0.0])


def test_the_eigenvalues_are_those_of_the_inverse_and_the_embedded_formula_is_of_order_s():
    method = _Method.of(STAGES)
    found = [method.eigenvalues[0], *method.eigenvalues[1:], *method.eigenvalues[1:].conj()]
    np.testing.assert_allclose(
        np.sort_complex(found), np.sort_complex(np.linalg.eigvals(method.inverse)), rtol=1e-8
    )
    # With F = q theta^(q-1), Z = c^q: the error of the embedded formula vanishes up to order s.
    for q in range(1, STAGES + 1):
        first = method.first if q == 1 else 0.0
        assert first + method.others @ method.nodes**q == pytest.approx(0.0, abs=1e-8)
    assert abs(method.others @ method.nodes ** (STAGES + 1)) > 1e-6
