"""One rank for test_distributed.py: `rank_program.py CASES FOLDER OUT`, for RANK and WORLD_SIZE.

Writes OUT/CASE-WORLD_SIZE-RANK.pt with what this rank saw, or whole runs in OUT/straight and OUT/stopped.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastpipe.storage import BetonDataset, index, open_index
from fastpipe.train import betons as beton
from fastpipe.train.config.groups import (
    EMAConfig,
    ProgressiveResizingConfig,
    SAMConfig,
    StochasticDepthConfig,
)
from fastpipe.train.config.options import Options
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import eval_loader, train_loader
from fastpipe.train.distributed import current_shard, gathered, joined_rows, process_group
from fastpipe.train.errors import StoppedError
from fastpipe.train.loop import Trainer
from fastpipe.train.losses import StepLog
from fastpipe.train.metrics.table import chosen
from fastpipe.train.model import build_model
from fastpipe.train.prepare import fitted_here
from fastpipe.train.runner import run
from fastpipe.train.step import Updater
from fastpipe.train.timing import EpochClock
from fastpipe.types import Shard

CPU = torch.device("cpu")
MILD = load_recipe("mild")
BASE = replace(
    MILD,
    epochs=4,
    batch_size=8,
    train_resolution=32,
    val_resolution=32,
    val_resize=36,
    progressive_resizing=None,
    num_workers=0,
    backend="torchvision",
    blurpool=False,
    optimizer=replace(MILD.optimizer, lr=0.02),
    schedule=replace(MILD.schedule, warmup_epochs=0.5),
)
EQUAL = replace(
    BASE,
    model="test_convnext",  # LayerNorm: nothing is shared within a batch
    init="model",
    ema=EMAConfig(half_life_batches=4, update_interval=2),
    grad_clip=0.5,
    randaugment=load_recipe("hot").randaugment,
    random_erasing=0.5,
)
RESNET = replace(
    BASE,
    model="test_resnet",
    mixup_alpha=0.2,
    grad_accumulation=2,
    sam=SAMConfig(rho=0.05, interval=3),
)
RUN = replace(
    RESNET,
    epochs=2,
    fit_to_data=False,
    stochastic_depth=StochasticDepthConfig(drop_rate=0.3),
    ema=EMAConfig(half_life_batches=4, update_interval=4),  # the stop is between two updates
    progressive_resizing=ProgressiveResizingConfig(delay_fraction=0.2, finetune_fraction=0.2),
    train_resolution=64,
    metric="macro-f1",
    best_metric="loss",
)
CONFIGS: dict[str, TrainConfig] = {
    "equal": EQUAL,
    "resnet": RESNET,
    "repeated": replace(EQUAL, repeated_augmentation=3, epochs=1),
}


def made(config: TrainConfig, folder: Path, shard: Shard) -> Trainer:
    index = open_index(folder)
    torch.manual_seed(0)
    model = build_model(config, len(index.classes), CPU)
    loader = train_loader(config, index, shard)
    return Trainer(
        config=config,
        model=model,
        loader=loader,
        num_classes=len(index.classes),
        device=CPU,
        metrics=chosen("classes", "macro-f1,loss", None, num_classes=len(index.classes)),
    )


def train(config: TrainConfig, folder: Path, shard: Shard) -> dict[str, Any]:
    """All epochs, watched: this rank's batches, losses, the first step's gradients, weights, counts."""
    trainer = made(config, folder, shard)
    batches: list[tuple[Tensor, Tensor]] = []
    grads: list[Tensor] = []
    losses: list[float] = []
    update, clip = trainer.train_step, trainer._clip

    def step(images: Tensor, labels: Tensor) -> Tensor:
        batches.append((images.clone(), labels.clone()))
        return update(images, labels)

    def clipped() -> None:
        if not grads:
            grads.extend(p.grad.clone() for p in trainer.model.parameters() if p.grad is not None)
        clip()

    def watch(clock: EpochClock, resolution: int, logs: list[StepLog]) -> None:
        losses.extend(log.loss for log in logs)

    trainer.train_step, trainer._clip = step, clipped  # type: ignore[method-assign]
    first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    for _ in range(config.epochs):
        trainer.train_epoch(watch)
    outcome = trainer.evaluate(eval_loader(config, open_index(folder), shard))
    rows = torch.full((3 * shard.rank, 2), float(shard.rank))  # rank 0 has none
    return {
        "batches": batches,
        "grads": grads,
        "losses": losses,
        "names": [name for name, _ in trainer.model.named_parameters()],
        "first": first,
        "model": trainer.model.state_dict(),
        "ema": trainer.ema.state_dict() if trainer.ema is not None else {},
        "counts": outcome.counts,
        "labels": outcome.labels,
        "values": trainer.chosen.values(outcome),
        "rows": joined_rows(rows),
    }


def whole_run(case: str, folder: Path, out: Path, shard: Shard) -> None:
    """`straight`; `stopped` by a signal to rank 1 in the 7th of 10 steps; `resumed` from there."""
    name = "straight" if case == "straight" else "stopped"
    config = replace(RUN, data=str(folder), output_dir=str(out / name))
    train_step = Updater.train_step

    def interrupted(self: Updater, images: Tensor, labels: Tensor) -> Tensor:
        if self.step == 6 and shard.rank == 1:
            signal.raise_signal(signal.SIGTERM)
        return train_step(self, images, labels)

    if case == "stopped":
        Updater.train_step = interrupted  # type: ignore[method-assign]
    try:
        run(config, Options(resume="auto" if case == "resumed" else None))
        assert case != "stopped"
    except StoppedError:
        assert case == "stopped"
    finally:
        Updater.train_step = train_step  # type: ignore[method-assign]


def prepare(folder: Path, shard: Shard) -> dict[str, Any]:
    """The indexes and the .beton of a data set that no one has opened before, made by all ranks at once."""
    made: list[str] = []

    def counted(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def make_it(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            return make(*args, **kwargs)

        return make_it

    index.scan = counted("scan", index.scan)
    beton.write_beton = counted("write", beton.write_beton)
    config = replace(RUN, data=str(folder))
    gathered(0)  # no rank has a lead
    _, indexes = fitted_here(config, shard, explicit=(), recipe_batch_size=None)
    path = beton.as_beton(indexes.train)
    labels = [label for _, label in BetonDataset(path)]
    return {"made": made, "labels": labels, "indexed": indexes.train.labels.tolist(), "path": str(path)}


def main(cases: str, folder: str, out: str) -> None:
    torch.set_num_threads(1)
    shard = current_shard()
    with process_group(shard):
        for case in cases.split(","):
            if case in ("straight", "stopped", "resumed"):
                whole_run(case, Path(folder), Path(out), shard)
                continue
            if case == "prepare":
                seen = prepare(Path(folder), shard)
            else:
                seen = train(CONFIGS[case], Path(folder), shard)
            torch.save(seen, Path(out) / f"{case}-{shard.world_size}-{shard.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
