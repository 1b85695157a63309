"""The training loop.

Per step: the learning rate of the step, forward, loss, backward, optimizer, average. Per epoch: a clock
around the steps alone, so that validation and checkpoints never count as training. The loader is anything
that yields [images, labels] and has `set_epoch`, `state_dict` and `load_state_dict`.

Letters in shapes: B batch, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastpipe.train.algorithms.bce import bce_loss
from fastpipe.train.algorithms.ema import EMA
from fastpipe.train.algorithms.label_smoothing import dense_targets, targets_as_composer
from fastpipe.train.algorithms.sam import SAM
from fastpipe.train.algorithms.schedule import Schedule, set_lr
from fastpipe.train.algorithms.test_time_flip import flipped_logits
from fastpipe.train.checkpoint import rng_state, set_rng_state
from fastpipe.train.config import TrainConfig
from fastpipe.train.keys import config_to_dict
from fastpipe.train.losses import StepLog, UnreadLosses
from fastpipe.train.optimizers import build_optimizer
from fastpipe.train.timing import EpochClock

__all__ = ["Loader", "Trainer", "Watch", "compiled", "hard_labels", "resolved_precision", "schedule_of"]

# A CUDA loss is read every so many steps: reading it waits for the device.
_CUDA_READ_INTERVAL = 20


class Loader(Protocol):
    """What the loop needs of a loader of training batches."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """The next iterator is of this epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, as plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""


Watch = Callable[[EpochClock, int, list[StepLog]], None]
"""Called after every step, and at the end of an epoch, with the clock, the images' side in pixels and the
steps whose loss became known."""


def schedule_of(config: TrainConfig, steps_per_epoch: int) -> Schedule:
    """The learning rates of a run."""
    return Schedule(
        name=config.schedule.name,
        peak=config.optimizer.lr,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=config.schedule.warmup_epochs,
        minimum=config.schedule.min_lr,
        warmup_start=config.schedule.warmup_start,
        resolution=config.schedule.resolution,
    )


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model compiled by torch, anew for each size of image."""
    # Progressive resizing has up to 23 sizes, for training and evaluation; torch gives up after 8.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    made: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False)
    return made


def resolved_precision(precision: str, device: torch.device) -> str:
    """What `precision` means on `device`: amp is fp16 on CUDA and fp32 on the CPU."""
    if precision == "amp":
        return "amp_fp16" if device.type == "cuda" else "fp32"
    return precision


def hard_labels(batch: Any) -> Tensor:
    """int64 [B], the class of each image, also where the batch's labels are mixed."""
    labels: Tensor = batch[1]
    if labels.ndim == 1:
        return labels
    kept: Tensor | None = getattr(batch, "hard_labels", None)
    return labels.argmax(dim=1) if kept is None else kept


@dataclass(kw_only=True)
class Trainer:
    """Everything that changes while training, and the step that changes it."""

    config: TrainConfig
    model: nn.Module
    loader: Loader
    num_classes: int
    device: torch.device
    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done."""
    epoch_seconds: list[float] = field(default_factory=list)
    wait_seconds: list[float] = field(default_factory=list)
    images_seen: int = 0

    def __post_init__(self) -> None:
        ema = self.config.ema
        self.optimizer = build_optimizer(self.config.optimizer, self.model)
        self.reset_ema = ema is not None and ema.reset_during_warmup
        self.ema = (
            EMA(half_life_batches=ema.half_life_batches, update_interval=ema.update_interval) if ema else None
        )
        sam = self.config.sam
        self.sam = SAM(rho=sam.rho, interval=sam.interval) if sam else None
        self.precision = resolved_precision(self.config.precision, self.device)
        # A disabled scaler passes everything through.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "amp_fp16")
        # Of the gradients before clipping, since the start or the last resume; read once, at the end.
        self.largest_norm = torch.zeros((), device=self.device)
        self.steps_per_epoch = len(self.loader)
        self.lr = schedule_of(self.config, self.steps_per_epoch)
        self.compiled = compiled(self.model) if self.config.compile else self.model

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The recipe's loss, a float32 scalar. `logits` [B, K]; `labels` int64 [B] or float32 [B, K]."""
        smoothed = self.config.loss.label_smoothing_mixup == "composer"  # when they were read
        smoothing = 0.0 if smoothed else self.config.loss.label_smoothing
        targets = dense_targets(labels, self.num_classes, smoothing)
        if self.config.loss.name == "bce":
            return bce_loss(logits, targets, reduction=self.config.loss.reduction)
        return F.cross_entropy(logits.float(), targets)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K], in half precision inside where the device has it."""
        half = torch.bfloat16 if self.precision == "amp_bf16" else torch.float16
        with torch.autocast(self.device.type, dtype=half, enabled=self.precision != "fp32"):
            logits: Tensor = self.compiled(images)
        return logits

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One update of the weights. Returns the loss, still on the device."""
        set_lr(self.optimizer, self.lr(self.step))
        loss = self._backward(images, labels)
        if self.sam is not None and self.sam.due(self.step) and self.sam.ascend(self.model.parameters()):
            self._backward(images, labels)
            self.sam.descend()
        self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.ema is not None:
            # torchvision forgets after every update in the warmup: the first one behind it copies too.
            before = self.step - self.ema.update_interval
            copy = self.reset_ema and before <= self.lr.warmup_steps
            self.ema.after_step(self.model, self.step, copy=copy)
        return loss

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Gradients of the whole batch, in as many micro-batches as configured. Returns the mean loss."""
        parts = self.config.grad_accumulation
        total = torch.zeros((), device=images.device)
        for some, their in zip(images.chunk(parts), labels.chunk(parts), strict=True):
            loss = self.loss(self.forward(some), their) * (len(some) / len(images))
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _clip(self) -> None:
        if self.config.grad_clip:
            self.scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
            self.largest_norm = torch.maximum(self.largest_norm, norm)

    def train_epoch(self, watch: Watch) -> EpochClock:
        """Train on every batch of the next epoch. Returns its clock. Raises DivergedError for a NaN loss."""
        self.model.train()
        self.loader.set_epoch(self.epoch)
        clock = EpochClock()
        unread = UnreadLosses(1 if self.device.type == "cpu" else _CUDA_READ_INTERVAL)
        for batch in clock.over(self.loader):
            images, labels = self._to_device(batch[0]), self._labels(batch).to(self.device, non_blocking=True)
            step, resolution = self.step, images.shape[-1]
            loss = self.train_step(images, labels)
            clock.count(len(images))
            watch(clock, resolution, unread.add(loss, step=step, lr=self.lr(step), resolution=resolution))
        # Reading the last losses waits for the device: the epoch is over when its work is.
        watch(clock, resolution, unread.read())
        clock.stop()
        self.epoch += 1
        self.images_seen += clock.images
        self.epoch_seconds.append(clock.total_s)
        self.wait_seconds.append(clock.wait_s)
        return clock

    def _labels(self, batch: Any) -> Tensor:
        loss = self.config.loss
        if loss.label_smoothing_mixup == "composer":
            return targets_as_composer(batch, self.num_classes, loss.label_smoothing)
        labels: Tensor = batch[1]
        return labels

    def _to_device(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return images.to(self.device, memory_format=layout, non_blocking=True)

    @torch.no_grad()
    def evaluate(self, loader: Any, *, averaged: bool = True) -> Tensor:
        """Counts [K, 2] int64 per true class: images, and those whose top class was right.

        `averaged` uses the EMA weights where there are any.
        """
        if averaged and self.ema is not None:
            with self.ema.swapped(self.model):
                return self.evaluate(loader, averaged=False)
        self.model.eval()
        counts = torch.zeros(self.num_classes, 2, dtype=torch.int64, device=self.device)
        for batch in loader:
            images, labels = batch[0], hard_labels(batch).to(self.device, non_blocking=True)
            images = self._to_device(images)
            logits = flipped_logits(self.forward, images) if self.config.tta else self.forward(images)
            right = logits.argmax(dim=1) == labels
            counts[:, 0] += torch.bincount(labels, minlength=self.num_classes)
            counts[:, 1] += torch.bincount(labels[right], minlength=self.num_classes)
        return counts.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Everything that a continued run needs, as plain values and tensors."""
        return {
            "config": config_to_dict(self.config),
            "num_classes": self.num_classes,
            "epoch": self.epoch,
            "step": self.step,
            "schedule": {
                "step": self.step,
                "total_steps": self.lr.total_steps,
                "warmup_steps": self.lr.warmup_steps,
            },
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else {},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "rng": rng_state(),
            "epoch_seconds": self.epoch_seconds,
            "wait_seconds": self.wait_seconds,
            "images_seen": self.images_seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"], self.model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.epoch_seconds = list(state["epoch_seconds"])
        self.wait_seconds = list(state["wait_seconds"])
        self.images_seen = state["images_seen"]
        set_rng_state(state["rng"])
