"""Photometric images on CUDA: flip, a table of levels, the output's value of each level, and the layout.

The packed kernels are the hot path: words in, packed words out, both tables as one in shared memory. They
need a width that is a multiple of 4. `table_plain` takes any.

images: uint8 NHWC, also as uint32 words. tables: uint8 [B, 768]. norm: the bits of the output's value of
each level [768]. which: the images to do. whole: int32 [B, WHOLE_ROW].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda  # noqa: TID253

from fastpipe.kernels.cuda.device import STORES, mirrored, on_device, pixel_offset
from fastpipe.kernels.cuda.layout import FLIP, WHOLE_ROW

_BYTE = np.uint32(255)


@on_device
def _load_tables(shared: Any, tables: Any, norm: Any, place: Any) -> None:
    """Compose both tables in shared memory, once per block."""
    k = np.uint32(cuda.threadIdx.x)
    while k < np.uint32(768):
        channel = np.uint32(k & np.uint32(0x300))
        level = np.uint32(tables[np.uint32(place * np.uint32(768) + k)])
        shared[k] = np.uint32(norm[np.uint32(channel + level)])
        k = np.uint32(k + np.uint32(cuda.blockDim.x))
    cuda.syncthreads()


@on_device
def _after(channel: Any) -> Any:
    """The table of the next channel: 0, 256, 512, 0."""
    return np.uint32(channel + np.uint32(256)) if channel < np.uint32(512) else np.uint32(0)


@on_device
def _next_mirrored(source: Any, channel: Any) -> Any:
    """Where the element after this one comes from in a mirrored row: the pixels run backwards."""
    return np.uint32(source + np.uint32(1)) if channel < np.uint32(512) else np.uint32(source - np.uint32(5))


def packed_nhwc(bits: int) -> Callable[..., None]:
    """The kernel that writes channels_last memory, a word of four elements per thread and turn."""
    store = STORES[bits]

    def table_packed_nhwc(
        images: Any,
        words: Any,
        tables: Any,
        norm: Any,
        which: Any,
        whole: Any,
        out: Any,
        height: Any,
        width: Any,
    ) -> None:
        shared = cuda.shared.array(768, np.uint32)
        place = np.uint32(which[np.uint32(cuda.blockIdx.y)])
        _load_tables(shared, tables, norm, place)
        flip = whole[np.uint32(place * np.uint32(WHOLE_ROW) + np.uint32(FLIP))]
        row_words = np.uint32(np.uint32(3) * width >> np.uint32(2))
        count = np.uint32(row_words * height)
        i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        while i < count:
            # Four elements a word and three channels: word i begins with channel i mod 3.
            a = np.uint32(np.uint32(i % np.uint32(3)) << np.uint32(8))
            b = _after(a)
            c = _after(b)
            target = np.uint32(place * count + i)
            if flip == 0:
                word = words[target]
                r, g = np.uint32(word & _BYTE), np.uint32(word >> np.uint32(8) & _BYTE)
                s, t = np.uint32(word >> np.uint32(16) & _BYTE), np.uint32(word >> np.uint32(24))
            else:
                y = np.uint32(i // row_words)
                inside = np.uint32(np.uint32(i - y * row_words) << np.uint32(2))
                x = np.uint32(inside // np.uint32(3))
                p = pixel_offset(place, y, np.uint32(width - np.uint32(1) - x), height, width)
                p = np.uint32(p + (a >> np.uint32(8)))
                r = np.uint32(images[p])
                p = _next_mirrored(p, a)
                g = np.uint32(images[p])
                p = _next_mirrored(p, b)
                s = np.uint32(images[p])
                t = np.uint32(images[_next_mirrored(p, c)])
            store(
                out,
                target,
                shared[np.uint32(a + r)],
                shared[np.uint32(b + g)],
                shared[np.uint32(c + s)],
                shared[np.uint32(a + t)],
            )
            i = np.uint32(i + cuda.gridDim.x * cuda.blockDim.x)

    return table_packed_nhwc


@on_device
def _byte(word: Any, shift: Any) -> Any:
    return np.uint32(np.uint32(word >> np.uint32(shift)) & _BYTE)


def packed_nchw(bits: int) -> Callable[..., None]:
    """The kernel that writes contiguous planes, four pixels per thread and turn."""
    store = STORES[bits]

    @on_device
    def put(out: Any, target: Any, levels: Any, base: Any, flip: Any, a: Any, b: Any, c: Any, d: Any) -> None:
        first, second = levels[np.uint32(a + base)], levels[np.uint32(b + base)]
        third, fourth = levels[np.uint32(c + base)], levels[np.uint32(d + base)]
        if flip == 0:
            store(out, target, first, second, third, fourth)
        else:
            store(out, target, fourth, third, second, first)

    def table_packed_nchw(
        images: Any,
        words: Any,
        tables: Any,
        norm: Any,
        which: Any,
        whole: Any,
        out: Any,
        height: Any,
        width: Any,
    ) -> None:
        shared = cuda.shared.array(768, np.uint32)
        place = np.uint32(which[np.uint32(cuda.blockIdx.y)])
        _load_tables(shared, tables, norm, place)
        flip = whole[np.uint32(place * np.uint32(WHOLE_ROW) + np.uint32(FLIP))]
        quads = np.uint32(width >> np.uint32(2))
        count = np.uint32(quads * height)
        i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        while i < count:
            y = np.uint32(i // quads)
            x = mirrored(np.uint32(i - y * quads), quads, flip)
            first = np.uint32(np.uint32(3) * np.uint32(place * count + y * quads + x))
            begin = np.int64(first)
            w0, w1, w2 = words[begin], words[begin + 1], words[begin + 2]
            target = np.uint32(np.uint32(3) * place * count + i)
            put(
                out,
                target,
                shared,
                np.uint32(0),
                flip,
                _byte(w0, 0),
                _byte(w0, 24),
                _byte(w1, 16),
                _byte(w2, 8),
            )
            target = np.uint32(target + count)
            put(
                out,
                target,
                shared,
                np.uint32(256),
                flip,
                _byte(w0, 8),
                _byte(w1, 0),
                _byte(w1, 24),
                _byte(w2, 16),
            )
            target = np.uint32(target + count)
            put(
                out,
                target,
                shared,
                np.uint32(512),
                flip,
                _byte(w0, 16),
                _byte(w1, 8),
                _byte(w2, 0),
                _byte(w2, 24),
            )
            i = np.uint32(i + cuda.gridDim.x * cuda.blockDim.x)

    return table_packed_nchw


def table_plain(
    images: Any,
    tables: Any,
    norm: Any,
    which: Any,
    whole: Any,
    out: Any,
    height: Any,
    width: Any,
    pixel_step: Any,
    channel_step: Any,
) -> None:
    """One pixel per thread, any size. Elements of a pixel lie `channel_step` apart, pixels `pixel_step`."""
    place = np.uint32(which[np.uint32(cuda.blockIdx.y)])
    i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < np.uint32(height * width):
        flip = whole[np.uint32(place * np.uint32(WHOLE_ROW) + np.uint32(FLIP))]
        y = np.uint32(i // width)
        x = mirrored(np.uint32(i - y * width), width, flip)
        source = pixel_offset(place, y, x, height, width)
        target = np.uint32(place * np.uint32(3) * height * width + i * pixel_step)
        for c in range(3):
            channel = np.uint32(np.uint32(c) << np.uint32(8))
            level = np.uint32(images[np.uint32(source + np.uint32(c))])
            level = np.uint32(tables[np.uint32(place * np.uint32(768) + channel + level)])
            out[np.uint32(target + np.uint32(c) * channel_step)] = norm[np.uint32(channel + level)]
