"""Linear modules in numbered layers as the controls of a network.

    (module)... k ...(module).weight     the first number in a key is the layer, the rest the module

With two modules in a layer, as in w2 s(w1 x + b1) + b2, the shapes (H, D) and (D, H) say which is
w1. Where H = D both fit: then numbers in their names do (`0` before `2`, `fc1` before `fc2`), and
else the order of definition, if the keys have kept it. A model of which none of these is known is
refused. Numbers of layers are 0, ..., K-1, or, where modules without parameters stand between them,
equally spaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from problems.learning import Array
from problems.model_state import named, shown

Module = tuple[str, ...]  # what is left of a key without the layer's number and the leaf
Shapes = dict[str, tuple[int, ...]]
# Words in the name of a copy that is averaged or frozen, and not a part of the network itself.
COPIES = frozenset({"ema", "swa", "averaged", "average", "shadow", "teacher"})
DIGITS = re.compile(r"[0-9]{1,9}")  # more are no number of anything
LAYER = "k"  # the number of a layer, where a key is shown for all of them


@dataclass(frozen=True, eq=False)
class Layers:
    """Controls of every layer, and where they come from.

    Args:
        controls: by name, of every layer.
        sources: by name, the key with the number of the layer as k; "zero" for a bias that is none
            of the arrays.
        used: all keys that were read.
    """

    controls: list[dict[str, Array]]
    sources: Mapping[str, str]
    used: frozenset[str]


def layer_place(key: str) -> int | None:
    """Where the first number stands among the parts of a key."""
    parts = key.split(".")
    return next((i for i, part in enumerate(parts) if DIGITS.fullmatch(part)), None)


def several_numbers(numbers: Sequence[int]) -> str:
    """Numbers of layers, the first few."""
    few = ", ".join(map(str, numbers[:12]))
    return (few or "none") if len(numbers) <= 12 else f"{few}, ..."


# Layer, module, leaf -> key
_Blocks = dict[int, dict[Module, dict[str, str]]]


def layers_of_modules(
    arrays: Mapping[str, Array], shapes: Sequence[Shapes], is_ordered: bool
) -> Layers | None:
    """Controls from the weights and biases of linear modules in layers, or from w.0, b.0, ...

    Args:
        arrays: by name.
        shapes: of the controls of every layer, by name.
        is_ordered: whether the keys are in the order in which modules were defined.

    Returns:
        None if there are no such arrays, or if the controls are not those of linear modules.

    Raises:
        ValueError: another number of layers or modules, a copy of the network beside it, or modules
            whose order is not known.
    """
    names = list(shapes[0])
    blocks: _Blocks = {}
    direct: _Blocks = {}  # w and b themselves, as w.0 or layers.0.w
    for key in arrays:
        at = layer_place(key)
        if at is None:
            continue
        parts = key.split(".")
        *module, leaf = parts[:at] + parts[at + 1 :] or [""]
        chosen = blocks if leaf in ("weight", "bias") else direct if leaf in names else None
        if chosen is not None:
            leaves = chosen.setdefault(int(parts[at]), {}).setdefault(tuple(module), {})
            if leaf in leaves:  # 0 and 00
                raise ValueError(
                    f"the model has {shown(leaves[leaf])} and {shown(key)} for one layer; leave "
                    "one out."
                )
            leaves[leaf] = key
    if direct:
        _check_modules(direct, len(shapes), 1)
        group = _same_modules(direct)[0]
        place = {name: (group, name) for name in names}
        return _gathered(arrays, direct, shapes, place)
    matrices = [name for name, shape in shapes[0].items() if len(shape) == 2]
    biases = [name for name, shape in shapes[0].items() if len(shape) == 1]
    if not blocks or len(matrices) != len(biases) or len(matrices) > 2:
        return None  # a field of one's own need not be made of linear modules
    _check_modules(blocks, len(shapes), len(matrices))
    modules = _in_order(arrays, blocks, shapes, matrices, is_ordered)
    place = {m: (module, "weight") for m, module in zip(matrices, modules, strict=True)}
    place |= {b: (module, "bias") for b, module in zip(biases, modules, strict=True)}
    return _gathered(arrays, blocks, shapes, {name: place[name] for name in names})


def _check_modules(blocks: _Blocks, layers: int, matrices: int) -> None:
    """Refuse another number of layers or of modules in them, or modules that are not in all."""
    sizes = sorted({len(block) for block in blocks.values()})
    held = [_module_key(blocks, min(blocks), module) for module in blocks[min(blocks)]]
    if len(blocks) != layers or sizes != [matrices]:
        raise ValueError(
            f"the model has {len(blocks)} layers of {' or '.join(map(str, sizes))} linear modules, "
            f"expected {layers} of {matrices}; the layers are numbered "
            f"{several_numbers(sorted(blocks))}, and the first holds {named(held)}."
        )
    numbers = sorted(blocks)
    gap = numbers[1] - numbers[0] if layers > 1 else 1
    # With modules without parameters in between, such as a Tanh, numbers go up by 2, 3, ...
    if numbers != [numbers[0] + gap * k for k in range(layers)] or numbers[0] >= gap:
        raise ValueError(
            f"the model's layers are numbered {several_numbers(numbers)}, expected 0 to "
            f"{layers - 1}; a layer is missing, or one is not a layer."
        )
    _same_modules(blocks)


def _same_modules(blocks: _Blocks) -> list[Module]:
    first = min(blocks)
    for k in sorted(blocks):
        if set(blocks[k]) != set(blocks[first]):
            odd = sorted(set(blocks[k]) ^ set(blocks[first]))[0]
            where, lacks = (k, first) if odd in blocks[k] else (first, k)
            raise ValueError(
                f"the model has {shown(_module_key(blocks, where, odd))}, and no such module in "
                f"layer {lacks}; give all layers the same modules."
            )
    return list(blocks[first])


def _module_key(blocks: _Blocks, k: int, module: Module) -> str:
    """A module of a layer as its keys call it, or the key itself where it has no leaf."""
    key = next(iter(blocks[k][module].values()))
    stem = key.removesuffix(".weight").removesuffix(".bias")
    return stem or key


def _in_order(
    arrays: Mapping[str, Array],
    blocks: _Blocks,
    shapes: Sequence[Shapes],
    matrices: Sequence[str],
    is_ordered: bool,
) -> list[Module]:
    """Modules in the order of the matrices that they are."""
    modules = _same_modules(blocks)
    for k in sorted(blocks):
        for module in modules:
            if "weight" not in blocks[k][module]:
                raise ValueError(
                    f"the model's layer {k} has a bias but no weight, "
                    f"{shown(blocks[k][module]['bias'])}; give its weight."
                )
    if len(modules) == 1:
        return modules
    first, second = modules
    _refuse_copies(first, second)

    def fits(order: Sequence[Module]) -> bool:
        return all(
            arrays[blocks[k][module]["weight"]].shape == shape[name]
            for k, shape in zip(sorted(blocks), shapes, strict=True)
            for name, module in zip(matrices, order, strict=True)
        )

    orders = ((first, second), (second, first))
    fitting = [order for order in orders if fits(order)]
    if len(fitting) == 1:
        return list(fitting[0])
    numbers = [[int(n) for n in DIGITS.findall(".".join(m))] for m in modules]
    skeletons = {DIGITS.sub("#", ".".join(module)) for module in modules}
    if len(skeletons) == 1 and numbers[0] != numbers[1]:
        return [first, second] if numbers[0] < numbers[1] else [second, first]
    if is_ordered or not fitting:
        return [first, second]
    keys = [blocks[min(blocks)][module]["weight"] for module in modules]
    raise ValueError(
        f"the model's {named(keys)} have one shape, and their names and their alphabetical order "
        f"do not say which is {matrices[0]}; call them {' and '.join(matrices)}."
    )


def _refuse_copies(first: Module, second: Module) -> None:
    """Two modules of which one is an averaged or frozen copy of the other are two networks."""
    shorter, longer = sorted((first, second), key=len)
    is_suffix = len(longer) > len(shorter) > 0 and longer[-len(shorter) :] == shorter
    words = [{w for part in module for w in part.lower().split("_")} for module in (first, second)]
    if is_suffix or bool(words[0] & COPIES) is not bool(words[1] & COPIES):
        raise ValueError(
            f"the model has the networks {named('.'.join(m) for m in (first, second))}, of which "
            "one is a copy of the other; give one of them alone."
        )


def _gathered(
    arrays: Mapping[str, Array],
    blocks: _Blocks,
    shapes: Sequence[Shapes],
    place: Mapping[str, tuple[Module, str]],
) -> Layers:
    """Controls from keys; a bias that no layer has is zero, one that some have is missing."""
    numbers = sorted(blocks)
    keys = {
        name: [blocks[k].get(module, {}).get(leaf) for k in numbers]
        for name, (module, leaf) in place.items()
    }
    for name, found in keys.items():
        is_bias = place[name][1] == "bias"
        if None in found and not (is_bias and set(found) == {None}):
            leaf = place[name][1]
            known = next((key for key in found if key is not None), None)
            like = "" if known is None else f", as {shown(known)} is"
            raise ValueError(
                f"the model has no {leaf} ({name}) in layer {numbers[found.index(None)]}{like}; "
                "give it for every layer."
            )
    controls = []
    for k, shape in enumerate(shapes):
        layer = {}
        for name, found in keys.items():
            key = found[k]
            layer[name] = np.zeros(shape[name]) if key is None else arrays[key]
        controls.append(layer)
    sources = {name: _for_all_layers(found[0]) for name, found in keys.items()}
    used = frozenset(key for found in keys.values() for key in found if key is not None)
    return Layers(controls, sources, used)


def _for_all_layers(key: str | None) -> str:
    """A key of layer 0 with its number as k."""
    if key is None:
        return "zero"
    parts = key.split(".")
    at = layer_place(key)
    assert at is not None
    return ".".join([*parts[:at], LAYER, *parts[at + 1 :]])
