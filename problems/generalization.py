"""What a solution makes of data it has not seen, and the quantities that are meant to predict it.

    margin              min_i y_i z_i; for several classes, the true output less the largest other
    normalised margin   margin / |v|, with |v| the L2 norm of the rescaled control
    Lipschitz bound     |P| prod_k p(h L_k),   L_k = Lip f(., u^k);   |Pi_k| + h L_k on moving grids
    Lipschitz sampled   the largest |d z / d a| at sample points: a lower bound

p(z) = 1 + sum_j b^T A^(j-1) 1 z^j bounds the growth of one step of an explicit Runge-Kutta scheme
whose coefficients are not negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from problems.datasets import Dataset
from problems.learning import Array
from problems.training import LearningSolution

DIFFERENCE = 1e-6  # of central differences, relative to the size of the inputs
MOST_POINTS = 200  # at which the Lipschitz constant is sampled


@dataclass(frozen=True)
class Generalization:
    """Measures of one solution; None where they do not apply."""

    training_accuracy: float | None
    held_out_error: float | None
    held_out_accuracy: float | None
    margin: float | None
    normalized_margin: float | None
    lipschitz_bound: float
    lipschitz_sampled: float


def generalization(
    solution: LearningSolution, norm: float, held_out: Dataset | None = None
) -> Generalization:
    """Measure a solution.

    Args:
        solution: of a learning problem.
        norm: |v|, which normalises the margin.
        held_out: other samples of the same kind; None if there are none.

    Raises:
        ValueError: held-out samples with other columns than the training data.
    """
    dataset = solution.problem.dataset
    outputs = solution.outputs(dataset.inputs)
    is_classified = all(dataset.classes)
    margin = float(margins(outputs, dataset.targets).min()) if is_classified else None
    error = accuracy = None
    points = dataset.inputs
    if held_out is not None:
        if held_out.targets.shape[1] != dataset.targets.shape[1]:
            raise ValueError(
                f"the held-out data have {held_out.targets.shape[1]} target columns, expected "
                f"{dataset.targets.shape[1]} as in the training data."
            )
        there = solution.outputs(held_out.inputs)
        error = float(solution.problem.loss.value(there, held_out.targets).mean())
        accuracy = _accuracy(there, held_out.targets) if is_classified else None
        points = np.vstack([points, held_out.inputs])
    return Generalization(
        _accuracy(outputs, dataset.targets) if is_classified else None,
        error,
        accuracy,
        margin,
        None if margin is None or norm == 0 else margin / norm,
        lipschitz_bound(solution),
        lipschitz_sampled(solution, points[:MOST_POINTS]),
    )


def margins(outputs: Array, targets: Array) -> Array:
    """Margin of every sample, (N,); positive where the class is right.

    Args:
        outputs: (N, M).
        targets: (N, M), one column of -1/+1, or one column per class, the largest is the class.
    """
    if targets.shape[1] == 1:
        return np.asarray(outputs[:, 0] * targets[:, 0])
    rows, chosen = np.arange(len(targets)), targets.argmax(axis=1)
    others = outputs.copy()
    others[rows, chosen] = -np.inf
    return np.asarray(outputs[rows, chosen] - others.max(axis=1))


def _accuracy(outputs: Array, targets: Array) -> float:
    return float((margins(outputs, targets) > 0).mean())


def lipschitz_bound(solution: LearningSolution) -> float:
    """Upper bound of the Lipschitz constant of inputs -> outputs, in the Euclidean norm."""
    problem = solution.problem
    layers = [problem.layer(k) for k in range(problem.layers)]
    effective = [a.effective(u) for a, u in zip(layers, solution.trajectory.controls, strict=True)]
    slopes = [problem.field.lipschitz(u, problem.activation.lipschitz) for u in effective]
    z = np.array(slopes) * problem.grid.steps / problem.substeps
    scheme = problem.scheme
    moves = [1.0 if a.transfer is None else np.linalg.norm(a.transfer, 2) for a in layers]
    growth, power = np.array(moves), np.ones_like(scheme.b)
    for j in range(1, scheme.b.size + 1):
        growth = growth + float(scheme.b @ power) * z**j
        power = scheme.a @ power
    readout = float(np.linalg.norm(solution.readout_weight, 2))
    return float(readout * np.prod(growth**problem.substeps))


def lipschitz_sampled(solution: LearningSolution, points: Array) -> float:
    """Largest spectral norm of d outputs / d inputs at points (P, d0), by central differences."""
    step = DIFFERENCE * max(1.0, float(np.abs(points).max()))
    columns = []
    for j in range(points.shape[1]):
        shift = np.zeros(points.shape[1])
        shift[j] = step
        difference = solution.outputs(points + shift) - solution.outputs(points - shift)
        columns.append(difference / (2 * step))
    return float(np.linalg.norm(np.stack(columns, axis=-1), 2, axis=(1, 2)).max())
