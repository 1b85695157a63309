"""From DALI's output to a packed batch: what Pillow does, the policy for broken files, the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fastpipe.backends.dali.pipeline import Graph
from fastpipe.backends.dali.samples import Item, Prepared
from fastpipe.batch.buffer import allocate, collate_labels, without_samples
from fastpipe.batch.locate import label_at, locate, read_rgb
from fastpipe.decode import crop_and_resize, decode_rgb
from fastpipe.decode.pillow import pixels
from fastpipe.errors import SampleError
from fastpipe.types import HostBatch, Spec

__all__ = ["Each", "finish_batch"]

T = TypeVar("T")
R = TypeVar("R")
Pixels = npt.NDArray[np.uint8]


class Each(Protocol):
    """Applies a function to every item, perhaps on threads."""

    def __call__(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results in the items' order."""


def finish_batch(
    prepared: Prepared,
    images: Any,
    graph: Graph,
    dataset: Any,
    each: Each,
    device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
) -> HostBatch:
    """The packed batch of one run. images: DALI's TensorList for `prepared.places`; device: they go there.

    A batch that DALI made whole is handed over without a copy; what it made on that GPU stays there.
    Raises SampleError by the policy.
    """
    assembly = _Assembly(prepared, dataset)
    whole = prepared.items and len(prepared.places) == len(prepared.items)
    if graph.resize and whole and images.is_dense_tensor():
        for place, item in enumerate(prepared.items):
            if item is not None:
                assembly.label(place, item.folder, item.label)
        if graph.mixed and device.type == "cuda":
            return assembly.finished(_on_device(images, graph.device))
        images = images.as_cpu() if graph.mixed else images
        return assembly.finished(torch.from_numpy(np.asarray(images.as_tensor())))
    images = images.as_cpu() if graph.mixed else images  # Pillow adds to it
    rows = {place: row for row, place in enumerate(prepared.places)}
    make = partial(_pixels, prepared, images, rows, prepared.finishing(graph))
    for place, result in enumerate(each(make, range(len(prepared.items)))):
        assembly.add(place, result)
    return assembly.finished(assembly.images)


def _on_device(images: Any, number: int) -> torch.Tensor:
    """A tensor of torch's own with DALI's images, copied on the device, on torch's stream."""
    from nvidia.dali.plugin.pytorch import feed_ndarray

    dense = images.as_tensor()
    with torch.cuda.device(number):
        stream = torch.cuda.current_stream()
        made = torch.empty(tuple(dense.shape()), dtype=torch.uint8, device=f"cuda:{number}")
        feed_ndarray(dense, made, cuda_stream=stream)
        stream.synchronize()  # the device stage works on a stream of its own, and DALI takes its buffer back
    return made


def _pixels(
    prepared: Prepared, images: Any, rows: dict[int, int], finishing: Spec | None, place: int
) -> Pixels | SampleError | None:
    """The pixels of one place, why there are none, or None for a sample of the quarantine list."""
    item, draws = prepared.items[place], prepared.draws[place]
    if item is None:
        return None
    if item.data is None and item.error is not None:
        return item.error
    sample_id = int(prepared.request.ids[place])
    try:
        if place not in rows:
            return _cropped(_by_pillow(item), prepared.spec, draws, item.path, sample_id)
        decoded = np.asarray(images[rows[place]])
        if finishing is None:
            return decoded
        image = Image.frombuffer("RGB", (decoded.shape[1], decoded.shape[0]), decoded, "raw", "RGB", 0, 1)
        return _cropped(image, finishing, draws, item.path, sample_id)
    except SampleError as error:
        error.sample_id = sample_id
        return error


def _by_pillow(item: Item) -> Image.Image:
    """By Pillow, of the bytes at hand where they are a file's."""
    if isinstance(item.data, bytes):
        return decode_rgb(item.data, item.path)
    return read_rgb(item.folder, item.index)


def _cropped(
    image: Image.Image, spec: Spec | None, draws: Sequence[float], path: str, sample_id: int
) -> Pixels:
    try:
        return pixels(crop_and_resize(image, spec, draws))
    except ValueError as error:
        message = f"the image {path!r}: {error}"
        raise SampleError(message, path=path, sample_id=sample_id, lasting=False) from error


class _Assembly:
    """One batch in the making: pixels and labels by place."""

    def __init__(self, prepared: Prepared, dataset: Any) -> None:
        self.prepared = prepared
        self.dataset = dataset
        self.images: torch.Tensor | None = None
        self.labels: dict[int, Any] = {}

    def add(self, place: int, result: Pixels | SampleError | None) -> None:
        """Store what came of a place, or apply the policy."""
        mending, item = self.prepared.mending, self.prepared.items[place]
        error = mending.listed(place) if item is None else result
        if isinstance(error, SampleError):
            mending.mend(place, error, self._put)
        elif item is not None and result is not None and not isinstance(result, SampleError):
            self._store(place, result, item.path)
            self.label(place, item.folder, item.label)
            if item.error is not None:
                mending.rescued(place, item.error)

    def _put(self, place: int, sample_id: int) -> None:
        """A substitute, decoded by Pillow."""
        folder, index = locate(self.dataset, sample_id)
        path, label = folder.samples[index]
        image = read_rgb(folder, index)
        draws = self.prepared.draws[place]
        self._store(place, _cropped(image, self.prepared.spec, draws, path, sample_id), path)
        self.label(place, folder, label)

    def label(self, place: int, folder: Any, label: Any) -> None:
        """Take the label of a place whose pixels are there."""
        self.labels[place] = label_at(self.prepared.request, place, folder, label)

    def _store(self, place: int, image: Pixels, path: str) -> None:
        height, width = image.shape[:2]
        if self.images is None:
            self.images = allocate(len(self.prepared.items), height, width)
        elif tuple(self.images.shape[1:3]) != (height, width):
            first = list(self.images.shape[1:3])
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {first} pixels (height, width) "
                f"at entry 0 and {[height, width]} at entry {place} ({path!r}): "
                f"add Resize with a (height, width) pair, or a crop, to the transform"
            )
        self.images[place].numpy()[...] = image

    def finished(self, images: torch.Tensor | None) -> HostBatch:
        """The batch without the places that the policy dropped."""
        kept, request, incidents = self.prepared.mending.finish()
        if not len(kept):
            return without_samples(request, incidents)
        if images is None:
            raise RuntimeError("a batch with samples has no pixels")
        if len(kept) < len(images):
            images = images[torch.from_numpy(kept)]
        labels = collate_labels([self.labels[place] for place in kept.tolist()])
        return HostBatch(images=images, labels=labels, request=request, incidents=incidents)
