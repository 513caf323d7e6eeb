"""Symbols: those declared, those forgotten, those meant to be others, and names to type."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    OptimalControlProblem,
    along_path,
    at,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)

X, V, U, P, Q, T, BIG = (ca.SX.sym(name) for name in ("x1", "v", "u", "p", "q", "t", "T"))
ENERGY = integral(U**2)
GO = [at_start(X) == 0, at_end(X) == 1]
GAUSS = {"grid": 6, "tableau": GAUSS_LEGENDRE_4, "control_per_stage": True}


def line(*conditions, **changes):
    arguments = {"state": X, "control": U, "dynamics": U, "horizon": 1.0, "minimize": ENERGY}
    return pose(**{**arguments, "subject_to": [*GO, *conditions], **changes})


def test_parameters_that_are_not_declared_are_named_in_the_message():
    problem = line(dynamics=U * P, minimize=ENERGY + at_end((P - 1) ** 2 + (Q - 2) ** 2))
    assert "Free parameters: p, q (not declared" in solve(problem, **GAUSS).message


@pytest.mark.parametrize(
    "parameters", [[P, Q], (P, Q), ca.vertcat(P, Q)], ids=["list", "tuple", "column"]
)
def test_parameters_that_are_declared_go_without_saying(parameters):
    cost = ENERGY + at_end((P - 1) ** 2 + (Q - 2) ** 2)
    solution = solve(line(minimize=cost, parameters=parameters), **GAUSS)
    assert "arameter" not in solution.message
    assert solution.parameters == pytest.approx({"p": 1.0, "q": 2.0})


def test_declared_parameters_stand_in_their_order_and_those_of_the_horizon_declare_themselves():
    cost = ENERGY + at_end(BIG + P**2 + Q**2)
    problem = line(minimize=cost, horizon=BIG, parameters=[Q, P])
    assert problem.parameter_names == ("q", "p", "T")
    assert not line(minimize=cost, horizon=BIG).notes[0].count("T (")
    assert not line(minimize=ENERGY + at_end(BIG), horizon=BIG).notes


def test_a_vector_is_declared_and_named_as_one():
    k = ca.SX.sym("k", 3)
    cost = ENERGY + at_end(ca.sumsqr(k - 1))
    assert line(minimize=cost).notes == line(minimize=cost, parameters=None).notes
    assert "Free parameters: k (" in line(minimize=cost).notes[0]
    assert line(minimize=cost, parameters=k).parameter_names == ("k0", "k1", "k2")


def test_lists_of_symbols_are_states_and_controls():
    problem = pose(
        state=[X, V], control=[U], dynamics=[V, U], horizon=1.0, minimize=ENERGY, subject_to=GO
    )
    assert problem.state_names == ("x1", "v")
    assert pose(state=[X], control=[], dynamics=[-X], horizon=1.0).control.numel() == 0


OTHER = ca.SX.sym("x1")
STATES_OF_ONE_NAME = [X, ca.SX.sym("x1")]
MX = ca.MX.sym("m")
REFUSED = {
    "a typing error, where parameters are declared": (
        lambda: line(dynamics=U + ca.SX.sym("velocty"), parameters=[ca.SX.sym("velocity")]),
        r"the dynamics depends on velocty.*did you mean velocity\?",
    ),
    "a forgotten parameter in a condition": (
        lambda: line(along_path(U * P) <= 1, parameters=[Q]),
        r"condition 'along_path\(\(u\*p\)\)' depends on p.*parameters=\[\.\.\.\]",
    ),
    "a forgotten parameter in the cost": (
        lambda: line(minimize=ENERGY + at_end(P**2), parameters=[]),
        "the cost depends on p, which is neither",
    ),
    "a forgotten time": (lambda: line(dynamics=U + ca.sin(T)), r"depends on t.*time=t.*\[t\]"),
    "a forgotten time beside parameters": (
        lambda: line(dynamics=U + T, parameters=[P]),
        "give time=t",
    ),
    "a forgotten time in the cost": (
        lambda: line(minimize=integral(U**2 * ca.SX.sym("time"))),
        "the cost depends on time.*time=time",
    ),
    "another symbol of a state's name": (
        lambda: line(dynamics=U - OTHER),
        "the dynamics has a symbol x1 that is not the state x1.*make each symbol once",
    ),
    "another symbol of a control's name": (
        lambda: line(minimize=integral(ca.SX.sym("u") ** 2)),
        "the cost has a symbol u that is not the control u",
    ),
    "another symbol of the time's name": (
        lambda: line(dynamics=U + ca.SX.sym("t"), time=T),
        "symbol t that is not the time t",
    ),
    "another symbol of a parameter's name": (
        lambda: line(dynamics=U + ca.SX.sym("p"), parameters=[P]),
        "symbol p that is not the parameter p",
    ),
    "another symbol of the horizon's name": (
        lambda: line(horizon=BIG, minimize=at_end(ca.SX.sym("T"))),
        "symbol T that is not the parameter T",
    ),
    "two parameters of one name": (
        lambda: line(dynamics=U + P, minimize=integral(ca.SX.sym("p") ** 2)),
        "two components of the parameter are called p",
    ),
    "two states of one name": (
        lambda: line(state=STATES_OF_ONE_NAME, dynamics=[U, U]),
        "two components of the state are called x1",
    ),
    "a state and a vector's component of one name": (
        lambda: pose(
            state=ca.vertcat(ca.SX.sym("y", 2), ca.SX.sym("y1")),
            control=U,
            dynamics=[U, U, U],
            horizon=1.0,
        ),
        "two components of the state are called y1",
    ),
    "a state and a control of one name": (
        lambda: line(control=ca.SX.sym("x1")),
        "a state and a control are called x1|not the state x1",
    ),
    "a state that is called like the time": (
        lambda: line(state=ca.SX.sym("t"), time=T),
        "a state and a time are called t",
    ),
    "a symbol that is a state twice": (
        lambda: line(state=[X, X], dynamics=[U, U]),
        "occurs twice in the state",
    ),
    "a parameter that is a state": (
        lambda: line(parameters=[X]),
        "a state and a parameter are called x1",
    ),
    "a parameter that is no symbol": (lambda: line(parameters=[2 * P]), "must be CasADi symbols"),
    "an MX state": (
        lambda: line(state=MX, dynamics=MX),
        r"state is a casadi\.MX.*ca\.SX\.sym",
    ),
    "an MX control": (lambda: line(control=MX), r"control is a casadi\.MX"),
    "MX dynamics": (lambda: line(dynamics=[MX]), r"dynamics is a casadi\.MX"),
    "an MX horizon": (lambda: line(horizon=MX), r"horizon is a casadi\.MX"),
    "an MX parameter": (lambda: line(parameters=[MX]), r"parameters is a casadi\.MX"),
    "an MX integrand": (lambda: integral(MX**2), r"integral\(\.\.\.\) is a casadi\.MX"),
    "an MX limit": (lambda: along_path(U) <= MX, r"is a casadi\.MX"),
    "an MX limit within": (lambda: along_path(U).within(-1, MX), r"is a casadi\.MX"),
    "an MX summand": (lambda: at_end(X) + MX, r"is a casadi\.MX"),
    "an MX state in the solver's own form": (
        lambda: OptimalControlProblem(MX, U, U, 1.0, [0.0]),
        r"state must be CasADi symbols made by ca\.SX\.sym.*a MX",
    ),
    "a value over the horizon inside another": (
        lambda: integral(at_end(X) * 2),
        r"integral\(\.\.\.\) contains at_end\(x1\), a value over the horizon",
    ),
    "CasADi's function of a value": (
        lambda: ca.sin(along_path(X)),
        r"along_path\(x1\); apply it inside, as in along_path\(ca\.sin",
    ),
    "CasADi's column of values": (
        lambda: ca.vertcat(at_end(X), at_end(V)),
        r"CasADi function is applied to at_end\(x1\)",
    ),
    "a function of NumPy that there is no such": (
        lambda: np.logaddexp(at_end(X), 1.0),
        r"numpy\.logaddexp does not know at_end\(x1\).*apply",
    ),
    "a word": (lambda: at_end("x"), r"at_end\(\.\.\.\) is 'x', expected a CasADi expression"),
    "a comparison with a word": (lambda: at_end(X) <= "x", "compared with 'x'; give a number"),
    "a point at a free time": (lambda: at(BIG, X), r"at\(T, \.\.\.\) needs a number"),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=list(REFUSED))
def test_a_symbol_that_cannot_be_meant_is_refused_in_one_line(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def ramp():
    """x = t and u = 1 with p = 2."""
    problem = line(minimize=ENERGY + at_end((P - 2) ** 2), parameters=[P], time=T)
    return solve(problem, **GAUSS)


@pytest.mark.parametrize(
    ("expression", "expected"), [(P, 2.0), (P**2 + 1, 5.0), (3.0, 3.0), ([P, 1], [2.0, 1.0])]
)
def test_the_value_of_an_expression_of_parameters_is_one(ramp, expression, expected):
    np.testing.assert_allclose(ramp.value(expression), expected, rtol=1e-7)


@pytest.mark.parametrize("expression", [X, U * P, T + 1, ca.vertcat(P, X)])
def test_an_expression_that_depends_on_time_has_no_single_value(ramp, expression):
    with pytest.raises(ValueError, match=r"is a function of time; write value\(at_end\("):
        ramp.value(expression)


NUMPYS = {
    "sine": (lambda: np.sin(at_end(X)), math.sin(1)),
    "arcus": (lambda: np.arcsin(at_end(X / 2)), math.asin(0.5)),
    "root": (lambda: np.sqrt(integral(4 * U)), 2.0),
    "absolute value": (lambda: np.abs(at_start(X) - at_end(X)), 1.0),
    "hyperbolic": (lambda: np.arctanh(at_end(X) / 2), math.atanh(0.5)),
    "exponential of a sum": (lambda: np.exp(np.float64(1) + at_end(X)), math.exp(2)),
}


@pytest.mark.parametrize(("make", "expected"), NUMPYS.values(), ids=list(NUMPYS))
def test_numpys_functions_are_functions_of_values(ramp, make, expected):
    assert ramp.value(make()) == pytest.approx(expected, rel=1e-7)


def test_numpys_functions_make_costs_and_conditions():
    """sqrt(1 + a^2) - 0.6 a for constant u = a: a = 3/4, unless exp(x(1)) <= exp(1/2)."""
    cost = np.sqrt(1 + ENERGY) - 0.6 * at_end(X)
    arguments = {"state": X, "control": U, "dynamics": U, "horizon": 1.0, "minimize": cost}
    for limits, best in (([], 0.75), ([np.exp(at_end(X)) <= math.exp(0.5)], 0.5)):
        problem = pose(**arguments, subject_to=[at_start(X) == 0, *limits])
        solution = solve(problem, **GAUSS)
        assert solution.is_solved
        assert solution.value(at_end(X)) == pytest.approx(best, rel=1e-6)


def test_limits_with_symbols_are_rows_of_their_own():
    """min q^2 + Int (u - 2)^2 with |u| <= q: (q - 2)^2 + q^2 is least at q = 1."""
    for condition in (
        along_path(U).within(-Q, Q),
        along_path(U).within(-5, Q),
        along_path(U).within([-Q], [Q]),
        along_path(U).within(-3 * Q, along_path(Q)),
    ):
        problem = pose(
            state=X,
            control=U,
            dynamics=U,
            horizon=1.0,
            minimize=integral((U - 2) ** 2) + at_end(Q**2),
            subject_to=[at_start(X) == 0, condition.named("limit")],
        )
        solution = solve(problem, **GAUSS)
        assert solution.is_solved, solution.message
        assert solution.objective == pytest.approx(2.0, rel=1e-7)
        assert solution.dual("limit").values.shape[1] == condition.expression.value.numel()


def test_a_limit_may_be_a_value_over_the_horizon():
    condition = at_end(X).within(0.5, at_start(X) + 1)
    assert condition.expression.value.numel() == 2
    np.testing.assert_array_equal(condition.lower, [0.5, -math.inf])
    np.testing.assert_array_equal(condition.upper, [math.inf, 0.0])


def test_every_name_that_an_unknown_dual_lists_is_accepted():
    """Long expressions, twins, points, bounds, free starts, parameters and integrals."""
    long = ca.sin(X + V) ** 2 + ca.cos(X + V) ** 3 + ca.exp(X + V) + X**5
    problem = pose(
        state=[X, V],
        control=U,
        dynamics=[V, U * P],
        horizon=1.0,
        parameters=[P],
        minimize=ENERGY + at_end((P - 1) ** 2),
        subject_to=[
            at_start(X) == 0,
            at_end(X) == 0.1,
            2 * at_end(X) >= -3,
            along_path(long) <= 50,
            along_path(2 * long) <= 200,
            along_path(long + U) <= 70,
            along_path(U).within(-30, 30),
            along_path(U) <= 29,
            along_path(U**2) <= 1000,
            at(0.5, long) <= 40,
            at(0.5, X) >= -1,
            at(0.5, V) >= -20,
            integral(long) <= 40,
            at_end(P).within(0.5, 2),
            along_path(U).within(-20 * P, 40 * P),
        ],
    )
    solution = solve(problem, **GAUSS)
    assert solution.is_solved, solution.message
    with pytest.raises(ValueError, match="there is no constraint 'nothing'") as caught:
        solution.dual("nothing")
    names = str(caught.value).partition("there are ")[2].removesuffix(".").split(", ")
    known = solution._known()
    assert "along_path of x1, v" in known
    assert "along_path of x1, v (2)" in known
    assert "at_end(x1) (2)" in known
    assert len(set(known)) == len(known)
    for name in known:
        assert "@" not in name
        assert "..." not in name
        assert len(name) <= 44
        assert name in str(caught.value)
        assert len(solution.dual(name).times) >= 1
    assert len(names) >= len(known)


def test_twins_have_duals_of_their_own():
    """x(1) <= 2 does not hold x(1) = 1 of min Int u^2, which 2 x(1) >= 2 does: 2 / 2."""
    problem = pose(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        minimize=ENERGY,
        subject_to=[at_start(X) == 0, at_end(X) <= 2, 2 * at_end(X) >= 2],
    )
    solution = solve(problem, **GAUSS)
    assert solution.dual("at_end(x1)").values.ravel() == pytest.approx([0.0], abs=1e-6)
    assert solution.dual("at_end(x1) (2)").values.ravel() == pytest.approx([-1.0], rel=1e-6)
