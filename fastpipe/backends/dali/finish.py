"""From DALI's output to a packed batch: what Pillow does, the policy for broken files, the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image

from fastpipe.backends.dali.pipeline import Graph
from fastpipe.backends.dali.samples import Prepared
from fastpipe.batch.locate import locate
from fastpipe.batch.mend import Put
from fastpipe.batch.packing import Pixels, about
from fastpipe.decode import crop_and_resize
from fastpipe.decode.pillow import pixels
from fastpipe.errors import SampleError
from fastpipe.types import HostBatch, Spec

__all__ = ["Each", "finish_batch"]

T = TypeVar("T")
R = TypeVar("R")


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
    packing = prepared.packing
    whole = prepared.items and len(prepared.places) == len(prepared.items)
    if graph.resize and whole and images.is_dense_tensor():
        for place, item in enumerate(prepared.items):
            if item is not None:
                packing.label(place, item.leaf, item.label)
        if graph.mixed and device.type == "cuda":
            return packing.finish(_on_device(images, graph.device))
        images = images.as_cpu() if graph.mixed else images
        return packing.finish(torch.from_numpy(np.asarray(images.as_tensor())))
    images = images.as_cpu() if graph.mixed else images  # Pillow adds to it
    rows = {place: row for row, place in enumerate(prepared.places)}
    make = partial(_pixels, prepared, images, rows, prepared.finishing(graph))
    put = partial(_put, prepared, dataset)
    for place, result in enumerate(each(make, range(len(prepared.items)))):
        _add(prepared, place, result, put)
    return packing.finish()


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
    decoded = np.asarray(images[rows[place]]) if place in rows else None
    if decoded is not None and finishing is None:
        return decoded
    spec = prepared.spec if decoded is None else finishing
    try:
        with about(item.leaf, item.index, int(prepared.request.ids[place])):
            image = item.leaf.rgb(item.index, item.data) if decoded is None else _image(decoded)
            return pixels(crop_and_resize(image, spec, draws))
    except SampleError as error:
        return error


def _image(decoded: Pixels) -> Image.Image:
    return Image.frombuffer("RGB", (decoded.shape[1], decoded.shape[0]), decoded, "raw", "RGB", 0, 1)


def _add(prepared: Prepared, place: int, result: Pixels | SampleError | None, put: Put) -> None:
    """Store what came of a place, or apply the policy; put: makes a substitute."""
    packing, item = prepared.packing, prepared.items[place]
    error = packing.mending.listed(place) if item is None else result
    if isinstance(error, SampleError):
        packing.mending.mend(place, error, put)
    elif item is not None and result is not None and not isinstance(result, SampleError):
        packing.store(place, result, item.leaf, item.index)
        packing.label(place, item.leaf, item.label)
        if item.error is not None:
            packing.mending.rescued(place, item.error)


def _put(prepared: Prepared, dataset: Any, place: int, sample_id: int) -> None:
    """A substitute, decoded by Pillow."""
    leaf, index = locate(dataset, sample_id)
    label = leaf.label(index)
    with about(leaf, index, sample_id):
        image = crop_and_resize(leaf.rgb(index), prepared.spec, prepared.draws[place])
    prepared.packing.store(place, pixels(image), leaf, index)
    prepared.packing.label(place, leaf, label)
