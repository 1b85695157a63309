"""The inputs of DALI for one batch: each file's bytes and box, and which files go to Pillow instead.

A bad file in a run kills the pipeline, so headers are checked before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastpipe.backends.dali.pipeline import Graph
from fastpipe.batch.locate import locate
from fastpipe.batch.packing import Packing
from fastpipe.decode import Box, CropError, draw_box
from fastpipe.decode.boxes import short_side
from fastpipe.decode.pillow import MAX_RESIZED_PIXELS, plain_jpeg
from fastpipe.errors import SampleError
from fastpipe.storage import Encoded, Leaf
from fastpipe.storage.jpeg import is_one_scan
from fastpipe.transforms import RandomResizedCrop, ResizeCrop
from fastpipe.types import Request, Size, Spec

# Boxes of 1 to 3 columns at the edge of an image with subsampled chroma come out up to 10 levels off, since
# upsampling lacks the neighbours. From 4 columns on all were right, in 192 samplings.
_NARROWEST = 8


def jpeg_size(data: Encoded) -> Size | None:
    """(height, width) of a JPEG that DALI decodes to Pillow's pixels; None for anything else.

    Progressive JPEGs are excluded: if scans are missing, libjpeg-turbo smooths across blocks, differently in
    a box and in the whole image (up to 24 levels). So are files with data after the scan: DALI stops reading
    at the last line, while Pillow reads to the end marker and rejects what it finds before.
    """
    facts = plain_jpeg(data)
    if facts is None or facts.progressive or not is_one_scan(data, facts):
        return None
    return facts.height, facts.width


@dataclass(slots=True, kw_only=True)
class Item:
    """One place of a batch. size: (height, width) when DALI may decode `data`, else None.

    error: why it could not be read, or why DALI rejected it (Pillow is tried then).
    """

    path: str
    label: Any
    leaf: Leaf
    index: int
    data: Encoded | None = None
    size: Size | None = None
    error: SampleError | None = None


def read_item(dataset: Any, sample_id: int, rejected: Mapping[str, SampleError]) -> Item:
    """Read a sample's bytes; a failure is stored in `error`. rejected: DALI's errors by sample key."""
    leaf, index = locate(dataset, sample_id)
    item = Item(path=leaf.name(index), label=leaf.label(index), leaf=leaf, index=index)
    try:
        if not leaf.raw(index):
            item.data = leaf.encoded(index)
            found, told = jpeg_size(item.data), leaf.size(index)
            item.size = found if told is None or found == told else None
    except SampleError as error:
        error.sample_id = sample_id
        item.error = error
        return item
    if rejected and item.size is not None:
        item.error = rejected.get(leaf.key(index))
        item.size = item.size if item.error is None else None
    return item


@dataclass(slots=True, kw_only=True)
class Prepared:
    """One batch in progress: everything needed to run it, and to run it again.

    spec: the decode step at this request's size. draws: its uniform numbers by place. items: by place, None
    for a sample of the quarantine list. places: those that DALI serves, noted by `inputs`.
    """

    request: Request
    spec: Spec | None
    draws: Sequence[Sequence[float]]
    packing: Packing
    items: Sequence[Item | None]
    tries: int = 0
    places: list[int] = field(default_factory=list)

    def inputs(self, graph: Graph) -> tuple[Any, ...]:
        """The graph's inputs for the places that DALI serves, which are stored in `places`."""
        rows: list[tuple[Encoded, tuple[Size, ...]]] = []
        self.places = []
        for place, item in enumerate(self.items):
            if item is None or item.size is None or item.data is None:
                continue
            geometry = _geometry(self.spec, self.draws[place], item.size, graph)
            if geometry is not None:
                self.places.append(place)
                rows.append((item.data, geometry))
        return _columns(rows, graph) if rows else blank(graph)

    def finishing(self, graph: Graph) -> Spec | None:
        """Finish, with Pillow, an image that comes out of the graph."""
        if graph.resize:
            return None
        if isinstance(self.spec, RandomResizedCrop):
            return ResizeCrop(resize=self.spec.size, interpolation=self.spec.interpolation)
        return self.spec


def _geometry(spec: Spec | None, draws: Sequence[float], size: Size, graph: Graph) -> tuple[Size, ...] | None:
    """Start and shape of the box, and the graph's other inputs; None if Pillow must report the error."""
    if isinstance(spec, RandomResizedCrop):
        box = draw_box(spec, draws, *size)
        if box.width < min(_NARROWEST, size[1]):
            return None
        geometry = ((box.top, box.left), (box.height, box.width))
        return (*geometry, spec.size) if graph.resize else geometry
    if not graph.resize or not isinstance(spec, ResizeCrop):
        return (0, 0), size
    target = short_side(*size, spec.resize) if isinstance(spec.resize, int) else spec.resize or size
    if target[0] * target[1] > MAX_RESIZED_PIXELS or min(target) < 1:
        return None
    if not graph.cut:
        return (0, 0), size, target
    try:
        box = draw_box(spec, draws, *target)
    except CropError:
        return None
    return (0, 0), size, target, *_corner_and_shape(box)


def _corner_and_shape(box: Box) -> tuple[Size, Size]:
    return (box.top, box.left), (box.height, box.width)


def _columns(rows: Iterable[tuple[Encoded, tuple[Size, ...]]], graph: Graph) -> tuple[Any, ...]:
    data, geometry = zip(*rows, strict=True)
    columns: list[Any] = [[_bytes(one) for one in data]]
    for number, column in enumerate(zip(*geometry, strict=True)):
        kind = np.float32 if graph.resize and number == 2 else np.int32  # fn.resize takes float sizes
        columns.append(np.array(column, dtype=kind))
    return tuple(columns)


def _bytes(data: Encoded) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


@lru_cache(maxsize=8)
def blank(graph: Graph) -> tuple[Any, ...]:
    """Inputs of one black image: a batch without a file for DALI still takes its turn."""
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    corner, square = (0, 0), (8, 8)
    geometry: tuple[Size, ...] = (corner, square, square, corner, square)[: graph.num_inputs - 1]
    return _columns([(buffer.getvalue(), geometry)], graph)
