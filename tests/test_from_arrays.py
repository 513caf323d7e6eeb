"""Facts about problems posed on arrays and data frames: the same reading as of the same file."""

import numpy as np
import pandas as pd
import pytest

from problems.data_notes import target_reading
from problems.datasets import encode, load
from problems.learning import LearningProblem
from problems.losses import CROSS_ENTROPY, LOGISTIC, SQUARED

INPUTS = [[0.5, 1.0], [-1.0, 0.2], [0.1, -0.8], [2.0, 0.3]]
FRAME = pd.DataFrame(INPUTS, columns=["length", "weight"])


@pytest.mark.parametrize(
    "X",
    [INPUTS, np.array(INPUTS), np.array(INPUTS, dtype=object), FRAME, FRAME.astype("Float64")],
    ids=["list", "array", "objects", "frame", "nullable"],
)
@pytest.mark.parametrize(
    ("y", "said", "targets"),
    [
        ([1, 2, 3, 7], "number", [[1], [2], [3], [7]]),
        ([0.5, 1, 2, 3], "number", [[0.5], [1], [2], [3]]),
        (["b", "a", "b", "a"], "2 classes a, b", [[1], [-1], [1], [-1]]),
        (["a", "b", "c", "a"], "3 classes a, b, c", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]),
        ([True, False, True, True], "number", [[1], [0], [1], [1]]),
        (["1", "2", "3", "7"], "number", [[1], [2], [3], [7]]),  # as a file would hold them
        ([10**17 + 1, 2, 3, 7], "number", [[1e17], [2], [3], [7]]),
    ],
)
def test_lists_arrays_and_data_frames_are_the_same_problem(X, y, said, targets):
    for values in (y, np.array(y), pd.Series(y, name="y1"), pd.DataFrame({"y1": y})):
        problem = LearningProblem.from_arrays(X, values, layers=3)
        np.testing.assert_array_equal(problem.dataset.inputs, INPUTS)
        np.testing.assert_array_equal(problem.dataset.targets, targets)
        assert target_reading(problem.dataset) == f"target y1: {said}"
        assert problem.layers == 3
        assert problem.state_size == max(2, np.shape(targets)[1])


@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC, CROSS_ENTROPY], ids=lambda loss: loss.name)
@pytest.mark.parametrize(
    "y", [["b", "a", "b", "c"], [3, 5, 3, 4], ["x", "y", "y", "x"]], ids=["three", "whole", "two"]
)
def test_a_data_frame_is_read_as_the_file_that_it_is_written_to(tmp_path, y, loss):
    FRAME.assign(kind=y).to_csv(tmp_path / "t.csv", index=False)
    of_file = encode(load(tmp_path / "t.csv"), loss.name)
    problem = LearningProblem.from_arrays(FRAME, pd.Series(y, name="kind"), loss=loss)
    np.testing.assert_array_equal(problem.dataset.inputs, of_file.inputs)
    np.testing.assert_array_equal(problem.dataset.targets, of_file.targets)
    for name in ("input_names", "target_names", "classes"):
        assert getattr(problem.dataset, name) == getattr(of_file, name)


def test_names_of_columns_are_kept_and_made_up_where_there_are_none():
    named = LearningProblem.from_arrays(FRAME, pd.DataFrame({"p": range(4), "q": range(4)}))
    assert named.dataset.input_names == ("length", "weight")
    assert named.dataset.target_names == ("p", "q")
    numbered = LearningProblem.from_arrays(pd.DataFrame(INPUTS), pd.Series(range(4)))
    assert numbered.dataset.input_names == ("0", "1")
    assert numbered.dataset.target_names == ("y1",)
    assert LearningProblem.from_arrays(INPUTS, INPUTS).dataset.input_names == ("x1", "x2")
    assert LearningProblem.from_arrays(FRAME["weight"], [1, 2, 3, 4]).dataset.input_names == (
        "weight",
    )


def test_a_categorical_column_is_labels_whatever_they_say():
    y = pd.Series(["7", "8", "7", "9"], dtype="category", name="digit")
    problem = LearningProblem.from_arrays(FRAME, y)
    assert target_reading(problem.dataset) == "target digit: 3 classes 7, 8, 9"
    as_number = LearningProblem.from_arrays(FRAME, y.astype(str))
    assert target_reading(as_number.dataset) == "target digit: number"


@pytest.mark.parametrize("gap", [np.nan, None, pd.NA, "n/a", "?", ""])
def test_a_gap_is_a_gap_however_it_is_written(gap):
    X = pd.DataFrame({"a": [1, gap, 4], "b": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match=r"inputs, row 2, column 'a'.*--missing drop or mean"):
        LearningProblem.from_arrays(X, [1, 2, 3])
    dropped = LearningProblem.from_arrays(X, [1, 2, 3], missing="drop").dataset
    np.testing.assert_array_equal(dropped.inputs, [[1, 1], [4, 3]])
    np.testing.assert_array_equal(dropped.targets, [[1], [3]])
    assert "1 of 3 rows dropped" in dropped.notes[0]
    filled = LearningProblem.from_arrays(X, [1, 2, 3], missing="mean").dataset
    np.testing.assert_array_equal(filled.inputs, [[1, 1], [2.5, 2], [4, 3]])


def test_inputs_of_text_are_spread_where_that_is_asked_for():
    X = pd.DataFrame({"sex": ["M", "F", "M"], "a": [1, 2, 3]})
    problem = LearningProblem.from_arrays(X, [1, 2, 3], categorical="one-hot")
    np.testing.assert_array_equal(problem.dataset.inputs, [[0, 1, 1], [1, 0, 2], [0, 1, 3]])
    assert problem.dataset.input_names == ("sex=F", "sex=M", "a")


def test_inputs_are_standardized_where_that_is_asked_for():
    problem = LearningProblem.from_arrays(INPUTS, [1, 2, 3, 4], standardize=True)
    np.testing.assert_allclose(problem.dataset.inputs.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(problem.dataset.inputs.std(axis=0), 1)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        ([[1], [2]], [1, 2, 3], r"'y1' has shape \(3,\), expected \(2,\)"),
        ([[1], [2, 3]], [1, 2], r"inputs, column 'x1': a list came in place of one value"),
        (np.zeros((2, 2, 2)), [1, 2], r"inputs has shape \(2, 2, 2\), expected \(N, columns\)"),
        ([], [], r"shape \(0,\) has no rows"),
        (np.array([[1j], [2]]), [1, 2], "complex128 came, expected real numbers"),
        ([["a"], ["b"]], [1, 2], r"inputs, row 1, column 'x1': 'a' is not a number.*one-hot"),
        ([[1], [2], [3]], [1, 2, "x"], r"targets, row 3, column 'y1': 'x' came.*2 of 3 cells"),
        ([[1], [2], [3]], ["1,200", "3,400", "5"], r"row 1, column 'y1': '1,200'.*thousands"),
        ([[1], [np.inf]], [1, 2], r"inputs, row 2, column 'x1': 'inf' came, expected a finite"),
        (np.array(["2020-01-01"], "M8[D]"), [1], "column 'x1' holds dates"),
        (pd.DataFrame({"day": pd.to_datetime(["2020-01-01"])}), [1], "column 'day' holds dates"),
        (pd.DataFrame({"day": ["2020-01-01"]}), [1], "column 'day': '2020-01-01' is a date"),
        (FRAME, "weight", r"the text 'weight' came.*X\['weight'\]"),
        (FRAME, pd.Series([1, 2, 3, 4], index=[3, 2, 1, 0]), "different orders"),
    ],
)
def test_samples_that_cannot_be_used_are_refused(X, y, words):
    with pytest.raises(ValueError, match=words) as caught:
        LearningProblem.from_arrays(X, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"missing": "dorp"}, "missing is 'dorp'; did you mean 'drop'"),
        ({"categorical": "hot"}, "categorical is 'hot'.*one-hot"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"loss": LOGISTIC}, "real-valued"),
    ],
)
def test_options_out_of_their_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LearningProblem.from_arrays(INPUTS, [0.5, 1, 2, 3], **options)
