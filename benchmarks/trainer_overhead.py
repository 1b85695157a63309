"""CPU-seconds of fastpipe-train's loop beside a bare PyTorch loop; of SAM; of EMA. Data already in memory.

    python benchmarks/trainer_overhead.py [--pairs 12] [--only loop,step,sam_5,sam_10,pass,ema] [--json FILE]

loop  Trainer.train_epoch with the run folder's logging of every step, against forward, BCE, backward, the
      same optimizer and a loss read in every step. Held against 1.02.
step  the same difference in milliseconds a step, by a model of one linear layer, where nothing hides it.
sam   every k-th step with a second pass, against none. Held against 1 + 1.1 / k.
pass  a second pass alone, weights moved and brought back, over a plain step. Held against the same 1.1.
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
from fastpipe.train.config.groups import EMAConfig, SAMConfig
from fastpipe.train.config.recipe import load_recipe
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.loop import Trainer
from fastpipe.train.losses import StepLog
from fastpipe.train.model import build_model
from fastpipe.train.optimizers import build_optimizer
from fastpipe.train.output.folder import RunFolder
from fastpipe.train.output.progress import Display
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


def network(config: TrainConfig) -> nn.Module:
    """The recipe's model, or one linear layer; its weights are a function of the configuration alone."""
    torch.manual_seed(0)
    if config.model == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES))
    return build_model(config, CLASSES, CPU)


def trainer(config: TrainConfig) -> Trainer:
    """A run with its batches in memory."""
    model = network(config)
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
        self.model = network(like.config)
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


def loop(config: TrainConfig, pairs: int, folder: RunFolder) -> dict[str, Any]:
    """Our loop over the bare one."""
    run = trainer(config)
    bare, epoch = Bare(run), ours(run, folder)
    epoch()
    bare.epoch()
    if not same_weights(run, bare):
        raise SystemExit("the two loops leave different weights: nothing to compare")
    return compare(epoch, bare.epoch, pairs)


def step(pairs: int, folder: RunFolder) -> dict[str, Any]:
    """Milliseconds a step that our loop takes more than the bare one, beside one linear layer."""
    found = loop(replace(PLAIN, model="linear"), 20 * pairs, folder)
    more = [1000.0 * (first - second) / STEPS for first, second in found["seconds"]]
    return {"n": found["n"], "ms": statistics.median(more), "quartiles": statistics.quantiles(more, n=4)}


def sam(interval: int, pairs: int, folder: RunFolder) -> dict[str, Any]:
    """Every `interval`-th step with a second pass, over none."""
    perturbed = trainer(replace(PLAIN, sam=SAMConfig(rho=0.5, interval=interval)))
    return {
        "limit": 1 + 1.1 / interval,
        **compare(ours(perturbed, folder), ours(trainer(PLAIN), folder), pairs),
    }


def second_pass(pairs: int, folder: RunFolder) -> dict[str, Any]:
    """Uphill, forward and backward, and back, over a plain step; STEPS of each, neighbours in time."""
    run, perturbed = trainer(PLAIN), trainer(replace(PLAIN, sam=SAMConfig(rho=0.5, interval=1)))
    sam, batches = perturbed.sam, list(perturbed.loader)
    assert sam is not None
    perturbed._backward(*batches[0])  # the gradients that the first pass goes uphill by

    def passes() -> None:
        for images, labels in batches:
            sam.ascend(perturbed.model.parameters())
            perturbed._backward(images, labels)
            sam.descend()

    return {"limit": 1.1, **compare(passes, ours(run, folder), pairs)}


def ema(pairs: int, folder: RunFolder) -> dict[str, Any]:
    """Seconds of one update over those of the 20 steps that it closes; neighbours in time."""
    run = trainer(replace(PLAIN, ema=EMAConfig(half_life_batches=100, update_interval=20)))
    average, plain = run.ema, ours(run, folder)
    assert average is not None
    seconds = []
    for _ in range(pairs + 1):
        steps = cpu_seconds(plain) * 20 / STEPS
        # An update is short beside the clock's noise: the mean of ten.
        update = cpu_seconds(lambda: void([average.after_step(run.model, 20) for _ in range(10)])) / 10
        seconds.append((update, steps))
    shares = [update / steps for update, steps in seconds[1:]]
    return {
        "n": pairs,
        "share": statistics.median(shares),
        "quartiles": statistics.quantiles(shares, n=4),
        "seconds": seconds[1:],
    }


def main() -> None:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--only", default="loop,step,sam_5,sam_10,pass,ema")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Callable[[RunFolder], dict[str, Any]]] = {
        "loop": lambda folder: loop(PLAIN, args.pairs, folder),
        "step": lambda folder: step(args.pairs, folder),
        "sam_5": lambda folder: sam(5, args.pairs, folder),
        "sam_10": lambda folder: sam(10, args.pairs, folder),
        "pass": lambda folder: second_pass(args.pairs, folder),
        "ema": lambda folder: ema(args.pairs, folder),
    }
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        for name in args.only.split(","):
            found[name] = rows[name](folder)
            print(name, {key: value for key, value in found[name].items() if key != "seconds"}, flush=True)
        folder.close()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
