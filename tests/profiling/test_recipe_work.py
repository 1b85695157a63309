"""A recipe's augmentations are part of what is profiled, and details that cannot be timed say why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import transforms as T

from fastpipe.profiling import Options, make_workload, names
from fastpipe.profiling.cli import main
from fastpipe.profiling.conclude.predict import without_policy
from fastpipe.profiling.conclude.verdict import StageCost
from fastpipe.profiling.measure.crop_decode import crop_decoding
from fastpipe.profiling.measure.handover import collate, handovers
from fastpipe.profiling.measure.inputs import fetch
from fastpipe.profiling.measure.workload import torch_transform, transform_of
from fastpipe.transforms import ColOut, MixUp, RandAugment, RandomErasing

SMALL = ["--resolution", "40", "--batch-size", "8", "--workers", "1", "--quick", "--seconds-per-stage", "0.1"]


def test_hot_profiles_its_augmentations(
    folder: Path,
    tmp_path: Path,
    plant_model: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("jsonargparse", reason="reading a recipe needs the train extra")
    plant_model(0.0)
    report = tmp_path / "profile.json"
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))  # of what --verify remembers
    question = ["--what-if", "cpus=8 randaugment=host", "--verify"]
    assert main([str(folder), *SMALL, "--recipe", "hot", *question, "--json", str(report)]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    work = found["workload"]
    assert [text.split("(")[0] for text in work["augment"]] == ["RandAugment", "ColOut", "MixUp"]
    assert work["model_side"] == 38, "ColOut leaves int(0.95 * 40) pixels"
    (stage,) = (row for row in found["stages"] if row["name"] == "device stage")
    assert stage["what"] == "flip, RandAugment, ColOut, cast, normalise, MixUp"
    plain = next(row for row in found["details"] if row["name"] == "device stage, plain")
    # All three together cost several times the plain pass, however busy the machine is.
    assert stage["cpu_ms_per_image"]["median"] > plain["cpu_ms_per_image"]["median"]
    (torchs,) = (row for row in found["together"] if row["name"] == "torch DataLoader")
    assert torchs["what"] == "torchvision's RandAugment; no ColOut, MixUp"
    # The loader as it is has RandAugment on the device already: it is not added a second time.
    assert "device augmentation" in {row["fix"] for row in found["verified"]}
    assert "collate" in {row["name"] for row in found["details"]}
    missing = {row["name"]: row["why"] for row in found["not_measured"]}
    assert missing["decode of the crop"] == "left out by --quick"
    if not torch.cuda.is_available():
        assert missing["pin"] == missing["host to device"] == "no GPU"
        assert "not measured" in capsys.readouterr().out


def test_a_recipe_without_augmentations_has_none(folder: Path) -> None:
    pytest.importorskip("jsonargparse", reason="reading a recipe needs the train extra")
    assert make_workload(Options(data=str(folder), recipe="mild")).augment == ()


def test_torchs_pipeline_has_what_torchvision_has() -> None:
    transform, _ = transform_of(32)
    specs = (
        RandAugment(depth=2, severity=9.0),
        ColOut(p_row=0.1, p_col=0.1),
        RandomErasing(p=0.3),
        MixUp(0.2),
    )
    found, words = torch_transform(transform, specs)
    names = [type(step).__name__ for step in found.transforms]
    assert names == [
        *("RandomResizedCrop", "RandomHorizontalFlip", "RandAugment", "ToTensor", "Normalize"),
        "RandomErasing",
    ]
    assert found.transforms[2].num_ops == 2 and isinstance(found.transforms[2], T.RandAugment)
    assert words == "torchvision's RandAugment, RandomErasing; no ColOut, MixUp"
    assert torch_transform(transform, ()) == (transform, "the same work")


def test_randaugment_is_taken_out_of_the_device_stage_once() -> None:
    costs = (
        StageCost(id=names.DECODE, lane="worker", wall_ms=2.0, cpu_ms=2.0),
        StageCost(id=names.DEVICE, lane="main", wall_ms=0.5, cpu_ms=0.5),
    )
    read, device = without_policy(costs, 0.2)
    assert read == costs[0]
    assert (device.wall_ms, device.cpu_ms) == pytest.approx((0.3, 0.3))
    on_gpu = (StageCost(id=names.DEVICE, lane="main", wall_ms=0.5, cpu_ms=0.01),)
    assert without_policy(on_gpu, 0.2)[0].wall_ms == 0.5, "a GPU's time is not the CPU's"


def test_collate_and_the_way_to_a_device(folder: Path) -> None:
    _, plan = transform_of(16)
    inputs = fetch(str(folder), plan, seconds=0.1, quick=True)
    assert collate(inputs, 5).unit() == 5
    stages, missing = handovers(inputs, 5, torch.device("cpu"))
    assert stages == [] and missing == ((names.PIN, "no GPU"), (names.TO_DEVICE, "no GPU"))


def test_the_crop_alone_is_decoded(folder: Path) -> None:
    pytest.importorskip("nvidia.dali", reason="only DALI decodes a box alone")
    _, plan = transform_of(16)
    inputs = fetch(str(folder), plan, seconds=0.1, quick=True)
    stage, why = crop_decoding(inputs, plan)
    assert stage is not None, why
    done = [stage.unit() for _ in range(4)]
    assert sum(done[:3]) == len(inputs.samples) == 40 and done[3] == done[0]


def test_without_dali_the_crop_is_not_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    _, plan = transform_of(16)
    stage, why = crop_decoding(fetch(str(folder), plan, seconds=0.1, quick=True), plan)
    assert stage is None and "needs DALI" in why and "pip install nvidia-dali-cuda130" in why
