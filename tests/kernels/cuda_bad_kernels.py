"""Run by test_cuda_gates.py in a process of its own: kernels that the gate must catch, as PTX files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types

from fastpipe.kernels.cuda.compile import patch_numba, to_ptx

CC = (9, 0)
REALS = types.CPointer(types.float32)
SIGNATURE = types.void(REALS, REALS, types.uint32)


def source_of_spilling(values: int = 400) -> str:
    """So many values live at once that no file of 255 registers holds them."""
    loads = [f"    v{i} = a[n * np.uint32({i})]" for i in range(values)]
    uses = [f"    b[n * np.uint32({i})] = v{i} * v{values - 1 - i}" for i in range(values)]
    return "\n".join(["def spilling(a, b, n):", *loads, "    cuda.syncthreads()", *uses])


def local_array(a: Any, b: Any, n: Any) -> None:
    kept = cuda.local.array(64, np.float32)
    for i in range(64):
        kept[np.uint32(n * np.uint32(i)) & np.uint32(63)] = a[np.uint32(i)]
    b[np.uint32(0)] = kept[n & np.uint32(63)]


def doubles(a: Any, b: Any, n: Any) -> None:
    b[n] = np.float32(a[n] * 0.1)  # a bare 0.1 is a float64


def multiply_add(a: Any, b: Any, n: Any) -> None:
    b[n] = a[n] * a[np.uint32(0)] + a[np.uint32(1)]


def main(folder: Path) -> None:
    names: dict[str, Any] = {"np": np, "cuda": cuda}
    exec(source_of_spilling(), names)

    class Device:
        compute_capability = CC

    from numba.cuda import dispatcher

    dispatcher.get_current_device = lambda: Device
    # Before our patch NVVM contracts.
    (folder / "contracted.ptx").write_text(to_ptx(multiply_add, SIGNATURE, CC))
    patch_numba(CC)
    for name, function in (
        ("spilling", names["spilling"]),
        ("local_array", local_array),
        ("doubles", doubles),
        ("exact", multiply_add),
    ):
        (folder / f"{name}.ptx").write_text(to_ptx(function, SIGNATURE, CC))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
