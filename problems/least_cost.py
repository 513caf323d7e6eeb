"""What is known of the least cost of a learning problem without looking at derivatives.

Every term of J is at least 0. A point with J = 0 is a global minimum, though no relative residual
is small there: all terms that cancel in the gradient vanish together. In floating-point numbers an
output after n operations one after another is wrong by n eps of the numbers that enter it, and by
more where weights amplify that; if no residual is larger, the cost is zero to rounding.

The logistic loss and cross-entropy are positive and tend to 0 as the margins grow,

    m_i = y_i z_i > 0   or   m_ij = z_{i, y_i} - z_ij > 0 for j /= y_i   for all samples i,

so where the outputs are linear in parameters that cost nothing, and these can separate the data,
the cost falls for ever along a ray and no minimum exists.
"""

from __future__ import annotations

from dataclasses import replace

import casadi as ca
import numpy as np
from scipy.optimize import linprog

from ocp import EULER, Solution, Status, Trajectory
from problems.learning import Array, LearningProblem
from problems.losses import SQUARED
from problems.vector_fields import BOTTLENECK, INSIDE

# Residual relative to the data that counts as rounding however few the operations. Chosen where one
# eps in the weights of a perfect fit moves its outputs by 3e-11 (`tests/test_least_cost.py`).
RELATIVE_ROUNDING = 1e-11
LARGEST_PROGRAM = 10_000_000  # entries of a linear program that looks for a separation, 80 MB
AT_ZERO = "The cost is zero to rounding, its least possible value."
STOPPED = (
    Status.TIME_LIMIT,
    Status.ITERATION_LIMIT,
    Status.INTERRUPTED,
)  # which stay what they are


def zero_cost(problem: LearningProblem) -> float:
    """Largest cost J that is zero to rounding, in units of J; -1 where J = 0 is not attained.

    The rounding of a residual is that of as many operations as follow one another in the network,
    and at least RELATIVE_ROUNDING, relative to the largest target or input. Where controls or
    read-out are penalised there is a minimum with J > 0, which its derivatives tell.
    """
    penalised = problem.weight_decay > 0 or (
        problem.trained_readout and problem.readout_weight_decay > 0
    )
    if problem.interpolation or penalised or not problem.loss.has_minimum:
        return -1.0
    data = (problem.dataset.targets, problem.dataset.inputs)
    size = max(float(np.abs(part).max(initial=0.0)) for part in data)
    stages = problem.scheme.b.size * problem.substeps * problem.layers
    widest = max(*problem.widths, problem.hidden_size)
    rounding = max(stages * (widest + 2) * float(np.finfo(float).eps), RELATIVE_ROUNDING) * size
    each = rounding**2 if problem.loss is SQUARED else rounding
    weight = problem.terminal + problem.tracking * problem.horizon
    return weight * problem.outputs * each


def judged_at_zero(solution: Solution, objective: float, zero: float, tolerance: float) -> Solution:
    """The solution, solved if it is feasible and its cost is zero to rounding.

    Args:
        solution: as its certificate judges it.
        objective: its cost, or that of the problem whose kinks are rounded off.
        zero: see `zero_cost`.
        tolerance: of defects and hard constraints.
    """
    certificate = solution.certificate
    feasible = max(certificate.dynamics, certificate.constraints) <= tolerance
    if solution.status is Status.SOLVED or not feasible or not objective <= zero:
        return solution
    return replace(solution, status=Status.SOLVED, message=AT_ZERO)


def judged_without_minimum(problem: LearningProblem, solution: Solution) -> Solution:
    """The solution, not solved and saying so if the problem has no minimum."""
    if not lacks_minimum(problem, solution.trajectory, solution.objective):
        return solution
    decay = "readout decay" if problem.weight_decay > 0 else "weight decay"
    message = (
        f"No minimum exists: the infimum of the cost is not attained on separable data, as the "
        f"{problem.loss.name} loss falls for ever while the parameters grow; add a {decay}."
    )
    status = solution.status if solution.status in STOPPED else Status.INACCURATE
    return replace(solution, status=status, message=message)


def lacks_minimum(problem: LearningProblem, trajectory: Trajectory, objective: float) -> bool:
    """Whether it is proved that no minimum exists; what is not proved is False.

    Args:
        problem: what is solved.
        trajectory: a point of it, from which the ray starts.
        objective: J of that point.
    """
    if problem.interpolation or problem.loss.has_minimum or problem.tracking > 0:
        return False
    if problem.trained_readout:
        if problem.readout_weight_decay > 0:
            return False
        # A point that separates is improved by a larger read-out, down to the cost of its controls;
        # one that does not has a sample whose loss is at least log 2.
        weight, bias = problem.readout(trajectory.parameters)
        error = problem.error(trajectory.states[-1], weight, bias)
        controls = objective - problem.terminal * error
        least = problem.terminal * np.log(2.0) / problem.samples
        return controls < least and _separates(problem, trajectory.states[-1])
    free = problem.weight_decay == 0 and problem.bound is None
    first = problem.fixed_readout is None and problem.moving_grid is None
    one_step = problem.scheme is EULER and problem.substeps == 1
    if not (free and first and one_step and problem.field in (INSIDE, BOTTLENECK)):
        return False
    return _separates(problem, _last_features(problem, trajectory))


def _last_features(problem: LearningProblem, trajectory: Trajectory) -> Array:
    """What the last layer multiplies by weights of its own, (N, H)."""
    before = trajectory.states[-2]
    if problem.field is BOTTLENECK:
        parts = problem.layer(problem.layers - 1).effective(trajectory.controls[-1])
        before = before @ parts["w1"].T + parts["b1"]
    z = ca.SX.sym("z")
    activation = ca.Function("activation", [z], [problem.activation.function(z, 0.0)])
    return np.array(activation(ca.DM(before)))


def _separates(problem: LearningProblem, features: Array) -> bool:
    """Whether some affine function of the features has all margins positive.

    By linear programs: all margins at least 1. Where they are too large, or the features are no
    finite numbers, nothing is claimed.
    """
    if not np.isfinite(features).all():
        return False
    size = max(1.0, float(np.abs(features).max(initial=0.0)))
    phi, y = np.column_stack([features / size, np.ones(len(features))]), problem.dataset.targets
    outputs = problem.outputs
    if problem.loss.is_one_hot:
        if phi.size * outputs * max(outputs - 1, 1) > LARGEST_PROGRAM:
            return False
        others = np.eye(outputs)
        rows = [
            np.kron(y[i] - others[j], phi[i])
            for i in range(len(phi))
            for j in range(outputs)
            if y[i, j] == 0
        ]
        return _is_feasible(np.array(rows).reshape(-1, outputs * phi.shape[1]))
    if phi.size > LARGEST_PROGRAM:
        return False
    return all(_is_feasible(y[:, m, None] * phi) for m in range(outputs))


def _is_feasible(rows: Array) -> bool:
    """Whether there is c with rows c >= 1; it is checked, whatever the solver says."""
    if not len(rows):
        return False
    found = linprog(
        np.zeros(rows.shape[1]), A_ub=-rows, b_ub=-np.ones(len(rows)), bounds=(None, None)
    )
    return found.x is not None and bool((rows @ found.x > 0.5).all())
