"""The CUDA kernels' own source, compiled by numba for the CPU: any size, every thread of every block.

    source of cuda/*.py -> `cuda.threadIdx.x` read from an argument, a function per part between two barriers
                        -> numba for the CPU, typed by the catalog's own signatures, with bounds checks
    Launch + buffers    -> the same pointers as elements of the declared type, one block after another

All threads of a block run up to a barrier before any runs on. Shared memory is full of other numbers at
first. The threads of every other block run backwards, so that a race gives other bytes. What stands in for
the device: the rounding to float16, which numba has on CUDA only.
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numba
import numpy as np
import torch

import fastpipe.kernels
from fastpipe.kernels.compilers import EntryCompiler, LinkedCompiler, can_link
from fastpipe.kernels.cuda.schedule import Launch

__all__ = ["OnCpu"]

_ROOM = Path(fastpipe.kernels.__file__).parent / "cuda"
_PREFIX = "kernels_on_cpu_"
# In the order of their imports.
_MODULES = ("device", "points", "pixels", "finish", "statistics", "catalog")
_SPECIAL = {
    f"cuda.{name}.{axis}": 3 * i + j
    for i, name in enumerate(("blockIdx", "threadIdx", "blockDim", "gridDim"))
    for j, axis in enumerate("xyz")
}
_OPTIONS = {"boundscheck": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# Optimised with the kernel that calls it, not before: half the time.
_LINKED = {"pipeline_class": LinkedCompiler} if can_link() else {}

_jit = numba.njit(no_cpython_wrapper=True, **_OPTIONS, **_LINKED)


@_jit
def _atomic_add(array: Any, index: Any, value: Any) -> None:
    array[index] += value


@_jit
def _to_half(value: Any) -> Any:
    """The bits of a float32 rounded to float16, to the nearest, ties to even."""
    bits = np.int64(np.float32(value).view(np.uint32))
    sign, magnitude = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
    if magnitude >= 0x47800000:  # 65536 and more, infinities, NaNs
        return np.uint16(sign | (0x7E00 if magnitude > 0x7F800000 else 0x7C00))
    exponent = max(magnitude >> 23, 113)  # below 2^-14 the last place stays 2^-24
    mantissa = (magnitude & 0x7FFFFF) | (0x800000 if magnitude >= 0x800000 else 0)
    shift = 13 + exponent - max(magnitude >> 23, 1)
    if shift > 24:
        return np.uint16(sign)
    kept, rest, half = mantissa >> shift, mantissa & ((1 << shift) - 1), 1 << (shift - 1)
    kept += 1 if rest > half or (rest == half and kept & 1) else 0
    return np.uint16(sign | (kept + ((exponent - 113) << 10)))


@dataclass(frozen=True, slots=True)
class Phases:
    """A kernel in parts, each up to a barrier, and the (length, dtype) of its shared memory."""

    parts: tuple[Callable[..., Any], ...]
    shared: tuple[int, Any]


def _is_barrier(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node) == "cuda.syncthreads()"


def _used(nodes: Iterable[ast.AST], context: type[ast.expr_context]) -> set[str]:
    every = (child for node in nodes for child in ast.walk(node))
    return {child.id for child in every if isinstance(child, ast.Name) and isinstance(child.ctx, context)}


@dataclass
class _ToCpu(ast.NodeTransformer):
    """Rewrites one module. `threaded`: device functions that know their thread; `ending`: with a barrier."""

    threaded: set[str] = field(default_factory=set)
    ending: set[str] = field(default_factory=set)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.module in ("numba", "numba.cuda"):
            return None
        room, _, name = (node.module or "").rpartition(".")
        of_ours = room == "fastpipe.kernels.cuda" and name in _MODULES
        return ast.ImportFrom(_PREFIX + name, node.names, 0) if of_ours else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        place = _SPECIAL.get(ast.unparse(node))
        return self.generic_visit(node) if place is None else ast.parse(f"_at[{place}]", mode="eval").body

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        self.generic_visit(node)
        if name == "cuda.atomic.add":
            node.func = ast.Name("_atomic_add", ast.Load())
        if name == "np.float16(value).view":
            return ast.parse("_to_half(value)", mode="eval").body
        if name in self.threaded:
            node.args.append(ast.Name("_at", ast.Load()))
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | list[ast.AST]:
        nested = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        knows_thread = not nested and any(name in ast.unparse(node) for name in ("cuda.thread", "cuda.block"))
        if not knows_thread:
            self.generic_visit(node)
            return node
        if node.decorator_list:
            self.threaded.add(node.name)
            if _is_barrier(node.body[-1]):
                self.ending.add(node.name)
                del node.body[-1]
            assert "syncthreads" not in ast.unparse(node), f"{node.name}: a barrier inside"
            self.generic_visit(node)
            node.args.args.append(ast.arg("_at"))
            return node
        return self._phases(node)

    def _phases(self, node: ast.FunctionDef) -> list[ast.AST]:
        """The kernel's parts as functions that hand on what later parts read, and `kernel = Phases(...)`."""
        name, shared, size = node.name, "_shared", "(1, np.uint8)"
        blocks: list[list[ast.stmt]] = [[]]
        for statement in node.body:
            text = ast.unparse(statement)
            if "cuda.shared.array" in text:
                assert isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
                shared = ast.unparse(statement.targets[0])
                size = f"({', '.join(map(ast.unparse, statement.value.args))})"
                continue
            if not _is_barrier(statement):
                blocks[-1].append(statement)
            if _is_barrier(statement) or text.partition("(")[0] in self.ending:
                blocks.append([])
        given = [argument.arg for argument in node.args.args]
        made: list[ast.AST] = []
        kept: list[str] = []
        for number, block in enumerate(blocks):
            lines = [f"({', '.join(kept)},) = _kept" if kept and number else "pass"]
            later = _used([s for rest in blocks[number + 1 :] for s in rest], ast.Load)
            kept = sorted((_used(block, ast.Store) | set(kept)) & later)
            part = ast.parse(
                f"def {name}_{number}({', '.join([*given, shared, '_at', '_kept'])}):\n  {lines[0]}\n"
            ).body[0]
            assert isinstance(part, ast.FunctionDef)
            part.body += [self.visit(statement) for statement in block]
            part.body.append(ast.parse(f"return ({', '.join(kept)},)" if kept else "return (0,)").body[0])
            assert "syncthreads" not in ast.unparse(part), f"{name}: a barrier inside a branch"
            made.append(part)
        parts = ", ".join(f"{name}_{number}" for number in range(len(blocks)))
        return [*made, ast.parse(f"{name} = Phases(({parts},), {size})").body[0]]


def _load(name: str, source: str) -> ModuleType:
    changed = ast.fix_missing_locations(_ToCpu().visit(ast.parse(source)))
    module = ModuleType(_PREFIX + name)
    sys.modules[_PREFIX + name] = module
    module.__dict__.update(
        cuda=SimpleNamespace(jit=lambda **options: _jit),
        types=numba.types,
        Phases=Phases,
        _atomic_add=_atomic_add,
        _to_half=_to_half,
    )
    exec(compile(changed, f"<{name} for the CPU>", "exec"), module.__dict__)
    return module


@_jit
def _set_thread(at: Any, turn: Any) -> None:
    threads = at[6] * at[7] * at[8]
    backwards = (at[0] + at[1] + at[2]) % 2 == 1
    thread = threads - 1 - turn if backwards else turn
    at[3], at[4], at[5] = thread % at[6], thread // at[6] % at[7], thread // (at[6] * at[7])


def _driver_source(parts: int, arguments: str, size: int) -> str:
    """All blocks of a launch, one after another; the threads of a block part by part."""
    lines = [
        f"def run(grid, block, first, {arguments}):",
        " at = np.zeros(12, np.int32)",
        " for i in range(3): at[6 + i], at[9 + i] = block[i], grid[i]",
        " for index in range(first, grid[0] * grid[1] * grid[2]):",
        "  at[0], at[1] = index % grid[0], index // grid[0] % grid[1]",
        "  at[2] = index // (grid[0] * grid[1])",
        f"  shared = np.full({size}, 170, dtype)",
    ]
    for number in range(parts):
        call = f"part_{number}({arguments}, shared, at, {f'kept_{number - 1}[turn]' if number else '0'})"
        more = number < parts - 1
        lines += [f"  kept_{number} = []"] if more else []
        lines += ["  for turn in range(block[0] * block[1] * block[2]):", "   _set_thread(at, turn)"]
        lines += [f"   kept_{number}.append({call})" if more else f"   {call}"]
    return "\n".join(lines)


def _compiled(kernel: Any) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel as a function of grid, block and arrays, and the numpy types of its arguments."""
    phases: Phases = kernel.function
    arguments = ", ".join(f"a{i}" for i in range(len(kernel.arguments)))
    names: dict[str, Any] = {"np": np, "_set_thread": _set_thread, "dtype": phases.shared[1]}
    names |= {f"part_{i}": _jit(part) for i, part in enumerate(phases.parts)}
    exec(_driver_source(len(phases.parts), arguments, phases.shared[0]), names)
    pointed = [getattr(kind, "dtype", None) for kind in kernel.arguments]
    typed = [numba.types.uint32 if kind is None else kind[::1] for kind in pointed]
    three = numba.types.UniTuple(numba.types.int64, 3)
    kinds = tuple(kind if kind is None else numba.np.numpy_support.as_dtype(kind) for kind in pointed)
    signature = numba.types.void(three, three, numba.types.int64, *typed)
    return numba.njit(signature, pipeline_class=EntryCompiler, **_OPTIONS)(names["run"]), kinds


def _memory(tensor: torch.Tensor) -> Any:
    """The bytes of a dense CPU tensor in the order of its memory, not copied."""
    flat = tensor.as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8).numpy()


class OnCpu:
    """The catalog's kernels, each compiled when it is first launched. `used`: the names of those.

    changes: (old, new) texts; each old one occurs once in the kernels' source. For tests of the tests.
    last_only: only the blocks of a launch's last image run.
    """

    def __init__(self, *changes: tuple[str, str]) -> None:
        sources = {name: (_ROOM / f"{name}.py").read_text() for name in _MODULES}
        for old, new in changes:
            assert sum(source.count(old) for source in sources.values()) == 1, old
            sources = {name: source.replace(old, new) for name, source in sources.items()}
        loaded = [_load(name, source) for name, source in sources.items()]
        self.catalog: dict[str, Any] = loaded[-1].catalog()
        self.last_only = False
        self._compiled: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    @property
    def used(self) -> set[str]:
        return set(self._compiled)

    def run_launches(
        self,
        launches: Iterable[Launch],
        buffers: Mapping[str, torch.Tensor],
        device: torch.device,
        kernels: Sequence[str],
    ) -> None:
        """Stands for `cuda.ops.run_launches`: the same launches on the memory of CPU tensors."""
        memory = {name: (_memory(buffer), buffer.element_size()) for name, buffer in buffers.items()}
        for launch in launches:
            assert launch.kernel in kernels, f"{launch.kernel} would not have been loaded"
            if launch.kernel not in self._compiled:
                self._compiled[launch.kernel] = _compiled(self.catalog[launch.kernel])
            run, kinds = self._compiled[launch.kernel]
            given: list[Any] = []
            for argument, kind in zip(launch.arguments, kinds, strict=True):
                assert isinstance(argument, int) == (kind is None), f"{launch.kernel}: {argument} for {kind}"
                if isinstance(argument, int):
                    given.append(np.uint32(argument))
                else:
                    buffer, size = memory[argument[0].partition(":")[0]]
                    given.append(buffer[argument[1] * size :].view(kind))
            blocks = math.prod(launch.grid)
            axis = 2 if launch.block[1] > 1 else 0 if launch.kernel == "tables" else 1
            images = launch.grid[axis]
            run(launch.grid, launch.block, blocks - blocks // images if self.last_only else 0, *given)
