"""The later sections of a report: scaling, stalls, latency, interference, fixes, checks, what-if."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fastpipe.profiling import names
from fastpipe.profiling.commands.terminal import print_table
from fastpipe.profiling.conclude.fixes import Fix
from fastpipe.profiling.conclude.history import Checked
from fastpipe.profiling.measure.interference import knee
from fastpipe.profiling.measure.timing import Spread
from fastpipe.profiling.report.failing import NAMES
from fastpipe.profiling.report.result import Profile

_SHOWN_FIXES = 8


def sections(profile: Profile) -> dict[str, Any]:
    """The sections as plain values; docs/profile-schema.md describes each."""
    explored = profile.explored
    return {
        "scaling": _scaling(profile),
        "details": [
            {
                "name": stage.name,
                "what": stage.what,
                "images_per_s": asdict(stage.timing.images_per_s),
                "images_per_s_interval": asdict(stage.timing.interval),
                "cpu_ms_per_image": asdict(stage.timing.cpu_ms),
                "repeats": stage.timing.repeats,
            }
            for stage in explored.details
        ],
        "not_measured": [{"name": names.words(id), "why": why} for id, why in explored.unmeasured],
        "differential": {
            "epoch_images": explored.epoch_images,
            "stall": explored.stall,
            "runs": [
                {"name": level.name, "images_per_s": asdict(level.timing.interval)}
                for level in explored.levels
            ],
            "stalls": [
                {"name": stall.name, "seconds": asdict(stall.seconds), "share": stall.share}
                for stall in explored.stalls
            ],
        },
        "latency": asdict(explored.latency),
        "interference": {
            "points": [asdict(point) for point in explored.interference],
            "knee": knee(explored.interference) if explored.interference else None,
        },
        "fixes": [_fix(fix) for fix in profile.fixes],
        "verified": [_checked(one) for one in profile.checked],
        "history": _history(profile.past),
        "what_if": None if profile.what_if is None else asdict(profile.what_if),
    }


def _scaling(profile: Profile) -> dict[str, Any] | None:
    curve = profile.curve
    if curve is None:
        return None
    most = max(curve.measured)
    return {
        "points": [
            {"workers": workers, "images_per_s": asdict(found)} for workers, found in curve.measured.items()
        ],
        "fit": {
            "name": "universal scalability law" if len(curve.measured) > 2 else "Amdahl's law",
            "one": curve.one,
            "contention": curve.contention,
            "coherency": curve.coherency,
            "curve": [
                {"workers": workers, "images_per_s": asdict(curve.at(workers))}
                for workers in range(1, 2 * most + 1)
            ],
        },
        "demand_images_per_s": profile.verdict.model_images_per_s,
    }


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "name": fix.name,
        "images_per_s": asdict(fix.images_per_s),
        "loader_images_per_s": asdict(fix.loader_images_per_s),
        "base_images_per_s": fix.base,
        "gain": fix.gain,
        "accuracy": fix.accuracy,
        "command": fix.command,
        "runnable": fix.variant is not None,
        "note": fix.note,
    }


def _checked(one: Checked) -> dict[str, Any]:
    return {**asdict(one), "error": one.error, "inside": one.inside}


def _history(past: tuple[Checked, ...]) -> dict[str, Any]:
    return {
        "checks": len(past),
        "median_error": median(abs(one.error) for one in past) if past else None,
        "inside": sum(one.inside for one in past),
    }


def values_of(profile: Profile) -> dict[str, float | None]:
    """What `--fail-if` compares; shares in per cent, None for a value that was not measured."""
    explored, rates = profile.explored, {stage.id: stage.timing for stage in profile.together}
    errors = [abs(one.error) for one in profile.checked]
    found: dict[str, float | None] = {
        "stall": None if explored.stall is None else 100.0 * explored.stall,
        "images_per_s": rates[names.TOGETHER].images_per_s.median,
        "loader_images_per_s": rates[names.OURS].images_per_s.median,
        "prediction_error": 100.0 * max(errors) if errors else None,
        "wait_p99_ms": explored.latency.wait_p99_ms,
        "worker_mb": explored.latency.worker_bytes / 1e6 if explored.latency.workers_seen else None,
    }
    assert set(found) == set(NAMES)
    return found


def print_parts(profile: Profile, console: Console) -> None:
    """Everything below the verdict."""
    _print_stalls(profile, console)
    _say(console, *_latency_words(profile), *_interference_words(profile))
    _print_fixes(profile, console)
    _print_checks(profile, console)
    if profile.what_if is not None:
        _say(console, f"What if: {profile.what_if.sentence}")
        _say(console, *(f"  assumed: {text}" for text in profile.what_if.assumptions))


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _print_stalls(profile: Profile, console: Console) -> None:
    explored = profile.explored
    table = Table(title=f"runs that differ by one part; an epoch has {explored.epoch_images:,} images")
    for name in ("run", "mean images/s", "adds, s/epoch", "95 % interval", "of the epoch"):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    first = explored.levels[0]
    table.add_row(first.name, f"{first.timing.interval.median:,.1f}", "", "", "")
    for level, stall in zip(explored.levels[1:], explored.stalls, strict=True):
        low, high = stall.seconds.low, stall.seconds.high
        table.add_row(
            level.name,
            f"{level.timing.interval.median:,.1f}",
            f"{stall.seconds.median:+,.2f}",
            f"{low:+,.2f} to {high:+,.2f}",
            f"{stall.share:+.1%}",
        )
    print_table(console, table)


def _latency_words(profile: Profile) -> list[str]:
    found = profile.explored.latency
    text = (
        f"First batch after {found.first_batch_ms:,.0f} ms, next epoch after "
        f"{found.epoch_gap_ms:,.0f} ms; "
        f"wait for a batch p50 {found.wait_p50_ms:,.1f} ms, p99 {found.wait_p99_ms:,.1f} ms "
        f"(n = {found.waits})"
    )
    if found.workers_seen:
        text += f"; {found.workers_seen} worker processes hold {found.worker_bytes / 1e6:,.0f} MB"
    return [text + "."]


def _interference_words(profile: Profile) -> list[str]:
    points = profile.explored.interference
    if not points:
        return []
    rates = ", ".join(f"{point.load:.0%}: {point.images_per_s.median:,.1f}" for point in points)
    bend = knee(points)
    end = "; it never takes 10 % longer" if bend is None else f"; it takes 10 % longer from {bend:.0%} on"
    return [f"Model step, images/s while decoding takes this share of the CPUs: {rates}{end}."]


def _print_fixes(profile: Profile, console: Console) -> None:
    table = Table(title="fixes, by predicted gain")
    for name in ("fix", "images/s", "95 % interval", "gain", "accuracy", "how"):
        table.add_column(name, justify="right" if name in ("images/s", "95 % interval", "gain") else "left")
    shown = [fix for fix in profile.fixes if fix.helps][:_SHOWN_FIXES]
    for fix in shown:
        note = f" ({fix.note})" if fix.note else ""
        table.add_row(
            fix.name,
            _rate(fix.images_per_s.median),
            _between(fix.images_per_s),
            f"{fix.gain:.2f}x",
            fix.accuracy,
            escape(f"{fix.command}{note}"),
        )
    if shown:
        print_table(console, table)
    rest = [fix.name for fix in profile.fixes if not fix.helps]
    if rest:
        _say(console, f"No gain above 2 % predicted here: {', '.join(rest)}.")


def _print_checks(profile: Profile, console: Console) -> None:
    for one in profile.checked:
        where = "inside" if one.inside else "outside"
        _say(
            console,
            f"verified {one.fix}: loader {_rate(one.predicted)} predicted "
            f"({_rate(one.low)} to {_rate(one.high)}), "
            f"{_rate(one.measured)} measured, {one.error:+.0%}, {where} the interval.",
        )
    history = _history(profile.past)
    if history["checks"]:
        _say(
            console,
            f"Predictions verified on this machine so far: {history['checks']}, median error "
            f"{history['median_error']:.0%}, {history['inside']} inside their interval.",
        )


def _rate(images_per_s: float) -> str:
    return f"{images_per_s:,.0f}" if images_per_s >= 100 else f"{images_per_s:.3g}"


def _between(found: Spread) -> str:
    return f"{_rate(found.low)} to {_rate(found.high)}"
