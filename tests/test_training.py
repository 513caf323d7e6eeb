"""Optima of the learning problem, held against independent minimisation and closed forms.

The package minimises over states and controls (multiple shooting, IPOPT), the oracle over the
controls alone (L-BFGS, a trust region and Newton steps of SciPy, in NumPy). A random start that
ends unsolved says so in its status and is passed over; hypothesis objects if they are many.
"""

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from oracle import ACTIVATIONS as ACTIVATION_VALUES
from oracle import (
    Array,
    Minimum,
    costates,
    forward,
    hessian,
    minimize,
    objective,
    objective_and_gradient,
    pack,
    training_error,
    unpack,
)
from scipy import optimize  # type: ignore[import-untyped,unused-ignore]
from test_learning import (
    IDENTITY,
    SMOOTH_ACTIVATIONS,
    SMOOTH_LOSSES,
    decisions_of,
    evaluated,
    network_of,
    random_dataset,
    seeded_problem,
    small_problem,
    unknowns_of,
    vector_of,
)

from ocp import EULER, HEUN, MIDPOINT, RK4, Method, SolveOptions, Status
from problems.datasets import Dataset, encode, load
from problems.learning import LearningProblem
from problems.losses import DISTANCE, HINGE, L1, LOGISTIC, SQUARED
from problems.regularizers import H1, L1_PENALTY, L2
from problems.training import (
    LearningSolution,
    SmoothedSolution,
    Start,
    random_controls,
    train,
)
from problems.vector_fields import BOTTLENECK, INSIDE, LEAKY_RELU, OUTSIDE, RELU, SINE

LIMITED = SolveOptions(max_iterations=300)  # most starts need fewer than 50
NEARBY = 1e-3  # standard deviation of a perturbation that stays in a basin, times T
WILD = 30.0  # larger states in a start soon overflow
SMOOTH: dict[str, Sequence[Any]] = {"activation": SMOOTH_ACTIVATIONS, "loss": SMOOTH_LOSSES}
KINKED: dict[str, Sequence[Any]] = {"activation": [RELU, LEAKY_RELU], "loss": [SQUARED, LOGISTIC]}


def over_seeds(examples: int) -> Callable[[Callable[..., None]], Any]:
    """Run a test over so many seeds. A problem is drawn anew from each, so nothing can shrink."""
    chosen = settings(max_examples=examples, phases=[Phase.generate])
    return lambda test: chosen(given(seed=st.integers(0, 2**32 - 1))(test))


def start_of(problem: LearningProblem, options: SolveOptions = SolveOptions()) -> Start:
    """What solves the problem from given controls, as `train` makes it."""
    return Start(
        exact=problem.staged,
        is_smooth=problem.is_smooth,
        can_sharpen=problem.interpolation or not problem.posed_loss.needs_smoothing,
        guess_scale=1.0 / problem.horizon,
        options=options,
    )


def solve_from(
    problem: LearningProblem, decisions: Array, options: SolveOptions = SolveOptions()
) -> LearningSolution:
    """Solve from given controls."""
    found = start_of(problem, options).from_guess(decisions)
    return LearningSolution(problem, found.solution, found.smoothing, None)


def seeded_start(seed: int, **options: Any) -> tuple[LearningProblem, Array]:
    """A random problem and random controls whose states stay below WILD."""
    # Small or cheap choices come more often: the oracle forms every Hessian column by column.
    small: dict[str, Any] = {
        "hidden": [1, 2],
        "substeps": [1],
        "scheme": [EULER, EULER, EULER, MIDPOINT, HEUN, RK4],
    }
    problem = seeded_problem(seed, samples=3, layers=3, **(small | options))
    decisions = random_controls(problem.staged, seed, 1.0 / problem.horizon)
    start = evaluated(problem, decisions)
    assume(np.abs(forward(network_of(problem), start.weights)).max() < WILD)
    return problem, decisions


def solved_at_random(seed: int, **options: Any) -> LearningSolution:
    """A random problem with its optimum, if its random start leads to one."""
    solution = solve_from(*seeded_start(seed, **options), LIMITED)
    assume(solution.status is Status.SOLVED)
    return solution


def nearby(solution: LearningSolution, seed: int) -> Array:
    """The oracle's vector of unknowns, slightly perturbed."""
    vector = vector_of(solution)
    noise = np.random.default_rng(seed).standard_normal(vector.size)
    return vector + NEARBY / solution.problem.horizon * noise


def minimum_nearby(solution: LearningSolution, seed: int) -> Minimum:
    """What the oracle finds from there."""
    return minimize(network_of(solution.problem), nearby(solution, seed))


@pytest.mark.slow
@over_seeds(36)
def test_optimum_is_the_one_found_with_the_states_eliminated(seed: int) -> None:
    solution = solved_at_random(seed, **SMOOTH)
    found = minimum_nearby(solution, seed)
    assert found.is_converged
    assert found.objective == pytest.approx(solution.solution.objective, rel=1e-9)
    # With an l1 penalty, whether a weakly held unknown counts as free is a matter of tolerance.
    if solution.problem.penalty is not L1_PENALTY:
        eigenvalue = solution.certificate.min_reduced_hessian_eigenvalue
        assert eigenvalue == pytest.approx(found.smallest_eigenvalue, rel=1e-6)
    p = costates(network_of(solution.problem), *unknowns_of(solution))
    np.testing.assert_allclose(solution.costates, p, rtol=0, atol=1e-12 * np.abs(p).max())
    multipliers = np.stack(solution.solution.costates)
    np.testing.assert_array_equal(multipliers, solution.costates[1:])


@over_seeds(6)
def test_from_the_same_start_each_solver_confirms_the_minimum_of_the_other(seed: int) -> None:
    """They may end in different minima, but each one's is a minimum for the other."""
    problem, start = seeded_start(seed, penalty=[L2, H1], scheme=[EULER, HEUN], **SMOOTH)
    ours = solve_from(problem, start, LIMITED)
    theirs = minimize(network_of(problem), vector_of(evaluated(problem, start)))
    assume(ours.status is Status.SOLVED and theirs.is_converged)
    ours_again = minimum_nearby(ours, seed)
    assert ours_again.objective == pytest.approx(ours.solution.objective, rel=1e-9)
    assert theirs.smallest_eigenvalue > 0
    theirs_again = solve_from(problem, decisions_of(problem, theirs.vector))
    assert theirs_again.status is Status.SOLVED
    assert theirs_again.solution.objective == pytest.approx(theirs.objective, rel=1e-9)


def minimize_by_slacks(solution: LearningSolution, seed: int) -> float:
    """The least of a cost whose loss has kinks, as a smooth program in the controls and slacks.

        min (alpha/N) sum s + lambda R(u) + lambda_q |q|^2    subject to
        s >= |z - y|  (l1)   or   s >= max(0, 1 - y z)  (hinge)

    by sequential quadratic programming, with the Jacobian of z by complex steps. For beta = 0.
    """
    network = network_of(solution.problem)
    y, step = network.targets.ravel(), 1e-30
    weight = network.alpha / len(network.targets)
    smooth = replace(network, alpha=0.0)
    start = nearby(solution, seed)
    size = start.size

    def outputs(vector: Array) -> Array:
        controls, readout = unpack(network, vector)
        return (forward(network, controls)[-1] @ readout.weight.T + readout.bias).ravel()

    def sides(z: Array) -> list[Array]:
        return [z - y, y - z] if network.loss == "l1" else [0 * z, 1 - y * z]

    def slopes(vector: Array) -> Array:
        perturbed = vector + 1j * step * np.eye(size)
        jacobian = np.array([outputs(row).imag for row in perturbed]).T / step
        signs = (1, -1) if network.loss == "l1" else (0, -y[:, None])
        parts = [np.hstack([-sign * jacobian, np.eye(y.size)]) for sign in signs]
        return np.vstack(parts)

    def cost(point: Array) -> tuple[float, Array]:
        value, gradient = objective_and_gradient(smooth, point[:size])
        slacks = point[size:]
        return value + weight * slacks.sum(), np.append(gradient, np.full(y.size, weight))

    found = optimize.minimize(
        cost,
        np.append(start, np.max(sides(outputs(start)), axis=0)),
        jac=True,
        method="SLSQP",
        constraints={
            "type": "ineq",
            "fun": lambda p: np.concatenate([p[size:] - r for r in sides(outputs(p[:size]))]),
            "jac": lambda p: slopes(p[:size]),
        },
        options={"ftol": 1e-14, "maxiter": 100},
    )
    return float(objective(network, *unpack(network, found.x[:size])))


@over_seeds(6)
def test_optimum_of_a_loss_with_kinks_is_the_one_found_with_slacks(seed: int) -> None:
    solution = solved_at_random(
        seed,
        loss=[L1, HINGE],
        activation=SMOOTH_ACTIVATIONS,
        penalty=[L2, H1],
        tracking=[0.0],
        scheme=[EULER, HEUN],
    )
    found = minimize_by_slacks(solution, seed)
    assert found == pytest.approx(solution.solution.objective, rel=1e-9)


def descend(solution: LearningSolution, start: Array) -> float:
    """The least cost that quasi-Newton steps from a vector of unknowns come upon, kinks or not."""
    network = network_of(solution.problem)
    found = optimize.minimize(
        lambda v: objective_and_gradient(network, v),
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 100, "ftol": 0, "gtol": 1e-12},
    )
    return float(found.fun)


@pytest.mark.parametrize("loss", [L1, HINGE, DISTANCE], ids=lambda loss: loss.name)
@over_seeds(3)
def test_no_descent_ends_below_an_optimum_of_a_loss_with_kinks(loss: Any, seed: int) -> None:
    """Rounding off the tip of a distance by 1e-6 may leave the optimum that much above."""
    solution = solved_at_random(seed, loss=[loss], activation=SMOOTH_ACTIVATIONS, penalty=[L2, H1])
    value = solution.solution.objective
    assert solution.smoothing <= (1e-6 if solution.problem.posed_loss is DISTANCE else 0.0)
    for start in (vector_of(solution), nearby(solution, seed)):
        assert descend(solution, start) >= value - max(1e-9 * value, solution.smoothing)


@over_seeds(6)
def test_optimum_of_a_network_with_kinks_is_that_of_the_exact_network(seed: int) -> None:
    """States, error and cost are those of exact ReLUs; descent gains no more than the rounding.

    It starts at the optimum itself, as between kinks a basin may be narrower than any step.
    """
    solution = solved_at_random(seed, penalty=[L2, H1], **KINKED)
    network = network_of(solution.problem)
    controls, readout = unknowns_of(solution)
    x = forward(network, controls)
    np.testing.assert_allclose(solution.states, x, rtol=0, atol=1e-12 * np.abs(x).max())
    error = training_error(network, x[-1], readout)
    assert solution.errors[-1] == pytest.approx(error, rel=1e-12)
    value = solution.solution.objective
    assert value == pytest.approx(objective(network, controls, readout), rel=1e-12)
    assert solution.smoothing <= 1e-6
    assert descend(solution, vector_of(solution)) >= value - 1e-6


@over_seeds(8)
def test_controls_stay_within_their_bound_and_are_optimal_there(seed: int) -> None:
    """IPOPT stays inside by its last barrier, which costs less than 1e-8 of the objective."""
    solution = solved_at_random(seed, bound=[0.1, 0.4], penalty=[L2, H1], **SMOOTH)
    problem = solution.problem
    assert problem.bound is not None
    assert np.abs(solution.trajectory.control_array).max() <= problem.bound
    start = pack(network_of(problem), *unknowns_of(solution))
    found = minimize(network_of(problem), start)
    assert found.objective == pytest.approx(solution.solution.objective, rel=1e-8)


@over_seeds(10)
def test_l1_penalty_holds_controls_at_zero_and_no_change_of_one_of_them_helps(seed: int) -> None:
    """A control is held where the gradient of the rest is below the penalty's slope lambda h."""
    solution = solved_at_random(seed, penalty=[L1_PENALTY], scheme=[EULER, HEUN], **SMOOTH)
    problem, network = solution.problem, network_of(solution.problem)
    vector, value = vector_of(solution), solution.solution.objective
    slope = problem.weight_decay * problem.horizon / problem.layers
    is_control = np.arange(vector.size) < solution.trajectory.control_array.size
    gradient = objective_and_gradient(network, vector)[1] - slope * is_control * np.sign(vector)
    held = is_control & (np.abs(gradient) < 0.9 * slope)
    # The optimiser's scale is that of the read-out's curvature if there is one, else of the slope.
    ratio = solution.problem.readout_weight_decay / slope if problem.trained_readout else 0.0
    assert np.abs(vector[held]).max(initial=0.0) < 1e-9 * max(1.0, ratio)
    shrunk = np.sign(vector - gradient) * np.maximum(np.abs(vector - gradient) - slope, 0)
    proximal = np.where(is_control, shrunk, vector - gradient)
    changed = [vector + t * (proximal - vector) for t in (1.0, 0.1, 1e-2)]
    for j in np.random.default_rng(seed).choice(vector.size, min(10, vector.size), replace=False):
        for step in (-1e-2, 1e-2, -1e-4, 1e-4, -vector[j]):
            changed.append(vector + step * (np.arange(vector.size) == j))
    assert min(objective(network, *unpack(network, v)) for v in changed) >= value - 1e-10


def test_zero_controls_minimise_a_strong_l1_penalty() -> None:
    """Once lambda exceeds the gradient at rest per unit of time, not moving is best, exactly."""
    problem = small_problem(width=2, weight_decay=10.0, penalty=L1_PENALTY)
    solution = train(problem, seed=1)
    assert solution.status is Status.SOLVED
    assert np.abs(solution.trajectory.control_array).max() < 1e-9
    assert solution.solution.objective == pytest.approx(solution.errors[0], rel=1e-9)


@over_seeds(6)
def test_horizon_and_weight_decay_have_the_same_optima_if_their_ratio_is_the_same(
    seed: int,
) -> None:
    """(lambda, T) and (lambda T0 / T, T0), with v = T u; ReLU-like kinks apart."""
    solution = solved_at_random(
        seed,
        field=[INSIDE],
        penalty=[L2],
        tracking=[0.0],
        trained_readout=[False],
        horizon=[2.3],
        **SMOOTH,
    )
    problem, ratio = solution.problem, 2.3 / 0.7
    other = replace(problem, horizon=0.7, weight_decay=problem.weight_decay / ratio)
    start = ratio * decisions_of(problem, nearby(solution, seed))
    scaled = solve_from(other, start, SolveOptions(tolerance=1e-10))
    exact = solve_from(problem, start / ratio, SolveOptions(tolerance=1e-10))
    assert scaled.status is Status.SOLVED
    assert scaled.solution.objective == pytest.approx(exact.solution.objective, rel=1e-10)
    np.testing.assert_allclose(
        scaled.trajectory.decisions, ratio * exact.trajectory.decisions, rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("activation", [RELU, LEAKY_RELU], ids=lambda a: a.name)
def test_the_same_holds_outside_a_homogeneous_activation(activation: Any) -> None:
    """To rounding where no sample ends on a kink, else to what the last smoothing width leaves."""
    problem = small_problem(
        field=OUTSIDE, activation=activation, width=2, horizon=2.3, weight_decay=0.1
    )
    solution, ratio = train(problem, seed=0), 2.3 / 0.7
    other = replace(problem, horizon=0.7, weight_decay=0.1 / ratio)
    scaled = solve_from(other, ratio * solution.trajectory.decisions)
    assert solution.status is scaled.status is Status.SOLVED
    smoothing = max(solution.smoothing, scaled.smoothing)
    assert scaled.solution.objective == pytest.approx(
        solution.solution.objective, rel=1e-10, abs=smoothing
    )
    if smoothing == 0:
        np.testing.assert_allclose(
            scaled.trajectory.decisions, ratio * solution.trajectory.decisions, atol=1e-8
        )


@over_seeds(6)
def test_optimal_weights_are_outer_products_of_costates_and_activations(seed: int) -> None:
    """Inside, Euler: w^k = -(1/(2 lambda)) sum_i p_i^{k+1} s(x_i^k)^T, b^k the same without s."""
    solution = solved_at_random(
        seed, field=[INSIDE], scheme=[EULER], substeps=[1], penalty=[L2], **SMOOTH
    )
    problem, x, p = solution.problem, solution.states[:-1], solution.costates[1:]
    s = ACTIVATION_VALUES[problem.activation.name][0](x)
    w = -np.einsum("kid,kie->kde", p, s) / (2 * problem.weight_decay)
    b = -p.sum(axis=1) / (2 * problem.weight_decay)
    # the certificate's tolerance, 1e-8, over 2 lambda h
    np.testing.assert_allclose(solution.weights["w"], w, rtol=0, atol=1e-7)
    np.testing.assert_allclose(solution.weights["b"], b, rtol=0, atol=1e-7)
    assert all(np.linalg.matrix_rank(w, tol=1e-6) <= problem.samples)


def test_trained_readout_is_ridge_regression_on_the_final_states() -> None:
    """(alpha/N) sum |W x_i + c - y_i|^2 + lambda_q (|W|^2 + |c|^2) is least in (W, c)."""
    problem = small_problem(trained_readout=True, readout_decay=0.05, terminal=0.7, width=2)
    solution = train(problem, seed=2)
    assert solution.status is Status.SOLVED
    features = np.column_stack([solution.states[-1], np.ones(problem.samples)])
    normal = 0.7 / problem.samples * features.T @ features + 0.05 * np.eye(3)
    expected = np.linalg.solve(normal, 0.7 / problem.samples * features.T @ problem.dataset.targets)
    np.testing.assert_allclose(solution.readout_weight, expected[:2].T, atol=1e-8)
    np.testing.assert_allclose(solution.readout_bias, expected[2], atol=1e-8)


def test_full_states_may_be_targets() -> None:
    problem = small_problem(dataset=random_dataset(SQUARED, 4, 2, 3), width=3, tracking=0.5)
    solution = train(problem, seed=3)
    assert solution.status is Status.SOLVED
    found = minimum_nearby(solution, 0)
    assert found.objective == pytest.approx(solution.solution.objective, rel=1e-9)


@pytest.mark.parametrize("scheme", [EULER, MIDPOINT, HEUN, RK4], ids=lambda s: s.name)
def test_scalar_linear_flow_takes_equal_steps(scheme: Any) -> None:
    """x' = w x + b, from -1 and 1 towards -2 and 2, with weight decay.

    By symmetry b = 0, and the end is +-P with P the product of the layers' factors R(h w_k). For
    given P equal factors cost least, so that J = min_w lambda T w^2 + (R(h w)^K - 2)^2.
    """
    layers, horizon, decay = 5, 2.0, 0.3
    dataset = Dataset("line", [[-1.0], [1.0]], [[-2.0], [2.0]])
    problem = LearningProblem(
        dataset,
        activation=IDENTITY,
        layers=layers,
        horizon=horizon,
        weight_decay=decay,
        scheme=scheme,
    )

    def cost(w: float) -> float:
        z = horizon / layers * w
        factor = sum(z**j / np.prod(np.arange(1.0, j + 1)) for j in range(scheme.order + 1))
        return float(decay * horizon * w**2 + (factor**layers - 2) ** 2)

    expected = optimize.minimize_scalar(cost, bracket=(0.0, 0.3), tol=1e-12)
    solution = train(problem, seed=0)
    assert solution.status is Status.SOLVED
    assert solution.solution.objective == pytest.approx(expected.fun, rel=1e-10)
    # a minimiser is known to the root of the precision of its value only
    np.testing.assert_allclose(solution.weights["w"], expected.x, rtol=0, atol=1e-7)
    np.testing.assert_allclose(solution.weights["b"], 0, atol=1e-8)


def test_conserved_quantity_drifts_at_the_order_of_the_scheme() -> None:
    """lambda |u|^2 - beta E is constant in continuous time.

    With Euler's left end points it drifts at first order. The certificate's Hamiltonian takes the
    mean of neighbouring costates, and drifts at second order.
    """
    problem = small_problem(width=2, weight_decay=0.5, tracking=0.2, horizon=1.0, layers=5)
    solution = train(problem, seed=0, starts=3)
    depths, drifts = [10, 20, 40], []
    for layers in depths:
        finer = replace(problem, layers=layers)
        repeated = {name: np.repeat(u, 2, axis=0) for name, u in solution.weights.items()}
        start = finer.decisions(repeated, solution.readout_weight, solution.readout_bias)
        solution = solve_from(finer, start)
        assert solution.status is Status.SOLVED
        value = 0.5 * solution.control_norms**2 - 0.2 * solution.errors[:-1]
        drifts.append([np.ptp(value), solution.certificate.energy_drift])
    for drift, order in zip(np.transpose(drifts), (1, 2), strict=True):
        slope = np.polyfit(np.log(depths), np.log(drift), 1)[0]
        assert -slope == pytest.approx(order, abs=0.15)


def test_samples_may_be_permuted_in_training() -> None:
    problem, order = small_problem(tracking=0.5), np.array([2, 0, 3, 1])
    data = problem.dataset
    permuted = Dataset("permuted", data.inputs[order], data.targets[order])
    one, two = train(problem, seed=4), train(replace(problem, dataset=permuted), seed=4)
    assert two.solution.objective == pytest.approx(one.solution.objective, rel=1e-10)
    np.testing.assert_allclose(two.trajectory.decisions, one.trajectory.decisions, atol=1e-7)
    np.testing.assert_allclose(two.costates, one.costates[:, order], atol=1e-8)


def test_hidden_neurons_may_be_permuted_in_training() -> None:
    problem = small_problem(field=BOTTLENECK, hidden=3, width=2)
    u, order = evaluated(problem, random_controls(problem.staged, 5, 1.0)).weights, [2, 0, 1]
    other = u | {"w1": u["w1"][:, order], "b1": u["b1"][:, order], "w2": u["w2"][:, :, order]}
    none = np.zeros((0, 2)), np.zeros(0)
    one = solve_from(problem, problem.decisions(u, *none))
    two = solve_from(problem, problem.decisions(other, *none))
    assert one.status is two.status is Status.SOLVED
    assert two.solution.objective == pytest.approx(one.solution.objective, rel=1e-10)
    np.testing.assert_allclose(two.weights["w1"], one.weights["w1"][:, order], atol=1e-6)


def test_saddle_is_not_called_a_minimum() -> None:
    """A bottleneck at rest is stationary if residuals and inputs are centred.

    Its curvature is lambda T per unit of |w1|^2 + |w2|^2, against a bilinear gain: rest is the
    minimum for a large lambda only. The Hessian of the oracle tells which.
    """
    dataset = Dataset("centred", [[-1.0], [1.0]], [[-2.0], [2.0]])
    for decay, status in ((0.05, Status.NOT_A_MINIMUM), (3.0, Status.SOLVED)):
        problem = LearningProblem(dataset, field=BOTTLENECK, layers=3, weight_decay=decay)
        rest = np.zeros(problem.staged.decision_size)
        solution = solve_from(problem, rest, SolveOptions(method=Method.SHOOTING))
        curvature = np.linalg.eigvalsh(hessian(network_of(problem), rest))[0]
        assert (curvature > 0) == (status is Status.SOLVED)
        assert solution.status is status
        found = solution.certificate.min_reduced_hessian_eigenvalue
        assert found == pytest.approx(curvature, rel=1e-9)
        # With the states eliminated, the direction of negative curvature leads away from it.
        reduced = solve_from(problem, rest, SolveOptions(method=Method.CONDENSED))
        assert reduced.status is Status.SOLVED
        assert (reduced.solution.objective < solution.solution.objective) == (curvature < 0)


def test_interrupted_solves_say_so_and_keep_the_best_point() -> None:
    problem = small_problem()
    start = random_controls(problem.staged, 0, 1.0)
    limited = solve_from(problem, start, SolveOptions(max_iterations=1))
    assert limited.status is Status.ITERATION_LIMIT
    assert limited.solution.objective <= evaluated(problem, start).solution.objective
    hurried = train(small_problem(layers=20), options=SolveOptions(time_limit=1e-9))
    assert hurried.status is Status.TIME_LIMIT


def test_random_controls_follow_from_the_seed_and_the_bound() -> None:
    problem = small_problem(bound=0.5, trained_readout=True)
    one, again, other = (random_controls(problem.staged, seed, 1.0) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    controls = np.split(one, [one.size - 8])[0]
    assert np.abs(controls).max() == 0.5


def test_training_is_deterministic_and_its_starts_are_the_following_seeds() -> None:
    problem = small_problem()
    both = train(problem, seed=7, starts=2)
    assert both.starts is not None
    for seed, found in zip((7, 8), both.starts.solutions, strict=True):
        alone = train(problem, seed=seed)
        decisions = found.solution.trajectory.decisions
        assert np.array_equal(alone.trajectory.decisions, decisions)
    with pytest.raises(ValueError, match="starts must be at least 1, got 0"):
        train(problem, starts=0)


def test_starts_may_run_elsewhere_and_report_as_they_end() -> None:
    problem, heard = small_problem(), list[SmoothedSolution]()
    here = train(problem, starts=2, finished=heard.append)
    assert [s.objective for s in heard] == [s.objective for s in here.starts.solutions]
    with ThreadPoolExecutor(1) as executor:
        there = train(problem, starts=2, executor=executor)
    assert np.array_equal(there.trajectory.decisions, here.trajectory.decisions)
    sent = pickle.loads(pickle.dumps(start_of(problem)))
    assert sent(0).objective == start_of(problem)(0).objective


def test_multi_start_keeps_the_distinct_minima_and_each_is_one() -> None:
    problem = small_problem(width=2, weight_decay=1e-3, activation=SINE, layers=4)
    solution = train(problem, seed=0, starts=8)
    assert solution.starts is not None
    minima = solution.starts.minima
    values = np.array([minimum.solution.objective for minimum in minima])
    assert len(minima) > 1
    assert (np.diff(values) > 1e-6 * values[1:]).all()
    assert solution.solution.objective == values[0]
    solved = [s for s in solution.starts.solutions if s.status is Status.SOLVED]
    assert sum(minimum.count for minimum in minima) == len(solved)
    assert len(solution.starts.solutions) == 8
    for minimum in minima[:3]:
        found = minimum_nearby(
            LearningSolution(problem, minimum.solution.solution, 0.0, None), seed=0
        )
        assert found.smallest_eigenvalue > 0
        assert found.objective == pytest.approx(minimum.solution.objective, rel=1e-9)


def test_coarse_network_may_reverse_an_order_on_the_line_which_no_flow_can() -> None:
    """Of one Euler layer the fit is perfect, of its differential equation it is not."""
    dataset = Dataset("reversed", [[-0.5], [0.5]], [[0.5], [-0.5]])
    problem = LearningProblem(dataset, layers=1, weight_decay=1e-6)
    solution = train(problem, seed=0)
    assert solution.status is Status.SOLVED
    assert solution.errors[-1] < 1e-6
    flow = solution.refined_error
    assert flow > 0.2  # two points that end together are 0.5 away from their targets
    assert problem.step_times_lipschitz(solution.trajectory) > 1


def test_start_that_overflows_is_a_result_and_not_an_exception() -> None:
    problem = small_problem(activation=RELU)
    solution = solve_from(problem, np.full(problem.staged.decision_size, 1e200))
    assert solution.status is Status.INVALID_NUMBER


@pytest.mark.parametrize(
    "loss",
    [
        SQUARED,
        DISTANCE,
        L1,
    ],
    ids=lambda loss: loss.name,
)
def test_data_that_are_fitted_already_are_solved(loss: Any) -> None:
    points = random_dataset(SQUARED).inputs
    solution = train(small_problem(dataset=Dataset("fitted", points, points), loss=loss))
    assert solution.solution.objective < 1e-9
    assert solution.status is Status.SOLVED


@pytest.mark.parametrize("loss", [L1, HINGE], ids=lambda loss: loss.name)
@pytest.mark.parametrize("field", [INSIDE, OUTSIDE], ids=lambda field: field.name)
def test_kinks_of_the_network_and_of_the_loss_are_solved_together(loss: Any, field: Any) -> None:
    dataset = encode(load("moons", samples=8), loss.name)
    problem = LearningProblem(dataset, field, RELU, width=3, layers=6, loss=loss)
    for seed in range(3):
        assert train(problem, seed=seed).status is Status.SOLVED


@pytest.mark.parametrize("loss", [SQUARED, DISTANCE], ids=lambda loss: loss.name)
def test_a_pickled_solution_is_the_same_network_with_the_same_certificate(loss: Any) -> None:
    solution = train(small_problem(loss=loss))
    copied = pickle.loads(pickle.dumps(solution))
    points = np.random.default_rng(1).standard_normal(solution.problem.dataset.inputs.shape)
    assert np.array_equal(copied.outputs(points), solution.outputs(points))
    again, before = copied.report, solution.report
    assert {k: again[k] for k in ("status", "objective", "certificate", "starts")} == {
        k: before[k] for k in ("status", "objective", "certificate", "starts")
    }
