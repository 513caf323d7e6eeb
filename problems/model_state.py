"""The arrays of one network, in float64, out of whatever a training script keeps them in.

    {"state_dict": {...}, "optimizer": {...}, "epoch": 3}      the one state dictionary in it
    module._orig_mod.layers.0.weight                           layers.0.weight
    layers.0.weight_orig, layers.0.weight_mask                 W = W_orig * mask       (pruning)
    layers.0.weight_g, layers.0.weight_v                       W = g V / |V|           (weight norm)

Every array is kept under its name or named in an error. What an optimiser, a scheduler or a logger
remembers is no array of the network. bfloat16, float16 and float32 are exact in float64, and so are
integers below 2^53; what would lose a part of itself is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from problems.learning import Array
from problems.model_files import network_names
from problems.tables import listed

# Names of what wraps a module: DataParallel, torch.compile, checkpointed and sharded modules.
WRAPPERS = frozenset({"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
# What an optimiser, a scheduler or a logger keeps beside the state dictionary in a checkpoint. A
# dictionary without arrays needs no name here, and a scaler of the inputs must not have one.
RECORDS = re.compile(
    r"(optim(izer)?s?|(lr_)?sched(uler)?s?|callbacks|loops|hparams|hyper_?param(eter)?s|(\w+_)?rng)"
    r"(_\w+)?|(\w+_)?(loss|losses|history|epoch|step)",
    re.IGNORECASE,
)
COUNTERS = ("n_averaged",)  # of AveragedModel: how many networks the arrays are the mean of
NESTING = 4  # most dictionaries around a state dictionary; more is a dictionary in itself
EXACT_INTEGERS = 2**53  # from here on, neighbouring integers are one number in float64
LONGEST_NAME = 80  # characters of a name in a message


def network_arrays(model: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays of a network by name, without the names of wrappers, in the order of the mapping.

    Args:
        model: arrays by name, or a dictionary around one such; arrays may be NumPy's or PyTorch's.

    Raises:
        ValueError: more than one network, one name for two arrays, or a value that is no finite
            real array.
    """
    arrays: dict[str, Array] = {}
    origins: dict[str, str] = {}
    for key, value in _state_dictionary(model, NESTING).items():
        name = _without_wrappers(str(key))
        if name.split(".")[-1] in COUNTERS and not np.ndim(value):
            continue
        if name in origins:
            raise ValueError(
                f"the model's {shown(origins[name])} and {shown(str(key))} are one name, "
                f"{shown(name)}, without the names of wrappers; give one of the two networks."
            )
        origins[name], arrays[name] = str(key), as_numbers(str(key), value)
    return _derived(arrays)


def shown(name: str) -> str:
    """A name in quotes, cut where it is too long to be read."""
    return repr(_cut(name))


def named(names: Iterable[Any]) -> str:
    """Names in quotes on one line, each cut, and after a dozen their number."""
    return listed(_cut(str(name)) for name in names)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."


def _state_dictionary(model: Mapping[str, Any], nesting: int) -> Mapping[str, Any]:
    """The one that holds the network, in a dictionary of a training script."""
    if any(not isinstance(name, str) for name in model):
        raise ValueError(
            f"the model names its arrays {named(model)}, expected text; give arrays by name, as "
            "a state_dict does."
        )
    names = network_names(model)
    values = {name: model[name] for name in names}
    values = {name: value for name, value in values.items() if not _is_record(name, value)}
    found = {name: _dictionary(value) for name, value in values.items() if _is_dictionary(value)}
    rest = {name: value for name, value in values.items() if name not in found}
    found = {name: part for name, part in found.items() if _holds_arrays(part, nesting)}
    if not found:
        return rest
    if len(found) > 1 or not nesting:
        raise ValueError(
            f"the model is a dictionary with the dictionaries {named(found)}, expected one "
            "network; give the dictionary that holds its arrays."
        )
    loose = [name for name, value in rest.items() if _is_array(value) or _is_list(value)]
    if loose:
        raise ValueError(
            f"the model has the arrays {named(loose)} beside the dictionary {named(found)}; "
            "give one dictionary with all arrays of the network."
        )
    return _state_dictionary(next(iter(found.values())), nesting - 1)


def _is_dictionary(value: Any) -> bool:
    return isinstance(value, Mapping) or hasattr(value, "state_dict")


def _dictionary(value: Any) -> Mapping[Any, Any]:
    found = value if isinstance(value, Mapping) else value.state_dict()
    return found if isinstance(found, Mapping) else {}


def _holds_arrays(part: Mapping[Any, Any], nesting: int) -> bool:
    """Whether there is an array in a dictionary, or one that is deeper than is looked."""
    return any(
        _is_array(value)
        or _is_list(value)
        or (
            _is_dictionary(value)
            and (not nesting or _holds_arrays(_dictionary(value), nesting - 1))
        )
        for value in part.values()
    )


def _is_array(value: Any) -> bool:
    # a parameter of a lazy module has no shape yet, and asking for one is an error
    return type(value).__name__.startswith("Uninitialized") or bool(getattr(value, "ndim", 0))


def _is_list(value: Any) -> bool:
    """Whether arrays stand in a list, where they have no names."""
    return isinstance(value, (list, tuple)) and any(_is_array(item) for item in value)


def _is_record(name: str, value: Any) -> bool:
    """Whether this is a number or a dictionary of the training, and not of the network."""
    if isinstance(value, Mapping) and "param_groups" in value:
        return True  # an optimiser's, under any name
    return RECORDS.fullmatch(name) is not None and (_is_dictionary(value) or not _is_array(value))


def _without_wrappers(key: str) -> str:
    parts = [part for part in key.split(".") if part not in WRAPPERS]
    return ".".join(parts) if parts else key


def as_numbers(name: str, value: Any) -> Array:
    """An array of any kind in float64.

    Args:
        name: for messages.
        value: an array of NumPy or PyTorch, sparse or of low precision too, or nested lists.

    Raises:
        ValueError: no array of finite real numbers, or one that float64 cannot hold.
    """
    numbers = _from_tensor(name, value) if hasattr(value, "detach") else value
    if isinstance(numbers, np.ma.MaskedArray) and np.ma.is_masked(numbers):
        raise ValueError(f"the model's {shown(name)} has masked entries; give their values.")
    try:
        array = np.asarray(numbers)
    except (TypeError, ValueError):  # nested lists of several lengths
        array = np.empty((), dtype=object)
    kind = array.dtype.kind
    if kind == "c":
        raise ValueError(
            f"the model's {shown(name)} is complex, and its imaginary part would be lost; give "
            "real arrays."
        )
    try:
        if kind in "bSUOMm":
            raise TypeError
        numbers = array.astype(np.float64)
    except (TypeError, ValueError):
        wrong = array.dtype.name if hasattr(value, "dtype") else type(value).__name__
        raise ValueError(
            f"the model's {shown(name)} is of type {wrong}, expected an array of numbers; give a "
            "module, a state_dict, arrays by name, one vector, or a file."
        ) from None
    if kind in "iu" and array.size and np.abs(numbers).max() >= EXACT_INTEGERS:
        raise ValueError(
            f"the model's {shown(name)} holds integers of 2^53 or more, which float64 does not "
            "tell apart; give it as floating-point numbers."
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"the model's {shown(name)} holds a value that is not finite.")
    return numbers


def _from_tensor(name: str, value: Any) -> Any:
    """A tensor as NumPy's array: dense, in memory, of a type that NumPy knows."""
    from problems.pytorch import torch  # whose tensor it is

    if value.is_meta:
        raise ValueError(
            f"the model's {shown(name)} is a meta tensor, which has a shape but no values; load "
            "the weights into the module first."
        )
    try:
        value = value.detach()
        if value.is_quantized:
            value = value.dequantize()
        if value.layout != torch.strided:
            value = value.to_dense()
        value = value.cpu().resolve_conj().resolve_neg()
        return (value.double() if value.is_floating_point() else value).numpy()
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"the model's {shown(name)} is a tensor that has no dense values "
            f"({type(value).__name__}); load the weights into the module first."
        ) from error


def _derived(arrays: dict[str, Array]) -> dict[str, Array]:
    """With the arrays of pruning and weight normalisation in place of what they are made from."""
    made: dict[str, Array] = {}
    for name, array in arrays.items():
        if "parametrizations" in name.split("."):
            raise ValueError(
                f"the model's {shown(name)} belongs to a parametrization, of which a state_dict "
                "does not say what it computes; give the module, or its state_dict after "
                "torch.nn.utils.parametrize.remove_parametrizations."
            )
        for ends, combined in ((("_orig", "_mask"), _pruned), (("_v", "_g"), _normalized)):
            stem = next((name.removesuffix(e) for e in ends if name.endswith(e)), None)
            if stem is None or any(f"{stem}{end}" not in arrays for end in ends):
                continue
            if stem in arrays:
                raise ValueError(
                    f"the model has {shown(stem)} and {shown(name)}, from which it is computed; "
                    "leave one of the two out."
                )
            made[stem] = combined(stem, *(arrays[f"{stem}{end}"] for end in ends))
            break
        else:
            made[name] = array
    return made


def _pruned(name: str, original: Array, mask: Array) -> Array:
    if original.shape != mask.shape or not np.isin(mask, (0.0, 1.0)).all():
        raise ValueError(
            f"the model's {shown(name + '_mask')} is no mask of zeros and ones of the shape "
            f"{original.shape} of {shown(name + '_orig')}; prune the module again."
        )
    return original * mask


def _normalized(name: str, direction: Array, size: Array) -> Array:
    """The array g V / |V|, the norm over all axes along which g has one entry."""
    fits = size.ndim == 0 or (
        size.ndim == direction.ndim
        and all(n in (1, m) for n, m in zip(size.shape, direction.shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"the model's {shown(name + '_g')} has shape {size.shape}, which is no norm of "
            f"{shown(name + '_v')} of shape {direction.shape}."
        )
    single = [axis for axis, n in enumerate(size.shape) if n == 1]
    axes = tuple(single) if size.ndim else None
    norm = np.sqrt(np.sum(direction**2, axis=axes, keepdims=size.ndim > 0))
    if not (norm > 0).all():
        raise ValueError(f"the model's {shown(name + '_v')} has a direction of length zero.")
    return direction * (size / norm)
