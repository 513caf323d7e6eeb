"""Minimise a smooth staged problem in its decisions alone: a descent, then Newton's method.

Where the problem has the form of `gauss_newton`, a quasi-Newton descent begins and that one goes
on, until its matrix is a metric in which a quasi-Newton descent meets the tolerance.

Elsewhere a descent by gradients is the cheaper way far from a minimum; near it a few exact second-
order steps in a trust region are. Neither knows when the other is due, so they take turns: Newton's
method goes on as long as each step shrinks the gradient, and hands back to the descent, for a
longer turn each time, when it does not.

Where members are many, the problem is first solved for a part of them, which leads close to the
minimum, and to a metric there, at a small share of the cost.

Source: Nocedal and Wright, Numerical Optimization, 2nd ed. (2006), chapters 4 and 7.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from ocp.condensing import Linearization, Multipliers, adjoint, linearize, reduced_gradient
from ocp.deadline import NEVER, Deadline
from ocp.descent import QuasiNewton
from ocp.gauss_newton import GaussNewton
from ocp.interrupt import Request, interruptible
from ocp.nlp import Iteration, NLPResult, Progress, Status
from ocp.reduced import Reduced
from ocp.stages import Array
from ocp.subsample import subsample
from ocp.trajectory import decision_bounds
from ocp.trust_region import Model, Step

NEAR = {20.0: 1e-3, 100.0: 1e-4, np.inf: 1e-6}  # gradient, relative to its terms, from which
# Newton's method takes over if one of its steps costs up to so many gradients
LEAST_TURN = 20  # iterations of the descent in its first turn
TURN = 3.0  # cost of the first turn, in units of a second-order step; each one is as long again
CONTRACTION = 0.3  # of the gradient, that a second-order step must reach to be followed by another
WARM = 1e-3  # gradient, relative, below which a start is near a minimum already
SAMPLE_RATIO = 8  # between the numbers of members of neighbouring levels
LEAST_SAMPLE = 100  # members in the first level, which has no fewer than there are decisions
FAR = 0.5  # gradient, relative, up to which a start is not led away from by a part of the members
METRIC_GRADIENTS = 100.0  # that the Hessian of a level may cost, to be the metric of the next one
SAMPLE_TOLERANCE = 1e-2  # of the levels before the last, whose minima are as far from that of all
ACCEPT, SHRINK, EXPAND = 1e-4, 0.25, 0.75  # ratios of actual to expected reduction
ROUNDING = 1e-14  # of the cost, relative
STALLED = 3  # second-order steps without progress before giving up
VALLEY_TURN = 10  # iterations of the quasi-Newton descent before that of `gauss_newton`
VALLEY_ENDS = (1e-2, 1e-3, 1e-4)  # gradients, relative, where the metric is tried for the rest
FINISH_TURN, FINISH_CONTRACTION = 5, 0.35  # iterations with it, and what they must do to gradients

Metric = Callable[[Array], Array]  # product with what is close to the inverse Hessian
MakeModel = Callable[[Linearization, tuple[Array, ...], Multipliers, NDArray[np.bool_]], Model]


@dataclass
class Effort:
    """What a minimisation took."""

    descent_iterations: int = 0
    newton_steps: int = 0

    @property
    def words(self) -> str:
        """In words."""
        return (
            f"{self.descent_iterations} iterations of the descent, "
            f"{self.newton_steps} second-order steps"
        )


@dataclass(frozen=True)
class Limits:
    """When to stop.

    Args:
        tolerance: of the gradient, relative to the terms that cancel in it.
        max_iterations: of both kinds together.
        deadline: looked at once per iteration.
    """

    tolerance: float = 1e-10
    max_iterations: int = 3000
    deadline: Deadline = NEVER


class Stop(Exception):
    """A limit was reached."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.value)
        self.status = status


@dataclass(frozen=True)
class Watch:
    """Reports iterations, and stops at the limits."""

    limits: Limits
    progress: Progress | None
    effort: Effort
    request: Request
    begin: float = field(default_factory=time.perf_counter)

    def check(self, cost: float, infeasibility: float = 0.0) -> None:
        """After an iteration.

        Raises:
            Stop: an interrupt, or a limit.
        """
        done = self.effort.descent_iterations + self.effort.newton_steps
        if self.progress is not None:
            self.progress(Iteration(done, cost, infeasibility))
        if self.request.is_pending:
            raise Stop(Status.INTERRUPTED)
        if done >= self.limits.max_iterations:
            raise Stop(Status.ITERATION_LIMIT)
        if self.limits.deadline.has_passed:
            raise Stop(Status.TIME_LIMIT)

    def result(self, decisions: Array, status: Status) -> NLPResult:
        """In the form of an optimiser's result, without multipliers."""
        empty = np.zeros(0)
        return NLPResult(
            status=status,
            backend_status=self.effort.words,
            point=decisions,
            multipliers=empty,
            bound_multipliers=empty,
            iterations=self.effort.descent_iterations + self.effort.newton_steps,
            build_seconds=0.0,
            solve_seconds=time.perf_counter() - self.begin,
        )


def minimize(
    reduced: Reduced,
    start: Array,
    model: MakeModel,
    step_gradients: float,
    limits: Limits = Limits(),
    progress: Progress | None = None,
    leave: bool = False,
) -> NLPResult:
    """Minimise from `start` within the bounds of the decisions, without regard to rows.

    Where a descent meets the tolerance no second derivative is looked at: a certificate has to.

    Args:
        reduced: a problem whose stages have neither rows nor local unknowns.
        start: decisions (u^0, ..., u^{K-1}, p).
        model: (linearisation, costates, multipliers, free decisions) -> curvature in those.
        step_gradients: how many gradients a second-order step is expected to cost. Counted, not
            timed, so that the same request takes the same way on every run.
        limits: tolerance, iterations and time.
        progress: called with every iteration.
        leave: begin with second-order steps, as the gradient does not lead away from a saddle.

    Returns:
        The decisions where it stopped, in the form of an optimiser's result without multipliers.
    """
    with interruptible() as request:
        watch = Watch(limits, progress, Effort(), request)
        run = _Run(reduced, start, model, step_gradients, watch)
        status = run.solve(limits.tolerance, leave)
    return watch.result(run.decisions, status)


def sample_sizes(members: int, decisions: int) -> list[int]:
    """Numbers of members of the levels, the last one being all."""
    sizes, least = [members], max(LEAST_SAMPLE, decisions)
    while sizes[0] >= SAMPLE_RATIO * least:
        sizes.insert(0, sizes[0] // SAMPLE_RATIO)
    return sizes


def _scaled(metric: Metric, share: float, vector: Array) -> Array:
    """Of all members, from a part of them."""
    return share * metric(vector)


@dataclass(eq=False)
class _Point:
    """Where Newton's method stands.

    Args:
        linearization: None once it is not needed any more; of many members it takes much memory.
        residual: largest component of the gradient in the free decisions, relative to `scale`.
        scale: size of the terms that cancel in the gradient.
        free: decisions that no bound holds.
    """

    decisions: Array
    linearization: Linearization | None
    costates: tuple[Array, ...]
    multipliers: Multipliers
    cost: float
    gradient: Array
    residual: float
    scale: float
    free: NDArray[np.bool_]


class _Run:
    """One minimisation, with the state that its two methods share."""

    def __init__(
        self, reduced: Reduced, start: Array, model: MakeModel, step_gradients: float, watch: Watch
    ) -> None:
        self.reduced, self.model, self.watch = reduced, model, watch
        self.effort = watch.effort
        self.lower, self.upper = decision_bounds(reduced.staged)
        self.is_bounded = bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())
        self.decisions = np.clip(start, self.lower, self.upper)
        self.step_gradients = step_gradients

    def solve(self, tolerance: float, leave: bool) -> Status:
        """All levels, the smallest first; why it ended."""
        everything = self.reduced
        sizes = sample_sizes(everything.staged.members, everything.size)
        try:
            start = self._descent()
            if not (np.isfinite(start.cost) and np.isfinite(start.gradient).all()):
                return Status.INVALID_NUMBER
            self.watch.check(start.cost)
            if leave and not self.is_bounded:
                return self._in_turns(tolerance, near=True)
            if len(sizes) == 1 or self._is_near(start, FAR):
                return self._level(start, tolerance, None)[0]
            metric = None
            order = np.random.default_rng(0).permutation(sizes[-1])
            for size, following in pairwise(sizes):
                part = subsample(everything.staged, np.sort(order[:size]))
                self.reduced = Reduced(part)
                _, found = self._level(self._descent(), SAMPLE_TOLERANCE, metric)
                found = self._inverse_hessian() or found
                metric = found and partial(_scaled, found, size / following)
            self.reduced = everything
            return self._level(self._descent(), tolerance, metric)[0]
        except Stop as stop:
            return stop.status

    def _descent(self) -> QuasiNewton:
        """A quasi-Newton descent at the decisions."""
        return QuasiNewton.start(self.reduced.cost_and_gradient, self.decisions)

    def _is_near(self, here: QuasiNewton, share: float = WARM) -> bool:
        """Whether a minimum is near, by the size of the gradient."""
        scale = self.reduced.gradient_scale(here.point, here.gradient)
        return bool(np.abs(here.gradient).max(initial=0.0) <= share * scale)

    def _level(
        self, here: QuasiNewton, tolerance: float, metric: Metric | None
    ) -> tuple[Status, Metric | None]:
        """Minimise; also what is close to the inverse Hessian where it ended, if that is known.

        Args:
            here: where it starts.
            tolerance: of the gradient, relative.
            metric: what is close to it from the start, by the level before.
        """
        if self.is_bounded:
            return self._with_bounds(tolerance), None
        if metric is not None and self._finish(here, metric, tolerance):
            return Status.SOLVED, metric
        near = self._is_near(here)
        if near or not GaussNewton.suits(self.reduced):
            return self._in_turns(tolerance, near), None
        try:
            for valley in self._through_valley(here):
                metric = valley.metric()
                descent = QuasiNewton(
                    self.reduced.cost_and_gradient, valley.point, valley.cost, valley.gradient
                )
                if self._finish(descent, metric, tolerance):
                    return Status.SOLVED, metric
                valley.moved(descent.point)
        except LinAlgError:  # of derivatives that are not finite
            return self._in_turns(tolerance, near=False), None
        return self._in_turns(tolerance, near=True), metric

    def _inverse_hessian(self) -> Metric | None:
        """Product with it, if it is a metric and costs little beside the next level."""
        if self.is_bounded or self.step_gradients > METRIC_GRADIENTS:
            return None
        here = self._point(self.decisions)
        assert here.linearization is not None
        model = self.model(here.linearization, here.costates, here.multipliers, here.free)
        return model.inverse()

    def _with_bounds(self, tolerance: float) -> Status:
        """By Newton's method alone."""
        found, settled = self._newton(self._point(self.decisions), tolerance, patient=True)
        while settled is None:
            found, settled = self._newton(found, tolerance, patient=True)
        return settled

    def _advance(self, descent: QuasiNewton | GaussNewton) -> bool:
        """One iteration of a descent; False if nothing lowers the cost."""
        if not descent.iterate():
            return False
        self.decisions = descent.point
        self.effort.descent_iterations += 1
        self.watch.check(descent.cost)
        return True

    def _through_valley(self, quasi: QuasiNewton) -> Iterator[GaussNewton]:
        """The descent of `gauss_newton`, after the beginning of a quasi-Newton one.

        It stops at points nearer and nearer to a minimum, for a trial of the metric there.
        """
        while quasi.iterations < VALLEY_TURN and self._advance(quasi):
            pass
        valley = GaussNewton(self.reduced, quasi.point)
        yield valley
        for end in VALLEY_ENDS:
            while valley.relative > end and self._advance(valley):
                pass
            yield valley

    def _finish(self, quasi: QuasiNewton, metric: Metric, tolerance: float) -> bool:
        """A quasi-Newton descent that begins with a good metric; whether it met the tolerance."""
        quasi.metric = metric
        goal = tolerance * self.reduced.gradient_scale(quasi.point, quasi.gradient)
        sizes = [float(np.abs(quasi.gradient).max())]
        while sizes[-1] > goal and self._advance(quasi):
            sizes.append(float(np.abs(quasi.gradient).max()))
            if (
                len(sizes) > FINISH_TURN
                and sizes[-1] > FINISH_CONTRACTION * sizes[-1 - FINISH_TURN]
            ):
                break
        return sizes[-1] <= goal

    def _in_turns(self, tolerance: float, near: bool) -> Status:
        """Turns of a quasi-Newton descent and of Newton's method, which begins near a minimum."""
        here = self._point(self.decisions)
        quasi = QuasiNewton(
            self.reduced.cost_and_gradient, here.decisions, here.cost, here.gradient
        )
        turn = TURN * self.step_gradients
        while True:
            if not near:
                here.linearization = None
                near = self._descend(quasi, turn, here.scale)
                turn *= 2.0
                here = self._point(quasi.point)
            here, settled = self._newton(here, tolerance, patient=near)
            if settled is not None:
                return settled
            near = False
            quasi.moved(here.decisions, here.cost, here.gradient)

    def _descend(self, quasi: QuasiNewton, turn: float, scale: float) -> bool:
        """One turn; whether it ended because a minimum is near, or nothing lowers the cost."""
        first, evaluations = quasi.iterations, quasi.evaluations
        target = next(near for limit, near in NEAR.items() if self.step_gradients <= limit)
        while self._advance(quasi):
            if np.abs(quasi.gradient).max() <= target * scale:
                return True
            spent = quasi.evaluations - evaluations
            if spent > turn and quasi.iterations - first >= LEAST_TURN:
                return False
        return True

    def _point(self, decisions: Array) -> _Point:
        """The problem linearised at a point."""
        linearization = linearize(self.reduced.staged, self.reduced.trajectory(decisions))
        blocks = (*linearization.stages, *linearization.shared)
        multipliers = tuple(np.zeros_like(values.rows) for values in blocks)
        costates = adjoint(linearization, multipliers)
        gradient = reduced_gradient(linearization, costates, multipliers)
        held = (decisions <= self.lower) & (gradient.value > 0)
        held |= (decisions >= self.upper) & (gradient.value < 0)
        terms = float(gradient.terms.max(initial=0.0))
        scale = max(terms, self.reduced.gradient_scale(decisions, gradient.value))
        largest = float(np.abs(gradient.value[~held]).max(initial=0.0))
        return _Point(
            decisions,
            linearization,
            costates,
            multipliers,
            linearization.objective,
            gradient.value,
            largest / scale,
            scale,
            ~held,
        )

    def _newton(
        self, here: _Point, tolerance: float, patient: bool
    ) -> tuple[_Point, Status | None]:
        """Second-order steps for as long as they pay; a status if there is no more to do.

        Impatient, it leaves where the curvature is not positive or a step does not contract the
        gradient; a patient one goes on until it is far from the minimum again.
        """
        radius = max(1.0, float(np.linalg.norm(here.decisions)))
        entered, stalled, was_convex = here.residual, 0, False
        while True:
            if here.residual <= tolerance and was_convex:
                return here, Status.SOLVED
            assert here.linearization is not None
            curvature = self.model(here.linearization, here.costates, here.multipliers, here.free)
            if here.residual <= tolerance and (not here.free.any() or curvature.is_positive()):
                return here, Status.SOLVED
            step = curvature.step(here.gradient[here.free], radius, not patient)
            if step is None:
                return here, None
            self.effort.newton_steps += 1
            point, expected = self._moved(here, curvature, step)
            del curvature
            cost = self.reduced.cost(point)
            noise = ROUNDING * max(abs(here.cost), np.finfo(float).tiny)
            ratio = (here.cost - cost + noise) / (expected + noise)
            length = float(np.linalg.norm(step.step))
            before = here.residual
            accepted = bool(np.isfinite(cost)) and expected > -noise and ratio > ACCEPT
            if accepted:
                here.linearization = None
                here = self._point(point)
                self.decisions, was_convex = point, step.is_convex
            self.watch.check(here.cost)
            stalled = 0 if accepted and here.residual <= CONTRACTION * before else stalled + 1
            if here.residual <= tolerance and accepted:
                continue
            if not accepted or ratio < SHRINK:
                radius = SHRINK * length
            elif ratio > EXPAND:
                radius = max(radius, 2.0 * length)
            if (stalled > STALLED and step.reduction <= noise) or radius <= 1e-15 * length:
                return here, Status.INACCURATE
            if self.is_bounded:
                continue
            if (stalled and not patient) or here.residual > max(100.0 * entered, WARM):
                return here, None

    def _moved(self, here: _Point, curvature: Model, step: Step) -> tuple[Array, float]:
        """The point that a step leads to, within the bounds, and the reduction expected there."""
        point = here.decisions.copy()
        point[here.free] += step.step
        if not self.is_bounded:
            return point, step.reduction
        point = np.clip(point, self.lower, self.upper)
        moved = (point - here.decisions)[here.free]
        model = here.gradient[here.free] @ moved + 0.5 * moved @ curvature.product(moved)
        return point, -float(model)
