"""skorch makes its loaders itself, of the class that `iterator_train` names."""

from __future__ import annotations

from typing import Any

import torch
from harness import BATCH, Net, folder, quietly, same_losses, tried
from skorch import NeuralNetClassifier


def fitted(kind: Any) -> list[float]:
    net = NeuralNetClassifier(
        Net,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=0.05,
        max_epochs=2,
        batch_size=BATCH,
        train_split=None,
        iterator_train=kind,
        iterator_train__shuffle=True,
        iterator_train__num_workers=2,
        iterator_train__generator=torch.Generator().manual_seed(0),
        iterator_valid=kind,
        verbose=0,
    )
    net.fit(folder(), None)
    return [*net.history[:, "train_loss"], *net.predict_proba(folder("val")).flatten().tolist()]


if __name__ == "__main__":
    quietly()
    with tried("iterator_train=fastpipe.DataLoader, fit and predict: losses of torch's loader") as row:
        same_losses(fitted)
        row.need_fast()
