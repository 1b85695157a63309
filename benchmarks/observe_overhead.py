"""What `fastpipe-profile run` costs a script (limit 2 %), and planted stages against measured ones (10 %).

    python benchmarks/observe_overhead.py [--pairs 21] [--repeats 5] [--json OUT.json]

Cost: CPU seconds of the process tree for the same batches with and without hooks, in alternating loaders,
and once more without, as a measure of the noise.
Planted: a stage that burns a known CPU time; the stage's own time as the tool reports it.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fastpipe.profiling.observe.records import read_folder
from fastpipe.profiling.observe.summary import LoaderSummary, Summary, summarise
from fastpipe.profiling.observe.waits import Observer

PLANTED_MS = 5.0
BATCH = 16


def burn(seconds: float) -> None:
    """Spend CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Burn:
    """A transform that costs PLANTED_MS where it is switched on."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, image: Any) -> Any:
        """The image as it is."""
        if self.on:
            burn(PLANTED_MS / 1000)
        return image


class Photos(Dataset[Any]):
    """One JPEG of 400 x 300 pixels, decoded anew for each sample; `place` burns PLANTED_MS."""

    def __init__(self, length: int, place: str = "") -> None:
        buffer = io.BytesIO()
        Image.effect_noise((400, 300), 40).convert("RGB").save(buffer, "JPEG")
        self.data, self.length, self.place = buffer.getvalue(), length, place
        self.transform = transforms.Compose(
            [
                Burn(place == "transform"),
                transforms.RandomResizedCrop(176),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.2,) * 3),
            ]
        )

    def __len__(self) -> int:
        """The samples of an epoch."""
        return self.length

    def __getitem__(self, index: int) -> Any:
        """The picture, cropped anew, and its number."""
        if self.place == "dataset":
            burn(PLANTED_MS / 1000)
        return self.transform(Image.open(io.BytesIO(self.data)).convert("RGB")), index


def slow_collate(samples: list[Any]) -> Any:
    """torch's collate after PLANTED_MS for each sample."""
    burn(len(samples) * PLANTED_MS / 1000)
    return torch.utils.data.default_collate(samples)


def tree_cpu() -> float:
    """CPU seconds of this process and its living and reaped children."""
    process = psutil.Process()
    times = [process.cpu_times()]
    own = times[0].user + times[0].system + times[0].children_user + times[0].children_system
    for child in process.children(recursive=True):
        found = child.cpu_times()
        own += found.user + found.system
    return float(own)


def one_side(observed: bool, workers: int, batches: int) -> float:
    """CPU seconds for an epoch after a first batch; the hooks stay for the whole of it."""
    with tempfile.TemporaryDirectory() as folder:
        observer = Observer(Path(folder), warmup=0, steps=10**9, spans=False, on_close=lambda: None)
        if observed:
            observer.install()
        iterator = iter(DataLoader(Photos(batches * BATCH), BATCH, num_workers=workers))
        next(iterator)
        start = tree_cpu()
        for _ in iterator:
            pass
        spent = tree_cpu() - start
        if observed:
            observer.close()
    return spent


def planted(place: str, workers: int, batches: int) -> tuple[LoaderSummary, Summary]:
    """The summary of an epoch with the burnt time in `place`."""
    with tempfile.TemporaryDirectory() as folder:
        observer = Observer(Path(folder), warmup=2, steps=10**9, spans=False, on_close=lambda: None)
        observer.install()
        collate = slow_collate if place == "collate" else None
        for _ in DataLoader(Photos(batches * BATCH, place), BATCH, num_workers=workers, collate_fn=collate):
            pass
        observer.close()
        end = observer.closed_at or 0
        logs = read_folder(Path(folder))
        summary = summarise(observer.waits, observer.loaders, logs, warmup=2, end=end)
    assert summary.main is not None
    return summary.main, summary


def stage_ms(loader: LoaderSummary, place: str) -> float:
    """CPU-ms per image of the stage that holds the burnt time."""
    name = {"transform": "transform:Burn"}.get(place, place)
    return sum(stage.cpu_ms for stage in loader.stages if stage.name == name)


def main() -> None:
    """Measure, print, and write the raw numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"cost": {}, "planted": {}}
    for workers in (0, 1):
        rounds = []
        for number in range(args.pairs + 1):
            # Two sides without hooks: what they differ by is noise. Each has every place in turn.
            order = [("on", "off", "again")[(number + place) % 3] for place in range(3)]
            rounds.append({side: one_side(side == "on", workers, args.batches) for side in order})
        found["cost"][workers] = {"rounds": rounds[1:]}
        for side, words in (("on", "with hooks"), ("again", "without, again")):
            ratios = [spent[side] / spent["off"] for spent in rounds[1:]]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found["cost"][workers][f"{side} / off"] = [low, middle, high]
            print(
                f"workers={workers}: CPU {words} / without {middle:.3f} (quartiles {low:.3f} to {high:.3f}), "
                f"n={len(ratios)}"
            )
    for place in ("dataset", "transform", "collate"):
        base = [stage_ms(planted("", 1, args.batches)[0], place) for _ in range(args.repeats)]
        runs = [planted(place, 1, args.batches) for _ in range(args.repeats)]
        got = [stage_ms(loader, place) - statistics.median(base) for loader, _ in runs]
        own = [summary.own_worker_share for _, summary in runs]
        found["planted"][place] = {"planted_ms": PLANTED_MS, "measured_ms": got, "own_worker_share": own}
        worst = max(abs(value / PLANTED_MS - 1) for value in got)
        middle = statistics.median(got)
        print(f"{place}: {middle:.2f} of {PLANTED_MS} ms, worst error {100 * worst:.1f} %, n={len(got)}")
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
