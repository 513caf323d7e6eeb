"""The finite-time turnpike: an error with a kink is zero from some t_0 on, and is kept there.

Statement. Where the distance itself, not its square, is the running error and the control costs its
square, the targets are reached exactly at some t_0 < T, and kept without control. Source: Gugat,
Machines (2024). This project's scalar check: for x' = u from x_0 > 0,

    min Int |x| + lambda u^2 dt:   t_0 = 2 sqrt(lambda x_0),   sqrt(x)' = -1 / (2 sqrt(lambda)),

since lambda u^2 - |x| is constant and 0 at the end. The same constant makes |u| = sqrt(beta E /
lambda) for any number of samples in a field that is linear in the control. Assumptions: the field
is at rest at u = 0; N <= D + 1 samples, so that all can arrive; "all can arrive" holds for the
hinge as soon as every margin reaches 1. Predicted: t_0 within one layer, and within 1 % on fine
layers; sqrt(x) linear with the slope above within 1 %; for several samples under the distance in
one and in two outputs, l1 and hinge: E = 0 and u = 0 from one time on, which is the same on T, 2 T
and 4 T within one layer, where E = 0 means ten smoothing widths at the rounded tip of a distance in
several outputs; lambda |u|^2 = beta E up to an error of order 1, within 1/4 since samples arrive
between nodes, from 10 to 40 layers per unit of time; cutting at the reported depth changes E as
reported.

Writes results/finite_time.csv, results/finite_time_scalar.csv and figures; exits with 1 if a
prediction fails.

Usage: python benchmarks/finite_time.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ocp.analysis import fit_line
from problems.cropping import find_crop, recomputed_change
from problems.datasets import Dataset, encode, load
from problems.figures import COLOURS, INK, save_turnpike_figure
from problems.figures.page import save_page
from problems.learning import LearningProblem
from problems.losses import DISTANCE, LOSSES
from problems.report import cell
from problems.training import LearningSolution, train
from problems.turnpike_fit import measure
from problems.turnpike_report import conserved_drift, turnpike_report
from problems.turnpike_verdict import Verdict
from problems.vector_fields import VectorField

ONLY_BIAS = VectorField(
    "bias",
    lambda width, hidden: {"b": (width,)},
    lambda x, u, s: u["b"],
    lambda u, slope: 0.0,
    is_linear_in_control=True,
)


@dataclass(frozen=True)
class Case:
    """Several samples under a loss with a kink."""

    data: str
    samples: int
    loss: str
    terminal: float = 0.0


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    scalar: tuple[tuple[float, float], ...] = ((0.81, 1.0), (2.0, 0.25), (0.5, 4.0))  # x_0, lambda
    scalar_layers: tuple[int, ...] = (100, 1000)
    scalar_horizon: float = 10.0
    cases: tuple[Case, ...] = (
        Case("moons", 3, "distance"),
        Case("rings", 3, "distance"),  # one-hot: three outputs, so that the distance has a tip
        Case("moons", 3, "l1"),
        Case("rings", 3, "l1"),
        Case("moons", 4, "hinge"),
        Case("circles", 3, "hinge", terminal=1.0),
    )
    horizons: tuple[float, ...] = (5.0, 10.0, 20.0)
    layers_per_time: int = 5
    weight_decay: float = 0.1
    seed: int = 0
    refined: float = 0.01  # of t_0 on the finest layers, relative
    slope: float = 0.01  # of sqrt(x), relative
    zero: float = 1e-7  # of E and |u| after arrival, relative to their largest
    widths: float = 10.0  # likewise, in smoothing widths
    conserved: tuple[int, int] = (10, 40)  # layers per unit of time
    order: float = 0.25  # of the drift of lambda |u|^2 - beta E


PARAMETERS = Parameters()
QUICK = Parameters(
    scalar=((0.81, 1.0),),
    cases=(Case("moons", 3, "distance"), Case("circles", 3, "hinge", terminal=1.0)),
    horizons=(5.0, 10.0),
)
SCALAR_COLUMNS = (
    *("x0", "lambda", "layers", "status", "predicted t0", "measured t0", "relative"),
    *("in layers", "predicted slope", "measured slope", "deviation from a line", "holds"),
)
COLUMNS = (
    *("data", "loss", "outputs", "alpha", "T", "status", "verdict", "t0", "smoothing"),
    *("E after / at start", "|u| after / at start", "drift of lambda u^2 - beta E", "cut at"),
    *("change of E", "predicted", "recomputed", "holds"),
)


def scalar(start: float, weight_decay: float, layers: int, horizon: float) -> LearningSolution:
    """Minimise Int |x| + lambda u^2 dt under x' = u, x(0) = start."""
    data = Dataset("line", np.array([[start]]), np.array([[0.0]]))
    return train(
        LearningProblem(
            data,
            field=ONLY_BIAS,
            horizon=horizon,
            layers=layers,
            loss=DISTANCE,
            terminal=0.0,
            tracking=1.0,
            weight_decay=weight_decay,
        )
    )


def scalar_rows(parameters: Parameters, folder: Path) -> tuple[list[tuple], bool]:
    """The scalar check on coarse and fine layers."""
    rows: list[tuple] = []
    good, drawn = True, []
    for start, weight_decay in parameters.scalar:
        for layers in parameters.scalar_layers:
            solution = scalar(start, weight_decay, layers, parameters.scalar_horizon)
            predicted = 2 * np.sqrt(weight_decay * start)
            slope = -1 / (2 * np.sqrt(weight_decay))
            step = parameters.scalar_horizon / layers
            arrival = turnpike_report(solution)["arrival_time"]
            holds = solution.solution.is_solved and arrival is not None
            relative = in_layers = None
            roots = np.sqrt(solution.errors)
            # The last layer lands on the target from wherever it starts, so it is left out.
            until = int((solution.times < predicted - 2 * step).sum())
            line = fit_line(solution.times[:until], roots[:until])
            if arrival is not None:
                relative = float(arrival / predicted - 1)
                in_layers = float((arrival - predicted) / step)
                holds &= abs(in_layers) <= 1.0 + 1e-9
            if layers == max(parameters.scalar_layers):
                holds &= relative is not None and abs(relative) <= parameters.refined
                holds &= abs(line.slope / slope - 1) <= parameters.slope
                drawn.append((solution, start, weight_decay))
            rows.append(
                (
                    *(start, weight_decay, layers, solution.status.value, float(predicted)),
                    *(arrival, relative, in_layers, float(slope), line.slope),
                    *(line.deviation / float(roots[0]), bool(holds)),
                )
            )
            good &= holds
    save_page(lambda: _scalar_figure(drawn), folder / "finite_time_scalar.png")
    return rows, bool(good)


def _scalar_figure(drawn: list[tuple[LearningSolution, float, float]]) -> Figure:
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes: Axes = figure.add_subplot()
    for j, (solution, start, weight_decay) in enumerate(drawn):
        colour = COLOURS[j % len(COLOURS)]
        label = rf"$x_0$ = {start:g}, $\lambda$ = {weight_decay:g}"
        axes.plot(solution.times, np.sqrt(solution.errors), color=colour, lw=3, alpha=0.5)
        arrival = 2 * np.sqrt(weight_decay * start)
        axes.plot(
            [0, arrival, solution.times[-1]],
            [np.sqrt(start), 0, 0],
            color=INK if not j else colour,
            ls="--",
            lw=1.2,
            label=f"predicted, {label}",
        )
    axes.set(xlabel="t", ylabel=r"$\sqrt{x}$", xlim=(0, 6))
    axes.set_title(r"$\sqrt{x}$ falls linearly to 0 at $2\sqrt{\lambda x_0}$, and stays")
    axes.legend(frameon=False)
    return figure


def problem(case: Case, horizon: float, parameters: Parameters) -> LearningProblem:
    """Several samples, in a state wide enough for all to arrive."""
    dataset = encode(load(case.data, samples=case.samples, seed=parameters.seed), case.loss)
    return LearningProblem(
        dataset,
        width=max(2, case.samples - 1, dataset.targets.shape[1]),
        horizon=horizon,
        layers=round(parameters.layers_per_time * horizon),
        loss=LOSSES[case.loss],
        terminal=case.terminal,
        tracking=1.0,
        weight_decay=parameters.weight_decay,
    )


def order_of_drift(case: Case, parameters: Parameters) -> tuple[bool, str]:
    """Whether lambda |u|^2 - beta E drifts by the order of the scheme, and what was measured."""
    drifts, horizon = [], parameters.horizons[0]
    for density in parameters.conserved:
        finer = replace(parameters, layers_per_time=density)
        solution = train(problem(case, horizon, finer), seed=parameters.seed)
        drift = conserved_drift(measure(solution))
        if drift is None or not solution.solution.is_solved:
            return False, f"not measured: {solution.status.value}"
        drifts.append(drift)
    ratio = parameters.conserved[1] / parameters.conserved[0]
    order = float(np.log(drifts[0] / drifts[1]) / np.log(ratio))
    return abs(order - 1) <= parameters.order, f"measured {order:.3f}"


def arrivals(case: Case, parameters: Parameters) -> tuple[list[tuple], bool, LearningSolution]:
    """Arrival of several samples on all horizons."""
    rows, good, times = [], True, []
    step = 1 / parameters.layers_per_time
    for horizon in parameters.horizons:
        solution = train(problem(case, horizon, parameters), seed=parameters.seed)
        found = turnpike_report(solution)
        arrival = found["arrival_time"]
        holds = solution.solution.is_solved and found["verdict"] == Verdict.FINITE_TIME.value
        after: tuple[float | None, float | None] = (None, None)
        drift = conserved_drift(measure(solution))
        if arrival is None:
            print(f"{case.data} {case.loss}: {found['reason']}")
            holds = False
        else:
            times.append(arrival)
            at = int(np.flatnonzero(solution.times >= arrival)[0])
            errors, norms = solution.errors, solution.control_norms
            after = (float(errors[at:].max() / errors[0]), float(norms[at:].max() / norms.max()))
            rounded = parameters.widths * solution.smoothing / float(errors[0])
            holds &= max(after) <= max(parameters.zero, rounded)
        crop = find_crop(solution)
        change, as_reported = recomputed_change(solution, crop)
        holds &= as_reported
        rows.append(
            (
                *(case.data, case.loss, solution.problem.outputs, case.terminal, horizon),
                *(solution.status.value, found["verdict"], arrival, solution.smoothing, *after),
                *(drift, crop.depth, crop.change, crop.predicted_change, change, bool(holds)),
            )
        )
        good &= holds
    orders = order_of_drift(case, parameters)
    print(
        f"{case.data} {case.loss}: drift of lambda |u|^2 - beta E predicted of order 1, {orders[1]}"
    )
    good &= orders[0]
    same = len(times) == len(parameters.horizons) and np.ptp(times) <= step + 1e-9
    says = ", ".join(f"{value:g}" for value in times)
    print(f"{case.data} {case.loss}: t0 predicted the same on every T, measured {says}")
    return rows, bool(good and same), solution


def main(arguments: list[str] | None = None) -> int:
    """Run both parts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few cases, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    scalar_found, good = scalar_rows(parameters, options.output)
    rows: list[tuple] = []
    drawn: dict[str, LearningSolution] = {}
    for case in parameters.cases:
        found, holds, solution = arrivals(case, parameters)
        rows += found
        good &= holds
        drawn[f"{case.data}, {case.loss}, M = {solution.problem.outputs}"] = solution
    save_turnpike_figure(drawn, options.output / "finite_time.png")
    parts = (("finite_time_scalar", SCALAR_COLUMNS, scalar_found), ("finite_time", COLUMNS, rows))
    for name, columns, table in parts:
        print()
        for row in (columns, *table):
            print("  ".join(f"{_short(value):>12}" for value in row))
        with (options.output / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *table])
    print("all predictions hold" if good else "A PREDICTION FAILS")
    print(f"wrote tables and figures to {options.output}")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
