"""Four questions to the recipes, asked of real photos on the CPU: what learns more in the same epochs?

    python benchmarks/learning.py FOLDER --runs RUNS [--only mild,hot_long] [--seeds 3] [--epochs 6]
    python benchmarks/learning.py FOLDER --runs RUNS --report NAME

    recipe   mild against nvidia_hparams, equal epochs
    mixing   MixUp and label smoothing, each alone and both (the reference text's Table 5)
    loss     BCE with its bias at -log(classes), BCE without, cross-entropy (Table 8)
    length   hot against mild, three times the epochs

One run at a time, one thread, each in RUNS/ARM-SEED by `fastpipe-train`'s own `run`; a finished run is not
repeated, an interrupted one continues. The settings are fixed in this file, none was chosen by a score.
`--report` writes NAME.json and NAME.png from the finished runs and prints the tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Small enough for one core: 0.5 million weights, 2 ms an image and step at 48 pixels.
COMMON = ("--model", "test_resnet", "--train-resolution", "48", "--batch-size", "32", "--num-workers", "0")
LONG = 3
SMOOTHED = ("--loss.label-smoothing", "0.08")
HARD = ("--loss.label-smoothing", "0.0")
MIXED = ("--mixup-alpha", "0.2")
# Mild is also "label smoothing alone" and "BCE with bias": one arm answers three questions.
ARMS: dict[str, tuple[str, ...]] = {
    "mild": ("--recipe", "mild"),
    "nvidia_hparams": ("--recipe", "nvidia_hparams"),
    "mixup": ("--recipe", "mild", *HARD, *MIXED),
    "mixup_smoothing": ("--recipe", "mild", *SMOOTHED, *MIXED),
    "bce_no_bias": ("--recipe", "mild", "--loss.bias-init", "false"),
    "cross_entropy": ("--recipe", "mild", "--loss.name", "cross_entropy", "--loss.bias-init", "false"),
    "mild_long": ("--recipe", "mild"),
    "hot_long": ("--recipe", "hot"),
}
QUESTIONS: dict[str, tuple[str, ...]] = {
    "recipe": ("nvidia_hparams", "mild"),
    "mixing": ("mild", "mixup", "mixup_smoothing"),
    "loss": ("cross_entropy", "bce_no_bias", "mild"),
    "length": ("mild_long", "hot_long"),
}


def arguments(arm: str, seed: int, epochs: int, data: Path, runs: Path) -> list[str]:
    """The command line of one run."""
    length = epochs * LONG if arm.endswith("_long") else epochs
    own = ["--epochs", str(length), "--seed", str(seed), "--data", str(data), "--backend", "torchvision"]
    return [*ARMS[arm], *COMMON, *own, "--fit-to-data", "true", "--output-dir", str(runs / f"{arm}-{seed}")]


def train(argv: Sequence[str], folder: Path) -> None:
    """One run to its end, and the CPU seconds that it took beside its summary."""
    from fastpipe.train.cli import parse
    from fastpipe.train.config.options import Options
    from fastpipe.train.runner import run

    resumed, before = (folder / "last.ckpt").exists(), time.process_time()
    asked = parse(argv)
    run(
        asked.config,
        Options(resume="auto" if resumed else None),
        explicit=asked.explicit,
        recipe_batch_size=asked.recipe_batch_size,
    )
    # A continued run has lost count of its first part.
    spent = None if resumed else round(time.process_time() - before, 2)
    (folder / "cpu.json").write_text(json.dumps({"cpu_s": spent}) + "\n")


def finished(runs: Path, arm: str, seeds: int) -> Iterator[dict[str, Any]]:
    """What the finished runs of one arm found, in the order of their seeds."""
    for seed in range(1, seeds + 1):
        folder = runs / f"{arm}-{seed}"
        if not (folder / "cpu.json").exists():
            continue
        summary = json.loads((folder / "summary.json").read_text())
        log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        yield {
            "seed": seed,
            "validation": summary["top1"],
            "validation_raw": summary["top1_raw"],
            "test": summary["test_top1"],
            "epochs": summary["epochs"],
            "steps": summary["steps"],
            "cpu_s": json.loads((folder / "cpu.json").read_text())["cpu_s"],
            "time_to_train_s": summary["time_to_train_s"],
            "fitted": summary["fit_to_data"],
            "curve": [line["top1"] for line in log if "top1" in line],
        }


def spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation, as text."""
    if len(values) < 2:
        return ", ".join(f"{value:.3f}" for value in values) or "-"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def report(found: dict[str, list[dict[str, Any]]]) -> str:
    """The tables of all questions, as Markdown."""
    lines: list[str] = []
    for question, arms in QUESTIONS.items():
        lines += [
            f"\n{question}\n",
            "| arm | epochs | n | validation | test | CPU-s |",
            "|---|---|---|---|---|---|",
        ]
        for arm in arms:
            runs = found[arm]
            cpu = [run["cpu_s"] for run in runs if run["cpu_s"] is not None]
            lines.append(
                f"| {arm} | {runs[0]['epochs'] if runs else '-'} | {len(runs)} "
                f"| {spread([run['validation'] for run in runs])} | {spread([run['test'] for run in runs])} "
                f"| {statistics.median(cpu) if cpu else 0:.0f} |"
            )
    return "\n".join(lines)


def picture(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Validation top-1 by epoch, one panel a question, one line a run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(QUESTIONS), figsize=(16, 4), sharey=True)
    for panel, (question, arms) in zip(panels, QUESTIONS.items(), strict=True):
        for number, arm in enumerate(arms):
            for run in found[arm]:
                label = arm if run is found[arm][0] else None
                panel.plot(
                    range(1, run["epochs"] + 1), run["curve"], color=f"C{number}", alpha=0.8, label=label
                )
        panel.set(title=question, xlabel="epoch")
        panel.legend(loc="lower right")
    panels[0].set_ylabel("validation top-1")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Run what is missing, or report what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--only", default=",".join(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()
    if args.folder is None or args.runs is None:
        parser.print_help()  # hours of work are not started by `make bench`
        return
    if args.report:
        found = {arm: list(finished(args.runs, arm, args.seeds)) for arm in ARMS}
        args.report.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        picture(found, args.report.with_suffix(".png"))
        print(report(found))
        return
    # Seed by seed, so that what is finished at any time compares all arms.
    for seed in range(1, args.seeds + 1):
        for arm in args.only.split(","):
            folder = args.runs / f"{arm}-{seed}"
            if not (folder / "cpu.json").exists():
                train(arguments(arm, seed, args.epochs, args.folder, args.runs), folder)


if __name__ == "__main__":
    main()
