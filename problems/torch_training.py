"""Training: the discretised cost minimised by an optimiser of PyTorch, with its whole history.

A run starts at the initial parameters of `problems.torch_models.Network` for its seed and spends a
budget of gradient evaluations, of which one is a pass over all samples; a minibatch of B out of N
samples counts B / N. J, E, Int |u|^2 dt and |dJ| over all samples are recorded along the way, at
counts in a constant ratio, while the clock stands still. The parameters of least J recorded are
what a run ends with, as one who keeps the best checkpoint does. A run that diverges is a result.

Runs are deterministic: seeds decide on parameters and minibatches, and one thread computes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.linalg import norm

from ocp import Status
from ocp.interrupt import Request, interruptible
from problems.learning import Array, LearningProblem
from problems.pytorch import torch
from problems.torch_costs import DiscreteCost, cost_of
from problems.torch_models import Architecture, Network, Tensor, architecture_of
from problems.torch_optimizers import SCHEDULES, Optimizer

RECORD_RATIO = 1.03  # between the counts of neighbouring records, once they are more than one apart
CONVERGED = 1e-9  # of the gradient's norm, relative to that at the start
DIVERGED = 1e6  # of the cost, relative to that at the start
STALL = 50  # evaluations of a line search without any progress


class Outcome(Enum):
    """How a run ended."""

    SPENT = "budget spent"
    CONVERGED = "converged"
    STALLED = "stalled"
    DIVERGED = "diverged"
    TIME_LIMIT = "time-limit"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, eq=False)
class Training:
    """One run to be made; in plain values, so that it can be sent to another process.

    Args:
        architecture, cost: what is trained.
        inputs, targets: (N, d0) and (N, M).
        optimizer, rate: how.
        seed: of parameters and minibatches.
        evaluations: budget.
        scale: factor on the initial parameters of the layers.
        start: decisions to start from, in their place; None for the initial parameters.
        bound: of the controls, onto which every step is projected; None for no bound.
        time_limit: wall time, s.
    """

    architecture: Architecture
    cost: DiscreteCost
    inputs: Array
    targets: Array
    optimizer: Optimizer
    rate: float
    seed: int
    evaluations: int
    scale: float = 1.0
    start: Array | None = None
    bound: float | None = None
    time_limit: float = math.inf

    @property
    def name(self) -> str:
        """For files."""
        rate = "" if self.optimizer.searches_steps else f"-rate-{self.rate:g}"
        return f"{self.optimizer.name}{rate}-seed-{self.seed}"


@dataclass(frozen=True, eq=False)
class History:
    """What was recorded, one entry per record, (R,) each."""

    evaluations: Array
    seconds: Array
    objective: Array
    error: Array
    control_energy: Array
    gradient_norm: Array

    def reach(self, level: float, against: Array) -> float:
        """First evaluation count or time at which J <= level; infinite if there is none."""
        below = np.flatnonzero(self.objective <= level)
        return float(against[below[0]]) if below.size else math.inf


@dataclass(frozen=True, eq=False)
class Run:
    """A run that was made.

    Args:
        name: of its training.
        optimizer, rate, learning_rate, seed: how it was made.
        outcome: how it ended.
        history: along the way; the last entry is where it ended.
        decisions: of the least recorded cost.
    """

    name: str
    optimizer: str
    rate: float
    learning_rate: float
    seed: int
    outcome: Outcome
    history: History
    decisions: Array

    @property
    def best(self) -> int:
        """The record of the least cost."""
        return int(np.argmin(np.nan_to_num(self.history.objective, nan=np.inf)))

    @property
    def objective(self) -> float:
        """Least recorded cost; not a number if there was none."""
        return float(self.history.objective[self.best])

    @property
    def status(self) -> Status:
        """The same for a series of solves; no run is certified."""
        interrupted = self.outcome is Outcome.INTERRUPTED
        return Status.INTERRUPTED if interrupted else Status.INACCURATE


def training(
    problem: LearningProblem,
    optimizer: Optimizer,
    rate: float,
    seed: int,
    *,
    evaluations: int = 500,
    scale: float = 1.0,
    start: Array | None = None,
    time_limit: float = math.inf,
) -> Training:
    """A run on a learning problem.

    Raises:
        ValueError: a problem that has no counterpart in PyTorch, an empty budget, or L-BFGS with
            bounds, whose line search would leave them.
    """
    if evaluations < 1:
        raise ValueError(f"evaluations must be at least 1, got {evaluations}.")
    if optimizer.searches_steps and problem.bound is not None:
        raise ValueError("L-BFGS of PyTorch knows no bounds; leave it out, or the bound.")
    return Training(
        architecture=architecture_of(problem),
        cost=cost_of(problem),
        inputs=problem.dataset.inputs,
        targets=problem.dataset.targets,
        optimizer=optimizer,
        rate=rate,
        seed=seed,
        evaluations=evaluations,
        scale=scale,
        start=start,
        bound=problem.bound,
        time_limit=time_limit,
    )


def initial_network(asked: Training) -> Network:
    """Where a run starts."""
    network = Network(asked.architecture, seed=asked.seed, scale=asked.scale)
    if asked.start is not None:
        network.set_decisions(asked.start)
    _project(network, asked.bound)
    return network


def run(asked: Training) -> Run:
    """Make a run."""
    with interruptible() as request, _one_thread():
        work = _Run(asked, request)
        outcome = work.train()
        return work.result(outcome)


class _Stop(Exception):
    """The end of a run, from within an optimiser."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class _Run:
    """A run in the making."""

    def __init__(self, asked: Training, request: Request) -> None:
        self._asked, self._request = asked, request
        self._network = initial_network(asked)
        self._inputs, self._targets = torch.tensor(asked.inputs), torch.tensor(asked.targets)
        self._optimizer = asked.optimizer.made(
            self._network, asked.cost, asked.rate, asked.evaluations
        )
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._batches = self._endless_batches(torch.Generator().manual_seed(asked.seed))
        self._records: list[tuple[float, ...]] = []
        self._evaluations, self._due = 0.0, 0.0
        self._best, self._decisions = math.inf, self._network.decisions()
        self._progress_at, self._lowest = 0.0, math.inf
        self._begin, self._paused = time.perf_counter(), 0.0

    def train(self) -> Outcome:
        """Until the budget is spent or something else ends it."""
        schedule = SCHEDULES[self._asked.optimizer.schedule]
        groups = self._optimizer.param_groups
        try:
            while True:
                for group, rate in zip(groups, self._rates, strict=True):
                    group["lr"] = rate * schedule(self._evaluations / self._asked.evaluations)
                self._optimizer.step(self._closure)  # type: ignore[arg-type]
                _project(self._network, self._asked.bound)
                if self._asked.optimizer.searches_steps:
                    raise _Stop(Outcome.STALLED)  # it gave up before its budget was spent
        except _Stop as stop:
            return stop.outcome

    def _closure(self) -> Tensor:
        """Cost of the batch at the present parameters, with its gradient in them."""
        if self._evaluations >= self._due:
            self._record()
            self._due = max(self._evaluations + 1.0, RECORD_RATIO * self._evaluations)
        self._check_limits()
        cost, network = self._asked.cost, self._network
        rows = next(self._batches)
        inputs, targets = self._inputs, self._targets
        if rows is not None:
            inputs, targets = inputs[rows], targets[rows]
        network.zero_grad()
        decays_itself = self._asked.optimizer.decays_itself
        penalty = cost.penalty(network, without_square=decays_itself)
        total = torch.stack([*cost.fit(network, inputs, targets).values(), *penalty.values()]).sum()
        total.backward()
        self._evaluations += len(inputs) / len(self._inputs)
        if self._asked.optimizer.searches_steps:
            self._check_progress(total.item())
        return total

    def _check_limits(self) -> None:
        if self._request.is_pending:
            raise self._stopped(Outcome.INTERRUPTED)
        if self._evaluations >= self._asked.evaluations:
            raise self._stopped(Outcome.SPENT)
        if self._seconds() > self._asked.time_limit:
            raise self._stopped(Outcome.TIME_LIMIT)

    def _stopped(self, outcome: Outcome) -> _Stop:
        if self._records[-1][0] < self._evaluations:
            self._record()
        return _Stop(outcome)

    def _check_progress(self, value: float) -> None:
        if value < self._lowest:
            self._lowest, self._progress_at = value, self._evaluations
        if self._evaluations - self._progress_at > STALL:
            raise self._stopped(Outcome.STALLED)

    def _seconds(self) -> float:
        return time.perf_counter() - self._begin - self._paused

    def _record(self) -> None:
        """Measure the present parameters on all samples; the clock stands still meanwhile."""
        at = time.perf_counter()
        seconds = self._seconds()
        network, cost = self._network, self._asked.cost
        network.zero_grad()
        terms = cost.terms(network, self._inputs, self._targets)
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        gradient = float(norm(network.gradient(), check_finite=False))  # squares may overflow
        with torch.no_grad():
            error = cost.error(network(self._inputs), self._targets)
            energy = sum(u.square().sum().item() for u in network.controls.values())
        objective = total.item()
        self._records.append(
            (
                *(self._evaluations, seconds, objective, error.item()),
                *(energy * network.architecture.step, gradient),
            )
        )
        if objective < self._best:
            self._best, self._decisions = objective, network.decisions()
        first = self._records[0]
        self._paused += time.perf_counter() - at
        limit = DIVERGED * max(abs(first[2]), 1.0)
        if not (math.isfinite(objective) and abs(objective) <= limit and math.isfinite(gradient)):
            raise _Stop(Outcome.DIVERGED)
        if gradient <= CONVERGED * first[5]:
            raise _Stop(Outcome.CONVERGED)

    def _endless_batches(self, generator: torch.Generator) -> Iterator[Tensor | None]:
        """Rows of one minibatch after the other, each sample once per pass; None for all."""
        samples = len(self._inputs)
        number = min(self._asked.optimizer.minibatches, samples)
        while True:
            if number == 1:
                yield None
                continue
            yield from torch.randperm(samples, generator=generator).tensor_split(number)

    def result(self, outcome: Outcome) -> Run:
        """What the run came to."""
        asked = self._asked
        columns = np.array(self._records, dtype=np.float64).T
        return Run(
            name=asked.name,
            optimizer=asked.optimizer.name,
            rate=asked.rate,
            learning_rate=asked.optimizer.learning_rate(asked.rate, self._network),
            seed=asked.seed,
            outcome=outcome,
            history=History(*np.where(np.isfinite(columns), columns, np.nan)),
            decisions=self._decisions,
        )


def _project(network: Network, bound: float | None) -> None:
    """Onto |u_j| <= bound, each counted by its measure."""
    if bound is None:
        return
    with torch.no_grad():
        for layer, measure in zip(network.by_layer(), network.measures(), strict=True):
            start = 0
            for part in layer:
                limit = torch.full_like(part, bound)
                if measure is not None:
                    limit = limit * measure[start : start + part.numel()].reshape(part.shape)
                part.clamp_(-limit, limit)
                start += part.numel()


@contextmanager
def _one_thread() -> Iterator[None]:
    """The sums of several threads depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
