"""From finished runs to a record: one real training, and results worked by hand; the figures in docs/."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy import stats

from fastpipe.efficiency.published import published_points
from fastpipe.explore.collect import Collector
from fastpipe.train.cli import main
from fastpipe.train.studies import scale
from fastpipe.train.studies.catalogue import EXPERIMENTS
from fastpipe.train.studies.chart import Mark, draw, figure_1, study_chart
from fastpipe.train.studies.folder import claim, open_study
from fastpipe.train.studies.loading import time_loading
from fastpipe.train.studies.markdown import as_markdown
from fastpipe.train.studies.record import make_record
from fastpipe.train.studies.results import collect
from fastpipe.train.studies.scale import planned

ROOT = Path(__file__).parents[3]
DATA = {"name": "photos", "train": 20, "validation": 5, "test": 5, "classes": ["a", "b"]}
TOP1 = {  # of the test split: mixup and smoothing beat both in every seed, by different amounts
    "both": (0.70, 0.75, 0.80),
    "mixup": (0.71, 0.76, 0.81),
    "smoothing": (0.72, 0.74, 0.85),
}


def make_study(folder: Path) -> None:
    for run in planned(EXPERIMENTS["table5"], "small"):
        claim(folder, run, {"processor": "a CPU", "cpus": 2.0})
        top1 = TOP1[run.arm.name][run.seed - 1]
        summary = {"top1": 0.1, "test_top1": top1, "time_to_train_s": 66.0, "images_per_s": 50.0}
        epochs = [
            {"kind": "epoch", "epoch": at, "top1": 0.1, "train_s": 5.0, "validation_s": 1.0}
            for at in range(16)
        ]
        place = folder / run.name
        (place / "summary.json").write_text(json.dumps({**summary, "epochs": 16}))
        lines = [json.dumps(epoch) for epoch in epochs]
        (place / "metrics.jsonl").write_text("\n".join([*lines, '{"kind": "epo']))


def record_of(folder: Path) -> dict[str, Any]:
    table = EXPERIMENTS["table5"]
    found = collect(folder, table, planned(table, "small"))
    return make_record(table, found, scale="small", data=DATA, folder=folder)


def test_a_record_has_means_spreads_and_verdicts(tmp_path: Path) -> None:
    make_study(tmp_path)
    record = json.loads(json.dumps(record_of(tmp_path), allow_nan=False))
    both = next(arm for arm in record["arms"] if arm["name"] == "both")
    assert both["found"]["top1"]["mean"] == pytest.approx(75.0)
    assert both["found"]["top1"]["standard_deviation"] == pytest.approx(statistics.stdev((70, 75, 80)))
    assert both["found"]["top1"]["n"] == 3 and both["published"]["top1"] == 75.91
    of = {(c["first"], c["second"], c["metric"]): c for c in record["comparisons"]}
    sure, unsure = of["mixup", "both", "top1"], of["smoothing", "both", "top1"]
    assert (sure["published"], sure["verdict"]) == (0.13, "reproduced")
    assert sure["found"]["mean"] == pytest.approx(1.0)
    assert unsure["verdict"] == "not shown"
    ends = stats.ttest_rel((72, 74, 85), (70, 75, 80)).confidence_interval(0.95)
    assert (unsure["found"]["low"], unsure["found"]["high"]) == pytest.approx((ends.low, ends.high))
    run = record["runs"][0]
    assert run["minutes_mlperf"] == pytest.approx(16 * 6.0 / 60)
    assert run["extrapolation_error"] == pytest.approx(0.0)
    assert record["machines"] == [{"processor": "a CPU", "cpus": 2.0}] == [run["machine"]]


def test_a_run_that_diverged_is_no_figure_and_the_record_is_still_json(tmp_path: Path) -> None:
    make_study(tmp_path)
    diverged = {"top1": math.nan, "test_top1": math.nan, "epochs": 16}
    (tmp_path / "mixup/seed-2/summary.json").write_text(json.dumps(diverged))
    record = record_of(tmp_path)
    json.dumps(record, allow_nan=False)
    mixup = next(arm for arm in record["arms"] if arm["name"] == "mixup")
    assert mixup["found"]["top1"]["n"] == 2
    of = {(c["first"], c["second"], c["metric"]): c for c in record["comparisons"]}
    assert of["mixup", "both", "top1"]["found"]["n"] == 2


def test_the_page_says_what_reproduced(tmp_path: Path) -> None:
    make_study(tmp_path)
    text = as_markdown(record_of(tmp_path), "fastpipe-train study table5")
    assert "**Reproduced:** mixup against both in top-1 (%)." in text
    assert "| both | 16 (30) | 3 | 75.00 ± 5.00 | 75.91 |" in text
    assert (
        "| mixup \N{MINUS SIGN} both | top-1 (%) | +1.00 (+1.00 to +1.00) | 3 | +0.13 | reproduced |" in text
    )


@pytest.mark.parametrize(("seeds", "words"), [(3, ""), (2, " --seeds 2")])
def test_the_command_of_a_record_repeats_its_runs(tmp_path: Path, seeds: int, words: str) -> None:
    folder = tmp_path / "table5-small"
    make_study(folder)
    (folder / "study.json").write_text(json.dumps({"data": DATA}))
    for seed in range(seeds + 1, 4):
        for arm in TOP1:
            shutil.rmtree(folder / arm / f"seed-{seed}")
    assert main(["study", "table5", "--scale", "small", "--output", str(tmp_path), "--report"]) == 0
    text = (folder / "record.md").read_text()
    assert f"`fastpipe-train study table5 --scale small --data photos{words}`" in text


def test_an_empty_study_is_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["study", "table5", "--scale", "small", "--output", str(tmp_path), "--report"]
    assert main(args) == 2
    assert "Found: no study.json" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
    (tmp_path / "table5-small").mkdir()
    (tmp_path / "table5-small" / "study.json").write_text(json.dumps({"data": DATA}))
    assert main(args) == 2
    assert "has no finished run of table5" in capsys.readouterr().err
    (tmp_path / "table5-small" / "study.json").write_text("{")
    assert main(args) == 1
    assert "does not say which data" in capsys.readouterr().err
    assert not list(tmp_path.rglob("record.*"))


def test_a_report_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also from a folder of an earlier version, whose study.json has the place of the data."""
    folder = tmp_path / "table5-small"
    make_study(folder)
    open_study(folder, "table5", "small", "/mnt/gone/photos", {k: v for k, v in DATA.items() if k != "name"})
    args = ["study", "table5", "--scale", "small", "--output", str(tmp_path)]
    assert main(args) == 2
    assert "--data must name the data" in capsys.readouterr().err
    assert main([*args, "--report", "--record", str(tmp_path / "kept.JSON")]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["kept.json", "kept.md", "table5-small"]
    record = json.loads((tmp_path / "kept.json").read_text())
    assert record["data"] == DATA and "--data photos" in (tmp_path / "kept.md").read_text()
    assert record == json.loads((folder / "record.json").read_text())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("there", "Found: the folder"),
        ("new/", "Found: the folder"),
        ("", "must not be empty"),
        ("taken.md", "taken.json', a folder"),
        ("gone/x", "No such file or directory"),
        ("file/x.json", "Not a directory"),
    ],
)
def test_a_record_that_cannot_be_written_is_refused_before_any_training(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there", "taken.json"):
        Path(name).mkdir()
    Path("file").write_text("")
    args = ["study", "table5", "--scale", "small", "--data", "demo", "--output", "out", "--record", given]
    assert main(args) == 2
    said = capsys.readouterr().err
    assert "--record must " in said and message in said
    assert not Path("out").exists() and not list(tmp_path.rglob("*.tmp"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np
    from PIL import Image

    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        for label in range(3):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3)) + 25 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


def test_a_real_study_from_the_command_to_the_explorer(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {"model": "test_resnet", "train_resolution": "32", "num_workers": "0", "backend": "torchvision"}
    monkeypatch.setattr(scale, "SMALL", {**tiny, "batch_size": "8"})
    table5 = EXPERIMENTS["table5"]
    short = [dataclasses.replace(arm, small=2) for arm in table5.arms]
    monkeypatch.setitem(EXPERIMENTS, "table5", dataclasses.replace(table5, arms=short))
    one = ["study", "table5", "--scale", "small", "--data", str(photos), "--output", str(tmp_path)]
    one += ["--seeds", "1", "--only", "smoothing,both", "--record", str(tmp_path / "kept")]
    assert main(one) == 0
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")}
    assert len(before) == 2
    assert main(one) == 0  # nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")} == before
    monkeypatch.setattr(scale, "SMALL", {**tiny, "batch_size": "4"})
    assert main(one) == 2  # the finished runs have other settings
    assert "Name another --output" in capsys.readouterr().err
    record = json.loads((tmp_path / "kept.json").read_text())
    summary = json.loads((tmp_path / "table5-small/smoothing/seed-1/summary.json").read_text())
    values = next(run["values"] for run in record["runs"] if run["arm"] == "smoothing")
    assert values["top1"] == pytest.approx(100 * summary["test_top1"])
    assert str(photos) not in json.dumps(record)  # no place of this machine
    assert "Table 5 at scale small" in (tmp_path / "kept.md").read_text()
    collection = Collector([str(tmp_path / "kept.json")], published=False).collect()
    assert not collection.problems
    shown = {run.id: run for run in collection.runs}
    own = shown["table5-small/smoothing/seed-1"]
    assert own.quality == pytest.approx(100 * summary["top1"]) and own.dataset == photos.name
    assert own.minutes.text is not None and own.minutes.text * 60 == pytest.approx(summary["time_to_train_s"])
    assert "--recipe mild" in own.command and "--model=test_resnet" in own.command


def test_a_table_of_rates_times_loaders(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["study", "table2", "--scale", "small", "--data", str(photos), "--output", str(tmp_path)]
    assert main([*args, "--seeds", "1"]) == 0
    text = capsys.readouterr().out
    assert "**The rates are predicted, not timed on GPUs:**" in text
    record = json.loads((tmp_path / "table2-small/record.json").read_text())
    rates = {run["arm"]: run["values"]["images_per_s"] for run in record["runs"]}
    assert rates["depth-1"] == pytest.approx(12597)  # the published rate that sets the CPUs' worth
    assert rates["depth-0"] > rates["depth-1"] > rates["depth-2"]


@pytest.mark.turbo_built
def test_our_own_loader_is_timed_too(photos: Path) -> None:
    work = EXPERIMENTS["table3"].arm("mild-aws").loading
    assert work is not None and work.backend == "turbo"
    found = time_loading(str(photos), work, held_out=0.1, seed=1)
    assert 0.0 < found["cpu_ms"] < 1000.0


@pytest.mark.parametrize("text", ["{", '{"kind": "other"}', '{"kind": "fastpipe-study", "arms": [{}]}'])
def test_the_explorer_names_a_file_that_is_no_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    collection = Collector([str(path)], published=False).collect()
    assert not collection.runs and str(path) in collection.problems[0]


def _numbers(svg: str) -> Mapping[str, list[tuple[float, float]]]:
    """Series -> (top-1, minutes) as the tooltips of a picture say them."""
    found: dict[str, list[tuple[float, float]]] = {}
    for title in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title"):
        name, colon, rest = (title.text or "").rpartition(": ")
        if colon and rest.endswith(" min"):
            top1, _, _, minutes, _ = rest.split()
            found.setdefault(name, []).append((float(top1), float(minutes)))
    return found


def test_figure_1_has_the_published_points() -> None:
    found = _numbers(figure_1())
    assert found["Mild"] == [(76.6, 25.3), (78.1, 52.4)]
    assert found["Hot"] == [(79.86, 254.0), (80.78, 573.0), (81.03, 980.0)]
    printed = {(p.top1.value, p.minutes.value) for p in published_points() if p.top1 and p.minutes}
    for marks in found.values():
        for top1, minutes in marks:
            assert any(
                a == top1 and b is not None and math.isclose(b, minutes, rel_tol=5e-3) for a, b in printed
            )


def test_marks_lie_where_their_values_are() -> None:
    """Twice the minutes are equally far apart everywhere on a logarithmic axis, and names are escaped."""
    marks = [Mark(minutes=m, top1=t) for m, t in ((10.0, 50.0), (20.0, 60.0), (40.0, 70.0))]
    svg = draw({"<b>": marks}, title="a & b", note="")
    circles = [
        (float(c.attrib["cx"]), float(c.attrib["cy"]))
        for c in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}circle")
    ][:3]
    (x0, y0), (x1, y1), (x2, y2) = circles
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and x1 > x0
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2) and y1 < y0


def test_the_pictures_in_docs_are_those_of_the_figures() -> None:
    spec = importlib.util.spec_from_file_location("study_figures", ROOT / "scripts" / "study_figures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.pictures().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run scripts/study_figures.py"


def test_a_record_without_minutes_has_no_picture(tmp_path: Path) -> None:
    make_study(tmp_path)
    record = record_of(tmp_path)
    assert "<svg" in study_chart(record)
    for arm in record["arms"]:
        del arm["found"]["minutes"]
    assert study_chart(record) == ""


@pytest.mark.parametrize(("scale_of", "verdict"), [("small", "by construction"), ("imagenet", "reproduced")])
def test_the_verdict_of_table_3_is_one_only_where_rates_were_measured(
    tmp_path: Path, scale_of: scale.Scale, verdict: str
) -> None:
    """At scale small both arms do the same work: Hot's ratio is that of the cores, whatever is timed."""
    table = EXPERIMENTS["table3"]
    for number, run in enumerate(planned(table, scale_of)):
        claim(tmp_path, run, {})
        timed = {"cpu_ms": 8.0 + number % 5 / 100, "wall_ms": 9.0}
        measured = {"images_per_s": 900.0 + number % 5 if run.arm.name.endswith("aws") else 1000.0}
        file, values = ("loading.json", timed) if run.timed else ("summary.json", measured)
        (tmp_path / run.name / file).write_text(json.dumps(values))
    found = collect(tmp_path, table, planned(table, scale_of))
    record = make_record(table, found, scale=scale_of, data=DATA, folder=tmp_path)
    assert {one["verdict"] for one in record["comparisons"]} == {verdict}
    text = as_markdown(record, "command")
    assert ("**Reproduced:** " in text) == (verdict == "reproduced")
    assert ("follows from these, whatever was timed" in text) == (verdict == "by construction")


def test_kept_records_say_what_the_code_says_today() -> None:
    """Verdicts and pages are functions of the figures in a record."""
    for path in sorted((ROOT / "benchmarks" / "study").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        text = path.with_suffix(".md").read_text(encoding="utf-8")
        command = next(line for line in text.splitlines() if line.startswith("Command: ")).split("`")[1]
        assert text == as_markdown(record, command), path
        if record["experiment"] == "table3" and record["predicted"]:
            assert {one["verdict"] for one in record["comparisons"]} == {"by construction"}
