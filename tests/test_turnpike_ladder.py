"""The turnpike over a ladder of horizons, and networks cut on the command line."""

import json

import numpy as np
import pytest

from problems.cli import main
from problems.solution_file import load_solution

LADDER = (
    "sweep moons --samples 3 --tracking 1 --terminal 0 --weight-decay 0.1 "
    "--horizons 10,20 --keep step --layers 80 --tolerance 1e-10"
)
SOLVE = (
    "solve moons --samples 3 --tracking 1 --terminal 0 --weight-decay 0.1 --horizon 10 --layers 40"
)


def run(capsys, words):
    code = main(words.split())
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_rate_and_constant_are_those_of_every_horizon_and_starts_agree(capsys):
    code, out, _ = run(capsys, f"{LADDER} --json")
    assert code == 0
    found = json.loads(out)["turnpike"]
    short, long = found["rungs"]
    assert short["verdict"] == long["verdict"] == "exponential"
    assert short["fitted_rate"] == pytest.approx(long["fitted_rate"], rel=5e-3)
    assert short["fitted_constant"] == pytest.approx(long["fitted_constant"], rel=3e-2)
    assert long["fitted_rate"] == pytest.approx(long["predicted_discrete_rate"], rel=1e-3)
    (start,) = found["common_starts"]
    assert start["bound"] == pytest.approx(10 * np.exp(-long["predicted_discrete_rate"] * 5))
    assert start["holds"]
    assert start["relative_difference"] <= start["bound"]
    assert found["no_final_arc"]


def test_the_table_of_a_ladder_names_rates_and_common_starts(capsys):
    _, out, _ = run(capsys, LADDER)
    assert "exponential, predicted rate" in out
    assert "first half of T = 10 beside T = 20" in out
    assert "no final arc: yes" in out


def test_a_ladder_without_a_running_error_says_nothing_of_a_turnpike(capsys):
    _, out, _ = run(capsys, "sweep xor --samples 4 --horizons 1,2 --layers 4 --json")
    assert json.loads(out)["turnpike"] is None


@pytest.mark.parametrize("widths", ["", " --widths 4,2", " --loss distance"])
def test_a_saved_network_is_cut_where_its_error_is_within_the_tolerance(capsys, tmp_path, widths):
    whole, small = tmp_path / "whole.npz", tmp_path / "small.npz"
    assert run(capsys, f"{SOLVE}{widths} --save {whole}")[0] == 0
    code, out, _ = run(capsys, f"crop {whole} -o {small} --error-tolerance 1e-3 --json")
    assert code == 0
    found, before, after = json.loads(out), load_solution(whole), load_solution(small)
    assert found["layers"] == after.solution.problem.layers < 40
    assert after.solution.problem.horizon == pytest.approx(found["depth"])
    change = after.solution.errors[-1] - before.solution.errors[-1]
    assert change == pytest.approx(found["change"], abs=1e-13)
    assert abs(change) <= 1e-3
    kept = after.solution.trajectory.controls
    for cut, control in zip(kept, before.solution.trajectory.controls[: len(kept)], strict=True):
        np.testing.assert_array_equal(cut, control)
    # The file is sound; that its controls are not optimal on the shorter horizon is its status.
    _, _, err = run(capsys, f"check {small}")
    assert err == ""


def test_a_network_is_cut_to_the_layers_asked_for(capsys, tmp_path):
    whole, small = tmp_path / "whole.npz", tmp_path / "small.npz"
    run(capsys, f"{SOLVE} --save {whole}")
    code, out, _ = run(capsys, f"crop {whole} -o {small} --layers 7")
    assert code == 0
    assert "kept 7 of 40 layers, depth 1.75 of 10" in out
    assert load_solution(small).solution.problem.layers == 7


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--layers 3 --error-tolerance 0.1", "leave one of them out"),
        ("--layers 41", "1 to 40 layers"),
        ("--error-tolerance -1", "zero or positive"),
    ],
)
def test_a_cut_that_cannot_be_made_is_one_clear_line(capsys, tmp_path, arguments, says):
    whole = tmp_path / "whole.npz"
    run(capsys, f"{SOLVE} --save {whole}")
    try:
        code = main([*f"crop {whole} -o {tmp_path / 'small.npz'} {arguments}".split()])
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_a_network_is_not_cut_onto_itself(capsys, tmp_path):
    whole = tmp_path / "whole.npz"
    run(capsys, f"{SOLVE} --save {whole}")
    before = whole.read_bytes()
    code, _, err = run(capsys, f"crop {whole} -o {whole}")
    assert code == 2
    assert "same file" in err
    assert whole.read_bytes() == before
