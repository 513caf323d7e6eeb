"""Model files as values by name: a file holds numbers here, and never code.

    .npz           NumPy's archive with allow_pickle=False
    .safetensors   names, types and shapes as JSON, then bytes: nothing in it can run
    .pt, .pth      torch.load(weights_only=True): tensors and plain containers, nothing else

A .pt2 is a program of `torch.export` and is not read: `torch.export.load` unpickles parts of it,
and can load native code out of it, so that opening a stranger's file would run what is in it.
Nothing is ever unpickled, whatever the environment of PyTorch says.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".npz", ".safetensors", ".pt", ".pth")

# What a solution file or the file of a run holds beside the network, where it holds metadata.
BESIDE_THE_NETWORK = re.compile(
    r"metadata|times|inputs|targets|decisions|history_\w+"
    r"|(states|costates|nodes|quadrature|interpolation)(_\d+)?"
)
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # as PyTorch names what it refused to build


def read_file(path: Path) -> Mapping[str, Any]:
    """Whatever a model file holds, by name; the keys of .safetensors are in alphabetical order.

    Args:
        path: of the file; its suffix says what it is.

    Raises:
        ValueError: no such file, another suffix, a truncated or foreign file, or one that holds
            more than numbers.
        ImportError: the package that reads it is missing.
    """
    suffix = path.suffix.lower()
    if suffix == ".pt2":
        raise ValueError(
            f"{str(path)!r} is a program of torch.export, which is not read, because opening one "
            "can run code; save the parameters alone, as .safetensors with "
            "safetensors.torch.save_file(model.state_dict(), path), or as .npz with numpy.savez."
        )
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{str(path)!r}: a model is read from {', '.join(SUFFIXES)}; change the name."
        )
    if not path.is_file():
        raise ValueError(f"cannot read {path}: there is no such file.")
    if suffix == ".npz":
        return _npz(path)
    return _safetensors(path) if suffix == ".safetensors" else _pytorch(path)


def network_names(names: Iterable[str]) -> list[str]:
    """The names of a network's arrays: all, or those of the network in a file of this program."""
    names = list(names)
    if "metadata" not in names:
        return names
    return [name for name in names if BESIDE_THE_NETWORK.fullmatch(name) is None]


def _npz(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = list(file.files)
            arrays = {name: file[name] for name in network_names(names)}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("it has members that are no arrays")
    except Exception as error:  # NumPy, zipfile and zlib raise a dozen different types
        raise ValueError(
            f"{path} is truncated, or no .npz file of plain arrays; write it with "
            "numpy.savez(path, w=w, b=b)."
        ) from error
    if len(set(names)) < len(names):  # a zip archive may hold one name twice
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{path} holds the array {twice[0]!r} twice; write it again.")
    return arrays


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(
            f"{path} needs the package safetensors, which is not installed; "
            "install it with: pip install 'turnpike[sgd]'"
        ) from error
    from problems.pytorch import torch  # noqa: F401  NumPy alone has no bfloat16

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} is truncated, or no safetensors file; write it with "
            "safetensors.torch.save_file(model.state_dict(), path)."
        ) from error


def _pytorch(path: Path) -> Mapping[str, Any]:
    from problems.pytorch import torch  # only here is it needed, and says so if it is missing

    try:
        with warnings.catch_warnings():  # PyTorch's of formats that it then refuses
            warnings.simplefilter("ignore")
            found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # pickle, zipfile and PyTorch raise as many
        refused = GLOBAL.search(str(error))
        what = (
            "is truncated, or holds more than tensors"
            if refused is None
            else f"holds more than tensors (the object {refused[1]!r})"
        )
        raise ValueError(
            f"{path} {what}, and no object is ever unpickled; write it with "
            "torch.save(model.state_dict(), path)."
        ) from error
    if hasattr(found, "detach"):
        return {"decisions": found}
    if not isinstance(found, Mapping):
        raise ValueError(
            f"{path} holds a {type(found).__name__}, expected arrays by name; write it with "
            "torch.save(model.state_dict(), path)."
        )
    return found
