"""Solution files of learning problems: saved, loaded, and checked from their arrays alone.

times (K+1,)   states (K+1, N, D)   costates (K+1, N, D)   inputs (N, D0)   targets (N, M)
w (K, D, D), b (K, D)  or  w1 (K, H, D), b1 (K, H), w2 (K, D, H), b2 (K, D)
readout_weight (M, D), readout_bias (M,)
Where widths vary, states_k, costates_k, w_k, b_k, ... for k = 0, 1, ... take the place of the
stacked arrays. A moving grid adds nodes_k, quadrature_k (om^k) and interpolation_k (Pi_k), and w, b
are then the kernels of  z^{k+1} = Pi_k z^k + h (w^k diag(om^k) s(z^k) + b^k).
metadata: JSON {format_version, options: {...}, result: {...}, dataset: {...}}
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ocp import EULER, HEUN, MIDPOINT, RK4, Status, Trajectory
from ocp.storage import load_arrays, save_arrays
from ocp.timings import Timings
from problems.datasets import Dataset
from problems.learning import Array, LearningProblem
from problems.least_cost import judged_without_minimum, zero_cost
from problems.losses import LOSSES
from problems.moving_grid import MovingGrid
from problems.regularizers import PENALTIES
from problems.report import report
from problems.spatial_grid import SpatialGrid
from problems.training import LearningSolution, assess
from problems.vector_fields import ACTIVATIONS, FIELDS

FORMAT_VERSION = 1
SCHEMES = {tableau.name: tableau for tableau in (EULER, MIDPOINT, HEUN, RK4)}
AGREEMENT = 1e-10  # between a stored and a recomputed number, relative
COMPARED = ("objective", "training_error", "running_error", "control_energy")


@dataclass(frozen=True, eq=False)
class SavedSolution:
    """A solution read from a file.

    Args:
        solution: problem and trajectory of the file, with costs and certificate recomputed.
        costates: as they stand in the file, K+1 arrays (N, d_k).
        options: as they stand in the file.
        result: as it stands in the file.
    """

    solution: LearningSolution
    costates: tuple[Array, ...]
    options: Mapping[str, Any]
    result: Mapping[str, Any]


def options_of(problem: LearningProblem) -> dict[str, Any]:
    """Options of the command line that pose this problem."""
    return {
        "command": "interpolate" if problem.interpolation else "solve",
        "field": problem.field.name,
        "activation": problem.activation.name,
        "width": problem.state_size,
        "hidden": problem.hidden_size if problem.field.needs_hidden else None,
        "horizon": problem.horizon,
        "layers": problem.layers,
        "scheme": problem.scheme.name,
        "substeps": problem.substeps,
        "loss": problem.loss.name,
        "terminal": problem.terminal,
        "tracking": problem.tracking,
        "weight_decay": problem.weight_decay,
        "penalty": problem.penalty.name,
        "bound": problem.bound,
        "readout": _readout_name(problem),
        "readout_decay": problem.readout_weight_decay,
        **_grid_options(problem.moving_grid, problem.layers),
    }


def _readout_name(problem: LearningProblem) -> str:
    if problem.fixed_readout is not None:
        return "given"
    return "trained" if problem.trained_readout else "first"


def _grid_options(grid: MovingGrid | None, layers: int) -> dict[str, Any]:
    """What the arrays do not say of a moving grid; nothing for features without a grid."""
    if grid is None:
        return {}
    first = grid.grid(0)
    return {
        "widths": list(grid.widths(layers)),
        "grid": first.rule,
        "transfer": grid.transfer,
        "domain": None if first.is_index else [list(interval) for interval in first.domain],
    }


def save_solution(
    path: str | Path,
    solution: LearningSolution,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write a solution file, whole or not at all, before the solution is diagnosed and after.

    What takes long in the report is computed between the two, so that whatever happens in that, a
    file is there; until then it holds None for those numbers, with the reason.

    Args:
        path: of the file, by custom ending in .npz.
        solution: what to save.
        options: further options to remember, such as seed, starts and tolerance.

    Raises:
        ValueError: the file cannot be written.
    """
    dataset = solution.problem.dataset
    arrays = {
        "times": solution.times,
        **_along_depth(solution),
        "inputs": dataset.inputs,
        "targets": dataset.targets,
        "readout_weight": solution.readout_weight,
        "readout_bias": solution.readout_bias,
        **_grid_arrays(solution.problem),
    }
    metadata = {
        "format_version": FORMAT_VERSION,
        "options": {**(options or {}), **options_of(solution.problem)},
        "dataset": {
            "name": dataset.name,
            "classes": dataset.classes,
            "input_names": dataset.input_names,
            "target_names": dataset.target_names,
            # Nothing of data that were used as they stand
            **({"notes": dataset.notes} if dataset.notes else {}),
        },
    }
    if not solution.is_diagnosed:
        save_arrays(path, arrays, {**metadata, "result": report(solution, is_diagnosed=False)})
    save_arrays(path, arrays, {**metadata, "result": solution.report})


def _along_depth(solution: LearningSolution) -> dict[str, Array]:
    """States, costates and controls: stacked, or one array per layer where widths vary."""
    if solution.problem.has_one_width:
        return {"states": solution.states, "costates": solution.costates, **solution.weights}
    arrays = {}
    for k, x in enumerate(solution.trajectory.states):
        arrays[f"states_{k}"], arrays[f"costates_{k}"] = x, solution.certificate.costates[k]
    for k, kernels in enumerate(solution.layer_weights):
        arrays |= {f"{name}_{k}": part for name, part in kernels.items()}
    return arrays


def _grid_arrays(problem: LearningProblem) -> dict[str, Array]:
    """Nodes, weights and interpolation of every layer; nothing for features without a grid."""
    moving = problem.moving_grid
    if moving is None:
        return {}
    arrays = {}
    for k in range(problem.layers + 1):
        grid = moving.grid(k)
        arrays[f"nodes_{k}"], arrays[f"quadrature_{k}"] = grid.nodes, grid.weights
    for k in range(problem.layers):
        move = moving.between(k)
        arrays[f"interpolation_{k}"] = np.eye(problem.widths[k]) if move is None else move
    return arrays


def load_solution(path: str | Path, problem: LearningProblem | None = None) -> SavedSolution:
    """Read a solution file and recompute its costs and its certificate.

    Args:
        path: of the file.
        problem: that was solved, if it is known; needed where a field or an activation is one that
            only its author has.

    Raises:
        ValueError: no such file; a truncated or foreign one, one of another version, or one whose
            arrays do not fit together or use a field or activation that only its author has.
    """
    arrays, metadata = load_arrays(path)
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, expected {FORMAT_VERSION}; "
            "read it with the version of this program that wrote it."
        )
    try:
        if problem is None:
            problem = _problem(arrays, metadata)
        elif not all(
            np.array_equal(arrays[name], getattr(problem.dataset, name))
            for name in ("inputs", "targets")
        ):
            raise ValueError("its data are not those of the problem")
        trajectory = _trajectory(problem, arrays)
        costates = tuple(_read_layers(problem, arrays, "costates"))
        options, result = dict(metadata["options"]), dict(metadata["result"])
        status = Status(result["status"])
        width = float(result["certificate"]["smoothing"])
        tolerance = float(options.get("tolerance", 1e-8))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise ValueError(f"{path} is no complete solution file: {missing}.") from error
    judged = (Status.SOLVED, Status.NOT_A_MINIMUM)  # by a certificate, so not taken on trust
    stopped = Status.INACCURATE if status in judged else status
    zero = zero_cost(problem)
    solution = assess(problem.staged, trajectory, width, tolerance, stopped, problem.pinned, zero)
    solution = judged_without_minimum(problem, solution)
    iterations = result.get("iterations")
    solution = replace(
        solution,
        backend_status=str(result.get("backend_status", "")),
        iterations=iterations,
        timings=_timings(result),
    )
    return SavedSolution(
        LearningSolution(problem, solution, width, None), costates, options, result
    )


def _timings(result: Mapping[str, Any]) -> Timings:
    """Of the solve that a file reports; of the total alone where it is of an earlier version."""
    parts = result.get("timings") or {"total": result.get("seconds") or 0.0}
    known = {part.name for part in fields(Timings)}
    return Timings(**{name: float(value) for name, value in parts.items() if name in known})


def _problem(arrays: Mapping[str, Any], metadata: Mapping[str, Any]) -> LearningProblem:
    options, names = metadata["options"], metadata["dataset"]
    dataset = Dataset(
        names["name"],
        arrays["inputs"],
        arrays["targets"],
        tuple(tuple(labels) for labels in names["classes"]),
        tuple(names["input_names"]),
        tuple(names["target_names"]),
        tuple(names.get("notes", ())),  # a later addition
    )
    moving = _moving_grid(arrays, options)
    return LearningProblem(
        dataset,
        field=_named(FIELDS, "field", options),
        activation=_named(ACTIVATIONS, "activation", options),
        width=options["width"] if moving is None else None,
        hidden=options["hidden"],
        horizon=options["horizon"],
        layers=options["layers"],
        scheme=_named(SCHEMES, "scheme", options),
        substeps=options["substeps"],
        loss=_named(LOSSES, "loss", options),
        terminal=options["terminal"],
        tracking=options["tracking"],
        weight_decay=options["weight_decay"],
        penalty=_named(PENALTIES, "penalty", options),
        bound=options["bound"],
        trained_readout=options["readout"] == "trained",
        readout_decay=options["readout_decay"],
        interpolation=options["command"] == "interpolate",
        moving_grid=moving,
        fixed_readout=arrays["readout_weight"] if options["readout"] == "given" else None,
    )


def _moving_grid(arrays: Mapping[str, Any], options: Mapping[str, Any]) -> MovingGrid | None:
    """From the file's arrays, nothing taken on trust but the domain."""
    if "nodes_0" not in arrays:
        return None
    domain: tuple[tuple[float, float], ...] = ((-np.inf, np.inf),)
    if options["domain"] is not None:
        domain = tuple((float(low), float(high)) for low, high in options["domain"])
    layers, grids = operator.index(options["layers"]), list[SpatialGrid]()
    for k in range(layers + 1):
        nodes, weights = arrays[f"nodes_{k}"], arrays[f"quadrature_{k}"]
        previous = grids[-1] if grids else None
        grid = SpatialGrid(nodes, weights, domain, rule=str(options["grid"]))
        # Equal grids are one object, so that equal layers are.
        grids.append(previous if previous is not None and grid.equals(previous) else grid)
    moves = tuple(np.array(arrays[f"interpolation_{k}"], dtype=float) for k in range(layers))
    return MovingGrid(tuple(grids), moves, str(options["transfer"]))


def _named(known: Mapping[str, Any], kind: str, options: Mapping[str, Any]) -> Any:
    name = options[kind]
    if name not in known:
        raise ValueError(f"it uses the {kind} {name!r}, which only its author has")
    return known[name]


def _trajectory(problem: LearningProblem, arrays: Mapping[str, Any]) -> Trajectory:
    layers = problem.layers
    expected = {
        "times": (layers + 1,),
        "readout_weight": (problem.outputs, problem.widths[-1]),
        "readout_bias": (problem.outputs,),
    }
    for name, shape in expected.items():
        _check_array(name, arrays[name], shape)
    if not np.allclose(arrays["times"], problem.grid.nodes, rtol=1e-12, atol=0.0):
        raise ValueError("times are not those of equal layers on the horizon")
    names = problem.layer(0).shapes
    parts = {name: _read_layers(problem, arrays, name) for name in names}
    controls = [
        problem.layer(k).join({name: parts[name][k] for name in names}) for k in range(layers)
    ]
    weight, bias = arrays["readout_weight"], arrays["readout_bias"]
    if not problem.trained_readout:
        fixed_weight, fixed_bias = problem.readout(np.zeros(0))
        if not ((weight == fixed_weight).all() and (bias == fixed_bias).all()):
            raise ValueError("its fixed read-out does not take the first coordinates")
    return Trajectory(
        tuple(_read_layers(problem, arrays, "states")),
        tuple(controls),
        problem.parameters(weight, bias),
        problem.grid.nodes,
    )


def _read_layers(problem: LearningProblem, arrays: Mapping[str, Any], name: str) -> list[Array]:
    """States, costates or a control of every layer, stacked in the file or not."""
    if name in ("states", "costates"):
        shapes: list[tuple[int, ...]] = [(problem.samples, width) for width in problem.widths]
    else:
        shapes = [problem.layer(k).shapes[name] for k in range(problem.layers)]
    if problem.has_one_width:
        _check_array(name, arrays[name], (len(shapes), *shapes[0]))
        return [np.array(values) for values in arrays[name]]
    for k, shape in enumerate(shapes):
        _check_array(f"{name}_{k}", arrays[f"{name}_{k}"], shape)
    return [np.array(arrays[f"{name}_{k}"]) for k in range(len(shapes))]


def _check_array(name: str, values: Array, shape: tuple[int, ...]) -> None:
    if values.dtype != np.float64:
        raise ValueError(f"{name} has type {values.dtype}, expected float64")
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}, expected {shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds a value that is not finite")


def differences(saved: SavedSolution) -> list[str]:
    """Numbers of the file that its arrays do not bear out, in words; empty if all agree."""
    fresh, stored = report(saved.solution), saved.result
    pairs = [(name, stored.get(name), fresh[name]) for name in COMPARED]
    certificate = stored.get("certificate", {})
    excused = _excused(certificate, saved.solution)
    pairs += [
        (name, certificate.get(name), value)
        for name, value in fresh["certificate"].items()
        if name not in ("untested", *excused)
    ]
    found = [
        f"{name} is {new} by the arrays, {old} by the metadata"
        for name, old, new in pairs
        if not _agree(old, new)
    ]
    adjoint = saved.solution.certificate.costates
    gaps = [np.abs(a - b).max(initial=0.0) for a, b in zip(saved.costates, adjoint, strict=True)]
    gap = float(max(gaps))
    scale = float(max(np.abs(p).max(initial=0.0) for p in adjoint))
    if gap > AGREEMENT * max(scale, 1.0):
        found.append(f"costates differ by {gap:.2e} from the adjoint of the states")
    if stored["status"] != fresh["status"]:
        found.append(
            f"status is {fresh['status']} by the arrays, {stored['status']} by the metadata"
        )
    multipliers = stored.get("multipliers")
    if saved.solution.problem.interpolation and not _same_numbers(
        multipliers, saved.solution.multipliers
    ):
        found.append("multipliers differ from those that the arrays imply")
    return found


def _excused(stored: Mapping[str, Any], solution: LearningSolution) -> tuple[str, ...]:
    """The refined error, where the file or this computer gives a reason that it has none.

    It is the one number that may be missing for want of time, which is another today.
    """
    name, untested = "refined_training_error", stored.get("untested")
    reasons = untested if isinstance(untested, Mapping) else {}
    told = stored.get(name) is None and name in reasons
    return (name,) if told or name in solution.untested else ()


def _same_numbers(old: Any, new: Array) -> bool:
    try:
        values = np.asarray(old, dtype=float)
    except (TypeError, ValueError):
        return False
    scale = max(1.0, float(np.abs(new).max(initial=0.0)))
    return values.shape == new.shape and bool((np.abs(values - new) <= AGREEMENT * scale).all())


def _agree(old: Any, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    if not isinstance(old, (int, float)) or abs(old) > sys.float_info.max:
        return False
    return abs(old - new) <= AGREEMENT * max(1.0, abs(old), abs(new))
