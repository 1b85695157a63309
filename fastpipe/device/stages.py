"""The device stages of one loader, kept from epoch to epoch: tables, kernels and memory are made once."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import torch

from fastpipe.device.engines.protocol import EngineName
from fastpipe.device.stage import DeviceStage
from fastpipe.types import Plan

__all__ = ["Stages"]

# The current one and the one before it. A stage on the CPU keeps the memory of two batches.
_KEPT = 2


class Stages:
    """One stage for each plan, device, engine, dtype, layout and number of classes; live iterators share it.

    Neither a pickle nor a fork carries stages: a copy makes its own.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Any, DeviceStage]] = []
        self._turn = threading.Lock()
        _all.add(self)

    def get(
        self,
        plan: Plan,
        *,
        device: torch.device,
        engine: EngineName = "fused",
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
        num_classes: int | None = None,
    ) -> DeviceStage:
        """The stage of these settings, made and warmed up in the caller's thread if there is none."""
        # A stage reads only the steps of the plan.
        key = (plan.device, device, engine, dtype, memory_format, num_classes)
        with self._turn:
            stage = next((stage for kept, stage in self._kept if kept == key), None)
            if stage is None:
                stage = DeviceStage(
                    plan,
                    device=device,
                    engine=engine,
                    dtype=dtype,
                    memory_format=memory_format,
                    num_classes=num_classes,
                )
                stage.warm_up()
            others = [held for held in self._kept if held[1] is not stage]
            self._kept = [*others[1 - _KEPT :], (key, stage)]
        return stage

    def leave_behind(self) -> list[tuple[Any, DeviceStage]]:
        """Start empty, in a forked process. Returns what must not be freed there."""
        left, self._kept, self._turn = self._kept, [], threading.Lock()
        return left

    def __reduce__(self) -> tuple[type[Stages], tuple[()]]:
        return Stages, ()


_all: weakref.WeakSet[Stages] = weakref.WeakSet()
_left_behind: list[Any] = []


def _forget_after_fork() -> None:
    """A CUDA context does not survive a fork; freeing its events and memory there would be an error."""
    _left_behind.extend([stages.leave_behind() for stages in list(_all)])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
