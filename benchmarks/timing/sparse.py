"""Peers that factorise a sparse program: CasADi unrolled with IPOPT's defaults, and Fatrop."""

from __future__ import annotations

import math
import time
from typing import Any

import casadi as ca
import numpy as np

from timing.cases import Array, Case, Run, plain_network

FATROP_RATE, FATROP_STEPS = 2e9, 30  # operations per second and steps that it is expected to take


def sparse_program(case: Case) -> tuple[dict[str, ca.SX], Array]:
    """The network unrolled, sample by sample and stage by stage, and the inputs."""
    inputs, targets, step = plain_network(case)
    members, d = inputs.shape
    unknowns, defects, cost = [], [], ca.SX(0)
    x = ca.DM(inputs.T)
    state: ca.SX | ca.DM = x
    for k in range(case.layers):
        u = ca.SX.sym(f"u{k}", d * d + d)
        weight, bias = ca.reshape(u[: d * d], d, d).T, u[d * d :]
        after = ca.SX.sym(f"x{k + 1}", d, members)
        rate = weight @ ca.tanh(state) + ca.repmat(bias, 1, members)
        unknowns += [u, ca.vec(after)]
        defects.append(ca.vec(state + step * rate - after))
        cost += case.weight_decay * step * ca.sumsqr(u)
        state = after
    residual = state[: targets.shape[1], :] - ca.DM(targets.T)
    cost += ca.sumsqr(residual) / members
    return {"x": ca.vertcat(*unknowns), "f": cost, "g": ca.vertcat(*defects)}, inputs


def sparse_start(case: Case, start: Array) -> Array:
    """Controls and the states that they lead to, in the order of `sparse_program`."""
    inputs, _, step = plain_network(case)
    d, x, parts = case.width, inputs, []
    for u in start.reshape(case.layers, -1):
        x = x + step * (np.tanh(x) @ u[: d * d].reshape(d, d).T + u[d * d :])
        parts += [u, x.ravel()]
    return np.concatenate(parts)


def by_casadi(case: Case, start: Array, limit: float) -> Run:
    """CasADi unrolled, IPOPT with its defaults."""
    begin = time.perf_counter()
    program, _ = sparse_program(case)
    quiet: dict[str, Any] = {
        "ipopt": {"print_level": 0, "max_wall_time": limit, "sb": "yes"},
        "print_time": False,
    }
    solver = ca.nlpsol("solver", "ipopt", program, quiet)
    found = solver(x0=sparse_start(case, start), lbg=0.0, ubg=0.0)
    seconds = time.perf_counter() - begin
    return Run(seconds, str(solver.stats()["return_status"]), float(found["f"]))


def by_fatrop(case: Case, start: Array, limit: float) -> Run:
    """Fatrop on stages that stack the samples; the first interval starts from given states."""
    if not ca.has_nlpsol("fatrop") or _fatrop_seconds(case) > limit:
        return Run(math.nan, "too large", math.nan)
    inputs, targets, step = plain_network(case)
    members, d = inputs.shape
    m, n = d * d + d, members * d
    begin = time.perf_counter()
    unknowns, rows, cost = [], [], ca.SX(0)
    states = [ca.SX.sym(f"x{k}", d, members) for k in range(case.layers + 1)]
    for k in range(case.layers):
        u = ca.SX.sym(f"u{k}", m)
        weight, bias = ca.reshape(u[: d * d], d, d).T, u[d * d :]
        rate = weight @ ca.tanh(states[k]) + ca.repmat(bias, 1, members)
        unknowns += [ca.vec(states[k]), u]
        rows.append(ca.vec(states[k + 1] - states[k] - step * rate))
        if k == 0:
            rows.append(ca.vec(states[0] - ca.DM(inputs.T)))
        cost += case.weight_decay * step * ca.sumsqr(u)
    unknowns.append(ca.vec(states[-1]))
    cost += ca.sumsqr(states[-1][: targets.shape[1], :] - ca.DM(targets.T)) / members
    program = {"x": ca.vertcat(*unknowns), "f": cost, "g": ca.vertcat(*rows)}
    structure: dict[str, Any] = {
        "structure_detection": "manual",
        "nx": [n] * (case.layers + 1),
        "nu": [m] * case.layers + [0],
        "ng": [n] + [0] * case.layers,
        "N": case.layers,
        "equality": [True] * int(program["g"].numel()),
        "print_time": False,
        "fatrop": {"print_level": 0, "max_iter": 3000},
    }
    solver = ca.nlpsol("solver", "fatrop", program, structure)
    packed = sparse_start(case, start).reshape(case.layers, m + n)
    x0 = np.concatenate([inputs.ravel(), packed.ravel()])
    found = solver(x0=x0, lbg=0.0, ubg=0.0)
    seconds = time.perf_counter() - begin
    status = "solved" if solver.stats()["success"] else "not solved"
    return Run(seconds, status, float(found["f"]))


def _fatrop_seconds(case: Case) -> float:
    """Expected from its recursion on the stacked state."""
    stacked = case.samples * case.width
    step = 3.0 * case.layers * float(stacked + case.width**2 + case.width) ** 3
    return FATROP_STEPS * step / FATROP_RATE
