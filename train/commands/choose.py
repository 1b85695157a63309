"""Which command a command line asks for, and the call of it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

COMMANDS = ("evaluate", "export", "predict", "report")


def command_of(args: Sequence[str]) -> str | None:
    """The first of the commands that the command line has as an option, else None."""
    given = [arg.partition("=")[0] for arg in args]
    return next((name for name in COMMANDS if f"--{name}" in given), None)


def run_command(command: str, args: Sequence[str]) -> int:
    """Run the command and print the result. Returns the exit status; argparse exits with 2 on its own."""
    # Imported late: training needs none of them.
    status: int = import_module(f"fastpipe.train.commands.{command}").run(args)
    return status
