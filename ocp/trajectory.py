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
        locals: K+1 arrays (N, number of local unknowns), such as the stage values of an implicit
            Runge-Kutta method; empty if there are none, or if they are not known.
    """

    states: tuple[Array, ...]
    controls: tuple[Array, ...]
    parameters: Array
    times: Array | None = None
    locals: tuple[Array, ...] = ()

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
    def padded_controls(self) -> Array:
        """Controls in one array, (K, largest m), zeros behind the shorter ones.

        Their Euclidean norms and distances are those of the controls.
        """
        size = max((control.size for control in self.controls), default=0)
        return np.array([np.pad(u, (0, size - u.size)) for u in self.controls])

    @property
    def decisions(self) -> Array:
        """(u^0, ..., u^{K-1}, p) in one vector."""
        return np.concatenate([*self.controls, self.parameters])


def _stack(name: str, arrays: tuple[Array, ...]) -> Array:
    if len({a.shape for a in arrays}) != 1:
        raise ValueError(f"the {name} changes size along the stages; use .{name}s, one per stage.")
    return np.stack(arrays)


def local_values(staged: StagedProblem, trajectory: Trajectory, k: int) -> Array:
    """Local unknowns of stage k, (N, z); copies of the state where they are not known.

    Those of another method, of another size, count as not known.
    """
    state, size = trajectory.states[k], staged.stages[k].function.local_size
    if len(trajectory.locals) > k and trajectory.locals[k].shape == (len(state), size):
        return trajectory.locals[k]
    return _copies(state, size)


def _copies(state: Array, size: int) -> Array:
    """Local unknowns, (N, z), as copies of the state."""
    if not size:
        return np.zeros((len(state), 0))
    repeats = -(-size // max(state.shape[1], 1))
    return np.tile(state, (1, repeats))[:, :size]


def split_decisions(staged: StagedProblem, decisions: Array) -> tuple[tuple[Array, ...], Array]:
    """Controls, one (m_k,) per stage, and parameters out of one vector."""
    controls = tuple(decisions[s].copy() for s in staged.control_slices[:-1])
    return controls, decisions[staged.parameter_slice].copy()


def checked_decisions(staged: StagedProblem, decisions: ArrayLike) -> Array:
    """Decisions as an array.

    Raises:
        ValueError: they have the wrong size.
    """
    decisions = np.asarray(decisions, dtype=float)
    if decisions.shape != (staged.decision_size,):
        raise ValueError(
            f"decisions has shape {decisions.shape}, expected ({staged.decision_size},): "
            "all controls, stage by stage, then the parameters."
        )
    return decisions


def rollout(staged: StagedProblem, decisions: ArrayLike) -> Trajectory:
    """The states that the given controls and parameters lead to.

    Args:
        staged: the problem.
        decisions: (u^0, ..., u^{K-1}, p) in one vector.

    Raises:
        ValueError: the vector has the wrong size.
    """
    decisions = checked_decisions(staged, decisions)
    controls, parameters = split_decisions(staged, decisions)
    states, inner = [staged.initial_state], []
    for k, stage in enumerate(staged.stages):
        control = controls[k] if k < staged.intervals else np.zeros(0)
        local, given = _copies(states[k], stage.function.local_size), staged.given(k)
        columns = stage_unknowns(states[k], local, control, parameters)
        if stage.function.local_size:
            columns = stage.function.solve_equations(columns, given)
        inner.append(columns[stage.function.local].T)
        if k < staged.intervals:
            states.append(stage.function.values(columns, given)[0].T)
    has_locals = any(values.shape[1] for values in inner)
    return Trajectory(
        tuple(states), controls, parameters, staged.times, tuple(inner) if has_locals else ()
    )


def stage_unknowns(state: Array, local: Array, control: Array, parameters: Array) -> Array:
    """Columns v = (x_i, z_i, u, p), one per member."""
    shared = np.concatenate([control, parameters])
    n, inner = state.shape[1], state.shape[1] + local.shape[1]
    columns = np.empty((inner + shared.size, len(state)))
    columns[:n], columns[n:inner], columns[inner:] = state.T, local.T, shared[:, None]
    return columns


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
    """The same control on every stage, states held at their initial values, parameters at 1.

    Controls and parameters are clipped to their bounds.

    Raises:
        ValueError: stages of changing sizes.
    """
    shape = (staged.stages[0].control_size,)
    value = np.broadcast_to(np.asarray(control, dtype=float), shape).copy()
    if len({(s.state_size, s.control_size) for s in staged.stages[:-1]}) != 1:
        raise ValueError("the stages change size; roll out controls of the right sizes instead.")
    lower, upper = staged.stages[0].control_bounds
    return Trajectory(
        (staged.initial_state,) * len(staged.stages),
        (np.clip(value, lower, upper),) * staged.intervals,
        np.clip(np.ones(staged.parameter_size), *staged.parameter_bounds),
        staged.times,
    )


def decision_bounds(staged: StagedProblem) -> tuple[Array, Array]:
    """Bounds of (u^0, ..., u^{K-1}, p)."""
    parts = [stage.control_bounds for stage in staged.stages] + [staged.parameter_bounds]
    return np.concatenate([b[0] for b in parts]), np.concatenate([b[1] for b in parts])
