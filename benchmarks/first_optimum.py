"""The first certified optima: a real data set (iris) and a planar one (moons).

Statement. A point is called solved when its certificate holds: the gradient in the controls
vanishes relative to the terms that cancel in it, the states follow the dynamics, and the Hessian
reduced to the controls is positive. Assumptions: tanh is smooth and the L2 penalty is positive, so
that a minimum exists. Prediction: every start ends at a certified local minimum, and re-running
the network reproduces the reported cost to rounding.

Writes results/first_optimum.csv and one figure per data set; exits with 1 if a start fails, or if
the cost of the re-run network differs.

Usage: python benchmarks/first_optimum.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from problems.datasets import encode, load, standardize
from problems.figures import save_figure
from problems.learning import LearningProblem
from problems.report import cell
from problems.solution_file import save_solution
from problems.training import LearningSolution, train


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    data: str
    samples: int | None
    layers: int
    weight_decay: float
    starts: int
    seed: int = 0


CASES = (
    Case("moons", samples=50, layers=20, weight_decay=1e-3, starts=12),
    Case("iris", samples=None, layers=10, weight_decay=1e-2, starts=2),
)
QUICK = (
    Case("moons", samples=12, layers=5, weight_decay=1e-2, starts=2),
    Case("iris", samples=15, layers=4, weight_decay=1e-2, starts=1),
)
COLUMNS = (
    *("data", "N", "D", "layers", "status", "J", "E", "stationarity", "min eigenvalue"),
    *("minima", "re-run difference", "seconds"),
)
AGREEMENT = 1e-12  # of the re-run cost, relative: rounding


def solve(case: Case) -> LearningSolution:
    """Solve one case."""
    raw = load(case.data, samples=case.samples, seed=case.seed)
    dataset = standardize(encode(raw, "squared")).dataset
    problem = LearningProblem(dataset, layers=case.layers, weight_decay=case.weight_decay)
    return train(problem, seed=case.seed, starts=case.starts)


def rerun_difference(solution: LearningSolution) -> float:
    """Relative difference between the reported cost and that of the network run by NumPy alone."""
    problem, weights = solution.problem, solution.weights
    x = np.pad(
        problem.dataset.inputs, ((0, 0), (0, problem.state_size - problem.dataset.inputs.shape[1]))
    )
    step, energy = problem.horizon / problem.layers, 0.0
    for w, b in zip(weights["w"], weights["b"], strict=True):
        x = x + step * (np.tanh(x) @ w.T + b)
        energy += step * float((w**2).sum() + (b**2).sum())
    residual = x[:, : problem.outputs] - problem.dataset.targets
    cost = float((residual**2).sum() / problem.samples) + problem.weight_decay * energy
    return abs(cost - solution.solution.objective) / cost


def main(arguments: list[str] | None = None) -> int:
    """Run all cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small cases, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    rows, good = [], True
    for case in QUICK if options.quick else CASES:
        begin = time.perf_counter()
        solution = solve(case)
        seconds = time.perf_counter() - begin
        assert solution.starts is not None
        difference = rerun_difference(solution)
        good &= all(start.solution.is_solved for start in solution.starts.solutions)
        good &= difference <= AGREEMENT
        certificate = solution.certificate
        rows.append(
            (
                case.data,
                solution.problem.samples,
                solution.problem.state_size,
                case.layers,
                solution.status.value,
                solution.solution.objective,
                float(solution.errors[-1]),
                certificate.stationarity,
                certificate.min_reduced_hessian_eigenvalue,
                len(solution.starts.minima),
                difference,
                seconds,
            )
        )
        save_solution(options.output / f"{case.data}.npz", solution, {"seed": case.seed})
        save_figure(solution, options.output / f"{case.data}.png")
    print("predicted: every start solved, stationarity <= 1e-8, min eigenvalue > 0, difference ~ 0")
    for row in (COLUMNS, *rows):
        print("  ".join(f"{_short(value):>14}" for value in row))
    with (options.output / "first_optimum.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"wrote {options.output}/first_optimum.csv and a .npz and a .png per data set")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
