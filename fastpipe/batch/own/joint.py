"""Pipelines that get masks or boxes beside the image: which steps leave those as they are."""

from __future__ import annotations

from typing import Any, Final

import torchvision.transforms.v2 as v2

from fastpipe.transforms import flatten
from fastpipe.transforms.read import describe

# torchvision's v2 steps that change levels and never places. Masks and boxes pass through them unchanged.
_PHOTOMETRIC: Final = (
    *(v2.ColorJitter, v2.GaussianBlur, v2.Grayscale, v2.RandomAdjustSharpness, v2.RandomAutocontrast),
    *(v2.RandomChannelPermutation, v2.RandomEqualize, v2.RandomGrayscale, v2.RandomInvert),
    *(v2.RandomPhotometricDistort, v2.RandomPosterize, v2.RandomSolarize),
    *(v2.Identity, v2.Normalize, v2.PILToTensor, v2.RGB, v2.ToDtype, v2.ToImage),
)


def why_not_joint(pipeline: Any) -> str | None:
    """Why the pipeline may not be given masks or boxes beside the image; None if they stay as they are."""
    if type(pipeline) not in (v2.Compose, *_PHOTOMETRIC):
        return "its pipeline takes one image"
    for step in flatten(pipeline):
        if type(step) not in _PHOTOMETRIC:
            return (
                f"{describe(step)} may move pixels, so masks and boxes would have to move with them: only "
                f"torchvision's photometric v2 steps are lifted there"
            )
        if isinstance(step, v2.ToDtype) and isinstance(step.dtype, dict):
            return f"{describe(step)} converts masks and boxes as well"
    return None
