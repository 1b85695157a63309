"""Writing a `.beton` beside FFCV's own writer, and opening one of 1.3 million images. Prints one JSON object.

    python benchmarks/write_beton.py FOLDER [--pairs 10] [--copies 3] [--samples 1300000] [--workers 1]

FOLDER is a flat folder of photos; links make COPIES classes of it. `images_per_cpu_s` counts
the CPU time of the whole process tree after imports; the two writers take turns, and the first pair is
dropped. FFCV writes with RGBImageField("jpg"), quality 90, its own default. `open_*`: a fresh process opens a
synthetic file with all checks; once as we lay it out and once with the allocation table in random order.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from fastpipe.storage import Beton, open_index, write_beton
from fastpipe.storage.beton.format import ALLOCATION, DESCRIPTOR, HEADER, INT_KIND, RGB_KIND, row_dtype
from fastpipe.storage.beton.side import write_side

IMAGE_ENDINGS = (".jpg", ".jpeg")


def main() -> None:
    """Run both measurements and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--samples", type=int, default=1_300_000)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    record: dict[str, object] = {
        "command": " ".join(["python", "benchmarks/write_beton.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        **{name: version(name) for name in ("numpy", "pillow", "torch", "ffcv")},
    }
    with tempfile.TemporaryDirectory() as folder:
        record |= opening(Path(folder), args.samples)
        record |= writing(
            as_classes(args.folder, Path(folder), args.copies), Path(folder), args.pairs, args.workers
        )
    print(json.dumps(record, indent=1))


def as_classes(folder: Path, scratch: Path, copies: int) -> Path:
    """An image folder of `copies` classes, each with a link to every photo."""
    photos = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(IMAGE_ENDINGS)]
    for copy in range(copies):
        (scratch / "linked" / f"{copy:02}").mkdir(parents=True)
        for path in photos:
            (scratch / "linked" / f"{copy:02}" / path.name).symlink_to(path.resolve())
    return scratch / "linked"


def tree_cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    multiprocessing.active_children()  # reaps FFCV's, which its writer does not wait for
    return sum(os.times()[:4])


def write_with_ffcv(dataset: Any, path: Path, workers: int) -> None:
    """FFCV's writer, every image encoded anew."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=workers).from_indexed_dataset(dataset)
    while multiprocessing.active_children():
        time.sleep(0.01)


def writing(folder: Path, scratch: Path, pairs: int, workers: int) -> dict[str, object]:
    """Both writers in turns on the same photos."""
    from torchvision.datasets import ImageFolder

    index, dataset = open_index(folder, use_cache=False), ImageFolder(str(folder))
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(pairs + 1):
        before = tree_cpu_s()
        written = write_beton(index, scratch / "ours.beton", num_workers=workers, overwrite=True)
        middle = tree_cpu_s()
        write_with_ffcv(dataset, scratch / "theirs.beton", workers)
        after = tree_cpu_s()
        ours.append(middle - before)
        theirs.append(after - middle)
    if not np.array_equal(Beton(scratch / "ours.beton").labels, Beton(scratch / "theirs.beton").labels):
        raise SystemExit("the two files differ in their labels")
    rates = {"ours": [len(index) / s for s in ours[1:]], "ffcv": [len(index) / s for s in theirs[1:]]}
    ratios = [b / a for a, b in zip(ours[1:], theirs[1:], strict=True)]
    return {
        "images": len(index),
        "kept_as_they_were": written.num_kept,
        "workers": workers,
        "pairs": pairs,
        **{f"images_per_cpu_s_{name}": quartiles(values) for name, values in rates.items()},
        "ratio": quartiles(ratios),
    }


def quartiles(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [round(value, 2) for value in statistics.quantiles(values, n=4)]


def opening(folder: Path, count: int) -> dict[str, object]:
    """Open a synthetic file of `count` images in fresh processes."""
    spawn = multiprocessing.get_context("spawn")
    record: dict[str, object] = {"opened_samples": count}
    for name, shuffled in (("own", False), ("shuffled", True)):
        path = folder / f"{name}.beton"
        synthetic(path, count, shuffled)
        runs = []
        for _ in range(5):
            with spawn.Pool(1) as pool:
                runs.append(pool.apply(opened, (str(path),)))
        record |= {
            f"open_{name}_s_median": round(statistics.median(run[0] for run in runs), 3),
            f"open_{name}_cpu_s_median": round(statistics.median(run[1] for run in runs), 3),
            f"open_{name}_peak_mb": round(max(run[2] for run in runs) / 1e6, 1),
            f"open_{name}_kept_mb": round(max(run[3] for run in runs) / 1e6, 1),
            f"open_{name}_file_mb": round(path.stat().st_size / 1e6, 1),
        }
    return record


def opened(path: str) -> tuple[float, float, int, int]:
    """Seconds, CPU seconds, and the bytes that this process's peak and its resident memory grew by."""
    # Forget the peak of the imports. ru_maxrss would not do: it is handed down by the parent through exec.
    Path("/proc/self/clear_refs").write_text("5")
    before = psutil.Process().memory_info().rss
    start, cpu = time.perf_counter(), time.process_time()
    beton = Beton(path)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    beton.names[len(beton) - 1]
    status = Path("/proc/self/status").read_text()
    peak = status.split("VmHWM:")[1].split()[0]
    return seconds, cpu_s, int(peak) * 1024 - before, psutil.Process().memory_info().rss - before


def synthetic(path: Path, count: int, shuffled: bool) -> None:
    """A file whose images are holes of 64 bytes, its names spelt like ImageNet's."""
    start = -(-(HEADER.itemsize + 2 * DESCRIPTOR.itemsize + count * 24) // (1 << 23)) * (1 << 23)
    pointers = start + 64 * np.arange(count, dtype=np.uint64)
    rng = np.random.default_rng(0)
    names = [f"n{i * 1000 // count:08d}/n{i * 1000 // count:08d}_{i}.JPEG\0".encode() for i in range(count)]
    with open(path, "wb") as file:
        file.seek(start + 64 * count)
        arguments = write_side(
            file,
            classes=[f"n{k:08d}" for k in range(1000)],
            about={},
            checksums=np.zeros(count, np.uint32),
            offsets=np.cumsum([0, *map(len, names)]).astype(np.uint64),
            names=np.frombuffer(b"".join(names), np.uint8),
        )
        table_start = file.tell()
        table = np.zeros(count, ALLOCATION)
        table["sample_id"], table["ptr"], table["size"] = np.arange(count), pointers, 64
        file.write((rng.permutation(table) if shuffled else table).tobytes())
        rows = np.zeros(count, row_dtype([RGB_KIND, INT_KIND]))
        rows["f0"]["width"], rows["f0"]["height"] = 500, 375
        rows["f0"]["data_ptr"], rows["f1"] = pointers, np.arange(count) * 1000 // count
        descriptors = np.zeros(2, DESCRIPTOR)
        descriptors["type_id"] = RGB_KIND, INT_KIND
        descriptors["name"][0, :5] = np.frombuffer(b"image", np.uint8)
        descriptors["name"][1, :5] = np.frombuffer(b"label", np.uint8)
        descriptors[0]["arguments"][: len(arguments)] = np.frombuffer(arguments, np.uint8)
        header = np.zeros(1, HEADER)
        header[0] = (2, 2, 1 << 23, count, table_start)
        file.seek(0)
        for part in (header, descriptors, rows):
            file.write(part.tobytes())


if __name__ == "__main__":
    main()
