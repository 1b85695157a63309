"""A whole batch of images that lie in memory: copied and cropped without an image object for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch.utils.data import Subset

from fastpipe.batch.buffer import collate_labels
from fastpipe.batch.ids import position_of
from fastpipe.batch.locate import locate
from fastpipe.batch.packing import Packing, Pixels
from fastpipe.decode import Box, CropError, draw_box, random_corners
from fastpipe.storage import Leaf
from fastpipe.transforms import ResizeCrop
from fastpipe.types import HostBatch, IntArray, Spec

__all__ = ["batch_at_once"]

# Padded images of a batch are copied whole: at most four times what they hold.
_PADDED = 4


def batch_at_once(
    dataset: Any, packing: Packing, spec: Spec | None, draws: Sequence[Sequence[float]]
) -> HostBatch | None:
    """The batch of a request; None where its images must be made one by one, with the errors of each.

    That is so unless all of them lie in one array, and are cropped at most.
    """
    if not _only_crops(spec) or not len(packing.request.ids):
        return None
    found = _in_one_array(dataset, packing.request.ids)
    if found is None:
        return None
    leaf, ids = found
    images = leaf.pixels()
    if images is None:
        return None
    try:
        target = _crops(packing, images, ids, spec, draws)
    except CropError:
        return None
    labels = packing.pinned(_labels(leaf, ids))
    return HostBatch(images=target, labels=labels, request=packing.request)


def _only_crops(spec: Spec | None) -> bool:
    return spec is None or (isinstance(spec, ResizeCrop) and spec.resize is None)


def _in_one_array(dataset: Any, ids: IntArray) -> tuple[Leaf, IntArray] | None:
    """The leaf and the places there, through Subset; None for a script's own label code or a strange id."""
    while type(dataset) is Subset:
        indices = dataset.indices
        try:
            ids = np.array([position_of(indices[i]) for i in ids.tolist()], dtype=np.int64)
        except (IndexError, TypeError):
            return None
        dataset = dataset.dataset
    try:
        leaf, _ = locate(dataset, 0)
    except (IndexError, TypeError):
        return None
    num = len(leaf)
    if leaf.dataset is not dataset or leaf.target_transform is not None:
        return None
    if int(ids.min()) < -num or int(ids.max()) >= num:
        return None
    return leaf, np.where(ids < 0, ids + num, ids)


def _labels(leaf: Leaf, ids: IntArray) -> Any:
    if not leaf.labelled:
        return None
    found = leaf.labels(ids)
    return torch.from_numpy(found) if found.dtype == np.int64 else collate_labels(list(found))


def _crops(
    packing: Packing, images: Pixels, ids: IntArray, spec: Spec | None, draws: Sequence[Sequence[float]]
) -> torch.Tensor:
    """The boxes of [N,H,W,3] in one new batch. CropError for a crop that does not fit."""
    size = images.shape[1:3]
    if isinstance(spec, ResizeCrop) and spec.where == "random" and _cheap_to_pad(size, spec):
        return _random_crops(packing, images, ids, spec, np.array(draws))
    boxes = [Box(0, 0, *size)] * len(ids) if spec is None else [draw_box(spec, d, *size) for d in draws]
    target = packing.open((boxes[0].height, boxes[0].width))
    for place, i, box in zip(target.numpy(), ids.tolist(), boxes, strict=True):
        _paste(place, images[i], box)
    return target


def _cheap_to_pad(size: tuple[int, ...], spec: ResizeCrop) -> bool:
    left, top, right, bottom = spec.padding
    return spec.crop is not None and (size[0] + top + bottom) * (size[1] + left + right) <= _PADDED * (
        size[0] * size[1]
    )


def _random_crops(
    packing: Packing, images: Pixels, ids: IntArray, spec: ResizeCrop, draws: npt.NDArray[np.float64]
) -> torch.Tensor:
    """One look-up among all windows of the padded images, which takes a third of a loop over the images."""
    assert spec.crop is not None
    height, width = images.shape[1:3]
    tops, lefts = random_corners(draws, height, width, spec.crop, spec.padding)
    if any(spec.padding):
        images, ids = _padded(images[ids], spec.padding), np.arange(len(ids))
        tops, lefts = tops + spec.padding[1], lefts + spec.padding[0]
    windows = sliding_window_view(images, spec.crop, axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    target = packing.open(spec.crop)
    target.numpy()[...] = windows[ids, tops, lefts]
    return target


def _padded(images: Pixels, padding: tuple[int, int, int, int]) -> Pixels:
    """With black pixels at the left, top, right and bottom."""
    left, top, right, bottom = padding
    num, height, width, _ = images.shape
    padded = np.zeros((num, height + top + bottom, width + left + right, 3), dtype=np.uint8)
    padded[:, top : top + height, left : left + width] = images
    return padded


def _paste(target: Pixels, image: Pixels, box: Box) -> None:
    """The part of the box that lies in the image; the rest is black, as Pillow's crop leaves it."""
    top, left = max(0, box.top), max(0, box.left)
    bottom, right = min(image.shape[0], box.top + box.height), min(image.shape[1], box.left + box.width)
    if (bottom - top, right - left) != (box.height, box.width):
        target[...] = 0
    if top < bottom and left < right:
        inside = target[top - box.top : bottom - box.top, left - box.left : right - box.left]
        inside[...] = image[top:bottom, left:right]
