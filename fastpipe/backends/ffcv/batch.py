"""One request to one packed uint8 batch, with FFCV's library, and Pillow for images it does not decode."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from fastpipe.backends.base import Numerics
from fastpipe.backends.ffcv.exact import fill_exact, has_pillows_pixels
from fastpipe.backends.ffcv.fast import fill_fast
from fastpipe.backends.ffcv.native import Native
from fastpipe.backends.ffcv.sample import Sample, ThreadState
from fastpipe.backends.threads import Stop
from fastpipe.batch.locate import locate
from fastpipe.batch.mend import Mender, first_that_decodes
from fastpipe.batch.packing import Packing, Pixels, about, decode_step
from fastpipe.decode import crop_and_resize
from fastpipe.decode.pillow import pixels
from fastpipe.storage import Leaf
from fastpipe.types import HostBatch, Plan, Request, Size


class BatchWork:
    """Makes batches; shared by the threads of a source. pin: into page-locked memory."""

    def __init__(
        self, dataset: Any, plan: Plan, mender: Mender, native: Native, *, numerics: Numerics, pin: bool
    ) -> None:
        self.dataset = dataset
        self.plan = plan
        self.mender = mender
        self.native = native
        self.numerics = numerics
        self.pin = pin

    def __call__(self, request: Request, state: ThreadState, stop: Stop) -> HostBatch:
        """The batch of one request. Raises SampleError, or RuntimeError for images of unequal size."""
        began = time.thread_time()
        assembly = _Assembly(self, request, state)
        batch = assembly.run(stop)
        batch.to_pillow, batch.cpu_seconds = dict(assembly.handed), time.thread_time() - began
        return batch


class _Assembly:
    """One batch under construction, by one thread."""

    def __init__(self, work: BatchWork, request: Request, state: ThreadState) -> None:
        self.work = work
        self.state = state
        self.spec, self.draws = decode_step(work.plan, request)
        self.packing = Packing(request, work.mender, pin=work.pin)
        self.handed: Counter[str] = Counter()

    def run(self, stop: Stop) -> HostBatch:
        for place in range(len(self.packing.request.ids)):
            if stop():
                raise RuntimeError("the iterator was closed")
            self.packing.mending.fill(place, self._put)
        return self.packing.finish()

    def _put(self, place: int, sample_id: int) -> None:
        leaf, index = locate(self.work.dataset, sample_id)
        with about(leaf, index, sample_id):
            _, rejected = first_that_decodes(self._decoders(leaf, index, place))
        if rejected is not None:
            self.handed["rejected"] += 1
            self.packing.mending.rescued(place, rejected)
        self.packing.label(place, leaf, leaf.label(index))

    def _decoders(self, leaf: Leaf, index: int, place: int) -> list[tuple[str, Callable[[], None]]]:
        """FFCV's library, then Pillow; Pillow alone for images whose pixels would differ but must not."""
        sample = Sample(leaf=leaf, index=index, spec=self.spec, draws=self.draws[place])
        pillow = ("Pillow", partial(self._pillow, leaf, index, place))

        def room(size: Size) -> Pixels:
            return self.packing.room(place, size, leaf, index)

        if self.work.numerics == "fast":
            return [("FFCV", partial(fill_fast, self.work.native, self.state, sample, room)), pillow]
        if not has_pillows_pixels(sample):
            self.handed["raw" if sample.raw else "other pixels"] += 1
            return [pillow]
        return [("FFCV", partial(fill_exact, self.state, sample, room)), pillow]

    def _pillow(self, leaf: Leaf, index: int, place: int) -> None:
        image = pixels(crop_and_resize(leaf.rgb(index), self.spec, self.draws[place]))
        self.packing.store(place, image, leaf, index)
