"""`fastpipe-profile DATA`: which stage is the bottleneck, in a table and a sentence."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastpipe.profiling.commands.terminal import ended, report_console
from fastpipe.profiling.measure.setting import Announce
from fastpipe.profiling.measure.workload import Options, make_workload
from fastpipe.profiling.profile import num_parts, profile
from fastpipe.profiling.report.failing import FAILED, parse_condition
from fastpipe.profiling.report.files import check_writable, with_timeline, write_forms, write_values
from fastpipe.profiling.report.terminal import render, values_of
from fastpipe.profiling.report.values import to_dict
from fastpipe.system.output import ends_with_its_reader, version

__all__ = ["main", "make_parser"]

# Narrower, the table breaks its numbers; a pipe counts as 80 columns, unless COLUMNS says what it has.
_NARROWEST = 104

# Modules with a main(argv) of their own, imported when asked for. The epilog of --help names each.
_COMMANDS = {
    "compare": "fastpipe.profiling.commands.compare",
    "diff": "fastpipe.profiling.commands.diff",
    "host": "fastpipe.profiling.commands.host",
    "run": "fastpipe.profiling.observe.cli",
}

_EPILOG = """
Each stage is timed alone on inputs fetched before (read, decode, crop+resize, batch assembly, process
hop, device stage, model step), then the real loaders and the loader with the model. CPU time is that of the
whole process tree; figures are medians with quartiles, the first repeat dropped.

examples:
  fastpipe-profile demo --quick
  fastpipe-profile /data/imagenet --model resnet50 --resolution 176 --workers 8 --json profile.json
  fastpipe-profile /data/imagenet --recipe mild          (needs: pip install timm jsonargparse)

other commands, each with a --help of its own:
  fastpipe-profile run train.py ARGS...      observe the data loading of an unmodified script
  fastpipe-profile diff A.json B.json        what changed between two reports
  fastpipe-profile compare [DATA]            what an image costs this machine, step by step, by each library
  fastpipe-profile host [DATA]               CPUs, memory, storage, GPUs and versions of this machine
A folder of such a name is given as ./run.

exit status: 0; 1 for data that cannot be used or a worker that died; 2 for a wrong argument; 3 where the
condition of --fail-if holds; 130 on Ctrl-C.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line, core install only."""
    parser = argparse.ArgumentParser(
        prog="fastpipe-profile",
        description="Find the bottleneck of training an image classifier on DATA with this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="demo, a folder with train/, a plain folder of classes (root/class/*.jpg), "
        "or a data set of torchvision (cifar10, imagenette, ...)",
    )
    parser.add_argument("--recipe", help="take model, resolution and batch from a recipe of fastpipe-train")
    parser.add_argument(
        "--model", help="a classifier of torchvision.models (of timm with --recipe): resnet18"
    )
    parser.add_argument("--resolution", type=int, metavar="N", help="side of the crops in pixels: 176")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images in a batch: 64")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="worker processes of the loader: usable CPUs, at most 8"
    )
    parser.add_argument("--backend", default="torchvision", help="torchvision, ffcv or dali: torchvision")
    parser.add_argument(
        "--target-images-per-s",
        metavar="RATE",
        help="demand in place of a model: a number, or a published rate (mild-aws, hot-oracle, ...)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="apply the fixes that can be run, compare with the predictions"
    )
    parser.add_argument(
        "--what-if", metavar="WORDS", help='"cpus=96 gpus=8 gpu=a100 recipe=hot randaugment=device"'
    )
    parser.add_argument(
        "--fail-if", metavar="CONDITION", help="exit with 3 where it holds: 'stall>5%%', 'images_per_s<2000'"
    )
    parser.add_argument("--json", metavar="FILE", help="write the report there too, with a schema_version")
    parser.add_argument("--html", metavar="FILE", help="write the report there as one page, for a browser")
    parser.add_argument("--trace", metavar="FILE", help="write a few batches there, for ui.perfetto.dev")
    parser.add_argument("--quick", action="store_true", help="15 to 25 s on 2 cores instead of 75 to 90 s")
    parser.add_argument(
        "--seconds-per-stage", type=float, metavar="S", help="time for each stage: 1.4, or 0.3 with --quick"
    )
    return parser


@ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, 1 bad data, 2 wrong argument, 3 --fail-if, 130 on Ctrl-C."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] in _COMMANDS:
        # Importing them takes a second, in which Ctrl-C may come too.
        return ended(lambda: int(importlib.import_module(_COMMANDS[argv[0]]).main(argv[1:])))
    args = make_parser().parse_args(argv)
    return ended(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    options = Options(
        data=args.data,
        recipe=args.recipe,
        model=args.model,
        resolution=args.resolution,
        batch_size=args.batch_size,
        workers=args.workers,
        seconds_per_stage=args.seconds_per_stage,
        quick=args.quick,
        backend=args.backend,
        target_images_per_s=args.target_images_per_s,
        verify=args.verify,
        what_if=args.what_if,
    )
    condition = None if args.fail_if is None else parse_condition(args.fail_if)
    workload = make_workload(options)
    for option in ("json", "html", "trace"):
        if getattr(args, option) is not None:
            check_writable(option, getattr(args, option))
    with _progress(num_parts(workload)) as announce:
        result = profile(workload, announce)
        report = to_dict(result)
        if args.html is not None or args.trace is not None:
            announce("timeline")
            report = with_timeline(report, workload)
    if args.json is not None:
        write_values("json", args.json, report)
    write_forms(report, html=args.html, trace=args.trace)
    render(result, report_console(_NARROWEST))
    if condition is None or not condition.holds(values_of(result)):
        return 0
    sys.stderr.write(f"fastpipe-profile: {args.fail_if} holds\n")
    return FAILED


@contextmanager
def _progress(parts: int) -> Iterator[Announce]:
    """A bar on stderr where that is a terminal, else nothing: the run takes seconds in any case."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda part: None
        return
    columns = (
        TextColumn("profiling: {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("start", total=parts)
        started = False

        def announce(part: str) -> None:
            nonlocal started
            bar.update(task, description=part, advance=1 if started else 0)
            started = True

        yield announce
