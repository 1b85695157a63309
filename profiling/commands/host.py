"""`fastpipe-profile host [DATA]`: what this machine is, in a table and as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from fastpipe.profiling.commands.terminal import ended, report_console
from fastpipe.profiling.host.collect import Announce, make_card
from fastpipe.profiling.host.show import render_card
from fastpipe.profiling.report.files import check_writable, write_values

__all__ = ["main", "make_parser"]

_NARROWEST = 104


def make_parser() -> argparse.ArgumentParser:
    """The command line of `host`."""
    parser = argparse.ArgumentParser(
        prog="fastpipe-profile host",
        description="Show CPUs, memory, storage, GPUs and versions of this machine; with DATA also its "
        "files, and what reading them reaches.",
        epilog="Cold reads ask the page cache to forget sampled files (posix_fadvise); root is not needed.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "data", metavar="DATA", nargs="?", help="demo, a folder, or a data set of torchvision"
    )
    parser.add_argument("--json", metavar="FILE", help="write the card there too, with a schema_version")
    parser.add_argument("--seconds", type=_seconds, default=2.0, metavar="S", help="for each figure: 2")
    return parser


def _seconds(given: str) -> float:
    value = float(given)
    if not 0.0 < value <= 600.0:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 600. Found: {given}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0, 1 bad data, 2 wrong argument, 130 on Ctrl-C."""
    args = make_parser().parse_args(argv)
    return ended(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    if args.json is not None:
        check_writable("json", args.json)
    with _status() as announce:
        card = make_card(args.data, announce, seconds=args.seconds)
    if args.json is not None:
        write_values("json", args.json, card)
    render_card(card, report_console(_NARROWEST))
    return 0


@contextmanager
def _status() -> Iterator[Announce]:
    """What is being looked at, on stderr where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda part: None
        return
    with console.status("host card") as status:
        yield lambda part: status.update(f"host card: {part}")
