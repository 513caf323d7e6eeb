"""One deadline for everything that a call does: no part of it starts the clock anew."""

import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import casadi as ca
import pytest
from test_solve import long_problem

from ocp import (
    Guess,
    Method,
    NLPSolver,
    SolveOptions,
    Status,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    random_guess,
    solve,
    solve_staged,
)
from ocp.deadline import NEVER, Deadline
from problems.moving_starts import double_integrator

PAUSE = 0.02  # s of every iteration: all that a slow machine adds is small beside it
LIMIT = 0.6  # s, long enough to begin in, and short beside the iterations that are wanted
WITHIN = 2  # iterations that may be seen after the deadline: one under way, one to look at it


def test_a_deadline_that_is_never_does_not_pass():
    assert not NEVER.has_passed
    assert NEVER.left == float("inf")


def test_a_deadline_leaves_no_less_than_nothing():
    deadline = Deadline.after(-1.0)
    assert deadline.has_passed
    assert deadline.left == 0.0
    assert 0 < Deadline.after(60.0).left <= 60.0


def test_the_earlier_of_two_deadlines_counts():
    near, far = Deadline.after(1.0), Deadline.after(100.0)
    assert far.within(1e-3).at < near.at
    assert near.within(1e3) == near
    assert NEVER.within(float("inf")).at == float("inf")


def around_a_disc():
    """A symmetric guess, from which an optimiser takes hundreds of iterations to fail."""
    x, y, u, w = (ca.SX.sym(name) for name in ("x", "y", "u", "w"))
    place = ca.vertcat(x, y)
    return pose(
        state=place,
        control=ca.vertcat(u, w),
        dynamics=[u, w],
        horizon=1.0,
        minimize=integral(u**2 + w**2),
        subject_to=[
            at_start(place) == [-1, 0],
            at_end(place) == [1, 0],
            along_path(ca.sumsqr(place)) >= 0.09,
        ],
    )


def many_decisions():
    staged = long_problem()
    return staged, random_guess(staged, 0)


CALLS = {
    "other starts of a free horizon": lambda options, see: solve(
        double_integrator(1.0, 2.0).problem, options=options, progress=see
    ),
    "other starts from noise": lambda options, see: solve(
        around_a_disc(), options=options, progress=see
    ),
    "phases at a guessed horizon": lambda options, see: solve(
        double_integrator(0.0, 2.0).problem,
        guess=Guess(parameter=0.1),
        options=options,
        progress=see,
    ),
    "multiple shooting": lambda options, see: solve_staged(
        *many_decisions(), replace(options, method=Method.SHOOTING), see
    ),
    "the states eliminated": lambda options, see: solve_staged(
        *many_decisions(), replace(options, method=Method.CONDENSED), see
    ),
    "Fatrop": lambda options, see: solve_staged(
        *many_decisions(), replace(options, nlp_solver=NLPSolver.FATROP), see
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("limit", [LIMIT, 1e-9])
def test_no_optimiser_goes_on_after_the_deadline(call, limit):
    begin, late = time.monotonic(), []

    def see(iteration):
        time.sleep(PAUSE)
        if time.monotonic() > begin + limit + PAUSE:
            late.append(iteration.number)

    call(SolveOptions(time_limit=limit), see)
    assert len(late) <= WITHIN


def test_what_the_limit_leaves_no_time_for_is_said():
    """The first start fails within the limit; the others are not begun."""

    def see(iteration):
        if iteration.number == 20:
            time.sleep(0.5)

    options = SolveOptions(time_limit=0.5)
    found = solve(double_integrator(1.0, 2.0).problem, options=options, progress=see)
    assert not found.is_solved
    assert "time limit" in found.message


class Clock:
    """A monotonic clock that a test moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    moved = Clock()
    monkeypatch.setattr("ocp.deadline.time", SimpleNamespace(monotonic=moved.monotonic))
    return moved


def run_out_after_solving(clock, monkeypatch):
    """Let the time be over once the optimiser has returned."""
    module = sys.modules["ocp.solve"]  # whose name in the package is that of its function
    minimize = module.minimize

    def late(*arguments):
        result = minimize(*arguments)
        clock.now = 100.0
        return result

    monkeypatch.setattr(module, "minimize", late)


def straight():
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    return pose(
        state=x,
        control=u,
        dynamics=u,
        horizon=1.0,
        minimize=integral(u**2),
        subject_to=[at_start(x) == 0, at_end(x) == 1],
    )


def test_a_solution_after_the_deadline_is_kept_and_its_error_is_not_estimated(clock, monkeypatch):
    run_out_after_solving(clock, monkeypatch)
    found = solve(straight(), options=SolveOptions(time_limit=10.0))
    assert found.is_solved
    assert "no time to see whether the grid is fine enough" in found.message
    assert "error" not in vars(found)
    assert found.error.largest < 1e-8  # asked for by name it is computed all the same


def test_an_infeasible_end_after_the_deadline_is_not_looked_into(clock, monkeypatch):
    run_out_after_solving(clock, monkeypatch)
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = pose(
        state=x,
        control=u,
        dynamics=u,
        horizon=1.0,
        minimize=integral(u**2),
        subject_to=[at_start(x) == 0, at_end(x) == 2, along_path(u).within(-1, 1)],
    )
    found = solve(problem, options=SolveOptions(time_limit=10.0))
    assert found.status is Status.INFEASIBLE
    assert "no time to find what conflicts" in found.message
    assert "no time for other starts" in found.message


def test_a_deadline_shared_by_calls_ends_the_second_one(clock):
    deadline = Deadline.after(10.0)
    assert solve(straight(), deadline=deadline).is_solved
    clock.now = 11.0
    second = solve(straight(), options=SolveOptions(time_limit=1e6), deadline=deadline)
    assert second.status is Status.TIME_LIMIT
    assert second.iterations == 0
