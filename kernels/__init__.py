"""Pure pixel arithmetic on batches of RGB images, with Pillow's bytes. The import does not import numba."""

from __future__ import annotations

from fastpipe.kernels.augmentation import apply_op, augment_batch
from fastpipe.kernels.counters import counter_row, counter_uniforms
from fastpipe.kernels.matrices import (
    Matrix,
    rotate,
    shear_x,
    shear_y,
    torchvision_affine,
    translate_x,
    translate_y,
)
from fastpipe.kernels.mixing import mix
from fastpipe.kernels.operations import Operations
from fastpipe.kernels.ops import INTERPOLATIONS, OPS
from fastpipe.kernels.output import erase, finish, normalize_table
from fastpipe.kernels.reference import (
    erase_torch,
    finish_torch,
    mix_shares,
    mix_torch,
    mix_weights,
    resize_torch,
)
from fastpipe.kernels.resizing import RESIZE_MODES, nearest_sources, resize
from fastpipe.kernels.threads import run_ranges

__all__ = [
    "INTERPOLATIONS",
    "OPS",
    "RESIZE_MODES",
    "Matrix",
    "Operations",
    "apply_op",
    "augment_batch",
    "counter_row",
    "counter_uniforms",
    "erase",
    "erase_torch",
    "finish",
    "finish_torch",
    "mix",
    "mix_shares",
    "mix_torch",
    "mix_weights",
    "nearest_sources",
    "normalize_table",
    "resize",
    "resize_torch",
    "rotate",
    "run_ranges",
    "shear_x",
    "shear_y",
    "torchvision_affine",
    "translate_x",
    "translate_y",
]
