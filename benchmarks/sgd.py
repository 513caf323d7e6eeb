"""How far are gradient descent, SGD, Adam, AdamW and L-BFGS from a certified optimum?

Statement. Every optimiser minimises the same discretised cost J from the same initial networks,
over a grid of rates, with several seeds; J* is the least certified cost known. Predicted:

1. in the limit, gradient descent of step lr near a strict minimum contracts J - J* by
   max_j (1 - lr mu_j)^2 a step, mu_j the eigenvalues of the reduced Hessian: linearly for
   lr < 2 / mu_max, and not at all beyond it (Polyak, Introduction to Optimization (1987), 1.4);
2. the cost that a run records is that of the stages, to 1e-12 relative;
3. no run ends below J*: if polishing leads lower, that is the reference, and said first;
4. polishing never raises the cost, and ends certified.

Assumptions: smooth networks (tanh) and losses; real data are standardised. Reported beside that,
with no prediction: the gaps, medians and ranges over the seeds, against gradient evaluations and
wall time, and who wins where. Wall time is that of one thread per run.

Writes results/sgd.csv and results/sgd.png; exits with 1 if a prediction fails.

Usage: python benchmarks/sgd.py [--quick] [--workers N] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ocp import rollout
from ocp.condensing import adjoint, linearize
from ocp.reduced_hessian import reduced_hessian
from problems.comparison import Comparison, Plan, compare
from problems.comparison_report import GAPS, comparison_report
from problems.datasets import Dataset, encode, load, standardize
from problems.figures import save_comparison_figure
from problems.learning import LearningProblem
from problems.losses import CROSS_ENTROPY, SQUARED, Loss
from problems.report import cell
from problems.torch_optimizers import (
    ADAM,
    ADAMW,
    GRADIENT_DESCENT,
    LBFGS,
    MOMENTUM,
    SGD,
    Optimizer,
)
from problems.torch_training import Run, run, training
from problems.training import train
from problems.workers import processes


@dataclass(frozen=True)
class Case:
    """A data set; real ones are standardised."""

    data: str
    samples: int
    loss: Loss
    is_real: bool = False

    def problem(self, parameters: Parameters) -> LearningProblem:
        """The learning problem."""
        dataset = encode(load(self.data, samples=self.samples, seed=0), self.loss.name)
        if self.is_real:
            dataset = standardize(dataset).dataset
        if not all(dataset.classes):
            dataset = _scaled(dataset)
        return LearningProblem(
            dataset,
            loss=self.loss,
            layers=parameters.layers,
            weight_decay=parameters.weight_decay,
        )


def _scaled(dataset: Dataset) -> Dataset:
    """Numeric targets to zero mean and unit deviation, which is the unit of the states."""
    y = dataset.targets
    return replace(dataset, targets=(y - y.mean(axis=0)) / y.std(axis=0))


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    cases: tuple[Case, ...] = (
        Case("iris", 150, CROSS_ENTROPY, is_real=True),
        Case("wine", 60, CROSS_ENTROPY, is_real=True),
        Case("diabetes", 100, SQUARED, is_real=True),
        Case("moons", 50, SQUARED),
        Case("circles", 50, SQUARED),
        Case("spirals", 50, SQUARED),
    )
    layers: int = 5
    weight_decay: float = 1e-2
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    starts: int = 6  # random ones of the reference
    evaluations: int = 500
    optimizers: tuple[Optimizer, ...] = (
        replace(GRADIENT_DESCENT, rates=(0.3, 1.0, 3.0)),
        replace(MOMENTUM, rates=(0.1, 0.3, 1.0)),
        replace(SGD, rates=(0.01, 0.03, 0.1)),
        replace(ADAM, rates=(0.03, 0.1, 0.3)),
        replace(ADAMW, rates=(0.003, 0.01, 0.03)),
        LBFGS,
    )
    local: Case = Case("moons", 10, SQUARED)  # of the first prediction
    shares: tuple[float, ...] = (0.3, 0.8, 0.95, 1.05)  # of the limit 2 / mu_max
    perturbation: float = 1e-4  # of the start near the minimum, relative
    rate: float = 0.02  # relative, of the contraction's logarithm
    cost: float = 1e-12  # relative, of recorded costs
    below: float = 1e-9  # relative, by which a run may be below J* by rounding


PARAMETERS = Parameters()
QUICK = Parameters(
    cases=(Case("moons", 8, SQUARED),),
    layers=3,
    seeds=(0, 1),
    starts=2,
    evaluations=60,
    optimizers=(GRADIENT_DESCENT, SGD, ADAM, LBFGS),
    local=Case("moons", 6, SQUARED),
)

COLUMNS = (
    *("data", "optimizer", "best_rate", "gap_median", "gap_least", "gap_largest"),
    *("own_gap_median", "error_median", "energy_median", "distance_median"),
    *("polished_to_reference", "polished", "diverged"),
    *(f"evaluations_to_{gap}" for gap in GAPS),
    *(f"seconds_to_{gap}" for gap in GAPS),
)


def contraction(parameters: Parameters) -> bool:
    """Predict how fast gradient descent contracts near a minimum, then measure it."""
    problem = parameters.local.problem(parameters)
    optimum = train(problem, starts=parameters.starts)
    at = optimum.trajectory.decisions
    linearization = linearize(problem.staged, optimum.trajectory)
    none = tuple(np.zeros_like(v.rows) for v in (*linearization.stages, *linearization.shared))
    hessian = reduced_hessian(linearization, adjoint(linearization, none), none)
    curvatures, modes = np.linalg.eigh(hessian)
    limit = 2 / curvatures[-1]
    print(f"curvatures of the minimum: {curvatures[0]:.4g} to {curvatures[-1]:.4g}")
    print(f"{'lr / limit':>12}{'predicted':>14}{'measured':>14}  contraction of J - J* a step")
    good = optimum.solution.is_solved
    for share in parameters.shares:
        lr = share * limit
        factors = (1 - lr * curvatures) ** 2
        slowest = int(np.argmax(factors))
        predicted = float(factors[slowest])
        # Along the mode that decides: the other modes are gone in the limit anyway.
        start = at + parameters.perturbation * np.linalg.norm(at) * modes[:, slowest]
        steps = 20
        rate = lr * problem.horizon * problem.horizon / problem.layers
        made = run(training(problem, GRADIENT_DESCENT, rate, 0, evaluations=steps, start=start))
        gaps = made.history.objective - optimum.solution.objective
        measured = float((gaps[-1] / gaps[0]) ** (1 / made.history.evaluations[-1]))
        holds = abs(np.log(measured) - np.log(predicted)) <= parameters.rate * abs(
            np.log(predicted)
        )
        good &= bool(holds)
        print(f"{share:>12.3g}{predicted:>14.8g}{measured:>14.8g}  {'' if holds else 'FAILS'}")
    return good


def checked(comparison: Comparison, parameters: Parameters) -> list[str]:
    """Predictions 2 to 4 on one data set; what fails, in words."""
    problem, failures = comparison.plan.problem, []
    for made in comparison.runs:
        exact = linearize(problem.staged, rollout(problem.staged, made.decisions)).objective
        if abs(exact - made.objective) > parameters.cost * abs(exact):
            failures.append(f"{made.name} recorded {made.objective}, the stages say {exact}")
        if made.objective < comparison.optimum * (1 - parameters.below):
            failures.append(f"{made.name} is below J*: {made.objective}, {comparison.optimum}")
    by_name: dict[str, Run] = {made.name: made for made in comparison.runs}
    for name, polished in comparison.polished.items():
        if polished.objective > by_name[name].objective * (1 + parameters.below):
            failures.append(f"polishing raised the cost of {name} to {polished.objective}")
        if not polished.is_solved:
            status = polished.solved.result["status"]
            failures.append(f"{name}, polished, is {status}, not solved")
    return failures


def rows_of(name: str, result: dict[str, Any]) -> list[tuple]:
    """One row per optimiser, the second-order solver among them."""
    rows = []
    for entry in [result["second_order"], *result["optimizers"]]:
        polished = [r["polished"] for r in entry["runs"] if r.get("polished")]
        diverged = [r["outcomes"].get("diverged", 0) for r in entry.get("rates", [])]
        evaluations = entry.get("evaluations_to_gap", {})
        rows.append(
            (
                *(name, entry["name"], entry.get("best_rate")),
                *(entry["gap"][key] for key in ("median", "least", "largest")),
                entry.get("gap_to_own_minimum", {}).get("median"),
                *(entry[key]["median"] for key in ("training_error", "control_energy")),
                entry.get("distance_to_reference", {}).get("median"),
                *(sum(p["is_reference"] for p in polished), len(polished), sum(diverged)),
                *(evaluations.get(gap) for gap in GAPS),
                *(entry["seconds"]["to_gap"][gap] for gap in GAPS),
            )
        )
    return rows


def wins(name: str, result: dict[str, Any]) -> str:
    """Where somebody else than the second-order solver is first, in one sentence."""
    sentences = []
    for key, what in (("to_gap", "a gap"), ("to_own", "a gap from its own minimum")):
        first = result["winner"]["seconds"][key]
        by: dict[str, list[str]] = {}
        for gap, winner in first.items():
            if winner is not None:
                by.setdefault(winner, []).append(gap)
        found = "; ".join(f"{who} at {', '.join(gaps)}" for who, gaps in by.items())
        sentences.append(f"first to {what}: {found or 'nobody'}")
    return f"{name}: {'. '.join(sentences)}."


def show(rows: Sequence[tuple]) -> None:
    """The table, without the columns of the times."""
    count = COLUMNS.index(f"evaluations_to_{next(iter(GAPS))}")
    names = {c: c.replace("_median", "").replace("polished_to_reference", "to_J*") for c in COLUMNS}
    for row in ([names[c] for c in COLUMNS], *rows):
        shown = [_short(value) for value in row[:count]]
        print("  ".join(f"{value:>{16 if i == 1 else 11}}" for i, value in enumerate(shown)))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else cell(value)


def main(arguments: list[str] | None = None) -> int:
    """Run all cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small data set, seconds")
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="[all cores]")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    workers = options.workers or (1 if options.quick else os.cpu_count() or 1)
    print(
        "predicted: gradient descent contracts by max (1 - lr mu)^2 a step, up to lr = 2 / mu_max"
    )
    good = contraction(parameters)
    rows: list[tuple] = []
    comparisons: dict[str, Comparison] = {}
    sentences: list[str] = []
    with processes(workers) as executor:
        for case in parameters.cases:
            plan = Plan(
                case.problem(parameters),
                optimizers=parameters.optimizers,
                seeds=parameters.seeds,
                evaluations=parameters.evaluations,
                starts=parameters.starts,
            )
            comparison = compare(plan, executor=executor, workers=workers)
            result = comparison_report(comparison)
            name = f"{case.data} ({case.samples}, {case.loss.name})"
            print(f"\n{name}: J* = {comparison.optimum:.10g}, {result['status']}")
            print(f"  {result['message']}")
            found = rows_of(name, result)
            show(found)
            rows += found
            failures = checked(comparison, parameters)
            for failure in failures:
                print(f"  A PREDICTION FAILS: {failure}")
            good &= not failures and result["status"] == "solved"
            comparisons[name] = comparison
            sentences.append(wins(name, result))
    print("\nWho is first by the clock, at the median seed and the best rate:")
    print("\n".join(sentences))
    with (options.output / "sgd.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    save_comparison_figure(comparisons, options.output / "sgd.png")
    print(f"wrote {options.output}/sgd.csv and sgd.png")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
