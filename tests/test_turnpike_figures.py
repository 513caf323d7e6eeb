"""Facts about the figures of a turnpike: their lines have the rates that they name."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure

from ocp import SolveOptions
from problems.datasets import Dataset, encode, load
from problems.figures import (
    draw_decay,
    draw_horizons,
    draw_switching,
    overview,
    save_turnpike_figure,
    turnpike_figure,
)
from problems.learning import LearningProblem
from problems.losses import LOSSES
from problems.regularizers import L1_PENALTY
from problems.switching import switching
from problems.training import train

LINE = LearningProblem(
    Dataset("line", np.array([[1.5]]), np.array([[0.5]])),
    horizon=12.0,
    layers=120,
    terminal=0.0,
    tracking=1.0,
    weight_decay=0.1,
)


@cache
def line_to_half(**settings):
    return train(replace(LINE, **settings), options=SolveOptions(tolerance=1e-11))


def axes():
    return Figure().add_subplot()


def lines_named(drawn, word):
    return [line for line in drawn.get_lines() if str(line.get_label()).startswith(word)]


@pytest.mark.parametrize(
    ("word", "key"), [("predicted", "predicted_discrete_rate"), ("fitted", "fitted_rate")]
)
def test_a_line_falls_at_the_rate_it_names(word, key):
    solution, drawn = line_to_half(), axes()
    draw_decay(solution, drawn)
    rate, window = (solution.report["turnpike"][name] for name in (key, "window"))
    (line,) = lines_named(drawn, word)
    times, values = line.get_data()
    assert np.polyfit(times, np.log(values), 1)[0] == pytest.approx(-rate, rel=1e-9)
    assert f"{rate:.4g}" in line.get_label()
    assert (times[0], times[-1]) == pytest.approx(window)
    # It lies on sqrt(E), which it is the line of.
    errors = np.interp(times, solution.times, np.sqrt(solution.errors))
    assert values == pytest.approx(errors, rel=0.05)


def test_the_title_is_the_verdict_and_the_cut_is_at_the_needed_depth():
    drawn = axes()
    draw_decay(line_to_half(), drawn)
    found = line_to_half().report["turnpike"]
    assert "exponential" in drawn.get_title(loc="left") + drawn.get_title()
    (cut,) = lines_named(drawn, "cut here")
    assert cut.get_xdata()[0] == found["needed_depth"]


def test_an_arrival_is_marked_and_no_rate_is_drawn():
    solution, drawn = line_to_half(loss=LOSSES["distance"]), axes()
    draw_decay(solution, drawn)
    (arrival,) = lines_named(drawn, "E = 0")
    assert arrival.get_xdata()[0] == solution.report["turnpike"]["arrival_time"]
    assert not lines_named(drawn, "predicted")


def test_several_solutions_have_a_panel_each_and_one_has_its_reason():
    one, other = line_to_half(), line_to_half(loss=LOSSES["distance"])
    figure = turnpike_figure({"a": one, "b": other, "c": one, "d": other})
    assert len([each for each in figure.axes if each.axison]) == 4
    reason = turnpike_figure(one).get_supxlabel().replace("\n", " ")
    assert reason == f"because {one.report['turnpike']['reason']}"


def test_a_page_shows_the_turnpike_only_where_there_is_a_running_error():
    def titles(solution):
        return [each.get_title(loc="left") for each in overview(solution).axes]

    assert any("turnpike" in title for title in titles(line_to_half()))
    assert not any("turnpike" in title for title in titles(line_to_half(terminal=1.0, tracking=0)))


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_figure_is_written(suffix, tmp_path):
    path = tmp_path / f"decay{suffix}"
    save_turnpike_figure(line_to_half(), path)
    assert path.stat().st_size > 1000
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_running_error_there_is_nothing_to_draw(tmp_path):
    solution = line_to_half(terminal=1.0, tracking=0)
    with pytest.raises(ValueError, match="make tracking positive"):
        save_turnpike_figure(solution, tmp_path / "decay.png")
    assert not list(tmp_path.iterdir())


def test_switching_functions_are_drawn_with_the_controls_that_they_switch():
    dataset = encode(load("moons", samples=3, seed=0), "squared")
    problem = replace(LINE, dataset=dataset, penalty=L1_PENALTY, bound=2.0, layers=60)
    solution = train(problem)
    found, (above, below) = switching(solution), Figure().subplots(2)
    draw_switching(found, solution.trajectory.control_array, above, below)
    lines = [line.get_ydata() for line in above.get_lines()[: problem.layer(0).size]]
    assert lines == pytest.approx(found.functions.T)
    stairs = [patch.get_data().values for patch in below.patches]
    assert stairs == pytest.approx(solution.trajectory.control_array.T)


def test_horizons_are_drawn_on_one_axis():
    drawn = axes()
    solutions = [line_to_half(horizon=6.0, layers=60), line_to_half()]
    draw_horizons(solutions, drawn)
    assert [line.get_xdata()[-1] for line in drawn.get_lines()] == [6.0, 12.0]
