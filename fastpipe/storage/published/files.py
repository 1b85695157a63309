"""torchvision's data sets that keep lists of image files."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from torchvision.datasets.vision import StandardTransform

from fastpipe.storage.files_leaf import FilesLeaf
from fastpipe.storage.published.grey import any_mode_refusal

_Path = str | os.PathLike[str]


class PublishedLeaf(FilesLeaf):
    """A file for each sample, by a list of the data set."""

    __slots__ = ()

    kind: ClassVar[str] = "list"
    words: ClassVar[tuple[str, str]] = ("a list of images", "lists of images")


class PairsLeaf(PublishedLeaf):
    """`_samples`: (path, label)."""

    __slots__ = ()

    def path(self, i: int) -> _Path:
        """As the data set has it."""
        path: _Path = self.dataset._samples[i][0]
        return path

    def label(self, i: int) -> Any:
        """As the data set has it."""
        return self.dataset._samples[i][1]


class TwoListsLeaf(PublishedLeaf):
    """`_image_files` and `_labels`."""

    __slots__ = ()

    def path(self, i: int) -> _Path:
        """As the data set has it."""
        path: _Path = self.dataset._image_files[i]
        return path

    def label(self, i: int) -> Any:
        """As the data set has it."""
        return self.dataset._labels[i]

    def refusal(self) -> str | None:
        """Also for CLEVR's test split, whose labels are None."""
        if len(self) and self.dataset._labels[0] is None:
            return f"this split of {type(self.dataset).__name__} has no labels, and its items hold None"
        return super().refusal()


class JointLeaf(PublishedLeaf):
    """What calls `transforms` with image and label: the two transforms that the script gave it."""

    __slots__ = ()

    @property
    def transform(self) -> Any:
        """That of images."""
        return getattr(self.dataset.transforms, "transform", None)

    @property
    def target_transform(self) -> Any:
        """That of labels."""
        return getattr(self.dataset.transforms, "target_transform", None)

    def refusal(self) -> str | None:
        """Also for one transform of image and label together."""
        if type(self.dataset.transforms) is not StandardTransform:
            return f"{type(self.dataset).__name__} was not made with transform= alone, but with transforms="
        return super().refusal()


class PetLeaf(JointLeaf):
    """OxfordIIITPet: `_images`, and `_labels` or `_bin_labels`."""

    __slots__ = ()

    def path(self, i: int) -> _Path:
        """As the data set has it."""
        path: _Path = self.dataset._images[i]
        return path

    def label(self, i: int) -> Any:
        """The breed, or whether it is a cat or a dog."""
        of_breed = self.dataset._target_types == ["category"]
        return (self.dataset._labels if of_breed else self.dataset._bin_labels)[i]

    def refusal(self) -> str | None:
        """Also for masks, and for several targets."""
        if self.dataset._target_types not in (["category"], ["binary-category"]):
            return f"target_types={self.dataset._target_types!r} is not one class label"
        return super().refusal()


class PlacesLeaf(JointLeaf):
    """Places365: `imgs`, (path, label)."""

    __slots__ = ()

    def path(self, i: int) -> _Path:
        """As the data set has it."""
        path: _Path = self.dataset.imgs[i][0]
        return path

    def label(self, i: int) -> Any:
        """As the data set has it."""
        return self.dataset.imgs[i][1]


class Caltech101Leaf(PublishedLeaf):
    """Caltech101: `index` and `y`; images of any mode."""

    __slots__ = ()

    any_mode: ClassVar[bool] = True
    inside: ClassVar[tuple[str, str]] = ("101_ObjectCategories", "image_{number:04d}.jpg")

    def path(self, i: int) -> str:
        """Made as torchvision makes it."""
        data, number = self.dataset, self.dataset.index[i]
        folder, pattern = self.inside
        label = data.y[i]
        name = pattern.format(number=number, label=label + 1)
        return os.path.join(data.root, folder, data.categories[label], name)

    def label(self, i: int) -> Any:
        """The category."""
        return self.dataset.y[i]

    @property
    def classes(self) -> list[str]:
        """The categories."""
        return list(self.dataset.categories)

    def refusal(self) -> str | None:
        """Also for contours as targets, and where the transform leaves grey images grey."""
        if getattr(self.dataset, "target_type", ["category"]) != ["category"]:
            return f"target_type={self.dataset.target_type!r} is not one class label"
        return super().refusal() or any_mode_refusal(type(self.dataset).__name__, self.dataset.transform)


class Caltech256Leaf(Caltech101Leaf):
    """Caltech256: as Caltech101, with the number of the category in the name."""

    __slots__ = ()

    inside: ClassVar[tuple[str, str]] = ("256_ObjectCategories", "{label:03d}_{number:04d}.jpg")
