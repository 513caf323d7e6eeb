"""PyTorch, which is the extra `sgd`: the one place that asks for it.

Nothing outside the modules torch_*.py needs it; without it, importing them says what to install.
"""

from __future__ import annotations

try:
    import torch
except ImportError as error:
    raise ImportError(
        "PyTorch is not installed, and its models and optimisers need it; "
        "install it with: pip install 'turnpike[sgd]'"
    ) from error

__all__ = ["torch"]
