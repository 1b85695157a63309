"""--predict: the answers of --evaluate for images without labels, one row for each, in their order."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastpipe.errors import ArgumentError, DataError
from fastpipe.storage import FolderIndex, demo_splits, open_index, write_beton
from fastpipe.train.checkpoint import load_checkpoint
from fastpipe.train.cli import main
from fastpipe.train.measure.predict import Answer
from fastpipe.train.measure.rows import check_top_k, csv_lines, json_lines
from fastpipe.train.measure.sources import open_sources

CLASSES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for split, count in (("train", 4), ("val", 3)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3)) + 25 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with averaged weights, whose last batch of validation is incomplete."""
    folder = tmp_path_factory.mktemp("runs") / "mild"
    sizes = ("--train-resolution", "32", "--epochs", "1", "--batch-size", "8", "--num-workers", "0")
    options = ("--model", "test_resnet", "--backend", "torchvision", "--optimizer.lr", "0.05")
    where = ("--data", str(photos), "--output-dir", str(folder))
    assert main(["--recipe", "mild", *sizes, *options, *where]) == 0
    return folder


@pytest.fixture
def out(run: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The standard output of the command with these arguments."""

    def said(*args: str, status: int = 0, checkpoint: Path | None = None) -> str:
        capsys.readouterr()
        assert main(["--predict", str(checkpoint or run / "last.ckpt"), *args]) == status
        shown = capsys.readouterr()
        return str(shown.out if status == 0 else shown.err)

    return said


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_the_answers_are_those_of_evaluate(
    weights: str, run: Path, photos: Path, out: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(out(str(photos / "val"), "--weights", weights, "--top-k", "6"))
    assert (
        main(["--evaluate", str(run / "last.ckpt"), "--data", str(photos), "--json", "--mistakes", "99"]) == 0
    )
    found = json.loads(capsys.readouterr().out)["weights"][weights]["validation"]
    paths = [Path(row["path"]) for row in rows]
    assert paths == sorted((photos / "val").rglob("*.jpg"))
    right = [path.parent.name == row["label"] for path, row in zip(paths, rows, strict=True)]
    assert np.float32(sum(right) / len(right)) == np.float32(found["top1"])
    by_path = {str(path.relative_to(photos / "val")): row for path, row in zip(paths, rows, strict=True)}
    assert len(found["mistakes"]) == len(right) - sum(right)
    for one in found["mistakes"]:
        row = by_path[one["path"]]
        assert row["label"] == one["predicted"] != one["label"]
        assert round(float(np.float32(row["probability"])), 6) == one["probability"]
    for row in rows:
        shares = [float(row["probability"]), *(float(row[f"probability{k}"]) for k in range(2, 7))]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1.0, abs=1e-6)
        assert {row["label"], *(row[f"label{k}"] for k in range(2, 7))} == set(CLASSES)


def test_every_source_gives_the_same_numbers(photos: Path, out: Any, tmp_path: Path) -> None:
    val = photos / "val"
    files = sorted(map(str, val.rglob("*.jpg")))
    expected = [(row["label"], row["probability"]) for row in rows_of(out(str(val)))]
    index = open_index(val)
    assert isinstance(index, FolderIndex)
    write_beton(index, tmp_path / "val.beton")
    (tmp_path / "list.csv").write_text("\n".join(["path", *files]) + "\n")
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"path": file}) + "\n" for file in files))
    for given in ([str(tmp_path / "val.beton")], [str(tmp_path / "list.csv")], files):
        rows = rows_of(out(*given))
        assert [(row["label"], row["probability"]) for row in rows] == expected
    mixed = rows_of(out(files[0], str(tmp_path / "val.beton"), str(tmp_path / "list.jsonl"), files[1]))
    assert len(mixed) == 2 * len(files) + 2
    assert [mixed[0]["path"], mixed[-1]["path"]] == files[:2]
    assert mixed[1]["path"] == "a/0.jpg"  # as the file names it


def test_the_demo_is_its_validation_images() -> None:
    (images,) = open_sources(["demo"])
    assert len(images) == sum(path.is_file() for path in Path(demo_splits().validation).rglob("*"))


def test_a_bad_file_keeps_its_row(photos: Path, out: Any, tmp_path: Path) -> None:
    good = photos / "val" / "a"
    torn, gone = tmp_path / "torn.jpg", tmp_path / "gone.jpg"
    torn.write_bytes((good / "0.jpg").read_bytes()[:100])
    given = [str(torn), str(good / "0.jpg"), str(gone), str(good / "1.jpg"), str(torn)]
    for size in ("1", "2", "8"):  # batches of which nothing is left, too
        rows = rows_of(out(*given, "--on-error", "skip", "--batch-size", size, "--num-workers", "0"))
        assert [row["path"] for row in rows] == given
        assert [bool(row["error"]) for row in rows] == [True, False, True, False, True]
        assert [bool(row["label"]) for row in rows] == [False, True, False, True, False]
        assert "on_error" not in rows[0]["error"] and "No such file" in rows[2]["error"]
    lines = [json.loads(line) for line in out(*given, "--on-error", "skip", "--json").splitlines()]
    assert [sorted(line) for line in lines][:2] == [
        ["error", "path"],
        ["label", "path", "probabilities", "probability"],
    ]
    (row,) = rows_of(out(str(torn), "--on-error", "skip"))
    assert row["error"]
    said = out(str(good / "0.jpg"), str(torn), status=1)
    assert "torn.jpg" in said and "--on-error skip" in said and "replace" not in said
    assert "1 of 2 that do not" in out(str(good / "0.jpg"), str(gone), status=2)


def test_what_is_refused_before_any_work(photos: Path, out: Any, tmp_path: Path) -> None:
    image, nothing = str(photos / "val" / "a" / "0.jpg"), tmp_path / "empty"
    nothing.mkdir()
    no_model = tmp_path / "no.ckpt"  # never looked at
    cases = {
        (): "Found: nothing after the checkpoint",
        (str(nothing),): f"{str(nothing)!r} must hold images",
        (image, "--on-error", "replace"): "the prediction of another image",
        (image, "--on-error", "drop"): "must be raise or skip",
        (image, "--output", str(tmp_path / "no" / "x.csv")): "--output must name a file that can be written",
        (image, "--output", str(tmp_path / "x.txt")): "ends in .csv or .jsonl",
        (image, "--output", str(tmp_path / "x.csv"), "--json"): "ends in .jsonl",
    }
    for args, message in cases.items():
        assert message in out(*args, status=2, checkpoint=no_model)
    assert ".jpg, .jpeg, .png" in out(str(nothing), status=2)
    assert "must be one of ema, raw" in out(image, "--weights", "best", status=2)
    assert "must be 1 to 6" in out(image, "--top-k", "7", status=2)
    assert list(tmp_path.iterdir()) == [nothing]


def test_a_file_is_written_in_one_move(photos: Path, out: Any, tmp_path: Path) -> None:
    val, target = str(photos / "val"), tmp_path / "found.jsonl"
    assert out(val, "--output", str(target), "--top-k", "2") == ""
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(lines) == 18 and all(len(line["probabilities"]) == 2 for line in lines)
    table = tmp_path / "found.csv"
    table.write_text("mine")
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"")
    out(val, str(torn), "--output", str(table), status=1)
    assert table.read_text() == "mine" and len(list(tmp_path.iterdir())) == 3


def test_exported_weights_answer_as_their_checkpoint(
    run: Path, photos: Path, out: Any, tmp_path: Path
) -> None:
    val, weights = str(photos / "val"), tmp_path / "model.pt"
    expected = out(val, "--num-workers", "0")
    assert main(["--export", str(run / "last.ckpt"), str(weights)]) == 0
    config = ("--recipe", str(run / "config.yaml"))
    assert out(val, "--num-workers", "0", checkpoint=weights) == expected
    assert out(val, "--num-workers", "0", *config, checkpoint=weights) == expected
    weights.with_suffix(".json").unlink()
    numbered = rows_of(out(val, "--num-workers", "0", *config, checkpoint=weights))
    assert [CLASSES[int(row["label"])] for row in numbered] == [row["label"] for row in rows_of(expected)]
    assert "give --recipe" in out(val, status=2, checkpoint=weights)
    assert "Leave out --recipe" in out(val, "--recipe", "mild", status=2)


def test_a_folder_is_read_to_its_depth_and_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "z/1.jpg", "z/y/2.webp", "a-b/3.jpg", ".hidden.jpg", "note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (images,) = open_sources([str(tmp_path)])
    names = [os.path.relpath(images.images.samples[i][0], tmp_path) for i in range(len(images))]  # type: ignore[union-attr]
    assert names == ["a.png", "b.JPG", "a-b/3.jpg", "z/1.jpg", "z/y/2.webp"]


VALUES = np.array([0.25, 0.5, 0.125], dtype=np.float32)
ANSWERS = [Answer(path="x,1.jpg", values=VALUES), Answer(path="y.jpg", error='torn "here"')]
NAMES = ("a|b", 'say "c"', "d")


def test_the_columns_of_several_labels() -> None:
    lines = "".join(csv_lines(ANSWERS, NAMES, "multi-label", top_k=None, errors=True))
    first, second = rows_of(lines)
    assert first == {
        "path": "x,1.jpg",
        "labels": 'say "c"',
        "a|b": "0.25",
        'say "c"': "0.5",
        "d": "0.125",
        "error": "",
    }
    assert second["error"] == 'torn "here"' and second["labels"] == second["d"] == ""
    found = [json.loads(line) for line in json_lines(ANSWERS, NAMES, "multi-label", top_k=None)]
    assert found[0]["labels"] == ['say "c"'] and found[0]["probabilities"]["d"] == 0.125
    assert found[1] == {"path": "y.jpg", "error": 'torn "here"'}


def test_the_columns_of_a_regression() -> None:
    (row,) = rows_of("".join(csv_lines(ANSWERS[:1], NAMES, "regression", top_k=None, errors=False)))
    assert row == {"path": "x,1.jpg", "a|b": "0.25", 'say "c"': "0.5", "d": "0.125"}
    (line,) = json_lines(ANSWERS[:1], NAMES, "regression", top_k=None)
    assert json.loads(line)["values"] == dict(zip(NAMES, VALUES.tolist(), strict=True))
    with pytest.raises(ArgumentError, match="Found: a model for regression"):
        check_top_k(2, NAMES, "regression")


def test_of_equal_classes_the_first_is_the_answer_and_digits_are_float32s() -> None:
    tied = Answer(path="t", values=np.array([0.1, 0.45, 0.45], dtype=np.float32))
    (row,) = rows_of("".join(csv_lines([tied], ("a", "b", "c"), "classes", top_k=2, errors=False)))
    assert (row["label"], row["label2"]) == ("b", "c")
    assert row["probability"] == "0.45" and np.float32(row["probability"]) == np.float32(0.45)


def test_a_name_that_is_not_utf_8_can_be_printed(photos: Path, out: Any, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.jpg"
    shutil.copy(photos / "val" / "a" / "0.jpg", odd)
    (row,) = rows_of(out(os.fsdecode(odd)))
    assert row["path"].endswith("\\xff.jpg")


def test_help_needs_neither_torch_nor_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--predict", "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and "CKPT" in shown.out and "FILES" in shown.out


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images would be missing without a word."""
    for name in ("a", "b/closed"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    scandir = os.scandir

    def refusing(folder: str) -> Any:
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"b/closed' cannot be read \(Permission denied\)"):
        open_sources([str(tmp_path)])
    assert len(open_sources([str(tmp_path / "a")])[0]) == 1


def test_a_link_that_leads_back_is_named(tmp_path: Path) -> None:
    """Following it would list each image some forty times."""
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(DataError, match="leads back to a folder that contains it"):
        open_sources([str(tmp_path)])
    (tmp_path / "a" / "back").unlink()
    (tmp_path / "other").symlink_to(tmp_path / "a", target_is_directory=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "1.png")
    assert len(open_sources([str(tmp_path)])[0]) == 3


def test_an_output_that_is_read_is_refused(run: Path, photos: Path, out: Any, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"path\n{photos / 'val' / 'a' / '0.jpg'}\n")
    before = listed.read_text()
    (tmp_path / "link.csv").symlink_to(listed)
    for name in ("list.csv", "link.csv"):
        said = out(str(listed), "--output", str(tmp_path / name), status=2)
        assert "--output must not name a file that is read" in said
    assert listed.read_text() == before


def test_pictures_and_pages_replace_nothing_that_is_read(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sheet in a folder of images would be one of them; --html could name the checkpoint."""
    checkpoint = run / "last.ckpt"
    measure = ["--evaluate", str(checkpoint), "--data", str(photos)]
    before = sorted(photos.rglob("*"))
    assert main([*measure, "--sheet", str(photos / "val" / "a" / "sheet.jpg")]) == 2
    assert "--sheet must not name a file among the images" in capsys.readouterr().err
    for args in ([*measure, "--html"], ["--report", str(run), "--output"]):
        assert main([*args, str(checkpoint)]) == 2
        assert "must name a file that ends in .html or .htm. Found" in capsys.readouterr().err
    assert sorted(photos.rglob("*")) == before and load_checkpoint(checkpoint)
    listed = tmp_path / "val.csv"
    image = Path(shutil.copy(photos / "val" / "a" / "0.jpg", tmp_path / "0.jpg"))
    lines = [f"{photos / 'val' / name / '0.jpg'},{name}" for name in CLASSES]
    listed.write_text("\n".join(["path,label", f"{image},a", *lines]))
    assert main(["--evaluate", str(checkpoint), "--data", str(listed), "--sheet", str(image)]) == 2
    assert "--sheet must not name a file among the images" in capsys.readouterr().err


@pytest.fixture
def odd(photos: Path, tmp_path: Path) -> Path:
    """The photos with names of folders and files that are not UTF-8."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/photos\xfe"))
    for file in sorted(photos.rglob("*.jpg")):
        name = os.fsdecode(b"a\xff") if file.parent.name == "a" else file.parent.name
        place = root / file.parent.parent.name / name / os.fsdecode(b"\xfd" + file.name.encode())
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return root


def test_names_that_are_not_utf_8_reach_every_output(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run, its summary, evaluation, pages, predictions; standard output takes UTF-8 alone."""
    written = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", written)
    run = tmp_path / "run"
    sizes = ("--train-resolution", "32", "--epochs", "1", "--batch-size", "8", "--num-workers", "0")
    options = ("--recipe", "mild", "--model", "test_resnet", "--backend", "torchvision")
    assert main([*options, *sizes, "--data", str(odd), "--output-dir", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["data"] == str(odd) and os.fsdecode(b"a\xff") in summary["per_class"]["validation"]
    measure = ["--evaluate", str(run / "last.ckpt"), "--data", str(odd)]
    assert main([*measure, "--html", str(tmp_path / "e.html"), "--sheet", str(tmp_path / "s.png")]) == 0
    assert "a\\xff" in (tmp_path / "e.html").read_text(encoding="utf-8")
    assert main([*measure, "--json"]) == 0
    assert main(["--report", str(run)]) == 0
    assert "photos\\xfe" in (run / "report.html").read_text(encoding="utf-8")
    next((odd / "val" / "b").iterdir()).write_bytes(b"no image")
    for name in ("o.csv", "o.jsonl"):
        answers = ["--predict", str(run / "last.ckpt"), str(odd / "val"), "--on-error", "skip"]
        assert main([*answers, "--output", str(tmp_path / name)]) == 0
        assert main([*answers, *(["--json"] if name == "o.jsonl" else [])]) == 0
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "xfd" in text and "cannot" in text
    written.flush()
    assert "photos\\xfe" in written.buffer.getvalue().decode("utf-8")  # type: ignore[attr-defined]
