"""Where a solution meets the jumps and kinks of its problem.

A switching function g is followed along every step, between the nodes as well: the trajectory meets
g = 0 where g changes sign or comes to touch zero. A function of the controls alone jumps with them
from one interval to the next without passing zero, so it counts at the points of the scheme.

Whether an expression E jumps at a point with g = 0 is read off its values on both sides,

    |E(z + d n) - E(z - d n)|,    n = grad g / |grad g|,

which go to zero with d if it only bends. At a kink of the controls the derivative that CasADi takes
lies between those of the two sides; a minimum needs a Hamiltonian that rises to both,

    H(u + d n) + H(u - d n) - 2 H(u) >= 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import casadi as ca
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ocp.continuous import ContinuousSolution
from ocp.nonsmooth import Break
from ocp.reintegration import interpolate_rows
from ocp.stages import Array

SAMPLES = 17  # points of a step at which switching functions are looked at
TOUCHES = 1e-6  # of the size of g, at which it counts as zero
NEARBY = 1e-2  # of the size of g, within which an optimiser that fails may do so for its sake
PROMISING = 0.1  # of the size of g, below which a minimum of |g| between samples is looked for
MOST_REFINED = 20  # minima of |g| that are looked for
SHIFTS = (1e-6, 1e-8)  # relative distances from g = 0 at which both sides are compared
SAME = 1e-9  # of the horizon, or of an expression's size: what is no difference
EXACT = 1e-14  # of g where the search began: as near to g = 0 as rounding allows
PROJECTIONS = 30  # Newton steps to g = 0
SHARP = 1e-5  # relative change of a control, over which a kink shows and curvature does not
FALLS = 1e-2  # share of the changes of H on both sides, by which their sum must be negative
TINY = np.finfo(float).tiny
PROJECTED = 5  # points of a path from which g = 0 is looked for


@dataclass(frozen=True)
class Meeting:
    """How a trajectory and g = 0 come together.

    Args:
        times: where they meet; empty if they do not.
        nearest: the time at which |g| is least.
        is_near: whether they meet, or nearly so.
        is_jump: whether the expression jumps at g = 0.
    """

    times: tuple[float, ...]
    nearest: float
    is_near: bool
    is_jump: bool


@dataclass(frozen=True, eq=False)
class Points:
    """Points of a trajectory: times (Q,), states (Q, N, n) and controls (Q, m)."""

    times: Array
    states: Array
    controls: Array

    def __getitem__(self, index: NDArray[np.intp]) -> Points:
        return Points(self.times[index], self.states[index], self.controls[index])


def _joined(runs: list[Points]) -> Points:
    parts = ([getattr(run, name) for run in runs] for name in ("times", "states", "controls"))
    return Points(*(np.concatenate(part) for part in parts))


class Switching:
    """One jump or kink of a problem along one of its solutions."""

    def __init__(self, solution: ContinuousSolution, item: Break) -> None:
        problem = solution.problem
        self._solution, self._item, self._problem = solution, item, problem
        self._functions: dict[int, ca.Function] = {}  # of expressions that live as long as this
        self._variables = [problem.state, problem.control, problem.parameter, problem.time]
        self._gradient = [ca.jacobian(item.switch, v) for v in self._variables]
        scaling = solution.scaling.of(problem)
        parts = (scaling.state, scaling.control, scaling.parameter)
        self._sizes = [*(np.asarray(p, dtype=float) for p in parts), np.array([solution.horizon])]

    def depends_on(self, symbols: ca.SX) -> bool:
        """Whether the switching function does."""
        return bool(symbols.numel()) and bool(ca.depends_on(self._item.switch, symbols))

    @property
    def is_of_time_alone(self) -> bool:
        """Whether the times at which it switches are known beforehand."""
        problem = self._problem
        rest = ca.vertcat(problem.state, problem.control, problem.parameter, problem.data)
        rest = ca.vertcat(rest, problem.initial)
        return self._item.place == "path" and not self.depends_on(rest)

    def meeting(self) -> Meeting:
        """Follow the switching function along the solution."""
        moves = self.depends_on(ca.vertcat(self._problem.state, self._problem.time))
        runs = self._runs(moves)
        values = [self._switch(run) for run in runs]
        size = max(self._size(runs), *(float(np.abs(v).max(initial=0.0)) for v in values))
        times: list[float] = []
        for run, value in zip(runs, values, strict=True):
            inner = self._is_inner(run.times)
            for member in value.T:
                zero = np.abs(member) <= TOUCHES * size
                times += run.times[zero & inner].tolist()
                if moves:
                    times += self._crossings(run, member, zero)
        if moves and not times and self._item.place == "path":
            times = self._touching(runs, values, size)
        least = [float(np.abs(v).min(initial=np.inf)) for v in values]
        best = int(np.argmin(least))
        where = int(np.argmin(np.abs(values[best]).min(axis=1)))
        is_near = bool(times) or least[best] <= NEARBY * size or self._changes_sign(values)
        points = self._closest(runs, values)
        if times and moves:
            points = self._at(sorted(times)[:PROJECTED])
        is_jump = self._item.can_jump and any(
            self._jumps(points[np.array([k])]) for k in range(points.times.size)
        )
        return Meeting(tuple(sorted(times)), float(runs[best].times[where]), is_near, is_jump)

    def where_the_cost_falls(self) -> float | None:
        """A time at which the controls sit at a kink from which the cost falls, or None."""
        problem = self._problem
        elsewhere = ca.vertcat(problem.state, problem.parameter, problem.time)
        rows = [c.expression for c in (*problem.path_constraints, *problem.control_constraints)]
        is_held = bool(ca.depends_on(ca.vertcat(*rows, ca.SX(0)), problem.control))
        if self._item.place != "path" or self.depends_on(elsewhere) or is_held:
            return None
        runs = self._runs(moves=False)
        everything = _joined(runs)
        size = max(self._size(runs), float(np.abs(self._switch(everything)).max()))
        sits = np.flatnonzero((np.abs(self._switch(everything)) <= TOUCHES * size).any(axis=1))
        if not sits.size:
            return None
        points = everything[sits]
        slope = self._evaluate(self._gradient[1], points)[:, 0] * self._sizes[1] ** 2
        length = np.maximum(np.linalg.norm(slope / self._sizes[1], axis=1, keepdims=True), TINY)
        move = SHARP * slope / length
        lower, upper = (np.asarray(b, dtype=float) for b in problem.control_bounds)
        here = self._hamiltonian(points, points.controls)
        changes = []
        for way in (points.controls + move, points.controls - move):
            is_inside = ((lower <= way) & (way <= upper)).all(axis=1)
            changes.append(np.where(is_inside, self._hamiltonian(points, way) - here, np.inf))
        bend = changes[0] + changes[1]
        falls = bend < -FALLS * np.abs(changes).sum(axis=0)
        falls &= bend < -SHARP * SAME**0.5 * (1.0 + np.abs(here))
        return float(points.times[np.argmax(falls)]) if falls.any() else None

    def _hamiltonian(self, points: Points, controls: Array) -> Array:
        """(Q,) of all members, to be minimised."""
        problem, found = self._problem, self._solution
        costates = np.stack(found.certificate.costates)
        costate = interpolate_rows(found.times, costates, points.times)
        there = replace(points, controls=controls)
        parts = (problem.dynamics, problem.running_cost, problem.control_cost)
        rate, running, own = (self._evaluate(part, there) for part in parts)
        total = (costate * rate).sum(axis=(1, 2)) + running.sum(axis=(1, 2)) + own[:, 0, 0]
        return -total if problem.maximize else total

    def _runs(self, moves: bool) -> list[Points]:
        """Points of the solution, in runs along which controls do not jump.

        Args:
            moves: whether to look between the points of the scheme.
        """
        path, place = self._solution.path, self._item.place
        if place in ("end", "parameters") or not isinstance(place, str):
            return [self._at([path.horizon[1] if isinstance(place, str) else float(place)])]
        runs = []
        for g, position in path.order:
            group = path.groups[g]
            theta = np.linspace(0.0, 1.0, SAMPLES) if moves else group.tableau.c
            step = np.full(theta.size, position)
            runs.append(
                Points(
                    group.start[position] + theta * group.length[position],
                    group.states(step, theta) if moves else group.points[position],
                    group.controls_at(step, theta) if moves else group.controls[position],
                )
            )
        whole = moves and not self.depends_on(self._problem.control)
        if not whole:
            return runs
        return [_joined(runs)]

    def _at(self, times: list[float]) -> Points:
        where = np.array(times)
        path = self._solution.path
        return Points(where, path.state(where), path.control(where))

    def _closest(self, runs: list[Points], values: list[Array]) -> Points:
        """A few points of least |g|."""
        least = np.concatenate([np.abs(v).min(axis=1) for v in values])
        return _joined(runs)[np.argsort(least, kind="stable")[:PROJECTED]]

    def _is_inner(self, times: Array) -> np.ndarray:
        """Not at an end of the horizon, from which a path may leave to one side."""
        if self._item.place != "path":
            return np.ones(times.size, dtype=bool)
        first, last = self._solution.path.horizon
        slack = SAME * (last - first)
        return (times > first + slack) & (times < last - slack)

    @staticmethod
    def _crossings(run: Points, member: Array, zero: np.ndarray) -> list[float]:
        """Where g changes sign between neighbouring samples, by the secant."""
        change = (member[:-1] * member[1:] < 0) & ~zero[:-1] & ~zero[1:]
        k = np.flatnonzero(change)
        share = member[k] / (member[k] - member[k + 1])
        return list((run.times[k] + share * (run.times[k + 1] - run.times[k])).tolist())

    def _touching(self, runs: list[Points], values: list[Array], size: float) -> list[float]:
        """Where |g| comes down to zero between the samples without changing sign."""
        found: list[float] = []
        for run, value in zip(runs, values, strict=True):
            least = np.abs(value).min(axis=1)
            dips = np.flatnonzero(
                (least[1:-1] <= least[:-2])
                & (least[1:-1] <= least[2:])
                & (least[1:-1] <= PROMISING * size)
            )
            for k in dips[np.argsort(least[dips + 1])][:MOST_REFINED] + 1:
                ends = (float(run.times[k - 1]), float(run.times[k + 1]))
                if ends[0] == ends[1]:
                    continue

                def distance(time: float) -> float:
                    return float(np.abs(self._switch(self._at([time]))).min())

                lowest = minimize_scalar(
                    distance, bounds=ends, method="bounded", options={"xatol": SAME}
                )
                if lowest.fun <= TOUCHES * size:
                    found.append(float(lowest.x))
        return found

    @staticmethod
    def _changes_sign(values: list[Array]) -> bool:
        """Anywhere on the whole path, jumps of controls included."""
        everything = np.concatenate([v.ravel() for v in values])
        return bool(everything.min() < 0 < everything.max())

    def _size(self, runs: list[Points]) -> float:
        """What g changes by where the variables change by their sizes."""
        changes = [0.0]
        for points in (runs[0], runs[len(runs) // 2], runs[-1]):
            slopes = [self._evaluate(g, points) for g in self._gradient]
            changes += [
                float(np.abs(s * size).max(initial=0.0))
                for s, size in zip(slopes, self._sizes, strict=True)
            ]
        return max(c for c in changes if np.isfinite(c))

    def _switch(self, points: Points) -> Array:
        """(Q, N)."""
        return self._evaluate(self._item.switch, points)[:, :, 0]

    def _evaluate(
        self, expression: ca.SX, points: Points, moved: list[Array] | None = None
    ) -> Array:
        """(Q, N, rows); `moved` are changes of states, controls, parameters and time."""
        problem = self._problem
        count, members, n = points.states.shape
        columns = count * members
        initial = self._solution.trajectory.states[0]
        start = (
            np.tile(initial.T, (1, count)) if problem.initial.numel() else np.zeros((0, columns))
        )
        values = [
            points.states.reshape(columns, n).T,
            np.repeat(points.controls, members, axis=0).T,
            np.tile(self._solution.trajectory.parameters[:, None], (1, columns)),
            np.repeat(points.times, members)[None],
        ]
        if moved is not None:
            values = [v + m for v, m in zip(values, moved, strict=True)]
        arguments = [*self._variables, problem.data, problem.initial]
        data = np.asarray(problem.member_data, dtype=float)
        key = id(expression)
        if key not in self._functions:
            column = ca.densify(ca.vec(ca.SX(expression)))
            self._functions[key] = ca.Function("break", arguments, [column])
        found = self._functions[key].map(columns)(*values, np.tile(data.T, (1, count)), start)
        return np.asarray(found.full().T.reshape(count, members, -1))

    def _jumps(self, point: Points) -> bool:
        """Whether the expression jumps at the zero of g that is nearest to a point."""
        members = point.states.shape[1]
        moved = [np.zeros((size.size, members)) for size in self._sizes]
        first = self._evaluate(self._item.switch, point).reshape(members)
        for _ in range(PROJECTIONS):
            value = self._evaluate(self._item.switch, point, moved).reshape(members)
            if (np.abs(value) <= EXACT * (1.0 + np.abs(first))).all():
                break
            normal, steepness = self._normal(point, moved)
            if not (np.isfinite(steepness).all() and (steepness > 0).all()):
                return True  # no direction leads across: nothing speaks against a jump
            moved = [m - n * value / steepness for m, n in zip(moved, normal, strict=True)]
        normal, steepness = self._normal(point, moved)
        if not (np.isfinite(steepness).all() and (steepness > 0).all()):
            return True

        def side(shift: float) -> Array:
            there = [m + shift * n for m, n in zip(moved, normal, strict=True)]
            return self._evaluate(self._item.expression, point, there)

        wide, narrow = (np.nan_to_num(np.abs(side(d) - side(-d)), nan=np.inf) for d in SHIFTS)
        middle = np.abs(side(0.0) - side(SHIFTS[1]))
        size = 1.0 + np.abs(side(SHIFTS[0]))
        differs = (narrow > wide / 2) & (narrow > SAME * size)
        differs |= np.nan_to_num(middle) > np.maximum(10 * wide, np.sqrt(SAME) * size)
        return bool(differs.any())

    def _normal(self, point: Points, moved: list[Array]) -> tuple[list[Array], Array]:
        """Moves (size, N) of relative size 1 up the slope of g, and what they change g by, (N,)."""
        members = point.states.shape[1]
        slopes = [
            self._evaluate(g, point, moved).reshape(members, -1).T * size[:, None]
            for g, size in zip(self._gradient, self._sizes, strict=True)
        ]
        steepness = np.sqrt(sum((s**2).sum(axis=0) for s in slopes))
        with np.errstate(all="ignore"):
            normal = [
                s * size[:, None] / steepness for s, size in zip(slopes, self._sizes, strict=True)
            ]
        return normal, np.asarray(steepness)
