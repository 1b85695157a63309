"""The DALI graph: encoded bytes and boxes in, uint8 images out. Only this module imports nvidia.dali,
but for the copy of a GPU's batch in `finish.py`.

Written for DALI 2.4, with nothing that 1.50 lacks. Only numpy arrays are fed: torch tensors make DALI look
for a CUDA driver.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from fastpipe.errors import BackendError, MissingExtraError

__all__ = ["Graph", "Runner", "load_dali"]

Inputs = tuple[Any, ...]

# Pipelines with threads in this process, and those kept across a fork.
_live: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_held: Final[list[list[Any]]] = []


def _hold() -> None:
    """Keep the pipelines from being collected. DALI's `__del__` would wait in the forked process for threads
    that do not exist there, and the collector may call it before any other code can take a reference."""
    _held.append(list(_live))


def _disown() -> None:
    """Keep their engines alive in the forked process: DALI's exit function would wait as well."""
    for pipeline in _live:
        engine, pipeline._pipe = getattr(pipeline, "_pipe", None), None
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    _live.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_held.pop, after_in_child=_disown)


def load_dali() -> Any:
    """The module nvidia.dali. MissingExtraError without it, BackendError if it cannot be loaded."""
    try:
        import nvidia.dali
        import nvidia.dali.fn
        import nvidia.dali.types
    except ModuleNotFoundError as error:
        raise MissingExtraError("nvidia-dali-cuda130", "dali", 'backend="dali"') from error
    except (ImportError, OSError) as error:
        raise BackendError(f"nvidia.dali is installed but cannot be loaded: {error}") from error
    return nvidia.dali


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Which steps run inside DALI after the decoding of a box.

    resize: antialiased bilinear resize to each image's own size. cut: then a crop; pixels from outside
    the image are black. mixed: on the GPU `device`, where the images stay: "region" decodes only the box,
    "whole" decodes the frame and takes the box from it.
    """

    resize: bool = False
    cut: bool = False
    mixed: Literal["", "region", "whole"] = ""
    device: int = 0

    @property
    def num_inputs(self) -> int:
        """Bytes, start and shape of the box; then the size; then start and shape of the crop."""
        return 3 + self.resize + 2 * self.cut


class Runner:
    """One pipeline that takes its batches from `provide` and can be run until it is broken.

    provide: called for each batch, up to `depth` ahead; returns the graph's inputs, or raises StopIteration.
    Each input is a list of arrays (the bytes) or an array [B, 2]: height first.
    A failed run makes the pipeline unusable: make a new Runner.
    """

    def __init__(self, graph: Graph, *, batch_size: int, threads: int, depth: int) -> None:
        self.graph = graph
        self.batch_size = batch_size
        self.provide: Callable[[], Inputs] | None = None
        self._pid = os.getpid()
        self._pipeline = _build(graph, _Feed(self), batch_size=batch_size, threads=threads, depth=depth)

    @property
    def usable(self) -> bool:
        """False in a process forked after this was made."""
        return self._pid == os.getpid()

    def submit(self) -> None:
        """Start runs until `depth` are in flight; does nothing after `provide` has ended."""
        self._pipeline.schedule_run()

    def result(self) -> Any:
        """The images of the oldest run, a TensorList that the caller owns. RuntimeError if the run failed."""
        (images,) = self._pipeline.share_outputs()
        self._pipeline.release_outputs()  # with the dynamic executor the buffers outlive this
        return images

    def rewind(self) -> None:
        """Prepare it for another epoch, after `provide` has ended and every result was taken."""
        self.provide = None
        self.reset()

    def reset(self) -> None:
        """Continue after `provide` has ended, once every result was taken."""
        self._pipeline.reset()


class _Feed:
    """The callable for DALI. It does not keep the runner alive: threads would wait for the collector."""

    def __init__(self, runner: Runner) -> None:
        self._runner = weakref.ref(runner)

    def __call__(self) -> Inputs:
        runner = self._runner()
        if runner is None or runner.provide is None:
            raise StopIteration
        return runner.provide()


def _build(graph: Graph, feed: _Feed, *, batch_size: int, threads: int, depth: int) -> Any:
    """The built pipeline. BackendError if DALI refuses, for example a GPU that does not exist."""
    dali = load_dali()
    try:
        return _built(dali, graph, feed, batch_size, threads, depth)
    except RuntimeError as error:
        raise BackendError(f"DALI cannot build its pipeline ({graph}): {error}") from error


def _built(dali: Any, graph: Graph, feed: _Feed, batch_size: int, threads: int, depth: int) -> Any:
    pipeline = dali.Pipeline(
        batch_size=batch_size,
        num_threads=threads,
        device_id=graph.device if graph.mixed else None,
        seed=0,  # nothing here is random
        prefetch_queue_depth=depth,
        exec_dynamic=True,  # the default since 1.51: outputs have their own buffers
    )
    _live.add(pipeline)
    with pipeline:
        inputs = dali.fn.external_source(source=feed, num_outputs=graph.num_inputs, batch=True)
        images = _images(dali, graph, inputs)
        pipeline.set_outputs(images)
    pipeline.build()
    return pipeline


def _images(dali: Any, graph: Graph, inputs: Any) -> Any:
    data, start, shape, *rest = inputs
    options = {
        "device": "mixed" if graph.mixed else "cpu",
        "output_type": dali.types.RGB,
        "adjust_orientation": False,  # Pillow and torchvision do not rotate by EXIF either
        "use_fast_idct": False,  # the fast one is up to 17 levels off
    }
    if graph.mixed:
        options["jpeg_fancy_upsampling"] = True  # as libjpeg-turbo and so Pillow do
    box = {"start": start, "shape": shape, "axes": [0, 1]}
    if graph.mixed == "whole":
        images = dali.fn.slice(dali.fn.decoders.image(data, **options), **box)
    else:
        images = dali.fn.decoders.image_slice(data, **box, **options)
    if graph.resize:
        images = dali.fn.resize(
            images,
            size=rest[0],
            interp_type=dali.types.INTERP_LINEAR,
            antialias=True,
            subpixel_scale=False,  # True shifts by up to half a pixel: 33 levels off Pillow
        )
    if graph.cut:
        images = dali.fn.slice(
            images,
            start=rest[1],
            shape=rest[2],
            axes=[0, 1],
            out_of_bounds_policy="pad",
            fill_values=0,
        )
    return images
