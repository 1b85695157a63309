"""What augmentation costs the host: CPU-seconds per image with RandAugment + ColOut + MixUp on, over off.

    python benchmarks/headline_host_cost.py [FOLDER] [--pairs 20] [--workers 2] [--quick] [--json FILE]

fastpipe side: the torchvision backend, crops of 176 pixels, engine="none" (the batch and the drawn parameters
are handed over, another processor applies them); on is RandAugment depth 1, ColOut 0.05 and MixUp 0.25, drawn
for every batch. torchvision side, for comparison: torch's own DataLoader with the same Composer operations by
Pillow in its workers, on over off. FOLDER is an image folder (root/class/*), the demo's when left out.

CPU is user + system of the whole process tree (workers end within the epoch), each epoch is one reading; on
and off alternate, the order within the pair turns, the first pair is thrown away. Interval: 95 % bootstrap of
the median ratio within pairs. The target is an upper end of at most 1.02.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe import augment
from fastpipe.storage import demo_splits

LIMIT = 1.02
SIZE, BATCH = 176, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HOT = (augment.RandAugment(depth=1), augment.ColOut(p_row=0.05, p_col=0.05), augment.MixUp(0.25))
BILINEAR = Image.Resampling.BILINEAR
ENHANCERS = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness)


class ComposerRandAugment:
    """Composer's RandAugment on one PIL image: `depth` of 13 operations, level U(0.1, 10)."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __call__(self, image: Image.Image) -> Image.Image:  # noqa: D102
        for _ in range(self.depth):
            image = self._one(image, int(np.random.randint(13)), np.random.uniform(0.1, 10.0))
        return image

    def _one(self, image: Image.Image, op: int, level: float) -> Image.Image:
        sign = 1 if np.random.rand() < 0.5 else -1
        if op == 0:
            return ImageOps.autocontrast(image)
        if op == 1:
            return ImageOps.equalize(image)
        if op == 2:
            return ImageOps.posterize(image, 4 - int(level * 0.4))
        if op == 3:
            return image.rotate(sign * int(level * 3), resample=BILINEAR)
        if op == 4:
            return ImageOps.solarize(image, 256 - int(level * 25.6))
        if op < 9:
            side, shear = int(level * image.width / 30), sign * 0.03 * level
            matrix = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
            matrix[(1, 3, 2, 5)[op - 5]] = shear if op < 7 else sign * side
            return image.transform(image.size, Image.Transform.AFFINE, matrix, BILINEAR)
        factor = np.random.uniform(1.0, 10.0) if sign > 0 else np.random.uniform(0.1, 1.0)
        return ENHANCERS[op - 9](image).enhance(factor)


def pipeline(*policy: Any) -> transforms.Compose:
    """The usual training transform, with a policy behind the flip."""
    first = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *policy]
    return transforms.Compose([*first, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def tree_cpu_s() -> float:
    """CPU-seconds of this process and of every child that has ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def one_epoch(make: Callable[[], Any], epochs: int) -> float:
    """Milliseconds of CPU per image over `epochs` epochs, workers started and ended within."""
    gc.collect()
    loader = make()
    cpu, images = tree_cpu_s(), 0
    for epoch in range(epochs):
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(epoch)
        for batch in loader:
            images += len(batch.images if hasattr(batch, "images") else batch[0])
    del loader
    gc.collect()
    return 1e3 * (tree_cpu_s() - cpu) / images


def interval(ratios: list[float]) -> list[float]:
    """A 95 % bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, size=(10_000, len(ratios))), axis=1)
    return [round(float(np.quantile(medians, share)), 4) for share in (0.025, 0.975)]


def compare(off: Callable[[], Any], on: Callable[[], Any], pairs: int, epochs: int) -> dict[str, Any]:
    """Alternate the two and compare within the pair."""
    taken: dict[str, list[float]] = {"off": [], "on": []}
    for pair in range(pairs + 1):
        order = [("off", off), ("on", on)]
        for name, make in order if pair % 2 else order[::-1]:
            spent = one_epoch(make, epochs)
            if pair:
                taken[name].append(spent)
    ratios = [on / off for off, on in zip(taken["off"], taken["on"], strict=True)]
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in taken.items()}
    return {
        "n": pairs,
        "cpu_ms_per_image": {name: round(q[1], 4) for name, q in quartiles.items()},
        "cpu_quartiles": {name: [round(q[0], 4), round(q[2], 4)] for name, q in quartiles.items()},
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_95": interval(ratios),
        "ratio_min_max": [round(min(ratios), 4), round(max(ratios), 4)],
    }


def folder(root: Path, most: int, *policy: Any) -> ImageFolder:
    """At most `most` images, evenly from the folder."""
    data = ImageFolder(str(root), pipeline(*policy))
    data.samples = data.imgs = data.samples[:: max(1, len(data.samples) // most)][:most]
    data.targets = [label for _, label in data.samples]
    return data


def sides(root: Path, workers: int, most: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """(off, on) of each comparison."""
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "num_workers": workers}

    def ours(extra: tuple[Any, ...]) -> Any:
        data = folder(root, most)
        settings = {"seed": 1, "engine": "none", "backend": "torchvision", "augment": extra}
        return fastpipe.DataLoader(data, **options, **settings)

    def theirs(*policy: Any) -> Any:
        return torch.utils.data.DataLoader(folder(root, most, *policy), **options)

    return {
        'fastpipe, engine="none": RandAugment 1 + ColOut + MixUp': (lambda: ours(()), lambda: ours(HOT)),
        "torch workers: RandAugment 1": (theirs, lambda: theirs(ComposerRandAugment(1))),
        "torch workers: RandAugment 2": (theirs, lambda: theirs(ComposerRandAugment(2))),
    }


def main() -> None:
    """Print one record; the exit status is 1 when the first comparison's interval ends above the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="an image folder (default: the demo's)")
    parser.add_argument("--pairs", type=int, default=24, help="pairs that count, of the first comparison")
    parser.add_argument(
        "--peer-pairs", type=int, default=8, help="pairs of the comparisons in torch's workers"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=1200, help="images in one reading")
    parser.add_argument("--quick", action="store_true", help="2 pairs each: does it run?")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    root = arguments.folder or demo_splits().train
    warnings.filterwarnings("ignore", message=".*EXIF.*")
    most = 128 if arguments.quick else arguments.images
    num = len(folder(root, most))
    epochs = max(1, most // num)
    started = time.perf_counter()
    results = {}
    for place, (name, (off, on)) in enumerate(sides(root, arguments.workers, most).items()):
        pairs = 2 if arguments.quick else arguments.pairs if place == 0 else arguments.peer_pairs
        results[name] = compare(off, on, pairs, epochs)
    record = {
        "what": f"CPU-seconds per image of the whole process tree, augmentation on over off, {SIZE} px",
        "command": " ".join(["python", "-P", *sys.argv]),
        "versions": {"python": platform.python_version(), "fastpipe": fastpipe.__version__}
        | {name: metadata.version(name) for name in ("torch", "torchvision", "pillow", "numpy", "numba")},
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count()},
        "data": {"images": num, "epochs_in_a_reading": epochs, "workers": arguments.workers, "batch": BATCH},
        "results": results,
        "limit": LIMIT,
        "wall_s": round(time.perf_counter() - started, 1),
    }
    text = json.dumps(record, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    first = next(iter(results.values()))
    sys.exit(0 if arguments.quick or first["ratio_95"][1] <= LIMIT else 1)


if __name__ == "__main__":
    main()
