"""The optimisers that a problem laid out as a nonlinear program can be handed to."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from ocp import fatrop, ipopt
from ocp.fatrop import FatropOptions
from ocp.ipopt import IpoptOptions
from ocp.linear_solvers import LinearSolver
from ocp.nlp import Array, NLPResult, Progress
from ocp.reduced_program import PIVOT_TOLERANCE, ReducedProgram
from ocp.shooting import Shooting


class NLPSolver(Enum):
    """An optimiser.

    IPOPT takes every program, and factorises sparse matrices. FATROP takes those that are coupled
    from stage to stage by the dynamics alone, and works with dense blocks of all members' states:
    for one member, or few, with many stages.
    """

    IPOPT = "ipopt"
    FATROP = "fatrop"


def minimize(
    solver: NLPSolver,
    layout: Shooting | ReducedProgram,
    start: Array,
    options: IpoptOptions,
    progress: Progress | None = None,
    warm: NLPResult | None = None,
) -> NLPResult:
    """Minimise with one of them; the arguments are those of `ipopt.minimize`.

    Raises:
        ValueError: the solver, or the linear solver, does not work here; the problem is not one
            that the solver can take; or options of IPOPT are given to another solver.
    """
    if isinstance(layout, ReducedProgram):
        if solver is not NLPSolver.IPOPT:
            raise ValueError(
                f"nlp_solver is NLPSolver.{solver.name}, which takes programs of multiple "
                "shooting; use NLPSolver.IPOPT where the states are eliminated, or Method.SHOOTING."
            )
        options = replace(options, pivot_tolerance=PIVOT_TOLERANCE)
        found = ipopt.minimize(layout.program, start, options, progress, warm)
        if layout.functions.failure:
            raise layout.functions.failure[0]
        return found
    if solver is NLPSolver.IPOPT:
        return ipopt.minimize(layout.program, start, options, progress, warm)
    if options.extra or options.linear_solver is not LinearSolver.MUMPS:
        given = (
            ", ".join(options.extra) or f"linear_solver=LinearSolver.{options.linear_solver.name}"
        )
        raise ValueError(
            f"nlp_solver is NLPSolver.{solver.name}, which has linear algebra and options of its "
            f"own, but options of IPOPT are given ({given}); leave them out, or use "
            "NLPSolver.IPOPT."
        )
    chosen = FatropOptions(
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        deadline=options.deadline,
        objective_scale=options.objective_scale,
    )
    return fatrop.minimize(layout, start, chosen, progress, warm)
