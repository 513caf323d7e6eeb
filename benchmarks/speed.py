"""How long a certified optimum takes, beside every alternative.

Statement. Samples meet only in the controls, so that with the states eliminated a gradient costs
two sweeps through the layers, and a second-order step N d (m K)^2 + (m K)^3 / 3 operations of dense
linear algebra, or, by the Riccati recursion, a number linear in K. The problems: f = w tanh(x) + b,
explicit Euler, squared loss on the first coordinate, two moons standardised, T = 1.

Predictions, all of times that include building:

1. against CasADi with the network unrolled and IPOPT's defaults: 5 times faster in every case, 50
   times as a geometric mean;
2. against Fatrop on the same stages: never slower, 10 times as a geometric mean;
3. certified in no more time than the best of L-BFGS (SciPy, vectorised gradients), Adam and SGD
   (PyTorch, over a grid of rates) needs, without a certificate, to come within 1e-8 of the optimum
   that it approaches, relatively;
4. growth at most N^1.1 in samples and K^1.1 in layers;
5. the limits of time and memory of `FULL.single` below, each case in a process of its own (a
   machine of two cores);
6. every optimum is one of multiple shooting and IPOPT too, to 1e-8 relative, wherever that can
   still be run: up to a million states, and within a limit of time.

Every peer starts from the same controls, and no time includes loading the samples. Ours builds the
stages of a case at its first start, which is shown apart too, and finds them built at the others,
as in every process that solves a problem from several starts. L-BFGS in NumPy runs on one thread of
the BLAS, as ours does: on layers of a few rows more of them only wait. A peer that runs into the
limit of time is shown with the limit, and counts as that fast. Writes results/speed.csv and
results/speed.png; exits with 1 where a prediction fails (--quick: only the sixth counts).

Usage: python benchmarks/speed.py [--quick] [--large] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from timing.cases import Array, Case, Run, controls_of, problem_of
from timing.gradients import by_lbfgs, by_torch
from timing.profile import seconds_by_part
from timing.sparse import by_casadi, by_fatrop

from ocp import Method, Solution, SolveOptions, Status, rollout, solve_staged
from ocp.blas_threads import threads_for
from ocp.condensing import adjoint, linearize
from ocp.method import Machine
from ocp.reduced_hessian import reduced_hessian
from problems.known_stages import forget

AGREEMENT = 1e-8  # relative, of the costs
MOST_STATES = 1_000_000  # of a program of multiple shooting that is held against ours
LEAST_RATIO, MEAN_RATIO = 5.0, 50.0  # against CasADi unrolled
FATROP_LEAST, FATROP_MEAN = 1.0, 10.0
GROWTH = 1.1  # largest exponent
TORCH_SHARE = 4  # of the limit of time, that all rates of an optimiser have together
RATIOS_IN_CSV = 4  # digits
FINE = ("solved", "uncertified")  # statuses
FIRST = "turnpike, first start"


@dataclass(frozen=True)
class Parameters:
    """What is run."""

    cases: tuple[Case, ...]
    samples: tuple[Case, ...]  # growth in samples
    layers: tuple[Case, ...]  # growth in layers
    single: tuple[tuple[Case, float, float], ...]  # ours alone, in at most so many s and GiB
    limit: float  # s, of a peer in one case


FULL = Parameters(
    cases=(
        Case(200, 2, 20, 1e-2),
        Case(1000, 2, 20, 1e-2),
        Case(10_000, 2, 20, 1e-2),
        Case(50, 2, 100, 1e-3),
        Case(50, 4, 50, 1e-3),
        Case(50, 8, 20, 1e-3),
    ),
    samples=tuple(Case(n, 2, 20, 1e-2) for n in (1000, 10_000, 100_000)),
    layers=tuple(Case(10, 2, k, 1e-2) for k in (100, 1000, 10_000)),
    single=(
        (Case(100_000, 2, 20, 1e-2), 60.0, 4.0),
        (Case(100, 16, 20, 1e-3), 120.0, math.inf),
        (Case(10, 2, 10_000, 1e-2), 20.0, math.inf),
    ),
    limit=120.0,
)
LARGE = (Case(1_000_000, 2, 20, 1e-2), 900.0, 12.0)
QUICK = Parameters(
    cases=(Case(40, 2, 5, 1e-2, seeds=(0,)),),
    samples=tuple(Case(n, 2, 5, 1e-2, seeds=(0,)) for n in (20, 200)),
    layers=tuple(Case(5, 2, k, 1e-2, seeds=(0,)) for k in (10, 40)),
    single=((Case(100, 2, 5, 1e-2), 60.0, 4.0),),
    limit=20.0,
)


def by_method(case: Case, start: Array, method: Method, limit: float) -> tuple[Run, Solution]:
    """Ours, from the data to the certificate."""
    begin = time.perf_counter()
    staged = problem_of(case).staged
    options = SolveOptions(method=method, time_limit=limit)
    solution = solve_staged(staged, start, options)
    seconds = time.perf_counter() - begin
    assert solution.method is not None
    note = f"{solution.method.method.value}: {solution.backend_status}"
    return Run(seconds, solution.status.value, solution.objective, note), solution


@dataclass(frozen=True)
class Comparison:
    """All peers on one case, medians over the starts."""

    case: Case
    runs: dict[str, Run]
    agreement: float

    def ratio(self, peer: str) -> float:
        """Time of a peer in units of ours; not a number if it did not run."""
        return self.runs[peer].seconds / self.runs["turnpike"].seconds


def disagreement(case: Case, ours: Solution, limit: float) -> float:
    """Relative difference of the cost from that of multiple shooting, started at our optimum.

    Not a number where that cannot be run, infinite where it does not end at an optimum.
    """
    staged = problem_of(case).staged
    if sum(state.size for state in ours.trajectory.states) > MOST_STATES:
        return math.nan
    options = SolveOptions(method=Method.SHOOTING, time_limit=limit)
    check = solve_staged(staged, ours.trajectory, options)
    if check.status is Status.TIME_LIMIT:
        return math.nan
    difference = abs(check.objective - ours.objective) / abs(check.objective)
    return difference if check.is_solved else math.inf


def compare(case: Case, limit: float) -> Comparison:
    """All peers from the same starts; the slow ones from the first start alone.

    A run that did not end well is shown in place of those that did.
    """
    found: dict[str, list[Run]] = {}
    agreement = 0.0
    forget()
    for seed in case.seeds:
        start = controls_of(case, seed)
        ours, solution = by_method(case, start, Method.AUTO, limit)
        found.setdefault("turnpike", []).append(ours)
        found.setdefault(FIRST, [ours])
        found.setdefault("L-BFGS", []).append(by_lbfgs(case, start, limit))
        if seed == case.seeds[0]:
            found |= {name: [run] for name, run in _slow_peers(case, start, limit).items()}
        agreement = max(agreement, disagreement(case, solution, math.inf))
    medians = {}
    for name, runs in found.items():
        middle = float(np.median([run.seconds for run in runs]))
        shown = next((run for run in runs if run.status not in FINE), runs[0])
        medians[name] = replace(shown, seconds=middle)
    return Comparison(case, medians, agreement)


def _slow_peers(case: Case, start: Array, limit: float) -> dict[str, Run]:
    def optimum_of(controls: Array) -> float:
        return by_method(case, controls, Method.AUTO, limit)[0].objective

    return {
        **dict(by_torch(case, start, limit / TORCH_SHARE, optimum_of)),
        "IPOPT, AMD": by_method(case, start, Method.SHOOTING, limit)[0],
        "CasADi unrolled": by_casadi(case, start, limit),
        "Fatrop": by_fatrop(case, start, limit),
    }


@dataclass(frozen=True)
class Alone:
    """Ours without peers.

    Args:
        case, run: of the first start.
        memory: the most that the process held until then, GiB.
        agreement: `disagreement`.
    """

    case: Case
    run: Run
    memory: float
    agreement: float

    @property
    def described(self) -> Run:
        """The run with what multiple shooting finds."""
        found = "not run" if math.isnan(self.agreement) else f"{self.agreement:.1e} away"
        return replace(self.run, note=f"{self.run.note}; multiple shooting {found}")


def by_ours(case: Case, limit: float) -> Alone:
    """One solve, and multiple shooting within a limit of time."""
    run, solution = by_method(case, controls_of(case, 0), Method.AUTO, math.inf)
    run = replace(run, note=f"{run.note}; minimum proved: {solution.certificate.is_minimum}")
    return Alone(case, run, _peak_memory(), disagreement(case, solution, limit))


def apart(case: Case, limit: float) -> Alone:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--single", json.dumps([*astuple(case)[:4], limit])]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    run, memory, agreement = json.loads(finished.stdout)
    return Alone(case, Run(*run), memory, agreement)


def exponent(found: list[Alone], size: Callable[[Case], int]) -> float:
    """Of the time in the size."""
    sizes, seconds = [size(one.case) for one in found], [one.run.seconds for one in found]
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _peak_memory() -> float:
    """The most memory that this process held, GiB.

    Linux counts the memory of the process that started it in `ru_maxrss`, but not in VmHWM.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (2**30 if sys.platform == "darwin" else 2**20)


def share_of_matrix_products(case: Case) -> float:
    """Rate of the sum over members in the Hessian, in units of this machine's matrix products."""
    staged = problem_of(case).staged
    linearization = linearize(staged, rollout(staged, controls_of(case, 0)))
    blocks = (*linearization.stages, *linearization.shared)
    zero = tuple(np.zeros_like(values.rows) for values in blocks)
    costates = adjoint(linearization, zero)
    seconds = []
    with threads_for(staged.decision_size):
        for _ in range(3):
            begin = time.perf_counter()
            reduced_hessian(linearization, costates, zero)
            seconds.append(time.perf_counter() - begin)
        flops = case.samples * float(staged.decision_size) ** 2
        return flops / min(seconds) / Machine.measured().flops


def figure(comparisons: list[Comparison], curves: dict[str, list[Alone]], path: Path) -> None:
    """Times of all peers by case, and growth of ours."""
    drawing = Figure(figsize=(12, 4.5), layout="constrained")
    bars, lines = drawing.subplots(1, 2, width_ratios=[2, 1])
    peers = list(dict.fromkeys(peer for c in comparisons for peer in c.runs))
    for j, peer in enumerate(peers):
        seconds = [c.runs[peer].seconds if peer in c.runs else math.nan for c in comparisons]
        finite = [value if math.isfinite(value) else math.nan for value in seconds]
        if np.isfinite(finite).any():
            places = np.arange(len(comparisons)) + 0.8 * j / len(peers) - 0.35
            bars.bar(places, finite, 0.8 / len(peers), label=peer)
    bars.set_yscale("log")
    bars.set_xticks(range(len(comparisons)), [c.case.name for c in comparisons], fontsize=7)
    bars.set_ylabel("seconds to the optimum, building included")
    bars.legend(fontsize=7, ncols=len(peers), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for label, found in curves.items():
        cases = [one.case for one in found]
        sizes = [case.samples if label == "samples" else case.layers for case in cases]
        lines.loglog(sizes, [one.run.seconds for one in found], "o-", label=label)
    lines.set_xlabel("number")
    lines.set_ylabel("seconds to the certified optimum")
    lines.legend(fontsize=8)
    drawing.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small cases, no verdict on speed")
    parser.add_argument("--large", action="store_true", help="a million samples too")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    parser.add_argument("--single", metavar="CASE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.single is not None:
        *sizes, limit = json.loads(options.single)
        one = by_ours(Case(*sizes), limit)
        print(json.dumps([astuple(one.run), one.memory, one.agreement]))
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else FULL
    header = ["case", "peer", "seconds", "time / ours", "status", "cost", "note"]
    rows: list[list[object]] = []

    def add(case: Case, peer: str, run: Run, ratio: float) -> None:
        ratio = round(ratio, RATIOS_IN_CSV)
        rows.append([case.name, peer, run.seconds, ratio, run.status, run.objective, run.note])
        print(_line(rows[-1]), flush=True)

    comparisons = []
    for case in parameters.cases:
        found = compare(case, parameters.limit)
        comparisons.append(found)
        for peer, run in found.runs.items():
            add(case, peer, run, found.ratio(peer))
        print(f"{case.name}: agreement with multiple shooting {found.agreement:.1e}", flush=True)
    curves: dict[str, list[Alone]] = {}
    exponents: dict[str, float] = {}
    by_samples, by_layers = (lambda case: case.samples), (lambda case: case.layers)
    for label, size in (("samples", by_samples), ("layers", by_layers)):
        curves[label] = []
        for case in getattr(parameters, label):
            curves[label].append(by_ours(case, parameters.limit))
            add(case, "turnpike", curves[label][-1].described, 1.0)
        exponents[label] = exponent(curves[label], size)
    singles = []
    for case, seconds, memory in (*parameters.single, *([LARGE] if options.large else [])):
        one = apart(case, parameters.limit)
        singles.append((one, one.run.seconds <= seconds and one.memory <= memory))
        note = f"{one.described.note}; {one.memory:.2f} GiB"
        add(case, "turnpike", replace(one.run, note=note), 1.0)
    with (options.output / "speed.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    figure(comparisons, curves, options.output / "speed.png")
    for case in parameters.cases:
        start = controls_of(case, case.seeds[0])
        spent = seconds_by_part(partial(by_method, case, start, Method.AUTO, math.inf))
        total = sum(spent.values())
        parts = ", ".join(f"{name} {100 * s / total:.0f} %" for name, s in spent.items())
        print(f"profile of {case.name}, {total:.3f} s: {parts}")
        print(
            f"  the sums over samples in its Hessian run at "
            f"{100 * share_of_matrix_products(case):.1f} % of the machine's matrix products, "
            f"{Machine.measured().flops / 1e9:.0f} Gflop/s"
        )
    print(
        "Few samples: sweeps through the layers, whose time is that of the calls (six a layer) and "
        "not of the arithmetic. Many: rows of samples are carried back through memory, with two "
        "operations for each number that is read."
    )
    return _verdict(comparisons, curves, exponents, singles, options.quick)


def _verdict(
    comparisons: list[Comparison],
    curves: dict[str, list[Alone]],
    exponents: dict[str, float],
    singles: list[tuple[Alone, bool]],
    quick: bool,
) -> int:
    """Print predicted beside measured; the exit code."""

    def against(peer: str) -> tuple[float, float]:
        ratios = [c.ratio(peer) for c in comparisons if peer in c.runs]
        known = np.array([ratio for ratio in ratios if not math.isnan(ratio)])
        if not known.size:
            return math.inf, math.inf
        return float(known.min()), float(np.exp(np.log(known).mean()))

    ipopt, fatrop = against("CasADi unrolled"), against("Fatrop")
    free = min(against(peer)[0] for peer in ("L-BFGS", "Adam", "SGD"))
    alone = [*(one for found in curves.values() for one in found), *(one for one, _ in singles)]
    worst = float(np.nanmax([c.agreement for c in comparisons] + [one.agreement for one in alone]))
    runs = [*(c.runs["turnpike"] for c in comparisons), *(one.run for one in alone)]
    solved = all(run.status == "solved" for run in runs)
    within = sum(is_within for _, is_within in singles)
    checks = (
        ("least time / ours, CasADi unrolled", ipopt[0], ">=", LEAST_RATIO),
        ("geometric mean, CasADi unrolled", ipopt[1], ">=", MEAN_RATIO),
        ("least time / ours, Fatrop", fatrop[0], ">=", FATROP_LEAST),
        ("geometric mean, Fatrop", fatrop[1], ">=", FATROP_MEAN),
        ("least time / ours, L-BFGS, Adam, SGD", free, ">=", 1.0),
        ("growth in samples", exponents["samples"], "<=", GROWTH),
        ("growth in layers", exponents["layers"], "<=", GROWTH),
        ("cases within time and memory", within, ">=", len(singles)),
        ("agreement with multiple shooting", worst, "<=", AGREEMENT),
    )
    held = []
    for label, measured, relation, predicted in checks:
        held.append(measured >= predicted if relation == ">=" else measured <= predicted)
        verdict = "ok" if held[-1] else "NO"
        print(
            f"{label:<40} predicted {relation} {predicted:<6g} measured {measured:8.3g}  {verdict}"
        )
    print(f"every run of ours solved: {solved}")
    return 0 if solved and (held[-1] if quick else all(held)) else 1


def _line(row: list[object]) -> str:
    parts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row]
    widths = (24, 22, 10, 10, 26, 12, 0)
    return " ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))


if __name__ == "__main__":
    sys.exit(main())
