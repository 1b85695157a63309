"""The parts: records, patches, hooks in a compiled function, advice."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe.profiling.observe.calls import timed
from fastpipe.profiling.observe.discover import transforms_of
from fastpipe.profiling.observe.patches import Patches
from fastpipe.profiling.observe.recorder import Control, Recorder
from fastpipe.profiling.observe.records import Batch, StageCost, Writer, read_folder, read_log
from fastpipe.profiling.observe.transfer import TransferHooks
from fastpipe.transforms import flatten


def written(folder: Path) -> bytes:
    writer = Writer(folder, loader=3, worker=1)
    cost = StageCost(calls=2, wall=70, cpu=60, off=5)
    batch = Batch(loader=3, start=10, wall=100, cpu=90, hooks=4, samples=2, stages={"décode": cost})
    writer.batch(batch, [("décode", 11, 35)])
    writer.pickle(200, 30, 20)
    (path,) = folder.glob("*.rec")
    return path.read_bytes()


def test_records_come_back(tmp_path: Path) -> None:
    written(tmp_path)
    (log,) = read_folder(tmp_path)
    assert (log.loader, log.worker, log.torn) == (3, 1, False)
    assert log.batches[0].stages["décode"] == StageCost(calls=2, wall=70, cpu=60, off=5)
    assert (log.spans[0].name, log.pickles[0].cpu) == ("décode", 20)


def test_a_record_cut_off_at_any_byte_is_left_out(tmp_path: Path) -> None:
    data = written(tmp_path)
    whole = 0
    for length in range(len(data)):
        log = read_log(data[:length])
        if log is None:
            continue
        num = len(log.batches) + len(log.pickles) + len(log.spans)
        assert whole <= num <= 2, "only whole records, and never fewer of a longer file"
        whole = num
    assert whole == 2


def test_foreign_bytes_are_no_records() -> None:
    assert read_log(b"x" * 200) is None


def test_patches_leave_inherited_attributes_inherited() -> None:
    class Base:
        def run(self) -> int:
            return 1

    class Child(Base):
        pass

    patches = Patches()
    assert patches.set(Child, "run", lambda self: 2)
    assert Child().run() == 2
    patches.undo()
    assert "run" not in vars(Child)
    assert not patches.set(int, "run", None), "classes written in C cannot be changed"


def test_own_time_leaves_out_what_is_inside(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Control(tmp_path), loader=0, worker=-1, spans=True)
    inner = timed("inner", lambda: sum(range(200_000)))
    outer = timed("outer", lambda: inner() + inner())

    recorder.observe(outer, loader=0, root="dataset", count=lambda data: 1)
    (log,) = read_folder(tmp_path)
    stages = log.batches[0].stages
    assert {name: cost.calls for name, cost in stages.items()} == {"dataset": 1, "outer": 1, "inner": 2}
    assert stages["outer"].cpu < 0.2 * stages["inner"].cpu
    assert sum(cost.wall for cost in stages.values()) <= log.batches[0].wall


def test_hooks_are_silent_in_other_threads_and_outside_batches() -> None:
    assert timed("x", lambda: threading.get_ident())() == threading.get_ident()


def test_transforms_are_found_in_nested_data_sets(tmp_path: Path) -> None:
    class Pair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = transforms.RandomHorizontalFlip()

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").touch()
    inner = ImageFolder(str(tmp_path), transforms.Compose([Pair(), transforms.ToTensor()]))
    whole = torch.utils.data.ConcatDataset([torch.utils.data.Subset(inner, [0])])
    found = {type(transform).__name__ for transform in transforms_of(whole)}
    assert {"Compose", "Pair", "RandomHorizontalFlip", "ToTensor"} <= found


def test_copies_to_a_device_are_timed_and_others_are_not() -> None:
    hooks = TransferHooks()
    hooks.install(anyway=True)
    try:
        assert torch.zeros(3).to(torch.float64).dtype == torch.float64
        assert hooks.take() == 0
        torch.zeros(3).to("meta")
        assert hooks.take() > 0
        assert hooks.take() == 0
    finally:
        hooks.undo()
    assert "to" not in vars(torch.Tensor)


def test_a_compiled_function_sees_torchs_own_method() -> None:
    hooks = TransferHooks()
    hooks.install(anyway=True)
    try:
        compiled: Any = torch.compile(lambda x: x.to(torch.float64) + 1, fullgraph=True, backend="eager")
        assert compiled(torch.zeros(2)).dtype == torch.float64
    finally:
        hooks.undo()


def test_pinning_counts_the_outermost_call() -> None:
    hooks = TransferHooks()
    calls = []

    def original(data: Any, device: Any) -> Any:
        calls.append(data)
        return [pin(part, device) for part in data] if isinstance(data, list) else data

    pin = hooks.pinning(original)
    assert pin([1, [2, 3]]) == [1, [2, 3]]
    assert (len(hooks.pin_ns), len(calls)) == (1, 5)
    hooks.undo()
    pin([1])
    assert len(hooks.pin_ns) == 1


def test_hooked_class_is_restored(tmp_path: Path) -> None:
    from fastpipe.profiling.observe.stages import StageHooks

    recorder = Recorder(tmp_path, Control(tmp_path), loader=0, worker=-1, spans=False)
    hooks = StageHooks(recorder)
    before = torch.utils.data._utils.fetch._MapDatasetFetcher.fetch
    hooks.undo()
    assert torch.utils.data._utils.fetch._MapDatasetFetcher.fetch is not before


@pytest.mark.parametrize("over", [False, True])
def test_control_reaches_other_openers(tmp_path: Path, over: bool) -> None:
    control, other = Control(tmp_path), Control(tmp_path)
    if over:
        control.finish()
    assert other.over is over


def test_an_observed_preset_is_lifted_as_ever() -> None:
    """Observing must not change what fastpipe's own loader does with a script's transforms."""

    class Preset:
        def __init__(self) -> None:
            self.transforms = transforms.Compose([transforms.CenterCrop(8), transforms.ToTensor()])

        def __call__(self, img: Any) -> Any:
            return self.transforms(img)

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transforms = torch.nn.Sequential(transforms.CenterCrop(8), torch.nn.Identity())

        def forward(self, img: Any) -> Any:
            return self.transforms(img)

    for cls in (Preset, Module):
        call: Any = cls.__call__
        patches = Patches()
        assert len(flatten(cls())) == 2
        patches.set(cls, "__call__", timed(f"transform:{cls.__name__}", call))
        assert len(flatten(cls())) == 2
        patches.undo()
