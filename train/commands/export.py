"""`fastpipe-train --export CKPT OUT`: weights or a model for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastpipe.system.output import put
from fastpipe.train.commands.options import asks_for_help, command_parser


def run(args: Sequence[str]) -> int:
    """Write the file and its card, and print how to read them. Returns the exit status."""
    parser = command_parser(
        "Write a checkpoint's weights or model to OUT, with a card that describes it. "
        "A .safetensors file holds its card itself."
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
    if asks_for_help(args, parser):
        return 0
    given = parser.parse_args(args)
    from fastpipe.train.export import export

    checkpoint, out = given.export
    card = export(checkpoint, out, raw=given.raw)
    kind = {"classes": "classes", "multi-label": "labels", "regression": "numbers"}[card["task"]]
    put(f"{out}: {card['weights']} weights of {card['model']}, {card['num_classes']} {kind}\n")
    if "note" in card:
        put(f"note: {card['note']}\n")
    put("\n".join(f"    {line}" for line in card["rebuild"]) + "\n")
    return 0
