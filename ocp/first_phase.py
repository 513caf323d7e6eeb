"""A first phase at fixed horizons, for problems whose end time is free.

    minimise   Int_0^T |u - u_0|^2 dt + |p - p_0|^2
    subject to the dynamics and constraints of the problem,    T = T_k = T_0, 2 T_0, 4 T_0, ...

with sizes of u and p as units, u_0 and p_0 as guessed. With the end time among the unknowns, the
product of T and the rate pulls a guess from which no trajectory of that length arrives towards
T = 0: a point of local infeasibility. With T fixed, a problem with linear dynamics is a convex one,
and it becomes feasible once T_k is long enough. From there the end time is set free.
"""

from __future__ import annotations

from dataclasses import replace

import casadi as ca
import numpy as np

from ocp.guess import (
    Guess,
    boundary_lines,
    default_control,
    default_parameters,
    travel_time,
)
from ocp.problem import Constraint, OptimalControlProblem
from ocp.stages import Array

# Mostly longer ones, but a system that runs out of fuel, or falls, cannot wait for them.
MULTIPLES = (1.0, 2.0, 4.0, 8.0, 0.5, 16.0, 0.25, 32.0)
ALONG = (0.0, 0.5, 1.0)  # the way between the boundary values, where speeds are looked at
COLLAPSED = 1e-9  # of the time of travel, with rates whose squares are the inverse of rounding


def horizons(problem: OptimalControlProblem, guess: Guess) -> list[float]:
    """Horizons to be tried, in their order; those that the guess implies come first.

    Args:
        problem: with a free end time.
        guess: its parameters set the scale if it has any; otherwise the time does in which the
            fastest of a few controls covers the way between the boundary values.
    """
    parameters = guess.parameters_of(problem)
    scale = problem.span(parameters)[1]
    if guess.parameter is None:
        time = travel_time(problem, parameters, ALONG)
        scale = time if np.isfinite(time) and time > 0 else scale
    if not (np.isfinite(scale) and scale > 0):
        scale = 1.0
    place = _place(problem)
    lower, upper = (0.0, np.inf) if place is None else (float(b[place]) for b in _bounds(problem))
    tried = np.clip([multiple * scale for multiple in MULTIPLES], lower, upper)
    return list(dict.fromkeys(tried[tried > 0].tolist()))


def has_collapsed(problem: OptimalControlProblem, horizon: float) -> bool:
    """Whether an end time is no more than rounding though the states have a way to go.

    At T = 0 all terms of the Lagrangian's gradient are infinite but T times finite, so that it
    vanishes relative to them wherever it points.
    """
    if not problem.has_free_horizon:
        return False
    start, end = boundary_lines(problem)(np.array([0.0, 1.0]))
    time = travel_time(problem, default_parameters(problem), ALONG)
    return bool((start != end).any() and horizon <= COLLAPSED * time)


def at_horizon(
    problem: OptimalControlProblem, horizon: float, guess: Guess
) -> tuple[OptimalControlProblem, Guess]:
    """The problem of the first phase at a horizon, with the guess to start it from.

    Args:
        problem: with a free end time.
        horizon: T_k > 0.
        guess: gives p_0.

    Returns:
        A problem with the same symbols, so that its solution is a guess for the given one.
    """
    parameters = guess.parameters_of(problem)
    place, constraints = _place(problem), list(problem.terminal_constraints)
    lower, upper = _bounds(problem)
    if place is None:
        name = "the horizon of the first phase"
        constraints.append(Constraint(name, ca.SX(problem.horizon), horizon, horizon))
    else:
        parameters[place] = lower[place] = upper[place] = horizon
    fixed = replace(
        problem,
        running_cost=ca.SX(0),
        terminal_cost=ca.SX(0),
        control_cost=_squares(problem.control, default_control(problem), problem.control_bounds),
        control_rate_weight=0.0,
        parameter_cost=_squares(problem.parameter, parameters, (lower, upper)),
        terminal_constraints=constraints,
        parameter_bounds=(lower, upper),
        maximize=False,
    )
    return fixed, replace(guess, parameter=parameters)


def _place(problem: OptimalControlProblem) -> int | None:
    """Of the end time among the parameters, if it is one by itself."""
    horizon = ca.SX(problem.horizon)
    hashes = [s.element_hash() for s in ca.symvar(problem.parameter)]
    return hashes.index(horizon.element_hash()) if horizon.is_symbolic() else None


def _bounds(problem: OptimalControlProblem) -> tuple[Array, Array]:
    """Copies of the parameters' bounds."""
    lower, upper = (np.array(b, dtype=float) for b in problem.parameter_bounds)
    return lower, upper


def _squares(symbols: ca.SX, values: Array, bounds: tuple) -> ca.SX:
    """Sum of squared distances from values, in units of half the bounds' width, or of the values.

    Where the bounds leave no width the distance is 0 anyway.
    """
    lower, upper = (np.asarray(b, dtype=float) for b in bounds)
    width = upper - lower
    is_wide = np.isfinite(width) & (width > 0)
    size = np.where(is_wide, np.where(is_wide, width, 1.0) / 2, np.maximum(1.0, np.abs(values)))
    return ca.sumsqr((symbols - ca.DM(values)) / ca.DM(size)) if symbols.numel() else ca.SX(0)
