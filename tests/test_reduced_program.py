"""Rows and bounds of every kind, with the states eliminated: the same optima as with them."""

import signal
import sys
from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
from ensembles import ensemble_problem, varying_problem

from ocp import (
    Constraint,
    Method,
    OptimalControlProblem,
    SolveOptions,
    Status,
    TimeGrid,
    random_guess,
    rollout,
    solve_staged,
)
from ocp.discretize import discretize
from ocp.method import Choice
from ocp.nlp_solvers import NLPSolver
from ocp.reduced_program import ReducedProgram
from ocp.runge_kutta import GAUSS_LEGENDRE_4, HEUN
from ocp.trajectory import constant_guess
from problems.datasets import encode, load, standardize
from problems.interpolation import minimal_norm
from problems.learning import LearningProblem
from problems.losses import HINGE, L1, SQUARED
from problems.regularizers import H1, L1_PENALTY
from problems.training import random_controls
from problems.vector_fields import BOTTLENECK, GELU

SAME = 1e-8  # relative, of costs
STAYING = SolveOptions(
    method=Method.SHOOTING, ipopt={"mu_init": 1e-8, "bound_push": 1e-9, "bound_frac": 1e-9}
)
DIFFERENCE = 1e-5  # step of central differences
TRUNCATION = 1e-7  # of central differences: their step squared, and rounding over their step
LEARNING = {
    "hinge": {"loss": HINGE},
    "hinge along the way": {"loss": HINGE, "tracking": 1.0},
    "l1 loss": {"loss": L1},
    "l1 penalty": {"penalty": L1_PENALTY},
    "hinge and l1 penalty": {"loss": HINGE, "penalty": L1_PENALTY},
    "hinge and bounds": {"loss": HINGE, "bound": 1.0},
    "hinge, trained read-out": {"loss": HINGE, "trained_readout": True},
    "hinge, bottleneck, h1": {
        "loss": HINGE,
        "field": BOTTLENECK,
        "activation": GELU,
        "hidden": 3,
        "penalty": H1,
    },
}


def learning_problem(samples: int = 12, layers: int = 6, **options) -> LearningProblem:
    loss = options.get("loss", SQUARED)
    data = standardize(encode(load("moons", samples=samples), loss.name)).dataset
    return LearningProblem(data, layers=layers, **{"weight_decay": 1e-2, **options})


def several_classes() -> LearningProblem:
    data = standardize(encode(load("iris", samples=15), HINGE.name)).dataset
    return LearningProblem(data, layers=4, weight_decay=1e-2, loss=HINGE)


def bounded_interpolation() -> LearningProblem:
    return minimal_norm(learning_problem(samples=5, layers=8, bound=8.0))


def steered(**limits) -> OptimalControlProblem:
    """Three members that one control steers along their targets, as far as limits let it."""
    x, u, d = ca.SX.sym("x", 2), ca.SX.sym("u", 2), ca.SX.sym("d", 1)
    wall = limits.pop("wall", None)
    rows = [] if wall is None else [Constraint("wall", x[0] + 0.1 * u[0], -np.inf, wall)]
    return OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(ca.tanh(x[1]) + u[0], u[1] - 0.3 * x[0]),
        horizon=1.0,
        initial_state=np.array([[0.4, 0.0], [0.3, -0.5], [-0.8, 0.4]]),
        running_cost=(x[0] - d) ** 2,
        control_cost=0.02 * ca.sumsqr(u),
        path_constraints=rows,
        data=d,
        member_data=np.array([[2.5], [1.0], [-0.4]]),
        **limits,
    )


def staged_problems():
    for name, options in LEARNING.items():
        yield pytest.param(learning_problem(**options).staged, id=name)
    yield pytest.param(several_classes().staged, id="hinge of three classes")
    yield pytest.param(bounded_interpolation().staged, id="interpolation and bounds")
    grid = TimeGrid.uniform(8)
    yield pytest.param(discretize(steered(wall=0.6), grid, HEUN), id="hard path rows")
    bounded = steered(state_bounds=(-np.inf, [0.6, np.inf]))
    yield pytest.param(discretize(bounded, grid, HEUN), id="state bounds")
    every = discretize(ensemble_problem(), TimeGrid.uniform(5, 1.5), HEUN)
    yield pytest.param(every, id="every kind of row, bound and cost")


def start_of(staged, seed: int = 0):
    return rollout(staged, random_controls(staged, seed, 0.3))


def by(method: Method) -> SolveOptions:
    return SolveOptions(method=method)


@pytest.mark.parametrize("staged", list(staged_problems()))
def test_the_optimum_without_states_is_one_of_multiple_shooting_too(staged):
    """Shooting starts where the other route ended, and with a small barrier, so that it stays."""
    found = solve_staged(staged, start_of(staged), by(Method.CONDENSED))
    assert found.method.method is Method.CONDENSED
    assert found.status is Status.SOLVED
    assert found.certificate.is_minimum
    assert found.certificate.dynamics <= 1e-14
    reference = solve_staged(staged, found.trajectory, STAYING)
    assert reference.status is Status.SOLVED
    assert found.objective == pytest.approx(reference.objective, rel=SAME)


@pytest.mark.parametrize("staged", list(staged_problems()))
def test_a_solved_problem_with_rows_is_solved_again_in_two_second_order_steps(staged):
    first = solve_staged(staged, start_of(staged), by(Method.CONDENSED))
    again = solve_staged(staged, first, by(Method.CONDENSED))
    assert again.status is Status.SOLVED
    assert again.iterations <= 2
    assert again.objective == pytest.approx(first.objective, rel=SAME)


@pytest.mark.parametrize("staged", list(staged_problems()))
def test_what_multiple_shooting_has_solved_is_solved_again_in_two_second_order_steps(staged):
    first = solve_staged(staged, start_of(staged), by(Method.SHOOTING))
    again = solve_staged(staged, first, by(Method.CONDENSED))
    assert again.status is Status.SOLVED
    assert again.iterations <= 2
    assert again.objective == pytest.approx(first.objective, rel=SAME)


@pytest.mark.parametrize(
    "staged",
    [
        learning_problem(samples=4, layers=3, loss=HINGE, trained_readout=True).staged,
        learning_problem(samples=4, layers=3, penalty=L1_PENALTY).staged,
        learning_problem(samples=4, layers=3, loss=HINGE, tracking=1.0, penalty=H1).staged,
        discretize(steered(wall=0.6), TimeGrid.uniform(4), HEUN),
        discretize(steered(state_bounds=(-1.0, [0.6, np.inf])), TimeGrid.uniform(4), HEUN),
        discretize(ensemble_problem(), TimeGrid.uniform(3, 1.5), HEUN),
        varying_problem(),
    ],
    ids=["hinge", "l1", "tracking", "path", "state bounds", "every kind", "sizes that change"],
)
def test_derivatives_of_the_program_are_limits_of_central_differences(staged):
    program = ReducedProgram(staged).program
    generator = np.random.default_rng(0)
    z = 0.5 * generator.standard_normal(program.lower.size)
    y = generator.standard_normal(program.constraint_lower.size)

    def slopes(function):
        steps = DIFFERENCE * np.eye(z.size)
        changes = [function(z + s).full().ravel() - function(z - s).full().ravel() for s in steps]
        return np.array(changes).T / (2 * DIFFERENCE)

    def close(found, expected):
        size = max(1.0, float(np.abs(expected).max(initial=0.0)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=TRUNCATION * size)

    close(program.gradient(z).full().T, slopes(program.objective))
    close(program.jacobian(z).full(), slopes(program.constraints))
    for sigma in (1.0, 0.3, 0.0):

        def lagrangian_gradient(point, sigma=sigma):
            return sigma * program.gradient(point) + ca.mtimes(program.jacobian(point).T, y)

        hessian = program.hessian(z, sigma, y).full()
        assert not np.tril(hessian, -1).any()
        close(hessian + np.triu(hessian, 1).T, slopes(lagrangian_gradient))


def test_rows_of_the_l1_penalty_have_one_control_and_two_slacks_each():
    staged = learning_problem(penalty=L1_PENALTY).staged
    pattern = ReducedProgram(staged).functions.jacobian_pattern
    assert (np.bincount(pattern.rows) == 3).all()


def test_rows_along_the_way_do_not_depend_on_later_controls():
    staged = learning_problem(loss=HINGE, tracking=1.0).staged
    program = ReducedProgram(staged)
    pattern = program.functions.jacobian_pattern
    decisions = pattern.columns < staged.decision_size
    last = np.zeros(pattern.shape[0], dtype=int)
    np.maximum.at(last, pattern.rows[decisions], pattern.columns[decisions] + 1)
    ends = [own.start for own in staged.control_slices for _ in range(staged.members)]
    assert sorted(last) == sorted(ends)


def test_local_unknowns_of_stages_are_left_to_multiple_shooting_with_the_reason():
    staged = discretize(ensemble_problem(), TimeGrid.uniform(5, 1.5), GAUSS_LEGENDRE_4)
    found = solve_staged(staged, random_guess(staged, 0, 0.3), by(Method.CONDENSED))
    assert found.method.method is Method.SHOOTING
    assert "unknowns of their own" in found.method.reason


def test_an_optimiser_for_shooting_alone_gets_its_program_with_the_reason():
    staged = learning_problem(loss=HINGE).staged
    options = SolveOptions(method=Method.CONDENSED, nlp_solver=NLPSolver.FATROP)
    found = solve_staged(staged, start_of(staged), replace(options, max_iterations=1))
    assert found.method.method is Method.SHOOTING
    assert "fatrop" in found.method.reason


def test_rows_that_no_control_can_satisfy_are_infeasible():
    staged = discretize(steered(wall=0.6, control_bounds=(2.0, 3.0)), TimeGrid.uniform(6), HEUN)
    found = solve_staged(staged, start_of(staged), by(Method.CONDENSED))
    assert found.status is Status.INFEASIBLE
    assert "wall" in found.message


def test_limits_of_iterations_and_of_time_hold_without_states():
    staged = learning_problem(loss=HINGE).staged
    few = SolveOptions(method=Method.CONDENSED, max_iterations=3)
    assert solve_staged(staged, start_of(staged), few).status is Status.ITERATION_LIMIT
    short = SolveOptions(method=Method.CONDENSED, time_limit=1e-9)
    assert solve_staged(staged, start_of(staged), short).status is Status.TIME_LIMIT


def test_an_interrupt_ends_with_the_last_point_and_its_certificate():
    staged = learning_problem(loss=HINGE).staged

    def interrupt(report):
        if report.number == 4:
            signal.raise_signal(signal.SIGINT)

    found = solve_staged(staged, start_of(staged), by(Method.CONDENSED), progress=interrupt)
    assert found.status is Status.INTERRUPTED
    assert found.iterations == 4
    assert np.isfinite(found.objective)


def exploding():
    """x' = u exp(x^2) reaches infinity in finite time under large controls."""
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        state=x,
        control=u,
        dynamics=u * ca.exp(x**2),
        horizon=1.0,
        initial_state=[[0.1], [-0.2]],
        control_cost=1e-4 * u**2,
        terminal_constraints=[Constraint("end", x, 1.0, 1.0, 1.0)],
    )
    return discretize(problem, TimeGrid.uniform(10), HEUN)


def test_values_that_are_not_finite_along_the_way_are_avoided_by_shorter_steps():
    staged = exploding()
    found = solve_staged(staged, rollout(staged, np.full(10, 0.5)), by(Method.CONDENSED))
    assert found.method.method is Method.CONDENSED
    assert found.status is Status.SOLVED


def test_where_a_start_leads_to_infinity_shooting_takes_over_by_itself(monkeypatch):
    staged = exploding()
    start = constant_guess(staged, 9.0)  # states held where they begin
    assert solve_staged(staged, start, by(Method.CONDENSED)).status is Status.INVALID_NUMBER
    choice = Choice(Method.CONDENSED, "as if it were expected to be cheaper")
    monkeypatch.setattr(sys.modules["ocp.solve"], "choose", lambda staged, wanted: choice)
    found = solve_staged(staged, start)
    assert found.method.method is Method.SHOOTING
    assert "gave up" in found.method.reason
    assert found.status is Status.SOLVED


def test_an_exception_within_the_program_reaches_the_caller(monkeypatch):
    staged = learning_problem(loss=HINGE).staged

    def broken(*arguments):
        raise ArithmeticError("no Hessian today")

    monkeypatch.setattr("ocp.reduced_program.reduced_hessian", broken)
    with pytest.raises(ArithmeticError, match="no Hessian today"):
        solve_staged(staged, start_of(staged), by(Method.CONDENSED))


def test_progress_is_reported_and_an_exception_in_it_ends_the_solve():
    staged = learning_problem(loss=HINGE).staged
    seen = []
    found = solve_staged(staged, start_of(staged), by(Method.CONDENSED), progress=seen.append)
    assert [report.number for report in seen] == list(range(found.iterations + 1))

    def stop(report):
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        solve_staged(staged, start_of(staged), by(Method.CONDENSED), progress=stop)
