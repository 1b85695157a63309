"""One run from a configuration to a run folder: data, model, epochs, accuracy, summary."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastpipe.errors import ArgumentError
from fastpipe.storage import DEMO_NOTE, resolve
from fastpipe.train.augment import augment_specs
from fastpipe.train.checkpoint import load_checkpoint, save_checkpoint
from fastpipe.train.cli import to_yaml
from fastpipe.train.config import TrainConfig
from fastpipe.train.data import Indexes, eval_loader, open_indexes, train_loader
from fastpipe.train.distributed import current_shard
from fastpipe.train.errors import NoEffectWarning
from fastpipe.train.fit import Fitted, fit_to_data
from fastpipe.train.folder import RunFolder, make_folder
from fastpipe.train.loop import Trainer, resolved_precision
from fastpipe.train.losses import StepLog
from fastpipe.train.model import build_model
from fastpipe.train.no_effect import warn_length_without_effect, warn_without_effect
from fastpipe.train.progress import Display
from fastpipe.train.timing import EpochClock, time_to_train

__all__ = ["run", "top1"]


def run(
    config: TrainConfig,
    *,
    explicit: Collection[str] = (),
    recipe_batch_size: int | None = None,
    resume: str | None = None,
    display: Display | None = None,
) -> dict[str, Any]:
    """Train, write the run folder, and return what its summary.json holds.

    `explicit` are the dotted keys that fitting to the data must leave alone; `recipe_batch_size` is the
    batch that the learning rate was made for. `resume` is "auto" (output_dir's last checkpoint, if there is
    one) or a path.
    """
    current_shard()
    if config.data is None:
        raise ArgumentError(
            "data must name what to train on: demo, a folder, or a data set of torchvision. Give --data"
        )
    with display or Display() as show:
        indexes = open_indexes(resolve(config.data))
        fitted = fit_to_data(
            config, len(indexes.train), explicit=explicit, recipe_batch_size=recipe_batch_size
        )
        checkpoint = _checkpoint_to_resume(resume, config.output_dir)
        # Everything that can be wrong is made first: a mistake leaves no folder behind.
        parts = _Run(fitted, indexes, show, explicit=explicit)
        folder = RunFolder(make_folder(config.output_dir, config.recipe, resuming=checkpoint is not None))
        try:
            return parts.execute(folder, checkpoint)
        finally:
            folder.close()


def _checkpoint_to_resume(resume: str | None, output_dir: str | None) -> Path | None:
    if resume is None:
        return None
    if resume != "auto":
        return Path(resume)
    if output_dir is None:
        raise ArgumentError("--resume auto continues the run in --output-dir, which is not given")
    newest = Path(output_dir) / "last.ckpt"
    return newest if newest.exists() else None


def top1(counts: Tensor) -> float:
    """The share of images whose top class was right, 0..1, from counts [K, 2] of (images, right)."""
    return float(counts[:, 1].sum() / counts[:, 0].sum())


def _per_class(counts: Tensor, classes: Sequence[str]) -> dict[str, float | None]:
    return {
        name: round(right / images, 6) if images else None
        for name, (images, right) in zip(classes, counts.tolist(), strict=True)
    }


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class _Run:
    """The parts of one run, made in the order in which they need each other."""

    def __init__(
        self, fitted: Fitted, indexes: Indexes, show: Display, *, explicit: Collection[str] = ()
    ) -> None:
        self.config, self.changes = fitted.config, fitted.changes
        self.indexes, self.show = indexes, show
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _seed_everything(self.config.seed)
        warn_without_effect(self.config, explicit=explicit)
        loader = train_loader(self.config, indexes.train)
        self.trainer = Trainer(
            config=self.config,
            model=build_model(self.config, len(indexes.classes), self.device),
            loader=loader,
            num_classes=len(indexes.classes),
            device=self.device,
        )
        warn_length_without_effect(self.config, self.trainer.steps_per_epoch)
        self.validation = eval_loader(self.config, indexes.validation)
        choice = loader.explain().choice
        self.backend, self.why_backend = (choice.backend, choice.reason) if choice else ("torch", "as asked")

    def execute(self, folder: RunFolder, checkpoint: Path | None) -> dict[str, Any]:
        """All epochs, then the summary, all written to `folder`."""
        self.folder = folder
        # With the backend that was taken, so that the file repeats this run and not the choice.
        self.folder.write_config(to_yaml(replace(self.config, backend=self.backend)))
        if checkpoint is not None:
            self._resume(checkpoint)
        self._announce()
        counts = None
        while self.trainer.epoch < self.config.epochs:
            counts = self._epoch()
            save_checkpoint(self.trainer.state_dict(), self.folder.checkpoint)
        self._check_clipping()
        summary = self._summary(self.trainer.evaluate(self.validation) if counts is None else counts)
        self.folder.write_summary(summary)
        self._conclude(summary)
        return summary

    def _check_clipping(self) -> None:
        largest, limit = float(self.trainer.largest_norm), self.config.grad_clip
        if limit and largest <= limit:
            warnings.warn(
                f"grad_clip {limit:g} clipped nothing: the largest norm of the gradients was {largest:.4g}",
                NoEffectWarning,
                stacklevel=3,
            )

    def _resume(self, path: Path) -> None:
        state = load_checkpoint(path)
        names = {
            "num_classes": len(self.indexes.classes),
            "model": self.config.model,
            "epochs": self.config.epochs,
        }
        saved = {
            "num_classes": state["num_classes"],
            "model": state["config"]["model"],
            "epochs": state["config"]["epochs"],
        }
        for name, here in names.items():
            if saved[name] != here:
                raise ArgumentError(
                    f"the checkpoint {str(path)!r} was made with {name} {saved[name]!r}, this run has "
                    f"{here!r}. Resume with the same data, model and length"
                )
        self.trainer.load_state_dict(state)
        self.folder.rewind(self.trainer.step)
        self.show.line(f"resumed from {path} after epoch {self.trainer.epoch}")

    def _announce(self) -> None:
        c, n = self.config, len(self.indexes.train)
        if self._is_demo:
            self.show.line(f"note: {DEMO_NOTE}")
        self.show.line(
            f"{c.recipe}: {c.model} on {c.data} ({n} images, {len(self.indexes.classes)} classes), "
            f"{c.epochs} epochs of {self.trainer.steps_per_epoch} steps, on {self.device.type}"
        )
        precision = resolved_precision(c.precision, self.device)
        if precision != c.precision:
            self.show.line(f"precision: {c.precision} is {precision} on {self.device.type}")
        for key, (before, after) in self.changes.items():
            self.show.line(f"fitted to the data: {key} {before:g} -> {after:g}")
        augmentations = ", ".join(map(repr, augment_specs(c)))
        if augmentations:
            self.show.line(f"augment: {augmentations}")
        self.show.line(f"backend: {self.backend} ({self.why_backend})")
        self.show.line(f"run folder: {self.folder.path}")

    @property
    def _is_demo(self) -> bool:
        return self.config.data == "demo"

    def _epoch(self) -> Tensor:
        trainer, epoch = self.trainer, self.trainer.epoch
        losses: list[float] = []

        def watch(clock: EpochClock, resolution: int, logs: list[StepLog]) -> None:
            for log in logs:
                losses.append(log.loss)
                self.folder.log(
                    "step",
                    log.step,
                    {
                        "epoch": epoch,
                        "loss": log.loss,
                        "lr": log.lr,
                        "resolution": log.resolution,
                        "images_per_s": round(clock.images_per_s, 3),
                        "data_wait_share": round(clock.wait_share, 4),
                    },
                )
            self.show.step(
                loss=losses[-1] if losses else None,
                images_per_s=clock.images_per_s,
                wait_share=clock.wait_share,
                resolution=resolution,
            )

        self.show.start_epoch(epoch, self.config.epochs, trainer.steps_per_epoch)
        try:
            clock = trainer.train_epoch(watch)
        finally:
            self.show.end_epoch()
            self.folder.flush()
        return self._after_epoch(epoch, clock, sum(losses) / len(losses))

    def _after_epoch(self, epoch: int, clock: EpochClock, loss: float) -> Tensor:
        started_s = time.perf_counter()
        counts = self.trainer.evaluate(self.validation)
        accuracy = top1(counts)
        self.folder.log(
            "epoch",
            self.trainer.step,
            {
                "epoch": epoch,
                "loss": loss,
                "top1": accuracy,
                "images_per_s": round(clock.images_per_s, 3),
                "data_wait_share": round(clock.wait_share, 4),
                "train_s": round(clock.total_s, 3),
                "validation_s": round(time.perf_counter() - started_s, 3),
            },
        )
        self.folder.flush()
        self.show.line(
            f"epoch {epoch + 1}/{self.config.epochs}  loss {loss:.3f}  top-1 {accuracy:.3f}  "
            f"{clock.images_per_s:.0f} images/s  data wait {clock.wait_share:.0%}  {clock.total_s:.1f} s"
        )
        return counts

    def _summary(self, counts: Tensor) -> dict[str, Any]:
        trainer, classes = self.trainer, self.indexes.classes
        seconds = sum(trainer.epoch_seconds)
        summary: dict[str, Any] = {
            "recipe": self.config.recipe,
            "model": self.config.model,
            "data": self.config.data,
            "top1": top1(counts),
            "top1_raw": top1(trainer.evaluate(self.validation, averaged=False)),
            "epochs": self.config.epochs,
            "steps": trainer.step,
            "images_per_s": round(trainer.images_seen / seconds, 3),
            "data_wait_share": round(sum(trainer.wait_seconds) / seconds, 4),
            "time_to_train_s": round(time_to_train(trainer.epoch_seconds), 3),
            "device": self.device.type,
            "precision": resolved_precision(self.config.precision, self.device),
            "backend": self.backend,
            "fit_to_data": {key: list(change) for key, change in self.changes.items()},
            "per_class": {"validation": _per_class(counts, classes)},
        }
        if self.indexes.test is not None:
            test = trainer.evaluate(eval_loader(self.config, self.indexes.test))
            summary["test_top1"] = top1(test)
            summary["per_class"]["test"] = _per_class(test, classes)
        if self._is_demo:
            summary["note"] = DEMO_NOTE
        return summary

    def _conclude(self, summary: dict[str, Any]) -> None:
        test = f", test top-1 {summary['test_top1']:.3f}" if "test_top1" in summary else ""
        self.show.line(
            f"top-1 {summary['top1']:.3f} (raw weights {summary['top1_raw']:.3f}){test}, "
            f"time to train {summary['time_to_train_s']:.1f} s, {summary['images_per_s']:.0f} images/s, "
            f"data wait {summary['data_wait_share']:.0%}"
        )
        if self._is_demo:
            self.show.line(f"note: {DEMO_NOTE}")
