"""One request to one packed uint8 batch, with FFCV's library, and Pillow for what that does not decode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from fastpipe.backends.base import Numerics
from fastpipe.backends.ffcv.exact import fill_exact, has_pillows_pixels
from fastpipe.backends.ffcv.fast import fill_fast
from fastpipe.backends.ffcv.native import Native
from fastpipe.backends.ffcv.sample import Pixels, Sample, ThreadState
from fastpipe.backends.ffcv.threads import Stop
from fastpipe.batch.buffer import collate_labels, without_samples
from fastpipe.batch.locate import label_at, locate
from fastpipe.batch.mend import Mender, first_that_decodes
from fastpipe.decode import crop_and_resize, num_uniforms
from fastpipe.decode.pillow import pixels
from fastpipe.errors import SampleError
from fastpipe.rng import Stream, uniforms
from fastpipe.transforms import with_size
from fastpipe.types import HostBatch, Plan, Request, Size, Spec

__all__ = ["BatchWork", "ThreadState"]


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
        return _Assembly(self, request, state).run(stop)


class _Assembly:
    """One batch in the making, by one thread."""

    def __init__(self, work: BatchWork, request: Request, state: ThreadState) -> None:
        self.work = work
        self.request = request
        self.state = state
        plan = work.plan
        self.spec: Spec | None = plan.decode if request.size is None else with_size(plan, request.size)
        keys = (request.seed, request.epoch, request.ids, request.repeats)
        self.draws: Sequence[Sequence[float]] = uniforms(*keys, Stream.CROP, num_uniforms(self.spec)).tolist()
        self.mending = work.mender.batch(request)
        self.images: torch.Tensor | None = None
        self.array: Pixels | None = None
        self.labels: dict[int, Any] = {}

    def run(self, stop: Stop) -> HostBatch:
        for place in range(len(self.request.ids)):
            if stop():
                raise RuntimeError("the iterator was closed")
            self.mending.fill(place, self._put)
        return self._finished()

    def _put(self, place: int, sample_id: int) -> None:
        leaf, index = locate(self.work.dataset, sample_id)
        try:
            _, rejected = first_that_decodes(self._decoders(leaf, index, place))
        except SampleError as error:
            error.sample_id = sample_id
            raise
        except ValueError as error:
            name = leaf.samples[index][0]
            raise SampleError(
                f"the image {name!r}: {error}", path=name, sample_id=sample_id, lasting=False
            ) from error
        if rejected is not None:
            self.mending.rescued(place, rejected)
        self.labels[place] = label_at(self.request, place, leaf, int(leaf.beton.labels[index]))

    def _decoders(self, leaf: Any, index: int, place: int) -> list[tuple[str, Callable[[], None]]]:
        """FFCV's library, then Pillow; Pillow alone for what has other pixels there and must not."""
        sample = Sample(beton=leaf.beton, index=index, spec=self.spec, draws=self.draws[place])
        room = partial(self._target, place)
        pillow = ("Pillow", partial(self._pillow, leaf, index, place))
        if self.work.numerics == "fast":
            return [("FFCV", partial(fill_fast, self.work.native, self.state, sample, room)), pillow]
        if not has_pillows_pixels(sample):
            return [pillow]
        return [("FFCV", partial(fill_exact, self.state, sample, room)), pillow]

    def _pillow(self, leaf: Any, index: int, place: int) -> None:
        image = pixels(crop_and_resize(leaf.rgb(index), self.spec, self.draws[place]))
        self._target(place, (image.shape[0], image.shape[1]))[...] = image

    def _target(self, place: int, size: Size) -> Pixels:
        """Where the pixels of this place go, uint8 [*size, 3] of the batch's own fresh memory."""
        if self.array is None:
            shape = (len(self.request.ids), *size, 3)
            self.images = torch.empty(shape, dtype=torch.uint8, pin_memory=self.work.pin, device="cpu")
            self.array = self.images.numpy()
        found = self.array.shape[1:3]
        if found != size:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(found)} pixels (height, width) "
                f"at entry 0 and {list(size)} at entry {place}: "
                f"add Resize with a (height, width) pair, or a crop, to the transform"
            )
        target: Pixels = self.array[place]
        return target

    def _finished(self) -> HostBatch:
        kept, request, incidents = self.mending.finish()
        if not len(kept):
            return without_samples(request, incidents)
        images, array = self.images, self.array
        if images is None or array is None:
            raise RuntimeError("a batch with samples has no pixels")
        if len(kept) < len(array):
            # By numpy: torch would index with OpenMP threads, which a forked process waits for for ever.
            images = torch.from_numpy(array[kept])
            images = images.pin_memory() if self.work.pin else images
        labels = collate_labels([self.labels[place] for place in kept.tolist()])
        if self.work.pin and isinstance(labels, torch.Tensor):
            labels = labels.pin_memory()
        return HostBatch(images=images, labels=labels, request=request, incidents=incidents)
