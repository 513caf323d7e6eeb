"""Trajectories: states and controls on the stages, and the initial guesses made of them.

Arrays are time-first: state k is (N, n_k), one row per member; control k is (m_k,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocp.stages import StagedProblem

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """States, controls and parameters of a staged problem.

    Args:
        states: K+1 arrays (N, n_k).
        controls: K arrays (m_k,).
        parameters: (number of parameters,).
        times: (K+1,), or None if there is no time behind the stages.
    """

    states: tuple[Array, ...]
    controls: tuple[Array, ...]
    parameters: Array
    times: Array | None = None

    @property
    def state_array(self) -> Array:
        """States in one array, (K+1, N, n).

        Raises:
            ValueError: the size of the state changes from stage to stage.
        """
        return _stack("state", self.states)

    @property
    def control_array(self) -> Array:
        """Controls in one array, (K, m).

        Raises:
            ValueError: the size of the control changes from stage to stage.
        """
        return _stack("control", self.controls)

    @property
    def decisions(self) -> Array:
        """(u^0, ..., u^{K-1}, p) in one vector."""
        return np.concatenate([*self.controls, self.parameters])


def _stack(name: str, arrays: tuple[Array, ...]) -> Array:
    if len({a.shape for a in arrays}) != 1:
        raise ValueError(f"the {name} changes size along the stages; use .{name}s, one per stage.")
    return np.stack(arrays)


def split_decisions(staged: StagedProblem, decisions: Array) -> tuple[tuple[Array, ...], Array]:
    """Controls, one (m_k,) per stage, and parameters out of one vector."""
    controls = tuple(decisions[s].copy() for s in staged.control_slices[:-1])
    return controls, decisions[staged.parameter_slice].copy()


def rollout(staged: StagedProblem, decisions: ArrayLike) -> Trajectory:
    """The states that the given controls and parameters lead to.

    Args:
        staged: the problem.
        decisions: (u^0, ..., u^{K-1}, p) in one vector.

    Raises:
        ValueError: the vector has the wrong size.
    """
    decisions = np.asarray(decisions, dtype=float)
    if decisions.shape != (staged.decision_size,):
        raise ValueError(
            f"decisions has shape {decisions.shape}, expected ({staged.decision_size},): "
            "all controls, stage by stage, then the parameters."
        )
    controls, parameters = split_decisions(staged, decisions)
    states = [staged.initial_state]
    for k, control in enumerate(controls):
        columns = stage_unknowns(states[-1], control, parameters)
        successor, _, _ = staged.stages[k].function.values(columns, staged.given(k))
        states.append(successor.T.copy())
    return Trajectory(tuple(states), controls, parameters, staged.times)


def stage_unknowns(state: Array, control: Array, parameters: Array) -> Array:
    """Columns v = (x_i, u, p), one per member."""
    shared = np.concatenate([control, parameters])
    return np.vstack([state.T, np.tile(shared[:, None], (1, len(state)))])


def random_guess(staged: StagedProblem, seed: int, scale: float = 1.0) -> Trajectory:
    """Independent normal controls and parameters, clipped to their bounds, and their states.

    Args:
        staged: the problem.
        seed: of NumPy's default generator.
        scale: standard deviation.
    """
    generator = np.random.default_rng(seed)
    decisions = scale * generator.standard_normal(staged.decision_size)
    lower, upper = decision_bounds(staged)
    return rollout(staged, np.clip(decisions, lower, upper))


def constant_guess(staged: StagedProblem, control: ArrayLike = 0.0) -> Trajectory:
    """The same control on every stage, states held at their initial values, parameters zero.

    Raises:
        ValueError: stages of changing sizes.
    """
    shape = (staged.stages[0].control_size,)
    value = np.broadcast_to(np.asarray(control, dtype=float), shape).copy()
    if len({(s.state_size, s.control_size) for s in staged.stages[:-1]}) != 1:
        raise ValueError("the stages change size; roll out controls of the right sizes instead.")
    return Trajectory(
        (staged.initial_state,) * len(staged.stages),
        (value,) * staged.intervals,
        np.zeros(staged.parameter_size),
        staged.times,
    )


def decision_bounds(staged: StagedProblem) -> tuple[Array, Array]:
    """Bounds of (u^0, ..., u^{K-1}, p)."""
    parts = [stage.control_bounds for stage in staged.stages] + [staged.parameter_bounds]
    return np.concatenate([b[0] for b in parts]), np.concatenate([b[1] for b in parts])
