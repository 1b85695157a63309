"""FFCV's resizing: two sizes, with a short ramp in between that is rounded to one of them.

    epoch <= start:  initial        epoch >= end:  full        between: interpolated, to a multiple of 32

Source: get_resolution in ffcv-imagenet's train_imagenet.py; with 160 and 192 pixels only these two occur.
The 88-epoch configuration has start 65 and end 76: 192 pixels from epoch 71 on (both from 0).
"""

from __future__ import annotations

from dataclasses import dataclass

_MULTIPLE = 32


def ramp_size(epoch: int, *, initial: int, full: int, start_epoch: float, end_epoch: float) -> int:
    """The image side in pixels of `epoch` (from 0)."""
    if epoch <= start_epoch:
        return initial
    if epoch >= end_epoch:
        return full
    between = initial + (full - initial) * (epoch - start_epoch) / (end_epoch - start_epoch)
    # numpy rounds halves to even, and so does Python.
    return min(max(round(between / _MULTIPLE) * _MULTIPLE, initial), full)


@dataclass(frozen=True, kw_only=True)
class RampSize:
    """The `resolution=` of a DataLoader: a pure function of (epoch, batch index)."""

    initial: int
    full: int
    start_epoch: float
    end_epoch: float

    def __call__(self, epoch: int, batch: int) -> int:
        """The side in pixels of that batch's images."""
        return ramp_size(
            epoch,
            initial=self.initial,
            full=self.full,
            start_epoch=self.start_epoch,
            end_epoch=self.end_epoch,
        )
