"""Every recipe trains for 40 steps at reduced size, and each method it lists really acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.layers import DropPath
from torch import Tensor, nn

from fastpipe.storage import open_index
from fastpipe.train.algorithms.blurpool import BlurConv2d, BlurMaxPool2d
from fastpipe.train.algorithms.sam import SAM
from fastpipe.train.algorithms.stochastic_depth import DropBranch
from fastpipe.train.cli import parse
from fastpipe.train.config.fit import fit_to_data
from fastpipe.train.config.parser import recipe_names
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import train_loader
from fastpipe.train.loop import Trainer
from fastpipe.train.model import build_model

EPOCHS, STEPS, BATCH, CLASSES = 5, 8, 4, 4
# Small models of the families that the recipes are made for; else resnet18.
MODELS = {"deit": "test_vit", "convnext": "test_convnext"}
REDUCED = (
    "--train-resolution",
    "64",
    "--epochs",
    str(EPOCHS),
    "--batch-size",
    str(BATCH),
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipes")
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (root / str(label)).mkdir()
        for number in range(STEPS * BATCH // CLASSES):
            pixels = rng.integers(0, 128, (72, 80, 3), dtype=np.uint8) + np.uint8(30 * label)
            Image.fromarray(pixels).save(root / str(label) / f"{number}.png")
    return root


class Seen:
    """A run, watched: what came out of the loader and what the methods did."""

    def __init__(self, recipe: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        index = open_index(folder)
        name = MODELS.get(recipe, "resnet18")
        asked = parse(
            ["--recipe", recipe, "--model", name, *REDUCED, "--num-workers", "0", "--precision", "fp32"]
        )
        fitted = fit_to_data(
            asked.config, len(index), explicit=asked.explicit, recipe_batch_size=asked.recipe_batch_size
        )
        self.config: TrainConfig = fitted.config
        torch.manual_seed(self.config.seed)
        loader = train_loader(self.config, index)
        model = build_model(self.config, CLASSES, CPU)
        self.first_bias = model.get_classifier().bias.detach().clone()
        self.trainer = Trainer(
            config=self.config, model=model, loader=loader, num_classes=CLASSES, device=CPU
        )
        self.sides: list[int] = []
        self.labels: list[Tensor] = []
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.ascents = 0
        ascend, step = SAM.ascend, self.trainer.train_step

        def counted(sam: SAM, params: Any) -> bool:
            self.ascents += 1
            return ascend(sam, params)

        def watched(images: Tensor, labels: Tensor) -> Tensor:
            self.sides.append(images.shape[-1])
            self.labels.append(labels)
            loss = step(images, labels)
            self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])
            self.losses.append(loss.item())
            return loss

        monkeypatch.setattr(SAM, "ascend", counted)
        monkeypatch.setattr(self.trainer, "train_step", watched)
        for _ in range(EPOCHS):
            self.trainer.train_epoch(lambda *_: None)
        self.plan = repr(loader.explain())

    def modules(self, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in self.trainer.model.modules())


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_trains_with_every_method_it_lists(
    recipe: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(recipe, folder, monkeypatch)
    config = seen.config
    assert len(seen.losses) == EPOCHS * STEPS == 40
    assert np.isfinite(seen.losses).all()
    _check_optimizer(seen, config)
    _check_data(seen, config)
    _check_model(seen, config)
    ema = seen.trainer.ema
    assert (ema is not None) == (config.ema is not None)
    if ema is not None:
        own = seen.trainer.model.state_dict()
        assert any(not torch.equal(ema.shadow[name], own[name]) for name in own)
    due = 0 if config.sam is None else EPOCHS * STEPS // config.sam.interval
    assert seen.ascents == due


def _check_optimizer(seen: Seen, config: TrainConfig) -> None:
    kinds = {
        "adamw": "AdamW",
        "lamb": "Lamb",
        "lars": "Lars",
        "sgd": "DecoupledSGD" if config.optimizer.decoupled_weight_decay else "SGD",
    }
    assert type(seen.trainer.optimizer).__name__ == kinds[config.optimizer.name]
    assert seen.rates == [seen.trainer.lr(step) for step in range(EPOCHS * STEPS)]
    by_epoch = np.reshape(seen.rates, (EPOCHS, STEPS))
    assert (by_epoch == by_epoch[:, :1]).all() == (config.schedule.resolution == "epoch")
    decays = {group["weight_decay"] for group in seen.trainer.optimizer.param_groups}
    assert (0.0 in decays) == (not config.optimizer.weight_decay_on_norm)


def _check_data(seen: Seen, config: TrainConfig) -> None:
    resized = len(set(seen.sides)) > 1
    assert resized == (config.progressive_resizing is not None)
    full = int(64 * (1 - config.colout))
    assert max(seen.sides) == full
    mixed = [labels.ndim == 2 for labels in seen.labels]
    assert all(mixed) if config.mixup_alpha or config.cutmix_alpha else not any(mixed)
    for name, on in (
        ("RandAugment", config.randaugment is not None and config.randaugment.space != "trivial"),
        ("TrivialAugmentWide", config.randaugment is not None and config.randaugment.space == "trivial"),
        ("ColOut", config.colout > 0),
        ("RandomErasing", config.random_erasing > 0),
    ):
        assert (name in seen.plan) == on, name
    ids = [int(i) for batch in seen.trainer.loader._index_sampler for i in batch]  # type: ignore[attr-defined]
    assert len(ids) == STEPS * BATCH
    copies = max(ids.count(i) for i in ids)
    assert copies == config.repeated_augmentation


def _check_model(seen: Seen, config: TrainConfig) -> None:
    assert seen.modules(BlurConv2d) == (6 if config.blurpool else 0)
    assert seen.modules(BlurMaxPool2d) == (1 if config.blurpool is True else 0)
    depth = config.stochastic_depth
    kind = "" if depth is None else depth.kind
    assert seen.modules(DropBranch) == (8 if kind == "composer" else 0)
    # timm's first block has rate 0. test_vit: 6 blocks of two branches; test_convnext: 9 blocks; resnet18: 8.
    dropping = {"test_vit": 10, "test_convnext": 8, "resnet18": 7}[config.model]
    assert seen.modules(DropPath) == (dropping if kind == "timm" else 0)
    is_set = bool(torch.allclose(seen.first_bias, torch.full((CLASSES,), -float(np.log(CLASSES)))))
    assert is_set == config.loss.bias_init
