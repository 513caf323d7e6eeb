"""Facts about the command line: what it accepts, what it answers, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from problems import cli
from problems.datasets import DATASETS

PROGRAM = [sys.executable, "-c", "import sys; from problems.cli import main; sys.exit(main())"]
MAGIC = {"png": b"\x89PNG\r\n", "gif": b"GIF89a"}  # test_solution_file.py draws the others
SMALL = "--samples 5 --layers 3 --weight-decay 0.1"
# Far from converged after minutes: next to no weight decay, and a tolerance below rounding.
LONG = "spirals --samples 20 --layers 12 --width 3 --weight-decay 1e-12 --tolerance 1e-13"

KEYS = {
    "status",
    "objective",
    "training_error",
    "running_error",
    "control_energy",
    "certificate",
    "starts",
    "method",
    "iterations",
    "seconds",
    "timings",
    "versions",
}
CERTIFICATE_KEYS = {
    "stationarity",
    "dynamics",
    "constraints",
    "min_reduced_hessian_eigenvalue",
    "energy_drift",
    "refined_training_error",
    "step_times_lipschitz",
}
UNTIMED = {"seconds": 0, "timings": {}}  # no two runs share their times
STARTS_KEYS = {"tried", "solved", "distinct_objectives", "best_found"}
# Beyond the object that docs promise: our words, the optimiser's, and the rounding of kinks.
ADDED_KEYS = {"message", "backend_status", "method_reason"}
ADDED_KEYS |= {"target", "width", "width_reason", "notes"}  # how the data were read
ADDED_CERTIFICATE_KEYS = {"smoothing", "untested"}

LABELLED = "a,b,kind\n0,1,dog\n1,0,cat\n1,1,dog\n0,0,cat\n"
THREE = "a,b,c,kind\n0,1,0,dog\n1,0,0,cat\n1,1,1,eel\n0,0,1,cat\n"
CROSSED = "a,b,kind\n1,1,yes\n-1,-1,yes\n1,-1,no\n-1,1,no\n0.2,0.1,no\n"
NUMBERED = "a,b,y\n0.5,1,0.3\n-1,0.2,-0.6\n0.1,-0.8,0.1\n"


class Outcome(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int | str | None
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out, parse_constant=pytest.fail)

    def refused(self, *words: str) -> None:
        """Exit code 2, nothing on standard output, one line on standard error with these words."""
        assert self.code == 2
        assert self.out == ""
        self.said(*words)

    def said(self, *words: str) -> None:
        """One line on standard error with these words."""
        assert self.err.count("\n") == 1
        assert self.err.startswith("turnpike")
        assert self.err.endswith("\n")
        for word in words:
            assert word in self.err


Turnpike = Callable[..., Outcome]


@pytest.fixture
def turnpike(capsys, monkeypatch, tmp_path) -> Turnpike:
    """Run a command in an empty folder; further arguments are files to write there first."""
    monkeypatch.chdir(tmp_path)

    def run(line: str, **files: str) -> Outcome:
        for name, text in files.items():
            Path(f"{name}.csv").write_text(text)
        try:
            code = cli.main(line.split())
        except SystemExit as stop:
            code = stop.code
        return Outcome(code, *capsys.readouterr())

    return run


def arrays_of(path: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def metadata_of(path: str) -> dict:
    return json.loads(str(arrays_of(path)["metadata"][()]))


# The request is wrong


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["expected a command", "datasets, solve, interpolate, sweep, compare, check, show"]),
        ("solv moons", ["unknown command 'solv'", "did you mean solve?"]),
        ("swepe moons", ["unknown command 'swepe'", "did you mean sweep?"]),
        ("nonsense", ["unknown command 'nonsense'", "choose from"]),
        ("solve", ["required: DATA"]),
        ("check", ["required: FILE.npz"]),
        ("show", ["required: FILE.npz"]),
        ("show x.npz", ["required: -o/--output"]),
        ("datasets --jsn", ["--jsn", "did you mean --json?"]),
        ("datasets moons", ["unrecognized argument moons"]),
        ("solve moons --sampels 5", ["--sampels", "did you mean --samples?"]),
        ("solve moons --sampels=5", ["--sampels", "did you mean --samples?"]),
        ("solve moons --sample 5", ["--sample", "did you mean --samples?"]),
        ("solve moons circles", ["unrecognized argument circles"]),
        ("solve moons --horizon", ["--horizon", "expected one argument"]),
        ("solve mooons", ["unknown data set 'mooons'", "did you mean 'moons'?"]),
        ("solve Moons", ["unknown data set 'Moons'", "did you mean 'moons'?"]),
        ("solve zzz", ["unknown data set 'zzz'", ".csv or .npz", "moons, circles"]),
        ("solve none.csv", ["'none.csv' not found"]),
        ("solve none.npz", ["'none.npz' not found"]),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(turnpike, line, words):
    turnpike(line).refused(*words)


@pytest.mark.parametrize("command", ["solve", "interpolate"])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--samples 0", ["--samples", "whole number", "'0'"]),
        ("--samples 1", ["--samples", "at least 2", "'1'"]),
        ("--samples 2.5", ["--samples", "whole number", "'2.5'"]),
        ("--samples many", ["--samples", "whole number", "'many'"]),
        ("--seed -1", ["--seed", "at least 0", "'-1'"]),
        ("--field insid", ["unknown field 'insid'", "did you mean inside?", "bottleneck"]),
        ("--activation than", ["unknown activation 'than'", "did you mean tanh?", "relu"]),
        ("--activation q", ["unknown activation 'q'", "choose from tanh, relu"]),
        ("--width 0", ["--width", "at least 1", "'0'"]),
        ("--width 1", ["width must be at least the number of inputs, 2, got 1"]),
        ("--hidden 3", ["--hidden is for the bottleneck field", "inside"]),
        ("--field bottleneck --hidden 0", ["--hidden", "at least 1", "'0'"]),
        ("--horizon 0", ["--horizon", "positive number", "'0'"]),
        ("--horizon -1", ["--horizon", "positive number", "'-1'"]),
        ("--horizon nan", ["--horizon", "positive number", "'nan'"]),
        ("--horizon inf", ["--horizon", "positive number", "'inf'"]),
        ("--horizon long", ["--horizon", "positive number", "'long'"]),
        ("--layers 0", ["--layers", "at least 1", "'0'"]),
        ("--layers 1.5", ["--layers", "whole number", "'1.5'"]),
        ("--scheme rk5", ["unknown scheme 'rk5'", "did you mean rk4?"]),
        ("--substeps 0", ["--substeps", "at least 1", "'0'"]),
        ("--loss squarred", ["unknown loss 'squarred'", "did you mean squared?"]),
        ("--terminal -1", ["--terminal", "zero or positive", "'-1'"]),
        ("--tracking -0.5", ["--tracking", "zero or positive", "'-0.5'"]),
        ("--tracking inf", ["--tracking", "zero or positive", "'inf'"]),
        ("--weight-decay -1", ["--weight-decay", "zero or positive", "'-1'"]),
        ("--weight-decay=-1e-2", ["--weight-decay", "zero or positive", "'-1e-2'"]),
        ("--weight-decay nan", ["--weight-decay", "zero or positive", "'nan'"]),
        ("--penalty l3", ["unknown penalty 'l3'", "did you mean l2?"]),
        ("--bound 0", ["--bound", "positive number", "'0'"]),
        ("--bound inf", ["--bound", "positive number", "'inf'"]),
        ("--readout train", ["unknown read-out 'train'", "did you mean trained?"]),
        ("--starts 0", ["--starts", "at least 1", "'0'"]),
        ("--method shoting", ["unknown method 'shoting'", "did you mean shooting?"]),
        ("--tolerance 0", ["--tolerance", "positive number", "'0'"]),
        ("--tolerance 1", ["--tolerance", "between 0 and 1", "'1'"]),
        ("--max-iterations 0", ["--max-iterations", "at least 1", "'0'"]),
        ("--time-limit 0", ["--time-limit", "positive number", "'0'"]),
        ("--time-limit -3", ["--time-limit", "positive number", "'-3'"]),
        ("--workers 0", ["--workers", "at least 1", "'0'"]),
        ("--target y", ["target columns came for the named data set 'moons'"]),
    ],
)
def test_an_option_out_of_its_range_is_refused_in_one_line(turnpike, command, option, words):
    outcome = turnpike(f"{command} moons {option} --save x.npz --json")
    outcome.refused(f"turnpike {command}: ", *words)
    assert os.listdir() == []


@pytest.mark.parametrize(
    "line",
    [
        "solve moons --dask localhost:8786",
        "solve moons --plot x.html",
        "show x.npz -o x.html",
    ],
)
def test_what_comes_later_is_refused_and_says_so(turnpike, line):
    turnpike(line).refused("with a later version")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--save missing/x.npz", ["cannot write missing/x.npz", "folder missing does not exist"]),
        ("--save .", ["cannot write .", "it is a folder"]),
        ("--save data.csv/x.npz", ["cannot write data.csv/x.npz"]),
        ("--plot missing/x.png", ["cannot write missing/x.png", "folder missing does not exist"]),
        ("--plot x.jpg", ["'x.jpg' ends in .jpg", ".png, .pdf or .svg"]),
        ("--plot x", ["'x' ends in no suffix"]),
    ],
)
def test_an_unwritable_path_is_refused_before_anything_is_solved(
    turnpike, monkeypatch, option, words
):
    monkeypatch.setattr(cli, "train", lambda *_, **__: pytest.fail("solved before it was checked"))
    turnpike(f"solve data.csv {option}", data=NUMBERED).refused(*words)
    assert os.listdir() == ["data.csv"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_closed_to_writing_is_refused(turnpike):
    os.mkdir("closed", mode=0o500)
    turnpike(f"solve moons {SMALL} --save closed/x.npz").refused("permission denied")
    turnpike(f"solve moons {SMALL} --plot closed/x.png").refused("closed to writing")


@pytest.mark.parametrize("command", ["solve", "interpolate"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,y\n1,2,3\n2,nan,4\n", ["line 3 (row 2), column 'b'", "'nan'", "finite"]),
        ("a,b,y\n1,2,inf\n2,3,4\n", ["line 2 (row 1), column 'y'", "'inf'", "finite"]),
        ("a,b,y\n1,-inf,3\n", ["line 2 (row 1), column 'b'", "'-inf'", "finite"]),
        ("a,b,y\n1,2,3\n2,3\n", ["line 3", "2 cells found, 3 expected"]),
        ("a,b,y\n1,2,3,4\n", ["line 2", "4 cells found, 3 expected"]),
        ("a,b,y\n1,,3\n", ["line 2 (row 1), column 'b'", "empty", "--missing"]),
        ("a,b,y\n1,x,3\n", ["column 'b'", "'x' is not a number"]),
        ("", ["is empty", "header"]),
        ("a,b,y\n", ["a header but no rows"]),
        ("3,1,2\n4,5,6\n", ["line 1: '3, 1, 2'", "header row is missing", "--no-header"]),
        ("a,a,y\n1,2,3\n", ["more than once ('a')"]),
        ("y\n1\n", ["one column, 'y'"]),
        ('a,b,y\n1,"2,3\n', ["not a CSV record", "quotes"]),
    ],
)
def test_an_unusable_csv_file_is_refused_in_one_line(turnpike, command, text, words):
    turnpike(f"{command} data.csv --layers 3", data=text).refused("data.csv", *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--target z", ["has no column 'z'", "'a', 'b', 'y'"]),
        ("--target B", ["has no column 'B'", "did you mean 'b'?"]),
        ("--target y,", ["has no column ''"]),
        ("--target y,y", ["target column 'y' came 2 times"]),
        ("--target a,b,y", ["all 3 columns are targets"]),
        (
            "--target b,y --width 1",
            ["first 2 coordinates of a state of width 1", "trained read-out"],
        ),
        ("--samples 2", ["samples = 2 came with the file 'data.csv'", "leave it out"]),
        ("--loss logistic", ["real-valued", "needs classes", "squared, distance, l1"]),
        ("--loss cross-entropy", ["real-valued", "needs classes", "squared, distance, l1"]),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(turnpike, options, words):
    turnpike(f"solve data.csv {options} --layers 3", data=NUMBERED).refused(*words)


def test_three_classes_do_not_fit_into_two_coordinates(turnpike):
    outcome = turnpike(f"solve rings {SMALL} --width 2")
    outcome.refused("first 3 coordinates of a state of width 2")


@pytest.mark.parametrize("name", ["rings", "gaussians"])
def test_more_classes_than_inputs_are_solved_at_the_defaults(turnpike, name):
    assert turnpike(f"solve {name} {SMALL} --save x.npz").code == 0
    assert metadata_of("x.npz")["options"]["width"] == 3


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"inputs": np.zeros((3, 2))}, ["no array 'targets'"]),
        ({"inputs": np.zeros((3, 2, 2)), "targets": np.zeros(3)}, ["(3, 2, 2)", "reshape"]),
        ({"inputs": np.zeros((3, 2)), "targets": np.zeros(4)}, ["(4,)", "expected (3,)"]),
        ({"inputs": np.zeros((0, 2)), "targets": np.zeros(0)}, ["no rows"]),
        ({"inputs": np.full((1, 2), np.nan), "targets": np.zeros(1)}, ["row 1, column 'x1'"]),
        ({"inputs": np.ones((2, 2)), "targets": np.array([0, np.inf])}, ["row 2, column 'y1'"]),
        ({"inputs": np.ones((2, 2)) * 1j, "targets": np.zeros(2)}, ["complex128", "real numbers"]),
        ({"inputs": np.array([["a", "b"]]), "targets": np.zeros(1)}, ["real numbers"]),
    ],
)
def test_an_unusable_npz_data_file_is_refused_in_one_line(turnpike, arrays, words):
    np.savez("data.npz", **arrays)
    turnpike("solve data.npz --layers 3").refused("data.npz", *words)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"no archive at all\n"])
def test_a_foreign_npz_data_file_is_refused_in_one_line(turnpike, content):
    Path("data.npz").write_bytes(content)
    turnpike("solve data.npz").refused("is not a .npz file of plain arrays")


def test_a_truncated_npz_data_file_is_refused_in_one_line(turnpike):
    np.savez("whole.npz", inputs=np.ones((3, 2)), targets=np.zeros(3))
    Path("data.npz").write_bytes(Path("whole.npz").read_bytes()[:-40])
    turnpike("solve data.npz").refused("is not a .npz file of plain arrays (truncated")


def test_a_npz_data_file_takes_no_target_option(turnpike):
    np.savez("data.npz", inputs=np.ones((3, 2)), targets=np.zeros(3))
    turnpike("solve data.npz --target y").refused("a .npz file has its targets in the array")


def test_a_constant_input_is_shifted_to_zero_with_a_note(turnpike):
    line = "solve data.csv --standardize --layers 3 --save x.npz"
    outcome = turnpike(line, data="a,b,y\n1,2,3\n1,3,4\n")
    assert outcome.code == 0
    outcome.said("note: constant input columns were shifted to 0, not scaled: 'a'.")
    np.testing.assert_array_equal(arrays_of("x.npz")["inputs"], [[0, -1], [0, 1]])


def test_a_constant_class_is_refused(turnpike):
    outcome = turnpike("solve data.csv --loss logistic", data="a,b,y\n1,2,3\n1,3,3\n")
    outcome.refused("target column 'y' is constant")


# Data on the edge of what can be solved


def test_one_sample_is_solved_with_a_note(turnpike):
    outcome = turnpike("solve data.csv --layers 3 --json", data="a,b,y\n1,2,3\n")
    assert outcome.code == 0
    assert outcome.json["status"] == "solved"
    outcome.said("note: ", "one sample only")


def test_one_sample_is_interpolated_with_a_note(turnpike):
    outcome = turnpike("interpolate data.csv --layers 3 --json", data="a,b,y\n1,2,3\n")
    assert outcome.code == 0
    assert outcome.json["training_error"] < 1e-12
    outcome.said("note: ", "one sample only")


@pytest.mark.parametrize("command", ["solve", "interpolate"])
def test_constant_targets_are_solved_with_a_note(turnpike, command):
    outcome = turnpike(f"{command} data.csv --layers 3", data="a,b,y\n1,2,3\n0,1,3\n2,0,3\n")
    assert outcome.code == 0
    outcome.said("note: target column 'y' is constant")


def test_equal_inputs_with_different_targets_are_solved_but_not_interpolated(turnpike):
    data = "a,b,y\n1,2,3\n0,1,3\n1,2,4\n"
    assert turnpike("solve data.csv --layers 3", data=data).code == 0
    outcome = turnpike("interpolate data.csv --layers 3")
    outcome.refused("infeasible", "rows 1 and 3", "equal inputs but different targets")


def test_equal_samples_are_interpolated_once(turnpike):
    twice = turnpike("interpolate data.csv --layers 3 --json", data=NUMBERED + "0.5,1,0.3\n")
    once = turnpike("interpolate data.csv --layers 3 --json", data=NUMBERED)
    assert twice.json["training_error"] < 1e-12
    assert once.json["training_error"] < 1e-12


def test_a_flow_on_the_line_cannot_reverse_the_order(turnpike):
    data = "a,y\n5,5\n0,1\n1,0\n"
    outcome = turnpike("interpolate data.csv --layers 3", data=data)
    outcome.refused("infeasible", "rows 2 and 3", "0 < 1", "1 >= 0", "second dimension")
    assert turnpike("interpolate data.csv --layers 3 --width 2").code == 0


def test_points_on_the_line_cannot_be_merged(turnpike):
    outcome = turnpike("interpolate data.csv --layers 3", data="a,y\n0,1\n1,1\n")
    outcome.refused("infeasible", "rows 1 and 2", "1 >= 1")


def test_tanh_outside_needs_a_horizon_as_long_as_the_way(turnpike):
    data = "a,y\n0,2.5\n1,4\n"
    command = "interpolate data.csv --layers 4 --field outside --json --save x.npz"
    outcome = turnpike(command, data=data)
    assert outcome.code == 1
    assert outcome.json["status"] == "infeasible"
    outcome.said("infeasible", "row 2 must move by 3", "tanh", "a horizon above 3")
    assert "a horizon above 3" in outcome.json["message"]
    assert metadata_of("x.npz")["result"]["status"] == "infeasible"
    assert turnpike(f"{command} --horizon 4").json["status"] == "solved"


def test_sigmoid_outside_never_moves_backwards(turnpike):
    command = "interpolate data.csv --layers 4 --field outside --activation sigmoid"
    outcome = turnpike(command, data="a,y\n0,-1\n1,2\n")
    assert outcome.code == 1
    outcome.said("row 1 must move by -1", "sigmoid", "another activation or field")


# What is printed


def test_the_json_object_has_the_keys_of_the_contract(turnpike):
    found = turnpike(f"solve moons {SMALL} --json").json
    assert set(found) - ADDED_KEYS == KEYS
    assert set(found["certificate"]) - ADDED_CERTIFICATE_KEYS == CERTIFICATE_KEYS
    assert set(found["starts"]) == STARTS_KEYS
    assert {"python", "turnpike", "casadi", "numpy", "scipy"} <= set(found["versions"])
    for name in KEYS - {"status", "certificate", "starts", "method", "timings", "versions"}:
        assert isinstance(found[name], int | float)


def test_multipliers_come_with_interpolate_only_one_row_per_sample(turnpike):
    found = turnpike(f"interpolate gaussians {SMALL} --width 3 --loss logistic --json").json
    assert set(found) - ADDED_KEYS == KEYS | {"multipliers"}
    assert np.shape(found["multipliers"]) == (5, 3)
    assert found["objective"] == pytest.approx(found["control_energy"], rel=1e-14)
    assert found["training_error"] is not None


TURNPIKE_KEYS = {
    *("verdict", "reason", "predicted_rates", "predicted_discrete_rate"),
    *("fitted_rate", "fitted_rate_interval", "needed_depth"),
}


def test_the_turnpike_report_comes_with_tracking_only(turnpike):
    asked = "solve moons --samples 3 --horizon 12 --layers 60 --weight-decay 0.1 --terminal 0"
    found = turnpike(f"{asked} --tracking 1 --json").json
    assert set(found) - ADDED_KEYS == KEYS | {"turnpike"}
    turnpike_found = found["turnpike"]
    assert set(turnpike_found) >= TURNPIKE_KEYS
    assert turnpike_found["verdict"] == "exponential"
    low, high = turnpike_found["fitted_rate_interval"]
    assert low < turnpike_found["fitted_rate"] < high
    lines = turnpike(f"{asked} --tracking 1").out.splitlines()
    rows = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines if "  " in line)
    assert rows["turnpike"] == "exponential"
    assert float(rows["fitted rate"].split()[0]) == pytest.approx(turnpike_found["fitted_rate"])


def test_the_table_for_people_says_what_the_json_object_says(turnpike):
    found = turnpike(f"solve moons {SMALL} --json").json
    lines = turnpike(f"solve moons {SMALL}").out.splitlines()
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in lines if "  " in line)
    assert rows["status"] == "solved"
    assert float(rows["objective J"]) == pytest.approx(found["objective"], rel=1e-9)
    assert float(rows["training error E(x(T))"]) == pytest.approx(found["training_error"], rel=1e-9)
    assert lines[-1] == found["message"]


def test_the_certificate_of_a_solution_is_within_the_tolerance(turnpike):
    found = turnpike(f"solve moons {SMALL} --tolerance 1e-6 --json").json
    assert found["certificate"]["stationarity"] <= 1e-6
    assert found["certificate"]["dynamics"] <= 1e-6
    assert found["certificate"]["min_reduced_hessian_eigenvalue"] > 0


def test_a_command_repeats_its_answer_and_another_seed_changes_it(turnpike):
    first, again, other = (
        turnpike(f"solve moons {SMALL} --json --seed {seed}").json for seed in (3, 3, 4)
    )
    assert {**first, **UNTIMED} == {**again, **UNTIMED}
    assert first["objective"] != other["objective"]


def test_datasets_lists_every_name(turnpike):
    outcome = turnpike("datasets")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()[1:]] == list(DATASETS)
    found = turnpike("datasets --json").json
    assert list(found) == list(DATASETS)
    assert found["moons"]["inputs"] == 2
    assert found["rings"]["task"] == "3 classes"


@pytest.mark.parametrize("command", ["", "datasets ", "solve ", "interpolate ", "check ", "show "])
def test_every_command_has_help(turnpike, command):
    outcome = turnpike(f"{command}--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"turnpike {command}".strip() in outcome.out


# How it ends


@pytest.mark.parametrize("loss", ["squared", "distance"])  # the second is rounded off
def test_an_iteration_limit_ends_with_1_and_keeps_the_point(turnpike, loss):
    options = f"{SMALL} --width 3 --loss {loss} --max-iterations 1 --json --save x.npz"
    outcome = turnpike(f"solve rings {options}")
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.json["status"] == "iteration-limit"
    assert outcome.json["iterations"] == 1
    assert outcome.json["starts"]["solved"] == 0
    assert outcome.json["starts"]["distinct_objectives"] == []
    assert metadata_of("x.npz")["result"] == outcome.json
    checked = turnpike("check x.npz --json")
    assert (checked.code, checked.err) == (1, "")
    assert checked.json["differences"] == []


def test_a_time_limit_ends_with_1_and_keeps_the_point(turnpike):
    outcome = turnpike(f"solve {LONG} --time-limit 0.2 --json --save x.npz")
    assert outcome.code == 1
    assert outcome.json["status"] == "time-limit"
    assert metadata_of("x.npz")["result"] == outcome.json


def test_the_time_limit_holds_for_all_starts_together(turnpike):
    found = turnpike(f"solve {LONG} --time-limit 0.3 --starts 3 --json").json
    assert found["starts"]["tried"] == 3
    assert found["status"] == "time-limit"
    assert found["seconds"] < 3


def test_a_tolerance_below_rounding_is_not_called_solved(turnpike):
    outcome = turnpike(f"solve moons {SMALL} --tolerance 1e-300 --json")
    assert outcome.code == 1
    assert outcome.json["status"] == "inaccurate"


def interrupting(start: int, iteration: int) -> Callable:
    """`train`, with Ctrl-C pressed at an iteration of a start, both counted from 0."""
    begun = -1

    def press(at) -> None:
        nonlocal begun
        begun += at.number == 0
        if (begun, at.number) == (start, iteration):
            signal.raise_signal(signal.SIGINT)

    return lambda problem, **options: train(problem, **{**options, "progress": press})


train = cli.train


@pytest.mark.parametrize("loss", ["squared", "distance"])  # the second is rounded off
def test_an_interrupted_solve_ends_with_130_and_keeps_the_point(turnpike, monkeypatch, loss):
    monkeypatch.setattr(cli, "train", interrupting(0, 3))
    outcome = turnpike(f"solve rings {SMALL} --width 3 --loss {loss} --json --save x.npz")
    assert (outcome.code, outcome.err) == (130, "")
    assert outcome.json["status"] == "interrupted"
    assert outcome.json["starts"]["tried"] == 1
    assert metadata_of("x.npz")["result"] == outcome.json


def test_an_interrupt_ends_a_solve_with_kinks_wherever_it_comes(turnpike, monkeypatch):
    """On every smoothed problem, and where the exact one is tried in between."""
    line = f"solve moons {SMALL} --field outside --activation leaky-relu --json"
    calls: list[int] = []

    def pressing(call: int) -> Callable:
        def press(at) -> None:
            calls.append(at.number)
            if len(calls) == call:
                signal.raise_signal(signal.SIGINT)

        return lambda problem, **options: train(problem, **{**options, "progress": press})

    monkeypatch.setattr(cli, "train", pressing(0))
    assert turnpike(line).code == 0
    firsts = [call for call, number in enumerate(calls, start=1) if number == 0]
    assert len(firsts) == 4  # widths 0.1, 0.03, 0.009, and the exact one
    for first in firsts:
        calls.clear()
        monkeypatch.setattr(cli, "train", pressing(first))
        outcome = turnpike(line)
        assert outcome.code == 130
        assert outcome.json["status"] == "interrupted"
        assert len(calls) == first


def test_an_interrupt_ends_the_series_of_starts_and_keeps_the_solved_ones(turnpike, monkeypatch):
    alone = turnpike(f"solve moons {SMALL} --json").json
    monkeypatch.setattr(cli, "train", interrupting(1, 2))
    outcome = turnpike(f"solve moons {SMALL} --starts 4 --json --save x.npz")
    assert outcome.code == 130
    assert outcome.json["starts"]["tried"] == 2
    assert outcome.json["starts"]["solved"] == 1
    assert outcome.json["objective"] == alone["objective"]
    assert metadata_of("x.npz")["result"] == outcome.json


def test_an_interrupt_before_the_first_solve_says_that_nothing_is_kept(turnpike, monkeypatch):
    def press(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "train", press)
    outcome = turnpike(f"solve moons {SMALL} --save x.npz")
    assert (outcome.code, outcome.out) == (130, "")
    outcome.said("interrupted before there was anything to keep")


@pytest.mark.parametrize("suffix", MAGIC)
def test_plot_draws_the_solution(turnpike, suffix):
    outcome = turnpike(f"solve moons {SMALL} --plot x.{suffix}")
    assert (outcome.code, outcome.err) == (0, "")
    assert Path(f"x.{suffix}").read_bytes().startswith(MAGIC[suffix])
    assert os.listdir() == [f"x.{suffix}"]


def test_a_figure_that_fails_loses_nothing_computed(turnpike, monkeypatch):
    def fail(*_, **__):
        raise ValueError("the pen is\n  broken")

    monkeypatch.setattr(cli, "save_figure", fail)
    outcome = turnpike(f"solve moons {SMALL} --json --save x.npz --plot x.png")
    assert outcome.code == 2
    assert outcome.json["status"] == "solved"
    outcome.said("turnpike solve: the figure could not be drawn: the pen is broken")
    assert metadata_of("x.npz")["result"] == outcome.json
    assert os.listdir() == ["x.npz"]


def test_a_file_that_fails_loses_nothing_computed(turnpike, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    outcome = turnpike(f"solve moons {SMALL} --json --save x.npz --plot x.png")
    assert outcome.code == 2
    assert outcome.json["status"] == "solved"
    outcome.said("cannot write x.npz", "No space left on device")
    assert os.listdir() == ["x.png"]


# What the options do


def test_three_starts_are_the_solves_of_consecutive_seeds(turnpike):
    line = "solve data.csv --layers 3 --loss logistic --json"
    single = [turnpike(f"{line} --seed {seed}", data=CROSSED).json for seed in (2, 3, 4)]
    assert all(one["status"] == "solved" for one in single)
    found = turnpike(f"{line} --seed 2 --starts 3").json
    best, again, other = sorted(one["objective"] for one in single)
    assert again == pytest.approx(best, rel=1e-6)  # as close as that is the same minimum
    assert other > 1.1 * best
    assert found["starts"] == {
        "tried": 3,
        "solved": 3,
        "distinct_objectives": pytest.approx([best, other], rel=1e-12),
        "best_found": 2,
    }
    assert found["objective"] == found["starts"]["distinct_objectives"][0]


def test_more_starts_add_up_and_find_nothing_worse(turnpike):
    line = "solve data.csv --layers 3 --loss logistic --json --save x.npz"
    few = turnpike(f"{line} --starts 3", data=CROSSED).json
    more = turnpike(f"{line} --starts 6").json
    assert more == metadata_of("x.npz")["result"]
    starts, objectives = more["starts"], more["starts"]["distinct_objectives"]
    assert starts["tried"] == 6
    assert 1 <= starts["best_found"] <= starts["solved"] <= 6
    assert starts["best_found"] + len(objectives) - 1 <= starts["solved"]
    assert all(b > a * (1 + 1e-6) for a, b in pairwise(objectives))
    assert more["objective"] == objectives[0] <= few["objective"] * (1 + 1e-6)


def test_the_table_tells_of_several_starts(turnpike):
    found = turnpike(f"solve moons {SMALL} --starts 3 --json").json["starts"]
    out = turnpike(f"solve moons {SMALL} --starts 3").out
    assert re.search(rf"starts tried, solved +3, {found['solved']}\n", out)
    assert re.search(rf"distinct minima +{len(found['distinct_objectives'])}: ", out)
    assert re.search(rf"best minimum found +{found['best_found']} times\n", out)


def test_two_workers_find_what_one_finds(turnpike):
    options = f"{SMALL} --starts 4 --json"
    one = turnpike(f"solve moons {options} --save one.npz")
    two = turnpike(f"solve moons {options} --save two.npz --workers 2")
    assert (one.code, two.code) == (0, 0)
    assert {**one.json, **UNTIMED} == {**two.json, **UNTIMED}
    arrays, others = arrays_of("one.npz"), arrays_of("two.npz")
    for name in set(arrays) - {"metadata"}:
        np.testing.assert_array_equal(arrays[name], others[name])


def test_quiet_changes_nothing_else(turnpike):
    loud, quiet = turnpike(f"solve moons {SMALL}"), turnpike(f"solve moons {SMALL} --quiet")
    assert [line for line in loud.out.splitlines() if "seconds" not in line] == [
        line for line in quiet.out.splitlines() if "seconds" not in line
    ]


def test_target_names_several_columns_in_the_order_given(turnpike):
    assert (
        turnpike(
            "solve data.csv --target y,a --width 2 --layers 3 --save x.npz", data=NUMBERED
        ).code
        == 0
    )
    arrays, metadata = arrays_of("x.npz"), metadata_of("x.npz")
    np.testing.assert_array_equal(arrays["inputs"], [[1], [0.2], [-0.8]])
    np.testing.assert_array_equal(arrays["targets"], [[0.3, 0.5], [-0.6, -1], [0.1, 0.1]])
    assert metadata["dataset"]["target_names"] == ["y", "a"]
    assert metadata["dataset"]["input_names"] == ["b"]
    assert metadata["options"]["target"] == ["y", "a"]


def test_text_is_a_class_beside_a_number_in_the_order_given(turnpike):
    outcome = turnpike(
        "solve data.csv --target kind,b --width 2 --layers 3 --save x.npz", data=LABELLED
    )
    assert outcome.code == 0
    np.testing.assert_array_equal(arrays_of("x.npz")["targets"], [[1, 1], [-1, 0], [1, 1], [-1, 0]])
    assert metadata_of("x.npz")["dataset"]["classes"] == [["cat", "dog"], []]


@pytest.mark.parametrize("loss", ["squared", "logistic", "hinge"])
def test_two_classes_are_signs_in_sorted_order(turnpike, loss):
    assert (
        turnpike(f"solve data.csv --layers 3 --loss {loss} --save x.npz", data=LABELLED).code == 0
    )
    np.testing.assert_array_equal(arrays_of("x.npz")["targets"], [[1], [-1], [1], [-1]])


def test_integers_are_numbers_under_squared_and_classes_under_logistic(turnpike):
    data = "a,b,y\n0,1,7\n1,0,10\n1,1,7\n"
    assert turnpike("solve data.csv --layers 3 --save x.npz", data=data).code == 0
    np.testing.assert_array_equal(arrays_of("x.npz")["targets"], [[7], [10], [7]])
    assert turnpike("solve data.csv --layers 3 --loss logistic --save x.npz").code == 0
    np.testing.assert_array_equal(arrays_of("x.npz")["targets"], [[-1], [1], [-1]])
    assert metadata_of("x.npz")["dataset"]["classes"] == [["7", "10"]]


@pytest.mark.parametrize(
    ("data", "loss", "low", "width"),
    [
        (LABELLED, "cross-entropy", 0, 2),
        (THREE, "cross-entropy", 0, 3),
        (THREE, "squared", 0, 3),
        (THREE, "logistic", -1, 3),
        (THREE, "hinge", -1, 3),
    ],
)
def test_more_classes_are_one_hot_columns(turnpike, data, loss, low, width):
    outcome = turnpike(
        f"solve data.csv --layers 3 --loss {loss} --weight-decay 0.1 --save x.npz", data=data
    )
    assert outcome.code == 0
    classes = [line.split(",")[-1] for line in data.split()[1:]]
    hot = [[1 if name == label else low for label in sorted(set(classes))] for name in classes]
    assert len(hot[0]) == width
    np.testing.assert_array_equal(arrays_of("x.npz")["targets"], hot)


def test_a_npz_file_is_solved_like_the_same_csv_file(turnpike):
    rows = np.array([line.split(",") for line in NUMBERED.split()[1:]], dtype=float)
    np.savez("data.npz", inputs=rows[:, :2], targets=rows[:, 2])
    table = turnpike("solve data.csv --layers 3 --json", data=NUMBERED).json
    found = turnpike("solve data.npz --layers 3 --json").json
    assert found["objective"] == table["objective"]


def test_a_npz_file_may_hold_text_classes(turnpike):
    np.savez("data.npz", inputs=np.eye(3), targets=np.array(["dog", "cat", "dog"]))
    outcome = turnpike("solve data.npz --layers 3 --loss hinge --save x.npz")
    assert outcome.code == 0
    np.testing.assert_array_equal(arrays_of("x.npz")["targets"], [[1], [-1], [1]])


def test_standardize_shifts_and_scales_the_inputs_and_remembers_how(turnpike):
    assert turnpike("solve data.csv --layers 3 --standardize --save x.npz", data=NUMBERED).code == 0
    inputs, options = arrays_of("x.npz")["inputs"], metadata_of("x.npz")["options"]
    rows = np.array([line.split(",") for line in NUMBERED.split()[1:]], dtype=float)
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(inputs.std(axis=0), 1, rtol=1e-14)
    raw = inputs * options["input_scale"] + options["input_mean"]
    np.testing.assert_allclose(raw, rows[:, :2], rtol=1e-14)
    assert options["standardize"] is True


@pytest.mark.parametrize("command", ["solve", "interpolate"])
def test_a_bound_holds_for_every_control(turnpike, command):
    bound = 0.5  # without one the largest is 0.55

    def largest(options: str) -> float:
        line = f"{command} data.csv --layers 6 --weight-decay 1e-4 --save x.npz {options}"
        assert turnpike(line, data=NUMBERED).code == 0
        return max(np.abs(arrays_of("x.npz")[name]).max() for name in ("w", "b"))

    assert largest("") > bound
    assert bound * (1 - 1e-6) < largest(f"--bound {bound}") <= bound


def test_a_trained_readout_serves_more_targets_than_coordinates(turnpike):
    outcome = turnpike(f"solve rings {SMALL} --width 2 --readout trained --save x.npz --json")
    assert outcome.code == 0
    arrays = arrays_of("x.npz")
    assert arrays["readout_weight"].shape == (3, 2)
    outputs = arrays["states"][-1] @ arrays["readout_weight"].T + arrays["readout_bias"]
    error = ((outputs - arrays["targets"]) ** 2).sum(axis=1).mean()
    assert outcome.json["training_error"] == pytest.approx(error, rel=1e-12)
    assert np.abs(arrays["readout_bias"]).max() > 0


def test_the_hidden_width_of_the_bottleneck_is_the_width_unless_given(turnpike):
    for option, hidden in (("", 2), ("--hidden 3", 3)):
        line = f"solve moons {SMALL} --field bottleneck {option} --save x.npz"
        assert turnpike(line).code == 0
        assert arrays_of("x.npz")["w1"].shape == (3, hidden, 2)
        assert metadata_of("x.npz")["options"]["hidden"] == hidden


# In a process of its own


def start(line: str, folder: Path, **streams) -> subprocess.Popen:
    return subprocess.Popen([*PROGRAM, *line.split()], cwd=folder, text=True, **streams)


def finish(process: subprocess.Popen) -> Outcome:
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out, err)


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def test_json_is_all_there_is_on_standard_output_and_there_is_no_bar_without_a_terminal(tmp_path):
    outcome = finish(start(f"solve moons {SMALL} --starts 2 --json", tmp_path, **PIPES))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.count("\n") == 1
    assert outcome.json["status"] == "solved"


def test_a_wrong_request_ends_with_2_and_no_traceback(tmp_path):
    finish(start("solve mooons", tmp_path, **PIPES)).refused("did you mean 'moons'?")


def test_an_unsolved_problem_ends_with_1(tmp_path):
    process = start(f"solve moons {SMALL} --max-iterations 1 --json", tmp_path, **PIPES)
    outcome = finish(process)
    assert (outcome.code, outcome.err) == (1, "")
    assert outcome.json["status"] == "iteration-limit"


class Terminal:
    """A terminal for the standard error of a process; what it shows is read as it comes."""

    def __init__(self) -> None:
        fcntl, pty, struct, termios = map(
            pytest.importorskip, ("fcntl", "pty", "struct", "termios")
        )
        self.screen, self.end = pty.openpty()
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        self.text, self.shows = "", threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        try:
            while chunk := os.read(self.screen, 4096):
                self.text += chunk.decode(errors="replace")
                if "iteration" in self.text:
                    self.shows.set()
        except OSError:  # Linux's word for a terminal that is closed
            pass

    def close(self) -> str:
        """What it has shown; its process has ended."""
        os.close(self.end)
        self.reader.join(timeout=10)
        os.close(self.screen)
        return self.text


def test_ctrl_c_during_a_long_solve_with_a_bar_on_the_terminal_keeps_the_point(tmp_path):
    terminal = Terminal()
    line = f"solve {LONG} --time-limit 50 --json --save x.npz"
    process = start(line, tmp_path, stdout=subprocess.PIPE, stderr=terminal.end)
    seen = terminal.shows.wait(timeout=40)
    process.send_signal(signal.SIGINT)
    outcome = finish(process)
    shown = terminal.close()
    assert seen
    assert "infeasibility" in shown
    assert "Traceback" not in shown
    assert outcome.code == 130
    assert outcome.json["status"] == "interrupted"
    assert metadata_of(str(tmp_path / "x.npz"))["result"] == outcome.json
    assert os.listdir(tmp_path) == ["x.npz"]


def test_quiet_shows_no_bar_on_the_terminal(tmp_path):
    terminal = Terminal()
    line = f"solve moons {SMALL} --quiet"
    process = start(line, tmp_path, stdout=subprocess.PIPE, stderr=terminal.end)
    outcome = finish(process)
    assert terminal.close() == ""
    assert outcome.code == 0
