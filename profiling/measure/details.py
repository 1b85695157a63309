"""Costs outside the main path: listing, headers, cold reads, and augmentations on host and device."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torchvision import transforms as T

from fastpipe.device import DeviceStage
from fastpipe.device.engines.protocol import EngineName
from fastpipe.profiling import names
from fastpipe.profiling.host.disk import forget
from fastpipe.profiling.measure.crop_decode import crop_decoding
from fastpipe.profiling.measure.device_wait import wait_for
from fastpipe.profiling.measure.handover import collate, handovers
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.stages import Stage, StageResult, packed
from fastpipe.profiling.measure.timing import Repeat, Stopwatch, summarize
from fastpipe.profiling.names import Id
from fastpipe.transforms import merge
from fastpipe.transforms.step_table import timed_steps
from fastpipe.types import Plan

_COLD_FILES = 32


def cold_read(inputs: Inputs, seconds: float, read: Callable[[str], bytes]) -> StageResult:
    """Reading files that the page cache has just been asked to drop; the request is not timed."""
    paths = [sample.path for sample in inputs.samples][:_COLD_FILES]
    repeats: list[Repeat] = []
    end_s = time.perf_counter() + seconds
    while len(repeats) < 3 or (time.perf_counter() < end_s and len(repeats) < 50):
        for path in paths:
            forget(path)
        watch = Stopwatch(tree=False)
        for path in paths:
            read(path)
        repeats.append(watch.stop(len(paths)))
    what = "after posix_fadvise(DONTNEED)"
    return StageResult(id=names.COLD_READ, lane=None, what=what, timing=summarize(repeats))


def detail_stages(
    inputs: Inputs, plan: Plan, *, batch_size: int, device: torch.device, quick: bool
) -> tuple[list[Stage], tuple[tuple[Id, str], ...]]:
    """The details that can be timed, and the others with the reason. plan: without augmentations."""
    crop, no_crop = (None, "left out by --quick") if quick else crop_decoding(inputs, plan)
    moves, no_moves = handovers(inputs, batch_size, device)
    found = [
        _listing(inputs),
        _header(inputs),
        *([] if crop is None else [crop]),
        collate(inputs, batch_size),
        *moves,
        pillow_randaugment(inputs),
        _plain(inputs, plan, batch_size, device),
        *(device_augmentation(inputs, plan, name, batch_size, device) for name in timed_steps()),
    ]
    return found, (((names.CROP_DECODE, no_crop),) if no_crop else ()) + no_moves


def _listing(inputs: Inputs) -> Stage:
    folders = sorted({os.path.dirname(sample.path) for sample in inputs.samples})[:8]

    def unit() -> int:
        found = 0
        for folder in folders:
            with os.scandir(folder) as entries:
                found += sum(1 for entry in entries if entry.is_file())
        return max(1, found)

    return Stage(id=names.LISTING, lane=None, what="directory entries, once per run", unit=unit)


def _header(inputs: Inputs) -> Stage:
    def unit() -> int:
        for sample in inputs.samples:
            with Image.open(io.BytesIO(sample.data)) as image:
                _ = image.size
        return len(inputs.samples)

    return Stage(id=names.HEADER, lane=None, what="size from bytes, Pillow", unit=unit)


def pillow_randaugment(inputs: Inputs) -> Stage:
    """torchvision's RandAugment of one operation on the crops, as it runs in torch's workers."""
    augment = T.RandAugment(num_ops=1, magnitude=9)

    def unit() -> int:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for sample in inputs.samples:
                augment(sample.crop)
        return len(inputs.samples)

    return Stage(id=names.PILLOW_RANDAUGMENT, lane=None, what="1 operation, in torch's workers", unit=unit)


def device_augmentation(
    inputs: Inputs, plan: Plan, name: str, batch_size: int, device: torch.device
) -> Stage:
    """The device stage with one more of `timed_steps`; its cost is the excess over the plain device stage."""
    host = packed(inputs, batch_size)
    unit = device_unit(merge(plan, [timed_steps()[name]]), host, device, inputs)
    where = "on the CPU" if device.type == "cpu" else f"on {device.type}"
    return Stage(
        id=names.of(names.DEVICE_WITH, name), lane=None, what=f"with the plain pass, {where}", unit=unit
    )


def _plain(inputs: Inputs, plan: Plan, batch_size: int, device: torch.device) -> Stage:
    unit = device_unit(plan, packed(inputs, batch_size), device, inputs)
    return Stage(id=names.DEVICE_PLAIN, lane=None, what="flip, normalise, cast", unit=unit)


def device_unit(
    plan: Plan, host: Any, device: torch.device, inputs: Inputs, engine: EngineName = "fused"
) -> Callable[[], int]:
    """One pass of the device stage of `plan` over `host`, finished on return."""
    stage = DeviceStage(plan, device=device, engine=engine, num_classes=inputs.num_classes)
    stage.warm_up()

    def unit() -> int:
        stage(host)
        wait_for(device)
        return len(host.images)

    return unit
