"""A user's trained network as decisions (u^0, ..., u^{K-1}, q), whatever form it comes in.

    stacked     w (K, D, D), b (K, D), or w1, b1, w2, b2       as in a solution file
    by layer    w_0 (D, D), b_0 (D,), w_1, ...
    as modules  layers.0.weight, layers.0.bias, layers.1.weight, ...; two in a layer of a bottleneck
    a vector    all controls, layer by layer, then the read-out if it is trained

The first number in a key is the layer, and the rest of the key names the module, so that
`blocks.0.0.weight` with `blocks.0.2.weight`, and `up.0.weight` with `down.0.weight`, are two
modules of layer 0. The output layer is `readout_weight` and `readout_bias`, or a module called
`readout`, `head`, `classifier` or `output`. Names may have a common prefix. Every array has its
place in the network, or the model is refused by the name of the array that has none.

Arrays may be NumPy's or PyTorch's, in a mapping, in the checkpoint of a training script
(`problems.model_state`), in a file (`problems.model_files`), or in a module, whose own forward is
then compared with the network assumed (`problems.torch_modules`). That is x + h f(x, u): the length
h of a layer belongs to the scheme, and not to the arrays.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from problems.learning import Array, LearningProblem
from problems.model_files import read_file
from problems.model_layers import place_layers
from problems.model_modules import Layers
from problems.model_state import as_numbers, named, network_arrays, shown

READOUT = ("readout_weight", "readout_bias")
# Modules that are read as the output layer; `head.0` is one in a Sequential.
READOUT_KEY = re.compile(
    r"(?P<module>(?:[^.]+\.)*?(?:readout|head|classifier)(?:\.\d+)?|(?:[^.]+\.)*?output)"
    r"\.(?P<leaf>weight|bias)|(?:[^.]+\.)*readout_(?:weight|bias)"
)


@dataclass(frozen=True, eq=False)
class ModelReading:
    """A model as decisions of a problem's network, and how it was read.

    Args:
        decisions: controls layer by layer, then the read-out if it is trained.
        sources: the key of the array that each control and the read-out was read from, the number
            of the layer in it as k; "zero" for a bias that the model does not have. Empty for a
            model without keys.
        own_forward: "same" as the network assumed, "different", or "not compared", as for arrays,
            which do not say what is computed from them.
        note: one line on a forward that is different or did not run; None for others.
    """

    decisions: Array
    sources: Mapping[str, str] = field(default_factory=dict)
    own_forward: str = "not compared"
    note: str | None = None


def decisions_of_model(model: Any, problem: LearningProblem) -> Array:
    """Decisions of a problem's network; a UserWarning says where a module computes another one.

    Args:
        model: as the module says; or a `LearningSolution`, or a `ModelReading`.
        problem: whose network it is.

    Raises:
        ValueError: no such file, a form that is not known, an array that is no array of finite real
            numbers or that the network has no place for, or arrays that do not fit the problem.
        ImportError: a file whose package, PyTorch or safetensors, is missing.
    """
    reading = read_model(model, problem)
    if reading.note is not None and not isinstance(model, ModelReading):
        warnings.warn(reading.note, stacklevel=2)
    return reading.decisions


def read_model(model: Any, problem: LearningProblem) -> ModelReading:
    """A model with how it was read, without a warning; otherwise as `decisions_of_model`."""
    if isinstance(model, ModelReading):
        return replace(model, decisions=_vector(model.decisions, problem))
    if hasattr(model, "trajectory") and hasattr(model.trajectory, "decisions"):
        return ModelReading(_vector(model.trajectory.decisions, problem))
    if isinstance(model, (str, os.PathLike)):
        model = read_file(Path(model))
    if hasattr(model, "state_dict"):
        return _of_module(model, problem)
    if not isinstance(model, Mapping):
        return ModelReading(_vector(as_numbers("vector", model), problem))
    return _of_mapping(model, problem, is_ordered=False)


def _of_module(module: Any, problem: LearningProblem) -> ModelReading:
    """A module of PyTorch, held against the network that it is taken for."""
    from problems.torch_modules import compare_forward, effective_state

    if hasattr(module, "architecture") and hasattr(module, "decisions"):  # a twin of ours
        reading = ModelReading(_vector(module.decisions(), problem))
    else:
        reading = _of_mapping(effective_state(module), problem, is_ordered=True)
    verdict, note = compare_forward(module, problem, reading.decisions)
    return replace(reading, own_forward=verdict, note=note)


def _of_mapping(
    model: Mapping[str, Any], problem: LearningProblem, *, is_ordered: bool
) -> ModelReading:
    """Arrays by name.

    Args:
        model: state dictionary, or one around it.
        problem: whose network it is.
        is_ordered: whether keys are known to come in the order in which modules were defined;
            otherwise they are taken to, unless they are in alphabetical order.
    """
    arrays = network_arrays(model)
    if set(arrays) == {"decisions"}:
        return ModelReading(_vector(arrays["decisions"], problem))
    scaled = [name for name in arrays if name.split(".")[-1].startswith("scaled_")]
    if scaled:
        raise ValueError(
            "the model is a state_dict in coordinates of a grid with quadrature weights; give the "
            "module, its decisions(), or the kernels as in a solution file."
        )
    outer = _readout_keys(arrays)
    inner = {key: array for key, array in arrays.items() if key not in outer.values()}
    found = place_layers(inner, problem, is_ordered=is_ordered or list(arrays) != sorted(arrays))
    _refuse_unused(inner, found, problem, has_readout=bool(outer))
    weight, bias = _readout(arrays, outer, problem)
    sources = dict(found.sources)
    if problem.trained_readout:
        sources |= {name: outer.get(name, "zero") for name in READOUT}
    return ModelReading(problem.decisions(found.controls, weight, bias), sources)


def _vector(array: Array, problem: LearningProblem) -> Array:
    expected = (problem.staged.decision_size,)
    if array.shape != expected:
        raise ValueError(
            f"the model is an array of shape {array.shape}, expected {expected}: all controls, "
            "layer by layer, then the read-out if it is trained; or give arrays by name."
        )
    return array.copy()


def _refuse_unused(
    arrays: Mapping[str, Array], found: Layers, problem: LearningProblem, *, has_readout: bool
) -> None:
    """Refuse a model with arrays that no part of the network is read from."""
    unused = [key for key in arrays if key not in found.used]
    if not unused:
        return
    missing = problem.trained_readout and not has_readout
    advice = "call the output layer readout, " if missing else ""
    raise ValueError(
        f"the model has arrays that the network has no place for: {named(unused)}; {advice}apply a "
        "map before the layers to the data, and leave out what the outputs do not depend on."
    )


def _readout_keys(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Keys of the output layer by the names of READOUT; of what has a number before, none is."""
    found: dict[str, list[str]] = {}
    modules = set()
    for key in arrays:
        match = READOUT_KEY.fullmatch(key)
        module = None if match is None else match["module"]
        front = key if module is None else re.sub(r"\.\d+$", "", module)
        if match is None or any(part.isdecimal() for part in front.split(".")):
            continue
        name = READOUT[key.endswith("bias")]
        found.setdefault(name, []).append(key)
        modules.add(re.sub(r"[._](weight|bias)$", "", key))
    if len(modules) > 1:
        raise ValueError(
            f"the model has {len(modules)} output layers, {named(sorted(modules))}, expected one; "
            "leave out the one that is not used."
        )
    return {name: keys[0] for name, keys in found.items()}


def _readout(
    arrays: Mapping[str, Array], keys: Mapping[str, str], problem: LearningProblem
) -> tuple[Array, Array]:
    """Weight and bias of the read-out, checked against the problem's."""
    shapes = dict(
        zip(READOUT, ((problem.outputs, problem.widths[-1]), (problem.outputs,)), strict=True)
    )
    found: dict[str, Array] = {}
    for name, shape in shapes.items():
        key = keys.get(name)
        if key is not None:
            if arrays[key].shape != shape:
                raise ValueError(
                    f"the model's {name} has shape {arrays[key].shape}, expected {shape}, in "
                    f"{shown(key)}; ask for the model's own sizes."
                )
            found[name] = arrays[key]
        elif problem.trained_readout and not _is_without_bias(name, keys):
            raise ValueError(
                f"the model has no {name}, but the read-out is trained; give it, of shape "
                f"{shape}, or ask for the fixed read-out."
            )
        elif keys:
            found[name] = np.zeros(shape)
    fixed = problem.readout(np.zeros(problem.staged.parameter_size))
    if not problem.trained_readout:
        own = zip(READOUT, fixed, strict=True)
        if any((found.get(name, values) != values).any() for name, values in own):
            raise ValueError(
                f"the model has a read-out of its own, {named(keys.values())}, but that of the "
                "problem takes the first coordinates; ask for a trained read-out."
            )
        return fixed
    return found[READOUT[0]], found[READOUT[1]]


def _is_without_bias(name: str, keys: Mapping[str, str]) -> bool:
    """Whether the output layer is a module that was made without a bias."""
    weight = keys.get(READOUT[0], "")
    return name == READOUT[1] and weight.endswith(".weight")
