"""The loader inside accelerate's, in place of torch's: it has the arguments of its source."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from fastpipe.batch.nested import deciding_sampler
from fastpipe.loader import DataLoader

# torch's own class, even if a script has replaced it by ours.
TorchLoader: Any = next(
    kind for kind in DataLoader.__mro__ if kind.__module__ == "torch.utils.data.dataloader"
)


@dataclass(slots=True)
class Epochs:
    """Shared by a loader and those rebuilt from it: the next epoch, and the latest set_epoch."""

    upcoming: int = 0
    said: list[int] = field(default_factory=list)

    def take(self) -> int:
        """The epoch that begins now.

        accelerate sets its own count at each `iter()` and does not count an epoch that was left early, so a
        single call may only raise the epoch. Two calls mean that the script made the first.
        """
        said = self.said[-1] if self.said else self.upcoming
        epoch = said if len(self.said) > 1 else max(said, self.upcoming)
        self.upcoming, self.said = epoch + 1, []
        return epoch


class PreparedLoader(DataLoader[Any]):
    """The source's own arguments, over the batches that accelerate deals to ranks."""

    def __init__(self, source: DataLoader[Any], dataset: Any, **torch_arguments: Any) -> None:
        own = {name: getattr(source, name) for name in own_defaults()}
        if own["device"] is None:
            own["device"] = _only_cpu()
        super().__init__(dataset, **torch_arguments, **own)
        self._follow(source)
        self.epochs: Epochs = source.epochs if isinstance(source, PreparedLoader) else Epochs()

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The loader's own iterator, at the epoch that results from accelerate and the script."""
        epoch = self.epochs.take()
        self.set_epoch(epoch)
        sampler = deciding_sampler(self.sampler, self.batch_sampler)
        if self.seed is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        return super().__iter__()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the saved epoch, whatever accelerate counts."""
        super().load_state_dict(state)
        self.epochs.upcoming, self.epochs.said = int(state["epoch"]) + int(state["finished"]), []

    def _batches(self) -> tuple[Any, int]:
        """The batches of the whole epoch, and how many of them `skip_first_batches` leaves out.

        So the others keep their numbers, which key MixUp's weights and the resolutions.
        """
        batches, skipped = super()._batches()
        while type(batches).__name__ == "SkipBatchSampler":
            skipped += batches.skip_batches
            batches = batches.batch_sampler
        return batches, skipped


def own_defaults() -> dict[str, Any]:
    """The keywords that only fastpipe has, with their defaults."""
    torchs = inspect.signature(TorchLoader.__init__).parameters
    ours = inspect.signature(DataLoader.__init__).parameters
    return {name: one.default for name, one in ours.items() if name not in torchs}


def asked(loader: DataLoader[Any]) -> list[str]:
    """The fastpipe arguments given to the loader that its data set does not hold."""
    return [
        name
        for name, default in own_defaults().items()
        if name != "transform" and getattr(loader, name) != default
    ]


def _only_cpu() -> torch.device | None:
    """The CPU, if accelerate was told not to use the GPU."""
    state: Any = sys.modules["accelerate.state"].PartialState
    device = state().device if state._shared_state else None
    told = device is not None and device.type == "cpu" and torch.cuda.is_available()
    return device if told else None
