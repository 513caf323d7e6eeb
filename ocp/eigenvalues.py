"""The smallest eigenvalue of a symmetric matrix, whole or by its inverse."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ocp.stages import Array
from ocp.trust_region import Solver

DENSE_LIMIT = 300  # up to this size all eigenvalues are computed, beyond it one by Lanczos
EIGENVALUE_ACCURACY = 1e-10  # relative, of Lanczos
BASES = 10, 40  # vectors of Lanczos between restarts: for one eigenvalue, and for a cluster
RESTARTS = 5  # after which the next basis is tried


def smallest_eigenvalue(matrix: Array) -> float:
    """Smallest eigenvalue of a symmetric matrix of finite numbers.

    Beyond DENSE_LIMIT rows by Lanczos: on the inverse if a Cholesky factorisation proves the matrix
    positive definite, on the matrix itself otherwise. Where that does not converge, because of a
    cluster of eigenvalues, by a decomposition.
    """
    size = len(matrix)
    found = None
    if size > DENSE_LIMIT:
        try:
            # A symmetric matrix is its transpose, whose order LAPACK copies straight.
            factor = cho_factor(matrix.T, lower=True, check_finite=False)
        except LinAlgError:
            found = _lanczos(lambda x: np.asarray(matrix @ x), size, "SA")
        else:
            found = smallest_by_inverse(
                lambda x: np.asarray(cho_solve(factor, x, check_finite=False)), size
            )
    if found is None:
        return float(eigh(matrix, eigvals_only=True, subset_by_index=[0, 0])[0])
    return found


def smallest_by_inverse(inverse: Solver, size: int) -> float | None:
    """Smallest eigenvalue of a positive definite matrix, by Lanczos on its inverse.

    None if a cluster of eigenvalues keeps that from converging.
    """
    found = _lanczos(inverse, size, "LA")
    return None if found is None else 1.0 / found


def _lanczos(product: Solver, size: int, end: str) -> float | None:
    """The eigenvalue at one end, LA or SA, of a matrix known by its products, or None."""
    start = np.random.default_rng(0).standard_normal(size)
    operator = LinearOperator((size, size), matvec=product, dtype=float)
    for basis in BASES:
        try:
            values = eigsh(
                operator,
                k=1,
                which=end,
                v0=start,
                ncv=min(basis, size),
                maxiter=RESTARTS,
                tol=EIGENVALUE_ACCURACY,
                return_eigenvectors=False,
            )
            return float(values[0])
        except ArpackNoConvergence:
            continue
    return None
