"""Memory and time of the image folder index at ImageNet's size. Prints one JSON object.

    python benchmarks/index_scale.py [--files 1300000] [--classes 1000] [--real 20000]

`cached_open_s`: reading, checking and validating a cache of that many synthetic entries (1000 real, empty
class folders whose mtimes are compared; the files need not exist). `rss_*`: what a fresh process grows by.
`scan_*`: a real walk over empty files.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torchvision

from fastpipe.storage import IMG_EXTENSIONS, FolderIndex, image_sizes, open_index
from fastpipe.storage.index_cache import cache_place, ctime_ns
from fastpipe.storage.index_file import write_index
from fastpipe.storage.scan import Listing, listing_from_names

REPEATS = 5


def main() -> None:
    """Run both measurements and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1_300_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--real", type=int, default=20_000)
    args = parser.parse_args()
    logging.getLogger("fastpipe").setLevel(logging.ERROR)
    record = {
        "command": " ".join(["python", "benchmarks/index_scale.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpus": len(os.sched_getaffinity(0)),
        "repeats": REPEATS,
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FASTPIPE_CACHE"] = str(Path(folder) / "cache")
        record |= synthetic(Path(folder) / "synthetic", args.files, args.classes)
        record |= real(Path(folder) / "real", args.real)
    print(json.dumps(record, indent=1))


def synthetic(root: Path, num_files: int, num_classes: int) -> dict[str, object]:
    """Open a cache of `num_files` entries spelt like ImageNet's; nothing but the class folders is real."""
    per_class = -(-num_files // num_classes)
    names = {f"n{k:08d}": [f"n{k:08d}_{i * 13:d}.JPEG" for i in range(per_class)] for k in range(num_classes)}
    for name in names:
        (root / name).mkdir(parents=True)
        os.utime(root / name, ns=(10**18, 10**18))
    bare = listing_from_names(names)
    del names
    listing = Listing(
        classes=bare.classes,
        dirs=tuple((name, 10**18) for name in bare.classes),
        started_ns=time.time_ns(),
        blob=bare.blob,
        offsets=bare.offsets,
        labels=bare.labels,
    )
    count = len(listing.labels)
    cache = Path(cache_place(str(root), IMG_EXTENSIONS, None))
    cache.parent.mkdir(parents=True, exist_ok=True)
    # With every size known: the largest file and the longest check.
    sizes = np.random.default_rng(0).integers(100, 500, (count, 2)).astype(np.int32)
    num_bytes = sizes[:, 0].astype(np.int64)
    write = functools.partial(write_index, root_ctime_ns=ctime_ns(str(root)))
    write_s, _ = timed(lambda: write(str(cache), listing, IMG_EXTENSIONS, num_bytes, sizes), 1)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool:
        resident = pool.apply(growth, (str(root),))
    open_s, index = timed(lambda: open_index(root), REPEATS)
    looked_up_s, _ = timed(lambda: lookup(index, 100_000), REPEATS)
    return {
        "entries": len(index),
        "array_bytes_per_file": round(index.nbytes / len(index), 1),
        "rss_bytes_per_file": round(resident / len(index), 1),
        "cache_file_mb": round(cache.stat().st_size / 1e6, 1),
        "cache_write_s": round(write_s[0], 3),
        "cached_open_s_median": round(statistics.median(open_s), 3),
        "cached_open_s_max": round(max(open_s), 3),
        "path_lookup_us": round(statistics.median(looked_up_s) / 100_000 * 1e6, 2),
    }


def growth(root: str) -> int:
    """Return the bytes of memory this process holds more once the index is open."""
    before = psutil.Process().memory_info().rss
    index = open_index(root)
    return int(psutil.Process().memory_info().rss - before) + 0 * len(index)


def real(root: Path, num_files: int) -> dict[str, object]:
    """Walk a tree of empty files, cold of our cache and warm, beside torchvision's own listing."""
    for k in range(20):
        (root / f"class{k:02d}").mkdir(parents=True)
        for i in range(num_files // 20):
            (root / f"class{k:02d}" / f"{i:06d}.jpg").touch()
    scan_s, index = timed(lambda: open_index(root, use_cache=False), REPEATS)
    theirs_s, theirs = timed(lambda: torchvision.datasets.ImageFolder(root), REPEATS)
    if [index.path(i) for i in range(len(index))] != [path for path, _ in theirs.samples]:
        raise SystemExit("the index and ImageFolder differ")
    return {
        "real_files": len(index),
        "scan_s_median": round(statistics.median(scan_s), 3),
        "scan_us_per_file": round(statistics.median(scan_s) / len(index) * 1e6, 2),
        "torchvision_us_per_file": round(statistics.median(theirs_s) / len(index) * 1e6, 2),
    }


def lookup(index: FolderIndex, count: int) -> int:
    """Make `count` paths at random places."""
    places = np.random.default_rng(1).integers(0, len(index), count).tolist()
    return sum(len(index.path(i)) for i in places) + len(image_sizes(index, places[:1000]))


def timed(work, repeats):  # type: ignore[no-untyped-def]
    """Return the seconds of each run and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return seconds, result


if __name__ == "__main__":
    main()
