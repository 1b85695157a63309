"""transformers' Trainer, which makes torch's loader of a data set unless it is told otherwise."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from harness import BATCH, TRAIN, Net, TorchLoader, cannot, folder, quietly, same_losses, tried
from transformers import Trainer, TrainingArguments

import fastpipe
from fastpipe import augment


class Own(Trainer):
    """The one method to override."""

    made: Any = None
    losses: list[float]

    def get_train_dataloader(self) -> Any:
        return self.accelerator.prepare(self.made())

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        loss = torch.nn.functional.cross_entropy(model(inputs[0]), inputs[1])
        self.losses.append(loss.item())
        return (loss, None) if return_outputs else loss


def trained(made: Any, resume: bool = False, folder_of_run: str = "", **more: Any) -> Own:
    place = folder_of_run or tempfile.mkdtemp()
    asked = TrainingArguments(
        place,
        num_train_epochs=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        learning_rate=0.01,
        save_strategy="steps",
        save_steps=3,
        logging_steps=1,
        **more,
    )
    trainer = Own(Net(), asked, train_dataset=folder())
    trainer.made, trainer.losses = made, []
    trainer.train(resume_from_checkpoint=f"{place}/checkpoint-3" if resume else None)
    return trainer


def losses_of(kind: Any) -> list[float]:
    torch.manual_seed(0)
    return trained(lambda: kind(folder(), BATCH, num_workers=2)).losses


def asked_for() -> Any:
    mixing = [augment.RandAugment(depth=1), augment.MixUp(0.2)]
    return fastpipe.DataLoader(
        folder(transform=TRAIN), BATCH, shuffle=True, seed=1, resolution=40, augment=mixing
    )


def resumed() -> None:
    place = tempfile.mkdtemp()
    whole = trained(asked_for, folder_of_run=place).losses
    rest = trained(asked_for, resume=True, folder_of_run=place).losses
    assert rest == whole[3:], (rest, whole)


if __name__ == "__main__":
    quietly()
    with tried("Trainer with get_train_dataloader overridden: losses of torch's loader") as row:
        same_losses(losses_of)
        row.need_fast()
    with tried(
        "augment, MixUp, resolution, seed, and a checkpoint in mid-epoch: the same losses continue"
    ) as row:
        resumed()
        row.need_fast()
    cannot(
        "Trainer(train_dataset=...) as it is",
        "it makes torch's class of the data set. Override get_train_dataloader and return "
        "self.accelerator.prepare(fastpipe.DataLoader(...))",
    )
    assert TorchLoader is torch.utils.data.DataLoader
