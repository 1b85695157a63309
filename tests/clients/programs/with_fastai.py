"""fastai's Learner over loaders that it did not make."""

from __future__ import annotations

from typing import Any

from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import SGD
from fastcore.basics import noop
from harness import BATCH, Net, folder, loader, quietly, same_losses, tried
from torch.nn.functional import cross_entropy


def fitted(kind: Any) -> list[float]:
    losses: list[float] = []

    def loss(scores: Any, labels: Any) -> Any:
        found = cross_entropy(scores, labels)
        losses.append(found.item())
        return found

    dls = DataLoaders(loader(kind, num_workers=2), kind(folder("val"), BATCH), device="cpu")
    learner = Learner(dls, Net(), loss_func=loss, opt_func=SGD)
    learner.logger = noop
    learner.fit(2, 0.05)
    return losses


if __name__ == "__main__":
    quietly()
    with tried("Learner.fit with DataLoaders(train, valid): losses of torch's loaders") as row:
        same_losses(fitted)
        row.need_fast()
