"""The look of all figures, their words and axes, and files that are written whole or not at all.

Without pyplot, and with the user's settings back in place after each call.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from ocp.storage import check_writable

Array = NDArray[np.float64]


# Okabe and Ito, Color Universal Design (2008), then two more, for data of ten classes.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"]
COLOURS += ["#999999", "#882255"]


INK, FAINT, ALERT = "#222222", "#8A8A8A", "#C04F00"


HUGE = 1e100  # what a diverged network reaches; drawn as if it were not finite


STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "pdf.fonttype": 42,
    "svg.hashsalt": "turnpike",
}


def check_figure_path(path: str | os.PathLike[str], still: bool = False) -> None:
    """Refuse a path that `save_figure` could not write to, before anything is solved.

    Args:
        path: of the figure.
        still: whether there is nothing to animate.

    Raises:
        ValueError: the suffix is not .png, .pdf, .svg or .gif, the folder is missing or closed to
            writing, or the path is itself a folder.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".html":
        raise ValueError(
            f"{str(path)!r}: pages arrive with a later version; use .png, .pdf, .svg or .gif."
        )
    if still and suffix == ".gif":
        raise ValueError(f"{str(path)!r}: a ladder has no animation; use .png, .pdf or .svg.")
    if suffix not in (".png", ".pdf", ".svg", ".gif"):
        raise ValueError(
            f"{str(path)!r} ends in {suffix or 'no suffix'}, expected a figure's name ending in "
            ".png, .pdf or .svg, or an animation's in .gif; change the suffix."
        )
    check_writable(path)


def save_page(page: Callable[[], Figure], path: Path) -> None:
    """Draw a figure in this style and write it."""
    suffix = path.suffix.lower()
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}  # equal data, equal files
    with styled(), replacing(path) as draft:
        page().savefig(draft, format=suffix[1:], dpi=170, metadata=undated.get(suffix))


@contextmanager
def styled() -> Iterator[None]:
    """This file's look, whatever the user's settings, which return afterwards.

    A label may have letters that the font lacks; they become boxes, which needs no warning.
    """
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside the path, which takes the path's place once it is complete.

    Raises:
        ValueError: the system refused.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".turnpike-", dir=path.parent) as folder:
            draft = Path(folder, path.name)
            yield draft
            os.replace(draft, path)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"cannot write {str(path)!r}: {reason}; choose another folder or name."
        ) from None


def set_logarithmic(axes: Axes, values: Array, headroom: float = 0.05) -> None:
    """A logarithmic y-axis over the positive values, 16 decades at most; linear without any."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        axes.set_ylim(0, 1)
        return
    top = np.log10(positive.max())
    bottom = max(np.log10(positive.min()), top - 16)
    slack = max(0.5 - (top - bottom), 0) / 2
    top, bottom = top + slack, bottom - slack
    axes.set_yscale("log", nonpositive="clip")
    if top - bottom < 2:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(10 ** (bottom - 0.05 * (top - bottom)), 10 ** (top + headroom * (top - bottom)))


def interval(values: Array, margin: float = 0.08) -> tuple[float, float]:
    """The range of the finite values, widened; never empty."""
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    space = margin * (high - low) or 0.5 * max(abs(low), 1.0)
    return low - space, high + space


def finite(values: Array) -> Array:
    """The values, with NaN in the place of what a diverged network reaches."""
    return np.where(np.abs(values) < HUGE, values, np.nan)


def counted(number: int, noun: str) -> str:
    """A number of things, in the plural where it is not one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def number(value: float | None) -> str:
    """Four digits, in powers of ten where that is shorter; what is not known is a question mark."""
    if value is None:
        return "?"
    mantissa, _, exponent = f"{value:.4g}".partition("e")
    factor = "" if mantissa == "1" else rf"{mantissa}\times "
    return f"${factor}10^{{{int(exponent)}}}$" if exponent else mantissa


def symbol(name: str) -> str:
    """The letter of a formula for a parameter's name, such as w with index 1 for w1."""
    found = re.fullmatch(r"([A-Za-z])(\d*)", name)
    return f"${found[1]}_{{{found[2]}}}$" if found else plain(name)


def plain(text: str, most: int = 28) -> str:
    """A user's word as a label: short, no formula, and not hidden by a leading underscore."""
    text = " ".join(text.split())
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return (f" {text}" if text.startswith("_") else text).replace("$", r"\$")
