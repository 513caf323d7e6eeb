"""The error of classical regularised risk minimisation on long horizons: E = O(1 / T).

Statement. For dynamics homogeneous in the control, lambda > 0 fixed and data that can be
interpolated, E(x_T(T)) <= (lambda / T) (|v*|^2 - |v_T|^2), with v* a minimal-norm interpolant on
[0, 1] and v_T(s) = T u_T(T s). Source: Esteve, Geshkovski, Pighin and Zuazua, Large-time
asymptotics in deep learning, arXiv 2008.02491; the constant is this project's. Sharper, for the
squared loss with p_i the multipliers of the interpolation problem:

    E T^2 -> lambda^2 N sum_i |p_i|^2 / 4,

and (lambda, T) has the same optima as (lambda T0 / T, T0). Assumptions, tested: homogeneity of the
field ("inside" with tanh, "outside" with ReLU); few samples, so that an interpolant exists; K
layers on every horizon. Predicted: slope -2 of E, E T^2 within 1 % of its limit on the last rungs,
the bound on every rung, equal objectives to 1e-10 and rescaled controls to 1e-8. For "outside" with
tanh and for a ReLU bottleneck without biases: the theorem does not apply, and says why; the cost of
the latter does not depend on T.

Writes results/depth.csv and one figure per case; exits with 1 if a prediction fails.

Usage: python benchmarks/depth.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ocp import SolveOptions
from ocp.analysis import l2_distance
from problems.datasets import Dataset, encode, load
from problems.figures import save_ladder_figure
from problems.ladder import Ladder, climb, solver
from problems.ladder_plan import horizon_ladder, transferred
from problems.ladder_report import ladder_report
from problems.learning import LearningProblem
from problems.report import cell
from problems.training import train
from problems.vector_fields import INSIDE, OUTSIDE, RELU, TANH, Activation, VectorField


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    weight_decay: float = 0.1
    seed: int = 0
    starts: int = 6
    decades: int = 6
    tolerance: float = 1e-10  # of the solves
    limit: float = 0.01  # relative, of E T^2 on the last three rungs
    slope: float = 0.05  # of the slope of log E
    objective: float = 1e-10  # relative, between (lambda, T) and (lambda T0 / T, T0)
    control: float = 1e-8  # of the rescaled controls, relative
    perturbation: float = 1e-3  # of the start of the second solve of the identity, relative
    invariance: float = 1e-7  # of the bottleneck's cost on all horizons, relative


PARAMETERS = Parameters()
QUICK = Parameters(starts=2, decades=5)

NO_BIASES = VectorField(
    "bottleneck without biases",
    lambda width, hidden: {"w1": (hidden, width), "w2": (width, hidden)},
    lambda x, u, s: u["w2"] @ s(u["w1"] @ x),
    lambda u, slope: float(np.linalg.norm(u["w2"], 2) * np.linalg.norm(u["w1"], 2)) * slope,
    needs_hidden=True,
)


@dataclass(frozen=True)
class Case:
    """One ladder; `shift` is added to the targets, for a field that only moves upwards."""

    name: str
    data: str
    samples: int
    layers: int
    field: VectorField = INSIDE
    activation: Activation = TANH
    width: int = 2
    hidden: int | None = None
    shift: float = 0.0
    starts: int | None = None

    def problem(self, parameters: Parameters) -> LearningProblem:
        """The problem on T = 1."""
        data: Dataset = encode(load(self.data, samples=self.samples, seed=0), "squared")
        if self.shift:
            data = replace(data, targets=data.targets + self.shift, classes=())
        return LearningProblem(
            data,
            field=self.field,
            activation=self.activation,
            width=self.width,
            hidden=self.hidden,
            layers=self.layers,
            weight_decay=parameters.weight_decay,
        )


CASES = (
    Case("moons", "moons", samples=6, layers=10),
    Case("circles", "circles", samples=6, layers=10),
    Case("xor", "xor", samples=4, layers=10),
    Case(
        "relu-outside",
        *("moons", 4, 6),
        field=OUTSIDE,
        activation=RELU,
        width=3,
        shift=4.0,
        starts=2,
    ),
)
QUICK_CASES = (CASES[2],)
OUTSIDE_THE_THEOREM = (
    Case("tanh-outside", "xor", samples=4, layers=4, field=OUTSIDE, starts=1),
    Case(
        "relu-bottleneck",
        *("xor", 4, 4),
        field=NO_BIASES,
        activation=RELU,
        width=3,
        hidden=4,
        starts=1,
    ),
)
COLUMNS = (
    *("case", "T", "T / lambda", "status", "J", "E", "E T^2", "predicted E T^2", "ratio", "bound"),
    *("bound holds", "objective gap", "control gap", "smoothing"),
)


def identity(ladder: Ladder, position: int, parameters: Parameters) -> tuple[float, float]:
    """Relative gaps of objective and rescaled control between (lambda, T) and (lambda / T, 1).

    The second problem starts from the first one's controls, every one of them perturbed.
    """
    rung = ladder.rungs[position]
    horizon = rung.problem.horizon
    twin = replace(rung.problem, horizon=1.0, weight_decay=parameters.weight_decay / horizon)
    start = transferred(ladder.plan, rung.problem, rung.solved.decisions, twin)
    generator = np.random.default_rng(parameters.seed)
    start = start * (1 + parameters.perturbation * generator.standard_normal(start.size))
    options = SolveOptions(tolerance=parameters.tolerance)
    found = train(twin, starts=0, guesses=[start], options=options)
    first, second = rung.solution.solution.objective, found.solution.objective
    v = ladder.rescaled(rung)
    size = max(1.0, float(np.sqrt(ladder.norm_squared(rung))))
    return abs(first - second) / first, l2_distance(v, found.trajectory.control_array) / size


def run(case: Case, parameters: Parameters, folder: Path) -> tuple[list[tuple], bool]:
    """Climb one ladder; rows of the table, and whether the predictions hold."""
    plan = horizon_ladder(
        case.problem(parameters), [10.0**j for j in range(parameters.decades + 1)]
    )
    tolerance = parameters.tolerance if case.activation.is_smooth else 1e-8
    solve = solver(seed=parameters.seed, options=SolveOptions(tolerance=tolerance))
    ladder = climb(plan, solve, starts=case.starts or parameters.starts)
    result = ladder_report(ladder, tolerance)
    save_ladder_figure(result, folder / f"depth_{case.name}.png")
    constant = result["interpolation"]["predicted_error_constant"]
    rows, good = [], result["checks"]["consistent"] and result["hypotheses"]["theorem_applies"]
    for i, rung in enumerate(result["rungs"]):
        gaps: tuple[float | None, float | None] = (None, None)
        if case.activation.is_smooth:
            gaps = identity(ladder, i, parameters)
            good &= gaps[0] <= parameters.objective and gaps[1] <= parameters.control
        horizon, error = rung["horizon"], rung["training_error"]
        ratio = error * horizon**2 / constant
        good &= rung["status"] == "solved" and rung["error_bound_holds"]
        if i >= len(result["rungs"]) - 3:
            good &= abs(ratio - 1) <= parameters.limit
        rows.append(
            (
                *(case.name, horizon, horizon / parameters.weight_decay, rung["status"]),
                *(rung["objective"], error, error * horizon**2, constant, ratio),
                *(rung["error_bound"], rung["error_bound_holds"], *gaps),
                rung["certificate"]["smoothing"],
            )
        )
    fit = result["fits"]["training_error"]
    low, high = fit["interval"]
    print(
        f"{case.name}: slope of E predicted {fit['predicted']:g}, "
        f"measured {fit['slope']:.4f} [{low:.4f}, {high:.4f}]"
    )
    return rows, bool(good and abs(fit["slope"] - fit["predicted"]) <= parameters.slope)


def beyond(case: Case, parameters: Parameters) -> tuple[list[tuple], bool]:
    """A ladder that the theorem does not speak about, which must be recognised."""
    plan = horizon_ladder(case.problem(parameters), [1.0, 10.0, 100.0])
    ladder = climb(plan, solver(seed=parameters.seed), starts=case.starts or 1)
    result = ladder_report(ladder, 1e-8)
    print(f"{case.name}: predicted outside the theorem; {result['hypotheses']['reasons'][0]}")
    print(f"  instead: {result['hypotheses']['statement']}")
    good = not result["hypotheses"]["theorem_applies"] and result["interpolation"] is None
    costs = [rung["objective"] for rung in result["rungs"]]
    if result["hypotheses"]["homogeneous_of_degree"] == 2:
        spread = (max(costs) - min(costs)) / min(costs)
        print(f"  cost on all horizons: predicted equal, measured within {spread:.1e}")
        good &= spread <= parameters.invariance
    return [_plain(case, rung, parameters) for rung in result["rungs"]], good


def _plain(case: Case, rung: dict[str, Any], parameters: Parameters) -> tuple:
    horizon, error = rung["horizon"], rung["training_error"]
    return (
        *(case.name, horizon, horizon / parameters.weight_decay, rung["status"]),
        *(rung["objective"], error, error * horizon**2, None, None, None, None, None, None),
        rung["certificate"]["smoothing"],
    )


def main(arguments: list[str] | None = None) -> int:
    """Climb all ladders; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one ladder, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    print("predicted: E T^2 -> lambda^2 N sum |p_i|^2 / 4, E <= (lambda / T) (|v*|^2 - |v|^2)")
    rows, good = [], True
    for case in QUICK_CASES if options.quick else CASES:
        found, holds = run(case, parameters, options.output)
        rows += found
        good &= holds
        print(f"{case.name}: {'all predictions hold' if holds else 'A PREDICTION FAILS'}")
    for case in OUTSIDE_THE_THEOREM:
        found, holds = beyond(case, parameters)
        rows += found
        good &= holds
    for row in (COLUMNS, *rows):
        print("  ".join(f"{_short(value):>15}" for value in row))
    with (options.output / "depth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"wrote {options.output}/depth.csv and a figure per ladder")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
