"""CPU-seconds per image of a script's own data set: fastpipe's loader, which lifts it by proof, and torch's.

    python benchmarks/own_data_set.py FOLDER [--workers 0 2] [--pairs 8] [--json FILE]

FOLDER holds images at any depth. The data set opens each by Pillow, converts it to RGB, and calls a pipeline:
RandomResizedCrop(176), flip, RandAugment, to float, normalise; batch 64. Loaders:

torch:       torch's DataLoader.
whole:       fastpipe's, with the device stage on the CPU, whose time counts: the same work as torch's.
host:        fastpipe's with engine="none": what is left on the host if the device stage is on a GPU.

CPU is user + system of the whole process tree (the workers of an epoch have ended when it is read). The
three alternate, the order turns at every round, and the first round is thrown away. The trial before the
first epoch is not in it, and is timed apart. Limit: 0.75 of torch's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms

import fastpipe

Make = Callable[[], Any]
LIMIT = 0.75
SIDES = ("torch", "whole", "host")


class Own(torch.utils.data.Dataset[Any]):
    """The data set of many projects: a list of files, Pillow, a transform."""

    def __init__(self, files: list[Path], transform: Any) -> None:
        self.files = [str(file) for file in files]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB")), index


def pipeline(*, random: bool) -> Any:
    """The pipeline that is measured; without its random steps, the one that is checked."""
    crop = transforms.RandomResizedCrop(176) if random else transforms.Resize((176, 176))
    drawn = [transforms.RandomHorizontalFlip(), transforms.RandAugment()] if random else []
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return transforms.Compose([crop, *drawn, transforms.ToTensor(), normalise])


def tree_cpu_s() -> float:
    """CPU-seconds of this process and of every child that has ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def one_epoch(loader: Any) -> float:
    """CPU-milliseconds per image of one epoch, workers started and ended within."""
    begin, images = tree_cpu_s(), 0
    for batch, *_ in loader:
        images += len(batch)
    return 1e3 * (tree_cpu_s() - begin) / images


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return {"median": round(statistics.median(values), 4), "q1": round(low, 4), "q3": round(high, 4)}


def check(files: list[Path]) -> None:
    """A pipeline without draws must give torch's batches."""
    dataset = Own(files[:64], pipeline(random=False))
    ours = fastpipe.DataLoader(dataset, 32, strict_lift=True)
    for (images, labels), (others, expected) in zip(
        ours, torch.utils.data.DataLoader(dataset, 32), strict=True
    ):
        assert torch.equal(images, others) and torch.equal(labels, expected)


def measure(files: list[Path], workers: int, rounds: int) -> dict[str, Any]:
    """Costs of the three loaders, and the ratios within the rounds."""
    dataset = Own(files, pipeline(random=True))
    options: dict[str, Any] = {"batch_size": 64, "shuffle": True, "num_workers": workers}
    loaders = {
        "torch": torch.utils.data.DataLoader(dataset, **options),
        "whole": fastpipe.DataLoader(dataset, device="cpu", strict_lift=True, **options),
        "host": fastpipe.DataLoader(dataset, device="cpu", engine="none", strict_lift=True, **options),
    }
    begin = tree_cpu_s()
    loaders["whole"].planned()
    trial_s = tree_cpu_s() - begin
    costs: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds + 1):
        turn = number % len(SIDES)
        for side in SIDES[turn:] + SIDES[:turn]:
            cost = one_epoch(loaders[side])
            if number:
                costs[side].append(cost)
    ratios = {
        side: spread([ours / theirs for ours, theirs in zip(costs[side], costs["torch"], strict=True)])
        for side in SIDES[1:]
    }
    found = {side: spread(values) for side, values in costs.items()}
    return {"workers": workers, "n": rounds, "cpu_ms": found, "ratio": ratios, "trial_s": round(trial_s, 3)}


def main() -> None:
    """Print one JSON object with a result for each number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--json", type=Path, help="also write the result here")
    asked = parser.parse_args()
    suffixes = {".jpg", ".jpeg", ".png", ".JPEG"}
    files = sorted(path for path in asked.folder.rglob("*") if path.suffix in suffixes)
    check(files)
    result = {
        "limit": LIMIT,
        "images": len(files),
        "results": [measure(files, workers, asked.pairs) for workers in asked.workers],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "cpus": os.cpu_count(),
    }
    text = json.dumps(result, indent=1)
    if asked.json is not None:
        asked.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
