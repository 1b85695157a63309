"""Writing a report: bad paths are refused before anything is measured, and files are written in one move."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from fastpipe.errors import ArgumentError
from fastpipe.profiling.host import quick_card
from fastpipe.profiling.measure.timeline import capture
from fastpipe.profiling.measure.workload import Workload
from fastpipe.profiling.report.page import page
from fastpipe.profiling.report.trace import trace_events
from fastpipe.system.files import replace_file


def check_writable(option: str, path: str) -> None:
    """Raise ArgumentError if `path` cannot be written: now, not after a minute of measuring."""
    target = Path(path)
    if target.is_dir():
        raise ArgumentError(f"{option} must name a file to write. Found: {path!r}, which is a folder")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        raise _unwritable(option, path, error) from error


def write_text(option: str, path: str, text: str) -> None:
    """Write UTF-8 text in one move: readers never see half of it. ArgumentError when it cannot be."""
    try:
        replace_file(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise _unwritable(option, path, error) from error


def write_values(option: str, path: str, values: dict[str, Any]) -> None:
    """Write plain values as JSON, in one move."""
    write_text(option, path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _unwritable(option: str, path: str, error: OSError) -> ArgumentError:
    return ArgumentError(
        f"{option} must name a file that can be written. Found: {path!r} ({error.strerror}). "
        "Name a file in a folder that exists and that you can write to"
    )


def with_timeline(report: dict[str, Any], workload: Workload) -> dict[str, Any]:
    """The report with `timeline` (recorded now, some seconds) and `host_card` (looked up, not measured)."""
    batch_size = report["workload"]["timed_batch_sizes"]["model"]
    return {
        **report,
        "timeline": capture(workload, batch_size),
        "host_card": quick_card(report["data"].get("root")),
    }


def write_forms(report: dict[str, Any], *, html: str | None, trace: str | None) -> None:
    """Write the page and the trace that were asked for, each in one move."""
    if html is not None:
        write_text("--html", html, page(report))
    if trace is not None:
        write_values("--trace", trace, trace_events(report["timeline"]))
