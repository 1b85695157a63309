"""The programs of scripts/gpu-first-run: `gpu_steps.py NAME`. Each prints its figures as a last line of JSON.

problems: results that differ from the expected ones. --device cpu --small: a rehearsal.
"""

from __future__ import annotations

import argparse
import atexit
import csv
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets, models, transforms

import fastpipe
from fastpipe import DataLoader, augment

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Figures = dict[str, Any]


def machine(given: argparse.Namespace) -> Figures:
    """What serves."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    seen = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    capability = torch.cuda.get_device_capability()
    found = {"gpus": seen, "torch": torch.__version__, "cuda": torch.version.cuda, "capability": capability}
    built = torch.cuda.get_arch_list()
    fits = any(name.endswith(f"{capability[0]}{capability[1]}") for name in built)
    return {**found, "arch_list": built, "problems": [] if fits else ["torch has no code for this device"]}


def compile_kernels(given: argparse.Namespace) -> Figures:
    """Seconds to compile the catalogue, and to load it from the cache."""
    from fastpipe.kernels.cuda.cache import ptx_files

    seconds = []
    for _ in range(2):
        before_s = time.perf_counter()
        files = ptx_files(torch.cuda.get_device_capability(), ["statistics", "tables"])
        seconds.append(round(time.perf_counter() - before_s, 2))
    kernels = len(list(files["tables"].parent.glob("*.ptx")))
    return {"first_s": seconds[0], "again_s": seconds[1], "kernels": kernels}


def check(given: argparse.Namespace) -> Figures:
    """The self-check twice; it must find nothing, with warnings as errors."""
    from fastpipe.device.engines.cuda import CudaEngine
    from fastpipe.device.engines.cuda_selfcheck import differences

    warnings.simplefilter("error")  # from here on, since warnings of an import are not ours
    seconds, problems = [], []
    for _ in range(2):
        engine = CudaEngine(given.device, check=False)
        before_s = time.perf_counter()
        found = differences(engine._finish, given.device)
        seconds.append(round(time.perf_counter() - before_s, 2))
        problems += [found] if found else []
    return {"first_s": seconds[0], "again_s": seconds[1], "problems": problems}


def folder(images: int, side: int) -> Path:
    """Two classes of photos with noise, as JPEG files; the folder lives as long as the process."""
    from PIL import Image

    root = Path(tempfile.mkdtemp(prefix="fastpipe-photos-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    for number in range(images):
        wave = 128 + 60 * np.sin(6 * x + 9 * y + number)[..., None] + rng.normal(0, 8, (side, side, 3))
        target = root / ("a", "b")[number % 2] / f"{number}.jpg"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(np.clip(wave, 0, 255).astype(np.uint8)).save(target, quality=90)
    return root


def splits(images: int, side: int) -> Path:
    """A folder with train/ and val/, as training takes it."""
    root = Path(tempfile.mkdtemp(prefix="fastpipe-splits-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for name, num in (("train", images), ("val", max(4, images // 16))):
        shutil.move(folder(num, side), root / name)
    return root


def loader(root: Path, given: argparse.Namespace, size: int, batch: int, **options: Any) -> DataLoader:
    """A training loader as in a user's script."""
    first = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    tail = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    data = datasets.ImageFolder(str(root), transforms.Compose([*first, *tail]))
    settings = {"batch_size": batch, "shuffle": True, "drop_last": True, "seed": 1, "device": given.device}
    settings |= {"num_workers": 2 if given.small else min(16, len(os.sched_getaffinity(0)))}
    settings |= {"persistent_workers": True, "memory_format": torch.channels_last}
    return DataLoader(data, **{**settings, **options})


def epochs(given: argparse.Namespace) -> Figures:
    """40 epochs of a small loader: memory stays, and the fused engine serves."""
    count = 3 if given.small else 40
    batches = loader(folder(64, 96), given, 64, 16, augment=[augment.RandAugment()])
    reserved = []
    for epoch in range(count):
        batches.set_epoch(epoch)
        for images, _ in batches:
            images.float().mean()
        reserved.append(torch.cuda.memory_reserved() if given.device.type == "cuda" else 0)
    engine = dict(batches.explain().facts)["engine"]
    problems = [] if engine == "fused" else [f"the engine is {engine}"]
    if reserved[-1] > reserved[min(2, count - 1)]:
        problems.append(f"memory grew from {reserved[2]} to {reserved[-1]} bytes")
    return {"engine": engine, "reserved_bytes": [reserved[0], reserved[-1]], "problems": problems}


def cases(num: int, side: int) -> Iterator[tuple[str, Any, float]]:
    """Parameters of a batch with one operation for all images, and its bytes relative to those of a flip."""
    from fastpipe import kernels
    from fastpipe.device.draws.batch import ColOutParams, MixParams
    from fastpipe.device.draws.draw import Params
    from fastpipe.device.draws.params import OpParams

    flip = np.arange(num) % 2 == 0

    def all_of(name: str, value: float, matrix: Any) -> OpParams:
        return OpParams(
            ops=np.full((num, 1), kernels.OPS[name], np.int16),
            values=np.full((num, 1), value),
            matrices=np.tile(np.asarray(matrix, np.float64), (num, 1, 1)),
            interpolations=np.ones((num, 1), np.uint8),
            fills=np.zeros((num, 3), np.uint8),
        )

    still = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    kept = np.arange(int(0.95 * side))
    mixed = MixParams(partner=np.roll(np.arange(num), 1), weight=0.25)
    yield "flip", Params(flip=flip), 1.0
    yield "photometric", Params(flip=flip, ops=all_of("brightness", 1.4, still)), 1.0
    turned = kernels.rotate(17.0, side, side)
    yield "bilinear", Params(flip=flip, ops=all_of("affine", 0.0, turned)), 1.0
    share = (len(kept) / side) ** 2
    yield "ColOut, MixUp", Params(flip=flip, colout=ColOutParams(rows=kept, columns=kept), mix=mixed), share


def roofline(given: argparse.Namespace) -> Figures:
    """Microseconds of each case by events, after keeping the device busy, and the floor."""
    from fastpipe import kernels
    from fastpipe.device.engines.cuda import CudaEngine
    from fastpipe.device.engines.protocol import Output

    num, side, repeats = 256, 224, 200
    images = torch.randint(0, 256, (num, side, side, 3), dtype=torch.uint8, device=given.device)
    engine, table = CudaEngine(given.device), kernels.normalize_table(MEAN, STD)
    bandwidth = peak_bandwidth(given.device)
    found: Figures = {"bytes_per_s_of_the_data_sheet": bandwidth}
    for layout in (torch.channels_last, torch.contiguous_format):
        output = Output(dtype=torch.bfloat16, memory_format=layout, table=table)
        for name, params, share in cases(num, side):
            taken = []
            for _ in range(repeats + 5):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda._sleep(4_000_000)  # longer than the host takes to launch
                start.record()
                engine.finish(images, params, output)
                end.record()
                end.synchronize()
                taken.append(1e3 * start.elapsed_time(end))
            low, middle, high = statistics.quantiles(taken[5:], n=4)
            entry = {
                "median_us": round(middle, 1),
                "quartiles_us": [round(low, 1), round(high, 1)],
                "n": repeats,
            }
            if bandwidth:
                moved = 3 * num * side * side * (1 + 2) * share
                entry["floor_us_predicted"] = round(1e6 * moved / (0.85 * bandwidth), 1)
            found[f"{name}, {str(layout).removeprefix('torch.')}"] = entry
    return found


def peak_bandwidth(device: torch.device) -> float | None:
    """bytes/s of the data sheet, for the devices of benchmarks/roofline.md."""
    name = torch.cuda.get_device_name(device)
    known = {"H200": 4.8e12, "H100": 3.35e12, "A100": 2.039e12}
    return next((value for key, value in known.items() if key in name), None)


class Training:
    """ResNet and SGD as in a user's script."""

    def __init__(self, given: argparse.Namespace, precision: torch.dtype) -> None:
        made = models.resnet18(num_classes=10) if given.small else models.resnet50(num_classes=1000)
        self.device, self.precision = given.device, precision
        self.model = made.to(given.device, memory_format=torch.channels_last).train()
        fused = given.device.type == "cuda"
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, fused=fused)
        scaled = precision == torch.float16 and given.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(given.device.type, enabled=scaled)

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """One step, without waiting for anything."""
        enabled = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=self.precision, enabled=enabled):
            loss = torch.nn.functional.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def wait(given: argparse.Namespace) -> None:
    """Wait until the device has finished its work."""
    if given.device.type == "cuda":
        torch.cuda.synchronize(given.device)


def endless(batches: DataLoader) -> Iterator[Any]:
    """Epoch after epoch."""
    epoch = 0
    while True:
        batches.set_epoch(epoch)
        yield from batches
        epoch += 1


def rate(given: argparse.Namespace, training: Training, batches: Iterator[Any], steps: int) -> Figures:
    """images/s and the share of the time in which the loop waited for a batch."""
    for _ in range(3):
        training.step(*next(batches)[:2])
    wait(given)
    images, waited_s, started_s = 0, 0.0, time.perf_counter()
    for _ in range(steps):
        before_s = time.perf_counter()
        batch = next(batches)
        waited_s += time.perf_counter() - before_s
        training.step(batch[0], batch[1])
        images += len(batch[0])
    wait(given)
    total_s = time.perf_counter() - started_s
    return {"images_per_s": round(images / total_s), "waiting": round(waited_s / total_s, 3), "steps": steps}


def throughput(given: argparse.Namespace) -> Figures:
    """Loader and model together, and the model alone; then RandAugment's depth."""
    size, batch, steps = (32, 8, 3) if given.small else (224, 256, 60)
    root = folder(32 if given.small else 4096, 64 if given.small else 400)
    torch.backends.cudnn.benchmark = True
    found: Figures = {}
    synthetic = torch.randn(batch, 3, size, size, device=given.device).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.zeros(batch, dtype=torch.int64, device=given.device)

    def same() -> Iterator[Any]:
        while True:
            yield synthetic, labels

    for precision in (torch.float16, torch.bfloat16):
        training, name = Training(given, precision), str(precision).removeprefix("torch.")
        found[f"synthetic, {name}"] = rate(given, training, same(), steps)
        batches = endless(loader(root, given, size, batch))
        found[f"loader, {name}"] = rate(given, training, batches, steps)
    for depth in (0, 1, 2):
        more = [augment.RandAugment(depth=depth)] if depth else []
        batches = endless(loader(root, given, size, batch, augment=more))
        found[f"RandAugment depth {depth}"] = rate(given, training, batches, steps)
    return found


def recipes(given: argparse.Namespace) -> Figures:
    """images/s of `fastpipe-train` on this machine's own photos, Mild and Hot."""
    root, found = splits(64 if given.small else 4096, 64 if given.small else 400), {}
    for recipe in ("mild", "hot"):
        with tempfile.TemporaryDirectory() as output:
            command = [sys.executable, "-P", "-m", "fastpipe.train", "--recipe", recipe, "--data", str(root)]
            command += ["--epochs", "1" if given.small else "2", "--output-dir", f"{output}/run"]
            command += ["--schedule.warmup-epochs", "0.5", "--quiet", "true"]
            small = ["--model", "resnet18", "--train-resolution", "32", "--val-resolution", "32"]
            command += [*small, "--val-resize", "36"] if given.small else []
            subprocess.run(command, check=True, timeout=500)
            summary = json.loads((Path(output) / "run" / "summary.json").read_text())
        found[recipe] = {name: summary[name] for name in ("images_per_s", "data_wait_share")}
    return found


def fifty(given: argparse.Namespace) -> Figures:
    """50 steps for nsys, which records from the profiler's start on; the ahead thread's number is kept."""
    size, batch, steps = (32, 8, 3) if given.small else (224, 128, 50)
    batches = endless(loader(folder(256, 64), given, size, batch, augment=[augment.RandAugment()]))
    training = Training(given, torch.bfloat16)
    for _ in range(10):
        training.step(*next(batches)[:2])
    wait(given)
    ahead = [thread.native_id for thread in threading.enumerate() if thread.name == "fastpipe-ahead"]
    if given.to:
        given.to.write_text(json.dumps(ahead))
    on_gpu = given.device.type == "cuda"
    if on_gpu:
        torch.cuda.profiler.start()
    for _ in range(steps):
        training.step(*next(batches)[:2])
    wait(given)
    if on_gpu:
        torch.cuda.profiler.stop()
    return {"steps": steps, "ahead_threads": ahead, "problems": [] if ahead else ["no ahead thread was seen"]}


def trace(given: argparse.Namespace) -> Figures:
    """The findings of nsys: copies during kernels, waits of the ahead thread, allocations."""
    ahead = set(json.loads((given.to / "threads").read_text()))
    calls = table_of(given.to / "trace.nsys-rep", "cuda_api_trace")
    work = table_of(given.to / "trace.nsys-rep", "cuda_gpu_trace")
    names = [(row["Name"], int(row["Tid"])) for row in calls]
    waits = [name for name, thread in names if thread in ahead and "Synchronize" in name]
    allocated = [name for name, _ in names if name.startswith(("cudaMalloc", "cuMemAlloc"))]
    copies, kernels = [], []
    for row in work:
        span = int(row["Start (ns)"]), int(row["Start (ns)"]) + int(row["Duration (ns)"])
        kind = copies if "HtoD" in row["Name"] or "Host-to-Device" in row["Name"] else kernels
        kind.append((*span, row["Strm"]))
    beside = sum(any(a < d and c < b and s != t for c, d, t in kernels) for a, b, s in copies)
    problems = [f"the ahead thread waits: {waits[0]} ({len(waits)} times)"] if waits else []
    problems += [f"{len(allocated)} calls of {allocated[0]} after the warm-up"] if allocated else []
    problems += ["no copy overlaps the model's kernels"] if copies and not beside else []
    problems += [] if copies else ["no copy to the device was seen"]
    return {"copies": len(copies), "beside_kernels": beside, "kernels": len(kernels), "problems": problems}


def table_of(report: Path, name: str) -> list[dict[str, str]]:
    """One of nsys's reports as rows."""
    command = ["nsys", "stats", "--report", name, "--format", "csv", "--force-export", "true", str(report)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("Start (ns)"))
    return list(csv.DictReader(io.StringIO("\n".join(line for line in lines[start:] if line))))


def ranks(given: argparse.Namespace) -> Figures:
    """Hot on this rank of two; then every rank tells its device and a hash of its weights."""
    import torch.distributed as dist

    from fastpipe.train import runner
    from fastpipe.train.config.recipe import load_recipe

    kept: list[Any] = []
    made = runner._Run.__init__

    def keep(self: Any, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        kept.append(self)

    runner._Run.__init__ = keep  # type: ignore[method-assign]
    rank = int(os.environ["RANK"])
    shared = Path(tempfile.gettempdir()) / f"fastpipe-ranks-{os.environ['MASTER_PORT']}"
    if rank == 0:
        shared.with_suffix(".part").symlink_to(splits(64 if given.small else 3200, 64))
        shared.with_suffix(".part").rename(shared)
    while not shared.exists():
        time.sleep(0.1)
    hot = load_recipe("hot")
    sizes = {
        "batch_size": 8 if given.small else 64,
        "epochs": 1,
        "train_resolution": 32,
        "val_resolution": 32,
    }
    config = replace(hot, data=str(shared), model="resnet18", val_resize=36, ema=None, **sizes)
    config = replace(config, schedule=replace(hot.schedule, warmup_epochs=0.5))
    dist.init_process_group("gloo" if given.device.type == "cpu" else "cpu:gloo,cuda:nccl")
    with tempfile.TemporaryDirectory() as output:
        runner.run(replace(config, output_dir=f"{output}/run"), explicit=("batch_size", "epochs"))
    trainer = kept[0].trainer
    digest = hashlib.sha256()
    for value in trainer.model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    mine = (str(trainer.device), digest.hexdigest()[:16], trainer.step)
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, mine)
    dist.destroy_process_group()
    if rank > 0:
        sys.exit(0)
    shared.unlink()
    problems = ["weights differ between the ranks"] if len({one[1] for one in every}) > 1 else []
    if given.device.type == "cuda" and len({one[0] for one in every}) < len(every):
        problems.append("two ranks share a device")
    return {"ranks": every, "problems": problems}


def too_big(given: argparse.Namespace) -> Figures:
    """A batch beyond the memory that this process may take."""
    torch.cuda.set_per_process_memory_fraction(0.002, given.device)
    try:
        for _ in loader(folder(512, 96), given, 448, 512, augment=[augment.RandAugment()]):
            pass
    except torch.OutOfMemoryError as error:
        return {"error": type(error).__name__, "says": str(error).splitlines()[0]}
    except Exception as error:
        return {"problems": [f"the error is {type(error).__name__}: {error}"]}
    return {"problems": ["nothing was raised"]}


def dali(given: argparse.Namespace) -> Figures:
    """An epoch decoded on the GPU."""
    batches = loader(folder(64, 96), given, 64, 16, backend="dali", numerics="fast")
    images = sum(len(images) for images, _ in batches)
    wait(given)
    return {"images": images, "problems": [] if images == 64 else [f"{images} of 64 images came"]}


PROGRAMS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "machine": machine,
    "compile": compile_kernels,
    "check": check,
    "epochs": epochs,
    "roofline": roofline,
    "throughput": throughput,
    "recipes": recipes,
    "fifty": fifty,
    "trace": trace,
    "ranks": ranks,
    "too-big": too_big,
    "dali": dali,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one program and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=sorted(PROGRAMS))
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda", 0))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--to", type=Path, help="where a program writes or reads what another one needs")
    given = parser.parse_args(argv)
    figures = PROGRAMS[given.program](given)
    print(json.dumps({**figures, "fastpipe": fastpipe.__version__}), flush=True)


if __name__ == "__main__":
    main()
