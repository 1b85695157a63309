"""The passes after the policy operations of a CUDA batch whose size changes or whose images are mixed.

    uint8 [B,H,W,3] -> ColOut and nearest resize: picked  \
                    -> bilinear resize: two filters        -> values [B,3,h,w] -> erasing -> MixUp, CutMix

MixUp reads the levels of both images and adds in float32; CutMix overwrites its box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt
import torch

from fastpipe.device.draws.batch import MixParams
from fastpipe.device.draws.draw import ErasingParams, Params
from fastpipe.device.engines.protocol import LEVELS, Output
from fastpipe.device.resizing import settle_resize
from fastpipe.errors import ArgumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The parts of an engine that the passes need.

    moved: a numpy array or CPU tensor onto the device. norm: [768] on the device, the output's value of each
    level. erase: fills boxes of an output in place.
    """

    moved: Callable[[npt.NDArray[Any] | torch.Tensor], torch.Tensor]
    norm: Callable[[Output], torch.Tensor]
    erase: Callable[[torch.Tensor, ErasingParams], None]

    def run(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        """Flip (unless params.ops did it), ColOut, resize, values, erasing, mixing: all but the policy.

        images: uint8 [B,H,W,3], contiguous.
        """
        params = replace(params, flip=None) if params.ops is not None else params
        mix = params.mix
        if params.resize is not None and params.resize.interpolation == "bilinear":
            if mix is None:
                out = self._resized(images, params, output)
                return self._erased(out, params)
            levels = self._resized(images, params, LEVELS)
            images = levels.permute(0, 2, 3, 1)
            params = replace(params, flip=None, colout=None, resize=None)
        images, params = settle_resize(images, params)
        numbers, size = self._numbers(images, params)
        if mix is None:
            return self._erased(self._picked(images, numbers, size, output), params)
        if mix.region is None:
            out = output.empty(len(images), *size, device=images.device)
        else:
            out = self._erased(self._picked(images, numbers, size, output), params)
        self._mix(out, images, numbers, params, mix, output)
        return out

    def _numbers(self, images: torch.Tensor, params: Params) -> tuple[torch.Tensor, tuple[int, int]]:
        from fastpipe.kernels.cuda.finish_plan import finish_numbers

        num, height, width = images.shape[:3]
        colout, erasing, mix = params.colout, params.erasing, params.mix
        numbers = finish_numbers(
            num,
            height,
            width,
            rows=None if colout is None else colout.rows,
            columns=None if colout is None else colout.columns,
            flip=params.flip,
            partner=None if mix is None else mix.partner,
            boxes=None if erasing is None else erasing.boxes,
            apply=None if erasing is None else erasing.apply,
        )
        size = (height, width) if colout is None else (len(colout.rows), len(colout.columns))
        return self.moved(numbers), size

    def _picked(
        self, images: torch.Tensor, numbers: torch.Tensor, size: tuple[int, int], output: Output
    ) -> torch.Tensor:
        from fastpipe.kernels.cuda.finish_ops import picked

        channels_last = output.memory_format == torch.channels_last
        return picked(images, numbers, self.norm(output), *size, channels_last)

    def _resized(self, images: torch.Tensor, params: Params, output: Output) -> torch.Tensor:
        from fastpipe.kernels.cuda.finish_ops import resized
        from fastpipe.kernels.cuda.finish_plan import filters

        resize = params.resize
        if resize is None:
            raise ArgumentError("params.resize must say the new size. Found: None")
        numbers, kept = self._numbers(images, params)
        rows = self.moved(filters(kept[0], resize.height, resize.antialias))
        columns = self.moved(filters(kept[1], resize.width, resize.antialias))
        channels_last = output.memory_format == torch.channels_last
        return resized(images, numbers, self.norm(output), rows, columns, kept, channels_last)

    def _erased(self, out: torch.Tensor, params: Params) -> torch.Tensor:
        if params.erasing is not None:
            self.erase(out, params.erasing)
        return out

    def _mix(
        self,
        out: torch.Tensor,
        images: torch.Tensor,
        numbers: torch.Tensor,
        params: Params,
        mix: MixParams,
        output: Output,
    ) -> None:
        from fastpipe.kernels import mix_shares
        from fastpipe.kernels.cuda.finish_ops import mix_into

        if output.table is None:
            raise ArgumentError(
                "MixUp and CutMix need a float pipeline. Found: uint8. Add ToFloat() before them"
            )
        values = (0.0, 0.0, 0.0) if params.erasing is None else params.erasing.value
        shares = self.moved(mix_shares(output.table, values, mix.pixel_weight))
        region = (0, 0, *out.shape[2:]) if mix.region is None else mix.region
        mix_into(out, images, numbers, shares, [int(side) for side in region])
