"""backend="auto" by capability and measurement, with small backends made here; num_workers="auto"."""

import logging
import os
import random
import sys
import time
import types

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fastpipe import ArgumentError, BackendError, DataLoader
from fastpipe.backends import registry
from fastpipe.backends.base import Capabilities, Job
from fastpipe.backends.torchvision import TorchvisionBackend
from fastpipe.batch import WorkerOptions
from fastpipe.batch.mend import Policy
from fastpipe.choice import choose, probe
from fastpipe.choice.probe import cached_rates, measure
from fastpipe.system import machine
from fastpipe.types import Availability

TRAIN = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()])
VAL = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor()])
BOTH = ("folder", "beton")
POLICIES = ("raise", "skip", "replace")


class Fast(TorchvisionBackend):
    """Keeps every promise that torchvision keeps."""

    name = "fast"


class Area(TorchvisionBackend):
    """Approximates, so that it does not keep numerics="exact"."""

    name = "area"
    capabilities = Capabilities(
        storage=BOTH, numerics=("fast",), host_steps=False, on_error=POLICIES, fast_resize="area"
    )


class Absent(TorchvisionBackend):
    name = "absent"

    def probe(self, machine):
        return Availability(ok=False, reason="not installed", remedy="pip install absent")


class Dying(TorchvisionBackend):
    name = "dying"

    def build(self, job):
        random.random(), np.random.rand(), torch.rand(1)
        raise RuntimeError("no such symbol")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTPIPE_NO_PROBE", raising=False)
    monkeypatch.setattr(probe, "PROBE_IMAGES", 10)
    monkeypatch.setattr(probe, "SECONDS", 0.05)
    choose.forget_run()
    yield
    choose.forget_run()


@pytest.fixture
def listed(monkeypatch):
    """Lists backends of this file in the registry, after torchvision and in the place of all others."""
    kept = dict(registry.BACKENDS)
    for name in kept.keys() - {"torchvision"}:
        del registry.BACKENDS[name]
    module = types.ModuleType("backends_of_the_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def add(*kinds):
        for kind in kinds:
            setattr(module, kind.__name__, kind)
            registry.BACKENDS[kind.name] = f"{module.__name__}:{kind.__name__}"

    yield add
    registry.BACKENDS.clear()
    registry.BACKENDS.update(kept)  # in their order, which messages show


@pytest.fixture
def rates(monkeypatch):
    """Puts given rates in the place of a measurement and counts how often one is asked for."""
    asked = []

    def give(**images_per_second):
        def run(backends, job, *, resolution):
            asked.append(sorted(backends))
            known = {name: float(images_per_second[name]) for name in backends}
            return probe.Rates(images_per_cpu_second=known, failed={}, source="measured now")

        monkeypatch.setattr(probe, "measure", run)
        return asked

    return give


def _loader(photos, transform=TRAIN, **options):
    return DataLoader(photos, 8, transform=transform, **options)


def _chosen(loader):
    next(iter(loader))
    return loader.explain().choice


def test_the_fastest_is_taken_and_the_reason_told_once(photos, listed, rates, caplog):
    listed(Fast)
    asked = rates(torchvision=300, fast=500)
    loader = _loader(photos)
    assert "until the first epoch" in str(loader.explain())
    assert asked == [], "explain() starts nothing"
    with caplog.at_level(logging.INFO, "fastpipe"):
        choice = _chosen(loader)
        next(iter(loader))
    assert choice.backend == "fast"
    assert "500 images per CPU-second, measured" in choice.reason
    assert choice.rejected == {"torchvision": "300 images per CPU-second"}
    assert len([line for line in caplog.messages if line.startswith("backend fast:")]) == 1
    assert loader.state_dict()["chosen"] == "fast"
    assert loader.backend == "auto"


def test_a_small_lead_is_noise(photos, listed, rates):
    listed(Fast)
    rates(torchvision=300, fast=320)
    assert _chosen(_loader(photos)).backend == "torchvision"


def test_a_result_is_kept_for_the_machine_data_and_plan(photos, listed, rates):
    listed(Fast)
    asked = rates(torchvision=300, fast=500)
    assert _chosen(_loader(photos)).backend == "fast"
    rates(torchvision=500, fast=300)
    for _ in range(2):
        assert _chosen(_loader(photos)).backend == "fast", "the cache decides, not the moment"
    assert len(asked) == 1
    assert _chosen(_loader(photos, VAL)).backend == "torchvision", "another plan is measured anew"


def test_a_damaged_cache_file_is_measured_again(photos, listed, rates, tmp_path):
    listed(Fast)
    rates(torchvision=300, fast=500)
    assert _chosen(_loader(photos)).backend == "fast"
    (entry,) = (tmp_path / "cache" / "choices").glob("*.json")
    for text in ("", "[]", '{"images_per_cpu_second": 3}', entry.read_text().replace('"fast"', '"other"')):
        entry.write_text(text)
        rates(torchvision=500, fast=300)
        assert _chosen(_loader(photos)).backend == "torchvision"


@pytest.mark.parametrize("reason", ["FASTPIPE_NO_PROBE", "small", "cache"])
def test_without_a_measurement_the_first_is_taken_and_why(
    photos, listed, rates, reason, monkeypatch, tmp_path
):
    listed(Fast)
    asked = rates(torchvision=300, fast=500)
    words = {"small": "an epoch of 24 images", "cache": "cannot be written"}.get(reason, reason)
    if reason == "small":
        monkeypatch.setattr(probe, "PROBE_IMAGES", 25)
    elif reason == "cache":
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "choices").write_text("a file where the folder should be")
    else:
        monkeypatch.setenv("FASTPIPE_NO_PROBE", "1")
    choice = _chosen(_loader(photos))
    assert choice.backend == "torchvision"
    assert choice.reason.startswith("not measured: ") and words in choice.reason
    assert asked == []


def test_a_backend_that_does_not_keep_exact_pixels_is_left_out(photos, listed, rates):
    listed(Area, Absent)
    rates(torchvision=300, area=900)
    choice = _chosen(_loader(photos))
    assert choice.backend == "torchvision"
    assert choice.rejected["area"] == "does not keep numerics='exact'"
    assert choice.rejected["absent"] == "not installed; pip install absent"
    assert _chosen(_loader(photos, numerics="fast")).backend == "area"
    with pytest.raises(BackendError, match="pip install absent"):
        next(iter(_loader(photos, backend="absent")))


def test_training_and_validation_share_the_resize_kernel(photos, listed, rates):
    listed(Area)
    rates(torchvision=300, area=900)
    assert _chosen(_loader(photos, numerics="fast")).backend == "area"
    rates(torchvision=900, area=300)
    choice = _chosen(_loader(photos, VAL, numerics="fast"))
    assert choice.backend == "area"
    assert "resizes as this run's other loaders do" in choice.reason
    assert choice.rejected["torchvision"] == "resizes by pillow, this run's other loaders by area"


def test_a_resumed_run_keeps_its_backend(photos, listed, rates):
    listed(Fast)
    rates(torchvision=300, fast=500)
    loader = _loader(photos, seed=1)
    whole = [images for images, _ in loader]
    next(iter(loader))
    state = loader.state_dict()
    rates(torchvision=900, fast=1)
    choose.forget_run()
    resumed = _loader(photos, seed=1)
    resumed.load_state_dict(state)
    assert resumed.explain().choice.backend == "fast"
    rest = [images for images, _ in resumed]
    assert len(rest) == 2
    assert resumed.explain().choice.reason.startswith("the resumed run used it")
    other = _loader(photos, seed=1, backend="torchvision")
    other.load_state_dict({**state, "epoch": 0})
    for (images, _), expected in zip(other, whole[1:], strict=True):
        assert torch.equal(images, expected)


def _job(photos):
    dataset = ImageFolder(str(photos), TRAIN)
    loader = DataLoader(dataset, 8)
    return Job(
        dataset=dataset,
        plan=loader.planned().plan,
        workers=WorkerOptions(),
        reseed=False,
        policy=Policy(on_error="skip"),
    )


def test_measuring_draws_from_no_global_generator(photos):
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    backends = {"torchvision": TorchvisionBackend(), "dying": Dying()}  # which draws from all three
    found = measure(backends, _job(photos), resolution=lambda e, b: None, seconds=0)
    assert found.images_per_cpu_second["torchvision"] > 10
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_backend_that_dies_in_the_probe_is_named_and_left_out(photos, caplog):
    backends = {"torchvision": TorchvisionBackend(), "dying": Dying()}
    found = measure(backends, _job(photos), resolution=lambda e, b: None, seconds=0)
    assert list(found.images_per_cpu_second) == ["torchvision"]
    assert found.failed == {"dying": "failed in the probe: RuntimeError: no such symbol"}
    assert "no such symbol" in caplog.text


def test_a_probe_keeps_its_time_box(photos):
    started = time.monotonic()
    measure({"a": TorchvisionBackend()}, _job(photos), resolution=lambda e, b: None, seconds=0.3)
    assert time.monotonic() - started < 30  # 4 slices at least on a loaded machine


def test_processes_that_come_at_once_measure_once(tmp_path):
    """Ranks of one machine: the others wait for the first and read what it found."""
    children = []
    for rank in range(3):
        child = os.fork()
        if child == 0:
            status = 1
            try:

                def run(rank=rank):
                    with open(tmp_path / "runs", "a") as file:
                        file.write("x")
                    time.sleep(0.3)
                    rates = {"a": float(rank), "b": 0.5}
                    return probe.Rates(images_per_cpu_second=rates, failed={}, source="")

                found = cached_rates("key", ["a", "b"], run)
                (tmp_path / f"found-{rank}").write_text(str(found.images_per_cpu_second))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert (tmp_path / "runs").read_text() == "x"
    assert len({(tmp_path / f"found-{rank}").read_text() for rank in range(3)}) == 1


@pytest.mark.parametrize(
    "name",
    [
        "nvidia-dali-cuda130",
        "nvidia_dali_cuda120",
        "nvidia-nvimgcodec-cu13",
        "ffcv",
        "Pillow",
        "opencv-python",
    ],
)
def test_an_upgrade_of_what_changes_a_rate_is_measured_anew(tmp_path, monkeypatch, name):
    def key(version):
        site = tmp_path / (version or "none")
        site.mkdir()
        if version:
            info = site / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.setattr(sys, "path", [str(site), *path])
        probe._versions.cache_clear()
        return probe.probe_key(data="these")

    path = [*sys.path]
    keys = [key(version) for version in ("", "91.1", "91.2")]
    probe._versions.cache_clear()
    assert len(set(keys)) == 3


def test_num_workers_auto_is_an_int_to_others_and_auto_when_rebuilt(photos, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))  # torch warns above this
    monkeypatch.setattr(machine, "usable_cpus", lambda: 6.5)
    loader = _loader(photos, num_workers="auto", persistent_workers=True, prefetch_factor=3)
    assert isinstance(loader.num_workers, int)
    assert loader.num_workers == 6 and loader.num_workers == "auto"
    assert torch.utils.data.DataLoader(loader.dataset, num_workers=loader.num_workers).num_workers == 6
    monkeypatch.setattr(machine, "usable_cpus", lambda: 2.0)
    rebuilt = DataLoader(loader.dataset, 8, num_workers=loader.num_workers)
    assert rebuilt.num_workers == 2 and rebuilt.num_workers == "auto"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert DataLoader(loader.dataset, num_workers="auto").num_workers == 1
    assert _loader(photos, num_workers=3).num_workers == 3
    assert "auto" in str(rebuilt.explain())
    with pytest.raises(ArgumentError, match="num_workers must be an int >= 0 or 'auto'"):
        _loader(photos, num_workers="Auto")


def test_num_workers_auto_of_an_iterable_is_none_since_each_would_yield_all():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(4))

    assert [int(item) for item in DataLoader(Stream(), None, num_workers="auto")] == [0, 1, 2, 3]


def test_shares_of_the_cpus():
    assert [machine.worker_count(*case) for case in [(0.5, 1), (8, 1), (8, 4), (3.9, 2), (96, 1)]] == [
        1,
        8,
        2,
        1,
        16,
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_real_probe_leaves_order_and_pixels_without_seed_as_they_were(photos, listed, monkeypatch, workers):
    listed(Fast)

    def epoch():
        torch.manual_seed(4)
        loader = _loader(photos, shuffle=True, num_workers=workers)
        return loader, list(loader)

    monkeypatch.setenv("FASTPIPE_NO_PROBE", "1")
    _, expected = epoch()
    monkeypatch.delenv("FASTPIPE_NO_PROBE")
    loader, batches = epoch()
    assert "images per CPU-second, measured" in loader.explain().choice.reason
    for (images, labels), (others, same) in zip(batches, expected, strict=True):
        assert labels.tolist() == same.tolist() and torch.equal(images, others)
