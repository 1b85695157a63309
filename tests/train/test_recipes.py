"""The recipes against Table 1 of the ResNet Deep Dive and the sources named in each file."""

from __future__ import annotations

from typing import Any

import pytest

from fastpipe.train.cli import main, parse
from fastpipe.train.config.keys import config_to_dict
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.recipe_table import ROWS

# Columns as in Table 1; "-" is off. FFCV's batch and schedule are the code's: 512 per GPU, linear per step.
NAMES = ("timm_a1", "timm_a2", "timm_a3", "pytorch_blog", "ffcv", "nvidia_mlperf", "nvidia_hparams")
NAMES += ("mild", "medium", "hot")
TABLE = {
    "epochs": "600 300 100 600 88 34 90 36 135 270",
    "optimizer.lr": "0.005 0.005 0.008 0.5 1.7 10.5 2.048 2.048 2.048 2.048",
    "optimizer.name": "lamb lamb lamb sgd sgd lars sgd sgd sgd sgd",
    "optimizer.weight_decay": "0.01 0.02 0.02 2e-5 1e-4 5e-5 5e-4 5e-4 5e-4 5e-4",
    "optimizer.decoupled_weight_decay": "- - - - - - True True True True",
    "optimizer.weight_decay_on_norm": "- - - - - - True True True True",
    "optimizer.momentum": "0.9 0.9 0.9 0.9 0.9 0.9 0.875 0.875 0.875 0.875",
    "schedule.name": "cosine cosine cosine cosine linear polynomial cosine cosine cosine cosine",
    "schedule.warmup_epochs": "5 5 5 5 2 2 8 8 8 8",
    "schedule.resolution": "step step step epoch step step step step step step",
    "batch_size": "2048 2048 2048 1024 4096 3264 2048 2048 2048 2048",
    "train_resolution": "224 224 160 176 192 224 224 176 176 176",
    "val_resolution": "224 224 224 224 224 224 224 224 224 224",
    "val_resize": "236 236 236 232 256 256 256 232 232 232",
    "loss.name": "bce bce bce cross_entropy cross_entropy cross_entropy cross_entropy bce bce bce",
    "loss.label_smoothing": "0.1 - - 0.1 0.1 0.1 - 0.08 0.1 0.13",
    "blurpool": "- - - - ffcv - - True True True",
    "colout": "- - - - - - - - - 0.05",
    "cutmix_alpha": "1 1 1 1 - - - - - -",
    "mixup_alpha": "0.2 0.1 0.1 0.2 - - - - 0.2 0.25",
    "randaugment.depth": "2 2 2 1 - - - - - 1",
    "random_erasing": "- - - 0.1 - - - - - -",
    "repeated_augmentation": "3 3 1 4 1 1 1 1 1 1",
    "sam.rho": "- - - - - - - - 0.5 0.5",
    "sam.interval": "- - - - - - - - 10 5",
    "stochastic_depth.drop_rate": "0.05 0.05 - - - - - - - 0.1",
    "ema.half_life_batches": "- - - 20296 - - - 100 100 100",
    "progressive_resizing.initial_scale": "- - - - 0.8333333333333334 - - 0.5 0.5 0.6",
    "tta": "- - - - - - - - - -",
}


def value(values: dict[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = None if found is None else found[part]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_recipe_has_the_values_of_table_1(name: str) -> None:
    values = config_to_dict(load_recipe(name))
    for key, row in TABLE.items():
        expected, found = row.split()[NAMES.index(name)], value(values, key)
        if expected == "-":
            assert not found, key
        elif isinstance(found, bool | str):
            assert str(found) == expected, key
        else:
            assert found == pytest.approx(float(expected)), key


def test_hot_as_released_differs_in_the_weight_decay_alone() -> None:
    hot, released = (config_to_dict(load_recipe(name)) for name in ("hot", "hot_released"))
    assert released["optimizer"]["weight_decay"] == 3e-4
    released["optimizer"]["weight_decay"] = 5e-4
    assert released | {"recipe": "hot"} == hot


def test_timm_recipes_draw_what_timms_string_says() -> None:
    policy = load_recipe("timm_a1").randaugment
    assert policy is not None
    assert (policy.space, policy.magnitude, policy.mstd, policy.increasing) == ("timm", 7, 0.5, True)
    assert load_recipe("timm_a3").randaugment.magnitude == 6  # type: ignore[union-attr]


# Table 9 of arXiv 2012.12877 and DeiT's main.py; Table 5 of arXiv 2201.03545 and ConvNeXt's main.py.
SINCE = {
    "model": "deit_small_patch16_224 convnext_tiny",
    "epochs": "300 300",
    "batch_size": "1024 4096",
    "optimizer.name": "adamw adamw",
    "optimizer.weight_decay": "0.05 0.05",
    "optimizer.weight_decay_on_norm": "- -",
    "optimizer.weight_decay_on_bias": "- -",
    "schedule.name": "cosine cosine",
    "schedule.warmup_epochs": "5 20",
    "schedule.min_lr": "1e-5 1e-6",
    "schedule.resolution": "epoch step",
    "loss.name": "cross_entropy cross_entropy",
    "loss.label_smoothing": "0.1 0.1",
    "randaugment.space": "timm timm",
    "randaugment.magnitude": "9 9",
    "randaugment.mstd": "0.5 0.5",
    "randaugment.increasing": "True True",
    "mixup_alpha": "0.8 0.8",
    "cutmix_alpha": "1 1",
    "mixup_switch_prob": "0.5 0.5",
    "random_erasing": "0.25 0.25",
    "repeated_augmentation": "3 1",
    "stochastic_depth.drop_rate": "0.1 0.1",
    "grad_clip": "- -",
    "train_resolution": "224 224",
    "val_resize": "256 256",
}


@pytest.mark.parametrize("column", [0, 1], ids=["deit", "convnext"])
def test_recipes_of_other_models_have_the_values_of_their_papers(column: int) -> None:
    config = load_recipe(("deit", "convnext")[column])
    values = config_to_dict(config)
    for key, row in SINCE.items():
        expected, found = row.split()[column], value(values, key)
        if expected == "-":
            assert not found, key
        else:
            assert str(found) == expected or found == pytest.approx(float(expected)), key
    # DeiT: 5e-4 x batch / 512, warmup from 1e-6. ConvNeXt: 4e-3 at 4096, an average with decay 0.9999.
    assert config.optimizer.lr == pytest.approx((5e-4 * 1024 / 512, 4e-3)[column])
    assert config.schedule.warmup_start * config.optimizer.lr == pytest.approx((1e-6, 0.0)[column])
    if config.ema is not None:
        assert 0.5 ** (1 / config.ema.half_life_batches) == pytest.approx(0.9999, abs=1e-8)
    assert (config.ema is None) == (column == 0)


def test_torchvisions_average_is_rescaled_as_its_script_does() -> None:
    ema = load_recipe("pytorch_blog").ema
    assert ema is not None
    # references/classification/train.py: alpha = (1 - decay) * world * batch * steps / epochs
    alpha = (1.0 - 0.99998) * 1024 * 32 / 600
    assert 2.0 ** -(ema.update_interval / ema.half_life_batches) == pytest.approx(1.0 - alpha, rel=1e-6)


def test_the_list_has_every_row_and_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [*NAMES, "deit", "convnext"]
    assert len(lines) == 1 + len(ROWS)
    rates = next(line for line in lines if line.startswith("learning rate"))
    assert rates.split()[2:] == [
        "0.005",
        "0.005",
        "0.008",
        "0.5",
        "1.7",
        "10.5",
        *["2.048"] * 4,
        "0.001",
        "0.004",
    ]


def test_a_ramp_in_epochs_follows_the_length_of_training() -> None:
    ramp = parse(["--recipe", "ffcv", "--epochs", "16"]).config.progressive_resizing
    assert ramp is not None
    assert (ramp.start_epoch, ramp.end_epoch) == pytest.approx((65 * 16 / 88, 76 * 16 / 88))
    given = parse(["--recipe", "ffcv", "--epochs", "16", "--progressive-resizing.start-epoch", "11"])
    assert given.config.progressive_resizing.start_epoch == 11  # type: ignore[union-attr]
