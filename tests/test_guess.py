"""Initial guesses: what each form means on a grid, and what is refused."""

import math

import casadi as ca
import numpy as np
import pytest

from ocp import (
    FREE,
    GAUSS_LEGENDRE_4,
    HEUN,
    RK4,
    Constraint,
    Guess,
    OptimalControlProblem,
    TimeGrid,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)
from ocp.discretize import Transcription

X, U, P = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("p")
GRID = TimeGrid(np.array([0, 0.5, 1.5, 2.0]))
MIDDLES = np.array([0.25, 1.0, 1.75])


def posed(*conditions, horizon=2.0):
    return pose(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], U),
        horizon=horizon,
        minimize=integral(U**2),
        subject_to=conditions,
    )


def transcribed(problem, grid=GRID, tableau=RK4, control_per_stage=False):
    return Transcription(problem, grid, (tableau,) * grid.intervals, 1, control_per_stage)


START = at_start(X) == [1, 0]
PLAIN = transcribed(posed(START))


def states(guess, transcription=PLAIN):
    return guess.on(transcription).state_array[:, 0]


def controls(guess, transcription=PLAIN):
    return guess.on(transcription).control_array


STATE_FORMS = {
    "a number": (3.0, lambda t: np.full((t.size, 2), 3.0)),
    "one value per component": ([3, 4], lambda t: np.tile([3.0, 4.0], (t.size, 1))),
    "one row": ([[3, 4]], lambda t: np.tile([3.0, 4.0], (t.size, 1))),
    "a line": ([[1, 0], [3, 4]], lambda t: np.column_stack([1 + t, 2 * t])),
    "rows": (
        [[1, 0], [3, 4], [3, 0]],
        lambda t: np.column_stack([np.minimum(1 + 2 * t, 3), 4 - 4 * np.abs(t - 1)]),
    ),
    "a function": (
        lambda t: [math.sin(t), t],
        lambda t: np.column_stack([np.sin(t), t]),
    ),
}


@pytest.mark.parametrize(("form", "expected"), STATE_FORMS.values(), ids=list(STATE_FORMS))
def test_every_form_of_state_has_its_values_at_the_nodes_but_for_the_given_start(form, expected):
    found = states(Guess(state=form))
    np.testing.assert_allclose(found[1:], expected(GRID.nodes)[1:], atol=1e-14)
    np.testing.assert_array_equal(found[0], [1, 0])


@pytest.mark.parametrize(("form", "expected"), STATE_FORMS.values(), ids=list(STATE_FORMS))
def test_every_form_of_state_has_its_values_at_the_stages_of_a_collocation(form, expected):
    transcription = transcribed(posed(START), tableau=GAUSS_LEGENDRE_4)
    inner = Guess(state=form).on(transcription).locals
    for k in range(GRID.intervals):
        points = transcription.stage_points(k)[0]
        np.testing.assert_allclose(inner[k].reshape(-1, 2), expected(points), atol=1e-14)


CONTROL_FORMS = {
    "a number": (0.5, lambda t: np.full(t.shape, 0.5)),
    "one value": ([0.5], lambda t: np.full(t.shape, 0.5)),
    "a line": ([[0], [1]], lambda t: t / 2),
    "a function": (lambda t: t**2, lambda t: t**2),
}


@pytest.mark.parametrize(("form", "expected"), CONTROL_FORMS.values(), ids=list(CONTROL_FORMS))
def test_every_form_of_control_has_its_values_at_middles_or_at_stages(form, expected):
    found = controls(Guess(control=form))[:, 0]
    np.testing.assert_allclose(found, expected(MIDDLES), atol=1e-14)
    staged = transcribed(posed(START), tableau=HEUN, control_per_stage=True)
    points = np.array([staged.stage_points(k)[0] for k in range(GRID.intervals)])
    np.testing.assert_allclose(controls(Guess(control=form), staged), expected(points), atol=1e-14)


def test_by_default_the_state_lies_on_lines_between_the_given_ends():
    transcription = transcribed(posed(START, at_end(X[0]) == 5))
    found = states(Guess(), transcription)
    np.testing.assert_allclose(found, np.column_stack([1 + 2 * GRID.nodes, 0 * GRID.nodes]))


def test_a_free_start_takes_the_value_of_the_end_or_the_middle_of_bounds_without_zero():
    conditions = [at_end(X[0]) == 5, along_path(X[1]).within(2, 3)]
    found = states(Guess(), transcribed(posed(*conditions)))
    np.testing.assert_array_equal(found, np.tile([5.0, 2.5], (4, 1)))


def test_the_default_line_keeps_to_the_bounds_of_the_state():
    transcription = transcribed(posed(START, at_end(X[0]) == 5, along_path(X[0]) <= 2.5))
    assert states(Guess(), transcription)[:, 0].max() == 2.5


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((-1, 3), 0.0),
        ((1, 3), 2.0),
        ((0, 3), 1.5),
        ((1, math.inf), 1.1),
        ((-math.inf, -2), -2.2),
        ((-math.inf, math.inf), 0.0),
    ],
)
def test_by_default_the_control_is_zero_or_strictly_within_its_bounds(bounds, expected):
    found = controls(Guess(), transcribed(posed(START, along_path(U).within(*bounds))))
    np.testing.assert_array_equal(found, np.full((3, 1), expected))


def test_by_default_a_parameter_is_one_or_strictly_within_its_bounds():
    for bounds, expected in (((0, 5), 1.0), ((2, 6), 4.0), ((-math.inf, -3), -3.3)):
        problem = posed(START, at_end(P).within(*bounds), at_end(X[0]) == P)
        assert Guess().on(transcribed(problem)).parameters == [expected]


def test_values_outside_the_bounds_of_controls_and_parameters_are_moved_inside():
    problem = posed(START, along_path(U) <= 1, at_end(P) <= 2, at_end(X[0]) == P)
    found = Guess(control=7.0, parameter=9.0).on(transcribed(problem))
    np.testing.assert_array_equal(found.control_array, np.ones((3, 1)))
    assert found.parameters == [2.0]


def test_functions_of_time_on_a_free_horizon_see_times_up_to_the_guessed_end():
    problem = posed(START, at_end(P).within(1, 9), horizon=P)
    seen = []
    guess = Guess(state=lambda t: seen.append(t) or [t, 0], parameter=4.0)
    found = guess.on(transcribed(problem, TimeGrid.uniform(4)))
    np.testing.assert_allclose(found.times, [0, 1, 2, 3, 4])
    assert max(seen) == 4.0


def test_noise_is_the_same_for_the_same_seed_and_another_for_another():
    problem = posed(START, at_end(X[0]) == P)
    transcription = transcribed(problem, TimeGrid.uniform(50, 2.0))
    first, same, other = (Guess(noise=0.1, seed=s).on(transcription).decisions for s in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert (first != other).all()


def test_noise_has_its_standard_deviation_relative_to_values_of_at_least_one():
    transcription = transcribed(posed(START), TimeGrid.uniform(1000, 2.0))
    for value, size in ((0.0, 1.0), (100.0, 100.0)):
        spread = controls(Guess(control=value, noise=0.2), transcription) - value
        # The standard deviation of 1000 samples is 2.2 % uncertain.
        assert spread.std() == pytest.approx(0.2 * size, rel=0.08)


def test_noise_keeps_to_the_bounds_and_leaves_the_states_alone():
    transcription = transcribed(posed(START, along_path(U).within(-1, 1)))
    noisy = Guess(state=[[1, 0], [3, 4]], noise=5.0).on(transcription)
    assert np.abs(noisy.control_array).max() <= 1
    np.testing.assert_array_equal(noisy.state_array[:, 0], states(Guess(state=[[1, 0], [3, 4]])))


@pytest.mark.parametrize("tableau", [RK4, GAUSS_LEGENDRE_4], ids=lambda t: t.name)
def test_simulated_states_follow_from_the_control(tableau):
    """u = 1 from (1, 0): x = 1 + t^2 / 2, x' = t."""
    transcription = transcribed(posed(START), tableau=tableau)
    t = GRID.nodes
    found = states(Guess(control=1.0, simulate=True), transcription)
    np.testing.assert_allclose(found, np.column_stack([1 + t**2 / 2, t]), atol=1e-12)


def test_a_simulated_free_start_is_the_guessed_one():
    transcription = transcribed(posed(at_start(X[1]) == 0))
    found = states(Guess(state=[5, 9], control=0.0, simulate=True), transcription)
    np.testing.assert_allclose(found, np.tile([5.0, 0.0], (4, 1)), atol=1e-14)


def test_every_member_starts_where_it_is_given_and_ends_where_it_is_sent():
    starts = np.array([[0.0, 1.0], [4.0, 1.0]])
    problem = OptimalControlProblem(
        state=X,
        control=U,
        dynamics=ca.vertcat(X[1], U),
        horizon=2.0,
        initial_state=starts,
        control_cost=U**2,
        terminal_constraints=[Constraint("end", X[0], 2.0, 2.0)],
    )
    found = Guess().on(transcribed(problem)).state_array
    np.testing.assert_array_equal(found[0], starts)
    np.testing.assert_array_equal(found[-1], [[2, 1], [2, 1]])
    np.testing.assert_array_equal(found[1], [[0.5, 1], [3.5, 1]])


def test_a_guess_may_lie_far_from_the_optimum():
    problem = posed(START, at_end(X) == 0)
    guesses = (None, Guess(state=[[9, 9], [-9, 9]], control=5.0), Guess(noise=3.0, simulate=True))
    optima = [solve(problem, 8, guess=guess).objective for guess in guesses]
    np.testing.assert_allclose(optima, optima[0], rtol=1e-8)


REFUSED = {
    "states of another size": (Guess(state=[1, 2, 3]), r"state has shape \(3,\).*\(2,\)"),
    "rows of another size": (Guess(state=[[1], [2]]), r"state has shape \(2, 1\)"),
    "no rows": (Guess(state=np.zeros((0, 2))), r"state has shape \(0, 2\)"),
    "too many axes": (Guess(state=np.zeros((2, 2, 2))), r"state has shape \(2, 2, 2\)"),
    "a function of another size": (
        Guess(state=lambda t: [t]),
        r"state returned \[.*expected 2 values at each time",
    ),
    "a control that is not finite": (Guess(control=math.nan), "control has a value that is not"),
    "a function that is not finite": (
        Guess(control=lambda t: math.inf),
        "control has a value that is not finite",
    ),
    "controls of another size": (Guess(control=[[1, 2]]), r"control has shape \(1, 2\)"),
    "parameters that are not there": (Guess(parameter=[1.0]), "expected 0 finite values"),
}


@pytest.mark.parametrize(("guess", "words"), REFUSED.values(), ids=list(REFUSED))
def test_a_guess_that_does_not_fit_is_refused(guess, words):
    with pytest.raises(ValueError, match=words):
        guess.on(PLAIN)


@pytest.mark.parametrize("values", [[1.0, 2.0], math.nan])
def test_a_parameter_that_does_not_fit_is_refused_by_name(values):
    transcription = transcribed(posed(START, at_end(X[0]) == P))
    with pytest.raises(ValueError, match="expected 1 finite values: p"):
        Guess(parameter=values).on(transcription)


def test_a_free_start_that_is_not_guessed_lies_on_a_finite_line():
    problem = posed()
    np.testing.assert_array_equal(problem.initial_state, [[FREE, FREE]])
    assert np.isfinite(states(Guess(), transcribed(problem))).all()
