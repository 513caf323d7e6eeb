"""A solution as a program that PyTorch runs without this package: torch.export.

    torch.export.load("model.pt2").module()(inputs (P, d0)) -> outputs (P, M),   P >= 1

That is PyTorch's convention for handing over a network, in the place of TorchScript, which is
deprecated. An export is run before it is handed over, on one point and on many. Loading a program
unpickles parts of it and so can run code: load none from strangers. This package loads what it
has just written itself, and no file of a user.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from ocp.storage import check_writable
from problems.pytorch import torch
from problems.torch_models import from_solution
from problems.training import LearningSolution

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}  # of the outputs, relative, at least 1


def export(
    solution: LearningSolution,
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float64,
) -> None:
    """Write the network of a solution as a .pt2 program: whole or not at all.

    Args:
        solution: whose network.
        path: of the file, ending in .pt2.
        dtype: of its inputs, parameters and outputs.

    Raises:
        ValueError: another suffix, a file that cannot be written, or a program whose outputs differ
            from those of the solution.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"{str(path)!r}: a program of torch.export ends in .pt2; change the name.")
    check_writable(path)
    network = from_solution(solution, dtype=dtype).eval()
    points = torch.tensor(solution.problem.dataset.inputs, dtype=dtype)
    example = points[:1].repeat(2, 1)  # a dimension of one would be taken for fixed
    number = torch.export.Dim("points", min=1)
    program = torch.export.export(network, (example,), dynamic_shapes={"inputs": {0: number}})
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        draft = Path(folder) / path.name
        torch.export.save(program, draft)
        _check(draft, solution, points)
        os.replace(draft, path)


def _check(path: Path, solution: LearningSolution, points: torch.Tensor) -> None:
    """Run the program as its receiver would."""
    module = torch.export.load(path).module()
    inputs = solution.problem.dataset.inputs
    ends = solution.problem.run(inputs, solution.trajectory.decisions).states[-1]
    expected = ends @ solution.readout_weight.T + solution.readout_bias
    scale = max(1.0, float(np.abs(expected).max()))
    for shown, wanted in ((points, expected), (points[:1], expected[:1])):
        difference = float(np.abs(module(shown).detach().numpy() - wanted).max()) / scale
        if not difference <= TOLERANCE[points.dtype]:
            raise ValueError(
                f"the exported program's outputs differ from the solution's by {difference:.1e}; "
                "it was not written."
            )
