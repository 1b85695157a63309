"""Operations other than tables and warps: color, sharpness, mirror, copy, paint. numba, CPU.

Images are flat: uint8 [H*W*3], RGB interleaved.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastpipe.kernels import rules
from fastpipe.kernels.compiled import apart, inlined, inner

Bytes = npt.NDArray[np.uint8]

_gray = inlined(rules.gray)
_blend = inlined(rules.blend)
_smooth = inlined(rules.smooth)


@inner
def copy_bytes(source: Bytes, target: Bytes) -> None:
    """Copy. A slice assignment would be 15 times slower (not vectorised) and compile a second longer."""
    for i in range(source.size):
        target[i] = source[i]


@inner
def paint(target: Bytes, first: int, count: int, fill: Bytes) -> None:
    """Fill `count` pixels from byte `first` on."""
    red, green, blue = fill[0], fill[1], fill[2]
    for x in range(count):
        p = np.uint32(first + 3 * x)
        target[p] = red
        target[p + 1] = green
        target[p + 2] = blue


@apart
def mirror(source: Bytes, target: Bytes, height: int, width: int) -> None:
    """Write `source` with left and right swapped. `target` may be `source`."""
    for y in range(height):
        row = width * y
        for x in range((width + 1) // 2):
            p, q = np.uint32(3 * (row + width - 1 - x)), np.uint32(3 * (row + x))
            for c in range(3):
                kept = source[q + c]
                target[q + c] = source[p + c]
                target[p + c] = kept


@apart
def color(source: Bytes, target: Bytes, factor: np.float32) -> None:
    """Blend each pixel with its own gray. `target` may be `source`."""
    # Written so that LLVM vectorises it: 1.5 ns a pixel; with range(0, size, 3) it takes 16.
    for pixel in range(source.size // 3):
        p = np.uint32(3 * pixel)
        red, green, blue = source[p], source[p + 1], source[p + 2]
        gray = np.float32(_gray(np.int32(red), np.int32(green), np.int32(blue)))
        target[p] = _blend(gray, np.float32(red), factor)
        target[p + 1] = _blend(gray, np.float32(green), factor)
        target[p + 2] = _blend(gray, np.float32(blue), factor)


@inner
def sharpness(source: Bytes, target: Bytes, height: int, width: int, factor: np.float32) -> None:
    """Blend with the 3x3 SMOOTH filter; the 1-pixel border is copied. `target` must not be `source`."""
    stride = 3 * width
    for y in range(height):
        here = source[stride * y : stride * (y + 1)]
        out = target[stride * y : stride * (y + 1)]
        if y in (0, height - 1) or width < 3:
            copy_bytes(here, out)
            continue
        above = source[stride * (y - 1) : stride * y]
        below = source[stride * (y + 1) : stride * (y + 2)]
        for c in range(3):
            out[c] = here[c]
            out[stride - 3 + c] = here[stride - 3 + c]
        _sharpen_row(above, here, below, out, factor)


@inner
def _sharpen_row(above: Bytes, here: Bytes, below: Bytes, out: Bytes, factor: np.float32) -> None:
    # Counting from 0 and no inner loop, so that LLVM vectorises it: 1.9 ns a pixel compared with 13.
    for i in range(here.size - 6):
        centre = np.int32(here[i + 3])
        total = np.int32(above[i]) + np.int32(above[i + 3]) + np.int32(above[i + 6])
        total += np.int32(here[i]) + 5 * centre + np.int32(here[i + 6])
        total += np.int32(below[i]) + np.int32(below[i + 3]) + np.int32(below[i + 6])
        out[i + 3] = _blend(_smooth(np.float32(np.int32(total))), np.float32(centre), factor)
