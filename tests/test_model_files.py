"""Files of models: what each format gives back, and that no file runs what is written in it."""

import io
import json
import os
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from problems import cli
from problems.datasets import encode, load
from problems.learning import LearningProblem
from problems.model_arrays import decisions_of_model

torch = pytest.importorskip("torch")

COMMAND = "compare xor --samples 4 --layers 2 --optimizers none --repeats 1 --model"


@pytest.fixture(scope="module")
def problem():
    data = encode(load("xor", samples=4, seed=0), "squared")
    return LearningProblem(data, layers=2)


@pytest.fixture(scope="module")
def weights(problem):
    rng = np.random.default_rng(0)
    return {"w": rng.standard_normal((2, 2, 2)), "b": rng.standard_normal((2, 2))}


def expected_of(problem, weights):
    controls = [{name: u[k] for name, u in weights.items()} for k in range(2)]
    return problem.decisions(controls, *problem.readout(np.zeros(0)))


class Trace:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


# Files that run what their author wrote, if they are unpickled


def state_with(trace):
    return {"w": torch.zeros(2, 2, 2), "b": torch.zeros(2, 2), "note": trace}


def write_pt(path, trace):
    torch.save(state_with(trace), path)


def write_checkpoint(path, trace):
    torch.save({"state_dict": {"w": torch.zeros(2, 2, 2)}, "optimizer": trace}, path)


def write_legacy_pt(path, trace):
    torch.save(state_with(trace), path, _use_new_zipfile_serialization=False)


def write_bare_pickle(path, trace):
    path.write_bytes(pickle.dumps(trace))


def write_tar(path, trace):
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(trace)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_script_archive(path, trace):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"model/{name}", pickle.dumps(trace))
        archive.writestr("model/version", "3\n")


def write_program(path, trace):
    """A program of torch.export whose example inputs are an object of the author's."""
    draft = path.with_suffix(".draft.pt2")
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(3, 2),))
    torch.export.save(program, draft)
    saved = io.BytesIO()
    torch.save((((trace,), {}),), saved)
    with zipfile.ZipFile(draft) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            is_input = "sample_inputs" in name
            new.writestr(name, saved.getvalue() if is_input else old.read(name))
    draft.unlink()


def write_object_array(path, trace):
    np.savez(path, w=np.zeros((2, 2, 2)), b=np.array([trace], dtype=object))


def write_bare_array(path):
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


HOSTILE = [
    ("model.pt", write_pt),
    ("model.pth", write_checkpoint),
    ("model.pt", write_legacy_pt),
    ("model.pt", write_bare_pickle),
    ("model.pt", write_tar),
    ("model.pt", write_script_archive),
    ("model.pt2", write_program),
    ("model.pt", write_program),  # under a name that is read
    ("model.npz", write_program),
    ("model.npz", write_object_array),
    ("model.npz", write_bare_pickle),
    ("model.safetensors", write_bare_pickle),
    ("model.safetensors", write_pt),
]


@pytest.mark.parametrize(("name", "write"), HOSTILE)
def test_a_file_that_would_run_code_is_refused_in_one_line_and_nothing_runs(
    tmp_path, capsys, monkeypatch, name, write
):
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    # PyTorch's own switch for unpickling everything must not reach this program.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "ran"
    write(tmp_path / name, Trace(trace))
    assert not trace.exists()
    code = cli.main([*COMMAND.split(), str(tmp_path / name)])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert name in err
    assert "Traceback" not in err
    assert not trace.exists()


@pytest.mark.parametrize("write", [write_pt, write_legacy_pt, write_bare_pickle])
def test_the_hostile_files_do_run_where_they_are_unpickled(tmp_path, write):
    write(tmp_path / "model.pt", Trace(tmp_path / "ran"))
    if write is write_bare_pickle:
        pickle.loads((tmp_path / "model.pt").read_bytes())
    else:
        torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore")  # PyTorch's of its fallback
def test_the_hostile_program_does_run_where_it_is_loaded(tmp_path):
    write_program(tmp_path / "model.pt2", Trace(tmp_path / "ran"))
    with pytest.raises(Exception):  # noqa: B017, PT011  of what came after it ran
        torch.export.load(tmp_path / "model.pt2")
    assert (tmp_path / "ran").exists()


def test_what_was_refused_is_named_by_its_own_name(tmp_path, problem):
    write_pt(tmp_path / "model.pt", Trace(tmp_path / "ran"))
    with pytest.raises(ValueError, match=r"more than tensors \(the object '\w+.mkdir'\)"):
        decisions_of_model(tmp_path / "model.pt", problem)


# Files that are read


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt", "pth", "PT", "NPZ"])
def test_every_documented_format_gives_the_arrays_that_were_put_in(
    tmp_path, problem, weights, suffix
):
    path = tmp_path / f"model.{suffix}"
    if suffix == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(weights, path)
    elif suffix.lower() == "npz":
        with path.open("wb") as stream:
            np.savez(stream, **weights)
    else:
        torch.save({name: torch.tensor(u) for name, u in weights.items()}, path)
    for form in (path, str(path)):
        assert (decisions_of_model(form, problem) == expected_of(problem, weights)).all()


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_bfloat16_is_exact_in_every_format_that_has_it(tmp_path, problem, weights, suffix):
    short = {name: torch.tensor(u).to(torch.bfloat16) for name, u in weights.items()}
    path = tmp_path / f"model.{suffix}"
    if suffix == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(short, path)
    else:
        torch.save(short, path)
    exact = {name: u.double().numpy() for name, u in short.items()}
    assert (decisions_of_model(path, problem) == expected_of(problem, exact)).all()


def test_a_vector_of_pytorch_in_a_file_is_read(tmp_path, problem, weights):
    expected = expected_of(problem, weights)
    torch.save(torch.tensor(expected), tmp_path / "vector.pt")
    assert (decisions_of_model(tmp_path / "vector.pt", problem) == expected).all()


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("a.npz", lambda path: path.write_bytes(b""), "truncated, or no .npz"),
        ("a.npz", lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)), "arrays none"),
        ("a.npz", write_bare_array, "no .npz file"),
        ("a.pt", lambda path: path.write_bytes(b"\x80\x02"), "truncated"),
        ("a.pt", lambda path: torch.save([torch.zeros(2)], path), "holds a list, expected arrays"),
        ("a.pt", lambda path: torch.save({1: torch.zeros(2)}, path), "names its arrays '1'"),
        ("a.safetensors", lambda path: path.write_bytes(b"\xff" * 40), "no safetensors file"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "no safetensors file"),
        ("a.onnx", lambda path: path.write_bytes(b""), r"read from .npz, .safetensors, .pt, .pth"),
        ("a.pt2", lambda path: path.write_bytes(b""), r"opening one can run code.*save_file"),
        ("a.pt", Path.mkdir, "there is no such file"),
        ("a.pt", os.mkfifo, "there is no such file"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path, problem, name, write, words):
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    write(tmp_path / name)
    with pytest.raises(ValueError, match=words):
        decisions_of_model(tmp_path / name, problem)


def test_every_truncation_of_a_file_is_refused(tmp_path, problem, weights):
    np.savez(tmp_path / "whole.npz", **weights)
    torch.save({name: torch.tensor(u) for name, u in weights.items()}, tmp_path / "whole.pt")
    whole = [tmp_path / "whole.npz", tmp_path / "whole.pt"]
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(weights, tmp_path / "whole.safetensors")
    whole.append(tmp_path / "whole.safetensors")
    for path in whole:
        data = path.read_bytes()
        for share in range(9):
            cut = tmp_path / f"cut{path.suffix}"
            cut.write_bytes(data[: len(data) * share // 9])
            with pytest.raises(ValueError, match="truncated"):
                decisions_of_model(cut, problem)


def test_an_array_that_stands_twice_in_an_archive_is_refused(tmp_path, problem, weights):
    np.savez(tmp_path / "twice.npz", **weights)
    other = io.BytesIO()
    np.save(other, np.zeros((2, 2, 2)))
    archive = zipfile.ZipFile(tmp_path / "twice.npz", "a")
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("w.npy", other.getvalue())
    archive.close()
    with pytest.raises(ValueError, match="the array 'w' twice"):
        decisions_of_model(tmp_path / "twice.npz", problem)


def test_without_safetensors_the_command_names_the_extra_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "model.safetensors").write_bytes(b"")
    code = cli.main([*COMMAND.split(), str(tmp_path / "model.safetensors")])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "pip install 'turnpike[sgd]'" in err


def test_a_safetensors_file_is_held_against_the_reference(tmp_path, capsys, problem, weights):
    safetensors = pytest.importorskip("safetensors.torch")
    state = {"layers.0.weight": weights["w"][0], "layers.1.weight": weights["w"][1]}
    state |= {"layers.0.bias": weights["b"][0], "layers.1.bias": weights["b"][1]}
    path = tmp_path / "model.safetensors"
    safetensors.save_file({name: torch.tensor(u) for name, u in state.items()}, path)
    assert cli.main([*COMMAND.split(), str(path), "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert model["read_from"] == {"w": "layers.k.weight", "b": "layers.k.bias"}
    assert model["own_forward"] == {"verdict": "not compared", "note": None}
    states = problem.propagate(problem.dataset.inputs, expected_of(problem, weights))
    error = np.mean((states[-1][:, :1] - problem.dataset.targets) ** 2)
    assert model["training_error"] == pytest.approx(error, rel=1e-12)
    assert cli.main([*COMMAND.split(), str(path)]) == 0
    assert "w = layers.k.weight, b = layers.k.bias" in capsys.readouterr().out
