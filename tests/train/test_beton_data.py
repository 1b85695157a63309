"""`--data` with .beton files: pairs, a single file with a part held out; and what --evaluate measures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe.errors import DataError, EmptyDatasetError
from fastpipe.storage import Beton, write_beton
from fastpipe.train.betons import BetonPart, beton_parts, beton_splits, partner, split_in_name, whole
from fastpipe.train.cli import main
from fastpipe.train.splits import open_data, same_classes, splits_to_measure

SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--batch-size", "8"),
    *("--num-workers", "0", "--backend", "torchvision", "--epochs", "1", "--optimizer.lr", "0.02"),
    *("--ema", "null", "--progressive-resizing", "null", "--schedule.warmup-epochs", "0"),
)
COUNTS = {"train": 12, "val": 5, "test": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images twice: folders in photos/, and train.beton, val.beton, test.beton in betons/."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in COUNTS.items():
        for label, name in enumerate(("red", "green")):
            own = root / "photos" / split / name
            own.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(own / f"{number:02d}.jpg")
        (root / "betons").mkdir(exist_ok=True)
        write_beton(root / "photos" / split, root / "betons" / f"{split}.beton", num_workers=1)
    return root


def _trained(data: Path, out: Path, *more: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    assert main([*SMALL, "--data", str(data), "--output-dir", str(out), *more]) == 0
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    weights: dict[str, torch.Tensor] = torch.load(out / "last.ckpt", weights_only=True)["model"]
    return summary, weights


def _measured(capsys: pytest.CaptureFixture[str], checkpoint: Path, data: Path) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["--evaluate", str(checkpoint), "--data", str(data), "--json", "--num-workers", "0"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["weights"]["raw"]
    return found


def test_a_pair_of_files_trains_as_the_folders_they_were_written_from(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their folder, or the training file alone: the same weights and accuracies, bit for bit."""
    expected, weights = _trained(folder / "photos", tmp_path / "photos")
    for name, data in (("folder", folder / "betons"), ("file", folder / "betons" / "train.beton")):
        summary, found = _trained(data, tmp_path / name)
        for key in ("top1", "test_top1", "steps", "per_class"):
            assert summary[key] == expected[key], key
        assert all(torch.equal(weights[key], value) for key, value in found.items())
    assert "validation: " in (said := capsys.readouterr().out) and "next to train.beton" in said
    # --evaluate repeats the run on either, and takes folders without train/.
    checkpoint = tmp_path / "photos" / "last.ckpt"
    for data in (folder / "photos", folder / "betons", folder / "betons" / "train.beton"):
        own = _measured(capsys, checkpoint, data)
        assert (own["validation"]["top1"], own["test"]["top1"]) == (expected["top1"], expected["test_top1"])
    without = tmp_path / "without"
    shutil.copytree(folder / "photos", without, ignore=shutil.ignore_patterns("train"))
    assert _measured(capsys, checkpoint, without) == own
    assert _measured(capsys, checkpoint, folder / "photos" / "val") == {"data": own["validation"]}
    assert _measured(capsys, checkpoint, folder / "betons" / "val.beton") == {"validation": own["validation"]}


def test_of_a_single_file_a_part_is_held_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = tmp_path / "flowers.beton"
    shutil.copy(folder / "betons" / "train.beton", single)
    summary, _ = _trained(single, tmp_path / "run", "--held-out", "0.25", "--batch-size", "6")
    assert "validation: 6 of 24 images are held out" in capsys.readouterr().out
    assert summary["steps"] == 3  # of 18 images
    own = _measured(capsys, tmp_path / "run" / "last.ckpt", single)
    assert own["validation"]["images"] == 6 and own["validation"]["top1"] == summary["top1"]
    copied = tmp_path / "copy.beton"  # another file is measured as a whole
    shutil.copy(single, copied)
    assert _measured(capsys, tmp_path / "run" / "last.ckpt", copied)["data"]["images"] == 24


@pytest.mark.ffcv
def test_ffcv_serves_a_part_of_a_file(folder: Path, tmp_path: Path) -> None:
    single = tmp_path / "flowers.beton"
    shutil.copy(folder / "betons" / "train.beton", single)
    expected, weights = _trained(single, tmp_path / "a", "--batch-size", "6")
    summary, found = _trained(single, tmp_path / "b", "--batch-size", "6", "--backend", "ffcv")
    assert summary["backend"] == "ffcv" and summary["steps"] == expected["steps"]
    assert all(torch.allclose(weights[key], value, atol=1e-3) for key, value in found.items())


def test_the_held_out_images_are_a_share_of_each_class_and_always_the_same(folder: Path) -> None:
    train, held = beton_parts(folder / "betons" / "train.beton", 0.25)
    again, _ = beton_parts(folder / "betons" / "train.beton", 0.25)
    assert train.ids is not None and held.ids is not None and again.ids is not None
    assert np.array_equal(train.ids, again.ids)
    assert sorted([*train.ids, *held.ids]) == list(range(24))
    assert np.bincount(held.beton.labels[held.ids]).tolist() == [3, 3]
    few, rest = beton_parts(folder / "betons" / "train.beton", 0.999), 0.001
    assert len(few[0]) == 2  # one of each class is trained on
    assert len(beton_parts(folder / "betons" / "train.beton", rest)[1]) == 2  # and one measured


def test_a_class_of_one_image_is_trained_on(tmp_path: Path) -> None:
    for name, count in (("a", 1), ("b", 3), ("c", 1)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / f"{number}.png")
    write_beton(tmp_path / "images", tmp_path / "x.beton", num_workers=1)
    train, held = beton_parts(tmp_path / "x.beton", 0.5)
    assert (len(train), held.beton.labels[held.ids].tolist()) == (3, [1, 1])
    for path in (tmp_path / "images" / "b").glob("[12].png"):
        path.unlink()
    write_beton(tmp_path / "images", tmp_path / "y.beton", num_workers=1)
    with pytest.raises(EmptyDatasetError, match=r"one image of each class.*Put val\.beton next to"):
        beton_parts(tmp_path / "y.beton", 0.5)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("train_500_0.5", "train"),
        ("imagenet-Train.v2", "train"),
        ("val", "val"),
        ("my_validation", "validation"),
        ("training", None),
        ("constrain", None),
        ("flowers", None),
    ],
)
def test_the_split_in_a_files_name(name: str, split: str | None) -> None:
    assert split_in_name(Path(f"{name}.beton")) == split


def test_partners_have_the_same_name_but_for_the_split(tmp_path: Path) -> None:
    train = tmp_path / "train_500.beton"
    train.touch()
    (tmp_path / "val.beton").touch()  # of another size
    assert beton_splits(train) is None
    test = tmp_path / "test_500.beton"
    test.touch()
    assert beton_splits(train) == (train, test, None)
    val = tmp_path / "validation_500.beton"
    val.touch()
    assert beton_splits(train) == (train, val, test)
    assert partner(val, "validation") is None and beton_splits(val) is None


def test_stock_files_are_numbered_to_their_largest_label(folder: Path) -> None:
    part = whole(folder / "betons" / "val.beton")
    numbers: BetonPart = replace(part, classes=("0", "1"))
    assert same_classes(("0", "1", "2"), numbers) and not same_classes(("0",), numbers)
    assert not same_classes(("red", "green", "blue"), replace(part, classes=("red", "green")))


def test_mistakes_name_what_was_found(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--data", str(tmp_path / "absent.beton")]) == 1
    assert "no such file" in capsys.readouterr().err
    for name in ("train_a", "train_b"):
        shutil.copy(folder / "betons" / "train.beton", tmp_path / f"{name}.beton")
    with pytest.raises(DataError, match=r"several \.beton files for train: \['train_a\.beton'"):
        open_data(str(tmp_path), held_out=0.1)
    shutil.copytree(folder / "photos" / "val", tmp_path / "both" / "val")
    shutil.copy(folder / "betons" / "val.beton", tmp_path / "both" / "val.beton")
    with pytest.raises(DataError, match=r"both for validation"):
        splits_to_measure(str(tmp_path / "both"), trained_on=None, held_out=0.1)
    assert main([*SMALL, "--data", str(folder / "betons"), "--held-out", "1"]) == 2
    assert "held_out must be a share above 0 and below 1" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="held_out applies to a single .beton"):
        main([*SMALL, "--data", str(folder / "betons"), "--held-out", "0.5", "--batch-size", "500"])


def test_a_folder_with_train_is_meant_before_files_beside_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "photos", tmp_path, dirs_exist_ok=True)
    shutil.copy(folder / "betons" / "train.beton", tmp_path)
    assert open_data(str(tmp_path), held_out=0.1).train.root == str(tmp_path / "train")
    assert isinstance(open_data(str(tmp_path / "train.beton"), held_out=0.1).train, BetonPart)
    assert len(Beton(tmp_path / "train.beton")) == 24
