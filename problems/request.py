"""From the options of the command line to the data and the problem that they ask for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from problems.arguments import RequestError
from problems.datasets import (
    DATASETS,
    Dataset,
    Reading,
    encode,
    load,
    standardize,
    train_test_split,
)
from problems.grid_request import asked_grid
from problems.interpolation import minimal_norm
from problems.learning import LearningProblem
from problems.losses import LOSSES
from problems.regularizers import PENALTIES
from problems.solution_file import SCHEMES
from problems.vector_fields import ACTIVATIONS, FIELDS

FRESH_SAMPLES = 1000  # held-out samples of data that are generated
FRESH_SEED = 1_000_003  # added to the seed, so that they are no other seed's training data


@dataclass(frozen=True, eq=False)
class Data:
    """What there is to train on, and what to measure on besides.

    Args:
        training: encoded and, if asked, standardized.
        held_out: in the same units; None if there are none.
        remembered: names of the targets and the standardization, for the solution file.
    """

    training: Dataset
    held_out: Dataset | None
    remembered: dict[str, Any]


def asked_data(options: argparse.Namespace) -> Data:
    """Load, split, encode and standardize."""
    raw = load(
        options.data,
        samples=options.samples,
        seed=options.seed,
        target_columns=options.target,
        reading=Reading(
            separator=options.separator,
            decimal=options.decimal,
            comment=options.comment,
            has_header=not options.no_header,
            missing=options.missing,
            categorical=options.categorical,
        ),
    )
    training: Dataset = encode(raw, options.loss)
    held_out: Dataset | None = None
    if options.command == "sweep":
        if options.held_out is not None:
            training, held_out = train_test_split(training, 1 - options.held_out, options.seed)
        else:
            held_out = _others(options, training)
    remembered: dict[str, Any] = {}
    if options.target is not None:
        remembered["target"] = list(raw.target_names)
    if options.standardize:
        training, mean, scale = standardize(training)
        remembered |= {"input_mean": mean.tolist(), "input_scale": scale.tolist()}
        if held_out is not None:
            held_out = replace(held_out, inputs=(held_out.inputs - mean) / scale)
    return Data(training, held_out, remembered)


def _others(options: argparse.Namespace, training: Dataset) -> Dataset | None:
    """Samples of a named data set that are not among the training samples; None if there are none.

    They are generated afresh, or the rest of a real data set.
    """
    described = DATASETS.get(options.data)
    if described is None:
        return None
    if described.extra is None:
        fresh = load(options.data, samples=FRESH_SAMPLES, seed=options.seed + FRESH_SEED)
        return encode(fresh, options.loss)
    everything = encode(load(options.data, seed=options.seed), options.loss)
    if len(training.inputs) == len(everything.inputs):
        return None
    used = {row.tobytes() for row in np.hstack([training.inputs, training.targets])}
    rows = np.hstack([everything.inputs, everything.targets])
    rest = [i for i, row in enumerate(rows) if row.tobytes() not in used]
    return replace(everything, inputs=everything.inputs[rest], targets=everything.targets[rest])


def asked_problem(options: argparse.Namespace, dataset: Dataset) -> LearningProblem:
    """The problem on these data."""
    if options.hidden is not None and options.field != "bottleneck":
        raise RequestError(f"--hidden is for the bottleneck field, got field {options.field}.")
    problem = LearningProblem(
        dataset,
        field=FIELDS[options.field],
        activation=ACTIVATIONS[options.activation],
        **asked_grid(options, dataset),
        hidden=options.hidden,
        horizon=options.horizon,
        layers=options.layers,
        scheme=SCHEMES[options.scheme],
        substeps=options.substeps,
        loss=LOSSES[options.loss],
        terminal=1.0 if options.command == "interpolate" else options.terminal,
        tracking=options.tracking,
        weight_decay=options.weight_decay,
        penalty=PENALTIES[options.penalty],
        bound=options.bound,
        trained_readout=options.readout == "trained",
    )
    return minimal_norm(problem) if options.command == "interpolate" else problem
