"""Facts about `turnpike compare`: its report, what beats a reference, its folder, its ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from problems import cli

pytest.importorskip("torch")

PROGRAM = [sys.executable, "-m", "problems.cli"]
SMALL = "moons --samples 6 --layers 3 --repeats 2 --evaluations 60"
BEATEN = (
    "xor --samples 6 --layers 4 --weight-decay 1e-3 --repeats 1 --evaluations 200 "
    "--optimizers momentum,adam"
)
PATIENCE = 600  # s, for a process that has nothing wrong with it, on a busy machine
OPTIMIZERS = ["gradient-descent", "momentum", "sgd", "adam", "adamw", "l-bfgs"]
GAPS = [f"1e-{decade}" for decade in range(1, 9)]


@pytest.fixture
def compare(capsys, monkeypatch, tmp_path):
    """Run a comparison in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        try:
            code = cli.main(["compare", *line.split()])
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return run


def without_seconds(value):
    """The same JSON without wall times, which no two runs share."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k not in ("seconds", "timings")}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("moons --optimizers adam,sgdd", ["--optimizers", "'sgdd'", "did you mean sgd?"]),
        ("moons --optimizers adam,adam", ["--optimizers", "all different"]),
        ("moons --rates 0.1,0", ["--rates", "positive number", "'0'"]),
        ("moons --repeats 0", ["--repeats", "at least 1"]),
        ("moons --evaluations x", ["--evaluations", "whole number"]),
        ("moons --initial-scale 0", ["--initial-scale", "positive number"]),
        ("moons --plot x.gif", ["x.gif", "no animation"]),
        ("moons --save none/S", ["none does not exist"]),
        ("moons --repeat 2", ["did you mean --repeats?"]),
        ("moonz", ["did you mean 'moons'?"]),
        ("moons --hidden 3", ["--hidden is for the bottleneck field"]),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(compare, line, words):
    code, out, err = compare(line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err
    assert os.listdir() == []


def test_the_answer_is_one_json_object_about_the_reference_and_everybody(compare):
    code, out, err = compare(f"{SMALL} --json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    result = json.loads(out, parse_constant=pytest.fail)
    assert result["status"] == result["reference"]["status"] == "solved"
    assert result["reference"]["certificate"]["stationarity"] <= 1e-8
    assert [o["name"] for o in result["optimizers"]] == OPTIMIZERS
    optimum = result["reference"]["objective"]
    assert result["minima"][0]["objective"] == pytest.approx(optimum, rel=1e-9)
    for entry in result["optimizers"]:
        assert len(entry["runs"]) == 2
        gaps = [run["gap"] for run in entry["runs"]]
        for run in entry["runs"]:
            assert run["gap"] == pytest.approx((run["objective"] - optimum) / optimum, abs=1e-12)
            assert run["objective"] == pytest.approx(
                run["training_error"] + 1e-2 * run["control_energy"], rel=1e-10
            )
            assert run["evaluations"] <= 60
            polished = run["polished"]
            assert polished["objective"] <= run["objective"] * (1 + 1e-9)
            assert polished["is_reference"] is (polished["minimum"] == 0)
        assert entry["gap"]["median"] == pytest.approx(np.median(gaps))
        assert entry["gap"]["least"] == min(gaps)
        reached = [entry["evaluations_to_gap"][gap] for gap in GAPS]
        known = [count for count in reached if count is not None]
        assert known == sorted(known)
        assert None not in reached[: len(known)]
    assert set(result["winner"]["evaluations"]) == set(GAPS)
    assert result["versions"]["torch"]


def test_a_better_minimum_is_reported_first_and_takes_the_place_of_the_reference(compare):
    """SGD may end lower than the reference; of four such cases at least one must show it here.

    Which minimum a start leads to is decided by last digits where minima are many.
    """
    beaten = 0
    for seed in (8, 5, 4, 1):
        code, out, _ = compare(f"{BEATEN} --seed {seed} --json")
        result = json.loads(out)
        assert code == 0
        polished = [
            run["polished"]["objective"]
            for entry in result["optimizers"]
            for run in entry["runs"] + entry["other_polished_runs"]
        ]
        starts = [run["objective"] for run in result["second_order"]["runs"]]
        starts += result["random_starts"]["distinct_objectives"]
        least = result["reference"]["objective"]
        assert least == pytest.approx(min(polished + starts), rel=1e-6)
        assert all(run["gap"] >= -1e-9 for o in result["optimizers"] for run in o["runs"])
        is_lower = min(polished) < min(starts) * (1 - 1e-5)
        assert (result["reference_beaten"] is not None) is is_lower
        if is_lower:
            beaten += 1
            news = result["reference_beaten"]
            assert news["objective_before"] == min(starts)
            assert news["objective"] == least
            assert result["message"].startswith("THE REFERENCE WAS BEATEN by ")
            assert "polished" in result["reference"]["origin"]
            text = compare(f"{BEATEN} --seed {seed}")[1]
            assert text.startswith("THE REFERENCE WAS BEATEN by ")
            break
    assert beaten


def test_without_optimisers_there_is_still_a_reference(compare):
    code, out, _ = compare(f"{SMALL} --optimizers none")
    assert code == 0
    assert "No optimiser was run." in out
    assert "stationarity residual" in out


def test_bounds_leave_out_what_knows_no_bounds(compare):
    code, out, _ = compare(f"{SMALL} --bound 2 --optimizers adam,l-bfgs --json")
    result = json.loads(out)
    assert code == 0
    assert [o["name"] for o in result["optimizers"]] == ["adam"]
    assert "l-bfgs" in result["not_applicable"]


def test_networks_of_several_widths_are_compared_and_their_runs_are_models(compare):
    line = f"{SMALL} --widths 2,3,3,2 --rates 0.1 --repeats 1"
    code, out, _ = compare(f"{line} --optimizers adam --save S --json")
    run = json.loads(out)["optimizers"][0]["runs"][0]
    assert code == 0
    file = "S/adam-rate-0.1-seed-0.npz"
    with np.load(file) as arrays:
        assert arrays["w_0"].shape == (3, 2)
    result = json.loads(compare(f"{line} --optimizers none --model {file} --json")[1])
    assert result["model"]["objective"] == pytest.approx(run["objective"], rel=1e-12)
    assert set(result["model"]["improvements"]) == {"in full"}


def test_a_reference_that_is_not_solved_is_exit_code_1(compare):
    code, out, _ = compare(f"{SMALL} --optimizers none --max-iterations 1 --json")
    assert code == 1
    assert json.loads(out)["status"] == "iteration-limit"


def test_diverged_runs_are_in_the_table(compare):
    code, out, _ = compare(f"{SMALL} --optimizers gradient-descent --rates 0.1,1e6")
    assert code == 0
    assert "gradient-descent diverged at rate 1e+06 (2x)" in out


def test_a_rate_is_in_units_of_the_horizon_and_the_layers(compare):
    line = f"{SMALL} --optimizers gradient-descent,adam --rates 0.1 --horizon 2 --json"
    result = json.loads(compare(line)[1])
    rates = [o["rates"][0]["learning_rate"] for o in result["optimizers"]]
    assert rates == pytest.approx([0.1 / (2 * 2 / 3), 0.1 / 2])


def test_the_same_command_reads_its_files_and_another_one_is_refused(compare):
    line = f"{SMALL} --optimizers momentum,l-bfgs --rates 0.1 --save S --json"
    code, out, _ = compare(line)
    names = sorted(os.listdir("S"))
    assert code == 0
    assert names == sorted(
        ["compare.npz", "reference.npz"]
        + [f"start-seed-{seed}.npz" for seed in (0, 1)]
        + [f"momentum-rate-0.1-seed-{seed}.npz" for seed in (0, 1)]
        + [f"polished-momentum-rate-0.1-seed-{seed}.npz" for seed in (0, 1)]
        + [f"l-bfgs-seed-{seed}.npz" for seed in (0, 1)]
        + [f"polished-l-bfgs-seed-{seed}.npz" for seed in (0, 1)]
    )
    times = {name: os.stat(f"S/{name}").st_mtime_ns for name in names}
    assert compare(line)[1] == out  # wall times and all
    assert {name: os.stat(f"S/{name}").st_mtime_ns for name in names} == times
    code, out, err = compare(line.replace("--rates 0.1", "--rates 0.2"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "rates is [0.1] there, [0.2] here" in err
    with np.load("S/momentum-rate-0.1-seed-0.npz") as file:
        assert file["w"].shape == (3, 2, 2)
        assert file["history_objective"].shape == file["history_seconds"].shape
    Path("S/momentum-rate-0.1-seed-0.npz").write_bytes(b"PK")
    code, out, err = compare(line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "momentum-rate-0.1-seed-0.npz is truncated" in err
    assert cli.main(["check", "S/polished-l-bfgs-seed-0.npz", "--quiet"]) == 0


def test_the_figure_is_drawn(compare):
    assert compare(f"{SMALL} --optimizers adam --plot x.png")[0] == 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")


def start(line, folder):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*PROGRAM, "compare", *line.split()], cwd=folder, text=True, **pipes)


def wait_for(path, process):
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


LONG = (
    "moons --samples 6 --layers 3 --repeats 2 --evaluations 400 --optimizers adam --save S --json"
)


@pytest.mark.slow
def test_a_killed_and_interrupted_comparison_continues_to_the_same_result(tmp_path):
    (tmp_path / "whole").mkdir()
    out, _ = start(LONG, tmp_path / "whole").communicate(timeout=PATIENCE)
    whole = without_seconds(json.loads(out))
    killed = start(LONG, tmp_path)
    wait_for(tmp_path / "S/adam-rate-0.03-seed-0.npz", killed)
    killed.kill()
    assert killed.communicate()[0] == ""
    interrupted = start(LONG, tmp_path)
    wait_for(tmp_path / "S/adam-rate-0.1-seed-0.npz", interrupted)
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate(timeout=PATIENCE)
    assert interrupted.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
    assert "what is finished is kept in S" in err
    assert "Traceback" not in err
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "S").glob("*.npz")}
    again = start(f"{LONG} --workers 2", tmp_path)
    out, err = again.communicate(timeout=PATIENCE)
    assert (again.returncode, err) == (0, "")
    assert without_seconds(json.loads(out)) == whole
    for name, at in kept.items():
        assert (tmp_path / "S" / name).stat().st_mtime_ns == at


def test_without_pytorch_the_command_names_the_extra(compare, monkeypatch):
    for name in [n for n in sys.modules if n.startswith(("problems.torch", "problems.compar"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "problems.pytorch")
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, err = compare("moons")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "pip install 'turnpike[sgd]'" in err
