"""Time grids: nodes, steps, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocp import TimeGrid


@given(
    intervals=st.integers(1, 200),
    horizon=st.floats(1e-3, 1e3),
    start=st.floats(-1e3, 1e3),
)
def test_a_uniform_grid_has_equal_steps_that_sum_to_the_horizon(intervals, horizon, start):
    grid = TimeGrid.uniform(intervals, horizon, start)
    rounding = 4 * np.finfo(float).eps * (abs(start) + horizon)
    assert grid.intervals == intervals
    assert grid.nodes[0] == start
    assert grid.horizon == pytest.approx(horizon, abs=rounding)
    assert grid.steps == pytest.approx(np.full(intervals, horizon / intervals), abs=rounding)


@given(steps=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), start=st.floats(-10, 10))
def test_a_graded_grid_has_the_steps_that_were_asked_for(steps, start):
    grid = TimeGrid.graded(steps, start)
    # Nodes are sums of up to 30 steps, each rounded once.
    rounding = 60 * np.finfo(float).eps * (abs(start) + sum(steps))
    assert grid.nodes[0] == start
    assert grid.steps == pytest.approx(steps, abs=rounding)
    assert grid.horizon == pytest.approx(sum(steps), abs=rounding)


def test_a_grid_keeps_its_own_nodes_and_does_not_let_them_change():
    nodes = np.array([0.0, 1.0, 3.0])
    grid = TimeGrid(nodes)
    nodes[1] = 2.0
    assert grid.nodes.tolist() == [0.0, 1.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        grid.nodes[1] = 2.0


@pytest.mark.parametrize("nodes", [[], [0.0], [[0.0, 1.0]]])
def test_fewer_than_two_nodes_in_a_row_are_refused(nodes):
    with pytest.raises(ValueError, match=r"expected \(K\+1,\)"):
        TimeGrid(np.array(nodes))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nodes_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="must be finite"):
        TimeGrid(np.array([0.0, bad]))


@pytest.mark.parametrize("nodes", [[0.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
def test_nodes_that_do_not_increase_are_refused_by_their_place(nodes):
    with pytest.raises(ValueError, match=r"t\[1\] = \d is followed by t\[2\] = 1"):
        TimeGrid(np.array(nodes))


def test_no_intervals_are_refused():
    with pytest.raises(ValueError, match="at least 1 interval, got 0"):
        TimeGrid.uniform(0)


@pytest.mark.parametrize("horizon", [0.0, -1.0, np.inf, np.nan])
def test_a_horizon_that_is_not_positive_and_finite_is_refused(horizon):
    with pytest.raises(ValueError, match="positive and finite"):
        TimeGrid.uniform(3, horizon)


@pytest.mark.parametrize("steps", [[1.0, 0.0], [1.0, -0.5]])
def test_steps_that_are_not_positive_are_refused(steps):
    with pytest.raises(ValueError, match="must increase"):
        TimeGrid.graded(steps)
