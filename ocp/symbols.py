"""Which symbols of a problem are its parameters, and which are probably meant to be others.

A symbol that is neither state, control nor time is a free parameter. It may as well be a typing
error, a forgotten time or a second symbol of the same name, which CasADi tells apart by identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import casadi as ca

from ocp.expressions import VECTOR_COMPONENT, as_expression, names_of, symbols_of

LIKE_TIME = ("t", "time", "Time")  # names that the time has where somebody forgot to declare it
NEAR = 0.6  # similarity of a name to one that may be meant, as difflib measures it


@dataclass(frozen=True, eq=False)
class Symbols:
    """The symbols that a problem is given by.

    Args:
        state, control: columns.
        clock: the time.
        is_timed: whether the time was declared.
        ends: expressions of the start and the length of the horizon, whose symbols can only be
            parameters and count as declared.
    """

    state: ca.SX
    control: ca.SX
    clock: ca.SX
    is_timed: bool
    ends: Sequence[ca.SX]

    def parameters(
        self,
        occurrences: Sequence[tuple[str, ca.SX]],
        declared: ca.SX | Sequence[ca.SX] | None,
    ) -> tuple[ca.SX, tuple[str, ...]]:
        """The column of the parameters, and notes on those that were not declared.

        Args:
            occurrences: all expressions of the problem but the ends, with what they are.
            declared: the parameters, None to take whatever occurs.

        Raises:
            ValueError: a symbol that cannot be meant, or is not declared where others are.
        """
        known = {s.element_hash() for s in symbols_of([self.state, self.control, self.clock])}
        of_ends = [s for s in symbols_of(self.ends) if s.element_hash() not in known]
        given = ca.SX(0, 1) if declared is None else as_expression("parameters", declared)
        if not given.is_valid_input():
            raise ValueError(f"parameters must be CasADi symbols, got {given}.")
        is_closed = declared is not None
        self._check_spelling(occurrences, ca.vertcat(given, *of_ends), is_closed)
        if declared is not None:
            hashes = {s.element_hash() for s in ca.symvar(given)}
            own = [s for s in of_ends if s.element_hash() not in hashes]
            return ca.vertcat(ca.vec(given), *own), ()
        found = symbols_of([*self.ends, *(expression for _, expression in occurrences)])
        own = [s for s in found if s.element_hash() not in known]
        named = {s.element_hash() for s in of_ends}
        undeclared = names_of(s for s in own if s.element_hash() not in named)
        notes: tuple[str, ...] = ()
        if undeclared:
            notes = (
                f"Free parameters: {', '.join(undeclared)} (not declared; parameters=[...] "
                "declares them).",
            )
        order = [VECTOR_COMPONENT.match(s.name()) for s in own]
        # Components of one vector stand together, in their own order.
        first = {m.group(1): j for j, m in reversed(list(enumerate(order))) if m}
        keys = [(first[m.group(1)], int(m.group(2))) if m else (j, 0) for j, m in enumerate(order)]
        own = [
            s
            for _, _, s in sorted((k, j, s) for j, (k, s) in enumerate(zip(keys, own, strict=True)))
        ]
        return ca.vertcat(ca.SX(0, 1), *own), notes

    def _check_spelling(
        self, occurrences: Sequence[tuple[str, ca.SX]], given: ca.SX, is_closed: bool
    ) -> None:
        """Refuse symbols that are probably meant to be others.

        Args:
            occurrences: expressions, with what they are.
            given: parameters that were declared.
            is_closed: whether there are no other parameters than those.
        """
        roles = {"state": self.state, "control": self.control, "parameter": given}
        if self.is_timed:
            roles["time"] = self.clock
        hashes = {s.element_hash() for s in symbols_of([*roles.values(), self.clock])}
        taken = {s.name(): role for role, symbols in roles.items() for s in ca.symvar(symbols)}
        for label, expression in occurrences:
            for symbol in ca.symvar(expression):
                name = symbol.name()
                if symbol.element_hash() in hashes:
                    continue
                if name in taken:
                    raise ValueError(
                        f"{label} has a symbol {name} that is not the {taken[name]} {name} but "
                        "another one of the same name; make each symbol once and use it throughout."
                    )
                if not self.is_timed and name in LIKE_TIME:
                    raise ValueError(
                        f"{label} depends on {name}, which is not declared; if it is the time, "
                        f"give time={name}, if it is a parameter, parameters=[{name}]."
                    )
                if is_closed:
                    near = get_close_matches(name, taken, 1, NEAR)
                    hint = f" did you mean {near[0]}?" if near else ""
                    raise ValueError(
                        f"{label} depends on {name}, which is neither state, control, parameter "
                        f"nor time;{hint} Add it to parameters=[...] if it is free."
                    )
