"""`fastpipe-profile run [OPTIONS] train.py ARGS...`: a script as __main__, with its loaders observed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType

from fastpipe.errors import ArgumentError
from fastpipe.profiling.observe.script import Program, find_module, find_script, run_as_main
from fastpipe.profiling.observe.session import Session
from fastpipe.profiling.observe.waits import Observer, Stopped


def run(args: argparse.Namespace) -> int:
    """Run the script observed. Returns its exit status, or 0 after --stop."""
    for option, least in (("steps", 1), ("warmup", 0)):
        if getattr(args, option) < least:
            raise ArgumentError(f"--{option} must be at least {least}. Found: {getattr(args, option)}")
    try:
        program = find_module(args.script) if args.module else find_script(args.script)
        folder = Path(tempfile.mkdtemp(prefix="fastpipe-observe-"))
    except OSError as error:
        raise ArgumentError(
            f"there is no folder for temporary files ({error.strerror}); set TMPDIR"
        ) from error
    except SyntaxError as error:
        traceback.print_exception(error.with_traceback(None))
        return 1
    session = Session(args, folder)
    session.home = program.path_entry
    pid = os.getpid()
    try:
        return _observed(session, program, args.arguments)
    finally:
        if os.getpid() == pid:  # a child of the script's own os.fork also gets here
            shutil.rmtree(folder, ignore_errors=True)


def _observed(session: Session, program: Program, arguments: list[str]) -> int:
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
    """Run the script with the traceback, message and exit status that `python` would give."""
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
        error.__traceback__ = _without_us(error.__traceback__)  # the hook prints the exception's own
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _without_us(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the script's first line on."""
    here = str(Path(__file__).parent)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(here):
        trace = trace.tb_next
    return trace
