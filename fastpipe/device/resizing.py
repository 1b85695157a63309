"""Resize on the device: nearest becomes rows and columns to pick, bilinear a pass before the last one.

images, params with resize -> images, params without, for an engine's `finish`
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fastpipe.device.draws.batch import ColOutParams
from fastpipe.device.draws.draw import Params, ResizeParams


def settle_resize(images: torch.Tensor, params: Params) -> tuple[torch.Tensor, Params]:
    """The batch uint8 [B,H,W,3] and equivalent parameters without `resize`.

    numba on the CPU and torch elsewhere give the same bytes. A bilinear resize includes the flip and ColOut
    that come before it; a nearest one is merged into ColOut's rows and columns.
    """
    resize = params.resize
    if resize is None:
        return images, params
    if resize.interpolation != "bilinear":
        height, width = int(images.shape[1]), int(images.shape[2])
        return images, replace(
            params, colout=nearest_picks(params.colout, resize, height, width), resize=None
        )
    picked = _picked(images, params)
    shrunk = _resized(picked, resize)
    return shrunk, replace(params, flip=None, colout=None, resize=None)


def nearest_picks(colout: ColOutParams | None, resize: ResizeParams, height: int, width: int) -> ColOutParams:
    """The rows and columns that a nearest resize keeps of those that ColOut kept; some may occur twice."""
    from fastpipe.kernels import nearest_sources

    rows = np.arange(height) if colout is None else colout.rows
    columns = np.arange(width) if colout is None else colout.columns
    return ColOutParams(
        rows=rows[nearest_sources(len(rows), resize.height, resize.interpolation)],
        columns=columns[nearest_sources(len(columns), resize.width, resize.interpolation)],
    )


def _picked(images: torch.Tensor, params: Params) -> torch.Tensor:
    """Flipped, unless the policy did it, and without the rows and columns that ColOut drops."""
    from fastpipe import kernels

    flip = params.flip if params.ops is None else None
    rows, columns = (None, None) if params.colout is None else (params.colout.rows, params.colout.columns)
    if rows is None and (flip is None or not flip.any()):
        return images
    if images.device.type != "cpu":
        layout = torch.channels_last
        picked = kernels.finish_torch(images, torch.uint8, None, flip, layout, rows, columns)
    else:
        num, height, width, _ = images.shape
        size = (height, width) if rows is None or columns is None else (len(rows), len(columns))
        picked = torch.empty(
            (num, 3, *size), dtype=torch.uint8, memory_format=torch.channels_last, device="cpu"
        )
        kernels.finish(images, picked, None, flip=flip, rows=rows, columns=columns)
    return picked.permute(0, 2, 3, 1)


def _resized(images: torch.Tensor, resize: ResizeParams) -> torch.Tensor:
    from fastpipe import kernels

    size = (resize.height, resize.width)
    if tuple(images.shape[1:3]) == size:
        return images
    if images.device.type != "cpu":
        return kernels.resize_torch(images, *size, antialias=resize.antialias)
    resized: torch.Tensor = kernels.resize(images, *size, antialias=resize.antialias)
    return resized
