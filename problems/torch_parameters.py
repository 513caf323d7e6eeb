"""Parameters of a module as they act in it, whatever PyTorch computes them from.

    W = V                    a parameter, or the tensor that torch.func.functional_call puts there
    W = g(V)                 torch.nn.utils.parametrizations, parametrize
    W = W_orig * W_mask      torch.nn.utils.prune

Reading W is one attribute in the first two cases. In the third that attribute is a product which
only calls of the module renew, so that it is computed here. Setting W means V = g^{-1}(W), or
W_orig = W where no masked entry of W differs from zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from problems.pytorch import torch

Tensor = torch.Tensor

# Of W, in units of rounding: g(g^{-1}(W)) is W up to the arithmetic of g, some hundred operations.
ROUNDINGS = 1e3


class ActingParameters(torch.nn.Module):
    """A module whose parameters are read, and set, as they act in it."""

    def acting(self, name: str) -> Tensor:
        """A parameter or buffer of the module as its forward uses it.

        Raises:
            AttributeError: no such parameter or buffer.
        """
        if self._is_pruned(name):
            return getattr(self, f"{name}_orig") * getattr(self, f"{name}_mask")
        return getattr(self, name)

    def gradient_of(self, name: str) -> Tensor:
        """What `backward` left in a parameter; zero where it left nothing or where it is pruned.

        Raises:
            ValueError: a parametrization, whose own parameters have the gradient.
        """
        if self._is_parametrized(name):
            raise ValueError(
                f"{name} is computed by a parametrization, so backward leaves no gradient in it; "
                "read those of network.parameters(), or remove the parametrization."
            )
        parameter = self.get_parameter(f"{name}_orig" if self._is_pruned(name) else name)
        return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad

    def assign(self, values: Mapping[str, Tensor]) -> None:
        """Make parameters act as values: all of them, or none.

        Args:
            values: by the names of parameters, of their shapes and types.

        Raises:
            ValueError: values that a parametrization or a mask does not allow.
        """
        with torch.no_grad(), self.standing():
            before = {name: tensor.clone() for name, tensor in self.state_dict().items()}
            try:
                for name, value in values.items():
                    self._assign(name, value)
            except ValueError:
                self.load_state_dict(before)
                raise

    def _assign(self, name: str, value: Tensor) -> None:
        is_pruned = self._is_pruned(name)
        if not is_pruned and not self._is_parametrized(name):
            self.get_parameter(name).copy_(value)
            return
        try:
            if is_pruned:
                self.get_parameter(f"{name}_orig").copy_(value)
            else:
                setattr(self, name, value)  # by the inverse of the parametrization
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{name} cannot be set, because its parametrization has no inverse there "
                f"({' '.join(str(error).split())[:200]}); remove the parametrization first."
            ) from error
        found = self.acting(name)
        apart = float((found - value).abs().max())
        allowed = ROUNDINGS * torch.finfo(value.dtype).eps * max(1.0, float(value.abs().max()))
        if not apart <= allowed:  # NaN is not either
            raise ValueError(
                f"{name} cannot be set to these decisions: its pruning mask or parametrization "
                f"makes values of them that differ by {apart:.3g}; remove it first."
            )
        if is_pruned:
            setattr(self, name, found)  # as pruning's own hook does before a forward

    def _is_pruned(self, name: str) -> bool:
        return f"{name}_orig" in self._parameters and f"{name}_mask" in self._buffers

    def _is_parametrized(self, name: str) -> bool:
        return torch.nn.utils.parametrize.is_parametrized(self, name)

    @contextmanager
    def standing(self) -> Iterator[None]:
        """In evaluation mode, since a spectral norm moves by being read in training."""
        modes = {part: part.training for part in self.modules()}
        try:
            self.eval()
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode
