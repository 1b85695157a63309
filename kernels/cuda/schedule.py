"""Which kernels run on a batch, in which order, on which buffers: plain data, for GPU and tests.

    images -> [statistics -> tables] -> points, warps, blends -> scratch 0 -> ... -> out
              \\_______ depth 0: uint8 NHWC, or `out` if it is the last _______/

Each image of a depth is on only one path, so paths never wait for each other's pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastpipe.kernels.cuda.layout import REAL_ROW, STATISTICS_PARTS, WHOLE_ROW
from fastpipe.kernels.cuda.plan import PATHS

Argument = tuple[str, int] | int
"""A buffer and the element in it where the kernel's part begins, or a number."""

Triple = tuple[int, int, int]

_THREADS = 256
_TABLE_THREADS = 768
# Each block first composes its table of 768 entries: with 16 turns that is a twentieth of its loads.
_TURNS = 16
_TILE: Triple = (32, 8, 1)


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch."""

    kernel: str
    grid: Triple
    block: Triple
    arguments: tuple[Argument, ...]


def kernel_names(bits: int) -> list[str]:
    """Every kernel that a batch with elements of `bits` may use, inner depths (8 bits) included."""
    names = ["statistics", "tables", "packed_nhwc_8", "plain_8", "nearest_8", "bilinear_8", "blended_8"]
    each = ["packed_nhwc", "packed_nchw", "plain", "nearest", "bilinear", "blended"]
    names += [f"{kernel}_{bits}" for kernel in (each if bits == 8 else [*each, "erase"])]
    return list(dict.fromkeys(names))


def schedule(
    header: Sequence[int], height: int, width: int, *, bits: int, channels_last: bool, aligned: bool
) -> Iterator[Launch]:
    """The launches of one batch. `header` is the plan's; aligned: images begin at a multiple of 4 bytes.

    Buffers: images, numbers (int32), reals and matrices (the same as float32 and float64), norm, levels
    (uint8, 0..255 three times), tables, counts, scratch0, scratch1, out. `:words` or `:quads` behind a name:
    the same memory in packed form.
    """
    num, depth = header[0], header[1]
    lists = header[4]
    for level in range(depth):
        last = level == depth - 1
        source = "images" if level == 0 else f"scratch{(level - 1) % 2}"
        target, norm = ("out", "norm") if last else (f"scratch{level % 2}", "levels")
        form = _Form(
            source=source,
            target=target,
            norm=(norm, 0),
            bits=bits if last else 8,
            planes=last and not channels_last,
            packed=width % 4 == 0 and (aligned or level > 0),
            whole=("numbers", level * num * WHOLE_ROW),
            matrices=("matrices", level * num * REAL_ROW),
            reals=("reals", header[2] + level * num),
            maps=("numbers", header[3]),
            height=height,
            width=width,
        )
        at = 5 + 2 * len(PATHS) * level
        spans = header[at : at + 2 * len(PATHS)]
        for path, start, count in zip(PATHS, spans[::2], spans[1::2], strict=True):
            if count:
                yield from _launches(form, path, ("numbers", lists + start), count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """The values that the launches of one depth share."""

    source: str
    target: str
    norm: Argument
    bits: int
    planes: bool
    packed: bool
    whole: Argument
    matrices: Argument
    reals: Argument
    maps: Argument
    height: int
    width: int


def _launches(form: _Form, path: str, which: Argument, count: int) -> Iterator[Launch]:
    images, size = (form.source, 0), (form.height, form.width)
    counts, tables = ("counts", 0), ("tables", 0)
    if path == "statistics":
        counted = (images, which, form.whole, counts, *size)
        yield Launch(path, (STATISTICS_PARTS, count, 1), (_THREADS, 1, 1), counted)
    elif path == "tables":
        yield Launch(
            path, (count, 1, 1), (_TABLE_THREADS, 1, 1), (which, form.whole, form.reals, counts, tables)
        )
        yield _points(form, which, count)
    else:
        numbers = {"nearest": form.maps, "bilinear": form.matrices, "blended": form.reals}[path]
        grid = (_parts(form.width, _TILE[0]), _parts(form.height, _TILE[1]), count)
        arguments = (images, form.norm, which, form.whole, numbers, (form.target, 0), *size, *_steps(form))
        yield Launch(f"{path}_{form.bits}", grid, _TILE, arguments)


def _points(form: _Form, which: Argument, count: int) -> Launch:
    images, tables, size = (form.source, 0), ("tables", 0), (form.height, form.width)
    pixels = form.height * form.width
    if not form.packed:
        grid = (_parts(pixels, _THREADS), count, 1)
        arguments: tuple[Argument, ...] = (images, tables, form.norm, which, form.whole, (form.target, 0))
        return Launch(f"plain_{form.bits}", grid, (_THREADS, 1, 1), (*arguments, *size, *_steps(form)))
    name, words = ("packed_nchw", pixels // 4) if form.planes else ("packed_nhwc", 3 * pixels // 4)
    grid = (_parts(words, _THREADS * _TURNS), count, 1)
    packed = (f"{form.source}:words", 0), tables, form.norm, which, form.whole, (f"{form.target}:quads", 0)
    return Launch(f"{name}_{form.bits}", grid, (_THREADS, 1, 1), (images, *packed, *size))


def _steps(form: _Form) -> tuple[int, int]:
    """How far pixels, and channels of a pixel, lie apart in the target."""
    return (1, form.height * form.width) if form.planes else (3, 1)


def _parts(size: int, part: int) -> int:
    return -(-size // part)


def schedule_erase(
    num_boxes: int, largest: int, height: int, width: int, *, bits: int, channels_last: bool
) -> Launch:
    """The launch that fills rectangles of at most `largest` pixels. Buffers: boxes, values, out."""
    steps = (3, 1) if channels_last else (1, height * width)
    arguments: tuple[Argument, ...] = (("boxes", 0), ("values", 0), ("out", 0), height, width, *steps)
    return Launch(f"erase_{bits}", (_parts(largest, _THREADS), num_boxes, 1), (_THREADS, 1, 1), arguments)
