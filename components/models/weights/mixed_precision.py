"""A module in another precision than the model around it."""

from typing import Any

import torch
from torch import Tensor, nn


def run_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Casts the module's weights, from now on its floating-point inputs too, and its outputs to float32: so
    coordinates before it and thresholds after it stay exact. Outputs: a tensor or a tuple of tensors;
    anything else is left as it is. Nothing happens for float32."""
    if dtype == torch.float32:
        return

    def cast_inputs(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return _cast(args, dtype), {name: _cast(value, dtype) for name, value in kwargs.items()}

    def cast_outputs(_: nn.Module, __: Any, outputs: Any) -> Any:
        return _cast(outputs, torch.float32)

    module.to(dtype)
    module.register_forward_pre_hook(cast_inputs, with_kwargs=True)
    module.register_forward_hook(cast_outputs)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    if type(value) in {tuple, list}:
        return type(value)(_cast(item, dtype) for item in value)
    return value
