"""One run from a configuration to a run folder: data, model, epochs, accuracy, summary."""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.system.allocator import keep_freed_memory
from fastpipe.system.stop_signals import listening, note_only
from fastpipe.train.best import Best, settled
from fastpipe.train.checkpoint import BEST, link_checkpoint, save_checkpoint
from fastpipe.train.config.fit import Fitted
from fastpipe.train.config.no_effect import warn_clipping_without_effect, warn_length_without_effect
from fastpipe.train.config.options import Options, check_options
from fastpipe.train.config.recipe import to_yaml
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.cost import cost_record, extrapolation_record
from fastpipe.train.cudnn import cudnn_benchmark
from fastpipe.train.data import eval_loader
from fastpipe.train.distributed import (
    broadcast_state,
    current_shard,
    device_named,
    from_first,
    maxima,
    process_group,
    together,
)
from fastpipe.train.errors import DivergedError, StoppedError
from fastpipe.train.interval import parse_interval
from fastpipe.train.loop import Trainer
from fastpipe.train.losses import StepLog
from fastpipe.train.metrics.absent import absent_words, labels_without_images
from fastpipe.train.output.environment import environment_record
from fastpipe.train.output.folder import NoFolder, RunFolder, closed_at_the_end, make_folder, open_folder
from fastpipe.train.output.mlflow_run import MlflowRun, import_mlflow
from fastpipe.train.output.progress import Display
from fastpipe.train.output.records import (
    Measured,
    epoch_line,
    epoch_record,
    measure,
    step_record,
    summary_record,
    with_raw,
)
from fastpipe.train.output.report import announcement, conclusion
from fastpipe.train.output.trackers import Tracker, WandbRun, import_wandb
from fastpipe.train.pauses import Pauses
from fastpipe.train.prepare import fitted_here, make_parts, metrics_of, units_here
from fastpipe.train.pretrained.start import Start, begin
from fastpipe.train.resume import changed_with, check_fits, load_to_resume, made_last
from fastpipe.train.splits import Indexes
from fastpipe.train.tables import TablePart
from fastpipe.train.timing import EpochClock
from fastpipe.types import Shard

__all__ = ["run"]

_PLAIN = Options()


def run(
    config: TrainConfig,
    options: Options = _PLAIN,
    *,
    explicit: Collection[str] = (),
    recipe_batch_size: int | None = None,
    display: Display | None = None,
) -> dict[str, Any]:
    """Train, write the run folder, and return what its summary.json holds.

    `explicit` are the dotted keys that fitting to the data must leave alone; `recipe_batch_size` is the
    batch that the learning rate was made for. The options `nproc` and `seeds` do not apply to one run in one
    process and have no effect here.
    """
    if config.data is None:
        raise ArgumentError(
            "data must name the training data: demo, a folder, a .beton file, a list (.csv, .tsv, .jsonl, "
            ".ndjson or .parquet), or a data set of torchvision. Give --data"
        )
    check_options(options, config)
    started_s = time.perf_counter()
    shard, device = current_shard(), device_named(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    if shard.rank > 0:  # rank 0 speaks for all
        display = Display(Console(quiet=True))
    if shard.rank > 0 or options.quiet:
        warnings.simplefilter("ignore", NoEffectWarning)

    def fitted_to_data() -> tuple[Start, Fitted, Indexes]:
        if shard.rank == 0:  # reported once, before anything is read
            for wanted, door in ((options.wandb, import_wandb), (options.mlflow, import_mlflow)):
                if wanted is not None:
                    door()
        start = begin(config, explicit)
        fitted = fitted_here(start.config, shard, explicit=explicit, recipe_batch_size=recipe_batch_size)
        return start, *fitted

    with process_group(shard), display or Display(quiet=options.quiet) as show:
        start, fitted, indexes = together(fitted_to_data)
        # Everything that can fail is made first, so that a mistake leaves no folder behind.
        parts = _Run(fitted, indexes, show, shard, device, options, started_s=started_s, explicit=explicit)
        parts.resume(config.output_dir)
        parts.begin(start)
        parts.make_folder(config.output_dir)
        with closed_at_the_end(parts.folder), cudnn_benchmark(parts.config, device):
            parts.rewind()
            return parts.execute()


class _Run:
    """The parts of one run, made in the order of their dependencies."""

    def __init__(
        self,
        fitted: Fitted,
        indexes: Indexes,
        show: Display,
        shard: Shard,
        device: torch.device,
        options: Options,
        *,
        started_s: float,
        explicit: Collection[str] = (),
    ) -> None:
        self.started_s, self.options = started_s, options
        self.last_epoch = options.extrapolate_from or fitted.config.epochs
        self.config, self.changes, self.of_task = fitted.config, fitted.changes, fitted.of_task
        self.indexes, self.show, self.shard, self.device = indexes, show, shard, device
        self.epochs_measured, self.resumed = 0, ""
        self.changed: list[dict[str, Any]] = []  # settings that this run was resumed with
        self.saved: tuple[int, int] | None = None  # the step and the measured epochs of the last checkpoint
        self.wall_before_s, self.validation_s = 0.0, 0.0
        self.metrics = together(lambda: metrics_of(self.config, indexes))
        self.best, self.best_note, self.last_note = Best(metric=self.metrics.best), "", ""
        self.improved = False  # whether the last validation was the best so far
        loader, model = together(lambda: make_parts(self.config, indexes, shard, device, explicit=explicit))
        self.pauses = Pauses(
            parse_interval(self.config.checkpoint_interval), steps_per_epoch=len(loader), rank=shard.rank
        )
        self.trainer = Trainer(
            config=self.config,
            model=model,
            loader=loader,
            num_classes=len(indexes.classes),
            device=device,
            task=indexes.task,
            units=together(lambda: units_here(indexes, model)),
            metrics=self.metrics,
            pauses=self.pauses,
            save=self._save,
        )
        warn_length_without_effect(self.config, self.trainer.steps_per_epoch)
        self.validation = eval_loader(self.config, indexes.validation, shard, device)
        loader.explain()  # raises for a backend that cannot serve
        self.loader = loader

    def resume(self, output_dir: str | None) -> None:
        """Load the state for `--resume`, which rank 0 reads for all; without one, begin anew."""
        resume, first = self.options.resume, self.shard.rank == 0
        found = together(lambda: load_to_resume(resume, output_dir) if first else None)
        path = from_first(lambda: found[1] if found else None)
        state = broadcast_state(found[0] if found else None)
        if state is None or path is None:
            return
        together(lambda: check_fits(state, path, self.trainer, self.indexes.classes, self.last_epoch))
        self.trainer.load_state_dict(state)
        self.epochs_measured = state["epochs_measured"]
        self.saved = self._reached()
        self.changed = changed_with(state, self.config)
        self.wall_before_s, self.validation_s = state["seconds"]["wall"], state["seconds"]["validation"]
        self.resumed = f"resumed from {path} after epoch {self.epochs_measured}, step {self.trainer.step}"
        self.resumed_from = state, path

    def begin(self, start: Start) -> None:
        """Load the weights to start from, which a resumed run has in its checkpoint."""
        self.started = list(start.lines())
        if not self.resumed:
            model, classes = self.trainer.model, self.indexes.classes
            task, units = self.indexes.task, self.trainer.units
            loaded = together(lambda: list(start.load(model, classes, task=task, units=units)))
            self.started = loaded + self.started

    def make_folder(self, output_dir: str | None) -> None:
        """The run folder, made and written by rank 0 alone."""
        made, resuming = None, self.options.resume is not None
        if self.shard.rank == 0:
            made = make_folder(output_dir, self.config.recipe, resuming=resuming)
        self.folder: RunFolder | NoFolder = open_folder(made, self._trackers(made)) if made else NoFolder()

    def rewind(self) -> None:
        """Take back what a resumed run wrote after its checkpoint."""
        if self.resumed:
            self._settle_best()
            self.folder.rewind(self.trainer.step, self.epochs_measured)

    def _settle_best(self) -> None:
        """Go on from the best epoch of the checkpoint that was resumed; rank 0 looks after the files."""
        (state, path), first = self.resumed_from, self.shard.rank == 0
        folder, metric = self.folder.path, self.best.metric
        found = together(lambda: settled(state, path, folder, metric) if first else None)
        self.best, self.best_note = from_first(lambda: found or (self.best, ""))
        self.last_note = together(lambda: made_last(path, folder) if first else "")
        del self.resumed_from

    def _trackers(self, folder: Path) -> Iterator[Tracker]:
        project, experiment = self.options.wandb, self.options.mlflow
        if project:
            yield WandbRun(project, folder, self.config, quiet=self.options.quiet)
        if experiment:
            yield MlflowRun(experiment, folder, self.config)

    def execute(self) -> dict[str, Any]:
        """All epochs, then the summary, all written to the run folder."""
        try:
            self._choose_backend()
            # With what was chosen, so that the file repeats this run and not the choice.
            task = self.config.task if self.indexes.task == "classes" else self.indexes.task
            self.folder.write_config(to_yaml(replace(self.config, backend=self.backend, task=task)))
            self.folder.write_environment(environment_record(self.device, self.shard.world_size))
            self._announce()
            with listening(note_only):  # before this there is nothing to save
                return self._train()
        except DivergedError as error:
            raise DivergedError(f"{error.message}. {self._last_good()}", step=error.step) from error

    def _train(self) -> dict[str, Any]:
        try:
            return self._finish(self._epochs())
        except StoppedError as stopped:
            if self.saved != self._reached():  # the signal may have come during the save
                self._save()
            maxima([0])  # whoever starts the processes ends all of them when the first one goes
            self.show.last(f"{stopped} after step {self.trainer.step}: saved, --resume auto continues")
            raise

    def _choose_backend(self) -> None:
        choice = self.loader.choose_backend()  # after resuming, since a resumed run keeps its backend
        self.backend, self.why_backend = (choice.backend, choice.reason) if choice else ("torch", "as asked")

    def _last_good(self) -> str:
        if self.saved is None:
            return "No checkpoint was written before it"
        return f"The last good checkpoint is {self.folder.checkpoint}, after step {self.saved[0]}"

    def _epochs(self) -> Measured | None:
        measured = None
        while not self._is_over():
            self.pauses.check()
            if self.trainer.epoch == self.epochs_measured:
                self._epoch()
            measured = self._after_epoch()
            self.epochs_measured += 1
            if self.pauses.after_epoch(self.trainer.step) or self.improved or self._is_over():
                self._save()
            if not self._is_over():
                self._stop_without_reader()
        return measured

    def _is_over(self) -> bool:
        return self.epochs_measured >= self.last_epoch or self._stopped_early()

    def _stopped_early(self) -> bool:
        early = self.best.is_over(self.epochs_measured, self.config.early_stopping)
        return early and self.epochs_measured < self.last_epoch

    def _save(self) -> None:
        """Write a checkpoint; the ranks add their generators' states, rank 0 writes."""
        self.trainer.check_weights()
        # Not in the middle of the next epoch, nor after it.
        own = self.improved and self.trainer.fresh and self.trainer.epoch == self.epochs_measured
        state = {
            **self.trainer.state_dict(),
            "classes": list(self.indexes.classes),
            "epochs_measured": self.epochs_measured,
            "best": self.best.state_dict(own=own),
            "changed": self.changed,
            "seconds": {"wall": self._wall_s(), "validation": self.validation_s},
        }
        self.folder.flush()
        if self.shard.rank == 0:
            save_checkpoint(state, self.folder.checkpoint)
            if own:
                link_checkpoint(self.folder.checkpoint, self.folder.path / BEST)
        self.saved = self._reached()
        self.pauses.saved()

    def _reached(self) -> tuple[int, int]:
        return self.trainer.step, self.epochs_measured

    def _finish(self, measured: Measured | None) -> dict[str, Any]:
        warn_clipping_without_effect(self.config, float(self.trainer.largest_norm))
        # A resumed run that had ended measured nothing; one that stops early lacks the raw weights' values.
        summary = self._summary(self._with_raw(measured) if measured else self._measure(raw=True))
        self.folder.write_summary(summary)
        if "note" in summary:
            self.show.line(f"note: {summary['note']}")
        self.show.last(conclusion(summary, self.metrics.shown, self.best))
        return summary

    def _announce(self) -> None:
        c = self.config
        sizes = (len(self.indexes.train), len(self.indexes.classes), self.trainer.steps_per_epoch)
        told = announcement(
            c,
            self.changes,
            *sizes,
            self.shard.world_size,
            self.device,
            task=self.indexes.task,
            of_task=self.of_task,
        )
        for line in told:
            self.show.line(line)
        for line in (*self.started, *self.trainer.frozen_words()):
            self.show.line(line)
        if self.indexes.note:
            self.show.line(self.indexes.note)
        for line in self._left_out_of_map():
            self.show.line(line)
        self.show.line(f"backend: {self.backend} ({self.why_backend})")
        self.show.line(f"run folder: {self.folder.path}")
        for line in filter(None, (self.resumed, self.best_note, self.last_note)):
            self.show.line(line)
        for change in self.changed:
            self.show.line("changed after step {step}: {key} {before} -> {after}".format(**change))
        if self.options.extrapolate_from:
            self.show.line(
                f"only the first {self.last_epoch} of {c.epochs} epochs are trained: the time to train is "
                "extrapolated by our own formula"
            )
        self._stop_without_reader()

    def _left_out_of_map(self) -> Iterator[str]:
        names = self.indexes.classes
        for split, images in (("validation", self.indexes.validation), ("test", self.indexes.test)):
            if isinstance(images, TablePart) and images.task == "multi-label":
                yield from filter(
                    None, [absent_words(labels_without_images(images.labels, names), names, split)]
                )

    def _stop_without_reader(self) -> None:
        """Raise StoppedError, on all ranks, when nobody reads the output of rank 0 any more (`| head`)."""
        if maxima([int(self.show.closed)])[0]:
            raise StoppedError(signal.SIGPIPE)

    def _epoch(self) -> None:
        trainer, epoch = self.trainer, self.trainer.epoch
        last = None

        def watch(clock: EpochClock, resolution: int, logs: list[StepLog]) -> None:
            nonlocal last
            for log in logs:
                last = log.loss if math.isfinite(log.loss) else None
                self._log_step(epoch, clock, log, last)
            self.show.step(
                loss=last,
                images_per_s=clock.images_per_s,
                wait_share=clock.wait_share,
                resolution=resolution,
            )

        steps = trainer.steps_per_epoch
        done = trainer.step - epoch * steps
        self.show.start_epoch(epoch, self.config.epochs, steps, done=done, last_epoch=self.last_epoch)
        try:
            trainer.train_epoch(watch)
        finally:
            self.show.end_epoch()
            self.folder.flush()

    def _log_step(self, epoch: int, clock: EpochClock, log: StepLog, loss: float | None) -> None:
        self.folder.log("step", log.step, step_record(epoch, clock, log, loss, self.device))
        if loss is None:
            limit = self.config.skip_nonfinite
            self.show.line(f"step {log.step} skipped: loss {log.loss} ({self.trainer.skipped} of {limit})")

    def _after_epoch(self) -> Measured:
        epoch, clock = self.epochs_measured, self.trainer.clock
        measured = self._measure(raw=self.config.validate_raw or epoch + 1 == self.last_epoch)
        loss = self.trainer.loss_sum / max(1, self.trainer.losses)
        self.folder.log("epoch", self.trainer.step, epoch_record(epoch, loss, clock, measured))
        self.folder.flush()
        before, self.best = self.best, self.best.after(epoch + 1, measured.values[self.best.metric.key])
        self.improved = self.best is not before
        line = epoch_line(epoch, self.config.epochs, loss, clock, measured, self.metrics.shown)
        self.show.line(f"{line}{'  best' if self.improved else ''}{self.show.run_left()}")
        return measured

    def _measure(self, *, raw: bool) -> Measured:
        measured = measure(self.trainer, self.validation, raw=raw)
        self.validation_s += measured.seconds
        return measured

    def _with_raw(self, measured: Measured) -> Measured:
        whole = with_raw(self.trainer, self.validation, measured)
        self.validation_s += whole.seconds - measured.seconds
        return whole

    def _summary(self, measured: Measured) -> dict[str, Any]:
        test = None
        if self.indexes.test is not None:
            loader = eval_loader(self.config, self.indexes.test, self.shard, self.device)
            test = measure(self.trainer, loader, raw=False)
        wall_s, seconds = self._wall_s(), self.trainer.epoch_seconds
        longer = extrapolation_record(seconds, self.config.epochs) if self.options.extrapolate_from else {}
        return {
            **summary_record(self.trainer, measured, test, self.indexes.classes),
            "best": self.best.summary(),
            "stopped_early": self.epochs_measured if self._stopped_early() else None,
            "backend": self.backend,
            "processes": self.shard.world_size,
            "fit_to_data": {key: list(change) for key, change in self.changes.items()},
            "changed_on_resume": self.changed,
            "validation_s": round(self.validation_s, 3),
            "wall_s": round(wall_s, 3),
            **cost_record(wall_s, self.options),
            **longer,
        }

    def _wall_s(self) -> float:
        return self.wall_before_s + time.perf_counter() - self.started_s
