"""The data of scripts/same-bytes: data sets, transforms, and photos of all kinds.

python same_data.py odd DATA       # DATA/odd, and DATA/broken with two files that cannot be read
python same_data.py damage DATA    # DATA/damaged.beton from DATA/photos.beton
"""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

__all__ = ["DATASETS", "TRANSFORMS", "opened"]

Transform = Callable[[Any], Any]
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _behind(*steps: Any, crop: Any = None) -> Transform:
    """The usual pipeline with `steps` between the crop and the flip."""
    crop = crop or v1.RandomResizedCrop(64)
    tail = [v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(_MEAN, _STD)]
    made: Transform = v1.Compose([crop, *steps, *tail])
    return made


def _opaque(image: Image.Image) -> torch.Tensor:
    """An opaque function."""
    tensor: torch.Tensor = _behind()(image.convert("RGB"))
    return tensor + torch.rand(())


def _v2() -> Transform:
    steps = [
        v2.RandomResizedCrop(64, antialias=True),
        v2.RandAugment(),
        v2.TrivialAugmentWide(),
        v2.ToImage(),
    ]
    made: Transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)])
    return made


TRANSFORMS: Mapping[str, Callable[[], Transform]] = {
    "crop": _behind,
    "centre": lambda: v1.Compose(
        [v1.Resize(72), v1.CenterCrop(64), v1.ToTensor(), v1.Normalize(_MEAN, _STD)]
    ),
    "bicubic": lambda: _behind(
        crop=v1.RandomResizedCrop(64, interpolation=v1.InterpolationMode.BICUBIC, scale=(0.3, 1.0))
    ),
    "padded": lambda: _behind(crop=v1.Compose([v1.Resize((64, 64)), v1.RandomCrop(64, padding=6)])),
    "uint8": lambda: v1.Compose([v1.RandomResizedCrop(64), v1.RandomHorizontalFlip(), v1.PILToTensor()]),
    "v1 policies": lambda: _behind(v1.RandAugment(), v1.TrivialAugmentWide()),
    "v2 policies": _v2,
    "jitter": lambda: _behind(v1.ColorJitter(0.4, 0.4, 0.4)),
    "opaque": lambda: _opaque,
}


def opened(data: Path, transform: Transform, name: str) -> Any:
    """The data set that fastpipe opens for a path."""
    import fastpipe

    return fastpipe.DataLoader(data / name, transform=transform).dataset


def _mixed(data: Path, transform: Transform) -> Any:
    return ConcatDataset([opened(data, transform, name) for name in ("photos", "odd.beton")])


DATASETS: Mapping[str, Callable[[Path, Transform], Any]] = {
    "mixed": _mixed,
    "subset": lambda data, transform: Subset(_mixed(data, transform), range(0, 90, 3)),
    "image folder": lambda data, transform: ImageFolder(data / "photos", transform),
}


def make_odd(folder: Path) -> None:
    """odd/: photos of many sizes and kinds. broken/: the same, with one truncated and one empty file."""
    source = np.random.default_rng(11)
    for number, (height, width) in enumerate(
        [(90, 120), (333, 80), (64, 64), (37, 211), (300, 201), (48, 50)] * 4
    ):
        small = source.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        photo = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        mode = ("RGB", "L", "RGB", "CMYK")[number % 4]
        path = folder / "odd" / f"class{number % 2}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.convert(mode).save(
            path, quality=70 + number, progressive=number % 3 == 0, subsampling=number % 3
        )
    for number, mode in enumerate(("RGBA", "P", "L", "RGB")):
        image = Image.fromarray(source.integers(0, 256, (70, 60, 3), dtype=np.uint8)).convert(mode)
        image.save(folder / "odd" / "class0" / f"picture{number}.png")
    shutil.copytree(folder / "odd", folder / "broken")
    stream = io.BytesIO()
    Image.fromarray(source.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(stream, "JPEG")
    (folder / "broken" / "class0" / "cut.jpg").write_bytes(stream.getvalue()[:3000])
    (folder / "broken" / "class1" / "empty.jpg").write_bytes(b"")


def damage(data: Path) -> None:
    """damaged.beton: photos.beton with zeros in three of its JPEGs, from their headers on."""
    content = bytearray((data / "photos.beton").read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", content)]
    for start in starts[2:20:7]:
        content[start + 2 : start + 400] = bytes(398)
    (data / "damaged.beton").write_bytes(content)


if __name__ == "__main__":
    {"odd": make_odd, "damage": damage}[sys.argv[1]](Path(sys.argv[2]))
