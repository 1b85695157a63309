"""timm's create_loader makes loaders of its own; its transforms are read."""

from __future__ import annotations

from typing import Any

import torch
from harness import BATCH, CLASSES, Net, cannot, folder, photos, quietly, tried
from timm.data import create_dataset, create_loader, create_transform
from timm.loss import SoftTargetCrossEntropy
from torch.nn.functional import cross_entropy

import fastpipe
from fastpipe import augment


def recipe() -> Any:
    return create_transform(32, is_training=True, auto_augment="rand-m9-mstd0.5", interpolation="bilinear")


def trained(**more: Any) -> None:
    made = fastpipe.DataLoader(folder(transform=recipe()), BATCH, shuffle=True, seed=1, **more)
    net, loss = Net(), SoftTargetCrossEntropy() if more else cross_entropy
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for images, labels in made:
        found = loss(net(images), labels)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        assert torch.isfinite(found)


if __name__ == "__main__":
    quietly()
    with tried("DataLoader(ImageFolder(root, create_transform(..., interpolation='bilinear')))") as row:
        trained()
        row.need_fast()
    with tried("the same with augment=[MixUp(0.8)] in place of timm's Mixup, SoftTargetCrossEntropy") as row:
        trained(augment=[augment.MixUp(0.8)], num_classes=CLASSES)
        row.need_fast()
    made = create_loader(
        create_dataset("", str(photos() / "train")),
        32,
        BATCH,
        is_training=True,
        device=torch.device("cpu"),
        num_workers=0,
    )
    told = fastpipe.DataLoader(folder(), BATCH, collate_fn=made.loader.collate_fn).explain()
    assert not told.lifted and "timm's fast_collate" in told.reason, told
    cannot(
        "create_loader",
        "it makes torch's class, with a PrefetchLoader around it. The one line: "
        "loader = fastpipe.DataLoader(ImageFolder(root, create_transform(..., interpolation='bilinear')), "
        "batch_size, shuffle=True); batches are then normalised and on the device",
    )
