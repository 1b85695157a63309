"""The output of the commands of `fastpipe-profile`: consoles and tables that fit, and their results."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

# Narrower tables would break their numbers. A pipe counts as 80 columns, unless COLUMNS is set.
_NARROWEST = 104
_FOLDED = 16  # a column that may wrap is readable down to this width


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command found. values: for --json. show: prints the report. said: on stderr, below it."""

    values: dict[str, Any]
    show: Callable[[Console], None]
    status: int = 0
    said: str = ""


class _Report(Console):
    """Drops its output once the reader has gone (`| head`), and the command continues to its end."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        stream = sys.stderr if self.stderr else sys.stdout
        # Python flushes the stream on exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def report_console(narrowest: int = _NARROWEST, *, stderr: bool = False) -> Console:
    """As wide as the terminal or COLUMNS; without either, for a file or a pipe, at least `narrowest`."""
    console = _Report(stderr=stderr, soft_wrap=False)
    asked = os.environ.get("COLUMNS", "")
    if console.is_terminal or (asked.isdigit() and int(asked) > 0) or console.width >= narrowest:
        return console
    return _Report(stderr=stderr, soft_wrap=False, width=narrowest)


def print_table(console: Console, table: Table) -> None:
    """Print the table; if it would cut off figures, print each row as a paragraph."""
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


@contextmanager
def status(title: str) -> Iterator[Callable[[str], None]]:
    """Shows the current part on stderr, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda part: None
        return
    with console.status(title) as shown:
        yield lambda part: shown.update(f"{title}: {part}")
