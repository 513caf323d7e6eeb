"""What the message of a solution says beyond its status: how the problem was read."""

from __future__ import annotations

from dataclasses import replace

from ocp.continuous import ContinuousSolution


def with_remarks(found: ContinuousSolution) -> ContinuousSolution:
    """The solution with the notes of its problem at the end of its message."""
    return replace(found, message=" ".join([found.message, *found.problem.notes]))
