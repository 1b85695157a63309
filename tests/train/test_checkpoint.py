"""Checkpoints: plain, complete, and never half written."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpipe.errors import DataError
from fastpipe.train.checkpoint import (
    PREVIOUS,
    load_checkpoint,
    load_newest,
    rng_state,
    save_checkpoint,
    set_rng_state,
)


def test_round_trip_with_weights_only(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    state = {"step": 3, "loader": {"ids": np.arange(4), "seed": np.int64(7)}, "model": {"w": torch.ones(2)}}
    save_checkpoint(state, path)
    found = torch.load(path, weights_only=True)
    assert found["step"] == 3 and found["loader"]["seed"] == 7
    assert found["loader"]["ids"].tolist() == [0, 1, 2, 3]
    assert load_checkpoint(path)["model"]["w"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("moment", ["save", "fsync", "replace"])
def test_a_crash_while_saving_leaves_the_previous(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint({"step": 1}, path)

    def crash(*args: object, **kwargs: object) -> None:
        if moment == "save":
            args[1].write(b"half of it")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch if moment == "save" else os, moment, crash)
    with pytest.raises(DataError, match="No space"):
        save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 1
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_crash_between_the_renames_leaves_the_previous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "last.ckpt", os.replace
    save_checkpoint({"step": 1}, path)

    def crash(source: Path, target: Path) -> None:
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="does not exist"):
        state, found = load_newest(path)
    assert (state["step"], found.name) == (1, PREVIOUS)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    """The kernel refuses to write: a limit on the size of files stands for the full disk."""
    path, limits = tmp_path / "last.ckpt", resource.getrlimit(resource.RLIMIT_FSIZE)
    save_checkpoint({"step": 1}, path)
    save_checkpoint({"step": 2}, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            DataError, match=r"last\.ckpt' could not be written: File too large\. .*--resume auto"
        ):
            save_checkpoint({"step": 3, "w": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(path)["step"] == 2
    assert load_checkpoint(tmp_path / PREVIOUS)["step"] == 1
    assert sorted(os.listdir(tmp_path)) == ["last.ckpt", PREVIOUS]


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit"])
def test_a_damaged_newest_gives_way_to_the_previous(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint({"step": 1}, path)
    save_checkpoint({"step": 2, "w": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(2).numpy().tobytes()) + 400] ^= 1
    path.write_bytes({"truncated": content[:-100], "empty": b"", "one bit": content}[damage])
    with pytest.warns(UserWarning, match=r"last\.ckpt.*cannot be read.*Continuing from previous\.ckpt"):
        state, found = load_newest(path)
    assert (state["step"], found.name) == (1, PREVIOUS)
    found.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        load_newest(path)


def test_every_generator_continues() -> None:
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    state = rng_state()
    first = (random.random(), random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item())
    set_rng_state(state)
    again = (random.random(), random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item())
    assert first == again


def test_files_that_are_no_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_checkpoint(tmp_path / "none.ckpt")
    truncated = tmp_path / "truncated.ckpt"
    save_checkpoint({"w": torch.ones(1000)}, truncated)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"truncated\.ckpt.*cannot be read"):
        load_checkpoint(truncated)
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(DataError, match="not a checkpoint of fastpipe-train"):
        load_checkpoint(foreign)
