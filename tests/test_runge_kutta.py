"""Runge-Kutta methods: their order conditions, and the orders that follow from them."""

import math

import casadi as ca
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocp.runge_kutta import EULER, HEUN, MIDPOINT, RK4, ButcherTableau, order_residuals

TABLEAUX = (EULER, MIDPOINT, HEUN, RK4)
ROUNDING = 1e-14

every_tableau = pytest.mark.parametrize("tableau", TABLEAUX, ids=lambda tableau: tableau.name)


def integrate(tableau: ButcherTableau, rate, state: float, horizon: float, steps: int) -> float:
    h = horizon / steps
    for k in range(steps):
        state, _ = tableau.step(rate, state, k * h, h)
    return state


@every_tableau
def test_order_conditions_hold_up_to_the_claimed_order(tableau):
    assert np.abs(order_residuals(tableau, tableau.order)).max() < ROUNDING


@pytest.mark.parametrize("tableau", [EULER, MIDPOINT, HEUN], ids=lambda tableau: tableau.name)
def test_an_order_condition_of_the_next_order_fails(tableau):
    assert np.abs(order_residuals(tableau, tableau.order + 1)).max() > 0.05


@every_tableau
def test_the_observed_order_on_a_scalar_equation_is_the_claimed_one(tableau):
    """x' = x cos t, x(0) = 1 has x = exp(sin t): nonautonomous, so that the nodes c_i count."""
    steps = np.array([40, 80, 160])
    exact = math.exp(math.sin(2.0))
    errors = [
        abs(integrate(tableau, lambda x, t: x * math.cos(t), 1.0, 2.0, n) - exact) for n in steps
    ]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order == pytest.approx(tableau.order, abs=0.15)


@every_tableau
def test_a_quadrature_of_order_p_is_exact_for_polynomials_of_degree_below_p(tableau):
    for degree in range(tableau.order):
        value, _ = tableau.step(lambda x, t, q=degree: t**q, 0.0, 0.5, 2.0)
        exact = (2.5 ** (degree + 1) - 0.5 ** (degree + 1)) / (degree + 1)
        assert value == pytest.approx(exact, rel=ROUNDING)


@every_tableau
@given(z=st.floats(-3.0, 3.0))
def test_with_as_many_stages_as_orders_the_stability_function_is_the_truncated_exponential(
    tableau, z
):
    value, _ = tableau.step(lambda x, t: z * x, 1.0, 0.0, 1.0)
    assert tableau.stages == tableau.order
    terms = [z**j / math.factorial(j) for j in range(tableau.order + 1)]
    assert value == pytest.approx(sum(terms), abs=ROUNDING * sum(map(abs, terms)))


@every_tableau
@given(
    entries=st.lists(st.floats(-2.0, 2.0), min_size=6, max_size=6),
    angle=st.floats(-math.pi, math.pi),
)
def test_a_step_commutes_with_affine_changes_of_the_state(tableau, entries, angle):
    """With y = Q x + r and y' = Q f(Q^-1 (y - r)), a step of y is the image of a step of x."""
    x, r = np.array(entries[:2]), np.array(entries[2:4])
    w = np.array([entries[4:], [1.0, -1.0]])
    Q = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    def rate(x, t):
        return np.sin(w @ x + t)

    image, _ = tableau.step(lambda y, t: Q @ rate(Q.T @ (y - r), t), Q @ x + r, 0.3, 0.7)
    # Three matrix products per stage, each with a few roundings of numbers up to 10.
    assert image == pytest.approx(Q @ tableau.step(rate, x, 0.3, 0.7)[0] + r, abs=1e-12)


@given(alpha=st.floats(0.1, 1.0), excess=st.floats(1e-3, 1.0))
def test_two_explicit_stages_have_order_two_exactly_on_a_one_parameter_family(alpha, excess):
    """b_2 = 1 / (2 alpha) and b_1 = 1 - b_2, with alpha = a_21; order 3 needs b a c = 1/6."""
    a = np.array([[0.0, 0.0], [alpha, 0.0]])
    weight = 1.0 / (2.0 * alpha)
    tableau = ButcherTableau("member", a, np.array([1.0 - weight, weight]), 2, "test")
    assert max(map(abs, order_residuals(tableau, 3))) >= 1 / 6 - ROUNDING
    with pytest.raises(ValueError, match="misses an order condition"):
        ButcherTableau("outsider", a, np.array([1 - weight - excess, weight + excess]), 2, "test")


@every_tableau
def test_a_step_of_casadi_expressions_equals_the_step_of_numbers(tableau):
    x, t = ca.SX.sym("x", 2), ca.SX.sym("t")
    symbolic, _ = tableau.step(lambda y, s: ca.vertcat(y[1] * s, ca.sin(y[0])), x, t, 0.3)
    numbers = np.array([0.7, -1.1])
    expected, stages = tableau.step(
        lambda y, s: np.array([y[1] * s, math.sin(y[0])]), numbers, 0.2, 0.3
    )
    value = ca.Function("step", [x, t], [symbolic])(numbers, 0.2).full().ravel()
    assert value == pytest.approx(expected, abs=ROUNDING)
    assert len(stages) == tableau.stages
    assert stages[0] == pytest.approx(numbers)


@every_tableau
def test_the_named_tableaux_are_explicit_with_nodes_in_the_unit_interval(tableau):
    assert tableau.is_explicit
    assert tableau.c.shape == tableau.b.shape == (tableau.stages,)
    assert tableau.c[0] == 0.0
    assert tableau.c.max() <= 1.0


@pytest.mark.parametrize("tableau", [EULER, MIDPOINT, HEUN], ids=lambda tableau: tableau.name)
def test_a_claim_of_a_higher_order_is_refused(tableau):
    claim = tableau.order + 1
    with pytest.raises(ValueError, match=f"claims order {claim} but misses an order condition"):
        ButcherTableau("boaster", tableau.a, tableau.b, claim, "test")


def test_weights_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match=r"misses an order condition by 1\.0e-01"):
        ButcherTableau("light", np.zeros((1, 1)), np.array([0.9]), 1, "test")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 2)), np.ones(1)),
        (np.zeros((2, 1)), np.ones(2) / 2),
        (np.zeros((1, 1)), np.ones((1, 1))),
    ],
)
def test_coefficients_whose_shapes_do_not_fit_are_refused(a, b):
    with pytest.raises(ValueError, match=r"expected \(s, s\) and \(s,\)"):
        ButcherTableau("misfit", a, b, 1, "test")


def test_an_order_below_one_is_refused():
    with pytest.raises(ValueError, match="order of a method is at least 1, asked for 0"):
        order_residuals(RK4, 0)


def test_a_method_of_order_four_misses_the_conditions_of_order_five():
    assert max(abs(residual) for residual in order_residuals(RK4, 5)) > 1e-3


def test_the_implicit_midpoint_rule_has_order_two_but_no_explicit_step():
    tableau = ButcherTableau("implicit midpoint", np.array([[0.5]]), np.ones(1), 2, "test")
    assert not tableau.is_explicit
    with pytest.raises(ValueError, match="is implicit"):
        tableau.step(lambda x, t: x, 1.0, 0.0, 0.1)
