"""How long a certified optimum takes, beside every alternative.

Statement. Samples meet only in the controls, so that with the states eliminated one second-order
step costs N d (m K)^2 + (m K)^3 / 3 operations of dense linear algebra, or, by the Riccati
recursion, a number linear in K. The problems: f = w tanh(x) + b, explicit Euler, squared loss on
the first coordinate, two moons standardised, T = 1.

Predictions, all of times that include building:

1. against CasADi with the network unrolled and IPOPT's defaults: 5 times faster in every case, 50
   times as a geometric mean;
2. against Fatrop on the same stages: never slower, 10 times as a geometric mean;
3. certified in no more time than the best of L-BFGS (SciPy, vectorised gradients), Adam and SGD
   (PyTorch, over a grid of rates) needs, without a certificate, to come within 1e-8 of the optimum
   that it approaches, relatively;
4. growth at most N^1.1 in samples and K^1.1 in layers;
5. every optimum is one of multiple shooting and IPOPT too, to 1e-8 relative.

Every peer starts from the same controls, and no time includes loading the samples. L-BFGS in NumPy
runs on one thread of the BLAS, as ours does: on layers of a few rows more of them only wait. A peer
that runs into the limit of time is shown with the limit, and counts as that fast. Writes
results/speed.csv and results/speed.png; exits with 1 where a prediction fails (--quick: only the
fifth counts).

Usage: python benchmarks/speed.py [--quick] [--large] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult
from scipy.optimize import minimize as scipy_minimize

from ocp import Method, Solution, SolveOptions, certify, rollout, solve_staged
from ocp.blas_threads import threads_for
from ocp.condensing import adjoint, linearize
from ocp.method import Machine, choose
from ocp.newton import Limits
from ocp.reduced_hessian import reduced_hessian
from ocp.reduction import minimize_reduced
from problems.datasets import Dataset, encode, load, standardize
from problems.learning import LearningProblem
from problems.training import random_controls

Array = NDArray[np.float64]

GAP = 1e-8  # relative, of the peers without a certificate
AGREEMENT = 1e-8  # relative, of the costs
LEAST_RATIO, MEAN_RATIO = 5.0, 50.0  # against CasADi unrolled
FATROP_LEAST, FATROP_MEAN = 1.0, 10.0
GROWTH = 1.1  # largest exponent
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)  # of Adam and SGD
RATIOS_IN_CSV = 4  # digits


@dataclass(frozen=True)
class Case:
    """Size of a problem, and which peers it is small enough for."""

    samples: int
    width: int
    layers: int
    weight_decay: float
    seeds: tuple[int, ...] = (0, 1, 2)
    sparse: bool = True  # whether peers with a sparse factorisation run
    shooting: bool = True  # whether the optimum is checked by multiple shooting

    @property
    def name(self) -> str:
        """Sizes in words."""
        return f"N={self.samples} d={self.width} K={self.layers}"


@dataclass(frozen=True)
class Parameters:
    """What is run."""

    cases: tuple[Case, ...]
    samples: tuple[Case, ...]  # growth in samples
    layers: tuple[Case, ...]  # growth in layers
    single: tuple[Case, ...]  # ours alone
    limit: float  # s, of a peer in one case


FULL = Parameters(
    cases=(
        Case(200, 2, 20, 1e-2),
        Case(1000, 2, 20, 1e-2),
        Case(10_000, 2, 20, 1e-2, seeds=(0,)),
        Case(50, 2, 100, 1e-3),
        Case(50, 4, 50, 1e-3),
        Case(50, 8, 20, 1e-3),
    ),
    samples=tuple(
        Case(n, 2, 20, 1e-2, seeds=(0,), shooting=False) for n in (1000, 10_000, 100_000)
    ),
    layers=tuple(Case(10, 2, k, 1e-2, seeds=(0,), shooting=False) for k in (100, 1000, 10_000)),
    single=(Case(100, 16, 20, 1e-3, seeds=(0,), shooting=False),),
    limit=120.0,
)
LARGE = Case(1_000_000, 2, 20, 1e-2, seeds=(0,), shooting=False)
QUICK = Parameters(
    cases=(Case(40, 2, 5, 1e-2, seeds=(0,)),),
    samples=tuple(Case(n, 2, 5, 1e-2, seeds=(0,)) for n in (20, 200)),
    layers=tuple(Case(5, 2, k, 1e-2, seeds=(0,)) for k in (10, 40)),
    single=(),
    limit=20.0,
)


@dataclass(frozen=True)
class Run:
    """One peer on one case from one start; seconds include building."""

    seconds: float
    status: str
    objective: float
    note: str = ""


@cache
def dataset_of(samples: int) -> Dataset:
    """The samples, loaded before any clock runs."""
    return standardize(encode(load("moons", samples=samples), "squared")).dataset


def problem_of(case: Case) -> LearningProblem:
    """The learning problem."""
    return LearningProblem(
        dataset_of(case.samples),
        width=case.width,
        layers=case.layers,
        weight_decay=case.weight_decay,
    )


def controls_of(case: Case, seed: int) -> Array:
    """The start that all peers share."""
    return random_controls(problem_of(case).staged, seed, 1.0)


def by_method(case: Case, start: Array, method: Method, limit: float) -> tuple[Run, Solution]:
    """Ours, from the data to the certificate."""
    begin = time.perf_counter()
    staged = problem_of(case).staged
    options = SolveOptions(method=method, time_limit=limit)
    solution = solve_staged(staged, rollout(staged, start), options)
    seconds = time.perf_counter() - begin
    assert solution.method is not None
    note = f"{solution.method.method.value}: {solution.backend_status}"
    return Run(seconds, solution.status.value, solution.objective, note), solution


def plain_network(case: Case) -> tuple[Array, Array, float]:
    """Inputs padded to the width, targets and step."""
    dataset = problem_of(case).dataset
    padding = case.width - dataset.inputs.shape[1]
    inputs = np.pad(dataset.inputs, ((0, 0), (0, padding)))
    return inputs, dataset.targets, 1.0 / case.layers


def sparse_program(case: Case) -> tuple[dict[str, ca.SX], Array]:
    """The network unrolled, sample by sample and stage by stage, and the inputs."""
    inputs, targets, step = plain_network(case)
    members, d = inputs.shape
    unknowns, defects, cost = [], [], ca.SX(0)
    x = ca.DM(inputs.T)
    state: ca.SX | ca.DM = x
    for k in range(case.layers):
        u = ca.SX.sym(f"u{k}", d * d + d)
        weight, bias = ca.reshape(u[: d * d], d, d).T, u[d * d :]
        after = ca.SX.sym(f"x{k + 1}", d, members)
        rate = weight @ ca.tanh(state) + ca.repmat(bias, 1, members)
        unknowns += [u, ca.vec(after)]
        defects.append(ca.vec(state + step * rate - after))
        cost += case.weight_decay * step * ca.sumsqr(u)
        state = after
    residual = state[: targets.shape[1], :] - ca.DM(targets.T)
    cost += ca.sumsqr(residual) / members
    return {"x": ca.vertcat(*unknowns), "f": cost, "g": ca.vertcat(*defects)}, inputs


def sparse_start(case: Case, start: Array) -> Array:
    """Controls and the states that they lead to, in the order of `sparse_program`."""
    inputs, _, step = plain_network(case)
    d, x, parts = case.width, inputs, []
    for u in start.reshape(case.layers, -1):
        x = x + step * (np.tanh(x) @ u[: d * d].reshape(d, d).T + u[d * d :])
        parts += [u, x.ravel()]
    return np.concatenate(parts)


def by_casadi(case: Case, start: Array, limit: float) -> Run:
    """CasADi unrolled, IPOPT with its defaults."""
    begin = time.perf_counter()
    program, _ = sparse_program(case)
    quiet: dict[str, Any] = {
        "ipopt": {"print_level": 0, "max_wall_time": limit, "sb": "yes"},
        "print_time": False,
    }
    solver = ca.nlpsol("solver", "ipopt", program, quiet)
    found = solver(x0=sparse_start(case, start), lbg=0.0, ubg=0.0)
    seconds = time.perf_counter() - begin
    return Run(seconds, str(solver.stats()["return_status"]), float(found["f"]))


def by_fatrop(case: Case, start: Array, limit: float) -> Run:
    """Fatrop on stages that stack the samples; the first interval starts from given states."""
    inputs, targets, step = plain_network(case)
    members, d = inputs.shape
    m, n = d * d + d, members * d
    begin = time.perf_counter()
    unknowns, rows, cost = [], [], ca.SX(0)
    states = [ca.SX.sym(f"x{k}", d, members) for k in range(case.layers + 1)]
    for k in range(case.layers):
        u = ca.SX.sym(f"u{k}", m)
        weight, bias = ca.reshape(u[: d * d], d, d).T, u[d * d :]
        rate = weight @ ca.tanh(states[k]) + ca.repmat(bias, 1, members)
        unknowns += [ca.vec(states[k]), u]
        rows.append(ca.vec(states[k + 1] - states[k] - step * rate))
        if k == 0:
            rows.append(ca.vec(states[0] - ca.DM(inputs.T)))
        cost += case.weight_decay * step * ca.sumsqr(u)
    unknowns.append(ca.vec(states[-1]))
    cost += ca.sumsqr(states[-1][: targets.shape[1], :] - ca.DM(targets.T)) / members
    program = {"x": ca.vertcat(*unknowns), "f": cost, "g": ca.vertcat(*rows)}
    structure: dict[str, Any] = {
        "structure_detection": "manual",
        "nx": [n] * (case.layers + 1),
        "nu": [m] * case.layers + [0],
        "ng": [n] + [0] * case.layers,
        "N": case.layers,
        "equality": [True] * int(program["g"].numel()),
        "print_time": False,
        "fatrop": {"print_level": 0, "max_iter": 3000},
    }
    solver = ca.nlpsol("solver", "fatrop", program, structure)
    packed = sparse_start(case, start).reshape(case.layers, m + n)
    x0 = np.concatenate([inputs.ravel(), packed.ravel()])
    found = solver(x0=x0, lbg=0.0, ubg=0.0)
    seconds = time.perf_counter() - begin
    status = "solved" if solver.stats()["success"] else "not solved"
    return Run(seconds, status, float(found["f"]))


def plain_gradient(case: Case) -> Callable[[Array], tuple[float, Array]]:
    """Cost and gradient in plain NumPy, whole layers of samples at once, written by hand."""
    inputs, targets, step = plain_network(case)
    d, outputs = case.width, targets.shape[1]

    def evaluate(w: Array) -> tuple[float, Array]:
        u, x, features = w.reshape(case.layers, -1), inputs, []
        for layer in u:
            s = np.tanh(x)
            features.append(s)
            x = x + step * (s @ layer[: d * d].reshape(d, d).T + layer[d * d :])
        residual = x[:, :outputs] - targets
        cost = float((residual**2).sum()) / len(x) + case.weight_decay * step * float(w @ w)
        gradient, costate = np.empty_like(u), np.zeros_like(x)
        costate[:, :outputs] = 2 * residual / len(x)
        for k in range(case.layers - 1, -1, -1):
            gradient[k, : d * d] = step * (costate.T @ features[k]).ravel()
            gradient[k, d * d :] = step * costate.sum(axis=0)
            weight = u[k, : d * d].reshape(d, d)
            costate = costate + step * (costate @ weight) * (1 - features[k] ** 2)
        return cost, (gradient + 2 * case.weight_decay * step * u).ravel()

    return evaluate


def by_lbfgs(case: Case, start: Array, limit: float) -> Run:
    """SciPy's L-BFGS; the time is that to the gap from the optimum that it approaches."""
    evaluate = plain_gradient(case)
    history: list[tuple[float, float]] = []
    begin = time.perf_counter()

    def record(intermediate_result: OptimizeResult) -> None:
        history.append((time.perf_counter() - begin, float(intermediate_result.fun)))
        if history[-1][0] > limit:
            raise StopIteration

    options = {"maxiter": 10**5, "maxfun": 10**6, "ftol": 1e-15, "gtol": 1e-12, "maxcor": 20}
    with threads_for(0):
        scipy_minimize(
            evaluate, start, jac=True, method="L-BFGS-B", options=options, callback=record
        )
    best = min(cost for _, cost in history)
    return Run(_time_to_gap(history, best), "uncertified", best)


def _time_to_gap(history: list[tuple[float, float]], optimum: float) -> float:
    return next(seconds for seconds, cost in history if cost - optimum <= GAP * abs(optimum))


def by_torch(case: Case, start: Array, limit: float) -> Iterator[tuple[str, Run]]:
    """Adam and SGD, the best of the rates; none if PyTorch is not installed.

    The optimum that a run approaches is where our own solver goes from where it ended.
    """
    if importlib.util.find_spec("torch") is None:
        missing = Run(math.nan, "not installed", math.nan)
        yield from (("Adam", missing), ("SGD", missing))
        return
    import torch

    torch.set_num_threads(2)
    inputs, targets, step = plain_network(case)
    d, outputs = case.width, targets.shape[1]
    a, y = torch.tensor(inputs), torch.tensor(targets)
    for name, optimizer in (("Adam", torch.optim.Adam), ("SGD", torch.optim.SGD)):
        runs = []
        for rate in RATES:
            w = torch.tensor(start.reshape(case.layers, -1), requires_grad=True)
            method = optimizer([w], lr=rate)
            history: list[tuple[float, float]] = []
            begin = time.perf_counter()
            while not history or history[-1][0] < limit / len(RATES):
                method.zero_grad()
                x = a
                for layer in w:
                    weight = layer[: d * d].reshape(d, d)
                    x = x + step * (torch.tanh(x) @ weight.T + layer[d * d :])
                cost = ((x[:, :outputs] - y) ** 2).sum() / len(x)
                cost = cost + case.weight_decay * step * (w**2).sum()
                cost.backward()
                method.step()
                history.append((time.perf_counter() - begin, float(cost)))
                if not math.isfinite(history[-1][1]):
                    break
            end = w.detach().numpy().ravel()
            if not (math.isfinite(history[-1][1]) and np.isfinite(end).all()):
                continue
            best = min(cost for _, cost in history)
            optimum = by_method(case, end, Method.AUTO, limit)[0].objective
            near = best - optimum <= GAP * abs(optimum)
            seconds = _time_to_gap(history, optimum) if near else math.inf
            runs.append(Run(seconds, "uncertified", best, f"rate {rate:g}"))
        nothing = Run(math.inf, "diverged", math.nan)
        yield name, min(runs, key=lambda run: (run.seconds, run.objective), default=nothing)


@dataclass(frozen=True)
class Comparison:
    """All peers on one case, medians over the starts."""

    case: Case
    runs: dict[str, Run]
    agreement: float

    def ratio(self, peer: str) -> float:
        """Time of a peer in units of ours; not a number if it did not run."""
        return self.runs[peer].seconds / self.runs["turnpike"].seconds


def compare(case: Case, limit: float) -> Comparison:
    """All peers from the same starts."""
    found: dict[str, list[Run]] = {}
    agreement = 0.0
    for seed in case.seeds:
        start = controls_of(case, seed)
        ours, solution = by_method(case, start, Method.AUTO, limit)
        found.setdefault("turnpike", []).append(ours)
        if case.shooting:
            staged = problem_of(case).staged
            shooting = SolveOptions(method=Method.SHOOTING, time_limit=limit)
            check = solve_staged(staged, solution.trajectory, shooting)
            difference = abs(check.objective - ours.objective) / abs(check.objective)
            agreement = max(agreement, difference if check.is_solved else math.inf)
        found.setdefault("L-BFGS", []).append(by_lbfgs(case, start, limit))
        if seed != case.seeds[0]:
            continue  # the slow peers run once
        for name, run in by_torch(case, start, limit):
            found[name] = [run]
        if case.sparse:
            found["IPOPT, AMD"] = [by_method(case, start, Method.SHOOTING, limit)[0]]
            found["CasADi unrolled"] = [by_casadi(case, start, limit)]
            found["Fatrop"] = [
                by_fatrop(case, start, limit)
                if ca.has_nlpsol("fatrop") and _fatrop_seconds(case) < limit
                else Run(math.nan, "too large", math.nan)
            ]
    medians = {}
    for name, runs in found.items():
        middle = float(np.median([run.seconds for run in runs]))
        medians[name] = replace(runs[0], seconds=middle)
    return Comparison(case, medians, agreement)


FATROP_RATE, FATROP_STEPS = 2e9, 30  # operations per second and steps that it is expected to take


def _fatrop_seconds(case: Case) -> float:
    """Expected from its recursion on the stacked state."""
    stacked = case.samples * case.width
    step = 3.0 * case.layers * float(stacked + case.width**2 + case.width) ** 3
    return FATROP_STEPS * step / FATROP_RATE


def growth(
    cases: tuple[Case, ...], size: Callable[[Case], int], limit: float
) -> tuple[float, list]:
    """Exponent of the time in the size, and the rows it was fitted to."""
    rows = []
    for case in cases:
        run, _ = by_method(case, controls_of(case, case.seeds[0]), Method.AUTO, 10 * limit)
        rows.append((case, run))
    sizes = np.log([size(case) for case, _ in rows])
    return float(np.polyfit(sizes, np.log([run.seconds for _, run in rows]), 1)[0]), rows


def profile(case: Case) -> dict[str, float]:
    """Seconds of our own run by what they went into."""
    begin = time.perf_counter()
    staged = problem_of(case).staged
    start = controls_of(case, case.seeds[0])
    building = time.perf_counter() - begin
    chosen = choose(staged).method
    # A small problem goes to shooting by itself; what is profiled is the elimination of states.
    method = Method.CONDENSED if chosen is Method.SHOOTING else chosen
    begin = time.perf_counter()
    result, effort = minimize_reduced(staged, method, start, Limits())
    total = time.perf_counter() - begin
    begin = time.perf_counter()
    certify(staged, rollout(staged, result.point))
    certificate = time.perf_counter() - begin
    return {
        "building": building,
        **effort.seconds,
        "overhead of Python": total - sum(effort.seconds.values()),
        "certificate": certificate,
    }


def share_of_matrix_products(case: Case) -> float:
    """Rate of the kernel of the dense Hessian, in units of this machine's matrix products."""
    staged = problem_of(case).staged
    linearization = linearize(staged, rollout(staged, controls_of(case, 0)))
    blocks = (*linearization.stages, *linearization.shared)
    zero = tuple(np.zeros_like(values.rows) for values in blocks)
    costates = adjoint(linearization, zero)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        reduced_hessian(linearization, costates, zero)
        seconds.append(time.perf_counter() - begin)
    flops = case.samples * case.width * float(staged.decision_size) ** 2
    return flops / min(seconds) / Machine.measured().flops


def figure(comparisons: list[Comparison], curves: dict[str, list], path: Path) -> None:
    """Times of all peers by case, and growth of ours."""
    drawing = Figure(figsize=(12, 4.5), layout="constrained")
    bars, lines = drawing.subplots(1, 2, width_ratios=[2, 1])
    peers = list(comparisons[0].runs)
    for j, peer in enumerate(peers):
        seconds = [c.runs[peer].seconds if peer in c.runs else math.nan for c in comparisons]
        finite = [value if math.isfinite(value) else math.nan for value in seconds]
        if np.isfinite(finite).any():
            places = np.arange(len(comparisons)) + 0.8 * j / len(peers) - 0.35
            bars.bar(places, finite, 0.8 / len(peers), label=peer)
    bars.set_yscale("log")
    bars.set_xticks(range(len(comparisons)), [c.case.name for c in comparisons], fontsize=7)
    bars.set_ylabel("seconds to the optimum, building included")
    bars.legend(fontsize=7)
    for label, rows in curves.items():
        sizes = [case.samples if label == "samples" else case.layers for case, _ in rows]
        lines.loglog(sizes, [run.seconds for _, run in rows], "o-", label=label)
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
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else FULL
    header = ["case", "peer", "seconds", "time / ours", "status", "cost", "note"]
    rows: list[list[object]] = []
    comparisons = []
    for case in parameters.cases:
        found = compare(case, parameters.limit)
        comparisons.append(found)
        for peer, run in found.runs.items():
            ratio = round(found.ratio(peer), RATIOS_IN_CSV)
            row = [case.name, peer, run.seconds, ratio, run.status, run.objective, run.note]
            rows.append(row)
            print(_line(row), flush=True)
        print(f"{case.name}: agreement with multiple shooting {found.agreement:.1e}", flush=True)
    curves, exponents = {}, {}
    for label, cases in (("samples", parameters.samples), ("layers", parameters.layers)):
        exponents[label], curves[label] = growth(
            cases,
            (lambda case: case.samples) if label == "samples" else (lambda case: case.layers),
            parameters.limit,
        )
    singles = [*parameters.single, *([LARGE] if options.large else [])]
    alone = [
        (case, by_method(case, controls_of(case, 0), Method.AUTO, 10 * parameters.limit)[0])
        for case in singles
    ]
    for case, run in [*curves["samples"], *curves["layers"], *alone]:
        row = [case.name, "turnpike", run.seconds, 1.0, run.status, run.objective, run.note]
        rows.append(row)
        print(_line(row), flush=True)
    with (options.output / "speed.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    figure(comparisons, curves, options.output / "speed.png")
    for case in parameters.cases:
        spent = profile(case)
        total = sum(spent.values())
        parts = ", ".join(f"{name} {100 * s / total:.0f} %" for name, s in spent.items())
        print(f"profile of {case.name}, {total:.3f} s: {parts}")
    largest = max(parameters.cases, key=lambda case: case.samples)
    print(
        f"the dense Hessian of {largest.name} runs at "
        f"{100 * share_of_matrix_products(largest):.0f} % of the machine's matrix products, "
        f"{Machine.measured().flops / 1e9:.0f} Gflop/s; peak memory of all runs "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"
    )
    return _verdict(comparisons, exponents, [run for _, run in alone], options.quick)


def _verdict(
    comparisons: list[Comparison], exponents: dict[str, float], alone: list[Run], quick: bool
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
    worst = max(c.agreement for c in comparisons)
    solved = all(c.runs["turnpike"].status == "solved" for c in comparisons)
    solved &= all(run.status == "solved" for run in alone)
    checks = (
        (
            "least time / ours, CasADi unrolled",
            f">= {LEAST_RATIO:g}",
            ipopt[0] >= LEAST_RATIO,
            ipopt[0],
        ),
        ("geometric mean, CasADi unrolled", f">= {MEAN_RATIO:g}", ipopt[1] >= MEAN_RATIO, ipopt[1]),
        ("least time / ours, Fatrop", f">= {FATROP_LEAST:g}", fatrop[0] >= FATROP_LEAST, fatrop[0]),
        ("geometric mean, Fatrop", f">= {FATROP_MEAN:g}", fatrop[1] >= FATROP_MEAN, fatrop[1]),
        ("least time / ours, L-BFGS, Adam, SGD", ">= 1", free >= 1, free),
        ("growth in samples", f"<= {GROWTH}", exponents["samples"] <= GROWTH, exponents["samples"]),
        ("growth in layers", f"<= {GROWTH}", exponents["layers"] <= GROWTH, exponents["layers"]),
    )
    for label, predicted, holds, measured in checks:
        verdict = "ok" if holds else "NO"
        print(f"{label:<40} predicted {predicted:<8} measured {measured:8.3g}  {verdict}")
    agree = worst <= AGREEMENT and solved
    print(
        f"{'agreement with multiple shooting':<40} predicted <= {AGREEMENT:g} measured {worst:.1e}"
    )
    print(f"every run of ours solved: {solved}")
    return 0 if agree and (quick or all(check[2] for check in checks)) else 1


def _line(row: list[object]) -> str:
    parts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row]
    widths = (24, 16, 10, 10, 26, 12, 0)
    return " ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))


if __name__ == "__main__":
    sys.exit(main())
