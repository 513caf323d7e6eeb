"""A user's trained network as decisions (u^0, ..., u^{K-1}, q), whatever form it comes in.

    stacked     w (K, D, D), b (K, D), or w1, b1, w2, b2       as in a solution file
    by layer    w_0 (D, D), b_0 (D,), w_1, ...
    as modules  layers.0.weight, layers.0.bias, layers.1.weight, ...; two in a layer of a bottleneck
    a vector    all controls, layer by layer, then the read-out if it is trained

and `readout_weight`, `readout_bias`, or `readout.weight`, `readout.bias`. Names may have a common
prefix. Arrays may be NumPy's or PyTorch's, in a mapping, a module with a `state_dict`, or a file of
`problems.model_files`. The network is x + h f(x, u): the length h of a layer belongs to the
scheme, and not to the arrays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from problems.learning import Array, LearningProblem
from problems.model_files import read_file
from problems.tables import listed

READOUT = ("readout_weight", "readout_bias")


def decisions_of_model(model: Any, problem: LearningProblem) -> Array:
    """Decisions of a problem's network.

    Args:
        model: as the module says; or a `LearningSolution`.
        problem: whose network it is.

    Raises:
        ValueError: no such file, a form that is not known, or arrays that do not fit the problem.
        ImportError: a file whose package, PyTorch or safetensors, is missing.
    """
    if hasattr(model, "trajectory") and hasattr(model.trajectory, "decisions"):
        return _vector(model.trajectory.decisions, problem)
    if isinstance(model, (str, os.PathLike)):
        model = read_file(Path(model))
    if hasattr(model, "architecture") and hasattr(model, "decisions"):
        return _vector(model.decisions(), problem)
    if hasattr(model, "state_dict"):
        model = model.state_dict()
    if not isinstance(model, Mapping):
        return _vector(_array("the vector", model), problem)
    if set(model) == {"decisions"}:
        return _vector(_array("decisions", model["decisions"]), problem)
    arrays = {str(name): _array(str(name), value) for name, value in model.items()}
    scaled = [name for name in arrays if name.split(".")[-1].startswith("scaled_")]
    if scaled:
        raise ValueError(
            "the model is a state_dict in coordinates of a grid with quadrature weights; give the "
            "module, its decisions(), or the kernels as in a solution file."
        )
    return problem.decisions(_controls(arrays, problem), *_readout(arrays, problem))


def _array(name: str, value: Any) -> Array:
    """Any kind of array as float64, finite."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise ValueError(
            f"the model's {name!r} is of type {kind}, expected an array of numbers; give a module, "
            "a state_dict, arrays by name, one vector, or a file."
        ) from None
    if not np.isfinite(array).all():
        raise ValueError(f"the model's {name!r} holds a value that is not finite.")
    return array


def _vector(array: Array, problem: LearningProblem) -> Array:
    expected = (problem.staged.decision_size,)
    if array.shape != expected:
        raise ValueError(
            f"the model is an array of shape {array.shape}, expected {expected}: all controls, "
            "layer by layer, then the read-out if it is trained; or give arrays by name."
        )
    return array.copy()


def _controls(arrays: Mapping[str, Array], problem: LearningProblem) -> list[dict[str, Array]]:
    """Controls of every layer by name."""
    layers = problem.layers
    shapes = [problem.layer(k).shapes for k in range(layers)]
    names = list(shapes[0])
    stacked = {name: _ending(arrays, name) for name in names}
    found: list[dict[str, Array]] | None
    if any(key is not None for key in stacked.values()):
        missing = [name for name, key in stacked.items() if key is None]
        if missing:
            raise ValueError(
                f"the model has no array {missing[0]!r}, only {listed(arrays)}; the "
                f"{problem.field.name} field has {', '.join(names)}."
            )
        parts = {name: arrays[key] for name, key in stacked.items() if key is not None}
        for name, part in parts.items():
            expected = (layers, *shapes[0][name])
            if not problem.has_one_width or part.shape != expected:
                wanted = expected if problem.has_one_width else "one array per layer"
                raise ValueError(
                    f"the model's {name} has shape {part.shape}, expected {wanted}: {layers} "
                    f"layers, width {problem.state_size}; ask for the model's own sizes."
                )
        return [{name: part[k] for name, part in parts.items()} for k in range(layers)]
    found = _by_layer(arrays, names, layers) or _modules(arrays, shapes)
    if found is None:
        raise ValueError(
            f"the model has the arrays {listed(arrays)}, expected {', '.join(names)} stacked "
            f"over the {layers} layers, or {names[0]}_0, ..., or layers.0.weight, ..."
        )
    for k, layer in enumerate(found):
        for name, shape in shapes[k].items():
            if layer[name].shape != shape:
                raise ValueError(
                    f"the model's {name} of layer {k} has shape {layer[name].shape}, expected "
                    f"{shape}; ask for the model's own sizes."
                )
    return found


def _ending(arrays: Mapping[str, Array], name: str) -> str | None:
    """The key that is this name, or ends in it after a prefix."""
    if name in arrays:
        return name
    return next((key for key in arrays if key.endswith(f".{name}")), None)


def _by_layer(
    arrays: Mapping[str, Array], names: list[str], layers: int
) -> list[dict[str, Array]] | None:
    """From `w_0`, `b_0`, ...; None if the arrays are not so named."""
    if all(_ending(arrays, f"{name}_0") is None for name in names):
        return None
    found: list[dict[str, Array]] = [{} for _ in range(layers)]
    for name in names:
        keys = [_ending(arrays, f"{name}_{k}") for k in range(len(arrays))]
        number = sum(key is not None for key in keys)
        if number != layers or None in keys[:layers]:
            raise ValueError(
                f"the model has {number} arrays {name}_0, ..., expected {layers}, one per layer."
            )
        for layer, key in zip(found, keys, strict=False):
            assert key is not None
            layer[name] = arrays[key]
    return found


def _modules(
    arrays: Mapping[str, Array], shapes: list[dict[str, tuple[int, ...]]]
) -> list[dict[str, Array]] | None:
    """From the weights and biases of linear modules in layers; None if there are none."""
    blocks: dict[int, dict[str, dict[str, Array]]] = {}
    for key, array in arrays.items():
        match = re.fullmatch(r"(?:.*\.)?(\d+)\.(?:(.+)\.)?(weight|bias)", key)
        if match is not None and not key.startswith("readout"):
            module = blocks.setdefault(int(match[1]), {}).setdefault(match[2] or "", {})
            module[match[3]] = array
    if not blocks:
        return None
    matrices = [name for name, shape in shapes[0].items() if len(shape) == 2]
    biases = [name for name, shape in shapes[0].items() if len(shape) == 1]
    if len(blocks) != len(shapes) or any(len(b) != len(matrices) for b in blocks.values()):
        sizes = sorted({len(block) for block in blocks.values()})
        raise ValueError(
            f"the model has {len(blocks)} layers of {' or '.join(map(str, sizes))} linear modules, "
            f"expected {len(shapes)} of {len(matrices)}."
        )
    found = []
    for k, number in enumerate(sorted(blocks)):
        layer = {}
        for matrix, bias, module in zip(matrices, biases, blocks[number].values(), strict=True):
            if "weight" not in module:
                raise ValueError(f"the model's layer {number} has a bias but no weight.")
            layer[matrix] = module["weight"]
            layer[bias] = module.get("bias", np.zeros(shapes[k][bias]))
        found.append(layer)
    return found


def _readout(arrays: Mapping[str, Array], problem: LearningProblem) -> tuple[Array, Array]:
    """Weight and bias of the read-out, checked against the problem's."""
    expected = (problem.outputs, problem.widths[-1]), (problem.outputs,)
    found: list[Array] = []
    for name, shape in zip(READOUT, expected, strict=True):
        key = _ending(arrays, name) or _ending(arrays, name.replace("_", "."))
        if key is None:
            if problem.trained_readout:
                raise ValueError(
                    f"the model has no {name}, but the read-out is trained; give it, of shape "
                    f"{shape}, or ask for the fixed read-out."
                )
            continue
        if arrays[key].shape != shape:
            raise ValueError(f"the model's {name} has shape {arrays[key].shape}, expected {shape}.")
        found.append(arrays[key])
    fixed = problem.readout(np.zeros(problem.staged.parameter_size))
    if not problem.trained_readout:
        if any((a != b).any() for a, b in zip(found, fixed, strict=False) if a.shape == b.shape):
            raise ValueError(
                "the model has a read-out of its own, but that of the problem takes the first "
                "coordinates; ask for a trained read-out."
            )
        return fixed
    return found[0], found[1]
