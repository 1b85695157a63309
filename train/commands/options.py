"""Options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastpipe.errors import ArgumentError
from fastpipe.system.output import put

if TYPE_CHECKING:
    from fastpipe.train.weights import Told

_TOLD = ("recipe", "model", "val_resolution", "val_resize")


def command_parser(description: str) -> argparse.ArgumentParser:
    """A parser of `fastpipe-train` with one command."""
    return argparse.ArgumentParser(prog="fastpipe-train", allow_abbrev=False, description=description)


def asks_for_help(args: Sequence[str], parser: argparse.ArgumentParser) -> bool:
    """Print the help on request; argparse would read `--evaluate --help` as a missing value."""
    if not {"-h", "--help"} & set(args):
        return False
    put(parser.format_help())
    return True


def add_loading(parser: argparse.ArgumentParser) -> None:
    """`--batch-size`, `--num-workers` and `--device`."""
    parser.add_argument("--batch-size", type=int, help="images per step (default: as in training)")
    parser.add_argument("--num-workers", type=_workers, help="auto, or a number (default: as in training)")
    parser.add_argument("--device", help="auto (default), cpu, cuda or cuda:N")


def _workers(text: str) -> int | str:
    if text != "auto" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be auto or a number from 0. Found: {text!r}")
    return text if text == "auto" else int(text)


def add_told(parser: argparse.ArgumentParser) -> None:
    """The options that describe bare weights."""
    exported = parser.add_argument_group(
        "weights without a checkpoint", "describes their model if there is no card"
    )
    exported.add_argument("--recipe", help="the run's config.yaml, or the name of a recipe")
    exported.add_argument("--model", help="a timm name (default: the recipe's)")
    exported.add_argument("--val-resolution", type=int, help="pixels (default: the recipe's)")
    exported.add_argument("--val-resize", type=int, help="pixels (default: the recipe's)")


def check_page(option: str, path: str | None) -> None:
    """Raise ArgumentError for a page whose name is that of another kind of file, such as a checkpoint."""
    if path is not None and not path.lower().endswith((".html", ".htm")):
        raise ArgumentError(f"{option} must name a file that ends in .html or .htm. Found: {path!r}")


def told_by(given: argparse.Namespace) -> Told:
    """What the options of `add_told` say."""
    from fastpipe.train.weights import Told  # the help of a command needs neither torch nor timm

    return Told(**{name: getattr(given, name) for name in _TOLD})


def chosen(given: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The values of the named options."""
    return {name: getattr(given, name) for name in names}
