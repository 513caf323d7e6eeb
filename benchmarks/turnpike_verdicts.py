"""Exponential, algebraic or plateau: the verdict of the turnpike report on generated data.

Statement. How E decays along a turnpike follows from the features of the states where it ends
(this project's; the exponential case is that of arXiv 2008.02491, see exponential_turnpike.py):

    exponential  N <= D + 1 samples, targets that leave the features independent
    algebraic    two classes with one target state each and N > D + 1: samples that meet have the
                 same features, so what moves them apart or together fades with the residual
    plateau      N > D + 1 samples and one output: the residual orthogonal to the D + 1 features
                 moves with no control, so u -> 0 while E > 0

Assumptions: the data sets and seeds named in the parameters, one start each, "inside" with tanh.
Predicted: the verdict of every case is that of its kind, ten cases of each; a stalled local minimum
of a collapsing data set (all samples meet) is a plateau, and more starts find a lower one; of the
generated cases, |u(3T/4)| / |u(T/4)| is about (1/3)^2 where it is algebraic (|u| ~ 1/t, and once
more for the free end; asked is 1/50), and below 1/50 on a plateau, where |u| ~ exp(-mu t); the
width that the report advises gets off the plateau: E less than a tenth of what it was. It need not
make the decay exponential, since an optimum may keep padded coordinates equal, and their features
with them; so that verdict is shown, not predicted.

Writes results/turnpike_verdicts.csv and a figure of one case per kind; exits with 1 if a
prediction fails.

Usage: python benchmarks/turnpike_verdicts.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ocp import SolveOptions
from problems.cropping import find_crop, recomputed_change
from problems.datasets import Dataset, encode, load
from problems.figures import save_turnpike_figure
from problems.learning import LearningProblem
from problems.report import cell
from problems.training import LearningSolution, train
from problems.turnpike_report import turnpike_report
from problems.turnpike_verdict import Verdict

TWO_TARGETS = np.array([[-1.0, 0.0], [1.0, 0.0]])  # states of the two classes


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    data: tuple[str, ...] = ("moons", "circles", "xor", "chess2", "spirals")
    seeds: tuple[int, ...] = (0, 1)
    few: int = 3  # samples of the exponential kind, in width 2
    collapsing: int = 9  # of the algebraic kind, in width 2
    many: int = 12  # of the plateau, in width 2
    horizon: float = 20.0
    layers: int = 100
    weight_decay: float = 0.1
    stalled: tuple[tuple[str, int], ...] = (("chess3", 1),)  # local minima of one start
    starts: int = 6  # that find a lower one
    tolerance: float = 1e-9
    control: float = 0.02  # |u(3T/4)| / |u(T/4)| between plateau and algebraic decay
    better: float = 0.1  # of E on the plateau, after taking the advice


PARAMETERS = Parameters()
QUICK = Parameters(data=("xor",), seeds=(1,), stalled=())
COLUMNS = (
    *("case", "seed", "N", "width", "status", "J", "predicted", "verdict", "rank", "residuals"),
    *(
        "E(x(T))",
        "E(T/2) / E(T) - 1",
        "|u| ratio",
        "cut at",
        "change of E",
        "predicted",
        "recomputed",
        "holds",
    ),
)


def few(data: str, seed: int, parameters: Parameters) -> LearningProblem:
    """As many samples as features."""
    return _problem(_read_out(data, parameters.few, seed), 2, parameters)


def collapsing(data: str, seed: int, parameters: Parameters) -> LearningProblem:
    """Every class has one target state."""
    found = encode(load(data, samples=parameters.collapsing, seed=seed), "cross-entropy")
    return _problem(Dataset(data, found.inputs, found.targets @ TWO_TARGETS), 2, parameters)


def many(data: str, seed: int, parameters: Parameters) -> LearningProblem:
    """More samples than features."""
    return _problem(_read_out(data, parameters.many, seed), 2, parameters)


def _read_out(data: str, samples: int, seed: int) -> Dataset:
    return encode(load(data, samples=samples, seed=seed), "squared")


def _problem(dataset: Dataset, width: int, parameters: Parameters) -> LearningProblem:
    return LearningProblem(
        dataset,
        width=width,
        horizon=parameters.horizon,
        layers=parameters.layers,
        terminal=0.0,
        tracking=1.0,
        weight_decay=parameters.weight_decay,
    )


KINDS = {
    Verdict.EXPONENTIAL: few,
    Verdict.ALGEBRAIC: collapsing,
    Verdict.PLATEAU: many,
}


def judged(
    solution: LearningSolution, seed: int, predicted: Verdict | None
) -> tuple[tuple, bool, dict[str, Any]]:
    """Row of a solution, whether it is as predicted, and its report."""
    problem, found = solution.problem, turnpike_report(solution)
    errors = solution.errors
    fall = float(errors[len(errors) // 2] / errors[-1] - 1)
    norms, quarter = solution.control_norms, problem.layers // 4
    control = float(norms[3 * quarter] / norms[quarter])
    holds = solution.solution.is_solved
    holds &= predicted is None or found["verdict"] == predicted.value
    crop = find_crop(solution)
    change, as_reported = recomputed_change(solution, crop)
    holds &= as_reported
    row = (
        *(problem.dataset.name, seed, problem.samples, problem.state_size, solution.status.value),
        *(solution.solution.objective, predicted.value if predicted else None, found["verdict"]),
        *(found["rank"], found["residuals"], float(errors[-1]), fall, control, crop.depth),
        *(crop.change,),
        *(crop.predicted_change, change, bool(holds)),
    )
    if not holds:
        print(f"{problem.dataset.name}, seed {seed}: {found['verdict']}, {found['reason']}")
    return row, bool(holds), found


def generated(parameters: Parameters, folder: Path) -> tuple[list[tuple], bool]:
    """All generated cases; prints the confusion table, draws the first case of every kind."""
    rows: list[tuple] = []
    good, shown = True, dict[str, LearningSolution]()
    counts: Counter[tuple[str, str]] = Counter()
    ratios: dict[Verdict, list[float]] = {kind: [] for kind in KINDS}
    for kind, make in KINDS.items():
        for data in parameters.data:
            for seed in parameters.seeds:
                solution = _solved(make(data, seed, parameters), parameters)
                row, holds, found = judged(solution, seed, kind)
                control = row[COLUMNS.index("|u| ratio")]
                if kind is Verdict.ALGEBRAIC:
                    holds &= control > parameters.control
                if kind is Verdict.PLATEAU:
                    holds &= control < parameters.control
                ratios[kind].append(control)
                rows.append(row)
                good &= holds
                counts[kind.value, found["verdict"]] += 1
                shown.setdefault(f"{kind.value}: {data}", solution)
    firsts: dict[str, tuple[str, LearningSolution]] = {}
    for name, solution in shown.items():
        firsts.setdefault(name.split(":")[0], (name, solution))
    save_turnpike_figure(dict(firsts.values()), folder / "turnpike_verdicts.png")
    verdicts = [verdict.value for verdict in Verdict]
    print(f"{'predicted':<14}" + "".join(f"{name:>14}" for name in verdicts))
    for kind in KINDS:
        least, most = min(ratios[kind]), max(ratios[kind])
        numbers = "".join(f"{counts[kind.value, name]:>14}" for name in verdicts)
        print(f"{kind.value:<14}{numbers}   |u(3T/4)| / |u(T/4)| {least:.2g} to {most:.2g}")
    return rows, good


def stalled(parameters: Parameters) -> tuple[list[tuple], bool]:
    """A local minimum is a plateau, and more starts find a lower one."""
    rows, good = [], True
    for data, seed in parameters.stalled:
        problem = collapsing(data, seed, parameters)
        first = _solved(problem, parameters)
        row, holds, found = judged(first, seed, Verdict.PLATEAU)
        good &= holds and any("--starts" in advice for advice in found["advice"])
        best = _solved(problem, parameters, parameters.starts)
        other, better, _ = judged(best, seed, Verdict.ALGEBRAIC)
        lower = best.solution.objective < first.solution.objective
        print(
            f"{data}, seed {seed}: stalled at J = {first.solution.objective:.6g}; "
            f"{parameters.starts} starts predicted to find less, "
            f"found {best.solution.objective:.6g}"
        )
        good &= better and lower
        rows += [row, other]
    return rows, good


def advised(parameters: Parameters) -> tuple[list[tuple], bool]:
    """The advised width lowers a plateau."""
    data, seed = parameters.data[0], parameters.seeds[0]
    problem = many(data, seed, parameters)
    before = _solved(problem, parameters)
    width = parameters.many - 1
    advice = turnpike_report(before)["advice"][0]
    after = _solved(replace(problem, width=width), parameters)
    row, holds, found = judged(after, seed, None)
    ratio = float(after.errors[-1] / before.errors[-1])
    print(
        f"{data}: advised {advice!r}; predicted E below {parameters.better:g} of the plateau, "
        f"measured {ratio:.2g}, rank {found['rank']} of {found['residuals']}: {found['verdict']}"
    )
    return [row], bool(holds and f"--width {width}" in advice and ratio <= parameters.better)


def _solved(problem: LearningProblem, parameters: Parameters, starts: int = 1) -> LearningSolution:
    return train(problem, starts=starts, options=SolveOptions(tolerance=parameters.tolerance))


def main(arguments: list[str] | None = None) -> int:
    """Judge all cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one case of each kind, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    rows, good = [], True
    for found, holds in (
        generated(parameters, options.output),
        stalled(parameters),
        advised(parameters),
    ):
        rows += found
        good &= holds
    for row in (COLUMNS, *rows):
        print("  ".join(f"{_short(value):>12}" for value in row))
    print("all predictions hold" if good else "A PREDICTION FAILS")
    with (options.output / "turnpike_verdicts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"wrote {options.output}/turnpike_verdicts.csv and turnpike_verdicts.png")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
