"""Write docs/conformance.md from the results of the conformance suite (scripts/conformance runs both)."""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SUITE = Path(__file__).parent.parent / "tests" / "conformance"
PACKAGES = ("torch", "torchvision", "pillow", "ffcv", "nvidia-dali-cuda130")
HEAD = """# Conformance

What each backend was seen to do, on each storage it reads. `scripts/conformance` makes the page: it runs
`tests/conformance`, one suite with one reference for every backend of the registry. `make test` runs it
with fewer worker counts.

With {versions}.

## Checks

The numbers are the worker counts with which the check passed; **bold** ones failed. An empty cell: not run.

"""
PIXELS = """
## Pixels against Pillow

Errors in levels of 0..255 over 20 images of 40 to 110 pixels, cut to 32 x 32: textures with 4 to 9 pixels
a wave, harder than photos. JPEG of all kinds (grey, progressive, CMYK, 4:4:4, with EXIF rotation), PNG with
and without palette, WebP. `exact` promises torchvision's pixels; what `fast` does stands in `explain()`.
These limits hold on this set. Over all shapes, 1:64 to 64:1, of waves of 4 to 9 pixels of the output, `fast`
on ffcv is up to 6 levels off in the mean where both directions shrink; where one is enlarged Pillow resizes.

"""
MEMORY = """
## Memory

Growth of the process tree in MiB, from the 10th epoch to the last: 30 whole ones, 60 broken off.

"""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def column(row: Row) -> str:
    """The name of a backend on a kind of storage."""
    return f"{row['backend']}, {row['storage']}"


def suite() -> list[str]:
    """The first line of the docstring of every check, in the order of the files."""
    nodes = [node for path in sorted(SUITE.glob("test_*.py")) for node in ast.parse(path.read_text()).body]
    tests = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    tests = [node for node in tests if "lab" in [argument.arg for argument in node.args.args]]
    return [(ast.get_docstring(node) or node.name).split("\n")[0] for node in tests]


def checks(rows: list[Row]) -> str:
    """One line a check, run or not; one column a backend and storage."""
    columns = list(dict.fromkeys(column(row) for row in rows))
    found: dict[str, dict[str, dict[int, bool]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        cell = found[row["says"]][column(row)]
        cell[row["workers"]] = cell.get(row["workers"], True) and row["outcome"] == "passed"
    lines = []
    for check in suite():
        cells = [found[check].get(name, {}) for name in columns]  # empty where nothing was run
        lines.append([check, *(" ".join(_count(*one) for one in sorted(cell.items())) for cell in cells)])
    return table(["check", *columns], lines)


def _count(workers: int, passed: bool) -> str:
    return str(workers) if passed else f"**{workers}**"


def pixels(rows: list[Row]) -> str:
    """The largest errors seen by backend, storage, pipeline and numerics, beside what is allowed."""
    worst: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        for key, value in row.items():
            kind, _, numerics = key.partition(" ")
            if kind in ("train", "eval"):
                place = (column(row), kind, numerics)
                before = worst.get(place, value)
                worst[place] = [max(a, b) for a, b in zip(value, before, strict=True)]
    pipelines = {"train": "RandomResizedCrop, flip", "eval": "Resize, CenterCrop"}
    lines = [
        [name, pipelines[kind], numerics, f"{v[0]:.2f}", f"{v[1]:.0f}", f"{v[2]:g}", f"{v[3]:g}"]
        for (name, kind, numerics), v in worst.items()
    ]
    return table(["backend", "pipeline", "numerics", "mean", "max", "mean allowed", "max allowed"], lines)


def memory(rows: list[Row]) -> str:
    """Growth by backend, storage and worker count."""
    lines = [
        [column(row), str(row["workers"]), row["kind"], f"{row['growth MiB']:+.1f}"]
        for row in rows
        if "growth MiB" in row
    ]
    return table(["backend", "workers", "epochs", "growth"], lines)


def versions() -> str:
    """The versions that decide what a backend does."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def main() -> None:
    """Read the results, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="files that FASTPIPE_CONFORMANCE named")
    parser.add_argument("--output", type=Path, required=True, help="the page")
    args = parser.parse_args()
    rows = [row for path in args.results for row in json.loads(path.read_text(encoding="utf-8"))]
    page = HEAD.format(versions=versions()) + checks(rows) + PIXELS + pixels(rows)
    if any("growth MiB" in row for row in rows):
        page += MEMORY + memory(rows)
    args.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
