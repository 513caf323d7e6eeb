"""Linear solvers that IPOPT can use for its KKT systems, and which of them work here.

MUMPS comes with CasADi. The others are linked into some builds of IPOPT, or loaded from a library
of the user's when the first system is solved; a missing one shows only then, in words on the
standard output, and may take the process with it. So each is tried on a program of a few unknowns
in a process of its own, whose words are kept.

Source: the table "Linear Solvers" in IPOPT's documentation; the environment variables are
those of SPRAL's, Duff, Hogg and Lopez, SIAM J. Sci. Comput. 42 (2020), C23-C42.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import cache

PROBE_TIME_LIMIT = 60.0  # s; loading CasADi takes a fraction of one
# Options that name a user's library; a solver is tried with the ones the solve will have.
LIBRARY_OPTIONS = ("hsllib", "pardisolib")
OPENMP_VARIABLES = {"OMP_CANCELLATION": "TRUE", "OMP_PROC_BIND": "TRUE"}
# OpenMP reads its variables once; what is set after this import may come too late.
_AT_START = {name: os.environ.get(name) for name in OPENMP_VARIABLES}

_PROGRAM = """
import json, sys
import casadi as ca
options = json.loads(sys.argv[1])
x = ca.MX.sym("x", 20)
program = {"x": x, "f": ca.sumsqr(x - 1), "g": ca.diff(x) + x[:-1] ** 2}
solver = ca.nlpsol("probe", "ipopt", program, {"ipopt": options, "print_time": False})
solver(x0=0.5, lbg=0, ubg=0)
print("RETURN STATUS", solver.stats()["return_status"], flush=True)
"""


class LinearSolver(Enum):
    """A linear solver; the value is IPOPT's word for it."""

    MUMPS = "mumps"
    SPRAL = "spral"
    MA27 = "ma27"
    MA57 = "ma57"
    MA77 = "ma77"
    MA86 = "ma86"
    MA97 = "ma97"
    PARDISO_MKL = "pardisomkl"
    PARDISO_PROJECT = "pardiso"
    WSMP = "wsmp"


_HSL = {
    LinearSolver.MA27,
    LinearSolver.MA57,
    LinearSolver.MA77,
    LinearSolver.MA86,
    LinearSolver.MA97,
}


@dataclass(frozen=True)
class Probe:
    """Whether a linear solver works in this installation.

    Args:
        solver: which one.
        works: whether it solved the small program.
        reason: why not, with what to do; empty if it works.
    """

    solver: LinearSolver
    works: bool
    reason: str = ""


def probe_linear_solver(solver: LinearSolver, options: Mapping[str, object] | None = None) -> Probe:
    """Solve a small program with it, in a process of its own; asked once per process.

    Args:
        solver: which one.
        options: IPOPT's options of the solve to come; those that name a library are used.
    """
    given = options or {}
    libraries = tuple((name, str(given[name])) for name in LIBRARY_OPTIONS if name in given)
    return _probe(solver, libraries)


def available_linear_solvers(options: Mapping[str, object] | None = None) -> list[LinearSolver]:
    """All linear solvers that work here; takes about a second the first time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        probes = pool.map(lambda solver: probe_linear_solver(solver, options), LinearSolver)
        return [probe.solver for probe in probes if probe.works]


def require_linear_solver(
    solver: LinearSolver, options: Mapping[str, object] | None = None
) -> None:
    """Make sure that it works here; the default is not tried, it comes with CasADi.

    Raises:
        ValueError: it does not work; says why, and which ones do.
    """
    if solver is LinearSolver.MUMPS:
        return
    probe = probe_linear_solver(solver, options)
    if not probe.works:
        names = ", ".join(f"LinearSolver.{s.name}" for s in available_linear_solvers(options))
        raise ValueError(
            f"linear_solver is LinearSolver.{solver.name}, which does not work here: "
            f"{probe.reason} Available: {names}."
        )


@cache
def _probe(solver: LinearSolver, libraries: tuple[tuple[str, str], ...]) -> Probe:
    options = {"linear_solver": solver.value, "print_level": 5, "sb": "yes", **dict(libraries)}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for name, value in _AT_START.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    try:
        run = subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps(options)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=PROBE_TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return Probe(solver, False, f"it did not end within {PROBE_TIME_LIMIT:g} s.")
    output = run.stdout + run.stderr
    if run.returncode == 0 and "RETURN STATUS Solve_Succeeded" in output:
        return Probe(solver, True)
    return Probe(solver, False, explain_failure(solver, run.returncode, output, _AT_START))


def explain_failure(
    solver: LinearSolver, code: int, output: str, environment: Mapping[str, str | None]
) -> str:
    """Why a linear solver did not solve the small program, and what to do, in a sentence or two.

    Args:
        solver: which one.
        code: of the process; negative for a signal.
        output: what it and IPOPT wrote.
        environment: OpenMP's variables when the process was started, None where not set.
    """
    if "is not a valid setting" in output:
        return "the IPOPT of this CasADi was built without it; another build is needed."
    loading = re.search(r"Exception message: (.*)", output)
    if loading and "DYNAMIC_LIBRARY_FAILURE" in output:
        return f"its library could not be loaded ({loading.group(1).strip()}).{_remedy(solver)}"
    unset = [
        f"{name}={value}"
        for name, value in OPENMP_VARIABLES.items()
        if (environment.get(name) or "").upper() != value
    ]
    if solver is LinearSolver.SPRAL and unset:
        return (
            f"it needs {' and '.join(unset)} in the environment before Python starts, "
            "since OpenMP reads them only once."
        )
    if code < 0:
        return f"it crashed with signal {-code}.{_remedy(solver)}"
    status = re.search(r"RETURN STATUS (\S+)", output)
    words = status.group(1) if status else (output.strip().splitlines() or ["nothing"])[-1]
    return f"on a small program it ended with {words!r}.{_remedy(solver)}"


def _remedy(solver: LinearSolver) -> str:
    if solver in _HSL:
        return (
            " Get libhsl from https://licences.stfc.ac.uk/product/coin-hsl, and put it on the "
            "loader's path or name it by SolveOptions(ipopt={'hsllib': path})."
        )
    if solver is LinearSolver.PARDISO_PROJECT:
        return (
            " Get libpardiso from https://panua.ch, and put it on the loader's path or name it "
            "by SolveOptions(ipopt={'pardisolib': path})."
        )
    return ""
