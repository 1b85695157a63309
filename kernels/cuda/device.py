"""The access to numba on CUDA: rules compiled as device functions, and stores of four elements at once.

Every `cuda_*` kernel module imports numba-cuda at its top, so only the compiler imports them
(`cuda/compile.py`, in a separate process). Casts are numpy's, so that tests can compile the same source for
the CPU. numba widens 32-bit sums to 64 bits; a cast around the whole sum lets LLVM narrow it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import cuda  # noqa: TID253

from fastpipe.kernels import rules

_Device = Callable[..., Any]


def on_device(function: _Device) -> _Device:
    """`function` as a CUDA device function, without fastmath."""
    return cast(_Device, cuda.jit(device=True, fastmath=False)(function))


affine_coordinate = on_device(rules.affine_coordinate)
blend = on_device(rules.blend)
gray = on_device(rules.gray)
lerp = on_device(rules.lerp)
smooth = on_device(rules.smooth)


TWO_52 = 4503599627370496.0
_BITS_OF_TWO_52 = np.uint64(0x4330000000000000)


@on_device
def lifted(level: Any) -> Any:
    """2^52 + level, exactly: its last place is 1. A conversion to float64 takes 4 times as long."""
    return np.uint64(_BITS_OF_TWO_52 | np.uint64(level)).view(np.float64)


@on_device
def mirrored(x: Any, width: Any, flip: Any) -> Any:
    """The column that holds column `x` of the flipped picture."""
    return np.uint32(width - np.uint32(1) - x) if flip != 0 else np.uint32(x)


@on_device
def pixel_offset(place: Any, y: Any, x: Any, height: Any, width: Any) -> Any:
    """The first element of a pixel in NHWC memory."""
    return np.uint32(np.uint32(3) * np.uint32(np.uint32(place * height + y) * width + x))


@on_device
def put(norm: Any, out: Any, target: Any, channel_step: Any, red: Any, green: Any, blue: Any) -> None:
    """Write the values of a pixel's three levels at `target` and the two places after it."""
    out[target] = norm[np.int64(np.uint32(red))]
    target = np.uint32(target + channel_step)
    out[target] = norm[np.int64(np.uint32(green)) + 256]
    target = np.uint32(target + channel_step)
    out[target] = norm[np.int64(np.uint32(blue)) + 512]


@on_device
def target_of(place: Any, y: Any, x: Any, height: Any, width: Any, pixel_step: Any) -> Any:
    """The first element of a pixel of the output."""
    pixel = np.uint32(y * width + x)
    return np.uint32(place * np.uint32(3) * height * width + pixel * pixel_step)


@on_device
def _store_8(out: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    low, high = np.uint32(a | (b << np.uint32(8))), np.uint32(c | (d << np.uint32(8)))
    out[index] = np.uint32(low | (high << np.uint32(16)))


@on_device
def _store_16(out: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    low, high = np.uint32(a | (b << np.uint32(16))), np.uint32(c | (d << np.uint32(16)))
    out[index] = np.uint64(low) | (np.uint64(high) << np.uint64(32))


@on_device
def _store_32(out: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    first = np.uint32(index << np.uint32(1))
    out[first] = np.uint64(a) | (np.uint64(b) << np.uint64(32))
    out[np.uint32(first + np.uint32(1))] = np.uint64(c) | (np.uint64(d) << np.uint64(32))


STORES = {8: _store_8, 16: _store_16, 32: _store_32}
"""By bits per element: put elements 4 * index .. 4 * index + 3. `out` is uint32 for 8 bits, else uint64."""
