"""Facts about Fatrop: it ends where IPOPT ends, with the same multipliers, or says why not."""

import os
import signal
import time
from dataclasses import replace
from typing import Any

import casadi as ca
import numpy as np
import pytest
from ensembles import ensemble_problem, varying_problem

from ocp import (
    EULER,
    GAUSS_LEGENDRE_4,
    HEUN,
    RK4,
    Constraint,
    LinearSolver,
    NLPSolver,
    OptimalControlProblem,
    SolveOptions,
    StagedProblem,
    Status,
    TimeGrid,
    discretize,
    fatrop,
    ipopt,
    random_guess,
    rollout,
    solve,
    solve_staged,
)
from ocp.fatrop import FatropOptions
from ocp.ipopt import IpoptOptions
from ocp.shooting import Shooting
from problems.classic import minimal_time, solve_classic
from problems.datasets import encode, load, standardize
from problems.learning import LearningProblem

pytestmark = pytest.mark.skipif(not fatrop.is_available(), reason="CasADi without Fatrop")

FATROP = SolveOptions(nlp_solver=NLPSolver.FATROP)
X, U = ca.SX.sym("x"), ca.SX.sym("u")


def learning(samples: int) -> StagedProblem:
    dataset = standardize(encode(load("moons", samples=samples), "squared")).dataset
    return LearningProblem(dataset, width=2, layers=6, weight_decay=1e-2).staged


def cart(**changes: Any) -> OptimalControlProblem:
    """A double integrator past a wall, with bounds, path rows and terminal rows."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    standard: dict[str, Any] = {
        "state": x,
        "control": u,
        "dynamics": ca.vertcat(x[1], u - 0.3 * ca.sin(x[0])),
        "horizon": 2.0,
        "initial_state": [0.0, 0.0],
        "control_cost": u**2,
        "control_bounds": (-2.0, 2.0),
        "state_bounds": ([-np.inf, -np.inf], [np.inf, 0.7]),
        "path_constraints": [Constraint("power", x[1] * u, [-0.6], [np.inf])],
        "terminal_constraints": [Constraint("arrive", x, [1.0, 0.0], [1.0, 0.0])],
    }
    return OptimalControlProblem(**{**standard, **changes})


def soft_ensemble() -> OptimalControlProblem:
    """Three members, a parameter, soft and hard rows of every kind; no term couples stages."""
    return replace(ensemble_problem(), control_rate_weight=0.0)


def varying() -> StagedProblem:
    staged = varying_problem(lifted=True)
    return replace(staged, shared=tuple(t for t in staged.shared if len(t.stages) < 2))


PROBLEMS = {
    "learning, 2 samples": lambda: learning(2),
    "learning, 10 samples": lambda: learning(10),
    "path rows, terminal rows, bounds": lambda: discretize(cart(), TimeGrid.uniform(20, 2.0), RK4),
    "implicit tableau": lambda: discretize(
        cart(state_bounds=(-np.inf, np.inf)),
        TimeGrid.uniform(8, 2.0),
        GAUSS_LEGENDRE_4,
        control_per_stage=True,
    ),
    "soft rows and a parameter": lambda: discretize(
        soft_ensemble(), TimeGrid.graded([0.4, 0.6, 0.5]), HEUN
    ),
    "soft rows, a parameter, implicit": lambda: discretize(
        soft_ensemble(), TimeGrid.graded([0.4, 0.6, 0.5]), GAUSS_LEGENDRE_4
    ),
    "sizes that change": varying,
}


# Barriers of active state rows end the accuracy of the Riccati sweep there.
STALLING = ("soft rows and a parameter", "sizes that change")


@pytest.mark.parametrize("name", PROBLEMS)
def test_point_and_multipliers_are_those_of_ipopt(name):
    staged = PROBLEMS[name]()
    shooting, guess = Shooting(staged), rollout(staged, np.full(staged.decision_size, 0.1))
    start = shooting.pack(guess)
    reference = ipopt.minimize(shooting.program, start, IpoptOptions(tolerance=1e-11))
    tolerance = 1e-8 if name in STALLING else 1e-10
    result = fatrop.minimize(shooting, start, FatropOptions(tolerance=tolerance))
    assert reference.status is Status.SOLVED
    assert result.status is Status.SOLVED
    # Between a residual of 1e-8 and the error stands the condition of the problem.
    for ours in ("point", "multipliers", "bound_multipliers"):
        np.testing.assert_allclose(
            getattr(result, ours), getattr(reference, ours), atol=1e-6, err_msg=ours
        )


def test_multipliers_are_those_of_the_unscaled_cost():
    shooting = Shooting(discretize(cart(), TimeGrid.uniform(10, 2.0), RK4))
    start = np.full(shooting.size, 0.1)
    results = [
        fatrop.minimize(shooting, start, FatropOptions(objective_scale=s)) for s in (1.0, 10.0)
    ]
    for name in ("multipliers", "bound_multipliers"):
        first, second = (getattr(result, name) for result in results)
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_free_end_time_is_found_by_copies_of_the_parameter():
    solution = solve_classic(minimal_time(), options=FATROP)
    assert solution.is_solved
    assert solution.objective == pytest.approx(minimal_time().optimum, rel=1e-9)


def test_bounds_are_kept_to_ten_digits():
    """max u with u <= 3; the optimiser relaxes bounds by 1e-8 of their size."""
    problem = OptimalControlProblem(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        initial_state=[0.0],
        terminal_cost=-X,
        control_cost=0.0 * U,
        control_bounds=(-1e4, 3.0),
    )
    solution = solve(problem, TimeGrid.uniform(4), EULER, options=FATROP)
    assert np.abs(solution.trajectory.control_array - 3.0).max() < 4e-10


def test_the_derivatives_are_ours(monkeypatch):
    """CasADi generates none: every function that it looks for is handed over."""
    solvers = []
    original = ca.nlpsol

    def nlpsol(*arguments):
        solvers.append((original(*arguments), arguments[3]["cache"]))
        return solvers[-1][0]

    monkeypatch.setattr("ocp.fatrop.ca.nlpsol", nlpsol)
    assert solve(cart(), TimeGrid.uniform(5, 2.0), options=FATROP).is_solved
    for solver, handed in solvers:
        assert set(solver.get_function()) == set(handed)
        for name, function in handed.items():
            assert solver.get_function(name).n_instructions() == function.n_instructions()


def test_the_verdict_is_the_certificates_and_the_backend_is_quoted():
    solution = solve(cart(), TimeGrid.uniform(20, 2.0), options=FATROP)
    assert solution.status is Status.SOLVED
    assert solution.backend_status == "converged"
    assert solution.iterations is not None
    assert solution.certificate.is_stationary(1e-8)


def test_a_solution_is_resumed_in_few_iterations():
    staged = learning(5)
    first = solve_staged(staged, random_guess(staged, 0), FATROP)
    again = solve_staged(staged, first, FATROP)
    assert again.is_solved
    assert again.iterations is not None
    assert again.iterations <= 3


def long_problem() -> StagedProblem:
    problem = OptimalControlProblem(
        state=X,
        control=U,
        dynamics=ca.tanh(5 * U * X),
        horizon=1.0,
        initial_state=[1.0],
        terminal_cost=(X - 1.9) ** 2,
        control_cost=1e-4 * U**2,
    )
    return discretize(problem, TimeGrid.uniform(20), RK4)


def test_too_few_iterations_end_as_an_iteration_limit():
    options = replace(FATROP, max_iterations=2)
    solution = solve(cart(), TimeGrid.uniform(20, 2.0), options=options)
    assert solution.status is Status.ITERATION_LIMIT


def test_too_little_time_ends_as_a_time_limit_within_an_iteration():
    numbers = []

    def progress(iteration):
        numbers.append(iteration.number)
        time.sleep(0.03)

    staged = long_problem()
    options = replace(FATROP, time_limit=0.05)
    solution = solve_staged(staged, random_guess(staged, 0), options, progress)
    assert solution.status is Status.TIME_LIMIT
    assert len(numbers) <= 3


def test_an_interrupt_ends_with_the_best_point_so_far():
    def progress(iteration):
        if iteration.number == 2:
            os.kill(os.getpid(), signal.SIGINT)

    staged = long_problem()
    solution = solve_staged(staged, random_guess(staged, 0), FATROP, progress)
    assert solution.status is Status.INTERRUPTED
    assert np.isfinite(solution.trajectory.decisions).all()


def test_an_error_of_the_progress_report_reaches_the_caller():
    def progress(iteration):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        solve(cart(), TimeGrid.uniform(5, 2.0), options=FATROP, progress=progress)


def test_an_infeasible_problem_ends_as_infeasible():
    problem = cart(control_bounds=(-0.01, 0.01))
    solution = solve(problem, TimeGrid.uniform(10, 2.0), options=FATROP)
    assert solution.status is Status.INFEASIBLE
    assert "arrive" in solution.message


def test_an_infinite_slope_ends_as_an_invalid_number(capfd):
    """The cost sqrt(1/4 - x) is least at x = 1/4, where it falls infinitely fast."""
    problem = OptimalControlProblem(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        initial_state=[0.0],
        terminal_cost=ca.sqrt(0.25 - X),
        control_cost=1e-6 * U**2,
    )
    solution = solve(problem, TimeGrid.uniform(3), EULER, options=FATROP)
    assert solution.status is Status.INVALID_NUMBER
    assert capfd.readouterr() == ("", "")


def test_steps_out_of_the_models_domain_are_shortened():
    """A logarithm in a path row; the target lies beyond where it exists."""
    log = Constraint("log", ca.log(0.3 - X), [-3.0], [np.inf])
    problem = OptimalControlProblem(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        initial_state=[0.0],
        terminal_cost=(X - 1) ** 2,
        control_cost=0.1 * U**2,
        path_constraints=[log],
    )
    solutions = [
        solve(problem, TimeGrid.uniform(3), EULER, options=o) for o in (FATROP, SolveOptions())
    ]
    assert all(solution.is_solved for solution in solutions)
    assert solutions[0].objective == pytest.approx(solutions[1].objective, rel=1e-9)


def test_a_solve_is_silent(capfd):
    assert solve(cart(), TimeGrid.uniform(5, 2.0), options=FATROP).is_solved
    assert capfd.readouterr() == ("", "")


def test_a_term_that_couples_stages_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"'control rate'.*couples.*NLPSolver\.IPOPT"):
        solve(ensemble_problem(), TimeGrid.uniform(4, 1.5), options=FATROP)


@pytest.mark.parametrize(
    "options",
    [
        replace(FATROP, ipopt={"tol": 1e-9}),
        replace(FATROP, linear_solver=LinearSolver.SPRAL),
    ],
)
def test_options_of_ipopt_are_refused(options):
    with pytest.raises(ValueError, match=r"tol|SPRAL.*leave them out"):
        solve(cart(), TimeGrid.uniform(4, 2.0), options=options)


def test_a_casadi_without_fatrop_says_so(monkeypatch):
    monkeypatch.setattr("ocp.fatrop.ca.has_nlpsol", lambda name: False)
    with pytest.raises(ValueError, match=r"NLPSolver\.FATROP.*built without it.*NLPSolver\.IPOPT"):
        solve(cart(), TimeGrid.uniform(4, 2.0), options=FATROP)


@pytest.mark.parametrize("start", [np.zeros(3), np.full(32, np.nan)])
def test_a_start_of_the_wrong_size_or_not_finite_is_refused(start):
    shooting = Shooting(discretize(cart(), TimeGrid.uniform(10, 2.0), RK4))
    assert shooting.size == 32
    with pytest.raises(ValueError, match="32 finite numbers"):
        fatrop.minimize(shooting, start)
