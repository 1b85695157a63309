"""`fastpipe-train --predict CKPT FILES...`: a line of CSV or JSON for each image."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fastpipe.errors import ArgumentError
from fastpipe.system.files import replace_file
from fastpipe.system.output import put
from fastpipe.system.outputs import check_writable, unwritable
from fastpipe.train.commands.options import (
    add_loading,
    add_told,
    asks_for_help,
    chosen,
    command_parser,
    told_by,
)

if TYPE_CHECKING:
    from fastpipe.train.measure.predict import Answer, Predictor

_CSV, _JSON = ".csv", ".jsonl"


def run(args: Sequence[str]) -> int:
    """Predict and write the lines, to a file in one move. Returns the exit status."""
    parser = _parser()
    if asks_for_help(args, parser):
        return 0
    given = parser.parse_intermixed_args(args)
    _check(given)
    # Imported late: the help of a command needs neither torch nor timm.
    from fastpipe.train.broken import IN_OPTIONS
    from fastpipe.train.measure.predict import open_predictor, predict
    from fastpipe.train.measure.rows import check_top_k
    from fastpipe.train.measure.sources import open_sources

    logging.getLogger("fastpipe").addFilter(IN_OPTIONS)
    skips = given.on_error == "skip"
    sources = open_sources(given.files, missing_are_rows=skips)
    if given.output is not None:
        _check_kept(given)
    settings = chosen(given, "batch_size", "num_workers", "on_error", "backend", "device")
    # A row with an error is what was asked for, so no number of them is too large.
    predictor = open_predictor(
        given.predict, weights=given.weights, told=told_by(given), max_bad=1.0, **settings
    )
    check_top_k(given.top_k, predictor.names, predictor.task)
    counted = _Counted(predict(predictor, sources))
    _write(given.output, _lines(given, predictor, counted))
    if counted.errors:
        sys.stderr.write(
            f"fastpipe-train: {counted.errors} of {counted.number} images could not be read: their rows "
            "have an error\n"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "Predict images: a line each, in their order, with the label and its probability. FILES are images, "
        "folders (with all below them), .beton, .csv, .jsonl or .parquet files with a column path, or demo."
    )
    parser.add_argument(
        "--predict",
        required=True,
        type=Path,
        metavar="CKPT",
        help="a run's last.ckpt, or weights that --export wrote",
    )
    parser.add_argument("files", nargs="*", metavar="FILES", help="what to predict")
    parser.add_argument(
        "--output", metavar="FILE", help="write to this .csv or .jsonl file (default: CSV to standard output)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of CSV")
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="classes in a line (default: 1 in CSV, all in JSON)"
    )
    parser.add_argument(
        "--weights", metavar="raw|ema", help="the set of weights (default: ema, the average, if there is one)"
    )
    add_loading(parser)
    parser.add_argument("--backend", help="what decodes the images (default: as in training)")
    parser.add_argument(
        "--on-error",
        default="raise",
        help="raise: stop at an image that cannot be decoded (default); skip: its row has the error",
    )
    add_told(parser)
    return parser


def _check(given: argparse.Namespace) -> None:
    if given.on_error == "replace":
        raise ArgumentError(
            "--on-error must be raise or skip. Found: 'replace', whose row would have the prediction of "
            "another image"
        )
    if given.on_error not in ("raise", "skip"):
        raise ArgumentError(f"--on-error must be raise or skip. Found: {given.on_error!r}")
    if given.output is None:
        return
    ending = Path(given.output).suffix.lower()
    if ending not in (_CSV, _JSON) or (given.json and ending == _CSV):
        allowed = _JSON if given.json else f"{_CSV} or {_JSON}"
        raise ArgumentError(f"--output must name a file that ends in {allowed}. Found: {given.output!r}")
    check_writable("--output", given.output)


def _check_kept(given: argparse.Namespace) -> None:
    """Raise ArgumentError if the output would replace a file that is read."""
    target = os.path.realpath(given.output)
    if target in {os.path.realpath(os.path.expanduser(name)) for name in (*given.files, given.predict)}:
        raise ArgumentError(
            f"--output must not name a file that is read. Found: {given.output!r}. Name another file"
        )


class _Counted:
    """The answers, counted as they pass."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = answers
        self.number = self.errors = 0

    def __iter__(self) -> Iterator[Answer]:
        for answer in self._answers:
            self.number += 1
            self.errors += bool(answer.error)
            yield answer


def _lines(given: argparse.Namespace, predictor: Predictor, answers: Iterable[Answer]) -> Iterator[str]:
    from fastpipe.train.measure.rows import csv_lines, json_lines

    names, task = predictor.names, predictor.task
    if given.json or (given.output or "").lower().endswith(_JSON):
        return json_lines(answers, names, task, top_k=given.top_k)
    return csv_lines(answers, names, task, top_k=given.top_k, errors=given.on_error == "skip")


def _write(output: str | None, lines: Iterator[str]) -> None:
    if output is None:
        for line in lines:
            put(line)
        return

    def fill(file: BinaryIO) -> None:
        for line in lines:
            file.write(line.encode())

    try:
        replace_file(output, fill)
    except OSError as error:
        raise unwritable("--output", output, error) from error
