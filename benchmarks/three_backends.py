"""One training on three backends: losses of the first steps, top-1 over seeds, the curves in one picture.

    python benchmarks/three_backends.py RUNS [--train] [--epochs 6] [--picture FILE.png] [--json FILE]
    python benchmarks/three_backends.py --first [--json FILE]     # the first 20 steps alone, 30 s a run

RUNS/<backend>-<seed>/ are run folders of `fastpipe-train --recipe mild --data demo --model resnet18`; --train
makes those that are not there. Order, crops, flips and operations are equal on all backends by construction
(tests/conformance); what differs is the arithmetic of decoding and resizing. The limits: each of the first 20
losses within 2 % of torchvision's at the same seed, a mean top-1 within the spread of torchvision's seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

BACKENDS = ("torchvision", "dali", "ffcv")
SEEDS = (1, 2, 3)
FIRST, LIMIT = 20, 0.02


def train(folder: Path, backend: str, seed: int, epochs: int) -> None:
    """One run into `folder`, unless it is there."""
    if (folder / "summary.json").exists():
        return
    command = ["fastpipe-train", "--recipe", "mild", "--data", "demo", "--model", "resnet18", "--epochs"]
    command += [str(epochs), "--train-resolution", "64", "--backend", backend, "--seed", str(seed)]
    subprocess.run([*command, "--num-workers", "1", "--output-dir", str(folder)], check=True)


def first_losses(backend: str, seed: int, epochs: int) -> list[float]:
    """The losses of the first 20 steps of the same run, without the rest of it."""
    from fastpipe.storage import resolve
    from fastpipe.train.cli import parse
    from fastpipe.train.config.fit import fit_to_data
    from fastpipe.train.data import train_loader
    from fastpipe.train.loop import Trainer
    from fastpipe.train.model import build_model
    from fastpipe.train.splits import open_indexes

    arguments = ["--recipe", "mild", "--data", "demo", "--model", "resnet18", "--epochs", str(epochs)]
    arguments += ["--train-resolution", "64", "--backend", backend, "--seed", str(seed), "--num-workers", "1"]
    asked, index = parse(arguments), open_indexes(resolve("demo")).train
    fitted = fit_to_data(
        asked.config, len(index), explicit=asked.explicit, recipe_batch_size=asked.recipe_batch_size
    )
    torch.manual_seed(seed)
    num, cpu = len(index.classes), torch.device("cpu")
    loader = train_loader(fitted.config, index)
    model = build_model(fitted.config, num, cpu)
    trainer = Trainer(config=fitted.config, model=model, loader=loader, num_classes=num, device=cpu)
    trainer.model.train()
    loader.set_epoch(0)
    batches = itertools.islice(loader, FIRST)
    return [trainer.train_step(images, labels).item() for images, labels in batches]


def compare_first(epochs: int, path: Path | None) -> int:
    """Print the largest difference from torchvision's losses by backend; 1 if a limit is missed."""
    losses = {(b, s): first_losses(b, s, epochs) for s in SEEDS for b in BACKENDS}
    worst = {
        backend: [
            max(abs(a / b - 1) for a, b in zip(losses[backend, s], losses["torchvision", s], strict=True))
            for s in SEEDS
        ]
        for backend in BACKENDS
    }
    for backend, found in worst.items():
        print(f"| {backend} | {' '.join(f'{value:.2%}' for value in found)} |")
    if path is not None:
        record = {f"{backend}-{seed}": found for (backend, seed), found in losses.items()}
        path.write_text(json.dumps({"loss_difference": worst, "losses": record}, indent=1) + "\n")
    return 0 if max(map(max, worst.values())) <= LIMIT else 1


def read(folder: Path) -> dict[str, Any]:
    """The losses of every step, top-1 of every epoch, and the final top-1."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "loss": [line["loss"] for line in lines if line["kind"] == "step"],
        "top1": [line["top1"] for line in lines if line["kind"] == "epoch"],
        "final": json.loads((folder / "summary.json").read_text())["top1"],
    }


def draw(runs: dict[tuple[str, int], dict[str, Any]], path: Path) -> None:
    """Loss by step and top-1 by epoch; a colour a backend, a line a seed."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    colours = dict(zip(BACKENDS, ("tab:blue", "tab:green", "tab:orange"), strict=True))
    for (backend, seed), run in runs.items():
        label = backend if seed == SEEDS[0] else None
        left.plot(run["loss"], color=colours[backend], label=label, linewidth=0.8, alpha=0.7)
        right.plot(
            range(1, len(run["top1"]) + 1), run["top1"], color=colours[backend], label=label, marker="."
        )
    left.set(xlabel="step", ylabel="loss (BCE, summed over 16 classes)")
    right.set(xlabel="epoch", ylabel="validation top-1")
    left.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> int:
    """Print the record; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="?")
    parser.add_argument("--first", action="store_true", help="the first 20 steps alone")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.first:
        return compare_first(arguments.epochs, arguments.json)
    if arguments.runs is None:
        parser.error("RUNS or --first")
    keys = [(backend, seed) for backend in BACKENDS for seed in SEEDS]
    if arguments.train:
        for backend, seed in keys:
            train(arguments.runs / f"{backend}-{seed}", backend, seed, arguments.epochs)
    runs = {key: read(arguments.runs / f"{key[0]}-{key[1]}") for key in keys}
    if arguments.picture:
        draw(runs, arguments.picture)
    ok = True
    print("| backend | largest difference of the first 20 losses, seeds 1 2 3 | top-1, seeds 1 2 3 | mean |")
    print("|---|---|---|---|")
    spread = [runs["torchvision", seed]["final"] for seed in SEEDS]
    record: dict[str, Any] = {}
    for backend in BACKENDS:
        worst = []
        for seed in SEEDS:
            pairs = zip(runs[backend, seed]["loss"], runs["torchvision", seed]["loss"], strict=True)
            worst.append(max(abs(a / b - 1) for a, b in list(pairs)[:FIRST]))
        final = [runs[backend, seed]["final"] for seed in SEEDS]
        mean = statistics.mean(final)
        ok &= max(worst) <= LIMIT and min(spread) <= mean <= max(spread)
        shown = " ".join(f"{value:.2%}" for value in worst), " ".join(f"{value:.3f}" for value in final)
        print(f"| {backend} | {shown[0]} | {shown[1]} | {mean:.3f} |")
        record[backend] = {
            "loss_difference": worst,
            "top1": final,
            "top1_by_epoch": [runs[backend, seed]["top1"] for seed in SEEDS],
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
