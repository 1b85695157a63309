"""fastpipe's own loader under `run`: the same script before and after the change of its import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastpipe.backends import registry
from fastpipe.storage import write_beton
from fastpipe.system.machine import this_machine

TORCH = "from torch.utils.data import DataLoader"
OURS = "from fastpipe import DataLoader"
SCRIPT = """
from torchvision import transforms
from torchvision.datasets import ImageFolder
{loader}

transform = transforms.Compose(
    [transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)
train = DataLoader(ImageFolder({folder!r}, transform), 6, shuffle=True, num_workers={workers}, {more})
count = 0
for epoch in range(3):
    for images, labels in train:
        count += len(images)
        time.sleep(0.002)
print("images", count)
"""


def script(folder: Path, loader: str, workers: int = 0, more: str = "") -> str:
    return SCRIPT.format(folder=str(folder), loader=loader, workers=workers, more=more)


def names(loader: dict[str, Any]) -> set[str]:
    return {stage["name"] for stage in loader["stages"]}


@pytest.mark.parametrize(("workers", "more"), [(0, ""), (1, ""), (1, "persistent_workers=True, ")])
def test_the_same_batches_are_counted_before_and_after_the_import_changes(
    observe: Any, folder: Path, workers: int, more: str
) -> None:
    seen = {}
    for loader in (TORCH, OURS):
        ran = observe(script(folder, loader, workers, more), "--warmup", "0", "--steps", "21")
        assert (ran.status, ran.out) == (0, "images 120\n"), ran.err
        (seen[loader],) = ran.report["loaders"]
    before, after = seen[TORCH], seen[OURS]
    alike = ("steps", "batch_size", "num_workers", "epochs", "role", "name", "persistent_workers")
    assert [after[key] for key in alike] == [before[key] for key in alike]
    assert (before["steps"], before["epochs"]) == (21, 3)
    for one in seen.values():
        # 40 images: six whole batches, of which the first is no steady step, and one of 4.
        assert one["images_per_batch"] == pytest.approx(34 / 6)
        step_s = one["step_ms"]["total"] / 1000
        assert one["images_per_s"] == pytest.approx(one["images_per_batch"] / step_s)
    assert (before["kind"], before["backend"]) == ("DataLoader over ImageFolder", None)
    assert (after["kind"], after["backend"]) == ("fastpipe.DataLoader over ImageFolder", "torchvision")
    expected = {"read", "decode", "crop+resize", "batch assembly", "device stage"}
    assert names(after) == expected | ({"pickle"} if workers else set())


def test_what_is_said_of_our_loader_is_true(observe: Any, folder: Path) -> None:
    ran = observe(script(folder, OURS, 1))
    assert ran.report["lift"]["in_use"] and ran.report["lift"]["lifted"]
    assert "served by" not in ran.err and "would run" not in ran.err and "would go" not in ran.err
    said = ran.report["verdict"]["text"]
    assert (
        "fastpipe.DataLoader serves it with its backend torchvision; RandomHorizontalFlip, ToTensor" in said
    )
    where = {stage["name"]: stage["where"] for stage in ran.report["loaders"][0]["stages"]}
    assert (where["device stage"], where["decode"]) == ("device thread", "worker")


def test_our_loader_that_lifts_nothing_says_so(observe: Any, folder: Path) -> None:
    source = f"""
{OURS}
for batch in DataLoader(Numbers(40), 4, shuffle=True, seed=3, num_workers=1): pass
"""
    ran = observe(source, "--warmup", "0", "--steps", "10")
    (loader,) = ran.report["loaders"]
    assert (loader["kind"], loader["images_per_batch"]) == ("fastpipe.DataLoader over Numbers", 4)
    assert {"dataset", "collate", "pickle"} == names(loader)
    assert "fastpipe.DataLoader runs this data set like torch" in ran.report["verdict"]["text"]


def test_a_restart_within_the_epoch_is_the_same_loader(observe: Any, folder: Path) -> None:
    source = script(folder, OURS, 1).replace(
        "        time.sleep(0.002)", "        if count == 12: train.set_resolution(48)"
    )
    ran = observe(source, "--warmup", "0", "--steps", "21")
    assert (ran.status, ran.out) == (0, "images 120\n"), ran.err
    assert [loader["steps"] for loader in ran.report["loaders"]] == [21]


def test_stop_ends_a_script_that_reads_our_loader(observe: Any, folder: Path) -> None:
    ran = observe(script(folder, OURS, 1), "--stop")
    assert (ran.status, ran.out) == (0, "")
    assert "--stop has no effect" not in ran.err and ran.report["window"]["steps"] == 6


def test_hooks_are_out_after_the_window(observe: Any, folder: Path) -> None:
    source = (
        script(folder, OURS)
        + """
import fastpipe
from fastpipe.batch import worker
from fastpipe.device import DeviceStage
for function in (fastpipe.DataLoader.__iter__, type(iter(train)).__next__, DeviceStage.__call__,
                 worker.crop_and_resize, torch.utils.data.DataLoader.__init__):
    assert "profiling" not in function.__code__.co_filename, function
"""
    )
    assert observe(source).status == 0


@pytest.mark.turbo_built
def test_turbos_native_calls_are_seen_as_stages(run_whole: Any, folder: Path, tmp_path: Path) -> None:
    source = (
        script(folder, OURS).partition("train = ")[0]
        + """
for workers in (0, 2):
    loader = DataLoader(ImageFolder(sys.argv[1], transform), 6, num_workers=workers, backend="turbo")
    for batch in loader: pass
"""
    )
    options = ("--warmup", "0", "--steps", "14", "--json", "run.json")
    ran = run_whole(source.replace("sys.argv[1]", repr(str(folder))), *options)
    assert ran.returncode == 0, ran.stderr
    report = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert [loader["steps"] for loader in report["loaders"]] == [7] * 2
    for loader, workers in zip(report["loaders"], [0, 2], strict=True):
        assert (loader["backend"], loader["num_workers"]) == ("turbo", workers)
        assert loader["images_per_batch"] == pytest.approx(34 / 6) and loader["batches_timed"] > 0
        stages = {stage["name"]: stage for stage in loader["stages"]}
        assert {"read", "decode", "crop+resize", "batch assembly", "device stage"} <= set(stages)
        for name in ("read", "decode", "crop+resize"):
            assert stages[name]["where"] == ("thread" if workers else "main")
            assert stages[name]["cpu_ms_per_image"] > 0


@pytest.mark.ffcv
@pytest.mark.dali
def test_threads_that_decode_are_seen_with_their_stages(run_whole: Any, folder: Path, tmp_path: Path) -> None:
    missing = [name for name in ("ffcv", "dali") if not registry.load(name).probe(this_machine()).ok]
    if missing:
        pytest.skip(f"{missing} cannot run here")
    write_beton(folder, tmp_path / "x.beton", num_workers=0)
    loaders = "".join(
        f"""
source = {data}
for workers in (0, 2):
    loader = DataLoader(source, 6, shuffle=True, num_workers=workers, {more})
    for batch in loader: pass
"""
        for data, more in (
            ("ImageFolder(sys.argv[1], transform)", 'backend="dali"'),
            ('"x.beton"', 'backend="ffcv", numerics="exact", transform=transform'),
            ('"x.beton"', 'backend="ffcv", numerics="fast", transform=transform'),
        )
    )
    source = script(folder, OURS).partition("train = ")[0] + loaders
    options = ("--warmup", "0", "--steps", "42", "--json", "run.json")
    ran = run_whole(source.replace("sys.argv[1]", repr(str(folder))), *options)
    assert ran.returncode == 0, ran.stderr
    report = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert [loader["steps"] for loader in report["loaders"]] == [7] * 6
    for loader, backend, workers in zip(
        report["loaders"], ["dali", "dali", *["ffcv"] * 4], [0, 2] * 3, strict=True
    ):
        assert (loader["backend"], loader["num_workers"]) == (backend, workers)
        assert loader["images_per_batch"] == pytest.approx(34 / 6) and loader["batches_timed"] > 0
        stages = {stage["name"]: stage for stage in loader["stages"]}
        assert {"decode", "crop+resize", "batch assembly", "device stage"} <= set(stages)
        assert stages["decode"]["where"] == ("thread" if workers else "main")
        assert stages["decode"]["cpu_ms_per_image"] > 0
        assert "read" in stages or backend == "ffcv"
        assert loader["start_method"] == ""


@pytest.mark.parametrize("more", ["num_workers=1", 'device="cpu"'])
def test_our_loader_that_runs_as_torch_does_is_counted_once(observe: Any, more: str) -> None:
    source = f"""
{OURS}
loader = DataLoader(Numbers(40), 4, {more})
for epoch in range(2):
    for batch in loader: pass
"""
    ran = observe(source, "--warmup", "0", "--steps", "20")
    (loader,) = ran.report["loaders"]
    assert (loader["steps"], loader["epochs"], loader["images_per_batch"]) == (20, 2, 4)
    assert (loader["kind"], loader["backend"]) == ("fastpipe.DataLoader over Numbers", None)
