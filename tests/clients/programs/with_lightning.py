"""Lightning's Trainer: it rebuilds loaders from their signature, and saves their state in mid-epoch."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

import lightning
import torch
from harness import BATCH, TRAIN, Net, folder, loader, quietly, same_losses, tried
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy

import fastpipe
from fastpipe import augment


class Lit(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.losses, self.labels = Net(), [], []  # type: ignore[var-annotated]

    def training_step(self, batch: Any, _: int) -> Any:
        loss = cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(loss.item())
        self.labels.append(batch[1].tolist())
        return loss

    def validation_step(self, batch: Any, _: int) -> Any:
        self.losses.append(cross_entropy(self.net(batch[0]), batch[1]).item())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)


def trainer(**more: Any) -> Any:
    asked = dict(accelerator="cpu", devices=1, logger=False, max_epochs=2, enable_checkpointing=False)
    asked |= dict(enable_progress_bar=False, enable_model_summary=False)
    return lightning.Trainer(**{**asked, **more})


def fitted(kind: Any) -> list[float]:
    model = Lit()
    trainer().fit(model, loader(kind, num_workers=2, persistent_workers=True), kind(folder("val"), BATCH))
    return list(model.losses)


def resumed() -> None:
    def made() -> Any:
        return fastpipe.DataLoader(folder(transform=TRAIN), BATCH, shuffle=True, seed=3)

    place = tempfile.mkdtemp()
    whole, rest = Lit(), Lit()
    saves = ModelCheckpoint(place, every_n_train_steps=2, save_top_k=-1)
    trainer(max_epochs=1, enable_checkpointing=True, callbacks=[saves]).fit(whole, made())
    path = os.path.join(place, min(os.listdir(place)))
    trainer(max_epochs=1).fit(rest, made(), ckpt_path=path, weights_only=False)
    assert rest.losses == whole.losses[2:], (rest.losses, whole.losses)


def augmented() -> None:
    asked = dict(augment=[augment.RandAugment(depth=1), augment.MixUp(0.2)], seed=1, resolution=40)
    alone = [
        labels for _, labels in fastpipe.DataLoader(folder(transform=TRAIN), BATCH, shuffle=True, **asked)
    ]
    model = Lit()
    trainer(max_epochs=1).fit(
        model, fastpipe.DataLoader(folder(transform=TRAIN), BATCH, shuffle=True, **asked)
    )
    assert model.labels == [labels.tolist() for labels in alone]


def dealt() -> None:
    """Two ranks, for which Lightning rebuilds the loader around a sampler of its own."""
    model = Lit()
    asked = dict(augment=[augment.MixUp(0.2)], seed=1, resolution=40)
    train = fastpipe.DataLoader(folder(transform=TRAIN), BATCH, shuffle=True, **asked)
    fit = trainer(devices=2, strategy="ddp_fork", max_epochs=1)
    fit.fit(_TwoRanks(model), train)


class _TwoRanks(Lit):
    def __init__(self, model: Lit) -> None:
        super().__init__()

    def on_train_start(self) -> None:
        got = self.trainer.train_dataloader
        assert type(got) is fastpipe.DataLoader and got.resolution == 40 and got.explain().lifted
        assert type(got.sampler).__name__ == "DistributedSampler", got.sampler

    def on_train_end(self) -> None:
        assert len(self.losses) == 3, self.losses


if __name__ == "__main__":
    quietly()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tried("fit and validate, persistent workers: losses of torch's loader") as row:
        same_losses(fitted)
        row.need_fast()
    with tried("augment, MixUp, resolution, seed: as without Lightning") as row:
        augmented()
        row.need_fast()
    with tried("a checkpoint in mid-epoch continues with the next batch") as row:
        resumed()
        row.need_fast()
    with tried("overfit_batches, which rebuilds the loader") as row:
        trainer(overfit_batches=2).fit(Lit(), loader(fastpipe.DataLoader))
        row.need_fast()
    with tried("two ranks (ddp_fork, gloo): the rebuilt loader has every argument"):
        dealt()
