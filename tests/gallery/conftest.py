"""The gallery is a program in scripts/: its two files, as modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="session")
def gallery() -> Iterator[ModuleType]:
    """scripts/gallery.py, the operations and the command."""
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("gallery")
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="session")
def hot(gallery: ModuleType) -> ModuleType:
    """scripts/gallery_hot.py, the Hot pipeline's sheet."""
    return importlib.import_module("gallery_hot")
