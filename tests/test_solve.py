"""Facts about solving: what optima are found, and how each failure is called."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import casadi as ca
import numpy as np
import pytest
from ensembles import ensemble_problem, total_cost, varying_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from ocp import (
    EULER,
    FREE,
    HEUN,
    RK4,
    Constraint,
    Method,
    OptimalControlProblem,
    Solution,
    SolveOptions,
    StagedProblem,
    Status,
    TimeGrid,
    certify,
    discretize,
    random_guess,
    rollout,
    solve,
    solve_staged,
)
from ocp.condensing import linearize
from ocp.ipopt import IpoptOptions, minimize
from ocp.shooting import Shooting
from ocp.solve import objective_scale

X, U, T = ca.SX.sym("x"), ca.SX.sym("u"), ca.SX.sym("t")
ON_ITS_GRID = SolveOptions(discretization_tolerance=np.inf)


def scalar(**changes: Any) -> OptimalControlProblem:
    standard: dict[str, Any] = {
        "state": X,
        "control": U,
        "dynamics": U,
        "horizon": 1.0,
        "initial_state": [1.0],
        "control_cost": U**2,
        "time": T,
    }
    return OptimalControlProblem(**{**standard, **changes})


def long_problem() -> StagedProblem:
    """Takes tens of iterations: a tanh that saturates, steered to a far target."""
    problem = scalar(
        dynamics=ca.tanh(5 * U * X), terminal_cost=(X - 1.9) ** 2, control_cost=1e-4 * U**2
    )
    return discretize(problem, TimeGrid.uniform(20), RK4)


def ensemble(
    scale: float = 1.0, order: tuple[int, ...] = (0, 1, 2), weight: float = 0.3
) -> OptimalControlProblem:
    """Three members steered to their targets by one control; soft rows; cost times `scale`."""
    x, u, d = ca.SX.sym("x", 2), ca.SX.sym("u", 2), ca.SX.sym("d", 1)
    rows = list(order)
    initial = np.array([[1.0, 0.0], [0.3, -0.5], [-0.8, 0.4]])[rows]
    return OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(ca.tanh(x[1]) * u[0], u[1] - 0.3 * x[0]),
        horizon=1.0,
        initial_state=initial,
        running_cost=scale * (x[0] - d) ** 2,
        control_cost=scale * 0.2 * ca.sumsqr(u),
        terminal_constraints=[Constraint("end", x[1], -0.2, 0.2, scale * weight)],
        data=d,
        member_data=np.array([[0.5], [0.0], [-0.4]])[rows],
    )


def double_integrator(horizon: float, **changes: Any) -> OptimalControlProblem:
    x = ca.SX.sym("x", 2)
    return OptimalControlProblem(
        state=x,
        control=U,
        dynamics=ca.vertcat(x[1], U),
        horizon=horizon,
        initial_state=[0.0, 0.0],
        terminal_constraints=[Constraint("arrive", x, [1.0, 0.0], [1.0, 0.0])],
        **changes,
    )


def test_the_costs_by_term_add_up_to_the_objective():
    staged = discretize(ensemble_problem(), TimeGrid.uniform(5, 1.5), HEUN)
    solution = solve_staged(staged, random_guess(staged, 0, scale=0.3))
    assert solution.is_solved
    assert sum(solution.costs.values()) == pytest.approx(solution.objective, rel=1e-12)
    exact = total_cost(staged, solution.trajectory.decisions)
    assert solution.objective == pytest.approx(exact, rel=1e-9)
    assert set(solution.costs) == {
        "running",
        "terminal",
        "control",
        "control rate",
        "parameter",
        "soft constraints",
    }


@pytest.mark.parametrize("cost", [0.5, 1.0])
def test_with_the_distance_as_running_cost_the_target_is_reached_exactly_and_kept(cost):
    """min Int |x| + c u^2, x' = u, x(0) = 1: zero from t0 = 2 sqrt(c) on (Gugat 2024)."""
    horizon, intervals = 4.0, 80
    problem = scalar(
        horizon=horizon,
        control_cost=cost * U**2,
        path_constraints=[Constraint("distance", X, weight=1.0)],
    )
    solution = solve(problem, TimeGrid.uniform(intervals, horizon), EULER)
    assert solution.is_solved
    states = solution.trajectory.state_array[:, 0, 0]
    times, step = solution.trajectory.times, horizon / intervals
    # Exactly means to the optimiser's accuracy, four digits below the smallest state before t0.
    arrived = np.abs(states) < 1e-8
    first = int(np.argmax(arrived))
    assert arrived[first:].all()
    assert states[first - 1] > 1e-4
    assert abs(times[first] - 2 * np.sqrt(cost)) <= step
    assert np.abs(solution.trajectory.control_array[first:]).max() < 1e-6
    # sqrt(x) falls linearly; Euler is off by order h.
    exact = np.maximum(1 - times / (2 * np.sqrt(cost)), 0.0) ** 2
    assert np.abs(states - exact).max() < step
    assert solution.objective == pytest.approx(4 / 3 * np.sqrt(cost), abs=step)


def test_minimal_energy_of_the_double_integrator_tends_to_its_closed_form():
    """From (0, 0) to (1, 0) in T = 1, min 1/2 Int u^2: 6, and p1 = -12 in our sign."""
    problem = double_integrator(1.0, control_cost=U**2 / 2)
    errors = []
    for intervals in (10, 20):
        solution = solve(problem, TimeGrid.uniform(intervals), RK4)
        assert solution.is_solved
        errors.append(solution.objective - 6.0)
        np.testing.assert_allclose([c[0, 0] for c in solution.costates], -12.0, rtol=0.02)
    # Constant controls cost order two: 6 / (1 - h^2).
    assert errors == pytest.approx([6 / 99, 6 / 399], rel=1e-6)


def test_a_solution_is_a_valid_guess_for_the_next_solve():
    staged = long_problem()
    first = solve_staged(staged, random_guess(staged, 1))
    assert first.is_solved
    assert first.iterations is not None
    again = solve_staged(staged, first.trajectory)
    assert again.is_solved
    assert again.iterations is not None
    assert again.iterations <= 2 < first.iterations
    assert again.objective == pytest.approx(first.objective, rel=1e-9)


def test_a_solution_lends_its_multipliers_to_the_next_solve():
    problem = ensemble(weight=0.2)
    bounded = discretize(replace(problem, control_bounds=(-0.4, 0.4)), TimeGrid.uniform(8), RK4)
    first = solve_staged(bounded, random_guess(bounded, 0))
    cold, warm = solve_staged(bounded, first.trajectory), solve_staged(bounded, first)
    assert first.is_solved
    assert cold.is_solved
    assert warm.is_solved
    assert warm.iterations is not None
    assert cold.iterations is not None
    assert warm.iterations <= 3 < cold.iterations
    assert warm.objective == pytest.approx(first.objective, rel=1e-9)


@settings(max_examples=10)
@given(exponent=st.floats(-3.0, 3.0), seed=st.integers(0, 3))
def test_multiplying_the_cost_multiplies_objective_and_costates_and_nothing_else(exponent, seed):
    factor, grid = 10.0**exponent, TimeGrid.uniform(5)
    plain, scaled = (discretize(ensemble(scale), grid, HEUN) for scale in (1.0, factor))
    guess = random_guess(plain, seed)
    here, there = certify(plain, guess), certify(scaled, guess)
    assert there.stationarity == pytest.approx(here.stationarity, rel=1e-9)
    before, after = solve_staged(plain, guess), solve_staged(scaled, guess)
    assert before.is_solved
    assert after.is_solved
    assert after.objective == pytest.approx(factor * before.objective, rel=1e-9)
    # Costates are as accurate as the optimiser's tolerance of 1e-10, scaled by the curvature.
    for ours, theirs in zip(after.costates, before.costates, strict=True):
        np.testing.assert_allclose(ours / factor, theirs, atol=1e-6)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0)])
def test_permuting_the_members_leaves_the_optimum(order):
    grid = TimeGrid.uniform(6)
    plain, permuted = (discretize(ensemble(order=o), grid, RK4) for o in ((0, 1, 2), order))
    controls = random_guess(plain, 0).decisions
    before = solve_staged(plain, rollout(plain, controls))
    after = solve_staged(permuted, rollout(permuted, controls))
    assert before.is_solved
    assert after.is_solved
    assert after.objective == pytest.approx(before.objective, rel=1e-9)
    np.testing.assert_allclose(after.trajectory.decisions, before.trajectory.decisions, atol=1e-6)
    for ours, theirs in zip(after.trajectory.states, before.trajectory.states, strict=True):
        np.testing.assert_allclose(ours, theirs[list(order)], atol=1e-6)


def test_local_unknowns_leave_the_optimum_and_its_certificate_alone():
    plain, lifted = varying_problem(), varying_problem(lifted=True)
    start = np.full(4, 0.1)
    before, after = (solve_staged(staged, rollout(staged, start)) for staged in (plain, lifted))
    assert before.is_solved
    assert after.is_solved
    assert after.objective == pytest.approx(before.objective, rel=1e-9)
    for ours, theirs in zip(after.costates, before.costates, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    eigenvalue = before.certificate.min_reduced_hessian_eigenvalue
    assert after.certificate.min_reduced_hessian_eigenvalue == pytest.approx(eigenvalue, rel=1e-6)


def test_maximising_a_cost_is_minimising_its_negative():
    costs = {"terminal_cost": (X - 3) ** 2, "control_cost": U**2}
    grid = TimeGrid.uniform(4)
    least = solve(scalar(**costs), grid, EULER)
    most = solve(
        scalar(maximize=True, **{name: -cost for name, cost in costs.items()}), grid, EULER
    )
    assert least.is_solved
    assert most.is_solved
    assert most.objective == pytest.approx(-least.objective, rel=1e-12)
    assert most.costs == pytest.approx({name: -cost for name, cost in least.costs.items()})
    decisions = least.trajectory.decisions
    np.testing.assert_allclose(most.trajectory.decisions, decisions, rtol=1e-12)
    for ours, theirs in zip(most.costates, least.costates, strict=True):
        np.testing.assert_allclose(ours, -theirs, rtol=1e-10)


def test_a_free_end_time_is_found_and_stands_in_the_times():
    """min T + 1/2 Int u^2 T dt from 0 to 1 with x' = u: T = 1/sqrt 2, cost sqrt 2."""
    horizon = ca.SX.sym("T")
    problem = scalar(
        initial_state=[0.0],
        horizon=horizon,
        parameter=horizon,
        parameter_bounds=(0.1, 10.0),
        parameter_cost=horizon,
        control_cost=U**2 / 2,
        terminal_constraints=[Constraint("end", X, 1.0, 1.0)],
    )
    solution = solve(problem, TimeGrid.uniform(5), EULER)
    assert solution.is_solved
    assert solution.objective == pytest.approx(np.sqrt(2), rel=1e-8)
    assert solution.trajectory.times is not None
    assert solution.trajectory.times[-1] == pytest.approx(1 / np.sqrt(2), rel=1e-8)


def test_a_free_initial_value_is_found_and_stands_in_the_states():
    """min Int u^2 + (x(0) - 1)^2 + x(1)^2 with x' = u: x(0) = 2/3, x(1) = 1/3, cost 1/3."""
    start = ca.SX.sym("start")
    problem = scalar(initial_state=[FREE], initial=start, terminal_cost=(start - 1) ** 2 + X**2)
    solution = solve(problem, TimeGrid.uniform(3), RK4)
    assert solution.is_solved
    assert solution.objective == pytest.approx(1 / 3, rel=1e-8)
    assert solution.trajectory.state_array[[0, -1], 0, 0] == pytest.approx([2 / 3, 1 / 3])
    again = solve(problem, TimeGrid.uniform(3), RK4, guess=solution.trajectory)
    assert again.iterations is not None
    assert again.iterations <= 2
    assert again.objective == pytest.approx(solution.objective, rel=1e-9)


def test_a_model_without_values_somewhere_is_solved_where_it_has_them():
    """-log x at x(0) = 1: min u^2 - log(1 + u) has 2 u (1 + u) = 1."""
    solution = solve(scalar(terminal_cost=-ca.log(X)), TimeGrid.uniform(3), EULER)
    assert solution.is_solved
    expected = np.full((3, 1), (np.sqrt(3) - 1) / 2)
    np.testing.assert_allclose(solution.trajectory.control_array, expected, rtol=1e-8)


def test_solve_is_discretisation_followed_by_the_staged_solve():
    grid = TimeGrid.uniform(4)
    direct = solve(ensemble(), grid, HEUN, substeps=2)
    staged = solve_staged(discretize(ensemble(), grid, HEUN, 2))
    assert direct.objective == staged.objective
    assert np.array_equal(direct.trajectory.decisions, staged.trajectory.decisions)


def test_the_objective_is_scaled_by_the_curvature_of_the_controls_own_cost():
    guess = np.array([0.3, -0.2])
    priced = {"control_cost": 0.0, "control_constraints": [Constraint("price", U, weight=3.0)]}
    free = {"control_cost": 0.0}
    pulled = {"control_cost": 0.0, "terminal_cost": 7 * X}
    sizes = [({"control_cost": 4 * U**2}, 4.0), (priced, 1.5), (pulled, 3.5), (free, 1.0)]
    for changes, size in sizes:
        staged = discretize(scalar(**changes), TimeGrid.uniform(2), EULER)
        linearization = linearize(staged, rollout(staged, guess))
        assert objective_scale(linearization) == pytest.approx(1 / size)


@pytest.mark.parametrize("intervals", [10, 19, 38])
def test_less_than_the_minimal_time_is_infeasible_and_the_terminal_constraint_is_named(intervals):
    """With abs(u) <= 1 the double integrator needs T = 2 for a distance of 1."""
    short = double_integrator(1.9, control_bounds=(-1.0, 1.0))
    solution = solve(short, TimeGrid.uniform(intervals, 1.9), RK4)
    assert solution.status is Status.INFEASIBLE
    assert "arrive[" in solution.message
    assert not solution.is_solved
    enough = double_integrator(2.0 + 1e-6, control_bounds=(-1.0, 1.0))
    long = solve(enough, TimeGrid.uniform(20, 2.0 + 1e-6), RK4)
    assert long.certificate.constraints < 1e-8


@pytest.mark.parametrize(
    "changes",
    [
        {"dynamics": U + ca.sqrt(X - 5)},
        {"dynamics": U * ca.log(-X)},
        {"running_cost": ca.sqrt(X - 5)},
        {"terminal_cost": ca.acos(X + 5)},
        {"terminal_constraints": [Constraint("root", ca.sqrt(X - 5))]},
        {"path_constraints": [Constraint("soft root", ca.sqrt(X - 5), weight=1.0)]},
        {"control_constraints": [Constraint("log", ca.log(U - 5))]},
    ],
)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"control_bounds": (0.0, 1.0), "terminal_cost": X**2},
        {"terminal_constraints": [Constraint("end", X, 2.0, 2.0)]},
    ],
    ids=["free", "bounded", "constrained"],
)
@pytest.mark.parametrize("method", [Method.AUTO, Method.CONDENSED], ids=lambda m: m.value)
def test_a_model_without_a_value_at_the_guess_is_never_solved(changes, more, method):
    problem, options = scalar(**{**more, **changes}), SolveOptions(method=method)
    solution = solve(problem, TimeGrid.uniform(4), RK4, options=options)
    assert solution.status is Status.INVALID_NUMBER
    assert "not a finite number" in solution.message
    assert np.isfinite(solution.trajectory.decisions).all()
    assert not solution.certificate.is_stationary(1.0)


def is_no_worse_than(guess_cost: float, solution: Solution) -> bool:
    return bool(solution.objective <= guess_cost * (1 + 1e-12))


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_iteration_limit_returns_a_rollout_no_worse_than_the_guess(limit, seed):
    staged = long_problem()
    guess = random_guess(staged, seed)
    solution = solve_staged(staged, guess, SolveOptions(max_iterations=limit))
    assert solution.status is Status.ITERATION_LIMIT
    assert solution.iterations == limit
    assert "iteration limit" in solution.message
    assert is_no_worse_than(total_cost(staged, guess.decisions), solution)
    assert solution.certificate.dynamics < 1e-14
    exact = total_cost(staged, solution.trajectory.decisions)
    assert solution.objective == pytest.approx(exact, rel=1e-12)


def test_an_iterate_worse_than_the_guess_is_not_returned():
    """An interior-point method first leaves the bounds on which the guess lies."""
    staged = discretize(
        scalar(dynamics=U * X, terminal_cost=(X - 3) ** 2, control_bounds=(-0.3, 0.3)),
        TimeGrid.uniform(4),
        RK4,
    )
    guess = rollout(staged, np.full(4, 0.3))
    solution = solve_staged(staged, guess, SolveOptions(max_iterations=1))
    assert is_no_worse_than(total_cost(staged, guess.decisions), solution)


def test_an_infeasible_guess_counts_by_the_states_that_its_controls_lead_to():
    staged = long_problem()
    guess = random_guess(staged, 0)
    wrong = replace(guess, states=tuple(s + 3.0 for s in guess.states))
    solution = solve_staged(staged, wrong, SolveOptions(max_iterations=1))
    assert is_no_worse_than(total_cost(staged, guess.decisions), solution)
    assert solution.certificate.dynamics < 1e-14


def test_the_time_limit_ends_a_solve_in_time():
    staged, numbers = long_problem(), []
    guess = random_guess(staged, 0)

    def progress(iteration):
        numbers.append(iteration.number)
        time.sleep(0.03)

    solution = solve_staged(staged, guess, SolveOptions(time_limit=0.05), progress)
    assert solution.status is Status.TIME_LIMIT
    assert "time limit" in solution.message
    # Two sleeps exceed the limit; without it there would be more than ten iterations.
    assert len(numbers) <= 3
    assert is_no_worse_than(total_cost(staged, guess.decisions), solution)


@pytest.fixture
def listener():
    """A SIGINT handler of the caller's own, which a solve has to put back."""
    heard: list[int] = []

    def listen(number: int, frame: object) -> None:
        heard.append(number)

    previous = signal.signal(signal.SIGINT, listen)
    yield listen, heard
    signal.signal(signal.SIGINT, previous)


def test_an_interrupt_ends_with_the_best_point_so_far(listener):
    listen, heard = listener
    staged = long_problem()
    guess = random_guess(staged, 0)

    def progress(iteration):
        if iteration.number == 2:
            os.kill(os.getpid(), signal.SIGINT)

    solution = solve_staged(staged, guess, progress=progress)
    assert solution.status is Status.INTERRUPTED
    assert "interrupted" in solution.message
    assert np.isfinite(solution.trajectory.decisions).all()
    assert is_no_worse_than(total_cost(staged, guess.decisions), solution)
    assert signal.getsignal(signal.SIGINT) is listen
    assert heard == []


def test_an_interrupt_from_outside_is_heard_within_an_iteration(listener):
    listen, heard = listener
    staged, numbers = long_problem(), []
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))

    def progress(iteration):
        if not numbers:
            timer.start()
        numbers.append(iteration.number)
        time.sleep(0.02)

    # From this guess the whole run takes more than fifty iterations.
    solution = solve_staged(staged, random_guess(staged, 4), progress=progress)
    timer.join()
    assert solution.status is Status.INTERRUPTED
    assert len(numbers) < 40
    assert np.isfinite(solution.objective)
    assert signal.getsignal(signal.SIGINT) is listen
    assert heard == []


def test_a_solve_that_ends_normally_puts_the_handler_back(listener):
    listen, _ = listener
    assert solve(ensemble(), TimeGrid.uniform(3), EULER, options=ON_ITS_GRID).is_solved
    assert signal.getsignal(signal.SIGINT) is listen


def test_a_solve_in_another_thread_leaves_the_handler_alone(listener):
    listen, _ = listener
    arguments = (ensemble(), TimeGrid.uniform(3), EULER)
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(solve, *arguments, options=ON_ITS_GRID).result().is_solved
    assert signal.getsignal(signal.SIGINT) is listen


def test_progress_reports_every_iteration_from_the_guess_on():
    staged = discretize(ensemble(), TimeGrid.uniform(4), RK4)
    guess = random_guess(staged, 0)
    reports = []
    solution = solve_staged(staged, guess, progress=reports.append)
    assert [r.number for r in reports] == list(range((solution.iterations or 0) + 1))
    assert reports[-1].objective == pytest.approx(solution.objective, rel=1e-8)
    assert reports[-1].infeasibility < 1e-9
    spent = solution.timings
    assert min(spent.build, spent.solve, spent.certificate) > 0


def test_every_status_has_a_sentence_and_a_word_of_its_own():
    assert len({status.sentence for status in Status}) == len(Status)
    assert len({status.value for status in Status}) == len(Status)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tolerance": 0.0}, "tolerance must be between 0 and 1, got 0.0"),
        ({"tolerance": 1.0}, "tolerance must be between 0 and 1"),
        ({"tolerance": np.nan}, "tolerance must be between 0 and 1, got nan"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, got 0"),
        ({"time_limit": 0.0}, "time limit must be positive, got 0.0 s"),
        ({"time_limit": np.nan}, "time limit must be positive, got nan s"),
    ],
)
def test_options_say_what_does_not_fit(arguments, words):
    with pytest.raises(ValueError, match=words):
        SolveOptions(**arguments)


def test_a_guess_that_does_not_fit_is_refused():
    staged = long_problem()
    other = discretize(scalar(), TimeGrid.uniform(7), EULER)
    with pytest.raises(ValueError, match="the guess has states of shapes 8 x"):
        solve_staged(staged, random_guess(other, 0))
    with pytest.raises(ValueError, match=r"states\[1\] with a value that is not finite"):
        solve_staged(staged, rollout(staged, np.full(20, np.nan)))
    with pytest.raises(ValueError, match="stages change size"):
        solve_staged(varying_problem())


def test_the_optimiser_wants_a_start_of_the_right_size():
    shooting = Shooting(long_problem())
    with pytest.raises(ValueError, match=r"start must be 41 finite numbers, got shape \(3,\)"):
        minimize(shooting.program, np.zeros(3), IpoptOptions())
    start = np.zeros(shooting.size)
    start[[3, 5]] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"got shape \(41,\) with 2 that are not finite"):
        minimize(shooting.program, start, IpoptOptions())


@pytest.mark.parametrize("horizon", [1.0, 2.0])
def test_a_problem_that_prices_the_end_alone_is_certified(horizon):
    """x1' = u, x2' = u^2 / 2, min x2(T) - x1(T): u = 1, -T / 2; no term of the cost has u in it."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(u, u**2 / 2),
        horizon=horizon,
        initial_state=[0.0, 0.0],
        terminal_cost=x[1] - x[0],
    )
    solution = solve(problem, TimeGrid.uniform(4, horizon), RK4)
    assert solution.is_solved
    assert solution.objective == pytest.approx(-horizon / 2, rel=1e-12)
