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

What each backend was seen to do, on each kind of storage that it reads. `scripts/conformance` writes this
page: it runs `tests/conformance`, one suite with one reference for every backend of the registry. `make
test` runs the suite with fewer worker counts.

With {versions}.

## Checks

The numbers are the worker counts with which the check passed; **bold** ones failed. An empty cell was not
run.

"""
PIXELS = """
## Pixels against Pillow

Errors in levels of 0..255 over 20 images of 40 to 110 pixels, cropped to 32 x 32: textures with 4 to 9
pixels per wave, which are harder than photos. The files are JPEGs of all kinds (grey, progressive, CMYK,
4:4:4, with EXIF rotation), PNGs with and without palette, and WebP. `exact` promises torchvision's
pixels; `explain()` says what `fast` does. These limits hold for this set. Over all shapes, 1:64 to 64:1,
of waves of 4 to 9 output pixels, `fast` on ffcv is up to 6 levels off in the mean if both directions
shrink; if one is enlarged, Pillow resizes. DALI's decoding on a GPU (`FASTPIPE_DALI_MIXED=1` with `fast`)
is used only if, in a test of 64 JPEGs, each box is at most 1 level from the CPU's decoder in the mean,
with at most 1 % of the bytes more than 8 levels off.

"""
MEMORY = """
## Memory

Growth of the process tree in MiB from the 10th epoch to the last, over 30 complete epochs and 60
abandoned ones.

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
    """The largest errors by backend, storage, pipeline and numerics, next to what is allowed."""
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
