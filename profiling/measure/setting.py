"""The setting of every part of one profile: the work, the machine, the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fastpipe.device.place import resolve_device
from fastpipe.profiling.conclude.verdict import StageCost
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.workload import Workload, transform_of
from fastpipe.system.cgroups import usable_cpus
from fastpipe.transforms import RandAugment, merge
from fastpipe.types import Plan

Announce = Callable[[str], None]
"""Called with the name of each part before it starts."""

_LONGEST_WINDOW_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """apart: the model takes no CPU time, because it runs on a GPU or a given demand replaces it.

    transform: for torch's loader. base: its plan; plan: with the recipe's augmentations. window_s: length of
    a loader's timed epoch.
    """

    workload: Workload
    announce: Announce
    device: torch.device
    apart: bool
    cpus: float
    transform: Any
    base: Plan
    plan: Plan
    memory_format: torch.memory_format
    window_s: float

    @property
    def has_policy(self) -> bool:
        """Whether the recipe has RandAugment, so that the device stage is timed with it."""
        return any(isinstance(spec, RandAugment) for spec in self.workload.augment)

    def cost(self, stage: StageResult) -> StageCost:
        """The stage as the verdict counts it here."""
        return cost_of(stage, gpu=self.apart and self.device.type == "cuda")


def setting_of(workload: Workload, announce: Announce) -> Setting:
    """The setting of a workload on this machine."""
    device = resolve_device(None)
    transform, base = transform_of(workload.resolution)
    return Setting(
        workload=workload,
        announce=announce,
        device=device,
        apart=device.type == "cuda" or workload.target is not None,
        cpus=usable_cpus(),
        transform=transform,
        base=base,
        plan=merge(base, workload.augment) if workload.augment else base,
        memory_format=torch.channels_last if workload.channels_last else torch.contiguous_format,
        window_s=min(0.6 * workload.seconds, _LONGEST_WINDOW_S),
    )


def cost_of(result: StageResult, *, gpu: bool) -> StageCost:
    """The stage as the verdict counts it. ValueError if it is not a single stage."""
    if result.lane is None:
        raise ValueError(f"{result.name} is several stages together")
    waits = gpu and result.lane == "model"  # a thread that waits for a GPU spins, and counts as busy
    cpu_ms = 0.0 if waits else result.timing.cpu_ms.median
    return StageCost(id=result.id, lane=result.lane, wall_ms=result.timing.wall_ms, cpu_ms=cpu_ms)
