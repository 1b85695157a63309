"""What `fastpipe-train` does with a checkpoint instead of training: `--evaluate` and `--export`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from fastpipe.errors import ArgumentError
from fastpipe.system.output import put

_COMMANDS = ("evaluate", "export")


def command_of(args: Sequence[str]) -> str | None:
    """`evaluate` or `export` when the command line has that option, else None."""
    given = [arg.partition("=")[0] for arg in args]
    return next((name for name in _COMMANDS if f"--{name}" in given), None)


def run_command(command: str, args: Sequence[str]) -> int:
    """Run the command and print the result. Returns the exit status; argparse exits with 2 on its own."""
    return _evaluate(args) if command == "evaluate" else _export(args)


def _workers(text: str) -> int | str:
    if text != "auto" and not text.isdigit():
        raise ArgumentError(f"--num-workers must be auto or a number from 0. Found: {text!r}")
    return text if text == "auto" else int(text)


def _asks_for_help(args: Sequence[str], parser: argparse.ArgumentParser) -> bool:
    """Print the help on request; argparse would read `--evaluate --help` as a missing value."""
    if not {"-h", "--help"} & set(args):
        return False
    put(parser.format_help())
    return True


def _evaluate(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastpipe-train", allow_abbrev=False, description="Measure the accuracy of a checkpoint on DATA."
    )
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
    parser.add_argument("--batch-size", type=int, help="images per step (default: as in training)")
    parser.add_argument("--num-workers", type=_workers, help="auto, or a number (default: as in training)")
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip", "replace"),
        help="what to do with an image that cannot be decoded (default: as in training)",
    )
    parser.add_argument(
        "--max-bad", type=float, help="the largest share of such images (default: as in training)"
    )
    parser.add_argument("--device", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    exported = parser.add_argument_group(
        "weights without a checkpoint", "describes their model if there is no card"
    )
    exported.add_argument("--recipe", help="the run's config.yaml, or the name of a recipe")
    exported.add_argument("--model", help="a timm name (default: the recipe's)")
    exported.add_argument("--val-resolution", type=int, help="pixels (default: the recipe's)")
    exported.add_argument("--val-resize", type=int, help="pixels (default: the recipe's)")
    if _asks_for_help(args, parser):
        return 0
    given = parser.parse_args(args)
    # Imported late: the help of a command needs neither torch nor timm.
    from fastpipe.train.evaluate import evaluate, evaluation_lines
    from fastpipe.train.weights import Told

    told = {name: getattr(given, name) for name in ("recipe", "model", "val_resolution", "val_resize")}
    names = ("batch_size", "num_workers", "on_error", "max_bad", "device")
    own = {name: getattr(given, name) for name in names}
    result = evaluate(given.evaluate, given.data, **own, told=Told(**told))
    text = json.dumps(result, indent=2) if given.json else "\n".join(evaluation_lines(result))
    put(text + "\n")
    return 0


def _export(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fastpipe-train",
        allow_abbrev=False,
        description="Write a checkpoint's weights or model to OUT, with a card that describes it. "
        "A .safetensors file holds its card itself.",
    )
    parser.add_argument(
        "--export",
        required=True,
        nargs=2,
        type=Path,
        metavar=("CKPT", "OUT"),
        help="a run's last.ckpt, and the file to write: .pt or .safetensors (weights) or .onnx (a model)",
    )
    parser.add_argument(
        "--raw", action="store_true", help="write the last weights instead of their average (EMA)"
    )
    if _asks_for_help(args, parser):
        return 0
    given = parser.parse_args(args)
    from fastpipe.train.export import export

    checkpoint, out = given.export
    card = export(checkpoint, out, raw=given.raw)
    kind = {"classes": "classes", "multi-label": "labels", "regression": "numbers"}[card["task"]]
    put(f"{out}: {card['weights']} weights of {card['model']}, {card['num_classes']} {kind}\n")
    put("\n".join(f"    {line}" for line in card["rebuild"]) + "\n")
    return 0
