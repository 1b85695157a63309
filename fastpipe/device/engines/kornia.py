"""The kornia engine: a policy's operations by kornia's functions, for comparing and for kornia users.

The draws are ours and per image; the batch is split by operation, each part goes through kornia in float32
0..1, and the result is rounded to the nearest of 256 levels. Flip, ColOut, table, erasing and mixing are
those of the torch engine. The pixels follow kornia's own definition of an operation, which differs from
Pillow's as follows (kornia 0.9, as in its RandAugment):

    brightness   adds factor - 1, where Pillow multiplies by the factor
    contrast     multiplies by the factor, where Pillow moves away from the mean gray
    color        scales the saturation of HSV, where Pillow moves away from the image's own gray
    sharpness    the same blur, rounded instead of cut
    autocontrast also maps the extremes to 0 and 255; a constant channel becomes 0
    warps        blend with the fill at the border, in float32; Pillow clamps there
    solarize     the threshold is compared in float32

Needs the `kornia` extra. Works on the device of the images, CPU or CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fastpipe.device.draws.draw import Params
from fastpipe.device.draws.params import OpParams
from fastpipe.device.engines.eager import TorchEngine
from fastpipe.device.engines.protocol import Output
from fastpipe.errors import ArgumentError, MissingExtraError
from fastpipe.kernels.ops import OPERATIONS

Operation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_BLACK_BIT = 1e-4  # of a level: kornia's posterize truncates, and 255 * (v / 255) may fall just below v


def require_kornia() -> Any:
    """The package, or MissingExtraError with the command that installs it."""
    try:
        import kornia
    except ImportError as error:
        raise MissingExtraError("kornia", "kornia", "engine='kornia'") from error
    return kornia


class KorniaEngine:
    """Operations by kornia, everything else by torch; all of it on the device of the images."""

    def __init__(self) -> None:
        self._operations = _operations(require_kornia())
        self._torch = TorchEngine()

    def augment(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """The unchanged images: policy operations run after the copy, in `finish`."""
        return images

    def finish(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Flip, the policy's operations, then the torch engine's finish."""
        if params.ops is not None:
            images = self._apply(_flipped(images, params), params.ops)
        return self._torch.finish(images, params, output)

    def _apply(self, images: torch.Tensor, ops: OpParams) -> torch.Tensor:
        pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        for place in range(ops.ops.shape[1]):
            for code in np.unique(ops.ops[:, place]).tolist():
                rows = np.flatnonzero(ops.ops[:, place] == code)
                pixels = self._apply_one(pixels, ops, place, _name(code), rows)
        return pixels.mul_(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _apply_one(
        self, pixels: torch.Tensor, ops: OpParams, place: int, name: str, rows: Any
    ) -> torch.Tensor:
        """One operation on the images `rows` of the batch."""
        if name == "identity":
            return pixels
        where = torch.from_numpy(rows).to(pixels.device)
        part = pixels.index_select(0, where)
        if name == "affine":
            result = self._warp(part, ops, place, rows)
        else:
            values = torch.from_numpy(ops.values[rows, place]).to(pixels)
            result = self._operations[name](part, values)
        return pixels.index_copy_(0, where, result.clamp(0.0, 1.0))

    def _warp(self, part: torch.Tensor, ops: OpParams, place: int, rows: Any) -> torch.Tensor:
        """Warps, split once more by interpolation."""
        from kornia.geometry.transform import warp_affine

        result = torch.empty_like(part)
        modes = ops.interpolations[rows, place]
        for mode in np.unique(modes).tolist():
            chosen = np.flatnonzero(modes == mode)
            picked = torch.from_numpy(chosen).to(part.device)
            matrices = torch.from_numpy(_forward(ops.matrices[rows[chosen], place])).to(part)
            fills = torch.from_numpy(ops.fills[rows[chosen]]).to(part).div_(255)[:, :, None, None]
            warped = warp_affine(
                part.index_select(0, picked),
                matrices,
                (part.shape[2], part.shape[3]),
                mode="bilinear" if mode else "nearest",
                padding_mode="fill",
                align_corners=True,
                fill_value=fills,
            )
            result.index_copy_(0, picked, warped)
        return result


def _name(code: int) -> str:
    if not 0 <= code < len(OPERATIONS):
        raise ArgumentError(f"ops must be codes of fastpipe.kernels.OPS. Found: {code}")
    return OPERATIONS[code].name


def _flipped(images: torch.Tensor, params: Params) -> torch.Tensor:
    if params.flip is None:
        return images
    flip = torch.from_numpy(params.flip).to(images.device)
    return torch.where(flip[:, None, None, None], images.flip(2), images)


def _forward(matrices: Any) -> Any:
    """Pillow's matrices [N,6] (output to input, pixel centres at 1/2) as kornia's [N,2,3] (input to output).

    kornia's pixel centres are whole numbers.
    """
    inverse = np.tile(np.eye(3), (len(matrices), 1, 1))
    inverse[:, :2] = np.asarray(matrices, np.float64).reshape(-1, 2, 3)
    inverse[:, :2, 2] += inverse[:, :2, :2].sum(2) * 0.5 - 0.5
    return np.linalg.inv(inverse)[:, :2]


def _operations(kornia: Any) -> dict[str, Operation]:
    """kornia's function for each operation: pixels float32 [N,3,H,W] in 0..1, values [N] as Pillow's."""
    enhance = kornia.enhance
    return {
        "autocontrast": lambda x, _: enhance.normalize_min_max(x),
        "equalize": lambda x, _: enhance.equalize(x),
        "posterize": lambda x, bits: enhance.posterize(x + _BLACK_BIT / 255, bits.to(torch.int32)),
        # The comparison is with a float: half a level below the threshold keeps its side.
        "solarize": lambda x, threshold: enhance.solarize(x, (threshold.ceil() - 0.5) / 255),
        "solarize_add": _solarize_add,
        "invert": lambda x, _: enhance.invert(x),
        "brightness": lambda x, factor: enhance.adjust_brightness(x, factor - 1.0),
        "color": lambda x, factor: enhance.adjust_saturation(x, factor),
        "contrast": lambda x, factor: enhance.adjust_contrast(x, factor),
        "sharpness": lambda x, factor: enhance.sharpness(x, factor),
    }


def _solarize_add(pixels: torch.Tensor, addends: torch.Tensor) -> torch.Tensor:
    """Levels below 128 plus the addend; kornia's own SolarizeAdd also inverts."""
    added = pixels + addends[:, None, None, None] / 255
    return torch.where(pixels < 127.5 / 255, added, pixels)
