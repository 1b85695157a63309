"""The time that a long training would take, from its first epochs.

The reference text ran timm's and PyTorch's recipes for 10 epochs and extrapolated to the published length,
without giving its formula. This one is ours: the first epoch takes the second's time, as in `time_to_train`,
and the mean of an epoch holds for all. Epochs must be alike: not with progressive resizing.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastpipe.errors import ArgumentError
from fastpipe.train.timing import time_to_train

__all__ = ["extrapolated_time_to_train"]


def extrapolated_time_to_train(epoch_seconds: Sequence[float], epochs: int) -> float:
    """Seconds of `epochs` epochs: (t2 + t2 + ... + tN) / N * epochs, from the N measured ones, t1 first.

    Raises ArgumentError for fewer than two measured epochs, or more than `epochs`.
    """
    measured = len(epoch_seconds)
    if not 2 <= measured <= epochs:
        raise ArgumentError(
            f"epoch_seconds must hold 2 to {epochs} epochs to extrapolate to {epochs}. Found: {measured}"
        )
    return time_to_train(epoch_seconds) / measured * epochs
