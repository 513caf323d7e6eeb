"""Seconds are those of the whole call, and every one of them belongs to a part."""

import json
import time
from dataclasses import asdict

import casadi as ca
import numpy as np
import pytest

import ocp.certificate as certificate_module
import ocp.continuous as continuous_module
from ocp import (
    EULER,
    SolveOptions,
    Status,
    TimeGrid,
    at_end,
    at_start,
    discretize,
    integral,
    pose,
    refine,
    solve,
    solve_staged,
)
from ocp.timings import PARTS, Timings, spent_on, timed
from problems.datasets import encode, load
from problems.learning import LearningProblem
from problems.report import table
from problems.solution_file import load_solution, save_solution
from problems.training import train

X, U = ca.SX.sym("x"), ca.SX.sym("u")
SLEEP = 0.05


def transfer(*conditions):
    """x' = u from 0 to 1 in T = 1, min Int u^2."""
    return pose(
        state=X,
        control=U,
        dynamics=U,
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0, at_end(X) == 1, *conditions],
    )


def parts_of(timings: Timings) -> list[float]:
    return [getattr(timings, name) for name in PARTS]


def check(timings: Timings, wall: float) -> None:
    """The parts make up the total, which is no more than the wall time of the call."""
    assert min(parts_of(timings)) >= 0
    assert sum(parts_of(timings)) == pytest.approx(timings.total, rel=1e-9)
    assert timings.total <= wall


def solved_on_stages():
    staged = discretize(transfer(), TimeGrid.uniform(10), EULER)
    return solve_staged(staged)


CALLS = {
    "solve": lambda: solve(transfer(), 20),
    "staged": solved_on_stages,
    "limit": lambda: solve(transfer(), 20, options=SolveOptions(max_iterations=1)),
    "infeasible": lambda: solve(transfer(at_end(X) == 2), 20),
    "refused": lambda: solve(pose_with_log(), 20),
    "refine": lambda: refine(transfer(), 1e-6).solution,
}


def pose_with_log():
    return pose(
        state=X,
        control=U,
        dynamics=ca.log(X - 5) + U,
        horizon=1.0,
        minimize=integral(U**2),
        subject_to=[at_start(X) == 0],
    )


@pytest.mark.parametrize("name", CALLS)
def test_the_parts_make_up_the_wall_time_of_the_call(name):
    begin = time.perf_counter()
    found = CALLS[name]()
    check(found.timings, time.perf_counter() - begin)
    assert found.timings.certificate > 0
    if name not in ("refused",):
        assert found.timings.solve > 0
    if name == "infeasible":
        assert found.status is Status.INFEASIBLE
        assert found.timings.search > 0


def slowed(function):
    def slow(*arguments, **settings):
        time.sleep(SLEEP)
        return function(*arguments, **settings)

    return slow


@pytest.mark.parametrize(
    ("module", "function", "part"),
    [
        (certificate_module, "reduced_hessian", "certificate"),
        (continuous_module, "estimate_error", "error_estimate"),
        (continuous_module, "embed", "build"),
    ],
)
def test_a_slow_part_is_seen_where_it_is(monkeypatch, module, function, part):
    before = solve(transfer(), 10).timings
    monkeypatch.setattr(module, function, slowed(getattr(module, function)))
    found = solve(transfer(), 10).timings
    assert getattr(found, part) >= SLEEP
    assert found.total >= SLEEP
    for other in set(PARTS) - {part}:
        assert getattr(found, other) <= 2 * getattr(before, other) + SLEEP / 2


def test_a_printed_solution_says_what_its_time_went_into_and_estimates_its_error_once(monkeypatch):
    calls = []
    original = continuous_module.estimate_error

    def counted(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(continuous_module, "estimate_error", counted)
    found = solve(transfer(), 10)
    words = str(found)
    assert f"{found.timings.total:.2f} s (build " in words
    assert "certificate " in words
    assert "error estimate " in words
    assert len(calls) == 1


def test_calls_within_calls_count_for_both_and_a_search_hides_its_parts():
    with timed() as outer:
        with spent_on("search"), timed() as inner, spent_on("solve"):
            time.sleep(SLEEP)
        time.sleep(SLEEP)
    assert inner.timings().solve >= SLEEP
    assert inner.timings().search == 0.0
    assert outer.timings().search >= SLEEP
    assert outer.timings().solve == 0.0
    assert outer.timings().build >= SLEEP


def test_a_part_that_raises_ends_there():
    with timed() as watch:
        with pytest.raises(ZeroDivisionError), spent_on("solve"):
            raise ZeroDivisionError
        time.sleep(SLEEP)
    assert watch.timings().build >= SLEEP


def small_network() -> LearningProblem:
    return LearningProblem(encode(load("moons", samples=5), "squared"), layers=3, weight_decay=0.1)


@pytest.mark.parametrize("starts", [1, 3])
def test_a_trained_network_reports_all_of_its_seconds(starts):
    begin = time.perf_counter()
    found = train(small_network(), starts=starts)
    result = found.report
    wall = time.perf_counter() - begin
    assert set(result["timings"]) == {*PARTS, "total"}
    assert result["seconds"] == result["timings"]["total"]
    check(Timings(**result["timings"]), wall)
    assert result["timings"]["error_estimate"] > 0
    assert (result["timings"]["search"] > 0) == (starts > 1)
    assert "seconds by part" in table(result)
    assert found.report["timings"] == asdict(found.timings)


def test_a_file_keeps_the_timings_and_one_without_them_still_loads(tmp_path):
    found = train(small_network())
    save_solution(tmp_path / "new.npz", found)
    assert load_solution(tmp_path / "new.npz").solution.timings == found.timings
    with np.load(tmp_path / "new.npz") as archive:
        arrays = {name: archive[name] for name in archive}
    metadata = json.loads(str(arrays["metadata"]))
    del metadata["result"]["timings"]
    arrays["metadata"] = np.array(json.dumps(metadata))
    np.savez(tmp_path / "old.npz", **arrays)
    old = load_solution(tmp_path / "old.npz")
    assert old.solution.timings == Timings(total=found.timings.total)
    assert old.solution.report["seconds"] == found.timings.total
