"""Layers of several widths: one equation on grids that move, on digits and on points.

Statement. A ResNet of widths d_0, ..., d_K,

    z^{k+1} = Pi_k z^k + h ( w^k diag(om^k) tanh(z^k) + b^k ),      w^k in R^{d_{k+1} x d_k},

is the discretisation of one equation on a grid that changes with the layer, so the estimates of
Esteve, Geshkovski, Pighin and Zuazua (Large-time asymptotics in deep learning, arXiv 2008.02491)
and every solver are the same as for one width. This project's own:

    ladder    E T^2 meets the limit predicted by the minimal-norm interpolant; |v*|^2 - |v|^2 and
              |v - v*| fall like 1 / T
    turnpike  with a running error |u| and sqrt(E) fall at the rate of the tangent kernel
    solvers   shooting, condensing, Riccati recursion and Hessian-vector products end at one
              optimum, and so do the stages of a moving grid that happens to stay
    rank      behind a layer of width r, the states z^K = Pi c + h (w s(c) + b) have rank 2 r + 1 at
              most, so that E of a reconstruction is at least the squares of the singular values of
              the targets beyond that (Eckart and Young), a sum over 1 / N
    weights   the optimal w^k has rank N at most, however wide the layers

Digits are 8 x 8 images, functions on the unit square: three classes through widths 64 to 16, with
no training error, beside networks of one width with as many parameters; and an autoencoder
64 - 8 - 64. Accuracy on images that were not trained on is reported, not predicted.

Writes results/variable_width.csv and figures; exits with 1 if a prediction fails.

Usage: python benchmarks/variable_width.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from ocp import Method, SolveOptions, rollout, solve_staged
from problems.datasets import Dataset, encode, load, standardize
from problems.figures import save_figure, save_ladder_figure, save_reconstructions
from problems.generalization import margins
from problems.ladder import climb, solver
from problems.ladder_plan import horizon_ladder
from problems.ladder_report import ladder_report
from problems.learning import Array, LearningProblem
from problems.losses import CROSS_ENTROPY
from problems.moving_grid import MovingGrid, moving_grid
from problems.report import cell
from problems.spatial_grid import midpoint, square, tensor_product
from problems.training import LearningSolution, train
from problems.transfer import PROJECTION
from problems.variable_width import stage_network


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    points: int = 6
    widths: tuple[int, ...] = (4, 3, 2)
    layers: int = 6
    weight_decay: float = 1e-2
    horizons: tuple[float, ...] = (1, 10, 100, 1e3, 1e4)
    starts: int = 6
    turnpike_widths: tuple[int, ...] = (5, 4, 3)
    turnpike_points: int = 4
    turnpike_layers: int = 60
    turnpike_horizon: float = 10.0
    turnpike_decay: float = 0.02
    rate: float = 0.05  # relative, of the fitted rate
    classes: tuple[int, ...] = (0, 1, 2)
    images: int = 60
    image_widths: tuple[int, ...] = (64, 36, 36, 16)
    image_decay: float = 1e-3
    plain_width: int | None = 64  # also compared, with the images as they are
    codes: tuple[int, ...] = (1, 2, 4)
    code_images: int = 40
    code_decays: tuple[float, ...] = (1e-1, 3e-2, 1e-2)  # each from the optimum of the one before
    seed: int = 0
    tolerance: float = 1e-10  # of the solves on points
    agreement: float = 1e-10  # of optima, relative
    limit: float = 0.02  # relative distance of E T^2 from its limit on the last rung
    slope: float = 0.05
    rank: float = 1e-9  # singular values below this part of the largest are zero


PARAMETERS = Parameters()
QUICK = Parameters(
    horizons=(1, 100, 1e3, 1e4),
    starts=3,
    images=30,
    image_widths=(64, 9, 4),
    plain_width=None,
    codes=(1, 2),
    code_images=20,
    code_decays=(1e-1, 3e-2),
)
COLUMNS = (
    *("part", "case", "widths", "parameters", "status", "J", "E"),
    *("quantity", "predicted", "measured", "holds"),
)
Row = tuple[object, ...]


def _case(part: str, case: str, solution: LearningSolution) -> tuple[object, ...]:
    """The first columns, of a solve."""
    problem = solution.problem
    runs = [(w, len(list(run))) for w, run in groupby(problem.widths)]
    widths = "-".join(f"{w}" if n == 1 else f"{w} ({n} times)" for w, n in runs)
    size = problem.staged.decision_size
    cost, error = solution.solution.objective, float(solution.errors[-1])
    return (part, case, widths, size, solution.status.value, cost, error)


def _solved(part: str, case: str, solution: LearningSolution) -> Row:
    found = solution.status.value
    first = _case(part, case, solution)
    return (*first, "status", "solved", found, solution.solution.is_solved)


def pyramid(parameters: Parameters) -> LearningProblem:
    """A few moons through the widths."""
    data = encode(load("moons", samples=parameters.points, seed=parameters.seed), "squared")
    return LearningProblem(
        standardize(data).dataset,
        layers=parameters.layers,
        weight_decay=parameters.weight_decay,
        moving_grid=moving_grid(parameters.widths, parameters.layers),
    )


def ladder(parameters: Parameters, folder: Path) -> list[Row]:
    """The ladder of horizons, as for one width."""
    plan = horizon_ladder(pyramid(parameters), parameters.horizons)
    solve = solver(options=SolveOptions(tolerance=parameters.tolerance), seed=parameters.seed)
    found = climb(plan, solve, starts=parameters.starts)
    result = ladder_report(found, parameters.tolerance)
    save_ladder_figure(result, folder / "variable_width_ladder.png")
    rows = [
        _solved("ladder", f"T = {rung.problem.horizon:g}", rung.solution) for rung in found.rungs
    ]
    last = result["rungs"][-1]
    limit = result["interpolation"]["predicted_error_constant"]
    measured = last["training_error"] * last["horizon"] ** 2
    case = ("ladder", "all rungs", *[""] * 5)
    close = abs(measured / limit - 1) <= parameters.limit
    rows.append((*case, "E T^2", limit, measured, close))
    fit = result["fits"]["norm_gap"]
    close = abs(fit["slope"] - fit["predicted"]) <= parameters.slope
    rows.append((*case, "slope of S* - S", fit["predicted"], fit["slope"], close))
    bounds = all(rung["error_bound_holds"] for rung in result["rungs"])
    rows.append((*case, "bound of E", True, bounds, bounds))
    good = result["checks"]["consistent"] and result["hypotheses"]["theorem_applies"]
    rows.append((*case, "consistent", True, good, good))
    return rows


def turnpike(parameters: Parameters) -> list[Row]:
    """The rate with a running error, beside that of the tangent kernel where it ends."""
    problem = replace(
        pyramid(replace(parameters, points=parameters.turnpike_points)),
        layers=parameters.turnpike_layers,
        horizon=parameters.turnpike_horizon,
        weight_decay=parameters.turnpike_decay,
        tracking=1.0,
        terminal=0.0,
        moving_grid=moving_grid(parameters.turnpike_widths, parameters.turnpike_layers),
    )
    found = train(problem, starts=parameters.starts, seed=parameters.seed)
    report = found.report["turnpike"]
    predicted, fitted = report["predicted_discrete_rate"], report["fitted_rate"]
    verdict = report["verdict"]
    widths = "-".join(map(str, parameters.turnpike_widths))
    case = ("turnpike", f"T = {problem.horizon:g}", widths)
    first = (*case, problem.staged.decision_size, "", "", "")
    close = fitted is not None and abs(fitted / predicted - 1) <= parameters.rate
    solved = _solved("turnpike", f"T = {problem.horizon:g}", found)
    return [
        (*case, *solved[3:]),
        (*first, "verdict", "exponential", verdict, verdict == "exponential"),
        (*first, "rate", predicted, fitted, close),
    ]


def solvers(parameters: Parameters) -> list[Row]:
    """One optimum by every method, and by the stages of a grid that stays."""
    problem = pyramid(parameters)
    options = SolveOptions(tolerance=parameters.tolerance, method=Method.SHOOTING)
    reference = train(problem, starts=parameters.starts, seed=parameters.seed, options=options)
    rows = [_solved("solvers", "shooting", reference)]
    cost, near = reference.solution.objective, 1.001 * reference.trajectory.decisions
    for method in (Method.CONDENSED, Method.RICCATI, Method.MATRIX_FREE):
        asked = replace(options, method=method)
        found = solve_staged(problem.staged, rollout(problem.staged, near), asked)
        gap = abs(found.objective / cost - 1)
        good = found.is_solved and gap <= parameters.agreement
        first = ("solvers", method.value, "", "", found.status.value, found.objective, "")
        rows.append((*first, "relative gap in J", 0.0, gap, good))
    still = replace(problem, moving_grid=None, width=3)
    plain = train(still, options=options, seed=parameters.seed)
    stages = stage_network(still)
    near = 1.001 * plain.trajectory.decisions
    found = solve_staged(stages, rollout(stages, near), options)
    gap = abs(found.objective / plain.solution.objective - 1)
    good = found.is_solved and plain.solution.is_solved and gap <= parameters.agreement
    first = ("solvers", "one width", "", "", found.status.value, found.objective, "")
    rows.append((*first, "relative gap in J", 0.0, gap, good))
    return rows


def images(parameters: Parameters) -> tuple[Dataset, Dataset]:
    """Training and other images of the classes, in [0, 1]; a part of each class in its order."""
    everything = encode(load("digits"), "cross-entropy")
    chosen = np.array(parameters.classes)
    rows = np.flatnonzero(everything.targets[:, chosen].any(axis=1))
    inputs, targets = everything.inputs[rows] / 16, everything.targets[np.ix_(rows, chosen)]
    labels = tuple(everything.classes[c] for c in chosen)
    order = np.random.default_rng(parameters.seed).permutation(len(rows))
    parts = order[: parameters.images], order[parameters.images :]
    first, second = (Dataset("digits", inputs[p], targets[p], labels) for p in parts)
    return first, second


def digits(parameters: Parameters, folder: Path) -> list[Row]:
    """Three classes through narrowing layers, beside networks of one width."""
    training, others = images(parameters)
    pixels = partial(square, midpoint)
    widths = parameters.image_widths
    layers = len(widths) - 1
    narrowing = LearningProblem(
        training,
        layers=layers,
        loss=CROSS_ENTROPY,
        weight_decay=parameters.image_decay,
        trained_readout=True,
        moving_grid=moving_grid(widths, layers, pixels, PROJECTION),
    )
    found = train(narrowing, seed=parameters.seed)
    save_figure(found, folder / "variable_width_digits.png")
    rows = _classified("narrowing", found, others)
    size = narrowing.staged.decision_size
    for width in (16, parameters.plain_width):
        if width is None:
            continue
        grid = pixels(width)
        onto = PROJECTION(pixels(64), grid)
        coarse, held = (
            replace(d, inputs=d.inputs @ onto.T, input_names=()) for d in (training, others)
        )
        free = size - len(parameters.classes) * (width + 1)
        one = replace(
            narrowing,
            dataset=coarse,
            layers=max(1, round(free / (width * (width + 1)))),
            moving_grid=MovingGrid((grid,)),
        )
        rows += _classified(f"one width {width}", train(one, seed=parameters.seed), held)
    return rows


def _classified(case: str, found: LearningSolution, others: Dataset) -> list[Row]:
    """Status, training errors, and accuracy on other images."""
    first = _case("digits", case, found)
    data = found.problem.dataset
    wrong = int((margins(found.outputs(data.inputs), data.targets) <= 0).sum())
    right = float((margins(found.outputs(others.inputs), others.targets) > 0).mean())
    print(f"digits, {case}: {wrong} training errors, held-out accuracy {right:.4f}")
    return [
        _solved("digits", case, found),
        (*first, "training errors", 0, wrong, wrong == 0),
        (*first, f"accuracy on {len(others.inputs)} others", "-", right, True),
    ]


def codes(parameters: Parameters, folder: Path) -> list[Row]:
    """Autoencoders through narrow layers: their rank, and the error that it leaves."""
    training, _ = images(replace(parameters, images=parameters.code_images))
    shapes = {1: (1, 1), 2: (2, 1), 4: (2, 2), 8: (4, 2)}
    rows: list[Row] = []
    for width in (*parameters.codes, 8):
        pixels = square(midpoint, 64)
        rows_of, columns_of = shapes[width]
        code = tensor_product(midpoint(rows_of), midpoint(columns_of))
        data = Dataset("digits", training.inputs, training.inputs)
        problem = LearningProblem(
            data, layers=2, moving_grid=MovingGrid.through([pixels, code, pixels], PROJECTION)
        )
        found = _continued(problem, parameters)
        case = f"code of {width}"
        first = _case("rank", case, found)
        rows.append(_solved("rank", case, found))
        values = np.linalg.svd(data.targets, compute_uv=False)
        rank = _rank(found.trajectory.states[-1], parameters)
        most = min(2 * width + 1, len(values))
        rows.append((*first, "rank of z^K", most, rank, rank <= most))
        least = float(values[most:] @ values[most:]) / problem.samples
        error = float(found.errors[-1])
        rows.append((*first, "E at least", least, error, error >= least))
        mean = data.targets - data.targets.mean(axis=0)
        linear = np.linalg.svd(mean, compute_uv=False)[width:]
        principal = float(linear @ linear) / problem.samples
        rows.append((*first, "E of as many principal components", principal, error, True))
    save_figure(found, folder / "variable_width_autoencoder.png")
    save_reconstructions(found, folder / "variable_width_reconstructions.png")
    return rows


def _continued(problem: LearningProblem, parameters: Parameters) -> LearningSolution:
    """The optimum at the last weight decay, followed from the first one."""
    options = SolveOptions(method=Method.CONDENSED)
    first, *others = (replace(problem, weight_decay=d) for d in parameters.code_decays)
    found = train(first, seed=parameters.seed, options=options)
    for posed in others:
        start = found.trajectory.decisions
        found = train(posed, starts=0, guesses=[start], options=options)
    return found


def _rank(matrix: Array, parameters: Parameters) -> int:
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > parameters.rank * values[0]).sum())


def few_samples(parameters: Parameters) -> list[Row]:
    """The rank of optimal weights of wide layers, for fewer samples than features."""
    training, _ = images(replace(parameters, images=4))
    data = Dataset("digits", training.inputs, training.targets, training.classes)
    grid = moving_grid((64, 16, 9), 2, partial(square, midpoint), PROJECTION)
    problem = LearningProblem(data, layers=2, weight_decay=1e-2, moving_grid=grid)
    found = train(problem, seed=parameters.seed)
    rows = [_solved("weights", "4 images", found)]
    for k, kernels in enumerate(found.layer_weights):
        values = np.linalg.svd(kernels["w"], compute_uv=False)
        rank = int((values > 1e-6 * values[0]).sum())
        first = _case("weights", "4 images", found)
        rows.append((*first, f"rank of w^{k}", 4, rank, rank <= 4))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run all parts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else PARAMETERS
    rows = ladder(parameters, options.output)
    rows += turnpike(parameters)
    rows += solvers(parameters)
    rows += few_samples(parameters)
    rows += codes(parameters, options.output)
    rows += digits(parameters, options.output)
    for row in (COLUMNS, *rows):
        print("  ".join(f"{_short(value):>13}" for value in row))
    with (options.output / "variable_width.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    good = all(row[-1] for row in rows)
    print("all predictions hold" if good else "A PREDICTION FAILS")
    print(f"wrote {options.output}/variable_width.csv and figures")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
