"""Which options of the sparse factorisation suit the KKT systems of learning problems.

Statement. IPOPT spends almost all of its time factorising KKT matrices in which N chains of states
meet in the controls of K layers. How fast that goes depends on the elimination ordering alone, and
on whether MUMPS permutes the matrix before it analyses it. Prediction: the defaults of
`ocp.ipopt` are, as a geometric mean over the cases, within a quarter of the fastest choice.

Every case is solved from the same start with every choice, side by side in one run; all must end
at the same cost. Writes results/factorization.csv; exits with 1 on disagreement.

Usage: python benchmarks/factorization.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from timing.cases import Case, controls_of, problem_of

from ocp import SolveOptions, rollout, solve_staged
from ocp.ipopt import PERMUTING_SCALING, PIVOT_ORDER

ORDERINGS = {0: "AMD", 2: "AMF", 3: "Scotch", 4: "PORD", 5: "METIS", 6: "QAMD", 7: "automatic"}
PERMUTATIONS = {0: "no permutation", 7: "automatic permutation"}
SLACK = 1.25  # of the defaults against the fastest choice
AGREEMENT = 1e-7  # of the costs, relative


CASES = (Case(200, 2, 20, 1e-2), Case(50, 2, 100, 1e-3), Case(50, 4, 50, 1e-3))
QUICK = (Case(20, 2, 5, 1e-2),)


def seconds(case: Case) -> dict[tuple[int, int], tuple[float, float]]:
    """Seconds per iteration and cost for every choice of ordering and permutation."""
    staged = problem_of(case).staged
    guess = rollout(staged, controls_of(case, case.seeds[0]))
    found = {}
    for permutation in PERMUTATIONS:
        for ordering in ORDERINGS:
            extra: dict[str, object] = {
                "mumps_pivot_order": ordering,
                "mumps_permuting_scaling": permutation,
            }
            solution = solve_staged(staged, guess, SolveOptions(ipopt=extra))
            cost = solution.objective if solution.is_solved else np.nan
            iterations = solution.iterations or 1
            found[ordering, permutation] = (solution.timings.solve / iterations, cost)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run all cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small case, no verdict on speed")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    cases = QUICK if options.quick else CASES
    results = [seconds(case) for case in cases]
    choices = list(results[0])
    ratios = {
        choice: float(
            np.exp(np.mean([np.log(r[choice][0] / min(t for t, _ in r.values())) for r in results]))
        )
        for choice in choices
    }
    header: list[object] = ["ordering", "permutation"]
    header += [f"{case.name} ms/iteration" for case in cases]
    rows: list[list[object]] = [
        [ORDERINGS[o], PERMUTATIONS[p], *[1e3 * r[o, p][0] for r in results], ratios[o, p]]
        for o, p in sorted(choices, key=lambda choice: ratios[choice])
    ]
    header.append("geometric mean of time / fastest")
    for row in (header, *rows):
        print("  ".join(f"{v:>30.3f}" if isinstance(v, float) else f"{v:>22}" for v in row))
    with (options.output / "factorization.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    costs = [[cost for _, cost in r.values()] for r in results]
    agree = all(np.ptp(c) <= AGREEMENT * abs(c[0]) for c in costs)
    ours = ratios[PIVOT_ORDER, PERMUTING_SCALING]
    print(f"predicted: defaults within {SLACK} of the fastest; measured: {ours:.2f}")
    print(f"all choices end at the same cost: {agree}")
    return 0 if agree and (options.quick or ours <= SLACK) else 1


if __name__ == "__main__":
    sys.exit(main())
