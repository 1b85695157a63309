"""The device stage: a packed uint8 batch in, images and labels on the device out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from fastpipe.device.draw import Params, draw
from fastpipe.device.engines import EngineName, Output, make_engine
from fastpipe.device.transfer import Transfer
from fastpipe.transforms import output_dtype, table
from fastpipe.types import Batch, HostBatch, Plan, Request

__all__ = ["DeviceStage", "resolve_device"]


def resolve_device(device: torch.device | str | int | None) -> torch.device:
    """The device asked for; None is the current CUDA device, else the CPU."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen == torch.device("cuda"):  # without an index: the current one
        return torch.device("cuda", torch.cuda.current_device())
    return chosen


class DeviceStage:
    """Draws the parameters of a batch, applies them, and moves images and labels together.

    Called from one thread at a time. The batch it returns is the caller's: nothing overwrites it.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        device: torch.device,
        engine: EngineName = "fused",
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.steps = plan.device
        self.device = device
        self.engine_name = engine
        self.engine = make_engine(engine, device)
        self.output = Output(
            dtype=dtype or output_dtype(plan), memory_format=memory_format, table=table(plan)
        )
        self.transfer = Transfer(device)

    def __call__(self, host: HostBatch) -> Batch:
        """Run every device step of the plan on one batch."""
        height, width = int(host.images.shape[1]), int(host.images.shape[2])
        params = draw(self.steps, host.request, height, width)
        images = host.images
        finish: Callable[[Any], Any] | None = None
        if self.engine_name != "none":
            if params.ops is not None:
                images = self.engine.augment(images, params)
            finish = partial(self._finish, params)
        (images, labels), ready = self.transfer((images, host.labels), finish)
        return Batch(images=images, labels=labels, request=host.request, params=params, ready=ready)

    def _finish(self, params: Params, moved: tuple[torch.Tensor, Any]) -> tuple[torch.Tensor, Any]:
        return self.engine.finish(moved[0], params, self.output), moved[1]

    def warm_up(self) -> None:
        """Import and compile what the stage needs, in the caller's thread.

        A worker forked while another thread holds an import lock would wait for it for ever.
        """
        nothing = np.zeros(1, dtype=np.int64)
        request = Request(seed=0, epoch=0, batch=0, ids=nothing, repeats=nothing)
        images = torch.zeros((1, 8, 8, 3), dtype=torch.uint8)
        self(HostBatch(images=images, labels=torch.zeros(1, dtype=torch.int64), request=request))

    def hand_over(self, batch: Batch) -> Batch:
        """Make the batch safe to use on the consumer's current stream."""
        self.transfer.hand_over([batch.images, batch.labels], batch.ready)
        return batch
