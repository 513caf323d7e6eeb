"""Facts about multiple shooting: the nonlinear program, its derivatives, its way there and back."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import casadi as ca
import numpy as np
import pytest
from ensembles import (
    central_differences,
    ensemble_problem,
    outputs_of,
    random_decisions,
    random_trajectory,
    row_blocks,
    row_values,
    total_cost,
    varying_problem,
)
from scipy.integrate import solve_ivp

from ocp import (
    EULER,
    GAUSS_LEGENDRE_4,
    HEUN,
    RK4,
    Constraint,
    OptimalControlProblem,
    SolveOptions,
    StagedProblem,
    Status,
    TimeGrid,
    Trajectory,
    discretize,
    rollout,
    solve,
    solve_staged,
)
from ocp.ipopt import IpoptOptions, minimize
from ocp.shooting import Shooting

GRID = TimeGrid.graded([0.4, 0.6, 0.5])
EXPLICIT = {
    "ensemble": lambda: discretize(ensemble_problem(), GRID, HEUN, substeps=2),
    "varying sizes": varying_problem,
}
PROBLEMS = EXPLICIT | {
    "collocation": lambda: discretize(ensemble_problem(), GRID, GAUSS_LEGENDRE_4),
    "local unknowns": lambda: varying_problem(lifted=True),
}


@pytest.fixture(params=PROBLEMS)
def staged(request) -> StagedProblem:
    return PROBLEMS[request.param]()


@pytest.fixture(params=EXPLICIT)
def explicit(request) -> StagedProblem:
    """Without local unknowns, so that it can be rolled out by hand."""
    return EXPLICIT[request.param]()


def with_multipliers(multipliers: np.ndarray) -> Any:
    """A result of which only the multipliers matter."""
    return SimpleNamespace(multipliers=multipliers)


def random_point(shooting: Shooting, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shooting.size)


@pytest.mark.parametrize("seed", range(3))
def test_the_derivatives_of_the_program_are_those_of_its_functions(staged, seed):
    shooting = Shooting(staged)
    program, generator = shooting.program, np.random.default_rng(seed)
    z, sigma = ca.MX.sym("z", shooting.size), ca.MX.sym("sigma")
    y = ca.MX.sym("y", program.constraint_lower.size)
    f, g = program.objective(z), program.constraints(z)
    exact = ca.Function(
        "exact",
        [z, sigma, y],
        [ca.gradient(f, z), ca.jacobian(g, z), ca.hessian(sigma * f + ca.dot(y, g), z)[0]],
    )
    point, multipliers = random_point(shooting, seed), generator.standard_normal(y.numel())
    gradient, jacobian, hessian = (e.full() for e in exact(point, 0.7, multipliers))
    np.testing.assert_allclose(program.gradient(point).full(), gradient, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(program.jacobian(point).full(), jacobian, rtol=1e-12, atol=1e-12)
    ours = program.hessian(point, 0.7, multipliers).full()
    assert not np.tril(ours, -1).any()
    np.testing.assert_allclose(ours, np.triu(hessian), rtol=1e-12, atol=1e-12)


def test_the_derivatives_of_the_program_are_limits_of_differences(staged):
    shooting = Shooting(staged)
    program, point = shooting.program, random_point(Shooting(staged), 0)
    multipliers = np.random.default_rng(1).standard_normal(program.constraint_lower.size)

    def of_lagrangian(z: np.ndarray) -> np.ndarray:
        gradient, jacobian = program.gradient(z).full().ravel(), program.jacobian(z).full()
        return 0.7 * gradient + jacobian.T @ multipliers

    # Central differences of step 1e-6 leave rounding of 1e-10 and an error of 1e-12.
    close = {"rtol": 1e-7, "atol": 1e-8}
    differences = central_differences(lambda z: program.objective(z).full().ravel(), point)
    np.testing.assert_allclose(program.gradient(point).full().ravel(), differences[0], **close)
    differences = central_differences(lambda z: program.constraints(z).full().ravel(), point)
    np.testing.assert_allclose(program.jacobian(point).full(), differences, **close)
    hessian = program.hessian(point, 0.7, multipliers).full()
    differences = central_differences(of_lagrangian, point)
    np.testing.assert_allclose(hessian, np.triu(differences), **close)


@pytest.mark.parametrize("seed", range(3))
def test_unpack_is_the_inverse_of_pack(staged, seed):
    shooting, trajectory = Shooting(staged), random_trajectory(staged, seed)
    back = shooting.unpack(shooting.pack(trajectory))
    for ours, theirs in ((back.states, trajectory.states), (back.controls, trajectory.controls)):
        assert len(ours) == len(theirs)
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    inner = [z for z in trajectory.locals if z.size]
    for ours, theirs in zip([z for z in back.locals if z.size], inner, strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(back.parameters, trajectory.parameters)
    assert back.times is trajectory.times


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_of_a_packed_rollout_is_its_cost_with_penalties(explicit, seed):
    shooting, decisions = Shooting(explicit), random_decisions(explicit, seed)
    point = shooting.pack(rollout(explicit, decisions))
    objective = float(shooting.program.objective(point))
    assert objective == pytest.approx(total_cost(explicit, decisions), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_slacks_take_up_exactly_what_the_soft_rows_violate(explicit, seed):
    shooting, decisions = Shooting(explicit), random_decisions(explicit, seed)
    program, point = shooting.program, shooting.pack(rollout(explicit, decisions))
    values = row_values(explicit, decisions)
    packed = shooting.rows_of(program.constraints(point).full().ravel())
    violated = 0
    for (rows, _), plain, slackened in zip(row_blocks(explicit), values, packed, strict=True):
        soft = np.isfinite(rows.weight)
        expected = np.where(soft, np.clip(plain, rows.lower, rows.upper), plain)
        np.testing.assert_allclose(slackened, expected, rtol=1e-12, atol=1e-12)
        violated += int((expected != plain).sum())
    assert violated > 0
    assert (point >= program.lower - 1e-12).all()


def test_the_defects_compare_every_successor_with_the_next_state(explicit):
    shooting, trajectory = Shooting(explicit), random_trajectory(explicit, 0)
    values = shooting.program.constraints(shooting.pack(trajectory)).full().ravel()
    defects = shooting.costates(with_multipliers(values))
    for k, defect in enumerate(defects):
        after = trajectory.states[k + 1]
        for i in range(explicit.members):
            v = np.concatenate(
                [trajectory.states[k][i], trajectory.controls[k], trajectory.parameters]
            )
            successor = outputs_of(explicit, k, i, v)[0]
            np.testing.assert_allclose(defect[i], successor - after[i], rtol=1e-12, atol=1e-14)


def test_a_rollout_has_no_defects_and_the_initial_state_is_fixed(staged):
    shooting, trajectory = Shooting(staged), rollout(staged, random_decisions(staged))
    program, point = shooting.program, shooting.pack(trajectory)
    values = program.constraints(point).full().ravel()
    hard = program.constraint_lower == program.constraint_upper
    assert np.abs(values[hard]).max() < 1e-13
    assert max(np.abs(d).max() for d in shooting.costates(with_multipliers(values))) < 1e-13
    for bound in (program.lower, program.upper):
        assert np.array_equal(shooting.unpack(bound).states[0], staged.initial_state)


def test_the_bounds_of_the_program_are_those_of_the_problem(staged):
    shooting = Shooting(staged)
    for side, bound in ((0, shooting.program.lower), (1, shooting.program.upper)):
        found = shooting.unpack(bound)
        for stage, state in zip(staged.stages[1:], found.states[1:], strict=True):
            assert (state == stage.state_bounds[side]).all()
        for stage, control in zip(staged.stages[:-1], found.controls, strict=True):
            assert (control == stage.control_bounds[side]).all()
        assert (found.parameters == staged.parameter_bounds[side]).all()


@pytest.mark.parametrize("name", ["objective", "gradient", "constraints", "jacobian", "hessian"])
def test_the_program_holds_no_symbolic_copy_per_member_or_stage(name):
    lengths = set()
    for members, intervals in ((5, 4), (500, 4), (5, 40)):
        problem = ensemble_problem(members, horizon=1.0)
        staged = discretize(problem, TimeGrid.uniform(intervals), RK4)
        lengths.add(getattr(Shooting(staged).program, name).n_instructions())
    assert len(lengths) == 1


def test_the_jacobian_grows_in_proportion_to_the_members():
    """Everything but the shared terms' entries belongs to a member."""
    sizes = []
    for members in (10, 20, 30):
        staged = discretize(ensemble_problem(members), GRID, RK4)
        sizes.append(Shooting(staged).program.jacobian.nnz_out(0))
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]


def test_a_linear_program_has_a_hessian_without_entries():
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        x, u, u, 1.0, [0.0], terminal_cost=x, control_bounds=(-1.0, 2.0)
    )
    staged = discretize(problem, TimeGrid.uniform(3), EULER)
    assert Shooting(staged).program.hessian.nnz_out(0) == 0
    solution = solve_staged(staged)
    assert solution.status is Status.SOLVED
    assert solution.objective == pytest.approx(-1.0, abs=1e-9)
    assert solution.certificate.directions == 0


def test_a_guess_of_another_size_is_refused():
    staged = discretize(ensemble_problem(), GRID, EULER)
    shooting, good = Shooting(staged), random_trajectory(staged)
    words = r"states of shapes 3 x \(3, 2\), expected 4 x \(3, 2\)"
    with pytest.raises(ValueError, match=words):
        shooting.pack(replace(good, states=good.states[:-1]))
    with pytest.raises(ValueError, match=r"states of shapes 4 x \(2, 2\)"):
        shooting.pack(replace(good, states=tuple(s[:2] for s in good.states)))
    with pytest.raises(ValueError, match="guess has 5 controls and parameters, expected 7"):
        shooting.pack(replace(good, controls=good.controls[:-1]))
    varied = (good.states[0], good.states[0][:, :1], *good.states[2:])
    with pytest.raises(ValueError, match=r"states of shapes \[\(3, 2\), \(3, 1\)"):
        shooting.pack(replace(good, states=varied))


def smooth_problem(soft_weight: float | None = None) -> OptimalControlProblem:
    """Three pendulums, each with its own length, steered by one torque; not autonomous.

    With a weight, also a soft corridor for the angle.
    """
    x, u, d, t = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("d"), ca.SX.sym("t")
    soft = [] if soft_weight is None else [Constraint("soft", x[0], -0.1, 0.1, soft_weight)]
    return OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], -d * ca.sin(x[0]) + u + 0.2 * ca.cos(t)),
        horizon=2.0,
        initial_state=[[1.0, 0.0], [0.5, -0.5], [-0.3, 0.2]],
        running_cost=0.5 * ca.sumsqr(x),
        terminal_cost=ca.cosh(x[0]) + x[1] ** 2,
        control_cost=0.1 * u**2,
        path_constraints=soft,
        data=d,
        member_data=[[1.0], [2.0], [0.5]],
        time=t,
    )


def adjoint_by_integration(trajectory: Trajectory) -> list[np.ndarray]:
    """p' = -(L_x + f_x^T p), p(T) = Phi_x, along exact states, the control constant on intervals.

    Derivatives are written by hand, and SciPy integrates.
    """
    nodes, controls = trajectory.times, trajectory.control_array[:, 0]
    costates = []
    for i, length in enumerate([1.0, 2.0, 0.5]):

        def state_rate(t, x, u, length=length):
            return [x[1], -length * np.sin(x[0]) + u + 0.2 * np.cos(t)]

        def both(t, xp, u, length=length):
            x, p = xp[:2], xp[2:]
            slope = [-(x[0] - length * np.cos(x[0]) * p[1]), -(x[1] + p[0])]
            return [*state_rate(t, x, u, length), *slope]

        exact = {"rtol": 1e-12, "atol": 1e-12, "method": "DOP853"}
        x = trajectory.state_array[0, i]
        for k, u in enumerate(controls):
            x = solve_ivp(state_rate, nodes[k : k + 2], x, args=(u,), **exact).y[:, -1]
        xp = np.concatenate([x, [np.sinh(x[0]), 2 * x[1]]])
        found = [xp[2:]]
        for k in reversed(range(1, len(controls))):
            span = (nodes[k + 1], nodes[k])
            xp = solve_ivp(both, span, xp, args=(controls[k],), **exact).y[:, -1]
            found.append(xp[2:])
        costates.append(found[::-1])
    return [np.array(at_stage) for at_stage in zip(*costates, strict=True)]


def test_multipliers_of_the_defects_converge_to_the_integrated_costate_at_order_four():
    errors = []
    for intervals in (20, 40):
        solution = solve(smooth_problem(), TimeGrid.uniform(intervals, 2.0), RK4)
        assert solution.is_solved
        exact = adjoint_by_integration(solution.trajectory)
        pairs = zip(solution.costates, exact, strict=True)
        errors.append(max(np.abs(ours - theirs).max() for ours, theirs in pairs))
    assert errors[1] < 1e-5
    # Halving the step divides the error by 16, up to its next term.
    assert 12 < errors[0] / errors[1] < 20


def test_multipliers_obey_the_adjoint_recursion_with_slopes_taken_by_differences():
    """lambda^k = d/dx [l_k + lambda^{k+1} Phi_k + y r_k] for every member."""
    staged = discretize(smooth_problem(soft_weight=0.5), TimeGrid.uniform(8, 2.0), HEUN, 2)
    shooting = Shooting(staged)
    start = shooting.pack(rollout(staged, np.zeros(8)))
    result = minimize(shooting.program, start, IpoptOptions(tolerance=1e-12))
    assert result.status is Status.SOLVED
    trajectory, multipliers = shooting.unpack(result.point), shooting.multipliers(result).rows
    assert max(np.abs(y).max(initial=0.0) for y in multipliers) > 0
    costates = [None, *shooting.costates(result), np.zeros((staged.members, 0))]
    controls = [*trajectory.controls, np.zeros(0)]
    for k in range(1, staged.intervals + 1):
        for i in range(staged.members):

            def hamiltonian(x, k=k, i=i):
                v = np.concatenate([x, controls[k], trajectory.parameters])
                successor, cost, rows = outputs_of(staged, k, i, v)
                return cost + costates[k + 1][i] @ successor + multipliers[k][i] @ rows

            slope = central_differences(hamiltonian, trajectory.states[k][i])[0]
            # Differences of step 1e-6 carry rounding of 1e-9 for values of size 10.
            np.testing.assert_allclose(costates[k][i], slope, atol=1e-8)


@pytest.mark.parametrize("scale", [None, 1e-3, 1e3])
def test_multipliers_are_in_units_of_the_cost_whatever_the_optimiser_scales_by(scale):
    staged = discretize(smooth_problem(), TimeGrid.uniform(6, 2.0), RK4)
    solution = solve_staged(staged, options=SolveOptions(objective_scale=scale))
    for ours, certified in zip(solution.costates, solution.certificate.costates[1:], strict=True):
        np.testing.assert_allclose(ours, certified, rtol=1e-7, atol=1e-8)
