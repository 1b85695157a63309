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
    """The packed batch of one run. images: DALI's TensorList for `prepared.places`; device: their target.

    A batch that DALI made completely is handed over without a copy; images made on that GPU stay there.
    Raises SampleError if the policy says so.
    """
    put = partial(_put, prepared, dataset)
    dense = graph.resize and prepared.places and images.is_dense_tensor()
    if dense and graph.mixed and device.type == "cuda":
        return _on_its_device(prepared, images.as_tensor(), graph.device, put, each)
    if graph.mixed and prepared.places:  # without a place for DALI, it made a blank image
        images = images.as_cpu()
    if dense and len(prepared.places) == len(prepared.items):
        _label_served(prepared)
        return prepared.packing.finish(torch.from_numpy(np.asarray(images.as_tensor())))
    rows = {place: row for row, place in enumerate(prepared.places)}
    make = partial(_pixels, prepared, images, rows, prepared.finishing(graph))
    for place, result in enumerate(each(make, range(len(prepared.items)))):
        _add(prepared, place, result, put)
    return prepared.packing.finish()


def _label_served(prepared: Prepared) -> None:
    """Take the labels of the places that DALI made."""
    for place in prepared.places:
        item = prepared.items[place]
        if item is not None:
            prepared.packing.label(place, item.leaf, item.label)


def _on_its_device(prepared: Prepared, dense: Any, number: int, put: Put, each: Each) -> HostBatch:
    """The batch on GPU `number`, where DALI's images, a TensorGPU, lie; the others are copied there."""
    served = set(prepared.places)
    others = [place for place in range(len(prepared.items)) if place not in served]
    height, width = dense.shape()[1:3]
    host = prepared.packing.open((height, width)) if others else None
    make = partial(_pixels, prepared, None, {}, None)
    for place, result in zip(others, each(make, others), strict=True):
        _add(prepared, place, result, put)
    _label_served(prepared)
    with torch.cuda.device(number):
        batch = prepared.packing.finish(_copied(dense, number, prepared.places, others, host))
        # The device stage works on its own stream, and DALI reuses its buffer.
        torch.cuda.current_stream().synchronize()
    return batch


def _copied(
    dense: Any, number: int, places: Sequence[int], others: Sequence[int], host: torch.Tensor | None
) -> torch.Tensor:
    """A tensor owned by torch, made on its stream: DALI's images at `places`, the host's at `others`."""
    from nvidia.dali.plugin.pytorch import feed_ndarray

    device = torch.device("cuda", number)
    made = torch.empty(tuple(dense.shape()), dtype=torch.uint8, device=device)
    feed_ndarray(dense, made, cuda_stream=torch.cuda.current_stream())
    if host is None:
        return made
    joined = torch.empty(tuple(host.shape), dtype=torch.uint8, device=device)
    joined[torch.tensor(places, device="cpu")] = made
    for place in others:
        joined[place].copy_(host[place])
    return joined


def _pixels(
    prepared: Prepared, images: Any, rows: dict[int, int], finishing: Spec | None, place: int
) -> Pixels | SampleError | None:
    """The pixels of one place, or the error of making them, or None for a quarantined sample."""
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
    """Store the result of a place, or apply the policy; put: makes a substitute."""
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
