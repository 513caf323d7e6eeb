"""Figures of solved problems: pages, panels and animations. Only here is Matplotlib imported.

`save_figure` draws a learning problem, `save_turnpike_figure` its decay where there is a running
error, `save_ladder_figure` a ladder, `plot_solution` any other control problem, in its own units.
"""

from problems.figures.animation import flow_animation
from problems.figures.comparisons import comparison_page, save_comparison_figure
from problems.figures.control import plot_solution
from problems.figures.convergence import save_convergence
from problems.figures.ladders import ladder_page, save_ladder_figure
from problems.figures.network import (
    draw_controls,
    draw_costates,
    draw_decision_region,
    draw_errors,
    draw_flow,
    overview,
)
from problems.figures.page import COLOURS, INK, check_figure_path
from problems.figures.saving import save_figure
from problems.figures.scores import save_score_figure, score_page
from problems.figures.space_time import (
    draw_kernel,
    draw_space_time,
    draw_widths,
    grid_animation,
    grid_page,
    save_reconstructions,
)
from problems.figures.turnpike import (
    draw_decay,
    draw_horizons,
    draw_switching,
    save_turnpike_figure,
    turnpike_figure,
)

__all__ = [
    "COLOURS",
    "INK",
    "check_figure_path",
    "comparison_page",
    "draw_controls",
    "draw_costates",
    "draw_decay",
    "draw_decision_region",
    "draw_errors",
    "draw_flow",
    "draw_horizons",
    "draw_kernel",
    "draw_space_time",
    "draw_switching",
    "draw_widths",
    "flow_animation",
    "grid_animation",
    "grid_page",
    "ladder_page",
    "overview",
    "plot_solution",
    "save_comparison_figure",
    "save_convergence",
    "save_figure",
    "save_ladder_figure",
    "save_reconstructions",
    "save_score_figure",
    "save_turnpike_figure",
    "score_page",
    "turnpike_figure",
]
