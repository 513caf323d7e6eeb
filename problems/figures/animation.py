"""The samples on their way through the layers, as an animation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from problems.figures.page import FAINT, check_figure_path, replacing, styled
from problems.figures.plane import lattice_of, plane_of
from problems.figures.samples import colouring_of, handles_of, legend_below, lines_of, scatter

if TYPE_CHECKING:
    from problems.training import LearningSolution

FRAME_TIME, HOLD_TIME = 50, 1500  # of a frame, and of the last, in milliseconds


def flow_animation(
    solution: LearningSolution, path: str | os.PathLike[str], frames: int = 60
) -> None:
    """Save an animated GIF of the samples on their way, in the plane that `draw_flow` takes.

    Between layers, positions are interpolated linearly. With two states, the lines of a lattice in
    the space of inputs are carried along, which shows how the flow deforms it.

    Args:
        solution: what to draw.
        path: of the file, ending in .gif.
        frames: from t = 0 to t = T, at least 2; the last stands still for a while.

    Raises:
        ValueError: too few frames, another suffix, or as `save_figure`.
    """
    check_figure_path(path)
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"{str(path)!r} is an animation's path, expected one ending in .gif.")
    if frames < 2:
        raise ValueError(f"frames is {frames}, expected at least 2.")
    colouring = colouring_of(solution.problem.dataset)
    times = solution.times
    with styled():
        figure = Figure((6.4, 6.6), dpi=100, layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        positions = plane_of(solution, colouring, axes)
        lattice = lattice_of(solution)
        threads = LineCollection([], colors=FAINT, linewidth=0.6, alpha=0.7, zorder=1)
        trails = lines_of(colouring, positions)
        for collection in (threads, trails):
            axes.add_collection(collection, autolim=False)
        heads = scatter(axes, colouring, positions[0], colouring.drawn)
        legend_below(figure, handles_of(colouring), letters=70)
        title = axes.set_title(" ")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the first frame's layout holds for all
        canvas = FigureCanvasAgg(figure)
        images = []
        for time in np.linspace(times[0], times[-1], frames):
            past = int(np.clip(np.searchsorted(times, time), 1, len(times) - 1))
            theta = (time - times[past - 1]) / (times[past] - times[past - 1])
            now, woven = (
                (1 - theta) * moving[past - 1] + theta * moving[past]
                for moving in (positions, lattice)
            )
            trail = np.concatenate([positions[:past], now[np.newaxis]])
            trails.set_segments(list(trail.swapaxes(0, 1)))
            threads.set_segments(list(woven))
            for rows, head in heads:
                head.set_offsets(now[rows])
            title.set_text(f"Flow of {colouring}, t = {time:.2f} of {times[-1]:.4g}")
            canvas.draw()
            images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
        # One palette for all frames, or their colours would flicker; this method keeps white.
        palette = images[-1].quantize(method=Image.Quantize.FASTOCTREE)
        first, *others = (
            image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images
        )
        durations = [FRAME_TIME] * len(others) + [HOLD_TIME]
        with replacing(path) as draft:
            first.save(draft, save_all=True, append_images=others, duration=durations, loop=0)
