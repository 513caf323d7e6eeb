"""The stages of a network whose grid moves: sizes of state and control change with the layer.

    z_i^{k+1} = Pi_k z_i^k + h f_k(z_i^k, u^k),        k = 0, ..., K-1

    minimise  alpha E(z^K) + beta Sum_k h E(Pi_{K-1} ... Pi_k z^k) + lambda Sum_k h R(u^k) + ...

in the coordinates of `problems.layer`, in which R is the penalty of functions. Where the grid
stays, these are the stages of the Euler scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import casadi as ca
import numpy as np

from ocp import Constraint, StagedProblem
from ocp.stages import Rows, SharedTerm, Stage, StageFunction

if TYPE_CHECKING:
    from problems.layer import Layer
    from problems.learning import LearningProblem


def stage_network(problem: LearningProblem, pins: bool = False) -> StagedProblem:
    """One stage per layer, and one for the end; pins as in `LearningProblem.control_problem`."""
    step = float(problem.grid.steps[0])
    q = ca.SX.sym("q", problem.readout_size)
    y, delta = ca.SX.sym("y", problem.outputs), ca.SX.sym("delta")
    given = [ca.vertcat(y, delta)]
    intervals: dict[tuple[int, bytes], tuple[StageFunction, Rows]] = {}
    penalties: dict[int, tuple[StageFunction, Rows]] = {}
    stages: list[Stage] = []
    shared: list[SharedTerm] = []
    for k in range(problem.layers):
        layer = problem.layer(k)
        # With a running error, the way to the last grid is part of the stage.
        carrier = problem.carried(np.eye(problem.widths[k]), k) if problem.tracking else np.eye(0)
        key = (id(layer), carrier.tobytes())
        if key not in intervals:
            x, u = ca.SX.sym("x", layer.before), ca.SX.sym("u", layer.size)
            cost, soft = problem.running_terms(x, q, y, delta, k)
            after = layer.advance(x, u, ca.SX(step), delta)
            function = StageFunction.of(
                "layer", [x, u, q], given, after, step * cost, _expressions(soft)
            )
            intervals[key] = (function, _rows(soft, step))
        function, limits = intervals[key]
        bounds = problem.control_limits(k)
        stages.append(
            Stage(
                function,
                layer.before,
                layer.size,
                np.zeros(0),
                limits,
                _free(layer.before),
                (-bounds, bounds),
            )
        )
        if id(layer) not in penalties:
            penalties[id(layer)] = _penalty(problem, layer, q, step)
        function, limits = penalties[id(layer)]
        shared.append(SharedTerm("control", function, (k,), np.zeros(0), limits))
    x = ca.SX.sym("x", problem.widths[-1])
    cost, ends = problem.terminal_terms(x, q, y, delta, pins)
    last = StageFunction.of("terminal", [x, q], given, ca.SX(0, 1), cost, _expressions(ends))
    none = (np.zeros(0), np.zeros(0))
    stages.append(Stage(last, x.numel(), 0, np.zeros(0), _rows(ends), _free(x.numel()), none))
    if problem.penalty.rate > 0:
        shared += _rate_terms(problem, q, step)
    if q.numel():
        cost = problem.parameter_decay * ca.sumsqr(q)
        function = StageFunction.of("parameter", [q], [], ca.SX(0, 1), cost, ca.SX(0, 1))
        shared.append(SharedTerm("parameter", function, (), np.zeros(0), Rows.none()))
    return StagedProblem(
        tuple(stages),
        tuple(shared),
        problem.pad(problem.dataset.inputs),
        problem.member_data,
        q.numel(),
        _free(q.numel()),
        problem.grid.nodes,
    )


def _penalty(
    problem: LearningProblem, layer: Layer, q: ca.SX, step: float
) -> tuple[StageFunction, Rows]:
    """The term lambda h R(u) of one layer."""
    u = ca.SX.sym("u", layer.size)
    cost = step * problem.control_decay * problem.penalty.cost(u)
    rows = problem.penalty.constraints(u, problem.control_decay, layer.measure)
    function = StageFunction.of("control", [u, q], [], ca.SX(0, 1), cost, _expressions(rows))
    return function, _rows(rows, step)


def _rate_terms(problem: LearningProblem, q: ca.SX, step: float) -> list[SharedTerm]:
    """The penalty of u', where all controls have one size."""
    before, after = (ca.SX.sym(name, problem.layer(0).size) for name in ("u", "v"))
    weight = problem.control_decay * problem.penalty.rate / step
    none = ca.SX(0, 1)
    function = StageFunction.of(
        "rate", [before, after, q], [], none, weight * ca.sumsqr(after - before), none
    )
    return [
        SharedTerm("control rate", function, (k, k + 1), np.zeros(0), Rows.none())
        for k in range(problem.layers - 1)
    ]


def _expressions(constraints: Sequence[Constraint]) -> ca.SX:
    return ca.vertcat(ca.SX(0, 1), *[c.expression for c in constraints])


def _rows(constraints: Sequence[Constraint], share: float = 1.0) -> Rows:
    """Names and bounds of rows; the price of soft ones times the time they stand for."""
    return Rows.join(
        [
            Rows(
                c.row_names,
                np.asarray(c.lower),
                np.asarray(c.upper),
                np.full(c.expression.numel(), c.weight * share if c.is_soft else np.inf),
            )
            for c in constraints
        ]
    )


def _free(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(size, -np.inf), np.full(size, np.inf)
