"""--evaluate and --export: a checkpoint measured as its run measured it, and its weights without fastpipe."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image

from fastpipe.train.accuracy import count_right, top5
from fastpipe.train.algorithms.blurpool import apply_blurpool
from fastpipe.train.checkpoint import load_checkpoint, save_checkpoint
from fastpipe.train.cli import main
from fastpipe.train.config.keys import config_to_dict
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.export import export, plain_state_dict
from fastpipe.train.metrics.outcome import outcome_of
from fastpipe.train.model import build_model
from fastpipe.train.safetensors_file import write_safetensors
from fastpipe.train.weights import read_trained

CLASSES = ("a", "b", "c", "d", "e", "f")  # six, so that top-5 says something


def _photos(root: Path, classes: tuple[str, ...]) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 3)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40, 48, 3)) + 25 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _photos(tmp_path_factory.mktemp("photos"), CLASSES)


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Mild (BlurPool, EMA) of a ResNet-18 that torchvision has too."""
    folder = tmp_path_factory.mktemp("runs") / "mild"
    methods = ("--ema.update-interval", "1", "--ema.half-life-batches", "4", "--optimizer.lr", "0.02")
    sizes = ("--train-resolution", "64", "--epochs", "1", "--batch-size", "8", "--num-workers", "0")
    options = ("--model", "resnet18", "--backend", "torchvision", "--schedule.warmup-epochs", "0.5")
    where = ("--data", str(photos), "--output-dir", str(folder))
    assert main(["--recipe", "mild", *methods, *sizes, *options, *where]) == 0
    return folder


def _evaluated(capsys: pytest.CaptureFixture[str], folder: Path, data: Path, *more: str) -> Any:
    capsys.readouterr()
    assert main(["--evaluate", str(folder / "last.ckpt"), "--data", str(data), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_counts_by_hand() -> None:
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4], [4, 5, 6, 7, 8, 9], [9, 8, 7, 6, 5, 4]])
    counts = count_right(logits, torch.tensor([0, 0, 4]), num_classes=6)
    assert counts[0].tolist() == [2, 1, 1]  # of two images the second has class 0 last, sixth
    assert counts[4].tolist() == [1, 0, 1]
    assert int(counts.sum()) == 6


def test_a_rank_without_images_counts_none() -> None:
    counts = outcome_of(lambda images: images, iter(()), num_outputs=6).counts
    assert counts is not None and counts.tolist() == [[0, 0, 0]] * 6 and counts.dtype == torch.int64


def test_top_5_says_nothing_below_six_classes() -> None:
    assert top5(torch.tensor([[4, 1, 3], *[[0, 0, 0]] * 5])) == 0.75
    assert top5(torch.tensor([[4, 1, 3], *[[0, 0, 0]] * 4])) is None


def test_equal_logits_go_to_the_first_class_and_top_1_is_among_five() -> None:
    counts = count_right(torch.zeros(1, 40), torch.tensor([0]), num_classes=40)
    assert counts[0].tolist() == [1, 1, 1]


def test_fewer_than_five_classes() -> None:
    assert count_right(torch.eye(2), torch.tensor([0, 0]), num_classes=2).tolist() == [[2, 1, 2], [0, 0, 0]]


def test_evaluate_repeats_the_run(folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    weights = _evaluated(capsys, folder, photos)["weights"]
    ema, raw = weights["ema"]["validation"], weights["raw"]["validation"]
    assert (ema["top1"], raw["top1"]) == (summary["top1"], summary["top1_raw"])
    assert (ema["top5"], raw["top5"]) == (summary["top5"], summary["top5_raw"])
    assert ema["per_class"] == summary["per_class"]["validation"]
    assert ema["images"] == 3 * len(CLASSES)
    assert ema["top1"] <= ema["top5"] <= 1.0


def test_evaluate_needs_nothing_to_train_on(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without train/, and a folder of classes."""
    whole = _evaluated(capsys, folder, photos)["weights"]["raw"]["validation"]
    shutil.copytree(photos / "val", tmp_path / "without" / "val")
    for data, name in ((tmp_path / "without", "validation"), (photos / "val", "data")):
        assert _evaluated(capsys, folder, data)["weights"]["raw"] == {name: whole}


def test_batch_size_changes_no_count(folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """18 images: an incomplete last batch must count."""
    small = _evaluated(capsys, folder, photos, "--batch-size", "5", "--num-workers", "0")
    assert small == _evaluated(capsys, folder, photos)


def test_evaluate_for_people(folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["--evaluate", str(folder / "last.ckpt"), "--data", str(photos)]) == 0
    out = capsys.readouterr().out
    assert out.count("top-5") == 2 and "ema  validation: top-1" in out and "    f: " in out


def test_exported_weights_measure_as_their_checkpoint(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the card beside them, by the run's configuration, and by a recipe with what differs from it."""
    expected = _evaluated(capsys, folder, photos)["weights"]["ema"]
    out = tmp_path / "model.pt"
    assert main(["--export", str(folder / "last.ckpt"), str(out)]) == 0
    assert str(tmp_path) not in out.with_suffix(".json").read_text()  # no folder of this machine
    assert str(photos) not in out.with_suffix(".json").read_text()

    def measured(*more: str) -> Any:
        capsys.readouterr()
        assert (
            main(["--evaluate", str(out), "--data", str(photos), "--json", "--num-workers", "0", *more]) == 0
        )
        return json.loads(capsys.readouterr().out)["weights"]

    assert measured() == {"exported": expected}
    out.with_suffix(".json").unlink()
    assert measured("--recipe", str(folder / "config.yaml")) == {"exported": expected}
    sizes = ("--val-resolution", "80", "--val-resize", "84", "--batch-size", "8")
    assert measured("--recipe", "mild", "--model", "resnet18", *sizes) == {"exported": expected}


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ((), 2, "--recipe with the run's config.yaml"),
        (("--recipe", "mild", "--model", "resnet34"), 1, "do not fit 'resnet34'"),
        (("--recipe", "mlid"), 2, "Did you mean 'mild'?"),
        (("--recipe", "mild", "--val-resolution", "-1"), 2, "val_resolution"),
    ],
)
def test_weights_of_which_nothing_is_known(
    more: tuple[str, ...],
    status: int,
    message: str,
    folder: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(load_checkpoint(folder / "last.ckpt")["ema"], tmp_path / "weights.pt")
    assert main(["--evaluate", str(tmp_path / "weights.pt"), "--data", str(photos), *more]) == status
    assert message in capsys.readouterr().err


def test_what_is_no_model_and_a_checkpoint_with_a_recipe(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    assert main(["--evaluate", str(tmp_path / "other.pt"), "--data", str(photos)]) == 1
    assert "neither a checkpoint" in capsys.readouterr().err
    assert main(["--evaluate", str(folder / "last.ckpt"), "--data", str(photos), "--recipe", "hot"]) == 2
    assert "Leave out --recipe" in capsys.readouterr().err
    torch.save(load_checkpoint(folder / "last.ckpt")["model"], tmp_path / "old.pt")
    (tmp_path / "old.json").write_text('{"model": "resnet18"}')
    assert main(["--evaluate", str(tmp_path / "old.pt"), "--data", str(photos)]) == 1
    assert "old.json' cannot be read (KeyError('config'))" in capsys.readouterr().err


def test_other_classes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = _photos(tmp_path, (*CLASSES[:5], "zebra"))
    assert main(["--evaluate", str(folder / "last.ckpt"), "--data", str(other)]) == 2
    error = capsys.readouterr().err
    assert "must have the 6 classes" in error and "['f']" in error and "['zebra']" in error


@pytest.mark.parametrize("option", ["--evaluate", "--export"])
def test_no_checkpoint(option: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.ckpt")
    rest = ["--data", str(photos)] if option == "--evaluate" else [str(tmp_path / "out.pt")]
    assert main([option, missing, *rest]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("raw", [False, True])
def test_export_fits_timm_and_torchvision(folder: Path, tmp_path: Path, raw: bool) -> None:
    out = tmp_path / "model.pt"
    assert main(["--export", str(folder / "last.ckpt"), str(out), *(["--raw"] if raw else [])]) == 0
    weights = torch.load(out, weights_only=True)
    expected = load_checkpoint(folder / "last.ckpt")["model" if raw else "ema"]
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    timm.create_model("resnet18", num_classes=6).load_state_dict(weights, strict=True)
    torchvision.models.resnet18(num_classes=6).load_state_dict(weights, strict=True)
    assert json.loads(out.with_suffix(".json").read_text())["weights"] == ("raw" if raw else "ema")


def test_the_card_rebuilds_the_trained_model(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lines, run as they stand, give the logits of a model blurred by hand; a plain model does not."""
    out = tmp_path / "model.pt"
    assert main(["--export", str(folder / "last.ckpt"), str(out)]) == 0
    card = json.loads(out.with_suffix(".json").read_text())
    made: dict[str, Any] = {"PATH": out}
    exec("\n".join(card["rebuild"]), made)
    by_hand = timm.create_model("resnet18", num_classes=6)
    apply_blurpool(by_hand)
    plain = timm.create_model("resnet18", num_classes=6)
    for model in (by_hand, plain):
        model.load_state_dict(torch.load(out, weights_only=True))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(made["model"](images), by_hand.eval()(images))
        assert not torch.allclose(made["model"](images), plain.eval()(images))
    assert card["classes"] == list(CLASSES)


@pytest.fixture
def hot(tmp_path: Path) -> Path:
    """A checkpoint of the recipe Hot, untrained: BlurPool, and stochastic depth that weights branches."""
    config = replace(load_recipe("hot"), model="test_resnet", val_resolution=32, val_resize=36)
    torch.manual_seed(0)
    weights = build_model(config, len(CLASSES), torch.device("cpu")).state_dict()
    state = {
        "config": config_to_dict(config),
        "classes": list(CLASSES),
        "step": 0,
        "model": weights,
        "ema": {},
    }
    save_checkpoint(state, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_the_card_of_hot_weights_the_branches(hot: Path, tmp_path: Path) -> None:
    """Composer's stochastic depth adds no weights and changes evaluation: the card must say it, too."""
    card = export(hot, tmp_path / "model.pt")
    trained = read_trained(hot)
    model = trained.model(trained.raw, torch.device("cpu"))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for lines, same in ((card["rebuild"], True), ([x for x in card["rebuild"] if "depth" not in x], False)):
        made: dict[str, Any] = {"PATH": tmp_path / "model.pt"}
        exec("\n".join(lines), made)
        with torch.no_grad():
            assert torch.allclose(made["model"](images), model(images)) == same


def test_onnx_computes_what_the_model_does(
    hot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blurred, branches weighted, for any number of images, in one file."""
    from onnx.reference import ReferenceEvaluator

    out = tmp_path / "out" / "model.onnx"
    assert main(["--export", str(hot), str(out)]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.onnx", "model.onnx.json"]
    trained = read_trained(hot)
    model = trained.model(trained.raw, torch.device("cpu"))
    for number in (1, 3):
        images = torch.rand(number, 3, 32, 32, generator=torch.Generator().manual_seed(number))
        (logits,) = ReferenceEvaluator(str(out)).run(None, {"images": images.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), model(images), rtol=1e-4, atol=1e-5)
    assert "onnxruntime.InferenceSession" in capsys.readouterr().out
    assert json.loads(out.with_name("model.onnx.json").read_text())["val_resolution"] == 32


def test_the_two_documented_exports_stand_side_by_side(
    hot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In either order: each card tells its own file's way to be loaded."""
    for first, second in (("pt", "onnx"), ("onnx", "pt")):
        folder = tmp_path / first
        for ending in (first, second):
            assert main(["--export", str(hot), str(folder / f"model.{ending}")]) == 0
        assert sorted(path.name for path in folder.iterdir()) == [
            *("model.json", "model.onnx", "model.onnx.json", "model.pt")
        ]
        assert "import timm" in json.loads((folder / "model.json").read_text())["rebuild"][0]
        assert json.loads((folder / "model.onnx.json").read_text())["rebuild"][0] == "import onnxruntime"


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", ["--evaluate", "--export"])
def test_help_of_the_commands(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([command, option], [option, command], [command, "last.ckpt", option]):
        assert main(args) == 0
        shown = capsys.readouterr()
        assert shown.err == "" and command in shown.out and "CKPT" in shown.out


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_onnx_without_its_packages(
    package: str,
    hot: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["--export", str(hot), str(tmp_path / "model.onnx")]) == 2
    said = capsys.readouterr().err
    assert f"needs the package '{package}'" in said and "pip install onnx onnxscript" in said
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_export_overwrites_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.json").write_text("mine")
    assert main(["--export", str(folder / "last.ckpt"), str(tmp_path / "model.pt")]) == 2
    assert "exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
    assert main(["--export", str(folder / "last.ckpt"), str(tmp_path / "model.pth")]) == 2
    assert "ends in .pt, .safetensors or .onnx" in capsys.readouterr().err


def test_safetensors_hold_the_weights_and_their_card_in_one_file(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package's own reader finds the tensors, the header rebuilds the model, --evaluate needs no more."""
    from safetensors import safe_open

    out = tmp_path / "model.safetensors"
    assert main(["--export", str(folder / "last.ckpt"), str(out)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    weights = load_checkpoint(folder / "last.ckpt")["ema"]
    with safe_open(out, framework="pt") as file:
        assert set(file.keys()) == set(weights)
        assert all(torch.equal(file.get_tensor(name), value) for name, value in weights.items())
        metadata = file.metadata()
    card = json.loads(metadata["fastpipe"])
    assert metadata["format"] == "pt" and card["classes"] == list(CLASSES)
    made: dict[str, Any] = {"PATH": out}
    exec("\n".join(card["rebuild"]), made)
    trained = read_trained(folder / "last.ckpt")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = trained.model(trained.averaged, torch.device("cpu"))(images)
        torch.testing.assert_close(made["model"](images), expected)
    of_checkpoint = _evaluated(capsys, folder, photos)["weights"]["ema"]
    assert main(["--evaluate", str(out), "--data", str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"]["exported"] == of_checkpoint


def test_safetensors_of_another_program_and_a_damaged_file_are_named(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    foreign = tmp_path / "foreign.safetensors"
    weights = load_checkpoint(folder / "last.ckpt")["model"]
    save_file({name: value.contiguous() for name, value in weights.items()}, foreign)
    assert main(["--evaluate", str(foreign), "--data", str(photos)]) == 2
    assert "Its header has no card" in capsys.readouterr().err
    named = ["--recipe", str(folder / "config.yaml")]
    assert main(["--evaluate", str(foreign), "--data", str(photos), *named]) == 0
    foreign.write_bytes(foreign.read_bytes()[:1000])
    capsys.readouterr()
    assert main(["--evaluate", str(foreign), "--data", str(photos), *named]) == 1
    assert "foreign.safetensors' cannot be read" in capsys.readouterr().err


def test_tensors_that_share_memory_are_written_to_safetensors_as_two(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    shared = torch.arange(6.0).reshape(2, 3)
    weights = {"one": shared, "same": shared, "part": shared[:1], "turned": shared.t()}
    write_safetensors(plain_state_dict(weights), {}, tmp_path / "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_a_transformers_card_rebuilds_it_at_the_runs_sizes(tmp_path: Path) -> None:
    """Validation at another size than training: position embeddings are interpolated, as in the run."""
    config = replace(
        load_recipe("deit"),
        model="vit_tiny_patch16_224",
        train_resolution=32,
        val_resolution=48,
        val_resize=48,
    )
    torch.manual_seed(0)
    weights = build_model(config, len(CLASSES), torch.device("cpu")).state_dict()
    state = {
        "config": config_to_dict(config),
        "classes": list(CLASSES),
        "step": 0,
        "model": weights,
        "ema": {},
    }
    save_checkpoint(state, tmp_path / "last.ckpt")
    card = export(tmp_path / "last.ckpt", tmp_path / "model.pt")
    made: dict[str, Any] = {"PATH": tmp_path / "model.pt"}
    exec("\n".join(card["rebuild"]), made)
    trained = read_trained(tmp_path / "last.ckpt")
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        expected = trained.model(trained.raw, torch.device("cpu"))(images)
        torch.testing.assert_close(made["model"](images), expected)
