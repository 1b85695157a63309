"""What a worker gives for a request of a script's own data set: a batch, or why nothing may be lifted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from torch.utils.data._utils.pin_memory import pin_memory

from fastpipe.types import HostBatch, Request

__all__ = ["NotLifted", "OwnBatch"]

KEPT: Final = "keeps the image that its transform returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLifted:
    """Takes a batch's place: from this batch on, nothing may be lifted. condition: what the sample broke."""

    request: Request
    sample_id: Any
    condition: str

    @property
    def kept(self) -> bool:
        """Whether the data set holds something of ours, which it would return later."""
        return self.condition == KEPT

    def __str__(self) -> str:
        return f"at sample {self.sample_id!r} the data set {self.condition}"


@dataclass(slots=True, kw_only=True)
class OwnBatch(HostBatch):
    """A batch whose samples have more than an image and a label. rest: collated, without the images."""

    rest: Any = None

    def pin_memory(self, device: str | None = None) -> HostBatch:
        """Images, labels and the rest to page-locked memory."""
        made = HostBatch.pin_memory(self, device)
        return replace(made, rest=pin_memory(self.rest))  # type: ignore[no-untyped-call, call-arg]
