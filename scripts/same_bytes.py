"""Whether two checkouts give the same bytes: batches, states, losses, files, options and exit codes.

    scripts/same-bytes OLD NEW [--only batches|losses|files|options ...] [--keep FOLDER] [--all]

OLD and NEW are checkouts with fastpipe and all extras installed in their .venv, as `make test` does. Each
runs its own code in its own folder, through public names. The cases are in same_cases.py.
Exit status 0: all are equal; 1: a case differs, or a side failed; 2: a wrong argument.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import same_files
import same_runs
from same_side import Pair, Results, Side

__all__ = ["SECTIONS", "compare", "main", "verdict"]

Section = Callable[[Pair], tuple[Results, Results]]
SECTIONS: Mapping[str, Section] = {
    "options": same_runs.options,
    "batches": same_runs.batches,
    "files": same_files.files,
    "losses": same_runs.losses,
}
EQUAL = "equal"


def verdict(old: Sequence[str] | None, new: Sequence[str] | None) -> str:
    """EQUAL, or the first difference. A failure on both sides is not equal, since nothing was compared."""
    for name, found in (("OLD", old), ("NEW", new)):
        if not found:
            return f"DIFFERENT: {name} has nothing"
        for text in found:
            if text.startswith("failed: "):
                return f"FAILED in {name}: {text.removeprefix('failed: ')}"
    assert old is not None and new is not None
    if list(old) == list(new):
        return EQUAL
    pairs = itertools.zip_longest(old, new, fillvalue="nothing")
    at, (one, other) = next((at, pair) for at, pair in enumerate(pairs) if pair[0] != pair[1])
    return f"DIFFERENT from number {at} of {len(old)} on: {one} in OLD, {other} in NEW"


def compare(old: Results, new: Results) -> dict[str, str]:
    """The verdict on each case of either side."""
    return {name: verdict(old.get(name), new.get(name)) for name in {**old, **new}}


def report(section: str, old: Results, verdicts: Mapping[str, str], *, everything: bool) -> int:
    """Print the unequal cases, or all, and the counts. Returns the number of unequal cases."""
    for name, text in verdicts.items():
        if everything or text != EQUAL:
            print(f"  {name:60} {len(old.get(name, ())):5} values  {text}")
    bad = sum(text != EQUAL for text in verdicts.values())
    values = sum(map(len, old.values()))
    print(f"{section}: {len(verdicts) - bad} cases equal, {bad} not, {values} values", flush=True)
    return bad + (not verdicts)


def sides(old: Path, new: Path, folder: Path) -> Pair:
    """The two checkouts, each with a folder to run in, and one for data."""
    made = []
    for name, root in (("old", old), ("new", new)):
        (folder / name).mkdir(parents=True)
        made.append(Side(root=root.resolve(), folder=folder / name, data=folder / "data"))
    (folder / "data").mkdir()
    return made[0], made[1]


def check_checkout(parser: argparse.ArgumentParser, root: Path) -> None:
    """End with status 2 if nothing can be run."""
    if not (root / ".venv" / "bin" / "fastpipe-train").exists():
        parser.error(
            f"OLD and NEW must be checkouts with fastpipe installed in their .venv. Found: {str(root)!r}, "
            "which has no .venv/bin/fastpipe-train: run `make test` there"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Compare the requested sections. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/same-bytes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="the checkout before the change")
    parser.add_argument("new", type=Path, metavar="NEW", help="the checkout after it")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="compare only these sections"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="run in this new folder, and keep it")
    parser.add_argument("--all", action="store_true", help="also print the equal cases")
    given = parser.parse_args(argv)
    for root in (given.old, given.new):
        check_checkout(parser, root)
    if given.keep is not None and given.keep.exists():
        parser.error(f"--keep must name a folder that does not exist yet. Found: {str(given.keep)!r}")
    with tempfile.TemporaryDirectory(prefix="same-bytes-") as scratch:
        folder = Path(scratch) / "run" if given.keep is None else given.keep.resolve()
        bad = run(sides(given.old, given.new, folder), given.only, everything=given.all)
    print("all equal" if not bad else f"{bad} not equal")
    return int(bad > 0)


def run(pair: Pair, names: Sequence[str], *, everything: bool) -> int:
    """Run sections one after another. Returns how many cases are not equal."""
    bad = 0
    for name in names:
        began = time.monotonic()
        try:
            old, new = SECTIONS[name](pair)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"{name}: FAILED, nothing was compared: {error}", flush=True)
            bad += 1
        else:
            bad += report(name, old, compare(old, new), everything=everything)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main())
