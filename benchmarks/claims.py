"""What solutions say of their own error, against their true error, on every known optimum.

Statement. A control that is constant on every interval costs the integral of the excess of the
Hamiltonian over its minimum, to first order (`ocp.minimum_condition`); `refine` calls a tolerance
met only when defects, constraints, the minimum condition and a grid with every interval split
agree.
Assumptions: the problems of `problems.classic`, `literature` and `constrained`, from the guesses
that they bring. Prediction: under default options no solved problem is farther from its optimum
than 1.5 times what it says of its steps and of its control's grid, plus 1e-6; after `refine(1e-6)`
none is "met" and off by more than ten times the tolerance. Errors are relative to the optimum, or
to 1 where that is 0.

Writes results/claims.csv; exits with 1 if a claim is false.

Usage: python benchmarks/claims.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ocp import ContinuousSolution, refine, solve
from problems.classic import CLASSICS, ClassicProblem
from problems.constrained import CONSTRAINED
from problems.literature import LITERATURE
from problems.report import cell


@dataclass(frozen=True)
class Parameters:
    """What is claimed, and how far a claim may be off."""

    tolerance: float = 1e-6  # of refine
    margin: float = 10.0  # of the tolerance, for what is met
    share: float = 1.5  # of what a solution says of itself
    quick: tuple[str, ...] = (
        *("double integrator", "Van der Pol", "minimal time", "brachistochrone", "Hager"),
        *("Bryson-Denham, resting", "gentlest transfer, v <= 1.2", "fastest transfer, 3, 0.7, 5"),
    )


PARAMETERS = Parameters()
COLUMNS = (
    *("problem", "status", "error", "claim", "seconds"),
    *("refined", "refined error", "met", "rounds", "unknowns", "refined seconds"),
)


def relative(value: float, classic: ClassicProblem) -> float:
    """In units of the optimum, or of 1 where that is 0."""
    return value / (abs(classic.optimum) or 1.0)


def claim(solution: ContinuousSolution, classic: ClassicProblem) -> float:
    """What a solution says that its steps and its control's grid cost, relative."""
    return relative(abs(solution.error.objective) + solution.minimum_condition.total, classic)


def run(classic: ClassicProblem) -> tuple[tuple, bool]:
    """A row of the table, and whether both claims are true."""
    begin = time.perf_counter()
    solution = solve(classic.problem, guess=classic.guess)
    seconds = time.perf_counter() - begin
    error = abs(relative(solution.objective - classic.optimum, classic))
    claimed = claim(solution, classic)
    is_true = not solution.is_solved or (error <= PARAMETERS.share * claimed + PARAMETERS.tolerance)
    begin = time.perf_counter()
    refined = refine(classic.problem, PARAMETERS.tolerance, guess=classic.guess)
    refined_seconds = time.perf_counter() - begin
    found = refined.solution
    left = abs(relative(found.objective - classic.optimum, classic))
    is_true &= not refined.is_met or left <= PARAMETERS.margin * PARAMETERS.tolerance
    row = (
        *(classic.name, solution.status.value, error, claimed, seconds),
        *(found.status.value, left, "met" if refined.is_met else "not met", len(refined.rounds)),
        *(refined.rounds[-1].unknowns, refined_seconds),
    )
    return row, is_true


def main(arguments: list[str] | None = None) -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="eight problems, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    everything = (*CLASSICS, *LITERATURE, *CONSTRAINED)
    chosen = [c for c in everything if not options.quick or c.name in PARAMETERS.quick]
    print(f"{COLUMNS[0]:<29}", "  ".join(f"{name:>15}" for name in COLUMNS[1:]))
    rows, false = [], []
    for classic in chosen:
        row, is_true = run(classic)
        rows.append(row)
        if not is_true:
            false.append(classic.name)
        print(f"{row[0]:<29}", "  ".join(f"{_short(value):>15}" for value in row[1:]))
    met = sum(row[7] == "met" for row in rows)
    print(f"predicted: no false claim on {len(rows)} problems")
    print(f"measured:  {len(false)} false {', '.join(false)}".rstrip() + f"; {met} refined to 1e-6")
    path = options.output / "claims.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"wrote {path}")
    return 1 if false else 0


def _short(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    sys.exit(main())
