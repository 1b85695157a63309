"""The operations of a batch, image by image and one after another, as late as possible. numba, CPU, serial.

table operations   only their table is made; the writer of the output applies it
mirror             left to the output as well, unless a warp follows (a blend and SMOOTH are symmetric)
color, sharpness, affine   write into `work`
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastpipe.kernels.compiled import compiled
from fastpipe.kernels.cpu.filters import color, mirror, sharpness
from fastpipe.kernels.cpu.tables import apply_table, fill_table
from fastpipe.kernels.cpu.warp import warp
from fastpipe.kernels.ops import AFFINE, BLENDS, COLOR, COUNTED, IDENTITY

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@compiled
def augment_images(
    images: Bytes,
    ids: Numbers,
    work: Bytes,
    places: Numbers,
    mirrored: Bytes,
    tabled: Bytes,
    tables: Bytes,
    ops: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    matrices: npt.NDArray[np.float64],
    fills: Bytes,
    interpolations: Bytes,
    height: int,
    width: int,
    detach: bool,
    counts: Numbers,
    step: Bytes,
    columns: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float64],
) -> None:
    """Augment images[ids[k]], k in 0..n-1, into row places[k] of `work` (-1: still the image itself).

    images: [B, H*W*3]. work: [n + 1 or more, H*W*3]. Left to do afterwards: tables[k] ([n, 768]) if
    tabled[k], and a mirror if mirrored[k]; on entry `mirrored` says which images must be mirrored first.
    ops, values, interpolations: [B, D]; matrices: [B, D, 6]; fills: [B, 3]. detach: a mirror is never left
    for an image itself, so that the output may overwrite it. Scratch: counts and step [768], columns [W],
    weights [2 * W]; it comes from outside because kernels cannot make arrays (compiled.py).
    """
    spare = ids.size
    for k in range(ids.size):
        i, row = ids[k], -1
        image, table = images[i], tables[k]
        flip, pending = mirrored[k] != 0, False
        for depth in range(ops.shape[1]):
            op, value = ops[i, depth], values[i, depth]
            if op == IDENTITY:
                continue
            by_pixel = op == AFFINE or op in BLENDS
            if pending and (by_pixel or op in COUNTED):
                row = k if row < 0 else row
                apply_table(image, work[row], table)
                image, pending = work[row], False
            if not by_pixel:
                fill_table(op, value, image, counts, step)
                for level in range(768):
                    first = np.int64(table[level]) if pending else level & 255
                    table[level] = step[(level & 768) + first]
                pending = True
                continue
            if op == COLOR:
                row = k if row < 0 else row
                color(image, work[row], np.float32(value))
                image = work[row]
                continue
            if op == AFFINE and flip:
                row = k if row < 0 else row
                mirror(image, work[row], height, width)
                image, flip = work[row], False
            # These read neighbours, so they never write where they read.
            other = k if row < 0 else spare
            if op == AFFINE:
                bilinear = interpolations[i, depth] == 1
                warp(
                    image,
                    work[other],
                    height,
                    width,
                    matrices[i, depth],
                    fills[i],
                    bilinear,
                    columns,
                    weights,
                )
            else:
                sharpness(image, work[other], height, width, np.float32(value))
            spare = spare if row < 0 else row
            row, image = other, work[other]
        if detach and flip and row < 0:
            row, flip = k, False
            mirror(image, work[row], height, width)
        places[k], mirrored[k], tabled[k] = row, flip, pending
