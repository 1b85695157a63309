"""The picture for the eye: complete, drawn from equal bytes, and honest when they are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from fastpipe.kernels import OPS


def test_every_operation_is_shown_and_equals_pillows(gallery: ModuleType) -> None:
    assert {row.op for row in gallery.ROWS.values()} == set(OPS) - {"identity"}
    image = gallery.sample_image()
    for name, row in gallery.ROWS.items():
        cells = gallery.compare(image, row)
        assert [cell.differ for cell in cells] == [0] * len(row.magnitudes), name
        assert all((cell.ours != np.asarray(image)).any() for cell in cells), f"{name} changes nothing"


def test_a_difference_is_counted(gallery: ModuleType) -> None:
    row = replace(gallery.ROWS["invert"], pillow=lambda image, _: image)
    assert gallery.compare(gallery.sample_image(16), row)[0].differ > 500


@pytest.mark.parametrize("with_photo", [False, True])
def test_the_command_writes_a_picture(gallery: ModuleType, tmp_path: Path, with_photo: bool) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((40, 300, 3), np.uint8)).save(photo)
    gallery.main([str(tmp_path / "out.png"), *([str(photo)] if with_photo else [])])
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width > 900 and sheet.height > 1500


def test_the_hot_pipeline_is_drawn_below(gallery: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    gallery.main([str(tmp_path / "out.jpg"), "--photos", str(tmp_path)])
    with Image.open(tmp_path / "out.jpg") as sheet:
        assert sheet.height > gallery.draw_gallery(gallery.sample_image()).height + 2 * 176


def test_a_folder_without_photos_is_named(gallery: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(SystemExit, match="--photos must be demo, or a folder"):
        gallery.main([str(tmp_path / "out.png"), "--photos", str(tmp_path)])
