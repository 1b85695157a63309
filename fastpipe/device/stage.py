"""The device stage: a packed uint8 batch in, images and labels on the device out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from fastpipe.device.checks import check_batch
from fastpipe.device.draws.batch import mix_options
from fastpipe.device.draws.draw import Params, draw
from fastpipe.device.engines.make import make_engine
from fastpipe.device.engines.protocol import EngineName, Output, finish_batch
from fastpipe.device.labels import check_labels, require_classes, soft_labels
from fastpipe.device.place import resolve_device
from fastpipe.device.transfer import Transfer, pinned
from fastpipe.transforms import RandomChoice, output_dtype, table
from fastpipe.types import Batch, HostBatch, Plan, Request, Spec

__all__ = ["DeviceStage"]


class DeviceStage:
    """Draws the parameters of a batch, applies them, and moves images and labels together.

    num_classes is needed for MixUp and CutMix, except by engine="none", which leaves labels as they are;
    0 says that labels are no class numbers.
    Several threads may call it at once, as two live iterators do; each batch has its own parameters.
    The caller owns the returned batch: nothing overwrites it.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        device: torch.device,
        engine: EngineName = "fused",
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
        num_classes: int | None = None,
    ) -> None:
        self.steps = plan.device
        self.device = device = resolve_device(device)
        self.engine_name = engine
        self.engine = make_engine(engine, device)
        self.output = Output(
            dtype=dtype or output_dtype(plan), memory_format=memory_format, table=table(plan)
        )
        self.transfer = Transfer(device)
        mixes = engine != "none" and any(step.kind == "mix" for step in self.steps)
        self.num_classes = require_classes(num_classes) if mixes else 0

    def __call__(self, host: HostBatch) -> Batch:
        """Run every device step of the plan on one batch. Raises DataError for an invalid batch."""
        check_batch(host)
        return self._run(host, self.steps)

    def apply(self, host: HostBatch, params: Params) -> Batch:
        """The device steps with these parameters instead of drawn ones. Raises DataError likewise."""
        check_batch(host)
        return self._apply(host, params)

    def _run(self, host: HostBatch, steps: Sequence[Spec]) -> Batch:
        height, width = int(host.images.shape[1]), int(host.images.shape[2])
        return self._apply(host, draw(steps, host.request, height, width))

    def _apply(self, host: HostBatch, params: Params) -> Batch:
        if self.engine_name == "none":
            (images, labels), ready = self.transfer((host.images, host.labels))
            return Batch(images=images, labels=labels, request=host.request, params=params, ready=ready)
        images, labels, partner = host.images, host.labels, None
        if params.mix is not None:
            labels = check_labels(labels, self.num_classes)
            partner = pinned(torch.from_numpy(params.mix.partner), self.device)
        if params.ops is not None:
            images = self.engine.augment(images, params)
        finish: Callable[[Any], Any] = partial(self._finish, params)
        (images, labels, hard, partner), ready = self.transfer((images, labels, partner), finish)
        return Batch(
            images=images,
            labels=labels,
            request=host.request,
            params=params,
            hard_labels=hard,
            partner=partner,
            ready=ready,
        )

    def _finish(self, params: Params, moved: tuple[torch.Tensor, Any, Any]) -> tuple[Any, Any, Any, Any]:
        images, labels, partner = moved
        images = finish_batch(self.engine, images, params, self.output)
        if params.mix is None:
            return images, labels, None, None
        return images, soft_labels(labels, partner, params.mix, self.num_classes), labels, partner

    def warm_up(self) -> None:
        """Import and compile what the stage needs, in the caller's thread.

        A worker forked while another thread holds an import lock would wait for it forever.
        """
        nothing = np.zeros(1, dtype=np.int64)
        request = Request(seed=0, epoch=0, batch=0, ids=nothing, repeats=nothing)
        images = torch.zeros((1, 8, 8, 3), dtype=torch.uint8, device="cpu")
        labels = torch.zeros(1, dtype=torch.int64 if self.num_classes else torch.float32, device="cpu")
        images, labels = pinned(images, self.device), pinned(labels, self.device)
        host = HostBatch(images=images, labels=labels, request=request)
        for steps in _outcomes(self.steps):
            self._run(host, steps)

    def hand_over(self, batch: Batch) -> Batch:
        """Make the batch safe to use on the consumer's current stream."""
        tensors = [batch.images, batch.labels, batch.hard_labels, batch.partner]
        self.transfer.hand_over(tensors, batch.ready)
        return batch


def _outcomes(steps: Sequence[Spec]) -> Iterator[tuple[Spec, ...]]:
    """The steps as they may turn out to be: one option in place of each RandomChoice."""
    chances = [step for step in steps if isinstance(step, RandomChoice)]
    if not chances:
        yield tuple(steps)
        return
    for option in mix_options(chances[0]):
        yield tuple(option if step is chances[0] else step for step in steps)
