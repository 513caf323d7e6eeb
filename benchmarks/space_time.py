"""Space-time networks: refinement of the grid, moving grids, and the theorems of neural ODEs.

Statement. The samples are functions on [0, 1], the network is

    d/dt z(t, x) = Int w(t, x, xi) tanh(z(t, xi)) d xi + b(t, x)

with the penalty Int ( Int Int w^2 + Int b^2 ) dt, and its read-outs are integrals. The estimates of
Esteve, Geshkovski, Pighin and Zuazua (Large-time asymptotics in deep learning, arXiv 2008.02491)
hold for it as for neural ODEs. This project's own:

    mesh      on a quadrature of order p, with its weights in the norm, the optimal cost, error and
              read-out converge like n^-p; with |w|^2 counted without weights the cost does not
    identity  on one grid, the optimum is that of the plain ResNet with the weighted penalty
    moving    with grids that change from layer to layer the optimum converges to the same limit at
              second order if the adjoint of the interpolation is consistent too, as that of the L2
              projection is: Pi^T carries the costates. Linear interpolation between grids that are
              not nested has no such adjoint, and converges to another limit
    turnpike  with a running error |u| and sqrt(E) fall at the rate of the tangent kernel
    depth     E T^2 meets the limit predicted by the minimal-norm interpolant, |v*|^2 - |v|^2 and
              |v - v*| fall like 1 / T

Assumptions: smooth samples, so that the quadrature has its order; the reference is a Gauss rule
whose own error is far below, each grid starts from the optimum of the one before, and the field is
homogeneous. Predicted: slopes 2 within 0.15 on the last three of four grids up to 64 nodes, the
identity within 1e-10, the slopes and limits of `benchmarks/depth.py`.

Writes results/space_time.csv and figures; exits with 1 if a prediction fails.

Usage: python benchmarks/space_time.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import casadi as ca
import numpy as np

from ocp import (
    EULER,
    Method,
    OptimalControlProblem,
    SolveOptions,
    TimeGrid,
    discretize,
    rollout,
    solve_staged,
)
from ocp.analysis import fit_power
from problems.figures import save_convergence, save_figure, save_ladder_figure
from problems.ladder import climb, solver
from problems.ladder_plan import horizon_ladder
from problems.ladder_report import ladder_report
from problems.learning import LearningProblem
from problems.moving_grid import MovingGrid
from problems.report import cell
from problems.space_time import (
    Function,
    integrals,
    moments,
    readout_functions,
    resampled,
    space_time_problem,
)
from problems.spatial_grid import SpatialGrid, gauss_legendre, midpoint, trapezoid
from problems.training import LearningSolution, train
from problems.transfer import LINEAR, PROJECTION, Transfer
from problems.vector_fields import VectorField


def wave(frequency: float) -> Function:
    """A sample: half waves of that frequency, raised a little."""
    return lambda x: np.sin(frequency * np.pi * x) + 0.3 * frequency


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    frequencies: tuple[float, ...] = (0.3, 0.6, 1.0)
    targets: tuple[float, ...] = (1.0, -1.0, 0.5)
    weight_decay: float = 0.05
    layers: int = 2
    nodes: tuple[int, ...] = (8, 16, 32, 64)
    reference: int = 18  # Gauss nodes
    widths: tuple[float, ...] = (1.0, 0.75, 0.5)  # of the moving grid, in units of its first
    depth_nodes: int = 6
    depth_layers: int = 6
    horizons: tuple[float, ...] = (1, 10, 100, 1e3, 1e4)
    starts: int = 4
    tolerance: float = 1e-10  # of the solves
    slope: float = 0.15  # of the fitted orders
    identity: float = 1e-10
    turnpike_layers: int = 40
    turnpike_horizon: float = 10.0
    turnpike_decay: float = 0.005
    rate: float = 0.05  # relative, of the fitted rate
    limit: float = 0.02  # relative distance of E T^2 from its limit on the last rung
    depth_slope: float = 0.05


PARAMETERS = Parameters()
QUICK = Parameters(nodes=(8, 12, 16, 24), horizons=(1, 100, 1e3, 1e4), starts=2)
COLUMNS = (
    "part",
    "case",
    "nodes",
    "status",
    "J",
    "E",
    "quantity",
    "predicted",
    "measured",
    "holds",
)
Row = tuple[object, ...]


def on(
    grid: SpatialGrid | MovingGrid, parameters: Parameters, **choices: object
) -> LearningProblem:
    """The problem on a grid, with a trained read-out unless one is given."""
    defaults: dict = {"layers": parameters.layers, "weight_decay": parameters.weight_decay}
    return space_time_problem(
        [wave(f) for f in parameters.frequencies],
        parameters.targets,
        grid,
        name="waves",
        **(defaults | choices),
    )


def refine(
    grids: Sequence[SpatialGrid | MovingGrid], parameters: Parameters, **choices: object
) -> list[LearningSolution]:
    """Optima on the grids, each from the one before, the first from random starts."""
    found: list[LearningSolution] = []
    for grid in grids:
        problem = on(grid, parameters, **choices)
        options = SolveOptions(tolerance=parameters.tolerance, method=Method.MATRIX_FREE)
        if not found:
            found.append(train(problem, starts=parameters.starts, options=options))
            continue
        start = resampled(found[-1].problem, found[-1].trajectory, problem)
        found.append(train(problem, starts=0, guesses=[start], options=options))
    return found


def measures(solution: LearningSolution) -> dict[str, np.ndarray]:
    """Cost, error, and moments of the trained read-out function."""
    last = solution.problem.moving_grid
    assert last is not None
    g = readout_functions(solution.problem, solution.trajectory.parameters)[0]
    return {
        "J": np.array(solution.solution.objective),
        "E": np.array(solution.errors[-1]),
        "read-out": moments(last.grid(solution.problem.layers), 3) @ g,
    }


def convergence(
    part: str,
    case: str,
    grids: Sequence[SpatialGrid | MovingGrid],
    steps: np.ndarray,
    limit: LearningSolution,
    parameters: Parameters,
) -> tuple[list[Row], dict[str, np.ndarray], LearningSolution]:
    """Errors against the reference along a refinement, and their orders in the step."""
    found, goal = refine(grids, parameters), measures(limit)
    rows: list[Row] = []
    curves = {}
    for name, value in goal.items():
        errors = np.array([np.abs(measures(s)[name] - value).max() for s in found])
        curves[f"{case}: {name}"] = errors
        slope = fit_power(steps[-3:], errors[-3:]).slope
        holds = abs(slope - 2.0) <= parameters.slope
        rows.append(
            (part, case, parameters.nodes[-1], "", "", "", f"order of {name}", 2.0, slope, holds)
        )
    for nodes, solution in zip(parameters.nodes, found, strict=True):
        rows.append(_solved(part, case, nodes, solution))
    return rows, curves, found[-1]


def _solved(part: str, case: str, nodes: int, solution: LearningSolution) -> Row:
    cost, error = solution.solution.objective, float(solution.errors[-1])
    status = solution.status.value
    good = solution.solution.is_solved
    return (part, case, nodes, status, cost, error, "status", "solved", status, good)


def mesh(parameters: Parameters, folder: Path) -> list[Row]:
    """Fixed grids of two rules, moving ones, and the norm without weights."""
    nodes = np.array(parameters.nodes)
    reference = [gauss_legendre(n) for n in (6, 10, parameters.reference)]
    before, limit = refine(reference, parameters)[1:]
    own = abs(before.solution.objective - limit.solution.objective)
    rows = [_solved("mesh", "gauss reference", parameters.reference, limit)]
    print(f"reference: {parameters.reference} Gauss nodes, {own:.1e} from 10 of them")
    curves: dict[str, np.ndarray] = {}
    finest = limit
    cases: list[tuple[str, str, Callable[[int], SpatialGrid | MovingGrid], np.ndarray]] = [
        ("mesh", "midpoint", midpoint, 1 / nodes),
        ("mesh", "trapezoid", trapezoid, 1 / (nodes - 1)),
        ("moving", "projection", lambda n: _shrinking(n, PROJECTION, parameters), 1 / nodes),
    ]
    for part, case, rule, steps in cases:
        grids = [rule(n) for n in parameters.nodes]
        found, more, finest = convergence(part, case, grids, steps, limit, parameters)
        rows += found
        curves |= more
    save_figure(finest, folder / "space_time_moving.png")
    rows += not_adjoint(parameters, limit, abs(float(measures(finest)["J"] - measures(limit)["J"])))
    rows += unweighted(parameters)
    path = folder / "space_time_convergence.png"
    save_convergence({k: (nodes, v) for k, v in curves.items()}, path, "nodes n", order=-2)
    return rows


def _shrinking(cells: int, transfer: Transfer, parameters: Parameters) -> MovingGrid:
    """Cells of every layer a little larger than those of the one before, ends included."""
    grids = [trapezoid(round(cells * share) + 1) for share in parameters.widths]
    return MovingGrid.through(grids, transfer)


def not_adjoint(
    parameters: Parameters, limit: LearningSolution, with_projection: float
) -> list[Row]:
    """The same moving grids with linear interpolation, whose distance from the limit stays."""
    grids = [_shrinking(n, LINEAR, parameters) for n in parameters.nodes[:-1]]
    found = refine(grids, parameters)
    rows = []
    for nodes, solution in zip(parameters.nodes, found, strict=False):
        rows.append(_solved("moving", "linear", nodes, solution))
    gaps = [abs(float(measures(s)["J"] - measures(limit)["J"])) for s in found]
    stays = gaps[-1] > max(gaps[0] / 4, 3 * with_projection)
    said = "stays" if stays else "falls"
    case = ("moving", "linear", parameters.nodes[-2], "", "", "", "distance of J")
    rows.append((*case, "stays", said, stays))
    return rows


def unweighted(parameters: Parameters) -> list[Row]:
    """The same networks with the sum of squares of the kernel's values as their penalty.

    With the read-out against cos given, they differ in nothing else. The more nodes, the more a
    given kernel costs, so that the cost rises towards that of doing nothing.
    """
    weighted = on(gauss_legendre(parameters.reference), parameters, readout=[np.cos])
    limit = train(weighted, starts=parameters.starts)
    rows = [_solved("mesh", "with weights", parameters.reference, limit)]
    gaps = []
    for nodes in parameters.nodes[:-1]:
        grid = midpoint(nodes)
        problem = LearningProblem(
            on(grid, parameters).dataset,
            field=_kernel_field(ca.DM(grid.weights)),
            layers=parameters.layers,
            weight_decay=parameters.weight_decay,
            fixed_readout=integrals(grid, [np.cos]),
        )
        found = train(problem, starts=parameters.starts)
        rows.append(_solved("mesh", "without weights", nodes, found))
        gaps.append(abs(found.solution.objective - limit.solution.objective))
    grows = bool(np.all(np.diff(gaps) > 0))
    said = "grows" if grows else "falls"
    case = ("mesh", "without weights", nodes, "", "", "", "distance of J")
    rows.append((*case, "grows", said, grows))
    return rows


def _kernel_field(weights: ca.DM) -> VectorField:
    """The field "inside" with integrals by quadrature, whose control is the kernel itself."""

    def rate(x: ca.SX, u: Mapping[str, ca.SX], s: Callable[[ca.SX], ca.SX]) -> ca.SX:
        return u["w"] @ (weights * s(x)) + u["b"]

    return VectorField(
        "inside without weights",
        lambda width, hidden: {"w": (width, width), "b": (width,)},
        rate,
        lambda u, slope: float(np.linalg.norm(u["w"], 2)) * slope,
        is_linear_in_control=True,
    )


def identity(parameters: Parameters) -> list[Row]:
    """The optimum on one grid beside that of the plain ResNet with the weighted penalty."""
    rows: list[Row] = []
    options = SolveOptions(tolerance=1e-11)
    for case, grid in (("gauss-legendre", gauss_legendre(5)), ("trapezoid", trapezoid(5))):
        problem = on(grid, parameters, readout=[np.cos])
        ours = train(problem, options=options)
        plain, start = plain_resnet(problem, ours)
        theirs = solve_staged(plain, rollout(plain, start), options)
        gap = abs(theirs.objective - ours.solution.objective)
        both = ours.solution.is_solved and theirs.is_solved
        rows.append(_solved("identity", case, grid.size, ours))
        good = both and gap <= parameters.identity
        rows.append(("identity", case, grid.size, "", "", "", "gap in J", 0.0, gap, good))
    return rows


def plain_resnet(problem: LearningProblem, near: LearningSolution) -> tuple:
    """Layers x + h (A tanh(x) + b), with the penalty of A / om, and a start near an optimum."""
    assert problem.moving_grid is not None
    assert problem.fixed_readout is not None
    om, readout = problem.moving_grid.grids[0].weights, ca.DM(problem.fixed_readout)
    x, y = ca.SX.sym("x", om.size), ca.SX.sym("y", problem.outputs)
    matrix, bias = ca.SX.sym("A", om.size, om.size), ca.SX.sym("b", om.size)
    weights = ca.DM(np.outer(om, 1 / om))
    size = ca.sum1(ca.vec(weights * matrix**2)) + ca.sum1(ca.DM(om) * bias**2)
    staged = discretize(
        OptimalControlProblem(
            state=x,
            control=ca.veccat(matrix, bias),
            dynamics=matrix @ ca.tanh(x) + bias,
            horizon=problem.horizon,
            initial_state=problem.dataset.inputs,
            terminal_cost=ca.sumsqr(readout @ x - y) / problem.samples,
            control_cost=problem.weight_decay * size,
            data=y,
            member_data=problem.dataset.targets,
        ),
        TimeGrid.uniform(problem.layers, problem.horizon),
        EULER,
    )
    layers = [problem.layer(0).effective(u) for u in near.trajectory.controls]
    start = 1.01 * np.concatenate([part for u in layers for part in (u["w"].T.ravel(), u["b"])])
    return staged, start


def depth(parameters: Parameters, folder: Path) -> list[Row]:
    """The ladder of horizons, as for neural ODEs."""
    grid, rows = gauss_legendre(parameters.depth_nodes), list[Row]()
    problem = on(grid, parameters, readout=[np.cos], layers=parameters.depth_layers)
    solve = solver(options=SolveOptions(tolerance=parameters.tolerance))
    ladder = climb(horizon_ladder(problem, parameters.horizons), solve, starts=parameters.starts)
    result = ladder_report(ladder, parameters.tolerance)
    save_ladder_figure(result, folder / "space_time_depth.png")
    rows += [
        _solved("depth", f"T = {r.problem.horizon:g}", grid.size, r.solution) for r in ladder.rungs
    ]
    rows += ladder_rows("depth", grid.size, result, parameters)
    return rows


def turnpike(parameters: Parameters) -> list[Row]:
    """The rate with a running error, beside that of the tangent kernel where it ends."""
    grid = gauss_legendre(parameters.depth_nodes)
    problem = on(
        grid,
        parameters,
        readout=[np.cos],
        layers=parameters.turnpike_layers,
        horizon=parameters.turnpike_horizon,
        weight_decay=parameters.turnpike_decay,
        tracking=1.0,
        terminal=0.0,
    )
    found = train(problem, starts=parameters.starts)
    report = found.report["turnpike"]
    predicted, fitted = report["predicted_discrete_rate"], report["fitted_rate"]
    case = f"T = {problem.horizon:g}"
    close = fitted is not None and abs(fitted / predicted - 1) <= parameters.rate
    first = ("turnpike", case, grid.size, "", "", "")
    verdict = report["verdict"]
    return [
        _solved("turnpike", case, grid.size, found),
        (*first, "verdict", "exponential", verdict, verdict == "exponential"),
        (*first, "rate", predicted, fitted, close),
    ]


def ladder_rows(part: str, nodes: int, result: dict, parameters: Parameters) -> list[Row]:
    """Limit, slopes, bound and consistency of a ladder's report."""
    rows: list[Row] = []
    limit = result["interpolation"]["predicted_error_constant"]
    last = result["rungs"][-1]
    measured = last["training_error"] * last["horizon"] ** 2
    holds = abs(measured / limit - 1) <= parameters.limit
    rows.append((part, "ladder", nodes, "", "", "", "E T^2", limit, measured, holds))
    for name in ("norm_gap", "control_distance"):
        fit = result["fits"][name]
        holds = abs(fit["slope"] - fit["predicted"]) <= parameters.depth_slope
        quantity = f"slope of {fit['quantity']}"
        rows.append(
            (part, "ladder", nodes, "", "", "", quantity, fit["predicted"], fit["slope"], holds)
        )
    bounds = all(rung["error_bound_holds"] for rung in result["rungs"])
    rows.append((part, "ladder", nodes, "", "", "", "bound of E", True, bounds, bounds))
    good = result["checks"]["consistent"] and result["hypotheses"]["theorem_applies"]
    rows.append((part, "ladder", nodes, "", "", "", "consistent", True, good, good))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run all parts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer nodes, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    rows = mesh(parameters, options.output)
    rows += identity(parameters)
    rows += depth(parameters, options.output)
    rows += turnpike(parameters)
    for row in (COLUMNS, *rows):
        print("  ".join(f"{_short(value):>15}" for value in row))
    with (options.output / "space_time.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    good = all(row[-1] for row in rows)
    print(f"{'all predictions hold' if good else 'A PREDICTION FAILS'}")
    print(f"wrote {options.output}/space_time.csv and figures")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
