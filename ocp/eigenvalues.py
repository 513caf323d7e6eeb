"""The smallest eigenvalue of a symmetric matrix, whole or by its inverse.

    lambda_min(A) = s lambda_min(A / s),    s = 2^k near the largest entry of A,

so that no square of an entry overflows or vanishes, whatever its unit. Of the zero matrix it is 0.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from ocp.stages import Array
from ocp.trust_region import Solver

DENSE_LIMIT = 300  # up to this size all eigenvalues are computed, beyond it one by Lanczos
EIGENVALUE_ACCURACY = 1e-10  # relative, of Lanczos
BASES = 10, 40  # vectors of Lanczos between restarts: for one eigenvalue, and for a cluster
RESTARTS = 5  # after which the next basis is tried


def smallest_eigenvalue(matrix: Array) -> float:
    """Smallest eigenvalue of a symmetric matrix, (n, n) with n >= 1, in the unit of its entries.

    Beyond DENSE_LIMIT rows by Lanczos: on the inverse if a Cholesky factorisation proves the matrix
    positive definite, on the matrix itself otherwise. Where that does not converge, because of a
    cluster of eigenvalues, by a decomposition.

    Raises:
        FloatingPointError: an entry that is not a finite number.
        LinAlgError: a decomposition that does not converge.
    """
    size, largest = len(matrix), float(np.abs(matrix).max())
    if not np.isfinite(largest):
        raise FloatingPointError("a matrix with entries that are not finite has no eigenvalues")
    if largest == 0.0:
        # The products of Lanczos would vanish, and leave it without a direction.
        return 0.0
    unit = 2.0 ** np.floor(np.log2(largest))
    matrix = matrix / unit
    found = None
    if size > DENSE_LIMIT:
        try:
            # A symmetric matrix is its transpose, whose order LAPACK copies straight.
            factor = cho_factor(matrix.T, lower=True, check_finite=False)
        except LinAlgError:
            # Turned over and shifted, so that the eigenvalue sought is the largest in size: ARPACK
            # measures convergence relative to it, and takes another one where it is exactly 0.
            shift = float(np.abs(matrix).sum(axis=1).max())
            found = _lanczos(lambda x: shift * x - matrix @ x, size)
            found = None if found is None else shift - found
        else:
            found = smallest_by_inverse(
                lambda x: np.asarray(cho_solve(factor, x, check_finite=False)), size
            )
    if found is None or found > float(np.diag(matrix).min()) + EIGENVALUE_ACCURACY * size:
        # No smallest eigenvalue exceeds a diagonal entry.
        found = float(eigh(matrix, eigvals_only=True, subset_by_index=[0, 0])[0])
    return float(found * unit)


def smallest_by_inverse(inverse: Solver, size: int) -> float | None:
    """Smallest eigenvalue of a positive definite matrix, by Lanczos on its inverse.

    None if a cluster of eigenvalues, or an inverse beyond the largest number, keeps that from
    converging.
    """
    found = _lanczos(inverse, size)
    return 1.0 / found if found is not None and found > 0 else None


def _lanczos(product: Solver, size: int) -> float | None:
    """The largest eigenvalue of a matrix known by its products, or None."""
    start = np.random.default_rng(0).standard_normal(size)
    operator = LinearOperator((size, size), matvec=product, dtype=float)
    for basis in BASES:
        try:
            values = eigsh(
                operator,
                k=1,
                which="LA",
                v0=start,
                ncv=min(basis, size),
                maxiter=RESTARTS,
                tol=EIGENVALUE_ACCURACY,
                return_eigenvectors=False,
            )
        except ArpackError:
            # No convergence, or products that vanish: the next basis, then a decomposition.
            continue
        if np.isfinite(values[0]):
            return float(values[0])
    return None
