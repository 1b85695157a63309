"""The command line of `fastpipe-profile` and its commands: options, descriptions, and their modules."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastpipe.system.output import version

_PROFILE_MORE = """
First, each stage is timed alone on inputs prepared in advance (read, decode, crop+resize, batch assembly,
process hop, device stage, model step); then the real loaders, and the loader with the model. CPU time covers
the whole process tree. Figures are medians with quartiles, without the first repeat.

examples:
  fastpipe-profile demo --quick
  fastpipe-profile /data/imagenet --model resnet50 --resolution 176 --workers 8 --json profile.json
  fastpipe-profile /data/imagenet --recipe mild          (needs: pip install timm jsonargparse)

{commands}
If a folder has the name of a command, write it as a path: ./run.

exit status: 0; 1 for data that cannot be used or a worker that died; 2 for a wrong argument; 3 if the
condition of --fail-if holds; 130 on Ctrl-C.
"""

_RUN_MORE = """
The script runs as __main__ with its own arguments. Every DataLoader of torch or fastpipe in it is observed,
not replaced. After the last step, the report goes to stderr, the hooks are removed, and the script
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
        "or the name of a torchvision data set (cifar10, imagenette, ...)",
    )
    add("--recipe", help="take model, resolution and batch size from a recipe of fastpipe-train")
    add("--model", help="a classifier of torchvision.models, or of timm with --recipe (default: resnet18)")
    add("--resolution", type=int, metavar="N", help="side of the crops in pixels (default: 176)")
    add("--batch-size", type=int, metavar="N", help="images in a batch (default: 64)")
    add(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes of the loader (default: the number of usable CPUs, at most 8)",
    )
    add("--backend", default="torchvision", help="torchvision, turbo, ffcv or dali (default: torchvision)")
    add(
        "--target-images-per-s",
        metavar="RATE",
        help="rate to assume instead of timing a model: a number, or a published rate "
        "(mild-aws, hot-oracle, ...)",
    )
    add(
        "--verify",
        action="store_true",
        help="apply the fixes that can be run, and compare their rates with the predictions",
    )
    add(
        "--what-if",
        metavar="WORDS",
        help='predict the rate of another machine: "cpus=96 gpus=8 gpu=a100 recipe=hot randaugment=device"',
    )
    add(
        "--fail-if",
        metavar="CONDITION",
        help="exit with status 3 if the condition holds: 'stall>5%%', 'images_per_s<2000'",
    )
    add("--json", metavar="FILE", help="also write the report to FILE as JSON, with a schema_version")
    add("--html", metavar="FILE", help="write the report to FILE as one HTML page")
    add("--trace", metavar="FILE", help="write a timeline of a few batches to FILE, for ui.perfetto.dev")
    add("--quick", action="store_true", help="measure less: 15 to 25 s on 2 cores instead of 75 to 90 s")
    add(
        "--seconds-per-stage",
        type=float,
        metavar="S",
        help="seconds to spend on each stage (default: 1.4, or 0.3 with --quick)",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    """Everything after the script's name belongs to the script."""
    add = parser.add_argument
    add("--steps", type=int, default=50, metavar="N", help="batches to observe (default: 50)")
    add("--warmup", type=int, default=10, metavar="N", help="batches to skip first (default: 10)")
    add("--stop", action="store_true", help="end the script after the observed batches")
    add("--json", metavar="FILE", help="also write the report to FILE (FILE.rankN under torchrun)")
    add("--trace", metavar="FILE", help="write a timeline to FILE, for ui.perfetto.dev")
    add("-m", dest="module", action="store_true", help="SCRIPT is a module, as in python -m")
    add("script", metavar="SCRIPT", help="a Python file, or a module with -m")
    add("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="arguments of the script")


def _diff_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="A.json", help="the older report")
    parser.add_argument("after", metavar="B.json", help="the newer report")
    parser.add_argument("--json", metavar="FILE", help="also write the comparison to FILE as JSON")


def _compare_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", nargs="?", default="demo", help="as for a profile (default: demo)")
    add("--resolution", type=int, default=176, metavar="N", help="side of the crops in pixels (default: 176)")
    add("--seconds", type=float, default=1.0, metavar="S", help="seconds to spend on each price (default: 1)")
    add("--json", metavar="FILE", help="also write the list to FILE as JSON, with a schema_version")


def _host_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", nargs="?", help="demo, a folder, or the name of a torchvision data set")
    add("--json", metavar="FILE", help="also write the card to FILE as JSON, with a schema_version")
    add(
        "--seconds",
        type=_seconds,
        default=2.0,
        metavar="S",
        help="seconds to spend on each figure (default: 2)",
    )


def _seconds(given: str) -> float:
    value = float(given)
    if not 0.0 < value <= 600.0:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 600. Found: {given}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """usage and summary: its line in --help. module: has `run(args)`; imported when the command is used."""

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
        description="Find the bottleneck of training an image classifier on DATA on this machine.",
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
        description="Compare two reports that fastpipe-profile or its commands run, compare and host wrote "
        "with --json: first the differences in host, versions, data and workload, then each stage.",
        options=_diff_options,
        module="fastpipe.profiling.commands.diff",
        more="'changed' means that the two intervals do not overlap: 95 % intervals if both reports have "
        "them, quartiles otherwise. 'not repeated' means that a figure has neither.",
    ),
    "compare": Command(
        usage="compare [DATA]",
        summary="what an image costs on this machine, step by step, with each library",
        description="Print a price list: CPU-milliseconds per image on this machine with torchvision, FFCV, "
        "DALI and fastpipe's engines, for decode + crop + resize and for each augmentation.",
        options=_compare_options,
        module="fastpipe.profiling.commands.compare",
    ),
    "host": Command(
        usage="host [DATA]",
        summary="CPUs, memory, storage, GPUs and versions of this machine",
        description="Show CPUs, memory, storage, GPUs and versions of this machine; with DATA, also its "
        "files and how fast they can be read.",
        options=_host_options,
        module="fastpipe.profiling.commands.host",
        more="Before cold reads, the page cache is asked to drop the sampled files (posix_fadvise); "
        "this needs no root rights.",
    ),
}
"""By the first word of the command line; "" is the profile itself."""


def make_parser(name: str = "") -> argparse.ArgumentParser:
    """The parser of one command; it needs the core install only. The profile's parser lists all commands."""
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
    return "\n".join(["commands, each with its own --help:", *rows])


def parse(argv: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """The requested command and its arguments. Exits as argparse does for --help and wrong usage."""
    name = argv[0] if argv and argv[0] in COMMANDS else ""
    return COMMANDS[name], make_parser(name).parse_args(argv[1:] if name else argv)
