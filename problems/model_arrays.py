"""A user's trained network as decisions (u^0, ..., u^{K-1}, q), whatever form it comes in.

    stacked     w (K, D, D), b (K, D), or w1, b1, w2, b2       as in a solution file
    by layer    w_0 (D, D), b_0 (D,), w_1, ...
    as modules  layers.0.weight, layers.0.bias, layers.1.weight, ...; two in a layer of a bottleneck
    a vector    all controls, layer by layer, then the read-out if it is trained

and `readout_weight`, `readout_bias`, or `readout.weight`, `readout.bias`. Names may have a common
prefix. Arrays may be NumPy's or PyTorch's, in a mapping, a module with a `state_dict`, a .npz file,
or a .pt, .pth or .pt2 file. The network is x + h f(x, u): the length h of a layer belongs to the
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
from problems.tables import listed

READOUT = ("readout_weight", "readout_bias")
OWN_FILES = (".pt", ".pth", ".pt2")  # of PyTorch


def decisions_of_model(model: Any, problem: LearningProblem) -> Array:
    """Decisions of a problem's network.

    Args:
        model: as the module says; or a `LearningSolution`.
        problem: whose network it is.

    Raises:
        ValueError: no such file, a form that is not known, or arrays that do not fit the problem.
        ImportError: a file of PyTorch, which is missing.
    """
    if hasattr(model, "trajectory") and hasattr(model.trajectory, "decisions"):
        return _vector(model.trajectory.decisions, problem)
    if isinstance(model, (str, os.PathLike)):
        model = _read(Path(model))
    if hasattr(model, "state_dict"):
        model = model.state_dict()
    if not isinstance(model, Mapping):
        return _vector(_array("the vector", model), problem)
    if set(model) == {"decisions"}:
        return _vector(_array("decisions", model["decisions"]), problem)
    arrays = {str(name): _array(str(name), value) for name, value in model.items()}
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


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix not in (".npz", *OWN_FILES):
        raise ValueError(
            f"{str(path)!r}: a model is read from .npz, {', '.join(OWN_FILES)}; change the name."
        )
    if not path.is_file():
        raise ValueError(f"cannot read {path}: there is no such file.")
    if suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                kept = [n for n in file.files if n != "metadata" and file[n].dtype.kind in "fiu"]
                return {name: file[name] for name in kept}
        except Exception as error:  # NumPy, zipfile and zlib raise a dozen different types
            raise ValueError(f"{path} is truncated, or no .npz file of plain arrays.") from error
    from problems.pytorch import torch  # only here is it needed, and says so if it is missing

    try:
        if suffix == ".pt2":
            return torch.export.load(path).state_dict
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # pickle, zipfile and PyTorch raise as many
        raise ValueError(
            f"{path} is truncated, or holds more than tensors; write it with "
            "torch.save(model.state_dict(), path)."
        ) from error


def _controls(arrays: Mapping[str, Array], problem: LearningProblem) -> dict[str, Array]:
    """Every control stacked over the layers, in the order of the field."""
    shapes = problem.field.shapes(problem.state_size, problem.hidden_size)
    layers = problem.layers
    stacked = {name: _ending(arrays, name) for name in shapes}
    if not any(key is not None for key in stacked.values()):
        found = _by_layer(arrays, shapes, layers) or _modules(arrays, shapes, layers)
        if found is None:
            raise ValueError(
                f"the model has the arrays {listed(arrays)}, expected {', '.join(shapes)} stacked "
                f"over the {layers} layers, or {next(iter(shapes))}_0, ..., or layers.0.weight, ..."
            )
    else:
        missing = [name for name, key in stacked.items() if key is None]
        if missing:
            raise ValueError(
                f"the model has no array {missing[0]!r}, only {listed(arrays)}; the "
                f"{problem.field.name} field has {', '.join(shapes)}."
            )
        found = {name: arrays[key] for name, key in stacked.items() if key is not None}
    for name, shape in shapes.items():
        expected = (layers, *shape)
        if found[name].shape != expected:
            raise ValueError(
                f"the model's {name} has shape {found[name].shape}, expected {expected}: "
                f"{layers} layers, width {problem.state_size}; ask for the model's own sizes."
            )
    return found


def _ending(arrays: Mapping[str, Array], name: str) -> str | None:
    """The key that is this name, or ends in it after a prefix."""
    if name in arrays:
        return name
    return next((key for key in arrays if key.endswith(f".{name}")), None)


def _by_layer(
    arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], layers: int
) -> dict[str, Array] | None:
    """From `w_0`, `b_0`, ...; None if the arrays are not so named."""
    if all(_ending(arrays, f"{name}_0") is None for name in shapes):
        return None
    found = {}
    for name in shapes:
        keys = [_ending(arrays, f"{name}_{k}") for k in range(layers)]
        if None in keys or _ending(arrays, f"{name}_{layers}") is not None:
            number = sum(_ending(arrays, f"{name}_{k}") is not None for k in range(len(arrays)))
            raise ValueError(
                f"the model has {number} arrays {name}_0, ..., expected {layers}, one per layer."
            )
        found[name] = _stack(name, [arrays[key] for key in keys if key is not None])
    return found


def _modules(
    arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], layers: int
) -> dict[str, Array] | None:
    """From the weights and biases of linear modules in layers; None if there are none."""
    blocks: dict[int, dict[str, dict[str, Array]]] = {}
    for key, array in arrays.items():
        match = re.fullmatch(r"(?:.*\.)?(\d+)\.(?:(.+)\.)?(weight|bias)", key)
        if match is not None and not key.startswith("readout"):
            module = blocks.setdefault(int(match[1]), {}).setdefault(match[2] or "", {})
            module[match[3]] = array
    if not blocks:
        return None
    matrices = [name for name, shape in shapes.items() if len(shape) == 2]
    biases = [name for name, shape in shapes.items() if len(shape) == 1]
    if len(blocks) != layers or any(len(block) != len(matrices) for block in blocks.values()):
        sizes = sorted({len(block) for block in blocks.values()})
        raise ValueError(
            f"the model has {len(blocks)} layers of {' or '.join(map(str, sizes))} linear modules, "
            f"expected {layers} of {len(matrices)}."
        )
    found: dict[str, list[Array]] = {name: [] for name in shapes}
    for k in sorted(blocks):
        for matrix, bias, module in zip(matrices, biases, blocks[k].values(), strict=True):
            if "weight" not in module:
                raise ValueError(f"the model's layer {k} has a bias but no weight.")
            found[matrix].append(module["weight"])
            found[bias].append(module.get("bias", np.zeros(shapes[bias])))
    return {name: _stack(name, parts) for name, parts in found.items()}


def _stack(name: str, parts: list[Array]) -> Array:
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            f"the model's {name} has the shapes {listed(map(str, sorted(shapes)))}, expected one "
            "width for all layers."
        )
    return np.stack(parts)


def _readout(arrays: Mapping[str, Array], problem: LearningProblem) -> tuple[Array, Array]:
    """Weight and bias of the read-out, checked against the problem's."""
    expected = (problem.outputs, problem.state_size), (problem.outputs,)
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
