"""torchvision's data sets of small images, which it keeps in memory as arrays."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastpipe.storage.arrays.layout import Layout, Levels
from fastpipe.storage.arrays.leaf import MemoryLeaf
from fastpipe.storage.leaf import array_of
from fastpipe.storage.published.grey import for_rgb, grey_refusal
from fastpipe.types import IntArray


class CifarLeaf(MemoryLeaf):
    """CIFAR10 and CIFAR100: `data` [N,32,32,3], `targets` a list."""

    __slots__ = ()

    axes: ClassVar[Layout] = "NHWC"

    @property
    def levels(self) -> Levels:
        """The array; MNIST's is a tensor."""
        return np.asarray(self.dataset.data)

    @property
    def layout(self) -> Layout:
        """That of the class."""
        return self.axes

    def label(self, i: int) -> Any:
        """A class number, or what the script put into `targets`."""
        return self.dataset.targets[i]

    def labels(self, ids: IntArray) -> npt.NDArray[Any]:
        """The labels of a batch, one by one: `targets` is a list."""
        return array_of([self.label(i) for i in ids.tolist()])

    def refusal(self) -> str | None:
        """Also for data of another form, which a script has put in."""
        reason = super().refusal()
        if reason is not None:
            return reason
        shape, channels = self.levels.shape, self.axes.find("C")
        if (
            self.levels.dtype != np.uint8
            or len(shape) != len(self.axes)
            or (channels > 0 and shape[channels] != 3)
        ):
            name = type(self.dataset).__name__
            found = f"{self.levels.dtype} {list(shape)}"
            return f"the images of {name} are {found}, not uint8 [{', '.join(self.axes)}]"
        return None


class SvhnLeaf(CifarLeaf):
    """SVHN and STL10: `data` [N,3,H,W], `labels` an array."""

    __slots__ = ()

    axes: ClassVar[Layout] = "NCHW"

    def label(self, i: int) -> int:
        """As torchvision gives it."""
        return int(self.dataset.labels[i])

    def refusal(self) -> str | None:
        """Also for STL10 that was loaded without labels."""
        if self.dataset.labels is None:
            return f"{type(self.dataset).__name__} has no labels, and its items hold None"
        return super().refusal()


class MnistLeaf(CifarLeaf):
    """MNIST and its kin, USPS: `data` [N,H,W], grey, `targets` a tensor or a list."""

    __slots__ = ()

    axes: ClassVar[Layout] = "NHW"

    @property
    def transform(self) -> Any:
        """The script's, for RGB images."""
        return for_rgb(self.dataset.transform)

    def label(self, i: int) -> int:
        """As torchvision gives it."""
        return int(self.dataset.targets[i])

    def refusal(self) -> str | None:
        """Also where the transform leaves images with one channel."""
        return super().refusal() or grey_refusal(type(self.dataset).__name__, self.dataset.transform)


class SemeionLeaf(MnistLeaf):
    """SEMEION: as MNIST, with `labels`."""

    __slots__ = ()

    def label(self, i: int) -> int:
        """As torchvision gives it."""
        return int(self.dataset.labels[i])
