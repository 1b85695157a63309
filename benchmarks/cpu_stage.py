"""Times of the device stage on the CPU beside torchvision image by image, each operation, and the draws.

    python benchmarks/cpu_stage.py [--images 256] [--side 224] [--rounds 10]

CPU-nanoseconds per pixel (of the input), one thread, the sides one after another within a round. Images are
smooth noise unless --photos names a folder of files.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision import transforms
from torchvision.transforms import v2

from fastpipe import kernels
from fastpipe.device import DeviceStage, draw
from fastpipe.device.draws.params import OpParams
from fastpipe.transforms.mix_specs import ColOut, MixUp
from fastpipe.transforms.policy_specs import RandAugment
from fastpipe.transforms.specs import HorizontalFlip, Normalize, ToFloat
from fastpipe.types import HostBatch, Plan, Request

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLIP, TAIL = HorizontalFlip(p=0.5), (ToFloat(), Normalize(mean=MEAN, std=STD))
COLOUT, MIXUP = ColOut(p_row=0.05, p_col=0.05), MixUp(alpha=0.25)
WORK = {
    "flip + normalise": (FLIP, *TAIL),
    "RandAugment 1": (FLIP, RandAugment(depth=1), *TAIL),
    "RandAugment 2": (FLIP, RandAugment(depth=2), *TAIL),
    "RandAugment 1, ColOut, MixUp": (FLIP, RandAugment(depth=1), COLOUT, *TAIL, MIXUP),
}
NAMES = {code: name for name, code in kernels.OPS.items()}


def pictures(num: int, side: int, folder: str | None) -> torch.Tensor:
    """uint8 [num,side,side,3]."""
    if folder is None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (num, 14, 14, 3)).astype(np.uint8)
        images = [Image.fromarray(levels) for levels in coarse]
    else:
        paths = [
            path
            for path in sorted(Path(folder).rglob("*"))
            if path.suffix.lower() in (".jpg", ".jpeg", ".png")
        ]
        if not paths:
            raise SystemExit(f"--photos must name a folder with .jpg or .png files. Found none in {folder}")
        images = [Image.open(paths[i % len(paths)]).convert("RGB") for i in range(num)]
    return torch.from_numpy(np.stack([np.asarray(image.resize((side, side))) for image in images]))


def pillow_chain(image: Image.Image, ops: OpParams, i: int) -> Image.Image:
    """The drawn operations of image i by Pillow, as Composer and torchvision call it."""
    for code, value, matrix in zip(ops.ops[i], ops.values[i], ops.matrices[i], strict=True):
        name = NAMES[int(code)]
        if name == "affine":
            bilinear = Image.Resampling.BILINEAR
            image = image.transform(
                image.size, Image.Transform.AFFINE, matrix.tolist(), bilinear, fillcolor=(0, 0, 0)
            )
        elif name in ("autocontrast", "equalize"):
            image = getattr(ImageOps, name)(image)
        elif name in ("posterize", "solarize"):
            image = getattr(ImageOps, name)(image, int(value))
        else:
            image = getattr(ImageEnhance, name.capitalize())(image).enhance(float(value))
    return image


def by_torchvision(
    images: list[Image.Image], labels: torch.Tensor, steps: tuple, request: Request
) -> torch.Tensor:
    """The same work image by image, collated, and v2.MixUp on the batch. The draws are ours (not timed)."""
    params = draw(steps, request, images[0].height, images[0].width)
    tail = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    done = []
    start = time.process_time()
    for i, image in enumerate(images):
        image = transforms.functional.hflip(image) if params.flip[i] else image
        image = image if params.ops is None else pillow_chain(image, params.ops, i)
        if params.colout is not None:
            levels = np.asarray(image)[params.colout.rows][:, params.colout.columns]
            image = Image.fromarray(levels)
        done.append(tail(image))
    batch = torch.utils.data.default_collate(done)
    if params.mix is not None:
        batch, _ = v2.MixUp(alpha=0.25, num_classes=1000)(batch, labels)
    by_torchvision.seconds = time.process_time() - start
    return batch


def cpu_seconds(function: Callable[[], object]) -> float:
    """Of this process; freeing the result is not part of it."""
    start = time.process_time()
    result = function()
    spent = time.process_time() - start
    del result
    return spent


def row(name: str, seconds: list[float], pixels: int, beside: list[float] | None = None) -> None:
    """Print the median and quartiles in ns a pixel, and the ratio within the rounds."""
    ns = [1e9 * value / pixels for value in seconds]
    low, middle, high = statistics.quantiles(ns, n=4)
    text = f"{name:30s} {middle:7.2f}  [{low:.2f}, {high:.2f}]"
    if beside is not None:
        ratios = [theirs / ours for ours, theirs in zip(seconds, beside, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        text += f"   torchvision {1e9 * statistics.median(beside) / pixels:6.2f}"
        text += f"   ratio {middle:.2f} [{low:.2f}, {high:.2f}]"
    print(text)


def main() -> None:
    """Print the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--photos")
    options = parser.parse_args()
    torch.set_num_threads(1)
    num, side = options.images, options.side
    images, labels, ids = pictures(num, side, options.photos), torch.arange(num) % 1000, np.arange(num)
    files, pixels = [Image.fromarray(image.numpy()) for image in images], num * side * side
    source = torch.randn(num, 3, side, side)
    target = torch.empty_like(source)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in (*WORK, "float copy")}
    stages = {
        name: DeviceStage(Plan(device=steps), device=torch.device("cpu"), num_classes=1000)
        for name, steps in WORK.items()
    }
    for turn in range(options.rounds + 1):
        request = Request(seed=1, epoch=turn, batch=0, ids=ids, repeats=np.zeros_like(ids))
        host = HostBatch(images=images, labels=labels, request=request)
        spent = {"float copy": (cpu_seconds(lambda: target.copy_(source)), 0.0)}
        for name, steps in WORK.items():
            ours = cpu_seconds(lambda stage=stages[name], host=host: stage(host))
            by_torchvision(files, labels, steps, request)
            spent[name] = ours, by_torchvision.seconds
        for name, (ours, theirs) in spent.items() if turn > 0 else ():
            times[name][0].append(ours)
            times[name][1].append(theirs)
    print(f"{num} images of {side} x {side}, n = {options.rounds}, ns per pixel: median [quartiles]")
    row("float copy of the output", times["float copy"][0], pixels)
    for name in WORK:
        row(name, *(times[name][0], pixels, times[name][1]))
    for name, matrix in {
        **{name: None for name in kernels.OPS if name not in ("identity", "affine")},
        "rotate": kernels.rotate(17, side, side),
        "shear_x": kernels.shear_x(0.17),
        "shear_y": kernels.shear_y(0.17),
        "translate_x": kernels.translate_x(30),
    }.items():
        value = {"posterize": 4, "solarize": 128, "solarize_add": 50}.get(name, 1.5)
        seconds = [
            cpu_seconds(
                lambda name=name, matrix=matrix, value=value: kernels.apply_op(
                    images, "affine" if matrix else name, value, matrix=matrix, interpolation="bilinear"
                )
            )
            for _ in range(5)
        ]
        row(f"apply_op {name}", seconds[1:], pixels)
    for name, steps in WORK.items():
        requests = [Request(seed=1, epoch=0, batch=b, ids=ids + num * b, repeats=ids * 0) for b in range(200)]
        seconds = [cpu_seconds(lambda r=r, steps=steps: draw(steps, r, side, side)) for r in requests]
        print(f"drawing, {name:30s} {1e6 * statistics.median(seconds):7.1f} us for {num} images")
    large = [image.resize((256, 256)) for image in files[:64]]
    packed = torch.from_numpy(np.stack([np.asarray(image) for image in large]))
    bilinear = Image.Resampling.BILINEAR
    resized = [
        (
            cpu_seconds(lambda: kernels.resize(packed, 176, 176)),
            cpu_seconds(lambda: [image.resize((176, 176), bilinear) for image in large]),
        )
        for _ in range(options.rounds + 1)
    ][1:]
    ratio = statistics.median(theirs / ours for ours, theirs in resized)
    print(f"antialiased resize 256 -> 176: {ratio:.2f} times as fast as Pillow's")


if __name__ == "__main__":
    main()
