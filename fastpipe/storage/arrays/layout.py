"""How images lie in an array: channels last or first, or grey."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastpipe.errors import ArgumentError

Layout = Literal["NHWC", "NCHW", "NHW"]
Levels = npt.NDArray[np.uint8]


def layout_of(shape: tuple[int, ...], given: str | None = None) -> Layout:
    """The layout of an array of N images; 1 and 3 are numbers of channels. Raises ArgumentError."""
    if given not in (None, "NHWC", "NCHW"):
        raise ArgumentError(f"layout must be 'NHWC', 'NCHW' or None. Found: {given!r}")
    if len(shape) == 3 and given is None:
        return "NHW"
    last = len(shape) == 4 and shape[3] in (1, 3) and given != "NCHW"
    first = len(shape) == 4 and shape[1] in (1, 3) and given != "NHWC"
    if last and first:
        raise ArgumentError(f"layout must be given for images of shape {list(shape)}: 'NHWC' or 'NCHW'")
    if not last and not first:
        raise ArgumentError(
            f"images must be [N,H,W,3], [N,3,H,W], or grey: [N,H,W], [N,H,W,1] or [N,1,H,W]. "
            f"Found: {list(shape)}"
        )
    return "NHWC" if last else "NCHW"


def rgb_of(images: Levels, layout: Layout) -> Levels:
    """A view of images in that layout as [B,H,W,3]; that of grey ones shows each level three times."""
    if layout == "NHW":
        images = images[..., None]
    elif layout == "NCHW":
        images = images.transpose(0, 2, 3, 1)
    return images if images.shape[3] == 3 else np.broadcast_to(images, (*images.shape[:3], 3))


def as_levels(images: Any) -> Levels:
    """A uint8 array over the same memory as an array or a tensor on the CPU. Raises ArgumentError."""
    found: Any = (
        images.detach().numpy() if hasattr(images, "detach") and images.device.type == "cpu" else images
    )
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8:
        kind = f"{getattr(images, 'dtype', type(images).__name__)} on {getattr(images, 'device', 'cpu')}"
        raise ArgumentError(
            f"images must be a uint8 array or a tensor of uint8 on the CPU, levels 0..255. Found: {kind}"
        )
    return found
