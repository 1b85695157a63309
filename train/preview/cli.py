"""`fastpipe-preview DATA`: a picture of what the model will see under a recipe, with the operations.

    fastpipe-preview photos --recipe hot --images 8 --draws 4 --output sheet.jpg

All keys of fastpipe-train apply; those that change no image have no effect here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastpipe.errors import ArgumentError, FastpipeError, MissingExtraError
from fastpipe.system.output import ends_with_its_reader, put, version
from fastpipe.train.cli import parse

if TYPE_CHECKING:
    from fastpipe.loader.preview.result import Preview
    from fastpipe.train.config.options import Invocation

__all__ = ["main"]

_SPLITS = ("train", "val", "test")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastpipe-preview",
        usage="fastpipe-preview DATA [options] [keys of fastpipe-train]",
        allow_abbrev=False,
        description="Draw the images that fastpipe-train would train on, each with its operations.",
        epilog="DATA, --recipe, --augment, --seed and all other keys are those of fastpipe-train --help.",
    )
    parser.add_argument("--images", type=int, default=16, help="how many different images (default: 16)")
    parser.add_argument(
        "--draws", type=int, default=4, help="in how many epochs to show each (default: 4; validation: 1)"
    )
    parser.add_argument(
        "--epoch",
        default="0",
        help="the first epoch to show, from 0; or several, as 0,17,35 (default: 0)",
    )
    parser.add_argument("--split", choices=_SPLITS, default="train", help="which images (default: train)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("preview.jpg"),
        help="the file to write: .jpg, .png or .html (default: preview.jpg)",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    return parser


def epochs_of(text: str, draws: int) -> tuple[int, ...]:
    """The epochs that `--epoch` and `--draws` name. Raises ArgumentError for anything else."""
    parts = text.split(",")
    if draws < 1 or not all(part.strip().isdigit() for part in parts):
        raise ArgumentError(
            f"--epoch must be a number from 0, or several as 0,17,35, and --draws at least 1. "
            f"Found: --epoch {text} --draws {draws}"
        )
    numbers = [int(part) for part in parts]
    return tuple(numbers) if len(numbers) > 1 else tuple(range(numbers[0], numbers[0] + draws))


def preview_run(
    invocation: Invocation,
    split: str,
    images: int,
    epochs: tuple[int, ...],
    output: Path | None = None,
) -> Preview:
    """The preview of a run's loader: of training in these epochs, or of one pass over another split.

    Raises ArgumentError if `output` would be one of the images.
    """
    # Imported late: the help needs neither torch nor a data set.
    from fastpipe.train.data import eval_loader, train_loader
    from fastpipe.train.measure.sources import check_no_source
    from fastpipe.train.prepare import fitted_here
    from fastpipe.train.pretrained.start import begin
    from fastpipe.types import Shard

    fitted, indexes = fitted_here(
        begin(invocation.config, invocation.explicit).config,
        Shard(),
        explicit=invocation.explicit,
        recipe_batch_size=invocation.recipe_batch_size,
    )
    every = (indexes.train, indexes.validation, indexes.test)
    if output is not None:
        check_no_source("--output", str(output), [part for part in every if part is not None])
    if split == "train":
        past = [epoch for epoch in epochs if epoch >= fitted.config.epochs]
        if past:
            raise ArgumentError(
                f"--epoch and --draws must stay within the run's {fitted.config.epochs} epochs, "
                f"0..{fitted.config.epochs - 1}. Found: {past[0]}"
            )
        return train_loader(fitted.config, indexes.train).preview(images, epochs=epochs)
    other = indexes.validation if split == "val" else indexes.test
    if other is None:
        raise ArgumentError(
            f"--split must be train or val, since {invocation.config.data!r} has no test split"
        )
    return eval_loader(fitted.config, other).preview(images)


def _run(args: Sequence[str]) -> int:
    given, rest = _parser().parse_known_args(args)
    if given.version:
        put(f"fastpipe-preview {version()}\n")
        return 0
    if rest and not rest[0].startswith("-"):
        rest = ["--data", *rest]
    epochs = epochs_of(given.epoch, given.draws)
    from fastpipe.loader.preview.result import check_output

    check_output(given.output)
    invocation = parse(rest)
    if invocation.config.data is None:
        raise ArgumentError("DATA must be given first: demo, a folder, a .beton or a list, as in `--data`")
    preview = preview_run(invocation, given.split, given.images, epochs, given.output)
    preview.save(given.output)
    put(f"{given.output}: {preview.title}\n")
    return 0


@ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0, 2 (wrong argument), 1 (anything else)."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except FastpipeError as error:
        sys.stderr.write(f"fastpipe-preview: error: {error}\n")
        return 2 if isinstance(error, ArgumentError | MissingExtraError) else 1
