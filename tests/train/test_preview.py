"""`fastpipe-preview`: the sheet of a run's own draws, of training and of validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe.errors import ArgumentError
from fastpipe.train.cli import parse
from fastpipe.train.config.options import Invocation
from fastpipe.train.config.schema import MEAN, STD
from fastpipe.train.data import eval_loader, train_loader
from fastpipe.train.prepare import fitted_here
from fastpipe.train.preview.cli import epochs_of, main, preview_run
from fastpipe.types import Shard

KEYS = ("--recipe", "hot", "--train-resolution", "64", "--epochs", "4", "--num-workers", "0", "--seed", "9")


@pytest.fixture
def data(photos: Path, tmp_path: Path) -> Path:
    """The photos as both splits."""
    for split in ("train", "val"):
        (tmp_path / "data" / split).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / split).symlink_to(photos, target_is_directory=True)
    return tmp_path / "data"


def invocation(data: Path) -> Invocation:
    return parse([*KEYS, "--data", str(data)])


def levels(images: torch.Tensor) -> np.ndarray:
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    values = (images.double() * std + mean) * 255
    return values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_draws_are_those_of_training_at_every_resolution(data: Path) -> None:
    run = invocation(data)
    rows = preview_run(run, "train", 5, (0, 3)).rows
    fitted, indexes = fitted_here(
        run.config, Shard(), explicit=run.explicit, recipe_batch_size=run.recipe_batch_size
    )
    loader, sizes = train_loader(fitted.config, indexes.train), set()
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        batches = [levels(batch[0]) for batch in loader]
        order = list(loader.sampler)
        for row in (row for row in rows if row.epoch == epoch and row.batch is not None):
            place = order[row.batch * loader.batch_size :].index(row.id)
            assert np.array_equal(row.pixels, batches[row.batch][place])
            assert row.operations[-1].name == "mixup" and row.operations[-2].name == "colout"
            sizes.add(row.pixels.shape[0])
    assert len(sizes) > 1 and max(sizes) == 60  # Hot grows its images; ColOut leaves 60 of 64


def test_validation_is_shown_as_it_is_measured(data: Path) -> None:
    run = invocation(data)
    rows = preview_run(run, "val", 4, (0,)).rows
    fitted, indexes = fitted_here(
        run.config, Shard(), explicit=run.explicit, recipe_batch_size=run.recipe_batch_size
    )
    images = torch.cat([batch[0] for batch in eval_loader(fitted.config, indexes.validation)])[:4]
    assert np.array_equal(np.stack([row.pixels for row in rows]), levels(images))
    assert [one.name for one in rows[0].operations] == ["resize", "crop"]


def test_the_command_writes_the_sheet(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    options = ["--images", "2", "--draws", "3", "--output", str(out)]
    assert main([str(data), *KEYS, *options]) == 0
    assert capsys.readouterr().out == f"{out}: 2 images of epochs 0, 1, 2, seed 9\n"
    with Image.open(out) as sheet:
        assert sheet.width > 4 * 168  # the stored image and three draws


def test_epochs_are_a_first_one_with_draws_or_a_list() -> None:
    assert epochs_of("2", 3) == (2, 3, 4)
    assert epochs_of("0,17,35", 4) == (0, 17, 35)
    for wrong in (("-1", 2), ("x", 2), ("1,", 2), ("0", 0)):
        with pytest.raises(ArgumentError, match="--epoch must be a number from 0"):
            epochs_of(*wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epoch", "9"], "must stay within the run's 4 epochs, 0..3. Found: 9"),
        (["--split", "test"], "--split must be train or val"),
        (["--output", "missing/sheet.jpg"], "'missing' is no folder"),
        (["--output", "sheet.txt"], "must end in .jpg, .png"),
        (["--recipee", "hot"], "Did you mean '--recipe'?"),
        (["--images", "0"], "images must be an int >= 1"),
    ],
)
def test_mistakes_are_named(
    data: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(data), *KEYS, *options]) == 2
    assert words in capsys.readouterr().err


def test_data_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "hot"]) == 2
    assert "DATA must be given first" in capsys.readouterr().err


def test_a_sheet_among_the_images_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = next(path for path in sorted((data / "train").iterdir()) if path.is_dir())
    assert main([str(data), *KEYS, "--output", str(folder / "sheet.png")]) == 2
    assert "--output must not name a file among the images" in capsys.readouterr().err
    assert not (folder / "sheet.png").exists()
