"""A direct optimal-control solver: discretise, then optimise, then certify."""

from ocp.certificate import Certificate, certify
from ocp.continuation import MultiStart, multi_start
from ocp.discretize import discretize
from ocp.grid import TimeGrid
from ocp.method import Method
from ocp.nlp import Iteration, Status
from ocp.problem import FREE, Constraint, OptimalControlProblem
from ocp.runge_kutta import (
    EULER,
    GAUSS_LEGENDRE_2,
    GAUSS_LEGENDRE_4,
    GAUSS_LEGENDRE_6,
    HEUN,
    MIDPOINT,
    RADAU_IIA_1,
    RADAU_IIA_3,
    RADAU_IIA_5,
    RK4,
    ButcherTableau,
)
from ocp.solution import Solution
from ocp.solve import SolveOptions, solve, solve_staged
from ocp.stages import StagedProblem
from ocp.trajectory import Trajectory, random_guess, rollout

__all__ = [
    "EULER",
    "FREE",
    "GAUSS_LEGENDRE_2",
    "GAUSS_LEGENDRE_4",
    "GAUSS_LEGENDRE_6",
    "HEUN",
    "MIDPOINT",
    "RADAU_IIA_1",
    "RADAU_IIA_3",
    "RADAU_IIA_5",
    "RK4",
    "ButcherTableau",
    "Certificate",
    "Constraint",
    "Iteration",
    "Method",
    "MultiStart",
    "OptimalControlProblem",
    "Solution",
    "SolveOptions",
    "StagedProblem",
    "Status",
    "TimeGrid",
    "Trajectory",
    "certify",
    "discretize",
    "multi_start",
    "random_guess",
    "rollout",
    "solve",
    "solve_staged",
]
