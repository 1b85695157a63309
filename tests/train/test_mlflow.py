"""--mlflow, with a module in MLflow's place that keeps what it is told and has its limits.

The module's functions and arguments are those of mlflow.MlflowClient, mlflow.entities.Metric and Param.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from torch import Tensor

from fastpipe.system.stop_signals import end_at_once
from fastpipe.train.cli import main
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.output.folder import METRICS, RunFolder, closed_at_the_end, open_folder
from fastpipe.train.output.mlflow_run import MlflowRun
from fastpipe.train.runner import _Run
from fastpipe.train.step import Updater

SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "4"),
    *("--num-workers", "0", "--backend", "torchvision", "--epochs", "2", "--optimizer.lr", "0.02"),
)


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Param(NamedTuple):
    key: str
    value: str


class Server:
    """Experiments and runs, as MLflow's store keeps them."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: list[dict[str, Any]] = []
        self.requests = 0
        self.down = False

    def get_experiment_by_name(self, name: str) -> Any:
        if name == "forbidden":
            raise ValueError("no such server")
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, experiment_id: str, *, run_name: str) -> Any:
        assert experiment_id in self.experiments.values()
        self.runs.append({"name": run_name, "params": {}, "metrics": [], "tags": {}, "status": "RUNNING"})
        return SimpleNamespace(info=SimpleNamespace(run_id=str(len(self.runs) - 1)))

    def update_run(self, run_id: str, *, status: str) -> None:
        self.runs[int(run_id)]["status"] = status

    def log_batch(self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()) -> None:
        assert len(metrics) <= 1000 and len(params) <= 100, "MLflow's limits"
        if self.down:
            raise ConnectionError("gone")
        run, self.requests = self.runs[int(run_id)], self.requests + 1
        run["metrics"] += metrics
        for param in params:
            assert run["params"].setdefault(param.key, param.value) == param.value, "no parameter changes"

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[int(run_id)]["tags"][key] = value

    def set_terminated(self, run_id: str, *, status: str) -> None:
        self.runs[int(run_id)]["status"] = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made, fake = Server(), ModuleType("mlflow")
    fake.MlflowClient = lambda: made  # type: ignore[attr-defined]
    fake.entities = SimpleNamespace(Metric=Metric, Param=Param)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    return made


@pytest.fixture(scope="module")
def splits(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("splits")
    for split in ("train", "val"):
        (root / split).symlink_to(photos)
    return root


def _args(splits: Path, folder: Path, experiment: str = "photos") -> list[str]:
    return [*SMALL, "--data", str(splits), "--output-dir", str(folder), "--mlflow", experiment]


def test_mlflow_gets_every_number_of_metrics_jsonl_the_configuration_and_the_summary(
    splits: Path, tmp_path: Path, server: Server
) -> None:
    assert main(_args(splits, tmp_path / "run")) == 0
    (run,) = server.runs
    assert server.experiments == {"photos": "0"} and (run["name"], run["status"]) == ("run", "FINISHED")
    assert (run["params"]["optimizer.lr"], run["params"]["model"]) == ("0.02", "test_resnet")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    expected = [
        (f"{line['kind']}/{name}", value, line["step"])
        for line in lines
        for name, value in line.items()
        if name not in ("kind", "step") and value is not None
    ]
    sent = [(m.key, m.value, m.step) for m in run["metrics"] if not m.key.startswith("summary/")]
    assert sent == expected
    assert server.requests < len(lines), "steps are sent in groups"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    final = {m.key: m.value for m in run["metrics"] if m.key.startswith("summary/")}
    assert final["summary/top1"] == summary["top1"] and run["tags"]["summary.backend"] == summary["backend"]


def test_a_resumed_run_goes_on_in_the_same_run_and_a_failed_one_says_so(
    splits: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Updater.train_step

    def killed(self: Updater, images: Tensor, labels: Tensor) -> Tensor:
        if self.step == 4:
            raise OSError("killed")
        return train_step(self, images, labels)

    monkeypatch.setattr(Updater, "train_step", killed)
    assert main(_args(splits, tmp_path / "run")) == 1
    assert [run["status"] for run in server.runs] == ["FAILED"]
    monkeypatch.setattr(Updater, "train_step", train_step)
    again = [*_args(splits, tmp_path / "run"), "--resume", "auto", "--optimizer.lr", "0.01"]
    assert main(again) == 0
    assert [run["status"] for run in server.runs] == ["FINISHED"]


def _statuses(server: Server) -> list[str]:
    return [run["status"] for run in server.runs]


def test_a_run_that_a_signal_stops_is_killed_and_goes_on_when_it_is_resumed(
    splits: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Updater.train_step

    def signalled(self: Updater, images: Tensor, labels: Tensor) -> Tensor:
        if self.step == 4:
            signal.raise_signal(signal.SIGTERM)
        return train_step(self, images, labels)

    monkeypatch.setattr(Updater, "train_step", signalled)
    assert main(_args(splits, tmp_path / "run")) == 143
    assert _statuses(server) == ["KILLED"]
    monkeypatch.setattr(Updater, "train_step", train_step)
    assert main([*_args(splits, tmp_path / "run"), "--resume", "auto"]) == 0
    assert _statuses(server) == ["FINISHED"]


@pytest.mark.parametrize("where", ["rewind", "write_config", "_announce"])
def test_a_run_that_fails_before_its_first_step_has_failed(
    where: str, splits: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> None:
        raise OSError("no room")

    owner = RunFolder if where == "write_config" else _Run
    monkeypatch.setattr(owner, where, fails)
    assert main(_args(splits, tmp_path / "run")) == 1
    assert _statuses(server) == ["FAILED"]


@pytest.mark.parametrize("fails", ["parameters", "folder"])
def test_a_run_that_cannot_be_begun_has_failed(
    fails: str, splits: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fails == "parameters":
        server.down = True
    else:
        (tmp_path / "run" / METRICS).mkdir(parents=True)  # which cannot be written as a file
    assert main(_args(splits, tmp_path / "run")) != 0
    assert _statuses(server) == ["FAILED"]


def test_a_server_that_is_gone_at_the_end_does_not_fail_a_run(
    splits: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*given: Any, **named: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(server, "set_tag", gone)
    monkeypatch.setattr(server, "set_terminated", gone)
    with pytest.warns(UserWarning, match=r"MLflow takes no numbers.*gone") as said:
        assert main(_args(splits, tmp_path / "run")) == 0
    assert len([one for one in said if "MLflow" in str(one.message)]) == 1
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_signal_that_ends_the_program_at_once_ends_the_run_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("fastpipe.system.stop_signals.os._exit", ended.append)
    monkeypatch.setattr("psutil.Process.children", lambda self, recursive: [])
    folder = open_folder(tmp_path, iter([MlflowRun("photos", tmp_path, load_recipe("mild"))]))
    with closed_at_the_end(folder):
        end_at_once(signal.SIGTERM)
        assert (ended, _statuses(server)) == ([143], ["KILLED"])


def test_without_mlflow_the_command_is_printed_before_anything_is_made(
    splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main(_args(splits, tmp_path / "run")) == 2
    assert "pip install mlflow" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_mlflow_refuses_is_said_with_the_remedy(
    splits: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_args(splits, tmp_path / "run", "forbidden")) == 2
    said = capsys.readouterr().err
    assert "--mlflow 'forbidden'" in said and "no such server" in said and "MLFLOW_TRACKING_URI" in said


def test_a_server_that_is_gone_warns_once_and_ends_no_run(server: Server, tmp_path: Path) -> None:
    run = MlflowRun("photos", tmp_path, load_recipe("mild"))
    server.down = True
    with pytest.warns(UserWarning, match=r"MLflow takes no numbers, metrics\.jsonl has them: gone") as caught:
        run.log("epoch", 1, {"top1": 0.5})
        run.log("epoch", 2, {"top1": 0.6})
    assert len(caught) == 1
    server.down = False
    run.log("epoch", 3, {"top1": 0.7, "top5": None})
    run.close()
    assert [(m.key, m.value, m.step) for m in server.runs[0]["metrics"]] == [("epoch/top1", 0.7, 3)]
