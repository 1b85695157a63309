"""`torch.utils.data.DataLoader = fastpipe.DataLoader`, then torchdata, accelerate and transformers."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import torch.utils.data

import fastpipe

PLACES = (torch.utils.data, torch.utils.data.dataloader)
for place in PLACES:
    place.DataLoader = fastpipe.DataLoader  # type: ignore[misc]

from harness import BATCH, EVAL, cannot, folder, quietly, tried  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

NUMBERS = TensorDataset(torch.arange(20.0).reshape(20, 1), torch.arange(20) % 2)


class Pairs(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([float(index)]), "labels": torch.tensor([float(index)])}


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.line(x)
        return {"loss": ((out - labels) ** 2).mean(), "logits": out}


def stateful() -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    for num_workers in (0, 2):
        made = StatefulDataLoader(NUMBERS, batch_size=4, num_workers=num_workers)
        iterator = iter(made)
        next(iterator)
        again = StatefulDataLoader(NUMBERS, batch_size=4, num_workers=num_workers)
        again.load_state_dict(made.state_dict())
        assert len(list(again)) == 4


def nodes() -> None:
    from torchdata.nodes import Batcher, IterableWrapper, Loader

    assert len(list(Loader(Batcher(IterableWrapper(range(10)), 2)))) == 5


def prepared() -> None:
    from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
    from torchdata.stateful_dataloader import StatefulDataLoader

    for config in ({}, {"use_stateful_dataloader": True}, {"dispatch_batches": True}):
        accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**config))
        made = accelerator.prepare(torch.utils.data.DataLoader(NUMBERS, 4, shuffle=True))
        assert len(list(made)) == 5 and len(list(skip_first_batches(made, 2))) == 3
        assert len(list(accelerator.prepare(StatefulDataLoader(NUMBERS, batch_size=4)))) == 5


def trained() -> None:
    from transformers import Trainer, TrainingArguments

    place = tempfile.mkdtemp()
    asked = TrainingArguments(
        place,
        max_steps=6,
        per_device_train_batch_size=4,
        use_cpu=True,
        report_to=[],
        save_steps=4,
        disable_tqdm=True,
    )
    trainer = Trainer(Line(), asked, train_dataset=Pairs(), eval_dataset=Pairs())
    assert isinstance(trainer.get_train_dataloader(), fastpipe.DataLoader)
    trainer.train()
    trainer.evaluate()
    Trainer(Line(), asked, train_dataset=Pairs()).train(resume_from_checkpoint=f"{place}/checkpoint-4")


def generic() -> None:
    class Typed(torch.utils.data.DataLoader[torch.Tensor]):
        pass

    assert len(list(Typed(NUMBERS, 4))) == 5


if __name__ == "__main__":
    quietly()
    with tried("DataLoader[torch.Tensor] as a base class", images=False):
        generic()
    with tried("StatefulDataLoader, with its state, 0 and 2 workers", images=False):
        stateful()
    with tried("torchdata.nodes", images=False):
        nodes()
    with tried("accelerate: prepare, skip_first_batches, stateful, dispatch", images=False):
        prepared()
    with tried("transformers: Trainer.train, evaluate, resume", images=False):
        trained()
    with tried("an image folder through torch's own name") as row:
        assert len(list(torch.utils.data.DataLoader(folder(transform=EVAL), BATCH))) > 0
        row.need_fast()
    cannot(
        "the fast path inside StatefulDataLoader and torchdata.nodes",
        "they make their own iterators, and take no loader. fastpipe.DataLoader has a state_dict of its own",
    )
