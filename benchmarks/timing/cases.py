"""The problems that all peers solve, and what a run of one is.

f = w tanh(x) + b, explicit Euler, squared loss on the first coordinate, moons standardised, T = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from problems.datasets import Dataset, encode, load, standardize
from problems.learning import LearningProblem
from problems.training import random_controls

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Size of a problem, and the seeds of its starts."""

    samples: int
    width: int
    layers: int
    weight_decay: float
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def name(self) -> str:
        """Sizes in words."""
        return f"N={self.samples} d={self.width} K={self.layers}"


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


def plain_network(case: Case) -> tuple[Array, Array, float]:
    """Inputs padded to the width, targets and step."""
    dataset = problem_of(case).dataset
    padding = case.width - dataset.inputs.shape[1]
    inputs = np.pad(dataset.inputs, ((0, 0), (0, padding)))
    return inputs, dataset.targets, 1.0 / case.layers
