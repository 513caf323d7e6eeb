"""Cost and gradient in the decisions alone, by one sweep forwards and one backwards.

    x_i^{k+1} = Phi_k(x_i^k, u^k, p),        J = sum_i sum_k l_k + shared terms
    (lambda_i^k, dJ_i/du^k, dJ_i/dp) = (d/d(x, u, p)) [l_k + lambda_i^{k+1} . Phi_k]

No Jacobian is formed: each stage is called once forwards, and once as the product of its Jacobian
with the costates. This is what a descent needs; `condensing` has the derivatives that a second-
order step and the certificate need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import casadi as ca
import numpy as np

from ocp.affine import NO_COST, AffineStage
from ocp.affine_chain import AffineChain
from ocp.chain import Chain
from ocp.shared_terms import SharedTerms
from ocp.stages import Array, StagedProblem, StageFunction
from ocp.trajectory import Trajectory, split_decisions
from ocp.vectorize import CALL_NS, LOOP_NS, Vectorized

CHAIN_MEMBERS = 150  # up to so many members, loops of CasADi are considered
IN_PLACE_NS, GROUP_NS = 1000.0, 300.0  # measured: a stage in place beside one in a loop, its groups
CHAIN_NS = 4.5  # measured: an operation of a member in CasADi's loop
AFFINE_NS = 8000.0  # of the calls for a stage by matrix products, beside its operations
SHORTEST_CHAIN = 4  # stages
MEMBER_BLOCK = 2048  # members that walk through all stages together, so that they stay in the cache
MOST_STATES = 1_000_000  # of the members that do so, in all layers


@dataclass(frozen=True, eq=False)
class Sweep:
    """A stage function with its unknowns apart, for sweeps over the stages.

    Args:
        step: (x, u, p, data, constants) -> (successor, cost).
        pull: (x, u, p, data, constants, costate) -> derivatives of cost + costate . successor in
            x, and in (u, p).
        end: of a stage without a successor, (x, u, p, data, constants) -> (cost, derivatives in x,
            and in (u, p)).
        affine: the same by matrix products, if the stage is affine in its control.
    """

    step: Vectorized
    pull: Vectorized
    end: Vectorized | None
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
        is_end = not function.successor_size
        step = ca.Function("step", symbols, [ca.densify(successor), ca.densify(cost)])
        return cls(
            Vectorized(step),
            Vectorized(ca.Function("pull", [*symbols, costate], pulled)),
            Vectorized(ca.Function("end", symbols, [cost, *pulled])) if is_end else None,
            AffineStage.of(step) if m else None,
        )

    def is_best_affine(self, members: int) -> bool:
        """Whether matrix products are expected to be faster than loops over the operations."""
        if self.affine is None:
            return False
        operations = sum(f.function.n_instructions() for f in (self.step, self.pull))
        if members > CHAIN_MEMBERS:
            return self.affine.operations < operations
        chain = self.affine.chain
        if chain is not None:
            groups = GROUP_NS * len(chain.program.steps)
            return IN_PLACE_NS + groups < CHAIN_NS * operations * members
        products = AFFINE_NS + CALL_NS * self.affine.operations
        return products < LOOP_NS * operations * members


@dataclass(frozen=True, eq=False)
class Run:
    """Neighbouring stages start, ..., stop - 1 that are run together.

    Args:
        start, stop: the stages.
        way: a chain that runs them all; or, of one stage, by matrix products, or None.
    """

    start: int
    stop: int
    way: AffineChain | Chain | AffineStage | None


@dataclass(frozen=True, eq=False)
class Reduced:
    """A staged problem as a function of its decisions.

    Soft and hard rows, and bounds, do not count here; stages without local unknowns only.

    Args:
        staged: the problem.
    """

    staged: StagedProblem
    _known_runs: dict[int, list[Run]] = field(default_factory=dict, init=False, repr=False)

    def _sweep(self, k: int) -> Sweep:
        stage, data = self.staged.stages[k], self.staged.data.shape[1]
        sizes = stage.state_size, stage.control_size, data
        return stage.function.kept(("sweep", *sizes), lambda: Sweep.of(stage.function, *sizes))

    @cached_property
    def _data(self) -> Array:
        return np.ascontiguousarray(self.staged.data.T)

    @cached_property
    def _constants(self) -> list[Array]:
        return [stage.constants[:, None] for stage in self.staged.stages]

    @cached_property
    def shared(self) -> SharedTerms:
        """The terms of the controls alone."""
        return SharedTerms(self.staged)

    @cached_property
    def _start(self) -> Array:
        return np.ascontiguousarray(self.staged.initial_state.T)

    @property
    def size(self) -> int:
        """Number of decisions."""
        return self.staged.decision_size

    def _blocks(self) -> list[slice]:
        members = self.staged.members
        block = max(min(MEMBER_BLOCK, MOST_STATES // len(self.staged.stages)), 1)
        return [slice(s, min(s + block, members)) for s in range(0, members, block)]

    def _runs(self, members: int) -> list[Run]:
        """How the stages are run for so many members at a time."""
        if members not in self._known_runs:
            keys = [(id(stage.function), stage.state_size) for stage in self.staged.stages]
            groups = groupby(range(len(keys)), lambda k: keys[k])
            self._known_runs[members] = [
                run for _, group in groups for run in self._runs_of(list(group), members)
            ]
        return self._known_runs[members]

    def _runs_of(self, stages: list[int], members: int) -> list[Run]:
        """Of neighbouring stages of one function."""
        staged, sweep, first = self.staged, self._sweep(stages[0]), stages[0]
        constants = np.array([staged.stages[k].constants for k in stages])
        affine = sweep.affine if sweep.is_best_affine(members) else None
        if affine is not None and affine.chain is not None:
            return [Run(first, stages[-1] + 1, affine.chained(constants, members))]
        single = [Run(k, k + 1, affine) for k in stages]
        leads_back = sweep.step.function.size1_out(0) == staged.stages[first].state_size
        is_long = len(stages) >= SHORTEST_CHAIN and leads_back
        is_whole = members == staged.members <= CHAIN_MEMBERS
        if affine is not None or not (is_long and is_whole):
            return single
        chain = Chain(sweep.step.function, sweep.pull.function, staged.data, constants)
        return [Run(first, stages[-1] + 1, chain)]

    def _arguments(self, k: int, decisions: Array, members: slice) -> list[Array]:
        """(u, p, data, constants) of stage k, all but the state."""
        column = decisions[:, None]
        control, parameters = self.staged.control_slices[k], self.staged.parameter_slice
        return [column[control], column[parameters], self._data[:, members], self._constants[k]]

    def _controls(self, run: Run, decisions: Array) -> Array:
        """Controls of the stages of a run, (stages, m), a view."""
        slices = self.staged.control_slices
        part = decisions[slices[run.start].start : slices[run.stop - 1].stop]
        return part.reshape(run.stop - run.start, -1)

    def ends(self, decisions: Array) -> tuple[Array, float]:
        """The last states of all members, (n, N), and the total cost."""
        states, cost = self._forward(decisions, slice(0, self.staged.members))
        return states[-1], cost + self.shared.cost(decisions)

    def pull_back(self, decisions: Array, slopes: Array) -> Array:
        """Derivatives in the decisions of functions of each member's last state and of p.

        Only for stages whose costs depend on nothing, so that costates are all there is.

        Args:
            decisions: where.
            slopes: (n + p, c, N), derivatives of c functions of every member.

        Returns:
            (decisions, c, N).
        """
        staged, everyone = self.staged, slice(0, self.staged.members)
        _, several, members = slopes.shape
        n = staged.stages[-1].state_size
        states, _ = self._forward(decisions, everyone)
        result = np.zeros((self.size, several, members))
        result[staged.parameter_slice] = slopes[n:]
        costate = slopes[:n].reshape(n, -1)
        for run in reversed(self._runs(members)):
            start, stop = run.start, min(run.stop, staged.intervals)
            if start == stop:  # the last stage
                continue
            if isinstance(run.way, AffineChain):
                costate, after = run.way.backward(costate)
                own = run.way.member_slopes(after)
                rows = slice(staged.control_slices[start].start, staged.control_slices[stop].start)
                result[rows] = own.reshape(-1, several, members)
                continue
            for k in range(stop - 1, start - 1, -1):
                control, parameters, data, constants = self._arguments(k, decisions, everyone)
                state, data = np.tile(states[k], several), np.tile(data, several)
                pull = self._sweep(k).pull
                costate, own = pull(state, control, parameters, data, constants, costate)
                own, m = own.reshape(-1, several, members), staged.stages[k].control_size
                result[staged.control_slices[k]] = own[:m]
                result[staged.parameter_slice] += own[m:]
        return result

    def _forward(
        self,
        decisions: Array,
        members: slice,
        features: dict[int, tuple[Array, Array, Array, Array]] | None = None,
    ) -> tuple[list[Array], float]:
        """States of all stages, each (n_k, members), and the cost of these members.

        They are good until the next sweep. With `features`, features and weights of single stages
        by matrix products are put there, and the cost of the last stage is left to a sweep
        backwards.
        """
        states, cost = [self._start[:, members]], 0.0
        parameters = decisions[self.staged.parameter_slice]
        for run in self._runs(members.stop - members.start):
            if isinstance(run.way, AffineChain):
                controls = self._controls(run, decisions)
                after, spent = run.way.forward(states[-1], self._data[:, members], controls)
                states[-1:] = [*run.way.states, after]
                cost += spent
                continue
            if isinstance(run.way, Chain):
                controls = self._controls(run, decisions)
                followers, spent = run.way.states(states[-1].T, controls, parameters)
                states += list(followers.copy().transpose(0, 2, 1))
                cost += spent
                continue
            k = run.start
            if k == self.staged.intervals and features is not None:
                break
            arguments = self._arguments(k, decisions, members)
            if run.way is not None:
                control, _, data, constants = arguments
                weights = run.way.weights(control[:, 0])
                successor, phi, running = run.way.step(states[k], weights, data, constants)
                if features is not None:
                    features[k] = (phi, weights, data, constants)
            else:
                successor, running = self._sweep(k).step(states[k], *arguments)
            if running is not NO_COST:
                cost += float(running.sum())
            if k < self.staged.intervals:
                states.append(successor)
        return states, cost

    def cost(self, decisions: Array) -> float:
        """Total cost."""
        total = sum(self._forward(decisions, members)[1] for members in self._blocks())
        return total + self.shared.cost(decisions)

    def trajectory(self, decisions: Array) -> Trajectory:
        """The states that the decisions lead to."""
        staged = self.staged
        states = tuple(np.empty((staged.members, stage.state_size)) for stage in staged.stages)
        for members in self._blocks():
            for whole, part in zip(states, self._forward(decisions, members)[0], strict=True):
                whole[members] = part.T
        return Trajectory(states, *split_decisions(self.staged, decisions), self.staged.times)

    def cost_and_gradient(self, decisions: Array) -> tuple[float, Array]:
        """Total cost and its gradient in (u^0, ..., u^{K-1}, p)."""
        staged = self.staged
        total, gradient = self.shared.cost_and_gradient(decisions)
        parameters = decisions[staged.parameter_slice]
        for members in self._blocks():
            features: dict[int, tuple[Array, Array, Array, Array]] = {}
            states, cost = self._forward(decisions, members, features)
            total += cost
            costate = np.zeros((0, states[0].shape[1]))
            for run in reversed(self._runs(members.stop - members.start)):
                if isinstance(run.way, AffineChain):
                    costate, costates = run.way.backward(costate)
                    own = self._controls(run, gradient)
                    own += run.way.control_slopes(costates)
                    continue
                if isinstance(run.way, Chain):
                    controls = self._controls(run, decisions)
                    before = np.stack([x.T for x in states[run.start : run.stop]])
                    start, slopes = run.way.costates(before, controls, parameters, costate.T)
                    costate, m = start.T.copy(), controls.shape[1]
                    own = self._controls(run, gradient)
                    own += slopes[:, :m]
                    gradient[staged.parameter_slice] += slopes[:, m:].sum(axis=0)
                    continue
                k = run.start
                if run.way is not None:
                    costate, sums = run.way.pull(states[k], *features[k], costate)
                    gradient[staged.control_slices[k]] += sums
                    continue
                arguments = self._arguments(k, decisions, members)
                end = self._sweep(k).end
                if end is not None:
                    spent, costate, slopes = end(states[k], *arguments)
                    total += float(spent.sum())
                else:
                    costate, slopes = self._sweep(k).pull(states[k], *arguments, costate)
                m, sums = staged.stages[k].control_size, slopes.sum(axis=1)
                gradient[staged.control_slices[k]] += sums[:m]
                gradient[staged.parameter_slice] += sums[m:]
        return total, gradient

    def gradient_scale(self, decisions: Array, gradient: Array) -> float:
        """Size of what cancels in a gradient: of the members and of the shared terms.

        At least what a change of the decisions by their own size, or by 1, changes in the gradient
        of the shared terms: where the members' cost vanishes at no control, there is nothing else.
        """
        _, shared = self.shared.cost_and_gradient(decisions)
        largest = max(1.0, float(np.abs(decisions).max(initial=0.0)))
        floor = largest * float(self.shared.curvature(decisions).min(initial=np.inf))
        parts = (np.abs(gradient - shared).max(initial=0.0), np.abs(shared).max(initial=0.0), floor)
        return float(max(parts)) or 1.0
