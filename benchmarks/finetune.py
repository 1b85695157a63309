"""The recipe finetune on a folder of photos: top-1 of the test split for each seed, and what a seed costs.

    python benchmarks/finetune.py FOLDER --runs RUNS [--seeds 3] [--report NAME]

Each seed (0, 1, ...) is one `fastpipe-train --recipe finetune` in RUNS/seed-K; a finished one is not
repeated. A run reads the test split once, at its end. The settings are those of the recipe, which were chosen
on the validation split (docs/design/022-pretrained.md). The interval is Wilson's, 95 %, of one run's correct
photos. `--report` writes NAME.json and prints the table.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

_Z = 1.959964  # the normal distribution's 97.5 % quantile


def wilson(correct: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, z2 = correct / of, _Z * _Z
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return centre - half, centre + half


def train(folder: Path, runs: Path, seed: int) -> None:
    """One run to its end, with its CPU seconds (all threads and processes, imports included)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = runs / f"seed-{seed}"
    options = ["--recipe", "finetune", "--data", str(folder), "--seed", str(seed), "--output-dir", str(own)]
    subprocess.run([sys.executable, "-m", "fastpipe.train", *options, "--num-workers", "0"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    (own / "cpu.json").write_text(json.dumps({"cpu_s": round(spent, 1)}) + "\n")


def found(runs: Path, seed: int, images: int) -> dict[str, Any]:
    """What the run of a seed found on the test split, which has `images` photos."""
    folder = runs / f"seed-{seed}"
    summary = json.loads((folder / "summary.json").read_text())
    low, high = wilson(round(summary["test_top1"] * images), images)
    return {
        "seed": seed,
        "validation": summary["top1"],
        "test": summary["test_top1"],
        "low": low,
        "high": high,
        "cpu_s": json.loads((folder / "cpu.json").read_text())["cpu_s"],
        "epochs": summary["epochs"],
        "per_class": summary["per_class"],
    }


def report(rows: list[dict[str, Any]], images: int) -> str:
    """The table, as Markdown."""
    lines = ["| seed | validation | test | 95 % (Wilson) | CPU-min |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['seed']} | {row['validation']:.3f} | {row['test']:.4f} "
        f"({round(row['test'] * images)} of {images}) "
        f"| {row['low']:.3f} to {row['high']:.3f} | {row['cpu_s'] / 60:.1f} |"
        for row in rows
    ]
    tests = [row["test"] for row in rows]
    spread = f" ± {statistics.stdev(tests):.4f}" if len(tests) > 1 else ""
    return "\n".join([*lines, f"\nmean {statistics.fmean(tests):.4f}{spread} over {len(tests)} seeds"])


def main() -> None:
    """Run the seeds that are missing, or report what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()
    if args.folder is None or args.runs is None:
        parser.print_help()  # an hour of work is not started by `make bench`
        return
    for seed in range(args.seeds):
        if not (args.runs / f"seed-{seed}" / "cpu.json").exists():
            train(args.folder, args.runs, seed)
    images = sum(1 for path in (args.folder / "test").rglob("*") if path.is_file())
    rows = [found(args.runs, seed, images) for seed in range(args.seeds)]
    if args.report:
        args.report.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    print(report(rows, images))


if __name__ == "__main__":
    main()
