"""Inputs that are too large, no files, or made to fill the memory: named, left out, and no loss to others."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from fastpipe.efficiency.published import POINTS
from fastpipe.explore.collect import Collector
from fastpipe.explore.limits import FILES, LOGS, SETTINGS

RECORDS = Path(__file__).parents[2] / "benchmarks" / "study"
WANDB = Path(__file__).parent / "data" / "run-m7euk3p3.wandb"


def collect(*paths):
    return Collector([str(path) for path in paths], published=False).collect()


def grow(path: Path, size: int) -> None:
    """A file of one byte more, without its bytes on the disk."""
    with path.open("ab") as file:
        file.truncate(size + 1)


def test_logs_that_are_too_large_are_left_out_and_named(make_run, tmp_path):
    own = make_run("own")
    grow(own / "metrics.jsonl", LOGS)
    for name, files in (
        ("theirs", ["events.out.tfevents.1", "events.out.tfevents.2"]),
        ("wb", ["run-a.wandb"]),
    ):
        (tmp_path / name).mkdir()
        for file in files:
            grow(tmp_path / name / file, LOGS // len(files))
    found = collect(tmp_path)
    (run,) = found.runs
    assert run.finished and not run.curve.epochs and run.quality == pytest.approx(60.0), "of the summary"
    assert found.problems == [
        "own: metrics.jsonl: 128.0 MiB, left out since more than 128 MiB are not read: no curve",
        "theirs: events.out.tfevents.1 and 1 more: 128.0 MiB, left out since more than 128 MiB are not read",
        "wb: run-a.wandb: 128.0 MiB, left out since more than 128 MiB are not read",
    ]


def test_tables_records_and_settings_that_are_too_large(make_run, tmp_path):
    make_run("runs/good")
    grow(make_run("runs/settings") / "config.yaml", SETTINGS)
    grow(make_run("runs/summary", finished=False) / "summary.json", FILES)
    for name in ("points.csv", "record.json"):
        grow(tmp_path / name, FILES)
    found = collect(tmp_path / "runs", tmp_path / "points.csv", tmp_path / "record.json")
    assert [(run.id, run.finished, bool(run.config)) for run in found.runs] == [
        ("good", True, True),
        ("settings", True, False),
        ("summary", False, True),
    ]
    assert [line.partition(": left")[0].split(": ")[1] for line in found.problems] == [
        "config.yaml",
        "summary.json",
        "points.csv",
        "record.json",
    ]


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "summary.json", "environment.json"])
def test_a_pipe_in_a_run_folder_does_not_block(make_run, tmp_path, name):
    folder = make_run("one")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    found = collect(tmp_path)
    assert [run.id for run in found.runs] == ["one"]
    assert (
        name == "environment.json" or f"one: {name} is no regular file and is left out" in found.problems[0]
    )


@pytest.mark.parametrize("name", ["events.out.tfevents.1", "run-a.wandb"])
def test_a_pipe_of_another_trainer_does_not_block(tmp_path, name):
    (tmp_path / "one").mkdir()
    os.mkfifo(tmp_path / "one" / name)
    assert collect(tmp_path).problems == [f"one: {name} is no regular file and is left out"]


@pytest.mark.parametrize(
    ("empty", "more"), [("[1, 2]", "[*{0}, *{0}]"), ("{{a: 1}}", "{{a: *{0}, b: *{0}}}")]
)
def test_aliases_do_not_grow_into_billions_of_settings(make_run, tmp_path, empty, more):
    lines = [f"x0: &x0 {empty.format()}"]
    lines += [f"x{at}: &x{at} " + more.format(f"x{at - 1}") for at in range(1, 60)]
    (make_run("bomb") / "config.yaml").write_text("\n".join(lines))
    found = collect(tmp_path)
    assert [run.config for run in found.runs] == [{}]
    assert found.problems == ["bomb: config.yaml has more than 10,000 values and is left out"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"kind": "fastpipe-study"}',
        '{"kind": "fastpipe-study", "arms": [{"name": [], "config": {}}], "runs": []}',
        '{"kind": "fastpipe-study", "arms": 7}',
        "{}",
        "",
    ],
)
def test_a_damaged_record_hides_no_other_input(make_run, tmp_path, text):
    make_run("runs/good")
    (tmp_path / "bad.json").write_text(text)
    shutil.copy(POINTS, tmp_path / "points.csv")
    found = collect(tmp_path / "bad.json", tmp_path / "runs", tmp_path / "points.csv")
    assert len(found.runs) == 250 and "bad.json" in found.problems[0]


def record(**changes) -> dict:
    """A record of one run, as fastpipe-train study writes it."""
    epochs = [{"epoch": at, "top1": 0.5, "train_s": 5.0, "validation_s": 1.0} for at in range(2)]
    run = {
        "arm": "both-30",
        "seed": 1,
        "summary": {"recipe": "mild", "model": "resnet10t", "data": "photos", "top1": 0.5, "epochs": 2},
        "epochs": epochs,
    }
    config = {"recipe": "mild", "model": "resnet10t", "optimizer": {"lr": 0.5}}
    values = {"kind": "fastpipe-study", "experiment": "table5", "scale": "small", "citation": "Table 5"}
    return {
        **values,
        "arms": [{"name": "both-30", "text_epochs": 30, "config": config}],
        "runs": [{**run, **changes}],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": [1]},
        {"epochs": [{"epoch": "two", "train_s": 1.0}]},
        {"epochs": [{"epoch": 0, "top1": 10**400, "train_s": 1.0}]},
        {"epochs": [3]},
        {"summary": None},
        {"machine": "a CPU"},
        {"machine": {"cpus": "two"}},
        {"arm": "nobody"},
    ],
)
def test_a_record_of_nonsense_is_named_or_shown_without_it(tmp_path, changes):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record(**changes)))
    found = collect(path)
    assert (len(found.runs), len(found.problems)) in ((1, 0), (0, 1))


def test_a_setting_that_is_not_finite_does_not_end_the_page(tmp_path):
    path, good = tmp_path / "record.json", tmp_path / "good.json"
    values = record()
    good.write_text(json.dumps(values))
    values["arms"][0]["config"]["optimizer"]["lr"] = float("nan")
    path.write_text(json.dumps(values))
    found = collect(path, good)
    assert [run.id for run in found.runs] == ["table5-small/both-30/seed-1"] and len(found.problems) == 1


def test_arms_of_one_recipe_are_told_apart_and_an_arm_named_for_its_recipe_is_that_recipe(tmp_path):
    """Otherwise one curve joins what a table compares, and equal runs of two tables count as more seeds."""
    values = record()
    for name in ("mild-90", "both-90"):
        values["arms"].append({**values["arms"][0], "name": name, "text_epochs": 90})
        values["runs"].append({**values["runs"][0], "arm": name})
    (tmp_path / "record.json").write_text(json.dumps(values))
    assert [(run.family, run.title) for run in collect(tmp_path / "record.json").runs] == [
        ("Table 5: both", "Table 5: both-30"),
        ("mild", "MosaicML Mild"),
        ("Table 5: both", "Table 5: both-90"),
    ]


def test_a_record_says_which_machine_made_which_run(tmp_path):
    """Otherwise runs of several machines look alike. Earlier records have one list of machines."""
    values = record(machine={"processor": "a CPU", "cpus": 2.0})
    values["runs"].append(
        {**values["runs"][0], "seed": 2, "machine": {"gpus": 8, "gpu": "A100", "processor": "B"}}
    )
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps(values))
    assert [run.hardware for run in collect(one).runs] == ["a CPU, 2 CPUs", "8x A100, B"]
    for machines, hardware in (([{"processor": "C", "cpus": 4}], "C, 4 CPUs"), ([{}, {}], "not stated")):
        two.write_text(json.dumps({**record(), "machines": machines}))
        assert [run.hardware for run in collect(two).runs] == [hardware]


def test_a_record_takes_nothing_from_folders_that_happen_to_be_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "table5-small/both-30/seed-1"
    here.mkdir(parents=True)
    (here / "environment.json").write_text('{"cpu": "another machine"}')
    (here / "report.html").write_text("another run")
    (tmp_path / "record.json").write_text(json.dumps(record()))
    (run,) = collect("record.json").runs
    assert (run.hardware, list(run.pages), run.place) == ("not stated", [], "record.json")


def test_records_of_loaders_that_were_only_timed_say_so():
    found = collect(RECORDS / "table2-small.json")
    assert found.runs == [] and "no training" in found.problems[0]


def test_settings_of_another_trainer_are_bounded(tmp_path, monkeypatch):
    from fastpipe.explore import limits

    monkeypatch.setattr(limits, "MOST_VALUES", 2)
    (tmp_path / "wb").mkdir()
    shutil.copy(WANDB, tmp_path / "wb")
    found = collect(tmp_path)
    assert found.runs[0].config == {} and "settings, which are left out" in found.problems[0]
