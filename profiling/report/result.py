"""What a profile found: everything that a report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastpipe.profiling.conclude.fixes import Fix
from fastpipe.profiling.conclude.history import Checked
from fastpipe.profiling.conclude.scaling import Curve
from fastpipe.profiling.conclude.verdict import Verdict
from fastpipe.profiling.conclude.whatif import Answer
from fastpipe.profiling.measure.explore import Explored
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.workload import Workload

__all__ = ["Profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything a report shows. `stages` were timed alone, `together` as they run in training.

    curve: the loader's rate over its workers (None without workers). explored: costs outside the path, runs
    that differ by one part, latencies. fixes are ranked. checked: the findings of `--verify`; past: those of
    earlier runs.
    """

    workload: Workload
    host: dict[str, Any]
    data: dict[str, Any]
    batch_sizes: dict[str, int]
    stages: tuple[StageResult, ...]
    together: tuple[StageResult, ...]
    verdict: Verdict
    notes: tuple[str, ...]
    curve: Curve | None
    explored: Explored
    fixes: tuple[Fix, ...]
    checked: tuple[Checked, ...]
    past: tuple[Checked, ...]
    what_if: Answer | None
