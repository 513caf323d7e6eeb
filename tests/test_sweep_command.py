"""Facts about `turnpike sweep`: its answers, its folder, and how it is stopped and continued."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from problems import cli

PROGRAM = [sys.executable, "-m", "problems.cli"]
SMALL = "moons --samples 4 --layers 4 --weight-decay 0.1"
PATIENCE = 600  # s, for a process that has nothing wrong with it, on a busy machine
FOURTEEN = "1,2,4,8,16,32,64,128,256,512,1024,2048,4096,8192"
LADDER = f"moons --samples 20 --layers 20 --horizons {FOURTEEN}"


@pytest.fixture
def sweep(capsys, monkeypatch, tmp_path):
    """Run a sweep in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        try:
            code = cli.main(["sweep", *line.split()])
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
        ("moons", ["--horizons LIST or --weight-decays LIST", "neither"]),
        ("moons --horizons 1,2 --weight-decays 1,2", ["both"]),
        ("moons --horizons 1,2 --horizon 3", ["--horizon came with --horizons"]),
        ("moons --weight-decays 1,2 --weight-decay 3", ["--weight-decay came with"]),
        ("moons --weight-decays 1,2 --keep step", ["--keep step is for --horizons"]),
        ("moons --horizons 1,,2", ["--horizons", "positive number", "''"]),
        ("moons --horizons 1,0", ["--horizons", "positive number", "'0'"]),
        ("moons --horizons 1,1.0", ["--horizons", "all different"]),
        ("moons --horizons 1,2 --keep layer", ["did you mean layers?"]),
        ("moons --horizons 1,1.234 --keep step", ["no whole number of layers"]),
        ("moons --horizons 1,2 --weight-decay 0", ["positive weight-decay"]),
        ("moons --horizons 1,2 --held-out 1", ["--held-out", "between 0 and 1"]),
        ("moons --horizons 1,2 --plot x.gif", ["no animation"]),
        ("moons --horizons 1,2 --save none/S", ["none does not exist"]),
        ("mooons --horizons 1,2", ["did you mean 'moons'?"]),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(sweep, line, words):
    code, out, err = sweep(line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in err
    assert os.listdir() == []


def test_the_answer_is_one_json_object_with_rungs_interpolation_fits_and_checks(sweep):
    code, out, err = sweep(f"{SMALL} --horizons 100,1,10,1000 --starts 2 --json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    result = json.loads(out, parse_constant=pytest.fail)
    assert [rung["horizon"] for rung in result["rungs"]] == [1, 10, 100, 1000]
    for rung in result["rungs"]:
        assert rung["status"] == "solved"
        assert rung["certificate"]["stationarity"] <= 1e-8
        assert rung["training_error"] <= rung["error_bound"]
        assert 0 <= rung["held_out_accuracy"] <= 1
        assert rung["lipschitz_sampled"] <= rung["lipschitz_bound"]
    found = result["interpolation"]
    last = result["rungs"][-1]
    limit = found["predicted_error_constant"]
    assert last["training_error"] * last["horizon"] ** 2 == pytest.approx(limit, rel=0.01)
    multipliers = np.array(found["multipliers"])
    assert limit == pytest.approx(0.1**2 * 4 * (multipliers**2).sum() / 4, rel=1e-12)
    assert set(result["fits"]) == {"training_error", "norm_gap", "control_distance"}
    assert result["checks"]["consistent"]


def test_a_ladder_in_the_weight_decay_shows_what_it_keeps(sweep):
    code, out, _ = sweep(f"{SMALL.split(' --weight')[0]} --weight-decays 0.1,1e-3,1e-5 --quiet")
    assert code == 0
    assert "fixed: horizon 1, layers 4" in out
    assert "training_error / lambda^2" in out


def test_with_equal_steps_the_network_deepens(sweep):
    code, out, _ = sweep(f"{SMALL} --horizons 1,2 --keep step --json")
    result = json.loads(out)
    assert code == 0
    assert [rung["layers"] for rung in result["rungs"]] == [4, 8]
    assert "another network" in result["checks"]["not_applicable"]
    assert result["checks"]["value_function_concave"] is None


def test_a_loss_without_minimum_claims_no_limit(sweep):
    code, out, _ = sweep(f"{SMALL} --loss logistic --horizons 1,10,100")
    assert code == 0
    assert "the theorem does not apply because the infimum of the logistic loss" in out
    assert "margin/|v|" in out


def test_a_bounded_field_is_recognised_as_outside_the_theorem(sweep):
    code, out, _ = sweep(f"{SMALL} --field outside --horizons 1,2")
    assert code == 0
    assert "the field is not homogeneous in the control" in out
    assert "use a horizon above" in out


def test_samples_that_are_held_out_are_not_trained_on(sweep):
    Path("points.csv").write_text("a,b,y\n" + "".join(f"{i},{i % 3},{i / 9}\n" for i in range(9)))
    code, out, _ = sweep("points.csv --layers 3 --horizons 1,2 --held-out 0.34 --json")
    assert code == 0
    result = json.loads(out)
    assert len(result["interpolation"]["multipliers"]) == 6
    assert result["rungs"][0]["held_out_error"] > 0


def test_the_same_command_reads_its_files_and_another_one_is_refused(sweep):
    line = f"{SMALL} --horizons 1,10 --save S --json"
    code, out, _ = sweep(line)
    names = sorted(os.listdir("S"))
    assert code == 0
    assert {"sweep.npz", "rung-00.npz", "rung-01.npz", "interpolation.npz"} <= set(names)
    times = {name: os.stat(f"S/{name}").st_mtime_ns for name in names}
    assert sweep(line)[1] == out  # wall times and all
    assert {name: os.stat(f"S/{name}").st_mtime_ns for name in names} == times
    for other, word in (
        (line.replace("1,10", "1,20"), "horizons is [1.0, 10.0] there, [1.0, 20.0] here"),
        (line + " --starts 2", "starts is 1 there, 2 here"),
        (line.replace("samples 4", "samples 6"), "samples is 4 there, 6 here"),
    ):
        code, out, err = sweep(other)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "belongs to another request" in err
        assert word in err
    assert cli.main(["check", "S/rung-01.npz", "--quiet"]) == 0


def test_a_folder_of_other_things_and_a_damaged_file_are_refused(sweep):
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("x")
    Path("file").write_text("x")
    line = f"{SMALL} --horizons 1,2 --save"
    assert "holds other files, such as notes.txt" in sweep(f"{line} mine")[2]
    assert "it is a file" in sweep(f"{line} file")[2]
    assert sweep(f"{line} S")[0] == 0
    Path("S/rung-01.npz").write_bytes(Path("S/rung-01.npz").read_bytes()[:500])
    code, out, err = sweep(f"{line} S")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "rung-01.npz is truncated" in err


def test_the_figure_is_drawn(sweep):
    assert sweep(f"{SMALL} --horizons 1,10,100 --plot x.png")[0] == 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")


# In a process of its own: 14 horizons, 20 samples, 2 states, 20 layers


def start(line, folder, **streams):
    return subprocess.Popen([*PROGRAM, "sweep", *line.split()], cwd=folder, text=True, **streams)


def wait_for(path, process):
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    process = start(f"{LADDER} --json --save S", folder, stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    repairs = sorted(path.name for path in (folder / "S").glob("restart-*.npz"))
    return without_seconds(json.loads(out)), repairs


PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.mark.slow
@pytest.mark.parametrize("during", ["the rungs", "the repairs"])
def test_a_killed_ladder_resumes_after_its_finished_rungs_with_the_same_result(
    tmp_path, uninterrupted, during
):
    whole, repairs = uninterrupted
    rung = "rung-04.npz" if during == "the rungs" else repairs[0]
    process = start(f"{LADDER} --json --save S", tmp_path, **PIPES)
    wait_for(tmp_path / "S" / rung, process)
    process.kill()
    assert process.communicate()[0] == ""
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "S").glob("*.npz")}
    assert rung in kept
    again = start(f"{LADDER} --json --save S", tmp_path, **PIPES)
    out, err = again.communicate(timeout=PATIENCE)
    assert (again.returncode, err) == (0, "")
    assert without_seconds(json.loads(out)) == whole
    for name, at in kept.items():
        assert (tmp_path / "S" / name).stat().st_mtime_ns == at


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_rungs_and_the_same_command_continues(tmp_path, uninterrupted):
    process = start(f"{LADDER} --json --save S", tmp_path, **PIPES)
    wait_for(tmp_path / "S" / "rung-05.npz", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    result = json.loads(out)
    assert process.returncode == 130
    assert "rungs are kept in S" in err
    assert "Traceback" not in err
    assert result["status"] == "interrupted"
    assert 6 <= len(result["rungs"]) < 14
    again = start(f"{LADDER} --json --save S", tmp_path, **PIPES)
    out, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0
    assert without_seconds(json.loads(out)) == uninterrupted[0]


@pytest.mark.slow
def test_a_long_ladder_shows_its_progress_on_a_terminal_only(tmp_path):
    fcntl, pty, struct, termios = map(pytest.importorskip, ("fcntl", "pty", "struct", "termios"))
    screen, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    shown = []

    def read():
        try:
            while chunk := os.read(screen, 4096):
                shown.append(chunk.decode(errors="replace"))
        except OSError:  # Linux's word for a terminal that is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    process = start(LADDER, tmp_path, stdout=subprocess.PIPE, stderr=end)
    out, _ = process.communicate(timeout=PATIENCE)
    os.close(end)
    reader.join(timeout=10)
    os.close(screen)
    text = "".join(shown)
    assert process.returncode == 0
    assert "rung-05" in text
    assert "/14" in text
    assert "consistent" in out
