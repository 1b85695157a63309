"""`fastpipe-profile`: the command line and the exit status of all its commands."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from fastpipe.errors import ArgumentError, FastpipeError, MissingExtraError
from fastpipe.profiling.commands.parser import Command, parse
from fastpipe.profiling.commands.terminal import Outcome, report_console
from fastpipe.profiling.report.files import write_values
from fastpipe.system.early import usual_interrupt
from fastpipe.system.output import ends_with_its_reader
from fastpipe.system.outputs import check_writable

__all__ = ["main"]


@ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, 1 bad data, 2 wrong argument, 3 --fail-if, 130 on Ctrl-C.

    `run` returns what the script returned.
    """
    command, args = parse(sys.argv[1:] if argv is None else list(argv))
    try:
        usual_interrupt()
        return _execute(command, args)
    except FastpipeError as error:
        sys.stderr.write(f"fastpipe-profile: error: {' '.join(str(error).split())}\n")
        return 2 if isinstance(error, ArgumentError | MissingExtraError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("fastpipe-profile: interrupted\n")
        return 130


def _execute(command: Command, args: argparse.Namespace) -> int:
    """Files that cannot be written are refused before anything is measured; the report comes last."""
    for option in ("json", "html", "trace"):
        path = getattr(args, option, None)
        if path is not None:
            check_writable(f"--{option}", path)
            setattr(args, option, os.path.abspath(path))  # a script that is run may change the folder
    # Importing a command takes a second, during which Ctrl-C may come.
    outcome = importlib.import_module(command.module).run(args)
    if not isinstance(outcome, Outcome):
        return int(outcome)
    if args.json is not None:
        write_values("--json", args.json, outcome.values)
    outcome.show(report_console())
    if outcome.said:
        sys.stderr.write(f"fastpipe-profile: {outcome.said}\n")
    return outcome.status
