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
    images = leaf.pixels(ids)
    if images is None:
        return None
    cut = images if spec is None else _cut(images, spec, draws)
    if cut is None:
        return None
    target = packing.open((cut.shape[1], cut.shape[2]))
    np.copyto(target.numpy(), cut)
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


def _cut(images: Pixels, spec: Spec, draws: Sequence[Sequence[float]]) -> Pixels | None:
    """The box of each; None for a crop that does not fit."""
    height, width = images.shape[1:3]
    try:
        boxes = [draw_box(spec, numbers, height, width) for numbers in draws]
    except ValueError:
        return None
    cut = np.zeros((len(images), boxes[0].height, boxes[0].width, 3), dtype=np.uint8)
    for target, image, box in zip(cut, images, boxes, strict=True):
        _paste(target, image, box)
    return cut


def _paste(target: Pixels, image: Pixels, box: Box) -> None:
    """The part of the box that lies in the image; the rest stays black, as Pillow's crop leaves it."""
    top, left = max(0, box.top), max(0, box.left)
    bottom, right = min(image.shape[0], box.top + box.height), min(image.shape[1], box.left + box.width)
    if top < bottom and left < right:
        target[top - box.top : bottom - box.top, left - box.left : right - box.left] = image[
            top:bottom, left:right
        ]
