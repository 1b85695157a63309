"""CPU-seconds per image: a CSV beside the folder with its files, CIFAR-10 in memory beside torch's loader.

    python benchmarks/data_sources.py [FOLDER] [--workers 0 2] [--pairs 10] [--json FILE]

FOLDER is an image folder (root/class/*); the demo's training images when left out.
csv:   fastpipe.from_csv and torchvision's ImageFolder, both by fastpipe's loader: RandomResizedCrop(176),
       flip, to float, normalise, batch 64. Limit: 1.02. Opening them is timed apart.
cifar: 50,000 images of 32 x 32 as torchvision keeps CIFAR-10, by fastpipe's loader and by torch's, whose
       items CIFAR10.__getitem__ makes: RandomCrop(32, padding=4), flip, to float, normalise, batch 512. The
       levels are random: nothing is decoded, so their values cost nothing. Limit: 0.10. Once with the
       backend that "auto" chooses, and once with "torchvision", whose workers are processes.
CPU is user + system of the whole process tree (the workers of an epoch have ended when it is read);
the order of the pair changes every time, and the first pair is thrown away.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from torchvision import transforms
from torchvision.datasets import CIFAR10, ImageFolder

import fastpipe
from fastpipe.storage import demo_splits

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGE = transforms.Compose(
    [
        transforms.RandomResizedCrop(176),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)
SMALL = transforms.Compose(
    [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)
Make = Callable[[], Any]


def tree_cpu_s() -> float:
    """CPU-seconds of this process and of every child that has ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def one_epoch(make: Make) -> float:
    """CPU-milliseconds per image of one epoch, workers started and ended within."""
    loader = make()
    begin, images = tree_cpu_s(), 0
    for batch, _ in loader:
        images += len(batch)
    return 1e3 * (tree_cpu_s() - begin) / images


def compare(ours: Make, theirs: Make, pairs: int) -> dict[str, Any]:
    """Alternate the two; medians and quartiles of both and of their ratio within the pairs."""
    costs: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs + 1):
        for side in (0, 1) if pair % 2 else (1, 0):
            cost = one_epoch((ours, theirs)[side])
            if pair:
                costs[side].append(cost)
    ratios = [a / b for a, b in zip(*costs, strict=True)]
    named = {"ours_cpu_ms": costs[0], "theirs_cpu_ms": costs[1], "ratio": ratios}
    return {"n": pairs, **{name: spread(values) for name, values in named.items()}}


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return {"median": round(statistics.median(values), 5), "q1": round(low, 5), "q3": round(high, 5)}


def seconds(make: Callable[[], Any]) -> float:
    """CPU-seconds of one call."""
    begin = tree_cpu_s()
    make()
    return round(tree_cpu_s() - begin, 4)


def csv_and_folder(root: Path, workers: int, pairs: int) -> dict[str, Any]:
    """The same files by a CSV and by their folder."""
    folder = ImageFolder(str(root), LARGE)
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as file:
        rows = [(path, folder.classes[label]) for path, label in folder.samples]
        csv.writer(file).writerows([("path", "label"), *rows])
        file.flush()
        listed = fastpipe.from_csv(file.name, transform=LARGE)
        opening = {
            "csv_s": seconds(lambda: fastpipe.from_csv(file.name)),
            "folder_s": seconds(lambda: ImageFolder(str(root))),
        }
    options: dict[str, Any] = {"batch_size": 64, "shuffle": True, "seed": 0, "num_workers": workers}
    options["backend"] = "torchvision"

    def of(dataset: Any) -> Make:
        return lambda: fastpipe.DataLoader(dataset, **options)

    check(of(listed), of(folder))
    found = compare(of(listed), of(folder), pairs)
    return {"what": "csv / folder", "workers": workers, "images": len(folder), "opening": opening, **found}


def cifar(num: int, workers: int, pairs: int, backend: str) -> dict[str, Any]:
    """torchvision's CIFAR10 by fastpipe's loader and by torch's."""
    dataset = object.__new__(CIFAR10)
    dataset.data = np.random.default_rng(0).integers(0, 256, (num, 32, 32, 3), np.uint8)
    dataset.targets = [number % 10 for number in range(num)]
    dataset.transform, dataset.target_transform = SMALL, None
    options: dict[str, Any] = {"batch_size": 512, "shuffle": True, "num_workers": workers}
    ours = fastpipe.DataLoader(dataset, backend=backend, **options)
    assert ours.explain().lifted
    theirs = torch.utils.data.DataLoader(dataset, **options)
    found = compare(lambda: ours, lambda: theirs, pairs)
    choice = ours.explain().choice
    assert choice is not None
    what = f"CIFAR-10: fastpipe ({backend}: {choice.backend}) / torch"
    return {"what": what, "workers": workers, "images": num, **found}


def check(ours: Make, theirs: Make) -> None:
    """Both sides must give the same first batch."""
    one, two = next(iter(ours())), next(iter(theirs()))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def main() -> None:
    """Print one JSON object with a result for each comparison and number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="an image folder (default: the demo's)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--cifar-images", type=int, default=50_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.pairs < 2:
        parser.error("--pairs must be at least 2: one pair has no quartiles")
    root = arguments.folder or demo_splits().train
    warnings.filterwarnings("ignore", message=".*EXIF.*")
    results = []
    for workers in arguments.workers:
        results.append(csv_and_folder(root, workers, arguments.pairs))
        results += [
            cifar(arguments.cifar_images, workers, arguments.pairs, backend)
            for backend in ("auto", "torchvision")
        ]
    versions = {
        "fastpipe": fastpipe.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }
    text = json.dumps({"versions": versions, "cpus": os.cpu_count(), "results": results}, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
