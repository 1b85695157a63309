"""The verdict on planted costs: pure arithmetic, so every number can be worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fastpipe.profiling import names
from fastpipe.profiling.conclude.fixes import Fix
from fastpipe.profiling.conclude.verdict import Measured, StageCost, Verdict, forecast
from fastpipe.profiling.conclude.verdict import judge as bare
from fastpipe.profiling.conclude.words import in_words
from fastpipe.profiling.measure.timing import Spread
from fastpipe.profiling.names import Id


def judge(
    stages: list[StageCost],
    *,
    measured: Measured,
    best: Fix | None = None,
    freed: float | None = None,
    **setting: Any,
) -> Verdict:
    verdict = bare(stages, measured=measured, **setting)
    return in_words(verdict, stages, measured, best=best, freed=freed, **setting)


def text_of(verdict: Verdict) -> str:
    return " ".join((*verdict.sentences, *verdict.details))


def stage(id: Id, lane: str, ms: float, cpu_ms: float | None = None) -> StageCost:
    return StageCost(id=id, lane=lane, wall_ms=ms, cpu_ms=ms if cpu_ms is None else cpu_ms)  # type: ignore[arg-type]


def pipeline(
    *, read: float = 0.05, decode: float = 2.0, crop: float = 0.5, device: float = 0.1
) -> list[StageCost]:
    return [
        stage(names.READ, "worker", read),
        stage(names.DECODE, "worker", decode),
        stage(names.CROP, "worker", crop),
        stage(names.DEVICE, "main", device),
    ]


def on_gpu(ms: float) -> StageCost:
    return stage(names.MODEL, "model", ms, 0.0)


def on_cpu(ms: float, cpus: int) -> StageCost:
    return stage(names.MODEL, "model", ms, ms * cpus)


def test_workers_bind_where_there_are_cores_to_spare() -> None:
    found = forecast(pipeline(), cpus=16, workers=2)
    assert (found.bound, found.stage) == ("workers", names.DECODE)
    assert found.images_per_s == pytest.approx(2 * 1000 / 2.55)


def test_cpus_bind_where_workers_are_many() -> None:
    found = forecast(pipeline(), cpus=2, workers=8)
    assert (found.bound, found.stage) == ("CPUs", names.DECODE)
    assert found.images_per_s == pytest.approx(2 * 1000 / 2.65)


def test_the_device_stage_binds_with_many_workers_and_cores() -> None:
    found = forecast(pipeline(device=1.0), cpus=64, workers=32)
    assert (found.bound, found.stage) == ("main thread", names.DEVICE)
    assert found.images_per_s == pytest.approx(1000.0)


def test_without_workers_everything_is_one_lane() -> None:
    found = forecast([*pipeline(), on_gpu(1.35)], cpus=16, workers=0)
    assert (found.bound, found.stage) == ("main thread", names.DECODE)
    assert found.images_per_s == pytest.approx(1000 / 4.0)


def test_waiting_for_a_disk_costs_workers_and_no_cpu() -> None:
    stages = [stage(names.READ, "worker", 10.0, 0.1), stage(names.DECODE, "worker", 2.0)]
    found = forecast(stages, cpus=2, workers=4)
    assert (found.bound, found.stage) == ("workers", names.READ)
    assert found.images_per_s == pytest.approx(4 * 1000 / 12.0)


def test_a_slow_model_on_a_gpu_is_the_bottleneck() -> None:
    verdict = judge(
        [*pipeline(), on_gpu(10.0)], cpus=4, workers=4, gpu=True, measured=Measured(loader=1500.0)
    )
    assert verdict.bottleneck == names.MODEL
    assert verdict.slowest_loader_stage == names.DECODE
    assert verdict.following is not None and verdict.following.stage == names.DECODE
    text = text_of(verdict)
    assert "The model step is the bottleneck: alone it takes 100 images/s" in text
    assert "the loader with 4 workers gives 1,500 images/s, 15x as fast as needed" in text
    assert "1 core does 500 images/s of it, 4 cores 2,000 images/s" in text
    assert "GPU half" not in text


def test_a_fast_model_makes_decode_the_bottleneck_and_tells_the_cores_needed() -> None:
    verdict = judge([*pipeline(), on_gpu(0.5)], cpus=2, workers=2, gpu=True, measured=Measured(loader=700.0))
    assert verdict.bottleneck == names.DECODE
    assert verdict.cpus_needed == pytest.approx(2000 * 2.65 / 1000)
    text = text_of(verdict)
    assert (
        verdict.sentences[0]
        == "Decode is the bottleneck: the loader needs 5.3 CPUs for 2,000 images/s, and you have 2."
    )
    assert "could take 2,000 images/s, so it would wait 65% of the time" in text


def test_what_comes_next_is_the_rate_without_the_bottleneck() -> None:
    verdict = judge([*pipeline(), on_gpu(0.5)], cpus=2, workers=2, gpu=True, measured=Measured())
    rest = forecast([*pipeline(decode=0.0), on_gpu(0.5)], cpus=2, workers=2)
    assert verdict.following is not None
    assert verdict.following.images_per_s == pytest.approx(rest.images_per_s) == pytest.approx(2000.0)
    assert verdict.sentences[1:] == (
        "Without the cost of decode, the model step would be the next limit, at 2,000 images/s (2.6x).",
    )


def fix(id: Id, rate: float, base: float) -> Fix:
    point = Spread(median=rate, low=rate, high=rate)
    return Fix(
        id=id,
        images_per_s=point,
        loader_images_per_s=point,
        base=base,
        accuracy="none",
        command="",
    )


def test_a_verdict_is_two_sentences() -> None:
    """The form asked for: how many CPUs, what helps, what is next; the rest is details."""
    verdict = judge(
        [*pipeline(), on_gpu(0.5)],
        cpus=4,
        workers=4,
        gpu=True,
        measured=Measured(loader=1400.0, together=1390.0),
        best=fix(names.DALI, 1900.0, 1400.0),
        freed=1.1,
    )
    assert verdict.sentences == (
        "Decode is the bottleneck: the loader needs 5.3 CPUs for 2,000 images/s, and you have 4.",
        "RandAugment on the device already frees 1.1 of them. Predicted with backend dali: 1,900 images/s "
        "(1.4x). Without the cost of decode, the model step would be the next limit, at 2,000 images/s "
        "(1.3x).",
    )
    assert len(verdict.details) == 4


def test_enough_cpus_and_few_workers_are_told_apart() -> None:
    verdict = judge([*pipeline(), on_gpu(0.5)], cpus=16, workers=1, gpu=True, measured=Measured(loader=390.0))
    assert verdict.sentences[0] == (
        "Decode is the bottleneck: the loader needs 5.3 CPUs of your 16 for 2,000 images/s, "
        "and 1 worker gives 390 images/s."
    )


def test_on_a_cpu_model_and_loader_share_the_cores() -> None:
    verdict = judge(
        [*pipeline(), on_cpu(10.0, 2)],
        cpus=2,
        workers=2,
        gpu=False,
        measured=Measured(loader=85.0, together=80.0),
    )
    assert verdict.bottleneck == names.MODEL
    assert verdict.together.images_per_s == pytest.approx(2000 / 22.65)
    text = text_of(verdict)
    assert (
        "Loader and model together: 88 images/s predicted from the stage costs, 80 images/s measured" in text
    )
    assert "(prediction +10%)" in text
    assert "share 2 CPUs" in text and "GPU half" in text and "was not measured" in text


def test_decode_heavier_than_the_model_is_named_on_a_cpu_too() -> None:
    stages = [*pipeline(decode=60.0), on_cpu(5.0, 2)]
    verdict = judge(stages, cpus=2, workers=2, gpu=False, measured=Measured())
    assert verdict.bottleneck == names.DECODE


@pytest.mark.parametrize("slow", ["read", "decode", "crop", "device"])
def test_any_planted_stage_is_named(slow: str) -> None:
    stages = [*pipeline(**{slow: 30.0}), on_gpu(1.0)]
    ids = {"read": names.READ, "decode": names.DECODE, "crop": names.CROP, "device": names.DEVICE}
    verdict = judge(stages, cpus=4, workers=4, gpu=True, measured=Measured())
    assert verdict.bottleneck == ids[slow]


def test_a_tie_is_called_balanced() -> None:
    stages = [stage(names.DECODE, "worker", 2.0), on_gpu(1.0)]
    verdict = judge(stages, cpus=8, workers=2, gpu=True, measured=Measured(loader=1000.0))
    assert "balanced" in text_of(verdict)


def test_idle_cores_are_pointed_out() -> None:
    verdict = judge([*pipeline(), on_gpu(0.1)], cpus=16, workers=2, gpu=True, measured=Measured())
    assert "More workers would help: 2 of 16 usable CPUs decode." in text_of(verdict)


def test_stages_without_cost_are_refused() -> None:
    with pytest.raises(ValueError, match="no stage costs anything"):
        forecast([stage(names.READ, "worker", 0.0)], cpus=2, workers=2)
