"""Jumps and kinks are named, and nothing that meets a jump is called solved."""

import casadi as ca
import numpy as np
import pytest

from ocp import (
    GAUSS_LEGENDRE_4,
    RK4,
    Constraint,
    Guess,
    OptimalControlProblem,
    Status,
    TimeGrid,
    along_path,
    at,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)
from ocp.nonsmooth import breaks, readable

X, V, U, T, P = (ca.SX.sym(name) for name in "xvutp")
PLANE = ca.vertcat(X, V)


def line(rate, *conditions, first=0.0, last=2.0, **changes):
    ends = [at_start(X) == first, at_end(X) == last]
    arguments = {"state": X, "control": U, "horizon": 1.0, "minimize": integral(U**2), "time": T}
    return pose(**{**arguments, "dynamics": rate, "subject_to": [*ends, *conditions], **changes})


# Dynamics or further arguments, and what the message names. The trajectory crosses each of them.
MET = {
    "a comparison": (line(U * ca.if_else(X < 1, 1, 3)), "x < 1 in the dynamics of x"),
    "a comparison the other way": (line(U * ca.if_else(X >= 1, 3, 1)), "x >= 1 in the dynamics"),
    "a comparison as a factor": (line(U * (1 + 2 * (X > 1))), "x > 1 in the dynamics of x"),
    "both of two comparisons": (
        line(U * ca.if_else(ca.logic_and(X > 0.5, X < 1.5), 2, 1)),
        "x < 1.5 in the dynamics of x",
    ),
    "a comparison of an expression": (
        line(U * ca.if_else(X**2 + X < 1, 1, 3)),
        "< 1 in the dynamics of x",
    ),
    "a sign": (line(U + ca.sign(X - 1)), "sign(x-1) in the dynamics of x"),
    "a floor": (line(U + ca.floor(X)), "floor(x) in the dynamics of x"),
    "a ceiling": (line(U + ca.ceil(X)), "ceil(x) in the dynamics of x"),
    "a remainder": (line(U + ca.fmod(X, 0.7)), "fmod(x, 0.7) in the dynamics of x"),
    "a number as a condition": (
        line(U + ca.if_else(ca.fmax(X - 1, 0), 1, 0)),
        "!= 0 in the dynamics of x",
    ),
    "a jump of the running cost": (
        line(U, minimize=integral(U**2 + ca.if_else(X > 1, 1, 0))),
        "x > 1 in the running cost",
    ),
    "a jump that a parameter moves": (
        line(U * ca.if_else(T < P, 1, 3), at_end(P) == 0.5, parameters=[P]),
        "t-p < 0|t < p in the dynamics of x",
    ),
}


@pytest.mark.parametrize("name", MET)
def test_a_solution_that_meets_a_jump_is_inaccurate_and_says_how_to_state_it(name):
    problem, words = MET[name]
    solution = solve(problem, 10)
    assert solution.status is Status.INACCURATE
    assert any(word in solution.message for word in words.split("|"))
    assert "The solution meets a jump" in solution.message
    assert "phases" in solution.message
    assert "smooth it" in solution.message


@pytest.mark.parametrize(
    "method",
    [{"tableau": RK4}, {"tableau": GAUSS_LEGENDRE_4, "control_per_stage": True}, {"grid": 51}],
    ids=["RK4", "Gauss", "a fine grid"],
)
def test_no_scheme_certifies_the_two_speeds(method):
    """x' = u for x < 1 and 3 u beyond, 0 to 2 in unit time: Int u^2 is 16/9 at its best."""
    solution = solve(line(U * ca.if_else(X < 1, 1, 3)), **{"grid": 20, **method})
    assert solution.status is Status.INACCURATE
    assert "x < 1 in the dynamics of x" in solution.message


def test_the_two_speeds_in_smooth_form_tend_to_the_optimum():
    """The cure in the message works: the error falls with the width."""
    errors, guess = [], None
    for width in (0.1, 0.05, 0.025):
        speed = 1 + 2 * (1 + ca.tanh((X - 1) / width)) / 2
        guess = solve(line(U * speed), 60, guess=guess)
        assert guess.is_solved, guess.message
        errors.append(abs(guess.objective - 16 / 9))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


STAYS = {
    "below": line(U * ca.if_else(X < 1, 1, 3), last=0.9),
    "above": line(U * ca.if_else(X < 1, 1, 3), first=1.1),
    "to the jump": line(U * ca.if_else(X < 1, 1, 3), last=1.0),
    "from the jump": line(U * ca.if_else(X < 1, 1, 3), first=1.0),
    "within a unit": line(U + ca.floor(X), first=0.1, last=0.9),
}
OPTIMA = {"below": 0.81, "above": 0.09, "to the jump": 1.0, "from the jump": 1 / 9}


@pytest.mark.parametrize("name", STAYS)
def test_a_solution_on_one_side_of_a_jump_is_solved_with_a_warning(name):
    solution = solve(STAYS[name], 10)
    assert solution.is_solved, solution.message
    assert "Beware of the jump" in solution.message
    assert "one side" in solution.message
    if name in OPTIMA:
        assert solution.objective == pytest.approx(OPTIMA[name], rel=1e-7)


# Continuous across their switches: kinks, or no kinks at all.
CONTINUOUS = {
    "a branch that fits": line(U - ca.if_else(X < 1, X, 1)),
    "a branch of products": line(U - ((X < 1) * X + (X >= 1) * 1)),
    "a smooth branch": line(U - ca.if_else(X < 1, X**2, 2 * X - 1)),
    "a sign times its argument": line(U - X * ca.sign(X), first=-1, last=1),
    "a removable gap": line(U - ca.if_else(X == 0, 1, ca.sin(X) / X), first=-1, last=1),
    "an absolute value that is crossed": line(U - ca.fabs(X), first=-1, last=1),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_what_is_continuous_is_no_jump(name):
    solution = solve(CONTINUOUS[name], 21)
    assert "jump" not in solution.message
    assert solution.status in (Status.SOLVED, Status.NOT_A_MINIMUM, Status.FAILED)


def test_a_jump_that_is_touched_from_one_side_between_the_nodes_is_met():
    """x = 2 t (1 - t) touches 1/2 at its top, which no node of an odd grid is at."""
    top = 0.5 + 1e-9
    rate = 2 - 4 * T + 0 * U
    problem = pose(
        state=X,
        control=U,
        dynamics=rate + ca.if_else(top < X, 1e-3, 0),
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0],
        time=T,
    )
    solution = solve(problem, 7)
    assert solution.status is Status.INACCURATE
    assert "t = 0.5" in solution.message


def test_a_jump_in_time_is_harmless_at_a_node_and_named_elsewhere():
    """x' = u up to t = 1/2 and 3 u after it: the best u is proportional, Int u^2 = 4 / 5."""
    problem = line(U * ca.if_else(T < 0.5, 1, 3))
    at_node = solve(problem, 10)
    assert at_node.is_solved
    assert at_node.objective == pytest.approx(0.8, rel=1e-9)
    assert "t < 0.5" in at_node.message
    assert "at a node" in at_node.message
    between = solve(problem, 7)
    assert "grid.including([0.5])" in between.message
    cured = solve(problem, TimeGrid.uniform(7).including([0.5]))
    assert cured.objective == pytest.approx(0.8, rel=1e-9)
    assert "at a node" in cured.message


@pytest.mark.parametrize("tested", [at_end, lambda e: at(0.5, e)], ids=["end", "point"])
def test_a_jump_at_one_time_is_looked_for_there_alone(tested):
    """The path crosses 1/4 where nothing is tested, and ends at 1."""
    jump = ca.if_else(X > 0.25, 1.0, 0.0)
    solution = solve(line(U, last=1.0, minimize=integral(U**2) + tested(jump)), 10)
    assert solution.is_solved, solution.message
    assert "Beware of the jump x > 0.25" in solution.message
    assert solution.objective == pytest.approx(2.0)


def test_a_path_that_ends_at_a_jump_of_the_terminal_cost_is_not_solved():
    """x(1) = 1 is where the reward begins: held there by a condition, at the jump itself."""
    reward = ca.if_else(X >= 1, 1.0, 0.0)
    problem = line(U, last=1.0, maximize=at_end(reward) - integral(U**2), minimize=None)
    solution = solve(problem, 10)
    assert solution.status is Status.INACCURATE
    assert "x >= 1 in the terminal cost" in solution.message


KINKS = {
    "absolute value": (ca.fabs(U), "|u| in the running cost", "absolute(u)"),
    "maximum": (ca.fmax(U, -U), "max(u, -u) in the running cost", "s >= u and s >= -u"),
    "norm": (ca.norm_2(ca.vertcat(U, U)), "sqrt(2.*sq(u)) in the running cost", "norm(...)"),
    "minimum": (-ca.fmin(U, -U), "min(u, -u) in the running cost", "s <= u"),
}


@pytest.mark.parametrize("name", KINKS)
def test_a_solve_that_fails_at_a_kink_names_it_and_its_cure(name):
    """x'' = u from rest to rest with |u| <= 8: u = 0 on a long arc in the middle."""
    cost, words, cure = KINKS[name]
    problem = pose(
        state=PLANE,
        control=U,
        dynamics=[V, U],
        horizon=1.0,
        minimize=integral(cost),
        subject_to=[at_start(PLANE) == [-1, 0], at_end(PLANE) == 0, along_path(U).within(-8, 8)],
    )
    solution = solve(problem, 20)
    assert not solution.is_solved
    assert "kink" in solution.message
    assert words in solution.message
    assert cure in solution.message


def still(cost, rate=U, **changes):
    arguments = {"state": X, "control": U, "dynamics": rate, "horizon": 1.0}
    return pose(**arguments, subject_to=[at_start(X) == 0], **cost, **changes)


FALLS = {
    "a maximum of |u|": still({"maximize": integral(ca.fabs(U)) - integral(U**2)}),
    "a minimum of -|u| + u^2": still({"minimize": integral(U**2 - ca.fabs(U))}),
    "a way up by |u|": still({"maximize": at_end(X) - integral(U**2)}, ca.fabs(U)),
    "a minimum of two": still({"minimize": integral(ca.fmin(U, -U) + U**2)}),
}


@pytest.mark.parametrize("name", FALLS)
def test_a_kink_from_which_the_cost_falls_is_no_minimum(name):
    """A guess of u = 0 sits at the kink, where CasADi's derivative of |u| is 0."""
    solution = solve(FALLS[name], 5, guess=Guess(control=0.0))
    assert solution.status is Status.NOT_A_MINIMUM
    assert "cost falls from the kink" in solution.message
    moved = solve(FALLS[name], 5, guess=Guess(control=0.3))
    assert moved.is_solved, moved.message
    assert abs(moved.objective) == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize(
    "problem",
    [
        still({"minimize": integral(ca.fabs(U))}),
        still({"minimize": at_end(X)}, ca.fabs(U)),
        still({"minimize": integral(ca.fmax(U, -U) + U**2)}),
    ],
    ids=["cost", "dynamics", "maximum"],
)
def test_a_kink_from_which_the_cost_rises_is_a_minimum(problem):
    solution = solve(problem, 5, guess=Guess(control=0.0))
    assert solution.is_solved, solution.message
    assert solution.objective == pytest.approx(0.0, abs=1e-9)


def test_members_of_an_ensemble_meet_a_jump_one_by_one():
    """Two members from 0 and 1/2: only the second gets beyond 1."""
    for ends, expected in (((0.4, 0.9), Status.SOLVED), ((0.4, 1.1), Status.INACCURATE)):
        data = ca.SX.sym("goal")
        problem = OptimalControlProblem(
            X,
            U,
            ca.if_else(X < 1, 1, 3) * (U + X - X),
            1.0,
            [[0.0], [0.5]],
            running_cost=(U - 0.4) ** 2,
            terminal_cost=1e-3 * (X - data) ** 2,
            data=data,
            member_data=[[ends[0]], [ends[1]]],
        )
        problem = problem if expected is Status.SOLVED else shifted(problem)
        assert solve(problem, 10).status is expected


def shifted(problem):
    return OptimalControlProblem(
        problem.state,
        problem.control,
        problem.dynamics,
        1.0,
        np.asarray(problem.initial_state) + 0.3,
        running_cost=problem.running_cost,
        terminal_cost=problem.terminal_cost,
        data=problem.data,
        member_data=problem.member_data,
    )


def test_what_is_read_off_the_expressions():
    problem = OptimalControlProblem(
        X,
        U,
        ca.if_else(X > 1, U, ca.sqrt(U)),
        1.0,
        [0.0],
        running_cost=ca.fabs(X - U) ** 0.5 + ca.if_else(X > 1, 1, 0),
        path_constraints=[Constraint("limit", ca.fmax(X, U))],
        terminal_cost=ca.acos(X),
    )
    found = {item.text: item for item in breaks(problem)}
    assert len(breaks(problem)) == len(found)
    assert set(found) == {
        "x > 1",
        "sqrt(u)",
        "|x-u|",
        "sqrt(fabs((x-u)))",
        "max(x, u)",
        "acos(x)",
    }
    assert found["x > 1"].where == "the dynamics of x and the running cost"
    assert found["max(x, u)"].where == "condition 'limit'"
    assert found["acos(x)"].place == "end"
    assert [text for text, item in found.items() if item.can_jump] == ["x > 1"]


def test_expressions_are_written_as_a_person_would():
    assert readable(X) == "x"
    assert readable((X + 1) * (U - 1)) == "(x+1)*(u-1)"
    assert readable(X + U) == "x+u"
    assert readable(ca.sin(X + U) ** 2 + ca.exp(X + U)) == "sq(sin((x+u)))+exp((x+u))"
    assert readable(ca.sin(X + U) ** 2 + ca.tan(X + U) ** 3 * ca.exp(X)) == "f(x, u)"


def test_smooth_problems_have_neither_jumps_nor_kinks():
    problem = line(ca.sin(X) * U + ca.exp(-(X**2)) + X**3 + X**0.5 * 0 + ca.tanh(U) / (1 + X**2))
    assert breaks(problem) == []
    assert "jump" not in solve(line(U), 5).message


def test_many_jumps_are_summed_up():
    """Four that are not met, and four that are."""
    stays = solve(line(U + sum(ca.if_else(level < X, 1, 0) for level in (3, 4, 5, 6))), 5)
    assert stays.is_solved
    assert stays.message.count("Beware") == 3
    assert "There are 1 more such places." in stays.message
    meets = solve(line(U + 0.1 * sum(ca.floor(X - level) for level in (0.1, 0.3, 0.6, 0.9))), 10)
    assert meets.status is Status.INACCURATE
    assert meets.message.count("The solution meets a jump") == 3


def test_a_search_for_jumps_that_breaks_down_loses_no_solution(monkeypatch):
    def broken(_problem):
        raise RuntimeError("the graph is too large\nand so on")

    monkeypatch.setattr("ocp.remarks.breaks", broken)
    solution = solve(line(U), 5)
    assert solution.is_solved
    assert solution.objective == pytest.approx(4.0)
    assert "looked for: RuntimeError: the graph is too large and so on." in solution.message
