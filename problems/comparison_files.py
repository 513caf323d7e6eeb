"""A folder of a comparison: its solves as solution files, its runs as files of their own.

compare.npz              what was asked for, as metadata
reference.npz ...        solution files of the second-order solver (`problems.ladder_files`)
adam-rate-0.1-seed-0.npz the history of a run, and the network of its least recorded cost, as
                         arrays named and shaped as those of a solution file; metadata: JSON
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ocp import Trajectory, rollout
from ocp.storage import load_arrays, save_arrays
from problems.ladder_files import Folder, open_folder
from problems.learning import Array, LearningProblem
from problems.solution_file import options_of
from problems.torch_training import History, Outcome, Run, Training

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ComparisonFolder:
    """A folder that belongs to one comparison; made by `open_comparison`.

    Args:
        solves: of the second-order solver.
    """

    solves: Folder

    def kept_runs(self, asked: Sequence[Training]) -> dict[str, Run]:
        """Those that are there, by name.

        Raises:
            ValueError: a damaged file.
        """
        paths = {one: self.solves.file(one.name) for one in asked}
        return {one.name: _load(path, one) for one, path in paths.items() if path.exists()}

    def keep_run(self, made: Run, problem: LearningProblem) -> None:
        """Write a run.

        Raises:
            ValueError: the file cannot be written.
        """
        trajectory = rollout(problem.staged, made.decisions)
        weight, bias = problem.readout(trajectory.parameters)
        arrays = {
            **_controls(problem, trajectory),
            "readout_weight": weight,
            "readout_bias": bias,
            **{f"history_{name}": array for name, array in vars(made.history).items()},
            "decisions": made.decisions,
        }
        metadata = {
            "format_version": FORMAT_VERSION,
            "run": {
                "optimizer": made.optimizer,
                "rate": made.rate,
                "learning_rate": made.learning_rate,
                "seed": made.seed,
                "outcome": made.outcome.value,
            },
            "options": {**self.solves.options, **options_of(problem)},
        }
        save_arrays(self.solves.file(made.name), arrays, metadata)


def _controls(problem: LearningProblem, trajectory: Trajectory) -> dict[str, Array]:
    """Named and shaped as in a solution file."""
    if problem.has_one_width:
        return problem.weights(trajectory)
    layers = enumerate(problem.layer_weights(trajectory))
    return {f"{name}_{k}": part for k, layer in layers for name, part in layer.items()}


def open_comparison(path: str | Path, request: Mapping[str, Any]) -> ComparisonFolder:
    """Make a folder for a request, or continue in it; errors as `problems.ladder_files`."""
    return ComparisonFolder(open_folder(path, request, "compare"))


def _load(path: Path, asked: Training) -> Run:
    arrays, metadata = load_arrays(path)
    try:
        if metadata["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format version is {metadata['format_version']}")
        made = metadata["run"]
        expected = (asked.optimizer.name, asked.rate, asked.seed)
        if (made["optimizer"], made["rate"], made["seed"]) != expected:
            raise ValueError("it is of another optimiser, rate or seed")
        history = [np.asarray(arrays[f"history_{f.name}"], float) for f in fields(History)]
        if len({column.shape for column in history}) != 1 or not history[0].size:
            raise ValueError("its records are not of one length")
        return Run(
            name=asked.name,
            optimizer=made["optimizer"],
            rate=made["rate"],
            learning_rate=made["learning_rate"],
            seed=made["seed"],
            outcome=Outcome(made["outcome"]),
            history=History(*history),
            decisions=np.asarray(arrays["decisions"], float),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise ValueError(f"{path} is no complete file of a run: {what}.") from error
