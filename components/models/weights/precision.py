"""Floating-point precision of a model's forward pass."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
BY_DEVICE: dict[str, Precision] = {"cpu": "fp32", "cuda": "bf16"}
Component = TypeVar("Component")


def dtype_of(precision: Precision, device: str) -> "torch.dtype":
    """The dtype of a forward pass on `device` (`cpu`, `cuda`, `cuda:1`); `auto` is by device."""
    import torch

    if precision == "auto":
        precision = BY_DEVICE[device.partition(":")[0]]
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def with_precision(component: Component, device: str) -> Component:
    """The component with every `precision: auto` in it set to that of the device; its inputs, which are
    stages of their own and may run elsewhere, are left alone."""
    from components.stage import Stage

    changes: dict[str, Any] = {}
    for field in dataclasses.fields(component):  # type: ignore[arg-type]
        value = getattr(component, field.name)
        if field.name == "precision" and value == "auto":
            changes[field.name] = BY_DEVICE[device]
        elif dataclasses.is_dataclass(value) and not isinstance(value, Stage):
            changed = with_precision(value, device)
            if changed is not value:
                changes[field.name] = changed
    return dataclasses.replace(component, **changes) if changes else component  # type: ignore[type-var]
