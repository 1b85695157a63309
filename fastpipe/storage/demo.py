"""The demo data: crops of 16 photos that are part of the scikit-image and scikit-learn wheels."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

from PIL import Image

from fastpipe.errors import DataError, MissingExtraError
from fastpipe.extras import install_command
from fastpipe.storage.progress import Progress, reporting
from fastpipe.storage.splits import Splits
from fastpipe.system.files import build_once, user_cache_dir

__all__ = ["DEMO_NOTE", "demo_splits"]

DEMO_NOTE = (
    "Demo data: instance recognition ('which of 16 photos is this crop from?'), "
    "not generalisation to new objects."
)

# Class name -> file inside the wheel. scikit-image: see its data licences (CC0, public domain or BSD for
# these); china and flower: CC-BY-2.0, by danielbuechele and vultilion.
_SKIMAGE = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble": "hubble_deep_field.jpg",
    "moon": "moon.png",
    "motorcycle": "motorcycle_left.png",
    "page": "page.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "tissue": "ihc.png",
}
_SKLEARN = {"china": "china.jpg", "flower": "flower.jpg"}

_VERSION = 1
_QUALITY = 90
# The share of the photo's width from which each split is cut: disjoint, with a gap of 4 %.
_STRIPS = {"train": (0.0, 0.62), "validation": (0.66, 1.0)}
_COUNTS = {"train": 150, "validation": 40}
# A crop's side as a share of the photo's width: at least 84 pixels (the smallest photo is 384 wide), and
# shrunk to 192 if the photo is large, so a file stays near 10 kB.
_SIDE = (0.22, 0.33)
_MAX_STORED = 192


def demo_splits(
    cache_dir: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
) -> Splits:
    """Return the demo data set, building it in the cache on first use (seconds, deterministic).

    train: 16 classes x 150 crops from the left 62 % of each photo; validation: 16 x 40 from the right 34 %.
    RGB JPEGs, 84 to 192 pixels a side. Show DEMO_NOTE with every result on it. Raises MissingExtraError
    without scikit-image or scikit-learn, DataError if a photo is missing from its wheel or the cache cannot
    be written.
    """
    target = user_cache_dir(cache_dir) / "demo"
    fingerprint = {
        "version": _VERSION,
        "counts": _COUNTS,
        "strips": {name: list(strip) for name, strip in _STRIPS.items()},
        "side": list(_SIDE),
        "quality": _QUALITY,
    }

    def build(folder: Path) -> None:
        photos = demo_photos()
        with reporting("Building the demo data", progress) as report:
            for done, (name, path) in enumerate(sorted(photos.items())):
                _cut(name, path, folder)
                report(done + 1, len(photos))

    build_once(target, fingerprint, build)
    return Splits(train=target / "train", validation=target / "validation")


def demo_photos() -> dict[str, Path]:
    """Return the photo of each class. The photos are part of the wheels, so nothing is downloaded.

    Raises MissingExtraError without scikit-image or scikit-learn, DataError if a photo is missing.
    """
    skimage = _package_dir("skimage", "scikit-image") / "data"
    sklearn = _package_dir("sklearn", "scikit-learn") / "datasets" / "images"
    photos = {name: skimage / file for name, file in _SKIMAGE.items()}
    photos |= {name: sklearn / file for name, file in _SKLEARN.items()}
    absent = sorted(path.name for path in photos.values() if not path.is_file())
    if absent:
        raise DataError(
            f"the installed scikit-image or scikit-learn lacks {', '.join(absent)}. "
            f"Install them from their wheels: {install_command('demo', '--force-reinstall')}"
        )
    return photos


def _package_dir(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)  # Located, not imported: importing both takes seconds.
    if spec is None or spec.origin is None:
        raise MissingExtraError(package, "demo", "the demo data")
    return Path(spec.origin).parent


def _cut(name: str, path: Path, folder: Path) -> None:
    with Image.open(path) as opened:
        photo = opened.convert("RGB")
    for split, count in _COUNTS.items():
        target = folder / split / name
        target.mkdir(parents=True)
        # Python promises the same sequence from random() in every version; NumPy does not.
        source = random.Random(f"fastpipe demo {_VERSION} {name} {split}")
        for number in range(count):
            _crop(photo, _STRIPS[split], source).save(
                target / f"{number:03d}.jpg", quality=_QUALITY, subsampling=0
            )


def _crop(photo: Image.Image, strip: tuple[float, float], source: random.Random) -> Image.Image:
    left, right = round(strip[0] * photo.width), round(strip[1] * photo.width)
    low, high = _SIDE
    side = min(round((low + (high - low) * source.random()) * photo.width), photo.height)
    x = left + int(source.random() * (right - left - side + 1))
    y = int(source.random() * (photo.height - side + 1))
    crop = photo.crop((x, y, x + side, y + side))
    if side > _MAX_STORED:
        crop = crop.resize((_MAX_STORED, _MAX_STORED), Image.Resampling.BOX, reducing_gap=None)
    return crop
