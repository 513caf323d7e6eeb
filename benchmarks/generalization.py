"""What the minimal-norm limit buys: generalisation along ladders in the horizon.

Statement. On long horizons the rescaled controls v_T(s) = T u_T(T s) lose all error that they can
lose at the least norm: E falls, |v| grows no further than it must, and the value function is
concave with slope |v|^2. Source: Esteve, Geshkovski, Pighin and Zuazua, Large-time asymptotics in
deep learning, arXiv 2008.02491; the value function is this project's. The theorem says nothing of
samples that were not trained on. Assumptions: "inside" with tanh; the squared loss, whose minimum
is attained, and beside it the logistic loss, whose infimum is not: there no limit is claimed.

Predicted, for every data set, loss and seed: every rung solved, E not growing and |v| not falling
with T, no rung beaten by the control of another. Reported, not predicted: held-out error and
accuracy on 1000 fresh samples, margin, margin / |v|, and the Lipschitz constant of the network
from above and below, with their spread over the seeds, and in words where they were best.

Writes results/generalization.csv and a figure per ladder; exits with 1 if a prediction fails.

Usage: python benchmarks/generalization.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocp import SolveOptions
from problems.datasets import encode, load
from problems.figures import save_ladder_figure
from problems.ladder import climb, solver
from problems.ladder_plan import horizon_ladder
from problems.ladder_report import ladder_report
from problems.learning import LearningProblem
from problems.losses import LOSSES
from problems.report import cell


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    cases: tuple[tuple[str, str], ...] = (
        ("moons", "squared"),
        ("circles", "squared"),
        ("xor", "squared"),
        ("moons", "logistic"),
    )
    samples: int = 50
    fresh: int = 1000
    fresh_seed: int = 1_000_003  # of the held-out samples, added to the seed
    seeds: tuple[int, ...] = (0, 1, 2, 3)  # of the data and of the starts
    starts: int = 1  # of the first rung; the others start from the one before
    width: int = 3
    layers: int = 8
    weight_decay: float = 0.1
    decades: int = 4
    tolerance: float = 1e-6
    max_iterations: int = 500  # of each solve


PARAMETERS = Parameters()
QUICK = Parameters(
    cases=(("moons", "squared"),), samples=12, fresh=200, seeds=(0, 1), layers=5, decades=3
)
MEASURES = (
    *("training_error", "training_accuracy", "held_out_error", "held_out_accuracy", "margin"),
    *("normalized_margin", "rescaled_norm_squared", "lipschitz_bound", "lipschitz_sampled"),
)
COLUMNS = ("data", "loss", "seed", "T", "status", *MEASURES)


def climbed(data: str, loss: str, seed: int, parameters: Parameters) -> dict[str, Any]:
    """The report of one ladder."""
    training = encode(load(data, samples=parameters.samples, seed=seed), loss)
    fresh_seed = seed + parameters.fresh_seed
    held_out = encode(load(data, samples=parameters.fresh, seed=fresh_seed), loss)
    problem = LearningProblem(
        training,
        width=parameters.width,
        layers=parameters.layers,
        weight_decay=parameters.weight_decay,
        loss=LOSSES[loss],
    )
    plan = horizon_ladder(problem, [10.0**j for j in range(parameters.decades + 1)])
    options = SolveOptions(tolerance=parameters.tolerance, max_iterations=parameters.max_iterations)
    solve = solver(seed=seed, options=options)
    ladder = climb(plan, solve, starts=parameters.starts, interpolate=False)
    return ladder_report(ladder, parameters.tolerance, held_out)


def table(results: list[dict[str, Any]], key: str) -> np.ndarray:
    """One measure, (seeds, rungs)."""
    return np.array([[rung[key] for rung in result["rungs"]] for result in results])


def in_words(results: list[dict[str, Any]]) -> list[str]:
    """What is seen of data that were not trained on, as medians over the seeds."""
    horizons = [rung["horizon"] for rung in results[0]["rungs"]]
    lines = []
    for key, best in (("held_out_accuracy", np.argmax), ("held_out_error", np.argmin)):
        medians = np.median(table(results, key), axis=0)
        at = int(best(medians))
        fit = "best at the end" if at == len(horizons) - 1 else f"best at T = {horizons[at]:g}"
        lines.append(
            f"{key.replace('_', ' ')}: {fit} ({medians[at]:.4g}); "
            f"from {medians[0]:.4g} to {medians[-1]:.4g} along the ladder"
        )
    for key in ("margin", "normalized_margin", "rescaled_norm_squared", "lipschitz_sampled"):
        values = table(results, key)
        first, last = np.median(values[:, 0]), np.median(values[:, -1])
        low, high = values[:, -1].min(), values[:, -1].max()
        lines.append(
            f"{key.replace('_', ' ')}: from {first:.4g} to {last:.4g} "
            f"[{low:.4g}, {high:.4g}] over the seeds"
        )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Climb all ladders; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one data set, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    rows, good = [], True
    print("predicted: every rung solved, E not growing and |v| not falling with T, no rung beaten")
    for data, loss in parameters.cases:
        results = [climbed(data, loss, seed, parameters) for seed in parameters.seeds]
        for seed, result in zip(parameters.seeds, results, strict=True):
            checks = result["checks"]
            holds = result["status"] == "solved" and checks["consistent"]
            good &= holds and checks["error_monotone"] and checks["norm_monotone"]
            for sentence in checks["violations"]:
                print(f"{data}, {loss}, seed {seed}: {sentence}")
            rows += [
                (data, loss, seed, rung["horizon"], rung["status"], *(rung[m] for m in MEASURES))
                for rung in result["rungs"]
            ]
        solved = sum(result["status"] == "solved" for result in results)
        repairs = sum(len(result["checks"]["repairs"]) for result in results)
        print(f"\n{data}, {loss}: {solved} of {len(results)} ladders solved, {repairs} restarts")
        for line in in_words(results):
            print(f"  {line}")
        save_ladder_figure(results, options.output / f"generalization_{data}_{loss}.png")
    print()
    for row in (COLUMNS, *rows):
        print("  ".join(f"{_short(value):>12.12}" for value in row))
    with (options.output / "generalization.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"wrote {options.output}/generalization.csv and a figure per data set and loss")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
