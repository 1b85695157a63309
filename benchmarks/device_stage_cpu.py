"""The device stage on the CPU beside its peers: CPU-seconds per pixel, alternating rounds, 1 and 2 threads.

    python benchmarks/device_stage_cpu.py [--quick] [--threads 1 2] [--budget 25] [--json FILE]

256 images of 224x224x3, uint8 to float32 normalised. Every round runs each side once, in another order;
the first round is thrown away (it compiles and warms). CPU is user + system of this process; with 2 threads
the batch is cut in two and each half runs in a thread of its own (DALI gets 2 threads), and wall time is
printed too. A peer that is not installed has a row that says so. Peers do what they call the same work; only
the Pillow side is given our draws, and must give our bytes before anything is timed. kornia draws one
operation per batch, and they differ much in cost: its figures are means over the rounds, all others medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import v2

import fastpipe
from fastpipe import kernels
from fastpipe.device.draws.draw import draw
from fastpipe.device.stage import DeviceStage
from fastpipe.transforms import ColOut, HorizontalFlip, MixUp, Normalize, RandAugment, ToFloat
from fastpipe.types import HostBatch, Plan, Request

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 1000
OPS = {code: name for name, code in kernels.OPS.items()}
PACKAGES = ("torch", "torchvision", "numpy", "numba", "pillow", "kornia", "albumentations")
PEERS = ("opencv-python-headless", "nvidia-dali-cuda130")
MISSING = "not installed"

Work = Callable[[], Any]


@dataclass
class Row:
    """One line of the table: `sides` by name (a string instead of work: why it is missing), and targets.

    targets: side -> how many times its cost ours must undercut; negative: ours may cost so many times it.
    """

    name: str
    sides: dict[str, Work | str]
    pixels: int
    targets: dict[str, float] = field(default_factory=dict)
    ours: str = "fastpipe"
    seconds: dict[str, list[float]] = field(default_factory=dict)
    walls: dict[str, list[float]] = field(default_factory=dict)


def noise_photos(num: int, side: int) -> torch.Tensor:
    """uint8 [num, side, side, 3]: smooth colour with grain; content matters to statistics only."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    tile = np.stack([np.sin(6 * x + 4 * y + 2 * c) + np.cos(9 * y - 3 * x * c) for c in range(3)], -1)
    out = np.empty((num, side, side, 3), np.uint8)
    for place in range(num):
        grain = rng.normal(0, 8, tile.shape)
        out[place] = np.clip(128 + 55 * np.roll(tile, place * 7, 1) + grain, 0, 255)
    return torch.from_numpy(out)


def request(num: int, epoch: int) -> Request:
    """The request of `num` images; another epoch, other draws."""
    ids = np.arange(num, dtype=np.int64)
    return Request(seed=1, epoch=epoch, batch=0, ids=ids, repeats=np.zeros_like(ids))


def steps_of(*random_steps: Any, mix: Any = None) -> tuple[Any, ...]:
    """Device steps: the random ones, then to float and normalise."""
    tail = (ToFloat(), Normalize(mean=MEAN, std=STD))
    return (*random_steps, *tail) if mix is None else (*random_steps, *tail, mix)


class Ours:
    """The device stage, drawing included. Each call is another epoch's draws."""

    def __init__(self, images: torch.Tensor, steps: tuple[Any, ...]) -> None:
        self.images, self.steps, self.epoch = images, steps, 0
        plan = Plan(decode=None, host=(), device=steps, notes=())
        self.stage = DeviceStage(plan, device=torch.device("cpu"), num_classes=CLASSES)

    def at(self, epoch: int) -> torch.Tensor:
        """The images of one epoch's draws."""
        num = len(self.images)
        labels = torch.arange(num) % CLASSES
        return self.stage(HostBatch(images=self.images, labels=labels, request=request(num, epoch))).images

    def __call__(self) -> torch.Tensor:  # noqa: D102
        self.epoch += 1
        return self.at(self.epoch)


# --- Pillow, as loader workers use it -----------------------------------------------------------------------

ENHANCE = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


def by_pillow(image: Image.Image, name: str, value: float, matrix: Any, fill: Any) -> Image.Image:
    """One operation of Composer's space by Pillow."""
    if name in ENHANCE:
        return ENHANCE[name](image).enhance(value)
    if name == "affine":
        data = tuple(matrix.tolist())
        return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, 1, fill)
    if name == "posterize":
        return ImageOps.posterize(image, int(value))
    if name == "solarize":
        return ImageOps.solarize(image, int(value))
    return getattr(ImageOps, name)(image) if name != "identity" else image


class Pillow:
    """torchvision per image: flip, Composer's operations with our draws, ToTensor, Normalize, stack."""

    def __init__(self, images: torch.Tensor, steps: tuple[Any, ...]) -> None:
        self.photos = [Image.fromarray(image.numpy()) for image in images]
        num, side = len(images), images.shape[1]
        self.draws = [draw(steps, request(num, epoch), side, side) for epoch in range(8)]
        self.epoch = 0

    def at(self, epoch: int) -> torch.Tensor:
        """The images of one epoch's draws; MixUp is torchvision's own."""
        params = self.draws[epoch % len(self.draws)]
        done = [self._one(params, place) for place in range(len(self.photos))]
        batch = torch.stack(done)
        if params.colout is not None:
            batch = batch[:, :, params.colout.rows][:, :, :, params.colout.columns]
        if params.mix is not None:
            labels = torch.arange(len(batch)) % CLASSES
            batch, _ = v2.MixUp(alpha=0.25, num_classes=CLASSES)(batch, labels)
        return batch

    def _one(self, params: Any, place: int) -> torch.Tensor:
        image = self.photos[place]
        if params.flip[place]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ops = params.ops
        for depth in range(0 if ops is None else ops.ops.shape[1]):
            name, fill = OPS[int(ops.ops[place, depth])], tuple(ops.fills[place].tolist())
            image = by_pillow(image, name, ops.values[place, depth], ops.matrices[place, depth], fill)
        return TO_TENSOR(image)

    def __call__(self) -> torch.Tensor:  # noqa: D102
        self.epoch += 1
        return self.at(self.epoch)


# --- the other peers ----------------------------------------------------------------------------------------


def torch_eager(images: torch.Tensor) -> torch.Tensor:
    """Flip, scale and normalise a batch with torch's own operations."""
    flip = torch.rand(len(images)) < 0.5
    batch = torch.where(flip[:, None, None, None], images.flip(2), images).permute(0, 3, 1, 2)
    batch = batch.float().div_(255)
    return batch.sub_(torch.tensor(MEAN)[:, None, None]).div_(torch.tensor(STD)[:, None, None]).contiguous()


def torchvision_batch(images: torch.Tensor) -> torch.Tensor:
    """v2 on the batch, the flip per image."""
    nchw = images.permute(0, 3, 1, 2)
    flipped = torch.stack([v2.functional.horizontal_flip(x) if random.random() < 0.5 else x for x in nchw])
    batch = v2.functional.to_dtype(flipped, torch.float32, scale=True)
    return v2.functional.normalize(batch, MEAN, STD)


def torchvision_loop(images: torch.Tensor, num_ops: int) -> torch.Tensor:
    """v2.RandAugment on each uint8 tensor, the only way to draw per image there."""
    pipeline = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandAugment(num_ops, 9, interpolation=v2.InterpolationMode.BILINEAR),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return torch.stack([pipeline(image) for image in images.permute(0, 3, 1, 2)])


def kornia_batch(images: torch.Tensor, num_ops: int, *, mix: bool = False, policy: bool = True) -> Work | str:
    """kornia's own RandAugment (one operation for the whole batch), flip, normalise, and MixUp."""
    try:
        import kornia.augmentation as K
        from kornia.augmentation.auto import RandAugment as KorniaRandAugment
    except ImportError:
        return MISSING
    stages = [KorniaRandAugment(n=num_ops, m=10)] if policy else []
    last = K.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    pipeline = torch.nn.Sequential(K.RandomHorizontalFlip(), *stages, last)
    mixer = K.RandomMixUpV2(p=1.0, data_keys=["input", "class"]) if mix else None
    labels = torch.arange(len(images)) % CLASSES

    def work() -> torch.Tensor:
        batch = pipeline(images.permute(0, 3, 1, 2).float().div_(255))
        return batch if mixer is None else mixer(batch, labels)[0]

    return work


def albumentations_each(images: torch.Tensor, num_ops: int) -> Work | str:
    """Per image: flip, one of eleven operations like Composer's at random strength, normalise, stack."""
    try:
        import albumentations as A
        import cv2
        from albumentations.pytorch import ToTensorV2
    except ImportError:
        return MISSING
    cv2.setNumThreads(0)

    def one_of() -> Any:
        return A.OneOf(
            [
                A.AutoContrast(p=1),
                A.Equalize(p=1),
                A.Posterize(num_bits=(1, 4), p=1),
                A.Rotate(30, border_mode=cv2.BORDER_CONSTANT, p=1),
                A.Solarize(p=1),
                A.Affine(shear={"x": (-17, 17), "y": 0}, p=1),
                A.Affine(shear={"y": (-17, 17), "x": 0}, p=1),
                A.Affine(translate_percent={"x": (-0.33, 0.33), "y": 0}, p=1),
                A.Affine(translate_percent={"y": (-0.33, 0.33), "x": 0}, p=1),
                A.ColorJitter((1, 1), (1, 1), (0.1, 1.9), (0, 0), p=1),
                A.ColorJitter((1, 1), (0.1, 1.9), (1, 1), (0, 0), p=1),
                A.ColorJitter((0.1, 1.9), (1, 1), (1, 1), (0, 0), p=1),
                A.Sharpen(p=1),
            ],
            p=1,
        )

    pipeline = A.Compose(
        [A.HorizontalFlip(), *(one_of() for _ in range(num_ops)), A.Normalize(MEAN, STD), ToTensorV2()]
    )
    arrays = list(images.numpy())
    return lambda: torch.stack([pipeline(image=image)["image"] for image in arrays])


def dali_batch(images: torch.Tensor, num_ops: int, threads: int) -> Work | str:
    """DALI's CPU rand_augment (its own splitting by operation), mirror and normalise."""
    try:
        from nvidia.dali import fn, pipeline_def, types
        from nvidia.dali.auto_aug import rand_augment
    except ImportError:
        return MISSING
    arrays = list(images.numpy())

    @pipeline_def(enable_conditionals=True)
    def build() -> Any:
        batch = fn.external_source(source=lambda: arrays, layout="HWC")
        batch = rand_augment.rand_augment(batch, n=num_ops, m=9, shape=images.shape[1:3])
        return fn.crop_mirror_normalize(
            batch,
            mirror=fn.random.coin_flip(),
            dtype=types.FLOAT,
            output_layout="CHW",
            mean=[255 * m for m in MEAN],
            std=[255 * s for s in STD],
        )

    try:
        pipe = build(
            batch_size=len(arrays), num_threads=threads, device_id=None, prefetch_queue_depth=1, seed=1
        )
        pipe.build()
    except RuntimeError as error:  # without a driver some builds refuse
        return f"refused here: {str(error).splitlines()[0][:80]}"
    return lambda: pipe.run()[0]


# --- rows ---------------------------------------------------------------------------------------------------


def rows(num: int, side: int, threads: int) -> Iterator[Row]:
    """The lines of the table for one number of threads, one after another."""
    images = noise_photos(num, side)
    split = partial(in_threads, images, threads)
    pixels = num * side * side
    flip, hot = HorizontalFlip(p=0.5), (ColOut(p_row=0.05, p_col=0.05),)
    plain, one = steps_of(flip), steps_of(flip, RandAugment())
    two = steps_of(flip, RandAugment(depth=2))
    mixed = steps_of(flip, RandAugment(), *hot, mix=MixUp(0.25))
    check(images[:16], one)
    floats = torch.zeros(num, 3, side, side)
    target = torch.empty_like(floats)

    def copy(part: torch.Tensor) -> Work:
        size = len(part)
        return lambda: target[:size].copy_(floats[:size])

    yield Row(
        "flip + normalise + cast",
        {
            "fastpipe": split(lambda part: Ours(part, plain)),
            "float copy of the output": split(copy),
            "torch eager": split(lambda part: partial(torch_eager, part)),
            "torchvision v2": split(lambda part: partial(torchvision_batch, part)),
        },
        pixels,
        {"float copy of the output": -1.5},
    )
    yield Row(
        "RandAugment depth 1 + flip + normalise",
        {
            "fastpipe": split(lambda part: Ours(part, one)),
            "Pillow/torchvision per image": split(lambda part: Pillow(part, one)),
            "albumentations": split(lambda part: albumentations_each(part, 1)),
            "kornia batch": split(lambda part: kornia_batch(part, 1)),
            "torchvision v2 per-image loop": split(lambda part: partial(torchvision_loop, part, 1)),
            "DALI CPU": dali_batch(images, 1, threads),
        },
        pixels,
        {"Pillow/torchvision per image": 3.5, "albumentations": 1.5, "kornia batch": 8},
    )
    yield Row(
        "RandAugment depth 1 + ColOut 0.05 + MixUp 0.25",
        {
            "fastpipe": split(lambda part: Ours(part, mixed)),
            "torchvision per image + v2.MixUp": split(lambda part: Pillow(part, mixed)),
            "kornia": split(lambda part: kornia_batch(part, 1, mix=True)),
        },
        pixels,
        {"torchvision per image + v2.MixUp": 4, "kornia": 8},
    )
    yield Row(
        "RandAugment depth 2 + flip + normalise",
        {
            "fastpipe": split(lambda part: Ours(part, two)),
            "fastpipe, depth 1": split(lambda part: Ours(part, one)),
            "Pillow/torchvision per image": split(lambda part: Pillow(part, two)),
            "albumentations": split(lambda part: albumentations_each(part, 2)),
            "kornia batch": split(lambda part: kornia_batch(part, 2)),
            "torchvision v2 per-image loop": split(lambda part: partial(torchvision_loop, part, 2)),
            "DALI CPU": dali_batch(images, 2, threads),
        },
        pixels,
        {"fastpipe, depth 1": -1.8},
    )
    yield resize_row(num, threads)


def resize_row(num: int, threads: int) -> Row:
    """Antialiased 256 -> 176; pixels are those of the result."""
    split = partial(in_threads, noise_photos(num, 256), threads)

    def pillow(part: torch.Tensor) -> Work:
        pil = [Image.fromarray(image.numpy()) for image in part]
        small, filter_ = (176, 176), Image.Resampling.BILINEAR
        return lambda: np.stack([np.asarray(image.resize(small, filter_)) for image in pil])

    def opencv(part: torch.Tensor) -> Work | str:
        try:
            import cv2
        except ImportError:
            return MISSING
        cv2.setNumThreads(0)
        arrays = list(part.numpy())
        area = cv2.INTER_AREA
        return lambda: np.stack([cv2.resize(array, (176, 176), interpolation=area) for array in arrays])

    def torchvision(part: torch.Tensor) -> Work:
        nchw = part.permute(0, 3, 1, 2)
        return lambda: v2.functional.resize(nchw, [176, 176], antialias=True)

    def kornia(part: torch.Tensor) -> Work | str:
        try:
            from kornia.geometry.transform import resize
        except ImportError:
            return MISSING
        return lambda: resize(part.permute(0, 3, 1, 2).float().div_(255), (176, 176), antialias=True)

    return Row(
        "antialiased resize 256 -> 176",
        {
            "fastpipe": split(lambda part: partial(kernels.resize, part, 176, 176)),
            "Pillow": split(pillow),
            "torchvision v2": split(torchvision),
            "OpenCV INTER_AREA": split(opencv),
            "kornia": split(kornia),
        },
        num * 176 * 176,
        {"Pillow": 1.5},
    )


def check(images: torch.Tensor, steps: tuple[Any, ...]) -> None:
    """Our pixels equal Pillow's on the same draws, or nothing is timed."""
    ours, theirs = Ours(images, steps).at(0), Pillow(images, steps).at(0)
    if not torch.allclose(ours, theirs, rtol=0, atol=1e-6):
        raise SystemExit(f"fastpipe and Pillow differ by {float((ours - theirs).abs().max())}")


_POOL = ThreadPoolExecutor(8)


def in_threads(images: torch.Tensor, threads: int, make: Callable[[torch.Tensor], Work | str]) -> Work | str:
    """The work on all images; on several threads each has its share of them."""
    works = [make(part) for part in images.chunk(threads)]
    for work in works:
        if isinstance(work, str):
            return work
    if threads == 1:
        return works[0]
    return lambda: [future.result() for future in [_POOL.submit(work) for work in works]]


def measure(row: Row, budget_s: float, fewest: int, most: int) -> None:
    """Rounds until the budget is spent; the order turns by one in each."""
    sides = {name: work for name, work in row.sides.items() if not isinstance(work, str)}
    names, started, number = list(sides), 0.0, 0
    while number <= fewest or (number <= most and time.perf_counter() - started < budget_s):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            sides[name]()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if number:
                row.seconds.setdefault(name, []).append(cpu)
                row.walls.setdefault(name, []).append(wall)
        number += 1
        started = started or time.perf_counter()


def summary(row: Row, threads: int) -> list[dict[str, Any]]:
    """One record per side: ns per pixel, quartiles, and its cost over ours within the rounds."""
    lines: list[dict[str, Any]] = []
    for name, work in row.sides.items():
        line: dict[str, Any] = {"work": row.name, "threads": threads, "side": name}
        if isinstance(work, str):
            lines.append({**line, "note": work})
            continue
        spent = row.seconds[name]
        ratios = [theirs / ours for theirs, ours in zip(spent, row.seconds[row.ours], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        per_pixel = [round(1e9 * s / row.pixels, 3) for s in statistics.quantiles(spent, n=4)]
        if name.startswith("kornia"):
            per_pixel[1] = round(1e9 * statistics.fmean(spent) / row.pixels, 3)
            middle = sum(spent) / sum(row.seconds[row.ours])
        line |= {
            "n": len(spent),
            "cpu_ns_per_pixel": per_pixel[1],
            "cpu_quartiles": [per_pixel[0], per_pixel[2]],
            "wall_ns_per_pixel": round(1e9 * statistics.median(row.walls[name]) / row.pixels, 3),
            "cost_over_ours": round(middle, 3),
            "ratio_quartiles": [round(low, 3), round(high, 3)],
        }
        lines.append(line | _verdict(row.targets.get(name), middle))
    return lines


def _verdict(target: float | None, ratio: float) -> dict[str, Any]:
    if target is None:
        return {}
    if target > 0:
        return {"target": f">= {target}x of ours", "met": ratio >= target}
    return {
        "target": f"ours <= {-target}x of it",
        "ours_over_it": round(1 / ratio, 3),
        "met": 1 / ratio <= -target,
    }


def drawing(num: int, rounds: int) -> dict[str, Any]:
    """Microseconds of CPU to draw a batch's parameters: flip, RandAugment, ColOut, MixUp.

    Batch after batch of one epoch; its first batch derives the epoch's keys as well, once.
    """
    steps = steps_of(HorizontalFlip(p=0.5), RandAugment(), ColOut(p_row=0.05, p_col=0.05), mix=MixUp(0.25))
    taken = []
    for batch in range(10 * rounds + 20):
        what = replace(request(num, 0), batch=batch, ids=request(num, 0).ids + num * batch)
        started = time.thread_time()
        draw(steps, what, 224, 224)
        if batch >= 20:
            taken.append(1e6 * (time.thread_time() - started))
    low, middle, high = statistics.quantiles(taken, n=4)
    line = {"work": f"drawing for {num} images", "side": "fastpipe", "n": len(taken)}
    times = {"cpu_us": round(middle, 1), "quartiles": [round(low, 1), round(high, 1)]}
    return {**line, **times, "target": "<= 100 us", "met": middle <= 100}


FIRST_CALL = """
import os, time
import torch, numpy, numba
from benchmark import Ours, steps_of, noise_photos, HorizontalFlip, RandAugment, ColOut, MixUp
from fastpipe import kernels
images = noise_photos(2, 32)
wall, cpu = time.perf_counter(), time.process_time()
flip = HorizontalFlip(p=0.5)
policy = (flip, RandAugment())
for steps in (steps_of(flip), steps_of(*policy), steps_of(*policy, ColOut(), mix=MixUp(0.25))):
    Ours(images, steps).stage.warm_up()
    Ours(images, steps)()
kernels.resize(images, 8, 8)
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def compiling() -> list[dict[str, Any]]:
    """Seconds of the first call of everything, in a fresh process without and with the cache."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "benchmark.py").symlink_to(Path(__file__).resolve())
        environment = {**os.environ, "NUMBA_CACHE_DIR": f"{folder}/cache", "PYTHONPATH": folder}
        for name, limit in (("nothing cached", 10.0), ("cached, second process", 1.0)):
            command = [sys.executable, "-c", FIRST_CALL]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            cpu, wall = map(float, done.stdout.split()[-2:])
            line = {"work": "first call of every CPU kernel", "side": name, "n": 1, "cpu_s": round(cpu, 2)}
            lines.append({**line, "wall_s": round(wall, 2), "target": f"<= {limit:g} s", "met": cpu <= limit})
    return lines


def versions() -> dict[str, str]:
    """Of everything that takes part; a missing package says so."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = MISSING
    return found | {"fastpipe": fastpipe.__version__}


def as_table(lines: list[dict[str, Any]]) -> str:
    """The lines as a Markdown table."""
    head = (
        "| work | threads | side | n | CPU | quartiles | wall | cost / ours | target |\n" + "|---" * 9 + "|\n"
    )
    text = []
    for line in lines:
        if "note" in line:
            cells = ["-", line["note"], "", "", "", ""]
        elif "cpu_ns_per_pixel" in line:
            low, high = line["cpu_quartiles"]
            cells = [line["n"], f"{line['cpu_ns_per_pixel']:.2f} ns/px", f"{low:.2f}..{high:.2f}"]
            quartiles = "..".join(f"{ratio:.2f}" for ratio in line["ratio_quartiles"])
            cells += [f"{line['wall_ns_per_pixel']:.2f}", f"{line['cost_over_ours']:.2f} ({quartiles})"]
            cells.append(_target_words(line))
        else:
            measured = f"{line['cpu_us']} us" if "cpu_us" in line else f"{line['cpu_s']} s"
            cells = [line["n"], measured, str(line.get("quartiles", "")), "", "", _target_words(line)]
        first = [line["work"], line.get("threads", "-"), line["side"]]
        text.append("| " + " | ".join(map(str, [*first, *cells])) + " |")
    return head + "\n".join(text)


def _target_words(line: dict[str, Any]) -> str:
    if "target" not in line:
        return ""
    own = f" (is {line['ours_over_it']:.2f})" if "ours_over_it" in line else ""
    return f"{line['target']}{own}: {'met' if line['met'] else 'MISSED'}"


def main() -> None:
    """Print the table and a record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="32 images, few rounds: does it run?")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--budget", type=float, default=25.0, help="seconds for each row")
    parser.add_argument("--rounds", type=int, nargs=2, default=[7, 40], help="fewest and most that count")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    num = 32 if arguments.quick else arguments.images
    fewest, most = (2, 3) if arguments.quick else arguments.rounds
    budget = 1.0 if arguments.quick else arguments.budget
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    for threads in arguments.threads:
        for row in rows(num, 224, threads):
            measure(row, budget, fewest, most)
            lines += summary(row, threads)
            # Shown at once, so that a run that is cut short loses nothing; the whole table comes last.
            print(as_table(summary(row, threads)), file=sys.stderr, flush=True)
    lines.append(drawing(num, fewest))
    lines += compiling()
    record = {
        "what": f"CPU of the device stage beside its peers, {num} images",
        "command": " ".join(["python", "-P", *sys.argv]),
        "versions": versions(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "torch_threads": 1},
        "lines": lines,
    }
    print(as_table(lines))
    print(json.dumps({key: value for key, value in record.items() if key != "lines"}, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
