"""Facts about certificates: what they accept, what each residual sees, what they refuse."""

import re
from dataclasses import replace
from typing import Any

import casadi as ca
import numpy as np
import pytest
from ensembles import (
    ensemble_problem,
    lagrangian,
    no_multipliers,
    random_multipliers,
    rolled_out,
    row_blocks,
    varying_problem,
)
from scipy.linalg import null_space

from ocp import (
    EULER,
    HEUN,
    RK4,
    Certificate,
    Constraint,
    OptimalControlProblem,
    Solution,
    StagedProblem,
    Status,
    TimeGrid,
    Trajectory,
    certify,
    discretize,
    random_guess,
    rollout,
    solve,
    solve_staged,
)
from ocp import certificate as certificate_module
from ocp.condensing import adjoint, linearize, reduced_gradient
from ocp.eigenvalues import smallest_eigenvalue
from ocp.reduced_hessian import reduced_hessian
from ocp.riccati import is_positive_definite
from ocp.solve import verdict

X, U, T = ca.SX.sym("x"), ca.SX.sym("u"), ca.SX.sym("t")
INFINITY = np.inf
TOLERANCE = 1e-8  # what "solved" means by default


def scalar(**changes: Any) -> OptimalControlProblem:
    """x' = u from 0 on [0, 1] at the cost Int u^2."""
    standard: dict[str, Any] = {
        "state": X,
        "control": U,
        "dynamics": U,
        "horizon": 1.0,
        "initial_state": [0.0],
        "control_cost": U**2,
        "time": T,
    }
    return OptimalControlProblem(**{**standard, **changes})


def staged_scalar(intervals: int = 4, **changes: Any) -> StagedProblem:
    return discretize(scalar(**changes), TimeGrid.uniform(intervals), EULER)


def constant(staged: StagedProblem, control: float) -> Trajectory:
    return rollout(staged, np.full(staged.decision_size, control))


def fitting_problem(members: int = 4, order: np.ndarray | None = None) -> StagedProblem:
    """Members steered towards their own targets by one control, with a soft corridor."""
    generator = np.random.default_rng(5)
    x, u, d = ca.SX.sym("x", 2), ca.SX.sym("u", 3), ca.SX.sym("d", 2)
    order = np.arange(members) if order is None else order
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(u[0] * ca.tanh(x[1]) + u[1], u[2] * ca.tanh(x[0]) + u[1]),
        horizon=1.0,
        initial_state=generator.standard_normal((members, 2))[order],
        terminal_cost=ca.sumsqr(x - d) / members,
        control_cost=0.05 * ca.sumsqr(u),
        path_constraints=[Constraint("corridor", x[0], -0.8, 0.8, weight=0.05)],
        control_bounds=([-1.0, -1.0, -0.2], [1.0, 1.0, 0.2]),
        data=d,
        member_data=generator.standard_normal((members, 2))[order],
    )
    return discretize(problem, TimeGrid.uniform(6), HEUN)


def second_order_by_hand(staged: StagedProblem, solution: Solution) -> np.ndarray:
    """Eigenvalues of the Lagrangian's Hessian on the null space of the active rows and bounds.

    Both are differentiated by CasADi from a rolled-out expression; a row counts as active if its
    distance to a bound is below 1e-6, which is far from any ambiguity in the problems used here.
    """
    u, cost, rows = rolled_out(staged)
    multipliers = solution.certificate.multipliers.rows
    hessian = ca.hessian(lagrangian(cost, rows, multipliers), u)[0]
    stacked = ca.vertcat(*[ca.vec(block) for block in rows])
    function = ca.Function("second", [u], [hessian, stacked, ca.jacobian(stacked, u)])
    decisions = solution.trajectory.decisions
    matrix, values, jacobian = (e.full() for e in function(decisions))
    lower, upper = (
        np.concatenate([np.repeat(getattr(r, side), copies) for r, copies in row_blocks(staged)])
        for side in ("lower", "upper")
    )
    distance = np.minimum(abs(values.ravel() - lower), abs(values.ravel() - upper))
    bounds = [stage.control_bounds for stage in staged.stages] + [staged.parameter_bounds]
    low, high = (np.concatenate([b[side] for b in bounds]) for side in (0, 1))
    at_bound = np.minimum(decisions - low, high - decisions) < 1e-6
    active = np.vstack([jacobian[distance < 1e-6], np.eye(decisions.size)[at_bound]])
    basis = null_space(active) if active.size else np.eye(decisions.size)
    return np.linalg.eigvalsh(basis.T @ matrix @ basis)


def test_an_optimum_in_closed_form_passes_to_rounding():
    """min Int u^2 + (x(1) - 2)^2: u = 1, costate -2, Hessian 2 h I + 2 h^2 1 1^T."""
    staged = staged_scalar(terminal_cost=(X - 2) ** 2)
    found = certify(staged, constant(staged, 1.0))
    assert found.stationarity < 1e-15
    assert found.dynamics < 1e-15
    assert found.constraints == 0.0
    assert found.is_stationary(1e-14)
    assert found.is_minimum
    assert found.directions == 4
    assert found.min_reduced_hessian_eigenvalue == pytest.approx(2 / 4, rel=1e-12)
    assert found.energy_drift == pytest.approx(0.0, abs=1e-14)
    for costate in found.costates:
        np.testing.assert_allclose(costate, -2.0, rtol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_an_ensemble_with_active_bounds_and_kinks_passes(seed):
    staged = fitting_problem()
    solution = solve_staged(staged, random_guess(staged, seed))
    assert solution.status is Status.SOLVED
    controls = solution.trajectory.control_array
    assert (np.abs(np.abs(controls[:, 2]) - 0.2) < 1e-8).any()


def test_the_full_ensemble_passes_and_its_smallest_eigenvalue_is_that_of_the_null_space():
    staged = discretize(ensemble_problem(members=3), TimeGrid.uniform(6, 1.5), RK4)
    solution = solve_staged(staged, random_guess(staged, 0, scale=0.3))
    assert solution.status is Status.SOLVED
    eigenvalues = second_order_by_hand(staged, solution)
    found = solution.certificate
    assert found.directions == eigenvalues.size
    assert found.min_reduced_hessian_eigenvalue == pytest.approx(eigenvalues[0], rel=1e-8)


def test_an_optimum_of_stages_of_varying_sizes_passes():
    staged = varying_problem()
    solution = solve_staged(staged, rollout(staged, np.full(4, 0.1)))
    assert solution.status is Status.SOLVED
    eigenvalues = second_order_by_hand(staged, solution)
    found = solution.certificate
    assert found.directions == eigenvalues.size
    assert found.min_reduced_hessian_eigenvalue == pytest.approx(eigenvalues[0], rel=1e-8)
    for ours, theirs in zip(solution.costates, found.costates[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_the_certificates_costates_are_the_optimisers_multipliers(seed):
    staged = fitting_problem()
    solution = solve_staged(staged, random_guess(staged, seed))
    for ours, theirs in zip(solution.costates, solution.certificate.costates[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_the_smallest_eigenvalue_is_that_of_the_null_space_of_the_active_rows():
    staged = fitting_problem()
    for seed in range(3):
        solution = solve_staged(staged, random_guess(staged, seed))
        eigenvalues = second_order_by_hand(staged, solution)
        found = solution.certificate
        assert found.directions == eigenvalues.size
        assert found.min_reduced_hessian_eigenvalue == pytest.approx(eigenvalues[0], rel=1e-8)


def test_a_perturbed_control_is_not_stationary_but_still_feasible():
    staged = staged_scalar(terminal_cost=(X - 2) ** 2)
    before = np.ones(4)
    before[1] += 1e-3
    found = certify(staged, rollout(staged, before))
    assert found.dynamics < 1e-15
    assert found.constraints == 0.0
    # The gradient is 2 h (u^k + x(1) - 2), about 1e-3 of the terms that cancel in it; how they
    # are added up is the certificate's choice.
    assert 1e-4 < found.stationarity < 1e-2
    assert not found.is_stationary(TOLERANCE)


def test_a_perturbed_state_shows_in_the_dynamics_by_as_much():
    staged = staged_scalar(terminal_cost=(X - 2) ** 2)
    optimum = constant(staged, 1.0)
    states = list(optimum.states)
    states[2] = states[2] + 1e-3
    found = certify(staged, replace(optimum, states=tuple(states)))
    assert found.dynamics == pytest.approx(1e-3, rel=1e-9)
    assert not found.is_stationary(TOLERANCE)


def test_defects_are_relative_to_the_largest_state():
    staged = staged_scalar(initial_state=[1000.0])
    trajectory = constant(staged, 0.0)
    states = [*trajectory.states[:-1], trajectory.states[-1] + 1.0]
    found = certify(staged, replace(trajectory, states=tuple(states)))
    assert found.dynamics == pytest.approx(1 / 1001, rel=1e-12)


def test_a_perturbed_costate_shows_in_the_gradient_by_as_much():
    staged = staged_scalar(terminal_cost=(X - 2) ** 2)
    found = certify(staged, constant(staged, 1.0))
    costates = [c.copy() for c in found.costates]
    costates[2] += 1e-3
    linearization = linearize(staged, constant(staged, 1.0))
    gradient = reduced_gradient(linearization, costates, found.multipliers.rows).value
    # du^1 J = h (2 u^1 + p^2)
    np.testing.assert_allclose(gradient, [0.0, 1e-3 / 4, 0.0, 0.0], atol=1e-15)


@pytest.mark.parametrize(
    ("changes", "size", "words"),
    [
        ({"terminal_constraints": [Constraint("end", X, 3.0, 4.0)]}, 2 / 4, r"end\[.*4"),
        ({"terminal_constraints": [Constraint("end", X, 1.5, 1.5)]}, 0.5 / 1.5, r"end\[.*4"),
        ({"path_constraints": [Constraint("wall", X, -9.0, 0.5)]}, 0.5 / 9, r"wall\[.*4"),
        ({"state_bounds": (-9.0, 0.25)}, 0.75 / 9, r"bound\[layer 4, x"),
        ({"control_bounds": (-1.0, 0.9)}, 0.1, r"bound\[layer 0, u"),
        ({"control_constraints": [Constraint("cap", U, -1.0, 0.75)]}, 0.25, r"cap\[.*0"),
    ],
)
def test_the_worst_violation_is_named_and_relative_to_its_bounds_or_one(changes, size, words):
    staged = staged_scalar(**changes)
    found = certify(staged, constant(staged, 1.0))  # x = t
    assert found.constraints == pytest.approx(size, rel=1e-9)
    assert not found.is_stationary(TOLERANCE)
    assert re.match(words, str(found.worst[0]))
    assert found.worst[0].size == found.constraints


def test_the_member_that_violates_a_row_is_named():
    staged = staged_scalar(
        initial_state=[[0.0], [0.5], [-3.0]],
        terminal_constraints=[Constraint("near", X, -1.0, 1.0)],
    )
    (worst,) = certify(staged, constant(staged, 0.0)).worst
    assert re.match(r"near\[.*4, .*2", str(worst))
    assert worst.size == 2.0


def test_nothing_is_named_where_nothing_is_violated():
    staged = staged_scalar(control_bounds=(-2.0, 2.0), state_bounds=(-9.0, 9.0))
    assert certify(staged, constant(staged, 1.0)).worst == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"terminal_constraints": [Constraint("log", ca.log(X), -INFINITY, 0.0)]},
        {"path_constraints": [Constraint("log", ca.log(X), weight=1.0)]},
        {"terminal_cost": (X + 1) ** 2 - ca.log(X) - 2 * X},
        {"dynamics": U + 1e-300 * ca.log(X)},
    ],
)
def test_a_point_without_values_is_no_minimum_though_its_derivatives_are_finite(changes):
    """x = -1/2 t minimises u^2 + (x + 1)^2, but log x is not defined there."""
    staged = staged_scalar(**{"terminal_cost": (X + 1) ** 2, **changes})
    found = certify(staged, constant(staged, -0.5))
    assert not found.is_stationary(0.1)
    assert verdict(found, Status.INVALID_NUMBER, TOLERANCE) is Status.INVALID_NUMBER


def test_a_saddle_and_a_maximum_are_stationary_but_no_minimum():
    saddle = staged_scalar(terminal_cost=-2 * X**2 + X**4)
    found = certify(saddle, constant(saddle, 0.0))
    assert found.is_stationary(TOLERANCE)
    assert not found.is_minimum
    # 2 h I - 4 h^2 1 1^T has the eigenvalue 2 h - 4 h.
    assert found.min_reduced_hessian_eigenvalue == pytest.approx(-2 / 4, rel=1e-12)
    for backend in (Status.SOLVED, Status.INACCURATE, Status.FAILED):
        assert verdict(found, backend, TOLERANCE) is Status.NOT_A_MINIMUM
    assert solve_staged(saddle, constant(saddle, 0.0)).status is Status.NOT_A_MINIMUM

    maximum = staged_scalar(control_cost=-(U**2), control_bounds=(-1.0, 1.0))
    found = certify(maximum, constant(maximum, 0.0))
    assert found.is_stationary(TOLERANCE)
    assert not found.is_minimum


def test_the_solver_leaves_a_saddle_for_a_minimum_when_started_elsewhere():
    staged = staged_scalar(terminal_cost=-2 * X**2 + X**4)
    solution = solve_staged(staged, random_guess(staged, 0))
    assert solution.status is Status.SOLVED
    # V = min_x x^2 - 2 x^2 + x^4 at x^2 = 1/2
    assert solution.objective == pytest.approx(-0.25, rel=1e-12)


@pytest.mark.parametrize(("horizon", "is_minimum"), [(3.0, True), (3.141, True), (3.15, False)])
def test_past_the_conjugate_point_the_zero_control_is_no_minimum(horizon, is_minimum):
    """min 1/2 Int u^2 - x^2, x(0) = x(T) = 0; 20 intervals turn at a T between 3.141 and 3.15."""
    problem = scalar(
        horizon=horizon,
        control_cost=U**2 / 2,
        running_cost=-(X**2) / 2,
        terminal_constraints=[Constraint("return", X)],
    )
    staged = discretize(problem, TimeGrid.uniform(20, horizon), RK4)
    found = certify(staged, constant(staged, 0.0))
    assert found.is_stationary(TOLERANCE)
    assert found.is_minimum is is_minimum
    assert found.directions == 19


def test_a_direction_of_negative_curvature_that_a_row_forbids_does_not_count():
    """-x(1)^2 curves downwards only along x(1), which the terminal constraint holds."""
    changes = {"terminal_cost": -2 * X**2, "terminal_constraints": [Constraint("end", X)]}
    held = staged_scalar(**changes)
    assert certify(held, constant(held, 0.0)).is_minimum
    free = staged_scalar(terminal_cost=-2 * X**2)
    assert not certify(free, constant(free, 0.0)).is_minimum


@pytest.mark.parametrize(("control", "is_stationary"), [(0.0, False), (0.5, True), (1.0, False)])
def test_a_bound_holds_a_control_only_against_a_gradient_that_presses_on_it(control, is_stationary):
    staged = staged_scalar(control_cost=(U - 0.5) ** 2, control_bounds=(0.0, 1.0))
    assert certify(staged, constant(staged, control)).is_stationary(TOLERANCE) is is_stationary


@pytest.mark.parametrize(("bounds", "control"), [((3.0, 4.0), 1.0), ((-4.0, -3.0), -1.0)])
def test_a_violated_row_takes_part_in_stationarity_and_shows_as_violated(bounds, control):
    """u = const is the cheapest way to any x(1); that it is not the wanted one shows apart."""
    staged = staged_scalar(terminal_constraints=[Constraint("end", X, *bounds)])
    found = certify(staged, constant(staged, control))
    assert found.stationarity < 1e-14
    assert found.constraints == pytest.approx(2 / 4)
    # A row holds only against a cost that pulls towards its violation.
    assert certify(staged, constant(staged, -control)).stationarity > 0.1


@pytest.mark.parametrize(("target", "control"), [(-2.0, -0.25), (2.0, 0.25)])
def test_controls_pressed_on_a_bound_leave_no_direction_free(target, control):
    staged = staged_scalar(terminal_cost=(X - target) ** 2, control_bounds=(-0.25, 0.25))
    found = certify(staged, constant(staged, control))
    assert found.is_stationary(1e-14)
    assert found.directions == 0
    assert found.min_reduced_hessian_eigenvalue is None
    assert found.is_minimum
    away = certify(staged, constant(staged, -control))
    assert not away.is_stationary(0.1)


def test_a_bounded_parameter_is_a_decision_like_any_other():
    q = ca.SX.sym("q")
    staged = staged_scalar(
        dynamics=U + q, parameter=q, terminal_cost=(X - 2) ** 2, parameter_bounds=(-1.0, 0.5)
    )
    solution = solve_staged(staged)
    assert solution.status is Status.SOLVED
    assert solution.trajectory.parameters == pytest.approx([0.5], abs=1e-9)
    # min u^2 + (u + q - 2)^2 at q = 1/2
    assert solution.trajectory.control_array == pytest.approx(np.full((4, 1), 0.75), abs=1e-9)
    assert solution.certificate.directions == 4


def bryson_denham(limit: float, intervals: int, **changes: Any) -> StagedProblem:
    """x'' = u from (0, 1) to (0, -1), min 1/2 Int u^2; Bryson and Denham (1963)."""
    x = ca.SX.sym("x", 2)
    problem = OptimalControlProblem(
        state=x,
        control=U,
        dynamics=ca.vertcat(x[1], U),
        horizon=1.0,
        initial_state=[0.0, 1.0],
        control_cost=U**2 / 2,
        terminal_constraints=[Constraint("return", x, [0.0, -1.0], [0.0, -1.0])],
        **{key: value(x, limit) for key, value in changes.items()},
    )
    return discretize(problem, TimeGrid.uniform(intervals), RK4)


def as_path_constraint(x: ca.SX, limit: float) -> list[Constraint]:
    return [Constraint("ceiling", x[0], -INFINITY, limit)]


def as_state_bound(x: ca.SX, limit: float) -> tuple:
    return (-INFINITY, [limit, INFINITY])


@pytest.mark.parametrize("limit", [1 / 9, 0.2, 0.3])
def test_hard_path_constraints_and_state_bounds_certify_the_same_optimum(limit):
    exact = 4 / (9 * limit) if limit <= 1 / 6 else 2 + 6 * (1 - 4 * min(limit, 0.25)) ** 2
    rows = solve_staged(bryson_denham(limit, 40, path_constraints=as_path_constraint))
    bounds = solve_staged(bryson_denham(limit, 40, state_bounds=as_state_bound))
    assert rows.status is bounds.status is Status.SOLVED
    assert bounds.objective == pytest.approx(rows.objective, rel=1e-9)
    # Piecewise constant controls cost up to a share of order h^2 = 1/1600 more, but a ceiling
    # that holds at the nodes only costs up to as much less.
    assert rows.objective == pytest.approx(exact, rel=0.02)
    assert rows.certificate.directions == bounds.certificate.directions
    ceiling = np.array([y[0] for y in rows.certificate.multipliers.rows[:40]])
    assert (ceiling >= 0).all()
    assert (ceiling > 1e-6).any() == (limit < 0.25)
    for ours, theirs in zip(rows.costates, rows.certificate.costates[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(bounds.certificate.costates, rows.certificate.costates, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_active_path_row_reduces_the_directions():
    free = solve_staged(bryson_denham(0.3, 20, path_constraints=as_path_constraint))
    held = solve_staged(bryson_denham(0.2, 20, path_constraints=as_path_constraint))
    assert free.certificate.directions == 18
    assert held.certificate.directions < 18


def end_multiplier(found: Certificate) -> float:
    """Of the one terminal row of a scalar problem of four intervals."""
    return float(found.multipliers.rows[4][0, 0])


@pytest.mark.parametrize(
    ("weight", "control", "multiplier"),
    [(1.0, 0.5, -1.0), (1.9, 0.95, -1.9), (2.1, 1.0, -2.0), (50.0, 1.0, -2.0)],
)
def test_an_exact_penalty_is_reached_exactly_once_its_weight_exceeds_the_multiplier(
    weight, control, multiplier
):
    """min Int u^2 + w |x(1) - 1|: u = min(1, w/2), and the multiplier -2u lies in [-w, w]."""
    staged = staged_scalar(terminal_constraints=[Constraint("end", X, 1.0, 1.0, weight)])
    solution = solve_staged(staged)
    assert solution.status is Status.SOLVED
    assert solution.trajectory.control_array == pytest.approx(np.full((4, 1), control), abs=1e-8)
    found = certify(staged, constant(staged, control))
    assert found.is_stationary(1e-14)
    assert end_multiplier(found) == pytest.approx(multiplier, rel=1e-12)
    assert abs(end_multiplier(found)) <= weight
    assert found.directions == (3 if control == 1.0 else 4)
    # E is 0, not merely small: the penalty left is that of rounding.
    if control == 1.0:
        assert abs(solution.trajectory.state_array[-1, 0, 0] - 1.0) < 1e-9


@pytest.mark.parametrize("target", [1.0, -1.0])
def test_a_kink_too_weak_to_hold_the_state_is_not_stationary(target):
    rows = [Constraint("end", X, target, target, weight=1.0)]
    staged = staged_scalar(terminal_constraints=rows)
    found = certify(staged, constant(staged, target))
    # The cost pulls by 2 h, the kink holds by at most h.
    assert not found.is_stationary(0.1)


def test_a_kink_at_the_end_of_its_multipliers_interval_holds_no_direction():
    """With w = 2 the multiplier of u = 1 is -w: the state may leave the kink downwards."""
    staged = staged_scalar(terminal_constraints=[Constraint("end", X, 1.0, 1.0, weight=2.0)])
    found = certify(staged, constant(staged, 1.0))
    assert found.is_stationary(1e-14)
    assert end_multiplier(found) == pytest.approx(-2.0, rel=1e-12)
    assert found.directions == 4


def test_a_state_at_a_kink_up_to_rounding_is_at_the_kink():
    staged = staged_scalar(terminal_constraints=[Constraint("end", X, 1.0, 1.0, weight=5.0)])
    for error in (-1e-9, 1e-9):
        found = certify(staged, constant(staged, 1.0 + error))
        assert found.is_stationary(1e-12)
        assert end_multiplier(found) == pytest.approx(-2.0, abs=1e-8)


def test_a_soft_inequality_within_its_bounds_has_multiplier_zero():
    staged = staged_scalar(
        terminal_cost=(X - 2) ** 2,
        terminal_constraints=[Constraint("below", X, -INFINITY, 1.5, weight=1.0)],
    )
    found = certify(staged, constant(staged, 1.0))
    assert found.is_stationary(1e-14)
    assert end_multiplier(found) == 0.0


def test_a_soft_inequality_holds_a_state_at_its_bound_from_one_side_only():
    def with_target(target: float) -> StagedProblem:
        return staged_scalar(
            terminal_cost=(X - target) ** 2,
            terminal_constraints=[Constraint("below", X, -INFINITY, 0.5, weight=10.0)],
        )

    pressed = certify(with_target(2.0), constant(with_target(2.0), 0.5))
    assert pressed.is_stationary(1e-14)
    # 2 u + 2 (x - 2) + y = 0 at u = x = 1/2
    assert end_multiplier(pressed) == pytest.approx(2.0, rel=1e-12)
    pulled = certify(with_target(0.0), constant(with_target(0.0), 0.5))
    assert not pulled.is_stationary(0.1)


@pytest.mark.parametrize("shift", [0.0, 2.0, -2.0], ids=["indefinite", "definite", "negative"])
@pytest.mark.parametrize("size", [5, 90])
def test_lanczos_finds_the_smallest_eigenvalue_that_numpy_finds(monkeypatch, shift, size):
    matrix = np.random.default_rng(size).standard_normal((size, size)) / np.sqrt(size)
    matrix = (matrix + matrix.T) / 2 + shift * np.eye(size)
    expected = np.linalg.eigvalsh(matrix)[0]
    assert smallest_eigenvalue(matrix) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr("ocp.eigenvalues.DENSE_LIMIT", 4)
    assert smallest_eigenvalue(matrix) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("restarts", [5, 1], ids=["larger basis", "decomposition"])
@pytest.mark.parametrize("rest", [1.0, -1.0], ids=["definite", "indefinite"])
def test_a_cluster_that_a_small_basis_cannot_part_keeps_no_eigenvalue_from_being_found(
    monkeypatch, rest, restarts
):
    size, copies = 200, 11
    rng = np.random.default_rng(0)
    cluster = rest * (1.0 + 1e-9 * rng.uniform(size=copies))
    values = np.concatenate([cluster, rng.uniform(2.0, 100.0, size - copies)])
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    matrix = (basis * values) @ basis.T
    matrix = (matrix + matrix.T) / 2
    monkeypatch.setattr("ocp.eigenvalues.DENSE_LIMIT", 4)
    monkeypatch.setattr("ocp.eigenvalues.RESTARTS", restarts)
    assert smallest_eigenvalue(matrix) == pytest.approx(values.min(), rel=1e-9)


def test_lanczos_and_dense_certificates_agree(monkeypatch):
    staged = fitting_problem()
    solution = solve_staged(staged, random_guess(staged, 0))
    monkeypatch.setattr(certificate_module, "DENSE_LIMIT", 3)
    monkeypatch.setattr("ocp.eigenvalues.DENSE_LIMIT", 3)
    again = certify(staged, solution.trajectory)
    expected = solution.certificate.min_reduced_hessian_eigenvalue
    assert again.min_reduced_hessian_eigenvalue == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("curvature", "status"), [(1.0, "SOLVED"), (-3.0, "NOT_A_MINIMUM")])
def test_beyond_the_size_limit_pivots_decide_without_an_eigenvalue(monkeypatch, curvature, status):
    monkeypatch.setattr(certificate_module, "SIZE_LIMIT", 3)
    staged = staged_scalar(terminal_cost=curvature * X**2 + X**4)
    solution = solve_staged(staged, constant(staged, 0.0))
    found = solution.certificate
    assert found.min_reduced_hessian_eigenvalue is None
    assert found.directions == 4
    assert solution.status is Status[status]


def test_what_is_too_large_for_both_is_neither_solved_nor_refused(monkeypatch):
    monkeypatch.setattr(certificate_module, "SIZE_LIMIT", 3)
    staged = staged_scalar(control_rate_weight=0.1, terminal_cost=(X - 2) ** 2)
    solution = solve_staged(staged)
    assert solution.certificate.is_minimum is None
    assert solution.status is Status.INACCURATE
    assert "second-order conditions" in solution.message


@pytest.mark.parametrize("free_share", [1.0, 0.7])
def test_riccati_pivots_are_positive_exactly_if_the_reduced_hessian_is(free_share):
    verdicts = []
    for seed in range(12):
        generator = np.random.default_rng(seed)
        problem = ensemble_problem(members=3, seed=seed)
        plain = replace(
            problem,
            control_rate_weight=0.0,
            control_cost=10.0 ** (seed % 3) * problem.control_cost,
            parameter_cost=10.0 ** (seed % 2) * problem.parameter_cost,
        )
        staged = discretize(plain, TimeGrid.uniform(4, 1.5), HEUN)
        linearization = linearize(staged, random_guess(staged, seed, scale=0.5))
        multipliers = tuple(0.3 * y for y in random_multipliers(staged, seed))
        costates = adjoint(linearization, multipliers)
        free = generator.random(staged.decision_size) < free_share
        hessian = reduced_hessian(linearization, costates, multipliers)[np.ix_(free, free)]
        smallest = np.linalg.eigvalsh(hessian)[0]
        assert abs(smallest) > 1e-6
        verdicts.append(smallest > 0)
        assert is_positive_definite(linearization, costates, multipliers, free) is bool(
            smallest > 0
        )
    assert len(set(verdicts)) == 2


def test_the_last_pivot_changes_sign_where_the_determinant_does():
    """Subtracting s p^2 from the cost makes the Hessian singular at s = S/2, S its complement."""

    def hessian_and_pivots(shift: float) -> tuple[np.ndarray, bool]:
        problem = ensemble_problem(members=3)
        changed = replace(
            problem,
            control_rate_weight=0.0,
            control_cost=100 * problem.control_cost,
            parameter_cost=problem.parameter_cost - shift * problem.parameter[0] ** 2,
        )
        staged = discretize(changed, TimeGrid.uniform(4, 1.5), HEUN)
        linearization = linearize(staged, random_guess(staged, 0, scale=0.5))
        multipliers = no_multipliers(staged)
        costates = adjoint(linearization, multipliers)
        free = np.ones(staged.decision_size, dtype=bool)
        hessian = reduced_hessian(linearization, costates, multipliers)
        return hessian, is_positive_definite(linearization, costates, multipliers, free)

    hessian, _ = hessian_and_pivots(0.0)
    own, mixed = hessian[:-1, :-1], hessian[:-1, -1]
    assert np.linalg.eigvalsh(own)[0] > 0
    critical = (hessian[-1, -1] - mixed @ np.linalg.solve(own, mixed)) / 2
    assert hessian_and_pivots(critical * (1 - 1e-6))[1]
    assert not hessian_and_pivots(critical * (1 + 1e-6))[1]


def test_permuting_the_members_leaves_the_residuals_and_the_eigenvalue():
    order = np.array([3, 1, 0, 2])
    plain, permuted = fitting_problem(), fitting_problem(order=order)
    solution = solve_staged(plain, random_guess(plain, 0))
    before = solution.certificate
    after = certify(permuted, rollout(permuted, solution.trajectory.decisions))
    eigenvalue = before.min_reduced_hessian_eigenvalue
    assert after.min_reduced_hessian_eigenvalue == pytest.approx(eigenvalue, rel=1e-9)
    assert after.stationarity < 1e-10
    assert after.directions == before.directions
    for here, there in zip(before.costates, after.costates, strict=True):
        np.testing.assert_allclose(there, here[order], atol=1e-9)


def test_the_hamiltonian_of_a_driftless_optimum_with_fixed_end_is_constant():
    solution = solve(
        scalar(terminal_constraints=[Constraint("end", X, 1.0, 1.0)]), TimeGrid.uniform(10), RK4
    )
    assert solution.certificate.energy_drift < 1e-12


def test_the_hamiltonian_varies_less_the_finer_the_grid():
    """At least by the order one of a control held constant on each interval."""
    problem = scalar(
        initial_state=[1.0],
        dynamics=U * ca.sin(X),
        terminal_constraints=[Constraint("end", X, 2.0, 2.0)],
    )
    drifts = [
        solve(problem, TimeGrid.uniform(intervals), RK4).certificate.energy_drift
        for intervals in (10, 20, 40)
    ]
    assert drifts[0] / drifts[1] > 1.8
    assert drifts[1] / drifts[2] > 1.8
    assert drifts[2] < 0.02


def test_the_hamiltonian_of_a_finite_time_turnpike_vanishes_and_does_not_drift():
    """|x| = c u^2 along min Int |x| + c u^2: the two terms of H cancel, so it is 0 throughout."""
    problem = scalar(
        initial_state=[1.0],
        horizon=4.0,
        path_constraints=[Constraint("distance", X, weight=1.0)],
    )
    drifts = []
    for intervals in (20, 40):
        solution = solve(problem, TimeGrid.uniform(intervals, 4.0), EULER)
        assert solution.is_solved
        drifts.append(solution.certificate.energy_drift)
    assert drifts[1] < 0.6 * drifts[0] < 0.2


@pytest.mark.parametrize(
    "changes",
    [
        {"dynamics": U * T},
        {"control_rate_weight": 0.1},
        {"path_constraints": [Constraint("hard", X, -9.0, 9.0)]},
        {"state_bounds": (-9.0, 9.0)},
    ],
)
def test_no_drift_is_reported_of_what_is_not_conserved(changes):
    staged = staged_scalar(**changes)
    assert certify(staged, constant(staged, 0.1)).energy_drift is None


def test_stages_without_time_have_no_hamiltonian():
    staged = varying_problem()
    assert certify(staged, rollout(staged, np.zeros(4))).energy_drift is None
