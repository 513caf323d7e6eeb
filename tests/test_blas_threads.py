"""Small matrices stay on one thread, and what was set before is restored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ocp import Method, SolveOptions, solve_staged
from ocp.blas_threads import THREADED, blas_threads, threads_for
from problems.datasets import encode, load
from problems.learning import LearningProblem


def require_blas() -> list[int]:
    """Threads before; the test is skipped where no BLAS is known, as there is nothing to set."""
    before = blas_threads()
    if not before:
        pytest.skip("NumPy and SciPy have no OpenBLAS of their own here")
    return before


def test_small_matrices_have_one_thread_and_large_ones_all_of_them() -> None:
    before = require_blas()
    with threads_for(THREADED - 1):
        assert set(blas_threads()) == {1}
        with threads_for(10):
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert blas_threads() == before
    with threads_for(THREADED):
        assert blas_threads() == before


def test_threads_are_restored_after_an_error() -> None:
    before = require_blas()
    with pytest.raises(ZeroDivisionError), threads_for(10):
        _ = 1 / 0
    assert blas_threads() == before


def test_the_last_of_several_solves_restores_the_threads() -> None:
    before, together = require_blas(), Barrier(4)

    def hold(_: int) -> set[int]:
        with threads_for(10):
            together.wait(timeout=30)
            seen = set(blas_threads())
            together.wait(timeout=30)
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(hold, range(4))) == [{1}] * 4
    assert blas_threads() == before


def test_a_solve_runs_on_one_thread_and_leaves_the_number_as_it_was() -> None:
    before = require_blas()
    seen: list[int] = []
    data = encode(load("moons", samples=5), "squared")
    staged = LearningProblem(data, layers=3, weight_decay=1e-2).staged
    options = SolveOptions(method=Method.CONDENSED)
    solution = solve_staged(staged, None, options, lambda _: seen.extend(blas_threads()))
    assert solution.is_solved
    assert set(seen) == {1}
    assert blas_threads() == before
