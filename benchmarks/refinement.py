"""Refinement against uniform grids: how many unknowns an error of 1e-8 takes.

Statement. A smooth solution is approximated exponentially well by a few long steps of high order,
while halving all steps of a method of order p gains only a factor 2^p. Prediction: on Van der Pol
and on the brachistochrone, `ocp.refine` reaches 1e-8, both in the defect against an adaptive
integration and in the known optimum, with fewer than half the unknowns of the smallest uniform
grid of Gauss-Legendre order 4 with a control per stage that does; the grid counted is the one that
a last solve, with every interval split, confirms. Uniform grids of order 6 are
shown beside them, without a prediction: the control of the brachistochrone is linear in time, and
a handful of equal steps of order 6 is about as good as anything.

Source of choosing between order and mesh: Darby, Hager and Rao, Optim. Control Appl. Meth. 32
(2011), 476-502. The uniform grids are tried in the order of their size, each started from the one
before, so that none loses to a bad guess. Writes results/refinement.csv; exits with 1 on
disagreement.

Usage: python benchmarks/refinement.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from ocp import (
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    ButcherTableau,
    ContinuousSolution,
    Guess,
    refine,
    solve,
)
from problems.classic import ClassicProblem, brachistochrone, van_der_pol

COLUMNS = ("problem", "way", "intervals", "unknowns", "defect", "error of the optimum", "status")


@dataclass(frozen=True)
class Parameters:
    """What is compared, and how."""

    tolerance: float = 1e-8
    share: float = 0.5  # of the unknowns of the smallest uniform grid
    first: int = 3  # intervals, of both ways
    most: int = 100  # intervals of a uniform grid


PARAMETERS = Parameters()


def error(solution: ContinuousSolution, classic: ClassicProblem) -> float:
    """Of the optimum, relative."""
    return abs(solution.objective / classic.optimum - 1.0)


def is_good(solution: ContinuousSolution, classic: ClassicProblem, tolerance: float) -> bool:
    """Whether both errors are within the tolerance."""
    within = max(solution.error.largest, error(solution, classic)) <= tolerance
    return solution.is_solved and within


def refined(classic: ClassicProblem) -> tuple[tuple, ...]:
    """Rounds of a refinement as rows of the table; the last one must be good.

    Rounds that confirm the one before, with every interval split, are left out.
    """
    found = refine(
        classic.problem, PARAMETERS.tolerance, grid=PARAMETERS.first, guess=classic.guess
    )
    rows = [
        (
            *(classic.name, "refined", r.intervals, r.unknowns, r.error),
            *(abs(r.objective / classic.optimum - 1.0), r.status.value),
        )
        for r in found.rounds
        if not r.is_confirmation
    ]
    if not found.is_met:
        rows[-1] = (*rows[-1][:-1], "tolerance not met")
    return tuple(rows)


def uniform(classic: ClassicProblem, tableau: ButcherTableau) -> tuple[tuple, bool]:
    """The smallest uniform grid that is good, as a row, and whether there is one."""
    guess: ContinuousSolution | Guess | None = classic.guess
    for intervals in range(PARAMETERS.first, PARAMETERS.most + 1):
        solution = solve(classic.problem, intervals, tableau, control_per_stage=True, guess=guess)
        is_found = is_good(solution, classic, PARAMETERS.tolerance)
        if is_found or intervals == PARAMETERS.most:
            break
        guess = solution if solution.is_solved else classic.guess
    assert solution.transcription is not None
    row = (
        *(classic.name, f"uniform, {tableau.name}", intervals, solution.transcription.unknowns),
        *(solution.error.largest, error(solution, classic), solution.status.value),
    )
    return row, is_found


def main(arguments: list[str] | None = None) -> int:
    """Compare on all problems; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="order 4 alone, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    tableaux = (GAUSS_LEGENDRE_4,) if options.quick else (GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6)
    rows: list[tuple] = []
    good = True
    print(f"predicted: {PARAMETERS.tolerance:g} with at most {PARAMETERS.share:g} of the unknowns")
    for classic in (van_der_pol(), brachistochrone()):
        adapted = refined(classic)
        last = adapted[-1]
        good &= last[-1] == "solved" and max(last[4:6]) <= PARAMETERS.tolerance
        rows += adapted
        for tableau in tableaux:
            row, is_found = uniform(classic, tableau)
            rows.append(row)
            if tableau is GAUSS_LEGENDRE_4:
                good &= last[3] < PARAMETERS.share * row[3]
            label = row[3] if is_found else f"more than {row[3]}"
            print(f"measured:  {classic.name}: {last[3]} against {label} ({row[1]})")
    for row in (COLUMNS, *rows):
        cells = [f"{value:.1e}" if isinstance(value, float) else str(value) for value in row]
        print(f"{cells[0]:<17}{cells[1]:<30}" + "".join(f"{cell:>22}" for cell in cells[2:]))
    with (options.output / "refinement.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
