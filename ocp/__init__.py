"""A direct optimal-control solver: discretise, then optimise, then certify."""

from ocp.certificate import Certificate, certify
from ocp.continuation import MultiStart, multi_start
from ocp.grid import TimeGrid
from ocp.nlp import Iteration, Status
from ocp.problem import Constraint, OptimalControlProblem
from ocp.runge_kutta import EULER, HEUN, MIDPOINT, RK4, ButcherTableau
from ocp.solution import Solution
from ocp.solve import SolveOptions, solve, solve_staged
from ocp.stages import StagedProblem, discretize
from ocp.trajectory import Trajectory, random_guess, rollout

__all__ = [
    "EULER",
    "HEUN",
    "MIDPOINT",
    "RK4",
    "ButcherTableau",
    "Certificate",
    "Constraint",
    "Iteration",
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
