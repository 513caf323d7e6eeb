"""Pictures of networks on grids: what they show is read back from the artists."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from problems.datasets import Dataset
from problems.figures import (
    draw_kernel,
    draw_space_time,
    draw_widths,
    grid_page,
    save_convergence,
    save_figure,
    save_reconstructions,
)
from problems.learning import LearningProblem
from problems.moving_grid import MovingGrid, moving_grid
from problems.space_time import space_time_problem
from problems.spatial_grid import gauss_legendre, midpoint, square, trapezoid
from problems.training import train
from problems.vector_fields import BOTTLENECK


def waves(**choices):
    samples = [lambda x, i=i: np.sin(i * x) for i in (1, 2, 3)]
    grids = [gauss_legendre(6), trapezoid(4), trapezoid(3)]
    return train(
        space_time_problem(
            samples, [1, 2, 3], MovingGrid.through(grids), readout=[np.cos], layers=2, **choices
        )
    )


def images():
    values = np.random.default_rng(0).uniform(size=(4, 4, 4))
    grid = moving_grid([16, 4], 1, lambda size: square(midpoint, size))
    return train(space_time_problem(values, [1, 2, 3, 4], grid, layers=1))


def features():
    generator = np.random.default_rng(0)
    data = Dataset("features", generator.standard_normal((4, 3)), generator.standard_normal((4, 1)))
    grid = moving_grid([3, 2, 1], 2)
    return train(LearningProblem(data, layers=2, field=BOTTLENECK, hidden=2, moving_grid=grid))


def test_a_strip_shows_every_state_at_its_nodes():
    solution = waves()
    axes = Figure().subplots()
    draw_space_time(solution, 1, axes)
    for mesh, dots, state in zip(
        axes.collections, axes.lines, solution.trajectory.states, strict=True
    ):
        assert np.array_equal(np.ravel(mesh.get_array()), state[1])
        edges = mesh.get_coordinates()[:, 0, 1]
        assert edges[[0, -1]].tolist() == [0.0, 1.0]
        nodes = dots.get_ydata()
        assert ((edges[:-1] <= nodes) & (nodes <= edges[1:])).all()


def test_a_kernel_is_drawn_over_both_of_its_grids():
    solution = waves()
    axes = Figure().subplots()
    draw_kernel(solution, 0, axes)
    assert np.array_equal(axes.collections[0].get_array(), solution.layer_weights[0]["w"])
    assert "(4 x 6)" in axes.get_title()


def test_reconstructions_show_images_their_codes_and_what_becomes_of_them(tmp_path):
    values = np.random.default_rng(0).uniform(size=(3, 4, 4))
    grid = moving_grid([16, 4, 16], 2, lambda size: square(midpoint, size))
    solution = train(space_time_problem(values, values.reshape(3, 16), grid, layers=2))
    save_reconstructions(solution, tmp_path / "codes.png", columns=2)
    with Image.open(tmp_path / "codes.png") as page:
        assert page.size[1] > page.size[0]
    with pytest.raises(ValueError, match="suffix"):
        save_reconstructions(solution, tmp_path / "codes")


def test_errors_are_drawn_beside_the_predicted_slope(tmp_path):
    nodes = np.array([8.0, 16.0, 32.0])
    save_convergence({"J": (nodes, nodes**-2)}, tmp_path / "errors.svg", "nodes n", order=-2)
    assert "predicted" in (tmp_path / "errors.svg").read_text()


def test_bars_are_as_high_as_layers_are_wide():
    axes = Figure().subplots()
    draw_widths(features(), axes)
    assert [bar.get_height() for bar in axes.patches] == [3, 2, 1]


@pytest.mark.parametrize("make", [waves, images, features])
def test_every_kind_of_grid_has_a_page_and_an_animation(make, tmp_path):
    solution = make()
    assert len(grid_page(solution).axes) >= 5
    save_figure(solution, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as page:
        assert min(page.size) > 500
    save_figure(solution, tmp_path / "layers.gif")
    with Image.open(tmp_path / "layers.gif") as animation:
        assert animation.n_frames == solution.problem.layers + 1
