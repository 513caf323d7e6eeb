"""Does SGD without weight decay end near the minimal-norm interpolant?

Statement. With lambda = 0 every control that interpolates the data is optimal, and the optimiser
chooses one. For one layer of "inside", x^1 = a + h (w tanh(a) + b) is linear in v = (w, b): all
gradients, of minibatches too, lie in the range of A^T, where A v = r are the equations P x_i = y_i,
so that gradient methods end at the interpolant nearest to where they start (see Gunasekar, Lee,
Soudry and Srebro, Characterizing implicit bias in terms of optimization geometry, ICML 2018):

    v_end = v_0 + A^+ (r - A v_0),   |v_end|^2 / |v*|^2 = 1 + |(I - A^+ A) v_0|^2 / |v*|^2

For several layers nothing of the kind is known, so the ratio |v_SGD|^2 / |v*|^2 is measured over
initial scales, rates and minibatches, with seeds as spread, with v* from `problems.interpolation`.
Predicted:

1. one layer: the end point and the ratio above, to 1e-6 relative;
2. v* has multipliers p_i and is the least: a run that ends with error E has, to first order,
   |v|^2 >= |v*|^2 - |p| sqrt(N E). If the solver of the minimal-norm problem, started from a run's
   end, leads lower, that is v*, and it is said;
3. those solves end certified.

Writes results/implicit_bias.csv and results/implicit_bias.png; exits with 1 if a prediction fails.

Usage: python benchmarks/implicit_bias.py [--quick] [--workers N] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ocp import MultiStart, multi_start, rollout
from problems.datasets import Dataset, encode, load, standardize
from problems.generalization import Generalization, generalization
from problems.interpolation import minimal_norm
from problems.learning import Array, LearningProblem
from problems.report import cell
from problems.request import FRESH_SAMPLES, FRESH_SEED
from problems.symmetries import distance
from problems.torch_optimizers import GRADIENT_DESCENT, MOMENTUM
from problems.torch_training import Run, Training, initial_network, run, training
from problems.training import LearningSolution, assess, train
from problems.workers import processes


@dataclass(frozen=True)
class Case:
    """A few samples, and a network that can interpolate them."""

    data: str
    samples: int
    width: int
    layers: int

    def datasets(self) -> tuple[Dataset, Dataset]:
        """Training samples, and others of their kind in the same units."""
        training = encode(load(self.data, samples=self.samples, seed=0), "squared")
        if self.data != "iris":
            fresh = load(self.data, samples=FRESH_SAMPLES, seed=FRESH_SEED)
            return training, encode(fresh, "squared")
        everything = encode(load(self.data), "squared")
        used = {row.tobytes() for row in training.inputs}
        rest = [i for i, row in enumerate(everything.inputs) if row.tobytes() not in used]
        training, mean, scale = standardize(training)
        inputs = (everything.inputs[rest] - mean) / scale
        return training, replace(everything, inputs=inputs, targets=everything.targets[rest])

    def problem(self) -> LearningProblem:
        """The learning problem without weight decay."""
        dataset, _ = self.datasets()
        return LearningProblem(dataset, width=self.width, layers=self.layers, weight_decay=0.0)


@dataclass(frozen=True)
class Parameters:
    """Everything that the outcome depends on."""

    linear: tuple[Case, ...] = (Case("moons", 3, 2, 1), Case("iris", 4, 5, 1))
    cases: tuple[Case, ...] = (
        Case("moons", 6, 4, 8),
        Case("circles", 6, 3, 8),
        Case("xor", 4, 3, 8),
        Case("iris", 12, 6, 5),
    )
    scales: tuple[float, ...] = (0.1, 1.0, 3.0)
    rates: tuple[float, ...] = (0.03, 0.1)
    minibatches: tuple[int, ...] = (1, 3)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    evaluations: int = 1000
    starts: int = 10  # of the minimal-norm problem
    interpolates: float = 1e-4  # E at which a run counts as interpolating
    linear_evaluations: int = 2000
    linear_rate: float = 0.2  # of gradient descent, half of that with minibatches
    linear_scales: tuple[float, ...] = (0.1, 1.0, 10.0)
    end_point: float = 1e-6  # relative, of the one-layer prediction
    below: float = 1e-6  # relative, of the lower bound, for its second order


PARAMETERS = Parameters()
QUICK = Parameters(
    linear=(Case("moons", 3, 2, 1),),
    cases=(Case("xor", 4, 3, 3),),
    scales=(1.0,),
    rates=(0.1,),
    minibatches=(1, 2),
    seeds=(0, 1),
    evaluations=600,
    starts=2,
    linear_scales=(1.0,),
)

COLUMNS = (
    *("data", "layers", "width", "minibatches", "rate", "initial_scale", "runs", "interpolating"),
    *("ratio_median", "ratio_least", "ratio_largest", "distance_median"),
    *("polished_ratio_median", "polished_ratio_least", "polished_ratio_largest"),
    *("accuracy_median", "accuracy_least", "accuracy_largest", "accuracy_of_v*"),
    *("normalized_margin_median", "normalized_margin_of_v*"),
)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs by their position, for other processes."""

    asked: tuple[Training, ...]

    def __call__(self, position: int) -> Run:
        return run(self.asked[position])


def made(asked: Sequence[Training], executor: Executor | None) -> tuple[Run, ...]:
    """All runs."""
    found: MultiStart[Run] = multi_start(_Runs(tuple(asked)), range(len(asked)), executor)
    return found.solutions


def equations(problem: LearningProblem) -> tuple[Array, Array]:
    """A (NM, m) and r (NM,) of the one-layer interpolation A v = r, with v in the L2 metric."""
    features = np.column_stack(
        [np.tanh(problem.pad(problem.dataset.inputs)), np.ones(problem.samples)]
    )
    rows, rights = [], []
    for i, j in itertools.product(range(problem.samples), range(problem.outputs)):
        w, b = np.zeros((problem.state_size, problem.state_size)), np.zeros(problem.state_size)
        w[j], b[j] = features[i, :-1], features[i, -1]
        rows.append(problem.horizon * np.concatenate([w.ravel(), b]))
        start = problem.pad(problem.dataset.inputs)[i, j]
        rights.append(problem.dataset.targets[i, j] - start)
    return np.array(rows), np.array(rights)


def linear(case: Case, parameters: Parameters, executor: Executor | None) -> bool:
    """Predict where one-layer networks end, then train them."""
    problem = case.problem()
    a, r = equations(problem)
    inverse = np.linalg.pinv(a)
    least = inverse @ r
    solved = train(minimal_norm(problem), starts=parameters.starts)
    good = bool(np.linalg.norm(solved.trajectory.decisions - least) <= 1e-6 * np.linalg.norm(least))
    if not good:
        print("  A PREDICTION FAILS: the minimal-norm solver does not find A^+ r")
    asked = [
        training(
            problem,
            replace(GRADIENT_DESCENT, minibatches=parts, momentum=0.9),
            parameters.linear_rate / parts,
            seed,
            evaluations=parameters.linear_evaluations,
            scale=scale,
        )
        for parts in parameters.minibatches
        for scale in parameters.linear_scales
        for seed in parameters.seeds
    ]
    worst = 0.0
    ratios = []
    for one, done in zip(asked, made(asked, executor), strict=True):
        start = initial_network(one).decisions()
        predicted = start + inverse @ (r - a @ start)
        ratio = 1 + np.sum((start - inverse @ (a @ start)) ** 2) / np.sum(least**2)
        error = np.linalg.norm(done.decisions - predicted) / np.linalg.norm(predicted)
        measured = np.sum(done.decisions**2) / np.sum(least**2)
        ratios.append((one.scale, ratio, measured))
        worst = max(worst, float(error), abs(measured / ratio - 1))
    for scale in parameters.linear_scales:
        chosen = np.array([row[1:] for row in ratios if row[0] == scale])
        low, high = np.median(chosen, axis=0)
        print(
            f"  {case.data} ({case.samples}), one layer, initial scale {scale:g}: "
            f"|v|^2 / |v*|^2 predicted {low:.8g}, measured {high:.8g} (medians)"
        )
    holds = worst <= parameters.end_point
    print(f"  largest relative error {worst:.1e}{'' if holds else '  A PREDICTION FAILS'}")
    return good and holds


@dataclass(frozen=True, eq=False)
class End:
    """Where a run ended, and what the minimal-norm solver makes of it."""

    asked: Training
    norm_squared: float
    error: float
    solution: LearningSolution
    polished: LearningSolution


def nonlinear(
    case: Case, parameters: Parameters, executor: Executor | None
) -> tuple[list[tuple], list[str]]:
    """Measure one case; its rows and what fails, in words."""
    problem, (_, held_out) = case.problem(), case.datasets()
    posed = minimal_norm(problem)
    best = train(posed, starts=parameters.starts, executor=executor)
    asked = [
        training(
            problem,
            replace(MOMENTUM, minibatches=parts),
            *(rate, seed),
            evaluations=parameters.evaluations,
            scale=scale,
        )
        for parts in parameters.minibatches
        for rate in parameters.rates
        for scale in parameters.scales
        for seed in parameters.seeds
    ]
    ends = []
    for one, done in zip(asked, made(asked, executor), strict=True):
        trajectory = rollout(problem.staged, done.decisions)
        found = LearningSolution(problem, assess(problem.staged, trajectory, 0.0, 1e-8), 0.0, None)
        polished = train(posed, starts=0, guesses=[done.decisions])
        energy = float(done.history.control_energy[done.best])
        ends.append(End(one, energy, float(found.errors[-1]), found, polished))
    failures, before = [], best.control_energy
    for end in ends:
        if end.polished.solution.is_solved and end.polished.control_energy < best.control_energy:
            best = end.polished
    if best.control_energy < before * (1 - 1e-6):
        print(
            f"  A SMALLER INTERPOLANT, from SGD's: |v*|^2 = {best.control_energy:.8g}, "
            f"not {before:.8g}"
        )
    least = best.control_energy
    price = float(np.linalg.norm(best.multipliers))
    for end in ends:
        floor = least - price * np.sqrt(problem.samples * end.error) - parameters.below * least
        if end.error <= parameters.interpolates and end.norm_squared < floor:
            failures.append(f"{end.asked.name} has |v|^2 = {end.norm_squared}, below {floor}")
    unsolved = [end for end in ends if not end.polished.solution.is_solved]
    failures += [
        f"{end.asked.name}, polished, is {end.polished.status.value}"
        for end in unsolved
        if end.error <= parameters.interpolates
    ]
    if not best.solution.is_solved:
        failures.append(f"the minimal-norm problem ended as {best.status.value}")
    measures = generalization(best, np.sqrt(least), held_out)
    rows = []
    for parts, rate, scale in itertools.product(
        parameters.minibatches, parameters.rates, parameters.scales
    ):
        chosen = [
            end
            for end in ends
            if (end.asked.optimizer.minibatches, end.asked.rate, end.asked.scale)
            == (parts, rate, scale)
        ]
        rows.append(_row(case, (parts, rate, scale), chosen, best, measures, parameters, held_out))
    return rows, failures


def _row(
    case: Case,
    setting: tuple[int, float, float],
    ends: Sequence[End],
    best: LearningSolution,
    of_best: Generalization,
    parameters: Parameters,
    held_out: Dataset,
) -> tuple:
    done = [end for end in ends if end.error <= parameters.interpolates]
    least = best.control_energy
    reference = best.trajectory.decisions
    apart = [
        distance(end.solution.problem, end.solution.trajectory.decisions, reference).relative
        for end in done
    ]
    measures = [generalization(e.solution, np.sqrt(e.norm_squared), held_out) for e in done]
    polished = [e.polished.control_energy / least for e in done if e.polished.solution.is_solved]
    return (
        *(case.data, case.layers, case.width, *setting, len(ends), len(done)),
        *_spread([end.norm_squared / least for end in done]),
        _spread(apart)[0],
        *_spread(polished),
        *_spread([m.held_out_accuracy for m in measures]),
        of_best.held_out_accuracy,
        _spread([m.normalized_margin for m in measures])[0],
        of_best.normalized_margin,
    )


def _spread(values: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """Median, least and largest."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None, None
    return float(np.median(known)), min(known), max(known)


def draw(rows: Sequence[tuple], path: Path) -> None:
    """Ratio against the initial scale: one panel per data set, one line per setting."""
    names = list(dict.fromkeys(row[0] for row in rows))
    figure = Figure(figsize=(3.2 * len(names) + 0.4, 3.4), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        settings = dict.fromkeys((row[3], row[4]) for row in rows)  # of one colour in all panels
        for number, (parts, rate) in enumerate(settings):
            chosen = [row for row in rows if row[:1] + row[3:5] == (name, parts, rate) and row[8]]
            if not chosen:
                continue
            scale = np.array([row[5] for row in chosen]) * 1.06**number  # side by side
            middle, low, high = (np.array([row[8 + j] for row in chosen]) for j in range(3))
            axes.errorbar(
                scale,
                middle,
                yerr=[middle - low, high - middle],
                color=f"C{number}",
                marker="o",
                ms=4,
                lw=1.2,
                capsize=2,
                label=f"rate {rate:g}, {parts} minibatch{'es' if parts > 1 else ''}",
            )
        axes.axhline(1.0, color="#222222", lw=1, ls="--")
        scales = sorted({row[5] for row in rows})
        axes.set(xscale="log", yscale="log", title=name, xlabel="initial scale")
        axes.set_xlim(scales[0] / 1.5, scales[-1] * 2)
        axes.set_xticks(scales, [f"{scale:g}" for scale in scales], minor=False)
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel(r"$|v_{SGD}|^2\,/\,|v^*|^2$, median and range")
    panels[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=170)


def answer(rows: Sequence[tuple]) -> str:
    """The question's answer, from the table."""
    known = [row for row in rows if row[8] is not None]
    if not known:
        return "No run interpolated, so there is no answer."
    low, high = min(row[9] for row in known), max(row[10] for row in known)
    near = sum(row[10] <= 1.05 for row in known)
    lines = [
        f"|v_SGD|^2 / |v*|^2 is between {low:.3g} and {high:.3g} over {len(known)} settings; in "
        f"{near} of them all seeds are within 5 % of the least norm."
    ]
    for column, what in ((4, "rate"), (5, "initial scale"), (3, "number of minibatches")):
        values = sorted({row[column] for row in known})
        middles = [float(np.median([r[8] for r in known if r[column] == v])) for v in values]
        shown = ", ".join(f"{m:.3g} at {v:g}" for v, m in zip(values, middles, strict=True))
        lines.append(f"Median ratio by {what}: {shown}.")
    worse = [row[18] - row[15] for row in known if row[15] is not None and row[18] is not None]
    lines.append(
        "Held-out accuracy of v* less that of SGD, median over the settings: "
        f"{np.median(worse):+.3f} (from {min(worse):+.3f} to {max(worse):+.3f})."
    )
    same = [row[12] for row in known if row[12] is not None]
    lines.append(
        "The minimal-norm solver, started from SGD's interpolant, ends at a median ratio of "
        f"{np.median(same):.4g}."
    )
    return "\n".join(lines)


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
        "predicted: one layer ends at v_0 + A^+ (r - A v_0); nothing interpolates with less than v*"
    )
    good, rows = True, []
    with processes(workers) as executor:
        for case in parameters.linear:
            good &= linear(case, parameters, executor)
        for case in parameters.cases:
            print(f"{case.data} ({case.samples} samples, width {case.width}, {case.layers} layers)")
            found, failures = nonlinear(case, parameters, executor)
            rows += found
            for failure in failures:
                print(f"  A PREDICTION FAILS: {failure}")
            good &= not failures
            for row in found:
                print(
                    f"  minibatches {row[3]}, rate {row[4]:<5g} scale {row[5]:<4g} "
                    f"interpolating {row[7]}/{row[6]}  ratio {_short(row[8])} "
                    f"[{_short(row[9])}, {_short(row[10])}]  polished {_short(row[12])}  "
                    f"accuracy {_short(row[15])} (v*: {_short(row[18])})"
                )
    print(answer(rows))
    with (options.output / "implicit_bias.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    draw(rows, options.output / "implicit_bias.png")
    print(f"wrote {options.output}/implicit_bias.csv and implicit_bias.png")
    return 0 if good else 1


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
