"""The optimisers of PyTorch that a learning problem is trained with, and their learning rates.

A rate eta is dimensionless. In the L2 metric of the controls on [0, T] with T = h K,

    gradient methods   lr = eta / (T h) for the controls, eta for a trained read-out
    Adam and AdamW     lr = eta / T     for the controls, eta for a trained read-out

so that one grid of rates suits every number of layers, and every horizon where the field is
homogeneous in the control (u = v / T). AdamW leaves |u|^2 out of the gradient and decays the
parameters itself, by lr * 2 lambda h a step, as lambda h |u|^2 would in a plain gradient step: its
fixed points are not those of J, which the gap shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from problems.pytorch import torch
from problems.torch_costs import DiscreteCost
from problems.torch_models import Network

HISTORY = 20  # pairs of vectors that L-BFGS remembers
MINIBATCHES = 4  # to a pass over all samples


class Method(Enum):
    """Update rules; the value is for files."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"
    LBFGS = "l-bfgs"


def constant(progress: float) -> float:
    """Factor 1 throughout."""
    return 1.0


def cosine(progress: float) -> float:
    """Factor from 1 to 0 along half a wave."""
    return (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def step(progress: float) -> float:
    """A tenth from half of the budget on, a hundredth from three quarters on."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


# (share of the budget that is spent) -> factor on the rate
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
}


@dataclass(frozen=True)
class Optimizer:
    """An update rule with all its settings but the rate.

    Args:
        name: in tables and files.
        method: update rule.
        rates: the default grid of eta; one that is not used for L-BFGS, which searches its steps.
        momentum: of SGD.
        minibatches: to a pass over all samples; 1 for steps that see all of them.
        schedule: a key of SCHEDULES.

    Raises:
        ValueError: an unknown schedule, no rate or one that is not positive, or no minibatch.
    """

    name: str
    method: Method
    rates: tuple[float, ...]
    momentum: float = 0.0
    minibatches: int = 1
    schedule: str = "constant"

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"unknown schedule {self.schedule!r}, expected one of {', '.join(SCHEDULES)}."
            )
        if not self.rates or not all(math.isfinite(rate) and rate > 0 for rate in self.rates):
            raise ValueError(f"{self.name}: rates must be positive numbers, got {self.rates}.")
        most = 1 if self.method is Method.LBFGS else math.inf
        if not 1 <= self.minibatches <= most:
            limit = "exactly" if most == 1 else "at least"
            raise ValueError(f"{self.name}: minibatches must be {limit} 1, got {self.minibatches}.")

    @property
    def decays_itself(self) -> bool:
        """Whether squares of parameters are left to the update rule."""
        return self.method is Method.ADAMW

    @property
    def searches_steps(self) -> bool:
        """Whether there is no rate to choose."""
        return self.method is Method.LBFGS

    @property
    def description(self) -> str:
        """Settings in words."""
        number = self.minibatches
        parts = ["all samples" if number == 1 else f"{number} minibatches to a pass"]
        if self.momentum:
            parts.append(f"momentum {self.momentum:g}")
        if self.decays_itself:
            parts.append("decoupled weight decay")
        if self.searches_steps:
            parts.append(f"strong Wolfe line search, history {HISTORY}")
        elif self.schedule != "constant":
            parts.append(f"{self.schedule} schedule")
        return ", ".join(parts)

    def learning_rate(self, rate: float, network: Network) -> float:
        """The lr of the controls."""
        form = network.architecture
        if self.method is Method.SGD:
            return rate / (form.horizon * form.step)
        return 1.0 if self.searches_steps else rate / form.horizon

    def made(
        self, network: Network, cost: DiscreteCost, rate: float, evaluations: int
    ) -> torch.optim.Optimizer:
        """The optimiser of PyTorch for a network's parameters.

        Args:
            network: what is trained.
            cost: whose weight decay it may take over.
            rate: eta.
            evaluations: most of them, for a line search.
        """
        learning_rate = self.learning_rate(rate, network)
        if self.method is Method.LBFGS:
            return torch.optim.LBFGS(
                list(network.parameters()),
                max_iter=evaluations,
                max_eval=evaluations,
                tolerance_grad=0.0,
                tolerance_change=0.0,
                history_size=HISTORY,
                line_search_fn="strong_wolfe",
            )
        controls: dict = {"params": list(network.controls.values()), "lr": learning_rate}
        readout: dict = {"params": network.readout_parameters, "lr": rate}
        if self.decays_itself:
            controls["weight_decay"] = 2 * cost.square * network.architecture.step
            readout["weight_decay"] = 2 * cost.readout_decay
        groups = [group for group in (controls, readout) if group["params"]]
        if self.method is Method.ADAM:
            return torch.optim.Adam(groups)
        if self.method is Method.ADAMW:
            return torch.optim.AdamW(groups)
        return torch.optim.SGD(groups, momentum=self.momentum)


GRADIENT_DESCENT = Optimizer("gradient-descent", Method.SGD, (0.1, 0.3, 1.0))
MOMENTUM = Optimizer("momentum", Method.SGD, (0.03, 0.1, 0.3), momentum=0.9)
SGD = Optimizer(
    "sgd",
    Method.SGD,
    (0.003, 0.01, 0.03),
    momentum=0.9,
    minibatches=MINIBATCHES,
    schedule="cosine",
)
ADAM = Optimizer("adam", Method.ADAM, (0.03, 0.1, 0.3))
ADAMW = Optimizer("adamw", Method.ADAMW, (0.01, 0.03, 0.1))
LBFGS = Optimizer("l-bfgs", Method.LBFGS, (1.0,))
OPTIMIZERS = {o.name: o for o in (GRADIENT_DESCENT, MOMENTUM, SGD, ADAM, ADAMW, LBFGS)}
