"""One device stage for the life of a loader: shared by its iterators, left behind by pickles and forks."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms

from fastpipe import DataLoader, augment
from fastpipe.device import transfer
from fastpipe.device.stage import DeviceStage
from fastpipe.device.stages import Stages
from fastpipe.device.transfer import Transfer
from fastpipe.transforms import HorizontalFlip, Normalize, RandAugment, ToFloat
from fastpipe.types import Plan

CPU = torch.device("cpu")
STEPS = (HorizontalFlip(p=0.5), RandAugment(), ToFloat(), Normalize(mean=(0.5,) * 3, std=(0.5,) * 3))


def plan(*steps: Any) -> Plan:
    return Plan(decode=None, host=(), device=steps or STEPS, notes=())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(6):
            pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[DeviceStage]:
    """Every device stage that is made."""
    made: list[DeviceStage] = []
    init = DeviceStage.__init__

    def counted(self: DeviceStage, *args: Any, **options: Any) -> None:
        made.append(self)
        init(self, *args, **options)

    monkeypatch.setattr(DeviceStage, "__init__", counted)
    return made


def loader(folder: Path, **options: Any) -> DataLoader:
    steps = [transforms.RandomResizedCrop(24), transforms.RandomHorizontalFlip(), transforms.RandAugment()]
    tail = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    data = datasets.ImageFolder(str(folder), transforms.Compose([*steps, *tail]))
    settings = {"batch_size": 4, "device": "cpu", "seed": 3, "backend": "torchvision", **options}
    return DataLoader(data, **settings)


def test_epochs_of_a_loader_have_one_stage(folder: Path, built: list[DeviceStage]) -> None:
    batches = loader(folder)
    for epoch in range(3):
        batches.set_epoch(epoch)
        assert len(list(batches)) == 3
    assert len(built) == 1


def test_another_setting_has_a_stage_of_its_own(built: list[DeviceStage]) -> None:
    stages = Stages()
    first = stages.get(plan(), device=CPU)
    assert stages.get(plan(*STEPS), device=CPU) is first, "an equal plan"
    layout = stages.get(plan(), device=CPU, memory_format=torch.channels_last)
    assert layout.output.memory_format == torch.channels_last and layout is not first
    assert stages.get(plan(), device=CPU) is first, "the one before is kept too"
    assert stages.get(plan(), device=CPU, dtype=torch.float16).output.dtype == torch.float16
    assert stages.get(plan(*STEPS[1:]), device=CPU).steps == STEPS[1:]
    assert len(built) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_two_live_iterators_share_a_stage_and_keep_their_batches(
    folder: Path, built: list[DeviceStage], workers: int
) -> None:
    settings = {"augment": [augment.MixUp(alpha=0.2)], "num_workers": workers}
    alone = loader(folder, **settings)
    first, second = ([list(batch) for batch in alone] for _ in range(2))  # two epochs
    built.clear()
    shared = loader(folder, **settings)
    held = [(list(one), list(other)) for one, other in zip(shared, shared, strict=True)]
    assert len(built) == 1 and len(held) == 3
    for together, apart in zip(held, zip(first, second, strict=True), strict=True):
        for batch, expected in zip(together, apart, strict=True):
            assert torch.equal(batch[0], expected[0]) and torch.equal(batch[1], expected[1])


@pytest.mark.parametrize("make", [copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))])
def test_a_copy_makes_its_own_stages(built: list[DeviceStage], make: Any) -> None:
    stages = Stages()
    first = stages.get(plan(), device=CPU)
    assert make(stages).get(plan(), device=CPU) is not first


class _Guard:
    """Stands for an event or a block of CUDA memory, whose end in a forked process is an error."""

    def __init__(self, path: Path) -> None:
        self.path, self.owner = path, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.owner:
            self.path.write_text("freed in the forked process")


def in_child(stages: Stages, path: Path) -> None:
    kept_at_first = len(stages._kept)
    stage = stages.get(plan(), device=CPU)
    del stages
    path.write_text(f"{kept_at_first} {type(stage).__name__}")


def test_a_fork_takes_no_stage_along_and_frees_nothing(tmp_path: Path) -> None:
    stages = Stages()
    stages.get(plan(), device=CPU).guard = _Guard(tmp_path / "freed")  # type: ignore[attr-defined]
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(stages, tmp_path / "said"))
    child.start()
    child.join(60)
    assert child.exitcode == 0 and (tmp_path / "said").read_text() == "0 DeviceStage"
    assert not (tmp_path / "freed").exists()
    assert len(stages._kept) == 1


def test_a_process_has_one_side_stream_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream for each epoch, or for each loader, would hold a batch's memory each in torch's allocator."""
    made: list[torch.device] = []

    def stream(device: torch.device) -> str:
        made.append(device)
        return f"stream on {device}"

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    transfer.side_stream.cache_clear()
    try:
        devices = [torch.device("cuda", number) for number in (0, 1, 0, 0)]
        streams = [Transfer(device).stream for device in devices]
    finally:
        transfer.side_stream.cache_clear()
    assert streams == [f"stream on {device}" for device in devices]
    assert made == devices[:2]


def test_a_default_device_of_the_script_changes_nothing(folder: Path) -> None:
    """`torch.set_default_device("cuda")` is for the script's tensors; ours say where they are."""
    from fastpipe.device.draws.draw import draw
    from fastpipe.types import HostBatch, Request

    ids = np.arange(6)
    request = Request(seed=1, epoch=0, batch=0, ids=ids, repeats=np.zeros_like(ids))
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 16, 20, 3), dtype=np.uint8))
    host = HostBatch(images=levels, labels=torch.arange(6), request=request)
    steps = (*STEPS, augment.ColOut(), augment.RandomErasing(p=1.0), augment.MixUp(alpha=0.3))

    def batches() -> list[torch.Tensor]:
        made = []
        for engine in ("fused", "torch"):
            stage = DeviceStage(plan(*steps), device=CPU, engine=engine, num_classes=6)
            stage.warm_up()
            made.append(stage(host).images)
        assert draw(steps, request, 16, 20).mix is not None
        return made

    expected = batches()
    torch.set_default_device("meta")
    try:
        found = batches()
    finally:
        torch.set_default_device(None)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
