"""One epoch on `turbo` in the installed package, compared with torchvision's backend (scripts/try-wheel)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe


def folder(root: Path) -> Path:
    """24 images of 2 classes: smooth noise, baseline and progressive."""
    rng = np.random.default_rng(0)
    for number in range(24):
        target = root / str(number % 2) / f"{number}.jpg"
        target.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8))
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(target, progressive=number % 5 == 0)
    return root


def main() -> None:
    """Print the batches that are equal. AssertionError where one is not, or an image went to Pillow."""
    assert shutil.which("c++") is None and shutil.which("gcc") is None, "a compiler is on the path"
    crop = transforms.Compose([transforms.RandomResizedCrop(64), transforms.ToTensor()])
    with tempfile.TemporaryDirectory() as scratch:
        place = folder(Path(scratch))
        made = {}
        for backend in ("turbo", "torchvision"):
            data = ImageFolder(str(place), crop)
            loader = fastpipe.DataLoader(data, 8, seed=1, shuffle=True, num_workers=1, backend=backend)
            made[backend] = [images for images, _ in loader]
            if backend == "turbo":
                assert not loader.stats().to_pillow, loader.stats()
        equal = [torch.equal(a, b) for a, b in zip(*made.values(), strict=True)]
    assert all(equal), equal
    print(f"{len(equal)} batches of turbo equal torchvision's: {fastpipe.__file__}")


if __name__ == "__main__":
    main()
