"""Writes tests/train/golden/composer.json: MosaicML Composer's results, for the trainer's parity tests.

Composer needs an older torch, so it gets its own environment:

    python3 -m venv /some/where && /some/where/bin/pip install mosaicml==0.32.1
    /some/where/bin/python scripts/golden_composer.py

The model, the data and the settings are repeated in tests/train/test_composer_parity.py.
"""

from __future__ import annotations

import json
import logging
import platform
from pathlib import Path
from typing import Any

import composer
import torch
import torch.nn.functional as F
from composer import Callback, Trainer
from composer.algorithms import EMA, SAM, ColOut, LabelSmoothing, ProgressiveResizing
from composer.algorithms.blurpool import apply_blurpool
from composer.algorithms.colout import colout_batch
from composer.models import ComposerModel
from composer.optim import CosineAnnealingWithWarmupScheduler, DecoupledSGDW
from torch import nn
from torch.utils.data import DataLoader, Dataset

OUT = Path(__file__).parent.parent / "tests" / "train" / "golden" / "composer.json"
EPOCHS, STEPS, BATCH, CLASSES, SIDE = 5, 6, 4, 3, 40
# Epochs; initial scale and delay of the resizing, or None; share of ColOut.
RECIPES = {
    "mild": (36, (0.5, 0.4), 0.0),
    "medium": (135, (0.5, 0.4), 0.0),
    "hot": (270, (0.6, 0.2), 0.05),
    "nvidia_hparams": (90, None, 0.0),
}


def numbers(*shape: int, scale: float = 1.0) -> torch.Tensor:
    """Reproducible without a generator: sines of 1, 2, 3, ..."""
    count = torch.Size(shape).numel()
    return (torch.sin(torch.arange(1, count + 1, dtype=torch.float64)) * scale).float().reshape(shape)


def net() -> nn.Module:
    """A convolution, a BatchNorm and a classifier, with weights from `numbers`."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )
    for value in model.parameters():
        value.data.copy_(numbers(*value.shape, scale=0.3))
    return model


class Images(Dataset):
    """BATCH * STEPS fixed images with labels in turn."""

    def __len__(self) -> int:
        return BATCH * STEPS

    def __getitem__(self, i: int) -> Any:
        return torch.cos(numbers(3, SIDE, SIDE) * (i + 1)), i % CLASSES


class Model(ComposerModel):
    """BCE summed over classes, divided by the batch, on dense targets."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, batch: Any) -> torch.Tensor:
        """Logits."""
        return self.net(batch[0])

    def loss(self, outputs: torch.Tensor, batch: Any) -> torch.Tensor:
        """As fastpipe's."""
        target = batch[1]
        if target.ndim == 1:
            target = F.one_hot(target, CLASSES).float()
        return F.binary_cross_entropy_with_logits(outputs, target.float(), reduction="sum") / len(outputs)


class Watch(Callback):
    """Notes the rate, the side and the weights of every step."""

    def __init__(self) -> None:
        self.lr: list[float] = []
        self.side: list[int] = []
        self.bias: list[list[float]] = []

    def before_forward(self, state: Any, logger: Any) -> None:
        """The size of the network's input."""
        self.side.append(state.batch[0].shape[-1])

    def before_train_batch(self, state: Any, logger: Any) -> None:
        """The rate of the step to come."""
        self.lr.append(state.optimizers[0].param_groups[0]["lr"])

    def batch_end(self, state: Any, logger: Any) -> None:
        """The classifier's bias after the step."""
        self.bias.append(state.model.net[4].bias.detach().tolist())


def train(algorithms: list[Any]) -> tuple[Watch, Model, list[Any]]:
    """EPOCHS epochs of STEPS batches, in order, on the CPU."""
    model, watch = Model(), Watch()
    optimizer = DecoupledSGDW(model.parameters(), lr=0.5, momentum=0.875, weight_decay=5e-3)
    trainer = Trainer(
        model=model,
        train_dataloader=DataLoader(Images(), batch_size=BATCH),
        max_duration=f"{EPOCHS}ep",
        optimizers=optimizer,
        schedulers=CosineAnnealingWithWarmupScheduler(t_warmup="2ep"),
        algorithms=algorithms,
        callbacks=[watch],
        device="cpu",
        progress_bar=False,
        step_schedulers_every_batch=True,
    )
    trainer.fit()
    return watch, model, trainer.state.algorithms


class OneImage(Dataset):
    """One image of the recipes' training size, so that a step is an epoch."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> Any:
        return torch.zeros(3, 176, 176), 0


class Idle(Model):
    """A weight of 1 whose gradient is 0, so that only the decay changes it."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def loss(self, outputs: torch.Tensor, batch: Any) -> torch.Tensor:
        """The loss, which the idle weight does not change."""
        return super().loss(outputs, batch) + 0.0 * self.idle.sum().float()


class Curves(Watch):
    """The idle weight after every step as well."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: list[float] = []

    def batch_end(self, state: Any, logger: Any) -> None:
        """One step's."""
        self.idle.append(state.model.idle.item())


def curves(epochs: int, resizing: tuple[float, float] | None, colout: float) -> dict[str, Any]:
    """Rates, decay and sizes of a recipe, epoch by epoch, in Hot's order: ColOut, then the resize."""
    model, watch, algorithms = Idle(), Curves(), []
    if colout:
        algorithms.append(ColOut(p_row=colout, p_col=colout, batch=True))
    if resizing is not None:
        scale, delay = resizing
        settings = {"initial_scale": scale, "delay_fraction": delay, "finetune_fraction": 0.2}
        # HEAD runs what stands later first (set_filo_order), 0.7.1 in the order of the list.
        algorithms.insert(0, ProgressiveResizing(mode="resize", size_increment=4, **settings))
    trainer = Trainer(
        model=model,
        train_dataloader=DataLoader(OneImage(), batch_size=1),
        max_duration=f"{epochs}ep",
        optimizers=DecoupledSGDW(model.parameters(), lr=2.048, momentum=0.875, weight_decay=5e-4),
        schedulers=CosineAnnealingWithWarmupScheduler(t_warmup="8ep"),
        algorithms=algorithms,
        callbacks=[watch],
        device="cpu",
        progress_bar=False,
        step_schedulers_every_batch=True,
    )
    trainer.fit()
    return {"lr": watch.lr, "side": watch.side, "idle": watch.idle}


class Gradients(Callback):
    """The gradients after the step in which SAM acts first."""

    def __init__(self, step: int) -> None:
        self.step, self.found = step, {}

    def batch_end(self, state: Any, logger: Any) -> None:
        """Those at the moved weights: the base optimizer has just used them."""
        if int(state.timestamp.batch) == self.step:
            named = state.model.net.named_parameters()
            self.found = {name: value.grad.flatten().tolist() for name, value in named}


def sam_gradients() -> dict[str, list[float]]:
    """Of the third step, the first with two passes, at a rate of 0 until then: the starting weights'."""
    model, watch = Model(), Gradients(3)
    trainer = Trainer(
        model=model,
        train_dataloader=DataLoader(Images(), batch_size=BATCH),
        max_duration="3ba",
        optimizers=DecoupledSGDW(model.parameters(), lr=1e-30, momentum=0.875, weight_decay=0.0),
        algorithms=[SAM(rho=0.5, interval=3)],
        callbacks=[watch],
        device="cpu",
        progress_bar=False,
    )
    trainer.fit()
    return watch.found


def final(model: Model) -> dict[str, list[float]]:
    """Every tensor of the model, flattened, in full precision."""
    return {name.removeprefix("net."): value.flatten().tolist() for name, value in model.state_dict().items()}


def run(algorithms: list[Any]) -> dict[str, Any]:
    """What one training did."""
    watch, model, _ = train(algorithms)
    return {"lr": watch.lr, "side": watch.side, "bias": watch.bias, "final": final(model)}


def ema() -> dict[str, Any]:
    """The averaged weights after a training with EMA."""
    _, _, algorithms = train([EMA(half_life="4ba", update_interval="2ba")])
    average = next(a for a in algorithms if isinstance(a, EMA)).ema_model
    names = {**average.named_parameters_dict, **average.named_buffers_dict}
    return {name.removeprefix("net."): value.flatten().tolist() for name, value in names.items()}


def blurpool() -> dict[str, Any]:
    """A strided convolution and a pooling, blurred."""
    model = nn.Sequential(nn.Conv2d(16, 4, 3, stride=2, padding=1, bias=False), nn.MaxPool2d(3, 2, 1))
    model[0].weight.data.copy_(numbers(4, 16, 3, 3))
    apply_blurpool(model, replace_convs=True, replace_maxpools=True, blur_first=True, min_channels=16)
    return {"out": model(numbers(2, 16, 11, 12)).flatten().tolist()}


def main() -> None:
    """Run everything and write the file."""
    logging.disable(logging.WARNING)
    resizing = ProgressiveResizing(
        mode="resize", initial_scale=0.5, delay_fraction=0.4, finetune_fraction=0.2, size_increment=4
    )
    golden = {
        "made_with": f"mosaicml {composer.__version__}, torch {torch.__version__}, {platform.machine()}",
        "plain": run([]),
        "label_smoothing": run([LabelSmoothing(0.1)]),
        "sam": run([SAM(rho=0.5, interval=3)]),
        "progressive_resizing": run([resizing])["side"],
        "sam_gradients": sam_gradients(),
        "recipes": {name: curves(*settings) for name, settings in RECIPES.items()},
        "ema": ema(),
        "blurpool": blurpool(),
        "colout": {
            str(side): list(colout_batch(torch.zeros(1, 3, side, side), p_row=0.05, p_col=0.05).shape[-2:])
            for side in range(88, 225, 4)
        },
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
