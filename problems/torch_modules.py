"""A user's module of PyTorch: its arrays as they act, and its own forward beside our network's.

    W = g(V) for a parametrization g of V,    |forward(a_i) - P x_i^K|  over all samples a_i

A state dictionary says what a module is made of, and not what it computes. So the forward is run on
the samples, in evaluation mode and in float64 where the module can do that, and compared with the
network that its arrays were read as. A module without a forward of its own, such as a ModuleList,
has nothing to compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from problems.learning import Array, LearningProblem
from problems.pytorch import torch

Tensor = torch.Tensor
Module = torch.nn.Module

EQUAL = 1e-9  # of outputs, relative, at least 1: the same formula in float64, in another order
ROUNDINGS = 1e3  # units in the last place that a forward in the module's own precision may differ


def effective_state(module: Module) -> Mapping[str, Any]:
    """The state dictionary, with the values of parametrizations in place of their parameters."""
    with _evaluating(module):
        state: dict[str, Any] = dict(module.state_dict())
        for path, part in module.named_modules():
            if not torch.nn.utils.parametrize.is_parametrized(part):
                continue
            for name in part.parametrizations:
                prefix = f"{path}." if path else ""
                of_it = f"{prefix}parametrizations.{name}."
                state = {k: value for k, value in state.items() if not k.startswith(of_it)}
                state[f"{prefix}{name}"] = getattr(part, name).detach()
    return state


def compare_forward(
    module: Module, problem: LearningProblem, decisions: Array
) -> tuple[str, str | None]:
    """Whether a module computes the network that it was read as.

    Args:
        module: called with the samples' inputs (N, d0).
        problem: data and network.
        decisions: as which the module was read.

    Returns:
        "same" if the outputs (N, M), or the last states (N, D), are those of the network,
        "different", or "not compared"; and one line on by how much and where, or on why not. A
        module without a forward of its own has nothing to say.
    """
    module = getattr(module, "_orig_mod", module)  # the same module, not compiled
    if type(module).forward is Module.forward:
        return "not compared", None
    assumed = (
        f"the network assumed, x + h f(x, u) with h = {problem.horizon / problem.layers:.4g}, the "
        f"{problem.field.name} field and {problem.activation.name}"
    )
    inputs = problem.dataset.inputs
    try:
        outputs, precision = _outputs(module, inputs)
    except Exception as error:  # whatever the user's own code raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return "not compared", (
            f"the model's own forward does not run on inputs of shape {inputs.shape} ({reason}), "
            f"so it was not compared with {assumed}."
        )
    expected, what = _expected(outputs, problem, decisions)
    if outputs.ndim == 1 and outputs.size == expected.size:
        outputs = outputs.reshape(expected.shape)
    if outputs.shape != expected.shape:
        return "different", (
            f"the model's own forward gives outputs of shape {outputs.shape}, expected "
            f"{expected.shape} of {assumed}; the results are those of the network assumed."
        )
    with np.errstate(all="ignore"):
        apart = np.abs(outputs - expected)
        allowed = max(EQUAL, ROUNDINGS * precision) * max(1.0, float(np.abs(expected).max()))
    if (apart <= allowed).all():  # which no difference that is not a number satisfies
        return "same", None
    place = np.unravel_index(int(np.argmax(np.nan_to_num(apart, nan=np.inf))), apart.shape)
    sample, column = (int(i) for i in place)
    return "different", (
        f"the model's own forward differs from {assumed}, by {apart[place]:.3g} in {what} {column} "
        f"of sample {sample}: {outputs[place]:.6g} there, {expected[place]:.6g} here; the results "
        "are those of the network assumed."
    )


def _expected(outputs: Array, problem: LearningProblem, decisions: Array) -> tuple[Array, str]:
    """What our network gives: outputs, or the last states for a module that gives as many."""
    with np.errstate(all="ignore"):
        trajectory = problem.run(problem.dataset.inputs, decisions)
        states = trajectory.states[-1]
        weight, bias = problem.readout(trajectory.parameters)
        read = states @ weight.T + bias
    if outputs.shape == states.shape and outputs.shape != read.shape:
        return states, "coordinate"
    return read, "output"


def _outputs(module: Module, inputs: Array) -> tuple[Array, float]:
    """Outputs of a module, and the unit of rounding that they were computed with."""
    tensors = [*module.parameters(), *module.buffers()]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    device = floating[0].device if floating else torch.device("cpu")
    own = floating[0].dtype if floating else torch.float64
    with _evaluating(module), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            state = {
                name: tensor.double() if tensor.is_floating_point() else tensor
                for named in (module.named_parameters(), module.named_buffers())
                for name, tensor in named
            }
            points = torch.tensor(inputs, dtype=torch.float64, device=device)
            found, used = torch.func.functional_call(module, state, (points,)), torch.float64
        except (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError):
            # constants of another precision in it, or a program with fixed types
            found, used = module(torch.tensor(inputs, dtype=own, device=device)), own
    if not isinstance(found, Tensor):
        raise TypeError(f"it gives a {type(found).__name__}, expected a tensor")
    return found.detach().cpu().double().numpy(), float(torch.finfo(used).eps)


@contextmanager
def _evaluating(module: Module) -> Iterator[None]:
    """The module and all its parts in evaluation mode, and afterwards as they were.

    Pruning keeps its product as a plain attribute, which every forward writes anew.
    """
    kept = {
        part: {
            name: value
            for name, value in vars(part).items()
            if name == "training" or isinstance(value, Tensor)
        }
        for part in module.modules()
    }
    try:
        for part in kept:
            part.training = False
        yield
    finally:
        for part, values in kept.items():
            vars(part).update(values)
