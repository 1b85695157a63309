"""Ids find stages, runs and fixes; the words of a report may change, and no figure with them."""

from __future__ import annotations

import pytest

from fastpipe.profiling import names
from fastpipe.profiling.conclude.fixes import Fix, find_fixes
from fastpipe.profiling.conclude.predict import Basis
from fastpipe.profiling.conclude.scaling import fit
from fastpipe.profiling.conclude.verdict import StageCost
from fastpipe.profiling.measure.explore import Explored
from fastpipe.profiling.measure.latency import Latency
from fastpipe.profiling.measure.stages import StageResult
from fastpipe.profiling.measure.timing import Repeat, Spread, summarize
from fastpipe.profiling.measure.variants import Variant
from fastpipe.profiling.names import Id


def timed(id: Id, ms: float) -> StageResult:
    timing = summarize([Repeat(images=100, wall_s=ms / 10, cpu_s=ms / 10)] * 3)
    return StageResult(id=id, lane=None, what="", timing=timing)


def fixes() -> tuple[Fix, ...]:
    """Of a loader that decodes, with every fix that there is."""
    lanes = {names.READ: "worker", names.DECODE: "worker", names.CROP: "worker", names.ASSEMBLY: "worker"}
    lanes |= {names.HOP: "worker", names.DEVICE: "main", names.MODEL: "model"}
    basis = Basis(
        costs=tuple(StageCost(id=id, lane=lane, wall_ms=1.0, cpu_ms=1.0) for id, lane in lanes.items()),
        curve=fit({1: [100.0] * 4, 2: [200.0] * 4}),
        cpus=4.0,
        workers=2,
        shared=True,
        together=Spread(median=150.0, low=140.0, high=160.0),
        loader_cpu_ms=6.0,
    )
    details = [timed(names.COLD_READ, 4.0), timed(names.PILLOW_RANDAUGMENT, 3.0)]
    details += [timed(names.DEVICE_PLAIN, 1.0), timed(names.DEVICE_RANDAUGMENT, 1.5)]
    explored = Explored(
        details=tuple(details),
        unmeasured=(),
        levels=(),
        stalls=(),
        epoch_images=1,
        latency=Latency(
            first_batch_ms=1.0,
            epoch_gap_ms=1.0,
            wait_p50_ms=1.0,
            wait_p99_ms=1.0,
            waits=1,
            workers_seen=0,
            worker_bytes=0,
        ),
        interference=(),
        notes=(),
    )
    others = {
        names.TURBO: Variant(workers=1, backend="turbo"),
        names.DALI: Variant(workers=1, backend="dali"),
        names.BETON: Variant(workers=1, beton="x"),
        names.BETON_FFCV: Variant(workers=1, backend="ffcv", beton="x"),
        names.of(names.BETON_SMALL, 352): Variant(workers=1, beton="x"),
    }
    loaders = {id: timed(id, 5.0 - place) for place, id in enumerate(others)}
    loaders |= {names.OURS: timed(names.OURS, 3.0), names.of(names.WORKERS, 1): timed(names.OURS, 6.0)}
    return find_fixes(basis, explored, loaders, others)


def test_other_words_change_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {fix.id: fix for fix in fixes()}
    assert len(before) == 13
    shown = [fix.name for fix in before.values()]
    assert "1 worker" in shown and "4 workers" in shown and ".beton, max resolution 352" in shown
    monkeypatch.setattr(names, "WORDS", dict.fromkeys(names.WORDS, "another word {}"))
    assert {fix.id: fix for fix in fixes()} == before
    assert not set(shown) & {fix.name for fix in fixes()}


def test_a_small_beton_is_written_at_the_resolution_that_it_was_timed_at() -> None:
    (small,) = (fix for fix in fixes() if names.about(fix.id, names.BETON_SMALL))
    assert "--max-resolution 352;" in small.command and small.accuracy.startswith("tolerance")
