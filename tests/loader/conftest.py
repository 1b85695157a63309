"""Data sets that several files of this room read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import ImageFolder

from fastpipe.storage import BetonDataset
from fastpipe.storage.beton.cli import main as write_beton


@pytest.fixture(scope="session")
def one_a_class(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 24 photos, each a class of its own, so that a label is the sample's id, and a `.beton` of them."""
    folder = tmp_path_factory.mktemp("labelled") / "photos"
    for number, path in enumerate(sorted(photos.glob("*/*"))):
        (folder / f"{number:02d}").mkdir(parents=True)
        shutil.copy(path, folder / f"{number:02d}" / path.name)
    assert write_beton([str(folder), str(folder.with_suffix(".beton"))]) == 0
    return folder


@pytest.fixture
def labelled(one_a_class: Path) -> Callable[..., Any]:
    """Those photos for a backend: a `.beton` for ffcv, else a folder."""

    def make(backend: str, transform: Any, target_transform: Any = None) -> Any:
        if backend == "ffcv":
            return BetonDataset(one_a_class.with_suffix(".beton"), transform, target_transform)
        return ImageFolder(str(one_a_class), transform, target_transform=target_transform)

    return make
