"""Facts about saved arrays: whole or not at all, and refused in one line when foreign."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from ocp.storage import check_writable, load_arrays, save_arrays

ARRAYS = {"states": np.arange(12.0).reshape(3, 2, 2), "empty": np.zeros((0, 4))}
METADATA = {"version": 1, "name": "Öl", "nested": {"list": [1, 2.5, None, True]}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.npz"
    save_arrays(path, ARRAYS, METADATA)
    return path


def assert_holds_the_saved(path: Path) -> None:
    arrays, metadata = load_arrays(path)
    assert metadata == METADATA
    assert set(arrays) == set(ARRAYS)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype
        assert array.shape == ARRAYS[name].shape


def test_what_is_saved_is_loaded(saved):
    assert_holds_the_saved(saved)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=arrays_of.arrays(
        st.sampled_from([np.float64, np.int64, np.bool_, np.dtype("U5")]),
        arrays_of.array_shapes(min_dims=0, min_side=0),
    ),
    metadata=st.dictionaries(
        st.text(), st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    ),
)
def test_any_plain_array_and_any_metadata_come_back_bit_by_bit(tmp_path, array, metadata):
    save_arrays(tmp_path / "any.npz", {"array": array}, metadata)
    arrays, back = load_arrays(str(tmp_path / "any.npz"))
    assert back == metadata
    assert arrays["array"].dtype == array.dtype
    assert arrays["array"].shape == array.shape
    assert arrays["array"].tobytes() == array.tobytes()


def test_the_file_is_readable_with_numpy_alone(saved):
    with np.load(saved, allow_pickle=False) as file:
        assert json.loads(str(file["metadata"])) == METADATA
        np.testing.assert_array_equal(file["states"], ARRAYS["states"])


def test_the_name_is_kept_as_given(tmp_path):
    save_arrays(tmp_path / "no suffix", ARRAYS, METADATA)
    assert [p.name for p in tmp_path.iterdir()] == ["no suffix"]


def test_saving_again_takes_the_old_files_place(saved):
    save_arrays(saved, {"other": np.ones(2)}, {})
    arrays, metadata = load_arrays(saved)
    assert list(arrays) == ["other"]
    assert metadata == {}
    assert [p.name for p in saved.parent.iterdir()] == ["run.npz"]


def full_disk(*arguments: object) -> None:
    raise OSError(28, "No space left on device")


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("failure", "error"), [(full_disk, ValueError), (interrupt, KeyboardInterrupt)]
)
def test_a_failure_while_writing_keeps_the_old_file_and_leaves_no_other(
    saved, monkeypatch, step: str, failure: Callable, error: type
):
    with monkeypatch.context() as patched:
        patched.setattr(os, step, failure)
        words = r"cannot write .*run\.npz: No space left" if error is ValueError else None
        with pytest.raises(error, match=words):
            save_arrays(saved, {"other": np.ones(2)}, {})
    assert_holds_the_saved(saved)
    assert [p.name for p in saved.parent.iterdir()] == ["run.npz"]


class Unreadable:
    """An array that the disk refuses when its turn comes."""

    def __array__(self, *arguments: object, **options: object) -> np.ndarray:
        raise OSError(28, "No space left on device")


def test_a_failure_between_two_arrays_keeps_the_old_file_and_leaves_no_other(saved):
    with pytest.raises(ValueError, match="No space left"):
        save_arrays(saved, {"first": np.ones(1000), "second": Unreadable()}, {})
    assert_holds_the_saved(saved)
    assert [p.name for p in saved.parent.iterdir()] == ["run.npz"]


def test_the_new_file_is_complete_beside_the_old_one_before_it_takes_its_place(saved, monkeypatch):
    """Only within one folder is a rename sure to be atomic."""
    seen, rename = [], os.replace

    def watched(source: str, target: Path) -> None:
        seen.append((Path(source).parent, load_arrays(source)[1], load_arrays(target)[1]))
        rename(source, target)

    monkeypatch.setattr(os, "replace", watched)
    save_arrays(saved, ARRAYS, {"new": True})
    assert seen == [(saved.parent, {"new": True}, METADATA)]


@pytest.mark.parametrize("metadata", [{"nan": float("nan")}, {"infinite": float("inf")}])
def test_metadata_that_json_cannot_hold_is_refused_before_the_file_is_touched(saved, metadata):
    with pytest.raises(ValueError, match="JSON"):
        save_arrays(saved, ARRAYS, metadata)
    assert_holds_the_saved(saved)
    assert [p.name for p in saved.parent.iterdir()] == ["run.npz"]


def test_a_path_that_cannot_be_written_is_told_before_any_work(tmp_path, saved, monkeypatch):
    assert check_writable(tmp_path / "new.npz") == tmp_path / "new.npz"
    assert check_writable(str(saved)) == saved
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        check_writable(tmp_path)
    with pytest.raises(ValueError, match=r"the folder .*missing does not exist; make it first"):
        check_writable(tmp_path / "missing" / "run.npz")
    with pytest.raises(ValueError, match="does not exist"):
        save_arrays(tmp_path / "missing" / "run.npz", ARRAYS, METADATA)
    with pytest.raises(ValueError, match=r"run\.npz does not exist"):
        check_writable(saved / "inside")
    # For the superuser every folder is writable, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="permission denied; choose another place"):
        check_writable(saved)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that refuses files")
def test_a_folder_that_refuses_files_is_an_error_of_one_line():
    with pytest.raises(ValueError, match=r"cannot write /proc/self/run\.npz") as caught:
        save_arrays("/proc/self/run.npz", ARRAYS, METADATA)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_called_missing(tmp_path):
    for path in (tmp_path / "nothing.npz", tmp_path):
        with pytest.raises(ValueError, match=r"cannot read .*: there is no such file"):
            load_arrays(path)


def refusal(path: Path) -> str:
    """What is said of a file that is not ours: one line that names the file."""
    with pytest.raises(ValueError, match="is truncated, or no solution file") as caught:
        load_arrays(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert "expected a .npz file" in text
    return text


def test_every_truncation_is_refused(saved, tmp_path):
    content, part = saved.read_bytes(), tmp_path / "part.npz"
    for length in range(0, len(content), 7):
        part.write_bytes(content[:length])
        refusal(part)


def test_a_damaged_byte_in_the_data_is_refused(saved, tmp_path):
    """A checksum guards the arrays."""
    content, generator = saved.read_bytes(), np.random.default_rng(0)
    with zipfile.ZipFile(saved) as archive:
        entry = archive.getinfo("states.npy")
    start = entry.header_offset + 30 + len("states.npy") + 40
    damaged = tmp_path / "damaged.npz"
    for place in generator.integers(start, start + entry.compress_size - 40, 20):
        copy = bytearray(content)
        copy[place] ^= 0xFF
        damaged.write_bytes(copy)
        refusal(damaged)


def write_text(path: Path) -> None:
    path.write_text("states 1 2 3\n")


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"states": [1.0]}))


def write_bare_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def write_other_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize(
    "write", [write_text, write_nothing, write_pickle, write_bare_array, write_other_archive]
)
def test_a_foreign_file_is_refused(tmp_path, write: Callable[[Path], None]):
    path = tmp_path / "foreign.npz"
    write(path)
    refusal(path)


def test_arrays_without_metadata_are_refused_for_that_reason(tmp_path):
    path = tmp_path / "plain.npz"
    np.savez(path, states=np.ones(3))
    assert "it has no metadata" in refusal(path)


@pytest.mark.parametrize("text", ["[1, 2]", "3", "not json", "", "{"])
def test_metadata_that_is_no_json_object_is_refused(tmp_path, text):
    path = tmp_path / "odd.npz"
    np.savez(path, states=np.ones(3), metadata=np.array(text))
    refusal(path)


def test_numeric_metadata_is_refused(tmp_path):
    path = tmp_path / "odd.npz"
    np.savez(path, metadata=np.ones(3))
    refusal(path)


class Trap:
    """Unpickled, it would leave a trace."""

    opened = False

    def __reduce__(self):
        return setattr, (Trap, "opened", True)


def test_pickled_objects_are_refused_and_never_opened(tmp_path):
    path = tmp_path / "trap.npz"
    objects = np.array([Trap(), None], dtype=object)
    np.savez(path, states=objects, metadata=np.array("{}"))
    refusal(path)
    np.savez(path, metadata=np.array({"a": Trap()}, dtype=object))
    refusal(path)
    assert not Trap.opened
