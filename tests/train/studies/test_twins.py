"""Runs that tables have in common: taken only where nothing that decides a run differs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastpipe.train.cli import parse
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.studies.catalogue import EXPERIMENTS
from fastpipe.train.studies.design import Scale
from fastpipe.train.studies.execute import Executor
from fastpipe.train.studies.folder import COMMAND, SUMMARY, finished, open_study
from fastpipe.train.studies.results import collect
from fastpipe.train.studies.scale import PlannedRun, planned
from fastpipe.train.studies.schedule import work
from fastpipe.train.studies.twins import TAKEN_FROM, Twins

FACTS = {"train": 3068, "validation": 341, "test": 372, "classes": ["a", "b"]}
EXECUTOR = Executor(parse=parse, data="photos", held_out=0.1)


def resolve(run: PlannedRun) -> TrainConfig | None:
    return EXECUTOR.resolved(run, 3068)


def do(output: Path, name: str, *, facts: dict[str, object] = FACTS, seeds: int = 1) -> list[str]:
    """Run a table with runs that only pretend; returns those that were trained."""
    folder = output / f"{name}-small"
    open_study(folder, name, "small", "photos", facts)
    trained: list[str] = []

    def pretend(run: PlannedRun, place: Path) -> int:
        trained.append(run.name)
        (place / SUMMARY).write_text(json.dumps({"top1": 0.5, "test_top1": 0.25, "epochs": run.epochs}))
        return 0

    twins = Twins(output=output, scale="small", facts=facts, resolve=resolve)
    runs = planned(EXPERIMENTS[name], "small", seeds=seeds)
    work(folder, runs, pretend, machine={"cpus": 2.0}, say=lambda text: None, twins=twins)
    assert all(finished(folder, run) for run in runs)
    return trained


def test_table_7_takes_the_rows_of_tables_4_and_6(tmp_path: Path) -> None:
    assert len(do(tmp_path, "table4")) == 4
    assert do(tmp_path, "table6") == ["alpha-0.25-450/seed-1", "alpha-1.0-450/seed-1", "alpha-1.0-810/seed-1"]
    assert do(tmp_path, "table7") == ["every-10-180/seed-1", "every-10-450/seed-1"]
    found = collect(tmp_path / "table7-small", EXPERIMENTS["table7"], planned(EXPERIMENTS["table7"], "small"))
    assert {run.arm: run.taken_from for run in found} == {
        "every-5-180": "table4-small/mixup-180/seed-1",
        "every-10-180": None,
        "every-5-450": "table6-small/alpha-0.25-450/seed-1",
        "every-10-450": None,
    }
    assert all(run.settings["sam.interval"] in ("5", "10") and run.values["top1"] == 25.0 for run in found)
    assert not list(tmp_path.rglob(".seed-*"))


def test_a_twin_of_a_twin_names_the_run_that_was_trained(tmp_path: Path) -> None:
    do(tmp_path, "table7")
    do(tmp_path, "table4")
    (tmp_path / "table7-small/every-5-180/seed-1" / SUMMARY).unlink()
    do(tmp_path, "table7")
    (tmp_path / "table7-small/study.json").unlink()  # so that only the copy is left to be found
    again = tmp_path / "table7-small/every-5-180/seed-1" / COMMAND
    assert TAKEN_FROM not in json.loads(again.read_text())  # it had begun on its own
    assert json.loads((tmp_path / "table4-small/mixup-180/seed-1" / COMMAND).read_text())[TAKEN_FROM] == (
        "table7-small/every-5-180/seed-1"
    )


def test_other_seeds_and_other_images_are_not_taken(tmp_path: Path) -> None:
    do(tmp_path, "table4")
    assert "every-5-180/seed-2" in do(tmp_path, "table7", seeds=2)
    elsewhere = tmp_path / "elsewhere"
    do(elsewhere, "table4", facts={**FACTS, "validation": 340})
    assert "every-5-180/seed-1" in do(elsewhere, "table7")


def test_an_unfinished_run_is_not_taken(tmp_path: Path) -> None:
    do(tmp_path, "table4")
    (tmp_path / "table4-small/mixup-180/seed-1" / SUMMARY).write_text('{"top1": 0.')
    assert "every-5-180/seed-1" in do(tmp_path, "table7")


def test_a_run_of_an_earlier_version_is_not_taken(tmp_path: Path) -> None:
    do(tmp_path, "table4")
    path = tmp_path / "table4-small/mixup-180/seed-1" / COMMAND
    noted = json.loads(path.read_text())
    path.write_text(json.dumps({**noted, "settings": {**noted["settings"], "train_resolution": "48"}}))
    assert "every-5-180/seed-1" in do(tmp_path, "table7")


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", "13"), ("sam.interval", "6"), ("seed", "9"), ("mixup_alpha", "0.3"), ("precision", "fp32")],
)
def test_a_run_that_differs_in_one_key_is_another_run(key: str, value: str) -> None:
    (run,) = planned(EXPERIMENTS["table4"], "small", seeds=1, only=["mixup-180"])
    other = replace(run, options={**run.options, key: value})
    assert resolve(other) != resolve(run)


def test_a_key_that_fitting_leaves_alone_when_it_is_given_makes_another_run() -> None:
    (run,) = planned(EXPERIMENTS["table4"], "small", seeds=1, only=["mixup-180"])
    same_value = replace(run, options={**run.options, "optimizer.lr": "2.048"})
    assert resolve(same_value) != resolve(run)


@pytest.mark.parametrize(("name", "scale"), [("table2", "small"), ("figure1", "imagenet")])
def test_what_trains_no_model_or_not_to_its_end_has_no_twin(name: str, scale: Scale) -> None:
    runs = planned(EXPERIMENTS[name], scale, seeds=1)
    without = [run for run in runs if run.timed or "extrapolate_from" in run.options]
    assert without and all(resolve(run) is None for run in without)
