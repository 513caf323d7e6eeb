"""Facts about solution files: NumPy alone re-runs the network and finds every number again."""

import json
import math
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from problems import cli
from problems.solution_file import FORMAT_VERSION, differences, load_solution, save_solution

MAGIC = {"png": b"\x89PNG\r\n", "pdf": b"%PDF-", "svg": b"<?xml", "gif": b"GIF89a"}
SMALL = "moons --samples 5 --layers 3 --weight-decay 0.1"

# One solve for every field, loss, penalty, scheme and activation, and for what else shapes a file.
SOLVES = {
    "plain": f"solve {SMALL}",
    "outside": f"solve {SMALL} --field outside --activation sigmoid",
    "bottleneck": f"solve {SMALL} --field bottleneck --hidden 3 --activation softplus",
    "leaky": f"solve {SMALL} --field outside --activation leaky-relu",
    "gelu": f"solve {SMALL} --activation gelu --width 3",
    "sin": f"solve {SMALL} --activation sin --horizon 2.5",
    "midpoint": f"solve {SMALL} --scheme midpoint",
    "heun": f"solve {SMALL} --scheme heun --substeps 2",
    "rk4": f"solve {SMALL} --scheme rk4 --substeps 3 --field outside",
    "euler-substeps": f"solve {SMALL} --substeps 4",
    "tracking": f"solve {SMALL} --tracking 0.7 --terminal 0.4",
    "distance": "solve rings --samples 5 --layers 3 --width 3 --loss distance",
    "distance-on-the-line": f"solve {SMALL} --loss distance --tracking 0.3",
    "l1": f"solve {SMALL} --loss l1",
    "logistic": f"solve {SMALL} --loss logistic",
    "cross-entropy": f"solve {SMALL} --loss cross-entropy --tracking 0.2",
    "hinge": f"solve {SMALL} --loss hinge --tracking 1",
    "l1-penalty": f"solve {SMALL} --penalty l1",
    "h1-penalty": f"solve {SMALL} --penalty h1 --horizon 1.7",
    "bound": f"solve {SMALL} --bound 0.8",
    "trained": "solve rings --samples 5 --layers 3 --readout trained",
    "starts": f"solve {SMALL} --starts 3",
    "one-layer": "solve moons --samples 4 --layers 1",
    "unfinished": f"solve {SMALL} --max-iterations 1",
    "interpolant": f"interpolate {SMALL} --width 3",
    "interpolant-h1": f"interpolate {SMALL} --penalty h1 --horizon 2",
    "interpolant-trained": "interpolate moons --samples 3 --layers 3 --readout trained",
}
UNSOLVED = {"unfinished"}

OPTIONS = {
    "data", "target", "standardize", "samples", "seed", "field", "activation", "width", "hidden",
    "horizon", "layers", "scheme", "substeps", "loss", "terminal", "tracking", "weight_decay",
    "penalty", "bound", "readout", "starts", "method", "tolerance", "max_iterations",
    "time_limit", "workers",
}  # fmt: skip

Array = np.ndarray
Arrays = dict[str, Array]


def read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and metadata, by NumPy and json alone."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    text = arrays.pop("metadata")
    assert text.shape == ()
    return arrays, json.loads(str(text), parse_constant=pytest.fail)


def write(path: Path, arrays: Arrays, metadata: Any) -> Path:
    np.savez(path, metadata=np.array(json.dumps(metadata)), **arrays)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    """The file of one of `SOLVES`, solved once."""
    folder, made = tmp_path_factory.mktemp("solutions"), {}

    def solve(name: str) -> Path:
        if name not in made:
            made[name] = folder / f"{name}.npz"
            code = cli.main([*SOLVES[name].split(), "--save", str(made[name]), "--json"])
            assert code == (name in UNSOLVED)
        return made[name]

    return solve


@pytest.fixture
def turnpike(capsys) -> Callable[..., tuple[int, str, str]]:
    """Exit code, standard output and standard error of a command."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli.main([str(word) for word in words]), *capsys.readouterr()

    return run


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error with these words."""
    code, out, err = outcome
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for word in words:
        assert word in err


# The network, its costs and its costates in plain NumPy, from the formulas of docs/mathematics.md

ACTIVATIONS = {
    "tanh": np.tanh,
    "leaky-relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "softplus": lambda x: np.logaddexp(0, x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))) / 2,
    "sin": np.sin,
}
LOSSES = {
    "squared": lambda z, y: ((z - y) ** 2).sum(axis=1),
    "distance": lambda z, y: np.sqrt(((z - y) ** 2).sum(axis=1)),
    "l1": lambda z, y: np.abs(z - y).sum(axis=1),
    "logistic": lambda z, y: np.log(1 + np.exp(-y * z)).sum(axis=1),
    "cross-entropy": lambda z, y: np.log(np.exp(z).sum(axis=1)) - (y * z).sum(axis=1),
    "hinge": lambda z, y: np.maximum(0, 1 - y * z).sum(axis=1),
}
TABLEAUS: dict[str, tuple[list[list[float]], list[float]]] = {
    "euler": ([[]], [1]),
    "midpoint": ([[], [1 / 2]], [0, 1]),
    "heun": ([[], [1]], [1 / 2, 1 / 2]),
    "rk4": ([[], [1 / 2], [0, 1 / 2], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
}


def rate(arrays: Arrays, options: dict, k: int, x: Array) -> Array:
    """f(x, u^k)."""
    s = ACTIVATIONS[options["activation"]]
    if options["field"] == "bottleneck":
        inner = s(x @ arrays["w1"][k].T + arrays["b1"][k])
        return inner @ arrays["w2"][k].T + arrays["b2"][k]
    w, b = arrays["w"][k], arrays["b"][k]
    return s(x) @ w.T + b if options["field"] == "inside" else s(x @ w.T + b)


def error(arrays: Arrays, options: dict, x: Array) -> float:
    """E(x)."""
    outputs = x @ arrays["readout_weight"].T + arrays["readout_bias"]
    return float(LOSSES[options["loss"]](outputs, arrays["targets"]).mean())


def run_again(arrays: Arrays, options: dict) -> tuple[Array, float]:
    """States (K+1, N, D) from the inputs, and Int E dt by the same scheme."""
    inputs, substeps = arrays["inputs"], options["substeps"]
    a, b = TABLEAUS[options["scheme"]]
    h = options["horizon"] / options["layers"] / substeps
    states = [np.pad(inputs, ((0, 0), (0, options["width"] - inputs.shape[1])))]
    running = 0.0
    for k in range(options["layers"]):
        x = states[-1]
        for _ in range(substeps):
            rates: list[Array] = []
            for weights in a:
                stage = x + h * sum(c * r for c, r in zip(weights, rates, strict=True))
                running += h * b[len(rates)] * error(arrays, options, stage)
                rates.append(rate(arrays, options, k, stage))
            x = x + h * sum(c * r for c, r in zip(b, rates, strict=True))
        states.append(x)
    return np.array(states), running


def controls(arrays: Arrays, options: dict) -> Array:
    """(K, m)."""
    names = ("w1", "b1", "w2", "b2") if options["field"] == "bottleneck" else ("w", "b")
    return np.hstack([arrays[name].reshape(options["layers"], -1) for name in names])


def penalty(arrays: Arrays, options: dict) -> float:
    """Int R(u) dt."""
    u, h = controls(arrays, options), options["horizon"] / options["layers"]
    if options["penalty"] == "l1":
        return float(h * np.abs(u).sum())
    rough = (np.diff(u, axis=0) ** 2).sum() / h if options["penalty"] == "h1" else 0.0
    return float(h * (u**2).sum() + rough)


# What is in a file


@pytest.mark.parametrize("name", SOLVES)
def test_a_file_holds_the_arrays_of_the_contract_in_float64(saved, name):
    arrays, metadata = read(saved(name))
    options = metadata["options"]
    layers, width, hidden = options["layers"], options["width"], options["hidden"]
    (samples, inputs), (_, outputs) = arrays["inputs"].shape, arrays["targets"].shape
    shapes = {
        "times": (layers + 1,),
        "states": (layers + 1, samples, width),
        "costates": (layers + 1, samples, width),
        "inputs": (options["samples"], inputs),
        "targets": (samples, outputs),
        "readout_weight": (outputs, width),
        "readout_bias": (outputs,),
    }
    if options["field"] == "bottleneck":
        shapes |= {
            "w1": (layers, hidden, width),
            "b1": (layers, hidden),
            "w2": (layers, width, hidden),
            "b2": (layers, width),
        }
    else:
        shapes |= {"w": (layers, width, width), "b": (layers, width)}
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert {array.dtype for array in arrays.values()} == {np.dtype("float64")}
    assert all(np.isfinite(array).all() for array in arrays.values())


@pytest.mark.parametrize("name", SOLVES)
def test_the_metadata_tells_version_options_result_and_data(saved, name):
    _, metadata = read(saved(name))
    assert set(metadata) == {"format_version", "options", "result", "dataset"}
    assert metadata["format_version"] == FORMAT_VERSION == 1
    assert set(metadata["options"]) >= OPTIONS
    words = SOLVES[name].split()
    assert metadata["options"]["command"] == words[0]
    assert metadata["options"]["data"] == words[1]
    for option, value in zip(words[2::2], words[3::2], strict=True):
        found = metadata["options"][option[2:].replace("-", "_")]
        assert found == type(found)(value)


def test_the_metadata_holds_the_printed_json_object(tmp_path, turnpike):
    path = tmp_path / "x.npz"
    _, out, _ = turnpike(*SOLVES["interpolant"].split(), "--json", "--save", path)
    assert read(path)[1]["result"] == json.loads(out)


def test_class_labels_and_column_names_are_remembered(saved):
    assert read(saved("cross-entropy"))[1]["dataset"] == {
        "name": "moons",
        "classes": [["lower"], ["upper"]],
        "input_names": ["x1", "x2"],
        "target_names": ["class=lower", "class=upper"],
    }


@pytest.mark.parametrize("name", SOLVES)
def test_numpy_alone_runs_the_network_again(saved, name):
    arrays, metadata = read(saved(name))
    states, running = run_again(arrays, metadata["options"])
    np.testing.assert_allclose(states, arrays["states"], rtol=0, atol=1e-13 * np.abs(states).max())
    assert running == pytest.approx(metadata["result"]["running_error"], rel=1e-12, abs=1e-14)
    times = np.linspace(0, metadata["options"]["horizon"], metadata["options"]["layers"] + 1)
    np.testing.assert_allclose(arrays["times"], times, rtol=1e-14)


@pytest.mark.parametrize("name", SOLVES)
def test_numpy_alone_finds_the_costs_again(saved, name):
    arrays, metadata = read(saved(name))
    options, result = metadata["options"], metadata["result"]
    squares = (controls(arrays, options) ** 2).sum()
    energy = squares * options["horizon"] / options["layers"]
    assert result["control_energy"] == pytest.approx(energy, rel=1e-12)
    final = error(arrays, options, arrays["states"][-1])
    assert result["training_error"] == pytest.approx(final, rel=1e-12, abs=1e-15)
    readout = 0.0
    if options["readout"] == "trained":
        readout = (arrays["readout_weight"] ** 2).sum() + (arrays["readout_bias"] ** 2).sum()
    if options["command"] == "interpolate":
        objective = penalty(arrays, options) + readout
    else:
        objective = options["terminal"] * final + options["tracking"] * result["running_error"]
        objective += options["weight_decay"] * (penalty(arrays, options) + readout)
    assert result["objective"] == pytest.approx(objective, rel=1e-12)


def test_costates_solve_the_adjoint_equation_backwards_from_the_gradient_of_the_error(saved):
    """p^K = 2 (x^K - y) / N on the read-out, p^k = p^{k+1} + h f_x(x^k, u^k)^T p^{k+1}."""
    arrays, metadata = read(saved("plain"))
    states, h = arrays["states"], metadata["options"]["horizon"] / metadata["options"]["layers"]
    costate = np.zeros_like(states[-1])
    costate[:, :1] = 2 * (states[-1][:, :1] - arrays["targets"]) / len(costate)
    np.testing.assert_allclose(arrays["costates"][-1], costate, rtol=1e-13)
    for k in reversed(range(metadata["options"]["layers"])):
        slope = 1 - np.tanh(states[k]) ** 2
        costate = costate + h * slope * (costate @ arrays["w"][k])
        np.testing.assert_allclose(arrays["costates"][k], costate, rtol=1e-12, atol=1e-15)


def test_the_control_of_a_solved_file_is_stationary(saved):
    """2 lambda h w^k + h sum_i p_i^{k+1} tanh(x_i^k)^T = 0, and the same for b with 1."""
    arrays, metadata = read(saved("plain"))
    decay = metadata["options"]["weight_decay"]
    for k in range(metadata["options"]["layers"]):
        costate, features = arrays["costates"][k + 1], np.tanh(arrays["states"][k])
        np.testing.assert_allclose(-2 * decay * arrays["w"][k], costate.T @ features, atol=1e-8)
        np.testing.assert_allclose(-2 * decay * arrays["b"][k], costate.sum(axis=0), atol=1e-8)


def test_multipliers_are_minus_the_final_costates_of_an_interpolant(saved):
    """p^K is the gradient of the multiplier times the constraint, one row per sample."""
    arrays, metadata = read(saved("interpolant"))
    multipliers = np.array(metadata["result"]["multipliers"])
    assert multipliers.shape == arrays["targets"].shape
    final = arrays["costates"][-1]
    np.testing.assert_allclose(np.abs(final[:, :1]), np.abs(multipliers), rtol=1e-12)
    np.testing.assert_array_equal(final[:, 1:], 0)


@pytest.mark.parametrize("name", ["interpolant", "interpolant-h1", "interpolant-trained"])
def test_an_interpolant_meets_its_targets(saved, name):
    arrays, _ = read(saved(name))
    outputs = arrays["states"][-1] @ arrays["readout_weight"].T + arrays["readout_bias"]
    np.testing.assert_allclose(outputs, arrays["targets"], atol=1e-8)


def test_the_fixed_readout_is_the_first_coordinates(saved):
    arrays, _ = read(saved("distance"))
    np.testing.assert_array_equal(arrays["readout_weight"], np.eye(3))
    np.testing.assert_array_equal(arrays["readout_bias"], np.zeros(3))


# A file is checked


@pytest.mark.parametrize("name", SOLVES)
def test_check_finds_every_number_of_an_honest_file_again(saved, turnpike, name):
    code, out, err = turnpike("check", saved(name), "--json")
    assert (code, err) == (name in UNSOLVED, "")
    fresh, stored = json.loads(out), read(saved(name))[1]["result"]
    assert fresh["differences"] == []
    numbers = ("objective", "training_error", "running_error", "control_energy")
    for key in numbers:
        assert fresh[key] == pytest.approx(stored[key], rel=1e-10, abs=1e-10)
    assert fresh["certificate"] == {
        key: None if value is None else pytest.approx(value, rel=1e-10, abs=1e-10)
        for key, value in stored["certificate"].items()
    }
    if name not in UNSOLVED:
        assert fresh["status"] == stored["status"] == "solved"


def test_check_prints_a_table_for_people(saved, turnpike):
    code, out, err = turnpike("check", saved("plain"))
    assert (code, err) == (0, "")
    assert "stationarity residual" in out
    assert out.startswith("status")


PERTURBED = {
    "w": "objective is",
    "b": "objective is",
    "states": "dynamics is",
    "costates": "costates differ",
    "targets": "objective is",
    "inputs": "refined_training_error is",
}


@pytest.mark.parametrize("name", ["plain", "interpolant"])
@pytest.mark.parametrize("array", PERTURBED)
def test_one_perturbed_number_is_caught_and_named(saved, turnpike, tmp_path, name, array):
    arrays, metadata = read(saved(name))
    arrays[array].flat[arrays[array].size // 2] += 1e-4
    code, out, err = turnpike("check", write(tmp_path / "x.npz", arrays, metadata))
    assert code == 1
    assert out.startswith("status")
    found = "constraints is" if (name, array) == ("interpolant", "targets") else PERTURBED[array]
    assert found in err
    assert all(line.startswith("turnpike check: ") for line in err.splitlines())


@pytest.mark.parametrize("array", ["states", "costates", "w", "b"])
def test_every_element_of_an_array_counts(saved, tmp_path, array):
    arrays, metadata = read(saved("one-layer"))
    for index in range(arrays[array].size):
        changed = arrays[array].copy()
        changed.flat[index] += 1e-5
        path = write(tmp_path / "x.npz", {**arrays, array: changed}, metadata)
        assert differences(load_solution(path)), f"{array}.flat[{index}]"


@pytest.mark.parametrize(
    ("name", "array"),
    [("bottleneck", array) for array in ("w1", "b1", "w2", "b2")]
    + [("trained", array) for array in ("w", "b", "readout_weight", "readout_bias")],
)
def test_a_perturbed_weight_of_any_name_is_caught(saved, turnpike, tmp_path, name, array):
    arrays, metadata = read(saved(name))
    arrays[array].flat[0] += 1e-4
    code, _, err = turnpike("check", write(tmp_path / "x.npz", arrays, metadata))
    assert code == 1
    assert "objective is" in err


@pytest.mark.parametrize(
    "key",
    [
        ("objective",),
        ("training_error",),
        ("running_error",),
        ("control_energy",),
        ("certificate", "stationarity"),
        ("certificate", "dynamics"),
        ("certificate", "constraints"),
        ("certificate", "min_reduced_hessian_eigenvalue"),
        ("certificate", "energy_drift"),
        ("certificate", "refined_training_error"),
        ("certificate", "step_times_lipschitz"),
    ],
)
@pytest.mark.parametrize("change", [1e-6, None])
def test_a_forged_number_of_the_result_is_caught_and_named(saved, turnpike, tmp_path, key, change):
    arrays, metadata = read(saved("plain"))
    *groups, last = key
    place = metadata["result"]
    for group in groups:
        place = place[group]
    place[last] = None if change is None else place[last] + change
    code, _, err = turnpike("check", write(tmp_path / "x.npz", arrays, metadata))
    assert code == 1
    assert err.count("\n") == 1
    assert f"{last} is" in err
    assert "by the arrays" in err


def test_a_forged_status_is_caught(saved, turnpike, tmp_path):
    arrays, metadata = read(saved("unfinished"))
    metadata["result"]["status"] = "solved"
    code, _, err = turnpike("check", write(tmp_path / "x.npz", arrays, metadata))
    assert code == 1
    assert "solved by the metadata" in err


def test_a_bound_that_the_controls_break_is_caught(saved, turnpike, tmp_path):
    arrays, metadata = read(saved("bound"))
    metadata["options"]["bound"] = 0.7
    code, _, err = turnpike("check", write(tmp_path / "x.npz", arrays, metadata))
    assert code == 1
    assert "constraints is" in err


def test_differences_of_the_json_object_are_those_on_standard_error(saved, turnpike, tmp_path):
    arrays, metadata = read(saved("plain"))
    metadata["result"]["objective"] += 1
    path = write(tmp_path / "x.npz", arrays, metadata)
    _, out, err = turnpike("check", path, "--json")
    assert [f"turnpike check: {path}: {words}." for words in json.loads(out)["differences"]] == (
        err.splitlines()
    )


# A file is refused


@pytest.mark.parametrize("command", ["check", "show"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.9999])
def test_a_truncated_file_is_refused(saved, turnpike, tmp_path, command, share):
    content, path = saved("plain").read_bytes(), tmp_path / "x.npz"
    path.write_bytes(content[: int(share * len(content))])
    words = [command, path] + (["-o", tmp_path / "x.png"] if command == "show" else [])
    refused(turnpike(*words), f"turnpike {command}", str(path), "truncated")
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_file_that_is_not_there_is_refused(turnpike, tmp_path, command):
    words = [command, tmp_path / "x.npz"] + (["-o", "x.png"] if command == "show" else [])
    refused(turnpike(*words), "there is no such file")


@pytest.mark.parametrize("content", [b"time,state\n0,1\n", b"\x00" * 100, b"PK\x03\x04"])
def test_a_foreign_file_is_refused(turnpike, tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    refused(turnpike("check", tmp_path / "x.npz"), "truncated, or no solution file")


def test_a_foreign_archive_is_refused(turnpike, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    refused(turnpike("check", tmp_path / "x.npz"), "it has no metadata")


def test_a_data_file_is_not_taken_for_a_solution(turnpike, tmp_path):
    np.savez(tmp_path / "x.npz", inputs=np.ones((3, 2)), targets=np.ones(3))
    refused(turnpike("check", tmp_path / "x.npz"), "it has no metadata")


def test_a_pickled_object_is_refused_unread(saved, turnpike, tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    arrays, metadata = read(saved("plain"))
    arrays["w"] = np.array([Trap()], dtype=object)
    refused(turnpike("check", write(tmp_path / "x.npz", arrays, metadata)), "truncated, or no")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "3"])
def test_metadata_that_is_no_json_object_is_refused(saved, turnpike, tmp_path, text):
    arrays, _ = read(saved("plain"))
    np.savez(tmp_path / "x.npz", metadata=np.array(text), **arrays)
    refused(turnpike("check", tmp_path / "x.npz"), "truncated, or no solution file")


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_format_version_is_refused(saved, turnpike, tmp_path, version):
    arrays, metadata = read(saved("plain"))
    path = write(tmp_path / "x.npz", arrays, {**metadata, "format_version": version})
    refused(turnpike("check", path), f"format version {version}, expected 1")


@pytest.mark.parametrize("name", ["plain", "bottleneck"])
def test_a_missing_array_is_refused_by_name(saved, turnpike, tmp_path, name):
    arrays, metadata = read(saved(name))
    for missing in arrays:
        rest = {name: array for name, array in arrays.items() if name != missing}
        path = write(tmp_path / "x.npz", rest, metadata)
        refused(turnpike("check", path), f"'{missing}' is missing")


@pytest.mark.parametrize("name", ["plain", "bottleneck"])
@pytest.mark.parametrize("change", ["shorter", "deeper", "flat"])
def test_an_array_of_the_wrong_shape_is_refused(saved, turnpike, tmp_path, name, change):
    arrays, metadata = read(saved(name))
    for wrong, array in arrays.items():
        changed = {"shorter": array[:-1], "deeper": array[None], "flat": array.sum()}[change]
        path = write(tmp_path / "x.npz", {**arrays, wrong: changed}, metadata)
        words = (
            "rows"
            if (wrong, change) in {("inputs", "shorter"), ("targets", "shorter")}
            else "shape"
        )
        refused(turnpike("check", path), "no complete solution file", words)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_array_with_a_number_that_is_not_finite_is_refused(saved, turnpike, tmp_path, value):
    arrays, metadata = read(saved("plain"))
    for wrong, array in arrays.items():
        changed = array.copy()
        changed.flat[-1] = value
        path = write(tmp_path / "x.npz", {**arrays, wrong: changed}, metadata)
        refused(turnpike("check", path), wrong, "finite")


def test_a_missing_option_or_part_of_the_metadata_is_refused_by_name(saved, turnpike, tmp_path):
    arrays, metadata = read(saved("plain"))
    for part in ("options", "result", "dataset"):
        rest = {name: value for name, value in metadata.items() if name != part}
        refused(turnpike("check", write(tmp_path / "x.npz", arrays, rest)), f"'{part}' is missing")
    for option in ("field", "activation", "width", "horizon", "layers", "scheme", "loss", "bound"):
        rest = {name: value for name, value in metadata["options"].items() if name != option}
        path = write(tmp_path / "x.npz", arrays, {**metadata, "options": rest})
        refused(turnpike("check", path), f"'{option}' is missing")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("field", "mine", "the field 'mine', which only its author has"),
        ("activation", "swish", "the activation 'swish', which only its author has"),
        ("scheme", "radau", "the scheme 'radau', which only its author has"),
        ("loss", "huber", "the loss 'huber', which only its author has"),
        ("penalty", "l0", "the penalty 'l0', which only its author has"),
        ("layers", 4, "shape"),
        ("width", 3, "shape"),
        ("width", 1, "at least the number of inputs"),
        ("horizon", 2.0, "times"),
        ("horizon", -1.0, "horizon must be positive"),
        ("weight_decay", -1.0, "weight-decay must be zero or positive"),
    ],
)
def test_options_that_do_not_fit_the_arrays_are_refused(
    saved, turnpike, tmp_path, option, value, words
):
    arrays, metadata = read(saved("plain"))
    metadata["options"][option] = value
    refused(turnpike("check", write(tmp_path / "x.npz", arrays, metadata)), words)


# Loading and saving


@pytest.mark.parametrize("name", ["bottleneck", "distance", "trained", "interpolant"])
def test_saving_what_was_loaded_changes_no_array_and_no_option(saved, tmp_path, name):
    loaded, path = load_solution(saved(name)), tmp_path / "x.npz"
    save_solution(path, loaded.solution, loaded.options)
    (arrays, metadata), (again, others) = read(saved(name)), read(path)
    assert set(again) == set(arrays)
    for key, array in arrays.items():
        tolerance = 1e-12 * max(1.0, np.abs(array).max()) if key == "costates" else 0.0
        np.testing.assert_allclose(again[key], array, rtol=0, atol=tolerance)
    assert others["options"] == metadata["options"]
    assert others["dataset"] == metadata["dataset"]
    assert differences(load_solution(path)) == []


def test_a_loaded_solution_answers_for_new_inputs(saved):
    arrays, metadata = read(saved("bottleneck"))
    points = np.array([[0.3, -0.2], [1.0, 2.0], [0.0, 0.0]])
    states, _ = run_again(
        {**arrays, "inputs": points, "targets": np.zeros((3, 1))}, metadata["options"]
    )
    loaded = load_solution(saved("bottleneck")).solution
    np.testing.assert_allclose(loaded.propagate(points), states, atol=1e-14)
    np.testing.assert_allclose(loaded.outputs(points), states[-1][:, :1], atol=1e-14)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(saved, tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    path.write_bytes(b"the old file")

    def stop(file, **_):
        file.write(b"half of the new one")
        raise KeyboardInterrupt

    solution = load_solution(saved("plain")).solution
    monkeypatch.setattr(np, "savez_compressed", stop)
    with pytest.raises(KeyboardInterrupt):
        save_solution(path, solution)
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]
    assert path.read_bytes() == b"the old file"


@pytest.mark.parametrize("there_before", [True, False])
def test_a_killed_write_leaves_the_old_file_or_none(saved, tmp_path, there_before):
    path = tmp_path / "x.npz"
    if there_before:
        path.write_bytes(b"the old file")
    program = """
import os, signal, sys
import numpy as np
from problems.solution_file import load_solution, save_solution
def die(file, **_):
    file.write(b"half of the new one")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
solution = load_solution(sys.argv[1]).solution
np.savez_compressed = die
save_solution(sys.argv[2], solution)
"""
    words = [sys.executable, "-c", program, str(saved("plain")), str(path)]
    assert subprocess.run(words, timeout=60).returncode == -signal.SIGKILL
    assert path.exists() == there_before
    if there_before:
        assert path.read_bytes() == b"the old file"


@pytest.mark.parametrize("place", ["missing/x.npz", "."])
def test_an_unwritable_path_is_an_error_with_a_remedy(saved, tmp_path, place):
    solution = load_solution(saved("plain")).solution
    with pytest.raises(ValueError, match=r"cannot write .*; (make it first|give the name)"):
        save_solution(tmp_path / place, solution)


@pytest.mark.parametrize("suffix", MAGIC)
def test_show_draws_a_saved_solution(saved, turnpike, tmp_path, suffix):
    figure = tmp_path / f"x.{suffix}"
    code, out, err = turnpike("show", saved("plain"), "-o", figure)
    assert (code, out, err) == (0, f"wrote {figure}\n", "")
    assert figure.read_bytes().startswith(MAGIC[suffix])


@pytest.mark.parametrize("place", ["x.bmp", "x", "missing/x.png", "."])
def test_show_refuses_a_figure_that_it_cannot_write(saved, turnpike, tmp_path, place):
    refused(turnpike("show", saved("plain"), "-o", f"{tmp_path}/{place}"), "turnpike show")
    assert list(tmp_path.iterdir()) == []
