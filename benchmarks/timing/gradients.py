"""Peers that know gradients alone and certify nothing: L-BFGS of SciPy, Adam and SGD of PyTorch."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import OptimizeResult
from scipy.optimize import minimize as scipy_minimize

from ocp.blas_threads import threads_for
from timing.cases import Array, Case, Run, plain_network

GAP = 1e-8  # relative, to the optimum that a run approaches
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)  # of Adam and SGD

Optimum = Callable[[Array], float]  # of the basin that some controls are in


def plain_gradient(case: Case) -> Callable[[Array], tuple[float, Array]]:
    """Cost and gradient in plain NumPy, whole layers of samples at once, written by hand."""
    inputs, targets, step = plain_network(case)
    d, outputs = case.width, targets.shape[1]

    def evaluate(w: Array) -> tuple[float, Array]:
        u, x, features = w.reshape(case.layers, -1), inputs, []
        for layer in u:
            s = np.tanh(x)
            features.append(s)
            x = x + step * (s @ layer[: d * d].reshape(d, d).T + layer[d * d :])
        residual = x[:, :outputs] - targets
        cost = float((residual**2).sum()) / len(x) + case.weight_decay * step * float(w @ w)
        gradient, costate = np.empty_like(u), np.zeros_like(x)
        costate[:, :outputs] = 2 * residual / len(x)
        for k in range(case.layers - 1, -1, -1):
            gradient[k, : d * d] = step * (costate.T @ features[k]).ravel()
            gradient[k, d * d :] = step * costate.sum(axis=0)
            weight = u[k, : d * d].reshape(d, d)
            costate = costate + step * (costate @ weight) * (1 - features[k] ** 2)
        return cost, (gradient + 2 * case.weight_decay * step * u).ravel()

    return evaluate


def by_lbfgs(case: Case, start: Array, limit: float) -> Run:
    """SciPy's L-BFGS; the time is that to the gap from the optimum that it approaches."""
    evaluate = plain_gradient(case)
    history: list[tuple[float, float]] = []
    begin = time.perf_counter()

    def record(intermediate_result: OptimizeResult) -> None:
        history.append((time.perf_counter() - begin, float(intermediate_result.fun)))
        if history[-1][0] > limit:
            raise StopIteration

    options = {"maxiter": 10**5, "maxfun": 10**6, "ftol": 1e-15, "gtol": 1e-12, "maxcor": 20}
    with threads_for(0):
        scipy_minimize(
            evaluate, start, jac=True, method="L-BFGS-B", options=options, callback=record
        )
    best = min(cost for _, cost in history)
    return Run(_time_to_gap(history, best), "uncertified", best)


def _time_to_gap(history: list[tuple[float, float]], optimum: float) -> float:
    return next(seconds for seconds, cost in history if cost - optimum <= GAP * abs(optimum))


def by_torch(
    case: Case, start: Array, limit: float, optimum_of: Optimum
) -> Iterator[tuple[str, Run]]:
    """Adam and SGD, the best of the rates; none if PyTorch is not installed.

    The optimum that a run approaches is where `optimum_of` goes from where it ended. All rates of
    an optimiser have the limit together.
    """
    if importlib.util.find_spec("torch") is None:
        missing = Run(math.nan, "not installed", math.nan)
        yield from (("Adam", missing), ("SGD", missing))
        return
    import torch

    torch.set_num_threads(2)
    inputs, targets, step = plain_network(case)
    d, outputs = case.width, targets.shape[1]
    a, y = torch.tensor(inputs), torch.tensor(targets)
    for name, optimizer in (("Adam", torch.optim.Adam), ("SGD", torch.optim.SGD)):
        runs = []
        for rate in RATES:
            w = torch.tensor(start.reshape(case.layers, -1), requires_grad=True)
            method = optimizer([w], lr=rate)
            history: list[tuple[float, float]] = []
            begin = time.perf_counter()
            while not history or history[-1][0] < limit / len(RATES):
                method.zero_grad()
                x = a
                for layer in w:
                    weight = layer[: d * d].reshape(d, d)
                    x = x + step * (torch.tanh(x) @ weight.T + layer[d * d :])
                cost = ((x[:, :outputs] - y) ** 2).sum() / len(x)
                cost = cost + case.weight_decay * step * (w**2).sum()
                cost.backward()
                method.step()
                history.append((time.perf_counter() - begin, cost.item()))
                if not math.isfinite(history[-1][1]):
                    break
            end = w.detach().numpy().ravel()
            if not (math.isfinite(history[-1][1]) and np.isfinite(end).all()):
                continue
            best = min(cost for _, cost in history)
            optimum = optimum_of(end)
            near = best - optimum <= GAP * abs(optimum)
            seconds = _time_to_gap(history, optimum) if near else math.inf
            runs.append(Run(seconds, "uncertified", best, f"rate {rate:g}"))
        nothing = Run(math.inf, "diverged", math.nan)
        yield name, min(runs, key=lambda run: (run.seconds, run.objective), default=nothing)
