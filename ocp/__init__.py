"""A direct optimal-control solver: discretise, then optimise, then certify."""

from ocp.certificate import Certificate, certify
from ocp.continuation import MultiStart, multi_start
from ocp.continuous import ContinuousSolution, Dual
from ocp.convex import absolute, largest, norm
from ocp.deadline import Deadline
from ocp.discretize import discretize
from ocp.expressions import along_path, at, at_end, at_start, integral
from ocp.grid import TimeGrid
from ocp.guess import Guess
from ocp.linear_solvers import LinearSolver, available_linear_solvers
from ocp.method import Method
from ocp.nlp import Iteration, Status
from ocp.nlp_solvers import NLPSolver
from ocp.pose import pose
from ocp.problem import FREE, Constraint, InteriorPoint, OptimalControlProblem
from ocp.refinement import Refinement, refine
from ocp.reintegration import ErrorEstimate
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
    gauss_legendre,
    radau_iia,
)
from ocp.scaling import Scaling
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
    "ContinuousSolution",
    "Deadline",
    "Dual",
    "ErrorEstimate",
    "Guess",
    "InteriorPoint",
    "Iteration",
    "LinearSolver",
    "Method",
    "MultiStart",
    "NLPSolver",
    "OptimalControlProblem",
    "Refinement",
    "Scaling",
    "Solution",
    "SolveOptions",
    "StagedProblem",
    "Status",
    "TimeGrid",
    "Trajectory",
    "absolute",
    "along_path",
    "at",
    "at_end",
    "at_start",
    "available_linear_solvers",
    "certify",
    "discretize",
    "gauss_legendre",
    "integral",
    "largest",
    "multi_start",
    "norm",
    "pose",
    "radau_iia",
    "random_guess",
    "refine",
    "rollout",
    "solve",
    "solve_staged",
]
