"""The Hot pipeline on photos, for visual inspection: the results of RandAugment, ColOut and MixUp.

`python scripts/gallery.py OUT.jpg --photos demo` puts this sheet below the operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from fastpipe.device.draws.draw import Params, draw
from fastpipe.device.draws.names import policy_operations
from fastpipe.device.stage import DeviceStage
from fastpipe.transforms.mix_specs import ColOut, MixUp
from fastpipe.transforms.policy_specs import RandAugment
from fastpipe.transforms.specs import HorizontalFlip, ToFloat
from fastpipe.types import HostBatch, Plan, Request, Spec

__all__ = ["HOT", "draw_hot", "words_of"]

HOT: tuple[Spec, ...] = (
    HorizontalFlip(p=0.5),
    RandAugment(depth=1, severity=10.0),
    ColOut(p_row=0.05, p_col=0.05),
    ToFloat(),
    MixUp(0.25),
)
"""Hot's device steps without the normalisation, so that the result can be looked at."""

_GAP, _LINE = 4, 14


def draw_hot(
    photos: Sequence[Image.Image], *, side: int = 176, epochs: int = 4, seed: int = 119
) -> Image.Image:
    """A row for each photo: the crop, then the result of each epoch's draws.

    photos: RGB, at least one, cropped to squares of `side` pixels. Each column is one batch of them all: one
    ColOut and one MixUp; the words below an image are its draws.
    """
    squares = [
        ImageOps.fit(photo.convert("RGB"), (side, side), Image.Resampling.BILINEAR) for photo in photos
    ]
    batch = torch.from_numpy(np.stack([np.asarray(square) for square in squares]))
    step = side + _GAP
    sheet = Image.new("RGB", (step * (1 + epochs), _LINE + len(photos) * (step + 2 * _LINE)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((0, 1), "Hot: after the crop | epochs of flip, RandAugment, ColOut, MixUp", fill="black")
    for row, square in enumerate(squares):
        sheet.paste(square, (0, _top(row, step)))
    for epoch in range(epochs):
        params, images = _epoch(batch, seed, epoch)
        for row, image in enumerate(images):
            left, top = step * (1 + epoch), _top(row, step)
            sheet.paste(image, (left, top))
            for line, words in enumerate(words_of(params, row)):
                pen.text((left, top + side + line * (_LINE - 2)), words, fill="black")
    return sheet


def _top(row: int, step: int) -> int:
    return _LINE + row * (step + 2 * _LINE)


def _epoch(batch: torch.Tensor, seed: int, epoch: int) -> tuple[Params, list[Image.Image]]:
    num, side = len(batch), int(batch.shape[1])
    ids = np.arange(num, dtype=np.int64)
    request = Request(seed=seed, epoch=epoch, batch=0, ids=ids, repeats=np.zeros_like(ids))
    plan = Plan(decode=None, host=(), device=HOT, notes=())
    stage = DeviceStage(plan, device=torch.device("cpu"), num_classes=num)
    host = HostBatch(images=batch, labels=torch.arange(num, device="cpu"), request=request)
    pixels = stage(host).images.mul(255.0).round().to(torch.uint8).permute(0, 2, 3, 1)
    images = [Image.fromarray(image.contiguous().numpy()) for image in pixels]
    return draw(HOT, request, side, side), images


def words_of(params: Params, row: int) -> tuple[str, str]:
    """The draws of an image: its flip and operation, and those that the batch shares."""
    flip = params.flip is not None and bool(params.flip[row])
    policy = "" if params.ops is None else ", ".join(map(str, policy_operations(params.ops, row)))
    mix = params.mix
    mixed = "" if mix is None else f"MixUp {mix.weight:.2f} of photo {int(mix.partner[row]) + 1}"
    return ("flip, " if flip else "") + policy, mixed
