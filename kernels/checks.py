"""Checks of the public functions before any kernel sees a pointer; each returns a value fit for kernels.

Kernels index without bounds checks, so all their arguments pass through here.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Images = npt.NDArray[np.uint8] | torch.Tensor
"""uint8 [B,H,W,3], as a numpy array or a torch tensor on the CPU."""

_log = logging.getLogger(__name__)
# Kernels index with uint32 inside one image.
_MAX_IMAGE_BYTES = 2**31 - 1


def describe(value: object) -> str:
    """The type, shape and device of `value`, for an error message."""
    if isinstance(value, torch.Tensor):
        return f"torch.Tensor {str(value.dtype).removeprefix('torch.')} {list(value.shape)} on {value.device}"
    if isinstance(value, np.ndarray):
        return f"numpy.ndarray {value.dtype} {list(value.shape)}"
    return f"{type(value).__name__}: {value!r}"


def as_array(name: str, value: object) -> npt.NDArray[Any]:
    """The memory of a numpy array or CPU tensor, without a copy. Raises TypeError or ValueError otherwise."""
    if isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            raise ValueError(f"{name} must be on the CPU. Found: {describe(value)}")
        return np.asarray(value.detach().numpy())
    if isinstance(value, np.ndarray):
        return value
    raise TypeError(f"{name} must be a numpy array or a torch tensor. Found: {describe(value)}")


def as_images(name: str, value: object, *, written: bool = False) -> npt.NDArray[np.uint8]:
    """`value` as uint8 [B,H,W,3], C-contiguous.

    Input in another memory order, or read-only, is copied once; memory to be written must already be right.
    """
    array = as_array(name, value)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        raise ValueError(f"{name} must be uint8 [B, H, W, 3]. Found: {describe(value)}")
    if min(array.shape) < 1:
        raise ValueError(
            f"{name} must hold at least one image of at least 1 x 1 pixels. Found: {describe(value)}"
        )
    if array[0].size > _MAX_IMAGE_BYTES:
        raise ValueError(
            f"{name} must have at most {_MAX_IMAGE_BYTES} bytes per image. Found: {describe(value)}"
        )
    if array.flags.c_contiguous and array.flags.writeable:
        return array
    if written:
        raise ValueError(
            f"{name} must be C-contiguous (NHWC) and writable. "
            f"Found: {describe(value)} with strides {array.strides}, writable: {array.flags.writeable}"
        )
    _log.debug("%s is not contiguous or not writable: copied once (%d bytes)", name, array.nbytes)
    # numba compiles again for read-only memory; a copy is cheaper.
    return np.array(array, dtype=np.uint8, order="C")


def as_flags(name: str, value: object, length: int) -> npt.NDArray[np.uint8]:
    """`value` (bool or uint8 [length], or None for all 0) as uint8 [length]."""
    if value is None:
        return np.zeros(length, np.uint8)
    array = as_array(name, value)
    if array.dtype not in (np.uint8, np.bool_) or array.shape != (length,):
        raise ValueError(f"{name} must be bool or uint8 [{length}]. Found: {describe(value)}")
    return np.array(array, dtype=np.uint8, order="C")


def require_finite(name: str, array: npt.NDArray[Any]) -> None:
    """Raise ValueError if `array` holds a NaN or an infinity."""
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers. Found: {array[~np.isfinite(array)][0]!r}")
