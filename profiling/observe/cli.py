"""`fastpipe-profile run [OPTIONS] train.py ARGS...`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from fastpipe.errors import ArgumentError
from fastpipe.profiling.commands.terminal import ended
from fastpipe.profiling.observe.script import Program, find_module, find_script, run_as_main
from fastpipe.profiling.observe.session import Session
from fastpipe.profiling.observe.waits import Observer, Stopped
from fastpipe.profiling.report.files import check_writable

__all__ = ["main", "make_parser"]

_EPILOG = """
The script runs as __main__ with its own arguments. Every DataLoader of torch or fastpipe in it is observed,
not replaced. When the steps are over, the report goes to stderr, the hooks are taken out, and the script
goes on.

examples:
  fastpipe-profile run train.py --data photos --epochs 90
  fastpipe-profile run --stop --json run.json --trace run.trace.json train.py --data photos
  fastpipe-profile run -m package.train --data photos
  torchrun --nproc-per-node 8 --no-python fastpipe-profile run --json run.json train.py

exit status: the script's own; 0 after --stop; 2 for a wrong argument before the script starts.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line; all that follows the script's name is the script's."""
    parser = argparse.ArgumentParser(
        prog="fastpipe-profile run",
        description="Observe the data loading of an unmodified training script.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="batches to observe: 50")
    parser.add_argument("--warmup", type=int, default=10, metavar="N", help="batches to let pass before: 10")
    parser.add_argument("--stop", action="store_true", help="end the script when the steps are over")
    parser.add_argument(
        "--json", metavar="FILE", help="write the report there too (FILE.rankN under torchrun)"
    )
    parser.add_argument("--trace", metavar="FILE", help="write a timeline there, for ui.perfetto.dev")
    parser.add_argument("-m", dest="module", action="store_true", help="SCRIPT is a module, as in python -m")
    parser.add_argument("script", metavar="SCRIPT", help="a Python file, or a module with -m")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="of the script")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script observed. Returns its exit status, 0 after --stop, or 2 if it was not started."""
    args = make_parser().parse_args(argv)
    return ended(lambda: _start(args))


def _start(args: argparse.Namespace) -> int:
    try:
        _check(args)
        program = find_module(args.script) if args.module else find_script(args.script)
        folder = Path(tempfile.mkdtemp(prefix="fastpipe-observe-"))
    except ArgumentError as error:
        sys.stderr.write(f"fastpipe-profile: error: {' '.join(str(error).split())}\n")
        return 2
    except OSError as error:
        sys.stderr.write(
            f"fastpipe-profile: error: no folder for temporary files ({error.strerror}); set TMPDIR\n"
        )
        return 2
    except SyntaxError as error:
        traceback.print_exception(error.with_traceback(None))
        return 1
    session = Session(args, folder)
    session.home = program.path_entry
    pid = os.getpid()
    try:
        return _run(session, program, args.arguments)
    finally:
        if os.getpid() == pid:  # a child of the script's own os.fork comes by here too
            shutil.rmtree(folder, ignore_errors=True)


def _check(args: argparse.Namespace) -> None:
    if args.steps < 1:
        raise ArgumentError(f"--steps must be at least 1. Found: {args.steps}")
    if args.warmup < 0:
        raise ArgumentError(f"--warmup must be at least 0. Found: {args.warmup}")
    for option in ("json", "trace"):
        path = getattr(args, option)
        if path is not None:
            check_writable(f"--{option}", path)
            setattr(args, option, os.path.abspath(path))  # the script may change the folder


def _run(session: Session, program: Program, arguments: list[str]) -> int:
    observer = Observer(
        session.folder,
        warmup=session.args.warmup,
        steps=session.args.steps,
        spans=session.args.trace is not None,
        on_close=lambda: None,
    )
    session.observe(observer)
    observer.install()
    pid = os.getpid()
    status = 1
    try:
        status = _outcome(program, arguments)
    finally:
        session.ended(status)
        if os.getpid() == pid:
            observer.close()
    return status


def _outcome(program: Program, arguments: list[str]) -> int:
    """Run the script and say what `python` would have: traceback, message, exit status."""
    try:
        run_as_main(program, arguments)
    except Stopped:
        return 0
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException as error:
        error.__traceback__ = _without_us(error.__traceback__)  # the hook prints that of the exception
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _without_us(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the script's first line on."""
    here = str(Path(__file__).parent)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(here):
        trace = trace.tb_next
    return trace
