"""Lightning Fabric: `setup_dataloaders` wraps the loader, and rebuilds it for several ranks."""

from __future__ import annotations

from typing import Any

import torch
from harness import BATCH, TRAIN, Net, folder, loader, quietly, same_losses, tried
from lightning.fabric import Fabric
from torch.nn.functional import cross_entropy

import fastpipe
from fastpipe import augment


def trained(kind: Any) -> list[float]:
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(net := Net(), torch.optim.SGD(net.parameters(), 0.05))
    batches, losses = fabric.setup_dataloaders(loader(kind, num_workers=2)), []
    for _ in range(2):
        for images, labels in batches:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            losses.append(loss.item())
    return losses


def mixed() -> None:
    asked: dict[str, Any] = dict(augment=[augment.MixUp(0.2)], seed=1, resolution=40)
    made = fastpipe.DataLoader(folder(transform=TRAIN), BATCH, shuffle=True, **asked)
    batch = next(iter(Fabric(accelerator="cpu", devices=1).setup_dataloaders(made)))
    assert batch[0].shape[-1] == 40 and batch[1].dtype == torch.float32 and batch.hard_labels is not None


if __name__ == "__main__":
    quietly()
    with tried("setup_dataloaders and two epochs: losses of torch's loader") as row:
        same_losses(trained)
        row.need_fast()
    with tried("MixUp's labels with hard_labels, resolution") as row:
        mixed()
        row.need_fast()
