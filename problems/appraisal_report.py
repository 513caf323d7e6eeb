"""The report of a model beside a reference: a JSON object, sentences, and a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from problems.appraisal import TERMS, Appraisal, Improvement
from problems.report import number, report
from problems.symmetries import distance

LABEL = 44  # width of a label, as in the table of a solution


def appraisal_report(appraisal: Appraisal) -> dict[str, Any]:
    """Everything about a model that is a number or a word, as JSON values."""
    model, optimum = appraisal.model, appraisal.reference.solution.objective
    apart = distance(
        model.problem, model.trajectory.decisions, appraisal.reference.trajectory.decisions
    )
    own = report(model)
    names = ("training_error", "running_error", "control_energy", "certificate")
    return {
        "status": own["status"],
        "objective": number(appraisal.objective),
        "gap": number(appraisal.gap),
        "relative_gap": number(appraisal.gap / max(abs(optimum), np.finfo(float).eps)),
        "terms": {
            term: {
                "model": number(appraisal.costs[term]),
                "reference": number(appraisal.reference_costs[term]),
                "gap": number(appraisal.costs[term] - appraisal.reference_costs[term]),
            }
            for term in TERMS
        },
        **{name: own[name] for name in names},
        "residuals": {
            "largest": {
                "layer": appraisal.worst.layer,
                "name": appraisal.worst.name,
                "value": number(appraisal.worst.value),
            },
            "layers": [number(float(value)) for value in appraisal.layers],
            "readout": number(appraisal.readout),
        },
        "improvements": {
            name: _improvement(appraisal, name, one) for name, one in appraisal.improvements.items()
        },
        "distance_to_reference": number(apart.relative),
        "read_from": dict(appraisal.reading.sources),
        "own_forward": {
            "verdict": appraisal.reading.own_forward,
            "note": appraisal.reading.note,
        },
        "diagnosis": diagnosis(appraisal),
    }


def _improvement(appraisal: Appraisal, name: str, one: Improvement) -> dict[str, Any]:
    gain = appraisal.objective - one.objective
    found: dict[str, Any] = {
        "objective": number(one.objective),
        "improvement": number(gain),
        "share_of_gap": number(gain / appraisal.gap) if appraisal.gap > 0 else None,
        "is_improvable": appraisal.is_improvable(name),
    }
    if one.shift is not None:
        found["shift"] = number(one.shift)
    if one.status is not None:
        found["status"] = one.status
    return found


def diagnosis(appraisal: Appraisal) -> list[str]:
    """What would help, the most first."""
    ways = {
        "time-rescaling": "running its own control at other speeds",
        "time-shift": "a time-shift of its control",
        "read-out": "re-fitting its read-out",
        "in full": "the second-order solver, from there",
    }
    found = []
    order = sorted(appraisal.improvements.items(), key=lambda pair: pair[1].objective)
    for name, one in order:
        if not appraisal.is_improvable(name):
            continue
        way = ways[name]
        if one.shift:
            layers = abs(one.shift) * appraisal.model.problem.layers
            layers /= appraisal.model.problem.horizon
            sooner = "sooner" if one.shift > 0 else "later"
            way = f"{way}, {abs(one.shift):.4g} ({layers:.3g} layers) {sooner},"
        gain = appraisal.objective - one.objective
        share = f", {100 * gain / appraisal.gap:.3g} % of the gap" if appraisal.gap > 0 else ""
        found.append(f"Improvable by {gain:.4g}{share}: {way} comes to J = {one.objective:.10g}.")
    return found or ["Nothing that was tried improves it."]


def appraisal_table(result: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"{'the model':<{LABEL}}{result['status']}",
        *_reading(result),
        f"{'objective J':<{LABEL}}{result['objective']:.10g}",
        f"{'gap J - J*, relative':<{LABEL}}{result['gap']:.6g}, {_short(result['relative_gap'])}",
    ]
    for term, values in result["terms"].items():
        if values["model"] or values["reference"]:
            lines.append(
                f"{f'  of it {term}':<{LABEL}}{values['gap']:+.6g} "
                f"({values['model']:.6g}, reference {values['reference']:.6g})"
            )
    largest = result["residuals"]["largest"]
    place = "in the read-out" if largest["layer"] is None else f"in layer {largest['layer']}"
    certificate = result["certificate"]
    lines += [
        f"{'stationarity residual':<{LABEL}}{_short(certificate['stationarity'])}",
        f"{'largest residual':<{LABEL}}{largest['value']:.4g} of {largest['name']} {place}",
        f"{'relative distance to the reference':<{LABEL}}{_short(result['distance_to_reference'])}",
        *result["diagnosis"],
    ]
    return "\n".join(lines)


def _reading(result: Mapping[str, Any]) -> list[str]:
    """From which arrays the model was read, with the layer as k, and what its forward does."""
    sources = ", ".join(f"{name} = {_printable(key)}" for name, key in result["read_from"].items())
    lines = [f"{'read from':<{LABEL}}{sources}"] if sources else []
    note = result["own_forward"]["note"]
    return lines if note is None else [*lines, note]


def _printable(name: str) -> str:
    """A name out of a stranger's file without what a terminal would obey."""
    return name if name.isprintable() else repr(name)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
