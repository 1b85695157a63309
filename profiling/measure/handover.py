"""From samples to a batch on the device: torch's collate, pinning and the copy to a GPU, each alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import default_collate
from torchvision.transforms.functional import to_tensor

from fastpipe.profiling import names
from fastpipe.profiling.measure.device_wait import wait_for
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.stages import Stage, packed
from fastpipe.profiling.names import Id

_NO_GPU = "no GPU"


def collate(inputs: Inputs, batch_size: int) -> Stage:
    """torch's default_collate of float samples [3,H,W], the counterpart of fastpipe's batch assembly."""
    chosen = [inputs.samples[place % len(inputs.samples)] for place in range(batch_size)]
    samples = [(to_tensor(sample.crop), inputs.index.label(sample.id)) for sample in chosen]

    def unit() -> int:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as torch sets it in its workers
        try:
            default_collate(samples)
        finally:
            torch.set_num_threads(threads)
        return batch_size

    what = f"torch's, {batch_size} float32 samples, in torch's workers"
    return Stage(id=names.COLLATE, lane=None, what=what, unit=unit)


def handovers(
    inputs: Inputs, batch_size: int, device: torch.device
) -> tuple[list[Stage], tuple[tuple[Id, str], ...]]:
    """Pinning and the copy of a packed uint8 batch; without a GPU their names and the reason."""
    if device.type != "cuda":
        return [], ((names.PIN, _NO_GPU), (names.TO_DEVICE, _NO_GPU))
    images = packed(inputs, batch_size).images
    pinned = images.pin_memory()

    def copy() -> Any:
        moved = pinned.to(device, non_blocking=True)
        wait_for(device)
        return moved

    return [
        _moving(names.PIN, "uint8 batch into page-locked memory", images.pin_memory, batch_size),
        _moving(names.TO_DEVICE, "pinned uint8 batch, waited for", copy, batch_size),
    ], ()


def _moving(id: Id, what: str, move: Callable[[], Any], batch_size: int) -> Stage:
    def unit() -> int:
        move()
        return batch_size

    return Stage(id=id, lane=None, what=what, unit=unit)
