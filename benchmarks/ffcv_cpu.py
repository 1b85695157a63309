"""CPU-seconds per image of fastpipe's ffcv backend beside stock ffcv.Loader on the same .beton, alternating.

    python benchmarks/ffcv_cpu.py [FOLDER] [--threads 1 2] [--epochs 12] [--json FILE]

FOLDER holds images at any depth (default: the demo's); FFCV's own writer makes them JPEGs of quality 90.
The same for numerics="exact" beside the backend torchvision, both in this process; `--threads` alone leaves
the comparison with stock out.
Work: RandomResizedCrop, boxes equal in distribution, batch 64, uint8 out, no flip. "same" decodes whole
frames as stock does; "default" lets libjpeg-turbo decode large crops at 1/2, 1/4 or 1/8.
CPU is user + system of the process with all its threads; the order within a round changes every time and
the first round is thrown away.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import Squeeze, ToTensor
from ffcv.writer import DatasetWriter
from PIL import Image
from torchvision import transforms

import fastpipe
from fastpipe.backends.ffcv import fast as ffcv_fast
from fastpipe.storage import BetonDataset, demo_splits

SIZES = (176, 88)
SUFFIXES = (".jpg", ".jpeg", ".png")


class Photos:
    """The images of a folder as RGB, with labels that mean nothing."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(self.files[index]).convert("RGB"), index % 10


def write(folder: Path, path: Path) -> None:
    """The folder as a .beton file of JPEGs, by FFCV's own writer."""
    fields = {"image": RGBImageField(write_mode="jpg", jpeg_quality=90), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=2).from_indexed_dataset(Photos(folder))


def stock(path: Path, size: int, threads: int, batch_size: int) -> Callable[[], int]:
    """One epoch of ffcv.Loader; the loader, with its compiled code, is made once."""
    loader = Loader(
        str(path),
        batch_size=batch_size,
        num_workers=threads,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        pipelines={
            "image": [RandomResizedCropRGBImageDecoder((size, size)), ToTensor()],
            "label": [IntDecoder(), ToTensor(), Squeeze()],
        },
    )
    return lambda: sum(len(images) for images, _ in loader)


def ours(
    path: Path,
    size: int,
    threads: int,
    batch_size: int,
    *,
    scaled: bool = True,
    backend: str = "ffcv",
    numerics: Literal["exact", "fast"] = "fast",
) -> Callable[[], int]:
    """One epoch of fastpipe's loader without the device stage."""
    pipeline = transforms.Compose([transforms.RandomResizedCrop(size), transforms.ToTensor()])
    loader = fastpipe.DataLoader(
        BetonDataset(path, pipeline),
        batch_size,
        shuffle=True,
        num_workers=threads,
        backend=backend,
        numerics=numerics,
        engine="none",
    )

    def epoch() -> int:
        with decoding(scaled=scaled):
            return sum(len(images) for images, *_ in loader)

    return epoch


@contextmanager
def decoding(*, scaled: bool) -> Iterator[None]:
    """With scaled=False, decode whole frames only."""
    kept = ffcv_fast.dct_eighths
    if not scaled:
        ffcv_fast.dct_eighths = lambda crop, target: 8
    try:
        yield
    finally:
        ffcv_fast.dct_eighths = kept


def spent(epoch: Callable[[], int]) -> float:
    """CPU-milliseconds per image."""
    began = time.process_time()
    images = epoch()
    return 1e3 * (time.process_time() - began) / images


def interval(values: list[float]) -> list[float]:
    """A 95 % bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, size=(2000, len(values))), axis=1)
    return [round(float(np.quantile(medians, bound)), 4) for bound in (0.025, 0.975)]


def ratio(above: list[float], below: list[float]) -> dict[str, object]:
    """Median, its 95 % interval, and the extremes of the ratios round by round."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return {
        "median": round(statistics.median(ratios), 4),
        "95": interval(ratios),
        "min_max": [round(min(ratios), 4), round(max(ratios), 4)],
    }


def alternate(makers: dict[str, Callable[[], int]], epochs: int) -> dict[str, list[float]]:
    """CPU-milliseconds per image of each variant, round by round; the first round is thrown away."""
    cpu: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(epochs + 1):
        names = list(makers) if number % 2 else list(makers)[::-1]
        for name in names:
            cost = spent(makers[name])
            if number:
                cpu[name].append(cost)
    return cpu


def compare_exact(path: Path, epochs: int, batch_size: int) -> dict[str, Any]:
    """numerics="exact" on both backends without workers: the same bytes, so only the cost differs."""
    makers = {
        f"{backend}_{size}": ours(path, size, 0, batch_size, backend=backend, numerics="exact")
        for size in SIZES
        for backend in ("torchvision", "ffcv")
    }
    cpu = alternate(makers, epochs)
    large, small = SIZES
    return {
        "n": epochs,
        "cpu_ms_per_image": {name: round(statistics.median(values), 4) for name, values in cpu.items()},
        "ffcv / torchvision": {s: ratio(cpu[f"ffcv_{s}"], cpu[f"torchvision_{s}"]) for s in SIZES},
        f"{small} / {large}": {
            backend: ratio(cpu[f"{backend}_{small}"], cpu[f"{backend}_{large}"])
            for backend in ("torchvision", "ffcv")
        },
    }


def compare(path: Path, threads: int, epochs: int, batch_size: int) -> dict[str, Any]:
    """Alternate all variants and compare them round by round."""
    makers: dict[str, Callable[[], int]] = {}
    for size in SIZES:
        makers[f"stock_{size}"] = stock(path, size, threads, batch_size)
        makers[f"same_{size}"] = ours(path, size, threads, batch_size, scaled=False)
        makers[f"default_{size}"] = ours(path, size, threads, batch_size, scaled=True)
    cpu = alternate(makers, epochs)
    large, small = SIZES
    return {
        "threads": threads,
        "n": epochs,
        "cpu_ms_per_image": {name: round(statistics.median(values), 4) for name, values in cpu.items()},
        "same / stock": {size: ratio(cpu[f"same_{size}"], cpu[f"stock_{size}"]) for size in SIZES},
        "default / stock": {size: ratio(cpu[f"default_{size}"], cpu[f"stock_{size}"]) for size in SIZES},
        f"{small} / {large}": {
            name: ratio(cpu[f"{name}_{small}"], cpu[f"{name}_{large}"])
            for name in ("stock", "same", "default")
        },
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="a folder of images (default: the demo's)")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    photos = arguments.folder or demo_splits().train
    packages = ("ffcv", "torch", "numba", "numpy", "tbb")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photos.beton")
        write(photos, path)
        record = {
            "versions": {
                "fastpipe": fastpipe.__version__,
                "python": platform.python_version(),
                **{name: _version(name) for name in packages},
            },
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "images": len(Photos(photos)),
            "results": [
                compare(path, threads, arguments.epochs, arguments.batch_size)
                for threads in arguments.threads
            ],
            "exact": compare_exact(path, arguments.epochs, arguments.batch_size),
        }
    text = json.dumps(record, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
