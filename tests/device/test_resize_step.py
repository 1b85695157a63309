"""Resize as a step of the device stage: its place, its bytes, and what a resolution does to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastpipe import kernels
from fastpipe.device import DeviceStage, draw
from fastpipe.errors import ArgumentError
from fastpipe.transforms import (
    ColOut,
    CutMix,
    HorizontalFlip,
    MixUp,
    RandAugment,
    RandomErasing,
    Resize,
    ToFloat,
)
from fastpipe.types import HostBatch, Plan, Request, Spec

CPU = torch.device("cpu")
engines = pytest.mark.parametrize("engine", ["fused", "torch"])
MODES = {"bilinear": Image.Resampling.BILINEAR, "nearest-exact": Image.Resampling.NEAREST}


def host(height: int = 40, width: int = 40, size: int | None = None) -> HostBatch:
    levels = np.random.default_rng(0).integers(0, 256, (9, height, width, 3), dtype=np.uint8)
    ids = np.arange(9)
    request = Request(seed=5, epoch=1, batch=0, ids=ids, repeats=np.zeros_like(ids), size=size)
    return HostBatch(images=torch.from_numpy(levels), labels=torch.arange(9) % 3, request=request)


def run(*steps: Spec, engine: Any = "fused", batch: HostBatch | None = None, **options: Any) -> torch.Tensor:
    stage = DeviceStage(Plan(device=steps), device=CPU, engine=engine, num_classes=3, **options)
    return stage(batch or host()).images


@engines
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(17, 17), (60, 60), (40, 40)], ids=str)
def test_flip_then_colout_then_pillows_resize(engine: str, mode: Any, size: tuple[int, int]) -> None:
    """In this order: a bilinear resize before ColOut, or a flip after it, would give other bytes."""
    steps = (HorizontalFlip(p=0.5), ColOut(p_row=0.1, p_col=0.1), Resize(size, interpolation=mode))
    batch = host()
    params = draw(steps, batch.request, 40, 40)
    assert params.flip is not None and params.colout is not None and 0 < params.flip.sum() < 9
    ours = run(*steps, engine=engine)
    for place, flip in enumerate(params.flip):
        image = batch.images[place].numpy()
        image = image[:, ::-1] if flip else image
        image = image[params.colout.rows][:, params.colout.columns]
        expected = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size[::-1], MODES[mode]))
        np.testing.assert_array_equal(ours[place].permute(1, 2, 0).numpy(), expected)


@engines
@pytest.mark.parametrize("size", [128, 88, 176])
def test_nearest_is_composers_interpolate(engine: str, size: int) -> None:
    """176, ColOut 0.05 -> 167, nearest with size=: what golden numbers compare with (contract 3)."""
    batch = host(176, 176)
    colout = ColOut(p_row=0.05, p_col=0.05)
    dropped = run(colout, ToFloat(), engine=engine, batch=batch)
    assert dropped.shape[2:] == (167, 167)
    ours = run(colout, Resize(size, interpolation="nearest"), ToFloat(), engine=engine, batch=batch)
    expected = torch.nn.functional.interpolate(dropped, size=(size, size), mode="nearest")
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize("mode", kernels.RESIZE_MODES)
@pytest.mark.parametrize("mix", [(), (MixUp(0.5),), (CutMix(1.0),)], ids=["none", "mixup", "cutmix"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_both_engines_agree_behind_every_other_step(mode: Any, mix: Any, dtype: torch.dtype) -> None:
    steps = (HorizontalFlip(), RandAugment(), ColOut(), Resize((23, 31), interpolation=mode), ToFloat())
    steps = (*steps, RandomErasing(p=0.5), *mix)
    options = {"dtype": dtype, "memory_format": torch.channels_last}
    ours = run(*steps, engine="fused", **options)
    assert ours.shape == (9, 3, 23, 31) and ours.is_contiguous(memory_format=torch.channels_last)
    theirs = run(*steps, engine="torch", **options)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@engines
def test_without_antialias_every_level_comes_from_two_pixels_an_axis(engine: str) -> None:
    ours = run(Resize(10, antialias=False), ToFloat(scale=False), engine=engine)
    images = host().images.permute(0, 3, 1, 2).float()
    theirs = torch.nn.functional.interpolate(images, size=(10, 10), mode="bilinear", antialias=False)
    assert (ours - theirs).abs().max() <= 1.0
    assert (ours - run(Resize(10), ToFloat(scale=False), engine=engine)).abs().max() > 20


def test_a_number_is_the_shorter_side_and_a_resolution_takes_its_place() -> None:
    assert Resize(20).target(40, 60) == (20, 30)
    assert Resize(20).target(61, 40) == (30, 20)
    assert Resize((20, 25)).target(61, 40) == (20, 25)
    assert Resize(20).target(40, 40, resolution=32) == (32, 32)
    assert run(Resize(20), batch=host(40, 60)).shape[2:] == (20, 30)
    assert run(Resize(20), batch=host(40, 60, size=32)).shape[2:] == (32, 48)


def test_what_comes_after_is_drawn_for_the_new_size() -> None:
    batch = host()
    steps = (Resize(200), ToFloat(), RandomErasing(p=1.0, scale=(0.2, 0.3)), CutMix(1.0))
    params = draw(steps, batch.request, 40, 40)
    assert params.erasing is not None and params.mix is not None and params.mix.region is not None
    assert params.erasing.boxes[:, 2:].max() > 40
    assert max(params.mix.region) > 40
    assert run(*steps).shape[2:] == (200, 200)


@pytest.mark.parametrize("size", [0, -1, 65_536, 2.0, "20", None, True, (20,), (20, 0), (1, 2, 3), [20, 30]])
def test_sizes_outside_the_limits(size: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"size must be one integer or \(height, width\), in pixels, 1\.\.65535"
    ):
        Resize(size)


def test_bad_modes() -> None:
    with pytest.raises(ArgumentError, match="interpolation must be one of bilinear, nearest, nearest-exact"):
        Resize(20, interpolation="bicubic")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="antialias must be True or False"):
        Resize(20, antialias=1)  # type: ignore[arg-type]
