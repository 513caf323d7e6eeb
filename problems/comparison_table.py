"""The report of a comparison as tables for people, whatever beat the reference first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from problems.appraisal_report import appraisal_table
from problems.comparison_report import GAPS, SOLVER
from problems.report import table as solution_table

LABEL = 44  # width of a label in the table of a solution


def comparison_table(result: Mapping[str, Any]) -> str:
    """The report for people: what beat the reference first, then the reference, then everybody."""
    lines = [str(result["message"]), "", solution_table({**result["reference"]}), ""]
    lines.append(f"{'reference found by':<{LABEL}}{result['reference']['origin']}")
    if len(result["minima"]) > 1:
        costs = ", ".join(f"{m['objective']:.8g} ({m['count']}x)" for m in result["minima"][:5])
        lines.append(f"{'distinct minima':<{LABEL}}{len(result['minima'])}: {costs}")
    if result["model"] is not None:
        lines += ["", appraisal_table(result["model"])]
    lines += ["", "Gap (J - J*) / J* at each optimiser's best rate, median [range] over the seeds:"]
    head = f"{'':<18}{'rate':>7}  {'gap':<28}{'E(x(T))':>10}{'energy':>9}{'distance':>10}"
    lines.append(f"{head}{'to its own':>12}{'polished':>12}")
    for entry in [result["second_order"], *result["optimizers"]]:
        lines.append(_line(entry))
    lines += _diverged(result["optimizers"])
    winner = result["winner"]
    lines += _arrivals(
        "Gradient evaluations to a gap", result, "evaluations_to_gap", winner["evaluations"]
    )
    lines += _arrivals("Seconds to a gap", result, "to_gap", winner["seconds"]["to_gap"])
    if not all(p["is_reference"] for p in _polished(result)):
        own = "to a gap from its own minimum, wherever polishing leads"
        lines += _arrivals(
            f"Gradient evaluations {own}",
            *(result, "evaluations_to_own_gap", winner["evaluations_to_own"]),
        )
        lines += _arrivals(f"Seconds {own}", result, "to_own_gap", winner["seconds"]["to_own"])
    lines += ["", _verdict(result)]
    return "\n".join(lines)


def _arrivals(
    title: str, result: Mapping[str, Any], key: str, winner: Mapping[str, str | None]
) -> list[str]:
    lines = ["", f"{title}, median at the best rate (* first, - not reached):"]
    lines.append(f"{'':<18}" + "".join(f"{level:>10}" for level in GAPS))
    for entry in [result["second_order"], *result["optimizers"]]:
        times = entry.get(key, entry["seconds"].get(key))
        if times is not None:
            name = entry["name"]
            marks = [_short(times[g]) + ("*" if winner[g] == name else " ") for g in GAPS]
            lines.append(f"{name:<18}" + "".join(f"{mark:>10}" for mark in marks))
    return lines


def _polished(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    runs = [run for entry in result["optimizers"] for run in entry["runs"]]
    return [run["polished"] for run in runs if run["polished"] is not None]


def _line(entry: Mapping[str, Any]) -> str:
    gap = entry["gap"]
    spread = f"{_short(gap['median'])} [{_short(gap['least'])}, {_short(gap['largest'])}]"
    own = entry.get("gap_to_own_minimum", {}).get("median")
    runs = entry["runs"]
    polished = [r["polished"] for r in runs if r.get("polished")]
    same = f"{sum(p['is_reference'] for p in polished)} of {len(polished)} J*" if polished else ""
    return (
        f"{entry['name']:<18}{_short(entry.get('best_rate'), ''):>7}  {spread:<28}"
        f"{_short(entry['training_error']['median']):>10}"
        f"{_short(entry['control_energy']['median']):>9}"
        f"{_short(entry.get('distance_to_reference', {}).get('median'), ''):>10}"
        f"{_short(own, ''):>12}{same:>12}"
    )


def _short(value: float | None, nothing: str = "-") -> str:
    return nothing if value is None else f"{value:.3g}"


def _diverged(optimizers: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for entry in optimizers:
        lost = [
            f"{r['rate']:g} ({r['outcomes']['diverged']}x)"
            for r in entry["rates"]
            if "diverged" in r["outcomes"] and r["rate"] is not None
        ]
        if lost:
            lines.append(f"{entry['name']} diverged at rate {', '.join(lost)}")
    return lines


def _verdict(result: Mapping[str, Any]) -> str:
    """Where the optimisers win, in words."""
    sentences, polished = [], _polished(result)
    questions = {"to_gap": "a gap"}
    if not all(p["is_reference"] for p in polished):
        questions["to_own"] = "a gap from its own minimum"
    for key, what in questions.items():
        first = result["winner"]["seconds"][key]
        wins = {g: name for g, name in first.items() if name not in (None, SOLVER)}
        if wins:
            names = ", ".join(sorted(set(wins.values())))
            sentences.append(f"By the clock, {names} is first to {what} of {', '.join(wins)}.")
        elif any(first.values()):
            sentences.append(
                f"By the clock, the second-order solver is first to every {what[2:]} that the "
                "median run reaches."
            )
    if polished:
        same = sum(p["is_reference"] for p in polished)
        sentences.append(
            f"Polished, {same} of {len(polished)} results end at the reference, "
            f"{len(polished) - same} elsewhere."
        )
    return " ".join(sentences)
