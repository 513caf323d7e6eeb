"""Facts about the linear solvers of IPOPT: which ones work here, and what is said of the others."""

import signal
import subprocess

import casadi as ca
import numpy as np
import pytest

from ocp import (
    RK4,
    LinearSolver,
    OptimalControlProblem,
    SolveOptions,
    TimeGrid,
    available_linear_solvers,
    discretize,
    linear_solvers,
    solve,
)
from ocp.ipopt import IpoptOptions, minimize
from ocp.linear_solvers import explain_failure, probe_linear_solver
from ocp.shooting import Shooting

NOWHERE = "/nowhere/libhsl.so"
SETTLED = {"OMP_CANCELLATION": "TRUE", "OMP_PROC_BIND": "true"}


def problem() -> OptimalControlProblem:
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    return OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(ca.tanh(x[1]), u),
        horizon=1.0,
        initial_state=[1.0, 0.0],
        running_cost=ca.sumsqr(x),
        control_cost=0.1 * u**2,
        control_bounds=(-2.0, 2.0),
    )


def test_every_linear_solver_that_works_finds_the_same_optimum_in_silence(capfd):
    available = available_linear_solvers()
    assert LinearSolver.MUMPS in available
    grid = TimeGrid.uniform(20)
    solutions = [solve(problem(), grid, options=SolveOptions(linear_solver=s)) for s in available]
    assert all(solution.is_solved for solution in solutions)
    for solution in solutions:
        np.testing.assert_allclose(
            solution.trajectory.decisions, solutions[0].trajectory.decisions, atol=1e-7
        )
    assert capfd.readouterr() == ("", "")


def test_the_default_is_not_tried_beforehand(monkeypatch):
    def run(*arguments, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", run)
    assert solve(problem(), TimeGrid.uniform(5)).is_solved


def test_a_missing_library_is_named_with_what_to_do_and_what_is_there(capfd):
    options = SolveOptions(linear_solver=LinearSolver.MA57, ipopt={"hsllib": NOWHERE})
    with pytest.raises(ValueError, match="does not work here") as caught:
        solve(problem(), TimeGrid.uniform(5), options=options)
    for words in ("LinearSolver.MA57", NOWHERE, "'hsllib'", "Available: LinearSolver.MUMPS"):
        assert words in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_solver_that_is_not_in_this_build_is_told_from_a_missing_library():
    output = 'Setting: "wsmp" is not a valid setting for Option: linear_solver.'
    assert "built without it" in explain_failure(LinearSolver.WSMP, 1, output, SETTLED)


@pytest.mark.parametrize("missing", ["OMP_CANCELLATION", "OMP_PROC_BIND"])
def test_spral_without_its_environment_asks_for_what_is_not_set(missing):
    environment = {**SETTLED, missing: None}
    reason = explain_failure(LinearSolver.SPRAL, 0, "RETURN STATUS Internal_Error", environment)
    assert f"{missing}=TRUE" in reason
    assert "before Python starts" in reason
    assert all(name not in reason for name in SETTLED if name != missing)


def test_a_crash_and_a_plain_failure_are_reported_as_what_they_are():
    crashed = explain_failure(LinearSolver.MA97, -signal.SIGSEGV, "", SETTLED)
    assert f"signal {int(signal.SIGSEGV)}" in crashed
    failed = explain_failure(LinearSolver.SPRAL, 0, "RETURN STATUS Internal_Error", SETTLED)
    assert "'Internal_Error'" in failed


def test_a_solver_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(linear_solvers, "PROBE_TIME_LIMIT", 1e-3)
    # A library of its own, since every question is asked once.
    probe = probe_linear_solver(LinearSolver.MA86, {"hsllib": "/nowhere/slow.so"})
    assert not probe.works
    assert "did not end" in probe.reason


@pytest.mark.parametrize(
    ("options", "is_mumps"),
    [
        (IpoptOptions(), True),
        (IpoptOptions(linear_solver=LinearSolver.SPRAL), False),
        (IpoptOptions(extra={"linear_solver": "ma27"}), False),
        (IpoptOptions(linear_solver=LinearSolver.SPRAL, extra={"linear_solver": "mumps"}), True),
    ],
)
def test_options_of_mumps_are_handed_to_mumps_alone(monkeypatch, options, is_mumps):
    handed = {}

    def nlpsol(name, plugin, program, settings):
        handed.update(settings["ipopt"])
        raise InterruptedError  # far enough

    monkeypatch.setattr("ocp.ipopt.require_linear_solver", lambda solver, extra: None)
    monkeypatch.setattr("ocp.ipopt.ca.nlpsol", nlpsol)
    program = Shooting(discretize(problem(), TimeGrid.uniform(3), RK4)).program
    with pytest.raises(InterruptedError):
        minimize(program, np.zeros(program.lower.size), options)
    assert ("mumps_pivot_order" in handed) == is_mumps
    assert ("mumps_permuting_scaling" in handed) == is_mumps
