"""The model step on synthetic data: forward, loss, backward, optimizer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from fastpipe.errors import ArgumentError, MissingExtraError, nearest
from fastpipe.profiling import names
from fastpipe.profiling.conclude.demand import target_timing
from fastpipe.profiling.measure.device_wait import wait_for
from fastpipe.profiling.measure.differential import Paced
from fastpipe.profiling.measure.inputs import Inputs
from fastpipe.profiling.measure.setting import Setting
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.timing import measure
from fastpipe.profiling.measure.workload import Workload


def build_model(workload: Workload, num_classes: int) -> nn.Module:
    """The untrained model. ArgumentError with the nearest name for an unknown one."""
    if workload.models == "timm":
        return _timm_model(workload.model, num_classes)
    known = torchvision.models.list_models(module=torchvision.models)
    if workload.model not in known:
        raise ArgumentError(
            f"model must be a classifier of torchvision.models. Found: {workload.model!r}."
            f"{nearest(workload.model, known) or ' torchvision.models.list_models() prints them.'}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # googlenet and inception warn about how weights are drawn
        model: nn.Module = torchvision.models.get_model(workload.model, weights=None, num_classes=num_classes)
    return model


def _timm_model(name: str, num_classes: int) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("timm", "train", f"The recipe's model {name!r}") from error
    if not timm.is_model(name):
        raise ArgumentError(
            f"model must be a name of timm. Found: {name!r}.{nearest(name, timm.list_models())}"
        )
    model: nn.Module = timm.create_model(name, num_classes=num_classes, pretrained=False)
    return model


class ModelStep:
    """One training step; SGD with momentum and cross-entropy, float16 autocast on CUDA, else float32."""

    def __init__(self, workload: Workload, num_classes: int, device: torch.device) -> None:
        self.workload = workload
        self.num_classes = max(2, num_classes)
        self.device = device
        self.memory_format = torch.channels_last if workload.channels_last else torch.contiguous_format
        self.model = build_model(workload, self.num_classes).to(device, memory_format=self.memory_format)  # type: ignore[call-overload]
        self.model.train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.amp = device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp)

    def synthetic(self, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random images float32 [B,3,R,R] and labels int64 [B] on the device."""
        size = self.workload.side
        images = torch.randn(batch_size, 3, size, size, device=self.device)
        labels = torch.randint(self.num_classes, (batch_size,), device=self.device)
        return images.contiguous(memory_format=self.memory_format), labels

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """One step, finished on return. ArgumentError when the model refuses the size or the batch."""
        try:
            self._step(images, labels)
        except (RuntimeError, ValueError, AssertionError) as error:
            if "DataLoader worker" in str(error):  # torch raises that from a signal handler, anywhere
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            size = self.workload.side
            raise ArgumentError(
                f"the model {self.workload.model!r} cannot take a step on {len(images)} images of "
                f"{size} x {size}: {reason}. Choose another --resolution, --batch-size or --model"
            ) from error

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.amp):
            loss = F.cross_entropy(_logits(self.model(images)), labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        wait_for(self.device)


def _logits(output: Any) -> torch.Tensor:
    """The logits; in training, some models also return their auxiliary heads."""
    logits = getattr(output, "logits", output)
    if not isinstance(logits, torch.Tensor):
        raise ValueError(f"its output is a {type(output).__name__}, not logits")
    return logits


def fitting_batch(step: ModelStep, asked: int, longest_s: float) -> int:
    """The requested batch, or the largest power of two (at least 2) whose step stays within `longest_s`.

    Starts with small batches and doubles them; the first call also warms up the libraries.
    """
    size = min(asked, 2)
    step(*step.synthetic(size))
    while True:
        before = time.perf_counter()
        step(*step.synthetic(size))
        seconds = time.perf_counter() - before
        if size == asked or seconds * 2 > longest_s:
            return size
        size = min(asked, size * 2)


Step = Callable[[torch.Tensor, torch.Tensor], None]


def make_step(setting: Setting, inputs: Inputs) -> Step:
    """The consumer of the batches: the model, or one at the demanded rate."""
    if setting.workload.target is not None:
        return Paced(setting.workload.target[0])
    return ModelStep(setting.workload, len(inputs.index.classes), setting.device)


def time_model(setting: Setting, step: Step) -> tuple[StageResult, int]:
    """The step alone on synthetic images, and the batch size that fits the time."""
    setting.announce(names.words(names.MODEL))
    workload = setting.workload
    if not isinstance(step, ModelStep):
        assert workload.target is not None
        rate, source = workload.target
        # Steps of about 20 ms, so that a window of them fits the time.
        batch_size = max(1, min(workload.batch_size, round(0.02 * rate)))
        timing = target_timing(rate)
        return StageResult(id=names.MODEL, lane="model", what=source, timing=timing), batch_size
    batch_size = fitting_batch(step, workload.batch_size, workload.seconds / 4)
    images, labels = step.synthetic(batch_size)

    def unit() -> int:
        step(images, labels)
        return batch_size

    what = f"{workload.model}, batches of {batch_size}"
    timing = measure(unit, 1.5 * workload.seconds)
    return StageResult(id=names.MODEL, lane="model", what=what, timing=timing), batch_size


def steps_in_window(setting: Setting, model: StageResult, ours: StageResult) -> int:
    """Steps in a repeat: at least 50 ms, and a multiple of the workers if the loader is slower."""
    demand, supply = model.timing.images_per_s.median, ours.timing.images_per_s.median
    if 2 * demand < supply and not setting.apart:
        return 1
    lanes = max(1, setting.workload.workers)
    if not setting.apart:
        return lanes
    return lanes * max(1, round(0.1 * min(demand, supply) / setting.workload.batch_size / lanes))
