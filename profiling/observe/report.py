"""The observation for people (rich) and for programs (JSON of a versioned schema)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastpipe.profiling.commands.terminal import print_table
from fastpipe.profiling.observe.advice import Lift, Verdict, title, who
from fastpipe.profiling.observe.memory import Memory
from fastpipe.profiling.observe.ranks import RankWait, spread_words
from fastpipe.profiling.observe.summary import LoaderSummary, Summary
from fastpipe.system.files import replace_file

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or is removed; new fields do not raise it."""


_SIDE_BY_SIDE = 3  # loaders in one table


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The findings about one loader."""

    loader: LoaderSummary
    verdict: Verdict
    lift: Lift | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The observations in one process of a script. rank is RANK of the environment, if it is set.

    findings: one for each loader, the training loader's first. ranks: the waits of this machine's ranks, in
    the report of rank 0.
    """

    script: str
    rank: int | None
    summary: Summary
    findings: tuple[Finding, ...]
    memory: tuple[Memory, ...]
    shm_peak: int
    notes: tuple[str, ...]
    ranks: tuple[RankWait, ...] = ()


def to_dict(seen: Observation) -> dict[str, Any]:
    """Plain values, as `--json` writes them; docs/profiling-run.md names every field."""
    summary = seen.summary
    return {
        "schema": "fastpipe-profile-run",
        "schema_version": SCHEMA_VERSION,
        "script": seen.script,
        "rank": seen.rank,
        "window": {
            "steps": summary.steps,
            "seconds": summary.seconds,
            "warmed_up": summary.warmed_up,
        },
        "cost_of_observing": {
            "main_share": summary.own_main_share,
            "worker_share": summary.own_worker_share,
        },
        "loaders": [_loader_dict(found, seen) for found in seen.findings],
        "shm_peak_bytes": seen.shm_peak,
        "verdict": _first(seen, "verdict"),
        "lift": _first(seen, "lift"),
        "ranks": [asdict(wait) for wait in seen.ranks],
        "notes": list(seen.notes),
    }


def _first(seen: Observation, key: str) -> Any:
    """The first loader's values, if there is one: most readers want these."""
    return _loader_dict(seen.findings[0], seen)[key] if seen.findings else None


def _verdict_dict(found: Finding) -> dict[str, Any]:
    values = asdict(found.verdict)
    values["text"] = " ".join((who(found.loader), *values.pop("sentences")))
    return {"loader": found.loader.facts.number, "name": found.loader.facts.name, **_finite(values)}


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: null is a rate without a limit."""
    return {key: None if value == float("inf") else value for key, value in values.items()}


def _loader_dict(found: Finding, seen: Observation) -> dict[str, Any]:
    loader, facts = found.loader, found.loader.facts
    return {
        "number": facts.number,
        "name": facts.name,
        "role": loader.role[0],
        "role_reason": loader.role[1],
        "kind": facts.kind,
        "backend": facts.backend,
        "batch_size": facts.batch_size,
        "num_workers": facts.num_workers,
        "start_method": facts.start_method,
        "pin_memory": facts.pin_memory,
        "persistent_workers": facts.persistent,
        "epochs": facts.epochs,
        "steps": loader.steps,
        "images_per_batch": loader.images_per_batch,
        "images_per_s": loader.images_per_s,
        "images_per_s_interval": None if loader.rates is None else asdict(loader.rates),
        "step_ms": {
            "total": loader.step_ms,
            "wait": loader.wait_ms,
            "wait_exposed": loader.exposed_ms,
            "transfer": loader.transfer_ms,
            "compute": loader.work_ms - loader.transfer_ms,
        },
        "wait_ms": {"p50": loader.wait_p50_ms, "p99": loader.wait_p99_ms},
        "first_batch_ms": loader.first_batch_ms,
        "epoch_gaps_ms": list(loader.epoch_gaps_ms),
        "batches_timed": loader.batches_timed,
        "worker_batch_ms": {"wall": loader.worker_ms, "cpu": loader.worker_cpu_ms},
        "stages": [
            {
                "name": stage.name,
                "where": stage.where,
                "cost_ms_per_image": stage.cost_ms,
                "wall_ms_per_image": stage.wall_ms,
                "cpu_ms_per_image": stage.cpu_ms,
                "calls_per_image": stage.calls_per_image,
            }
            for stage in loader.stages
        ],
        "workers": [
            {"pid": memory.pid, "rss_bytes": memory.rss, "pss_bytes": memory.pss}
            for memory in seen.memory
            if memory.loader == facts.number
        ],
        "verdict": _verdict_dict(found),
        "lift": None if found.lift is None else asdict(found.lift),
    }


def write_text(path: Path, values: dict[str, Any]) -> None:
    """Write JSON in one move: readers never see half of it. OSError if it cannot be written."""
    text = json.dumps(values, allow_nan=False, indent=1) + "\n"
    replace_file(str(path), lambda file: file.write(text.encode()))


def render(seen: Observation, console: Console) -> None:
    """Print loaders, stages, what observing cost, the verdict and notes."""
    summary = seen.summary
    rank = "" if seen.rank is None else f" (rank {seen.rank})"
    when = (
        "after the warm-up"
        if summary.warmed_up
        else "from the start, since the script ended within the warm-up"
    )
    _say(
        console,
        f"fastpipe-profile run {seen.script}{rank}: {summary.steps} steps, {summary.seconds:.1f} s, {when}",
    )
    for first in range(0, len(seen.findings), _SIDE_BY_SIDE):
        print_table(
            console, _loaders([found.loader for found in seen.findings[first : first + _SIDE_BY_SIDE]])
        )
    for found in seen.findings:
        console.print(who(found.loader), style="bold", markup=False, highlight=False)
        for sentence in found.verdict.sentences:
            _say(console, sentence)
        if found.loader.stages:
            print_table(console, _stages(found.loader))
    _say(
        console,
        f"observing took {100 * summary.own_main_share:.2f} % of the step time in the main process and "
        f"{100 * summary.own_worker_share:.2f} % of the time for making batches, by its own clocks",
    )
    for line in _memory(seen):
        _say(console, line)
    if seen.ranks:
        print_table(console, _ranks(seen))
        _say(console, spread_words(seen.ranks))
    for note in seen.notes:
        console.print(f"note: {note}", style="dim", markup=False, highlight=False)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False)


def _loaders(loaders: Sequence[LoaderSummary]) -> Table:
    """One column per loader: many figures of few loaders then fit a narrow terminal."""
    table = Table(title="times in ms per step", title_justify="left")
    table.add_column("loader", no_wrap=True)
    for loader in loaders:
        table.add_column(Text(loader.facts.name), justify="right", overflow="fold")
    columns = [_figures(loader) for loader in loaders]
    for row in zip(*(column.items() for column in columns), strict=True):
        table.add_row(row[0][0], *(Text(value) for _, value in row))
    return table


def _figures(loader: LoaderSummary) -> dict[str, str]:
    facts, gaps = loader.facts, loader.epoch_gaps_ms
    return {
        "for": loader.role[0],
        "kind": facts.kind,
        "backend": facts.backend or "torch's own code",
        "made by": f"{facts.makers} {f'({facts.start_method})' if facts.start_method else ''}".strip(),
        "steps": str(loader.steps),
        "images in a batch": f"{loader.images_per_batch:.4g}",
        "images/s": _number(loader.images_per_s),
        "step": _number(loader.step_ms),
        "wait, mean": _number(loader.wait_ms),
        "wait, p50": _number(loader.wait_p50_ms),
        "wait, p99": _number(loader.wait_p99_ms),
        "transfer": _number(loader.transfer_ms),
        "compute": _number(loader.work_ms - loader.transfer_ms),
        "first batch": "-" if loader.first_batch_ms is None else _number(loader.first_batch_ms),
        "gap between epochs": _number(sum(gaps) / len(gaps)) if gaps else "-",
    }


def _stages(loader: LoaderSummary) -> Table:
    table = Table(title=f"stages of {loader.facts.name}, ms per image", title_justify="left")
    table.add_column("stage", overflow="fold")
    for name in ("cost", "CPU", "wall", "calls"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("where", no_wrap=True)
    for stage in loader.stages:
        table.add_row(
            title(stage.name),
            f"{stage.cost_ms:.3f}",
            f"{stage.cpu_ms:.3f}",
            f"{stage.wall_ms:.3f}",
            f"{stage.calls_per_image:.3g}",
            stage.where,
        )
    return table


def _ranks(seen: Observation) -> Table:
    table = Table()
    for name in ("rank", "steps", "images/s", "step ms", "wait", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    for wait in seen.ranks:
        figures = (wait.images_per_s, wait.step_ms, wait.wait_ms, wait.wait_p99_ms)
        table.add_row(str(wait.rank), str(wait.steps), *map(_number, figures))
    return table


def _memory(seen: Observation) -> list[str]:
    if not seen.memory:
        return []
    rss = max(memory.rss for memory in seen.memory)
    shares = [memory.pss for memory in seen.memory if memory.pss is not None]
    pss = f", PSS {sum(shares) / 1e6:,.0f} MB together" if shares else ""
    return [
        f"memory: {len(seen.memory)} workers, RSS up to {rss / 1e6:,.0f} MB each{pss}; "
        f"/dev/shm peaked {seen.shm_peak / 1e6:,.1f} MB above the start, over all programs of the machine"
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
