"""The catalogue of classic control problems against their known optima, and against plain CasADi.

Statement. A Runge-Kutta method of order p with one control per stage finds the optimum of a smooth
problem to O(h^p) (Hager, Numer. Math. 87 (2000), 247-282, with further conditions from order 3 on);
with grid nodes where the control switches, that holds between the switches. Assumptions: as in
the docstrings of `problems.classic` and `problems.literature`, whose recipes resolve each problem.
Prediction: every problem is solved, with an optimum within 1e-6 of the known one, and the
transfer in less than the minimal time is infeasible. The same three problems written directly
in CasADi's Opti, with the same method on the same grid, have the same optima to 1e-7.

Writes results/classic.csv (all problems) and results/classic_opti.csv (lines of user code and
times of both ways to write three of them); exits with 1 if a prediction fails.

Usage: python benchmarks/classic.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import ast
import csv
import inspect
import math
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import casadi as ca

from ocp import (
    RK4,
    Solution,
    Status,
    along_path,
    at_end,
    at_start,
    integral,
    pose,
    solve,
)
from problems.classic import CLASSICS, ClassicProblem, minimal_time_too_short, solve_classic
from problems.constrained import CONSTRAINED
from problems.literature import LITERATURE
from problems.report import cell


@dataclass(frozen=True)
class Parameters:
    """What is run, and what must agree."""

    intervals: int = 100  # of the three problems that are written twice
    quick_intervals: int = 20
    quick: tuple[str, ...] = (
        *("double integrator", "Van der Pol", "minimal time", "lunar landing", "brachistochrone"),
        *("Hager", "hanging chain", "Zermelo", "minimal fuel", "catalyst mixing"),
    )
    tolerance: float = 1e-6  # of the optimum, relative to it, or to 1 where it is 0
    agreement: float = 1e-7  # of the two ways to write a problem


PARAMETERS = Parameters()
COLUMNS = ("problem", "known", "found", "difference", "status", "iterations", "seconds")
COMPARISON = (
    *("problem", "written in", "lines", "optimum", "status"),
    *("iterations", "build seconds", "solve seconds", "certify seconds"),
)


# Three problems, each written twice: RK4, the control constant on N intervals


def van_der_pol(N: int) -> Solution:
    """By ocp."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = pose(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], (1 - x[0] ** 2) * x[1] - x[0] + u),
        horizon=2.0,
        minimize=integral(ca.sumsqr(x) + u**2) / 2,
        subject_to=[at_start(x) == [1.0, 0.0]],
    )
    return solve(problem, N, RK4)


def van_der_pol_opti(N: int) -> ca.Opti:
    """By Opti."""
    opti, h = ca.Opti(), 2.0 / N
    x, u = opti.variable(2, N + 1), opti.variable(1, N)

    def rate(y: ca.MX, v: ca.MX) -> ca.MX:
        cost = (y[0] ** 2 + y[1] ** 2 + v**2) / 2
        return ca.vertcat(y[1], (1 - y[0] ** 2) * y[1] - y[0] + v, cost)

    total = ca.MX(0)
    for k in range(N):
        y, v = ca.vertcat(x[:, k], 0), u[:, k]
        k1 = rate(y, v)
        k2 = rate(y + h / 2 * k1, v)
        k3 = rate(y + h / 2 * k2, v)
        k4 = rate(y + h * k3, v)
        after = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        opti.subject_to(x[:, k + 1] == after[:2])
        total += after[2]
    opti.subject_to(x[:, 0] == [1.0, 0.0])
    opti.minimize(total)
    return opti


def double_integrator(N: int) -> Solution:
    """By ocp."""
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    problem = pose(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=1.0,
        minimize=integral(u**2) / 2,
        subject_to=[at_start(x) == [-1.0, 0.0], at_end(x) == 0.0],
    )
    return solve(problem, N, RK4)


def double_integrator_opti(N: int) -> ca.Opti:
    """By Opti."""
    opti, h = ca.Opti(), 1.0 / N
    x, u = opti.variable(2, N + 1), opti.variable(1, N)

    def rate(y: ca.MX, v: ca.MX) -> ca.MX:
        return ca.vertcat(y[1], v)

    for k in range(N):
        y, v = x[:, k], u[:, k]
        k1 = rate(y, v)
        k2 = rate(y + h / 2 * k1, v)
        k3 = rate(y + h / 2 * k2, v)
        k4 = rate(y + h * k3, v)
        opti.subject_to(x[:, k + 1] == y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    opti.subject_to(x[:, 0] == [-1.0, 0.0])
    opti.subject_to(x[:, N] == [0.0, 0.0])
    opti.minimize(h * ca.sumsqr(u) / 2)
    return opti


def minimal_time(N: int) -> Solution:
    """By ocp."""
    x, u, T = ca.SX.sym("x", 2), ca.SX.sym("u"), ca.SX.sym("T")
    problem = pose(
        state=x,
        control=u,
        dynamics=ca.vertcat(x[1], u),
        horizon=T,
        minimize=at_end(T),
        subject_to=[
            at_start(x) == 0.0,
            at_end(x) == [1.0, 0.0],
            along_path(u).within(-1.0, 1.0),
            at_end(T).within(0.1, 10.0),
        ],
    )
    return solve(problem, N, RK4)


def minimal_time_opti(N: int) -> ca.Opti:
    """By Opti."""
    opti = ca.Opti()
    x, u, T = opti.variable(2, N + 1), opti.variable(1, N), opti.variable()
    h = T / N

    def rate(y: ca.MX, v: ca.MX) -> ca.MX:
        return ca.vertcat(y[1], v)

    for k in range(N):
        y, v = x[:, k], u[:, k]
        k1 = rate(y, v)
        k2 = rate(y + h / 2 * k1, v)
        k3 = rate(y + h / 2 * k2, v)
        k4 = rate(y + h * k3, v)
        opti.subject_to(x[:, k + 1] == y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    opti.subject_to(x[:, 0] == [0.0, 0.0])
    opti.subject_to(x[:, N] == [1.0, 0.0])
    opti.subject_to(opti.bounded(-1.0, u, 1.0))
    opti.subject_to(opti.bounded(0.1, T, 10.0))
    opti.set_initial(T, 1.0)
    opti.minimize(T)
    return opti


PAIRS: tuple[tuple[str, Callable[[int], Solution], Callable[[int], ca.Opti]], ...] = (
    ("double integrator", double_integrator, double_integrator_opti),
    ("Van der Pol", van_der_pol, van_der_pol_opti),
    ("minimal time", minimal_time, minimal_time_opti),
)


def lines_of_code(function: Callable) -> int:
    """Lines of a function without its docstring and without blank ones."""
    source = textwrap.dedent(inspect.getsource(function))
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    docstring = definition.body[0]
    assert docstring.end_lineno is not None
    skipped = range(docstring.lineno, docstring.end_lineno + 1)
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(line.strip()) and number not in skipped for number, line in lines)


def compare(pair: tuple[str, Callable, Callable], intervals: int) -> list[tuple]:
    """One row by ocp and one by Opti.

    Building is all but the optimiser, symbols and derivatives included; certifying is what ocp does
    besides, with its error estimate, and Opti does not.
    """
    name, ours, theirs = pair
    begin = time.perf_counter()
    solution = ours(intervals)
    total = time.perf_counter() - begin
    spent = solution.timings
    certified = spent.certificate + spent.error_estimate
    row = (
        *(name, "ocp", lines_of_code(ours), solution.objective, solution.status.value),
        *(solution.iterations, total - spent.solve - certified, spent.solve),
        certified,
    )
    begin = time.perf_counter()
    opti = theirs(intervals)
    quiet = {"print_level": 0, "sb": "yes", "tol": 1e-10}
    opti.solver("ipopt", {"print_time": False, "record_time": True}, quiet)
    found = opti.solve_limited()
    total = time.perf_counter() - begin
    statistics = opti.stats()
    seconds = float(statistics["t_wall_total"])
    other = (
        *(name, "Opti", lines_of_code(theirs), float(found.value(opti.f))),
        *(statistics["return_status"], statistics["iter_count"], total - seconds, seconds, None),
    )
    return [row, other]


def run(classic: ClassicProblem) -> tuple[tuple, bool]:
    """A row of the table, and whether the prediction holds."""
    begin = time.perf_counter()
    solution = solve_classic(classic)
    seconds = time.perf_counter() - begin
    known, found = classic.optimum, solution.objective
    if math.isinf(known):
        difference, good = math.nan, solution.status is Status.INFEASIBLE
    else:
        difference = (found - known) / (abs(known) or 1.0)
        good = solution.is_solved and abs(difference) <= PARAMETERS.tolerance
    status = solution.status.value
    return (classic.name, known, found, difference, status, solution.iterations, seconds), good


def main(arguments: list[str] | None = None) -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten problems, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    everything = (*CLASSICS, *LITERATURE, *CONSTRAINED, minimal_time_too_short())
    chosen = [c for c in everything if not options.quick or c.name in PARAMETERS.quick]
    results = [run(classic) for classic in chosen]
    intervals = PARAMETERS.quick_intervals if options.quick else PARAMETERS.intervals
    pairs = [compare(pair, intervals) for pair in PAIRS]
    good = all(held for _, held in results)
    agreement = max(abs(a[3] - b[3]) / abs(b[3]) for a, b in pairs)
    good &= agreement <= PARAMETERS.agreement
    worst = max((abs(row[3]) for row, _ in results if not math.isnan(row[3])), default=0.0)
    solved = sum(held for _, held in results)
    print(f"predicted: every problem as expected, differences up to {PARAMETERS.tolerance:g}")
    print(f"measured:  {solved} of {len(results)} as expected, differences up to {worst:.1e}")
    show(COLUMNS, [row for row, _ in results])
    print(f"\npredicted: ocp and Opti agree to {PARAMETERS.agreement:g} on {intervals} intervals")
    print(f"measured:  {agreement:.1e}")
    show(COMPARISON, [row for pair in pairs for row in pair])
    write(options.output / "classic.csv", COLUMNS, [row for row, _ in results])
    write(options.output / "classic_opti.csv", COMPARISON, [row for pair in pairs for row in pair])
    print(f"\nwrote {options.output}/classic.csv and {options.output}/classic_opti.csv")
    return 0 if good else 1


def show(columns: tuple[str, ...], rows: list[tuple]) -> None:
    """The table on the screen."""
    for row in (columns, *rows):
        print(f"{row[0]:<25}", "  ".join(f"{_short(value):>14}" for value in row[1:]))


def write(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """The table as a file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.10g}"
    return cell(value)


if __name__ == "__main__":
    sys.exit(main())
