"""Runs the operations of some images into scratch memory that stays in the processor's cache.

    images --augment_images--> State (work, tables, mirrors left) --finish_images, sum_images, ...--> out

A chunk of images is written out before the next begins. Each thread keeps its scratch memory: fresh memory
would cost more in page faults (0.6 ns a byte here) than an operation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.operations import CheckedOperations

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
State = tuple[Bytes, Numbers, Bytes, Numbers, Bytes, Bytes, Bytes]
"""images [B, H*W*3], ids [n], work, places, mirrored, tabled [n], tables [n, 768]: see cpu/augment.py."""

_CHUNK_BYTES = 2 << 20
_MOST_KEPT = 16 << 20


class _Scratch(threading.local):
    """Memory of one thread; buffers larger than _MOST_KEPT are not kept."""

    memory: Bytes = np.empty(0, np.uint8)

    def rows(self, num: int, length: int) -> Bytes:
        memory = self.memory
        if memory.size < num * length:
            memory = np.empty(num * length, np.uint8)
            if memory.size <= _MOST_KEPT:
                self.memory = memory
        return memory[: num * length].reshape(num, length)


_scratch = _Scratch()


def chunks(ids: Numbers, image_bytes: int) -> Iterator[Numbers]:
    """Parts of `ids` whose images take about 2 MB together."""
    length = max(1, _CHUNK_BYTES // image_bytes)
    for start in range(0, len(ids), length):
        yield ids[start : start + length]


def apply_chain(
    images: Bytes,
    ids: Numbers,
    flip: Bytes,
    operations: CheckedOperations,
    height: int,
    width: int,
    *,
    detach: bool = False,
) -> State:
    """The state after the operations of images `ids`, flipped first. Valid until this thread's next call."""
    from fastpipe.kernels.cpu.augment import augment_images

    num = len(ids)
    work = _scratch.rows(num + 1, images.shape[1])
    state = (
        images,
        ids,
        work,
        np.empty(num, np.int64),
        flip[ids],
        np.empty(num, np.uint8),
        np.empty((num, 768), np.uint8),
    )
    scratch = (
        np.empty(768, np.int64),
        np.empty(768, np.uint8),
        np.empty(width, np.int32),
        np.empty(2 * width, np.float64),
    )
    augment_images(*state, *operations, height, width, detach, *scratch)
    return state


def pending_flips(images: Bytes, ids: Numbers, flip: Bytes) -> State:
    """The state of images without operations."""
    num = len(ids)
    nothing = np.zeros((num, 768), np.uint8)
    return images, ids, images[:1], np.full(num, -1, np.int64), flip[ids], nothing[:, 0].copy(), nothing
