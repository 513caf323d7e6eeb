"""IPOPT, by way of CasADi: with the probe of its linear solvers, the only file that calls it.

Source: Waechter and Biegler, Math. Program. 106 (2006), 25-57.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import casadi as ca
import numpy as np

from ocp.deadline import NEVER, Deadline
from ocp.interrupt import Request, interruptible
from ocp.linear_solvers import LinearSolver, require_linear_solver
from ocp.nlp import Array, Iteration, NLPResult, NonlinearProgram, Progress, Status
from ocp.stagnation import WINDOW, Stagnation
from ocp.timings import spent_on

# Return codes of IPOPT (IpReturnCodes_inc.h); "acceptable" is not solved.
_STATUSES = {
    "Solve_Succeeded": Status.SOLVED,
    "Feasible_Point_Found": Status.SOLVED,
    "Solved_To_Acceptable_Level": Status.INACCURATE,
    "Search_Direction_Becomes_Too_Small": Status.INACCURATE,
    "Infeasible_Problem_Detected": Status.INFEASIBLE,
    "Restoration_Failed": Status.INFEASIBLE,
    "Not_Enough_Degrees_Of_Freedom": Status.INFEASIBLE,
    "Maximum_Iterations_Exceeded": Status.ITERATION_LIMIT,
    "Maximum_CpuTime_Exceeded": Status.TIME_LIMIT,
    "Maximum_WallTime_Exceeded": Status.TIME_LIMIT,
    "Invalid_Number_Detected": Status.INVALID_NUMBER,
    "User_Requested_Stop": Status.INTERRUPTED,
}

# MUMPS: approximate minimum degree (ICNTL(7) = 0), and no matching before the analysis
# (ICNTL(6) = 0), which would hide the chains of states from the ordering. Measured against the
# alternatives by benchmarks/factorization.py.
PIVOT_ORDER = 0
PERMUTING_SCALING = 0

ACCEPTABLE = 1e2  # times the tolerance: an error with which a run that cannot go on is content

# Keep a primal-dual start where it is: no push away from bounds, and a small barrier at once.
WARM_START: dict[str, object] = {
    "warm_start_init_point": "yes",
    "warm_start_bound_push": 1e-12,
    "warm_start_bound_frac": 1e-12,
    "warm_start_slack_bound_push": 1e-12,
    "warm_start_slack_bound_frac": 1e-12,
    "warm_start_mult_bound_push": 1e-12,
    "mu_init": 1e-11,
}


@dataclass(frozen=True)
class IpoptOptions:
    """Options of a run.

    Args:
        tolerance: of the scaled optimality error.
        max_iterations: limit of iterations.
        deadline: looked at once per iteration.
        idle_iterations: without notable progress (`ocp.stagnation`) after which the run ends.
        objective_scale: the objective is multiplied by it inside the optimiser.
        linear_solver: of the KKT systems; one that does not work here is refused by `minimize`.
        pivot_tolerance: smallest pivot that MUMPS takes as it stands, relative to its column; IPOPT
            raises it where a solution of a KKT system is not accurate. None leaves it to IPOPT.
        extra: further IPOPT options by their own names; they win over ours.
    """

    tolerance: float = 1e-10
    max_iterations: int = 3000
    deadline: Deadline = NEVER
    idle_iterations: int = WINDOW
    objective_scale: float = 1.0
    linear_solver: LinearSolver = LinearSolver.MUMPS
    pivot_tolerance: float | None = None
    extra: dict[str, object] = field(default_factory=dict)


def minimize(
    program: NonlinearProgram,
    start: Array,
    options: IpoptOptions = IpoptOptions(),
    progress: Progress | None = None,
    warm: NLPResult | None = None,
) -> NLPResult:
    """Minimise from `start`; Ctrl-C ends with the last iterate instead of an exception.

    Args:
        program: what to minimise.
        start: z.
        options: tolerance and limits.
        progress: called with every iteration.
        warm: an earlier result of a program of the same shape, whose multipliers to start from;
            the start is then kept as it is, instead of being moved away from its bounds.

    Raises:
        ValueError: `start` has the wrong size, or is not finite; or the linear solver does not
            work here.
    """
    require_linear_solver(options.linear_solver, options.extra)
    size = program.lower.size
    if start.shape != (size,) or not np.isfinite(start).all():
        raise ValueError(
            f"the start must be {size} finite numbers, got shape {start.shape} with "
            f"{int((~np.isfinite(start)).sum())} that are not finite."
        )
    begin = time.perf_counter()
    watch = _Watch(program, options, progress)
    settings = _options(program, options, watch)
    if warm is not None:
        settings["ipopt"] = {**WARM_START, **settings["ipopt"]}
    with spent_on("build"):
        solver = ca.nlpsol("solver", "ipopt", _oracle(program), settings)
    watch.solver = solver
    built = time.perf_counter()
    try:
        with interruptible() as watch.request:
            result = solver(
                x0=start,
                lbx=program.lower,
                ubx=program.upper,
                lbg=program.constraint_lower,
                ubg=program.constraint_upper,
                lam_x0=0.0 if warm is None else warm.bound_multipliers,
                lam_g0=0.0 if warm is None else warm.multipliers,
            )
    finally:
        watch.solver = None  # which holds the watch: together they would never be freed
    if watch.failure is not None:
        raise watch.failure
    seconds = time.perf_counter() - built
    statistics = solver.stats()
    words = str(statistics.get("return_status", "no return status"))
    status = _STATUSES.get(words, Status.FAILED)
    if watch.stop is not None and status is Status.INTERRUPTED:
        status, words = watch.stop
    iterations = statistics.get("iter_count")
    point = result["x"].full().ravel()
    if not np.isfinite(point).all():
        point = watch.last if watch.last is not None else start
    return NLPResult(
        status=status,
        backend_status=words,
        point=point,
        multipliers=result["lam_g"].full().ravel(),
        bound_multipliers=result["lam_x"].full().ravel(),
        iterations=int(iterations) if iterations is not None and iterations >= 0 else None,
        build_seconds=built - begin,
        solve_seconds=seconds,
    )


def _oracle(program: NonlinearProgram) -> dict[str, ca.MX]:
    z = ca.MX.sym("z", program.lower.size)
    return {"x": z, "f": program.objective(z), "g": program.constraints(z)}


def _options(program: NonlinearProgram, options: IpoptOptions, watch: _Watch) -> dict:
    """CasADi's dictionary; our derivatives replace the ones it would generate."""
    z, p = ca.MX.sym("x", program.lower.size), ca.MX.sym("p", 0)
    sigma, multipliers = ca.MX.sym("sigma"), ca.MX.sym("lam", program.constraint_lower.size)
    named = {
        "grad_f": ca.Function("nlp_grad_f", [z, p], [program.objective(z), program.gradient(z)]),
        "jac_g": ca.Function("nlp_jac_g", [z, p], [program.constraints(z), program.jacobian(z)]),
        "hess_lag": ca.Function(
            "nlp_hess_l", [z, p, sigma, multipliers], [program.hessian(z, sigma, multipliers)]
        ),
    }
    ipopt: dict[str, object] = {
        "print_level": 0,
        "sb": "yes",
        "tol": options.tolerance,
        "constr_viol_tol": min(options.tolerance, 1e-9),
        "dual_inf_tol": 1.0,
        "compl_inf_tol": min(options.tolerance, 1e-6),
        "acceptable_tol": ACCEPTABLE * options.tolerance,
        "max_iter": options.max_iterations,
        "nlp_scaling_method": "none",
        "obj_scaling_factor": options.objective_scale,
        "bound_relax_factor": 0.0,
        "linear_solver": options.linear_solver.value,
    }
    if options.extra.get("linear_solver", options.linear_solver.value) == LinearSolver.MUMPS.value:
        ipopt["mumps_pivot_order"] = PIVOT_ORDER
        ipopt["mumps_permuting_scaling"] = PERMUTING_SCALING
        if options.pivot_tolerance is not None:
            ipopt["mumps_pivtol"] = options.pivot_tolerance
    return {
        **named,
        "ipopt": {**ipopt, **options.extra},
        "iteration_callback": watch,
        "print_time": False,
        "no_nlp_grad": True,
        "calc_lam_p": False,
        "show_eval_warnings": False,
    }


class _Watch(ca.Callback):
    """Reports every iteration, and asks IPOPT to stop: interrupted, out of time, or stagnating.

    It sees the iterates of the restoration phase as well. Which of the reasons it was is `stop`,
    our status and words, since IPOPT has one word for all of them.
    """

    def __init__(
        self, program: NonlinearProgram, options: IpoptOptions, progress: Progress | None
    ) -> None:
        ca.Callback.__init__(self)
        self.lower, self.upper = program.constraint_lower, program.constraint_upper
        self.sizes = {
            "x": program.lower.size,
            "lam_x": program.lower.size,
            "f": 1,
            "g": self.lower.size,
            "lam_g": self.lower.size,
        }
        self.deadline, self.tolerance = options.deadline, ACCEPTABLE * options.tolerance
        self.stagnation = Stagnation(options.idle_iterations, self.tolerance)
        self.solver: ca.Function | None = None
        self.stop: tuple[Status, str] | None = None
        self.progress = progress
        self.number = 0
        self.last: Array | None = None
        self.request = Request()
        self.failure: BaseException | None = None
        self.construct("watch", {})

    def get_n_in(self) -> int:
        return int(ca.nlpsol_n_out())

    def get_n_out(self) -> int:
        return 1

    def get_name_in(self, i: int) -> str:
        return str(ca.nlpsol_out(i))

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        return ca.Sparsity.dense(self.sizes.get(ca.nlpsol_out(i), 0), 1)

    def eval(self, arguments: Sequence[ca.DM]) -> list[float]:
        values = {ca.nlpsol_out(i): argument for i, argument in enumerate(arguments)}
        point = values["x"].full().ravel()
        if np.isfinite(point).all():
            self.last = point
        rows, cost = values["g"].full().ravel(), float(values["f"])
        violation = np.maximum(np.maximum(self.lower - rows, rows - self.upper), 0.0)
        worst = float(np.max(violation, initial=0.0))
        try:
            if self.progress is not None:
                self.progress(Iteration(self.number, cost, worst))
            self._look_for_a_reason_to_stop(worst, float(violation.sum()), cost)
        except BaseException as error:  # raised again when the optimiser has returned
            self.failure = error
        self.number += 1
        return [1.0 if self.stop or self.failure else 0.0]

    def _look_for_a_reason_to_stop(self, worst: float, total: float, cost: float) -> None:
        """At an iterate whose violations have this maximum and this sum."""
        is_feasible = worst <= self.tolerance
        if self.request.is_pending:
            self.stop = Status.INTERRUPTED, "stopped: interrupted"
        elif self.deadline.has_passed:
            self.stop = Status.TIME_LIMIT, "stopped: time limit"
        elif self.stagnation.is_reached(total, cost, self._errors):
            status = Status.FAILED if is_feasible else Status.INFEASIBLE
            self.stop = status, f"stopped: no progress in {self.stagnation.window} iterations"

    def _errors(self) -> Array:
        """Optimality error of every iterate so far, by IPOPT's own account."""
        assert self.solver is not None
        history = self.solver.stats()["iterations"]
        return np.max([history[name] for name in ("inf_pr", "inf_du", "mu")], axis=0)
