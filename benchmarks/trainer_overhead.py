"""CPU-seconds of fastpipe-train's loop beside a bare PyTorch loop; of SAM; of EMA. Data already in memory.

    python benchmarks/trainer_overhead.py [--pairs 12] [--json FILE]

loop  Trainer.train_epoch with the run folder's logging of every step, against forward, BCE, backward, the
      same optimizer and a loss read in every step. Held against 1.02.
sam   every k-th step with a second pass, against none. Held against 1 + 1.1 / k.
ema   one update of the average, as a share of the 20 steps between two. Held against 1 %.

resnet18, 32 images of 32 pixels, one thread: small, so that the loop's own work is a large share (1 step
takes about 0.3 s). CPU is user + system of the process. The sides take turns in going first; the first pair
is thrown away. Checked before timing: both loops leave the same weights.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from fastpipe.train.algorithms.bce import bce_loss
from fastpipe.train.algorithms.label_smoothing import dense_targets
from fastpipe.train.algorithms.schedule import set_lr
from fastpipe.train.cli import load_recipe
from fastpipe.train.config import TrainConfig
from fastpipe.train.folder import RunFolder
from fastpipe.train.loop import Trainer
from fastpipe.train.losses import StepLog
from fastpipe.train.model import build_model
from fastpipe.train.optimizers import build_optimizer
from fastpipe.train.progress import Display
from fastpipe.train.settings import EMAConfig, SAMConfig
from fastpipe.train.timing import EpochClock

STEPS, BATCH, SIDE, CLASSES = 10, 32, 32, 10
CPU = torch.device("cpu")
PLAIN = replace(
    load_recipe("mild"),
    model="resnet18",
    epochs=1000,
    batch_size=BATCH,
    precision="fp32",
    progressive_resizing=None,
    ema=None,
)


class InMemory:
    """STEPS batches, made once."""

    def __init__(self) -> None:
        made = torch.Generator().manual_seed(0)
        images = torch.randn(STEPS, BATCH, 3, SIDE, SIDE, generator=made)
        self.images = [batch.contiguous(memory_format=torch.channels_last) for batch in images]
        self.labels = list(torch.randint(0, CLASSES, (STEPS, BATCH), generator=made))

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(self.images, self.labels, strict=True))

    def __len__(self) -> int:
        return STEPS

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take up."""


def trainer(config: TrainConfig) -> Trainer:
    """A run whose weights are a function of the configuration alone."""
    torch.manual_seed(0)
    model = build_model(config, CLASSES, CPU)
    return Trainer(config=config, model=model, loader=InMemory(), num_classes=CLASSES, device=CPU)


def ours(run: Trainer, folder: RunFolder) -> Callable[[], None]:
    """One epoch as `fastpipe-train` runs it, logging every step."""
    show = Display()

    def watch(clock: EpochClock, resolution: int, logs: list[StepLog]) -> None:
        for log in logs:
            folder.log("step", log.step, {"loss": log.loss, "lr": log.lr, "resolution": log.resolution})
        show.step(
            loss=None, images_per_s=clock.images_per_s, wait_share=clock.wait_share, resolution=resolution
        )

    return lambda: void(run.train_epoch(watch))


def void(_: object) -> None:
    """Forget a result."""


class Bare:
    """What a script without a trainer does."""

    def __init__(self, like: Trainer) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = build_model(like.config, CLASSES, CPU)
        self.optimizer = build_optimizer(like.config.optimizer, self.model)
        self.batches, self.lr, self.steps = InMemory(), like.lr, 0
        self.smoothing = like.config.loss.label_smoothing

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """As the recipe's."""
        return bce_loss(self.model(images), dense_targets(labels, CLASSES, self.smoothing))

    def epoch(self) -> None:
        """STEPS steps."""
        self.model.train()
        for images, labels in self.batches:
            set_lr(self.optimizer, self.lr(self.steps))
            loss = self.loss(images, labels)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.steps += 1
            loss.item()


def cpu_seconds(work: Callable[[], None]) -> float:
    """User and system seconds of this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def compare(one: Callable[[], None], other: Callable[[], None], pairs: int) -> dict[str, Any]:
    """Alternating: seconds of both, and the ratio one / other within each pair."""
    seconds: list[tuple[float, float]] = []
    for pair in range(pairs + 1):
        if pair % 2:
            first, second = cpu_seconds(one), cpu_seconds(other)
        else:
            second, first = cpu_seconds(other), cpu_seconds(one)
        seconds.append((first, second))
    kept = seconds[1:]
    ratios = sorted(first / second for first, second in kept)
    quartiles = statistics.quantiles(ratios, n=4)
    return {"n": len(kept), "ratio": statistics.median(ratios), "quartiles": quartiles, "seconds": kept}


def same_weights(run: Trainer, bare: Bare) -> bool:
    """Whether two models are equal bit for bit."""
    theirs = bare.model.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in run.model.state_dict().items())


def ema_share(pairs: int) -> dict[str, Any]:
    """Seconds of one update over those of the 20 steps that it closes; neighbours in time."""
    run = trainer(replace(PLAIN, ema=EMAConfig(half_life_batches=100, update_interval=20)))
    ema, shares, seconds = run.ema, [], []
    assert ema is not None
    plain = ours(run, RunFolder(Path(tempfile.mkdtemp())))
    for _ in range(pairs + 1):
        steps = cpu_seconds(plain) * 20 / STEPS
        # An update is short beside the clock's noise: the mean of ten.
        update = cpu_seconds(lambda: void([ema.after_step(run.model, 20) for _ in range(10)])) / 10
        shares.append(update / steps)
        seconds.append((update, steps))
    quartiles = statistics.quantiles(shares[1:], n=4)
    return {
        "n": pairs,
        "share": statistics.median(shares[1:]),
        "quartiles": quartiles,
        "seconds": seconds[1:],
    }


def main() -> None:
    """Measure all three and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        run = trainer(PLAIN)
        bare, epoch = Bare(run), ours(run, folder)
        epoch(), bare.epoch()
        if not same_weights(run, bare):
            raise SystemExit("the two loops leave different weights: nothing to compare")
        found["loop"] = compare(epoch, bare.epoch, args.pairs)
        print("loop", json.dumps({k: v for k, v in found["loop"].items() if k != "seconds"}), flush=True)
        for interval in (5, 10):
            perturbed = ours(trainer(replace(PLAIN, sam=SAMConfig(rho=0.5, interval=interval))), folder)
            found[f"sam_{interval}"] = compare(perturbed, epoch, args.pairs)
            shown = {k: v for k, v in found[f"sam_{interval}"].items() if k != "seconds"}
            print(f"sam {interval}", json.dumps(shown), "limit", 1 + 1.1 / interval, flush=True)
        folder.close()
    found["ema"] = ema_share(args.pairs)
    print("ema", json.dumps({k: v for k, v in found["ema"].items() if k != "seconds"}))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
