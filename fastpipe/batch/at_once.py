"""A whole batch of images that lie in memory: copied and cropped without an image object for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from fastpipe.batch.buffer import collate_labels
from fastpipe.batch.ids import position_of
from fastpipe.batch.locate import locate
from fastpipe.batch.packing import Packing, Pixels
from fastpipe.decode import Box, draw_box
from fastpipe.storage import Leaf
from fastpipe.transforms import ResizeCrop
from fastpipe.types import HostBatch, IntArray, Spec


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
    boxes = _boxes(images.shape[1:3], spec, draws)
    if boxes is None:
        return None
    target = packing.open((boxes[0].height, boxes[0].width))
    for place, i, box in zip(target.numpy(), ids.tolist(), boxes, strict=True):
        _paste(place, images[i], box)
    return HostBatch(images=target, labels=_labels(leaf, ids), request=packing.request)


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


def _boxes(size: tuple[int, ...], spec: Spec | None, draws: Sequence[Sequence[float]]) -> list[Box] | None:
    """The box of each, for images of (height, width); None for a crop that does not fit."""
    height, width = size
    if spec is None:
        return [Box(0, 0, height, width)] * len(draws)
    try:
        return [draw_box(spec, numbers, height, width) for numbers in draws]
    except ValueError:
        return None


def _paste(target: Pixels, image: Pixels, box: Box) -> None:
    """The part of the box that lies in the image; the rest is black, as Pillow's crop leaves it."""
    top, left = max(0, box.top), max(0, box.left)
    bottom, right = min(image.shape[0], box.top + box.height), min(image.shape[1], box.left + box.width)
    if (bottom - top, right - left) != (box.height, box.width):
        target[...] = 0
    if top < bottom and left < right:
        inside = target[top - box.top : bottom - box.top, left - box.left : right - box.left]
        inside[...] = image[top:bottom, left:right]
