"""Parts of a diagnosis, each of which may fail without taking the result with it.

A diagnosis looks at a point that is there already. Where a factorisation breaks down, an iteration
does not converge or the memory runs out, that part of it has no value, and its reason is kept; the
parts beside it, and the point, are what they are. Errors of other kinds are faults of the program
and are raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# LinAlgError, and the way in which NumPy and SciPy refuse numbers that are not finite, are
# ValueErrors; errors of ARPACK and of CasADi are RuntimeErrors; overflow and the like are
# ArithmeticErrors.
NUMERICAL_ERRORS = (ArithmeticError, MemoryError, RuntimeError, ValueError)
LONGEST_REASON = 200  # characters of an error's own words


class Attempts:
    """Computes parts of a diagnosis, and keeps the reasons of those that fail.

    Args:
        reasons: why a part has no value, by the name of the part.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def compute(self, part: str, make: Callable[[], T], otherwise: T) -> T:
        """What `make` returns, or `otherwise` where it fails by a numerical error.

        Args:
            part: its name, under which the reason of a failure is kept.
            make: computes it.
            otherwise: what stands for a part without a value.
        """
        try:
            with np.errstate(all="ignore"):
                return make()
        except NotImplementedError:
            # How CasADi reports arguments of a wrong type, though a RuntimeError as well.
            raise
        except NUMERICAL_ERRORS as error:
            self.reasons[part] = reason_of(error)
            return otherwise


def reason_of(error: BaseException) -> str:
    """The kind of an error and its own words, in one line."""
    words = " ".join(str(error).split())
    if len(words) > LONGEST_REASON:
        words = words[: LONGEST_REASON - 3] + "..."
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
