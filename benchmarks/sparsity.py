"""Sparse turnpikes: controls that are off for good after a time that does not grow with T.

Statement. With an l1 penalty and bounds |u_j| <= U the Hamiltonian is linear in the control, so
u_j = 0 where its switching function S_j = |sum_i p_i . df/du_j(x_i, 0)| / lambda is below 1 and
|u_j| = U where it is above; u = 0 holds the states, so the costates fall linearly to the end, and
what is off stays off. Source: Esteve-Yague and Geshkovski, Systems & Control Letters (2023). This
project's: the bottleneck w2 s(w1 x + b1) + b2 with s(0) = s''(0) = 0 is bilinear at u = 0, and
switches with the squared penalty, too: w1, b1, w2 are off where

    S(t) = s'(0) |sum_i p_i (x_i, 1)^T|_2 / (2 lambda) < 1,

and S(t_0) = 1 leaves an error E ~ T^-2, which the report predicts (`problems.switching`).
Assumptions: N <= D + 1 samples, fields at rest at u = 0, tanh or sin in the bottleneck. Predicted:
switch-off times of l1 on T = 10, 20, 40 that are equal within one layer; every control as its
switching function says; the bottleneck off when S says so, the remaining error within 2 % of its
prediction and a quarter of it, within 10 %, when T is doubled from 20 to 40; what is still on there
is b2, which decays at the rate of the single value sqrt(N) of its kernel; cutting at the reported
depth changes E as reported.

Writes results/sparsity.csv and figures; exits with 1 if a prediction fails.

Usage: python benchmarks/sparsity.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from problems.cropping import find_crop, recomputed_change
from problems.datasets import encode, load
from problems.figures import draw_switching
from problems.figures.page import save_page
from problems.learning import LearningProblem
from problems.regularizers import L1_PENALTY, L2
from problems.report import cell
from problems.switching import SINGULAR, Switching, switching
from problems.training import LearningSolution, train
from problems.turnpike_rates import discrete_rate
from problems.turnpike_report import turnpike_report
from problems.turnpike_verdict import Verdict
from problems.vector_fields import (
    BOTTLENECK,
    INSIDE,
    OUTSIDE,
    SINE,
    TANH,
    Activation,
    VectorField,
)


@dataclass(frozen=True)
class Case:
    """Few samples; the bottleneck has a squared penalty, the other fields l1 and bounds."""

    data: str
    samples: int
    field: VectorField
    activation: Activation = TANH

    @property
    def is_bilinear(self) -> bool:
        """Whether it switches with the squared penalty."""
        return self.field is BOTTLENECK

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.data} {self.field.name} {self.activation.name}"


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    cases: tuple[Case, ...] = (
        Case("moons", 3, INSIDE),
        Case("xor", 4, INSIDE),
        Case("circles", 3, INSIDE, SINE),
        Case("rings", 3, INSIDE),
        Case("moons", 3, OUTSIDE),
        Case("moons", 3, BOTTLENECK),
        Case("circles", 3, BOTTLENECK, SINE),
    )
    horizons: tuple[float, ...] = (10.0, 20.0, 40.0)
    layers_per_time: int = 5  # of l1
    fine_layers_per_time: int = 10  # of the bottleneck
    bound: float = 2.0
    hidden: int = 2
    weight_decay: float = 0.1
    seed: int = 0
    at: float = 1e-5  # of the bound, within which a control is at 0 or at the bound
    remaining: float = 0.02  # of the error that the bottleneck leaves, relative
    quarter: float = 0.1  # of the ratio 4 of that error on the last doubling
    rate: float = 1e-3  # of b2, relative


PARAMETERS = Parameters()
QUICK = Parameters(cases=(PARAMETERS.cases[0], PARAMETERS.cases[5]), horizons=(10.0, 20.0))
COLUMNS = (
    *("case", "penalty", "T", "status", "J", "verdict", "off after", "S says", "as S says"),
    *("E(x(T))", "predicted E", "ratio to T / 2", "rate of b2", "predicted rate", "cut at"),
    *("change of E", "predicted", "recomputed", "holds"),
)


def problem(case: Case, horizon: float, parameters: Parameters) -> LearningProblem:
    """The learning problem."""
    dataset = encode(load(case.data, samples=case.samples, seed=parameters.seed), "squared")
    density = parameters.fine_layers_per_time if case.is_bilinear else parameters.layers_per_time
    return LearningProblem(
        dataset,
        field=case.field,
        activation=case.activation,
        width=max(2, case.samples - 1, dataset.targets.shape[1]),
        hidden=parameters.hidden if case.is_bilinear else None,
        horizon=horizon,
        layers=round(density * horizon),
        terminal=0.0,
        tracking=1.0,
        weight_decay=parameters.weight_decay,
        penalty=L2 if case.is_bilinear else L1_PENALTY,
        bound=None if case.is_bilinear else parameters.bound,
    )


def switched(solution: LearningSolution, found: Switching) -> np.ndarray:
    """The controls that its functions switch, (K, controls)."""
    if solution.problem.field is not BOTTLENECK:
        return solution.trajectory.control_array
    layers = solution.problem.layers
    return np.hstack([solution.weights[name].reshape(layers, -1) for name in found.names])


def follows(solution: LearningSolution, found: Switching, parameters: Parameters) -> bool:
    """Whether every control is off where its function is below 1, and at the bound above."""
    sizes = np.abs(switched(solution, found))
    if solution.problem.field is BOTTLENECK:
        off = found.functions[:, 0] < 1 - SINGULAR
        return bool((sizes[off] <= parameters.at * sizes.max()).all())
    if not solution.problem.field.is_linear_in_control:
        off = found.functions < 1 - SINGULAR  # S is exact at u = 0 only
        last = found.off_time
        late = found.times[:-1] >= (np.inf if last is None else last)
        return bool(off[late].all() and (sizes[late] <= parameters.at * sizes.max()).all())
    off, on = found.functions < 1 - SINGULAR, found.functions > 1 + SINGULAR
    bound = parameters.bound
    is_off = sizes[off] <= parameters.at * bound
    is_on = np.abs(sizes[on] - bound) <= parameters.at * bound
    return bool(is_off.all() and is_on.all())


def row_of(
    case: Case, solution: LearningSolution, before: float | None, parameters: Parameters
) -> tuple[tuple, bool]:
    """Row of a solve, and whether all but the comparison between horizons is as predicted."""
    report, found = turnpike_report(solution), switching(solution)
    assert found is not None
    left = float(solution.errors[-1])
    kind = Verdict.PLATEAU if case.is_bilinear else Verdict.FINITE_TIME
    holds = solution.solution.is_solved and report["verdict"] == kind.value
    as_said = follows(solution, found, parameters)
    step = float(solution.problem.grid.steps[0])
    off, says = found.off_time, found.predicted_off_time
    same = off is not None and says is not None and abs(off - says) <= step + 1e-9
    holds &= as_said and same
    ratio = rate = expected = None
    if case.is_bilinear:
        ratio = None if before is None else before / left
        rate = report["fitted_control_rate"]
        single = np.sqrt(1 / parameters.weight_decay)
        expected = discrete_rate(float(single), step)
        error = found.remaining_error
        holds &= error is not None and abs(error / left - 1) <= parameters.remaining
        holds &= rate is not None and abs(rate / expected - 1) <= parameters.rate
    crop = find_crop(solution)
    change, as_reported = recomputed_change(solution, crop)
    holds &= as_reported
    if not holds:
        print(f"{case.name}, T = {solution.problem.horizon:g}: {report['reason']}")
    row = (
        *(case.name, solution.problem.penalty.name, solution.problem.horizon),
        *(solution.status.value, solution.solution.objective, report["verdict"], off, says),
        *(as_said, left, found.remaining_error, ratio, rate, expected, crop.depth, crop.change),
        *(crop.predicted_change, change, bool(holds)),
    )
    return row, bool(holds)


def run(case: Case, parameters: Parameters) -> tuple[list[tuple], bool, list[LearningSolution]]:
    """All horizons of a case, each from its own random start."""
    rows: list[tuple] = []
    good, solutions, times = True, list[LearningSolution](), []
    for horizon in parameters.horizons:
        asked = problem(case, horizon, parameters)
        before = None if not solutions else float(solutions[-1].errors[-1])
        solution = train(asked, seed=parameters.seed)
        row, holds = row_of(case, solution, before, parameters)
        rows.append(row)
        solutions.append(solution)
        times.append(row[COLUMNS.index("off after")])
        good &= holds
    if case.is_bilinear:
        ratio = rows[-1][COLUMNS.index("ratio to T / 2")]
        good &= abs(ratio / 4 - 1) <= parameters.quarter
        print(f"{case.name}: E falls predicted 4 times on the last doubling, measured {ratio:.4g}")
    else:
        step = 1 / parameters.layers_per_time
        good &= None not in times and np.ptp(times) <= step + 1e-9
        says = ", ".join(str(value) for value in times)
        print(f"{case.name}: predicted off after the same time on every T, measured {says}")
    return rows, bool(good), solutions


def figure(shown: Mapping[str, LearningSolution]) -> Figure:
    """Switching functions above controls."""
    page = Figure(figsize=(5.2 * len(shown), 6.4), layout="constrained")
    panels = page.subplots(2, len(shown), squeeze=False)
    for (above, below), (name, solution) in zip(panels.T, shown.items(), strict=True):
        found = switching(solution)
        assert found is not None
        draw_switching(found, switched(solution, found), above, below)
        above.set_title(f"{name}\n{above.get_title(loc='left') or above.get_title()}")
    return page


def main(arguments: list[str] | None = None) -> int:
    """Run all cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two cases, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    rows: list[tuple] = []
    good, shown = True, dict[str, LearningSolution]()
    for case in parameters.cases:
        found, holds, solutions = run(case, parameters)
        rows += found
        good &= holds
        shown.setdefault(f"{case.name}, {solutions[0].problem.penalty.name}", solutions[0])
    picked = [name for name in shown if "inside" in name][:1]
    picked += [name for name in shown if "bottleneck" in name][:1]
    page = {name: shown[name] for name in picked}
    save_page(lambda: figure(page), options.output / "sparsity.png")
    for row in (COLUMNS, *rows):
        print("  ".join(f"{_short(value):>12}" for value in row))
    print("all predictions hold" if good else "A PREDICTION FAILS")
    with (options.output / "sparsity.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"wrote {options.output}/sparsity.csv and sparsity.png")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
