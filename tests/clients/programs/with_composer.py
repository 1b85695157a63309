"""Composer's Trainer, with the torch that Composer asks for."""

from __future__ import annotations

from typing import Any

import torch
from composer import Trainer
from composer.models import ComposerClassifier
from harness import BATCH, CLASSES, TRAIN, Net, folder, loader, quietly, same_losses, tried

import fastpipe
from fastpipe import augment


class Kept(ComposerClassifier):  # type: ignore[misc]
    losses: list[float]

    def loss(self, outputs: Any, batch: Any) -> Any:
        loss = torch.nn.functional.cross_entropy(outputs, batch[1])
        self.losses.append(loss.item())
        return loss


def fitted(kind: Any, made: Any = loader) -> list[float]:
    model = Kept(Net(), num_classes=CLASSES)
    model.losses = []
    trainer = Trainer(
        model=model,
        train_dataloader=made(kind, num_workers=2),
        eval_dataloader=kind(folder("val"), BATCH),
        max_duration="2ep",
        optimizers=torch.optim.SGD(model.parameters(), 0.05),
        device="cpu",
        progress_bar=False,
        log_to_console=False,
    )
    trainer.fit()
    trainer.close()
    return model.losses


def mixed(kind: Any, **more: Any) -> Any:
    asked: dict[str, Any] = dict(augment=[augment.MixUp(0.2)], seed=1, resolution=40)
    return kind(folder(transform=TRAIN), BATCH, shuffle=True, **asked, **more)


if __name__ == "__main__":
    quietly()
    with tried("fit and evaluate, two epochs: losses of torch's loader") as row:
        same_losses(fitted)
        row.need_fast()
    with tried("augment, MixUp, resolution, seed") as row:
        assert len(fitted(fastpipe.DataLoader, mixed)) > 0
        row.need_fast()
