"""Pixels of the ffcv backend against OpenCV's and Pillow's; the same for every number of threads."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision import transforms

from fastpipe import DataLoader
from fastpipe.backends.ffcv.fast import dct_eighths, scaled_box
from fastpipe.decode import Box, draw_box, num_uniforms
from fastpipe.rng import Stream, uniforms
from fastpipe.storage import BetonDataset, write_beton
from fastpipe.transforms import RandomResizedCrop

pytestmark = pytest.mark.ffcv

Pixels = npt.NDArray[np.uint8]
SEED = 5


def loaded(path: Path, *steps: Any, **options: Any) -> tuple[Pixels, list[int]]:
    """All images of an epoch, uint8 [N,H,W,3], and their labels, in order."""
    pipeline = transforms.Compose([*steps, transforms.ToTensor()])
    options = {"batch_size": 8, "seed": SEED, "engine": "none", "backend": "ffcv", **options}
    batches = list(DataLoader(BetonDataset(path, pipeline), **options))
    labels = [label for batch in batches for label in batch[1].tolist()]
    return np.concatenate([batch[0].numpy() for batch in batches]), labels


def boxes(
    path: Path, size: int, ids: Sequence[int], repeats: Sequence[int], scale: tuple[float, float] = (0.08, 1)
) -> list[Box]:
    """The reference: boxes by (seed, epoch 0, id, repeat)."""
    beton = BetonDataset(path).beton
    spec = RandomResizedCrop(size=(size, size), scale=scale)
    draws = uniforms(SEED, 0, np.array(ids), np.array(repeats), Stream.CROP, num_uniforms(spec)).tolist()
    return [
        draw_box(spec, draw, int(beton.heights[i]), int(beton.widths[i]))
        for draw, i in zip(draws, ids, strict=True)
    ]


def errors(found: Pixels, reference: Pixels) -> tuple[float, int]:
    difference = np.abs(found.astype(int) - reference.astype(int))
    return float(difference.mean()), int(difference.max())


def cut(image: Pixels, box: Box) -> Pixels:
    return np.ascontiguousarray(image[box.top : box.top + box.height, box.left : box.left + box.width])


def resized_by_area(image: Pixels, side: int) -> Pixels:
    """By OpenCV where both directions shrink, else by Pillow."""
    import cv2

    if min(image.shape[:2]) < side:
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))


def waves(height: int, width: int, side: int) -> Image.Image:
    """Waves of 4 to 9 pixels of an output of `side` a side, whatever the image's own size."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y + 0.5) * side / height, (x + 0.5) * side / width
    planes = [np.sin(2 * np.pi * (x / rng.uniform(4, 9) + y / rng.uniform(4, 9)) + c) for c in range(3)]
    return Image.fromarray((np.stack(planes, -1) * 60 + 120).astype(np.uint8))


def test_every_shape_keeps_the_bound_on_fast_pixels(tmp_path: Path) -> None:
    """From 1:64 to 64:1, an eighth of the output to eight times: docs/conformance.md says 6 levels."""
    side, lengths = 32, (4, 8, 16, 24, 31, 32, 33, 40, 64, 125, 256)
    for height in lengths:
        for width in lengths:
            path = tmp_path / "c" / f"{height:03}x{width:03}.png"
            path.parent.mkdir(exist_ok=True)
            waves(height, width, side).save(path)
    write_beton(tmp_path, tmp_path / "x.beton", num_workers=0)
    found, _ = loaded(tmp_path / "x.beton", transforms.Resize((side, side)), numerics="fast")
    dataset = BetonDataset(tmp_path / "x.beton")
    worst = 0.0
    for i in range(len(dataset)):
        image = dataset.rgb(i)
        reference = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        mean, most = errors(found[i], reference)
        worst = max(worst, mean)
        if min(image.size) < side:
            assert most == 0, image.size
    assert worst <= 6


def test_random_resized_crop_is_opencvs_area_of_the_reference_box(mixed: Path) -> None:
    """Raw images, where no decoder stands between: at most 1 level from cv2's INTER_AREA (another build)."""
    dataset = BetonDataset(mixed)
    order = [0, 4, 8, 4, 12, 16, 4]  # raw, and one of them three times: each time with another box
    found, labels = loaded(mixed, transforms.RandomResizedCrop(32), sampler=order)
    assert labels == order
    references = [
        resized_by_area(cut(np.asarray(dataset.rgb(i)), box), 32)
        for i, box in zip(order, boxes(mixed, 32, order, [0, 0, 0, 1, 0, 0, 2]), strict=True)
    ]
    assert errors(found, np.stack(references))[1] <= 1
    assert not np.array_equal(found[1], found[3])


def test_jpegs_are_close_to_opencv_and_to_pillow(mixed: Path) -> None:
    """FASTDCT and INTER_AREA; the bounds are twice what was measured, and far below any wrong box."""
    dataset = BetonDataset(mixed)
    ids = [i for i in range(20) if i % 4]
    found, _ = loaded(mixed, transforms.RandomResizedCrop(40), sampler=ids)
    area, pillow = [], []
    for i, box in zip(ids, boxes(mixed, 40, ids, [0] * len(ids)), strict=True):
        crop = cut(np.asarray(dataset.rgb(i)), box)
        area.append(resized_by_area(crop, 40))
        pillow.append(np.asarray(Image.fromarray(crop).resize((40, 40), Image.Resampling.BILINEAR)))
    to_area, to_pillow = errors(found, np.stack(area)), errors(found, np.stack(pillow))
    print(f"mean, max error to cv2 {to_area}, to Pillow {to_pillow}")
    assert to_area[0] < 1.5 and to_area[1] <= 8
    assert to_pillow[0] < 2 and to_pillow[1] <= 28


@pytest.mark.parametrize(
    ("crop", "target", "eighths"),
    [
        ((100, 100), (100, 100), 8),
        ((249, 900), (100, 100), 8),
        ((250, 900), (100, 100), 4),
        ((500, 500), (100, 100), 2),
        ((1000, 1000), (100, 100), 1),
        ((90000, 90000), (100, 100), 1),
        ((10, 10), (224, 224), 8),
    ],
)
def test_frames_are_scaled_only_where_pixels_are_left_over(crop: Any, target: Any, eighths: int) -> None:
    assert dct_eighths(crop, target) == eighths


def test_a_scaled_box_lies_within_the_scaled_frame_and_on_its_place() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        height, width = rng.integers(1, 70, 2).tolist()
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        box = Box(top, left, int(rng.integers(1, height - top + 1)), int(rng.integers(1, width - left + 1)))
        for eighths in (4, 2, 1):
            small = scaled_box(box, (height, width), eighths)
            rows, columns = -(-height * eighths // 8), -(-width * eighths // 8)
            assert 0 <= small.top < small.top + small.height <= rows
            assert 0 <= small.left < small.left + small.width <= columns
            if box.height * eighths >= 10:  # as dct_eighths has it
                assert abs(small.top - box.top * eighths / 8) <= 0.5
                assert abs(small.top + small.height - (box.top + box.height) * eighths / 8) <= 0.5
    assert scaled_box(Box(3, 4, 5, 6), (20, 20), 8) == Box(3, 4, 5, 6)


@pytest.mark.parametrize("size", [(803, 1001), (417, 500)])
def test_a_scaled_decode_shows_the_same_part_of_the_image(kit: Any, size: tuple[int, int]) -> None:
    """Ramps tell where a pixel came from: the centre may move by half an output pixel, no more."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    ramps = np.stack([255 * y / height, 255 * x / width, 0 * x], axis=-1).astype(np.uint8)
    path = kit.write([kit.as_jpeg(ramps, quality=98, subsampling=0)])
    order = [0] * 12
    found, _ = loaded(path, transforms.RandomResizedCrop(32, scale=(0.3, 1.0)), sampler=order)
    drawn = boxes(path, 32, order, list(range(12)), (0.3, 1.0))
    assert any(dct_eighths((box.height, box.width), (32, 32)) < 8 for box in drawn)
    for image, box in zip(found, drawn, strict=True):
        middle = image.astype(float).mean((0, 1))
        expected = 255 * (box.top + box.height / 2) / height, 255 * (box.left + box.width / 2) / width
        pixel = 255 * box.height / height / 32, 255 * box.width / width / 32
        for channel in (0, 1):
            assert abs(middle[channel] + 0.5 - expected[channel]) < 0.5 * pixel[channel] + 0.75


def test_a_scaled_decode_is_nearly_as_close_to_pillow(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [Image.fromarray(kit.smooth(i, 125, 160)) for i in range(4)]
    path = kit.write([kit.as_jpeg(np.asarray(image.resize((640, 500)))) for image in small])
    crop = transforms.RandomResizedCrop(64, scale=(0.5, 1.0))
    scaled, _ = loaded(path, crop)
    monkeypatch.setattr("fastpipe.backends.ffcv.fast.dct_eighths", lambda crop, target: 8)
    full, _ = loaded(path, crop)
    pillow, _ = loaded(path, crop, backend="torchvision", numerics="fast")
    print(f"mean, max error to Pillow: scaled {errors(scaled, pillow)}, full {errors(full, pillow)}")
    assert not np.array_equal(scaled, full)
    assert errors(scaled, pillow)[0] < 1.5 * errors(full, pillow)[0]


VALIDATION: list[Sequence[Any]] = [
    (transforms.Resize(48), transforms.CenterCrop(40)),
    (transforms.Resize(36), transforms.CenterCrop(40)),  # the crop reaches outside: black
    (transforms.Resize((30, 50)),),
]


@pytest.mark.parametrize("steps", VALIDATION, ids=["inside", "outside", "pair"])
def test_resize_and_centre_crop_are_close_to_pillow(mixed: Path, steps: Sequence[Any]) -> None:
    found, labels = loaded(mixed, *steps)
    assert labels == list(range(20))
    dataset = BetonDataset(mixed)
    expected = np.stack([np.asarray(transforms.Compose(steps)(dataset.rgb(i))) for i in range(20)])
    mean, largest = errors(found, expected)
    print(f"mean, max error to Pillow {mean}, {largest}")
    assert mean < 2.5 and largest <= 40
    assert np.array_equal(found.any(axis=-1), expected.any(axis=-1)), "the same pixels are black"


def test_crops_without_a_resize_are_exact_on_raw_images(kit: Any) -> None:
    images = [kit.smooth(i, 30 + i, 34) for i in range(6)]
    path = kit.write([kit.as_raw(image, i) for i, image in enumerate(images)])
    for step in (transforms.CenterCrop(28), transforms.CenterCrop(40), transforms.RandomCrop(32, padding=4)):
        found, _ = loaded(path, step)
        pipeline = transforms.Compose([step, transforms.ToTensor()])
        options = {"seed": SEED, "engine": "none", "batch_size": 6, "numerics": "fast"}
        reference, *_ = next(iter(DataLoader(BetonDataset(path, pipeline), backend="torchvision", **options)))
        assert np.array_equal(found, reference.numpy())


def test_whole_images_of_one_size(kit: Any) -> None:
    images = [kit.smooth(i, 32, 40) for i in range(5)]
    found, _ = loaded(kit.write([kit.as_raw(image) for image in images]))
    assert np.array_equal(found, np.stack(images))
    path = kit.write([kit.as_jpeg(image) for image in images])
    decoded = np.stack([np.asarray(BetonDataset(path).rgb(i)) for i in range(5)])
    assert errors(loaded(path)[0], decoded)[1] <= 8


def test_whole_images_of_two_sizes_are_an_error_with_a_remedy(kit: Any) -> None:
    path = kit.write([kit.as_raw(kit.smooth(0, 32, 40)), kit.as_jpeg(kit.smooth(1, 40, 32))])
    with pytest.raises(RuntimeError, match=r"\[32, 40\].*\[40, 32\].*Resize with a \(height, width\) pair"):
        loaded(path)


@pytest.mark.parametrize("options", [{"num_workers": 1}, {"num_workers": 2, "prefetch_factor": 4}])
def test_equal_bytes_for_any_number_of_threads(mixed: Path, options: dict[str, Any]) -> None:
    crop = transforms.RandomResizedCrop(32)
    alone, order = loaded(mixed, crop, shuffle=True)
    found, labels = loaded(mixed, crop, shuffle=True, **options)
    assert labels == order and np.array_equal(found, alone)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"),
    [(1, False, [1] * 20), (8, False, [8, 8, 4]), (8, True, [8, 8]), (64, False, [20])],
)
def test_batches_have_their_sizes(
    mixed: Path, workers: int, batch_size: int, drop_last: bool, sizes: list[int]
) -> None:
    pipeline = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
    dataset = BetonDataset(mixed, pipeline)
    loader = DataLoader(dataset, batch_size, drop_last=drop_last, num_workers=workers, backend="ffcv")
    batches = list(loader)
    assert [len(images) for images, _ in batches] == sizes == [len(labels) for _, labels in batches]
    assert all(labels.dtype == torch.int64 and labels.shape == (len(labels),) for _, labels in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_request_has_its_own_resolution(mixed: Path, workers: int) -> None:
    pipeline = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
    loader = DataLoader(
        BetonDataset(mixed, pipeline),
        4,
        num_workers=workers,
        backend="ffcv",
        resolution=lambda epoch, batch: 16 + 8 * batch + epoch,
    )
    for epoch in range(2):
        assert [len(images[0, 0]) for images, _ in loader] == [16 + 8 * batch + epoch for batch in range(5)]
    iterator = iter(loader)
    next(iterator)
    loader.set_resolution(20)
    assert [images.shape[2:] for images, _ in iterator] == [(20, 20)] * 4


def test_a_delivered_batch_is_the_consumers(mixed: Path) -> None:
    """Every batch of two epochs is kept and compared at the end: FFCV's own are overwritten after five."""
    pipeline = transforms.Compose([transforms.RandomResizedCrop(32), transforms.ToTensor()])
    loader = DataLoader(
        BetonDataset(mixed, pipeline), 2, num_workers=2, seed=3, backend="ffcv", engine="none"
    )
    kept = [(images, images.clone()) for _ in range(2) for images, *_ in loader]
    assert len(kept) == 20 and all(torch.equal(images, copy) for images, copy in kept)
    assert len({images.data_ptr() for images, _ in kept}) == 20


def test_four_channels_and_stray_bytes_go_to_pillow(kit: Any) -> None:
    """FFCV's library rejects both with -1; stock FFCV then shows the pixels of another image."""
    image = kit.smooth(0, 40, 40)
    cmyk = kit.jpeg(image, "CMYK")
    stray = kit.jpeg(image)
    place = stray.index(b"\xff\xda")
    stray = stray[:place] + b"\x00\x11\x22" + stray[place:]
    path = kit.write([kit.as_raw(image), *(kit.entry(payload=p, size=(40, 40)) for p in (cmyk, stray))])
    found, _ = loaded(path)
    for number, payload in ((1, cmyk), (2, stray)):
        expected = np.asarray(Image.open(io.BytesIO(payload)).convert("RGB"))
        assert np.array_equal(found[number], expected)
