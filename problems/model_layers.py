"""Arrays by name as the controls u^0, ..., u^{K-1} of a network, by the names that they have.

    w, b                                 stacked over the layers
    w_0, b_0, w_1, ...                   one array per layer
    (module)... k ...(module).weight     linear modules of layer k (`problems.model_modules`)

The first of these forms that has any array is the model's; arrays that are not of it are left over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from problems.learning import Array, LearningProblem
from problems.model_modules import (
    LAYER,
    Layers,
    Shapes,
    layer_place,
    layers_of_modules,
    several_numbers,
)
from problems.model_state import named


def place_layers(
    arrays: Mapping[str, Array], problem: LearningProblem, *, is_ordered: bool
) -> Layers:
    """Controls of a problem's network from arrays that are not those of its read-out.

    Args:
        arrays: by name.
        problem: with K layers.
        is_ordered: whether the keys are in the order in which modules were defined.

    Raises:
        ValueError: no form that is known, two networks in one, a missing array, another number of
            layers or modules, or another shape.
    """
    shapes = [problem.layer(k).shapes for k in range(problem.layers)]
    names = list(shapes[0])
    found = (
        _stacked(arrays, problem, shapes)
        or _by_layer(arrays, names, len(shapes))
        or layers_of_modules(arrays, shapes, is_ordered)
    )
    if found is None:
        raise ValueError(
            f"the model has the arrays {named(arrays)}, expected {', '.join(names)} stacked "
            f"over the {len(shapes)} layers, or {names[0]}_0, ..., or layers.0.weight, ..."
        )
    for k, layer in enumerate(found.controls):
        for name, shape in shapes[k].items():
            if layer[name].shape != shape:
                raise ValueError(
                    f"the model's {name} of layer {k} has shape {layer[name].shape}, expected "
                    f"{shape}; ask for the model's own sizes."
                )
    return found


def _named_so(arrays: Iterable[str], name: str) -> list[str]:
    """Keys that are this name, or end in it after a prefix without a number."""
    return [k for k in arrays if (k == name or k.endswith(f".{name}")) and layer_place(k) is None]


def _one_prefix(keys: Iterable[str]) -> None:
    """Refuse names under several prefixes: they are those of several networks."""
    keys = list(keys)
    prefixes = {key.rpartition(".")[0] for key in keys}
    if len(prefixes) > 1:
        raise ValueError(
            f"the model has the arrays {named(keys)} under {len(prefixes)} prefixes, expected one "
            "network; give one of them alone."
        )


def _stacked(
    arrays: Mapping[str, Array], problem: LearningProblem, shapes: Sequence[Shapes]
) -> Layers | None:
    """From `w`, `b`, ... over all layers; None if no array is so named."""
    candidates = {name: _named_so(arrays, name) for name in shapes[0]}
    if not any(candidates.values()):
        return None
    missing = [name for name, keys in candidates.items() if not keys]
    if missing:
        raise ValueError(
            f"the model has no array {missing[0]!r}, only {named(arrays)}; the "
            f"{problem.field.name} field has {', '.join(shapes[0])}."
        )
    _one_prefix(key for keys in candidates.values() for key in keys)
    sources = {name: keys[0] for name, keys in candidates.items()}
    layers = len(shapes)
    for name, key in sources.items():
        expected = (layers, *shapes[0][name])
        if not problem.has_one_width or arrays[key].shape != expected:
            wanted = expected if problem.has_one_width else "one array per layer"
            raise ValueError(
                f"the model's {name} has shape {arrays[key].shape}, expected {wanted}: {layers} "
                f"layers, width {problem.state_size}; ask for the model's own sizes."
            )
    controls = [{name: arrays[key][k] for name, key in sources.items()} for k in range(layers)]
    return Layers(controls, sources, frozenset(sources.values()))


def _by_layer(arrays: Mapping[str, Array], names: list[str], layers: int) -> Layers | None:
    """From `w_0`, `b_0`, ...; None if no array is so named."""
    keys: dict[tuple[str, int], list[str]] = {}
    for key in arrays:
        match = re.fullmatch(r"(?:.*\.)?(\w+?)_([0-9]{1,9})", key)
        if match is not None and match[1] in names and layer_place(key) is None:
            keys.setdefault((match[1], int(match[2])), []).append(key)
    if not keys:
        return None
    _one_prefix(key for same in keys.values() for key in same)
    for name in names:
        numbers = sorted(k for known, k in keys if known == name)
        twice = [same for (known, _), same in keys.items() if known == name and len(same) > 1]
        if twice:
            raise ValueError(f"the model has {named(twice[0])} for one layer; leave one out.")
        if numbers != list(range(layers)):
            raise ValueError(
                f"the model has {len(numbers)} arrays {name}_0, ..., expected {layers}, one per "
                f"layer; their numbers are {several_numbers(numbers)}."
            )
    chosen = {which: same[0] for which, same in keys.items()}
    controls = [{name: arrays[chosen[name, k]] for name in names} for k in range(layers)]
    sources = {name: re.sub(r"0$", LAYER, chosen[name, 0]) for name in names}
    return Layers(controls, sources, frozenset(chosen.values()))
