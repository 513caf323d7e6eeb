"""Point clouds of the generated data sets: from each sample's class 0, 1, ... to its input.

Every generator takes the classes (N,) and a random generator and returns inputs (N, d0).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Kinds = NDArray[np.intp]
Inputs = NDArray[np.float64]


def _polar(radius: NDArray[Any], angle: NDArray[Any]) -> Inputs:
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def _moons(kind: Kinds, rng: np.random.Generator) -> Inputs:
    """The half circles of radius 1 around (1, 1/2), lower, and around the origin, upper."""
    angle = rng.uniform(0, np.pi, kind.size)
    side = np.where(kind == 0, -1.0, 1.0)[:, np.newaxis]
    centre = np.where(kind[:, np.newaxis] == 0, (1.0, 0.5), 0.0)
    return centre + side * _polar(np.ones(kind.size), angle) + _noise(kind, rng, 0.1)


def _noisy_rings(kind: Kinds, rng: np.random.Generator) -> Inputs:
    """Circles of radius 1/2, 1, 3/2 around the origin, one per class."""
    ring = _polar(0.5 * (kind + 1), rng.uniform(0, 2 * np.pi, kind.size))
    return ring + _noise(kind, rng, 0.05)


def _spirals(kind: Kinds, rng: np.random.Generator) -> Inputs:
    """Radius 0.1 to 1 growing with the angle, 3 pi radius; the second arm is turned by pi."""
    radius = rng.uniform(0.1, 1, kind.size)
    return _polar(radius, 3 * np.pi * radius + np.pi * kind) + _noise(kind, rng, 0.02)


def _spheres(kind: Kinds, rng: np.random.Generator) -> Inputs:
    """Uniform in area on the disc and on the annulus."""
    least, most = np.where(kind == 0, 0.0, 1.0), np.where(kind == 0, 0.5, 1.5)
    radius = np.sqrt(rng.uniform(least**2, most**2))
    return _polar(radius, rng.uniform(0, 2 * np.pi, kind.size))


def _chess(kind: Kinds, rng: np.random.Generator, squares: int) -> Inputs:
    """A board on [-1, 1]^2, its corners black; points keep a tenth of a side off the edges."""
    colour = np.indices((squares, squares)).sum(axis=0) % 2
    inputs = rng.uniform(0.1, 0.9, (kind.size, 2))
    for side in (0, 1):
        cells = np.argwhere(colour == side)
        rows = np.flatnonzero(kind == side)
        inputs[rows] += cells[np.arange(rows.size) % len(cells)]
    return 2 * inputs / squares - 1


def _gaussians(kind: Kinds, rng: np.random.Generator) -> Inputs:
    """Deviation 0.2 around three points of the unit circle."""
    return _polar(np.ones(kind.size), np.pi / 2 + 2 * np.pi / 3 * kind) + _noise(kind, rng, 0.2)


def _xor(kind: Kinds, rng: np.random.Generator) -> Inputs:
    """Deviation 0.2 around the four corners, which take turns within their class."""
    first = np.where(np.arange(kind.size) // 2 % 2 == 0, 1.0, -1.0)
    corner = np.column_stack([first, np.where(kind == 0, first, -first)])
    return corner + _noise(kind, rng, 0.2)


def _line(kind: Kinds, rng: np.random.Generator) -> Inputs:
    return np.sort(rng.uniform(-np.pi, np.pi, kind.size))[:, np.newaxis]


def _noise(kind: Kinds, rng: np.random.Generator, deviation: float) -> Inputs:
    return rng.normal(0, deviation, (kind.size, 2))


GENERATORS: Mapping[str, Callable[[Kinds, np.random.Generator], Inputs]] = {
    "moons": _moons,
    "circles": _noisy_rings,
    "spirals": _spirals,
    "spheres": _spheres,
    "chess2": lambda kind, rng: _chess(kind, rng, 2),
    "chess3": lambda kind, rng: _chess(kind, rng, 3),
    "rings": _noisy_rings,
    "gaussians": _gaussians,
    "xor": _xor,
    "sine": _line,
}
