"""`ArrayDataset`: images in one uint8 array, as a torch Dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from fastpipe.errors import ArgumentError, EmptyDatasetError
from fastpipe.storage.arrays.layout import Layout, Levels, as_levels, layout_of, rgb_of
from fastpipe.storage.lists.labels import Classes, label_at, labelling

__all__ = ["ArrayDataset"]


class ArrayDataset(Dataset[tuple[Any, ...]]):
    """RGB images and labels in memory; an item is `(image, label)`, or `(image,)` without labels.

    images: a uint8 array or CPU tensor: [N,H,W,3], [N,3,H,W], or grey [N,H,W], [N,H,W,1], [N,1,H,W], which is
            repeated. It is not copied. layout: "NHWC" or "NCHW", for a shape that may be both.
    labels, classes: as for ImageList.
    as_tensor: the transform gets a uint8 tensor [3,H,W], as some pipelines of torchvision's v2 expect.

    Else the transform gets an RGB PIL image. Raises ArgumentError, and EmptyDatasetError without any image.
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        classes: Classes = None,
        layout: str | None = None,
        as_tensor: bool = False,
    ) -> None:
        self.data = as_levels(images)
        self.layout: Layout = layout_of(self.data.shape, layout)
        if not self.data.size:
            raise EmptyDatasetError(f"images must hold at least one. Found: shape {list(self.data.shape)}")
        if labels is None and target_transform is not None:
            raise ArgumentError("target_transform must be None where there are no labels")
        self.label_values, names = labelling(labels, classes, lambda i: f"label {i}")
        if self.label_values is not None and len(self.label_values) != len(self.data):
            raise ArgumentError(
                f"labels must be one for each of the {len(self.data)} images. Found: {len(self.label_values)}"
            )
        self.classes = list(names)
        self.class_to_idx = {name: number for number, name in enumerate(names)}
        self.transform, self.target_transform = transform, target_transform
        self.as_tensor = as_tensor

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image: Any = self._image(rgb_of(self.data[place : place + 1], self.layout)[0])
        if self.transform is not None:
            image = self.transform(image)
        if self.label_values is None:
            return (image,)
        label = label_at(self.label_values, place)
        return image, label if self.target_transform is None else self.target_transform(label)

    def _image(self, rgb: Levels) -> Image.Image | torch.Tensor:
        if self.as_tensor:
            return torch.from_numpy(np.array(rgb.transpose(2, 0, 1)))
        return Image.fromarray(rgb)


def from_tensors(place: TensorDataset, transform: Callable[[Any], Any] | None) -> ArrayDataset:
    """The images and labels of a TensorDataset. ArgumentError for more than two tensors."""
    tensors: tuple[torch.Tensor, ...] = place.tensors
    if len(tensors) not in (1, 2):
        raise ArgumentError(
            f"a TensorDataset must hold images, or images and labels. Found: {len(tensors)} tensors. Use "
            f"fastpipe.ArrayDataset(images, labels, transform)"
        )
    return ArrayDataset(tensors[0], tensors[1] if len(tensors) == 2 else None, transform)
