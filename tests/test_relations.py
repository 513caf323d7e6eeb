"""Algebraic variables posed as controls: a relation that fails between the nodes is not solved."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    RADAU_IIA_5,
    OptimalControlProblem,
    SolveOptions,
    Status,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    refine,
    solve,
)

X, U, Z = (ca.SX.sym(name) for name in ("x", "u", "z"))


def decay(unit: float = 1.0) -> OptimalControlProblem:
    """x' = -z, z = x^2 from 1 on [0, 5]: x = 1 / (1 + t), so x(5) = 1/6; z in a unit of its own."""
    return pose(
        state=X,
        control=Z,
        dynamics=-Z / unit,
        horizon=5.0,
        minimize=at_end(X),
        subject_to=[at_start(X) == 1, (along_path(Z - unit * X**2) == 0).named("square")],
    )


def mixing() -> OptimalControlProblem:
    """Two species that react at the rate m with m (a + b) = a b, one of them fed."""
    a, b, feed = (ca.SX.sym(name) for name in ("a", "b", "feed"))
    return pose(
        state=ca.vertcat(a, b),
        control=ca.vertcat(Z, feed),
        dynamics=ca.vertcat(feed - a * Z, 0.2 * feed - 0.5 * Z * b),
        horizon=4.0,
        minimize=integral((a - 0.7) ** 2 + 0.1 * feed**2),
        subject_to=[
            at_start(ca.vertcat(a, b)) == [1, 2],
            (along_path(Z * (a + b) - a * b) == 0).named("mixing"),
            along_path(feed).within(0, 1),
        ],
    )


def diode() -> OptimalControlProblem:
    """A capacitor discharged through a diode, i = I (exp(v / V) - 1), by a source."""
    return pose(
        state=X,
        control=ca.vertcat(Z, U),
        dynamics=10 * (U - Z),
        horizon=1.0,
        minimize=integral((X - 0.4) ** 2 + 1e-3 * U**2),
        subject_to=[
            at_start(X) == 0.8,
            (along_path(Z - 0.01 * (ca.exp(X / 0.2) - 1)) == 0).named("diode"),
            along_path(U).within(0, 1),
        ],
    )


def pendulum() -> OptimalControlProblem:
    """Of length 1 from the horizontal, its tension z held by z = v^2 - g y; without control."""
    q, g = ca.SX.sym("q", 4), 9.81
    x, y, v, w = (q[j] for j in range(4))
    return pose(
        state=q,
        control=Z,
        dynamics=ca.vertcat(v, w, -Z * x, -Z * y - g),
        horizon=1.2,
        minimize=at_end(y),
        subject_to=[
            at_start(q) == [1, 0, 0, 0],
            (along_path(Z - (v**2 + w**2 - g * y)) == 0).named("tension"),
        ],
    )


CASES = {
    "square": decay,
    "square in thousandths": lambda: decay(1e-3),
    "square in thousands": lambda: decay(1e3),
    "mixing": mixing,
    "diode": diode,
    "tension": pendulum,
}


@pytest.mark.parametrize("name", CASES)
def test_a_relation_held_at_the_nodes_alone_is_not_solved(name):
    found = solve(CASES[name](), 50)
    assert found.status is Status.INACCURATE
    assert not found.error.is_within(1e-2)
    assert found.error.relations.relative.max() > 1e-2
    assert name.split()[0] in found.message
    assert "control_per_stage=True" in found.message
    assert name.split()[0] in str(found)


@pytest.mark.parametrize("name", CASES)
def test_what_the_message_advises_solves_it(name):
    found = solve(CASES[name](), 50, RADAU_IIA_5, control_per_stage=True)
    assert found.status is Status.SOLVED, found.message
    if name.startswith("square"):
        assert found.objective == pytest.approx(1 / 6, abs=1e-6)
        assert solve(CASES[name](), 50).objective < 1 / 6 - 4e-3
    if name == "tension":
        # The energy w^2 + v^2 = -2 g y of a swing on the circle.
        q = found.state()
        np.testing.assert_allclose(q[:, 0] ** 2 + q[:, 1] ** 2, 1.0, atol=1e-5)
        np.testing.assert_allclose(q[:, 2] ** 2 + q[:, 3] ** 2, -2 * 9.81 * q[:, 1], atol=1e-4)


def test_the_relative_residual_does_not_depend_on_the_unit_of_the_relation():
    sizes = [solve(decay(unit), 20).error.relations.relative.max() for unit in (1e-6, 1.0, 1e6)]
    assert sizes == pytest.approx([sizes[0]] * 3, rel=1e-5)


def test_refinement_meets_a_relation_and_calls_it_solved():
    found = refine(decay(), 1e-6)
    assert found.is_met
    assert found.solution.status is Status.SOLVED
    assert found.solution.objective == pytest.approx(1 / 6, rel=1e-6)


def test_a_refinement_cut_short_is_judged_by_its_error():
    found = refine(decay(), 1e-6, max_rounds=1)
    assert not found.is_met
    assert found.solution.status is Status.INACCURATE
    assert "control_per_stage=True" not in found.solution.message
    assert "refine()" in found.solution.message


def test_a_tolerance_of_infinity_takes_the_grid_as_it_is():
    options = SolveOptions(discretization_tolerance=math.inf)
    assert solve(decay(), 50, options=options).status is Status.SOLVED


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan])
def test_a_discretization_tolerance_is_positive(tolerance):
    with pytest.raises(ValueError, match="discretization tolerance must be positive"):
        SolveOptions(discretization_tolerance=tolerance)


def test_an_inequality_is_no_relation():
    problem = pose(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0, at_end(X) == 1, along_path(U + X) <= 3],
    )
    found = solve(problem, 10)
    assert found.error.relations.worst is None
    assert not found.error.relations.relative.any()
