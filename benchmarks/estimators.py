"""Certified networks beside scikit-learn's classifiers: cross-validated accuracy on real data.

Statement. On iris, wine and breast cancer the classes are nearly separable once the inputs are
standardized, so that classifiers of enough capacity that are regularised sensibly reach the same
accuracy up to the chance of the split. A certified optimum of the regularised network is one: it
has no reason to beat logistic regression here, and none to lose to it.

Predicted, for every data set: every fit is solved, and the best of scikit-learn's models is not
more accurate than the network at level 0.05 (one-sided), by the corrected resampled t-test on the
differences d_j of the J splits, which allow for the overlap of their training parts:

    t = mean(d) / sqrt((1 / J + n_test / n_train) var(d)) < t_{0.95, J-1}

Source: Nadeau and Bengio, Machine Learning 52 (2003), 239-281. The best model is chosen after the
fact, which makes the test stricter for the network. All models see the same splits, inputs
standardized on the training part, and have scikit-learn's default parameters but for the number of
iterations; the network's parameters are below and were not searched either.

Writes results/estimators.csv and results/estimators.png; exits with 1 if a prediction fails.

Usage: python benchmarks/estimators.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ocp import Status
from problems.datasets import load
from problems.estimators import TurnpikeClassifier
from problems.figures import save_score_figure
from problems.report import cell


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    data: tuple[str, ...] = ("iris", "wine", "breast-cancer")
    folds: int = 5
    repeats: int = 2
    seed: int = 0  # of splits, starts and MLPClassifier
    field: str = "bottleneck"
    hidden: int = 4
    layers: int = 5
    weight_decay: float = 1e-2
    level: float = 0.05  # of the test
    max_iterations: int = 5000  # of scikit-learn's models


PARAMETERS = Parameters()
QUICK = Parameters(data=("iris",), repeats=1)
NETWORK = "turnpike"
COLUMNS = (
    *("data", "model", "split", "status", "accuracy", "log_loss"),
    *("objective", "stationarity", "seconds"),
)
Row = dict[str, Any]


def models(parameters: Parameters) -> dict[str, Any]:
    """Classifiers by name, unfitted; the network first."""
    iterations, seed = parameters.max_iterations, parameters.seed
    network = TurnpikeClassifier(
        field=parameters.field,
        hidden=parameters.hidden,
        layers=parameters.layers,
        weight_decay=parameters.weight_decay,
        random_state=seed,
    )
    return {
        NETWORK: network,
        "logistic regression": LogisticRegression(max_iter=iterations),
        "RBF-SVC": SVC(max_iter=iterations),
        "MLP": MLPClassifier(max_iter=iterations, random_state=seed),
    }


def rows_of(data: str, parameters: Parameters) -> list[Row]:
    """One row for every split and model."""
    raw = load(data)
    inputs, labels = raw.inputs, raw.targets[0]
    splits = RepeatedStratifiedKFold(
        n_splits=parameters.folds, n_repeats=parameters.repeats, random_state=parameters.seed
    )
    return [
        {"data": data, "model": name, "split": split}
        | fitted(model, (inputs[train], labels[train]), (inputs[test], labels[test]))
        for split, (train, test) in enumerate(splits.split(inputs, labels))
        for name, model in models(parameters).items()
    ]


def fitted(model: Any, training: tuple[Any, Any], held_out: tuple[Any, Any]) -> Row:
    """How a fit ended, and what it makes of the samples held out."""
    pipeline = make_pipeline(StandardScaler(), model)
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always", ConvergenceWarning)
        pipeline.fit(*training)
    seconds = time.perf_counter() - begin
    row: Row = dict.fromkeys(COLUMNS[5:8])
    complained = any(issubclass(one.category, ConvergenceWarning) for one in complaints)
    row["status"] = "not converged" if complained else "converged"
    if isinstance(model, TurnpikeClassifier):
        row["status"] = model.solution_.status.value
        row["objective"] = model.objective_
        row["stationarity"] = model.certificate_.stationarity
    row["accuracy"] = float(pipeline.score(*held_out))
    if hasattr(pipeline, "predict_proba"):
        chances = pipeline.predict_proba(held_out[0])
        row["log_loss"] = float(log_loss(held_out[1], chances, labels=pipeline.classes_))
    return row | {"seconds": seconds}


def statistic(differences: np.ndarray, folds: int) -> float:
    """The corrected resampled t; 0 where all differences are 0, infinite where they are equal."""
    mean, variance = differences.mean(), differences.var(ddof=1)
    scale = (1 / len(differences) + 1 / (folds - 1)) * variance
    if scale > 0:
        return float(mean / np.sqrt(scale))
    return float(np.sign(mean) * np.inf) if mean else 0.0


def judged(data: str, rows: list[Row], parameters: Parameters) -> bool:
    """Print predicted beside measured; whether they agree."""
    limit = float(student.ppf(1 - parameters.level, parameters.folds * parameters.repeats - 1))
    found = scores(rows)
    others = {name: np.array(found[name]) for name in found if name != NETWORK}
    best = max(others, key=lambda name: others[name].mean())
    t = statistic(others[best] - np.array(found[NETWORK]), parameters.folds)
    network = [row for row in rows if row["model"] == NETWORK]
    solved = sum(row["status"] == Status.SOLVED.value for row in network)
    print(f"\n{data}: predicted: {len(network)} of {len(network)} fits solved, t < {limit:.3f}")
    print(f"{'':<{len(data)}}  measured: {solved} of {len(network)} fits solved, t = {t:.3f}")
    for name, accuracies in found.items():
        mine = [row for row in rows if row["model"] == name]
        losses = [row["log_loss"] for row in mine if row["log_loss"] is not None]
        print(
            f"  {name:<20} accuracy {np.mean(accuracies):.4f} +- {np.std(accuracies, ddof=1):.4f}, "
            f"log loss {f'{np.mean(losses):.4f}' if losses else '-':>6}, "
            f"{np.median([row['seconds'] for row in mine]):.3g} s"
            f"{', the best of the others' if name == best else ''}"
        )
    return solved == len(network) and t < limit


def scores(rows: list[Row]) -> dict[str, list[float]]:
    """Accuracies over the splits, by model."""
    names = dict.fromkeys(row["model"] for row in rows)
    return {name: [row["accuracy"] for row in rows if row["model"] == name] for name in names}


def main(arguments: list[str] | None = None) -> int:
    """Validate all models on all data sets; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="iris only, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    table: dict[str, list[Row]] = {}
    good = True
    for data in parameters.data:
        table[data] = rows_of(data, parameters)
        good &= judged(data, table[data], parameters)
    lines = [[row[column] for column in COLUMNS] for rows in table.values() for row in rows]
    print()
    for line in (COLUMNS, *lines):
        print("  ".join(f"{_short(value):>13.13}" for value in line))
    with (options.output / "estimators.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])
    figure = {data: scores(rows) for data, rows in table.items()}
    save_score_figure(figure, options.output / "estimators.png", "held-out accuracy")
    print(f"wrote {options.output}/estimators.csv and {options.output}/estimators.png")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
