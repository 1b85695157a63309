"""CPU-seconds per image of backend="dali" beside a DALI pipeline written by hand, and 88 px beside 176 px.

    python benchmarks/dali_cpu.py FOLDER [--epochs 10] [--size 176] [--json FILE]

FOLDER is an image folder (root/class/*) of JPEGs; what DALI is not given (other formats, CMYK) and
progressive files are left out. By hand: external_source of files read in Python, a box drawn for each by the
same function of the same uniform numbers, decoders.image_slice, antialiased resize, flip and normalisation
by crop_mirror_normalize. Ours: the same work, flip and normalisation in the device stage, in both numerics.
One DALI thread each, batch 64. CPU is user + system of the process; the order of the sides turns round every
time, and the first round is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali as dali
import PIL
import torch
from nvidia.dali import fn, types
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe.backends.dali.samples import jpeg_size
from fastpipe.decode import draw_box, num_uniforms
from fastpipe.rng import Stream, permutation, uniforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64


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


def served(dataset: ImageFolder) -> list[int]:
    """The samples that DALI decodes and that are not progressive."""
    kept = []
    for index, (path, _) in enumerate(dataset.samples):
        data = Path(path).read_bytes()
        if jpeg_size(data) is not None and b"\xff\xc2\x00" not in data:
            kept.append(index)
    return kept


def by_hand(dataset: Subset, size: int) -> Iterator[Any]:
    """Batches of a plain DALI pipeline with the same boxes, sizes known beforehand."""
    paths = [dataset.dataset.samples[index][0] for index in dataset.indices]
    spec = fastpipe.augment.RandomResizedCrop(size=(size, size))
    order = permutation(1, 0, len(paths))
    parts = iter([order[at : at + BATCH] for at in range(0, len(order), BATCH)])

    def source() -> tuple[list[Any], ...]:
        ids = next(parts)
        draws = uniforms(1, 0, ids, np.zeros_like(ids), Stream.CROP, num_uniforms(spec)).tolist()
        data, starts, shapes = [], [], []
        for place, index in enumerate(ids.tolist()):
            with open(paths[index], "rb") as file:
                data.append(np.frombuffer(file.read(), dtype=np.uint8))
            box = draw_box(spec, draws[place], *SIZES[paths[index]])
            starts.append(np.array([box.top, box.left], dtype=np.int32))
            shapes.append(np.array([box.height, box.width], dtype=np.int32))
        return data, starts, shapes

    graph = dali.Pipeline(batch_size=BATCH, num_threads=1, device_id=None, seed=1, exec_dynamic=True)
    with graph:
        data, start, shape = fn.external_source(source=source, num_outputs=3, batch=True)
        images = fn.decoders.image_slice(
            data, start=start, shape=shape, axes=[0, 1], adjust_orientation=False, output_type=types.RGB
        )
        images = fn.resize(images, size=[size, size], antialias=True, subpixel_scale=False)
        images = fn.crop_mirror_normalize(
            images,
            mirror=fn.random.coin_flip(),
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
            dtype=types.FLOAT,
        )
        graph.set_outputs(images)
    graph.build()
    while True:
        try:
            (images,) = graph.run()
        except StopIteration:
            return
        yield torch.from_numpy(np.asarray(images.as_tensor()))


def ours(dataset: Subset, size: int, numerics: Any) -> Iterator[Any]:
    """Batches of the loader."""
    dataset.dataset.transform = pipeline(size)
    loader = fastpipe.DataLoader(
        dataset, batch_size=BATCH, shuffle=True, seed=1, num_workers=1, backend="dali", numerics=numerics
    )
    for images, _ in loader:
        yield images


SIZES: dict[str, tuple[int, int]] = {}


def one_epoch(make: Callable[[], Iterator[Any]]) -> float:
    """CPU milliseconds per image."""
    before, images = time.process_time(), 0
    for batch in make():
        images += len(batch)
    return 1e3 * (time.process_time() - before) / images


def summary(ratios: list[float]) -> dict[str, Any]:
    """Median, quartiles and range."""
    quartiles = np.quantile(ratios, [0.25, 0.75])
    return {
        "median": round(statistics.median(ratios), 3),
        "quartiles": [round(float(value), 3) for value in quartiles],
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=176)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = ImageFolder(str(arguments.folder), pipeline(arguments.size))
    dataset = Subset(folder, served(folder))
    for index in dataset.indices:
        path = folder.samples[index][0]
        SIZES[path] = jpeg_size(Path(path).read_bytes()) or (0, 0)
    size, half = arguments.size, arguments.size // 2
    sides: dict[str, Callable[[], Iterator[Any]]] = {
        "hand": lambda: by_hand(dataset, size),
        "exact": lambda: ours(dataset, size, "exact"),
        "fast": lambda: ours(dataset, size, "fast"),
        "exact half": lambda: ours(dataset, half, "exact"),
        "fast half": lambda: ours(dataset, half, "fast"),
    }
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(arguments.epochs + 1):
        names = list(sides) if number % 2 else list(sides)[::-1]
        for name in names:
            cpu = one_epoch(sides[name])
            if number:
                spent[name].append(cpu)

    def ratio(above: str, below: str) -> dict[str, Any]:
        return summary([a / b for a, b in zip(spent[above], spent[below], strict=True)])

    record = {
        "versions": {
            "fastpipe": fastpipe.__version__,
            "dali": dali.__version__,
            "torch": torch.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "cpus": os.cpu_count(),
        "images": len(dataset),
        "size": size,
        "n": arguments.epochs,
        "cpu_ms_per_image": {name: summary(values) for name, values in spent.items()},
        "exact_to_hand": ratio("exact", "hand"),
        "fast_to_hand": ratio("fast", "hand"),
        "exact_half_to_full": ratio("exact half", "exact"),
        "fast_half_to_full": ratio("fast half", "fast"),
    }
    text = json.dumps(record, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
