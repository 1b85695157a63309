"""`fastpipe-train --report RUN`: one page about a run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastpipe.errors import ArgumentError, FastpipeError
from fastpipe.system.output import put
from fastpipe.system.outputs import check_writable, write_text
from fastpipe.train.commands.options import (
    add_loading,
    asks_for_help,
    check_page,
    chosen,
    command_parser,
)

if TYPE_CHECKING:
    from fastpipe.train.evaluate import Evaluated
    from fastpipe.train.pages.reading import RunFiles

PAGE, PROFILE = "report.html", "profile.html"


def run(args: Sequence[str]) -> int:
    """Read the run, measure its checkpoint, write the page and print its name. Returns the exit status."""
    parser = _parser()
    if asks_for_help(args, parser):
        return 0
    given = parser.parse_args(args)
    folder, checkpoint = _place(given.report)
    output = given.output or str(folder / PAGE)
    check_page("--output", output)
    check_writable("--output", output)
    write_text("--output", output, _page(folder, checkpoint, given, Path(output)))
    put(f"{output}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "Write a page about a run: its curves, what its last checkpoint gets wrong, and how to repeat it."
    )
    parser.add_argument(
        "--report",
        required=True,
        type=Path,
        metavar="RUN",
        help="a run folder, that of a run with --seeds, or one of the checkpoints in it",
    )
    parser.add_argument("--output", metavar="FILE", help=f"the page (default: {PAGE} in the run folder)")
    parser.add_argument("--data", help="where the images are now (default: where the run read them)")
    parser.add_argument(
        "--no-measure", action="store_true", help="only show what the run recorded; read no image"
    )
    add_loading(parser)
    return parser


def _place(path: Path) -> tuple[Path, Path | None]:
    """The run folder, and the checkpoint if the path is one."""
    if path.is_file():
        return path.parent, path
    if not path.is_dir():
        raise ArgumentError(f"--report must name a run folder. Found: {str(path)!r}, which does not exist")
    return path, None


def _page(folder: Path, checkpoint: Path | None, given: argparse.Namespace, output: Path) -> str:
    # Imported late: the help of a command needs neither torch nor timm.
    from fastpipe.train.distributed import device_named
    from fastpipe.train.pages.reading import read_run, read_seeds
    from fastpipe.train.pages.run import run_page
    from fastpipe.train.pages.seeds import seeds_page

    device_named(given.device)  # a wrong word is an error, not a page without measures
    results = read_seeds(folder)
    if results is not None:
        folders = [folder / str(one["folder"]) for one in results.get("runs", ())]
        return seeds_page(folder, results, [read_run(one) for one in folders if one.is_dir()])
    found = read_run(folder)
    profile = (
        quote(os.path.relpath(folder / PROFILE, output.parent)) if (folder / PROFILE).is_file() else None
    )
    return run_page(found, _measured(found, checkpoint or found.checkpoint, given), profile)


def _measured(run: RunFiles, checkpoint: Path, given: argparse.Namespace) -> Evaluated | str:
    """The checkpoint's measures, or why there are none."""
    from fastpipe.train.evaluate import evaluate

    if given.no_measure:
        return "not measured, as asked (--no-measure)."
    data = given.data or run.config.get("data") or run.summary.get("data")
    if data is None:
        return "the run folder does not name the data. Give --data."
    try:
        return evaluate(checkpoint, str(data), **chosen(given, "batch_size", "num_workers", "device"))
    except FastpipeError as error:
        sys.stderr.write(f"fastpipe-train: the checkpoint is not measured: {error}\n")
        return f"the checkpoint could not be measured, perhaps since the images are gone: {error}"
