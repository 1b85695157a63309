"""The command line: recipes, overrides, suggestions, and what --print-config prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastpipe.errors import ArgumentError, MissingExtraError
from fastpipe.train.cli import main, parse
from fastpipe.train.config.keys import check_keys
from fastpipe.train.config.options import Options
from fastpipe.train.config.parser import RECIPES, recipe_names
from fastpipe.train.config.recipe import load_recipe, to_yaml
from fastpipe.train.config.schema import TrainConfig, scale_schedule

# Every value of the released mild recipe, from the facts, under the names that users see.
MILD = {
    "model": "resnet50",
    "epochs": 36,
    "batch_size": 2048,
    "train_resolution": 176,
    "val_resolution": 224,
    "val_resize": 232,
    "precision": "amp",
    "channels_last": True,
    "optimizer": {
        "name": "sgd",
        "lr": 2.048,
        "momentum": 0.875,
        "weight_decay": 5e-4,
        "beta2": 0.999,
        "decoupled_weight_decay": True,
        "weight_decay_on_norm": True,
        "weight_decay_on_bias": True,
        "layer_decay": 1.0,
    },
    "schedule": {
        "name": "cosine",
        "warmup_epochs": 8.0,
        "warmup_start": 0.0,
        "resolution": "step",
        "min_lr": 0.0,
    },
    "loss": {
        "name": "bce",
        "reduction": "sum",
        "bias_init": True,
        "label_smoothing": 0.08,
        "label_smoothing_mixup": "both",
    },
    "blurpool": True,
    "ema": {"half_life_batches": 100, "update_interval": 20, "reset_during_warmup": False},
    "progressive_resizing": {
        "kind": "composer",
        "where": "decoder",
        "initial_scale": 0.5,
        "delay_fraction": 0.4,
        "finetune_fraction": 0.2,
        "size_increment": 4,
        "start_epoch": 0.0,
        "end_epoch": 0.0,
    },
}


def _printed(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main([*args, "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(values, dict)
    return values


def test_mild_is_the_released_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    printed = _printed(capsys, "--recipe", "mild")
    assert {key: printed[key] for key in MILD} == MILD
    assert printed["data"] is None and printed["fit_to_data"] == "auto"


def test_overrides_with_dashes_and_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    dashed = _printed(
        capsys,
        *("--recipe", "mild", "--data", "demo", "--epochs", "4", "--model", "resnet18"),
        *("--train-resolution", "64", "--optimizer.lr", "0.5", "--optimizer.weight-decay=1e-4"),
    )
    underscored = _printed(
        capsys,
        *("--recipe=mild", "--data=demo", "--epochs=4", "--model=resnet18"),
        *("--train_resolution=64", "--optimizer.lr=0.5", "--optimizer.weight_decay", "0.0001"),
    )
    assert dashed == underscored
    assert (dashed["epochs"], dashed["model"], dashed["train_resolution"]) == (4, "resnet18", 64)
    assert dashed["optimizer"] == {**MILD["optimizer"], "lr": 0.5, "weight_decay": 1e-4}  # type: ignore[dict-item]
    # Nothing is fitted here, though 4 epochs are shorter than the warmup: the data decides that.
    assert dashed["batch_size"] == 2048 and dashed["schedule"]["warmup_epochs"] == 8.0


@pytest.mark.parametrize(
    ("args", "sizes"),
    [
        ((), (176, 224, 232)),
        (("--train-resolution", "64"), (64, 80, 84)),
        (("--train-resolution", "96"), (96, 124, 128)),
        (("--train-resolution", "224"), (224, 284, 296)),
        (("--train-resolution", "64", "--val-resolution", "64"), (64, 64, 68)),
        (("--val-resolution", "320"), (176, 320, 332)),
        (("--train-resolution", "64", "--val-resize", "96"), (64, 80, 96)),
    ],
)
def test_validation_sizes_follow_the_training_size(
    args: tuple[str, ...], sizes: tuple[int, int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    printed = _printed(capsys, *args)
    assert tuple(printed[k] for k in ("train_resolution", "val_resolution", "val_resize")) == sizes


def test_printed_configuration_reads_back_as_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _printed(capsys, "--optimizer.lr", "1e-3", "--ema", "null", "--schedule-scale", "0.5")
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(first))
    assert _printed(capsys, "--recipe", str(path)) == first
    assert first["ema"] is None and first["recipe"] == "mild" and first["epochs"] == 18


def test_a_method_switched_off_and_on_again(capsys: pytest.CaptureFixture[str]) -> None:
    off = _printed(capsys, "--progressive-resizing", "null", "--blurpool", "false")
    assert off["progressive_resizing"] is None and off["blurpool"] is False
    assert _printed(capsys, "--ema.half-life-batches", "7")["ema"] == {
        "half_life_batches": 7,
        "update_interval": 20,
        "reset_during_warmup": False,
    }


@pytest.mark.parametrize(("scale", "epochs"), [(0.32, 28), (0.4, 36), (1.5, 135), (3.0, 270), (0.7, 63)])
def test_schedule_scale_truncates_epochs_and_leaves_the_warmup(scale: float, epochs: int) -> None:
    config = parse(["--epochs", "90", "--schedule-scale", str(scale)]).config
    assert config.epochs == epochs and config.schedule.warmup_epochs == 8.0
    assert scale_schedule(config) == config


def test_fit_to_data_is_a_flag_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(capsys, "--fit-to-data", "--epochs", "3")["fit_to_data"] is True
    assert _printed(capsys, "--fit-to-data", "false")["fit_to_data"] is False
    assert _printed(capsys, "--fit-to-data=auto")["fit_to_data"] == "auto"


def test_explicit_keys_and_the_recipes_batch_are_known() -> None:
    invocation = parse(["--batch-size", "128", "--optimizer.lr=0.5"])
    assert invocation.explicit == {"batch_size", "optimizer.lr"}
    assert invocation.recipe_batch_size == 2048


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--recipe", "mlid"), "unknown recipe 'mlid'. Did you mean 'mild'?"),
        (("--train-resolutoin", "64"), "Did you mean '--train_resolution'?"),
        (("--optimizer.lrr", "1"), "Did you mean '--optimizer.lr'?"),
        (("--lr", "1"), "Did you mean '--optimizer.lr'?"),
        (("--warmup-epochs=3",), "Did you mean '--schedule.warmup_epochs'?"),
        (("--epochs", "many"), "epochs"),
        (("--epochs", "0"), "epochs must be at least 1. Found: 0"),
        (("--train-resolution", "65"), "multiple of 4 and at least 32 pixels (the nearest is 64). Found: 65"),
        (("--train-resolution", "28"), "(the nearest is 32). Found: 28"),
        (("--val-resize", "100"), "val_resize must be >= val_resolution (224). Found: 100"),
        (("--precision", "fp8"), "precision"),
        (
            ("--progressive-resizing.delay-fraction", "0.9"),
            "delay_fraction + finetune_fraction must be at most 1",
        ),
        (("--schedule-scale", "0.01"), "schedule_scale"),
        (("--recipe", "absent.yaml"), "'absent.yaml' does not exist"),
        ((), "data must name the training data"),
        (("--model", "resnet18.", "--print-config"), "Give --model resnet18"),
    ],
)
def test_mistakes_are_named_with_the_remedy(
    args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.out == ""
    assert "Traceback" not in shown.err


def test_misspelt_key_in_a_recipe_file_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("optimizer:\n  momentun: 0.9\n")
    with pytest.raises(ArgumentError, match=r"'optimizer.momentun'.*Did you mean 'optimizer.momentum'"):
        load_recipe(str(path))
    path.write_text("- a list\n")
    with pytest.raises(ArgumentError, match="keys and values"):
        load_recipe(str(path))


def test_recipe_file_values_are_checked_and_converted(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 5\noptimizer:\n  lr: 5e-1\n")  # YAML 1.1 reads 5e-1 as a string
    assert load_recipe(str(path)).optimizer.lr == 0.5
    path.write_text("epochs: several\n")
    with pytest.raises(ArgumentError, match="epochs"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_names_every_key_it_relies_on(name: str) -> None:
    """A recipe is data: no value of it hides in a default of the code."""
    text = (RECIPES / f"{name}.yaml").read_text()
    assert text.startswith("#") and "Source:" in text and "Command:" in text and "Published" in text
    written = yaml.safe_load(text)
    check_keys(written, where=name)
    printed = yaml.safe_load(to_yaml(load_recipe(name)))
    left_to_the_run = {
        *("data", "held_out", "num_workers", "output_dir", "fit_to_data", "schedule_scale"),
        *("on_error", "max_bad", "table", "task", "metric", "best_metric", "early_stopping"),
        *("checkpoint_interval", "skip_nonfinite", "validate_raw"),
        # Those of a run from pretrained weights, and what such weights bring along.
        *("pretrained", "init_from", "freeze", "freeze_epochs", "preprocessing", "mean", "std"),
    }
    assert set(printed) - set(written) <= left_to_the_run
    assert {key: printed[key] for key in written} == written


def test_missing_extra_prints_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    assert main(["--print-config"]) == 2
    assert "pip install timm jsonargparse tensorboard" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "timm", None)
    from fastpipe.train.model import create_model

    with pytest.raises(MissingExtraError, match="timm"):
        create_model("resnet18", 2)


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fastpipe.train", "--recipe", "mild", "--epochs", "3", "--print-config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["epochs"] == 3


def test_help_explains_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "--optimizer.lr" in capsys.readouterr().out


EMPTY = ("pretrained", "init-from", "output-dir", "data", "resume", "wandb", "mlflow", "model", "metric")


@pytest.mark.parametrize("option", EMPTY)
@pytest.mark.parametrize("form", ["one", "two"])
def test_an_empty_value_is_no_value_left_out(
    option: str,
    form: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As of a variable that was not set: `--pretrained "$WEIGHTS"` trained from random weights."""
    monkeypatch.chdir(tmp_path)
    given = [f"--{option}="] if form == "one" else [f"--{option}", ""]
    assert main(["--recipe", "mild", *given]) == 2
    assert f"--{option} must not be empty. Found: ''" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "args",
    [
        ["--evaluate", "", "--data", "demo"],
        ["--evaluate", "a.ckpt", "--data", ""],
        ["--evaluate", "a.ckpt", "--data", "demo", "--html="],
        ["--export", "a.ckpt", ""],
        ["--predict", "a.ckpt", "a.jpg", "--output", ""],
        ["--predict", "a.ckpt", ""],
        ["--report", ""],
        ["study", "table2", "--output="],
    ],
)
def test_every_command_refuses_an_empty_value(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    assert "must not be empty. Found: ''" in capsys.readouterr().err


def test_scripts_and_files_cannot_have_empty_values_either(tmp_path: Path) -> None:
    for values in ({"pretrained": ""}, {"init_from": " "}, {"output_dir": ""}):
        (name,) = values
        with pytest.raises(ArgumentError, match=f"^{name} must not be empty"):
            TrainConfig(**values)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        with pytest.raises(ArgumentError, match=f"{name} must not be empty"):
            load_recipe(str(path))
    with pytest.raises(ArgumentError, match=r"^--mlflow must not be empty"):
        Options(mlflow="")
