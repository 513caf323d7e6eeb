"""Minimise with the states eliminated, by the method that was chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocp.blas_threads import threads_for
from ocp.compression import compress
from ocp.condensing import Linearization, Multipliers
from ocp.equality import minimize_with_equations
from ocp.matrix_free import ProductCurvature
from ocp.method import Method, Sizes, has_rows
from ocp.newton import Limits, MakeModel, minimize
from ocp.nlp import NLPResult, Progress
from ocp.reduced import Reduced
from ocp.reduced_hessian import reduced_hessian
from ocp.riccati import RiccatiCurvature
from ocp.stages import Array
from ocp.trust_region import DenseCurvature, Model


def minimize_reduced(
    reduced: Reduced,
    method: Method,
    start: Array,
    limits: Limits,
    progress: Progress | None = None,
    leave: bool = False,
) -> NLPResult:
    """Minimise from decisions `start`; the result's point is the decisions where it stopped.

    Args:
        reduced: a problem that the method can solve; see `ocp.method.restriction`.
        method: any but SHOOTING and AUTO.
        start: (u^0, ..., u^{K-1}, p).
        limits: tolerance of the gradient, iterations and time.
        progress: called with every iteration.
        leave: begin with second-order steps, the start being a stationary point to be left.
    """
    staged = reduced.staged
    with threads_for(staged.decision_size):
        if has_rows(staged):
            return minimize_with_equations(staged, start, limits, progress)
        gradients = Sizes.of(staged).gradients_per_step(method)
        return minimize(reduced, start, MODELS[method], gradients, limits, progress, leave)


def dense_model(
    linearization: Linearization,
    costates: tuple[Array, ...],
    multipliers: Multipliers,
    free: NDArray[np.bool_],
) -> Model:
    """The reduced Hessian in the free decisions; of wide stages, the directions that it bends."""
    compressed = compress(linearization, costates, multipliers) if free.all() else None
    if compressed is not None:
        return compressed
    hessian = reduced_hessian(linearization, costates, multipliers)
    return DenseCurvature(hessian if free.all() else hessian[np.ix_(free, free)])


def riccati_model(
    linearization: Linearization,
    costates: tuple[Array, ...],
    multipliers: Multipliers,
    free: NDArray[np.bool_],
) -> Model:
    """The reduced Hessian by stages, without bounds."""
    assert free.all()
    return RiccatiCurvature(linearization, costates, multipliers)


MODELS: dict[Method, MakeModel] = {
    Method.CONDENSED: dense_model,
    Method.RICCATI: riccati_model,
    Method.MATRIX_FREE: ProductCurvature,
}
