"""What `loader.stats()` returns, and what counts for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fastpipe.types import HostBatch, Incident


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderStats:
    """What a loader has delivered since it was made, over all epochs; what is still prefetched is not in it.

    images:         in the delivered batches. Not counted: those of an IterableDataset, and those that
                    torch's own code delivers with in_order=False.
    to_pillow:      images that the backend handed to Pillow, by reason; empty for `torchvision`, which is
                    Pillow. None if that is not known: dali, and everything that is not lifted.
    skipped:        samples left out by on_error="skip".
    replaced:       samples whose place another image took, by on_error="replace".
    seconds_waited: wall time that the script spent waiting in `next()`.
    cpu_seconds:    of the threads or processes that made the batches, without the device stage; None if that
                    is not known.
    """

    images: int
    to_pillow: Mapping[str, int] | None
    skipped: int
    replaced: int
    seconds_waited: float
    cpu_seconds: float | None


@dataclass(slots=True)
class Made:
    """What is known about the making of one batch: the counts of `LoaderStats`."""

    images: int
    to_pillow: Mapping[str, int] | None = None
    cpu_seconds: float | None = None

    @classmethod
    def of(cls, batch: HostBatch) -> Made:
        """What the backend wrote into the batch."""
        return cls(len(batch.request.ids), batch.to_pillow, batch.cpu_seconds)


@dataclass(slots=True)
class Tally:
    """The sums over a loader's delivered batches, in the consumer's thread."""

    images: int = 0
    seconds_waited: float = 0.0
    actions: Counter[str] = field(default_factory=Counter)
    to_pillow: Counter[str] | None = None
    cpu_seconds: float | None = None

    def add(self, made: Made, incidents: Iterable[Incident] = ()) -> None:
        """Count a delivered batch."""
        self.images += made.images
        self.actions.update(incident.action for incident in incidents)
        if made.to_pillow is not None:
            self.to_pillow = (self.to_pillow or Counter()) + Counter(made.to_pillow)
        if made.cpu_seconds is not None:
            self.cpu_seconds = (self.cpu_seconds or 0.0) + made.cpu_seconds

    def stats(self) -> LoaderStats:
        """The sums so far."""
        return LoaderStats(
            images=self.images,
            to_pillow=None if self.to_pillow is None else dict(self.to_pillow),
            skipped=self.actions["skipped"],
            replaced=self.actions["replaced"],
            seconds_waited=self.seconds_waited,
            cpu_seconds=self.cpu_seconds,
        )

    def handed(self) -> str:
        """The line of `explain()` about what went to Pillow; "" if nothing was counted yet."""
        if self.to_pillow is None or not self.images:
            return ""
        reasons = ", ".join(f"{num} {reason}" for reason, num in self.to_pillow.most_common())
        num = sum(self.to_pillow.values())
        return f"{num} of {self.images} images so far" + (f" ({reasons})" if reasons else "")
