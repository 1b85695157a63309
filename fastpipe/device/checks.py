"""What the device stage requires of a batch before it draws any parameter."""

from __future__ import annotations

import torch

from fastpipe.errors import DataError
from fastpipe.transforms.resize_spec import MAX_SIDE
from fastpipe.types import HostBatch


def check_batch(host: HostBatch) -> None:
    """Raise DataError unless images are uint8 [B,H,W,3], with one label and one id for each.

    B is at least 1, a side 1..65,535 pixels. Labels are counted if they are one tensor.
    """
    images = host.images
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise DataError(
            f"images must be uint8 [B, H, W, 3], RGB. Found: {images.dtype} {list(images.shape)}. "
            "Backends give packed levels; conversions belong to the plan"
        )
    num, height, width, _ = images.shape
    if num < 1:
        raise DataError("a batch must hold at least one image. Found: none")
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise DataError(f"images must have sides of 1..{MAX_SIDE} pixels. Found: {height} x {width}")
    if len(host.request.ids) != num:
        raise DataError(f"the request must name one id per image, {num}. Found: {len(host.request.ids)}")
    labels = host.labels
    if isinstance(labels, torch.Tensor) and labels.ndim > 0 and len(labels) != num:
        raise DataError(f"labels must be one per image, {num}. Found: {len(labels)}")
