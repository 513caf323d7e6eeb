"""The smallest eigenvalue of a symmetric matrix, whole or by its inverse."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ocp.stages import Array
from ocp.trust_region import Solver

DENSE_LIMIT = 300  # up to this size all eigenvalues are computed, beyond it one by Lanczos
EIGENVALUE_ACCURACY = 1e-10  # relative, of Lanczos
BASIS = 10  # vectors of Lanczos between restarts; the default, 20, solves more often than needed


def smallest_eigenvalue(matrix: Array) -> float:
    """Smallest eigenvalue of a symmetric matrix of finite numbers.

    Beyond DENSE_LIMIT rows: Lanczos on the inverse if a Cholesky factorisation proves the matrix
    positive definite, Lanczos on the matrix itself otherwise.
    """
    size = len(matrix)
    if size <= DENSE_LIMIT:
        return float(eigh(matrix, eigvals_only=True, subset_by_index=[0, 0])[0])
    start = np.random.default_rng(0).standard_normal(size)
    try:
        # A symmetric matrix is its transpose, whose order LAPACK copies straight.
        factor = cho_factor(matrix.T, lower=True, check_finite=False)
    except LinAlgError:
        try:
            return float(eigsh(matrix, k=1, which="SA", v0=start, return_eigenvectors=False)[0])
        except ArpackNoConvergence:  # a cluster at the end of the spectrum
            return float(eigh(matrix, eigvals_only=True, subset_by_index=[0, 0])[0])
    return smallest_by_inverse(lambda x: np.asarray(cho_solve(factor, x, check_finite=False)), size)


def smallest_by_inverse(inverse: Solver, size: int) -> float:
    """Smallest eigenvalue of a positive definite matrix, by Lanczos on its inverse."""
    start = np.random.default_rng(0).standard_normal(size)
    operator = LinearOperator((size, size), matvec=inverse, dtype=float)
    found = eigsh(
        operator,
        k=1,
        v0=start,
        ncv=min(BASIS, size),
        tol=EIGENVALUE_ACCURACY,
        return_eigenvectors=False,
    )
    return 1.0 / float(found[0])
