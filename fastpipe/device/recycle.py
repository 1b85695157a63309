"""Reuses the memory of released batches for the next ones.

A batch of 150 MB from torch.empty is new memory every time: its page faults cost 7 ns a pixel, more than all
the augmentation (on a virtual machine, 4 KiB pages). numpy asks for huge pages, and is called rarely here.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import numpy.typing as npt
import torch

_Memory = npt.NDArray[np.uint8]
_ALIGNMENT = 64  # torch's own
# malloc itself recycles smaller allocations.
_SMALLEST = 1 << 20
# One with the consumer and one under construction: at most two return before one is needed.
_KEPT = 2


class Recycler:
    """Hands out uninitialised tensors on the CPU; memory returns when the last view of its storage is gone.

    It keeps at most two free pieces, both of the size last asked for, and dies with its owner; what was
    handed out stays valid. The storage belongs to numpy, so a tensor from here cannot grow by `resize_`.
    """

    def __init__(self) -> None:
        self._free: deque[_Memory] = deque(maxlen=_KEPT)

    def empty(
        self, shape: tuple[int, int, int, int], dtype: torch.dtype, memory_format: torch.memory_format
    ) -> torch.Tensor:
        """As torch.empty. memory_format: contiguous or channels_last."""
        num, channels, height, width = shape
        size = num * channels * height * width * dtype.itemsize
        if size < _SMALLEST:
            return torch.empty(shape, dtype=dtype, memory_format=memory_format, device="cpu")
        memory = self._take(size)
        # The tensor holds `lease`, not `memory`: the lease ends with the storage.
        lease = memory[:]
        weakref.finalize(lease, self._free.append, memory).atexit = False
        flat = torch.from_numpy(lease).view(dtype)
        if memory_format == torch.channels_last:
            return flat.view(num, height, width, channels).permute(0, 3, 1, 2)
        return flat.view(shape)

    def _take(self, size: int) -> _Memory:
        while True:
            try:
                memory = self._free.pop()
            except IndexError:
                break
            if memory.size == size:
                return memory
        room = np.empty(size + _ALIGNMENT, np.uint8)
        start = -room.ctypes.data % _ALIGNMENT
        return room[start : start + size]
