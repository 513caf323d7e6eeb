"""Networks on grids that stay or move, held against their formulas and against plain networks."""

import re
from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocp import (
    EULER,
    RK4,
    Method,
    OptimalControlProblem,
    SolveOptions,
    Status,
    TimeGrid,
    discretize,
    rollout,
    solve_staged,
)
from ocp.condensing import linearize
from problems.datasets import Dataset
from problems.interpolation import minimal_norm
from problems.ladder import climb, solver
from problems.ladder_plan import horizon_ladder, split_cost
from problems.ladder_report import ladder_report
from problems.learning import LearningProblem
from problems.losses import HINGE, L1, SQUARED
from problems.moving_grid import MovingGrid, moving_grid
from problems.regularizers import H1, L1_PENALTY
from problems.solution_file import differences, load_solution, save_solution
from problems.spatial_grid import clenshaw_curtis, gauss_legendre, midpoint, square, trapezoid
from problems.training import train
from problems.transfer import NEAREST, PROJECTION
from problems.variable_width import stage_network
from problems.vector_fields import BOTTLENECK, FIELDS, INSIDE, OUTSIDE, TANH, VectorField

ACTIVATION = np.tanh


def dataset(inputs=3, outputs=2, samples=5, seed=0):
    generator = np.random.default_rng(seed)
    points = generator.standard_normal((samples, inputs))
    return Dataset("random", points, generator.standard_normal((samples, outputs)))


def pyramid(**choices):
    """Three inputs through widths 4, 3, 5, 2."""
    defaults = {"dataset": dataset(), "layers": 3, "horizon": 1.3, "hidden": 3}
    return LearningProblem(**(defaults | {"moving_grid": moving_grid([4, 3, 5, 2], 3)} | choices))


def on_grids(**choices):
    """Functions on four grids of three rules, none nested."""
    grids = [gauss_legendre(5), trapezoid(4), clenshaw_curtis(6), midpoint(3)]
    defaults = {"dataset": dataset(inputs=5), "layers": 3, "horizon": 1.3, "hidden": 3}
    return LearningProblem(
        **(defaults | {"moving_grid": MovingGrid.through(grids, PROJECTION)} | choices)
    )


def decisions(problem, seed=0):
    return np.random.default_rng(seed).standard_normal(problem.staged.decision_size)


def rerun(problem, trajectory):
    """States by the formula, from kernels, weights and interpolation alone."""
    moving, step = problem.moving_grid, problem.horizon / problem.layers
    states = [problem.pad(problem.dataset.inputs)]
    for k, kernels in enumerate(problem.layer_weights(trajectory)):
        z, om = states[-1], moving.grid(k).weights
        move = moving.between(k)
        moved = z if move is None else z @ move.T
        if problem.field is INSIDE:
            rate = (ACTIVATION(z) * om) @ kernels["w"].T + kernels["b"]
        elif problem.field is OUTSIDE:
            rate = ACTIVATION((z * om) @ kernels["w"].T + kernels["b"])
        else:
            hidden = ACTIVATION((z * om) @ kernels["w1"].T + kernels["b1"])
            rate = hidden @ kernels["w2"].T + kernels["b2"]
        states.append(moved + step * rate)
    return states


def energy(problem, trajectory):
    """Int_0^T of the squared norms of the kernels, as functions on the grids."""
    total = 0.0
    for k, kernels in enumerate(problem.layer_weights(trajectory)):
        before = problem.moving_grid.grid(k).weights
        after = problem.moving_grid.grid(k + 1).weights
        sizes = {
            "w": np.multiply.outer(after, before),
            "b": after,
            "w1": np.broadcast_to(before, (problem.hidden_size, before.size)),
            "b1": np.ones(problem.hidden_size),
            "w2": np.repeat(after[:, None], problem.hidden_size, axis=1),
            "b2": after,
        }
        total += sum(float(np.sum(sizes[name] * part**2)) for name, part in kernels.items())
    return total * problem.horizon / problem.layers


@pytest.mark.parametrize("make", [pyramid, on_grids])
@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda f: f.name)
def test_states_and_costs_are_those_of_the_formula(make, field):
    problem = make(field=field, trained_readout=True, weight_decay=0.03)
    trajectory = rollout(problem.staged, decisions(problem))
    states = rerun(problem, trajectory)
    for found, expected in zip(trajectory.states, states, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    weight, bias = problem.readout(trajectory.parameters)
    error = np.mean(np.sum((states[-1] @ weight.T + bias - problem.dataset.targets) ** 2, axis=1))
    last = problem.moving_grid.grid(problem.layers).weights
    functions = weight / last
    readout = float(np.sum(last * functions**2) + bias @ bias)
    cost = error + 0.03 * (energy(problem, trajectory) + readout)
    assert linearize(problem.staged, trajectory).objective == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize("make", [pyramid, on_grids])
def test_kernels_and_decisions_are_one_another_s_inverse(make):
    problem = make(field=BOTTLENECK, trained_readout=True)
    asked = decisions(problem)
    trajectory = rollout(problem.staged, asked)
    back = problem.decisions(
        problem.layer_weights(trajectory), *problem.readout(trajectory.parameters)
    )
    np.testing.assert_allclose(back, asked, rtol=1e-14)


@pytest.mark.parametrize("make", [pyramid, on_grids])
def test_a_running_error_is_that_of_the_state_carried_to_the_end(make):
    problem = make(tracking=1.0, terminal=0.0, weight_decay=0.0)
    trajectory = rollout(problem.staged, decisions(problem))
    errors = []
    for k, z in enumerate(trajectory.states[:-1]):
        for j in range(k, problem.layers):
            z = z @ problem.moving_grid.between(j).T
        errors.append(np.mean(np.sum((z[:, :2] - problem.dataset.targets) ** 2, axis=1)))
    expected = sum(errors) * problem.horizon / problem.layers
    assert linearize(problem.staged, trajectory).objective == pytest.approx(expected, rel=1e-12)
    assert problem.running_error(trajectory) == pytest.approx(expected, rel=1e-12)


def test_without_control_the_error_stays_what_it_is():
    problem = on_grids(tracking=1.0)
    still = rollout(problem.staged, np.zeros(problem.staged.decision_size))
    weight, bias = problem.readout(np.zeros(0))
    carried = [problem.carried(z, k) for k, z in enumerate(still.states)]
    errors = [problem.error(z, weight, bias) for z in carried]
    np.testing.assert_allclose(errors, errors[0], rtol=1e-13)


@pytest.mark.parametrize("loss", [SQUARED, L1], ids=lambda loss: loss.name)
@pytest.mark.parametrize("penalty", [L1_PENALTY, H1], ids=lambda p: p.name)
def test_where_the_grid_stays_the_stages_are_those_of_the_euler_scheme(loss, penalty):
    problem = LearningProblem(
        dataset(inputs=4),
        layers=3,
        horizon=0.7,
        loss=loss,
        penalty=penalty,
        tracking=0.5,
        trained_readout=True,
        moving_grid=MovingGrid((gauss_legendre(4),)),
    )
    ours, usual = stage_network(problem), problem.staged
    u = decisions(problem)
    a, b = linearize(ours, rollout(ours, u)), linearize(usual, rollout(usual, u))
    assert a.objective == pytest.approx(b.objective, rel=1e-14)
    for mine, theirs in zip(a.stages, b.stages, strict=True):
        np.testing.assert_allclose(mine.rows, theirs.rows, rtol=1e-13)
        np.testing.assert_allclose(mine.bounds.weight, theirs.bounds.weight, rtol=1e-14)


def test_features_of_one_width_without_a_grid_are_the_plain_network():
    plain = LearningProblem(dataset(), width=4, layers=4)
    grid = replace(plain, width=None, moving_grid=moving_grid([4, 4], 4))
    u = decisions(plain)
    a, b = rollout(plain.staged, u), rollout(grid.staged, u)
    assert np.array_equal(a.state_array, b.state_array)
    assert linearize(plain.staged, a).objective == linearize(grid.staged, b).objective


def weighted_resnet(problem):
    """The plain ResNet of matrices A = w diag(om), with its penalty weighted to that of w."""
    om = problem.moving_grid.grid(0).weights
    d, samples, outputs = om.size, problem.samples, problem.outputs
    x, y = ca.SX.sym("x", d), ca.SX.sym("y", outputs)
    matrix, bias = ca.SX.sym("A", d, d), ca.SX.sym("b", d)
    kernel = matrix @ ca.DM(np.diag(1 / om))
    size = ca.sum(ca.sum(ca.DM(np.outer(om, om)) * kernel**2))
    size += ca.sum(ca.DM(om) * bias**2)
    residual = ca.DM(problem.fixed_readout) @ x - y
    return discretize(
        OptimalControlProblem(
            state=x,
            control=ca.veccat(matrix, bias),
            dynamics=matrix @ ca.tanh(x) + bias,
            horizon=problem.horizon,
            initial_state=problem.dataset.inputs,
            terminal_cost=ca.sumsqr(residual) / samples,
            control_cost=problem.weight_decay * size,
            data=y,
            member_data=problem.dataset.targets,
        ),
        TimeGrid.uniform(problem.layers, problem.horizon),
        EULER,
    )


@pytest.mark.parametrize("grid", [gauss_legendre(4), trapezoid(5)], ids=lambda g: g.rule)
def test_on_one_grid_the_optimum_is_that_of_the_plain_resnet_with_a_weighted_penalty(grid):
    generator = np.random.default_rng(3)
    readout = generator.standard_normal((2, grid.size)) * grid.weights
    problem = LearningProblem(
        dataset(inputs=grid.size),
        layers=4,
        weight_decay=0.05,
        moving_grid=MovingGrid((grid,)),
        fixed_readout=readout,
    )
    tight = SolveOptions(tolerance=1e-11)
    ours = train(problem, options=tight)
    plain = weighted_resnet(problem)
    effective = [problem.layer(0).effective(u) for u in ours.trajectory.controls]
    near = [1.01 * np.concatenate([a["w"].T.ravel(), a["b"]]) for a in effective]
    theirs = solve_staged(plain, rollout(plain, np.concatenate(near)), tight)
    assert ours.status is Status.SOLVED
    assert theirs.status is Status.SOLVED
    assert theirs.objective == pytest.approx(ours.solution.objective, abs=1e-10)
    np.testing.assert_allclose(
        theirs.trajectory.state_array, ours.trajectory.state_array, rtol=0, atol=1e-9
    )


METHODS = [method for method in Method if method is not Method.AUTO]


@pytest.mark.parametrize("make", [pyramid, on_grids])
def test_every_solver_finds_the_same_optimum(make):
    problem = make(weight_decay=0.1, tracking=0.3)
    start = train(problem, seed=1)
    assert start.status is Status.SOLVED
    near = 1.001 * start.trajectory.decisions
    for method in METHODS:
        found = solve_staged(
            problem.staged,
            rollout(problem.staged, near),
            SolveOptions(tolerance=1e-10, method=method),
        )
        assert found.status is Status.SOLVED
        assert found.method.method is method
        assert found.objective == pytest.approx(start.solution.objective, rel=1e-10)
        np.testing.assert_allclose(
            found.trajectory.decisions, start.trajectory.decisions, atol=1e-5
        )


def test_the_gradient_of_the_cost_in_a_kernel_follows_from_the_costates():
    # inside: w^k = -(1 / 2 lambda) diag(om+)^-1 sum_i p_i^{k+1} s(z_i^k)^T, so rank w^k <= N
    problem = on_grids(dataset=dataset(inputs=5, samples=2), weight_decay=0.05)
    found = train(problem, options=SolveOptions(tolerance=1e-11))
    assert found.status is Status.SOLVED
    for k, kernels in enumerate(found.layer_weights):
        after = problem.moving_grid.grid(k + 1).weights
        p, z = found.certificate.costates[k + 1], found.trajectory.states[k]
        expected = -(p.T @ np.tanh(z)) / (2 * 0.05) / after[:, None]
        np.testing.assert_allclose(kernels["w"], expected, atol=1e-8)
        assert np.linalg.matrix_rank(kernels["w"], tol=1e-8) <= 2


@settings(derandomize=True, deadline=None, max_examples=8)
@given(st.permutations(range(4)), st.permutations(range(3)))
def test_hidden_features_may_be_renumbered(first, second):
    # A permutation of features 3, ... of a layer is one of the same cost, with Pi permuted too.
    problem = pyramid(moving_grid=moving_grid([3, 4, 3, 2], 3))
    moving = problem.moving_grid
    p, q = np.eye(4)[first], np.eye(3)[second]
    a, b, c = (moving.between(k) for k in range(3))
    renumbered = replace(
        problem, moving_grid=MovingGrid(moving.grids, (p @ a, q @ b @ p.T, c @ q.T))
    )
    trajectory = rollout(problem.staged, decisions(problem))
    sides = [(p, np.eye(3)), (q, p), (np.eye(2), q)]
    weights = [
        {"w": left @ u["w"] @ right.T, "b": left @ u["b"]}
        for u, (left, right) in zip(problem.layer_weights(trajectory), sides, strict=True)
    ]
    other = rollout(
        renumbered.staged, renumbered.decisions(weights, *problem.readout(trajectory.parameters))
    )
    assert linearize(renumbered.staged, other).objective == pytest.approx(
        linearize(problem.staged, trajectory).objective, rel=1e-12
    )


def test_bounds_and_the_l1_penalty_are_those_of_the_kernel():
    problem = on_grids(bound=0.4, weight_decay=1e-3)
    found = train(problem)
    assert found.status is Status.SOLVED
    largest = max(np.abs(part).max() for u in found.layer_weights for part in u.values())
    assert largest == pytest.approx(0.4, rel=1e-6)
    sparse = on_grids(penalty=L1_PENALTY)
    trajectory = rollout(sparse.staged, decisions(sparse))
    total = 0.0
    for k, kernels in enumerate(sparse.layer_weights(trajectory)):
        before = sparse.moving_grid.grid(k).weights
        after = sparse.moving_grid.grid(k + 1).weights
        total += after @ np.abs(kernels["w"]) @ before + after @ np.abs(kernels["b"])
    total *= sparse.horizon / sparse.layers
    plan = horizon_ladder(replace(sparse, horizon=1.0), [1.0])
    cost = split_cost(plan, sparse, trajectory.decisions)
    assert cost.size == pytest.approx(total * plan.unit(sparse))
    error = sparse.error(trajectory.states[-1], *sparse.readout(np.zeros(0)))
    objective = linearize(sparse.staged, trajectory).objective
    assert objective == pytest.approx(error + 1e-2 * total, rel=1e-12)


@pytest.mark.parametrize("make", [pyramid, on_grids])
@pytest.mark.parametrize("choices", [{}, {"trained_readout": True}], ids=["fixed", "trained"])
def test_a_saved_network_is_found_again_and_runs_with_numpy_alone(tmp_path, make, choices):
    path = tmp_path / "network.npz"
    found = train(make(**choices))
    save_solution(path, found)
    saved = load_solution(path)
    assert differences(saved) == []
    assert saved.solution.status is found.status
    np.testing.assert_allclose(
        saved.solution.trajectory.decisions, found.trajectory.decisions, rtol=1e-13
    )
    file = np.load(path)
    assert "states" not in file
    z, h = file["states_0"], file["times"][1]
    for k in range(3):
        features = np.tanh(z) * file[f"quadrature_{k}"]
        z = z @ file[f"interpolation_{k}"].T + h * (features @ file[f"w_{k}"].T + file[f"b_{k}"])
        np.testing.assert_allclose(z, file[f"states_{k + 1}"], atol=1e-13)
        assert file[f"costates_{k}"].shape == file[f"states_{k}"].shape
    outputs = z @ file["readout_weight"].T + file["readout_bias"]
    assert np.mean(np.sum((outputs - file["targets"]) ** 2, axis=1)) == pytest.approx(
        found.errors[-1], rel=1e-10
    )


def test_one_width_on_a_grid_is_saved_stacked(tmp_path):
    problem = LearningProblem(dataset(inputs=4), moving_grid=MovingGrid((square(midpoint, 4),)))
    path = tmp_path / "network.npz"
    save_solution(path, train(problem))
    file = np.load(path)
    assert file["w"].shape == (20, 4, 4)
    assert file["nodes_3"].shape == (4, 2)
    assert differences(load_solution(path)) == []


def test_a_file_whose_interpolation_was_changed_is_found_out(tmp_path):
    path = tmp_path / "network.npz"
    save_solution(path, train(pyramid()))
    arrays = dict(np.load(path))
    arrays["interpolation_1"] = arrays["interpolation_1"] * 1.1
    with path.open("wb") as file:
        np.savez(file, **arrays)
    found = differences(load_solution(path))
    assert any("dynamics" in difference for difference in found)


@pytest.mark.slow
@pytest.mark.parametrize("make", [pyramid, on_grids])
def test_a_ladder_converges_to_the_minimal_norm_as_for_one_width(make):
    base = make(dataset=dataset(inputs=4 if make is pyramid else 5, samples=3), horizon=1.0)
    ladder = climb(horizon_ladder(base, [1.0, 1e2, 1e3, 1e4, 1e5]), solver(), starts=3)
    report = ladder_report(ladder, 1e-8)
    assert report["status"] == "solved"
    assert report["checks"]["consistent"]
    assert report["hypotheses"]["theorem_applies"]
    assert report["fits"]["training_error"]["slope"] == pytest.approx(-2.0, abs=0.05)
    assert report["fits"]["norm_gap"]["slope"] == pytest.approx(-1.0, abs=0.05)
    assert report["rungs"][-1]["error_over_predicted"] == pytest.approx(1.0, abs=1e-2)


def test_interpolation_is_exact_and_its_multipliers_are_costates():
    problem = minimal_norm(on_grids(dataset=dataset(inputs=5, samples=3)))
    found = train(problem, starts=2)
    assert found.status is Status.SOLVED
    assert found.errors[-1] <= 1e-16
    weight, _ = problem.readout(np.zeros(0))
    np.testing.assert_allclose(
        np.abs(found.certificate.costates[-1]), np.abs(found.multipliers @ weight), atol=1e-9
    )


def test_a_narrow_layer_limits_the_rank_of_what_follows():
    # z^K = Pi c + h w s(c) + h b with a code c of width r: rank at most 2 r + 1
    data = dataset(inputs=8, outputs=8, samples=12)
    problem = LearningProblem(
        data, layers=3, weight_decay=1e-3, moving_grid=moving_grid([8, 4, 1, 8], 3)
    )
    found = train(problem)
    assert found.status is Status.SOLVED
    assert np.linalg.matrix_rank(found.trajectory.states[-1], tol=1e-9) == 3
    beyond = np.linalg.svd(data.targets, compute_uv=False)[3:]
    assert found.errors[-1] >= float(beyond @ beyond) / 12


@pytest.mark.parametrize("loss", [HINGE, L1], ids=lambda loss: loss.name)
def test_kinks_of_the_loss_are_exact_on_moving_grids(loss):
    data = dataset(samples=4)
    if loss is HINGE:
        data = replace(data, targets=np.sign(data.targets))
    found = train(pyramid(dataset=data, loss=loss, weight_decay=0.05))
    assert found.status is Status.SOLVED
    assert found.smoothing == 0.0


WIDE = moving_grid([4, 3], 1)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"moving_grid": WIDE}, "2 grids for 3 layers, expected 4"),
        ({"moving_grid": moving_grid([2, 3, 3, 2], 3)}, "at least the number of inputs, 3, got 2"),
        ({"moving_grid": moving_grid([4, 3], 3, midpoint)}, "the samples are not on the grid"),
        ({"moving_grid": moving_grid([3, 1], 3)}, "a state of width 1"),
        ({"width": 5}, "width 5 came with a grid of 4 nodes"),
        ({"scheme": RK4}, "one step of the Euler scheme, got rk4"),
        ({"substeps": 2}, "with 2 sub-steps"),
        ({"penalty": H1}, "whose sizes differ here"),
        ({"fixed_readout": np.ones((2, 3))}, "has shape (2, 3), expected (2, 2)"),
        ({"fixed_readout": np.ones((2, 2)), "trained_readout": True}, "fixed or trained"),
        (
            {
                "field": VectorField(
                    "own", lambda d, h: {"w": (d, d)}, lambda x, u, s: u["w"] @ s(x), lambda u, s: 1
                )
            },
            "does not say which axes",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_in_words(choices, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        pyramid(**choices)


def test_arrays_of_one_shape_are_not_made_of_several():
    found = train(pyramid())
    for read in (lambda: found.states, lambda: found.weights):
        with pytest.raises(ValueError, match=r"changes size|vary"):
            read()
    with pytest.raises(ValueError, match="adds layers, whose widths are not given"):
        horizon_ladder(found.problem, [1, 2], keep="step")


def test_a_field_of_one_s_own_may_change_the_width_if_it_names_its_axes():
    own = VectorField(
        "own",
        lambda d, h: {"w": (d, d)},
        lambda x, u, s: u["w"] @ s(x),
        lambda u, s: float(np.linalg.norm(u["w"], 2)) * s,
        is_linear_in_control=True,
        axes={"w": ("after", "before")},
    )
    found = train(pyramid(field=own, activation=TANH))
    assert found.status is Status.SOLVED
    assert [u["w"].shape for u in found.layer_weights] == [(3, 4), (5, 3), (2, 5)]


def test_a_grid_may_move_at_one_width():
    grids = [gauss_legendre(4), midpoint(4), trapezoid(4)]
    problem = LearningProblem(
        dataset(inputs=4), layers=2, moving_grid=MovingGrid.through(grids, NEAREST)
    )
    found = train(problem)
    assert found.status is Status.SOLVED
    assert found.states.shape == (3, 5, 4)
    assert found.refined_error is None
    assert "the grid moves" in found.report["certificate"]["untested"]["refined_training_error"]
    assert found.report["certificate"]["refined_training_error"] is None
    assert found.certificate.energy_drift is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid",
    [
        moving_grid([5, 4, 3], 60),
        MovingGrid.through([trapezoid(4)] + 60 * [gauss_legendre(4)]),
        MovingGrid((gauss_legendre(4),)),
    ],
    ids=["narrowing", "moving once", "still"],
)
def test_the_rate_of_the_turnpike_is_that_of_the_tangent_kernel(grid):
    generator = np.random.default_rng(5)
    inputs = min(grid.grids[0].size, 4)
    data = Dataset("few", generator.standard_normal((3, inputs)), generator.standard_normal((3, 1)))
    problem = LearningProblem(
        data,
        layers=60,
        horizon=12.0,
        weight_decay=0.2,
        tracking=1.0,
        terminal=0.0,
        moving_grid=grid,
        fixed_readout=np.full((1, grid.grids[-1].size), 0.5),
    )
    found = train(problem, starts=2)
    assert found.status is Status.SOLVED
    turnpike = found.report["turnpike"]
    assert turnpike["verdict"] == "exponential"
    assert turnpike["fitted_rate"] == pytest.approx(turnpike["predicted_discrete_rate"], rel=0.05)
    assert (turnpike["conserved_drift"] is None) == (not grid.is_still)


def test_switching_functions_are_those_of_the_kernel():
    problem = on_grids(
        penalty=L1_PENALTY, bound=1.0, tracking=1.0, weight_decay=0.3, moving_grid=None, width=5
    )
    grid = replace(problem, width=None, moving_grid=moving_grid([5, 5], 3))
    first, second = (train(p).report["turnpike"] for p in (problem, grid))
    assert first["switch_off_time"] == second["switch_off_time"]
    moved = train(on_grids(penalty=L1_PENALTY, bound=1.0, tracking=1.0, weight_decay=1e3))
    assert moved.control_energy == pytest.approx(0.0, abs=1e-12)
    assert moved.report["turnpike"]["predicted_switch_off_time"] == 0.0
