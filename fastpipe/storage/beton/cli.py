"""`fastpipe-write SRC DST.beton`: writes images into one file that fastpipe and stock FFCV read."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastpipe.installed  # noqa: F401 - refuses another project's `fastpipe`, which may be in front
from fastpipe.errors import ArgumentError, FastpipeError
from fastpipe.storage.beton.verify import verify_beton
from fastpipe.storage.beton.writer import Written, write_beton
from fastpipe.storage.source import resolve
from fastpipe.system.output import ends_with_its_reader, version

__all__ = ["main"]

_LINE_EVERY_S = 30.0
_SHOWN = 20  # bad images named on the terminal
_BATCH = 256  # of the estimate for stock FFCV
_EPILOG = """
SRC is an image folder (SRC/class/image.jpg), or with --split a folder with train/ and val/, "demo", or a
data set of torchvision (cifar10, imagenette, ...). Without options, JPEG files of one or three components
keep their bytes, and all other images are stored as raw RGB. EXIF orientation is not applied; FFCV and
torchvision's ImageFolder do not apply it either. The file is the same for any number of workers.

examples:
  fastpipe-write /data/imagenet train.beton --split train
  fastpipe-write /data/imagenet train500.beton --split train --max-resolution 500
  fastpipe-write --verify train.beton

exit status: 0; 1 if images or the disk cannot be used, or --verify finds bad images; 2 if an argument is
wrong; 130 on Ctrl-C.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line, core install only."""
    parser = argparse.ArgumentParser(
        prog="fastpipe-write",
        description="Write images and labels to one .beton file (FFCV's format, version 2), or verify one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    parser.add_argument("source", metavar="SRC", nargs="?", help="where the images are")
    parser.add_argument("target", metavar="DST.beton", nargs="?", help="the file to write")
    parser.add_argument(
        "--verify", metavar="FILE", help="decode every image of a .beton file and report bad ones"
    )
    parser.add_argument("--split", choices=("train", "val", "test"), help="which folder of SRC")
    parser.add_argument(
        "--passthrough", action="store_true", help="keep JPEG bytes as they are (the default: no loss)"
    )
    parser.add_argument(
        "--max-resolution", type=int, metavar="N", help="shrink images whose longer side exceeds N pixels"
    )
    parser.add_argument(
        "--quality", type=int, metavar="Q", help="store every image as JPEG of this quality (1-100)"
    )
    parser.add_argument("--raw", action="store_true", help="store every image as raw RGB")
    parser.add_argument(
        "--proportion", type=float, metavar="P", help="store this share as JPEG, the rest raw (0-1)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws the share: 0")
    parser.add_argument("--workers", type=int, metavar="N", help="processes: one for each CPU")
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="stop at a bad image, or list it in DST.beton.skipped.jsonl: raise",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace DST.beton if it exists")
    return parser


@ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0, 1 bad data, 2 wrong argument, 130 on Ctrl-C."""
    parser = make_parser()
    args = parser.parse_args(argv)
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if args.verify is not None:
            return _verify(args, stop)
        _write(args, stop)
    except FastpipeError as error:
        sys.stderr.write(f"fastpipe-write: error: {' '.join(str(error).split())}\n")
        return 2 if isinstance(error, ArgumentError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("fastpipe-write: interrupted; nothing was written\n")
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


class _Stop:
    """On SIGTERM or Ctrl-C, unwind: the unfinished file is removed on the way.

    CPython drops an exception that is raised while it forks; `check` raises it again.
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int, frame: Any) -> None:
        self.number = number
        self.check()

    def check(self) -> None:
        """Raise the exception of a received signal, if there was one."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number:
            sys.exit(128 + self.number)


def _verify(args: argparse.Namespace, stop: _Stop) -> int:
    if args.source is not None:
        raise ArgumentError(f"--verify takes no SRC and DST. Found: {args.source!r}")
    with _progress(f"verifying {args.verify}", stop) as report:
        verdict = verify_beton(args.verify, num_workers=args.workers, progress=report)
    for _, reason in verdict.bad[:_SHOWN]:
        _say(reason)
    if len(verdict.bad) > _SHOWN:
        _say(f"... and {len(verdict.bad) - _SHOWN} more")
    sums = "checksums compared" if verdict.checksums else "no checksums (a file of stock FFCV)"
    _say(f"{verdict.num_images} images, {len(verdict.bad)} bad; {sums}")
    return 1 if verdict.bad else 0


def _write(args: argparse.Namespace, stop: _Stop) -> None:
    if args.source is None or args.target is None:
        raise ArgumentError("SRC and DST.beton must be given, or --verify FILE")
    if args.passthrough and (
        args.raw or args.quality is not None or args.max_resolution is not None or args.proportion is not None
    ):
        raise ArgumentError(
            "--passthrough keeps bytes: leave out --raw, --quality, --max-resolution, --proportion"
        )
    folder = _folder(args.source, args.split)
    start_s = time.monotonic()
    with _progress(f"writing {args.target}", stop) as report:
        written = write_beton(
            folder,
            args.target,
            max_resolution=args.max_resolution,
            quality=args.quality,
            raw=args.raw,
            proportion=args.proportion,
            seed=args.seed,
            num_workers=args.workers,
            on_error=args.on_error,
            overwrite=args.overwrite,
            progress=report,
        )
    _tell(written, time.monotonic() - start_s)


def _folder(source: str, split: str | None) -> Path:
    """The image folder that SRC and --split mean."""
    folder = Path(os.path.expanduser(source))
    if split is not None:
        splits = resolve(source)
        chosen = {"train": splits.train, "val": splits.validation, "test": splits.test}[split]
        if chosen is None:
            raise ArgumentError(
                f"--split test: {source!r} has no test/ in addition to {str(splits.validation)!r}"
            )
        return chosen
    if not folder.is_dir():
        resolve(source)  # raises if it is not the name of a data set either
        raise ArgumentError(f"--split must be given for {source!r}: train, val or test")
    if (folder / "train").is_dir():
        raise ArgumentError(f"--split must be given, because {source!r} contains train/: train, val or test")
    return folder


def _tell(written: Written, seconds: float) -> None:
    rate, size = written.num_images / max(seconds, 1e-3), written.num_bytes / 2**20
    _say(
        f"{written.path}: {written.num_images} images, {size:.1f} MiB in {seconds:.1f} s "
        f"({rate:.0f} images/s): {written.num_kept} JPEG kept as is, {written.num_jpeg} encoded as JPEG, "
        f"{written.num_raw} raw"
    )
    if written.skipped:
        _say(f"{written.skipped} images were skipped; they are listed in {written.skipped_list}")
    scratch = written.ffcv_scratch_bytes(_BATCH) / 2**30
    _say(
        f"stock ffcv.Loader will pin {scratch:.1f} GiB for decoding at batch size {_BATCH} (5 x batch x "
        f"largest height {written.max_height} x largest width {written.max_width} x 3 bytes), with pages of "
        f"{written.page_size >> 20} MiB; fastpipe needs one image for each thread"
    )


def _say(text: str) -> None:
    """Print a line. A closed pipe (`| head`) changes neither the work nor the exit status."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _progress(title: str, stop: _Stop) -> Iterator[Callable[[int, int], None]]:
    """On a terminal a bar with rate and time left, elsewhere a line every 30 s; both on stderr."""
    # Importing rich takes 30 ms, which --help does not need.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    start_s = last_s = time.monotonic()
    if not console.is_terminal:

        def line(done: int, total: int) -> None:
            nonlocal last_s
            stop.check()
            now_s = time.monotonic()
            if now_s - last_s >= _LINE_EVERY_S:
                last_s, rate = now_s, done / (now_s - start_s)
                left_s = (total - done) / max(rate, 1e-9)
                sys.stderr.write(f"{title}: {done} of {total}, {rate:.0f} images/s, {left_s:.0f} s left\n")

        yield line
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, rate="")

        def update(done: int, total: int) -> None:
            stop.check()
            rate = f"{done / max(time.monotonic() - start_s, 1e-3):.0f} images/s"
            bar.update(task, completed=done, total=total, rate=rate)

        yield update


if __name__ == "__main__":
    sys.exit(main())
