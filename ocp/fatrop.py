"""Fatrop, by way of CasADi: an interior-point method that factorises stage by stage.

It takes the program in the order of `stage_order`, eliminates all unknowns by one backward Riccati
sweep with dense blocks, and needs no sparse factorisation. One sweep costs of the order of
K (N n + m)^3 operations for N members with n states and m controls.

States fixed by equal bounds are taken as they are. All other bounds are relaxed by 1e-8 of their
size, without an option to say otherwise, so they are handed over tighter by most of that; the rest
keeps an interior where a bound meets an equation.

Where a bound on the state is active, its barrier swamps the Riccati sweep: at tolerances below 1e-8
such a run may stall at residuals near 1e-9 until its limit of iterations.

CasADi hands over no multipliers to start from, and all ends without success share one code; which
one it was is seen from the iterations and the residuals. The only way to stop a run is a gradient
that is not a number: the last iterate is then returned whole. Where the model itself returns such a
gradient, Fatrop may instead never return, so that no other start is tried after such an end.

Source: Vanroye, Sathya, De Schutter and Decre, IROS 2023, 10036-10043 (arXiv 2303.16746).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import casadi as ca
import numpy as np

from ocp.deadline import NEVER, Deadline
from ocp.interrupt import Request, interruptible
from ocp.nlp import Array, Iteration, NLPResult, NonlinearProgram, Progress, Status
from ocp.shooting import Shooting
from ocp.stage_order import StageOrder

# How far bounds are relaxed: relative to max(1, |bound|), and at most (as in IPOPT).
RELAXATION, MOST_RELAXATION = 1e-8, 1e-4
UNDONE = 0.99  # share of it that tighter bounds take back
SUCCESS, NO_SUCCESS, EXCEPTION = 0, 1, -1  # codes of fatrop_ocp_c_solve
NEARLY_FEASIBLE = 1e-6  # residuals of an end without success that count as near a solution
NEARLY_STATIONARY = 1e-4
LARGE = 1e30  # in the place of a value that is not a number

# Start from a solution: a small barrier at once, and no push away from bounds.
RESTART: dict[str, object] = {"mu_init": 1e-9, "bound_push": 1e-12, "bound_frac": 1e-12}


@dataclass(frozen=True)
class FatropOptions:
    """Options of a run.

    Args:
        tolerance: of the scaled optimality error.
        max_iterations: limit of iterations.
        deadline: looked at once per iteration.
        objective_scale: the objective is multiplied by it.
    """

    tolerance: float = 1e-10
    max_iterations: int = 3000
    deadline: Deadline = NEVER
    objective_scale: float = 1.0


def is_available() -> bool:
    """Whether this CasADi was built with Fatrop."""
    return bool(ca.has_nlpsol("fatrop"))


def minimize(
    shooting: Shooting,
    start: Array,
    options: FatropOptions = FatropOptions(),
    progress: Progress | None = None,
    warm: NLPResult | None = None,
) -> NLPResult:
    """Minimise from `start`; Ctrl-C ends with the last iterate instead of an exception.

    Args:
        shooting: the staged problem and its program.
        start: z, in the program's order.
        options: tolerance and limits.
        progress: called with every iteration.
        warm: an earlier result near which the start lies; its multipliers cannot be used, but the
            barrier starts small.

    Returns:
        The result in the order and with the signs of the program, as IPOPT's.

    Raises:
        ValueError: Fatrop is not there; a term of the problem couples several stages; or `start`
            has the wrong size, or is not finite.
    """
    if not is_available():
        raise ValueError(
            f"nlp_solver is NLPSolver.FATROP, but CasADi {ca.CasadiMeta.version()} was built "
            "without it; install CasADi's wheel from PyPI, or use NLPSolver.IPOPT."
        )
    program = shooting.program
    size = program.lower.size
    if start.shape != (size,) or not np.isfinite(start).all():
        raise ValueError(
            f"the start must be {size} finite numbers, got shape {start.shape} with "
            f"{int((~np.isfinite(start)).sum())} that are not finite."
        )
    begin = time.perf_counter()
    order = StageOrder(shooting)
    watch = _Watch(program, order.size, progress)
    staged_program = order.program
    scale = options.objective_scale
    x = ca.MX.sym("x", order.size)
    f, g = scale * staged_program.objective(x), staged_program.constraints(x)
    nlp: dict[str, ca.MX] = {"x": x, "f": f, "g": g}
    settings: dict = {
        "cache": _derivatives(staged_program, scale, watch, order),
        "structure_detection": "manual",
        "N": shooting.staged.intervals,
        "nx": order.state_sizes,
        "nu": order.control_sizes,
        "ng": order.row_sizes,
        "fatrop": {
            "print_level": 0,
            "tolerance": options.tolerance,
            "tol_acceptable": options.tolerance,
            "max_iter": options.max_iterations,
            **({} if warm is None else RESTART),
        },
        "print_time": False,
        "calc_lam_p": False,
        "show_eval_warnings": False,
    }
    solver = ca.nlpsol("solver", "fatrop", nlp, settings)
    built = time.perf_counter()
    watch.deadline = options.deadline
    lower, upper = tighten(staged_program.lower, staged_program.upper)
    row_lower, row_upper = tighten(staged_program.constraint_lower, staged_program.constraint_upper)
    words, code, iterations = "", EXCEPTION, None
    point, multipliers = start, np.zeros(program.constraint_lower.size)
    bound_multipliers = np.zeros(size)
    with interruptible() as watch.request:
        try:
            found = solver(
                x0=order.spread(start),
                lbx=lower,
                ubx=upper,
                lbg=row_lower,
                ubg=row_upper,
            )
        except RuntimeError as error:  # derivatives that are not finite, above all
            words = str(error).strip().splitlines()[-1]
            point = watch.last if watch.last is not None else start
        else:
            statistics = solver.stats()
            code = int(statistics["return_status"])
            iterations = int(statistics["iter_count"])
            point = found["x"].full().ravel()[order.places]
            multipliers = order.gather_multipliers(found["lam_g"].full().ravel()) / scale
            bound_multipliers = found["lam_x"].full().ravel()[order.places] / scale
    if watch.failure is not None:
        raise watch.failure
    seconds = time.perf_counter() - built
    result = NLPResult(
        status=Status.SOLVED,
        backend_status=words or f"fatrop returned {code}",
        point=point if np.isfinite(point).all() else start,
        multipliers=multipliers,
        bound_multipliers=bound_multipliers,
        iterations=iterations,
        build_seconds=built - begin,
        solve_seconds=seconds,
    )
    return _with_status(result, code, program, options, watch)


def tighten(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Bounds that relaxation turns into the given ones, up to 1e-10 of their size.

    Of narrow intervals at most a quarter is taken off at each side, of equal bounds nothing.
    """
    width = np.where(lower < upper, upper - lower, 0.0)

    def inwards(bound: Array) -> Array:
        size = RELAXATION * np.maximum(1.0, np.abs(bound))
        step: Array = np.minimum(UNDONE * np.minimum(size, MOST_RELAXATION), width / 4)
        return step

    return lower + inwards(lower), upper - inwards(upper)


def _derivatives(
    program: NonlinearProgram, scale: float, watch: _Watch, order: StageOrder
) -> dict[str, ca.Function]:
    """Ours, under the names by which CasADi looks for functions before it generates them."""
    x, p = ca.MX.sym("x", program.lower.size), ca.MX.sym("p", 0)
    sigma, multipliers = ca.MX.sym("lam_f"), ca.MX.sym("lam_g", program.constraint_lower.size)
    f, g = scale * program.objective(x), program.constraints(x)
    gradient, jacobian = scale * program.gradient(x), program.jacobian(x)
    slope = ca.densify(sigma * gradient + ca.mtimes(jacobian.T, multipliers))
    hessian = ca.triu2symm(program.hessian(x, scale * sigma, multipliers))
    watched = gradient * watch(x[order.places.tolist()], gradient)
    point, dual = ["x", "p"], ["x", "p", "lam_f", "lam_g"]
    both = ["f", "g", "grad_gamma_x", "grad_gamma_p"]
    given = [x, p, sigma, multipliers]
    return {
        "nlp_f": ca.Function("nlp_f", [x, p], [_rejected(f)], point, ["f"]),
        "nlp_g": ca.Function("nlp_g", [x, p], [_rejected(g)], point, ["g"]),
        "nlp_grad_f": ca.Function("nlp_grad_f", [x, p], [watched], point, ["grad_f_x"]),
        "nlp_jac_g": ca.Function("nlp_jac_g", [x, p], [g, jacobian], point, ["g", "jac_g_x"]),
        "nlp_hess_l": ca.Function(
            "nlp_hess_l", given, [slope, hessian], dual, ["grad_gamma_x", "hess_gamma_x_x"]
        ),
        "nlp_grad": ca.Function("nlp_grad", given, [f, g, slope, ca.MX(0, 1)], dual, both),
    }


def _rejected(value: ca.MX) -> ca.MX:
    """A large value in the place of what is not a number, so that the line search shortens it."""
    return ca.if_else(value == value, value, LARGE)


def _with_status(
    result: NLPResult, code: int, program: NonlinearProgram, options: FatropOptions, watch: _Watch
) -> NLPResult:
    """The result with our reading of its code; what the code does not say, the residuals do."""
    if watch.stop is not None:
        return replace(result, status=watch.stop, backend_status=f"stopped: {watch.stop.value}")
    if code == SUCCESS:
        return replace(result, backend_status="converged")
    if result.iterations is not None and result.iterations >= options.max_iterations:
        return replace(
            result, status=Status.ITERATION_LIMIT, backend_status="stopped: iteration limit"
        )
    z = result.point
    values = program.constraints(z).full().ravel()
    jacobian = program.jacobian(z).sparse()
    gradient = program.gradient(z).full().ravel()
    if not all(np.isfinite(v).all() for v in (values, jacobian.data, gradient)):
        return replace(result, status=Status.INVALID_NUMBER)
    # Bounds are rows to Fatrop, which may be violated as well.
    excess = values - np.clip(values, program.constraint_lower, program.constraint_upper)
    outside = z - np.clip(z, program.lower, program.upper)
    if max(np.abs(v).max(initial=0.0) for v in (excess, outside)) > NEARLY_FEASIBLE:
        return replace(result, status=Status.INFEASIBLE)
    slope = gradient + jacobian.T @ result.multipliers + result.bound_multipliers
    size = max(1.0, np.abs(result.multipliers).max(initial=0.0), np.abs(gradient).max())
    is_near = code == NO_SUCCESS and np.abs(slope).max() <= NEARLY_STATIONARY * size
    return replace(result, status=Status.INACCURATE if is_near else Status.FAILED)


class _Watch(ca.Callback):
    """Sees every iterate z with its gradient; answers 1, or not a number, which ends the run."""

    def __init__(
        self, program: NonlinearProgram, gradient_size: int, progress: Progress | None
    ) -> None:
        ca.Callback.__init__(self)
        self.program, self.progress = program, progress
        self.gradient_size = gradient_size
        self.number = 0
        self.deadline = NEVER
        self.last: Array | None = None
        self.stop: Status | None = None
        self.request = Request()
        self.failure: BaseException | None = None
        self.construct("watch", {})

    def get_n_in(self) -> int:
        return 2

    def get_n_out(self) -> int:
        return 1

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        return ca.Sparsity.dense((self.program.lower.size, self.gradient_size)[i], 1)

    def eval(self, arguments: Sequence[ca.DM]) -> list[float]:
        try:
            self._see(arguments[0].full().ravel())
            if not np.isfinite(arguments[1].full()).all():
                self.stop = Status.INVALID_NUMBER
        except BaseException as error:  # raised again when the optimiser has returned
            self.failure = error
        return [1.0 if self.failure is None and self.stop is None else float("nan")]

    def _see(self, point: Array) -> None:
        if np.isfinite(point).all():
            self.last = point
        if self.progress is not None:
            program = self.program
            rows = program.constraints(point).full().ravel()
            excess = rows - np.clip(rows, program.constraint_lower, program.constraint_upper)
            worst = float(np.abs(excess).max(initial=0.0))
            self.progress(Iteration(self.number, float(program.objective(point)), worst))
        self.number += 1
        if self.request.is_pending:
            self.stop = Status.INTERRUPTED
        elif self.deadline.has_passed:
            self.stop = Status.TIME_LIMIT
