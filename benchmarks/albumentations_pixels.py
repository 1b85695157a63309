"""How far albumentations' Normalize and Resize are from torchvision's, which ours equal.

Makes the table of docs/loader.md, of 20 images of the demo. Needs the extra `bench`.
Run: .venv/bin/python -P benchmarks/albumentations_pixels.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision import transforms as T

from fastpipe.storage import demo_splits, open_index

IMAGES = 20
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pixels = npt.NDArray[np.float64]


def images() -> list[Image.Image]:
    """Every so many-th image of the demo's validation, RGB."""
    index = open_index(demo_splits().validation)
    places = range(0, len(index), max(1, len(index) // IMAGES))[:IMAGES]
    return [Image.open(index.path(i)).convert("RGB") for i in places]


def normalised(image: Image.Image) -> tuple[Pixels, Pixels]:
    """By albumentations and by torchvision, [H, W, 3]."""
    theirs = A.Normalize(MEAN, STD)(image=np.asarray(image))["image"]
    ours = T.Compose([T.ToTensor(), T.Normalize(MEAN, STD)])(image).permute(1, 2, 0).numpy()
    return theirs.astype(np.float64), ours.astype(np.float64)


def resized(side: int, flag: int) -> Callable[[Image.Image], tuple[Pixels, Pixels]]:
    """The same of a resize to a square, as levels."""

    def both(image: Image.Image) -> tuple[Pixels, Pixels]:
        theirs = A.Resize(side, side, interpolation=flag)(image=np.asarray(image))["image"]
        return theirs.astype(np.float64), np.asarray(T.Resize((side, side))(image)).astype(np.float64)

    return both


def row(name: str, both: Callable[[Image.Image], tuple[Pixels, Pixels]]) -> str:
    """A row of the table: the share of pixels that differ, the mean and the largest difference."""
    pairs = [both(image) for image in images()]
    gaps = np.concatenate([np.abs(theirs - ours).reshape(-1, 3) for theirs, ours in pairs])
    return f"| {name} | {(gaps.max(axis=1) > 0).mean():.1%} | {gaps.mean():.3g} | {gaps.max():.3g} |"


def rows() -> Iterator[str]:
    """The table."""
    yield f"| {IMAGES} images | pixels that differ | mean difference | largest |"
    yield "|---|---|---|---|"
    yield row("`Normalize`", normalised)
    for side, change in ((224, "enlarged"), (64, "reduced")):
        for flag, name in ((cv2.INTER_LINEAR, "its default"), (cv2.INTER_AREA, "`INTER_AREA`")):
            yield row(f"`Resize({side}, {side})`, {change}, {name}", resized(side, flag))


if __name__ == "__main__":
    print("\n".join(rows()))
