"""The files that both checkouts write, and how they read those of OLD, for scripts/same-bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from same_cases import CHECKPOINT_RECIPE, STEPS, WRITES
from same_runs import train
from same_side import Pair, Results, Side, both, prepare

__all__ = ["files"]

_MORE_STEPS = 8  # of a run that is resumed


def files(pair: Pair) -> tuple[Results, Results]:
    """The written files, byte by byte, and whether each side reads those of OLD."""
    prepare(pair[0])
    old = pair[0]
    begun = train(old, "begun", STEPS, "--recipe", CHECKPOINT_RECIPE)
    for name, data in (("report", ["--quick", "--seconds-per-stage", "0.1"]), ("observed", [])):
        profile(old, name, data)
    return both(pair, lambda side: written(side) | read_back(side, old, begun))


def profile(side: Side, name: str, more: Sequence[str]) -> None:
    """A report of fastpipe-profile as JSON: of the photos, or of a script that reads them."""
    out = ["--json", str(side.folder / f"{name}.json")]
    if name == "report":
        side.must(
            "fastpipe-profile", *out, "--workers", "1", "--batch-size", "8", *more, str(side.data / "photos")
        )
        return
    script = side.folder / "script.py"
    script.write_text(_SCRIPT.format(data=str(side.data / "photos")), encoding="utf-8")
    side.must("fastpipe-profile", "run", "--steps", "5", "--warmup", "1", *out, str(script))


_SCRIPT = """
from torchvision import transforms
from fastpipe import DataLoader

crop = transforms.Compose([transforms.RandomResizedCrop(64), transforms.ToTensor()])
for images, labels in DataLoader({data!r}, 8, transform=crop, seed=1):
    images.mean()
"""


def written(side: Side) -> Results:
    """Hashes of .beton files and of the demo data."""
    found: Results = {}
    for name, (data, *more) in WRITES.items():
        source = data if data == "demo" else str(side.data / data)
        done = side.run("fastpipe-write", source, f"{name}.beton", *more)
        path = side.folder / f"{name}.beton"
        error = f"failed: exit {done.returncode}: {done.stderr[-300:]}"
        found[f"fastpipe-write {' '.join([data, *more])}"] = [of_file(path)] if path.exists() else [error]
    photos = sorted((side.folder / "cache" / "demo").glob("*/*/*.jpg"))
    found["photos of the demo"] = [of_file(path) for path in photos] or ["failed: none"]
    return found


def of_file(path: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:20]


def read_back(side: Side, old: Side, begun: list[str]) -> Results:
    """This side's results with OLD's .beton files, checkpoint and profiles."""
    found: Results = {}
    for name in ("demo", "odd", "photos"):
        code = side.run("fastpipe-write", "--verify", str(old.data / f"{name}.beton")).returncode
        found[f"verify OLD's {name}.beton"] = ["exit 0"] if code == 0 else [f"failed: exit {code}"]
    shutil.copytree(old.folder / "begun", side.folder / "resumed")
    steps = len(begun) + _MORE_STEPS
    resumed = train(side, "resumed", steps, "--recipe", CHECKPOINT_RECIPE, "--resume", "auto")
    enough = len(begun) >= STEPS and len(resumed) >= steps
    found["resume OLD's checkpoint"] = resumed[:steps] if enough else ["failed: " + " ".join(resumed[-1:])]
    for name in ("report", "observed"):
        report, out = str(old.folder / f"{name}.json"), side.folder / f"{name}-diff.json"
        done = side.run("fastpipe-profile", "diff", report, report, "--json", str(out))
        read = done.returncode == 0 and out.exists()
        found[f"fastpipe-profile diff of OLD's {name}"] = (
            list(numbers(json.loads(out.read_text()))) if read else [f"failed: {done.stderr[-300:]}"]
        )
    return found


def numbers(value: Any) -> Iterator[str]:
    """The numbers in a JSON document, in order."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    elif isinstance(value, int | float):
        yield repr(value)
