"""The price list, the consumer that stands in for a GPU, stalls by hand, and CPUs that affinity leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fastpipe.profiling import names
from fastpipe.profiling.cli import main
from fastpipe.profiling.measure.differential import Level, Paced, stalls
from fastpipe.profiling.measure.timing import Repeat, summarize
from fastpipe.profiling.names import Id


def test_the_price_list_has_every_loader_and_augmentation(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "prices.json"
    options = ["--resolution", "32", "--seconds", "0.05", "--json", str(report)]
    assert main(["compare", str(folder), *options]) == 0
    rows = json.loads(report.read_text(encoding="utf-8"))["prices"]
    assert {row["by"] for row in rows} >= {
        *("torchvision, folder", "torchvision, .beton", "dali, folder", "ffcv, .beton"),
        "turbo, folder",
        *("torchvision on Pillow, in workers", "fastpipe engine fused, whole batch"),
    }
    assert {row["step"] for row in rows} >= {"RandAugment", "TrivialAugmentWide", "ColOut", "MixUp"}
    for row in rows:
        # A row without a price says why.
        assert (row["cpu_ms_per_image"] is None) == bool(row["reason"])
    priced = {(row["step"], row["by"]): row["cpu_ms_per_image"] for row in rows}
    turbo = priced["read + decode + crop + resize", "turbo, folder"]
    if importlib.util.find_spec("fastpipe._turbo") is not None:
        assert turbo is not None and turbo["median"] > 0.0
    fused = priced["flip + normalise", "fastpipe engine fused, whole batch"]
    assert fused is not None and fused["median"] > 0.0
    assert "CPU-ms per image at 32 pixels" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--resolution", "0"], ["--json", "no/such/x.json"]])
def test_a_price_list_refuses_wrong_numbers(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "./no/such/folder", *wrong]) == 2
    assert "fastpipe-profile: error: " in capsys.readouterr().err


def test_a_paced_consumer_is_never_faster_than_its_rate() -> None:
    step, images = Paced(400.0), torch.zeros(4, 1)
    before_s = time.perf_counter()
    for _ in range(20):
        step(images, images)
    assert time.perf_counter() - before_s >= 0.95 * 80 / 400


def test_a_late_batch_is_not_made_up_for() -> None:
    step, images = Paced(100.0), torch.zeros(5, 1)
    step(images, images)
    time.sleep(0.1)
    before_s = time.perf_counter()
    step(images, images)
    assert time.perf_counter() - before_s >= 0.045


def level(id: Id, rate: float) -> Level:
    return Level(id=id, timing=summarize([Repeat(images=100, wall_s=100 / rate, cpu_s=0.0)] * 3))


def test_stalls_are_differences_of_seconds_per_epoch() -> None:
    found = stalls(
        [level(names.MODEL_ALONE, 1000.0), level(names.WITH_DECODE, 500.0), level(names.WARM, 400.0)], 2000
    )
    assert [stall.name for stall in found] == ["+ decode", "warm"]
    assert [stall.seconds.median for stall in found] == pytest.approx([2.0, 1.0])
    assert [stall.share for stall in found] == pytest.approx([0.4, 0.2])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity can be set on Linux only")
def test_affinity_is_what_counts_as_cpus() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from fastpipe.profiling import Options, make_workload\n"
        "from fastpipe.profiling.host.summary import describe_host\n"
        "print(describe_host()['cpus_usable'] <= 1, make_workload(Options(data='demo')).workers)\n"
    )
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    assert found.stdout.split() == ["True", "1"], found.stderr
