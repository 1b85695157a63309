"""One update of the weights, by one process or by one of several.

Gradients are averaged over the ranks once per step: not between the micro-batches of gradient accumulation,
and not in SAM's first pass, in which every rank climbs by its own gradients.

Letters in shapes: B batch, H height, W width, K classes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastpipe.train.algorithms.bce import bce_loss
from fastpipe.train.algorithms.ema import EMA
from fastpipe.train.algorithms.freezing import freeze_, frozen_names, to_training
from fastpipe.train.algorithms.label_smoothing import dense_targets
from fastpipe.train.algorithms.sam import SAM
from fastpipe.train.algorithms.schedule import Schedule, set_lr
from fastpipe.train.classifier import classifier_names
from fastpipe.train.config.groups import LossConfig
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.distributed import maxima, unsynchronised, wrapped
from fastpipe.train.losses import StepLog, diverged
from fastpipe.train.optimizers import build_optimizer

_OF_FREEZE = "which freeze leaves to train. Give --freeze 0, or another --model"


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
    """The model compiled by torch, once for each image size."""
    # Progressive resizing has up to 23 sizes, for training and evaluation; torch gives up after 8.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    made: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False)
    return made


def resolved_precision(precision: str, device: torch.device) -> str:
    """The meaning of `precision` on `device`: amp is fp16 on CUDA and fp32 on the CPU."""
    if precision == "amp":
        return "amp_fp16" if device.type == "cuda" else "fp32"
    return precision


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Forward passes in the block run in `precision`, which `resolved_precision` returned."""
    half = torch.bfloat16 if precision == "amp_bf16" else torch.float16
    return torch.autocast(device.type, dtype=half, enabled=precision != "fp32")


def loss_of(loss: LossConfig, outputs: Tensor, targets: Tensor) -> Tensor:
    """The recipe's loss, a float32 scalar. `outputs` and `targets` are float [B, K]."""
    outputs = outputs.float()
    if loss.name == "bce":
        return bce_loss(outputs, targets, reduction=loss.reduction)
    if loss.name == "cross_entropy":
        return F.cross_entropy(outputs, targets)
    return F.mse_loss(outputs, targets) if loss.name == "mse" else F.l1_loss(outputs, targets)


@dataclass(kw_only=True)
class Updater:
    """The model, its optimizer and average, and the step that changes them."""

    config: TrainConfig
    model: nn.Module
    num_classes: int
    device: torch.device
    loader: Sized
    """Its length is the number of steps in an epoch."""
    step: int = 0
    """Steps done."""
    resolution: int = 0
    """The side of the last step's images in pixels; 0 before the first."""
    skipped: int = 0
    """The steps that changed nothing, since loss or gradients were not finite."""

    def __post_init__(self) -> None:
        ema = self.config.ema
        self.precision = resolved_precision(self.config.precision, self.device)
        scaled = self.precision == "amp_fp16"
        self.frozen: frozenset[str] = frozenset()
        if self.config.freeze:
            self.frozen = frozen_names(
                self.model, self.config.freeze, classifier_names(self.model, _OF_FREEZE)
            )
        if not self.config.freeze_epochs:  # else the optimizer must know the weights that will train later
            freeze_(self.model, self.frozen)
        self.optimizer = build_optimizer(self.config.optimizer, self.model, scaled=scaled)
        freeze_(self.model, self.frozen)
        self.reset_ema = ema is not None and ema.reset_during_warmup
        self.ema = (
            EMA(half_life_batches=ema.half_life_batches, update_interval=ema.update_interval) if ema else None
        )
        if self.ema is not None:
            self.ema.fixed = self.frozen
        sam = self.config.sam
        self.sam = SAM(rho=sam.rho, interval=sam.interval) if sam else None
        # A disabled scaler passes everything through.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        # Of the gradients before clipping, since the start or the last resume; read once, at the end.
        self.largest_norm = torch.zeros((), device=self.device)
        self.steps_per_epoch = len(self.loader)
        self.lr = schedule_of(self.config, self.steps_per_epoch)
        self._connect()
        # Not through DDP, whose forward passes must be as many on every rank.
        self.evaluation_forward = compiled(self.model) if self.config.compile else self.model

    def _connect(self) -> None:
        """The network of the training passes, whose gradients DDP averages."""
        self.network = wrapped(self.model, self.device)
        self.training_forward = compiled(self.network) if self.config.compile else self.network

    def to_training(self, epoch: int) -> None:
        """The model in training mode for `epoch` (from 0): frozen layers stay, and thaw when they are due."""
        if self.frozen and 0 < self.config.freeze_epochs <= epoch:
            self.frozen = frozenset()
            freeze_(self.model, self.frozen)
            if self.ema is not None:
                self.ema.fixed = self.frozen
            self._connect()  # DDP knows only the parameters that trained when it was made
        to_training(self.model, self.frozen)

    def frozen_words(self) -> Iterator[str]:
        """What does not train, and for how long, in one sentence; nothing if everything trains."""
        if self.frozen:
            params = dict(self.model.named_parameters())
            free = sum(param.numel() for name, param in params.items() if name not in self.frozen)
            until = self.config.freeze_epochs
            yield (
                f"frozen: {sum(param.numel() for param in params.values()) - free} weights; {free} train"
                + (f" until epoch {until} is over, then all" if until else "")
            )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The recipe's loss, a float32 scalar. `logits` [B, K]; `labels` int64 [B] or float32 [B, K]."""
        smoothed = self.config.loss.label_smoothing_mixup == "composer"  # when they were read
        smoothing = 0.0 if smoothed else self.config.loss.label_smoothing
        return loss_of(self.config.loss, logits, dense_targets(labels, self.num_classes, smoothing))

    def forward(self, images: Tensor, *, training: bool = False) -> Tensor:
        """Logits [B, K], in half precision inside where the device has it."""
        with autocast(self.device, self.precision):
            logits: Tensor = self.training_forward(images) if training else self.evaluation_forward(images)
        return logits

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One update of the weights from this rank's share of a batch. Returns its loss, on the device."""
        set_lr(self.optimizer, self.lr(self.step))
        self.resolution = images.shape[-1]
        careful = self.config.skip_nonfinite > 0
        buffers = [buffer.clone() for buffer in self.model.buffers()] if careful else []
        loss = self._gradients(images, labels)
        if careful and self._not_finite(loss):
            self._skip(loss, buffers)
        else:
            self._clip()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.ema is not None:
            # torchvision resets after every update in the warmup, so the first update after it copies, too.
            before = self.step - self.ema.update_interval
            copy = self.reset_ema and before <= self.lr.warmup_steps
            self.ema.after_step(self.model, self.step, copy=copy)
        return loss

    def _gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """The gradients that the step uses, averaged over ranks. Returns the loss at the unmoved weights."""
        if self.sam is None or not self.sam.due(self.step):
            return self._backward(images, labels)
        loss = self._backward(images, labels, synchronise=False)
        if self.sam.ascend(self.model.parameters()):
            self._backward(images, labels)
            self.sam.descend()
        return loss

    def _backward(self, images: Tensor, labels: Tensor, *, synchronise: bool = True) -> Tensor:
        """Gradients of the whole batch, in as many micro-batches as configured. Returns the mean loss."""
        parts = list(zip(*(x.chunk(self.config.grad_accumulation) for x in (images, labels)), strict=True))
        total = torch.zeros((), device=images.device)
        for some, their in parts[:-1]:
            with unsynchronised(self.network):
                total += self._add_gradients(some, their, len(some) / len(images))
        with contextlib.nullcontext() if synchronise else unsynchronised(self.network):
            some, their = parts[-1]
            total += self._add_gradients(some, their, len(some) / len(images))
        return total

    def _add_gradients(self, images: Tensor, labels: Tensor, share: float) -> Tensor:
        loss = self.loss(self.forward(images, training=True), labels) * share
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _not_finite(self, loss: Tensor) -> bool:
        """Whether the loss or, without a scaler, the gradients are not finite on any rank."""
        numbers = [loss.detach().float()]
        if not self.scaler.is_enabled():
            numbers += torch._foreach_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        return bool(maxima([int(not torch.stack(numbers).isfinite().all())])[0])

    def _skip(self, loss: Tensor, buffers: list[Tensor]) -> None:
        """Skip a step, and restore BatchNorm's statistics. Raises DivergedError after too many skips."""
        self.skipped += 1
        if self.skipped > self.config.skip_nonfinite:
            shown = float(loss) if not math.isfinite(float(loss)) else math.nan
            log = StepLog(step=self.step, loss=shown, lr=self.lr(self.step), resolution=self.resolution)
            raise diverged(log, f"{self.skipped - 1} such steps were already skipped, and loss or gradients")
        with torch.no_grad():
            for buffer, kept in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(kept)

    def _clip(self) -> None:
        if self.config.grad_clip:
            self.scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
            self.largest_norm = torch.maximum(self.largest_norm, norm)
