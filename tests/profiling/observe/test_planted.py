"""A planted cost is measured where it was planted, and the verdict names it."""

from __future__ import annotations

from typing import Any

import pytest

PLANTED_MS = 8.0

# Each place is overwritten in one case: what it spends is CPU time of its own thread, or a sleep.
SOURCE = """
from PIL import Image, ImageFile
from torchvision import transforms
import io, functools

spend = {spend}
def planted(place):
    if place == {place!r}:
        spend({seconds})

class Slow:
    def __call__(self, image):
        planted("transform")
        return image

class Inner(torch.nn.Module):
    def forward(self, image):
        planted("nested")
        return image

real = ImageFile.ImageFile.load
def load(self):
    if self.tile:
        planted("decode")
    return real(self)
ImageFile.ImageFile.load = load

class Photos(Dataset):
    def __init__(self):
        buffer = io.BytesIO()
        Image.effect_noise((48, 48), 50).convert("RGB").save(buffer, "JPEG")
        self.data = buffer.getvalue()
        self.transform = transforms.Compose(
            [Slow(), transforms.RandomApply([Inner()], p=1.0), transforms.ToTensor()]
        )
    def __len__(self):
        return 4000
    def __getitem__(self, index):
        planted("dataset")
        return self.transform(Image.open(io.BytesIO(self.data)).convert("RGB")), index

def collate(samples):
    for _ in samples:
        planted("collate")
    return torch.utils.data.default_collate(samples)

loader = DataLoader(Photos(), 4, num_workers={workers}, collate_fn=collate)
for step, (images, labels) in enumerate(loader):
    if {place!r} == "model":
        spend(100 * {seconds})
    if step == 9:
        break
"""


def planted(observe: Any, place: str, *options: str, spend: str = "burn", workers: int = 1) -> Any:
    source = SOURCE.format(spend=spend, place=place, seconds=PLANTED_MS / 1000, workers=workers)
    ran = observe(source, "--stop", *options)
    assert ran.status == 0, ran.err
    return ran


NAMES = {
    "dataset": "dataset",
    "decode": "decode",
    "transform": "transform:Slow",
    "nested": "transform:Inner",
    "collate": "collate",
}


@pytest.mark.parametrize(("place", "name"), NAMES.items())
def test_burnt_cpu_is_measured_and_named(observe: Any, place: str, name: str) -> None:
    report = planted(observe, place).report
    (loader,) = report["loaders"]
    (stage,) = (stage for stage in loader["stages"] if stage["name"] == name)
    assert stage["cpu_ms_per_image"] == pytest.approx(PLANTED_MS, rel=0.3)
    assert report["verdict"]["stage"] == name
    assert report["verdict"]["waiting"] is True
    assert report["verdict"]["if_free_images_per_s"] > 1.5 * report["verdict"]["images_per_s"]


def test_sleep_counts_though_it_costs_no_cpu(observe: Any) -> None:
    report = planted(observe, "transform", spend="time.sleep").report
    (loader,) = report["loaders"]
    (stage,) = (stage for stage in loader["stages"] if stage["name"] == "transform:Slow")
    assert stage["cpu_ms_per_image"] < 0.3 * PLANTED_MS
    assert stage["cost_ms_per_image"] >= PLANTED_MS
    assert report["verdict"]["stage"] == "transform:Slow"


def test_without_workers(observe: Any) -> None:
    report = planted(observe, "decode", workers=0).report
    assert report["verdict"]["stage"] == "decode"
    assert report["loaders"][0]["stages"][0]["where"] == "main"


def test_slow_model(observe: Any) -> None:
    # A sleep leaves the CPU to the worker, as a GPU would. It is long: fetching a batch that is ready takes
    # up to 25 ms where other programs have the CPUs, and 5 % of a step count as waiting.
    ran = planted(observe, "model", "--steps", "3", spend="time.sleep")
    assert ran.report["verdict"]["waiting"] is False
    assert "does not wait for data" in ran.err
    assert ran.report["loaders"][0]["step_ms"]["compute"] >= 100 * PLANTED_MS
