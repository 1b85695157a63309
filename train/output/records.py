"""The recorded numbers of a run: for each step, for each epoch, and for the whole run in summary.json."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from fastpipe.efficiency.durations import time_to_train
from fastpipe.storage import DEMO_NOTE
from fastpipe.train.accuracy import per_class
from fastpipe.train.broken import Counts, broken_counts, summed_counts
from fastpipe.train.distributed import from_first
from fastpipe.train.loop import Trainer
from fastpipe.train.losses import StepLog
from fastpipe.train.metrics.outcome import Outcome
from fastpipe.train.metrics.table import Metric
from fastpipe.train.timing import EpochClock

Record = dict[str, float | int | None]
Values = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One validation. `outcome` and `values` belong to the averaged weights, or to the only ones.

    `raw` are the values of the raw weights if there is an average as well; None without an average or a
    request. Values are by the metrics' keys.
    """

    outcome: Outcome
    values: Values
    raw: Values | None
    seconds: float
    broken: Counts = field(default_factory=dict)
    """Samples that were skipped or replaced in it."""

    def shares(self) -> Record:
        """The values; with an average, also those of the raw weights, with `_raw` after the name."""
        return {**self.values, **{f"{key}_raw": value for key, value in (self.raw or {}).items()}}

    def per_class(self, names: Sequence[str]) -> dict[str, float | None]:
        """Top-1 of each class by name, where an image has one class."""
        assert self.outcome.counts is not None
        return per_class(self.outcome.counts, names)


def measure(trainer: Trainer, loader: Any, *, raw: bool) -> Measured:
    """Validate on this rank's `loader`; with EMA and `raw` twice, which takes twice as long."""
    started_s = time.perf_counter()
    before, values = broken_counts(loader), trainer.chosen.values
    outcome = trainer.evaluate(loader)
    broken = summed_counts(broken_counts(loader), before)
    second = values(trainer.evaluate(loader, averaged=False)) if raw and trainer.ema is not None else None
    # Rank 0's figures for all, since ranks that differ in the last bit could differ in when they stop.
    found, second = from_first(lambda: (values(outcome), second))
    seconds = time.perf_counter() - started_s
    return Measured(outcome=outcome, values=found, raw=second, seconds=seconds, broken=broken)


def with_raw(trainer: Trainer, loader: Any, measured: Measured) -> Measured:
    """The same validation with the values of the raw weights, which alone are measured now."""
    if measured.raw is not None or trainer.ema is None:
        return measured
    started_s = time.perf_counter()
    outcome = trainer.evaluate(loader, averaged=False)
    raw = from_first(lambda: trainer.chosen.values(outcome))
    return replace(measured, raw=raw, seconds=measured.seconds + time.perf_counter() - started_s)


def peak_memory(device: torch.device) -> Record:
    """The most memory so far in MiB: resident in this process, without its workers; tensors on its GPU."""
    # Kilobytes on Linux, bytes on macOS (getrusage(2)).
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak: Record = {"peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}
    if device.type == "cuda":
        peak["peak_cuda_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return peak


def step_record(
    epoch: int, clock: EpochClock, log: StepLog, loss: float | None, device: torch.device
) -> Record:
    """A step's line of metrics.jsonl; `loss` is None if it was not finite."""
    return {
        "epoch": epoch,
        "loss": loss,
        "lr": log.lr,
        "resolution": log.resolution,
        "images_per_s": round(clock.images_per_s, 3),
        "data_wait_share": round(clock.wait_share, 4),
        "step_s": round(log.seconds, 6),
        **peak_memory(device),
    }


def epoch_record(epoch: int, loss: float, clock: EpochClock, measured: Measured) -> Record:
    """An epoch's line of metrics.jsonl."""
    return {
        "epoch": epoch,
        "loss": loss,
        **measured.shares(),
        "images_per_s": round(clock.images_per_s, 3),
        "data_wait_share": round(clock.wait_share, 4),
        "train_s": round(clock.total_s, 3),
        "validation_s": round(measured.seconds, 3),
    }


def epoch_line(
    epoch: int, epochs: int, loss: float, clock: EpochClock, measured: Measured, shown: Sequence[Metric]
) -> str:
    """The same for people, with the metrics `shown`."""
    figures = "  ".join(f"{metric.title} {figure(measured.values[metric.key])}" for metric in shown)
    return (
        f"epoch {epoch + 1}/{epochs}  loss {loss:.3f}  {figures}  "
        f"{clock.images_per_s:.0f} images/s  data wait {clock.wait_share:.0%}  {clock.total_s:.1f} s"
    )


def figure(value: float | None) -> str:
    """The value of a metric in a line."""
    return "nan" if value is None else f"{value:.3f}"


def summary_record(
    trainer: Trainer, measured: Measured, test: Measured | None, classes: Sequence[str]
) -> dict[str, Any]:
    """The contents of summary.json after a finished training; all ranks call it together."""
    config, seconds = trainer.config, sum(trainer.epoch_seconds)
    both = replace(measured, raw=measured.values if measured.raw is None else measured.raw)
    summary: dict[str, Any] = {
        "recipe": config.recipe,
        "model": config.model,
        "data": config.data,
        "task": trainer.task,
        "metrics": [metric.key for metric in trainer.chosen.measured],
        **both.shares(),
        "epochs": trainer.epoch,
        "steps": trainer.step - trainer.left_out,
        "images_per_s": round(trainer.images_seen / seconds, 3),
        "data_wait_share": round(sum(trainer.wait_seconds) / seconds, 4),
        "time_to_train_s": round(time_to_train(trainer.epoch_seconds), 3),
        "device": trainer.device.type,
        "precision": trainer.precision,
        "skipped_steps": trainer.skipped,
        "left_out_steps": trainer.left_out,
        "on_error": config.on_error,
        "broken_samples": {"train": trainer.broken(), "validation": measured.broken},
    }
    splits = {"validation": measured} | ({"test": test} if test is not None else {})
    if trainer.task == "classes":
        summary["per_class"] = {name: split.per_class(classes) for name, split in splits.items()}
    if test is not None:
        summary |= {f"test_{key}": value for key, value in test.values.items()}
        summary["broken_samples"]["test"] = test.broken
    if config.data == "demo":
        summary["note"] = DEMO_NOTE
    return summary
