"""Solve a learning problem: multi-start, kinks rounded off and sharpened, an honest report.

A start is random controls from a seed; the later half of several starts are random steps from the
best minimum so far, which finds better ones where minima are many.

Where the network or the loss has kinks, a ladder of problems smoothed at widths delta -> 0 is
solved, each warm-started from the one before with its multipliers, in steps as large as the branch
can be followed; on the way the exact problem is tried, which is solved when no sample sits on a
kink. Costs and errors are always those of the exact network; the smoothing width at which the
certificate holds is reported with it. Samples that end at the tip of a Euclidean distance are
pinned there, on the exact problem, and their multipliers checked to lie in the ball of radius
alpha / N, the subdifferential of the loss at its tip: then nothing was rounded off.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocp import (
    Certificate,
    Method,
    MultiStart,
    NLPSolver,
    Solution,
    SolveOptions,
    StagedProblem,
    Status,
    Trajectory,
    certify,
    multi_start,
    rollout,
    solve_staged,
)
from ocp.certificate import dynamics_residual
from ocp.condensing import linearize
from ocp.explanation import message
from ocp.interrupt import interruptible
from ocp.method import kinks_or_limits
from ocp.nlp import Progress
from ocp.solution import costs_by_term
from ocp.solve import verdict
from ocp.timings import Timings, timed
from ocp.trajectory import decision_bounds
from problems.fine_integration import Untested
from problems.learning import PIN_WEIGHT, Array, LearningProblem
from problems.least_cost import judged_at_zero, judged_without_minimum, zero_cost

FIRST_WIDTH = 1e-1  # of the smoothing ladder, in units of `LearningProblem.kink_scale`
NEAR_WIDTH = 1e-4  # likewise, where it starts near an optimum
LAST_WIDTH = 1e-8  # where it is meant to end; the cost is then off by no more than about this
LAST_WIDTH_AT_TIPS = 1e-6  # likewise at tips of distances, whose curvature 1 / width is stiffer
COARSEST_LAST_WIDTH = 1e-5  # a ladder that gets stuck above this has not solved the problem
FIRST_RATIO = 0.3  # between neighbouring widths; its square root is taken where the branch is lost
LARGEST_RATIO = 0.9  # beyond this the ladder is stuck
RUNG_ITERATIONS = 60  # a warm-started rung that needs more has lost its branch
SHARPEN_ITERATIONS = 30  # the same for the exact problem
SHARPEST = 1e-15  # tolerance of the optimiser where an optimum is sharpened as it stands
SHARPEN_EVERY = 1e-2  # the exact problem is tried each time the width has fallen by this
LEAST_TIME = 1e-3  # s, asked of an optimiser that should stop at once
STEP = 1.5  # of the starts around the best minimum, in units of its own controls
SIZES = (0.2, 3.0)  # of random controls, in units of 1 / T
PIN_WIDTHS = 10.0  # a sample this many smoothing widths from its tip may be at it
PIN_EVERY = 0.2  # pinning is tried each time the width has fallen by this
PIN_ROUNDS = 5  # in which samples with multipliers outside the ball are released
AT_TIP = 1e-7  # distance at which a sample counts as at its tip
RELEASE_WIDTH = 1e-3  # at which a released sample first leaves its tip
BALL_MARGIN = 1e-6  # relative, by which a multiplier may be outside the ball
# Relative defect of states that were computed from their controls, by products in another order.
ROUNDED_DEFECT = 1e-13
# Fields of a certificate that the report calls by another name.
_REPORTED = {"is_minimum": "min_reduced_hessian_eigenvalue"}
STOPPED = (Status.INTERRUPTED, Status.TIME_LIMIT)  # after which no other rung is tried


@dataclass(frozen=True, eq=False)
class SmoothedSolution:
    """A solution of one start, and the smoothing width at which its certificate holds."""

    solution: Solution
    smoothing: float

    @property
    def objective(self) -> float:
        """Cost of the exact network."""
        return self.solution.objective

    @property
    def status(self) -> Status:
        """How the solve ended."""
        return self.solution.status


@dataclass(frozen=True, eq=False)
class Start:
    """Solves from a seed; holds stages only, so that it can be sent to another process.

    Args:
        exact: stages of the exact network; the last of a member's data is the smoothing width.
        is_smooth: whether no smoothing is needed.
        can_sharpen: whether the exact problem may be differentiable at its optimum.
        guess_scale: standard deviation of the random controls.
        pinned: stages with rows for samples at the tip of their loss; None if it has none.
        kink_scale: unit of the smoothing widths, the size of what has the kinks.
        options: of every solve, whose time limit gives way to the deadline.
        deadline: on the monotonic clock, s; common to all starts.
        base: decisions to step away from; None for random controls around zero.
        progress: called with every iteration.
        zero: largest cost that is zero to rounding and so a minimum; -1 where 0 is not attained.
    """

    exact: StagedProblem
    is_smooth: bool
    can_sharpen: bool
    guess_scale: float
    options: SolveOptions
    pinned: StagedProblem | None = None
    kink_scale: float = 1.0
    deadline: float = math.inf
    base: Array | None = None
    progress: Progress | None = None
    zero: float = -1.0

    def __call__(self, seed: int) -> SmoothedSolution:
        """Solve from random controls of that seed, around the base if there is one."""
        if self.base is None:
            return self.from_guess(random_controls(self.exact, seed, self.guess_scale))
        return self.from_guess(random_step(self.exact, seed, self.base))

    def from_guess(self, decisions: Array, is_near: bool = False) -> SmoothedSolution:
        """Solve from given controls and parameters, all in one vector.

        Where the problem has kinks and the controls are near an optimum, the exact problem and then
        a little smoothing are tried first, since much of it may lead to another branch.
        """
        with timed() as watch:
            found = self._from_guess(decisions, is_near)
        return replace(found, solution=replace(found.solution, timings=watch.timings()))

    def _from_guess(self, decisions: Array, is_near: bool) -> SmoothedSolution:
        if self.is_smooth:
            rungs = [SmoothedSolution(self._solve(0.0, decisions), 0.0)]
            if self._is_certified_as_it_is(rungs[0].solution):
                return SmoothedSolution(replace(rungs[0].solution, result=None), 0.0)
        else:
            rungs = self._exactly(decisions) if is_near else []
            if is_near and not self._is_done(rungs):
                rungs += self._descend(decisions, NEAR_WIDTH)
            if not self._is_done(rungs):
                rungs += self._descend(decisions, FIRST_WIDTH)
        found = self._on_exact_network(rungs)
        if found.status is Status.INACCURATE and self._keeps_distance(rungs[-1].solution):
            rungs.append(self._sharper(rungs[-1]))
            found = self._on_exact_network(rungs)
        runs = [rung.solution for rung in rungs]
        solution = replace(
            found.solution,
            backend_status=runs[-1].backend_status,
            method=runs[-1].method,
            iterations=sum(run.iterations or 0 for run in runs),
        )
        return replace(found, solution=solution)

    def _is_certified_as_it_is(self, solution: Solution) -> bool:
        """Whether its certificate is that of a point of the exact network already.

        That is so where the solve took no states as unknowns and proposed no multipliers: its
        states are those of its controls up to rounding, and nothing is left to be rolled out,
        clipped or looked for.
        """
        choice = solution.method
        if choice is None or choice.method is Method.SHOOTING or self.pinned is not None:
            return False
        if kinks_or_limits(self.exact) is not None or not self._is_rolled_out(solution):
            return False
        decisions = solution.trajectory.decisions
        return np.array_equal(decisions, np.clip(decisions, *decision_bounds(self.exact)))

    def _is_rolled_out(self, solution: Solution) -> bool:
        return solution.certificate.dynamics <= ROUNDED_DEFECT

    def _keeps_distance(self, solution: Solution) -> bool:
        """Whether it is where an interior point stopped, at its barrier's distance from rows."""
        by_ipopt = self.options.nlp_solver is NLPSolver.IPOPT
        choice = solution.method
        by_shooting = choice is not None and choice.method is Method.SHOOTING
        return solution.is_solved and by_ipopt and by_shooting

    def _sharper(self, rung: SmoothedSolution) -> SmoothedSolution:
        """Solve on from an optimum whose rows are active at no price.

        An interior point keeps a distance from such rows that is the root of its barrier, and its
        multipliers hide that; so the barrier is made smaller.
        """
        extra = {**self.options.ipopt, "tol": SHARPEST}
        strict = replace(self, options=replace(self.options, ipopt=extra))
        start = rung.solution.trajectory.decisions
        sharper = strict._solve(rung.smoothing, start, SHARPEN_ITERATIONS, rung.solution)
        return SmoothedSolution(sharper, rung.smoothing)

    def _solve(
        self,
        width: float,
        decisions: Array,
        iterations: int | None = None,
        warm: Solution | None = None,
    ) -> Solution:
        """Solve at one width within what is left of the time.

        With rows for pinned samples, though none is, so that its multipliers fit when some are.
        """
        nobody = np.zeros(self.exact.members, dtype=bool)
        staged = (
            smoothed(self.exact, width)
            if self.pinned is None
            else pinned_at(self.pinned, nobody, width)
        )
        return self._solve_on(staged, decisions, iterations, warm)

    def _solve_on(
        self,
        staged: StagedProblem,
        decisions: Array,
        iterations: int | None = None,
        warm: Solution | None = None,
    ) -> Solution:
        left = max(self.deadline - time.monotonic(), LEAST_TIME)
        limit = min(iterations or self.options.max_iterations, self.options.max_iterations)
        options = replace(self.options, time_limit=left, max_iterations=limit)
        guess = rollout(staged, decisions)
        while not all(np.isfinite(state).all() for state in guess.states):
            decisions = decisions / 2  # so large that the states overflow
            guess = rollout(staged, decisions)
        start = guess if warm is None else replace(warm, trajectory=guess)
        found = solve_staged(staged, start, options, self.progress)
        return judged_at_zero(found, found.objective, self.zero, self.options.tolerance)

    def _is_done(self, rungs: list[SmoothedSolution]) -> bool:
        """Whether the last of them is stopped, or solved where little or nothing is smoothed."""
        if not rungs:
            return False
        last = rungs[-1]
        is_fine = last.smoothing <= COARSEST_LAST_WIDTH * self.kink_scale
        return last.status in STOPPED or (last.solution.is_solved and is_fine)

    def _descend(self, decisions: Array, first: float) -> list[SmoothedSolution]:
        """Down the ladder of widths, in steps that the solver can follow; all rungs tried."""
        first *= self.kink_scale
        rungs = [SmoothedSolution(self._solve(first, decisions), first)]
        kept, ratio, sharpen_at = rungs[0], FIRST_RATIO, SHARPEN_EVERY * self.kink_scale
        last = (LAST_WIDTH if self.can_sharpen else LAST_WIDTH_AT_TIPS) * self.kink_scale
        while kept.solution.is_solved and kept.smoothing > last and ratio < LARGEST_RATIO:
            start = kept.solution.trajectory.decisions
            width = max(kept.smoothing * ratio, last)
            rung = SmoothedSolution(
                self._solve(width, start, RUNG_ITERATIONS, kept.solution), width
            )
            rungs.append(rung)
            if rung.status in STOPPED:
                break
            if not rung.solution.is_solved:
                ratio = ratio**0.5
                continue
            kept = rung
            if self.pinned is not None and width <= sharpen_at:
                sharpen_at = width * PIN_EVERY
                start = kept.solution.trajectory.decisions
                rungs += self._pin(start, PIN_WIDTHS * kept.smoothing, kept.solution)
                if rungs[-1].solution.is_solved or rungs[-1].status in STOPPED:
                    break
            if self.can_sharpen and width <= sharpen_at:
                sharpen_at = width * SHARPEN_EVERY
                start = kept.solution.trajectory.decisions
                exact = SmoothedSolution(
                    self._solve(0.0, start, SHARPEN_ITERATIONS, kept.solution), 0.0
                )
                rungs.append(exact)
                if exact.solution.is_solved or exact.status in STOPPED:
                    break
        return rungs

    def _pin(
        self, start: Array, reach: float, warm: Solution | None = None
    ) -> list[SmoothedSolution]:
        """Solve the exact problem with the samples pinned that are within reach of their tips.

        Those whose multipliers leave the ball are released, a few times. The last solution is of
        the exact problem if it is solved; all are returned for their iterations.
        """
        assert self.pinned is not None
        held = tip_distances(self.pinned, rollout(self.exact, start)) <= reach
        tried: list[SmoothedSolution] = []
        for _ in range(PIN_ROUNDS):
            found = self._solve_on(pinned_at(self.pinned, held), start, SHARPEN_ITERATIONS, warm)
            outside = held & (tip_multipliers(self.pinned, found.certificate) > 1 + BALL_MARGIN)
            if found.is_solved and outside.any():
                found = replace(found, status=Status.INACCURATE)
            tried.append(SmoothedSolution(found, 0.0))
            if found.is_solved or found.status in STOPPED or not outside.any():
                break
            held = held & ~outside
            # A sample at its tip has no direction to leave in, so its tip is rounded off first.
            rounded = pinned_at(self.pinned, held, RELEASE_WIDTH)
            warm = self._solve_on(rounded, start, SHARPEN_ITERATIONS)
            if warm.status in STOPPED:
                break
            start = warm.trajectory.decisions
        return tried

    def follow(self, decisions: Array) -> SmoothedSolution:
        """Solve from controls near an optimum, which are kept if they are one already.

        Otherwise the exact problem is tried first, then the ladder of smoothing widths. An optimum
        that is the same for many problems, such as the interpolant of a distance loss, is so found
        whatever other minima are near.
        """
        with timed() as watch:
            found = self._follow(decisions)
        return replace(found, solution=replace(found.solution, timings=watch.timings()))

    def _follow(self, decisions: Array) -> SmoothedSolution:
        point = rollout(self.exact, decisions)
        if all(np.isfinite(state).all() for state in point.states):
            found = assess(
                self.exact, point, 0.0, self.options.tolerance, pinned=self.pinned, zero=self.zero
            )
            if found.is_solved:
                found = replace(found, backend_status="not run", iterations=0)
                return SmoothedSolution(found, 0.0)
        return self.from_guess(decisions, is_near=True)

    def _exactly(self, decisions: Array) -> list[SmoothedSolution]:
        """The exact problem from given controls, if it can be posed; all that was tried."""
        if self.pinned is not None:
            return self._pin(decisions, AT_TIP)
        if self.can_sharpen:
            return [SmoothedSolution(self._solve(0.0, decisions, SHARPEN_ITERATIONS), 0.0)]
        return []

    def _on_exact_network(self, rungs: list[SmoothedSolution]) -> SmoothedSolution:
        """The finest rung whose controls are certified, on the network that they define.

        If there is none, or the run was stopped: the controls of least cost among the solved
        rungs, or else those of the last one, with the certificate of the exact network.
        """
        tolerance, stopped = self.options.tolerance, rungs[-1].status
        solved = sorted(
            (rung for rung in rungs if rung.solution.is_solved), key=lambda rung: rung.smoothing
        )
        points = [self._point(rung) for rung in solved]
        if stopped not in STOPPED:
            for rung, point in zip(solved, points, strict=True):
                if rung.smoothing <= COARSEST_LAST_WIDTH * self.kink_scale:
                    certified = assess(
                        self.exact,
                        point,
                        rung.smoothing,
                        tolerance,
                        pinned=self.pinned,
                        zero=self.zero,
                    )
                    if certified.is_solved:
                        return SmoothedSolution(certified, rung.smoothing)
            stopped = Status.INACCURATE if solved else stopped
        points = points or [self._point(rungs[-1])]
        found = [
            assess(self.exact, point, 0.0, tolerance, stopped, self.pinned, self.zero)
            for point in points
        ]
        return SmoothedSolution(min(found, key=lambda solution: solution.objective), 0.0)

    def _point(self, rung: SmoothedSolution) -> Trajectory:
        """Its controls, within their bounds to the last digit, on the exact network."""
        lower, upper = decision_bounds(self.exact)
        return rollout(self.exact, np.clip(rung.solution.trajectory.decisions, lower, upper))


def assess(
    exact: StagedProblem,
    trajectory: Trajectory,
    width: float,
    tolerance: float,
    stopped: Status = Status.INACCURATE,
    pinned: StagedProblem | None = None,
    zero: float = -1.0,
) -> Solution:
    """Costs, certificate and verdict of a trajectory of the exact network.

    Args:
        exact: its stages.
        trajectory: states and controls.
        width: smoothing width at which the controls are to be certified; 0 for the exact network.
        tolerance: of the first-order residuals.
        stopped: status if the certificate is not within the tolerance.
        pinned: stages with rows for samples at the tip of their loss, if it has one; they take the
            place of the exact stages, with those samples pinned that are at their tips.
        zero: largest cost that is zero to rounding, at which nothing more need be certified; -1
            where the cost 0 is not attained.
    """
    linearization = linearize(exact, trajectory)
    objective = linearization.objective
    is_in_ball = True
    if width > 0:
        rounded = smoothed(exact, width)
        rounded_point = rollout(rounded, trajectory.decisions)
        if zero >= 0:
            objective = linearize(rounded, rounded_point).objective
        certificate = replace(
            certify(rounded, rounded_point, tolerance=tolerance),
            dynamics=dynamics_residual(linearization),
        )
    elif pinned is not None:
        held = tip_distances(pinned, trajectory) <= AT_TIP
        certificate = certify(pinned_at(pinned, held), trajectory, tolerance=tolerance)
        is_in_ball = bool((tip_multipliers(pinned, certificate) <= 1 + BALL_MARGIN).all())
    else:
        certificate = certify(exact, trajectory, tolerance=tolerance)
    status = verdict(certificate, stopped, tolerance)
    if status is Status.SOLVED and not is_in_ball:
        status = Status.INACCURATE
    found = Solution(
        trajectory=trajectory,
        costates=certificate.costates[1:],
        objective=linearization.objective,
        costs=costs_by_term(linearization),
        status=status,
        message=message(status, certificate),
        backend_status="",
        certificate=certificate,
        iterations=None,
    )
    return judged_at_zero(found, objective, zero, tolerance)


def smoothed(exact: StagedProblem, width: float) -> StagedProblem:
    """The same stages with kinks rounded off at that width."""
    data = exact.data.copy()
    data[:, -1] = width
    return replace(exact, data=data)


def pinned_at(pinned: StagedProblem, held: NDArray[np.bool_], width: float = 0.0) -> StagedProblem:
    """The stages with those members (N,) pinned to the tip of their loss, the others smoothed."""
    data = pinned.data.copy()
    data[:, -1] = np.where(held, -1.0, width)
    return replace(pinned, data=data)


def tip_distances(pinned: StagedProblem, trajectory: Trajectory) -> Array:
    """|P x_i(T) - y_i| of every member, (N,)."""
    everyone = pinned_at(pinned, np.ones(pinned.members, dtype=bool))
    return np.asarray(np.linalg.norm(linearize(everyone, trajectory).stages[-1].rows, axis=1))


def tip_multipliers(pinned: StagedProblem, certificate: Certificate) -> Array:
    """|p_i| of every member relative to the radius alpha / N of the ball; 0 for free ones, (N,)."""
    radius = pinned.stages[-1].rows.weight[0] / PIN_WEIGHT
    size = np.linalg.norm(certificate.multipliers.rows[pinned.intervals], axis=1) / radius
    return np.where(np.isfinite(size), size, np.inf)


def random_controls(staged: StagedProblem, seed: int, scale: float) -> Array:
    """Normal controls of a random size, partly common to all layers; normal parameters.

    Small starts and large ones, smooth and rough ones lead to different minima, so the size is
    drawn too: log-uniform in SIZES times `scale`, with a random share common to all layers.
    """
    generator = np.random.default_rng(seed)
    size = scale * np.exp(generator.uniform(*np.log(SIZES)))
    share = generator.uniform()
    sizes = [stage.control_size for stage in staged.stages[:-1]]
    common = generator.standard_normal(max(sizes))
    own = generator.standard_normal(sum(sizes))
    shared = np.concatenate([common[:m] for m in sizes])
    controls = size * (np.sqrt(share) * shared + np.sqrt(1 - share) * own)
    parameters = generator.standard_normal(staged.parameter_size)
    lower, upper = decision_bounds(staged)
    return np.clip(np.concatenate([controls, parameters]), lower, upper)


def random_step(staged: StagedProblem, seed: int, base: Array) -> Array:
    """The base plus normal numbers of STEP times the root mean square of its controls."""
    generator = np.random.default_rng(seed)
    controls = base[: staged.decision_size - staged.parameter_size]
    size = STEP * float(np.sqrt(np.mean(controls**2)))
    lower, upper = decision_bounds(staged)
    return np.clip(base + size * generator.standard_normal(base.size), lower, upper)


@dataclass(frozen=True, eq=False)
class LearningSolution:
    """An optimum of a learning problem.

    Args:
        problem: what was solved.
        solution: of the best start.
        smoothing: width delta at which its certificate holds; 0 for the exact network.
        starts: all starts; None if the solution was loaded.
        seconds_left: of the time limit of the solve, for its diagnosis; s.
    """

    problem: LearningProblem
    solution: Solution
    smoothing: float
    starts: MultiStart[SmoothedSolution] | None
    seconds_left: float = math.inf

    @property
    def trajectory(self) -> Trajectory:
        """States, controls and parameters."""
        return self.solution.trajectory

    @property
    def status(self) -> Status:
        """How the best start ended."""
        return self.solution.status

    @property
    def certificate(self) -> Certificate:
        """Of the best start."""
        return self.solution.certificate

    @property
    def times(self) -> Array:
        """(K+1,)."""
        return self.problem.grid.nodes

    @property
    def states(self) -> Array:
        """(K+1, N, D); where widths vary, `trajectory.states` holds one array per layer."""
        return self.trajectory.state_array

    @property
    def costates(self) -> Array:
        """(K+1, N, D); where widths vary, `certificate.costates` holds one array per layer."""
        return np.stack(self.certificate.costates)

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Controls by name, each (K, *shape); see `layer_weights` where widths vary."""
        return self.problem.weights(self.trajectory)

    @cached_property
    def layer_weights(self) -> list[dict[str, Array]]:
        """Controls of every layer by name; kernels at the nodes where there is a grid."""
        return self.problem.layer_weights(self.trajectory)

    @property
    def readout_weight(self) -> Array:
        """(M, D)."""
        return self.problem.readout(self.trajectory.parameters)[0]

    @property
    def readout_bias(self) -> Array:
        """(M,)."""
        return self.problem.readout(self.trajectory.parameters)[1]

    @property
    def multipliers(self) -> Array:
        """Of the interpolation constraints P x_i(T) = y_i, (N, M)."""
        return self.certificate.multipliers.rows[self.problem.layers]

    @property
    def tips(self) -> tuple[int, float] | None:
        """How many samples are pinned at the tip of their loss, and their largest multiplier.

        In units of alpha / N, so that 1 is where a sample would leave its tip; None if the loss has
        no tip, or if it is rounded off.
        """
        pinned = self.problem.pinned
        if pinned is None or self.smoothing > 0:
            return None
        held = tip_distances(pinned, self.trajectory) <= AT_TIP
        return int(held.sum()), float(tip_multipliers(pinned, self.certificate).max(initial=0.0))

    @cached_property
    def errors(self) -> Array:
        """E at every layer, (K+1,)."""
        readout = (self.readout_weight, self.readout_bias)
        ends = [self.problem.carried(x, k) for k, x in enumerate(self.trajectory.states)]
        return np.array([self.problem.error(x, *readout) for x in ends])

    @property
    def control_norms(self) -> Array:
        """|u(t_k)|, (K,); in the norm of functions where there is a grid."""
        return np.array([np.linalg.norm(u) for u in self.trajectory.controls])

    @property
    def control_energy(self) -> float:
        """Int |u|^2 dt."""
        return float(self.control_norms**2 @ self.problem.grid.steps)

    @property
    def refined_error(self) -> float | None:
        """E(x(T)) after fine re-integration of the same control; None if `untested` says why."""
        return self._refinement[0]

    @property
    def certificate_untested(self) -> dict[str, str]:
        """Why a number of the certificate has no value, by its name in the report."""
        return {_REPORTED.get(name, name): why for name, why in self.certificate.untested.items()}

    @cached_property
    def untested(self) -> dict[str, str]:
        """Why a diagnosis has no value, by its name in the report."""
        reasons = self.certificate_untested
        if self._refinement[1]:
            reasons["refined_training_error"] = self._refinement[1]
        return reasons

    @cached_property
    def _refinement(self) -> tuple[float | None, str, float]:
        """The refined error or why there is none, with the seconds that it took."""
        begin = time.perf_counter()
        value, reason = None, ""
        try:
            value = self.problem.refined_error(self.trajectory, self.seconds_left)
        except Untested as error:
            reason = str(error)
        return value, reason, time.perf_counter() - begin

    @property
    def timings(self) -> Timings:
        """Of all that led to the solution and its report; of a loaded one, what its file says."""
        if self.starts is None:
            return self.solution.timings
        return self.solution.timings.plus("error_estimate", self._refinement[2])

    def propagate(self, inputs: ArrayLike) -> Array:
        """States (K+1, P, D) of new inputs (P, d0)."""
        return self.problem.propagate(inputs, self.trajectory.decisions)

    def outputs(self, inputs: ArrayLike) -> Array:
        """Read-out (P, M) of new inputs (P, d0)."""
        end = self.problem.run(inputs, self.trajectory.decisions).states[-1]
        return end @ self.readout_weight.T + self.readout_bias

    @property
    def is_diagnosed(self) -> bool:
        """Whether the report is there already."""
        return "report" in vars(self)

    @cached_property
    def report(self) -> dict:
        """The JSON object of the command line."""
        from problems.report import report  # the report needs the type of this class

        return report(self)


def train(
    problem: LearningProblem,
    *,
    seed: int = 0,
    starts: int = 1,
    guesses: Sequence[Array] = (),
    options: SolveOptions = SolveOptions(),
    executor: Executor | None = None,
    progress: Progress | None = None,
    finished: Callable[[SmoothedSolution], None] | None = None,
) -> LearningSolution:
    """Solve a learning problem from guesses and random starts; keep the best certified optimum.

    Args:
        problem: what to solve.
        seed: of the first start; the others take the following seeds.
        starts: how many; the first half from random controls, the rest in two rounds from steps
            around the best minimum of the rounds before.
        guesses: decisions near an optimum to start from before those, such as
            `trajectory.decisions` of a solution of a problem of the same shape; with guesses,
            `starts` may be 0.
        options: tolerance and limits of each start.
        executor: where the starts run; in this process by default.
        progress: called with every iteration; not used in other processes.
        finished: called with every start that has ended.

    Raises:
        ValueError: nothing to start from.
    """
    least = 0 if guesses else 1
    if starts < least:
        raise ValueError(f"starts must be at least {least}, got {starts}.")
    begin = time.perf_counter()
    run = Start(
        exact=problem.staged,
        is_smooth=problem.is_smooth,
        can_sharpen=problem.interpolation or not problem.posed_loss.needs_smoothing,
        guess_scale=1.0 / problem.horizon,
        pinned=problem.pinned,
        kink_scale=problem.kink_scale,
        options=options,
        deadline=time.monotonic() + options.time_limit,
        progress=progress if executor is None else None,
        zero=zero_cost(problem),
    )
    with interruptible() as request:
        found: MultiStart[SmoothedSolution] = MultiStart(())
        for kind, seeds in _rounds(len(guesses), seed, starts):
            step: Callable[[int], SmoothedSolution] = run
            if kind == "given":
                step = _Given(run, tuple(guesses))
            elif kind == "around the best":
                step = replace(run, base=found.best.solution.trajectory.decisions)
            more = multi_start(step, seeds, executor, finished)
            found = MultiStart((*found.solutions, *more.solutions), more.is_complete)
            if request.is_pending:
                break
        is_complete = len(found.solutions) == len(guesses) + starts and not request.is_pending
        found = MultiStart(found.solutions, is_complete)
    best = found.best
    rest = time.perf_counter() - begin - best.solution.timings.total
    part = "search" if len(found.solutions) > 1 else "build"
    solution = replace(best.solution, timings=best.solution.timings.plus(part, rest))
    solution = judged_without_minimum(problem, solution)
    left = max(run.deadline - time.monotonic(), 0.0)
    return LearningSolution(problem, solution, best.smoothing, found, left)


@dataclass(frozen=True, eq=False)
class _Given:
    """Starts from given decisions, by their position."""

    run: Start
    guesses: tuple[Array, ...]

    def __call__(self, position: int) -> SmoothedSolution:
        return self.run.follow(self.guesses[position])


def _rounds(guesses: int, seed: int, starts: int) -> list[tuple[str, range]]:
    """What to start from, and positions or seeds; three starts are all random."""
    rounds = [("given", range(guesses))]
    if starts <= 3:
        rounds.append(("random", range(seed, seed + starts)))
    else:
        ends = [0, (starts + 1) // 2, (3 * starts + 3) // 4, starts]
        kinds = ("random", "around the best", "around the best")
        rounds += [
            (kind, range(seed + a, seed + b))
            for kind, (a, b) in zip(kinds, pairwise(ends), strict=True)
        ]
    return [(kind, seeds) for kind, seeds in rounds if seeds]
