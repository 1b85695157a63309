"""Every CUDA kernel by name: its function and the types of its arguments.

name = <kernel>_<bits of an output element>, e.g. bilinear_16, or mixed_<dtype>
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba.cuda import types  # noqa: TID253

from fastpipe.kernels.cuda.finish import ROUNDINGS, mixed, picked, resize_columns, resize_rows
from fastpipe.kernels.cuda.pixels import blended, erase_box, warp_bilinear, warp_nearest
from fastpipe.kernels.cuda.points import packed_nchw, packed_nhwc, table_plain
from fastpipe.kernels.cuda.statistics import fill_tables, statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaKernel:
    """One kernel and the types of its arguments."""

    function: Callable[..., None]
    arguments: tuple[Any, ...]

    def signature(self) -> Any:
        """The signature that numba compiles: a function of pointers and uint32 numbers."""
        return types.void(*self.arguments)


def catalog() -> dict[str, CudaKernel]:
    """All kernels, by name."""
    byte, whole, real = (types.CPointer(kind) for kind in (types.uint8, types.int32, types.float32))
    word, double, size = types.CPointer(types.uint32), types.CPointer(types.float64), types.uint32
    found = {
        "statistics": CudaKernel(function=statistics, arguments=(byte, whole, whole, whole, size, size)),
        "tables": CudaKernel(
            function=fill_tables,
            arguments=(whole, whole, real, whole, byte),
        ),
    }
    found["resize_columns"] = CudaKernel(
        function=resize_columns, arguments=(byte, whole, whole, whole, whole, byte, *((size,) * 5))
    )
    for bits, element in ((8, types.uint8), (16, types.uint16), (32, types.uint32)):
        norm = out = types.CPointer(element)
        quad = word if bits == 8 else types.CPointer(types.uint64)
        sizes = (size, size, size, size)
        point = (byte, word, byte, norm, whole, whole, quad, size, size)
        found[f"packed_nhwc_{bits}"] = CudaKernel(function=packed_nhwc(bits), arguments=point)
        found[f"packed_nchw_{bits}"] = CudaKernel(function=packed_nchw(bits), arguments=point)
        found[f"plain_{bits}"] = CudaKernel(
            function=table_plain, arguments=(byte, byte, norm, whole, whole, out, *sizes)
        )
        found[f"nearest_{bits}"] = CudaKernel(
            function=warp_nearest, arguments=(byte, norm, whole, whole, whole, out, *sizes)
        )
        found[f"bilinear_{bits}"] = CudaKernel(
            function=warp_bilinear, arguments=(byte, norm, whole, whole, double, out, *sizes)
        )
        found[f"blended_{bits}"] = CudaKernel(
            function=blended, arguments=(byte, norm, whole, whole, real, out, *sizes)
        )
        if bits > 8:
            found[f"erase_{bits}"] = CudaKernel(function=erase_box, arguments=(whole, norm, out, *sizes))
        found[f"picked_{bits}"] = CudaKernel(
            function=picked, arguments=(byte, norm, whole, whole, whole, out, *sizes, size, size)
        )
        found[f"resize_rows_{bits}"] = CudaKernel(
            function=resize_rows, arguments=(byte, norm, whole, out, *sizes, size, size)
        )
    for dtype in ROUNDINGS:
        out = word if dtype == "float32" else types.CPointer(types.uint16)
        lists = (whole,) * 5
        found[f"mixed_{dtype}"] = CudaKernel(
            function=mixed(dtype), arguments=(byte, real, *lists, out, *((size,) * 10))
        )
    return found
