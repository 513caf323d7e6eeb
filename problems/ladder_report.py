"""The report of a ladder: the JSON object of `turnpike sweep`, and a table for people.

Predictions stand beside what was measured: the error beside its leading term and its bound, the
slopes of its convergence beside the theorem's, the slope of the value function beside the norms
that it must lie between. All quantities are dimensionless.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ocp.analysis import l2_distance
from problems.datasets import Dataset
from problems.generalization import generalization
from problems.hypotheses import applicability
from problems.ladder import Ladder, Rung
from problems.ladder_checks import Checks, Fit, check, fits
from problems.ladder_plan import LAYERS, label
from problems.predictions import Predictions, at_strength, predictions
from problems.report import cell, data_lines, data_report, number, versions
from problems.turnpike_ladder import turnpike_ladder, turnpike_lines

SETTLED = 0.1  # E this close to its leading term, relatively, is near the limit
ZERO = 1e-10  # an error below this counts as zero, where an exact penalty is predicted


def ladder_report(
    ladder: Ladder, tolerance: float, held_out: Dataset | None = None
) -> dict[str, Any]:
    """Everything about a ladder that is a number or a word; None where there is none.

    Args:
        ladder: finished or not.
        tolerance: of its solves.
        held_out: samples that were not trained on.
    """
    plan = ladder.plan
    predicted = predictions(ladder)
    checks = check(ladder, predicted)
    found = fits(ladder, predicted, tolerance)
    theorem = applicability(
        plan.problems[-1], plan.homogeneity, plan.in_horizon, ladder.no_interpolant
    )
    return {
        "status": _status(ladder),
        **data_report(plan.problems[0]),
        "ladder": plan.variable,
        "keep": plan.keep,
        "held_fixed": _held_fixed(ladder),
        "rungs": [
            _rung(ladder, i, rung, predicted, checks, held_out)
            for i, rung in enumerate(ladder.rungs)
        ],
        "interpolation": _interpolation(ladder, predicted),
        "no_interpolation": ladder.no_interpolant,
        "fits": {name: _fit(fit) for name, fit in found.items()},
        "hypotheses": {
            "homogeneous_of_degree": plan.homogeneity.degree,
            "homogeneity_deviation": number(plan.homogeneity.deviation),
            "homogeneity": plan.homogeneity.sentence,
            "theorem_applies": theorem.applies,
            "reasons": list(theorem.reasons),
            "statement": theorem.statement,
        },
        "checks": _checks(ladder, checks),
        "turnpike": turnpike_ladder(ladder),
        "versions": versions(),
    }


def _status(ladder: Ladder) -> str:
    """Of the first rung that is not solved; that of the run otherwise."""
    if not ladder.is_complete:
        return "interrupted"
    statuses = [rung.solution.status for rung in ladder.rungs]
    return next((s.value for s in statuses if s.value != "solved"), "solved")


def _held_fixed(ladder: Ladder) -> str:
    problem = ladder.plan.problems[0]
    if not ladder.plan.in_horizon:
        return f"horizon {problem.horizon:g}, layers {problem.layers}"
    if ladder.plan.keep == LAYERS:
        return f"layers {problem.layers}, so the length of a layer grows with T"
    return f"length of a layer {problem.horizon / problem.layers:g}, so the network deepens with T"


def _rung(
    ladder: Ladder,
    position: int,
    rung: Rung,
    predicted: Predictions | None,
    checks: Checks,
    held_out: Dataset | None,
) -> dict[str, Any]:
    problem, cost = rung.problem, rung.cost
    norm_squared = ladder.norm_squared(rung)
    result: dict[str, Any] = {
        "horizon": problem.horizon,
        "weight_decay": problem.weight_decay,
        "layers": problem.layers,
        **rung.solved.result,
        "origin": rung.origin,
        "penalty_strength": number(cost.strength),
        "penalty_size": number(cost.size),
        "rescaled_norm_squared": number(norm_squared),
        "predicted_error": None,
        "error_over_predicted": None,
        "error_bound": None,
        "error_bound_holds": None,
        "distance_to_interpolant": None,
        "value_slope_to_next": None,
    }
    if position < len(checks.slopes):
        result["value_slope_to_next"] = number(checks.slopes[position])
    if predicted is not None and ladder.interpolant is not None:
        leading = predicted.error(cost.strength)
        assert checks.error_bound_holds is not None
        result |= {
            "predicted_error": leading,
            "error_over_predicted": number(rung.error / leading) if leading else None,
            "error_bound": number(
                predicted.error_bound(cost.strength, cost.size, problem.terminal)
            ),
            "error_bound_holds": checks.error_bound_holds[position],
            "distance_to_interpolant": number(
                l2_distance(ladder.rescaled(rung), ladder.rescaled(ladder.interpolant))
            ),
        }
    measures = generalization(rung.solution, float(np.sqrt(norm_squared)), held_out)
    result |= {name: number(value) for name, value in asdict(measures).items()}
    return result


def _interpolation(ladder: Ladder, predicted: Predictions | None) -> dict[str, Any] | None:
    best, branch, plan = ladder.interpolant, ladder.branch, ladder.plan
    if best is None or predicted is None:
        return None
    first = plan.problems[0]
    constant = predicted.error_constant
    result: dict[str, Any] = {
        **best.solved.result,
        "control_energy": number(ladder.norm_squared(best)),
        "penalty_size": number(best.cost.size),
        "multipliers": predicted.multipliers.tolist(),
        "predicted_error_constant": None,
        "predicted_error_constant_of": None,
        "origin": best.origin,
        "branch_control_energy": None if branch is None else number(ladder.norm_squared(branch)),
        "is_branch_best": branch is best,
    }
    if constant is not None:
        scale = first.weight_decay if plan.in_horizon else 1 / first.horizon
        result["predicted_error_constant"] = number(constant * scale**2)
        result["predicted_error_constant_of"] = (
            "training_error T^2" if plan.in_horizon else "training_error / lambda^2"
        )
    if predicted.critical_strength is not None:
        result["critical_strength"] = number(predicted.critical_strength)
        name = "critical_horizon" if plan.in_horizon else "critical_weight_decay"
        result[name] = number(at_strength(plan, predicted.critical_strength))
        positive = [i for i, rung in enumerate(ladder.rungs) if rung.error > ZERO]
        after = positive[-1] + 1 if positive else 0
        between = [positive[-1]] if positive else []
        between += [after] if after < len(ladder.rungs) else []
        result["error_vanishes_between"] = [label(plan, i) for i in between]
    return result


def _fit(fit: Fit) -> dict[str, Any]:
    line = fit.line
    return {
        "quantity": fit.quantity,
        "against": fit.against,
        "slope": None if line is None else number(line.slope),
        "interval": None if line is None or line.interval is None else list(line.interval),
        "confidence": None if line is None else line.confidence,
        "points": 0 if line is None else line.points,
        "predicted": fit.predicted,
    }


def _checks(ladder: Ladder, checks: Checks) -> dict[str, Any]:
    return {
        "consistent": checks.is_consistent,
        "value_function_concave": checks.is_concave,
        "error_monotone": checks.is_error_monotone,
        "norm_monotone": checks.is_norm_monotone,
        "error_bound_holds": None
        if checks.error_bound_holds is None
        else all(checks.error_bound_holds),
        "branch_leads_to_best_interpolant": checks.is_branch_best,
        "not_applicable": checks.not_applicable,
        "violations": list(checks.violations),
        "repairs": [
            {
                "rung": label(ladder.plan, repair.rung),
                "beaten_by": repair.beaten_by,
                "objective_before": number(repair.before),
                "objective_of_the_other_control": number(repair.bound),
                "objective_after": number(repair.after),
                "status": repair.status,
                "repaired": repair.is_repaired,
            }
            for repair in ladder.repairs
        ],
    }


COLUMNS = (  # key, heading
    ("status", "status"),
    ("objective", "objective J"),
    ("training_error", "error E"),
    ("error_over_predicted", "E/predicted"),
    ("error_bound", "bound of E"),
    ("error_bound_holds", "holds"),
    ("rescaled_norm_squared", "|v|^2"),
    ("value_slope_to_next", "V' to next"),
    ("distance_to_interpolant", "|v - v*|"),
    ("margin", "margin"),
    ("normalized_margin", "margin/|v|"),
    ("held_out_error", "held-out E"),
    ("held_out_accuracy", "accuracy"),
    ("lipschitz_bound", "Lip <="),
    ("lipschitz_sampled", "Lip >="),
)
WORDS = {True: "yes", False: "NO", None: "-"}


def ladder_table(result: dict[str, Any]) -> str:
    """The report for people: a line per rung, then predictions, fits and checks."""
    variable = "horizon" if result["ladder"] == "horizon" else "weight_decay"
    columns = [(variable, variable.replace("_", " "))]
    columns += [
        (key, heading)
        for key, heading in COLUMNS
        if any(rung.get(key) is not None for rung in result["rungs"])
    ]
    rows = [[heading for _, heading in columns]]
    rows += [[_short(rung.get(key)) for key, _ in columns] for rung in result["rungs"]]
    widths = [max(len(row[j]) for row in rows) for j in range(len(columns))]
    lines = [*data_lines(result), f"fixed: {result['held_fixed']}"]
    lines += ["  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
    lines += ["", *_limit_lines(result), *_fit_lines(result), *_check_lines(result)]
    if result["turnpike"] is not None:
        lines += turnpike_lines(result["turnpike"])
    return "\n".join(lines)


def _short(value: object) -> str:
    if value is None or isinstance(value, bool):
        return WORDS[value]
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


def _limit_lines(result: dict[str, Any]) -> list[str]:
    found, hypotheses = result["interpolation"], result["hypotheses"]
    lines = [f"field: {hypotheses['homogeneity']}"]
    if hypotheses["theorem_applies"]:
        lines.append(f"theorem: {hypotheses['statement']}")
    else:
        reasons = "; ".join(hypotheses["reasons"])
        lines.append(f"the theorem does not apply because {reasons}")
        lines.append(f"what holds: {hypotheses['statement']}")
    if found is None:
        return [*lines, f"no minimal-norm limit: {result['no_interpolation'] or 'not reached'}"]
    lines.append(f"minimal-norm interpolant: |v*|^2 = {found['control_energy']:.10g}")
    if found["predicted_error_constant"] is not None:
        lines.append(
            f"predicted limit of {found['predicted_error_constant_of']}: "
            f"{found['predicted_error_constant']:.8g}"
        )
    for name in ("critical_horizon", "critical_weight_decay"):
        if name in found:
            between = " and ".join(found["error_vanishes_between"]) or "no rungs"
            lines.append(
                f"predicted {name.replace('_', ' ')} on the interpolant's branch: "
                f"{found[name]:.8g}; E vanishes between {between}"
            )
    if not found["is_branch_best"]:
        other = found["branch_control_energy"]
        where = "to no interpolant" if other is None else f"to one of |v|^2 = {other:.8g}"
        lines.append(f"the ladder's branch leads {where}, not to the best known")
    return lines


def _fit_lines(result: dict[str, Any]) -> list[str]:
    lines = []
    for fit in result["fits"].values():
        name = f"slope of {fit['quantity']} against {fit['against']}"
        if fit["slope"] is None:
            lines.append(f"{name}: too few rungs above the tolerance")
            continue
        line = f"{name}: {fit['slope']:.4f}"
        if fit["interval"] is not None:
            low, high = fit["interval"]
            line += f" [{low:.4f}, {high:.4f}] at {fit['confidence']:.0%}"
        line += f", {fit['points']} rungs"
        if fit["predicted"] is not None:
            line += f", predicted {fit['predicted']:g}"
        lines.append(line)
    reached = [rung.get("error_over_predicted") for rung in result["rungs"]][-1:]
    if reached and reached[0] is not None and abs(reached[0] - 1) > SETTLED:
        lines.append(
            f"the ladder ends before its limit: E is {reached[0]:.3g} of its leading term on the "
            "last rung, so the slopes are not yet those of the limit"
        )
    return lines


def _check_lines(result: dict[str, Any]) -> list[str]:
    checks = result["checks"]
    lines = [
        f"{name.replace('_', ' ')}: {WORDS[checks[name]]}"
        for name in (
            *("value_function_concave", "error_monotone", "norm_monotone"),
            *("error_bound_holds", "branch_leads_to_best_interpolant"),
        )
        if checks[name] is not None
    ]
    if checks["not_applicable"]:
        lines.append(f"rungs are compared by transferred controls only: {checks['not_applicable']}")
    for repair in checks["repairs"]:
        done = "repaired" if repair["repaired"] else f"NOT repaired ({repair['status']})"
        before, after = _short(repair["objective_before"]), _short(repair["objective_after"])
        lines.append(
            f"{repair['rung']} was beaten by the control of {repair['beaten_by']}: "
            f"{before} -> {after}, {done}"
        )
    lines += [f"INCONSISTENT: {violation}" for violation in checks["violations"]]
    if checks["consistent"]:
        lines.append("the ladder is consistent: no rung is beaten by the control of another")
    return lines
