"""The door to `fastpipe._turbo`: only this module imports it. Sources: fastpipe/decode/native."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import PIL
from PIL import Image, JpegImagePlugin

from fastpipe.errors import BackendError
from fastpipe.transforms import RandomResizedCrop, ResizeCrop
from fastpipe.types import Availability, Spec

if TYPE_CHECKING:
    from types import ModuleType

    from fastpipe._turbo import Step, Worker

_INSTALL: Final = (
    "install a C++ compiler (apt-get install g++ python3-dev), then fastpipe again: "
    "pip install --force-reinstall --no-deps, from where it came"
)
_PREFIX: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01"
# Pillow 13.0 resizes the height first where it shrinks most; the order changes single levels.
_TALL_ROWS_FIRST: Final = int(PIL.__version__.partition(".")[0]) >= 13
_INTERFACE: Final = 1  # of the native functions, as module.cpp has it
_NO_LIMIT: Final = 1 << 40  # pixels: a JPEG has at most 2^32


@lru_cache(maxsize=1)
def open_native() -> ModuleType:
    """The module. BackendError if it was not built or does not load."""
    try:
        import fastpipe._turbo as native
    except ImportError as error:
        reason = "was not built: this installation had no working C++ compiler"
        if not isinstance(error, ModuleNotFoundError):
            reason = f"does not load: {error}"
        raise BackendError(f"the module fastpipe._turbo {reason}") from error
    if getattr(native, "INTERFACE", 0) != _INTERFACE:
        raise BackendError("the module fastpipe._turbo was built from other sources than these")
    return native


def availability() -> Availability:
    """Whether the module is here and loads. Never raises."""
    try:
        open_native()
    except BackendError as error:
        return Availability(ok=False, reason=str(error), remedy=_INSTALL)
    return Availability(ok=True, reason="our own JPEG decoder, in threads of this process")


def new_worker() -> Worker:
    """A decoder and a resize with memory of their own, for one thread."""
    worker: Worker = open_native().Worker()
    return worker


def step_of(spec: Spec | None) -> Step | None:
    """The native form of a decode step; None for numbers beyond its range, which Pillow then handles."""
    make = open_native().Step
    try:
        if spec is None:
            step: Step = make("whole")
        elif isinstance(spec, RandomResizedCrop):
            step = make(
                "resized_crop",
                size=spec.size,
                scale=spec.scale,
                ratio=spec.ratio,
                interpolation=spec.interpolation,
                tall_rows_first=_TALL_ROWS_FIRST,
            )
        elif isinstance(spec, ResizeCrop):
            step = make(
                "resize_crop",
                resize=spec.resize,
                crop=spec.crop,
                where=spec.where,
                padding=spec.padding,
                interpolation=spec.interpolation,
                tall_rows_first=_TALL_ROWS_FIRST,
            )
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return step


def most_pixels() -> int:
    """The pixels of the largest image that Pillow opens without a warning; the script may change it."""
    most = Image.MAX_IMAGE_PIXELS
    return _NO_LIMIT if most is None else int(min(most, _NO_LIMIT))


def pillow_decides() -> bool:
    """Whether the script gave Pillow another reader for JPEGs, whose pixels nobody else has."""
    Image.preinit()
    for name in Image.ID:
        factory, accept = Image.OPEN[name]
        if name == "JPEG":
            return factory is not JpegImagePlugin.jpeg_factory
        if accept is None or accept(_PREFIX):
            return True
    return True
