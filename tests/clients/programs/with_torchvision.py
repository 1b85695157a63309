"""torchvision's classification references: samplers, a mixing collate_fn, their train_one_epoch."""

from __future__ import annotations

from typing import Any

import torch
from harness import BATCH, CLASSES, TRAIN, Net, folder, loader, quietly, same_losses, tried
from torch.utils.data import RandomSampler, SequentialSampler, default_collate
from torchvision.transforms import v2

import fastpipe


def get_mixup_cutmix() -> Any:
    return v2.RandomChoice(
        [v2.MixUp(alpha=0.2, num_classes=CLASSES), v2.CutMix(alpha=1.0, num_classes=CLASSES)]
    )


def epoch(net: Any, batches: Any, losses: list[float]) -> None:
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for image, target in batches:
        loss = criterion(net(image.to("cpu")), target.to("cpu"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())


def plain(kind: Any) -> list[float]:
    net, losses = Net(), []
    batches = loader(kind, num_workers=2, pin_memory=True)
    for _ in range(2):
        epoch(net, batches, losses)
    test = kind(folder("val"), BATCH, sampler=SequentialSampler(folder("val")), num_workers=2)
    with torch.inference_mode():
        losses += [net(image).sum().item() for image, _ in test]
    return losses


def mixed(row: Any) -> None:
    dataset = folder(transform=TRAIN)
    mixup_cutmix = get_mixup_cutmix()

    def collate_fn(batch: Any) -> Any:
        return mixup_cutmix(*default_collate(batch))

    made = fastpipe.DataLoader(
        dataset, batch_size=BATCH, sampler=RandomSampler(dataset), num_workers=2, collate_fn=collate_fn
    )
    losses: list[float] = []
    epoch(Net(), made, losses)
    assert len(losses) == len(made) and next(iter(made))[1].shape == (BATCH, CLASSES)


if __name__ == "__main__":
    quietly()
    with tried("RandomSampler, SequentialSampler, two epochs: losses of torch's loader") as row:
        same_losses(plain)
        row.need_fast()
    with tried("collate_fn with v2.RandomChoice([MixUp, CutMix]), as the script writes it") as row:
        mixed(row)
        row.need_fast()
    note = "that form is not default_collate and the mixer alone; explain() says which form is"
    with tried("a mixing collate_fn in another form, served as by torch", note):
        mix = get_mixup_cutmix()
        other = fastpipe.DataLoader(
            folder(), BATCH, collate_fn=lambda batch: mix(*default_collate(batch[:4]))
        )
        assert (
            "lambda batch: mix(*default_collate(batch))" in other.explain().reason
            and len(next(iter(other))) == 2
        )
