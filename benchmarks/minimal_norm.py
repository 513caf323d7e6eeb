"""The limit of the controls: minimal-norm interpolation, and the exact penalty of the distance.

Statement. Under the assumptions of `benchmarks/depth.py` the rescaled controls v_T(s) = T u_T(T s)
converge (along subsequences) to a control v* of minimal L2 norm among those that interpolate the
data on [0, 1]. Source: Esteve, Geshkovski, Pighin and Zuazua, Large-time asymptotics in deep
learning, arXiv 2008.02491. Sharper, and this project's own, with p_i the multipliers of the
interpolation problem, eps = lambda / T and V(eps) = min E + eps |v|^2:

    squared loss   |v*|^2 - |v_T|^2 = O(1 / T),   |v_T - v*| = O(1 / T)
    any loss       V'(eps) = |v_eps|^2, so that V is concave
    distance loss  E = 0 exactly on the branch of v* for T > T* = lambda N max |p_i|, and not before

Assumptions: "inside" with tanh is homogeneous; few samples, so that v* exists and is regular.
Predicted: slopes -1 within 0.05; differences of V between the norms at their ends; E below 1e-10 at
1.01 T* and positive at 0.99 T*, with every sample at the tip of its loss certified by a multiplier
in the ball of radius 1 / N. T* is that of one branch: a control that does not interpolate may still
cost less there, and the last column says whether several starts know one.

Writes results/minimal_norm.csv, results/minimal_norm_distance.csv and figures; exits with 1 if a
prediction fails.

Usage: python benchmarks/minimal_norm.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ocp import SolveOptions
from problems.datasets import encode, load, standardize
from problems.figures import save_ladder_figure
from problems.ladder import Ladder, climb, solver
from problems.ladder_plan import horizon_ladder, transferred
from problems.ladder_report import ladder_report
from problems.learning import LearningProblem
from problems.losses import DISTANCE
from problems.predictions import at_strength, predictions
from problems.report import cell
from problems.training import LearningSolution, train


@dataclass(frozen=True)
class Case:
    """A data set with few samples, wide enough for its targets."""

    data: str
    samples: int
    width: int = 2
    layers: int = 10


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    squared: tuple[Case, ...] = (Case("moons", 6), Case("circles", 6), Case("xor", 4))
    distance: tuple[Case, ...] = (
        Case("moons", 6),
        Case("circles", 6),
        Case("sine", 4),
        Case("iris", 6, width=4, layers=6),
        Case("gaussians", 6, width=3, layers=6),
    )
    weight_decay: float = 0.1
    seed: int = 0
    starts: int = 8
    half_decades: int = 12
    tolerance: float = 1e-10  # of the solves
    slope: float = 0.05  # of the fitted slopes
    zero: float = 1e-10  # an error below this is zero
    around: tuple[float, ...] = (0.9, 0.99, 1.01, 1.1)  # T / T*


PARAMETERS = Parameters()
QUICK = Parameters(
    squared=(Case("xor", 4),),
    distance=(Case("iris", 6, width=4, layers=6),),
    starts=2,
    half_decades=10,
    around=(0.99, 1.01),
)
COLUMNS = (
    *("data", "T", "status", "|v|^2", "|v*|^2 - |v|^2", "|v - v*|", "V' to next rung", "between"),
    "branch is best",
)
DISTANCE_COLUMNS = (
    *("data", "outputs", "predicted T*", "T / T*", "status", "E", "as predicted", "at the tip"),
    *("largest |p| N", "J", "J of v*", "best J known"),
)


def problem(case: Case, parameters: Parameters) -> LearningProblem:
    """The squared-loss problem of a case on T = 1."""
    data = encode(load(case.data, samples=case.samples, seed=parameters.seed), "squared")
    if case.data == "iris":
        data = standardize(data).dataset
    return LearningProblem(
        data, width=case.width, layers=case.layers, weight_decay=parameters.weight_decay
    )


def limits(case: Case, parameters: Parameters, folder: Path) -> tuple[list[tuple], bool]:
    """Slopes of convergence on the squared loss."""
    horizons = [10.0 ** (j / 2) for j in range(parameters.half_decades + 1)]
    plan = horizon_ladder(problem(case, parameters), horizons)
    solve = solver(seed=parameters.seed, options=SolveOptions(tolerance=parameters.tolerance))
    ladder = climb(plan, solve, starts=parameters.starts)
    result = ladder_report(ladder, parameters.tolerance)
    save_ladder_figure(result, folder / f"minimal_norm_{case.data}.png")
    checks, rungs = result["checks"], result["rungs"]
    good = checks["consistent"] and checks["value_function_concave"]
    good &= checks["branch_leads_to_best_interpolant"] and result["status"] == "solved"
    least = result["interpolation"]["penalty_size"]
    rows = []
    for i, rung in enumerate(rungs):
        slope, size, within = rung["value_slope_to_next"], rung["penalty_size"], None
        if slope is not None:
            within = size <= slope <= rungs[i + 1]["penalty_size"]
        rows.append(
            (
                *(case.data, rung["horizon"], rung["status"], size, least - size),
                *(rung["distance_to_interpolant"], slope, within),
                checks["branch_leads_to_best_interpolant"],
            )
        )
    for repair in checks["repairs"]:
        print(f"{case.data}: {repair['rung']} was beaten by {repair['beaten_by']}, restarted")
    for name in ("norm_gap", "control_distance"):
        fit = result["fits"][name]
        low, high = fit["interval"]
        print(
            f"{case.data}: slope of {fit['quantity']} predicted {fit['predicted']:g}, "
            f"measured {fit['slope']:.4f} [{low:.4f}, {high:.4f}] on {fit['points']} rungs"
        )
        good &= abs(fit["slope"] - fit["predicted"]) <= parameters.slope
    return rows, bool(good)


def critical(case: Case, parameters: Parameters) -> tuple[list[tuple], bool]:
    """Errors around the critical horizon on the distance loss, on the branch of v*."""
    base = replace(problem(case, parameters), loss=DISTANCE)
    options = SolveOptions(tolerance=parameters.tolerance)
    solve = solver(seed=parameters.seed, options=options)
    guide: Ladder = climb(horizon_ladder(base, [1e3]), solve, starts=parameters.starts)
    predicted = predictions(guide)
    assert predicted is not None
    assert predicted.critical_strength is not None
    assert guide.interpolant is not None
    at = at_strength(guide.plan, predicted.critical_strength)
    rows, good = [], True
    for factor in parameters.around:
        rung = replace(base, horizon=factor * at)
        start = transferred(
            guide.plan, guide.interpolant.problem, guide.interpolant.solved.decisions, rung
        )
        found = train(rung, starts=0, guesses=[start], options=options)
        best = train(rung, starts=parameters.starts, seed=parameters.seed, options=options)
        error = float(found.errors[-1])
        holds = error <= parameters.zero if factor > 1 else error > parameters.zero
        good &= holds and found.solution.is_solved
        rows.append(
            (
                *(case.data, base.outputs, at, factor, found.status.value, error, holds),
                *_tips(found),
                *(found.solution.objective, predicted.size * base.weight_decay / rung.horizon),
                min(best.solution.objective, found.solution.objective),
            )
        )
    return rows, good


def _tips(found: LearningSolution) -> tuple[int | None, float | None]:
    """Samples at their tips, and their largest multiplier; None in one output."""
    return (None, None) if found.tips is None else found.tips


def main(arguments: list[str] | None = None) -> int:
    """Run all cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one data set each, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    good = True
    print("predicted: |v*|^2 - |v|^2 and |v - v*| fall like 1 / T; V' lies between the norms")
    rows: list[tuple] = []
    for case in parameters.squared:
        found, holds = limits(case, parameters, options.output)
        rows += found
        good &= holds
        print(f"{case.data}: {'all predictions hold' if holds else 'A PREDICTION FAILS'}")
    _show(COLUMNS, rows)
    _write(options.output / "minimal_norm.csv", COLUMNS, rows)
    print("\npredicted: the distance loss vanishes beyond T* = lambda N max |p_i|, not before")
    rows = []
    for case in parameters.distance:
        found, holds = critical(case, parameters)
        rows += found
        good &= holds
    _show(DISTANCE_COLUMNS, rows)
    _write(options.output / "minimal_norm_distance.csv", DISTANCE_COLUMNS, rows)
    print(f"wrote {options.output}/minimal_norm.csv, minimal_norm_distance.csv and figures")
    return 0 if good else 1


def _show(columns: tuple[str, ...], rows: list[tuple]) -> None:
    for row in (columns, *rows):
        print("  ".join(f"{_short(value):>15}" for value in row))


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
