"""The effect of the per-pixel steps on each of the 256 levels, by torch's own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastpipe.errors import ArgumentError
from fastpipe.transforms.specs import Normalize, ToFloat
from fastpipe.types import Plan, Spec

__all__ = ["output_dtype", "table"]

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def output_dtype(plan: Plan) -> torch.dtype:
    """The dtype at the end of the plan's pipeline: that of the last conversion, or uint8."""
    dtype = torch.uint8
    for spec in plan.device:
        if isinstance(spec, ToFloat):
            dtype = _DTYPES[spec.dtype]
    return dtype


def table(plan: Plan) -> torch.Tensor | None:
    """float32 [3,256]: the value of each level per channel, or None if the plan's output is uint8.

    In float32 the bytes are those of torchvision's ToTensor (or ToDtype) and Normalize; a float16 or bfloat16
    pipeline is computed in its own dtype and widened, without loss.
    """
    if output_dtype(plan) == torch.uint8:
        return None
    levels = torch.arange(256, dtype=torch.uint8, device="cpu").repeat(3, 1)
    return run_levels(plan.device, levels).to(torch.float32)


def run_levels(specs: Sequence[Spec], values: torch.Tensor) -> torch.Tensor:
    """Run ToFloat and Normalize over `values` [3,N]; other specs are skipped."""
    for spec in specs:
        if isinstance(spec, ToFloat):
            values = _to_float(spec, values)
        elif isinstance(spec, Normalize):
            values = _normalize(spec, values)
    return values


def _to_float(spec: ToFloat, values: torch.Tensor) -> torch.Tensor:
    values = values.to(_DTYPES[spec.dtype])
    if not spec.scale:
        return values
    return values.div(255) if spec.rule == "divide" else values.mul(1.0 / 255)


def _normalize(spec: Normalize, values: torch.Tensor) -> torch.Tensor:
    if not values.is_floating_point():
        raise ArgumentError("Normalize needs a float image. Found: uint8. Add ToFloat() before it")
    mean = torch.as_tensor(spec.mean, dtype=values.dtype, device=values.device).view(3, 1)
    std = torch.as_tensor(spec.std, dtype=values.dtype, device=values.device).view(3, 1)
    if (std == 0).any():
        raise ArgumentError(f"std must stay above 0 in {values.dtype}. Found: {spec.std!r}")
    return values.sub(mean).div(std)
