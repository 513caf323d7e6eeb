"""Minimal time from random starts in motion, and other free end times, without a guess.

Statement. x'' = u, |u| <= 1, from (q, v) to rest at 0 takes v + 2 sqrt(v^2 / 2 + q) where
q + v |v| / 2 > 0, and the mirrored time elsewhere. With u constant on K equal intervals it takes
more, by O(1 / K^2): the least T for which a linear program in u is feasible (`least_time`).
Source: Pontryagin et al. (1962), chapter 1. Assumptions: 40 starts, uniform in [-3, 3]^2.
Prediction: from every start, without a guess and with one of T between 0.5 and 10, the solver ends
solved at the least time of its intervals, to 1e-6; and on a grid with nodes at the switches the
problems of `problems.moving_starts` end at their own optima, to 1e-6.

Writes results/minimal_time.csv; exits with 1 if one of them does not.

Usage: python benchmarks/minimal_time.py [--quick] [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linprog  # type: ignore[import-untyped,unused-ignore]

from ocp import ContinuousSolution, Guess, Solution, solve
from problems.classic import solve_classic
from problems.moving_starts import MOVING_STARTS, double_integrator
from problems.report import cell


@dataclass(frozen=True)
class Parameters:
    """What is solved.

    Args:
        starts: random starts of the double integrator.
        intervals: K, of each solve from them.
        others: how many of the other problems.
        seed: of starts and guesses.
        span: largest position and velocity.
        times: between which T is guessed.
        accuracy: relative, of the predicted optimum.
    """

    starts: int = 40
    intervals: int = 50
    others: int = len(MOVING_STARTS)
    seed: int = 0
    span: float = 3.0
    times: tuple[float, float] = (0.5, 10.0)
    accuracy: float = 1e-6


QUICK = Parameters(starts=3, intervals=20, others=3)
COLUMNS = ("problem", "guess", "status", "predicted", "measured", "relative", "seconds")
BISECTION = 1e-9  # relative width at which the least time is known


def least_time(position: float, velocity: float, intervals: int) -> float:
    """Of x'' = u with u constant on equal intervals, by bisection of linear programs.

    With h = T / K the arrival at rest is linear in u,

        v + h sum u_k = 0,    q + T v + h^2 sum (K - k - 1/2) u_k = 0,

    and the largest |u_k| is to be at most 1.
    """
    weights = intervals - np.arange(intervals) - 0.5
    sides = np.vstack([np.eye(intervals), -np.eye(intervals)])
    sides = np.hstack([sides, -np.ones((2 * intervals, 1))])

    def is_enough(horizon: float) -> bool:
        h = horizon / intervals
        found = linprog(
            np.append(np.zeros(intervals), 1.0),
            A_ub=sides,
            b_ub=np.zeros(2 * intervals),
            A_eq=np.array([[*([h] * intervals), 0.0], [*(h * h * weights), 0.0]]),
            b_eq=[-velocity, -position - horizon * velocity],
            bounds=[(None, None)] * intervals + [(0, None)],
        )
        return bool(found.fun <= 1)

    low = double_integrator(position, velocity).optimum
    high = 2 * low
    while high - low > BISECTION * low:
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def random_starts(parameters: Parameters) -> Iterator[tuple[str, str, float, ContinuousSolution]]:
    """Name, guess, predicted optimum and solution of every random start, twice each."""
    generator = np.random.default_rng(parameters.seed)
    for _ in range(parameters.starts):
        q, v = generator.uniform(-parameters.span, parameters.span, 2)
        guessed = float(generator.uniform(*parameters.times))
        problem = double_integrator(q, v).problem
        predicted = least_time(q, v, parameters.intervals)
        for words, guess in (("none", None), (f"T = {guessed:.3g}", Guess(parameter=guessed))):
            solution = solve(problem, parameters.intervals, guess=guess)
            yield f"from ({q:.3f}, {v:.3f})", words, predicted, solution


def others(parameters: Parameters) -> Iterator[tuple[str, str, float, Solution]]:
    """The same of the other problems, on grids with nodes at their switches."""
    for classic in MOVING_STARTS[-parameters.others :]:
        yield classic.name, "none", classic.optimum, solve_classic(classic)


def main(arguments: list[str] | None = None) -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few starts, seconds")
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    parameters = QUICK if options.quick else Parameters()
    print(f"predicted: every row solved, relative difference <= {parameters.accuracy:g}")
    rows, missed, begin = [], 0, time.perf_counter()
    for generate in (random_starts, others):
        for name, guess, predicted, solution in generate(parameters):
            seconds, begin = time.perf_counter() - begin, time.perf_counter()
            difference = solution.objective / predicted - 1.0
            missed += not (solution.is_solved and abs(difference) <= parameters.accuracy)
            status = solution.status.value
            row = (name, guess, status, predicted, solution.objective, difference, seconds)
            rows.append(row)
            print("  ".join(f"{cell(value):>22}" for value in row))
    with (options.output / "minimal_time.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"measured: {len(rows) - missed} of {len(rows)} as predicted")
    print(f"wrote {options.output}/minimal_time.csv")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
