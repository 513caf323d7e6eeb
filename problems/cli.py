"""The command line `turnpike`: from a data set to a certified optimum.

Exit codes: 0 solved; 1 ran, but not solved; 2 the request was wrong; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ocp import Iteration, Method, SolveOptions, Status
from ocp.nlp import Progress
from ocp.storage import check_writable
from problems.arguments import LATER_OPTIONS, REQUEST_WRONG, RequestError, parse
from problems.cropping import crop, crop_report, crop_sentence, find_crop
from problems.data_notes import data_notes
from problems.datasets import DATASETS, Dataset
from problems.figures import (
    check_figure_path,
    save_comparison_figure,
    save_figure,
    save_ladder_figure,
)
from problems.interpolation import unreachable
from problems.ladder import climb, solver
from problems.ladder_files import fingerprint, open_folder
from problems.ladder_plan import horizon_ladder, weight_decay_ladder
from problems.ladder_report import ladder_report, ladder_table
from problems.model_arrays import read_model
from problems.report import report, table
from problems.request import asked_data, asked_problem
from problems.solution_file import differences, load_solution, save_solution
from problems.training import LearningSolution, SmoothedSolution, train
from problems.workers import processes

SOLVED, NOT_SOLVED, INTERRUPTED = 0, 1, 130  # exit codes


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parse(arguments)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "datasets": _datasets,
        "solve": _solve,
        "interpolate": _solve,
        "sweep": _sweep,
        "compare": _compare,
        "check": _check,
        "show": _show,
        "crop": _crop,
    }
    try:
        return commands[options.command](options)
    except ValueError as error:
        _say(options.command, str(error))
        return REQUEST_WRONG
    except KeyboardInterrupt:
        _say(options.command, "interrupted before there was anything to keep.")
        return INTERRUPTED
    except BrokenProcessPool:
        _say(options.command, "a worker process died; try fewer workers, or more memory.")
        return NOT_SOLVED
    except MemoryError:
        _say(options.command, "the problem does not fit into memory; make it smaller.")
        return REQUEST_WRONG
    except OSError as error:  # standard output is full, or its reader has left
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _say(options.command, f"cannot write to standard output: {error.strerror}.")
        return NOT_SOLVED


def _say(command: str, message: str) -> None:
    print(f"turnpike {command}: {' '.join(message.split())}", file=sys.stderr)


def _note(command: str, dataset: Dataset) -> None:
    """A line on what was done to the data, and on those that hardly mean what they should."""
    for note in data_notes(dataset):
        _say(command, f"note: {note}")
    if len(dataset.inputs) == 1:
        _say(command, "note: there is one sample only; add more to say anything about the data.")
        return
    constant = np.flatnonzero(np.ptp(dataset.targets, axis=0) == 0.0)
    if constant.size:
        name = dataset.target_names[constant[0]]
        _say(command, f"note: target column {name!r} is constant; is it the one you meant?")


def _datasets(options: argparse.Namespace) -> int:
    if options.json:
        found = {
            d.name: {
                "description": d.description,
                "inputs": d.inputs,
                "task": d.task,
                "samples": d.samples,
                "extra": d.extra,
            }
            for d in DATASETS.values()
        }
        print(json.dumps(found))
        return SOLVED
    print(f"{'name':<15}{'inputs':>7}{'samples':>9}  {'task':<12}description")
    for d in DATASETS.values():
        needs = f" (needs turnpike[{d.extra}])" if d.extra else ""
        print(f"{d.name:<15}{d.inputs:>7}{d.samples:>9}  {d.task:<12}{d.description}{needs}")
    return SOLVED


def _solve(options: argparse.Namespace) -> int:
    _check_outputs(options)
    data = asked_data(options)
    problem = asked_problem(options, data.training)
    _note(options.command, problem.dataset)
    reason = unreachable(problem) if problem.interpolation else None
    with _progress(options) as (progress, finished), processes(options.workers) as executor:
        solution = train(
            problem,
            seed=options.seed,
            starts=options.starts,
            options=_solve_options(options),
            executor=executor,
            progress=progress,
            finished=finished,
        )
    if reason is not None:
        _say(options.command, reason)
        verdict = replace(solution.solution, status=Status.INFEASIBLE, message=reason)
        solution = replace(solution, solution=verdict)
    try:
        kept = _keep(solution, options, data.remembered)
        result = solution.report
    except KeyboardInterrupt:
        place = "" if options.save is None else f"; the solution is kept in {options.save}"
        _say(options.command, f"interrupted in the diagnosis{place}.")
        _print(report(solution, is_diagnosed=False), options.json)
        return INTERRUPTED
    _print(result, options.json)
    assert solution.starts is not None
    if not solution.starts.is_complete:
        return INTERRUPTED
    if not kept:
        return REQUEST_WRONG
    return SOLVED if solution.status is Status.SOLVED else NOT_SOLVED


def _solve_options(options: argparse.Namespace) -> SolveOptions:
    return SolveOptions(
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        time_limit=options.time_limit or float("inf"),
        method=Method(options.method),
    )


# Options of a sweep that its results do not depend on, or whose data are fingerprinted
NOT_IN_REQUEST = (
    *("command", "data", "save", "plot", "json", "quiet", "workers", "model"),
    *("separator", "decimal", "comment", "no_header", "missing", "categorical"),
    *LATER_OPTIONS,
)


def _sweep(options: argparse.Namespace) -> int:
    if options.plot is not None:
        check_figure_path(options.plot, still=True)
    data = asked_data(options)
    problem = asked_problem(options, data.training)
    if options.horizons is not None:
        plan = horizon_ladder(problem, options.horizons, options.keep)
    else:
        plan = weight_decay_ladder(problem, options.weight_decays)
    folder = None
    if options.save is not None:
        asked = {k: v for k, v in vars(options).items() if k not in NOT_IN_REQUEST}
        asked |= {"numbers_of_the_data": fingerprint(data.training, data.held_out)}
        asked |= data.remembered
        folder = open_folder(options.save, json.loads(json.dumps(asked)))
    _note(options.command, problem.dataset)
    with (
        _ladder_progress(options, len(plan.problems)) as (progress, reached),
        processes(options.workers) as executor,
    ):
        solve = solver(
            seed=options.seed,
            options=_solve_options(options),
            executor=executor,
            progress=progress,
        )
        ladder = climb(
            plan,
            solve if folder is None else folder.stored(solve),
            starts=options.starts,
            reached=reached,
        )
    result = ladder_report(ladder, options.tolerance, data.held_out)
    if options.json:
        print(json.dumps(result, allow_nan=False), flush=True)
    else:
        print(ladder_table(result), flush=True)
    kept = options.plot is None or _drawn(options, lambda: save_ladder_figure(result, options.plot))
    if not ladder.is_complete:
        kept_in = "" if folder is None else f" in {folder.path}"
        _say(
            options.command,
            f"interrupted; {len(ladder.rungs)} of {len(plan.problems)} rungs are kept{kept_in}.",
        )
        return INTERRUPTED
    if not kept:
        return REQUEST_WRONG
    good = result["status"] == Status.SOLVED.value and result["checks"]["consistent"]
    return SOLVED if good else NOT_SOLVED


def _compare(options: argparse.Namespace) -> int:
    try:  # PyTorch takes seconds to import, and is not there without its extra
        from problems.comparison import Plan, compare, with_model
        from problems.comparison_files import open_comparison
        from problems.comparison_report import comparison_report
        from problems.comparison_table import comparison_table
        from problems.torch_optimizers import OPTIMIZERS
    except ImportError as error:
        raise RequestError(str(error)) from error
    if options.plot is not None:
        check_figure_path(options.plot, still=True)
    data = asked_data(options)
    optimizers = [OPTIMIZERS[name] for name in options.optimizers]
    if options.rates is not None:
        optimizers = [replace(optimizer, rates=options.rates) for optimizer in optimizers]
    plan = Plan(
        asked_problem(options, data.training),
        optimizers=tuple(optimizers),
        seeds=tuple(range(options.seed, options.seed + options.repeats)),
        evaluations=options.evaluations,
        scale=options.initial_scale,
        starts=options.starts,
        seed=options.seed,
        options=_solve_options(options),
    )
    model = None
    if options.model is not None:
        try:
            model = read_model(options.model, plan.problem)
        except ImportError as error:  # a package that reads this kind of file
            raise RequestError(str(error)) from error
    folder = None
    if options.save is not None:
        asked = {k: v for k, v in vars(options).items() if k not in NOT_IN_REQUEST}
        asked |= {"numbers_of_the_data": fingerprint(data.training), **data.remembered}
        folder = open_comparison(options.save, json.loads(json.dumps(asked)))
    _note(options.command, plan.problem.dataset)
    solves = 1 + 2 * len(plan.seeds) + len(plan.trainings())
    with (
        _ladder_progress(options, solves, "run") as (progress, reached),
        processes(options.workers) as executor,
    ):
        comparison = compare(
            plan,
            folder=folder,
            executor=executor,
            workers=options.workers or 1,
            progress=progress,
            reached=reached,
        )
    appraisal = None
    if model is not None and comparison.is_complete:
        comparison, appraisal = with_model(comparison, model)
    result = comparison_report(comparison, appraisal)
    if options.json:
        print(json.dumps(result, allow_nan=False), flush=True)
    else:
        print(comparison_table(result), flush=True)
    kept = options.plot is None or _drawn(
        options, lambda: save_comparison_figure(comparison, options.plot)
    )
    if not comparison.is_complete:
        kept_in = "" if folder is None else f" in {folder.solves.path}"
        _say(options.command, f"interrupted; what is finished is kept{kept_in}.")
        return INTERRUPTED
    if not kept:
        return REQUEST_WRONG
    return SOLVED if result["status"] == Status.SOLVED.value else NOT_SOLVED


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, what could not be written or would destroy something."""
    if options.save is not None:
        check_writable(options.save)
    if options.plot is not None:
        check_figure_path(options.plot)
    named = [
        Path(p).absolute() for p in (options.data, options.save, options.plot) if p is not None
    ]
    if len(set(named)) < len(named):
        raise RequestError("DATA, --save and --plot name the same file; give each its own.")


def _keep(
    solution: LearningSolution, options: argparse.Namespace, remembered: dict[str, Any]
) -> bool:
    """Save and draw; a failure of one does not stop the other."""
    asked = {name: value for name, value in vars(options).items() if name not in LATER_OPTIONS}
    kept = True
    if options.save is not None:
        try:
            save_solution(options.save, solution, {**asked, **remembered})
        except ValueError as error:
            _say(options.command, str(error))
            kept = False
    if options.plot is not None:
        kept &= _drawn(options, lambda: save_figure(solution, options.plot))
    return kept


def _drawn(options: argparse.Namespace, draw: Callable[[], None]) -> bool:
    """Whether a figure was drawn; whatever goes wrong in that, the results are kept."""
    try:
        draw()
    except Exception as error:
        _say(options.command, f"the figure could not be drawn: {error}")
        return False
    return True


def _print(result: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(result, allow_nan=False) if as_json else table(result), flush=True)


def _check(options: argparse.Namespace) -> int:
    saved = load_solution(options.file)
    fresh = report(saved.solution)
    found = differences(saved)
    _print({**fresh, "differences": found} if options.json else fresh, options.json)
    for difference in found:
        _say("check", f"{options.file}: {difference}.")
    return NOT_SOLVED if found or saved.solution.status is not Status.SOLVED else SOLVED


def _show(options: argparse.Namespace) -> int:
    check_figure_path(options.output)
    save_figure(load_solution(options.file).solution, options.output)
    print(f"wrote {Path(options.output)}")
    return SOLVED


def _crop(options: argparse.Namespace) -> int:
    if options.layers is not None and options.error_tolerance is not None:
        raise RequestError("--layers came with --error-tolerance; leave one of them out.")
    check_writable(options.output)
    if Path(options.output).absolute() == Path(options.file).absolute():
        raise RequestError("FILE.npz and --output name the same file; give each its own.")
    saved = load_solution(options.file)
    found = find_crop(saved.solution, options.error_tolerance)
    layers = max(found.layers, 1) if options.layers is None else options.layers
    shorter = crop(saved.solution, layers)
    save_solution(options.output, shorter, {**saved.options, "cropped_from": options.file})
    result = crop_report(saved.solution, shorter, found.tolerance)
    print(json.dumps(result) if options.json else crop_sentence(result), flush=True)
    return SOLVED


@contextmanager
def _progress(
    options: argparse.Namespace,
) -> Iterator[tuple[Progress | None, Callable[[SmoothedSolution], None] | None]]:
    """A progress bar on standard error, if that is a terminal."""
    if options.quiet or not sys.stderr.isatty():
        yield None, None
        return
    with tqdm(total=options.starts, unit="start", file=sys.stderr, leave=False) as bar:

        def iteration(at: Iteration) -> None:
            bar.set_postfix_str(
                f"iteration {at.number}, J {at.objective:.6g}, infeasibility {at.infeasibility:.1e}"
            )

        def finished(solution: SmoothedSolution) -> None:
            bar.update()

        yield iteration, finished


@contextmanager
def _ladder_progress(
    options: argparse.Namespace, rungs: int, unit: str = "rung"
) -> Iterator[tuple[Progress | None, Callable[[str], None] | None]]:
    """A progress bar over named solves; more than were expected add to their number."""
    if options.quiet or not sys.stderr.isatty():
        yield None, None
        return
    with tqdm(total=rungs, unit=unit, file=sys.stderr, leave=False) as bar:

        def iteration(at: Iteration) -> None:
            bar.set_postfix_str(f"iteration {at.number}, J {at.objective:.6g}")

        def reached(name: str) -> None:
            if bar.n >= rungs:
                bar.total = bar.n + 1
            bar.set_description(name)
            bar.update()

        yield iteration, reached


if __name__ == "__main__":
    sys.exit(main())
