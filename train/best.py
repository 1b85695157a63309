"""The best validation so far: which epoch, when to stop, and the file best.ckpt.

best.ckpt is the checkpoint of that epoch under a second name: an epoch that is the best so far always writes
last.ckpt, and best.ckpt is then linked to it. So best.ckpt is never newer than last.ckpt, unless an older
checkpoint is resumed by hand or since last.ckpt was damaged. `settled` brings the two together on resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpipe.errors import DataError
from fastpipe.train.checkpoint import BEST, link_checkpoint, load_checkpoint
from fastpipe.train.metrics.table import Metric


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best validation so far.

    epoch: after how many epochs, 0 before the first finite value. since: epochs without a better value count
    from here.
    """

    metric: Metric
    epoch: int = 0
    value: float | None = None
    since: int = 0

    def after(self, epoch: int, value: float | None) -> Best:
        """The best with the validation after `epoch` epochs; of equal values the earlier one stays."""
        if value is None or not self.metric.better(value, self.value):
            return self
        return Best(metric=self.metric, epoch=epoch, value=value, since=epoch)

    def is_over(self, epochs: int, patience: int | None) -> bool:
        """Whether the last `patience` of `epochs` measured epochs brought nothing better."""
        return patience is not None and epochs - self.since >= patience

    def state_dict(self, *, own: bool) -> dict[str, Any]:
        """As plain values, for a checkpoint; own: it is the checkpoint of the best epoch."""
        return {
            "metric": self.metric.name,
            "epoch": self.epoch,
            "value": self.value,
            "since": self.since,
            "own": own,
        }

    def summary(self) -> dict[str, Any] | None:
        """For summary.json; None if no validation had a finite value."""
        if self.value is None:
            return None
        return {
            "metric": self.metric.name,
            "value": self.value,
            "epoch": self.epoch,
            "checkpoint": BEST,
        }

    def words(self) -> str:
        """For people: the figure, the epoch and the file."""
        return f"{self.metric.title} {self.value:.3f} after epoch {self.epoch} ({BEST})"


def saved_best(state: Mapping[str, Any], metric: Metric) -> Best | None:
    """The best that a checkpoint knows of, if it goes by the same metric."""
    saved = state.get("best") or {}
    if not saved or saved["metric"] != metric.name:
        return None
    return Best(metric=metric, epoch=saved["epoch"], value=saved["value"], since=saved["since"])


def is_its_own_best(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is that of the best epoch it knows of."""
    return bool((state.get("best") or {}).get("own"))


def settled(state: Mapping[str, Any], path: Path, folder: Path, metric: Metric) -> tuple[Best, str]:
    """The best to go on with from the checkpoint `state` at `path`, and a sentence if that says another.

    Makes or replaces best.ckpt in `folder` where its checkpoint is at hand. Raises DataError if it cannot be
    written.
    """
    found, here = saved_best(state, metric), folder / BEST
    measured: int = state["epochs_measured"]
    if found is None:
        kind = "goes by another --best-metric" if state.get("best") else "knows of no best epoch"
        return Best(metric=metric, since=measured), f"{path.name} {kind}: {BEST} starts anew"
    if found.value is None:
        return found, ""
    in_file = _best_in(here, metric)
    if in_file == found:
        return found, ""
    later = (
        in_file if in_file is not None and in_file.epoch > measured and _same(path.parent, folder) else None
    )
    if is_its_own_best(state) and not _is_better(later, found):  # perhaps the run was killed before the link
        link_checkpoint(path, here)
        return found, ""
    beside = path.with_name(BEST)
    if beside != here and _best_in(beside, metric) == found:
        link_checkpoint(beside, here)
        return found, ""
    if later is not None:
        note = f"{BEST} is of epoch {later.epoch}, which is trained again: it stays until it is beaten"
        return later, note
    note = f"{BEST} of epoch {found.epoch} is neither in {str(folder)!r} nor next to {path.name}"
    return Best(metric=metric, since=measured), f"{note}: it starts anew"


def _is_better(one: Best | None, than: Best) -> bool:
    return one is not None and one.value is not None and one.metric.better(one.value, than.value)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _best_in(path: Path, metric: Metric) -> Best | None:
    """The best that best.ckpt is; None if it is not there, damaged or not its own best."""
    try:
        state = load_checkpoint(path)
    except DataError:
        return None
    return saved_best(state, metric) if is_its_own_best(state) else None
