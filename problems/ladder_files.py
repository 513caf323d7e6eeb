"""A folder of finished solves: the same request, made again, continues after them.

    sweep.npz        what was asked for, as metadata; compare.npz of a comparison
    rung-00.npz ...  one solution file (see `problems.solution_file`) per finished solve

A ladder is a deterministic sequence of named solves, each depending on those before. A solve whose
file is there is read instead of run; one that is run is written, whole or not at all, and then read
back. So a ladder that was cut short and continued sees the same numbers, to the last bit, as one
that was not. The same holds for a comparison.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocp.storage import load_arrays, save_arrays
from problems.datasets import Dataset
from problems.ladder import Solve, Solved
from problems.learning import Array, LearningProblem
from problems.report import completed
from problems.solution_file import load_solution, options_of, save_solution

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Folder:
    """A folder that belongs to one request; made by `open_folder`."""

    path: Path
    options: Mapping[str, Any]

    def stored(self, solve: Solve) -> Solve:
        """The same solves, but each is run only if its file is not there."""

        def stored(
            name: str, problem: LearningProblem, guesses: Sequence[Array], starts: int
        ) -> Solved:
            kept = self.kept(name, problem)
            if kept is not None:
                return kept
            solved = solve(name, problem, guesses, starts)
            return self.keep(name, solved, starts) if solved.is_complete else solved

        return stored

    def file(self, name: str) -> Path:
        """Where a solve is kept."""
        return self.path / f"{name}.npz"

    def kept(self, name: str, problem: LearningProblem) -> Solved | None:
        """What a solve came to; None if it is not there.

        Raises:
            ValueError: a damaged file, or one of another problem.
        """
        path = self.file(name)
        return _read(path, problem) if path.exists() else None

    def keep(self, name: str, solved: Solved, starts: int) -> Solved:
        """Write a solve, and read it back.

        Raises:
            ValueError: the file cannot be written.
        """
        path = self.file(name)
        save_solution(path, solved.solution, {**self.options, "starts": starts})
        return _read(path, solved.solution.problem)


def _read(path: Path, problem: LearningProblem) -> Solved:
    saved = load_solution(path, problem)
    asked = options_of(problem)
    for name, value in asked.items():
        if saved.options.get(name) != value:
            raise ValueError(
                f"{path} is of another problem: {name.replace('_', '-')} is "
                f"{saved.options.get(name)}, expected {value}; give another folder."
            )
    return Solved(saved.solution, completed(saved.result, saved.solution))


def open_folder(path: str | Path, request: Mapping[str, Any], command: str = "sweep") -> Folder:
    """Make a folder for a request, or continue in it.

    Args:
        path: of the folder, whose parent must exist.
        request: everything that the results depend on, as JSON values.
        command: whose request it is, which names its file.

    Raises:
        ValueError: a folder of another request, one with other files in it, or one that cannot be
            made or written to.
    """
    path, request_file = Path(path), f"{command}.npz"
    asked = {"format_version": FORMAT_VERSION, "request": dict(request)}
    try:
        path.mkdir(exist_ok=True)
        names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    except FileExistsError:
        raise ValueError(
            f"cannot save to {path}: it is a file; a {command} writes a folder, one file per solve."
        ) from None
    except FileNotFoundError:
        raise ValueError(
            f"cannot save to {path}: the folder {path.parent} does not exist; make it first."
        ) from None
    except OSError as error:
        raise ValueError(f"cannot save to {path}: {error.strerror}.") from error
    if not names:
        save_arrays(path / request_file, {}, asked)
    elif request_file not in names:
        raise ValueError(
            f"cannot save to {path}: it holds other files, such as {min(names)}; "
            f"give a new folder, or that of the same {command}."
        )
    _, metadata = load_arrays(path / request_file)
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {metadata.get('format_version')}, expected "
            f"{FORMAT_VERSION}; continue it with the version of this program that wrote it."
        )
    there = metadata.get("request")
    if not isinstance(there, dict):
        raise ValueError(f"{path / request_file} holds no request; give another folder.")
    different = [name for name in {**there, **request} if there.get(name) != request.get(name)]
    if different:
        name = different[0]
        raise ValueError(
            f"{path} belongs to another request: {name.replace('_', '-')} is {there.get(name)} "
            f"there, {request.get(name)} here; give another folder."
        )
    return Folder(path, request)


def fingerprint(*datasets: Dataset | None) -> str:
    """The same for the same numbers only."""
    digest = hashlib.sha256()
    for dataset in datasets:
        for array in () if dataset is None else (dataset.inputs, dataset.targets):
            digest.update(np.ascontiguousarray(array).tobytes())
            digest.update(repr(array.shape).encode())
    return digest.hexdigest()[:16]
