"""The command line of `fastpipe-profile` and its commands: options, descriptions, where each is done."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastpipe.system.output import version

__all__ = ["COMMANDS", "Command", "make_parser", "parse"]

_PROFILE_MORE = """
Each stage is timed alone on inputs fetched before (read, decode, crop+resize, batch assembly, process
hop, device stage, model step), then the real loaders and the loader with the model. CPU time is that of the
whole process tree; figures are medians with quartiles, the first repeat dropped.

examples:
  fastpipe-profile demo --quick
  fastpipe-profile /data/imagenet --model resnet50 --resolution 176 --workers 8 --json profile.json
  fastpipe-profile /data/imagenet --recipe mild          (needs: pip install timm jsonargparse)

{commands}
A folder of such a name is given as ./run.

exit status: 0; 1 for data that cannot be used or a worker that died; 2 for a wrong argument; 3 where the
condition of --fail-if holds; 130 on Ctrl-C.
"""

_RUN_MORE = """
The script runs as __main__ with its own arguments. Every DataLoader of torch or fastpipe in it is observed,
not replaced. When the steps are over, the report goes to stderr, the hooks are removed, and the script
continues.

examples:
  fastpipe-profile run train.py --data photos --epochs 90
  fastpipe-profile run --stop --json run.json --trace run.trace.json train.py --data photos
  fastpipe-profile run -m package.train --data photos
  torchrun --nproc-per-node 8 --no-python fastpipe-profile run --json run.json train.py

exit status: the script's own; 0 after --stop; 2 for a wrong argument before the script starts.
"""


def _profile_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--version", action="version", version=f"%(prog)s {version()}")
    add(
        "data",
        metavar="DATA",
        help="demo, a folder with train/, a plain folder of classes (root/class/*.jpg), "
        "or a data set of torchvision (cifar10, imagenette, ...)",
    )
    add("--recipe", help="take model, resolution and batch from a recipe of fastpipe-train")
    add("--model", help="a classifier of torchvision.models (of timm with --recipe): resnet18")
    add("--resolution", type=int, metavar="N", help="side of the crops in pixels: 176")
    add("--batch-size", type=int, metavar="N", help="images in a batch: 64")
    add("--workers", type=int, metavar="N", help="worker processes of the loader: usable CPUs, at most 8")
    add("--backend", default="torchvision", help="torchvision, ffcv or dali: torchvision")
    add(
        "--target-images-per-s",
        metavar="RATE",
        help="demand in place of a model: a number, or a published rate (mild-aws, hot-oracle, ...)",
    )
    add("--verify", action="store_true", help="apply the fixes that can be run, compare with the predictions")
    add("--what-if", metavar="WORDS", help='"cpus=96 gpus=8 gpu=a100 recipe=hot randaugment=device"')
    add("--fail-if", metavar="CONDITION", help="exit with 3 where it holds: 'stall>5%%', 'images_per_s<2000'")
    add("--json", metavar="FILE", help="write the report there too, with a schema_version")
    add("--html", metavar="FILE", help="write the report there as one page, for a browser")
    add("--trace", metavar="FILE", help="write a few batches there, for ui.perfetto.dev")
    add("--quick", action="store_true", help="15 to 25 s on 2 cores instead of 75 to 90 s")
    add("--seconds-per-stage", type=float, metavar="S", help="time for each stage: 1.4, or 0.3 with --quick")


def _run_options(parser: argparse.ArgumentParser) -> None:
    """All that follows the script's name is the script's."""
    add = parser.add_argument
    add("--steps", type=int, default=50, metavar="N", help="batches to observe: 50")
    add("--warmup", type=int, default=10, metavar="N", help="batches to let pass before: 10")
    add("--stop", action="store_true", help="end the script when the steps are over")
    add("--json", metavar="FILE", help="write the report there too (FILE.rankN under torchrun)")
    add("--trace", metavar="FILE", help="write a timeline there, for ui.perfetto.dev")
    add("-m", dest="module", action="store_true", help="SCRIPT is a module, as in python -m")
    add("script", metavar="SCRIPT", help="a Python file, or a module with -m")
    add("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="of the script")


def _diff_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="A.json", help="the report to compare with")
    parser.add_argument("after", metavar="B.json", help="the newer report")
    parser.add_argument("--json", metavar="FILE", help="write the comparison there too")


def _compare_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", nargs="?", default="demo", help="as for a profile: demo")
    add("--resolution", type=int, default=176, metavar="N", help="side of the crops: 176")
    add("--seconds", type=float, default=1.0, metavar="S", help="for each price: 1")
    add("--json", metavar="FILE", help="write the list there too, with a schema_version")


def _host_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", nargs="?", help="demo, a folder, or a data set of torchvision")
    add("--json", metavar="FILE", help="write the card there too, with a schema_version")
    add("--seconds", type=_seconds, default=2.0, metavar="S", help="for each figure: 2")


def _seconds(given: str) -> float:
    value = float(given)
    if not 0.0 < value <= 600.0:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 600. Found: {given}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """usage and summary: its line in --help. module: has `run(args)`, imported when it is asked for."""

    usage: str
    summary: str
    description: str
    options: Callable[[argparse.ArgumentParser], None]
    module: str
    more: str = ""


COMMANDS: Final[Mapping[str, Command]] = {
    "": Command(
        usage="DATA",
        summary="which stage limits training on DATA, and what would help",
        description="Find the bottleneck of training an image classifier on DATA with this machine.",
        options=_profile_options,
        module="fastpipe.profiling.commands.profile",
        more=_PROFILE_MORE,
    ),
    "run": Command(
        usage="run train.py ARGS...",
        summary="observe the data loading of an unmodified script",
        description="Observe the data loading of an unmodified training script.",
        options=_run_options,
        module="fastpipe.profiling.observe.cli",
        more=_RUN_MORE,
    ),
    "diff": Command(
        usage="diff A.json B.json",
        summary="what changed between two reports",
        description="Compare two reports that a command of fastpipe-profile wrote with --json, also run, "
        "compare and host: first what differs in host, versions, data and workload, then each stage.",
        options=_diff_options,
        module="fastpipe.profiling.commands.diff",
        more="Changed means that the two intervals do not overlap: of 95 % where "
        "both reports have them, else quartiles. A figure without either is not repeated.",
    ),
    "compare": Command(
        usage="compare [DATA]",
        summary="what an image costs this machine, step by step, by each library",
        description="Price list: CPU-milliseconds per image on this machine by torchvision, FFCV, DALI and "
        "fastpipe's engines, for decode + crop + resize and for each augmentation.",
        options=_compare_options,
        module="fastpipe.profiling.commands.compare",
    ),
    "host": Command(
        usage="host [DATA]",
        summary="CPUs, memory, storage, GPUs and versions of this machine",
        description="Show CPUs, memory, storage, GPUs and versions of this machine; with DATA also its "
        "files, and what reading them reaches.",
        options=_host_options,
        module="fastpipe.profiling.commands.host",
        more="Cold reads ask the page cache to forget sampled files (posix_fadvise); root is not needed.",
    ),
}
"""By the first word of the command line; "" is the profile itself."""


def make_parser(name: str = "") -> argparse.ArgumentParser:
    """The parser of one command, core install only; that of the profile lists them all."""
    command = COMMANDS[name]
    keeps_lines = "\n" in command.more
    parser = argparse.ArgumentParser(
        prog=f"fastpipe-profile {name}".rstrip(),
        description=command.description,
        epilog=command.more.replace("{commands}", _listed()) or None,
        formatter_class=argparse.RawDescriptionHelpFormatter if keeps_lines else argparse.HelpFormatter,
        allow_abbrev=False,
    )
    command.options(parser)
    return parser


def _listed() -> str:
    rows = [f"  fastpipe-profile {one.usage:<25} {one.summary}" for one in COMMANDS.values()]
    return "\n".join(["commands, each with a --help of its own:", *rows])


def parse(argv: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """The command that is meant, and its arguments. Leaves as argparse does for --help and wrong usage."""
    name = argv[0] if argv and argv[0] in COMMANDS else ""
    return COMMANDS[name], make_parser(name).parse_args(argv[1:] if name else argv)
