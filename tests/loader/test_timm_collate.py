"""timm's own collate function is named, and the advice beside it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from fastpipe import DataLoader

data = pytest.importorskip("timm.data", reason="timm is not installed")


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "a").mkdir()
    for number in range(4):
        Image.new("RGB", (40, 40), (number * 60, 9, 200)).save(tmp_path / "a" / f"{number}.jpg")
    return str(tmp_path)


def test_fast_collate_is_named(root: str) -> None:
    transform = data.create_transform(16, is_training=True, use_prefetcher=True)
    loader = data.create_loader(
        data.create_dataset("", root), 16, 2, is_training=True, device=torch.device("cpu"), num_workers=0
    )
    collate = loader.loader.collate_fn
    told = DataLoader(ImageFolder(root, transform), 2, collate_fn=collate).explain()
    assert not told.lifted
    assert "timm's fast_collate" in told.reason and "PrefetchLoader" in told.reason

    def fast_collate(samples: Any) -> Any:
        return collate(samples)

    fast_collate.__module__ = "timm.data.loader"
    told = DataLoader(ImageFolder(root, transform), 2, collate_fn=fast_collate).explain()
    assert told.reason.startswith("collate_fn is the script's own"), "a name alone proves nothing"


def test_what_the_advice_says_is_lifted(root: str) -> None:
    transform = data.create_transform(
        16, is_training=True, auto_augment="rand-m9-mstd0.5", interpolation="bilinear"
    )
    loader = DataLoader(ImageFolder(root, transform), 4, backend="torchvision")
    told = loader.explain()
    assert told.lifted
    assert {note.where for note in told.steps} == {"decoder", "device"}
    (images, labels) = next(iter(loader))
    assert (images.dtype, tuple(images.shape), len(labels)) == (torch.float32, (4, 3, 16, 16), 4)
