"""One pixel of a bilinear warp as a vector of four float64 lanes. numba intrinsics, CPU.

In scalar code the taps are 12 loads of a byte and go through scratch memory to be vectorised (13 ns a pixel
for a rotation, compared with 7). The vectors are LLVM's generic ones, so they suit any processor.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ir: Any = cgutils.ir  # llvmlite's, imported through numba

_BYTES = ir.VectorType(ir.IntType(8), 4)
_WORDS = ir.VectorType(ir.IntType(32), 4)
_LANES = ir.VectorType(ir.DoubleType(), 4)
_ONE_ON = ir.Constant(_WORDS, [1, 2, 3, 3])


@intrinsic  # type: ignore[untyped-decorator]
def blend_four(
    _: Any, source: Any, place: Any, stride: Any, x_weight: Any, y_weight: Any, target: Any, out: Any
) -> Any:
    """target[out:out+3] from the 2 x 2 pixels at byte `place`, truncated. Also overwrites target[out+3].

    The columns' weight first, then the rows', each as `rules.lerp` does, in float64.
    """
    signature = types.void(
        source, types.int64, types.int64, types.float64, types.float64, target, types.int64
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pixels, place, stride, x_weight, y_weight, result, out = arguments
        memory = _memory(context, builder, signature.args[0], pixels)
        across, down = _splat(builder, x_weight), _splat(builder, y_weight)
        below = builder.add(place, stride)
        upper = _lerp(builder, _load(builder, memory, place), _load_next(builder, memory, place), across)
        lower = _lerp(builder, _load(builder, memory, below), _load_next(builder, memory, below), across)
        _store(
            builder,
            _memory(context, builder, signature.args[5], result),
            out,
            _lerp(builder, upper, lower, down),
        )
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def blend_two(_: Any, source: Any, place: Any, step: Any, weight: Any, target: Any, out: Any) -> Any:
    """As blend_four between the pixels at `place` and `place + step` only. Reads 4 bytes of each."""
    signature = types.void(source, types.int64, types.int64, types.float64, target, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pixels, place, step, weight, result, out = arguments
        memory = _memory(context, builder, signature.args[0], pixels)
        first, second = _load(builder, memory, place), _load(builder, memory, builder.add(place, step))
        mixed = _lerp(builder, first, second, _splat(builder, weight))
        _store(builder, _memory(context, builder, signature.args[4], result), out, mixed)
        return context.get_dummy_value()

    return signature, generate


def _memory(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return cgutils.create_struct_proxy(kind)(context, builder, value=array).data


def _load(builder: Any, memory: Any, place: Any) -> Any:
    """Four bytes from `place` on, as float64 lanes; the fourth is not used."""
    pointer = builder.bitcast(builder.gep(memory, [place]), _BYTES.as_pointer())
    return builder.sitofp(builder.zext(builder.load(pointer, align=1), _WORDS), _LANES)


def _load_next(builder: Any, memory: Any, place: Any) -> Any:
    """The pixel after the one at `place`, by a load that ends with it: it may be the image's last."""
    start = builder.add(place, ir.Constant(place.type, 2))
    pointer = builder.bitcast(builder.gep(memory, [start]), _BYTES.as_pointer())
    loaded = builder.load(pointer, align=1)
    moved = builder.shuffle_vector(loaded, ir.Constant(_BYTES, ir.Undefined), _ONE_ON)
    return builder.sitofp(builder.zext(moved, _WORDS), _LANES)


def _splat(builder: Any, weight: Any) -> Any:
    nothing = ir.Constant(_LANES, ir.Undefined)
    single = builder.insert_element(nothing, weight, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, nothing, ir.Constant(_WORDS, [0, 0, 0, 0]))


def _lerp(builder: Any, start: Any, end: Any, weight: Any) -> Any:
    return builder.fadd(start, builder.fmul(builder.fsub(end, start), weight))


def _store(builder: Any, memory: Any, place: Any, lanes: Any) -> None:
    levels = builder.trunc(builder.fptosi(lanes, _WORDS), _BYTES)
    pointer = builder.bitcast(builder.gep(memory, [place]), _BYTES.as_pointer())
    builder.store(levels, pointer, align=1)
