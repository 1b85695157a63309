"""`--data` with a CSV or JSON lines: a column `split`, a partner, a held-out share; the run of the folder."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe.errors import ArgumentError, DataError, EmptyDatasetError
from fastpipe.train.cli import main
from fastpipe.train.splits import open_data

SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8"),
    *("--num-workers", "0", "--backend", "torchvision", "--epochs", "1", "--optimizer.lr", "0.02"),
    *("--ema", "null", "--progressive-resizing", "null", "--schedule.warmup-epochs", "0"),
)
COUNTS = {"train": 12, "val": 5, "test": 3}
Rows = list[tuple[str, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/SPLIT/CLASS/*.jpg."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in COUNTS.items():
        for label, name in enumerate(("green", "red")):
            own = root / "photos" / split / name
            own.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(own / f"{number:02d}.jpg")
    return root


def rows_of(folder: Path) -> Rows:
    """(path, class, split) of every image."""
    files = sorted((folder / "photos").rglob("*.jpg"))
    return [(str(file.relative_to(folder)), file.parts[-2], file.parts[-3]) for file in files]


def write(file: Path, rows: Rows, *, split: bool) -> Path:
    if file.suffix == ".jsonl":
        keys = ("path", "label", "split")[: 3 if split else 2]
        file.write_text("\n".join(json.dumps(dict(zip(keys, row, strict=False))) for row in rows))
        return file
    with open(file, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("path", "label", "split")[: 3 if split else 2])
        writer.writerows(row[: 3 if split else 2] for row in rows)
    return file


def trained(data: Path, out: Path, *more: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    assert main([*SMALL, "--data", str(data), "--output-dir", str(out), *more]) == 0
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    weights: dict[str, torch.Tensor] = torch.load(out / "last.ckpt", weights_only=True)["model"]
    return summary, weights


def test_a_list_trains_as_the_folders_bit_for_bit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, weights = trained(folder / "photos", tmp_path / "photos")
    rows = rows_of(folder)
    lists = [write(folder / "all.csv", rows, split=True), write(folder / "all.jsonl", rows, split=True)]
    for name in COUNTS:
        own = [row for row in rows if row[2] == name]
        write(folder / f"{name}.csv", own, split=False)
    for place, data in enumerate([*lists, folder / "train.csv"]):
        summary, found = trained(data, tmp_path / str(place))
        for key in ("top1", "test_top1", "steps", "per_class"):
            assert summary[key] == expected[key], key
        assert all(torch.equal(weights[key], value) for key, value in found.items())
    said = capsys.readouterr().out
    assert "validation: by the column 'split'" in said and "next to train.csv" in said
    checkpoint = tmp_path / "photos" / "last.ckpt"
    for data in (folder / "photos", folder / "all.csv", folder / "train.csv", folder / "test.csv"):
        capsys.readouterr()
        assert main(["--evaluate", str(checkpoint), "--data", str(data), "--json", "--num-workers", "0"]) == 0
        own = json.loads(capsys.readouterr().out)["weights"]["raw"]
        assert own["test"]["top1"] == expected["test_top1"]


def test_a_single_list_holds_out_the_same_images_in_every_run(folder: Path, tmp_path: Path) -> None:
    rows = [row for row in rows_of(folder) if row[2] == "train"]
    shutil.copytree(folder / "photos", tmp_path / "photos")
    file = write(tmp_path / "list.csv", rows, split=False)
    first, second = open_data(str(file), held_out=0.25), open_data(str(file), held_out=0.25)
    assert first.held_out and "6 of 24 images are held out" in first.note
    assert first.validation.ids.tolist() == second.validation.ids.tolist()  # type: ignore[union-attr]
    summary, _ = trained(file, tmp_path / "run", "--held-out", "0.25")
    assert set(summary["per_class"]["validation"]) == {"green", "red"} and "test" not in summary["per_class"]


def test_validation_has_the_classes_of_training(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "photos", tmp_path / "photos")
    rows = rows_of(folder)
    train = write(tmp_path / "train.csv", [row for row in rows if row[2] == "train"], split=False)
    only_red = [row for row in rows if row[2] == "val" and row[1] == "red"]
    write(tmp_path / "val.csv", only_red, split=False)
    found = open_data(str(train), held_out=0.1)
    assert found.validation.classes == found.classes == ("green", "red")
    assert set(found.validation.images.targets) == {1}  # type: ignore[union-attr]
    write(tmp_path / "val.csv", [*only_red, (only_red[0][0], "blue", "val")], split=False)
    with pytest.raises(ArgumentError, match=r"among the 2 classes .*line 7: 'blue'"):
        open_data(str(train), held_out=0.1)


@pytest.mark.parametrize(
    ("labels", "splits", "error", "message"),
    [
        (["0.5", "n/a"], ["", ""], DataError, "no numbers: 'n/a'.*--task classes"),
        (["a", "a"], ["train", "val"], DataError, "one class"),
        (["a", "b"], ["train", "train"], EmptyDatasetError, "must have train, and val or test. Found: train"),
        (["a", "b"], ["x", "y"], DataError, "must have the values 'train', .*Found: 'x', 'y'"),
        (["a", "b", "a"], ["train", "val", "Train"], DataError, "Found: 'Train'"),
        (["a", "b"], ["", ""], EmptyDatasetError, "one image of each class"),
    ],
)
def test_a_list_that_cannot_be_trained_on_is_told_why(
    folder: Path, tmp_path: Path, labels: Any, splits: Any, error: Any, message: str
) -> None:
    path = next((folder / "photos").rglob("*.jpg"))
    rows = [(str(path), label, split) for label, split in zip(labels, splits, strict=True)]
    file = write(tmp_path / "list.csv", rows, split=bool(splits[0]))
    with pytest.raises(error, match=message):
        open_data(str(file), held_out=0.1)


def test_the_command_names_missing_columns_and_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "list.csv"
    file.write_text("file,label\na.jpg,x\n")
    assert main([*SMALL, "--data", str(file), "--output-dir", str(tmp_path / "run")]) != 0
    assert "path must name a column" in capsys.readouterr().err
    file.write_text("path,label\nnone.jpg,x\n")
    assert main([*SMALL, "--data", str(file), "--output-dir", str(tmp_path / "run")]) != 0
    assert "line 2: 'none.jpg'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ffcv_is_refused_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(folder / "all.csv", rows_of(folder), split=True)
    args = [*SMALL, "--data", str(file), "--output-dir", str(tmp_path / "run"), "--backend", "ffcv"]
    assert main(args) != 0
    assert "backend must be auto or one of torchvision, turbo, dali" in capsys.readouterr().err


def test_an_image_that_is_listed_twice_is_in_one_part(folder: Path, tmp_path: Path) -> None:
    """Else validation would measure what was trained on."""
    rows = [row for row in rows_of(folder) if row[2] == "train"]
    twice = [(str(folder / path), name, split) for path, name, split in rows * 2]
    found = open_data(str(write(tmp_path / "all.csv", twice, split=False)), held_out=0.3)
    assert (
        not {*found.train.paths} & {*found.validation.paths}
        and len(found.train) + len(found.validation) == 48
    )
    assert len(found.validation) > 0 and "note:" not in found.note


def test_images_of_both_parts_and_of_two_labels_are_said(folder: Path, tmp_path: Path) -> None:
    rows = [(str(folder / path), name, split) for path, name, split in rows_of(folder) if split != "test"]
    path, name, _ = next(row for row in rows if row[2] == "train")
    shared = [*rows, (path, name, "val")]
    note = open_data(str(write(tmp_path / "all.csv", shared, split=True)), held_out=0.1).note
    assert f"1 of 11 validation images are trained on as well, first {path!r}" in note
    other = [*rows, (path, "red" if name == "green" else "green", "train")]
    note = open_data(str(write(tmp_path / "all.csv", other, split=True)), held_out=0.1).note
    assert f"1 images are listed again with another label, first {path!r}" in note
    assert "note:" not in open_data(str(write(tmp_path / "all.csv", rows, split=True)), held_out=0.1).note


def test_evaluation_needs_no_image_of_every_class(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(str(folder / path), name, split) for path, name, split in rows_of(folder)]
    listed = write(tmp_path / "all.csv", rows, split=True)
    assert main([*SMALL, "--data", str(listed), "--output-dir", str(tmp_path / "run")]) == 0
    red = write(tmp_path / "red.csv", [row for row in rows if row[1] == "red"], split=False)
    measure = ["--evaluate", str(tmp_path / "run" / "last.ckpt"), "--data"]
    capsys.readouterr()
    assert main([*measure, str(red), "--json"]) == 0
    record = next(iter(json.loads(capsys.readouterr().out)["weights"].values()))["data"]
    assert (record["classes"]["green"]["support"], record["classes"]["red"]["support"]) == (0, 20)
    blue = write(tmp_path / "blue.csv", [(path, "blue", split) for path, _, split in rows], split=False)
    assert main([*measure, str(blue)]) == 2
    said = capsys.readouterr().err
    assert "labels must be among the 2 classes ('green'; 'red')" in said and "classes=" not in said


def test_messages_about_lists_name_no_argument_of_scripts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text("path,label\nnone.jpg,a\n")
    assert main([*SMALL, "--data", str(tmp_path / "list.csv"), "--output-dir", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.endswith("line 2: 'none.jpg'. Correct the file\n")
    (tmp_path / "list.csv").write_bytes("path,label\nä.jpg,a\n".encode("cp1252"))
    assert main([*SMALL, "--data", str(tmp_path / "list.csv"), "--output-dir", str(tmp_path / "run")]) == 1
    assert "Save it as UTF-8 or UTF-16" in capsys.readouterr().err
