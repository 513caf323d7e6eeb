"""Facts about the named data sets, the reading of tables, and the encoding of their labels."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from problems.cells import Kind, kind
from problems.datasets import (
    DATASETS,
    DataError,
    Dataset,
    RawData,
    encode,
    load,
    standardize,
    train_test_split,
)

GENERATED = [name for name, described in DATASETS.items() if described.extra is None]
REAL = [name for name, described in DATASETS.items() if described.extra is not None]
CLASSED = [name for name, described in DATASETS.items() if described.classes]
GENERATED_CLASSED = [name for name in CLASSED if name in GENERATED]
LOSSES = ["squared", "distance", "l1", "logistic", "hinge", "cross-entropy"]
SIGN_LOSSES = ["logistic", "hinge"]


def labelled(*columns, **options):
    """Raw data with one input and the given target columns."""
    return RawData(
        "table",
        np.arange(len(columns[0]), dtype=float)[:, np.newaxis],
        tuple(np.array(column) for column in columns),
        **options,
    )


def table(folder: Path, content: str | bytes, name: str = "table.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def archive(folder: Path, **contents) -> str:
    path = folder / "table.npz"
    np.savez(path, **contents)
    return str(path)


def error_of(function, *arguments, **options) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the caller matches the message)
        function(*arguments, **options)
    assert isinstance(caught.value, DataError)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def assert_words(message: str, *words: str) -> None:
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in {message!r}"


# Named data sets


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_loaded_is_what_the_description_says(name):
    described = DATASETS[name]
    raw = load(name)
    assert described.name == name
    assert raw.inputs.shape == (described.samples, described.inputs)
    assert raw.inputs.dtype == np.float64
    (column,) = raw.targets
    if described.classes:
        assert tuple(np.unique(column)) == described.classes
        assert described.task == f"{len(described.classes)} classes"
    else:
        assert column.dtype == np.float64
        assert described.task == "regression"
    assert "\n" not in described.description


@pytest.mark.parametrize("name", GENERATED)
def test_the_seed_determines_a_generated_data_set(name):
    first, again, other = load(name, seed=3), load(name, seed=3), load(name, seed=4)
    np.testing.assert_array_equal(first.inputs, again.inputs)
    np.testing.assert_array_equal(first.targets[0], again.targets[0])
    assert not np.array_equal(first.inputs, other.inputs)


@pytest.mark.parametrize("samples", [2, 3, 7, 50])
@pytest.mark.parametrize("name", GENERATED_CLASSED)
def test_generated_classes_are_balanced_as_evenly_as_the_number_allows(name, samples):
    (labels,) = load(name, samples=samples).targets
    counts = [np.sum(labels == label) for label in DATASETS[name].classes]
    assert sum(counts) == samples
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", CLASSED)
def test_named_classes_are_classes_under_every_loss(name, loss):
    described = DATASETS[name]
    dataset = encode(load(name), loss)
    binary = len(described.classes) == 2 and loss != "cross-entropy"
    assert dataset.targets.shape[1] == (1 if binary else len(described.classes))
    low = -1 if binary or loss in SIGN_LOSSES else 0
    np.testing.assert_array_equal(np.unique(dataset.targets), [low, 1])
    expected = (described.classes,) if binary else tuple((label,) for label in described.classes)
    assert dataset.classes == expected


def test_the_disc_of_spheres_is_minus_one_and_the_annulus_plus_one():
    dataset = encode(load("spheres", samples=400), "squared")
    radius = np.hypot(*dataset.inputs.T)
    disc = dataset.targets[:, 0] == -1
    assert disc.sum() == 200
    assert radius[disc].max() <= 0.5 + 1e-12
    assert radius[~disc].min() >= 1 - 1e-12
    assert radius[~disc].max() <= 1.5 + 1e-12


@pytest.mark.parametrize("squares", [2, 3])
def test_squares_of_a_checkerboard_differ_in_colour_from_their_neighbours(squares):
    raw = load(f"chess{squares}", samples=200)
    assert np.abs(raw.inputs).max() < 1
    cells = np.floor((raw.inputs + 1) * squares / 2).astype(int)
    np.testing.assert_array_equal(
        raw.targets[0], np.array(["black", "white"])[cells.sum(axis=1) % 2]
    )
    assert len(np.unique(cells, axis=0)) == squares**2


@pytest.mark.parametrize(("name", "radii"), [("circles", (0.5, 1)), ("rings", (0.5, 1, 1.5))])
def test_rings_lie_around_their_radii(name, radii):
    raw = load(name, samples=300)
    nearest = np.abs(np.hypot(*raw.inputs.T)[:, np.newaxis] - radii).argmin(axis=1)
    # Half the gap is five deviations of the noise, so no point of a few hundred crosses over.
    np.testing.assert_array_equal(raw.targets[0], np.array(DATASETS[name].classes)[nearest])


def test_moons_lie_around_their_half_circles():
    raw = load("moons", samples=400)
    upper = raw.targets[0] == "upper"
    centre = np.where(upper[:, np.newaxis], (0, 0), (1, 0.5))
    x, y = (raw.inputs - centre).T
    assert np.abs(np.hypot(x, y) - 1).max() < 0.6  # six deviations of the noise
    assert np.all(np.where(upper, y, -y) > -0.6)


def test_spirals_lie_nearest_to_their_own_arm():
    raw = load("spirals", samples=300)
    radius = np.linspace(0.05, 1.05, 2001)
    arms = [
        radius[:, np.newaxis] * np.column_stack([np.cos(angle), np.sin(angle)])
        for angle in (3 * np.pi * radius, 3 * np.pi * radius + np.pi)
    ]
    distances = [
        np.linalg.norm(raw.inputs[:, np.newaxis] - arm, axis=2).min(axis=1) for arm in arms
    ]
    np.testing.assert_array_equal(
        raw.targets[0], np.array(["first", "second"])[np.argmin(distances, axis=0)]
    )


def test_xor_classes_are_the_signs_product():
    raw = load("xor", samples=200)
    same = np.sign(raw.inputs).prod(axis=1) > 0
    # A cloud's centre is five deviations from the axes.
    np.testing.assert_array_equal(raw.targets[0] == "equal", same)
    four = load("xor", samples=4).inputs
    assert len(np.unique(np.sign(four), axis=0)) == 4


def test_gaussian_clouds_centre_on_a_triangle():
    raw = load("gaussians", samples=3000)
    angle = np.pi / 2 + 2 * np.pi / 3 * np.arange(3)
    means = [
        raw.inputs[raw.targets[0] == label].mean(axis=0) for label in DATASETS[raw.name].classes
    ]
    # Six deviations of the mean of 1000 points: 6 * 0.2 / sqrt(1000).
    np.testing.assert_allclose(means, np.column_stack([np.cos(angle), np.sin(angle)]), atol=0.04)


def test_sine_is_a_regression_of_its_input():
    raw = load("sine", samples=20)
    np.testing.assert_array_equal(raw.targets[0], np.sin(raw.inputs[:, 0]))
    assert np.abs(raw.inputs).max() <= np.pi
    dataset = encode(raw, "squared")
    np.testing.assert_array_equal(dataset.targets[:, 0], raw.targets[0])
    assert dataset.classes == ((),)


@pytest.mark.parametrize("name", ["iris", "wine", "breast-cancer", "digits"])
def test_a_subset_of_real_data_is_stratified_and_seeded(name):
    classes = DATASETS[name].classes
    (everything,) = load(name).targets
    samples = 61
    subset, again = (load(name, samples=samples, seed=1) for _ in range(2))
    np.testing.assert_array_equal(subset.inputs, again.inputs)
    assert not np.array_equal(subset.inputs, load(name, samples=samples, seed=2).inputs)
    for label in classes:
        quota = samples * np.mean(everything == label)
        assert abs(np.sum(subset.targets[0] == label) - quota) < 1
    smallest = load(name, samples=len(classes))
    assert tuple(np.unique(smallest.targets[0])) == classes


def test_real_samples_keep_their_own_label():
    everything, subset = load("iris"), load("iris", samples=30)
    for row, label in zip(subset.inputs, subset.targets[0], strict=True):
        same = (everything.inputs == row).all(axis=1)
        assert label in everything.targets[0][same]


def test_diabetes_is_regression_even_though_its_targets_are_whole_numbers():
    raw = load("diabetes", samples=40)
    dataset = encode(raw, "squared")
    np.testing.assert_array_equal(dataset.targets[:, 0], raw.targets[0])
    assert np.all(raw.targets[0] == np.rint(raw.targets[0]))
    for loss in ("logistic", "hinge", "cross-entropy"):
        assert_words(error_of(encode, raw, loss), "'progression'", "real-valued", repr(loss))


@pytest.mark.parametrize("name", REAL)
def test_missing_scikit_learn_names_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert_words(error_of(load, name), repr(name), "scikit-learn", 'pip install "turnpike[data]"')
    assert load("moons").inputs.shape == (50, 2)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("mons", ["unknown data set 'mons'", "did you mean 'moons'?", "spirals", ".csv"]),
        ("Iris", ["unknown data set 'Iris'", "did you mean 'iris'?"]),
        ("", ["unknown data set ''", "moons"]),
        ("no/such.csv", ["file 'no/such.csv' not found"]),
        ("no-such.npz", ["file 'no-such.npz' not found"]),
        ("line\nbreak", ["unknown data set 'line\\nbreak'"]),
    ],
)
def test_what_is_neither_name_nor_file_is_refused(word, words):
    assert_words(error_of(load, word), *words)


def test_no_name_is_suggested_where_none_is_near():
    assert "did you mean" not in error_of(load, "zzzzzz")


def test_another_kind_of_file_is_refused(tmp_path):
    assert_words(
        error_of(load, table(tmp_path, "a", "table.xlsx")), "no known kind", ".csv", ".npz"
    )


@pytest.mark.parametrize("samples", [1, 0, -5, 2.5, "many", True])
def test_a_wrong_number_of_samples_is_refused(samples):
    message = error_of(load, "moons", samples=samples)
    assert_words(message, "samples", repr(samples), "whole number", "at least 2")


@pytest.mark.parametrize("samples", [2, 151])
def test_real_data_has_only_so_many_samples(samples):
    assert_words(error_of(load, "iris", samples=samples), f"{samples}", "3 to 150", "'iris'")


@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_a_wrong_seed_is_refused(seed):
    assert_words(error_of(load, "moons", seed=seed), "seed", repr(seed), "whole number")


def test_options_that_do_not_apply_are_refused(tmp_path):
    csv_path = table(tmp_path, "a,b\n1,2\n")
    npz_path = archive(tmp_path, inputs=[[1.0]], targets=[1.0])
    assert_words(error_of(load, "moons", target_columns=["x1"]), "target columns", "'moons'")
    assert_words(error_of(load, csv_path, samples=10), "samples = 10", "leave it out")
    assert_words(error_of(load, npz_path, samples=10), "samples = 10", "leave it out")
    assert_words(error_of(load, npz_path, target_columns=["y"]), "target columns", "'targets'")


# Encoding


@pytest.mark.parametrize("loss", ["squared", "distance", "l1", "logistic", "hinge"])
def test_two_text_classes_become_signs_in_sorted_order(loss):
    dataset = encode(labelled(["b", "a", "b"], target_names=("kind",)), loss)
    np.testing.assert_array_equal(dataset.targets, [[1], [-1], [1]])
    assert dataset.classes == (("a", "b"),)
    assert dataset.target_names == ("kind",)


def test_two_classes_become_two_one_hot_columns_under_cross_entropy():
    dataset = encode(labelled(["b", "a", "b"], target_names=("kind",)), "cross-entropy")
    np.testing.assert_array_equal(dataset.targets, [[0, 1], [1, 0], [0, 1]])
    assert dataset.classes == (("a",), ("b",))
    assert dataset.target_names == ("kind=a", "kind=b")


@pytest.mark.parametrize("loss", LOSSES)
def test_three_text_classes_become_one_hot_columns(loss):
    dataset = encode(labelled(["c", "a", "b", "c"]), loss)
    hot = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(dataset.targets, 2 * hot - 1 if loss in SIGN_LOSSES else hot)
    assert dataset.classes == (("a",), ("b",), ("c",))


def test_integers_sort_as_numbers_and_text_as_text():
    numbers = encode(labelled([10, 9, 10]), "logistic")
    text = encode(labelled(["10", "9", "10"]), "logistic")
    np.testing.assert_array_equal(numbers.targets, [[1], [-1], [1]])
    np.testing.assert_array_equal(text.targets, [[-1], [1], [-1]])
    assert numbers.classes == (("9", "10"),)
    assert text.classes == (("10", "9"),)


@pytest.mark.parametrize("loss", SIGN_LOSSES)
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_signs_map_to_themselves(loss, dtype):
    signs = np.array([1, -1, -1, 1], dtype=dtype)
    np.testing.assert_array_equal(encode(labelled(signs), loss).targets[:, 0], signs)


def test_huge_integer_labels_stay_apart():
    labels = np.array([2**62, 2**62 + 1])  # equal as float64
    np.testing.assert_array_equal(encode(labelled(labels), "hinge").targets, [[-1], [1]])


@pytest.mark.parametrize("loss", ["squared", "distance", "l1"])
@pytest.mark.parametrize("column", [[1, 2, 5], [0.5, 2.0, -1.5], [True, False, True]])
def test_numbers_are_used_as_they_are_under_regression_losses(loss, column):
    dataset = encode(labelled(column), loss)
    np.testing.assert_array_equal(dataset.targets[:, 0], column)
    assert dataset.targets.dtype == np.float64
    assert dataset.classes == ((),)


def test_columns_are_encoded_one_by_one():
    raw = labelled(["a", "b", "a"], [1.5, 2, 3], ["x", "y", "z"], target_names=("p", "q", "r"))
    dataset = encode(raw, "squared")
    np.testing.assert_array_equal(
        dataset.targets, [[-1, 1.5, 1, 0, 0], [1, 2, 0, 1, 0], [-1, 3, 0, 0, 1]]
    )
    assert dataset.classes == (("a", "b"), (), ("x",), ("y",), ("z",))
    assert dataset.target_names == ("p", "q", "r=x", "r=y", "r=z")


def test_one_hot_rows_are_used_as_they_are_under_cross_entropy():
    dataset = encode(labelled([1, 0, 0], [0, 1.0, 1.0], [0, 0, 0]), "cross-entropy")
    np.testing.assert_array_equal(dataset.targets, [[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert dataset.classes == (("y1",), ("y2",), ("y3",))


@pytest.mark.parametrize(
    "columns", [([1, 0], [1, 0]), ([0.4, 0.5], [0.6, 0.5]), (["a", "b"], ["x", "y"])]
)
def test_several_columns_that_are_not_one_hot_are_refused_under_cross_entropy(columns):
    message = error_of(encode, labelled(*columns), "cross-entropy")
    assert_words(message, "'y1', 'y2'", "one-hot", "one class column")


@pytest.mark.parametrize("loss", ["logistic", "hinge", "cross-entropy"])
def test_real_valued_targets_are_refused_where_classes_are_needed(loss):
    message = error_of(encode, labelled([1, 0.25, 3], target_names=("dose",)), loss)
    assert_words(message, "'dose'", "real-valued", "0.25 in row 2", repr(loss), "squared")
    assert ("-1/+1" in message) == (loss in SIGN_LOSSES)


@pytest.mark.parametrize(
    ("column", "loss"), [(["a", "a"], "squared"), ([1, 1], "logistic"), ([3, 3], "cross-entropy")]
)
def test_a_constant_class_column_is_refused(column, loss):
    message = error_of(encode, labelled(column, target_names=("kind",)), loss)
    assert_words(message, "'kind'", "constant", repr(str(column[0])), "two classes")


def test_a_constant_number_is_no_class():
    np.testing.assert_array_equal(encode(labelled([3, 3]), "squared").targets, [[3], [3]])


def test_an_unknown_loss_is_refused():
    message = error_of(encode, labelled([1, 2]), "crossentropy")
    assert_words(message, "unknown loss 'crossentropy'", "did you mean 'cross-entropy'?", "hinge")


# Datasets and raw data


def test_a_dataset_names_its_columns_and_keeps_its_own_read_only_arrays():
    inputs = np.zeros((3, 2))
    dataset = Dataset("made", inputs, [[1], [2], [3]])
    inputs[:] = 7
    assert np.all(dataset.inputs == 0)
    assert dataset.targets.dtype == np.float64
    assert not dataset.inputs.flags.writeable
    assert not dataset.targets.flags.writeable
    assert dataset.input_names == ("x1", "x2")
    assert dataset.target_names == ("y1",)


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "words"),
    [
        (np.zeros(3), np.zeros((3, 1)), {}, ["inputs", "(3,)", "(N, columns)", "reshape"]),
        (np.zeros((3, 1)), np.zeros(3), {}, ["targets", "(3,)", "(N, columns)", "reshape"]),
        (np.zeros((0, 2)), np.zeros((0, 1)), {}, ["(0, 2)", "no rows"]),
        (np.zeros((3, 0)), np.zeros((3, 1)), {}, ["(3, 0)", "no columns"]),
        (np.zeros((3, 1)), np.zeros((4, 1)), {}, ["3 rows of inputs", "4 rows of targets"]),
        ([[1.0], [np.nan]], np.zeros((2, 1)), {}, ["inputs", "row 2", "'x1'", "nan", "finite"]),
        (np.zeros((2, 1)), [[1, 2], [3, -np.inf]], {}, ["targets", "row 2", "'y2'", "-inf"]),
        ([["a"]], [[1]], {}, ["inputs", "real numbers"]),
        ([[1j]], [[1]], {}, ["inputs", "complex", "real numbers"]),
        ([[1]], [[1]], {"input_names": ("a", "b")}, ["2 names", "1 columns"]),
        ([[1]], [[1]], {"classes": ((), ())}, ["classes", "2 entries", "expected 1"]),
    ],
)
def test_a_wrong_dataset_is_refused(inputs, targets, options, words):
    assert_words(error_of(Dataset, "made", inputs, targets, **options), "made", *words)


@pytest.mark.parametrize(
    ("targets", "options", "words"),
    [
        ((), {}, ["no target column"]),
        (([1, 2, 3],), {}, ["'y1'", "(3,)", "(2,)"]),
        (([1, np.inf],), {"target_names": ("dose",)}, ["row 2", "'dose'", "inf"]),
        ((["a", ""],), {}, ["row 2", "'y1'", "empty"]),
        (([1j, 2],), {}, ["complex", "real numbers"]),
        ((np.array([1, None], dtype=object),), {}, ["object", "real numbers"]),
        (([1, 2],), {"target_names": ("a", "b")}, ["2 names"]),
    ],
)
def test_wrong_raw_data_is_refused(targets, options, words):
    assert_words(error_of(RawData, "made", [[1.0], [2.0]], targets, **options), "made", *words)


@pytest.mark.parametrize(
    "column", [np.array(["a", "b"], dtype=object), np.array([b"a", b"b"]), np.array(["a", "b"])]
)
def test_every_kind_of_text_column_is_text(column):
    (text,) = labelled(column).targets
    assert text.tolist() == ["a", "b"]
    assert text.dtype.kind == "U"


# CSV files


def test_the_last_column_of_a_csv_file_is_the_target(tmp_path):
    raw = load(table(tmp_path, "a,b,kind\n1,2.5,yes\n-3,4e-1,no\n"))
    np.testing.assert_array_equal(raw.inputs, [[1, 2.5], [-3, 0.4]])
    assert raw.targets[0].tolist() == ["yes", "no"]
    assert raw.input_names == ("a", "b")
    assert raw.target_names == ("kind",)
    assert raw.name == "table.csv"


def test_named_target_columns_come_in_the_order_named(tmp_path):
    path = Path(table(tmp_path, "p,a,q,b\n1,2,x,4\n5,6,y,8\n"))
    raw = load(path, target_columns=["q", "p"])
    assert raw.target_names == ("q", "p")
    assert raw.input_names == ("a", "b")
    np.testing.assert_array_equal(raw.inputs, [[2, 4], [6, 8]])
    assert raw.targets[0].tolist() == ["x", "y"]
    assert raw.targets[1].tolist() == [1, 5]
    assert load(path, target_columns="q").target_names == ("q",)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_marks_line_ends_quotes_blanks_and_case_do_not_matter(tmp_path, newline):
    lines = ['\ufeff"a, 1", b ,"say ""y"""', '" 1 ",2 , "x, z"', "", "3,4,w", "", "  ", ""]
    raw = load(table(tmp_path, newline.join(lines), "TABLE.CSV"))
    assert raw.input_names == ("a, 1", "b")
    assert raw.target_names == ('say "y"',)
    np.testing.assert_array_equal(raw.inputs, [[1, 2], [3, 4]])
    assert raw.targets[0].tolist() == ["x, z", "w"]


@pytest.mark.parametrize(
    ("cells", "kind", "is_class"),
    [
        (["1", "2", "1"], "i", True),
        (["1.0", "2", "1e0"], "f", True),
        (["1.5", "2", "1"], "f", False),
        (["1", "x", "1"], None, False),
        (["1", "x", "x"], "U", True),
        (["1_000", "2_000", "1_000"], None, False),
        (["one", "inf", "one"], "U", True),
    ],
)
def test_a_target_column_is_numeric_when_most_cells_look_like_numbers(
    tmp_path, cells, kind, is_class
):
    path = table(tmp_path, "a,y\n" + "".join(f"0,{cell}\n" for cell in cells))
    if kind is None:
        assert_words(error_of(load, path), "(row", "column 'y'", "not a number")
        return
    raw = load(path)
    assert raw.targets[0].dtype.kind == kind
    if is_class:
        assert set(np.unique(encode(raw, "hinge").targets)) == {-1.0, 1.0}
    else:
        assert "real-valued" in error_of(encode, raw, "hinge")


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LABELS = st.text(st.characters(codec="utf-8", exclude_characters="\0."), min_size=1).filter(
    lambda label: label == label.strip() and kind(label) is Kind.WORD
)  # words only: what else a cell may be is the subject of test_cells.py


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 3)), elements=NUMBERS),
    data=st.data(),
)
def test_writing_and_reading_a_csv_file_gives_the_same_arrays(tmp_path, inputs, data):
    rows, columns = inputs.shape
    # With a word among them, the labels are text.
    labels = [*data.draw(st.lists(LABELS, min_size=rows - 1, max_size=rows - 1)), "word"]
    numbers = data.draw(st.lists(NUMBERS, min_size=rows, max_size=rows))
    path = tmp_path / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*(f"a{column}" for column in range(columns)), "number", "label"])
        for row, number, label in zip(inputs.tolist(), numbers, labels, strict=True):
            writer.writerow([*row, number, label])
    raw = load(path, target_columns=["number", "label"])
    np.testing.assert_array_equal(raw.inputs, inputs)
    np.testing.assert_array_equal(raw.targets[0], numbers)
    assert raw.targets[1].tolist() == labels


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["empty", "header row"]),
        ("\n\n", ["empty", "header row"]),
        ("a,b\n", ["no rows"]),
        ("2,1\n3,4\n", ["line 1: '2, 1'", "header row is missing", "--no-header"]),
        ("a,b\n1,2\n\n1,2,3\n", ["line 4", "3 cells found", "2 expected"]),
        ("a,b\n1\n", ["line 2", "1 cells found", "2 expected"]),
        ('a,b\n"1\n",2\n3\n', ["line 4", "1 cells found"]),
        ("a,b\n1,2\n,2\n", ["line 3", "'a'", "empty"]),
        ("a,b\n1,2\n1,\n", ["line 3", "'b'", "empty"]),
        ("a,b\n1,2\nred,2\n", ["line 3", "row 2", "'a'", "'red'", "not a number"]),
        ("a,b\n1,2\n1_0,2\n", ["line 3", "'1_0'", "not a number"]),
        ("a,b\n\n1,2\nnan,2\n", ["line 4", "row 2", "'a'", "'nan'", "finite"]),
        ("a,b\n1,2\n1,-inf\n", ["line 3", "'b'", "'-inf'", "finite"]),
        ("a,b\n1e999,2\n", ["line 2", "'a'", "'1e999'", "finite"]),
        ("a,a,b\n1,2,3\n", ["more than once", "'a'", "rename"]),
        (",a,b\n0,2,3\n", ["column 1", "no name"]),
        ("a:b\n1:2\n", ["one column", "'a:b'", "commas", "--separator"]),
        ('a,b\n1,"2\n3,4\n', ["line 2", "not a CSV record", "quotes"]),
        ('a,b\n1,2\n"1"x,2\n', ["line 3", "not a CSV record", "quotes"]),
        ("a,b\n1,2\n".encode("utf-16"), ["not UTF-8", "byte 1"]),
        (b"a,b\n1,caf\xe9\n", ["not UTF-8", "byte 10"]),
        (b"PK\x03\x04\x00\x00", ["binary", "NUL"]),
        ("a,b\n" + "x" * 200 + ",1\n", ["line 2", "'xxx", "...'", "not a number"]),
    ],
)
def test_a_wrong_csv_file_is_refused(tmp_path, content, words):
    assert_words(error_of(load, table(tmp_path, content)), "table.csv", *words)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["specis"], ["no column 'specis'", "did you mean 'species'?", "'length', 'species'"]),
        (["qqq"], ["no column 'qqq'", "'length', 'species'"]),
        ([], ["no target column", "'length', 'species'"]),
        (["species", "species"], ["'species'", "2 times"]),
        (["species", "length"], ["all 2 columns", "at least one as an input"]),
    ],
)
def test_wrong_target_columns_are_refused(tmp_path, wanted, words):
    path = table(tmp_path, "length,species\n1,x\n")
    assert_words(error_of(load, path, target_columns=wanted), *words)


def test_a_long_list_of_columns_is_cut(tmp_path):
    header = ",".join(f"a{column}" for column in range(64))
    path = table(tmp_path, f"{header}\n{','.join(['1'] * 64)}\n")
    message = error_of(load, path, target_columns=["target"])
    assert_words(message, "'a11', ... (64 in all)")


def test_a_folder_is_no_file(tmp_path):
    for name in ("folder.csv", "folder.npz"):
        (tmp_path / name).mkdir()
        assert_words(error_of(load, tmp_path / name), name, "cannot be read")


# .npz files


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        ([[1.0, 2], [3, 4]], [[1.0], [2]]),
        ([1, 2], [1, -1]),
        ([[1.0], [2]], ["a", "b"]),
        ([[1.0], [2]], [["a", "x"], ["b", "y"]]),
        (np.array([[1], [2]], dtype=np.float32), [True, False]),
    ],
)
def test_the_arrays_of_an_npz_file_come_back(tmp_path, inputs, targets):
    raw = load(archive(tmp_path, inputs=inputs, targets=targets))
    np.testing.assert_array_equal(raw.inputs, np.reshape(inputs, (2, -1)))
    np.testing.assert_array_equal(np.column_stack(raw.targets), np.reshape(targets, (2, -1)))
    assert raw.name == "table.npz"


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"inputs": [[1.0]], "labels": [1]}, ["no array 'targets'", "'inputs', 'labels'"]),
        ({"targets": [1]}, ["no array 'inputs'", "'targets'"]),
        ({"inputs": np.zeros((2, 2, 2)), "targets": [1, 2]}, ["inputs", "(2, 2, 2)", "(N,)"]),
        ({"inputs": 1.0, "targets": [1]}, ["inputs", "()", "(N,)"]),
        ({"inputs": np.zeros((0, 2)), "targets": np.zeros(0)}, ["no rows"]),
        ({"inputs": [1, 2], "targets": [1, 2, 3]}, ["'y1'", "(3,)", "(2,)"]),
        ({"inputs": [[1], [np.nan]], "targets": [1, 2]}, ["inputs", "row 2", "'x1'", "nan"]),
        ({"inputs": [1, 2], "targets": [[1, 2], [3, np.inf]]}, ["targets", "row 2", "'y2'"]),
        ({"inputs": ["a", "b"], "targets": [1, 2]}, ["inputs", "real numbers"]),
        ({"inputs": [1, 2], "targets": ["a", ""]}, ["row 2", "'y1'", "empty"]),
        ({"inputs": [1, 2], "targets": np.array([1, None])}, ["pickled", "numpy.savez"]),
    ],
)
def test_a_wrong_npz_file_is_refused(tmp_path, contents, words):
    assert_words(error_of(load, archive(tmp_path, **contents)), "table.npz", *words)


def test_a_truncated_npz_file_is_refused_wherever_it_is_cut(tmp_path):
    whole = Path(archive(tmp_path, inputs=[[1.0], [2.0]], targets=[1, 2])).read_bytes()
    for length in range(0, len(whole), 7):
        path = table(tmp_path, whole[:length], "cut.npz")
        assert_words(error_of(load, path), "cut.npz", "truncated", "numpy.savez")


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\x80\x04N.", b"\x93NUMPY\x01\x00"])
def test_a_foreign_file_is_no_npz_file(tmp_path, content):
    assert_words(error_of(load, table(tmp_path, content, "foreign.npz")), "foreign.npz", "foreign")


def test_a_single_array_is_no_npz_file(tmp_path):
    path = tmp_path / "array.npz"
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert_words(error_of(load, path), "array.npz", "numpy.savez")


# Standardizing and splitting


def test_standardized_inputs_have_mean_zero_and_deviation_one():
    dataset = encode(load("wine"), "squared")
    standardized, mean, scale = standardize(dataset)
    # Wine's inputs go up to some thousand; the sums of 178 rounded values stay far below 1e-12.
    np.testing.assert_allclose(standardized.inputs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(standardized.inputs.std(axis=0), 1, rtol=1e-12)
    np.testing.assert_array_equal((dataset.inputs - mean) / scale, standardized.inputs)
    np.testing.assert_array_equal(standardized.targets, dataset.targets)
    assert standardized.classes == dataset.classes
    assert standardized.input_names == dataset.input_names


@pytest.mark.parametrize("value", [0.1, 0.0, -7e12, 1e-300])
def test_a_constant_column_is_shifted_to_zero_exactly_and_not_scaled(value):
    # The mean of many 0.1 is rounded, so that the computed deviation is not zero.
    inputs = np.column_stack([np.arange(1000.0), np.full(1000, value)])
    dataset = Dataset("made", inputs, inputs, input_names=("time", "offset"))
    standardized, mean, scale = standardize(dataset)
    assert np.all(standardized.inputs[:, 1] == 0)
    assert (mean[1], scale[1]) == (value, 1)
    (note,) = standardized.notes
    assert_words(note, "constant", "'offset'", "shifted")
    assert "'time'" not in note


def test_a_column_without_a_finite_deviation_cannot_be_standardized():
    dataset = Dataset("made", [[1e300], [-1e300]], [[1], [2]])
    assert_words(error_of(standardize, dataset), "'x1'", "too large")


@pytest.mark.parametrize("loss", ["squared", "logistic", "cross-entropy"])
@pytest.mark.parametrize("name", ["iris", "breast-cancer", "rings"])
def test_a_split_keeps_every_sample_once_and_every_class_in_proportion(name, loss):
    dataset = encode(load(name), loss)
    training, test = train_test_split(dataset, 0.7, seed=1)
    assert len(training.inputs) == round(0.7 * len(dataset.inputs))
    rows = np.hstack([dataset.inputs, dataset.targets])
    parts = np.vstack([np.hstack([part.inputs, part.targets]) for part in (training, test)])
    np.testing.assert_array_equal(parts[np.lexsort(parts.T)], rows[np.lexsort(rows.T)], strict=True)
    for label in np.unique(dataset.targets, axis=0):
        of_class, in_training = (
            (part.targets == label).all(axis=1).sum() for part in (dataset, training)
        )
        assert abs(in_training - 0.7 * of_class) <= 1


def test_the_seed_determines_a_split():
    dataset = encode(load("sine"), "squared")
    first, again, other = (train_test_split(dataset, 0.5, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert not np.array_equal(first.inputs, other.inputs)


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 1.5, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
    dataset = encode(load("moons"), "squared")
    message = error_of(train_test_split, dataset, fraction, 0)
    assert_words(message, "fraction", str(fraction), "between 0 and 1")


@pytest.mark.parametrize(("fraction", "part"), [(0.001, "training"), (0.999, "test")])
def test_a_split_leaves_no_part_empty(fraction, part):
    dataset = encode(load("moons"), "squared")
    assert_words(error_of(train_test_split, dataset, fraction, 0), f"{part} part empty")


def test_a_slip_in_a_column_of_numbers_does_not_turn_it_into_classes(tmp_path):
    path = tmp_path / "slip.csv"
    path.write_text("a,y\n0,0.5\n1,0.25\n2,o.9\n")
    with pytest.raises(
        DataError, match=r"line 4 .*'o.9' came in a target column of measured numbers"
    ):
        load(path)
