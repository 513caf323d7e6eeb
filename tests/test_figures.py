"""Facts about the figures of a solution: what they show, and that they are written whole."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import casadi as ca
import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from ocp import along_path, at_end, at_start, integral, pose, solve
from problems import figures
from problems.datasets import Dataset, encode, load
from problems.figures import (
    check_figure_path,
    draw_controls,
    draw_costates,
    draw_decision_region,
    draw_errors,
    draw_flow,
    flow_animation,
    network,
    overview,
    plane,
    plot_solution,
    save_figure,
    saving,
    score_page,
)

MAGIC = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF-", ".svg": b"<?xml", ".gif": b"GIF89a"}
PANELS = [draw_flow, draw_decision_region, draw_errors, draw_controls, draw_costates]


def solved(dataset, width, *, layers=6, hidden=None, seed=0, size=2.0, status="solved"):
    """A network with smooth random weights and the best linear read-out, by explicit Euler."""
    rng = np.random.default_rng(seed)
    times = np.linspace(0, 1, layers + 1)
    shapes = {"w": (width, width), "b": (width,)}
    if hidden:
        shapes = {
            "w1": (hidden, width), "b1": (hidden,), "w2": (width, hidden), "b2": (width,)
        }  # fmt: skip
    weights = {
        name: size
        * np.cos(3 * times[:-1].reshape(-1, *[1] * len(shape)) + rng.uniform(0, 6, shape))
        for name, shape in shapes.items()
    }

    def propagate(points):
        states = [np.pad(points, ((0, 0), (0, width - points.shape[1])))]
        for k in range(layers):
            if hidden:
                inner = np.tanh(states[-1] @ weights["w1"][k].T + weights["b1"][k])
                rate = inner @ weights["w2"][k].T + weights["b2"][k]
            else:
                rate = np.tanh(states[-1]) @ weights["w"][k].T + weights["b"][k]
            states.append(states[-1] + rate / layers)
        return np.array(states)

    states = propagate(dataset.inputs)
    extended = np.pad(states[-1], ((0, 0), (0, 1)), constant_values=1.0)
    fitted = np.linalg.lstsq(extended, dataset.targets, rcond=None)[0]
    weight, bias = fitted[:-1].T, fitted[-1]
    residuals = states @ weight.T + bias - dataset.targets
    norms = np.sqrt(sum((part.reshape(layers, -1) ** 2).sum(axis=1) for part in weights.values()))
    errors = (residuals**2).sum(axis=2).mean(axis=1)
    return SimpleNamespace(
        times=times,
        states=states,
        costates=residuals @ weight,
        weights=weights,
        readout_weight=weight,
        readout_bias=bias,
        problem=SimpleNamespace(
            dataset=dataset,
            loss=SimpleNamespace(name="squared"),
            field=SimpleNamespace(name="bottleneck" if hidden else "inside"),
            activation=SimpleNamespace(name="tanh"),
            moving_grid=None,
        ),
        report={
            "status": status,
            "objective": 0.012345678,
            "training_error": float(errors[-1]),
            "certificate": {"stationarity": 3.2e-11},
        },
        errors=errors,
        control_norms=norms,
        propagate=propagate,
        outputs=lambda points: propagate(points)[-1] @ weight.T + bias,
    )


def named(name, loss="squared", **options):
    return encode(load(name, **options), loss)


def clouds(samples, inputs, classes, seed=0):
    """Samples of the classes by turns, one-hot."""
    codes = np.arange(samples) % classes
    points = np.random.default_rng(seed).normal(size=(samples, inputs)) + codes[:, np.newaxis]
    labels = tuple((f"kind {code}",) for code in range(classes))
    return Dataset("clouds", points, np.eye(classes)[codes], labels)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Shading takes most of the time, and few points show its facts as well."""
    for module in (network, plane):
        monkeypatch.setattr(module, "RESOLUTION", 60)


@pytest.fixture
def moons():
    return solved(named("moons", samples=30), 2)


@pytest.fixture
def axes():
    return Figure().add_subplot()


def legend_of(figure_or_axes):
    legends = getattr(figure_or_axes, "legends", None) or [figure_or_axes.get_legend()]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def segments_of(axes):
    lines = [each for each in axes.collections if hasattr(each, "get_segments")]
    return np.array(lines[0].get_segments())


@pytest.mark.parametrize("suffix", MAGIC)
def test_a_figure_is_written_in_the_format_of_its_suffix(moons, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(saving, "flow_animation", partial(flow_animation, frames=3))
    path = tmp_path / f"figure{suffix.upper()}"
    save_figure(moons, path)
    assert path.read_bytes().startswith(MAGIC[suffix])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_equal_solutions_give_equal_files(moons, tmp_path, suffix):
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    save_figure(moons, first)
    save_figure(moons, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("width", [1, 2, 3])
def test_an_animation_has_the_frames_asked_for_and_holds_the_last(tmp_path, width):
    solution = solved(named("sine", samples=10), width)
    flow_animation(solution, tmp_path / "flow.gif", frames=4)
    with Image.open(tmp_path / "flow.gif") as image:
        assert image.n_frames == 4  # equal frames at the end are one frame
        image.seek(3)
        assert image.info["duration"] >= 1000


def test_an_animation_moves_the_samples_with_the_time(moons, tmp_path, monkeypatch):
    seen = []
    offsets = matplotlib.collections.PathCollection.set_offsets

    def record(collection, points):
        seen.append(np.array(points))
        offsets(collection, points)

    monkeypatch.setattr(matplotlib.collections.PathCollection, "set_offsets", record)
    flow_animation(moons, tmp_path / "flow.gif", frames=3)  # t = 0, 1/2, 1 are layers 0, 3, 6
    classes = np.sign(moons.problem.dataset.targets[:, 0])
    order = np.argsort(classes, kind="stable")
    np.testing.assert_allclose(np.vstack(seen[-4:-2]), moons.states[3][order])
    np.testing.assert_allclose(np.vstack(seen[-2:]), moons.states[-1][order])


@pytest.mark.parametrize(
    ("dataset", "width", "hidden", "panels"),
    [
        (named("moons", samples=20), 2, None, 5),
        (clouds(30, 2, 3), 3, 2, 5),
        (clouds(30, 4, 3), 4, None, 4),
        (named("sine", samples=20), 1, None, 5),
        (Dataset("two", np.eye(8)[:, :2], np.eye(8)[:, :1]), 2, None, 5),
        (clouds(700, 8, 12), 8, None, 4),
    ],
)
def test_the_page_has_its_panels_and_names_every_class(dataset, width, hidden, panels):
    figure = overview(solved(dataset, width, hidden=hidden))
    figure.draw_without_rendering()
    assert len([axes for axes in figure.axes if axes.get_title(loc="left")]) == panels
    names = [labels[-1] for labels in dataset.classes if len(labels) == 1]
    names = names or [name for labels in dataset.classes for name in labels]
    assert legend_of(figure) == [*names, "input", "end state"]


def test_the_title_tells_how_the_solve_ended(moons):
    title = overview(moons).get_suptitle()
    assert "moons: 30 samples" in title
    assert "solved:" in title
    assert "J = 0.01235" in title
    assert f"{moons.errors[-1]:.4g}" in title
    assert r"3.2\times 10^{-11}" in title


def test_what_the_report_does_not_know_is_a_question_mark(moons):
    moons.report = {"status": "failed", "objective": None, "certificate": None}
    assert re.search(r"failed: +J = \? +E\(x\(T\)\) = \? +stationarity \?", title_of(moons))


def title_of(solution):
    return overview(solution).get_suptitle()


def test_paths_are_the_states(moons, axes):
    draw_flow(moons, axes)
    np.testing.assert_array_equal(segments_of(axes), moons.states.swapaxes(0, 1))
    assert legend_of(axes) == ["lower", "upper", "input", "end state"]


def test_one_state_is_drawn_against_time(axes):
    solution = solved(named("sine", samples=5), 1)
    draw_flow(solution, axes)
    segments = segments_of(axes)
    np.testing.assert_array_equal(segments[:, :, 0], np.tile(solution.times, (5, 1)))
    np.testing.assert_array_equal(segments[:, :, 1], solution.states[:, :, 0].T)


def test_the_principal_plane_keeps_distances_of_states_that_lie_in_a_plane(axes):
    solution = solved(clouds(12, 5, 2), 5)
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 2)))[0]
    flat = np.random.default_rng(2).normal(size=(7, 12, 2))
    solution.states = flat @ basis.T + 3.0
    draw_flow(solution, axes)
    drawn, flat = segments_of(axes).reshape(-1, 2), flat.swapaxes(0, 1).reshape(-1, 2)
    np.testing.assert_allclose(distances(drawn), distances(flat), atol=1e-12)


def distances(points):
    return np.linalg.norm(points[:, np.newaxis] - points, axis=2)


def test_of_many_samples_some_of_every_class_are_drawn_and_the_title_says_so(axes):
    solution = solved(clouds(1200, 2, 4), 2)
    draw_flow(solution, axes)
    assert len(segments_of(axes)) == 300
    assert axes.get_title() == "Flow of 300 of 1200 samples"
    assert len(np.unique(line_colours(axes), axis=0)) == 4


def line_colours(axes):
    return next(each for each in axes.collections if hasattr(each, "get_segments")).get_colors()


@pytest.mark.parametrize("classes", [2, 3])
def test_right_samples_lie_in_the_region_of_their_colour_and_wrong_ones_do_not(axes, classes):
    dataset = clouds(60, 2, classes)
    solution = solved(dataset, 2)
    codes = dataset.targets.argmax(axis=1)
    right = solution.outputs(dataset.inputs).argmax(axis=1) == codes
    assert 0 < right.sum() < 60
    draw_decision_region(solution, axes)
    inside = np.zeros(60, dtype=bool)
    for region in axes.collections:
        if getattr(region, "filled", False):
            tints = 1 + 0.22 * (np.array([to_rgba(colour) for colour in figures.COLOURS]) - 1)
            (code,) = np.flatnonzero(np.isclose(tints, region.get_facecolor()).all(axis=1))
            held = [path.contains_points(dataset.inputs) for path in region.get_paths()]
            inside |= np.any(held, axis=0) & (codes == code)
    np.testing.assert_array_equal(inside, right)
    assert f"{60 - right.sum()} of 60 samples wrong" in axes.get_title()
    ringed = sum(
        int((each.get_edgecolors() == to_rgba(figures.INK)).all(axis=1).sum())
        for each in axes.collections
        if hasattr(each, "get_sizes")
    )
    assert ringed == 60 - right.sum()


def test_one_input_shows_the_outputs_against_it_with_the_data(axes):
    solution = solved(named("sine", samples=9), 2)
    draw_decision_region(solution, axes)
    (curve,) = axes.lines
    inputs, outputs = curve.get_data()
    expected = solution.outputs(np.asarray(inputs)[:, np.newaxis])[:, 0]
    np.testing.assert_allclose(outputs, expected, atol=1e-14)
    dataset = solution.problem.dataset
    data = np.hstack([dataset.inputs, dataset.targets])
    np.testing.assert_array_equal(axes.collections[-1].get_offsets(), data)


def test_three_inputs_have_no_region(axes):
    with pytest.raises(ValueError, match=r"3 inputs, expected one or two .*draw the flow"):
        draw_decision_region(solved(clouds(9, 3, 2), 3), axes)


def test_the_error_panel_holds_the_errors_and_the_control_norms(moons, axes):
    draw_errors(moons, axes)
    np.testing.assert_array_equal(axes.lines[0].get_data(), [moons.times, moons.errors])
    (stairs,) = (each for each in axes.patches if hasattr(each, "get_data"))
    np.testing.assert_array_equal(stairs.get_data().values, moons.control_norms)
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize("hidden", [None, 3])
def test_the_heat_map_holds_the_weights_and_zero_is_its_middle(axes, hidden):
    solution = solved(named("moons", samples=8), 2, hidden=hidden)
    draw_controls(solution, axes)
    (image,) = axes.images
    rows = [part.reshape(6, -1).T for part in solution.weights.values()]
    np.testing.assert_array_equal(image.get_array(), np.vstack(rows))
    assert image.norm.vmin == -image.norm.vmax
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == (
        ["$w_{1}$ (3 x 2)", "$b_{1}$ (3)", "$w_{2}$ (2 x 3)", "$b_{2}$ (2)"]
        if hidden
        else ["$w_{}$ (2 x 2)", "$b_{}$ (2)"]
    )


def test_the_costate_panel_holds_their_norms(moons, axes):
    draw_costates(moons, axes)
    norms = np.linalg.norm(moons.costates, axis=2)
    np.testing.assert_array_equal(segments_of(axes)[:, :, 1], norms.T)


def test_a_sample_has_one_colour_in_all_panels(moons):
    flow, costates = (Figure().add_subplot() for _ in range(2))
    draw_flow(moons, flow)
    draw_costates(moons, costates)
    expected = np.where(
        moons.problem.dataset.targets < 0, to_rgba(figures.COLOURS[0]), to_rgba(figures.COLOURS[1])
    )
    for drawn in (flow, costates):
        np.testing.assert_array_equal(line_colours(drawn)[:, :3], expected[:, :3])
    for markers, colour in zip(flow.collections[-2:], figures.COLOURS, strict=False):
        np.testing.assert_array_equal(markers.get_facecolor(), np.tile(to_rgba(colour), (15, 1)))


def test_a_numeric_target_has_a_colour_scale_in_place_of_classes(axes):
    draw_flow(solved(named("sine", samples=9), 2), axes)
    assert "target y1" in [each.get_ylabel() for each in axes.figure.axes]
    assert legend_of(axes) == ["input", "end state"]


@pytest.mark.parametrize(("width", "classes"), [(1, ()), (2, (("no", "yes"),)), (3, ())])
def test_one_sample_that_rests_at_its_target_is_drawn(tmp_path, width, classes):
    solution = solved(Dataset("one", np.ones((1, 1)), np.ones((1, 1)), classes), width, layers=1)
    solution.states = np.repeat(solution.states[:1], 2, axis=0)
    solution.propagate = lambda points: np.zeros((2, len(points), width))
    solution.errors, solution.control_norms = np.zeros(2), np.zeros(1)
    solution.costates = np.zeros_like(solution.states)
    solution.weights = {name: 0 * part for name, part in solution.weights.items()}
    save_figure(solution, tmp_path / "one.png")
    flow_animation(solution, tmp_path / "one.gif", frames=2)
    axes = Figure().add_subplot()
    draw_errors(solution, axes)
    assert all("0 throughout" in label for label in legend_of(axes))


def test_zeros_fall_off_a_logarithmic_axis_that_shows_the_rest(moons, axes):
    moons.errors = np.array([1.0, 1e-3, 0, 1e-6, 0, 0, 0])
    draw_errors(moons, axes)
    low, high = axes.get_ylim()
    assert 1e-8 < low < 1e-6
    assert high > 1


@pytest.mark.parametrize(("width", "value"), [(2, np.inf), (3, 1e200)])
def test_a_network_that_diverged_is_drawn_as_far_as_it_is_finite(tmp_path, width, value):
    solution = solved(named("moons", samples=12), width, status="invalid-number")
    solution.states[3:] = solution.costates[:3] = value
    solution.errors[3:] = value
    solution.outputs = lambda points: np.full((len(points), 1), value)
    solution.propagate = lambda points: np.full((7, len(points), width), value)
    save_figure(solution, tmp_path / "diverged.png")
    flow_animation(solution, tmp_path / "diverged.gif", frames=2)


def test_any_word_can_be_a_label(tmp_path, axes):
    labels = (("_hidden",), ("$x",), ("\u6f22\u5b57\nof a long, long, long name",))
    data = clouds(9, 2, 3)
    dataset = Dataset("a_$b$_^", data.inputs, data.targets, labels, ("_", "$$"))
    save_figure(solved(dataset, 2), tmp_path / "labels.pdf")
    draw_flow(solved(dataset, 2), axes)
    assert [text.strip() for text in legend_of(axes)][:3] == [
        "_hidden", r"\$x", "\u6f22\u5b57 of a long, long, long ..."
    ]  # fmt: skip


def test_more_classes_than_a_legend_holds_are_counted(axes):
    draw_flow(solved(clouds(40, 3, 20), 3), axes)
    assert legend_of(axes)[11:13] == ["kind 11", "and 8 more"]


def test_the_users_settings_neither_matter_nor_change(moons, tmp_path):
    save_figure(moons, tmp_path / "plain.png")
    with matplotlib.rc_context({"axes.facecolor": "black", "text.usetex": True, "font.size": 30}):
        before = dict(matplotlib.rcParams)
        save_figure(moons, tmp_path / "own.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_pyplot_is_never_imported():
    code = "import sys, problems.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_matplotlib_is_imported_in_one_package_only():
    package = Path(figures.__file__).parent
    root = package.parent.parent
    importing = re.compile(r"^\s*(import|from) matplotlib", re.MULTILINE)
    files = [*root.glob("ocp/**/*.py"), *root.glob("problems/**/*.py")]
    assert {file.parent for file in files if importing.search(file.read_text())} == {package}


@pytest.mark.parametrize("save", [lambda path: check_figure_path(path), None])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.html", r"page.html.*pages arrive with a later version; use .png, .pdf, .svg or"),
        ("figure.jpg", r"ends in .jpg, expected .*\.png, \.pdf or \.svg.*\.gif"),
        ("figure", r"ends in no suffix, expected"),
        ("missing/figure.png", r"cannot write .*missing does not exist; make it first"),
        ("file.txt/figure.gif", r"does not exist|too long"),
        ("folder.png", r"it is a folder; give the name of a file"),
        ("x" * 300 + "/figure.png", r"does not exist|too long"),
    ],
)
def test_an_impossible_path_is_refused_in_one_line(moons, tmp_path, save, name, message):
    (tmp_path / "file.txt").touch()
    (tmp_path / "folder.png").mkdir()
    save = save or (lambda path: save_figure(moons, path))
    with pytest.raises(ValueError, match=message) as caught:
        save(str(tmp_path / name))
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_closed_to_writing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # a superuser may write to any folder
    with pytest.raises(ValueError, match=r"permission denied; choose another"):
        check_figure_path(tmp_path / "figure.png")


def test_a_refusal_of_the_system_is_told_in_one_line(moons, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(ValueError, match=r"cannot write .*figure.png.*No space left.*; choose"):
        save_figure(moons, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "broken"), [("figure.png", (Figure, "savefig")), ("flow.gif", (Image.Image, "save"))]
)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_while_drawing_keeps_the_old_file(
    moons, tmp_path, monkeypatch, name, broken, error
):
    def fail(_, target, **options):
        Path(target).write_bytes(b"half")
        raise error

    path = tmp_path / name
    path.write_bytes(b"old")
    monkeypatch.setattr(*broken, fail)
    draw = save_figure if path.suffix == ".png" else partial(flow_animation, frames=2)
    with pytest.raises(error):
        draw(moons, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_animation_needs_two_frames_and_its_suffix(moons, tmp_path):
    with pytest.raises(ValueError, match=r"frames is 1, expected at least 2"):
        flow_animation(moons, tmp_path / "flow.gif", frames=1)
    with pytest.raises(ValueError, match=r"expected one ending in \.gif"):
        flow_animation(moons, tmp_path / "flow.png")


@pytest.mark.parametrize("draw", PANELS)
def test_every_panel_takes_a_solution_of_the_solver(draw, trained, axes):
    draw(trained, axes)
    axes.figure.draw_without_rendering()


def test_the_page_takes_a_solution_of_the_solver(trained):
    assert f"J = {trained.solution.objective:.4g}" in title_of(trained)


@pytest.fixture(scope="module")
def trained():
    from problems.learning import LearningProblem
    from problems.training import train

    return train(LearningProblem(named("moons", samples=10), layers=3))


X, V, U = (ca.SX.sym(name) for name in ("x", "v", "u"))


def bryson_denham(**method):
    problem = pose(
        state=ca.vertcat(X, V),
        control=U,
        dynamics=[V, U],
        horizon=1.0,
        minimize=integral(U**2) / 2,
        subject_to=[
            at_start(ca.vertcat(X, V)) == [0, 1],
            at_end(ca.vertcat(X, V)) == [0, -1],
            (along_path(X + 0 * V**2) <= 1 / 9).named("ceiling"),
            (along_path(X + V / 100) <= 2).named("far away"),
        ],
    )
    return solve(problem, 20, **method)


def test_a_plot_shows_every_state_costate_control_and_constraint_by_name():
    figure = plot_solution(bryson_denham())
    shown = {axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()}
    assert shown == {"x", "v", "costate of x", "costate of v", "u", "far away"}


def test_a_plot_draws_the_values_of_the_solution():
    solution = bryson_denham()
    (axes,) = [a for a in plot_solution(solution).axes if a.get_title(loc="left") == "v"]
    times, values = axes.lines[0].get_data()
    np.testing.assert_allclose(values, solution.state(times)[:, 1])
    assert set(solution.times) <= set(times)


def test_a_control_of_intervals_is_drawn_in_steps_and_one_per_stage_as_a_curve():
    for method, is_stepped in (({}, True), ({"control_per_stage": True}, False)):
        figure = plot_solution(bryson_denham(**method))
        (axes,) = [a for a in figure.axes if a.get_title(loc="left") == "u"]
        assert bool(axes.patches) is is_stepped
        assert bool(axes.lines) is not is_stepped


def test_bounds_are_dashed_where_they_are_near_only():
    axes = {a.get_title(loc="left"): a for a in plot_solution(bryson_denham()).axes}
    dashed = [line for line in axes["x"].lines if line.get_linestyle() == "--"]
    assert [float(line.get_ydata()[0]) for line in dashed] == pytest.approx([1 / 9])
    assert not [line for line in axes["far away"].lines if line.get_linestyle() == "--"]


def test_scores_are_drawn_one_dot_a_split_below_their_mean():
    values = {"flow": [0.9, 1.0, 0.8], "plane": [0.7, 0.7]}
    (axes,) = score_page({"iris": values}, "accuracy").axes
    drawn = axes.get_lines()
    for (name, scores), dots, bar in zip(values.items(), drawn[::2], drawn[1::2], strict=True):
        assert list(dots.get_ydata()) == scores
        assert list(bar.get_ydata()) == pytest.approx([np.mean(scores)] * 2)
        assert name in [label.get_text() for label in axes.get_xticklabels()]
    assert [text.get_text() for text in axes.texts] == ["0.900", "0.700"]
    assert axes.get_title(loc="left") == "iris"
