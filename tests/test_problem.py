"""Facts about problems in continuous time: what they accept, and what they say when they do not."""

from typing import Any

import casadi as ca
import numpy as np
import pytest
from ensembles import ensemble_problem

from ocp import FREE, Constraint, OptimalControlProblem
from ocp.problem import as_bounds

X, U, P, D = (ca.SX.sym(name, 2) for name in ("x", "u", "p", "d"))
T = ca.SX.sym("t")
START = ca.SX.sym("start", 2)
STRANGER = ca.SX.sym("stranger")


def problem(**changes: Any) -> OptimalControlProblem:
    standard: dict[str, Any] = {
        "state": X,
        "control": U,
        "dynamics": U - X,
        "horizon": 2.0,
        "initial_state": [1.0, 0.0],
        "parameter": P,
        "time": T,
    }
    return OptimalControlProblem(**{**standard, **changes})


def test_one_initial_state_makes_one_member_without_data():
    ordinary = problem()
    assert ordinary.members == 1
    assert ordinary.initial_state.shape == (1, 2)
    assert ordinary.member_data.shape == (1, 0)


def test_every_row_of_the_initial_states_is_a_member():
    ensemble = problem(initial_state=np.ones((4, 2)), data=D, member_data=np.ones((4, 2)))
    assert ensemble.members == 4


def test_a_problem_keeps_its_own_copy_of_the_numbers_it_was_given():
    states, data, limit = np.zeros((3, 2)), np.zeros((3, 2)), np.ones(2)
    ensemble = problem(
        initial_state=states, data=D, member_data=data, control_bounds=(-limit, limit)
    )
    for array in (states, data, limit):
        array += 7.0
    assert not ensemble.initial_state.any()
    assert not ensemble.member_data.any()
    assert ensemble.control_bounds[1].tolist() == [1.0, 1.0]


def test_costs_may_be_plain_numbers():
    assert float(problem(running_cost=2.0).running_cost) == 2.0


def test_a_horizon_that_depends_on_a_parameter_is_free():
    assert problem(horizon=P[0]).has_free_horizon
    assert not problem(horizon=2.0).has_free_horizon
    constant = problem(horizon=ca.SX(3.0))
    assert not constant.has_free_horizon
    assert constant.horizon == 3.0


def test_components_of_the_initial_state_may_be_free():
    assert problem(initial_state=[1.0, FREE]).free_initial.tolist() == [False, True]
    assert not problem().free_initial.any()


def test_scalar_bounds_hold_for_every_component():
    lower, upper = problem(state_bounds=(-1.0, [2.0, 3.0])).state_bounds
    assert lower.tolist() == [-1.0, -1.0]
    assert upper.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dynamics": X[0]}, "dynamics has 1 components, expected 2"),
        ({"horizon": 0.0}, "horizon must be positive and finite, got 0.0"),
        ({"horizon": -1.0}, "horizon must be positive and finite"),
        ({"horizon": np.nan}, "horizon must be positive and finite, got nan"),
        ({"horizon": np.inf}, "horizon must be positive and finite, got inf"),
        ({"initial_state": [1.0]}, r"initial_state has shape \(1,\), expected \(2,\)"),
        ({"initial_state": np.zeros((1, 1, 2))}, "initial_state has shape"),
        ({"initial_state": [[0.0, 1.0], [2.0, np.inf]]}, r"initial_state\[1, 1\] is inf"),
        ({"initial_state": [[0.0, 1.0], [2.0, FREE]]}, "only a problem of one member may have"),
        ({"initial": X[0]}, "initial has 1 symbols, expected 2 or none"),
        ({"initial_state": [np.inf, 0.0]}, r"initial_state\[0, 0\] is inf"),
        ({"data": D}, r"member_data has shape \(1, 0\), expected \(1, 2\)"),
        ({"member_data": [[1.0]]}, r"member_data has shape \(1, 1\), expected \(1, 0\)"),
        ({"data": D, "member_data": np.ones((3, 2))}, "one row per row of initial_state"),
        ({"data": D, "member_data": [[0.0, -np.inf]]}, r"member_data\[0, 1\] is -inf"),
        ({"state_bounds": (1.0, 0.0)}, "state_bounds: component 0 has lower bound 1 above"),
        ({"control_bounds": (0.0, [1.0, -2.0])}, "control_bounds: component 1 has lower bound 0"),
        ({"control_bounds": (np.nan, 1.0)}, "control_bounds: component 0 has lower bound nan"),
        ({"parameter_bounds": ([0.0] * 3, 1.0)}, r"parameter_bounds must be \(lower, upper\)"),
        ({"state_bounds": (0.0, 1.0, 2.0)}, r"state_bounds must be \(lower, upper\)"),
        ({"running_cost": X}, r"running_cost has shape \(2, 1\), expected a scalar"),
        ({"terminal_cost": X}, "terminal_cost has shape"),
        ({"control_cost": U}, "control_cost has shape"),
        ({"parameter_cost": P}, "parameter_cost has shape"),
        ({"control_rate_weight": -1.0}, "control_rate_weight must be >= 0 and finite, got -1.0"),
        ({"control_rate_weight": np.nan}, "control_rate_weight must be >= 0 and finite"),
    ],
)
def test_a_problem_says_what_does_not_fit(changes, words):
    with pytest.raises(ValueError, match=words):
        problem(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dynamics": X * STRANGER}, "dynamics depends on stranger"),
        ({"running_cost": STRANGER}, "running_cost depends on stranger"),
        ({"terminal_cost": U[0] * X[0]}, "terminal_cost depends on u_0"),
        ({"control_cost": X[1] * U[0]}, "control_cost depends on x_1"),
        ({"parameter_cost": P[0] + T}, "parameter_cost depends on t"),
        ({"horizon": P[0] * X[0]}, "horizon depends on x_0"),
        ({"dynamics": U - START, "initial": START}, "dynamics depends on start_0, start_1"),
        ({"path_constraints": [Constraint("a", STRANGER)]}, "path constraint 'a' depends on"),
        ({"terminal_constraints": [Constraint("b", U)]}, "terminal constraint 'b' depends on u_0"),
        ({"control_constraints": [Constraint("c", X)]}, "control constraint 'c' depends on x_0"),
    ],
)
def test_an_expression_may_use_only_the_symbols_declared_for_it(changes, words):
    with pytest.raises(ValueError, match=words):
        problem(**changes)


def test_a_symbol_of_the_same_name_is_still_a_stranger():
    with pytest.raises(ValueError, match="dynamics depends on x_0, x_1"):
        problem(dynamics=U - ca.SX.sym("x", 2))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lower": 1.0, "upper": 0.0}, "constraint 'r' needs lower <= upper in every component"),
        ({"lower": [0.0, 2.0], "upper": 1.0}, "needs lower <= upper"),
        ({"lower": np.nan}, "needs lower <= upper"),
        ({"weight": 0.0}, "constraint 'r' needs a positive weight, got 0.0"),
        ({"weight": -1.0}, "needs a positive weight"),
        ({"weight": np.nan}, "needs a positive weight, got nan"),
    ],
)
def test_a_constraint_says_what_does_not_fit(arguments, words):
    with pytest.raises(ValueError, match=words):
        Constraint("r", X, **arguments)


def test_a_constraint_is_soft_exactly_if_its_weight_is_finite():
    assert not Constraint("hard", X).is_soft
    assert Constraint("soft", X, weight=3.0).is_soft


def test_bounds_of_no_components_are_empty():
    lower, upper = as_bounds("nothing", (-np.inf, np.inf), 0)
    assert lower.shape == upper.shape == (0,)


@pytest.mark.parametrize(
    ("changes", "autonomous"),
    [
        ({}, True),
        ({"terminal_cost": T * X[0]}, True),
        ({"terminal_constraints": [Constraint("end", X)]}, True),
        ({"control_bounds": (-1.0, 1.0)}, True),
        ({"path_constraints": [Constraint("soft", X, weight=1.0)]}, True),
        ({"dynamics": U - X * T}, False),
        ({"running_cost": T}, False),
        ({"control_cost": T * U[0]}, False),
        ({"control_constraints": [Constraint("c", T * U[0])]}, False),
        ({"path_constraints": [Constraint("soft", T * X, weight=1.0)]}, False),
        ({"path_constraints": [Constraint("hard", X)]}, False),
        ({"control_rate_weight": 1.0}, False),
        ({"state_bounds": (-np.inf, [np.inf, 1.0])}, False),
    ],
)
def test_the_hamiltonian_is_conserved_without_time_rate_penalty_and_hard_state_constraints(
    changes, autonomous
):
    assert problem(**changes).is_autonomous is autonomous


def test_the_ensemble_with_every_feature_is_a_problem():
    assert ensemble_problem(members=5).members == 5
