"""Facts about staged problems: what discretisation makes of a problem in continuous time."""

import pickle
from dataclasses import replace
from typing import Any

import casadi as ca
import numpy as np
import pytest
from ensembles import (
    INFINITY,
    ensemble_problem,
    plain_cost,
    random_decisions,
    total_cost,
    varying_problem,
)
from hypothesis import given
from hypothesis import strategies as st

from ocp import (
    EULER,
    FREE,
    GAUSS_LEGENDRE_2,
    GAUSS_LEGENDRE_4,
    HEUN,
    MIDPOINT,
    RADAU_IIA_1,
    RADAU_IIA_3,
    RK4,
    Constraint,
    OptimalControlProblem,
    TimeGrid,
    discretize,
    random_guess,
    rollout,
)
from ocp.condensing import linearize
from ocp.stages import Rows, StageFunction
from ocp.trajectory import constant_guess

X, U, T, HORIZON = (ca.SX.sym(name) for name in ("x", "u", "t", "T"))
GRADED = TimeGrid.graded([0.2, 0.5, 0.3, 0.5])  # spans the ensemble's horizon, 1.5


def scalar(**changes: Any) -> OptimalControlProblem:
    standard: dict[str, Any] = {
        "state": X,
        "control": U,
        "dynamics": U,
        "horizon": 1.0,
        "initial_state": [1.0],
        "time": T,
    }
    return OptimalControlProblem(**{**standard, **changes})


@pytest.mark.parametrize("tableau", [EULER, MIDPOINT, HEUN, RK4], ids=lambda t: t.name)
@pytest.mark.parametrize("substeps", [1, 3])
def test_the_staged_cost_is_that_of_plain_loops(tableau, substeps):
    problem = ensemble_problem(members=3)
    staged = discretize(problem, GRADED, tableau, substeps)
    for seed in range(3):
        decisions = random_decisions(staged, seed)
        expected = plain_cost(problem, GRADED.nodes, (tableau.a, tableau.b), substeps, decisions)
        objective = linearize(staged, rollout(staged, decisions)).objective
        assert objective == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("tableau", [EULER, HEUN, RK4], ids=lambda t: t.name)
@pytest.mark.parametrize("substeps", [1, 2])
def test_with_a_control_per_stage_every_stage_sees_its_own(tableau, substeps):
    problem = replace(ensemble_problem(members=2), control_rate_weight=0.0)
    staged = discretize(problem, GRADED, tableau, substeps, control_per_stage=True)
    decisions = random_decisions(staged)
    assert decisions.size == 4 * 2 * substeps * tableau.stages + 1
    coefficients = (tableau.a, tableau.b)
    expected = plain_cost(problem, GRADED.nodes, coefficients, substeps, decisions, True)
    assert linearize(staged, rollout(staged, decisions)).objective == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tableau", "growth"),
    [
        (RADAU_IIA_1, lambda z: 1 / (1 - z)),
        (GAUSS_LEGENDRE_2, lambda z: (1 + z / 2) / (1 - z / 2)),
        (RADAU_IIA_3, lambda z: (1 + z / 3) / (1 - 2 * z / 3 + z**2 / 6)),
        (GAUSS_LEGENDRE_4, lambda z: (1 + z / 2 + z**2 / 12) / (1 - z / 2 + z**2 / 12)),
    ],
    ids=lambda item: getattr(item, "name", ""),
)
def test_an_implicit_step_of_a_linear_equation_is_its_stability_function(tableau, growth):
    """x' = u x; the stability functions are Pade approximants of exp."""
    staged = discretize(scalar(dynamics=U * X), TimeGrid.uniform(2), tableau, substeps=3)
    states = rollout(staged, [-2.0, 1.5]).state_array[:, 0, 0]
    expected = [1.0, growth(-2.0 / 6) ** 3, growth(-2.0 / 6) ** 3 * growth(1.5 / 6) ** 3]
    np.testing.assert_allclose(states, expected, rtol=1e-13)


def test_a_free_horizon_scales_a_grid_on_the_unit_interval():
    """As a parameter T = 2.5 the horizon gives the states and costs of a grid on [0, 2.5]."""
    horizon = ca.SX.sym("T")
    parts = {"dynamics": ca.tanh(U * X) + T, "running_cost": T * X**2, "control_cost": T * U**2}
    rest = {"terminal_cost": X * T, "control_rate_weight": 0.3}
    free = discretize(
        scalar(horizon=horizon, parameter=horizon, **parts, **rest), TimeGrid.uniform(4), HEUN
    )
    fixed = discretize(scalar(horizon=2.5, **parts, **rest), TimeGrid.uniform(4, 2.5), HEUN)
    controls = random_decisions(fixed)
    scaled = rollout(free, np.append(controls, 2.5))
    plain = rollout(fixed, controls)
    np.testing.assert_allclose(scaled.state_array, plain.state_array, rtol=1e-13)
    assert linearize(free, scaled).objective == pytest.approx(linearize(fixed, plain).objective)


def test_a_free_initial_value_is_a_parameter():
    x = ca.SX.sym("x", 2)
    parts: dict[str, Any] = {
        "state": x,
        "control": U,
        "dynamics": ca.vertcat(x[1], U - x[0]),
        "horizon": 1.0,
        "running_cost": ca.sumsqr(x),
        "path_constraints": [Constraint("row", x[1], weight=0.5)],
    }
    free = discretize(
        OptimalControlProblem(initial_state=[0.3, FREE], **parts), TimeGrid.uniform(3), RK4
    )
    fixed = discretize(
        OptimalControlProblem(initial_state=[0.3, -1.2], **parts), TimeGrid.uniform(3), RK4
    )
    assert free.parameter_size == 1
    controls = random_decisions(fixed)
    assert total_cost(free, np.append(controls, -1.2)) == pytest.approx(total_cost(fixed, controls))


def test_maximising_turns_the_sign_of_the_costs_but_not_of_penalties():
    def cost(**changes: Any) -> float:
        problem = scalar(
            running_cost=X**2,
            control_cost=U,
            terminal_cost=-X,
            terminal_constraints=[Constraint("end", X, weight=3.0)],
            **changes,
        )
        staged = discretize(problem, TimeGrid.uniform(3), EULER)
        return total_cost(staged, np.array([1.0, -0.5, 2.0]))

    penalty = 3.0 * (1.0 + 2.5 / 3)
    assert cost(maximize=True) - penalty == pytest.approx(-(cost() - penalty))


def test_a_grid_may_start_at_any_time():
    problem = ensemble_problem()
    late = TimeGrid(GRADED.nodes + 3.0)
    staged = discretize(problem, late, RK4)
    decisions = random_decisions(staged)
    expected = plain_cost(problem, late.nodes, (RK4.a, RK4.b), 1, decisions)
    assert linearize(staged, rollout(staged, decisions)).objective == pytest.approx(expected)


@given(shift=st.floats(-100.0, 100.0), seed=st.integers(0, 9))
def test_shifting_time_leaves_an_autonomous_problem_alone(shift, seed):
    problem = scalar(dynamics=ca.tanh(U * X), running_cost=X**2, control_cost=U**2)
    here = discretize(problem, TimeGrid.uniform(5), HEUN)
    there = discretize(problem, TimeGrid.uniform(5, start=shift), HEUN)
    decisions = random_decisions(here, seed)
    # A node of size 100 carries its rounding error of 1e-14 into a step of 0.2.
    assert total_cost(there, decisions) == pytest.approx(total_cost(here, decisions), rel=1e-12)


def test_substeps_are_intervals_that_share_a_control():
    problem = scalar(
        dynamics=ca.tanh(U * X) + T,
        running_cost=T * X**2,
        control_cost=U**2,
        path_constraints=[Constraint("soft", X, weight=2.0)],
        terminal_cost=X**3,
    )
    coarse = discretize(problem, TimeGrid.uniform(3), RK4, substeps=4)
    fine = discretize(problem, TimeGrid.uniform(12), RK4)
    decisions = random_decisions(coarse)
    assert total_cost(coarse, decisions) == pytest.approx(total_cost(fine, np.repeat(decisions, 4)))


def test_with_fixed_controls_the_cost_converges_at_the_order_of_the_tableau():
    """Exact: x = exp(sin t), and Int_0^2 x' dt = exp(sin 2) - 1."""
    problem = scalar(dynamics=ca.cos(T) * X, running_cost=ca.cos(T) * X, horizon=2.0)
    for tableau in (EULER, HEUN, RK4):
        errors = []
        for intervals in (20, 40, 80):
            staged = discretize(problem, TimeGrid.uniform(intervals, 2.0), tableau)
            errors.append(total_cost(staged, np.zeros(intervals)) - np.expm1(np.sin(2.0)))
        slope = np.log2(errors[-2] / errors[-1])
        assert slope == pytest.approx(tableau.order, abs=0.15)


def test_the_penalty_on_the_derivative_of_the_control_converges_to_its_integral():
    """u = t^2 has Int_0^1 u'^2 dt = 4/3."""
    errors = []
    for intervals in (20, 40):
        grid = TimeGrid.uniform(intervals)
        staged = discretize(scalar(control_rate_weight=1.0), grid, EULER)
        midpoints = (grid.nodes[1:] + grid.nodes[:-1]) / 2
        errors.append(4 / 3 - total_cost(staged, midpoints**2))
    # The sum leaves out half an interval at either end, which costs one order: h/2 u'(1)^2.
    assert errors[1] == pytest.approx(1 / 40 * 4 / 2, rel=0.05)
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)


def test_one_interval_has_no_derivative_of_the_control_to_penalise():
    staged = discretize(scalar(control_rate_weight=1.0), TimeGrid.uniform(1), EULER)
    assert total_cost(staged, np.array([3.0])) == 0.0


def test_the_cost_of_a_soft_path_row_is_its_integral():
    problem = scalar(
        initial_state=[0.0],
        path_constraints=[Constraint("r", ca.vertcat(X, -X), [-1.0, 0.0], 0.0, weight=3.0)],
    )
    staged = discretize(problem, TimeGrid.uniform(4), RK4, substeps=2)
    # x = 2 t stays above its upper bound 0; -x stays below its lower bound 0.
    assert total_cost(staged, np.full(4, 2.0)) == pytest.approx(2 * 3.0 * 1.0)
    assert staged.stages[0].rows.names[:2] == ("r[0]", "r[1]")


def test_hard_path_rows_of_the_state_hold_at_every_node_and_substep_and_terminal_rows_at_the_end():
    problem = scalar(
        path_constraints=[Constraint("along", X, 0.0, 2.0)],
        terminal_constraints=[Constraint("end", X, 1.0, 1.0)],
    )
    staged = discretize(problem, TimeGrid.uniform(3), RK4, substeps=2)
    names = [("along", "along")] * 3 + [("end", "along")]
    assert [stage.rows.names for stage in staged.stages] == names
    assert np.isinf(staged.stages[0].rows.weight).all()


def path_row_values(control_per_stage: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows (t, u, x) of x' = u over [0, 3] in two intervals, and the decisions they belong to."""
    problem = scalar(
        horizon=HORIZON,
        parameter=HORIZON,
        path_constraints=[Constraint("row", ca.vertcat(T, U, X), -9.0, 9.0)],
    )
    staged = discretize(problem, TimeGrid.uniform(2), HEUN, control_per_stage=control_per_stage)
    decisions = np.append(np.arange(1.0, staged.decision_size), 3.0)
    stages = linearize(staged, rollout(staged, decisions)).stages
    return decisions, [values.rows[0] for values in stages]


def test_hard_path_rows_see_the_control_of_the_interval_at_its_start():
    (u0, u1, _), rows = path_row_values(control_per_stage=False)
    np.testing.assert_allclose(rows[0], [0.0, u0, 1.0])
    np.testing.assert_allclose(rows[1], [1.5, u1, 1.0 + 1.5 * u0])


def test_hard_path_rows_with_a_control_per_stage_see_each_at_its_stage():
    (u0, u1, u2, u3, _), rows = path_row_values(control_per_stage=True)
    np.testing.assert_allclose(rows[0], [0.0, u0, 1.0, 1.5, u1, 1.0 + 1.5 * u0])
    x = 1.0 + 1.5 * (u0 + u1) / 2
    np.testing.assert_allclose(rows[1], [1.5, u2, x, 3.0, u3, x + 1.5 * u2])


def test_constraints_on_the_control_are_counted_once_however_many_members():
    constraint = Constraint("budget", U, -INFINITY, 1.0, weight=5.0)
    for members in (1, 7):
        problem = scalar(control_constraints=[constraint], initial_state=np.zeros((members, 1)))
        staged = discretize(problem, TimeGrid.uniform(2), EULER)
        assert total_cost(staged, np.array([3.0, 1.0])) == pytest.approx(0.5 * 5.0 * 2.0)


def test_stages_of_one_function_are_evaluated_together():
    staged = discretize(ensemble_problem(), GRADED, RK4)
    assert list(staged.batches()) == [[0, 1, 2, 3], [4]]
    assert list(varying_problem().batches()) == [[0], [1], [2]]


@pytest.mark.parametrize("staged", [varying_problem(), discretize(ensemble_problem(), GRADED, RK4)])
def test_the_decisions_are_the_controls_in_order_and_then_the_parameters(staged):
    places = [np.arange(staged.decision_size)[s] for s in staged.control_slices]
    places.append(np.arange(staged.decision_size)[staged.parameter_slice])
    assert np.concatenate(places).tolist() == list(range(staged.decision_size))
    decisions = random_decisions(staged)
    assert np.array_equal(rollout(staged, decisions).decisions, decisions)


def test_columns_of_a_stage_function_are_differentiated_one_by_one():
    v, g = ca.SX.sym("v", 3), ca.SX.sym("g", 1)
    successor = ca.vertcat(v[0] * v[1], ca.sin(v[2]) * g)
    cost, rows = ca.exp(v[0]) * v[2] ** 2, ca.vertcat(v[1] ** 3 * g)
    function = StageFunction.of("f", [v], [g], successor, cost, rows)
    assert (function.unknowns, function.successor_size, function.row_count) == (3, 2, 1)
    generator = np.random.default_rng(0)
    columns, given_, multipliers = (generator.standard_normal((k, 4)) for k in (3, 1, 3))
    outputs, y = ca.vertcat(successor, rows), ca.SX.sym("y", 3)
    lagrangian = cost + ca.dot(y, outputs)
    exact = ca.Function(
        "exact",
        [v, g, y],
        [ca.jacobian(outputs, v), ca.jacobian(cost, v), ca.hessian(lagrangian, v)[0]],
    )
    jacobians, gradients = function.derivatives(columns, given_)
    hessians = function.hessians(columns, given_, multipliers)
    for k in range(4):
        j, c, h = (e.full() for e in exact(columns[:, k], given_[:, k], multipliers[:, k]))
        np.testing.assert_allclose(jacobians[k], j, rtol=1e-14)
        np.testing.assert_allclose(gradients[k], c[0], rtol=1e-14)
        np.testing.assert_allclose(hessians[k], h, rtol=1e-13, atol=1e-15)


def test_a_function_without_curvature_has_hessian_zero():
    function = StageFunction.of("linear", [X, U], [], X + U, 2 * X, ca.SX(0, 1))
    assert not function.hessians(np.ones((2, 3)), np.zeros((0, 3)), np.ones((1, 3))).any()


@pytest.mark.parametrize(
    "make", [varying_problem, lambda: discretize(ensemble_problem(), GRADED, RK4)]
)
def test_a_staged_problem_survives_pickling(make):
    staged = make()
    decisions = random_decisions(staged)
    before = linearize(staged, rollout(staged, decisions)).objective
    twin = pickle.loads(pickle.dumps(staged))
    assert linearize(twin, rollout(twin, decisions)).objective == before
    assert [len(group) for group in twin.batches()] == [len(group) for group in staged.batches()]


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"tableau": MIDPOINT, "control_per_stage": True}, "'midpoint' has a zero weight"),
        (
            {"control_rate_weight": 1.0},
            {"control_per_stage": True},
            "penalty on the control's derivative needs one control per interval",
        ),
        (
            {
                "horizon": HORIZON,
                "parameter": HORIZON,
                "path_constraints": [Constraint("soft", X, weight=1.0)],
            },
            {},
            "soft path constraints need a fixed horizon",
        ),
    ],
)
def test_what_cannot_be_discretised_is_refused(changes, options, words):
    with pytest.raises(ValueError, match=words):
        discretize(scalar(**changes), TimeGrid.uniform(2), **{"tableau": EULER, **options})


@pytest.mark.parametrize(
    ("grid", "tableau", "substeps", "words"),
    [
        (TimeGrid.uniform(2), EULER, 0, "substeps must be at least 1, got 0"),
        (TimeGrid.uniform(2, 3.0), EULER, 1, "grid spans 3, expected 1: the problem's horizon"),
    ],
)
def test_discretisation_says_what_does_not_fit(grid, tableau, substeps, words):
    with pytest.raises(ValueError, match=words):
        discretize(scalar(), grid, tableau, substeps)


def test_neighbouring_stages_must_fit():
    staged = varying_problem()
    first, second, last = staged.stages
    with pytest.raises(ValueError, match="stage 0 leads to a state of size 3, but the next one"):
        replace(staged, stages=(first, first, last))
    with pytest.raises(ValueError, match="at least two stages, the last one without control"):
        replace(staged, stages=(first, second))
    with pytest.raises(ValueError, match="at least two stages"):
        replace(staged, stages=(last,))
    with pytest.raises(ValueError, match="stage 0 has a function of 5 unknowns, expected 6"):
        replace(staged, stages=(replace(first, control_size=3), second, last))
    with pytest.raises(ValueError, match="stage 1 leads to a state of size 1, but the next one"):
        replace(staged, stages=(first, second, second, last))


def test_no_rows_are_empty():
    rows = Rows.none()
    assert rows.names == ()
    assert rows.lower.size == rows.upper.size == rows.weight.size == 0


def test_a_rollout_wants_as_many_decisions_as_there_are():
    with pytest.raises(ValueError, match=r"decisions has shape \(3,\), expected \(4,\)"):
        rollout(varying_problem(), np.zeros(3))


def test_a_random_guess_stays_within_the_bounds_and_repeats_itself():
    staged = discretize(scalar(control_bounds=(-0.5, 0.25)), TimeGrid.uniform(50), EULER)
    guess = random_guess(staged, seed=3)
    assert guess.control_array.min() == -0.5
    assert guess.control_array.max() == 0.25
    assert np.array_equal(guess.decisions, random_guess(staged, seed=3).decisions)
    assert not np.array_equal(guess.decisions, random_guess(staged, seed=4).decisions)


def test_a_constant_guess_holds_the_states_at_their_start():
    staged = discretize(scalar(), TimeGrid.uniform(3), EULER)
    guess = constant_guess(staged, 2.0)
    assert guess.state_array.shape == (4, 1, 1)
    assert (guess.state_array == 1.0).all()
    assert guess.control_array.tolist() == [[2.0]] * 3


def test_stages_of_changing_sizes_have_no_constant_guess_and_no_single_array():
    staged = varying_problem()
    with pytest.raises(ValueError, match="stages change size; roll out controls"):
        constant_guess(staged)
    trajectory = rollout(staged, np.zeros(4))
    with pytest.raises(ValueError, match=r"state changes size along the stages; use \.states"):
        _ = trajectory.state_array
    with pytest.raises(ValueError, match=r"control changes size along the stages; use \.controls"):
        _ = trajectory.control_array
