"""`fastpipe-profile DATA`: which stage is the bottleneck, in a table and a sentence."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastpipe.profiling.commands.terminal import Outcome
from fastpipe.profiling.measure.setting import Announce
from fastpipe.profiling.measure.workload import Options, make_workload
from fastpipe.profiling.profile import num_parts, profile
from fastpipe.profiling.report.failing import FAILED, parse_condition
from fastpipe.profiling.report.files import with_timeline, write_forms
from fastpipe.profiling.report.terminal import render
from fastpipe.profiling.report.terminal_parts import values_of
from fastpipe.profiling.report.values import to_dict


def run(args: argparse.Namespace) -> Outcome:
    """Measure, write the requested page and trace, and check the condition."""
    options = Options(
        data=args.data,
        recipe=args.recipe,
        model=args.model,
        resolution=args.resolution,
        batch_size=args.batch_size,
        workers=args.workers,
        seconds_per_stage=args.seconds_per_stage,
        quick=args.quick,
        backend=args.backend,
        target_images_per_s=args.target_images_per_s,
        verify=args.verify,
        what_if=args.what_if,
    )
    condition = None if args.fail_if is None else parse_condition(args.fail_if)
    workload = make_workload(options)
    with _progress(num_parts(workload)) as announce:
        result = profile(workload, announce)
        report = to_dict(result)
        if args.html is not None or args.trace is not None:
            announce("timeline")
            report = with_timeline(report, workload)
    write_forms(report, html=args.html, trace=args.trace)
    holds = condition is not None and condition.holds(values_of(result))
    return Outcome(
        values=report,
        show=lambda console: render(result, console),
        status=FAILED if holds else 0,
        said=f"{args.fail_if} holds" if holds else "",
    )


@contextmanager
def _progress(parts: int) -> Iterator[Announce]:
    """A bar on stderr if it is a terminal, nothing otherwise: the run takes seconds in any case."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda part: None
        return
    columns = (
        TextColumn("profiling: {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("start", total=parts)
        started = False

        def announce(part: str) -> None:
            nonlocal started
            bar.update(task, description=part, advance=1 if started else 0)
            started = True

        yield announce
