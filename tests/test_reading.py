"""Facts about files as people have them: what each is read as, or the one line that refuses it."""

import gzip
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from problems import cli
from problems.arguments import parse
from problems.data_notes import data_notes, target_reading
from problems.datasets import DATASETS, LOSSES, REGRESSION_LOSSES, load
from problems.reading import Reading
from problems.request import asked_data, asked_problem

IRIS = (
    "5.1,3.5,1.4,0.2,Iris-setosa\n4.9,3.0,1.4,0.2,Iris-setosa\n7.0,3.2,4.7,1.4,Iris-versicolor\n"
    "6.4,3.2,4.5,1.5,Iris-versicolor\n6.3,3.3,6.0,2.5,Iris-virginica\n\n"
)
ABALONE = "M,0.45,0.3,15\nF,0.35,0.2,7\nI,0.5,0.4,9\nM,0.1,0.2,3\n"
MUSHROOMS = "p,x,s,n\ne,x,s,y\ne,b,s,w\np,x,y,w\ne,b,y,n\n"
VALUES = [[1, 2, 3], [4, 5, 7]]  # of most small files, the target last


@dataclass(frozen=True)
class Read:
    """A file that is read, the options it takes, and what comes of it."""

    file: str
    content: str | bytes
    options: str = ""
    inputs: tuple | list = ([1, 2], [4, 5])
    target: str = "target y: number"
    notes: tuple[str, ...] = ()


READ = {
    "iris as it is distributed": Read(
        *("iris.data", IRIS, "--no-header"),
        *([[float(x) for x in line.split(",")[:4]] for line in IRIS.split()],),
        "target x5: 3 classes Iris-setosa, Iris-versicolor, Iris-virginica",
    ),
    "numbers only": Read(
        "n.csv", "7,2,3\n4,5,7\n", "--no-header", [[7, 2], [4, 5]], "target x3: number"
    ),
    "pandas' own header": Read(
        "p.csv", "0,1,2\n1,2,3\n4,5,7\n", target="target 2: number", notes=("line 1, '0, 1, 2'",)
    ),
    "a header that counts from 1": Read(
        "p.csv", "1,2,3\n1,2,3\n4,5,7\n", target="target 3: number", notes=("--no-header",)
    ),
    "a data frame with a column added": Read(
        "p.csv",
        "0,1,target\n1,2,a\n4,5,b\n",
        target="target target: 2 classes a, b",
        notes=("line 1",),
    ),
    "years as names": Read(
        "p.csv", "2010,2011,gdp\n1,2,3\n4,5,7\n", target="target gdp: number", notes=("line 1",)
    ),
    "semicolons and quotes": Read(
        "wine.csv",
        '"fixed acidity";"volatile; acidity";"quality"\n1;2;3\n4;5;7\n',
        target="target quality: number",
    ),
    "decimal commas": Read("euro.csv", "a;b;y\n1,5;2,25;3\n4;5;7\n", "", [[1.5, 2.25], [4, 5]]),
    "decimal commas and tabs": Read(
        "euro.txt", "a\tb\ty\n1,5\t2,25\t3\n4\t5\t7\n", "", [[1.5, 2.25], [4, 5]]
    ),
    "decimal commas and blanks": Read(
        "euro.data", "a b y\n1,5 2,25 3\n4 5 7\n", "", [[1.5, 2.25], [4, 5]]
    ),
    "decimal commas that might be thousands": Read(
        "euro.csv", "a;b;y\n1,500;2,250;3\n", "--decimal ,", [[1.5, 2.25]]
    ),
    "decimal commas in quotes": Read(
        "euro.csv", 'a,b,y\n"1,5","2,25",3\n', "--decimal ,", [[1.5, 2.25]]
    ),
    "tabs": Read(
        "t.tsv",
        "a\tb\ty\n1\t2\tdog, big\n4\t5\tcat\n",
        target="target y: 2 classes cat, 'dog, big'",
    ),
    "pipes": Read("t.txt", "a|b|y\n1|2|3\n4|5|7\n"),
    "runs of blanks": Read("t.data", "a   b  y\n  1.0   2.0   3 \n4 \t 5   7\n"),
    "a separator that is asked for": Read("t.csv", "a:b:y\n1:2:3\n4:5:7\n", "--separator :"),
    "a spreadsheet's declaration": Read("t.csv", "sep=;\na;b;y\n1;2;3\n4;5;7\n"),
    "a byte order mark and line ends of Windows": Read(
        "t.csv", "\ufeffa,b,y\r\n1,2,3\r\n4,5,7\r\n"
    ),
    "line ends of old": Read("t.csv", "a,b,y\r1,2,3\r4,5,7\r"),
    "a separator at the end of every line": Read("t.csv", "a,b,y,\n1,2,3,\n4,5,7,\n"),
    "compressed": Read("t.csv.gz", gzip.compress(b"a,b,y\n1,2,3\n4,5,7\n")),
    "compressed, under another name": Read("t.tsv", gzip.compress(b"a\tb\ty\n1\t2\t3\n4\t5\t7\n")),
    "remarks": Read("t.txt", "# made by hand, in 1996\na,b,y\n1,2,3\n  # half way\n4,5,7\n#end\n"),
    "rows taken out": Read("t.csv", "a,b,y\n1,2,3\n#8,8,8\n4,5,7\n"),
    "remarks that are asked for": Read("t.csv", "% matlab\na,b,y\n1,2,3\n4,5,7\n", "--comment %"),
    "names behind a mark": Read("t.csv", "#a,b,y\n1,2,3\n4,5,7\n", "--comment ''"),
    "a label that begins with a mark": Read(
        *("t.csv", "y,a\nred,1\n#f00,2\nred,3\n", "--comment '' --target y", [[1], [2], [3]]),
        "target y: 2 classes #f00, red",
    ),
    "gaps dropped": Read(
        *("t.csv", "a,b,y\n1,2,3\nn/a,1,1\n2,?,\n4,5,7\n", "--missing drop"),
        notes=("2 of 4 rows dropped", "'a' 1, 'b' 1, 'y' 1"),
    ),
    "gaps filled": Read(
        *(
            "t.csv",
            "a,b,y\n1,2,3\n-,5,1\n4,NaN,7\n",
            "--missing mean",
            [[1, 2], [2.5, 5], [4, 3.5]],
        ),
        notes=("2 of 9 cells missing", "'a' 1, 'b' 1"),
    ),
    "counts with a gap": Read(
        *("t.csv", "a,y\n1,3\n2,n/a\n4,5\n", "--missing drop", [[1], [4]]), notes=("1 of 3 rows",)
    ),
    "a mark that is a label": Read(
        "t.csv", "a,b,y\n1,2,+\n4,5,-\n", target="target y: 2 classes +, -"
    ),
    "labels with a gap": Read(
        *("t.csv", "a,b,y\n1,2,p\n4,5,q\n0,0,?\n", "--missing drop"),
        target="target y: 2 classes p, q",
        notes=("1 of 3 rows dropped",),
    ),
    "inputs of text": Read(
        *("abalone.data", ABALONE, "--no-header --categorical one-hot"),
        [[0, 0, 1, 0.45, 0.3], [1, 0, 0, 0.35, 0.2], [0, 1, 0, 0.5, 0.4], [0, 0, 1, 0.1, 0.2]],
        "target x4: number",
        ("input 'x1'", "3 labels: 'F', 'I', 'M'"),
    ),
    "names with commas": Read(
        *("t.csv", 'a,"y, all",z\n1,2,3\n4,5,7\n', "--target '\"y, all\",z'", [[1], [4]]),
        "target y, all: number; target z: number",
    ),
    "one name with commas": Read(
        *("t.csv", 'a,"y, all",z\n1,2,3\n4,5,7\n', "--target 'y, all'", [[1, 3], [4, 7]]),
        "target y, all: number",
    ),
    "a constant column": Read(
        *("t.csv", "a,b,y\n1,9,3\n3,9,7\n", "--standardize", [[-1, 0], [1, 0]]),
        notes=("'b'", "shifted to 0"),
    ),
    "inputs of very different sizes": Read(
        *("t.csv", "a,b,y\n1e-3,5000,3\n2e-3,10,7\n", "", [[1e-3, 5000], [2e-3, 10]]),
        notes=("6 orders of magnitude", "'b'", "'a'", "--standardize"),
    ),
    "a name for every sample": Read(
        *("t.csv", "a,y\n" + "".join(f"{i},person {i}\n" for i in range(20))),
        inputs=[[i] for i in range(20)],
        target="target y: 20 classes "
        + ", ".join(f"person {i}" for i in (0, 1, *range(10, 20)))
        + ", ...",
        notes=("'y' has 20 classes in 20 samples",),
    ),
    "labels that hold another separator": Read(
        "t.csv", "a,b,y\n1,2,1;2;3\n4,5,4;5;6\n", target="target y: 2 classes '1;2;3', '4;5;6'"
    ),
    "blanks beside commas": Read("t.csv", "a, b, y\n1, 2, 3\n4, 5, 7\n"),
    "blanks in labels": Read(
        "t.csv",
        "a,b,y\n1,2,New York\n4,5,Los Angeles\n",
        target="target y: 2 classes Los Angeles, New York",
    ),
    "decimal commas and blanks, without a header": Read(
        *("t.data", "1,5 2,25\n4,5 5,5\n", "--no-header", [[1.5], [4.5]]), "target x2: number"
    ),
    "quoted cells of several lines": Read(
        "t.csv", 'a,b,y\n1,2,"x\ny"\n\n4,5,z\n', target=r"target y: 2 classes 'x\ny', z"
    ),
}


@pytest.mark.parametrize("case", READ.values(), ids=READ)
def test_a_file_is_read_as_it_is_meant_and_says_how(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    Path(case.file).write_bytes(
        case.content if isinstance(case.content, bytes) else case.content.encode()
    )
    options = parse(["solve", case.file, *shlex.split(case.options)])
    dataset = asked_data(options).training
    np.testing.assert_allclose(dataset.inputs, case.inputs, rtol=1e-15)
    assert target_reading(dataset) == case.target
    said = " ".join(data_notes(dataset))
    assert bool(said) == bool(case.notes)
    for words in case.notes:
        assert words in said
    asked_problem(options, dataset)  # the default width fits


REFUSED = {
    "iris without a header": (
        "iris.data",
        IRIS,
        "",
        ["line 1: '5.1, 3.5", "is a sample", "--no-header"],
    ),
    "numbers without a header": (
        "t.csv",
        "7,2,3\n4,5,7\n",
        "",
        ["line 1: '7, 2, 3'", "--no-header"],
    ),
    "words without a header": (
        "agaricus.data",
        MUSHROOMS,
        "",
        ["line 1: 'p, x, s, n'", "--no-header"],
    ),
    "text first, without a header": (
        "abalone.data",
        ABALONE,
        "",
        ["line 1: 'M, 0.45", "--no-header"],
    ),
    "a slip in the first of all samples": (
        "t.data",
        IRIS.replace("5.1", "5.l"),
        "",
        ["line 1", "--no-header"],
    ),
    "a gap in the first of all samples": (
        "t.data",
        "?,2,3\n4,5,7\n",
        "",
        ["line 1", "--no-header"],
    ),
    "one sample": ("t.csv", "5.1,3.5,a\n", "", ["no rows", "--no-header"]),
    "names behind a mark": (
        "t.csv",
        "# a,b,y\n1,2,3\n4,5,7\n",
        "",
        ["line 2", "line 1, '# a,b,y'", "--comment ''"],
    ),
    "a gap among counts": (
        "t.csv",
        "a,y\n1,3\n2,n/a\n4,5\n",
        "",
        ["line 3 (row 2), column 'y'", "'n/a'", "--missing drop"],
    ),
    "an empty cell": (
        "t.csv",
        "a,y\n1,3\n,4\n4,5\n",
        "",
        ["line 3 (row 2), column 'a'", "empty", "drop or mean"],
    ),
    "a gap among labels": (
        "t.csv",
        "a,y\n1,p\n2,?\n4,q\n",
        "",
        ["line 3 (row 2), column 'y'", "'?'", "a label"],
    ),
    "a gap in a target has no mean": (
        "t.csv",
        "a,y\n1,3\n2,\n4,5\n",
        "--missing mean",
        ["line 3", "'y'", "no mean", "drop"],
    ),
    "gaps in every row": (
        "t.csv",
        "a,b,y\n?,1,3\n2,?,5\n",
        "--missing drop",
        ["every row", "'a' 1, 'b' 1"],
    ),
    "a column of gaps": (
        "t.csv",
        "a,b,y\n?,1,3\nNA,2,5\n",
        "--missing mean",
        ["column 'a'", "no values"],
    ),
    "prices": (
        "t.csv",
        'a,y\n1,"1,200"\n2,"3,400"\n',
        "",
        ["line 2 (row 1), column 'y'", "'1,200'", "thousands"],
    ),
    "shares": (
        "t.csv",
        "a,y\n1,12%\n2,13%\n",
        "",
        ["line 2 (row 1), column 'y'", "'12%'", "percent"],
    ),
    "amounts as inputs": (
        "t.csv",
        "a,y\n$5,1\n$6,2\n",
        "--categorical one-hot",
        ["line 2", "'a'", "'$5'", "currency"],
    ),
    "a slip among numbers": (
        "t.csv",
        "a,y\n1,3\n2,4\n3,4o\n",
        "",
        ["line 4 (row 3), column 'y'", "'4o'", "2 of 3 cells"],
    ),
    "a slip among inputs": (
        "t.csv",
        "a,y\n1,3\n2,4\nx,4\n",
        "--categorical one-hot",
        ["line 4", "column 'a'", "'x'"],
    ),
    "a slip after cells of several lines": (
        "t.csv",
        'n,a,y\n"p\nq",1,3\nr,2,4\ns,x,4\n',
        "",
        ["line 5 (row 3), column 'a'"],
    ),
    "inputs of text": (
        "t.csv",
        "sex,y\nM,3\nF,4\n",
        "",
        ["line 2", "'sex'", "'M'", "--categorical one-hot"],
    ),
    "dates": (
        "t.csv",
        "day,y\n2020-01-05,3\n2020-01-06,4\n",
        "",
        ["line 2", "'day'", "'2020-01-05'", "a date"],
    ),
    "dates, whatever is asked": (
        "t.csv",
        "day,y\n05.01.2020,3\n06.01.2020,4\n",
        "--categorical one-hot",
        ["'day'", "a date"],
    ),
    "dates as targets": ("t.csv", "a,day\n3,12-Jan-2020\n4,13-Jan-2020\n", "", ["'day'", "a date"]),
    "times": ("t.csv", "at,y\n10:30,3\n11:45,4\n", "", ["'at'", "'10:30'", "a time"]),
    "a comma that may be two things": (
        "t.csv",
        "a;y\n1,500;3\n2,250;4\n",
        "",
        ["line 2, column 1", "'1,500'", "--decimal ,"],
    ),
    "two separators": ("t.csv", "a;b,c;d\nx;y,z;w\nu;v,s;t\n", "", ["','", "';'", "--separator"]),
    "both marks": (
        "t.csv",
        "a;y\n1,5;3\n2.5;4\n",
        "",
        ["line 2 (row 1), column 'a'", "'1,5'", "--decimal ,"],
    ),
    "a remark that may be a sample": (
        "t.csv",
        "a,y\nred,1\n#f00,2\nblue,3\n",
        "--target a",
        ["line 3", "'#f00,2'", "--comment"],
    ),
    "a column of row numbers": (
        "t.csv",
        ",a,y\n0,1,3\n1,2,4\n",
        "",
        ["column 1 has no name", "index=False"],
    ),
    "row names as R writes them": (
        "t.txt",
        '"a" "b" "y"\n"1" 1 2 3\n"2" 4 5 7\n',
        "",
        ["line 1", "3 cells found, 4 expected", "name"],
    ),
    "a title": (
        "t.csv",
        "My data\na,b,y\n1,2,3\n4,5,7\n",
        "",
        ["line 1", "1 cells found, 3 expected", "title"],
    ),
    "a name twice": ("t.csv", "a,a,y\n1,2,3\n4,5,7\n", "", ["'a'", "columns 1 and 2", "rename"]),
    "a comma left out": ("t.csv", "a, b, y\n1, 2, 3\n4, 5 7\n6, 7, 8\n", "", ["line 3", "2 cells"]),
    "a long line": ("t.csv", "a,y\n1,2\n3,4,5,6\n", "", ["line 3", "4 cells found, 2 expected"]),
    "a name with commas, not in quotes": (
        "t.csv",
        'a,"y, all",z\n1,2,3\n',
        "--target 'y, all,z'",
        ["'y'", "'\"y, all\"'"],
    ),
    "broken quotes among names": ("t.csv", "a,y\n1,2\n", "--target '\"y'", ["check the quotes"]),
    "a number as a column": (
        "iris.data",
        IRIS,
        "--no-header --target 1",
        ["no column '1'", "'x1'"],
    ),
    "half a gzip file": ("t.csv.gz", gzip.compress(b"a,y\n1,2\n")[:-5], "", ["gzip", "truncated"]),
    "remarks only": ("t.csv", "# a\n# b\n", "", ["is empty"]),
    "a separator of two characters": (
        "t.csv",
        "a,y\n1,2\n",
        "--separator ::",
        ["--separator", "one character", "'::'"],
    ),
    "a decimal mark that is none": ("t.csv", "a,y\n1,2\n", "--decimal :", ["--decimal", "':'"]),
    "a comment of two characters": ("t.csv", "a,y\n1,2\n", "--comment //", ["--comment", "'//'"]),
    "a comma twice": ("t.csv", "a,y\n1,2\n", "--separator , --decimal ,", ["both a comma"]),
    "an unknown way with gaps": (
        "t.csv",
        "a,y\n1,2\n",
        "--missing dorp",
        ["'dorp'", "did you mean drop?"],
    ),
    "an unknown way with words": ("t.csv", "a,y\n1,2\n", "--categorical hot", ["'hot'", "one-hot"]),
}


@pytest.mark.parametrize("command", ["solve", "sweep"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path, monkeypatch, capsys, name, command
):
    file, content, options, words = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    Path(file).write_bytes(content if isinstance(content, bytes) else content.encode())
    ladder = ["--horizons", "1,2"] if command == "sweep" else []
    try:
        code = cli.main([command, file, *shlex.split(options), *ladder])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "remove" not in err  # no advice takes data away
    for word in words:
        assert word in err


@pytest.mark.parametrize("option", ["--separator ;", "--no-header", "--missing drop"])
def test_options_of_files_are_refused_for_named_data(capsys, option):
    assert cli.main(["solve", "moons", *option.split()]) == 2
    assert f"{option.split()[0]} came for the named data set 'moons'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--separator ;", "--decimal ,", "--comment %", "--no-header"])
def test_options_of_text_are_refused_for_arrays(tmp_path, capsys, option):
    np.savez(tmp_path / "t.npz", X=np.eye(2), y=[1, 2])
    assert cli.main(["solve", str(tmp_path / "t.npz"), *option.split()]) == 2
    assert f"{option.split()[0]} came with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        *[("inputs", "targets"), ("X", "y"), ("x", "y"), ("X", "Y"), ("data", "target")],
        *[("x_train", "y_train"), ("X_train", "Y_train"), ("features", "labels")],
    ],
)
def test_a_file_of_arrays_may_have_any_of_the_usual_names(tmp_path, inputs, targets):
    path = tmp_path / "t.npz"
    np.savez(path, **{inputs: [[1, 2], [4, 5]], targets: [3, 7]})
    raw = load(path)
    np.testing.assert_array_equal(raw.inputs, [[1, 2], [4, 5]])
    np.testing.assert_array_equal(raw.targets[0], [3, 7])
    assert raw.notes == ()


def test_arrays_that_are_not_read_are_named_and_two_pairs_are_refused(tmp_path):
    train = {"x_train": np.eye(3), "y_train": [1, 2, 3]}
    np.savez(tmp_path / "a.npz", **train, x_test=np.eye(2))
    (note,) = load(tmp_path / "a.npz").notes
    assert "'x_train' and 'y_train' were read, 'x_test' were not" in note
    np.savez(tmp_path / "b.npz", **train, data=np.eye(2), target=[1, 2])
    with pytest.raises(ValueError, match=r"several pairs .*'data', 'target'; 'x_train', 'y_train'"):
        load(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", **train, inputs=np.eye(2), targets=[1, 2])  # our own go first
    assert len(load(tmp_path / "c.npz").inputs) == 2


def test_nan_in_an_array_is_a_gap_like_any_other(tmp_path):
    np.savez(tmp_path / "t.npz", X=[[1, np.nan], [3, 5], [4, 6]], y=[1, 2, 3])
    with pytest.raises(ValueError, match=r"inputs, row 1, column 'x2': 'nan'.*--missing"):
        load(tmp_path / "t.npz")
    dropped = load(tmp_path / "t.npz", reading=Reading(missing="drop"))
    np.testing.assert_array_equal(dropped.inputs, [[3, 5], [4, 6]])
    filled = load(tmp_path / "t.npz", reading=Reading(missing="mean"))
    np.testing.assert_array_equal(filled.inputs, [[1, 5.5], [3, 5], [4, 6]])


def test_no_sample_of_a_file_without_a_header_is_lost(tmp_path):
    path = tmp_path / "iris.data"
    full = load("iris")
    rows = zip(full.inputs.tolist(), full.targets[0], strict=True)
    path.write_text("".join(",".join([*map(repr, x), f"Iris-{y}"]) + "\n" for x, y in rows))
    raw = load(path, reading=Reading(has_header=False))
    np.testing.assert_array_equal(raw.inputs, full.inputs)
    assert len(raw.inputs) == 150


def test_pandas_is_imported_when_a_file_is_read_and_not_before():
    code = "import sys, problems.cli; print('pandas' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_table_and_json_say_how_the_target_was_read_and_how_wide_the_state_is(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("a,y\n0,a\n1,b\n2,c\n3,?\n")
    data = ["t.csv", "--missing", "drop", "--layers", "2"]
    assert cli.main(["solve", *data, "--weight-decay", "0.5"]) == 0
    out, err = capsys.readouterr()
    assert "\ntarget y: 3 classes a, b, c\n" in out
    assert "3, for 1 input and 3 target columns\n" in out
    assert err.count("\n") == 1
    assert "1 of 4 rows dropped, as a value is missing (by column: 'y' 1)" in err
    cli.main(["sweep", *data, "--weight-decays", "0.5", "--json"])
    found = json.loads(capsys.readouterr().out)
    for result in (found, *found["rungs"]):
        assert result["target"] == "target y: 3 classes a, b, c"
        assert result["width"] == 3
        assert "1 of 4 rows dropped" in result["notes"][0]
    cli.main(["sweep", *data, "--weight-decays", "0.5"])
    assert capsys.readouterr().out.startswith("target y: 3 classes a, b, c\n")


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_named_data_set_can_be_posed_at_the_defaults_and_says_its_target(name, loss):
    options = parse(["solve", name, "--loss", loss, "--samples", "12"])
    if not DATASETS[name].classes and loss not in REGRESSION_LOSSES:
        with pytest.raises(ValueError, match="needs classes"):
            asked_data(options)
        return
    problem = asked_problem(options, asked_data(options).training)
    assert problem.state_size == max(problem.dataset.inputs.shape[1], problem.outputs)
    classes = DATASETS[name].classes
    said = f"{len(classes)} classes {', '.join(sorted(classes))}" if classes else "number"
    assert target_reading(problem.dataset).endswith(f": {said}")


@pytest.mark.parametrize("name", ["rings", "gaussians"])
def test_more_classes_than_inputs_are_solved_at_the_defaults(capsys, name):
    assert cli.main(["solve", name, "--samples", "6", "--layers", "3"]) == 0
    assert "3, for 2 inputs and 3 target columns\n" in capsys.readouterr().out
