"""A solved learning problem, saved as a page or as an animation, by the suffix of the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from problems.figures.animation import flow_animation
from problems.figures.network import overview
from problems.figures.page import check_figure_path, save_page
from problems.figures.space_time import grid_animation, grid_page

if TYPE_CHECKING:
    from problems.training import LearningSolution


def save_figure(solution: LearningSolution, path: str | os.PathLike[str]) -> None:
    """Save the overview as .png, .pdf or .svg, or the animation as .gif: whole or not at all.

    Raises:
        ValueError: as `check_figure_path`, or the system refused to write.
    """
    check_figure_path(path)
    path = Path(path)
    is_plain = solution.problem.moving_grid is None
    if path.suffix.lower() == ".gif":
        (flow_animation if is_plain else grid_animation)(solution, path)
        return
    save_page(lambda: (overview if is_plain else grid_page)(solution), path)
