"""Does Hot win where a model overfits? Mild and Hot on a fifth of the photos, short and long.

    python benchmarks/few_images.py FOLDER --runs RUNS [--seeds 3]
    python benchmarks/few_images.py FOLDER --runs RUNS --report NAME

The text's recipes are for ever longer trainings: its Hot wins where Mild overfits. The tables of scale
small never get there, with all photos and at most 36 epochs. So RUNS/data has every fifth training photo of
each class, and all of validation and test; the settings are those of scale small, for 40 epochs and for
200. One run at a time, in RUNS/RECIPE-EPOCHS-SEED by fastpipe-train; a finished run is not repeated, an
interrupted one continues. The settings are fixed in this file, none was chosen by a score, and a run reads
the test split once. `--report` writes NAME.json and prints the tables.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastpipe.efficiency.paired import paired
from fastpipe.train.studies.scale import FIRST_SEED, small_options

RECIPES = ("mild", "hot")
LENGTHS = (40, 200)
EVERY = 5


def few_images(folder: Path, target: Path) -> None:
    """A copy of `folder` with every fifth file of each class of train/, in the order of their names."""
    if target.exists():
        return
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    for split in ("train", "validation", "test"):
        for kind in sorted(path for path in (folder / split).iterdir() if path.is_dir()):
            (partial / split / kind.name).mkdir(parents=True)
            for path in sorted(kind.iterdir())[:: EVERY if split == "train" else 1]:
                shutil.copy(path, partial / split / kind.name / path.name)
    partial.rename(target)


def train(data: Path, folder: Path, recipe: str, epochs: int, seed: int) -> None:
    """One run to its end."""
    options = {"recipe": recipe, "epochs": str(epochs), "seed": str(seed), **small_options(recipe)}
    own = ["--data", str(data), "--output-dir", str(folder), "--resume", "auto"]
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    subprocess.run([sys.executable, "-P", "-m", "fastpipe.train", *words, *own], check=True)


def found(runs: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """What each run found, those of a seed one after the other."""
    rows = []
    for seed in seeds:
        for epochs in LENGTHS:
            for recipe in RECIPES:
                summary = json.loads((runs / f"{recipe}-{epochs}-{seed}" / "summary.json").read_text())
                names = ("top1", "test_top1", "time_to_train_s")
                values = {name: summary.get(name) for name in names}
                rows.append({"recipe": recipe, "epochs": epochs, "seed": seed, **values})
    return rows


def values(rows: list[dict[str, Any]], recipe: str, epochs: int, name: str) -> list[float]:
    """In percent, in the order of the seeds."""
    return [100 * row[name] for row in rows if (row["recipe"], row["epochs"]) == (recipe, epochs)]


def report(rows: list[dict[str, Any]]) -> str:
    """The tables, as Markdown: top-1 of each arm, and differences paired by seed."""
    lines = ["| recipe | epochs | n | validation | test |", "|---|---|---|---|---|"]
    for epochs in LENGTHS:
        for recipe in RECIPES:
            parts = [values(rows, recipe, epochs, name) for name in ("top1", "test_top1")]
            told = [f"{statistics.fmean(part):.2f} ± {statistics.stdev(part):.2f}" for part in parts]
            lines.append(f"| {recipe} | {epochs} | {len(parts[0])} | {' | '.join(told)} |")
    lines += ["", "| difference | epochs | validation, 95 % | test, 95 % |", "|---|---|---|---|"]
    for epochs in LENGTHS:
        told = []
        for name in ("top1", "test_top1"):
            pair = paired(values(rows, "hot", epochs, name), values(rows, "mild", epochs, name))
            told.append(f"{pair.mean:+.2f} ({pair.low:+.2f} to {pair.high:+.2f})")
        lines.append(f"| hot minus mild | {epochs} | {' | '.join(told)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, or report what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()
    if args.folder is None or args.runs is None:
        parser.print_help()  # an hour of work is not started by `make bench`
        return
    if args.seeds < 2:
        parser.error("--seeds must be at least 2: one difference has no interval")
    seeds = list(range(FIRST_SEED, FIRST_SEED + args.seeds))
    if args.report:
        rows = found(args.runs, seeds)
        args.report.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
        print(report(rows))
        return
    few_images(args.folder, args.runs / "data")
    # Seed by seed, so that what is finished at any time compares all arms.
    for seed in seeds:
        for epochs in LENGTHS:
            for recipe in RECIPES:
                folder = args.runs / f"{recipe}-{epochs}-{seed}"
                if not (folder / "summary.json").exists():
                    train(args.runs / "data", folder, recipe, epochs, seed)


if __name__ == "__main__":
    main()
