"""The discretised cost of a learning problem in PyTorch, term by term, with the same numbers.

    J(u, q) = alpha E(x^K) + beta sum tau b_i E(X_i) + lambda sum_k h R(u^k) + lambda_q |q|^2

with the sum over all stages X_i of the scheme (see `problems.torch_models`), R as in
`problems.regularizers`, and E the mean of a loss over the samples at hand: those of a minibatch
give an unbiased estimate of the first two terms. Where a loss or an activation has a kink, autograd
takes one of its subgradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from problems.learning import LearningProblem
from problems.pytorch import torch
from problems.torch_models import Network, Tensor

# (outputs (P, M), targets (P, M)) -> loss of every sample (P,), by the names of `problems.losses`
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": lambda z, y: (z - y).square().sum(1),
    "distance": lambda z, y: torch.linalg.vector_norm(z - y, dim=1),
    "l1": lambda z, y: (z - y).abs().sum(1),
    "logistic": lambda z, y: torch.logaddexp(-y * z, torch.zeros_like(z)).sum(1),
    "hinge": lambda z, y: torch.relu(1 - y * z).sum(1),
    "cross-entropy": lambda z, y: torch.logsumexp(z, 1) - (y * z).sum(1),
}


@dataclass(frozen=True)
class DiscreteCost:
    """J as a function of a network; in plain values, so that it travels.

    Args:
        loss: a key of LOSSES.
        terminal, tracking: alpha and beta.
        square, rate, absolute: lambda times the weights of |u|^2, |u'|^2 and |u|_1 in R.
        readout_decay: lambda_q; 0 if the read-out is fixed.

    Raises:
        ValueError: a loss that has no counterpart in PyTorch here.
    """

    loss: str
    terminal: float
    tracking: float
    square: float
    rate: float
    absolute: float
    readout_decay: float

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(
                f"the loss {self.loss!r} has no counterpart in PyTorch, expected one of "
                f"{', '.join(LOSSES)}; add it to those of problems.torch_costs."
            )

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """E of outputs (P, M) against targets (P, M)."""
        return LOSSES[self.loss](outputs, targets).mean()

    def fit(self, network: Network, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Terms of J that depend on the samples, `terminal` and `tracking`, weighted."""
        terms: dict[str, Tensor] = {}
        integral: list[Tensor] = []

        def observe(states: Tensor, weight: float) -> None:
            integral.append(weight * self.error(network.read(states), targets))

        final = network.flow(inputs, observe if self.tracking else None)[-1]
        terms["terminal"] = self.terminal * self.error(network.read(final), targets)
        if integral:
            terms["tracking"] = self.tracking * torch.stack(integral).sum()
        return terms

    def penalty(self, network: Network, *, without_square: bool = False) -> dict[str, Tensor]:
        """Terms of J that depend on the parameters only, `control` and `readout`, weighted.

        Args:
            network: whose parameters.
            without_square: leave out all squares of parameters, for an optimiser with a weight
                decay of its own.
        """
        step = network.architecture.step
        controls = list(network.controls.values())
        control = controls[0].new_zeros(())
        if self.square and not without_square:
            control = control + self.square * step * sum(u.square().sum() for u in controls)
        if self.rate:
            changes = sum(torch.diff(u, dim=0).square().sum() for u in controls)
            control = control + self.rate / step * changes
        if self.absolute:
            control = control + self.absolute * step * _absolute(network)
        terms = {"control": control}
        if network.readout_parameters and not without_square:
            squares = [q.square().sum() for q in network.readout_parameters]
            terms["readout"] = self.readout_decay * torch.stack(squares).sum()
        return terms

    def terms(self, network: Network, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """All terms of J, weighted."""
        return self.fit(network, inputs, targets) | self.penalty(network)

    def __call__(self, network: Network, inputs: Tensor, targets: Tensor) -> Tensor:
        """J."""
        return torch.stack(list(self.terms(network, inputs, targets).values())).sum()


def _absolute(network: Network) -> Tensor:
    """The sum of |u_j| over all layers, each counted by its measure."""
    if not network.architecture.is_scaled:
        return torch.stack([u.abs().sum() for u in network.controls.values()]).sum()
    total = []
    for layer, measure in zip(network.by_layer(), network.measures(), strict=True):
        sizes = torch.cat([part.flatten() for part in layer]).abs()
        total.append((sizes if measure is None else measure * sizes).sum())
    return torch.stack(total).sum()


def cost_of(problem: LearningProblem) -> DiscreteCost:
    """The cost of a learning problem.

    Raises:
        ValueError: an interpolation problem, whose data are a constraint and no cost.
    """
    if problem.interpolation:
        raise ValueError(
            "an interpolation problem has hard constraints and no cost to be trained; "
            "train the learning problem with a small weight decay."
        )
    penalty, decay = problem.penalty, problem.weight_decay
    return DiscreteCost(
        loss=problem.loss.name,
        terminal=problem.terminal,
        tracking=problem.tracking,
        square=decay * penalty.square,
        rate=decay * penalty.rate,
        absolute=decay * penalty.absolute,
        readout_decay=problem.readout_weight_decay if problem.trained_readout else 0.0,
    )


def tensors(problem: LearningProblem, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs (N, d0) and targets (N, M)."""
    inputs, targets = problem.dataset.inputs, problem.dataset.targets
    return torch.tensor(inputs, dtype=dtype), torch.tensor(targets, dtype=dtype)
