"""One packed batch under construction, for every backend: pixels, labels, and the fate of broken samples.

packing = Packing(request, mender)
for place in range(len(request.ids)):
    packing.mending.fill(place, put)       # put: `room` or `store`, then `label`; SampleError by `about`
batch = packing.finish()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastpipe.batch.buffer import allocate, collate_labels, without_samples
from fastpipe.batch.locate import label_at
from fastpipe.batch.mend import Mender
from fastpipe.decode import num_uniforms
from fastpipe.errors import SampleError
from fastpipe.rng import Stream, uniforms
from fastpipe.storage import Leaf
from fastpipe.transforms import with_size
from fastpipe.types import HostBatch, Plan, Request, Size, Spec

__all__ = ["Packing", "Pixels", "about", "decode_draws", "decode_step"]

Pixels = npt.NDArray[np.uint8]


def decode_step(plan: Plan, request: Request) -> tuple[Spec | None, Sequence[Sequence[float]]]:
    """The decode step at the request's size, and its uniform numbers by place."""
    spec, draws = decode_draws(plan, request)
    return spec, draws.tolist()


def decode_draws(plan: Plan, request: Request) -> tuple[Spec | None, npt.NDArray[np.float64]]:
    """The same with the numbers as an array, float64 [B, num_uniforms(spec)]."""
    spec = plan.decode if request.size is None else with_size(plan, request.size)
    keys = (request.seed, request.epoch, request.ids, request.repeats)
    return spec, uniforms(*keys, Stream.CROP, num_uniforms(spec))


@contextmanager
def about(leaf: Leaf, index: int, sample_id: int) -> Iterator[None]:
    """Wraps the making of one sample: its errors name it. A ValueError means a crop that does not fit."""
    try:
        yield
    except SampleError as error:
        error.sample_id = sample_id
        raise
    except ValueError as error:
        name = leaf.name(index)
        raise SampleError(
            f"the image {name!r}: {error}", path=name, sample_id=sample_id, lasting=False
        ) from error


class Packing:
    """One batch, filled by one thread at a time. pin: into page-locked memory."""

    def __init__(self, request: Request, mender: Mender, *, pin: bool = False) -> None:
        self.request = request
        self.mending = mender.batch(request)
        self._pin = pin
        self._images: torch.Tensor | None = None
        self._array: Pixels | None = None
        self._labels: dict[int, Any] = {}

    def room(self, place: int, size: Size, leaf: Leaf, index: int) -> Pixels:
        """Room for the pixels of a place, uint8 [*size, 3]. RuntimeError, as in torch, for another size."""
        array = self.open(size).numpy() if self._array is None else self._array
        self._array = array
        first = array.shape[1:3]
        if first != size:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(first)} pixels (height, width) "
                f"at entry 0 and {list(size)} at entry {place} ({leaf.name(index)!r}): "
                f"add Resize with a (height, width) pair, or a crop, to the transform"
            )
        target: Pixels = array[place]
        return target

    def open(self, size: Size) -> torch.Tensor:
        """The pixels of all places on the host, uint8 [B, *size, 3]; the first call decides the size."""
        if self._images is None:
            self._images = allocate(len(self.request.ids), *size, pin=self._pin)
        return self._images

    def store(self, place: int, image: Pixels, leaf: Leaf, index: int) -> None:
        """Copy the pixels of a place, uint8 [H,W,3]."""
        self.room(place, (image.shape[0], image.shape[1]), leaf, index)[...] = image

    def label(self, place: int, leaf: Leaf, label: Any) -> None:
        """Take the label of a place whose pixels are there, through the script's `target_transform`."""
        if leaf.labelled:
            self._labels[place] = label_at(self.request, place, leaf, label)

    def finish(self, images: torch.Tensor | None = None) -> HostBatch:
        """The batch without the places that the policy dropped. images: made elsewhere, for all places."""
        kept, request, incidents = self.mending.finish()
        if not len(kept):
            return without_samples(request, incidents)
        images = self._images if images is None else images
        if images is None:
            raise RuntimeError("a batch with samples has no pixels")
        if len(kept) < len(images):
            images = self._without(images, kept)
        labels = self._collated(kept.tolist())
        return HostBatch(images=images, labels=labels, request=request, incidents=incidents)

    def _collated(self, kept: list[int]) -> Any:
        """The labels of these places as one value; None where no sample has one."""
        if not self._labels:
            return None
        lacking = [place for place in kept if place not in self._labels]
        if lacking:
            raise RuntimeError(
                f"a batch cannot join images with and without labels. Without: the sample "
                f"{int(self.request.ids[lacking[0]])} at entry {lacking[0]}"
            )
        return self.pinned(collate_labels([self._labels[place] for place in kept]))

    def pinned(self, labels: Any) -> Any:
        """Collated labels in page-locked memory, if the batch is to lie there."""
        return labels.pin_memory() if self._pin and isinstance(labels, torch.Tensor) else labels

    def _without(self, images: torch.Tensor, kept: npt.NDArray[np.int64]) -> torch.Tensor:
        """The places that are kept. numpy indexes on the host: torch would use OpenMP threads, for which a
        forked process waits forever.
        """
        if images.is_cuda:
            return images[torch.from_numpy(kept)]
        images = torch.from_numpy(images.numpy()[kept])
        return images.pin_memory() if self._pin else images
