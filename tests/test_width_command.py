"""The options --widths, --grid, --domain and --transfer of the command line."""

import json

import numpy as np
import pytest

from problems.cli import main


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *words):
    with pytest.raises(SystemExit) as exit_:
        main([str(word) for word in words])
    return exit_.value.code, capsys.readouterr().err


@pytest.fixture
def signals(tmp_path):
    """Eight signals on nine equidistant nodes, and whether they are the even ones."""
    x = np.linspace(0, 1, 9)
    rows = [np.sin((1 + i % 2) * np.pi * x) + 0.1 * i for i in range(8)]
    path = tmp_path / "signals.csv"
    lines = [",".join([f"v{j}" for j in range(9)]) + ",label"]
    lines += [",".join(f"{v:.6f}" for v in row) + f",{'ab'[i % 2]}" for i, row in enumerate(rows)]
    path.write_text("\n".join(lines))
    return path


def test_widths_are_solved_saved_checked_and_shown(capsys, tmp_path):
    path = tmp_path / "network.npz"
    words = ["moons", "--samples", 10, "--widths", "4,3,2", "--layers", 5]
    code, out, _ = run(capsys, "solve", *words, "--save", path, "--json")
    result = json.loads(out)
    assert (code, result["status"]) == (0, "solved")
    file = np.load(path)
    assert [file[f"states_{k}"].shape[1] for k in range(6)] == [4, 4, 3, 3, 2, 2]
    assert file["w_1"].shape == (3, 4)
    assert json.loads(str(file["metadata"]))["options"]["widths"] == [4, 4, 3, 3, 2, 2]
    code, out, _ = run(capsys, "check", path, "--json")
    checked = json.loads(out)
    assert (code, checked["differences"]) == (0, [])
    assert checked["objective"] == pytest.approx(result["objective"], rel=1e-12)
    figure = tmp_path / "network.png"
    assert run(capsys, "show", path, "-o", figure)[0] == 0
    assert figure.stat().st_size > 10_000


def test_widths_that_are_all_the_same_are_the_option_width(capsys):
    words = ["solve", "moons", "--samples", 8, "--layers", 3, "--json"]
    first = json.loads(run(capsys, *words, "--widths", "3,3")[1])
    second = json.loads(run(capsys, *words, "--width", 3)[1])
    assert first["objective"] == second["objective"]


@pytest.mark.parametrize("rule", ["trapezoid", "clenshaw-curtis"])
def test_signals_are_functions_at_the_nodes_of_a_rule(capsys, signals, rule):
    words = ["--grid", rule, "--widths", "9,5,3", "--layers", 2, "--transfer", "projection"]
    code, out, _ = run(capsys, "solve", signals, *words, "--json")
    assert (code, json.loads(out)["status"]) == (0, "solved")


def test_a_grid_alone_is_the_same_for_all_layers(capsys, signals, tmp_path):
    path = tmp_path / "network.npz"
    words = ["--grid", "trapezoid", "--layers", 2, "--save", path]
    assert run(capsys, "solve", signals, *words)[0] == 0
    file = np.load(path)
    assert file["w"].shape == (2, 9, 9)
    np.testing.assert_allclose(file["quadrature_0"], [0.0625, *[0.125] * 7, 0.0625])
    # The read-out is the mean over the domain, the first moment.
    np.testing.assert_allclose(file["readout_weight"][0], file["quadrature_2"])


def test_interpolate_and_sweep_take_widths(capsys, tmp_path):
    words = ["moons", "--samples", 4, "--widths", "4,3,2", "--layers", 4, "--json"]
    code, out, _ = run(capsys, "interpolate", *words, "--starts", 2)
    assert (code, json.loads(out)["status"]) == (0, "solved")
    ladder = ["--horizons", "1,10", "--starts", 2, "--save", tmp_path / "ladder"]
    code, out, _ = run(capsys, "sweep", *words, *ladder)
    result = json.loads(out)
    assert (code, result["status"]) == (0, "solved")
    # The same command continues from the files and says the same.
    assert json.loads(run(capsys, "sweep", *words, *ladder)[1])["rungs"] == result["rungs"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--widths", "4,2", "--width", "4"], "--width came with --widths"),
        (["--widths", "1,2"], "at least the number of inputs, 2, got 1"),
        (["--widths", ",".join("9876543"), "--layers", "3"], "7 widths for 3 layers"),
        (["--widths", "4,3", "--scheme", "rk4"], "one step of the Euler scheme, got rk4"),
        (["--widths", "4,3", "--penalty", "h1"], "whose sizes differ here"),
        (["--widths", "4,3", "--transfer", "linear"], "use nearest"),
        (["--grid", "midpoint", "--widths", "4,3"], "the samples are not on the grid"),
        (["--grid", "midpoint", "--domain", "square"], "square number of nodes, got 2"),
        (["--grid", "midpoint", "--widths", "2,1", "--loss", "cross-entropy"], "2 moments"),
        (["--domain", "square"], "give --grid"),
        (["--transfer", "nearest"], "give --widths"),
        (["--widths", "4,1", "--loss", "cross-entropy"], "a state of width 1"),
    ],
)
def test_a_request_that_does_not_fit_is_one_clear_line(capsys, words, says):
    code, out, err = run(capsys, "solve", "moons", *words)
    assert code == 2
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["4,,2", "4,0", "4.5", "many"])
def test_widths_are_whole_numbers(capsys, text):
    code, err = refused(capsys, "solve", "moons", "--widths", text)
    assert code == 2
    assert "expected a whole number of at least 1" in err


def test_a_ladder_that_keeps_the_step_cannot_change_the_width(capsys):
    words = ["--widths", "4,2", "--horizons", "1,2", "--keep", "step"]
    code, _, err = run(capsys, "sweep", "moons", *words)
    assert code == 2
    assert "adds layers, whose widths are not given" in err
