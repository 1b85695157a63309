"""A small data set, and models that cost next to nothing or a planted time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fastpipe.profiling.measure import model as model_module


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def make_folder(root: Path, per_class: int, side: int = 64) -> Path:
    rng = np.random.default_rng(0)
    for name in ("ash", "beech"):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            noise = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((side, side)).save(root / name / f"{number:03}.jpg")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 JPEGs of 64 x 64 pixels in 2 classes."""
    return make_folder(tmp_path_factory.mktemp("profiled") / "data", 20)


class Small(nn.Module):
    """A linear model of the mean colour that burns `seconds` of CPU per image."""

    def __init__(self, num_classes: int, seconds: float) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.seconds = seconds

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        burn(self.seconds * len(images))
        result: torch.Tensor = self.head(images.mean((2, 3)))
        return result


@pytest.fixture(name="burn")
def burn_fixture() -> Callable[[float], None]:
    """Spends CPU-seconds of the calling thread, however busy the machine and the other threads are."""
    return burn


@pytest.fixture
def plant_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Replaces whatever model was asked for by one of a known cost per image."""

    def plant(seconds: float) -> None:
        def build(workload: Any, num_classes: int) -> nn.Module:
            return Small(num_classes, seconds)

        monkeypatch.setattr(model_module, "build_model", build)

    # Threads that wait for each other spin, and their CPU time is not planted.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield plant
    torch.set_num_threads(threads)
