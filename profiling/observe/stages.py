"""Hooks in a process that makes batches: fetch, collate, transforms, Pillow and other decoders, pickling."""

from __future__ import annotations

import sys
import time
from collections.abc import Sized
from types import SimpleNamespace
from typing import Any

from torch.utils.data._utils import fetch as torch_fetch

from fastpipe.batch.worker import FolderWork, KeyedWork
from fastpipe.profiling.observe.calls import count_samples, raw, timed
from fastpipe.profiling.observe.discover import transforms_of
from fastpipe.profiling.observe.patches import Patches
from fastpipe.profiling.observe.recorder import Recorder
from fastpipe.types import HostBatch, Request

# Module, owner in it ("" for the module), attribute, stage. Only of modules that are imported already:
# observing must not make a script import anything.
_DECODERS = (
    ("PIL.Image", "", "open", "read"),
    ("PIL.JpegImagePlugin", "JpegImageFile", "load_read", "read"),
    ("PIL.ImageFile", "ImageFile", "load", "decode"),
    ("PIL.ImageFile", "ImageFile", "convert", "decode"),
    ("torchvision.io.image", "", "read_file", "read"),
    ("torchvision.io.image", "", "decode_image", "decode"),
    ("torchvision.io.image", "", "decode_jpeg", "decode"),
    ("torchvision.io", "", "read_file", "read"),
    ("torchvision.io", "", "decode_image", "decode"),
    ("torchvision.io", "", "decode_jpeg", "decode"),
    ("cv2", "", "imread", "decode"),
    ("cv2", "", "imdecode", "decode"),
)
# fastpipe's own: where each is defined, "" or the class that has it, its name, its stage. Functions are
# observed under every name that fastpipe's modules have for them.
_OURS = (
    ("fastpipe.storage.image", "", "read", "read"),
    ("fastpipe.storage.image", "", "decode_rgb", "decode"),
    ("fastpipe.decode.pillow", "", "crop_and_resize", "crop+resize"),
    ("fastpipe.backends.ffcv.turbojpeg", "TurboDecoder", "decode", "decode"),
    ("fastpipe.backends.ffcv.native", "Native", "decode", "decode"),
    ("fastpipe.backends.ffcv.native", "Native", "resize", "crop+resize"),
)
ASSEMBLY = "batch assembly"
"""The cost of a lifted batch outside reading, decoding, cropping and resizing."""
_FETCHERS = (torch_fetch._MapDatasetFetcher, torch_fetch._IterableDatasetFetcher)


class StageHooks:
    """Installed once per process. A forked worker inherits them and gives them its own recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._patches = Patches()
        self._decoders: set[tuple[str, str, str]] = set()
        self._num_modules = 0
        for cls in _FETCHERS:
            self._patches.set(cls, "fetch", self._observed_fetch(cls.fetch))

    def undo(self) -> None:
        """Take every hook out of this process."""
        self._patches.undo()

    def _observed_fetch(self, original: Any) -> Any:
        def fetch(fetcher: Any, possibly_batched_index: Any) -> Any:
            recorder = self.recorder
            if not recorder.wants():
                return original(fetcher, possibly_batched_index)
            loader = self._attach(fetcher)
            index = possibly_batched_index
            return recorder.observe(
                lambda: original(fetcher, index),
                loader=loader,
                root=ASSEMBLY if _is_lifted(fetcher.dataset) else "dataset",
                count=lambda data: size_of(data, index, batched=fetcher.auto_collation),
            )

        return fetch

    def _attach(self, fetcher: Any) -> int:
        """Observe the collate function and transforms of a fetcher, which is torch's own and short-lived."""
        loader = int(vars(fetcher).setdefault("_fastpipe_loader", self.recorder.loader))
        self.hook_decoders()
        if vars(fetcher).setdefault("_fastpipe_observed", False):
            return loader
        fetcher._fastpipe_observed = True
        work = _keyed_work(fetcher.dataset)
        if work is not None:
            self._patches.set(work, "collate_fn", timed("collate", raw(work.collate_fn)))
        elif not _is_lifted(fetcher.dataset):
            fetcher.collate_fn = timed("collate", _counting(fetcher.collate_fn, fetcher.auto_collation))
        for transform in transforms_of(fetcher.dataset):
            self._hook_class(type(transform))
        return loader

    def _hook_class(self, cls: type) -> None:
        call = getattr(cls, "__call__", None)  # noqa: B004 - the function is wanted
        own = vars(cls).get("__call__")
        if call is None or raw(own) is not own:
            return
        self._patches.set(cls, "__call__", timed(f"transform:{cls.__name__}", raw(call)))

    def hook_decoders(self) -> None:
        """Observe the decoders among the modules that the script has imported by now."""
        image = sys.modules.get("PIL.Image")
        if image is not None:
            image.preinit()  # what its first `open` does; it has the usual formats loaded
        for module_name, owner_name, name, stage in _DECODERS:
            module = sys.modules.get(module_name)
            key = (module_name, owner_name, name)
            if module is None or key in self._decoders:
                continue
            owner = getattr(module, owner_name) if owner_name else module
            self._decoders.add(key)
            original = getattr(owner, name, None)
            if original is None or raw(original) is not original:
                continue
            observed = timed(stage, original)
            self._patches.set(owner, name, _loading(original, observed) if name == "load" else observed)
        if len(sys.modules) != self._num_modules:
            self._num_modules = len(sys.modules)
            self._hook_ours()

    def _hook_ours(self) -> None:
        """Observe fastpipe's own stages, of the backends that have been imported by now."""
        for module_name, owner_name, name, stage in _OURS:
            module = sys.modules.get(module_name)
            if module is None:
                continue
            if owner_name:
                owner = getattr(module, owner_name)
                if raw(getattr(owner, name)) is getattr(owner, name):
                    self._patches.set(owner, name, timed(stage, getattr(owner, name)))
                continue
            original = raw(getattr(module, name))
            for holder in [part for key, part in list(sys.modules.items()) if key.startswith("fastpipe.")]:
                for alias, value in list(vars(holder).items()):
                    if value is original and not holder.__name__.startswith("fastpipe.profiling"):
                        self._patches.set(holder, alias, timed(stage, original))

    def hook_pickling(self) -> None:
        """Observe the feeder thread of a worker's queue; only in workers, which have one queue."""
        from multiprocessing import queues

        module: Any = queues
        pickler = module._ForkingPickler

        def dumps(obj: Any, protocol: int | None = None) -> Any:
            if self.recorder.over:
                return pickler.dumps(obj, protocol)
            cpu, start = time.thread_time_ns(), time.perf_counter_ns()
            packed = pickler.dumps(obj, protocol)
            wall = time.perf_counter_ns() - start
            self.recorder.writer.pickle(start, wall, time.thread_time_ns() - cpu)
            return packed

        self._patches.set(
            module,
            "_ForkingPickler",
            SimpleNamespace(dumps=dumps, loads=pickler.loads, register=pickler.register),
        )


def _work(dataset: Any) -> Any:
    """The work of fastpipe's code for a request in torch's workers; None for any other data set."""
    parts = [dataset, *getattr(dataset, "__dict__", {}).values()]
    return next((part for part in parts if isinstance(part, FolderWork | KeyedWork)), None)


def _is_lifted(dataset: Any) -> bool:
    return isinstance(_work(dataset), FolderWork)


def _keyed_work(dataset: Any) -> Any:
    work = _work(dataset)
    return work if isinstance(work, KeyedWork) else None


def size_of(data: Any, index: Any, *, batched: bool) -> int:
    """The number of samples in a batch: by fastpipe's own count, the request, or torch's list of ids."""
    if isinstance(data, HostBatch):
        return len(data.images)
    if isinstance(index, Request):
        return len(index.ids)
    return len(index) if batched and isinstance(index, Sized) else 1


def _loading(original: Any, observed: Any) -> Any:
    """`ImageFile.load` is called before every operation on an image, and does nothing after the first."""

    def load(image: Any) -> Any:
        return observed(image) if image.tile else original(image)

    load._fastpipe_original = original  # type: ignore[attr-defined]
    return load


def _counting(collate: Any, batched: bool) -> Any:
    """The collate function; a batch of an IterableDataset has as many samples as the function gets."""

    def counted(data: Any) -> Any:
        if batched and isinstance(data, Sized):
            count_samples(len(data))
        return collate(data)

    return counted
