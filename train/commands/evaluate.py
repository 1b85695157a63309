"""`fastpipe-train --evaluate CKPT --data DATA`: how good a checkpoint is, and where it is wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from fastpipe.errors import ArgumentError
from fastpipe.system.output import put
from fastpipe.system.outputs import check_writable, write_text
from fastpipe.train.commands.options import (
    add_loading,
    add_told,
    asks_for_help,
    check_page,
    chosen,
    command_parser,
    told_by,
)
from fastpipe.train.measure.words import MISTAKES

_WRITTEN = ("sheet", "html")
_SHEET_ENDINGS = (".jpg", ".jpeg", ".png")


def run(args: Sequence[str]) -> int:
    """Measure, print, and write the sheet and the page that were asked for. Returns the exit status."""
    parser = _parser()
    if asks_for_help(args, parser):
        return 0
    given = parser.parse_args(args)
    _check(given)
    # Imported late: the help of a command needs neither torch nor timm.
    from fastpipe.train.evaluate import evaluate, evaluation_lines

    found = evaluate(
        given.evaluate,
        given.data,
        **chosen(given, "batch_size", "num_workers", "on_error", "max_bad", "device", "mistakes"),
        told=told_by(given),
        outputs={f"--{name}": path for name in _WRITTEN if (path := getattr(given, name)) is not None},
    )
    if given.sheet is not None:
        from fastpipe.train.measure.sheet import write_sheet

        write_sheet(found, given.sheet)
    if given.html is not None:
        from fastpipe.train.pages.evaluation import evaluation_page

        write_text("--html", given.html, evaluation_page(found))
    lines = evaluation_lines(found.record)
    put((json.dumps(found.record, indent=2) if given.json else "\n".join(lines)) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("Measure the accuracy of a checkpoint on DATA, and show its mistakes.")
    parser.add_argument(
        "--evaluate",
        required=True,
        type=Path,
        metavar="CKPT",
        help="a run's last.ckpt, or weights that --export wrote",
    )
    parser.add_argument(
        "--data",
        required=True,
        help="data to measure on: a folder with val/ or test/ or of classes, a .beton, demo, or a name",
    )
    add_loading(parser)
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip", "replace"),
        help="what to do with an image that cannot be decoded (default: as in training)",
    )
    parser.add_argument(
        "--max-bad", type=float, help="the largest share of such images (default: as in training)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sheet", metavar="FILE", help="draw the most certain mistakes (.jpg or .png)")
    parser.add_argument(
        "--html", metavar="FILE", help="write a page: classes, confusion, calibration, mistakes"
    )
    parser.add_argument(
        "--mistakes",
        type=int,
        default=MISTAKES,
        metavar="N",
        help=f"how many mistakes are listed (default: {MISTAKES})",
    )
    add_told(parser)
    return parser


def _check(given: argparse.Namespace) -> None:
    if given.mistakes < 0:
        raise ArgumentError(f"--mistakes must be a number from 0. Found: {given.mistakes}")
    if given.sheet is not None and not given.sheet.lower().endswith(_SHEET_ENDINGS):
        raise ArgumentError(f"--sheet must end in {', '.join(_SHEET_ENDINGS)}. Found: {given.sheet!r}")
    check_page("--html", given.html)
    for name in _WRITTEN:
        if (path := getattr(given, name)) is not None:
            check_writable(f"--{name}", path)
