"""CUDA kernels to PTX without a driver, and ptxas's report on them.

    compile_here(cc, folder) -> PTX files, in a separate process that `cuda.cache.ptx_files` starts
    assemble(ptx, cc)        -> Assembled(registers, spills, stack, ...)

numba-cuda asks the driver for the device when a kernel calls a device function, and always lets NVVM contract
a * b + c into one rounding. Both are patched, in a process that does nothing else. Each compute capability
has its own process, because device functions are compiled once per process.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpipe.kernels.cuda.ptx import with_lowest_version

__all__ = ["missing_package"]

Capability = tuple[int, int]


def missing_package() -> str | None:
    """None if numba-cuda is installed, else its name. The `numba.cuda` of numba itself is not enough."""
    return None if importlib.util.find_spec("numba_cuda") is not None else "numba-cuda"


def patch_numba(cc: Capability) -> None:
    """Let this process compile for `cc` without a driver and without contraction."""
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import nvvm

    class Device:
        compute_capability = cc

    compile_ir = nvvm.compile_ir

    def compile_exactly(llvmir: Any, **options: Any) -> Any:
        return compile_ir(llvmir, **{**options, "fma": False})

    dispatcher.get_current_device = lambda: Device
    nvvm.compile_ir = compile_exactly


def to_ptx(function: Callable[..., None], signature: Any, cc: Capability) -> str:
    """PTX of one kernel, of the lowest version for its target. `patch_numba(cc)` must have run."""
    from numba import cuda

    ptx, _ = cuda.compile(function, signature, cc=cc, abi="numba", device=False, fastmath=False, output="ptx")
    return with_lowest_version(str(ptx))


def compile_here(cc: Capability, folder: Path) -> None:
    """Write `<name>.ptx` into `folder` for each kernel of the catalogue that it lacks; print the progress.

    One process for all: the device functions that they share, and numba's start, are paid for once.
    """
    patch_numba(cc)
    from fastpipe.kernels.cuda.catalog import catalog

    kernels = catalog()
    absent = [name for name in kernels if not (folder / f"{name}.ptx").is_file()]
    for place, name in enumerate(absent, 1):
        text = to_ptx(kernels[name].function, kernels[name].signature(), cc)
        # Another process may be reading: the file appears whole or not at all.
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False) as file:
            file.write(text)
        Path(file.name).replace(folder / f"{name}.ptx")
        print(f"{place} of {len(absent)}", flush=True)  # noqa: T201


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """One kernel's needs. spills, stack, shared: bytes; float64, contracted, calls: instructions in PTX.

    contracted: fused multiply-adds, or float operations that ptxas would be free to fuse.
    """

    registers: int
    spills: int
    stack: int
    shared: int
    float64: int
    contracted: int
    calls: int
    cubin: bytes


# More than this and fewer than 6 blocks of 256 threads fit on a multiprocessor (65,536 registers).
_HOT_REGISTERS = 40
# There a multiprocessor has 1,024 threads at most.
_TURING_REGISTERS = 64
_OTHER_REGISTERS = 72
# Colour with sharpness: a pixel in fourteen. Tables: 768 threads per image.
_NOT_HOT = ("blended", "tables")
# The most float64 instructions in PTX: Pillow's, if nothing narrower keeps its bytes (docs/design/012).
_FLOAT64 = {"tables": 16, "bilinear": 80}


def complaints(name: str, found: Assembled, cc: Capability = (9, 0)) -> list[str]:
    """The limits that a kernel of this name exceeds; empty if none. The tests use it as a gate."""
    kind = name.rpartition("_")[0] if name[-1].isdigit() else name
    limit = _OTHER_REGISTERS if kind in _NOT_HOT else _TURING_REGISTERS if cc == (7, 5) else _HOT_REGISTERS
    doubles = _FLOAT64.get(kind, 0)
    wrong = {
        f"{found.registers} registers, at most {limit}": found.registers > limit,
        f"{found.spills} bytes of spills": found.spills > 0,
        f"{found.stack} bytes of stack": found.stack > 0,
        f"{found.float64} float64 instructions, at most {doubles}": found.float64 > doubles,
        f"{found.contracted} multiply-adds with one rounding": found.contracted > 0,
        f"{found.calls} calls that were not inlined": found.calls > 0,
    }
    return [f"{name}: {text}" for text, is_wrong in wrong.items() if is_wrong]


def find_tool(name: str) -> Path | None:
    """ptxas or nvdisasm: of CUDA_HOME, the PATH, or triton's wheel, in this order."""
    folders = [Path(home) / "bin" for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    spec = importlib.util.find_spec("triton")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "backends" / "nvidia" / "bin")
    path = os.pathsep.join([str(folders[0]), os.environ.get("PATH", ""), *map(str, folders[1:])])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def assemble(ptx: str, cc: Capability, ptxas: Path) -> Assembled:
    """Assemble PTX and read the compiler's report. Raises RuntimeError with ptxas's message."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx)
        command = [str(ptxas), "-v", f"-arch=sm_{cc[0]}{cc[1]}", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"ptxas: {done.stderr[-2000:]}")
        cubin = target.read_bytes()
    return Assembled(
        registers=_largest(r"Used (\d+) registers", done.stderr),
        spills=_largest(r"(\d+) bytes spill stores", done.stderr)
        + _largest(r"(\d+) bytes spill loads", done.stderr),
        stack=_largest(r"(\d+) bytes stack frame", done.stderr),
        shared=_largest(r"(\d+) bytes smem", done.stderr),
        float64=len(re.findall(r"\.f64\b", ptx)),
        contracted=len(re.findall(r"\bfma\.|\b(?:add|sub|mul)(?:\.ftz)?\.f(?:32|64)\b|\bmad\.f", ptx)),
        calls=len(re.findall(r"^\s*call\b", ptx, re.MULTILINE)),
        cubin=cubin,
    )


def _largest(pattern: str, text: str) -> int:
    return max(map(int, re.findall(pattern, text)), default=0)


def main() -> None:
    """Compile the catalogue; called by `cuda.cache.ptx_files`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cc", nargs=2, type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    compile_here((given.cc[0], given.cc[1]), given.folder)


if __name__ == "__main__":
    main()
