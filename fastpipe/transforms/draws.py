"""Whether a plan draws random numbers."""

from __future__ import annotations

from fastpipe.transforms.specs import RandomResizedCrop, ResizeCrop
from fastpipe.transforms.step_table import step_of
from fastpipe.types import Plan

__all__ = ["draws_numbers"]


def draws_numbers(plan: Plan) -> bool:
    """True for a random crop or device step, and for steps on the workers, which may draw anything."""
    random_crop = isinstance(plan.decode, RandomResizedCrop) or (
        isinstance(plan.decode, ResizeCrop) and plan.decode.where == "random"
    )
    return bool(plan.host) or random_crop or any(step_of(step).drawn for step in plan.device)
