"""A profile for people (a rich table and sentences) and for programs (JSON of a versioned schema)."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fastpipe.profiling import names
from fastpipe.profiling.commands.terminal import print_table
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.report.result import Profile
from fastpipe.profiling.report.terminal_parts import print_parts


def render(profile: Profile, console: Console) -> None:
    """Print head, table, verdict and notes."""
    for line in _head(profile):
        console.print(line, markup=False, highlight=False)
    print_table(console, _table(profile))
    for sentence in profile.verdict.sentences:
        console.print(sentence, style="bold", markup=False, highlight=False)
    for line in profile.verdict.details:
        console.print(line, markup=False, highlight=False)
    print_parts(profile, console)
    for note in profile.notes:
        console.print(f"note: {note}", style="dim", markup=False, highlight=False)


def _head(profile: Profile) -> list[str]:
    host, data, workload = profile.host, profile.data, profile.workload
    source = f"recipe {workload.recipe}" if workload.recipe else "no recipe"
    layout = ", channels_last" if workload.channels_last else ""
    broken = f", {data['broken']} broken" if data["broken"] else ""
    return [
        f"host: {host['cpu']}, {host['cpus_usable']:g} usable CPUs, "
        f"{host['gpu'] or 'no GPU'}; torch {host['torch']}, torchvision {host['torchvision']}, "
        f"Pillow {host['pillow']} ({host['jpeg']})",
        f"data: {workload.data}: {data['sampled']} of {data['files']:,} files sampled{broken}, "
        f"mean {data['mean_bytes'] / 1000:,.1f} kB, median {data['median_pixels'] / 1e6:.3g} megapixels",
        f"work: {source}: {workload.model} of {workload.models} at {workload.resolution} pixels{layout}, "
        f"batch {workload.batch_size}, {workload.workers} workers, backend {workload.backend}",
    ]


def _table(profile: Profile) -> Table:
    table = Table(title_justify="left")
    table.add_column("stage", no_wrap=True)
    for name in ("images/s", "95 % interval", "CPU-ms/image", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what")
    for stage in profile.stages:
        table.add_row(*_row(stage))
    table.add_section()
    for stage in profile.explored.details:
        table.add_row(*_row(stage))
    for id, why in profile.explored.unmeasured:
        table.add_row(names.words(id), "-", "-", "-", "", f"not measured: {why}")
    table.add_section()
    for stage in profile.together:
        table.add_row(*_row(stage))
    return table


def _row(stage: StageResult) -> tuple[str, ...]:
    rate, cpu, interval = stage.timing.images_per_s, stage.timing.cpu_ms, stage.timing.interval
    added = names.about(stage.id, names.DEVICE_WITH)
    return (
        f"  + {added}" if added else stage.name,  # these rows follow the plain device stage
        _number(rate.median),
        f"{_number(interval.low)}-{_number(interval.high)}",
        f"{cpu.median:.3g}",
        str(stage.timing.repeats),
        stage.what,
    )


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
