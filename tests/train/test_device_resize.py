"""progressive_resizing.where=device: Composer's order and sizes, by the trainer's own loader."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fastpipe.errors import ArgumentError, NoEffectWarning
from fastpipe.storage import FolderIndex, open_index
from fastpipe.train.config.groups import ProgressiveResizingConfig
from fastpipe.train.config.schema import TrainConfig
from fastpipe.train.data import resolution_of, train_loader
from fastpipe.transforms import ColOut, Resize

STEPS, EPOCHS, BATCH = 2, 5, 4
HOT = ProgressiveResizingConfig(where="device", initial_scale=0.6, delay_fraction=0.2, finetune_fraction=0.2)
CONFIG = TrainConfig(
    epochs=EPOCHS,
    batch_size=BATCH,
    train_resolution=176,
    num_workers=0,
    channels_last=False,
    colout=0.05,
    progressive_resizing=HOT,
    backend="torchvision",
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> FolderIndex:
    root, rng = tmp_path_factory.mktemp("resize"), np.random.default_rng(0)
    for label in ("a", "b"):
        (root / label).mkdir()
        for number in range(STEPS * BATCH // 2):
            pixels = rng.integers(0, 256, (200, 190, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return open_index(root)


def test_hot_starts_at_100_and_ends_at_the_167_that_colout_leaves() -> None:
    size_of = resolution_of(CONFIG, 100)
    assert size_of is not None
    sizes = [size_of(epoch, batch) for epoch in range(EPOCHS) for batch in range(100)]
    # recipes.md, section 2 [I]: 176 -> 167 -> pinned to multiples of 4, 100 to 164, then 167 itself.
    assert sorted(set(sizes)) == [*range(100, 165, 4), 167]
    assert sizes == sorted(sizes) and sizes[-1] == 167
    decoded = resolution_of(replace(CONFIG, progressive_resizing=replace(HOT, where="decoder")), 100)
    assert decoded is not None and (decoded(0, 0), decoded(EPOCHS - 1, 99)) == (104, 176)


def test_batches_are_composers_order_of_the_same_crops(index: FolderIndex) -> None:
    """Crop at 176, ColOut to 167, nearest by size=: equal to interpolating the batch that was not resized."""
    resized = train_loader(CONFIG, index)
    plain = train_loader(replace(CONFIG, progressive_resizing=None), index)
    size_of = resolution_of(CONFIG, STEPS)
    assert size_of is not None
    seen = []
    for epoch in range(EPOCHS):
        for loader in (resized, plain):
            loader.set_epoch(epoch)
        for batch, ((small, labels), (full, same)) in enumerate(zip(resized, plain, strict=True)):
            side = size_of(epoch, batch)
            assert full.shape[2:] == (167, 167) and torch.equal(labels, same)
            torch.testing.assert_close(small, F.interpolate(full, size=(side, side)), rtol=0, atol=0)
            seen.append(side)
    assert len(set(seen)) > 3


def test_the_step_stands_behind_colout_in_the_plan(index: FolderIndex) -> None:
    added = [note.step for note in train_loader(CONFIG, index).explain().steps if "augment=" in note.why]
    assert added == [repr(ColOut(p_row=0.05, p_col=0.05)), repr(Resize(167, interpolation="nearest"))]


def test_ffcvs_kind_resizes_in_the_decoder_only() -> None:
    with pytest.raises(ArgumentError, match=r"progressive_resizing\.where must be decoder for kind ffcv"):
        replace(
            CONFIG, progressive_resizing=ProgressiveResizingConfig(kind="ffcv", where="device", end_epoch=1.0)
        )


def test_a_start_at_the_full_size_warns() -> None:
    with pytest.warns(NoEffectWarning, match="starts at the full 167 pixels"):
        resolution_of(replace(CONFIG, progressive_resizing=replace(HOT, initial_scale=1.0)), STEPS)
