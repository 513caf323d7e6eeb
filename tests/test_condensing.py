"""Facts about the states eliminated: derivatives in the decisions, by sweeps over the stages."""

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
from ensembles import (
    COMPLEX_STEP,
    central_differences,
    ensemble_problem,
    lagrangian,
    no_multipliers,
    outputs_of,
    plain_cost,
    random_decisions,
    random_multipliers,
    rolled_out,
    rolled_out_function,
    row_values,
    settled_multipliers,
    total_cost,
    varying_problem,
)

from ocp import (
    EULER,
    GAUSS_LEGENDRE_4,
    HEUN,
    RADAU_IIA_3,
    RK4,
    StagedProblem,
    TimeGrid,
    discretize,
    rollout,
)
from ocp.condensing import (
    Linearization,
    adjoint,
    linearize,
    reduced_gradient,
    reduced_jacobian,
)
from ocp.reduced_hessian import reduced_hessian

GRID = TimeGrid.graded([0.4, 0.6, 0.5])
PROBLEMS = {
    "ensemble": lambda: discretize(ensemble_problem(), GRID, HEUN, substeps=2),
    "one member": lambda: discretize(ensemble_problem(members=1), GRID, RK4),
    "one interval": lambda: discretize(ensemble_problem(), TimeGrid.uniform(1, 1.5), EULER),
    "varying sizes": varying_problem,
}


@pytest.fixture(params=PROBLEMS)
def staged(request) -> StagedProblem:
    return PROBLEMS[request.param]()


def along(staged: StagedProblem, decisions: np.ndarray) -> Linearization:
    return linearize(staged, rollout(staged, decisions))


def gradient_of(staged: StagedProblem, decisions: np.ndarray, multipliers) -> np.ndarray:
    linearization = along(staged, decisions)
    costates = adjoint(linearization, multipliers)
    return reduced_gradient(linearization, costates, multipliers).value


def close(ours: np.ndarray, exact: np.ndarray) -> None:
    """Equal up to rounding, relative to the largest entry."""
    assert np.abs(ours - exact).max() <= 1e-12 * (1 + np.abs(exact).max())


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_the_rolled_out_cost(staged, seed):
    decisions = random_decisions(staged, seed)
    objective = along(staged, decisions).objective
    assert objective == pytest.approx(total_cost(staged, decisions), rel=1e-12)


def test_rows_and_violations_are_those_of_the_rolled_out_problem(staged):
    decisions = random_decisions(staged)
    linearization = along(staged, decisions)
    blocks = (*linearization.stages, *linearization.shared)
    for values, rows in zip(blocks, row_values(staged, decisions), strict=True):
        np.testing.assert_allclose(values.rows, rows, rtol=1e-12, atol=1e-13)
        inside = np.clip(rows, values.bounds.lower, values.bounds.upper)
        np.testing.assert_allclose(values.violation, rows - inside, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_the_reduced_gradient_is_that_of_the_rolled_out_lagrangian(staged, seed):
    decisions, multipliers = random_decisions(staged, seed), random_multipliers(staged, seed)
    exact = rolled_out_function(
        staged, lambda u, cost, rows: [ca.gradient(lagrangian(cost, rows, multipliers), u)]
    )
    close(gradient_of(staged, decisions, multipliers), exact(decisions).full().ravel())


@pytest.mark.parametrize("seed", range(3))
def test_the_reduced_hessian_is_that_of_the_rolled_out_lagrangian(staged, seed):
    decisions, multipliers = random_decisions(staged, seed), random_multipliers(staged, seed)
    exact = rolled_out_function(
        staged, lambda u, cost, rows: [ca.hessian(lagrangian(cost, rows, multipliers), u)[0]]
    )
    linearization = along(staged, decisions)
    hessian = reduced_hessian(linearization, adjoint(linearization, multipliers), multipliers)
    assert np.array_equal(hessian, hessian.T)
    close(hessian, exact(decisions).full())


@pytest.mark.parametrize("substeps", [1, 2])
def test_the_reduced_gradient_is_a_complex_step_of_plain_loops_soft_rows_included(substeps):
    problem = ensemble_problem()
    staged = discretize(problem, GRID, RK4, substeps)
    for seed in range(3):
        decisions = random_decisions(staged, seed)
        steps = COMPLEX_STEP * 1j * np.eye(decisions.size)
        costs = [
            plain_cost(problem, GRID.nodes, (RK4.a, RK4.b), substeps, decisions + step)
            for step in steps
        ]
        multipliers = settled_multipliers(staged, decisions)
        assert any(y.any() for y in multipliers)
        gradient = gradient_of(staged, decisions, multipliers)
        close(gradient, np.array([cost.imag for cost in costs]) / COMPLEX_STEP)


def test_the_reduced_hessian_is_the_limit_of_differences_of_the_reduced_gradient(staged):
    decisions, multipliers = random_decisions(staged), random_multipliers(staged)
    linearization = along(staged, decisions)
    hessian = reduced_hessian(linearization, adjoint(linearization, multipliers), multipliers)
    differences = central_differences(lambda u: gradient_of(staged, u, multipliers), decisions)
    # Central differences of step 1e-6 carry rounding of 1e-10 and an error of 1e-12 per unit.
    np.testing.assert_allclose(hessian, differences, rtol=1e-6, atol=1e-7)


def test_the_reduced_jacobian_is_that_of_the_rolled_out_rows(staged):
    """Seeds are the rows of all stages, member by member in shuffled order."""
    decisions, generator = random_decisions(staged), np.random.default_rng(0)
    u, _, blocks = rolled_out(staged)
    linearization = along(staged, decisions)
    seeds, expected = [], []
    for values, block in zip(linearization.stages, blocks, strict=False):
        r = len(values.bounds.names)
        pairs = generator.permutation([(i, j) for i in range(staged.members) for j in range(r)])
        i, j = pairs.reshape(-1, 2).astype(int).T
        seeds.append((i, values.row_jacobian[i, j]))
        expected += [block[int(a), int(b)] for a, b in zip(i, j, strict=True)]
    exact = ca.Function("exact", [u], [ca.jacobian(ca.vertcat(*expected), u)])
    close(reduced_jacobian(linearization, seeds), exact(decisions).full())


def test_the_reduced_jacobian_of_nothing_is_empty(staged):
    linearization = along(staged, random_decisions(staged))
    nothing = [
        (np.zeros(0, dtype=int), np.zeros((0, stage.function.unknowns))) for stage in staged.stages
    ]
    assert reduced_jacobian(linearization, nothing).shape == (0, staged.decision_size)


def test_costates_are_the_slopes_of_the_cost_to_go(staged):
    """lambda_i^k = d/dx_i^k of what is still to be paid, the decisions held."""
    decisions, multipliers = random_decisions(staged), random_multipliers(staged)
    trajectory = rollout(staged, decisions)
    costates = adjoint(linearize(staged, trajectory), multipliers)

    def cost_to_go(x: np.ndarray, start: int, i: int) -> float:
        total = 0.0
        for k in range(start, len(staged.stages)):
            control = trajectory.controls[k] if k < staged.intervals else np.zeros(0)
            v = np.concatenate([x, control, trajectory.parameters])
            x, cost, rows = outputs_of(staged, k, i, v)
            total += float(cost[0]) + float(multipliers[k][i] @ rows)
        return total

    for k, costate in enumerate(costates):
        assert costate.shape == (staged.members, staged.stages[k].state_size)
        for i in range(staged.members):
            x = trajectory.states[k][i]
            slope = central_differences(lambda y, k=k, i=i: cost_to_go(y, k, i), x)
            np.testing.assert_allclose(costate[i], slope, rtol=1e-7, atol=1e-7)


def test_multipliers_of_state_bounds_add_to_the_costates(staged):
    """With the cost shifted by b . x^k the costate at k is shifted by b."""
    linearization = along(staged, random_decisions(staged))
    none = no_multipliers(staged)
    plain = adjoint(linearization, none)
    last = staged.intervals
    bounds = [np.zeros((staged.members, stage.state_size)) for stage in staged.stages]
    bounds[last][:] = 1.5
    shifted = adjoint(linearization, none, bounds)
    np.testing.assert_allclose(shifted[last], plain[last] + 1.5, rtol=1e-14)
    transition = linearization.stages[-2].transition[:, :, : staged.stages[-2].state_size]
    difference = np.einsum("iab,ia->ib", transition, bounds[last])
    np.testing.assert_allclose(shifted[last - 1] - plain[last - 1], difference, atol=1e-12)


def test_the_terms_that_cancel_are_at_least_as_large_as_what_is_left(staged):
    linearization = along(staged, random_decisions(staged))
    multipliers = random_multipliers(staged)
    gradient = reduced_gradient(linearization, adjoint(linearization, multipliers), multipliers)
    assert (gradient.terms >= np.abs(gradient.value) * (1 - 1e-12)).all()


@pytest.mark.parametrize("seed", range(3))
def test_local_unknowns_leave_the_reduced_derivatives_alone(seed):
    plain, lifted = varying_problem(), varying_problem(lifted=True)
    decisions, multipliers = random_decisions(plain, seed), random_multipliers(plain, seed)
    found = []
    for staged in (plain, lifted):
        linearization = along(staged, decisions)
        costates = adjoint(linearization, multipliers)
        i = np.arange(3)
        seeds = [(i, values.row_jacobian[:, 0]) for values in linearization.stages]
        found.append(
            [
                np.array(linearization.objective),
                np.concatenate([costate.ravel() for costate in costates]),
                reduced_gradient(linearization, costates, multipliers).value,
                reduced_hessian(linearization, costates, multipliers),
                reduced_jacobian(linearization, seeds),
            ]
        )
    for expected, ours in zip(*found, strict=True):
        close(ours, expected)


@pytest.mark.parametrize("tableau", [RADAU_IIA_3, GAUSS_LEGENDRE_4], ids=lambda t: t.name)
def test_derivatives_through_collocation_are_limits_of_differences(tableau):
    staged = discretize(ensemble_problem(members=2), GRID, tableau)
    decisions, multipliers = random_decisions(staged), random_multipliers(staged)

    def lagrangian_of(u: np.ndarray) -> float:
        linearization = along(staged, u)
        blocks = (*linearization.stages, *linearization.shared)
        pairs = zip(multipliers, blocks, strict=True)
        costs = sum(values.cost.sum() for values in blocks)
        return costs + sum((y * values.rows).sum() for y, values in pairs)

    gradient = gradient_of(staged, decisions, multipliers)
    differences = central_differences(lagrangian_of, decisions)
    # Steps of 1e-6 leave rounding of 1e-9 for values of size 10.
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-7)
    linearization = along(staged, decisions)
    hessian = reduced_hessian(linearization, adjoint(linearization, multipliers), multipliers)
    differences = central_differences(lambda u: gradient_of(staged, u, multipliers), decisions)
    np.testing.assert_allclose(hessian, differences, rtol=1e-6, atol=1e-7)


def test_permuting_the_members_permutes_the_costates_and_nothing_else():
    order = np.array([2, 0, 3, 1])
    found = []
    for permutation in (np.arange(4), order):
        problem = ensemble_problem(members=4)
        permuted = replace(
            problem,
            initial_state=problem.initial_state[permutation],
            member_data=problem.member_data[permutation],
        )
        staged = discretize(permuted, GRID, RK4)
        decisions = random_decisions(staged)
        multipliers = settled_multipliers(staged, decisions)
        linearization = along(staged, decisions)
        costates = adjoint(linearization, multipliers)
        hessian = reduced_hessian(linearization, costates, multipliers)
        gradient = reduced_gradient(linearization, costates, multipliers).value
        found.append((linearization.objective, gradient, hessian, costates))
    (cost, gradient, hessian, costates), permuted = found
    assert permuted[0] == pytest.approx(cost, rel=1e-13)
    close(permuted[1], gradient)
    close(permuted[2], hessian)
    for before, after in zip(costates, permuted[3], strict=True):
        np.testing.assert_allclose(after, before[order], rtol=1e-12, atol=1e-14)
