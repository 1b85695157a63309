"""--report and --evaluate --html: pages of whole, half-written, torn, hostile and repeated runs."""

from __future__ import annotations

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastpipe.errors import ArgumentError
from fastpipe.page.markup import EMPTY
from fastpipe.train.cli import main
from fastpipe.train.commands.evaluate import run as evaluate_command
from fastpipe.train.evaluate import Evaluated, evaluate
from fastpipe.train.measure.sheet import write_sheet
from fastpipe.train.pages.chart import Line, chart, thinned
from fastpipe.train.pages.curves import of_epochs, other_measures
from fastpipe.train.pages.evaluation import evaluation_page
from fastpipe.train.pages.reading import read_run
from fastpipe.train.pages.run import run_page
from fastpipe.train.pages.seeds import seeds_page

EVIL = "<script>alert('x')</script>\"&<img src=x onerror=alert(1)>"
CLASSES = ("a", "b", "<i>c&")
SECTIONS = ("classes", "confusion", "calibration", "mistakes")


class Reader(HTMLParser):
    """Checks that tags close in order, and collects tags, attributes and text."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def sections(self) -> list[str]:
        return [str(attributes["id"]) for tag, attributes in self.tags if tag == "section"]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def is_harmless(page: str) -> None:
    """No script, no address outside the page, no handler; the browser is told to refuse them."""
    found = Reader(page)
    assert {tag for tag, _ in found.tags} & {"script", "iframe", "link"} == set()
    for _, attributes in found.tags:
        assert not [key for key in attributes if key.startswith("on")]
        source = attributes.get("src") or "data:"
        assert source.startswith("data:")
    assert re.findall(r"(?:https?:)?//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", page)) == []
    policies = [attributes["content"] for _, attributes in found.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for split, count in (("train", 6), ("val", 5), ("test", 4)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3)) + 50 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def seeds(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of --seeds 2."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    sizes = ("--train-resolution", "32", "--epochs", "2", "--batch-size", "6", "--num-workers", "0")
    options = ("--model", "test_resnet", "--backend", "torchvision", "--ema", "null", "--seeds", "2")
    where = ("--data", str(photos), "--output-dir", str(folder))
    assert main(["--recipe", "mild", *sizes, *options, *where]) == 0
    return folder


@pytest.fixture
def run(seeds: Path, tmp_path: Path) -> Path:
    """One of its runs, to be changed."""
    return Path(shutil.copytree(seeds / "seed-42", tmp_path / "run & co"))


def reported(folder: Path, *more: str) -> str:
    assert main(["--report", str(folder), *more]) == 0
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_whole_run_has_every_section(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "profile.html").write_text("a profile")
    page = reported(run)
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "report.html")
    found = Reader(page)
    of_splits = [f"{split}-{name}" for split in ("validation", "test") for name in SECTIONS]
    assert found.sections == ["result", "curves", *of_splits, "settings", "environment"]
    is_harmless(page)
    summary = json.loads((run / "summary.json").read_text())
    for figure in (f"{summary['top1']:.3f}", f"{summary['test_top1']:.3f}", "2 of 2 epochs", str(photos)):
        assert figure in found.text
    for key, value in json.loads((run / "environment.json").read_text()).items():
        assert value is None or (key in found.text and str(value) in found.text)
    assert [a["href"] for tag, a in found.tags if tag == "a"][-1] == "profile.html"
    wrong = round(15 * (1 - summary["top1"])) + round(12 * (1 - summary["test_top1"]))
    assert sum(tag == "img" for tag, _ in found.tags) == wrong > 0
    assert "fastpipe-train --recipe" in found.text and f"'{run / 'config.yaml'}'" in found.text


def test_the_test_accuracy_of_the_page_is_that_of_the_run(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    tiles = re.findall(r"<b>([\d.]+)</b><span>top-1</span>", reported(run))
    assert tiles == [f"{summary['top1']:.3f}", f"{summary['test_top1']:.3f}"]


def test_a_page_without_photos_says_so(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (run / "config.yaml").read_text().replace(str(photos), "/no/photos")
    (run / "config.yaml").write_text(config)
    found = Reader(reported(run))
    assert found.sections == ["result", "curves", "settings", "environment", "missing"]
    assert "perhaps since the images are gone" in found.text and "/no/photos" in found.text
    assert "is not measured" in capsys.readouterr().err
    assert "test-mistakes" in Reader(reported(run, "--data", str(photos))).sections
    assert "as asked (--no-measure)" in Reader(reported(run, "--no-measure")).text


def test_a_half_written_run(run: Path) -> None:
    """Killed in its second epoch: no summary, a torn line, no environment."""
    for name in ("summary.json", "environment.json", "last.ckpt"):
        (run / name).unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    ends = [place for place, line in enumerate(lines) if '"kind": "epoch"' in line]
    (run / "metrics.jsonl").write_text("\n".join([*lines[: ends[0] + 2], lines[-1][:25]]))
    found = Reader(reported(run))
    assert "has not finished: 1 of 2 epochs" in found.text and "last.ckpt" in found.text
    assert found.sections == ["result", "curves", "settings", "missing"]
    assert "damaged" not in found.text
    (run / "metrics.jsonl").write_text("\n".join(lines[: ends[0]]))
    assert "no epoch has ended yet" in Reader(reported(run)).text
    (run / "metrics.jsonl").write_text("")
    assert Reader(reported(run)).sections == ["result", "settings", "missing"]


def test_what_is_damaged_is_named(run: Path) -> None:
    (run / "summary.json").write_text('{"top1": 0.')
    (run / "config.yaml").write_text("a: [")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    torn = ["{}", '{"kind": "epoch"}', '["kind"]', "null", '{"kind": ']
    (run / "metrics.jsonl").write_text("\n".join([*torn, *lines]) + "\n")
    text = Reader(reported(run)).text
    assert "5 damaged lines" in text and "config.yaml cannot be read" in text
    assert "summary.json cannot be read" in text and "does not name the data" in text


def test_numbers_that_are_none_are_gaps(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["loss"] = math.nan
        line["images_per_s"] = "fast"
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = reported(run, "--no-measure")
    assert not re.search(r"\bnan\b|\binf\b|None|fast<", page)
    assert "Learning rate" in page and "<figcaption>Loss" not in page


def test_hostile_names_stay_text(run: Path) -> None:
    for name in ("config.yaml", "summary.json", "environment.json"):
        if name.endswith(".json"):
            values = json.loads((run / name).read_text())
            (run / name).write_text(json.dumps(_planted(values)))
        else:
            (run / name).write_text(json.dumps({"model": EVIL, "data": EVIL, "recipe": EVIL, EVIL: EVIL}))
    page = reported(run)
    is_harmless(page)
    assert Reader(page).text.count("alert('x')") > 5


def _planted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _planted(item) for key, item in value.items()}
    return EVIL if isinstance(value, str) else value


def test_a_folder_of_seeds(seeds: Path) -> None:
    page = reported(seeds)
    is_harmless(page)
    found = Reader(page)
    assert found.sections == ["spread", "runs", "curves"]
    results = json.loads((seeds / "seeds.json").read_text())
    assert f"{results['statistics']['top1']['mean']:.3f}" in found.text
    for name in ("seed-42", "seed-43"):
        assert page.count(f"<td>{name}</td>") == 1 and page.count(f"</i>{name}</span>") == 2
    results["seeds"].append(44)
    torn = seeds_page(seeds, {**results, "statistics": {"top1": None}}, [])
    assert "it has not finished" in Reader(torn).text and "curves" not in Reader(torn).sections


def test_a_checkpoint_of_a_run_is_reported(run: Path) -> None:
    shutil.copy(run / "last.ckpt", run / "best.ckpt")
    (run / "last.ckpt").unlink()
    assert main(["--report", str(run / "best.ckpt"), "--output", str(run / "best.html")]) == 0
    assert "validation-classes" in Reader((run / "best.html").read_text()).sections


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--report", "no/such"), "which does not exist"),
        (("--report", "."), "holds none of config.yaml"),
        (("--report", ".", "--output", "no/x.html"), "--output must name a file that can be written"),
    ],
)
def test_what_is_no_run(
    args: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(list(args)) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_evaluate_writes_a_page_and_a_sheet(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html, sheet = tmp_path / "e.html", tmp_path / "s.png"
    measure = ["--evaluate", str(run / "last.ckpt"), "--data", str(photos), "--json"]
    assert main([*measure, "--html", str(html), "--sheet", str(sheet), "--mistakes", "2"]) == 0
    found = json.loads(capsys.readouterr().out)["weights"]["raw"]
    page = html.read_text()
    is_harmless(page)
    assert Reader(page).sections[0] == "weights"  # two splits side by side
    mistakes = [one for split in found.values() for one in split["mistakes"]]
    for one in mistakes:
        assert one["path"] in Reader(page).text
    assert sum(tag == "img" for tag, _ in Reader(page).tags) == len(mistakes)
    with Image.open(sheet) as picture:
        assert picture.format == "PNG" and picture.width == 1164
    for option, path in (("--sheet", "s.gif"), ("--sheet", "no/s.png"), ("--html", "no/e.html")):
        assert main([*measure, option, str(tmp_path / path)]) == 2
        assert option in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="--mistakes must be a number from 0"):
        evaluate_command([*measure, "--mistakes", "-1"])


def test_a_picture_that_is_gone_is_said(run: Path, photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(photos, tmp_path / "copy"))
    found = evaluate(run / "last.ckpt", str(copy))
    shutil.rmtree(copy)
    page = run_page(read_run(run), found)
    assert "cannot be read any more" in Reader(page).text
    assert not [tag for tag, _ in Reader(page).tags if tag == "img"]


def test_a_line_breaks_at_a_gap_and_stays_inside() -> None:
    points = [(1.0, 2.0), (2.0, None), (3.0, 4.0), (4.0, 5.0)]
    drawn = chart("Loss", [Line(name="x", points=points)], from_zero=False)
    assert drawn.count("<path") == 2 and drawn.count("<circle") == 3
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', drawn)]
    assert heights == sorted(heights, reverse=True) and heights[-1] >= 10 and heights[0] <= 200
    assert chart("Loss", [Line(name="x", points=[(1.0, None)])]) == EMPTY
    for one in ([(0.0, 0.0)], [(1.0, 7.0)], [(1.0, -3.0), (2.0, -1e-9)], [(1.0, 1e30), (2.0, 1e-30)]):
        assert "<svg" in chart("x", [Line(name="x", points=one)])


def test_long_lines_are_averaged() -> None:
    points = [(float(i), None if i >= 4000 else float(i)) for i in range(5000)]
    found = thinned(points)
    assert len(found) <= 400
    assert found[0] == (6.0, 6.0) and found[-1][1] is None


def test_measures_of_other_labels_are_drawn_and_listed(run: Path) -> None:
    """A run with --metric, and one whose labels are not classes."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    extra = {"macro_f1": 0.5, "macro_f1_raw": 0.25, "rmse": 12.5, "best": True}
    lines = [{**line, **extra} if line["kind"] == "epoch" else line for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_run(run)
    assert other_measures(found.epochs) == ["macro_f1", "rmse"]
    record = {"model": "m", "data": "d", "checkpoint": "c", "device": "cpu", "precision": "fp32"}
    split = {"images": 4, "mAP": 0.75, "broken_samples": {}}
    evaluated = Evaluated(record={**record, "weights": {"ema": {"validation": split}}}, splits={})
    page = Reader(run_page(found, evaluated))
    assert "validation-measures" in page.sections and "mAP" in page.words and "0.75" in page.words
    assert "macro_f1, 1: 0.5" in page.words and "macro_f1_raw, 1: 0.25" in page.words
    assert "validation-measures" in Reader(evaluation_page(evaluated)).sections
    with pytest.raises(ArgumentError, match="a model without classes"):
        write_sheet(evaluated, str(run / "s.png"))


def test_epochs_are_counted_from_one() -> None:
    assert of_epochs([{"epoch": 0, "top1": 0.5}, {"epoch": 2, "top1": None}], "top1") == [
        (1.0, 0.5),
        (3.0, None),
    ]
