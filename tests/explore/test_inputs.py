"""Run folders and CSV files, whole and damaged, as runs of the page."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

import fastpipe.train
from fastpipe.efficiency.published import POINTS, published_points
from fastpipe.errors import ArgumentError
from fastpipe.explore.collect import Collector
from fastpipe.explore.families import families
from fastpipe.explore.hardware import split_hardware
from fastpipe.explore.payload import payload
from fastpipe.explore.run import IMAGENET, Collection
from fastpipe.explore.settings import flat, identity_of, methods_of
from fastpipe.train import load_recipe
from fastpipe.train.cli import parse
from fastpipe.train.config.keys import config_to_dict
from fastpipe.train.config.recipe import load_recipe as load_file


def collect(*paths, **options):
    return Collector([str(path) for path in paths], published=False, **options).collect()


def test_a_finished_run(make_run, tmp_path):
    make_run("mild/seed-1", seed=1)
    (run,) = collect(tmp_path).runs
    assert (run.id, run.kind, run.family, run.title) == ("mild/seed-1", "own", "mild", "MosaicML Mild")
    assert (run.dataset, run.hardware, run.epochs, run.resolution, run.seed) == ("demo", "cpu", 3, 176, 1)
    assert run.quality == pytest.approx(60.0) and run.finished
    assert run.minutes.text == pytest.approx(3.0), "60 s an epoch, the first one as the second"
    assert run.minutes.mlperf == pytest.approx((70 + 60 + 60 + 18) / 60)
    assert list(run.curve.epochs) == [1, 2, 3] and list(run.curve.quality) == pytest.approx([30, 50, 60])
    assert run.curve.minutes[0] == pytest.approx(76 / 60)
    assert set(run.methods) >= {"bce", "blurpool", "ema", "progressive_resizing"} and "sam" not in run.methods


RECIPES = Path(fastpipe.train.__file__).parent / "recipes"
# What a recipe of ours has and nobody published, and the other way round; the loader is `backend: auto`.
NOT_PUBLISHED = {"timm_a1": {"channels_last"}, "timm_a2": {"channels_last"}, "timm_a3": {"channels_last"}}
NOT_IN_RECIPES = {"mild": {"ffcv"}, "medium": {"ffcv"}, "ffcv": {"ffcv"}}
# Systems of many makers, whose layout of memory is not known.
OTHERS = {"MLPerf ResNet-50 closed": {"channels_last"}}


def test_methods_of_published_runs_are_those_of_the_recipes():
    compared = set()
    for family in families():
        name = family.name
        if not (RECIPES / f"{name}.yaml").exists():
            continue
        recipe, published = flat(config_to_dict(load_recipe(name))), set(family.methods)
        ours = (
            set(methods_of(recipe)) - NOT_PUBLISHED.get(name, set()) - OTHERS.get(family.starts_with, set())
        )
        assert ours == published - NOT_IN_RECIPES.get(name, set()), family.starts_with
        assert (recipe["model"], recipe["train_resolution"]) == (family.model, family.resolution), name
        compared.add(name)
    assert len(compared) == 10


def test_methods_of_every_recipe():
    hot = set(methods_of(flat(config_to_dict(load_recipe("hot")))))
    assert hot >= {"sam", "randaugment", "stochastic_depth", "colout", "mixup"} and "cutmix" not in hot
    assert methods_of(flat(config_to_dict(load_recipe("nvidia_hparams")))) == ()
    assert "cutmix" in methods_of(flat(config_to_dict(load_recipe("timm_a1"))))


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("mild", {"seed": 7}),
        ("mild", {"epochs": 5, "train_resolution": 64, "data": "a b/it's"}),
        ("hot", {"sam": None, "randaugment": None, "mixup_alpha": 0.0}),
        ("nvidia_hparams", {"ema": load_recipe("mild").ema, "sam": load_recipe("hot").sam}),
        ("ffcv", {"epochs": 20, "model": "resnet18"}),
    ],
)
def test_the_command_repeats_the_run(make_run, tmp_path, recipe, changes):
    epochs = changes.pop("epochs", 3)
    folder = make_run("one", recipe=recipe, top1=(0.5,) * epochs, **changes)
    (run,) = collect(tmp_path).runs
    program, *arguments = shlex.split(run.command)
    assert program == "fastpipe-train" and arguments[:2] == ["--recipe", recipe]
    assert parse(arguments).config == load_file(str(folder / "config.yaml"))


def test_the_command_of_an_unknown_recipe_names_its_file(make_run, tmp_path):
    folder = make_run("one")
    text = (folder / "config.yaml").read_text().replace("recipe: mild", "recipe: my own")
    (folder / "config.yaml").write_text(text)
    (run,) = collect(tmp_path).runs
    assert shlex.split(run.command) == ["fastpipe-train", "--recipe", str(folder / "config.yaml")]


def test_seeds_are_one_group_and_other_settings_are_not(make_run, tmp_path):
    make_run("a", seed=1)
    make_run("b", seed=2, output_dir="elsewhere")
    make_run("c", seed=1, blurpool=False)
    a, b, c = (run.group for run in collect(tmp_path).runs)
    assert a == b != c
    config = flat(config_to_dict(load_recipe("mild")))
    assert identity_of(config) != identity_of({**config, "recipe": "other"})


def test_an_unfinished_run_with_a_torn_last_line(make_run, tmp_path):
    folder = make_run("one", finished=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "step": 9, "epoch": 3, "top1": 0.9')
    found = collect(tmp_path)
    (run,) = found.runs
    assert (run.finished, run.epochs, run.quality) == (False, 3, pytest.approx(60.0))
    assert found.problems == []


def test_a_half_written_summary_counts_as_unfinished(make_run, tmp_path):
    folder = make_run("one")
    (folder / "summary.json").write_text('{"top1": 0.')
    found = collect(tmp_path)
    assert not found.runs[0].finished
    assert found.problems == ["one: summary.json is not complete; the run counts as unfinished"]


def test_a_damaged_line_in_the_middle_is_named(make_run, tmp_path):
    folder = make_run("one")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[2] = lines[2][:30]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = collect(tmp_path)
    # The minutes behind the gap are not known: the curve ends before it, and the sum is left out.
    assert list(found.runs[0].curve.epochs) == [1] and found.runs[0].minutes.mlperf is None
    assert found.runs[0].minutes.text is not None  # the summary has that one
    assert found.problems == ["one: metrics.jsonl: 1 damaged lines were left out"]


def test_an_epoch_that_was_run_twice_counts_once(make_run, tmp_path):
    folder = make_run("one", finished=False)
    again = {"kind": "epoch", "step": 1, "epoch": 1, "top1": 0.55, "train_s": 60.0, "validation_s": 6.0}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n")
    (run,) = collect(tmp_path).runs
    assert list(run.curve.quality) == pytest.approx([30, 55, 60])


@pytest.mark.parametrize("top1", [(0.3, None, 0.6), (0.3, float("nan"), 0.6)])
def test_epochs_without_a_finite_accuracy_are_left_off_the_curve(make_run, tmp_path, top1):
    make_run("one", top1=top1)
    (run,) = collect(tmp_path).runs
    assert list(run.curve.epochs) == [1, 3] and "1 epochs without a finite accuracy" in run.notes


def test_a_run_that_diverged_has_no_quality(make_run, tmp_path):
    make_run("one", top1=(0.3, float("nan")))
    assert collect(tmp_path).runs[0].quality is None


def test_a_run_without_its_configuration(make_run, tmp_path):
    folder = make_run("one")
    (folder / "config.yaml").write_text("][")
    found = collect(tmp_path)
    assert (found.runs[0].methods, found.runs[0].command, found.runs[0].family) == ((), "", "mild")
    assert "no config.yaml that can be read" in found.problems[0]


def test_foreign_and_empty_folders_are_named(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    found = collect(tmp_path / "photos")
    assert found.runs == [] and "no run folder in it" in found.problems[0]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.jsonl").write_text('{"epoch": "many"}\nnot json\n[]\n')
    found = collect(tmp_path / "other")
    assert found.runs == [] and "nothing to show yet" in found.problems[-1]


def test_a_folder_named_twice_is_shown_once_and_equal_names_stay_apart(make_run, tmp_path):
    make_run("x/run")
    make_run("y/run", seed=3)
    found = collect(tmp_path / "x", tmp_path / "y", tmp_path / "x" / "run")
    assert [run.id for run in found.runs] == ["run", "run (2)"]
    assert [run.seed for run in found.runs] == [42, 3]
    assert found.problems == [f"{tmp_path / 'x' / 'run'}: named twice, shown once"]


def test_a_run_inside_a_run_is_not_another_run(make_run, tmp_path):
    make_run("one")
    make_run("one/wandb/copy")
    assert [run.id for run in collect(tmp_path).runs] == ["one"]


def test_a_folder_that_disappears_while_it_is_watched(make_run, tmp_path):
    folder = make_run("runs/one")
    collector = Collector([str(tmp_path / "runs")], published=False)
    assert len(collector.collect().runs) == 1
    shutil.rmtree(folder)
    assert "no run folder in it" in collector.collect().problems[0]
    (tmp_path / "runs").rmdir()
    assert collector.collect().problems == [f"{tmp_path / 'runs'}: not there any more"]


def test_a_run_of_another_trainer_ends_while_it_is_watched(tmp_path, monkeypatch):
    """It ends by logging nothing for ten minutes, so no file says so."""
    write_events(tmp_path / "theirs", [30.0, 60.0], ago_s=90.0)
    collector = Collector([str(tmp_path)], published=False)
    assert not collector.collect().runs[0].finished
    later, passed = time.time() + 700.0, time.monotonic() + 700.0
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(time, "monotonic", lambda: passed)
    assert collector.collect().runs[0].finished


def test_a_run_that_goes_on_is_read_again(make_run, tmp_path):
    folder = make_run("one", finished=False)
    collector = Collector([str(tmp_path)], published=False)
    assert collector.collect().runs[0].epochs == 3
    more = {"kind": "epoch", "step": 3, "epoch": 3, "top1": 0.7, "train_s": 60.0, "validation_s": 6.0}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(more) + "\n")
    assert collector.collect().runs[0].quality == pytest.approx(70.0)


def write_events(folder, values, tag="val_acc", ago_s=3600.0):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, value in enumerate(values):
            writer.add_scalar(tag, value, step, walltime=time.time() - ago_s + 60 * step)
            writer.add_scalar("loss", 1.0, step)


def test_a_tensorboard_folder_of_another_trainer(tmp_path):
    write_events(tmp_path / "theirs", [0.25, float("nan"), 0.75])
    (run,) = collect(tmp_path).runs
    assert (run.id, run.title, run.kind, run.finished) == ("theirs", "theirs", "own", True)
    assert list(run.curve.quality) == [25.0, 75.0] and run.quality == 75.0
    assert run.curve.minutes[1] - run.curve.minutes[0] == pytest.approx(2.0, abs=0.01)
    assert run.minutes.stated == pytest.approx(2.0, abs=0.01) and run.curve.minutes[0] >= 0
    assert run.minutes.text is None, "nobody says what its time holds"


def test_a_tensorboard_run_that_still_goes_on_is_not_finished(tmp_path):
    write_events(tmp_path / "theirs", [30.0, 60.0], ago_s=90.0)
    (run,) = collect(tmp_path).runs
    assert not run.finished and list(run.curve.quality) == [30.0, 60.0]


def test_events_without_an_accuracy_and_damaged_ones_are_named(tmp_path):
    write_events(tmp_path / "loss", [1.0], tag="train/loss")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "events.out.tfevents.1").write_bytes(b"not an event file")
    found = collect(tmp_path)
    assert found.runs == [] and [line.split(":")[0] for line in found.problems] == ["loss", "torn"]


def test_imagenet_is_what_the_reader_says_it_is(make_run, tmp_path):
    make_run("one", data="/data/ilsvrc")
    make_run("two", data="demo")
    found = collect(tmp_path, imagenet=["/data/ilsvrc"])
    assert [run.dataset for run in found.runs] == [IMAGENET, "demo"]


def test_a_csv_file_of_the_readers_own(tmp_path):
    shutil.copy(POINTS, tmp_path / "mine.csv")
    found = collect(tmp_path / "mine.csv", tmp_path / "mine.csv")
    assert len(found.runs) == 249 and {run.kind for run in found.runs} == {"own"}
    assert found.problems == [f"{tmp_path / 'mine.csv'}: named twice, shown once"]
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert "must have the columns" in collect(tmp_path / "bad.csv").problems[0]


@pytest.mark.parametrize(("name", "message"), [("none", "does not"), ("a.txt", "the file")])
def test_what_is_not_there_is_refused(tmp_path, name, message):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ArgumentError, match=message):
        Collector([str(tmp_path / name)]).check()


def test_published_seeds_are_one_group_with_their_curves():
    runs = {run.id: run for run in Collector([]).collect().runs}
    mild = [run for run in runs.values() if "'methods')" in run.title and run.notes.startswith("run ")]
    assert len(mild) == 5 and len({run.group for run in mild}) == 1 and mild[0].family == "mild"
    assert [run.minutes.mlperf for run in mild] == [23.554, 24.1, 23.546, 24.54, 23.712]
    assert mild[0].minutes.text == pytest.approx(20.9308, abs=1e-4)
    assert all(run.curve.quality[-1] == run.quality for run in mild)
    others = [run.group for run in runs.values() if not run.notes.startswith("run ")]
    assert len(others) == len(set(others)), "rows of one recipe and different lengths are no seeds"
    assert {run.dataset for run in runs.values()} == {IMAGENET}


def test_what_was_printed_keeps_its_rule_and_its_sign():
    runs = {run.id: run for run in Collector([]).collect().runs}
    logged = [run for run in runs.values() if run.minutes.text and run.minutes.mlperf]
    assert len(logged) == 10 and {run.printed_rule for run in logged} == {"mlperf"}
    by_title = {(run.title, run.bounds) for run in runs.values() if run.bounds}
    assert ("MosaicML Mild", "<=60 epochs, <=60 min, <=78.1 % top-1") in by_title
    assert ("MosaicML Medium", "60-240 epochs, 60-200 min, 78.1-79.5 % top-1") in by_title
    assert ("MosaicML Hot", ">=240 epochs, >=200 min, >=79.5 % top-1") in by_title
    signs = [point for point in published_points() if point.minutes and point.minutes.approximate]
    assert signs and all(point.minutes.text in runs[f"published:{point.line}"].bounds for point in signs)


def test_a_runs_own_price_follows_the_rule_of_time(make_run, tmp_path):
    path = make_run("one") / "summary.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "cost": 2.0, "wall_s": 1800.0}))
    (run,) = collect(tmp_path).runs
    assert run.price_per_hour == pytest.approx(4.0)
    (shown,) = payload(Collection(runs=[run]), (), serving=False, created="")["runs"]
    assert shown["price"] == pytest.approx(4.0) and "price_per_hour" not in shown
    path.write_text(json.dumps({**values, "cost": 2.0}))  # an earlier version
    (run,) = collect(tmp_path).runs
    assert run.price_per_hour is None and run.cost == 2.0


def test_times_by_different_rules_are_told_apart():
    by_title = {(run.title, run.place): run.minutes for run in Collector([]).collect().runs}
    assert by_title["MosaicML Mild (MLPerf)", "reference text"].mlperf == 23.8
    assert by_title["timm a2", "reference text"].text == 501
    assert by_title["vanilla PyTorch", "mosaicml/composer README"].stated == 210


def test_replace_keeps_a_curve_checked():
    curve = Collector([]).collect().runs[-1].curve
    with pytest.raises(ArgumentError, match="equally long"):
        replace(curve, epochs=[1.0])


def test_a_folder_that_nobody_can_read_does_not_hide_the_others(make_run, tmp_path):
    make_run("good")
    for name, config in (
        ("infinite", "recipe: mild\nlr: .inf\n"),
        ("dated", "recipe: mild\nday: 2024-13-45\n"),
    ):
        (make_run(name) / "config.yaml").write_text(config)
    (make_run("huge") / "summary.json").write_text('{"top1": 1' + "0" * 400 + "}")
    found = collect(tmp_path)
    assert [run.id for run in found.runs] == ["good"]
    assert sorted(problem.split(":")[0] for problem in found.problems) == ["dated", "huge", "infinite"]


def test_runs_on_one_and_on_eight_devices_are_not_seeds_of_one_another(make_run, tmp_path):
    for name, count in (("one", 1), ("eight", 8)):
        path = make_run(name) / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "processes": count}))
    assert {run.hardware for run in collect(tmp_path).runs} == {"cpu", "8x cpu"}


@pytest.mark.parametrize(
    ("summary", "environment", "name", "parts"),
    [
        ({"device": "cuda", "processes": 2}, None, "2x cuda", ("2x cuda", "")),
        ({"device": "cpu"}, {"cpu": "AMD EPYC", "cpus_usable": 2.0}, "AMD EPYC, 2 CPUs", ("", "")),
        (
            {"device": "cuda"},
            {"gpu": "NVIDIA A100-SXM4-80GB", "cpu": "AMD EPYC 7742", "cpus_usable": 128, "processes": 8},
            "8x NVIDIA A100-SXM4-80GB, AMD EPYC 7742",
            ("8x A100-SXM-80GB", "AMD EPYC 7742"),
        ),
        ({"device": "cpu"}, "broken", "cpu", ("", "")),
    ],
)
def test_a_run_names_its_machine(make_run, tmp_path, summary, environment, name, parts):
    folder = make_run("one")
    written = json.loads((folder / "summary.json").read_text())
    for key in ("device", "processes"):
        written.pop(key, None)
    (folder / "summary.json").write_text(json.dumps(written | summary))
    if environment is not None:
        (folder / "environment.json").write_text(json.dumps(environment))
    (run,) = collect(tmp_path).runs
    assert run.hardware == name and split_hardware(name) == parts


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "Dell DSS8440x10A100-PCIE-80GB: 10x NVIDIA A100-PCIE-80GB (300W), 2x Intel(R) Xeon(R) Gold 6248R "
            "CPU @ 3.00GHz",
            ("10x A100-PCIE-80GB 300W", "2x Intel Xeon Gold 6248R"),
        ),
        ("MosaicML 8xA100-SXM4-80GB, 2x EPYC 7513", ("8x A100-SXM-80GB", "2x AMD EPYC 7513")),
        ("AWS p4d.24xlarge 8xA100-40GB", ("8x A100-40GB", "AWS p4d.24xlarge")),
        ("8xA100", ("8x A100", "")),
        ("RTX 3090, PyTorch 1.12 CUDA 11.3", ("", "")),
    ],
)
def test_machines_are_spelt_alike(name, parts):
    assert split_hardware(name) == parts
