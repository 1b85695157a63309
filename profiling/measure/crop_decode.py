"""Decoding only the crop's box, compared with the whole image: what a decoder with this ability gains."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastpipe.backends.dali.pipeline import Graph, Runner, load_dali
from fastpipe.decode import draw_box
from fastpipe.errors import BackendError, MissingExtraError
from fastpipe.profiling import names
from fastpipe.profiling.measure.inputs import Inputs, Sampled
from fastpipe.profiling.measure.stages import Stage
from fastpipe.types import Plan, Spec

_BATCH = 16


def crop_decoding(inputs: Inputs, plan: Plan) -> tuple[Stage | None, str]:
    """The stage, or None and the reason. Pillow decodes whole images, so this is DALI, in its own thread."""
    samples = [sample for sample in inputs.samples if sample.data[:2] == b"\xff\xd8"]
    if plan.decode is None or not samples:
        return None, "no JPEG among the sampled files"
    try:
        load_dali()
        units = _Boxes(samples, plan.decode)
    except (MissingExtraError, BackendError) as error:
        return None, f"needs DALI, which can decode only a box: {error}"
    what = "bytes to RGB within the crop's box, DALI, 1 thread"
    return Stage(id=names.CROP_DECODE, lane=None, what=what, unit=units.decode), ""


class _Boxes:
    """Feeds DALI the sampled files with the boxes drawn for them, batch after batch."""

    def __init__(self, samples: Sequence[Sampled], spec: Spec) -> None:
        self._batches = [
            _fed(samples[start : start + _BATCH], spec) for start in range(0, len(samples), _BATCH)
        ]
        self._next = 0
        self._runner = Runner(Graph(), batch_size=_BATCH, threads=1, depth=1)
        self._runner.provide = _weak(self)

    def give(self) -> Any:
        """The current batch, as DALI's source."""
        return self._batches[self._next]

    def decode(self) -> int:
        """Decode one batch; the number of its images."""
        num = len(self._batches[self._next][0])
        self._runner.submit()
        self._runner.result()
        self._next = (self._next + 1) % len(self._batches)
        return num


def _weak(boxes: _Boxes) -> Any:
    """The source without a reference cycle: otherwise DALI's threads would wait for the collector."""
    known = weakref.ref(boxes)

    def provide() -> Any:
        found = known()
        if found is None:
            raise StopIteration
        return found.give()

    return provide


def _fed(samples: Sequence[Sampled], spec: Spec) -> tuple[list[Any], Any, Any]:
    boxes = [draw_box(spec, sample.draws, sample.image.height, sample.image.width) for sample in samples]
    starts = np.array([(box.top, box.left) for box in boxes], dtype=np.int32)
    shapes = np.array([(box.height, box.width) for box in boxes], dtype=np.int32)
    return [np.frombuffer(sample.data, dtype=np.uint8) for sample in samples], starts, shapes
