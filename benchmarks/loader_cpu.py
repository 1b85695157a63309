"""CPU-seconds per image of fastpipe's loader beside torch's own, doing the same work, in alternating epochs.

    python benchmarks/loader_cpu.py [FOLDER] [--workers 1 2] [--epochs 10] [--json FILE]

FOLDER is an image folder (root/class/*); the demo's training images when left out.
Work: RandomResizedCrop(176), flip, to float, normalise, batch 64.
CPU is user + system of the whole process tree (the workers of an epoch have ended when it is read);
the order of the pair changes every time, and the first pair is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe.storage import demo_splits

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pipeline(size: int) -> transforms.Compose:
    """The usual training transform."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def tree_cpu_s() -> float:
    """CPU-seconds of this process and of every child that has ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def one_epoch(make: Callable[[], torch.utils.data.DataLoader]) -> tuple[float, float, int]:
    """CPU-seconds, wall seconds and images of one epoch, workers started and ended within."""
    loader = make()
    cpu, wall, images = tree_cpu_s(), time.perf_counter(), 0
    for batch, _ in loader:
        images += len(batch)
    return tree_cpu_s() - cpu, time.perf_counter() - wall, images


def interval(values: list[float]) -> tuple[float, float]:
    """A 95 % bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, size=(2000, len(values))), axis=1)
    return float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def compare(root: Path, workers: int, epochs: int, batch_size: int, size: int) -> dict[str, object]:
    """Alternate the two loaders and compare them pair by pair."""
    options = {"batch_size": batch_size, "shuffle": True, "num_workers": workers}
    makers = {
        "fastpipe": lambda: fastpipe.DataLoader(ImageFolder(str(root), pipeline(size)), **options),
        "torch": lambda: torch.utils.data.DataLoader(ImageFolder(str(root), pipeline(size)), **options),
    }
    cpu: dict[str, list[float]] = {name: [] for name in makers}
    wall: dict[str, list[float]] = {name: [] for name in makers}
    for pair in range(epochs + 1):
        names = list(makers) if pair % 2 else list(makers)[::-1]
        for name in names:
            cpu_s, wall_s, images = one_epoch(makers[name])
            if pair:
                cpu[name].append(1e3 * cpu_s / images)
                wall[name].append(1e3 * wall_s / images)
    ratios = [a / b for a, b in zip(cpu["fastpipe"], cpu["torch"], strict=True)]
    walls = [a / b for a, b in zip(wall["fastpipe"], wall["torch"], strict=True)]
    return {
        "data": root.name,
        "workers": workers,
        "n": epochs,
        "images": images,
        "cpu_ms_per_image": {name: round(statistics.median(values), 4) for name, values in cpu.items()},
        "cpu_ratio_median": round(statistics.median(ratios), 4),
        "cpu_ratio_95": [round(bound, 4) for bound in interval(ratios)],
        "cpu_ratio_min_max": [round(min(ratios), 4), round(max(ratios), 4)],
        "wall_ratio_median": round(statistics.median(walls), 4),
        "wall_ratio_95": [round(bound, 4) for bound in interval(walls)],
        "wall_ratio_min_max": [round(min(walls), 4), round(max(walls), 4)],
    }


def main() -> None:
    """Print one JSON object for each number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="an image folder (default: the demo's)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--size", type=int, default=176)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or demo_splits().train
    warnings.filterwarnings("ignore", message=".*EXIF.*")
    record = {
        "versions": {
            "fastpipe": fastpipe.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "pillow": PIL.__version__,
            "python": platform.python_version(),
        },
        "cpus": os.cpu_count(),
        "results": [
            compare(folder, workers, arguments.epochs, arguments.batch_size, arguments.size)
            for workers in arguments.workers
        ],
    }
    text = json.dumps(record, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
