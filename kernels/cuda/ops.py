"""The CUDA kernels as torch operations, so that torch.compile and torch.export see them.

    fastpipe::fused(images, numbers, norm, header, channels_last) -> [B,3,H,W]
    fastpipe::erase_boxes_(out, boxes, values, largest)

Both launch on torch's current stream. Buffers are torch's: the allocator reuses memory in the order of the
stream it was made on, and is told of every buffer (record_stream) that a kernel on another stream reads it.
Importing this needs neither numba-cuda nor a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from fastpipe.kernels.cuda.cache import ptx_files
from fastpipe.kernels.cuda.driver import Driver
from fastpipe.kernels.cuda.layout import STATISTICS_PARTS
from fastpipe.kernels.cuda.plan import PATHS, check_elements
from fastpipe.kernels.cuda.schedule import Launch, kernel_names, schedule, schedule_erase

__all__ = ["erase_boxes", "fused", "load_kernels"]

BITS = {torch.uint8: 8, torch.float16: 16, torch.bfloat16: 16, torch.float32: 32}

LIBRARY: Any = torch.library.Library("fastpipe", "FRAGMENT")  # type: ignore[no-untyped-call]
LIBRARY.define(
    "fused(Tensor images, Tensor numbers, Tensor norm, int[] header, bool channels_last) -> Tensor"
)
LIBRARY.define("erase_boxes_(Tensor(a!) out, Tensor boxes, Tensor values, int largest) -> ()")


def fused(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    header: Sequence[int],
    channels_last: bool,
) -> torch.Tensor:
    """The operations of a plan, flip, table and layout: a new [B,3,H,W] tensor of norm's dtype.

    images: uint8 [B,H,W,3], contiguous. numbers, header: a `CudaPlan`, numbers on the device. norm: [768],
    the value of each level per channel. All on one CUDA device.
    """
    result: torch.Tensor = torch.ops.fastpipe.fused(images, numbers, norm, list(header), channels_last)
    return result


def erase_boxes(out: torch.Tensor, boxes: torch.Tensor, values: torch.Tensor, largest: int) -> None:
    """Fill rectangles of `out` in place. boxes: int32 [K, 5], image, top, left, height, width.

    values: [3] of out's dtype. largest: pixels of the largest box.
    """
    torch.ops.fastpipe.erase_boxes_(out, boxes, values, largest)


def _empty(images: torch.Tensor, norm: torch.Tensor, channels_last: bool) -> torch.Tensor:
    num, height, width, _ = images.shape
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((num, 3, height, width), dtype=norm.dtype, device=images.device, memory_format=layout)


def _fused_fake(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    header: Sequence[int],
    channels_last: bool,
) -> torch.Tensor:
    return _empty(images, norm, channels_last)


def _erase_fake(out: torch.Tensor, boxes: torch.Tensor, values: torch.Tensor, largest: int) -> None:
    """Nothing: the shape stays."""


def _fused_cuda(
    images: torch.Tensor,
    numbers: torch.Tensor,
    norm: torch.Tensor,
    header: Sequence[int],
    channels_last: bool,
) -> torch.Tensor:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 [B, H, W, 3]. Found: {images.dtype} {list(images.shape)}")
    if not images.is_contiguous() or norm.dtype not in BITS or norm.shape != (768,):
        raise ValueError(f"images must be contiguous, norm [768]. Found: {images.stride()}, {norm.shape}")
    check_elements(images.shape)
    _, height, width, _ = images.shape
    with torch.cuda.device(images.device):
        out = _empty(images, norm, channels_last)
        buffers = {"images": images, "numbers": numbers, "norm": norm, "out": out}
        buffers |= {"reals": numbers, "matrices": numbers.view(torch.float64), **_scratch(images, header)}
        launches = schedule(
            header,
            height,
            width,
            bits=BITS[norm.dtype],
            channels_last=channels_last,
            aligned=images.data_ptr() % 4 == 0,
        )
        run_launches(launches, buffers, images.device, tuple(kernel_names(BITS[norm.dtype])))
    return out


def _scratch(images: torch.Tensor, header: Sequence[int]) -> dict[str, torch.Tensor]:
    """The buffers of this batch alone: tables, counts, and the images between two operations."""
    num, depth = header[0], header[1]
    device = images.device
    slots = max(header[6 + 2 * len(PATHS) * level] for level in range(depth))
    return {
        "levels": _identity_levels(device),
        "tables": torch.empty(num * 768, dtype=torch.uint8, device=device),
        "counts": torch.empty(slots * STATISTICS_PARTS * 768, dtype=torch.int32, device=device),
        **{f"scratch{i}": torch.empty_like(images) for i in range(min(depth - 1, 2))},
    }


@cache
def _identity_levels(device: torch.device) -> torch.Tensor:
    levels = torch.arange(256, dtype=torch.uint8, device=device).repeat(3)
    # Kept for every stream, so it must be ready before another one reads it. Only the stream is waited for:
    # waiting for the whole device fails while any thread captures a CUDA graph.
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return levels


def _erase_cuda(out: torch.Tensor, boxes: torch.Tensor, values: torch.Tensor, largest: int) -> None:
    check_elements((*out.shape[:1], *out.shape[2:], 3), "out")
    if len(boxes) > len(out):
        raise ValueError(f"boxes must be one for each of {len(out)} images at most. Found: {len(boxes)}")
    channels_last = not out.is_contiguous()
    launch = schedule_erase(
        len(boxes),
        largest,
        out.shape[2],
        out.shape[3],
        bits=BITS[out.dtype],
        channels_last=channels_last,
    )
    with torch.cuda.device(out.device):
        buffers = {"boxes": boxes, "values": values, "out": out}
        run_launches([launch], buffers, out.device, tuple(kernel_names(BITS[out.dtype])))


def run_launches(
    launches: Iterable[Launch],
    buffers: Mapping[str, torch.Tensor],
    device: torch.device,
    kernels: tuple[str, ...],
) -> None:
    """Launch on torch's current stream. kernels: the names of all that may be among the launches.

    A buffer from another stream belongs to the kernels until they are done: record_stream does nothing on the
    buffer's own stream, and on another it keeps the allocator from reusing the memory.
    """
    driver = Driver.shared()
    index = device.index
    driver.enter(index)
    _load_kernels(index, kernels)
    current = torch.cuda.current_stream(device)
    for buffer in buffers.values():
        buffer.record_stream(current)
    stream = current.cuda_stream
    bases = _Bases({name: (buffer.data_ptr(), buffer.element_size()) for name, buffer in buffers.items()})
    for launch in launches:
        arguments = [
            argument if isinstance(argument, int) else bases.address(*argument)
            for argument in launch.arguments
        ]
        driver.launch(index, launch.kernel, launch.grid, launch.block, stream, arguments)


class _Bases(dict[str, tuple[int, int]]):
    """Where each buffer begins and how many bytes an element has; `x:words` is x in another form."""

    def __missing__(self, name: str) -> tuple[int, int]:
        plain, form, _ = name.partition(":")
        if not form:
            raise KeyError(name)
        found = self[name] = self[plain]
        return found

    def address(self, name: str, element: int) -> int:
        """The address of an element of a buffer."""
        base, size = self[name]
        return base + element * size


def load_kernels(device: torch.device) -> None:
    """Compile, or find on disk, the kernels for a device, and load those that every batch may need.

    Raises DriverError if the driver does not accept them, RuntimeError if compiling fails.
    """
    Driver.shared().enter(device.index)
    _load_kernels(device.index, tuple(kernel_names(8)))


@cache
def _load_kernels(device: int, names: tuple[str, ...]) -> None:
    """Compile, or find on disk, and load these kernels; once per device."""
    for name, ptx in ptx_files(torch.cuda.get_device_capability(device), names).items():
        Driver.shared().load(device, name, ptx)


LIBRARY.impl("fused", _fused_cuda, "CUDA")
LIBRARY.impl("erase_boxes_", _erase_cuda, "CUDA")
torch.library.register_fake("fastpipe::fused", _fused_fake, lib=LIBRARY)
torch.library.register_fake("fastpipe::erase_boxes_", _erase_fake, lib=LIBRARY)
