"""`fastpipe-explore`: runs and published points on one page, as a file or on 127.0.0.1.

fastpipe-explore --output study.html
fastpipe-explore runs --output runs.html
fastpipe-explore runs --serve
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastpipe.installed  # noqa: F401 - refuses another project's `fastpipe`, which may be in front
from fastpipe.efficiency.prices import SHIPPED, Price, read_prices
from fastpipe.errors import ArgumentError, FastpipeError, MissingExtraError, nearest
from fastpipe.explore.collect import Collector
from fastpipe.explore.page.build import page
from fastpipe.explore.payload import payload
from fastpipe.explore.serve import PORT, Server
from fastpipe.system.files import replace_file
from fastpipe.system.output import ends_with_its_reader, put, version

__all__ = ["main"]

_MORE = """
RUNS are run folders of fastpipe-train, TensorBoard folders, folders that hold some, records of fastpipe-train
study (.json), and CSV files with the columns of the published points (source, recipe, epochs, minutes,
hardware, top1, throughput_img_s, notes, citation). Without RUNS the page shows the published points alone.

exit status: 0; 1 for a page that cannot be written; 2 for a wrong argument; 130 on Ctrl-C.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="fastpipe-explore",
        description="Show training runs with the published points of ResNet-50: accuracy against minutes,\n"
        "dollars or epochs, time saved at equal quality, and quality at equal time.",
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--version", action="version", version=f"%(prog)s {version()}")
    add("runs", metavar="RUNS", nargs="*", help="run folders, folders of them, CSV files, records of studies")
    add("--output", metavar="FILE.html", help="write the page to this file; it needs no network")
    add(
        "--serve",
        metavar="PORT",
        nargs="?",
        type=_port,
        const=PORT,
        help=f"serve the page on 127.0.0.1 and keep it fresh (default port: {PORT}; 0: any free one)",
    )
    add("--prices", metavar="FILE", help="CSV with hardware, usd_per_hour, date and source")
    add(
        "--imagenet",
        metavar="DATA",
        action="append",
        default=[],
        help="count the runs on this data (as they name it) as ImageNet-1k, beside the published points",
    )
    add("--no-published", action="store_true", help="show RUNS alone")
    add("--dataset", metavar="NAME", default="", help="data whose runs come first (default: of most RUNS)")
    return made


def _port(given: str) -> int:
    try:
        value = int(given)
    except ValueError:
        value = -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535. Found: {given!r}")
    return value


@ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    args = parser().parse_args(argv)
    try:
        return _run(args)
    except KeyboardInterrupt:
        return 130
    except FastpipeError as error:
        sys.stderr.write(f"fastpipe-explore: error: {error}\n")
        return 2 if isinstance(error, ArgumentError | MissingExtraError) else 1


def _run(args: argparse.Namespace) -> int:
    if args.output is None and args.serve is None:
        raise ArgumentError("give --output FILE.html, --serve, or both. Found: neither")
    if args.no_published and not args.runs:
        raise ArgumentError("--no-published needs RUNS. Found: none, so the page would be empty")
    prices = read_prices(Path(args.prices) if args.prices else SHIPPED)
    collector = Collector(args.runs, imagenet=args.imagenet, published=not args.no_published)
    collector.check()
    _check_dataset(args.dataset, collector)
    if args.output is not None:
        beside = os.path.dirname(os.path.abspath(args.output))
        _write(args.output, _values(collector, prices, args.dataset, serving=False, beside=beside))
    if args.serve is not None:
        _serve(args.serve, lambda: _values(collector, prices, args.dataset, serving=True))
    return 0


def _check_dataset(name: str, collector: Collector) -> None:
    if not name:
        return
    known = sorted({run.dataset for run in collector.collect().runs})
    if name not in known:
        raise ArgumentError(
            f"--dataset must name the data of a run: {', '.join(known) or 'there is none'}. Found: {name!r}."
            f"{nearest(name, known)}"
        )


def _values(
    collector: Collector, prices: Sequence[Price], dataset: str, *, serving: bool, beside: str = "."
) -> dict[str, Any]:
    created, found = time.strftime("%Y-%m-%d %H:%M"), collector.collect()
    return payload(found, prices, serving=serving, created=created, beside=beside, dataset=dataset)


def _write(path: str, values: dict[str, Any]) -> None:
    text = page(values).encode(errors="backslashreplace")
    try:
        replace_file(path, lambda file: file.write(text))
    except OSError as error:
        raise ArgumentError(
            f"--output must name a file that can be written. Found: {path!r} ({error.strerror})"
        ) from error
    own = sum(run["kind"] == "own" for run in values["runs"])
    put(f"{path}: {own} own runs, {len(values['runs']) - own} published points\n")
    for problem in values["problems"]:
        sys.stderr.write(f"note: {problem}\n")


def _serve(port: int, values: Callable[[], dict[str, Any]]) -> None:
    with Server(port, values) as server:
        page(server.fresh.values()[0])  # a missing package is reported here, and not to a browser
        put(f"{server.address} (Ctrl-C ends it)\n")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
