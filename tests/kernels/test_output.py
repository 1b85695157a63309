"""The last pass: torch's own bytes for every dtype and layout; erasing against the plain reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from fastpipe import kernels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.uint8]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(1, 1, 1), (2, 1, 7), (3, 5, 1), (4, 31, 17), (5, 16, 16), (1, 9, 8)]

layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=str)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def random_images(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator)


def new_out(shape: tuple[int, int, int], dtype: torch.dtype, layout: torch.memory_format) -> torch.Tensor:
    num, height, width = shape
    return torch.full((num, 3, height, width), 77, dtype=dtype).contiguous(memory_format=layout)


def as_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Integers of the same width, so that -0.0 differs from 0.0."""
    return tensor.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.element_size()])


@layouts
@shapes
def test_float32_has_the_bytes_of_totensor_and_normalize(
    shape: tuple[int, int, int], layout: torch.memory_format
) -> None:
    images = random_images(shape)
    pipeline = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    expected = torch.stack([pipeline(Image.fromarray(image.numpy())) for image in images])
    out = new_out(shape, torch.float32, layout)
    assert kernels.finish(images, out, kernels.normalize_table(MEAN, STD)) is out
    assert torch.equal(as_bits(out), as_bits(expected))
    assert out.is_contiguous(memory_format=layout)


def test_every_level_of_the_table() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    pipeline = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    table = kernels.normalize_table(MEAN, STD).view(3, 16, 16)
    assert torch.equal(as_bits(table), as_bits(pipeline(Image.fromarray(ramp))))


@layouts
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_is_one_rounding_of_float32(dtype: torch.dtype, layout: torch.memory_format) -> None:
    images, table = random_images((4, 31, 17)), kernels.normalize_table(MEAN, STD)
    single = kernels.finish(images, new_out((4, 31, 17), torch.float32, layout), table)
    half = kernels.finish(images, new_out((4, 31, 17), dtype, layout), table)
    assert torch.equal(as_bits(half), as_bits(single.to(dtype)))


def test_rounding_is_to_nearest_even() -> None:
    # 2049 lies midway between 2048 and 2050 in float16, 2051 between 2050 and 2052.
    table = torch.zeros(3, 256)
    table[:, 0], table[:, 1] = 2049.0, 2051.0
    images = torch.tensor([0, 1], dtype=torch.uint8).view(1, 1, 2, 1).repeat(1, 1, 1, 3)
    out = kernels.finish(images, torch.empty(1, 3, 1, 2, dtype=torch.float16), table)
    assert out[0, 0, 0].tolist() == [2048.0, 2052.0]


@layouts
@shapes
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("with_table", [True, False])
def test_equals_the_reference(
    shape: tuple[int, int, int], layout: torch.memory_format, dtype: torch.dtype, with_table: bool
) -> None:
    images = random_images(shape)
    table = torch.randn(3, 256, generator=torch.Generator().manual_seed(1)) if with_table else None
    table = None if dtype == torch.uint8 else table
    flip = (torch.arange(shape[0]) % 2 == 0).to(torch.uint8)
    for flags in (None, flip, flip.bool(), 1 - flip):
        expected = kernels.finish_torch(images, dtype, table, flags, layout)
        for num_threads in (1, 2, 3):
            out = kernels.finish(
                images, new_out(shape, dtype, layout), table, flip=flags, num_threads=num_threads
            )
            assert torch.equal(as_bits(out), as_bits(expected))
            assert expected.is_contiguous(memory_format=layout)


def test_flip_mirrors_left_and_right_only() -> None:
    images = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).view(2, 3, 4, 3)
    out = torch.empty(2, 3, 3, 4, dtype=torch.uint8)
    kernels.finish(images, out, None, flip=np.array([False, True]))
    expected = images.permute(0, 3, 1, 2).clone()
    expected[1] = torch.flip(expected[1], [-1])
    assert torch.equal(out, expected)


def test_numpy_images_and_slices_are_accepted() -> None:
    images = random_images((4, 8, 8)).numpy()[::2, :, 1:]
    out = torch.empty(2, 3, 8, 7, dtype=torch.uint8)
    kernels.finish(images, out, None)
    np.testing.assert_array_equal(out.numpy(), images.transpose(0, 3, 1, 2))


def test_a_part_of_a_larger_out_is_written_and_nothing_beside_it() -> None:
    images = random_images((2, 5, 6))
    store = torch.full((4, 3, 5, 6), -5.0)
    kernels.finish(images, store[1:3], None)
    assert torch.equal(store[1:3], images.permute(0, 3, 1, 2).float())
    assert bool((store[0] == -5).all()) and bool((store[3] == -5).all())


@layouts
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_erase_equals_the_reference(
    layout: torch.memory_format, dtype: torch.dtype, data: st.DataObject
) -> None:
    num, height, width = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)))
    boxes = []
    for _ in range(num):
        top, left = data.draw(st.tuples(st.integers(0, height), st.integers(0, width)))
        boxes.append(
            [top, left, data.draw(st.integers(0, height - top)), data.draw(st.integers(0, width - left))]
        )
    apply = torch.tensor(data.draw(st.lists(st.booleans(), min_size=num, max_size=num)))
    values = torch.randn(data.draw(st.sampled_from([(3,), (num, 3)])))
    out = torch.randn(num, 3, height, width).to(dtype).contiguous(memory_format=layout)
    expected = kernels.erase_torch(out, torch.tensor(boxes), values, apply)
    for num_threads in (1, 2):
        erased = out.clone(memory_format=torch.preserve_format)
        assert kernels.erase(erased, torch.tensor(boxes), values, apply, num_threads=num_threads) is erased
        assert torch.equal(erased, expected)


def test_erase_against_a_picture() -> None:
    out = torch.zeros(2, 3, 3, 4)
    boxes = np.array([[1, 2, 2, 2], [-9, -9, 99, 99]])
    kernels.erase(out, boxes, np.array([1.0, 2.0, 3.0]), np.array([True, False]))
    assert out[0, 1].tolist() == [[0, 0, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]
    assert out[0, :, 1, 2].tolist() == [1, 2, 3]
    assert not out[1].any()
