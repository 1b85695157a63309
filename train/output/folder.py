"""The run folder: config.yaml, environment.json, metrics.jsonl, summary.json, last.ckpt and events."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from fastpipe.errors import ArgumentError, DataError, MissingExtraError
from fastpipe.system.stop_signals import before_the_end
from fastpipe.train.checkpoint import BEST, PREVIOUS
from fastpipe.train.disk import why_not_written
from fastpipe.train.errors import StoppedError
from fastpipe.train.output.environment import ENVIRONMENT
from fastpipe.train.output.trackers import Tracker

CHECKPOINT = "last.ckpt"
METRICS = "metrics.jsonl"
# TensorBoard shows a running epoch; its own default is two minutes.
_EVENTS_EVERY_S = 10


def make_folder(output_dir: str | None, recipe: str, *, resuming: bool) -> Path:
    """The folder of this run, made: `output_dir`, or runs/<recipe>-<date>-<n> with the first free n.

    Raises ArgumentError when `output_dir` already holds a run and this one does not continue it.
    """
    if output_dir is not None:
        folder = Path(output_dir)
        if any((folder / name).exists() for name in (CHECKPOINT, PREVIOUS, BEST)) and not resuming:
            raise ArgumentError(
                f"output_dir {output_dir!r} already holds a run. Continue it with --resume auto, or name "
                "another folder"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"output_dir {output_dir!r} cannot be created: {error.strerror}") from error
        return folder
    stem = f"{recipe}-{time.strftime('%Y-%m-%d')}"
    for number in range(1, 10_000):
        folder = Path("runs") / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ArgumentError(f"runs/ already holds 9999 runs named {stem}. Give --output-dir")


def _open_lines(path: Path) -> IO[str]:
    # Each line is flushed as it is written, for `tail -f`, and so that a killed run keeps it.
    return path.open("a", encoding="utf-8", buffering=1)


def replace_text(path: Path, text: str) -> None:
    """Write `path` in one move: readers never see half of it.

    Bytes of file names that are not UTF-8 are escaped, in the way that JSON reads back.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(temporary, path)


def _is_before(line: str, step: int, epoch: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:  # the last line of a killed run
        return False
    return bool(entry["epoch"] < epoch if entry["kind"] == "epoch" else entry["step"] < step)


class RunFolder:
    """Writes the files of a run. Numbers go to metrics.jsonl, TensorBoard and `trackers`."""

    def __init__(self, path: Path, *trackers: Tracker) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "train", "Logging of a training run") from error
        self.path, self._trackers = path, trackers
        self.checkpoint = path / CHECKPOINT
        self._failed = False
        with self._writing(METRICS):
            self._metrics = _open_lines(path / METRICS)
        self._events: Any = SummaryWriter(log_dir=str(path), flush_secs=_EVENTS_EVERY_S)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Raises DataError, which names the file and the remedy, if the disk is full."""
        try:
            yield
        except OSError as error:
            self._failed = True
            raise DataError(
                f"{str(self.path / name)!r} could not be written: {why_not_written(error)}. The last "
                "checkpoint is untouched: make room and continue with --resume auto"
            ) from error

    def write_config(self, text: str) -> None:
        """Save the configuration that is actually run."""
        with self._writing("config.yaml"):
            replace_text(self.path / "config.yaml", text)

    def write_environment(self, values: dict[str, Any]) -> None:
        """Save where the run runs; a resumed run's newest place replaces the one before."""
        with self._writing(ENVIRONMENT):
            replace_text(self.path / ENVIRONMENT, json.dumps(values, indent=2) + "\n")

    def log(self, kind: str, step: int, values: dict[str, float | int | None]) -> None:
        """One line `{"kind": ..., "step": ..., **values}`, and one point per number in TensorBoard."""
        with self._writing(METRICS):
            self._metrics.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        with self._writing("events.out.tfevents"):
            for name, value in values.items():
                if value is not None:
                    self._events.add_scalar(f"{kind}/{name}", value, step)
        for tracker in self._trackers:
            tracker.log(kind, step, values)

    def rewind(self, step: int, epoch: int) -> None:
        """Remove the lines of metrics.jsonl after the first `step` steps and `epoch` measured epochs."""
        path = self.path / METRICS
        self._metrics.close()
        kept = [
            line for line in path.read_text(encoding="utf-8").splitlines() if _is_before(line, step, epoch)
        ]
        with self._writing(METRICS):
            replace_text(path, "".join(line + "\n" for line in kept))
            self._metrics = _open_lines(path)

    def flush(self) -> None:
        """Hand everything logged so far to the operating system."""
        with self._writing(METRICS):
            self._metrics.flush()
        with self._writing("events.out.tfevents"):
            self._events.flush()

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Save summary.json in one move: readers never see half of it."""
        with self._writing("summary.json"):
            text = json.dumps(summary, indent=2, ensure_ascii=False)
            replace_text(self.path / "summary.json", text + "\n")
        for tracker in self._trackers:
            tracker.write_summary(summary)

    def close(self, *, stopped: bool = False) -> None:
        """Close the files. A full disk was reported before, and is not reported again.

        stopped: by a signal, which trackers tell apart from a failure.
        """
        try:
            for file in (self._metrics, self._events):
                try:
                    file.close()
                except OSError:
                    if not self._failed:
                        raise
        finally:
            self.end_trackers(stopped=stopped)

    def end_trackers(self, *, stopped: bool) -> None:
        """Tell the trackers alone, as where no time is left for the files."""
        for tracker in self._trackers:
            tracker.close(stopped=stopped)


def open_folder(path: Path, trackers: Iterator[Tracker]) -> RunFolder:
    """The folder with its trackers, which are ended if one of them, or the folder, cannot be opened."""
    found: list[Tracker] = []
    with contextlib.ExitStack() as opened, before_the_end(lambda: _end(found)):
        for tracker in trackers:
            opened.callback(tracker.close)
            found.append(tracker)
        folder = RunFolder(path, *found)
        opened.pop_all()
        return folder


def _end(trackers: Iterable[Tracker]) -> None:
    for tracker in trackers:
        tracker.close(stopped=True)


@contextlib.contextmanager
def closed_at_the_end(folder: RunFolder | NoFolder) -> Iterator[None]:
    """Close the folder whatever ends the block: the last line, an error, or a signal at any moment."""
    stopped = False
    with before_the_end(lambda: folder.end_trackers(stopped=True)):
        try:
            yield
        except (StoppedError, KeyboardInterrupt):
            stopped = True
            raise
        finally:
            folder.close(stopped=stopped)


class NoFolder:
    """The run folder of every rank but the first: it writes nothing."""

    path = checkpoint = Path(CHECKPOINT)

    def write_config(self, text: str) -> None:
        """Write nothing."""

    def write_environment(self, values: dict[str, Any]) -> None:
        """Write nothing."""

    def log(self, kind: str, step: int, values: dict[str, float | int | None]) -> None:
        """Write nothing."""

    def rewind(self, step: int, epoch: int) -> None:
        """Write nothing."""

    def flush(self) -> None:
        """Write nothing."""

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write nothing."""

    def close(self, *, stopped: bool = False) -> None:
        """Write nothing."""

    def end_trackers(self, *, stopped: bool) -> None:
        """There are none."""
