"""No diagnosis raises, or loses a result: a part that fails has no value, and a reason."""

import math

import casadi as ca
import numpy as np
import pytest
from scipy.sparse.linalg import ArpackError

import ocp.certificate as certificate_module
import ocp.explanation as explanation_module
from ocp import (
    EULER,
    OptimalControlProblem,
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
from ocp.attempts import Attempts
from ocp.certificate import NOT_STATIONARY, TOO_MANY, Certificate
from ocp.solve import verdict

X, U = ca.SX.sym("x"), ca.SX.sym("u")
FAILURES = (
    np.linalg.LinAlgError("SVD did not converge"),
    ArpackError(-9),
    MemoryError("no room"),
    RuntimeError("casadi::Function::call failed"),
    FloatingPointError("overflow"),
)


def transfer(*conditions, **changes) -> OptimalControlProblem:
    """x' = u from 0 to 1 in T = 1, min Int u^2 = 1, unless told otherwise."""
    arguments = {"minimize": integral(U**2), "dynamics": U} | changes
    subject_to = [at_start(X) == 0, at_end(X) == 1, *conditions]
    return pose(state=X, control=U, horizon=1.0, subject_to=subject_to, **arguments)


def failing(error: BaseException):
    def fail(*arguments: object, **settings: object) -> None:
        raise error

    return fail


def test_a_cost_of_zero_is_at_its_minimum_on_any_number_of_intervals():
    for intervals in (5, 310, 400):
        problem = pose(
            state=X,
            control=U,
            dynamics=U,
            horizon=1.0,
            subject_to=[at_start(X) == 0, at_end(X) == 1],
        )
        found = solve(problem, intervals)
        assert found.status is Status.SOLVED
        assert found.objective == 0.0
        assert found.certificate.min_reduced_hessian_eigenvalue == 0.0
        assert found.certificate.directions == intervals - 1
        assert not found.certificate.untested


@pytest.mark.parametrize(
    "problem",
    [
        transfer(along_path(U).within(-3, 3), minimize=None),
        transfer(minimize=integral(U)),
        transfer(minimize=integral(1e300 * U)),
        transfer(at_end(X) <= 1, at_end(2 * X) == 2, minimize=None),
        transfer(minimize=None, dynamics=ca.SX(1) + 0 * U),
    ],
    ids=["bounds", "linear cost", "1e300", "dependent rows", "a control without effect"],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_problem_without_curvature_ends_with_a_certificate(problem):
    found = solve(problem, 310)
    assert isinstance(found.certificate, Certificate)
    assert math.isfinite(found.objective)
    assert found.certificate.min_reduced_hessian_eigenvalue in (0.0, None)
    assert found.certificate.is_minimum or found.certificate.untested


def discretized(problem: OptimalControlProblem, intervals: int = 3):
    return discretize(problem, TimeGrid.uniform(intervals), EULER)


def test_more_equations_than_decisions_leave_no_direction():
    """u = 1 twice on each of three intervals, and x(1) = 1 besides: seven rows."""
    staged = discretized(transfer(along_path(ca.vertcat(U - 1, 2 * U - 2) + 0 * X) == 0))
    found = certify(staged, rollout(staged, np.ones(3)))
    assert found.is_minimum
    assert found.is_stationary(1e-8)
    assert found.min_reduced_hessian_eigenvalue is None
    assert found.directions == 0
    assert not found.untested


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("reduced_hessian", "is_minimum"),
        ("smallest_eigenvalue", "is_minimum"),
        ("null_space", "is_minimum"),
        ("energy_drift", "energy_drift"),
        ("offenders", "worst"),
        ("adjoint", "stationarity"),
    ],
)
def test_a_part_of_the_certificate_that_fails_costs_nothing_but_its_value(
    monkeypatch, function, field, error
):
    monkeypatch.setattr(certificate_module, function, failing(error))
    found = solve(transfer(), 5)
    assert found.objective == pytest.approx(1.0, abs=1e-8)
    np.testing.assert_allclose(found.control(), 1.0, atol=1e-6)
    assert type(error).__name__ in found.certificate.untested[field]
    assert field in found.message or field == "is_minimum"
    assert type(error).__name__ in found.message
    if field == "energy_drift":
        assert found.certificate.energy_drift is None
        assert found.status is Status.SOLVED
    elif field == "is_minimum":
        assert found.certificate.is_minimum is None
        assert found.certificate.min_reduced_hessian_eigenvalue is None
        assert found.status is Status.INACCURATE
    else:
        assert not found.certificate.is_stationary(1e-8)
        assert found.status is not Status.SOLVED


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_least_squares_that_fail_leave_the_multipliers_that_were_proposed(monkeypatch, error):
    solved = solve(transfer(), 5)
    staged = solved.transcription.staged()
    monkeypatch.setattr(np.linalg, "lstsq", failing(error))
    nothing = certify(staged, solved.trajectory)
    assert type(error).__name__ in nothing.untested["multipliers"]
    assert nothing.stationarity > 0.1
    kept = certify(staged, solved.trajectory, solved.certificate.multipliers)
    assert kept.is_stationary(1e-8)
    assert not kept.untested


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("function", ["conflict", "degrees_of_freedom"])
def test_an_explanation_that_fails_leaves_the_point_and_its_status(monkeypatch, function, error):
    problem = transfer(along_path(U).within(-0.5, 0.5))
    expected = solve(problem, 5)
    monkeypatch.setattr(explanation_module, function, failing(error))
    found = solve(problem, 5)
    assert found.status is expected.status is Status.INFEASIBLE
    assert found.objective == pytest.approx(expected.objective)
    assert f"was found: {type(error).__name__}" in found.message
    assert found.message.startswith(Status.INFEASIBLE.sentence)


def test_a_fault_of_the_program_is_no_diagnosis():
    attempts = Attempts()
    for error in (TypeError("wrong"), NotImplementedError("wrong"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            attempts.compute("part", failing(error), None)
    assert attempts.reasons == {}
    assert attempts.compute("part", lambda: 3, None) == 3


def test_an_unsolved_point_of_many_controls_is_not_tested_to_second_order():
    """And its status is the one that it has with the test."""
    problem = transfer(minimize=integral((U**2 - 2) ** 2))
    staged = discretized(problem, 400)
    point = rollout(staged, np.zeros(400))
    left_out, tested = certify(staged, point, tolerance=1e-8), certify(staged, point)
    assert left_out.is_minimum is None
    assert left_out.untested == {"is_minimum": NOT_STATIONARY}
    assert tested.is_minimum is False
    assert left_out.constraints == tested.constraints == 1.0
    for backend in Status:
        verdicts = [verdict(c, backend, 1e-8) for c in (left_out, tested)]
        assert verdicts[0] is verdicts[1]


def test_what_is_too_large_says_so(monkeypatch):
    monkeypatch.setattr(certificate_module, "SIZE_LIMIT", 3)
    found = solve(transfer(), 5)
    assert found.status is Status.INACCURATE
    assert found.certificate.untested == {"is_minimum": TOO_MANY}
    assert TOO_MANY in found.message


def test_a_point_without_numbers_says_where():
    problem = transfer(dynamics=ca.log(U))
    staged = discretized(problem)
    with np.errstate(all="ignore"):
        found = certify(staged, rollout(staged, -np.ones(3)))
    assert not found.is_stationary(0.5)
    assert "dynamics of x[layer 0]" in found.untested["stationarity"]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("function", ["integrate", "relation_residuals", "state_violations"])
def test_an_error_estimate_that_fails_changes_no_status(monkeypatch, function, error):
    monkeypatch.setattr(f"ocp.reintegration.{function}", failing(error))
    found = solve(transfer(), 5)
    assert found.status is Status.SOLVED
    assert found.objective == pytest.approx(1.0, abs=1e-8)
    assert math.isnan(found.error.largest)
    assert math.isnan(found.error.objective)
    assert found.error.unknown.startswith(type(error).__name__)
    assert f"no error estimate: {type(error).__name__}" in found.message
    assert "no error estimate" in str(found)


def test_a_step_that_blows_up_is_no_failure_but_an_error_of_no_size():
    """x' = x^2 from 1 is infinite at t = 1; steps of Euler pass by."""
    problem = pose(
        state=X, control=U, dynamics=X**2 + 0 * U, horizon=2.0, subject_to=[at_start(X) == 1]
    )
    found = solve(problem, 1, EULER)
    assert math.isnan(found.error.largest)
    assert not found.error.unknown
    assert found.status is Status.INACCURATE
