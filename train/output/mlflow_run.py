"""MLflow in addition to metrics.jsonl and TensorBoard, with `--mlflow EXPERIMENT`.

Numbers go where MLflow itself looks: the variable MLFLOW_TRACKING_URI, or its local store in the working
folder. A run there is one run folder: its id is kept in `mlflow-id.txt`, so that a resumed run continues it.
It ends as FINISHED, FAILED or, by a signal, KILLED; only a process that is killed outright leaves it RUNNING.
Points of steps that a resumed run repeats stay beside the new ones.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError, MissingExtraError
from fastpipe.system.stop_signals import before_the_end
from fastpipe.train.config.keys import config_to_dict
from fastpipe.train.config.schema import TrainConfig

_ID_FILE = "mlflow-id.txt"
# MLflow's own limits for one request: 1000 metrics, 100 parameters. A request a step would slow training.
_MOST_METRICS, _MOST_PARAMS = 1000, 100


def import_mlflow() -> Any:
    """The module mlflow. Raises MissingExtraError without it."""
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtraError("mlflow", "mlflow", "--mlflow") from error
    return mlflow


class MlflowRun:
    """A run of MLflow that takes the numbers of a run folder."""

    def __init__(self, experiment: str, folder: Path, config: TrainConfig) -> None:
        self._mlflow, kept = import_mlflow(), folder / _ID_FILE
        self._waiting: list[Any] = []
        self._finished = self._warned = False
        self._id = ""
        try:
            self._client = self._mlflow.MlflowClient()
            with before_the_end(partial(self.close, stopped=True)):
                self._open(experiment, folder, config, kept)
        except Exception as error:  # mlflow has many kinds: no server, a deleted experiment, a wrong name
            self.close()  # it may be made, and take no parameters
            raise ArgumentError(
                f"--mlflow {experiment!r}: MLflow did not start a run: {error}. Check the variable "
                "MLFLOW_TRACKING_URI, such as sqlite:///mlflow.db or http://HOST:5000"
            ) from error

    def _open(self, experiment: str, folder: Path, config: TrainConfig, kept: Path) -> None:
        """Continue the folder's run, or make one; parameters cannot change, and are logged once."""
        if kept.exists():
            before = kept.read_text(encoding="utf-8").strip()
            self._client.update_run(before, status="RUNNING")
            self._id = before
            return
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        self._id = str(self._client.create_run(number, run_name=folder.name).info.run_id)
        params = [
            self._mlflow.entities.Param(key, str(value)) for key, value in _flat(config_to_dict(config))
        ]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _MOST_PARAMS])
        kept.write_text(self._id + "\n", encoding="utf-8")

    def log(self, kind: str, step: int, values: Mapping[str, float | int | None]) -> None:
        """The numbers of a step or an epoch under the names that TensorBoard has; sent in groups."""
        known = {f"{kind}/{name}": value for name, value in values.items() if value is not None}
        self._add(known, step)
        if kind == "epoch" or len(self._waiting) + len(known) > _MOST_METRICS:
            self._send()

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Log the numbers of summary.json, and its texts as tags; from here on the run counts as finished."""
        numbers = {key: value for key, value in summary.items() if isinstance(value, int | float)}
        self._add({f"summary/{key}": value for key, value in numbers.items()}, 0)
        self._send()
        self._finished = True
        with self._asking():
            for key, value in summary.items():
                if isinstance(value, str):
                    self._client.set_tag(self._id, f"summary.{key}", value)

    def close(self, *, stopped: bool = False) -> None:
        """End the run; without a summary, as a failed one, or a killed one if a signal stopped it."""
        self._send()
        ended = "FINISHED" if self._finished else "KILLED" if stopped else "FAILED"
        if self._id:
            with self._asking():
                self._client.set_terminated(self._id, status=ended)

    def _add(self, values: Mapping[str, float | int], step: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        metric = self._mlflow.entities.Metric
        self._waiting += [metric(key, float(value), now_ms, step) for key, value in values.items()]

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        with self._asking():
            for first in range(0, len(waiting), _MOST_METRICS):
                self._client.log_batch(self._id, metrics=waiting[first : first + _MOST_METRICS])

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """A server that is gone must not end a run of days, nor hide why a run ended."""
        try:
            yield
        except Exception as error:
            if not self._warned:
                warnings.warn(f"MLflow takes no numbers, metrics.jsonl has them: {error}", stacklevel=4)
            self._warned = True


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
