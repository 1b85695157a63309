"""The images of a loader that lifted nothing: the script's own code makes them, and only pixels are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import default_collate

from fastpipe.batch import Drawer, KeyedWork
from fastpipe.batch.locate import parts
from fastpipe.errors import ArgumentError
from fastpipe.loader.asked import Asked
from fastpipe.loader.preview.labels import label_words
from fastpipe.loader.preview.levels import denormalised, levels_of, stretched
from fastpipe.loader.preview.row import Levels, Row
from fastpipe.storage import class_names
from fastpipe.transforms import flatten
from fastpipe.types import Request

_LABELS = ("label", "labels", "target", "targets")
STRETCHED = "the scale of the values is not known: each image is shown from its least to its greatest value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What collate_fn made, with the ids it was made of (None where there are none) and its number."""

    data: Any
    ids: list[Any]
    number: int


def plain_rows(asked: Asked, batches: Iterator[Batch], num: int, epoch: int) -> tuple[list[Row], str]:
    """The first `num` images, and a note on how their values became levels; "" if nothing was guessed.

    Raises ArgumentError if a batch holds no images.
    """
    rows: list[Row] = []
    note = ""
    names = next(filter(None, map(class_names, parts(asked.dataset))), ())
    for batch in batches:
        images = _images_in(batch.data)
        if images is None:
            raise ArgumentError(
                f"a batch must hold images, [B, 1 or 3, H, W], to be previewed. Found: {_form(batch.data)}"
            )
        images = images[None] if images.ndim == 3 else images
        labels = _labels_in(batch.data) if asked.batched else None
        levels, note = _levels(asked.dataset, images)
        rows += [
            Row(
                id=batch.ids[at] if at < len(batch.ids) else None,
                name="",
                label=label_words(labels, at, names),
                epoch=epoch,
                batch=batch.number,
                operations=(),
                pixels=levels[at],
            )
            for at in range(min(len(levels), num - len(rows)))
        ]
        if len(rows) >= num:
            break
    return rows, note


def batches_by_id(asked: Asked, drawer: Drawer, num: int) -> Iterator[Batch]:
    """Batches of a map-style data set; torch's own collate_fn gets no more samples than are shown."""
    work = KeyedWork(
        asked.dataset,
        collate_fn=asked.collate_fn,
        batched=asked.batched,
        reseed=asked.seed is not None,
        on_error=asked.on_error,
    )
    while True:
        try:
            request = drawer.draw()
        except StopIteration:
            return
        if fault := drawer.faults.pop(request.batch, None):
            raise fault
        ids = list(request.asked) if asked.batched else [request.asked]
        if asked.batched and asked.collate_fn is default_collate:
            request, ids = _first(request, num), ids[:num]
        made = work[request]
        if made.empty:
            continue
        if made.incidents:
            left_out = {incident.sample_id for incident in made.incidents}
            ids = [sample_id for sample_id in ids if sample_id not in left_out]
        yield Batch(data=made.data, ids=ids, number=request.batch)


def _first(request: Request, num: int) -> Request:
    asked = list(request.asked)[:num]
    return replace(request, ids=request.ids[:num], repeats=request.repeats[:num], asked=asked)


def batches_of_stream(asked: Asked) -> Iterator[Batch]:
    """Batches of an IterableDataset, by torch's loader."""
    loader: TorchLoader[Any] = TorchLoader(
        asked.dataset, batch_size=asked.batch_size, collate_fn=asked.collate_fn, generator=asked.generator
    )
    for number, data in enumerate(loader):
        yield Batch(data=data, ids=[], number=number)


def _images_in(data: Any) -> torch.Tensor | None:
    """The first value in it that has the shape of images, channels first."""
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(data)
    if isinstance(data, torch.Tensor):
        first, last = data.ndim in (3, 4) and data.shape[-3] in (1, 3), data.shape[-1:] in ((1,), (3,))
        if not first and last and data.ndim in (3, 4):
            return data.movedim(-1, -3)
        return data if first else None
    values = list(data.values()) if isinstance(data, Mapping) else data
    if not isinstance(values, list | tuple):
        return None
    return next((found for found in map(_images_in, values) if found is not None), None)


def _labels_in(data: Any) -> Any:
    if isinstance(data, Mapping):
        return next((data[name] for name in _LABELS if name in data), None)
    return data[1] if isinstance(data, list | tuple) and len(data) > 1 else None


def _form(data: Any) -> str:
    if isinstance(data, torch.Tensor):
        return f"a tensor {list(data.shape)}"
    if isinstance(data, list | tuple):
        return f"a {type(data).__name__} of {', '.join(map(_form, data))}"
    return type(data).__name__


def _levels(dataset: Any, images: torch.Tensor) -> tuple[Levels, str]:
    if images.dtype == torch.uint8:
        return levels_of(images, None), ""
    found = _normalisation(dataset)
    if found is not None and images.shape[1] == len(found[0]):
        return denormalised(images, *found), ""
    if images.is_floating_point() and float(images.min()) >= 0.0 and float(images.max()) <= 1.0:
        return denormalised(images, (0.0,) * images.shape[1], (1.0,) * images.shape[1]), ""
    return stretched(images), STRETCHED


def _normalisation(dataset: Any) -> tuple[list[float], list[float]] | None:
    """Mean and std of the only Normalize of torchvision in the data set's transform; None if it has none."""
    steps = [step for part in parts(dataset) for step in flatten(getattr(part, "transform", None))]
    found = [step for step in steps if type(step) in (v1.Normalize, v2.Normalize)]
    return (list(found[0].mean), list(found[0].std)) if len(found) == 1 else None
