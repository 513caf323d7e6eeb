"""Solutions: where a solve ended, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ocp.certificate import Certificate
from ocp.condensing import Linearization
from ocp.method import Choice
from ocp.nlp import NLPResult, Status
from ocp.stages import Array
from ocp.timings import Timings
from ocp.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Solution:
    """A trajectory with its costs, its status and its certificate.

    Args:
        trajectory: states, controls and parameters; a valid guess for another solve.
        costates: multipliers of the dynamics, of stages 1, ..., K, each (N, n_k), in units of
            the cost per unit of state.
        objective: total cost.
        costs: the objective by term.
        status: our verdict, from the certificate.
        message: one sentence on the status.
        backend_status: the optimiser's own words.
        certificate: residuals of the optimality conditions.
        iterations: of the optimiser, None if it did not say.
        result: where the optimiser stopped, for a warm start; None if no optimiser ran.
        method: how it was solved, and why; None if no optimiser ran.
        timings: wall time of the call that found it, and what it was spent on.
    """

    trajectory: Trajectory
    costates: tuple[Array, ...]
    objective: float
    costs: Mapping[str, float]
    status: Status
    message: str
    backend_status: str
    certificate: Certificate
    iterations: int | None
    result: NLPResult | None = None
    method: Choice | None = None
    timings: Timings = field(default_factory=Timings)

    def negated(self) -> Solution:
        """The same solution of the problem with the opposite cost."""
        return replace(
            self,
            objective=-self.objective,
            costs={name: -cost for name, cost in self.costs.items()},
            costates=tuple(-costate for costate in self.costates),
            certificate=replace(
                self.certificate,
                costates=tuple(-costate for costate in self.certificate.costates),
                multipliers=self.certificate.multipliers.negated(),
            ),
        )

    @property
    def is_solved(self) -> bool:
        """Whether the certificate holds."""
        return self.status is Status.SOLVED


def costs_by_term(linearization: Linearization) -> dict[str, float]:
    """The objective split into running, terminal, shared and penalty terms."""
    *running, terminal = linearization.stages
    costs = {
        "running": float(sum(values.cost.sum() for values in running)),
        "terminal": float(terminal.cost.sum()),
    }
    for term, values in zip(linearization.staged.shared, linearization.shared, strict=True):
        costs[term.name] = costs.get(term.name, 0.0) + float(values.cost.sum())
    everything = (*linearization.stages, *linearization.shared)
    if any(values.bounds.weight.size for values in everything):
        costs["soft constraints"] = float(sum(values.penalty for values in everything))
    return costs
