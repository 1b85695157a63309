"""accelerate: every mode of `prepare()`, with one process and with two (../accelerate_ranks.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import Row, photos, quietly, say, tried

RANKS = Path(__file__).parents[1] / "accelerate_ranks.py"


def main(ranks: int) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [*start, str(RANKS), str(photos() / "train")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    modes: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.endswith(f", {ranks} ranks"):
            what, _, mode = line.removesuffix(f", {ranks} ranks").partition(": ")
            modes.setdefault(what, []).append(mode)
    for what, told in modes.items():
        row = f"{ranks} process{'es' * (ranks > 1)}: {what} ({'; '.join(told)})"
        say(Row(row, fast="yes (EpochIterator of PreparedLoader)"))
    if done.returncode:
        with tried(f"all modes with {ranks} processes"):
            raise AssertionError((done.stderr.strip().splitlines() or ["?"])[-1])


if __name__ == "__main__":
    quietly()
    main(1)
    main(2)
    say(
        Row(
            "dispatch_batches: hard_labels, partner and weight of MixUp",
            result="no",
            note="accelerate broadcasts slices of images and labels alone; a warning says so",
        )
    )
    say(
        Row(
            "IterableDataset, batch_size=None",
            result="no",
            note="there is no batch sampler to hand out; a warning names the arguments that are lost",
        )
    )
