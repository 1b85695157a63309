"""Every row of the speed table of `turbo`: CPU-milliseconds per image next to its peers, alternating.

    OMP_NUM_THREADS=1 python benchmarks/turbo_cpu.py [--photos FOLDER] [--small FOLDER] [--rounds 10]
        [--rows NAME ...] [--json FILE]

FOLDERs hold JPEGs at any depth: photographs shaped like ImageNet's, and small ones of 4:2:0. Each row is a
ratio within one round, peer / ours or as its name says; the order of the sides turns round every time, and
the first round is thrown away. CPU is user + system of the process tree, running workers included.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image, features
from torchvision import transforms
from torchvision.datasets import ImageFolder

import fastpipe
from fastpipe.storage import BetonDataset, demo_splits, write_beton

HERE = Path(__file__).parent
NATIVE = HERE.parent / "fastpipe" / "decode" / "native"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, BILINEAR = 64, 1
Side = Callable[[], float]  # one round: CPU-milliseconds per image
# The ratio of two sides of a row, its limit, and whether it is an upper one.
Limit = tuple[str, str, float, bool]


def jpegs(folder: Path) -> list[Path]:
    """The JPEG files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def tree_ms() -> float:
    """CPU-milliseconds of this process, its children that ended, and those that run (by ticks of 10 ms)."""
    here, ended = psutil.Process(), os.times()
    spent = time.process_time() + ended.children_user + ended.children_system
    for child in here.children(recursive=True):
        times = child.cpu_times()
        spent += times.user + times.system
    return 1e3 * spent


def epoch_of(loader: Any) -> Side:
    """One epoch of a loader whose workers persist, so that every round but the first is a steady one."""

    def side() -> float:
        began, images = tree_ms(), 0
        for batch in loader:
            images += len(batch[0])
        return (tree_ms() - began) / images

    return side


def crop(size: int, *, whole: bool = False) -> transforms.Compose:
    """The usual training transform; whole: with flip and normalisation."""
    more = [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return transforms.Compose(
        [transforms.RandomResizedCrop(size), *(more if whole else [transforms.ToTensor()])]
    )


def ours(dataset: Any, workers: int, *, uint8: bool, **more: Any) -> Side:
    """Our loader on turbo."""
    options: dict[str, Any] = {"engine": "none"} if uint8 else {}
    loader = fastpipe.DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        backend="turbo",
        **options,
        **more,
    )
    return epoch_of(loader)


def theirs(dataset: Any, workers: int) -> Side:
    """torch's own loader."""
    return epoch_of(
        torch.utils.data.DataLoader(
            dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
    )


def whole_path(folder: Path) -> dict[str, Side]:
    """Normalised float batches at 176 px with 2 workers."""
    data = ImageFolder(str(folder), crop(176, whole=True))
    return {"torch": theirs(data, 2), "turbo": ours(data, 2, uint8=False)}


def on_beton(folder: Path, scratch: Path) -> dict[str, Side]:
    """Stock FFCV and ours on one file of the same JPEG bytes, uint8 batches of 176 px, 2 threads."""
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import Squeeze, ToTensor

    path = scratch / "photos.beton"
    write_beton(folder, path)
    image = [RandomResizedCropRGBImageDecoder((176, 176)), ToTensor()]
    label = [IntDecoder(), ToTensor(), Squeeze()]
    stock = Loader(
        str(path),
        batch_size=BATCH,
        num_workers=2,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        pipelines={"image": image, "label": label},
    )
    mine = ours(BetonDataset(path, crop(176)), 2, uint8=True, numerics="exact")
    return {"ffcv": epoch_of(stock), "turbo": mine}


def against_dali(folder: Path) -> dict[str, Side]:
    """DALI by hand on its own file reader, uint8 batches of 176 px, one thread each."""
    import nvidia.dali as dali
    from nvidia.dali import fn, types

    files = [str(path) for path in jpegs(folder)]
    graph = dali.Pipeline(batch_size=BATCH, num_threads=1, device_id=None, seed=1)
    with graph:
        data, _ = fn.readers.file(files=files, random_shuffle=True)
        images = fn.decoders.image_random_crop(data, output_type=types.RGB)
        graph.set_outputs(fn.resize(images, size=[176, 176], antialias=True))
    graph.build()
    batches = len(files) // BATCH

    def side() -> float:
        began = tree_ms()
        for _ in range(batches):
            (made,) = graph.run()
            np.asarray(made.as_tensor())
        return (tree_ms() - began) / (batches * BATCH)

    data_set = ImageFolder(str(folder), crop(176))
    return {"dali": side, "turbo": ours(data_set, 1, uint8=True)}


def by_size(folder: Path) -> dict[str, Side]:
    """88 px and 176 px, exact, in the caller's thread."""
    return {str(size): ours(ImageFolder(str(folder), crop(size)), 0, uint8=True) for size in (88, 176)}


def by_threads(folder: Path) -> dict[str, Side]:
    """1 and 2 threads."""
    data = ImageFolder(str(folder), crop(176))
    return {f"{threads} threads": ours(data, threads, uint8=True) for threads in (1, 2)}


def mosaics(folder: Path, scratch: Path) -> tuple[Path, float]:
    """24 mosaics of 64 real photographs each, 4000 x 3000, 4:2:0, quality 90; their bits per pixel."""
    rng, photos = np.random.default_rng(0), jpegs(folder)
    target, size = scratch / "mosaics" / "all", 0
    target.mkdir(parents=True)
    for number in range(24):
        canvas, y = Image.new("RGB", (4000, 3000)), 0
        while y < 3000:
            x = 0
            while x < 4000:
                with Image.open(photos[rng.integers(len(photos))]) as photo:
                    scale = 500 / photo.width
                    tile = photo.convert("RGB").resize((500, max(1, round(photo.height * scale))))
                canvas.paste(tile.crop((0, 0, 500, 375)), (x, y))
                x += 500
            y += 375
        canvas.save(target / f"{number}.jpg", quality=90, subsampling=2)
        size += (target / f"{number}.jpg").stat().st_size
    return target.parent, 8 * size / (24 * 4000 * 3000)


def large(folder: Path, scratch: Path) -> dict[str, Side]:
    """Crops of 12-megapixel files to 224 px."""
    place, bits = mosaics(folder, scratch)
    print(f"mosaics: {bits:.2f} bits a pixel", file=sys.stderr)
    data = ImageFolder(str(place), crop(224))
    fast = ours(data, 0, uint8=True, numerics="fast")
    return {"torch": theirs(data, 0), "turbo": ours(data, 0, uint8=True), "fast": fast}


def resize_alone(scratch: Path) -> dict[str, Side]:
    """Pillow's bilinear resize and ours, 320 x 270 to 176 x 176, one image in the cache."""
    library = ctypes.CDLL(str(build("resize.cpp", scratch, "-shared", "-fPIC")))
    library.resize_ms.restype = ctypes.c_double
    levels = np.random.default_rng(0).integers(0, 256, (270, 320, 4)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(levels[..., :3]))
    out = np.empty((176, 176, 3), np.uint8)

    def pillow() -> float:
        began = time.thread_time()
        for _ in range(200):
            made = image.resize((176, 176), Image.Resampling.BILINEAR)
        spent = 1e3 * (time.thread_time() - began) / 200
        assert not out.any() or np.array_equal(np.asarray(made), out)
        return spent

    def turbo() -> float:
        spent: float = library.resize_ms(
            levels.ctypes.data_as(ctypes.c_void_p),
            320,
            270,
            176,
            BILINEAR,
            200,
            out.ctypes.data_as(ctypes.c_void_p),
        )
        return spent

    return {"pillow": pillow, "turbo": turbo}


def build(source: str, scratch: Path, *flags: str, libraries: tuple[str, ...] = ()) -> Path:
    """A program or library of benchmarks/native with the decoder's own sources, by its own flags."""
    target = scratch / Path(source).stem
    python_side = ("module.cpp", "batch.cpp")
    sources = [
        str(path)
        for path in sorted(NATIVE.glob("*.cpp"))
        if path.name not in python_side and not path.name.endswith("_binding.cpp")
    ]
    command = ["c++", "-std=c++17", "-O3", "-ffp-contract=off", f"-I{NATIVE}", *flags, "-o", str(target)]
    subprocess.run([*command, str(HERE / "native" / source), *sources, *libraries], check=True)
    return target


def decoding(folder: Path, scratch: Path, rounds: int) -> dict[str, list[float]]:
    """libjpeg-turbo's two ways and ours, in one program (benchmarks/native/decode_crops.cpp)."""
    program = build("decode_crops.cpp", scratch, libraries=("-ljpeg",))
    files = [str(path) for path in jpegs(folder)[:800]]
    done = subprocess.run([str(program), str(rounds), *files], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"decode: {found.pop('images')} images, {found.pop('handed_to_pillow')} left out", file=sys.stderr)
    return found


def alternate(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each side by round."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in sides if number % 2 else reversed(list(sides)):
            gc.collect()
            cost = sides[name]()
            if number:
                spent[name].append(cost)
    return spent


def ratio(above: list[float], below: list[float]) -> dict[str, Any]:
    """Median, quartiles and range of the ratios round by round."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "n": len(ratios),
        "median": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


LIMITS: dict[str, tuple[Limit, ...]] = {
    "decode_photos": (("libjpeg_whole", "ours", 1.9, False), ("libjpeg_crop", "ours", 1.45, False)),
    "decode_small": (("libjpeg_crop", "ours", 1.3, False),),
    "whole_path": (("torch", "turbo", 3.5, False),),
    "on_beton": (("ffcv", "turbo", 2.2, False),),
    "against_dali": (("dali", "turbo", 2.3, False),),
    "by_size": (("88", "176", 0.90, True),),
    "large": (("torch", "turbo", 4.0, False), ("torch", "fast", 8.0, False)),
    "resize_alone": (("pillow", "turbo", 3.0, False),),
    "by_threads": (("2 threads", "1 threads", 1.05, True),),
}


def measure(name: str, photos: Path, small: Path, scratch: Path, rounds: int) -> dict[str, list[float]]:
    """The rounds of one row."""
    if name.startswith("decode_"):
        return decoding(small if name == "decode_small" else photos, scratch, rounds)
    rows: dict[str, Callable[[], dict[str, Side]]] = {
        "whole_path": lambda: whole_path(photos),
        "on_beton": lambda: on_beton(photos, scratch),
        "against_dali": lambda: against_dali(photos),
        "by_size": lambda: by_size(photos),
        "large": lambda: large(small, scratch),
        "resize_alone": lambda: resize_alone(scratch),
        "by_threads": lambda: by_threads(photos),
    }
    return alternate(rows[name](), rounds)


def row(name: str, spent: Mapping[str, list[float]]) -> dict[str, Any]:
    """The record of one row; prints a line for each limit."""
    limits = {}
    for above, below, limit, upper in LIMITS[name]:
        found = ratio(spent[above], spent[below])
        met = found["median"] <= limit if upper else found["median"] >= limit
        limits[f"{above} / {below}"] = {**found, "limit": limit, "met": met}
        sign, quartiles = "<=" if upper else ">=", found["quartiles"]
        print(
            f"| {name} | {above} / {below} | {found['median']} {quartiles} | {sign} {limit} | {met} |",
            flush=True,
        )
    return {"ms": {side: round(statistics.median(ms), 4) for side, ms in spent.items()}, "ratios": limits}


def versions() -> dict[str, str | None]:
    """Of everything that may move a figure."""
    found: dict[str, str | None] = {"python": platform.python_version(), "fastpipe": fastpipe.__version__}
    for package in ("torch", "torchvision", "pillow", "numpy", "ffcv", "nvidia-dali-cuda130"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return {**found, "Pillow's libjpeg-turbo": features.version("libjpeg_turbo")}


def main() -> int:
    """Print a table; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="an image folder (root/class/*); default: the demo's")
    parser.add_argument("--small", type=Path, help="small 4:2:0 photographs; default: --photos")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rows", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    photos = given.photos or demo_splits().train
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    record: dict[str, Any] = {"versions": versions(), "cpus": os.cpu_count(), "rows": {}}
    for name in given.rows:
        with tempfile.TemporaryDirectory() as scratch:
            spent = measure(name, photos, given.small or photos, Path(scratch), given.rounds)
            record["rows"][name] = row(name, spent)
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    met = [one["met"] for found in record["rows"].values() for one in found["ratios"].values()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
