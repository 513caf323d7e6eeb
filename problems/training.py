"""Solve a learning problem: multi-start, kinks rounded off and sharpened, an honest report.

A start is random controls from a seed. Where the network or the loss has kinks, a ladder of
problems smoothed at widths delta -> 0 is solved, each warm-started from the one before, and then
the exact problem, if it is differentiable at the point reached. Costs and errors are always those
of the exact network; the certificate says at which delta it holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ocp import (
    Certificate,
    MultiStart,
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
from ocp.condensing import linearize
from ocp.nlp import Progress
from ocp.solution import costs_by_term
from ocp.solve import verdict
from problems.learning import Array, LearningProblem

SMOOTHING = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
LAYER_SPREAD = 0.5  # of random controls: part that differs from layer to layer


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
        exact: stages of the exact network.
        ladder: stages smoothed at widths delta, largest first; empty if `exact` is smooth.
        widths: the widths delta.
        finish_exact: whether the exact network may be differentiable where the ladder ends.
        guess_scale: standard deviation of the random controls.
        options: of every solve.
        progress: called with every iteration.
    """

    exact: StagedProblem
    ladder: tuple[StagedProblem, ...]
    widths: tuple[float, ...]
    finish_exact: bool
    guess_scale: float
    options: SolveOptions
    progress: Progress | None = None

    def __call__(self, seed: int) -> SmoothedSolution:
        """Solve from random controls of that seed."""
        return self.from_guess(random_controls(self.exact, seed, self.guess_scale))

    def from_guess(self, decisions: Array) -> SmoothedSolution:
        """Solve from given controls and parameters."""
        begin = time.perf_counter()
        rungs = [*zip(self.ladder, self.widths, strict=True)] or [(self.exact, 0.0)]
        solution, iterations, build = None, 0, 0.0
        for staged, width in rungs:
            options = replace(
                self.options,
                time_limit=self.options.time_limit - (time.perf_counter() - begin),
            ) if np.isfinite(self.options.time_limit) else self.options
            solution = solve_staged(staged, rollout(staged, decisions), options, self.progress)
            decisions = solution.trajectory.decisions
            iterations += solution.iterations or 0
            build += solution.build_seconds
            smoothing = width
            if solution.status in _FINAL:
                break
            remaining = self.options.time_limit - (time.perf_counter() - begin)
            if remaining <= 0:
                break
        assert solution is not None
        if smoothing > 0 and solution.is_solved:
            sharpened = self._sharpen(solution)
            if sharpened is not None:
                solution, smoothing = sharpened, 0.0
                iterations += sharpened.iterations or 0
        solution = replace(
            solution,
            iterations=iterations,
            build_seconds=build,
            solve_seconds=time.perf_counter() - begin - build,
        )
        return self._on_exact_network(solution, smoothing)

    def _sharpen(self, solution: Solution) -> Solution | None:
        """The exact problem from here; None if the point lies on one of its kinks."""
        trajectory = rollout(self.exact, solution.trajectory.decisions)
        certificate = certify(self.exact, trajectory)
        if verdict(certificate, Status.FAILED, self.options.tolerance) is Status.SOLVED:
            return replace(solution, trajectory=trajectory, certificate=certificate, iterations=0)
        if not self.finish_exact:
            return None
        exact = solve_staged(self.exact, trajectory, self.options, self.progress)
        better = exact.objective <= linearize(self.exact, trajectory).objective
        return exact if exact.is_solved and better else None

    def _on_exact_network(self, solution: Solution, smoothing: float) -> SmoothedSolution:
        """States, costs and certificate of the network that the controls define."""
        found = solution.trajectory
        trajectory = rollout(self.exact, found.decisions)
        linearization = linearize(self.exact, trajectory)
        certificate, status = solution.certificate, solution.status
        if smoothing == 0.0:
            certificate = certify(self.exact, trajectory)
            status = verdict(
                certificate,
                Status.INACCURATE if status is Status.SOLVED else status,
                self.options.tolerance,
            )
        return SmoothedSolution(
            replace(
                solution,
                trajectory=trajectory,
                costates=certificate.costates[1:],
                objective=linearization.objective,
                costs=costs_by_term(linearization),
                certificate=certificate,
                status=status,
            ),
            smoothing,
        )


# After these a further rung would not help.
_FINAL = (Status.INTERRUPTED, Status.TIME_LIMIT, Status.INFEASIBLE)


def random_controls(staged: StagedProblem, seed: int, scale: float) -> Array:
    """Normal controls: one draw common to all layers, and a smaller one for each; normal p."""
    generator = np.random.default_rng(seed)
    size = staged.stages[0].control_size
    common = generator.standard_normal(size)
    own = generator.standard_normal((staged.intervals, size))
    controls = scale * (common + LAYER_SPREAD * own)
    parameters = generator.standard_normal(staged.parameter_size)
    decisions = np.concatenate([controls.ravel(), parameters])
    lower, upper = staged.stages[0].control_bounds
    bounded = np.clip(decisions[: controls.size], np.tile(lower, staged.intervals),
                      np.tile(upper, staged.intervals))
    return np.concatenate([bounded, parameters])


@dataclass(frozen=True, eq=False)
class LearningSolution:
    """An optimum of a learning problem.

    Args:
        problem: what was solved.
        solution: of the best start.
        smoothing: width delta at which its certificate holds; 0 for the exact network.
        starts: all starts; None if the solution was loaded.
    """

    problem: LearningProblem
    solution: Solution
    smoothing: float
    starts: MultiStart[SmoothedSolution] | None

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
        """(K+1, N, D)."""
        return self.trajectory.state_array

    @property
    def costates(self) -> Array:
        """(K+1, N, D)."""
        return np.stack(self.certificate.costates)

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Controls by name, each (K, *shape)."""
        return self.problem.weights(self.trajectory)

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
        return self.certificate.multipliers[self.problem.layers]

    @cached_property
    def errors(self) -> Array:
        """E at every layer, (K+1,)."""
        readout = (self.readout_weight, self.readout_bias)
        return np.array([self.problem.error(x, *readout) for x in self.states])

    @property
    def control_norms(self) -> Array:
        """|u(t_k)|, (K,)."""
        return np.linalg.norm(self.trajectory.control_array, axis=1)

    @property
    def control_energy(self) -> float:
        """Int |u|^2 dt."""
        return float(self.control_norms**2 @ self.problem.grid.steps)

    @cached_property
    def refined_error(self) -> float:
        """E(x(T)) after fine re-integration of the same control."""
        return self.problem.refined_error(self.trajectory)

    def propagate(self, inputs: ArrayLike) -> Array:
        """States (K+1, P, D) of new inputs (P, d0)."""
        return self.problem.propagate(inputs, self.trajectory.decisions)

    def outputs(self, inputs: ArrayLike) -> Array:
        """Read-out (P, M) of new inputs (P, d0)."""
        return self.propagate(inputs)[-1] @ self.readout_weight.T + self.readout_bias

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
    options: SolveOptions = SolveOptions(),
    executor: Executor | None = None,
    progress: Progress | None = None,
    finished: Callable[[SmoothedSolution], None] | None = None,
) -> LearningSolution:
    """Solve a learning problem from several random starts and keep the best certified optimum.

    Args:
        problem: what to solve.
        seed: of the first start; the others take the following seeds.
        starts: how many.
        options: tolerance and limits of each start.
        executor: where the starts run; in this process by default.
        progress: called with every iteration; not used in other processes.
        finished: called with every start that has ended.

    Raises:
        ValueError: fewer than one start.
    """
    if starts < 1:
        raise ValueError(f"starts must be at least 1, got {starts}.")
    widths = () if problem.is_smooth else SMOOTHING
    run = Start(
        exact=problem.staged,
        ladder=tuple(problem.smoothed(width) for width in widths),
        widths=widths,
        finish_exact=not problem.loss.needs_smoothing or problem.interpolation,
        guess_scale=1.0 / problem.horizon,
        options=options,
        progress=progress if executor is None else None,
    )
    found = multi_start(run, range(seed, seed + starts), executor, finished)
    best = found.best
    return LearningSolution(problem, best.solution, best.smoothing, found)
