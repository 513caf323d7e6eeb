"""What the time of a solve goes into: a stopwatch on functions, without those that they call."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

REST = "the rest, Python's overhead among it"

# Functions, where they are looked up, by the part that they are of.
PARTS = {
    "building": ("problems.learning:LearningProblem._stages", "ocp.reduced:Sweep.of"),
    "gradients": ("ocp.reduced:Reduced.cost_and_gradient",),
    "costs of trial points": ("ocp.reduced:Reduced.ends", "ocp.reduced:Reduced.cost"),
    "Jacobians": (
        "ocp.reduced:Reduced.pull_back",
        "ocp.solve:linearize",
        "ocp.newton:linearize",
    ),
    "assembly": (
        "ocp.gauss_newton:GaussNewtonMatrix.of",
        "ocp.certificate:reduced_hessian",
        "ocp.reduction:reduced_hessian",
    ),
    "factorisation": (
        "ocp.gauss_newton:GaussNewtonMatrix.solve",
        "ocp.certificate:smallest_eigenvalue",
    ),
    "globalisation": (
        "ocp.descent:QuasiNewton.iterate",
        "ocp.gauss_newton:GaussNewton.iterate",
    ),
    "rest of the certificate": ("ocp.solve:certify_linearized",),
}


class Stopwatch:
    """Seconds by part, each without the parts that it calls."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys([*PARTS, REST], 0.0)
        self._running, self._since = [REST], time.perf_counter()

    def _switch(self) -> None:
        now = time.perf_counter()
        self.spent[self._running[-1]] += now - self._since
        self._since = now

    def watched(self, part: str, function: Callable) -> Callable:
        """The function, whose time is that part's."""

        def call(*arguments: Any, **options: Any) -> Any:
            self._switch()
            self._running.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self._switch()
                self._running.pop()

        return call


def seconds_by_part(solve: Callable[[], object]) -> dict[str, float]:
    """Seconds of one solve by what they went into."""
    watch = Stopwatch()
    with ExitStack() as stack:
        for part, places in PARTS.items():
            for place in places:
                module, _, path = place.partition(":")
                inside, _, name = path.rpartition(".")
                owner = resolve_name(f"{module}:{inside}") if inside else import_module(module)
                call = watch.watched(part, getattr(owner, name))
                of_class = isinstance(inspect.getattr_static(owner, name), classmethod)
                new = staticmethod(call) if of_class else call
                stack.enter_context(patch.object(owner, name, new))
        watch.watched(REST, solve)()
    return watch.spent
