"""What the message of a solution says beyond its status.

How the problem was read; where it jumps, and whether the solution goes there, in which case it is
not to be trusted, however small the residuals; and at which kink a solve has failed.
"""

from __future__ import annotations

import numpy as np

from ocp.attempts import Attempts
from ocp.continuous import ContinuousSolution
from ocp.nlp import Status
from ocp.nonsmooth import Break, breaks
from ocp.switching import Meeting, Switching

SAME_TIME = 1e-9  # of the horizon, between a jump in time and a node
CLOSE = 1e-4  # of the horizon, between times that are written as one
MOST_NAMED = 3  # jumps and kinks that are described
MOST_TIMES = 3  # that are written out
CHANGED = "The point satisfies the conditions of a minimum, but they do not hold at a jump."
HOW_TO_JUMP = (
    "State it in phases, one for each side, that meet on the boundary, or smooth it: in place of "
    "a < b, or of a step at a = b, take (1 + tanh((b - a) / width)) / 2, and let the width go to 0."
)


def with_remarks(found: ContinuousSolution) -> ContinuousSolution:
    """The solution with remarks at the end of its message, and what they make of its status.

    One that is solved but meets a jump is inaccurate; one that sits at a kink of the controls from
    which the cost falls is not a minimum. A search that breaks down leaves the solution as it is,
    and says so.
    """
    attempts, unchanged = Attempts(), (list[str](), found.status)
    parts, status = attempts.compute("jumps and kinks", lambda: _looked_for(found), unchanged)
    parts = [
        *parts,
        *(f"No {part} were looked for: {why}." for part, why in attempts.reasons.items()),
    ]
    first = found.message
    if status is not found.status:
        first = CHANGED if status is Status.INACCURATE else status.sentence
    words = " ".join([first, *parts, *found.problem.notes])
    return found if words == found.message else found.changed(status=status, message=words)


def _looked_for(found: ContinuousSolution) -> tuple[list[str], Status]:
    """Remarks on all jumps and kinks, and the status that remains."""
    parts: list[str] = []
    status = found.status
    for item in breaks(found.problem) if _is_finite(found) else ():
        if len(parts) >= MOST_NAMED and status is not Status.SOLVED:
            break  # enough is known to be wrong
        switching = Switching(found, item)
        remark = ""
        if item.can_jump:
            remark, is_met = _of_a_jump(found, item, switching)
            if is_met and status is Status.SOLVED:
                status = Status.INACCURATE
        elif found.status is not Status.SOLVED:
            meeting = switching.meeting()
            remark = _at_a_kink(item, meeting) if meeting.is_near else ""
        else:
            time = switching.where_the_cost_falls()
            if time is not None:
                status = Status.NOT_A_MINIMUM
                remark = (
                    f"The cost falls from the kink {item.text} in {item.where} at which the "
                    f"controls are at t = {time:.4g}."
                )
        parts += [remark] if remark else []
    if len(parts) > MOST_NAMED:
        parts[MOST_NAMED:] = [f"There are {len(parts) - MOST_NAMED} more such places."]
    return parts, status


def _is_finite(found: ContinuousSolution) -> bool:
    trajectory = found.trajectory
    values = (*trajectory.states, *trajectory.controls, *trajectory.locals, trajectory.parameters)
    return all(bool(np.isfinite(part).all()) for part in values)


def _of_a_jump(found: ContinuousSolution, item: Break, switching: Switching) -> tuple[str, bool]:
    """What is to be said of a jump, and whether the solution meets it."""
    meeting = switching.meeting()
    if not meeting.is_jump:
        is_kink = found.status is not Status.SOLVED and meeting.is_near
        return (_at_a_kink(item, meeting) if is_kink else ""), False
    what = f"{item.text} in {item.where}"
    if switching.is_of_time_alone:
        return _in_time(found, what, meeting), False
    if meeting.times:
        times = _distinct(meeting.times, CLOSE * found.horizon)
        return f"The solution meets a jump, {what}, at {_times(times)}. {HOW_TO_JUMP}", True
    return f"Beware of the jump {what}: this solution stays on one side of it.", False


def _at_a_kink(item: Break, meeting: Meeting) -> str:
    time = meeting.times[0] if meeting.times else meeting.nearest
    cure = f"; {item.cure}" if item.cure else ""
    what = f"{item.text} in {item.where}"
    return f"There is a kink where the trajectory is at t = {time:.4g}: {what}{cure}."


def _in_time(found: ContinuousSolution, what: str, meeting: Meeting) -> str:
    """A jump at known times is harmless where the grid has a node."""
    slack = SAME_TIME * found.horizon
    times = _distinct(meeting.times, slack)
    missed = [t for t in times if np.abs(found.times - t).min() > slack]
    if not times:
        return ""
    if not missed:
        return f"The jump {what}, at {_times(times)}, is at a node of the grid, as it should."
    listed = ", ".join(f"{t:.6g}" for t in missed[:MOST_TIMES])
    return (
        f"The jump {what} is at {_times(missed)}, inside a step of the scheme; make it a "
        f"node by grid.including([{listed}])."
    )


def _distinct(times: tuple[float, ...], slack: float) -> list[float]:
    """Increasing times without those that follow another closely."""
    kept: list[float] = []
    for time in times:
        if not kept or time > kept[-1] + slack:
            kept.append(time)
    return kept


def _times(times: list[float]) -> str:
    shown = ", ".join(f"{t:.4g}" for t in times[:MOST_TIMES])
    return f"t = {shown}{' and more' if len(times) > MOST_TIMES else ''}"
