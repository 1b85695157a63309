"""ignite's engines over our loader, and its auto_dataloader."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
import torch.utils.data
from harness import Net, cannot, folder, loader, quietly, same_losses, tried
from ignite.engine import Events, create_supervised_trainer

import fastpipe


def trained(kind: Any) -> list[float]:
    net, losses = Net(), []
    engine = create_supervised_trainer(
        net, torch.optim.SGD(net.parameters(), 0.05), torch.nn.functional.cross_entropy
    )
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda one: losses.append(one.state.output))
    engine.run(loader(kind, num_workers=2), max_epochs=2)
    return losses


if __name__ == "__main__":
    quietly()
    with tried("an engine, two epochs: losses of torch's loader") as row:
        same_losses(trained)
        row.need_fast()
    cannot(
        "auto_dataloader",
        "it takes a data set and makes torch's class of it, so nothing of ours reaches it. Write "
        "fastpipe.DataLoader(dataset, batch_size, sampler=fastpipe.DistributedSampler(dataset)) instead",
    )
    with tried("auto_dataloader, after ignite.distributed.auto.DataLoader = fastpipe.DataLoader") as row:
        import ignite.distributed.auto

        ignite.distributed.auto.DataLoader = fastpipe.DataLoader  # type: ignore[attr-defined,misc]
        made = idist.auto_dataloader(folder(), batch_size=8, shuffle=True, seed=1)
        assert len(list(made)) == len(made)
        row.need_fast()
