"""The training loop.

Per step: an update (step.py); then, between two steps, a checkpoint or a stop if one is due. Per epoch: a
clock around the steps alone, so that validation and checkpoints never count as training. The loader is
anything that yields [images, labels] and has `set_epoch`, `state_dict` and `load_state_dict`. Each of several
processes gets its share of every batch; gradients, logged losses and counts cover all processes.

Letters in shapes: B batch, H height, W width, K classes.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from fastpipe.train.algorithms.label_smoothing import dense_targets, targets_as_composer
from fastpipe.train.algorithms.test_time_flip import flipped_logits
from fastpipe.train.broken import Counts, added, broken_counts, summed_counts
from fastpipe.train.checkpoint import rng_state, set_rng_state
from fastpipe.train.config.groups import Task
from fastpipe.train.config.keys import config_to_dict
from fastpipe.train.distributed import current_shard, gathered, maxima, tensors_of_first
from fastpipe.train.errors import StoppedError
from fastpipe.train.losses import StepLog, UnreadLosses, diverged
from fastpipe.train.metrics.outcome import Outcome, outcome_of
from fastpipe.train.metrics.table import LOSS, Chosen, chosen
from fastpipe.train.optimizers import continue_optimizer
from fastpipe.train.pauses import Pauses
from fastpipe.train.step import Updater, loss_of
from fastpipe.train.timing import EpochClock
from fastpipe.train.units import Units, units_from

# Steps between two reads of a CUDA loss: reading it waits for the device.
_CUDA_READ_INTERVAL = 20


class Loader(Protocol):
    """What the loop needs of a loader of training batches."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """The next iterator belongs to this epoch."""

    def state_dict(self) -> dict[str, Any]:
        """The loader's position, as plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""


Watch = Callable[[EpochClock, int, list[StepLog]], None]
"""Called after every step and at the end of an epoch, with the clock, the image side in pixels and the
steps whose loss became known."""


def hard_labels(batch: Any) -> Tensor:
    """int64 [B], the class of each image, even if the batch's labels are mixed."""
    labels: Tensor = batch[1]
    if labels.ndim == 1:
        return labels
    kept: Tensor | None = getattr(batch, "hard_labels", None)
    return labels.argmax(dim=1) if kept is None else kept


@dataclass(kw_only=True)
class Trainer(Updater):
    """Everything that changes while training: steps become epochs, epochs a run that can be continued."""

    loader: Loader
    task: Task = "classes"
    units: Units | None = None
    """Of labels that are numbers, which the model learns standardised."""
    metrics: Chosen | None = None
    """What a validation measures; default: the usual ones of the task."""
    pauses: Pauses = field(default_factory=Pauses)
    save: Callable[[], None] = lambda: None
    """Writes a checkpoint; called by all ranks at the same step."""
    epoch: int = 0
    """Epochs done."""
    clock: EpochClock = field(default_factory=EpochClock)
    """Of the current epoch, or of the last one until the next begins."""
    loss_sum: float = 0.0
    """Sum over the `losses` losses known in that epoch."""
    losses: int = 0
    fresh: bool = True
    """Whether the next step is the first of its epoch."""
    epoch_seconds: list[float] = field(default_factory=list)
    wait_seconds: list[float] = field(default_factory=list)
    images_seen: int = 0
    left_out: int = 0
    """Steps done without a batch, since all images of the batch were broken."""

    broken_before: Counts = field(default_factory=dict)
    """The value of `broken` when the run was resumed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._broken_at_start = broken_counts(self.loader)
        shard = current_shard()
        self.rank, self.world_size = shard.rank, shard.world_size
        self._units_here = None if self.units is None else self.units.to(self.device)
        self.chosen = self.metrics or chosen(self.task, None, None, num_classes=self.num_classes)

    def train_epoch(self, watch: Watch) -> EpochClock:
        """Train on the rest of the current epoch. Returns its clock.

        Raises DivergedError for a NaN loss and StoppedError, between two steps, when a signal asked to stop.
        """
        self.to_training(self.epoch)
        self.loader.set_epoch(self.epoch)
        if self.fresh:
            self.clock, self.loss_sum, self.losses, self.fresh = EpochClock(), 0.0, 0, False
        clock, resolution = self.clock, 0

        def tell(logs: list[StepLog]) -> None:
            watch(clock, resolution, self._note(logs))

        interval = 1 if self.device.type == "cpu" else _CUDA_READ_INTERVAL
        unread = UnreadLosses(interval, tolerant=self.config.skip_nonfinite > 0)
        for batch in clock.over(self.loader):
            images, labels = self._to_device(batch[0]), self._labels(batch)
            step, resolution = self.step, images.shape[-1]
            loss = self.train_step(images, labels)
            seconds = clock.count(len(images) * self.world_size)
            tell(unread.add(loss, step=step, lr=self.lr(step), resolution=resolution, seconds=seconds))
            self._pause(tell, unread)
        # Reading the last losses waits for the device: the epoch is over when its work is.
        tell(unread.read())
        clock.stop()
        self.epoch += 1
        self.fresh = True
        # A batch whose images were all broken did not come. The next epoch still begins at its usual step, so
        # that rates and checkpoints, which count steps, stay in line with the epochs.
        missing = max(0, self.epoch * self.steps_per_epoch - self.step)
        self.step, self.left_out = self.step + missing, self.left_out + missing
        self.images_seen += clock.images
        self.epoch_seconds.append(clock.total_s)
        self.wait_seconds.append(clock.wait_s)
        return clock

    def _note(self, logs: list[StepLog]) -> list[StepLog]:
        for log in logs:
            if math.isfinite(log.loss):
                self.loss_sum, self.losses = self.loss_sum + log.loss, self.losses + 1
        return logs

    def _pause(self, tell: Callable[[list[StepLog]], None], unread: UnreadLosses) -> None:
        """Save or stop if due. Every loss is read first: a NaN must stop the run, not be saved."""
        started_s = time.perf_counter()
        try:
            due = self.pauses.after_step(self.step)
        except StoppedError:
            tell(unread.read())
            raise
        if due:
            tell(unread.read())
            self.save()
            self.clock.leave_out(time.perf_counter() - started_s)
            self.pauses.check()  # no further step if a signal came in the meantime

    def _labels(self, batch: Any) -> Tensor:
        loss = self.config.loss
        if loss.label_smoothing_mixup == "composer":
            return targets_as_composer(batch, self.num_classes, loss.label_smoothing).to(
                self.device, non_blocking=True
            )
        labels: Tensor = batch[1].to(self.device, non_blocking=True)
        return labels if self._units_here is None else self._units_here.standard(labels)

    def _to_device(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return images.to(self.device, memory_format=layout, non_blocking=True)

    @torch.no_grad()
    def evaluate(self, loader: Any, *, averaged: bool = True) -> Outcome:
        """What `metrics` need to know of a pass over `loader`, over all ranks.

        `averaged` uses the EMA weights if there are any. All ranks use rank 0's BatchNorm statistics.
        `loader` has this rank's images; another rank may have a batch more. Raises StoppedError, as training.
        """
        if averaged and self.ema is not None:
            with self.ema.swapped(self.model):
                return self.evaluate(loader, averaged=False)
        self.model.eval()
        tensors_of_first(list(self.model.buffers()))
        return outcome_of(
            self._outputs,
            self._on_device(loader),
            num_outputs=self.num_classes,
            classes=self.task == "classes",
            keep=self.chosen.keep,
            loss=self._validation_loss if LOSS in self.chosen.measured else None,
            given=None if self.units is None else self.units.given,
        )

    def _outputs(self, images: Tensor) -> Tensor:
        """Outputs [B, K] with the test-time flip; numbers are standardised, as in training."""
        return flipped_logits(self.forward, images) if self.config.tta else self.forward(images)

    def _validation_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of training, of labels that are neither mixed nor smoothed."""
        if self._units_here is not None:
            labels = self._units_here.standard(labels)
        return loss_of(self.config.loss, outputs, dense_targets(labels, self.num_classes, 0.0))

    def _on_device(self, loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._polled(loader):
            labels = hard_labels(batch) if self.task == "classes" else batch[1]
            yield self._to_device(batch[0]), labels.to(self.device, non_blocking=True)

    def _polled(self, loader: Any) -> Iterator[Any]:
        """This rank's batches; in between, all ranks ask equally often whether to stop."""
        batches = iter(loader)
        for _ in range(maxima([len(loader)])[0]):
            self.pauses.check()
            yield from itertools.islice(batches, 1)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as plain values and tensors; all ranks call it together."""
        return {
            "config": config_to_dict(self.config),
            "num_classes": self.num_classes,
            "task": self.task,
            "units": {} if self.units is None else self.units.state_dict(),
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
            "rng": gathered(rng_state()),
            "skipped": self.skipped,
            "epoch_so_far": {
                "fresh": self.fresh,
                "images": self.clock.images,
                "wait_s": self.clock.wait_s,
                "total_s": self.clock.total_s,
                "loss_sum": self.loss_sum,
                "losses": self.losses,
            },
            "epoch_seconds": self.epoch_seconds,
            "wait_seconds": self.wait_seconds,
            "images_seen": self.images_seen,
            "left_out": self.left_out,
            "broken": self.broken(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"], self.model)
        continue_optimizer(self.optimizer, state["optimizer"])
        if state["scaler"] and self.scaler.is_enabled():  # another precision or device starts a new scale
            self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        if self.units is not None:  # the weights were learnt in these
            self.units = units_from(state["units"])
            self._units_here = self.units.to(self.device)
        self.epoch, self.step = state["epoch"], state["step"]
        self.epoch_seconds = list(state["epoch_seconds"])
        self.wait_seconds = list(state["wait_seconds"])
        self.images_seen, self.skipped = state["images_seen"], state["skipped"]
        # Checkpoints of an earlier version have neither.
        self.left_out, self.broken_before = state.get("left_out", 0), state.get("broken", {})
        so_far = state["epoch_so_far"]
        self.fresh, self.loss_sum, self.losses = so_far["fresh"], so_far["loss_sum"], so_far["losses"]
        self.clock = EpochClock(**{name: so_far[name] for name in ("images", "wait_s", "total_s")})
        self._continue_generators(state["rng"])

    def _continue_generators(self, saved: list[dict[str, Any]]) -> None:
        """This rank's own generators; a rank that is new in this run draws from its own seed."""
        if self.rank < len(saved):
            set_rng_state(saved[self.rank])
        else:
            torch.manual_seed(self.config.seed + 1_000_003 * self.step + self.rank)

    def broken(self) -> Counts:
        """Training samples skipped and replaced in all epochs so far; all ranks call it together."""
        here = summed_counts(broken_counts(self.loader), self._broken_at_start)
        return added(self.broken_before, here)

    def check_weights(self) -> None:
        """Raise DivergedError unless all weights are finite: what is saved must be worth continuing."""
        if not torch.stack(torch._foreach_norm(list(self.model.parameters()))).isfinite().all():
            last = self.step - 1
            log = StepLog(step=last, loss=math.nan, lr=self.lr(last), resolution=self.resolution)
            raise diverged(log, "a weight")
