"""Runs whose labels are several or numbers: from a list to weights that a plain timm model loads."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import timm
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

from fastpipe.train.cli import main
from fastpipe.train.step import Updater
from fastpipe.train.units import Units, in_units, units_of
from fastpipe.train.weights import read_trained

SMALL = (
    *("--recipe", "mild", "--model", "test_resnet", "--train-resolution", "32", "--val-resolution", "32"),
    *("--val-resize", "32", "--batch-size", "16", "--num-workers", "0", "--backend", "torchvision"),
    *("--progressive-resizing", "null", "--blurpool", "false", "--init", "model", "--fit-to-data", "false"),
    *("--schedule.warmup-epochs", "0", "--optimizer.lr", "0.02", "--epochs", "6", "--mixup-alpha", "0.1"),
    *("--ema.half-life-batches", "2", "--ema.update-interval", "1"),
)
TRAINED, HELD = 64, 17


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """list.csv: images of one colour, whose red and green are the labels, as numbers and as names."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    with open(root / "list.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("file", "age", "price", "tags", "part"))
        for number in range(TRAINED + HELD):
            red, green = rng.random(2)
            pixels = rng.integers(0, 60, (40, 40, 3)) + np.array([190 * red, 190 * green, 0])
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number}.png")
            tags = [name for name, share in (("red", red), ("green", green)) if share > 0.5] or ["dark"]
            part = "train" if number < TRAINED else "val"
            writer.writerow(
                (f"{number}.png", f"{20 + 60 * red:.4f}", f"{1e6 * green:.1f}", "+".join(tags), part)
            )
    return root / "list.csv"


def args(data: Path, out: Path, *more: str) -> list[str]:
    columns = ("--table.path", "file", "--table.split", "part")
    return [*SMALL, *columns, "--data", str(data), "--output-dir", str(out), *more]


NUMBERS = ("--table.label", "age,price", "--metric", "rmse,r2,loss", "--tta")
NAMES = ("--table.label", "tags", "--table.separator", "+", "--metric", "macro-f1")


@pytest.fixture(scope="module")
def numbers(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of regression, with MixUp, EMA and the test-time flip."""
    out = tmp_path_factory.mktemp("runs") / "numbers"
    assert main(args(data, out, *NUMBERS)) == 0
    return out


@pytest.fixture(scope="module")
def names(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with several labels an image."""
    out = tmp_path_factory.mktemp("runs") / "names"
    assert main(args(data, out, *NAMES)) == 0
    return out


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def rows_of(data: Path) -> list[dict[str, str]]:
    with open(data, newline="") as handle:
        return [row for row in csv.DictReader(handle) if row["part"] == "val"]


def outputs_of(
    run: Path, data: Path, out: Path, *, flip: bool
) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """What a plain timm model with the exported weights makes of the validation images; and the card."""
    assert main(["--export", str(run / "last.ckpt"), str(out)]) == 0
    card: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    model = timm.create_model(card["model"], num_classes=card["num_classes"])
    model.load_state_dict(torch.load(out, weights_only=True))
    transform = T.Compose(
        [T.Resize(32), T.CenterCrop(32), T.ToTensor(), T.Normalize(card["mean"], card["std"])]
    )
    images = torch.stack([transform(Image.open(data.parent / row["file"])) for row in rows_of(data)])
    with torch.no_grad():
        found: Tensor = model.eval()(images)
        if flip:
            found = (found + model(images.flip(3))) / 2
    return found.double().numpy(), card


def test_a_run_learns_numbers_in_their_own_units(numbers: Path, data: Path, tmp_path: Path) -> None:
    """Ages of tens and prices of a million have equal parts in what is learnt."""
    summary = summary_of(numbers)
    outputs, card = outputs_of(numbers, data, tmp_path / "model.pt", flip=True)
    labels = np.array([[float(row["age"]), float(row["price"])] for row in rows_of(data)])
    assert (card["task"], card["classes"]) == ("regression", ["age", "price"])
    assert summary["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(labels, outputs), rel=1e-3)
    assert summary["r2"] == pytest.approx(sklearn.metrics.r2_score(labels, outputs), abs=1e-4)
    rmse = sklearn.metrics.root_mean_squared_error(labels, outputs)
    assert summary["rmse"] == pytest.approx(rmse, rel=1e-3)
    assert summary["r2"] > 0.8, summary
    assert summary["best"]["metric"] == "mae" and summary["metrics"] == ["mae", "rmse", "r2", "val_loss"]
    scaled = (outputs - labels) / np.array(read_standard(numbers))
    assert summary["val_loss"] == pytest.approx((scaled**2).mean(), rel=1e-3)
    epochs = [json.loads(line) for line in (numbers / "metrics.jsonl").read_text().splitlines()]
    assert epochs[-1]["kind"] == "epoch" and epochs[-1]["mae"] == summary["mae"] and "top1" not in epochs[-1]


def read_standard(run: Path) -> list[float]:
    """The standard deviations in a checkpoint."""
    found: list[float] = torch.load(run / "last.ckpt", weights_only=True)["units"]["std"].tolist()
    return found


def test_a_run_learns_several_labels(
    names: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = summary_of(names)
    outputs, card = outputs_of(names, data, tmp_path / "model.pt", flip=False)
    assert "ema weights of test_resnet, 3 labels" in capsys.readouterr().out
    assert (card["task"], card["classes"]) == ("multi-label", ["dark", "green", "red"])
    labels = np.array([[name in row["tags"] for name in card["classes"]] for row in rows_of(data)])
    expected = sklearn.metrics.average_precision_score(labels, outputs, average="macro")
    assert summary["map"] == pytest.approx(expected, abs=1e-6) and summary["map"] > 0.8
    expected = sklearn.metrics.f1_score(labels, outputs > 0, average="macro")
    assert summary["macro_f1"] == pytest.approx(expected, abs=1e-6)
    assert summary["task"] == "multi-label" and "per_class" not in summary and "top1" not in summary


@pytest.mark.parametrize("run", ["numbers", "names"])
def test_evaluation_repeats_the_figures_of_the_run(
    run: str, data: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a checkpoint and of exported weights; and it says what other data lack."""
    folder: Path = request.getfixturevalue(run)
    key = "mae" if run == "numbers" else "map"
    assert main(["--export", str(folder / "last.ckpt"), str(tmp_path / "model.pt")]) == 0
    shutil.copy(tmp_path / "model.pt", tmp_path / "bare.pt")  # without its card
    recipe = ("--recipe", str(folder / "config.yaml"))
    for weights, name, told in (
        (folder / "last.ckpt", "ema", ()),
        (tmp_path / "model.pt", "exported", ()),
        (tmp_path / "bare.pt", "exported", recipe),
    ):
        capsys.readouterr()
        assert main(["--evaluate", str(weights), "--data", str(data), "--json", *told]) == 0
        found = json.loads(capsys.readouterr().out)["weights"][name]["validation"]
        assert found["images"] == HELD
        assert found[key] == pytest.approx(summary_of(folder)[key], rel=1e-5)
    assert main(["--evaluate", str(folder / "best.ckpt"), "--data", str(data)]) == 0
    assert f"ema  validation: {'macro-F1' if run == 'names' else 'MAE'} " in capsys.readouterr().out


def test_the_announcement_says_what_labels_are_and_what_was_changed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*args(data, tmp_path / "run", *NUMBERS), "--epochs", "1", "--ema", "null"]) == 0
    said = capsys.readouterr().out
    assert f"({TRAINED} images, regression, outputs: 2)" in said
    assert "fitted to the labels: loss.name bce -> mse" in said and "validation: by the column 'part'" in said
    assert "  MAE " in said and "  RMSE " in said and "  R2 " in said and "top-1" not in said


def test_a_run_of_numbers_is_resumed_bit_for_bit(
    numbers: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Updater.train_step

    def stopped(self: Updater, images: Tensor, labels: Tensor) -> Tensor:
        if self.step == 9:
            signal.raise_signal(signal.SIGTERM)
        return train_step(self, images, labels)

    again = args(data, tmp_path / "run", *NUMBERS, "--resume", "auto")
    with monkeypatch.context() as patched:
        patched.setattr(Updater, "train_step", stopped)
        assert main(again) == 143
    assert main(again) == 0
    one, two = (torch.load(run / "last.ckpt", weights_only=True) for run in (numbers, tmp_path / "run"))
    assert all(torch.equal(value, two["model"][name]) for name, value in one["model"].items())
    assert one["best"] == two["best"]


def test_labels_of_another_kind_are_another_run(
    names: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*args(data, names, *NUMBERS), "--resume", "auto"]) == 2
    assert "was made with labels that are 'multi-label', this run has 'regression'" in capsys.readouterr().err
    capsys.readouterr()
    assert main(["--evaluate", str(names / "last.ckpt"), "--data", "demo"]) == 2
    assert "task must be classes for 'demo'" in capsys.readouterr().err


def test_messages_name_the_options_of_the_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*args(data, tmp_path / "run"), "--table.label", "price", "--metric", "top-1"]) == 2
    assert "metric must be of mae, rmse, r2, loss" in capsys.readouterr().err
    assert main([*args(data, tmp_path / "run"), "--table.label", "colour"]) == 2
    assert "--table.label must name a column" in capsys.readouterr().err
    assert main([*args(data, tmp_path / "run"), "--table.label", "tags", "--task", "regression"]) == 1
    found = capsys.readouterr().err
    assert "line 2: '" in found and "give --task classes" in found
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "mobilenetv3_small_050"])
def test_weights_in_units_give_outputs_in_units(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2).eval()
    rng = np.random.default_rng(0)
    labels = (rng.normal(size=(50, 2)) * [3.0, 1e5] + [20.0, -1e6]).astype(np.float32)
    units = units_of(labels, ("a", "b"), model)
    assert units.standard(torch.from_numpy(labels)).std(dim=0, correction=0).tolist() == pytest.approx([1, 1])
    images = torch.randn(2, 3, *model.default_cfg["input_size"][1:])
    with torch.no_grad():
        given = units.given(model(images))
        model.load_state_dict(in_units(model.state_dict(), units))
        torch.testing.assert_close(model(images).double(), given, rtol=1e-5, atol=0.0)


def test_columns_and_models_that_cannot_be_learnt_are_named() -> None:
    from fastpipe.errors import ArgumentError, DataError

    model = timm.create_model("test_resnet", num_classes=2)
    with pytest.raises(DataError, match="labels of 'b' all have one value"):
        units_of(np.array([[1.0, 5.0], [2.0, 5.0]]), ("a", "b"), model)
    with pytest.raises(ArgumentError, match="one with a bias"):
        units_of(np.array([[1.0], [2.0]]), ("a",), torch.nn.Linear(1, 1))


def test_no_average_yet_is_in_any_units() -> None:
    units = Units(mean=torch.zeros(1), std=torch.ones(1), layers=("fc",))
    assert in_units({}, units) == {}


TIMES = ("--table.label", "time", "--metric", "rmse,r2,loss", "--epochs", "2", "--ema", "null")
START_S = 1_764_500_000.0  # of a day in 2025: float32 has steps of 128 s there


@pytest.fixture(scope="module")
def times(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list with a time of a few seconds' spread next to the other columns."""
    with open(data, newline="") as handle:
        rows = list(csv.DictReader(handle))
    with open(data.with_name("times.csv"), "w", newline="") as handle:
        writer = csv.DictWriter(handle, (*rows[0], "time"))
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "time": f"{START_S + float(row['age']) / 10:.3f}"})
    return data.with_name("times.csv")


def test_times_keep_their_seconds(times: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Metrics are those of float64 in the labels' own units, in the run, --evaluate and --predict."""
    out = tmp_path / "run"
    assert main(args(times, out, *TIMES)) == 0
    summary, state = summary_of(out), torch.load(out / "last.ckpt", weights_only=True)
    with open(times, newline="") as handle:
        trained = [float(row["time"]) for row in csv.DictReader(handle) if row["part"] == "train"]
    assert state["units"]["std"].item() == pytest.approx(np.std(trained), rel=1e-9)
    assert state["units"]["mean"].item() == pytest.approx(np.mean(trained), abs=1e-6)
    capsys.readouterr()
    assert main(["--evaluate", str(out / "last.ckpt"), "--data", str(times), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["weights"]["raw"]["validation"]
    for key in ("mae", "rmse", "r2"):
        assert found[key] == pytest.approx(summary[key], rel=1e-4), key
    labels = [float(row["time"]) for row in rows_of(times)]
    files = [str(times.parent / row["file"]) for row in rows_of(times)]
    assert main(["--predict", str(out / "last.ckpt"), *files]) == 0
    said = [float(row["time"]) for row in csv.DictReader(capsys.readouterr().out.splitlines())]
    assert sklearn.metrics.mean_absolute_error(labels, said) == pytest.approx(summary["mae"], abs=1e-5)


def test_an_export_says_what_float32_loses(
    times: Path, numbers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args(times, tmp_path / "run", *TIMES, "--epochs", "1")) == 0
    capsys.readouterr()
    assert main(["--export", str(tmp_path / "run" / "last.ckpt"), str(tmp_path / "model.pt")]) == 0
    assert (
        "note: float32 outputs in the labels' own units give 'time' in steps of 128 "
        in capsys.readouterr().out
    )
    assert "'time' in steps of 128" in json.loads((tmp_path / "model.json").read_text())["note"]
    assert main(["--export", str(numbers / "last.ckpt"), str(tmp_path / "fine.pt")]) == 0
    assert "note:" not in capsys.readouterr().out


def test_half_precision_never_holds_numbers_in_their_own_units(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prices of a million are beyond float16, and have steps of 4096 in bfloat16."""
    out, columns = tmp_path / "run", ("--table.label", "price", "--epochs", "1", "--ema", "null")
    assert main(args(data, out, *columns, "--precision", "amp_bf16")) == 0
    assert main(["--export", str(out / "last.ckpt"), str(tmp_path / "model.pt")]) == 0
    for weights, allowed in ((out / "last.ckpt", 1e-6), (tmp_path / "model.pt", 1e-2)):
        capsys.readouterr()
        assert main(["--evaluate", str(weights), "--data", str(data), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        (splits,) = found["weights"].values()
        assert splits["validation"]["mae"] == pytest.approx(summary_of(out)["mae"], rel=allowed)
        assert found["precision"] == ("fp32" if weights.suffix == ".pt" else "amp_bf16")


def test_a_run_that_starts_from_another_one_applies_no_units_twice(
    numbers: Path, data: Path, tmp_path: Path
) -> None:
    """From a checkpoint and from exported weights: the loss is that of the earlier run's end."""
    assert main(["--export", str(numbers / "last.ckpt"), str(tmp_path / "model.pt")]) == 0
    still = ("--table.label", "age,price", "--optimizer.lr", "1e-6", "--epochs", "1", "--ema", "null")
    for number, weights in enumerate((numbers / "last.ckpt", tmp_path / "model.pt")):
        out = tmp_path / str(number)
        options = (*still, "--metric", "loss", "--pretrained", "false", "--tta")
        assert main(args(data, out, *options, "--init-from", str(weights))) == 0
        assert summary_of(out)["val_loss"] == pytest.approx(summary_of(numbers)["val_loss"], abs=0.2)


def test_units_are_moved_to_the_device_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[torch.device] = []
    to = Units.to

    def counted(self: Units, device: torch.device) -> Units:
        moved.append(device)
        return to(self, device)

    monkeypatch.setattr(Units, "to", counted)
    assert main(args(data, tmp_path / "run", *NUMBERS, "--epochs", "2")) == 0
    assert moved == [torch.device("cpu")]


def test_labels_that_no_image_has_are_left_out_of_map_and_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(data, newline="") as handle:
        rows = list(csv.DictReader(handle))
    lines = [
        {
            "path": str(data.parent / row["file"]),
            "split": row["part"],
            "label": row["tags"].split("+") + (["rare"] if number == 0 else []),
        }
        for number, row in enumerate(rows)
    ]
    listed = tmp_path / "list.jsonl"
    listed.write_text("\n".join(json.dumps(line) for line in lines))
    assert main([*SMALL, "--data", str(listed), "--output-dir", str(tmp_path / "run"), "--epochs", "1"]) == 0
    words = "mAP leaves out 1 of 4 labels, which no validation image has: 'rare'"
    assert words in capsys.readouterr().out
    summary = summary_of(tmp_path / "run")
    assert 0.0 < summary["map"] <= 1.0 and summary["best"]["value"] == summary["map"]
    checkpoint = str(tmp_path / "run" / "last.ckpt")
    assert main(["--evaluate", checkpoint, "--data", str(listed)]) == 0
    assert words in capsys.readouterr().out
    assert main(["--evaluate", checkpoint, "--data", str(listed), "--json"]) == 0
    (splits, *_) = json.loads(capsys.readouterr().out)["weights"].values()
    assert splits["validation"]["labels_without_images"] == ["rare"]


# ---- --init-from


STILL = ("--optimizer.lr", "1e-30", "--optimizer.weight-decay", "0", "--ema", "null", "--epochs", "1")


def from_run(source: Path, data: Path, out: Path, *more: str) -> int:
    return main(args(data, out, "--init-from", str(source), *STILL, *more))


def other_units(data: Path) -> Path:
    """The same images and columns, of which the dearest half trains: another mean and deviation."""
    rows = list(csv.DictReader(data.read_text().splitlines()))
    kept = [row for row in rows if row["part"] == "val" or float(row["price"]) > 5e5]
    out = data.with_name("dear.csv")
    with open(out, "w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept)
    return out


@pytest.mark.parametrize("kind", ["checkpoint", "exported"])
def test_a_run_of_numbers_goes_on_in_their_units(
    kind: str, numbers: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run's mean and deviation are others; what it predicts before it learns is the first's."""
    source = numbers / "last.ckpt"
    if kind == "exported":
        source = tmp_path / "model.pt"
        assert main(["--export", str(numbers / "last.ckpt"), str(source)]) == 0
    capsys.readouterr()
    assert from_run(source, other_units(data), tmp_path / "second", *NUMBERS) == 0
    assert "classifier: that of these weights" in capsys.readouterr().out
    first, _ = outputs_of(numbers, data, tmp_path / "first.pt", flip=True)
    second, earlier = read_trained(tmp_path / "second" / "last.ckpt"), read_trained(numbers / "last.ckpt")
    weights, before = second.for_others(second.raw), earlier.for_others(earlier.averaged)
    for name in ("fc.weight", "fc.bias"):
        torch.testing.assert_close(weights[name], before[name], rtol=1e-4, atol=1e-2)
    assert first.shape == (HELD, 2)


@pytest.mark.parametrize(
    ("source", "wanted", "options"),
    [
        ("numbers", "multi-label", NAMES),
        ("names", "regression", NUMBERS),
        ("names", "classes", ("--table.label", "tags", "--task", "classes")),
    ],
)
def test_a_run_with_labels_of_another_kind_is_refused_by_name(
    source: str,
    wanted: str,
    options: tuple[str, ...],
    data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run: Path = request.getfixturevalue(source)
    capsys.readouterr()
    assert from_run(run / "last.ckpt", data, tmp_path / "second", *options) == 2
    said = capsys.readouterr().err
    assert (
        f"init_from must name a run whose labels are {wanted}" in said and "--pretrained weights.pt" in said
    )
    assert not (tmp_path / "second").exists()
