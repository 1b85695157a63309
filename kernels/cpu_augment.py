"""One to many operations per image, each image its own. numba, CPU, serial over a range of images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled
from fastpipe.kernels.cpu_filters import color, copy_bytes, mirror, mirror_in_place, sharpness
from fastpipe.kernels.cpu_tables import apply_table, fill_table
from fastpipe.kernels.cpu_warp import warp
from fastpipe.kernels.ops import AFFINE, COLOR, IDENTITY, SHARPNESS

__all__ = ["augment_range"]

Bytes = npt.NDArray[np.uint8]

# Where the image is while its operations run.
_IN_SOURCE = 0
_IN_TARGET = 1
_IN_SCRATCH = 2


@compiled
def augment_range(
    images: Bytes,
    out: Bytes,
    ops: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    matrices: npt.NDArray[np.float64],
    fills: Bytes,
    interpolations: Bytes,
    flip: Bytes,
    height: int,
    width: int,
    in_place: bool,
    start: int,
    stop: int,
) -> None:
    """Augment images[start:stop] into out. images and out: [B, H*W*3], the same memory where `in_place`.

    ops, values, interpolations: [B, D]; matrices: [B, D, 6]; fills: [B, 3]; flip: [B]. Flip comes first.
    """
    scratch = np.empty(images.shape[1], np.uint8)
    counts = np.empty(768, np.int64)
    table = np.empty(768, np.uint8)
    columns, weights = np.empty(width, np.int32), np.empty(2 * width, np.float64)
    for i in range(start, stop):
        image, target = images[i], out[i]
        place = _IN_TARGET if in_place else _IN_SOURCE
        if flip[i]:
            if in_place:
                mirror_in_place(target, height, width)
            else:
                mirror(image, target, height, width)
            image, place = target, _IN_TARGET
        for depth in range(ops.shape[1]):
            op, value = ops[i, depth], values[i, depth]
            if op == IDENTITY:
                continue
            if op in (AFFINE, SHARPNESS):
                # These read neighbours, so they never write where they read.
                other = scratch if place == _IN_TARGET else target
                if op == AFFINE:
                    bilinear = interpolations[i, depth] == 1
                    matrix, fill = matrices[i, depth], fills[i]
                    warp(image, other, height, width, matrix, fill, bilinear, columns, weights)
                else:
                    sharpness(image, other, height, width, np.float32(value))
                image, place = other, _IN_SCRATCH if place == _IN_TARGET else _IN_TARGET
                continue
            # The others work pixel by pixel: in place, unless this is the caller's input.
            written = target if place == _IN_SOURCE else image
            if op == COLOR:
                color(image, written, np.float32(value))
            else:
                fill_table(op, value, image, counts, table)
                apply_table(image, written, table)
            image, place = written, _IN_TARGET if place == _IN_SOURCE else place
        if place != _IN_TARGET:
            copy_bytes(image, target)
