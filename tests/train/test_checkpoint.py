"""Checkpoints: plain, complete, and never half written."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from fastpipe.errors import DataError
from fastpipe.train.checkpoint import load_checkpoint, rng_state, save_checkpoint, set_rng_state


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
    with pytest.raises(OSError, match="No space"):
        save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 1
    assert os.listdir(tmp_path) == ["last.ckpt"]


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
