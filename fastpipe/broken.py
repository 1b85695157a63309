"""Which errors mean a broken file, and which a bug of the script.

Decoders do not agree on what they raise for bytes they cannot read: Pillow's plug-ins raise RuntimeError
(AVIF), NotImplementedError (DDS), struct.error, EOFError and classes of their own (BLP), torchvision.io
RuntimeError. So what counts is where an error was raised, not its class.
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

# Of an image on its way out; all else in a plug-in of Pillow reads one.
_WRITERS: Final = frozenset({"save", "_save", "_save_all", "_encode", "_encode_tile"})


@contextmanager
def decoding(broken: Callable[[Exception], SampleError]) -> Iterator[None]:
    """Around a call of a decoder and nothing else: what it raises for the bytes becomes `broken(error)`.

    MemoryError, a warning that the script has made an error, and what a signal's handler raises pass through.
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
    """Whether code of the script's (a data set, a `loader`) failed on a file, and not by a bug of its own.

    So it is with every OSError, and with what Pillow or torchvision.io raise while they open or decode.
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
    """What an error says, on one line; its class where it says nothing or has a class of its own."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError | ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _never_the_file(error: Exception, frames: list[FrameType]) -> bool:
    if isinstance(error, MemoryError | Warning):
        return True
    # A handler runs between any two lines of Python, also of a decoder: a time limit, torch's dead worker.
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame in frames)


def _code(handler: object) -> CodeType | None:
    function = getattr(handler, "__func__", handler)
    found = getattr(function, "__code__", None)
    return found if isinstance(found, CodeType) else None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _in_pillows_decoders(frames: list[FrameType]) -> bool:
    """Whether Pillow or a plug-in raised it while reading an image, rather than for an argument."""
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
