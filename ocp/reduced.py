"""Cost and gradient in the decisions alone, by one sweep forwards and one backwards.

    x_i^{k+1} = Phi_k(x_i^k, u^k, p),        J = sum_i sum_k l_k + shared terms
    (lambda_i^k, dJ_i/du^k, dJ_i/dp) = (d/d(x, u, p)) [l_k + lambda_i^{k+1} . Phi_k]

No Jacobian is formed: each stage is called once forwards, and once as the product of its Jacobian
with the costates. This is what a descent needs; `condensing` has the derivatives that a second-
order step and the certificate need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ocp.affine import NO_COST, AffineStage
from ocp.chain import Chain
from ocp.stages import Array, Rows, SharedTerm, StagedProblem, StageFunction
from ocp.trajectory import Trajectory, split_decisions
from ocp.vectorize import CALL_NS, LOOP_NS, Vectorized

CHAIN_MEMBERS = 150  # up to so many members, CasADi's loop is the faster one
POINTWISE_NS, CHAIN_NS = 22_000.0, 8.0  # measured: a stage backwards with others, an operation
AFFINE_NS = 8000.0  # of the calls for a stage by matrix products, beside its operations
SHORTEST_CHAIN = 4  # stages
TOGETHER = 50_000  # features of all members of the stages that are swept back together
MEMBER_BLOCK = 16_384  # members that walk through all stages together, so that memory is bounded


@dataclass(frozen=True, eq=False)
class Sweep:
    """A stage function with its unknowns apart, for sweeps over the stages.

    Args:
        step: (x, u, p, data, constants) -> (successor, cost).
        pull: (x, u, p, data, constants, costate) -> derivatives of cost + costate . successor in
            x, and in (u, p).
        affine: the same by matrix products, if the stage is affine in its control.
    """

    step: Vectorized
    pull: Vectorized
    affine: AffineStage | None

    @classmethod
    def of(cls, function: StageFunction, n: int, m: int, data: int) -> Sweep:
        """For a state of size n, a control of size m and so many data of a member."""
        given = function.function.size1_in(1)
        parts = {"x": n, "u": m, "p": function.size - n - m, "d": data, "c": given - data}
        symbols = [ca.SX.sym(name, size) for name, size in parts.items()]
        x, u, p, d, c = symbols
        successor, cost, _, _ = function.function(ca.vertcat(x, u, p), ca.vertcat(d, c))
        costate = ca.SX.sym("costate", function.successor_size)
        total = cost + ca.dot(costate, successor)
        decisions = ca.vertcat(u, p)
        slopes = ca.gradient(total, ca.vertcat(x, decisions))
        pulled = [ca.densify(part) for part in (slopes[:n], slopes[n:])]
        step = ca.Function("step", symbols, [ca.densify(successor), ca.densify(cost)])
        return cls(
            Vectorized(step),
            Vectorized(ca.Function("pull", [*symbols, costate], pulled)),
            AffineStage.of(step) if m else None,
        )

    def is_best_affine(self, members: int) -> bool:
        """Whether matrix products are expected to be faster than loops over the operations."""
        if self.affine is None:
            return False
        operations = sum(f.function.n_instructions() for f in (self.step, self.pull))
        if members > CHAIN_MEMBERS:
            return self.affine.operations < operations
        if self.affine.pointwise is not None:
            calls = CALL_NS * self.affine.forward.function.n_instructions()
            return POINTWISE_NS + calls < CHAIN_NS * operations * members
        products = AFFINE_NS + CALL_NS * self.affine.operations
        return products < LOOP_NS * operations * members


@dataclass(frozen=True, eq=False)
class Path:
    """Where some decisions lead.

    Args:
        decisions: (u^0, ..., u^{K-1}, p).
        states: of all stages, each (n_k, N).
        features: of the stages by matrix products, what a sweep backwards needs.
        cost: total.
    """

    decisions: Array
    states: list[Array]
    features: dict[int, tuple]
    cost: float


@dataclass(frozen=True, eq=False)
class Reduced:
    """A staged problem as a function of its decisions.

    Soft and hard rows, and bounds, do not count here; stages without local unknowns only.

    Args:
        staged: the problem.
    """

    staged: StagedProblem
    _sweeps: dict[int, Sweep] = field(default_factory=dict, repr=False)

    def _sweep(self, k: int) -> Sweep:
        stage = self.staged.stages[k]
        key = id(stage.function)
        if key not in self._sweeps:
            data = self.staged.data.shape[1]
            self._sweeps[key] = Sweep.of(stage.function, stage.state_size, stage.control_size, data)
        return self._sweeps[key]

    @cached_property
    def _data(self) -> Array:
        return np.ascontiguousarray(self.staged.data.T)

    @cached_property
    def _constants(self) -> list[Array]:
        return [stage.constants[:, None] for stage in self.staged.stages]

    @cached_property
    def shared(self) -> list[tuple[StageFunction, NDArray[np.intp], Array]]:
        """Functions of shared terms, positions (nv, M) of their unknowns, constants (ng, M)."""
        groups: dict[int, list[SharedTerm]] = {}
        for term in self.staged.shared:
            groups.setdefault(id(term.function), []).append(term)
        return [
            (
                terms[0].function,
                np.column_stack([self.staged.shared_index(term) for term in terms]),
                np.column_stack([term.constants for term in terms]),
            )
            for terms in groups.values()
        ]

    @property
    def size(self) -> int:
        """Number of decisions."""
        return self.staged.decision_size

    def with_sweeps_of(self, other: Reduced) -> Reduced:
        """The same problem, with the functions of another one that has the same stages."""
        return replace(self, _sweeps=other._sweeps)

    def _blocks(self) -> list[slice]:
        starts = range(0, self.staged.members, MEMBER_BLOCK)
        return [slice(s, min(s + MEMBER_BLOCK, self.staged.members)) for s in starts]

    @cached_property
    def _parts(self) -> list[tuple[int, int, Chain | None]]:
        """Stages start, ..., stop - 1 and the chain that runs them, if members are few."""
        staged = self.staged
        if staged.members > CHAIN_MEMBERS:
            return [(k, k + 1, None) for k in range(len(staged.stages))]
        parts: list[tuple[int, int, Chain | None]] = []
        keys = [(id(stage.function), stage.state_size) for stage in staged.stages]
        for _, group in groupby(range(len(staged.stages)), lambda k: keys[k]):
            stages = list(group)
            sweep = self._sweep(stages[0])
            size = sweep.step.function.size1_out(0)
            is_short = len(stages) < SHORTEST_CHAIN or sweep.is_best_affine(staged.members)
            if is_short or size != staged.stages[stages[0]].state_size:
                parts += [(k, k + 1, None) for k in stages]
                continue
            constants = np.array([staged.stages[k].constants for k in stages])
            chain = Chain(sweep.step.function, sweep.pull.function, staged.data, constants)
            parts.append((stages[0], stages[-1] + 1, chain))
        return parts

    def _arguments(self, k: int, decisions: Array, members: slice) -> list[Array]:
        """(u, p, data, constants) of stage k, all but the state."""
        column = decisions[:, None]
        control, parameters = self.staged.control_slices[k], self.staged.parameter_slice
        return [column[control], column[parameters], self._data[:, members], self._constants[k]]

    def _controls(self, start: int, stop: int, decisions: Array) -> Array:
        """Controls of neighbouring stages of one size, (stages, m)."""
        slices = self.staged.control_slices
        return decisions[slices[start].start : slices[stop - 1].stop].reshape(stop - start, -1)

    @cached_property
    def _affine(self) -> list[AffineStage | None]:
        """Of every stage its form by matrix products, where that is the fastest."""
        sweeps = [self._sweep(k) for k in range(len(self.staged.stages))]
        return [s.affine if s.is_best_affine(self.staged.members) else None for s in sweeps]

    def path(self, decisions: Array) -> Path:
        """The states that the decisions lead to, of all members at once, for `pull_back`."""
        features: dict[int, tuple] = {}
        states, cost = self._forward(decisions, slice(None), features)
        return Path(decisions, states, features, cost + self._shared_cost(decisions))

    def pull_back(self, path: Path, slopes: Array) -> Array:
        """Derivatives in the decisions of functions of each member's last state and of p.

        Only for stages whose costs depend on nothing, so that costates are all there is.

        Args:
            path: where.
            slopes: (n + p, c, N), derivatives of c functions of every member.

        Returns:
            (decisions, c, N).
        """
        staged = self.staged
        _, several, members = slopes.shape
        n = staged.stages[-1].state_size
        result = np.zeros((self.size, several, members))
        result[staged.parameter_slice] = slopes[n:]
        costate = np.ascontiguousarray(slopes[:n]).reshape(n, -1)
        stop = staged.intervals
        while stop:
            last = stop - 1
            affine = path.features[last][0] if last in path.features else None
            if affine is not None and affine.pointwise is not None:
                start = self._first_alike(last, path.features)
                phi, after, costate = self._costates_alike(
                    start, stop, path.states, path.features, costate
                )
                own = affine.member_slopes(phi, after)
                rows = slice(staged.control_slices[start].start, staged.control_slices[last].stop)
                result[rows] = own.reshape(-1, several, members)
                stop = start
                continue
            control, parameters, data, constants = self._arguments(
                last, path.decisions, slice(None)
            )
            state, data = np.tile(path.states[last], several), np.tile(data, several)
            costate, own = self._sweep(last).pull(
                state, control, parameters, data, constants, costate
            )
            own, m = own.reshape(-1, several, members), staged.stages[last].control_size
            result[staged.control_slices[last]] = own[:m]
            result[staged.parameter_slice] += own[m:]
            stop = last
        return result

    def _forward(
        self, decisions: Array, members: slice, features: dict[int, tuple] | None = None
    ) -> tuple[list[Array], float]:
        """States of all stages, each (n_k, members), and the cost of these members.

        Features and weights of stages by matrix products are put into `features`.
        """
        states, cost = [np.ascontiguousarray(self.staged.initial_state[members].T)], 0.0
        parameters = decisions[self.staged.parameter_slice]
        for start, stop, chain in self._parts:
            if chain is not None:
                controls = self._controls(start, stop, decisions)
                after, spent = chain.states(states[-1].T, controls, parameters)
                states += list(after.copy().transpose(0, 2, 1))
                cost += spent
                continue
            arguments = self._arguments(start, decisions, members)
            affine = self._affine[start]
            if affine is not None:
                control, _, data, constants = arguments
                weights = affine.weights(control[:, 0])
                successor, phi, running = affine.step(states[start], weights, data, constants)
                if features is not None:
                    features[start] = (affine, phi, weights, data, constants)
            else:
                successor, running = self._sweep(start).step(states[start], *arguments)
            if running is not NO_COST:
                cost += float(running.sum())
            if start < self.staged.intervals:
                states.append(successor)
        return states, cost

    def cost(self, decisions: Array) -> float:
        """Total cost."""
        total = sum(self._forward(decisions, members)[1] for members in self._blocks())
        return total + self._shared_cost(decisions)

    def _shared_cost(self, decisions: Array) -> float:
        values = [f.values(decisions[index], g)[1] for f, index, g in self.shared]
        return float(sum(cost.sum() for cost in values))

    def trajectory(self, decisions: Array) -> Trajectory:
        """The states that the decisions lead to."""
        parts = [self._forward(decisions, members)[0] for members in self._blocks()]
        states = tuple(
            np.concatenate([part[k].T for part in parts]) for k in range(len(self.staged.stages))
        )
        return Trajectory(states, *split_decisions(self.staged, decisions), self.staged.times)

    def cost_and_gradient(self, decisions: Array) -> tuple[float, Array]:
        """Total cost and its gradient in (u^0, ..., u^{K-1}, p)."""
        staged, gradient, total = self.staged, np.zeros(self.size), 0.0
        parameters = decisions[staged.parameter_slice]
        for members in self._blocks():
            features: dict[int, tuple] = {}
            states, cost = self._forward(decisions, members, features)
            total += cost
            costate = np.zeros((0, states[0].shape[1]))
            first = len(staged.stages)  # of the stages that are done
            for start, stop, chain in reversed(self._parts):
                if start >= first:
                    continue
                first = start
                if chain is not None:
                    controls = self._controls(start, stop, decisions)
                    before = np.stack([x.T for x in states[start:stop]])
                    after, slopes = chain.costates(before, controls, parameters, costate.T)
                    costate, m = after.T.copy(), controls.shape[1]
                    own = self._controls(start, stop, gradient)
                    own += slopes[:, :m]
                    gradient[staged.parameter_slice] += slopes[:, m:].sum(axis=0)
                    continue
                m = staged.stages[start].control_size
                if start in features:
                    affine, *known = features[start]
                    if affine.pointwise is not None:
                        first = self._first_alike(start, features)
                    if first < start:
                        costate, sums = self._pull_alike(first, stop, states, features, costate)
                        own = self._controls(first, stop, gradient)
                        own += sums
                        continue
                    costate, sums = affine.pull(states[start], *known, costate)
                    gradient[staged.control_slices[start]] += sums
                    continue
                arguments = self._arguments(start, decisions, members)
                costate, slopes = self._sweep(start).pull(states[start], *arguments, costate)
                sums = slopes.sum(axis=1)
                gradient[staged.control_slices[start]] += sums[:m]
                gradient[staged.parameter_slice] += sums[m:]
        self.add_shared_gradient(gradient, decisions)
        return total + self._shared_cost(decisions), gradient

    def add_shared_gradient(self, gradient: Array, decisions: Array) -> None:
        """Add the derivatives of the shared terms."""
        for function, index, constants in self.shared:
            slopes = function.derivatives(decisions[index], constants)[1]
            np.add.at(gradient, index, slopes.T)

    @staticmethod
    def _first_alike(last: int, features: dict[int, tuple]) -> int:
        """First of the stages up to `last` that are swept together: of one form, in the cache."""
        affine, phi = features[last][:2]
        most, first = TOGETHER // max(phi.size, 1), last
        while last - first + 1 < most and first - 1 in features:
            if features[first - 1][0] is not affine:
                break
            first -= 1
        return first

    @staticmethod
    def _pull_alike(
        start: int, stop: int, states: list[Array], features: dict[int, tuple], costate: Array
    ) -> tuple[Array, Array]:
        """Costate before stage `start` and slopes in the controls, (stop - start, m)."""
        affine = features[start][0]
        phi, after, before = Reduced._costates_alike(start, stop, states, features, costate)
        return before, affine.control_slopes(phi, after)

    @staticmethod
    def _costates_alike(
        start: int, stop: int, states: list[Array], features: dict[int, tuple], costate: Array
    ) -> tuple[Array, Array, Array]:
        """Features of the stages and costates after each of them, and the costate before `start`.

        The costates may be several of all members, (n, c N).
        """
        affine, _, _, data, _ = features[start]
        known = [features[k] for k in range(start, stop)]
        before, after = affine.pointwise.pull(
            np.stack(states[start:stop]),
            np.stack([weights for _, _, weights, _, _ in known]),
            data,
            np.hstack([constants for *_, constants in known]).T,
            costate,
        )
        return np.stack([phi for _, phi, *_ in known]), after, before


def subsample(staged: StagedProblem, members: Sequence[int] | Array) -> StagedProblem:
    """The problem of some of its members, in units of their share of all.

    Shared terms are scaled by (number of these members) / (number of all), so that the optimum is
    near that of all members if these represent them.
    """
    chosen = np.asarray(members, dtype=int)
    share = chosen.size / staged.members
    functions: dict[int, StageFunction] = {}
    terms = []
    for term in staged.shared:
        key = id(term.function)
        if key not in functions:
            functions[key] = _scaled(term.function, share)
        rows = Rows(term.rows.names, term.rows.lower, term.rows.upper, share * term.rows.weight)
        terms.append(replace(term, function=functions[key], rows=rows))
    return replace(
        staged,
        shared=tuple(terms),
        initial_state=staged.initial_state[chosen],
        data=staged.data[chosen],
    )


def _scaled(function: StageFunction, factor: float) -> StageFunction:
    """The same function with its cost times a factor."""
    f = function.function
    v, g = ca.SX.sym("v", f.size1_in(0)), ca.SX.sym("g", f.size1_in(1))
    successor, cost, rows, equations = f(v, g)
    scaled = [ca.densify(e) for e in (successor, factor * cost, rows, equations)]
    return StageFunction(ca.Function(f.name(), [v, g], scaled), function.local)
