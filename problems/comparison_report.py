"""The report of a comparison: the JSON object of `turnpike compare`.

Everything that depends on the speed of the machine stands under keys named `seconds`, so that two
runs of one request differ nowhere else. Gaps are (J - J*) / J*, of the least cost recorded; a gap
is reached at the first record at or below it. Medians are over the seeds, `null` where fewer than
half of them get there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ocp.continuation import DISTINCT
from problems.appraisal import Appraisal
from problems.appraisal_report import appraisal_report
from problems.comparison import Comparison, Found, best_rates, gap_scale
from problems.report import data_report, number, versions
from problems.solution_file import options_of
from problems.symmetries import Distance, distance
from problems.torch_optimizers import LBFGS, Optimizer
from problems.torch_training import Outcome, Run

GAPS = {f"1e-{decade}": 10.0**-decade for decade in range(1, 9)}
SOLVER = "turnpike"  # the second-order solver's name beside the optimisers
SAME = 1e-3  # relative distance within which two points of one cost are one minimum


def comparison_report(comparison: Comparison, appraisal: Appraisal | None = None) -> dict[str, Any]:
    """Everything that was found, as JSON values; an appraisal is of a user's model."""
    plan, reference = comparison.plan, comparison.reference
    minima = _Minima(comparison)
    optimizers = [_optimizer(comparison, o, minima) for o in plan.applicable if comparison.runs]
    solver = _solver(comparison, minima)
    status = reference.solved.result["status"] if comparison.is_complete else "interrupted"
    return {
        "status": status,
        "message": _headline(comparison),
        **data_report(plan.problem),
        "reference_beaten": _beaten(comparison),
        "reference": {**reference.solved.result, "origin": reference.origin},
        "model": None if appraisal is None else appraisal_report(appraisal),
        "random_starts": comparison.random.solved.result.get("starts"),
        "minima": minima.report(),
        "second_order": solver,
        "optimizers": [o for o in optimizers if o is not None],
        "not_applicable": {
            o.name: "the controls are bounded" for o in plan.optimizers if o not in plan.applicable
        },
        "winner": _winners([solver, *(o for o in optimizers if o is not None)]),
        "request": {
            **options_of(plan.problem),
            "command": "compare",
            "seeds": list(plan.seeds),
            "evaluations": plan.evaluations,
            "initial_scale": plan.scale,
        },
        "versions": versions() | _torch_version(),
    }


def _torch_version() -> dict[str, str]:
    from problems.pytorch import torch

    return {"torch": str(torch.__version__)}


def _beaten(comparison: Comparison) -> dict[str, Any] | None:
    if not comparison.is_beaten:
        return None
    before, after = comparison.first, comparison.reference
    return {
        "by": after.origin,
        "objective_before": number(before.objective),
        "status_before": before.solved.result["status"],
        "origin_before": before.origin,
        "objective": number(after.objective),
        "status": after.solved.result["status"],
        "relative": number(
            (before.objective - after.objective) / max(abs(after.objective), np.finfo(float).eps)
        ),
    }


def _headline(comparison: Comparison) -> str:
    found = _beaten(comparison)
    if found is None:
        if not comparison.runs:
            return "No optimiser was run."
        return "No optimiser led to a better minimum than the reference."
    if found["status_before"] != "solved":
        return (
            "THE REFERENCE WAS REPLACED, as it was not certified: "
            f"{found['by']} led to J = {found['objective']:.10g}; all gaps are against that."
        )
    certified = "" if found["status"] == "solved" else ", which is not certified"
    return (
        f"THE REFERENCE WAS BEATEN by {found['by']}: J = {found['objective']:.10g}{certified}, "
        f"where it was {found['objective_before']:.10g} from {found['origin_before']}. "
        "This is the reference now, and all gaps are against it."
    )


class _Minima:
    """The distinct minima that the second-order solver ended at, the least first."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        found = [comparison.random, *comparison.starts.values(), *comparison.polished.values()]
        self._groups: list[list[Found]] = []
        solved = [one for one in found if one.is_solved]
        for one in sorted(solved, key=lambda one: one.objective):
            for group in self._groups:
                if self._same(group[0], one):
                    group.append(one)
                    break
            else:
                self._groups.append([one])

    def _same(self, a: Found, b: Found) -> bool:
        """Of one cost, and of one network modulo symmetries."""
        size = max(abs(a.objective), abs(b.objective))
        if abs(a.objective - b.objective) > max(DISTINCT * size, np.finfo(float).eps):
            return False
        apart = self.distance(b.solved.decisions, a.solved.decisions)
        return apart.relative <= SAME

    def distance(self, decisions: Any, other: Any) -> Distance:
        """Modulo the symmetries of the problem."""
        return distance(self._comparison.plan.problem, decisions, other)

    def position(self, found: Found) -> int | None:
        """Which minimum a point is; None if it is not solved."""
        for i, group in enumerate(self._groups):
            if any(one is found for one in group):
                return i
        return None

    def report(self) -> list[dict[str, Any]]:
        """One object per minimum."""
        return [
            {
                "objective": number(group[0].objective),
                "gap": number(self._comparison.gap(group[0].objective)),
                "distance_to_reference": number(
                    self.distance(
                        group[0].solved.decisions, self._comparison.reference.solved.decisions
                    ).relative
                ),
                "count": len(group),
                "origins": [one.origin for one in group],
            }
            for group in self._groups
        ]


def _solver(comparison: Comparison, minima: _Minima) -> dict[str, Any]:
    """The second-order solver from the initial networks that the optimisers start from."""
    runs, seconds = [], []
    for seed, found in comparison.starts.items():
        result = found.solved.result
        seconds.append(float(result["seconds"]))
        runs.append(
            {
                "seed": seed,
                "status": result["status"],
                "objective": number(found.objective),
                "gap": number(comparison.gap(found.objective)),
                "training_error": result["training_error"],
                "control_energy": result["control_energy"],
                "iterations": result["iterations"],
                "minimum": minima.position(found),
                "seconds": result["seconds"],
            }
        )
    gaps = [math.inf if run["gap"] is None else run["gap"] for run in runs]
    arrivals = {
        name: [s if gap <= level else math.inf for s, gap in zip(seconds, gaps, strict=True)]
        for name, level in GAPS.items()
    }
    return {
        "name": SOLVER,
        "gap": _spread([run["gap"] for run in runs]),
        "training_error": _spread([run["training_error"] for run in runs]),
        "control_energy": _spread([run["control_energy"] for run in runs]),
        "runs": runs,
        "seconds": {
            "total": _spread(seconds),
            "to_gap": {level: _median(times) for level, times in arrivals.items()},
            "to_own_gap": dict.fromkeys(
                GAPS,
                _median(
                    [
                        s if found.is_solved else math.inf
                        for s, found in zip(seconds, comparison.starts.values(), strict=True)
                    ]
                ),
            ),
        },
    }


def _optimizer(
    comparison: Comparison, optimizer: Optimizer, minima: _Minima
) -> dict[str, Any] | None:
    everything = comparison.runs_of(optimizer.name)
    if not everything:
        return None
    best = best_rates(everything)[optimizer.name]
    rates = sorted({made.rate for made in everything})
    chosen = comparison.runs_of(optimizer.name, best)
    measured = [_run(comparison, made, minima) for made in chosen]
    return {
        "name": optimizer.name,
        "description": optimizer.description,
        "best_rate": None if optimizer.searches_steps else best,
        "gap": _spread([m["gap"] for m in measured]),
        "gap_to_own_minimum": _spread([m["gap_to_own_minimum"] for m in measured]),
        "training_error": _spread([m["training_error"] for m in measured]),
        "control_energy": _spread([m["control_energy"] for m in measured]),
        "distance_to_reference": _spread([m["distance_to_reference"] for m in measured]),
        "evaluations_to_gap": _arrivals(comparison, optimizer.name, rates, _evaluations),
        "evaluations_to_own_gap": _own_arrivals(comparison, chosen, _evaluations),
        "polished_to_reference": sum(
            m["polished"] is not None and m["polished"]["is_reference"] for m in measured
        ),
        "runs": measured,
        "other_polished_runs": [
            _run(comparison, made, minima)
            for made in everything
            if made.name in comparison.polished and made not in chosen
        ],
        "rates": [
            {
                "rate": None if optimizer.searches_steps else rate,
                "learning_rate": comparison.runs_of(optimizer.name, rate)[0].learning_rate,
                "gap": _spread(
                    [
                        number(comparison.gap(made.objective))
                        for made in comparison.runs_of(optimizer.name, rate)
                    ]
                ),
                "outcomes": _outcomes(comparison.runs_of(optimizer.name, rate)),
            }
            for rate in rates
        ],
        "seconds": {
            "total": _spread([float(made.history.seconds[-1]) for made in chosen]),
            "to_gap": _arrivals(comparison, optimizer.name, rates, _seconds),
            "to_own_gap": _own_arrivals(comparison, chosen, _seconds),
        },
    }


def _outcomes(runs: Sequence[Run]) -> dict[str, int]:
    counts = {outcome: sum(made.outcome is outcome for made in runs) for outcome in Outcome}
    return {outcome.value: count for outcome, count in counts.items() if count}


def _evaluations(made: Run, level: float) -> float:
    return made.history.reach(level, made.history.evaluations)


def _seconds(made: Run, level: float) -> float:
    return made.history.reach(level, made.history.seconds)


def _arrivals(
    comparison: Comparison,
    optimizer: str,
    rates: Sequence[float],
    arrival: Callable[[Run, float], float],
) -> dict[str, float | None]:
    """Median over the seeds at which a gap is reached, at the rate that is best for that gap."""
    found = {}
    for name, gap in GAPS.items():
        level = comparison.level(gap)
        medians = [
            np.median([arrival(made, level) for made in comparison.runs_of(optimizer, rate)])
            for rate in rates
        ]
        found[name] = number(float(min(medians)))
    return found


def _own_arrivals(
    comparison: Comparison, runs: Sequence[Run], arrival: Callable[[Run, float], float]
) -> dict[str, float | None]:
    """The same for the gap to the minimum that a run leads to, at the best rate."""
    found = {}
    for name, gap in GAPS.items():
        times = []
        for made in runs:
            own = comparison.polished.get(made.name)
            known = own is not None and own.is_solved
            level = own.objective + gap * gap_scale(own.objective) if own and known else -math.inf
            times.append(arrival(made, level))
        found[name] = _median(times)
    return found


def _run(comparison: Comparison, made: Run, minima: _Minima) -> dict[str, Any]:
    best, history = made.best, made.history
    apart = minima.distance(made.decisions, comparison.reference.solved.decisions)
    polished = comparison.polished.get(made.name)
    result: dict[str, Any] = {
        "seed": made.seed,
        "rate": None if made.optimizer == LBFGS.name else made.rate,
        "outcome": made.outcome.value,
        "objective": number(made.objective),
        "gap": number(comparison.gap(made.objective)),
        "gap_to_own_minimum": None,
        "training_error": number(float(history.error[best])),
        "control_energy": number(float(history.control_energy[best])),
        "gradient_norm": number(float(history.gradient_norm[best])),
        "final_objective": number(float(history.objective[-1])),
        "evaluations": float(history.evaluations[-1]),
        "distance_to_reference": number(apart.relative),
        "distance_is_exact": apart.is_exact,
        "polished": None,
        "seconds": float(history.seconds[-1]),
    }
    if polished is not None:
        own = polished.objective
        if polished.is_solved:
            result["gap_to_own_minimum"] = number((made.objective - own) / gap_scale(own))
        position, target = minima.position(polished), minima.position(comparison.reference)
        result["polished"] = {
            "status": polished.solved.result["status"],
            "objective": number(own),
            "gap": number(comparison.gap(own)),
            "minimum": position,
            "is_reference": position is not None and position == target,
            "distance_moved": number(
                minima.distance(polished.solved.decisions, made.decisions).relative
            ),
            "seconds": polished.solved.result["seconds"],
        }
    return result


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Median and range; unknown numbers count as infinite."""
    known = [math.inf if value is None else value for value in values]
    if not known:
        return {"median": None, "least": None, "largest": None}
    return {
        "median": number(float(np.median(known))),
        "least": number(min(known)),
        "largest": number(max(known)),
    }


def _median(values: Sequence[float]) -> float | None:
    return number(float(np.median(values))) if values else None


def _winners(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Who has the least median gap, and who gets to every gap first."""
    gaps = {entry["name"]: entry["gap"]["median"] for entry in entries}

    def first(kind: str, key: str) -> dict[str, str | None]:
        at = {e["name"]: e["seconds"] if kind == "seconds" else e for e in entries}
        return {g: _least({n: e.get(key, {}).get(g) for n, e in at.items()}) for g in GAPS}

    return {
        "gap": _least(gaps),
        "evaluations": first("evaluations", "evaluations_to_gap"),
        "evaluations_to_own": first("evaluations", "evaluations_to_own_gap"),
        "seconds": {"to_gap": first("seconds", "to_gap"), "to_own": first("seconds", "to_own_gap")},
    }


def _least(values: Mapping[str, float | None]) -> str | None:
    """Whose value is the least; None if nobody has one."""
    known = {name: value for name, value in values.items() if value is not None}
    return min(known, key=lambda name: known[name]) if known else None
