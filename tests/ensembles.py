"""Small random problems with every feature, and their costs written a second time, naively.

The formulas of the ensemble are functions of (x, u, p, d, t, m), where m is CasADi or NumPy, so
that one text serves the transcription and the plain loops it is compared with. The loops share
no code with the package and accept complex numbers, so a complex step differentiates them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import casadi as ca
import numpy as np

from ocp import Constraint, OptimalControlProblem, StagedProblem, Trajectory
from ocp.stages import Rows, SharedTerm, Stage, StageFunction

INFINITY = np.inf
COMPLEX_STEP = 1e-30  # squared it is far below rounding, yet far above underflow
RATE_WEIGHT = 0.2
# Kind, name, lower and upper bound, weight of the ensemble's constraints; values in `rows_of`.
CONSTRAINTS = (
    ("path", "wall", [-INFINITY], [9.0], INFINITY),
    ("path", "corridor", [-0.1, -0.3], [0.2, INFINITY], 0.7),
    ("path", "track", [0.0], [0.0], 0.3),
    ("terminal", "gate", [-8.0], [8.0], INFINITY),
    ("terminal", "goal", [0.0, 0.0], [0.0, 0.0], 0.9),
    ("control", "pair", [-5.0], [5.0], INFINITY),
    ("control", "budget", [-INFINITY], [0.2], 0.6),
)


def field_of(x: Any, u: Any, p: Any, d: Any, t: Any, m: Any) -> list:
    return [
        m.tanh(u[0] * x[0] + x[1] + p[0]) + 0.3 * m.sin(t),
        u[1] * x[0] - 0.5 * x[1] * u[0] + 0.2 * d[0],
    ]


def running_of(x: Any, u: Any, p: Any, d: Any, t: Any, m: Any) -> Any:
    return 0.4 * (x[0] - d[1]) ** 2 + 0.1 * x[1] * u[0] * p[0] + 0.2 * m.cos(t * x[1])


def terminal_of(x: Any, u: Any, p: Any, d: Any, t: Any, m: Any) -> Any:
    return m.log(1 + m.exp(x[0] * d[0])) + 0.5 * p[0] * x[1] ** 2


def control_of(x: Any, u: Any, p: Any, d: Any, t: Any, m: Any) -> Any:
    return (0.3 + 0.1 * t) * (u[0] ** 2 + u[1] ** 2) + 0.05 * u[0] ** 4 + 0.1 * p[0] * u[1]


def parameter_of(p: Any, m: Any) -> Any:
    return 0.5 * p[0] ** 2 + 0.3 * m.cos(p[0])


def rows_of(name: str, x: Any, u: Any, p: Any, d: Any, t: Any) -> list:
    return {
        "wall": lambda: [x[0] ** 2 + u[0] * x[1]],
        "corridor": lambda: [x[0] * u[0], x[1] - t * p[0]],
        "track": lambda: [x[1] - d[1]],
        "gate": lambda: [x[0] * p[0] + x[1]],
        "goal": lambda: [x[0] - d[0], x[1] * x[0] - d[1]],
        "pair": lambda: [u[0] + u[1] * p[0]],
        "budget": lambda: [u[0] * u[1]],
    }[name]()


def ensemble_problem(
    members: int = 3, seed: int = 0, horizon: float = 1.5
) -> OptimalControlProblem:
    """Members with data, a parameter, time, all costs, soft and hard rows of each kind, bounds."""
    generator = np.random.default_rng(seed)
    x, u, p, d = (ca.SX.sym(n, size) for n, size in (("x", 2), ("u", 2), ("p", 1), ("d", 2)))
    t = ca.SX.sym("t")
    constraints: dict[str, list[Constraint]] = {"path": [], "terminal": [], "control": []}
    for kind, name, lower, upper, weight in CONSTRAINTS:
        rows = ca.vertcat(*rows_of(name, x, u, p, d, t))
        constraints[kind].append(Constraint(name, rows, lower, upper, weight))
    return OptimalControlProblem(
        state=x,
        control=u,
        dynamics=ca.vertcat(*field_of(x, u, p, d, t, ca)),
        horizon=horizon,
        initial_state=generator.standard_normal((members, 2)),
        running_cost=running_of(x, u, p, d, t, ca),
        terminal_cost=terminal_of(x, u, p, d, t, ca),
        control_cost=control_of(x, u, p, d, t, ca),
        control_rate_weight=RATE_WEIGHT,
        parameter_cost=parameter_of(p, ca),
        path_constraints=constraints["path"],
        terminal_constraints=constraints["terminal"],
        control_constraints=constraints["control"],
        state_bounds=(-20.0, 20.0),
        control_bounds=(-6.0, [6.0, 7.0]),
        parameter_bounds=(-3.0, 3.0),
        parameter=p,
        data=d,
        member_data=generator.standard_normal((members, 2)),
        time=t,
    )


def plain_cost(
    problem: OptimalControlProblem,
    nodes: np.ndarray,
    tableau: tuple[np.ndarray, np.ndarray],
    substeps: int,
    decisions: np.ndarray,
    control_per_stage: bool = False,
) -> Any:
    """Cost of the ensemble for decisions (u^0, ..., u^{K-1}, p), by loops over numbers."""
    a, b = tableau
    c = a.sum(axis=1)
    copies = substeps * len(b) if control_per_stage else 1
    controls, p = decisions[:-1].reshape(len(nodes) - 1, copies, 2), decisions[-1:]
    total = parameter_of(p, np)
    for k, values in enumerate(controls):
        step = nodes[k + 1] - nodes[k]
        shares = np.tile(b, substeps) / substeps if control_per_stage else [1.0]
        offsets = (np.arange(substeps)[:, None] + c).ravel() / substeps
        for u, share, offset in zip(values, shares, offsets, strict=False):
            at = nodes[k] + (step * offset if control_per_stage else 0.0)
            total = total + step * share * control_of(None, u, p, None, at, np)
            total = total + step * share * penalty_of("control", None, u, p, None, at)
    for k in range(len(controls) - 1):
        midstep = (nodes[k + 2] - nodes[k]) / 2
        change = controls[k + 1] - controls[k]
        total = total + problem.control_rate_weight * (change**2).sum() / midstep
    for start, d in zip(problem.initial_state, problem.member_data, strict=True):
        x = start.astype(decisions.dtype)
        for k, values in enumerate(controls):
            h = (nodes[k + 1] - nodes[k]) / substeps
            for s in range(substeps):
                t, rates = nodes[k] + s * h, []
                for i in range(len(b)):
                    u = values[s * len(b) + i if control_per_stage else 0]
                    point = x + h * sum((a[i, j] * rates[j] for j in range(i)), 0 * x)
                    at = t + c[i] * h
                    rates.append(np.array(field_of(point, u, p, d, at, np)))
                    total = total + h * b[i] * running_of(point, u, p, d, at, np)
                    total = total + h * b[i] * penalty_of("path", point, u, p, d, at)
                x = x + h * sum(w * rate for w, rate in zip(b, rates, strict=True))
        total = total + terminal_of(x, None, p, d, nodes[-1], np)
        total = total + penalty_of("terminal", x, None, p, d, nodes[-1])
    return total


def penalty_of(kind: str, x: Any, u: Any, p: Any, d: Any, t: Any) -> Any:
    """Cost of violating the soft rows of one kind at one point."""
    total = 0.0
    for which, name, lower, upper, weight in CONSTRAINTS:
        if which == kind and np.isfinite(weight):
            for r, low, high in zip(rows_of(name, x, u, p, d, t), lower, upper, strict=True):
                total = total + weight * (violation(r, low, high))
    return total


def violation(value: Any, lower: float, upper: float) -> Any:
    """Distance to [lower, upper], analytic away from the ends."""
    if np.real(value) > upper:
        return value - upper
    return lower - value if np.real(value) < lower else 0.0


def varying_problem(members: int = 3, seed: int = 0, lifted: bool = False) -> StagedProblem:
    """Three stages made by hand: states of sizes 2, 3, 1, controls of sizes 2, 1, a parameter.

    Soft and hard rows on every stage, data and constants in every function, and shared terms over
    one control, over both, and over the parameter alone. Lifted, some of the expressions are
    local unknowns with equations that determine them; the problem is the same.
    """
    generator = np.random.default_rng(seed)
    x2, x3, x1 = ca.SX.sym("x", 2), ca.SX.sym("x", 3), ca.SX.sym("x", 1)
    u2, u1, p = ca.SX.sym("u", 2), ca.SX.sym("v", 1), ca.SX.sym("p", 1)
    d, c, z2, z1 = (ca.SX.sym(name, size) for name, size in zip("dczy", (1, 1, 2, 1), strict=True))
    none = ca.SX(0, 1)
    first = _stage_function(
        "first",
        [x2, u2, p],
        [d, c],
        [
            ca.vertcat(x2[0] + c * ca.tanh(z2[0]), x2[1] * p, ca.sin(u2[1]) * d + z2[1]),
            x2[0] ** 2 * u2[1] + d * p * x2[1] * z2[0],
            ca.vertcat(x2[0] * u2[0] + p, z2[1] ** 2 - x2[1]),
        ],
        z2,
        ca.vertcat(u2[0] * x2[1] / (1 + x2[0] ** 2), ca.log(2 + x2[0] ** 2 + p * u2[1] ** 2 / 9)),
        ca.vertcat(
            (1 + x2[0] ** 2) * z2[0] - u2[0] * x2[1],
            ca.exp(z2[1]) - (2 + x2[0] ** 2 + p * u2[1] ** 2 / 9),
        ),
        lifted,
    )
    second = _stage_function(
        "second",
        [x3, u1, p],
        [d, c],
        [
            x3[0] * u1 + ca.tanh(x3[1] + c * z1 * p),
            ca.sumsqr(x3 - d) * (1 + u1**2),
            ca.vertcat(z1 * u1 * p),
        ],
        z1,
        x3[2] * d / (1 + u1**2),
        (1 + u1**2) * z1 - x3[2] * d,
        lifted,
    )
    last = StageFunction.of(
        "last", [x1, p], [d, c], none, ca.exp(0.3 * x1) + p * x1**2 * c, ca.vertcat(x1 * p - d)
    )
    single = StageFunction.of("single", [u2, p], [c], none, ca.sumsqr(u2) * c + p * u2[0], none)
    both = StageFunction.of(
        "both", [u2, u1, p], [c], none, c * (u2[0] - u1) ** 2, ca.vertcat(u2[1] * u1 + p)
    )
    alone = StageFunction.of("alone", [p], [], none, p**2 + ca.cos(p), none)
    free = (np.zeros(0), np.zeros(0))
    soft = Rows(("a", "b"), np.array([-0.1, 0.0]), np.array([0.1, 0.0]), np.array([0.4, 0.6]))
    stages = (
        Stage(first, 2, 2, np.array([0.7]), soft, _box(2), _box(2)),
        Stage(second, 3, 1, np.array([0.4]), _row("c", 9.0, INFINITY), _box(3), _box(1)),
        Stage(last, 1, 0, np.array([0.9]), _row("d", 0.0, 0.8), _box(1), free),
    )
    shared = (
        SharedTerm("effort", single, (0,), np.array([0.5]), Rows.none()),
        SharedTerm("difference", both, (0, 1), np.array([0.3]), _row("e", 0.1, 0.5)),
        SharedTerm("parameter", alone, (), np.zeros(0), Rows.none()),
    )
    return StagedProblem(
        stages,
        shared,
        generator.standard_normal((members, 2)),
        generator.standard_normal((members, 1)),
        1,
        (np.array([-5.0]), np.array([5.0])),
    )


def _stage_function(
    name: str,
    unknowns: list[ca.SX],
    given: list[ca.SX],
    expressions: list[ca.SX],
    local: ca.SX,
    value: ca.SX,
    equations: ca.SX,
    lifted: bool,
) -> StageFunction:
    """With `local` an unknown of its own, or with its value put in its place."""
    if lifted:
        return StageFunction.of(
            name, [unknowns[0], local, *unknowns[1:]], given, *expressions, equations
        )
    return StageFunction.of(
        name, unknowns, given, *[ca.substitute(e, local, value) for e in expressions]
    )


def _box(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(size, -30.0), np.full(size, 30.0)


def _row(name: str, limit: float, weight: float) -> Rows:
    return Rows((name,), np.array([-limit]), np.array([limit]), np.array([weight]))


def random_decisions(staged: StagedProblem, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(staged.decision_size)


def random_trajectory(staged: StagedProblem, seed: int = 0) -> Trajectory:
    """Any numbers of the right sizes; the states do not follow from the controls."""
    generator = np.random.default_rng(seed)
    return Trajectory(
        tuple(generator.standard_normal((staged.members, s.state_size)) for s in staged.stages),
        tuple(generator.standard_normal(s.control_size) for s in staged.stages[:-1]),
        generator.standard_normal(staged.parameter_size),
        staged.times,
        tuple(
            generator.standard_normal((staged.members, s.function.local_size))
            for s in staged.stages
        ),
    )


def row_blocks(staged: StagedProblem) -> list[tuple[Rows, int]]:
    """Rows of every stage with the number of members, then of every shared term with 1."""
    blocks = [(stage.rows, staged.members) for stage in staged.stages]
    return blocks + [(term.rows, 1) for term in staged.shared]


def random_multipliers(staged: StagedProblem, seed: int = 0) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(seed)
    shapes = [(copies, len(rows.names)) for rows, copies in row_blocks(staged)]
    return tuple(generator.standard_normal(shape) for shape in shapes)


def no_multipliers(staged: StagedProblem) -> tuple[np.ndarray, ...]:
    return tuple(np.zeros((copies, len(rows.names))) for rows, copies in row_blocks(staged))


def settled_multipliers(staged: StagedProblem, decisions: np.ndarray) -> tuple[np.ndarray, ...]:
    """+-w of the soft rows that are violated, 0 of all others."""
    found = []
    for (rows, _), values in zip(row_blocks(staged), row_values(staged, decisions), strict=True):
        weight = np.where(np.isfinite(rows.weight), rows.weight, 0.0)
        sign = (values > rows.upper).astype(float) - (values < rows.lower)
        found.append(sign * weight)
    return tuple(found)


def outputs_of(staged: StagedProblem, k: int, i: int, v: np.ndarray) -> list[np.ndarray]:
    """Successor, cost and rows of member i in stage k, one column at a time."""
    outputs = staged.stages[k].function.function(v, staged.given(k)[:, i])
    return [output.full().ravel() for output in outputs[:3]]


def rolled_out(staged: StagedProblem) -> tuple[ca.SX, ca.SX, list[ca.SX]]:
    """Decisions, cost without penalties and the rows (copies, r), as one CasADi expression.

    Loops over members and stages, for CasADi to differentiate: slow, and nothing is assembled.
    Only for stages without local unknowns.
    """
    controls = [ca.SX.sym("u", stage.control_size) for stage in staged.stages]
    p = ca.SX.sym("p", staged.parameter_size)
    decisions = ca.vertcat(*controls, p)
    cost = ca.SX(0)
    rows: list[list[ca.SX]] = [[] for _ in row_blocks(staged)]
    for start, data in zip(staged.initial_state, staged.data, strict=True):
        x = ca.SX(ca.DM(start))
        for k, stage in enumerate(staged.stages):
            v = ca.vertcat(x, controls[k], p)
            given = ca.DM(np.concatenate([data, stage.constants]))
            x, c, r = stage.function.function(v, given)[:3]
            cost += c
            rows[k].append(r.T)
    for s, term in enumerate(staged.shared):
        v = ca.vertcat(*[controls[k] for k in term.stages], p)
        _, c, r = term.function.function(v, ca.DM(term.constants))[:3]
        cost += c
        rows[len(staged.stages) + s].append(r.T)
    return decisions, cost, [ca.vertcat(*block) for block in rows]


def rolled_out_function(
    staged: StagedProblem, make: Callable[[ca.SX, ca.SX, list[ca.SX]], list[ca.SX]]
) -> ca.Function:
    """decisions -> what `make` builds of decisions, cost and rows."""
    decisions, cost, rows = rolled_out(staged)
    return ca.Function("rolled_out", [decisions], make(decisions, cost, rows))


def row_values(staged: StagedProblem, decisions: np.ndarray) -> list[np.ndarray]:
    """Rows along the trajectory of these decisions, (copies, r) each."""
    function = rolled_out_function(staged, lambda _, cost, rows: [cost, *rows])
    shapes = [(copies, len(rows.names)) for rows, copies in row_blocks(staged)]
    blocks = function.call([ca.DM(decisions)])[1:]
    return [b.full().reshape(shape) for b, shape in zip(blocks, shapes, strict=True)]


def lagrangian(cost: ca.SX, rows: list[ca.SX], multipliers: tuple[np.ndarray, ...]) -> ca.SX:
    """cost + sum of multipliers times rows."""
    pairs = zip(rows, multipliers, strict=True)
    return cost + sum(ca.dot(ca.vec(r), ca.vec(ca.DM(y))) for r, y in pairs if y.size)


def total_cost(staged: StagedProblem, decisions: np.ndarray) -> float:
    """Cost with penalties of the trajectory of these decisions."""
    function = rolled_out_function(staged, lambda _, cost, rows: [cost])
    total = float(function(decisions))
    for (rows, _), values in zip(row_blocks(staged), row_values(staged, decisions), strict=True):
        soft = np.isfinite(rows.weight)
        outside = np.maximum(np.maximum(values - rows.upper, rows.lower - values), 0.0)
        total += float((outside[:, soft] * rows.weight[soft]).sum())
    return total


def central_differences(
    function: Callable[[np.ndarray], Any], point: np.ndarray, step: float = 1e-6
) -> np.ndarray:
    """Derivative of a function of a vector, its components along the last axis."""
    columns = []
    for direction in step * np.eye(point.size):
        ahead, behind = function(point + direction), function(point - direction)
        columns.append((np.asarray(ahead) - np.asarray(behind)) / (2 * step))
    return np.stack(columns, axis=-1)
