"""Scaling: a problem in any units has the optimum of its nondimensional twin, in those units."""

import math
from dataclasses import dataclass

import casadi as ca
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocp import (
    GAUSS_LEGENDRE_4,
    RK4,
    Constraint,
    Guess,
    InteriorPoint,
    OptimalControlProblem,
    Scaling,
    SolveOptions,
    Status,
    TimeGrid,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)
from ocp.discretize import Transcription
from ocp.scaling import automatic_scaling, scaled, to_own_units, to_scaled

X, U, P, CLOCK = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("p"), ca.SX.sym("t")
INTERVALS = 12


@dataclass(frozen=True)
class Units:
    """Sizes of one unit of the nondimensional problem."""

    state: tuple[float, float] = (1.0, 1.0)
    control: float = 1.0
    parameter: float = 1.0
    time: float = 1.0
    cost: float = 1.0

    @property
    def scaling(self) -> Scaling:
        return Scaling(self.state, self.control, self.parameter, self.time, self.cost)


ONE = Units()
BAD = Units((1e6, 1e-3), 1e4, 1e-5, 1e3, 1e2)
SMALL = Units((1e-4, 1e-5), 1e-3, 1e3, 1e-2, 1e-3)


def problem_in(units: Units, **changes) -> OptimalControlProblem:
    """A pendulum with a gain to choose, driven through a gate, within limits of every kind.

    y1' = y2, y2' = -sin y1 + q v + 0.1 sin s;  min Int y1^2 + v^2 / 10 + (q - 1)^2
    """
    y = [X[0] / units.state[0], X[1] / units.state[1]]
    v, q, s = U / units.control, P / units.parameter, CLOCK / units.time
    rates = [y[1] * units.state[0], (-ca.sin(y[0]) + q * v + 0.1 * ca.sin(s)) * units.state[1]]
    rate = units.cost / units.time
    a, b = units.state
    arguments = {
        "state": X,
        "control": U,
        "parameter": P,
        "time": CLOCK,
        "dynamics": ca.vertcat(*rates) / units.time,
        "horizon": 2.0 * units.time,
        "initial_state": [1.0 * a, 0.0],
        "running_cost": (y[0] ** 2 + v**2 / 10) * rate,
        "parameter_cost": (q - 1) ** 2 * units.cost,
        "terminal_constraints": [Constraint("end", X, [0.2 * a, -0.1 * b], [0.2 * a, -0.1 * b])],
        "path_constraints": [Constraint("corridor", X[1] + b * v / 5, -0.4 * b, np.inf)],
        "control_constraints": [Constraint("power", v**2, -np.inf, 1.5)],
        "state_bounds": ([-np.inf, -0.5 * b], [np.inf, np.inf]),
        "control_bounds": (-0.9 * units.control, 3.0 * units.control),
        "parameter_bounds": (0.1 * units.parameter, 1.08 * units.parameter),
    }
    arguments["interior_points"] = [
        InteriorPoint(
            units.time,
            units.cost * y[1] ** 2,
            [Constraint("gate", X[0], 0.6 * a, np.inf)],
        )
    ]
    return OptimalControlProblem(**{**arguments, **changes})


# A rate of the costs and of the rows, for every name, in units of the nondimensional problem.
def dual_units(units: Units) -> dict[str, list[float]]:
    density = units.cost / units.time
    return {
        "end": [units.cost / size for size in units.state],
        "corridor": [density / units.state[1]],
        "power": [density],
        "gate": [units.cost / units.state[0]],
        "x0": [density / units.state[0]],
        "x1": [density / units.state[1]],
        "u": [density / units.control],
        "p": [units.cost / units.parameter],
    }


def solved(units: Units, scaling: Scaling | None = None, **changes):
    guess = Guess(parameter=units.parameter)
    solution = solve(
        problem_in(units, **changes),
        INTERVALS,
        RK4,
        substeps=2,
        scaling=scaling,
        guess=guess,
        options=SolveOptions(discretization_tolerance=math.inf),
    )
    assert solution.is_solved, solution.message
    return solution


@pytest.fixture(scope="module")
def twin():
    return solved(ONE)


@pytest.fixture(
    scope="module",
    params=[(BAD, None), (BAD, BAD.scaling), (SMALL, SMALL.scaling), (BAD, Scaling())],
    ids=["automatic", "given", "given, small", "none"],
)
def own(request):
    """In bad units, scaled in several ways; the last is the solver's own affair."""
    units, scaling = request.param
    if scaling is not None and scaling.is_identity:
        units = Units((4.0, 0.5), 2.0, 0.25, 8.0, 3.0)
    return units, solved(units, scaling)


def test_the_limits_of_the_twin_are_felt(twin):
    """Otherwise there would be nothing to compare below."""
    felt = {name: np.abs(twin.dual(name).values).max() for name in dual_units(ONE)}
    assert all(felt[name] > 1e-3 for name in felt if name != "x0"), felt


def test_the_optimum_is_that_of_the_twin(own, twin):
    units, solution = own
    assert solution.objective == pytest.approx(units.cost * twin.objective, rel=1e-7)
    np.testing.assert_allclose(solution.times, units.time * twin.times, rtol=1e-12)
    np.testing.assert_allclose(solution.state() / units.state, twin.state(), atol=1e-6)
    np.testing.assert_allclose(solution.control() / units.control, twin.control(), atol=1e-5)
    assert solution.parameters["p"] / units.parameter == pytest.approx(twin.parameters["p"], 1e-6)


def test_costates_come_back_in_units_of_the_cost_per_unit_of_the_state(own, twin):
    units, solution = own
    expected = twin.costate() * units.cost / np.array(units.state)
    scale = np.abs(expected).max(axis=0)
    np.testing.assert_allclose(solution.costate() / scale, expected / scale, atol=1e-5)
    found = np.stack(solution.costates)[:, 0]
    np.testing.assert_allclose(found / scale, expected[1:] / scale, atol=1e-5)


@pytest.mark.parametrize("name", dual_units(ONE))
def test_duals_come_back_in_units_of_the_cost_per_unit_of_the_limit(own, twin, name):
    units, solution = own
    found, expected = solution.dual(name), twin.dual(name)
    np.testing.assert_allclose(found.times, units.time * expected.times, rtol=1e-12)
    np.testing.assert_allclose(
        found.values / dual_units(units)[name],
        expected.values,
        atol=1e-4 * max(1.0, float(np.abs(expected.values).max())),
    )


@pytest.mark.parametrize("units", [ONE, BAD], ids=["twin", "own"])
def test_violations_come_back_in_the_problems_own_units(units):
    """Computed again from the trajectories of solves that are stopped on their way."""
    kinds = {kind for limit in (1, 2, 3, 5) for kind in compare_violations(units, limit)}
    assert {"row", "defect"} <= kinds


def compare_violations(units: Units, limit: int) -> set[str]:
    """Of all that are named after so many iterations; returns their kinds."""
    problem = problem_in(units)
    solution = solve(
        problem,
        INTERVALS,
        RK4,
        scaling=units.scaling,
        guess=Guess(parameter=units.parameter, control=0.3 * units.control),
        options=SolveOptions(max_iterations=limit),
    )
    assert solution.status is Status.ITERATION_LIMIT
    p, t, u = solution.trajectory.parameters, solution.times, solution.trajectory.control_array
    x = solution.trajectory.state_array[:, 0]
    dynamics = ca.Function("f", [X, U, P, CLOCK], [problem.dynamics])
    rows = ca.Function("g", [X, U], [problem.path_constraints[0].expression])

    def ends(k):
        def rate(state, time):
            return dynamics(state, u[k], p, time).full()[:, 0]

        return RK4.step(rate, x[k], t[k], t[k + 1] - t[k])[0]

    defects = np.abs(np.array([ends(k) for k in range(INTERVALS)]) - x[1:]).max(axis=0)
    gate = x[np.argmin(np.abs(t - units.time)), 0]
    corridor = min(float(rows(x[k], u[k])) for k in range(INTERVALS))
    expected = {
        ("defect", "x0"): defects[0],
        ("defect", "x1"): defects[1],
        ("row", "end[0]"): abs(x[-1, 0] - 0.2 * units.state[0]),
        ("row", "end[1]"): abs(x[-1, 1] + 0.1 * units.state[1]),
        ("row", "gate"): 0.6 * units.state[0] - gate,
        ("row", "corridor"): -0.4 * units.state[1] - corridor,
        ("row", "power"): (u**2).max() / units.control**2 - 1.5,
        ("bound", "x1"): -0.5 * units.state[1] - x[1:, 1].min(),
    }
    worst = solution.certificate.worst
    sizes = {"x0": units.state[0], "x1": units.state[1]}
    for offender in worst:
        rounding = 1e-12 * sizes.get(offender.name, max(units.state))
        violation = expected[offender.kind, offender.name]
        assert offender.amount == pytest.approx(violation, rel=1e-6, abs=rounding)
    return {offender.kind for offender in worst}


def test_a_penalty_on_the_derivative_of_the_control_is_scaled():
    found = []
    for units in (ONE, BAD):
        weight = 0.05 * units.cost * units.time / units.control**2
        found.append(solved(units, units.scaling, control_rate_weight=weight))
    assert found[1].objective == pytest.approx(BAD.cost * found[0].objective, rel=1e-7)


def test_prices_of_soft_constraints_are_scaled():
    found = []
    for units in (ONE, BAD):
        corridor = Constraint(
            "corridor",
            X[1],
            -0.3 * units.state[1],
            np.inf,
            units.cost / units.time / units.state[1],
        )
        goal = Constraint("end", X[0], 0.0, 0.0, 2 * units.cost / units.state[0])
        changes = {"path_constraints": [corridor], "terminal_constraints": [goal]}
        found.append(solved(units, units.scaling, **changes))
    twin, own = found
    assert own.costs["soft constraints"] > 1e-2 * BAD.cost
    assert own.objective == pytest.approx(BAD.cost * twin.objective, rel=1e-7)
    for name in ("corridor", "end"):
        np.testing.assert_allclose(
            own.dual(name).values / dual_units(BAD)[name][0], twin.dual(name).values, atol=1e-4
        )


def test_to_maximise_is_scaled_alike(twin):
    units = BAD
    original = problem_in(units)
    solution = solved(
        units,
        running_cost=-original.running_cost,
        parameter_cost=-original.parameter_cost,
        interior_points=[
            InteriorPoint(p.time, -p.cost, p.constraints) for p in original.interior_points
        ],
        maximize=True,
    )
    assert solution.objective == pytest.approx(-units.cost * twin.objective, rel=1e-7)
    expected = -twin.dual("end").values * units.cost / np.array(units.state)
    np.testing.assert_allclose(solution.dual("end").values, expected, rtol=1e-4)


def rest_to_rest(distance: float, limit: float) -> OptimalControlProblem:
    """Least time 2 sqrt(d / a) over a distance d with an acceleration of at most a."""
    fastest = 2 * math.sqrt(distance / limit)
    return pose(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], U),
        horizon=P,
        minimize=at_end(P),
        subject_to=[
            at_start(X) == 0,
            at_end(X) == [distance, 0],
            along_path(U).within(-limit, limit),
            at_end(P).within(fastest / 10, 10 * fastest),
        ],
    )


@pytest.mark.parametrize(
    "scaling",
    [None, Scaling([1e6, 1e2], 1e-2, 1e4), Scaling([1e6, 1e2], 1e-2, 1e4, time=1e4, cost=1e4)],
    ids=["automatic", "given", "given with time and cost"],
)
def test_a_free_end_time_is_scaled_as_a_parameter(scaling):
    """10^6 m at 0.01 m/s^2 take 20000 s; the time falls by 1/2 T/a per unit of the limit."""
    distance, limit = 1e6, 1e-2
    solution = solve(rest_to_rest(distance, limit), 4, scaling=scaling)
    assert solution.is_solved, solution.message
    time = 2 * math.sqrt(distance / limit)
    assert solution.objective == pytest.approx(time, rel=1e-7)
    assert solution.times[-1] == pytest.approx(time, rel=1e-7)
    assert solution.dual("at_end([x_0, x_1])").values[0, 0] == pytest.approx(
        -time / (2 * distance), rel=1e-5
    )
    steps = np.diff(solution.times)
    total = np.abs(solution.dual(U).values[:, 0]) @ steps
    assert total == pytest.approx(time / (2 * limit), rel=1e-5)


def test_free_initial_values_are_scaled_with_their_state():
    """x' = u, min (x(0) - s)^2 / s + s Int (u / s)^2 / 2 + x(1): x(0) = s / 2, u = -s."""
    for size in (1.0, 1e5):
        x, u = ca.SX.sym("x"), ca.SX.sym("u")
        problem = pose(
            state=x,
            control=u,
            dynamics=u,
            horizon=1.0,
            minimize=at_start((x - size) ** 2) / size + integral(u**2) / (2 * size) + at_end(x),
            subject_to=[along_path(x).within(-10 * size, 10 * size)],
        )
        solution = solve(problem, 5, scaling=Scaling(state=size, control=size, cost=size))
        assert solution.is_solved, solution.message
        assert solution.state()[0, 0] == pytest.approx(size / 2, rel=1e-7)
        assert solution.objective == pytest.approx(size * (1 / 4 - 1 / 2 + 1 / 2), rel=1e-7)
        np.testing.assert_allclose(solution.costate()[1:], 1.0, rtol=1e-6)


powers = st.floats(-3, 3).map(lambda e: 10.0**e)


@settings(max_examples=8)
@given(powers, powers, powers, powers, st.booleans())
def test_the_optimum_does_not_depend_on_the_scaling(first, second, control, time, collocate):
    problem = pose(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], U - ca.sin(X[0])),
        horizon=1.0,
        minimize=integral(X[0] ** 2 + U**2),
        subject_to=[at_start(X) == [1, 0], along_path(U).within(-0.2, 1)],
    )
    tableau = GAUSS_LEGENDRE_4 if collocate else RK4
    reference = solve(problem, 5, tableau, scaling=Scaling())
    solution = solve(problem, 5, tableau, scaling=Scaling([first, second], control, time=time))
    assert solution.objective == pytest.approx(reference.objective, rel=1e-7)
    np.testing.assert_allclose(solution.costate(), reference.costate(), atol=1e-5)
    np.testing.assert_allclose(solution.dual(U).values, reference.dual(U).values, atol=1e-4)


def test_trajectories_to_scaled_variables_and_back_are_the_same():
    problem = problem_in(BAD)
    scaling = BAD.scaling.of(problem)
    grid = TimeGrid.uniform(3, problem.horizon).including([BAD.time])
    transcription = Transcription(problem, grid, (GAUSS_LEGENDRE_4,) * 4, 2, True)
    own = Guess(noise=1.0, state=[[1e6, 1], [2e6, 3]]).on(transcription)
    there = to_scaled(own, scaling)
    back = to_own_units(there, scaling)
    np.testing.assert_allclose(back.state_array, own.state_array, rtol=1e-15)
    np.testing.assert_allclose(back.control_array, own.control_array, rtol=1e-15)
    np.testing.assert_allclose(back.times, own.times, rtol=1e-15)
    for ours, theirs in zip(back.locals, own.locals, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    np.testing.assert_allclose(there.states[1], own.states[1] / np.array(BAD.state))
    np.testing.assert_allclose(there.controls[0], own.controls[0] / BAD.control)


def test_the_scaled_problem_is_the_twin():
    inner = scaled(problem_in(BAD), BAD.scaling.of(problem_in(BAD)))
    twin = problem_in(ONE)
    arguments = [X, U, P, CLOCK]
    point = [[0.3, -0.7], 0.4, 1.3, 0.9]
    for name in ("dynamics", "running_cost"):
        values = []
        for problem in (inner, twin):
            function = ca.Function("f", arguments, [getattr(problem, name)])
            values.append(function(*point).full().ravel())
        factor = BAD.cost if name == "running_cost" else 1.0
        np.testing.assert_allclose(values[0], factor * values[1], rtol=1e-12)
    assert inner.horizon == pytest.approx(twin.horizon)
    np.testing.assert_allclose(inner.initial_state, twin.initial_state)
    np.testing.assert_allclose(inner.control_bounds, twin.control_bounds)


def guessed(problem, guess=Guess()):
    grid = TimeGrid.uniform(4, float(problem.horizon))
    return guess.on(Transcription(problem, grid, (RK4,) * 4))


def simple(start, control_limit=np.inf, **changes):
    arguments = {
        "state": X,
        "control": U,
        "dynamics": ca.vertcat(X[1], U),
        "horizon": 1.0,
        "initial_state": start,
        "control_bounds": (-control_limit, control_limit),
    }
    return OptimalControlProblem(**{**arguments, **changes})


def test_a_well_scaled_problem_is_left_alone():
    for problem in (simple([1, -20], 25), simple([0.05, 0.0], 0.04), simple([0, 0])):
        scaling = automatic_scaling(problem, guessed(problem)).of(problem)
        assert scaling.is_identity
        assert scaled(problem, scaling) is problem


def test_automatic_sizes_are_powers_of_ten_of_values_and_else_of_bounds():
    problem = simple([3e5, 2e-4], 7e3, parameter=P, parameter_bounds=(200, 600))
    scaling = automatic_scaling(problem, guessed(problem))
    np.testing.assert_allclose(scaling.state, [10.0**5, 10.0**-4])
    np.testing.assert_allclose(scaling.control, [10.0**4])
    np.testing.assert_allclose(scaling.parameter, [10.0**3])


def test_a_bound_far_beyond_the_guess_does_not_count():
    problem = simple([1, 1], 1e9)
    scaling = automatic_scaling(problem, guessed(problem, Guess(control=2.0)))
    np.testing.assert_array_equal(scaling.control, [1.0])


def test_controls_under_a_penalty_on_their_derivative_are_not_scaled_by_themselves():
    problem = simple([1, 1], 1e5, control_rate_weight=1.0)
    np.testing.assert_array_equal(automatic_scaling(problem, guessed(problem)).control, [1.0])


def test_one_size_stands_for_all_components():
    sizes = Scaling(state=5.0, control=2.0).of(simple([1, 1]))
    np.testing.assert_array_equal(sizes.state, [5.0, 5.0])
    np.testing.assert_array_equal(sizes.parameter, [])


def test_an_earlier_solution_lends_its_scaling():
    problem = rest_to_rest(1e6, 1e-2)
    first = solve(problem, 4, scaling=Scaling([1e6, 1e2], 1e-2, 1e4))
    second = solve(problem, 8, guess=first)
    np.testing.assert_array_equal(second.scaling.state, [1e6, 1e2])
    assert second.objective == pytest.approx(first.objective, rel=1e-7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"state": [1.0, 0.0]}, r"scaling\.state must be positive"),
        ({"control": -1.0}, r"scaling\.control must be positive"),
        ({"parameter": math.inf}, r"scaling\.parameter must be positive and finite"),
        ({"time": math.nan}, r"scaling\.time must be positive"),
        ({"cost": 0.0}, r"scaling\.cost must be positive"),
    ],
)
def test_a_size_that_is_not_positive_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Scaling(**arguments)


def test_sizes_of_another_number_of_components_are_refused():
    with pytest.raises(ValueError, match=r"scaling\.state has 3 sizes, expected one or 2"):
        Scaling(state=[1, 2, 3]).of(simple([1, 1]))


def test_controls_of_different_sizes_under_a_penalty_on_their_derivative_are_refused():
    w = ca.SX.sym("w", 2)
    problem = simple(
        [1, 1],
        control=w,
        dynamics=ca.vertcat(X[1], w[0] + w[1]),
        control_rate_weight=1.0,
    )
    with pytest.raises(ValueError, match="one size for all controls"):
        Scaling(control=[1, 2]).of(problem)
