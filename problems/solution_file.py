"""Solution files of learning problems: saved, loaded, and checked from their arrays alone.

times (K+1,)   states (K+1, N, D)   costates (K+1, N, D)   inputs (N, D0)   targets (N, M)
w (K, D, D), b (K, D)  or  w1 (K, H, D), b1 (K, H), w2 (K, D, H), b2 (K, D)
readout_weight (M, D), readout_bias (M,)
metadata: JSON {format_version, options: {...}, result: {...}, dataset: {...}}
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ocp import EULER, HEUN, MIDPOINT, RK4, Status, Trajectory
from ocp.storage import load_arrays, save_arrays
from problems.datasets import Dataset
from problems.learning import Array, LearningProblem
from problems.losses import LOSSES
from problems.regularizers import PENALTIES
from problems.report import report
from problems.training import LearningSolution, assess
from problems.vector_fields import ACTIVATIONS, FIELDS, join_arrays

FORMAT_VERSION = 1
SCHEMES = {tableau.name: tableau for tableau in (EULER, MIDPOINT, HEUN, RK4)}
AGREEMENT = 1e-10  # between a stored and a recomputed number, relative
COMPARED = ("objective", "training_error", "running_error", "control_energy")


@dataclass(frozen=True, eq=False)
class SavedSolution:
    """A solution read from a file.

    Args:
        solution: problem and trajectory of the file, with costs and certificate recomputed.
        costates: as they stand in the file, (K+1, N, D).
        options: as they stand in the file.
        result: as it stands in the file.
    """

    solution: LearningSolution
    costates: Array
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
        "readout": "trained" if problem.trained_readout else "first",
        "readout_decay": problem.readout_weight_decay,
    }


def save_solution(
    path: str | Path,
    solution: LearningSolution,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write a solution file, whole or not at all.

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
        "states": solution.states,
        "costates": solution.costates,
        "inputs": dataset.inputs,
        "targets": dataset.targets,
        **solution.weights,
        "readout_weight": solution.readout_weight,
        "readout_bias": solution.readout_bias,
    }
    metadata = {
        "format_version": FORMAT_VERSION,
        "options": {**(options or {}), **options_of(solution.problem)},
        "result": solution.report,
        "dataset": {
            "name": dataset.name,
            "classes": dataset.classes,
            "input_names": dataset.input_names,
            "target_names": dataset.target_names,
        },
    }
    save_arrays(path, arrays, metadata)


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
        costates = np.asarray(arrays["costates"], dtype=float)
        options, result = dict(metadata["options"]), dict(metadata["result"])
        status = Status(result["status"])
        width = float(result["certificate"]["smoothing"])
        tolerance = float(options.get("tolerance", 1e-8))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise ValueError(f"{path} is no complete solution file: {missing}.") from error
    judged = (Status.SOLVED, Status.NOT_A_MINIMUM)  # by a certificate, so not taken on trust
    stopped = Status.INACCURATE if status in judged else status
    solution = assess(problem.staged, trajectory, width, tolerance, stopped, problem.pinned)
    iterations = result.get("iterations")
    solution = replace(
        solution,
        backend_status=str(result.get("backend_status", "")),
        iterations=iterations,
        solve_seconds=float(result.get("seconds") or 0.0),
    )
    return SavedSolution(
        LearningSolution(problem, solution, width, None), costates, options, result
    )


def _problem(arrays: Mapping[str, Any], metadata: Mapping[str, Any]) -> LearningProblem:
    options, names = metadata["options"], metadata["dataset"]
    dataset = Dataset(
        names["name"],
        arrays["inputs"],
        arrays["targets"],
        tuple(tuple(labels) for labels in names["classes"]),
        tuple(names["input_names"]),
        tuple(names["target_names"]),
    )
    return LearningProblem(
        dataset,
        field=_named(FIELDS, "field", options),
        activation=_named(ACTIVATIONS, "activation", options),
        width=options["width"],
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
    )


def _named(known: Mapping[str, Any], kind: str, options: Mapping[str, Any]) -> Any:
    name = options[kind]
    if name not in known:
        raise ValueError(f"it uses the {kind} {name!r}, which only its author has")
    return known[name]


def _trajectory(problem: LearningProblem, arrays: Mapping[str, Any]) -> Trajectory:
    samples, width, layers = problem.samples, problem.state_size, problem.layers
    expected: dict[str, tuple[int, ...]] = {
        "times": (layers + 1,),
        "states": (layers + 1, samples, width),
        "costates": (layers + 1, samples, width),
        "readout_weight": (problem.outputs, width),
        "readout_bias": (problem.outputs,),
    }
    shapes = problem.field.shapes(width, problem.hidden_size)
    expected |= {name: (layers, *shape) for name, shape in shapes.items()}
    for name, shape in expected.items():
        if arrays[name].dtype != np.float64:
            raise ValueError(f"{name} has type {arrays[name].dtype}, expected float64")
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, expected {shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} holds a value that is not finite")
    if not np.allclose(arrays["times"], problem.grid.nodes, rtol=1e-12, atol=0.0):
        raise ValueError("times are not those of equal layers on the horizon")
    controls = join_arrays({name: arrays[name] for name in shapes})
    weight, bias = arrays["readout_weight"], arrays["readout_bias"]
    if not problem.trained_readout:
        fixed_weight, fixed_bias = problem.readout(np.zeros(0))
        if not ((weight == fixed_weight).all() and (bias == fixed_bias).all()):
            raise ValueError("its fixed read-out does not take the first coordinates")
    parameters = np.concatenate([weight.ravel(), bias]) if problem.trained_readout else np.zeros(0)
    return Trajectory(
        tuple(np.array(x) for x in arrays["states"]),
        tuple(np.array(u) for u in controls),
        parameters,
        problem.grid.nodes,
    )


def differences(saved: SavedSolution) -> list[str]:
    """Numbers of the file that its arrays do not bear out, in words; empty if all agree."""
    fresh, stored = report(saved.solution), saved.result
    pairs = [(name, stored.get(name), fresh[name]) for name in COMPARED]
    certificate = stored.get("certificate", {})
    pairs += [(name, certificate.get(name), value) for name, value in fresh["certificate"].items()]
    found = [
        f"{name} is {new} by the arrays, {old} by the metadata"
        for name, old, new in pairs
        if not _agree(old, new)
    ]
    gap = float(np.abs(saved.costates - saved.solution.costates).max(initial=0.0))
    scale = float(np.abs(saved.solution.costates).max(initial=0.0))
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
