"""Which errors mean a broken file, and which mean a bug in the script.

Decoders raise different errors for bytes they cannot read: Pillow's plug-ins raise RuntimeError
(AVIF), NotImplementedError (DDS), struct.error, EOFError and their own classes (BLP), torchvision.io
RuntimeError. So the place where an error was raised decides, not its class.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Final

import torch
from PIL import Image, ImageFile

from fastpipe.errors import SampleError

__all__ = ["decoding", "described", "is_broken_file"]

# These write an image; everything else in a Pillow plug-in reads one.
_WRITERS: Final = frozenset({"save", "_save", "_save_all", "_encode", "_encode_tile"})


@contextmanager
def decoding(broken: Callable[[Exception], SampleError]) -> Iterator[None]:
    """Wraps only a call of a decoder: an error that it raises for the bytes becomes `broken(error)`.

    MemoryError, a warning that the script turned into an error, and errors of a signal handler pass through.
    """
    try:
        yield
    except SampleError:
        raise
    except Exception as error:
        if _never_the_file(error, [frame for frame, _ in traceback.walk_tb(error.__traceback__)]):
            raise
        raise broken(error) from error


def is_broken_file(error: Exception) -> bool:
    """Whether the script's code (a data set, a `loader`) failed because of a file, not of its own bug.

    True for every OSError, and for errors that Pillow or torchvision.io raise while they open or decode.
    """
    if isinstance(error, SampleError | OSError | Image.DecompressionBombError):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if _never_the_file(error, frames):
        return False
    while frames and _module(frames[-1]).partition(".")[0] in sys.stdlib_module_names:
        frames.pop()  # struct, zlib and io raise for their caller
    return _in_pillows_decoders(frames) or _in_torchvision_io(frames)


def described(error: Exception) -> str:
    """An error's message on one line, with its class unless it is an OSError or ValueError with a message."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError | ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _never_the_file(error: Exception, frames: list[FrameType]) -> bool:
    if isinstance(error, MemoryError | Warning):
        return True
    # A handler runs between any two lines of Python, even in a decoder: a time limit, torch's dead worker.
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame in frames)


def _code(handler: object) -> CodeType | None:
    function = getattr(handler, "__func__", handler)
    found = getattr(function, "__code__", None)
    return found if isinstance(found, CodeType) else None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _in_pillows_decoders(frames: list[FrameType]) -> bool:
    """Whether Pillow or a plug-in raised it while reading an image, not for an argument."""
    plugins = {factory.__module__ for factory, _ in Image.OPEN.values()}
    tops = {"PIL", *(name.partition(".")[0] for name in plugins)} - {"__main__"}
    inside: list[FrameType] = []
    for frame in reversed(frames):
        if _module(frame).partition(".")[0] not in tops:
            break
        inside.append(frame)
    names = [_module(frame).partition(".")[0] for frame in inside]
    if "PIL" not in names or any(frame.f_code.co_name in _WRITERS for frame in inside):
        return False
    if inside and inside[0].f_code.co_name == "convert":  # a mode that a file came in
        return isinstance(inside[0].f_locals.get("self"), ImageFile.ImageFile) and _sound_mode(inside[0])
    return any(_module(frame) in {*plugins, "PIL.ImageFile"} for frame in inside)


def _sound_mode(frame: FrameType) -> bool:
    return frame.f_locals.get("mode") in Image.MODES


def _in_torchvision_io(frames: list[FrameType]) -> bool:
    """Whether an operator of torchvision.io raised it for bytes or a path, not for another argument."""
    if len(frames) < 2 or _module(frames[-1]) != "torch._ops":
        return False
    if not _module(frames[-2]).startswith("torchvision.io"):
        return False
    data = frames[-2].f_locals.get("input")
    return not isinstance(data, torch.Tensor) or (data.dtype == torch.uint8 and data.ndim == 1)
