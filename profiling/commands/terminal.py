"""What every command of `fastpipe-profile` does alike: its console, errors, Ctrl-C, readers that go away."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from fastpipe.errors import FastpipeError
from fastpipe.profiling.report.files import exit_status
from fastpipe.system.early import usual_interrupt

__all__ = ["ended", "print_table", "report_console"]

_FOLDED = 16  # a column that may wrap is readable down to this width


class _Report(Console):
    """Prints into nothing once its reader has gone (`| head`): the command goes on to its end."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        stream = sys.stderr if self.stderr else sys.stdout
        # Python flushes the stream when it leaves, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def report_console(narrowest: int, *, stderr: bool = False) -> Console:
    """As wide as the terminal, or as COLUMNS says; into a file or a pipe at least `narrowest` without it."""
    console = _Report(stderr=stderr, soft_wrap=False)
    asked = os.environ.get("COLUMNS", "")
    if console.is_terminal or (asked.isdigit() and int(asked) > 0) or console.width >= narrowest:
        return console
    return _Report(stderr=stderr, soft_wrap=False, width=narrowest)


def print_table(console: Console, table: Table) -> None:
    """The table; row by row, each a paragraph, where it would have to cut figures off."""
    columns = [[_plain(cell) for cell in column.cells] for column in table.columns]
    needed = sum(_least(column, cells) + 3 for column, cells in zip(table.columns, columns, strict=True)) + 1
    if needed <= console.width:
        console.print(table)
        return
    if table.title is not None:
        console.print(Text(_plain(table.title)))
    heads = [_plain(column.header) for column in table.columns]
    for row in zip(*columns, strict=True):
        told = [f"{head} {cell}".strip() for head, cell in zip(heads[1:], row[1:], strict=True) if cell]
        console.print(Text(f"- {row[0]}: {', '.join(told)}"))


def _least(column: Column, cells: Sequence[str]) -> int:
    whole = max(map(len, [_plain(column.header), *cells]))
    return whole if column.no_wrap else min(whole, _FOLDED)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell)).plain


def ended(work: Callable[[], int]) -> int:
    """The exit status of `work`: its own, that of its error, which is one line, or 130 on Ctrl-C."""
    try:
        usual_interrupt()
        return work()
    except FastpipeError as error:
        return exit_status(error)
    except KeyboardInterrupt:
        sys.stderr.write("fastpipe-profile: interrupted\n")
        return 130
