"""A worker process never destroys what its parent left behind: a decoder's threads are not there."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import Dataset

from fastpipe import DataLoader


class Decoder:
    """Stands for one whose destruction waits for its threads; notes the process that destroys it."""

    def __init__(self, log: Path) -> None:
        self.log, self.itself = log, self

    def __del__(self) -> None:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}\n")


class Collecting(Dataset[int]):
    """Its samples run the collector, as any work may."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        gc.collect()
        return index


@pytest.fixture
def garbage(tmp_path: Path) -> Iterator[Path]:
    """The log of a decoder that nothing reaches and nobody has collected yet."""
    gc.collect()
    gc.disable()
    log = tmp_path / "destroyed_by"
    Decoder(log)
    assert not log.exists()
    yield log
    gc.enable()


@pytest.mark.parametrize("options", [{}, {"seed": 1}], ids=["as torch", "keyed"])
def test_workers_do_not_collect_their_parents_garbage(garbage: Path, options: dict[str, Any]) -> None:
    batches = list(DataLoader(Collecting(), batch_size=2, num_workers=1, **options))
    assert [batch.tolist() for batch in batches] == [[0, 1], [2, 3]] or options
    assert not garbage.exists()
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert garbage.read_text().split() == [str(os.getpid())]


def test_what_the_script_froze_stays_frozen() -> None:
    gc.freeze()
    try:
        list(DataLoader(Collecting(), batch_size=2, num_workers=1))
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
