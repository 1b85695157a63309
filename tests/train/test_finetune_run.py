"""A run from pretrained weights, from the command line to an exported file and a second run from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
import yaml
from PIL import Image

from fastpipe.train.checkpoint import load_checkpoint
from fastpipe.train.cli import main
from fastpipe.train.config.groups import StochasticDepthConfig
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.data import eval_loader
from fastpipe.train.pretrained.start import begin
from fastpipe.train.splits import open_data
from fastpipe.train.weights import read_trained

CLASSES = ("a", "b", "c")
SMALL = (
    "--batch-size",
    "4",
    "--epochs",
    "2",
    "--num-workers",
    "0",
    "--backend",
    "torchvision",
    "--precision",
    "fp32",
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 3)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "test_resnet.pth"
    torch.save(timm.create_model("test_resnet", num_classes=1000).state_dict(), path)
    return path


def _train(photos: Path, out: Path, *more: str) -> None:
    where = ("--data", str(photos), "--output-dir", str(out))
    # Each test asks for what it is about; the rest of the recipe's choices are left out.
    options = ("--train-resolution", "64", "--val-resolution", "64", "--preprocessing", "model")
    options += ("--freeze", "0", "--ema", "null")
    assert main(["--recipe", "finetune", *SMALL, *options, *where, *more]) == 0


@pytest.fixture(scope="module")
def folder(photos: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "frozen"
    _train(photos, out, "--model", "test_resnet", "--pretrained", str(weights), "--freeze", "backbone")
    return out


def _weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_checkpoint(path)["model"]
    return found


def test_the_run_keeps_the_backbone_and_records_the_preprocessing(folder: Path, weights: Path) -> None:
    given = torch.load(weights, weights_only=True)
    for name, value in _weights(folder / "last.ckpt").items():
        assert torch.equal(value, given[name]) == (not name.startswith("fc.")), name
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["mean"] == saved["std"] == [0.5, 0.5, 0.5]  # timm's for test_resnet
    assert (saved["train_resolution"], saved["val_resolution"], saved["val_resize"]) == (64, 64, 67)
    assert saved["preprocessing"] == "recipe" and saved["pretrained"] == str(weights)


def test_the_recipe_shows_larger_and_whole_images_in_validation(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    where = ("--data", str(photos), "--output-dir", str(tmp_path), "--pretrained", str(weights))
    options = ("--model", "test_resnet", "--train-resolution", "56", "--epochs", "1")
    assert main(["--recipe", "finetune", *SMALL, *options, *where]) == 0
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved["mean"] == saved["std"] == [0.5, 0.5, 0.5]
    assert (saved["train_resolution"], saved["val_resolution"], saved["val_resize"]) == (56, 64, 64)
    assert saved["preprocessing"] == "recipe" and saved["interpolation"] == "bilinear"


def test_the_saved_configuration_repeats_the_run(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["--recipe", str(folder / "config.yaml"), "--output-dir", str(again)]) == 0
    first, second = _weights(folder / "last.ckpt"), _weights(again / "last.ckpt")
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_resuming_needs_no_file_of_weights(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "own.pth", tmp_path / "run"
    own.write_bytes(weights.read_bytes())
    options = ("--model", "test_resnet", "--pretrained", str(own), "--resume", "auto")
    _train(photos, out, *options)
    before = _weights(out / "last.ckpt")
    own.unlink()
    capsys.readouterr()
    _train(photos, out, *options)
    assert "resumed from" in capsys.readouterr().out
    assert all(torch.equal(value, before[name]) for name, value in _weights(out / "last.ckpt").items())


def test_evaluate_and_export_use_the_preprocessing_of_the_run(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    out = tmp_path / "model.pt"
    assert main(["--export", str(folder / "last.ckpt"), str(out)]) == 0
    assert json.loads((tmp_path / "model.json").read_text())["mean"] == [0.5, 0.5, 0.5]
    for path in (folder / "last.ckpt", out):
        capsys.readouterr()
        assert main(["--evaluate", str(path), "--data", str(photos), "--json"]) == 0
        measured: dict[str, Any] = json.loads(capsys.readouterr().out)["weights"]
        assert next(iter(measured.values()))["validation"]["top1"] == summary["top1"]


def test_validation_sees_the_pixels_that_timm_gives_the_model(folder: Path, photos: Path) -> None:
    config = read_trained(folder / "last.ckpt").config
    images, _ = next(iter(eval_loader(config, open_data(str(photos), held_out=0.1).validation)))
    own = timm.data.resolve_data_config({"input_size": (3, 64, 64)}, model=timm.create_model("test_resnet"))
    transform = timm.data.create_transform(**own, is_training=False)
    files = sorted((photos / "val").rglob("*.jpg"))[: len(images)]
    expected = torch.stack([transform(Image.open(path).convert("RGB")) for path in files])
    torch.testing.assert_close(images, expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("kind", ["checkpoint", "exported"])
def test_a_run_starts_from_the_weights_of_another(
    kind: str, folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same classes the classifier is kept; the model and the preprocessing are the earlier run's."""
    source = folder / "last.ckpt"
    if kind == "exported":
        source = tmp_path / "model.pt"
        assert main(["--export", str(folder / "last.ckpt"), str(source)]) == 0
    capsys.readouterr()
    out = tmp_path / "second"
    still = ("--optimizer.lr", "1e-30", "--optimizer.weight-decay", "0", "--fit-to-data", "false")
    _train(photos, out, "--pretrained", "false", "--init-from", str(source), *still)
    said = capsys.readouterr().out
    assert "taken over with the weights: model tf_efficientnet_lite2 -> test_resnet" in said
    assert "classifier: that of these weights" in said
    first, second = _weights(folder / "last.ckpt"), _weights(out / "last.ckpt")
    params = dict(timm.create_model("test_resnet", num_classes=3).named_parameters())
    assert all(torch.allclose(second[name], first[name], rtol=0.0, atol=1e-20) for name in params)
    assert yaml.safe_load((out / "config.yaml").read_text())["std"] == [0.5, 0.5, 0.5]


def test_other_classes_get_a_new_classifier(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for name in CLASSES[:2]:
            (tmp_path / "two" / split / name).mkdir(parents=True)
            for photo in (photos / split / name).iterdir():
                (tmp_path / "two" / split / name / photo.name).symlink_to(photo)
    _train(
        tmp_path / "two", tmp_path / "run", "--pretrained", "false", "--init-from", str(folder / "last.ckpt")
    )
    assert "classifier: a new one for 2 classes; that of these weights has 3" in capsys.readouterr().out


def test_another_architecture_is_refused_before_a_folder_is_made(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--data", str(photos), "--output-dir", str(tmp_path / "run"))
    options = ("--model", "resnet10t", "--pretrained", str(weights), "--train-resolution", "64")
    assert main(["--recipe", "finetune", *SMALL, *where, *options]) == 1
    error = capsys.readouterr().err
    assert (
        "do not fit the model: " in error
        and "of another shape: conv1.0.weight" in error
        and "Traceback" not in error
    )
    assert not (tmp_path / "run").exists()


def test_the_saved_configuration_keeps_a_method_that_was_set_by_hand(folder: Path) -> None:
    """BlurPool and Composer's stochastic depth come with the weights, unless the user says otherwise."""
    source = folder / "last.ckpt"
    recipe = replace(load_recipe("finetune"), pretrained=False, init_from=str(source))
    assert begin(recipe, ("init_from",)).config.blurpool is False
    depth = StochasticDepthConfig(kind="composer", drop_rate=0.2)
    by_hand = replace(recipe, blurpool=True, stochastic_depth=depth)
    keys = ("init_from", "blurpool", "stochastic_depth")
    saved = begin(by_hand, keys).config
    assert saved.blurpool is True and saved.stochastic_depth == depth
    assert begin(saved, ()).config == saved  # as --recipe config.yaml reads it
    assert begin(by_hand, ("init_from", "stochastic_depth.drop_rate")).config.stochastic_depth == depth


def test_stochastic_depth_that_weights_branches_comes_with_the_weights(folder: Path, tmp_path: Path) -> None:
    state = load_checkpoint(folder / "last.ckpt")
    for kind, taken in (("composer", True), ("timm", False)):
        state["config"]["stochastic_depth"] = {"kind": kind, "drop_rate": 0.2}
        torch.save(state, tmp_path / f"{kind}.ckpt")
        config = replace(load_recipe("finetune"), pretrained=False, init_from=str(tmp_path / f"{kind}.ckpt"))
        start = begin(config, ("init_from",))
        assert (start.config.stochastic_depth is not None) == taken
        assert ("stochastic_depth" in start.taken) == taken
