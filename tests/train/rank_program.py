"""One rank for test_distributed.py: `rank_program.py CASES FOLDER OUT`, for RANK and WORLD_SIZE.

Writes OUT/CASE-WORLD_SIZE-RANK.pt with what this rank saw.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastpipe.storage import open_index
from fastpipe.train.cli import load_recipe
from fastpipe.train.config import TrainConfig
from fastpipe.train.data import eval_loader, train_loader
from fastpipe.train.distributed import current_shard, process_group
from fastpipe.train.loop import Trainer
from fastpipe.train.losses import StepLog
from fastpipe.train.model import build_model
from fastpipe.train.settings import EMAConfig, SAMConfig
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
    return Trainer(config=config, model=model, loader=loader, num_classes=len(index.classes), device=CPU)


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
    return {
        "batches": batches,
        "grads": grads,
        "losses": losses,
        "names": [name for name, _ in trainer.model.named_parameters()],
        "first": first,
        "model": trainer.model.state_dict(),
        "ema": trainer.ema.state_dict() if trainer.ema is not None else {},
        "counts": trainer.evaluate(eval_loader(config, open_index(folder), shard)),
    }


def main(cases: str, folder: str, out: str) -> None:
    torch.set_num_threads(1)
    shard = current_shard()
    with process_group(shard):
        for case in cases.split(","):
            seen = train(CONFIGS[case], Path(folder), shard)
            torch.save(seen, Path(out) / f"{case}-{shard.world_size}-{shard.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
