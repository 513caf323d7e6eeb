"""Certificates of dynamics that are too unstable for the states to be eliminated."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    EULER,
    GAUSS_LEGENDRE_6,
    Guess,
    Status,
    TimeGrid,
    along_path,
    at_end,
    at_start,
    certify,
    discretize,
    integral,
    pose,
    rollout,
    solve,
)
from ocp.condensing import linearize
from ocp.full_space import GROWTH, growth

X, U = ca.SX.sym("x"), ca.SX.sym("u")
RATE, HORIZON = 8.0, 10.0  # growth by e^80


def regulator(*conditions):
    """x' = 8 x + u from 1, min Int x^2 + u^2: the Riccati equation gives 8 + sqrt 65."""
    return pose(
        state=X,
        control=U,
        dynamics=RATE * X + U,
        horizon=HORIZON,
        minimize=integral(X**2 + U**2),
        subject_to=[at_start(X) == 1, *conditions],
    )


def transfer(price: float):
    """x' = 3 x + u from 0 to 0 in T = 8, min Int u^2 - q x^2 = Int x'^2 + (9 - q) x^2.

    x = u = 0 is the minimum if q < 9 + (pi / T)^2, and a saddle beyond.
    """
    return pose(
        state=X,
        control=U,
        dynamics=3 * X + U,
        horizon=8.0,
        minimize=integral(U**2 - price * X**2),
        subject_to=[at_start(X) == 0, at_end(X) == 0],
    )


def test_growth_is_the_product_of_the_transitions():
    staged = discretize(regulator(), TimeGrid.uniform(20, HORIZON), EULER)
    found = growth(linearize(staged, rollout(staged, np.zeros(20))))
    assert GROWTH < found <= (1 + RATE * HORIZON / 20) ** 20
    short = pose(state=X, control=U, dynamics=U - X, horizon=1.0, minimize=integral(U**2))
    staged = discretize(short, TimeGrid.uniform(20), EULER)
    assert growth(linearize(staged, rollout(staged, np.zeros(staged.decision_size)))) == 1.0


def test_the_optimum_of_an_unstable_regulator_is_certified():
    solution = solve(regulator(), 100, GAUSS_LEGENDRE_6, control_per_stage=True)
    assert solution.status is Status.SOLVED
    assert solution.objective == pytest.approx(RATE + math.sqrt(RATE**2 + 1), rel=1e-8)
    # V = P x^2: the slope of the cost at the start is 2 P
    assert solution.costate(X)[0] == pytest.approx(2 * solution.objective, rel=1e-6)


@pytest.mark.parametrize("layer", [0, 50, 99])
def test_a_control_that_is_off_by_a_thousandth_is_not_stationary(layer):
    solution = solve(regulator(), 100)
    staged = solution.transcription.staged()
    moved = [control.copy() for control in solution.trajectory.controls]
    moved[layer] += 1e-3
    trajectory = solution.trajectory
    certificate = certify(
        staged,
        type(trajectory)(trajectory.states, tuple(moved), trajectory.parameters, trajectory.times),
        solution.certificate.multipliers,
    )
    assert not certificate.is_stationary(1e-8)


@pytest.mark.parametrize(("price", "status"), [(8.0, Status.SOLVED), (12.0, Status.NOT_A_MINIMUM)])
def test_the_inertia_tells_a_minimum_from_a_saddle(price, status):
    solution = solve(transfer(price), 60, GAUSS_LEGENDRE_6, control_per_stage=True)
    assert solution.status is status


def test_bounds_that_hold_leave_their_directions_out():
    solution = solve(regulator(along_path(U) >= -10), 200, guess=Guess(control=-1.0))
    assert solution.status is Status.SOLVED
    assert float(solution.control()[0, 0]) == pytest.approx(-10.0, abs=1e-6)
    assert (solution.dual(U).values[:1] < 0).all()
