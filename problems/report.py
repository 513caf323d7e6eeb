"""The report of a solution: the JSON object of the command line, and a table for people."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from problems.data_notes import data_notes, target_reading
from problems.learning import LearningProblem
from problems.training import LearningSolution
from problems.turnpike_report import turnpike_report

NOT_YET = "the file was written before it was computed"


def completed(result: Mapping[str, Any], solution: LearningSolution) -> dict[str, Any]:
    """A report that was written before the diagnosis, with what it leaves out.

    Args:
        result: a JSON object of `report`, as a file holds it.
        solution: what it reports.
    """
    untested = dict(result["certificate"].get("untested", {}))
    if NOT_YET not in untested.values():
        return dict(result)
    whole, name = report(solution), "refined_training_error"
    reason = whole["certificate"]["untested"].get(name)
    del untested[name]
    certificate = {
        **result["certificate"],
        name: whole["certificate"][name],
        "untested": {**untested, name: reason} if reason is not None else untested,
    }
    turnpike = {"turnpike": whole["turnpike"]} if "turnpike" in result else {}
    return {**result, "certificate": certificate, **turnpike}


def report(solution: LearningSolution, is_diagnosed: bool = True) -> dict[str, Any]:
    """Everything about a solution that is a number or a word; None where there is none.

    Args:
        solution: what to report.
        is_diagnosed: whether to compute what takes long: the training error of the re-integrated
            differential equation, and the turnpike. Without, they are None for the reason NOT_YET.

    Returns:
        The JSON object of the command line. Under "certificate", "untested" says why a number of
        it is None, by the name of the number; it is empty where nothing is missing.
    """
    problem, certificate = solution.problem, solution.certificate
    result: dict[str, Any] = {
        "status": solution.status.value,
        "message": solution.solution.message,
        **data_report(problem),
        "objective": number(solution.solution.objective),
        "training_error": number(solution.errors[-1]),
        "running_error": number(problem.running_error(solution.trajectory)),
        "control_energy": number(solution.control_energy),
    }
    if problem.interpolation:
        result["multipliers"] = solution.multipliers.tolist()
    result["certificate"] = {
        "stationarity": number(certificate.stationarity),
        "dynamics": number(certificate.dynamics),
        "constraints": number(certificate.constraints),
        "min_reduced_hessian_eigenvalue": number(certificate.min_reduced_hessian_eigenvalue),
        "energy_drift": number(certificate.energy_drift),
        "refined_training_error": number(solution.refined_error) if is_diagnosed else None,
        "step_times_lipschitz": number(problem.step_times_lipschitz(solution.trajectory)),
        "smoothing": solution.smoothing,
        "untested": solution.untested
        if is_diagnosed
        else {**solution.certificate_untested, "refined_training_error": NOT_YET},
    }
    if solution.tips is not None:
        samples, largest = solution.tips
        result["certificate"]["samples_at_tip"] = samples
        result["certificate"]["largest_tip_multiplier"] = number(largest)
    if solution.starts is not None:
        minima = solution.starts.minima
        result["starts"] = {
            "tried": len(solution.starts.solutions),
            "solved": sum(minimum.count for minimum in minima),
            "distinct_objectives": [minimum.solution.objective for minimum in minima],
            "best_found": minima[0].count if minima else 0,
        }
    if problem.tracking > 0 and not problem.interpolation:
        result["turnpike"] = (
            turnpike_report(solution) if is_diagnosed else {"verdict": None, "reason": NOT_YET}
        )
    choice = solution.solution.method
    result["method"] = None if choice is None else choice.method.value
    result["method_reason"] = None if choice is None else choice.reason
    result["iterations"] = solution.solution.iterations
    timings = solution.timings if is_diagnosed else solution.solution.timings
    result["seconds"] = timings.total
    result["timings"] = asdict(timings)
    result["backend_status"] = solution.solution.backend_status
    result["versions"] = versions()
    return result


def data_report(problem: LearningProblem) -> dict[str, Any]:
    """How the data were read, and the width of the state that there is for them."""
    inputs, targets = problem.dataset.inputs.shape[1], problem.outputs
    return {
        "target": target_reading(problem.dataset),
        "width": problem.state_size,
        "width_reason": f"for {counted(inputs, 'input')} and {counted(targets, 'target column')}",
        "notes": data_notes(problem.dataset),
    }


def data_lines(result: Mapping[str, Any]) -> list[str]:
    """The same for people; nothing of a result that was saved without it."""
    if "target" not in result:
        return []
    width = f"{'width of the state':<44}{result['width']}, {result['width_reason']}"
    return [result["target"], width]


def counted(number: int, word: str) -> str:
    """A number of things, "1 input" or "2 inputs"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def number(value: float | None) -> float | None:
    """A finite float, or None; JSON knows neither NaN nor infinity."""
    return float(value) if value is not None and math.isfinite(value) else None


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    found = {"python": platform.python_version()}
    for package in ("turnpike", "casadi", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree
            found[package] = "not installed"
    return found


ROWS = (
    ("status", "status"),
    ("objective", "objective J"),
    ("training_error", "training error E(x(T))"),
    ("running_error", "running error Int E dt"),
    ("control_energy", "control energy Int |u|^2 dt"),
    ("stationarity", "stationarity residual"),
    ("dynamics", "dynamics residual"),
    ("constraints", "constraint violation"),
    ("min_reduced_hessian_eigenvalue", "smallest eigenvalue of the reduced Hessian"),
    ("energy_drift", "drift of the conserved quantity"),
    ("refined_training_error", "training error of the re-integrated ODE"),
    ("step_times_lipschitz", "max h |w| Lip(s)"),
    ("smoothing", "certificate holds at smoothing width"),
    ("method", "method"),
    ("samples_at_tip", "samples at the tip of their loss"),
    ("largest_tip_multiplier", "their largest |p| N / alpha, at most 1"),
    ("iterations", "iterations"),
    ("seconds", "seconds"),
)


def table(result: dict[str, Any]) -> str:
    """The report for people, one quantity a line."""
    flat = {**result, **result["certificate"]}
    lines = [f"{label:<44}{cell(flat[key])}" for key, label in ROWS if key in flat]
    lines += data_lines(result)
    starts = result.get("starts")
    if starts and starts["tried"] > 1:
        best = ", ".join(f"{value:.8g}" for value in starts["distinct_objectives"][:5])
        lines.append(f"{'starts tried, solved':<44}{starts['tried']}, {starts['solved']}")
        lines.append(f"{'distinct minima':<44}{len(starts['distinct_objectives'])}: {best}")
        lines.append(f"{'best minimum found':<44}{starts['best_found']} times")
    if "turnpike" in result:
        lines += _turnpike_lines(result["turnpike"])
    untested = result["certificate"].get("untested") or {}
    labels = dict(ROWS)
    lines += [f"no {labels.get(name, name)}: {reason}" for name, reason in untested.items()]
    if result.get("timings"):
        parts = {name: value for name, value in result["timings"].items() if name != "total"}
        spent = ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in parts.items() if v)
        lines.append(f"{'seconds by part':<44}{spent or '-'}")
    if result.get("method_reason"):
        lines.append(result["method_reason"])
    lines.append(result["message"])
    return "\n".join(lines)


def _turnpike_lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{'turnpike':<44}{found['verdict']}"]
    for key, label in (
        ("predicted_discrete_rate", "  predicted rate of |u| and sqrt(E)"),
        ("fitted_rate", "  fitted rate"),
        ("window", "  fitted on the window"),
        ("arrival_time", "  the error is zero from"),
        ("switch_off_time", "  controls are off after"),
        ("predicted_switch_off_time", "  the switching functions say"),
    ):
        value = found[key]
        if value is None:
            continue
        words = f"{value[0]:g} to {value[1]:g}" if isinstance(value, list) else cell(value)
        interval = found.get(f"{key}_interval")
        if interval is not None:
            words += f" [{interval[0]:.6g}, {interval[1]:.6g}]"
        lines.append(f"{label:<44}{words}")
    depth = f"{found['needed_layers']} layers, t = {found['needed_depth']:g}, to be within "
    lines.append(f"{'  depth needed':<44}{depth}{found['crop_tolerance']:.3g} of E(x(T))")
    lines.append(f"because {found['reason']}")
    lines += [f"what helps: {advice}" for advice in found["advice"]]
    return lines


def cell(value: object) -> str:
    """A table cell: ten digits for numbers, a dash for nothing."""
    if value is None:
        return "-"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
