from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

LONG_AGO_NS = 10**18


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FASTPIPE_CACHE", str(folder))
    return folder


@pytest.fixture
def rest() -> Callable[[Path], None]:
    """Make a tree look as if nobody had touched it for years, so that its cache may be believed at once."""

    def age(root: Path) -> None:
        for folder, _, _ in os.walk(root):
            os.utime(folder, ns=(LONG_AGO_NS, LONG_AGO_NS))

    return age


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of real JPEGs and PNGs of different sizes."""
    root = tmp_path / "photos"
    for k, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (10 + i, 20 + k), (40 * i, 90 * k, 7)).save(root / name / f"{i}.jpg")
    Image.new("L", (5, 6), 77).save(root / "bee" / "grey.PNG")
    return root
